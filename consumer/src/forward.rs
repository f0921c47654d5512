//! Batches to SQS, and what becomes of each message: acknowledged when SQS has it, returned to its queue when SQS failed it,
//! quarantined and acknowledged when SQS can never take it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_sqs::{
    primitives::Blob,
    types::{MessageAttributeValue, SendMessageBatchRequestEntry},
};
use futures_util::future::join_all;
use lapin::{
    Acker,
    options::{BasicAckOptions, BasicNackOptions},
};
use objects::{S3, quarantine};
use runtime::{
    failure::{cause, code},
    pause::jittered,
};
use tokio::{
    sync::{Semaphore, mpsc},
    time::{sleep, timeout_at},
};
use tracing::{error, info, warn};

use crate::{
    SERVICE,
    config::Config,
    gate::Share,
    ledger::{Event, Ledger},
    message::{MOST_BYTES, Message, Poison, Value},
};

/// Most messages in one request.
const MOST_ENTRIES: usize = 10;
/// When an attempt of a request to AWS fails.
pub const ATTEMPT: Duration = Duration::from_secs(5);
/// The pause after a request failed. It doubles with each further failure, up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Before a message goes back to its queue, which delivers it again at once.
const REQUEUE_PAUSE: Duration = Duration::from_secs(1);
/// Most messages in one object of the quarantine, and most bytes of them.
const MOST_RECORDS: usize = 100;
const MOST_RECORD_BYTES: usize = 4 << 20;
/// Errors that one message causes: SQS would refuse it again.
const MESSAGE_FAULTS: [&str; 6] = [
    "AWS.SimpleQueueService.BatchRequestTooLong",
    "BatchRequestTooLong",
    "InvalidAttributeValue",
    "InvalidMessageContents",
    "InvalidParameterValue",
    "MessageTooLong",
];

/// A message in flight.
#[derive(Debug)]
pub struct Delivered {
    message: Message,
    acker: Acker,
    ledger: Arc<Ledger>,
    number: u64,
    /// Of the memory.
    _share: Share,
}

impl Delivered {
    /// Begins the flight of a message.
    #[must_use]
    pub fn new(message: Message, acker: Acker, ledger: &Arc<Ledger>, share: Share) -> Self {
        let number = ledger.begin(message.has_event_id());
        Self { message, acker, ledger: ledger.clone(), number, _share: share }
    }

    /// Tells the broker that the message is done.
    async fn ack(self) {
        let acked = self.acker.ack(BasicAckOptions::default()).await;
        self.ledger.count(if matches!(acked, Ok(true)) { Event::Acked } else { Event::Abandoned });
    }

    /// Tells the broker, after a pause, to deliver the message again.
    async fn requeue(self) {
        let exponent = u32::try_from(self.message.deliveries.min(4)).unwrap_or_default();
        sleep(jittered(REQUEUE_PAUSE * 2_u32.pow(exponent))).await;
        let nacked = self.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await;
        self.ledger.count(if matches!(nacked, Ok(true)) { Event::Requeued } else { Event::Abandoned });
    }
}

impl Drop for Delivered {
    fn drop(&mut self) {
        self.ledger.end(self.number);
    }
}

/// Everything that messages are forwarded with.
#[derive(Debug)]
pub struct Forwarder {
    config: Config,
    sqs: aws_sdk_sqs::Client,
    lake: S3,
    ledger: Arc<Ledger>,
    poison: mpsc::UnboundedSender<(Delivered, Poison)>,
}

/// The beginning of the way: where messages of the broker are put. Their number is limited by the prefetch.
#[derive(Debug, Clone)]
pub struct Inlet {
    good: mpsc::UnboundedSender<Delivered>,
    poison: mpsc::UnboundedSender<(Delivered, Poison)>,
}

impl Inlet {
    /// Takes a message.
    pub fn put(&self, delivered: Delivered, poison: Option<Poison>) {
        // Both ends are there until the process ends, and what is in flight then is delivered again.
        match poison {
            None => drop(self.good.send(delivered)),
            Some(poison) => drop(self.poison.send((delivered, poison))),
        }
    }
}

/// What became of an entry of a request.
enum Fate {
    Sent,
    Refused(String),
    Failed(String),
}

/// Starts forwarding.
#[must_use]
pub fn start(config: Config, sqs: aws_sdk_sqs::Client, lake: S3, ledger: Arc<Ledger>) -> Inlet {
    let (good, messages) = mpsc::unbounded_channel();
    let (poison, poisoned) = mpsc::unbounded_channel();
    let forwarder = Arc::new(Forwarder { config, sqs, lake, ledger, poison: poison.clone() });
    drop(tokio::spawn(forwarder.clone().batch(messages)));
    drop(tokio::spawn(forwarder.quarantine(poisoned)));
    Inlet { good, poison }
}

impl Forwarder {
    /// Makes batches, and sends as many at the same time as are allowed.
    async fn batch(self: Arc<Self>, mut messages: mpsc::UnboundedReceiver<Delivered>) {
        let senders = Arc::new(Semaphore::new(self.config.senders));
        let mut next = None;
        loop {
            let Some(first) = (match next.take() {
                Some(first) => Some(first),
                None => messages.recv().await,
            }) else {
                return;
            };
            let deadline = tokio::time::Instant::now() + self.config.batch_wait;
            let mut bytes = first.message.bytes();
            let mut batch = vec![first];
            while batch.len() < MOST_ENTRIES {
                let Ok(Some(message)) = timeout_at(deadline, messages.recv()).await else { break };
                bytes += message.message.bytes();
                if bytes > MOST_BYTES {
                    next = Some(message);
                    break;
                }
                batch.push(message);
            }
            let Ok(permit) = senders.clone().acquire_owned().await else { return };
            let forwarder = self.clone();
            drop(tokio::spawn(async move {
                forwarder.send(batch).await;
                drop(permit);
            }));
        }
    }

    /// Sends a batch until SQS has said of each message what becomes of it.
    async fn send(&self, mut batch: Vec<Delivered>) {
        let begun = Instant::now();
        let mut pause = PAUSE;
        loop {
            batch = self.without_abandoned(batch);
            if batch.is_empty() {
                return;
            }
            match self.request(&batch).await {
                Ok(fates) => return self.settle(batch, fates).await,
                Err(Refusal { cause, is_fault: true }) => {
                    if batch.len() == 1 {
                        return self.settle(batch, vec![Fate::Refused(cause)]).await;
                    }
                    // One message spoils the request for all: each gets its own.
                    for message in batch {
                        Box::pin(self.send(vec![message])).await;
                    }
                    return;
                }
                Err(Refusal { cause, is_fault: false }) => {
                    self.ledger.count(Event::RequestFailed);
                    if begun.elapsed() >= self.config.hold {
                        error!(%cause, messages = batch.len(), "SQS takes no messages; they go back to their queue");
                        let fates = batch.iter().map(|_| Fate::Failed(cause.clone())).collect();
                        return self.settle(batch, fates).await;
                    }
                    warn!(%cause, messages = batch.len(), pause_ms = pause.as_millis(), "SQS takes no messages");
                    // Held, not returned: a quorum queue counts deliveries, and an outage is no fault of a message.
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Leaves out what the broker has taken back, since the connection was lost: it is delivered again.
    fn without_abandoned(&self, batch: Vec<Delivered>) -> Vec<Delivered> {
        let (usable, abandoned): (Vec<_>, Vec<_>) = batch.into_iter().partition(|message| message.acker.usable());
        abandoned.iter().for_each(|_| self.ledger.count(Event::Abandoned));
        usable
    }

    /// One request, and the fate of each message.
    async fn request(&self, batch: &[Delivered]) -> Result<Vec<Fate>, Refusal> {
        let entries = batch.iter().enumerate().filter_map(|(position, delivered)| entry(position, &delivered.message));
        let request = self.sqs.send_message_batch().queue_url(&self.config.queue_url);
        let answer = request.set_entries(Some(entries.collect())).send().await.map_err(|error| Refusal {
            is_fault: code(&error).is_some_and(|code| MESSAGE_FAULTS.contains(&code)),
            cause: cause(&error),
        })?;
        // An entry that the answer does not mention counts as not sent: twice is better than never.
        let silent = || Fate::Failed("SQS did not say what became of it".to_owned());
        let mut fates: Vec<Fate> = batch.iter().map(|_| silent()).collect();
        let mut set = |id: &str, fate| {
            if let Some(slot) = id.parse::<usize>().ok().and_then(|position| fates.get_mut(position)) {
                *slot = fate;
            }
        };
        for sent in answer.successful() {
            set(sent.id(), Fate::Sent);
        }
        for failed in answer.failed() {
            let cause = match failed.message() {
                Some(message) => format!("{}: {message}", failed.code()),
                None => failed.code().to_owned(),
            };
            // Other faults of the sender, such as a key that it may not use, are not in the message.
            let is_fault = failed.sender_fault() && MESSAGE_FAULTS.contains(&failed.code());
            set(failed.id(), if is_fault { Fate::Refused(cause) } else { Fate::Failed(cause) });
        }
        Ok(fates)
    }

    /// Tells the broker what became of each message, or hands it to the quarantine.
    async fn settle(&self, batch: Vec<Delivered>, fates: Vec<Fate>) {
        let mut done = Vec::with_capacity(batch.len());
        let mut failed = None;
        for (delivered, fate) in batch.into_iter().zip(fates) {
            match fate {
                Fate::Sent => {
                    self.ledger.count(Event::Sent);
                    done.push(delivered.ack());
                }
                Fate::Refused(cause) => drop(self.poison.send((delivered, Poison::RefusedBySqs(cause)))),
                Fate::Failed(cause) => {
                    failed = Some(cause);
                    let deliveries = delivered.message.deliveries + 1;
                    if deliveries >= self.config.max_deliveries {
                        drop(self.poison.send((delivered, Poison::TooManyDeliveries(deliveries))));
                    } else {
                        drop(tokio::spawn(delivered.requeue()));
                    }
                }
            }
        }
        if let Some(cause) = failed {
            info!(%cause, "messages that SQS failed go back to their queue");
        }
        join_all(done).await;
    }

    /// Writes messages that SQS can never take to the quarantine, then acknowledges them.
    async fn quarantine(self: Arc<Self>, mut poisoned: mpsc::UnboundedReceiver<(Delivered, Poison)>) {
        while let Some(first) = poisoned.recv().await {
            let mut bytes = first.0.message.bytes();
            let mut all = vec![first];
            while all.len() < MOST_RECORDS && bytes < MOST_RECORD_BYTES {
                let Ok(next) = poisoned.try_recv() else { break };
                bytes += next.0.message.bytes();
                all.push(next);
            }
            self.keep(all).await;
        }
    }

    async fn keep(&self, all: Vec<(Delivered, Poison)>) {
        let mut kept = Vec::with_capacity(all.len());
        let mut records = Vec::with_capacity(all.len());
        for (mut delivered, poison) in all {
            match delivered.message.quarantined(&poison) {
                Ok(record) => {
                    // The record has the body now, and two copies of a large one would count twice in the memory.
                    delivered.message.body = String::new();
                    records.push((kept.len(), record));
                    kept.push(delivered);
                }
                Err(cause) => {
                    error!(%cause, id = delivered.message.id, "a message could not be written as JSON");
                    drop(tokio::spawn(delivered.requeue()));
                }
            }
        }
        let quarantined = quarantine::keep(&self.lake, SERVICE, records).await;
        self.ledger.quarantined(quarantined.kept);
        let (mut done, mut failed) = (Vec::new(), quarantined.failed);
        failed.sort_unstable();
        for (position, delivered) in kept.into_iter().enumerate() {
            if failed.binary_search(&position).is_ok() {
                drop(tokio::spawn(delivered.requeue()));
            } else {
                done.push(delivered.ack());
            }
        }
        join_all(done).await;
    }
}

/// Why a whole request failed.
struct Refusal {
    cause: String,
    /// Whether a message in it is the cause.
    is_fault: bool,
}

fn entry(position: usize, message: &Message) -> Option<SendMessageBatchRequestEntry> {
    let mut entry = SendMessageBatchRequestEntry::builder().id(position.to_string()).message_body(&message.body);
    for (name, value) in &message.attributes {
        let builder = MessageAttributeValue::builder();
        let value = match value {
            Value::String(text) => builder.data_type("String").string_value(text),
            Value::Number(digits) => builder.data_type("Number").string_value(digits),
            Value::Binary(bytes) => builder.data_type("Binary").binary_value(Blob::new(bytes.clone())),
        };
        entry = entry.message_attributes(name, value.build().ok()?);
    }
    entry.build().ok()
}
