//! Draining: receiving more messages than the event contains, so that files are large enough for data warehouses.
//!
//! An event contains at most 6 MB. If a target is set, the function receives more messages from its own queue. It deletes them
//! itself when their file has been written and the notification published or stored. Otherwise `retry` says when they come again,
//! like those of the event.

use std::{
    borrow::Cow,
    cell::Cell,
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    types::{DeleteMessageBatchRequestEntry, MessageAttributeValue, MessageSystemAttributeName},
};
use futures_util::{StreamExt, future::join_all, stream};
use landing::{
    batch::Batch,
    envelope::{Attributes, Message},
};
use runtime::failure::{cause, some_of};
use serde_json::json;
use shared::{event::Registry, quarantine::base64};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout_at},
};
use tracing::warn;

use crate::{
    config::Drain,
    retry::{BATCH_ENTRIES, Received, in_time},
};

/// Number of concurrent receive requests; SQS returns at most ten messages to each.
const RECEIVERS: usize = 8;
/// Wait time of a receive request while there is a backlog. A long poll queries all servers of the queue, so an empty response
/// means an empty queue.
const WAIT_SECONDS: i32 = 1;
/// A receive with fewer messages than this shows no backlog. SQS may return few of many, and none to a request that does not wait,
/// so a receiver tries once more.
const SHORT_RECEIVE: usize = 5;
const SHORT_RECEIVES: usize = 2;
/// Each receive is paid for, so a receiver that waits for messages to arrive lets some gather.
const PAUSE: Duration = Duration::from_millis(200);
/// SQS allows 120,000 messages of a queue to be in flight, and other invocations have some.
const MAX_RECEIVED: usize = 100_000;
/// How much longer than that the last receive may take.
const HANGING: Duration = Duration::from_secs(3);
/// Number of attempts to delete messages.
const DELETE_ATTEMPTS: usize = 3;

/// What a receive has shown.
enum Queue {
    /// There are more messages.
    Backlog,
    /// The queue has only what arrives now.
    Short,
    /// There is nothing, nothing more may be received, or the queue does not answer.
    Ended,
}

/// Receives messages into `batch` until the target is reached, the time is over or the queue has no backlog.
///
/// One receiver looks first, because most invocations find nothing; the others join it when there is a backlog. A queue without one
/// gives each receive the few messages that have just arrived. To wait for them costs an invocation that does nothing else, so
/// that ends after two such receives, unless `wait` says how long to go on.
///
/// If a request fails, the other receivers continue, and messages that have been received so far are processed.
pub async fn drain(
    client: &Client,
    drain: &Drain,
    registry: &Registry,
    batch: &mut Batch,
    remaining: Duration,
) -> Vec<Received> {
    let begun = Instant::now();
    let until = begun + drain.max_time.min(remaining / 2);
    let state = Mutex::new((batch, Vec::new()));
    let state = &state;
    let receive = |wait_seconds: i32| async move {
        let is_full = {
            let state = state.lock().await;
            is_full(state.0, &state.1, drain)
        };
        if is_full || Instant::now() >= until {
            return Queue::Ended;
        }
        let response = client
            .receive_message()
            .queue_url(&drain.queue_url)
            .max_number_of_messages(10)
            .wait_time_seconds(wait_seconds)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send();
        // A receive that hangs is given up. One that is begun in time is answered in time: its messages would be hidden.
        let Ok(response) = timeout_at(until + HANGING, response).await else { return Queue::Ended };
        let messages = match response {
            Ok(response) => response.messages.unwrap_or_default(),
            Err(error) => {
                warn!(cause = cause(&error), "messages could not be received; continuing with those received so far");
                return Queue::Ended;
            }
        };
        let received = messages.len();
        let mut state = state.lock().await;
        for message in messages {
            if let Some(received) = take(&message, state.0, registry) {
                state.1.push(received);
            }
        }
        match received {
            0 if wait_seconds > 0 && Instant::now() >= begun + drain.wait => Queue::Ended,
            0..SHORT_RECEIVE => Queue::Short,
            _ => Queue::Backlog,
        }
    };
    let receiver = async |is_first: bool| {
        let mut short = 0;
        loop {
            // The first does not wait for messages to arrive.
            match receive(if is_first { 0 } else { WAIT_SECONDS }).await {
                Queue::Ended => return false,
                Queue::Backlog if is_first => return true,
                Queue::Backlog => short = 0,
                Queue::Short if Instant::now() < begun + drain.wait => {
                    sleep_until(until.min(Instant::now() + PAUSE)).await;
                }
                Queue::Short => {
                    short += 1;
                    if short == SHORT_RECEIVES {
                        return false;
                    }
                }
            }
        }
    };
    if !drain.wait.is_zero() || receiver(true).await {
        state.lock().await.0.reserve(drain.target_bytes);
        join_all((0..RECEIVERS).map(|_| receiver(false))).await;
    }
    std::mem::take(&mut state.lock().await.1)
}

/// Whether the target is reached, memory does not suffice for more messages, or SQS would soon refuse more.
fn is_full(batch: &Batch, received: &[Received], drain: &Drain) -> bool {
    batch.is_full()
        || batch.payload_bytes() >= drain.target_bytes
        || batch.memory_bytes() >= drain.memory_bytes
        || received.len() >= MAX_RECEIVED
}

/// Adds one message to the batch. A message without id or receipt handle could not be deleted afterwards, so it is skipped and
/// will be received again after its visibility timeout.
fn take(message: &aws_sdk_sqs::types::Message, batch: &mut Batch, registry: &Registry) -> Option<Received> {
    let (message_id, receipt_handle) = (message.message_id()?, message.receipt_handle()?);
    let attribute = |name| message.attributes().and_then(|all| all.get(&name));
    let sent_timestamp = attribute(MessageSystemAttributeName::SentTimestamp);
    let receives = attribute(MessageSystemAttributeName::ApproximateReceiveCount);
    let receives = receives.and_then(|count| count.parse().ok()).unwrap_or(1);
    batch.push(
        &Message {
            message_id: message_id.into(),
            sent_timestamp: sent_timestamp.map(Cow::from),
            body: message.body().unwrap_or_default().as_bytes().into(),
            attributes: attributes(message.message_attributes()),
        },
        registry,
    );
    Some(Received { message_id: message_id.to_owned(), receipt_handle: receipt_handle.to_owned(), receives })
}

fn attributes(all: Option<&std::collections::HashMap<String, MessageAttributeValue>>) -> Attributes<'_> {
    let Some(all) = all else { return Attributes::default() };
    let text = |name| all.get(name).and_then(MessageAttributeValue::string_value).map(Cow::Borrowed);
    let (source, type_name, event_id) = (text("source"), text("type"), text("event_id"));
    // All attributes are kept if they could not be restored from these three texts.
    let plain = |(name, value): (&String, &MessageAttributeValue)| {
        matches!(name.as_str(), "source" | "type" | "event_id")
            && value.data_type() == "String"
            && value.string_value().is_some()
    };
    let all = (!all.iter().all(plain)).then(|| {
        let sorted: BTreeMap<&str, serde_json::Value> =
            all.iter().map(|(name, value)| (name.as_str(), attribute_json(value))).collect();
        json!(sorted).to_string().into()
    });
    Attributes { source, type_name, event_id, all }
}

/// The attribute in the form of an SQS event.
fn attribute_json(value: &MessageAttributeValue) -> serde_json::Value {
    match (value.string_value(), value.binary_value()) {
        (Some(text), _) => json!({"dataType": value.data_type(), "stringValue": text}),
        (None, Some(bytes)) => json!({"dataType": value.data_type(), "binaryValue": base64(bytes.as_ref())}),
        (None, None) => json!({"dataType": value.data_type()}),
    }
}

/// What became of the received messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Deleted from the queue.
    pub deleted: usize,
    /// Processed, but still in the queue because they could not be deleted. They will be written a second time.
    pub undeleted: usize,
}

/// Deletes the messages that have been written or quarantined, as far as the time of the invocation reaches.
pub async fn settle(
    client: &Client,
    queue_url: &str,
    received: &[Received],
    failed: &HashSet<String>,
    deadline_ms: u64,
) -> Settled {
    let done: Vec<&Received> = received.iter().filter(|message| !failed.contains(&message.message_id)).collect();
    let deleted = Cell::new(0);
    let deletes = done.chunks(BATCH_ENTRIES).map(|messages| async {
        let gone = delete(client, queue_url, messages).await;
        deleted.set(deleted.get() + gone);
    });
    in_time(deadline_ms, stream::iter(deletes).buffer_unordered(RECEIVERS).collect::<()>()).await;
    Settled { deleted: deleted.get(), undeleted: done.len() - deleted.get() }
}

/// Deletes up to ten messages and returns how many have been deleted.
async fn delete(client: &Client, queue_url: &str, messages: &[&Received]) -> usize {
    let mut left: Vec<&Received> = messages.to_vec();
    for _ in 0..DELETE_ATTEMPTS {
        let entries = left.iter().enumerate().filter_map(|(position, message)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(position.to_string())
                .receipt_handle(&message.receipt_handle)
                .build()
                .ok()
        });
        let request = client.delete_message_batch().queue_url(queue_url).set_entries(Some(entries.collect()));
        match request.send().await {
            Ok(answer) => {
                let failed: HashSet<&str> = answer.failed().iter().map(|entry| entry.id()).collect();
                let mut position = 0..;
                left.retain(|_| position.next().is_some_and(|position: usize| failed.contains(&*position.to_string())));
            }
            Err(error) => {
                let ids = some_of(left.iter().map(|message| message.message_id.as_str()));
                warn!(cause = cause(&error), ids, "processed messages could not be deleted");
            }
        }
        if left.is_empty() {
            break;
        }
    }
    messages.len() - left.len()
}
