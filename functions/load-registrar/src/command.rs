//! Commands by direct invocation, from the CLI and from the schedule.

use std::time::Duration;

use serde_json::Value;
use shared::registrar::Command;

use crate::{
    app::App,
    config::Place,
    database::DatabaseError,
    dmap, inventory,
    loads::{self, Claim, Filter, Move},
    migrate,
    reconcile::{self, ReconcileError, Times},
    schedule, settle, tables, unregistered,
};

/// Why a command failed. The caller sees only its text.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("the command cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
}

/// A reconciliation answers after this time at the latest, so that the CLI can show progress; the CLI then asks it to
/// resume.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Runs the command in `event` within `time` and returns its answer.
pub async fn run(app: &App, event: &[u8], time: Duration) -> Result<Value, CommandError> {
    let database = &app.database;
    let answer = match serde_json::from_slice(event)? {
        Command::Migrate {} => serde_json::to_value(migrate::migrate(database, time).await?),
        Command::TablesPlan { tables, feeds } => {
            serde_json::to_value(tables::plan(database, tables, &feeds, time).await?)
        }
        Command::TablesApply { tables, feeds } => {
            serde_json::to_value(tables::apply(database, tables, &feeds, time).await?)
        }
        Command::TablesSettle {} => {
            serde_json::to_value(settle::settle(database, time.min(PROGRESS_INTERVAL), time).await?)
        }
        Command::TablesList {} => serde_json::to_value(tables::list(database, time).await?),
        Command::TablesUnregistered { prefix, reason, after, limit } => {
            let list = unregistered::list(database, prefix.as_deref(), reason, after.as_ref(), limit, time).await?;
            serde_json::to_value(list)
        }
        Command::LoadsList { table, status, since, displaced, keys, after, limit } => {
            let filter = Filter { table, status, since, displaced, keys, after };
            serde_json::to_value(loads::list(app, &filter, limit, time).await?)
        }
        Command::LoadsSetStatus { loads, status, reason, by, revoke } => {
            let change = Move { loads: &loads, to: status, reason: reason.as_deref(), by: &by, revoke };
            serde_json::to_value(loads::set_status(app, &change, time).await?)
        }
        Command::LoadsNext { table, loads, step, limit, lease_seconds, by, queued } => {
            let claim = Claim { table: table.as_deref(), loads: &loads, step, limit, lease_seconds, by: &by, queued };
            serde_json::to_value(loads::next(app, &claim, time).await?)
        }
        Command::LoadsBegin { loads, lease_seconds, by } => {
            serde_json::to_value(loads::begin(app, &loads, lease_seconds, &by, time).await?)
        }
        Command::LoadsRenew { loads, lease_seconds } => {
            serde_json::to_value(loads::renew(app, &loads, lease_seconds, time).await?)
        }
        Command::Reconcile { prefix, dry_run, after } => {
            let times = Times::new(time.min(PROGRESS_INTERVAL), time);
            serde_json::to_value(reconcile::reconcile(app, prefix.as_deref(), dry_run, &after, times).await?)
        }
        Command::ReconcileInventory { manifest, dry_run, after } => {
            let place = Place::parse(&manifest).filter(|place| place.key.ends_with("/manifest.json"));
            let place = place.ok_or_else(|| {
                let cause = "its address has to be like s3://bucket/…/2026-11-20T01-00Z/manifest.json".to_owned();
                ReconcileError::Inventory { manifest, cause }
            })?;
            let times = Times::new(time.min(PROGRESS_INTERVAL), time);
            serde_json::to_value(inventory::reconcile(app, &place, dry_run, after, times).await?)
        }
        Command::ReconcileScheduled {} => serde_json::to_value(schedule::run(app, time).await?),
        Command::DmapFeeds {} => serde_json::to_value(dmap::feeds(database, time).await?),
        Command::DmapUnfetched { feed, datasets } => {
            serde_json::to_value(dmap::unfetched(database, &feed, &datasets, time).await?)
        }
        Command::DmapBegin { feed, dataset, found } => {
            serde_json::to_value(dmap::begin(database, &feed, &dataset, found.as_ref(), time).await?)
        }
        Command::DmapFetched { feed, dataset, object } => {
            serde_json::to_value(dmap::fetched(database, &feed, &dataset, &object, time).await?)
        }
        Command::DmapAnswered { feed, last_updated } => {
            serde_json::to_value(dmap::answered(database, &feed, last_updated, time).await?)
        }
    };
    Ok(answer?)
}
