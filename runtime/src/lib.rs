//! What every process of this workspace needs, functions and command line alike: settings from the environment, access to
//! AWS over one HTTPS client, the wall clock, printing metrics, pauses between retries, and errors as text.
//!
//! It knows neither Lambda's runtime (crate `lambda`) nor S3 (crate `objects`), so that a process compiles only what it
//! uses.

#![deny(missing_docs)]

pub mod aws;
pub mod clock;
pub mod failure;
pub mod metrics;
pub mod pause;
pub mod settings;
