//! A Kinesis stream → one NDJSON file per table at 10,000 records or one hour, whichever comes first.
//!
//! The crate `rolling` decides what goes into a file; this one reads and writes S3. `ARCHITECTURE.md` explains windows, and
//! `README.md` in this folder lists variables and failures.

pub mod app;
pub mod config;
pub mod error;
mod files;
pub mod handler;
pub mod lineage;
mod read;
pub mod replay;
pub mod roll;
pub mod store;

pub use rolling::FUNCTION;
