//! What the functions cost, measured beside the peers that people write today.
//!
//! A figure in microseconds says little about another machine; a ratio of two routes that took turns on the same one
//! says a lot. So every route runs once a round, and what counts is the median of the rounds' ratios.

pub mod aws;
pub mod cold_start;
pub mod events;
pub mod floor;
pub mod function;
pub mod hits;
pub mod http;
pub mod idiomatic;
pub mod ingest;
pub mod memory;
pub mod ours;
pub mod process;
pub mod progress;
pub mod python;
pub mod records;
pub mod registrar;
pub mod rounds;
pub mod runtime_api;
pub mod targets;
pub mod warm;

/// Whatever ends a benchmark early.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
