//! One invocation: decode, land a file a day, quarantine what never will, say exactly which messages must come again.

use std::collections::{BTreeMap, HashSet};

use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse};
use bytes::Bytes;
use runtime::{
    clock, metrics,
    quarantine::{QuarantineError, keep},
    store::{self, Object, StoreError, Stored},
};
use shared::{
    layout::{ContentId, Day, EventsKey, LayoutError},
    metrics::{Metrics, Unit},
    quarantine::{Disposition, rfc3339},
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
};

/// A row group ends at this many bytes of payload, which bounds the memory that encoding takes.
const ROW_GROUP_PAYLOAD_BYTES: usize = 32 << 20;

/// Why a file's messages must come again. Every cause is a dependency that may recover.
#[derive(Debug, thiserror::Error)]
pub enum LandError {
    /// The file could not be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The file could not be stored.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file is stored and could not be announced.
    #[error(transparent)]
    Notice(#[from] NoticeError),
    /// The records give the file no valid name.
    #[error(transparent)]
    Name(#[from] LayoutError),
}

/// What one invocation did, in numbers.
#[derive(Debug, Default)]
struct Tally {
    rows: usize,
    unregistered: BTreeMap<String, usize>,
    raw_kept: usize,
    files: usize,
    files_already: usize,
    bytes: i64,
    quarantined: BTreeMap<&'static str, usize>,
    retried: usize,
    oldest_sent_ms: Option<i64>,
    settled: Settled,
}

/// Lands one batch. `Err` means "nothing was done, redeliver everything".
///
/// `deadline_ms`: when the invocation ends, in milliseconds since 1970-01-01T00:00:00Z.
pub async fn handle(app: &App, event: Bytes, deadline_ms: u64) -> Result<SqsBatchResponse, EventError> {
    let mut batch = Batch::of_event(&event, &app.registry)?;
    if batch.is_empty() {
        return Ok(SqsBatchResponse::default());
    }
    let mut tally = Tally::default();
    let failed = match &app.config.drain {
        None => land_all(app, batch, &mut tally).await,
        Some(settings) => {
            let of_event: HashSet<String> = batch.message_ids().map(str::to_owned).collect();
            let sqs = &app.clients.sqs;
            let received = drain::drain(sqs, settings, &app.registry, &mut batch, clock::remaining(deadline_ms)).await;
            let failed = land_all(app, batch, &mut tally).await;
            tally.settled = drain::settle(sqs, &settings.queue_url, &received, &failed).await;
            failed.into_iter().filter(|id| of_event.contains(id)).collect()
        }
    };
    tally.report();
    Ok(respond(failed))
}

/// Lands every day and quarantines the poison. Gives back the ids of the messages that must come again.
async fn land_all(app: &App, mut batch: Batch, tally: &mut Tally) -> HashSet<String> {
    batch.sort();
    tally.oldest_sent_ms = batch.records.iter().map(|record| record.sent_at_ms).min();
    let mut poison = std::mem::take(&mut batch.poison);
    let mut failed = HashSet::new();
    for records in batch.records.chunk_by(|a, b| a.day == b.day) {
        let landed = match encode(app, &batch, records) {
            Err(cause) => Err((records.iter().collect(), cause.into())),
            Ok(mut file) => {
                // What can never land is quarantined whatever becomes of its neighbours.
                poison.append(&mut file.poison);
                land(app, &batch, &mut file, tally).await.map_err(|cause: LandError| (file.rows, cause))
            }
        };
        if let Err((returned, cause)) = landed {
            error!(%cause, messages = returned.len(), "file not landed, its messages are returned");
            failed.extend(returned.into_iter().map(|record| batch.message_id(record).to_owned()));
        }
    }
    failed.extend(quarantine_all(app, poison, tally).await);
    tally.retried = failed.len();
    failed
}

/// Keeps the poison, one object a day. Gives back the ids of the messages that must come again.
async fn quarantine_all(app: &App, poison: Vec<Poison>, tally: &mut Tally) -> Vec<String> {
    let (mut poison, retried): (Vec<Poison>, Vec<Poison>) =
        poison.into_iter().partition(|poison| poison.error.disposition() == Disposition::Quarantine);
    let mut failed: Vec<String> = retried.into_iter().map(|poison| poison.message_id).collect();
    poison.sort_by(|a, b| (a.day, a.sent_at_ms, &a.message_id).cmp(&(b.day, b.sent_at_ms, &b.message_id)));
    for poison in poison.chunk_by(|a, b| a.day == b.day) {
        if let Err(cause) = quarantine(app, poison).await {
            error!(%cause, messages = poison.len(), "quarantine not written, its messages are returned");
            failed.extend(poison.iter().map(|poison| poison.message_id.clone()));
        } else {
            for poison in poison {
                *tally.quarantined.entry(poison.error.reason()).or_default() += 1;
            }
        }
    }
    failed
}

/// Lands one file: stored once, then announced.
async fn land(app: &App, batch: &Batch, file: &mut Encoded<'_>, tally: &mut Tally) -> Result<(), LandError> {
    let Some((first, last)) = file.rows.first().zip(file.rows.last()) else { return Ok(()) };
    let name = file.content_id.name(first.sent_at_ms)?;
    let key = EventsKey { day: first.day, name, format: app.config.format }.to_string();
    let object = Object {
        key: &key,
        body: std::mem::take(&mut file.bytes).into(),
        content_type: content_type(app.config.format),
        content_id: file.content_id,
        records: file.rows.len(),
    };
    let stored = store::put_once(&app.clients.s3, &app.config.bucket, object).await?;
    if let Notify::Lambda { topic_arn } = &app.config.notify {
        let notice = notice::body(&app.clients.region, &app.config.bucket, &key, &stored, last.sent_at_ms);
        notice::publish(&app.clients.sns, topic_arn, notice).await?;
    }
    tally.landed(&key, &stored, batch, &file.rows);
    tally.raw_kept += file.raw_kept;
    Ok(())
}

/// A file, encoded and not yet stored.
#[derive(Debug)]
pub struct Encoded<'a> {
    /// The file's bytes.
    pub bytes: Vec<u8>,
    /// The records that it holds, in order.
    pub rows: Vec<&'a Record>,
    /// The records that turned out to be poison.
    pub poison: Vec<Poison>,
    /// The identity of the messages that it holds.
    pub content_id: ContentId,
    /// Rows whose payload is kept whole.
    pub raw_kept: usize,
}

/// Encodes sorted records of one day. Pure: the same records give the same bytes.
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

/// Keeps the poison of one day, with its bytes and the reason.
async fn quarantine(app: &App, poison: &[Poison]) -> Result<(), QuarantineError> {
    let content_id = ContentId::of(poison.iter().map(|poison| poison.message_id.as_str()));
    let Some(first) = poison.first() else { return Ok(()) };
    let first_ms = if first.day == Day::EPOCH { 0 } else { first.sent_at_ms };
    let records = poison.iter().map(|poison| poison.record.clone()).collect();
    keep(&app.clients.s3, &app.config.bucket, FUNCTION, first.day, first_ms, content_id, records).await
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
        info!(file.key = %key, rows = rows.len(), size_bytes = stored.size, already = stored.already, "file landed");
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

    /// Logs what was odd and prints the metrics.
    #[expect(clippy::cast_precision_loss, reason = "metrics are doubles, and these numbers are far below 2^53")]
    fn report(&self) {
        let now = clock::unix_ms();
        for (type_name, rows) in &self.unregistered {
            warn!(event.type = %type_name, rows, "rows of an unregistered type landed with their payload in _raw");
        }
        if self.settled.undeleted > 0 {
            warn!(messages = self.settled.undeleted, "landed messages are still in the queue and will land again");
        }
        let unregistered: usize = self.unregistered.values().sum();
        let mut all = Metrics::of(FUNCTION)
            .put("rows_landed", Unit::Count, self.rows as f64)
            .put("rows_unregistered", Unit::Count, unregistered as f64)
            .put("rows_with_raw", Unit::Count, self.raw_kept as f64)
            .put("files_written", Unit::Count, self.files as f64)
            .put("files_already_landed", Unit::Count, self.files_already as f64)
            .put("bytes_written", Unit::Bytes, self.bytes as f64)
            .put("messages_drained", Unit::Count, (self.settled.deleted + self.settled.undeleted) as f64)
            .put("messages_undeleted", Unit::Count, self.settled.undeleted as f64)
            .put("messages_retried", Unit::Count, self.retried as f64);
        if let Some(oldest) = self.oldest_sent_ms {
            all = all.put("oldest_message_age", Unit::Seconds, now.saturating_sub(oldest).max(0) as f64 / 1_000.0);
        }
        let quarantined = self.quarantined.iter().map(|(reason, records)| {
            Metrics::of(FUNCTION).by("reason", reason).put("records_quarantined", Unit::Count, *records as f64)
        });
        metrics::print(std::iter::once(all).chain(quarantined));
    }
}
