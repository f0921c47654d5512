//! Record batches → one Parquet file in memory, zstd, with a page index.
//!
//! The Parquet library makes a compression and a decompression context for every leaf column of every file, which
//! costs more than all else in a file of a hundred rows. So each row group is encoded uncompressed, and its pages are
//! compressed here, one after the other, in a single context that lives as long as the sandbox.

use std::{fmt, sync::Arc};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use bytes::Bytes;
use parquet::{
    arrow::{ArrowSchemaConverter, ArrowWriter, arrow_writer::ArrowWriterOptions},
    basic::{Compression, ZstdLevel},
    column::{
        page::{CompressedPage, Page, PageReader, PageWriter},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaData, KeyValue, OffsetIndexBuilder, ParquetMetaData, SortingColumn},
        page_index::offset_index::OffsetIndexMetaData,
        properties::{EnabledStatistics, WriterProperties},
        serialized_reader::SerializedPageReader,
        writer::{SerializedFileWriter, SerializedPageWriter, TrackedWrite},
    },
    schema::types::ColumnPath,
};

use crate::table::{EVENT_ID, SENT_AT};

/// Columns whose values never repeat: a dictionary would only be built to be thrown away.
const NO_DICTIONARY: [&str; 4] = ["event_id", "sent_at", "payload_sha256", "_raw"];

/// The compression context of a sandbox.
pub struct Zstd(zstd::bulk::Compressor<'static>);

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zstd")
    }
}

impl Zstd {
    /// A context that compresses at `level` (1 to 22).
    pub fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Compressor::new(level)?))
    }
}

/// A Parquet file that grows by row groups.
pub struct ParquetFile {
    writer: SerializedFileWriter<Vec<u8>>,
    schema: SchemaRef,
}

impl fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParquetFile").field("bytes", &self.writer.bytes_written()).finish_non_exhaustive()
    }
}

impl ParquetFile {
    /// An empty file of `schema`.
    pub fn new(schema: SchemaRef) -> Result<Self, ParquetError> {
        let root = ArrowSchemaConverter::new().convert(&schema)?.root_schema_ptr();
        let level = ZstdLevel::default();
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_sorting_columns(Some(
                [SENT_AT, EVENT_ID]
                    .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false })
                    .to_vec(),
            ))
            .build();
        let writer = SerializedFileWriter::new(Vec::new(), root, Arc::new(properties))?;
        Ok(Self { writer, schema })
    }

    /// Appends `rows` as one row group.
    pub fn append(&mut self, rows: &RecordBatch, zstd: &mut Zstd) -> Result<(), ParquetError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let (encoded, metadata) = encode(rows, &self.schema)?;
        let index = metadata.page_index_for_row_group(0);
        let group = metadata.row_group(0);
        let mut writer = self.writer.next_row_group()?;
        for (position, column) in group.columns().iter().enumerate() {
            let source = index.offset_index(position).ok_or_else(|| missing("offset index"))?;
            let chunk = Chunk { column, source, rows: rows.num_rows() };
            let (bytes, mut close) = chunk.compress(encoded.clone(), zstd)?;
            close.column_index = index.column_index(position).cloned();
            writer.append_column(&bytes, close)?;
        }
        writer.close()?;
        Ok(())
    }

    /// The whole file, `footer` included.
    pub fn finish(mut self, footer: Vec<(&'static str, String)>) -> Result<Vec<u8>, ParquetError> {
        for (key, value) in footer {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        self.writer.into_inner()
    }
}

/// Encodes `rows` as a file of one uncompressed row group.
fn encode(rows: &RecordBatch, schema: &SchemaRef) -> Result<(Bytes, ParquetMetaData), ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(None);
    for column in NO_DICTIONARY {
        properties = properties.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    // The Arrow schema would add a kilobyte and more to every file, and says nothing that Parquet's does not.
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut encoded = Vec::with_capacity(rows.get_array_memory_size() / 2);
    let mut writer = ArrowWriter::try_new_with_options(&mut encoded, schema.clone(), options)?;
    writer.write(rows)?;
    let metadata = writer.close()?;
    Ok((encoded.into(), metadata))
}

/// One uncompressed column of a row group.
struct Chunk<'a> {
    column: &'a ColumnChunkMetaData,
    source: &'a OffsetIndexMetaData,
    rows: usize,
}

impl Chunk<'_> {
    /// The same column with compressed pages, and its metadata. The caller adds the column index, which stays true.
    fn compress(&self, encoded: Bytes, zstd: &mut Zstd) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let locations = self.source.page_locations();
        let mut pages = SerializedPageReader::new(Arc::new(encoded), self.column, self.rows, None)?;
        let mut sink = TrackedWrite::new(Vec::new());
        let mut writer = SerializedPageWriter::new(&mut sink);
        let mut index = OffsetIndexBuilder::new();
        let (mut dictionary_at, mut data_at, mut data_pages, mut uncompressed) = (None, None, 0, 0);
        while let Some(page) = pages.get_next_page()? {
            let plain_bytes = page.buffer().len();
            let spec = writer.write_page(CompressedPage::new(compress_page(page, zstd)?, plain_bytes))?;
            let at = i64::try_from(spec.offset)?;
            uncompressed += i64::try_from(spec.uncompressed_size)?;
            if spec.page_type == parquet::basic::PageType::DICTIONARY_PAGE {
                dictionary_at = Some(at);
                continue;
            }
            data_at.get_or_insert(at);
            let first_row = locations.get(data_pages).map(|page| page.first_row_index);
            let next_row = locations.get(data_pages + 1).map_or(i64::try_from(self.rows)?, |page| page.first_row_index);
            index.append_row_count(next_row - first_row.ok_or_else(|| missing("page location"))?);
            index.append_offset_and_size(at, i32::try_from(spec.compressed_size)?);
            let bytes = self.source.unencoded_byte_array_data_bytes().and_then(|sizes| sizes.get(data_pages).copied());
            index.append_unencoded_byte_array_data_bytes(bytes);
            data_pages += 1;
        }
        let bytes = Bytes::from(sink.into_inner()?);
        let mut metadata = ColumnChunkMetaData::builder(self.column.column_descr_ptr())
            .set_compression_codec(parquet::basic::CompressionCodec::ZSTD)
            .set_encodings_mask(*self.column.encodings_mask())
            .set_num_values(self.column.num_values())
            .set_total_compressed_size(i64::try_from(bytes.len())?)
            .set_total_uncompressed_size(uncompressed)
            .set_dictionary_page_offset(dictionary_at)
            .set_data_page_offset(data_at.ok_or_else(|| missing("data page"))?)
            .set_unencoded_byte_array_data_bytes(self.column.unencoded_byte_array_data_bytes())
            .set_definition_level_histogram(self.column.definition_level_histogram().cloned())
            .set_repetition_level_histogram(self.column.repetition_level_histogram().cloned());
        if let Some(statistics) = self.column.statistics() {
            metadata = metadata.set_statistics(statistics.clone());
        }
        if let Some(encodings) = self.column.page_encoding_stats() {
            metadata = metadata.set_page_encoding_stats(encodings.clone());
        }
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata: metadata.build()?,
            bloom_filter: None,
            column_index: None,
            offset_index: Some(index.build()),
        };
        Ok((bytes, close))
    }
}

/// The same page, compressed as a whole: we write version 1 pages only.
fn compress_page(page: Page, zstd: &mut Zstd) -> Result<Page, ParquetError> {
    let buf = Bytes::from(zstd.0.compress(page.buffer())?);
    match page {
        Page::DataPage { num_values, encoding, def_level_encoding, rep_level_encoding, statistics, .. } => {
            Ok(Page::DataPage { buf, num_values, encoding, def_level_encoding, rep_level_encoding, statistics })
        }
        Page::DictionaryPage { num_values, encoding, is_sorted, .. } => {
            Ok(Page::DictionaryPage { buf, num_values, encoding, is_sorted })
        }
        Page::DataPageV2 { .. } => Err(ParquetError::NYI("version 2 pages compress their values only".into())),
    }
}

fn missing(what: &str) -> ParquetError {
    ParquetError::General(format!("an encoded column has no {what}"))
}
