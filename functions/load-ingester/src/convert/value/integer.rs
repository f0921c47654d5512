//! Whole numbers: an optional sign and digits.

use std::ops::RangeInclusive;

use super::{super::Reason, digit, split_sign};

/// So many digits fit into 63 bits, whatever they are.
const SAFE_DIGITS: usize = 18;

/// The integer that `text` is, if it is in `range`.
pub(in super::super) fn integer(text: &[u8], range: &RangeInclusive<i64>) -> Result<i64, Reason> {
    let number = any_integer(text)?;
    i64::try_from(number).ok().filter(|number| range.contains(number)).ok_or(Reason::OutOfRange)
}

/// The integer that `text` is, if it has no sign and 64 bits.
pub(in super::super) fn unsigned(text: &[u8]) -> Result<i128, Reason> {
    let number = any_integer(text)?;
    if (0..=u64::MAX.into()).contains(&number) { Ok(number) } else { Err(Reason::OutOfRange) }
}

#[inline]
fn any_integer(text: &[u8]) -> Result<i128, Reason> {
    let (is_negative, digits) = split_sign(text);
    if digits.is_empty() {
        return Err(Reason::NotAnInteger);
    }
    let magnitude = if digits.len() <= SAFE_DIGITS { short(digits)?.into() } else { long(digits)? };
    Ok(if is_negative { -magnitude } else { magnitude })
}

#[inline]
fn short(digits: &[u8]) -> Result<i64, Reason> {
    digits.iter().try_fold(0, |number: i64, byte| {
        let digit = digit(*byte).ok_or(Reason::NotAnInteger)?;
        Ok(number * 10 + i64::from(digit))
    })
}

/// What is too large stays too large: the rest is only checked for being digits.
fn long(digits: &[u8]) -> Result<i128, Reason> {
    digits.iter().try_fold(0, |number: i128, byte| {
        let digit = digit(*byte).ok_or(Reason::NotAnInteger)?;
        Ok(number.saturating_mul(10).saturating_add(digit.into()))
    })
}
