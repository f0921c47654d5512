//! Feeds of DMAP and their datasets: what dmap-fetch and load-registrar tell each other about them.
//!
//! Source: Cubic ADR 6, the public decision record of the MBTA's data platform Cubic that defines feeds and datasets.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp, civil::Date};
use serde::{Deserialize, Serialize};

/// The type or the identifier of a dataset, which is a part of its object's key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Segment(String);

/// A text cannot be a part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not 1 to 200 letters, digits, _, - and dots, beginning with none of . and -")]
pub struct InvalidSegment(String);

impl TryFrom<String> for Segment {
    type Error = InvalidSegment;

    fn try_from(text: String) -> Result<Self, InvalidSegment> {
        let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        match (1..=200).contains(&text.len()) && text.bytes().all(is_known) && !text.starts_with(['.', '-']) {
            true => Ok(Self(text)),
            false => Err(InvalidSegment(text.chars().take(200).collect())),
        }
    }
}

impl FromStr for Segment {
    type Err = InvalidSegment;

    fn from_str(text: &str) -> Result<Self, InvalidSegment> {
        text.to_owned().try_into()
    }
}

impl From<Segment> for String {
    fn from(segment: Segment) -> Self {
        segment.0
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One version of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// What it is, such as `agg_sample`: `id` in an answer of DMAP.
    #[serde(rename = "type")]
    pub kind: Segment,
    /// Which one it is: `dataset_id` in an answer of DMAP.
    pub identifier: Segment,
    /// The first day that it is about.
    #[serde(default)]
    pub start_date: Option<Date>,
    /// The last day that it is about.
    #[serde(default)]
    pub end_date: Option<Date>,
    /// When this version was made, in whole microseconds.
    pub last_updated: Timestamp,
    /// Where it can be downloaded, without the query, which may hold a signature.
    pub url: String,
}

impl Dataset {
    /// The key of its object: `cubic/dmap/agg_sample/20220304.csv.gz`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("cubic/dmap/{}/{}.csv.gz", self.kind, self.identifier)
    }
}

/// The time as the database can keep it. Later digits are dropped.
#[must_use]
pub fn in_microseconds(time: Timestamp) -> Timestamp {
    time - SignedDuration::from_nanos(i64::from(time.subsec_nanosecond().rem_euclid(1_000)))
}

/// A feed as its owner declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedDeclaration {
    /// Its name.
    pub name: Segment,
    /// Its URL, behind the base URL of DMAP. Begins with `/`.
    pub relative_url: String,
    /// Name of the API key in the secret; the only key when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// Whether it is fetched. True when absent.
    #[serde(default = "yes")]
    pub active: bool,
}

const fn yes() -> bool {
    true
}

/// What is wrong with the URL of a feed, and what to write instead.
#[must_use]
pub fn relative_url_problem(url: &str) -> Option<&'static str> {
    if !url.starts_with('/') || url.starts_with("//") {
        return Some("begins with one /, and follows the base URL, such as /datasets/agg_sample");
    }
    if !url.bytes().all(|byte| byte.is_ascii_graphic()) || url.contains(['#', '\\', '"']) {
        return Some("holds only what can be in a URL, and no #");
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let is_ours = |pair: &str| ["apikey", "last_updated"].contains(&pair.split('=').next().unwrap_or_default());
    query.split('&').any(is_ours).then_some("has neither apikey nor last_updated, which are added")
}

/// Answer to `dmap_feeds`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedList {
    /// Those that were asked longest ago come first.
    pub feeds: Vec<Feed>,
}

/// A feed, and how far it has been fetched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// Its name.
    pub name: Segment,
    /// Its URL, behind the base URL of DMAP.
    pub relative_url: String,
    /// Name of the API key in the secret.
    pub api_key: Option<String>,
    /// Whether it is fetched.
    pub active: bool,
    /// The `last_updated` of the newest dataset of the answers that were fetched as a whole. Never decreases.
    pub last_updated: Option<Timestamp>,
    /// When its datasets were last begun to be fetched.
    pub asked_at: Option<Timestamp>,
    /// When an answer had last been fetched as a whole.
    pub answered_at: Option<Timestamp>,
    /// Number of versions of datasets that have been fetched.
    pub fetched: u64,
    /// Number of those that were begun and are not fetched.
    pub unfinished: u64,
}

/// Answer to `dmap_unfetched`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfetched {
    /// Positions of those datasets that have to be fetched. Those that were tried least often come first.
    pub positions: Vec<u32>,
}

/// The object of a dataset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDataset {
    /// `ETag` of the object, without quotes.
    pub e_tag: String,
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal digits, if whoever stored it has said so.
    #[serde(default)]
    pub sha256: Option<String>,
}

/// What is under the key of a dataset, if it is another version of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OtherVersion {
    /// When this version was made.
    pub last_updated: Timestamp,
    /// Its object.
    pub object: StoredDataset,
}

/// Answer to `dmap_begin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// Whether to fetch the dataset. If not, its object was stored before and has been registered since.
    pub fetch: bool,
}

/// Answer to `dmap_fetched` and `dmap_answered`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_segment_never_leaves_its_folder() {
        for good in ["agg_sample", "20220304", "a.b-c", "A"] {
            assert_eq!(good.parse::<Segment>().unwrap().to_string(), good);
        }
        for bad in ["", ".", "..", "../x", "a/b", ".hidden", "-rf", "a b", "ü", "a\0", &"a".repeat(201)] {
            assert!(bad.parse::<Segment>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_relative_url_begins_with_a_slash_and_leaves_the_key_to_the_function() {
        assert_eq!(relative_url_problem("/datasets/agg_sample?format=csv"), None);
        for bad in
            ["", "x", "//evil.example/", "https://evil.example/", "/a b", "/a#b", "/a?apikey=x", "/a?b&last_updated=1"]
        {
            assert!(relative_url_problem(bad).is_some(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_a_segment_is_one_folder_of_a_key(text in any::<String>()) {
            if let Ok(segment) = text.parse::<Segment>() {
                prop_assert!(!text.contains('/') && text != "." && text != "..");
                prop_assert_eq!(segment.to_string(), text);
            }
        }

        #[test]
        fn microseconds_are_what_the_database_keeps(nanos in -1_000_000_000_000_i128..4_000_000_000_000_000_000) {
            let time = Timestamp::from_nanosecond(nanos).unwrap();
            let kept = in_microseconds(time);
            prop_assert_eq!(kept.as_nanosecond() % 1_000, 0);
            prop_assert!(kept <= time && time.as_nanosecond() - kept.as_nanosecond() < 1_000);
        }
    }
}
