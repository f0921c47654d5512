//! Compares the columns with prost: both must accept or both reject a payload, and no input may cause a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use columns::{Fidelity, MessageColumns};
use prost::Message;
use shared::event::{Registry, v1::OrderCreated};

fuzz_target!(|payload: &[u8]| {
    let registry = Registry::embedded().expect("the event types are valid");
    let order = registry.position("OrderCreated").and_then(|position| registry.types().get(position));
    let mut columns = MessageColumns::new(&order.expect("orders are registered").message);
    let accepted = columns.append(payload, &mut Fidelity::new(false)).is_ok();
    // prost refuses a wire type that does not fit, which protobuf's own parsers keep as an unknown field.
    match OrderCreated::decode(payload) {
        Ok(_) => assert!(accepted),
        Err(error) => assert_eq!(accepted, error.to_string().contains("invalid wire type")),
    }
    assert_eq!(columns.rows(), usize::from(accepted));
    columns.finish(None).expect("whatever was accepted makes columns");
});
