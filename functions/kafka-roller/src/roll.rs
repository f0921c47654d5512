//! Brings a shard up to date: stages the records of a batch, begins and writes the files that are due, quarantines poison.
//!
//! Every change is first decided in the state, which is replaced only if nobody else has replaced it, and then carried out. If an
//! invocation dies in between, the next one finds in the state what is left to do.

use std::collections::BTreeSet;

use objects::{Attributes, Bucket, BucketError, quarantine};
use rolling::{
    batch::Batch,
    segment::NewSegment,
    shard::{Begun, Listing, ShardId, State, Table},
};
use runtime::clock;
use shared::{
    layout::Segment,
    metrics::CountsByReason,
    position::Position,
    rolled::{Reason, RolledFile},
};
use tracing::{error, warn};

use crate::{
    FUNCTION,
    app::App,
    error::RollError,
    files::{self, Job, Outcome},
    read::{Piece, Reader, Records},
    store::{self, Held},
};

/// How often a change is tried while others change the state.
const ATTEMPTS: usize = 10;
/// Files of a shard that are written at once: so many, with so many bytes before compression, or one that is larger.
const GROUP_FILES: usize = 500;
const GROUP_BYTES: u64 = 64 << 20;
/// A shard of the earlier layout is taken over by a tick when nothing was written there for so long: then no invocation of the
/// earlier version is running any more, since none runs for longer.
const TAKEN_OVER_AFTER_MS: i64 = 900_000;

/// What was done with a shard.
#[derive(Debug, Default)]
pub struct Done {
    /// The files that were written, with their sizes in bytes.
    pub files: Vec<(RolledFile, u64)>,
    /// Number of files that another invocation had already written.
    pub files_already: usize,
    /// Number of records that were staged.
    pub staged: usize,
    /// Size of the staged segment in bytes.
    pub staged_bytes: usize,
    /// Number of records of the batch that were staged before.
    pub already: usize,
    /// Number of files that were shortened because segments are gone.
    pub gaps: usize,
    /// Number of windows that could not be brought up to date.
    pub failed: usize,
    /// Why the first of them could not.
    pub cause: Option<RollError>,
    /// The records that were quarantined.
    pub quarantined: CountsByReason,
    /// When the oldest record that is in no file yet arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub oldest_open_ms: Option<i64>,
}

impl Done {
    fn fail(&mut self, what: &dyn std::fmt::Display, cause: RollError) {
        error!(window = %what, %cause, "a window could not be brought up to date; its records are staged, and it will be tried again");
        self.failed += 1;
        self.cause.get_or_insert(cause);
    }
}

/// Stages the new records of a batch and writes the files that are full. `Err` says that the records are not staged.
pub async fn land<B: Bucket>(app: &App<B>, batch: &Batch) -> Result<Done, RollError> {
    let id = &batch.shard.id;
    let mut done = Done::default();
    for _ in 0..ATTEMPTS {
        let mut held = store::load(app, id).await?;
        let before = begun(&held.state);
        let fresh = held.state.fresh(batch)?;
        done.already = fresh.already;
        if fresh.is_empty() {
            finish(app, id, held, before, None, &mut done).await;
            return Ok(done);
        }
        let mut poison: Vec<_> = fresh.poison.iter().map(|poison| poison.record.clone()).collect();
        let segment = NewSegment::of(held.state.tail, fresh.last, &fresh.runs, &mut poison)
            .map_err(|cause| RollError::Segment(id.folder(), cause.to_string()))?;
        let attributes = Attributes { content_type: "application/x-ndjson", metadata: Vec::new() };
        // The key identifies the bytes, so an existing object holds the same ones.
        app.lake.create(&id.key(&segment.name.to_string()), segment.body.clone(), &attributes).await?;
        held.state.stage(&batch.shard.stream_arn, &fresh, &segment, |table| app.config.rules.of(table));
        if store::save(app, id, &mut held).await? {
            done.staged = fresh.runs.values().map(rolling::run::Run::len).sum();
            done.staged_bytes = segment.body.len();
            finish(app, id, held, before, Some(&segment), &mut done).await;
            return Ok(done);
        }
    }
    Err(RollError::Busy)
}

/// Closes the windows of a shard that are old enough, and deletes what nobody needs any more. `listing` is what was in its folder.
pub async fn tick<B: Bucket>(app: &App<B>, id: &ShardId, listing: &Listing, now_ms: i64) -> Done {
    let mut done = Done::default();
    if let Err(cause) = close_old(app, id, listing, now_ms, &mut done).await {
        done.fail(id, cause);
    }
    done
}

async fn close_old<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    listing: &Listing,
    now_ms: i64,
    done: &mut Done,
) -> Result<(), RollError> {
    if !listing.has_state && !listing.lost_its_state() {
        let is_quiet = listing.written_ms.is_none_or(|written| now_ms.saturating_sub(written) > TAKEN_OVER_AFTER_MS);
        // The first segments of a shard, whose batch will come again.
        if listing.earlier.is_empty() || !is_quiet {
            done.oldest_open_ms = listing.taken_over().oldest_ms();
            return Ok(());
        }
    }
    let of = |table: &Segment| app.config.rules.of(table);
    for _ in 0..ATTEMPTS {
        let mut held = match listing.has_state {
            true => store::load(app, id).await?,
            false => store::take_over(id, listing)?,
        };
        delete_dead(app, id, listing, &held.state).await;
        let (before, read) = (begun(&held.state), held.state.clone());
        held.state.close_old(now_ms, of);
        let behind = held.state.behind(of);
        let mut lost = 0;
        if !behind.is_empty() {
            let reader = Reader::new(app, id, None);
            for table in behind {
                if let Err(cause) = cut(app, id, &reader, &mut held.state, &table, &mut lost).await {
                    done.fail(&id.window(&table), cause);
                }
            }
            held.state.close_old(now_ms, of);
        }
        if held.state == read || store::save(app, id, &mut held).await? {
            done.gaps += lost;
            finish(app, id, held, before, None, done).await;
            return Ok(());
        }
    }
    Err(RollError::Busy)
}

/// Deletes objects that the state does not name and never will.
async fn delete_dead<B: Bucket>(app: &App<B>, id: &ShardId, listing: &Listing, state: &State) {
    let dead = listing.segments.iter().filter(|name| state.is_dead(name)).map(ToString::to_string);
    let names = state.names();
    // If the state has just been taken over, it is not in S3 yet.
    let earlier = listing.earlier.iter().filter(|_| state.revision > 0).map(|(.., name)| name);
    let earlier = earlier.filter(|name| !names.contains(name.as_str())).cloned();
    store::delete(app, id, &dead.chain(earlier).collect::<Vec<_>>()).await;
}

/// Cuts the open records of a table into files, which takes their positions from the segments. `lost` counts where some are gone.
async fn cut<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    reader: &Reader<'_, B>,
    state: &mut State,
    name: &Segment,
    lost: &mut usize,
) -> Result<(), RollError> {
    let Some(mut table) = state.tables.get(name).cloned() else { return Ok(()) };
    let (limits, target) = app.config.rules.of(name);
    let pieces = loop {
        let after = if table.recount { table.rolled } else { table.begun_to() };
        reader.look_up(state, |stored| stored.may_hold(name, after)).await?;
        let pieces = reader.pieces(state, name, after, None).await?;
        let first = pieces.iter().find_map(Piece::records).filter(|_| table.recount);
        let existing = match first {
            Some(records) => files::existing(app, id, name, records.extent, &target).await?,
            None => None,
        };
        match existing {
            Some(found) => table.rolled = found.last,
            None => break pieces,
        }
    };
    let found: usize = pieces.iter().filter_map(Piece::records).map(|records| records.extent.count).sum();
    let is_complete = !table.recount && table.open.is_some_and(|open| open.count == found);
    if let Some(open) = table.open.filter(|_| !is_complete && pieces.iter().all(|piece| piece.records().is_some())) {
        return Err(RollError::Count { first: open.first, count: open.count, found });
    }
    let mut anew = Table { open: None, recount: false, ..table };
    for piece in pieces {
        match piece {
            Piece::Gone(..) if is_complete => {}
            Piece::Gone(last, segment) => {
                warn!(table = %name, segment, "staged records have been deleted before they were in a file");
                anew.close(Reason::Gap, &target);
                anew.lost = anew.lost.max(last);
                *lost += 1;
            }
            Piece::Records(records) => {
                let Records { block, extent, source, .. } = *records;
                if !anew.add_whole(extent, &limits) {
                    let run = reader.index(&block, &source.name).await?;
                    anew.add(&run.beyond(extent.first.before()), &limits, &target);
                }
            }
        }
    }
    state.tables.insert(name.clone(), anew);
    Ok(())
}

/// The files that are begun, by table and first record.
fn begun(state: &State) -> BTreeSet<(Segment, Position)> {
    state.all_begun().map(|(table, begun)| (table.clone(), begun.extent.first)).collect()
}

/// Writes the files that are begun, and quarantines poison. `before` are the files that others have begun; `new` is the segment
/// of this batch.
async fn finish<B: Bucket>(
    app: &App<B>,
    id: &ShardId,
    held: Held,
    before: BTreeSet<(Segment, Position)>,
    new: Option<&NewSegment>,
    done: &mut Done,
) {
    let mut work = Work { app, id, held, before, reader: Reader::new(app, id, new), lost: BTreeSet::new(), done };
    if let Err(cause) = work.run().await {
        work.done.fail(id, cause);
    }
    work.done.oldest_open_ms = work.held.state.oldest_ms();
}

/// A shard while its files are written.
struct Work<'a, B> {
    app: &'a App<B>,
    id: &'a ShardId,
    held: Held,
    before: BTreeSet<(Segment, Position)>,
    reader: Reader<'a, B>,
    /// The segments that are gone although the state names them.
    lost: BTreeSet<String>,
    done: &'a mut Done,
}

/// What has been done and is not in the state yet.
enum Change {
    Finished(Segment, Position),
    Adopted(Segment, Box<RolledFile>),
    Lost(Segment, Position, Vec<Begun>),
    Quarantined(String),
}

impl Change {
    fn apply(&self, state: &mut State) {
        match self {
            Self::Finished(table, first) => state.finish(table, *first, clock::unix_ms()),
            Self::Adopted(table, found) => state.adopt(table, found, clock::unix_ms()),
            Self::Lost(table, first, rest) => state.lose(table, *first, rest.clone()),
            Self::Quarantined(name) => state.quarantined(name),
        }
    }
}

impl<B: Bucket> Work<'_, B> {
    async fn run(&mut self) -> Result<(), RollError> {
        let (mut failed, mut tried) = (BTreeSet::new(), 0);
        let mut changes = self.quarantine().await;
        loop {
            let jobs = self.jobs(&failed);
            let outcomes = files::write(self.app, self.id, &self.held.state, &self.reader, &jobs, &self.lost).await;
            let mut again = false;
            for (job, outcome) in jobs.iter().zip(outcomes) {
                match outcome {
                    Ok(outcome) => changes.push(self.change(job, outcome)),
                    // Another invocation is writing it, or has written it and deleted the segment.
                    Err(RollError::Bucket(BucketError::Raced { .. }) | RollError::Gone(_)) if tried < ATTEMPTS => {
                        again = true;
                    }
                    Err(cause) => {
                        if failed.insert(job.table.clone()) {
                            self.done.fail(&self.id.window(&job.table), cause);
                        }
                    }
                }
            }
            if changes.is_empty() && !again {
                return Ok(());
            }
            tried += usize::from(again);
            self.save(&std::mem::take(&mut changes), again).await?;
            if again {
                self.lost.extend(self.reader.gone(&self.held.state));
            }
        }
    }

    /// The next files to write.
    fn jobs(&self, failed: &BTreeSet<Segment>) -> Vec<Job> {
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        let mut waits = None;
        for (table, begun) in self.held.state.all_begun().filter(|(table, _)| !failed.contains(*table)) {
            // Behind a gap, a file may turn out to exist with records of the files after it.
            if waits == Some(table) {
                continue;
            }
            waits = (begun.reason == Reason::Gap).then_some(table);
            bytes += begun.extent.bytes;
            if jobs.len() == GROUP_FILES || (bytes > GROUP_BYTES && !jobs.is_empty()) {
                break;
            }
            let resumed = self.before.contains(&(table.clone(), begun.extent.first));
            jobs.push(Job { table: table.clone(), begun: begun.clone(), resumed });
        }
        jobs
    }

    fn change(&mut self, job: &Job, outcome: Outcome) -> Change {
        let (table, first) = (job.table.clone(), job.begun.extent.first);
        match outcome {
            Outcome::Written(bytes) => {
                self.done.files.push((job.begun.file(self.id.window(&table)), bytes));
                Change::Finished(table, first)
            }
            Outcome::Found(found) => {
                self.done.files_already += 1;
                Change::Adopted(table, found)
            }
            Outcome::Lost(rest) => {
                warn!(window = %self.id.window(&table), "staged records have been deleted before they were in a file");
                self.done.gaps += 1;
                Change::Lost(table, first, rest)
            }
        }
    }

    /// Writes to the quarantine what belongs there.
    async fn quarantine(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for stored in self.held.state.segments.iter().filter(|stored| stored.poison) {
            let records = match self.reader.poison(stored).await {
                Ok(records) => records,
                Err(cause) => {
                    self.done.fail(&format!("{}/{}", self.id, stored.name), cause);
                    continue;
                }
            };
            let records = records.into_iter().map(|record| ((), record)).collect();
            let kept = quarantine::keep(&self.app.lake, FUNCTION, records).await;
            self.done.quarantined.append(kept.kept);
            if kept.failed.is_empty() {
                changes.push(Change::Quarantined(stored.name.clone()));
            } else {
                self.done.fail(self.id, RollError::Quarantine(stored.name.clone()));
            }
        }
        changes
    }

    /// Puts changes into the state. If there are none, reads it `again` if that is wanted.
    async fn save(&mut self, changes: &[Change], again: bool) -> Result<(), RollError> {
        if changes.is_empty() && again {
            self.held = store::load(self.app, self.id).await?;
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let mut next = self.held.clone();
            changes.iter().for_each(|change| change.apply(&mut next.state));
            if next.state == self.held.state {
                return Ok(());
            }
            if store::save(self.app, self.id, &mut next).await? {
                self.held = next;
                return Ok(());
            }
            self.held = store::load(self.app, self.id).await?;
        }
        Err(RollError::Busy)
    }
}
