//! Runs: consecutive records of a window, and their form as a block of a segment.
//!
//! A block consists of the lines of its records, exactly as they will be in a file, followed by an index with one line for
//! each record: position, time of arrival, length of the record's line. Positions are compressed: the number of characters
//! that are the same as in the previous position, then the rest.

use std::{fmt::Write, ops::Range, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::position::{Position, TEXT_BYTES};

/// About as many bytes as a line of the index has.
const INDEX_LINE_BYTES: usize = 48;

/// One record of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its position in the shard.
    pub position: Position,
    /// When it arrived in the stream, in milliseconds since 1970-01-01T00:00:00Z.
    pub arrived_ms: i64,
    /// The end of its line, including the line break, within the run's lines.
    pub end: usize,
}

/// Consecutive records of a window, in the order of their positions. A clone shares them.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The entries of all runs that were made together.
    entries: Arc<Vec<Entry>>,
    /// Which of them are of this run.
    range: Range<usize>,
    lines: Bytes,
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.all() == other.all() && self.lines == other.lines
    }
}

impl Eq for Run {}

/// A summary of consecutive records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Extent {
    /// Position of the first record.
    pub first: Position,
    /// Position of the last record.
    pub last: Position,
    /// Number of records.
    pub count: usize,
    /// Total length of their lines, including line breaks.
    pub bytes: u64,
    /// When the oldest record arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub oldest_ms: i64,
    /// When the newest record arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub newest_ms: i64,
}

impl Extent {
    /// The summary of these records together with those of `next`, which must follow them.
    #[must_use]
    pub fn and(self, next: Self) -> Self {
        Self {
            first: self.first,
            last: next.last,
            count: self.count + next.count,
            bytes: self.bytes + next.bytes,
            oldest_ms: self.oldest_ms.min(next.oldest_ms),
            newest_ms: self.newest_ms.max(next.newest_ms),
        }
    }
}

/// Why bytes are not the index of a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of the index is damaged")]
pub struct IndexError(usize);

impl Run {
    /// A run of entries, whose positions must rise, and their lines.
    #[must_use]
    pub fn new(entries: Vec<Entry>, lines: Bytes) -> Self {
        Self { range: 0..entries.len(), entries: Arc::new(entries), lines }
    }

    /// A run of some of these entries.
    #[must_use]
    pub fn part(entries: &Arc<Vec<Entry>>, range: Range<usize>, lines: Bytes) -> Self {
        Self { entries: Arc::clone(entries), range, lines }
    }

    fn all(&self) -> &[Entry] {
        self.entries.get(self.range.clone()).unwrap_or_default()
    }

    /// Number of records.
    #[must_use]
    pub fn len(&self) -> usize {
        self.all().len()
    }

    /// Whether the run has no records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all().is_empty()
    }

    /// Position of the first record.
    #[must_use]
    pub fn first(&self) -> Option<Position> {
        self.all().first().map(|entry| entry.position)
    }

    /// Position of the last record.
    #[must_use]
    pub fn last(&self) -> Option<Position> {
        self.all().last().map(|entry| entry.position)
    }

    /// Number of records at or before `position`.
    #[must_use]
    pub fn up_to(&self, position: Position) -> usize {
        // Of most runs, all records are behind it.
        if self.first().is_none_or(|first| first > position) {
            return 0;
        }
        self.all().partition_point(|entry| entry.position <= position)
    }

    /// The records of a range.
    pub fn entries(&self, range: Range<usize>) -> &[Entry] {
        self.all().get(range).unwrap_or_default()
    }

    /// The start of the line of record `index`.
    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).and_then(|before| self.all().get(before)).map_or(0, |entry| entry.end)
    }

    /// Where the line of record `index` begins.
    #[must_use]
    pub fn offset(&self, index: usize) -> u64 {
        self.start(index) as u64
    }

    /// The lines of a range; nothing if the run has been read without lines.
    #[must_use]
    pub fn lines(&self, range: Range<usize>) -> Bytes {
        let (start, end) = (self.start(range.start), self.start(range.end));
        if start < end && end <= self.lines.len() { self.lines.slice(start..end) } else { Bytes::new() }
    }

    /// The summary of a range; `None` if the range is empty.
    #[must_use]
    pub fn extent(&self, range: Range<usize>) -> Option<Extent> {
        let bytes = (self.start(range.end) - self.start(range.start)) as u64;
        let entries = self.entries(range);
        Some(Extent {
            first: entries.first()?.position,
            last: entries.last()?.position,
            count: entries.len(),
            bytes,
            oldest_ms: entries.iter().map(|entry| entry.arrived_ms).min()?,
            newest_ms: entries.iter().map(|entry| entry.arrived_ms).max()?,
        })
    }

    /// The records after `position`.
    #[must_use]
    pub fn beyond(self, position: Position) -> Self {
        let from = self.up_to(position);
        if from == 0 {
            return self;
        }
        let (start, lines) = (self.start(from), self.lines(from..self.len()));
        let entries = self.entries(from..self.len()).iter().map(|entry| Entry { end: entry.end - start, ..*entry });
        Self::new(entries.collect(), lines)
    }

    /// The records from `first` to `last`, both included.
    #[must_use]
    pub fn between(&self, first: Position, last: Position) -> Self {
        let rest = self.clone().beyond(first.before());
        let count = rest.up_to(last);
        Self::new(rest.entries(0..count).to_vec(), rest.lines(0..count))
    }

    /// Number of records at the start of a range that fit into `records` and `bytes`.
    #[must_use]
    pub fn fitting(&self, range: Range<usize>, records: usize, bytes: u64) -> usize {
        let start = self.start(range.start);
        let ends = self.entries(range).iter().map(|entry| (entry.end - start) as u64);
        ends.take(records).take_while(|end| *end <= bytes).count()
    }

    /// About as many bytes as [`append_to`](Self::append_to) appends.
    #[must_use]
    pub fn block_bytes(&self) -> usize {
        self.lines.len() + self.len() * INDEX_LINE_BYTES
    }

    /// Appends the lines, and then the index: a line for each record.
    pub fn append_to(&self, block: &mut Vec<u8>) {
        block.reserve(self.block_bytes());
        block.extend_from_slice(&self.lines);
        let (mut start, mut before) = (0, [0; TEXT_BYTES]);
        let mut index = String::with_capacity(self.len() * INDEX_LINE_BYTES);
        for entry in self.all() {
            let position = entry.position.text();
            let same = position.iter().zip(before).take_while(|(a, b)| *a == b).count();
            let rest = position.get(same..).and_then(|rest| str::from_utf8(rest).ok()).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(index, "{same} {rest} {} {}", entry.arrived_ms, entry.end - start);
            (start, before) = (entry.end, position);
        }
        block.extend_from_slice(index.as_bytes());
    }

    /// Reads the index of a block. `lines` are the lines that it is of, or nothing if they are not needed.
    pub fn of_index(index: &[u8], lines: Bytes) -> Result<Self, IndexError> {
        let index = std::str::from_utf8(index).map_err(|_| IndexError(0))?;
        let (mut entries, mut end, mut before) = (Vec::new(), 0_usize, String::new());
        for (number, line) in index.lines().enumerate() {
            let entry = entry(line, &before, end).ok_or(IndexError(number))?;
            if entries.last().is_some_and(|last: &Entry| last.position >= entry.position) {
                return Err(IndexError(number));
            }
            (end, before) = (entry.end, entry.position.to_string());
            entries.push(entry);
        }
        if lines.is_empty() || end == lines.len() {
            Ok(Self::new(entries, lines))
        } else {
            Err(IndexError(entries.len()))
        }
    }
}

fn entry(line: &str, before: &str, end: usize) -> Option<Entry> {
    let mut words = line.split(' ');
    let (same, rest, arrived, bytes) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let position = [before.get(..same.parse().ok()?)?, rest].concat();
    let entry = Entry {
        position: position.parse().ok()?,
        arrived_ms: arrived.parse().ok()?,
        end: end.checked_add(bytes.parse().ok()?)?,
    };
    words.next().is_none().then_some(entry)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A run of records at these sequence numbers, each of which arrived at its number in milliseconds.
    pub(crate) fn run_of(sequences: impl IntoIterator<Item = u64>) -> Run {
        let (mut entries, mut lines) = (Vec::new(), Vec::new());
        for sequence in sequences {
            lines.extend_from_slice(format!("{{\"n\":{sequence}}}\n").as_bytes());
            let position = Position::of_sequence_number(&sequence.to_string()).unwrap();
            entries.push(Entry { position, arrived_ms: i64::try_from(sequence).unwrap(), end: lines.len() });
        }
        Run::new(entries, lines.into())
    }

    fn block(run: &Run) -> Vec<u8> {
        let mut block = Vec::new();
        run.append_to(&mut block);
        block
    }

    #[test]
    fn a_block_is_its_lines_and_an_index() {
        let run = run_of([9, 10, 12]).beyond(Position::of_sequence_number("9").unwrap());
        let zeros = "0".repeat(54);
        let index = format!("0 {zeros}10.0000000 10 9\n55 2.0000000 12 9\n");
        let lines = "{\"n\":10}\n{\"n\":12}\n";
        assert_eq!(std::str::from_utf8(&block(&run)).unwrap(), format!("{lines}{index}"));
        assert_eq!(run, run_of([10, 12]));
        assert_eq!(Run::of_index(index.as_bytes(), lines.into()).unwrap(), run);
        for damage in ["x", &lines[1..], &format!("{lines}{lines}")] {
            assert!(Run::of_index(index.as_bytes(), damage.to_owned().into()).is_err(), "{damage}");
        }
        for damage in [&index[1..], &index[..30], &format!("{index}{index}")] {
            assert!(Run::of_index(damage.as_bytes(), lines.into()).is_err(), "{damage}");
        }
    }

    proptest! {
        #[test]
        fn a_block_is_read_back(
            sequences in prop::collection::btree_set(1..u64::MAX >> 1, 1..30),
            cut in any::<prop::sample::Index>(),
        ) {
            let run = run_of(sequences.iter().copied());
            let from = cut.index(run.len());
            let (extent, lines) = (run.extent(from..run.len()), run.lines(from..run.len()));
            let before = run.entries(0..from).last().map_or(Position::START, |entry| entry.position);
            let rest = run.beyond(before);
            prop_assert_eq!((rest.extent(0..rest.len()), rest.lines(0..rest.len())), (extent, lines.clone()));
            let index = block(&rest).split_off(lines.len());
            prop_assert_eq!(&Run::of_index(&index, lines).unwrap(), &rest);
            prop_assert_eq!(Run::of_index(&index, Bytes::new()).unwrap().extent(0..rest.len()), extent);
        }

        #[test]
        fn reading_never_panics(index in prop::collection::vec(any::<u8>(), 0..80)) {
            drop(Run::of_index(&index, Bytes::new()));
        }
    }
}
