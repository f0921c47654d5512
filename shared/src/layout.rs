//! Where objects live: the six layouts, as types whose `Display` and `FromStr` are inverse.
//!
//! | layout | key | source |
//! |---|---|---|
//! | [`EventsKey`] | `events/{yyyy}/{mm}/{dd}/{name}.parquet` or `.ndjson[.gz]` | card and order events |
//! | [`KafkaKey`] | `cubic/kafka/{table}/{shortuuid}.json[.gz]` | Cubic ADR 5 |
//! | [`OdsKey`] | `cubic/ods_qlik/{SCHEMA.TABLE}[__ct]/{file}.csv.gz` | Cubic ADR 5 |
//! | [`DmapKey`] | `cubic/dmap/{table}/{file}.csv[.gz]` | Cubic ADR 5 |
//! | [`DmsKey`] | `{database}/{table}/{yyyy}/{mm}/{dd}/{hh}/{file}.parquet`, full loads without the date | AWS DMS |
//! | [`QuarantineKey`] | `quarantine/{function}/{yyyy}/{mm}/{dd}/{name}.ndjson` | ours |
//!
//! Keys that we write stay inside `[A-Za-z0-9/._-]` ([`Segment`]). Keys that others write may hold anything that keeps
//! them in their folder ([`ForeignSegment`]).

use std::{fmt, str::FromStr};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use sha2::{Digest, Sha256};

/// Why a text is not a key, a segment or a day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A path segment is empty, `.`, `..`, too long, or holds a character that it must not.
    #[error("{0:?} is not a path segment: {1}")]
    Segment(String, &'static str),
    /// A text or an instant is not a day between 1970-01-01 and 9999-12-31.
    #[error("{0:?} is not a day from 1970 to 9999")]
    Day(String),
    /// A key does not have the shape of its layout.
    #[error("{key:?} is not a key of the {layout} layout")]
    Shape {
        /// The key.
        key: String,
        /// The layout's name.
        layout: &'static str,
    },
}

/// Longest segment: S3 allows 1,024 bytes for a whole key.
const MAX_SEGMENT_BYTES: usize = 255;

/// Defines a path segment: a non-empty text without `/` that cannot leave its folder.
macro_rules! segment {
    ($(#[$doc:meta])* $name:ident, $allowed:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The segment as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = LayoutError;

            fn from_str(text: &str) -> Result<Self, LayoutError> {
                let allowed: fn(char) -> bool = $allowed;
                let problem = if text.is_empty() {
                    "it is empty"
                } else if text == "." || text == ".." {
                    "it would leave its folder"
                } else if text.len() > MAX_SEGMENT_BYTES {
                    "it is longer than 255 bytes"
                } else if !text.chars().all(allowed) {
                    $rule
                } else {
                    return Ok(Self(text.to_owned()));
                };
                Err(LayoutError::Segment(text.to_owned(), problem))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

segment!(
    /// A segment of a key that we write: `[A-Za-z0-9._-]`, so that every encoding of it is itself.
    Segment,
    |character| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-'),
    "only letters, digits, '.', '_' and '-' are allowed"
);

segment!(
    /// A segment of a key that others write: anything but `/` and control characters.
    ForeignSegment,
    |character| character != '/' && !character.is_control(),
    "'/' and control characters are not allowed"
);

/// A UTC day, written `yyyy/mm/dd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// 1970-01-01: where a record goes that carries no time.
    pub const EPOCH: Self = Self(Date::constant(1970, 1, 1));

    /// The UTC day of an instant, in milliseconds since 1970-01-01T00:00:00Z.
    pub fn of_unix_ms(unix_ms: i64) -> Result<Self, LayoutError> {
        match Timestamp::from_millisecond(unix_ms) {
            Ok(instant) if unix_ms >= 0 => Ok(Self(instant.to_zoned(TimeZone::UTC).date())),
            _ => Err(LayoutError::Day(unix_ms.to_string())),
        }
    }

    fn from_segments(year: &str, month: &str, day: &str) -> Result<Self, LayoutError> {
        let invalid = || LayoutError::Day(format!("{year}/{month}/{day}"));
        let digits = |text: &str, width: usize| -> Option<i16> {
            let exact = text.len() == width && text.bytes().all(|byte| byte.is_ascii_digit());
            exact.then(|| text.parse().ok()).flatten()
        };
        let (Some(year), Some(month), Some(day)) = (digits(year, 4), digits(month, 2), digits(day, 2)) else {
            return Err(invalid());
        };
        let (Ok(month), Ok(day)) = (i8::try_from(month), i8::try_from(day)) else { return Err(invalid()) };
        match Date::new(year, month, day) {
            Ok(date) if year >= 1970 => Ok(Self(date)),
            _ => Err(invalid()),
        }
    }
}

impl FromStr for Day {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(year), Some(month), Some(day), None) => Self::from_segments(year, month, day),
            _ => Err(LayoutError::Day(text.to_owned())),
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}/{:02}/{:02}", self.0.year(), self.0.month(), self.0.day())
    }
}

/// Object metadata: the [`ContentId`] of what the object holds.
pub const CONTENT_ID_METADATA: &str = "landfall-content-id";
/// Object metadata: how many records the object holds.
pub const RECORDS_METADATA: &str = "landfall-records";

/// The messages (or records) that one object holds, as a SHA-256 over their ids: the object's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentId([u8; 32]);

impl ContentId {
    /// The identity of a set of ids. Their order does not matter.
    pub fn of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ids: Vec<&str> = ids.into_iter().collect();
        ids.sort_unstable();
        Self::in_order(ids)
    }

    /// The identity of ids whose order follows from what they are the ids of.
    pub fn in_order<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for id in ids {
            hash.update(id.as_bytes());
            hash.update(b"\n");
        }
        Self(hash.finalize().into())
    }

    /// The object's name: UTC time of its first record and the head of its identity, such as
    /// `20261120T141146123Z-9f86d081884c7d65`. Sorts by time.
    pub fn name(&self, first_unix_ms: i64) -> Result<Segment, LayoutError> {
        let day = Day::of_unix_ms(first_unix_ms)?;
        let of_day = first_unix_ms.rem_euclid(86_400_000);
        let (seconds, ms) = (of_day / 1_000, of_day % 1_000);
        let date = day.to_string().replace('/', "");
        let time = format!("{:02}{:02}{:02}{ms:03}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
        format!("{date}T{time}Z-{}", self.to_string().get(..16).unwrap_or_default()).parse()
    }
}

/// 64 hexadecimal digits.
impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// How an events file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsFormat {
    /// Apache Parquet.
    Parquet,
    /// One JSON object a line.
    Ndjson,
    /// The same, gzip.
    NdjsonGz,
}

impl EventsFormat {
    /// Every format.
    pub const ALL: [Self; 3] = [Self::Parquet, Self::Ndjson, Self::NdjsonGz];

    /// The format's name, which is also the file's extension.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Ndjson => "ndjson",
            Self::NdjsonGz => "ndjson.gz",
        }
    }
}

/// `events/{yyyy}/{mm}/{dd}/{name}.parquet` or `.ndjson[.gz]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsKey {
    /// UTC day on which the events were sent.
    pub day: Day,
    /// File name without its extension.
    pub name: Segment,
    /// How the file is written.
    pub format: EventsFormat,
}

/// `cubic/kafka/{table}/{shortuuid}.json[.gz]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaKey {
    /// The table the records belong to.
    pub table: Segment,
    /// The file's identity.
    pub id: ShortUuid,
    /// Whether the file is gzip.
    pub gzip: bool,
}

/// `cubic/ods_qlik/{SCHEMA.TABLE}[__ct]/{file}.csv.gz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OdsKey {
    /// `SCHEMA.TABLE`, without the suffix `__ct`.
    pub table: ForeignSegment,
    /// Whether the file holds changes (`__ct`) and not a load.
    pub changes: bool,
    /// File name without its extension.
    pub file: ForeignSegment,
}

/// `cubic/dmap/{table}/{file}.csv[.gz]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmapKey {
    /// The table.
    pub table: ForeignSegment,
    /// File name without its extension.
    pub file: ForeignSegment,
    /// Whether the file is gzip.
    pub gzip: bool,
}

/// `{database}/{table}/{yyyy}/{mm}/{dd}/{hh}/{file}.parquet`; full loads have no date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DmsKey {
    /// The source database.
    pub database: ForeignSegment,
    /// The source table.
    pub table: ForeignSegment,
    /// UTC day and hour (0 to 23) of a change file; `None` for a full load (`LOAD…`).
    pub hour: Option<(Day, u8)>,
    /// File name without its extension.
    pub file: ForeignSegment,
}

/// `quarantine/{function}/{yyyy}/{mm}/{dd}/{name}.ndjson`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineKey {
    /// The function that refused the records.
    pub function: Segment,
    /// UTC day on which the records were sent.
    pub day: Day,
    /// File name without its extension.
    pub name: Segment,
}

/// A key of any layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// Events, written by parquet-writer.
    Events(EventsKey),
    /// Kafka topics, written by kafka-roller.
    Kafka(KafkaKey),
    /// ODS loads and changes, written by Qlik.
    Ods(OdsKey),
    /// DMAP extracts.
    Dmap(DmapKey),
    /// Database changes, written by AWS DMS.
    Dms(DmsKey),
    /// Refused records, written by every function.
    Quarantine(QuarantineKey),
}

impl FromStr for EventsKey {
    type Err = LayoutError;

    fn from_str(key: &str) -> Result<Self, LayoutError> {
        let shape = || shape(key, "events");
        let rest = key.strip_prefix("events/").ok_or_else(shape)?;
        let (day, file) = day_and_rest(rest).ok_or_else(shape)?;
        // `.ndjson` and `.parquet` never end a name that goes on with another extension of ours.
        let format = EventsFormat::ALL
            .into_iter()
            .find(|format| file.ends_with(&format!(".{}", format.extension())))
            .ok_or_else(shape)?;
        let name = file.strip_suffix(format.extension()).and_then(|name| name.strip_suffix('.')).ok_or_else(shape)?;
        Ok(Self { day: day?, name: name.parse()?, format })
    }
}

impl fmt::Display for EventsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "events/{}/{}.{}", self.day, self.name, self.format.extension())
    }
}

impl FromStr for KafkaKey {
    type Err = LayoutError;

    fn from_str(key: &str) -> Result<Self, LayoutError> {
        let shape = || shape(key, "kafka");
        let (table, file) = key.strip_prefix("cubic/kafka/").and_then(|rest| rest.split_once('/')).ok_or_else(shape)?;
        let (id, gzip) = strip_gz(file, ".json").ok_or_else(shape)?;
        Ok(Self { table: table.parse()?, id: id.parse()?, gzip })
    }
}

impl fmt::Display for KafkaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cubic/kafka/{}/{}.json{}", self.table, self.id, gz(self.gzip))
    }
}

impl FromStr for OdsKey {
    type Err = LayoutError;

    fn from_str(key: &str) -> Result<Self, LayoutError> {
        let shape = || shape(key, "ods");
        let (table, file) =
            key.strip_prefix("cubic/ods_qlik/").and_then(|rest| rest.split_once('/')).ok_or_else(shape)?;
        let file = file.strip_suffix(".csv.gz").ok_or_else(shape)?;
        let (table, changes) = match table.strip_suffix("__ct") {
            Some(table) => (table, true),
            None => (table, false),
        };
        Ok(Self { table: table.parse()?, changes, file: file.parse()? })
    }
}

impl fmt::Display for OdsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.changes { "__ct" } else { "" };
        write!(f, "cubic/ods_qlik/{}{suffix}/{}.csv.gz", self.table, self.file)
    }
}

impl FromStr for DmapKey {
    type Err = LayoutError;

    fn from_str(key: &str) -> Result<Self, LayoutError> {
        let shape = || shape(key, "dmap");
        let (table, file) = key.strip_prefix("cubic/dmap/").and_then(|rest| rest.split_once('/')).ok_or_else(shape)?;
        let (file, gzip) = strip_gz(file, ".csv").ok_or_else(shape)?;
        Ok(Self { table: table.parse()?, file: file.parse()?, gzip })
    }
}

impl fmt::Display for DmapKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cubic/dmap/{}/{}.csv{}", self.table, self.file, gz(self.gzip))
    }
}

impl FromStr for DmsKey {
    type Err = LayoutError;

    fn from_str(key: &str) -> Result<Self, LayoutError> {
        let shape = || shape(key, "dms");
        let parts: Vec<&str> = key.strip_suffix(".parquet").ok_or_else(shape)?.split('/').collect();
        let (database, table, hour, file) = match parts.as_slice() {
            [database, table, file] if file.starts_with("LOAD") => (database, table, None, file),
            [database, table, year, month, day, hour, file] => {
                let day = Day::from_segments(year, month, day)?;
                let exact = hour.len() == 2 && hour.bytes().all(|byte| byte.is_ascii_digit());
                let hour = hour.parse().ok().filter(|hour| exact && *hour < 24).ok_or_else(shape)?;
                (database, table, Some((day, hour)), file)
            }
            _ => return Err(shape()),
        };
        Ok(Self { database: database.parse()?, table: table.parse()?, hour, file: file.parse()? })
    }
}

impl fmt::Display for DmsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/", self.database, self.table)?;
        if let Some((day, hour)) = self.hour {
            write!(f, "{day}/{hour:02}/")?;
        }
        write!(f, "{}.parquet", self.file)
    }
}

impl FromStr for QuarantineKey {
    type Err = LayoutError;

    fn from_str(key: &str) -> Result<Self, LayoutError> {
        let shape = || shape(key, "quarantine");
        let (function, rest) =
            key.strip_prefix("quarantine/").and_then(|rest| rest.split_once('/')).ok_or_else(shape)?;
        let (day, file) = day_and_rest(rest).ok_or_else(shape)?;
        let name = file.strip_suffix(".ndjson").ok_or_else(shape)?;
        Ok(Self { function: function.parse()?, day: day?, name: name.parse()? })
    }
}

impl fmt::Display for QuarantineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "quarantine/{}/{}/{}.ndjson", self.function, self.day, self.name)
    }
}

impl FromStr for Key {
    type Err = LayoutError;

    fn from_str(key: &str) -> Result<Self, LayoutError> {
        Ok(match key.split('/').next() {
            Some("events") => Self::Events(key.parse()?),
            Some("quarantine") => Self::Quarantine(key.parse()?),
            Some("cubic") => match key.split('/').nth(1) {
                Some("kafka") => Self::Kafka(key.parse()?),
                Some("ods_qlik") => Self::Ods(key.parse()?),
                Some("dmap") => Self::Dmap(key.parse()?),
                _ => return Err(shape(key, "cubic")),
            },
            _ => Self::Dms(key.parse()?),
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Events(key) => key.fmt(f),
            Self::Kafka(key) => key.fmt(f),
            Self::Ods(key) => key.fmt(f),
            Self::Dmap(key) => key.fmt(f),
            Self::Dms(key) => key.fmt(f),
            Self::Quarantine(key) => key.fmt(f),
        }
    }
}

/// A UUID in the 22 characters of the Python package `shortuuid`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShortUuid(String);

/// The alphabet of `shortuuid`: letters and digits without 0, 1, I, O and l.
const SHORT_UUID_ALPHABET: &str = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Digits of that alphabet that any 128-bit number fits in.
const SHORT_UUID_DIGITS: usize = 22;

impl ShortUuid {
    /// A UUID, most significant digit first.
    #[must_use]
    pub fn of(uuid: u128) -> Self {
        let alphabet = SHORT_UUID_ALPHABET.as_bytes();
        let base = alphabet.len() as u128;
        let digits: Vec<char> = std::iter::successors(Some(uuid), |rest| Some(rest / base))
            .take(SHORT_UUID_DIGITS)
            .filter_map(|rest| alphabet.get(usize::try_from(rest % base).ok()?))
            .map(|digit| char::from(*digit))
            .collect();
        Self(digits.into_iter().rev().collect())
    }
}

impl FromStr for ShortUuid {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        if text.len() == SHORT_UUID_DIGITS && text.chars().all(|character| SHORT_UUID_ALPHABET.contains(character)) {
            Ok(Self(text.to_owned()))
        } else {
            Err(LayoutError::Segment(text.to_owned(), "it is not a 22-character shortuuid"))
        }
    }
}

impl fmt::Display for ShortUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn shape(key: &str, layout: &'static str) -> LayoutError {
    LayoutError::Shape { key: key.to_owned(), layout }
}

/// `2026/11/20/rest` → the day and `rest`.
fn day_and_rest(text: &str) -> Option<(Result<Day, LayoutError>, &str)> {
    let mut parts = text.splitn(4, '/');
    let (year, month, day, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some((Day::from_segments(year, month, day), rest))
}

/// `x.csv` → (`x`, false), `x.csv.gz` → (`x`, true).
fn strip_gz<'a>(file: &'a str, extension: &str) -> Option<(&'a str, bool)> {
    match file.strip_suffix(".gz") {
        Some(file) => Some((file.strip_suffix(extension)?, true)),
        None => Some((file.strip_suffix(extension)?, false)),
    }
}

const fn gz(gzip: bool) -> &'static str {
    if gzip { ".gz" } else { "" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Keys as the sources write them.
    const KEYS: [&str; 12] = [
        "events/2026/11/20/20261120T141146123Z-9f86d081884c7d65.parquet",
        "events/2026/11/20/20261120T141146123Z-9f86d081884c7d65.ndjson",
        "events/2026/11/20/20261120T141146123Z-9f86d081884c7d65.ndjson.gz",
        "cubic/kafka/sample/vytxeTZskVKR7C7WgdSP3d.json",
        "cubic/kafka/sample/vytxeTZskVKR7C7WgdSP3d.json.gz",
        "cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz",
        "cubic/ods_qlik/EDW.SAMPLE__ct/20220304-134556444.csv.gz",
        "cubic/dmap/agg_sample/20220304.csv",
        "cubic/dmap/agg_sample/20220304.csv.gz",
        "shop/public.orders/2026/11/20/07/20261120-071500123.parquet",
        "shop/public.orders/LOAD00000001.parquet",
        "quarantine/parquet-writer/2026/11/20/20261120T141146123Z-9f86d081884c7d65.ndjson",
    ];

    #[test]
    fn known_keys_are_read_and_written_back() {
        for key in KEYS {
            let parsed: Key = key.parse().unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!(parsed.to_string(), key);
        }
    }

    #[test]
    fn names_that_would_leave_their_folder_are_refused() {
        for key in [
            "cubic/kafka/../vytxeTZskVKR7C7WgdSP3d.json",
            "cubic/kafka/a/b/vytxeTZskVKR7C7WgdSP3d.json",
            "cubic/ods_qlik//LOAD001.csv.gz",
            "cubic/dmap/a\u{7}b/x.csv",
            "events/2026/11/20/../x.parquet",
            "events/2026/11/31/x.parquet",
            "events/2026/1/20/x.parquet",
            "events/1969/12/31/x.parquet",
            "shop/orders/2026/11/20/24/x.parquet",
            "shop/orders/2026/11/20/+7/x.parquet",
            "quarantine/parquet-writer/2026/11/20/.ndjson",
        ] {
            assert!(key.parse::<Key>().is_err(), "{key} was accepted");
        }
    }

    #[test]
    fn a_name_is_a_function_of_the_first_time_and_the_ids() {
        let forward = ContentId::of(["b", "a"]).name(1_795_183_906_123).unwrap();
        assert_eq!(forward, ContentId::of(["a", "b"]).name(1_795_183_906_123).unwrap());
        assert_eq!(ContentId::in_order(["a", "b"]), ContentId::of(["b", "a"]));
        assert_ne!(ContentId::in_order(["b", "a"]), ContentId::of(["b", "a"]));
        assert_ne!(forward, ContentId::of(["ab"]).name(1_795_183_906_123).unwrap());
        assert_eq!(forward.as_str(), "20261120T141146123Z-911169ddaaf146af");
        assert!(ContentId::of(["a"]).name(-1).is_err());
    }

    /// What version 1.0.11 of the Python package `shortuuid` writes.
    #[test]
    fn short_uuids_are_those_of_the_python_package() {
        for (uuid, text) in [
            (0, "2222222222222222222222"),
            (u128::MAX, "oZEq7ovRbLq6UnGMPwc8B5"),
            (0x3a00_9633_4d4b_5165_a3ef_38f9_2b7e_9bde, "CLF9pNGn2ztvCeYN5weNJv"),
        ] {
            assert_eq!(ShortUuid::of(uuid).to_string(), text);
            assert_eq!(text.parse(), Ok(ShortUuid::of(uuid)));
        }
    }

    fn day() -> impl Strategy<Value = Day> {
        (0..253_402_300_800_000_i64).prop_map(|ms| Day::of_unix_ms(ms).unwrap())
    }

    fn segment() -> impl Strategy<Value = Segment> {
        "[A-Za-z0-9._-]{1,40}".prop_filter_map("dots", |text| text.parse().ok())
    }

    fn foreign() -> impl Strategy<Value = ForeignSegment> {
        "[^/\\p{C}]{1,40}".prop_filter_map("dots", |text| text.parse().ok())
    }

    fn short_uuid() -> impl Strategy<Value = ShortUuid> {
        prop::collection::vec(prop::sample::select(SHORT_UUID_ALPHABET.chars().collect::<Vec<_>>()), 22)
            .prop_map(|text| text.into_iter().collect::<String>().parse().unwrap())
    }

    fn format() -> impl Strategy<Value = EventsFormat> {
        prop::sample::select(EventsFormat::ALL.to_vec())
    }

    /// `SCHEMA.TABLE` never ends in the suffix that marks changes.
    fn ods_table() -> impl Strategy<Value = ForeignSegment> {
        foreign().prop_filter("suffix", |table| !table.as_str().ends_with("__ct"))
    }

    fn key() -> impl Strategy<Value = Key> {
        let dms_hour = prop::option::of((day(), 0..24_u8));
        prop_oneof![
            (day(), segment(), format()).prop_map(|(day, name, format)| Key::Events(EventsKey { day, name, format })),
            (segment(), short_uuid(), any::<bool>()).prop_map(|(table, id, gzip)| Key::Kafka(KafkaKey {
                table,
                id,
                gzip
            })),
            (ods_table(), any::<bool>(), foreign()).prop_map(|(table, changes, file)| Key::Ods(OdsKey {
                table,
                changes,
                file
            })),
            (foreign(), foreign(), any::<bool>()).prop_map(|(table, file, gzip)| Key::Dmap(DmapKey {
                table,
                file,
                gzip
            })),
            (foreign(), foreign(), dms_hour, foreign())
                .prop_filter("other layouts' folders", |(database, ..)| {
                    !["events", "quarantine", "cubic"].contains(&database.as_str())
                })
                .prop_map(|(database, table, hour, file)| {
                    let file = if hour.is_none() { format!("LOAD{file}").parse().unwrap() } else { file };
                    Key::Dms(DmsKey { database, table, hour, file })
                }),
            (segment(), day(), segment()).prop_map(|(function, day, name)| Key::Quarantine(QuarantineKey {
                function,
                day,
                name
            })),
        ]
    }

    proptest! {
        #[test]
        fn parse_inverts_format(key in key()) {
            prop_assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
        }

        #[test]
        fn whatever_parses_formats_back(text in "(events|quarantine|cubic|[a-z]{1,3})/[a-zA-Z0-9/._ -]{0,60}") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            drop(text.parse::<Key>());
        }
    }
}
