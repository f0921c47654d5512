//! Lambda events → the puts that they announce, records that announce none, and poison.
//!
//! | comes by | the S3 event is |
//! |---|---|
//! | S3 → Lambda | the event |
//! | S3 → SQS, S3 → SNS → SQS with raw delivery | the body of a message |
//! | S3 → SNS → SQS | the text `Message` in the body of a message |
//! | S3 → SNS → Lambda | the text `Sns.Message` of a record |
//! | EventBridge → Lambda, → SQS, → SNS → … | `detail`, with keys that are not encoded |
//!
//! This file splits an event into notifications. Below it, `notice` unwraps a notification, `record` reads one record of
//! it, `poison` holds what the quarantine keeps of an unreadable one, and `json` reads objects member by member, so that a
//! record can be wrong in any way and its neighbours are still read.
//!
//! Sources: "Event message structure" and "EventBridge event message structure", Amazon S3 user guide; "Parsing message
//! formats", Amazon SNS developer guide.

mod json;
mod notice;
mod poison;
mod record;
#[cfg(test)]
mod samples;

use self::json::{Members, describe, is_empty_array};
pub use self::{
    notice::{Ignored, Notice},
    poison::Source,
    record::Put,
};

/// What invoked the function.
#[derive(Debug, Clone)]
pub enum Event {
    /// Notifications, one for each SQS message, or a single one that came directly.
    Notices(Vec<Notice>),
    /// A command: a JSON object with a member `command`. Its other members are not read here.
    Command,
}

/// The event cannot be read at all; nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error(
        "the event is {found}; known are S3 events, SQS batches of them, SNS notifications, EventBridge events of S3, \
         and objects with a member \"command\""
    )]
    Unknown { found: String },
    /// A message without an id cannot be reported as failed.
    #[error("record {position} of the SQS event has no messageId: it is {found}")]
    MessageId { position: usize, found: String },
}

/// Reads an event.
pub fn read(event: &[u8]) -> Result<Event, EventError> {
    let text =
        std::str::from_utf8(event).map_err(|error| EventError::Unknown { found: format!("no text: {error}") })?;
    let unknown = || EventError::Unknown { found: describe_event(text) };
    let object = Members::of(text).ok_or_else(unknown)?;
    if object.raw("command").is_some() {
        return Ok(Event::Command);
    }
    let records = object.array("Records").unwrap_or_default();
    if records.iter().any(|record| Members::of(record.get()).is_some_and(|record| is_sqs(&record))) {
        let messages = records.iter().enumerate().map(|(position, record)| {
            let without_id = || EventError::MessageId { position, found: describe(record.get()) };
            Notice::of_message(record.get()).ok_or_else(without_id)
        });
        return messages.collect::<Result<_, _>>().map(Event::Notices);
    }
    if object.raw("Records").is_some_and(|records| is_empty_array(records.get())) {
        return Ok(Event::Notices(Vec::new()));
    }
    let notice = Notice::of_event(&object, text).ok_or_else(unknown)?;
    Ok(Event::Notices(vec![notice]))
}

fn is_sqs(record: &Members<'_>) -> bool {
    record.is("eventSource", "aws:sqs") || record.raw("messageId").is_some()
}

/// What an event is, for an error: the names of its members, and of those of its first record. Never a value.
fn describe_event(event: &str) -> String {
    let found = describe(event);
    let records = Members::of(event).and_then(|event| event.array("Records"));
    match records.as_ref().and_then(|records| records.first()) {
        Some(first) => format!("{found}, whose first record is {}", describe(first.get())),
        None => found,
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};
    use serde_json::{Value, json};

    use super::{
        samples::{
            BUCKET, CHANGES, DMAP, FILES, KAFKA, LOAD, bridge, file, key, keys, notice, notices, records, s3_event,
            s3_record, sns, sns_direct, sqs, sqs_message, with,
        },
        *,
    };

    #[test]
    fn an_event_of_s3_is_read() {
        let notices = notices(&file("s3"));
        assert_eq!(keys(&notices), [LOAD, CHANGES[0]]);
        let [notice] = &notices[..] else { panic!("{notices:?}") };
        assert_eq!((&notice.message_id, notice.ignored, notice.poison.len()), (&None, Ignored::default(), 0));
        let [load, changes] = &notice.puts[..] else { panic!("{notice:?}") };
        assert_eq!(load.bucket, BUCKET);
        assert_eq!(load.e_tag.as_deref(), Some("1ff79a109a5ea6687359fed8692ce354-6"));
        assert_eq!(load.version, None);
        assert_eq!(changes.version.as_deref(), Some("IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"));
    }

    #[test]
    fn a_batch_of_sqs_is_a_notice_a_message() {
        let notices = notices(&file("sqs"));
        assert_eq!(
            keys(&notices),
            [
                LOAD,
                CHANGES[0],
                CHANGES[1],
                DMAP,
                KAFKA,
                "cubic/dmap/agg_sample/20261120 (1).csv",
                "cubic/ods_qlik/EDW.SAMPLE/dt=2026-11-20/LOAD002+é.csv.gz",
            ]
        );
        let event: Value = serde_json::from_str(&file("sqs")).unwrap();
        let ids = event["Records"].as_array().unwrap().iter().map(|record| record["messageId"].as_str());
        assert!(ids.eq(notices.iter().map(|notice| notice.message_id.as_deref())));
    }

    #[test]
    fn sns_notifications_are_read_with_and_without_raw_delivery() {
        assert_eq!(keys(&notices(&file("sns"))), CHANGES);
        let direct = notice(&sns_direct(&s3_event(DMAP)));
        assert_eq!((keys(std::slice::from_ref(&direct)), direct.message_id.as_deref()), (vec![DMAP], None));
    }

    #[test]
    fn keys_of_event_bridge_are_not_decoded() {
        let event: Value = serde_json::from_str(&file("eventbridge")).unwrap();
        for (event, id) in [(event.clone(), None), (sqs(&event), Some("c9a8f2b3"))] {
            let notice = notice(&event);
            assert_eq!(notice.message_id.as_deref(), id);
            let [put] = &notice.puts[..] else { panic!("{notice:?}") };
            assert_eq!((put.bucket.as_str(), put.key.as_str()), (BUCKET, "cubic/dmap/agg_sample/20261120 (1)+%20.csv"));
            assert_eq!(put.version.as_deref(), Some("4ZtIPnZzVhOBD2U4B5jhBGCnRLvAEWC4"));
            assert!(put.e_tag.is_some());
        }
    }

    #[test]
    fn keys_are_data() {
        let notices = notices(&file("odd-keys"));
        let keys = keys(&notices);
        assert_eq!(keys[0], "cubic/kafka/sample'); drop table cubic_loads; --/x.json");
        assert_eq!(keys[1], "cubic/dmap/../../etc/passwd.csv");
        assert_eq!(keys[2], "cubic/kafka/sample/nul\0nul.json");
        assert_eq!(keys[3].len(), 1_024);
        assert_eq!(keys[4], "cubic/kafka/sample/\"quoted\" \\ line\nbreak $1 %s 100%.json");
        assert_eq!(keys[5], "cubic/kafka/sample/日本 🂡/e\u{301}.json");
        assert_eq!(keys.len(), 6);
    }

    #[test]
    fn commands_are_left_to_the_caller() {
        for name in ["migrate", "tables-list", "reconcile"] {
            assert!(matches!(read(file(name).as_bytes()), Ok(Event::Command)), "{name}");
        }
    }

    #[test]
    fn an_unknown_event_is_described_by_its_members() {
        for (event, found) in [
            ("", "no JSON (EOF while parsing a value at line 1 column 0)"),
            ("[1, 2]", "an array"),
            ("{}", "an object without members"),
            ("{\"b\": 1, \"a\": \"secret\"}", "an object with the members \"a\", \"b\""),
            (
                "{\"Records\": [{\"eventSource\": \"aws:kinesis\", \"kinesis\": {}}]}",
                "an object with the members \"Records\", whose first record is \
                 an object with the members \"eventSource\", \"kinesis\"",
            ),
            ("{\"Records\": 5}", "an object with the members \"Records\""),
        ] {
            assert_eq!(read(event.as_bytes()).unwrap_err(), EventError::Unknown { found: found.to_owned() });
        }
        let error = read(b"{\"x\": 1}").unwrap_err().to_string();
        assert!(error.contains("known are S3 events, SQS batches"), "{error}");
        let many: String = (0..5_000).map(|n| format!("\"{n:09}{}\":0,", "x".repeat(200))).collect();
        let error = read(format!("{{{many}\"z\":0}}").as_bytes()).unwrap_err().to_string();
        assert!(error.contains("and 4989 more") && error.len() < 1_000, "{error}");
        let text = read(b"\xff").unwrap_err().to_string();
        assert!(text.contains("no text"), "{text}");
    }

    #[test]
    fn a_message_without_an_id_fails_the_event() {
        for id in [Value::Null, json!(""), json!(7)] {
            let mut event = json!({"Records": [sqs_message("{}"), sqs_message("{}")]});
            event["Records"][1]["messageId"] = id;
            let error = read(event.to_string().as_bytes()).unwrap_err();
            assert!(matches!(error, EventError::MessageId { position: 1, .. }), "{error}");
            assert!(error.to_string().contains("\"body\", \"eventSource\""), "{error}");
        }
    }

    #[test]
    fn no_records_are_no_notices() {
        assert!(notices("{\"Records\": []}").is_empty());
    }

    fn event() -> impl Strategy<Value = String> {
        let made = prop::collection::vec((key(), 0..9_usize), 0..4).prop_map(|keys| {
            let bodies = keys.iter().map(|(key, shape)| match shape {
                0 => s3_event(key),
                1 => sns(&s3_event(key)),
                2 => bridge(key),
                3 => sns(&bridge(key)),
                4 => json!({"Records": [s3_record(key), with("/eventVersion", json!("3.0"))]}),
                5 => json!({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": key}),
                6 => json!({"Records": [with("/eventName", json!("ObjectRemoved:Delete"))]}),
                7 => Value::from(key.as_str()),
                _ => s3_record(key),
            });
            json!({"Records": bodies.map(|body| sqs_message(&body.to_string())).collect::<Vec<_>>()}).to_string()
        });
        prop_oneof![3 => made, 1 => prop::sample::select(FILES.to_vec()).prop_map(file)]
    }

    /// Nothing is dropped: every record of the event is announced, ignored or poison.
    fn assert_complete(event: &[u8]) {
        let Ok(Event::Notices(notices)) = read(event) else { return };
        assert!(notices.iter().all(|notice| records(notice) > 0), "{notices:?}");
        // A number may be too large for a value where it is only passed over.
        let Ok(value) = serde_json::from_slice::<Value>(event) else { return };
        let Some(values) = value["Records"].as_array() else { return };
        if notices.iter().any(|notice| notice.message_id.is_some()) {
            let ids = values.iter().map(|record| record["messageId"].as_str());
            assert!(ids.eq(notices.iter().map(|notice| notice.message_id.as_deref())));
        } else {
            assert!(notices.iter().map(records).sum::<usize>() >= values.len());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            assert_complete(&bytes);
        }

        #[test]
        fn a_truncated_event_is_refused(event in event(), end in any::<Index>()) {
            let event = event.trim_end().as_bytes();
            assert_complete(event);
            prop_assert!(read(&event[..end.index(event.len())]).is_err());
        }

        #[test]
        fn nothing_is_dropped_from_a_damaged_event(
            event in event(),
            damage in prop::collection::vec((any::<Index>(), prop_oneof![any::<u8>(), 0x20..0x7f_u8]), 1..6),
        ) {
            let mut event = event.into_bytes();
            for (at, byte) in damage {
                *at.get_mut(&mut event) = byte;
            }
            assert_complete(&event);
        }

        #[test]
        fn nothing_is_dropped_when_values_are_others(
            event in event(),
            from in any::<Index>(),
            to in prop::sample::select(vec!["null", "0", "-1.5", "\"\"", "[]", "{}", "[[{}]]", "\"x\"", "true"]),
        ) {
            // A value of the event, or of an event in one of its bodies, is replaced by another.
            let mut value: Value = serde_json::from_str(&event).unwrap();
            let bodies = value["Records"].as_array().map_or(0, Vec::len);
            let at = from.index(2 * bodies + 1);
            if at > bodies && let Some(body) = value["Records"][at - bodies - 1]["body"].as_str() {
                let mut inner: Value = serde_json::from_str(body).unwrap_or_default();
                replace(&mut inner, from.index(40), &serde_json::from_str(to).unwrap());
                value["Records"][at - bodies - 1]["body"] = inner.to_string().into();
            } else {
                replace(&mut value, from.index(200), &serde_json::from_str(to).unwrap());
            }
            assert_complete(value.to_string().as_bytes());
        }
    }

    /// Replaces the `n`th value, counted from the leaves.
    fn replace(value: &mut Value, n: usize, by: &Value) -> Option<usize> {
        let children: Vec<&mut Value> = match value {
            Value::Array(values) => values.iter_mut().collect(),
            Value::Object(members) => members.values_mut().collect(),
            _ => Vec::new(),
        };
        let mut left = n;
        for child in children {
            left = replace(child, left, by)?;
        }
        if left > 0 {
            return Some(left - 1);
        }
        *value = by.clone();
        None
    }
}
