//! One invocation: a batch is staged or rolled, table by table; a tick rolls what has become old.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use runtime::{
    clock, metrics,
    quarantine::{self, ObjectError},
};
use serde::Serialize;
use shared::{
    layout::{ContentId, Day, Segment},
    metrics::{Metrics, Unit},
    position::Position,
    rolled::{Reason, Window},
};
use tracing::{error, info};

use crate::{
    FUNCTION,
    app::App,
    batch::{Batch, Poison},
    bucket::{About, Bucket, BucketError},
    event::{self, Event, EventError, Shard},
    roll::{self, Done, Listed, WindowError, settle},
    run::Run,
    staging,
};

/// Windows that are worked on at once.
const CONCURRENT_WINDOWS: usize = 8;

/// Why an invocation fails as a whole.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Nothing was done.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The open windows of a tick could not be listed.
    #[error(transparent)]
    List(#[from] BucketError),
    /// Some windows of a tick could not be rolled. The next tick tries again.
    #[error("{failed} of {windows} windows could not be rolled; the first one: {cause}")]
    Tick {
        /// Windows that failed.
        failed: usize,
        /// All windows.
        windows: usize,
        /// Why the first one failed.
        cause: WindowError,
    },
}

/// Why poison is not kept. Every cause is a dependency that may recover.
#[derive(Debug, thiserror::Error)]
enum QuarantineError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

/// Lambda's partial batch response: everything from the lowest of these sequence numbers on comes again.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Response {
    /// The first record that is not durable, if there is one.
    pub batch_item_failures: Vec<Failure>,
}

/// A record that is not durable.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Its sequence number.
    pub item_identifier: String,
}

/// What one invocation did, in numbers.
#[derive(Debug, Default)]
pub struct Tally {
    done: Vec<Done>,
    quarantined: BTreeMap<&'static str, usize>,
    failed_windows: usize,
    oldest_arrived_ms: Option<i64>,
}

/// Handles a batch or a tick, and reports what was done.
pub async fn handle<B: Bucket>(app: &App<B>, event: Bytes) -> Result<Response, HandleError> {
    let mut tally = Tally::default();
    let result = run(app, event, &mut tally).await;
    tally.report();
    result
}

/// Handles a batch or a tick.
pub async fn run<B: Bucket>(app: &App<B>, event: Bytes, tally: &mut Tally) -> Result<Response, HandleError> {
    match Batch::of_event(&event, &app.config.table_of)? {
        Event::Batch(None) => Ok(Response::default()),
        Event::Batch(Some(batch)) => {
            let first = land(app, batch, tally).await;
            let sequence_number = first.and_then(|first| event::sequence_number(&event, first));
            let failures = sequence_number.map(|item_identifier| Failure { item_identifier });
            Ok(Response { batch_item_failures: failures.into_iter().collect() })
        }
        Event::Tick(now_ms) => tick(app, now_ms, tally).await,
    }
}

/// Stages or rolls the records of a batch. Gives back the first one that is not durable.
async fn land<B: Bucket>(app: &App<B>, batch: Batch, tally: &mut Tally) -> Option<Position> {
    tally.oldest_arrived_ms = batch.oldest_ms;
    let kept = quarantine_all(app, &batch.poison, tally).await;
    let landed = land_all(app, &batch.shard, batch.runs, tally).await;
    landed.into_iter().chain(kept.err()).min()
}

/// Gives back the first position of each table that is not durable.
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
            error!(%cause, "open windows not listed, the batch is returned");
            return firsts.collect();
        }
    };
    let windows = runs.into_iter().map(|(table, run)| {
        let window = Window { stream: shard.stream.clone(), shard: shard.id.clone(), table };
        let listed = listed.remove(&window).unwrap_or_default();
        async {
            let first = run.extent(0..run.len()).map(|extent| extent.first);
            let settled = settle(app, &window, listed, run, None).await;
            (window, first, settled)
        }
    });
    let settled: Vec<_> = stream::iter(windows).buffer_unordered(CONCURRENT_WINDOWS).collect().await;
    let mut failed = Vec::new();
    for (window, first, settled) in settled {
        match settled {
            Ok(done) => tally.done.push(done),
            Err(cause) => {
                error!(%window, %cause, "records not landed, the batch is returned from the first of them on");
                tally.failed_windows += 1;
                failed.extend(first);
            }
        }
    }
    failed
}

/// Rolls every window whose oldest record is old enough, and tidies up.
async fn tick<B: Bucket>(app: &App<B>, now_ms: i64, tally: &mut Tally) -> Result<Response, HandleError> {
    let windows = roll::windows(&app.lake.list(staging::FOLDER).await?);
    let all = windows.len();
    let windows = windows.into_iter().map(async |(window, listed): (Window, Listed)| {
        let settled = settle(app, &window, listed, Run::default(), Some(now_ms)).await;
        (window, settled)
    });
    let settled: Vec<_> = stream::iter(windows).buffer_unordered(CONCURRENT_WINDOWS).collect().await;
    let mut first = None;
    for (window, settled) in settled {
        match settled {
            Ok(done) => tally.done.push(done),
            Err(cause) => {
                error!(%window, %cause, "window not rolled");
                tally.failed_windows += 1;
                first.get_or_insert(cause);
            }
        }
    }
    match first {
        None => Ok(Response::default()),
        Some(cause) => Err(HandleError::Tick { failed: tally.failed_windows, windows: all, cause }),
    }
}

/// Keeps the poison, one object a day. `Err` is the first record that is not kept.
async fn quarantine_all<B: Bucket>(app: &App<B>, poison: &[Poison], tally: &mut Tally) -> Result<(), Position> {
    let day = |poison: &Poison| Day::of_unix_ms(poison.arrived_ms).unwrap_or(Day::EPOCH);
    for poison in poison.chunk_by(|a, b| day(a) == day(b)) {
        let Some(first) = poison.first() else { continue };
        if let Err(cause) = quarantine(app, day(first), poison).await {
            error!(%cause, records = poison.len(), "quarantine not written, the batch is returned from there on");
            return Err(first.position);
        }
        for poison in poison {
            *tally.quarantined.entry(poison.error.reason()).or_default() += 1;
        }
    }
    Ok(())
}

async fn quarantine<B: Bucket>(app: &App<B>, day: Day, poison: &[Poison]) -> Result<(), QuarantineError> {
    let content_id = ContentId::of(poison.iter().map(|poison| poison.record.id.as_str()));
    let first_ms = poison.first().map_or(0, |first| first.arrived_ms);
    let mut records: Vec<_> = poison.iter().map(|poison| poison.record.clone()).collect();
    let (key, body) = quarantine::object(FUNCTION, day, first_ms, content_id, &mut records)?;
    let about = About { content_type: "application/x-ndjson", metadata: Vec::new() };
    // A key that is taken names the same records.
    app.lake.create(&key, body, &about).await?;
    Ok(())
}

impl Tally {
    /// Logs what was done and prints the metrics.
    #[expect(clippy::cast_precision_loss, reason = "metrics are doubles, and these numbers are far below 2^53")]
    fn report(&self) {
        let now = clock::unix_ms();
        let sum = |of: fn(&Done) -> usize| self.done.iter().map(of).sum::<usize>() as f64;
        let age = |since: i64| now.saturating_sub(since).max(0) as f64 / 1_000.0;
        let files = self.done.iter().flat_map(|done| &done.files);
        let bytes: u64 = files.clone().map(|(_, bytes)| bytes).sum();
        info!(windows = self.done.len(), failed = self.failed_windows, "windows brought up to date");
        let mut all = Metrics::of(FUNCTION)
            .put("records_staged", Unit::Count, sum(|done| done.staged))
            .put("records_already_staged", Unit::Count, sum(|done| done.already))
            .put("bytes_staged", Unit::Bytes, sum(|done| done.staged_bytes))
            .put("bytes_rolled", Unit::Bytes, bytes as f64)
            .put("files_already_rolled", Unit::Count, sum(|done| done.files_already))
            .put("windows_failed", Unit::Count, self.failed_windows as f64)
            .put("gaps", Unit::Count, sum(|done| done.gaps));
        if let Some(oldest) = self.oldest_arrived_ms {
            all = all.put("oldest_record_age", Unit::Seconds, age(oldest));
        }
        if let Some(oldest) = self.done.iter().filter_map(|done| done.oldest_open_ms).min() {
            all = all.put("oldest_open_age", Unit::Seconds, age(oldest));
        }
        let rolled = Reason::ALL.into_iter().filter_map(|reason| {
            let of_reason: Vec<usize> =
                files.clone().filter(|(file, _)| file.reason == reason).map(|(file, _)| file.count).collect();
            (!of_reason.is_empty()).then(|| {
                Metrics::of(FUNCTION)
                    .by("reason", reason.name())
                    .put("files_rolled", Unit::Count, of_reason.len() as f64)
                    .put("records_rolled", Unit::Count, of_reason.iter().sum::<usize>() as f64)
            })
        });
        let quarantined = self.quarantined.iter().map(|(reason, records)| {
            Metrics::of(FUNCTION).by("reason", reason).put("records_quarantined", Unit::Count, *records as f64)
        });
        metrics::print(std::iter::once(all).chain(rolled).chain(quarantined));
    }
}
