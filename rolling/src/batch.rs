//! Decodes a batch of a shard: a run of records for each table, and the records that can never be used (poison).

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use hashbrown::HashMap;
use serde_json::{json, value::to_raw_value};
use shared::{
    layout::Segment,
    position::Position,
    quarantine::{QuarantineRecord, base64, rfc3339},
};

use crate::{
    FUNCTION,
    aggregate::{Packed, unpack},
    envelope::Origin,
    error::RecordError,
    event::{self, Event, EventError, Record, Shard},
    line::{self, Lines, TableOf},
    run::{Entry, Run},
    shard::ShardId,
};

/// The decoded records of a batch.
#[derive(Debug)]
pub struct Batch {
    /// The shard that they come from.
    pub shard: Shard,
    /// The records that can be written to files, by table.
    pub runs: BTreeMap<Segment, Run>,
    /// The other records, in order.
    pub poison: Vec<Poison>,
    /// When the oldest record arrived, in milliseconds since 1970-01-01T00:00:00Z; `None` if there are no records.
    pub oldest_ms: Option<i64>,
    /// When the newest record arrived.
    pub newest_ms: Option<i64>,
}

/// A record that can never be used.
#[derive(Debug, Clone)]
pub struct Poison {
    /// Its position in the shard.
    pub position: Position,
    /// When it arrived in the stream, in milliseconds since 1970-01-01T00:00:00Z.
    pub arrived_ms: i64,
    /// What is wrong with it.
    pub error: RecordError,
    /// Its entry in the quarantine.
    pub record: QuarantineRecord,
}

/// The records of a table: the index of the first, from which [`Reader::next`] leads to the last.
struct Chain {
    table: Segment,
    first: usize,
    last: usize,
}

/// A poison record, before it is known which shard it belongs to.
struct Refused<'a> {
    position: Position,
    record: Record<'a>,
    data: Vec<u8>,
    error: RecordError,
}

/// Decodes records one by one while the event is parsed.
struct Reader<'a, 't> {
    lines: &'t Lines,
    /// The shard, if the lines have to say where their records come from.
    origin: Option<ShardId>,
    /// The records, in order. Their ends are in the lines of all of them.
    entries: Vec<Entry>,
    text: Vec<u8>,
    /// Of each record the index of the next one of its table, or its own if there is none.
    next: Vec<usize>,
    tables: Vec<Chain>,
    /// Index of each table, by name.
    known: HashMap<String, usize>,
    /// Index of the table of the previous record.
    latest: usize,
    refused: Vec<Refused<'a>>,
    /// Buffer for the decoded data of one record.
    data: Vec<u8>,
    /// Position of the previous record.
    before: Position,
    oldest_ms: Option<i64>,
    newest_ms: Option<i64>,
    /// Whether the event has to be read again with the JSON parser: positions do not rise, or data contains characters that
    /// may be invalid in JSON.
    needs_parser: bool,
}

/// Estimates for the capacity: minimum bytes of a record in an event, and the part of an event that becomes lines. Too much
/// capacity costs little, since memory is not used before it is written to.
const RECORD_BYTES: usize = 400;
const LINES_OF_EVENT: usize = 4;

impl Batch {
    /// Position of the first record.
    #[must_use]
    pub fn first(&self) -> Option<Position> {
        let runs = self.runs.values().filter_map(Run::first);
        runs.chain(self.poison.iter().map(|poison| poison.position)).min()
    }

    /// Position of the last record.
    #[must_use]
    pub fn last(&self) -> Option<Position> {
        let runs = self.runs.values().filter_map(Run::last);
        runs.chain(self.poison.iter().map(|poison| poison.position)).max()
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.values().map(Run::len).sum::<usize>() + self.poison.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The positions of all records, and when they arrived, in no order.
    pub fn times(&self) -> impl Iterator<Item = (Position, i64)> {
        let entries = self.runs.values().flat_map(|run| run.entries(0..run.len()));
        let times = entries.map(|entry| (entry.position, entry.arrived_ms));
        times.chain(self.poison.iter().map(|poison| (poison.position, poison.arrived_ms)))
    }

    /// Reads an event and decodes the records of a batch; `None` if the batch is empty.
    pub fn of_event(event: &[u8], lines: &Lines) -> Result<Event<Option<Self>>, EventError> {
        let mut reader = Reader::new(lines, event.len() / RECORD_BYTES, event.len() / LINES_OF_EVENT);
        // Their shard is known only after the last one.
        let mut waiting = Vec::new();
        let read = match lines.envelope {
            true => event::read(event, |record| waiting.push(record)),
            false => event::read(event, |record| reader.push(&record)),
        };
        let shard = match read? {
            Event::Tick(tick) => return Ok(Event::Tick(tick)),
            Event::Roll(tables) => return Ok(Event::Roll(tables)),
            Event::Discarded(request) => return Ok(Event::Discarded(request)),
            Event::Batch(None) => return Ok(Event::Batch(None)),
            Event::Batch(Some(shard)) => shard,
        };
        reader.origin = lines.envelope.then(|| shard.id.clone());
        waiting.iter().for_each(|record| reader.push(record));
        if !reader.needs_parser {
            return Ok(Event::Batch(Some(reader.finish(shard))));
        }
        // Lambda delivers records in order. Other callers may not.
        let mut records = Vec::new();
        event::read_json(event, |record| records.push(record))?;
        records.sort_by_key(|record| record.position);
        number(&mut records)?;
        Ok(Event::Batch(Some(Self::of(shard, records, lines))))
    }

    /// Decodes records of a shard, which must be in the order of their positions.
    #[must_use]
    pub fn of<'a>(shard: Shard, records: impl IntoIterator<Item = Record<'a>>, lines: &Lines) -> Self {
        let mut reader = Reader::new(lines, 0, 0);
        reader.origin = lines.envelope.then(|| shard.id.clone());
        records.into_iter().for_each(|record| reader.push(&record));
        reader.finish(shard)
    }
}

/// Gives records with one sequence number the positions that they had in the aggregate that somebody has unpacked already.
fn number(records: &mut [Record<'_>]) -> Result<(), EventError> {
    let mut before = (Position::START, 0_usize);
    for (index, record) in records.iter_mut().enumerate() {
        before = if record.position == before.0 { (before.0, before.1 + 1) } else { (record.position, 0) };
        record.position =
            record.position.in_aggregate(before.1).map_err(|cause| EventError::Record(index, cause.into()))?;
    }
    Ok(())
}

impl<'a, 't> Reader<'a, 't> {
    /// With room for so many records and bytes of lines.
    fn new(lines: &'t Lines, records: usize, bytes: usize) -> Self {
        Self {
            lines,
            origin: None,
            entries: Vec::with_capacity(records),
            text: Vec::with_capacity(bytes),
            next: Vec::with_capacity(records),
            tables: Vec::new(),
            known: HashMap::new(),
            latest: 0,
            refused: Vec::new(),
            data: Vec::new(),
            before: Position::START,
            oldest_ms: None,
            newest_ms: None,
            needs_parser: false,
        }
    }

    fn push(&mut self, record: &Record<'a>) {
        self.needs_parser |= record.position <= self.before;
        self.before = record.position;
        self.oldest_ms = Some(self.oldest_ms.map_or(record.arrived_ms, |oldest| oldest.min(record.arrived_ms)));
        self.newest_ms = self.newest_ms.max(Some(record.arrived_ms));
        let mut data = std::mem::take(&mut self.data);
        data.clear();
        if base64_simd::STANDARD.decode_append(&record.data, &mut data).is_err() {
            self.needs_parser |= !record.data.iter().all(u8::is_ascii_graphic);
            self.refuse(record, record.position, &record.data, RecordError::Base64);
        } else {
            self.decode(record, &data);
        }
        self.data = data;
    }

    fn decode(&mut self, record: &Record<'a>, data: &[u8]) {
        // JSON never begins with the magic bytes of an aggregate.
        let packed =
            if data.starts_with(&crate::aggregate::MAGIC) { unpack(&Bytes::copy_from_slice(data)) } else { None };
        match packed {
            None => self.read(record, record.position, &record.partition_key, data),
            Some(_) if record.position.sub_sequence() > 0 => {
                self.refuse(record, record.position, data, RecordError::Aggregate);
            }
            Some(Err(_)) => self.refuse(record, record.position, data, RecordError::Aggregate),
            Some(Ok(packed)) => {
                for (index, Packed { partition_key, data }) in packed.iter().enumerate() {
                    match record.position.in_aggregate(index) {
                        Ok(position) => self.read(record, position, partition_key, data),
                        // Kinesis does not accept aggregates of this size.
                        Err(_) => self.refuse(record, record.position, data, RecordError::Aggregate),
                    }
                }
            }
        }
    }

    fn read(&mut self, record: &Record<'a>, position: Position, key: &[u8], data: &[u8]) {
        if let Err(error) = self.take(record, position, key, data) {
            self.refuse(record, position, data, error);
        }
    }

    fn take(&mut self, record: &Record<'a>, position: Position, key: &[u8], data: &[u8]) -> Result<(), RecordError> {
        let (table, mut line) = line::read(data, self.lines)?;
        if let Some(shard) = &self.origin {
            let (sequence, key) = (record.sequence_number(), String::from_utf8_lossy(key));
            let origin = Origin::new(shard, (&sequence, position.sub_sequence()), &key, record.arrived_ms);
            let with = origin.added_to(&line).map_err(|cause| RecordError::Json(cause.to_string()))?;
            line = with.into();
        }
        self.chain(table)?;
        self.text.extend_from_slice(&line);
        self.text.push(b'\n');
        self.entries.push(Entry { position, arrived_ms: record.arrived_ms, end: self.text.len() });
        Ok(())
    }

    /// Appends the next record to those of its table. `name` is `None` if all records belong to one table.
    fn chain(&mut self, name: Option<Cow<'_, str>>) -> Result<(), RecordError> {
        let fixed = match &self.lines.table_of {
            TableOf::Fixed(table) => table.as_str(),
            TableOf::Pointer(_) => "",
        };
        let name = name.as_deref().unwrap_or(fixed);
        let record = self.entries.len();
        let is = |chain: &Chain| chain.table.as_str() == name;
        if !self.tables.get(self.latest).is_some_and(is) {
            self.latest = match self.known.get(name) {
                Some(known) => *known,
                None => {
                    let table = name.parse().map_err(|cause| RecordError::InvalidTable(format!("{cause}")))?;
                    self.known.insert(name.to_owned(), self.tables.len());
                    self.tables.push(Chain { table, first: record, last: record });
                    self.tables.len() - 1
                }
            };
        }
        self.next.push(record);
        let last = self.tables.get_mut(self.latest).map(|chain| std::mem::replace(&mut chain.last, record));
        if let Some(next) = last.and_then(|last| self.next.get_mut(last)) {
            *next = record;
        }
        Ok(())
    }

    fn refuse(&mut self, record: &Record<'a>, position: Position, data: &[u8], error: RecordError) {
        self.refused.push(Refused { position, record: record.clone(), data: data.to_vec(), error });
    }

    fn finish(self, shard: Shard) -> Batch {
        let runs = runs(self.tables, &self.next, self.entries, self.text);
        let poison = self.refused.into_iter().map(|refused| refused.into_poison(&shard)).collect();
        Batch { runs, poison, oldest_ms: self.oldest_ms, newest_ms: self.newest_ms, shard }
    }
}

/// The run of each table. All of them share one buffer of lines and one of entries.
fn runs(mut tables: Vec<Chain>, next: &[usize], entries: Vec<Entry>, text: Vec<u8>) -> BTreeMap<Segment, Run> {
    if tables.len() < 2 {
        return tables.pop().map(|chain| (chain.table, Run::new(entries, text.into()))).into_iter().collect();
    }
    tables.sort_unstable_by(|a, b| a.table.cmp(&b.table));
    let (mut parted, mut lines) = (Vec::with_capacity(entries.len()), Vec::with_capacity(text.len()));
    let mut ranges = Vec::with_capacity(tables.len());
    for chain in &tables {
        let (first, start) = (parted.len(), lines.len());
        let after = |record: &usize| next.get(*record).copied().filter(|next| next != record);
        for record in std::iter::successors(Some(chain.first), after) {
            let Some(entry) = entries.get(record) else { break };
            let before = record.checked_sub(1).and_then(|before| entries.get(before)).map_or(0, |before| before.end);
            lines.extend_from_slice(text.get(before..entry.end).unwrap_or_default());
            parted.push(Entry { end: lines.len() - start, ..*entry });
        }
        ranges.push((first..parted.len(), start..lines.len()));
    }
    let (parted, lines) = (Arc::new(parted), Bytes::from(lines));
    let runs = tables.into_iter().zip(ranges);
    runs.map(|(chain, (records, bytes))| (chain.table, Run::part(&parted, records, lines.slice(bytes)))).collect()
}

impl Refused<'_> {
    fn into_poison(self, shard: &Shard) -> Poison {
        let Self { position, record, data, error } = self;
        let attributes = json!({
            "stream": shard.id.stream.as_str(),
            "shard": shard.id.shard.as_str(),
            "sequence_number": record.sequence_number(),
            "sub_sequence": position.sub_sequence(),
            "partition_key": String::from_utf8_lossy(&record.partition_key),
        });
        Poison {
            position,
            arrived_ms: record.arrived_ms,
            record: QuarantineRecord {
                function: FUNCTION.to_owned(),
                reason: error.reason().to_owned(),
                detail: error.to_string(),
                id: format!("{}:{position}", shard.id.shard),
                sent_at: rfc3339(record.arrived_ms),
                attributes: to_raw_value(&attributes).unwrap_or_default(),
                body_base64: base64(&data),
            },
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::aggregate::tests::pack;

    fn delivery(data: &[&[u8]]) -> String {
        let records: Vec<_> = data
            .iter()
            .enumerate()
            .map(|(index, data)| {
                json!({
                    "kinesis": {
                        "partitionKey": "k",
                        "sequenceNumber": (index + 1).to_string(),
                        "data": base64(data),
                        "approximateArrivalTimestamp": 1_545_084_650.987,
                    },
                    "eventID": format!("shardId-0:{}", index + 1),
                    "eventSourceARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/cubic-kafka",
                })
            })
            .collect();
        json!({"Records": records}).to_string()
    }

    fn batch(data: &[&[u8]]) -> Batch {
        of_event(&delivery(data)).unwrap()
    }

    fn of_event(event: &str) -> Result<Batch, String> {
        read(event, &TableOf::Pointer("/topic".parse().unwrap()).into())
    }

    fn read(event: &str, lines: &Lines) -> Result<Batch, String> {
        match Batch::of_event(event.as_bytes(), lines) {
            Ok(Event::Batch(Some(batch))) => Ok(batch),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn lines(batch: &Batch, table: &str) -> String {
        let run = &batch.runs[&table.parse().unwrap()];
        String::from_utf8(run.lines(0..run.len()).to_vec()).unwrap()
    }

    #[test]
    fn poison_in_the_middle_leaves_its_neighbours_in_order() {
        let batch = batch(&[
            br#"{"topic":"a","n":1}"#,
            b"{",
            br#"{"topic":"b","n":2}"#,
            br#"{"topic":"../a"}"#,
            br#"{"n":3}"#,
            b"",
            b"\xf3\x89\x9a\xc2 no aggregate",
            br#"{"topic":"a","n":4}"#,
        ]);
        assert_eq!(lines(&batch, "a"), "{\"topic\":\"a\",\"n\":1}\n{\"topic\":\"a\",\"n\":4}\n");
        assert_eq!(lines(&batch, "b"), "{\"topic\":\"b\",\"n\":2}\n");
        let reasons: Vec<(u32, &str)> = batch
            .poison
            .iter()
            .map(|poison| (poison.position.sequence_number().parse().unwrap(), poison.error.reason()))
            .collect();
        let expected = ["invalid_json", "invalid_table", "missing_table", "empty_record", "invalid_aggregate"];
        assert_eq!(reasons, [2, 4, 5, 6, 7].into_iter().zip(expected).collect::<Vec<_>>());
        assert_eq!(batch.poison[0].record.body().unwrap(), b"{");
        assert!(batch.poison[0].record.attributes.get().contains("\"sequence_number\":\"2\""));
    }

    proptest! {
        #[test]
        fn each_table_gets_its_records_in_order(tables in vec(option::of(0_u32..4), 1..40)) {
            let data: Vec<String> = tables
                .iter()
                .enumerate()
                .map(|(n, table)| table.map_or("{".to_owned(), |table| format!("{{\"topic\":\"t{table}\",\"n\":{n}}}")))
                .collect();
            let batch = batch(&data.iter().map(String::as_bytes).collect::<Vec<_>>());
            let mut expected = BTreeMap::<String, Vec<(String, String)>>::new();
            for (index, table) in tables.iter().enumerate() {
                if let Some(table) = table {
                    let records = expected.entry(format!("t{table}")).or_default();
                    records.push((format!("{}.0", index + 1), format!("{}\n", data[index])));
                }
            }
            let found = batch.runs.iter().map(|(table, run)| {
                let line = |index| String::from_utf8(run.lines(index..index + 1).to_vec()).unwrap();
                let position = |index| format!("{:?}", run.entries(index..index + 1)[0].position);
                (table.to_string(), (0..run.len()).map(|index| (position(index), line(index))).collect())
            });
            prop_assert_eq!(found.collect::<BTreeMap<_, _>>(), expected);
            prop_assert_eq!(batch.len(), tables.len());
        }
    }

    #[test]
    fn the_records_of_an_aggregate_have_positions_of_their_own() {
        let packed = pack(&[br#"{"topic":"a","n":1}"#.to_vec(), b"no".to_vec(), br#"{"topic":"a","n":2}"#.to_vec()]);
        let batch = batch(&[&packed, br#"{"topic":"a","n":3}"#]);
        let run = &batch.runs[&"a".parse().unwrap()];
        let positions: Vec<String> = run.entries(0..3).iter().map(|entry| format!("{:?}", entry.position)).collect();
        assert_eq!(positions, ["1.0", "1.2", "2.0"]);
        assert_eq!(format!("{:?}", batch.poison[0].position), "1.1");
    }

    #[test]
    fn a_line_can_say_where_its_record_comes_from() {
        let lines = Lines { envelope: true, ..TableOf::Fixed("a".parse().unwrap()).into() };
        let packed = pack(&[b"1".to_vec(), b"{\"n\":2}".to_vec()]);
        let event = delivery(&[&packed, b"{\"n\":3}"]);
        let batch = read(&event, &lines).unwrap();
        let added = |sequence: u32, sub: u32, key: &str| {
            format!(
                "\"_stream\":\"cubic-kafka\",\"_shard\":\"shardId-0\",\"_sequence\":\"{sequence}\",\"_sub_sequence\":{sub},\
                 \"_partition_key\":\"{key}\",\"_arrived_at\":\"2018-12-17T22:10:50.987Z\"}}\n"
            )
        };
        let expected = [
            format!("{{\"_value\":1,{}", added(1, 0, "even")),
            format!("{{\"n\":2,{}", added(1, 1, "odd")),
            format!("{{\"n\":3,{}", added(2, 0, "k")),
        ];
        assert_eq!(self::lines(&batch, "a"), expected.concat());
        // With escapes, the event is read by the JSON parser.
        let escaped = event.replace("\"partitionKey\":\"k\"", "\"partitionKey\":\"\\u006b\"");
        assert_eq!(self::lines(&read(&escaped, &lines).unwrap(), "a"), expected.concat());
    }

    #[test]
    fn records_out_of_order_are_sorted_and_those_with_one_sequence_number_are_all_kept() {
        let event = delivery(&[br#"{"topic":"a","n":1}"#, br#"{"topic":"a","n":2}"#, br#"{"topic":"a","n":3}"#]);
        let event = event.replace(":\"3\"", ":\"1\"").replace(":\"2\"", ":\"3\"");
        let batch = of_event(&event).unwrap();
        let expected = "{\"topic\":\"a\",\"n\":1}\n{\"topic\":\"a\",\"n\":3}\n{\"topic\":\"a\",\"n\":2}\n";
        assert_eq!(lines(&batch, "a"), expected);
        let run = &batch.runs[&"a".parse().unwrap()];
        let positions: Vec<String> = run.entries(0..3).iter().map(|entry| format!("{:?}", entry.position)).collect();
        assert_eq!(positions, ["1.0", "1.1", "3.0"]);
    }

    #[test]
    fn an_aggregate_that_somebody_has_unpacked_has_the_positions_of_the_aggregate() {
        let data = [
            br#"{"topic":"a","n":1}"#.to_vec(),
            br#"{"topic":"a","n":1}"#.to_vec(),
            br#"{"topic":"a","n":2}"#.to_vec(),
        ];
        let packed = batch(&[&pack(&data)]);
        let unpacked =
            delivery(&data.each_ref().map(Vec::as_slice)).replace(":\"2\"", ":\"1\"").replace(":\"3\"", ":\"1\"");
        assert_eq!(of_event(&unpacked).unwrap().runs, packed.runs);
        let twice = delivery(&[b"{}", &pack(&data)]).replace(":\"2\"", ":\"1\"");
        let reasons: Vec<&str> = of_event(&twice).unwrap().poison.iter().map(|poison| poison.error.reason()).collect();
        assert_eq!(reasons, ["missing_table", "invalid_aggregate"]);
    }

    #[test]
    fn data_that_is_not_base64_is_poison_unless_the_event_is_not_json() {
        let event = delivery(&[br#"{"topic":"a","n":1}"#, br#"{"topic":"a","n":2}"#]);
        let encoded = base64(br#"{"topic":"a","n":2}"#);
        assert!(event.contains(&encoded));
        // Base64 with escapes, which no producer writes.
        let escaped = event.replace(&encoded, &encoded.replace('e', "\\u0065"));
        assert_eq!(lines(&of_event(&escaped).unwrap(), "a"), lines(&of_event(&event).unwrap(), "a"));
        let poison = of_event(&event.replace(&encoded, "é!")).unwrap().poison;
        assert_eq!((poison[0].error.reason(), poison[0].record.body().unwrap()), ("invalid_base64", "é!".into()));
        assert!(of_event(&event.replace(&encoded, "\u{1}")).unwrap_err().contains("control character"));
    }
}
