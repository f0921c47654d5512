//! How records of a stream become files: records → lines → runs of one table → segments and files.
//!
//! This is the part of kafka-roller that does no I/O. It is a crate of its own because `landfall audit --repair` writes
//! missing files with the same code, and should not link the function and with it Lambda's runtime. `ARCHITECTURE.md`
//! explains windows.

#![deny(missing_docs)]

pub mod aggregate;
pub mod batch;
pub mod discarded;
pub mod earlier;
mod envelope;
pub mod error;
pub mod event;
pub mod journal;
pub mod line;
mod plain;
pub mod replay;
pub mod rules;
pub mod run;
pub mod segment;
pub mod shard;

/// The name of the function, as in its folder, the template, metrics and quarantined records.
pub const FUNCTION: &str = "kafka-roller";
