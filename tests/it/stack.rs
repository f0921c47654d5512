//! The deployed local stack: the template, the emulator's queues and buckets, and the real binary of the function.
//!
//! `make test` deploys it and names its description in `LANDFALL_STACK`. These tests share it, one after the other.

mod documents;
mod roller;
mod template;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::{Duration, Instant},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_s3::config::Credentials;
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry};
use landfall::{Cli, clients::Clients, console::Console, context::Context};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use shared::{quarantine::QuarantineRecord, registrar::table_name};

use crate::events::{self, Sent};

/// What `make up` writes about the stack.
#[derive(Debug, Deserialize)]
pub(crate) struct Stack {
    pub(crate) endpoint_url: String,
    region: String,
    parameters: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
}

impl Stack {
    #[expect(clippy::disallowed_methods, reason = "the stack is named by the environment")]
    pub(crate) fn deployed() -> Self {
        let path = std::env::var("LANDFALL_STACK")
            .expect("LANDFALL_STACK names the description of a deployed stack; `make test` sets it");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}; is the stack up?"));
        serde_json::from_str(&text).unwrap()
    }

    pub(crate) fn output(&self, name: &str) -> &str {
        &self.outputs[name]
    }

    pub(crate) async fn config(&self) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(runtime::aws::https())
            .endpoint_url(&self.endpoint_url)
            .region(Region::new(self.region.clone()))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .load()
            .await
    }
}

/// Time after which the emulator's poller has noticed that its event source mapping was disabled.
const POLLER_NOTICES: Duration = Duration::from_secs(2);

/// The event source mapping of the events queue.
const EVENTS: &str = "ParquetWriterMappingId";
/// The event source mapping of the queue of S3 notifications.
const PUTS: &str = "LoadRegistrarMappingId";
/// The event source mapping of the queue of claimed loads.
const LOADS: &str = "LoadIngesterMappingId";

/// Clients of the stack.
struct Deployed {
    stack: Stack,
    s3: aws_sdk_s3::Client,
    sqs: aws_sdk_sqs::Client,
    sns: aws_sdk_sns::Client,
}

impl Deployed {
    async fn new() -> Self {
        let stack = Stack::deployed();
        let config = stack.config().await;
        Self {
            stack,
            s3: aws_sdk_s3::Client::new(&config),
            sqs: aws_sdk_sqs::Client::new(&config),
            sns: aws_sdk_sns::Client::new(&config),
        }
    }

    fn bucket(&self) -> &str {
        self.stack.output("LakeBucketName")
    }

    /// Enables or disables an event source mapping. The emulator changes a queue from two threads without a lock, so a
    /// test may use the queue only while the mapping is disabled.
    fn set_mapping_enabled(&self, mapping: &str, enabled: bool) {
        let host = self.stack.endpoint_url.trim_start_matches("http://");
        let (mapping, body) = (self.stack.output(mapping), format!("{{\"Enabled\": {enabled}}}"));
        let request = format!(
            "PUT /2015-03-31/event-source-mappings/{mapping} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = TcpStream::connect(host).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }

    /// Sends messages in the pause between two batches.
    async fn send(&self, messages: &[Sent]) {
        self.set_mapping_enabled(EVENTS, false);
        tokio::time::sleep(POLLER_NOTICES).await;
        self.send_now(messages).await;
        self.set_mapping_enabled(EVENTS, true);
    }

    async fn send_now(&self, messages: &[Sent]) {
        let text =
            |value: &str| MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap();
        for messages in messages.chunks(10) {
            let entries = messages.iter().enumerate().map(|(position, message)| {
                SendMessageBatchRequestEntry::builder()
                    .id(position.to_string())
                    .message_body(&message.body)
                    .set_message_attributes(Some(
                        message.attributes.iter().map(|(name, value)| (name.clone(), text(value))).collect(),
                    ))
                    .build()
                    .unwrap()
            });
            let sent = self
                .sqs
                .send_message_batch()
                .queue_url(self.stack.output("EventsQueueUrl"))
                .set_entries(Some(entries.collect()))
                .send()
                .await
                .unwrap();
            assert!(sent.failed().is_empty(), "{:?}", sent.failed());
        }
    }

    async fn objects(&self, prefix: &str) -> Vec<(String, Vec<u8>)> {
        let mut objects = Vec::new();
        let mut pages = self.s3.list_objects_v2().bucket(self.bucket()).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page.unwrap().contents() {
                let key = object.key().unwrap().to_owned();
                let got = self.s3.get_object().bucket(self.bucket()).key(&key).send().await.unwrap();
                objects.push((key, got.body.collect().await.unwrap().to_vec()));
            }
        }
        objects
    }

    /// Event ids that start with `run`, once per row.
    async fn landed(&self, run: &str) -> Vec<String> {
        let mut ids = Vec::new();
        for (_, body) in self.objects("events/").await {
            for rows in ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(body)).unwrap().build().unwrap() {
                let rows = rows.unwrap();
                let column = arrow::array::AsArray::as_string::<i32>(rows.column_by_name("event_id").unwrap());
                ids.extend(column.iter().flatten().filter(|id| id.starts_with(run)).map(str::to_owned));
            }
        }
        ids.sort();
        ids
    }

    /// Quarantined records of the run, by event id.
    async fn quarantined(&self, run: &str) -> BTreeMap<String, QuarantineRecord> {
        let mut records = BTreeMap::new();
        for (_, body) in self.objects("quarantine/").await {
            for line in String::from_utf8(body).unwrap().lines() {
                let record: QuarantineRecord = serde_json::from_str(line).unwrap();
                let attributes: Value = serde_json::from_str(record.attributes.get()).unwrap();
                let id = attributes["event_id"]["stringValue"].as_str().unwrap_or_default().to_owned();
                if id.starts_with(run) {
                    records.insert(id, record);
                }
            }
        }
        records
    }

    async fn attribute(&self, queue: &str, name: QueueAttributeName) -> String {
        let url = self.stack.output(queue);
        let got = self.sqs.get_queue_attributes().queue_url(url).attribute_names(name.clone()).send().await.unwrap();
        got.attributes().unwrap()[&name].clone()
    }

    /// What `landfall` prints, and how it ends.
    async fn landfall(&self, arguments: &[&str]) -> (Value, u8) {
        let cli = Cli::try_parse_args(&[arguments, &["--json"]].concat()).unwrap_or_else(|error| panic!("{error}"));
        let context = Context::new(Clients::of(&self.stack.config().await));
        let out = Printed::default();
        let mut console = Console::of(out.clone(), std::io::stderr());
        let code = landfall::run(&cli, &context, &mut console).await.code();
        let printed = out.0.lock().unwrap().clone();
        (serde_json::from_slice(&printed).unwrap_or_default(), code)
    }

    async fn dead_letter_after(&self, receives: u32) {
        let target = self.stack.output("EventsDeadLetterQueueArn");
        let policy = json!({"deadLetterTargetArn": target, "maxReceiveCount": receives});
        let queue = self.sqs.set_queue_attributes().queue_url(self.stack.output("EventsQueueUrl"));
        queue.attributes(QueueAttributeName::RedrivePolicy, policy.to_string()).send().await.unwrap();
    }

    async fn hide_failed_messages_for(&self, seconds: &str) {
        self.sqs
            .set_queue_attributes()
            .queue_url(self.stack.output("EventsQueueUrl"))
            .attributes(QueueAttributeName::VisibilityTimeout, seconds)
            .send()
            .await
            .unwrap();
    }
}

/// Standard output of a command.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Messages with event ids of their own: `{run}-{n}`.
fn messages(run: &str, count: usize) -> Vec<Sent> {
    (0..count)
        .map(|n| {
            let mut message = match n % 10 {
                0 => events::card(n),
                5 => events::batch(n),
                _ => events::order(n),
            };
            message.attributes[2].1 = format!("{run}-{n:05}");
            message
        })
        .collect()
}

fn event_id(message: &Sent) -> String {
    message.attributes[2].1.clone()
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, within: Duration, attempt: impl Fn() -> F) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt().await {
            return found;
        }
        assert!(start.elapsed() < within, "{what} did not happen within {within:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

const SOON: Duration = Duration::from_secs(90);

#[tokio::test]
async fn what_is_sent_to_the_queue_lands_is_announced_and_is_counted() {
    let deployed = Deployed::new().await;
    // One that is new in each run, because that of an earlier one has its notices.
    let name = format!("landed-subscriber-{}", runtime::clock::unix_ms());
    let subscriber = deployed.sqs.create_queue().queue_name(name).send().await.unwrap();
    let subscriber = subscriber.queue_url().unwrap();
    let arn = deployed.sqs.get_queue_attributes().queue_url(subscriber).attribute_names(QueueAttributeName::QueueArn);
    let arn = arn.send().await.unwrap().attributes().unwrap()[&QueueAttributeName::QueueArn].clone();
    let topic = deployed.stack.output("LandedTopicArn");
    deployed.sns.subscribe().topic_arn(topic).protocol("sqs").endpoint(arn).send().await.unwrap();

    let mut sent = messages("landing", 60);
    sent[7].body = "not base64 at all".into();
    sent[8].attributes.remove(1);
    sent[9].attributes[1].1 = "NeverDeclared".into();
    let event_ids: BTreeSet<String> = messages("landing", 60).iter().map(event_id).collect();
    deployed.send(&sent).await;

    let (landed, quarantined) = eventually("landing", SOON, || async {
        let (landed, quarantined) = (deployed.landed("landing").await, deployed.quarantined("landing").await);
        (landed.len() + quarantined.len() >= 60).then_some((landed, quarantined))
    })
    .await;
    assert_eq!(landed.len(), 58, "each event is one row");
    let reasons: BTreeMap<&str, &str> =
        quarantined.iter().map(|(id, record)| (id.as_str(), record.reason.as_str())).collect();
    assert_eq!(reasons, BTreeMap::from([("landing-00007", "invalid_base64"), ("landing-00008", "missing_type")]));
    assert_eq!(landed.into_iter().chain(quarantined.into_keys()).collect::<BTreeSet<_>>(), event_ids);

    let files: BTreeSet<String> = deployed.objects("events/").await.into_iter().map(|(key, _)| key).collect();
    let announced = eventually("the notice", SOON, || async {
        let received = deployed.sqs.receive_message().queue_url(subscriber).max_number_of_messages(10).send().await;
        let notices: Vec<String> = received.unwrap().messages().iter().map(notice_key).collect();
        notices.into_iter().next()
    })
    .await;
    assert!(files.contains(&announced), "{announced} is not one of {files:?}");

    let (trace, code) = deployed.landfall(&["trace", "landing-00011"]).await;
    let row = &trace["rows"][0];
    let key = row["file"].as_str().unwrap().strip_prefix(&format!("s3://{}/", deployed.bucket())).unwrap();
    assert_eq!((code, files.contains(key), &trace["unknown"]), (0, true, &json!([])), "{trace}");
    let (trace, code) = deployed.landfall(&["trace", "landing-00007"]).await;
    assert_eq!((code, &trace["quarantined"][0]["reason"]), (0, &json!("invalid_base64")), "{trace}");
}

/// The object key in an S3 notification that is wrapped in an SNS envelope.
fn notice_key(message: &aws_sdk_sqs::types::Message) -> String {
    let envelope: Value = serde_json::from_str(message.body().unwrap()).unwrap();
    let notice: Value = serde_json::from_str(envelope["Message"].as_str().unwrap()).unwrap();
    shared::s3_key::decode(notice["Records"][0]["s3"]["object"]["key"].as_str().unwrap()).unwrap()
}

#[tokio::test]
async fn the_queue_hides_a_message_for_six_timeouts_and_gives_up_after_ten_receives() {
    let deployed = Deployed::new().await;
    let hidden: u64 =
        deployed.attribute("EventsQueueUrl", QueueAttributeName::VisibilityTimeout).await.parse().unwrap();
    let number = |name: &str| deployed.stack.parameters[name].parse::<u64>().unwrap();
    assert_eq!(hidden, 6 * number("FunctionTimeoutSeconds") + number("WriterBatchWindowSeconds"));
    let redrive = deployed.attribute("EventsQueueUrl", QueueAttributeName::RedrivePolicy).await;
    let redrive: Value = serde_json::from_str(&redrive).unwrap();
    assert_eq!(redrive["maxReceiveCount"].to_string().trim_matches('"'), "10");
    assert_eq!(redrive["deadLetterTargetArn"], deployed.stack.output("EventsDeadLetterQueueArn"));
}

#[tokio::test]
async fn without_a_bucket_messages_reach_the_dead_letter_queue_and_replay_brings_them_back() {
    let deployed = Deployed::new().await;
    deployed.dead_letter_after(2).await;
    let kept = deployed.objects("").await;
    for (key, _) in &kept {
        deployed.s3.delete_object().bucket(deployed.bucket()).key(key).send().await.unwrap();
    }
    deployed.s3.delete_bucket().bucket(deployed.bucket()).send().await.unwrap();

    let sent = messages("dead", 12);
    deployed.send(&sent).await;
    let dead = eventually("dead-lettering", SOON, || async {
        let dead =
            deployed.attribute("EventsDeadLetterQueueUrl", QueueAttributeName::ApproximateNumberOfMessages).await;
        (dead == "12").then_some(dead)
    })
    .await;
    assert_eq!(dead, "12");
    let (trace, _) = deployed.landfall(&["trace", &event_id(&sent[3])]).await;
    assert_eq!(trace["messages"].as_array().unwrap().len(), 1, "{trace}");

    deployed.s3.create_bucket().bucket(deployed.bucket()).send().await.unwrap();
    deployed.dead_letter_after(10).await;
    deployed.set_mapping_enabled(EVENTS, false);
    tokio::time::sleep(POLLER_NOTICES).await;
    let (from, to) = (deployed.stack.output("EventsDeadLetterQueueUrl"), deployed.stack.output("EventsQueueUrl"));
    assert_eq!(deployed.landfall(&["replay", "dlq", "--from", from, "--to", to]).await.1, 0);
    deployed.set_mapping_enabled(EVENTS, true);
    let landed = eventually("landing after replay", SOON, || async {
        let landed = deployed.landed("dead").await;
        (landed.len() >= 12).then_some(landed)
    })
    .await;
    assert_eq!(landed, sent.iter().map(event_id).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_function_killed_again_and_again_loses_nothing() {
    let deployed = Deployed::new().await;
    let before = deployed.attribute("EventsQueueUrl", QueueAttributeName::VisibilityTimeout).await;
    deployed.hide_failed_messages_for("10").await;
    let sent = messages("killed", 1_500);
    for (part, into_it) in sent.chunks(500).zip([0, 40, 150]) {
        deployed.send(part).await;
        eventually("a function to kill", SOON, || async {
            tokio::time::sleep(Duration::from_millis(into_it)).await;
            (kill_functions(&deployed.stack.endpoint_url) > 0).then_some(())
        })
        .await;
    }
    let landed = eventually("landing after the kills", Duration::from_secs(240), || async {
        let landed: BTreeSet<String> = deployed.landed("killed").await.into_iter().collect();
        (landed.len() >= sent.len()).then_some(landed)
    })
    .await;
    deployed.hide_failed_messages_for(&before).await;
    assert_eq!(landed, sent.iter().map(event_id).collect());
}

#[tokio::test]
async fn objects_of_the_incoming_bucket_become_loads() {
    let deployed = Deployed::new().await;
    assert_eq!(deployed.landfall(&["migrate"]).await.1, 0);
    let file = std::env::temp_dir().join(format!("landfall-tables-{}.toml", std::process::id()));
    // A folder that is new in each run, because the stack may still hold the loads of an earlier one.
    let folder = format!("stack_{}", runtime::clock::unix_ms());
    let dmap_prefix = format!("{folder}/dmap/");
    let prefixes = [(format!("{folder}/ods/S.T/"), "ods"), (dmap_prefix.clone(), "dmap")];
    let tables =
        prefixes.clone().map(|(prefix, kind)| format!("[[table]]\nprefix = \"{prefix}\"\nkind = \"{kind}\"\n"));
    fs::write(&file, tables.concat()).unwrap();
    assert_eq!(deployed.landfall(&["tables", "apply", file.to_str().unwrap()]).await.1, 0);
    assert_eq!(deployed.landfall(&["tables", "plan", "--exit-code", file.to_str().unwrap()]).await.1, 0);
    fs::remove_file(&file).unwrap();

    deployed.set_mapping_enabled(PUTS, false);
    tokio::time::sleep(POLLER_NOTICES).await;
    let bucket = deployed.stack.output("IncomingBucketName");
    let keys = ["dmap/1.csv", "dmap/ä b+c.csv", "ods/S.T/LOAD001.csv.gz", "ods/S.T__ct/1.csv.gz"];
    let keys = keys.map(|key| format!("{folder}/{key}"));
    for key in keys.iter().chain(&["dmap/1.dfm", "elsewhere/1.csv"].map(|key| format!("{folder}/{key}"))) {
        let body = b"a,b\n1,2\n".to_vec();
        deployed.s3.put_object().bucket(bucket).key(key).body(body.into()).send().await.unwrap();
    }
    deployed.set_mapping_enabled(PUTS, true);
    let loads = eventually("registering", SOON, || async {
        let mut loads = BTreeMap::new();
        for (prefix, _) in &prefixes {
            let (list, _) = deployed.landfall(&["loads", "list", "--table", &table_name(prefix)]).await;
            for load in list["loads"].as_array()? {
                loads.insert(load["s3_key"].as_str()?.to_owned(), load["status"].as_str()?.to_owned());
            }
        }
        (loads.len() >= keys.len()).then_some(loads)
    })
    .await;
    assert_eq!(loads, keys.map(|key| (key, "ready".to_owned())).into());
    let all = format!("{folder}/");
    let (compared, code) = deployed.landfall(&["reconcile", "--prefix", &all]).await;
    assert_eq!((compared["missing"].as_u64(), compared["objects"].as_u64(), code), (Some(0), Some(4), 0));

    // The notification of this object is not delivered, because the event source mapping is disabled.
    deployed.set_mapping_enabled(PUTS, false);
    tokio::time::sleep(POLLER_NOTICES).await;
    deployed
        .s3
        .put_object()
        .bucket(bucket)
        .key(format!("{dmap_prefix}2.csv"))
        .body(b"x\n1\n".to_vec().into())
        .send()
        .await
        .unwrap();
    let (compared, code) = deployed.landfall(&["reconcile", "--prefix", &all, "--dry-run"]).await;
    assert_eq!((compared["missing"].as_u64(), code), (Some(1), 3));
    let (compared, code) = deployed.landfall(&["reconcile", "--prefix", &all]).await;
    assert_eq!((compared["missing"].as_u64(), code), (Some(1), 0));
    deployed.set_mapping_enabled(PUTS, true);
    let dmap = table_name(&dmap_prefix);
    let (claimed, _) = deployed.landfall(&["loads", "next", "--table", &dmap, "--limit", "2", "--by", "job"]).await;
    assert_eq!(claimed["loads"].as_array().unwrap().len(), 2);
    let id = claimed["loads"][0]["id"].to_string();
    let set = async |to: &str, load: &str| deployed.landfall(&["loads", "set-status", "--to", to, load]).await.1;
    let lease = format!("{id}@{}", claimed["loads"][0]["lease"]);
    assert_eq!(set("archived", &lease).await, 2, "a status was skipped");
    assert_eq!(set("ready_for_archiving", &id).await, 2, "the lease is not named");
    assert_eq!(deployed.landfall(&["loads", "renew", &lease]).await.1, 0);
    assert_eq!(set("ready_for_archiving", &lease).await, 0);

    // What is left is taken further by the deployed function.
    deployed.set_mapping_enabled(LOADS, false);
    tokio::time::sleep(POLLER_NOTICES).await;
    let tick = events::file("load-ingester-tick.json").to_string();
    let invoke = Clients::of(&deployed.stack.config().await).lambda.invoke();
    let ticked = invoke.function_name(deployed.stack.output("LoadIngesterFunctionName")).payload(Blob::new(tick));
    assert_eq!(ticked.send().await.unwrap().function_error(), None);
    deployed.set_mapping_enabled(LOADS, true);
    eventually("archiving", SOON, || async {
        let (list, _) = deployed.landfall(&["loads", "list", "--table", &dmap, "--status", "archived"]).await;
        (list["loads"].as_array()?.len() == 2).then_some(())
    })
    .await;
    let files: Vec<String> =
        deployed.objects(&format!("springboard/{dmap_prefix}")).await.into_iter().map(|(key, _)| key).collect();
    assert_eq!(files.len(), 1, "of the load that no job had before: {files:?}");
}

/// Where the emulator has what the output `CollectUrl` names on AWS.
fn collect_url(deployed: &Deployed) -> String {
    format!("{}/_aws/execute-api/{}/$default", deployed.stack.endpoint_url, deployed.stack.output("CollectApiId"))
}

#[tokio::test]
async fn hits_that_the_api_acknowledges_are_in_the_lake() {
    let deployed = Deployed::new().await;
    let url = format!("{}/collect", collect_url(&deployed));
    let before = deployed.objects("collect/").await.len();
    let arguments = pump::Arguments::try_parse(&[&url, "--hits", "200", "--seed", "7"]).unwrap();
    let report = pump::run(&arguments, &AtomicBool::new(false), |_| ()).await.unwrap();
    assert!(report.complete && report.accepted == 200, "{report}");
    let events = eventually("writing hits", SOON, || async {
        let objects = deployed.objects("collect/").await;
        let lines = objects.iter().skip(before).flat_map(|(_, body)| body.split(|byte| *byte == b'\n'));
        let events: Vec<Value> =
            lines.filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect();
        (events.len() >= 200).then_some(events)
    })
    .await;
    let ids: BTreeSet<&str> = events.iter().map(|event| event["event_id"].as_str().unwrap()).collect();
    assert_eq!((events.len(), ids.len()), (200, 200));
    assert!(events.iter().all(|event| event["service"]["id"] == "api.collect"));
    assert!(events.iter().any(|event| event["products"][0]["price"].is_number()));
}

/// What `tests/clients/send.mjs` prints.
#[derive(Deserialize)]
struct Wire {
    hits: Vec<WireHit>,
}

/// A hit as a client put it on the wire.
#[derive(Deserialize)]
struct WireHit {
    #[serde(default)]
    client: String,
    method: String,
    path: String,
    content_type: Option<String>,
    status: Option<u16>,
    parameters: BTreeMap<String, Value>,
}

/// The parts of a hit that must be equal on the wire and in the lake (method, path and all parameters), as one string.
fn as_text(method: &str, path: &str, parameters: &BTreeMap<String, Value>) -> String {
    format!("{method} {path} {}", serde_json::to_string(parameters).unwrap())
}

/// What a program of `tests/clients` prints.
fn run_client<T: DeserializeOwned>(program: &str, arguments: &[&str]) -> T {
    let folder = events::root().join("tests/clients");
    assert!(
        folder.join("node_modules").exists(),
        "the clients are not installed: `make test`, or `npm ci` in {folder:?}"
    );
    let ran = Command::new("node").arg(folder.join(program)).args(arguments).output();
    let ran = ran.unwrap_or_else(|error| panic!("node, which runs {program}, did not start: {error}"));
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

/// The events of these hits, when the lake has them: nothing gets there but by way of the stream. Each hit is stored
/// once, with the method, the path and all parameters that were on the wire.
async fn stored_as_sent(deployed: &Deployed, wire: &[WireHit]) -> Vec<Value> {
    let clients: BTreeSet<&str> = wire.iter().map(|hit| hit.parameters["cid"].as_str().unwrap()).collect();
    let events = eventually("writing hits of real clients", SOON, || async {
        let objects = deployed.objects("collect/").await;
        let lines = objects.iter().flat_map(|(_, body)| body.split(|byte| *byte == b'\n'));
        let events = lines.filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap());
        let is_ours = |event: &Value| event["context"]["client_id"].as_str().is_some_and(|id| clients.contains(id));
        let events: Vec<Value> = events.filter(is_ours).collect();
        (events.len() >= wire.len()).then_some(events)
    })
    .await;
    let stored = events.iter().map(|event| {
        let text = |name: &str| event["request"][name].as_str().unwrap();
        let parameters: BTreeMap<String, Value> = serde_json::from_value(event["request"]["body"].clone()).unwrap();
        as_text(text("method"), text("path"), &parameters)
    });
    let sent: BTreeSet<String> = wire.iter().map(|hit| as_text(&hit.method, &hit.path, &hit.parameters)).collect();
    assert_eq!(sent.len(), wire.len(), "no two hits that are sent are the same");
    let kept: BTreeSet<String> = stored.collect();
    let (missing, strange): (Vec<_>, Vec<_>) = (sent.difference(&kept).collect(), kept.difference(&sent).collect());
    assert!(missing.is_empty() && strange.is_empty(), "sent only: {missing:#?}\nstored only: {strange:#?}");
    assert_eq!(events.len(), wire.len(), "each hit is stored once");
    events
}

#[tokio::test]
async fn unmodified_clients_are_stored_as_they_sent() {
    let deployed = Deployed::new().await;
    // Each run leaves objects, so no two runs of a stack have the same name and client ids.
    let run = format!("run-{}", deployed.objects("collect/").await.len());
    let Wire { hits: wire } = run_client("send.mjs", &[&collect_url(&deployed), &run]);

    let mut kinds = BTreeMap::<_, usize>::new();
    for hit in &wire {
        assert_eq!(hit.status, Some(200), "{} {:?} {:?}", hit.client, hit.content_type, hit.parameters);
        *kinds.entry((&*hit.client, &*hit.method, &*hit.path, hit.content_type.as_deref())).or_default() += 1;
    }
    let (form, text) = (Some("application/x-www-form-urlencoded"), Some("text/plain;charset=UTF-8"));
    let mut expected = BTreeMap::from([
        (("curl", "GET", "/collect", None), 1),
        (("curl", "HEAD", "/collect", None), 1),
        (("curl", "POST", "/batch", form), 3),
        (("curl", "POST", "/collect", None), 2),
        (("curl", "POST", "/collect", Some("application/json")), 3),
        (("curl", "POST", "/collect", form), 2),
        (("curl", "POST", "/collect", Some("text/plain")), 2),
        (("curl", "POST", "/collect", text), 1),
        (("measurement-protocol", "POST", "/batch", text), 20),
        (("measurement-protocol", "POST", "/collect", text), 10),
        (("universal-analytics", "POST", "/batch", None), 23),
        (("universal-analytics", "POST", "/collect", None), 9),
    ]);
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("curl is not installed, so it sends nothing in this test");
        expected.retain(|(client, ..), _| *client != "curl");
    }
    assert_eq!(kinds, expected);

    stored_as_sent(&deployed, &wire).await;
}

/// What `tests/clients/browser.mjs` prints.
#[derive(Deserialize)]
struct Browsed {
    hits: Vec<WireHit>,
    visits: Vec<Visit>,
}

/// What a page knew of itself.
#[derive(Deserialize)]
struct Visit {
    visit: String,
    origin: String,
    user_agent: String,
    /// What it read of an answer.
    answer: Value,
    /// `dl`, `dr`, `dt`, `ul` and `sr`.
    #[serde(flatten)]
    parameters: BTreeMap<String, Value>,
}

#[tokio::test]
async fn the_example_page_in_a_browser_is_stored_as_it_sent() {
    let deployed = Deployed::new().await;
    let browsed: Browsed = run_client("browser.mjs", &[&collect_url(&deployed)]);
    let events = stored_as_sent(&deployed, &browsed.hits).await;
    assert!(browsed.hits.iter().all(|hit| hit.status == Some(200)));

    let form = json!("application/x-www-form-urlencoded;charset=UTF-8");
    let add = json!({
        "ec": "cart", "ea": "add", "el": "Bandana", "pa": "add",
        "pr1id": "SKU-1", "pr1nm": "Bandana, \"red\" & 100 %", "pr1pr": "19.99", "pr1qt": "1",
    });
    let add: BTreeMap<String, Value> = serde_json::from_value(add).unwrap();
    let mut clients = Vec::new();
    for (visit, name) in browsed.visits.iter().zip(["fetch", "beacon", "missing", "refusing", "blocked"]) {
        assert_eq!(visit.visit, name);
        let is_image = matches!(name, "missing" | "refusing");
        let (method, content_type) = if is_image { ("GET", Value::Null) } else { ("POST", form.clone()) };
        let mut of_page: Vec<&Value> =
            events.iter().filter(|event| event["request"]["body"]["dl"] == visit.parameters["dl"]).collect();
        of_page.sort_by_key(|event| event["request"]["body"]["t"] == "pageview");
        let [event, view] = of_page[..] else { panic!("{} hits of the page {name}", of_page.len()) };
        for (hit, t, more) in [(view, "pageview", &BTreeMap::new()), (event, "event", &add)] {
            let mut expected = visit.parameters.clone();
            expected
                .extend([("v", "1"), ("tid", "UA-XXXXX-1"), ("t", t)].map(|(name, text)| (name.into(), text.into())));
            expected.extend(["cid", "z", "qt"].map(|name| (name.into(), hit["request"]["body"][name].clone())));
            expected.extend(more.clone());
            assert_eq!(hit["request"]["body"], json!(expected), "{name}");
            let context = &hit["context"];
            assert_eq!(context["user_agent"], *visit.user_agent);
            assert_eq!(context["document_location"], visit.parameters["dl"]);
            assert_eq!(context["client_id"], view["context"]["client_id"]);
            let request = &hit["request"];
            assert_eq!(
                (&request["method"], &request["headers"]["content-type"]),
                (&json!(method), &content_type),
                "{name}"
            );
            assert_eq!(request["headers"]["referer"], format!("{}/", visit.origin));
        }
        clients.push(view["context"]["client_id"].as_str().unwrap());
    }
    let [first, second, third, fourth, blocked] = clients[..] else { panic!("five visits") };
    assert!([second, third, fourth] == [first; 3] && first != blocked, "the client id is kept: {clients:?}");
    // The page has another origin than the API, and may read.
    assert_eq!(browsed.visits[0].answer, json!({"status": 200, "type": "image/gif", "bytes": 43}));
}

/// A function's own logs and the API's, as CloudWatch keeps them.
fn logs(endpoint_url: &str, group: &str) -> String {
    let host = endpoint_url.trim_start_matches("http://");
    let body = json!({"logGroupName": group, "limit": 10_000}).to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Amz-Target: Logs_20140328.FilterLogEvents\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=test/20261120/us-east-1/logs/aws4_request, SignedHeaders=host, \
         Signature=0\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(host).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

#[tokio::test]
async fn status_shows_every_part_and_the_alarms_that_ring() {
    let deployed = Deployed::new().await;
    let cloudwatch = Clients::of(&deployed.stack.config().await).cloudwatch;
    let found = cloudwatch.describe_alarms().alarm_name_prefix("landfall-EventsAreOld-").send().await.unwrap();
    let [alarm] = found.metric_alarms() else { panic!("{found:?}") };
    for (state, rings) in [("ALARM", true), ("OK", false)] {
        let set = cloudwatch.set_alarm_state().alarm_name(alarm.alarm_name().unwrap()).state_value(state.into());
        set.state_reason("a test sets it").send().await.unwrap();
        let (status, code) = deployed.landfall(&["status"]).await;
        let ringing = status["alarms"].as_array().unwrap().iter().any(|alarm| alarm["name"] == "EventsAreOld");
        assert_eq!((ringing, status["complete"].as_bool().unwrap()), (rings, code == 0), "{status:#}");
        assert!(!rings || code == 1);
        assert_eq!(
            status["functions"],
            json!(["parquet-writer", "collect", "kafka-roller", "load-registrar", "load-ingester"])
        );
        let names = |of: &str, name: &str| -> Vec<String> {
            status[of].as_array().unwrap().iter().map(|it| it[name].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names("queues", "name").len(), 8);
        assert_eq!(
            names("sources", "source"),
            [
                "landfall-events",
                "landfall-clicks",
                "landfall-overflow",
                "landfall-kafka",
                "landfall-puts",
                "landfall-loads"
            ]
        );
        assert_eq!(status["unknown"], json!([]));
    }
}

#[tokio::test]
async fn logs_hold_nothing_personal() {
    let deployed = Deployed::new().await;
    let host = deployed.stack.endpoint_url.trim_start_matches("http://");
    let path = format!("/_aws/execute-api/{}/$default", deployed.stack.output("CollectApiId"));
    let personal =
        ["203.0.113.77", "198.51.100.99", "client-4711", "user-4712", "jo@mail.example", "jo%40mail.example", "s3cr3t"];
    let hit = "v=1&tid=UA-1-1&cid=client-4711&uid=user-4712&uip=203.0.113.77&t=pageview\
        &dl=https%3A%2F%2Fa.example%2F%3Fmail%3Djo%40mail.example%26token%3Ds3cr3t";
    for (method, path, body) in [
        ("POST", format!("{path}/collect"), hit.to_owned()),
        ("GET", format!("{path}/collect?{hit}"), String::new()),
        ("POST", format!("{path}/debug/collect"), hit.to_owned()),
        ("POST", format!("{path}/batch"), format!("{hit}\n{}", hit.replace("v=1", "v=%zz"))),
        ("POST", format!("{path}/collect"), hit.replace("t=pageview", "t=nonsense")),
        ("POST", format!("{path}/collect"), format!("{{\"cid\": \"{hit}")),
        ("POST", format!("{path}/client-4711"), hit.to_owned()),
    ] {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Forwarded-For: 198.51.100.99\r\n\
             Cookie: session=s3cr3t\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut connection = TcpStream::connect(host).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).unwrap();
    }
    let group = deployed.stack.output("CollectLogGroupName").to_owned();
    let log = eventually("logging", SOON, || async {
        let log = logs(&deployed.stack.endpoint_url, &group);
        (log.matches("request not stored completely").count() >= 4 && log.contains("hits_stored")).then_some(log)
    })
    .await;
    for personal in personal {
        assert!(!log.contains(personal), "{personal} is in the log");
    }
}

/// Kills the function processes of this emulator, without a warning, and says how many there were.
fn kill_functions(endpoint_url: &str) -> usize {
    let wanted = format!("AWS_ENDPOINT_URL={endpoint_url}");
    let mut killed = 0;
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let read = |name: &str| fs::read(process.path().join(name)).unwrap_or_default();
        let environment = read("environ");
        let is = |variable: &[u8]| environment.split(|byte| *byte == 0).any(|other| other == variable);
        let is_function =
            read("cmdline").split(|byte| *byte == 0).next().is_some_and(|name| name.ends_with(b"bootstrap"));
        if is_function && is(wanted.as_bytes()) {
            let pid = process.file_name().into_string().unwrap();
            killed += usize::from(Command::new("kill").args(["-9", &pid]).status().unwrap().success());
        }
    }
    killed
}
