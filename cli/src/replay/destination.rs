//! Where quarantined records go back to: a queue, or the stream that they came from.

use aws_sdk_kinesis::{primitives::Blob, types::PutRecordsRequestEntry};
use serde::Deserialize;
use shared::quarantine::QuarantineRecord;

use super::message::{self, SetAttribute, Unsendable};
use crate::queue::{self, ATTEMPTS, BATCH_BYTES, BATCH_ENTRIES, Delivery, Outgoing, Queue};

/// Most characters of a partition key. Kinesis refuses a whole request for one key that is longer or empty.
const KEY_CHARS: usize = 256;
/// Most bytes of a record that every stream takes, partition key included.
const RECORD_BYTES: usize = 1 << 20;

#[expect(async_fn_in_trait, reason = "the command runs on a single thread")]
pub trait Destination {
    type Message;
    /// Most messages in one request.
    const ENTRIES: usize;
    /// Most bytes in one request.
    const BYTES: usize;

    /// The URL of the queue, or the name of the stream.
    fn name(&self) -> &str;

    /// The message that the record was.
    fn of_record(&self, record: &QuarantineRecord) -> Result<Self::Message, Unsendable>;

    fn bytes(message: &Self::Message) -> usize;

    /// Sends messages in one request, and those that failed again. Says of each what became of it.
    async fn send(&self, messages: &[&Self::Message]) -> Vec<Delivery>;
}

#[derive(Debug)]
pub struct ToQueue<'a> {
    pub client: &'a aws_sdk_sqs::Client,
    pub queue: Queue,
    /// Attributes that every message is sent with.
    pub set: &'a [SetAttribute],
}

impl Destination for ToQueue<'_> {
    type Message = Outgoing;
    const ENTRIES: usize = BATCH_ENTRIES;
    const BYTES: usize = BATCH_BYTES;

    fn name(&self) -> &str {
        &self.queue.url
    }

    fn of_record(&self, record: &QuarantineRecord) -> Result<Outgoing, Unsendable> {
        message::of_record(record, self.set, self.queue.max_message_bytes)
    }

    fn bytes(message: &Outgoing) -> usize {
        message.bytes()
    }

    async fn send(&self, messages: &[&Outgoing]) -> Vec<Delivery> {
        queue::send(self.client, &self.queue.url, messages).await
    }
}

#[derive(Debug)]
pub struct ToStream<'a> {
    pub client: &'a aws_sdk_kinesis::Client,
    pub stream: String,
}

/// A record as it is put into a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRecord {
    partition_key: String,
    data: Vec<u8>,
}

/// What kafka-roller keeps with a record.
#[derive(Deserialize)]
struct Attributes {
    partition_key: String,
}

impl Destination for ToStream<'_> {
    type Message = StreamRecord;
    const ENTRIES: usize = 500;
    const BYTES: usize = 4 << 20;

    fn name(&self) -> &str {
        &self.stream
    }

    fn of_record(&self, record: &QuarantineRecord) -> Result<StreamRecord, Unsendable> {
        let data = record.body().ok_or(Unsendable::DamagedBody)?;
        if data.is_empty() {
            return Err(Unsendable::NoBody);
        }
        let Attributes { partition_key } =
            serde_json::from_str(record.attributes.get()).map_err(|_| Unsendable::MissingAttributes)?;
        if !(1..=KEY_CHARS).contains(&partition_key.chars().count()) {
            let problem = "Kinesis takes 1 to 256 characters";
            return Err(Unsendable::InvalidAttribute { name: "partition_key".to_owned(), problem });
        }
        let message = StreamRecord { partition_key, data };
        match Self::bytes(&message) {
            bytes if bytes > RECORD_BYTES => Err(Unsendable::TooLarge { bytes, most: RECORD_BYTES }),
            _ => Ok(message),
        }
    }

    fn bytes(message: &StreamRecord) -> usize {
        message.partition_key.len() + message.data.len()
    }

    async fn send(&self, messages: &[&StreamRecord]) -> Vec<Delivery> {
        let mut deliveries = vec![Delivery::Failed("it was not tried".to_owned()); messages.len()];
        for attempt in 0..ATTEMPTS {
            queue::pause_before(attempt).await;
            let left: Vec<usize> = (0..messages.len())
                .filter(|position| matches!(deliveries.get(*position), Some(Delivery::Failed(_))))
                .collect();
            if left.is_empty() {
                break;
            }
            self.put(messages, &left, &mut deliveries).await;
        }
        deliveries
    }
}

impl ToStream<'_> {
    /// Puts the records at `positions` once.
    async fn put(&self, messages: &[&StreamRecord], positions: &[usize], deliveries: &mut [Delivery]) {
        let entries = positions.iter().filter_map(|position| {
            let StreamRecord { partition_key, data } = messages.get(*position)?;
            let entry = PutRecordsRequestEntry::builder().partition_key(partition_key).data(Blob::new(data.clone()));
            entry.build().ok()
        });
        let request = self.client.put_records().stream_name(&self.stream).set_records(Some(entries.collect()));
        let answer = request.send().await.map_err(|error| runtime::failure::cause(&error));
        for (at, position) in positions.iter().enumerate() {
            // The answer has one entry for each record, in the same order.
            let entry = answer.as_ref().map(|answer| answer.records().get(at));
            let delivery = match entry {
                Ok(Some(entry)) => match (entry.sequence_number(), entry.error_code()) {
                    (Some(number), None) => Delivery::Sent(number.to_owned()),
                    (_, code) => Delivery::Failed(code.unwrap_or("Kinesis did not say why").to_owned()),
                },
                Ok(None) => Delivery::Failed("Kinesis did not say what became of it".to_owned()),
                Err(cause) => Delivery::Failed(cause.clone()),
            };
            if let Some(slot) = deliveries.get_mut(*position) {
                *slot = delivery;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kit::http::{self, respond_json};
    use serde_json::{json, value::to_raw_value};
    use shared::quarantine::base64;

    use super::*;
    use crate::canned::services;

    fn record(body: &[u8], attributes: &serde_json::Value) -> QuarantineRecord {
        QuarantineRecord {
            function: "kafka-roller".into(),
            reason: "missing_table".into(),
            detail: String::new(),
            id: "shardId-0:1".into(),
            sent_at: None,
            attributes: to_raw_value(attributes).unwrap(),
            body_base64: base64(body),
        }
    }

    #[tokio::test]
    async fn only_records_that_the_stream_rejected_are_put_again() {
        let mut calls = 0;
        let context = services(move |request| {
            let request = http::json(request);
            assert_eq!(request["StreamName"], "topics");
            let records = request["Records"].as_array().unwrap();
            calls += 1;
            assert_eq!(records.len(), if calls == 1 { 3 } else { 1 });
            let entries = records.iter().map(|record| match (calls, record["PartitionKey"].as_str().unwrap()) {
                (1, "b") => json!({"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow"}),
                _ => json!({"SequenceNumber": "7", "ShardId": "shardId-0"}),
            });
            respond_json(200, &json!({"FailedRecordCount": 0, "Records": entries.collect::<Vec<_>>()}))
        })
        .await;
        let to = ToStream { client: &context.clients.kinesis, stream: "topics".to_owned() };
        let records: Vec<StreamRecord> = ["a", "b", "c"]
            .iter()
            .map(|key| to.of_record(&record(b"{}", &json!({"partition_key": key}))).unwrap())
            .collect();
        let sent = to.send(&records.iter().collect::<Vec<_>>()).await;
        assert_eq!(sent, vec![Delivery::Sent("7".to_owned()); 3]);
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_put_is_told_before() {
        let context = services(|_| panic!("nothing is sent")).await;
        let to = ToStream { client: &context.clients.kinesis, stream: "topics".to_owned() };
        let of = |body: &[u8], attributes| to.of_record(&record(body, &attributes)).map_err(|error| error.reason());
        assert_eq!(of(b"", json!({"partition_key": "a"})), Err("no_body"));
        assert_eq!(of(b"x", json!({})), Err("missing_attributes"));
        for key in [String::new(), "k".repeat(257)] {
            assert_eq!(of(b"x", json!({"partition_key": key})), Err("invalid_attribute"));
        }
        assert_eq!(of(&[0; RECORD_BYTES], json!({"partition_key": "a"})), Err("too_large"));
        assert_eq!(of(b"\xff", json!({"partition_key": "a"})).unwrap().data, b"\xff");
    }
}
