//! Compares the columns with prost: both must accept or both reject a payload, and no input may cause a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use columns::{AppendError, Fidelity, MessageColumns, WireError};
use prost::Message;
use shared::event::{Registry, v1::OrderCreated};

fuzz_target!(|payload: &[u8]| {
    let registry = Registry::embedded().expect("the event types are valid");
    let order = registry.position("OrderCreated").and_then(|position| registry.types().get(position));
    let mut columns = MessageColumns::new(&order.expect("orders are registered").message);
    let appended = columns.append(payload, &mut Fidelity::new(false));
    // Where upb decides otherwise than prost, the columns decide like upb.
    match (appended, OrderCreated::decode(payload)) {
        (Ok(()), Ok(_)) | (Err(_), Err(_)) => {}
        (Err(AppendError::Wire(WireError::TooLong | WireError::Depth)), Ok(_)) => {}
        (Ok(()), Err(error)) => {
            let error = error.to_string();
            let differs = ["invalid wire type", "invalid varint", "invalid tag"];
            assert!(differs.iter().any(|why| error.contains(why)), "{error}");
        }
        (Err(error), Ok(_)) => panic!("{error}"),
    }
    assert_eq!(columns.rows(), usize::from(appended.is_ok()));
    columns.finish(None).expect("whatever was accepted makes columns");
});
