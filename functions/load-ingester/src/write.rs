//! The files of a load, uploaded while they are made, and its quarantined rows.

use std::io;

use bytes::{Bytes, BytesMut};
use objects::{Attributes, Bucket, BucketError, Created, S3, Upload, quarantine};
use runtime::clock;
use serde_json::{json, value::to_raw_value};
use shared::{
    metrics::CountsByReason,
    quarantine::{QuarantineRecord, base64, rfc3339},
    registrar::Load,
};
use tokio::sync::mpsc::{Receiver, Sender};

use crate::{
    FUNCTION,
    app::App,
    convert::{Part, Quarantined, Sink},
    error::{Hopeless, IngestError},
    place::Places,
};

/// The size of the parts of an upload.
const PART_BYTES: usize = 8 << 20;
/// Quarantined rows are written when there are so many of them, or so many bytes.
const QUARANTINED_ROWS: usize = 1_000;
const QUARANTINED_BYTES: usize = 4 << 20;
/// Name of the metadata that says by which plan a file was made.
const PLAN_METADATA: &str = "landfall-plan";

/// What the conversion makes, in order.
#[derive(Debug)]
pub enum Made {
    Begin(u32),
    Bytes(Bytes),
    End,
    Quarantined(Box<QuarantineRecord>),
}

/// The end of the channel at which the conversion is.
#[derive(Debug)]
pub struct Outlet {
    to: Sender<Made>,
    load: Load,
}

impl Outlet {
    /// For what is made of this load.
    #[must_use]
    pub const fn new(to: Sender<Made>, load: Load) -> Self {
        Self { to, load }
    }

    fn send(&self, made: Made) -> io::Result<()> {
        self.to.blocking_send(made).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Sink for Outlet {
    fn begin_part(&mut self, part: u32) -> io::Result<()> {
        self.send(Made::Begin(part))
    }

    fn part_bytes(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.send(Made::Bytes(bytes.into()))
    }

    fn end_part(&mut self, _: &Part) -> io::Result<()> {
        self.send(Made::End)
    }

    fn quarantine(&mut self, row: &Quarantined<'_>) -> io::Result<()> {
        let attributes = to_raw_value(&json!({
            "load": self.load.id, "table": self.load.table, "key": self.load.s3_key, "line": row.line,
            "column": row.column, "value": row.value,
        }))?;
        let column = row.column.map(|column| format!(", column {column}")).unwrap_or_default();
        self.send(Made::Quarantined(Box::new(QuarantineRecord {
            function: FUNCTION.to_owned(),
            reason: row.reason.to_string(),
            detail: format!("line {}{column}: {}: {:?}", row.line, row.reason, row.value),
            id: format!("{}:{}", self.load.id, row.line),
            sent_at: rfc3339(self.load.s3_modified.as_millisecond()),
            attributes,
            body_base64: base64(row.record),
        })))
    }
}

/// What was written.
#[derive(Debug, Default)]
pub struct Written {
    /// Files in Springboard.
    pub files: u32,
    /// Their size.
    pub bytes: u64,
    /// Rows in the quarantine.
    pub quarantined: CountsByReason,
}

/// Writes what comes through the channel, until it ends. `plan` says by which plan: a file that is there by the same plan has the
/// same bytes, and one that is there by another is replaced.
pub async fn write(app: &App, load: &Load, plan: &str, mut from: Receiver<Made>) -> Result<Written, IngestError> {
    let mut written = Written::default();
    let mut file = None;
    let mut rows = Vec::new();
    let mut row_bytes = 0;
    let mut quarantined = 0;
    while let Some(made) = from.recv().await {
        match made {
            Made::Begin(number) => file = Some(File::new(Places::of(load).file(number), plan)),
            Made::Bytes(bytes) => {
                written.bytes += bytes.len() as u64;
                if let Some(file) = &mut file {
                    file.append(&app.lake, &bytes).await?;
                }
            }
            Made::End => {
                if let Some(file) = file.take() {
                    file.end(app, load).await?;
                    written.files += 1;
                }
            }
            Made::Quarantined(row) => {
                quarantined += 1;
                if quarantined > app.config.max_quarantined {
                    let what = format!("more than {} rows do not fit", app.config.max_quarantined);
                    return Err(IngestError::Hopeless(Hopeless::TooManyMisfits, what));
                }
                row_bytes += row.body_base64.len() + row.detail.len();
                rows.push(((), *row));
                if rows.len() == QUARANTINED_ROWS || row_bytes >= QUARANTINED_BYTES {
                    keep(app, std::mem::take(&mut rows), &mut written).await?;
                    row_bytes = 0;
                }
            }
        }
    }
    keep(app, rows, &mut written).await?;
    Ok(written)
}

async fn keep(app: &App, rows: Vec<((), QuarantineRecord)>, written: &mut Written) -> Result<(), IngestError> {
    let kept = quarantine::keep(&app.lake, FUNCTION, rows).await;
    written.quarantined.append(kept.kept);
    if kept.failed.is_empty() { Ok(()) } else { Err(IngestError::Quarantine) }
}

/// A file that is being written: in one request, or in parts if it is larger than one.
struct File {
    key: String,
    attributes: Attributes,
    waiting: BytesMut,
    upload: Option<Upload>,
}

impl File {
    fn new(key: String, plan: &str) -> Self {
        let metadata = vec![(PLAN_METADATA, plan.to_owned())];
        let attributes = Attributes { content_type: "application/vnd.apache.parquet", metadata };
        Self { key, attributes, waiting: BytesMut::new(), upload: None }
    }

    async fn append(&mut self, bucket: &S3, bytes: &[u8]) -> Result<(), BucketError> {
        self.waiting.extend_from_slice(bytes);
        while self.waiting.len() > PART_BYTES {
            let part = self.waiting.split_to(PART_BYTES).freeze();
            let upload = match &mut self.upload {
                Some(upload) => upload,
                none => none.insert(bucket.begin(&self.key, &self.attributes).await?),
            };
            bucket.part(upload, part).await?;
        }
        Ok(())
    }

    async fn end(mut self, app: &App, load: &Load) -> Result<(), IngestError> {
        let bucket = &app.lake;
        let rest = self.waiting.split().freeze();
        let Some(mut upload) = self.upload.take() else {
            return match bucket.create(&self.key, rest.clone(), &self.attributes).await? {
                Created::New { .. } => Ok(()),
                Created::Exists => match self.other(bucket).await? {
                    None => Ok(()),
                    Some(e_tag) => {
                        hold(app, load).await?;
                        let instead = bucket.replace(&self.key, rest, &self.attributes, &e_tag).await?;
                        self.decided(bucket, &instead)
                    }
                },
            };
        };
        bucket.part(&mut upload, rest).await?;
        match bucket.complete(&upload).await? {
            Created::New { .. } => Ok(()),
            Created::Exists => match self.other(bucket).await? {
                None => Ok(bucket.abort(&upload).await?),
                Some(e_tag) => {
                    hold(app, load).await?;
                    let instead = bucket.complete_instead(&upload, &e_tag).await?;
                    self.decided(bucket, &instead)
                }
            },
        }
    }

    /// The `ETag` of the file that is there, if it was made by another plan.
    async fn other(&self, bucket: &S3) -> Result<Option<String>, BucketError> {
        let head = bucket.head(&self.key).await?;
        let is_same = self.attributes.metadata.iter().all(|(name, value)| head.metadata.get(*name) == Some(value));
        Ok((!is_same).then_some(head.e_tag))
    }

    fn decided(&self, bucket: &S3, created: &Created) -> Result<(), IngestError> {
        match created {
            Created::New { .. } => Ok(()),
            Created::Exists => Err(bucket.conflict(&self.key).into()),
        }
    }
}

/// Makes sure that the lease of a load has not been taken away, before something is replaced.
async fn hold(app: &App, load: &Load) -> Result<(), IngestError> {
    let until = load.leased_until.map_or(0, |until| until.as_millisecond());
    let left = u32::try_from((until - clock::unix_ms()) / 1_000).unwrap_or(0);
    Ok(app.registrar.renew(load, left.max(1)).await?)
}
