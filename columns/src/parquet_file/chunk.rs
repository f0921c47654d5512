//! The pages of one column of a row group, compressed and in order, and what the footer says of them.

use bytes::Bytes;
use parquet::{
    basic::{CompressionCodec, Encoding},
    column::{
        page::{CompressedPage, Page, PageWriter},
        writer::ColumnCloseResult,
    },
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaDataBuilder, OffsetIndexBuilder},
        page_index::column_index::ColumnIndexMetaData,
        writer::{SerializedPageWriter, TrackedWrite},
    },
};

use super::Zstd;

/// Column chunks below this size become larger when they are compressed.
pub(super) const NOT_WORTH_COMPRESSING_BYTES: usize = 256;

/// The column chunks of a row group, one after the other.
pub(super) type Sink = TrackedWrite<Vec<u8>>;

/// A column chunk under construction.
pub(super) struct Chunk<'a> {
    sink: &'a mut Sink,
    /// `None` if the chunk is not compressed.
    zstd: Option<&'a mut Zstd>,
    start: usize,
    uncompressed_bytes: i64,
    dictionary_at: Option<i64>,
    data_at: Option<i64>,
    offsets: OffsetIndexBuilder,
    rows: usize,
}

/// A data page, not compressed.
pub(super) struct DataPage<'a> {
    /// Levels and values.
    pub body: &'a [u8],
    /// The encoding of the values.
    pub encoding: Encoding,
    /// Number of values, nulls included.
    pub num_values: u32,
    /// Number of rows.
    pub rows: usize,
    /// Number of bytes of the values, if they are texts or bytes.
    pub data_bytes: Option<i64>,
}

impl<'a> Chunk<'a> {
    /// A chunk at the end of `sink`.
    pub(super) fn new(sink: &'a mut Sink, zstd: Option<&'a mut Zstd>) -> Self {
        Self {
            start: sink.bytes_written(),
            sink,
            zstd,
            uncompressed_bytes: 0,
            dictionary_at: None,
            data_at: None,
            offsets: OffsetIndexBuilder::new(),
            rows: 0,
        }
    }

    /// Appends the page of the dictionary, which comes first. `body` has so many values.
    pub(super) fn append_dictionary(&mut self, body: &[u8], num_values: u32) -> Result<(), ParquetError> {
        let buf = self.compress(body)?;
        let page = Page::DictionaryPage { buf, num_values, encoding: Encoding::PLAIN, is_sorted: false };
        let (at, _) = self.append(page, body.len())?;
        self.dictionary_at = Some(at);
        Ok(())
    }

    /// Appends a data page.
    pub(super) fn append_data(&mut self, data: &DataPage<'_>) -> Result<(), ParquetError> {
        let page = Page::DataPage {
            buf: self.compress(data.body)?,
            num_values: data.num_values,
            encoding: data.encoding,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        let (at, bytes) = self.append(page, data.body.len())?;
        self.data_at.get_or_insert(at);
        self.offsets.append_row_count(i64::try_from(data.rows)?);
        self.offsets.append_offset_and_size(at, bytes);
        self.offsets.append_unencoded_byte_array_data_bytes(data.data_bytes);
        self.rows += data.rows;
        Ok(())
    }

    /// Pages of version 1 are compressed as a whole.
    fn compress(&mut self, body: &[u8]) -> Result<Bytes, ParquetError> {
        match &mut self.zstd {
            Some(zstd) => Ok(zstd.compress(body)?),
            None => Ok(Bytes::copy_from_slice(body)),
        }
    }

    /// Appends a page that had so many bytes before it was compressed. Gives back where it begins, and its size.
    fn append(&mut self, page: Page, uncompressed_bytes: usize) -> Result<(i64, i32), ParquetError> {
        let page = CompressedPage::new(page, uncompressed_bytes);
        let spec = SerializedPageWriter::new(self.sink).write_page(page)?;
        self.uncompressed_bytes += i64::try_from(spec.uncompressed_size)?;
        Ok((i64::try_from(spec.offset)?, i32::try_from(spec.compressed_size)?))
    }

    /// Completes `metadata` with sizes and positions.
    pub(super) fn finish(
        self,
        metadata: ColumnChunkMetaDataBuilder,
        column_index: Option<ColumnIndexMetaData>,
    ) -> Result<ColumnCloseResult, ParquetError> {
        let bytes = self.sink.bytes_written() - self.start;
        let codec = if self.zstd.is_some() { CompressionCodec::ZSTD } else { CompressionCodec::UNCOMPRESSED };
        let no_page = || ParquetError::General("a column has no data page".to_owned());
        let metadata = metadata
            .set_compression_codec(codec)
            .set_total_compressed_size(i64::try_from(bytes)?)
            .set_total_uncompressed_size(self.uncompressed_bytes)
            .set_dictionary_page_offset(self.dictionary_at)
            .set_data_page_offset(self.data_at.ok_or_else(no_page)?)
            .build()?;
        Ok(ColumnCloseResult {
            bytes_written: bytes as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index,
            offset_index: Some(self.offsets.build()),
        })
    }
}
