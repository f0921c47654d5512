//! When a table expects objects, such as `daily by 06:00 America/New_York`: a table without one in time is late.

use std::{fmt, str::FromStr};

use jiff::{
    SignedDuration, Span, SpanRelativeTo, Timestamp,
    civil::{Date, Time, Weekday},
    tz::TimeZone,
};
use serde::{Deserialize, Serialize};

/// A span has at least a minute, because reconciliations look a few times an hour at the most.
const MIN_SECONDS: i64 = 60;
/// And at most a year.
const MAX_SECONDS: i64 = 366 * 86_400;
/// Days in which two working days are found, wherever one begins and even if a zone skips a day.
const DAYS_AHEAD: usize = 8;

/// When a table expects objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Expectation {
    /// `daily by 06:00 America/New_York`: at least one object in the 24 hours before each 06:00 of the zone's clocks.
    Daily {
        /// The time of day, in whole minutes.
        by: Time,
        /// The zone.
        zone: Zone,
    },
    /// `weekdays by 06:00 America/New_York`: the same from Monday to Friday. What comes on a weekend counts for Monday.
    Weekdays {
        /// The time of day, in whole minutes.
        by: Time,
        /// The zone.
        zone: Zone,
    },
    /// `hourly by :15`: at least one object in the hour before each of these minutes, in UTC.
    Hourly {
        /// The minute, 0 to 59.
        minute: i8,
    },
    /// `every 15m`: no more than this long after the newest object, another one.
    Every {
        /// How long, in whole seconds.
        span: SignedDuration,
    },
}

/// A time zone of the IANA database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// A text says no expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoExpectation {
    /// It has none of the four forms.
    #[error(
        "{0:?} says not when to expect objects; write \"daily by 06:00 America/New_York\", \"weekdays by 18:30 Europe/Berlin\", \
         \"hourly by :15\" or \"every 15m\""
    )]
    Form(String),
    /// There is no such zone.
    #[error("{0:?} is no time zone of the IANA database, such as America/New_York or UTC")]
    Zone(String),
    /// The span is too short or too long.
    #[error("{0:?} is not from 1m to 366d")]
    Span(String),
}

impl FromStr for Zone {
    type Err = NoExpectation;

    fn from_str(name: &str) -> Result<Self, NoExpectation> {
        let zone = TimeZone::get(name).ok().filter(|zone| zone.iana_name().is_some());
        zone.map(Self).ok_or_else(|| NoExpectation::Zone(name.to_owned()))
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

/// Two digits.
fn two_digits(text: &str) -> Option<i8> {
    (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

/// `06:00`.
fn time_of_day(text: &str) -> Option<Time> {
    let (hour, minute) = text.split_once(':')?;
    Time::new(two_digits(hour)?, two_digits(minute)?, 0, 0).ok()
}

/// `15m`, `1h30m`, `2d`. A day has 24 hours.
fn span(text: &str) -> Option<SignedDuration> {
    let span: Span = text.parse().ok()?;
    let span = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    (span.subsec_nanos() == 0).then_some(span)
}

impl FromStr for Expectation {
    type Err = NoExpectation;

    fn from_str(text: &str) -> Result<Self, NoExpectation> {
        let form = || NoExpectation::Form(text.to_owned());
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["daily", "by", time, zone] => {
                Ok(Self::Daily { by: time_of_day(time).ok_or_else(form)?, zone: zone.parse()? })
            }
            ["weekdays", "by", time, zone] => {
                Ok(Self::Weekdays { by: time_of_day(time).ok_or_else(form)?, zone: zone.parse()? })
            }
            ["hourly", "by", minute] => {
                let minute = minute.strip_prefix(':').and_then(two_digits).filter(|minute| *minute < 60);
                Ok(Self::Hourly { minute: minute.ok_or_else(form)? })
            }
            ["every", ref words @ ..] => {
                let words = words.concat();
                let span = span(&words).ok_or_else(form)?;
                match (MIN_SECONDS..=MAX_SECONDS).contains(&span.as_secs()) {
                    true => Ok(Self::Every { span }),
                    false => Err(NoExpectation::Span(words)),
                }
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Daily { by, zone } => write!(f, "daily by {} {zone}", by.strftime("%H:%M")),
            Self::Weekdays { by, zone } => write!(f, "weekdays by {} {zone}", by.strftime("%H:%M")),
            Self::Hourly { minute } => write!(f, "hourly by :{minute:02}"),
            Self::Every { span } => {
                f.write_str("every ")?;
                let seconds = span.as_secs();
                let parts = [
                    (seconds / 86_400, "d"),
                    (seconds / 3_600 % 24, "h"),
                    (seconds / 60 % 60, "m"),
                    (seconds % 60, "s"),
                ];
                parts
                    .iter()
                    .filter(|(number, _)| *number > 0)
                    .try_for_each(|(number, unit)| write!(f, "{number}{unit}"))
            }
        }
    }
}

impl TryFrom<String> for Expectation {
    type Error = NoExpectation;

    fn try_from(text: String) -> Result<Self, NoExpectation> {
        text.parse()
    }
}

impl From<Expectation> for String {
    fn from(expectation: Expectation) -> Self {
        expectation.to_string()
    }
}

impl Expectation {
    /// By when another object is expected after one that came at `newest`. `None` in the far future only.
    ///
    /// An object counts for the first due time that it did not miss, so the next one is expected by the due time after that.
    /// A due time that clocks skip is an hour later, and of one that they show twice the first counts.
    #[must_use]
    pub fn due_after(&self, newest: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Every { span } => newest.checked_add(*span).ok(),
            Self::Hourly { minute } => {
                let (hour, offset) = (3_600, i64::from(*minute) * 60);
                // The first whole second that is not before it.
                let second = newest.as_second() + i64::from(newest.subsec_nanosecond() > 0);
                let counts_for = (second - offset).div_euclid(hour) + i64::from((second - offset).rem_euclid(hour) > 0);
                Timestamp::from_second((counts_for + 1) * hour + offset).ok()
            }
            Self::Daily { by, zone } => due_after(newest, *by, zone, |_| true),
            Self::Weekdays { by, zone } => {
                due_after(newest, *by, zone, |day| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday))
            }
        }
    }
}

fn due_after(newest: Timestamp, by: Time, zone: &Zone, is_due: impl Fn(Date) -> bool) -> Option<Timestamp> {
    let first = zone.0.to_datetime(newest).date().yesterday().ok()?;
    let days = std::iter::successors(Some(first), |day| day.tomorrow().ok()).take(DAYS_AHEAD);
    let mut due_times = days.filter(|day| is_due(*day)).filter_map(|day| zone.0.to_timestamp(day.to_datetime(by)).ok());
    let counts_for = due_times.find(|due| *due >= newest)?;
    // A zone that skipped a day has the same due time for it and for the next.
    due_times.find(|due| *due > counts_for)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn due(expectation: &str, newest: &str) -> String {
        let expectation: Expectation = expectation.parse().unwrap();
        expectation.due_after(newest.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn an_object_counts_for_the_first_due_time_that_it_did_not_miss() {
        let daily = "daily by 06:00 America/New_York";
        // 06:00 in New York is 11:00 UTC in winter.
        assert_eq!(due(daily, "2026-11-20T10:59:59Z"), "2026-11-21T11:00:00Z");
        assert_eq!(due(daily, "2026-11-20T11:00:00Z"), "2026-11-21T11:00:00Z");
        assert_eq!(due(daily, "2026-11-20T11:00:01Z"), "2026-11-22T11:00:00Z");
        // 2026-11-20 is a Friday.
        let weekdays = "weekdays by 18:30 Europe/Berlin";
        assert_eq!(due(weekdays, "2026-11-20T17:00:00Z"), "2026-11-23T17:30:00Z");
        assert_eq!(due(weekdays, "2026-11-20T18:00:00Z"), "2026-11-24T17:30:00Z");
        assert_eq!(due(weekdays, "2026-11-22T18:00:00Z"), "2026-11-24T17:30:00Z");
        assert_eq!(due("hourly by :15", "2026-11-20T11:15:00Z"), "2026-11-20T12:15:00Z");
        assert_eq!(due("hourly by :15", "2026-11-20T11:15:00.5Z"), "2026-11-20T13:15:00Z");
        assert_eq!(due("hourly by :15", "2026-11-20T11:14:59Z"), "2026-11-20T12:15:00Z");
        assert_eq!(due("every 15m", "2026-11-20T11:15:00Z"), "2026-11-20T11:30:00Z");
    }

    #[test]
    fn clocks_that_are_changed_move_the_due_time_with_them() {
        let daily = "daily by 06:00 America/New_York";
        // Summer time begins on 2027-03-14 and ends on 2026-11-01.
        assert_eq!(due(daily, "2027-03-13T11:00:00Z"), "2027-03-14T10:00:00Z");
        assert_eq!(due(daily, "2026-10-31T10:00:00Z"), "2026-11-01T11:00:00Z");
        // On that day there is no 02:30, and an hour later the clocks show 03:30.
        let gap = "daily by 02:30 America/New_York";
        assert_eq!(due(gap, "2027-03-13T07:30:00Z"), "2027-03-14T07:30:00Z");
        assert_eq!(due(gap, "2027-03-14T07:30:00Z"), "2027-03-15T06:30:00Z");
        // There are two 01:30, at 05:30 and at 06:30 UTC; what comes between them counts for the next day.
        let fold = "daily by 01:30 America/New_York";
        assert_eq!(due(fold, "2026-10-31T05:30:00Z"), "2026-11-01T05:30:00Z");
        assert_eq!(due(fold, "2026-11-01T05:30:00Z"), "2026-11-02T06:30:00Z");
        assert_eq!(due(fold, "2026-11-01T06:00:00Z"), "2026-11-03T06:30:00Z");
        // Samoa had no 2011-12-30.
        assert_eq!(due("daily by 06:00 Pacific/Apia", "2011-12-29T16:00:00Z"), "2011-12-30T16:00:00Z");
        assert_eq!(due("daily by 06:00 Pacific/Apia", "2011-12-30T16:00:00Z"), "2011-12-31T16:00:00Z");
    }

    #[test]
    fn it_is_written_in_one_way_and_read_in_several() {
        for (text, written) in [
            ("daily by 06:00 America/New_York", "daily by 06:00 America/New_York"),
            ("daily  by 06:00 america/new_york", "daily by 06:00 America/New_York"),
            ("weekdays by 23:59 UTC", "weekdays by 23:59 UTC"),
            ("hourly by :05", "hourly by :05"),
            ("every 15m", "every 15m"),
            ("every 90m", "every 1h30m"),
            ("every 1h 30m", "every 1h30m"),
            ("every 48h", "every 2d"),
            ("every 366d", "every 366d"),
        ] {
            assert_eq!(text.parse::<Expectation>().unwrap().to_string(), written);
        }
    }

    #[test]
    fn what_says_nothing_is_refused_with_an_example() {
        for text in [
            "",
            "daily",
            "daily by 6:00 UTC",
            "daily by 06:00",
            "daily by 24:00 UTC",
            "daily by 06:60 UTC",
            "hourly by 15",
            "hourly by :60",
            "hourly by :+5",
            "every",
            "every day",
            "every 1mo",
            "every 15",
            "monthly by 06:00 UTC",
            "every 90500ms",
        ] {
            let error = text.parse::<Expectation>().unwrap_err();
            assert!(error.to_string().contains("says not when"), "{text}: {error}");
        }
        for text in ["daily by 06:00 Boston", "weekdays by 06:00 EDT+4"] {
            assert!(matches!(text.parse::<Expectation>(), Err(NoExpectation::Zone(_))), "{text}");
        }
        for text in ["every 59s", "every 367d", "every -15m"] {
            assert!(matches!(text.parse::<Expectation>(), Err(NoExpectation::Span(_))), "{text}");
        }
    }

    fn any_expectation() -> impl Strategy<Value = Expectation> {
        let zones =
            ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"];
        let by = (0..24_i8, 0..60_i8, prop::sample::select(zones.to_vec()));
        let by = by.prop_map(|(hour, minute, zone)| (Time::constant(hour, minute, 0, 0), zone.parse().unwrap()));
        prop_oneof![
            by.clone().prop_map(|(by, zone)| Expectation::Daily { by, zone }),
            by.prop_map(|(by, zone)| Expectation::Weekdays { by, zone }),
            (0..60_i8).prop_map(|minute| Expectation::Hourly { minute }),
            (MIN_SECONDS..=MAX_SECONDS)
                .prop_map(|seconds| Expectation::Every { span: SignedDuration::from_secs(seconds) }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(expectation in any_expectation()) {
            prop_assert_eq!(expectation.to_string().parse::<Expectation>().unwrap(), expectation);
        }

        #[test]
        fn it_is_due_after_the_newest_object_and_never_earlier_for_a_newer_one(
            expectation in any_expectation(), second in 0..4_000_000_000_i64, later in 0..700_000_i64,
        ) {
            let at = |second| Timestamp::from_second(second).unwrap();
            let due = expectation.due_after(at(second)).unwrap();
            prop_assert!(due > at(second));
            prop_assert!(expectation.due_after(at(second + later)).unwrap() >= due);
            // An object at the due time is in time, and the one after it is expected later.
            prop_assert!(expectation.due_after(due).unwrap() > due);
        }

        #[test]
        fn no_text_makes_it_panic(text in "(daily|weekdays|hourly|every)? ?(by)? ?[0-9:+ -]{0,9}[a-zA-Z/ ]{0,9}|\\PC{0,30}") {
            drop(text.parse::<Expectation>());
        }
    }
}
