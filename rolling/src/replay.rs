//! What Lambda gave up, and what of it is landed out of band: below the tail of its shard, beside the windows.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shared::{layout::Segment, position::Position, rolled::Reason};

use crate::{
    batch::Batch,
    journal::Interval,
    run::Run,
    segment::NewSegment,
    shard::{Begun, State, Stored, Target},
};

/// Records that Lambda gave up and that are landed out of band: below the tail, and in no window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// The records.
    #[serde(flatten)]
    pub interval: Interval,
    /// Their segment.
    pub segment: Stored,
    /// The files that they are going to be, one for each table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<Segment, Begun>,
}

/// What the names of their segments begin with.
pub(crate) const PREFIX: &str = "replay-";

impl Replay {
    /// What is begun with these records, by one who has read the state at `revision`. The revision is in the name of the segment, so that it is known when
    /// no state can take it up any more.
    #[must_use]
    pub fn of(
        revision: u64,
        interval: Interval,
        segment: &NewSegment,
        runs: &BTreeMap<Segment, Run>,
        poison: bool,
        target: impl Fn(&Segment) -> Target,
    ) -> Self {
        let begun = |(table, run): (&Segment, &Run)| {
            let extent = run.extent(0..run.len())?;
            let (after, reason, target) = (extent.first.before(), Reason::Replay, target(table));
            Some((table.clone(), Begun { after, extent, reason, target }))
        };
        let name = format!("{PREFIX}{revision}-{}", segment.name);
        let contents = Some((segment.contents_at.start, segment.contents_at.end));
        Self {
            interval,
            segment: Stored { name, first: None, last: interval.last, contents, poison },
            files: runs.iter().filter_map(begun).collect(),
        }
    }
}

/// What is known, besides the state, of records that may have been staged.
#[derive(Debug)]
pub struct Known {
    /// Intervals of segments that are gone.
    pub segments: Vec<Interval>,
    /// Intervals that were landed out of band.
    pub replays: Vec<Interval>,
    /// Whether the function can never have got the records from Lambda, so that no segment holds them.
    pub never_delivered: bool,
    /// Whether what is not known to be staged counts as not staged.
    pub even_if_landed: bool,
}

/// Why the records of a batch that Lambda gave up are not landed out of band.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLanded {
    /// Nothing says yet where the shard comes from.
    #[error(
        "nothing of its shard has been staged yet; replay it later, or with --even-if-landed if nothing else will come"
    )]
    Early,
    /// It was staged before intervals were kept, or may have been.
    #[error(
        "whether record {0:?} is in a file is not known: it is older than what kafka-roller keeps of this. Look for it in the files of its \
         table; --even-if-landed lands it all the same"
    )]
    Undecided(Position),
}

impl State {
    /// Of the records of a batch that Lambda gave up, those that were never staged, as intervals of its records.
    pub fn missing(&self, batch: &Batch, known: &Known) -> Result<Vec<Interval>, NotLanded> {
        let live = self.segments.iter().filter_map(Stored::interval);
        let segments = live.chain(known.segments.iter().copied()).filter(|_| !known.never_delivered);
        let replays = self.replays.iter().map(|replay| replay.interval).chain(known.replays.iter().copied());
        let mut positions: Vec<Position> = batch.times().map(|(position, _)| position).collect();
        positions.sort_unstable();
        let own = positions.first().zip(positions.last()).map(|(first, last)| Interval { first: *first, last: *last });
        // The interval of its neighbours, which Lambda gave up without it, says nothing of what was never delivered.
        let is_within = |replay: &Interval| own.is_some_and(|own| own.first <= replay.first && replay.last <= own.last);
        let covered = [union(segments), union(replays.filter(|replay| !known.never_delivered || is_within(replay)))];
        let is_staged = |position: Position| covered.iter().any(|intervals| cover(intervals, position));
        let (mut missing, mut is_behind_missing) = (Vec::<Interval>::new(), false);
        for position in positions {
            if is_staged(position) {
                is_behind_missing = false;
                continue;
            }
            let is_before_intervals = self.intervals_after.is_none_or(|after| position <= after);
            if is_before_intervals && !known.never_delivered && !known.even_if_landed {
                return Err(NotLanded::Undecided(position));
            }
            match missing.last_mut().filter(|_| is_behind_missing) {
                Some(interval) => interval.last = position,
                None => missing.push(Interval { first: position, last: position }),
            }
            is_behind_missing = true;
        }
        Ok(missing)
    }

    /// Whether a segment of what was to be landed out of band, by one who had read the state at `revision`, will never be named.
    #[must_use]
    pub fn is_dead_replay(&self, revision: u64, name: &str) -> bool {
        revision < self.revision && !self.replays.iter().any(|replay| replay.segment.name == name)
    }
}

/// The same records as disjoint intervals in order. What was too large for Lambda may have been landed amid others.
fn union(intervals: impl Iterator<Item = Interval>) -> Vec<Interval> {
    let mut sorted: Vec<Interval> = intervals.collect();
    sorted.sort_unstable();
    let mut union: Vec<Interval> = Vec::with_capacity(sorted.len());
    for interval in sorted {
        match union.last_mut().filter(|before| interval.first <= before.last) {
            Some(before) => before.last = before.last.max(interval.last),
            None => union.push(interval),
        }
    }
    union
}

/// Whether one of these intervals has a record. They are in order and disjoint.
fn cover(intervals: &[Interval], position: Position) -> bool {
    let until = intervals.partition_point(|interval| interval.first <= position);
    until.checked_sub(1).and_then(|at| intervals.get(at)).is_some_and(|interval| interval.covers(position))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::{
        Listing,
        tests::{at, batch, interval, stored},
    };

    #[test]
    fn what_lies_in_no_interval_was_never_staged() {
        let mut state = State { tail: at(20), intervals_after: Some(at(2)), ..State::new() };
        state.segments = vec![stored(15, 20, false)];
        let known = |never_delivered: bool, even_if_landed: bool| Known {
            segments: vec![interval(3, 5), interval(9, 11)],
            replays: vec![interval(13, 13)],
            never_delivered,
            even_if_landed,
        };
        let missing = |numbers: &[u64], known: Known| state.missing(&batch(numbers.iter().copied()), &known);
        let all: Vec<u64> = (3..=20).collect();
        assert_eq!(missing(&all, known(false, false)).unwrap(), [interval(6, 8), interval(12, 12), interval(14, 14)]);
        assert_eq!(missing(&[4, 10, 16], known(false, false)).unwrap(), []);
        // What was too large for Lambda lies amid others that it gave up, whichever was replayed first.
        let amid = || Known { replays: vec![interval(6, 12), interval(8, 8)], ..known(false, false) };
        assert_eq!(missing(&[6, 7, 10, 12], amid()).unwrap(), []);
        let large = |replays: Vec<Interval>| Known { replays, ..known(true, false) };
        assert_eq!(missing(&[8], large(vec![interval(6, 12)])).unwrap(), [interval(8, 8)]);
        assert_eq!(missing(&[8], large(vec![interval(6, 12), interval(8, 8)])).unwrap(), []);
        // Of what Lambda cannot have delivered, only replays count.
        assert_eq!(missing(&[4, 13, 25], known(true, false)).unwrap(), [interval(4, 4), interval(25, 25)]);
        // What an earlier version has staged, or not.
        assert_eq!(missing(&[1, 4], known(false, false)), Err(NotLanded::Undecided(at(1))));
        assert_eq!(missing(&[1, 2, 4], known(false, true)).unwrap(), [interval(1, 2)]);
        // What another replay has begun.
        let (segment, runs) = (NewSegment::of(at(5), at(7), &BTreeMap::new(), &mut []).unwrap(), BTreeMap::new());
        let target = |_: &Segment| Target { bucket: String::new(), gzip: false };
        state.replays.push(Replay::of(7, interval(6, 7), &segment, &runs, false, target));
        assert_eq!(state.missing(&batch(6..=8), &known(false, false)).unwrap(), [interval(8, 8)]);
        let name = state.replays[0].segment.name.clone();
        state.revision = 8;
        assert!(!state.is_dead_replay(7, &name), "the state names it");
        assert!(
            state.is_dead_replay(7, "other") && !state.is_dead_replay(8, "other"),
            "one who has read it may still come"
        );
        let mut listing = Listing::default();
        assert!(listing.add(&name, None) && listing.replays == [(7, name)]);
    }
}
