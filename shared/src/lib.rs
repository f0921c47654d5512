//! The types that functions, command line and tests share: event types, S3 keys, quarantine records, metrics, positions in a
//! stream, and the commands of load-registrar.
//!
//! Everything here is a pure function over values. There is no I/O, no async, no SDK, no clock and no environment, so
//! that any function and any test can use it, and so that the same input always gives the same result.

#![deny(missing_docs)]

pub mod column_type;
pub mod dmap;
pub mod event;
pub mod expectation;
pub mod json;
pub mod layout;
pub mod metrics;
pub mod position;
pub mod quarantine;
pub mod registrar;
pub mod rolled;
pub mod s3_key;
pub mod schedule;
