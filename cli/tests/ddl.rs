//! `landfall ddl` for event types of its own, whose scripts are compared with the recorded ones in `testdata/ddl/`. A change of
//! `proto/` does not change them. `LANDFALL_RECORD=1 cargo nextest run -p landfall ddl` records them again: review the diff.
//!
//! The files of these event types are written too, for `python3 -m local ddl`, which parses and executes the scripts.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure is a failed test")]

use std::{fs, path::Path};

use arrow::array::RecordBatch;
use columns::{Layout, ParquetFile, Zstd};
use kit::{output::Captured, protos};
use landfall::{
    Cli, Command,
    console::Console,
    ddl::{schema, script},
    outcome::Outcome,
};
use landing::table::Tables;
use shared::event::Registry;

const EVENTS: &str = include_str!("../testdata/ddl/events.proto");
const EVERYTHING: &str = include_str!("../../columns/testdata/everything.proto");
const ORDER: &str = "every_kind shop.EveryKind\norder shop.Order\ngroup shop.Group\nuser shop.User\nday shop.Day\n";

/// The scripts that are recorded, with the arguments that make them.
const RECORDED: &[(&str, &[&str])] = &[
    ("snowflake-together", &["snowflake"]),
    ("snowflake-by-type", &["snowflake", "--layout", "by-type"]),
    ("snowflake-added", &["snowflake", "--added", "order"]),
    ("redshift-together", &["redshift"]),
    ("redshift-by-type", &["redshift", "--layout", "by-type"]),
    ("redshift-added", &["redshift", "--added", "order", "--added", "user"]),
    ("athena-together", &["athena"]),
    ("athena-by-type", &["athena", "--layout", "by-type"]),
    ("athena-added", &["athena", "--added", "order"]),
    ("duckdb-together", &["duckdb"]),
    ("duckdb-by-type", &["duckdb", "--layout", "by-type"]),
    ("duckdb-added", &["duckdb", "--added", "order"]),
    (
        "snowflake-options",
        &[
            "snowflake",
            "--layout",
            "by-type",
            "--added",
            "order",
            "--bucket",
            "acme-lake",
            "--prefix",
            "copy/events",
            "--schema",
            "analytics.lake",
            "--topic-arn",
            "arn:aws:sns:eu-west-1:111122223333:landfall-landed",
            "--storage-integration",
            "acme",
        ],
    ),
    (
        "redshift-options",
        &["redshift", "--bucket", "acme-lake", "--schema", "lake", "--iam-role", "arn:aws:iam::111122223333:role/load"],
    ),
    ("athena-options", &["athena", "--bucket", "acme-lake", "--schema", "lake", "--first-day", "2026/11/20"]),
    ("duckdb-options", &["duckdb", "--bucket", "acme-lake", "--schema", "main"]),
];

fn registry() -> Registry {
    registry_of(EVENTS, ORDER)
}

fn registry_of(events: &str, order: &str) -> Registry {
    let files = [("events.proto", events.to_owned()), ("everything.proto", EVERYTHING.to_owned())];
    Registry::new(&protos::compiled(files).unwrap().encode_file_descriptor_set(), order).unwrap()
}

fn command(arguments: &[&str]) -> Result<landfall::ddl::Ddl, clap::Error> {
    let arguments = [&["ddl"], arguments].concat();
    match Cli::try_parse_args(&arguments)?.command {
        Command::Ddl(command) => Ok(command),
        other => panic!("{other:?}"),
    }
}

/// Runs the command for the event types of this build: exit code, output, errors.
fn run(arguments: &[&str]) -> (u8, String, String) {
    let (out, err) = (Captured::default(), Captured::default());
    let mut console = Console::of(out.clone(), err.clone());
    let cli = Cli::try_parse_args(arguments).unwrap_or_else(|error| panic!("{error}"));
    let exit = landfall::run_offline(&cli, &mut console).unwrap();
    (exit.code(), out.text(), err.text())
}

#[test]
fn ddl_prints_the_recorded_scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ddl");
    #[expect(clippy::disallowed_methods, reason = "how a test is told to record")]
    let is_recording = std::env::var("LANDFALL_RECORD").is_ok();
    for (name, arguments) in RECORDED {
        let text = script(&command(arguments).unwrap(), &registry()).unwrap().to_text();
        let path = folder.join(format!("{name}.sql"));
        if is_recording {
            fs::write(&path, &text).unwrap();
        }
        let recorded = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text == recorded, "{name}.sql is another one now; see the head of cli/tests/ddl.rs");
        assert!(text.ends_with(";\n") && !text.contains("\n\n\n"), "{name}");
        assert!(text.lines().all(|line| line.trim_end() == line), "{name}");
    }
    assert!(!is_recording, "recorded; review the difference and run the test again without LANDFALL_RECORD");
    let files = fs::read_dir(folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "sql"));
    assert_eq!(files.count(), RECORDED.len(), "a recorded script is left over");
}

#[test]
fn ddl_has_the_columns_that_parquet_writer_writes() {
    for registry in [registry(), Registry::embedded().unwrap()] {
        let together = Tables::new(&registry, false, false).unwrap();
        assert_eq!(schema::file_schema(registry.types()), **together.of(None).0.schema());
        let by_type = Tables::new(&registry, true, false).unwrap();
        let tables = schema::tables(&registry, schema::Layout::ByType).unwrap();
        for (position, event) in registry.types().iter().enumerate() {
            let (table, folder) = by_type.of(Some(u16::try_from(position).unwrap()));
            assert_eq!(schema::file_schema(std::slice::from_ref(event)), **table.schema());
            assert_eq!(tables[position].folder.as_deref(), folder.map(|folder| folder.as_str()));
            assert_eq!(tables[position].columns.len(), 9);
        }
        let (table, folder) = by_type.of(None);
        assert_eq!(schema::file_schema(&[]), **table.schema());
        assert_eq!(tables[registry.types().len()].folder.as_deref(), folder.map(|folder| folder.as_str()));
    }
}

/// What the tests of the columns have, down to the last wrapper.
#[test]
fn ddl_knows_the_type_of_every_column_that_a_message_can_become() {
    let events = "syntax = \"proto3\"; import \"everything.proto\"; import \"landfall/options.proto\";
        message All { option (landfall.event) = {}; test.Everything everything = 1; test.Node node = 2; test.Dynamic dynamic = 3; }";
    let registry = registry_of(events, "all All");
    for dialect in ["snowflake", "redshift", "athena", "duckdb"] {
        script(&command(&[dialect]).unwrap(), &registry).unwrap();
    }
}

/// An empty file in the place of each table's files, as parquet-writer would write it.
#[test]
fn ddl_has_files_to_be_tried_with() {
    let lake = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ddl");
    drop(fs::remove_dir_all(&lake));
    let registry = registry();
    let write = |folder: &str, schema: &arrow::datatypes::SchemaRef| {
        let mut file = ParquetFile::new(schema.clone(), Layout::default()).unwrap();
        file.append(&RecordBatch::new_empty(schema.clone()), &mut Zstd::new(1).unwrap()).unwrap();
        let day = lake.join("events").join(folder).join("2026/11/20");
        fs::create_dir_all(&day).unwrap();
        fs::write(day.join("empty.parquet"), file.finish(Vec::new()).unwrap()).unwrap();
    };
    write("", Tables::new(&registry, false, false).unwrap().of(None).0.schema());
    let by_type = Tables::new(&registry, true, false).unwrap();
    for event_type in (0..5).map(Some).chain([None]) {
        let (table, folder) = by_type.of(event_type);
        write(folder.unwrap().as_str(), table.schema());
    }
}

#[test]
fn ddl_needs_no_region_and_knows_the_event_types_of_this_build() {
    for dialect in ["snowflake", "redshift", "athena", "duckdb"] {
        for layout in ["together", "by-type"] {
            let (code, out, err) = run(&["ddl", dialect, "--layout", layout]);
            assert_eq!((code, err.as_str()), (0, ""));
            for event in Registry::embedded().unwrap().types() {
                assert!(out.contains(&event.column), "{dialect} {layout}: {}", event.column);
            }
        }
    }
}

#[test]
fn ddl_as_json_has_the_statements_one_by_one() {
    let (code, out, _) = run(&["ddl", "redshift", "--layout", "by-type", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, document["command"].as_str()), (0, Some("landfall ddl redshift --layout by-type")));
    let statements = document["statements"].as_array().unwrap();
    let types = Registry::embedded().unwrap().types().len();
    assert_eq!(statements.len(), 2 * (types + 1));
    assert!(statements.iter().all(|statement| !statement.as_str().unwrap().contains("--")));
}

#[test]
fn ddl_shows_its_own_options_and_examples_only() {
    for dialect in ["snowflake", "redshift", "athena", "duckdb"] {
        let help = command(&[dialect, "--help"]).unwrap_err().to_string();
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        assert!(examples.lines().all(|line| line.contains(&format!("landfall ddl {dialect} "))), "{help}");
        assert!(!help.contains("--stack") && !help.contains("--profile") && help.contains("--json"), "{help}");
    }
    for arguments in [["--stack", "staging", "ddl", "duckdb"], ["ddl", "duckdb", "--profile", "staging"]] {
        assert_eq!(run(&arguments).0, 0);
    }
}

#[test]
fn ddl_says_which_event_types_there_are() {
    let (code, out, err) = run(&["ddl", "redshift", "--added", "order_refunde"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("no event type of this build has the column \"order_refunde\"; there are "), "{err}");
    assert!(err.contains("order_created"), "{err}");
}

#[test]
fn ddl_refuses_what_would_not_be_a_name_in_a_statement() {
    for (arguments, reason) in [
        (&["athena", "--bucket", "s3://acme-lake/"][..], "without s3://"),
        (&["athena", "--prefix", "/events"], "without a / in front"),
        (&["athena", "--prefix", "it's"], "letters, digits"),
        (&["athena", "--schema", "a.b.c"], "analytics.lake"),
        (&["athena", "--schema", "lake; drop table x"], "analytics.lake"),
        (&["athena", "--bucket", "..a"], "without s3://"),
        (&["athena", "--bucket", "acme-lake-"], "without s3://"),
        (&["athena", "--prefix", "../x//y"], "write a prefix as events/"),
        (&["athena", "--prefix", "events//"], "write a prefix as events/"),
        (&["athena", "--first-day", "20.11.2026"], "2026/01/01 or 2026-01-01"),
        (&["athena", "--first-day", "2026/02/30"], "2026/01/01 or 2026-01-01"),
        (&["athena", "--first-day", "9999/12/31"], "between 1970 and 2099"),
        (&["snowflake", "--topic-arn", "landfall-landed"], "ARN of an SNS topic"),
        (&["snowflake", "--topic-arn", "arn:aws:sns:::"], "ARN of an SNS topic"),
        (&["snowflake", "--topic-arn", "arn:aws:sqs:eu-west-1:111122223333:landed"], "ARN of an SNS topic"),
        (&["redshift", "--iam-role", "arn:aws:iam::111122223333:role/"], "ARN of an IAM role"),
        (&["redshift", "--iam-role", "arn:aws:iam:::role/load"], "ARN of an IAM role"),
        (&["redshift", "--iam-role", "arn:aws:iam::111122223333:user/load"], "ARN of an IAM role"),
        (&["snowflake", "--storage-integration", "a b"], "letters, digits and _"),
        (&["redshift", "--iam-role", "arn:aws:iam::1:role/'"], "ARN of an IAM role"),
        (&["redshift", "--topic-arn", "arn:aws:sns:eu-west-1:1:x"], "unexpected argument"),
        (&["bigquery"], "unrecognized subcommand"),
        (&["duckdb", "--layout", "by_type"], "by-type"),
    ] {
        let error = command(arguments).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(reason), "{arguments:?}: {error}");
    }
}

#[test]
fn ddl_takes_what_aws_takes() {
    let chain = "arn:aws:iam::111122223333:role/a/b,arn:aws-cn:iam::444455556666:role/c";
    for (arguments, printed) in [
        (&["redshift", "--iam-role", chain][..], format!("IAM_ROLE '{chain}'")),
        (&["redshift", "--bucket", "a.b-c"], "s3://a.b-c/events/2".to_owned()),
        (&["redshift", "--prefix", "a/b"], "YOUR_LAKE_BUCKET/a/b/2".to_owned()),
        (&["athena", "--first-day", "2026-11-20"], "'2026/11/20,NOW+1DAYS'".to_owned()),
    ] {
        let text = script(&command(arguments).unwrap(), &registry()).unwrap().to_text();
        assert!(text.contains(&printed), "{text}");
    }
}

#[test]
fn athena_has_no_schema_inside_a_database() {
    let (code, out, err) = run(&["ddl", "athena", "--schema", "analytics.lake"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("give --schema lake, not --schema analytics.lake"), "{err}");
}

/// A view over no files fails, and so does COPY, and what comes after them has to be there all the same.
#[test]
fn ddl_creates_all_tables_before_it_reads_files() {
    for dialect in ["snowflake", "redshift", "duckdb"] {
        let text = script(&command(&[dialect, "--layout", "by-type"]).unwrap(), &registry()).unwrap().to_text();
        let last_table = text.rfind("\nCREATE TABLE").unwrap();
        let reading = ["\nCREATE PIPE", "\nCOPY \"", "\nCREATE OR REPLACE VIEW"];
        let first_reading = reading.iter().filter_map(|statement| text.find(statement)).min().unwrap();
        assert!(last_table < first_reading, "{text}");
    }
}

/// In the order of the files, whatever the order in which the columns were added to the table.
#[test]
fn redshift_lists_the_columns_that_a_file_has() {
    let statements = |arguments: &[&str]| script(&command(arguments).unwrap(), &registry()).unwrap().statements;
    let whole = statements(&["redshift"]);
    let added = statements(&["redshift", "--added", "user", "--added", "order"]);
    assert_eq!(added.last(), whole.last());
    let copy = &whole.last().unwrap().sql;
    let list: Vec<&str> =
        copy.lines().skip(1).take_while(|line| *line != ")").map(|line| line.trim_matches([' ', ',', '"'])).collect();
    let schema = schema::file_schema(registry().types());
    let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(list, columns);
}

/// A job does not take the default role, so none is advised for it.
#[test]
fn redshift_advises_a_job_only_with_a_role() {
    let text = |arguments: &[&str]| script(&command(arguments).unwrap(), &registry()).unwrap().to_text();
    let role = ["redshift", "--iam-role", "arn:aws:iam::111122223333:role/load"];
    assert!(!text(&["redshift"]).contains("JOB CREATE"));
    assert!(text(&role).contains("JOB CREATE name AUTO ON"));
}
