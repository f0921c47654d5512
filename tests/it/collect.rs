//! The handler of collect with the real SDK client and an in-memory stream that can throttle.

mod clients;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use collect::{
    answer::Answer,
    app::App,
    config::Config,
    handler::{Response, dispatch, handle},
};
use kit::{
    http::{self, HttpRequest, HttpResponse, respond_json},
    sqs,
};
use runtime::clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::{
    events::{file, root},
    roles,
};

/// How the stream reacts to records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Health {
    #[default]
    Well,
    /// Three of ten records are rejected.
    Throttling,
    /// Every request is answered with 500.
    Down,
}

#[derive(Default)]
struct State {
    health: Health,
    /// Whether the overflow refuses messages.
    is_queue_down: bool,
    /// Bodies of the messages in the overflow.
    queue: Vec<String>,
    seen: usize,
    /// Partition key and data of every accepted record.
    records: Vec<(String, String)>,
    calls: usize,
}

/// A Kinesis stream. A clone is another handle of the same stream.
#[derive(Clone, Default)]
struct Stream(Arc<Mutex<State>>);

impl Stream {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The events, in order.
    fn events(&self) -> Vec<Value> {
        self.state().records.iter().map(|(_, line)| serde_json::from_str(line).unwrap()).collect()
    }

    async fn app(&self, variables: &[(&str, &str)]) -> App {
        let config = Config::from_lookup(|name| match variables.iter().find(|(other, _)| *other == name) {
            Some((_, value)) => Some((*value).to_owned()),
            None => (name == "STREAM_NAME").then(|| "clicks".to_owned()),
        });
        let stream = self.clone();
        App::new(config.unwrap(), &http::config(http::client(move |request| stream.answer(request))).await)
    }

    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        if http::target(request) == Some("AmazonSQS.SendMessageBatch") {
            roles::collect().assert_allows("sqs:SendMessage", "OverflowQueue");
            let request = http::json(request);
            let mut state = self.state();
            let answer = sqs::batch(&request, |entry| {
                if state.is_queue_down {
                    return sqs::Entry::Failed { code: "InternalError", sender_fault: false };
                }
                state.queue.push(entry["MessageBody"].as_str().unwrap().to_owned());
                sqs::sent("1")
            });
            return respond_json(200, &answer);
        }
        assert_eq!(http::target(request), Some("Kinesis_20131202.PutRecords"));
        roles::collect().assert_allows("kinesis:PutRecords", "ClicksStream");
        let request = http::json(request);
        let mut state = self.state();
        state.calls += 1;
        let (status, body) = if state.health == Health::Down {
            (500, json!({"__type": "InternalFailure"}))
        } else {
            let mut rejected = 0;
            let records = request["Records"].as_array().unwrap().iter().map(|record| {
                state.seen += 1;
                if state.health == Health::Throttling && matches!(state.seen % 10, 2 | 5 | 9) {
                    rejected += 1;
                    return json!({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow"});
                }
                let data = base64_simd::STANDARD.decode_to_vec(record["Data"].as_str().unwrap()).unwrap();
                let key = record["PartitionKey"].as_str().unwrap().to_owned();
                state.records.push((key, String::from_utf8(data).unwrap()));
                json!({"SequenceNumber": "1", "ShardId": "shardId-000000000000"})
            });
            let records: Vec<Value> = records.collect();
            (200, json!({"FailedRecordCount": rejected, "Records": records}))
        };
        respond_json(status, &body)
    }
}

async fn invoke(app: &App, event: &Value) -> Answer {
    let deadline = u64::try_from(clock::unix_ms()).unwrap() + 10_000;
    handle(app, Bytes::from(event.to_string()), deadline).await.unwrap()
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(other, _)| *other == name).map(|(_, value)| &**value)
}

/// A request with this body, path and headers.
fn request(method: &str, path: &str, query: &str, body: &str, headers: &[(&str, &str)]) -> Value {
    let mut event = file("collect-text.json");
    event["rawPath"] = json!(path);
    event["requestContext"]["http"]["method"] = json!(method);
    event["requestContext"]["http"]["path"] = json!(path);
    event["rawQueryString"] = json!(query);
    event["body"] = json!(body);
    for (name, value) in headers {
        event["headers"][*name] = json!(value);
    }
    event
}

const HIT: &str = "v=1&tid=UA-XXXXX-1&cid=555&t=pageview&dl=https%3A%2F%2Fshop.example%2F&z=1";

#[tokio::test]
async fn a_hit_is_stored_in_every_encoding() {
    for name in [
        "collect-json.json",
        "collect-form.json",
        "collect-text.json",
        "collect-gzip.json",
        "collect-rest.json",
        "collect-rest-binary.json",
        "collect-function-url.json",
        "collect-alb.json",
    ] {
        let stream = Stream::default();
        let answer = invoke(&stream.app(&[]).await, &file(name)).await;
        assert_eq!((answer.status_code, answer.is_base64_encoded), (200, true), "{name}: {}", answer.body);
        assert_eq!(header(&answer, "Content-Type"), Some("image/gif"));
        assert_eq!(header(&answer, "Cache-Control"), Some("no-store"));
        assert_eq!(header(&answer, "Access-Control-Allow-Origin"), Some("*"));
        let [event] = &stream.events()[..] else { panic!("{name}: not one event") };
        let body = &event["request"]["body"];
        assert_eq!(body["pr1nm"], "Bandana", "{name}");
        assert_eq!(event["service"]["id"], "api.collect");
        assert_eq!(event["context"]["client_id"], "35009a79-1a05-49d7-b876-2b884d0f825b");
        assert_eq!(event["context"]["user_ip"], "198.51.100.23");
        assert_eq!(event["context"]["document_location"], "https://shop.example/product/42?utm_source=mail");
        assert_eq!(event["request"]["id"], "1548123456789");
        // A load balancer says the time in seconds.
        let time = if name == "collect-alb.json" { 1_795_183_906_000_i64 } else { 1_795_183_906_123 };
        assert_eq!(event["request"]["timestamp"], time);
        assert_eq!(event["request"]["path"], "/collect");
        assert_eq!(event["products"][0]["price"], 19.99, "{name}");
        let (key, line) = stream.state().records[0].clone();
        assert_eq!(key, "35009a79-1a05-49d7-b876-2b884d0f825b");
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
    }
}

#[tokio::test]
async fn json_through_a_rest_api_gives_the_documented_event() {
    let stream = Stream::default();
    invoke(&stream.app(&[]).await, &file("collect-rest.json")).await;
    let event = &stream.events()[0];
    let sent: Value = serde_json::from_str(file("collect-rest.json")["body"].as_str().unwrap()).unwrap();
    let agent = file("collect-rest.json")["headers"]["User-Agent"].clone();
    assert_eq!(event["service"], json!({"id": "api.collect"}));
    assert_eq!(
        event["context"],
        json!({
            "user_ip": "198.51.100.23", "user_agent": agent, "document_location": sent["dl"],
            "document_referrer": sent["dr"], "client_id": sent["cid"], "user_id": null,
        })
    );
    let mut request = event["request"].clone();
    let headers = request.as_object_mut().unwrap().remove("headers").unwrap();
    assert_eq!(
        request,
        json!({
            "id": sent["z"], "timestamp": 1_795_183_906_123_i64, "hostname": "q1w2e3r4t5.execute-api.us-east-1.amazonaws.com",
            "path": "/collect", "method": "POST", "body": sent,
        })
    );
    assert_eq!(headers["user-agent"], agent);
    assert_eq!(
        event["response"],
        json!({
            "id": sent["z"], "timestamp": 1_795_183_906_123_i64, "statusCode": 200,
            "headers": {"Content-Type": "image/gif", "Access-Control-Allow-Origin": "*"},
        })
    );
}

#[tokio::test]
async fn a_beacon_without_a_body_is_a_hit_and_its_cookie_is_not_stored() {
    let stream = Stream::default();
    let answer = invoke(&stream.app(&[]).await, &file("collect-beacon.json")).await;
    assert_eq!(answer.status_code, 200);
    let event = &stream.events()[0];
    assert_eq!((&event["request"]["body"]["ec"], &event["request"]["method"]), (&json!("video"), &json!("GET")));
    assert!(!event.to_string().contains("secret"), "{event}");
}

#[tokio::test]
async fn a_batch_stores_the_valid_hits_and_names_the_others() {
    let stream = Stream::default();
    let answer = invoke(&stream.app(&[]).await, &file("collect-batch.json")).await;
    assert_eq!(answer.status_code, 200);
    let verdict: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(verdict["stored"], 3);
    assert_eq!(verdict["invalid"][0]["index"], 1);
    assert!(verdict["invalid"][0]["parserMessage"].to_string().contains("VALUE_REQUIRED"), "{verdict}");
    let stored: Vec<(String, Value)> = stream.events().iter().map(service_and("z")).collect();
    let expected = [("", "0"), (".rejected", ""), ("", "1"), ("", "2")];
    let expected =
        expected.map(|(suffix, z)| (format!("api.collect{suffix}"), if z.is_empty() { Value::Null } else { json!(z) }));
    assert_eq!(stored, expected);
    assert_eq!(stream.state().calls, 1, "a batch is one call");
}

/// The service of an event and a parameter of its hit.
fn service_and(parameter: &str) -> impl Fn(&Value) -> (String, Value) {
    move |event| (event["service"]["id"].as_str().unwrap().to_owned(), event["request"]["body"][parameter].clone())
}

#[tokio::test]
async fn invalid_requests_are_explained_and_kept_as_rejected() {
    let too_large = format!("{HIT}&dt={}", "a".repeat(9_000));
    let many = format!("{HIT}\n").repeat(21);
    let (of, raw) = (|parameter, value| Some((parameter, value)), "_raw");
    for (event, status, message, kept) in [
        (file("collect-bad-json.json"), 400, "invalid_json", of(raw, "{\"cid\": \"1\", \"z\":")),
        (file("collect-bad-escape.json"), 400, "starts no escape", of("dl", "%zz")),
        (request("POST", "/collect", "", "", &[]), 400, "empty", None),
        (request("POST", "/collect", "", "v=1&tid=UA-1-1&t=pageview", &[]), 400, "VALUE_REQUIRED", of("tid", "UA-1-1")),
        (request("POST", "/collect", "", &too_large, &[]), 413, "too_large", of("cid", "555")),
        (request("POST", "/batch", "", &many, &[]), 413, "there are 21 hits", of(raw, many.trim())),
        (request("GET", "/nowhere", "", "", &[]), 404, "/debug/collect", None),
        (request("DELETE", "/collect", "", "", &[]), 405, "GET, HEAD, POST, OPTIONS", None),
        (request("GET", "/batch", HIT, "", &[]), 405, "POST, OPTIONS", None),
    ] {
        let stream = Stream::default();
        let answer = invoke(&stream.app(&[]).await, &event).await;
        assert_eq!(answer.status_code, status, "{}", answer.body);
        assert!(answer.body.contains(message), "{}", answer.body);
        assert_eq!(header(&answer, "Allow").is_some(), status == 405);
        let events = stream.events();
        assert_eq!(events.len(), usize::from(kept.is_some()), "{}", answer.body);
        let Some((parameter, value)) = kept else { continue };
        assert_eq!(service_and(parameter)(&events[0]), ("api.collect.rejected".to_owned(), json!(value)));
        assert_eq!(events[0]["response"]["statusCode"], status);
        assert!(events[0]["rejected_for"].to_string().contains("\"ERROR\""), "{}", events[0]);
    }
}

#[tokio::test]
async fn a_refused_request_of_ga4_is_stored_as_ga4() {
    for (path, protocol) in [("/g/collect", "ga4"), ("/mp/collect", "ga4-mp"), ("/collect", "v1")] {
        let stream = Stream::default();
        let answer = invoke(&stream.app(&[]).await, &request("POST", path, "tid=G-1", "{", &[])).await;
        let event = &stream.events()[0];
        assert_eq!((answer.status_code, &event["hit"]["protocol"]), (400, &json!(protocol)), "{path}");
    }
}

/// What cannot be decompressed cannot be searched for what must not be stored.
#[tokio::test]
async fn a_body_that_cannot_be_decompressed_is_kept_only_if_nobody_may_opt_out() {
    let body = base64_simd::STANDARD.encode_to_string([0x1f, 0x8b, 0xff, 1, 2, 3]);
    for (policy, kept) in [("ignore", json!(body)), ("anonymise", Value::Null)] {
        let stream = Stream::default();
        let mut event = request("POST", "/collect", "tid=UA-1-1", &body, &[]);
        event["isBase64Encoded"] = json!(true);
        let answer = invoke(&stream.app(&[("OPT_OUT", policy)]).await, &event).await;
        assert_eq!(answer.status_code, 400);
        assert_eq!(stream.events()[0]["request"]["body"]["_raw"], kept, "{policy}");
    }
}

#[tokio::test]
async fn one_bad_hit_is_one_bad_hit_of_a_batch() {
    let too_large = format!("{HIT}&dt={}", "a".repeat(9_000));
    let body = [HIT, &too_large, "v=1&dl=%", &HIT.replace("z=1", "z=2")].join("\n");
    let stream = Stream::default();
    let answer = invoke(&stream.app(&[]).await, &request("POST", "/batch", "", &body, &[])).await;
    let verdict: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status_code, &verdict["stored"]), (200, &json!(2)));
    let invalid = verdict["invalid"].as_array().unwrap();
    assert_eq!(invalid.iter().map(|hit| &hit["index"]).collect::<Vec<_>>(), [1, 2]);
    let services: Vec<String> = stream.events().iter().map(|event| service_and("z")(event).0).collect();
    assert_eq!(services, ["api.collect", "api.collect.rejected", "api.collect.rejected", "api.collect"]);
}

#[tokio::test]
async fn equal_hits_of_a_batch_are_different_events_and_the_same_when_sent_again() {
    let plain = HIT.replace("&z=1", "");
    let stream = Stream::default();
    let app = stream.app(&[]).await;
    for body in [format!("{plain}\n{plain}"), format!("{plain}\n{plain}"), format!("{HIT}\n{HIT}")] {
        invoke(&app, &request("POST", "/batch", "", &body, &[])).await;
    }
    let ids: Vec<String> = stream.events().iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect();
    let [first, second, again, second_again, named, also_named] = &ids[..] else { panic!("six") };
    assert!(first != second && first == again && second == second_again && named == also_named, "{ids:?}");
}

#[tokio::test]
async fn the_hits_of_a_busy_client_can_be_spread() {
    let body = (0..20).map(|z| HIT.replace("z=1", &format!("z={z}"))).collect::<Vec<_>>().join("\n");
    for (by, keys) in [("client", 1), ("hit", 20)] {
        let stream = Stream::default();
        invoke(&stream.app(&[("PARTITION_BY", by)]).await, &request("POST", "/batch", "", &body, &[])).await;
        let found: BTreeSet<String> = stream.state().records.iter().map(|(key, _)| key.clone()).collect();
        assert_eq!(found.len(), keys, "{by}");
    }
}

#[tokio::test]
async fn each_line_of_gtag_is_an_event_with_what_all_share() {
    let stream = Stream::default();
    let answer = invoke(&stream.app(&[]).await, &file("collect-ga4.json")).await;
    assert_eq!((answer.status_code, &*answer.body), (204, ""), "as Google answers");
    assert_eq!(header(&answer, "Cache-Control"), Some("no-store"), "or a cache would answer the next hit");
    let [view, add] = &stream.events()[..] else { panic!("two events") };
    for (event, name, z) in [(view, "view_item", "1"), (add, "add_to_cart", "2")] {
        assert_eq!(event["hit"], json!({"protocol": "ga4", "type": "event", "time": 1_795_183_906_123_i64}));
        let body = &event["request"]["body"];
        assert_eq!(
            (&body["en"], &body["cid"], &body["cu"]),
            (&json!(name), &json!("1548123456.1795183900"), &json!("EUR"))
        );
        assert_eq!(event["context"]["document_location"], "https://shop.example/product/42");
        assert_eq!(event["products"][0]["quantity"].to_string(), z);
        assert_eq!(event["response"]["statusCode"], 204);
    }
    assert_eq!(view["products"][0]["name"], "Bandana, \"red\"");
    assert_eq!(add["products"][0]["name"], "Bandana ~ the red one", "a ~ that is not written twice");
    assert_eq!(add["products"][0]["raw"], json!({"k0": "size", "v0": "XL"}));
    assert_ne!(view["event_id"], add["event_id"]);
}

#[tokio::test]
async fn each_event_of_a_payload_is_stored_under_the_names_of_gtag_and_without_its_secret() {
    let stream = Stream::default();
    let answer = invoke(&stream.app(&[]).await, &file("collect-mp.json")).await;
    assert_eq!((answer.status_code, &*answer.body), (204, ""));
    let [purchase, login] = &stream.events()[..] else { panic!("two events") };
    assert_eq!(purchase["hit"], json!({"protocol": "ga4-mp", "type": "event", "time": 1_795_183_905_000_i64}));
    let body = json!({
        "en": "purchase", "ep.transaction_id": "T-1", "cu": "EUR", "epn.value": 39.98, "epn.tax": 6.38, "cid": "1548123456.1795183900",
        "items": [{"item_id": "SKU-1", "item_name": "Bandana", "price": 19.99, "quantity": 2}], "timestamp_micros": 1_795_183_905_000_000_i64,
        "up.tier": "gold", "consent": {"ad_user_data": "GRANTED"}, "tid": "G-C5VLPRS4QY",
    });
    assert_eq!(purchase["request"]["body"], body);
    let product = &purchase["products"][0];
    assert_eq!((&product["id"], &product["price"], &product["quantity"]), (&json!("SKU-1"), &json!(19.99), &json!(2)));
    assert_eq!(login["request"]["body"]["ep.method"], "mail");
    assert!(!stream.events().iter().any(|event| event.to_string().contains("not-a-real-secret")));
    // SHA-256 of `not-a-real-secret`, and of `another`.
    let digests = [
        ("ed24bc0bb03d0e89e8bacafb1545ee4ed6a2b273f3db69199787632b32545179", 204, "api.collect"),
        ("ae448ac86c4e8e4dec645729708ef41873ae79c6dff84eff73360989487f08e5", 400, "api.collect.rejected"),
    ];
    for (digest, status, service) in digests {
        let stream = Stream::default();
        let answer = invoke(&stream.app(&[("API_SECRET_SHA256", digest)]).await, &file("collect-mp.json")).await;
        assert_eq!(answer.status_code, status, "{}", answer.body);
        let events = stream.events();
        assert!(events.len() == 2 && events.iter().all(|event| event["service"]["id"] == service));
        assert!(!format!("{events:?}{answer:?}").contains("not-a-real-secret"));
    }
}

#[tokio::test]
async fn paths_of_other_tags_and_a_prefix_are_served() {
    let stream = Stream::default();
    let app = stream.app(&[("PATH_PREFIX", "/t/1")]).await;
    let paths = ["/collect", "/collect/", "/r/collect", "/j/collect", "/t/1/collect", "/t/1/r/collect/"];
    for path in paths {
        assert_eq!(invoke(&app, &request("POST", path, "", HIT, &[])).await.status_code, 200, "{path}");
    }
    assert_eq!(stream.events().len(), paths.len());
    let ga4 = "v=2&tid=G-1&cid=5&en=page_view";
    for (method, path) in [("GET", "/g/collect"), ("POST", "/t/1/g/collect"), ("GET", "/collect")] {
        let answer = invoke(&app, &request(method, path, ga4, "", &[])).await;
        assert_eq!(answer.status_code, 204, "{path}: {}", answer.body);
    }
    for path in ["/t/collect", "/t/1collect", "/t/1/t/1/collect", "/g", "/mp/collect/x"] {
        assert_eq!(invoke(&app, &request("POST", path, "", HIT, &[])).await.status_code, 404, "{path}");
    }
}

#[tokio::test]
async fn debug_explains_payloads_as_google_does() {
    let stream = Stream::default();
    let app = stream.app(&[]).await;
    let payload = |body: Value| request("POST", "/debug/mp/collect", "measurement_id=G-1", &body.to_string(), &[]);
    let answer = invoke(&app, &payload(json!({"client_id": "5", "events": [{"name": "a"}]}))).await;
    assert_eq!((answer.status_code, &*answer.body), (200, r#"{"validationMessages":[]}"#));
    let answer = invoke(&app, &payload(json!({"client_id": "5", "events": [{"name": "a b"}]}))).await;
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    let message = &document["validationMessages"][0];
    assert_eq!((&message["fieldPath"], &message["validationCode"]), (&json!("events.name"), &json!("NAME_INVALID")));
    let too_many = json!({"client_id": "5", "events": vec![json!({"name": "a"}); 26]});
    for (body, status, code) in
        [("{".to_owned(), 400, "VALUE_INVALID"), (too_many.to_string(), 413, "VALUE_OUT_OF_BOUNDS")]
    {
        let answer = invoke(&app, &request("POST", "/debug/mp/collect", "measurement_id=G-1", &body, &[])).await;
        let document: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status_code, &document["validationMessages"][0]["validationCode"]), (status, &json!(code)));
    }
    assert_eq!(stream.state().calls, 0);
}

#[tokio::test]
async fn an_img_gets_an_image_even_for_an_error() {
    let stream = Stream::default();
    let event = request("GET", "/collect", "v=1", "", &[("accept", "image/avif,image/*")]);
    let answer = invoke(&stream.app(&[]).await, &event).await;
    assert_eq!((answer.status_code, header(&answer, "Content-Type")), (400, Some("image/gif")));
}

#[tokio::test]
async fn head_is_answered_without_a_body_and_stored() {
    let stream = Stream::default();
    let answer = invoke(&stream.app(&[]).await, &request("HEAD", "/collect", HIT, "", &[])).await;
    assert_eq!((answer.status_code, &*answer.body, stream.events().len()), (200, "", 1));
}

#[tokio::test]
async fn debug_explains_and_stores_nothing() {
    let stream = Stream::default();
    let app = stream.app(&[]).await;
    let answer = invoke(&app, &file("collect-debug.json")).await;
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(document["hitParsingResult"][0]["valid"], false);
    let messages = document["hitParsingResult"][0]["parserMessage"].as_array().unwrap();
    let errors = messages.iter().filter(|message| message["messageType"] == "ERROR");
    assert_eq!(errors.map(|message| &message["parameter"]).collect::<Vec<_>>(), ["cid", "dl"], "{document}");
    assert_eq!(document["parserMessage"][0]["description"], "Found 1 hit in the request.");
    let answer = invoke(&app, &request("GET", "/debug/collect", HIT, "", &[])).await;
    let document: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(document["hitParsingResult"][0]["valid"], true);
    assert_eq!(stream.state().calls, 0);
}

#[tokio::test]
async fn cors_headers_allow_the_configured_origins() {
    let stream = Stream::default();
    let all = stream.app(&[]).await;
    let some = stream.app(&[("ALLOWED_ORIGINS", "https://shop.example"), ("CORS_MAX_AGE_SECONDS", "60")]).await;
    let preflight = invoke(&all, &file("collect-preflight.json")).await;
    assert_eq!(
        (preflight.status_code, header(&preflight, "Access-Control-Allow-Origin")),
        (204, Some("https://shop.example")),
        "sendBeacon sends credentials, and with them a browser does not accept *"
    );
    assert_eq!(header(&preflight, "Access-Control-Allow-Credentials"), Some("true"));
    let nobody = invoke(&all, &request("POST", "/collect", "", HIT, &[])).await;
    assert_eq!(header(&nobody, "Access-Control-Allow-Origin"), Some("*"));
    assert_eq!(header(&nobody, "Access-Control-Allow-Credentials"), None, "never with *");
    assert_eq!(header(&preflight, "Access-Control-Max-Age"), Some("3600"));
    let preflight = invoke(&some, &file("collect-preflight.json")).await;
    assert_eq!(header(&preflight, "Access-Control-Allow-Origin"), Some("https://shop.example"));
    assert_eq!(header(&preflight, "Access-Control-Allow-Credentials"), Some("true"));
    assert_eq!(
        (header(&preflight, "Access-Control-Max-Age"), header(&preflight, "Vary")),
        (Some("60"), Some("Origin"))
    );
    let stranger = request("POST", "/collect", "", HIT, &[("origin", "https://evil.example")]);
    let answer = invoke(&some, &stranger).await;
    assert_eq!((answer.status_code, header(&answer, "Access-Control-Allow-Origin")), (200, None));
    assert_eq!(invoke(&all, &request("GET", "/health", "", "", &[])).await.status_code, 204);
    assert_eq!(invoke(&all, &file("collect-alb-health.json")).await.status_code, 204);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_throttling_stream_every_200_is_stored_and_every_503_can_be_retried() {
    let stream = Stream::default();
    stream.state().health = Health::Throttling;
    let app = Arc::new(stream.app(&[("DELIVERY_MAX_MS", "400")]).await);
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..16 {
        let app = app.clone();
        clients.spawn(async move {
            let mut answers = BTreeMap::new();
            for hit in 0..625 {
                let z = format!("{client}-{hit}");
                let body = format!("v=1&tid=UA-XXXXX-1&cid={client}&t=event&ec=a&ea=b&z={z}");
                let answer = invoke(&app, &request("POST", "/collect", "", &body, &[])).await;
                if answer.status_code == 503 {
                    assert_eq!(header(&answer, "Retry-After"), Some("1"));
                }
                answers.insert(z, answer.status_code);
            }
            answers
        });
    }
    let answers: BTreeMap<String, u16> = clients.join_all().await.into_iter().flatten().collect();
    assert_eq!(answers.len(), 10_000);
    let stored: Vec<Value> = stream.events();
    let ids: BTreeSet<&str> = stored.iter().map(|event| event["request"]["id"].as_str().unwrap()).collect();
    let accepted: BTreeSet<&str> =
        answers.iter().filter(|(_, status)| **status == 200).map(|(z, _)| z.as_str()).collect();
    assert!(answers.values().all(|status| matches!(status, 200 | 503)));
    assert!(accepted.is_subset(&ids), "a 200 is not in the stream");
    assert_eq!(stored.len(), ids.len(), "a rejected record is not stored twice");
    assert!(accepted.len() > 9_900, "{} of 10,000 were accepted", accepted.len());
}

#[tokio::test]
async fn with_the_stream_down_nothing_is_acknowledged() {
    let stream = Stream::default();
    stream.state().health = Health::Down;
    let app = stream.app(&[("DELIVERY_MAX_MS", "100")]).await;
    for event in [file("collect-json.json"), file("collect-beacon.json"), file("collect-batch.json")] {
        let answer = invoke(&app, &event).await;
        assert_eq!((answer.status_code, header(&answer, "Retry-After")), (503, Some("1")));
    }
    assert_eq!(stream.events().len(), 0);
}

const OVERFLOW: (&str, &str) = ("OVERFLOW_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/123456789012/overflow");

/// What the overflow holds, delivered as Lambda delivers it. Returns the ids of the messages that stay.
async fn deliver(app: &App, bodies: &[String]) -> Vec<String> {
    let mut event = file("collect-overflow.json");
    let template = event["Records"][0].clone();
    let records = bodies.iter().enumerate().map(|(id, body)| {
        let mut record = template.clone();
        record["messageId"] = json!(id.to_string());
        record["body"] = json!(body);
        record
    });
    event["Records"] = records.collect();
    let deadline = u64::try_from(clock::unix_ms()).unwrap() + 10_000;
    match dispatch(app, Bytes::from(event.to_string()), deadline).await.unwrap() {
        Response::Batch(response) => {
            response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
        }
        Response::Answer(answer) => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn with_the_stream_down_hits_wait_in_the_overflow_and_none_is_lost() {
    let stream = Stream::default();
    stream.state().health = Health::Down;
    let app = stream.app(&[("DELIVERY_MAX_MS", "200"), OVERFLOW]).await;
    for z in 0..2_000 {
        let body = HIT.replace("z=1", &format!("z={z}"));
        let answer = invoke(&app, &request("POST", "/collect", "", &body, &[])).await;
        assert_eq!(answer.status_code, 200);
    }
    let batch = invoke(&app, &file("collect-batch.json")).await;
    assert_eq!(batch.status_code, 200, "one of its hits is invalid: {}", batch.body);
    let calls = stream.state().calls;
    let queued = std::mem::take(&mut stream.state().queue);
    assert_eq!(queued.len(), 2_004);
    assert!(calls < 100, "{calls} calls of a stream that is down");
    // Nothing gets through, and nothing leaves the queue.
    assert_eq!(deliver(&app, &queued[..10]).await.len(), 10);
    stream.state().health = Health::Well;
    for bodies in queued.chunks(100) {
        assert_eq!(deliver(&app, bodies).await, Vec::<String>::new());
    }
    let events = stream.events();
    let ids: BTreeSet<&str> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!((events.len(), ids.len()), (2_004, 2_004));
    // The same bytes under the same keys as without an outage.
    let known = Stream::default();
    invoke(&known.app(&[]).await, &file("collect-batch.json")).await;
    assert_eq!(known.state().records, stream.state().records[2_000..]);
}

/// As long as an outage of half an hour at 200 requests a second, but as fast as the handler goes: `-- --ignored thirty_minutes`.
#[tokio::test]
#[ignore = "takes minutes"]
async fn thirty_minutes_without_the_stream_lose_no_hit() {
    const REQUESTS: usize = 30 * 60 * 200;
    let stream = Stream::default();
    stream.state().health = Health::Down;
    let app = stream.app(&[("DELIVERY_MAX_MS", "200"), OVERFLOW]).await;
    for z in 0..REQUESTS {
        let body = HIT.replace("z=1", &format!("z={z}"));
        let answer = invoke(&app, &request("POST", "/collect", "", &body, &[])).await;
        assert_eq!(answer.status_code, 200);
    }
    let queued = std::mem::take(&mut stream.state().queue);
    assert_eq!((queued.len(), stream.events().len()), (REQUESTS, 0));
    stream.state().health = Health::Well;
    for bodies in queued.chunks(100) {
        assert_eq!(deliver(&app, bodies).await, Vec::<String>::new());
    }
    let ids: BTreeSet<String> =
        stream.events().iter().map(|event| event["request"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), REQUESTS);
}

#[tokio::test]
async fn what_a_throttling_stream_does_not_take_goes_to_the_overflow() {
    let stream = Stream::default();
    stream.state().health = Health::Throttling;
    let app = stream.app(&[("DELIVERY_MAX_MS", "100"), OVERFLOW]).await;
    let body = (0..20).map(|z| HIT.replace("z=1", &format!("z={z}"))).collect::<Vec<_>>().join("\n");
    for _ in 0..10 {
        assert_eq!(invoke(&app, &request("POST", "/batch", "", &body, &[])).await.status_code, 200);
    }
    let state = stream.state();
    assert!(!state.queue.is_empty());
    assert_eq!(state.records.len() + state.queue.len(), 200, "each hit is in one of the two");
}

#[tokio::test]
async fn with_both_down_the_client_is_told_to_retry() {
    let stream = Stream::default();
    stream.state().health = Health::Down;
    stream.state().is_queue_down = true;
    let app = stream.app(&[("DELIVERY_MAX_MS", "200"), OVERFLOW]).await;
    for _ in 0..2 {
        let answer = invoke(&app, &file("collect-form.json")).await;
        assert_eq!((answer.status_code, header(&answer, "Retry-After")), (503, Some("1")));
    }
    stream.state().health = Health::Well;
    assert_eq!(invoke(&app, &file("collect-form.json")).await.status_code, 200, "the stream is tried again at once");
    assert_eq!((stream.events().len(), stream.state().queue.len()), (1, 0));
}

#[tokio::test]
async fn one_foreign_message_of_the_overflow_does_not_fail_its_neighbours() {
    let stream = Stream::default();
    let app = stream.app(&[OVERFLOW]).await;
    let event = file("collect-overflow.json");
    let deadline = u64::try_from(clock::unix_ms()).unwrap() + 10_000;
    let response = dispatch(&app, Bytes::from(event.to_string()), deadline).await.unwrap();
    let expected = json!({"batchItemFailures": [{"itemIdentifier": event["Records"][1]["messageId"]}]});
    assert_eq!(serde_json::to_value(&response).unwrap(), expected);
    assert_eq!(stream.events().len(), 1);
    // Half of the messages are throttled: only these come again.
    stream.state().health = Health::Throttling;
    let bodies = vec![event["Records"][0]["body"].as_str().unwrap().to_owned(); 20];
    assert_eq!(deliver(&app, &bodies).await, Vec::<String>::new(), "there is time to try again");
    assert_eq!(stream.events().len(), 21);
    // A request is answered by the same entry.
    let request = Bytes::from(file("collect-form.json").to_string());
    assert!(
        matches!(dispatch(&app, request, deadline).await, Ok(Response::Answer(answer)) if answer.status_code == 200)
    );
}

#[tokio::test]
async fn visitors_who_opt_out_are_anonymised() {
    let opt_out = [("sec-gpc", "1"), ("x-forwarded-for", "198.51.100.23"), ("cf-connecting-ip", "198.51.100.23")];
    let body = format!("{HIT}&uid=user-4711&uip=203.0.113.9&dr=https%3A%2F%2Fa.example%2F%3Femail%3Da%40b.example");
    for (policy, address, client) in
        [("anonymise", "203.0.113.0", json!("555")), ("drop-id", "203.0.113.0", json!(null))]
    {
        let stream = Stream::default();
        let app = stream.app(&[("OPT_OUT", policy)]).await;
        invoke(&app, &request("POST", "/collect", "", &body, &opt_out)).await;
        let event = &stream.events()[0];
        assert_eq!((&event["context"]["user_ip"], &event["context"]["client_id"]), (&json!(address), &client));
        let line = event.to_string();
        for personal in ["user-4711", "203.0.113.9", "198.51.100.23", "a@b.example", "a%40b.example"] {
            assert!(!line.contains(personal), "{personal} is in {line}");
        }
        assert_eq!(event["privacy"]["anonymised"], true);
    }
    let stream = Stream::default();
    let app = stream.app(&[("OPT_OUT", "ignore")]).await;
    invoke(&app, &request("POST", "/collect", "", &body, &opt_out)).await;
    assert_eq!(stream.events()[0]["context"]["user_id"], "user-4711");
    invoke(&app, &request("POST", "/collect", "", &format!("{body}&aip=1"), &[])).await;
    assert_eq!(stream.events()[1]["context"]["user_id"], Value::Null, "aip counts under every policy");
}

/// Everything that is stored and answered, whatever the visitor's client speaks and however broken it is, has nothing of a visitor
/// who opts out.
#[tokio::test]
async fn nothing_of_visitors_who_opt_out_is_stored_or_answered() {
    const SECRETS: [&str; 10] = [
        "203.0.113.77",
        "198.51.100.23",
        "2001:db8:7:8::9",
        "client-4711",
        "user-471199",
        "jo@mail.example",
        "5ecret77",
        "click-4711",
        "click-4712",
        "0123456789abcdef0123456789abcdef",
    ];
    let page = "https%3A%2F%2Fa.example%2F%3Fmail%3Djo%40mail.example%26token%3D5ecret77%26u%3Duser-471199\
        %26gclid%3Dclick-4711%26utm_source%3Djo%2540mail.example%26utm_medium%3Duser-471199%26utm_term%3Dtoken%253D5ecret77";
    let ids = "cid=client-4711&uid=user-471199&uip=203.0.113.77&cd1=seen+198.51.100.23+2001:db8:7:8::9&cd2=client-4711\
        &cs=jo@mail.example&cn=203.0.113.77&ck=client-4711&cc=click-4711&ci=user-471199&fbclid=click-4712\
        &dr=https%3A%2F%2F198.51.100.23%2F%3Fmsclkid%3Dclick-4712&uap=user-471199&uam=203.0.113.77&uafvl=jo@mail.example%3B1";
    let v1 = format!("v=1&tid=UA-12345-1&t=pageview&dl={page}&{ids}");
    let ga4 = format!(
        "v=2&tid=G-1&en=page_view&dl={page}&sid=client-4711&ep.user=user-471199&em=tv.1~user-471199&_uip=203.0.113.77&{ids}"
    );
    let payload = json!({
        "client_id": "client-4711", "user_id": "user-471199", "ip_override": "203.0.113.77", "user_data": {"sha256_email_address": "user-471199"},
        "user_properties": {"mail": {"value": "jo@mail.example"}, "token": {"value": "5ecret77"}},
        "events": [{"name": "a", "params": {"page_location": "https://a.example/?key=5ecret77&u=user-471199&gclid=click-4711", "source": "user-471199", "gclid": "click-4711", "items": [{"item_id": "client-4711"}]}}],
    });
    let denied = |consent: Value| {
        let mut payload = payload.clone();
        payload["consent"] = consent;
        payload.to_string()
    };
    let no = ("sec-gpc", "1");
    let cases = [
        ("/collect", v1.clone(), no),
        ("/collect", format!("{v1}&dt=100%"), no),
        ("/collect", format!("{v1}&t=event"), ("dnt", "1")),
        ("/batch", format!("{v1}\n{v1}&dt={}", "a".repeat(9_000)), no),
        ("/batch", format!("{v1}\n").repeat(21), no),
        ("/collect", json!({"cid": "client-4711", "uid": "user-471199", "more": {"ip": "198.51.100.23", "mail": "jo@mail.example"}}).to_string(), no),
        ("/collect", r#"{"cid": "client-4711", "mail": "jo@mail.example", "#.to_owned(), no),
        ("/g/collect", ga4.clone(), no),
        ("/g/collect", format!("{ga4}&gcs=G100"), ("accept", "*/*")),
        ("/g/collect", format!("{ga4}&gcd=13q3q3q3q5"), ("accept", "*/*")),
        ("/mp/collect", payload.to_string(), no),
        ("/mp/collect", denied(json!({"ad_user_data": "DENIED"})), ("accept", "*/*")),
        ("/mp/collect", payload.to_string().replace("\"events\"", "\"event\""), no),
    ];
    let stream = Stream::default();
    let app = stream
        .app(&[
            ("OPT_OUT", "drop-id"),
            ("STORE_HEADERS", "x-shop-user"),
            ("TRUSTED_PROXIES", "1"),
            ("COOKIE_DAYS", "30"),
        ])
        .await;
    for (path, body, opt_out) in &cases {
        let headers = [
            *opt_out,
            ("x-forwarded-for", "2001:db8:7:8::9, 203.0.113.77, 198.51.100.23"),
            ("forwarded", "for=203.0.113.77"),
            ("referer", "https://a.example/?mail=jo@mail.example&u=user-471199&token=5ecret77"),
            ("x-shop-user", "user-471199"),
            ("sec-ch-ua-model", "\"jo@mail.example\""),
            ("cookie", "id=client-4711; collect_id=0123456789abcdef0123456789abcdef"),
        ];
        let query = "measurement_id=G-1&api_secret=5ecret77";
        let answer = invoke(&app, &request("POST", path, query, body, &headers)).await;
        let stored = stream.events();
        for secret in SECRETS {
            assert!(!answer.body.contains(secret), "{secret} is in the answer to {path} {body}");
            assert!(
                !stored.iter().any(|event| event.to_string().contains(secret)),
                "{secret} is stored of {path} {body}"
            );
        }
        assert!(stored.iter().all(|event| event["privacy"]["anonymised"] == true), "{path} {body}");
    }
    assert_eq!(stream.events().len(), cases.len() + 1, "and nothing is dropped");
    assert!(stream.state().records.iter().all(|(key, _)| !SECRETS.contains(&&**key)));
}

#[tokio::test]
async fn a_visitor_gets_a_cookie_if_it_is_on_and_nobody_opted_out() {
    let stream = Stream::default();
    let app = stream.app(&[("COOKIE_DAYS", "30")]).await;
    let mut event = request("POST", "/collect", "", HIT, &[]);
    let answer = invoke(&app, &event).await;
    let [cookie] = &answer.cookies[..] else { panic!("{answer:?}") };
    let (id, rest) = cookie.strip_prefix("collect_id=").unwrap().split_once(';').unwrap();
    assert_eq!(rest, " Max-Age=2592000; Path=/; HttpOnly; Secure; SameSite=Lax");
    event["cookies"] = json!([format!("collect_id={id}")]);
    assert!(invoke(&app, &event).await.cookies.is_empty(), "it lives as long as it was said");
    event["headers"]["sec-gpc"] = json!("1");
    let gone = invoke(&app, &event).await.cookies;
    assert!(gone[0].starts_with("collect_id=; Max-Age=0;"), "{gone:?}");
    event["cookies"] = json!(null);
    assert!(invoke(&app, &event).await.cookies.is_empty());
    let ids: Vec<Value> = stream.events().iter().map(|event| event["visitor_id"].clone()).collect();
    assert_eq!(ids, [json!(id), json!(id), Value::Null, Value::Null]);
    let new: Vec<Value> = stream.events().iter().map(|event| event["visitor_is_new"].clone()).collect();
    assert_eq!(new, [json!(true), json!(false), Value::Null, Value::Null]);
    assert!(!stream.events().iter().any(|event| event.to_string().contains("collect_id")), "the header is not stored");
    assert_eq!(stream.events()[0]["event_id"], stream.events()[1]["event_id"], "and is no part of the hit");

    for file_name in ["collect-rest.json", "collect-alb.json"] {
        let answer = invoke(&app, &file(file_name)).await;
        assert!(header(&answer, "Set-Cookie").is_some_and(|cookie| cookie.contains("HttpOnly")), "{file_name}");
        assert!(answer.cookies.is_empty(), "{file_name}");
    }
    stream.state().health = Health::Down;
    let unavailable = invoke(&app, &request("POST", "/collect", "", HIT, &[])).await;
    assert_eq!((unavailable.status_code, unavailable.cookies.len()), (503, 1), "the retry brings it");
    let off = invoke(&Stream::default().app(&[]).await, &request("POST", "/collect", "", HIT, &[])).await;
    assert!(off.cookies.is_empty());
}

#[tokio::test]
async fn an_id_that_no_answer_gives_is_not_stored() {
    const KNOWN: &str = "0123456789abcdef0123456789abcdef";
    let stream = Stream::default();
    let app = stream.app(&[("COOKIE_DAYS", "30")]).await;
    let batch = format!("{HIT}\n{HIT}&aip=1");
    let cases = [
        // A hit that is rejected alone, a request that is refused, and a batch of which one hit opts out.
        ("/collect", "v=1&t=pageview", [None, Some(KNOWN)], 0),
        ("/collect", "{", [None, Some(KNOWN)], 0),
        ("/batch", &batch, [None, Some(KNOWN)], 1),
        ("/collect", "v=1&t=pageview&aip=1", [None, None], 1),
    ];
    for (path, body, expected, gone) in cases {
        for (cookies, id) in [json!(null), json!([format!("collect_id={KNOWN}")])].into_iter().zip(expected) {
            let before = stream.events().len();
            let mut event = request("POST", path, "", body, &[]);
            event["cookies"] = cookies;
            let given = invoke(&app, &event).await.cookies;
            let stored = &stream.events()[before..];
            assert_eq!(stored[0].get("visitor_id").and_then(Value::as_str), id, "{body}");
            let is_known = !event["cookies"].is_null();
            assert_eq!(given.len(), if is_known { gone } else { 0 }, "{body}: {given:?}");
            assert!(given.iter().all(|cookie| cookie.contains("Max-Age=0")), "{body}: {given:?}");
        }
    }
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_when_to_come_back() {
    let stream = Stream::default();
    stream.state().health = Health::Down;
    let app = stream.app(&[("DELIVERY_MAX_MS", "100")]).await;
    let answer = invoke(&app, &request("POST", "/collect", "", HIT, &[("origin", "https://shop.example")])).await;
    assert_eq!((answer.status_code, header(&answer, "Retry-After")), (503, Some("1")));
    assert_eq!(header(&answer, "Access-Control-Expose-Headers"), Some("Retry-After"));
    assert_eq!(header(&answer, "Access-Control-Allow-Origin"), Some("https://shop.example"));
}

#[tokio::test]
async fn settings_say_who_is_asked_and_what_is_trusted() {
    let stream = Stream::default();
    let variables =
        [("SITE_POLICIES", "UA-1-1=ignore,UA-2-2=drop-id"), ("TRUSTED_PROXIES", "1"), ("STORE_HEADERS", "x-shop-lane")];
    let app = stream.app(&variables).await;
    let headers = [
        ("dnt", "1"),
        ("x-forwarded-for", "6.6.6.6, 203.0.113.77, 198.51.100.23"),
        ("x-shop-lane", "b?token=5ecret77"),
    ];
    for site in ["UA-1-1", "UA-2-2", "UA-3-3"] {
        invoke(&app, &request("POST", "/collect", "", &HIT.replace("UA-XXXXX-1", site), &headers)).await;
    }
    let [open, dropped, anonymised] = &stream.events()[..] else { panic!("three") };
    assert_eq!((&open["context"]["user_ip"], &open["context"]["client_id"]), (&json!("203.0.113.77"), &json!("555")));
    assert_eq!(open["request"]["headers"]["x-shop-lane"], "b?token=[redacted]");
    for (event, client) in [(dropped, Value::Null), (anonymised, json!("555"))] {
        assert_eq!((&event["context"]["user_ip"], &event["context"]["client_id"]), (&json!("203.0.113.0"), &client));
        assert_eq!(event["request"]["headers"].get("x-shop-lane"), None);
    }
}

/// As with a local stack: the address of client and server is the same.
#[tokio::test]
async fn opting_out_does_not_change_the_host_that_a_client_on_the_same_machine_used() {
    let stream = Stream::default();
    let headers =
        [("dnt", "1"), ("host", "198.51.100.23"), ("origin", "http://198.51.100.23"), ("x-real-ip", "198.51.100.23")];
    invoke(&stream.app(&[]).await, &request("POST", "/collect", "", HIT, &headers)).await;
    let event = &stream.events()[0];
    assert_eq!(event["context"]["user_ip"], "198.51.100.0");
    let stored = &event["request"]["headers"];
    assert_eq!((&stored["host"], &stored["origin"]), (&json!("198.51.100.23"), &json!("http://198.51.100.23")));
    assert_eq!(stored["x-real-ip"], "198.51.100.0");
}

/// Proxies that sign visitors in add headers like these.
#[tokio::test]
async fn headers_that_nobody_listed_are_not_stored() {
    let stream = Stream::default();
    let unlisted = [
        "cf-access-jwt-assertion",
        "cf-access-authenticated-user-email",
        "x-forwarded-email",
        "x-forwarded-user",
        "x-goog-authenticated-user-email",
        "x-amzn-oidc-identity",
        "cookie",
        "authorization",
        "x-ms-client-principal-name",
    ];
    let mut headers: Vec<_> = unlisted.iter().map(|name| (*name, "ann@shop.example")).collect();
    headers.extend([("sec-ch-ua-model", "Pixel 9"), ("accept-language", "en")]);
    for body in [HIT.to_owned(), format!("{HIT}&aip=1")] {
        invoke(&stream.app(&[]).await, &request("POST", "/collect", "", &body, &headers)).await;
    }
    for event in stream.events() {
        assert!(!event.to_string().contains("ann@"), "{event}");
        let stored = &event["request"]["headers"];
        assert_eq!((&stored["sec-ch-ua-model"], &stored["accept-language"]), (&json!("Pixel 9"), &json!("en")));
    }
}

#[test]
fn every_statement_of_its_role_is_used() {
    the_same_hit_has_the_same_event_id();
    with_both_down_the_client_is_told_to_retry();
    roles::collect().assert_everything_is_used();
}

#[tokio::test]
async fn the_same_hit_has_the_same_event_id() {
    let stream = Stream::default();
    let app = stream.app(&[]).await;
    for _ in 0..2 {
        invoke(&app, &file("collect-json.json")).await;
    }
    invoke(&app, &file("collect-beacon.json")).await;
    let ids: Vec<Value> = stream.events().iter().map(|event| event["event_id"].clone()).collect();
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[0], ids[2]);
}

#[tokio::test]
async fn an_event_that_is_not_a_request_is_an_error() {
    let stream = Stream::default();
    let app = stream.app(&[]).await;
    let error = handle(&app, Bytes::from_static(b"{\"Records\": []}"), 0).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the event is not a request from API Gateway, a function URL or a load balancer: it has no requestContext"
    );
}

/// A line of `tests/golden/collect.ndjson`.
#[derive(Deserialize)]
struct Recorded {
    name: String,
    event: Box<RawValue>,
}

/// A line of `tests/golden/collect.expected.ndjson`.
#[derive(Serialize)]
struct Made {
    name: String,
    answer: Answer,
    records: Vec<Record>,
}

#[derive(Serialize)]
struct Record {
    partition_key: String,
    /// As in the stream, without the newline.
    data: Box<RawValue>,
}

/// The hits in a request, counted by the shape of its body. What cannot be read is one.
fn sent(event: &[u8]) -> usize {
    let event: Value = serde_json::from_slice(event).unwrap();
    let path = event["rawPath"].as_str().or(event["path"].as_str()).unwrap();
    let method = event["requestContext"]["http"]["method"].as_str().or(event["httpMethod"].as_str()).unwrap();
    let is_hit = matches!(
        (method, path),
        ("GET" | "HEAD", "/collect") | ("POST", "/collect" | "/batch" | "/mp/collect") | ("GET" | "POST", "/g/collect")
    );
    if !is_hit {
        return 0;
    }
    let text = event["body"].as_str().unwrap_or_default();
    let bytes = match event["isBase64Encoded"].as_bool() {
        Some(true) => base64_simd::STANDARD.decode_to_vec(text).unwrap_or_default(),
        _ => text.as_bytes().to_vec(),
    };
    let is_empty = text.is_empty() && event["rawQueryString"].as_str().unwrap_or_default().is_empty();
    if path == "/mp/collect" {
        let payload: Value = serde_json::from_slice(&bytes).unwrap();
        return payload["events"].as_array().map_or(1, Vec::len);
    }
    match serde_json::from_slice::<Vec<&RawValue>>(&bytes) {
        Ok(hits) => hits.len(),
        Err(_) if path == "/batch" || (path == "/g/collect" && !bytes.is_empty()) => {
            match bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() {
                lines @ 0..=20 => lines,
                _ => 1,
            }
        }
        Err(_) => usize::from(!is_empty || event["multiValueQueryStringParameters"].is_object()),
    }
}

/// Names and values of a form, as a browser reads them.
fn form(text: &str) -> BTreeMap<String, Value> {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        percent_encoding::percent_decode_str(&text).decode_utf8().unwrap().into_owned()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decoded(name), json!(decoded(value)))).collect()
}

/// What a client of GA4 sent, event by event, under the names that the README gives.
fn wire(event: &Value) -> Vec<BTreeMap<String, Value>> {
    let mut query = form(event["rawQueryString"].as_str().unwrap());
    let body = event["body"].as_str().unwrap_or_default();
    if event["rawPath"] == "/g/collect" {
        let lines = body.lines().filter(|line| !line.is_empty()).chain(body.is_empty().then_some(""));
        return lines.map(|line| query.clone().into_iter().chain(form(line)).collect()).collect();
    }
    query.remove("api_secret");
    let mut shared = BTreeMap::from([("tid".to_owned(), query.remove("measurement_id").unwrap())]);
    let payload: BTreeMap<String, Value> = serde_json::from_str(body).unwrap();
    let typed =
        |kind: &str, name: &str, value: &Value| format!("{kind}{}.{name}", if value.is_number() { "n" } else { "" });
    for (name, value) in &payload {
        match name.as_str() {
            "events" => {}
            "client_id" => drop(shared.insert("cid".into(), value.clone())),
            "user_properties" => {
                shared.extend(
                    value
                        .as_object()
                        .unwrap()
                        .iter()
                        .map(|(name, property)| (typed("up", name, &property["value"]), property["value"].clone())),
                );
            }
            _ => drop(shared.insert(name.clone(), value.clone())),
        }
    }
    let events = payload["events"].as_array().cloned().unwrap_or_else(|| vec![payload["events"].clone()]);
    let names = BTreeMap::from([
        ("currency", "cu"),
        ("session_id", "sid"),
        ("engagement_time_msec", "_et"),
        ("items", "items"),
    ]);
    let of_event = |event: &Value| {
        let mut sent = shared.clone();
        sent.insert("en".to_owned(), event["name"].clone());
        sent.extend(event["params"].as_object().into_iter().flatten().map(|(name, value)| {
            (
                names.get(name.as_str()).map_or_else(|| typed("ep", name, value), |name| (*name).to_owned()),
                value.clone(),
            )
        }));
        sent
    };
    events.iter().map(of_event).collect()
}

/// Requests of clients from npm and the Python index, unmodified, as they were on the wire.
#[tokio::test]
async fn what_clients_of_ga4_sent_equals_what_is_stored() {
    let mut clients = BTreeMap::<String, usize>::new();
    for line in fs::read_to_string(root().join("tests/golden/collect.ndjson")).unwrap().lines() {
        let Recorded { name, event } = serde_json::from_str(line).unwrap();
        let event: Value = serde_json::from_str(event.get()).unwrap();
        if !matches!(event["rawPath"].as_str(), Some("/g/collect" | "/mp/collect")) {
            continue;
        }
        let stream = Stream::default();
        let answer = invoke(&stream.app(&[]).await, &event).await;
        assert_eq!(answer.status_code, 204, "{name}: {}", answer.body);
        let stored: Vec<BTreeMap<String, Value>> = stream
            .events()
            .iter()
            .map(|event| serde_json::from_value(event["request"]["body"].clone()).unwrap())
            .collect();
        assert_eq!(stored, wire(&event), "{name}");
        if event["body"].as_str().unwrap_or_default().contains("item_id")
            || event["rawQueryString"].as_str().unwrap().contains("pr1=")
        {
            assert!(
                stream.events()[0]["products"][0]["id"].is_string(),
                "{name}: {:?}",
                stream.events()[0]["products"]
            );
        }
        *clients.entry(name.split(':').next().unwrap().to_owned()).or_default() += stored.len();
    }
    let expected = [
        ("@analytics-debugger/ga4mp", 2),
        ("@minimal-analytics/ga4", 2),
        ("a payload of GA4", 2),
        ("electron-google-analytics4", 1),
        ("ga4mp for Python", 3),
        ("gtag.js", 2),
    ];
    assert_eq!(clients, expected.map(|(client, events)| (client.to_owned(), events)).into());
}

/// The requests of npm clients, curl and Chromium were recorded as events of the local stack's API, with another address and
/// time. `LANDFALL_RECORD=1` writes the expected file anew.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "set by hand to record the expected file")]
async fn recorded_requests_give_the_same_bytes_as_before() {
    let golden = root().join("tests/golden");
    let mut made = String::new();
    let mut hits = 0;
    for line in fs::read_to_string(golden.join("collect.ndjson")).unwrap().lines() {
        let Recorded { name, event } = serde_json::from_str(line).unwrap();
        let stream = Stream::default();
        let deadline = u64::try_from(clock::unix_ms()).unwrap() + 10_000;
        let event = Bytes::from(event.get().to_owned());
        let sent = sent(&event);
        let answer = handle(&stream.app(&[]).await, event, deadline).await.unwrap();
        assert_eq!(stream.events().len(), sent, "{name}: every hit is in the stream, accepted or rejected");
        hits += sent;
        let records = std::mem::take(&mut stream.state().records);
        let records = records.into_iter().map(|(partition_key, line)| Record {
            partition_key,
            data: RawValue::from_string(line.strip_suffix('\n').unwrap().to_owned()).unwrap(),
        });
        let records = records.collect();
        made += &serde_json::to_string(&Made { name, answer, records }).unwrap();
        made.push('\n');
    }
    let path = golden.join("collect.expected.ndjson");
    if std::env::var("LANDFALL_RECORD").is_ok() {
        fs::write(path, made).unwrap();
        panic!("recorded; review the difference and run the test again without LANDFALL_RECORD");
    }
    let expected = fs::read_to_string(path).unwrap();
    assert!(made.lines().count() >= 25 && hits >= 41, "{hits} hits");
    assert_eq!(made.lines().count(), expected.lines().count());
    for (made, expected) in made.lines().zip(expected.lines()) {
        assert_eq!(made, expected);
    }
}
