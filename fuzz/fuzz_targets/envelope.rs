//! SQS events: compares the fast path with the JSON parser. Whatever the parser accepts, both must read in the same way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use landing::envelope::{read, read_json};

fuzz_target!(|event: &[u8]| {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let fast = read(event, |message| ours.push(message));
    if read_json(event, |message| theirs.push(message)).is_ok() {
        assert!(fast.is_ok(), "refused what the JSON parser accepts");
        assert_eq!(ours, theirs);
    }
});
