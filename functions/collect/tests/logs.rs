//! The binary itself, with all logging that it can be told to do.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{Arc, Mutex, mpsc::channel},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// What must not be in any log.
const PERSONAL: [&str; 6] = ["client-4711", "user-4712", "203.0.113.77", "198.51.100.99", "jo@mail.example", "s3cr3t"];
const TIMEOUT: Duration = Duration::from_secs(30);
const HIT: &str = "v=1&tid=UA-1-1&cid=client-4711&uid=user-4712&uip=203.0.113.77&t=pageview\
    &dl=https%3A%2F%2Fa.example%2F%3Fmail%3Djo@mail.example%26token%3Ds3cr3t";

fn event(path: &str, body: &str) -> String {
    json!({
        "version": "2.0", "rawPath": path, "rawQueryString": "dt=client-4711&api_secret=s3cr3t", "headers": {"cookie": "a=s3cr3t"},
        "requestContext": {"domainName": "collect.example", "stage": "$default", "timeEpoch": 1_795_183_906_123_i64,
            "http": {"method": "POST", "path": path, "sourceIp": "198.51.100.99"}},
        "body": body, "isBase64Encoded": false,
    })
    .to_string()
}

/// Answers one request, as Lambda's Runtime API or as Kinesis, and returns its request line and body. Like Lambda, it does
/// not answer a request for the next event when there is none.
fn answer(stream: TcpStream, events: &Mutex<VecDeque<String>>) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    reader.read_line(&mut first).ok()?;
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok()?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = String::from_utf8(body).ok()?;
    let (status, headers, answer) = if first.contains("/invocation/next") {
        let Some(event) = events.lock().ok()?.pop_front() else {
            // Wait until the function is killed.
            reader.read_to_end(&mut Vec::new()).ok()?;
            return None;
        };
        let headers = "Lambda-Runtime-Aws-Request-Id: 1\r\nLambda-Runtime-Invoked-Function-Arn: arn\r\n\
            Lambda-Runtime-Deadline-Ms: 9999999999999\r\n";
        ("200 OK", headers, event)
    } else if first.contains("/invocation/") {
        ("202 Accepted", "", String::new())
    } else if events.lock().ok()?.is_empty() {
        // Kinesis quotes the value that it rejects.
        let message = "Value 'client-4711' at 'records.1.member.partitionKey' failed to satisfy constraint";
        ("400 Bad Request", "", json!({"__type": "ValidationException", "message": message}).to_string())
    } else {
        let records = [json!({"SequenceNumber": "1", "ShardId": "shardId-000000000000"})];
        ("200 OK", "", json!({"FailedRecordCount": 0, "Records": records}).to_string())
    };
    let head = format!("HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n", answer.len());
    (&stream).write_all(format!("{head}{answer}").as_bytes()).ok()?;
    Some((first, body))
}

#[test]
fn no_level_of_logging_lets_anything_personal_through() {
    let mut events = VecDeque::from([
        event("/collect", HIT),
        event("/debug/collect", HIT),
        event("/collect", &HIT.replace("v=1", "v=%zz")),
        event("/collect", &json!({"cid": "client-4711", "more": [["user-4712"]]}).to_string()[..30]),
        event("/g/collect", &HIT.replace("v=1", "v=2&en=page_view&gcs=G100")),
        event(
            "/mp/collect",
            &json!({"client_id": "client-4711", "user_id": "user-4712", "events": [{"name": "a"}]}).to_string(),
        ),
        event(
            "/debug/mp/collect",
            &json!({"client_id": "client-4711", "user_properties": "jo@mail.example"}).to_string(),
        ),
        event("/client-4711", HIT),
        // Kinesis rejects the records of the last one.
        event("/collect", HIT),
    ]);
    let count = events.len();
    // An event that is not a request.
    events.push_front("{\"client-4711\": \"s3cr3t\"}".to_owned());

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, calls) = channel();
    thread::spawn(move || {
        let events = Arc::new(Mutex::new(events));
        for stream in listener.incoming().flatten() {
            let (events, sender) = (events.clone(), sender.clone());
            thread::spawn(move || answer(stream, &events).map(|call| sender.send(call)));
        }
    });
    // A file, because a function that logs a lot would block on a pipe that nobody reads.
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("logs.txt");
    let log = File::create(&path).unwrap();
    let mut function = Command::new(env!("CARGO_BIN_EXE_collect"))
        .env_clear()
        .envs([
            ("AWS_LAMBDA_LOG_LEVEL", "TRACE"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("RUST_LOG", "trace"),
            ("AWS_LAMBDA_FUNCTION_NAME", "collect"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
            ("STREAM_NAME", "clicks"),
            ("DELIVERY_MAX_MS", "300"),
        ])
        .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
        .env("AWS_ENDPOINT_URL", format!("http://{address}"))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut answers = Vec::new();
    let mut stored = 0;
    while answers.len() <= count {
        let (first, body) = calls.recv_timeout(TIMEOUT).unwrap();
        stored += usize::from(first.starts_with("POST / "));
        if first.contains("/invocation/1/") {
            answers.push((first.contains("/response"), body));
        }
    }
    function.kill().unwrap();
    function.wait().unwrap();
    let log = fs::read_to_string(path).unwrap();

    // Every case happened and was logged.
    let status = |body: &str| serde_json::from_str::<Value>(body).unwrap()["statusCode"].clone();
    let statuses: Vec<Value> =
        answers.iter().map(|(is_response, body)| if *is_response { status(body) } else { Value::Null }).collect();
    assert_eq!(json!(statuses), json!([null, 200, 200, 400, 400, 204, 400, 200, 404, 503]), "{log}");
    assert!(stored > 2 && log.contains("\"hits_stored\":") && log.contains("records not stored"), "{log}");
    // Only requests that are not stored completely are logged in addition to their metrics.
    assert_eq!(log.matches("request not stored completely").count(), 5, "{log}");
    for personal in PERSONAL {
        assert!(!log.contains(personal), "{personal} is in the log: {log}");
    }
}
