//! The state machine of a window: from what is known about a window, it determines the next step. It does no I/O, so that
//! tests can try any order of events.
//!
//! A file holds the records of its window in `(after, last]`, and the next file begins after `last`. Records that have arrived
//! but are in no file yet are in segments. Segments overlap if two invocations staged the same records in different batches;
//! the state machine uses each record once. Records up to and including the high-water mark are in files, even if segments
//! contain them as well.

use std::{collections::BTreeMap, ops::Range};

use shared::{position::Position, rolled::Reason};

use crate::{
    run::{Extent, Run},
    staging::Staged,
};

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

/// What is known about a window.
#[derive(Debug, Default)]
pub struct State {
    /// The high-water mark: all records up to and including this one are in files.
    pub rolled: Position,
    /// The segments in the staging folder.
    pub staged: Vec<Staged>,
    /// The contents of segments that have been read.
    pub contents: BTreeMap<Staged, Run>,
    /// The new records of a batch.
    pub fresh: Run,
    /// The time of a tick, in milliseconds since 1970-01-01T00:00:00Z; `None` for a batch, which closes no file by age.
    pub now_ms: Option<i64>,
    /// The segment behind a gap that an earlier listing showed. The gap is real if the latest listing shows it too.
    pub suspect: Option<Staged>,
    /// Whether the new records are only staged, because rolling has failed.
    pub only_stages: bool,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// List the window again: there is a gap before this segment, which a second listing has to confirm.
    ListAgain(Staged),
    /// Read this segment, because only some of its records belong to the next file.
    Read(Staged),
    /// Write this file.
    Roll(Roll),
    /// Stage these records of the batch.
    Stage(Staged, Range<usize>),
    /// Nothing is left to do: every record is in a file or in a segment.
    Finished,
}

/// A file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// The last record of the previous file.
    pub after: Position,
    /// Summary of its records.
    pub extent: Extent,
    /// Why the file is closed.
    pub reason: Reason,
    /// The sources of its records, in order.
    pub parts: Vec<Part>,
}

/// The source of consecutive records of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// A whole segment.
    Whole(Staged),
    /// A range of a segment that has been read.
    Range(Staged, Range<usize>),
    /// A range of the new records of the batch.
    Fresh(Range<usize>),
}

/// The staged records after the high-water mark, up to the first gap.
#[derive(Default)]
struct Cover {
    after: Position,
    parts: Vec<Part>,
    gap: Option<Staged>,
}

impl State {
    /// The next step. When it is done, the caller updates the state and asks again.
    #[must_use]
    pub fn step(&self, limits: &Limits) -> Step {
        let fresh = self.fresh.up_to(self.tail())..self.fresh.len();
        if !self.only_stages {
            match self.roll(fresh.clone(), limits) {
                Ok(Some(roll)) => return Step::Roll(roll),
                Err(first) => return *first,
                Ok(None) => {}
            }
        }
        match self.fresh.extent(fresh.clone()) {
            Some(extent) => Step::Stage(Staged { after: self.tail(), extent }, fresh),
            None => Step::Finished,
        }
    }

    /// The next file of the staged records and these new ones, if it is due. `Err` is a step that has to be done first.
    fn roll(&self, fresh: Range<usize>, limits: &Limits) -> Result<Option<Roll>, Box<Step>> {
        let mut cover = self.cover()?;
        if cover.gap.is_none() && !fresh.is_empty() {
            cover.parts.push(Part::Fresh(fresh));
        }
        self.close(&cover, limits)
    }

    /// Position of the last record that is in a file or in a segment.
    #[must_use]
    pub fn tail(&self) -> Position {
        self.staged.iter().map(|staged| staged.extent.last).fold(self.rolled, Position::max)
    }

    /// Collects each staged record once, up to the first gap. A gap directly after the high-water mark is skipped: the next
    /// file records in its metadata where it begins, so the gap remains visible.
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
                    return Err(Box::new(Step::ListAgain(segment)));
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

    /// The records of a segment after `end`.
    fn beyond(&self, segment: Staged, end: Position) -> Result<Part, Box<Step>> {
        if segment.after == end {
            return Ok(Part::Whole(segment));
        }
        let run = self.read(&segment)?;
        Ok(Part::Range(segment, run.up_to(end)..run.len()))
    }

    /// The next file, if it is due. `Err` is a step that has to be done first.
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
                Part::Range(segment, range) => (self.read(segment)?, range.clone()),
                Part::Fresh(range) => (&self.fresh, range.clone()),
            };
            let (count, bytes) = sum.map_or((0, 0), |sum| (sum.count, sum.bytes));
            let fits = fitting(run, range.clone(), limits.records - count, limits.bytes - bytes);
            // A single line that exceeds the maximum size gets a file of its own.
            let taken = if fits == 0 && count == 0 { 1 } else { fits };
            let range = range.start..range.start + taken;
            let reason = if count + taken == limits.records { Reason::Records } else { Reason::Bytes };
            if let Some(extent) = run.extent(range.clone()) {
                sum = Some(sum.map_or(extent, |sum| sum.and(extent)));
                parts.push(match part {
                    Part::Whole(segment) | Part::Range(segment, _) => Part::Range(*segment, range),
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

    /// The contents of a segment; `Err` if it has not been read yet.
    fn read(&self, segment: &Staged) -> Result<&Run, Box<Step>> {
        self.contents.get(segment).ok_or_else(|| Box::new(Step::Read(*segment)))
    }

    fn extent(&self, part: &Part) -> Option<Extent> {
        match part {
            Part::Whole(segment) => Some(segment.extent),
            Part::Range(segment, range) => self.contents.get(segment)?.extent(range.clone()),
            Part::Fresh(range) => self.fresh.extent(range.clone()),
        }
    }
}

/// Number of records at the start of a range that fit into `records` and `bytes`.
fn fitting(run: &Run, range: Range<usize>, records: usize, bytes: u64) -> usize {
    let lines = range.map(|index| run.line_bytes(index));
    let ends = lines.scan(0, |end, line| {
        *end += line;
        Some(*end)
    });
    ends.take(records).take_while(|end| *end <= bytes).count()
}
