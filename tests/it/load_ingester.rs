//! load-ingester through its handler, and load-registrar, which it asks: real SDK clients, buckets in memory with versions, a real
//! Postgres.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arrow::array::RecordBatch;
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use kit::{
    http::{self, HttpRequest, Reply, respond, respond_json},
    s3::{Buckets, Call, Object},
};
use load_ingester::{app::App, config::Config, handler::handle};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use proptest::prelude::*;
use runtime::clock;
use serde_json::{Value, json};
use shared::s3_key;
use tokio::time::timeout;

use crate::{
    events::file,
    postgres::Scratch,
    registrar::{INCOMING, LAKE, Registrar, expire_leases, in_seconds},
    roles,
};

/// 2026-11-20T12:00:00Z.
const NOON: i64 = 1_795_176_000;

/// S3, SQS and Lambda.
#[derive(Clone, Default)]
struct Cloud(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    buckets: Buckets,
    /// Bodies of messages that nobody has taken yet.
    queue: Vec<String>,
    registrar: Option<Arc<Registrar>>,
    /// So many requests are answered, and then none.
    left: Option<usize>,
    /// Whether a request is one of the role of load-ingester. Those of load-registrar come through here too.
    checks_role: bool,
    /// The command that never reaches load-registrar.
    lost: Option<&'static str>,
    /// How many commands are refused before one reaches load-registrar, because too many of it are running.
    throttled: usize,
    /// Operations in order, with what they are about.
    calls: Vec<String>,
}

impl Cloud {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &HttpRequest) -> Reply {
        let mut state = self.state();
        if let Some(left) = &mut state.left {
            match left.checked_sub(1) {
                None => return Reply::Hang,
                Some(fewer) => *left = fewer,
            }
        }
        match http::target(request) {
            Some("AmazonSQS.GetQueueAttributes") => {
                let number = state.queue.len().to_string();
                return respond_json(200, &json!({"Attributes": {"ApproximateNumberOfMessages": number}})).into();
            }
            Some("AmazonSQS.ChangeMessageVisibility") => {
                roles::ingester().assert_allows("sqs:ChangeMessageVisibility", "LoadsQueue");
                state.calls.push(format!("ChangeMessageVisibility {}", http::json(request)["VisibilityTimeout"]));
                return respond_json(200, &json!({})).into();
            }
            Some("AmazonSQS.SendMessageBatch") => {
                roles::ingester().assert_allows("sqs:SendMessage", "LoadsQueue");
                let answer = kit::sqs::batch(&http::json(request), |entry| {
                    state.queue.push(entry["MessageBody"].as_str().unwrap().to_owned());
                    kit::sqs::sent("id")
                });
                return respond_json(200, &answer).into();
            }
            _ => {}
        }
        if request.uri().contains("/functions/registrar/invocations") {
            let (registrar, command) = (state.registrar.clone().unwrap(), Bytes::copy_from_slice(http::body(request)));
            roles::ingester().assert_allows("lambda:InvokeFunction", "LoadRegistrarFunction");
            let name = http::json(request)["command"].as_str().unwrap().to_owned();
            if state.throttled > 0 {
                state.throttled -= 1;
                let kind = [("x-amzn-errortype", "TooManyRequestsException".to_owned())];
                return respond(429, r#"{"Type": "User", "message": "Rate Exceeded."}"#, &kind).into();
            }
            if state.lost == Some(&name) {
                return Reply::Lost;
            }
            state.calls.push(name);
            return Reply::later(async move { registrar.invoke(command).await });
        }
        let call = Call::of(request).unwrap();
        if state.checks_role {
            check_role(&call, request);
        }
        state.calls.push(format!("{} {}/{}", call.operation, call.bucket, call.key));
        state.buckets.answer(&call, request).into()
    }
}

/// What the role of load-ingester has to allow.
fn check_role(call: &Call, request: &HttpRequest) {
    let role = roles::ingester();
    let (read, write) = match call.operation {
        "CopyObject" | "UploadPartCopy" => {
            let source = request.headers().get("x-amz-copy-source").unwrap();
            let (place, version) = source.split_once("?versionId=").map_or((source, false), |(place, _)| (place, true));
            let (bucket, key) = place.split_once('/').unwrap();
            role.assert_allows_s3("GetObject", bucket, key);
            if version {
                role.assert_allows_s3("GetObjectVersion", bucket, key);
            }
            (None, Some("PutObject"))
        }
        "DeleteObject" if call.parameter("versionId").is_some() => (None, Some("DeleteObjectVersion")),
        "DeleteObjects" => {
            let list = String::from_utf8_lossy(http::body(request));
            for key in list.split("<Key>").skip(1) {
                role.assert_allows_s3("DeleteObjects", &call.bucket, key.split("</Key>").next().unwrap());
            }
            (None, None)
        }
        operation @ ("GetObject" | "HeadObject") => (Some(operation), None),
        operation => (None, Some(operation)),
    };
    for operation in read.into_iter().chain(write) {
        role.assert_allows_s3(operation, &call.bucket, &call.key);
    }
    if read.is_some() && call.parameter("versionId").is_some() {
        role.assert_allows_s3("GetObjectVersion", &call.bucket, &call.key);
    }
}

struct World {
    cloud: Cloud,
    scratch: Scratch,
    ingester: App,
    registrar: Arc<Registrar>,
}

impl World {
    async fn new(tables: Value) -> Self {
        let (cloud, scratch) = (Cloud::default(), Scratch::new().await);
        cloud.state().buckets.versioned.insert(INCOMING.to_owned());
        cloud.state().buckets.now = NOON;
        let answering = cloud.clone();
        let aws = http::config(http::client(move |request| answering.answer(request))).await;
        let answering = cloud.clone();
        let by_ingester = move |request: &HttpRequest| {
            answering.state().checks_role = true;
            let reply = answering.answer(request);
            answering.state().checks_role = false;
            reply
        };
        let ingesting = http::config(http::client(by_ingester)).await;
        let registrar = Arc::new(Registrar::new(&scratch, &aws).await);
        cloud.state().registrar = Some(registrar.clone());
        let world = Self { ingester: App::new(settings(), &ingesting), cloud, scratch, registrar };
        world.ask(json!({"command": "tables_apply", "tables": tables})).await;
        world
    }

    async fn ask(&self, command: Value) -> Value {
        self.registrar.ask(command).await
    }

    /// Puts an object a second after the one before, and registers it if it is data.
    async fn put(&self, key: &str, body: &[u8]) {
        let object = self.put_silently(key, body);
        self.announce(key, &object).await;
    }

    fn put_silently(&self, key: &str, body: &[u8]) -> Object {
        let mut state = self.cloud.state();
        state.buckets.now += 1;
        state.buckets.write((INCOMING.to_owned(), key.to_owned()), BTreeMap::new(), body.to_vec())
    }

    async fn announce(&self, key: &str, object: &Object) {
        let object = json!({
            "key": s3_key::encode(key), "size": object.body.len(), "eTag": object.e_tag().trim_matches('"'),
            "versionId": object.version, "sequencer": "1",
        });
        let record = json!({
            "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1",
            "eventTime": "2026-11-20T12:00:00Z", "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": INCOMING}, "object": object},
        });
        self.ask(json!({"Records": [record]})).await;
    }

    async fn tick(&self) -> Result<(), String> {
        let tick = file("load-ingester-tick.json").to_string();
        handle(&self.ingester, tick.into(), in_seconds(600)).await.map(drop).map_err(|error| error.to_string())
    }

    /// Delivers a message. Whether it is done with.
    async fn deliver(&self, body: &str) -> bool {
        let mut event = file("load-ingester-load.json");
        event["Records"][0]["body"] = body.into();
        handle(&self.ingester, event.to_string().into(), in_seconds(600)).await.unwrap().batch_item_failures.is_empty()
    }

    /// Ticks and delivers until nothing is left to do.
    async fn run(&self) {
        for _ in 0..20 {
            self.tick().await.unwrap();
            let messages = std::mem::take(&mut self.cloud.state().queue);
            if messages.is_empty() {
                return;
            }
            for message in messages {
                self.deliver(&message).await;
            }
        }
        panic!("there is always something to do: {:#?}", self.loads().await);
    }

    async fn loads(&self) -> Vec<String> {
        let sql = "select s3_key, status, status_reason, result from cubic_loads order by s3_key, s3_modified";
        self.scratch.lines(sql).await
    }

    fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let state = self.cloud.state();
        let objects = state.buckets.objects.keys();
        let keys = objects.filter(|(of, key)| of == bucket && key.starts_with(prefix));
        keys.map(|(_, key)| key.clone()).collect()
    }

    fn body(&self, key: &str) -> Vec<u8> {
        self.cloud.state().buckets.objects[&(LAKE.to_owned(), key.to_owned())].body.clone()
    }

    /// The rows of all files under a prefix of Springboard.
    fn rows(&self, prefix: &str) -> Vec<RecordBatch> {
        let keys = self.keys(LAKE, &format!("springboard/{prefix}"));
        keys.iter().flat_map(|key| read(self.body(key))).collect()
    }

    async fn a_day_later(&self) {
        let later = "alter table cubic_loads disable trigger cubic_loads_transition; \
            update cubic_loads set updated_at = now() - interval '25 hours'; \
            alter table cubic_loads enable trigger cubic_loads_transition";
        self.scratch.client().await.batch_execute(later).await.unwrap();
    }
}

fn settings() -> Config {
    let config = Config::from_lookup(|name| match name {
        "INCOMING_BUCKET" => Some(INCOMING.to_owned()),
        "LAKE_BUCKET" => Some(LAKE.to_owned()),
        "REGISTRAR_FUNCTION" => Some("registrar".to_owned()),
        "QUEUE_URL" => Some("http://127.0.0.1:1/000000000000/loads".to_owned()),
        _ => None,
    });
    config.unwrap()
}

fn read(parquet: Vec<u8>) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(parquet)).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

fn as_json(rows: &[RecordBatch]) -> Value {
    let mut writer = arrow::json::ArrayWriter::new(Vec::new());
    writer.write_batches(&rows.iter().collect::<Vec<_>>()).unwrap();
    writer.finish().unwrap();
    serde_json::from_slice(&writer.into_inner()).unwrap()
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn dfm(columns: &[(&str, &str)], records: u64) -> Vec<u8> {
    let columns: Vec<Value> = columns
        .iter()
        .zip(1..)
        .map(|((name, kind), ordinal)| {
            json!({"ordinal": ordinal, "name": name, "type": kind, "length": 0, "precision": 0, "scale": 0,
                "primaryKeyPos": 0})
        })
        .collect();
    json!({"dataInfo": {"columns": columns}, "fileInfo": {"recordCount": records}}).to_string().into_bytes()
}

fn tables() -> Value {
    json!([
        {"prefix": "cubic/ods_qlik/EDW.SAMPLE/", "kind": "ods"},
        {"prefix": "cubic/dmap/agg_sample/", "kind": "dmap",
         "columns": [{"name": "day", "type": "DATE"}, {"name": "taps", "type": "INT4"}]},
        {"prefix": "cubic/kafka/sample/", "kind": "kafka"},
        {"prefix": "shop/orders/", "kind": "dms"},
    ])
}

const LOAD: &str = "cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz";

#[tokio::test]
async fn loads_of_every_kind_end_archived_or_errored_with_their_rows_in_springboard() {
    let world = World::new(tables()).await;
    let sample = [("EDW_ID", "INT8"), ("NAME", "STRING"), ("AT", "DATETIME")];
    world.put_silently("cubic/ods_qlik/EDW.SAMPLE/LOAD001.dfm", &dfm(&sample, 2));
    world.put(LOAD, &gz("EDW_ID,NAME,AT\n1,\"a, \"\"b\"\"\",2021-12-01 11:20:30.4444444\n2,,\n")).await;
    let changes = "cubic/ods_qlik/EDW.SAMPLE__ct/20261120-120500000";
    let change = [("header__change_seq", "STRING"), ("header__change_oper", "STRING"), ("EDW_ID", "INT8")];
    world.put_silently(&format!("{changes}.dfm"), &dfm(&change, 1));
    world
        .put(&format!("{changes}.csv.gz"), &gz("header__change_seq,header__change_oper,EDW_ID\n20261120120500,U,1\n"))
        .await;
    world.put("cubic/dmap/agg_sample/1.csv", b"day,taps,extra\n2026-11-20,7,x\n2026-11-21,many,y\n").await;
    world.put("cubic/kafka/sample/k.json.gz", &gz("{\"a\": 1}\n{\"a\": 2}\n")).await;
    let file = read_back("cubic/dmap/agg_sample/1.csv");
    world.put("shop/orders/1.parquet", &file).await;
    world.put("shop/orders/2.parquet", b"no parquet").await;
    world.put("cubic/dmap/agg_sample/2.csv.gz", b"no gzip").await;
    world.put("cubic/dmap/agg_sample/3.csv", b"").await;
    world.run().await;

    let expected = [
        "cubic/dmap/agg_sample/1.csv|archived||",
        "cubic/dmap/agg_sample/2.csv.gz|errored|invalid_gzip|",
        "cubic/dmap/agg_sample/3.csv|errored|empty_object|",
        "cubic/kafka/sample/k.json.gz|archived||",
        "cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz|archived||",
        "cubic/ods_qlik/EDW.SAMPLE__ct/20261120-120500000.csv.gz|archived||",
        "shop/orders/1.parquet|archived||",
        "shop/orders/2.parquet|errored|invalid_parquet|",
    ];
    for (load, expected) in world.loads().await.iter().zip(expected) {
        assert!(load.starts_with(expected), "{load}, and not {expected}");
    }
    assert_eq!(world.keys(INCOMING, ""), Vec::<String>::new(), "everything has left the incoming bucket");
    let ods = as_json(&world.rows("cubic/ods_qlik/EDW.SAMPLE/snapshot=20261120T120002Z/"));
    assert_eq!(ods, json!([{"EDW_ID": 1, "NAME": "a, \"b\"", "AT": "2021-12-01T11:20:30.444444"}, {"EDW_ID": 2}]));
    let rows = |prefix: &str| world.rows(prefix).iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(rows("cubic/ods_qlik/EDW.SAMPLE__ct/snapshot=20261120T120002Z/"), 1);
    assert_eq!((rows("cubic/dmap/agg_sample/"), rows("cubic/kafka/sample/"), rows("shop/orders/")), (1, 2, 1));
    // The row that does not fit says where it was.
    let quarantined = world.keys(LAKE, "quarantine/load-ingester/2026/11/20/");
    let row: Value = serde_json::from_slice(&world.body(&quarantined[0])).unwrap();
    assert_eq!((&row["reason"], &row["attributes"]["line"]), (&json!("not_an_integer"), &json!(3)));
    assert_eq!(row["attributes"]["column"], "taps");
    // Objects are moved with the .dfm beside them.
    let archived = world.keys(LAKE, "archive/cubic/ods_qlik/EDW.SAMPLE/snapshot=20261120T120002Z/");
    assert_eq!(archived.len(), 2, "{archived:?}");
    assert!(archived[0].ends_with("-LOAD001.csv.gz") && archived[1].ends_with("-LOAD001.csv.gz.dfm"), "{archived:?}");
    let errored = world.keys(LAKE, "error/");
    assert_eq!(errored.len(), 3);
    assert!(errored[0].starts_with("error/cubic/dmap/agg_sample/timestamp=20261120T1200"), "{errored:?}");
    let result = world.scratch.lines("select result from cubic_loads where s3_key like '%agg_sample/1.csv'").await;
    let result: Value = serde_json::from_str(&result[0]).unwrap();
    assert_eq!((&result["rows"], &result["quarantined"], &result["added"]), (&json!(1), &json!(1), &json!(["extra"])));
}

/// A Parquet file of one row.
fn read_back(text: &str) -> Vec<u8> {
    let column: arrow::array::ArrayRef = Arc::new(arrow::array::StringArray::from(vec![text]));
    let rows = RecordBatch::try_from_iter([("text", column)]).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn an_overwritten_key_is_two_loads_that_are_each_read_as_they_were() {
    let world = World::new(tables()).await;
    let key = "cubic/dmap/agg_sample/1.csv";
    world.put(key, b"day,taps\n2026-11-20,1\n").await;
    world.put(key, b"day,taps\n2026-11-20,2\n2026-11-20,3\n").await;
    world.run().await;
    let rows: Vec<usize> = world.rows("cubic/dmap/agg_sample/").iter().map(RecordBatch::num_rows).collect();
    assert_eq!(rows, [1, 2]);
    assert_eq!(world.keys(LAKE, "archive/").len(), 2);
    assert_eq!(world.keys(INCOMING, ""), Vec::<String>::new());
}

#[tokio::test]
async fn in_a_bucket_without_versions_a_replaced_object_is_superseded_and_never_read_as_something_else() {
    let world = World::new(tables()).await;
    world.cloud.state().buckets.versioned.clear();
    let key = "cubic/dmap/agg_sample/1.csv";
    world.put(key, b"day,taps\n2026-11-20,1\n").await;
    world.put(key, b"day,taps\n2026-11-20,2\n2026-11-20,3\n").await;
    world.run().await;
    let loads = world.loads().await;
    assert!(loads[0].contains("|errored|superseded|") && loads[1].contains("|archived||"), "{loads:?}");
    assert_eq!(world.rows("cubic/dmap/agg_sample/").iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    assert_eq!((world.keys(LAKE, "archive/").len(), world.keys(LAKE, "error/").len()), (1, 0));
}

#[tokio::test]
async fn a_late_snapshot_moves_files_and_objects_to_where_they_belong() {
    let world = World::new(tables()).await;
    let columns = dfm(&[("EDW_ID", "INT8")], 1);
    let load = |id: i64| gz(&format!("EDW_ID\n{id}\n"));
    world.put_silently("cubic/ods_qlik/EDW.SAMPLE/LOAD001.dfm", &columns);
    world.put(LOAD, &load(1)).await;
    world.put_silently("cubic/ods_qlik/EDW.SAMPLE/LOAD001.dfm", &columns);
    let late = world.put_silently(LOAD, &load(2));
    let changes = "cubic/ods_qlik/EDW.SAMPLE__ct/1.csv.gz";
    world.put_silently("cubic/ods_qlik/EDW.SAMPLE__ct/1.dfm", &columns);
    world.put(changes, &load(3)).await;
    world.run().await;
    let folder = |time: &str| format!("cubic/ods_qlik/EDW.SAMPLE__ct/snapshot=20261120T1200{time}Z/");
    assert_eq!(world.rows(&folder("02")).len(), 1);
    let first = world.keys(LAKE, &format!("springboard/{}", folder("02")));
    let bytes = world.body(&first[0]);

    world.announce(LOAD, &late).await;
    world.run().await;
    assert_eq!(world.keys(LAKE, &format!("springboard/{}", folder("02"))), Vec::<String>::new());
    let moved = world.keys(LAKE, &format!("springboard/{}", folder("04")));
    assert_eq!(moved.len(), 1);
    assert_eq!(world.body(&moved[0]), bytes);
    assert_eq!(world.keys(LAKE, &format!("archive/{}", folder("02"))), Vec::<String>::new());
    assert_eq!(world.keys(LAKE, &format!("archive/{}", folder("04"))).len(), 2);
    assert!(world.loads().await.iter().all(|load| load.contains("|archived|")), "{:?}", world.loads().await);
}

#[tokio::test]
async fn an_object_waits_for_its_dfm_and_is_text_without_one() {
    let world = World::new(tables()).await;
    let now = clock::unix_ms() / 1_000;
    world.cloud.state().buckets.now = now;
    world.put(LOAD, &gz("EDW_ID\n1\n")).await;
    world.tick().await.unwrap();
    let message = world.cloud.state().queue.remove(0);
    assert!(world.deliver(&message).await);
    assert!(world.loads().await[0].contains("|ready|"), "it was given back: {:?}", world.loads().await);
    world.put_silently("cubic/ods_qlik/EDW.SAMPLE/LOAD001.dfm", &dfm(&[("EDW_ID", "INT8")], 1));
    world.run().await;
    assert_eq!(world.rows("cubic/ods_qlik/")[0].schema().field(0).data_type().to_string(), "Int64");
}

#[tokio::test]
async fn a_message_of_a_lease_that_has_ended_is_done_with_and_changes_nothing() {
    let world = World::new(tables()).await;
    world.put("cubic/dmap/agg_sample/1.csv", b"day,taps\n2026-11-20,1\n").await;
    world.tick().await.unwrap();
    let late = world.cloud.state().queue.remove(0);
    expire_leases(&world.scratch).await;
    let before = world.cloud.state().calls.len();
    assert!(world.deliver(&late).await);
    assert_eq!(world.cloud.state().calls.len(), before + 1, "it only asked");
    world.run().await;
    assert!(world.loads().await[0].contains("|archived|"));
    // The same message once more, after all is done.
    assert!(world.deliver(&late).await);
    assert!(!world.deliver("{}").await, "what is no load goes to the dead letters");
    let neither = handle(&world.ingester, r#"{"hello": "world"}"#.into(), in_seconds(600)).await.unwrap_err();
    assert!(neither.to_string().contains("Records"), "{neither}");
}

#[tokio::test]
async fn what_s3_refuses_is_tried_again_after_growing_pauses_and_given_up_in_the_end() {
    let world = World::new(tables()).await;
    world.put("cubic/dmap/agg_sample/1.csv", b"day,taps\n2026-11-20,1\n").await;
    world.cloud.state().buckets.conflicts = usize::MAX;
    for minutes in [5, 20, 80, 320, 360] {
        world.tick().await.unwrap();
        let message = world.cloud.state().queue.remove(0);
        assert!(world.deliver(&message).await);
        let pause = "select status, round(extract(epoch from leased_until - now()) / 60) from cubic_loads";
        assert_eq!(world.scratch.lines(pause).await, [format!("ingesting|{minutes}")]);
        world.tick().await.unwrap();
        assert!(world.cloud.state().queue.is_empty(), "it does not keep others from the queue");
        expire_leases(&world.scratch).await;
    }
    world.cloud.state().buckets.conflicts = 0;
    world.tick().await.unwrap();
    world.run().await;
    assert!(world.loads().await[0].contains("|ready_for_erroring|attempts_exhausted|"), "for a day");
    world.a_day_later().await;
    world.run().await;
    assert!(world.loads().await[0].contains("|errored|attempts_exhausted|"), "{:?}", world.loads().await);
    assert_eq!(world.keys(LAKE, "error/").len(), 1);
}

#[tokio::test]
async fn waiting_in_the_queue_counts_as_no_attempt() {
    let world = World::new(tables()).await;
    world.put("cubic/dmap/agg_sample/1.csv", b"day,taps\n2026-11-20,1\n").await;
    // The event source mapping is disabled for a day.
    for _ in 0..24 {
        world.tick().await.unwrap();
        expire_leases(&world.scratch).await;
    }
    world.tick().await.unwrap();
    let messages = std::mem::take(&mut world.cloud.state().queue);
    assert_eq!(messages.len(), 25);
    for message in messages {
        assert!(world.deliver(&message).await);
    }
    assert!(world.loads().await[0].contains("|archived|"), "{:?}", world.loads().await);
    let attempts =
        "select attempts, (select count(*) from cubic_load_transitions where reason = 'begun') from cubic_loads";
    assert_eq!(world.scratch.lines(attempts).await, ["1|1"]);
}

#[tokio::test]
async fn an_object_that_is_too_large_stays_for_a_day_so_that_another_job_can_take_the_load() {
    let mut world = World::new(tables()).await;
    world.ingester.config.max_object_bytes = 10;
    world.put("cubic/dmap/agg_sample/1.csv", b"day,taps\n2026-11-20,1\n").await;
    world.put("shop/orders/1.parquet", &read_back("only copied, whatever its size")).await;
    world.run().await;
    assert!(world.loads().await[1].contains("|archived|"), "{:?}", world.loads().await);
    assert!(world.loads().await[0].contains("|ready_for_erroring|too_large|"), "{:?}", world.loads().await);
    assert_eq!(world.keys(INCOMING, ""), ["cubic/dmap/agg_sample/1.csv"]);
    world.a_day_later().await;
    world.run().await;
    assert!(world.loads().await[0].contains("|errored|too_large|"), "{:?}", world.loads().await);
}

#[tokio::test]
async fn a_registrar_that_is_short_of_capacity_is_asked_again_and_then_soon() {
    let world = World::new(tables()).await;
    world.put("cubic/dmap/agg_sample/1.csv", b"day,taps\n2026-11-20,1\n").await;
    world.cloud.state().throttled = 3;
    world.tick().await.unwrap();
    let message = world.cloud.state().queue.remove(0);
    world.cloud.state().throttled = usize::MAX;
    assert!(!world.deliver(&message).await, "nothing was begun");
    assert_eq!(world.cloud.state().calls.last().unwrap(), "ChangeMessageVisibility 30");
    world.cloud.state().throttled = 1;
    assert!(world.deliver(&message).await);
    assert!(world.loads().await[0].contains("|archived|"), "{:?}", world.loads().await);
}

/// As when its notification is lost, and the listing that finds it tells no version.
#[tokio::test]
async fn an_object_that_a_listing_found_is_read_as_it_was_although_it_was_overwritten() {
    let world = World::new(tables()).await;
    let key = "cubic/dmap/agg_sample/1.csv";
    world.put(key, b"day,taps\n2026-11-20,1\n").await;
    world.scratch.client().await.batch_execute("update cubic_loads set s3_version = null").await.unwrap();
    world.put(key, b"day,taps\n2026-11-20,2\n2026-11-20,3\n").await;
    world.run().await;
    let rows: Vec<usize> = world.rows("cubic/dmap/agg_sample/").iter().map(RecordBatch::num_rows).collect();
    assert_eq!(rows, [1, 2]);
    let left: usize = world.cloud.state().buckets.versions.values().map(Vec::len).sum();
    assert_eq!((left, world.keys(LAKE, "archive/").len()), (0, 2));
}

/// A job that says nothing about its files, with a snapshot that comes late.
#[tokio::test]
async fn files_of_another_job_are_moved_too() {
    let world = World::new(tables()).await;
    let key = "cubic/ods_qlik/EDW.SAMPLE__ct/1.csv.gz";
    world.put(LOAD, &gz("EDW_ID\n1\n")).await;
    let late = world.put_silently(LOAD, &gz("EDW_ID\n2\n"));
    world.put(key, &gz("EDW_ID\n3\n")).await;
    let next =
        json!({"command": "loads_next", "step": "ingest", "loads": [2], "limit": 1, "lease_seconds": 60, "by": "job"});
    let load = world.ask(next).await["loads"][0].clone();
    let place = load["place"].as_str().unwrap();
    let file = format!("springboard/{place}2-0.parquet");
    world.cloud.state().buckets.write((LAKE.to_owned(), file.clone()), BTreeMap::new(), read_back("theirs"));
    let named = json!([{"id": 2, "lease": load["lease"]}]);
    let step = json!({"command": "loads_set_status", "loads": named, "status": "ready_for_archiving", "by": "job"});
    world.ask(step).await;
    world.announce(LOAD, &late).await;
    world.run().await;
    assert_eq!(world.rows("cubic/ods_qlik/EDW.SAMPLE__ct/snapshot=20261120T120002Z/").len(), 1);
    assert!(!world.keys(LAKE, "springboard/").contains(&file));
}

#[tokio::test]
async fn objects_that_cannot_be_moved_do_not_hold_up_ingesting() {
    let world = World::new(tables()).await;
    let client = world.scratch.client().await;
    let many = "insert into cubic_loads (table_id, is_changes, status, s3_key, s3_modified, s3_size, s3_etag) \
        select t.id, false, s.status::cubic_load_status, 'shop/orders/' || s.status || n || '.csv', now() - n * interval '1 second', 1, 'e' \
        from cubic_tables as t, generate_series(1, 60) as n, (values ('ready'), ('ready_for_erroring')) as s (status) \
        where t.name = 'shop__orders'";
    client.batch_execute(many).await.unwrap();
    world.tick().await.unwrap();
    let claimed = "select status, count(*), bool_and(is_queued) from cubic_loads where leased_until is not null group by 1 order by 1";
    assert_eq!(world.scratch.lines(claimed).await, ["ingesting|34|t", "erroring|16|t"]);
    // There is no more room.
    world.tick().await.unwrap();
    assert_eq!(world.cloud.state().queue.len(), 50);
}

/// The sample objects in the public repository of the reference, the MBTA's data platform, as they were in 2022.
#[tokio::test]
async fn the_public_sample_of_the_reference_has_the_rows_that_pandas_reads() {
    let world = World::new(tables()).await;
    let sample = [
        ("SAMPLE_ID", "INT4"),
        ("SAMPLE_NAME", "STRING"),
        ("EDW_INSERTED_DTM", "DATETIME"),
        ("EDW_UPDATED_DTM", "DATETIME"),
    ];
    let header =
        [("header__change_seq", "STRING"), ("header__change_oper", "STRING"), ("header__timestamp", "DATETIME")];
    let changes: Vec<_> = header.into_iter().chain(sample).collect();
    let put = async |key: &str, columns: &[(&str, &str)], rows: &str| {
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        world.put(&format!("{key}.csv.gz"), &gz(&format!("{}\n{rows}", names.join(",")))).await;
        world.put_silently(&format!("{key}.dfm"), &dfm(columns, 2));
    };
    let times = "2021-12-01 11:20:30.4444444,2021-12-01 11:20:31.4444444";
    let rows = format!("1,\"Sample 1\",{times}\n2,\"Sample 2\",{times}\n");
    put("cubic/ods_qlik/EDW.SAMPLE/LOAD001", &sample, &rows).await;
    let change = |seq: &str, oper: &str, at: &str, id: u8, fires: usize| {
        format!("{seq},{oper},2021-10-08 {at}:12:31.320000,{id},\"Sample {id} {}\",{times}", "🔥".repeat(fires))
    };
    // The last line of these has no end.
    let [first, second] = ["20210915031230320000000000000000041", "20210915031231320000000000000000041"];
    let rows = [change(first, "I", "13", 4, 4), change(second, "U", "13", 2, 2)];
    put("cubic/ods_qlik/EDW.SAMPLE__ct/20211201-112233444", &changes, &rows.join("\n")).await;
    let rows = [change(first, "U", "14", 4, 4), change(second, "I", "15", 5, 5)];
    put("cubic/ods_qlik/EDW.SAMPLE__ct/20211201-122433444", &changes, &rows.join("\n")).await;
    world.run().await;

    let row = |id: u8, name: &str| {
        json!({"SAMPLE_ID": id, "SAMPLE_NAME": name, "EDW_INSERTED_DTM": "2021-12-01T11:20:30.444444",
            "EDW_UPDATED_DTM": "2021-12-01T11:20:31.444444"})
    };
    let expected = [row(1, "Sample 1"), row(2, "Sample 2")];
    assert_eq!(as_json(&world.rows("cubic/ods_qlik/EDW.SAMPLE/")), json!(expected));
    let expected =
        [(first, "I", "13", 4, 4), (second, "U", "13", 2, 2), (first, "U", "14", 4, 4), (second, "I", "15", 5, 5)];
    let rows = world.rows("cubic/ods_qlik/EDW.SAMPLE__ct/");
    let sequences = rows.iter().flat_map(|rows| {
        let column = rows.column_by_name("header__change_seq").unwrap();
        arrow::array::AsArray::as_primitive::<arrow::datatypes::Decimal128Type>(column).values().to_vec()
    });
    let sequences: Vec<String> = sequences.map(|number| number.to_string()).collect();
    assert_eq!(sequences, expected.map(|(seq, ..)| seq), "no digit is lost");
    let expected = expected.map(|(_, oper, at, id, fires)| {
        let mut row = row(id, &format!("Sample {id} {}", "🔥".repeat(fires)));
        row["header__change_oper"] = oper.into();
        row["header__timestamp"] = format!("2021-10-08T{at}:12:31.320").into();
        row
    });
    let mut read = as_json(&rows);
    for row in read.as_array_mut().unwrap() {
        row.as_object_mut().unwrap().remove("header__change_seq");
    }
    assert_eq!(read, json!(expected));
    assert!(world.keys(LAKE, "quarantine/").is_empty());
}

#[tokio::test]
async fn each_version_of_a_key_has_the_dfm_that_was_written_with_it() {
    let world = World::new(tables()).await;
    let key = "cubic/ods_qlik/EDW.SAMPLE/LOAD001.dfm";
    for (kind, value) in [("INT8", "1"), ("STRING", "two"), ("DATE", "2026-11-20")] {
        world.put(LOAD, &gz(&format!("EDW_ID\n{value}\n"))).await;
        world.put_silently(key, &dfm(&[("EDW_ID", kind)], 1));
    }
    world.run().await;
    let rows = world.rows("cubic/ods_qlik/");
    let types: Vec<String> = rows.iter().map(|rows| rows.schema().field(0).data_type().to_string()).collect();
    assert_eq!(types, ["Int64", "Utf8", "Date32"]);
    assert_eq!(world.keys(LAKE, "quarantine/"), Vec::<String>::new());
    let archived: Vec<Vec<u8>> =
        world.keys(LAKE, "archive/").iter().filter(|key| key.ends_with(".dfm")).map(|key| world.body(key)).collect();
    assert_eq!(archived, ["INT8", "STRING", "DATE"].map(|kind| dfm(&[("EDW_ID", kind)], 1)));
    let left: usize = world.cloud.state().buckets.versions.values().map(Vec::len).sum();
    assert_eq!(left, 0, "each .dfm has left the incoming bucket with its object");
}

#[test]
fn every_statement_of_its_role_is_used() {
    loads_of_every_kind_end_archived_or_errored_with_their_rows_in_springboard();
    in_a_bucket_without_versions_a_replaced_object_is_superseded_and_never_read_as_something_else();
    a_late_snapshot_moves_files_and_objects_to_where_they_belong();
    a_file_of_several_parts_that_another_plan_made_is_replaced();
    what_is_ingested_twice_is_written_once();
    a_registrar_that_is_short_of_capacity_is_asked_again_and_then_soon();
    roles::ingester().assert_everything_is_used();
}

/// More than one part of an upload, and a row that does not fit.
fn large() -> String {
    let row = |n: u64| {
        let random = [0x9E37_79B9_7F4A_7C15, 0xD6E8_FEB8_6659_FD93].map(|odd| n.wrapping_mul(odd));
        format!("{:x}{:x},\n", random[0], random[1])
    };
    std::iter::once("text,taps\nbad,many\n".to_owned()).chain((0..600_000).map(row)).collect()
}

#[tokio::test]
async fn what_is_ingested_twice_is_written_once() {
    let world = World::new(tables()).await;
    world.put("cubic/dmap/agg_sample/1.csv", large().as_bytes()).await;
    // Everything is written, and nobody can be told.
    world.cloud.state().lost = Some("loads_set_status");
    world.tick().await.unwrap();
    let message = world.cloud.state().queue.remove(0);
    assert!(!world.deliver(&message).await);
    world.cloud.state().lost = None;
    let written = world.keys(LAKE, "");
    assert_eq!(written.len(), 2, "a file and a row in the quarantine: {written:?}");
    let bytes = world.body(&written[1]);
    expire_leases(&world.scratch).await;
    world.run().await;
    assert_eq!(world.keys(LAKE, "springboard/"), written[1..]);
    assert_eq!(world.keys(LAKE, "quarantine/"), written[..1]);
    assert!(world.body(&written[1]) == bytes && bytes.len() > 8 << 20);
    assert!(world.loads().await[0].contains("|archived|"));
}

/// As after a change of the table's columns, or of this function, in the middle of a load.
#[tokio::test]
async fn a_file_of_several_parts_that_another_plan_made_is_replaced() {
    let world = World::new(tables()).await;
    let text = large();
    world.put("cubic/dmap/agg_sample/1.csv", text.as_bytes()).await;
    let place = "springboard/cubic/dmap/agg_sample/timestamp=20261120T120001Z/1-0.parquet";
    let stale = |plan: &str| {
        let metadata = BTreeMap::from([("landfall-plan".to_owned(), plan.to_owned())]);
        world.cloud.state().buckets.write((LAKE.to_owned(), place.to_owned()), metadata, b"stale".to_vec());
    };
    stale("another");
    let extra = place.replace("1-0", "1-7");
    world.cloud.state().buckets.write((LAKE.to_owned(), extra.clone()), BTreeMap::new(), b"stale".to_vec());
    world.run().await;
    assert_eq!(world.rows("cubic/dmap/agg_sample/").iter().map(RecordBatch::num_rows).sum::<usize>(), 600_000);
    assert!(world.body(place).len() > 8 << 20, "it was uploaded in parts");
    assert!(!world.keys(LAKE, "springboard/").contains(&extra), "files beyond its own are removed");
}

// --- Random histories ---------------------------------------------------------------------------------------------------

/// What happens to the world.
#[derive(Debug, Clone)]
enum Event {
    /// One of the keys gets another version.
    Put(usize),
    /// A put whose notification comes with the next one of the kind.
    PutLate,
    Tick,
    /// A message is delivered, and the function dies after so many of its requests.
    Deliver {
        message: prop::sample::Index,
        requests: Option<usize>,
    },
    /// The same message is delivered again, whatever became of it.
    Redeliver {
        message: prop::sample::Index,
        requests: Option<usize>,
    },
    ExpireLeases,
}

fn event() -> impl Strategy<Value = Event> {
    let requests = || prop_oneof![2 => Just(None), 3 => (0..25_usize).prop_map(Some)];
    prop_oneof![
        3 => (0..4_usize).prop_map(Event::Put),
        1 => Just(Event::PutLate),
        3 => Just(Event::Tick),
        6 => (any::<prop::sample::Index>(), requests()).prop_map(|(message, requests)| Event::Deliver { message, requests }),
        2 => (any::<prop::sample::Index>(), requests()).prop_map(|(message, requests)| Event::Redeliver { message, requests }),
        2 => Just(Event::ExpireLeases),
    ]
}

/// One version that was put: its key, its only value, when.
type Put = (String, i64, i64);

struct History {
    world: World,
    puts: Vec<Put>,
    late: Vec<Object>,
    taken: Vec<String>,
}

impl History {
    async fn apply(&mut self, event: Event) {
        match event {
            Event::Put(key) => {
                let key = [
                    "cubic/ods_qlik/EDW.SAMPLE__ct/1.csv",
                    "cubic/ods_qlik/EDW.SAMPLE__ct/2.csv",
                    "cubic/dmap/agg_sample/1.csv",
                    "cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz",
                ][key];
                let object = self.put(key);
                self.world.announce(key, &object).await;
            }
            Event::PutLate => {
                for object in std::mem::take(&mut self.late) {
                    self.world.announce(LOAD, &object).await;
                }
                let object = self.put(LOAD);
                self.late.push(object);
            }
            Event::Tick => self.world.tick().await.unwrap(),
            Event::ExpireLeases => expire_leases(&self.world.scratch).await,
            Event::Deliver { message, requests } => {
                let body = {
                    let queue = &mut self.world.cloud.state().queue;
                    if queue.is_empty() {
                        return;
                    }
                    queue.remove(message.index(queue.len()))
                };
                self.deliver(&body, requests).await;
                self.taken.push(body);
            }
            Event::Redeliver { message, requests } if !self.taken.is_empty() => {
                let body = message.get(&self.taken).clone();
                self.deliver(&body, requests).await;
            }
            Event::Redeliver { .. } => {}
        }
    }

    fn put(&mut self, key: &str) -> Object {
        let value = i64::try_from(self.puts.len()).unwrap();
        let text = format!("taps\n{value}\n");
        let body = if key.ends_with("gz") { gz(&text) } else { text.into_bytes() };
        let object = self.world.put_silently(key, &body);
        self.puts.push((key.to_owned(), value, object.modified));
        object
    }

    /// A function that dies does so in the middle of a request: nothing of it is answered any more.
    async fn deliver(&self, body: &str, requests: Option<usize>) {
        self.world.cloud.state().left = requests;
        drop(timeout(Duration::from_millis(150), self.world.deliver(body)).await);
        self.world.cloud.state().left = None;
    }
}

/// The values under a folder of Springboard.
fn values(world: &World, prefix: &str) -> Vec<i64> {
    let batches = world.rows(prefix);
    let column = |batch: &RecordBatch| {
        arrow::compute::cast(batch.column_by_name("taps").unwrap(), &arrow::datatypes::DataType::Int64).unwrap()
    };
    let mut values: Vec<i64> = batches
        .iter()
        .flat_map(|batch| {
            let column = column(batch);
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&column).values().to_vec()
        })
        .collect();
    values.sort_unstable();
    values
}

/// Every copy that is deleted from the incoming bucket is in the lake.
fn nothing_is_gone(history: &History) -> Result<(), TestCaseError> {
    let state = history.world.cloud.state();
    let lake: Vec<&Object> =
        state.buckets.objects.iter().filter(|((bucket, _), _)| bucket == LAKE).map(|(_, object)| object).collect();
    let incoming: Vec<&Object> = state.buckets.versions.values().flatten().collect();
    for (key, value, _) in &history.puts {
        let text = format!("taps\n{value}\n");
        let body = if key.ends_with("gz") { gz(&text) } else { text.into_bytes() };
        let is_there = |objects: &[&Object]| objects.iter().any(|object| object.body == body);
        prop_assert!(is_there(&incoming) || is_there(&lake), "{key} with {value} is nowhere");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_version_is_ingested_once_under_its_snapshot_whoever_dies_when(
        events in proptest::collection::vec(event(), 5..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let columns = json!([{"name": "taps", "type": "INT8"}]);
            let tables = json!([
                {"prefix": "cubic/ods_qlik/EDW.SAMPLE/", "kind": "ods", "columns": columns, "max_attempts": 1_000},
                {"prefix": "cubic/dmap/agg_sample/", "kind": "dmap", "columns": columns, "max_attempts": 1_000},
            ]);
            let world = World::new(tables).await;
            let mut history = History { world, puts: Vec::new(), late: Vec::new(), taken: Vec::new() };
            for event in events {
                history.apply(event).await;
                nothing_is_gone(&history)?;
            }
            for object in std::mem::take(&mut history.late) {
                history.world.announce(LOAD, &object).await;
            }
            // In the end everybody lives.
            history.world.cloud.state().queue.clear();
            expire_leases(&history.world.scratch).await;
            history.world.run().await;
            nothing_is_gone(&history)?;

            let snapshots: Vec<i64> =
                history.puts.iter().filter(|(key, ..)| key == LOAD).map(|(_, _, modified)| *modified).collect();
            let mut expected: BTreeMap<String, Vec<i64>> = BTreeMap::new();
            let mut errored = 0;
            for (key, value, modified) in &history.puts {
                let time = |at: i64| jiff::Timestamp::from_second(at).unwrap().strftime("%Y%m%dT%H%M%SZ").to_string();
                let folder = key.rsplit_once('/').unwrap().0;
                let place = if folder.contains("ods_qlik") {
                    match snapshots.iter().filter(|at| *at <= modified).max() {
                        Some(at) => format!("{folder}/snapshot={}/", time(*at)),
                        None => {
                            errored += 1;
                            continue;
                        }
                    }
                } else {
                    format!("{folder}/timestamp={}/", time(*modified))
                };
                expected.entry(place).or_default().push(*value);
            }
            for (place, expected) in &expected {
                prop_assert_eq!(&values(&history.world, place), expected, "{}", place);
            }
            let all: usize = expected.values().map(Vec::len).sum();
            prop_assert_eq!(values(&history.world, "").len(), all);
            let archived = history.world.scratch.lines("select count(*) from cubic_loads where status = 'archived'").await;
            prop_assert_eq!(&archived[0], &all.to_string());
            // Loads without a snapshot go on waiting for one.
            let waiting = "select count(*) from cubic_loads where status = 'ready_for_erroring' and status_reason = 'no_snapshot'";
            prop_assert_eq!(&history.world.scratch.lines(waiting).await[0], &errored.to_string());
            let left: usize = history.world.cloud.state().buckets.versions.values().map(Vec::len).sum();
            prop_assert_eq!(left, errored);
            prop_assert_eq!(history.world.keys(LAKE, "archive/").len(), all);
            Ok(())
        })?;
    }
}
