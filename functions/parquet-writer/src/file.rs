//! A file of events in any of the formats, built chunk by chunk.

use std::io::Write;

use arrow::{array::RecordBatch, datatypes::SchemaRef, error::ArrowError, json::LineDelimitedWriter};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use parquet::errors::ParquetError;
use shared::layout::EventsFormat;

use crate::parquet_file::{ParquetFile, Zstd};

/// Why a file could not be encoded. Nothing has been written to S3.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// Columns could not be built or written as JSON.
    #[error("the rows could not be encoded")]
    Arrow(#[from] ArrowError),
    /// Columns could not be written as Parquet.
    #[error("the rows could not be encoded as Parquet")]
    Parquet(#[from] ParquetError),
    /// gzip failed.
    #[error("the rows could not be compressed")]
    Gzip(#[from] std::io::Error),
}

/// A file of events in memory.
#[derive(Debug)]
pub enum EventsFile {
    /// Parquet.
    Parquet(ParquetFile),
    /// One JSON object per line.
    Ndjson(Vec<u8>),
    /// One JSON object per line, compressed with gzip.
    NdjsonGz(GzEncoder<Vec<u8>>),
}

impl EventsFile {
    /// An empty file.
    pub fn new(format: EventsFormat, schema: &SchemaRef) -> Result<Self, EncodeError> {
        Ok(match format {
            EventsFormat::Parquet => Self::Parquet(ParquetFile::new(schema.clone())?),
            EventsFormat::Ndjson => Self::Ndjson(Vec::new()),
            // The header has no timestamp, so that the same rows give the same bytes.
            EventsFormat::NdjsonGz => {
                Self::NdjsonGz(GzBuilder::new().mtime(0).write(Vec::new(), Compression::default()))
            }
        })
    }

    /// Appends rows.
    pub fn append(&mut self, rows: &RecordBatch, zstd: &mut Zstd) -> Result<(), EncodeError> {
        match self {
            Self::Parquet(file) => Ok(file.append(rows, zstd)?),
            Self::Ndjson(file) => write_lines(rows, file),
            Self::NdjsonGz(file) => write_lines(rows, file),
        }
    }

    /// The file's bytes. `footer` becomes the key-value metadata of Parquet; other formats do not contain it.
    pub fn finish(self, footer: Vec<(&'static str, String)>) -> Result<Vec<u8>, EncodeError> {
        match self {
            Self::Parquet(file) => Ok(file.finish(footer)?),
            Self::Ndjson(file) => Ok(file),
            Self::NdjsonGz(file) => Ok(file.finish()?),
        }
    }
}

/// One JSON object per row: nulls are omitted, bytes are hexadecimal, times are in RFC 3339.
fn write_lines(rows: &RecordBatch, file: impl Write) -> Result<(), EncodeError> {
    let mut writer = LineDelimitedWriter::new(file);
    writer.write(rows)?;
    writer.finish()?;
    Ok(())
}

/// The content type of a format.
#[must_use]
pub const fn content_type(format: EventsFormat) -> &'static str {
    match format {
        EventsFormat::Parquet => "application/vnd.apache.parquet",
        EventsFormat::Ndjson => "application/x-ndjson",
        EventsFormat::NdjsonGz => "application/gzip",
    }
}
