//! Compares the columns with prost: both must accept or both reject a payload, and no input may cause a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use parquet_writer::columns::{Fidelity, MessageColumns};
use prost::Message;
use shared::event::{Registry, v1::OrderCreated};

fuzz_target!(|payload: &[u8]| {
    let registry = Registry::embedded().expect("the event types are valid");
    let order = registry.position("OrderCreated").and_then(|position| registry.types().get(position));
    let mut columns = MessageColumns::new(&order.expect("orders are registered").message).expect("it has columns");
    let accepted = columns.append(payload, &mut Fidelity::new(false)).is_ok();
    assert_eq!(accepted, OrderCreated::decode(payload).is_ok());
    assert_eq!(columns.rows(), usize::from(accepted));
    columns.finish(None).expect("whatever was accepted makes columns");
});
