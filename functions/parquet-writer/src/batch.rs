//! SQS messages, from the wire to records: envelopes read, bodies decoded, poison set apart.
//!
//! A batch owns the bytes of all its messages in two arenas, so that ten thousand messages cost a handful of
//! allocations, and so that messages of the event and messages that were drained from the queue are the same thing.

use std::{borrow::Cow, cmp::Ordering, fmt, ops::Range};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{
    json,
    value::{RawValue, to_raw_value},
};
use shared::{
    event::Registry,
    layout::Day,
    quarantine::{QuarantineRecord, base64, rfc3339},
};

use crate::error::RecordError;

/// The event cannot be read at all; nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The event is not UTF-8, as JSON is.
    #[error("the event is not UTF-8")]
    Utf8(#[from] std::str::Utf8Error),
    /// The event is not what SQS sends.
    #[error("the event is not an SQS event: {0}")]
    Json(#[from] serde_json::Error),
    /// Without its id a message cannot be reported as failed.
    #[error("record {0} of the event has no messageId")]
    MessageId(usize),
}

/// Messages that decoded, and those that never will.
#[derive(Debug, Default)]
pub struct Batch {
    /// Ids and attributes, end to end.
    text: String,
    /// Decoded bodies, end to end.
    payloads: Vec<u8>,
    /// Messages whose body decoded.
    pub records: Vec<Record>,
    /// Messages that can never land.
    pub poison: Vec<Poison>,
}

/// One message, as ranges into its batch.
#[derive(Debug, Clone)]
pub struct Record {
    message_id: Text,
    event_id: Option<Text>,
    source: Option<Text>,
    type_name: Text,
    attributes: Option<Text>,
    payload: Range<usize>,
    /// Position in the registry of the message's type; `None` for an unregistered type.
    pub event_type: Option<usize>,
    /// When the message was sent, in milliseconds since 1970-01-01T00:00:00Z.
    pub sent_at_ms: i64,
    /// The UTC day of `sent_at_ms`.
    pub day: Day,
}

/// A range of the batch's text.
#[derive(Debug, Clone)]
struct Text(Range<usize>);

/// A message that can never land, and all that is kept of it.
#[derive(Debug)]
pub struct Poison {
    /// The message's id.
    pub message_id: String,
    /// When the message was sent, or 0.
    pub sent_at_ms: i64,
    /// The UTC day of `sent_at_ms`.
    pub day: Day,
    /// Why.
    pub error: RecordError,
    /// What goes to the quarantine.
    pub record: QuarantineRecord,
}

/// A message as it arrives, by event or by receiving it.
#[derive(Debug)]
pub struct Message<'a> {
    /// The message's id.
    pub message_id: &'a str,
    /// The system attribute `SentTimestamp`, milliseconds since 1970-01-01T00:00:00Z.
    pub sent_timestamp: Option<&'a str>,
    /// The body as sent: base64.
    pub body: &'a str,
    /// The message attributes.
    pub attributes: Attributes<'a>,
}

/// The message attributes that have a meaning here, and the others.
#[derive(Debug, Default)]
pub struct Attributes<'a> {
    /// `source`: the system that made the event.
    pub source: Option<Cow<'a, str>>,
    /// `type`: the event's type.
    pub type_name: Option<Cow<'a, str>>,
    /// `event_id`: the event's own id.
    pub event_id: Option<Cow<'a, str>>,
    /// All attributes as one JSON object, kept only when there are others than these three.
    pub all: Option<String>,
}

impl Batch {
    /// The messages of an SQS event.
    pub fn of_event(event: &[u8], registry: &Registry) -> Result<Self, EventError> {
        let event: Event<'_> = serde_json::from_str(std::str::from_utf8(event)?)?;
        let mut batch = Self { records: Vec::with_capacity(event.records.len()), ..Self::default() };
        for (position, record) in event.records.into_iter().enumerate() {
            let message_id = record.message_id.filter(|id| !id.is_empty()).ok_or(EventError::MessageId(position))?;
            let message = Message {
                message_id: &message_id,
                sent_timestamp: record.attributes.sent_timestamp.as_deref(),
                body: record.body.as_deref().unwrap_or_default(),
                attributes: record.message_attributes.unwrap_or_default(),
            };
            batch.push(&message, registry);
        }
        Ok(batch)
    }

    /// Adds one message, as a record or as poison.
    pub fn push(&mut self, message: &Message<'_>, registry: &Registry) {
        let start = self.payloads.len();
        let record = self.read(message, registry);
        match record {
            Ok(record) => self.records.push(record),
            Err(error) => {
                self.payloads.truncate(start);
                let sent_at_ms = message.sent_timestamp.and_then(|ms| ms.parse().ok()).unwrap_or_default();
                self.poison.push(Poison::new(error, message, sent_at_ms));
            }
        }
    }

    fn read(&mut self, message: &Message<'_>, registry: &Registry) -> Result<Record, RecordError> {
        let sent_at_ms = message.sent_timestamp.and_then(|ms| ms.parse().ok()).ok_or(RecordError::SentTimestamp)?;
        let day = Day::of_unix_ms(sent_at_ms).map_err(|_| RecordError::SentTimestamp)?;
        let type_name = message.attributes.type_name.as_deref().ok_or(RecordError::MissingType)?;
        if message.body.is_empty() {
            return Err(RecordError::EmptyBody);
        }
        let start = self.payloads.len();
        base64_simd::STANDARD
            .decode_append(message.body.as_bytes(), &mut self.payloads)
            .map_err(|_| RecordError::Base64)?;
        Ok(Record {
            payload: start..self.payloads.len(),
            event_type: registry.position(type_name),
            sent_at_ms,
            day,
            message_id: self.keep(message.message_id),
            event_id: message.attributes.event_id.as_deref().map(|text| self.keep(text)),
            source: message.attributes.source.as_deref().map(|text| self.keep(text)),
            type_name: self.keep(type_name),
            attributes: message.attributes.all.as_deref().map(|text| self.keep(text)),
        })
    }

    fn keep(&mut self, text: &str) -> Text {
        let start = self.text.len();
        self.text.push_str(text);
        Text(start..self.text.len())
    }

    fn text(&self, text: &Text) -> &str {
        self.text.get(text.0.clone()).unwrap_or_default()
    }

    /// Whether there are no messages.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.poison.is_empty()
    }

    /// The ids of all messages, records and poison.
    pub fn message_ids(&self) -> impl Iterator<Item = &str> {
        let records = self.records.iter().map(|record| self.message_id(record));
        records.chain(self.poison.iter().map(|poison| poison.message_id.as_str()))
    }

    /// The id that SQS gave the message.
    #[must_use]
    pub fn message_id(&self, record: &Record) -> &str {
        self.text(&record.message_id)
    }

    /// The event's own id; the message's when it has none.
    #[must_use]
    pub fn event_id(&self, record: &Record) -> &str {
        self.text(record.event_id.as_ref().unwrap_or(&record.message_id))
    }

    /// The system that made the event.
    #[must_use]
    pub fn source(&self, record: &Record) -> Option<&str> {
        record.source.as_ref().map(|source| self.text(source))
    }

    /// The event's type, as sent.
    #[must_use]
    pub fn type_name(&self, record: &Record) -> &str {
        self.text(&record.type_name)
    }

    /// The protobuf message.
    #[must_use]
    pub fn payload(&self, record: &Record) -> &[u8] {
        self.payloads.get(record.payload.clone()).unwrap_or_default()
    }

    /// Bytes of all decoded bodies.
    #[must_use]
    pub const fn payload_bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Puts the records into the order of their file and drops what SQS delivered twice within the batch.
    ///
    /// The order is a function of the messages alone: time sent, event id, message id.
    pub fn sort(&mut self) {
        let mut records = std::mem::take(&mut self.records);
        records.sort_by(|a, b| self.compare(a, b));
        records.dedup_by(|a, b| a.sent_at_ms == b.sent_at_ms && self.message_id(a) == self.message_id(b));
        self.records = records;
        self.poison.sort_by(|a, b| (a.day, &a.message_id).cmp(&(b.day, &b.message_id)));
        self.poison.dedup_by(|a, b| a.message_id == b.message_id);
    }

    fn compare(&self, a: &Record, b: &Record) -> Ordering {
        a.sent_at_ms
            .cmp(&b.sent_at_ms)
            .then_with(|| self.event_id(a).cmp(self.event_id(b)))
            .then_with(|| self.message_id(a).cmp(self.message_id(b)))
    }

    /// The poison that a record turns out to be.
    #[must_use]
    pub fn to_poison(&self, record: &Record, error: RecordError) -> Poison {
        let body = base64(self.payload(record));
        let message = Message {
            message_id: self.message_id(record),
            sent_timestamp: None,
            body: &body,
            attributes: Attributes {
                source: self.source(record).map(Cow::Borrowed),
                type_name: Some(Cow::Borrowed(self.type_name(record))),
                event_id: record.event_id.as_ref().map(|id| Cow::Borrowed(self.text(id))),
                all: record.attributes.as_ref().map(|all| self.text(all).to_owned()),
            },
        };
        Poison::new(error, &message, record.sent_at_ms)
    }
}

impl Poison {
    fn new(error: RecordError, message: &Message<'_>, sent_at_ms: i64) -> Self {
        let (day, sent_at) = match Day::of_unix_ms(sent_at_ms) {
            Ok(day) if sent_at_ms > 0 => (day, rfc3339(sent_at_ms)),
            _ => (Day::EPOCH, None),
        };
        let record = QuarantineRecord {
            function: crate::FUNCTION.to_owned(),
            reason: error.reason().to_owned(),
            detail: error.to_string(),
            id: message.message_id.to_owned(),
            sent_at,
            attributes: message.attributes.to_json(),
            body_base64: base64(message.body.as_bytes()),
        };
        Self { message_id: message.message_id.to_owned(), sent_at_ms: sent_at_ms.max(0), day, error, record }
    }
}

impl Attributes<'_> {
    /// Name → `{"dataType", "stringValue" | "binaryValue"}`, as in an SQS event.
    fn to_json(&self) -> Box<RawValue> {
        if let Some(all) = &self.all
            && let Ok(all) = RawValue::from_string(all.clone())
        {
            return all;
        }
        let known = [("event_id", &self.event_id), ("source", &self.source), ("type", &self.type_name)];
        let object: serde_json::Map<String, serde_json::Value> = known
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .map(|(name, value)| (name.to_owned(), json!({"dataType": "String", "stringValue": value})))
            .collect();
        to_raw_value(&object).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

/// What is read of an SQS event; everything else is passed over.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "Records", borrow)]
    records: Vec<EventRecord<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'a> {
    #[serde(borrow)]
    message_id: Option<Borrowed<'a>>,
    #[serde(borrow)]
    body: Option<Borrowed<'a>>,
    #[serde(borrow, default)]
    attributes: SystemAttributes<'a>,
    #[serde(borrow)]
    message_attributes: Option<Attributes<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct SystemAttributes<'a> {
    #[serde(borrow, default)]
    sent_timestamp: Option<Borrowed<'a>>,
}

/// A JSON string, borrowed when it holds no escapes.
#[derive(Debug)]
struct Borrowed<'a>(Cow<'a, str>);

impl std::ops::Deref for Borrowed<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Borrowed<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Borrowed<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Borrowed(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Borrowed(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// One message attribute. A value that is no string counts as absent.
#[derive(Deserialize)]
struct AttributeValue<'a> {
    #[serde(rename = "stringValue", borrow, default)]
    string_value: Option<Borrowed<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Attributes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Attributes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("message attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut attributes = Attributes::default();
                let mut others: Vec<(Borrowed<'de>, &'de RawValue)> = Vec::new();
                while let Some(name) = map.next_key::<Borrowed<'de>>()? {
                    let known = match &*name {
                        "source" => &mut attributes.source,
                        "type" => &mut attributes.type_name,
                        "event_id" => &mut attributes.event_id,
                        _ => {
                            others.push((name, map.next_value()?));
                            continue;
                        }
                    };
                    *known = map.next_value::<AttributeValue<'de>>()?.string_value.map(|text| text.0);
                }
                if !others.is_empty() {
                    attributes.all = Some(attributes.with_others(&others));
                }
                Ok(attributes)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl Attributes<'_> {
    /// All attributes as one JSON object, sorted by name.
    fn with_others(&self, others: &[(Borrowed<'_>, &RawValue)]) -> String {
        let known = self.to_json();
        let mut all: std::collections::BTreeMap<&str, &RawValue> =
            serde_json::from_str(known.get()).unwrap_or_default();
        all.extend(others.iter().map(|(name, value)| (&**name, *value)));
        serde_json::to_string(&all).unwrap_or_default()
    }
}
