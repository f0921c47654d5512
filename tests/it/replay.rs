//! `landfall replay` against the running emulator, with queues and a bucket of each test's own.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::{
    primitives::Blob,
    types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry},
};
use aws_smithy_types::retry::RetryConfig;
use kit::{
    http::{self, Reply},
    output::{Captured, Ended},
};
use landfall::{
    Cli,
    clients::Clients,
    console::Console,
    context::{Context, Pace},
};
use landing::batch::Batch;
use runtime::aws;
use serde_json::{Value, json, value::to_raw_value};
use shared::{
    event::Registry,
    layout::{ContentId, Day, QuarantineKey},
    quarantine::{QuarantineRecord, base64, rfc3339, to_ndjson},
};

use crate::{
    events::{self, Sent},
    parquet_writer::Function,
    stack::Stack,
};

/// 2026-11-20T14:11:46.123Z.
const SENT_MS: i64 = 1_795_183_906_123;
const DAY_MS: i64 = 86_400_000;

/// A message as a test compares it: body, and attribute → type and bytes.
type Message = (String, BTreeMap<String, (String, Vec<u8>)>);

/// Two queues and a bucket that nobody else uses.
struct Place {
    config: SdkConfig,
    clients: Clients,
    dead: String,
    events: String,
    bucket: String,
}

impl Place {
    async fn new() -> Self {
        let config = Stack::deployed().config().await;
        let clients = Clients::of(&config);
        let name = format!("replay-{:016x}", RandomState::new().build_hasher().finish());
        let mut urls = Vec::new();
        for queue in [format!("{name}-dead"), format!("{name}-events")] {
            let request = clients.sqs.create_queue().queue_name(queue);
            let created = request.attributes(QueueAttributeName::VisibilityTimeout, "600").send().await.unwrap();
            urls.push(created.queue_url.unwrap());
        }
        clients.s3.create_bucket().bucket(&name).send().await.unwrap();
        let (events, dead) = (urls.pop().unwrap(), urls.pop().unwrap());
        Self { config, clients, dead, events, bucket: name }
    }

    async fn run(&self, arguments: &[&str]) -> Ended {
        self.run_with(self.clients.clone(), arguments).await
    }

    async fn run_with(&self, clients: Clients, arguments: &[&str]) -> Ended {
        let pace = Pace {
            wait_seconds: 0,
            receivers: 4,
            empty_timeout: Duration::from_millis(300),
            visibility_timeout_seconds: 60,
        };
        let (out, err) = (Captured::default(), Captured::default());
        let mut console = Console::of(out.clone(), err.clone());
        let cli = Cli::try_parse_args(arguments).unwrap();
        let exit = landfall::run(&cli, &Context { pace, ..Context::new(clients) }, &mut console).await;
        Ended { code: exit.code(), out: out.text(), err: err.text() }
    }

    async fn replay_dlq(&self, more: &[&str]) -> Ended {
        let always = ["replay", "dlq", "--json", "--from", &self.dead, "--to", &self.events];
        self.run(&[&always, more].concat()).await
    }

    async fn replay_quarantine(&self, more: &[&str]) -> Ended {
        self.replay_quarantine_with(self.clients.clone(), more).await
    }

    async fn replay_quarantine_with(&self, clients: Clients, more: &[&str]) -> Ended {
        let always = ["replay", "quarantine", "--json", "--bucket", &self.bucket, "--to", &self.events];
        self.run_with(clients, &[&always, more].concat()).await
    }

    async fn send(&self, queue: &str, messages: &[Message]) {
        for messages in messages.chunks(10) {
            let entries = messages.iter().enumerate().map(|(position, (body, attributes))| {
                let attributes = attributes.iter().map(|(name, (data_type, bytes))| {
                    let value = MessageAttributeValue::builder().data_type(data_type);
                    let value = if data_type.starts_with("Binary") {
                        value.binary_value(Blob::new(bytes.clone()))
                    } else {
                        value.string_value(String::from_utf8(bytes.clone()).unwrap())
                    };
                    (name.clone(), value.build().unwrap())
                });
                let entry = SendMessageBatchRequestEntry::builder().id(position.to_string()).message_body(body);
                entry.set_message_attributes(Some(attributes.collect())).build().unwrap()
            });
            let request = self.clients.sqs.send_message_batch().queue_url(queue);
            let answer = request.set_entries(Some(entries.collect())).send().await.unwrap();
            assert_eq!(answer.failed(), []);
        }
    }

    /// Takes everything that can be received, sorted.
    async fn take(&self, queue: &str) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            let request = self.clients.sqs.receive_message().queue_url(queue).max_number_of_messages(10);
            let received = request.message_attribute_names("All").send().await.unwrap().messages.unwrap_or_default();
            if received.is_empty() {
                all.sort();
                return all;
            }
            for message in received {
                let attributes = message.message_attributes.unwrap_or_default().into_iter().map(|(name, value)| {
                    let text = value.string_value().map(|text| text.as_bytes().to_vec());
                    let bytes = text.or(value.binary_value().map(|bytes| bytes.as_ref().to_vec()));
                    (name, (value.data_type().to_owned(), bytes.unwrap()))
                });
                all.push((message.body.unwrap(), attributes.collect()));
                let handle = message.receipt_handle.unwrap();
                self.clients.sqs.delete_message().queue_url(queue).receipt_handle(handle).send().await.unwrap();
            }
        }
    }

    async fn put(&self, key: &str, body: impl AsRef<[u8]>) {
        let body = ByteStream::from(body.as_ref().to_vec());
        self.clients.s3.put_object().bucket(&self.bucket).key(key).body(body).send().await.unwrap();
    }

    /// Quarantines records of one day, as a function does.
    async fn quarantine(&self, mut records: Vec<QuarantineRecord>, first_ms: i64) -> String {
        let identities: Vec<String> = records.iter().map(QuarantineRecord::identity).collect();
        let key = QuarantineKey {
            function: "parquet-writer".parse().unwrap(),
            day: Day::of_unix_ms(first_ms).unwrap(),
            name: ContentId::of(identities.iter().map(String::as_str)).name(first_ms).unwrap(),
        }
        .to_string();
        self.put(&key, &to_ndjson(&mut records).unwrap()).await;
        key
    }

    /// Everything in the bucket, by key.
    async fn objects(&self) -> BTreeMap<String, String> {
        let listed = self.clients.s3.list_objects_v2().bucket(&self.bucket).send().await.unwrap();
        let mut objects = BTreeMap::new();
        for key in listed.contents.unwrap_or_default().into_iter().filter_map(|object| object.key) {
            let object = self.clients.s3.get_object().bucket(&self.bucket).key(&key).send().await.unwrap();
            let body = object.body.collect().await.unwrap().to_vec();
            objects.insert(key, String::from_utf8(body).unwrap());
        }
        objects
    }

    /// The ids of all records in the quarantine, sorted.
    async fn quarantined(&self) -> Vec<String> {
        let objects = self.objects().await;
        let lines = objects.values().flat_map(|body| body.lines());
        let mut ids: Vec<String> =
            lines.map(|line| serde_json::from_str::<QuarantineRecord>(line).unwrap().id).collect();
        ids.sort();
        ids
    }
}

/// Clients of the emulator, but SQS is unavailable for sending after some requests to send.
fn failing_after(place: &Place, mut sends: usize) -> Clients {
    let flaky = http::before(aws::https(), move |request| {
        if http::target(request) != Some("AmazonSQS.SendMessageBatch") {
            return Reply::PassOn;
        }
        match sends.checked_sub(1) {
            Some(left) => {
                sends = left;
                Reply::PassOn
            }
            None => http::respond_json(503, &json!({"__type": "ServiceUnavailable", "message": "try later"})).into(),
        }
    });
    let config = place.config.to_builder().http_client(flaky).retry_config(RetryConfig::disabled()).build();
    Clients::of(&config)
}

fn messages(number: usize) -> Vec<Message> {
    let of = |n: usize| {
        let attributes = [
            ("type", "String", b"OrderCreated".to_vec()),
            ("event_id", "String", format!("event-{n}").into_bytes()),
            ("attempt", "Number", n.to_string().into_bytes()),
            ("label", "String.label", format!("é{n}").into_bytes()),
            ("digest", "Binary", vec![0, 255, u8::try_from(n).unwrap()]),
        ];
        let attributes = attributes.map(|(name, data_type, bytes)| (name.to_owned(), (data_type.to_owned(), bytes)));
        (format!("body {n:03} \t\r\n <&\"é😀>"), attributes.into())
    };
    (0..number).map(of).collect()
}

fn record(id: &str, reason: &str, body: &[u8], sent_ms: i64) -> QuarantineRecord {
    let attributes = json!({
        "type": {"dataType": "String", "stringValue": "OrderCreated"},
        "digest": {"dataType": "Binary", "binaryValue": "AP8="},
    });
    QuarantineRecord {
        function: "parquet-writer".into(),
        reason: reason.into(),
        detail: "as a test wants it".into(),
        id: id.into(),
        sent_at: rfc3339(sent_ms),
        attributes: to_raw_value(&attributes).unwrap(),
        body_base64: base64(body),
    }
}

/// `event_id`s of messages, sorted.
fn event_ids(messages: &[Message]) -> Vec<String> {
    let id = |(_, attributes): &Message| String::from_utf8(attributes["event_id"].1.clone()).unwrap();
    let mut ids: Vec<String> = messages.iter().map(id).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn dead_letters_come_back_as_they_were() {
    let place = Place::new().await;
    let all = messages(25);
    place.send(&place.dead, &all).await;
    let ended = place.replay_dlq(&[]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["complete"], true);
    assert_eq!(ended.json()["total"], json!({"found": 25, "not_selected": 0, "sent": 25, "left": 0}));
    assert_eq!(place.take(&place.events).await, all);
    assert_eq!(place.take(&place.dead).await, []);
    let again = place.replay_dlq(&[]).await;
    assert_eq!((again.code, again.json()["total"]["found"].as_u64()), (0, Some(0)));
}

#[tokio::test]
async fn large_dead_letters_are_sent_in_requests_that_fit() {
    let place = Place::new().await;
    let event_id = BTreeMap::from([("event_id".to_owned(), ("String".to_owned(), b"event-1".to_vec()))]);
    let all: Vec<Message> = (0..5).map(|n| (n.to_string().repeat(500_000), event_id.clone())).collect();
    for message in &all {
        place.send(&place.dead, std::slice::from_ref(message)).await;
    }
    let ended = place.replay_dlq(&[]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert_eq!(place.take(&place.events).await, all);
}

#[tokio::test]
async fn a_limit_replays_so_many_and_a_dry_run_none() {
    let place = Place::new().await;
    place.send(&place.dead, &messages(25)).await;
    let dry = place.replay_dlq(&["--dry-run", "--limit", "7"]).await;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert_eq!(dry.json()["total"], json!({"found": 25, "not_selected": 18, "sent": 7, "left": 0}));
    assert_eq!(place.take(&place.events).await, []);
    let limited = place.replay_dlq(&["--limit", "7"]).await;
    assert_eq!((limited.code, limited.json()["total"]["sent"].as_u64()), (0, Some(7)));
    let mut both = place.take(&place.events).await;
    assert_eq!(both.len(), 7);
    both.extend(place.take(&place.dead).await);
    both.sort();
    assert_eq!(both, messages(25));
}

#[tokio::test]
async fn dead_letters_stay_when_sending_fails() {
    let place = Place::new().await;
    place.send(&place.dead, &messages(25)).await;
    let arguments = ["replay", "dlq", "--json", "--from", &place.dead, "--to", &place.events];
    let ended = place.run_with(failing_after(&place, 1), &arguments).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let report = ended.json();
    assert_eq!(report["total"]["sent"], 10);
    assert!(report["stopped"].as_str().unwrap().contains("cannot be sent to: ServiceUnavailable: try later"));
    assert!(report["problems"].as_array().unwrap().iter().all(|problem| problem["reason"] == "not_sent"));
    // What was not sent can be received at once, and a second run brings it.
    let ended = place.replay_dlq(&[]).await;
    assert_eq!((ended.code, ended.json()["total"]["sent"].as_u64()), (0, Some(15)));
    assert_eq!(place.take(&place.events).await, messages(25));
}

#[tokio::test]
async fn a_dead_letter_that_the_queue_does_not_take_stays_and_is_reported() {
    let place = Place::new().await;
    let large: Message = ("x".repeat(2_000), BTreeMap::new());
    place.send(&place.dead, &[messages(2), vec![large.clone()]].concat()).await;
    let limit = place.clients.sqs.set_queue_attributes().queue_url(&place.events);
    limit.attributes(QueueAttributeName::MaximumMessageSize, "1024").send().await.unwrap();
    let ended = place.replay_dlq(&[]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.json()["total"], json!({"found": 3, "not_selected": 0, "sent": 2, "left": 1}));
    assert_eq!(ended.json()["problems"][0]["reason"], "too_large");
    assert_eq!(place.take(&place.events).await, messages(2));
    assert_eq!(place.take(&place.dead).await, [large]);
}

#[tokio::test]
async fn a_poison_message_comes_back_as_it_was_sent() {
    let place = Place::new().await;
    let (body, mut attributes) = messages(1).remove(0);
    attributes.remove("event_id");
    let as_event = |(name, (data_type, bytes)): (&String, &(String, Vec<u8>))| {
        let value = if data_type == "Binary" {
            json!({"dataType": data_type, "binaryValue": base64(bytes)})
        } else {
            json!({"dataType": data_type, "stringValue": String::from_utf8(bytes.clone()).unwrap()})
        };
        (name.clone(), value)
    };
    let event = json!({"Records": [{
        "messageId": "8c0f7c4e-0000-4000-8000-000000000001",
        "body": body,
        "attributes": {"SentTimestamp": SENT_MS.to_string()},
        "messageAttributes": attributes.iter().map(as_event).collect::<serde_json::Map<_, _>>(),
    }]});
    let batch = Batch::of_event(event.to_string().as_bytes(), &Registry::embedded().unwrap()).unwrap();
    let records = batch.poison.into_iter().map(|poison| poison.record).collect();
    place.quarantine(records, SENT_MS).await;

    let ended = place.replay_quarantine(&[]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let mut expected = attributes;
    let id = b"8c0f7c4e-0000-4000-8000-000000000001".to_vec();
    expected.insert("event_id".to_owned(), ("String".to_owned(), id));
    assert_eq!(place.take(&place.events).await, [(body, expected)]);
    assert_eq!(place.objects().await, BTreeMap::new());
}

#[tokio::test]
async fn quarantined_records_are_chosen_and_the_others_stay() {
    let place = Place::new().await;
    let next_ms = SENT_MS + DAY_MS;
    let mixed = vec![
        record("a1", "invalid_base64", b"one", SENT_MS),
        record("a2", "invalid_protobuf", b"two", SENT_MS + 1),
        record("a3", "invalid_protobuf", b"three", SENT_MS + 2),
    ];
    let first = place.quarantine(mixed, SENT_MS).await;
    place.quarantine(vec![record("b1", "invalid_protobuf", b"four", next_ms)], next_ms).await;
    place.put("quarantine/other-function/2026/11/20/x.ndjson", "not for us").await;
    place.put("quarantine/parquet-writer/README", "not of the layout").await;
    let before = place.objects().await;

    let arguments = ["--day", "2026/11/20", "--reason", "invalid_protobuf"];
    let dry = place.replay_quarantine(&[&arguments[..], &["--dry-run"]].concat()).await;
    assert_eq!(dry.code, 0, "{dry:?}");
    assert_eq!(dry.json()["total"], json!({"found": 3, "not_selected": 1, "sent": 2, "left": 0}));
    assert_eq!(place.objects().await, before);
    assert_eq!(place.take(&place.events).await, []);

    let ended = place.replay_quarantine(&arguments).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(ended.json()["by_reason"]["invalid_protobuf"]["sent"], 2);
    let sent = place.take(&place.events).await;
    assert_eq!(event_ids(&sent), ["a2", "a3"]);
    assert_eq!(sent.iter().map(|(body, _)| body.as_str()).collect::<Vec<_>>(), ["three", "two"]);
    assert_eq!(sent[0].1["digest"], ("Binary".to_owned(), vec![0, 255]));

    // The object is deleted; its records that were not selected are in a new object, byte for byte.
    let after = place.objects().await;
    assert!(!after.contains_key(&first));
    let rest = vec![record("a1", "invalid_base64", b"one", SENT_MS)];
    let twin = Place { bucket: place.bucket.clone(), ..Place::new().await };
    let rest = twin.quarantine(rest, SENT_MS).await;
    assert_eq!(place.objects().await, after);
    assert!(before[&first].starts_with(&after[&rest]));

    // Replaying everything sends the rest, and nothing twice.
    let everything = place.replay_quarantine(&["--set-attribute", "type=OrderCreated"]).await;
    assert_eq!(everything.code, 0, "{everything:?}");
    assert!(everything.json()["notes"][0].as_str().unwrap().contains("quarantine/parquet-writer/README"));
    let sent = place.take(&place.events).await;
    assert_eq!(event_ids(&sent), ["a1", "b1"]);
    let order = ("String".to_owned(), b"OrderCreated".to_vec());
    assert!(sent.iter().all(|(_, attributes)| attributes["type"] == order), "{sent:?}");
    assert_eq!(place.objects().await.len(), 2);
}

#[tokio::test]
async fn limits_go_on_where_they_stopped() {
    let place = Place::new().await;
    let ids: Vec<String> = (0..7).map(|n| format!("r{n}")).collect();
    let all: Vec<QuarantineRecord> =
        (0_i64..).zip(&ids).map(|(ms, id)| record(id, "invalid_base64", id.as_bytes(), SENT_MS + ms)).collect();
    place.quarantine(all[..5].to_vec(), SENT_MS).await;
    place.quarantine(all[5..].to_vec(), SENT_MS + 5).await;
    let mut replayed = Vec::new();
    for expected in [3, 3, 1, 0] {
        let ended = place.replay_quarantine(&["--limit", "3"]).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        let sent = event_ids(&place.take(&place.events).await);
        assert_eq!(sent.len(), expected);
        replayed.extend(sent);
        let left: Vec<String> = ids.iter().filter(|id| !replayed.contains(id)).cloned().collect();
        assert_eq!(place.quarantined().await, left);
    }
    assert_eq!(replayed, ids);
}

#[tokio::test]
async fn a_record_that_cannot_be_sent_is_reported_and_left() {
    let place = Place::new().await;
    let without = QuarantineRecord {
        attributes: to_raw_value(&Value::Null).unwrap(),
        ..record("without-attributes", "missing_type", b"x", SENT_MS)
    };
    let records = vec![
        record("fine", "invalid_base64", b"fine", SENT_MS),
        record("empty", "empty_body", b"", SENT_MS),
        record("large", "invalid_base64", &vec![b'x'; 1 << 20], SENT_MS),
        record("control", "invalid_base64", b"a\0b", SENT_MS),
        without,
    ];
    place.quarantine(records, SENT_MS).await;
    let ended = place.replay_quarantine(&[]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    let report = ended.json();
    assert_eq!(report["complete"], false);
    assert_eq!(report["total"], json!({"found": 5, "not_selected": 0, "sent": 1, "left": 4}));
    let problems = report["problems"].as_array().unwrap().iter();
    let problems: Vec<_> = problems.map(|p| (p["id"].as_str().unwrap(), p["reason"].as_str().unwrap())).collect();
    let expected = [
        ("control", "forbidden_characters"),
        ("empty", "no_body"),
        ("large", "too_large"),
        ("without-attributes", "missing_attributes"),
    ];
    assert_eq!(problems, expected);
    assert_eq!(event_ids(&place.take(&place.events).await), ["fine"]);
    assert_eq!(place.quarantined().await, expected.map(|(id, _)| id));
    // They are reported again, and stay where they are.
    let before = place.objects().await;
    assert_eq!(place.replay_quarantine(&[]).await.code, 1);
    assert_eq!(place.objects().await, before);
}

#[tokio::test]
async fn quarantined_records_stay_when_sending_fails() {
    let place = Place::new().await;
    let all: Vec<QuarantineRecord> = (0..65_i64)
        .map(|n| record(&format!("r{n:02}"), "invalid_base64", format!("body {n}").as_bytes(), SENT_MS + n))
        .collect();
    for records in all.chunks(13) {
        let first_ms = SENT_MS + i64::from(records[0].id[1..].parse::<u8>().unwrap());
        place.quarantine(records.to_vec(), first_ms).await;
    }
    let ended = place.replay_quarantine_with(failing_after(&place, 2), &[]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    assert_eq!(ended.json()["total"]["sent"], 20);
    let mut both = event_ids(&place.take(&place.events).await);
    assert_eq!(both.len(), 20);
    both.extend(place.quarantined().await);
    both.sort();
    assert_eq!(both, all.iter().map(|record| record.id.clone()).collect::<Vec<_>>());
    let ended = place.replay_quarantine(&[]).await;
    assert_eq!((ended.code, ended.json()["total"]["sent"].as_u64()), (0, Some(45)));
    assert_eq!(place.objects().await, BTreeMap::new());
}

#[tokio::test]
async fn a_replay_that_cannot_start_prints_the_reason() {
    let place = Place::new().await;
    let missing = format!("{}-missing", place.events);
    let ended = place.run(&["replay", "dlq", "--from", &missing, "--to", &place.events]).await;
    assert_eq!((ended.code, ended.err), (1, format!("error: queue {missing} does not exist\n")));
    let ended = place.run(&["replay", "dlq", "--from", &place.dead, "--to", &missing]).await;
    assert_eq!((ended.code, ended.err), (1, format!("error: queue {missing} does not exist\n")));
    let ended = place.run(&["replay", "quarantine", "--bucket", "no-such-bucket", "--to", &place.events]).await;
    assert_eq!((ended.code, ended.err), (1, "error: bucket no-such-bucket does not exist\n".to_owned()));
    let ended = place.run(&["replay", "dlq", "--from", &place.dead, "--to", &place.dead]).await;
    assert_eq!((ended.code, ended.err), (2, "error: --from and --to are the same queue\n".to_owned()));
}

/// What the function lands of these messages goes into the bucket.
async fn land(place: &Place, format: &'static str, layout: &'static str, sent: &[Sent]) {
    let function = Function::new(&[("OUTPUT_FORMAT", format), ("EVENTS_LAYOUT", layout)]).await;
    assert_eq!(function.invoke(&events::event(sent)).await, Vec::<String>::new());
    for key in function.aws.keys("events/") {
        place.put(&key, function.aws.body(&key)).await;
    }
}

#[tokio::test]
async fn events_that_landed_before_their_type_was_known_land_typed_and_only_once() {
    for (format, layout) in
        [("parquet", "together"), ("parquet", "by-type"), ("ndjson", "together"), ("ndjson.gz", "together")]
    {
        let place = Place::new().await;
        let misspelt = |n: usize| {
            let mut sent = events::order(n);
            sent.attributes.retain(|(name, _)| name != "type");
            sent.attributes.push(("type".to_owned(), "OrderCreted".to_owned()));
            sent.attributes.push(("trace".to_owned(), format!("t-{n}")));
            sent
        };
        let mut unknown_field = events::order(9);
        let payload = [base64_simd::STANDARD.decode_to_vec(&unknown_field.body).unwrap(), vec![0x7a, 1, 65]].concat();
        unknown_field.body = base64(&payload);
        land(&place, format, layout, &[misspelt(1), misspelt(2), events::card(3), unknown_field]).await;

        let replay = async |more: &[&str]| {
            let always =
                ["replay", "raw", "--json", "--type", "OrderCreted", "--as", "OrderCreated", "--bucket", &place.bucket];
            place.run(&[&always[..], &["--to", &place.events], more].concat()).await
        };
        let dry = replay(&["--dry-run"]).await;
        assert_eq!((dry.code, &dry.json()["total"]["sent"]), (0, &json!(2)), "{format} {layout}: {dry:?}");
        assert_eq!(place.take(&place.events).await, []);
        assert_eq!(replay(&["--until", "2026-11-19"]).await.json()["total"]["found"], json!(0));

        let ended = replay(&[]).await;
        assert_eq!((ended.code, &ended.json()["total"]["sent"]), (0, &json!(2)), "{ended:?}");
        let messages = place.take(&place.events).await;
        let mut again = Vec::new();
        for (n, (body, attributes)) in [1, 2].into_iter().zip(messages) {
            assert_eq!(body, events::order(n).body);
            let attributes = attributes.into_iter().map(|(name, (data_type, bytes))| {
                assert_eq!(data_type, "String");
                (name, String::from_utf8(bytes).unwrap())
            });
            let mut sent = Sent { id: format!("replayed-{n}"), attributes: attributes.collect(), ..events::order(n) };
            sent.attributes.sort();
            let expected = [
                ("event_id", format!("event-message-0000{n}")),
                ("source", "orders".to_owned()),
                ("trace", format!("t-{n}")),
                ("type", "OrderCreated".to_owned()),
            ];
            assert_eq!(sent.attributes, expected.map(|(name, value)| (name.to_owned(), value)));
            again.push(sent);
        }
        // They are typed now, so nothing is left to do.
        land(&place, format, layout, &again).await;
        let ended = replay(&[]).await;
        assert_eq!(ended.json()["total"], json!({"found": 2, "not_selected": 2, "sent": 0, "left": 0}));
        assert_eq!((ended.code, place.take(&place.events).await.len()), (0, 0));
    }
}

#[tokio::test]
async fn a_type_that_would_land_without_columns_again_is_not_replayed() {
    let place = Place::new().await;
    let ended =
        place.run(&["replay", "raw", "--type", "OrderCreted", "--bucket", &place.bucket, "--to", &place.events]).await;
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("\"OrderCreted\" is not an event type of this build"), "{ended:?}");
}
