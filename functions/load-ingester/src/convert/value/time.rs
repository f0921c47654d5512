//! Dates and times of ISO 8601, as databases write them, in the years 1 to 9999.

use super::{super::Reason, digit};

const DAY_MICROS: i64 = 86_400_000_000;
const SECOND_MICROS: i64 = 1_000_000;
/// Digits of a second that are kept.
const MICROS_DIGITS: u32 = 6;
/// 0001-01-01 and 10000-01-01.
const FIRST_DAY: i32 = -719_162;
const AFTER_LAST_DAY: i32 = 2_932_897;

/// Days since 1970-01-01. A time may follow, as long as it is midnight.
pub(in super::super) fn date(text: &[u8]) -> Result<i32, Reason> {
    let (day, rest) = split_day(text).ok_or(Reason::NotADate)?;
    match rest {
        [] => Ok(day),
        [b' ' | b'T' | b't', rest @ ..]
            if split_micros(rest).is_some_and(|(micros, rest)| micros == 0 && rest.is_empty()) =>
        {
            Ok(day)
        }
        _ => Err(Reason::NotADate),
    }
}

/// Microseconds since midnight: `11:20:30`, or with a fraction of a second.
pub(in super::super) fn time(text: &[u8]) -> Result<i64, Reason> {
    match split_micros(text) {
        Some((micros, [])) => Ok(micros),
        _ => Err(Reason::NotATime),
    }
}

/// Microseconds since 1970-01-01, of a date and, after a space or `T`, a time. A zone (`Z`, `+01`, `+0100`, `+01:00`) is converted
/// to UTC.
pub(in super::super) fn timestamp(text: &[u8]) -> Result<i64, Reason> {
    let (day, rest) = split_day(text).ok_or(Reason::NotATimestamp)?;
    let midnight = i64::from(day) * DAY_MICROS;
    let rest = match rest {
        [] => return Ok(midnight),
        [b' ' | b'T' | b't', rest @ ..] => rest,
        _ => return Err(Reason::NotATimestamp),
    };
    let (micros, zone) = split_micros(rest).ok_or(Reason::NotATimestamp)?;
    let offset = if zone.is_empty() { 0 } else { zone_micros(zone).ok_or(Reason::NotATimestamp)? };
    let utc = midnight + micros - offset;
    let years = i64::from(FIRST_DAY) * DAY_MICROS..i64::from(AFTER_LAST_DAY) * DAY_MICROS;
    if years.contains(&utc) { Ok(utc) } else { Err(Reason::OutOfRange) }
}

/// Takes `2021-12-01` off.
fn split_day(text: &[u8]) -> Option<(i32, &[u8])> {
    let (day, rest) = text.split_first_chunk()?;
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = *day else { return None };
    let year = two_digits(y1, y2)? * 100 + two_digits(y3, y4)?;
    let (month, day) = (two_digits(m1, m2)?, two_digits(d1, d2)?);
    let is_day = year > 0 && (1..=12).contains(&month) && (1..=days_of_month(year, month)).contains(&day);
    is_day.then(|| (days_since_1970(year, month, day), rest))
}

/// Takes `11:20:30` off, and any number of decimals. Digits after the sixth are dropped.
fn split_micros(text: &[u8]) -> Option<(i64, &[u8])> {
    let (time, rest) = text.split_first_chunk()?;
    let [h1, h2, b':', m1, m2, b':', s1, s2] = *time else { return None };
    let (hour, minute, second) = (two_digits(h1, h2)?, two_digits(m1, m2)?, two_digits(s1, s2)?);
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros = i64::from((hour * 60 + minute) * 60 + second) * SECOND_MICROS;
    match rest {
        [b'.' | b',', decimals @ ..] => {
            let (fraction, rest) = split_fraction(decimals)?;
            Some((micros + fraction, rest))
        }
        _ => Some((micros, rest)),
    }
}

/// Takes the decimals of a second off, of which there is at least one.
fn split_fraction(text: &[u8]) -> Option<(i64, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(count).filter(|(digits, _)| !digits.is_empty())?;
    let mut micros = 0;
    for place in 0..MICROS_DIGITS as usize {
        let digit = digits.get(place).copied().and_then(digit).unwrap_or(0);
        micros = micros * 10 + i64::from(digit);
    }
    Some((micros, rest))
}

/// How far a zone is ahead of UTC.
fn zone_micros(zone: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match *zone {
        [b'Z' | b'z'] => return Some(0),
        [sign @ (b'+' | b'-'), h1, h2] => (sign, two_digits(h1, h2)?, 0),
        [sign @ (b'+' | b'-'), h1, h2, m1, m2] | [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            (sign, two_digits(h1, h2)?, two_digits(m1, m2)?)
        }
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let micros = i64::from(hours * 60 + minutes) * 60 * SECOND_MICROS;
    Some(if sign == b'-' { -micros } else { micros })
}

fn two_digits(tens: u8, ones: u8) -> Option<i32> {
    Some(i32::from(digit(tens)?) * 10 + i32::from(digit(ones)?))
}

const fn days_of_month(year: i32, month: i32) -> i32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Counts in years that begin in March, so that a leap day is the last day of its year.
const fn days_since_1970(year: i32, month: i32, day: i32) -> i32 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}
