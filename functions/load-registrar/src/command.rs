//! Commands by direct invocation, from the CLI and from the schedule.

use std::time::Duration;

use serde_json::Value;
use shared::registrar::Command;

use crate::{
    app::App,
    config::Place,
    database::DatabaseError,
    inventory,
    loads::{self, Filter},
    migrate,
    reconcile::{self, ReconcileError, Times},
    schedule, tables, unregistered,
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
        Command::TablesPlan { tables } => serde_json::to_value(tables::apply(database, tables, true, time).await?),
        Command::TablesApply { tables } => serde_json::to_value(tables::apply(database, tables, false, time).await?),
        Command::TablesList {} => serde_json::to_value(tables::list(database, time).await?),
        Command::TablesUnregistered { prefix, reason, after, limit } => {
            let list = unregistered::list(database, prefix.as_deref(), reason, after.as_ref(), limit, time).await?;
            serde_json::to_value(list)
        }
        Command::LoadsList { table, status, since, after, limit } => {
            let filter = Filter { table, status, since, after };
            serde_json::to_value(loads::list(database, &filter, limit, time).await?)
        }
        Command::LoadsSetStatus { loads, status, reason, by } => {
            let loads = loads::set_status(database, &loads, status, reason.as_deref(), &by, time).await?;
            serde_json::to_value(loads)
        }
        Command::LoadsNext { table, limit, lease_seconds, by } => {
            serde_json::to_value(loads::next(database, &table, limit, lease_seconds, &by, time).await?)
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
    };
    Ok(answer?)
}
