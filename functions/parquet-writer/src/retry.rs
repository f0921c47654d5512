//! When messages that could not land are delivered again: after a pause that grows with each receive.
//!
//! Without it, a message would wait for the visibility timeout of the queue, which is as long as several invocations: far too long
//! after a short failure, and too short for an outage, which would use up all receives and fill the dead-letter queue.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use aws_sdk_sqs::{Client, types::ChangeMessageVisibilityBatchRequestEntry};
use futures_util::{StreamExt, stream};
use runtime::{
    clock,
    failure::{cause, some_of},
};
use serde::Deserialize;
use tokio::time::timeout;
use tracing::warn;

/// The pause after the first receive. Each one after that is three times as long.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// SQS counts hidden messages as in flight, of which a queue may have 120,000. When an outage has used them up, nothing more is
/// received before some of them come again, so this is also how long a queue may stand still after the outage.
const LONGEST_PAUSE: Duration = Duration::from_secs(10 * 60);
/// Maximum number of entries in a batch request to SQS.
pub const BATCH_ENTRIES: usize = 10;
const CONCURRENT_REQUESTS: usize = 8;
/// What is left of the invocation for its response. Without the response, Lambda would deliver the whole batch again.
const RESERVE: Duration = Duration::from_secs(3);

/// A message as this function received it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    pub message_id: String,
    pub receipt_handle: String,
    /// How often it has been received, this time included.
    pub receives: u32,
}

/// Does what may be left undone, as far as the time of the invocation reaches. `None` if it does not suffice.
pub async fn in_time<T>(deadline_ms: u64, work: impl Future<Output = T>) -> Option<T> {
    let left = clock::remaining(deadline_ms).saturating_sub(RESERVE);
    if left.is_zero() { None } else { timeout(left, work).await.ok() }
}

/// The pause before a message is delivered again that has been received so often.
///
/// With the ten receives that the template allows, a message goes to the dead-letter queue an hour after its first receive.
#[must_use]
pub fn pause(receives: u32) -> Duration {
    let factor = 3_u32.saturating_pow(receives.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

/// Those of the event's messages that are in `failed`. A message without a receipt handle is left to the queue.
#[must_use]
pub fn of_event(event: &[u8], failed: &HashSet<String>) -> Vec<Received> {
    #[derive(Deserialize)]
    struct Event {
        #[serde(rename = "Records")]
        records: Vec<Record>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Record {
        message_id: String,
        receipt_handle: Option<String>,
        attributes: Option<HashMap<String, String>>,
    }
    let records = serde_json::from_slice::<Event>(event).map(|event| event.records).unwrap_or_default();
    let failed = records.into_iter().filter(|record| failed.contains(&record.message_id));
    failed
        .filter_map(|Record { message_id, receipt_handle, attributes }| {
            let receives = attributes.and_then(|all| all.get("ApproximateReceiveCount")?.parse().ok()).unwrap_or(1);
            Some(Received { message_id, receipt_handle: receipt_handle?, receives })
        })
        .collect()
}

/// Hides messages for their pauses. What cannot be changed keeps the visibility timeout of the queue.
pub async fn postpone<'a>(
    client: &Client,
    queue_url: &str,
    messages: impl IntoIterator<Item = &'a Received>,
    deadline_ms: u64,
) {
    let messages: Vec<&Received> = messages.into_iter().collect();
    let requests = messages.chunks(BATCH_ENTRIES).map(|messages| async move {
        let entries = messages.iter().enumerate().filter_map(|(position, message)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(position.to_string())
                .receipt_handle(&message.receipt_handle)
                .visibility_timeout(i32::try_from(pause(message.receives).as_secs()).unwrap_or(i32::MAX))
                .build()
                .ok()
        });
        let request =
            client.change_message_visibility_batch().queue_url(queue_url).set_entries(Some(entries.collect()));
        let refused = match request.send().await {
            Ok(answer) => answer.failed().first().map(|entry| entry.code().to_owned()),
            Err(error) => Some(cause(&error)),
        };
        if let Some(cause) = refused {
            let ids = some_of(messages.iter().map(|message| message.message_id.as_str()));
            warn!(cause, ids, "the visibility timeout of failed messages could not be changed; they come again after that of the queue");
        }
    });
    let all = stream::iter(requests).buffer_unordered(CONCURRENT_REQUESTS).collect::<()>();
    if in_time(deadline_ms, all).await.is_none() {
        warn!(
            "there was no time to change the visibility timeout of all failed messages; they come again after that of the queue"
        );
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pauses_grow_from_seconds_to_minutes() {
        assert_eq!(
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 1_000].map(|receives| pause(receives).as_secs()),
            [5, 5, 15, 45, 135, 405, 600, 600, 600, 600]
        );
    }

    #[test]
    fn only_failed_messages_with_a_receipt_are_postponed() {
        let event = json!({"Records": [
            {"messageId": "a", "receiptHandle": "r-a", "attributes": {"ApproximateReceiveCount": "3"}},
            {"messageId": "b", "receiptHandle": "r-b"},
            {"messageId": "c", "attributes": {"ApproximateReceiveCount": "3"}},
            {"messageId": "d", "receiptHandle": "r-d"},
        ]});
        let failed = ["a", "b", "c"].map(str::to_owned).into();
        let received = of_event(event.to_string().as_bytes(), &failed);
        let received: Vec<_> = received.iter().map(|one| (one.message_id.as_str(), one.receives)).collect();
        assert_eq!(received, [("a", 3), ("b", 1)]);
        assert_eq!(of_event(b"{", &failed), []);
    }
}
