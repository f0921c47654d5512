//! One invocation: the records of a batch are staged or rolled, table by table; a tick rolls files whose records are old enough.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use objects::{Bucket, BucketError, quarantine};
use rolling::{
    batch::{Batch, Poison},
    event::{self, Event, EventError, Shard},
    run::Run,
    staging,
};
use runtime::{clock, metrics};
use serde::Serialize;
use shared::{
    layout::Segment,
    metrics::{CountsByReason, Metrics, Unit},
    position::Position,
    quarantine::rfc3339,
    rolled::{Reason, Window},
};
use tracing::{error, info};

use crate::{
    FUNCTION,
    app::App,
    config::Config,
    roll::{self, Done, StagedWindow, WindowError, bring_up_to_date},
};

/// Number of windows that are processed concurrently.
const CONCURRENT_WINDOWS: usize = 8;

/// Why an invocation fails as a whole.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The event cannot be read. Nothing was done.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The time of a tick has not come yet. Nothing was done.
    #[error("the tick is of {}, which is {} s ahead of the clock; at most MAX_TICK_AHEAD_SECONDS are believed", rfc3339(*now_ms).unwrap_or_default(), ahead.as_secs())]
    Ahead {
        /// The time of the tick, in milliseconds since 1970-01-01T00:00:00Z.
        now_ms: i64,
        /// How far it is ahead.
        ahead: Duration,
    },
    /// The staging folder could not be listed on a tick.
    #[error(transparent)]
    List(#[from] BucketError),
    /// Some windows of a tick could not be rolled. The next tick tries again.
    #[error("{failed} of {windows} windows could not be rolled; the first error: {cause}")]
    Tick {
        /// Number of windows that failed.
        failed: usize,
        /// Number of all windows.
        windows: usize,
        /// Why the first window failed.
        cause: WindowError,
    },
}

/// Lambda's partial batch response. Lambda delivers all records again from the lowest of these sequence numbers on.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The first record that is not stored, if there is one.
    pub batch_item_failures: Vec<Failure>,
}

/// A record that is not stored.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The sequence number of the record.
    pub item_identifier: String,
}

/// What one invocation did, for its metrics.
#[derive(Debug, Default)]
pub struct Tally {
    done: Vec<Done>,
    quarantined: CountsByReason,
    failed_windows: usize,
    oldest_arrived_ms: Option<i64>,
    /// Whether the event was a tick.
    is_tick: bool,
    /// When the oldest record arrived of the windows that could not be rolled.
    oldest_failed_ms: Option<i64>,
}

/// Handles a batch or a tick, then logs and prints what was done.
pub async fn handle<B: Bucket>(app: &App<B>, event: Bytes) -> Result<Response, HandleError> {
    let mut tally = Tally::default();
    let result = run(app, event, &mut tally).await;
    tally.report(&app.config);
    result
}

/// Handles a batch or a tick without reporting it.
pub async fn run<B: Bucket>(app: &App<B>, event: Bytes, tally: &mut Tally) -> Result<Response, HandleError> {
    match Batch::of_event(&event, &app.config.rules.table_of)? {
        Event::Batch(None) => Ok(Response::default()),
        Event::Batch(Some(batch)) => {
            let first = land(app, batch, tally).await;
            let sequence_number = first.and_then(|first| event::sequence_number(&event, first));
            let failures = sequence_number.map(|item_identifier| Failure { item_identifier });
            Ok(Response { batch_item_failures: failures.into_iter().collect() })
        }
        Event::Tick(now_ms) => {
            let ahead =
                Duration::from_millis(u64::try_from(now_ms.saturating_sub(clock::unix_ms())).unwrap_or_default());
            if ahead > app.config.max_tick_ahead {
                return Err(HandleError::Ahead { now_ms, ahead });
            }
            tick(app, now_ms, tally).await
        }
    }
}

/// Stages or rolls the records of a batch. Returns the position of the first record that is not stored.
async fn land<B: Bucket>(app: &App<B>, batch: Batch, tally: &mut Tally) -> Option<Position> {
    tally.oldest_arrived_ms = batch.oldest_ms;
    let failed = land_all(app, &batch.shard, batch.runs, tally).await.into_iter().min();
    // What comes again is quarantined then, or it would be there twice.
    let poison =
        batch.poison.into_iter().filter(|poison| failed.is_none_or(|failed| poison.position < failed.record()));
    let poison = poison.map(|Poison { position, record, .. }| (position, record)).collect();
    let quarantined = quarantine::keep(&app.lake, FUNCTION, poison).await;
    tally.quarantined = quarantined.kept;
    failed.into_iter().chain(quarantined.failed).min()
}

/// Stages or rolls the records of all tables. Returns the position of the first record of each table that failed.
async fn land_all<B: Bucket>(
    app: &App<B>,
    shard: &Shard,
    runs: BTreeMap<Segment, Run>,
    tally: &mut Tally,
) -> Vec<Position> {
    let firsts = runs.values().filter_map(|run| run.extent(0..run.len())).map(|extent| extent.first);
    let listed = if runs.is_empty() {
        return Vec::new();
    } else {
        app.lake.list(&staging::shard_folder(&shard.stream, &shard.id)).await
    };
    let mut listed = match listed {
        Ok(keys) => roll::windows(&keys),
        Err(cause) => {
            error!(%cause, "the staging folder could not be listed; the whole batch is returned");
            return firsts.collect();
        }
    };
    let windows = runs.into_iter().map(|(table, run)| {
        let window = Window { stream: shard.stream.clone(), shard: shard.id.clone(), table };
        let listed = listed.remove(&window).unwrap_or_default();
        async {
            let first = run.extent(0..run.len()).map(|extent| extent.first);
            let result = bring_up_to_date(app, &window, listed, run, None).await;
            (window, first, result)
        }
    });
    let results: Vec<_> = stream::iter(windows).buffer_unordered(CONCURRENT_WINDOWS).collect().await;
    let mut failed = Vec::new();
    for (window, first, result) in results {
        match result {
            Ok(done) => {
                if let Some(cause) = &done.not_rolled {
                    error!(%window, %cause, "a file could not be written; the records of the batch are staged");
                    tally.failed_windows += 1;
                }
                tally.done.push(done);
            }
            Err(cause) => {
                error!(%window, %cause, "the records of a window could not be stored; the batch is returned from the first of them on");
                tally.failed_windows += 1;
                failed.extend(first);
            }
        }
    }
    failed
}

/// Rolls every window whose oldest record is old enough, and deletes segments that are not needed any more.
async fn tick<B: Bucket>(app: &App<B>, now_ms: i64, tally: &mut Tally) -> Result<Response, HandleError> {
    tally.is_tick = true;
    let windows = roll::windows(&app.lake.list(staging::FOLDER).await?);
    let all = windows.len();
    let windows = windows.into_iter().map(async |(window, listed): (Window, StagedWindow)| {
        let oldest_ms = listed.oldest_open_ms();
        let result = bring_up_to_date(app, &window, listed, Run::default(), Some(now_ms)).await;
        (window, oldest_ms, result)
    });
    let results: Vec<_> = stream::iter(windows).buffer_unordered(CONCURRENT_WINDOWS).collect().await;
    let mut first = None;
    for (window, oldest_ms, result) in results {
        match result {
            Ok(done) => tally.done.push(done),
            Err(cause) => {
                error!(%window, %cause, "the window could not be rolled");
                tally.failed_windows += 1;
                tally.oldest_failed_ms = tally.oldest_failed_ms.into_iter().chain(oldest_ms).min();
                first.get_or_insert(cause);
            }
        }
    }
    match first {
        None => Ok(Response::default()),
        Some(cause) => Err(HandleError::Tick { failed: tally.failed_windows, windows: all, cause }),
    }
}

impl Tally {
    /// Logs what was done and prints the metrics.
    fn report(&self, config: &Config) {
        let stack = &config.stack;
        let sum = |of: fn(&Done) -> usize| self.done.iter().map(of).sum::<usize>();
        let files = self.done.iter().flat_map(|done| &done.files);
        let bytes: u64 = files.clone().map(|(_, bytes)| bytes).sum();
        info!(windows = self.done.len(), failed = self.failed_windows, "windows brought up to date");
        let mut all = Metrics::of(stack, FUNCTION)
            .put("records_staged", Unit::Count, sum(|done| done.staged))
            .put("records_already_staged", Unit::Count, sum(|done| done.already))
            .put("bytes_staged", Unit::Bytes, sum(|done| done.staged_bytes))
            .put("bytes_rolled", Unit::Bytes, bytes)
            .put("files_already_rolled", Unit::Count, sum(|done| done.files_already))
            .put("windows_failed", Unit::Count, self.failed_windows)
            .put("gaps", Unit::Count, sum(|done| done.gaps));
        if let Some(oldest) = self.oldest_arrived_ms {
            all = all.put("oldest_record_age", Unit::Seconds, clock::age(oldest));
        }
        if self.is_tick {
            all = all.put("ticks", Unit::Count, 1_usize);
        }
        let open = self.done.iter().filter_map(|done| done.oldest_open_ms);
        if let Some(oldest) = open.chain(self.oldest_failed_ms).min() {
            let (age, limit) = (clock::age(oldest), config.rules.limits.age_ms);
            let overdue = age.saturating_sub(Duration::from_millis(limit.unsigned_abs()));
            all = all.put("oldest_open_age", Unit::Seconds, age).put("oldest_open_overdue", Unit::Seconds, overdue);
        }
        let rolled = Reason::ALL.into_iter().filter_map(|reason| {
            let of_reason: Vec<usize> =
                files.clone().filter(|(file, _)| file.reason == reason).map(|(file, _)| file.count).collect();
            (!of_reason.is_empty()).then(|| {
                Metrics::of(stack, FUNCTION)
                    .by_reason(reason.name())
                    .put("files_rolled", Unit::Count, of_reason.len())
                    .put("records_rolled", Unit::Count, of_reason.iter().sum::<usize>())
            })
        });
        let quarantined = self.quarantined.metrics(stack, FUNCTION, "records_quarantined");
        metrics::print(std::iter::once(all).chain(rolled).chain(quarantined));
    }
}
