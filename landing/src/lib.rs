//! Messages → records → columns → files of events: the part of parquet-writer that does no I/O, which `landfall backfill` needs as well.
//!
//! `envelope` and `batch` turn events into records, `table` and the crate `columns` records into Arrow, `file` Arrow into bytes, and
//! `encode` does both for the records of one file.

pub mod batch;
pub mod encode;
pub mod envelope;
pub mod error;
pub mod event_time;
pub mod file;
pub mod table;

pub use encode::encode;

/// The name of the function, as in its folder, the template, metrics and quarantined records.
pub const FUNCTION: &str = "parquet-writer";
