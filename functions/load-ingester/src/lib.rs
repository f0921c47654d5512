//! Loads: claimed from load-registrar, converted to typed Parquet, and their objects archived or moved out of the way.
//!
//! Each module depends only on modules above it in this list.
//!
//! | module | what it does |
//! |---|---|
//! | `convert` | turns one object into Parquet parts, as a stream |
//! | `config` | reads the settings |
//! | `registrar` | asks load-registrar |
//! | `app` | holds settings and clients for as long as the sandbox lives |
//! | `place` | names the keys of a load |
//! | `companion` | finds the `.dfm` of an object |
//! | `error` | says why a load was not taken further |
//! | `read` | reads an object as a stream |
//! | `write` | uploads files while they are made, and quarantines rows |
//! | `ingest` | takes an object to Springboard |
//! | `finish` | moves objects to the archive or out of the way |
//! | `handler` | runs one invocation |

pub mod app;
pub mod companion;
pub mod config;
pub mod convert;
pub mod error;
pub mod finish;
pub mod handler;
pub mod ingest;
pub mod place;
pub mod read;
pub mod registrar;
pub mod write;

/// The function's name: its folder, package, binary and quarantine folder.
pub const FUNCTION: &str = "load-ingester";
