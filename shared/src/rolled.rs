//! The object metadata of the files that kafka-roller writes, by which `landfall audit` finds missing and duplicate records.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    layout::{LayoutError, RECORDS_METADATA, Segment, ShortUuid},
    position::{Position, PositionError},
};

/// A window: the records of one table in one shard. Files are made from the records of one window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// The stream's name.
    pub stream: Segment,
    /// The shard's id.
    pub shard: Segment,
    /// The table.
    pub table: Segment,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stream, self.shard, self.table)
    }
}

/// Why a file was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It reached the maximum number of records.
    Records,
    /// Its oldest record reached the maximum age.
    Age,
    /// One more record would have exceeded the maximum size.
    Bytes,
    /// `landfall roll` asked for it.
    Request,
    /// The shard was split or merged, and all its records are there.
    Reshard,
    /// The staged records that should follow have been deleted.
    Gap,
    /// `landfall audit --repair` wrote it from the stream because it was missing.
    Repair,
    /// Lambda had given its records up, and they were landed later. They lie between those of other files, and are in none of them.
    Replay,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 8] =
        [Self::Records, Self::Age, Self::Bytes, Self::Request, Self::Reshard, Self::Gap, Self::Repair, Self::Replay];

    /// The reason as text.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Age => "age",
            Self::Bytes => "bytes",
            Self::Request => "request",
            Self::Reshard => "reshard",
            Self::Gap => "gap",
            Self::Repair => "repair",
            Self::Replay => "replay",
        }
    }
}

/// One file: the records of its window in `(after, last]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledFile {
    /// The window that its records belong to.
    pub window: Window,
    /// The last record of the previous file, or [`Position::START`].
    pub after: Position,
    /// Its first record.
    pub first: Position,
    /// Its last record.
    pub last: Position,
    /// Number of records.
    pub count: usize,
    /// When its oldest record arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub oldest_ms: i64,
    /// When its newest record arrived, in milliseconds since 1970-01-01T00:00:00Z.
    pub newest_ms: i64,
    /// Why it was closed.
    pub reason: Reason,
}

/// Why the metadata of an object is not that of a rolled file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RolledError {
    /// A name is missing.
    #[error("the object has no metadata {0}")]
    Missing(&'static str),
    /// A value is not valid.
    #[error("the object's metadata {0} has the invalid value {1:?}")]
    Invalid(&'static str, String),
    /// Positions or times are out of order, or there are no records.
    #[error("the object's metadata contradicts itself")]
    Contradiction,
    /// A name is not a path segment.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A position is not valid.
    #[error(transparent)]
    Position(#[from] PositionError),
}

const STREAM: &str = "landfall-stream";
const SHARD: &str = "landfall-shard";
const TABLE: &str = "landfall-table";
const AFTER: &str = "landfall-after";
const FIRST: &str = "landfall-first";
const LAST: &str = "landfall-last";
const OLDEST: &str = "landfall-oldest-ms";
const NEWEST: &str = "landfall-newest-ms";
const REASON: &str = "landfall-reason";

impl RolledFile {
    /// The file's name: a version 5 UUID of its window and first record. Two invocations that roll the same records contend for
    /// the same key, and a conditional write lets one of them win.
    #[must_use]
    pub fn id(&self) -> ShortUuid {
        let name = format!("landfall:{}/{}", self.window, self.first);
        ShortUuid::of(Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()).as_u128())
    }

    /// The names and values of the object's metadata.
    #[must_use]
    pub fn metadata(&self) -> [(&'static str, String); 10] {
        [
            (STREAM, self.window.stream.to_string()),
            (SHARD, self.window.shard.to_string()),
            (TABLE, self.window.table.to_string()),
            (AFTER, self.after.to_string()),
            (FIRST, self.first.to_string()),
            (LAST, self.last.to_string()),
            (RECORDS_METADATA, self.count.to_string()),
            (OLDEST, self.oldest_ms.to_string()),
            (NEWEST, self.newest_ms.to_string()),
            (REASON, self.reason.name().to_owned()),
        ]
    }

    /// Parses metadata that [`metadata`](Self::metadata) wrote.
    pub fn of_metadata<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Result<Self, RolledError> {
        let text = |name: &'static str| value(name).ok_or(RolledError::Missing(name));
        let reason = text(REASON)?;
        let reason = Reason::ALL
            .into_iter()
            .find(|known| known.name() == reason)
            .ok_or_else(|| RolledError::Invalid(REASON, reason.to_owned()))?;
        let file = Self {
            window: Window {
                stream: text(STREAM)?.parse()?,
                shard: text(SHARD)?.parse()?,
                table: text(TABLE)?.parse()?,
            },
            after: text(AFTER)?.parse()?,
            first: text(FIRST)?.parse()?,
            last: text(LAST)?.parse()?,
            count: number(RECORDS_METADATA, text(RECORDS_METADATA)?)?,
            oldest_ms: number(OLDEST, text(OLDEST)?)?,
            newest_ms: number(NEWEST, text(NEWEST)?)?,
            reason,
        };
        let is_sound =
            file.after < file.first && file.first <= file.last && file.count > 0 && file.oldest_ms <= file.newest_ms;
        if is_sound { Ok(file) } else { Err(RolledError::Contradiction) }
    }
}

fn number<T: FromStr>(name: &'static str, text: &str) -> Result<T, RolledError> {
    text.parse().map_err(|_| RolledError::Invalid(name, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> RolledFile {
        let of = |number: &str| Position::of_sequence_number(number).unwrap();
        RolledFile {
            window: Window {
                stream: "cubic-kafka".parse().unwrap(),
                shard: "shardId-000000000006".parse().unwrap(),
                table: "sample".parse().unwrap(),
            },
            after: Position::START,
            first: of("49590338271490256608559692538361571095921575989136588898"),
            last: of("49590338271490256608559692540925702759324208523137515618").in_aggregate(3).unwrap(),
            count: 10_000,
            oldest_ms: 1_795_183_906_123,
            newest_ms: 1_795_183_906_124,
            reason: Reason::Records,
        }
    }

    #[test]
    fn metadata_is_read_back() {
        let metadata = file().metadata();
        let value = |name: &str| metadata.iter().find(|(other, _)| *other == name).map(|(_, value)| value.as_str());
        assert_eq!(RolledFile::of_metadata(value).unwrap(), file());
        let without = |name: &str| value(name).filter(|_| name != LAST);
        assert_eq!(RolledFile::of_metadata(without), Err(RolledError::Missing(LAST)));
        let backwards = |name: &str| value(if name == LAST { AFTER } else { name });
        assert_eq!(RolledFile::of_metadata(backwards), Err(RolledError::Contradiction));
    }

    #[test]
    fn the_name_depends_on_the_window_and_the_first_record_alone() {
        let shorter = RolledFile { count: 7, reason: Reason::Age, last: file().first, ..file() };
        assert_eq!(file().id(), shorter.id());
        let other = RolledFile { first: file().last, ..file() };
        assert_ne!(file().id(), other.id());
        let mut other = file();
        other.window.shard = "shardId-000000000007".parse().unwrap();
        assert_ne!(file().id(), other.id());
    }
}
