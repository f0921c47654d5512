//! What Lambda writes when it gives up a batch of a stream: an object with the whole event, in the destination for failures.
//!
//! Source: "Retain discarded batch records for a Kinesis Data Streams event source in Lambda", AWS Lambda developer guide. The key is
//! `aws/lambda/<ESM-UUID>/<shardID>/YYYY/MM/DD/YYYY-MM-DDTHH.MM.SS-<Random UUID>`. What the guide shows as `"<Whole Event>"` is read as text that
//! is JSON, and as JSON.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The folder of these objects.
pub const FOLDER: &str = "aws/lambda/";
/// A larger event cannot be passed to a function ("Lambda quotas", AWS Lambda developer guide): nobody ever got the record in it.
pub const MAX_EVENT_BYTES: usize = 6 << 20;

/// Why an object is not that of a batch that was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscardedError {
    /// It is not JSON, or lacks something.
    #[error("it is not what Lambda writes of a batch: {0}")]
    Json(String),
    /// There are no records in it.
    #[error("it does not have the records of the batch (\"payload\")")]
    NoPayload,
}

/// An object of a batch that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discarded<'a> {
    /// Why, in Lambda's words, such as `RetryAttemptsExhausted`.
    pub condition: Cow<'a, str>,
    /// The event that the function would have got.
    pub event: Cow<'a, [u8]>,
}

/// What became of the records of a batch that Lambda had given up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The shard.
    pub shard: String,
    /// How many records there are.
    pub records: usize,
    /// How many of them had been staged before.
    pub already: usize,
    /// How many were landed out of band, or quarantined.
    pub out_of_band: usize,
    /// How many were staged like those of any batch.
    pub staged: usize,
    /// Number of things that could not be finished now. They are durable, and the next tick goes on.
    pub unfinished: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    #[serde(borrow, default)]
    request_context: Context<'a>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct Context<'a> {
    #[serde(borrow, default)]
    condition: Cow<'a, str>,
}

impl<'a> Discarded<'a> {
    /// Reads an object.
    pub fn of_bytes(body: &'a [u8]) -> Result<Self, DiscardedError> {
        let json = |error: serde_json::Error| DiscardedError::Json(error.to_string());
        let Object { request_context, payload } = serde_json::from_slice(body).map_err(json)?;
        let payload = payload.ok_or(DiscardedError::NoPayload)?.get();
        let event = match payload.bytes().next() {
            Some(b'"') => Cow::Owned(serde_json::from_str::<String>(payload).map_err(json)?.into_bytes()),
            Some(b'{') => Cow::Borrowed(payload.as_bytes()),
            _ => return Err(DiscardedError::NoPayload),
        };
        Ok(Self { condition: request_context.condition, event })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_event_is_read_as_text_and_as_json() {
        let event = json!({"Records": [{"kinesis": {"data": "e30="}}]});
        for payload in [event.clone(), json!(event.to_string())] {
            let object = json!({
                "requestContext": {"condition": "RetryAttemptsExhausted", "approximateInvokeCount": 4},
                "version": "1.0", "payload": payload,
            });
            let body = object.to_string();
            let discarded = Discarded::of_bytes(body.as_bytes()).unwrap();
            assert_eq!(&*discarded.condition, "RetryAttemptsExhausted");
            assert_eq!(serde_json::from_slice::<serde_json::Value>(&discarded.event).unwrap(), event);
        }
    }

    #[test]
    fn what_has_no_event_is_told() {
        for body in [r#"{"requestContext":{}}"#, r#"{"payload":null}"#, r#"{"payload":[1]}"#] {
            assert_eq!(Discarded::of_bytes(body.as_bytes()), Err(DiscardedError::NoPayload), "{body}");
        }
        for body in ["", "[", r#"{"payload":"\ud800"}"#] {
            assert!(matches!(Discarded::of_bytes(body.as_bytes()), Err(DiscardedError::Json(_))), "{body}");
        }
    }
}
