//! S3 ObjectCreated → load metadata in Postgres: tables, loads, snapshots.
//!
//! Each module depends only on modules above it in this list; the rules that hold for every client of the database are
//! in `migrations/`.
//!
//! | module | what it does |
//! |---|---|
//! | `object` | describes one version of an object and decides whether it holds data |
//! | `config` | reads the settings |
//! | `iam` | signs tokens that take the place of a password |
//! | `database` | keeps one connection to Postgres and retries on it |
//! | `app` | holds settings, clients and the connection for as long as the sandbox lives |
//! | `error` | says why a record of a notification goes to the quarantine |
//! | `envelope` | turns events into the puts that they announce |
//! | `heads` | asks S3 about those objects |
//! | `register` | turns objects into loads |
//! | `page` | limits lists to what fits into an answer |
//! | `unregistered` | records and lists objects that are no loads |
//! | `migrate` | applies the migrations |
//! | `settle` | gives objects to their tables after tables changed |
//! | `dmap` | declares feeds of DMAP, and records what was fetched of them |
//! | `tables` | compares declared tables with the database and applies the difference |
//! | `loads` | lists loads, claims them, renews leases and sets statuses |
//! | `reconcile` | compares the bucket with the loads |
//! | `inventory` | compares an inventory of S3 with the loads |
//! | `retention` | deletes old rows |
//! | `schedule` | does what is due every hour |
//! | `command` | dispatches a command to these |
//! | `handler` | runs one invocation |

pub mod app;
pub mod command;
pub mod config;
pub mod database;
pub mod dmap;
pub mod envelope;
pub mod error;
pub mod handler;
pub mod heads;
pub mod iam;
pub mod inventory;
pub mod loads;
pub mod migrate;
pub mod object;
pub mod page;
pub mod reconcile;
pub mod register;
pub mod retention;
pub mod schedule;
pub mod settle;
pub mod tables;
pub mod unregistered;

/// The function's name: its folder, package, binary and quarantine folder.
pub const FUNCTION: &str = "load-registrar";
