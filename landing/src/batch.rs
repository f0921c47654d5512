//! SQS messages → records with decoded bodies, and poison: messages that can never be written to a file.
//!
//! A batch owns the bytes of all its messages in two buffers. So ten thousand messages need only a few allocations, and
//! messages of the event and messages that the function received itself are represented in the same way.

use std::{borrow::Cow, cmp::Ordering, ops::Range};

use shared::{
    event::Registry,
    layout::Day,
    quarantine::{QuarantineRecord, base64, rfc3339},
};

use crate::{
    envelope::{self, Attributes, EventError, Message},
    error::RecordError,
    event_time::event_time_ms,
};

/// The decoded messages of one invocation.
#[derive(Debug, Default)]
pub struct Batch {
    /// Ids and attributes, one after the other.
    text: String,
    /// Decoded bodies, one after the other.
    payloads: Vec<u8>,
    /// Messages whose body could be decoded.
    pub records: Vec<Record>,
    /// Messages that can never be written to a file.
    pub poison: Vec<Poison>,
    poison_bytes: usize,
}

/// One message, as ranges of the buffers of its batch.
#[derive(Debug, Clone)]
pub struct Record {
    message_id: Text,
    event_id: Option<Text>,
    source: Option<Text>,
    type_name: Text,
    attributes: Option<Text>,
    payload: Range<usize>,
    /// Index of the message's type in the registry; `None` for an unregistered type.
    pub event_type: Option<u16>,
    /// When the message was sent, in microseconds since 1970-01-01T00:00:00Z.
    pub sent_at_us: i64,
    /// The UTC day of `sent_at_us`, or of the time at which the event happened; see [`Batch::use_event_times`].
    pub day: Day,
    /// The type names the time at which its events happen, and the record is in the day on which it was sent all the same.
    pub is_late: bool,
}

/// An event, from a message or from a row of a table.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// The id of the message or the row.
    pub id: &'a str,
    /// When the event was sent, in microseconds since 1970-01-01T00:00:00Z, if that is known.
    pub sent_at_us: Option<i64>,
    pub attributes: &'a Attributes<'a>,
    pub payload: Payload<'a>,
}

/// A payload as it was received.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    Bytes(&'a [u8]),
    Base64(&'a [u8]),
}

/// A range of the batch's text, of which there are at most 4 GiB; see [`Batch::is_full`].
#[derive(Debug, Clone, Copy)]
struct Text {
    start: u32,
    end: u32,
}

/// Memory that a message needs besides its bytes: its record, its sort key, its receipt handle, its place among the rows, and what
/// the file has of it in the envelope. Measured (`tests/memory.rs`), and rounded up.
const MEMORY_PER_MESSAGE_BYTES: usize = 1_024;

/// Records of the quarantine that are in memory at a time, as records, as lines and as what is sent.
pub const QUARANTINE_BYTES: usize = 4 << 20;
const MAX_TEXT_BYTES: usize = 3 << 30;
/// How far the clock of whoever says when an event happened may be ahead.
const MAX_AHEAD_MS: i64 = 86_400_000;

/// A message that can never be written to a file.
#[derive(Debug)]
pub struct Poison {
    /// What is wrong with it.
    pub error: RecordError,
    /// Its entry in the quarantine.
    pub record: QuarantineRecord,
}

impl Batch {
    /// Decodes the messages of an SQS event.
    pub fn of_event(event: &[u8], registry: &Registry) -> Result<Self, EventError> {
        // Most of an event are bodies, and base64 is a third longer than the decoded bytes.
        let mut batch = Self::default();
        batch.payloads.reserve(event.len() / 2);
        batch.text.reserve(event.len() / 4);
        let mut needs_parser = false;
        envelope::read(event, |message| {
            // The fast path does not check that a body is valid in JSON. Base64 is, but another body may not be.
            needs_parser |= !batch.push(&message, registry) && !message.body.iter().all(u8::is_ascii_graphic);
        })?;
        if needs_parser {
            batch = Self::default();
            envelope::read_json(event, |message| {
                batch.push(&message, registry);
            })?;
        }
        Ok(batch)
    }

    /// Adds one message as a record or as poison. Returns whether it is a record.
    pub fn push(&mut self, message: &Message<'_>, registry: &Registry) -> bool {
        let sent_at_ms: Option<i64> = message.sent_timestamp.as_deref().and_then(|ms| ms.parse().ok());
        let event = Event {
            id: &message.message_id,
            sent_at_us: sent_at_ms.and_then(|ms| ms.checked_mul(1_000)),
            attributes: &message.attributes,
            payload: Payload::Base64(&message.body),
        };
        self.push_event(&event, registry)
    }

    /// Adds one event as a record or as poison. Returns whether it is a record.
    pub fn push_event(&mut self, event: &Event<'_>, registry: &Registry) -> bool {
        let start = self.payloads.len();
        match self.read(event, registry) {
            Ok(record) => {
                self.records.push(record);
                true
            }
            Err(error) => {
                self.payloads.truncate(start);
                let poison = Poison::new(error, event);
                self.poison_bytes += poison.bytes();
                self.poison.push(poison);
                false
            }
        }
    }

    fn read(&mut self, event: &Event<'_>, registry: &Registry) -> Result<Record, RecordError> {
        let sent_at_us = event.sent_at_us.ok_or(RecordError::SentTimestamp)?;
        let day = match self.records.last() {
            Some(last) if unix_day(last.sent_at_us) == unix_day(sent_at_us) => last.day,
            _ => Day::of_unix_ms(sent_at_us.div_euclid(1_000)).map_err(|_| RecordError::SentTimestamp)?,
        };
        let type_name = event.attributes.type_name.as_deref().ok_or(RecordError::MissingType)?;
        let start = self.payloads.len();
        match event.payload {
            Payload::Bytes([]) | Payload::Base64([]) => return Err(RecordError::EmptyBody),
            Payload::Bytes(payload) => self.payloads.extend_from_slice(payload),
            Payload::Base64(body) => {
                // The decoder reserves exactly what it needs, which would reallocate the buffer for every message.
                self.payloads.reserve(body.len() / 4 * 3);
                base64_simd::STANDARD.decode_append(body, &mut self.payloads).map_err(|_| RecordError::Base64)?;
            }
        }
        Ok(Record {
            payload: start..self.payloads.len(),
            event_type: registry.position(type_name).and_then(|position| u16::try_from(position).ok()),
            sent_at_us,
            day,
            is_late: false,
            message_id: self.keep(event.id),
            event_id: event.attributes.event_id.as_deref().map(|text| self.keep(text)),
            source: event.attributes.source.as_deref().map(|text| self.keep(text)),
            type_name: self.keep(type_name),
            attributes: event.attributes.all.as_deref().map(|text| self.keep(text)),
        })
    }

    fn keep(&mut self, text: &str) -> Text {
        let start = position(self.text.len());
        self.text.push_str(text);
        Text { start, end: position(self.text.len()) }
    }

    fn text(&self, text: Text) -> &str {
        let [start, end] = [text.start, text.end].map(|position| usize::try_from(position).unwrap_or(usize::MAX));
        self.text.get(start..end).unwrap_or_default()
    }

    /// Whether there are no messages.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty() && self.poison.is_empty()
    }

    /// The ids of all messages, including poison.
    pub fn message_ids(&self) -> impl Iterator<Item = &str> {
        let records = self.records.iter().map(|record| self.message_id(record));
        records.chain(self.poison.iter().map(|poison| poison.record.id.as_str()))
    }

    /// The id that SQS gave the message.
    #[must_use]
    pub fn message_id(&self, record: &Record) -> &str {
        self.text(record.message_id)
    }

    /// The event's own id, or the id of the message if the event has none.
    #[must_use]
    pub fn event_id(&self, record: &Record) -> &str {
        self.text(record.event_id.unwrap_or(record.message_id))
    }

    /// The system that sent the event.
    #[must_use]
    pub fn source(&self, record: &Record) -> Option<&str> {
        record.source.map(|source| self.text(source))
    }

    /// The event's type as it was sent.
    #[must_use]
    pub fn type_name(&self, record: &Record) -> &str {
        self.text(record.type_name)
    }

    /// All message attributes as a JSON object, if there are others than `type`, `source` and `event_id`.
    #[must_use]
    pub fn attributes(&self, record: &Record) -> Option<&str> {
        record.attributes.map(|all| self.text(all))
    }

    /// The protobuf payload.
    #[must_use]
    pub fn payload(&self, record: &Record) -> &[u8] {
        self.payloads.get(record.payload.clone()).unwrap_or_default()
    }

    /// Whether the positions of another text or payload might not fit into 32 bits.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.text.len() > MAX_TEXT_BYTES
    }

    /// Total size of all decoded bodies in bytes.
    #[must_use]
    pub const fn payload_bytes(&self) -> usize {
        self.payloads.len()
    }

    /// Memory for the messages themselves, and for the file that they become, which is not larger than they are. What is needed
    /// besides, for one row group and a part of the quarantine, does not grow with the batch.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        let messages = self.records.len() + self.poison.len();
        2 * (self.payloads.len() + self.text.len()) + self.poison_bytes + messages * MEMORY_PER_MESSAGE_BYTES
    }

    /// Reserves memory for so many bytes of payload, which costs nothing until there are so many.
    pub fn reserve(&mut self, payload_bytes: usize) {
        self.payloads.reserve(payload_bytes.saturating_sub(self.payloads.len()));
    }

    /// Puts records whose type names the time at which its events happen into the UTC day of that time. They stay in the day on which
    /// they were sent if the time is missing, more than `max_age_ms` before, or more than a day after that.
    pub fn use_event_times(&mut self, registry: &Registry, max_age_ms: i64) {
        let paths: Vec<Option<&[u32]>> = registry.types().iter().map(|event| event.event_time.as_deref()).collect();
        if paths.iter().all(Option::is_none) {
            return;
        }
        for record in &mut self.records {
            let path = record.event_type.and_then(|position| paths.get(usize::from(position)).copied().flatten());
            let Some(path) = path else { continue };
            let payload = self.payloads.get(record.payload.clone()).unwrap_or_default();
            let sent_at_ms = record.sent_at_ms();
            let allowed = sent_at_ms - max_age_ms..=sent_at_ms + MAX_AHEAD_MS;
            let time = event_time_ms(payload, path).filter(|time| allowed.contains(time));
            match time.and_then(|time| Day::of_unix_ms(time).ok()) {
                Some(day) => record.day = day,
                None => record.is_late = true,
            }
        }
    }

    /// Sorts the records into the order of their files and removes messages that SQS delivered twice within the batch.
    pub fn sort(&mut self, by_type: bool) {
        self.order(by_type);
        let mut records = std::mem::take(&mut self.records);
        records.dedup_by(|a, b| a.sent_at_us == b.sent_at_us && self.message_id(a) == self.message_id(b));
        self.records = records;
        self.poison.dedup_by(|a, b| a.record.id == b.record.id);
    }

    /// Sorts the records into the order of their files, and the poison by id.
    ///
    /// The order depends on the messages alone, not on the order of delivery: file, time sent, event id, message id, payload.
    pub fn order(&mut self, by_type: bool) {
        if !self.records.is_sorted_by(|a, b| self.compare(a, b, by_type) != Ordering::Greater) {
            let keys = self.records.iter().map(|record| SortKey::new(self, record, by_type));
            let mut keys: Vec<SortKey<'_>> = keys.collect();
            keys.sort_unstable_by(|a, b| {
                (a.file, a.sent_at_us, a.event_id)
                    .cmp(&(b.file, b.sent_at_us, b.event_id))
                    .then_with(|| self.compare(a.record, b.record, by_type))
            });
            self.records = keys.into_iter().map(|key| key.record.clone()).collect();
        }
        let by_body = |a: &Poison, b: &Poison| a.record.body_base64.cmp(&b.record.body_base64);
        self.poison.sort_by(|a, b| a.record.id.cmp(&b.record.id).then_with(|| by_body(a, b)));
    }

    /// The sorted records of each file.
    pub fn files(&self, by_type: bool) -> impl Iterator<Item = &[Record]> {
        self.records.chunk_by(move |a, b| a.file(by_type) == b.file(by_type))
    }

    fn compare(&self, a: &Record, b: &Record, by_type: bool) -> Ordering {
        (a.file(by_type), a.sent_at_us)
            .cmp(&(b.file(by_type), b.sent_at_us))
            .then_with(|| self.event_id(a).cmp(self.event_id(b)))
            .then_with(|| self.message_id(a).cmp(self.message_id(b)))
            .then_with(|| self.payload(a).cmp(self.payload(b)))
    }

    /// Converts a record to poison, for a payload that turns out not to be a message of its type.
    #[must_use]
    pub fn to_poison(&self, record: &Record, error: RecordError) -> Poison {
        let attributes = Attributes {
            source: self.source(record).map(Cow::Borrowed),
            type_name: Some(Cow::Borrowed(self.type_name(record))),
            event_id: record.event_id.map(|id| Cow::Borrowed(self.text(id))),
            all: self.attributes(record).map(Cow::Borrowed),
        };
        let payload = Payload::Bytes(self.payload(record));
        let (id, sent_at_us) = (self.message_id(record), Some(record.sent_at_us));
        Poison::new(error, &Event { id, sent_at_us, attributes: &attributes, payload })
    }
}

/// The entries of the quarantine: of messages that could not become records, and of records that are no messages of their type. In
/// parts, because an entry needs several times the memory of its message.
pub fn quarantine_parts(
    batch: &Batch,
    poison: Vec<Poison>,
    refused: Vec<(&Record, RecordError)>,
) -> impl Iterator<Item = Vec<QuarantineRecord>> {
    let refused = refused.into_iter().map(|(record, error)| batch.to_poison(record, error));
    let mut entries = poison.into_iter().chain(refused).peekable();
    std::iter::from_fn(move || {
        entries.peek()?;
        let (mut part, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = entries.next_if(|_| bytes < QUARANTINE_BYTES) {
            bytes += entry.bytes();
            part.push(entry.record);
        }
        Some(part)
    })
}

const fn unix_day(unix_us: i64) -> i64 {
    unix_us.div_euclid(86_400_000_000)
}

fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl Record {
    /// When the message was sent, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn sent_at_ms(&self) -> i64 {
        self.sent_at_us.div_euclid(1_000)
    }

    /// What distinguishes the file of a record from the others: its type, if every type has files of its own, and its day.
    fn file(&self, by_type: bool) -> (u16, Day) {
        (if by_type { self.event_type.unwrap_or(u16::MAX) } else { 0 }, self.day)
    }
}

/// The most significant part of a record's sort order, so that most comparisons do not have to access the record.
struct SortKey<'a> {
    file: (u16, Day),
    sent_at_us: i64,
    /// The first sixteen bytes of the event id, which sort like the text.
    event_id: u128,
    record: &'a Record,
}

impl<'a> SortKey<'a> {
    fn new(batch: &Batch, record: &'a Record, by_type: bool) -> Self {
        let file = record.file(by_type);
        Self { file, sent_at_us: record.sent_at_us, event_id: head(batch.event_id(record)), record }
    }
}

/// The first sixteen bytes of a text as a number that sorts like the text. Shorter texts are padded with zeros.
fn head(text: &str) -> u128 {
    let mut head = [0; 16];
    head.iter_mut().zip(text.bytes()).for_each(|(to, byte)| *to = byte);
    u128::from_be_bytes(head)
}

impl Poison {
    /// Memory of its entry, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let record = &self.record;
        let texts = [&record.function, &record.reason, &record.detail, &record.id, &record.body_base64];
        let texts: usize = texts.iter().map(|text| text.len()).sum();
        texts + record.attributes.get().len() + size_of::<Self>()
    }

    fn new(error: RecordError, event: &Event<'_>) -> Self {
        let sent_at_ms = event.sent_at_us.map(|us| us.div_euclid(1_000)).filter(|ms| *ms > 0);
        let record = QuarantineRecord {
            function: crate::FUNCTION.to_owned(),
            reason: error.reason().to_owned(),
            detail: error.to_string(),
            id: event.id.to_owned(),
            sent_at: sent_at_ms.and_then(rfc3339),
            attributes: event.attributes.to_json(),
            // The body of a message is the payload in base64.
            body_base64: match event.payload {
                Payload::Base64(body) => base64(body),
                Payload::Bytes(payload) => base64(base64(payload).as_bytes()),
            },
        };
        Self { error, record }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_body(body: &str) -> Result<Batch, EventError> {
        let event = format!(
            r#"{{"Records":[{{"messageId":"m-1","receiptHandle":"AQEB","body":"{body}","attributes":{{"SentTimestamp":"1795183906123"}},"messageAttributes":{{"type":{{"stringValue":"OrderCreated","dataType":"String"}}}}}}]}}"#
        );
        Batch::of_event(event.as_bytes(), &Registry::embedded().unwrap())
    }

    #[test]
    fn a_body_that_is_not_base64_is_poison_unless_the_event_is_not_json() {
        let batch = of_body("CgEx").unwrap();
        assert_eq!(batch.payload(&batch.records[0]), b"\x0a\x011");
        for body in ["no base64", "é!"] {
            let poison = of_body(body).unwrap().poison;
            assert_eq!(poison[0].error, RecordError::Base64);
            assert_eq!(poison[0].record.body().unwrap(), body.as_bytes());
        }
        // Base64 with escapes, which no sender writes.
        assert_eq!(of_body("Cg\\u0045x").unwrap().payload_bytes(), 3);
        assert!(of_body("Cg\u{1}x").is_err());
    }
}
