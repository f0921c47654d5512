//! Keys of the staging folder. One listing of a shard's folder gives the whole state of its windows, in order.
//!
//! `staging/{stream}/{shard}/{table}/{after}-{first}-{last}-{count}-{bytes}-{oldest}-{newest}.ndjson` is a segment: all
//! records of its window after position `after`, up to and including `last`. `oldest` and `newest` are times of arrival.
//!
//! `staging/{stream}/{shard}/{table}/rolled-{last}`, an empty object, is the high-water mark: all records up to and
//! including `last` are in files.

use std::{fmt, str::FromStr};

use shared::{
    position::{Position, PositionError},
    rolled::Window,
};

use crate::run::Extent;

/// The folder of all staged objects.
pub const FOLDER: &str = "staging/";

/// A segment as described by its key: all records of its window in `(after, last]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Staged {
    /// Position of the last record of the window before this segment.
    pub after: Position,
    /// Summary of the records.
    pub extent: Extent,
}

/// An object in the folder of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// A segment.
    Segment(Staged),
    /// A high-water mark.
    Mark(Position),
}

/// The key is not one that kafka-roller writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a segment nor a high-water mark")]
pub struct KeyError(String);

/// The folder of a shard.
#[must_use]
pub fn shard_folder(stream: &impl fmt::Display, shard: &impl fmt::Display) -> String {
    format!("{FOLDER}{stream}/{shard}/")
}

/// The folder of a window.
#[must_use]
pub fn folder(window: &Window) -> String {
    format!("{FOLDER}{window}/")
}

/// The key of an object in the folder of a window.
#[must_use]
pub fn key(window: &Window, item: &Item) -> String {
    format!("{FOLDER}{window}/{item}")
}

/// Parses a key.
pub fn parse(key: &str) -> Result<(Window, Item), KeyError> {
    let error = || KeyError(key.to_owned());
    let mut parts = key.strip_prefix(FOLDER).ok_or_else(error)?.split('/');
    let mut name = || parts.next().ok_or_else(error);
    let (stream, shard, table, item) = (name()?, name()?, name()?, name()?);
    if parts.next().is_some() {
        return Err(error());
    }
    let segment = |text: &str| text.parse().map_err(|_| error());
    let window = Window { stream: segment(stream)?, shard: segment(shard)?, table: segment(table)? };
    Ok((window, item.parse().map_err(|()| error())?))
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(Staged { after, extent }) => {
                let Extent { first, last, count, bytes, oldest_ms, newest_ms } = extent;
                write!(f, "{after}-{first}-{last}-{count}-{bytes}-{oldest_ms}-{newest_ms}.ndjson")
            }
            Self::Mark(position) => write!(f, "rolled-{position}"),
        }
    }
}

impl FromStr for Item {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let position = |text: &str| text.parse().map_err(|_: PositionError| ());
        if let Some(mark) = text.strip_prefix("rolled-") {
            return Ok(Self::Mark(position(mark)?));
        }
        let parts: Vec<&str> = text.strip_suffix(".ndjson").ok_or(())?.split('-').collect();
        let [after, first, last, count, bytes, oldest, newest] = parts.as_slice() else { return Err(()) };
        let staged = Staged {
            after: position(after)?,
            extent: Extent {
                first: position(first)?,
                last: position(last)?,
                count: count.parse().map_err(|_| ())?,
                bytes: bytes.parse().map_err(|_| ())?,
                oldest_ms: oldest.parse().map_err(|_| ())?,
                newest_ms: newest.parse().map_err(|_| ())?,
            },
        };
        let extent = staged.extent;
        let sound = staged.after < extent.first && extent.first <= extent.last && extent.count > 0;
        if sound { Ok(Self::Segment(staged)) } else { Err(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run::tests::run_of;

    fn window() -> Window {
        let part = |text: &str| text.parse().unwrap();
        Window { stream: part("cubic-kafka"), shard: part("shardId-000000000006"), table: part("sample") }
    }

    #[test]
    fn keys_of_others_are_refused() {
        let run = run_of([5, 6]);
        let staged = Staged { after: Position::START, extent: run.extent(0..2).unwrap() };
        let known = key(&window(), &Item::Segment(staged));
        assert_eq!(parse(&known), Ok((window(), Item::Segment(staged))));
        for other in [
            known.replace("staging/", "stage/"),
            known.replace("sample", "../sample"),
            known.replace("-2-", "-0-"),
            known.replace(".ndjson", ".json"),
            format!("{known}/x"),
            folder(&window()),
            format!("{}rolled-7", folder(&window())),
        ] {
            assert_eq!(parse(&other), Err(KeyError(other.clone())), "{other}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_read_back_and_have_the_order_of_positions(
            sequences in prop::collection::btree_set(2..u64::MAX >> 1, 1..9),
            after in 0..2_usize,
        ) {
            let run = run_of(sequences);
            let after = [Position::START, Position::of_sequence_number("1").unwrap()][after];
            let staged = Staged { after, extent: run.extent(0..run.len()).unwrap() };
            for item in [Item::Segment(staged), Item::Mark(staged.extent.last)] {
                prop_assert_eq!(parse(&key(&window(), &item)).unwrap(), (window(), item));
                prop_assert!(key(&window(), &item) > folder(&window()));
            }
            prop_assert!(key(&window(), &Item::Segment(staged)) < key(&window(), &Item::Mark(after)), "marks come last");
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            drop(parse(&format!("staging/a/b/c/{text}")));
        }
    }
}
