//! SQS: looking at a queue, receiving, sending in batches, deleting. Every answer is read entry by entry.

use std::{collections::HashMap, time::Duration};

use aws_sdk_sqs::{
    Client,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        MessageAttributeValue, QueueAttributeName, SendMessageBatchRequestEntry,
    },
};
use runtime::failure::{cause, code};
use tokio::time::sleep;

use crate::context::Pace;

/// Most entries in one request.
pub const BATCH_ENTRIES: usize = 10;
/// Most bytes in one request to send, and in one message.
pub const BATCH_BYTES: usize = 1 << 20;
/// How often a request is made for entries that failed for no fault of their own.
pub(crate) const ATTEMPTS: u32 = 3;
/// Wait before the second attempt; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(200);
/// Error codes of a whole request that one message in it causes.
const MESSAGE_FAULTS: [&str; 5] = [
    "InvalidMessageContents",
    "InvalidParameterValue",
    "InvalidAttributeValue",
    "BatchRequestTooLong",
    "AWS.SimpleQueueService.BatchRequestTooLong",
];

#[derive(Debug, Clone)]
pub struct Queue {
    pub url: String,
    /// Attributes included.
    pub max_message_bytes: usize,
}

/// The counters of a queue. They are approximate, and may lag by a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages that can be received now or after their delay.
    pub waiting: usize,
    /// Messages in flight: received and not deleted yet.
    pub hidden: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    #[error("queue {0} does not exist")]
    Missing(String),
    /// A FIFO queue needs group and deduplication ids, which these messages do not have.
    #[error("queue {0} is a FIFO queue; only standard queues can be replayed")]
    Fifo(String),
    #[error("queue {url} cannot be {verb}: {cause}")]
    Call { url: String, verb: &'static str, cause: String },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub body: String,
    pub attributes: HashMap<String, MessageAttributeValue>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// With its new message id.
    Sent(String),
    /// SQS rejects this message, and would again.
    Refused(String),
    /// The error may be temporary.
    Failed(String),
}

#[derive(Debug, Clone)]
pub struct Received {
    pub id: String,
    /// The receipt handle.
    pub handle: String,
    pub message: Outgoing,
}

impl Outgoing {
    /// The size that SQS counts: body, and names, types and values of the attributes.
    pub fn bytes(&self) -> usize {
        let attribute = |(name, value): (&String, &MessageAttributeValue)| {
            let text = value.string_value().map_or(0, str::len);
            let binary = value.binary_value().map_or(0, |bytes| bytes.as_ref().len());
            name.len() + value.data_type().len() + text + binary
        };
        self.body.len() + self.attributes.iter().map(attribute).sum::<usize>()
    }
}

/// Fails when the queue does not exist or is a FIFO queue.
pub async fn describe(client: &Client, url: &str) -> Result<(Queue, Depth), QueueError> {
    if url.ends_with(".fifo") {
        return Err(QueueError::Fifo(url.to_owned()));
    }
    let answer = client
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(QueueAttributeName::MaximumMessageSize)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessages)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesDelayed)
        .attribute_names(QueueAttributeName::ApproximateNumberOfMessagesNotVisible)
        .send()
        .await
        .map_err(|error| failed(url, "read", code(&error), cause(&error)))?;
    let number = |name: QueueAttributeName| -> Option<usize> { answer.attributes()?.get(&name)?.parse().ok() };
    let depth = Depth {
        waiting: number(QueueAttributeName::ApproximateNumberOfMessages).unwrap_or_default()
            + number(QueueAttributeName::ApproximateNumberOfMessagesDelayed).unwrap_or_default(),
        hidden: number(QueueAttributeName::ApproximateNumberOfMessagesNotVisible).unwrap_or_default(),
    };
    let max_message_bytes = number(QueueAttributeName::MaximumMessageSize).unwrap_or(BATCH_BYTES).min(BATCH_BYTES);
    Ok((Queue { url: url.to_owned(), max_message_bytes }, depth))
}

/// Receives up to `most` messages, ten at most.
pub async fn receive(client: &Client, url: &str, most: usize, pace: &Pace) -> Result<Vec<Received>, QueueError> {
    let answer = client
        .receive_message()
        .queue_url(url)
        .max_number_of_messages(i32::try_from(most.clamp(1, BATCH_ENTRIES)).unwrap_or(1))
        .wait_time_seconds(pace.wait_seconds)
        .visibility_timeout(pace.visibility_timeout_seconds)
        .message_attribute_names("All")
        .send()
        .await
        .map_err(|error| failed(url, "received from", code(&error), cause(&error)))?;
    let messages = answer.messages.unwrap_or_default().into_iter();
    // Without an id or a handle a message could not be settled, so it is left to come again.
    Ok(messages
        .filter_map(|message| {
            Some(Received {
                id: message.message_id?,
                handle: message.receipt_handle?,
                message: Outgoing {
                    body: message.body.unwrap_or_default(),
                    attributes: message.message_attributes.unwrap_or_default(),
                },
            })
        })
        .collect())
}

/// Sends up to ten messages of up to [`BATCH_BYTES`] together, and returns the result of each.
pub async fn send(client: &Client, url: &str, messages: &[&Outgoing]) -> Vec<Delivery> {
    let mut deliveries = vec![Delivery::Failed("it was not tried".to_owned()); messages.len()];
    let mut left: Vec<usize> = (0..messages.len()).collect();
    for attempt in 0..ATTEMPTS {
        pause_before(attempt).await;
        let entries = left.iter().filter_map(|position| entry(*position, messages.get(*position)?));
        let request = client.send_message_batch().queue_url(url).set_entries(Some(entries.collect()));
        match request.send().await {
            Ok(answer) => {
                // An entry that the answer does not mention counts as not sent: twice is better than never.
                let silent = || Delivery::Failed("SQS did not say what became of it".to_owned());
                left.iter().for_each(|position| set(&mut deliveries, *position, silent()));
                for sent in answer.successful() {
                    set(&mut deliveries, position(sent.id()), Delivery::Sent(sent.message_id().to_owned()));
                }
                for failed in answer.failed() {
                    set(&mut deliveries, position(failed.id()), refusal(failed));
                }
                left.retain(|position| matches!(deliveries.get(*position), Some(Delivery::Failed(_))));
            }
            Err(error) if code(&error).is_some_and(|code| MESSAGE_FAULTS.contains(&code)) => {
                if let [only] = left.as_slice() {
                    set(&mut deliveries, *only, Delivery::Refused(cause(&error)));
                } else {
                    // One message spoils the request for all: each gets its own.
                    for position in left {
                        let alone: Vec<&Outgoing> = messages.get(position).into_iter().copied().collect();
                        let delivery = Box::pin(send(client, url, &alone)).await.pop();
                        set(&mut deliveries, position, delivery.unwrap_or(Delivery::Failed(cause(&error))));
                    }
                }
                return deliveries;
            }
            // The SDK has tried it several times already.
            Err(error) => {
                let cause = cause(&error);
                left.iter().for_each(|position| set(&mut deliveries, *position, Delivery::Failed(cause.clone())));
                return deliveries;
            }
        }
        if left.is_empty() {
            break;
        }
    }
    deliveries
}

/// Deletes messages by their handles, and returns for each whether that worked.
pub async fn delete(client: &Client, url: &str, handles: &[String]) -> Vec<bool> {
    let mut gone = vec![false; handles.len()];
    for attempt in 0..ATTEMPTS {
        pause_before(attempt).await;
        let left: Vec<usize> = (0..handles.len()).filter(|position| gone.get(*position) == Some(&false)).collect();
        if left.is_empty() {
            break;
        }
        for positions in left.chunks(BATCH_ENTRIES) {
            let entries = positions.iter().filter_map(|position| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(position.to_string());
                entry.receipt_handle(handles.get(*position)?).build().ok()
            });
            let request = client.delete_message_batch().queue_url(url).set_entries(Some(entries.collect()));
            let Ok(answer) = request.send().await else { continue };
            for deleted in answer.successful() {
                if let Some(gone) = gone.get_mut(position(deleted.id())) {
                    *gone = true;
                }
            }
        }
    }
    gone
}

/// Makes messages visible at once. Where that fails, they become visible after their visibility timeout.
pub async fn release(client: &Client, url: &str, handles: &[String]) {
    for handles in handles.chunks(BATCH_ENTRIES) {
        let entries = handles.iter().enumerate().filter_map(|(position, handle)| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(position.to_string());
            entry.receipt_handle(handle).visibility_timeout(0).build().ok()
        });
        let request = client.change_message_visibility_batch().queue_url(url).set_entries(Some(entries.collect()));
        drop(request.send().await);
    }
}

/// The pause before an attempt; none before the first, which is number 0.
pub(crate) async fn pause_before(attempt: u32) {
    if attempt > 0 {
        sleep(BACKOFF * 2_u32.pow(attempt - 1)).await;
    }
}

fn entry(position: usize, message: &Outgoing) -> Option<SendMessageBatchRequestEntry> {
    SendMessageBatchRequestEntry::builder()
        .id(position.to_string())
        .message_body(&message.body)
        .set_message_attributes(Some(message.attributes.clone()).filter(|attributes| !attributes.is_empty()))
        .build()
        .ok()
}

fn refusal(failed: &BatchResultErrorEntry) -> Delivery {
    let cause = match failed.message() {
        Some(message) => format!("{}: {message}", failed.code()),
        None => failed.code().to_owned(),
    };
    if failed.sender_fault() { Delivery::Refused(cause) } else { Delivery::Failed(cause) }
}

/// The position that an entry's id stands for; out of range when the id is not ours.
fn position(id: &str) -> usize {
    id.parse().unwrap_or(usize::MAX)
}

fn set(deliveries: &mut [Delivery], position: usize, delivery: Delivery) {
    if let Some(slot) = deliveries.get_mut(position) {
        *slot = delivery;
    }
}

fn failed(url: &str, verb: &'static str, code: Option<&str>, cause: String) -> QueueError {
    match code {
        Some("QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue") => QueueError::Missing(url.to_owned()),
        _ => QueueError::Call { url: url.to_owned(), verb, cause },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kit::sqs::{self, Entry};
    use serde_json::{Value, json};

    use super::*;
    use crate::canned;

    const URL: &str = "http://127.0.0.1:1/1/events";

    fn messages(bodies: &[&str]) -> Vec<Outgoing> {
        bodies.iter().map(|body| Outgoing { body: (*body).to_owned(), attributes: HashMap::new() }).collect()
    }

    fn bodies(request: &Value) -> Vec<String> {
        let entries = request["Entries"].as_array().unwrap().iter();
        entries.map(|entry| entry["MessageBody"].as_str().unwrap().to_owned()).collect()
    }

    /// Sends messages to a queue that answers each entry as `entry` says, and returns the requests too.
    async fn sent(
        all: &[&str],
        mut entry: impl FnMut(&str) -> Entry + Send + 'static,
    ) -> (Vec<Delivery>, Vec<Vec<String>>) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        let context = canned::sqs(move |_, request| {
            seen.lock().unwrap().push(bodies(request));
            (200, sqs::batch(request, |requested| entry(requested["MessageBody"].as_str().unwrap())))
        })
        .await;
        let messages = messages(all);
        let deliveries = send(&context.clients.sqs, URL, &messages.iter().collect::<Vec<_>>()).await;
        let requests = requests.lock().unwrap().clone();
        (deliveries, requests)
    }

    #[tokio::test]
    async fn an_entry_that_failed_is_sent_again_alone_and_a_refused_one_is_not() {
        let mut busy = 1;
        let (deliveries, requests) = sent(&["good", "busy", "bad"], move |body| match body {
            "busy" if busy > 0 => {
                busy -= 1;
                Entry::Failed { code: "InternalError", sender_fault: false }
            }
            "bad" => Entry::Failed { code: "InvalidMessageContents", sender_fault: true },
            body => sqs::sent(&format!("new-{body}")),
        })
        .await;
        let expected = [
            Delivery::Sent("new-good".into()),
            Delivery::Sent("new-busy".into()),
            Delivery::Refused("InvalidMessageContents".into()),
        ];
        assert_eq!(deliveries, expected);
        assert_eq!(requests, [vec!["good", "busy", "bad"], vec!["busy"]]);
    }

    #[tokio::test]
    async fn an_entry_that_goes_on_failing_has_failed() {
        let (deliveries, requests) =
            sent(&["busy"], |_| Entry::Failed { code: "InternalError", sender_fault: false }).await;
        assert_eq!(deliveries, [Delivery::Failed("InternalError".into())]);
        assert_eq!(requests.len(), 3);
    }

    #[tokio::test]
    async fn one_message_that_spoils_the_request_does_not_keep_its_neighbours() {
        let context = canned::sqs(|_, request| {
            if bodies(request).contains(&"bad".to_owned()) {
                return (400, json!({"__type": "com.amazonaws.sqs#InvalidMessageContents", "message": "no"}));
            }
            (200, sqs::batch(request, |_| sqs::sent("new")))
        })
        .await;
        let messages = messages(&["a", "bad", "b"]);
        let deliveries = send(&context.clients.sqs, URL, &messages.iter().collect::<Vec<_>>()).await;
        let new = || Delivery::Sent("new".into());
        assert_eq!(deliveries, [new(), Delivery::Refused("InvalidMessageContents: no".into()), new()]);
    }

    #[tokio::test]
    async fn an_entry_that_the_answer_does_not_mention_is_not_sent() {
        let (deliveries, _) = sent(&["a"], |_| Entry::Silent).await;
        assert!(matches!(deliveries.as_slice(), [Delivery::Failed(_)]));
    }

    #[tokio::test]
    async fn only_what_is_not_deleted_is_deleted_again() {
        let (mut requests, total) = (0, Arc::new(Mutex::new(0)));
        let seen = total.clone();
        let context = canned::sqs(move |_, request| {
            requests += 1;
            *seen.lock().unwrap() = requests;
            // "b" needs a second try, "c" never works.
            let gone = sqs::batch(request, |entry| match entry["ReceiptHandle"].as_str().unwrap() {
                "c" => Entry::Silent,
                "b" if requests != 2 => Entry::Silent,
                _ => Entry::Done(json!({})),
            });
            (200, gone)
        })
        .await;
        let gone = delete(&context.clients.sqs, URL, &["a", "b", "c"].map(str::to_owned)).await;
        assert_eq!(gone, [true, true, false]);
        assert_eq!(*total.lock().unwrap(), 3);
    }

    #[tokio::test]
    async fn a_queue_that_is_missing_is_called_missing() {
        let code = "com.amazonaws.sqs#QueueDoesNotExist";
        let context = canned::sqs(move |_, _| (400, json!({"__type": code, "message": "gone"}))).await;
        let error = describe(&context.clients.sqs, URL).await.unwrap_err();
        assert_eq!(error.to_string(), "queue http://127.0.0.1:1/1/events does not exist");
        let denied = canned::sqs(|_, _| (403, json!({"__type": "AccessDenied", "message": "not you"}))).await;
        let error = describe(&denied.clients.sqs, URL).await.unwrap_err();
        assert_eq!(error.to_string(), "queue http://127.0.0.1:1/1/events cannot be read: AccessDenied: not you");
        assert_eq!(
            describe(&denied.clients.sqs, "http://q/1/a.fifo").await.unwrap_err(),
            QueueError::Fifo("http://q/1/a.fifo".into())
        );
    }
}
