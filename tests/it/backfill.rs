//! `landfall backfill` from a real Postgres into a bucket in memory: what its users are promised.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch},
    compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch},
    datatypes::TimestampMicrosecondType,
};
use base64_simd::STANDARD;
use kit::output::{Captured, Ended};
use landfall::{Cli, clients::Clients, console::Console, context::Context};
use serde_json::{Value, json};
use shared::quarantine::base64;

use crate::{
    aws::{Aws, BUCKET, Fault},
    events::{self, SENT_MS, Sent},
    parquet_writer::{Function, read, strings},
    postgres::Scratch,
};

const DAY_MS: i64 = 86_400_000;

/// A database and a bucket that nobody else uses.
struct Place {
    postgres: Scratch,
    aws: Aws,
}

/// A table with the usual columns, and an index on `created_at`.
const TABLE: &str = "create table events (id bigint generated always as identity primary key, source text, type text, \
    payload bytea, created_at timestamptz, event_id text); create index on events (created_at)";

impl Place {
    async fn new(tables: &str) -> Self {
        let postgres = Scratch::new().await;
        postgres.client().await.batch_execute(tables).await.unwrap();
        Self { postgres, aws: Aws::default() }
    }

    /// A place with these messages in its table, as rows.
    async fn with(messages: &[Sent]) -> Self {
        let place = Self::new(TABLE).await;
        let client = place.postgres.client().await;
        for messages in messages.chunks(5_000) {
            let mut insert = "insert into events (source, type, payload, created_at, event_id) values ".to_owned();
            for (position, message) in messages.iter().enumerate() {
                let comma = if position == 0 { "" } else { ", " };
                let attribute =
                    |name: &str| message.attributes.iter().find(|(other, _)| other == name).unwrap().1.clone();
                let payload: String =
                    STANDARD.decode_to_vec(&message.body).unwrap().iter().map(|byte| format!("{byte:02x}")).collect();
                write!(
                    insert,
                    "{comma}('{}', '{}', '\\x{payload}', to_timestamp({}), '{}')",
                    attribute("source"),
                    attribute("type"),
                    format_args!("{}.{:03}", message.sent_ms / 1_000, message.sent_ms % 1_000),
                    attribute("event_id"),
                )
                .unwrap();
            }
            client.batch_execute(&insert).await.unwrap();
        }
        place
    }

    async fn execute(&self, sql: &str) {
        self.postgres.client().await.batch_execute(sql).await.unwrap();
    }

    /// Runs the command to its end.
    async fn run(&self, more: &[&str]) -> Ended {
        self.run_table("events", more).await
    }

    async fn run_table(&self, table: &str, more: &[&str]) -> Ended {
        let url = self.postgres.url();
        let always = ["backfill", "--from", &url, "--table", table, "--bucket", BUCKET, "--json"];
        self.landfall(&[&always, more].concat()).await
    }

    async fn landfall(&self, arguments: &[&str]) -> Ended {
        let (out, err) = (Captured::default(), Captured::default());
        let mut console = Console::of(out.clone(), err.clone());
        let cli = Cli::try_parse_args(arguments).unwrap_or_else(|error| panic!("{error}"));
        let context = Context::new(Clients::of(&self.aws.config().await));
        let exit = landfall::run(&cli, &context, &mut console).await;
        Ended { code: exit.code(), out: out.text(), err: err.text() }
    }

    /// Every object by its key.
    fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.aws.state();
        state.s3.objects.iter().map(|((_, key), object)| (key.clone(), object.body.clone())).collect()
    }

    /// All rows of the files, in the order of their event ids.
    fn rows(&self, folder: &str) -> RecordBatch {
        let files: Vec<RecordBatch> = self.aws.keys(folder).iter().flat_map(|key| read(self.aws.body(key))).collect();
        sorted(&concat_batches(files.first().expect("a file landed").schema_ref(), &files).unwrap())
    }

    fn quarantined(&self) -> Vec<Value> {
        let keys = self.aws.keys("quarantine/parquet-writer/");
        let lines = keys.iter().map(|key| String::from_utf8(self.aws.body(key)).unwrap());
        lines
            .flat_map(|body| body.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>())
            .collect()
    }
}

fn sorted(rows: &RecordBatch) -> RecordBatch {
    let by: ArrayRef = rows.column_by_name("event_id").unwrap().clone();
    let order = lexsort_to_indices(&[SortColumn { values: by, options: None }], None).unwrap();
    take_record_batch(rows, &order).unwrap()
}

/// Messages of three types over three days, each at a time of its own.
fn messages(count: usize) -> Vec<Sent> {
    let spread = 3 * DAY_MS / i64::try_from(count).unwrap();
    (0..count)
        .map(|n| {
            let message = match n % 100 {
                0..90 => events::order(n),
                90..99 => events::card(n),
                _ => events::batch(n),
            };
            Sent { sent_ms: SENT_MS + i64::try_from(n).unwrap() * spread, ..message }
        })
        .collect()
}

#[tokio::test]
async fn a_backfill_lands_the_rows_that_parquet_writer_would_have() {
    let messages = messages(100_000);
    let function = Function::new(&[]).await;
    for batch in messages.chunks(10_000) {
        assert_eq!(function.invoke(&events::event(batch)).await, Vec::<String>::new());
    }
    let keys = function.aws.keys("events/");
    let files: Vec<RecordBatch> = keys.iter().flat_map(|key| read(function.aws.body(key))).collect();
    let expected = sorted(&concat_batches(files[0].schema_ref(), &files).unwrap());

    let place = Place::with(&messages).await;
    let ended = place.run(&["--file-mb", "4", "--verify"]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let report = ended.json();
    assert_eq!((&report["rows_read"], &report["rows_landed"]), (&json!(100_000), &json!(100_000)));
    assert_eq!(report["verified"], true);
    assert!(report["ranges"].as_u64().unwrap() > 3, "{report}");
    let rows = place.rows("events_backfill/");
    assert_eq!(rows.schema(), expected.schema());
    for (column, field) in rows.columns().iter().zip(expected.schema().fields()) {
        if field.name() != "message_id" {
            assert_eq!(column, expected.column_by_name(field.name()).unwrap(), "{}", field.name());
        }
    }
    assert!(strings(&rows, "message_id").iter().all(|id| id.starts_with("public.events/")));
    // Every file is of one day, and in the order in which parquet-writer writes rows.
    for key in place.aws.keys("events_backfill/") {
        for rows in read(place.aws.body(&key)) {
            let times = rows.column_by_name("sent_at").unwrap().as_primitive::<TimestampMicrosecondType>();
            assert!(times.values().is_sorted(), "{key}");
            let days: Vec<i64> = times.values().iter().map(|time| time / 1_000 / DAY_MS).collect();
            assert_eq!(days.first(), days.last(), "{key}");
        }
    }
}

/// Rows of each day that can never land, and those of a type that is not registered.
const DAMAGE: &str =
    "update events set payload = '\\x0a' where id % 97 = 0; update events set type = 'CardGraded' where id % 89 = 0";

#[tokio::test]
async fn a_backfill_that_is_interrupted_leaves_the_same_objects() {
    let mut place = Place::with(&messages(12_000)).await;
    place.execute(DAMAGE).await;
    for layout in ["together", "by-type"] {
        let arguments = ["--file-mb", "1", "--parallel", "3", "--layout", layout, "--prefix", layout];
        place.aws = Aws::default();
        let whole = place.run(&arguments).await;
        assert_eq!(whole.code, 0, "{whole:?}");
        let expected = place.objects();
        let in_folder = |folder: &str| expected.keys().any(|key| key.starts_with(folder));
        assert_eq!(in_folder("by-type/order_created/2026/11/21/public.events-0"), layout == "by-type");
        assert_eq!(in_folder("together/2026/11/21/public.events-0"), layout == "together");

        place.aws = Aws::default();
        let mut interrupted = 0;
        for round in 0_u64.. {
            // Every other time, S3 does what it is asked for and its answer is lost.
            let mut calls = 0;
            place.aws.fail(move |_| {
                calls += 1;
                (round % 2 == 1 && calls % 7 == 3).then_some(Fault::AnswerLost)
            });
            // The future is dropped wherever it is, as by the end of the process.
            match tokio::time::timeout(Duration::from_millis(20 * (round + 1)), place.run(&arguments)).await {
                Err(_) => interrupted += 1,
                Ok(ended) if ended.code == 0 => break,
                Ok(ended) => assert_eq!(ended.code, 1, "{ended:?}"),
            }
            for (key, body) in place.objects() {
                assert!(expected[&key] == body, "{key}, which differs or would not be there");
            }
        }
        assert!(interrupted > 1, "{interrupted}");
        assert!(place.objects() == expected);
        let again = place.run(&arguments).await;
        assert_eq!((again.code, &again.json()["rows_read"]), (0, &json!(12_000)));
        assert_eq!(again.json()["ranges_done_before"], again.json()["ranges"]);
        assert!(place.objects() == expected);
    }
}

#[tokio::test]
async fn what_cannot_land_is_in_the_quarantine_and_everything_is_counted() {
    let place = Place::with(&messages(60)).await;
    place
        .execute(
            "update events set payload = '\\x0a05' where id = 1; update events set payload = '' where id = 2; \
             update events set payload = null where id = 3; update events set type = null where id = 4; \
             update events set created_at = null where id = 5; update events set created_at = 'infinity' where id = 6; \
             update events set created_at = '1969-07-20' where id = 7; update events set source = null where id = 8; \
             update events set type = 'CardGraded', event_id = null where id = 9",
        )
        .await;
    let ended = place.run(&["--verify"]).await;
    let report = ended.json();
    assert_eq!((ended.code, &report["verified"]), (0, &json!(true)), "{ended:?}");
    assert_eq!(
        (&report["rows_read"], &report["rows_landed"], &report["rows_quarantined"]),
        (&json!(60), &json!(53), &json!(7))
    );
    let reasons = json!({"invalid_protobuf": 1, "empty_body": 2, "missing_type": 1, "invalid_sent_timestamp": 3});
    assert_eq!((&report["quarantined"], &report["rows_unregistered"]), (&reasons, &json!(1)));
    assert_eq!(report["landed"]["CardGraded"], 1);

    let records = place.quarantined();
    let broken = records.iter().find(|record| record["id"] == "public.events/1").unwrap();
    assert_eq!(broken["reason"], "invalid_protobuf");
    let body = STANDARD.decode_to_vec(broken["body_base64"].as_str().unwrap()).unwrap();
    assert_eq!(body, base64(&[10, 5]).as_bytes(), "the body of a message is base64");
    assert_eq!(broken["attributes"]["event_id"]["stringValue"], "event-message-00000");
    assert_eq!(broken["attributes"]["type"], json!({"dataType": "String", "stringValue": "OrderCreated"}));

    let listed = place.landfall(&["quarantine", "list", "--bucket", BUCKET, "--json"]).await.json();
    let all: u64 = listed["groups"].as_array().unwrap().iter().map(|group| group["records"].as_u64().unwrap()).sum();
    assert_eq!(all, 7, "{listed}");

    let rows = place.rows("events_backfill/");
    let at = |id: &str| strings(&rows, "message_id").iter().position(|other| other == id).unwrap();
    assert!(rows.column_by_name("source").unwrap().is_null(at("public.events/8")));
    let of_row = at("public.events/9");
    assert_eq!(strings(&rows, "event_id")[of_row], "public.events/9", "without an id of its producer, that of the row");
    assert!(rows.column_by_name("_raw").unwrap().is_valid(of_row));
}

#[tokio::test]
async fn columns_of_other_names_and_types_are_read() {
    let place = Place::new(
        "create schema old; create domain body as text; create type kind as enum ('OrderCreated', 'other'); \
         create table old.\"The Messages\" (id uuid default gen_random_uuid(), kind kind, body body, sent timestamp not null)",
    )
    .await;
    for message in messages(50) {
        let sql = format!(
            "insert into old.\"The Messages\" (kind, body, sent) values ('OrderCreated', '{}', '2026-11-20T23:59:59.123456')",
            if message.attributes[1].1 == "OrderCreated" { &message.body } else { "no base64!" }
        );
        place.execute(&sql).await;
    }
    let url = place.postgres.url();
    let always =
        ["backfill", "--from", &url, "--table", "old.\"The Messages\"", "--bucket", BUCKET, "--json", "--verify"];
    let unnamed = place.landfall(&always).await;
    assert_eq!(unnamed.code, 2);
    assert!(
        unnamed.err.contains("the table has no column type; name one of id, kind, body, sent with --map type="),
        "{unnamed:?}"
    );

    let map = ["--map", "type=kind", "--map", "payload=body", "--map", "created_at=sent"];
    let ended = place.landfall(&[&always[..], &map].concat()).await;
    assert_eq!((ended.code, &ended.json()["verified"]), (0, &json!(true)), "{ended:?}");
    assert_eq!((&ended.json()["rows_landed"], &ended.json()["rows_quarantined"]), (&json!(50), &json!(0)));
    let rows = place.rows("events_backfill/2026/11/20/");
    let times = rows.column_by_name("sent_at").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(0), 1_795_219_199_123_456, "microseconds are kept");
    // A UUID may have been given by the producer, so the row is named otherwise.
    let (events, messages) = (strings(&rows, "event_id"), strings(&rows, "message_id"));
    assert!(
        events.iter().zip(&messages).all(|(event, message)| event.len() == 36 && message.ends_with(event.as_str()))
    );

    // And with no id at all, rows are named by what they are.
    let bare = [&map[..], &["--map", "id=", "--prefix", "bare"]].concat();
    let ended = place.landfall(&[&always[..], &bare].concat()).await;
    assert_eq!((ended.code, &ended.json()["rows_landed"]), (0, &json!(50)), "{ended:?}");
    let rows = place.rows("bare/");
    assert_eq!(strings(&rows, "event_id"), strings(&rows, "message_id"));
}

#[tokio::test]
async fn text_that_is_no_base64_is_quarantined_as_it_is() {
    let place = Place::new("create table events (type text, payload text, created_at timestamptz)").await;
    place.execute("insert into events values ('OrderCreated', 'CgEx', now()), ('OrderCreated', 'no base64', now()), (null, null, now())").await;
    let ended = place.run(&["--verify"]).await;
    assert_eq!((ended.code, &ended.json()["verified"]), (0, &json!(true)), "{ended:?}");
    assert_eq!(ended.json()["quarantined"], json!({"invalid_base64": 1, "missing_type": 1}));
    let refused = place.quarantined().into_iter().find(|record| record["reason"] == "invalid_base64").unwrap();
    assert_eq!(STANDARD.decode_to_vec(refused["body_base64"].as_str().unwrap()).unwrap(), b"no base64");
}

#[tokio::test]
async fn what_cannot_be_read_is_named() {
    let place = Place::new(
        "create table events (id numeric, type text, payload json, created_at date); \
         create table times (id int, type text, payload bytea, created_at date)",
    )
    .await;
    let refused = async |table: &str, more: &[&str], words: &str| {
        let ended = place.run_table(table, more).await;
        assert!(ended.code == 2 && ended.err.contains(words), "{words}: {ended:?}");
    };
    refused("events", &[], "column payload, the payload of events, is of type json; it has to be bytea").await;
    refused("times", &[], "column created_at, the created_at of events, is of type date").await;
    refused(
        "events",
        &["--map", "payload=nothing"],
        "the table has no column nothing; it has id, type, payload, created_at",
    )
    .await;
    refused("nowhere", &[], "the table nowhere does not exist").await;
    place
        .execute(
            "drop table events; create table events (id numeric, type text, payload bytea, created_at timestamptz)",
        )
        .await;
    refused(
        "events",
        &["--key", "id"],
        "--key id: the column is of type numeric; a key is one of smallint, integer, bigint, uuid",
    )
    .await;
    let prefix = Cli::try_parse_args(&["backfill", "--from", "x", "--table", "y", "--prefix", "quarantine/x"]);
    assert!(prefix.unwrap_err().to_string().contains("the folder quarantine/ belongs to others"));
    assert_eq!(place.objects().len(), 0);
}

#[tokio::test]
async fn rows_are_read_up_to_the_key_that_was_the_last_at_the_first_start() {
    let place = Place::with(&messages(2_000)).await;
    // The manifest and a file are there, and no range is done.
    place.aws.fail(|call| call.starts_with("s3:PutObject events_backfill/").then_some(Fault::Hang));
    assert!(tokio::time::timeout(Duration::from_secs(3), place.run(&[])).await.is_err());
    assert_eq!(place.aws.keys("_backfill/"), ["_backfill/events_backfill/public.events/manifest.json"]);
    place.aws.recover();
    place
        .execute("insert into events (type, payload, created_at) select type, payload, created_at from events limit 5")
        .await;
    let ended = place.run(&[]).await;
    assert_eq!((ended.code, &ended.json()["rows_read"]), (0, &json!(2_000)), "{ended:?}");
    // Another backfill sees them. Its settings differ from those of the manifest.
    let other = place.run(&["--layout", "by-type"]).await;
    assert_eq!(other.code, 2);
    assert!(other.err.contains("other settings (layout)"), "{other:?}");
    let other = place.run(&["--layout", "by-type", "--prefix", "other"]).await;
    assert_eq!((other.code, &other.json()["rows_read"]), (0, &json!(2_005)));
}

#[tokio::test]
async fn a_range_whose_rows_were_changed_while_it_was_written_is_reported_and_not_written_twice() {
    let place = Place::with(&messages(500)).await;
    place.aws.fail(|call| call.starts_with("s3:PutObject events_backfill/").then_some(Fault::Hang));
    assert!(tokio::time::timeout(Duration::from_secs(3), place.run(&[])).await.is_err());
    place.aws.recover();
    let before = place.objects();
    place.execute("update events set payload = '\\x0a0131' where id = 7").await;
    let ended = place.run(&[]).await;
    assert_eq!((ended.code, &ended.json()["ranges_done"]), (1, &json!(0)));
    let detail = ended.json()["problems"][0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("exists and holds other records"), "{detail}");
    assert!(place.objects() == before);
}

#[tokio::test]
async fn every_row_is_in_one_range_whatever_the_key() {
    let place = Place::with(&messages(24_000)).await;
    // Keys that are null, and many that are the same.
    place
        .execute(
            "alter table events add column batch uuid, add column name text; \
             update events set batch = md5((id / 50)::text)::uuid, name = case when id % 10 <> 0 then 'o''clock \\ ' || id % 100 end; \
             create index on events (batch)",
        )
        .await;
    for key in ["id", "created_at", "batch", "name"] {
        let ended = place.run(&["--file-mb", "1", "--key", key, "--prefix", key, "--parallel", "2"]).await;
        let report = ended.json();
        assert_eq!((ended.code, &report["rows_landed"]), (0, &json!(24_000)), "{key}: {ended:?}");
        assert!(report["ranges"].as_u64().unwrap() > 1, "{key}: {report}");
        let ids = strings(&place.rows(&format!("{key}/")), "event_id");
        let mut distinct = ids.clone();
        distinct.dedup();
        assert_eq!((ids.len(), distinct.len()), (24_000, 24_000), "{key}");
    }
}

#[tokio::test]
async fn a_dry_run_counts_by_type_and_writes_nothing() {
    let place = Place::with(&messages(200)).await;
    place
        .execute("update events set type = 'CardGraded' where id <= 3; update events set type = null where id = 4")
        .await;
    let report = place.run(&["--dry-run"]).await.json();
    assert_eq!((&report["rows"], &report["key"]), (&json!(200), &json!("id")));
    let types: BTreeMap<&str, (u64, bool)> = report["types"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| (of["type"].as_str().unwrap_or("-"), (of["rows"].as_u64().unwrap(), of["registered"] == true)))
        .collect();
    let expected = [
        ("-", (1, false)),
        ("CardCatalogCreated", (18, true)),
        ("CardGraded", (3, false)),
        ("ManufacturingBatch", (2, true)),
        ("OrderCreated", (176, true)),
    ];
    assert_eq!(types, BTreeMap::from(expected));
    assert_eq!(place.objects().len(), 0);
    let (since, until) = ("2026-11-21", "2026-11-21");
    let of_day = place.run(&["--dry-run", "--since", since, "--until", until]).await.json();
    let landed = place.run(&["--since", since, "--until", until]).await.json();
    assert_eq!(
        landed["rows_landed"].as_u64().unwrap() + landed["rows_quarantined"].as_u64().unwrap(),
        of_day["rows"].as_u64().unwrap()
    );
    assert!(place.aws.keys("events_backfill/").iter().all(|key| key.starts_with("events_backfill/2026/11/21/")));
}

#[tokio::test]
async fn no_more_rows_a_second_are_read_than_allowed() {
    let place = Place::with(&messages(2_048)).await;
    let begun = std::time::Instant::now();
    assert_eq!(place.run(&["--max-rows-per-second", "1024"]).await.code, 0);
    assert!(begun.elapsed() > Duration::from_millis(1_900), "{:?}", begun.elapsed());
}
