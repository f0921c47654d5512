#![doc = include_str!("../README.md")]

mod message;
mod parquet_file;
pub mod wire;

pub use message::{AppendError, EMPTY, Fidelity, MessageColumns, Presence, utc_micros};
pub use parquet_file::{EncodedRows, Layout, ParquetFile, Zstd};
pub use wire::WireError;
