//! S3 ObjectCreated → load metadata in Postgres: tables, loads, snapshots.
//!
//! `handler` reads like the specification. Under it: `envelope` (events to puts), `heads` (what S3 says about them),
//! `register` (objects to loads), `command` with `migrate`, `tables`, `loads` and `reconcile` (what people ask), and
//! `database` (the connection). The rules that hold for every client are in `migrations/`.

pub mod app;
pub mod command;
pub mod config;
pub mod database;
pub mod envelope;
pub mod error;
pub mod handler;
pub mod heads;
pub mod loads;
pub mod migrate;
pub mod reconcile;
pub mod register;
pub mod tables;

/// The function's name: its folder, package, binary and quarantine folder.
pub const FUNCTION: &str = "load-registrar";
