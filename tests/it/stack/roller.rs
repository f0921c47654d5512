//! kafka-roller on the deployed local stack: its handler over a real S3, and the deployed function behind a real stream.

use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use bytes::Bytes;
use kafka_roller::{
    app::App,
    config::Config,
    handler::{Response, handle},
};
use objects::S3;
use rolling::shard::{STATE, State};
use serde_json::{Value, json};
use shared::{
    quarantine::base64,
    rolled::{Reason, RolledFile},
};

use super::{Deployed, SOON, eventually};
use crate::{events::tick, kafka_roller::batch};

const HOUR_MS: i64 = 3_600_000;

/// The function over the stack's buckets, in this process.
async fn app(deployed: &Deployed, table: &str) -> App<S3> {
    let lookup = |name| {
        Some(match name {
            "INCOMING_BUCKET" => deployed.stack.output("KafkaFilesBucketName").to_owned(),
            "LAKE_BUCKET" => deployed.bucket().to_owned(),
            "TABLE" => table.to_owned(),
            "MAX_TICK_AHEAD_SECONDS" => "604800".to_owned(),
            _ => return None,
        })
    };
    App::new(Config::from_lookup(lookup).unwrap(), &deployed.stack.config().await)
}

async fn land(app: &App<S3>, event: &Value) {
    let response = handle(app, Bytes::from(event.to_string()), u64::MAX).await.unwrap();
    assert_eq!(response, Response::default());
}

/// The files of a table in the order of their records, with what they say of themselves.
async fn files(deployed: &Deployed, table: &str) -> Vec<(RolledFile, Vec<Value>)> {
    let (bucket, prefix) = (deployed.stack.output("KafkaFilesBucketName"), format!("cubic/kafka/{table}/"));
    let listed = deployed.s3.list_objects_v2().bucket(bucket).prefix(prefix).send().await.unwrap();
    let mut files = Vec::new();
    for object in listed.contents() {
        let object = deployed.s3.get_object().bucket(bucket).key(object.key().unwrap()).send().await.unwrap();
        let metadata = object.metadata.clone().unwrap();
        let about = RolledFile::of_metadata(|name| metadata.get(name).map(String::as_str)).unwrap();
        let body = object.body.collect().await.unwrap().to_vec();
        let lines = std::str::from_utf8(&body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap());
        files.push((about, lines.collect()));
    }
    files.sort_by_key(|(about, _): &(RolledFile, Vec<Value>)| about.first);
    files
}

fn counts(files: &[(RolledFile, Vec<Value>)]) -> Vec<(usize, Reason)> {
    files.iter().map(|(about, _)| (about.count, about.reason)).collect()
}

fn numbers(files: &[(RolledFile, Vec<Value>)]) -> Vec<u64> {
    files.iter().flat_map(|(_, lines)| lines).map(|line| line["n"].as_u64().unwrap()).collect()
}

/// The time at which the first record of [`batch`] is an hour old.
fn hour_later() -> i64 {
    crate::kafka_roller::ARRIVED_MS + HOUR_MS
}

#[tokio::test]
async fn boundaries_hold_with_the_conditional_writes_of_a_real_s3() {
    let deployed = Deployed::new().await;
    for (table, ends, expected) in [
        ("roll_exactly", &[10_000, 10_001][..], &[(10_000, Reason::Records)][..]),
        ("roll_one_more", &[10_002], &[(10_000, Reason::Records), (1, Reason::Age)]),
        ("roll_onto_staged", &[10_000, 20_000], &[(10_000, Reason::Records), (9_999, Reason::Age)]),
        ("roll_single", &[2], &[(1, Reason::Age)]),
    ] {
        let app = app(&deployed, table).await;
        let mut last = 1;
        for end in ends {
            land(&app, &batch(table, last..*end)).await;
            land(&app, &batch(table, last..*end)).await;
            last = *end;
        }
        land(&app, &tick(hour_later() + i64::try_from(last).unwrap())).await;
        let files = files(&deployed, table).await;
        assert_eq!((counts(&files), numbers(&files)), (expected.to_vec(), (1..last).collect()), "{table}");
        let left = deployed.objects(&format!("staging/{table}/")).await;
        assert!(left.len() == 1 && left[0].0.ends_with("/state.json"), "{left:?}");
    }
}

#[tokio::test]
async fn invocations_at_the_same_time_make_one_file() {
    let (deployed, table) = (Deployed::new().await, "roll_at_once");
    let app = app(&deployed, table).await;
    land(&app, &batch(table, 1..5_000)).await;
    let (more, late) = (batch(table, 5_000..10_001), tick(hour_later() + 1));
    let invocations = [&more, &late, &more, &late, &more, &late];
    let handled = invocations.map(|event| handle(&app, Bytes::from(event.to_string()), u64::MAX));
    futures_util::future::join_all(handled).await.into_iter().for_each(|handled| drop(handled.unwrap()));
    // Invocations that lost the race may have failed, so the batch is delivered again.
    land(&app, &more).await;
    land(&app, &tick(hour_later() + 20_000)).await;
    let files = files(&deployed, table).await;
    assert_eq!(numbers(&files), (1..10_001).collect::<Vec<_>>());
    assert!(files.len() <= 2, "{:?}", counts(&files));
}

#[tokio::test]
async fn a_large_file_is_uploaded_in_parts_and_exists_once() {
    let (deployed, table) = (Deployed::new().await, "roll_parts");
    let mut app = app(&deployed, table).await;
    app.part_bytes = 5 << 20;
    let mut event = batch(table, 1..131);
    for (number, record) in event["Records"].as_array_mut().unwrap().iter_mut().enumerate() {
        let line = format!("{{\"n\":{},\"x\":\"{}\"}}", number + 1, "x".repeat(100_000));
        record["kinesis"]["data"] = json!(base64(line.as_bytes()));
    }
    land(&app, &event).await;
    let late = tick(hour_later() + 1);
    let both = [&late, &late].map(|event| handle(&app, Bytes::from(event.to_string()), u64::MAX));
    futures_util::future::join_all(both).await.into_iter().for_each(|handled| drop(handled.unwrap()));
    let files = files(&deployed, table).await;
    assert_eq!((counts(&files), numbers(&files)), (vec![(130, Reason::Age)], (1..131).collect()));
    let bucket = deployed.stack.output("KafkaFilesBucketName");
    let uploads = deployed.s3.list_multipart_uploads().bucket(bucket).send().await.unwrap();
    assert!(uploads.uploads().is_empty(), "the one that lost is aborted: {uploads:?}");
}

/// The stream of the stack, and the function that reads it.
struct Rolling<'a> {
    deployed: &'a Deployed,
    table: &'a str,
    kinesis: aws_sdk_kinesis::Client,
    lambda: aws_sdk_lambda::Client,
}

impl<'a> Rolling<'a> {
    async fn new(deployed: &'a Deployed, table: &'a str) -> Self {
        let config = deployed.stack.config().await;
        let (kinesis, lambda) = (aws_sdk_kinesis::Client::new(&config), aws_sdk_lambda::Client::new(&config));
        Self { deployed, table, kinesis, lambda }
    }

    /// Puts records with these numbers, lets the function stage them, and an hour pass.
    async fn roll(&self, numbers: std::ops::Range<usize>) {
        let entries = numbers.clone().map(|number| {
            let data = Blob::new(format!("{{\"topic\":\"{}\",\"n\":{number}}}", self.table));
            PutRecordsRequestEntry::builder().data(data).partition_key(self.table).build().unwrap()
        });
        let put = self.kinesis.put_records().stream_name(self.deployed.stack.output("KafkaStreamName"));
        let put = put.set_records(Some(entries.collect())).send().await.unwrap();
        assert_eq!(put.failed_record_count(), Some(0));
        let table = self.table.parse().unwrap();
        eventually("staging records", SOON, || async {
            let objects = self.deployed.objects("staging/").await;
            let states = objects.iter().filter(|(key, _)| key.ends_with(STATE));
            let tables = states.filter_map(|(_, body)| State::of_bytes(body).unwrap().tables.remove(&table));
            let counts = tables.filter_map(|table| table.open).map(|open| open.count);
            (counts.sum::<usize>() == numbers.len()).then_some(())
        })
        .await;
        let event = aws_sdk_lambda::primitives::Blob::new(tick(runtime::clock::unix_ms() + HOUR_MS).to_string());
        let function = self.deployed.stack.output("KafkaRollerFunctionName");
        let answer = self.lambda.invoke().function_name(function).payload(event).send().await.unwrap();
        assert_eq!(answer.function_error(), None);
    }
}

#[tokio::test]
async fn the_deployed_function_rolls_and_what_goes_missing_is_found_and_repaired() {
    // A table name that is new in each run, because the stack may still hold the data of an earlier one.
    let (deployed, table) = (Deployed::new().await, &format!("roll_{}", runtime::clock::unix_ms()));
    let rolling = Rolling::new(&deployed, table).await;
    for first in [0, 300, 600] {
        rolling.roll(first..first + 300).await;
    }
    let complete = files(&deployed, table).await;
    assert_eq!((counts(&complete), numbers(&complete)), (vec![(300, Reason::Age); 3], (0..900).collect()));

    let bucket = deployed.stack.output("KafkaFilesBucketName");
    let audit = ["audit", "--bucket", bucket, "--table", table];
    assert_eq!(deployed.landfall(&audit).await.1, 0);
    let missing = format!("cubic/kafka/{table}/{}.json", complete[1].0.id());
    deployed.s3.delete_object().bucket(bucket).key(&missing).send().await.unwrap();
    let (said, code) = deployed.landfall(&audit).await;
    assert_eq!(code, 3, "{said}");
    let (said, code) = deployed.landfall(&[&audit[..], &["--repair"]].concat()).await;
    assert_eq!(code, 0, "{said}");
    let repaired = files(&deployed, table).await;
    assert_eq!(numbers(&repaired), (0..900).collect::<Vec<_>>());
    assert_eq!((repaired[1].0.id(), repaired[1].0.reason), (complete[1].0.id(), Reason::Repair));
    assert_eq!(deployed.landfall(&audit).await.1, 0);
}

/// Still poison, it comes back under the name of its new record, and the old one is gone.
#[tokio::test]
async fn quarantined_records_go_back_into_their_stream() {
    let deployed = Deployed::new().await;
    let kinesis = aws_sdk_kinesis::Client::new(&deployed.stack.config().await);
    let poison = format!("no json {}", runtime::clock::unix_ms());
    let put = kinesis.put_record().stream_name(deployed.stack.output("KafkaStreamName"));
    put.partition_key("k").data(Blob::new(poison.as_bytes())).send().await.unwrap();
    let other_than = |old: Option<String>| {
        let (deployed, poison) = (&deployed, &poison);
        async move {
            let (shown, _) = deployed.landfall(&["quarantine", "show", "--function", "kafka-roller"]).await;
            let records = shown["records"].as_array().cloned().unwrap_or_default();
            let ours = records.iter().filter(|record| record["body_base64"] == base64(poison.as_bytes()).as_str());
            let ids: Vec<String> = ours.map(|record| record["id"].as_str().unwrap().to_owned()).collect();
            ids.iter().find(|id| Some(*id) != old.as_ref()).cloned().filter(|_| ids.len() == 1)
        }
    };
    let first = eventually("quarantining", SOON, || other_than(None)).await;
    let replay = ["replay", "quarantine", "--function", "kafka-roller", "--id", &first];
    let (report, code) = deployed.landfall(&replay).await;
    assert_eq!((code, &report["total"]["sent"], &report["to"]), (0, &json!(1), &json!("landfall-kafka")), "{report:#}");
    let second = eventually("quarantining again", SOON, || other_than(Some(first.clone()))).await;
    let discard = ["quarantine", "discard", "--function", "kafka-roller", "--id", &second, "--yes"];
    assert_eq!(deployed.landfall(&discard).await.0["records"], 1);
    assert_eq!(other_than(None).await, None);
}
