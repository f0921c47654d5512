//! Which records of a shard were staged, and which wait in objects that Lambda has written.

use std::collections::BTreeSet;

use aws_sdk_kinesis::types::Record;
use futures_util::{StreamExt, TryStreamExt, stream};
use objects::{Bucket, BucketError, S3};
use rolling::{
    batch::Batch,
    discarded::{self, Discarded, MAX_EVENT_BYTES},
    event,
    journal::{Interval, Journal, intervals},
    replay::{Known, NotLanded},
    shard::{STATE, ShardId, State},
};
use shared::position::Position;

use super::{AuditError, CONCURRENT_S3_REQUESTS};

/// What is known of the records of a shard from a position on.
#[derive(Debug)]
pub struct Staged {
    pub id: ShardId,
    pub state: State,
    segments: Vec<Interval>,
    /// What was landed out of band, or is being landed.
    pub replays: Vec<Interval>,
}

/// Objects like those of Lambda that wait to be landed.
#[derive(Debug, Default)]
pub struct Waiting {
    /// The records of the shard in them.
    pub positions: BTreeSet<Position>,
    /// The keys of those that cannot be read, and why.
    pub unreadable: Vec<(String, String)>,
}

/// Whether a record is too large for Lambda ever to have passed it on.
pub fn is_large(record: &Record) -> bool {
    record.data().as_ref().len().div_ceil(3) * 4 > MAX_EVENT_BYTES
}

impl Staged {
    /// Reads the journal. The state has to be read before it, so that what it has forgotten since is there.
    pub async fn since(lake: &S3, id: &ShardId, state: &State, from: Position) -> Result<Self, AuditError> {
        let begun = state.replays.iter().map(|replay| replay.interval);
        Ok(Self {
            segments: journaled(lake, id, Journal::Segments, from).await?,
            replays: begun.chain(journaled(lake, id, Journal::Replays, from).await?).collect(),
            id: id.clone(),
            state: state.clone(),
        })
    }

    /// The same with the state as it is now.
    pub async fn now(lake: &S3, id: &ShardId, from: Position) -> Result<Self, AuditError> {
        let key = id.key(STATE);
        let bytes = lake.get(&key, None).await?;
        let state = State::of_bytes(&bytes).map_err(|cause| AuditError::State(key, cause))?;
        Self::since(lake, id, &state, from).await
    }

    /// Those records of a batch that were never staged, as intervals. With `large`, all of them are [large](is_large), otherwise none. Of
    /// those at or before [`known_from`](Self::known_from), no interval says anything.
    pub fn missing(&self, batch: &Batch, large: bool) -> Result<Vec<Interval>, NotLanded> {
        let known = Known {
            segments: self.segments.clone(),
            replays: self.replays.clone(),
            never_delivered: large,
            even_if_landed: true,
        };
        self.state.missing(batch, &known)
    }

    /// Those records of a batch that are not in the files of their windows, because Lambda gave them up: whether they were landed out of band or
    /// not. None of the batch may be [large](is_large).
    pub fn outside(&self, batch: &Batch) -> Result<BTreeSet<Position>, NotLanded> {
        let known = Known {
            segments: self.segments.clone(),
            replays: Vec::new(),
            never_delivered: false,
            even_if_landed: true,
        };
        let windows = State { replays: Vec::new(), ..self.state.clone() };
        let missing = windows.missing(batch, &known)?;
        let known_from = self.known_from();
        let is_outside = |at: &Position| {
            let is_in = |intervals: &[Interval]| intervals.iter().any(|interval| interval.covers(*at));
            is_in(&missing) && (*at > known_from || is_in(&self.replays))
        };
        Ok(batch.times().map(|(position, _)| position).filter(is_outside).collect())
    }

    /// Behind this position, each record that was staged is in an interval.
    pub fn known_from(&self) -> Position {
        self.state.intervals_after.unwrap_or(self.state.tail)
    }
}

async fn journaled(lake: &S3, id: &ShardId, journal: Journal, from: Position) -> Result<Vec<Interval>, AuditError> {
    let is_ours = |key: &str| journal.parse(id, key).is_some();
    let listed = lake.list_while(&journal.folder(id), Some(&journal.before(id, from)), is_ours).await?;
    let read = listed.iter().map(async |object| {
        let bytes = lake.get(&object.key, None).await?;
        intervals(&bytes).map_err(|cause| AuditError::Journal(object.key.clone(), cause.to_string()))
    });
    let read: Vec<Vec<Interval>> = stream::iter(read).buffered(CONCURRENT_S3_REQUESTS).try_collect().await?;
    Ok(read.into_iter().flatten().collect())
}

/// The records of a shard that Lambda has given up and written to the lake.
pub async fn waiting(lake: &S3, id: &ShardId) -> Result<Waiting, AuditError> {
    let mut waiting = Waiting::default();
    for object in lake.list(discarded::FOLDER).await? {
        if object.key.split('/').nth(3) != Some(id.shard.as_str()) {
            continue;
        }
        let body = match lake.get(&object.key, None).await {
            // It has been landed since the listing.
            Err(BucketError::Missing { .. }) => continue,
            body => body?,
        };
        let mut positions = Vec::new();
        let read = Discarded::of_bytes(&body).map_err(|cause| cause.to_string()).and_then(|discarded| {
            let read = event::read_json(&discarded.event, |record| positions.push(record.position));
            read.map_err(|cause| cause.to_string())
        });
        match read {
            Ok(Some(shard)) if shard.id == *id => waiting.positions.extend(positions),
            Ok(_) => {}
            Err(cause) => waiting.unreadable.push((object.key, cause)),
        }
    }
    Ok(waiting)
}
