//! Brings a shard up to date: stages the records of a batch, begins and writes the files that are due, quarantines poison.
//!
//! Every change is first decided in the state, which is replaced only if nobody else has replaced it, and then carried out. If an
//! invocation dies in between, the next one finds in the state what is left to do.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use objects::{Attributes, Bucket, BucketError, quarantine};
use rolling::{
    batch::Batch,
    rules::Rules,
    segment::NewSegment,
    shard::{Begun, Due, Listing, STATE, ShardId, State, Table},
};
use runtime::clock;
use shared::{
    layout::Segment,
    metrics::CountsByReason,
    position::Position,
    rolled::{Reason, RolledFile},
};
use tokio::time::{Instant, timeout_at};
use tracing::{error, warn};

use crate::{
    FUNCTION,
    app::App,
    error::RollError,
    files::{self, Job, Outcome},
    lineage,
    read::{CONCURRENT_READS, Piece, Reader, Records},
    replay,
    store::{self, Held},
};

/// How often a change is tried while others change the state.
pub(crate) const ATTEMPTS: usize = 10;
/// Files of a shard that are written at once, if there is room for them.
const GROUP_FILES: usize = 250;
/// Tables that are cut at once.
const GROUP_TABLES: usize = 32;

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
    /// The same of the tables that are paused.
    pub oldest_paused_ms: Option<i64>,
    /// When the first of all of them reaches the maximum age of its table.
    pub due_ms: Option<i64>,
    /// Number of records that were begun to be landed out of band.
    pub out_of_band: usize,
    /// The tables of the shard, when somebody has asked for some.
    pub tables: BTreeSet<Segment>,
}

impl Done {
    fn look(&mut self, state: &State, rules: &Rules) {
        self.oldest_open_ms = state.oldest_ms(|_| true);
        self.oldest_paused_ms = state.oldest_ms(|table| rules.is_paused(table));
        self.due_ms = state.due_ms(|table| rules.of(table));
    }

    pub(crate) fn fail(&mut self, what: &dyn std::fmt::Display, cause: RollError) {
        error!(window = %what, %cause, "a window could not be brought up to date; its records are staged, and it will be tried again");
        self.failed += 1;
        self.cause.get_or_insert(cause);
    }
}

/// Stages the new records of a batch and writes the files that it fills, until `deadline`. `Err` says that the records are not staged.
pub async fn land<B: Bucket>(
    app: &App<B>,
    rules: &Rules,
    batch: &Batch,
    deadline: Option<Instant>,
) -> Result<Done, RollError> {
    let id = &batch.shard.id;
    let mut done = Done::default();
    for _ in 0..ATTEMPTS {
        let mut held = store::load(app, id).await?;
        let (waiting, unknown) = lineage::waiting(app, id, Some(&batch.shard.stream_arn), &mut held.state).await;
        let rules = &rules.while_waiting(waiting);
        let before = begun(&held.state);
        let fresh = held.state.fresh(batch)?;
        done.already = fresh.already;
        if fresh.is_empty() {
            // What an invocation before has begun is finished by the next tick.
            done.look(&held.state, rules);
            return Ok(done);
        }
        let mut poison: Vec<_> = fresh.poison.iter().map(|poison| poison.record.clone()).collect();
        let segment = NewSegment::of(held.state.tail, fresh.last, &fresh.runs, &mut poison)
            .map_err(|cause| RollError::Segment(id.folder(), cause.to_string()))?;
        let attributes = Attributes { content_type: "application/x-ndjson", metadata: Vec::new() };
        // The key identifies the bytes, so an existing object holds the same ones.
        app.lake.create(&id.key(&segment.name.to_string()), segment.body.clone(), &attributes).await?;
        held.state.stage(&batch.shard.stream_arn, &fresh, &segment, |table| rules.of(table));
        if store::save(app, id, &mut held).await? {
            done.staged = fresh.runs.values().map(rolling::run::Run::len).sum();
            done.staged_bytes = segment.body.len();
            if let Some(cause) = unknown {
                done.fail(id, cause);
            }
            Work::new(app, rules, id, held, before, Some(&segment), &mut done).finish(deadline).await;
            return Ok(done);
        }
    }
    Err(RollError::Busy)
}

/// Closes the windows of a shard that are due, writes what is begun, and now and then deletes what nobody needs any more.
pub async fn close<B: Bucket>(
    app: &App<B>,
    rules: &Rules,
    id: &ShardId,
    due: Due<'_>,
    deadline: Option<Instant>,
) -> Done {
    let mut done = Done::default();
    if let Err(cause) = close_due(app, rules, id, due, deadline, &mut done).await {
        done.fail(id, cause);
    }
    done
}

async fn close_due<B: Bucket>(
    app: &App<B>,
    rules: &Rules,
    id: &ShardId,
    due: Due<'_>,
    deadline: Option<Instant>,
    done: &mut Done,
) -> Result<(), RollError> {
    let now_ms = match due {
        Due::At(now_ms) => Some(now_ms),
        Due::Asked(_) => None,
    };
    let is_tidied = now_ms.is_some_and(|now| now.div_euclid(60_000).rem_euclid(app.tidy_minutes) == 0);
    let listing = if is_tidied { Some(store::list(app, id).await?) } else { None };
    for _ in 0..ATTEMPTS {
        let Some(mut held) = store::load_if_quiet(app, id, now_ms).await? else { return Ok(()) };
        if now_ms.is_some_and(|now| held.state.is_over(now)) {
            store::delete(app, id, &[STATE.to_owned()]).await;
            return Ok(());
        }
        if let Due::Asked(_) = due {
            done.tables = held.state.tables.keys().cloned().collect();
        }
        let (before, read) = (begun(&held.state), held.state.clone());
        let stream_arn = held.state.stream_arn.clone();
        let (waiting, unknown) = lineage::waiting(app, id, stream_arn.as_deref(), &mut held.state).await;
        let rules = &rules.while_waiting(waiting);
        held.state.close_due(due, |table| rules.of(table));
        if (held.is_new() || held.state != read) && !store::save(app, id, &mut held).await? {
            continue;
        }
        if let Some(cause) = unknown {
            done.fail(id, cause);
        }
        if let Some(listing) = &listing {
            delete_dead(app, id, listing, &held.state, done).await;
        }
        let is_replaying = !held.state.replays.is_empty();
        let work = Work { due: Some(due), ..Work::new(app, rules, id, held, before, None, done) };
        work.finish(deadline).await;
        if is_replaying {
            replay::finish(app, id, deadline, done).await;
        }
        return Ok(());
    }
    Err(RollError::Busy)
}

/// Deletes objects that the state does not name and never will.
async fn delete_dead<B: Bucket>(app: &App<B>, id: &ShardId, listing: &Listing, state: &State, done: &mut Done) {
    let names = state.names();
    // A segment that begins before the tail and is not named never will be: its batch was staged otherwise, or it is all in files.
    let past = listing.segments.iter().filter(|name| name.after < state.tail).map(ToString::to_string);
    let mut dead: Vec<String> = past.filter(|name| !names.contains(name.as_str())).collect();
    let replays = listing.replays.iter().filter(|(revision, name)| state.is_dead_replay(*revision, name));
    dead.extend(replays.map(|(_, name)| name.clone()));
    for (table, item, name) in listing.earlier.iter().filter(|(.., name)| !names.contains(name.as_str())) {
        if state.is_past(table, item) {
            dead.push(name.clone());
        } else {
            done.fail(&id.window(table), RollError::Late(id.key(name)));
        }
    }
    store::delete(app, id, &dead).await;
}

/// The files that are begun, by table and first record.
fn begun(state: &State) -> BTreeSet<(Segment, Position)> {
    state.all_begun().map(|(table, begun)| (table.clone(), begun.extent.first)).collect()
}

/// A shard while its files are written.
struct Work<'a, B> {
    app: &'a App<B>,
    rules: &'a Rules,
    id: &'a ShardId,
    held: Held,
    /// The tables with files that others have begun.
    others: BTreeSet<Segment>,
    /// The files that may have been written already: those, and those that have been tried.
    before: BTreeSet<(Segment, Position)>,
    reader: Reader<'a, B>,
    /// What a tick closes, which does everything that the shard needs. A batch only writes the files that it has begun itself.
    due: Option<Due<'a>>,
    /// The segments that are gone although the state names them.
    lost: BTreeSet<String>,
    failed: BTreeSet<Segment>,
    done: &'a mut Done,
}

/// What has been done and is not in the state yet.
enum Change {
    Finished(Segment, Box<RolledFile>),
    Lost(Segment, Box<Begun>, Vec<Begun>),
    /// A table as it was, and with what was open cut into files.
    Cut(Segment, Box<(Table, Table)>),
    Quarantined(String),
}

impl Change {
    fn apply(&self, state: &mut State) {
        match self {
            Self::Finished(table, file) => state.finish(table, file, clock::unix_ms()),
            Self::Lost(table, begun, rest) => state.lose(table, begun, rest.clone(), clock::unix_ms()),
            Self::Cut(table, cut) => {
                if let Some(table) = state.tables.get_mut(table).filter(|table| **table == cut.0) {
                    *table = cut.1.clone();
                }
            }
            Self::Quarantined(name) => state.quarantined(name),
        }
    }
}

impl<'a, B: Bucket> Work<'a, B> {
    fn new(
        app: &'a App<B>,
        rules: &'a Rules,
        id: &'a ShardId,
        held: Held,
        before: BTreeSet<(Segment, Position)>,
        new: Option<&'a NewSegment>,
        done: &'a mut Done,
    ) -> Self {
        let reader = Reader::new(app, id, new);
        let (lost, failed) = (BTreeSet::new(), BTreeSet::new());
        let others = before.iter().map(|(table, _)| table.clone()).collect();
        Self { app, rules, id, held, others, before, reader, due: None, lost, failed, done }
    }

    /// Does what there is to do until `deadline`. What was done is in the state by then, but for the files of the last group.
    async fn finish(mut self, deadline: Option<Instant>) {
        let result = match deadline {
            Some(deadline) => timeout_at(deadline, self.run()).await.unwrap_or(Err(RollError::Time)),
            None => self.run().await,
        };
        if let Err(cause) = result {
            self.done.fail(self.id, cause);
        }
        self.done.look(&self.held.state, self.rules);
    }

    async fn run(&mut self) -> Result<(), RollError> {
        let quarantined = self.quarantine().await?;
        self.save(&quarantined, false).await?;
        if let Some(due) = self.due {
            self.cut(due).await?;
        }
        let mut tried = 0;
        loop {
            let jobs = self.jobs();
            if jobs.is_empty() {
                return Ok(());
            }
            let outcomes = files::write(self.app, self.id, &self.held.state, &self.reader, &jobs, &self.lost).await;
            self.before.extend(jobs.iter().map(|job| (job.table.clone(), job.begun.extent.first)));
            let (mut again, mut changes) = (false, Vec::new());
            for (job, outcome) in jobs.iter().zip(outcomes) {
                match outcome {
                    Ok(outcome) => changes.push(self.change(job, outcome)),
                    // Another invocation is writing it, or has written it and deleted the segment.
                    Err(RollError::Bucket(BucketError::Raced { .. }) | RollError::Gone(_)) if tried < ATTEMPTS => {
                        again = true;
                    }
                    Err(cause) => {
                        if self.failed.insert(job.table.clone()) {
                            self.done.fail(&self.id.window(&job.table), cause);
                        }
                    }
                }
            }
            tried += usize::from(again);
            self.save(&changes, again).await?;
            if again {
                self.lost.extend(self.reader.gone(&self.held.state));
            }
        }
    }

    /// The next files to write. Which table is first changes with each state, and large files come last, so that no file can
    /// hold up all others for ever.
    fn jobs(&self) -> Vec<Job> {
        let (mut jobs, mut bytes) = (Vec::new(), 0);
        // The files of a table are finished in order, so those of a table with files of others are left to a tick.
        let is_ours = |name: &Segment| self.due.is_some() || !self.others.contains(name);
        let tables = self
            .held
            .state
            .tables
            .iter()
            .filter(|(name, table)| !table.begun.is_empty() && is_ours(name) && !self.failed.contains(*name));
        let mut tables: Vec<_> = tables.collect();
        let turn = usize::try_from(self.held.state.revision).unwrap_or_default();
        let first = turn.checked_rem(tables.len()).unwrap_or_default();
        tables.rotate_left(first);
        let is_large = |begun: &Begun| !self.app.room.fits(begun.extent.bytes);
        tables.sort_by_key(|(_, table)| table.begun.first().is_some_and(is_large));
        for (name, table) in tables {
            for begun in &table.begun {
                bytes += begun.extent.bytes;
                if jobs.len() == GROUP_FILES || (!self.app.room.fits(bytes) && !jobs.is_empty()) {
                    return jobs;
                }
                let resumed = self.before.contains(&(name.clone(), begun.extent.first));
                jobs.push(Job { table: name.clone(), begun: begun.clone(), resumed });
                // Behind a gap, a file may turn out to exist with records of the files after it.
                if begun.reason == Reason::Gap {
                    break;
                }
            }
        }
        jobs
    }

    fn change(&mut self, job: &Job, outcome: Outcome) -> Change {
        let table = job.table.clone();
        match outcome {
            Outcome::Written(bytes) => {
                let file = job.begun.file(self.id.window(&table));
                self.done.files.push((file.clone(), bytes));
                Change::Finished(table, Box::new(file))
            }
            Outcome::Found(found) => {
                self.done.files_already += 1;
                Change::Finished(table, found)
            }
            Outcome::Lost(rest) => {
                warn!(window = %self.id.window(&table), "staged records have been deleted before they were in a file");
                self.done.gaps += 1;
                Change::Lost(table, Box::new(job.begun.clone()), rest)
            }
        }
    }

    /// Writes to the quarantine what belongs there.
    async fn quarantine(&mut self) -> Result<Vec<Change>, RollError> {
        let mut changes = Vec::new();
        let pending: Vec<_> = self.held.state.segments.iter().filter(|stored| stored.poison).cloned().collect();
        for stored in pending {
            let records = match self.reader.poison(&stored).await {
                Ok(records) => records,
                Err(RollError::Gone(name)) => {
                    self.held = store::load(self.app, self.id).await?;
                    // Otherwise another invocation has quarantined them.
                    if self.held.state.segments.iter().any(|other| other.name == name && other.poison) {
                        warn!(shard = %self.id, segment = name, "records for the quarantine have been deleted");
                        self.done.gaps += 1;
                        changes.push(Change::Quarantined(name));
                    }
                    continue;
                }
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
        Ok(changes)
    }

    /// Cuts what is open of tables that are behind into files, a few tables at a time, since batches change the state meanwhile.
    /// What is open of them after that may be due as well.
    async fn cut(&mut self, due: Due<'_>) -> Result<(), RollError> {
        let rules = self.rules;
        let mut tries: BTreeMap<Segment, usize> = BTreeMap::new();
        loop {
            let mut behind = self.held.state.behind(|table| rules.of(table));
            for table in behind.extract_if(.., |table| tries.get(table) == Some(&ATTEMPTS)) {
                if self.failed.insert(table.clone()) {
                    self.done.fail(&self.id.window(&table), RollError::Busy);
                }
            }
            behind.retain(|table| !self.failed.contains(table));
            behind.truncate(GROUP_TABLES);
            if behind.is_empty() {
                break;
            }
            let (mut changes, mut lost) = (Vec::new(), 0);
            let tables = behind.iter().collect();
            self.reader.look_up(&self.held.state, &tables, |_| true).await?;
            let cuts = behind.iter().map(|table| self.cut_table(table));
            let cuts: Vec<_> = stream::iter(cuts).buffered(CONCURRENT_READS).collect().await;
            for (table, cut) in behind.iter().zip(cuts) {
                let tried = tries.entry(table.clone()).or_default();
                *tried += 1;
                match cut {
                    Ok((before, after, gaps)) => {
                        lost += gaps;
                        changes.push(Change::Cut(table.clone(), Box::new((before, after))));
                    }
                    Err(RollError::Gone(_)) if *tried < ATTEMPTS => {}
                    Err(cause) => {
                        self.failed.insert(table.clone());
                        self.done.fail(&self.id.window(table), cause);
                    }
                }
            }
            self.save(&changes, true).await?;
            self.done.gaps += lost;
        }
        if !tries.is_empty() {
            let mut next = self.held.clone();
            next.state.close_due(due, |table| rules.of(table));
            if next.state != self.held.state && store::save(self.app, self.id, &mut next).await? {
                self.held = next;
            }
        }
        Ok(())
    }

    /// A table, and the same with its open records cut into files, whose positions come from the segments; and how many gaps they
    /// have.
    async fn cut_table(&self, name: &Segment) -> Result<(Table, Table, usize), RollError> {
        let (app, reader, state) = (self.app, &self.reader, &self.held.state);
        let before = state.tables.get(name).cloned().unwrap_or_default();
        let mut table = before.clone();
        let (limits, target) = self.rules.of(name);
        let pieces = loop {
            let after = if table.recount { table.rolled } else { table.begun_to() };
            let pieces = reader.pieces(state, name, after, None).await?;
            let first = pieces.iter().find_map(Piece::records).filter(|_| table.recount);
            let existing = match first {
                Some(records) => files::existing(app, self.id, name, records.extent, &target).await?,
                None => None,
            };
            match existing {
                Some(found) => table.rolled = found.last,
                None => break pieces,
            }
        };
        let found: usize = pieces.iter().filter_map(Piece::records).map(|records| records.extent.count).sum();
        let is_complete = !table.recount && table.open.is_some_and(|open| open.count == found);
        let is_all_there = pieces.iter().all(|piece| piece.records().is_some());
        if let Some(open) = table.open.filter(|_| !table.recount && !is_complete && is_all_there) {
            return Err(RollError::Count { first: open.first, count: open.count, found });
        }
        let mut anew = Table { open: None, recount: false, ..table };
        let mut gaps = 0;
        for piece in pieces {
            match piece {
                Piece::Gone(..) if is_complete => {}
                Piece::Gone(last, segment) => {
                    warn!(table = %name, segment, "staged records have been deleted before they were in a file");
                    anew.close(Reason::Gap, &target);
                    anew.lost = anew.lost.max(last);
                    gaps += 1;
                }
                Piece::Records(records) => {
                    let Records { block, extent, source, .. } = *records;
                    // Segments of the earlier layout may overlap.
                    anew.lost = anew.lost.min(extent.first.before());
                    if !anew.add_whole(extent, &limits) {
                        let run = reader.index(&block, &source.name).await?;
                        anew.add(&run.beyond(extent.first.before()), &limits, &target);
                    }
                }
            }
        }
        Ok((before, anew, gaps))
    }

    /// Puts changes into the state, or reads it `again` if there are none and that is wanted.
    async fn save(&mut self, changes: &[Change], again: bool) -> Result<(), RollError> {
        if changes.is_empty() && !again {
            return Ok(());
        }
        for _ in 0..ATTEMPTS {
            let mut next = self.held.clone();
            changes.iter().for_each(|change| change.apply(&mut next.state));
            if next.state == self.held.state {
                if again {
                    self.held = store::load(self.app, self.id).await?;
                }
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
