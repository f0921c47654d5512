//! Events for the tests of this folder, and helpers to look into the notices read from them.

use std::{fs, path::Path};

use proptest::prelude::*;
use serde_json::{Value, json};
use shared::s3_key;

use super::{Event, Notice, read, record::MAX_KEY_BYTES};

pub(super) const BUCKET: &str = "landfall-incoming-000000000000-us-east-1";
pub(super) const LOAD: &str = "cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz";
pub(super) const CHANGES: [&str; 2] = [
    "cubic/ods_qlik/EDW.SAMPLE__ct/20261120-141142917.csv.gz",
    "cubic/ods_qlik/EDW.SAMPLE__ct/20261120-141143044.csv.gz",
];
pub(super) const DMAP: &str = "cubic/dmap/agg_sample/20261120.csv";
pub(super) const KAFKA: &str = "cubic/kafka/sample/vytxeTZskVKR7C7WgdSP3d.json";
pub(super) const FILES: [&str; 11] = [
    "s3",
    "sqs",
    "sns",
    "eventbridge",
    "test-event",
    "deletions",
    "one-poison",
    "odd-keys",
    "migrate",
    "tables-list",
    "reconcile",
];

pub(super) fn file(name: &str) -> String {
    let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
    fs::read_to_string(events.join(format!("load-registrar-{name}.json"))).unwrap()
}

pub(super) fn notices(event: &str) -> Vec<Notice> {
    match read(event.as_bytes()).unwrap() {
        Event::Notices(notices) => notices,
        Event::Command => panic!("a command"),
    }
}

pub(super) fn notice(event: &Value) -> Notice {
    let mut notices = notices(&event.to_string());
    assert_eq!(notices.len(), 1);
    notices.remove(0)
}

pub(super) fn keys(notices: &[Notice]) -> Vec<&str> {
    notices.iter().flat_map(|notice| &notice.puts).map(|put| put.key.as_str()).collect()
}

pub(super) fn reasons(notice: &Notice) -> Vec<&str> {
    notice.poison.iter().map(|poison| poison.reason.as_str()).collect()
}

/// Number of records in a notice, which is never 0.
pub(super) fn records(notice: &Notice) -> usize {
    notice.puts.len() + notice.ignored.total() + notice.poison.len()
}

pub(super) fn s3_record(key: &str) -> Value {
    json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "eventTime": "2026-11-20T14:11:46.123Z",
        "eventName": "ObjectCreated:Put",
        "responseElements": {"x-amz-request-id": "KWABFSE6JNM4KFQW"},
        "s3": {"bucket": {"name": BUCKET}, "object": {"key": s3_key::encode(key), "size": 7, "eTag": "d41d"}},
    })
}

pub(super) fn s3_event(key: &str) -> Value {
    json!({"Records": [s3_record(key)]})
}

/// The record of an S3 event with one of its members changed, or taken away.
pub(super) fn with(pointer: &str, value: Value) -> Value {
    let mut record = s3_record(KAFKA);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = record.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Value::Null => drop(parent.remove(name)),
        value => drop(parent.insert(name.to_owned(), value)),
    }
    record
}

pub(super) fn bridge(key: &str) -> Value {
    json!({
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "time": "2026-11-20T14:11:46Z",
        "detail": {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": key, "size": 7, "etag": "d41d"}},
    })
}

pub(super) fn sns(body: &Value) -> Value {
    json!({"Type": "Notification", "Message": body.to_string()})
}

pub(super) fn sns_direct(body: &Value) -> Value {
    let sns = json!({
        "Type": "Notification",
        "MessageId": "82833b5c-8d5d-56d0-b0e1-7511f8253eb8",
        "Message": body.to_string(),
        "Timestamp": "2026-11-20T14:11:46.800Z",
    });
    json!({"Records": [{"EventVersion": "1.0", "EventSource": "aws:sns", "Sns": sns}]})
}

pub(super) fn sqs_message(body: &str) -> Value {
    json!({
        "messageId": "c9a8f2b3",
        "body": body,
        "attributes": {"SentTimestamp": "1795183906123"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
    })
}

pub(super) fn sqs(body: &Value) -> Value {
    json!({"Records": [sqs_message(&body.to_string())]})
}

/// Keys that S3 allows.
pub(super) fn key() -> impl Strategy<Value = String> {
    let any = prop_oneof![any::<String>(), "[ -~]{1,300}", "\\PC{1,40}", "[a-z/._+% ]{1,60}(__ct/)?[0-9]{8}.csv.gz"];
    any.prop_filter("a key", |key| (1..=MAX_KEY_BYTES).contains(&key.len()))
}
