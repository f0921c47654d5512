//! Brings one window up to date: carries out the steps of the state machine in S3.
//!
//! The key of a file depends only on its window and its first record, and the file is written only if the key does not exist.
//! If two invocations roll the same records, one of them wins, and the other reads from the metadata of the existing file
//! how far it goes. After that the high-water mark is moved, and only then segments are deleted. If an invocation dies in
//! between, the next one continues: it finds a file without its mark by the key, and ignores segments at or below the mark.

use std::{collections::BTreeMap, io::Write};

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
/// `now_ms` is the time of a tick, or `None` for a batch, which closes no file by age.
pub async fn bring_up_to_date<B: Bucket>(
    app: &App<B>,
    window: &Window,
    listed: StagedWindow,
    fresh: Run,
    now_ms: Option<i64>,
) -> Result<Done, WindowError> {
    let (mut done, mut listings) = (Done::default(), 0);
    let mut marks = listed.marks;
    let rolled = marks.iter().copied().max().unwrap_or_default();
    let mut state = State { rolled, staged: listed.staged, fresh, now_ms, ..State::default() };
    let durable = state.staged.iter().map(|staged| staged.extent.last).fold(rolled, Position::max);
    done.already = state.fresh.up_to(durable);
    loop {
        match state.step(&app.config.rules.limits) {
            Step::Finished => break,
            Step::ListAgain(segment) => {
                list_again(app, window, &mut state, &mut marks, &mut listings).await?;
                state.suspect = Some(segment);
            }
            Step::Read(segment) => match read(app, window, &segment).await {
                Ok(run) => drop(state.contents.insert(segment, run)),
                Err(WindowError::Bucket(BucketError::Missing { .. })) => {
                    list_again(app, window, &mut state, &mut marks, &mut listings).await?;
                }
                Err(cause) => return Err(cause),
            },
            Step::Roll(roll) => match write(app, window, &state, &roll, &mut done).await {
                Ok(last) => {
                    if roll.after > state.rolled {
                        warn!(%window, from = %state.rolled, to = %roll.after, "staged records have been deleted before they were in a file");
                        done.gaps += 1;
                    }
                    move_mark(app, window, last, &mut marks).await?;
                    state.rolled = state.rolled.max(last);
                }
                // Another invocation has written the file and deleted the segment in the meantime.
                Err(WindowError::Bucket(BucketError::Missing { .. })) => {
                    list_again(app, window, &mut state, &mut marks, &mut listings).await?;
                }
                Err(cause) => return Err(cause),
            },
            Step::Stage(staged, range) => {
                let body = state.fresh.to_segment(range);
                let attributes = Attributes { content_type: "application/x-ndjson", metadata: Vec::new() };
                done.staged_bytes += body.len();
                // The key identifies the records, so an existing object holds the same ones.
                app.lake.create(&staging::key(window, &Item::Segment(staged)), body, &attributes).await?;
                done.staged += staged.extent.count;
                state.staged.push(staged);
            }
        }
    }
    let open = state.staged.iter().filter(|staged| staged.extent.last > state.rolled);
    done.oldest_open_ms = open.map(|staged| staged.extent.oldest_ms).min();
    clean_up(app, window, &state, &marks).await;
    Ok(done)
}

/// Lists the window again.
async fn list_again<B: Bucket>(
    app: &App<B>,
    window: &Window,
    state: &mut State,
    marks: &mut Vec<Position>,
    listings: &mut usize,
) -> Result<(), WindowError> {
    *listings += 1;
    if *listings > MAX_LISTINGS {
        return Err(WindowError::Busy(window.to_string()));
    }
    let listed = app.lake.list(&staging::folder(window)).await?;
    let listed = windows(&listed).remove(window).unwrap_or_default();
    *marks = listed.marks;
    state.rolled = marks.iter().copied().fold(state.rolled, Position::max);
    state.staged = listed.staged;
    Ok(())
}

async fn read<B: Bucket>(app: &App<B>, window: &Window, segment: &Staged) -> Result<Run, WindowError> {
    let key = staging::key(window, &Item::Segment(*segment));
    let body = app.lake.get(&key, None).await?;
    Run::of_segment(&body, segment.extent.bytes).map_err(|cause| WindowError::Segment(key, cause))
}

/// Moves the high-water mark.
async fn move_mark<B: Bucket>(
    app: &App<B>,
    window: &Window,
    last: Position,
    marks: &mut Vec<Position>,
) -> Result<(), WindowError> {
    let attributes = Attributes { content_type: "application/octet-stream", metadata: Vec::new() };
    app.lake.create(&staging::key(window, &Item::Mark(last)), Bytes::new(), &attributes).await?;
    marks.push(last);
    Ok(())
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
    let mut writer = Writer {
        bucket: &app.incoming,
        key: &key,
        attributes: &attributes,
        part_bytes: app.part_bytes,
        buffer: BytesMut::new(),
        upload: None,
        bytes: 0,
    };
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
    if let Created::New { .. } = created? {
        let (reason, records, bytes) = (roll.reason.name(), file.count, writer.bytes);
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
