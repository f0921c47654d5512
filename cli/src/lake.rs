//! Reading the files of the lake: row by row, as much of them as is needed.

use std::{
    io::{self, Write},
    ops::Range,
    sync::Arc,
};

use arrow::array::RecordBatch;
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures_util::future::try_join_all;
use objects::{Bucket, BucketError, S3};
use parquet::{
    DecodeResult,
    arrow::{ProjectionMask, push_decoder::ParquetPushDecoderBuilder},
    errors::ParquetError,
    file::metadata::{ParquetMetaData, ParquetMetaDataPushDecoder},
    schema::types::SchemaDescriptor,
};
use shared::layout::{EventsFormat, EventsKey};

use crate::{days, replay::plan::Selection};

/// What is read of the end of a Parquet file at first. The footer of a file with three types has about 10 KB.
const FOOTER_BYTES: u64 = 64 << 10;

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
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

/// The files of the days, with their sizes in bytes: those with events of any type, and those of each type.
pub async fn list(lake: &S3, selection: &Selection) -> Result<Vec<(EventsKey, u64)>, BucketError> {
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

/// Who reads the rows of a file.
pub trait Rows {
    /// The leaf columns of a Parquet file that are read.
    fn columns(&self, schema: &SchemaDescriptor) -> ProjectionMask;

    /// Takes rows of a Parquet file, of which the first has this number, counted from 0.
    fn batch(&mut self, rows: &RecordBatch, first: usize) -> Result<(), ReadError>;

    /// Takes a row of an NDJSON file with this number, counted from 0.
    fn line(&mut self, line: &[u8], row: usize);
}

/// Reads a file of `size` bytes.
pub async fn read(lake: &S3, key: &EventsKey, size: u64, rows: &mut impl Rows) -> Result<(), ReadError> {
    match key.format {
        EventsFormat::Parquet => read_parquet(lake, &key.to_string(), size, rows).await,
        EventsFormat::Ndjson => read_lines(lake, key, Lines::new(rows), Ok).await,
        EventsFormat::NdjsonGz => {
            read_lines(lake, key, MultiGzDecoder::new(Lines::new(rows)), MultiGzDecoder::finish).await
        }
    }
}

/// Writes the file piece by piece into what reads its lines, because it may be larger than memory.
async fn read_lines<'a, W: Write, R: Rows + 'a>(
    lake: &S3,
    key: &EventsKey,
    mut lines: W,
    finish: impl FnOnce(W) -> io::Result<Lines<'a, R>>,
) -> Result<(), ReadError> {
    let key = key.to_string();
    let mut object = lake.open(&key).await?;
    while let Some(piece) = object.next().await? {
        lines.write_all(&piece)?;
    }
    finish(lines)?.finish();
    Ok(())
}

/// Splits what is written into it into lines.
struct Lines<'a, R> {
    rows: &'a mut R,
    /// The line that has begun.
    line: Vec<u8>,
    /// Lines that have ended.
    ended: usize,
}

impl<'a, R: Rows> Lines<'a, R> {
    const fn new(rows: &'a mut R) -> Self {
        Self { rows, line: Vec::new(), ended: 0 }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        self.rows.line(&line, self.ended);
        self.ended += 1;
    }

    fn finish(mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }
}

impl<R: Rows> Write for Lines<'_, R> {
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

async fn read_parquet(lake: &S3, key: &str, size: u64, rows: &mut impl Rows) -> Result<(), ReadError> {
    let metadata = metadata(lake, key, size).await?;
    let columns = rows.columns(metadata.file_metadata().schema_descr());
    let mut decoder =
        ParquetPushDecoderBuilder::try_new_decoder(Arc::new(metadata))?.with_projection(columns).build()?;
    let mut first = 0;
    loop {
        match decoder.try_decode()? {
            DecodeResult::NeedsData(ranges) => {
                let bytes = read_ranges(lake, key, &ranges).await?;
                decoder.push_ranges(ranges, bytes)?;
            }
            DecodeResult::Data(batch) => {
                rows.batch(&batch, first)?;
                first += batch.num_rows();
            }
            DecodeResult::Finished => return Ok(()),
        }
    }
}

async fn metadata(lake: &S3, key: &str, size: u64) -> Result<ParquetMetaData, ReadError> {
    let mut decoder = ParquetMetaDataPushDecoder::try_new(size)?;
    let footer = size.saturating_sub(FOOTER_BYTES)..size;
    decoder.push_range(footer.clone(), lake.range(key, footer).await?)?;
    loop {
        match decoder.try_decode()? {
            DecodeResult::Data(metadata) => return Ok(metadata),
            DecodeResult::NeedsData(ranges) => {
                let bytes = read_ranges(lake, key, &ranges).await?;
                decoder.push_ranges(ranges, bytes)?;
            }
            DecodeResult::Finished => {
                return Err(ParquetError::General("it ends before its metadata".to_owned()).into());
            }
        }
    }
}

async fn read_ranges(lake: &S3, key: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, BucketError> {
    try_join_all(ranges.iter().map(|range| lake.range(key, range.clone()))).await
}
