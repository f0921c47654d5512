//! SQS and S3 in memory over HTTP, for tests and benchmarks of the consumer: it refuses what SQS refuses, and fails as it is told.
//!
//! It prints its port. `POST /control` with `{"fail_entries": 0.2, "down": true, "lost": 0.01}` sets the faults; `GET /control`
//! counts; `GET /events` has a line for each event with its id and how often it came; `GET /quarantine` has all records.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test double stops at the first thing that it does not expect, and says where it listens"
)]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use consumer::message::{MOST_BYTES, is_allowed};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// Its bytes and its metadata.
type Object = (Vec<u8>, Vec<(String, String)>);

#[derive(Default)]
struct World {
    events: HashMap<String, usize>,
    messages: usize,
    requests: usize,
    failed_entries: usize,
    /// From the header `sent_us` to here, in microseconds.
    latencies_us: Vec<u64>,
    /// What SQS would refuse, and a client should have known.
    violations: Vec<String>,
    objects: BTreeMap<String, Object>,
    fail_entries: f64,
    lost: f64,
    down: bool,
    seed: u64,
}

struct Answer {
    status: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn json(status: &'static str, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/x-amz-json-1.0".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    fn error(code: &str) -> Self {
        Self::json("400 Bad Request", &json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": code}))
    }

    fn text(body: String) -> Self {
        Self { status: "200 OK", headers: Vec::new(), body: body.into_bytes() }
    }
}

impl World {
    /// Whether something happens that has this chance.
    fn draw(&mut self, chance: f64) -> bool {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let drawn = u32::try_from(self.seed >> 33).unwrap();
        f64::from(drawn) / f64::from(1_u32 << 31) < chance
    }

    fn send_batch(&mut self, request: &Value) -> Answer {
        self.requests += 1;
        let entries = request["Entries"].as_array().unwrap();
        let ids: HashSet<&str> = entries.iter().map(|entry| entry["Id"].as_str().unwrap()).collect();
        let total: usize = entries.iter().map(bytes).sum();
        let refusal = match entries.len() {
            0 => Some("EmptyBatchRequest"),
            11.. => Some("TooManyEntriesInBatchRequest"),
            entries if ids.len() != entries => Some("BatchEntryIdsNotDistinct"),
            _ if total > MOST_BYTES => Some("BatchRequestTooLong"),
            _ => None,
        };
        if let Some(code) = refusal {
            self.violations.push(code.to_owned());
            return Answer::error(code);
        }
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in entries {
            let id = &entry["Id"];
            if let Some(problem) = problem(entry) {
                self.violations.push(problem);
                failed.push(json!({"Id": id, "Code": "InvalidMessageContents", "SenderFault": true}));
            } else if entry["MessageAttributes"]["refuse"].is_object() {
                failed.push(json!({"Id": id, "Code": "InvalidMessageContents", "SenderFault": true}));
            } else if self.draw(self.fail_entries) {
                self.failed_entries += 1;
                failed.push(json!({"Id": id, "Code": "InternalError", "SenderFault": false}));
            } else {
                let event = entry["MessageAttributes"]["event_id"]["StringValue"].as_str().unwrap_or("(none)");
                *self.events.entry(event.to_owned()).or_default() += 1;
                self.messages += 1;
                let sent = entry["MessageAttributes"]["sent_us"]["StringValue"].as_str().and_then(|us| us.parse().ok());
                self.latencies_us.extend(sent.map(|sent: u64| now_us().saturating_sub(sent)));
                successful.push(json!({"Id": id, "MessageId": self.messages.to_string(), "MD5OfMessageBody": ""}));
            }
        }
        Answer::json("200 OK", &json!({"Successful": successful, "Failed": failed}))
    }

    fn control(&mut self, body: &[u8]) {
        let set: Value = serde_json::from_slice(body).unwrap();
        self.fail_entries = set["fail_entries"].as_f64().unwrap_or(0.0);
        self.lost = set["lost"].as_f64().unwrap_or(0.0);
        self.down = set["down"].as_bool().unwrap_or(false);
    }

    fn counts(&mut self) -> Value {
        self.latencies_us.sort_unstable();
        let count = self.latencies_us.len();
        let at = |percent: usize| self.latencies_us.get((count * percent / 100).min(count.saturating_sub(1)));
        json!({
            "latency_us": {"count": count, "p50": at(50), "p99": at(99), "most": self.latencies_us.last()},
            "messages": self.messages, "events": self.events.len(), "requests": self.requests,
            "failed_entries": self.failed_entries, "violations": self.violations,
            "objects": self.objects.len(),
        })
    }

    fn object(&mut self, method: &str, path: &str, headers: &[(String, String)], body: Vec<u8>) -> Answer {
        let key = path.split('?').next().unwrap().to_owned();
        match (method, self.objects.get(&key)) {
            ("PUT", Some(_)) => Answer { status: "412 Precondition Failed", headers: Vec::new(), body: Vec::new() },
            ("PUT", None) => {
                let metadata = headers.iter().filter(|(name, _)| name.starts_with("x-amz-meta-")).cloned();
                self.objects.insert(key, (body, metadata.collect()));
                Answer { status: "200 OK", headers: vec![("etag".into(), "\"1\"".into())], body: Vec::new() }
            }
            ("GET" | "HEAD", Some((stored, metadata))) => {
                let body = if method == "GET" { stored.clone() } else { Vec::new() };
                Answer { status: "200 OK", headers: metadata.clone(), body }
            }
            _ => Answer { status: "404 Not Found", headers: Vec::new(), body: Vec::new() },
        }
    }
}

fn now_us() -> u64 {
    u64::try_from(runtime::clock::since_epoch().as_micros()).unwrap()
}

fn bytes(entry: &Value) -> usize {
    let text = |value: &Value| value.as_str().map_or(0, str::len);
    let attribute = |(name, value): (&String, &Value)| {
        name.len() + text(&value["DataType"]) + text(&value["StringValue"]) + text(&value["BinaryValue"]) / 4 * 3
    };
    let attributes = entry["MessageAttributes"].as_object().into_iter().flatten().map(attribute).sum::<usize>();
    text(&entry["MessageBody"]) + attributes
}

/// Why SQS would refuse an entry.
fn problem(entry: &Value) -> Option<String> {
    let body = entry["MessageBody"].as_str().unwrap();
    if body.is_empty() || !body.chars().all(is_allowed) {
        return Some("the body is empty or has forbidden characters".to_owned());
    }
    let attributes = entry["MessageAttributes"].as_object();
    if attributes.is_some_and(|attributes| attributes.len() > 10) {
        return Some("more than ten attributes".to_owned());
    }
    attributes.into_iter().flatten().find_map(|(name, value)| {
        let is_allowed_in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let lower = name.to_ascii_lowercase();
        let bad_name = name.is_empty()
            || name.len() > 256
            || !name.bytes().all(is_allowed_in_name)
            || lower.starts_with("aws.")
            || lower.starts_with("amazon.")
            || name.starts_with('.')
            || name.ends_with('.')
            || name.contains("..");
        let text = value["StringValue"].as_str().or(value["BinaryValue"].as_str()).unwrap_or_default();
        let bad_value = text.is_empty() || !text.chars().all(is_allowed);
        (bad_name || bad_value).then(|| format!("attribute {name:?}"))
    })
}

async fn serve(stream: TcpStream, world: Arc<Mutex<World>>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if reader.read_until(b'\n', &mut head).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.split("\r\n");
        let first: Vec<&str> = lines.next().unwrap().split(' ').collect();
        let (method, path) = (first[0], first[1]);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let header = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        if header("expect").is_some() {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).await?;
        let answer = {
            let mut world = world.lock().unwrap();
            match (method, path) {
                ("POST", "/control") => {
                    world.control(&body);
                    Answer::text(String::new())
                }
                ("GET", "/control") => Answer::text(world.counts().to_string()),
                ("GET", "/events") => {
                    Answer::text(world.events.iter().map(|(event, count)| format!("{event}\t{count}\n")).collect())
                }
                ("GET", "/quarantine") => {
                    let all: Vec<u8> = world.objects.values().flat_map(|(body, _)| body.clone()).collect();
                    Answer { status: "200 OK", headers: Vec::new(), body: all }
                }
                _ if world.down => {
                    Answer::json("503 Service Unavailable", &json!({"__type": "ServiceUnavailable", "message": "down"}))
                }
                ("POST", _) if header("x-amz-target") == Some("AmazonSQS.SendMessageBatch") => {
                    let answer = world.send_batch(&serde_json::from_slice(&body).unwrap());
                    let lost = world.lost;
                    if world.draw(lost) {
                        // It was carried out, and nobody hears of it.
                        return Ok(());
                    }
                    answer
                }
                _ => world.object(method, path, &headers, body),
            }
        };
        let mut out = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", answer.status, answer.body.len()).into_bytes();
        for (name, value) in &answer.headers {
            out.extend(format!("{name}: {value}\r\n").bytes());
        }
        out.extend(b"\r\n");
        out.extend(answer.body);
        writer.write_all(&out).await?;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let world = Arc::new(Mutex::new(World { seed: 1, ..World::default() }));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        drop(tokio::spawn(serve(stream, world.clone())));
    }
}
