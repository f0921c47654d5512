//! One invocation: decode the messages, write one file per day, quarantine poison, and report the messages that failed.

use std::collections::{BTreeMap, HashSet};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};
use bytes::Bytes;
use objects::{Bucket, BucketError, Records, Stored, quarantine};
use runtime::{clock, failure, metrics};
use shared::{
    layout::{ContentId, EventsKey, LayoutError},
    metrics::{CountsByReason, Metrics, Unit},
    quarantine::rfc3339,
};
use tracing::{error, info, warn};

use crate::{
    FUNCTION,
    app::App,
    batch::{Batch, Poison, Record},
    config::Notify,
    drain::{self, Settled},
    envelope::EventError,
    file::{EncodeError, EventsFile, content_type},
    notice::{self, NoticeError},
    outbox::{self, OutboxError},
    retry,
};

/// A row group ends at this many bytes of payload, which limits the memory for encoding.
const ROW_GROUP_PAYLOAD_BYTES: usize = 32 << 20;

/// Why a file was not written or announced. Its messages are retried, because the cause is a dependency that may recover.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    /// The file could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The file could not be stored.
    #[error(transparent)]
    Store(#[from] BucketError),
    /// The file has been stored, but its notification could neither be published nor put into the outbox.
    #[error("{0}, and the notice could not be put into the outbox: {1}")]
    Notice(NoticeError, BucketError),
    /// The name of the file is not valid.
    #[error(transparent)]
    Name(#[from] LayoutError),
}

/// What one invocation did, for its metrics.
#[derive(Debug, Default)]
struct Tally {
    rows: usize,
    unregistered: BTreeMap<String, usize>,
    raw_kept: usize,
    files: usize,
    files_already: usize,
    bytes: u64,
    quarantined: CountsByReason,
    retried: usize,
    notices_deferred: usize,
    oldest_sent_ms: Option<i64>,
    settled: Settled,
}

/// Why an invocation fails.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The event cannot be read. Nothing was done, and all messages are delivered again.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A tick could not publish the notices of the outbox. The next tick tries again.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
}

/// Handles one batch, or a tick of the schedule, which publishes the notices of the outbox.
///
/// `deadline_ms` is the deadline of the invocation in milliseconds since 1970-01-01T00:00:00Z.
pub async fn handle(app: &App, event: Bytes, deadline_ms: u64) -> Result<SqsBatchResponse, HandleError> {
    if outbox::is_tick(&event) {
        outbox::publish(app, deadline_ms).await?;
        return Ok(SqsBatchResponse::default());
    }
    let mut batch = Batch::of_event(&event, &app.registry)?;
    if batch.is_empty() {
        return Ok(SqsBatchResponse::default());
    }
    let mut tally = Tally::default();
    let sqs = &app.clients.sqs;
    let (failed, drained) = match &app.config.drain {
        None => (land_all(app, batch, deadline_ms, &mut tally).await, Vec::new()),
        Some(settings) => {
            let of_event: HashSet<String> = batch.message_ids().map(str::to_owned).collect();
            let received = drain::drain(sqs, settings, &app.registry, &mut batch, clock::remaining(deadline_ms)).await;
            let failed = land_all(app, batch, deadline_ms, &mut tally).await;
            tally.settled = drain::settle(sqs, &settings.queue_url, &received, &failed, deadline_ms).await;
            let (failed, of_drain): (HashSet<_>, HashSet<_>) = failed.into_iter().partition(|id| of_event.contains(id));
            (failed, received.into_iter().filter(|message| of_drain.contains(&message.message_id)).collect())
        }
    };
    if let Some(queue_url) = &app.config.queue_url
        && tally.retried > 0
    {
        let of_event = retry::of_event(&event, &failed);
        retry::postpone(sqs, queue_url, of_event.iter().chain(&drained), deadline_ms).await;
    }
    tally.report(&app.config.stack);
    Ok(respond(failed))
}

/// Writes the files of all days and quarantines the poison. Returns the ids of the messages that failed.
async fn land_all(app: &App, mut batch: Batch, deadline_ms: u64, tally: &mut Tally) -> HashSet<String> {
    batch.sort();
    tally.oldest_sent_ms = batch.records.iter().map(|record| record.sent_at_ms).min();
    let mut poison = std::mem::take(&mut batch.poison);
    let mut failed = HashSet::new();
    for records in batch.records.chunk_by(|a, b| a.day == b.day) {
        let landed = match encode(app, &batch, records) {
            Err(cause) => Err((records.iter().collect(), cause.into())),
            Ok(mut file) => {
                // Poison is quarantined even if the file cannot be written.
                poison.append(&mut file.poison);
                land(app, &batch, &mut file, deadline_ms, tally).await.map_err(|cause: LandError| (file.rows, cause))
            }
        };
        if let Err((returned, cause)) = landed {
            let ids = failure::ids(returned.iter().map(|record| batch.message_id(record)));
            error!(%cause, messages = returned.len(), ids, "the file could not be written, or neither be announced nor noted for later; its messages are returned to the queue");
            failed.extend(returned.into_iter().map(|record| batch.message_id(record).to_owned()));
        }
    }
    let poison = poison.into_iter().map(|Poison { record, .. }| (record.id.clone(), record));
    let quarantined = quarantine::keep(&app.lake, FUNCTION, poison.collect()).await;
    tally.quarantined = quarantined.kept;
    failed.extend(quarantined.failed);
    tally.retried = failed.len();
    failed
}

/// Stores one file, then announces it.
async fn land(
    app: &App,
    batch: &Batch,
    file: &mut Encoded<'_>,
    deadline_ms: u64,
    tally: &mut Tally,
) -> Result<(), LandError> {
    let Some((first, last)) = file.rows.first().zip(file.rows.last()) else { return Ok(()) };
    let name = file.content_id.name(first.sent_at_ms)?;
    let file_key = EventsKey { day: first.day, name, format: app.config.format };
    let key = file_key.to_string();
    let records = Records {
        key: &key,
        body: std::mem::take(&mut file.bytes).into(),
        content_type: content_type(app.config.format),
        content_id: file.content_id,
        count: file.rows.len(),
    };
    let stored = app.lake.put_once(records).await?;
    if let Notify::Lambda { topic_arn } = &app.config.notify {
        let notice = notice::body(topic_arn, &app.config.bucket, &key, &stored, last.sent_at_ms);
        if let Err(cause) = notice::publish(&app.clients.sns, topic_arn, notice.clone(), deadline_ms).await {
            warn!(%cause, file.key = %key, "the file is not announced yet; its notice goes to the outbox");
            outbox::keep(app, &file_key, notice).await.map_err(|error| LandError::Notice(cause, error))?;
            tally.notices_deferred += 1;
        }
    }
    tally.landed(&key, &stored, batch, &file.rows);
    tally.raw_kept += file.raw_kept;
    Ok(())
}

/// An encoded file that has not been stored yet.
#[derive(Debug)]
pub struct Encoded<'a> {
    pub bytes: Vec<u8>,
    /// The records of the file in order.
    pub rows: Vec<&'a Record>,
    /// The records whose payload is not a message of their type.
    pub poison: Vec<Poison>,
    /// The identity of the file's messages.
    pub content_id: ContentId,
    /// Number of rows with their payload in `_raw`.
    pub raw_kept: usize,
}

/// Encodes the sorted records of one day. The same records always give the same bytes.
pub fn encode<'a>(app: &App, batch: &Batch, records: &'a [Record]) -> Result<Encoded<'a>, EncodeError> {
    let mut file = EventsFile::new(app.config.format, app.table.schema())?;
    let (mut rows, mut poison, mut raw_kept, mut rest) = (Vec::new(), Vec::new(), 0, records);
    while !rest.is_empty() {
        let chunk = app.table.decode(batch, rest, app.config.row_group_rows, ROW_GROUP_PAYLOAD_BYTES)?;
        app.with_zstd(|zstd| file.append(&chunk.columns, zstd))?;
        rest = rest.get(chunk.read..).unwrap_or_default();
        raw_kept += chunk.raw_kept;
        if rows.is_empty() {
            rows = chunk.rows;
        } else {
            rows.extend(chunk.rows);
        }
        poison.extend(chunk.poison);
    }
    let content_id = ContentId::in_order(rows.iter().map(|record| batch.message_id(record)));
    let time = |record: Option<&&Record>| record.and_then(|record| rfc3339(record.sent_at_ms)).unwrap_or_default();
    let bytes = file.finish(vec![
        ("landfall.rows", rows.len().to_string()),
        ("landfall.min_sent_at", time(rows.first())),
        ("landfall.max_sent_at", time(rows.last())),
        ("landfall.content_id", content_id.to_string()),
        ("landfall.schema_fingerprint", app.table.fingerprint().to_owned()),
        ("landfall.version", env!("CARGO_PKG_VERSION").to_owned()),
    ])?;
    Ok(Encoded { bytes, rows, poison, content_id, raw_kept })
}

fn respond(failed: HashSet<String>) -> SqsBatchResponse {
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = failed
        .into_iter()
        .map(|id| {
            let mut failure = BatchItemFailure::default();
            failure.item_identifier = id;
            failure
        })
        .collect();
    response.batch_item_failures.sort_by(|a, b| a.item_identifier.cmp(&b.item_identifier));
    response
}

impl Tally {
    fn landed(&mut self, key: &str, stored: &Stored, batch: &Batch, rows: &[&Record]) {
        info!(file.key = %key, rows = rows.len(), size_bytes = stored.size, already = stored.already, "file written");
        self.rows += rows.len();
        for record in rows.iter().filter(|record| record.event_type.is_none()) {
            *self.unregistered.entry(batch.type_name(record).to_owned()).or_default() += 1;
        }
        if stored.already {
            self.files_already += 1;
        } else {
            self.files += 1;
            self.bytes += stored.size;
        }
    }

    /// Logs what an operator should know and prints the metrics.
    fn report(&self, stack: &str) {
        for (type_name, rows) in &self.unregistered {
            warn!(event.type = %type_name, rows, "rows of an unregistered type were written with their payload in _raw");
        }
        if self.settled.undeleted > 0 {
            warn!(
                messages = self.settled.undeleted,
                "processed messages could not be deleted from the queue and will be written again"
            );
        }
        let unregistered: usize = self.unregistered.values().sum();
        let mut all = Metrics::of(stack, FUNCTION)
            .put("rows_landed", Unit::Count, self.rows)
            .put("rows_unregistered", Unit::Count, unregistered)
            .put("rows_with_raw", Unit::Count, self.raw_kept)
            .put("files_written", Unit::Count, self.files)
            .put("files_already_landed", Unit::Count, self.files_already)
            .put("bytes_written", Unit::Bytes, self.bytes)
            .put("messages_drained", Unit::Count, self.settled.deleted + self.settled.undeleted)
            .put("messages_undeleted", Unit::Count, self.settled.undeleted)
            .put("messages_retried", Unit::Count, self.retried);
        if self.notices_deferred > 0 {
            all = all.put("notices_deferred", Unit::Count, self.notices_deferred);
        }
        if let Some(oldest) = self.oldest_sent_ms {
            all = all.put("oldest_message_age", Unit::Seconds, clock::age(oldest));
        }
        metrics::print(std::iter::once(all).chain(self.quarantined.metrics(stack, FUNCTION, "records_quarantined")));
    }
}
