//! The question to a feed, and its answer. A result that cannot be used hurts no other one: it becomes a quarantine record.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use serde::Deserialize;
use serde_json::{json, value::RawValue, value::to_raw_value};
use shared::{
    dmap::{Dataset, Feed, Segment, in_microseconds},
    quarantine::{QuarantineRecord, base64, rfc3339},
};
use url::Url;

use crate::{FUNCTION, hosts::shown, secret::ApiKey};

/// How late a dataset may become visible.
const OVERLAP: SignedDuration = SignedDuration::from_hours(24);

/// The URL that asks for the datasets that were updated since the last answer.
///
/// It asks from a day before that time on, since a dataset may become visible later than one with a later time. What was fetched
/// before is recorded, and is not fetched again.
pub fn question(base: &Url, feed: &Feed, key: &ApiKey) -> Result<Url, url::ParseError> {
    let mut url = Url::parse(&format!("{}{}", base.as_str().trim_end_matches('/'), feed.relative_url))?;
    {
        let mut query = url.query_pairs_mut();
        query.append_pair("apikey", key.text());
        if let Some(last_updated) = feed.last_updated {
            let from = last_updated.saturating_sub(OVERLAP).unwrap_or(last_updated);
            query.append_pair("last_updated", &from.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string());
        }
    }
    Ok(url)
}

/// A dataset, and where it is downloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The dataset.
    pub dataset: Dataset,
    /// The whole URL, which may hold a signature.
    pub url: Url,
}

/// What a feed answered.
#[derive(Debug, Default)]
pub struct Answered {
    /// The newest version of each dataset, in the order of their times.
    pub found: Vec<Found>,
    /// The greatest time of all results that can be used.
    pub last_updated: Option<Timestamp>,
    /// Results that cannot be used.
    pub bad: Vec<QuarantineRecord>,
}

/// Why a result cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum ResultError {
    #[error("it is no object with id, dataset_id, last_updated and url: {0}")]
    Shape(String),
    #[error("id or dataset_id {0}")]
    Id(String),
    #[error("{member} {text:?} is no {expected}")]
    Time { member: &'static str, text: String, expected: &'static str },
    #[error("the url {0}")]
    Url(&'static str),
    #[error("another result of the answer has the same id, dataset_id and last_updated, and another url")]
    Duplicate,
}

impl ResultError {
    /// The reason in the quarantine.
    const fn reason(&self) -> &'static str {
        match self {
            Self::Shape(_) => "invalid_result",
            Self::Id(_) => "invalid_id",
            Self::Time { .. } => "invalid_time",
            Self::Url(_) => "invalid_url",
            Self::Duplicate => "duplicate_dataset",
        }
    }
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    results: Vec<&'a RawValue>,
}

/// An id, which may be written as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(u64),
}

impl Id {
    fn segment(self) -> Result<Segment, ResultError> {
        let text = match self {
            Self::Text(text) => text,
            Self::Number(number) => number.to_string(),
        };
        text.try_into().map_err(|error: shared::dmap::InvalidSegment| ResultError::Id(error.to_string()))
    }
}

#[derive(Deserialize)]
struct Entry {
    id: Id,
    dataset_id: Id,
    #[serde(default)]
    start_date: Option<String>,
    #[serde(default)]
    end_date: Option<String>,
    last_updated: String,
    url: String,
}

/// Reads an answer. The error says why it is none.
pub fn read(feed: &Segment, body: &[u8]) -> Result<Answered, String> {
    let Body { results } = serde_json::from_slice(body).map_err(|error| told(&error))?;
    let mut answered = Answered::default();
    let mut newest: BTreeMap<String, (Found, &RawValue)> = BTreeMap::new();
    for raw in results {
        let found = match entry(raw) {
            Ok(found) => found,
            Err(error) => {
                answered.bad.push(quarantined(feed, raw, &error));
                continue;
            }
        };
        let time = found.dataset.last_updated;
        answered.last_updated = answered.last_updated.max(Some(time));
        let key = found.dataset.key();
        match newest.get(&key) {
            Some((other, _)) if other.dataset.last_updated == time && other.url != found.url => {
                answered.bad.push(quarantined(feed, raw, &ResultError::Duplicate));
            }
            Some((other, _)) if other.dataset.last_updated >= time => {}
            _ => drop(newest.insert(key, (found, raw))),
        }
    }
    answered.found = newest.into_values().map(|(found, _)| found).collect();
    answered.found.sort_by_key(|found| found.dataset.last_updated);
    Ok(answered)
}

fn entry(raw: &RawValue) -> Result<Found, ResultError> {
    let Entry { id, dataset_id, start_date, end_date, last_updated, url } =
        serde_json::from_str(raw.get()).map_err(|error| ResultError::Shape(told(&error)))?;
    let wrong_url = |what| Err(ResultError::Url(what));
    let Ok(url) = url.parse::<Url>() else { return wrong_url("cannot be read") };
    if url.scheme() != "https" {
        return wrong_url("is not https");
    }
    let dataset = Dataset {
        kind: id.segment()?,
        identifier: dataset_id.segment()?,
        start_date: date("start_date", start_date)?,
        end_date: date("end_date", end_date)?,
        last_updated: time(&last_updated)?,
        url: shown(&url),
    };
    Ok(Found { dataset, url })
}

/// A point in time; one without a zone is in UTC.
fn time(text: &str) -> Result<Timestamp, ResultError> {
    let with_zone = text.parse::<Timestamp>().ok();
    let without = || text.parse::<civil::DateTime>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let time = with_zone.or_else(without).map(in_microseconds);
    let expected = "time such as 2026-11-20T14:11:46.123456";
    time.ok_or_else(|| ResultError::Time { member: "last_updated", text: first(text), expected })
}

fn date(member: &'static str, text: Option<String>) -> Result<Option<civil::Date>, ResultError> {
    let Some(text) = text else { return Ok(None) };
    let expected = "date such as 2026-11-20";
    text.parse().map(Some).map_err(|_| ResultError::Time { member, text: first(&text), expected })
}

/// What is wrong with JSON. The parser's text can quote a value, which may hold a signature.
fn told(error: &serde_json::Error) -> String {
    let (text, place) = (error.to_string(), format!("line {} column {}", error.line(), error.column()));
    if error.is_data() && text.starts_with("missing field") {
        return text;
    }
    let what = if error.is_data() { "a value is of another type" } else { "it is no JSON" };
    format!("{what} at {place}")
}

/// The beginning of a text, for an error.
fn first(text: &str) -> String {
    text.chars().take(100).collect()
}

/// The bytes of the result are kept as they are, also the URL with what it may hold.
fn quarantined(feed: &Segment, raw: &RawValue, error: &ResultError) -> QuarantineRecord {
    #[derive(Deserialize)]
    struct Sent {
        last_updated: String,
    }
    let sent = serde_json::from_str::<Sent>(raw.get()).ok().and_then(|sent| time(&sent.last_updated).ok());
    QuarantineRecord {
        function: FUNCTION.to_owned(),
        reason: error.reason().to_owned(),
        detail: error.to_string(),
        id: feed.to_string(),
        sent_at: sent.and_then(|sent| rfc3339(sent.as_millisecond())),
        attributes: to_raw_value(&json!({"feed": feed})).unwrap_or_default(),
        body_base64: base64(raw.get().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::secret::ApiKey;

    fn feed() -> Segment {
        "agg_sample".parse().unwrap()
    }

    fn result(id: &str, dataset: &str, time: &str, url: &str) -> String {
        json!({"id": id, "dataset_id": dataset, "start_date": "2026-11-19", "end_date": "2026-11-19",
            "last_updated": time, "url": url})
        .to_string()
    }

    fn answer(results: &[String]) -> Answered {
        read(&feed(), format!("{{\"results\": [{}], \"more\": 1}}", results.join(",")).as_bytes()).unwrap()
    }

    fn reasons(answered: &Answered) -> Vec<&str> {
        answered.bad.iter().map(|bad| bad.reason.as_str()).collect()
    }

    const TIME: &str = "2026-11-20T06:00:00.123456";
    const URL: &str = "https://files.example/a.csv.gz?signature=S3CR3T";

    #[test]
    fn an_answer_is_datasets_in_the_order_of_their_times() {
        let answered = answer(&[
            result("agg_sample", "b", "2026-11-20T06:00:00.5Z", URL),
            result("agg_sample", "a", TIME, URL),
            r#"{"id": "agg_sample", "dataset_id": 7, "last_updated": "2026-11-20 07:00:00+01:00", "url": "https://files.example/c"}"#.to_owned(),
        ]);
        let keys: Vec<String> = answered.found.iter().map(|found| found.dataset.key()).collect();
        let expected = ["7", "a", "b"].map(|name| format!("cubic/dmap/agg_sample/{name}.csv.gz"));
        assert_eq!((keys, reasons(&answered)), (expected.to_vec(), vec![]));
        let a = &answered.found[1];
        assert_eq!(a.dataset.last_updated.to_string(), "2026-11-20T06:00:00.123456Z");
        assert_eq!((a.url.as_str(), a.dataset.url.as_str()), (URL, "https://files.example/a.csv.gz"));
        assert_eq!(answered.last_updated.unwrap().to_string(), "2026-11-20T06:00:00.5Z");
    }

    #[test]
    fn each_bad_result_is_kept_with_its_reason_and_hurts_no_other() {
        let answered = answer(&[
            json!("https://files.example/?S3CR3T").to_string(),
            r#"{"id": "agg_sample", "dataset_id": "x", "last_updated": "2026-11-20"}"#.to_owned(),
            result("..", "x", TIME, URL),
            result("agg_sample", "../../x", TIME, URL),
            result("agg_sample", "", TIME, URL),
            result("agg_sample", "x", "yesterday", URL),
            result("agg_sample", "x", TIME, "/relative"),
            result("agg_sample", "x", TIME, "http://files.example/a"),
            result("agg_sample", "x", TIME, URL).replace("2026-11-19", "19.11."),
            result("agg_sample", "good", TIME, URL),
        ]);
        let expected = [
            "invalid_result",
            "invalid_result",
            "invalid_id",
            "invalid_id",
            "invalid_id",
            "invalid_time",
            "invalid_url",
            "invalid_url",
            "invalid_time",
        ];
        assert_eq!(reasons(&answered), expected);
        assert_eq!(answered.found.len(), 1);
        assert_eq!(answered.bad[0].body().unwrap(), br#""https://files.example/?S3CR3T""#);
        assert!(answered.bad[1].detail.contains("missing field `url`"), "{}", answered.bad[1].detail);
        assert_eq!(answered.bad[2].sent_at.as_deref(), Some("2026-11-20T06:00:00.123Z"));
        for bad in &answered.bad {
            assert!(!bad.detail.contains("S3CR3T"), "{}", bad.detail);
        }
    }

    #[test]
    fn what_is_no_answer_is_not_repeated() {
        for (body, expected) in [
            ("<html>S3CR3T", "it is no JSON at line 1 column 1"),
            ("{}", "missing field `results` at line 1 column 2"),
            (r#"{"results": "S3CR3T"}"#, "a value is of another type at line 1 column 20"),
        ] {
            assert_eq!(read(&feed(), body.as_bytes()).unwrap_err(), expected);
        }
    }

    #[test]
    fn of_several_versions_of_a_dataset_the_newest_is_fetched() {
        let later = "2026-11-20T07:00:00";
        for results in [
            [result("a", "x", TIME, URL), result("a", "x", later, "https://files.example/2")],
            [result("a", "x", later, "https://files.example/2"), result("a", "x", TIME, URL)],
        ] {
            let answered = answer(&results);
            assert_eq!((answered.found.len(), reasons(&answered)), (1, vec![]));
            assert_eq!(answered.found[0].url.as_str(), "https://files.example/2");
        }
        let twice = answer(&[result("a", "x", TIME, URL), result("a", "x", TIME, URL)]);
        assert_eq!((twice.found.len(), reasons(&twice)), (1, vec![]));
        let ambiguous = answer(&[result("a", "x", TIME, URL), result("a", "x", TIME, "https://files.example/2")]);
        assert_eq!((ambiguous.found.len(), reasons(&ambiguous)), (1, vec!["duplicate_dataset"]));
    }

    #[test]
    fn the_question_asks_from_a_day_before_the_last_answer_on() {
        let mut declared: Feed = serde_json::from_value(json!({
            "name": "agg_sample", "relative_url": "/public/agg?format=a b".replace(' ', "%20"), "api_key": null,
            "active": true, "last_updated": null, "asked_at": null, "answered_at": null, "fetched": 0, "unfinished": 0,
        }))
        .unwrap();
        let base: Url = "https://dmap.example/api/".parse().unwrap();
        let key = ApiKey::of_test("k&y");
        let first = question(&base, &declared, &key).unwrap();
        assert_eq!(first.as_str(), "https://dmap.example/api/public/agg?format=a%20b&apikey=k%26y");
        declared.last_updated = Some("2026-11-20T06:00:00Z".parse().unwrap());
        let next = question(&base, &declared, &key).unwrap();
        let (_, time) = next.query_pairs().last().unwrap();
        assert_eq!(time, "2026-11-19T06:00:00.000000");
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(text in r#"(\{"results": \[|\]\}|\{|\}|"id": |"dataset_id": |"x"|,|[0-9a-z":])*"#) {
            let _read = read(&feed(), text.as_bytes());
        }

        #[test]
        fn what_is_found_stays_in_its_folder(id in any::<String>(), dataset in "[a-z./]{0,6}", seconds in 0..4_000_000_000_i64) {
            let time = Timestamp::from_second(seconds).unwrap().to_string();
            let answered = answer(&[result(&id, &dataset, &time, URL)]);
            prop_assert_eq!(answered.found.len() + answered.bad.len(), 1);
            for found in &answered.found {
                let key = found.dataset.key();
                prop_assert_eq!(key.matches('/').count(), 3);
                prop_assert!(key.starts_with("cubic/dmap/") && !key.contains("/../") && key.len() <= 1_024);
                prop_assert_eq!(found.dataset.last_updated.as_second(), seconds);
            }
        }
    }
}
