//! One invocation: decode the messages, write one file per day (and type), quarantine poison, and report the messages that failed.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use aws_lambda_events::sqs::SqsBatchResponse;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use landing::{
    batch::{Batch, Record, quarantine_parts},
    encode::Encoded,
    envelope::EventError,
    error::RecordError,
    file::{EncodeError, content_type},
};
use objects::{Bucket, BucketError, Records, Stored, quarantine};
use runtime::{clock, failure, metrics};
use shared::{
    layout::{EventsKey, LayoutError},
    metrics::{CountsByReason, Metrics, Unit},
    schedule::is_tick,
};
use tracing::{error, info, warn};

use crate::{
    FUNCTION,
    app::App,
    config::Notify,
    drain::{self, Settled},
    notice::{self, NoticeError},
    outbox::{self, OutboxError},
    retry,
};

/// No file is begun when less than this is left, or a third of what was left when the first was: three attempts to store it.
const RESERVE: Duration = Duration::from_secs(35);
/// Names of unregistered types that an invocation logs, and how much of each. They are their senders'.
const LOGGED_TYPES: usize = 10;
const LOGGED_CHARACTERS: usize = 100;
/// Files that are stored at the same time. One is encoded at a time.
const CONCURRENT_FILES: usize = 4;
const DAY_MS: i64 = 86_400_000;

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
    /// Too little time is left of the invocation to store another file. If Lambda ended it in the middle, everything that has landed
    /// would land again.
    #[error("too little time is left for another file")]
    Time,
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
    late: usize,
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
    if is_tick(&event) {
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
    Ok(lambda::returning(failed))
}

/// Writes all files and quarantines the poison. Returns the ids of the messages that failed.
async fn land_all(app: &App, mut batch: Batch, deadline_ms: u64, tally: &mut Tally) -> HashSet<String> {
    let by_type = app.tables.are_by_type();
    batch.use_event_times(&app.registry, app.config.event_time_max_age_days * DAY_MS);
    batch.sort(by_type);
    let reserve = RESERVE.min(clock::remaining(deadline_ms) / 3);
    tally.oldest_sent_ms = batch.records.iter().map(|record| record.sent_at_ms()).min();
    let poison = std::mem::take(&mut batch.poison);
    let (mut refused, mut failed) = (Vec::new(), HashSet::new());
    let files = batch.files(by_type).map(|records| encode_and_land(app, &batch, records, deadline_ms, reserve));
    let mut files = stream::iter(files).buffered(CONCURRENT_FILES);
    while let Some(Ended { rows, refused: mut of_file, raw_kept, landed }) = files.next().await {
        // Poison is quarantined even if the file cannot be written.
        refused.append(&mut of_file);
        match landed {
            Ok(None) => {}
            Ok(Some(landed)) => {
                tally.landed(&landed, &batch, &rows);
                tally.raw_kept += raw_kept;
            }
            Err(cause) => {
                let ids = failure::some_of(rows.iter().map(|record| batch.message_id(record)));
                error!(%cause, messages = rows.len(), ids, "the file could not be written, or neither be announced nor noted for later; its messages are returned to the queue");
                failed.extend(rows.into_iter().map(|record| batch.message_id(record).to_owned()));
            }
        }
    }
    drop(files);
    for part in quarantine_parts(&batch, poison, refused) {
        let part = part.into_iter().map(|record| (record.id.clone(), record)).collect();
        let quarantined = quarantine::keep(&app.lake, FUNCTION, part).await;
        tally.quarantined.append(quarantined.kept);
        failed.extend(quarantined.failed);
    }
    tally.retried = failed.len();
    failed
}

/// What became of the records of one file.
struct Ended<'a> {
    rows: Vec<&'a Record>,
    refused: Vec<(&'a Record, RecordError)>,
    raw_kept: usize,
    /// `None` if there are no rows, so there is no file.
    landed: Result<Option<Landed>, LandError>,
}

/// A file that is stored, and announced or noted for later.
struct Landed {
    key: String,
    stored: Stored,
    is_deferred: bool,
}

async fn encode_and_land<'a>(
    app: &App,
    batch: &Batch,
    records: &'a [Record],
    deadline_ms: u64,
    reserve: Duration,
) -> Ended<'a> {
    if clock::remaining(deadline_ms) <= reserve {
        let rows = records.iter().collect();
        return Ended { rows, refused: Vec::new(), raw_kept: 0, landed: Err(LandError::Time) };
    }
    match encode(app, batch, records) {
        Err(cause) => {
            Ended { rows: records.iter().collect(), refused: Vec::new(), raw_kept: 0, landed: Err(cause.into()) }
        }
        Ok(mut file) => {
            let landed = land(app, &mut file, deadline_ms).await;
            Ended { rows: file.rows, refused: file.refused, raw_kept: file.raw_kept, landed }
        }
    }
}

/// Stores one file, then announces it.
async fn land(app: &App, file: &mut Encoded<'_>, deadline_ms: u64) -> Result<Option<Landed>, LandError> {
    let Some((first, last)) = file.rows.first().zip(file.rows.last()) else { return Ok(None) };
    let name = file.content_id.name(first.sent_at_ms())?;
    let (_, folder) = app.tables.of(first.event_type);
    let file_key = EventsKey { only: folder.cloned(), day: first.day, name, format: app.config.format };
    let key = file_key.to_string();
    let records = Records {
        key: &key,
        body: std::mem::take(&mut file.bytes).into(),
        content_type: content_type(app.config.format),
        content_id: file.content_id,
        count: file.rows.len(),
    };
    let stored = app.lake.put_once(records).await?;
    let mut is_deferred = false;
    if let Notify::Lambda { topic_arn } = &app.config.notify {
        let notice = notice::body(topic_arn, &app.config.bucket, &key, &stored, last.sent_at_ms());
        if let Err(cause) = notice::publish(&app.clients.sns, topic_arn, notice.clone(), deadline_ms).await {
            warn!(%cause, file.key = %key, "the file is not announced yet; its notice goes to the outbox");
            outbox::keep(app, &file_key, notice).await.map_err(|error| LandError::Notice(cause, error))?;
            is_deferred = true;
        }
    }
    Ok(Some(Landed { key, stored, is_deferred }))
}

/// Encodes the sorted records of one file. The same records always give the same bytes.
pub fn encode<'a>(app: &App, batch: &Batch, records: &'a [Record]) -> Result<Encoded<'a>, EncodeError> {
    let (table, _) = app.tables.of(records.first().and_then(|record| record.event_type));
    app.with_zstd(|zstd| landing::encode(table, &app.config.file_rules(), zstd, batch, records))
}

impl Tally {
    fn landed(&mut self, Landed { key, stored, is_deferred }: &Landed, batch: &Batch, rows: &[&Record]) {
        info!(file.key = %key, rows = rows.len(), size_bytes = stored.size, already = stored.already, "file written");
        self.rows += rows.len();
        self.late += rows.iter().filter(|record| record.is_late).count();
        self.notices_deferred += usize::from(*is_deferred);
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
        let mut types: Vec<_> = self.unregistered.iter().collect();
        types.sort_by_key(|(_, rows)| Reverse(**rows));
        for (type_name, rows) in types.iter().take(LOGGED_TYPES) {
            let type_name: String = type_name.chars().take(LOGGED_CHARACTERS).collect();
            warn!(event.type = %type_name, rows, "rows of an unregistered type were written with their payload in _raw");
        }
        if let Some(types @ 1..) = types.len().checked_sub(LOGGED_TYPES) {
            warn!(types, "so were rows of other unregistered types");
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
        if self.late > 0 {
            all = all.put("rows_late", Unit::Count, self.late);
        }
        if let Some(oldest) = self.oldest_sent_ms {
            all = all.put("oldest_message_age", Unit::Seconds, clock::age(oldest));
        }
        metrics::print(std::iter::once(all).chain(self.quarantined.metrics(stack, FUNCTION, "records_quarantined")));
    }
}
