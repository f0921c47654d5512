//! Kinesis events: the fast way against the JSON parser, and no record is lost between what is read and what is kept.
#![no_main]

use kafka_roller::{
    batch::Batch,
    event::{Event, read, read_json},
    line::TableOf,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|event: &[u8]| {
    let fast = read(event);
    if let Ok(json) = read_json(event) {
        let Ok(Event::Batch(fast)) = &fast else { panic!("refused what the JSON parser accepts") };
        let records = |delivery: &Option<kafka_roller::event::Delivery<'_>>| {
            delivery.as_ref().map(|delivery| format!("{:?}", delivery.records))
        };
        assert_eq!(records(fast), records(&json));
    }
    let Ok(Event::Batch(Some(delivery))) = fast else { return };
    for table_of in [TableOf::Pointer("/topic".parse().unwrap()), TableOf::Fixed("t".parse().unwrap())] {
        let batch = Batch::of(&delivery, &table_of);
        let mut kept: Vec<_> = batch.poison.iter().map(|poison| poison.position.record()).collect();
        for run in batch.runs.values() {
            assert!(run.entries(0..run.len()).is_sorted_by(|a, b| a.position < b.position));
            assert_eq!(run.lines(0..run.len()).iter().filter(|byte| **byte == b'\n').count(), run.len());
            kept.extend(run.entries(0..run.len()).iter().map(|entry| entry.position.record()));
        }
        kept.sort_unstable();
        kept.dedup();
        // An aggregate may hold no records.
        assert!(kept.iter().all(|kept| delivery.records.iter().any(|record| record.position == *kept)));
    }
});
