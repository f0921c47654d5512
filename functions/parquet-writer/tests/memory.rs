//! What messages need in memory, beside the estimate by which a drain decides whether to receive more.

#![expect(clippy::unwrap_used, reason = "a failure is a failed test")]

use aws_config::{BehaviorVersion, Region};
use kit::protos;
use landing::{
    batch::{Batch, quarantine_parts},
    envelope::{Attributes, Message},
};
use parquet_writer::{
    app::{App, Clients},
    config::Config,
    handler,
};
use peak_alloc::PeakAlloc;
use proptest::prelude::*;
use shared::{
    event::Registry,
    quarantine::{base64, to_ndjson},
};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Types `type000` and so on.
fn registry(bodies: &[String]) -> Registry {
    let head = "syntax = \"proto3\"; package shop; import \"landfall/options.proto\";
        enum Long { A_VALUE_WITH_A_LONG_NAME_AS_STYLE_GUIDES_ASK_FOR = 0; }
        message Wide { int64 a = 1; int64 b = 2; string c = 3; string d = 4; double e = 5; }";
    let message = |(number, body): (usize, &String)| {
        format!("message Type{number:03} {{ option (landfall.event) = {{}}; {body} }}")
    };
    let messages: String = bodies.iter().enumerate().map(message).collect();
    let columns: String = (0..bodies.len()).map(|number| format!("type{number:03} shop.Type{number:03}\n")).collect();
    let compiler = protos::compiled([("shop.proto", format!("{head}{messages}"))]).unwrap();
    Registry::new(&compiler.encode_file_descriptor_set(), &columns).unwrap()
}

/// A function with so little memory that its row groups are as small as they get.
fn app(registry: Registry) -> App {
    let config = Config::from_lookup(|name| {
        let value = match name {
            "LAKE_BUCKET" => "lake",
            "NOTIFY" => "s3",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE" => "300",
            _ => return None,
        };
        Some(value.to_owned())
    });
    let aws = aws_config::defaults(BehaviorVersion::latest()).region(Region::from_static("eu-west-1")).no_credentials();
    let aws = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(aws.load());
    App::with_registry(config.unwrap(), Clients::of(&aws), registry).unwrap()
}

/// A drain with so little memory for messages stops here.
const BUDGET_BYTES: usize = 8 << 20;
/// Memory for one row group and one part of the quarantine: see config.rs.
const FIXED_BYTES: usize = (4 * 8 + 3 * 4) << 20;
/// What the function, its libraries and its event need is not measured here.
const SLACK_BYTES: usize = 4 << 20;

/// Fills a batch with messages until the drain would stop, writes it, and returns the peak and the estimate in bytes.
fn peak_and_estimate(app: &App, body: impl Fn(usize) -> (String, Vec<u8>)) -> (usize, usize) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let mut batch = Batch::default();
    batch.reserve(BUDGET_BYTES / 2);
    let mut received = Vec::new();
    while batch.memory_bytes() < BUDGET_BYTES {
        let number = received.len();
        let (type_name, body) = body(number);
        // The handle has the length that those of SQS have.
        received.push((format!("{number:036}"), "A".repeat(400)));
        let message = Message {
            message_id: format!("{number:036}").into(),
            sent_timestamp: Some(format!("{}", 1_795_183_906_000 + number).into()),
            body: body.into(),
            attributes: Attributes {
                source: Some("shop".into()),
                type_name: Some(type_name.into()),
                event_id: Some(format!("{number:036x}").into()),
                all: None,
            },
        };
        batch.push(&message, &app.registry);
    }
    let estimate = batch.memory_bytes() + FIXED_BYTES + SLACK_BYTES + app.tables.encoding_bytes();
    batch.sort(false);
    let poison = std::mem::take(&mut batch.poison);
    let (mut refused, mut files) = (Vec::new(), Vec::new());
    for records in batch.files(false) {
        let file = handler::encode(app, &batch, records).unwrap();
        files.push(file.bytes);
        refused.extend(file.refused);
    }
    for mut part in quarantine_parts(&batch, poison, refused) {
        let lines = to_ndjson(&mut part).unwrap();
        assert!(!lines.is_empty());
    }
    assert!(!received.is_empty());
    (MEMORY.peak_usage() - before, estimate)
}

fn with_type(number: usize, payload: &[u8]) -> (String, Vec<u8>) {
    (format!("Type{number:03}"), base64(payload).into_bytes())
}

/// A field of wire type 2.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
    bytes.extend_from_slice(content);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 0, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_drain_never_needs_more_than_its_estimate(size in prop_oneof![1..200_usize, 200..20_000_usize, 20_000..60_000_usize], seed in any::<u8>()) {
        let noise = |number: usize| -> Vec<u8> {
            // Does not compress.
            let mut state = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(seed);
            (0..size).map(|_| { state ^= state << 13; state ^= state >> 7; state ^= state << 17; state.to_le_bytes()[0] }).collect()
        };
        let narrow = app(registry(&["bytes a = 1; string b = 2; int64 c = 3;".to_owned()]));
        let fifteen: String = (1..=15).map(|number| format!("int64 f{number} = {number};")).collect();
        let wide = app(registry(&vec![format!("bytes a = 20; {fifteen}"); 100]));
        let packed = app(registry(&["repeated uint64 a = 1; repeated Long b = 2; repeated Wide c = 3; repeated bool d = 4;".to_owned()]));
        let kinds: [(&str, (usize, usize)); 6] = [
            ("narrow", peak_and_estimate(&narrow, |number| with_type(0, &field(1, &noise(number))))),
            ("wide", peak_and_estimate(&wide, |number| with_type(number % 100, &[&[0xa2, 1][..], &field(1, &noise(number))[1..]].concat()))),
            ("poison that is no base64", peak_and_estimate(&narrow, |number| ("Type000".to_owned(), [b"!".as_slice(), &noise(number)].concat()))),
            ("poison that is no protobuf", peak_and_estimate(&narrow, |number| with_type(0, &[&field(1, &noise(number)), &[7][..]].concat()))),
            ("packed", peak_and_estimate(&packed, |number| {
                // Numbers, names and flags of one byte each; and empty messages of two bytes.
                let ones = vec![0; size / 4];
                let kind = u8::try_from(number % 4).unwrap() + 1;
                with_type(0, &if kind == 3 { [0x1a, 0].repeat(size / 8 + 1) } else { field(kind, &ones) })
            })),
            ("unregistered", peak_and_estimate(&narrow, |number| ("Other".to_owned(), base64(&noise(number)).into_bytes()))),
        ];
        for (kind, (peak, estimate)) in &kinds {
            println!("{kind}: {size} bytes a message, peak {} KiB, estimate {} KiB", peak >> 10, estimate >> 10);
        }
        for (kind, (peak, estimate)) in kinds {
            prop_assert!(peak <= estimate, "{}: {} bytes a message, peak {}, estimate {}", kind, size, peak, estimate);
        }
    }
}
