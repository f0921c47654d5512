//! What input that is made to be slow costs beside ordinary input of the same size: processor time of one thread, without I/O.

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use collect::{
    body::{self, Takes},
    config::Config,
    handler,
    request::Request,
};

/// Most times as long as ordinary input. On a quiet machine, the worst of these takes 2.7 times as long; what grows with the square of its
/// length would take hundreds.
const MOST: f64 = 10.0;

fn request<'a>(body: &'a str, headers: &[(&'a str, &'a str)]) -> Request<'a> {
    Request {
        method: "POST".into(),
        path: "/batch".into(),
        query: "".into(),
        headers: headers.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect(),
        body: body.into(),
        is_base64: false,
        source_ip: "198.51.100.23".into(),
        hostname: "collect.example".into(),
        time_ms: 1_795_183_906_123,
        id: "".into(),
    }
}

/// The shortest of several measurements: what else runs on the machine makes them longer, never shorter.
fn cost(config: &Config, request: &Request<'_>, takes: Takes<'_>) -> Option<Duration> {
    let once = || {
        let started = Instant::now();
        let read = body::hits(&request.body, false, "", takes).ok()?;
        let (events, _) = handler::events(config, request, None, &read).ok()?;
        (events.len() == read.len()).then_some(started.elapsed())
    };
    (0..10).filter_map(|_| once()).min()
}

/// How many times `plain` a request costs. It is measured again while that is too much, because a busy machine makes it so, too.
fn times(config: &Config, request: &Request<'_>, takes: Takes<'_>, plain: Duration) -> Option<f64> {
    const TRIES: usize = 10;
    let mut least = f64::INFINITY;
    for _ in 0..TRIES {
        let hostile = cost(config, request, takes)?;
        least = least.min(hostile.as_secs_f64() / plain.as_secs_f64());
        if least <= MOST {
            break;
        }
    }
    Some(least)
}

#[test]
fn hostile_input_costs_little_more_than_the_usual() {
    const HITS: usize = 20;
    const START: &str = "v=1&tid=UA-12345-1&cid=5&t=event&ec=a&ea=b";
    let settings = [("STREAM_NAME", "clicks"), ("OPT_OUT", "drop-id")];
    let setting = |name| settings.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    let config = Config::from_lookup(setting).unwrap();
    let line = |value: &str| {
        let parameters: String = (0..93).map(|at| format!("&c{at}={value}")).collect();
        format!("{START}{parameters}")
    };
    let batch = |line: String| vec![line; HITS].join("\n");
    let [usual, ordinary] = ["a1", "1."].map(|value| batch(line(value)));
    assert!(usual.len() < 16 * 1_024);
    let addresses: Vec<String> = (0..600).map(|at| format!("10.{}.{}.{}", at % 200, at % 7, at % 250)).collect();
    let addresses = addresses.join(", ");
    let many: Vec<_> = [("dnt", "1")].into_iter().chain([("x-real-ip", &*addresses); 20]).collect();
    let plain = cost(&config, &request(&usual, &[("user-agent", "x")]), Takes::Batch).unwrap();
    for (name, body, headers) in [
        (
            "many addresses and an opt-out",
            &ordinary,
            &[("sec-gpc", "1"), ("x-forwarded-for", &addresses), ("forwarded", &addresses)][..],
        ),
        ("many headers of addresses", &ordinary, &many[..]),
        ("separators", &batch(format!("{START}&dl={}", "=:@%".repeat(150))), &[]),
        ("quotes and spaces", &batch(format!("{START}&dl={}", "+%22:+".repeat(100))), &[]),
        ("names of secrets", &batch(format!("{START}&dl={}", "key%3Da%26".repeat(60))), &[]),
        ("schemes", &batch(format!("{START}&dl={}", ":%252F%252F".repeat(60))), &[]),
        ("starts of tokens", &batch(format!("{START}&dl={}", "eyJ".repeat(200))), &[]),
        (
            "an id that occurs often",
            &batch(format!("{START}&uid=aaaaaaaa&dl={}", "aaaaaaaa+".repeat(60))),
            &[("dnt", "1")],
        ),
        (
            "nested JSON",
            &format!(
                "[{}]",
                vec![r#"{"cid":"5","a":[[[[[[[["://:"]]]]]]]],"b":{"c":{"d":{"e":{"f":{"g":"="}}}}}}"#; HITS].join(",")
            ),
            &[],
        ),
    ] {
        let times = times(&config, &request(body, headers), Takes::Batch, plain).unwrap();
        println!("{name}: {times:.1} times {plain:?}");
        assert!(times <= MOST, "{name}: {times:.1} times {plain:?}");
    }
}

/// The largest requests, of GA4: 130,000 bytes.
#[test]
fn hostile_requests_of_ga4_cost_little_more_than_the_usual() {
    const EVENTS: usize = 25;
    let settings = [("STREAM_NAME", "clicks"), ("OPT_OUT", "drop-id")];
    let setting = |name| settings.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
    let config = Config::from_lookup(setting).unwrap();
    let payload = |event: &str, shared: &str| {
        let events = vec![format!(r#"{{"name":"a","params":{{{event}}}}}"#); EVENTS].join(",");
        format!(r#"{{"client_id":"1548123456.1795183900","user_properties":{{{shared}}},"events":[{events}]}}"#)
    };
    let members = |count: usize| (0..count).map(|at| format!(r#""p{at}":"a1""#)).collect::<Vec<_>>().join(",");
    let usual = payload(&members(400), r#""tier":{"value":"gold"}"#);
    let properties = (0..900).map(|at| format!(r#""p{at}":{{"value":"a1"}}"#)).collect::<Vec<_>>().join(",");
    let ids = format!("v=2&en=a&uid={}b&dl={}", "a.".repeat(4_000), "a.".repeat(12_000));
    let texts = |part: &str| vec![format!("v=2&en=a&dl={}", part.repeat(32_000 / part.len())); 4].join("\n");
    let takes = Takes::Payload { secrets: &[] };
    let plain = cost(&config, &request(&usual, &[("dnt", "1")]), takes).unwrap();
    for (name, takes, body) in [
        ("members that all events share", takes, payload(r#""n":1"#, &properties)),
        (
            "more of them than is read",
            takes,
            payload(&members(1), &format!("{properties},\"q\":\"{}\"", "=".repeat(30_000))),
        ),
        ("a long id that is nearly everywhere in a text", Takes::Ga4, vec![ids; 4].join("\n")),
        ("backslashes", Takes::Ga4, texts("\\")),
        ("names of secrets before schemes", Takes::Ga4, texts("token://")),
        ("arrays in arrays", Takes::Ga4, texts("token:[")),
        ("indexes", Takes::Ga4, texts("a[0]=:")),
        ("addresses and ports", Takes::Ga4, texts("1.2.3.4:")),
        ("fields of items", Takes::Ga4, texts("k0key~v1x~").replace("&dl=", "&pr1=")),
    ] {
        assert!(body.len() <= body::MOST_GA4_BYTES, "{name}");
        let times = times(&config, &request(&body, &[("dnt", "1")]), takes, plain).unwrap();
        println!("{name}: {times:.1} times {plain:?}");
        assert!(times <= MOST, "{name}: {times:.1} times {plain:?}");
    }
}
