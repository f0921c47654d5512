//! kafka-roller on the deployed local stack: its handler over a real S3, and the deployed function behind a real stream.

use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use bytes::Bytes;
use kafka_roller::{
    app::App,
    bucket::S3,
    config::Config,
    handler::{Response, handle},
};
use serde_json::{Value, json};
use shared::{
    quarantine::base64,
    rolled::{Reason, RolledFile},
};

use super::{Deployed, SOON, eventually};
use crate::kafka_roller::batch;

const HOUR_MS: i64 = 3_600_000;

/// The function over the stack's buckets, in this process.
async fn app(deployed: &Deployed, table: &str) -> App<S3> {
    let lookup = |name| {
        Some(match name {
            "INCOMING_BUCKET" => deployed.stack.output("KafkaFilesBucketName").to_owned(),
            "LAKE_BUCKET" => deployed.bucket().to_owned(),
            "TABLE" => table.to_owned(),
            _ => return None,
        })
    };
    App::new(Config::from_lookup(lookup).unwrap(), &deployed.stack.config().await)
}

async fn land(app: &App<S3>, event: &Value) {
    let response = handle(app, Bytes::from(event.to_string())).await.unwrap();
    assert_eq!(response, Response::default());
}

fn tick(ms: i64) -> Value {
    json!({"time": jiff::Timestamp::from_millisecond(ms).unwrap()})
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
        assert!(left.len() == 1 && left[0].0.contains("/rolled-"), "{left:?}");
    }
}

#[tokio::test]
async fn invocations_at_the_same_time_make_one_file() {
    let (deployed, table) = (Deployed::new().await, "roll_at_once");
    let app = app(&deployed, table).await;
    land(&app, &batch(table, 1..5_000)).await;
    let (more, late) = (batch(table, 5_000..10_001), tick(hour_later() + 1));
    let invocations = [&more, &late, &more, &late, &more, &late];
    let handled = invocations.map(|event| handle(&app, Bytes::from(event.to_string())));
    futures_util::future::join_all(handled).await.into_iter().for_each(|handled| drop(handled.unwrap()));
    // Whoever lost comes again.
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
    let both = [&late, &late].map(|event| handle(&app, Bytes::from(event.to_string())));
    futures_util::future::join_all(both).await.into_iter().for_each(|handled| drop(handled.unwrap()));
    let files = files(&deployed, table).await;
    assert_eq!((counts(&files), numbers(&files)), (vec![(130, Reason::Age)], (1..131).collect()));
    let bucket = deployed.stack.output("KafkaFilesBucketName");
    let uploads = deployed.s3.list_multipart_uploads().bucket(bucket).send().await.unwrap();
    assert!(uploads.uploads().is_empty(), "the one that lost is aborted: {uploads:?}");
}

#[tokio::test]
async fn records_on_the_stream_are_rolled_by_the_deployed_function() {
    let (deployed, table) = (Deployed::new().await, "roll_deployed");
    let config = deployed.stack.config().await;
    let kinesis = aws_sdk_kinesis::Client::new(&config);
    let entries = (0..300).map(|number| {
        let data = Blob::new(format!("{{\"topic\":\"{table}\",\"n\":{number}}}"));
        PutRecordsRequestEntry::builder().data(data).partition_key(table).build().unwrap()
    });
    let put = kinesis.put_records().stream_name(deployed.stack.output("KafkaStreamName"));
    let put = put.set_records(Some(entries.collect())).send().await.unwrap();
    assert_eq!(put.failed_record_count(), Some(0));
    eventually("staging records", SOON, || async {
        let segments = deployed.objects("staging/").await;
        let of_table = segments.iter().filter(|(key, _)| key.contains(table) && key.ends_with(".ndjson"));
        let count: usize =
            of_table.map(|(key, _)| key.split('-').rev().nth(3).unwrap().parse::<usize>().unwrap()).sum();
        (count == 300).then_some(())
    })
    .await;
    let later = jiff::Timestamp::from_millisecond(runtime::clock::unix_ms() + HOUR_MS).unwrap();
    let lambda = aws_sdk_lambda::Client::new(&config);
    let event = aws_sdk_lambda::primitives::Blob::new(json!({"time": later}).to_string());
    let function = deployed.stack.output("KafkaRollerFunctionName");
    let answer = lambda.invoke().function_name(function).payload(event).send().await.unwrap();
    assert_eq!(answer.function_error(), None);
    let files = files(&deployed, table).await;
    assert_eq!((counts(&files), numbers(&files)), (vec![(300, Reason::Age)], (0..300).collect()));
}
