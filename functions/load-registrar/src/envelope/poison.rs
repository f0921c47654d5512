//! What the quarantine keeps of a record that can never be registered: its bytes, who sent it and when.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, value::RawValue};
use shared::{
    layout::Day,
    quarantine::{QuarantineRecord, base64, rfc3339},
};

use super::json::Members;
use crate::error::RecordError;

/// Where a record was read. It is kept with every put, because a put can still turn out to be poison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    pub(super) sender: Arc<Sender>,
    pub(super) body: String,
}

/// Who sent a record, and when.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sender {
    id: String,
    sent_at: Option<String>,
    /// A JSON object.
    attributes: String,
}

impl Source {
    /// A record that came without a message around it.
    pub(super) fn of_record(position: usize, record: Option<&Members<'_>>, body: &str) -> Self {
        let id = record.and_then(|record| {
            let request_id = record.object("responseElements").and_then(|elements| elements.text("x-amz-request-id"));
            request_id.or_else(|| record.text("id")).filter(|id| !id.is_empty())
        });
        let time = record.and_then(|record| record.text("eventTime").or_else(|| record.text("time")));
        let sender = Sender {
            id: id.unwrap_or_else(|| position.to_string()),
            sent_at: time.as_deref().and_then(sent_at_of_text),
            attributes: "{}".to_owned(),
        };
        Self { sender: Arc::new(sender), body: body.to_owned() }
    }

    pub(super) fn into_poison(self, error: RecordError) -> QuarantineRecord {
        QuarantineRecord {
            function: crate::FUNCTION.to_owned(),
            reason: error.reason().to_owned(),
            detail: error.to_string(),
            id: self.sender.id.clone(),
            sent_at: self.sender.sent_at.clone(),
            attributes: RawValue::from_string(self.sender.attributes.clone()).unwrap_or_default(),
            body_base64: base64(self.body.as_bytes()),
        }
    }
}

impl Sender {
    /// The SQS message.
    pub(super) fn of_message(id: String, message: &Members<'_>) -> Self {
        let sent = message.object("attributes").and_then(|attributes| attributes.text("SentTimestamp"));
        let sent_at = sent.and_then(|ms| ms.parse().ok()).and_then(sent_at);
        Self { id, sent_at, attributes: attributes(message.object("messageAttributes")) }
    }

    /// The SNS notification with which SNS invoked the function.
    pub(super) fn of_notification(position: usize, sns: &Members<'_>) -> Self {
        let id = sns.text("MessageId").filter(|id| !id.is_empty());
        Self {
            id: id.unwrap_or_else(|| position.to_string()),
            sent_at: sns.text("Timestamp").as_deref().and_then(sent_at_of_text),
            attributes: "{}".to_owned(),
        }
    }
}

/// Message attributes as the quarantine keeps them: name → `{"dataType", "stringValue" | "binaryValue"}`, on one line.
/// The lists, which SQS has never implemented, are left out.
fn attributes(attributes: Option<Members<'_>>) -> String {
    let value = |raw: &RawValue| serde_json::from_str(raw.get()).unwrap_or(Value::Null);
    let kept: BTreeMap<String, Value> = attributes
        .map(|Members(attributes)| attributes)
        .unwrap_or_default()
        .into_iter()
        .map(|(name, attribute)| {
            let Some(attribute) = Members::of(attribute.get()) else { return (name, value(attribute)) };
            let members = ["dataType", "stringValue", "binaryValue"];
            let members = members.iter().filter_map(|name| Some(((*name).to_owned(), value(attribute.raw(name)?))));
            (name, Value::Object(members.filter(|(_, value)| !value.is_null()).collect()))
        })
        .collect();
    serde_json::to_string(&kept).unwrap_or_else(|_| "{}".to_owned())
}

/// Milliseconds since 1970-01-01T00:00:00Z → RFC 3339. `None` if the time is not after 1970-01-01T00:00:00Z or out of range.
fn sent_at(unix_ms: i64) -> Option<String> {
    (unix_ms > 0 && Day::of_unix_ms(unix_ms).is_ok()).then(|| rfc3339(unix_ms)).flatten()
}

fn sent_at_of_text(text: &str) -> Option<String> {
    sent_at(text.parse::<Timestamp>().ok()?.as_millisecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::samples::{BUCKET, DMAP, KAFKA, LOAD, bridge, keys, notice, notices, s3_record, sqs, sqs_message, with},
        *,
    };

    #[test]
    fn a_record_that_was_mended_can_be_sent_again_as_it_was_kept() {
        let body = json!({"Records": [s3_record(LOAD), with("/eventVersion", json!("3.0"))]});
        let kept = notice(&sqs(&body)).poison.remove(0).body().unwrap();
        let mended = String::from_utf8(kept).unwrap().replace("3.0", "2.9");
        let event = json!({"Records": [sqs_message(&mended)]});
        assert_eq!(keys(&[notice(&event)]), [KAFKA]);
    }

    #[test]
    fn a_put_can_turn_out_to_be_poison() {
        let error = || RecordError::ForeignBucket(BUCKET.to_owned());
        let body = json!({"Records": [s3_record(LOAD), s3_record(DMAP)]});
        let put = notice(&sqs(&body)).puts.remove(1);
        let record = put.into_poison(error());
        assert_eq!((record.reason.as_str(), record.id.as_str()), ("foreign_bucket", "c9a8f2b3"));
        assert_eq!(record.body().unwrap(), s3_record(DMAP).to_string().as_bytes());
        let put = notice(&sqs(&bridge(DMAP))).puts.remove(0);
        assert_eq!(put.into_poison(error()).body().unwrap(), bridge(DMAP).to_string().as_bytes());
    }

    #[test]
    fn the_quarantine_keeps_the_attributes_on_one_line() {
        let mut event = json!({"Records": [sqs_message("?")]});
        event["Records"][0]["messageAttributes"] = json!({
            "b": {"binaryValue": "AAE=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
            "a": {"stringValue": "line\nline", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "c": 7,
        });
        let pretty = serde_json::to_string_pretty(&event).unwrap();
        let record = &notices(&pretty)[0].poison[0];
        assert_eq!(
            record.attributes.get(),
            r#"{"a":{"dataType":"String","stringValue":"line\nline"},"b":{"binaryValue":"AAE=","dataType":"Binary"},"c":7}"#
        );
    }

    #[test]
    fn an_impossible_time_is_left_out() {
        for sent in ["", "0", "-1", "soon", "9223372036854775807"] {
            let mut event = json!({"Records": [sqs_message("?")]});
            event["Records"][0]["attributes"]["SentTimestamp"] = sent.into();
            assert_eq!(notice(&event).poison[0].sent_at, None, "{sent}");
        }
    }
}
