//! The summary of a run, as text and as JSON.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use indicatif::HumanCount;
use serde::Serialize;

use crate::{
    Arguments,
    hit::Kind,
    send::{ByCause, Counts},
};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Whether all hits were sent and accepted.
    pub complete: bool,
    #[serde(flatten)]
    pub arguments: Arguments,
    /// The total is the sum of `accepted`, `rejected.total` and `given_up.total`.
    pub sent: Sent,
    pub accepted: u64,
    pub rejected: Sum,
    pub given_up: Sum,
    /// Retries of requests; all other numbers but `requests` and `sessions` count hits.
    pub retried: Sum,
    pub requests: u64,
    pub sessions: u64,
    /// `None` when there was no response.
    pub latency_ms: Option<Percentiles>,
    pub seconds: f64,
    /// Accepted hits per second.
    pub hits_per_second: f64,
    /// The last one.
    pub network_error: Option<String>,
    /// Why the run ended early.
    pub stopped: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    pub total: u64,
    pub by_kind: BTreeMap<Kind, u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sum {
    pub total: u64,
    /// By status, or `network`.
    pub by_cause: BTreeMap<String, u64>,
}

impl From<&ByCause> for Sum {
    fn from(by_cause: &ByCause) -> Self {
        Self {
            total: by_cause.values().sum(),
            by_cause: by_cause.iter().map(|(cause, number)| (cause.to_string(), *number)).collect(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

impl Percentiles {
    fn of_us(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
        (!histogram.is_empty()).then(|| Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1.0) })
    }
}

impl Report {
    #[must_use]
    pub fn new(arguments: Arguments, counts: &Counts, elapsed: Duration, stopped: Option<String>) -> Self {
        let seconds = elapsed.as_secs_f64();
        let hits_per_second = if seconds > 0.0 { counts.accepted as f64 / seconds } else { 0.0 };
        Self {
            complete: stopped.is_none() && counts.accepted == counts.total(),
            arguments,
            sent: Sent { total: counts.total(), by_kind: counts.sent.clone() },
            accepted: counts.accepted,
            rejected: (&counts.rejected).into(),
            given_up: (&counts.given_up).into(),
            retried: (&counts.retried).into(),
            requests: counts.requests,
            sessions: counts.sessions.len() as u64,
            latency_ms: Percentiles::of_us(&counts.latency_us),
            seconds: (seconds * 1_000.0).round() / 1_000.0,
            hits_per_second: (hits_per_second * 10.0).round() / 10.0,
            network_error: counts.last_network_error.clone(),
            stopped,
        }
    }
}

/// Writes two columns, the second aligned to the right.
fn table(f: &mut fmt::Formatter<'_>, titles: [&str; 2], rows: &[(String, u64)]) -> fmt::Result {
    let rows: Vec<(&str, String)> =
        rows.iter().map(|(name, number)| (name.as_str(), HumanCount(*number).to_string())).collect();
    let [left, right] = titles;
    let (mut name_width, mut number_width) = (left.len(), right.len());
    for (name, number) in &rows {
        name_width = name_width.max(name.len());
        number_width = number_width.max(number.len());
    }
    for (name, number) in [(left, right.to_owned())].into_iter().chain(rows) {
        writeln!(f, "{name:<name_width$}  {number:>number_width$}")?;
    }
    writeln!(f)
}

/// `1 session`, `1,200 sessions`.
fn counted(number: u64, noun: &str, plural: &str) -> String {
    format!("{} {}", HumanCount(number), if number == 1 { noun } else { plural })
}

/// Text from outside, without control characters that a terminal would obey.
fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = self.sent.by_kind.iter().map(|(kind, number)| (kind.as_str().to_owned(), *number));
        let kinds: Vec<_> = kinds.chain([("total".to_owned(), self.sent.total)]).collect();
        table(f, ["kind", "hits sent"], &kinds)?;

        let mut results = vec![("accepted".to_owned(), self.accepted)];
        for (result, sum) in [("rejected", &self.rejected), ("given up", &self.given_up)] {
            if sum.total == 0 {
                results.push((result.to_owned(), 0));
            }
            results.extend(sum.by_cause.iter().map(|(cause, number)| (format!("{result}, {cause}"), *number)));
        }
        table(f, ["result", "hits"], &results)?;

        writeln!(
            f,
            "{} in {}, {:.1} s: {:.1} accepted hits/s",
            counted(self.sessions, "session", "sessions"),
            counted(self.requests, "request", "requests"),
            self.seconds,
            self.hits_per_second,
        )?;
        let retries = self.retried.by_cause.iter().map(|(cause, number)| format!("{cause} × {}", HumanCount(*number)));
        let retries = retries.collect::<Vec<_>>().join(", ");
        let colon = if retries.is_empty() { "" } else { ": " };
        writeln!(f, "{}{colon}{retries}", counted(self.retried.total, "retry", "retries"))?;
        if let Some(Percentiles { p50, p90, p99, max }) = self.latency_ms {
            writeln!(f, "latency in ms: p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, max {max:.1}")?;
        }
        if let Some(error) = &self.network_error {
            writeln!(f, "last network error: {}", printable(error))?;
        }
        if let Some(cause) = &self.stopped {
            writeln!(f, "\nstopped early: {}", printable(cause))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::send::Cause;

    fn report(stopped: Option<&str>) -> Report {
        let arguments = Arguments::try_parse(&["http://127.0.0.1/collect"]).unwrap();
        let mut counts = Counts {
            sent: Kind::ALL.into_iter().zip([700, 200, 50, 10, 20, 1_020]).collect(),
            requests: 2_000,
            accepted: 1_990,
            rejected: [(Cause::Status(400), 3), (Cause::Status(404), 2)].into(),
            retried: [(Cause::Status(503), 1_200), (Cause::Network, 2)].into(),
            given_up: [(Cause::Network, 5)].into(),
            sessions: (0..412).collect(),
            last_network_error: Some("connection reset\u{1b}".to_owned()),
            ..Counts::default()
        };
        (1..=100).for_each(|ms| counts.latency_us.saturating_record(ms * 10));
        Report::new(arguments, &counts, Duration::from_millis(4_000), stopped.map(str::to_owned))
    }

    #[test]
    fn text_is_two_tables_and_a_few_lines() {
        let expected = "\
kind      hits sent
pageview        700
detail          200
add              50
remove           10
purchase         20
event         1,020
total         2,000

result              hits
accepted           1,990
rejected, 400          3
rejected, 404          2
given up, network      5

412 sessions in 2,000 requests, 4.0 s: 497.5 accepted hits/s
1,202 retries: 503 × 1,200, network × 2
latency in ms: p50 0.5, p90 0.9, p99 1.0, max 1.0
last network error: connection reset\u{fffd}

stopped early: interrupted
";
        assert_eq!(report(Some("interrupted")).to_string(), expected);
    }

    #[test]
    fn json_has_the_same_numbers() {
        let json = serde_json::to_value(report(None)).unwrap();
        assert_eq!((&json["as"], &json["sent"]["total"]), (&json!("form"), &json!(2_000)));
        assert_eq!(json["sent"]["by_kind"]["purchase"], 20);
        assert_eq!(json["rejected"], json!({"total": 5, "by_cause": {"400": 3, "404": 2}}));
        assert_eq!((&json["given_up"]["total"], &json["retried"]["by_cause"]["503"]), (&json!(5), &json!(1_200)));
        assert_eq!(
            (&json["complete"], &json["stopped"], &json["sessions"]),
            (&json!(false), &Value::Null, &json!(412))
        );
        assert_eq!((&json["seconds"], &json["hits_per_second"]), (&json!(4.0), &json!(497.5)));
    }

    #[test]
    fn only_all_accepted_is_complete() {
        let is_complete = |accepted, stopped| {
            let counts = Counts { sent: [(Kind::Pageview, 2)].into(), accepted, ..Counts::default() };
            Report::new(report(None).arguments, &counts, Duration::ZERO, stopped).complete
        };
        assert!(is_complete(2, None));
        assert!(!is_complete(1, None));
        assert!(!is_complete(2, Some("interrupted".to_owned())));
    }
}
