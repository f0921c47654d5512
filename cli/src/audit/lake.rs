//! Buckets, a stream of one shard and the settings of a function, for the tests of `landfall audit`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

pub(crate) use kit::s3::Object;
use kit::{
    http::{self, HttpRequest, HttpResponse, respond, respond_json},
    kinesis::Shard,
    s3::{Buckets, Call},
};
use rolling::{
    discarded::{Discarded, Replayed},
    event,
    journal::{Interval, Journal},
};
use serde_json::{Value, json};
use shared::{layout::KafkaKey, rolled::RolledFile};

use crate::{canned, context::Context};

#[derive(Debug, Default)]
pub(crate) struct Lake {
    pub(crate) s3: Buckets,
    /// Keys that the next listing does not show yet.
    pub(crate) hidden: BTreeSet<String>,
    /// Keys that S3 fails to give.
    pub(crate) broken: BTreeSet<String>,
    pub(crate) shard: Shard,
    /// The keys of all loads; `None` if the stack has no load-registrar.
    pub(crate) loads: Option<Vec<String>>,
    /// The function's environment.
    pub(crate) variables: BTreeMap<&'static str, &'static str>,
    /// Up to which number the stream drops its records when it is read a second time.
    pub(crate) dropped_after_comparison: u64,
    /// Why kafka-roller lands nothing.
    pub(crate) refusal: Option<&'static str>,
    /// The records that it has landed out of band, by invocation.
    pub(crate) landed: Vec<Vec<u64>>,
    /// The bytes of their events.
    pub(crate) events: Vec<usize>,
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
        self.s3
            .objects
            .insert((bucket.to_owned(), key.to_owned()), Object { metadata, body: body.into(), ..Object::default() });
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

    /// The registrar's answer to a question for the loads of some keys.
    fn loads_of(&self, command: &Value) -> Value {
        assert_eq!(command["command"], "loads_list");
        let asked: Vec<&str> = command["keys"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
        assert!(!asked.is_empty());
        let known = self.loads.as_ref().unwrap().iter().filter(|key| asked.contains(&key.as_str()));
        let load = |key: &String| {
            json!({
                "id": 1201, "table": "cubic__kafka__sample", "kind": "kafka", "changes": false, "status": "archived",
                "status_reason": null, "s3_bucket": "incoming", "s3_key": key, "s3_modified": "2026-11-20T14:11:46Z",
                "s3_size": 1, "s3_etag": "e", "s3_version": null, "snapshot": null, "lease": 2, "attempts": 1,
                "leased_by": null, "leased_until": null, "place": "cubic/kafka/sample/timestamp=20261120T141146Z/",
                "complete_in": null, "places": [],
            })
        };
        json!({"loads": known.map(load).take(1).collect::<Vec<_>>(), "next": null})
    }

    /// Lands an object of records that were given up: says so in the journal. The files are of no interest here.
    fn land(&mut self, request: &Value) -> HttpResponse {
        if let Some(refusal) = self.refusal {
            let header = ("x-amz-function-error", "Unhandled".to_owned());
            return respond(200, json!({"errorMessage": refusal}).to_string(), &[header]);
        }
        let key = request["discarded"].as_str().unwrap();
        let body = self.s3.objects[&("lake".to_owned(), key.to_owned())].body.clone();
        let mut records = Vec::new();
        let discarded = Discarded::of_bytes(&body).unwrap();
        self.events.push(discarded.event.len());
        let read = event::read_json(&discarded.event, |record| {
            assert!(record.arrived_ms > 0 && &*record.partition_key == b"k" && !record.data.is_empty());
            records.push(record.position);
        });
        let shard = read.unwrap().unwrap();
        assert!(shard.stream_arn.ends_with(":stream/cubic-kafka"));
        let interval = Interval { first: records[0], last: records[records.len() - 1] };
        let (key, body) = Journal::Replays.object(&shard.id, &[interval]).unwrap();
        self.put("lake", &key, &[], &body);
        self.landed.push(records.iter().map(|position| position.sequence_number().parse().unwrap()).collect());
        let replayed = Replayed { records: records.len(), out_of_band: records.len(), ..Replayed::default() };
        respond_json(200, &json!({"batchItemFailures": [], "replayed": replayed}))
    }

    fn answer(&mut self, request: &HttpRequest) -> HttpResponse {
        if let Some(target) = http::target(request) {
            if target.ends_with("GetShardIterator") && http::json(request)["ShardIteratorType"] == "AT_SEQUENCE_NUMBER"
            {
                let dropped = self.dropped_after_comparison;
                self.shard.records.retain(|record| record.sequence_number > dropped);
            }
            return self.shard.answer(target, &http::json(request));
        }
        if request.uri().ends_with("/landfall-load-registrar/invocations") {
            self.calls.push("Invoke");
            return respond_json(200, &self.loads_of(&http::json(request)));
        }
        if request.uri().ends_with("/landfall-kafka-roller/invocations") {
            return self.land(&http::json(request));
        }
        if request.uri().contains("/2015-03-31/functions/") {
            let is_there = |name: &str| request.uri().ends_with(&format!("/landfall-{name}/configuration"));
            return match is_there("kafka-roller") || is_there("load-registrar") && self.loads.is_some() {
                true => respond_json(200, &json!({"Environment": {"Variables": self.variables}})),
                false => {
                    let code = ("x-amzn-errortype", "ResourceNotFoundException".to_owned());
                    respond(404, json!({"Message": "Function not found"}).to_string(), &[code])
                }
            };
        }
        let call = Call::of(request).unwrap();
        self.calls.push(call.operation);
        if self.broken.contains(&call.key) {
            return respond(403, "<Error><Code>AccessDenied</Code><Message>no key</Message></Error>", &[]);
        }
        assert!(call.operation != "PutObject" || request.headers().get("if-none-match") == Some("*"), "{}", call.key);
        if call.operation != "ListObjectsV2" {
            return self.s3.answer(&call, request);
        }
        let hidden: Vec<_> = self.s3.objects.extract_if(.., |(_, key), _| self.hidden.contains(key)).collect();
        let response = self.s3.answer(&call, request);
        self.s3.objects.extend(hidden);
        if !String::from_utf8_lossy(response.body().bytes().unwrap()).contains("<IsTruncated>true") {
            self.hidden.clear();
        }
        response
    }
}
