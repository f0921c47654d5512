//! S3 through the real client, against buckets in memory that refuse what S3 refuses.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kafka_roller::{app::App, config::Config, handler::handle};
use kit::{
    http::{self, HttpResponse},
    s3::{Buckets, Call},
};
use objects::{Attributes, Bucket, BucketError, Created, S3};
use serde_json::json;
use shared::quarantine::base64;

const MIB: usize = 1 << 20;

/// S3 with one bucket, and the operations that were called.
#[derive(Clone, Default)]
struct Stage {
    buckets: Arc<Mutex<Buckets>>,
    calls: Arc<Mutex<Vec<&'static str>>>,
}

impl Stage {
    async fn bucket(&self, name: &str) -> S3 {
        let stage = self.clone();
        let answer = move |request: &http::HttpRequest| -> HttpResponse {
            let call = Call::of(request).unwrap();
            stage.calls.lock().unwrap().push(call.operation);
            stage.buckets.lock().unwrap().answer(&call, request)
        };
        S3::new(&objects::Client::new(&http::config(http::client(answer)).await), name)
    }

    /// The bytes of every object whose key starts with `prefix`.
    fn bodies(&self, prefix: &str) -> Vec<Vec<u8>> {
        let buckets = self.buckets.lock().unwrap();
        let objects = buckets.objects.iter().filter(|((_, key), _)| key.starts_with(prefix));
        objects.map(|(_, object)| object.body.clone()).collect()
    }

    fn count(&self, operation: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| **call == operation).count()
    }
}

async fn upload(bucket: &S3, key: &str) -> Result<Created, BucketError> {
    let mut upload = bucket.begin(key, &Attributes::default()).await?;
    for part in [vec![1; 5 * MIB], vec![2; 3]] {
        bucket.part(&mut upload, part.into()).await?;
    }
    bucket.complete(&upload).await
}

#[tokio::test]
async fn an_upload_in_parts_is_one_object_and_is_never_written_twice() {
    let stage = Stage::default();
    let bucket = stage.bucket("lake").await;
    assert!(matches!(upload(&bucket, "large").await, Ok(Created::New { .. })));
    assert_eq!(stage.bodies("large"), [[vec![1; 5 * MIB], vec![2; 3]].concat()]);
    assert_eq!(upload(&bucket, "large").await, Ok(Created::Exists));
}

#[tokio::test]
async fn more_objects_than_s3_deletes_at_once_are_deleted() {
    let stage = Stage::default();
    let bucket = stage.bucket("lake").await;
    let keys: Vec<String> = (0..1_001).map(|number| format!("a/{number}")).collect();
    for key in &keys {
        bucket.create(key, Bytes::from_static(b"x"), &Attributes::default()).await.unwrap();
    }
    bucket.delete(&keys).await.unwrap();
    assert_eq!((stage.bodies("a/").len(), stage.count("DeleteObjects")), (0, 2));
}

/// S3 decides nothing when conditional writes of one key meet.
#[tokio::test]
async fn a_write_that_meets_another_one_is_tried_again() {
    let stage = Stage::default();
    let bucket = stage.bucket("lake").await;
    let body = || Bytes::from_static(b"x");
    stage.buckets.lock().unwrap().conflicts = 3;
    assert!(matches!(bucket.create("a", body(), &Attributes::default()).await, Ok(Created::New { .. })));
    assert_eq!(stage.count("PutObject"), 4);
    stage.buckets.lock().unwrap().conflicts = 3;
    assert_eq!(bucket.create("a", body(), &Attributes::default()).await, Ok(Created::Exists));
    stage.buckets.lock().unwrap().conflicts = 4;
    let error = bucket.create("b", body(), &Attributes::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "s3://lake/b could not be written: another write of it was in progress");
    stage.buckets.lock().unwrap().conflicts = 1;
    assert!(matches!(upload(&bucket, "c").await, Err(BucketError::Raced { .. })));
}

/// The file has more bytes than a part, and the first completion meets another one.
#[tokio::test]
async fn a_large_file_is_rolled_in_parts() {
    let stage = Stage::default();
    let settings = |name: &str| match name {
        "INCOMING_BUCKET" => Some("incoming".to_owned()),
        "LAKE_BUCKET" => Some("lake".to_owned()),
        "TABLE_POINTER" => Some("/topic".to_owned()),
        "ROLL_MAX_RECORDS" => Some("6".to_owned()),
        _ => None,
    };
    let config = Config::from_lookup(settings).unwrap();
    let mut app = App::over(config, stage.bucket("lake").await, stage.bucket("incoming").await);
    app.part_bytes = 5 * MIB;
    let filler = "x".repeat(MIB - 100);
    let record = |sequence: u64| {
        json!({
            "kinesis": {
                "partitionKey": "k", "sequenceNumber": sequence.to_string(),
                "data": base64(format!("{{\"topic\":\"t\",\"n\":{sequence},\"x\":\"{filler}\"}}").as_bytes()),
                "approximateArrivalTimestamp": 1_795_183_906.123,
            },
            "eventID": format!("shardId-0:{sequence}"),
            "eventSourceARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/s",
        })
    };
    for sequences in [1..4, 4..7] {
        stage.buckets.lock().unwrap().conflict_prefix = "cubic/";
        if sequences.contains(&4) {
            stage.buckets.lock().unwrap().conflicts = 1;
        }
        let event = json!({"Records": sequences.map(record).collect::<Vec<_>>()}).to_string();
        assert_eq!(handle(&app, event.into(), u64::MAX).await.unwrap(), kafka_roller::handler::Response::default());
    }
    let [file] = <[Vec<u8>; 1]>::try_from(stage.bodies("cubic/kafka/t/")).unwrap();
    assert_eq!(file.iter().filter(|byte| **byte == b'\n').count(), 6);
    assert_eq!((stage.count("CompleteMultipartUpload"), stage.count("CreateMultipartUpload")), (2, 2));
    assert_eq!(stage.bodies("staging/").len(), 1, "only the state is left");
}
