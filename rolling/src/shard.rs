//! The state of a shard: how far it is staged, in which segments, and what of each table is in files, is about to be, or is open.
//!
//! One object holds it, which is replaced only by those who have read what they replace (compare and swap). So everything that it
//! says has happened in one order, however many invocations run: a record at or before the tail is durable, a file that is begun
//! is the same file for everyone, and a segment that the state does not name will never be needed. This module does no I/O.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use shared::{
    layout::Segment,
    position::Position,
    quarantine::rfc3339,
    rolled::{Reason, RolledFile, Window},
};

use crate::{
    batch::{Batch, Poison},
    earlier::{self, Item, Staged},
    journal::Interval,
    replay::{self, Replay},
    run::{Extent, Run},
    segment::{Name, NewSegment},
};

/// The folder of all states and segments.
pub const FOLDER: &str = "staging/";
/// The name of a state in the folder of its shard.
pub const STATE: &str = "state.json";
/// What [`State::layout`] is today. The layout before had no state, see [`earlier`].
const LAYOUT: u32 = 2;
/// Times of arrival are approximate: a record that was staged before may seem to be so much newer than all that were.
const ARRIVAL_TOLERANCE_MS: i64 = 60_000;
/// About as many bytes as a state has for a table or a segment.
const TABLE_BYTES: usize = 384;
/// No stream keeps its records for longer, so none of an ended shard can be delivered again.
const RETENTION_MS: i64 = 366 * 24 * 3_600_000;

/// The limits of a file. It is closed when it reaches one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of records.
    pub records: usize,
    /// Maximum size in bytes, before compression.
    pub bytes: u64,
    /// Maximum age of its oldest record, in milliseconds. Checked only on ticks.
    pub age_ms: i64,
}

impl Limits {
    /// None: no file is begun.
    pub const NONE: Self = Self { records: usize::MAX, bytes: u64::MAX, age_ms: i64::MAX };
}

/// Which windows are closed before they are full.
#[derive(Debug, Clone, Copy)]
pub enum Due<'a> {
    /// Those whose oldest record has the maximum age at this time, in milliseconds since 1970-01-01T00:00:00Z.
    At(i64),
    /// Those of these tables.
    Asked(&'a BTreeSet<Segment>),
}

impl Due<'_> {
    /// Why a window with these records is closed, if it is.
    fn reason(&self, table: &Segment, open: &Extent, limits: &Limits) -> Option<Reason> {
        match self {
            Self::At(now_ms) => (now_ms.saturating_sub(open.oldest_ms) >= limits.age_ms).then_some(Reason::Age),
            Self::Asked(tables) => (tables.contains(table) && *limits != Limits::NONE).then_some(Reason::Request),
        }
    }
}

/// Where a file goes, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The bucket.
    pub bucket: String,
    /// Whether it is compressed with gzip.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gzip: bool,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardId {
    /// The stream's name.
    pub stream: Segment,
    /// The shard's id.
    pub shard: Segment,
}

impl ShardId {
    /// Its folder, in which its state and its segments are.
    #[must_use]
    pub fn folder(&self) -> String {
        format!("{FOLDER}{self}/")
    }

    /// The key of an object in its folder.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{FOLDER}{self}/{name}")
    }

    /// The shard that an object belongs to, and the rest of its key.
    #[must_use]
    pub fn of_key(key: &str) -> Option<(Self, &str)> {
        let (stream, rest) = key.strip_prefix(FOLDER)?.split_once('/')?;
        let (shard, name) = rest.split_once('/')?;
        Some((Self { stream: stream.parse().ok()?, shard: shard.parse().ok()? }, name))
    }

    /// Another shard of the stream.
    #[must_use]
    pub fn sibling(&self, shard: &Segment) -> Self {
        Self { stream: self.stream.clone(), shard: shard.clone() }
    }

    /// The window of a table.
    #[must_use]
    pub fn window(&self, table: &Segment) -> Window {
        Window { stream: self.stream.clone(), shard: self.shard.clone(), table: table.clone() }
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.stream, self.shard)
    }
}

/// A segment that a state names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its name in the folder of the shard. A segment of the earlier layout is in the folder of its table.
    pub name: String,
    /// Position of the first record of its batch that was new; `None` if an earlier version staged it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Position>,
    /// Position of the last record of its batch.
    pub last: Position,
    /// Where its contents are listed; `None` in the earlier layout, where the name tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<(u64, u64)>,
    /// Whether it has records that are not in the quarantine yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub poison: bool,
}

impl Stored {
    /// The records that its batch staged.
    #[must_use]
    pub fn interval(&self) -> Option<Interval> {
        self.first.map(|first| Interval { first, last: self.last })
    }

    /// The table of a segment of the earlier layout.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.name.split_once('/').map(|(table, _)| table)
    }

    /// Whether records of `table` beyond `after` may be in it.
    #[must_use]
    pub fn may_hold(&self, table: &Segment, after: Position) -> bool {
        self.last > after && self.table().is_none_or(|of| of == table.as_str())
    }
}

/// A file that is to be written. Nobody writes another one of its records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// The last record of the file before.
    pub after: Position,
    /// Summary of its records.
    pub extent: Extent,
    /// Why it is closed.
    pub reason: Reason,
    /// Where it goes.
    #[serde(flatten)]
    pub target: Target,
}

impl Begun {
    /// The file of a window.
    #[must_use]
    pub fn file(&self, window: Window) -> RolledFile {
        let Extent { first, last, count, oldest_ms, newest_ms, .. } = self.extent;
        RolledFile { window, after: self.after, first, last, count, oldest_ms, newest_ms, reason: self.reason }
    }
}

/// What is known of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// All its records up to and including this one are in files, or are lost.
    pub rolled: Position,
    /// The files that are to be written, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun: Vec<Begun>,
    /// Summary of the records after them. Before a recount it only says how old they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<Extent>,
    /// When the last of its files was written, in milliseconds since 1970-01-01T00:00:00Z.
    #[serde(default)]
    pub written_ms: i64,
    /// Records up to here may be missing, because their segments are.
    #[serde(default, skip_serializing_if = "is_start")]
    pub lost: Position,
    /// Whether a file was found that ends elsewhere than the one that was begun, so that what is open has to be counted anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recount: bool,
}

fn is_start(position: &Position) -> bool {
    *position == Position::START
}

impl Table {
    /// Position of the last record that is in a file, will be in one that is begun, or is lost.
    #[must_use]
    pub fn begun_to(&self) -> Position {
        self.begun.last().map_or(self.rolled, |begun| begun.extent.last).max(self.rolled).max(self.lost)
    }

    /// When the oldest record arrived that is in no file yet, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn oldest_ms(&self) -> Option<i64> {
        self.begun.iter().map(|begun| begun.extent).chain(self.open).map(|extent| extent.oldest_ms).min()
    }

    /// The first record that is still needed from a segment.
    fn needs(&self) -> Option<Position> {
        if self.recount {
            return Some(self.rolled);
        }
        self.begun.first().map(|begun| begun.extent.first).or(self.open.map(|open| open.first))
    }

    /// Whether what is open has to be read before it can be cut into files: by limits that are lower than they were.
    fn is_behind(&self, limits: &Limits) -> bool {
        self.recount || self.open.is_some_and(|open| open.count >= limits.records || open.bytes >= limits.bytes)
    }

    /// Closes what is open.
    pub fn close(&mut self, reason: Reason, target: &Target) {
        if let Some(extent) = self.open.take() {
            self.begun.push(Begun { after: self.begun_to(), extent, reason, target: target.clone() });
        }
    }

    /// Adds all records of a block, if they do not fill a file. Otherwise they have to be added one by one.
    #[must_use]
    pub fn add_whole(&mut self, extent: Extent, limits: &Limits) -> bool {
        let with = self.open.map_or(extent, |open| open.and(extent));
        let fits = with.count < limits.records && with.bytes < limits.bytes;
        if fits {
            self.open = Some(with);
        }
        fits
    }

    /// Adds records, and begins each file that they fill.
    pub fn add(&mut self, run: &Run, limits: &Limits, target: &Target) {
        let mut range = 0..run.len();
        while !range.is_empty() {
            let (count, bytes) = self.open.map_or((0, 0), |open| (open.count, open.bytes));
            let (room, space) = (limits.records.saturating_sub(count), limits.bytes.saturating_sub(bytes));
            let fits = run.fitting(range.clone(), room, space);
            // A single line that exceeds the maximum size gets a file of its own.
            let taken = if fits == 0 && count == 0 { 1 } else { fits };
            let end = range.start + taken;
            if let Some(extent) = run.extent(range.start..end) {
                self.open = Some(self.open.map_or(extent, |open| open.and(extent)));
            }
            range.start = end;
            let Some(open) = self.open else { return };
            if open.count >= limits.records {
                self.close(Reason::Records, target);
            } else if open.bytes >= limits.bytes || !range.is_empty() {
                self.close(Reason::Bytes, target);
            }
        }
    }
}

/// The state of a shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The layout of the staging folder.
    pub layout: u32,
    /// How often it was replaced, so that no two states are the same bytes.
    pub revision: u64,
    /// The ARN of the stream, once a batch has told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_arn: Option<String>,
    /// The shards that this one came from, until all their records are in files: meanwhile its own files of the same tables wait, so
    /// that files come in the order of their records. `None` until the stream has been asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parents: Option<Vec<Segment>>,
    /// Whether a shard that came from this one has records, and this one has got none since: all of its records are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ended: bool,
    /// All records of the shard up to and including this one are in segments, in files or in the quarantine.
    pub tail: Position,
    /// When the newest of them arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub newest_ms: i64,
    /// How far each table was staged when the earlier layout was taken over, until the tail has passed all of them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub floors: BTreeMap<Segment, Position>,
    /// The segments whose records are not all in files, in the order of their records.
    pub segments: Vec<Stored>,
    /// The tables.
    pub tables: BTreeMap<Segment, Table>,
    /// Of the records behind this one it is known which were staged; `None` until this version stages some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals_after: Option<Position>,
    /// What is landed out of band.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replays: Vec<Replay>,
}

/// What a state has forgotten.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// The names of segments.
    pub names: Vec<String>,
    /// The intervals of records that were in them.
    pub intervals: Vec<Interval>,
}

/// The records of a batch that are new.
#[derive(Debug)]
pub struct Fresh {
    /// Those that can be written to files, by table.
    pub runs: BTreeMap<Segment, Run>,
    /// Those that can never be used.
    pub poison: Vec<Poison>,
    /// Position of the first record of the batch that lies behind the tail.
    first: Option<Position>,
    /// Position of the last record of the batch, new or not.
    pub last: Position,
    /// When the newest record of the batch arrived.
    newest_ms: i64,
    /// How many records were staged before.
    pub already: usize,
}

impl Fresh {
    /// Whether there is nothing to stage.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.poison.is_empty()
    }
}

/// Why the records of a batch are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The state is that of another stream with the same name.
    #[error(
        "the records are of {arrived}, but staging/ holds the state of {staged}, a stream with the same name; \
         when `landfall status` shows no open windows any more, delete its folder in staging/"
    )]
    OtherStream {
        /// The stream of the state.
        staged: String,
        /// The stream of the records.
        arrived: String,
    },
    /// A record lies before what is staged, but arrived after it: the stream was deleted and made anew.
    #[error(
        "record {position:?} arrived at {}, after everything that is staged, but its sequence number is lower: \
         the stream was made anew; when `landfall status` shows no open windows any more, delete its folder in staging/",
        rfc3339(*arrived_ms).unwrap_or_default()
    )]
    MadeAnew {
        /// The record.
        position: Position,
        /// When it arrived, in milliseconds since 1970-01-01T00:00:00Z.
        arrived_ms: i64,
    },
}

/// Why a state is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// A newer version has written it.
    #[error("it has layout {0}, which a newer version wrote")]
    Newer(u32),
    /// It is not a state.
    #[error("it is not a state: {0}")]
    Damaged(String),
}

impl State {
    /// The state of a shard of which nothing is staged.
    #[must_use]
    pub fn new() -> Self {
        Self {
            layout: LAYOUT,
            revision: 0,
            stream_arn: None,
            parents: None,
            ended: false,
            tail: Position::START,
            newest_ms: 0,
            floors: BTreeMap::new(),
            segments: Vec::new(),
            tables: BTreeMap::new(),
            intervals_after: None,
            replays: Vec::new(),
        }
    }

    /// Reads the object that [`to_bytes`](Self::to_bytes) made.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        // Once, and not for each text in it.
        let text = std::str::from_utf8(bytes).map_err(|error| StateError::Damaged(error.to_string()))?;
        let state: Self = serde_json::from_str(text).map_err(|error| StateError::Damaged(error.to_string()))?;
        if state.layout == LAYOUT { Ok(state) } else { Err(StateError::Newer(state.layout)) }
    }

    /// The object.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = Vec::with_capacity(TABLE_BYTES * (self.tables.len() + self.segments.len() + 1));
        serde_json::to_writer(&mut bytes, self)?;
        Ok(bytes)
    }

    /// Takes over a shard of the earlier layout. `listed` are the keys of its objects, without its folder.
    ///
    /// The segments stay where they are. Until the tail has passed what was staged of any table, each table says which records
    /// of a batch it has already.
    pub fn taken_over<'a>(listed: impl IntoIterator<Item = (Segment, Item, &'a str)>) -> Self {
        let mut state = Self::new();
        let mut windows: BTreeMap<Segment, (Position, BTreeMap<Staged, &str>)> = BTreeMap::new();
        for (table, item, name) in listed {
            let (rolled, staged) = windows.entry(table).or_default();
            match item {
                Item::Mark(mark) => *rolled = mark.max(*rolled),
                Item::Segment(segment) => drop(staged.insert(segment, name)),
            }
        }
        for (table, (rolled, staged)) in windows {
            let mut extents = None::<Extent>;
            let open = staged.into_iter().filter(|(staged, _)| staged.extent.last > rolled);
            let (mut end, mut floor) = (rolled, rolled);
            for (Staged { after, extent }, name) in open {
                if after > end {
                    // Names a segment that nobody will find, so that what is missing shows.
                    let name = format!("{table}/missing-{after}");
                    state.segments.push(Stored { name, first: None, last: after, contents: None, poison: false });
                }
                (end, floor) = (end.max(extent.last), floor.max(extent.last));
                state.newest_ms = state.newest_ms.max(extent.newest_ms);
                extents = Some(extents.map_or(extent, |sum| sum.and(extent)));
                let (name, last) = (name.to_owned(), extent.last);
                state.segments.push(Stored { name, first: None, last, contents: None, poison: false });
            }
            state.floors.insert(table.clone(), floor);
            // Segments may overlap, so they are counted when they are read.
            state.tables.insert(table, Table { rolled, open: extents, recount: floor > rolled, ..Table::default() });
        }
        state
    }

    /// The records of a batch that are not staged yet.
    pub fn fresh(&self, batch: &Batch) -> Result<Fresh, Refused> {
        let Batch { shard, runs, poison, .. } = batch;
        if let Some(staged) = self.stream_arn.as_ref().filter(|staged| **staged != shard.stream_arn) {
            return Err(Refused::OtherStream { staged: staged.clone(), arrived: shard.stream_arn.clone() });
        }
        if let Some((position, arrived_ms)) = self.later_than_its_place(batch) {
            return Err(Refused::MadeAnew { position, arrived_ms });
        }
        let behind_tail = |run: &Run| run.entries(run.up_to(self.tail)..run.len()).first().map(|entry| entry.position);
        let is_new = |poison: &&Poison| poison.position > self.tail;
        let poisoned = poison.iter().filter(is_new).map(|poison| poison.position);
        let first = runs.values().filter_map(behind_tail).chain(poisoned).min();
        let beyond = |(table, run): (&Segment, &Run)| {
            let staged = self.floors.get(table).copied().unwrap_or_default().max(self.tail);
            let rest = run.clone().beyond(staged);
            (!rest.is_empty()).then(|| (table.clone(), rest))
        };
        let mut fresh = Fresh {
            runs: runs.iter().filter_map(beyond).collect(),
            poison: poison.iter().filter(is_new).cloned().collect(),
            first,
            last: batch.last().unwrap_or_default(),
            newest_ms: batch.newest_ms.unwrap_or_default(),
            already: batch.len(),
        };
        fresh.already -= fresh.runs.values().map(Run::len).sum::<usize>() + fresh.poison.len();
        Ok(fresh)
    }

    /// A record at or before the tail that arrived after everything that is staged, and when.
    fn later_than_its_place(&self, batch: &Batch) -> Option<(Position, i64)> {
        let is_newer = |arrived_ms: i64| arrived_ms.saturating_sub(ARRIVAL_TOLERANCE_MS) > self.newest_ms;
        if !self.floors.is_empty() || batch.first().is_none_or(|first| first > self.tail) {
            return None;
        }
        batch.times().find(|(position, arrived_ms)| *position <= self.tail && is_newer(*arrived_ms))
    }

    /// Adds the records of a batch, which are in `segment`, and begins the files that they fill.
    pub fn stage(
        &mut self,
        stream_arn: &str,
        fresh: &Fresh,
        segment: &NewSegment,
        limits: impl Fn(&Segment) -> (Limits, Target),
    ) {
        self.stream_arn.get_or_insert_with(|| stream_arn.to_owned());
        // A stream that was made anew has shards of the same names.
        self.ended = false;
        // Below a floor, the earlier layout says only of each table what it has.
        let floor = self.floors.values().max().copied().unwrap_or_default();
        self.intervals_after.get_or_insert(self.tail.max(floor));
        self.tail = self.tail.max(fresh.last);
        self.newest_ms = self.newest_ms.max(fresh.newest_ms);
        if self.floors.values().all(|floor| *floor <= self.tail) {
            self.floors.clear();
        }
        self.segments.push(Stored {
            name: segment.name.to_string(),
            first: fresh.first,
            last: segment.name.last,
            contents: Some((segment.contents_at.start, segment.contents_at.end)),
            poison: !fresh.poison.is_empty(),
        });
        for (name, run) in &fresh.runs {
            let (limits, target) = limits(name);
            let table = self.tables.entry(name.clone()).or_default();
            if table.is_behind(&limits) {
                table.open = table.open.into_iter().chain(run.extent(0..run.len())).reduce(Extent::and);
            } else {
                table.add(run, &limits, &target);
            }
        }
    }

    /// Begins the files of all windows that are due.
    pub fn close_due(&mut self, due: Due<'_>, limits: impl Fn(&Segment) -> (Limits, Target)) {
        for (name, table) in &mut self.tables {
            let (limits, target) = limits(name);
            let at_the_end = (self.ended && limits != Limits::NONE).then_some(Reason::Reshard);
            let reason = table.open.as_ref().and_then(|open| at_the_end.or_else(|| due.reason(name, open, &limits)));
            if let Some(reason) = reason.filter(|_| !table.is_behind(&limits)) {
                table.close(reason, &target);
            }
        }
    }

    /// The tables whose open records have to be read before they can be cut into files.
    #[must_use]
    pub fn behind(&self, limits: impl Fn(&Segment) -> (Limits, Target)) -> Vec<Segment> {
        let tables = self.tables.iter().filter(|(name, table)| table.is_behind(&limits(name).0));
        tables.map(|(name, _)| name.clone()).collect()
    }

    /// This file exists, at this time. It may end elsewhere than the one that was begun with its first record: then what is open
    /// has to be counted anew. The files of a table are noted in their order; the others will be found again.
    pub fn finish(&mut self, table: &Segment, found: &RolledFile, now_ms: i64) {
        let Some(table) = self.tables.get_mut(table) else { return };
        let Some(begun) = table.begun.first().filter(|begun| begun.extent.first == found.first) else { return };
        let is_as_begun = begun.extent.last == found.last;
        table.rolled = table.rolled.max(found.last);
        table.written_ms = now_ms;
        if is_as_begun {
            table.begun.remove(0);
        } else {
            let begun = std::mem::take(&mut table.begun).into_iter().map(|begun| begun.extent);
            table.open = begun.chain(table.open).reduce(Extent::and);
            table.recount = true;
        }
    }

    /// Puts files in the place of one that was begun, some of whose records were lost with their segments.
    pub fn lose(&mut self, table: &Segment, begun: &Begun, rest: Vec<Begun>, now_ms: i64) {
        let Some(table) = self.tables.get_mut(table) else { return };
        let Some(at) = table.begun.iter().position(|other| other == begun) else { return };
        table.begun.splice(at..=at, rest);
        table.lost = table.lost.max(begun.extent.last);
        table.written_ms = now_ms;
    }

    /// Forgets the segments that nobody needs any more. Those that say what they staged are forgotten in the order of their records, on
    /// which the journal relies.
    pub fn sweep(&mut self) -> Swept {
        let needs: BTreeMap<&str, Position> =
            self.tables.iter().filter_map(|(name, table)| Some((name.as_str(), table.needs()?))).collect();
        let first = needs.values().min().copied();
        let is_needed = |stored: &Stored| {
            let needs = match stored.table() {
                Some(table) => needs.get(table).copied(),
                None => first,
            };
            stored.poison || needs.is_some_and(|first| stored.last >= first)
        };
        let (mut swept, mut holds_others) = (Swept::default(), false);
        self.segments.retain(|stored| {
            let is_kept = is_needed(stored) || holds_others && stored.table().is_none();
            holds_others |= is_kept && stored.table().is_none();
            if !is_kept {
                swept.names.push(stored.name.clone());
                swept.intervals.extend(stored.interval());
            }
            is_kept
        });
        swept
    }

    /// Whether an object of the earlier layout is not needed any more. A segment with records beyond what is known of its table was
    /// staged by an earlier version after the shard was taken over.
    #[must_use]
    pub fn is_past(&self, table: &Segment, item: &Item) -> bool {
        let Item::Segment(staged) = item else { return true };
        self.tables.get(table).is_some_and(|table| {
            let open = table.open.map_or(Position::START, |open| open.last);
            staged.extent.last <= table.begun_to().max(open)
        })
    }

    /// The names of all segments.
    #[must_use]
    pub fn names(&self) -> BTreeSet<&str> {
        self.segments.iter().map(|stored| stored.name.as_str()).collect()
    }

    /// The records of a segment that can never be used are in the quarantine.
    pub fn quarantined(&mut self, name: &str) {
        self.segments.iter_mut().filter(|stored| stored.name == name).for_each(|stored| stored.poison = false);
    }

    /// When the oldest record of some tables arrived that is in no file yet, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn oldest_ms(&self, of: impl Fn(&Segment) -> bool) -> Option<i64> {
        self.tables.iter().filter(|(name, _)| of(name)).filter_map(|(_, table)| table.oldest_ms()).min()
    }

    /// The tables with records that are in no file yet.
    pub fn unfinished(&self) -> impl Iterator<Item = &Segment> {
        let unfinished = self.tables.iter().filter(|(_, table)| table.oldest_ms().is_some());
        unfinished.map(|(name, _)| name)
    }

    /// Whether nothing of the shard can come any more, and nothing is left to do.
    #[must_use]
    pub fn is_over(&self, now_ms: i64) -> bool {
        let is_done = self.ended && self.segments.is_empty() && self.unfinished().next().is_none();
        let is_done = is_done && self.replays.is_empty();
        // What was taken over of the earlier layout may not say when its records arrived.
        is_done && self.newest_ms > 0 && now_ms.saturating_sub(self.newest_ms) > RETENTION_MS
    }

    /// When the first record reaches the maximum age of its table that is in no file yet, in milliseconds since
    /// 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn due_ms(&self, limits: impl Fn(&Segment) -> (Limits, Target)) -> Option<i64> {
        let due = |(name, table): (&Segment, &Table)| Some(table.oldest_ms()?.saturating_add(limits(name).0.age_ms));
        self.tables.iter().filter_map(due).min()
    }

    /// The files that are to be written, by table and first record.
    pub fn all_begun(&self) -> impl Iterator<Item = (&Segment, &Begun)> {
        self.tables.iter().flat_map(|(name, table)| table.begun.iter().map(move |begun| (name, begun)))
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

/// The objects of a shard's folder, in a listing.
#[derive(Debug, Default)]
pub struct Listing {
    /// Whether its state is there.
    pub has_state: bool,
    /// Its segments.
    pub segments: Vec<Name>,
    /// Segments of what is landed out of band: the revision of the state that was read, and their names.
    pub replays: Vec<(u64, String)>,
    /// Its objects of the earlier layout, and their names.
    pub earlier: Vec<(Segment, Item, String)>,
    /// When the newest object was written, in milliseconds since 1970-01-01T00:00:00Z.
    pub written_ms: Option<i64>,
}

impl Listing {
    /// Adds an object. `false` if it is none that kafka-roller writes.
    pub fn add(&mut self, name: &str, written_ms: Option<i64>) -> bool {
        self.written_ms = self.written_ms.max(written_ms);
        if name == STATE {
            self.has_state = true;
        } else if let Some(segment) = Name::parse(name) {
            self.segments.push(segment);
        } else if let Some((revision, segment)) =
            name.strip_prefix(replay::PREFIX).and_then(|name| name.split_once('-'))
            && let (Ok(revision), Some(_)) = (revision.parse(), Name::parse(segment))
        {
            self.replays.push((revision, name.to_owned()));
        } else if let Some((table, item)) = earlier::parse(name) {
            self.earlier.push((table, item, name.to_owned()));
        } else {
            return false;
        }
        true
    }

    /// Whether there is nothing of the shard.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.has_state && self.segments.is_empty() && self.earlier.is_empty()
    }

    /// The state of a shard that has only objects of the earlier layout.
    #[must_use]
    pub fn taken_over(&self) -> State {
        State::taken_over(self.earlier.iter().map(|(table, item, name)| (table.clone(), *item, name.as_str())))
    }

    /// Whether the state is gone: segments are there that followed others.
    #[must_use]
    pub fn lost_its_state(&self) -> bool {
        !self.has_state && self.segments.iter().any(|name| name.after > Position::START)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{event::Shard, run::tests::run_of};

    pub(crate) fn at(number: u64) -> Position {
        Position::of_sequence_number(&number.to_string()).unwrap()
    }

    pub(crate) fn interval(first: u64, last: u64) -> Interval {
        Interval { first: at(first), last: at(last) }
    }

    pub(crate) fn stored(first: u64, last: u64, poison: bool) -> Stored {
        Stored { name: format!("{first}-{last}"), first: Some(at(first)), last: at(last), contents: None, poison }
    }

    pub(crate) fn batch(numbers: impl IntoIterator<Item = u64>) -> Batch {
        let id = ShardId { stream: "s".parse().unwrap(), shard: "shardId-0".parse().unwrap() };
        let run = run_of(numbers);
        let newest_ms = run.extent(0..run.len()).map(|extent| extent.newest_ms);
        let (shard, runs) = (Shard { stream_arn: String::new(), id }, [("t".parse().unwrap(), run)].into());
        Batch { shard, runs, poison: Vec::new(), oldest_ms: None, newest_ms }
    }

    #[test]
    fn segments_are_forgotten_in_the_order_of_their_records() {
        let mut state = State::new();
        // The second has records for the quarantine, so the third stays, too, though nobody needs it.
        state.segments = vec![stored(1, 3, false), stored(5, 6, true), stored(9, 9, false)];
        let swept = state.sweep();
        assert_eq!((swept.names, swept.intervals), (vec!["1-3".to_owned()], vec![interval(1, 3)]));
        state.quarantined("5-6");
        assert_eq!(state.sweep().intervals, [interval(5, 6), interval(9, 9)]);
        assert_eq!(state.sweep(), Swept::default());
    }

    #[test]
    fn a_batch_says_from_which_record_on_it_is_new() {
        let mut state = State { tail: at(5), newest_ms: 100, ..State::new() };
        let fresh = state.fresh(&batch(3..=9)).unwrap();
        let segment = NewSegment::of(state.tail, fresh.last, &fresh.runs, &mut []).unwrap();
        let limits = Limits { records: 100, bytes: 1 << 20, age_ms: 1 };
        state.stage("arn", &fresh, &segment, |_| (limits, Target { bucket: String::new(), gzip: false }));
        assert_eq!(state.segments[0].interval(), Some(interval(6, 9)));
        assert_eq!((state.tail, state.intervals_after), (at(9), Some(at(5))));
    }
}
