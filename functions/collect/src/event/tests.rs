//! Requests and hits → events.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{hit::HitError, privacy::Policy, validate::Protocol};

const TIME_MS: i64 = 1_795_195_200_123;
const CHROME: &str =
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36";

fn gif() -> Response<'static> {
    Response::new(200, Some("image/gif"), Some("*"))
}

/// A request with these headers and Chrome's user agent.
fn request<'a>(headers: &[(&'a str, &'a str)]) -> Request<'a> {
    let headers = [("user-agent", CHROME)].iter().chain(headers);
    Request {
        method: "POST".into(),
        path: "/collect".into(),
        query: "".into(),
        headers: headers.map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect(),
        body: "".into(),
        is_base64: false,
        source_ip: "198.51.100.23".into(),
        hostname: "collect.example.org".into(),
        time_ms: TIME_MS,
        id: "".into(),
    }
}

fn config(policy: Policy) -> Config {
    let config = Config::from_lookup(|name| (name == "STREAM_NAME").then(|| "clicks".to_owned()));
    Config { opt_out: policy, ..config.unwrap() }
}

fn read(hit: &Hit, position: usize) -> Read {
    let is_named = hit.get("z").is_some();
    Read { protocol: Protocol::V1, hit: hit.clone(), fault: None, position, is_named }
}

fn event(hit: &Hit, request: &Request<'_>, policy: Policy) -> Event {
    super::event(&read(hit, 0), &[], request, &gif(), &config(policy), None).unwrap()
}

fn form(raw: &str) -> Hit {
    Hit::from_form(raw.as_bytes()).unwrap()
}

fn stored(event: &Event) -> Value {
    assert_eq!(event.line.iter().filter(|byte| **byte == b'\n').count(), 1);
    assert_eq!(event.line.last(), Some(&b'\n'));
    serde_json::from_slice(&event.line).unwrap()
}

fn simple(raw: &str) -> Value {
    stored(&event(&form(raw), &request(&[]), Policy::Anonymise))
}

#[test]
fn an_event_has_the_documented_members() {
    let body = json!({
        "z": "7f1b8b3e-0c55-4a4b-8f0e-6f0e6d3b2a11", "v": "1", "tid": "UA-12345-1", "t": "pageview", "cid": "35009a79",
        "uid": "ann", "uip": "203.0.113.77", "ua": "Test/1.0", "dl": "https://shop.example.org/p/1",
        "dr": "https://www.example.com/", "pa": "detail", "pr1id": "SKU1", "ev": 3, "on": true, "cd1": null,
        "more": {"a": [1, 2.50]},
    });
    let hit = Hit::from_json(body.to_string().as_bytes()).unwrap();
    let request = request(&[
        ("content-type", "application/json"),
        ("x-forwarded-for", "198.51.100.23, 130.176.1.1"),
        ("cookie", "a=b"),
        ("authorization", "Basic YTpi"),
        ("accept", "text/html"),
        ("accept", "*/*"),
    ]);
    let event = event(&hit, &request, Policy::Anonymise);
    let line = stored(&event);
    let id = "7f1b8b3e-0c55-4a4b-8f0e-6f0e6d3b2a11";
    assert_eq!(line["service"], json!({"id": "api.collect"}));
    assert_eq!(
        line["context"],
        json!({
            "user_ip": "203.0.113.77", "user_agent": "Test/1.0", "document_location": "https://shop.example.org/p/1",
            "document_referrer": "https://www.example.com/", "client_id": "35009a79", "user_id": "ann",
        })
    );
    assert_eq!(
        line["request"],
        json!({
            "id": id, "timestamp": TIME_MS, "hostname": "collect.example.org", "path": "/collect", "method": "POST",
            "headers": {
                "content-type": "application/json", "x-forwarded-for": "198.51.100.23, 130.176.1.1",
                "user-agent": CHROME, "accept": "text/html, */*",
            },
            "body": body,
        })
    );
    assert_eq!(
        line["response"],
        json!({
            "id": id, "timestamp": TIME_MS, "statusCode": 200,
            "headers": {"Content-Type": "image/gif", "Access-Control-Allow-Origin": "*"},
        })
    );
    assert_eq!(line["hit"], json!({"protocol": "v1", "type": "pageview", "time": TIME_MS}));
    assert_eq!(line["privacy"], json!({"anonymised": false, "redacted": 0}));
    assert_eq!(line["products"][0]["id"], "SKU1");
    assert_eq!(line["agent"]["is_bot"], false);
    assert_eq!(line["referrer"], json!({"class": "other", "host": "example.com"}));
    let text = String::from_utf8(event.line.clone()).unwrap();
    let order = [
        "service",
        "context",
        "request",
        "response",
        "event_id",
        "hit",
        "products",
        "agent",
        "client_hints",
        "campaign",
        "referrer",
        "privacy",
    ];
    let places: Vec<_> = order.iter().map(|name| text.find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "agent",
        "campaign",
        "client_hints",
        "context",
        "event_id",
        "hit",
        "privacy",
        "products",
        "referrer",
        "request",
        "response",
        "service",
    ];
    assert_eq!(keys, expected);
    assert_eq!(event.partition_key, "35009a79");
}

#[test]
fn what_is_absent_is_null() {
    let request = Request { source_ip: "".into(), headers: vec![], ..request(&[]) };
    let event = event(&Hit::default(), &request, Policy::Ignore);
    let line = stored(&event);
    let nothing = json!({
        "user_ip": null, "user_agent": null, "document_location": null, "document_referrer": null, "client_id": null,
        "user_id": null,
    });
    assert_eq!(line["context"], nothing);
    assert_eq!((&line["agent"], &line["products"], &line["hit"]["type"]), (&Value::Null, &json!([]), &Value::Null));
    assert_eq!((&line["request"]["body"], &line["request"]["headers"]), (&json!({}), &json!({})));
    assert_eq!(line["event_id"], line["request"]["id"]);
    assert_eq!(line["event_id"], event.partition_key.as_str());
    assert_eq!(simple("cid=&uip=&ua=&z=")["context"]["user_ip"], "198.51.100.23");
}

#[test]
fn copies_of_a_hit_have_the_same_event_id() {
    let id = |raw: &str, later_ms: i64| {
        let request = Request { time_ms: TIME_MS + later_ms, ..request(&[]) };
        stored(&event(&form(raw), &request, Policy::Ignore))["event_id"].as_str().unwrap().to_owned()
    };
    assert_eq!(id("cid=1&z=5", 0).len(), 32);
    assert_eq!(id("cid=1&z=5", 0), id("cid=1&z=5", 60_000));
    assert_eq!(id("cid=1&qt=10&z=5", 0), id("cid=1&qt=20&z=5", 10));
    assert_ne!(id("cid=1&z=5", 0), id("cid=1&z=6", 0));
    assert_ne!(id("cid=1&z=5", 0), id("cid=2&z=5", 0));
    assert_eq!(id("cid=1", 0), id("cid=1", 0));
    assert_ne!(id("cid=1", 0), id("cid=1", 1));
    assert_ne!(id("cid=1&dp=a", 0), id("cid=1&dp=b", 0));
    let line = simple("cid=1&z=5");
    assert_eq!((&line["request"]["id"], &line["response"]["id"]), (&json!("5"), &json!("5")));
}

#[test]
fn equal_hits_of_a_request_are_different_events() {
    let id = |raw: &str, position: usize| {
        let event =
            super::event(&read(&form(raw), position), &[], &request(&[]), &gif(), &config(Policy::Ignore), None)
                .unwrap();
        stored(&event)["event_id"].as_str().unwrap().to_owned()
    };
    let ids: std::collections::BTreeSet<String> = (0..20).map(|position| id("cid=1", position)).collect();
    assert_eq!(ids.len(), 20);
    assert_eq!(id("cid=1", 7), id("cid=1", 7));
    assert_eq!(id("cid=1&z=5", 0), id("cid=1&z=5", 1), "the client says which hit it is");
}

/// A load balancer tells the time in seconds, and without a client id the hits of two visitors may be the same.
#[test]
fn equal_hits_of_two_requests_are_different_events() {
    let id = |raw: &str, policy, request: Request<'_>| stored(&event(&form(raw), &request, policy))["event_id"].clone();
    let named = |id: &'static str| Request { id: id.into(), ..request(&[("dnt", "1")]) };
    for policy in [Policy::Ignore, Policy::DropId] {
        assert_ne!(id("cid=1", policy, named("a")), id("cid=1", policy, named("b")));
        assert_eq!(id("cid=1", policy, named("a")), id("cid=1", policy, named("a")), "the invocation is repeated");
        assert_eq!(id("cid=1&z=5", policy, named("a")), id("cid=1&z=5", policy, named("b")), "it is sent again");
    }
    let from = |ip: &'static str| Request { source_ip: ip.into(), ..named("a") };
    let [here, there] = ["203.0.113.7", "198.51.100.23"].map(|ip| id("cid=1&z=5", Policy::DropId, from(ip)));
    assert_ne!(here, there, "two visitors whose clients count their hits");
    assert_eq!(here, id("cid=2&z=5", Policy::DropId, from("203.0.113.99")), "nothing that is dropped is part of it");
    let personal = ["a", "b"].map(|of| id("cid=client-1234&z=client-1234&t=pageview", Policy::DropId, named(of)));
    assert_ne!(personal[0], personal[1], "what is redacted names nothing");
    let open = ["203.0.113.7", "198.51.100.23"].map(|ip| id("cid=1&z=5", Policy::Ignore, from(ip)));
    assert_eq!(open[0], open[1], "a visitor may have moved");
}

#[test]
fn events_of_ga4_have_a_type_and_their_own_time() {
    let line = |raw: &str| {
        let read = Read { protocol: Protocol::Ga4Payload, ..read(&form(raw), 0) };
        stored(&super::event(&read, &[], &request(&[]), &gif(), &config(Policy::Ignore), None).unwrap())
    };
    let hit = |kind: &str, time: i64| json!({"protocol": "ga4-mp", "type": kind, "time": time});
    assert_eq!(line("en=page_view&timestamp_micros=1795195100123456")["hit"], hit("pageview", 1_795_195_100_123));
    assert_eq!(line("en=login&timestamp_micros=1795195100123456.0")["hit"], hit("event", 1_795_195_100_123));
    assert_eq!(line("en=login&timestamp_micros=1")["hit"], hit("event", TIME_MS - 259_200_000));
    assert_eq!(line("en=login&timestamp_micros=9999999999999999")["hit"], hit("event", TIME_MS));
    assert_eq!(line("en=login&qt=5")["hit"], hit("event", TIME_MS - 5));
}

#[test]
fn a_copy_that_is_accepted_is_another_event_than_the_rejected_one() {
    let hit = form("cid=5&timestamp_micros=1795195200000000");
    let id = |messages: &[ParserMessage]| {
        let event =
            super::event(&read(&hit, 0), messages, &request(&[]), &gif(), &config(Policy::Ignore), None).unwrap();
        stored(&event)["event_id"].clone()
    };
    let rejected = [ParserMessage::from(HitError::ApiSecret)];
    assert_ne!(id(&[]), id(&rejected));
    assert_eq!(id(&rejected), id(&rejected));
}

#[test]
fn what_a_client_says_about_its_hit_identifies_it() {
    let id = |raw: &str, later_ms: i64| {
        let request = Request { time_ms: TIME_MS + later_ms, ..request(&[]) };
        stored(&event(&form(raw), &request, Policy::Ignore))["event_id"].clone()
    };
    for (raw, is_named) in [
        ("en=a&_p=1&_s=2&gtm=45", true),
        ("en=a&_p=1&_s=1", false),
        ("en=a&_s=2&gtm=45", false),
        ("en=a&timestamp_micros=1795195100123456", true),
        ("en=a", false),
    ] {
        assert_eq!(id(raw, 0) == id(raw, 60_000), is_named, "{raw}");
    }
    assert_ne!(id("en=a&_p=1&_s=2&gtm=45", 0), id("en=a&_p=1&_s=3&gtm=45", 0));
}

#[test]
fn a_rejected_hit_has_its_reasons_and_no_secrets() {
    let (hit, fault) = Hit::read_form(b"v=1&cid=1&dl=https://x.org/?token=top-s3cret%&dt=100%");
    let read = Read { hit, fault, ..read(&Hit::default(), 0) };
    let messages = [ParserMessage::from(HitError::Escape { parameter: 3 })];
    let event = super::event(&read, &messages, &request(&[]), &gif(), &config(Policy::Ignore), None).unwrap();
    let line = stored(&event);
    assert!(event.is_rejected);
    assert_eq!(line["service"]["id"], "api.collect.rejected");
    assert_eq!(line["rejected_for"][0]["description"], "parameter 3 has a % that starts no escape");
    assert_eq!((&line["context"]["client_id"], &line["request"]["body"]["dt"]), (&json!("1"), &json!("100%")));
    assert!(!line.to_string().contains("s3cret"), "{line}");
    assert_eq!(simple("cid=1").get("rejected_for"), None);
}

#[test]
fn what_cannot_be_parsed_is_kept_only_of_visitors_who_do_not_opt_out() {
    let body = |raw: &str, headers: &[(&str, &str)]| {
        let event = event(&Hit::unreadable(raw.as_bytes()), &request(headers), Policy::Anonymise);
        stored(&event)["request"]["body"].clone()
    };
    let text = r#"{"cid": "client-1234567", "dl": "https://x.org/?token=a"#;
    assert_eq!(body(text, &[]), json!({"_raw": r#"{"cid": "client-1234567", "dl": "https://x.org/?token=[redacted]"#}));
    assert_eq!(body(text, &[("dnt", "1")]), json!({}));
    assert_eq!(body(r#"{"aip": 1, "uid": "user-1234567""#, &[]), json!({}));
    assert_eq!(body(r#"{"gcs": "G100", "uid": "user-1234567""#, &[]), json!({}));
    let mut hit = Hit::unreadable(text.as_bytes());
    hit.merge(form("v=1&dt=of+client-1234567&tid=UA-1-1")).unwrap();
    let line = stored(&event(
        &hit,
        &request(&[("dnt", "1"), ("referer", "https://x.org/?u=client-1234567")]),
        Policy::Anonymise,
    ));
    assert_eq!(line["request"]["body"], json!({"v": "1", "tid": "UA-1-1"}));
    assert!(!line.to_string().contains("client-1234567"), "{line}");
}

#[test]
fn the_queue_time_moves_the_hit_back_within_bounds() {
    for (qt, back) in [
        ("560", 560),
        ("0", 0),
        ("-1", 0),
        ("14400001", 14_400_000),
        ("1e99", 14_400_000),
        ("inf", 14_400_000),
        ("NaN", 0),
        ("x", 0),
        ("", 0),
        ("12.9", 12),
    ] {
        assert_eq!(simple(&format!("cid=1&qt={qt}"))["hit"]["time"], TIME_MS - back, "{qt}");
    }
    let request = Request { time_ms: i64::MIN, ..request(&[]) };
    let line = stored(&event(&form("cid=1&qt=5"), &request, Policy::Ignore));
    assert_eq!(line["hit"]["time"], i64::MIN);
}

#[test]
fn partition_keys_are_within_the_limits_of_kinesis() {
    let key = |client: &str| {
        let mut hit = Hit::default();
        hit.set("cid", client);
        event(&hit, &request(&[]), Policy::Ignore).partition_key
    };
    assert_eq!(key("a"), "a");
    assert_eq!(key(&"é".repeat(256)), "é".repeat(256));
    assert_eq!(key(&"é".repeat(257)).len(), 32);
    assert_eq!(key("").len(), 32);
    let spread = Config { partition: Partition::Hit, ..config(Policy::Ignore) };
    let keys = [0, 1].map(|position| {
        let read = read(&form("cid=a"), position);
        super::event(&read, &[], &request(&[]), &gif(), &spread, None).unwrap().partition_key
    });
    assert!(keys[0] != keys[1] && keys[0].len() == 32, "{keys:?}");
}

#[test]
fn credentials_in_headers_are_not_stored() {
    let secret = [
        "cookie",
        "set-cookie",
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "x-amz-security-token",
        "x-csrf-token",
        "x-xsrf-token",
        "x-auth-token",
        "x-amzn-oidc-data",
        "x-forwarded-client-cert",
        "x-session-id",
    ];
    let pairs: Vec<_> =
        secret.iter().map(|name| (*name, "v")).chain([("accept", "x"), ("x-amzn-trace-id", "y")]).collect();
    let line = stored(&event(&form("cid=1"), &request(&pairs), Policy::Ignore));
    assert_eq!(line["request"]["headers"], json!({"user-agent": CHROME, "accept": "x", "x-amzn-trace-id": "y"}));
}

#[test]
fn dropped_ids_are_nowhere() {
    let hit = form("cid=client-1234567&uid=user-1234567&dl=https://x.org/?c=client-1234567&t=pageview");
    let request = request(&[("sec-gpc", "1"), ("referer", "https://x.org/?u=user-1234567")]);
    let event = event(&hit, &request, Policy::DropId);
    let text = String::from_utf8(event.line.clone()).unwrap();
    assert!(!text.contains("1234567") && !text.contains("198.51.100.23"), "{text}");
    let line = stored(&event);
    assert_eq!(line["context"]["client_id"], Value::Null);
    assert_eq!(line["context"]["user_ip"], "198.51.100.0");
    assert_eq!(line["event_id"], event.partition_key.as_str());
    assert_eq!(line["privacy"], json!({"anonymised": true, "redacted": 2}));
    assert_eq!((event.anonymised, event.redacted), (true, 2));
    assert_eq!(format!("{event:?}"), format!("Event {{ bytes: {}, redacted: 2, anonymised: true }}", text.len()));
}

#[test]
fn campaign_referrer_and_hints_are_told() {
    let hit = form(
        "v=1&dl=https://shop.example/?utm_source=news%26utm_medium=mail%26gclid=Cj0-4711-4711&dr=https://www.google.com/",
    );
    let request = request(&[("sec-ch-ua", "\"Chromium\";v=\"142\""), ("sec-ch-ua-mobile", "?0")]);
    let line = stored(&event(&hit, &request, Policy::Anonymise));
    assert_eq!(
        line["campaign"],
        json!({
            "source": "news", "medium": "mail", "name": null, "term": null, "content": null, "id": null,
            "click": {"kind": "gclid", "id": "Cj0-4711-4711"},
        })
    );
    assert_eq!(line["referrer"], json!({"class": "campaign", "host": "google.com"}));
    assert_eq!((&line["client_hints"]["brand"], &line["client_hints"]["mobile"]), (&json!("Chromium"), &json!(false)));
    let line = simple("v=1&cid=5");
    for name in ["campaign", "referrer", "client_hints"] {
        assert_eq!(line[name], Value::Null, "{name}");
    }
}

#[test]
fn click_ids_are_stored_as_the_visitor_and_the_settings_say() {
    let url = "https%3A%2F%2Fshop.example%2F%3Futm_source%3Dnews%26gclid%3DCj0-4711%252D4711%26a%3Db";
    let raw = format!(
        "v=1&cid=5&dl={url}&dp=/p?x=%2526GCLID%253DCj0-4711-4711&cd1=of+Cj0-4711-4711&gclid=Cj0-4711-4711&ep.fbclid=fb-4711&msclkid=7"
    );
    let request = request(&[("referer", "https://shop.example/?fbclid=fb-4711&a=b")]);
    let line = |raw: &str, click_ids: Clicks, policy: Policy, hit: fn(&str) -> Hit| {
        let config = Config { click_ids, ..config(policy) };
        stored(&super::event(&read(&hit(raw), 0), &[], &request, &gif(), &config, None).unwrap())
    };
    let kept = line(&raw, Clicks::Keep, Policy::Anonymise, form);
    assert_eq!(kept["campaign"]["click"], json!({"kind": "gclid", "id": "Cj0-4711-4711"}));
    let dropped = line(&raw, Clicks::Drop, Policy::Anonymise, form);
    let opted_out = line(&format!("{raw}&aip=1"), Clicks::Keep, Policy::Anonymise, form);
    for line in [&dropped, &opted_out] {
        assert_eq!((&line["campaign"]["source"], &line["request"]["body"]["msclkid"]), (&json!("news"), &Value::Null));
        let headers = &line["request"]["headers"];
        assert_eq!(headers["referer"], "https://shop.example/?fbclid=[redacted]&a=b");
        assert!(!line.to_string().contains("fb-4711"), "{line}");
    }
    assert!(!opted_out.to_string().contains("4711"), "{opted_out}");
    let members = r#"{"cid": "5", "more": {"gclid": "Cj0-4711"}}"#;
    let json = |raw: &str| Hit::from_json(raw.as_bytes()).unwrap();
    assert!(line(members, Clicks::Keep, Policy::Anonymise, json).to_string().contains("4711"));
    assert!(!line(members, Clicks::Drop, Policy::Anonymise, json).to_string().contains("4711"));
}

#[test]
fn secrets_in_urls_are_stored_nowhere_and_counted() {
    let hit = form(
        "cid=1&dl=https%3A%2F%2Fx.org%2F%3Ftoken%3Dtop-s3cret&dr=https://y.org/ann@example.org&dp=/p?sid=top-s3cret",
    );
    let headers = [("referer", "https://x.org/?token=top-s3cret")];
    let request = Request { path: "/collect/ann@example.org".into(), ..request(&headers) };
    let event = event(&hit, &request, Policy::Ignore);
    let text = String::from_utf8(event.line.clone()).unwrap();
    assert!(!text.contains("s3cret") && !text.contains("ann@"), "{text}");
    assert_eq!(event.redacted, 5);
    assert!(!event.anonymised);
}

#[test]
fn the_largest_event_is_below_one_mebibyte() {
    const MEBIBYTE: usize = 1 << 20;
    let control = |bytes: usize| "\u{1}".repeat(bytes);
    // Values that are stored twice, of the characters whose escapes are longest.
    let most = crate::hit::MOST_BYTES;
    let name = format!("x-{}", "y".repeat(100));
    let value = control(10_000);
    let agent = control(10_000);
    let headers = [(name.into(), value.into()), ("user-agent".into(), agent.into())];
    let request = Request { headers: headers.to_vec(), ..request(&[]) };
    for raw in [
        format!("dl={}", control(most - 3)),
        format!("pr1nm={}", control(most - 6)),
        format!("pr1{}=", control(most - 4)),
        format!("z={}", control(most - 2)),
        format!("dl=?utm_source={}", control(most - 15)),
        format!("dr=//{}", control(most - 5)),
        format!("uap={}", control(most - 4)),
        format!("uafvl={};1", control(most - 8)),
        format!("a={}", control(most - 2)),
        (0..999).map(|at| format!("pr{}cd{at}={}&", at % 200 + 1, control(20))).collect(),
    ] {
        let event = event(&form(&raw), &request, Policy::Ignore);
        assert!(event.line.len() < MEBIBYTE, "{} bytes", event.line.len());
        stored(&event);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_hit_gives_one_line_of_json(raw in prop::collection::vec(any::<u8>(), 0..300), agent in any::<String>()) {
        let headers = ["x-any", "referer", "user-agent"].map(|name| (name.into(), agent.as_str().into()));
        let request = Request { headers: headers.to_vec(), ..request(&[]) };
        for hit in [Hit::from_form(&raw), Hit::from_json(&raw)].into_iter().flatten() {
            for policy in [Policy::Ignore, Policy::DropId] {
                stored(&event(&hit, &request, policy));
            }
        }
    }

    #[test]
    fn all_parameters_are_stored(given in prop::collection::btree_map("[a-z]{1,3}[0-9]", ".{0,20}", 0..10)) {
        let mut hit = Hit::default();
        for (name, value) in &given {
            hit.set(name, value);
        }
        let line = stored(&event(&hit, &request(&[]), Policy::Anonymise));
        let expected: serde_json::Map<_, _> = given.into_iter().map(|(name, value)| (name, value.into())).collect();
        if line["privacy"]["redacted"] == 0 {
            prop_assert_eq!(&line["request"]["body"], &Value::Object(expected));
        }
    }

    /// In every parameter, percent-encoded never, once and twice.
    #[test]
    fn no_secret_in_a_value_is_stored(
        name in prop::sample::select(vec![
            "dl", "dr", "dp", "dt", "el", "exd", "cd1", "cd200", "st", "pr1nm", "pr1", "ep.link", "up.note", "uip", "ua", "z", "items", "ti", "_raw",
        ]),
        value in prop::sample::select(vec![
            "Failed: https://x.org/a?access_token=5ecret77", "/reset?token=5ecret77", "//x.org/?password=5ecret77", "https://ann:5ecret77@x.org/",
            "key=5ecret77", "a 5ecret77@example.org", "https://x.org/#id_token=5ecret77&a=b", "{\"client_secret\": \"5ecret77\"}",
            "Authorization: Bearer 5ecret77-5ecret77", "/v/eyJhbGciOiJIUzI1NiJ9.5ecret77.abc", "user[password]=5ecret77", "?X-Amz-Signature=5ecret77",
        ]),
        times in 0..3_usize,
        is_json in any::<bool>(),
    ) {
        let mut value = value.to_owned();
        for _ in 0..times {
            value = percent_encoding::utf8_percent_encode(&value, percent_encoding::NON_ALPHANUMERIC).to_string();
        }
        let mut hit = Hit::default();
        hit.set("cid", "5");
        hit.set(name, &value);
        if is_json {
            hit = Hit::from_json(json!({"cid": "5", name: value, "more": {"deep": [value]}}).to_string().as_bytes()).unwrap();
        }
        let request = request(&[("referer", &value), ("x-requested-with", &value)]);
        let line = String::from_utf8(event(&hit, &request, Policy::Ignore).line).unwrap();
        prop_assert!(!line.contains("5ecret77"), "{}", line);
    }

    #[test]
    fn anonymised_events_have_no_address_and_no_user(
        source in "2(0[1-9]|1[0-9])\\.[1-9][0-9]\\.[1-9][0-9]\\.[1-9][0-9]",
        uip in prop_oneof!["1[1-9][0-9]\\.[1-9][0-9]\\.[1-9][0-9]\\.[1-9][0-9]", "2001:db8:[1-9]{2}:[1-9]{4}::[1-9]{3}"],
        uid in "[a-z]{5}-[0-9]{6}",
        is_json in any::<bool>(),
    ) {
        let text = if is_json {
            json!({
                "aip": 1, "cid": "c", "uid": uid, "uip": uip, "cd1": format!("user {uid} of {source}"),
                "dl": format!("https://x.org/?u={uid}&ip={uip}"), "more": {"deep": [uid, {"ip": uip}]}, "pr1nm": uid,
            })
            .to_string()
        } else {
            format!("aip=1&cid=c&uid={uid}&uip={uip}&cd1={uid}+{source}&dl=https://x.org/%3Fu%3D{uid}%26ip%3D{uip}&pr1id={uid}")
        };
        let hit = if is_json { Hit::from_json(text.as_bytes()) } else { Hit::from_form(text.as_bytes()) }.unwrap();
        let forwarded = format!("for={source};proto=https, for=\"[{uip}]:443\"");
        let list = format!("{uip}, {source}");
        let port = format!("{source}:4711");
        let headers = [
            ("x-forwarded-for", &*list),
            ("forwarded", &forwarded),
            ("x-real-ip", &source),
            ("cf-connecting-ip", &uip),
            ("true-client-ip", &uip),
            ("cloudfront-viewer-address", &port),
            ("x-unheard-of", &list),
            ("referer", &uid),
        ];
        let request = Request { source_ip: source.as_str().into(), ..request(&headers) };
        let event = event(&hit, &request, Policy::Ignore);
        prop_assert!(event.anonymised);
        let line = String::from_utf8(event.line).unwrap();
        for secret in [&source, &uip, &uid] {
            prop_assert!(!line.contains(secret.as_str()), "{} is in {}", secret, line);
        }
    }
}
