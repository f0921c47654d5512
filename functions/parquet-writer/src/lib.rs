//! SQS batches of protobuf events → one typed Parquet (or NDJSON) file per day in S3 → SNS.
//!
//! The crate `landing` turns messages into files; this one receives messages, and writes and announces files. Start with `handler`.
//! It uses `notice` (SNS), `outbox` (notices that wait for SNS), `drain` (receiving more messages from SQS), and `retry` (when failed
//! messages come again).

pub mod app;
pub mod config;
pub mod drain;
pub mod handler;
pub mod notice;
pub mod outbox;
pub mod retry;

pub use landing::FUNCTION;
