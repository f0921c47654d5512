//! The window machine: what is known of a window → the next thing to do. Pure, so that every history can be tried.
//!
//! A file holds the records of its window in `(after, last]`, the next file begins after `last`. What has arrived and is in
//! no file yet is in segments. Segments may overlap, when two invocations staged the same records in other batches, and
//! the machine takes each record once. Records at or below the high-water mark are in files, whatever segments say.

use std::{collections::BTreeMap, ops::Range};

use shared::{position::Position, rolled::Reason};

use crate::{
    run::{Extent, Run},
    staging::Staged,
};

/// When a file is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// At so many records.
    pub records: usize,
    /// Before the record that would make it larger than this many bytes.
    pub bytes: u64,
    /// When its oldest record is so old, in milliseconds.
    pub age_ms: i64,
}

/// What is known of a window.
#[derive(Debug, Default)]
pub struct State {
    /// Every record up to here is in a file.
    pub rolled: Position,
    /// What is staged.
    pub staged: Vec<Staged>,
    /// Segments that have been read.
    pub opened: BTreeMap<Staged, Run>,
    /// What a batch brought.
    pub fresh: Run,
    /// The time of a tick, in milliseconds since 1970-01-01T00:00:00Z; `None` for a batch.
    pub now_ms: Option<i64>,
    /// The segment that a listing before the last one showed behind a gap.
    pub suspect: Option<Staged>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The segments before this one are missing: list again, and see whether they still are.
    LookAgain(Staged),
    /// Read this segment: only some of its records belong in the next file.
    Open(Staged),
    /// Write this file.
    Roll(Roll),
    /// Stage these records of the batch.
    Stage(Staged, Range<usize>),
    /// Nothing: every record is in a file or in a segment.
    Rest,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// The last record of the file before it.
    pub after: Position,
    /// Its records.
    pub extent: Extent,
    /// Why it is closed.
    pub reason: Reason,
    /// Where its records are, in order.
    pub parts: Vec<Part>,
}

/// Consecutive records of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A whole segment.
    Whole(Staged),
    /// Some records of a segment that has been read.
    Opened(Staged, Range<usize>),
    /// Some records of the batch.
    Fresh(Range<usize>),
}

/// What is staged without a gap, from the high-water mark on.
#[derive(Default)]
struct Cover {
    after: Position,
    parts: Vec<Part>,
    gap: Option<Staged>,
}

impl State {
    /// What to do next. After it is done and the state says so, there may be more to do.
    #[must_use]
    pub fn step(&self, limits: &Limits) -> Step {
        let mut cover = match self.cover() {
            Ok(cover) => cover,
            Err(first) => return *first,
        };
        let fresh = self.fresh.up_to(self.tail())..self.fresh.len();
        if cover.gap.is_none() && !fresh.is_empty() {
            cover.parts.push(Part::Fresh(fresh.clone()));
        }
        match self.close(&cover, limits) {
            Ok(Some(roll)) => Step::Roll(roll),
            Err(first) => *first,
            Ok(None) => match self.fresh.extent(fresh.clone()) {
                Some(extent) => Step::Stage(Staged { after: self.tail(), extent }, fresh),
                None => Step::Rest,
            },
        }
    }

    /// The last record that is in a file or in a segment.
    fn tail(&self) -> Position {
        self.staged.iter().map(|staged| staged.extent.last).fold(self.rolled, Position::max)
    }

    /// Takes each staged record once, up to the first gap. A gap right behind the high-water mark is passed over: the file
    /// that follows says after what it begins, so that the gap shows.
    fn cover(&self) -> Result<Cover, Box<Step>> {
        let mut staged: Vec<Staged> = self.staged.clone();
        staged.sort_unstable();
        let mut cover = Cover { after: self.rolled, ..Cover::default() };
        let (mut end, mut furthest, mut next) = (self.rolled, None::<Staged>, staged.into_iter().peekable());
        loop {
            while let Some(other) = next.next_if(|other| other.after <= end) {
                let reach = |staged: Staged| (staged.extent.last, staged.after);
                furthest = furthest.into_iter().chain([other]).max_by_key(|staged| reach(*staged));
            }
            if let Some(segment) = furthest.filter(|segment| segment.extent.last > end) {
                cover.parts.push(self.beyond(segment, end)?);
                end = segment.extent.last;
            } else if let Some(segment) = next.peek().copied() {
                if self.suspect != Some(segment) {
                    return Err(Box::new(Step::LookAgain(segment)));
                }
                if !cover.parts.is_empty() {
                    return Ok(Cover { gap: Some(segment), ..cover });
                }
                (cover.after, end) = (segment.after, segment.after);
            } else {
                return Ok(cover);
            }
        }
    }

    /// The records of a segment that are beyond `end`.
    fn beyond(&self, segment: Staged, end: Position) -> Result<Part, Box<Step>> {
        if segment.after == end {
            return Ok(Part::Whole(segment));
        }
        let run = self.read(&segment)?;
        Ok(Part::Opened(segment, run.up_to(end)..run.len()))
    }

    /// The next file, if there is enough for it. `Err` is what has to be done first.
    fn close(&self, cover: &Cover, limits: &Limits) -> Result<Option<Roll>, Box<Step>> {
        let (mut sum, mut parts) = (None::<Extent>, Vec::new());
        let roll =
            |sum: Option<Extent>, parts, reason| sum.map(|extent| Roll { after: cover.after, extent, reason, parts });
        let full = |sum: &Extent| sum.count == limits.records || sum.bytes == limits.bytes;
        for part in &cover.parts {
            if sum.as_ref().is_some_and(full) {
                break;
            }
            let Some(extent) = self.extent(part) else { continue };
            let with = sum.map_or(extent, |sum| sum.and(extent));
            if with.count <= limits.records && with.bytes <= limits.bytes {
                parts.push(part.clone());
                sum = Some(with);
                continue;
            }
            let (run, range) = match part {
                Part::Whole(segment) => {
                    let run = self.read(segment)?;
                    (run, 0..run.len())
                }
                Part::Opened(segment, range) => (self.read(segment)?, range.clone()),
                Part::Fresh(range) => (&self.fresh, range.clone()),
            };
            let (count, bytes) = sum.map_or((0, 0), |sum| (sum.count, sum.bytes));
            let fits = fitting(run, range.clone(), limits.records - count, limits.bytes - bytes);
            // A line longer than a file may be is a file.
            let taken = if fits == 0 && count == 0 { 1 } else { fits };
            let range = range.start..range.start + taken;
            let reason = if count + taken == limits.records { Reason::Records } else { Reason::Bytes };
            if let Some(extent) = run.extent(range.clone()) {
                sum = Some(sum.map_or(extent, |sum| sum.and(extent)));
                parts.push(match part {
                    Part::Whole(segment) | Part::Opened(segment, _) => Part::Opened(*segment, range),
                    Part::Fresh(_) => Part::Fresh(range),
                });
            }
            return Ok(roll(sum, parts, reason));
        }
        let Some(extent) = sum else { return Ok(None) };
        let old = self.now_ms.is_some_and(|now| now.saturating_sub(extent.oldest_ms) >= limits.age_ms);
        let reason = if extent.count == limits.records {
            Reason::Records
        } else if extent.bytes == limits.bytes {
            Reason::Bytes
        } else if cover.gap.is_some() {
            Reason::Gap
        } else if old {
            Reason::Age
        } else {
            return Ok(None);
        };
        Ok(roll(sum, parts, reason))
    }

    /// The records of a segment; `Err` when it has not been read yet.
    fn read(&self, segment: &Staged) -> Result<&Run, Box<Step>> {
        self.opened.get(segment).ok_or_else(|| Box::new(Step::Open(*segment)))
    }

    fn extent(&self, part: &Part) -> Option<Extent> {
        match part {
            Part::Whole(segment) => Some(segment.extent),
            Part::Opened(segment, range) => self.opened.get(segment)?.extent(range.clone()),
            Part::Fresh(range) => self.fresh.extent(range.clone()),
        }
    }
}

/// How many records of a range fit into what room there is.
fn fitting(run: &Run, range: Range<usize>, records: usize, bytes: u64) -> usize {
    let lines = range.map(|index| run.line_bytes(index));
    let ends = lines.scan(0, |end, line| {
        *end += line;
        Some(*end)
    });
    ends.take(records).take_while(|end| *end <= bytes).count()
}
