//! Segments: what a batch adds to the staging folder of its shard, in one object.
//!
//! A segment has a block for each table, in the order of their names, so that one range of bytes holds neighbouring tables. A
//! block is the lines of its records, exactly as they will be in a file, and the index of the records. After the blocks come the
//! records that can never be used, as the quarantine will hold them, and at the end the contents as JSON: where each block is.

use std::{collections::BTreeMap, fmt, ops::Range};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::{
    layout::Segment,
    position::Position,
    quarantine::{QuarantineRecord, to_ndjson},
};

use crate::run::{Extent, Run};

/// The place of a table in a segment, and what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// Where its lines begin. The index follows them.
    pub start: u64,
    /// Where its index ends.
    pub end: u64,
    /// Summary of its records.
    pub extent: Extent,
}

impl Block {
    /// The bytes of its lines.
    #[must_use]
    pub fn lines(&self) -> Range<u64> {
        self.start..self.start.saturating_add(self.extent.bytes)
    }

    /// The bytes of its index.
    #[must_use]
    pub fn index(&self) -> Range<u64> {
        self.lines().end..self.end
    }
}

/// Where everything is in a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// The block of each table.
    pub tables: BTreeMap<Segment, Block>,
    /// The records for the quarantine, as NDJSON.
    #[serde(default, skip_serializing_if = "Range::is_empty")]
    pub poison: Range<u64>,
}

impl Contents {
    /// Reads the contents at the end of a segment.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// Reads the records for the quarantine.
pub fn poison(ndjson: &[u8]) -> Result<Vec<QuarantineRecord>, serde_json::Error> {
    let lines = ndjson.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(serde_json::from_slice).collect()
}

/// The name of a segment in the folder of its shard: `{after}-{last}-{crc32}.ndjson`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// How far the shard was staged before it.
    pub after: Position,
    /// Position of the last record of its batch.
    pub last: Position,
    /// CRC-32 of the object: under other settings, the same records may give another segment.
    pub crc: u32,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{:08x}.ndjson", self.after, self.last, self.crc)
    }
}

impl Name {
    /// Parses a name; `None` if it is that of something else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_suffix(".ndjson")?.split('-');
        let (after, last, crc) = (parts.next()?, parts.next()?, parts.next()?);
        let name =
            Self { after: after.parse().ok()?, last: last.parse().ok()?, crc: u32::from_str_radix(crc, 16).ok()? };
        (parts.next().is_none() && name.after < name.last && name.to_string() == text).then_some(name)
    }
}

/// About as many bytes as the contents have for a table.
const CONTENTS_BYTES: usize = 320;

/// A segment to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSegment {
    /// Its name.
    pub name: Name,
    /// The object.
    pub body: Bytes,
    /// Where its contents are listed.
    pub contents_at: Range<u64>,
    /// Where everything is in it.
    pub contents: Contents,
}

impl NewSegment {
    /// The segment of these records, with which the shard is staged from `after` to `last`.
    pub fn of(
        after: Position,
        last: Position,
        runs: &BTreeMap<Segment, Run>,
        poison: &mut [QuarantineRecord],
    ) -> Result<Self, serde_json::Error> {
        let bytes: usize = runs.values().map(Run::block_bytes).sum();
        let mut body = Vec::with_capacity(bytes + runs.len() * CONTENTS_BYTES);
        let blocks = runs.iter().filter_map(|(table, run)| {
            let (start, extent) = (body.len() as u64, run.extent(0..run.len())?);
            run.append_to(&mut body);
            Some((table.clone(), Block { start, end: body.len() as u64, extent }))
        });
        let mut contents = Contents { tables: blocks.collect(), ..Contents::default() };
        if !poison.is_empty() {
            let start = body.len() as u64;
            body.extend_from_slice(to_ndjson(poison)?.as_bytes());
            contents.poison = start..body.len() as u64;
        }
        let start = body.len() as u64;
        serde_json::to_writer(&mut body, &contents)?;
        let name = Name { after, last, crc: crc32fast::hash(&body) };
        Ok(Self { name, contents_at: start..body.len() as u64, body: body.into(), contents })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::tests::run_of;

    fn at(number: u64) -> Position {
        Position::of_sequence_number(&number.to_string()).unwrap()
    }

    fn bytes(body: &Bytes, range: Range<u64>) -> Bytes {
        body.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
    }

    #[test]
    fn names_are_read_back_and_those_of_others_are_not() {
        let name = Name { after: at(7), last: at(9), crc: 0xab };
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        let text = name.to_string();
        let backwards = Name { after: at(9), last: at(7), crc: 0xab }.to_string();
        for other in [text.replace(".ndjson", ""), text.replace("000000ab", "ab"), format!("x{text}"), backwards] {
            assert_eq!(Name::parse(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn each_table_is_found_again(
            tables in prop::collection::btree_map("[a-z]{1,8}", prop::collection::btree_set(1..u64::MAX >> 1, 1..9), 1..9),
        ) {
            let runs: BTreeMap<Segment, Run> =
                tables.into_iter().map(|(table, numbers)| (table.parse().unwrap(), run_of(numbers))).collect();
            let new = NewSegment::of(Position::START, at(u64::MAX), &runs, &mut []).unwrap();
            let contents: Contents = serde_json::from_slice(&bytes(&new.body, new.contents_at.clone())).unwrap();
            prop_assert_eq!(&contents, &new.contents);
            prop_assert_eq!(contents.tables.len(), runs.len());
            for (table, block) in contents.tables {
                let lines = bytes(&new.body, block.lines());
                prop_assert_eq!(&lines, &runs[&table].lines(0..runs[&table].len()));
                prop_assert_eq!(&Run::of_index(&bytes(&new.body, block.index()), lines).unwrap(), &runs[&table]);
            }
        }
    }
}
