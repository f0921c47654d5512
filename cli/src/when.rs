//! Days, times and durations, as they are written on a command line.

use std::str::FromStr;

use clap::Args;
use jiff::{SignedDuration, SpanRelativeTo, Timestamp};
use shared::layout::Day;

/// The instant at which a UTC day begins.
pub fn start_of(day: Day) -> Option<Timestamp> {
    format!("{}T00:00:00Z", day.to_string().replace('/', "-")).parse().ok()
}

/// A UTC day, or an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// `2026/11/20` or `2026-11-20`.
    Day(Day),
    /// RFC 3339.
    Instant(Timestamp),
}

impl FromStr for Moment {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let day = text.replace('-', "/").parse().map(Self::Day).ok();
        let moment = day.or_else(|| text.parse().map(Self::Instant).ok());
        moment.ok_or("write a day as 2026/11/20 and a time as 2026-11-20T14:11:46Z")
    }
}

impl Moment {
    pub fn begin(self) -> Option<Timestamp> {
        match self {
            Self::Day(day) => start_of(day),
            Self::Instant(instant) => Some(instant),
        }
    }

    /// The first instant after it.
    pub fn end(self) -> Option<Timestamp> {
        match self {
            Self::Day(day) => start_of(day)?.checked_add(SignedDuration::from_hours(24)).ok(),
            Self::Instant(instant) => Some(instant),
        }
    }
}

/// The options of commands about what was sent at some time.
#[derive(Debug, Args)]
pub struct Times {
    /// Only what was sent on this UTC day, such as 2026/11/20.
    #[arg(long, value_name = "DAY", conflicts_with_all = ["since", "until"])]
    pub day: Option<Moment>,
    /// Only what was sent at this time or later: a UTC day, or a time such as 2026-11-20T14:11:46Z.
    #[arg(long, value_name = "DAY|TIME")]
    pub since: Option<Moment>,
    /// Only what was sent before this time, or up to the end of this UTC day.
    #[arg(long, value_name = "DAY|TIME")]
    pub until: Option<Moment>,
}

impl Times {
    /// From the first instant on, and before the second.
    pub fn range(&self) -> Result<(Option<Timestamp>, Option<Timestamp>), String> {
        if matches!(self.day, Some(Moment::Instant(_))) {
            return Err("--day takes a day, such as 2026/11/20; for times use --since and --until".to_owned());
        }
        let since = self.day.or(self.since).and_then(Moment::begin);
        let until = self.day.or(self.until).and_then(Moment::end);
        if since.zip(until).is_some_and(|(since, until)| since >= until) {
            return Err("--since is not before --until".to_owned());
        }
        Ok((since, until))
    }

    /// Whether any of them is given.
    pub const fn is_given(&self) -> bool {
        self.day.is_some() || self.since.is_some() || self.until.is_some()
    }
}

/// A duration of a second or more, such as `90s`, `15m`, `2h`, `7d`, `1h30m` or, in ISO 8601, `PT2H`. A day has 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    seconds: u32,
}

impl Span {
    pub const fn seconds(self) -> u32 {
        self.seconds
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span: Option<jiff::Span> = text.parse().ok();
        let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
        let seconds =
            duration.and_then(|duration| u32::try_from(duration.as_secs()).ok()).filter(|seconds| *seconds > 0);
        seconds.map(|seconds| Self { seconds }).ok_or("write a span of time as 90s, 15m, 2h or 7d")
    }
}

/// A time in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// `2h` ago.
    Ago(Span),
    Moment(Moment),
}

impl FromStr for Since {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Ago).or_else(|_| text.parse().map(Self::Moment)).map_err(|_| {
            "write a day as 2026-11-20, a time as 2026-11-20T14:11:46Z, or how long ago it was as 90s, 15m, 2h or 7d"
        })
    }
}

impl Since {
    pub fn instant(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Ago(span) => now.checked_sub(SignedDuration::from_secs(span.seconds.into())).ok(),
            Self::Moment(moment) => moment.begin(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn spans_are_numbers_with_units() {
        for (text, seconds) in [
            ("90s", 90),
            ("15m", 900),
            ("2h", 7_200),
            ("7d", 604_800),
            ("1h30m", 5_400),
            ("2w", 1_209_600),
            ("PT2H", 7_200),
        ] {
            assert_eq!(text.parse::<Span>().map(Span::seconds), Ok(seconds), "{text}");
        }
        // A month has no fixed length.
        for text in ["", "15", "m", "-15m", "2h ago", "0s", "1mo", "1y", "50000d", "9999999999s", "1h30", "5µ"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn since_is_a_span_a_day_or_a_time() {
        let now = at("2026-11-20T14:11:46Z").unwrap();
        for (text, instant) in [
            ("2h", "2026-11-20T12:11:46Z"),
            ("7d", "2026-11-13T14:11:46Z"),
            ("2026-11-19", "2026-11-19T00:00:00Z"),
            ("2026/11/19", "2026-11-19T00:00:00Z"),
            ("2026-11-20T15:11:46+01:00", "2026-11-20T14:11:46Z"),
        ] {
            assert_eq!(text.parse::<Since>().unwrap().instant(now), at(instant), "{text}");
        }
        for text in ["yesterday", "2026-11-31", "2026-11-20T14:11", "2"] {
            assert!(text.parse::<Since>().unwrap_err().starts_with("write a day as 2026-11-20"), "{text}");
        }
    }

    #[test]
    fn a_day_lasts_until_the_next() {
        let day: Moment = "2026-11-20".parse().unwrap();
        assert_eq!((day.begin(), day.end()), (at("2026-11-20T00:00:00Z"), at("2026-11-21T00:00:00Z")));
        let instant: Moment = "2026-11-20T00:00:01Z".parse().unwrap();
        assert_eq!(instant.begin(), instant.end());
    }
}
