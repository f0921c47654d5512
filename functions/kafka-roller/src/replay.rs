//! Lands a batch that Lambda has given up, from the object in which Lambda keeps it.
//!
//! Records behind the tail are staged like those of any batch. Those below it that were never staged are landed out of band: they
//! become a segment of their own, and the state takes it up with the files that it is going to be, which are not part of any window. So
//! whoever dies leaves it to a tick to go on, and a second replay finds the records in the state or in the journal.

use std::collections::{BTreeMap, BTreeSet};

use objects::{Attributes, Bucket, quarantine};
use rolling::{
    batch::Batch,
    discarded::{Discarded, FOLDER, Replayed},
    event::{Event, Request},
    journal::{Interval, Journal, intervals},
    replay::{Known, NotLanded, Replay},
    rules::Rules,
    run::Run,
    segment::NewSegment,
    shard::{ShardId, State},
};
use runtime::clock;
use shared::{layout::Segment, quarantine::QuarantineRecord};
use tokio::time::{Instant, timeout_at};
use tracing::warn;

use crate::{
    FUNCTION,
    app::App,
    error::{ReplayError, RollError},
    files::{self, Job, Outcome},
    read::Reader,
    roll::{self, ATTEMPTS, Done},
    store::{self, Held},
};

/// Lands what an object has and no file. `Err` says that nothing of it was landed out of band.
pub async fn replay<B: Bucket>(
    app: &App<B>,
    rules: &Rules,
    request: &Request,
    deadline: Option<Instant>,
) -> Result<(Replayed, Done), ReplayError> {
    if !request.discarded.starts_with(FOLDER) {
        return Err(ReplayError::Elsewhere(request.discarded.clone()));
    }
    let body = app.lake.get(&request.discarded, None).await.map_err(RollError::from)?;
    let discarded = Discarded::of_bytes(&body)?;
    let Event::Batch(Some(batch)) = Batch::of_event(&discarded.event, &app.config.rules.lines)? else {
        return Err(ReplayError::Empty);
    };
    let id = &batch.shard.id;
    let never_delivered = discarded.event.len() > app.max_event_bytes;
    let since_ms = clock::unix_ms().saturating_sub(app.journal_ms);
    if let Some((position, _)) = batch.times().find(|(_, arrived_ms)| *arrived_ms < since_ms)
        && !request.even_if_landed
    {
        return Err(NotLanded::Undecided(position).into());
    }
    // What was never delivered must not move the tail: records before it may still be on their way.
    let mut done = if never_delivered { Done::default() } else { roll::land(app, rules, &batch, deadline).await? };
    let staged = done.staged;
    let mut replayed = Replayed { shard: id.to_string(), records: batch.len(), staged, ..Replayed::default() };
    for _ in 0..ATTEMPTS {
        // First the state, then the journal: what the state forgets meanwhile is in both.
        let mut held = store::load(app, id).await?;
        held.state.fresh(&batch).map_err(RollError::from)?;
        if held.is_new() && !request.even_if_landed {
            return Err(NotLanded::Early.into());
        }
        let known = Known {
            segments: if never_delivered { Vec::new() } else { journaled(app, id, &batch, Journal::Segments).await? },
            replays: journaled(app, id, &batch, Journal::Replays).await?,
            never_delivered,
            even_if_landed: request.even_if_landed,
        };
        let missing = held.state.missing(&batch, &known)?;
        replayed.out_of_band = 0;
        for interval in &missing {
            let runs = between(&batch.runs, *interval);
            let poison = batch.poison.iter().filter(|poison| interval.covers(poison.position));
            let mut poison: Vec<QuarantineRecord> = poison.map(|poison| poison.record.clone()).collect();
            replayed.out_of_band += runs.values().map(Run::len).sum::<usize>() + poison.len();
            let segment = NewSegment::of(interval.first.before(), interval.last, &runs, &mut poison)
                .map_err(|cause| RollError::Segment(id.folder(), cause.to_string()))?;
            let replay = Replay::of(held.state.revision, *interval, &segment, &runs, !poison.is_empty(), |table| {
                rules.of(table).1
            });
            let attributes = Attributes { content_type: "application/x-ndjson", metadata: Vec::new() };
            app.lake
                .create(&id.key(&replay.segment.name), segment.body.clone(), &attributes)
                .await
                .map_err(RollError::from)?;
            held.state.replays.push(replay);
        }
        replayed.already = replayed.records.saturating_sub(replayed.out_of_band + staged);
        if missing.is_empty() || store::save(app, id, &mut held).await? {
            finish(app, id, deadline, &mut done).await;
            (done.out_of_band, replayed.unfinished) = (replayed.out_of_band, done.failed);
            return Ok((replayed, done));
        }
    }
    Err(RollError::Busy.into())
}

/// The records of an interval.
fn between(runs: &BTreeMap<Segment, Run>, interval: Interval) -> BTreeMap<Segment, Run> {
    let runs = runs.iter().map(|(table, run)| (table.clone(), run.between(interval.first, interval.last)));
    runs.filter(|(_, run)| !run.is_empty()).collect()
}

/// The intervals that a journal has of the records of a batch.
async fn journaled<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    batch: &Batch,
    journal: Journal,
) -> Result<Vec<Interval>, RollError> {
    let (Some(first), Some(last)) = (batch.first(), batch.last()) else { return Ok(Vec::new()) };
    let folder = journal.folder(id);
    // Only the intervals of segments are in the order of their records.
    let is_near = |all: Interval| journal == Journal::Replays || all.first <= last;
    let is_near = |key: &str| journal.parse(id, key).is_some_and(is_near);
    let listed = app.lake.list_while(&folder, Some(&journal.before(id, first)), is_near).await?;
    let mut found = Vec::new();
    for object in listed {
        let bytes = app.lake.get(&object.key, None).await?;
        let read = intervals(&bytes).map_err(|cause| RollError::Segment(object.key.clone(), cause.to_string()))?;
        found.extend(read);
    }
    Ok(found)
}

/// Writes the files of what is landed out of band, until `deadline`. What fails is tried again by the next tick.
pub(crate) async fn finish<B: Bucket>(app: &App<B>, id: &ShardId, deadline: Option<Instant>, done: &mut Done) {
    let all = finish_all(app, id, done);
    let result = match deadline {
        Some(deadline) => timeout_at(deadline, all).await.unwrap_or(Err(RollError::Time)),
        None => all.await,
    };
    if let Err(cause) = result {
        done.fail(id, cause);
    }
}

async fn finish_all<B: Bucket>(app: &App<B>, id: &ShardId, done: &mut Done) -> Result<(), RollError> {
    let held = store::load(app, id).await?;
    for replay in &held.state.replays {
        let is_finished = match write(app, id, replay, done).await {
            Ok(is_finished) => is_finished,
            Err(RollError::Gone(name)) => {
                // Otherwise another invocation has finished it.
                if store::load(app, id).await?.state.replays.contains(replay) {
                    warn!(shard = %id, segment = name, "records that were being landed out of band have been deleted");
                    done.gaps += 1;
                    forget(app, id, replay, false).await?;
                }
                continue;
            }
            Err(cause) => {
                done.fail(&format!("{id}/{}", replay.segment.name), cause);
                continue;
            }
        };
        if is_finished {
            forget(app, id, replay, true).await?;
        }
    }
    Ok(())
}

/// Writes what is not written yet. Returns whether all is.
async fn write<B: Bucket>(app: &App<B>, id: &ShardId, replay: &Replay, done: &mut Done) -> Result<bool, RollError> {
    let reader = Reader::new(app, id, None);
    let mut is_finished = true;
    if replay.segment.poison {
        let records = reader.poison(&replay.segment).await?;
        let kept =
            quarantine::keep(&app.lake, FUNCTION, records.into_iter().map(|record| ((), record)).collect()).await;
        done.quarantined.append(kept.kept);
        if !kept.failed.is_empty() {
            is_finished = false;
            done.fail(id, RollError::Quarantine(replay.segment.name.clone()));
        }
    }
    // Its segment is not one of the shard's, whose order it is not in.
    let state = State { segments: vec![replay.segment.clone()], ..State::new() };
    let jobs = replay.files.iter();
    let jobs = jobs.map(|(table, begun)| Job { table: table.clone(), begun: begun.clone(), resumed: true });
    let jobs: Vec<Job> = jobs.collect();
    let outcomes = files::write(app, id, &state, &reader, &jobs, &BTreeSet::new()).await;
    for (job, outcome) in jobs.iter().zip(outcomes) {
        let file = job.begun.file(id.window(&job.table));
        match outcome {
            Ok(Outcome::Written(bytes)) => done.files.push((file, bytes)),
            Ok(Outcome::Found(found)) if (found.last, found.count) == (file.last, file.count) => {
                done.files_already += 1;
            }
            Ok(Outcome::Found(_) | Outcome::Lost(_)) => {
                is_finished = false;
                done.fail(&id.window(&job.table), RollError::OtherFile(file.first));
            }
            Err(cause @ RollError::Gone(_)) => return Err(cause),
            Err(cause) => {
                is_finished = false;
                done.fail(&id.window(&job.table), cause);
            }
        }
    }
    Ok(is_finished)
}

/// Takes out of the state what is landed, and says in the journal that it is.
async fn forget<B: Bucket>(app: &App<B>, id: &ShardId, replay: &Replay, is_landed: bool) -> Result<(), RollError> {
    if is_landed {
        store::journal(app, id, Journal::Replays, &[replay.interval]).await?;
    }
    for _ in 0..ATTEMPTS {
        let mut held: Held = store::load(app, id).await?;
        let all = held.state.replays.len();
        held.state.replays.retain(|other| other != replay);
        if held.state.replays.len() == all || store::save(app, id, &mut held).await? {
            store::delete(app, id, std::slice::from_ref(&replay.segment.name)).await;
            return Ok(());
        }
    }
    Err(RollError::Busy)
}
