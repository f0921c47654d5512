//! The staging folder as it was before a shard had a state: a segment for each table of a batch, and a high-water mark for each
//! table. It is read once, when a shard is taken over.
//!
//! `{table}/{after}-{first}-{last}-{count}-{bytes}-{oldest}-{newest}.ndjson`, in the folder of the shard, is a segment: all
//! records of the table after position `after`, up to and including `last`. `oldest` and `newest` are times of arrival.
//! `{table}/rolled-{last}`, an empty object, is the high-water mark: all records up to and including `last` are in files.

use shared::{layout::Segment, position::Position};

use crate::{run::Extent, segment::Block};

/// Most bytes of a line of a segment's index.
const INDEX_LINE: u64 = 128;

/// A segment as described by its name: all records of its table in `(after, last]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Staged {
    /// Position of the last record of the table before this segment.
    pub after: Position,
    /// Summary of the records.
    pub extent: Extent,
}

impl Staged {
    /// The segment as a block. Its end is beyond that of the object, whose size the name does not tell.
    #[must_use]
    pub fn block(&self) -> Block {
        let index = u64::try_from(self.extent.count).unwrap_or(u64::MAX).saturating_mul(INDEX_LINE);
        Block { start: 0, end: self.extent.bytes.saturating_add(index), extent: self.extent }
    }
}

/// An object in the folder of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A segment.
    Segment(Staged),
    /// A high-water mark.
    Mark(Position),
}

/// Parses a name in the folder of a shard; `None` if it is that of something else.
#[must_use]
pub fn parse(name: &str) -> Option<(Segment, Item)> {
    let (table, name) = name.split_once('/')?;
    Some((table.parse().ok()?, item(name)?))
}

fn item(name: &str) -> Option<Item> {
    if let Some(mark) = name.strip_prefix("rolled-") {
        return mark.parse().ok().map(Item::Mark);
    }
    let parts: Vec<&str> = name.strip_suffix(".ndjson")?.split('-').collect();
    let [after, first, last, count, bytes, oldest, newest] = parts.as_slice() else { return None };
    let after = after.parse().ok()?;
    let extent = Extent {
        first: first.parse().ok()?,
        last: last.parse().ok()?,
        count: count.parse().ok()?,
        bytes: bytes.parse().ok()?,
        oldest_ms: oldest.parse().ok()?,
        newest_ms: newest.parse().ok()?,
    };
    let sound = after < extent.first && extent.first <= extent.last && extent.count > 0;
    sound.then_some(Item::Segment(Staged { after, extent }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "riders/00000000000000000000000000000000000000000000000000000004.0000000-\
                       00000000000000000000000000000000000000000000000000000005.0000000-\
                       00000000000000000000000000000000000000000000000000000006.0000000-2-18-5-6.ndjson";

    #[test]
    fn names_say_what_a_segment_holds_and_those_of_others_are_refused() {
        let at = |number: &str| Position::of_sequence_number(number).unwrap();
        let extent = Extent { first: at("5"), last: at("6"), count: 2, bytes: 18, oldest_ms: 5, newest_ms: 6 };
        let staged = Item::Segment(Staged { after: at("4"), extent });
        assert_eq!(parse(KEY), Some(("riders".parse().unwrap(), staged)));
        let mark = format!("riders/rolled-{}", at("9"));
        assert_eq!(parse(&mark), Some(("riders".parse().unwrap(), Item::Mark(at("9")))));
        for other in [
            KEY.replace("riders/", ""),
            KEY.replace("riders", "../riders"),
            KEY.replace("-2-", "-0-"),
            KEY.replace(".ndjson", ".json"),
            format!("{KEY}/x"),
            "riders/rolled-7".to_owned(),
        ] {
            assert_eq!(parse(&other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            drop(parse(&format!("a/{text}")));
        }
    }
}
