//! One binary for every test that crosses a crate's border.
//!
//! `parquet_writer` runs the handler against an AWS of its own, in memory. `stack` and `replay` run against the deployed
//! local stack and are left out unless asked for (`make test` asks). `tidy` keeps code, template, events and
//! documentation in step.

mod aws;
mod events;
mod parquet_writer;
mod replay;
mod stack;
mod tidy;
