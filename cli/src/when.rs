//! Days, times and spans of time, as they are written on a command line.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, Timestamp};
use shared::layout::Day;

/// The instant at which a UTC day begins.
#[must_use]
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
        if let Ok(day) = text.replace('-', "/").parse() {
            return Ok(Self::Day(day));
        }
        match text.parse() {
            Ok(instant) => Ok(Self::Instant(instant)),
            Err(_) => Err("write a day as 2026/11/20 and a time as 2026-11-20T14:11:46Z"),
        }
    }
}

impl Moment {
    /// When it begins.
    #[must_use]
    pub fn begin(self) -> Option<Timestamp> {
        match self {
            Self::Day(day) => start_of(day),
            Self::Instant(instant) => Some(instant),
        }
    }

    /// When it is over.
    #[must_use]
    pub fn end(self) -> Option<Timestamp> {
        match self {
            Self::Day(day) => start_of(day)?.checked_add(SignedDuration::from_hours(24)).ok(),
            Self::Instant(instant) => Some(instant),
        }
    }
}

/// Units of a span, the longest first.
const UNITS: [(char, u32); 4] = [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// A span of time of a second or more: `90s`, `15m`, `2h`, `7d`, `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    seconds: u32,
}

impl Span {
    /// Its length.
    #[must_use]
    pub const fn seconds(self) -> u32 {
        self.seconds
    }

    fn parse(text: &str) -> Option<Self> {
        let mut seconds = 0_u32;
        let mut rest = text;
        while let Some(position) = rest.find(|character: char| !character.is_ascii_digit()) {
            let (number, unit) = rest.split_at(position);
            let unit_seconds = UNITS.into_iter().find(|(name, _)| unit.starts_with(*name))?.1;
            let part = number.parse::<u32>().ok()?.checked_mul(unit_seconds)?;
            seconds = seconds.checked_add(part)?;
            rest = unit.get(1..)?;
        }
        (rest.is_empty() && seconds > 0).then_some(Self { seconds })
    }
}

impl FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or("write a span of time as 90s, 15m, 2h or 7d")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.seconds;
        for (name, seconds) in UNITS {
            if rest >= seconds {
                write!(f, "{}{name}", rest / seconds)?;
                rest %= seconds;
            }
        }
        Ok(())
    }
}

/// A time in the past: so long ago, or a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// `2h`.
    Ago(Span),
    /// `2026-11-20` or `2026-11-20T14:11:46Z`.
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
    /// The instant that is meant by someone who asks at `now`.
    #[must_use]
    pub fn instant(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Ago(span) => now.checked_sub(SignedDuration::from_secs(span.seconds.into())).ok(),
            Self::Moment(moment) => moment.begin(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn spans_are_numbers_with_units() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("2h", 7_200), ("7d", 604_800), ("1h30m", 5_400)] {
            assert_eq!(text.parse::<Span>().map(Span::seconds), Ok(seconds));
        }
        for text in ["", "15", "m", "15 m", "-15m", "1.5h", "15min", "0s", "2w", "50000d", "9999999999s", "1h30", "5µ"]
        {
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

    proptest! {
        #[test]
        fn a_span_is_read_as_it_is_written(seconds in 1..=u32::MAX) {
            let span = Span { seconds };
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[0-9dhmsé /T:Z-]{0,24}") {
            if text.parse::<Span>().is_ok() {
                prop_assert!(text.parse::<Since>().is_ok());
            }
        }
    }
}
