//! One invocation: a tick claims loads and queues them, a message of the queue takes one load further.

use std::time::Duration;

use aws_lambda_events::sqs::SqsBatchResponse;
use aws_sdk_sqs::types::{QueueAttributeName, SendMessageBatchRequestEntry};
use bytes::Bytes;
use objects::ListedVersion;
use runtime::{clock, failure::cause, metrics};
use serde::Deserialize;
use shared::{
    metrics::{CountsByReason, Metrics, Unit},
    registrar::{Load, LoadRef, LoadStatus, Step},
    schedule::is_tick,
};
use tracing::{error, info, warn};

use crate::{
    FUNCTION,
    app::App,
    error::{Hopeless, IngestError},
    finish::{self, Moved},
    ingest::{Ingested, ingest},
    registrar::{RegistrarError, reference},
};

/// Who takes the steps, for the log of load-registrar.
const BY: &str = FUNCTION;
/// How long a load may wait in the queue. Then it is claimed again, and its message is of no use any more.
const QUEUED_SECONDS: u32 = 4 * 3_600;
/// When a message is delivered again whose load could not be begun, in seconds. The visibility timeout of the queue is for loads that
/// are being worked on.
const AGAIN_SECONDS: i32 = 30;
/// Loads of a claim, so that an answer with hundreds of columns a load stays below the 6 MB of Lambda.
const PAGE: u32 = 50;
/// At most this part of the room is for loads whose objects have to be moved, so that objects that cannot be moved do not hold up
/// ingesting.
const ROOM_TO_MOVE: u32 = 3;
/// When a load is tried again after S3 refused something: after the first attempt, and four times as long after each other one.
const FIRST_PAUSE: Duration = Duration::from_secs(300);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3_600);
/// How much longer than the invocation a lease lasts, so that no zombie has one.
const BEYOND: Duration = Duration::from_secs(60);
/// What is kept of the invocation for the step at its end.
const RESERVE: Duration = Duration::from_secs(20);
/// With less than this, an object is not moved in the same invocation.
const TO_MOVE: Duration = Duration::from_secs(60);
/// Entries of a SendMessageBatch.
const BATCH_ENTRIES: usize = 10;

/// Why an invocation fails.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The event is neither a tick nor messages of the queue.
    #[error("the event cannot be read: {0}")]
    Event(#[from] serde_json::Error),
    /// Nothing was claimed. The next tick tries again.
    #[error(transparent)]
    Registrar(#[from] RegistrarError),
    /// Nobody knows how many loads wait.
    #[error("the queue did not answer: {0}")]
    Queue(String),
}

#[derive(Deserialize)]
struct Messages {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    receipt_handle: String,
    body: String,
}

/// Handles one event. `deadline_ms` is the deadline of the invocation in milliseconds since 1970-01-01T00:00:00Z.
pub async fn handle(app: &App, event: Bytes, deadline_ms: u64) -> Result<SqsBatchResponse, HandleError> {
    if is_tick(&event) {
        dispatch(app).await?;
        return Ok(SqsBatchResponse::default());
    }
    let Messages { records } = serde_json::from_slice(&event)?;
    let mut back = Vec::new();
    for record in records {
        if !take(app, &record, deadline_ms).await {
            back.push(record.message_id);
        }
    }
    Ok(lambda::returning(back))
}

/// Claims what waits and has room in the queue: first what is nearly done.
async fn dispatch(app: &App) -> Result<(), HandleError> {
    let waiting = queued(app).await?;
    let room = app.config.max_queued.saturating_sub(waiting);
    let to_move = room / ROOM_TO_MOVE;
    let mut claimed = 0;
    let shares = [(Step::Archive, to_move), (Step::Error, to_move), (Step::Ingest, room)];
    for (step, most) in shares.into_iter().chain([(Step::Archive, room), (Step::Error, room)]) {
        claimed += claim(app, step, most.min(room.saturating_sub(claimed))).await?;
    }
    info!(claimed, waiting, "loads claimed");
    let all = Metrics::of(&app.config.stack, FUNCTION).put("loads_claimed", Unit::Count, u64::from(claimed));
    metrics::print([all]);
    Ok(())
}

/// Claims and queues at most so many loads. How many there were.
async fn claim(app: &App, step: Step, most: u32) -> Result<u32, HandleError> {
    let mut claimed = 0;
    while claimed < most {
        let wanted = PAGE.min(most - claimed);
        let loads = app.registrar.queue(step, wanted, QUEUED_SECONDS, BY).await?;
        let number = u32::try_from(loads.len()).unwrap_or(u32::MAX);
        send(app, &loads).await;
        claimed += number;
        if number < wanted {
            break;
        }
    }
    Ok(claimed)
}

/// Messages in the queue, also those that are being worked on.
async fn queued(app: &App) -> Result<u32, HandleError> {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let request = app.sqs.get_queue_attributes().queue_url(&app.config.queue_url);
    let answer = request.set_attribute_names(Some(names.to_vec())).send().await;
    let answer = answer.map_err(|error| HandleError::Queue(cause(&error)))?;
    let number = |name| answer.attributes().and_then(|all| all.get(name)?.parse::<u32>().ok()).unwrap_or_default();
    Ok(names.iter().map(number).sum())
}

/// Queues claimed loads. One that cannot be queued is given back; if that fails too, its lease expires.
async fn send(app: &App, loads: &[Load]) {
    for loads in loads.chunks(BATCH_ENTRIES) {
        let entries = loads.iter().enumerate().filter_map(|(position, load)| {
            let body = serde_json::to_string(&reference(load, None)).ok()?;
            SendMessageBatchRequestEntry::builder().id(position.to_string()).message_body(body).build().ok()
        });
        let request =
            app.sqs.send_message_batch().queue_url(&app.config.queue_url).set_entries(Some(entries.collect()));
        let sent: Vec<usize> = match request.send().await {
            Ok(answer) => answer.successful().iter().filter_map(|entry| entry.id().parse().ok()).collect(),
            Err(error) => {
                error!(cause = cause(&error), loads = loads.len(), "claimed loads could not be queued");
                Vec::new()
            }
        };
        for (position, load) in loads.iter().enumerate() {
            if !sent.contains(&position) {
                give_back(app, load, "not_queued").await;
            }
        }
    }
}

/// Takes the load of a message further. Whether the message is done with: the load has been taken further, or belongs to another job.
async fn take(app: &App, record: &Record, deadline_ms: u64) -> bool {
    let named: LoadRef = match serde_json::from_str(&record.body) {
        Ok(named) => named,
        Err(cause) => {
            error!(%cause, message = record.message_id, "the message is no load");
            return false;
        }
    };
    let id = named.id;
    let load = match app.registrar.begin(named, lease_seconds(deadline_ms), BY).await {
        Ok(Some(load)) => load,
        Ok(None) => return true,
        Err(RegistrarError::Refused(cause)) => {
            info!(load = id, cause, "another job has the load, or nobody needs this step any more");
            return true;
        }
        Err(cause @ RegistrarError::Unavailable(_)) => {
            warn!(load = id, %cause, "the load waits for another delivery");
            again(app, record).await;
            Tally { failed: 1, ..Tally::default() }.report(&app.config.stack);
            return false;
        }
    };
    let mut tally = Tally::default();
    let result = work(app, &load, deadline_ms, &mut tally).await;
    if let Err(cause) = &result {
        error!(load = load.id, key = ?load.s3_key, %cause, "the load was not taken further");
        tally.failed = u64::from(!matches!(cause, IngestError::Waiting));
        set_aside(app, &load, cause).await;
    }
    tally.report(&app.config.stack);
    !matches!(result, Err(IngestError::Registrar(RegistrarError::Unavailable(_))))
}

/// Has a message delivered again soon.
async fn again(app: &App, record: &Record) {
    let change = app.sqs.change_message_visibility().queue_url(&app.config.queue_url);
    let change = change.receipt_handle(&record.receipt_handle).visibility_timeout(AGAIN_SECONDS);
    if let Err(error) = change.send().await {
        warn!(cause = cause(&error), "the message comes again after the visibility timeout");
    }
}

/// The load with the version of its object. A listing, which finds what no notification announced, tells no versions.
async fn with_version(app: &App, mut load: Load) -> Result<Load, IngestError> {
    if load.s3_version.is_none() {
        let listed = app.incoming.versions(&load.s3_key).await?;
        let is_it = |one: &ListedVersion| {
            let second = one.modified_ms.div_euclid(1_000);
            (one.key.as_str(), one.e_tag.as_str(), second)
                == (&load.s3_key, &load.s3_etag, load.s3_modified.as_second())
        };
        load.s3_version = listed.into_iter().find(is_it).and_then(|one| one.id);
    }
    Ok(load)
}

/// Until when a load is needed for this invocation.
fn lease_seconds(deadline_ms: u64) -> u32 {
    u32::try_from((clock::remaining(deadline_ms) + BEYOND).as_secs()).unwrap_or(QUEUED_SECONDS)
}

/// Decides when a load that was not taken further is claimed again. One that waits for something is given back. Otherwise it stays
/// claimed until its lease expires, so that the attempt counts, and what S3 refuses today does not keep others from the queue.
async fn set_aside(app: &App, load: &Load, cause: &IngestError) {
    match cause {
        IngestError::Waiting => give_back(app, load, "given_back").await,
        IngestError::Bucket(_) | IngestError::Quarantine => {
            if let Err(cause) = app.registrar.renew(load, pause(load)).await {
                warn!(load = load.id, %cause, "the lease was not renewed; it expires");
            }
        }
        _ => {}
    }
}

/// Seconds until a load is tried again. Only attempts to ingest are counted.
fn pause(load: &Load) -> u32 {
    let before = u32::try_from(load.attempts).unwrap_or(0).saturating_sub(1).min(8);
    let pause = FIRST_PAUSE.saturating_mul(4_u32.pow(before)).min(LONGEST_PAUSE);
    u32::try_from(pause.as_secs()).unwrap_or(QUEUED_SECONDS)
}

/// Gives a load back, to be claimed again.
async fn give_back(app: &App, load: &Load, reason: &str) {
    let to = match load.status {
        LoadStatus::Archiving => LoadStatus::ReadyForArchiving,
        LoadStatus::Erroring => LoadStatus::ReadyForErroring,
        _ => LoadStatus::Ready,
    };
    // The reason of an error is kept.
    let reason = (load.status != LoadStatus::Erroring).then_some(reason);
    if let Err(cause) = app.registrar.step(load, to, reason, None, BY).await {
        warn!(load = load.id, %cause, "the load could not be given back; its lease expires");
    }
}

/// Takes one load as far as the time reaches.
async fn work(app: &App, load: &Load, deadline_ms: u64, tally: &mut Tally) -> Result<(), IngestError> {
    let load = &with_version(app, load.clone()).await?;
    match load.status {
        LoadStatus::Ingesting => {
            let Some(step) = ingest_one(app, load, deadline_ms, tally).await? else {
                return Ok(());
            };
            if clock::remaining(deadline_ms) < TO_MOVE {
                return Ok(());
            }
            // What is not moved now is claimed by a later tick.
            let claimed = app.registrar.claim(step, load.id, lease_seconds(deadline_ms), BY).await;
            if let Ok(Some(claimed)) = claimed {
                let load = Load { s3_version: load.s3_version.clone(), ..claimed };
                if let Err(cause) = finish_one(app, &load, tally).await {
                    warn!(load = load.id, key = ?load.s3_key, %cause, "the object was not moved yet");
                    set_aside(app, &load, &cause).await;
                }
            }
            Ok(())
        }
        LoadStatus::Archiving | LoadStatus::Erroring => finish_one(app, load, tally).await,
        _ => Ok(()),
    }
}

/// Ingests a load, or gives it up. What is to be done with its object now: one that is too large waits for a job that can read it.
async fn ingest_one(app: &App, load: &Load, deadline_ms: u64, tally: &mut Tally) -> Result<Option<Step>, IngestError> {
    let time = clock::remaining(deadline_ms).saturating_sub(RESERVE);
    match ingest(app, load, time).await {
        Ok(Ingested { result, quarantined }) => {
            let (rows, files, bytes) = (result.rows, result.files, result.bytes);
            app.registrar.step(load, LoadStatus::ReadyForArchiving, None, Some(result), BY).await?;
            info!(load = load.id, key = ?load.s3_key, rows, files, bytes, "load ingested");
            tally.ingested += 1;
            tally.rows += rows;
            tally.bytes += bytes;
            tally.quarantined = quarantined;
            Ok(Some(Step::Archive))
        }
        Err(IngestError::Hopeless(why, what)) => {
            let reason = why.reason();
            app.registrar.step(load, LoadStatus::ReadyForErroring, Some(reason), None, BY).await?;
            error!(load = load.id, key = ?load.s3_key, reason, what, "load given up");
            Ok((why != Hopeless::TooLarge).then_some(Step::Error))
        }
        Err(error) => Err(error),
    }
}

/// Moves the object of a load that is done.
async fn finish_one(app: &App, load: &Load, tally: &mut Tally) -> Result<(), IngestError> {
    let (moved, to) = match load.status {
        LoadStatus::Archiving => (finish::archive(app, load).await?, LoadStatus::Archived),
        _ => (finish::error(app, load).await?, LoadStatus::Errored),
    };
    let gone = (moved == Moved::Gone && to == LoadStatus::Archived).then_some("object_gone");
    app.registrar.step(load, to, gone, None, BY).await?;
    info!(load = load.id, key = ?load.s3_key, status = %to, ?moved, "load finished");
    tally.finished += 1;
    tally.given_up += u64::from(to == LoadStatus::Errored);
    tally.gone += u64::from(moved == Moved::Gone);
    Ok(())
}

/// What one invocation did, in numbers.
#[derive(Debug, Default)]
struct Tally {
    ingested: u64,
    given_up: u64,
    finished: u64,
    failed: u64,
    gone: u64,
    rows: u64,
    bytes: u64,
    quarantined: CountsByReason,
}

impl Tally {
    fn report(&self, stack: &str) {
        let all = Metrics::of(stack, FUNCTION)
            .put("loads_ingested", Unit::Count, self.ingested)
            .put("loads_given_up", Unit::Count, self.given_up)
            .put("loads_finished", Unit::Count, self.finished)
            .put("loads_failed", Unit::Count, self.failed)
            .put("objects_gone", Unit::Count, self.gone)
            .put("rows_written", Unit::Count, self.rows)
            .put("bytes_written", Unit::Bytes, self.bytes);
        metrics::print(std::iter::once(all).chain(self.quarantined.metrics(stack, FUNCTION, "records_quarantined")));
    }
}
