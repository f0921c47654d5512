//! Compares files with what the library's own writer makes of the same rows, and reads them back.

use std::collections::HashMap;

use arrow::{
    array::{
        BinaryArray, BooleanArray, Date32Array, Decimal32Array, Decimal64Array, Decimal128Array, Float64Array,
        Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, Time64MicrosecondArray,
        TimestampMicrosecondArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    compute::{cast, concat_batches},
    datatypes::{FieldRef, Fields, Schema, TimeUnit},
};
use parquet::{
    arrow::{
        ArrowWriter, PARQUET_FIELD_ID_META_KEY,
        arrow_reader::{
            ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
        },
        arrow_writer::ArrowWriterOptions,
    },
    basic::{CompressionCodec, Encoding, PageType},
    file::{
        metadata::{PageIndexPolicy, ParquetMetaData},
        page_index::column_index::ColumnIndexMetaData,
        properties::EnabledStatistics,
    },
};
use proptest::prelude::*;

use super::*;

/// The type of a column, and how its values are drawn.
#[derive(Debug, Clone)]
struct Column {
    kind: Kind,
    nullable: bool,
    /// Of a hundred values, if the column is nullable.
    nulls: u64,
    /// Number of different values.
    different: u64,
    /// The length of texts and bytes.
    length: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    Text,
    Bytes,
    Int,
    Long,
    Time,
    Day,
    Clock,
    ShortDecimal,
    LongDecimal,
    Bool,
    Double,
    Decimal,
    List(Box<Column>),
    Map(Box<Column>),
    Struct(Vec<Column>),
}

fn any_column() -> impl Strategy<Value = Column> {
    let flat = [
        Kind::Text,
        Kind::Bytes,
        Kind::Int,
        Kind::Long,
        Kind::Time,
        Kind::Day,
        Kind::Clock,
        Kind::ShortDecimal,
        Kind::LongDecimal,
    ];
    let rare = [Kind::Bool, Kind::Double, Kind::Decimal];
    let leaf = prop_oneof![4 => prop::sample::select(flat.to_vec()), 1 => prop::sample::select(rare.to_vec())];
    drawn(leaf).prop_recursive(3, 12, 4, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        drawn(prop_oneof![
            4 => prop::collection::vec(inner, 1..5).prop_map(Kind::Struct),
            1 => boxed.clone().prop_map(Kind::List),
            1 => boxed.prop_map(Kind::Map),
        ])
    })
}

fn drawn<S: Strategy<Value = Kind>>(kind: S) -> impl Strategy<Value = Column> {
    let nulls = prop::sample::select(vec![0, 1, 30, 90, 100]);
    let different = prop::sample::select(vec![1, 2, 300, 2_000, u64::MAX]);
    let length = prop_oneof![4 => 0..40_usize, 1 => 60..70_usize, 1 => Just(600)];
    (kind, any::<bool>(), nulls, different, length).prop_map(|(kind, nullable, nulls, different, length)| Column {
        kind,
        nullable,
        nulls,
        different,
        length,
    })
}

/// A stream of numbers (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}

impl Column {
    fn plain(kind: Kind) -> Self {
        Self { kind, nullable: false, nulls: 0, different: u64::MAX, length: 12 }
    }

    fn field(&self, name: &str, id: usize) -> FieldRef {
        let metadata = HashMap::from([(PARQUET_FIELD_ID_META_KEY.to_owned(), id.to_string())]);
        Arc::new(Field::new(name, self.data_type(), self.nullable).with_metadata(metadata))
    }

    fn data_type(&self) -> DataType {
        match &self.kind {
            Kind::Text => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
            Kind::Int => DataType::Int32,
            Kind::Long => DataType::Int64,
            Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Day => DataType::Date32,
            Kind::Clock => DataType::Time64(TimeUnit::Microsecond),
            Kind::ShortDecimal => DataType::Decimal32(9, 2),
            Kind::LongDecimal => DataType::Decimal64(18, 4),
            Kind::Bool => DataType::Boolean,
            Kind::Double => DataType::Float64,
            Kind::Decimal => DataType::Decimal128(20, 0),
            Kind::List(item) => DataType::List(item.field("element", 1)),
            Kind::Map(value) => {
                let key = Arc::new(Field::new("key", DataType::Int64, false));
                let entries = DataType::Struct(vec![key, value.field("value", 2)].into());
                DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
            }
            Kind::Struct(columns) => DataType::Struct(fields(columns)),
        }
    }

    /// Values are there for null rows, too: what a row holds that is null must not matter.
    fn array(&self, rows: usize, random: &mut Random) -> ArrayRef {
        let nulls = self.nullable.then(|| (0..rows).map(|_| random.next() % 100 >= self.nulls).collect::<NullBuffer>());
        let mut number = || match random.next() % self.different {
            // The least and the greatest of every type, and those with a byte 0xff.
            0 => 0,
            1 => i64::MIN,
            2 => i64::MAX,
            number => number.cast_signed(),
        };
        match &self.kind {
            Kind::Text => {
                let texts: Vec<String> = (0..rows).map(|_| text(number(), self.length)).collect();
                let texts = StringArray::from_iter_values(&texts);
                Arc::new(StringArray::new(texts.offsets().clone(), texts.values().clone(), nulls))
            }
            Kind::Bytes => {
                let bytes: Vec<Vec<u8>> = (0..rows).map(|_| bytes(number(), self.length)).collect();
                let bytes = BinaryArray::from_iter_values(&bytes);
                Arc::new(BinaryArray::new(bytes.offsets().clone(), bytes.values().clone(), nulls))
            }
            Kind::Int => Arc::new(Int32Array::new((0..rows).map(|_| number() as i32).collect(), nulls)),
            Kind::Long => Arc::new(Int64Array::new((0..rows).map(|_| number()).collect(), nulls)),
            Kind::Time => {
                let times = TimestampMicrosecondArray::new((0..rows).map(|_| number()).collect(), nulls);
                Arc::new(times.with_timezone("UTC"))
            }
            Kind::Day => Arc::new(Date32Array::new((0..rows).map(|_| number() as i32).collect(), nulls)),
            Kind::Clock => {
                let micros = (0..rows).map(|_| number().rem_euclid(86_400_000_000));
                Arc::new(Time64MicrosecondArray::new(micros.collect(), nulls))
            }
            Kind::ShortDecimal => {
                let decimals = Decimal32Array::new((0..rows).map(|_| number() as i32 % 1_000_000_000).collect(), nulls);
                Arc::new(decimals.with_data_type(DataType::Decimal32(9, 2)))
            }
            Kind::LongDecimal => {
                let decimals = Decimal64Array::new((0..rows).map(|_| number() % 10_i64.pow(18)).collect(), nulls);
                Arc::new(decimals.with_data_type(DataType::Decimal64(18, 4)))
            }
            Kind::Bool => Arc::new(BooleanArray::new((0..rows).map(|_| number() % 2 == 0).collect(), nulls)),
            Kind::Double => Arc::new(Float64Array::new((0..rows).map(|_| number() as f64).collect(), nulls)),
            Kind::Decimal => {
                let decimals = Decimal128Array::new((0..rows).map(|_| i128::from(number())).collect(), nulls);
                Arc::new(decimals.with_data_type(DataType::Decimal128(20, 0)))
            }
            Kind::List(item) => {
                let offsets = lengths(rows, nulls.as_ref(), random);
                let items = item.array(offsets.last() as usize, random);
                Arc::new(ListArray::new(item.field("element", 1), offsets, items, nulls))
            }
            Kind::Map(value) => {
                let DataType::Map(entries, _) = self.data_type() else { unreachable!() };
                let DataType::Struct(fields) = entries.data_type() else { unreachable!() };
                let offsets = lengths(rows, nulls.as_ref(), random);
                let count = offsets.last() as usize;
                let keys: ArrayRef = Arc::new(Int64Array::from_iter_values((0..count).map(|_| random.next() as i64)));
                let structs = StructArray::new(fields.clone(), vec![keys, value.array(count, random)], None);
                Arc::new(MapArray::new(entries, offsets, structs, nulls, false))
            }
            Kind::Struct(columns) => {
                let arrays = columns.iter().map(|column| column.array(rows, random)).collect();
                Arc::new(StructArray::new(fields(columns), arrays, nulls))
            }
        }
    }
}

fn fields(columns: &[Column]) -> Fields {
    columns.iter().enumerate().map(|(at, column)| column.field(&format!("c{at}"), at + 1)).collect()
}

/// Offsets of lists of up to three items; those of null rows are empty.
fn lengths(rows: usize, nulls: Option<&NullBuffer>, random: &mut Random) -> OffsetBuffer<i32> {
    let is_null = |row| nulls.is_some_and(|nulls| nulls.is_null(row));
    OffsetBuffer::from_lengths((0..rows).map(|row| if is_null(row) { 0 } else { random.next() as usize % 4 }))
}

/// Texts of `length` bytes that differ at their end; the shortest ones are empty, some are not ASCII.
fn text(number: i64, length: usize) -> String {
    match number {
        0 => String::new(),
        1..200 if number % 5 == 0 => "é".repeat(length / 2),
        1..200 if number % 5 == 1 => char::MAX.to_string().repeat(length / 4),
        _ => format!("{number:0length$}"),
    }
}

fn bytes(number: i64, length: usize) -> Vec<u8> {
    let mut bytes = text(number, length).into_bytes();
    match number.rem_euclid(7) {
        0 => bytes.fill(0xff),
        1 => bytes.iter_mut().rev().take(10).for_each(|byte| *byte = 0xff),
        _ => {}
    }
    bytes
}

fn rows(columns: &[Column], rows: usize, seed: u64) -> RecordBatch {
    let mut random = Random(seed);
    let arrays = columns.iter().map(|column| column.array(rows, &mut random)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields(columns))), arrays).unwrap()
}

fn file(groups: &[RecordBatch], layout: Layout) -> Bytes {
    let mut zstd = Zstd::new(1).unwrap();
    let mut file = ParquetFile::new(groups[0].schema(), layout).unwrap();
    for rows in groups {
        file.append(rows, &mut zstd).unwrap();
    }
    file.finish(vec![("written", "by a test".to_owned())]).unwrap().into()
}

fn metadata_of(file: &Bytes) -> Arc<ParquetMetaData> {
    let options =
        ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required).with_encoding_stats_as_mask(false);
    ArrowReaderMetadata::load(file, options).unwrap().metadata().clone()
}

/// What the library makes of the same rows.
fn reference(groups: &[RecordBatch]) -> Arc<ParquetMetaData> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_max_row_group_row_count(None)
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut file, groups[0].schema(), options).unwrap();
    for rows in groups {
        writer.write(rows).unwrap();
        writer.flush().unwrap();
    }
    writer.close().unwrap();
    metadata_of(&file.into())
}

fn read(file: &Bytes, selection: Option<Vec<RowSelector>>) -> RecordBatch {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let mut builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options).unwrap();
    if let Some(selection) = selection {
        builder = builder.with_row_selection(RowSelection::from(selection));
    }
    let schema = builder.schema().clone();
    let batches: Vec<_> = builder.with_batch_size(1_000).build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

/// Readers know one type of decimals.
fn is_read_as(data_type: &DataType) -> DataType {
    let field = |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(is_read_as(field.data_type())));
    match data_type {
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => {
            DataType::Decimal128(*precision, *scale)
        }
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DataType::List(item) => DataType::List(field(item)),
        DataType::Map(entries, is_sorted) => DataType::Map(field(entries), *is_sorted),
        other => other.clone(),
    }
}

fn as_read(written: &RecordBatch) -> RecordBatch {
    let columns = written.columns().iter().map(|column| cast(column, &is_read_as(column.data_type())).unwrap());
    let fields = written
        .schema()
        .fields()
        .iter()
        .map(|field| field.as_ref().clone().with_data_type(is_read_as(field.data_type())))
        .collect::<Vec<_>>();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns.collect()).unwrap()
}

fn are_equal(read: &RecordBatch, written: &RecordBatch) {
    let written = &as_read(written);
    assert_eq!(read.schema().fields(), written.schema().fields());
    assert_eq!(read.num_rows(), written.num_rows());
    for (field, (read, written)) in written.schema().fields().iter().zip(read.columns().iter().zip(written.columns())) {
        assert!(read == written, "{} is not what was written", field.name());
    }
}

/// Reads some rows at the borders of every page, so that whole pages are skipped, and those before and after them.
fn pages_can_be_skipped(file: &Bytes, rows: &RecordBatch) {
    let metadata = metadata_of(file);
    let index = metadata.page_index_for_row_group(0);
    let mut borders: Vec<usize> = (0..metadata.row_group(0).columns().len())
        .flat_map(|column| index.offset_index(column).unwrap().page_locations())
        .map(|page| page.first_row_index as usize)
        .chain([rows.num_rows() / 3, rows.num_rows()])
        .collect();
    borders.sort_unstable();
    let (mut selectors, mut slices, mut next) = (Vec::new(), Vec::new(), 0);
    for border in borders {
        let (from, to) = (border.saturating_sub(2).max(next), (border + 2).min(rows.num_rows()));
        if from < to {
            selectors.extend([RowSelector::skip(from - next), RowSelector::select(to - from)]);
            slices.push(rows.slice(from, to - from));
            next = to;
        }
    }
    are_equal(&read(file, Some(selectors)), &concat_batches(&rows.schema(), &slices).unwrap());
}

/// Compares what the footer and the page index say of every column.
fn says_the_same(ours: &ParquetMetaData, theirs: &ParquetMetaData) {
    assert_eq!(ours.file_metadata().schema_descr(), theirs.file_metadata().schema_descr());
    assert_eq!(ours.num_row_groups(), theirs.num_row_groups());
    for (position, (ours_group, theirs_group)) in ours.row_groups().iter().zip(theirs.row_groups()).enumerate() {
        assert_eq!(ours_group.num_rows(), theirs_group.num_rows());
        let (our_index, their_index) =
            (ours.page_index_for_row_group(position), theirs.page_index_for_row_group(position));
        for (column, (our, their)) in ours_group.columns().iter().zip(theirs_group.columns()).enumerate() {
            let path = our.column_path();
            assert_eq!(our.statistics(), their.statistics(), "{path}");
            assert_eq!(our.num_values(), their.num_values(), "{path}");
            assert_eq!(our.definition_level_histogram(), their.definition_level_histogram(), "{path}");
            assert_eq!(our.repetition_level_histogram(), their.repetition_level_histogram(), "{path}");
            assert_eq!(our.unencoded_byte_array_data_bytes(), their.unencoded_byte_array_data_bytes(), "{path}");
            let (our_pages, their_pages) =
                (our_index.offset_index(column).unwrap(), their_index.offset_index(column).unwrap());
            let rows = |pages: &parquet::file::page_index::offset_index::OffsetIndexMetaData| {
                pages.page_locations().iter().map(|page| page.first_row_index).collect::<Vec<_>>()
            };
            if rows(our_pages) == rows(their_pages) {
                assert_eq!(our_index.column_index(column), their_index.column_index(column), "{path}");
                assert_eq!(
                    our_pages.unencoded_byte_array_data_bytes(),
                    their_pages.unencoded_byte_array_data_bytes(),
                    "{path}"
                );
            }
            is_consistent(our, our_pages, our_index.column_index(column), ours_group.num_rows());
        }
    }
}

fn is_consistent(
    column: &parquet::file::metadata::ColumnChunkMetaData,
    pages: &parquet::file::page_index::offset_index::OffsetIndexMetaData,
    index: Option<&ColumnIndexMetaData>,
    rows: i64,
) {
    let path = column.column_path();
    let locations = pages.page_locations();
    let (start, length) = column.byte_range();
    assert_eq!(column.dictionary_page_offset().unwrap_or(column.data_page_offset()) as u64, start, "{path}");
    assert_eq!(locations[0].offset, column.data_page_offset(), "{path}");
    assert_eq!(locations[0].first_row_index, 0, "{path}");
    for pair in locations.windows(2) {
        assert_eq!(pair[0].offset + i64::from(pair[0].compressed_page_size), pair[1].offset, "{path}");
        assert!(pair[0].first_row_index < pair[1].first_row_index, "{path}");
    }
    let last = locations.last().unwrap();
    assert_eq!((last.offset + i64::from(last.compressed_page_size)) as u64, start + length, "{path}");
    assert!(last.first_row_index < rows, "{path}");
    if column.column_descr().max_rep_level() == 0 {
        let nulls: i64 = index.unwrap().null_counts().unwrap().iter().sum();
        assert_eq!(Some(nulls as u64), column.statistics().unwrap().null_count_opt(), "{path}");
    }
    let data_pages =
        column.page_encoding_stats().unwrap().iter().filter(|stats| stats.page_type == PageType::DATA_PAGE);
    assert_eq!(data_pages.map(|stats| stats.count).sum::<i32>() as usize, locations.len(), "{path}");
    let has_dictionary = column.encodings().any(|encoding| encoding == Encoding::RLE_DICTIONARY);
    assert_eq!(column.dictionary_page_offset().is_some(), has_dictionary, "{path}");
}

fn is_as_written(groups: &[RecordBatch]) {
    let written = file(groups, Layout::default());
    are_equal(&read(&written, None), &concat_batches(&groups[0].schema(), groups).unwrap());
    says_the_same(&metadata_of(&written), &reference(groups));
    assert_eq!(written, file(groups, Layout::default()), "the same rows give other bytes");
    if let [rows] = groups {
        pages_can_be_skipped(&written, rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_rows_are_read_back_and_described_as_the_library_does(
        columns in prop::collection::vec(any_column(), 1..5),
        counts in prop::collection::vec(prop_oneof![8 => 1..60_usize, 1 => 1_000..3_000_usize], 1..3),
        cut in 0..4_usize,
        seed in any::<u64>(),
    ) {
        // A part of larger arrays, so that their buffers do not begin with the first row.
        let groups: Vec<_> = counts.iter().map(|count| rows(&columns, count + cut, seed).slice(cut, *count)).collect();
        is_as_written(&groups);
    }
}

/// Columns that need more than one page, because of the number of their rows or because of their bytes.
#[test]
fn many_rows_have_many_pages() {
    let large = Column { length: 300, ..Column::plain(Kind::Text) };
    let some = Column { nullable: true, nulls: 40, ..large.clone() };
    let few = Column { nullable: true, nulls: 5, different: 7, ..Column::plain(Kind::Text) };
    let inner = vec![large.clone(), some.clone(), few.clone(), Column::plain(Kind::Long), Column::plain(Kind::Double)];
    let columns = [
        Column { different: 50, ..Column::plain(Kind::Int) },
        large,
        Column { nullable: true, nulls: 60, ..Column::plain(Kind::Struct(inner)) },
        Column { nullable: true, nulls: 100, ..Column::plain(Kind::Bytes) },
        few,
    ];
    let rows = rows(&columns, 45_000, 7);
    is_as_written(std::slice::from_ref(&rows));
    let metadata = metadata_of(&file(&[rows], Layout::default()));
    let index = metadata.page_index_for_row_group(0);
    let pages = |column| index.offset_index(column).unwrap().page_locations().len();
    assert_eq!(pages(0), 3);
    assert_eq!(pages(1), 14, "3,449 values of 304 bytes fit into 1 MiB, and 20,000 rows end a page too");
    assert!((0..3).all(|page| index.column_index(7).unwrap().is_null_page(page)));
}

#[test]
fn ordered_pages_are_said_to_be_in_order() {
    let ascending: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50_000));
    let descending: ArrayRef = Arc::new(Int64Array::from_iter_values((0..50_000).rev()));
    let neither: ArrayRef = Arc::new(Int64Array::from_iter_values((0..50_000).map(|row| (row / 20_000 % 2) * row)));
    let rows = RecordBatch::try_from_iter([("a", ascending), ("b", descending), ("c", neither)]).unwrap();
    is_as_written(std::slice::from_ref(&rows));
    let metadata = metadata_of(&file(&[rows], Layout::default()));
    let order = |column| metadata.page_index_for_row_group(0).column_index(column).unwrap().get_boundary_order();
    use parquet::basic::BoundaryOrder;
    assert_eq!(order(0), Some(BoundaryOrder::ASCENDING));
    assert_eq!(order(1), Some(BoundaryOrder::DESCENDING));
    assert_eq!(order(2), Some(BoundaryOrder::UNORDERED));
}

#[test]
fn a_value_larger_than_a_page_has_its_own() {
    let long = "x".repeat(3 << 20);
    let texts: ArrayRef =
        Arc::new(StringArray::from(vec![Some("a"), None, Some(&*long), None, Some(&*long), Some("b")]));
    let rows = RecordBatch::try_from_iter([("texts", texts)]).unwrap();
    is_as_written(std::slice::from_ref(&rows));
    let metadata = metadata_of(&file(&[rows], Layout { distinct: &["texts"], ..Layout::default() }));
    let index = metadata.page_index_for_row_group(0);
    let starts = index.offset_index(0).unwrap().page_locations().iter().map(|page| page.first_row_index);
    assert_eq!(starts.collect::<Vec<_>>(), [0, 2, 3, 5]);
}

/// What rows hold that are not there must not be taken for a value that repeats.
#[test]
fn a_column_of_different_values_has_no_dictionary_because_of_absent_rows() {
    let ids: ArrayRef = Arc::new(StringArray::from_iter_values((0..5_000).map(|row| match row % 3 {
        0 => format!("{row:032}"),
        _ => String::new(),
    })));
    let order = Column { nullable: true, ..Column::plain(Kind::Struct(vec![Column::plain(Kind::Text)])) };
    let nulls = (0..5_000).map(|row| row % 3 == 0).collect();
    let orders = StructArray::new(fields(&[Column::plain(Kind::Text)]), vec![ids], Some(nulls));
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields(&[order]))), vec![Arc::new(orders)]).unwrap();
    let metadata = metadata_of(&file(&[rows], Layout::default()));
    assert_eq!(metadata.row_group(0).column(0).dictionary_page_offset(), None);
}

#[test]
fn a_file_says_how_it_is_sorted_and_what_its_footer_is() {
    let columns = [Column::plain(Kind::Long), Column { length: 64, ..Column::plain(Kind::Bytes) }];
    let layout = Layout { sorted_by: &[0], distinct: &["c1"], incompressible: &["c1"] };
    let metadata = metadata_of(&file(&[rows(&columns, 1_000, 1)], layout));
    let group = metadata.row_group(0);
    assert_eq!(group.sorting_columns().unwrap().len(), 1);
    assert_eq!(group.column(0).compression_codec(), CompressionCodec::ZSTD);
    assert_eq!(group.column(1).compression_codec(), CompressionCodec::UNCOMPRESSED);
    assert_eq!(group.column(1).dictionary_page_offset(), None);
    let footer = metadata.file_metadata().key_value_metadata().unwrap();
    assert_eq!(footer, &[KeyValue::new("written".to_owned(), "by a test".to_owned())]);
}

#[test]
fn a_file_can_be_taken_while_it_is_written() {
    let columns = [Column::plain(Kind::Long), Column { different: 9, ..Column::plain(Kind::Text) }];
    let groups: Vec<_> = (1..4).map(|group| rows(&columns, group * 1_500, group as u64)).collect();
    let mut zstd = Zstd::new(1).unwrap();
    let mut file_of_parts = ParquetFile::new(groups[0].schema(), Layout::default()).unwrap();
    let other = ParquetFile::new(groups[0].schema(), Layout::default()).unwrap();
    let mut taken = Vec::new();
    for rows in &groups {
        // A row group belongs to no file before it is pushed.
        let group = other.encode(rows, &mut zstd).unwrap();
        assert!(group.bytes() > 0);
        file_of_parts.push(group).unwrap();
        taken.push(file_of_parts.take_bytes());
    }
    assert!(taken.iter().all(|bytes| !bytes.is_empty()));
    taken.push(file_of_parts.finish(vec![("written", "by a test".to_owned())]).unwrap());
    assert_eq!(taken.concat(), file(&groups, Layout::default()));
}

#[test]
fn a_file_without_rows_is_a_file() {
    let none = rows(&[Column::plain(Kind::Text)], 0, 0);
    let file = file(&[none], Layout::default());
    assert_eq!(read(&file, None).num_rows(), 0);
}

#[test]
fn rows_of_another_schema_are_refused() {
    let mut zstd = Zstd::new(1).unwrap();
    let texts = rows(&[Column::plain(Kind::Text)], 3, 0);
    let mut file = ParquetFile::new(texts.schema(), Layout::default()).unwrap();
    assert!(file.append(&rows(&[Column::plain(Kind::Long)], 3, 0), &mut zstd).is_err());
    let nulls = Column { nullable: true, nulls: 100, ..Column::plain(Kind::Text) };
    assert!(file.append(&rows(&[nulls], 3, 0), &mut zstd).is_err());
}
