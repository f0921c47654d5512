//! What the functions cost, measured beside the peers that people write today.
//!
//! A figure in microseconds says little about another machine; a ratio of two routes that took turns on the same one
//! says a lot. So every route runs once a round, and what counts is the median of the rounds' ratios.

pub mod events;
pub mod idiomatic;
pub mod ours;
pub mod python;
pub mod rounds;

/// Whatever ends a benchmark early.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
