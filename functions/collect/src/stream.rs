//! Events → Kinesis. Records that are not stored are retried until the time is over.

use std::{collections::HashSet, time::Duration};

use aws_sdk_kinesis::{
    Client,
    error::{ProvideErrorMetadata as _, SdkError},
    operation::put_records::PutRecordsError,
    primitives::Blob,
    types::{PutRecordsRequestEntry, PutRecordsResultEntry},
};
use runtime::{failure, pause::jittered};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::event::Event;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The result of storing the events of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// Positions of the events that are not known to be stored.
    pub failed: Vec<usize>,
    /// Number of retries of records.
    pub retried: usize,
    /// Size of the stored events.
    pub bytes: usize,
}

/// Most records of a call, and most bytes of them. Source: `PutRecords`, Amazon Kinesis API reference.
const MOST_RECORDS: usize = 500;
const MOST_BYTES: usize = 5 << 20;

/// Stores events until `until`. Only the records that Kinesis rejected are sent again.
pub async fn put(client: &Client, stream: &str, events: &[Event], until: Instant) -> Stored {
    let mut waiting: Vec<usize> = (0..events.len()).collect();
    let (mut pause, mut retried) = (FIRST_PAUSE, 0);
    while !waiting.is_empty() {
        let batch = fitting(events, &waiting);
        let rejected = match timeout_at(until, attempt(client, stream, events, batch)).await {
            Ok(Ok(rejected)) => rejected,
            Ok(Err(cause)) => {
                warn!(%cause, records = batch.len(), "records not stored, retrying");
                batch.iter().copied().collect()
            }
            Err(_) => break,
        };
        let number = batch.len();
        waiting = waiting
            .iter()
            .enumerate()
            .filter(|(at, position)| *at >= number || rejected.contains(position))
            .map(|(_, position)| *position)
            .collect();
        if waiting.is_empty() || rejected.is_empty() {
            continue;
        }
        if Instant::now() + pause >= until {
            break;
        }
        retried += waiting.len();
        sleep(jittered(pause)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    let failed: HashSet<usize> = waiting.iter().copied().collect();
    let stored = events.iter().enumerate().filter(|(position, _)| !failed.contains(position));
    Stored { bytes: stored.map(|(_, event)| event.line.len()).sum(), failed: waiting, retried }
}

/// The first of the events at `positions`, as many as fit into a call.
fn fitting<'p>(events: &[Event], positions: &'p [usize]) -> &'p [usize] {
    let mut bytes = 0;
    let fits = |position: &&usize| {
        bytes += events.get(**position).map_or(0, |event| event.line.len() + event.partition_key.len());
        bytes <= MOST_BYTES
    };
    let number = positions.iter().take(MOST_RECORDS).take_while(fits).count().max(1);
    positions.get(..number).unwrap_or(positions)
}

/// Sends the events at `positions` once and returns the positions of those that were rejected.
async fn attempt(
    client: &Client,
    stream: &str,
    events: &[Event],
    positions: &[usize],
) -> Result<HashSet<usize>, String> {
    let mut records = Vec::with_capacity(positions.len());
    for position in positions {
        let Some(event) = events.get(*position) else { continue };
        let record = PutRecordsRequestEntry::builder().data(Blob::new(event.line.clone()));
        let record = record.partition_key(&event.partition_key).build();
        records.push(record.map_err(|error| error.to_string())?);
    }
    let answer = client.put_records().stream_name(stream).set_records(Some(records)).send().await;
    let answer = answer.map_err(|error| cause(&error))?;
    // The answer has one entry for each record, in the same order. Without one, the record is not known to be stored.
    let is_stored = |entry: Option<&PutRecordsResultEntry>| entry.is_some_and(|entry| entry.error_code().is_none());
    let answers = (0..positions.len()).map(|at| answer.records().get(at));
    Ok(positions.iter().zip(answers).filter(|(_, entry)| !is_stored(*entry)).map(|(position, _)| *position).collect())
}

/// The cause of an error for the log, without the message of Kinesis, which may quote a record.
fn cause(error: &SdkError<PutRecordsError>) -> String {
    match error {
        SdkError::ServiceError(service) => {
            error.code().map_or_else(|| format!("status {}", service.raw().status().as_u16()), str::to_owned)
        }
        other => failure::cause(other),
    }
}
