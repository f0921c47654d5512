//! The keys of the objects that our functions write, as types whose `Display` and `FromStr` are inverse.
//!
//! | layout | key |
//! |---|---|
//! | [`EventsKey`] | `events/[{type}/]{yyyy}/{mm}/{dd}/{name}.parquet` or `.ndjson[.gz]` |
//! | [`KafkaKey`] | `cubic/kafka/{table}/{shortuuid}.json[.gz]` |
//! | [`QuarantineKey`] | `quarantine/{function}/{yyyy}/{mm}/{dd}/{name}.ndjson` |
//!
//! A key consists of [`Segment`]s, so it stays inside `[A-Za-z0-9/._-]`. Keys that other systems write need no type: a
//! declared prefix tells load-registrar which table they belong to.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use sha2::{Digest, Sha256};

/// Why a text is not a valid key, segment or day.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A segment is empty, `.`, `..`, too long, or contains a character that is not allowed.
    #[error("{0:?} is not a path segment: {1}")]
    Segment(String, &'static str),
    /// A text or a time is not a day between 1970-01-01 and 9999-12-31.
    #[error("{0:?} is not a day from 1970 to 9999")]
    Day(String),
    /// A key does not match its layout.
    #[error("{key:?} is not a key of the {layout} layout")]
    Shape {
        /// The key that was parsed.
        key: String,
        /// The layout's name.
        layout: &'static str,
    },
}

/// Maximum length of a segment. S3 allows 1,024 bytes for a whole key.
const MAX_SEGMENT_BYTES: usize = 255;

/// A part of a key between two `/`: one to 255 characters of `[A-Za-z0-9._-]`, which every encoding of a key leaves as
/// they are. `.` and `..` are refused, because they could lead out of their folder. A clone shares the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment(Arc<str>);

impl Segment {
    /// The segment as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Segment {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let problem = if text.is_empty() {
            "it is empty"
        } else if text == "." || text == ".." {
            "it would leave its folder"
        } else if text.len() > MAX_SEGMENT_BYTES {
            "it is longer than 255 bytes"
        } else if !text.bytes().all(is_allowed) {
            "only letters, digits, '.', '_' and '-' are allowed"
        } else {
            return Ok(Self(text.into()));
        };
        Err(LayoutError::Segment(text.to_owned(), problem))
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Segment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Segment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// A UTC day, written `yyyy/mm/dd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(Date);

impl Day {
    /// 1970-01-01, the day of records that carry no time.
    pub const EPOCH: Self = Self(Date::constant(1970, 1, 1));

    /// The UTC day of a time in milliseconds since 1970-01-01T00:00:00Z.
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

/// Name of the object metadata with the [`ContentId`] of the object's records.
pub const CONTENT_ID_METADATA: &str = "landfall-content-id";
/// Name of the object metadata with the number of the object's records.
pub const RECORDS_METADATA: &str = "landfall-records";

/// The identity of an object: a SHA-256 hash of the ids of the messages or records that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentId([u8; 32]);

impl ContentId {
    /// Hashes ids regardless of their order.
    pub fn of<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut ids: Vec<&str> = ids.into_iter().collect();
        ids.sort_unstable();
        Self::in_order(ids)
    }

    /// Hashes ids in the given order, which must follow from the records and not from the order of delivery.
    pub fn in_order<'a>(ids: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hash = Sha256::new();
        for id in ids {
            hash.update(id.as_bytes());
            hash.update(b"\n");
        }
        Self(hash.finalize().into())
    }

    /// The object's name: the UTC time of its first record, in milliseconds since 1970-01-01T00:00:00Z, and the first 16 digits
    /// of its identity, such as `20261120T141146123Z-9f86d081884c7d65`. Names sort by time.
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

/// The format of an events file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventsFormat {
    /// Apache Parquet.
    Parquet,
    /// One JSON object per line.
    Ndjson,
    /// One JSON object per line, compressed with gzip.
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

/// `events/{yyyy}/{mm}/{dd}/{name}.parquet` or `.ndjson[.gz]`, with `{type}/` in front of the day if the file has one type only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventsKey {
    /// The column of the type that all events have, or `unregistered`; `None` if the file has events of any type.
    pub only: Option<Segment>,
    /// UTC day on which the events were sent, or happened.
    pub day: Day,
    /// File name without its extension.
    pub name: Segment,
    /// Format of the file.
    pub format: EventsFormat,
}

/// `cubic/kafka/{table}/{shortuuid}.json[.gz]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KafkaKey {
    /// The table that the records belong to.
    pub table: Segment,
    /// File name without its extension.
    pub id: ShortUuid,
    /// Whether the file is compressed with gzip.
    pub gzip: bool,
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

impl FromStr for EventsKey {
    type Err = LayoutError;

    fn from_str(key: &str) -> Result<Self, LayoutError> {
        let shape = || shape(key, "events");
        let rest = key.strip_prefix("events/").ok_or_else(shape)?;
        // Names of columns begin with a letter, and years do not.
        let (only, rest) = match rest.split_once('/') {
            Some((only, rest)) if only.starts_with(|first: char| first.is_ascii_lowercase()) => (Some(only), rest),
            _ => (None, rest),
        };
        let only = only.map(str::parse).transpose()?;
        let (day, file) = day_and_rest(rest).ok_or_else(shape)?;
        // No extension is the end of another one, so the order of the formats does not matter.
        let format = EventsFormat::ALL
            .into_iter()
            .find(|format| file.ends_with(&format!(".{}", format.extension())))
            .ok_or_else(shape)?;
        let name = file.strip_suffix(format.extension()).and_then(|name| name.strip_suffix('.')).ok_or_else(shape)?;
        Ok(Self { only, day: day?, name: name.parse()?, format })
    }
}

impl fmt::Display for EventsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("events/")?;
        if let Some(only) = &self.only {
            write!(f, "{only}/")?;
        }
        write!(f, "{}/{}.{}", self.day, self.name, self.format.extension())
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

/// A UUID as the Python package `shortuuid` writes it, in 22 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShortUuid(String);

/// The alphabet of `shortuuid`: letters and digits without 0, 1, I, O and l.
const SHORT_UUID_ALPHABET: &str = "23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// Number of digits in that alphabet that any 128-bit number fits in.
const SHORT_UUID_DIGITS: usize = 22;

impl ShortUuid {
    /// Encodes a UUID, most significant digit first.
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
            Err(LayoutError::Segment(text.to_owned(), "it is not a shortuuid of 22 characters"))
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

    fn is_read_and_written_back<K: FromStr<Err = LayoutError> + fmt::Display>(key: &str) {
        let parsed: K = key.parse().unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(parsed.to_string(), key);
    }

    #[test]
    fn known_keys_are_read_and_written_back() {
        for format in ["parquet", "ndjson", "ndjson.gz"] {
            is_read_and_written_back::<EventsKey>(&format!(
                "events/2026/11/20/20261120T141146123Z-9f86d081884c7d65.{format}"
            ));
        }
        for suffix in ["", ".gz"] {
            is_read_and_written_back::<KafkaKey>(&format!("cubic/kafka/sample/vytxeTZskVKR7C7WgdSP3d.json{suffix}"));
        }
        is_read_and_written_back::<QuarantineKey>(
            "quarantine/parquet-writer/2026/11/20/20261120T141146123Z-9f86d081884c7d65.ndjson",
        );
    }

    fn is_refused<K: FromStr<Err = LayoutError>>(key: &str) {
        assert!(key.parse::<K>().is_err(), "{key} was accepted");
    }

    #[test]
    fn names_that_would_leave_their_folder_and_days_that_are_none_are_refused() {
        is_refused::<KafkaKey>("cubic/kafka/../vytxeTZskVKR7C7WgdSP3d.json");
        is_refused::<KafkaKey>("cubic/kafka//vytxeTZskVKR7C7WgdSP3d.json");
        is_refused::<KafkaKey>("cubic/kafka/a\u{7}b/vytxeTZskVKR7C7WgdSP3d.json");
        is_refused::<KafkaKey>("cubic/kafka/a/b/vytxeTZskVKR7C7WgdSP3d.json");
        is_read_and_written_back::<EventsKey>(
            "events/order_created/2026/11/20/20261120T141146123Z-9f86d081884c7d65.parquet",
        );
        is_refused::<EventsKey>("events/order_created/20/x.parquet");
        is_refused::<EventsKey>("events/Order/2026/11/20/x.parquet");
        is_refused::<EventsKey>("events/2026/11/20/../x.parquet");
        is_refused::<EventsKey>("events/2026/11/31/x.parquet");
        is_refused::<EventsKey>("events/2026/1/20/x.parquet");
        is_refused::<EventsKey>("events/2026/11/+7/x.parquet");
        is_refused::<EventsKey>("events/1969/12/31/x.parquet");
        is_refused::<QuarantineKey>("quarantine/parquet-writer/2026/11/20/.ndjson");
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

    fn short_uuid() -> impl Strategy<Value = ShortUuid> {
        prop::collection::vec(prop::sample::select(SHORT_UUID_ALPHABET.chars().collect::<Vec<_>>()), 22)
            .prop_map(|text| text.into_iter().collect::<String>().parse().unwrap())
    }

    fn format() -> impl Strategy<Value = EventsFormat> {
        prop::sample::select(EventsFormat::ALL.to_vec())
    }

    fn events_key() -> impl Strategy<Value = EventsKey> {
        let only = prop::option::of("[a-z][a-z0-9_]{0,20}".prop_map(|only| only.parse().unwrap()));
        (only, day(), segment(), format()).prop_map(|(only, day, name, format)| EventsKey { only, day, name, format })
    }

    fn kafka_key() -> impl Strategy<Value = KafkaKey> {
        (segment(), short_uuid(), any::<bool>()).prop_map(|(table, id, gzip)| KafkaKey { table, id, gzip })
    }

    fn quarantine_key() -> impl Strategy<Value = QuarantineKey> {
        (segment(), day(), segment()).prop_map(|(function, day, name)| QuarantineKey { function, day, name })
    }

    fn formats_back_if_it_parses<K: FromStr + fmt::Display>(text: &str) -> Result<(), TestCaseError> {
        if let Ok(key) = text.parse::<K>() {
            prop_assert_eq!(key.to_string(), text);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn parse_inverts_format(events in events_key(), kafka in kafka_key(), quarantine in quarantine_key()) {
            prop_assert_eq!(events.to_string().parse::<EventsKey>().unwrap(), events);
            prop_assert_eq!(kafka.to_string().parse::<KafkaKey>().unwrap(), kafka);
            prop_assert_eq!(quarantine.to_string().parse::<QuarantineKey>().unwrap(), quarantine);
        }

        #[test]
        fn whatever_parses_formats_back(text in "(events|quarantine/[a-z]{1,3}|cubic/kafka)/[a-zA-Z0-9/._ -]{0,60}") {
            formats_back_if_it_parses::<EventsKey>(&text)?;
            formats_back_if_it_parses::<KafkaKey>(&text)?;
            formats_back_if_it_parses::<QuarantineKey>(&text)?;
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            formats_back_if_it_parses::<EventsKey>(&text)?;
            formats_back_if_it_parses::<KafkaKey>(&text)?;
            formats_back_if_it_parses::<QuarantineKey>(&text)?;
        }
    }
}
