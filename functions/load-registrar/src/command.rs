//! Commands by direct invocation: what the CLI asks, and the schedule.

use std::time::Duration;

use serde_json::Value;
use shared::registrar::Command;

use crate::{
    app::App,
    database::DatabaseError,
    loads::{self, Filter},
    migrate, reconcile, tables,
};

/// Why a command was not done. Its text is all that the caller sees.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is none, or its members are not what they should be.
    #[error("the command cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// The database did not do it.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The bucket cannot be listed.
    #[error("s3://{bucket}/{prefix} could not be listed: {cause}")]
    List {
        /// The bucket.
        bucket: String,
        /// The prefix.
        prefix: String,
        /// S3's answer.
        cause: String,
    },
}

/// A command that a person waits for answers after so long, and goes on when it is asked to.
const REPORT_AFTER: Duration = Duration::from_secs(5);

/// Does what the event asks for within `time` and gives back the answer.
pub async fn run(app: &App, event: &[u8], time: Duration) -> Result<Value, CommandError> {
    let database = &app.database;
    let answer = match serde_json::from_slice(event)? {
        Command::Migrate {} => serde_json::to_value(migrate::migrate(database, time).await?),
        Command::TablesPlan { tables } => serde_json::to_value(tables::apply(database, tables, true, time).await?),
        Command::TablesApply { tables } => serde_json::to_value(tables::apply(database, tables, false, time).await?),
        Command::TablesList {} => serde_json::to_value(tables::list(database, time).await?),
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
            let time = time.min(REPORT_AFTER);
            serde_json::to_value(reconcile::reconcile(app, prefix.as_deref(), dry_run, after, time).await?)
        }
        Command::ReconcileScheduled {} => serde_json::to_value(reconcile::scheduled(app, time).await?),
    };
    Ok(answer?)
}
