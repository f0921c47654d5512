//! Buckets, a stream of one shard and a function, for the tests.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use aws_smithy_runtime_api::{
    client::orchestrator::{HttpRequest, HttpResponse},
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use shared::{layout::KafkaKey, quarantine::base64, rolled::RolledFile};

use crate::{canned, context::Context};

/// Keys in a page of a listing.
const LISTED: usize = 2;
/// Records in a page of the stream.
const READ: usize = 40;

/// An object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) metadata: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// Everything that there is.
#[derive(Debug, Default)]
pub(crate) struct Lake {
    /// By bucket and key.
    pub(crate) objects: BTreeMap<(String, String), Object>,
    /// Keys that the next listing does not show yet.
    pub(crate) hidden: BTreeSet<String>,
    /// Keys that S3 fails to give.
    pub(crate) broken: BTreeSet<String>,
    /// Sequence numbers, when they arrived, and data.
    pub(crate) records: Vec<(u64, i64, String)>,
    /// Whether the shard is listed.
    pub(crate) is_sharded: bool,
    /// Reads that are refused before one is answered.
    pub(crate) throttles: usize,
    /// The function's environment.
    pub(crate) variables: BTreeMap<&'static str, &'static str>,
    /// What was called.
    pub(crate) calls: Vec<&'static str>,
}

pub(crate) type Shared = Arc<Mutex<Lake>>;

/// A context of services that answer from the lake.
pub(crate) async fn context(lake: &Shared) -> Context {
    let lake = Arc::clone(lake);
    canned::services(move |request| lake.lock().unwrap().answer(request)).await
}

impl Lake {
    pub(crate) fn put(&mut self, bucket: &str, key: &str, metadata: &[(&'static str, String)], body: &str) {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.objects.insert((bucket.to_owned(), key.to_owned()), Object { metadata, body: body.into() });
    }

    /// Puts a file where kafka-roller would, and gives back its key.
    pub(crate) fn roll(&mut self, bucket: &str, rolled: &RolledFile, body: &str) -> String {
        let key = KafkaKey { table: rolled.window.table.clone(), id: rolled.id(), gzip: false }.to_string();
        self.put(bucket, &key, &rolled.metadata(), body);
        key
    }

    /// How often it was called.
    pub(crate) fn calls(&self, call: &str) -> usize {
        self.calls.iter().filter(|other| **other == call).count()
    }

    fn answer(&mut self, request: &HttpRequest) -> HttpResponse {
        if let Some(target) = request.headers().get("x-amz-target") {
            let call = target.strip_prefix("Kinesis_20131202.").unwrap();
            return self.kinesis(call, &serde_json::from_slice(request.body().bytes().unwrap()).unwrap());
        }
        let path = request.uri().strip_prefix("http://127.0.0.1:1/").unwrap();
        if path.starts_with("2015-03-31/functions/") {
            return match path.ends_with("/landfall-kafka-roller/configuration") {
                true => canned::response(200, &json!({"Environment": {"Variables": self.variables}})),
                false => {
                    let mut response = canned::response(404, &json!({"Message": "Function not found"}));
                    response.headers_mut().insert("x-amzn-errortype", "ResourceNotFoundException");
                    response
                }
            };
        }
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let place = (bucket.to_owned(), percent_decode_str(key).decode_utf8().unwrap().into_owned());
        match request.method() {
            "GET" if key.is_empty() => self.list(bucket, query),
            "GET" => self.get("GetObject", &place),
            "HEAD" => self.get("HeadObject", &place),
            "PUT" => {
                assert_eq!(request.headers().get("if-none-match"), Some("*"));
                self.calls.push("PutObject");
                if self.objects.contains_key(&place) {
                    return xml(412, "<Error><Code>PreconditionFailed</Code></Error>");
                }
                let metadata = request.headers().iter();
                let metadata = metadata.filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?, value)));
                let metadata = metadata.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                let body = request.body().bytes().unwrap().to_vec();
                self.objects.insert(place, Object { metadata, body });
                xml(200, "")
            }
            other => panic!("{other} {path}"),
        }
    }

    fn list(&mut self, bucket: &str, query: &str) -> HttpResponse {
        self.calls.push("ListObjectsV2");
        let value = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            percent_decode_str(value.unwrap_or_default()).decode_utf8().unwrap().into_owned()
        };
        let (prefix, after) = (value("prefix"), value("continuation-token"));
        let all = self.objects.keys().filter(|(other, key)| other == bucket && key.starts_with(&prefix));
        let all = all.map(|(_, key)| key).filter(|key| **key > after && !self.hidden.contains(*key));
        let keys: Vec<&String> = all.collect();
        let page = &keys[..keys.len().min(LISTED)];
        let mut body: String =
            page.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>")).collect();
        if page.len() < keys.len() {
            let next = page.last().unwrap();
            body += &format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>");
        } else {
            self.hidden.clear();
        }
        xml(200, &format!("<ListBucketResult>{body}</ListBucketResult>"))
    }

    fn get(&mut self, call: &'static str, place: &(String, String)) -> HttpResponse {
        self.calls.push(call);
        if self.broken.contains(&place.1) {
            return xml(403, "<Error><Code>AccessDenied</Code><Message>no key</Message></Error>");
        }
        let Some(object) = self.objects.get(place) else {
            return xml(404, if call == "HeadObject" { "" } else { "<Error><Code>NoSuchKey</Code></Error>" });
        };
        let body = if call == "HeadObject" { Vec::new() } else { object.body.clone() };
        let mut response = HttpResponse::new(StatusCode::try_from(200).unwrap(), SdkBody::from(body));
        for (name, value) in &object.metadata {
            response.headers_mut().insert(format!("x-amz-meta-{name}"), value.clone());
        }
        response
    }

    fn kinesis(&mut self, call: &str, request: &Value) -> HttpResponse {
        match call {
            "ListShards" => {
                assert_eq!(request["StreamName"], "cubic-kafka");
                let shard = json!({
                    "ShardId": "shardId-000000000006",
                    "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
                    "SequenceNumberRange": {"StartingSequenceNumber": format!("{:030}", 0)},
                });
                canned::response(200, &json!({"Shards": if self.is_sharded { vec![shard] } else { vec![] }}))
            }
            "GetShardIterator" => {
                assert_eq!(request["ShardIteratorType"], "AT_SEQUENCE_NUMBER");
                let at = request["StartingSequenceNumber"].as_str().unwrap();
                assert_eq!(at.len(), 30);
                let at = at.parse().unwrap();
                let index = self.records.partition_point(|(number, ..)| *number < at);
                canned::response(200, &json!({"ShardIterator": index.to_string()}))
            }
            "GetRecords" => {
                if self.throttles > 0 {
                    self.throttles -= 1;
                    return canned::response(400, &json!({"__type": "ProvisionedThroughputExceededException"}));
                }
                self.calls.push("GetRecords");
                let from: usize = request["ShardIterator"].as_str().unwrap().parse().unwrap();
                let page = self.records.iter().skip(from).take(READ);
                let records: Vec<Value> = page
                    .map(|(number, ms, data)| {
                        #[expect(clippy::cast_precision_loss, reason = "milliseconds fit")]
                        let seconds = *ms as f64 / 1_000.0;
                        let data = base64(data.as_bytes());
                        json!({
                            "SequenceNumber": format!("{number:030}"), "PartitionKey": "k", "Data": data,
                            "ApproximateArrivalTimestamp": seconds,
                        })
                    })
                    .collect();
                let next = (from + records.len()).to_string();
                canned::response(200, &json!({"Records": records, "NextShardIterator": next, "MillisBehindLatest": 0}))
            }
            other => panic!("{other}"),
        }
    }
}

fn xml(status: u16, body: &str) -> HttpResponse {
    HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body))
}
