//! The state of a shard in S3: read, and replaced only if nobody else has replaced it.

use objects::{Attributes, Bucket, BucketError, Created};
use rolling::{
    journal::{Interval, Journal},
    shard::{Listing, STATE, ShardId, State, StateError},
};
use tracing::{info, warn};

use crate::{app::App, error::RollError};

/// No invocation of a Lambda function runs for longer.
const TAKEN_OVER_AFTER_MS: i64 = 900_000;

/// A state as it was read.
#[derive(Debug, Clone)]
pub struct Held {
    pub state: State,
    /// The ETag of its object; `None` if there is none yet.
    e_tag: Option<String>,
}

impl Held {
    /// Whether there is no object of it yet.
    pub fn is_new(&self) -> bool {
        self.e_tag.is_none()
    }
}

/// Reads the state of a shard. A shard without one is new, or has the layout of an earlier version, which is taken over.
pub async fn load<B: Bucket>(app: &App<B>, id: &ShardId) -> Result<Held, RollError> {
    match read(app, id).await? {
        Some(held) => Ok(held),
        None => take_over(id, &list(app, id).await?),
    }
}

/// The same, but `None` if there is nothing to do yet. A tick takes a shard over when nothing was written there for so long before
/// `now_ms` that no invocation of the earlier version is running any more.
pub async fn load_if_quiet<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    now_ms: Option<i64>,
) -> Result<Option<Held>, RollError> {
    if let Some(held) = read(app, id).await? {
        return Ok(Some(held));
    }
    let listing = list(app, id).await?;
    let is_long_ago = |written| now_ms.is_some_and(|now| now.saturating_sub(written) > TAKEN_OVER_AFTER_MS);
    let is_quiet = listing.written_ms.is_none_or(is_long_ago);
    if !listing.lost_its_state() && (listing.earlier.is_empty() || !is_quiet) {
        return Ok(None);
    }
    take_over(id, &listing).map(Some)
}

/// The state of a shard, if it has one.
pub(crate) async fn read<B: Bucket>(app: &App<B>, id: &ShardId) -> Result<Option<Held>, RollError> {
    let key = id.key(STATE);
    match app.lake.get_tagged(&key).await {
        Ok((bytes, e_tag)) => {
            let state = State::of_bytes(&bytes).map_err(|cause| RollError::State(key, cause))?;
            Ok(Some(Held { state, e_tag: Some(e_tag) }))
        }
        Err(BucketError::Missing { .. }) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// What is in the folder of a shard.
pub async fn list<B: Bucket>(app: &App<B>, id: &ShardId) -> Result<Listing, RollError> {
    let (folder, mut listing) = (id.folder(), Listing::default());
    for object in app.lake.list(&folder).await? {
        if !listing.add(object.key.strip_prefix(&folder).unwrap_or_default(), object.modified_ms) {
            warn!(object.key, "the staging folder contains an object that this function did not write");
        }
    }
    Ok(listing)
}

/// The state of a shard that has none in its folder.
fn take_over(id: &ShardId, listing: &Listing) -> Result<Held, RollError> {
    if listing.lost_its_state() {
        return Err(RollError::NoState(id.key(STATE)));
    }
    if !listing.earlier.is_empty() {
        info!(shard = %id, objects = listing.earlier.len(), "windows of an earlier version are taken over");
    }
    Ok(Held { state: listing.taken_over(), e_tag: None })
}

/// Replaces the state of a shard, and deletes the segments that it does not name any more. `false` if somebody else has replaced
/// it: then it has to be read again.
pub async fn save<B: Bucket>(app: &App<B>, id: &ShardId, held: &mut Held) -> Result<bool, RollError> {
    let swept = held.state.sweep();
    journal(app, id, Journal::Segments, &swept.intervals).await?;
    held.state.revision += 1;
    let (key, body) = (id.key(STATE), held.state.to_bytes().map_err(|error| StateError::Damaged(error.to_string())));
    let body = body.map_err(|cause| RollError::State(key.clone(), cause))?.into();
    let attributes = Attributes { content_type: "application/json", metadata: Vec::new() };
    let replaced = match &held.e_tag {
        Some(e_tag) => app.lake.replace(&key, body, &attributes, e_tag).await,
        None => app.lake.create(&key, body, &attributes).await,
    };
    match replaced {
        Ok(Created::New { e_tag }) => held.e_tag = Some(e_tag),
        Ok(Created::Exists) | Err(BucketError::Raced { .. } | BucketError::Missing { .. }) => return Ok(false),
        Err(cause) => return Err(cause.into()),
    }
    delete(app, id, &swept.names).await;
    Ok(true)
}

/// Says which records were staged, before the state forgets it. What somebody else has said is the same.
pub async fn journal<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    journal: Journal,
    intervals: &[Interval],
) -> Result<(), RollError> {
    if let Some((key, body)) = journal.object(id, intervals) {
        let attributes = Attributes { content_type: "application/json", metadata: Vec::new() };
        app.lake.create(&key, body.into(), &attributes).await?;
    }
    Ok(())
}

/// Deletes objects of a shard that nobody needs any more. If that fails, a tick will try again.
pub async fn delete<B: Bucket>(app: &App<B>, id: &ShardId, names: &[String]) {
    let keys: Vec<String> = names.iter().map(|name| id.key(name)).collect();
    if !keys.is_empty()
        && let Err(cause) = app.lake.delete(&keys).await
    {
        warn!(%cause, objects = keys.len(), "what nobody needs any more could not be deleted; a tick will try again");
    }
}
