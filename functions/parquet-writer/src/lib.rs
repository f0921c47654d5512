//! SQS batches of protobuf events → one typed Parquet (or NDJSON) file a day in S3 → SNS.
//!
//! `handler` reads like the specification. Under it: `envelope` and `batch` (events to records), `table` and `columns` (records to
//! Arrow), `file` and `parquet_file` (Arrow to bytes), `notice` and `drain` (the edges).

pub mod app;
pub mod batch;
pub mod columns;
pub mod config;
pub mod drain;
pub mod envelope;
pub mod error;
pub mod file;
pub mod handler;
pub mod notice;
pub mod parquet_file;
pub mod table;
pub mod wire;

/// The function's name: its folder, package, binary and quarantine folder.
pub const FUNCTION: &str = "parquet-writer";
