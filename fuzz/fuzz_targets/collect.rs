//! Requests to collect: no input may cause a panic, events that exceed the limits of one record, or much more time than others.
//!
//! Bytes that are not an event of API Gateway are used as the body of a request, as text and as binary (which may be gzip).
#![no_main]

use std::time::{Duration, Instant};

use collect::{
    body::{self, MOST_EVENTS, Read, Takes},
    config::Config,
    event::{self, Response},
    request::{self, Request},
    verdict::{HitParsingResult, debug_document, judge},
};
use libfuzzer_sys::fuzz_target;
use shared::quarantine::base64;

/// Bytes of the request line and of all headers. Source: "Quotas for configuring and running an HTTP API", Amazon API
/// Gateway developer guide.
const MOST_HEAD_BYTES: usize = 10_240;
/// Source: `PutRecords`, Amazon Kinesis API reference.
const MOST_RECORD_BYTES: usize = 1 << 20;
/// Far above the few milliseconds of the largest ordinary batch, and far below what a search with a square in it would take.
const MOST_TIME: Duration = Duration::from_millis(100);

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = request::read(bytes) {
        follow(&request);
        return;
    }
    let (text, binary) = (String::from_utf8_lossy(bytes), base64(bytes));
    for (body, is_base64) in [(&*text, false), (&*binary, true)] {
        follow(&Request { body: body.into(), is_base64, ..beacon() });
    }
});

/// The way of a request through the function, without the stream.
fn follow(request: &Request) {
    let headers = request.headers.iter().map(|(name, value)| name.len() + value.len());
    let head = request.method.len() + request.path.len() + request.query.len() + request.hostname.len();
    if headers.sum::<usize>() + head + request.source_ip.len() > MOST_HEAD_BYTES {
        return;
    }
    for takes in [Takes::Hit, Takes::Batch, Takes::Ga4, Takes::Payload { secrets: &[] }] {
        let started = Instant::now();
        let hits = match body::hits(&request.body, request.is_base64, &request.query, takes) {
            Ok(hits) => hits,
            Err(refused) => vec![Read::of_refused(refused)],
        };
        assert!((1..=MOST_EVENTS).contains(&hits.len()));
        let results: Vec<_> = hits.iter().map(|read| HitParsingResult::new(&request.path, read)).collect();
        serde_json::from_str::<serde_json::Value>(&debug_document(&results)).expect("the verdict is JSON");
        for read in &hits {
            let event = event::event(read, &judge(read), request, &Response::new(204, None, None), &config(), None);
            let event = event.expect("an event can be serialised");
            let line = event.line.strip_suffix(b"\n").expect("an event is a line");
            assert!(!line.contains(&b'\n') && line.len() < MOST_RECORD_BYTES);
            serde_json::from_slice::<&serde_json::value::RawValue>(line).expect("an event is JSON");
        }
        assert!(started.elapsed() < MOST_TIME, "{:?}", started.elapsed());
    }
}

fn config() -> Config {
    let variable = |name| match name {
        "STREAM_NAME" => Some("clicks".to_owned()),
        "OPT_OUT" => Some("drop-id".to_owned()),
        _ => None,
    };
    Config::from_lookup(variable).expect("the settings are valid")
}

fn beacon() -> Request<'static> {
    Request {
        method: "POST".into(),
        path: "/collect".into(),
        query: "z=1".into(),
        headers: vec![("dnt".into(), "1".into()), ("x-forwarded-for".into(), "198.51.100.23".into())],
        body: "".into(),
        is_base64: false,
        source_ip: "198.51.100.23".into(),
        hostname: "collect.example".into(),
        time_ms: 1_795_183_906_123,
        id: "".into(),
    }
}
