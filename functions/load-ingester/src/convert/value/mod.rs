//! Values as text → values as Parquet keeps them, byte by byte and without a number or a time in between that could round.
//!
//! Nothing here trims or knows of nulls: `column` does that.

mod decimal;
mod integer;
mod time;

#[cfg(test)]
mod tests;

pub(super) use self::{
    decimal::{decimal, short_decimal},
    integer::{integer, unsigned},
    time::{date, time, timestamp},
};

use super::Reason;

/// A finite number. Texts such as `NaN` and `inf` are refused, since warehouses disagree about their order and their equality.
pub(super) fn real<F: std::str::FromStr + Into<f64> + Copy>(text: &[u8]) -> Result<F, Reason> {
    let is_number = text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
    let text = std::str::from_utf8(text).ok().filter(|_| is_number).ok_or(Reason::NotANumber)?;
    let number: F = text.parse().map_err(|_| Reason::NotANumber)?;
    if number.into().is_finite() { Ok(number) } else { Err(Reason::OutOfRange) }
}

/// `t`, `true`, `1`, `yes` and their opposites, in upper or lower case.
pub(super) fn boolean(text: &[u8]) -> Result<bool, Reason> {
    let is_one_of = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word.as_bytes()));
    match text {
        b"1" | b"t" => Ok(true),
        b"0" | b"f" => Ok(false),
        _ if is_one_of(["true", "t", "yes", "1"]) => Ok(true),
        _ if is_one_of(["false", "f", "no", "0"]) => Ok(false),
        _ => Err(Reason::NotABoolean),
    }
}

/// The value of an ASCII digit.
const fn digit(byte: u8) -> Option<u8> {
    match byte.wrapping_sub(b'0') {
        digit @ 0..=9 => Some(digit),
        _ => None,
    }
}

/// Takes a sign off. `true` is minus.
const fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    }
}
