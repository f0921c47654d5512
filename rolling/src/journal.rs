//! Which records were staged, long after their segments are gone.
//!
//! Lambda delivers the records of a shard one range after the other, so what a batch staged is an interval of positions: from the
//! first record that was new to the last. Between the intervals lie the records that Lambda gave up. Live segments are in the
//! state; before the state forgets some, an object says what their intervals were:
//!
//! ```text
//! staged/{stream}/{shard}/{last}-{first}.json            intervals of segments that were deleted together
//! staged/{stream}/{shard}/replays/{last}-{first}.json    an interval that was landed out of band
//! ```
//!
//! The keys are in the order of the last record, so one listing that begins at a position finds what covers it. The state forgets its segments in
//! the order of their records; so behind an object that begins after a position, none covers that position, even if some of these
//! objects were written by invocations that did not get to change the state.

use serde::{Deserialize, Serialize};
use shared::position::Position;

use crate::shard::ShardId;

/// The folder of all journals.
pub const FOLDER: &str = "staged/";
/// How long a bucket keeps them: the lifecycle rule in the template says the same.
pub const KEPT_DAYS: u16 = 400;
/// A record that arrived longer ago may have been staged although no interval covers it. After a year without records, a shard that
/// has ended has no state either.
pub const DECIDED_DAYS: u16 = 360;

/// Records from the first to the last one, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Interval {
    /// Position of the first record.
    pub first: Position,
    /// Position of the last record.
    pub last: Position,
}

impl Interval {
    /// Whether a record lies in it.
    #[must_use]
    pub fn covers(&self, position: Position) -> bool {
        (self.first..=self.last).contains(&position)
    }
}

/// What the intervals are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Journal {
    /// Segments that were deleted.
    Segments,
    /// Records that were landed out of band.
    Replays,
}

impl Journal {
    /// The folder of its objects.
    #[must_use]
    pub fn folder(self, shard: &ShardId) -> String {
        match self {
            Self::Segments => format!("{FOLDER}{shard}/"),
            Self::Replays => format!("{FOLDER}{shard}/replays/"),
        }
    }

    /// The key and the contents of the object for intervals in order; `None` if there are none.
    #[must_use]
    pub fn object(self, shard: &ShardId, intervals: &[Interval]) -> Option<(String, String)> {
        let (first, last) = (intervals.first()?.first, intervals.last()?.last);
        let body = serde_json::to_string(intervals).ok()?;
        Some((format!("{}{last}-{first}.json", self.folder(shard)), body))
    }

    /// The records that an object of this journal is about, by its key; `None` if it is none.
    #[must_use]
    pub fn parse(self, shard: &ShardId, key: &str) -> Option<Interval> {
        let (last, first) = key.strip_prefix(&self.folder(shard))?.strip_suffix(".json")?.split_once('-')?;
        Some(Interval { first: first.parse().ok()?, last: last.parse().ok()? })
    }

    /// The key after which a listing has to begin that is to find what covers `position` and what follows it.
    #[must_use]
    pub fn before(self, shard: &ShardId, position: Position) -> String {
        // The minus sign comes after no character of a position.
        format!("{}{position}", self.folder(shard))
    }
}

/// Reads the contents of an object.
pub fn intervals(body: &[u8]) -> Result<Vec<Interval>, serde_json::Error> {
    serde_json::from_slice(body)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(number: u64) -> Position {
        Position::of_sequence_number(&number.to_string()).unwrap()
    }

    fn shard() -> ShardId {
        ShardId { stream: "cubic-kafka".parse().unwrap(), shard: "shardId-000000000006".parse().unwrap() }
    }

    proptest! {
        #[test]
        fn an_object_is_read_back_and_found_by_each_position_that_it_covers(
            ends in prop::collection::btree_set(1..u64::MAX, 2..20),
            at_least in any::<prop::sample::Index>(),
        ) {
            let ends: Vec<u64> = ends.into_iter().collect();
            let pairs = ends.chunks_exact(2).map(|ends| Interval { first: at(ends[0]), last: at(ends[1]) });
            let intervals: Vec<Interval> = pairs.collect();
            for journal in [Journal::Segments, Journal::Replays] {
                let (key, body) = journal.object(&shard(), &intervals).unwrap();
                let all = journal.parse(&shard(), &key).unwrap();
                prop_assert_eq!((all.first, all.last), (intervals[0].first, intervals.last().unwrap().last));
                prop_assert_eq!(&super::intervals(body.as_bytes()).unwrap(), &intervals);
                let inside = *at_least.get(&intervals);
                for position in [inside.first, inside.last] {
                    prop_assert!(inside.covers(position) && key > journal.before(&shard(), position));
                }
                let behind = at(ends.last().unwrap().saturating_add(1));
                prop_assert!(behind == all.last || key < journal.before(&shard(), behind));
            }
        }
    }

    #[test]
    fn what_is_not_of_the_journal_is_left_alone() {
        let interval = [Interval { first: at(3), last: at(5) }];
        let (key, _) = Journal::Replays.object(&shard(), &interval).unwrap();
        assert_eq!(Journal::Segments.parse(&shard(), &key), None);
        assert_eq!(Journal::Replays.parse(&shard(), &key.replace(".json", ".ndjson")), None);
        assert_eq!(Journal::Segments.object(&shard(), &[]), None);
    }
}
