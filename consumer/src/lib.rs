//! RabbitMQ → SQS. A message is acknowledged to the broker when SQS has confirmed it, and not before.
//!
//! Start with `broker` (connections, queues, deliveries) and `forward` (batches, and what becomes of each message). They use
//! `message` (AMQP message → SQS message, pure), `gate` (the limit of what is in memory) and `ledger` (what is in flight, and
//! metrics). `health` answers whether the process works.

pub mod broker;
pub mod config;
pub mod forward;
pub mod gate;
pub mod health;
pub mod ledger;
pub mod message;

/// The name of this service, as in its folder, metrics and quarantined records.
pub const SERVICE: &str = "consumer";
