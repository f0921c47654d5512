//! What is due on the schedule: giving objects to tables that changed, the comparison of the bucket with the loads, numbers for alarms, and deleting old rows.

use std::time::Duration;

use runtime::metrics;
use shared::{
    metrics::{Metrics, Unit},
    registrar::Reconciliation,
};
use tokio::time::Instant;
use tracing::error;

use crate::{
    FUNCTION,
    app::App,
    database::DatabaseError,
    inventory,
    reconcile::{self, ReconcileError, Times},
    retention, settle, tables,
};

/// Does all of it, and counts it as a metric if something fails. The rest is done all the same.
pub async fn run(app: &App, time: Duration) -> Result<Reconciliation, ReconcileError> {
    let until = Instant::now() + time;
    let settled = settle::settle(&app.database, time / 8, time / 4).await;
    let times = Times::scheduled(until - Instant::now());
    let compared = match &app.config.inventory {
        None => reconcile::resume(app, times).await,
        Some(place) => inventory::resume(app, place, times).await,
    };
    let measured = measure(app, until).await;
    let forgotten = retention::forget(&app.database, app.config.retention, until).await;
    let followed = settled.map(drop).and(measured).and(forgotten);
    let failed = compared.as_ref().map_or(true, |result| result.failures > 0) || followed.is_err();
    let metrics = Metrics::of(&app.config.stack, FUNCTION);
    metrics::print([metrics.put("reconciliations_failed", Unit::Count, usize::from(failed))]);
    if let (Ok(_), Err(cause)) = (&compared, followed) {
        error!(%cause, "the comparison is done, something else of the schedule failed");
    }
    compared
}

/// Prints the numbers that only a query tells.
async fn measure(app: &App, until: Instant) -> Result<(), DatabaseError> {
    let age = oldest_unfinished(app, until - Instant::now()).await?;
    let late = tables::late(&app.database, until - Instant::now()).await?;
    let metrics = Metrics::of(&app.config.stack, FUNCTION).put("oldest_unfinished_age", Unit::Seconds, age);
    metrics::print([metrics.put("tables_late", Unit::Count, late)]);
    Ok(())
}

/// How long ago the oldest load was registered that has steps left to take; zero if there is none.
async fn oldest_unfinished(app: &App, time: Duration) -> Result<Duration, DatabaseError> {
    let sql = "select coalesce(max(extract(epoch from now() - oldest.inserted_at)), 0)::float8 \
        from unnest(enum_range(null::cubic_load_status)) as of (status) cross join lateral \
          (select inserted_at from cubic_loads where status = of.status order by inserted_at limit 1) oldest \
        where is_unfinished(of.status)";
    let seconds: f64 = app
        .database
        .run(time, |session| async move { Ok(session.client()?.query_one(sql, &[]).await?.try_get(0)?) })
        .await?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
