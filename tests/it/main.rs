//! One binary for every test that crosses a crate's border.
//!
//! `parquet_writer`, `load_registrar`, `collect` and `kafka_roller` run the handlers against an AWS of their own, in memory;
//! `load_registrar`, `load_ingester` and `dmap_fetch`, which ask it, and `backfill` need a Postgres. `objects` and `silence` run what they share against buckets in memory and against a
//! server that never answers. `schemas` runs parquet-writer with other event types. `kafka_model` runs random histories of kafka-roller. `stack` and `replay` run against
//! the deployed local stack. Tests that need Postgres or the stack run only in `make test`. `tidy` checks that code,
//! template, events and documentation agree.

#[cfg(test)]
mod aws;
#[cfg(test)]
mod backfill;
#[cfg(test)]
mod collect;
#[cfg(test)]
mod dmap_fetch;
#[cfg(test)]
mod events;
#[cfg(test)]
mod incoming;
#[cfg(test)]
mod kafka_model;
#[cfg(test)]
mod kafka_roller;
#[cfg(test)]
mod kafka_world;
#[cfg(test)]
mod load_ingester;
#[cfg(test)]
mod load_registrar;
#[cfg(test)]
mod objects;
#[cfg(test)]
mod parquet_writer;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod registrar;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod schemas;
#[cfg(test)]
mod silence;
#[cfg(test)]
mod stack;
#[cfg(test)]
mod tidy;
