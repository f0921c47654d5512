//! An AWS in memory, behind the HTTP interface of the real SDK clients: S3, SNS and SQS as far as the functions use
//! them, with fault injection. It records the requests that would have gone over the wire.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
};

use aws_config::SdkConfig;
use kit::{
    http::{self, HttpRequest, HttpResponse, Reply, respond, respond_json},
    s3::{Buckets, Call},
    sqs::{self, Entry},
};
use serde_json::{Value, json};

use crate::roles::Role;

/// The bucket of every test.
pub(crate) const BUCKET: &str = "lake";
/// The queue of every test.
pub(crate) const QUEUE_URL: &str = "http://127.0.0.1:1/123456789012/events";
/// The topic of every test.
pub(crate) const TOPIC_ARN: &str = "arn:aws:sns:eu-west-1:123456789012:landed";

/// A fault that a test injects into a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The service answers 503 and does nothing.
    Unavailable,
    /// The service executes the call, but the caller gets 503.
    AnswerLost,
    /// The service executes the call, but never responds.
    Hang,
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

/// The most that SNS publishes.
const MAX_NOTICE_BYTES: usize = 256 << 10;
/// The name of the topic in the template.
const TOPIC: &str = "LandedTopic";
/// The name of the queue in the template.
const QUEUE: &str = "EventsQueue";

type Fails = Box<dyn FnMut(&str) -> Option<Fault> + Send>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) s3: Buckets,
    /// Messages published, in order.
    pub(crate) notices: Vec<Value>,
    /// Messages that have not been deleted.
    pub(crate) queue: Vec<QueuedMessage>,
    /// Seconds for which the function has hidden messages, by their ids.
    pub(crate) hidden_s: BTreeMap<String, u64>,
    /// Every call, such as `s3:PutObject events/…`, in order.
    pub(crate) calls: Vec<String>,
    fails: Option<Fails>,
    /// The role of the function that calls.
    role: Option<&'static Role>,
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

    /// Services that refuse what a role does not allow.
    pub(crate) fn for_role(role: &'static Role) -> Self {
        Self(Arc::new(Mutex::new(State { role: Some(role), ..State::default() })))
    }

    /// From now on, injects into each call the fault that `fails` returns for it, if any.
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
        let keys = |(_, key): &(String, String)| key.starts_with(prefix).then(|| key.clone());
        self.state().s3.objects.keys().filter_map(keys).collect()
    }

    /// An object's bytes.
    pub(crate) fn body(&self, key: &str) -> Vec<u8> {
        self.state().s3.objects[&(BUCKET.to_owned(), key.to_owned())].body.clone()
    }

    /// Configuration of real clients that talk to these services and do not retry.
    pub(crate) async fn config(&self) -> SdkConfig {
        let services = self.clone();
        http::config(http::client(move |request| services.answer(request))).await
    }

    /// Does what a request asks for, unless it should fail.
    pub(crate) fn answer(&self, request: &HttpRequest) -> Reply {
        let name = name(request);
        let mut state = self.state();
        state.calls.push(name.clone());
        if let Some(role) = state.role {
            match (name.as_str(), Call::of(request)) {
                ("sns:Publish", _) => role.assert_allows("sns:Publish", TOPIC),
                ("sqs:ReceiveMessage", _) => role.assert_allows("sqs:ReceiveMessage", QUEUE),
                ("sqs:DeleteMessageBatch", _) => role.assert_allows("sqs:DeleteMessage", QUEUE),
                ("sqs:ChangeMessageVisibilityBatch", _) => role.assert_allows("sqs:ChangeMessageVisibility", QUEUE),
                (_, Some(call)) if call.operation == "DeleteObjects" => {
                    let list = String::from_utf8_lossy(http::body(request));
                    for key in list.split("<Key>").skip(1) {
                        let key = key.split("</Key>").next().unwrap();
                        role.assert_allows_s3(call.operation, &call.bucket, key);
                    }
                }
                (_, Some(call)) => role.assert_allows_s3(call.operation, &call.bucket, &call.key),
                (other, None) => panic!("nobody has said which permission {other} needs"),
            }
        }
        match state.fails.as_mut().and_then(|fails| fails(&name)) {
            None => state.answer(&name, request).into(),
            Some(Fault::Unavailable) => respond(503, "", &[]).into(),
            Some(Fault::AnswerLost) => {
                state.answer(&name, request);
                respond(503, "", &[]).into()
            }
            Some(Fault::Hang) => {
                state.answer(&name, request);
                Reply::Hang
            }
        }
    }
}

/// `service:Operation` and, for S3, the key.
fn name(request: &HttpRequest) -> String {
    if let Some(target) = http::target(request) {
        return target.replace("AmazonSQS.", "sqs:");
    }
    match Call::of(request) {
        Some(Call { operation, key, bucket, .. }) if bucket == BUCKET => format!("s3:{operation} {key}"),
        _ => "sns:Publish".to_owned(),
    }
}

impl State {
    fn answer(&mut self, name: &str, request: &HttpRequest) -> HttpResponse {
        if let Some(call) = Call::of(request).filter(|_| name.starts_with("s3:")) {
            return self.s3.answer(&call, request);
        }
        let body = http::body(request);
        match name {
            "sns:Publish" => self.publish(body),
            "sqs:ReceiveMessage" => self.receive(body),
            "sqs:DeleteMessageBatch" => self.delete(body),
            "sqs:ChangeMessageVisibilityBatch" => self.hide(body),
            _ => panic!("{name} is not part of this AWS"),
        }
    }

    fn publish(&mut self, body: &[u8]) -> HttpResponse {
        let form: BTreeMap<String, String> = std::str::from_utf8(body)
            .unwrap()
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), shared::s3_key::decode(value).unwrap()))
            .collect();
        assert_eq!(form["TopicArn"], TOPIC_ARN);
        if !(1..=MAX_NOTICE_BYTES).contains(&form["Message"].len()) {
            let error = "<Error><Type>Sender</Type><Code>InvalidParameter</Code><Message>Message</Message></Error>";
            return respond(400, format!("<ErrorResponse>{error}</ErrorResponse>"), &[]);
        }
        self.notices.push(serde_json::from_str(&form["Message"]).unwrap());
        let answer = "<PublishResponse><PublishResult><MessageId>1</MessageId></PublishResult></PublishResponse>";
        respond(200, answer, &[])
    }

    fn receive(&mut self, body: &[u8]) -> HttpResponse {
        let maximum = sqs::maximum_of_receive(&serde_json::from_slice(body).unwrap());
        let messages: Vec<Value> = self
            .queue
            .iter_mut()
            .filter(|message| message.visible)
            .take(maximum)
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
        respond_json(200, &json!({"Messages": messages}))
    }

    fn hide(&mut self, body: &[u8]) -> HttpResponse {
        let answer = sqs::batch(&serde_json::from_slice(body).unwrap(), |entry| {
            let id = entry["ReceiptHandle"].as_str().unwrap().trim_start_matches("receipt-");
            self.hidden_s.insert(id.to_owned(), entry["VisibilityTimeout"].as_u64().unwrap());
            Entry::Done(json!({}))
        });
        respond_json(200, &answer)
    }

    fn delete(&mut self, body: &[u8]) -> HttpResponse {
        let answer = sqs::batch(&serde_json::from_slice(body).unwrap(), |entry| {
            let id = entry["ReceiptHandle"].as_str().unwrap().trim_start_matches("receipt-");
            self.queue.retain(|message| message.id != id);
            Entry::Done(json!({}))
        });
        respond_json(200, &answer)
    }
}
