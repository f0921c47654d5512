//! A file of events in any of the formats, built chunk by chunk.

use std::{io::Write, sync::Arc};

use arrow::{
    array::RecordBatch,
    compute::cast,
    datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef},
    error::ArrowError,
    json::LineDelimitedWriter,
};
use columns::{ParquetFile, Zstd};
use flate2::{Compression, GzBuilder, write::GzEncoder};
use parquet::errors::ParquetError;
use shared::layout::EventsFormat;

use crate::table::LAYOUT;

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
            EventsFormat::Parquet => Self::Parquet(ParquetFile::new(schema.clone(), LAYOUT)?),
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
    writer.write(&with_text_keys(rows)?)?;
    writer.finish()?;
    Ok(())
}

/// Rows in which the keys of maps are text, because those of JSON objects are.
fn with_text_keys(rows: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = rows.schema();
    let wanted: Fields = schema.fields().iter().map(text_keyed_field).collect();
    if wanted == *schema.fields() {
        return Ok(rows.clone());
    }
    let columns = rows.columns().iter().zip(&wanted).map(|(column, field)| cast(column, field.data_type()));
    RecordBatch::try_new(Arc::new(Schema::new(wanted.clone())), columns.collect::<Result<_, _>>()?)
}

fn text_keyed_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(text_keyed(field.data_type())))
}

fn text_keyed(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(text_keyed_field).collect()),
        DataType::List(items) => DataType::List(text_keyed_field(items)),
        DataType::Map(entries, sorted) => {
            let entries = text_keyed_field(entries);
            let DataType::Struct(fields) = entries.data_type() else { return data_type.clone() };
            let key = fields.first().map(|key| Arc::new(key.as_ref().clone().with_data_type(DataType::Utf8)));
            let fields = key.into_iter().chain(fields.iter().skip(1).cloned()).collect();
            let entries = entries.as_ref().clone().with_data_type(DataType::Struct(fields));
            DataType::Map(Arc::new(entries), *sorted)
        }
        other => other.clone(),
    }
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

#[cfg(test)]
mod tests {
    use arrow::array::{
        ArrayRef, BooleanBuilder, Decimal128Builder, Int32Builder, Int64Builder, ListBuilder, MapBuilder, StringBuilder,
    };

    use super::*;

    fn lines(columns: Vec<(&str, ArrayRef)>) -> String {
        let mut file = Vec::new();
        write_lines(&RecordBatch::try_from_iter(columns).unwrap(), &mut file).unwrap();
        String::from_utf8(file).unwrap()
    }

    #[test]
    fn keys_of_any_type_are_text_in_json() {
        let mut numbers = MapBuilder::new(None, Int32Builder::new(), StringBuilder::new());
        numbers.keys().append_value(-7);
        numbers.values().append_value("a");
        numbers.append(true).unwrap();
        let mut flags = MapBuilder::new(None, BooleanBuilder::new(), Int64Builder::new());
        flags.keys().append_value(true);
        flags.values().append_value(1);
        flags.append(true).unwrap();
        let unsigned = Decimal128Builder::new().with_data_type(DataType::Decimal128(20, 0));
        let mut unsigned = MapBuilder::new(None, unsigned, StringBuilder::new());
        unsigned.keys().append_value(i128::from(u64::MAX));
        unsigned.values().append_value("b");
        unsigned.append(true).unwrap();
        let inner = MapBuilder::new(None, Int64Builder::new(), StringBuilder::new());
        let mut list = ListBuilder::new(inner);
        list.values().keys().append_value(5);
        list.values().values().append_value("c");
        list.values().append(true).unwrap();
        list.append(true);
        let text = lines(vec![
            ("numbers", Arc::new(numbers.finish())),
            ("flags", Arc::new(flags.finish())),
            ("unsigned", Arc::new(unsigned.finish())),
            ("list", Arc::new(list.finish())),
        ]);
        let expected =
            r#"{"numbers":{"-7":"a"},"flags":{"true":1},"unsigned":{"18446744073709551615":"b"},"list":[{"5":"c"}]}"#;
        assert_eq!(text.trim_end(), expected);
    }
}
