//! An AWS in memory, behind the HTTP interface of the real SDK clients: S3, SNS and SQS as far as the functions use
//! them, with faults on request. What it sees is what would have gone over the wire.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::config::Credentials;
use aws_smithy_runtime_api::{
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::{HttpRequest, HttpResponse},
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, retry::RetryConfig};
use serde_json::{Value, json};

/// The bucket of every test.
pub(crate) const BUCKET: &str = "lake";
/// The queue of every test.
pub(crate) const QUEUE_URL: &str = "http://127.0.0.1:1/123456789012/events";
/// The topic of every test.
pub(crate) const TOPIC_ARN: &str = "arn:aws:sns:eu-west-1:123456789012:landed";

/// What happens to a call instead of what should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The service answers 503 and does nothing.
    Unavailable,
    /// The service does it and the answer is lost.
    AnswerLost,
    /// The service does it and the caller never hears of anything again.
    Hang,
}

/// An object as S3 keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredObject {
    pub(crate) body: Vec<u8>,
    pub(crate) e_tag: String,
    metadata: BTreeMap<String, String>,
}

/// A message as SQS keeps it.
#[derive(Debug, Clone)]
pub(crate) struct QueuedMessage {
    pub(crate) id: String,
    pub(crate) body: String,
    /// Name → the value as SQS writes it (`DataType`, `StringValue`).
    pub(crate) attributes: Value,
    pub(crate) sent_timestamp: i64,
    pub(crate) visible: bool,
}

type Fails = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

#[derive(Default)]
pub(crate) struct State {
    /// Key → object.
    pub(crate) objects: BTreeMap<String, StoredObject>,
    /// Messages published, in order.
    pub(crate) notices: Vec<Value>,
    /// Messages that have not been deleted.
    pub(crate) queue: Vec<QueuedMessage>,
    /// Every call, such as `s3:PutObject events/…`, in order.
    pub(crate) calls: Vec<String>,
    fails: Option<Fails>,
}

/// The services. A clone is another handle on the same ones.
#[derive(Clone, Default)]
pub(crate) struct Aws(Arc<Mutex<State>>);

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aws")
    }
}

impl Aws {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From now on, calls for which `fails` gives a fault have it.
    pub(crate) fn fail(&self, fails: impl FnMut(&str) -> Option<Fault> + Send + 'static) {
        self.state().fails = Some(Box::new(fails));
    }

    /// Everything works again.
    pub(crate) fn recover(&self) {
        self.state().fails = None;
    }

    /// The calls since the last time, and forgets them.
    pub(crate) fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut self.state().calls)
    }

    /// Keys that start with `prefix`.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        self.state().objects.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
    }

    /// An object's bytes.
    pub(crate) fn body(&self, key: &str) -> Vec<u8> {
        self.state().objects[key].body.clone()
    }

    /// Configuration of real clients that talk to these services and do not retry.
    pub(crate) async fn config(&self) -> SdkConfig {
        config_over(self.clone()).await
    }
}

/// Configuration of real clients that talk to `services` and do not retry.
pub(crate) async fn config_over(services: impl HttpClient + 'static) -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedHttpClient::new(services))
        .endpoint_url("http://127.0.0.1:1")
        .region(Region::from_static("eu-west-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .load()
        .await
}

impl HttpClient for Aws {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Aws {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let name = name(&request);
        let (fault, answer) = {
            let mut state = self.state();
            state.calls.push(name.clone());
            let fault = state.fails.as_mut().and_then(|fails| fails(&name));
            let answer = if fault == Some(Fault::Unavailable) { None } else { Some(state.answer(&name, &request)) };
            (fault, answer)
        };
        HttpConnectorFuture::new(async move {
            match (fault, answer) {
                (None, Some(answer)) => Ok(answer),
                (Some(Fault::Hang), _) => std::future::pending().await,
                _ => Ok(respond(503, "", &[])),
            }
        })
    }
}

/// `service:Operation` and, for S3, the key.
fn name(request: &HttpRequest) -> String {
    if let Some(target) = request.headers().get("x-amz-target") {
        return target.replace("AmazonSQS.", "sqs:");
    }
    let path = request.uri().split('?').next().unwrap().trim_start_matches("http://127.0.0.1:1/").to_owned();
    match path.strip_prefix(BUCKET).and_then(|key| key.strip_prefix('/')) {
        Some(key) if request.method() == "PUT" => format!("s3:PutObject {key}"),
        Some(key) if request.method() == "HEAD" => format!("s3:HeadObject {key}"),
        Some(key) => format!("s3:{} {key}", request.method()),
        None => "sns:Publish".to_owned(),
    }
}

/// An answer of a service.
pub(crate) fn respond(status: u16, body: &str, headers: &[(&'static str, String)]) -> HttpResponse {
    let mut response = HttpResponse::new(StatusCode::try_from(status).unwrap(), SdkBody::from(body));
    for (name, value) in headers {
        response.headers_mut().insert(*name, value.clone());
    }
    response
}

impl State {
    fn answer(&mut self, name: &str, request: &HttpRequest) -> HttpResponse {
        let body = request.body().bytes().expect("requests are in memory").to_vec();
        match name.split_once(' ').unwrap_or((name, "")) {
            ("s3:PutObject", key) => self.put(key, request, body),
            ("s3:HeadObject", key) => self.head(key),
            ("sns:Publish", _) => self.publish(&body),
            ("sqs:ReceiveMessage", _) => self.receive(),
            ("sqs:DeleteMessageBatch", _) => self.settle(&body, true),
            ("sqs:ChangeMessageVisibilityBatch", _) => self.settle(&body, false),
            _ => panic!("{name} is not part of this AWS"),
        }
    }

    fn put(&mut self, key: &str, request: &HttpRequest, body: Vec<u8>) -> HttpResponse {
        let headers = request.headers();
        if headers.get("if-none-match") == Some("*") && self.objects.contains_key(key) {
            return respond(412, "<Error><Code>PreconditionFailed</Code></Error>", &[]);
        }
        let e_tag =
            format!("\"{:016x}\"", body.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(*byte)));
        let metadata = headers
            .iter()
            .filter_map(|(name, value)| Some((name.strip_prefix("x-amz-meta-")?.to_owned(), value.to_owned())))
            .collect();
        self.objects.insert(key.to_owned(), StoredObject { body, e_tag: e_tag.clone(), metadata });
        respond(200, "", &[("etag", e_tag)])
    }

    fn head(&self, key: &str) -> HttpResponse {
        let Some(object) = self.objects.get(key) else { return respond(404, "", &[]) };
        let mut response =
            respond(200, "", &[("etag", object.e_tag.clone()), ("content-length", object.body.len().to_string())]);
        for (name, value) in &object.metadata {
            response.headers_mut().insert(format!("x-amz-meta-{name}"), value.clone());
        }
        response
    }

    fn publish(&mut self, body: &[u8]) -> HttpResponse {
        let form: BTreeMap<String, String> = std::str::from_utf8(body)
            .unwrap()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), shared::s3_key::decode(value).unwrap()))
            .collect();
        assert_eq!(form["TopicArn"], TOPIC_ARN);
        self.notices.push(serde_json::from_str(&form["Message"]).unwrap());
        let answer = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
        respond(200, answer, &[])
    }

    fn receive(&mut self) -> HttpResponse {
        let messages: Vec<Value> = self
            .queue
            .iter_mut()
            .filter(|message| message.visible)
            .take(10)
            .map(|message| {
                message.visible = false;
                json!({
                    "MessageId": message.id,
                    "ReceiptHandle": format!("receipt-{}", message.id),
                    "Body": message.body,
                    "Attributes": {"SentTimestamp": message.sent_timestamp.to_string()},
                    "MessageAttributes": message.attributes,
                })
            })
            .collect();
        respond(200, &json!({"Messages": messages}).to_string(), &[])
    }

    fn settle(&mut self, body: &[u8], delete: bool) -> HttpResponse {
        let request: Value = serde_json::from_slice(body).unwrap();
        let mut successful = Vec::new();
        for entry in request["Entries"].as_array().unwrap() {
            let id = entry["ReceiptHandle"].as_str().unwrap().trim_start_matches("receipt-").to_owned();
            if delete {
                self.queue.retain(|message| message.id != id);
            } else {
                assert_eq!(entry["VisibilityTimeout"], 0);
                self.queue.iter_mut().filter(|message| message.id == id).for_each(|message| message.visible = true);
            }
            successful.push(json!({"Id": entry["Id"]}));
        }
        respond(200, &json!({"Successful": successful, "Failed": []}).to_string(), &[])
    }
}
