//! parquet-writer: what its users are promised, through its handler.

use std::{
    collections::{BTreeMap, HashSet},
    io::Read,
    time::Duration,
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::concat_batches,
    datatypes::{Int32Type, Int64Type, TimestampMicrosecondType},
};
use bytes::Bytes;
use landing::batch::Batch;
use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, file::metadata::ParquetMetaDataReader};
use parquet_writer::{
    app::{App, Clients},
    config::Config,
    handler::handle,
};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};
use shared::{event::Registry, quarantine::QuarantineRecord};

use crate::{
    aws::{Aws, BUCKET, Fault, QUEUE_URL, QueuedMessage, TOPIC_ARN},
    events::{self, SENT_MS, Sent},
    roles,
};

/// A function with an AWS of its own.
pub(crate) struct Function {
    pub(crate) app: App,
    pub(crate) aws: Aws,
}

const NEVER_MS: u64 = 4_102_444_800_000;

impl Function {
    pub(crate) async fn new(settings: &[(&'static str, &str)]) -> Self {
        Self::with(settings, &Aws::for_role(roles::writer())).await
    }

    /// Another version of the function, with an AWS that is there already.
    async fn with(settings: &[(&'static str, &str)], aws: &Aws) -> Self {
        Self::with_types(settings, aws, Registry::embedded().unwrap()).await
    }

    /// A function with other event types than this build has.
    pub(crate) async fn with_types(settings: &[(&'static str, &str)], aws: &Aws, types: Registry) -> Self {
        let defaults = [("LAKE_BUCKET", BUCKET), ("LANDED_TOPIC_ARN", TOPIC_ARN), ("QUEUE_URL", QUEUE_URL)];
        let lookup = |name| {
            let set = settings.iter().chain(&defaults).find(|(other, _)| *other == name);
            set.map(|(_, value)| (*value).to_owned())
        };
        let clients = Clients::of(&aws.config().await);
        let config = Config::from_lookup(lookup).unwrap();
        Self { app: App::with_registry(config, clients, types).unwrap(), aws: aws.clone() }
    }

    /// Invokes the function with one event, and returns the ids of the messages that have to be redelivered.
    pub(crate) async fn invoke(&self, event: &Value) -> Vec<String> {
        let response = handle(&self.app, event.to_string().into(), NEVER_MS).await.unwrap();
        response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
    }

    /// Invokes the function with a tick of its schedule.
    async fn tick(&self) {
        assert_eq!(self.invoke(&events::file("parquet-writer-tick.json")).await, Vec::<String>::new());
    }

    /// The keys of the files that notices name, in order.
    fn announced(&self) -> Vec<String> {
        let key = |notice: &Value| notice["Records"][0]["s3"]["object"]["key"].as_str().unwrap().to_owned();
        sorted(self.aws.state().notices.iter().map(key))
    }

    /// All rows of all Parquet files.
    fn rows(&self) -> RecordBatch {
        let files: Vec<RecordBatch> =
            self.aws.keys("events/").iter().flat_map(|key| read(self.aws.body(key))).collect();
        concat_batches(files.first().expect("a file landed").schema_ref(), &files).unwrap()
    }

    fn quarantined(&self) -> Vec<QuarantineRecord> {
        let keys = self.aws.keys("quarantine/parquet-writer/");
        keys.iter()
            .flat_map(|key| {
                let body = String::from_utf8(self.aws.body(key)).unwrap();
                body.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Message ids that landed, by way of the event ids that the test gave them.
    fn landed_ids(&self) -> Vec<String> {
        let rows = self.rows();
        strings(&rows, "event_id").into_iter().map(|id| id.trim_start_matches("event-").to_owned()).collect()
    }
}

pub(crate) fn read(file: Vec<u8>) -> Vec<RecordBatch> {
    ParquetRecordBatchReaderBuilder::try_new(Bytes::from(file)).unwrap().build().unwrap().map(Result::unwrap).collect()
}

pub(crate) fn strings(rows: &RecordBatch, column: &str) -> Vec<String> {
    rows.column_by_name(column)
        .unwrap()
        .as_string::<i32>()
        .iter()
        .map(|value| value.unwrap_or("-").to_owned())
        .collect()
}

fn sorted<T: Ord>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort();
    values
}

#[tokio::test]
async fn a_batch_of_three_types_becomes_one_typed_file_and_one_notice() {
    let function = Function::new(&[]).await;
    assert_eq!(function.invoke(&events::file("parquet-writer-batch.json")).await, Vec::<String>::new());

    let rows = function.rows();
    assert_eq!(
        strings(&rows, "type"),
        ["OrderCreated", "CardCatalogCreated", "ManufacturingBatch", "OrderCreated", "CardCatalogEntryInserted"]
    );
    assert_eq!(strings(&rows, "source"), ["orders", "cards", "manufacturing", "orders", "cards"]);
    let orders = rows.column_by_name("order_created").unwrap().as_struct();
    assert_eq!((0..5).map(|row| orders.is_valid(row)).collect::<Vec<_>>(), [true, false, false, true, false]);
    let order_ts = orders.column_by_name("order_ts").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(order_ts.value(0), 1_795_183_900_250_000);
    assert_eq!(orders.column_by_name("quantity").unwrap().as_primitive::<Int32Type>().value(0), 2);
    assert_eq!(orders.column_by_name("status").unwrap().as_string::<i32>().value(0), "ORDER_STATUS_CREATED");
    let price = orders.column_by_name("price").unwrap().as_struct();
    assert_eq!(price.column_by_name("units").unwrap().as_primitive::<Int64Type>().value(0), 1_999);
    assert_eq!(price.column_by_name("scale").unwrap().as_primitive::<Int64Type>().value(0), 2);
    let cards = rows.column_by_name("card_catalog_created").unwrap().as_struct();
    assert_eq!(cards.column_by_name("parallel").unwrap().as_string::<i32>().value(1), "Gold");
    assert!(cards.column_by_name("parallel").unwrap().is_null(4), "a base card has no parallel");
    assert!(cards.is_valid(4), "the alias is read like the type it stands for");
    assert_eq!(rows.column_by_name("_raw").unwrap().null_count(), 5);

    let key = &function.aws.keys("")[0];
    assert!(key.starts_with("events/2026/11/20/20261120T141146"), "{key}");
    assert_eq!(
        function.aws.take_calls(),
        [format!("s3:PutObject {key}"), "sns:Publish".to_owned()],
        "one put and one publish a file"
    );
    let notice = function.aws.state().notices[0].clone();
    let parsed: aws_lambda_events::s3::S3Event = serde_json::from_value(notice).unwrap();
    let record = &parsed.records[0];
    assert_eq!(record.event_name.as_deref(), Some("ObjectCreated:Put"));
    assert_eq!(record.s3.bucket.name.as_deref(), Some(BUCKET));
    assert_eq!(record.s3.object.key.as_deref(), Some(key.as_str()));
    assert_eq!(record.s3.object.size, Some(i64::try_from(function.aws.body(key).len()).unwrap()));
}

/// 100 messages: 96 good ones of three types, a bad base64, a truncated protobuf, an unregistered type, an unknown field.
fn hundred() -> Vec<Sent> {
    let mut messages: Vec<Sent> = (0..100)
        .map(|n| match n % 10 {
            0 => events::card(n),
            5 => events::batch(n),
            _ => events::order(n),
        })
        .collect();
    messages[11].body = "@@@ not base64 @@@".into();
    let whole = events::order_created(22).encode_to_vec();
    messages[22].body = shared::quarantine::base64(&whole[..whole.len() - 3]);
    messages[33].attributes[1].1 = "NeverDeclared".into();
    let mut later = events::order_created(44).encode_to_vec();
    later.extend_from_slice(&[0x7a, 4, b'G', b'I', b'F', b'T']);
    messages[44].body = shared::quarantine::base64(&later);
    messages
}

/// A message attribute of any type, as in an event.
fn with_attribute(mut record: Value, name: &str, attribute: Value) -> Value {
    record["messageAttributes"][name] = attribute;
    record
}

#[tokio::test]
async fn a_second_delivery_can_be_told_from_an_event_that_was_sent_twice() {
    let function = Function::new(&[]).await;
    let (first, mut second) = (events::order(1), events::order(2));
    second.attributes = first.attributes.clone();
    function.invoke(&events::event([&first, &second])).await;
    function.invoke(&events::event([&first])).await;
    let rows = function.rows();
    assert_eq!(strings(&rows, "event_id"), ["event-message-00001"; 3]);
    assert_eq!(sorted(strings(&rows, "message_id")), ["message-00001", "message-00001", "message-00002"]);
}

#[tokio::test]
async fn attributes_without_a_column_of_their_own_are_kept() {
    let function = Function::new(&[]).await;
    let text = |text: &str| json!({"dataType": "String", "stringValue": text});
    let plain = events::order(1).record();
    let traced = with_attribute(events::order(2).record(), "trace_id", text("4bf92f"));
    let traced = with_attribute(traced, "attempt", json!({"dataType": "Number", "stringValue": "3"}));
    // An event id that is no text has no column.
    let odd =
        with_attribute(events::order(3).record(), "event_id", json!({"dataType": "Binary", "binaryValue": "AAH/"}));
    let event = json!({"Records": [plain, traced, odd]});
    function.invoke(&event).await;
    let rows = function.rows();
    let attributes = rows.column_by_name("attributes").unwrap().as_map();
    let of = |row: usize| {
        let entries = attributes.value(row);
        let [names, values] = [0, 1].map(|column| entries.column(column).as_string::<i32>().clone());
        let entries = names.iter().flatten().zip(values.iter().flatten());
        entries.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    assert!(attributes.is_null(0));
    assert_eq!(of(1), ["attempt=3", "trace_id=4bf92f"]);
    assert_eq!(of(2), ["event_id=AAH/"]);
    assert_eq!(strings(&rows, "event_id"), ["event-message-00001", "event-message-00002", "message-00003"]);
}

#[tokio::test]
async fn two_bad_messages_of_a_hundred_are_quarantined_and_98_rows_land() {
    let function = Function::new(&[]).await;
    let messages = hundred();
    assert_eq!(function.invoke(&events::event(&messages)).await, Vec::<String>::new(), "nothing is retried");

    let rows = function.rows();
    assert_eq!(rows.num_rows(), 98);
    let raw = rows.column_by_name("_raw").unwrap().as_binary::<i32>();
    let kept: BTreeMap<String, &[u8]> =
        strings(&rows, "event_id").into_iter().zip(raw).filter_map(|(id, raw)| Some((id, raw?))).collect();
    let payload = |n: usize| base64_simd::STANDARD.decode_to_vec(&messages[n].body).unwrap();
    assert_eq!(
        kept.iter().map(|(id, raw)| (id.as_str(), raw.to_vec())).collect::<Vec<_>>(),
        [("event-message-00033", payload(33)), ("event-message-00044", payload(44))],
        "the odd ones, and only they, keep their payload"
    );

    let quarantined = function.quarantined();
    assert_eq!(
        quarantined.iter().map(|record| (record.id.as_str(), record.reason.as_str())).collect::<Vec<_>>(),
        [("message-00011", "invalid_base64"), ("message-00022", "invalid_protobuf")]
    );
    for (record, n) in quarantined.iter().zip([11, 22]) {
        assert_eq!(record.body().unwrap(), messages[n].body.as_bytes(), "the bytes are the message's own");
        assert_eq!(record.sent_at.as_deref().unwrap(), format!("2026-11-20T14:11:46.0{n}Z"));
        let attributes: Value = serde_json::from_str(record.attributes.get()).unwrap();
        assert_eq!(attributes["type"]["stringValue"], "OrderCreated");
    }
    let calls = function.aws.take_calls();
    assert_eq!(calls.len(), 3, "a file, a notice, a quarantine object: {calls:?}");
}

#[tokio::test]
async fn every_kind_of_poison_is_kept_once_with_its_reason() {
    let function = Function::new(&[]).await;
    for _ in 0..2 {
        assert_eq!(function.invoke(&events::file("parquet-writer-all-poison.json")).await, Vec::<String>::new());
    }
    let reasons = sorted(function.quarantined().into_iter().map(|record| record.reason));
    assert_eq!(reasons, ["invalid_base64", "invalid_protobuf", "invalid_protobuf", "missing_type"]);
    assert_eq!(function.aws.keys("events/"), Vec::<String>::new(), "no file without rows");
    assert_eq!(function.aws.state().notices.len(), 0);
}

#[tokio::test]
async fn one_poison_record_does_not_fail_its_neighbours() {
    let function = Function::new(&[]).await;
    assert_eq!(function.invoke(&events::file("parquet-writer-one-poison.json")).await, Vec::<String>::new());
    assert_eq!(function.rows().num_rows(), 5);
    let quarantined = function.quarantined();
    let attributes: Value = serde_json::from_str(quarantined[0].attributes.get()).unwrap();
    assert_eq!(
        attributes["amqp_message_id"]["stringValue"], "m-3391",
        "attributes without a meaning here are kept too"
    );
}

#[tokio::test]
async fn an_unregistered_type_lands_with_its_payload() {
    let function = Function::new(&[]).await;
    assert_eq!(function.invoke(&events::file("parquet-writer-unregistered-type.json")).await, Vec::<String>::new());
    let rows = function.rows();
    assert_eq!(strings(&rows, "type"), ["NeverDeclared", "OrderCreated"]);
    assert_eq!(rows.column_by_name("_raw").unwrap().as_binary::<i32>().value(0), b"\n\nORD-000001\x12\x07damaged");
    assert!(function.quarantined().is_empty());
}

#[tokio::test]
async fn what_the_columns_cannot_hold_is_kept_whole() {
    let function = Function::new(&[]).await;
    assert_eq!(function.invoke(&events::file("parquet-writer-unknown-field.json")).await, Vec::<String>::new());
    let rows = function.rows();
    let raw = rows.column_by_name("_raw").unwrap();
    assert_eq!((raw.is_valid(0), raw.is_valid(1)), (true, true), "an unknown field, an unknown enum number");
    let orders = rows.column_by_name("order_created").unwrap().as_struct();
    let status = orders.column_by_name("status").unwrap().as_string::<i32>();
    assert_eq!((status.value(0), status.value(1)), ("ORDER_STATUS_SHIPPED", "9"));
}

#[tokio::test]
async fn each_utc_day_has_its_own_file_and_fails_alone() {
    let function = Function::new(&[]).await;
    let event = events::file("parquet-writer-two-days.json");
    function.aws.fail(|call| call.starts_with("s3:PutObject events/2026/11/19/").then_some(Fault::Unavailable));
    let failed = function.invoke(&event).await;
    assert_eq!(failed, [event["Records"][1]["messageId"].as_str().unwrap()], "only the 19th comes again");
    assert_eq!(function.aws.keys("events/").len(), 1);
    assert_eq!(function.rows().num_rows(), 2);

    function.aws.recover();
    let again = json!({"Records": [event["Records"][1]]});
    assert_eq!(function.invoke(&again).await, Vec::<String>::new());
    let keys = function.aws.keys("events/");
    assert!(keys[0].starts_with("events/2026/11/19/20261119T235959999Z-"), "{keys:?}");
    assert!(keys[1].starts_with("events/2026/11/20/20261120T000000000Z-"), "{keys:?}");
}

#[tokio::test]
async fn an_event_without_messages_makes_no_calls_to_aws() {
    let function = Function::new(&[]).await;
    assert_eq!(function.invoke(&events::file("parquet-writer-empty.json")).await, Vec::<String>::new());
    assert_eq!(function.aws.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn an_event_that_is_not_from_sqs_is_refused_whole() {
    let function = Function::new(&[]).await;
    for (event, sentence) in [
        (r#"{"Records":[{"body":"AA=="}]}"#, "record 0 of the event has no messageId"),
        (r#"{"detail":{}}"#, "the event is not an SQS event: missing field `Records` at line 1 column 13"),
        ("\u{1}", "the event is not an SQS event: expected value at line 1 column 1"),
    ] {
        let error = handle(&function.app, event.to_owned().into(), NEVER_MS).await.unwrap_err();
        assert_eq!(error.to_string(), sentence);
    }
    assert!(handle(&function.app, Bytes::from_static(b"\xff"), NEVER_MS).await.is_err());
    assert_eq!(function.aws.take_calls(), Vec::<String>::new());
}

#[tokio::test]
async fn the_same_batch_twice_is_one_object_and_a_second_notice() {
    let function = Function::new(&[]).await;
    let event = events::event(&hundred());
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    let first: BTreeMap<_, _> = function.aws.state().s3.objects.clone();
    function.aws.take_calls();
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    assert_eq!(function.aws.state().s3.objects, first, "nothing was written");
    assert_eq!(function.rows().num_rows(), 98, "one row an event");
    let notices = function.aws.state().notices.clone();
    assert_eq!((notices.len(), &notices[0]), (2, &notices[1]));
    let heads = function.aws.take_calls().into_iter().filter(|call| call.starts_with("s3:HeadObject")).count();
    assert_eq!(heads, 2, "what was there was looked at");
}

#[tokio::test]
async fn a_message_twice_in_one_batch_is_one_row() {
    let function = Function::new(&[]).await;
    let messages = hundred();
    assert_eq!(function.invoke(&events::event(messages.iter().chain(&messages))).await, Vec::<String>::new());
    assert_eq!(function.rows().num_rows(), 98);
    assert_eq!(function.quarantined().len(), 2);
}

#[tokio::test]
async fn a_key_that_holds_something_else_is_not_overwritten() {
    let function = Function::new(&[]).await;
    let event = events::event(&[events::order(1), events::order(2)]);
    function.invoke(&event).await;
    let key = function.aws.keys("events/")[0].clone();
    let other = Function::new(&[]).await;
    other.invoke(&events::event(&[events::order(3)])).await;
    let place = (BUCKET.to_owned(), key);
    let stranger = other.aws.state().s3.objects.values().next().cloned().unwrap();
    function.aws.state().s3.objects.insert(place.clone(), stranger.clone());

    assert_eq!(sorted(function.invoke(&event).await), ["message-00001", "message-00002"]);
    assert_eq!(function.aws.state().s3.objects[&place], stranger);
    assert_eq!(function.aws.state().notices.len(), 1, "and not announced");
}

#[tokio::test]
async fn while_a_dependency_fails_nothing_is_acknowledged_and_afterwards_nothing_is_missing() {
    for (service, fault) in [
        ("s3:PutObject", Fault::Unavailable),
        ("s3:PutObject", Fault::AnswerLost),
        ("s3:PutObject events/", Fault::Unavailable),
        ("s3:PutObject events/", Fault::AnswerLost),
        ("s3:PutObject quarantine/", Fault::Unavailable),
        ("s3:PutObject quarantine/", Fault::AnswerLost),
        ("sns:Publish", Fault::Unavailable),
        ("sns:Publish", Fault::AnswerLost),
    ] {
        let function = Function::new(&[]).await;
        let messages = hundred();
        function.aws.fail(move |call| call.starts_with(service).then_some(fault));
        let failed = function.invoke(&events::event(&messages)).await;
        let expected = match service {
            "s3:PutObject" => 100,
            "s3:PutObject quarantine/" => 2,
            "sns:Publish" => 0,
            _ => 98,
        };
        assert_eq!(failed.len(), expected, "{service} {fault:?}");

        function.aws.recover();
        function.tick().await;
        let again: HashSet<String> = failed.into_iter().collect();
        let event = events::event(messages.iter().filter(|message| again.contains(&message.id)));
        assert_eq!(function.invoke(&event).await, Vec::<String>::new(), "{service} {fault:?}");
        let quarantined = function.quarantined().into_iter().map(|record| record.id);
        let all = sorted(function.landed_ids().into_iter().chain(quarantined));
        assert_eq!(all, sorted(messages.into_iter().map(|message| message.id)), "{service} {fault:?}");
        assert!(!function.aws.state().notices.is_empty(), "{service} {fault:?}");
    }
}

/// A minute is a batch of whatever is in the queue, and a tick.
#[tokio::test]
async fn while_the_topic_refuses_every_row_lands_once_and_afterwards_every_file_is_announced() {
    let function = Function::new(&[]).await;
    let mut queue: Vec<Sent> = (0..5_000).map(events::order).collect();
    let all = sorted(queue.iter().map(|message| message.id.clone()));
    for minute in 0_usize.. {
        match minute {
            0 => function.aws.fail(|call| (call == "sns:Publish").then_some(Fault::Unavailable)),
            // Some notices go out although the function does not learn of it.
            20 => function.aws.fail(|call| (call == "sns:Publish").then_some(Fault::AnswerLost)),
            40 => function.aws.recover(),
            _ => {}
        }
        let any = |position: usize, of: usize| (minute * 7_919 + position * 104_729) % of;
        let batch: Vec<Sent> = (0..100.min(queue.len())).map(|at| queue.swap_remove(any(at, queue.len()))).collect();
        let failed = function.invoke(&events::event(&batch)).await;
        queue.extend(batch.into_iter().filter(|message| failed.contains(&message.id)));
        function.tick().await;
        if queue.is_empty() && minute > 40 {
            break;
        }
    }
    assert_eq!(sorted(function.landed_ids()), all);
    assert_eq!(function.aws.keys("outbox/"), Vec::<String>::new());
    let mut announced = function.announced();
    announced.dedup();
    assert_eq!(announced, function.aws.keys("events/"));
}

/// A queue with a clock of its own: what is received is hidden for as long as the function says, or for the timeout of the queue.
#[tokio::test]
async fn an_outage_of_three_quarters_of_an_hour_leaves_a_backlog_and_no_dead_letters() {
    const MOST_RECEIVES: u64 = 10;
    let function = Function::new(&[]).await;
    function.aws.fail(|call| call.starts_with("s3:PutObject").then_some(Fault::Unavailable));
    // Visible from this second on, and receives so far.
    let mut queue: Vec<(Sent, u64, u64)> = (0..300).map(|number| (events::order(number), 0, 0)).collect();
    let mut now_s = 0;
    while !queue.is_empty() {
        if now_s >= 45 * 60 {
            function.aws.recover();
        }
        let (batch, hidden): (Vec<_>, Vec<_>) = queue.into_iter().partition(|(_, visible_s, _)| *visible_s <= now_s);
        queue = hidden;
        let messages: Vec<Value> = batch
            .iter()
            .map(|(message, _, receives)| {
                let mut record = message.record();
                record["attributes"]["ApproximateReceiveCount"] = json!((receives + 1).to_string());
                record
            })
            .collect();
        let failed = function.invoke(&json!({"Records": messages})).await;
        let hidden_s = std::mem::take(&mut function.aws.state().hidden_s);
        for (message, _, receives) in batch.into_iter().filter(|(message, ..)| failed.contains(&message.id)) {
            assert!(receives + 1 < MOST_RECEIVES, "a dead letter after {now_s} s");
            queue.push((message.clone(), now_s + hidden_s[&message.id], receives + 1));
        }
        now_s = queue.iter().map(|(_, visible_s, _)| *visible_s).min().unwrap_or(now_s);
    }
    assert_eq!(function.landed_ids().len(), 300);
    assert!(now_s < 60 * 60, "they land soon after the outage: {now_s} s");
}

#[tokio::test]
async fn a_notice_that_can_neither_be_published_nor_kept_brings_its_messages_back() {
    let function = Function::new(&[]).await;
    let fails = |call: &str| call == "sns:Publish" || call.starts_with("s3:PutObject outbox/");
    function.aws.fail(move |call| fails(call).then_some(Fault::Unavailable));
    let event = events::event(&hundred());
    assert_eq!(function.invoke(&event).await.len(), 98);
    function.aws.recover();
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    assert_eq!((function.rows().num_rows(), function.announced()), (98, function.aws.keys("events/")));
}

/// Without a response in time, Lambda would deliver the whole batch again.
#[tokio::test]
async fn what_hangs_after_the_landing_does_not_hold_up_the_response() {
    for (hanging, failing, messages_failed) in [
        ("sns:Publish", "nothing", 0),
        ("sqs:DeleteMessageBatch", "nothing", 0),
        ("sqs:ChangeMessageVisibilityBatch", "s3:PutObject events/", 10),
    ] {
        let (function, _, event) = draining("1000000").await;
        function.aws.fail(move |call| match call {
            call if call.starts_with(hanging) => Some(Fault::Hang),
            call if call.starts_with(failing) => Some(Fault::Unavailable),
            _ => None,
        });
        let started = std::time::Instant::now();
        let deadline_ms = u64::try_from(runtime::clock::unix_ms()).unwrap() + 8_000;
        let response = handle(&function.app, event.to_string().into(), deadline_ms).await.unwrap();
        assert_eq!(response.batch_item_failures.len(), messages_failed, "{hanging}");
        assert!(started.elapsed().as_secs() < 8, "{hanging}: {:?}", started.elapsed());
        let kept = function.aws.keys("outbox/landed/").len();
        assert_eq!(kept, usize::from(hanging == "sns:Publish"), "{hanging}");
    }
}

#[tokio::test]
async fn a_tick_stops_at_the_first_notice_that_the_topic_refuses() {
    let function = Function::new(&[]).await;
    function.aws.fail(|call| (call == "sns:Publish").then_some(Fault::Unavailable));
    for number in 0..20 {
        assert_eq!(function.invoke(&events::event(&[events::order(number)])).await, Vec::<String>::new());
    }
    assert_eq!(function.aws.keys("outbox/landed/").len(), 20);
    function.aws.take_calls();
    function.tick().await;
    let tried = function.aws.take_calls().into_iter().filter(|call| call == "sns:Publish").count();
    assert!((1..=8).contains(&tried), "{tried} attempts");
    function.aws.recover();
    function.tick().await;
    assert_eq!((function.announced().len(), function.aws.keys("outbox/").len()), (20, 0));
}

#[tokio::test]
async fn notices_of_the_outbox_are_published_even_if_the_bucket_announces_by_now() {
    let function = Function::new(&[]).await;
    function.aws.fail(|call| (call == "sns:Publish").then_some(Fault::Unavailable));
    assert_eq!(function.invoke(&events::event(&hundred())).await, Vec::<String>::new());
    function.aws.recover();
    let by_bucket = Function::with(&[("NOTIFY", "s3")], &function.aws).await;
    by_bucket.tick().await;
    assert_eq!(by_bucket.announced(), by_bucket.aws.keys("events/"));
    let without_topic = Function::with(&[("NOTIFY", "s3"), ("LANDED_TOPIC_ARN", "")], &function.aws).await;
    without_topic.tick().await;
}

#[tokio::test]
async fn a_function_killed_after_the_put_leaves_a_file_that_the_next_delivery_finds() {
    for service in ["s3:PutObject events/", "sns:Publish"] {
        let function = Function::new(&[]).await;
        let event = events::event(&hundred());
        function.aws.fail(move |call| call.starts_with(service).then_some(Fault::Hang));
        let killed = tokio::time::timeout(std::time::Duration::from_millis(300), function.invoke(&event)).await;
        assert!(killed.is_err(), "{service} hangs");
        function.aws.recover();
        assert_eq!(function.invoke(&event).await, Vec::<String>::new());
        assert_eq!(function.aws.keys("events/").len(), 1);
        assert_eq!((function.rows().num_rows(), function.quarantined().len()), (98, 2));
        assert!(!function.aws.state().notices.is_empty());
    }
}

#[test]
fn every_statement_of_its_role_is_used() {
    the_same_batch_twice_is_one_object_and_a_second_notice();
    two_bad_messages_of_a_hundred_are_quarantined_and_98_rows_land();
    every_kind_of_poison_is_kept_once_with_its_reason();
    draining_makes_one_file_of_the_whole_queue_and_deletes_what_it_received();
    what_was_drained_and_did_not_land_is_left_to_the_queue();
    while_the_topic_refuses_every_row_lands_once_and_afterwards_every_file_is_announced();
    roles::writer().assert_everything_is_used();
}

#[tokio::test]
async fn the_bucket_may_do_the_announcing() {
    let function = Function::new(&[("NOTIFY", "s3"), ("LANDED_TOPIC_ARN", "")]).await;
    assert_eq!(function.invoke(&events::event(&hundred())).await, Vec::<String>::new());
    assert_eq!(function.aws.state().notices.len(), 0);
    assert_eq!(function.rows().num_rows(), 98);
}

#[tokio::test]
async fn ndjson_holds_the_same_rows() {
    let plain = Function::new(&[("OUTPUT_FORMAT", "ndjson")]).await;
    let gzip = Function::new(&[("OUTPUT_FORMAT", "ndjson.gz")]).await;
    let event = events::event(&hundred());
    plain.invoke(&event).await;
    gzip.invoke(&event).await;
    let key = plain.aws.keys("events/")[0].clone();
    assert!(key.ends_with(".ndjson"), "{key}");
    let text = String::from_utf8(plain.aws.body(&key)).unwrap();
    let mut unpacked = String::new();
    let packed = gzip.aws.body(&format!("{key}.gz"));
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);

    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 98);
    let order = rows.iter().find(|row| row["event_id"] == "event-message-00001").unwrap();
    assert_eq!(
        *order,
        json!({
            "event_id": "event-message-00001",
            "message_id": "message-00001",
            "source": "orders",
            "type": "OrderCreated",
            "sent_at": "2026-11-20T14:11:46.001Z",
            "payload_sha256": order["payload_sha256"],
            "order_created": {
                "order_id": "ORD-000001",
                "order_ts": "2026-11-20T14:11:41.250Z",
                "customer_id": "CUS-0001",
                "sku": "SKU-0001",
                "quantity": 2,
                "price": {"units": 100, "scale": 2},
                "status": "ORDER_STATUS_PAID",
            },
        })
    );
}

#[tokio::test]
async fn a_file_has_footer_metadata_and_page_indexes() {
    let function = Function::new(&[("ROW_GROUP_ROWS", "40")]).await;
    function.invoke(&events::event(&hundred())).await;
    let body = Bytes::from(function.aws.body(&function.aws.keys("events/")[0]));
    let metadata =
        ParquetMetaDataReader::new().with_page_index_policy(parquet::file::metadata::PageIndexPolicy::Required);
    let metadata = metadata.parse_and_finish(&body).unwrap();
    let groups: Vec<i64> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [40, 40, 18]);
    for group in 0..groups.len() {
        let index = metadata.page_index_for_row_group(group);
        for column in 0..metadata.row_group(group).num_columns() {
            assert!(index.offset_index(column).is_some() && index.column_index(column).is_some());
        }
    }
    let footer: BTreeMap<String, String> = metadata
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|pair| (pair.key.clone(), pair.value.clone().unwrap()))
        .collect();
    assert_eq!(footer["landfall.rows"], "98");
    assert_eq!(footer["landfall.min_sent_at"], "2026-11-20T14:11:46.000Z");
    assert_eq!(footer["landfall.max_sent_at"], "2026-11-20T14:11:46.099Z");
    assert_eq!(footer["landfall.schema_fingerprint"], function.app.tables.of(None).0.fingerprint());
}

fn queued(message: &Sent) -> QueuedMessage {
    let attributes: serde_json::Map<String, Value> = message
        .attributes
        .iter()
        .map(|(name, value)| (name.clone(), json!({"DataType": "String", "StringValue": value})))
        .collect();
    QueuedMessage {
        id: message.id.clone(),
        body: message.body.clone(),
        attributes: attributes.into(),
        sent_timestamp: message.sent_ms,
        visible: true,
    }
}

/// A function with draining and a queue of 100 messages, these messages, and an event with the first ten of them.
async fn draining(target_bytes: &str) -> (Function, Vec<Sent>, Value) {
    draining_with(&[], target_bytes).await
}

async fn draining_with(settings: &[(&'static str, &str)], target_bytes: &str) -> (Function, Vec<Sent>, Value) {
    let drain = [("DRAIN_TARGET_BYTES", target_bytes), ("DRAIN_MAX_SECONDS", "5")];
    let function = Function::new(&[settings, &drain].concat()).await;
    let messages = hundred();
    let mut queue: Vec<QueuedMessage> = messages.iter().map(queued).collect();
    queue[..10].iter_mut().for_each(|message| message.visible = false);
    function.aws.state().queue = queue;
    let event = events::event(&messages[..10]);
    (function, messages, event)
}

#[tokio::test]
async fn draining_makes_one_file_of_the_whole_queue_and_deletes_what_it_received() {
    let (function, messages, event) = draining("1000000").await;
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    assert_eq!(function.aws.keys("events/").len(), 1);
    assert_eq!((function.rows().num_rows(), function.quarantined().len()), (98, 2));
    let left: Vec<String> = function.aws.state().queue.iter().map(|message| message.id.clone()).collect();
    let event_ids: Vec<String> = messages[..10].iter().map(|message| message.id.clone()).collect();
    assert_eq!(left, event_ids, "Lambda deletes the event's own");
    let calls = function.aws.take_calls();
    let position = |name: &str| calls.iter().position(|call| call.starts_with(name)).unwrap();
    assert!(position("sns:Publish") < position("sqs:DeleteMessageBatch"), "deleted only once announced");
    assert_eq!(calls.iter().filter(|call| *call == "sqs:DeleteMessageBatch").count(), 9);
}

#[tokio::test]
async fn the_envelope_is_in_front_and_types_follow_in_the_order_of_the_file() {
    let function = Function::new(&[]).await;
    let names: Vec<&str> =
        function.app.tables.of(None).0.schema().fields().iter().map(|field| field.name().as_str()).collect();
    let order = std::fs::read_to_string(events::root().join("proto/columns.txt")).unwrap();
    let types = order.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_once(' ').unwrap().0);
    let expected: Vec<&str> = shared::event::ENVELOPE.into_iter().chain(types).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn by_type_every_type_has_a_folder_and_files_with_its_columns_only() {
    let function = Function::new(&[("EVENTS_LAYOUT", "by-type")]).await;
    assert_eq!(function.invoke(&events::event(&hundred())).await, Vec::<String>::new());
    let keys = function.aws.keys("events/");
    let folders: Vec<&str> = keys.iter().map(|key| key.split('/').nth(1).unwrap()).collect();
    assert_eq!(folders, ["card_catalog_created", "manufacturing_batch", "order_created", "unregistered"]);
    let mut landed = Vec::new();
    for (key, folder) in keys.iter().zip(folders) {
        assert!(key.starts_with(&format!("events/{folder}/2026/11/20/20261120T141146")), "{key}");
        let rows = read(function.aws.body(key)).remove(0);
        let columns = rows.schema();
        let columns: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
        let of_type: Vec<&str> = [folder].into_iter().filter(|folder| *folder != "unregistered").collect();
        assert_eq!(columns, [&shared::event::ENVELOPE[..], &of_type].concat());
        if let Some(of_type) = rows.column_by_name(folder) {
            assert_eq!(of_type.null_count(), 0);
        }
        landed.extend(strings(&rows, "event_id"));
    }
    let together = Function::new(&[]).await;
    together.invoke(&events::event(&hundred())).await;
    assert_eq!(sorted(landed), sorted(strings(&together.rows(), "event_id")));
    assert_eq!(function.announced(), keys);
    assert_eq!(function.quarantined().len(), 2);
}

#[tokio::test]
async fn by_type_a_file_that_cannot_be_written_gives_back_its_own_messages_only() {
    let function = Function::new(&[("EVENTS_LAYOUT", "by-type")]).await;
    function.aws.fail(|call| call.starts_with("s3:PutObject events/order_created/").then_some(Fault::Unavailable));
    let failed = function.invoke(&events::event(&[events::card(1), events::order(2), events::batch(3)])).await;
    assert_eq!(failed, ["message-00002"]);
    assert_eq!(function.aws.keys("events/").len(), 2);
}

#[tokio::test]
async fn with_no_time_left_no_file_is_begun() {
    let function = Function::new(&[("EVENTS_LAYOUT", "by-type")]).await;
    let sent = [events::card(1), events::order(2), events::batch(3)];
    let deadline_ms = u64::try_from(runtime::clock::unix_ms()).unwrap();
    let response = handle(&function.app, events::event(&sent).to_string().into(), deadline_ms).await.unwrap();
    assert_eq!(response.batch_item_failures.len(), 3, "all come again");
    assert_eq!(function.aws.keys("events/"), Vec::<String>::new());
}

#[tokio::test]
async fn draining_waits_if_told_to() {
    let settings = [("DRAIN_WAIT_SECONDS", "3"), ("QUEUE_URL", QUEUE_URL)];
    let (function, _, event) = draining_with(&settings, "1000000").await;
    let late = function.aws.state().queue.split_off(20);
    let aws = function.aws.clone();
    let arrives = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        aws.state().queue.extend(late);
    };
    let (failed, ()) = tokio::join!(function.invoke(&event), arrives);
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(function.rows().num_rows() + function.quarantined().len(), 100, "also what arrives meanwhile");
}

#[tokio::test]
async fn a_message_whose_elements_need_too_much_memory_lands_with_its_payload() {
    let types = crate::schemas::Types::new(
        "message Wide { option (landfall.event) = {}; repeated Line lines = 1; string id = 2; }
         message Line { int64 a = 1; int64 b = 2; int64 c = 3; int64 d = 4; int64 e = 5; int64 f = 6; int64 g = 7; int64 h = 8;
           string i = 9; string j = 10; string k = 11; }",
        "",
        "wide shop.Wide",
    );
    let function = Function::with_types(&[], &Aws::for_role(roles::writer()), types.registry.clone()).await;
    let large = Sent::new("large", "shop", "Wide", &[0x0a, 0].repeat(390_000), SENT_MS);
    let small = Sent::new("small", "shop", "Wide", b"\x12\x01a", SENT_MS);
    assert_eq!(function.invoke(&events::event([&large, &small])).await, Vec::<String>::new());
    let rows = function.rows();
    assert_eq!(strings(&rows, "message_id"), ["large", "small"]);
    let (wide, raw) = (rows.column_by_name("wide").unwrap(), rows.column_by_name("_raw").unwrap());
    assert_eq!([wide.is_null(0), wide.is_null(1), raw.is_null(0), raw.is_null(1)], [true, false, false, true]);
}

#[tokio::test]
async fn without_a_backlog_nothing_is_waited_for() {
    for (queued_messages, receives) in [(0, 2), (3, 2), (4, 2)] {
        let (function, _, event) = draining("1000000").await;
        let left = function.aws.state().queue.split_off(10 + queued_messages);
        assert_eq!(left.len(), 90 - queued_messages);
        function.aws.state().queue.drain(..10);
        assert_eq!(function.invoke(&event).await, Vec::<String>::new());
        let calls = function.aws.take_calls();
        let received = calls.iter().filter(|call| *call == "sqs:ReceiveMessage").count();
        assert_eq!(received, receives, "{queued_messages} messages in the queue");
        assert_eq!(function.rows().num_rows() + function.quarantined().len(), 10 + queued_messages);
    }
}

#[tokio::test]
async fn draining_stops_at_its_target() {
    let (function, _, event) = draining("2000").await;
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    let landed = function.rows().num_rows() + function.quarantined().len();
    assert!((20..100).contains(&landed), "{landed}");
    let state = function.aws.state();
    assert_eq!(state.queue.len(), 100 - (landed - 10), "what was not received is still in the queue");
    assert!(state.queue[10..].iter().all(|message| message.visible));
}

#[tokio::test]
async fn draining_stops_before_memory_runs_out() {
    let (mut function, _, event) = draining("200000").await;
    function.app.config.drain.as_mut().unwrap().memory_bytes = 1 << 20;
    let messages: Vec<QueuedMessage> = (0..2_000).map(|n| queued(&events::order(n))).collect();
    function.aws.state().queue = messages;
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    let state = function.aws.state();
    // The limit is 1 MiB, at 1,024 bytes plus twice the payload per message. Eight concurrent receives may exceed it.
    assert!((1_050..1_250).contains(&state.queue.len()), "{}", state.queue.len());
}

#[tokio::test]
async fn what_was_drained_and_did_not_land_is_left_to_the_queue() {
    let (function, messages, event) = draining("1000000").await;
    function.aws.fail(|call| call.starts_with("s3:PutObject events/").then_some(Fault::Unavailable));
    let failed = function.invoke(&event).await;
    assert_eq!(failed.len(), 10, "only the event's own messages are reported: {failed:?}");
    {
        let state = function.aws.state();
        assert_eq!(state.queue.len(), 98, "the poison is quarantined and gone");
        assert!(state.queue[10..].iter().all(|message| !message.visible), "until their pauses are over");
        assert_eq!(state.hidden_s.len(), 98, "those of the event and those that were drained");
        assert!(state.hidden_s.values().all(|seconds| *seconds == 5), "{:?}", state.hidden_s);
    }
    function.aws.state().queue.iter_mut().for_each(|message| message.visible = true);
    function.aws.recover();
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    let quarantined = function.quarantined().into_iter().map(|record| record.id);
    let all = sorted(function.landed_ids().into_iter().chain(quarantined));
    let ids: HashSet<String> = messages.into_iter().map(|message| message.id).collect();
    assert_eq!(all.iter().cloned().collect::<HashSet<_>>(), ids);
}

#[tokio::test]
async fn a_queue_that_cannot_be_received_from_does_not_hold_up_the_event() {
    let (function, _, event) = draining("1000000").await;
    function.aws.fail(|call| call.starts_with("sqs:ReceiveMessage").then_some(Fault::Unavailable));
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    assert_eq!(function.rows().num_rows(), 10);
}

#[tokio::test]
async fn landed_messages_that_cannot_be_deleted_land_again_and_are_not_lost() {
    let (function, _, event) = draining("1000000").await;
    function.aws.fail(|call| call.starts_with("sqs:DeleteMessageBatch").then_some(Fault::Unavailable));
    assert_eq!(function.invoke(&event).await, Vec::<String>::new());
    assert_eq!(function.aws.state().queue.len(), 100);
    assert_eq!(function.rows().num_rows(), 98);
}

#[tokio::test]
async fn draining_does_nothing_for_an_empty_event() {
    let (function, _, _) = draining("1000000").await;
    function.invoke(&events::file("parquet-writer-empty.json")).await;
    assert_eq!(function.aws.take_calls(), Vec::<String>::new());
}

#[test]
fn envelopes_are_read_as_the_events_crate_reads_them() {
    let registry = Registry::embedded().unwrap();
    let mut messages = 0;
    for entry in std::fs::read_dir(events::root().join("events")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.starts_with("parquet-writer-") || name == "parquet-writer-tick.json" {
            continue;
        }
        let event = events::file(&name);
        let theirs: aws_lambda_events::sqs::SqsEvent = serde_json::from_value(event.clone()).unwrap();
        let ours = Batch::of_event(event.to_string().as_bytes(), &registry).unwrap();
        assert_eq!(ours.message_ids().count(), theirs.records.len(), "{name}");
        let by_id: BTreeMap<&str, _> = ours.records.iter().map(|record| (ours.message_id(record), record)).collect();
        for message in &theirs.records {
            let Some(record) = by_id.get(message.message_id.as_deref().unwrap()) else { continue };
            let attribute = |name: &str| message.message_attributes.get(name)?.string_value.clone();
            assert_eq!(ours.type_name(record), attribute("type").unwrap());
            assert_eq!(ours.source(record).map(str::to_owned), attribute("source"));
            assert_eq!(ours.event_id(record), attribute("event_id").unwrap());
            assert_eq!(record.sent_at_ms().to_string(), message.attributes["SentTimestamp"]);
            let body = base64_simd::STANDARD.decode_to_vec(message.body.as_deref().unwrap()).unwrap();
            assert_eq!(ours.payload(record), body);
            messages += 1;
        }
    }
    assert!(messages > 15);
}

/// Random messages: valid, unusual, and invalid in any field.
fn any_messages() -> impl Strategy<Value = Vec<Sent>> {
    let one = (0..40_usize, 0..12_u8, "\\PC{0,8}", prop::collection::vec(any::<u8>(), 0..40), -2..3_i64);
    prop::collection::vec(one, 0..25).prop_map(|seeds| {
        seeds
            .into_iter()
            .map(|(n, kind, text, bytes, day)| {
                let mut message = match n % 3 {
                    0 => events::order(n),
                    1 => events::card(n),
                    _ => events::batch(n),
                };
                message.sent_ms = SENT_MS + day * 86_400_000 + i64::try_from(n).unwrap();
                message.id = format!("{kind}-{day}-{n}");
                match kind {
                    0 => message.body = text,
                    1 => message.body = shared::quarantine::base64(&bytes),
                    2 => message.attributes[1].1 = text,
                    3 => message.attributes.clear(),
                    4 => message.attributes[2].1 = format!("{text}\"\\\u{1f980}\n"),
                    5 => message.attributes.push((text, "other".into())),
                    6 => message.sent_ms = -1,
                    _ => {}
                }
                message
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn everything_that_comes_in_lands_or_is_quarantined(messages in any_messages()) {
        run(async move {
            let function = Function::new(&[]).await;
            assert_eq!(function.invoke(&events::event(&messages)).await, Vec::<String>::new());
            let ids: HashSet<&str> = messages.iter().map(|message| message.id.as_str()).collect();
            let files = function.aws.keys("events/");
            let rows: usize = files.iter().flat_map(|key| read(function.aws.body(key))).map(|rows| rows.num_rows()).sum();
            assert_eq!(rows + function.quarantined().len(), ids.len());
        });
    }

    #[test]
    fn the_same_messages_in_another_order_are_the_same_objects(
        messages in any_messages().prop_map(|mut messages| {
            messages.sort_by(|a, b| a.id.cmp(&b.id));
            messages.dedup_by(|a, b| a.id == b.id);
            messages
        }),
        seed in any::<prop::sample::Index>(),
    ) {
        run(async move {
            let (forward, turned) = (Function::new(&[]).await, Function::new(&[]).await);
            let mut other = messages.clone();
            other.reverse();
            let middle = if other.is_empty() { 0 } else { seed.index(other.len()) };
            other.rotate_left(middle);
            forward.invoke(&events::event(&messages)).await;
            turned.invoke(&events::event(&other)).await;
            assert_eq!(forward.aws.state().s3.objects, turned.aws.state().s3.objects);
        });
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}
