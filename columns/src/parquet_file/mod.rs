//! Record batches → one Parquet file, zstd, with a page index, in memory or handed over as it is written.
//!
//! Pages are built here, from the buffers of the Arrow arrays, and compressed with a single context that lives as long as the
//! execution environment. For lists, maps and rare types the Parquet library builds the pages (`library`).

mod chunk;
mod dictionary;
mod flat;
mod hybrid;
mod levels;
mod library;
mod statistics;
mod value;

#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Field, SchemaRef},
};
use bytes::Bytes;
use parquet::{
    arrow::ArrowSchemaConverter,
    basic::{Compression, ZstdLevel},
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::{
        metadata::{KeyValue, SortingColumn},
        properties::WriterProperties,
        writer::SerializedFileWriter,
    },
    schema::types::{ColumnDescPtr, SchemaDescriptor},
};
use zstd::zstd_safe::compress_bound;

use self::{chunk::Sink, flat::Plan, levels::Levels, library::Encoded};

/// A compression context, which is expensive to create and can be used for any number of files.
pub struct Zstd {
    context: zstd::bulk::Compressor<'static>,
    /// Has room for what a page can become at worst, which is much more than most become.
    buffer: Vec<u8>,
}

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zstd")
    }
}

impl Zstd {
    /// A context with compression level `level`, 1 to 22.
    pub fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self { context: zstd::bulk::Compressor::new(level)?, buffer: Vec::new() })
    }

    fn compress(&mut self, bytes: &[u8]) -> std::io::Result<Bytes> {
        self.buffer.clear();
        self.buffer.reserve(compress_bound(bytes.len()));
        self.context.compress_to_buffer(bytes, &mut self.buffer)?;
        Ok(Bytes::copy_from_slice(&self.buffer))
    }
}

/// What is known about the columns of a file before there are rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout {
    /// Indices of the leaf columns that the rows are sorted by, in ascending order. The footer says so; nothing is sorted here.
    pub sorted_by: &'static [i32],
    /// Top-level columns whose values never repeat. For others this is found out, which takes some time.
    pub distinct: &'static [&'static str],
    /// Top-level columns that cannot be compressed, such as hashes.
    pub incompressible: &'static [&'static str],
}

/// A Parquet file under construction.
pub struct ParquetFile {
    writer: SerializedFileWriter<Vec<u8>>,
    schema: SchemaRef,
    columns: SchemaDescriptor,
    layout: Layout,
}

impl fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetFile").field("bytes", &self.writer.bytes_written()).finish_non_exhaustive()
    }
}

impl ParquetFile {
    /// An empty file of `schema`.
    pub fn new(schema: SchemaRef, layout: Layout) -> Result<Self, ParquetError> {
        let columns = ArrowSchemaConverter::new().convert(&schema)?;
        let level = ZstdLevel::default();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_sorting_columns((!layout.sorted_by.is_empty()).then(|| {
                let sorted_by = layout.sorted_by.iter();
                sorted_by
                    .map(|column_idx| SortingColumn { column_idx: *column_idx, descending: false, nulls_first: false })
                    .collect()
            }))
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), columns.root_schema_ptr(), Arc::new(properties))?;
        Ok(Self { writer, schema, columns, layout })
    }

    /// Appends `rows` as one row group.
    pub fn append(&mut self, rows: &RecordBatch, zstd: &mut Zstd) -> Result<(), ParquetError> {
        let group = self.encode(rows, zstd)?;
        self.push(group)
    }

    /// Encodes `rows` as a row group for this file, or for another one of the same schema and layout.
    pub fn encode(&self, rows: &RecordBatch, zstd: &mut Zstd) -> Result<EncodedRows, ParquetError> {
        let fields = self.schema.fields();
        let types = rows.columns().iter().map(|column| column.data_type());
        if !types.eq(fields.iter().map(|field| field.data_type())) {
            return Err(ParquetError::General("the rows have other columns than their file".to_owned()));
        }
        if rows.num_rows() == 0 {
            return Ok(EncodedRows { bytes: Bytes::new(), columns: Vec::new() });
        }
        let mut group = RowGroup {
            sink: Sink::new(Vec::new()),
            closed: Vec::with_capacity(self.columns.num_columns()),
            columns: self.columns.columns(),
            layout: self.layout,
            encoded: Encoded::new(&self.schema, rows, self.layout.distinct)?,
            body: Vec::new(),
            zstd,
        };
        let levels = Levels::of_rows(rows.num_rows());
        for (field, column) in fields.iter().zip(rows.columns()) {
            group.append(field, column, &levels)?;
        }
        let (bytes, columns) = group.finish()?;
        Ok(EncodedRows { bytes, columns })
    }

    /// Appends a row group. One without rows leaves no trace.
    pub fn push(&mut self, group: EncodedRows) -> Result<(), ParquetError> {
        if group.columns.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer.next_row_group()?;
        for column in group.columns {
            writer.append_column(&group.bytes, column)?;
        }
        writer.close()?;
        Ok(())
    }

    /// Hands over what has been written and not been taken before, so that a file can be larger than memory. [`Self::finish`] gives
    /// back the rest of the file then. A few bytes may stay behind until more are written.
    pub fn take_bytes(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }

    /// Adds a key and a value to the footer, before those that [`Self::finish`] is given.
    pub fn add_to_footer(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.writer.append_key_value_metadata(KeyValue::new(key.into(), value.into()));
    }

    /// What has not been taken of the file, `footer` included: all of it, unless [`Self::take_bytes`] was called.
    pub fn finish(mut self, footer: Vec<(&'static str, String)>) -> Result<Vec<u8>, ParquetError> {
        for (key, value) in footer {
            self.add_to_footer(key, value);
        }
        self.writer.into_inner()
    }
}

/// A row group that is encoded and belongs to no file yet.
pub struct EncodedRows {
    bytes: Bytes,
    columns: Vec<ColumnCloseResult>,
}

impl EncodedRows {
    /// Its size in a file, without what the footer says of it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

impl fmt::Debug for EncodedRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncodedRows").field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

/// A row group under construction, leaf column by leaf column.
struct RowGroup<'a> {
    sink: Sink,
    /// The columns in `sink`.
    closed: Vec<ColumnCloseResult>,
    /// Those that come after them.
    columns: &'a [ColumnDescPtr],
    layout: Layout,
    /// Those of them that the library has encoded.
    encoded: Option<Encoded>,
    zstd: &'a mut Zstd,
    /// Memory for a page.
    body: Vec<u8>,
}

impl RowGroup<'_> {
    /// Appends the flat columns of `column`, and those of the library before them. `above` are the levels of the struct around it.
    fn append(&mut self, field: &Field, column: &ArrayRef, above: &Levels) -> Result<(), ParquetError> {
        let is_struct = matches!(column.data_type(), DataType::Struct(_));
        if !is_struct && !flat::is_flat(column.data_type()) {
            return Ok(());
        }
        let own = match column.nulls() {
            nulls if field.is_nullable() => Some(above.below(nulls)?),
            Some(nulls) if above.contradict(nulls) => {
                return Err(ParquetError::General(format!("column {} must not be null", field.name())));
            }
            _ => None,
        };
        let levels = own.as_ref().unwrap_or(above);
        if let DataType::Struct(fields) = column.data_type() {
            let columns = fields.iter().zip(column.as_struct().columns());
            return columns.into_iter().try_for_each(|(field, column)| self.append(field, column, levels));
        }
        self.append_encoded()?;
        let column_of_schema = self.next_column()?;
        let closed = flat::encode(
            column,
            levels,
            Plan {
                dictionary: !is_one_of(self.layout.distinct, &column_of_schema),
                zstd: zstd_for(self.layout, &column_of_schema, self.zstd),
                column: column_of_schema,
                sink: &mut self.sink,
                body: &mut self.body,
            },
        )?;
        self.closed.push(closed);
        Ok(())
    }

    /// Appends columns as long as the library has encoded the next one.
    fn append_encoded(&mut self) -> Result<(), ParquetError> {
        let Some(mut encoded) = self.encoded.take() else { return Ok(()) };
        while let Some(path) = encoded.next_path()
            && self.columns.first().is_some_and(|column| column.path() == path)
        {
            let zstd = zstd_for(self.layout, &self.next_column()?, self.zstd);
            self.closed.push(encoded.append_next(&mut self.sink, zstd)?);
        }
        self.encoded = Some(encoded);
        Ok(())
    }

    /// The bytes of all columns, and what they are.
    fn finish(mut self) -> Result<(Bytes, Vec<ColumnCloseResult>), ParquetError> {
        self.append_encoded()?;
        Ok((self.sink.into_inner()?.into(), self.closed))
    }

    fn next_column(&mut self) -> Result<ColumnDescPtr, ParquetError> {
        let too_many = || ParquetError::General("the rows have more columns than their file".to_owned());
        let (next, rest) = self.columns.split_first().ok_or_else(too_many)?;
        self.columns = rest;
        Ok(next.clone())
    }
}

/// `zstd`, unless the column cannot be compressed.
fn zstd_for<'a>(layout: Layout, column: &ColumnDescPtr, zstd: &'a mut Zstd) -> Option<&'a mut Zstd> {
    (!is_one_of(layout.incompressible, column)).then_some(zstd)
}

/// Whether `names` contain a top-level column.
fn is_one_of(names: &[&str], column: &ColumnDescPtr) -> bool {
    matches!(column.path().parts(), [name] if names.contains(&&**name))
}
