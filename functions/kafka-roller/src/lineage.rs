//! Which shards a shard came from. Its files of a table wait for theirs, so that files come in the order of their records.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use aws_sdk_kinesis::Client;
use futures_util::future::LocalBoxFuture;
use objects::Bucket;
use rolling::{
    rules::Waiting,
    shard::{ShardId, State},
};
use runtime::failure::{cause, code};
use shared::layout::Segment;
use tracing::warn;

use crate::{
    app::App,
    error::RollError,
    roll::ATTEMPTS,
    store::{self, Held},
};

/// Answers that asking again does not change: the stream is gone, or belongs to an account that does not let this one list its shards.
const NEVER: [&str; 2] = ["ResourceNotFoundException", "AccessDeniedException"];

/// Shards, and those that were split or merged into each.
pub type Parents = BTreeMap<Segment, Vec<Segment>>;

/// Knows which shards were split or merged into which.
pub trait Lineage: fmt::Debug {
    /// The shards that a stream lists, and their parents. None if it does not list them to this function.
    fn parents<'a>(&'a self, stream_arn: &'a str) -> LocalBoxFuture<'a, Result<Parents, RollError>>;
}

impl Lineage for Client {
    fn parents<'a>(&'a self, stream_arn: &'a str) -> LocalBoxFuture<'a, Result<Parents, RollError>> {
        Box::pin(async move {
            let failed = |cause: String| RollError::Shards(stream_arn.to_owned(), cause);
            let shard = |id: &str| id.parse::<Segment>().map_err(|error| failed(format!("shard {id:?}: {error}")));
            let (mut all, mut request) = (Parents::new(), self.list_shards().stream_arn(stream_arn));
            loop {
                let answer = match request.send().await {
                    Err(error) if code(&error).is_some_and(|code| NEVER.contains(&code)) => {
                        warn!(
                            stream = stream_arn,
                            cause = cause(&error),
                            "files of new shards do not wait for those of older ones"
                        );
                        return Ok(Parents::new());
                    }
                    answer => answer.map_err(|error| failed(cause(&error)))?,
                };
                for listed in answer.shards() {
                    let parents = [listed.parent_shard_id(), listed.adjacent_parent_shard_id()].into_iter().flatten();
                    all.insert(shard(listed.shard_id())?, parents.map(shard).collect::<Result<_, _>>()?);
                }
                let Some(next) = answer.next_token else { return Ok(all) };
                // Kinesis takes a token without the stream only.
                request = self.list_shards().next_token(next);
            }
        })
    }
}

/// The tables of a shard whose files wait for those of the shards that it came from. The stream is asked for those once, and a parent
/// whose records are all in files is forgotten. What cannot be found out keeps no record from being staged: then all tables wait, and the
/// reason is given back.
pub(crate) async fn waiting<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    stream_arn: Option<&str>,
    state: &mut State,
) -> (Waiting, Option<RollError>) {
    match find(app, id, stream_arn, state).await {
        Ok(waiting) => (waiting, None),
        Err(cause) => (Waiting::All, Some(cause)),
    }
}

async fn find<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    stream_arn: Option<&str>,
    state: &mut State,
) -> Result<Waiting, RollError> {
    let parents = match (&state.parents, &app.lineage, stream_arn) {
        (Some(parents), ..) => parents.clone(),
        (None, Some(lineage), Some(arn)) => ancestors(app, id, &lineage.parents(arn).await?).await?,
        // There is nobody to ask, or no batch has told yet of which stream the shard is.
        (None, ..) => return Ok(Waiting::default()),
    };
    let (mut waiting, mut left) = (Waiting::default(), Vec::new());
    for parent in parents {
        let tables = unfinished(app, &id.sibling(&parent)).await?;
        if tables != Waiting::default() {
            waiting = waiting.and(tables);
            left.push(parent);
        }
    }
    state.parents = Some(left);
    Ok(waiting)
}

/// The nearest shards that this one came from and that have had records, and behind one that does not know where it came from, those before it.
/// They have ended.
async fn ancestors<B: Bucket>(app: &App<B>, id: &ShardId, parents: &Parents) -> Result<Vec<Segment>, RollError> {
    let (mut found, mut seen, mut look) = (Vec::new(), BTreeSet::new(), vec![&id.shard]);
    while let Some(shard) = look.pop() {
        for parent in parents.get(shard).into_iter().flatten().filter(|parent| seen.insert((*parent).clone())) {
            let ended = end(app, &id.sibling(parent)).await?;
            if ended != Some(Knows::Parents) {
                look.push(parent);
            }
            if ended.is_some() {
                found.push(parent.clone());
            }
        }
    }
    Ok(found)
}

/// Whether a shard knows where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knows {
    Parents,
    Nothing,
}

/// Notes that a shard has ended. `None` if it never had a record.
async fn end<B: Bucket>(app: &App<B>, id: &ShardId) -> Result<Option<Knows>, RollError> {
    for _ in 0..ATTEMPTS {
        // One of the earlier layout is closed by age, after it was taken over.
        let Some(mut held) = store::read(app, id).await? else {
            let has_records = !store::list(app, id).await?.is_empty();
            return Ok(has_records.then_some(Knows::Nothing));
        };
        let knows = if held.state.parents.is_some() { Knows::Parents } else { Knows::Nothing };
        let is_noted = std::mem::replace(&mut held.state.ended, true);
        if is_noted || store::save(app, id, &mut held).await? {
            return Ok(Some(knows));
        }
    }
    Err(RollError::Busy)
}

/// The tables of a shard, and of those that it came from, with records that are in no file yet.
async fn unfinished<B: Bucket>(app: &App<B>, id: &ShardId) -> Result<Waiting, RollError> {
    let (mut tables, mut seen, mut look) = (BTreeSet::new(), BTreeSet::new(), vec![id.shard.clone()]);
    while let Some(shard) = look.pop() {
        let id = id.sibling(&shard);
        match store::read(app, &id).await? {
            Some(Held { state, .. }) => {
                tables.extend(state.unfinished().cloned());
                look.extend(state.parents.into_iter().flatten().filter(|parent| seen.insert(parent.clone())));
            }
            // Its state is gone, or it has not been taken over yet.
            None if !store::list(app, &id).await?.is_empty() => return Ok(Waiting::All),
            None => {}
        }
    }
    Ok(Waiting::Tables(tables))
}
