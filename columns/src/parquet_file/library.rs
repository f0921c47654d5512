//! Columns that the Parquet library encodes: lists, maps, and types that are rare in events. Only the compression is ours.
//!
//! The library creates a compression and a decompression context for every leaf column of every file. In a file of a hundred rows
//! that costs more than everything else. So it writes a file without compression, whose pages are read back.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StructArray},
    datatypes::{DataType, FieldRef, Fields, Schema, SchemaRef},
};
use bytes::Bytes;
use parquet::{
    arrow::{ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::Compression,
    column::{
        page::{Page, PageReader},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, ParquetMetaData},
        properties::{EnabledStatistics, WriterProperties},
        serialized_reader::SerializedPageReader,
    },
    schema::types::ColumnPath,
};

use super::{
    Zstd,
    chunk::{Chunk, DataPage, NOT_WORTH_COMPRESSING_BYTES, Sink},
    flat::is_flat,
};

/// The columns of a row group that are not flat, encoded.
pub(super) struct Encoded {
    file: Bytes,
    metadata: ParquetMetaData,
    rows: usize,
    /// The next column.
    position: usize,
}

impl Encoded {
    /// What is not flat among the columns of `rows`; `None` if everything is.
    pub(super) fn new(schema: &SchemaRef, rows: &RecordBatch, distinct: &[&str]) -> Result<Option<Self>, ParquetError> {
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (field, column) in schema.fields().iter().zip(rows.columns()) {
            if let Some((field, column)) = not_flat(field, column)? {
                fields.push(field);
                columns.push(column);
            }
        }
        if fields.is_empty() {
            return Ok(None);
        }
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::UNCOMPRESSED)
            .set_statistics_enabled(EnabledStatistics::Page)
            .set_max_row_group_row_count(None);
        for column in distinct {
            properties = properties.set_column_dictionary_enabled(ColumnPath::from(*column), false);
        }
        let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
        let mut file = Vec::with_capacity(rows.get_array_memory_size());
        let mut writer = ArrowWriter::try_new_with_options(&mut file, rows.schema(), options)?;
        writer.write(&rows)?;
        let metadata = writer.close()?;
        Ok(Some(Self { file: file.into(), metadata, rows: rows.num_rows(), position: 0 }))
    }

    /// Where the next column is in the schema; `None` after the last.
    pub(super) fn next_path(&self) -> Option<&ColumnPath> {
        self.next_column().map(ColumnChunkMetaData::column_path)
    }

    fn next_column(&self) -> Option<&ColumnChunkMetaData> {
        self.metadata.row_groups().first()?.columns().get(self.position)
    }

    /// Appends the next column to `sink`, compressed with `zstd`. The column index and the statistics do not change.
    pub(super) fn append_next(
        &mut self,
        sink: &mut Sink,
        zstd: Option<&mut Zstd>,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let index = self.metadata.page_index_for_row_group(0);
        let (column_index, offsets) = (index.column_index(self.position).cloned(), index.offset_index(self.position));
        let column = self.next_column().ok_or_else(|| missing("column"))?;
        let offsets = offsets.ok_or_else(|| missing("offset index"))?;
        let is_worth_it = usize::try_from(column.uncompressed_size())? >= NOT_WORTH_COMPRESSING_BYTES;
        let mut chunk = Chunk::new(sink, zstd.filter(|_| is_worth_it));
        let mut locations = offsets.page_locations().iter().map(|page| page.first_row_index).peekable();
        let mut data_bytes = offsets.unencoded_byte_array_data_bytes().into_iter().flatten();
        let mut pages = SerializedPageReader::new(Arc::new(self.file.clone()), column, self.rows, None)?;
        while let Some(page) = pages.get_next_page()? {
            match page {
                Page::DictionaryPage { buf, num_values, .. } => chunk.append_dictionary(&buf, num_values)?,
                Page::DataPage { buf, num_values, encoding, .. } => {
                    let first = locations.next().ok_or_else(|| missing("page location"))?;
                    let next = locations.peek().copied().unwrap_or(i64::try_from(self.rows)?);
                    chunk.append_data(&DataPage {
                        body: &buf,
                        encoding,
                        num_values,
                        rows: usize::try_from(next - first)?,
                        data_bytes: data_bytes.next().copied(),
                    })?;
                }
                // Their values would be compressed without their levels.
                Page::DataPageV2 { .. } => return Err(ParquetError::NYI("data pages of version 2".to_owned())),
            }
        }
        let closed = chunk.finish(column.clone().into_builder(), column_index)?;
        self.position += 1;
        Ok(closed)
    }
}

/// A column without the flat ones in it; `None` if nothing is left.
fn not_flat(field: &FieldRef, column: &ArrayRef) -> Result<Option<(FieldRef, ArrayRef)>, ParquetError> {
    match column.data_type() {
        data_type if is_flat(data_type) => Ok(None),
        DataType::Struct(fields) => {
            let (mut kept, mut columns) = (Vec::new(), Vec::new());
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                if let Some((field, column)) = not_flat(field, column)? {
                    kept.push(field);
                    columns.push(column);
                }
            }
            if kept.is_empty() {
                return Ok(None);
            }
            let kept = Fields::from(kept);
            let field = field.as_ref().clone().with_data_type(DataType::Struct(kept.clone()));
            let column = StructArray::try_new_with_length(kept, columns, column.nulls().cloned(), column.len())?;
            Ok(Some((Arc::new(field), Arc::new(column))))
        }
        _ => Ok(Some((field.clone(), column.clone()))),
    }
}

fn missing(what: &str) -> ParquetError {
    ParquetError::General(format!("the library encoded a column without {what}"))
}
