//! One invocation: the records of a batch are staged, and files that are full are rolled; a tick rolls files whose records are old
//! enough.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use objects::{Bucket, BucketError};
use rolling::{
    batch::Batch,
    discarded::Replayed,
    event::{self, Event, EventError},
    rules::Rules,
    shard::{Due, FOLDER, Refused, ShardId},
};
use runtime::{clock, metrics};
use serde::Serialize;
use shared::{
    layout::Segment,
    metrics::{CountsByReason, Metrics, Unit},
    position::Position,
    quarantine::rfc3339,
    rolled::{Reason, RolledFile, Window},
};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    FUNCTION,
    app::App,
    config::Config,
    error::{ReplayError, RollError},
    replay,
    roll::{self, Done},
};

/// Number of shards that a tick processes concurrently. Each may hold 64 MiB of what its segments contain.
const CONCURRENT_SHARDS: usize = 4;
/// What is kept of an invocation for its last request and its metrics.
const RESERVE: Duration = Duration::from_secs(10);

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
    /// Some windows could not be rolled. The next tick tries again.
    #[error("{failed} windows could not be rolled; the first error: {cause}")]
    Close {
        /// Number of windows that failed.
        failed: usize,
        /// Why the first window failed.
        cause: RollError,
    },
    /// The records are not of the stream that is staged. Nothing was done.
    #[error(transparent)]
    Refused(Refused),
    /// What Lambda had given up is not landed.
    #[error("{0}: {1}")]
    Replay(String, ReplayError),
}

/// Lambda's partial batch response. Lambda delivers all records again from the lowest of these sequence numbers on.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The first record that is not stored, if there is one.
    pub batch_item_failures: Vec<Failure>,
    /// The answer to a request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled: Option<Rolled>,
    /// What became of a batch that Lambda had given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
}

/// A record that is not stored.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// The sequence number of the record.
    pub item_identifier: String,
}

/// What was rolled at a request.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rolled {
    /// The files of the tables that were asked for.
    pub files: Vec<FileOfTable>,
    /// Tables that were asked for, and of which no shard has ever had a record.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<Segment>,
    /// If there are such: all tables that there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Segment>,
    /// That not all windows could be closed, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// A file that was rolled.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FileOfTable {
    /// Its table.
    pub table: Segment,
    /// Its stream.
    pub stream: Segment,
    /// Its shard.
    pub shard: Segment,
    /// Number of its records.
    pub records: usize,
    /// Its size in bytes.
    pub bytes: u64,
}

/// What one invocation did, for its metrics.
#[derive(Debug, Default)]
pub struct Tally {
    done: Vec<Done>,
    /// Number of batches that could not be staged.
    failed_shards: usize,
    oldest_arrived_ms: Option<i64>,
    /// Whether the event was a tick.
    is_tick: bool,
}

/// Handles a batch or a tick, then logs and prints what was done. `deadline_ms` is the deadline of the invocation in milliseconds
/// since 1970-01-01T00:00:00Z.
pub async fn handle<B: Bucket>(app: &App<B>, event: Bytes, deadline_ms: u64) -> Result<Response, HandleError> {
    let mut tally = Tally::default();
    let now_ms = u64::try_from(clock::unix_ms()).unwrap_or_default();
    let left = Duration::from_millis(deadline_ms.saturating_sub(now_ms)).saturating_sub(RESERVE);
    let result = run(app, event, Instant::now().checked_add(left), &mut tally).await;
    tally.report(&app.config);
    result
}

/// Handles a batch or a tick without reporting it. No file is begun to be written after `deadline`.
pub async fn run<B: Bucket>(
    app: &App<B>,
    event: Bytes,
    deadline: Option<Instant>,
    tally: &mut Tally,
) -> Result<Response, HandleError> {
    match Batch::of_event(&event, &app.config.rules.lines)? {
        Event::Batch(None) => Ok(Response::default()),
        Event::Batch(Some(batch)) => {
            let first = land(app, &batch, deadline, tally).await?;
            let sequence_number = first.and_then(|first| event::sequence_number(&event, first));
            let failures = sequence_number.map(|item_identifier| Failure { item_identifier });
            Ok(Response { batch_item_failures: failures.into_iter().collect(), ..Response::default() })
        }
        Event::Discarded(request) => {
            let rules = rules(app, false, tally).await;
            let (replayed, done) = replay::replay(app, &rules, &request, deadline)
                .await
                .map_err(|cause| HandleError::Replay(request.discarded.clone(), cause))?;
            tally.done.push(done);
            Ok(Response { replayed: Some(replayed), ..Response::default() })
        }
        Event::Tick(now_ms) => {
            let ahead =
                Duration::from_millis(u64::try_from(now_ms.saturating_sub(clock::unix_ms())).unwrap_or_default());
            if ahead > app.config.max_tick_ahead {
                return Err(HandleError::Ahead { now_ms, ahead });
            }
            tally.is_tick = true;
            close(app, Due::At(now_ms), deadline, tally).await?;
            Ok(Response::default())
        }
        Event::Roll(tables) => {
            let failure = loop {
                let before: usize = tally.done.iter().map(|done| done.files.len()).sum();
                let closed = close(app, Due::Asked(&tables), deadline, tally).await;
                // Those of a shard that waited for them come next.
                if before == tally.done.iter().map(|done| done.files.len()).sum::<usize>() {
                    break closed.err().map(|cause| cause.to_string());
                }
            };
            let files = tally.done.iter().flat_map(|done| &done.files);
            let files = files.filter(|(file, _)| tables.contains(&file.window.table)).map(|(file, bytes)| {
                let RolledFile { window: Window { stream, shard, table }, count, .. } = file.clone();
                FileOfTable { table, stream, shard, records: count, bytes: *bytes }
            });
            let known: BTreeSet<&Segment> = tally.done.iter().flat_map(|done| &done.tables).collect();
            // After a failure, nobody knows what the shards that were not read have.
            let is_unknown = |table: &&Segment| failure.is_none() && !known.contains(table);
            let unknown: Vec<Segment> = tables.iter().filter(is_unknown).cloned().collect();
            let known = if unknown.is_empty() { Vec::new() } else { known.into_iter().cloned().collect() };
            let rolled = Rolled { files: files.collect(), unknown, known, failure };
            Ok(Response { rolled: Some(rolled), ..Response::default() })
        }
    }
}

/// The rules, and that they could not be read, if so.
async fn rules<B: Bucket>(app: &App<B>, may_be_old: bool, tally: &mut Tally) -> Rules {
    let (rules, cause) = app.rules(may_be_old).await;
    if let Some(cause) = &cause {
        error!(%cause, "the rules of tables could not be read; what was read before is used");
        tally.done.push(Done { failed: 1, cause: Some(cause.clone()), ..Done::default() });
    }
    rules
}

/// Stages the records of a batch. Returns the position of the first record if they are not staged.
async fn land<B: Bucket>(
    app: &App<B>,
    batch: &Batch,
    deadline: Option<Instant>,
    tally: &mut Tally,
) -> Result<Option<Position>, HandleError> {
    tally.oldest_arrived_ms = batch.oldest_ms;
    let rules = rules(app, true, tally).await;
    match roll::land(app, &rules, batch, deadline).await {
        Ok(done) => {
            tally.done.push(done);
            Ok(None)
        }
        Err(RollError::Refused(cause)) => Err(HandleError::Refused(cause)),
        Err(cause) => {
            error!(shard = %batch.shard.id, %cause, "the records of the batch could not be staged; it is returned");
            tally.failed_shards += 1;
            Ok(batch.first())
        }
    }
}

/// Rolls every window that is due, and deletes segments that are not needed any more.
async fn close<B: Bucket>(
    app: &App<B>,
    due: Due<'_>,
    deadline: Option<Instant>,
    tally: &mut Tally,
) -> Result<(), HandleError> {
    let mut rules = rules(app, false, tally).await;
    if let Due::Asked(tables) = due {
        rules.resume(tables);
    }
    let mut shards = Vec::new();
    for stream in app.lake.folders(FOLDER).await? {
        for shard in app.lake.folders(&format!("{FOLDER}{stream}/")).await? {
            match (stream.parse(), shard.parse()) {
                (Ok(stream), Ok(shard)) => shards.push(ShardId { stream, shard }),
                _ => warn!(stream, shard, "the staging folder contains a folder that this function did not make"),
            }
        }
    }
    // Another one is first each minute, so that shards whose large files wait for each other cannot hold up the rest for ever.
    if let Due::At(now_ms) = due {
        let minute = usize::try_from(now_ms / 60_000).unwrap_or_default();
        let first = minute.checked_rem(shards.len()).unwrap_or_default();
        shards.rotate_left(first);
    }
    let all = shards.iter().map(|id| roll::close(app, &rules, id, due, deadline));
    let done: Vec<Done> = stream::iter(all).buffer_unordered(CONCURRENT_SHARDS).collect().await;
    tally.done.extend(done);
    let cause = tally.done.iter().find_map(|done| done.cause.clone());
    let failed = tally.done.iter().map(|done| done.failed).sum();
    cause.map_or(Ok(()), |cause| Err(HandleError::Close { failed, cause }))
}

impl Tally {
    /// When the oldest record of a paused table arrived that is in no file yet, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn oldest_paused_ms(&self) -> Option<i64> {
        self.done.iter().filter_map(|done| done.oldest_paused_ms).min()
    }

    /// Logs what was done and prints the metrics.
    fn report(&self, config: &Config) {
        let stack = &config.stack;
        let sum = |of: fn(&Done) -> usize| self.done.iter().map(of).sum::<usize>();
        let files = self.done.iter().flat_map(|done| &done.files);
        let bytes: u64 = files.clone().map(|(_, bytes)| bytes).sum();
        let failed = sum(|done| done.failed) + self.failed_shards;
        info!(shards = self.done.len(), failed, "shards brought up to date");
        let mut all = Metrics::of(stack, FUNCTION)
            .put("records_staged", Unit::Count, sum(|done| done.staged))
            .put("records_already_staged", Unit::Count, sum(|done| done.already))
            .put("bytes_staged", Unit::Bytes, sum(|done| done.staged_bytes))
            .put("bytes_rolled", Unit::Bytes, bytes)
            .put("files_already_rolled", Unit::Count, sum(|done| done.files_already))
            .put("windows_failed", Unit::Count, failed)
            .put("gaps", Unit::Count, sum(|done| done.gaps));
        let out_of_band = sum(|done| done.out_of_band);
        if out_of_band > 0 {
            all = all.put("records_out_of_band", Unit::Count, out_of_band);
        }
        if let Some(oldest) = self.oldest_arrived_ms {
            all = all.put("oldest_record_age", Unit::Seconds, clock::age(oldest));
        }
        if self.is_tick {
            all = all.put("ticks", Unit::Count, 1_usize);
        }
        if let Some(oldest) = self.done.iter().filter_map(|done| done.oldest_open_ms).min() {
            all = all.put("oldest_open_age", Unit::Seconds, clock::age(oldest));
        }
        if let Some(due) = self.done.iter().filter_map(|done| done.due_ms).min() {
            all = all.put("oldest_open_overdue", Unit::Seconds, clock::age(due));
        }
        if let Some(oldest) = self.oldest_paused_ms() {
            all = all.put("oldest_paused_age", Unit::Seconds, clock::age(oldest));
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
        let mut quarantined = CountsByReason::default();
        self.done.iter().for_each(|done| quarantined.append(done.quarantined.clone()));
        let quarantined = quarantined.metrics(stack, FUNCTION, "records_quarantined");
        metrics::print(std::iter::once(all).chain(rolled).chain(quarantined));
    }
}
