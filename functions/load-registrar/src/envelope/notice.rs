//! One notification, unwrapped: what is around its S3 records is taken off, and each record is read alone.

use std::{ops::AddAssign, sync::Arc};

use serde_json::value::RawValue;
use shared::quarantine::QuarantineRecord;

use super::{
    json::{Members, describe},
    poison::{Sender, Source},
    record::{Announcement, Put, event_bridge, s3_record},
};
use crate::error::RecordError;

/// Nested SNS notifications that are unwrapped. S3 → SNS makes one, and forwarding to a second topic another.
const MAX_WRAPPINGS: usize = 2;

/// One notification: an SQS message, or an S3, SNS or EventBridge event that came directly.
///
/// It holds at least one put, ignored record or poison.
#[derive(Debug, Clone, Default)]
pub struct Notice {
    /// The SQS message's id. `None` if it came directly: then only failing the whole invocation brings it again.
    pub message_id: Option<String>,
    /// Objects that were put.
    pub puts: Vec<Put>,
    /// Number of records that announce nothing to register.
    pub ignored: Ignored,
    /// Records that can never be registered, as the quarantine keeps them.
    pub poison: Vec<QuarantineRecord>,
}

/// Number of records that announce nothing to register.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ignored {
    /// `s3:TestEvent`, which S3 sends when notifications are configured.
    pub test_events: usize,
    /// Objects that were removed.
    pub deletions: usize,
    /// Everything else that creates no object: lifecycle, restore, tagging, access control, replication.
    pub others: usize,
}

impl AddAssign for Ignored {
    fn add_assign(&mut self, other: Self) {
        self.test_events += other.test_events;
        self.deletions += other.deletions;
        self.others += other.others;
    }
}

impl Ignored {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> usize {
        let Self { test_events, deletions, others } = self;
        *test_events + *deletions + *others
    }
}

impl Notice {
    /// Reads one record of an SQS event. `None` if it has no message id.
    pub(super) fn of_message(record: &str) -> Option<Self> {
        let message = Members::of(record)?;
        let id = message.text("messageId").filter(|id| !id.is_empty())?;
        let sender = Arc::new(Sender::of_message(id.clone(), &message));
        let mut notice = Self { message_id: Some(id), ..Self::default() };
        let (read, body) = match message.text("body") {
            Some(body) => (notice.read(Some(&sender), &body, 0), body),
            None => {
                let body = message.raw("body").map_or("", RawValue::get);
                (Err(RecordError::InvalidRecord("body")), body.to_owned())
            }
        };
        if let Err(error) = read {
            notice.poison.push(Source { sender, body }.into_poison(error));
        }
        Some(notice)
    }

    /// Reads an event that came directly. `None` if it has no known shape.
    pub(super) fn of_event(event: &Members<'_>, text: &str) -> Option<Self> {
        let mut notice = Self::default();
        match notice.read(None, text, 0) {
            Ok(()) => {}
            Err(RecordError::UnknownEnvelope { .. }) => return None,
            Err(error) => notice.poison.push(Source::of_record(0, Some(event), text).into_poison(error)),
        }
        Some(notice)
    }

    /// Reads a body. An error means that nothing was taken from it and all of it is poison.
    ///
    /// `sender`: the message or notification that holds the body. Without one, each record gives its own id and time.
    fn read(&mut self, sender: Option<&Arc<Sender>>, body: &str, wrappings: usize) -> Result<(), RecordError> {
        let unknown = || RecordError::UnknownEnvelope { found: describe(body) };
        let object = Members::of(body).ok_or_else(unknown)?;
        let records = object.array("Records").unwrap_or_default();
        if records.iter().filter_map(|record| Members::of(record.get())).any(|record| is_s3(&record) || is_sns(&record))
        {
            for (position, record) in records.iter().enumerate() {
                self.read_record(sender, position, record.get(), wrappings);
            }
            return Ok(());
        }
        if object.is("Event", "s3:TestEvent") {
            self.ignored.test_events += 1;
            return Ok(());
        }
        if object.is("Type", "Notification")
            && let Some(message) = object.text("Message")
        {
            return self.read_notification(sender, &message, wrappings);
        }
        let announcement = if object.is("source", "aws.s3") {
            let kind = object.text("detail-type").ok_or_else(unknown)?;
            event_bridge(&kind, &object, unknown)?
        } else if is_s3(&object) {
            // A record without its envelope: that is how the quarantine keeps it, and a replay sends it.
            s3_record(&object)?
        } else {
            return Err(unknown());
        };
        let source = match sender {
            Some(sender) => Source { sender: Arc::clone(sender), body: body.to_owned() },
            None => Source::of_record(0, Some(&object), body),
        };
        self.push(announcement, source);
        Ok(())
    }

    /// Reads the body of an SNS notification.
    fn read_notification(
        &mut self,
        sender: Option<&Arc<Sender>>,
        message: &str,
        wrappings: usize,
    ) -> Result<(), RecordError> {
        if wrappings == MAX_WRAPPINGS {
            return Err(RecordError::NestedTooDeep { most: MAX_WRAPPINGS });
        }
        self.read(sender, message, wrappings + 1)
    }

    /// Reads one of several records of an S3 event, or of the event with which SNS invokes a function.
    fn read_record(&mut self, sender: Option<&Arc<Sender>>, position: usize, record: &str, wrappings: usize) {
        let object = Members::of(record);
        let sns = object.as_ref().filter(|object| is_sns(object)).and_then(|object| object.object("Sns"));
        if let Some(sns) = sns
            && let Some(message) = sns.text("Message")
        {
            let sender = sender.map_or_else(|| Arc::new(Sender::of_notification(position, &sns)), Arc::clone);
            if let Err(error) = self.read_notification(Some(&sender), &message, wrappings) {
                self.poison.push(Source { sender, body: message }.into_poison(error));
            }
            return;
        }
        let source = match sender {
            Some(sender) => Source { sender: Arc::clone(sender), body: record.to_owned() },
            None => Source::of_record(position, object.as_ref(), record),
        };
        let unknown = || RecordError::UnknownEnvelope { found: describe(record) };
        match object.filter(is_s3).ok_or_else(unknown).and_then(|object| s3_record(&object)) {
            Ok(announcement) => self.push(announcement, source),
            Err(error) => self.poison.push(source.into_poison(error)),
        }
    }

    fn push(&mut self, announcement: Announcement, source: Source) {
        match announcement {
            Announcement::Put(put) => self.puts.push(Put { source, ..put }),
            Announcement::TestEvent => self.ignored.test_events += 1,
            Announcement::Deletion => self.ignored.deletions += 1,
            Announcement::Other => self.ignored.others += 1,
        }
    }
}

fn is_s3(record: &Members<'_>) -> bool {
    record.is("eventSource", "aws:s3") || record.raw("s3").is_some()
}

fn is_sns(record: &Members<'_>) -> bool {
    record.is("EventSource", "aws:sns") || record.raw("Sns").is_some()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{
        super::{
            read,
            samples::{
                BUCKET, CHANGES, DMAP, KAFKA, LOAD, bridge, file, key, keys, notice, notices, reasons, records,
                s3_event, s3_record, sns, sns_direct, sqs, sqs_message, with,
            },
        },
        *,
    };

    #[test]
    fn test_events_are_counted_in_any_wrapping() {
        let event: Value = serde_json::from_str(&file("test-event")).unwrap();
        let body: Value = serde_json::from_str(event["Records"][0]["body"].as_str().unwrap()).unwrap();
        let in_records = json!({"Records": [with("/eventName", json!("s3:TestEvent"))]});
        for event in [event, body.clone(), sqs(&sns(&body)), sns_direct(&body), in_records] {
            let notice = notice(&event);
            assert_eq!(notice.ignored, Ignored { test_events: 1, ..Ignored::default() });
            assert_eq!(records(&notice), 1, "{event}");
        }
    }

    #[test]
    fn one_poison_body_does_not_hurt_its_neighbours() {
        let text = file("one-poison");
        let notices = notices(&text);
        assert_eq!(keys(&notices), [CHANGES[0], KAFKA]);
        assert_eq!(notices.iter().map(records).collect::<Vec<_>>(), [1, 1, 1]);
        let record = &notices[1].poison[0];
        let event: Value = serde_json::from_str(&text).unwrap();
        let message = &event["Records"][1];
        assert_eq!((record.function.as_str(), record.reason.as_str()), ("load-registrar", "unknown_envelope"));
        assert_eq!(Some(record.id.as_str()), message["messageId"].as_str());
        assert_eq!(record.sent_at.as_deref(), Some("2026-11-20T14:11:47.041Z"));
        assert_eq!(record.attributes.get(), "{}");
        assert_eq!(record.body().unwrap(), message["body"].as_str().unwrap().as_bytes());
    }

    #[test]
    fn a_bad_record_does_not_hurt_its_neighbours_in_the_same_message() {
        let bad = [
            (json!(5), "unknown_envelope"),
            (json!({"eventSource": "aws:dynamodb"}), "unknown_envelope"),
            (with("/eventVersion", json!("3.0")), "unsupported_version"),
            (with("/eventVersion", json!("2")), "unsupported_version"),
            (with("/eventVersion", json!(2.1)), "unsupported_version"),
            (with("/eventVersion", json!(null)), "unsupported_version"),
            (with("/eventName", json!(null)), "invalid_record"),
            (with("/eventName", json!("")), "invalid_record"),
            (with("/s3", json!(null)), "invalid_record"),
            (with("/s3", json!("s3")), "invalid_record"),
            (with("/s3/bucket", json!([])), "invalid_record"),
            (with("/s3/bucket/name", json!("")), "invalid_record"),
            (with("/s3/object/key", json!("")), "invalid_record"),
            (with("/s3/object/key", json!(["a"])), "invalid_record"),
            (with("/s3/object/versionId", json!(1)), "invalid_record"),
            (with("/s3/object/key", json!("a%2")), "invalid_key"),
            (with("/s3/object/key", json!("a%FF")), "invalid_key"),
            (with("/s3/object/key", json!("k".repeat(1_025))), "key_too_long"),
        ];
        let good = [s3_record(LOAD), s3_record(DMAP)];
        for (record, reason) in &bad {
            let body = json!({"Records": [good[0], record, good[1]]});
            for (event, id) in [(sqs(&body), "c9a8f2b3"), (sqs(&sns(&body)), "c9a8f2b3"), (body, "")] {
                let notice = notice(&event);
                assert_eq!(keys(std::slice::from_ref(&notice)), [LOAD, DMAP], "{record}");
                assert_eq!(reasons(&notice), [*reason], "{record}");
                let kept = &notice.poison[0];
                assert_eq!(kept.body().unwrap(), record.to_string().as_bytes());
                if !id.is_empty() {
                    assert_eq!((kept.id.as_str(), kept.sent_at.as_deref()), (id, Some("2026-11-20T14:11:46.123Z")));
                } else if record.is_object() && record.get("eventTime").is_some() {
                    assert_eq!(kept.id, "KWABFSE6JNM4KFQW");
                    assert_eq!(kept.sent_at.as_deref(), Some("2026-11-20T14:11:46.123Z"));
                } else {
                    assert_eq!((kept.id.as_str(), &kept.sent_at), ("1", &None));
                }
            }
        }
    }

    #[test]
    fn a_command_in_a_message_is_poison() {
        for body in [json!({"command": "migrate"}), sns(&json!({"command": "migrate"}))] {
            assert_eq!(reasons(&notice(&sqs(&body))), ["unknown_envelope"]);
        }
    }

    #[test]
    fn bodies_that_announce_nothing_are_poison() {
        for body in
            ["", "null", "7", "{\"Records\":[]}", "{\"Records\":[[]]}", "{\"Type\":\"SubscriptionConfirmation\"}"]
        {
            let notice = notice(&json!({"Records": [sqs_message(body)]}));
            assert_eq!(reasons(&notice), ["unknown_envelope"], "{body}");
            assert_eq!(notice.poison[0].body().unwrap(), body.as_bytes());
        }
        for body in [json!(null), json!({"a": 1})] {
            let mut event = json!({"Records": [sqs_message("")]});
            event["Records"][0]["body"] = body.clone();
            let notice = notice(&event);
            assert_eq!(reasons(&notice), ["invalid_record"], "{body}");
            assert_eq!(notice.poison[0].body().unwrap(), body.to_string().as_bytes());
        }
    }

    #[test]
    fn notifications_in_notifications_come_to_an_end() {
        let mut body = s3_event(KAFKA);
        for wrappings in 0..5 {
            for event in [sqs(&body), sns_direct(&body)] {
                let direct = event["Records"][0]["EventSource"] == "aws:sns";
                let notice = notice(&event);
                if wrappings + usize::from(direct) <= MAX_WRAPPINGS {
                    assert_eq!(keys(&[notice]), [KAFKA], "{wrappings}");
                } else {
                    assert_eq!(reasons(&notice), ["nested_too_deep"], "{wrappings}");
                    assert_eq!(notice.poison[0].body().unwrap(), body.to_string().as_bytes());
                }
            }
            body = sns(&body);
        }
    }

    #[test]
    fn deep_nesting_takes_no_stack() {
        for (open, close) in [("[", "]"), ("{\"Records\":[", "]}"), ("{\"s3\":", "}"), ("{\"s3\":{\"object\":", "}}")] {
            let bomb = format!("{}1{}", open.repeat(20_000), close.repeat(20_000));
            assert!(read(bomb.as_bytes()).is_err() || !notices(&bomb)[0].poison.is_empty());
            let notice = notice(&json!({"Records": [sqs_message(&bomb)]}));
            assert_eq!(notice.poison.len(), 1);
            let open_only = open.repeat(20_000);
            assert!(read(open_only.as_bytes()).is_err());
        }
        let attribute = format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000));
        let event = sqs(&json!(0))
            .to_string()
            .replace("\"messageAttributes\":{}", &format!("\"messageAttributes\":{{\"a\":{attribute}}}"));
        assert_eq!(notices(&event)[0].poison[0].attributes.get(), "{\"a\":null}");
    }

    proptest! {
        #[test]
        fn any_key_is_read_in_any_wrapping(key in key()) {
            let (event, bridge) = (s3_event(&key), bridge(&key));
            for event in [
                event.clone(),
                sqs(&event),
                sqs(&sns(&event)),
                sqs(&sns(&sns(&event))),
                sqs(&s3_record(&key)),
                sns_direct(&event),
                bridge.clone(),
                sqs(&bridge),
                sqs(&sns(&bridge)),
                sns_direct(&bridge),
            ] {
                let notice = notice(&event);
                prop_assert_eq!(records(&notice), 1);
                let put = &notice.puts[0];
                prop_assert_eq!((put.bucket.as_str(), &put.key), (BUCKET, &key));
            }
        }

        #[test]
        fn any_body_is_kept(body in any::<String>()) {
            let notice = notice(&json!({"Records": [sqs_message(&body)]}));
            prop_assert_eq!(reasons(&notice), ["unknown_envelope"]);
            prop_assert_eq!(notice.poison[0].body().unwrap(), body.as_bytes());
        }
    }
}
