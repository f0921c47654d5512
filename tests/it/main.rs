//! One binary for every test that crosses a crate's border.
//!
//! `parquet_writer` runs the handler against an AWS of its own, in memory. `stack` and `replay` run against the deployed
//! local stack and are left out unless asked for (`make test` asks). `tidy` keeps code, template, events and
//! documentation in step.

#[cfg(test)]
mod aws;
#[cfg(test)]
mod events;
#[cfg(test)]
mod parquet_writer;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod stack;
#[cfg(test)]
mod tidy;
