//! A delivery of a shard → a run of records for each table, poison apart. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use serde_json::{json, value::to_raw_value};
use shared::{
    layout::Segment,
    position::Position,
    quarantine::{QuarantineRecord, base64, rfc3339},
};

use crate::{
    FUNCTION,
    aggregate::unpack,
    error::RecordError,
    event::{Delivery, Record},
    line::{self, TableOf},
    run::{Entry, Run},
};

/// The records of a delivery.
#[derive(Debug, Default)]
pub struct Batch {
    /// Records that can land, by table.
    pub runs: BTreeMap<Segment, Run>,
    /// Records that never will, in order.
    pub poison: Vec<Poison>,
}

/// A record that can never land, and all that is kept of it.
#[derive(Debug)]
pub struct Poison {
    /// Its place in the shard.
    pub position: Position,
    /// When it arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub arrived_ms: i64,
    /// Why.
    pub error: RecordError,
    /// What goes to the quarantine.
    pub record: QuarantineRecord,
}

/// A run that grows.
struct Growing {
    table: Segment,
    entries: Vec<Entry>,
    lines: Vec<u8>,
}

struct Reader<'a> {
    delivery: &'a Delivery<'a>,
    table_of: &'a TableOf,
    tables: Vec<Growing>,
    /// The table of the record before.
    latest: usize,
    poison: Vec<Poison>,
}

impl Batch {
    /// Decodes every record.
    #[must_use]
    pub fn of(delivery: &Delivery<'_>, table_of: &TableOf) -> Self {
        let mut reader = Reader { delivery, table_of, tables: Vec::new(), latest: 0, poison: Vec::new() };
        let mut data = Vec::new();
        for record in &delivery.records {
            data.clear();
            if base64_simd::STANDARD.decode_append(&record.data, &mut data).is_err() {
                reader.refuse(record, record.position, &record.data, RecordError::Base64);
                continue;
            }
            // No JSON begins like an aggregate.
            if data.first() != Some(&crate::aggregate::MAGIC[0]) {
                reader.read(record, record.position, &data);
                continue;
            }
            match unpack(&Bytes::copy_from_slice(&data)) {
                None => reader.read(record, record.position, &data),
                Some(Err(_)) => reader.refuse(record, record.position, &data, RecordError::Aggregate),
                Some(Ok(packed)) => {
                    for (index, data) in packed.iter().enumerate() {
                        match record.position.in_aggregate(index) {
                            Ok(position) => reader.read(record, position, data),
                            // No aggregate that Kinesis takes is so large.
                            Err(_) => reader.refuse(record, record.position, data, RecordError::Aggregate),
                        }
                    }
                }
            }
        }
        let runs = reader.tables.into_iter().map(|table| (table.table, Run::new(table.entries, table.lines.into())));
        Self { runs: runs.collect(), poison: reader.poison }
    }
}

impl Reader<'_> {
    fn read(&mut self, record: &Record<'_>, position: Position, data: &[u8]) {
        if let Err(error) = self.take(record, position, data) {
            self.refuse(record, position, data, error);
        }
    }

    fn take(&mut self, record: &Record<'_>, position: Position, data: &[u8]) -> Result<(), RecordError> {
        let (table, line) = line::read(data, self.table_of)?;
        let table = self.table(table)?;
        table.lines.extend_from_slice(line.as_bytes());
        table.lines.push(b'\n');
        table.entries.push(Entry { position, arrived_ms: record.arrived_ms, end: table.lines.len() });
        Ok(())
    }

    /// The run of the table that a record names.
    fn table(&mut self, name: Option<Cow<'_, str>>) -> Result<&mut Growing, RecordError> {
        let fixed = match self.table_of {
            TableOf::Fixed(table) => table.as_str(),
            TableOf::Pointer(_) => "",
        };
        let name = name.as_deref().unwrap_or(fixed);
        let is = |table: &Growing| table.table.as_str() == name;
        if !self.tables.get(self.latest).is_some_and(is) {
            self.latest = match self.tables.iter().position(is) {
                Some(known) => known,
                None => {
                    let table = name.parse().map_err(|cause| RecordError::InvalidTable(format!("{cause}")))?;
                    self.tables.push(Growing { table, entries: Vec::new(), lines: Vec::new() });
                    self.tables.len() - 1
                }
            };
        }
        self.tables.get_mut(self.latest).ok_or(RecordError::Empty)
    }

    fn refuse(&mut self, record: &Record<'_>, position: Position, data: &[u8], error: RecordError) {
        let attributes = json!({
            "stream": self.delivery.stream.as_str(),
            "shard": self.delivery.shard.as_str(),
            "sequence_number": record.sequence_number,
            "sub_sequence": position.sub_sequence(),
            "partition_key": record.partition_key,
        });
        self.poison.push(Poison {
            position,
            arrived_ms: record.arrived_ms,
            record: QuarantineRecord {
                function: FUNCTION.to_owned(),
                reason: error.reason().to_owned(),
                detail: error.to_string(),
                id: format!("{}:{position}", self.delivery.shard),
                sent_at: rfc3339(record.arrived_ms),
                attributes: to_raw_value(&attributes).unwrap_or_default(),
                body_base64: base64(data),
            },
            error,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::tests::pack,
        event::{Event, read},
    };

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
        let event = delivery(data);
        let Ok(Event::Batch(Some(delivery))) = read(event.as_bytes()) else { panic!("no batch") };
        Batch::of(&delivery, &TableOf::Pointer("/topic".parse().unwrap()))
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

    #[test]
    fn an_aggregate_is_its_records_each_with_a_position() {
        let packed = pack(&[br#"{"topic":"a","n":1}"#.to_vec(), b"no".to_vec(), br#"{"topic":"a","n":2}"#.to_vec()]);
        let batch = batch(&[&packed, br#"{"topic":"a","n":3}"#]);
        let run = &batch.runs[&"a".parse().unwrap()];
        let positions: Vec<String> = run.entries(0..3).iter().map(|entry| format!("{:?}", entry.position)).collect();
        assert_eq!(positions, ["1.0", "1.2", "2.0"]);
        assert_eq!(format!("{:?}", batch.poison[0].position), "1.1");
    }
}
