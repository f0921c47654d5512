//! Responses of SQS to batch requests.

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

/// Answers `SendMessageBatch`, `DeleteMessageBatch` and `ChangeMessageVisibilityBatch`, entry by entry.
pub fn batch(request: &Value, mut entry: impl FnMut(&Value) -> Entry) -> Value {
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for requested in request["Entries"].as_array().unwrap() {
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

/// The result of an entry of `SendMessageBatch`.
#[must_use]
pub fn sent(message_id: &str) -> Entry {
    Entry::Done(json!({"MessageId": message_id, "MD5OfMessageBody": ""}))
}
