//! Parses the events of the function: a batch of records of a Kinesis shard, or a tick of the schedule.
//!
//! Source: "Using Lambda to process records from Amazon Kinesis Data Streams", AWS Lambda developer guide; and "Scheduled
//! events", Amazon EventBridge user guide.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;
use shared::{
    json::{self, Scan, Text},
    layout::{LayoutError, Segment},
    position::{Position, PositionError},
    quarantine::base64,
    schedule,
};

use crate::shard::ShardId;

/// Why an event cannot be read. Nothing has been done.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The event is not JSON, or a record has unexpected members.
    #[error("the event is neither a Kinesis batch nor a tick of the schedule nor a request: {0}")]
    Json(#[from] serde_json::Error),
    /// The event is JSON of another kind.
    #[error(
        "the event is neither a Kinesis batch (an object with \"Records\") nor a tick of the schedule (a \"Scheduled \
         Event\" of \"aws.events\" with its \"time\") nor a request of landfall roll (an object with \"roll\") \
         or of landfall replay discarded (\"discarded\")"
    )]
    Unknown,
    /// A record lacks something without which it cannot be reported as failed.
    #[error("record {0} of the event: {1}")]
    Record(usize, RecordFault),
    /// The records come from several shards.
    #[error("the event contains records of {0} and of {1}, but a batch must come from one shard")]
    Shards(String, String),
}

/// What is wrong with a record of an event.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    /// `kinesis` or its `data` is missing.
    #[error("it is not from Kinesis")]
    Kinesis,
    /// The time of arrival is missing or invalid.
    #[error("its approximateArrivalTimestamp is {0}")]
    Arrival(String),
    /// The sequence number is missing or invalid.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// The name of the stream or the shard cannot be part of a key.
    #[error(transparent)]
    Source(#[from] LayoutError),
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<B> {
    /// Records of one shard.
    Batch(B),
    /// A tick of the schedule, with its time in milliseconds since 1970-01-01T00:00:00Z.
    Tick(i64),
    /// `landfall roll` asks for the files of these tables.
    Roll(BTreeSet<Segment>),
    /// A request of `landfall replay discarded`.
    Discarded(Request),
}

/// A request to land a batch that Lambda has given up: `{"discarded": "aws/lambda/…"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Key of the object in the lake in which Lambda keeps the batch. It may be too large to be passed to the function.
    pub discarded: String,
    /// Whether records are landed of which it cannot be known whether they were landed before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub even_if_landed: bool,
}

/// The shard that the records of a batch come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// The ARN of the stream.
    pub stream_arn: String,
    /// The stream's name and the shard's id.
    pub id: ShardId,
}

/// A record as the event contains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its position in the shard.
    pub position: Position,
    /// Its sequence number as text. It is needed unchanged to report the record as failed.
    pub sequence_number: Cow<'a, [u8]>,
    /// Its partition key in UTF-8.
    pub partition_key: Cow<'a, [u8]>,
    /// When it arrived in the stream, in milliseconds since 1970-01-01T00:00:00Z.
    pub arrived_ms: i64,
    /// Its data in base64.
    pub data: Cow<'a, [u8]>,
}

/// Where a record comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source<'a> {
    stream_arn: Cow<'a, str>,
    /// The shard's id.
    id: Cow<'a, str>,
}

impl<'a> Record<'a> {
    /// A record that was read from the stream and not from an event.
    pub fn of_stream(
        sequence_number: &'a str,
        partition_key: &'a str,
        arrived_ms: i64,
        data: &[u8],
    ) -> Result<Self, PositionError> {
        Ok(Self {
            position: Position::of_sequence_number(sequence_number)?,
            sequence_number: sequence_number.as_bytes().into(),
            partition_key: partition_key.as_bytes().into(),
            arrived_ms,
            data: base64(data).into_bytes().into(),
        })
    }

    /// Its sequence number as text.
    #[must_use]
    pub fn sequence_number(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.sequence_number)
    }
}

/// Reads an event and passes the records of a batch to `each` in their order. Returns their shard, or `None` if the batch is
/// empty.
///
/// If there is an error, the records before it may already have been passed to `each`. The fast path does not check that
/// `data` is valid in JSON: if it is not base64, the caller has to read the event again with [`read_json`].
pub fn read<'a>(event: &'a [u8], mut each: impl FnMut(Record<'a>)) -> Result<Event<Option<Shard>>, EventError> {
    if !event.starts_with(b"{\"Records\":[")
        && let Some(other) = other(event)?
    {
        return Ok(other);
    }
    let (mut last, mut sources) = (None, Sources::default());
    let scan = |scan: &mut Scan<'a>| record(scan, &mut last);
    json::records(event, scan, KinesisRecord::into_record, |(record, source)| {
        sources.next(source);
        each(record);
    })?;
    sources.shard().map(Event::Batch)
}

/// Reads a batch using only the JSON parser. This is the reference that the result of [`read`] must equal.
pub fn read_json<'a>(event: &'a [u8], mut each: impl FnMut(Record<'a>)) -> Result<Option<Shard>, EventError> {
    let mut sources = Sources::default();
    json::parse(event, 0, KinesisRecord::into_record, |(record, source)| {
        sources.next(source);
        each(record);
    })?;
    sources.shard()
}

/// The sequence number of the record at `position`, as text.
pub fn sequence_number(event: &[u8], position: Position) -> Option<String> {
    let mut found = None;
    let read = read(event, |record| {
        if record.position == position.record() {
            found = Some(record.sequence_number().into_owned());
        }
    });
    read.ok().and(found)
}

/// Checks that all records have the same source.
#[derive(Default)]
struct Sources<'a> {
    records: usize,
    first: Option<Source<'a>>,
    /// The index of the first record with another source, and that source.
    other: Option<(usize, Source<'a>)>,
}

impl<'a> Sources<'a> {
    /// `None` means that the source is the same as that of the previous record.
    #[inline]
    fn next(&mut self, source: Option<Source<'a>>) {
        if let Some(source) = source {
            self.add(source);
        }
        self.records += 1;
    }

    fn add(&mut self, source: Source<'a>) {
        match &self.first {
            None => self.first = Some(source),
            Some(first) if *first == source => {}
            Some(_) => drop(self.other.get_or_insert((self.records, source))),
        }
    }

    fn shard(self) -> Result<Option<Shard>, EventError> {
        let Some(first) = self.first else { return Ok(None) };
        let shard = first.shard(0)?;
        match self.other {
            None => Ok(Some(shard)),
            Some((index, other)) => Err(EventError::Shards(shard.to_string(), other.shard(index)?.to_string())),
        }
    }
}

impl Source<'_> {
    /// The shard of the record with this index.
    fn shard(&self, index: usize) -> Result<Shard, EventError> {
        let stream = self.stream_arn.rsplit_once('/').map_or(&*self.stream_arn, |(_, name)| name).parse();
        let id = stream.and_then(|stream| Ok(ShardId { stream, shard: self.id.parse()? }));
        let shard = id.map(|id| Shard { stream_arn: self.stream_arn.clone().into_owned(), id });
        shard.map_err(|cause: LayoutError| EventError::Record(index, cause.into()))
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.id)
    }
}

/// A scheduled event, or a request; `None` if the event contains records instead.
fn other<B>(event: &[u8]) -> Result<Option<Event<B>>, EventError> {
    #[derive(Deserialize)]
    struct Shape {
        #[serde(rename = "Records")]
        records: Option<IgnoredAny>,
        roll: Option<BTreeSet<Segment>>,
    }
    if let Some(time) = schedule::tick(event) {
        return Ok(Some(Event::Tick(time.as_millisecond())));
    }
    if let Ok(request) = serde_json::from_slice(event) {
        return Ok(Some(Event::Discarded(request)));
    }
    let shape: Shape = json::object(event)?;
    match (shape.records, shape.roll) {
        (Some(_), None) => Ok(None),
        (None, Some(tables)) => Ok(Some(Event::Roll(tables))),
        _ => Err(EventError::Unknown),
    }
}

/// The parts of the previous record that are usually the same in the next one, and can be compared instead of parsed.
struct Last<'a> {
    /// From the end of the arrival time to the sequence number within `eventID`. It includes the shard's id.
    middle: &'a [u8],
    /// From the end of `eventID` to the end of the record.
    tail: &'a [u8],
    /// The second of arrival, as digits and as milliseconds since 1970-01-01T00:00:00Z.
    second: (&'a [u8], i64),
}

/// Reads a record in the form that Lambda writes; `None` at the first difference. The source is `None` if it is the same as that
/// of the previous record.
///
/// Inlined so that the record of 144 bytes is not copied.
#[inline(always)]
fn record<'a>(scan: &mut Scan<'a>, last: &mut Option<Last<'a>>) -> Option<(Record<'a>, Option<Source<'a>>)> {
    scan.literal(b"{\"kinesis\":{\"kinesisSchemaVersion\":\"1.0\",\"partitionKey\":\"")?;
    let partition_key = match scan.plain() {
        Some(key) => key,
        None => scan.text()?.as_bytes(),
    };
    scan.literal(b",\"sequenceNumber\":\"")?;
    let (sequence_number, position) = sequence(scan)?;
    scan.literal(b",\"data\":\"")?;
    let data = scan.string()?;
    scan.literal(b",\"approximateArrivalTimestamp\":")?;
    let (second, arrived_ms) = arrived(scan, last.as_ref())?;
    let record = Record {
        position,
        sequence_number: sequence_number.into(),
        partition_key: partition_key.into(),
        arrived_ms,
        data: data.into(),
    };
    if let Some(last) = last
        && let Some(rest) = scan.rest.strip_prefix(last.middle)
        && let Some(rest) = rest.strip_prefix(sequence_number)
        && let Some(rest) = rest.strip_prefix(last.tail)
    {
        scan.rest = rest;
        last.second = second;
        return Some((record, None));
    }
    let middle = scan.rest;
    scan.literal(b"},\"eventSource\":\"aws:kinesis\",\"eventVersion\":\"1.0\",\"eventID\":\"")?;
    let id = scan.text()?.strip_suffix(std::str::from_utf8(sequence_number).ok()?)?.strip_suffix(':')?;
    let tail = scan.rest;
    scan.literal(b",\"eventName\":\"aws:kinesis:record\",\"invokeIdentityArn\":\"")?;
    scan.text()?;
    scan.literal(b",\"awsRegion\":\"")?;
    scan.text()?;
    scan.literal(b",\"eventSourceARN\":\"")?;
    let stream_arn = scan.text()?;
    scan.literal(b"}")?;
    // The quote that ends `eventID` belongs to the tail.
    let before = |end: &[u8], more: usize| middle.len().checked_sub(end.len() + more);
    *last = Some(Last {
        middle: middle.get(..before(tail, sequence_number.len() + 1)?)?,
        tail: middle.get(before(tail, 1)?..before(scan.rest, 0)?)?,
        second,
    });
    Some((record, Some(Source { stream_arn: stream_arn.into(), id: id.into() })))
}

/// Reads a sequence number after its opening quote, as text and as a position.
#[inline(always)]
fn sequence<'a>(scan: &mut Scan<'a>) -> Option<(&'a [u8], Position)> {
    if let Some((digits, [b'"', rest @ ..])) = scan.rest.split_first_chunk()
        && let Some(position) = Position::of_digits(digits)
    {
        scan.rest = rest;
        return Some((digits, position));
    }
    let text = scan.text()?;
    Some((text.as_bytes(), Position::of_sequence_number(text).ok()?))
}

/// Reads an arrival time with at most three decimals, as Lambda writes it: the second as digits and in milliseconds, and the
/// whole time in milliseconds. Other numbers are left to [`arrived_ms`].
fn arrived<'a>(scan: &mut Scan<'a>, last: Option<&Last<'a>>) -> Option<((&'a [u8], i64), i64)> {
    let second = match last {
        // Most records arrive within the same second as the previous one.
        Some(last) if scan.rest.starts_with(last.second.0) => last.second,
        _ => {
            let digits = scan.rest.iter().position(|byte| !byte.is_ascii_digit())?;
            let digits = scan.rest.get(..digits)?;
            (digits, plain(digits, 12).filter(|_| digits.len() == 1 || !digits.starts_with(b"0"))? * 1_000)
        }
    };
    let rest = scan.rest.get(second.0.len()..)?;
    let (ms, rest) = match rest {
        [b'.', rest @ ..] => {
            let digits = rest.iter().take(4).position(|byte| *byte == b'}')?;
            let (decimals, rest) = rest.split_at_checked(digits)?;
            (plain(decimals, 3)? * [0, 100, 10, 1].get(digits)?, rest)
        }
        rest => (0, rest),
    };
    // Otherwise the number continues, for example with an exponent.
    rest.starts_with(b"}").then_some(())?;
    scan.rest = rest;
    Some((second, second.1 + ms))
}

/// Parses 1 to `most` digits.
fn plain(digits: &[u8], most: usize) -> Option<i64> {
    let is_plain = (1..=most).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    is_plain.then(|| digits.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

/// Converts seconds, as a JSON number, to milliseconds, rounded.
fn arrived_ms(text: &str) -> Option<i64> {
    let seconds: f64 = text.parse().ok()?;
    let ms = (seconds * 1_000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (0.0..9e15).contains(&ms).then_some(ms as i64)
}

/// The members of a record that are used; all others are ignored.
#[derive(Deserialize)]
struct KinesisRecord<'a> {
    #[serde(borrow)]
    kinesis: Option<Kinesis<'a>>,
    #[serde(rename = "eventID", borrow, default)]
    event_id: Text<'a>,
    #[serde(rename = "eventSourceARN", borrow, default)]
    stream_arn: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kinesis<'a> {
    #[serde(borrow, default)]
    partition_key: Text<'a>,
    #[serde(borrow)]
    sequence_number: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<Text<'a>>,
    #[serde(borrow)]
    approximate_arrival_timestamp: Option<&'a RawValue>,
}

impl<'a> KinesisRecord<'a> {
    fn into_record(index: usize, record: Self) -> Result<(Record<'a>, Option<Source<'a>>), EventError> {
        let (record, source) = record.record().map_err(|fault| EventError::Record(index, fault))?;
        Ok((record, Some(source)))
    }

    fn record(self) -> Result<(Record<'a>, Source<'a>), RecordFault> {
        let kinesis = self.kinesis.ok_or(RecordFault::Kinesis)?;
        let sequence_number = kinesis.sequence_number.unwrap_or_default();
        let arrival = kinesis.approximate_arrival_timestamp.map_or("missing", RawValue::get);
        let id = match self.event_id.0 {
            Cow::Borrowed(id) => id.rsplit_once(':').map_or(id, |(shard, _)| shard).into(),
            Cow::Owned(id) => id.rsplit_once(':').map_or(&*id, |(shard, _)| shard).to_owned().into(),
        };
        let record = Record {
            position: Position::of_sequence_number(&sequence_number.0)?,
            sequence_number: sequence_number.into_bytes(),
            partition_key: kinesis.partition_key.into_bytes(),
            arrived_ms: arrived_ms(arrival).ok_or_else(|| RecordFault::Arrival(arrival.to_owned()))?,
            data: kinesis.data.ok_or(RecordFault::Kinesis)?.into_bytes(),
        };
        Ok((record, Source { stream_arn: self.stream_arn.0, id }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const TAIL: &str = r#","eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::123456789012:role/lambda","awsRegion":"eu-west-1","eventSourceARN":"arn:aws:kinesis:eu-west-1:123456789012:stream/cubic-kafka"}"#;

    /// A record as Lambda writes it.
    fn as_lambda_writes(key: &str, sequence: &str, data: &str, arrived: &str, tail: &str) -> String {
        let quoted = |text: &str| Value::from(text).to_string();
        format!(
            r#"{{"kinesis":{{"kinesisSchemaVersion":"1.0","partitionKey":{},"sequenceNumber":"{sequence}","data":{},"approximateArrivalTimestamp":{arrived}}},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000006:{sequence}"{tail}"#,
            quoted(key),
            quoted(data),
        )
    }

    fn batch(records: &[String]) -> String {
        format!("{{\"Records\":[{}]}}", records.join(","))
    }

    #[test]
    fn a_record_as_lambda_writes_it_takes_the_fast_path() {
        let records = [
            as_lambda_writes(
                "1",
                "49590338271490256608559692538361571095921575989136588898",
                "e30=",
                "1545084650.987",
                TAIL,
            ),
            as_lambda_writes("2", "49590338271490256608559692540925702759324208523137515618", "", "1545084711.1", TAIL),
        ];
        let mut last = None;
        for (text, is_first) in records.iter().zip([true, false]) {
            let mut scan = Scan { rest: text.as_bytes() };
            let (fast, source) = record(&mut scan, &mut last).unwrap();
            assert!(scan.rest.is_empty());
            let slow: KinesisRecord<'_> = serde_json::from_str(text).unwrap();
            let slow = slow.record().unwrap();
            assert_eq!((fast, source), (slow.0, is_first.then_some(slow.1)));
        }
        let event = batch(&records);
        let [read, _] = both(event.as_bytes());
        let (records, Some(shard)) = read.unwrap() else { panic!("no shard") };
        assert_eq!(shard.to_string(), "cubic-kafka/shardId-000000000006");
        assert_eq!(records[0].arrived_ms, 1_545_084_650_987);
        assert_eq!(records[1].arrived_ms, 1_545_084_711_100);
        let second = sequence_number(event.as_bytes(), records[1].position.in_aggregate(7).unwrap());
        assert_eq!(second.as_deref(), Some(&*records[1].sequence_number()));
    }

    #[test]
    fn arrival_times_are_read_to_the_millisecond() {
        for (text, ms) in [
            ("1545084650.987", 1_545_084_650_987),
            ("1545084650.98", 1_545_084_650_980),
            ("1545084650.05", 1_545_084_650_050),
            ("1545084650.005", 1_545_084_650_005),
            ("999999999999.999", 999_999_999_999_999),
            ("1545084650", 1_545_084_650_000),
            ("1.545084650987E9", 1_545_084_650_987),
            ("1545084650.9876", 1_545_084_650_988),
            ("0", 0),
        ] {
            assert_eq!(arrived_ms(text), Some(ms), "{text}");
        }
        for text in ["", "null", "\"1\"", "-1", "1e300", "NaN", "inf"] {
            assert_eq!(arrived_ms(text), None, "{text}");
        }
    }

    #[test]
    fn batches_and_ticks_are_recognised_by_their_members() {
        let tick =
            r#"{"version":"0","detail-type":"Scheduled Event","source":"aws.events","time":"2026-11-20T14:11:00Z"}"#;
        assert!(matches!(read(tick.as_bytes(), drop), Ok(Event::Tick(1_795_183_860_000))));
        let key = "aws/lambda/0f1e/shardId-000000000006/2026/11/20/2026-11-20T14.11.46-7c2b";
        let request = |even_if_landed| Request { discarded: key.to_owned(), even_if_landed };
        for (event, expected) in [
            (format!(r#"{{"discarded":"{key}"}}"#), request(false)),
            (format!(r#"{{"discarded":"{key}","even_if_landed":true}}"#), request(true)),
        ] {
            assert!(matches!(read(event.as_bytes(), drop), Ok(Event::Discarded(read)) if read == expected));
        }
        assert!(matches!(read(br#"{"Records":[]}"#, drop), Ok(Event::Batch(None))));
        let tables = BTreeSet::from(["a".parse().unwrap()]);
        assert_eq!(read(br#"{"roll":["a","a"]}"#, drop).unwrap(), Event::Roll(tables));
        assert!(matches!(read(br#"{ "Records": [ ] }"#, drop), Ok(Event::Batch(None))));
        for (event, error) in [
            (
                r#"{"source":"aws.ecr","detail-type":"ECR Image Scan","time":"2026-11-20T14:11:00Z"}"#,
                "the event is neither a Kinesis batch (an object with \"Records\") nor a tick of the schedule (a \"Scheduled Event\" of \"aws.events\" with its \"time\") nor a request of landfall roll (an object with \"roll\") or of landfall replay discarded (\"discarded\")",
            ),
            (
                "",
                "the event is neither a Kinesis batch nor a tick of the schedule nor a request: EOF while parsing a value at line 1 column 0",
            ),
            (
                "[[]]",
                "the event is neither a Kinesis batch nor a tick of the schedule nor a request: an event must be an object, not an array",
            ),
            (r#"{"Records":[{"messageId":"1"}]}"#, "record 0 of the event: it is not from Kinesis"),
            (
                r#"{"Records":[{"kinesis":{"sequenceNumber":"1","data":""}}]}"#,
                "record 0 of the event: its approximateArrivalTimestamp is missing",
            ),
            (
                r#"{"Records":[{"kinesis":{"data":"","approximateArrivalTimestamp":1}}]}"#,
                "record 0 of the event: \"\" is not a sequence number: 1 to 56 digits, not all of them 0",
            ),
        ] {
            assert_eq!(read(event.as_bytes(), drop).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn records_of_two_shards_are_refused() {
        let other = TAIL.replace("cubic-kafka", "other");
        let event = batch(&[as_lambda_writes("", "1", "", "1", TAIL), as_lambda_writes("", "2", "", "1", &other)]);
        let error = read(event.as_bytes(), drop).unwrap_err().to_string();
        assert!(error.contains("cubic-kafka/shardId-000000000006 and of other/shardId-000000000006"), "{error}");
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[A-Za-z0-9+/=-]{0,20}", 1 => "\\PC{0,6}", 1 => any::<String>()]
    }

    fn event() -> impl Strategy<Value = String> {
        let arrived = prop_oneof![4 => "154508465[01]{1,2}(\\.[0-9]{1,4})?", 1 => "[1-9][0-9]{9}\\.[0-9]{1,3}", 1 => "[1-9]\\.[0-9]{9}E9", 1 => "[0-9]{1,3}"];
        let tail = prop::sample::select(vec![
            TAIL.to_owned(),
            TAIL.replace("cubic-kafka", "other"),
            TAIL.replace('}', r#","extra":{"a":[1,"}"]}}"#),
            "}".to_owned(),
        ]);
        let record = (text(), "[0-9]{1,57}", text(), arrived, tail, any::<bool>());
        let record = record.prop_map(|(key, sequence, data, arrived, tail, pretty)| {
            let record = as_lambda_writes(&key, &sequence, &data, &arrived, &tail);
            match serde_json::from_str::<Value>(&record) {
                Ok(value) if pretty => serde_json::to_string_pretty(&value).unwrap(),
                _ => record,
            }
        });
        prop::collection::vec(record, 0..5).prop_map(|records| batch(&records))
    }

    type Read<'a> = Result<(Vec<Record<'a>>, Option<Shard>), String>;

    /// The records and their shard, or the error, read by the fast path and by the JSON parser alone.
    fn both(event: &[u8]) -> [Read<'_>; 2] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let fast = match read(event, |record| ours.push(record)) {
            Ok(Event::Batch(shard)) => Ok((ours, shard)),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        };
        let json = read_json(event, |record| theirs.push(record)).map_err(|error| error.to_string());
        [fast, json.map(|shard| (theirs, shard))]
    }

    proptest! {
        #[test]
        fn the_fast_way_agrees_with_the_json_parser(event in event()) {
            let [fast, json] = both(event.as_bytes());
            prop_assert_eq!(fast.ok(), json.ok());
        }

        #[test]
        fn whatever_the_json_parser_accepts_is_read_alike(
            event in event(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut event = event.into_bytes();
            for (at, byte) in damage {
                *at.get_mut(&mut event) = byte;
            }
            let [fast, json] = both(&event);
            if let Ok(json) = json {
                prop_assert_eq!(fast, Ok(json));
            }
        }
    }
}
