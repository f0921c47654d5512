//! Google Analytics Measurement Protocol hits → Kinesis, one JSON line each.
//!
//! `handler` reads like the specification. Under it: `request` (what brought the request), `body` (hits out of bodies),
//! `stream` (into Kinesis) and `answer` (back to the client). The pure core: `hit` (bytes to parameters), `validate` (what
//! the protocol asks of them), `privacy` (what is taken out of them), `products` and `agent` (what is read out of them) and
//! `event` (the line that is stored).

pub mod agent;
pub mod answer;
pub mod app;
pub mod body;
pub mod config;
pub mod event;
pub mod handler;
pub mod hit;
mod json;
pub mod privacy;
pub mod products;
pub mod request;
pub mod stream;
pub mod validate;

/// The function's name: its folder, package, binary and quarantine folder.
pub const FUNCTION: &str = "collect";
