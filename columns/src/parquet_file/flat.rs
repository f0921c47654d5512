//! Flat columns: texts, bytes, integers and times, outside of lists and maps. Their pages are built here, from the values as Arrow
//! has them.

use arrow::{
    array::{Array, AsArray},
    datatypes::{DataType, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use bytes::Bytes;
use parquet::{
    basic::{Encoding, PageType},
    column::{page::Page, writer::ColumnCloseResult},
    errors::ParquetError,
    file::metadata::{ColumnChunkMetaData, ColumnChunkMetaDataBuilder, PageEncodingStats},
    schema::types::ColumnDescPtr,
};

use super::{
    Zstd,
    chunk::Chunk,
    dictionary::Dictionary,
    levels::{Levels, PageRows},
    statistics::ColumnStatistics,
    value::{Range, Value},
};

/// How a column is to be written.
pub(super) struct Plan<'a> {
    /// Where the column is in the schema.
    pub column: ColumnDescPtr,
    /// Whether values may repeat.
    pub dictionary: bool,
    /// `None` if the column cannot be compressed.
    pub zstd: Option<&'a mut Zstd>,
}

/// Whether columns of this type are written here.
pub(super) const fn is_flat(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::Binary
            | DataType::Int32
            | DataType::Int64
            | DataType::Timestamp(TimeUnit::Microsecond, _)
    )
}

/// One column of a row group. `levels` are those of its own rows.
pub(super) fn encode(
    array: &dyn Array,
    levels: &Levels,
    plan: Plan<'_>,
) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            encode_values(&levels.values(|row| texts.value(row)), levels, plan)
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>();
            encode_values(&levels.values(|row| bytes.value(row)), levels, plan)
        }
        DataType::Int32 => encode_values(&levels.numbers(array.as_primitive::<Int32Type>().values()), levels, plan),
        DataType::Int64 => encode_values(&levels.numbers(array.as_primitive::<Int64Type>().values()), levels, plan),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let times = array.as_primitive::<TimestampMicrosecondType>().values();
            encode_values(&levels.numbers(times), levels, plan)
        }
        other => Err(ParquetError::NYI(format!("{other} is no type of a flat column"))),
    }
}

fn encode_values<V: Value>(
    values: &[V],
    levels: &Levels,
    plan: Plan<'_>,
) -> Result<(Bytes, ColumnCloseResult), ParquetError> {
    let dictionary = if plan.dictionary { Dictionary::of(values) } else { None };
    let pages = match &dictionary {
        Some(_) => levels.pages().into(),
        None => levels.pages_of(values),
    };
    let bodies: Vec<Vec<u8>> = pages.iter().map(|page| body(values, page, dictionary.as_ref())).collect();
    let entries = dictionary.as_ref().map(Dictionary::page);
    let bytes = bodies.iter().chain(&entries).map(Vec::len).sum();

    let mut chunk = Chunk::new(plan.zstd, bytes);
    if let (Some(dictionary), Some(entries)) = (&dictionary, entries) {
        chunk.append_dictionary(Page::DictionaryPage {
            buf: entries.into(),
            num_values: u32::try_from(dictionary.entries.len())?,
            encoding: Encoding::PLAIN,
            is_sorted: false,
        })?;
    }
    let mut statistics = ColumnStatistics::new(plan.column.physical_type());
    for (page, body) in pages.iter().zip(bodies) {
        let values = values.get(page.values.clone()).unwrap_or_default();
        let range = match &dictionary {
            Some(dictionary) if pages.len() == 1 => Range::of(dictionary.entries.iter().copied()),
            _ => Range::of(values.iter().copied()),
        };
        let data_bytes = V::data_bytes(values).map(i64::try_from).transpose()?;
        statistics.append(page, range, data_bytes);
        let data = Page::DataPage {
            buf: body.into(),
            num_values: u32::try_from(page.count())?,
            encoding: if dictionary.is_some() { Encoding::RLE_DICTIONARY } else { Encoding::PLAIN },
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        chunk.append_data(data, page.count(), data_bytes)?;
    }
    let metadata = ColumnChunkMetaData::builder(plan.column)
        .set_num_values(i64::try_from(pages.iter().map(PageRows::count).sum::<usize>())?);
    let metadata = with_encodings(metadata, dictionary.is_some(), i32::try_from(pages.len())?);
    let (metadata, column_index) = statistics.finish(metadata)?;
    chunk.finish(metadata, Some(column_index))
}

/// A data page, not compressed: the levels of its rows, and their values.
fn body<V: Value>(values: &[V], page: &PageRows, dictionary: Option<&Dictionary<V>>) -> Vec<u8> {
    let values_of_page = values.get(page.values.clone()).unwrap_or_default();
    let bytes = match dictionary {
        Some(_) => values_of_page.len(),
        None => values_of_page.iter().map(|value| value.plain_bytes()).sum(),
    };
    let mut body = Vec::with_capacity(page.encoded.len() + bytes);
    body.extend_from_slice(&page.encoded);
    match dictionary {
        Some(dictionary) => dictionary.append_positions(page.values.clone(), &mut body),
        None => values_of_page.iter().for_each(|value| value.append_plain(&mut body)),
    }
    body
}

/// Says how the pages are encoded. RLE is the encoding of the levels.
fn with_encodings(
    metadata: ColumnChunkMetaDataBuilder,
    has_dictionary: bool,
    data_pages: i32,
) -> ColumnChunkMetaDataBuilder {
    let data = |encoding| PageEncodingStats { page_type: PageType::DATA_PAGE, encoding, count: data_pages };
    if has_dictionary {
        let dictionary =
            PageEncodingStats { page_type: PageType::DICTIONARY_PAGE, encoding: Encoding::PLAIN, count: 1 };
        metadata
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE, Encoding::RLE_DICTIONARY])
            .set_page_encoding_stats(vec![dictionary, data(Encoding::RLE_DICTIONARY)])
    } else {
        metadata
            .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
            .set_page_encoding_stats(vec![data(Encoding::PLAIN)])
    }
}
