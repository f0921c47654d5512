//! The pages of one column of a row group, compressed and in order, and what the footer says of them.

use bytes::Bytes;
use parquet::{
    basic::{CompressionCodec, PageType},
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
const NOT_WORTH_COMPRESSING_BYTES: usize = 256;

/// A column chunk under construction.
pub(super) struct Chunk<'a> {
    zstd: Option<&'a mut Zstd>,
    sink: TrackedWrite<Vec<u8>>,
    offsets: OffsetIndexBuilder,
    dictionary_at: Option<i64>,
    data_at: Option<i64>,
    uncompressed_bytes: i64,
    rows: usize,
}

impl<'a> Chunk<'a> {
    /// A chunk whose pages together have so many bytes before they are compressed with `zstd`.
    pub(super) fn new(zstd: Option<&'a mut Zstd>, bytes: usize) -> Self {
        Self {
            zstd: zstd.filter(|_| bytes >= NOT_WORTH_COMPRESSING_BYTES),
            sink: TrackedWrite::new(Vec::new()),
            offsets: OffsetIndexBuilder::new(),
            dictionary_at: None,
            data_at: None,
            uncompressed_bytes: 0,
            rows: 0,
        }
    }

    /// Appends the page of the dictionary, which comes first.
    pub(super) fn append_dictionary(&mut self, page: Page) -> Result<(), ParquetError> {
        self.append(page)?;
        Ok(())
    }

    /// Appends a data page of `rows` rows, which has so many bytes of texts if it is one of texts.
    pub(super) fn append_data(&mut self, page: Page, rows: usize, data_bytes: Option<i64>) -> Result<(), ParquetError> {
        let (at, bytes) = self.append(page)?;
        self.offsets.append_row_count(i64::try_from(rows)?);
        self.offsets.append_offset_and_size(at, bytes);
        self.offsets.append_unencoded_byte_array_data_bytes(data_bytes);
        self.rows += rows;
        Ok(())
    }

    /// Appends a page. Gives back where it begins and its size.
    fn append(&mut self, page: Page) -> Result<(i64, i32), ParquetError> {
        let plain_bytes = page.buffer().len();
        let page = match &mut self.zstd {
            Some(zstd) => compress(page, zstd)?,
            None => page,
        };
        let spec = SerializedPageWriter::new(&mut self.sink).write_page(CompressedPage::new(page, plain_bytes))?;
        let at = i64::try_from(spec.offset)?;
        if spec.page_type == PageType::DICTIONARY_PAGE {
            self.dictionary_at = Some(at);
        } else {
            self.data_at.get_or_insert(at);
        }
        self.uncompressed_bytes += i64::try_from(spec.uncompressed_size)?;
        Ok((at, i32::try_from(spec.compressed_size)?))
    }

    /// The chunk's bytes, and what it is: `metadata` with the sizes and positions.
    pub(super) fn finish(
        self,
        metadata: ColumnChunkMetaDataBuilder,
        column_index: Option<ColumnIndexMetaData>,
    ) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
        let bytes = Bytes::from(self.sink.into_inner()?);
        let codec = if self.zstd.is_some() { CompressionCodec::ZSTD } else { CompressionCodec::UNCOMPRESSED };
        let no_page = || ParquetError::General("a column has no data page".to_owned());
        let metadata = metadata
            .set_compression_codec(codec)
            .set_total_compressed_size(i64::try_from(bytes.len())?)
            .set_total_uncompressed_size(self.uncompressed_bytes)
            .set_dictionary_page_offset(self.dictionary_at)
            .set_data_page_offset(self.data_at.ok_or_else(no_page)?)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: bytes.len() as u64,
            rows_written: self.rows as u64,
            metadata,
            bloom_filter: None,
            column_index,
            offset_index: Some(self.offsets.build()),
        };
        Ok((bytes, close))
    }
}

/// Compresses a page as a whole, which is the format of version 1 pages; other versions are not written.
fn compress(page: Page, zstd: &mut Zstd) -> Result<Page, ParquetError> {
    let buf = zstd.compress(page.buffer())?;
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
