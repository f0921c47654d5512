//! The fast way through an SQS event against the JSON parser: whatever the parser accepts, both read alike.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parquet_writer::envelope::{read, read_json};

fuzz_target!(|event: &[u8]| {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let fast = read(event, |message| ours.push(message));
    if read_json(event, |message| theirs.push(message)).is_ok() {
        assert!(fast.is_ok(), "refused what the JSON parser accepts");
        assert_eq!(ours, theirs);
    }
});
