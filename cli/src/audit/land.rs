//! Lands what the stream has and nothing ever staged: hands the records to kafka-roller in an object like those of Lambda, as `landfall replay
//! discarded` does. The function decides once more which of them were staged, so no record lands twice, whoever repairs or replays meanwhile.

use std::mem;

use aws_sdk_kinesis::types::Record;
use jiff::tz::TimeZone;
use objects::{Attributes, Bucket, BucketError, S3};
use rolling::{discarded::FOLDER, shard::ShardId};
use serde_json::json;
use shared::{position::Position, quarantine::base64};

use super::{
    against::Missing,
    repair::{RepairError, arrived_ms},
    staged::is_large,
};
use crate::{console::Progress, context::Context, replay::discarded, stream::Reader};

/// Where the id of an event source mapping is in the keys of Lambda's objects.
const BY_AUDIT: &str = "landfall-audit";
/// Most bytes of an event, unless a single record has more: less than the function takes for one that Lambda could not deliver.
const MAX_BYTES: usize = 4 << 20;

/// Records that were never staged, and where they are.
#[derive(Debug, Clone)]
pub struct NotStaged {
    pub id: ShardId,
    /// The stream's ARN, if the state knows it.
    pub stream_arn: Option<String>,
    /// The number of digits of sequence numbers.
    pub digits: usize,
    pub missing: Missing,
}

#[derive(Debug)]
pub struct Lander<'a> {
    pub context: &'a Context,
    /// The bucket that kafka-roller stages records in.
    pub lake: &'a S3,
    /// kafka-roller.
    pub function: &'a str,
    pub progress: &'a Progress,
}

impl Lander<'_> {
    /// Lands the records, and returns how many things kafka-roller has left to its next tick. `Err` means that those that are not landed can be
    /// found again, unless the stream has forgotten them.
    pub async fn land(&self, not_staged: &NotStaged) -> Result<usize, RepairError> {
        let NotStaged { id, stream_arn, digits, missing } = not_staged;
        let stream_arn = stream_arn.as_deref().ok_or(RepairError::NoArn)?;
        let begin = format!("{:0>digits$}", missing.first.sequence_number());
        let client = &self.context.clients.kinesis;
        let mut reader = Reader::at(client, id.stream.as_str(), id.shard.as_str(), &begin).await?;
        let (wanted, mut batch) = (missing.first.record()..=missing.range.up_to.record(), Batch::default());
        let (mut is_whole, mut unfinished) = (false, 0);
        'stream: while let Some(records) = reader.next().await? {
            if self.context.interrupt.is_set() {
                return Err(RepairError::Interrupted);
            }
            self.progress.add(records.len());
            for record in &records {
                let position = Position::of_sequence_number(record.sequence_number())?;
                is_whole |= position <= *wanted.start();
                if position > *wanted.end() {
                    break 'stream;
                }
                if !wanted.contains(&position) {
                    continue;
                }
                let one = of_event(record, stream_arn, id)?;
                if is_large(record) {
                    // The function takes an object with more than an event can hold for one that was never delivered. Its neighbours
                    // go first, so that no interval spans it.
                    unfinished += self.hand_over(id, &mem::take(&mut batch)).await?;
                    unfinished += self.hand_over(id, &Batch { first: Some(position), records: one }).await?;
                    continue;
                }
                if batch.records.len() + one.len() > MAX_BYTES {
                    unfinished += self.hand_over(id, &mem::take(&mut batch)).await?;
                }
                batch.add(position, &one);
            }
        }
        unfinished += self.hand_over(id, &batch).await?;
        if is_whole { Ok(unfinished) } else { Err(RepairError::Trimmed) }
    }

    async fn hand_over(&self, id: &ShardId, batch: &Batch) -> Result<usize, RepairError> {
        let Some(first) = batch.first else { return Ok(0) };
        let now = self.context.now.to_zoned(TimeZone::UTC).strftime("%Y/%m/%d/%Y-%m-%dT%H.%M.%S%.3f");
        let key = format!("{FOLDER}{BY_AUDIT}/{}/{now}-{first}", id.shard);
        // The payload is a text, as in the example of Lambda's guide.
        let event = format!("{{\"Records\":[{}]}}", batch.records);
        let body = json!({"requestContext": {"condition": "FoundByAudit"}, "payload": event}).to_string();
        let attributes = Attributes { content_type: "application/json", metadata: Vec::new() };
        // If it exists, the answer to this request was lost: nobody else makes such a key.
        self.lake.create(&key, body.into(), &attributes).await?;
        let unfinished = match discarded::land(self.function, &key, false, self.context).await {
            Ok(replayed) => replayed.unfinished,
            // Whoever has deleted it has landed it: `landfall replay discarded`.
            Err(_) if matches!(self.lake.head(&key).await, Err(BucketError::Missing { .. })) => return Ok(0),
            Err(cause) => return Err(RepairError::NotLanded(cause)),
        };
        self.lake.delete(&[key]).await?;
        Ok(unfinished)
    }
}

/// Records for one event.
#[derive(Debug, Default)]
struct Batch {
    /// Position of the first.
    first: Option<Position>,
    /// As JSON, with commas between them.
    records: String,
}

impl Batch {
    fn add(&mut self, position: Position, record: &str) {
        if self.first.is_some() {
            self.records.push(',');
        }
        self.first.get_or_insert(position);
        self.records.push_str(record);
    }
}

/// A record of the stream as Lambda would have passed it on.
fn of_event(record: &Record, stream_arn: &str, id: &ShardId) -> Result<String, RepairError> {
    let sequence_number = record.sequence_number();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit")]
    let arrived = arrived_ms(record)? as f64 / 1_000.0;
    let record = json!({
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": record.partition_key().unwrap_or_default(),
            "sequenceNumber": sequence_number,
            "data": base64(record.data().as_ref()),
            "approximateArrivalTimestamp": arrived,
        },
        "eventSource": "aws:kinesis",
        "eventID": format!("{}:{sequence_number}", id.shard),
        "eventSourceARN": stream_arn,
    });
    Ok(record.to_string())
}
