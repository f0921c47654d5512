//! SQS batches of protobuf events → one typed Parquet (or NDJSON) file per day in S3 → SNS.
//!
//! Start with `handler`. It uses `envelope` and `batch` (events to records), `table` and `columns` (records to Arrow), `file` and
//! `parquet_file` (Arrow to bytes), `notice` (SNS), `outbox` (notices that wait for SNS) and
//! `drain` (receiving more messages from SQS), and `retry` (when failed messages come again).

pub mod app;
pub mod batch;
pub mod config;
pub mod drain;
pub mod envelope;
pub mod error;
pub mod event_time;
pub mod file;
pub mod handler;
pub mod notice;
pub mod outbox;
pub mod retry;
pub mod table;

/// The name of the function, as in its folder, the template, metrics and quarantined records.
pub const FUNCTION: &str = "parquet-writer";
