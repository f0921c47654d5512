//! Google Analytics Measurement Protocol hits → Kinesis, one JSON line each.
//!
//! [`handler`] processes one request from top to bottom. It uses [`request`] (the event of the gateway), [`body`] (hits out of
//! bodies), [`stream`] (into Kinesis), [`overflow`] (into a queue and out of it) [`answer`] (the response to the client) and [`cookie`] (an id that it may set). The rest has no I/O: [`hit`] (bytes to
//! parameters), [`validate`] and [`verdict`] (the rules of the protocol and what breaks them), [`privacy`], [`address`] and
//! [`redact`] (what must not be stored), [`headers`], [`products`], [`campaign`], [`referrer`], [`hints`], [`agent`] and [`agents`] (parts of the event), and [`event`] (the
//! line that is stored).

pub mod address;
pub mod agent;
pub mod agents;
pub mod answer;
pub mod app;
pub mod body;
pub mod campaign;
pub mod config;
pub mod cookie;
pub mod event;
pub mod handler;
pub mod headers;
pub mod hints;
pub mod hit;
pub mod overflow;
pub mod privacy;
pub mod products;
pub mod redact;
pub mod referrer;
pub mod request;
pub mod stream;
pub mod validate;
pub mod verdict;

/// The function's name: its folder, package, binary and quarantine folder.
pub const FUNCTION: &str = "collect";
