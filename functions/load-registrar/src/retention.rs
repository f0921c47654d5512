//! Deletes rows that nobody needs any more, a few thousand at a time. What is registered does not depend on any of them.

use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use crate::{
    config::Retention,
    database::{Database, DatabaseError},
};

/// Rows that one statement deletes.
const STEP: u32 = 5_000;

/// The history of loads that are finished and have not changed since. A history is deleted as a whole, because its newest row
/// is no younger than the load's last change.
const TRANSITIONS: &str = "delete from cubic_load_transitions where id in ( \
      select t.id from cubic_load_transitions as t join cubic_loads as l on l.id = t.load_id \
      where t.at < now() - make_interval(days => $1) and l.updated_at < now() - make_interval(days => $1) \
        and not is_unfinished(l.status) limit $2)";

/// Records of objects that can never become loads. Those that wait for a table are kept.
const UNREGISTERED: &str = "delete from unregistered_objects where id in ( \
      select id from unregistered_objects where reason in ('not_data', 'key_holds_nul') \
        and inserted_at < now() - make_interval(days => $1) limit $2)";

/// Deletes old rows until none are left or `until` has come; the next call goes on.
pub async fn forget(database: &Database, retention: Retention, until: Instant) -> Result<(), DatabaseError> {
    let transitions = forget_all(database, TRANSITIONS, retention.transition_days, until).await?;
    let unregistered = forget_all(database, UNREGISTERED, retention.unregistered_days, until).await?;
    if transitions + unregistered > 0 {
        info!(transitions, objects.unregistered = unregistered, "old rows deleted");
    }
    Ok(())
}

async fn forget_all(database: &Database, sql: &'static str, days: u16, until: Instant) -> Result<u64, DatabaseError> {
    let mut deleted = 0;
    while days > 0 && Instant::now() < until {
        let time: Duration = until - Instant::now();
        let rows = database
            .run(time, |session| async move {
                Ok(session.client()?.execute(sql, &[&i32::from(days), &i64::from(STEP)]).await?)
            })
            .await?;
        deleted += rows;
        if rows < u64::from(STEP) {
            break;
        }
    }
    Ok(deleted)
}
