//! A hit → the line that is stored: JSON, newline-terminated.
//!
//! `service`, `context`, `request` and `response` are those of seed 003, name by name and type by type, so that its
//! warehouse models read them. Beside them:
//!
//! | key | holds |
//! |---|---|
//! | `event_id` | 32 hexadecimal digits, the same for the same hit: what duplicates are dropped by |
//! | `hit` | `type` (`t`, or null) and `time`: when it happened, in milliseconds: the request's time less `qt` |
//! | `products` | see `products` |
//! | `agent` | see `agent`; null without a user agent |
//! | `privacy` | `anonymised`, and how many secrets were `redacted`; see `privacy` |
//!
//! The event id is a hash of the parameters as they are stored, and of the hit's time. A client that gives a `z` says
//! with it which hits are the same: then neither the time nor `qt` counts, so that a beacon that is sent again, a page that
//! a browser restores and an invocation that Lambda repeats all give the same id.
//!
//! Nothing here reads a clock: the response has the request's time.

use std::borrow::Cow;

use sha2::{Digest as _, Sha256};

use crate::{
    agent::{Agent, agent},
    hit::Hit,
    json::Json,
    privacy::{self, Cleaner, Policy},
    products::products,
    validate::MOST_QUEUE_MS,
};

/// Characters of a partition key, by the Kinesis API.
const MOST_KEY_CHARS: usize = 256;

/// A request, as far as an event tells it.
#[derive(Debug, Clone, Copy)]
pub struct Received<'a> {
    /// When it came, in milliseconds since 1970.
    pub time_ms: i64,
    /// Who sent it, by the network.
    pub source_ip: Option<&'a str>,
    /// The program that sent it, by its header.
    pub user_agent: Option<&'a str>,
    /// The host that it was sent to.
    pub hostname: &'a str,
    /// The path, without the query.
    pub path: &'a str,
    /// The method, in capitals.
    pub method: &'a str,
    /// All headers, in any case; a name may come more than once.
    pub headers: &'a [(Cow<'a, str>, Cow<'a, str>)],
}

/// The answer to the request, once the event is stored.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The headers, each name once. They are stored as they are written here.
    pub headers: &'a [(&'a str, &'a str)],
}

/// What goes to the stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// JSON and a newline. Below 1 MiB, whatever the hit.
    pub line: Vec<u8>,
    /// The client id, or the event id when there is none that may be stored and is 1 to 256 characters long.
    pub partition_key: String,
    /// Number of secrets that were replaced.
    pub redacted: usize,
    /// Whether addresses were shortened and the user id was dropped.
    pub anonymised: bool,
}

/// Says how much there is and not what, so that a log line cannot hold it.
impl std::fmt::Debug for Event {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { line, redacted, anonymised, .. } = self;
        formatter
            .debug_struct("Event")
            .field("bytes", &line.len())
            .field("redacted", redacted)
            .field("anonymised", anonymised)
            .finish()
    }
}

/// Builds the event of a hit.
#[must_use]
pub fn event(hit: &Hit, received: &Received<'_>, answer: &Answer<'_>, policy: Policy) -> Event {
    let decision = privacy::decide(hit, received.headers, policy);
    let mut cleaner = Cleaner::new(decision, hit, received.source_ip, received.headers);
    let clean = cleaner.hit(hit);
    let hit = clean.as_ref();

    let hit_time = received.time_ms.saturating_sub(queue_ms(hit));
    let text = |name: &str| hit.get(name).filter(|text| !text.is_empty());
    let body = Body::of(hit);
    let event_id = body.id(text("z").is_none().then_some(hit_time));
    let request_id = text("z").unwrap_or(&event_id);
    let user_agent = text("ua").map(Cow::Borrowed).or_else(|| received.user_agent.map(|agent| cleaner.other(agent)));

    let header_bytes: usize = received.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut json = Json::with_capacity(1_536 + 2 * body.json.len() + header_bytes);
    json.open(b'{');

    json.name("service");
    json.raw(r#"{"id":"api.collect"}"#);

    json.name("context");
    json.open(b'{');
    json.name("user_ip");
    json.optional(text("uip").map(Cow::Borrowed).or_else(|| cleaner.address(received.source_ip)).as_deref());
    json.name("user_agent");
    json.optional(user_agent.as_deref());
    for (key, name) in
        [("document_location", "dl"), ("document_referrer", "dr"), ("client_id", "cid"), ("user_id", "uid")]
    {
        json.name(key);
        json.optional(text(name));
    }
    json.close(b'}');

    json.name("request");
    json.open(b'{');
    json.name("id");
    json.string(request_id);
    json.name("timestamp");
    json.integer(received.time_ms);
    json.name("hostname");
    json.string(received.hostname);
    json.name("path");
    json.string(&cleaner.path(received.path));
    json.name("method");
    json.string(received.method);
    json.name("headers");
    write_headers(&mut json, received.headers, &mut cleaner);
    json.name("body");
    json.raw_bytes(&body.json);
    json.close(b'}');

    json.name("response");
    json.open(b'{');
    json.name("id");
    json.string(request_id);
    json.name("timestamp");
    json.integer(received.time_ms);
    json.name("statusCode");
    json.integer(answer.status.into());
    json.name("headers");
    json.open(b'{');
    for (name, value) in answer.headers {
        json.key(name);
        json.string(value);
    }
    json.close(b'}');
    json.close(b'}');

    json.name("event_id");
    json.string(&event_id);

    json.name("hit");
    json.open(b'{');
    json.name("type");
    json.optional(text("t"));
    json.name("time");
    json.integer(hit_time);
    json.close(b'}');

    json.name("products");
    json.open(b'[');
    for product in products(hit) {
        product.write(&mut json);
    }
    json.close(b']');

    json.name("agent");
    write_agent(&mut json, user_agent.as_deref().and_then(agent));

    json.name("privacy");
    json.open(b'{');
    json.name("anonymised");
    json.bool(decision.anonymise);
    json.name("redacted");
    json.integer(i64::try_from(cleaner.redacted()).unwrap_or(i64::MAX));
    json.close(b'}');

    json.close(b'}');
    let mut line = json.into_bytes();
    line.push(b'\n');
    let partition_key = match text("cid") {
        Some(client) if client.len() <= MOST_KEY_CHARS || client.chars().count() <= MOST_KEY_CHARS => client.to_owned(),
        _ => event_id,
    };
    Event { line, partition_key, redacted: cleaner.redacted(), anonymised: decision.anonymise }
}

/// Milliseconds that the hit waited: `qt`, not below zero and not above four hours. What is no number is zero.
fn queue_ms(hit: &Hit) -> i64 {
    let Some(ms) = hit.get("qt").and_then(|text| text.parse::<f64>().ok()) else { return 0 };
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and NaN is zero")]
    let ms = ms as i64;
    ms.clamp(0, MOST_QUEUE_MS)
}

/// The parameters as they are stored, written once and hashed as written.
struct Body {
    json: Vec<u8>,
    /// Where `qt` is.
    queue_time: (usize, usize),
}

impl Body {
    fn of(hit: &Hit) -> Self {
        let mut json = Json::with_capacity(hit.bytes() + 8 * hit.len() + 64);
        let mut queue_time = (0, 0);
        json.open(b'{');
        for (name, value) in hit.iter() {
            let start = json.len();
            json.key(name);
            json.given(value);
            if name == "qt" {
                queue_time = (start, json.len());
            }
        }
        json.close(b'}');
        Self { json: json.into_bytes(), queue_time }
    }

    /// The event id: of the time and all parameters, or of all but `qt`.
    fn id(&self, hit_time: Option<i64>) -> String {
        let mut hash = Sha256::new();
        match hit_time {
            Some(time) => {
                hash.update(time.to_be_bytes());
                hash.update(&self.json);
            }
            None => {
                let (start, end) = self.queue_time;
                hash.update(self.json.get(..start).unwrap_or_default());
                hash.update(self.json.get(end..).unwrap_or_default());
            }
        }
        let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
        hash.finalize().iter().take(16).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

/// The headers: lower-case names, several values of one name joined, secrets left out.
fn write_headers(json: &mut Json, headers: &[(Cow<'_, str>, Cow<'_, str>)], cleaner: &mut Cleaner) {
    json.open(b'{');
    let mut rest = headers;
    let mut before: &[_] = &[];
    while let [(name, value), after @ ..] = rest {
        rest = after;
        let is_same = |(other, _): &&(Cow<'_, str>, Cow<'_, str>)| other.eq_ignore_ascii_case(name);
        let is_done = before.iter().any(|header| is_same(&header));
        before = headers.get(..before.len() + 1).unwrap_or(headers);
        let name = lower(name);
        if is_done || is_secret_header(&name) {
            continue;
        }
        let mut stored = cleaner.header(&name, value);
        for (_, more) in after.iter().filter(is_same) {
            if let Some(more) = cleaner.header(&name, more) {
                stored = Some(stored.map_or(more.clone(), |stored| format!("{stored}, {more}").into()));
            }
        }
        if let Some(stored) = stored {
            json.key(&name);
            json.string(&stored);
        }
    }
    json.close(b'}');
}

fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Whether a header lets its holder in somewhere. Names are in lower case.
fn is_secret_header(name: &str) -> bool {
    const WORDS: [&str; 15] = [
        "cookie",
        "authorization",
        "authentication",
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
        "signature",
        "session",
        "credential",
        "csrf",
        "xsrf",
        "oidc",
        "client-cert",
    ];
    // What comes with every request need not be searched.
    let is_usual = matches!(
        name,
        "accept"
            | "accept-encoding"
            | "accept-language"
            | "cache-control"
            | "connection"
            | "content-length"
            | "content-type"
            | "dnt"
            | "host"
            | "origin"
            | "priority"
            | "referer"
            | "sec-ch-ua"
            | "sec-ch-ua-mobile"
            | "sec-ch-ua-platform"
            | "sec-fetch-dest"
            | "sec-fetch-mode"
            | "sec-fetch-site"
            | "sec-gpc"
            | "user-agent"
            | "via"
            | "x-amz-cf-id"
            | "x-amzn-trace-id"
            | "x-forwarded-for"
            | "x-forwarded-port"
            | "x-forwarded-proto"
    );
    !is_usual && WORDS.iter().any(|word| name.contains(word))
}

fn write_agent(json: &mut Json, agent: Option<Agent<'_>>) {
    let Some(Agent { browser, browser_version, os, device, is_bot }) = agent else {
        json.raw("null");
        return;
    };
    json.open(b'{');
    for (key, text) in [("browser", browser), ("browser_version", browser_version), ("os", os), ("device", device)] {
        json.name(key);
        json.optional(text);
    }
    json.name("is_bot");
    json.bool(is_bot);
    json.close(b'}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    const TIME_MS: i64 = 1_795_195_200_123;
    const CHROME: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36";
    const GIF: Answer<'_> =
        Answer { status: 200, headers: &[("Content-Type", "image/gif"), ("Access-Control-Allow-Origin", "*")] };

    fn headers<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        pairs.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect()
    }

    fn received<'a>(headers: &'a [(Cow<'a, str>, Cow<'a, str>)]) -> Received<'a> {
        Received {
            time_ms: TIME_MS,
            source_ip: Some("198.51.100.23"),
            user_agent: Some(CHROME),
            hostname: "collect.example.org",
            path: "/collect",
            method: "POST",
            headers,
        }
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
        stored(&event(&form(raw), &received(&[]), &GIF, Policy::Anonymise))
    }

    #[test]
    fn the_seeds_hit_gives_the_seeds_event() {
        let body = json!({
            "z": "7f1b8b3e-0c55-4a4b-8f0e-6f0e6d3b2a11", "v": "1", "tid": "UA-12345-1", "t": "pageview", "cid": "35009a79",
            "uid": "ann", "uip": "203.0.113.77", "ua": "Pumper/1.0", "dl": "https://shop.example.org/p/1",
            "dr": "https://www.example.com/", "pa": "detail", "pr1id": "SKU1", "ev": 3, "on": true, "cd1": null,
            "more": {"a": [1, 2.50]},
        });
        let hit = Hit::from_json(body.to_string().as_bytes()).unwrap();
        let headers = headers(&[
            ("Content-Type", "application/json"),
            ("X-Forwarded-For", "198.51.100.23, 130.176.1.1"),
            ("User-Agent", CHROME),
            ("Cookie", "a=b"),
            ("Authorization", "Basic YTpi"),
            ("accept", "text/html"),
            ("Accept", "*/*"),
        ]);
        let event = event(&hit, &received(&headers), &GIF, Policy::Anonymise);
        let line = stored(&event);
        let id = "7f1b8b3e-0c55-4a4b-8f0e-6f0e6d3b2a11";
        assert_eq!(line["service"], json!({"id": "api.collect"}));
        assert_eq!(
            line["context"],
            json!({
                "user_ip": "203.0.113.77", "user_agent": "Pumper/1.0", "document_location": "https://shop.example.org/p/1",
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
        assert_eq!(line["hit"], json!({"type": "pageview", "time": TIME_MS}));
        assert_eq!(line["privacy"], json!({"anonymised": false, "redacted": 0}));
        assert_eq!(line["products"][0]["id"], "SKU1");
        assert_eq!(line["agent"]["is_bot"], false);
        let keys: Vec<_> = line.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = ["agent", "context", "event_id", "hit", "privacy", "products", "request", "response", "service"];
        assert_eq!(keys, expected);
        assert_eq!(event.partition_key, "35009a79");
    }

    #[test]
    fn what_is_absent_is_null() {
        let received = Received { source_ip: None, user_agent: None, ..received(&[]) };
        let event = event(&Hit::default(), &received, &GIF, Policy::Ignore);
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
    fn the_event_id_is_that_of_the_hit() {
        let id = |raw: &str, later_ms: i64| {
            let received = Received { time_ms: TIME_MS + later_ms, ..received(&[]) };
            stored(&event(&form(raw), &received, &GIF, Policy::Ignore))["event_id"].as_str().unwrap().to_owned()
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
        let received = Received { time_ms: i64::MIN, ..received(&[]) };
        let line = stored(&event(&form("cid=1&qt=5"), &received, &GIF, Policy::Ignore));
        assert_eq!(line["hit"]["time"], i64::MIN);
    }

    #[test]
    fn partition_keys_are_what_kinesis_takes() {
        let key = |client: &str| {
            let mut hit = Hit::default();
            hit.set("cid", client);
            event(&hit, &received(&[]), &GIF, Policy::Ignore).partition_key
        };
        assert_eq!(key("a"), "a");
        assert_eq!(key(&"é".repeat(256)), "é".repeat(256));
        assert_eq!(key(&"é".repeat(257)).len(), 32);
        assert_eq!(key("").len(), 32);
    }

    #[test]
    fn headers_that_let_somebody_in_are_not_stored() {
        let secret = [
            "Cookie",
            "set-cookie",
            "Authorization",
            "Proxy-Authorization",
            "X-API-Key",
            "x-amz-security-token",
            "X-CSRF-Token",
            "X-XSRF-TOKEN",
            "x-auth-token",
            "x-amzn-oidc-data",
            "x-forwarded-client-cert",
            "x-session-id",
        ];
        let pairs: Vec<_> =
            secret.iter().map(|name| (*name, "v")).chain([("Accept", "x"), ("x-amzn-trace-id", "y")]).collect();
        let line = stored(&event(&form("cid=1"), &received(&headers(&pairs)), &GIF, Policy::Ignore));
        assert_eq!(line["request"]["headers"], json!({"accept": "x", "x-amzn-trace-id": "y"}));
    }

    #[test]
    fn dropped_ids_are_nowhere() {
        let hit = form("cid=client-1234567&uid=user-1234567&dl=https://x.org/?c=client-1234567&t=pageview");
        let headers = headers(&[("Sec-GPC", "1"), ("referer", "https://x.org/?u=user-1234567")]);
        let event = event(&hit, &received(&headers), &GIF, Policy::DropId);
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
    fn secrets_in_urls_are_stored_nowhere_and_counted() {
        let hit = form(
            "cid=1&dl=https%3A%2F%2Fx.org%2F%3Ftoken%3Dtop-s3cret&dr=https://y.org/ann@example.org&dp=/p?sid=top-s3cret",
        );
        let headers = headers(&[("Referer", "https://x.org/?token=top-s3cret")]);
        let received = Received { path: "/collect/ann@example.org", ..received(&headers) };
        let event = event(&hit, &received, &GIF, Policy::Ignore);
        let text = String::from_utf8(event.line.clone()).unwrap();
        assert!(!text.contains("s3cret") && !text.contains("ann@"), "{text}");
        assert_eq!(event.redacted, 5);
        assert!(!event.anonymised);
    }

    #[test]
    fn the_largest_event_is_below_one_mebibyte() {
        const MEBIBYTE: usize = 1 << 20;
        let control = |bytes: usize| "\u{1}".repeat(bytes);
        // Everything that is written twice, in the most expensive bytes.
        let most = crate::hit::MOST_BYTES;
        let name = format!("x-{}", "y".repeat(100));
        let value = control(10_000);
        let headers = headers(&[(&name, &value)]);
        let agent = control(10_000);
        let received = Received { user_agent: Some(&agent), ..received(&headers) };
        for raw in [
            format!("dl={}", control(most - 3)),
            format!("pr1nm={}", control(most - 6)),
            format!("pr1{}=", control(most - 4)),
            format!("z={}", control(most - 2)),
            format!("a={}", control(most - 2)),
            (0..999).map(|at| format!("pr{}cd{at}={}&", at % 200 + 1, control(20))).collect(),
        ] {
            let event = event(&form(&raw), &received, &GIF, Policy::Ignore);
            assert!(event.line.len() < MEBIBYTE, "{} bytes", event.line.len());
            stored(&event);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn any_hit_gives_one_line_of_json(raw in prop::collection::vec(any::<u8>(), 0..300), agent in any::<String>()) {
            let headers = headers(&[("x-any", agent.as_str()), ("referer", agent.as_str())]);
            let received = Received { user_agent: Some(&agent), ..received(&headers) };
            for hit in [Hit::from_form(&raw), Hit::from_json(&raw)].into_iter().flatten() {
                for policy in [Policy::Ignore, Policy::DropId] {
                    stored(&event(&hit, &received, &GIF, policy));
                }
            }
        }

        #[test]
        fn what_was_sent_is_stored(given in prop::collection::btree_map("[a-z]{1,3}[0-9]", ".{0,20}", 0..10)) {
            let mut hit = Hit::default();
            for (name, value) in &given {
                hit.set(name, value);
            }
            let line = stored(&event(&hit, &received(&[]), &GIF, Policy::Anonymise));
            let expected: serde_json::Map<_, _> = given.into_iter().map(|(name, value)| (name, value.into())).collect();
            if line["privacy"]["redacted"] == 0 {
                prop_assert_eq!(&line["request"]["body"], &Value::Object(expected));
            }
        }

        #[test]
        fn anonymised_events_hold_no_address_and_no_user(
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
            let headers = headers(&[
                ("X-Forwarded-For", &list),
                ("Forwarded", &forwarded),
                ("X-Real-IP", &source),
                ("CF-Connecting-IP", &uip),
                ("True-Client-IP", &uip),
                ("CloudFront-Viewer-Address", &port),
                ("x-unheard-of", &list),
                ("referer", &uid),
            ]);
            let received = Received { source_ip: Some(&source), ..received(&headers) };
            let event = event(&hit, &received, &GIF, Policy::Ignore);
            prop_assert!(event.anonymised);
            let line = String::from_utf8(event.line).unwrap();
            for secret in [&source, &uip, &uid] {
                prop_assert!(!line.contains(secret.as_str()), "{} is in {}", secret, line);
            }
        }
    }
}
