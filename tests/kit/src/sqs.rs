//! Requests to SQS, answered as it would.

use std::collections::HashSet;

use serde_json::{Value, json};

/// What happens to an entry of a batch.
#[derive(Debug)]
pub enum Entry {
    /// It succeeds; members such as `MessageId` are added to its result.
    Done(Value),
    Failed {
        code: &'static str,
        sender_fault: bool,
    },
    /// The response does not mention it.
    Silent,
}

/// In one batch request.
const MAX_ENTRIES: usize = 10;
/// Twelve hours.
const MAX_VISIBILITY_SECONDS: u64 = 43_200;

/// Answers `SendMessageBatch`, `DeleteMessageBatch` and `ChangeMessageVisibilityBatch`, entry by entry.
///
/// Panics if SQS would refuse the whole request: nobody has a use for such a request.
pub fn batch(request: &Value, mut entry: impl FnMut(&Value) -> Entry) -> Value {
    let entries = request["Entries"].as_array().unwrap();
    assert!(!entries.is_empty(), "EmptyBatchRequest");
    assert!(entries.len() <= MAX_ENTRIES, "TooManyEntriesInBatchRequest");
    let ids: HashSet<&str> = entries.iter().map(|entry| entry["Id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), entries.len(), "BatchEntryIdsNotDistinct");
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for requested in entries {
        let seconds = requested["VisibilityTimeout"].as_u64().unwrap_or_default();
        assert!(seconds <= MAX_VISIBILITY_SECONDS, "InvalidParameterValue: {seconds} s");
        let id = &requested["Id"];
        match entry(requested) {
            Entry::Done(mut members) => {
                members["Id"] = id.clone();
                successful.push(members);
            }
            Entry::Failed { code, sender_fault } => {
                failed.push(json!({"Id": id, "Code": code, "SenderFault": sender_fault}));
            }
            Entry::Silent => {}
        }
    }
    json!({"Successful": successful, "Failed": failed})
}

/// How many messages a `ReceiveMessage` may be answered with.
///
/// Panics if SQS would refuse the request.
#[must_use]
pub fn maximum_of_receive(request: &Value) -> usize {
    let setting = |name: &str, default: u64| request.get(name).map_or(default, |value| value.as_u64().unwrap());
    let (maximum, wait) = (setting("MaxNumberOfMessages", 1), setting("WaitTimeSeconds", 0));
    assert!((1..=10).contains(&maximum), "InvalidParameterValue: MaxNumberOfMessages is {maximum}");
    assert!(wait <= 20, "InvalidParameterValue: WaitTimeSeconds is {wait}");
    usize::try_from(maximum).unwrap()
}

/// The result of an entry of `SendMessageBatch`.
#[must_use]
pub fn sent(message_id: &str) -> Entry {
    Entry::Done(json!({"MessageId": message_id, "MD5OfMessageBody": ""}))
}
