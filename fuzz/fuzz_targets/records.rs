//! Kinesis events: compares the fast path with the JSON parser, and checks that no record is lost in decoding.
#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use rolling::{
    batch::Batch,
    event::{Event, read, read_json},
    line::{Lines, TableOf},
};
use serde::de::IgnoredAny;

fuzz_target!(|event: &[u8]| {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let fast = read(event, |record| ours.push(record));
    if let Ok(shard) = read_json(event, |record| theirs.push(record)) {
        let Ok(Event::Batch(fast)) = fast else { panic!("refused what the JSON parser accepts") };
        assert_eq!((fast, &ours), (shard, &theirs));
    }
    let positions: BTreeSet<_> = ours.iter().map(|record| record.position).collect();
    let (by_topic, fixed) = (TableOf::Pointer("/topic".parse().unwrap()), TableOf::Fixed("t".parse().unwrap()));
    let whole = Lines { table_of: fixed.clone(), envelope: true, base64: true };
    for lines in [by_topic.into(), fixed.into(), whole] {
        let Ok(Event::Batch(Some(batch))) = Batch::of_event(event, &lines) else { continue };
        let mut kept: BTreeSet<_> = batch.poison.iter().map(|poison| poison.position.record()).collect();
        for run in batch.runs.values() {
            assert!(run.entries(0..run.len()).is_sorted_by(|a, b| a.position < b.position));
            let lines = run.lines(0..run.len());
            let lines: Vec<_> = lines.split_inclusive(|byte| *byte == b'\n').collect();
            assert_eq!(lines.len(), run.len());
            assert!(lines.iter().all(|line| std::str::from_utf8(line).is_ok()));
            assert!(lines.iter().all(|line| serde_json::from_slice::<IgnoredAny>(line).is_ok()));
            kept.extend(run.entries(0..run.len()).iter().map(|entry| entry.position.record()));
        }
        // An aggregate may hold no records.
        assert!(kept.is_subset(&positions));
    }
});
