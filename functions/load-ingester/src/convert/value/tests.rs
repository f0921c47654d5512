//! Compares with slower readers that others wrote: `str::parse`, jiff, and arithmetic on digits.

use jiff::civil;
use proptest::prelude::*;

use super::*;

const I64: std::ops::RangeInclusive<i64> = i64::MIN..=i64::MAX;

/// `text` as a decimal by moving digits around, without arithmetic.
fn slow_decimal(text: &str, precision: usize, scale: usize) -> Option<i128> {
    let (sign, rest) = match text.split_at_checked(1) {
        Some(("-", rest)) => ("-", rest),
        Some(("+", rest)) => ("", rest),
        _ => ("", text),
    };
    let (number, exponent) = rest.split_once(['e', 'E']).unwrap_or((rest, "0"));
    let exponent: i64 = exponent.parse().ok()?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let shift = exponent - fraction.len() as i64 + scale as i64;
    let digits = match usize::try_from(shift) {
        Ok(zeros) => digits + &"0".repeat(zeros.min(400)),
        Err(_) => {
            let padded = format!("{}{digits}", "0".repeat(shift.unsigned_abs() as usize));
            let (kept, dropped) = padded.split_at(padded.len() - shift.unsigned_abs() as usize);
            if dropped.bytes().any(|byte| byte != b'0') {
                return None;
            }
            kept.to_owned()
        }
    };
    let digits = digits.trim_start_matches('0');
    if digits.len() > precision {
        return None;
    }
    format!("{sign}0{digits}").parse().ok()
}

/// Texts that are or nearly are numbers.
fn numbers() -> impl Strategy<Value = String> {
    prop_oneof![
        "[+-]?[0-9]{1,20}",
        "[+-]?[0-9]{0,25}\\.?[0-9]{0,25}",
        "[+-]?[0-9]{0,4}\\.?[0-9]{0,4}([eE][+-]?[0-9]{0,3})?",
        "[+-]?0{0,30}[0-9]{0,39}\\.?[0-9]{0,3}0{0,45}",
        "[-+.eE0-9x ]{0,6}",
        any::<i64>().prop_map(|number| number.to_string()),
        any::<i128>().prop_map(|number| number.to_string()),
        any::<f64>().prop_map(|number| number.to_string()),
        any::<f32>().prop_map(|number| format!("{number:e}")),
    ]
}

/// Texts that are or nearly are a date, a time, or both.
fn times() -> impl Strategy<Value = String> {
    let day = prop_oneof![
        (1..=9999_i16, 1..=12_i8, 1..=31_i8).prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}")),
        prop::sample::select(vec!["0001-01-01", "9999-12-31", "0000-01-01", "1900-02-29", "2000-02-29", "2021-1-1"])
            .prop_map(str::to_owned),
    ];
    let time = prop_oneof![
        4 => (0..=24_u8, 0..=60_u8, 0..=60_u8).prop_map(|(h, m, s)| format!("{h:02}:{m:02}:{s:02}")),
        1 => Just("00:00:00".to_owned()),
    ];
    let decimals = prop_oneof![2 => Just(String::new()), 3 => "[.,][0-9]{0,9}", 1 => "[.]0{1,9}"];
    let zone = prop_oneof![4 => Just(String::new()), 1 => Just("Z".to_owned()), 2 => "[+-][0-2][0-9](:?[0-6][0-9])?"];
    let between = prop::sample::select(vec![" ", "T", "", "_"]);
    let whole = (day.clone(), between, time.clone(), decimals.clone(), zone)
        .prop_map(|(day, between, time, decimals, zone)| format!("{day}{between}{time}{decimals}{zone}"));
    let time = (time, decimals).prop_map(|(time, decimals)| format!("{time}{decimals}"));
    prop_oneof![4 => whole, 1 => day, 1 => time, 1 => "[-0-9:T. Z+]{0,30}"]
}

fn slow_date(text: &str) -> Option<civil::Date> {
    let date: civil::Date = civil::Date::strptime("%Y-%m-%d", text).ok().filter(|_| text.len() == 10)?;
    (date.year() >= 1).then_some(date)
}

/// At most nine decimals, which is what jiff reads.
fn slow_time(text: &str) -> Option<i64> {
    let (clock, decimals) = text.split_at_checked(8)?;
    let time = civil::Time::strptime("%H:%M:%S", clock).ok().filter(|_| !clock.ends_with("60"))?;
    let decimals = match decimals.strip_prefix(['.', ',']) {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) => digits,
        None if decimals.is_empty() => "0",
        _ => return None,
    };
    let micros: i64 = format!("{decimals:0<6}")[..6].parse().ok()?;
    Some(time.duration_since(civil::Time::midnight()).as_micros() as i64 + micros)
}

fn slow_timestamp(text: &str) -> Option<i64> {
    let (day, rest) = text.split_at_checked(10)?;
    let day = slow_date(day)?;
    let at_midnight = day.since(civil::date(1970, 1, 1)).unwrap().get_days() as i64 * 86_400_000_000;
    if rest.is_empty() {
        return Some(at_midnight);
    }
    let rest = rest.strip_prefix([' ', 'T'])?;
    let zone_at = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(zone_at);
    let digits: String = zone.chars().filter(char::is_ascii_digit).collect();
    let offset = match (zone.chars().next(), &*digits) {
        (None | Some('Z'), "") if zone.len() < 2 => 0,
        (Some('+' | '-'), digits) if matches!(digits.len(), 2 | 4) => {
            let (hours, minutes) = digits.split_at(2);
            let minutes: i64 = if minutes.is_empty() { 0 } else { minutes.parse().ok()? };
            let hours: i64 = hours.parse().ok()?;
            if hours > 23 || minutes > 59 {
                return None;
            }
            (hours * 60 + minutes) * if zone.starts_with('-') { -60_000_000 } else { 60_000_000 }
        }
        _ => return None,
    };
    let shapes = zone.is_empty() || zone == "Z" || matches!(zone.len(), 3 | 5) || zone.as_bytes().get(3) == Some(&b':');
    let utc = shapes.then_some(at_midnight + slow_time(time)? - offset)?;
    let years = civil::date(1, 1, 1).at(0, 0, 0, 0)..=civil::date(9999, 12, 31).at(23, 59, 59, 999_999_999);
    let moment = civil::date(1970, 1, 1).at(0, 0, 0, 0).checked_add(jiff::SignedDuration::from_micros(utc)).ok()?;
    years.contains(&moment).then_some(utc)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn integers_are_what_the_standard_library_reads(text in numbers()) {
        prop_assert_eq!(integer(text.as_bytes(), &I64).ok(), text.parse().ok());
        let unsigned_text: Option<u64> = text.parse().ok();
        prop_assert!(unsigned_text.is_none_or(|number| unsigned(text.as_bytes()) == Ok(number.into())));
        let small = -128..=127;
        prop_assert_eq!(integer(text.as_bytes(), &small).ok(), text.parse::<i8>().ok().map(i64::from));
    }

    #[test]
    fn decimals_are_what_moving_digits_gives(text in numbers(), precision in 1..=38_u8, scale in 0..=38_u8) {
        let scale = scale.min(precision);
        let expected = slow_decimal(&text, precision.into(), scale.into());
        prop_assert_eq!(decimal(text.as_bytes(), precision, scale).ok(), expected);
        let short = short_decimal(text.as_bytes(), precision, scale).ok().map(i128::from);
        prop_assert_eq!(short, expected.filter(|number| i64::try_from(*number).is_ok()));
    }

    #[test]
    fn finite_numbers_are_what_the_standard_library_reads(text in numbers()) {
        let finite = |number: &f64| number.is_finite();
        prop_assert_eq!(real::<f64>(text.as_bytes()).ok(), text.parse().ok().filter(finite));
        let single: Option<f32> = text.parse().ok().filter(|number: &f32| number.is_finite());
        prop_assert_eq!(real::<f32>(text.as_bytes()).ok(), single);
    }

    #[test]
    fn dates_and_times_are_what_jiff_reads(text in times()) {
        let days = |date: civil::Date| date.since(civil::date(1970, 1, 1)).unwrap().get_days();
        let midnight = |text: &str| {
            let rest = text.get(10..).unwrap_or_default();
            rest.is_empty() || rest.strip_prefix([' ', 'T']).is_some_and(|rest| slow_time(rest) == Some(0))
        };
        let expected = text.get(..10).and_then(slow_date).filter(|_| midnight(&text)).map(days);
        prop_assert_eq!(date(text.as_bytes()).ok(), expected);
        prop_assert_eq!(time(text.as_bytes()).ok(), slow_time(&text));
        prop_assert_eq!(timestamp(text.as_bytes()).ok(), slow_timestamp(&text));
    }

    #[test]
    fn no_bytes_are_too_strange_to_be_refused(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let text = std::str::from_utf8(&bytes).ok();
        prop_assert_eq!(integer(&bytes, &I64).ok(), text.and_then(|text| text.parse().ok()));
        let _ = (decimal(&bytes, 38, 10).ok(), real::<f64>(&bytes).ok(), boolean(&bytes).ok());
        let _ = (date(&bytes).ok(), time(&bytes).ok(), timestamp(&bytes).ok());
    }
}

#[test]
fn every_day_of_ten_thousand_years_has_its_number() {
    let mut day = civil::date(1, 1, 1);
    for number in -719_162.. {
        assert_eq!(date(day.to_string().as_bytes()), Ok(number), "{day}");
        let Ok(next) = day.tomorrow() else { break };
        day = next;
    }
}

#[test]
fn the_seventh_digit_of_a_second_is_dropped() {
    let micros = timestamp(b"2021-12-01 11:20:30.4444444").unwrap();
    assert_eq!(micros, timestamp(b"2021-12-01T11:20:30.444444Z").unwrap());
    assert_eq!(timestamp(b"1969-12-31 23:59:59.9999999"), Ok(-1));
}

#[test]
fn a_zone_becomes_utc() {
    assert_eq!(timestamp(b"2021-12-01 01:30:00+01:30"), timestamp(b"2021-12-01"));
    assert_eq!(timestamp(b"2021-11-30 19:00:00-05"), timestamp(b"2021-12-01 00:00:00"));
    assert_eq!(timestamp(b"0001-01-01 00:00:00+01"), Err(Reason::OutOfRange));
}

#[test]
fn a_decimal_is_exact_or_refused() {
    assert_eq!(decimal(b"12.30", 4, 1), Ok(123));
    assert_eq!(decimal(b"12.34", 4, 1), Err(Reason::TooManyDecimals));
    assert_eq!(decimal(b"1.2e3", 4, 0), Ok(1_200));
    assert_eq!(decimal(b"12e-1", 2, 1), Ok(12));
    assert_eq!(decimal(b"9999.95", 5, 1), Err(Reason::TooManyDecimals));
    assert_eq!(decimal(b"10000", 5, 1), Err(Reason::OutOfRange));
    let digits = "9".repeat(38);
    assert_eq!(decimal(digits.as_bytes(), 38, 0).map(|number| number.to_string()), Ok(digits));
    assert_eq!(decimal(b"1e999999999999999999999", 38, 0), Err(Reason::OutOfRange));
    assert_eq!(decimal(b"0e999999999999999999999", 38, 0), Ok(0));
    assert_eq!(decimal(b"1e", 38, 0), Err(Reason::NotADecimal));
}

#[test]
fn a_sequence_of_a_change_file_fits() {
    let sequence = "20220101204020000000000000000000005";
    assert_eq!(decimal(sequence.as_bytes(), 35, 0), Ok(sequence.parse().unwrap()));
}

#[test]
fn booleans_have_eight_spellings() {
    for (text, value) in [("t", true), ("TRUE", true), ("1", true), ("Yes", true), ("F", false), ("false", false)] {
        assert_eq!(boolean(text.as_bytes()), Ok(value));
    }
    assert_eq!((boolean(b"0"), boolean(b"no")), (Ok(false), Ok(false)));
    assert_eq!(boolean(b"ja"), Err(Reason::NotABoolean));
}

#[test]
fn what_is_not_finite_is_refused() {
    for text in ["NaN", "inf", "-Infinity", "1e999", "", "1_000"] {
        assert!(real::<f64>(text.as_bytes()).is_err(), "{text}");
    }
    assert_eq!(real::<f32>(b"1e39"), Err(Reason::OutOfRange));
}
