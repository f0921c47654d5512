//! One window, brought up to date: what the window machine says, done in S3.
//!
//! A file is written under a name that depends on its first record alone, and only if the name is free. So of two that cut
//! the same records one wins, and the other reads from the winner's metadata how far it went. Then the high-water mark is
//! moved, and only then are segments deleted. Wherever this stops, the next one goes on: a file without its mark is found
//! by its name, a segment at or below the mark is ignored.

use std::{collections::BTreeMap, io::Write};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use futures_util::{StreamExt, stream};
use shared::{
    layout::KafkaKey,
    position::Position,
    rolled::{RolledError, RolledFile, Window},
};
use tracing::{info, warn};

use crate::{
    app::App,
    bucket::{About, Bucket, BucketError, Created, Upload},
    run::{IndexError, Run},
    staging::{self, Item, Staged},
    window::{Part, Roll, State, Step},
};

/// Segments that are read at once.
const CONCURRENT_READS: usize = 8;
/// How often a window is looked at anew because another invocation changed it meanwhile.
const MAX_LOOKS: usize = 10;

/// Why a window could not be brought up to date. Every cause is a dependency that may recover.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// S3 did not do what it was asked for.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// A segment is not what its key says.
    #[error("the segment {0} is damaged: {1}")]
    Segment(String, IndexError),
    /// A segment is shorter than its key says.
    #[error("the segment {0} holds {1} of {2} bytes")]
    Short(String, usize, u64),
    /// A file's name is taken by something else.
    #[error("s3://{bucket}/{key} exists and is another file; it was not overwritten")]
    Conflict {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
    /// A file's name is taken by an object that does not say what it holds.
    #[error("{0} exists and does not say what it holds: {1}")]
    Unknown(String, RolledError),
    /// A file could not be compressed.
    #[error("the file could not be compressed: {0}")]
    Gzip(#[from] std::io::Error),
    /// Others changed the window as fast as it was looked at.
    #[error("the window {0} was changed by others {MAX_LOOKS} times in a row")]
    Busy(String),
}

/// What a listing shows of a window.
#[derive(Debug, Clone, Default)]
pub struct Listed {
    /// The segments.
    pub staged: Vec<Staged>,
    /// The high-water marks. The highest one counts.
    pub marks: Vec<Position>,
}

/// What was done to a window.
#[derive(Debug, Default)]
pub struct Done {
    /// The files that were written, and their bytes.
    pub files: Vec<(RolledFile, u64)>,
    /// Files that another invocation had written.
    pub files_already: usize,
    /// Records that were staged.
    pub staged: usize,
    /// Bytes that were staged.
    pub staged_bytes: usize,
    /// Records of the batch that were in a file or a segment before.
    pub already: usize,
    /// Gaps between segments.
    pub gaps: usize,
    /// When the oldest record that is in no file arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub oldest_open_ms: Option<i64>,
}

/// What a listing shows, by window. Keys of others are passed over.
pub fn windows(keys: &[String]) -> BTreeMap<Window, Listed> {
    let mut windows: BTreeMap<Window, Listed> = BTreeMap::new();
    for key in keys {
        match staging::parse(key) {
            Ok((window, Item::Segment(staged))) => windows.entry(window).or_default().staged.push(staged),
            Ok((window, Item::Mark(mark))) => windows.entry(window).or_default().marks.push(mark),
            Err(cause) => warn!(%cause, "an object in the staging folder is not ours"),
        }
    }
    windows
}

/// Rolls what is due and stages what is left of `fresh`. After `Ok`, every record of `fresh` is in a file or in a segment.
///
/// `now_ms`: the time of a tick; `None` for a batch, which closes no file by age.
pub async fn settle<B: Bucket>(
    app: &App<B>,
    window: &Window,
    listed: Listed,
    fresh: Run,
    now_ms: Option<i64>,
) -> Result<Done, WindowError> {
    let (mut done, mut looks) = (Done::default(), 0);
    let mut marks = listed.marks;
    let rolled = marks.iter().copied().max().unwrap_or_default();
    let mut state = State { rolled, staged: listed.staged, fresh, now_ms, ..State::default() };
    let durable = state.staged.iter().map(|staged| staged.extent.last).fold(rolled, Position::max);
    done.already = state.fresh.up_to(durable);
    loop {
        match state.step(&app.config.limits) {
            Step::Rest => break,
            Step::LookAgain(segment) => {
                look(app, window, &mut state, &mut marks, &mut looks).await?;
                state.suspect = Some(segment);
            }
            Step::Open(segment) => match open(app, window, &segment).await {
                Ok(run) => drop(state.opened.insert(segment, run)),
                Err(WindowError::Bucket(BucketError::Missing(..))) => {
                    look(app, window, &mut state, &mut marks, &mut looks).await?;
                }
                Err(cause) => return Err(cause),
            },
            Step::Roll(roll) => match write(app, window, &state, &roll, &mut done).await {
                Ok(last) => {
                    if roll.after > state.rolled {
                        warn!(%window, from = %state.rolled, to = %roll.after, "staged records are gone, no file holds them");
                        done.gaps += 1;
                    }
                    mark(app, window, last, &mut marks).await?;
                    state.rolled = state.rolled.max(last);
                }
                // Another invocation has written the file and deleted the segment meanwhile.
                Err(WindowError::Bucket(BucketError::Missing(..))) => {
                    look(app, window, &mut state, &mut marks, &mut looks).await?;
                }
                Err(cause) => return Err(cause),
            },
            Step::Stage(staged, range) => {
                let body = state.fresh.to_segment(range);
                let about = About { content_type: "application/x-ndjson", metadata: Vec::new() };
                done.staged_bytes += body.len();
                // A key that is taken names the same records.
                app.lake.create(&staging::key(window, &Item::Segment(staged)), body, &about).await?;
                done.staged += staged.extent.count;
                state.staged.push(staged);
            }
        }
    }
    let open = state.staged.iter().filter(|staged| staged.extent.last > state.rolled);
    done.oldest_open_ms = open.map(|staged| staged.extent.oldest_ms).min();
    sweep(app, window, &state, &marks).await;
    Ok(done)
}

/// Lists the window again.
async fn look<B: Bucket>(
    app: &App<B>,
    window: &Window,
    state: &mut State,
    marks: &mut Vec<Position>,
    looks: &mut usize,
) -> Result<(), WindowError> {
    *looks += 1;
    if *looks > MAX_LOOKS {
        return Err(WindowError::Busy(window.to_string()));
    }
    let keys = app.lake.list(&staging::folder(window)).await?;
    let listed = windows(&keys).remove(window).unwrap_or_default();
    *marks = listed.marks;
    state.rolled = marks.iter().copied().fold(state.rolled, Position::max);
    state.staged = listed.staged;
    Ok(())
}

async fn open<B: Bucket>(app: &App<B>, window: &Window, segment: &Staged) -> Result<Run, WindowError> {
    let key = staging::key(window, &Item::Segment(*segment));
    let body = app.lake.get(&key, None).await?;
    Run::of_segment(&body, segment.extent.bytes).map_err(|cause| WindowError::Segment(key, cause))
}

/// Moves the high-water mark.
async fn mark<B: Bucket>(
    app: &App<B>,
    window: &Window,
    last: Position,
    marks: &mut Vec<Position>,
) -> Result<(), WindowError> {
    let about = About { content_type: "application/octet-stream", metadata: Vec::new() };
    app.lake.create(&staging::key(window, &Item::Mark(last)), Bytes::new(), &about).await?;
    marks.push(last);
    Ok(())
}

/// Deletes segments whose records are all in files, and marks below the highest. What is left over now, the next one
/// finds.
async fn sweep<B: Bucket>(app: &App<B>, window: &Window, state: &State, marks: &[Position]) {
    // Only a mark that is durable makes segments superfluous.
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
        warn!(%cause, objects = keys.len(), "what is in files could not be deleted from the staging folder yet");
    }
}

/// Writes a file unless it exists, and gives back the last record of the one that is there.
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
    let gzip = app.config.gzip;
    let key = KafkaKey { table: window.table.clone(), id: file.id(), gzip }.to_string();
    let about = About {
        content_type: if gzip { "application/gzip" } else { "application/x-ndjson" },
        metadata: file.metadata().to_vec(),
    };
    let mut writer = Writer {
        bucket: &app.incoming,
        key: &key,
        about: &about,
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
        && !matches!(created, Ok(Created::New))
        && let Err(cause) = app.incoming.abort(upload).await
    {
        warn!(%cause, "an upload was left behind; the bucket's lifecycle rule removes it");
    }
    if created? == Created::New {
        let (reason, records, bytes) = (roll.reason.name(), file.count, writer.bytes);
        info!(file.key = %key, reason, records, size_bytes = bytes, "file rolled");
        done.files.push((file, bytes));
        return Ok(roll.extent.last);
    }
    let metadata = app.incoming.metadata(&key).await?;
    let found = RolledFile::of_metadata(|name| metadata.get(name).map(String::as_str))
        .map_err(|cause| WindowError::Unknown(key.clone(), cause))?;
    if found.window != *window || found.first != file.first {
        return Err(WindowError::Conflict { bucket: app.config.incoming_bucket.clone(), key });
    }
    done.files_already += 1;
    Ok(found.last)
}

/// Hands the lines of a file to the writer, in order, a few segments at a time.
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
        Part::Opened(segment, range) => {
            Ok(state.opened.get(segment).map(|run| run.lines(range.clone())).unwrap_or_default())
        }
        Part::Fresh(range) => Ok(state.fresh.lines(range.clone())),
    });
    let mut lines = std::pin::pin!(lines.buffered(CONCURRENT_READS));
    // The same lines give the same bytes: no name, no time.
    let mut gzip = app.config.gzip.then(|| GzBuilder::new().write(Vec::new(), Compression::default()));
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

/// An object that is written as it grows: at once when it is small, in parts when it is not.
struct Writer<'a, B> {
    bucket: &'a B,
    key: &'a str,
    about: &'a About,
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
            none => none.insert(self.bucket.begin(self.key, self.about).await?),
        };
        Ok(self.bucket.part(upload, part).await?)
    }

    async fn finish(&mut self) -> Result<Created, WindowError> {
        let rest = std::mem::take(&mut self.buffer).freeze();
        if self.upload.is_none() {
            return Ok(self.bucket.create(self.key, rest, self.about).await?);
        }
        self.part(rest).await?;
        match &self.upload {
            Some(upload) => Ok(self.bucket.complete(upload).await?),
            None => Ok(Created::New),
        }
    }
}
