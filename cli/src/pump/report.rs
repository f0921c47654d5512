//! What became of the hits, for people and for machines.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Serialize;

use super::{
    hit::Kind,
    latency::Latencies,
    send::{ByCause, Counts},
};
use crate::{
    Exit,
    outcome::{Outcome, document},
    text::{Column, Table, counted, grouped, printable},
};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// Where hits were sent.
    pub url: String,
    /// How they were written: `form`, `json` or `query`.
    #[serde(rename = "as")]
    pub encoding: &'static str,
    /// Whether twenty shared a request.
    pub batch: bool,
    /// The seed.
    pub seed: u64,
    /// The folder that the hits came from, if it was not the generator.
    pub dataset: Option<PathBuf>,
}

/// What became of the hits.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pumped {
    /// Whether everything that was asked for was sent and accepted.
    pub complete: bool,
    /// What was asked for.
    #[serde(flatten)]
    pub asked: Asked,
    /// Hits that were sent: the sum of `accepted`, `rejected.total` and `given_up.total`.
    pub sent: Sent,
    /// Hits that were accepted.
    pub accepted: u64,
    /// Hits that were refused, by status.
    pub rejected: Sum,
    /// Hits that were sent again in vain, by the last cause: a status, or `network`.
    pub given_up: Sum,
    /// Requests that were sent again, by cause.
    pub retried: Sum,
    /// Requests, each counted once.
    pub requests: u64,
    /// Sessions of which a hit was sent.
    pub sessions: u64,
    /// How long answers took; nothing without an answer.
    pub latency_ms: Option<Percentiles>,
    /// How long it all took.
    pub seconds: f64,
    /// Accepted hits in a second.
    pub hits_per_second: f64,
    /// What the network said last, if it failed.
    pub network_error: Option<String>,
    /// Why it ended early.
    pub stopped: Option<String>,
}

/// Hits that were sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// All of them.
    pub total: u64,
    /// By kind, all of which are listed.
    pub by_kind: BTreeMap<&'static str, u64>,
}

/// A number and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// The sum.
    pub total: u64,
    /// By cause: a status, or `network`.
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

/// Times in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Half of the answers took no longer.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// Ninety-nine of a hundred.
    pub p99: f64,
    /// The longest.
    pub max: f64,
}

impl Percentiles {
    fn of(latencies: &Latencies) -> Option<Self> {
        let at = |percent| latencies.percentile_us(percent).map(|us| us as f64 / 1_000.0);
        Some(Self { p50: at(50)?, p90: at(90)?, p99: at(99)?, max: at(100)? })
    }
}

/// Rounded to `digits` digits after the point.
fn rounded(number: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (number * scale).round() / scale
}

impl Pumped {
    /// The report on what was counted.
    #[must_use]
    pub fn new(asked: Asked, counts: &Counts, took: Duration, stopped: Option<String>) -> Self {
        let sent =
            Sent { total: counts.total(), by_kind: Kind::ALL.into_iter().map(Kind::as_str).zip(counts.sent).collect() };
        let seconds = took.as_secs_f64();
        let hits_per_second = if seconds > 0.0 { rounded(counts.accepted as f64 / seconds, 1) } else { 0.0 };
        Self {
            complete: stopped.is_none() && counts.accepted == sent.total,
            asked,
            sent,
            accepted: counts.accepted,
            rejected: (&counts.rejected).into(),
            given_up: (&counts.given_up).into(),
            retried: (&counts.retried).into(),
            requests: counts.requests,
            sessions: counts.sessions.len() as u64,
            latency_ms: Percentiles::of(&counts.latencies),
            seconds: rounded(seconds, 3),
            hits_per_second,
            network_error: counts.network.clone(),
            stopped,
        }
    }

    fn kinds(&self) -> Table<'_, 2> {
        let mut table = Table::new([Column::Left("hits"), Column::Right("sent")]);
        for kind in Kind::ALL.map(Kind::as_str) {
            let number = self.sent.by_kind.get(kind).copied().unwrap_or_default();
            table.row([kind.to_owned(), grouped(number)]);
        }
        table.row(["total".to_owned(), grouped(self.sent.total)]);
        table
    }

    fn answers(&self) -> Table<'_, 2> {
        let mut table = Table::new([Column::Left("of these"), Column::Right("hits")]);
        table.row(["accepted".to_owned(), grouped(self.accepted)]);
        for (word, sum) in [("rejected", &self.rejected), ("given up", &self.given_up)] {
            if sum.total == 0 {
                table.row([word.to_owned(), grouped(0)]);
            }
            for (cause, number) in &sum.by_cause {
                table.row([format!("{word}, {cause}"), grouped(*number)]);
            }
        }
        table
    }
}

impl Outcome for Pumped {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.kinds(), self.answers());
        text += &format!(
            "{} in {}, {:.1} s: {:.1} accepted hits/s\n",
            counted(self.sessions, "session", "sessions"),
            counted(self.requests, "request", "requests"),
            self.seconds,
            self.hits_per_second,
        );
        let retries = self.retried.by_cause.iter().map(|(cause, number)| format!("{cause} × {}", grouped(*number)));
        let retries = retries.collect::<Vec<_>>().join(", ");
        let colon = if retries.is_empty() { "" } else { ": " };
        text += &format!("retried {}{colon}{retries}\n", counted(self.retried.total, "time", "times"));
        if let Some(Percentiles { p50, p90, p99, max }) = self.latency_ms {
            text += &format!("answers took, in ms: p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, max {max:.1}\n");
        }
        if let Some(said) = &self.network_error {
            text += &format!("the network said: {}\n", printable(said));
        }
        if let Some(cause) = &self.stopped {
            text += &format!("\nstopped early: {}\n", printable(cause));
        }
        text
    }

    fn exit(&self) -> Exit {
        if self.complete { Exit::Complete } else { Exit::Incomplete }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pump::send::Cause;

    fn pumped(stopped: Option<&str>) -> Pumped {
        let asked = Asked {
            url: "http://127.0.0.1/collect".to_owned(),
            encoding: "form",
            batch: false,
            seed: 1,
            dataset: None,
        };
        let mut counts = Counts {
            sent: [700, 200, 50, 10, 20, 1_020],
            requests: 2_000,
            accepted: 1_990,
            rejected: [(Cause::Status(400), 3), (Cause::Status(404), 2)].into(),
            retried: [(Cause::Status(503), 1_200), (Cause::Network, 2)].into(),
            given_up: [(Cause::Network, 5)].into(),
            sessions: (0..412).collect(),
            network: Some("connection reset\u{1b}".to_owned()),
            ..Counts::default()
        };
        (1..=100).for_each(|ms| counts.latencies.add(Duration::from_micros(ms * 10)));
        Pumped::new(asked, &counts, Duration::from_millis(4_000), stopped.map(str::to_owned))
    }

    #[test]
    fn people_get_tables_and_four_lines() {
        let expected = "\
hits       sent
pageview    700
detail      200
add          50
remove       10
purchase     20
event     1,020
total     2,000

of these            hits
accepted           1,990
rejected, 400          3
rejected, 404          2
given up, network      5

412 sessions in 2,000 requests, 4.0 s: 497.5 accepted hits/s
retried 1,202 times: 503 × 1,200, network × 2
answers took, in ms: p50 0.5, p90 0.9, p99 1.0, max 1.0
the network said: connection reset\\u{1b}

stopped early: interrupted
";
        assert_eq!(pumped(Some("interrupted")).to_text(), expected);
    }

    #[test]
    fn machines_get_the_same() {
        let json: Value = serde_json::from_str(&pumped(None).to_json().unwrap()).unwrap();
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
        let asked = pumped(None).asked;
        let counts = Counts { sent: [2, 0, 0, 0, 0, 0], accepted: 2, ..Counts::default() };
        let report = |accepted, stopped| {
            let counts = Counts { accepted, ..counts.clone() };
            Pumped::new(asked.clone(), &counts, Duration::ZERO, stopped).exit()
        };
        assert_eq!(report(2, None), Exit::Complete);
        assert_eq!(report(1, None), Exit::Incomplete);
        assert_eq!(report(2, Some("interrupted".to_owned())), Exit::Incomplete);
    }
}
