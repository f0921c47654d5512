//! The search for an event in the files of the lake.

use std::{
    io::{self, Write},
    ops::Range,
    sync::Arc,
};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::TimestampMicrosecondType,
};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::{StreamExt, future::try_join_all, stream};
use jiff::Timestamp;
use objects::{Bucket, BucketError, S3};
use parquet::{
    DecodeResult,
    arrow::{ProjectionMask, push_decoder::ParquetPushDecoderBuilder},
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataPushDecoder},
};
use serde::Deserialize;
use shared::layout::{EventsFormat, EventsKey};

use super::Row;
use crate::{console::Console, days, replay::plan::Selection};

const CONCURRENT_FILES: usize = 8;
/// The columns of the envelope that are read.
const COLUMNS: [&str; 4] = ["event_id", "source", "type", "sent_at"];
/// What is read of the end of a Parquet file at first. The footer of a file with three types has about 10 KB.
const FOOTER_BYTES: u64 = 64 << 10;

#[derive(Debug, thiserror::Error)]
enum SearchError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("the file is no Parquet that can be read: {0}")]
    Parquet(#[from] ParquetError),
    #[error("the file has no column {0}, so parquet-writer did not write it")]
    Column(&'static str),
    #[error("the file is no gzip that can be read: {0}")]
    Gzip(#[from] io::Error),
    #[error("line {line} is no row: {cause}")]
    Line { line: usize, cause: serde_json::Error },
}

/// The members of a line that are read.
#[derive(Deserialize)]
struct Line {
    event_id: String,
    source: Option<String>,
    #[serde(rename = "type")]
    type_name: Option<String>,
    sent_at: Option<String>,
}

/// The rows of the event, how many files were searched, and which could not be.
pub(super) async fn rows(
    lake: &S3,
    id: &str,
    selection: &Selection,
    console: &Console,
) -> Result<((Vec<Row>, usize), Vec<String>), String> {
    let files = list(lake, selection).await.map_err(|error| error.to_string())?;
    let progress = console.progress("Searching", "files", Some(files.len()));
    let searches = files.iter().map(|(key, size)| async move { (key, search(lake, key, *size, id).await) });
    let mut searches = stream::iter(searches).buffered(CONCURRENT_FILES);
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    while let Some((key, found)) = searches.next().await {
        progress.add(1);
        match found {
            Ok(found) => rows.extend(found),
            Err(error) => problems.push(format!("s3://{}/{key}: {error}", lake.name())),
        }
    }
    Ok(((rows, files.len()), problems))
}

/// The files of the days: those with events of any type, and those of each type.
async fn list(lake: &S3, selection: &Selection) -> Result<Vec<(EventsKey, u64)>, BucketError> {
    let of_any = |key: &EventsKey| key.only.is_none().then_some(key.day);
    let (mut files, _) = days::list(lake, "events/", selection, of_any).await?;
    for folder in lake.folders("events/").await? {
        if folder.parse::<i16>().is_err() {
            let of_type = |key: &EventsKey| Some(key.day);
            files.extend(days::list(lake, &format!("events/{folder}/"), selection, of_type).await?.0);
        }
    }
    Ok(files)
}

/// The rows of a file of `size` bytes that are the event `id`.
async fn search(lake: &S3, key: &EventsKey, size: u64, id: &str) -> Result<Vec<Row>, SearchError> {
    let file = format!("s3://{}/{key}", lake.name());
    match key.format {
        EventsFormat::Parquet => in_parquet(lake, key, size, id, &file).await,
        EventsFormat::Ndjson => in_lines(lake, key, Lines::new(id, file), Lines::finish).await,
        EventsFormat::NdjsonGz => {
            let lines = MultiGzDecoder::new(Lines::new(id, file));
            in_lines(lake, key, lines, |lines| lines.finish()?.finish()).await
        }
    }
}

/// Writes the file piece by piece into what searches it, because it may be larger than memory.
async fn in_lines<W: Write>(
    lake: &S3,
    key: &EventsKey,
    mut search: W,
    finish: impl FnOnce(W) -> Result<Vec<Row>, SearchError>,
) -> Result<Vec<Row>, SearchError> {
    let key = key.to_string();
    let mut object = lake.open(&key).await?;
    while let Some(piece) = object.next().await? {
        search.write_all(&piece)?;
    }
    finish(search)
}

/// Searches the lines of a file that is written into it.
struct Lines<'a> {
    id: &'a str,
    file: String,
    /// The line that has begun.
    line: Vec<u8>,
    /// Lines that have ended.
    ended: usize,
    rows: Vec<Row>,
    /// The first line that may be the event and is no row.
    broken: Option<SearchError>,
}

impl<'a> Lines<'a> {
    const fn new(id: &'a str, file: String) -> Self {
        Self { id, file, line: Vec::new(), ended: 0, rows: Vec::new(), broken: None }
    }

    fn end_line(&mut self) {
        let row = self.ended;
        self.ended += 1;
        let line = std::mem::take(&mut self.line);
        // Most lines are not the event, and need no parser. JSON escapes some characters.
        let is_escaped = |character: char| matches!(character, '"' | '\\') || character.is_control();
        let id = self.id.split(is_escaped).next().unwrap_or_default();
        if !id.is_empty() && !line.windows(id.len()).any(|window| window == id.as_bytes()) {
            return;
        }
        match serde_json::from_slice::<Line>(&line) {
            Ok(line) if line.event_id == self.id => {
                let (type_name, source, sent_at) = (line.type_name, line.source, line.sent_at);
                self.rows.push(Row { file: self.file.clone(), row, type_name, source, sent_at });
            }
            Ok(_) => {}
            Err(cause) => drop(self.broken.get_or_insert(SearchError::Line { line: row + 1, cause })),
        }
    }

    fn finish(mut self) -> Result<Vec<Row>, SearchError> {
        if !self.line.is_empty() {
            self.end_line();
        }
        // What was found counts more than what could not be read.
        match self.broken {
            Some(broken) if self.rows.is_empty() => Err(broken),
            _ => Ok(self.rows),
        }
    }
}

impl Write for Lines<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        let mut pieces = piece.split(|byte| *byte == b'\n');
        self.line.extend_from_slice(pieces.next().unwrap_or_default());
        for next in pieces {
            self.end_line();
            self.line.extend_from_slice(next);
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn in_parquet(lake: &S3, key: &EventsKey, size: u64, id: &str, file: &str) -> Result<Vec<Row>, SearchError> {
    let key = key.to_string();
    let metadata = metadata(lake, &key, size).await?;
    let schema = metadata.file_metadata().schema_descr();
    let columns = ProjectionMask::columns(schema, COLUMNS);
    let mut decoder =
        ParquetPushDecoderBuilder::try_new_decoder(Arc::new(metadata))?.with_projection(columns).build()?;
    let (mut rows, mut first) = (Vec::new(), 0);
    loop {
        match decoder.try_decode()? {
            DecodeResult::NeedsData(ranges) => {
                let bytes = read(lake, &key, &ranges).await?;
                decoder.push_ranges(ranges, bytes)?;
            }
            DecodeResult::Data(batch) => {
                rows.extend(in_batch(&batch, first, id, file)?);
                first += batch.num_rows();
            }
            DecodeResult::Finished => return Ok(rows),
        }
    }
}

async fn metadata(lake: &S3, key: &str, size: u64) -> Result<ParquetMetaData, SearchError> {
    let mut decoder = ParquetMetaDataPushDecoder::try_new(size)?;
    let footer = size.saturating_sub(FOOTER_BYTES)..size;
    decoder.push_range(footer.clone(), lake.range(key, footer).await?)?;
    loop {
        match decoder.try_decode()? {
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::NeedsData(ranges) => {
                let bytes = read(lake, key, &ranges).await?;
                decoder.push_ranges(ranges, bytes)?;
            }
            DecodeResult::Finished => {
                return Err(ParquetError::General("it ends before its metadata".to_owned()).into());
            }
        }
    }
}

async fn read(lake: &S3, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BucketError> {
    try_join_all(ranges.iter().map(|range| lake.range(key, range.clone()))).await
}

/// The event's rows of a batch whose first row is row number `first` of the file.
fn in_batch(batch: &RecordBatch, first: usize, id: &str, file: &str) -> Result<Vec<Row>, SearchError> {
    let text = |name: &'static str| {
        let column = batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
        column.ok_or(SearchError::Column(name))
    };
    let [ids, source, type_name] = [text("event_id")?, text("source")?, text("type")?];
    let sent_at =
        batch.column_by_name("sent_at").and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let sent_at = sent_at.ok_or(SearchError::Column("sent_at"))?;
    let of_event = ids.iter().enumerate().filter(|(_, other)| *other == Some(id));
    Ok(of_event
        .map(|(row, _)| Row {
            file: file.to_owned(),
            row: first + row,
            type_name: type_name.is_valid(row).then(|| type_name.value(row).to_owned()),
            source: source.is_valid(row).then(|| source.value(row).to_owned()),
            sent_at: sent_at.is_valid(row).then(|| sent_at.value(row)).and_then(instant),
        })
        .collect())
}

fn instant(micros: i64) -> Option<String> {
    Some(Timestamp::from_microsecond(micros).ok()?.to_string())
}
