//! What every function does in the same way, and nothing that one function alone does: its process, its settings
//! from the environment, its HTTPS, the event as bytes, the wall clock, metrics, pauses between tries, and objects that are written
//! once.

#![deny(missing_docs)]

pub mod clock;
pub mod entry;
pub mod failure;
pub mod https;
pub mod metrics;
pub mod pause;
pub mod quarantine;
pub mod raw;
pub mod settings;
pub mod store;
