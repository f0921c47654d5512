//! Record batches → one Parquet file in memory, zstd, with a page index.
//!
//! The Parquet library creates a compression and a decompression context for every leaf column of every file. In a file of a
//! hundred rows that costs more than everything else. So each row group is encoded without compression, and this module
//! compresses its pages, all with a single context that lives as long as the execution environment.

use std::{collections::HashSet, fmt, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{DataType, Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType},
};
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

/// Column chunks below this size become larger when they are compressed.
const NOT_WORTH_COMPRESSING_BYTES: i64 = 256;
/// If this many sampled values are all different, the column is assumed to repeat hardly any value and gets no dictionary. With
/// fewer rows than `MIN_SAMPLED_ROWS` a dictionary costs so little that nothing is sampled.
const SAMPLED_VALUES: usize = 256;
const MIN_SAMPLED_ROWS: usize = 4 * SAMPLED_VALUES;

/// A compression context, which is expensive to create and can be used for any number of files.
pub struct Zstd(zstd::bulk::Compressor<'static>);

impl fmt::Debug for Zstd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Zstd")
    }
}

impl Zstd {
    /// A context with compression level `level`, 1 to 22.
    pub fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self(zstd::bulk::Compressor::new(level)?))
    }
}

/// What is known about the columns of a file before there are rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Layout {
    /// Indices of the leaf columns that the rows are sorted by, in ascending order. The footer says so; nothing is sorted here.
    pub sorted_by: &'static [i32],
    /// Top-level columns whose values never repeat. A dictionary would be built and then discarded.
    pub distinct: &'static [&'static str],
    /// Top-level columns that cannot be compressed, such as hashes.
    pub incompressible: &'static [&'static str],
}

/// A Parquet file under construction.
pub struct ParquetFile {
    writer: SerializedFileWriter<Vec<u8>>,
    schema: SchemaRef,
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
        let root = ArrowSchemaConverter::new().convert(&schema)?.root_schema_ptr();
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
        let writer = SerializedFileWriter::new(Vec::new(), root, Arc::new(properties))?;
        Ok(Self { writer, schema, layout })
    }

    /// Appends `rows` as one row group.
    pub fn append(&mut self, rows: &RecordBatch, zstd: &mut Zstd) -> Result<(), ParquetError> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let (encoded, metadata) = encode(rows, &self.schema, self.layout.distinct)?;
        let index = metadata.page_index_for_row_group(0);
        let group = metadata.row_group(0);
        let mut writer = self.writer.next_row_group()?;
        for (position, column) in group.columns().iter().enumerate() {
            let source = index.offset_index(position).ok_or_else(|| missing("offset index"))?;
            let chunk = Chunk { column, source, rows: rows.num_rows() };
            let name = column.column_path().string();
            let (bytes, mut close) = if chunk.is_worth_compressing() && !self.layout.incompressible.contains(&&*name) {
                chunk.compress(encoded.clone(), zstd)?
            } else {
                chunk.plain(&encoded)
            };
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
fn encode(rows: &RecordBatch, schema: &SchemaRef, distinct: &[&str]) -> Result<(Bytes, ParquetMetaData), ParquetError> {
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(None);
    let mut distinct: Vec<ColumnPath> = distinct.iter().map(|name| ColumnPath::from(*name)).collect();
    for (field, column) in schema.fields().iter().zip(rows.columns()) {
        find_distinct(column, &mut vec![field.name().clone()], &mut distinct);
    }
    for column in distinct {
        properties = properties.set_column_dictionary_enabled(column, false);
    }
    // The Arrow schema would add more than a kilobyte to every file, and contains nothing that the Parquet schema does not.
    let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
    let mut encoded = Vec::with_capacity(rows.get_array_memory_size());
    let mut writer = ArrowWriter::try_new_with_options(&mut encoded, schema.clone(), options)?;
    writer.write(rows)?;
    let metadata = writer.close()?;
    Ok((encoded.into(), metadata))
}

/// Collects the columns below `column` whose sampled values are all different.
fn find_distinct(column: &dyn Array, path: &mut Vec<String>, distinct: &mut Vec<ColumnPath>) {
    if column.len() < MIN_SAMPLED_ROWS {
        return;
    }
    match column.data_type() {
        DataType::Struct(fields) => {
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                path.push(field.name().clone());
                find_distinct(column, path, distinct);
                path.pop();
            }
        }
        _ if is_distinct(column) => distinct.push(ColumnPath::new(path.clone())),
        _ => {}
    }
}

fn is_distinct(column: &dyn Array) -> bool {
    match column.data_type() {
        DataType::Utf8 => {
            let texts = column.as_string::<i32>();
            all_different(column, |row| texts.value(row))
        }
        DataType::Int32 => {
            let numbers = column.as_primitive::<Int32Type>();
            all_different(column, |row| numbers.value(row))
        }
        DataType::Int64 => {
            let numbers = column.as_primitive::<Int64Type>();
            all_different(column, |row| numbers.value(row))
        }
        DataType::Timestamp(..) => {
            let times = column.as_primitive::<TimestampMicrosecondType>();
            all_different(column, |row| times.value(row))
        }
        _ => false,
    }
}

/// Whether values sampled evenly over the rows are all different.
fn all_different<T: Eq + std::hash::Hash>(column: &dyn Array, value: impl Fn(usize) -> T) -> bool {
    let present = column.len() - column.null_count();
    let stride = (present / SAMPLED_VALUES).max(1);
    let mut seen = HashSet::with_capacity(SAMPLED_VALUES);
    let mut rows = (0..column.len()).filter(|row| column.is_valid(*row)).step_by(stride);
    present >= SAMPLED_VALUES && rows.all(|row| seen.insert(value(row)))
}

/// One uncompressed column of a row group.
struct Chunk<'a> {
    column: &'a ColumnChunkMetaData,
    source: &'a OffsetIndexMetaData,
    rows: usize,
}

impl Chunk<'_> {
    fn is_worth_compressing(&self) -> bool {
        self.column.uncompressed_size() >= NOT_WORTH_COMPRESSING_BYTES
    }

    /// Copies the column without compressing it.
    fn plain(&self, encoded: &Bytes) -> (Bytes, ColumnCloseResult) {
        let close = ColumnCloseResult {
            bytes_written: self.column.compressed_size().unsigned_abs(),
            rows_written: self.rows as u64,
            metadata: self.column.clone(),
            bloom_filter: None,
            column_index: None,
            offset_index: Some(self.source.clone()),
        };
        (encoded.clone(), close)
    }

    /// Copies the column with compressed pages, and adapts its metadata. The column index does not change; the caller adds it.
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

/// Compresses a page as a whole, which is the format of version 1 pages; other versions are not written.
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
