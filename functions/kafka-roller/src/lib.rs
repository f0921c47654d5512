//! A Kinesis stream → one NDJSON file per table at 10,000 records or one hour, whichever is first (Cubic ADR 5).
//!
//! See `ARCHITECTURE.md` for the windows, and this folder's `README.md` for variables and failures.

pub mod aggregate;
pub mod app;
pub mod batch;
pub mod bucket;
pub mod config;
pub mod error;
pub mod event;
pub mod handler;
pub mod line;
mod plain;
pub mod roll;
pub mod run;
pub mod staging;
pub mod window;

/// The function's name, as in the folder, the template and the metrics.
pub const FUNCTION: &str = "kafka-roller";
