//! Whole objects, read back with the library's reader.

use std::io::{self, Read, Write};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    datatypes::{DataType, Date32Type, Decimal128Type, Float64Type, TimestampMicrosecondType},
    util::display::array_value_to_string,
};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use parquet::{arrow::arrow_reader::ParquetRecordBatchReaderBuilder, file::metadata::ParquetMetaDataReader};
use proptest::prelude::*;
use shared::column_type::ColumnType;

use super::*;

/// A row that was quarantined, with values of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refused {
    line: u64,
    column: Option<String>,
    value: String,
    reason: Reason,
    record: Vec<u8>,
}

/// Keeps everything, and checks the order of the calls.
#[derive(Debug, Default, PartialEq, Eq)]
struct Memory {
    parts: Vec<Vec<u8>>,
    ended: usize,
    refused: Vec<Refused>,
}

impl Sink for Memory {
    fn begin_part(&mut self, part: u32) -> io::Result<()> {
        assert_eq!((part as usize, self.parts.len()), (self.ended, self.ended));
        self.parts.push(Vec::new());
        Ok(())
    }

    fn part_bytes(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        self.parts[self.ended].extend(bytes);
        Ok(())
    }

    fn end_part(&mut self, part: &Part) -> io::Result<()> {
        assert_eq!(self.parts[self.ended].len() as u64, part.bytes);
        self.ended += 1;
        Ok(())
    }

    fn quarantine(&mut self, row: &Quarantined<'_>) -> io::Result<()> {
        self.refused.push(Refused {
            line: row.line,
            column: row.column.map(str::to_owned),
            value: row.value.to_string(),
            reason: row.reason,
            record: row.record.to_vec(),
        });
        Ok(())
    }
}

impl Memory {
    fn batches(&self) -> Vec<RecordBatch> {
        let read = |part: &Vec<u8>| {
            let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(part.clone())).unwrap();
            reader.build().unwrap().map(Result::unwrap).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(read).collect()
    }

    /// The values as text, row by row; null is `-`.
    fn rows(&self) -> Vec<Vec<String>> {
        let value = |batch: &RecordBatch, column: usize, row| {
            let column = batch.column(column);
            if column.is_null(row) { "-".to_owned() } else { array_value_to_string(column, row).unwrap() }
        };
        let rows = |batch: &RecordBatch| {
            let columns = 0..batch.num_columns();
            (0..batch.num_rows()).map(|row| columns.clone().map(|column| value(batch, column, row)).collect()).collect()
        };
        self.batches().iter().flat_map::<Vec<_>, _>(rows).collect()
    }

    fn reasons(&self) -> Vec<(u64, Option<&str>, Reason)> {
        self.refused.iter().map(|row| (row.line, row.column.as_deref(), row.reason)).collect()
    }
}

fn plan(key: &str) -> Plan {
    Plan::new(Format::of_key(key).unwrap())
}

fn declared(key: &str, columns: &[(&str, &str)]) -> Plan {
    let columns: Vec<_> = columns.iter().map(|(name, kind)| serde_json::json!({"name": name, "type": kind})).collect();
    let json = serde_json::to_vec(&columns).unwrap();
    Plan { columns: Some(Declaration::parse(&json).unwrap()), ..plan(key) }
}

fn converted(input: &[u8], plan: &Plan) -> (Summary, Memory) {
    let mut memory = Memory::default();
    let summary = convert(input, plan, &mut memory).unwrap();
    assert_eq!(memory.ended, summary.parts.len());
    assert_eq!(memory.refused.len() as u64, summary.quarantined);
    (summary, memory)
}

fn rows(input: &str, plan: &Plan) -> Vec<String> {
    converted(input.as_bytes(), plan).1.rows().iter().map(|row| row.join("|")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Returns at most so many bytes a read.
struct Slow<'a>(&'a [u8], usize);

impl Read for Slow<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = to.len().min(self.1);
        self.0.read(&mut to[..count])
    }
}

const SAMPLE: &[u8] = include_bytes!("../../testdata/EDW.SAMPLE/LOAD00000001.csv");
const SAMPLE_DFM: &[u8] = include_bytes!("../../testdata/EDW.SAMPLE/LOAD00000001.dfm");
const CHANGES: &[u8] = include_bytes!("../../testdata/EDW.SAMPLE__ct/20220102-204950406.csv");
const CHANGES_DFM: &[u8] = include_bytes!("../../testdata/EDW.SAMPLE__ct/20220102-204950406.dfm");

#[test]
fn a_load_of_qlik_has_the_types_of_its_dfm() {
    let plan = plan("EDW.SAMPLE/LOAD00000001.csv.gz").with_dfm(Dfm::parse(SAMPLE_DFM).unwrap());
    let (summary, memory) = converted(&gzip(SAMPLE), &plan);
    assert_eq!(memory.refused, []);
    assert_eq!((summary.rows, summary.record_count_mismatch()), (6, None));
    let types: Vec<_> = summary.columns.iter().map(|column| column.column_type.to_string()).collect();
    let expected = ["bigint", "text", "integer", "decimal(12,4)", "double", "boolean", "date", "time", "timestamp"];
    assert_eq!(types, expected);
    let rows: Vec<_> = memory.rows().iter().map(|row| row.join("|")).collect();
    assert_eq!(rows[0], "1|Park Street|4|2.4000|0.5|true|1897-09-01|05:15:00|2021-12-01T11:20:30.444444");
    assert_eq!(rows[1], "2|Say \"hi\", \u{1f687}\nsecond line|-|-|-|-|-|-|-");
    assert_eq!(rows[2].split('|').nth(1), Some(""), "a quoted empty field is an empty text");
    assert_eq!(rows[3].split('|').nth(1), Some("-"), "one without quotes is null");
}

#[test]
fn a_file_of_changes_says_what_happened_in_typed_columns() {
    let plan = Plan { changes: true, ..plan("EDW.SAMPLE__ct/1.csv.gz").with_dfm(Dfm::parse(CHANGES_DFM).unwrap()) };
    let (summary, memory) = converted(&gzip(CHANGES), &plan);
    assert_eq!(memory.refused, []);
    assert_eq!((&*summary.added, &*summary.missing), (&[][..], &[][..]));
    let columns: Vec<_> =
        summary.columns.iter().map(|column| format!("{} {}", column.name, column.column_type)).collect();
    assert_eq!(
        columns[..3],
        ["header__change_seq decimal(35,0)", "header__change_oper text", "header__timestamp timestamp"]
    );
    let rows = memory.rows();
    assert_eq!(rows[0][..3], ["20220102204946000000000000000000005", "I", "2022-01-02T20:49:46"]);
    let operations: String = rows.iter().map(|row| &*row[1]).collect();
    assert_eq!(operations, "IBUD");
    assert_eq!(rows[3][8], "-", "a deleted row has its key only");
}

#[test]
fn without_a_declaration_every_column_is_text() {
    let (summary, memory) = converted(b"\xef\xbb\xbfid,Name\r\n1,a\r\n,\"\"\r\n2,b", &plan("a.csv"));
    assert_eq!(memory.rows(), [["1", "a"], ["-", ""], ["2", "b"]]);
    assert!(summary.columns.iter().all(|column| column.column_type == ColumnType::Text));
    assert_eq!(summary.columns[0].name, "id", "the byte order mark is no part of the name");
}

#[test]
fn columns_are_found_by_their_names() {
    let plan = declared("a.csv", &[("id", "bigint"), ("Name", "text"), ("gone", "date")]);
    let (summary, memory) = converted(b"extra,NAME,id\nx,y,1\n", &plan);
    assert_eq!(memory.rows(), [["1", "y", "-", "x"]]);
    let names: Vec<_> = summary.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(names, ["id", "Name", "gone", "extra"]);
    assert_eq!((&*summary.missing, &*summary.added), (&["gone".to_owned()][..], &["extra".to_owned()][..]));
}

#[test]
fn names_are_unique_whatever_their_case() {
    let (summary, memory) = converted(b"id,ID,,id_2\n1,2,3,4\n", &plan("a.csv"));
    let names: Vec<_> = summary.columns.iter().map(|column| &*column.name).collect();
    assert_eq!(names, ["id", "ID_2", "column_3", "id_2_2"]);
    assert_eq!(summary.renamed.len(), 2);
    assert_eq!(memory.rows(), [["1", "2", "3", "4"]]);
    let exact = declared("a.csv", &[("ID", "text"), ("id", "bigint")]);
    assert_eq!(rows("id,ID\n1,a\n", &exact), ["a|1"]);
}

#[test]
fn a_name_that_occurs_twice_is_an_error() {
    let error = convert(&b"a,b,a,b,c\n1,2,3,4,5\n"[..], &plan("a.csv"), &mut Memory::default()).unwrap_err();
    assert_eq!(error.to_string(), "the header has more than one column a, b");
}

#[test]
fn a_file_without_a_header_has_the_declared_columns_or_numbers() {
    let mut plan = declared("a.csv", &[("id", "integer"), ("name", "text")]);
    plan.dialect.header = false;
    let (summary, memory) = converted(b"1,a\n2,b,c\n", &plan);
    assert_eq!(memory.rows(), [["1", "a"]]);
    assert_eq!(memory.reasons(), [(2, None, Reason::TooManyFields)]);
    assert_eq!(summary.columns[1].name, "name");
    plan.columns = None;
    let (summary, memory) = converted(b"1,a\n2,b\n", &plan);
    assert_eq!(memory.rows().len(), 2);
    assert_eq!(summary.columns[1].name, "column_2");
}

#[test]
fn a_value_that_does_not_fit_takes_its_row_to_the_quarantine() {
    let plan = declared("a.csv", &[("a", "text"), ("b", "smallint"), ("c", "date")]);
    let (summary, memory) = converted(b"a,b,c\n\"x\ny\",1,2021-12-01\nz,40000,2021-12-01\nz,2,gone\nw,3,\n", &plan);
    assert_eq!(memory.rows(), [["x\ny", "1", "2021-12-01"], ["w", "3", "-"]]);
    assert_eq!((summary.rows, summary.quarantined), (2, 2));
    let expected = Refused {
        line: 4,
        column: Some("b".to_owned()),
        value: "40000".to_owned(),
        reason: Reason::OutOfRange,
        record: b"z,40000,2021-12-01".to_vec(),
    };
    assert_eq!(memory.refused[0], expected);
    assert_eq!(memory.reasons()[1], (5, Some("c"), Reason::NotADate));
}

#[test]
fn a_misfit_can_fail_the_load_or_become_null() {
    let mut plan = declared("a.csv", &[("a", "integer"), ("b", "text")]);
    let input = "a,b\n1,x\n1.5,y\n2\n";
    plan.on_misfit = OnMisfit::Null;
    let (summary, memory) = converted(input.as_bytes(), &plan);
    assert_eq!(memory.rows(), [["1", "x"], ["-", "y"]]);
    assert_eq!((summary.nulled, memory.reasons()), (1, vec![(4, None, Reason::TooFewFields)]));
    plan.on_misfit = OnMisfit::Fail;
    let error = convert(input.as_bytes(), &plan, &mut Memory::default()).unwrap_err();
    assert_eq!(error.to_string(), "line 3, column a: not_an_integer: \"1.5\"");
    assert!(error.is_permanent());
}

#[test]
fn records_that_cannot_be_read_are_kept_apart() {
    let input = b"a,b\n1\n1,2,3\n\xff,\xfe\n\nx,y\nq,\"never closed\n1,2\n";
    let (summary, memory) = converted(input, &plan("a.csv"));
    assert_eq!(memory.rows(), [["x", "y"]]);
    let expected = [
        (2, None, Reason::TooFewFields),
        (3, None, Reason::TooManyFields),
        (4, Some("a"), Reason::InvalidUtf8),
        (7, None, Reason::UnclosedQuote),
    ];
    assert_eq!(memory.reasons(), expected);
    assert_eq!(summary.records(), 5);
    assert_eq!(memory.refused[2].record, b"\xff,\xfe");
}

#[test]
fn a_record_that_is_too_long_is_not_kept() {
    let mut plan = plan("a.csv");
    plan.limits.record_bytes = 100_000;
    let long = "x".repeat(3 << 20);
    for (input, line) in [
        (format!("a,b\n1,2\n{long},\"{long}\n,\"\n3,4\n"), 5),
        (format!("a,b\n1,2\n{},y\n3,4\n", &long[..100_000]), 4),
        (format!("a,b\n1,2\n\"{},\"\"y\n3,4\n", &long[..100_000]), 4),
    ] {
        let (summary, memory) = converted(input.as_bytes(), &plan);
        let reason = if input.contains("\"\"") { Reason::UnclosedQuote } else { Reason::TooLong };
        let first = memory.refused.first().unwrap();
        assert_eq!((first.line, first.record.len() <= 100_000), (3, true));
        assert!(matches!(first.reason, Reason::TooLong) || first.reason == reason);
        if reason == Reason::TooLong {
            assert_eq!(memory.rows(), [["1", "2"], ["3", "4"]], "line {line}");
            assert_eq!(first.record.len(), 64 << 10);
            assert_eq!(summary.quarantined, 1);
        }
    }
}

#[test]
fn a_line_of_json_that_is_too_long_is_not_kept() {
    let mut plan = plan("a.json");
    plan.limits.record_bytes = 100_000;
    let long = "x".repeat(3 << 20);
    for length in [100_001, 3 << 20] {
        let input = format!("1\n\"{}\n\n2", &long[..length - 1]);
        let (_, memory) = converted(input.as_bytes(), &plan);
        assert_eq!(memory.rows(), [["1"], ["2"]]);
        assert_eq!(memory.reasons(), [(2, None, Reason::TooLong)]);
        assert_eq!(memory.refused[0].record.len(), 64 << 10);
    }
}

#[test]
fn what_stands_for_null_is_null_without_quotes_only() {
    let mut plan = declared("a.csv", &[("a", "text"), ("b", "integer")]);
    plan.dialect.null = "NULL".to_owned();
    assert_eq!(rows("a,b\nNULL,NULL\n\"NULL\",\"\"\n,\n", &plan), ["-|-", "NULL|-", "|-"]);
    plan.dialect.null = "\\N".to_owned();
    plan.dialect.escape = Some(b'\\');
    assert_eq!(rows("a,b\n\\N,1\n", &plan), ["-|1"]);
}

#[test]
fn a_single_column_has_a_row_for_every_line() {
    assert_eq!(rows("a\n1\n\n\"\"\n2\n", &plan("a.csv")), ["1", "-", "", "2"]);
    assert_eq!(rows("a,b\n\n1,2\r\n\r\n3,4\n\n", &plan("a.csv")), ["1|2", "3|4"]);
}

#[test]
fn an_object_without_rows_has_no_part() {
    for input in ["", "a,b\n", "a,b", "\n\n"] {
        let (summary, memory) = converted(input.as_bytes(), &declared("a.csv", &[("a", "text"), ("z", "date")]));
        assert_eq!((summary.rows, memory.parts.len()), (0, 0));
        assert!(summary.missing.contains(&"z".to_owned()));
    }
    assert_eq!(converted(b"", &plan("a.json")).0.parts, []);
}

#[test]
fn json_has_its_declared_members_and_the_rest() {
    let plan = declared(
        "a.json",
        &[("id", "bigint"), ("at", "timestamp"), ("tags", "text"), ("ok", "boolean"), ("n", "decimal(9,2)")],
    );
    let input = concat!(
        r#"{"id": 7, "at": "2021-12-01T11:20:30Z", "tags": ["a", {"b": 1.0}], "ok": true, "n": 1.50}"#,
        "\r\n",
        r#"  {"extra": {"x": [1,  2]}, "id": "8", "a\"b": null, "n": null, "tags": "caf\u00e9"}  "#,
        "\n\n",
        r#"{"id": 9, "id": 10, "ok": 1}"#,
    );
    let (summary, memory) = converted(input.as_bytes(), &plan);
    assert_eq!(memory.refused, []);
    assert_eq!(
        memory.rows(),
        [
            ["7", "2021-12-01T11:20:30", r#"["a", {"b": 1.0}]"#, "true", "1.50", "-"],
            ["8", "-", "café", "-", "-", r#"{"extra":{"x": [1,  2]},"a\"b":null}"#],
            ["10", "-", "-", "true", "-", "-"],
        ]
    );
    assert_eq!(summary.columns.last().unwrap().name, "_rest");
}

#[test]
fn json_that_nobody_declared_stays_as_it_stands() {
    let input = "{\"a\": 1.10,  \"b\":\"\\u00e9\"}\r\n [1,2]\nnull\nnot json\n{\"a\":1} {}\n";
    let (_, memory) = converted(input.as_bytes(), &plan("a.json"));
    assert_eq!(memory.rows(), [["{\"a\": 1.10,  \"b\":\"\\u00e9\"}"], [" [1,2]"], ["null"]]);
    assert_eq!(memory.reasons(), [(4, None, Reason::NotJson), (5, None, Reason::NotJson)]);
}

#[test]
fn json_that_is_no_object_is_kept_apart() {
    let plan = declared("a.json", &[("id", "integer")]);
    let (_, memory) = converted(b"[1]\n{\"id\":1.5}\n{\"id\":\n{\"id\":\"\xff\"}\n{\"id\":{}}\n{\"id\":3}\n", &plan);
    assert_eq!(memory.rows(), [["3", "-"]]);
    let expected = [
        (1, None, Reason::NotAnObject),
        (2, Some("id"), Reason::NotAnInteger),
        (3, None, Reason::NotJson),
        (4, None, Reason::InvalidUtf8),
        (5, Some("id"), Reason::NotAnInteger),
    ];
    assert_eq!(memory.reasons(), expected);
}

#[test]
fn gzip_may_have_several_members() {
    let input = [gzip(b"a,b\n1,2\n3"), gzip(b",4\n"), gzip(b"5,6\n")].concat();
    assert_eq!(converted(&input, &plan("a.csv.gz")).1.rows(), [["1", "2"], ["3", "4"], ["5", "6"]]);
}

#[test]
fn damaged_gzip_is_an_error_that_says_where() {
    let whole = gzip(&b"a,b\n1,2\n".repeat(5_000));
    let fail = |input: &[u8]| convert(input, &plan("a.csv.gz"), &mut Memory::default()).unwrap_err();
    for end in [0, 5, whole.len() / 2, whole.len() - 1] {
        let ConvertError::TruncatedGzip { offset } = fail(&whole[..end]) else { panic!("{end}") };
        assert_eq!(offset, end as u64);
    }
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(matches!(fail(&damaged), ConvertError::CorruptGzip { offset, .. } if offset <= whole.len() as u64));
    assert!(matches!(fail(b"a,b\n1,2\n3,4\n"), ConvertError::CorruptGzip { .. }));
}

/// Fails after its bytes.
struct Broken<'a>(&'a [u8]);

impl Read for Broken<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        match self.0.read(to)? {
            0 => Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            count => Ok(count),
        }
    }
}

#[test]
fn a_source_that_fails_is_told_apart_from_damage() {
    for (input, key) in [(gzip(b"a,b\n1,2\n"), "a.csv.gz"), (b"a,b\n1,2\n".to_vec(), "a.csv")] {
        let error = convert(Broken(&input[..input.len() - 4]), &plan(key), &mut Memory::default()).unwrap_err();
        assert!(matches!(error, ConvertError::Read(_)) && !error.is_permanent());
    }
}

fn numbered(rows: usize) -> String {
    let row = |row: usize| format!("{row},name {row},{}.25\n", row * 7_919 % 10_007);
    format!("id,name,fare\n{}", (0..rows).map(row).collect::<String>())
}

#[test]
fn large_objects_have_several_parts_of_limited_size() {
    let mut plan = declared("a.csv", &[("id", "bigint"), ("name", "text"), ("fare", "decimal(9,2)")]);
    plan.limits = Limits { row_group_rows: 1_000, part_bytes: 40_000, ..Limits::default() };
    plan.footer = vec![("landfall.load_id".to_owned(), "17".to_owned())];
    let (summary, memory) = converted(numbered(20_000).as_bytes(), &plan);
    assert!(summary.parts.len() > 3, "{}", summary.parts.len());
    assert!(summary.parts.iter().all(|part| part.bytes <= 40_000));
    assert_eq!(summary.parts.iter().map(|part| part.rows).sum::<u64>(), 20_000);
    let ids = memory.rows().iter().enumerate().all(|(row, values)| values[0] == row.to_string());
    assert!(ids, "rows are in the order of the object");
    for part in memory.parts {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(part)).unwrap();
        let footer = metadata.file_metadata().key_value_metadata().unwrap();
        assert_eq!((&*footer[0].key, footer[0].value.as_deref()), ("landfall.load_id", Some("17")));
    }
}

#[test]
fn row_groups_end_when_they_have_enough_bytes() {
    let mut plan = declared("a.csv", &[("id", "bigint"), ("name", "text"), ("fare", "decimal(9,2)")]);
    plan.limits.row_group_bytes = 100_000;
    let (_, memory) = converted(numbered(20_000).as_bytes(), &plan);
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&Bytes::from(memory.parts[0].clone())).unwrap();
    let sizes: Vec<_> = metadata.row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(sizes.iter().sum::<i64>(), 20_000);
    assert!(sizes[..sizes.len() - 1].iter().all(|rows| (3_500..4_500).contains(rows)), "{sizes:?}");
}

#[test]
fn a_footer_is_read_without_the_rest_of_the_file() {
    let (_, memory) = converted(SAMPLE, &plan("a.csv").with_dfm(Dfm::parse(SAMPLE_DFM).unwrap()));
    let file = Bytes::from(memory.parts[0].clone());
    let size = file.len() as u64;
    let info = parquet_info(&file, size).unwrap();
    assert_eq!((info.rows, info.columns.len()), (6, 9));
    assert_eq!(info.columns[3], ("FARE".to_owned(), "Decimal128(12, 4)".to_owned()));
    let Err(ConvertError::FooterNeeds(bytes)) = parquet_info(&file.slice(file.len() - 10..), size) else { panic!() };
    let end = file.slice(file.len() - bytes..);
    assert_eq!(parquet_info(&end, size).unwrap(), info);
    let cut = file.slice(..file.len() - 3);
    assert!(matches!(parquet_info(&cut, cut.len() as u64), Err(ConvertError::NotParquet(_))));
    assert!(matches!(parquet_info(&Bytes::from_static(b"PAR"), 3), Err(ConvertError::NotParquet(_))));
}

fn any_plan() -> impl Strategy<Value = Plan> {
    let types =
        ["integer", "text", "decimal(5,2)", "date", "timestamp", "boolean", "double", "time", "decimal(30,3)", "real"];
    let columns = prop::collection::vec(prop::sample::select(types.to_vec()), 0..4);
    let declaration = prop::option::of(columns.prop_map(|types| {
        let named: Vec<_> = ["a", "b", "c"].into_iter().zip(types).collect();
        declared("a.csv", &named).columns.unwrap()
    }));
    let limits = (1..20_usize, 200..5_000_u64, 20..300_usize).prop_map(|(row_group_rows, part_bytes, record_bytes)| {
        Limits { row_group_rows, part_bytes, record_bytes, ..Limits::default() }
    });
    let dialect = (any::<bool>(), prop::option::of(Just(b'\\')), prop::sample::select(vec!["", "a", "NULL"]));
    (declaration, limits, dialect, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(columns, limits, (header, escape, null), changes, json, nulls)| Plan {
            columns,
            limits,
            changes,
            dialect: Dialect { header, escape, null: null.to_owned(), ..Dialect::default() },
            on_misfit: if nulls { OnMisfit::Null } else { OnMisfit::Quarantine },
            ..plan(if json { "a.json" } else { "a.csv" })
        },
    )
}

fn any_input() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        "[0-9]{0,6}(\\.[0-9]{1,3})?",
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]( 1[0-9]:00:0[0-9])?",
        "\"([a-z,\n]|\"\"){0,8}\"",
        "[a-zé]{0,9}",
        Just("NULL".to_owned()),
        Just("true".to_owned()),
        Just("x".repeat(400)),
    ];
    let record = prop::collection::vec(value, 1..5).prop_map(|values| values.join(","));
    let json = prop::sample::select(vec![
        r#"{"a":1,"b":"x","c":2.5}"#,
        r#"{"a":"2021-12-01","z":[1,{"y":null}]}"#,
        "[]",
        "{",
        "1",
        "",
        r#"{"a":true,"a":false}"#,
    ]);
    let lines = prop_oneof![
        4 => prop::collection::vec(record, 0..30).prop_map(|rows| "a,b,c\n".to_owned() + &rows.join("\n")),
        2 => prop::collection::vec(json, 0..20).prop_map(|lines| lines.join("\n")),
    ];
    prop_oneof![
        6 => lines.prop_map(String::into_bytes),
        1 => prop::collection::vec(prop::sample::select(b"ab,\"\n\r\\1".to_vec()), 0..200),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_become_rows_or_go_to_the_quarantine(input in any_input(), plan in any_plan(), read in 1..9_usize) {
        let mut memory = Memory::default();
        let Ok(summary) = convert(&*input, &plan, &mut memory) else { return Ok(()) };
        prop_assert_eq!(memory.rows().len() as u64, summary.rows);
        prop_assert_eq!(memory.refused.len() as u64, summary.quarantined);
        // With nothing to misfit, the records are the same.
        let untyped = Plan { columns: None, limits: Limits { record_bytes: 1 << 20, ..plan.limits }, ..plan.clone() };
        if plan.dialect.header && plan.format.kind == Kind::Csv {
            prop_assert_eq!(converted(&input, &untyped).0.records(), summary.records());
        }
        let mut slowly = Memory::default();
        prop_assert_eq!(convert(Slow(&input, read), &plan, &mut slowly).unwrap(), summary);
        prop_assert_eq!(slowly, memory);
    }

    #[test]
    fn any_bytes_of_gzip_end_without_a_panic(mut input in any_input().prop_map(|input| gzip(&input)), at in any::<usize>(), byte in any::<u8>()) {
        let at = at % input.len();
        input[at] = byte;
        if let Err(error) = convert(&*input, &plan("a.csv.gz"), &mut Memory::default()) {
            prop_assert!(error.is_permanent());
        }
    }
}

#[test]
fn the_size_of_reads_changes_nothing() {
    let plan = declared("a.csv.gz", &[("id", "bigint"), ("fare", "double")]);
    let input = gzip(numbered(30_000).as_bytes());
    let (summary, memory) = converted(&input, &plan);
    assert_eq!(summary.rows, 30_000);
    for read in [1_000, 4_096, 65_537] {
        let mut slowly = Memory::default();
        assert_eq!(convert(Slow(&input, read), &plan, &mut slowly).unwrap(), summary);
        assert!(slowly == memory);
    }
}

/// A file of another writer, and what others read from it. See `testdata/readers.py`.
#[derive(serde::Deserialize)]
struct Case {
    csv: String,
    dialect: serde_json::Value,
    columns: serde_json::Value,
    rows: Vec<Vec<Option<String>>>,
    refused: Vec<(u64, Option<String>)>,
}

impl Case {
    fn plan(&self) -> Plan {
        let dfm = serde_json::json!({"formatInfo": {"options": self.dialect}, "dataInfo": {"columns": []}});
        let dialect = Dfm::parse(dfm.to_string().as_bytes()).unwrap().dialect;
        let columns = Some(Declaration::parse(self.columns.to_string().as_bytes()).unwrap());
        Plan { dialect, columns, ..plan("a.csv") }
    }
}

/// A value as the corpus writes it.
fn plain_text(column: &ArrayRef, row: usize) -> Option<String> {
    if column.is_null(row) {
        return None;
    }
    Some(match column.data_type() {
        DataType::Date32 => column.as_primitive::<Date32Type>().value(row).to_string(),
        DataType::Timestamp(..) => column.as_primitive::<TimestampMicrosecondType>().value(row).to_string(),
        DataType::Decimal128(..) => column.as_primitive::<Decimal128Type>().value(row).to_string(),
        DataType::Float64 => {
            let number = column.as_primitive::<Float64Type>().value(row);
            format!("{:016x}", number.to_bits())
        }
        _ => array_value_to_string(column, row).unwrap(),
    })
}

/// The corpus of the repository, or the one that `LANDFALL_READERS` names.
#[test]
fn files_of_other_writers_are_read_as_pandas_reads_them() {
    #[expect(clippy::disallowed_methods, reason = "another corpus is chosen for one run of the test")]
    let corpus = std::env::var("LANDFALL_READERS").unwrap_or_else(|_| "testdata/readers.ndjson".to_owned());
    let corpus = std::fs::read_to_string(corpus).unwrap();
    let mut different = Vec::new();
    for (number, line) in corpus.lines().enumerate() {
        let case: Case = serde_json::from_str(line).unwrap();
        let (_, memory) = converted(case.csv.as_bytes(), &case.plan());
        let kinds: Vec<_> = case.columns.as_array().unwrap().iter().map(|column| column["type"] == "double").collect();
        let bits = |text: &String| format!("{:016x}", text.parse::<f64>().unwrap().to_bits());
        let expected: Vec<Vec<_>> = case
            .rows
            .iter()
            .map(|row| {
                row.iter()
                    .zip(&kinds)
                    .map(|(value, is_double)| if *is_double { value.as_ref().map(bits) } else { value.clone() })
                    .collect()
            })
            .collect();
        let read: Vec<Vec<_>> = memory
            .batches()
            .iter()
            .flat_map(|batch| {
                let row = |row| batch.columns().iter().map(|column| plain_text(column, row)).collect();
                (0..batch.num_rows()).map(row).collect::<Vec<_>>()
            })
            .collect();
        let refused: Vec<_> = memory.refused.iter().map(|row| (row.line, row.column.clone())).collect();
        if (&read, &refused) != (&expected, &case.refused) {
            different
                .push(format!("{number}: {:?}\n{read:?}\n{expected:?}\n{refused:?}\n{:?}", case.csv, case.refused));
        }
    }
    assert!(corpus.lines().count() >= 100);
    assert!(
        different.is_empty(),
        "{} files differ\n{}",
        different.len(),
        different[..different.len().min(3)].join("\n\n")
    );
}
