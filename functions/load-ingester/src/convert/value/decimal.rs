//! Decimal numbers: an optional sign, digits with at most one point, and an optional exponent. Exact, or refused.

use super::{super::Reason, digit, split_sign};

/// The most digits of a decimal number.
const MAX_DIGITS: u32 = shared::column_type::MAX_DIGITS as u32;
/// So many digits fit into 63 bits, whatever they are.
const SAFE_DIGITS: usize = 18;
/// Exponents beyond this have the same effect as this.
const MAX_EXPONENT: i64 = 1_000_000_000;

/// The powers of 10 that fit into 63 bits.
const POWERS: [i64; SAFE_DIGITS + 1] = {
    let mut powers = [1; SAFE_DIGITS + 1];
    let mut rest: &mut [i64] = &mut powers;
    while let [power, next @ ..] = rest {
        if let [following, ..] = next {
            *following = *power * 10;
        }
        rest = next;
    }
    powers
};

/// The number that `text` is, times 10 to the power of `scale`, if that is an integer of at most `precision` digits.
pub(in super::super) fn decimal(text: &[u8], precision: u8, scale: u8) -> Result<i128, Reason> {
    let (is_negative, rest) = split_sign(text);
    let magnitude = match plain(rest, scale) {
        Some(magnitude) => magnitude.into(),
        None => Digits::of(rest)?.scaled(scale)?,
    };
    if magnitude >= 10_i128.pow(u32::from(precision)) {
        return Err(Reason::OutOfRange);
    }
    Ok(if is_negative { -magnitude } else { magnitude })
}

/// As [`decimal`], for at most 18 digits.
pub(in super::super) fn short_decimal(text: &[u8], precision: u8, scale: u8) -> Result<i64, Reason> {
    let (is_negative, rest) = split_sign(text);
    let (Some(magnitude), Some(limit)) = (plain(rest, scale), POWERS.get(usize::from(precision))) else {
        return decimal(text, precision, scale)
            .and_then(|number| i64::try_from(number).map_err(|_| Reason::OutOfRange));
    };
    if magnitude >= *limit {
        return Err(Reason::OutOfRange);
    }
    Ok(if is_negative { -magnitude } else { magnitude })
}

/// Most numbers: few digits, no exponent, and no more decimals than there is room for.
#[inline]
fn plain(text: &[u8], scale: u8) -> Option<i64> {
    if text.is_empty() || text.len() > SAFE_DIGITS || text == b"." {
        return None;
    }
    let mut digits = text.iter();
    let mut number = 0_i64;
    let mut decimals = 0;
    for byte in digits.by_ref() {
        match digit(*byte) {
            Some(digit) => number = number * 10 + i64::from(digit),
            None if *byte == b'.' => {
                decimals = digits.len();
                break;
            }
            None => return None,
        }
    }
    for byte in digits {
        number = number * 10 + i64::from(digit(*byte)?);
    }
    let missing = usize::from(scale).checked_sub(decimals)?;
    number.checked_mul(*POWERS.get(missing)?)
}

/// `mantissa` times 10 to the power of `exponent`.
struct Digits {
    mantissa: i128,
    exponent: i64,
}

impl Digits {
    /// Any number. Zeros at the end do not become part of the mantissa, so there may be many.
    fn of(text: &[u8]) -> Result<Self, Reason> {
        let exponent_at = text.iter().position(|byte| matches!(byte, b'e' | b'E'));
        let (text, mut exponent) = match exponent_at.and_then(|at| text.split_at_checked(at)) {
            Some((number, exponent)) => (number, power(exponent.get(1..).unwrap_or_default())?),
            None => (text, 0),
        };
        let (mut mantissa, mut zeros) = (0_i128, 0_u32);
        let (mut has_digit, mut has_point) = (false, false);
        for byte in text {
            match digit(*byte) {
                Some(digit) => {
                    has_digit = true;
                    exponent -= i64::from(has_point);
                    if digit == 0 {
                        zeros = zeros.saturating_add(u32::from(mantissa != 0));
                    } else {
                        mantissa = pushed(mantissa, zeros, digit)?;
                        zeros = 0;
                    }
                }
                None if *byte == b'.' && !has_point => has_point = true,
                None => return Err(Reason::NotADecimal),
            }
        }
        if has_digit { Ok(Self { mantissa, exponent: exponent + i64::from(zeros) }) } else { Err(Reason::NotADecimal) }
    }

    fn scaled(self, scale: u8) -> Result<i128, Reason> {
        if self.mantissa == 0 {
            return Ok(0);
        }
        let shift = self.exponent + i64::from(scale);
        // The last digit of the mantissa is not 0.
        let shift = u32::try_from(shift).map_err(|_| Reason::TooManyDecimals)?;
        10_i128.checked_pow(shift).and_then(|factor| self.mantissa.checked_mul(factor)).ok_or(Reason::OutOfRange)
    }
}

/// `mantissa` with zeros and a digit behind it.
fn pushed(mantissa: i128, zeros: u32, digit: u8) -> Result<i128, Reason> {
    if mantissa == 0 {
        return Ok(digit.into());
    }
    let factor = 10_i128.checked_pow(zeros.saturating_add(1));
    let pushed = factor.and_then(|factor| mantissa.checked_mul(factor)?.checked_add(digit.into()));
    pushed.filter(|number| *number < 10_i128.pow(MAX_DIGITS)).ok_or(Reason::OutOfRange)
}

/// What comes after `e`.
fn power(text: &[u8]) -> Result<i64, Reason> {
    let (is_negative, digits) = split_sign(text);
    if digits.is_empty() {
        return Err(Reason::NotADecimal);
    }
    let power = digits.iter().try_fold(0_i64, |power, byte| {
        let digit = digit(*byte).ok_or(Reason::NotADecimal)?;
        Ok((power * 10 + i64::from(digit)).min(MAX_EXPONENT))
    })?;
    Ok(if is_negative { -power } else { power })
}
