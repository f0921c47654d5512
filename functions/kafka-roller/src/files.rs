//! Writes files that have been begun, many at once.
//!
//! A file is identified by its window and first record, and is written only if its key does not exist. What it holds was decided
//! when it was begun, so whoever writes it writes the same bytes.

use std::{collections::BTreeSet, io::Write};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use futures_util::{StreamExt, stream};
use objects::{Attributes, Bucket, BucketError, Created, Head, Upload};
use rolling::{
    run::Extent,
    shard::{Begun, ShardId, State, Stored, Target},
};
use shared::{
    layout::{KafkaKey, Segment},
    position::Position,
    rolled::{Reason, RolledFile},
};
use tracing::{info, warn};

use crate::{
    app::App,
    error::RollError,
    read::{CONCURRENT_READS, Piece, Reader, by_segment},
};

/// Number of small files whose uploads run concurrently.
const CONCURRENT_WRITES: usize = 16;

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) table: Segment,
    pub(crate) begun: Begun,
    /// Whether somebody else may have written it already.
    pub(crate) resumed: bool,
}

/// What became of a file.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was written, with so many bytes.
    Written(u64),
    /// It exists, or existed until a consumer took it away.
    Found(Box<RolledFile>),
    /// Segments with some of its records are gone. These files hold the rest.
    Lost(Vec<Begun>),
}

/// Writes files of a shard. If a segment is gone, its records count as lost only if it is one of `lost`: a state that was read
/// later names it still.
pub(crate) async fn write<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    state: &State,
    reader: &Reader<'_, B>,
    jobs: &[Job],
    lost: &BTreeSet<String>,
) -> Vec<Result<Outcome, RollError>> {
    let _room = app.room.take(jobs.iter().map(|job| job.begun.extent.bytes).sum()).await;
    let tables = jobs.iter().map(|job| &job.table).collect();
    let wanted = |stored: &Stored| jobs.iter().any(|job| stored.may_hold(&job.table, job.begun.after));
    let looked_up = reader.look_up(state, &tables, wanted).await;
    let prepared = jobs.iter().map(async |job| {
        let output = Output::new(app, id, &job.table, &job.begun);
        let pieces = match &looked_up {
            Err(cause) => Err(cause.clone()),
            Ok(()) => output.prepare(state, reader, job, lost).await,
        };
        match pieces {
            Ok(Prepared::Pieces(pieces)) => (output, pieces),
            Ok(Prepared::Outcome(outcome)) => (Output { done: Some(Ok(outcome)), ..output }, Vec::new()),
            Err(cause) => (Output { done: Some(Err(cause)), ..output }, Vec::new()),
        }
    });
    let prepared: Vec<_> = stream::iter(prepared).buffered(CONCURRENT_WRITES).collect().await;
    let (mut outputs, pieces): (Vec<_>, Vec<_>) = prepared.into_iter().unzip();
    copy(reader, &mut outputs, &pieces).await;
    let ends = outputs.into_iter().map(Output::finish);
    stream::iter(ends).buffered(CONCURRENT_WRITES).collect().await
}

/// The file of a table that begins with this record, if there has ever been one: an earlier version may have written it without
/// having said so.
pub(crate) async fn existing<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    table: &Segment,
    extent: Extent,
    target: &Target,
) -> Result<Option<RolledFile>, RollError> {
    for gzip in [target.gzip, !target.gzip] {
        let target = Target { gzip, ..target.clone() };
        let begun = Begun { after: Position::START, extent, reason: Reason::Age, target };
        if let Some(found) = Output::new(app, id, table, &begun).newest().await? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Passes the lines of all files to their outputs, reading a few segments at a time.
async fn copy<B: Bucket>(reader: &Reader<'_, B>, outputs: &mut [Output<B>], pieces: &[Vec<Piece>]) {
    let segments = by_segment(pieces).into_iter().map(async |(source, ranges)| {
        let files: Vec<usize> = ranges.iter().map(|(file, _)| *file).collect();
        (files, reader.ranges(&source.name, &ranges).await)
    });
    let mut segments = std::pin::pin!(stream::iter(segments).buffered(CONCURRENT_READS));
    while let Some((files, read)) = segments.next().await {
        match read {
            Ok(parts) => {
                for (file, lines) in parts {
                    if let Some(output) = outputs.get_mut(file) {
                        output.write(&lines).await;
                    }
                }
            }
            Err(cause) => {
                for file in files {
                    if let Some(output) = outputs.get_mut(file) {
                        output.done.get_or_insert_with(|| Err(cause.clone()));
                    }
                }
            }
        }
    }
}

/// What has to be done for a file.
enum Prepared {
    /// These records have to be written.
    Pieces(Vec<Piece>),
    /// Nothing.
    Outcome(Outcome),
}

/// A file while it is written.
struct Output<B> {
    bucket: B,
    key: String,
    file: RolledFile,
    attributes: Attributes,
    /// A larger file is uploaded in parts of so many bytes.
    part_bytes: usize,
    gzip: Option<GzEncoder<Vec<u8>>>,
    buffer: BytesMut,
    upload: Option<Upload>,
    bytes: u64,
    /// What became of it, if it is known already.
    done: Option<Result<Outcome, RollError>>,
}

impl<B: Bucket> Output<B> {
    fn new(app: &App<B>, id: &ShardId, table: &Segment, begun: &Begun) -> Self {
        let gzip = begun.target.gzip;
        let file = begun.file(id.window(table));
        Self {
            bucket: app.incoming.sibling(&begun.target.bucket),
            key: KafkaKey { table: table.clone(), id: file.id(), gzip }.to_string(),
            attributes: Attributes {
                content_type: if gzip { "application/gzip" } else { "application/x-ndjson" },
                metadata: file.metadata().to_vec(),
            },
            file,
            part_bytes: app.part_bytes,
            // The header has neither a name nor a time, so that the same lines give the same bytes.
            gzip: gzip.then(|| GzBuilder::new().write(Vec::new(), Compression::default())),
            buffer: BytesMut::new(),
            upload: None,
            bytes: 0,
            done: None,
        }
    }

    /// Finds the records of the file, unless it exists already.
    async fn prepare(
        &self,
        state: &State,
        reader: &Reader<'_, B>,
        job: &Job,
        lost: &BTreeSet<String>,
    ) -> Result<Prepared, RollError> {
        if job.resumed
            && let Some(found) = self.newest().await?
        {
            return Ok(Prepared::Outcome(Outcome::Found(Box::new(found))));
        }
        let Begun { after, extent, .. } = job.begun;
        let pieces = reader.pieces(state, &job.table, after, Some(extent.last)).await?;
        let found = pieces.iter().filter_map(Piece::records).map(|records| records.extent.count).sum();
        if found == extent.count {
            return Ok(Prepared::Pieces(pieces));
        }
        let mut gone = pieces.iter().filter_map(|piece| match piece {
            Piece::Gone(_, name) => Some(name),
            Piece::Records(_) => None,
        });
        match (gone.clone().next(), gone.find(|name| !lost.contains(*name))) {
            (None, _) => Err(RollError::Count { first: extent.first, count: extent.count, found }),
            (_, Some(name)) => Err(RollError::Gone(name.clone())),
            (Some(_), None) => Ok(Prepared::Outcome(match self.newest().await? {
                Some(found) => Outcome::Found(Box::new(found)),
                None => Outcome::Lost(rest(&job.begun, &pieces)),
            })),
        }
    }

    /// The newest file that has ever been under the key.
    async fn newest(&self) -> Result<Option<RolledFile>, RollError> {
        let head = self.bucket.newest(&self.key).await?;
        head.map(|head| self.found(&head)).transpose()
    }

    /// What an object under the key says of itself.
    fn found(&self, head: &Head) -> Result<RolledFile, RollError> {
        let found = RolledFile::of_metadata(|name| head.metadata.get(name).map(String::as_str))
            .map_err(|cause| RollError::Unknown(self.key.clone(), cause))?;
        let is_ours = found.window == self.file.window && found.first == self.file.first;
        if is_ours { Ok(found) } else { Err(self.bucket.conflict(&self.key).into()) }
    }

    /// Adds lines. After an error nothing is added any more.
    async fn write(&mut self, lines: &Bytes) {
        if self.done.is_none()
            && let Err(cause) = self.add(lines).await
        {
            self.done = Some(Err(cause));
        }
    }

    async fn add(&mut self, lines: &[u8]) -> Result<(), RollError> {
        match &mut self.gzip {
            None => self.buffer.extend_from_slice(lines),
            Some(gzip) => {
                gzip.write_all(lines).map_err(|cause| RollError::Gzip(cause.to_string()))?;
                self.buffer.extend_from_slice(&std::mem::take(gzip.get_mut()));
            }
        }
        while self.buffer.len() > self.part_bytes {
            let part = self.buffer.split_to(self.part_bytes).freeze();
            self.part(part).await?;
        }
        Ok(())
    }

    async fn part(&mut self, part: Bytes) -> Result<(), RollError> {
        self.bytes += part.len() as u64;
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(self.bucket.begin(&self.key, &self.attributes).await?),
        };
        Ok(self.bucket.part(upload, part).await?)
    }

    /// Writes what is left, unless the outcome is known already.
    async fn finish(mut self) -> Result<Outcome, RollError> {
        let outcome = match self.done.take() {
            Some(outcome) => outcome,
            None => self.end().await,
        };
        if let Some(upload) = &self.upload
            && !matches!(outcome, Ok(Outcome::Written(_)))
            && let Err(cause) = self.bucket.abort(upload).await
        {
            warn!(%cause, "a multipart upload could not be aborted; the bucket's lifecycle rule will remove it");
        }
        outcome
    }

    async fn end(&mut self) -> Result<Outcome, RollError> {
        if let Some(gzip) = self.gzip.take() {
            let compressed = gzip.finish().map_err(|cause| RollError::Gzip(cause.to_string()))?;
            self.buffer.extend_from_slice(&compressed);
        }
        let rest = std::mem::take(&mut self.buffer).freeze();
        let created = if self.upload.is_none() {
            self.bytes = rest.len() as u64;
            self.bucket.create(&self.key, rest, &self.attributes).await?
        } else {
            self.part(rest).await?;
            match &self.upload {
                Some(upload) => self.bucket.complete(upload).await?,
                None => Created::Exists,
            }
        };
        if created == Created::Exists {
            return match self.bucket.head(&self.key).await {
                // A consumer has taken it away meanwhile.
                Err(BucketError::Missing { .. }) => Ok(Outcome::Found(Box::new(self.file.clone()))),
                head => self.found(&head?).map(|found| Outcome::Found(Box::new(found))),
            };
        }
        let (reason, records) = (self.file.reason.name(), self.file.count);
        info!(file.key = %self.key, reason, records, size_bytes = self.bytes, "file rolled");
        Ok(Outcome::Written(self.bytes))
    }
}

/// The files that hold what is left of one. Between them are gaps, which show in the position after which each begins.
fn rest(begun: &Begun, pieces: &[Piece]) -> Vec<Begun> {
    let (mut rest, mut after, mut sum) = (Vec::new(), begun.after, None::<Extent>);
    let reason = if begun.reason == Reason::Age { Reason::Age } else { Reason::Gap };
    let file = |after: Position, extent: Extent, reason| {
        // Segments of the earlier layout may overlap.
        let after = after.min(extent.first.before());
        Begun { after, extent, reason, target: begun.target.clone() }
    };
    for piece in pieces {
        match piece {
            Piece::Gone(last, _) => {
                rest.extend(sum.take().map(|extent| file(after, extent, Reason::Gap)));
                after = after.max((*last).min(begun.extent.last));
            }
            Piece::Records(records) => sum = Some(sum.map_or(records.extent, |sum| sum.and(records.extent))),
        }
    }
    rest.extend(sum.map(|extent| file(after, extent, reason)));
    rest
}
