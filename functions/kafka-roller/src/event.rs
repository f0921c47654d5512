//! What the function is called with: a batch of a Kinesis shard, or the tick of the schedule.
//!
//! Source: "Using Lambda to process records from Amazon Kinesis Data Streams", AWS Lambda developer guide; and "Scheduled
//! events", Amazon EventBridge user guide.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use shared::{
    json::{self, Scan, Text},
    layout::{LayoutError, Segment},
    position::{Position, PositionError},
    quarantine::base64,
};

/// The event cannot be read at all; nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// The event is no JSON, or a record has another shape.
    #[error("the event is neither a batch of Kinesis nor a tick of the schedule: {0}")]
    Json(#[from] serde_json::Error),
    /// The event is JSON of another kind.
    #[error(
        "the event is neither a batch of Kinesis (an object with \"Records\") nor a tick of the schedule (an object with \
         \"time\", such as 2026-11-20T14:11:00Z)"
    )]
    Unknown,
    /// A record does not say which it is, so it cannot be reported as failed.
    #[error("record {0} of the event: {1}")]
    Record(usize, RecordFault),
    /// The records are not of one shard.
    #[error("the event holds records of {0} and of {1}; Kinesis hands over one shard at a time")]
    Shards(String, String),
}

/// What is wrong with a record of the event, as Lambda made it.
#[derive(Debug, thiserror::Error)]
pub enum RecordFault {
    /// No part `kinesis`, or no data in it.
    #[error("it is not from Kinesis")]
    Kinesis,
    /// No time of arrival.
    #[error("its approximateArrivalTimestamp is {0}")]
    Arrival(String),
    /// No sequence number.
    #[error(transparent)]
    Position(#[from] PositionError),
    /// No stream or shard that could be part of a key.
    #[error(transparent)]
    Source(#[from] LayoutError),
}

/// What the function is called with.
#[derive(Debug)]
pub enum Event<'a> {
    /// Records of one shard. `None` when there are none.
    Batch(Option<Delivery<'a>>),
    /// The schedule's tick, in milliseconds since 1970-01-01T00:00:00Z.
    Tick(i64),
}

/// Records of one shard, in order.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// The stream's name.
    pub stream: Segment,
    /// The shard's id.
    pub shard: Segment,
    /// The records.
    pub records: Vec<Record<'a>>,
}

/// A record as it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the shard.
    pub position: Position,
    /// Its sequence number as Lambda wrote it, by which it is reported as failed.
    pub sequence_number: Cow<'a, str>,
    /// Its partition key.
    pub partition_key: Cow<'a, str>,
    /// When it arrived in the stream, in milliseconds since 1970-01-01T00:00:00Z.
    pub arrived_ms: i64,
    /// Its data: base64.
    pub data: Cow<'a, [u8]>,
}

/// Where a record comes from, as Lambda writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source<'a> {
    stream_arn: Cow<'a, str>,
    /// The shard's id.
    shard: Cow<'a, str>,
}

impl<'a> Record<'a> {
    /// A record that was read from the stream itself and did not come with an event.
    pub fn of_stream(
        sequence_number: &'a str,
        partition_key: &'a str,
        arrived_ms: i64,
        data: &[u8],
    ) -> Result<Self, PositionError> {
        Ok(Self {
            position: Position::of_sequence_number(sequence_number)?,
            sequence_number: sequence_number.into(),
            partition_key: partition_key.into(),
            arrived_ms,
            data: base64(data).into_bytes().into(),
        })
    }
}

/// Reads the event.
pub fn read(event: &[u8]) -> Result<Event<'_>, EventError> {
    if !event.starts_with(b"{\"Records\":[")
        && let Some(tick) = tick(event)?
    {
        return Ok(Event::Tick(tick));
    }
    let (mut records, mut last) = (Records::with_capacity(event.len() / 512), None);
    json::records(event, |scan| record(scan, &mut last), KinesisRecord::into_record, |record| records.push(record))?;
    records.deliver().map(Event::Batch)
}

/// Reads a batch with the JSON parser alone: what [`read`] has to agree with.
pub fn read_json(event: &[u8]) -> Result<Option<Delivery<'_>>, EventError> {
    let mut records = Records::with_capacity(0);
    json::parse(event, 0, KinesisRecord::into_record, |record| records.push(record))?;
    records.deliver()
}

/// Records that should be of one shard.
struct Records<'a> {
    records: Vec<Record<'a>>,
    source: Option<Source<'a>>,
    /// The first source that is another one.
    other: Option<(usize, Source<'a>)>,
}

impl<'a> Records<'a> {
    fn with_capacity(records: usize) -> Self {
        Self { records: Vec::with_capacity(records), source: None, other: None }
    }

    fn push(&mut self, (record, source): (Record<'a>, Source<'a>)) {
        match &self.source {
            Some(first) if *first == source => {}
            Some(_) => drop(self.other.get_or_insert((self.records.len(), source))),
            None => self.source = Some(source),
        }
        self.records.push(record);
    }

    fn deliver(self) -> Result<Option<Delivery<'a>>, EventError> {
        let Self { mut records, source: Some(source), other } = self else { return Ok(None) };
        let (stream, shard) = source.place(0)?;
        if let Some((index, other)) = other {
            let other = other.place(index)?;
            return Err(EventError::Shards(format!("{stream}/{shard}"), format!("{}/{}", other.0, other.1)));
        }
        // Lambda hands records over in order and once each. Whoever else calls may not.
        if !records.is_sorted_by(|a, b| a.position < b.position) {
            records.sort_by_key(|record| record.position);
            records.dedup_by_key(|record| record.position);
        }
        Ok(Some(Delivery { stream, shard, records }))
    }
}

impl Source<'_> {
    /// The stream's name and the shard's id. `index`: of the record.
    fn place(&self, index: usize) -> Result<(Segment, Segment), EventError> {
        let stream = self.stream_arn.rsplit_once('/').map_or(&*self.stream_arn, |(_, name)| name).parse();
        let both = stream.and_then(|stream: Segment| Ok((stream, self.shard.parse()?)));
        both.map_err(|cause: LayoutError| EventError::Record(index, cause.into()))
    }
}

/// The time of a scheduled event; `None` when there are records instead.
fn tick(event: &[u8]) -> Result<Option<i64>, EventError> {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(rename = "Records", borrow)]
        records: Option<&'a RawValue>,
        time: Option<Timestamp>,
    }
    let shape: Shape<'_> = serde_json::from_slice(event)?;
    match (shape.records, shape.time) {
        (Some(_), _) => Ok(None),
        (None, Some(time)) => Ok(Some(time.as_millisecond())),
        (None, None) => Err(EventError::Unknown),
    }
}

/// What follows the id of a record, which is the same for all records of a stream.
struct Last<'a> {
    tail: &'a [u8],
    stream_arn: &'a str,
}

/// A whole record in the shape that Lambda writes, or `None` at the first difference.
fn record<'a>(scan: &mut Scan<'a>, last: &mut Option<Last<'a>>) -> Option<(Record<'a>, Source<'a>)> {
    scan.literal(b"{\"kinesis\":{\"kinesisSchemaVersion\":\"1.0\",\"partitionKey\":\"")?;
    let partition_key = scan.text()?;
    scan.literal(b",\"sequenceNumber\":\"")?;
    let sequence_number = scan.text()?;
    let position = Position::of_sequence_number(sequence_number).ok()?;
    scan.literal(b",\"data\":\"")?;
    // What is no base64 is the JSON parser's to judge: it may not be JSON either.
    // Every byte is looked at, because that goes sixteen at a time.
    let graphic = |data: &&[u8]| data.iter().fold(true, |all, byte| all & byte.is_ascii_graphic());
    let data = scan.string().filter(graphic)?;
    scan.literal(b",\"approximateArrivalTimestamp\":")?;
    let (arrived, rest) = scan.rest.split_at_checked(scan.rest.iter().position(|byte| *byte == b'}')?)?;
    let arrived_ms = plain_ms(arrived)?;
    scan.rest = rest;
    scan.literal(b"},\"eventSource\":\"aws:kinesis\",\"eventVersion\":\"1.0\",\"eventID\":\"")?;
    let shard = scan.text()?.strip_suffix(sequence_number)?.strip_suffix(':')?;
    let stream_arn = match last {
        Some(last) if scan.rest.starts_with(last.tail) => {
            scan.literal(last.tail)?;
            last.stream_arn
        }
        _ => {
            let before = scan.rest;
            scan.literal(b",\"eventName\":\"aws:kinesis:record\",\"invokeIdentityArn\":\"")?;
            scan.text()?;
            scan.literal(b",\"awsRegion\":\"")?;
            scan.text()?;
            scan.literal(b",\"eventSourceARN\":\"")?;
            let stream_arn = scan.text()?;
            scan.literal(b"}")?;
            *last = before.get(..before.len() - scan.rest.len()).map(|tail| Last { tail, stream_arn });
            stream_arn
        }
    };
    let source = Source { stream_arn: stream_arn.into(), shard: shard.into() };
    let (sequence_number, partition_key) = (sequence_number.into(), partition_key.into());
    Some((Record { position, sequence_number, partition_key, arrived_ms, data: data.into() }, source))
}

/// Seconds with at most three decimals, as Lambda writes them → milliseconds. Anything else is left to [`arrived_ms`].
fn plain_ms(text: &[u8]) -> Option<i64> {
    let mut parts = text.split(|byte| *byte == b'.');
    let (seconds, decimals) = (parts.next()?, parts.next().unwrap_or(b"0"));
    let digits = |text: &[u8], most: usize| {
        let plain = (1..=most).contains(&text.len()) && text.iter().all(u8::is_ascii_digit);
        plain.then(|| text.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    };
    if parts.next().is_some() || (seconds.len() > 1 && seconds.starts_with(b"0")) {
        return None;
    }
    let ms = digits(decimals, 3)? * [100, 10, 1].get(decimals.len() - 1)?;
    Some(digits(seconds, 12)? * 1_000 + ms)
}

/// Seconds as JSON writes numbers → milliseconds, rounded.
fn arrived_ms(text: &str) -> Option<i64> {
    if let Some(ms) = plain_ms(text.as_bytes()) {
        return Some(ms);
    }
    let seconds: f64 = text.parse().ok()?;
    let ms = (seconds * 1_000.0).round();
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
    (0.0..9e15).contains(&ms).then_some(ms as i64)
}

/// What is read of a record; everything else is passed over.
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
    fn into_record(index: usize, record: Self) -> Result<(Record<'a>, Source<'a>), EventError> {
        record.record().map_err(|fault| EventError::Record(index, fault))
    }

    fn record(self) -> Result<(Record<'a>, Source<'a>), RecordFault> {
        let kinesis = self.kinesis.ok_or(RecordFault::Kinesis)?;
        let sequence_number = kinesis.sequence_number.unwrap_or_default().0;
        let arrival = kinesis.approximate_arrival_timestamp.map_or("missing", RawValue::get);
        let shard = match self.event_id.0 {
            Cow::Borrowed(id) => id.rsplit_once(':').map_or(id, |(shard, _)| shard).into(),
            Cow::Owned(id) => id.rsplit_once(':').map_or(&*id, |(shard, _)| shard).to_owned().into(),
        };
        let record = Record {
            position: Position::of_sequence_number(&sequence_number)?,
            sequence_number,
            partition_key: kinesis.partition_key.0,
            arrived_ms: arrived_ms(arrival).ok_or_else(|| RecordFault::Arrival(arrival.to_owned()))?,
            data: match kinesis.data.ok_or(RecordFault::Kinesis)?.0 {
                Cow::Borrowed(data) => data.as_bytes().into(),
                Cow::Owned(data) => data.into_bytes().into(),
            },
        };
        Ok((record, Source { stream_arn: self.stream_arn.0, shard }))
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
    fn a_record_in_lambdas_own_shape_takes_the_fast_way() {
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
        for text in &records {
            let mut scan = Scan { rest: text.as_bytes() };
            let fast = record(&mut scan, &mut last).unwrap();
            assert!(scan.rest.is_empty());
            let slow: KinesisRecord<'_> = serde_json::from_str(text).unwrap();
            assert_eq!(fast, slow.record().unwrap());
        }
        let event = batch(&records);
        let Event::Batch(Some(delivery)) = read(event.as_bytes()).unwrap() else { panic!("no batch") };
        assert_eq!((delivery.stream.as_str(), delivery.shard.as_str()), ("cubic-kafka", "shardId-000000000006"));
        assert_eq!(delivery.records[0].arrived_ms, 1_545_084_650_987);
        assert_eq!(delivery.records[1].arrived_ms, 1_545_084_711_100);
    }

    #[test]
    fn arrival_times_are_read_to_the_millisecond() {
        for (text, ms) in [
            ("1545084650.987", 1_545_084_650_987),
            ("1545084650.98", 1_545_084_650_980),
            ("1545084650.05", 1_545_084_650_050),
            ("1545084650.005", 1_545_084_650_005),
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
    fn batches_and_ticks_are_told_apart_by_their_shape() {
        let tick =
            r#"{"version":"0","detail-type":"Scheduled Event","source":"aws.events","time":"2026-11-20T14:11:00Z"}"#;
        assert!(matches!(read(tick.as_bytes()), Ok(Event::Tick(1_795_183_860_000))));
        assert!(matches!(read(br#"{"time": "2026-11-20T14:11:00Z"}"#), Ok(Event::Tick(1_795_183_860_000))));
        assert!(matches!(read(br#"{"Records":[]}"#), Ok(Event::Batch(None))));
        assert!(matches!(read(br#"{ "Records": [ ] }"#), Ok(Event::Batch(None))));
        for (event, error) in [
            (
                "{}",
                "the event is neither a batch of Kinesis (an object with \"Records\") nor a tick of the schedule (an object with \"time\", such as 2026-11-20T14:11:00Z)",
            ),
            (
                "",
                "the event is neither a batch of Kinesis nor a tick of the schedule: EOF while parsing a value at line 1 column 0",
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
            assert_eq!(read(event.as_bytes()).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn records_of_two_shards_are_refused() {
        let other = TAIL.replace("cubic-kafka", "other");
        let event = batch(&[as_lambda_writes("", "1", "", "1", TAIL), as_lambda_writes("", "2", "", "1", &other)]);
        let error = read(event.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("cubic-kafka/shardId-000000000006 and of other/shardId-000000000006"), "{error}");
    }

    #[test]
    fn records_out_of_order_are_put_in_order_and_twins_dropped() {
        let of = |sequence| as_lambda_writes("", sequence, "", "1", TAIL);
        let event = batch(&[of("2"), of("1"), of("2")]);
        let Event::Batch(Some(delivery)) = read(event.as_bytes()).unwrap() else { panic!("no batch") };
        let sequences: Vec<&str> = delivery.records.iter().map(|record| &*record.sequence_number).collect();
        assert_eq!(sequences, ["1", "2"]);
    }

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[A-Za-z0-9+/=-]{0,20}", 1 => "\\PC{0,6}", 1 => any::<String>()]
    }

    fn event() -> impl Strategy<Value = String> {
        let arrived = prop_oneof![4 => "[1-9][0-9]{9}\\.[0-9]{1,3}", 1 => "[1-9]\\.[0-9]{9}E9", 1 => "[0-9]{1,3}"];
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

    /// The records, or why not, by the fast way and by the JSON parser alone.
    fn both(event: &[u8]) -> [Result<Vec<Record<'_>>, String>; 2] {
        let fast = match read(event) {
            Ok(Event::Batch(delivery)) => Ok(delivery),
            Ok(Event::Tick(tick)) => Err(tick.to_string()),
            Err(error) => Err(error.to_string()),
        };
        [fast, read_json(event).map_err(|error| error.to_string())]
            .map(|read| read.map(|delivery| delivery.map(|delivery| delivery.records).unwrap_or_default()))
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
