//! Brings one window up to date: carries out the steps of the state machine in S3.
//!
//! The key of a file depends only on its window and its first record, and the file is written only if the key does not exist.
//! If two invocations roll the same records, one of them wins, and the other reads from the metadata of the existing file
//! how far it goes. After that the high-water mark is moved, and only then segments are deleted. If an invocation dies in
//! between, the next one continues: it finds a file without its mark by the key, and ignores segments at or below the mark.

use std::{collections::BTreeMap, io::Write, ops::Range};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use futures_util::{StreamExt, stream};
use objects::{Attributes, Bucket, BucketError, Created, Listed, Upload};
use rolling::{
    run::{IndexError, Run},
    staging::{self, Item, Staged},
    window::{Part, Roll, State, Step},
};
use shared::{
    layout::KafkaKey,
    position::Position,
    rolled::{RolledError, RolledFile, Window},
};
use tracing::{info, warn};

use crate::app::App;

/// Number of segments that are read concurrently.
const CONCURRENT_READS: usize = 8;
/// How often a window is listed again because another invocation changed it meanwhile.
const MAX_LISTINGS: usize = 10;

/// Why a window could not be brought up to date. A later invocation tries again.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// A call of S3 failed.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// The contents of a segment are damaged.
    #[error("the segment {0} is damaged: {1}")]
    Segment(String, IndexError),
    /// A segment is shorter than its key says.
    #[error("the segment {0} has {1} bytes of lines instead of {2}")]
    Short(String, usize, u64),
    /// The key of a file exists, and the metadata of the object do not say which records it holds.
    #[error("{0} exists, but its metadata do not say which records it holds: {1}")]
    Unknown(String, RolledError),
    /// A file could not be compressed.
    #[error("the file could not be compressed: {0}")]
    Gzip(#[from] std::io::Error),
    /// Other invocations kept changing the window.
    #[error("other invocations changed the window {0} during {MAX_LISTINGS} attempts in a row")]
    Busy(String),
}

/// The objects of a window in the staging folder, according to a listing.
#[derive(Debug, Clone, Default)]
pub struct StagedWindow {
    pub staged: Vec<Staged>,
    /// The high-water marks. The highest one is valid.
    pub marks: Vec<Position>,
}

impl StagedWindow {
    /// When the oldest record arrived that is in no file yet, in milliseconds since 1970-01-01T00:00:00Z.
    pub fn oldest_open_ms(&self) -> Option<i64> {
        oldest_open_ms(&self.staged, self.marks.iter().copied().max().unwrap_or_default())
    }
}

fn oldest_open_ms(staged: &[Staged], rolled: Position) -> Option<i64> {
    let open = staged.iter().filter(|staged| staged.extent.last > rolled);
    open.map(|staged| staged.extent.oldest_ms).min()
}

/// What was done with a window.
#[derive(Debug, Default)]
pub struct Done {
    /// The files that were written, with their sizes in bytes.
    pub files: Vec<(RolledFile, u64)>,
    /// Number of files that another invocation had already written.
    pub files_already: usize,
    /// Number of records that were staged.
    pub staged: usize,
    /// Size of the staged segments in bytes.
    pub staged_bytes: usize,
    /// Number of records of the batch that were in a file or a segment already.
    pub already: usize,
    /// Number of gaps between segments.
    pub gaps: usize,
    /// When the oldest record that is in no file yet arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub oldest_open_ms: Option<i64>,
    /// Why a file that was due is not written. The records of the batch are staged all the same.
    pub not_rolled: Option<WindowError>,
}

/// The objects of a listing by window. Keys that are not ours are skipped.
pub fn windows(listed: &[Listed]) -> BTreeMap<Window, StagedWindow> {
    let mut windows: BTreeMap<Window, StagedWindow> = BTreeMap::new();
    for Listed { key, .. } in listed {
        match staging::parse(key) {
            Ok((window, Item::Segment(staged))) => windows.entry(window).or_default().staged.push(staged),
            Ok((window, Item::Mark(mark))) => windows.entry(window).or_default().marks.push(mark),
            Err(cause) => warn!(%cause, "the staging folder contains an object that this function did not write"),
        }
    }
    windows
}

/// Rolls files that are due and stages the rest of `fresh`. After `Ok`, every record of `fresh` is in a file or in a segment.
///
/// `now_ms` is the time of a tick, or `None` for a batch, which closes no file by age. If a file cannot be written, a batch
/// stages its records instead ([`Done::not_rolled`]), so that one table does not hold up its shard; a later invocation
/// rolls them. A tick returns the error, because it has no records to stage.
pub async fn bring_up_to_date<B: Bucket>(
    app: &App<B>,
    window: &Window,
    listed: StagedWindow,
    fresh: Run,
    now_ms: Option<i64>,
) -> Result<Done, WindowError> {
    let rolled = listed.marks.iter().copied().max().unwrap_or_default();
    let state = State { rolled, staged: listed.staged, fresh, now_ms, ..State::default() };
    let mut progress = Progress { app, window, state, marks: listed.marks, listings: 0, done: Done::default() };
    progress.done.already = progress.state.fresh.up_to(progress.state.tail());
    loop {
        let rolled = match progress.state.step(&app.config.rules.limits) {
            Step::Finished => break,
            Step::Stage(staged, range) => {
                progress.stage(staged, range).await?;
                continue;
            }
            Step::ListAgain(segment) => progress.list_again().await.map(|()| progress.state.suspect = Some(segment)),
            Step::Read(segment) => progress.read(segment).await,
            Step::Roll(roll) => progress.roll(&roll).await,
        };
        let rolled = match rolled {
            // Another invocation has written the file and deleted the segment in the meantime.
            Err(WindowError::Bucket(BucketError::Missing { .. })) => progress.list_again().await,
            rolled => rolled,
        };
        match rolled {
            Ok(()) => {}
            Err(cause) if now_ms.is_some() => return Err(cause),
            Err(cause) => {
                progress.state.only_stages = true;
                progress.done.not_rolled = Some(cause);
            }
        }
    }
    progress.done.oldest_open_ms = oldest_open_ms(&progress.state.staged, progress.state.rolled);
    clean_up(app, window, &progress.state, &progress.marks).await;
    Ok(progress.done)
}

/// A window while it is brought up to date.
struct Progress<'a, B> {
    app: &'a App<B>,
    window: &'a Window,
    state: State,
    /// The high-water marks in the staging folder.
    marks: Vec<Position>,
    /// How often the window was listed again.
    listings: usize,
    done: Done,
}

impl<B: Bucket> Progress<'_, B> {
    async fn list_again(&mut self) -> Result<(), WindowError> {
        self.listings += 1;
        if self.listings > MAX_LISTINGS {
            return Err(WindowError::Busy(self.window.to_string()));
        }
        let listed = self.app.lake.list(&staging::folder(self.window)).await?;
        let listed = windows(&listed).remove(self.window).unwrap_or_default();
        self.marks = listed.marks;
        self.state.rolled = self.marks.iter().copied().fold(self.state.rolled, Position::max);
        self.state.staged = listed.staged;
        Ok(())
    }

    /// Stages new records of the batch.
    async fn stage(&mut self, staged: Staged, range: Range<usize>) -> Result<(), WindowError> {
        let body = self.state.fresh.to_segment(range);
        let attributes = Attributes { content_type: "application/x-ndjson", metadata: Vec::new() };
        self.done.staged_bytes += body.len();
        // The key identifies the records, so an existing object holds the same ones.
        self.app.lake.create(&staging::key(self.window, &Item::Segment(staged)), body, &attributes).await?;
        self.done.staged += staged.extent.count;
        self.state.staged.push(staged);
        Ok(())
    }

    async fn read(&mut self, segment: Staged) -> Result<(), WindowError> {
        let key = staging::key(self.window, &Item::Segment(segment));
        let body = self.app.lake.get(&key, None).await?;
        let run = Run::of_segment(&body, segment.extent.bytes).map_err(|cause| WindowError::Segment(key, cause))?;
        self.state.contents.insert(segment, run);
        Ok(())
    }

    /// Writes a file, then moves the high-water mark.
    async fn roll(&mut self, roll: &Roll) -> Result<(), WindowError> {
        let last = write(self.app, self.window, &self.state, roll, &mut self.done).await?;
        if roll.after > self.state.rolled {
            warn!(window = %self.window, from = %self.state.rolled, to = %roll.after, "staged records have been deleted before they were in a file");
            self.done.gaps += 1;
        }
        let attributes = Attributes { content_type: "application/octet-stream", metadata: Vec::new() };
        self.app.lake.create(&staging::key(self.window, &Item::Mark(last)), Bytes::new(), &attributes).await?;
        self.marks.push(last);
        self.state.rolled = self.state.rolled.max(last);
        Ok(())
    }
}

/// Deletes segments whose records are all in files, and all marks except the highest. If that fails, the next invocation
/// deletes them.
async fn clean_up<B: Bucket>(app: &App<B>, window: &Window, state: &State, marks: &[Position]) {
    // Segments may be deleted only if a mark is stored that says that their records are in files.
    let Some(highest) = marks.iter().copied().max() else { return };
    let segments =
        state.staged.iter().filter(|staged| staged.extent.last <= highest).map(|staged| Item::Segment(*staged));
    let lower = marks.iter().filter(|mark| **mark < highest).map(|mark| Item::Mark(*mark));
    let mut keys: Vec<String> = segments.chain(lower).map(|item| staging::key(window, &item)).collect();
    keys.sort_unstable();
    keys.dedup();
    if !keys.is_empty()
        && let Err(cause) = app.lake.delete(&keys).await
    {
        warn!(%cause, objects = keys.len(), "segments whose records are in files could not be deleted from the staging folder; the next invocation will try again");
    }
}

/// Writes a file unless it exists already, and returns the position of the last record of the file that exists now.
async fn write<B: Bucket>(
    app: &App<B>,
    window: &Window,
    state: &State,
    roll: &Roll,
    done: &mut Done,
) -> Result<Position, WindowError> {
    let file = RolledFile {
        window: window.clone(),
        after: roll.after,
        first: roll.extent.first,
        last: roll.extent.last,
        count: roll.extent.count,
        oldest_ms: roll.extent.oldest_ms,
        newest_ms: roll.extent.newest_ms,
        reason: roll.reason,
    };
    let gzip = app.config.rules.gzip;
    let key = KafkaKey { table: window.table.clone(), id: file.id(), gzip }.to_string();
    let attributes = Attributes {
        content_type: if gzip { "application/gzip" } else { "application/x-ndjson" },
        metadata: file.metadata().to_vec(),
    };
    let (created, bytes) = match upload(app, window, state, roll, &key, &attributes).await {
        Err(WindowError::Bucket(BucketError::Raced { .. })) => {
            upload(app, window, state, roll, &key, &attributes).await?
        }
        uploaded => uploaded?,
    };
    if let Created::New { .. } = created {
        let (reason, records) = (roll.reason.name(), file.count);
        info!(file.key = %key, reason, records, size_bytes = bytes, "file rolled");
        done.files.push((file, bytes));
        return Ok(roll.extent.last);
    }
    let head = app.incoming.head(&key).await?;
    let found = RolledFile::of_metadata(|name| head.metadata.get(name).map(String::as_str))
        .map_err(|cause| WindowError::Unknown(key.clone(), cause))?;
    if found.window != *window || found.first != file.first {
        return Err(app.incoming.conflict(&key).into());
    }
    done.files_already += 1;
    Ok(found.last)
}

/// Uploads a file unless its key exists. Returns its size in bytes, too.
async fn upload<B: Bucket>(
    app: &App<B>,
    window: &Window,
    state: &State,
    roll: &Roll,
    key: &str,
    attributes: &Attributes,
) -> Result<(Created, u64), WindowError> {
    let (bucket, part_bytes) = (&app.incoming, app.part_bytes);
    let mut writer = Writer { bucket, key, attributes, part_bytes, buffer: BytesMut::new(), upload: None, bytes: 0 };
    let created = match fill(app, window, state, roll, &mut writer).await {
        Ok(()) => writer.finish().await,
        Err(cause) => Err(cause),
    };
    if let Some(upload) = &writer.upload
        && !matches!(created, Ok(Created::New { .. }))
        && let Err(cause) = app.incoming.abort(upload).await
    {
        warn!(%cause, "a multipart upload could not be aborted; the bucket's lifecycle rule will remove it");
    }
    Ok((created?, writer.bytes))
}

/// Passes the lines of a file to the writer in order, reading a few segments at a time.
async fn fill<B: Bucket>(
    app: &App<B>,
    window: &Window,
    state: &State,
    roll: &Roll,
    writer: &mut Writer<'_, B>,
) -> Result<(), WindowError> {
    let lines = stream::iter(&roll.parts).map(async |part| match part {
        Part::Whole(segment) => {
            let key = staging::key(window, &Item::Segment(*segment));
            let lines = app.lake.get(&key, Some(segment.extent.bytes)).await?;
            match lines.len() as u64 == segment.extent.bytes {
                true => Ok(lines),
                false => Err(WindowError::Short(key, lines.len(), segment.extent.bytes)),
            }
        }
        Part::Range(segment, range) => {
            Ok(state.contents.get(segment).map(|run| run.lines(range.clone())).unwrap_or_default())
        }
        Part::Fresh(range) => Ok(state.fresh.lines(range.clone())),
    });
    let mut lines = std::pin::pin!(lines.buffered(CONCURRENT_READS));
    // The header has neither a name nor a time, so that the same lines give the same bytes.
    let mut gzip = app.config.rules.gzip.then(|| GzBuilder::new().write(Vec::new(), Compression::default()));
    while let Some(lines) = lines.next().await {
        let lines = lines?;
        match &mut gzip {
            None => writer.write(&lines).await?,
            Some(gzip) => {
                gzip.write_all(&lines)?;
                let compressed = std::mem::take(gzip.get_mut());
                writer.write(&compressed).await?;
            }
        }
    }
    if let Some(compressed) = gzip.map(GzEncoder::finish) {
        writer.write(&compressed?).await?;
    }
    Ok(())
}

/// Writes an object while its contents are still being collected: small objects at once, larger ones in parts.
struct Writer<'a, B> {
    bucket: &'a B,
    key: &'a str,
    attributes: &'a Attributes,
    part_bytes: usize,
    buffer: BytesMut,
    upload: Option<Upload>,
    bytes: u64,
}

impl<B: Bucket> Writer<'_, B> {
    async fn write(&mut self, bytes: &[u8]) -> Result<(), WindowError> {
        self.bytes += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() > self.part_bytes {
            let part = self.buffer.split_to(self.part_bytes).freeze();
            self.part(part).await?;
        }
        Ok(())
    }

    async fn part(&mut self, part: Bytes) -> Result<(), WindowError> {
        let upload = match &mut self.upload {
            Some(upload) => upload,
            none => none.insert(self.bucket.begin(self.key, self.attributes).await?),
        };
        Ok(self.bucket.part(upload, part).await?)
    }

    async fn finish(&mut self) -> Result<Created, WindowError> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        Ok(match &mut self.upload {
            None => self.bucket.create(self.key, rest, self.attributes).await?,
            Some(upload) => {
                self.bucket.part(upload, rest).await?;
                self.bucket.complete(upload).await?
            }
        })
    }
}
