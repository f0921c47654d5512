//! Lambda events → what they announce: objects that were put, records that announce none, and poison.
//!
//! | comes by | the S3 event is |
//! |---|---|
//! | S3 → Lambda | the event |
//! | S3 → SQS, S3 → SNS → SQS with raw delivery | the body of a message |
//! | S3 → SNS → SQS | the text `Message` in the body of a message |
//! | S3 → SNS → Lambda | the text `Sns.Message` of a record |
//! | EventBridge → Lambda, → SQS, → SNS → … | `detail`, with keys that are not encoded |
//!
//! Everything is read member by member: what is not needed is passed over without being looked at, so a record can be
//! wrong in any way and its neighbours are still read. The last of several members of one name counts.
//!
//! Sources: "Event message structure" and "EventBridge event message structure", Amazon S3 user guide; "Parsing message
//! formats", Amazon SNS developer guide.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Value, value::RawValue};
use shared::{
    layout::Day,
    quarantine::{QuarantineRecord, base64, rfc3339},
    s3_key,
};

use crate::error::RecordError;

/// SNS notifications that are taken off to find an event. S3 → SNS makes one, and forwarding to a second topic another.
const MOST_WRAPPINGS: usize = 2;

/// Longest key that S3 allows, in bytes.
const MOST_KEY_BYTES: usize = 1_024;

/// Member names that an error tells, and their length.
const MOST_NAMES: usize = 12;
const MOST_NAME_CHARS: usize = 40;

/// What invoked the function.
#[derive(Debug, Clone)]
pub enum Event {
    /// Notifications, each with the SQS message that has to come again if it is not registered.
    Notices(Vec<Notice>),
    /// A command: a JSON object with a member `command`. It is not looked at any further here.
    Command,
}

/// The event cannot be read at all; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The event is none that this function knows.
    #[error(
        "the event is {found}; known are S3 events, SQS batches of them, SNS notifications, EventBridge events of S3, \
         and objects with a member \"command\""
    )]
    Unknown {
        /// What it is.
        found: String,
    },
    /// Without its id a message cannot be reported as failed.
    #[error("record {position} of the SQS event has no messageId: it is {found}")]
    MessageId {
        /// Its position in `Records`.
        position: usize,
        /// What it is.
        found: String,
    },
}

/// One notification envelope: an SQS message, or a direct S3, SNS or EventBridge event.
///
/// It announces at least one put, ignored record or poison.
#[derive(Debug, Clone, Default)]
pub struct Notice {
    /// The SQS message's id. `None` when it did not come by SQS: then the whole invocation has to fail to come again.
    pub message_id: Option<String>,
    /// Objects that were put.
    pub puts: Vec<Put>,
    /// Records that announce nothing to register.
    pub ignored: Ignored,
    /// Records that can never be read.
    pub poison: Vec<Poison>,
}

/// Number of records that announce nothing to register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// `s3:TestEvent`, which S3 sends when notifications are configured.
    pub test_events: usize,
    /// Objects that were removed.
    pub deletions: usize,
    /// All else that creates nothing: lifecycle, restore, tagging, access control, replication.
    pub others: usize,
}

impl Ignored {
    /// Number of all of them.
    #[must_use]
    pub const fn total(&self) -> usize {
        let Self { test_events, deletions, others } = self;
        *test_events + *deletions + *others
    }
}

/// An object that was put, as the notification says. S3 has the last word on all but bucket, key and version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Put {
    /// The bucket's name.
    pub bucket: String,
    /// The key as S3 stores it, 1 to 1,024 bytes. Any text: `..`, quotes and NUL too.
    pub key: String,
    /// The version, in a bucket that has them.
    pub version: Option<String>,
    /// The ETag without quotes.
    pub e_tag: Option<String>,
    /// Size in bytes.
    pub size: Option<i64>,
    /// Where this was read.
    pub source: Source,
}

/// A record that will never be registered, and all that is kept of it.
#[derive(Debug, Clone)]
pub struct Poison {
    /// Why.
    pub error: RecordError,
    /// What goes to the quarantine.
    pub record: QuarantineRecord,
}

/// Where something was read: what the quarantine keeps if it turns out to be poison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    sender: Arc<Sender>,
    body: String,
}

/// What the quarantine keeps besides the bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sender {
    id: String,
    sent_at: Option<String>,
    /// A JSON object.
    attributes: String,
}

/// What one record says.
enum Said {
    Put(Put),
    TestEvent,
    Deletion,
    Other,
}

/// Reads an event.
pub fn read(event: &[u8]) -> Result<Event, EventError> {
    let text =
        std::str::from_utf8(event).map_err(|error| EventError::Unknown { found: format!("no text: {error}") })?;
    let unknown = || EventError::Unknown { found: describe_event(text) };
    let object = Object::of(text).ok_or_else(unknown)?;
    if object.raw("command").is_some() {
        return Ok(Event::Command);
    }
    let records = object.array("Records").unwrap_or_default();
    if records.iter().any(|record| Object::of(record.get()).is_some_and(|record| record.is_sqs())) {
        let messages = records.iter().enumerate().map(|(position, record)| Notice::of_message(position, record.get()));
        return messages.collect::<Result<_, _>>().map(Event::Notices);
    }
    if object.raw("Records").is_some_and(|records| is_empty_array(records.get())) {
        return Ok(Event::Notices(Vec::new()));
    }
    let mut notice = Notice::default();
    match notice.read(None, text, 0) {
        Ok(()) => {}
        Err(RecordError::UnknownEnvelope { .. }) => return Err(unknown()),
        Err(error) => notice.poison.push(Source::of_record(0, Some(&object), text).into_poison(error)),
    }
    Ok(Event::Notices(vec![notice]))
}

impl Notice {
    /// One record of an SQS event.
    fn of_message(position: usize, record: &str) -> Result<Self, EventError> {
        let without_id = || EventError::MessageId { position, found: describe(record) };
        let message = Object::of(record).ok_or_else(without_id)?;
        let id = message.text("messageId").filter(|id| !id.is_empty()).ok_or_else(without_id)?;
        let sender = Arc::new(Sender::of_message(id.clone(), &message));
        let mut notice = Self { message_id: Some(id), ..Self::default() };
        let (read, body) = match message.text("body") {
            Some(body) => (notice.read(Some(&sender), &body, 0), body),
            None => {
                let body = message.raw("body").map_or("", RawValue::get);
                (Err(RecordError::InvalidRecord("body")), body.to_owned())
            }
        };
        if let Err(error) = read {
            notice.poison.push(Source { sender, body }.into_poison(error));
        }
        Ok(notice)
    }

    /// Reads what was sent. On an error nothing was taken from it, and it is poison as a whole.
    ///
    /// Without a sender each record speaks for itself.
    fn read(&mut self, sender: Option<&Arc<Sender>>, body: &str, wrappings: usize) -> Result<(), RecordError> {
        let unknown = || RecordError::UnknownEnvelope { found: describe(body) };
        let object = Object::of(body).ok_or_else(unknown)?;
        let records = object.array("Records").unwrap_or_default();
        if records.iter().filter_map(|record| Object::of(record.get())).any(|record| record.is_s3() || record.is_sns())
        {
            for (position, record) in records.iter().enumerate() {
                self.read_record(sender, position, record.get(), wrappings);
            }
            return Ok(());
        }
        if object.is("Event", "s3:TestEvent") {
            self.ignored.test_events += 1;
            return Ok(());
        }
        if object.is("Type", "Notification")
            && let Some(message) = object.text("Message")
        {
            return self.read_notification(sender, &message, wrappings);
        }
        let said = if object.is("source", "aws.s3") {
            let kind = object.text("detail-type").ok_or_else(unknown)?;
            event_bridge(&kind, &object, unknown)?
        } else if object.is_s3() {
            // A record without its envelope, as the quarantine keeps it: somebody sends it again.
            s3_record(&object)?
        } else {
            return Err(unknown());
        };
        let source = match sender {
            Some(sender) => Source { sender: Arc::clone(sender), body: body.to_owned() },
            None => Source::of_record(0, Some(&object), body),
        };
        self.push(said, source);
        Ok(())
    }

    /// Reads what an SNS notification holds.
    fn read_notification(
        &mut self,
        sender: Option<&Arc<Sender>>,
        message: &str,
        wrappings: usize,
    ) -> Result<(), RecordError> {
        if wrappings == MOST_WRAPPINGS {
            return Err(RecordError::NestedTooDeep { most: MOST_WRAPPINGS });
        }
        self.read(sender, message, wrappings + 1)
    }

    /// Reads one of several records of an S3 event, or of the event that SNS sends to a function.
    fn read_record(&mut self, sender: Option<&Arc<Sender>>, position: usize, record: &str, wrappings: usize) {
        let object = Object::of(record);
        let sns = object.as_ref().filter(|object| object.is_sns()).and_then(|object| object.object("Sns"));
        if let Some(sns) = sns
            && let Some(message) = sns.text("Message")
        {
            let sender = sender.map_or_else(|| Arc::new(Sender::of_notification(position, &sns)), Arc::clone);
            if let Err(error) = self.read_notification(Some(&sender), &message, wrappings) {
                self.poison.push(Source { sender, body: message }.into_poison(error));
            }
            return;
        }
        let source = match sender {
            Some(sender) => Source { sender: Arc::clone(sender), body: record.to_owned() },
            None => Source::of_record(position, object.as_ref(), record),
        };
        let unknown = || RecordError::UnknownEnvelope { found: describe(record) };
        match object.filter(Object::is_s3).ok_or_else(unknown).and_then(|object| s3_record(&object)) {
            Ok(said) => self.push(said, source),
            Err(error) => self.poison.push(source.into_poison(error)),
        }
    }

    fn push(&mut self, said: Said, source: Source) {
        match said {
            Said::Put(put) => self.puts.push(Put { source, ..put }),
            Said::TestEvent => self.ignored.test_events += 1,
            Said::Deletion => self.ignored.deletions += 1,
            Said::Other => self.ignored.others += 1,
        }
    }
}

impl Put {
    /// The poison that the put turns out to be.
    #[must_use]
    pub fn into_poison(self, error: RecordError) -> Poison {
        self.source.into_poison(error)
    }
}

impl Source {
    /// A record that came without a message around it.
    fn of_record(position: usize, record: Option<&Object<'_>>, body: &str) -> Self {
        let id = record.and_then(|record| {
            let request_id = record.object("responseElements").and_then(|elements| elements.text("x-amz-request-id"));
            request_id.or_else(|| record.text("id")).filter(|id| !id.is_empty())
        });
        let time = record.and_then(|record| record.text("eventTime").or_else(|| record.text("time")));
        let sender = Sender {
            id: id.unwrap_or_else(|| position.to_string()),
            sent_at: time.as_deref().and_then(sent_at_of_text),
            attributes: "{}".to_owned(),
        };
        Self { sender: Arc::new(sender), body: body.to_owned() }
    }

    fn into_poison(self, error: RecordError) -> Poison {
        let record = QuarantineRecord {
            function: crate::FUNCTION.to_owned(),
            reason: error.reason().to_owned(),
            detail: error.to_string(),
            id: self.sender.id.clone(),
            sent_at: self.sender.sent_at.clone(),
            attributes: RawValue::from_string(self.sender.attributes.clone()).unwrap_or_default(),
            body_base64: base64(self.body.as_bytes()),
        };
        Poison { error, record }
    }
}

impl Sender {
    fn of_message(id: String, message: &Object<'_>) -> Self {
        let sent = message.object("attributes").and_then(|attributes| attributes.text("SentTimestamp"));
        let sent_at = sent.and_then(|ms| ms.parse().ok()).and_then(sent_at);
        Self { id, sent_at, attributes: attributes(message.object("messageAttributes")) }
    }

    fn of_notification(position: usize, sns: &Object<'_>) -> Self {
        let id = sns.text("MessageId").filter(|id| !id.is_empty());
        Self {
            id: id.unwrap_or_else(|| position.to_string()),
            sent_at: sns.text("Timestamp").as_deref().and_then(sent_at_of_text),
            attributes: "{}".to_owned(),
        }
    }
}

/// Message attributes as the quarantine keeps them: name → `{"dataType", "stringValue" | "binaryValue"}`, on one line.
/// The lists, which SQS has never implemented, are left out.
fn attributes(attributes: Option<Object<'_>>) -> String {
    let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or(Value::Null);
    let kept: BTreeMap<String, Value> = attributes
        .map(|Object(attributes)| attributes)
        .unwrap_or_default()
        .into_iter()
        .map(|(name, attribute)| {
            let Some(attribute) = Object::of(attribute.get()) else { return (name, value(attribute)) };
            let members = ["dataType", "stringValue", "binaryValue"];
            let members = members.iter().filter_map(|name| Some(((*name).to_owned(), value(attribute.raw(name)?))));
            (name, Value::Object(members.filter(|(_, value)| !value.is_null()).collect()))
        })
        .collect();
    serde_json::to_string(&kept).unwrap_or_else(|_| "{}".to_owned())
}

/// Milliseconds since 1970-01-01T00:00:00Z → RFC 3339, if that is a time at which something can have been sent.
fn sent_at(unix_ms: i64) -> Option<String> {
    (unix_ms > 0 && Day::of_unix_ms(unix_ms).is_ok()).then(|| rfc3339(unix_ms)).flatten()
}

fn sent_at_of_text(text: &str) -> Option<String> {
    sent_at(text.parse::<Timestamp>().ok()?.as_millisecond())
}

/// One record of an S3 event.
fn s3_record(record: &Object<'_>) -> Result<Said, RecordError> {
    supported_version(record.raw("eventVersion"), "2")?;
    let name = record.text("eventName").unwrap_or_default();
    let name = name.strip_prefix("s3:").unwrap_or(&name);
    match name.split(':').next().unwrap_or_default() {
        "" => Err(RecordError::InvalidRecord("eventName")),
        "ObjectCreated" => {
            let s3 = record.object("s3");
            let bucket = s3.as_ref().and_then(|s3| s3.object("bucket")).and_then(|bucket| bucket.text("name"));
            let object =
                s3.as_ref().and_then(|s3| s3.object("object")).ok_or(RecordError::InvalidRecord("s3.object"))?;
            let key = some(object.text("key"), "s3.object.key")?;
            Ok(Said::Put(Put {
                bucket: some(bucket, "s3.bucket.name")?,
                key: fitting(s3_key::decode(&key)?)?,
                version: version(&object, "versionId", "s3.object.versionId")?,
                e_tag: e_tag(&object, "eTag"),
                size: size(&object),
                source: Source::default(),
            }))
        }
        "ObjectRemoved" => Ok(Said::Deletion),
        "TestEvent" => Ok(Said::TestEvent),
        _ => Ok(Said::Other),
    }
}

/// One event of S3 by EventBridge.
fn event_bridge(kind: &str, event: &Object<'_>, unknown: impl FnOnce() -> RecordError) -> Result<Said, RecordError> {
    match kind {
        "Object Created" => {
            let detail = event.object("detail").ok_or(RecordError::InvalidRecord("detail"))?;
            // The member came with version 1.0; events before it do not have it.
            if let Some(version) = detail.raw("event-version") {
                supported_version(Some(version), "1")?;
            }
            let bucket = detail.object("bucket").and_then(|bucket| bucket.text("name"));
            let object = detail.object("object").ok_or(RecordError::InvalidRecord("detail.object"))?;
            Ok(Said::Put(Put {
                bucket: some(bucket, "detail.bucket.name")?,
                // Not encoded, other than in the events that S3 sends itself.
                key: fitting(some(object.text("key"), "detail.object.key")?)?,
                version: version(&object, "version-id", "detail.object.version-id")?,
                e_tag: e_tag(&object, "etag"),
                size: size(&object),
                source: Source::default(),
            }))
        }
        "Object Deleted" => Ok(Said::Deletion),
        // Restore, tags, access control, storage class, access tier. What CloudTrail says of S3 (`AWS API Call via
        // CloudTrail`) has the same source and may well be about a put.
        _ if kind.starts_with("Object ") => Ok(Said::Other),
        _ => Err(unknown()),
    }
}

/// Refuses all major versions but one. Minor versions only add members.
fn supported_version(version: Option<&RawValue>, known: &'static str) -> Result<(), RecordError> {
    let text: Option<String> = version.and_then(|version| serde_json::from_str(version.get()).ok());
    let supported = text.as_deref().and_then(|text| text.split_once('.')).is_some_and(|(major, minor)| {
        major == known && !minor.is_empty() && minor.bytes().all(|byte| byte.is_ascii_digit())
    });
    if supported {
        return Ok(());
    }
    let found = version.map_or_else(|| "missing".to_owned(), |version| short(version.get()));
    Err(RecordError::UnsupportedVersion { found, known })
}

fn some(text: Option<String>, member: &'static str) -> Result<String, RecordError> {
    text.filter(|text| !text.is_empty()).ok_or(RecordError::InvalidRecord(member))
}

fn fitting(key: String) -> Result<String, RecordError> {
    if key.len() > MOST_KEY_BYTES { Err(RecordError::KeyTooLong(key.len())) } else { Ok(key) }
}

/// The version decides which object is meant, so it is none or right. Size and ETag are only hints.
fn version(object: &Object<'_>, name: &str, member: &'static str) -> Result<Option<String>, RecordError> {
    let Some(raw) = object.raw(name) else { return Ok(None) };
    let version: Option<String> = serde_json::from_str(raw.get()).map_err(|_| RecordError::InvalidRecord(member))?;
    Ok(version.filter(|version| !version.is_empty()))
}

fn e_tag(object: &Object<'_>, name: &str) -> Option<String> {
    let e_tag = object.text(name)?;
    Some(e_tag.trim_matches('"').to_owned()).filter(|e_tag| !e_tag.is_empty())
}

fn size(object: &Object<'_>) -> Option<i64> {
    serde_json::from_str(object.raw("size")?.get()).ok().filter(|size| *size >= 0)
}

/// A JSON object whose members have not been looked at.
#[derive(Deserialize)]
#[serde(transparent)]
struct Object<'a>(#[serde(borrow)] BTreeMap<String, &'a RawValue>);

impl<'a> Object<'a> {
    /// `None` if it is something else.
    fn of(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied()
    }

    fn object(&self, name: &str) -> Option<Self> {
        Self::of(self.raw(name)?.get())
    }

    fn array(&self, name: &str) -> Option<Vec<&'a RawValue>> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    fn is(&self, name: &str, text: &str) -> bool {
        self.text(name).is_some_and(|other| other == text)
    }

    fn is_s3(&self) -> bool {
        self.is("eventSource", "aws:s3") || self.raw("s3").is_some()
    }

    fn is_sns(&self) -> bool {
        self.is("EventSource", "aws:sns") || self.raw("Sns").is_some()
    }

    fn is_sqs(&self) -> bool {
        self.is("eventSource", "aws:sqs") || self.raw("messageId").is_some()
    }
}

fn is_empty_array(json: &str) -> bool {
    serde_json::from_str::<Vec<IgnoredAny>>(json).is_ok_and(|array| array.is_empty())
}

/// What an event is, for an error: its members, and those of its first record. Never a value.
fn describe_event(event: &str) -> String {
    let found = describe(event);
    let records = Object::of(event).and_then(|event| event.array("Records"));
    match records.as_ref().and_then(|records| records.first()) {
        Some(first) => format!("{found}, whose first record is {}", describe(first.get())),
        None => found,
    }
}

/// What some JSON is, for an error. Never a value of it.
fn describe(json: &str) -> String {
    if let Some(Object(members)) = Object::of(json) {
        if members.is_empty() {
            return "an object without members".to_owned();
        }
        let names: Vec<String> = members.keys().take(MOST_NAMES).map(|name| format!("{:?}", short(name))).collect();
        let more = match members.len().saturating_sub(MOST_NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return format!("an object with the members {}{more}", names.join(", "));
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(json) {
        return format!("no JSON ({error})");
    }
    let what = match json.trim_start().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    };
    what.to_owned()
}

fn short(text: &str) -> String {
    let mut short: String = text.chars().take(MOST_NAME_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::{prelude::*, sample::Index};
    use serde_json::json;

    use super::*;

    const BUCKET: &str = "landfall-incoming-000000000000-us-east-1";
    const LOAD: &str = "cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz";
    const CHANGES: [&str; 2] = [
        "cubic/ods_qlik/EDW.SAMPLE__ct/20261120-141142917.csv.gz",
        "cubic/ods_qlik/EDW.SAMPLE__ct/20261120-141143044.csv.gz",
    ];
    const DMAP: &str = "cubic/dmap/agg_sample/20261120.csv";
    const KAFKA: &str = "cubic/kafka/sample/vytxeTZskVKR7C7WgdSP3d.json";
    const FILES: [&str; 11] = [
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

    fn file(name: &str) -> String {
        let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events");
        fs::read_to_string(events.join(format!("load-registrar-{name}.json"))).unwrap()
    }

    fn notices(event: &str) -> Vec<Notice> {
        match read(event.as_bytes()).unwrap() {
            Event::Notices(notices) => notices,
            Event::Command => panic!("a command"),
        }
    }

    fn notice(event: &Value) -> Notice {
        let mut notices = notices(&event.to_string());
        assert_eq!(notices.len(), 1);
        notices.remove(0)
    }

    fn keys(notices: &[Notice]) -> Vec<&str> {
        notices.iter().flat_map(|notice| &notice.puts).map(|put| put.key.as_str()).collect()
    }

    fn reasons(notice: &Notice) -> Vec<&str> {
        notice.poison.iter().map(|poison| poison.record.reason.as_str()).collect()
    }

    /// What a notice announces, which is never nothing.
    fn said(notice: &Notice) -> usize {
        notice.puts.len() + notice.ignored.total() + notice.poison.len()
    }

    fn s3_record(key: &str) -> Value {
        json!({
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventTime": "2026-11-20T14:11:46.123Z",
            "eventName": "ObjectCreated:Put",
            "responseElements": {"x-amz-request-id": "KWABFSE6JNM4KFQW"},
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": s3_key::encode(key), "size": 7, "eTag": "d41d"}},
        })
    }

    fn s3_event(key: &str) -> Value {
        json!({"Records": [s3_record(key)]})
    }

    /// The record of an S3 event with one of its members changed, or taken away.
    fn with(pointer: &str, value: Value) -> Value {
        let mut record = s3_record(KAFKA);
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = record.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(parent.remove(name)),
            value => drop(parent.insert(name.to_owned(), value)),
        }
        record
    }

    fn bridge(key: &str) -> Value {
        json!({
            "version": "0",
            "id": "17793124-05d4-b198-2fde-7ededc63b103",
            "detail-type": "Object Created",
            "source": "aws.s3",
            "time": "2026-11-20T14:11:46Z",
            "detail": {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": key, "size": 7, "etag": "d41d"}},
        })
    }

    fn sns(body: &Value) -> Value {
        json!({"Type": "Notification", "Message": body.to_string()})
    }

    fn sns_direct(body: &Value) -> Value {
        let sns = json!({
            "Type": "Notification",
            "MessageId": "82833b5c-8d5d-56d0-b0e1-7511f8253eb8",
            "Message": body.to_string(),
            "Timestamp": "2026-11-20T14:11:46.800Z",
        });
        json!({"Records": [{"EventVersion": "1.0", "EventSource": "aws:sns", "Sns": sns}]})
    }

    fn sqs_message(body: &str) -> Value {
        json!({
            "messageId": "c9a8f2b3",
            "body": body,
            "attributes": {"SentTimestamp": "1795183906123"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
        })
    }

    fn sqs(body: &Value) -> Value {
        json!({"Records": [sqs_message(&body.to_string())]})
    }

    #[test]
    fn an_event_of_s3_is_read() {
        let notices = notices(&file("s3"));
        assert_eq!(keys(&notices), [LOAD, CHANGES[0]]);
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        assert_eq!((&notice.message_id, notice.ignored, notice.poison.len()), (&None, Ignored::default(), 0));
        let [load, changes] = &notice.puts[..] else { panic!("{notice:?}") };
        assert_eq!((load.bucket.as_str(), load.size), (BUCKET, Some(48_211_906)));
        assert_eq!(load.e_tag.as_deref(), Some("1ff79a109a5ea6687359fed8692ce354-6"));
        assert_eq!(load.version, None);
        assert_eq!(changes.version.as_deref(), Some("IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"));
    }

    #[test]
    fn a_batch_of_sqs_is_a_notice_a_message() {
        let notices = notices(&file("sqs"));
        assert_eq!(
            keys(&notices),
            [
                LOAD,
                CHANGES[0],
                CHANGES[1],
                DMAP,
                KAFKA,
                "cubic/dmap/agg_sample/20261120 (1).csv",
                "cubic/ods_qlik/EDW.SAMPLE/dt=2026-11-20/LOAD002+é.csv.gz",
            ]
        );
        let event: Value = serde_json::from_str(&file("sqs")).unwrap();
        let ids = event["Records"].as_array().unwrap().iter().map(|record| record["messageId"].as_str());
        assert!(ids.eq(notices.iter().map(|notice| notice.message_id.as_deref())));
    }

    #[test]
    fn sns_notifications_are_read_with_and_without_raw_delivery() {
        assert_eq!(keys(&notices(&file("sns"))), CHANGES);
        let direct = notice(&sns_direct(&s3_event(DMAP)));
        assert_eq!((keys(std::slice::from_ref(&direct)), direct.message_id.as_deref()), (vec![DMAP], None));
    }

    #[test]
    fn keys_of_event_bridge_are_not_decoded() {
        let event: Value = serde_json::from_str(&file("eventbridge")).unwrap();
        for (event, id) in [(event.clone(), None), (sqs(&event), Some("c9a8f2b3"))] {
            let notice = notice(&event);
            assert_eq!(notice.message_id.as_deref(), id);
            let [put] = &notice.puts[..] else { panic!("{notice:?}") };
            assert_eq!((put.bucket.as_str(), put.key.as_str()), (BUCKET, "cubic/dmap/agg_sample/20261120 (1)+%20.csv"));
            assert_eq!((put.size, put.version.as_deref()), (Some(20_480), Some("4ZtIPnZzVhOBD2U4B5jhBGCnRLvAEWC4")));
            assert!(put.e_tag.is_some());
        }
    }

    #[test]
    fn test_events_are_counted_in_any_wrapping() {
        let event: Value = serde_json::from_str(&file("test-event")).unwrap();
        let body: Value = serde_json::from_str(event["Records"][0]["body"].as_str().unwrap()).unwrap();
        let in_records = json!({"Records": [with("/eventName", json!("s3:TestEvent"))]});
        for event in [event, body.clone(), sqs(&sns(&body)), sns_direct(&body), in_records] {
            let notice = notice(&event);
            assert_eq!(notice.ignored, Ignored { test_events: 1, ..Ignored::default() });
            assert_eq!(said(&notice), 1, "{event}");
        }
    }

    #[test]
    fn what_creates_nothing_is_counted() {
        let notices = notices(&file("deletions"));
        let ignored: Vec<Ignored> = notices.iter().map(|notice| notice.ignored).collect();
        let deletion = Ignored { deletions: 1, ..Ignored::default() };
        let other = Ignored { others: 1, ..Ignored::default() };
        assert_eq!(ignored, [deletion, deletion, other, other, other]);
        assert!(notices.iter().all(|notice| said(notice) == 1));
        let kinds = [("Object Deleted", deletion), ("Object Restore Completed", other), ("Object Tags Added", other)];
        for (kind, ignored) in kinds {
            let mut event = bridge(KAFKA);
            event["detail-type"] = kind.into();
            let notice = notice(&event);
            assert_eq!((notice.ignored, said(&notice)), (ignored, 1), "{kind}");
        }
    }

    #[test]
    fn every_way_to_create_an_object_is_a_put() {
        for name in ["Put", "Post", "Copy", "CompleteMultipartUpload"] {
            for name in [format!("ObjectCreated:{name}"), format!("s3:ObjectCreated:{name}")] {
                let event = json!({"Records": [with("/eventName", name.into())]});
                assert_eq!(keys(&[notice(&event)]), [KAFKA]);
            }
        }
    }

    #[test]
    fn one_poison_body_does_not_hurt_its_neighbours() {
        let text = file("one-poison");
        let notices = notices(&text);
        assert_eq!(keys(&notices), [CHANGES[0], KAFKA]);
        assert_eq!(notices.iter().map(said).collect::<Vec<_>>(), [1, 1, 1]);
        let record = &notices[1].poison[0].record;
        let event: Value = serde_json::from_str(&text).unwrap();
        let message = &event["Records"][1];
        assert_eq!((record.function.as_str(), record.reason.as_str()), ("load-registrar", "unknown_envelope"));
        assert_eq!(Some(record.id.as_str()), message["messageId"].as_str());
        assert_eq!(record.sent_at.as_deref(), Some("2026-11-20T14:11:47.041Z"));
        assert_eq!(record.attributes.get(), "{}");
        assert_eq!(record.body().unwrap(), message["body"].as_str().unwrap().as_bytes());
    }

    #[test]
    fn keys_are_data() {
        let notices = notices(&file("odd-keys"));
        let keys = keys(&notices);
        assert_eq!(keys[0], "cubic/kafka/sample'); drop table cubic_loads; --/x.json");
        assert_eq!(keys[1], "cubic/dmap/../../etc/passwd.csv");
        assert_eq!(keys[2], "cubic/kafka/sample/nul\0nul.json");
        assert_eq!(keys[3].len(), 1_024);
        assert_eq!(keys[4], "cubic/kafka/sample/\"quoted\" \\ line\nbreak $1 %s 100%.json");
        assert_eq!(keys[5], "cubic/kafka/sample/日本 🂡/e\u{301}.json");
        assert_eq!(keys.len(), 6);
    }

    #[test]
    fn commands_are_left_to_the_caller() {
        for name in ["migrate", "tables-list", "reconcile"] {
            assert!(matches!(read(file(name).as_bytes()), Ok(Event::Command)), "{name}");
        }
    }

    #[test]
    fn a_command_in_a_message_is_poison() {
        for body in [json!({"command": "migrate"}), sns(&json!({"command": "migrate"}))] {
            assert_eq!(reasons(&notice(&sqs(&body))), ["unknown_envelope"]);
        }
    }

    #[test]
    fn what_is_no_event_is_told_by_its_members() {
        for (event, found) in [
            ("", "no JSON (EOF while parsing a value at line 1 column 0)"),
            ("[1, 2]", "an array"),
            ("{}", "an object without members"),
            ("{\"b\": 1, \"a\": \"secret\"}", "an object with the members \"a\", \"b\""),
            (
                "{\"Records\": [{\"eventSource\": \"aws:kinesis\", \"kinesis\": {}}]}",
                "an object with the members \"Records\", whose first record is \
                 an object with the members \"eventSource\", \"kinesis\"",
            ),
            ("{\"Records\": 5}", "an object with the members \"Records\""),
        ] {
            assert_eq!(read(event.as_bytes()).unwrap_err(), EventError::Unknown { found: found.to_owned() });
        }
        let error = read(b"{\"x\": 1}").unwrap_err().to_string();
        assert!(error.contains("known are S3 events, SQS batches"), "{error}");
        let many: String = (0..5_000).map(|n| format!("\"{n:09}{}\":0,", "x".repeat(200))).collect();
        let error = read(format!("{{{many}\"z\":0}}").as_bytes()).unwrap_err().to_string();
        assert!(error.contains("and 4989 more") && error.len() < 1_000, "{error}");
        let text = read(b"\xff").unwrap_err().to_string();
        assert!(text.contains("no text"), "{text}");
    }

    #[test]
    fn a_message_without_an_id_fails_the_event() {
        for id in [Value::Null, json!(""), json!(7)] {
            let mut event = json!({"Records": [sqs_message("{}"), sqs_message("{}")]});
            event["Records"][1]["messageId"] = id;
            let error = read(event.to_string().as_bytes()).unwrap_err();
            assert!(matches!(error, EventError::MessageId { position: 1, .. }), "{error}");
            assert!(error.to_string().contains("\"body\", \"eventSource\""), "{error}");
        }
    }

    #[test]
    fn no_records_are_no_notices() {
        assert!(notices("{\"Records\": []}").is_empty());
    }

    #[test]
    fn a_bad_record_does_not_hurt_its_neighbours_in_the_same_message() {
        let bad = [
            (json!(5), "unknown_envelope"),
            (json!({"eventSource": "aws:dynamodb"}), "unknown_envelope"),
            (with("/eventVersion", json!("3.0")), "unsupported_version"),
            (with("/eventVersion", json!("2")), "unsupported_version"),
            (with("/eventVersion", json!(2.1)), "unsupported_version"),
            (with("/eventVersion", json!(null)), "unsupported_version"),
            (with("/eventName", json!(null)), "invalid_record"),
            (with("/eventName", json!("")), "invalid_record"),
            (with("/s3", json!(null)), "invalid_record"),
            (with("/s3", json!("s3")), "invalid_record"),
            (with("/s3/bucket", json!([])), "invalid_record"),
            (with("/s3/bucket/name", json!("")), "invalid_record"),
            (with("/s3/object/key", json!("")), "invalid_record"),
            (with("/s3/object/key", json!(["a"])), "invalid_record"),
            (with("/s3/object/versionId", json!(1)), "invalid_record"),
            (with("/s3/object/key", json!("a%2")), "invalid_key"),
            (with("/s3/object/key", json!("a%FF")), "invalid_key"),
            (with("/s3/object/key", json!("k".repeat(1_025))), "key_too_long"),
        ];
        let good = [s3_record(LOAD), s3_record(DMAP)];
        for (record, reason) in &bad {
            let body = json!({"Records": [good[0], record, good[1]]});
            for (event, id) in [(sqs(&body), "c9a8f2b3"), (sqs(&sns(&body)), "c9a8f2b3"), (body, "")] {
                let notice = notice(&event);
                assert_eq!(keys(std::slice::from_ref(&notice)), [LOAD, DMAP], "{record}");
                assert_eq!(reasons(&notice), [*reason], "{record}");
                let kept = &notice.poison[0].record;
                assert_eq!(kept.body().unwrap(), record.to_string().as_bytes());
                if !id.is_empty() {
                    assert_eq!((kept.id.as_str(), kept.sent_at.as_deref()), (id, Some("2026-11-20T14:11:46.123Z")));
                } else if record.is_object() && record.get("eventTime").is_some() {
                    assert_eq!(kept.id, "KWABFSE6JNM4KFQW");
                    assert_eq!(kept.sent_at.as_deref(), Some("2026-11-20T14:11:46.123Z"));
                } else {
                    assert_eq!((kept.id.as_str(), &kept.sent_at), ("1", &None));
                }
            }
        }
    }

    #[test]
    fn a_record_that_was_mended_can_be_sent_again_as_it_was_kept() {
        let body = json!({"Records": [s3_record(LOAD), with("/eventVersion", json!("3.0"))]});
        let kept = notice(&sqs(&body)).poison.remove(0).record.body().unwrap();
        let mended = String::from_utf8(kept).unwrap().replace("3.0", "2.9");
        let event = json!({"Records": [sqs_message(&mended)]});
        assert_eq!(keys(&[notice(&event)]), [KAFKA]);
    }

    #[test]
    fn a_put_can_turn_out_to_be_poison() {
        let error = || RecordError::ForeignBucket(BUCKET.to_owned());
        let body = json!({"Records": [s3_record(LOAD), s3_record(DMAP)]});
        let put = notice(&sqs(&body)).puts.remove(1);
        let Poison { error: kept, record } = put.into_poison(error());
        assert_eq!((kept, record.reason.as_str(), record.id.as_str()), (error(), "foreign_bucket", "c9a8f2b3"));
        assert_eq!(record.body().unwrap(), s3_record(DMAP).to_string().as_bytes());
        let put = notice(&sqs(&bridge(DMAP))).puts.remove(0);
        assert_eq!(put.into_poison(error()).record.body().unwrap(), bridge(DMAP).to_string().as_bytes());
    }

    #[test]
    fn hints_that_are_wrong_are_left_out() {
        for (member, value) in [("size", json!(-1)), ("size", json!("7")), ("size", json!(1e300)), ("eTag", json!(7))] {
            let event = json!({"Records": [with(&format!("/s3/object/{member}"), value)]});
            let put = notice(&event).puts.remove(0);
            assert_eq!((put.size.is_none(), put.e_tag.is_none()), (member == "size", member == "eTag"));
        }
        let event = json!({"Records": [with("/s3/object/eTag", json!("\"d41d\""))]});
        assert_eq!(notice(&event).puts.remove(0).e_tag.as_deref(), Some("d41d"));
        for version in [json!(null), json!("")] {
            let event = json!({"Records": [with("/s3/object/versionId", version)]});
            assert_eq!(notice(&event).puts.remove(0).version, None);
        }
    }

    #[test]
    fn event_bridge_has_its_own_versions_and_mistakes() {
        for (pointer, value, reason) in [
            ("/detail/event-version", json!("1.7"), None),
            ("/detail/event-version", json!("2.0"), Some("unsupported_version")),
            ("/detail/object/key", json!(""), Some("invalid_record")),
            ("/detail/object", json!(1), Some("invalid_record")),
            ("/detail/bucket", json!(1), Some("invalid_record")),
            ("/detail", json!("text"), Some("invalid_record")),
        ] {
            let mut event = bridge(KAFKA);
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            event.pointer_mut(parent).unwrap()[name] = value;
            for (by, id) in [(sqs(&event), "c9a8f2b3"), (event.clone(), "17793124-05d4-b198-2fde-7ededc63b103")] {
                let notice = notice(&by);
                assert_eq!(reasons(&notice), reason.into_iter().collect::<Vec<_>>(), "{by}");
                assert_eq!(said(&notice), 1);
                for poison in notice.poison {
                    assert_eq!(poison.record.id, id);
                    assert_eq!(poison.record.body().unwrap(), event.to_string().as_bytes());
                }
            }
        }
        let mut trail = bridge(KAFKA);
        trail["detail-type"] = "AWS API Call via CloudTrail".into();
        assert_eq!(reasons(&notice(&sqs(&trail))), ["unknown_envelope"]);
    }

    #[test]
    fn bodies_that_announce_nothing_are_poison() {
        for body in
            ["", "null", "7", "{\"Records\":[]}", "{\"Records\":[[]]}", "{\"Type\":\"SubscriptionConfirmation\"}"]
        {
            let notice = notice(&json!({"Records": [sqs_message(body)]}));
            assert_eq!(reasons(&notice), ["unknown_envelope"], "{body}");
            assert_eq!(notice.poison[0].record.body().unwrap(), body.as_bytes());
        }
        for body in [json!(null), json!({"a": 1})] {
            let mut event = json!({"Records": [sqs_message("")]});
            event["Records"][0]["body"] = body.clone();
            let notice = notice(&event);
            assert_eq!(reasons(&notice), ["invalid_record"], "{body}");
            assert_eq!(notice.poison[0].record.body().unwrap(), body.to_string().as_bytes());
        }
    }

    #[test]
    fn notifications_in_notifications_come_to_an_end() {
        let mut body = s3_event(KAFKA);
        for wrappings in 0..5 {
            for event in [sqs(&body), sns_direct(&body)] {
                let direct = event["Records"][0]["EventSource"] == "aws:sns";
                let notice = notice(&event);
                if wrappings + usize::from(direct) <= MOST_WRAPPINGS {
                    assert_eq!(keys(&[notice]), [KAFKA], "{wrappings}");
                } else {
                    assert_eq!(reasons(&notice), ["nested_too_deep"], "{wrappings}");
                    assert_eq!(notice.poison[0].record.body().unwrap(), body.to_string().as_bytes());
                }
            }
            body = sns(&body);
        }
    }

    #[test]
    fn deep_nesting_takes_no_stack() {
        for (open, close) in [("[", "]"), ("{\"Records\":[", "]}"), ("{\"s3\":", "}"), ("{\"s3\":{\"object\":", "}}")] {
            let bomb = format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
            assert!(read(bomb.as_bytes()).is_err() || !notices(&bomb)[0].poison.is_empty());
            let notice = notice(&json!({"Records": [sqs_message(&bomb)]}));
            assert_eq!(notice.poison.len(), 1);
            let open_only = open.repeat(20_000);
            assert!(read(open_only.as_bytes()).is_err());
        }
        let attribute = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
        let event = sqs(&json!(0))
            .to_string()
            .replace("\"messageAttributes\":{}", &format!("\"messageAttributes\":{{\"a\":{attribute}}}"));
        assert_eq!(notices(&event)[0].poison[0].record.attributes.get(), "{\"a\":null}");
    }

    #[test]
    fn the_last_of_two_members_counts() {
        let event = s3_event(KAFKA).to_string().replace("\"key\":", "\"key\":5,\"key\":");
        assert_eq!(keys(&notices(&event)), [KAFKA]);
        let event =
            sqs(&s3_event(KAFKA)).to_string().replace("\"messageId\":", "\"messageId\":\"other\",\"messageId\":");
        assert_eq!(notices(&event)[0].message_id.as_deref(), Some("c9a8f2b3"));
    }

    #[test]
    fn the_quarantine_keeps_the_attributes_on_one_line() {
        let mut event = json!({"Records": [sqs_message("?")]});
        event["Records"][0]["messageAttributes"] = json!({
            "b": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
            "a": {"stringValue": "line\nline", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "c": 7,
        });
        let pretty = serde_json::to_string_pretty(&event).unwrap();
        let record = &notices(&pretty)[0].poison[0].record;
        assert_eq!(
            record.attributes.get(),
            r#"{"a":{"dataType":"String","stringValue":"line\nline"},"b":{"binaryValue":"AAE=","dataType":"Binary"},"c":7}"#
        );
    }

    #[test]
    fn a_time_that_is_none_is_not_told() {
        for sent in ["", "0", "-1", "soon", "9223372036854775807"] {
            let mut event = json!({"Records": [sqs_message("?")]});
            event["Records"][0]["attributes"]["SentTimestamp"] = sent.into();
            assert_eq!(notice(&event).poison[0].record.sent_at, None, "{sent}");
        }
    }

    /// Keys that S3 allows.
    fn key() -> impl Strategy<Value = String> {
        let any =
            prop_oneof![any::<String>(), "[ -~]{1,300}", "\\PC{1,40}", "[a-z/._+% ]{1,60}(__ct/)?[0-9]{8}.csv.gz"];
        any.prop_filter("a key", |key| (1..=MOST_KEY_BYTES).contains(&key.len()))
    }

    fn event() -> impl Strategy<Value = String> {
        let made = prop::collection::vec((key(), 0..9_usize), 0..4).prop_map(|keys| {
            let bodies = keys.iter().map(|(key, shape)| match shape {
                0 => s3_event(key),
                1 => sns(&s3_event(key)),
                2 => bridge(key),
                3 => sns(&bridge(key)),
                4 => json!({"Records": [s3_record(key), with("/eventVersion", json!("3.0"))]}),
                5 => json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": key}),
                6 => json!({"Records": [with("/eventName", json!("ObjectRemoved:Delete"))]}),
                7 => Value::from(key.as_str()),
                _ => s3_record(key),
            });
            json!({"Records": bodies.map(|body| sqs_message(&body.to_string())).collect::<Vec<_>>()}).to_string()
        });
        prop_oneof![3 => made, 1 => prop::sample::select(FILES.to_vec()).prop_map(file)]
    }

    /// Nothing is dropped: every record of the event is announced, ignored or poison.
    fn assert_complete(event: &[u8]) {
        let Ok(Event::Notices(notices)) = read(event) else { return };
        assert!(notices.iter().all(|notice| said(notice) > 0), "{notices:?}");
        // A number may be too large for a value where it is only passed over.
        let Ok(value) = serde_json::from_slice::<Value>(event) else { return };
        let Some(records) = value["Records"].as_array() else { return };
        if notices.iter().any(|notice| notice.message_id.is_some()) {
            let ids = records.iter().map(|record| record["messageId"].as_str());
            assert!(ids.eq(notices.iter().map(|notice| notice.message_id.as_deref())));
        } else {
            assert!(notices.iter().map(said).sum::<usize>() >= records.len());
        }
    }

    proptest! {
        #[test]
        fn any_key_is_read_in_any_wrapping(key in key()) {
            let (event, bridge) = (s3_event(&key), bridge(&key));
            for event in [
                event.clone(),
                sqs(&event),
                sqs(&sns(&event)),
                sqs(&sns(&sns(&event))),
                sqs(&s3_record(&key)),
                sns_direct(&event),
                bridge.clone(),
                sqs(&bridge),
                sqs(&sns(&bridge)),
                sns_direct(&bridge),
            ] {
                let notice = notice(&event);
                prop_assert_eq!(said(&notice), 1);
                let put = &notice.puts[0];
                prop_assert_eq!((put.bucket.as_str(), &put.key, put.size), (BUCKET, &key, Some(7)));
            }
        }

        #[test]
        fn any_body_is_kept(body in any::<String>()) {
            let notice = notice(&json!({"Records": [sqs_message(&body)]}));
            prop_assert_eq!(reasons(&notice), ["unknown_envelope"]);
            prop_assert_eq!(notice.poison[0].record.body().unwrap(), body.as_bytes());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            assert_complete(&bytes);
        }

        #[test]
        fn a_truncated_event_is_refused(event in event(), end in any::<Index>()) {
            let event = event.trim_end().as_bytes();
            assert_complete(event);
            prop_assert!(read(&event[..end.index(event.len())]).is_err());
        }

        #[test]
        fn nothing_is_dropped_from_a_damaged_event(
            event in event(),
            damage in prop::collection::vec((any::<Index>(), prop_oneof![any::<u8>(), 0x20..0x7f_u8]), 1..6),
        ) {
            let mut event = event.into_bytes();
            for (at, byte) in damage {
                *at.get_mut(&mut event) = byte;
            }
            assert_complete(&event);
        }

        #[test]
        fn nothing_is_dropped_when_values_are_others(
            event in event(),
            from in any::<Index>(),
            to in prop::sample::select(vec!["null", "0", "-1.5", "\"\"", "[]", "{}", "[[{}]]", "\"x\"", "true"]),
        ) {
            // A value of the event, or of an event in one of its bodies, is replaced by another.
            let mut value: Value = serde_json::from_str(&event).unwrap();
            let bodies = value["Records"].as_array().map_or(0, Vec::len);
            let at = from.index(2 * bodies + 1);
            if at > bodies && let Some(body) = value["Records"][at - bodies - 1]["body"].as_str() {
                let mut inner: Value = serde_json::from_str(body).unwrap_or_default();
                replace(&mut inner, from.index(40), &serde_json::from_str(to).unwrap());
                value["Records"][at - bodies - 1]["body"] = inner.to_string().into();
            } else {
                replace(&mut value, from.index(200), &serde_json::from_str(to).unwrap());
            }
            assert_complete(value.to_string().as_bytes());
        }
    }

    /// Replaces the `n`th value, counted from the leaves.
    fn replace(value: &mut Value, n: usize, by: &Value) -> Option<usize> {
        let children: Vec<&mut Value> = match value {
            Value::Array(values) => values.iter_mut().collect(),
            Value::Object(members) => members.values_mut().collect(),
            _ => Vec::new(),
        };
        let mut left = n;
        for child in children {
            left = replace(child, left, by)?;
        }
        if left > 0 {
            return Some(left - 1);
        }
        *value = by.clone();
        None
    }
}
