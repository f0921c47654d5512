//! One invocation: a tick of the schedule asks every feed.

use std::time::Duration;

use bytes::Bytes;
use runtime::{clock, metrics};
use serde::Serialize;
use shared::{
    metrics::{Metrics, Unit},
    schedule::is_tick,
};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    FUNCTION,
    app::App,
    fetch::{self, FeedError, Tally},
    http::HttpError,
    registrar::RegistrarError,
};

/// What is kept of the invocation for the end of an upload and the metrics.
const RESERVE: Duration = Duration::from_secs(30);

/// Why an invocation fails.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The event is not the one of a schedule.
    #[error("the event is no tick of a schedule; invoke the function with events/dmap-fetch-tick.json")]
    Event,
    /// Nobody knows what to fetch, or what was fetched cannot be recorded. The next tick goes on.
    #[error(transparent)]
    Registrar(#[from] RegistrarError),
}

/// What one invocation did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Active feeds.
    pub feeds: u64,
    /// Those that were not fetched as a whole because of an error of their own.
    pub feeds_failed: u64,
    /// Versions of datasets that were put.
    pub datasets_fetched: u64,
    /// Versions that an earlier invocation had put.
    pub datasets_recorded: u64,
    /// Versions that could not be fetched.
    pub datasets_failed: u64,
    /// Versions for which no time was left.
    pub datasets_left: u64,
    /// Results that are in the quarantine.
    pub results_quarantined: u64,
}

/// Handles one event. `deadline_ms` is the deadline of the invocation in milliseconds since 1970-01-01T00:00:00Z.
pub async fn handle(app: &App, event: Bytes, deadline_ms: u64) -> Result<Summary, HandleError> {
    if !is_tick(&event) {
        return Err(HandleError::Event);
    }
    let time = clock::remaining(deadline_ms);
    let until = Instant::now() + time.saturating_sub(RESERVE.min(time / 2));
    let feeds = app.registrar.feeds().await?;
    let (mut tally, mut failed) = (Tally::default(), 0);
    let mut unavailable = None;
    for feed in &feeds {
        if Instant::now() >= until {
            break;
        }
        match Box::pin(fetch::feed(app, feed, until, &mut tally)).await {
            Ok(()) => continue,
            Err(FeedError::Registrar(error @ RegistrarError::Unavailable(_))) => {
                unavailable = Some(error);
                break;
            }
            Err(FeedError::Http(HttpError::OutOfTime)) => {
                warn!(feed = %feed.name, "no time is left, the next invocation asks the feed after the others");
            }
            Err(cause) => {
                error!(feed = %feed.name, %cause, "the feed could not be fetched");
                failed += 1;
            }
        }
        // The next invocation asks the others first.
        if let Err(error @ RegistrarError::Unavailable(_)) = app.registrar.asked(&feed.name).await {
            unavailable = Some(error);
            break;
        }
    }
    let summary = report(app, feeds.len() as u64, failed, tally);
    unavailable.map_or(Ok(summary), |error| Err(error.into()))
}

/// Logs what was done and prints the metrics.
fn report(app: &App, feeds: u64, feeds_failed: u64, tally: Tally) -> Summary {
    let Tally { fetched, bytes, recorded, failed, left, quarantined } = tally;
    let results_quarantined = u64::try_from(quarantined.total()).unwrap_or(u64::MAX);
    info!(feeds, feeds_failed, fetched, bytes, recorded, failed, left, results_quarantined, "feeds asked");
    let stack = &app.config.stack;
    let all = Metrics::of(stack, FUNCTION)
        .put("datasets_fetched", Unit::Count, fetched)
        .put("datasets_failed", Unit::Count, failed)
        .put("datasets_left", Unit::Count, left)
        .put("bytes_fetched", Unit::Bytes, bytes)
        .put("feeds_failed", Unit::Count, feeds_failed);
    metrics::print(std::iter::once(all).chain(quarantined.metrics(stack, FUNCTION, "records_quarantined")));
    Summary {
        feeds,
        feeds_failed,
        datasets_fetched: fetched,
        datasets_recorded: recorded,
        datasets_failed: failed,
        datasets_left: left,
        results_quarantined,
    }
}
