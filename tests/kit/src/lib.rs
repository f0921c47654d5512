//! What tests and benchmarks share: AWS services that answer as a test says ([`http`], [`sqs`]), buckets and streams
//! in memory ([`s3`], [`kinesis`]), a network that counts round trips ([`proxy`]), event types
//! ([`protos`]), and what a command printed ([`output`]).
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "only tests and benchmarks use it, and they should stop at the first thing that they do not expect"
)]

pub mod http;
pub mod kinesis;
pub mod output;
pub mod protos;
pub mod proxy;
pub mod s3;
pub mod sqs;
