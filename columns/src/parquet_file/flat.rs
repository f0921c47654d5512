//! Flat columns: texts, bytes, integers, short decimals and times, outside of lists and maps. Their pages are built here, from the values as Arrow
//! has them.

use arrow::{
    array::{Array, ArrowPrimitiveType, AsArray},
    datatypes::{
        DataType, Date32Type, Decimal32Type, Decimal64Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit,
        TimestampMicrosecondType,
    },
};
use parquet::{
    basic::{Encoding, PageType},
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::metadata::{ColumnChunkMetaData, ColumnChunkMetaDataBuilder, PageEncodingStats},
    schema::types::ColumnDescPtr,
};

use super::{
    Zstd,
    chunk::{Chunk, DataPage, NOT_WORTH_COMPRESSING_BYTES, Sink},
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
    /// The chunk is appended to this.
    pub sink: &'a mut Sink,
    /// `None` if the column cannot be compressed.
    pub zstd: Option<&'a mut Zstd>,
    /// Memory for a page.
    pub body: &'a mut Vec<u8>,
}

/// Whether columns of this type are written here.
pub(super) const fn is_flat(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Utf8
            | DataType::Binary
            | DataType::Int32
            | DataType::Int64
            | DataType::Date32
            | DataType::Time64(TimeUnit::Microsecond)
            | DataType::Timestamp(TimeUnit::Microsecond, _)
            | DataType::Decimal32(..)
            | DataType::Decimal64(..)
    )
}

/// Writes one column of a row group. `levels` are those of its own rows.
pub(super) fn encode(array: &dyn Array, levels: &Levels, plan: Plan<'_>) -> Result<ColumnCloseResult, ParquetError> {
    match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            encode_values(&levels.values(|row| texts.value(row)), levels, plan)
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>();
            encode_values(&levels.values(|row| bytes.value(row)), levels, plan)
        }
        DataType::Int32 => encode_numbers::<Int32Type>(array, levels, plan),
        DataType::Int64 => encode_numbers::<Int64Type>(array, levels, plan),
        DataType::Date32 => encode_numbers::<Date32Type>(array, levels, plan),
        DataType::Time64(TimeUnit::Microsecond) => encode_numbers::<Time64MicrosecondType>(array, levels, plan),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            encode_numbers::<TimestampMicrosecondType>(array, levels, plan)
        }
        DataType::Decimal32(..) => encode_numbers::<Decimal32Type>(array, levels, plan),
        DataType::Decimal64(..) => encode_numbers::<Decimal64Type>(array, levels, plan),
        other => Err(ParquetError::NYI(format!("{other} is no type of a flat column"))),
    }
}

fn encode_numbers<T: ArrowPrimitiveType<Native: Value>>(
    array: &dyn Array,
    levels: &Levels,
    plan: Plan<'_>,
) -> Result<ColumnCloseResult, ParquetError> {
    encode_values(&levels.numbers(array.as_primitive::<T>().values()), levels, plan)
}

fn encode_values<V: Value>(values: &[V], levels: &Levels, plan: Plan<'_>) -> Result<ColumnCloseResult, ParquetError> {
    let Plan { column, dictionary, sink, zstd, body } = plan;
    let dictionary = if dictionary { Dictionary::of(values) } else { None };
    let (encoding, pages) = match &dictionary {
        Some(_) => (Encoding::RLE_DICTIONARY, levels.pages().into()),
        None => (Encoding::PLAIN, levels.pages_of(values)),
    };
    let value_bytes = match &dictionary {
        Some(dictionary) => dictionary.max_bytes(),
        None => values.iter().map(|value| value.plain_bytes()).sum(),
    };
    let bytes = value_bytes + pages.iter().map(|page| page.encoded.len()).sum::<usize>();
    let mut chunk = Chunk::new(sink, zstd.filter(|_| bytes >= NOT_WORTH_COMPRESSING_BYTES));
    if let Some(dictionary) = &dictionary {
        body.clear();
        dictionary.append_entries(body);
        chunk.append_dictionary(body, u32::try_from(dictionary.entries.len())?)?;
    }
    let mut statistics = ColumnStatistics::new(column.physical_type());
    for page in pages.iter() {
        let values = values.get(page.values.clone()).unwrap_or_default();
        body.clear();
        body.extend_from_slice(&page.encoded);
        match &dictionary {
            Some(dictionary) => dictionary.append_positions(page.values.clone(), body),
            None => values.iter().for_each(|value| value.append_plain(body)),
        }
        let range = match &dictionary {
            Some(dictionary) if pages.len() == 1 => Range::of(&dictionary.entries),
            _ => Range::of(values),
        };
        let data_bytes = V::data_bytes(values).map(i64::try_from).transpose()?;
        statistics.append(page, range, data_bytes);
        let num_values = u32::try_from(page.count())?;
        chunk.append_data(&DataPage { body, encoding, num_values, rows: page.count(), data_bytes })?;
    }
    let rows = pages.iter().map(PageRows::count).sum::<usize>();
    let metadata = ColumnChunkMetaData::builder(column).set_num_values(i64::try_from(rows)?);
    let metadata = with_encodings(metadata, dictionary.is_some(), i32::try_from(pages.len())?);
    let (metadata, column_index) = statistics.finish(metadata)?;
    chunk.finish(metadata, Some(column_index))
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
