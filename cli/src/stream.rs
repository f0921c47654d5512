//! Kinesis: the shards of a stream, and reading one of them from a record on.

use std::{collections::HashMap, time::Duration};

use aws_sdk_kinesis::{
    Client,
    primitives::DateTime,
    types::{Record, ShardIteratorType},
};
use tokio::time::{Instant, sleep, sleep_until};

use runtime::failure::{cause, code};

/// A shard answers five reads a second, to all readers together.
const BETWEEN_READS: Duration = Duration::from_millis(200);
/// Attempts at a throttled read, each of which the SDK has retried already.
const ATTEMPTS: u32 = 8;
/// The wait before the second attempt; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(500);
const THROTTLES: [&str; 3] =
    ["ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException"];

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    #[error("stream {0} does not exist")]
    Missing(String),
    #[error("stream {stream} cannot be read: {call}: {cause}")]
    Call { stream: String, call: &'static str, cause: String },
}

fn failed(stream: &str, call: &'static str, code: Option<&str>, cause: String) -> StreamError {
    match code {
        Some("ResourceNotFoundException") => StreamError::Missing(stream.to_owned()),
        _ => StreamError::Call { stream: stream.to_owned(), call, cause },
    }
}

/// The shards whose records the stream still has, and the number of digits of their sequence numbers: 56 in Kinesis;
/// emulators use fewer, with leading zeros, and accept no others.
pub async fn shards(client: &Client, stream: &str) -> Result<HashMap<String, usize>, StreamError> {
    let mut shards = HashMap::new();
    let mut request = client.list_shards().stream_name(stream);
    loop {
        let answer = request.send().await.map_err(|error| failed(stream, "ListShards", code(&error), cause(&error)))?;
        for shard in answer.shards() {
            let digits = shard.sequence_number_range().map_or(0, |range| range.starting_sequence_number().len());
            shards.insert(shard.shard_id().to_owned(), digits);
        }
        let Some(next) = answer.next_token else { return Ok(shards) };
        request = client.list_shards().next_token(next);
    }
}

/// How far the first record behind this one is from the end of its shard, by Kinesis, in milliseconds; 0 if there is none.
pub async fn behind(
    client: &Client,
    stream: &str,
    shard: &str,
    sequence_number: &str,
) -> Result<Option<i64>, StreamError> {
    let request = client.get_shard_iterator().stream_name(stream).shard_id(shard);
    let after = request.clone().shard_iterator_type(ShardIteratorType::AfterSequenceNumber);
    let answer = match after.starting_sequence_number(sequence_number).send().await {
        Err(error) if code(&error) == Some("InvalidArgumentException") => {
            request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await
        }
        answer => answer,
    };
    let answer = answer.map_err(|error| failed(stream, "GetShardIterator", code(&error), cause(&error)))?;
    let Some(iterator) = answer.shard_iterator else { return Ok(Some(0)) };
    let answer = client.get_records().shard_iterator(iterator).limit(1).send().await;
    let answer = answer.map_err(|error| failed(stream, "GetRecords", code(&error), cause(&error)))?;
    Ok(answer.millis_behind_latest)
}

/// Where reading begins.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// The oldest record that the stream has.
    Oldest,
    /// The first record that arrived at this time or later, in Unix milliseconds.
    Time(i64),
}

/// Reads a shard in order.
#[derive(Debug)]
pub struct Reader<'a> {
    client: &'a Client,
    stream: &'a str,
    iterator: Option<String>,
    next_read: Instant,
}

impl<'a> Reader<'a> {
    /// Begins with the record of this sequence number or, when the stream no longer has it, with the oldest that is
    /// left.
    pub async fn at(
        client: &'a Client,
        stream: &'a str,
        shard: &str,
        sequence_number: &str,
    ) -> Result<Self, StreamError> {
        let request = client.get_shard_iterator().stream_name(stream).shard_id(shard);
        let at = request.clone().shard_iterator_type(ShardIteratorType::AtSequenceNumber);
        let answer = match at.starting_sequence_number(sequence_number).send().await {
            // Not documented for a record that is gone; to be on the safe side.
            Err(error) if code(&error) == Some("InvalidArgumentException") => {
                request.shard_iterator_type(ShardIteratorType::TrimHorizon).send().await
            }
            answer => answer,
        };
        let answer = answer.map_err(|error| failed(stream, "GetShardIterator", code(&error), cause(&error)))?;
        Ok(Self { client, stream, iterator: answer.shard_iterator, next_read: Instant::now() })
    }

    /// Begins with the oldest record or at a time.
    pub async fn from(client: &'a Client, stream: &'a str, shard: &str, start: Start) -> Result<Self, StreamError> {
        let request = client.get_shard_iterator().stream_name(stream).shard_id(shard);
        let request = match start {
            Start::Oldest => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            Start::Time(ms) => {
                request.shard_iterator_type(ShardIteratorType::AtTimestamp).timestamp(DateTime::from_millis(ms))
            }
        };
        let answer = request.send().await;
        let answer = answer.map_err(|error| failed(stream, "GetShardIterator", code(&error), cause(&error)))?;
        Ok(Self { client, stream, iterator: answer.shard_iterator, next_read: Instant::now() })
    }

    /// The next records, possibly none; `None` at the end of a closed shard, or when there are no newer records.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, StreamError> {
        let Some(iterator) = self.iterator.take() else { return Ok(None) };
        let mut pause = BACKOFF;
        for attempt in 1.. {
            sleep_until(self.next_read).await;
            let answer = self.client.get_records().shard_iterator(&iterator).send().await;
            self.next_read = Instant::now() + BETWEEN_READS;
            match answer {
                Ok(answer) => {
                    let is_now = answer.records.is_empty() && answer.millis_behind_latest == Some(0);
                    self.iterator = answer.next_shard_iterator.filter(|_| !is_now);
                    return Ok(Some(answer.records));
                }
                Err(error) if attempt < ATTEMPTS && code(&error).is_some_and(|code| THROTTLES.contains(&code)) => {
                    sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(failed(self.stream, "GetRecords", code(&error), cause(&error))),
            }
        }
        Ok(None)
    }
}
