//! The position of a record in its shard.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::json::Text;

/// Maximum number of decimal digits of a sequence number. Those of Kinesis have 56, those of emulators fewer.
pub const SEQUENCE_DIGITS: usize = 56;
/// Number of decimal digits of a sub-sequence number, enough for the records of the largest aggregate, which is 10 MiB.
const SUB_SEQUENCE_DIGITS: usize = 7;
/// Length of a position as text.
pub const TEXT_BYTES: usize = SEQUENCE_DIGITS + 1 + SUB_SEQUENCE_DIGITS;
/// Highest sub-sequence number.
const MAX_SUB_SEQUENCE: u64 = 9_999_999;

/// Why a text is not a position or a sequence number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// A sequence number is not 1 to 56 decimal digits with a value above 0.
    #[error("{0:?} is not a sequence number: 1 to 56 digits, not all of them 0")]
    Sequence(String),
    /// A sub-sequence number is too high.
    #[error("index {0} in an aggregate is above 9,999,999")]
    SubSequence(usize),
    /// A position is not 56 digits, a dot and 7 digits.
    #[error("{0:?} is not a position: 56 digits, a dot, 7 digits")]
    Shape(String),
}

/// A record's position in its shard: its sequence number, and its index in the aggregate that the producer packed it into (0
/// for a record outside of an aggregate). The text form has a fixed width, so that texts sort like positions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    sequence: [u8; SEQUENCE_DIGITS],
    sub_sequence: u64,
}

impl Position {
    /// The position before every record.
    pub const START: Self = Self { sequence: [b'0'; SEQUENCE_DIGITS], sub_sequence: 0 };

    /// The position of a record with this sequence number, with or without leading zeros.
    pub fn of_sequence_number(text: &str) -> Result<Self, PositionError> {
        let digits = text.as_bytes();
        let mut sequence = [b'0'; SEQUENCE_DIGITS];
        let place = SEQUENCE_DIGITS.checked_sub(digits.len()).and_then(|zeros| sequence.get_mut(zeros..));
        if let Some(place) = place {
            place.copy_from_slice(digits);
            if let Some(position) = Self::of_digits(&sequence) {
                return Ok(position);
            }
        }
        Err(PositionError::Sequence(text.to_owned()))
    }

    /// The position of a record whose sequence number has the full length of those of Kinesis.
    #[inline]
    #[must_use]
    pub fn of_digits(sequence: &[u8; SEQUENCE_DIGITS]) -> Option<Self> {
        // Of zeros alone is the start, which is before every record.
        (1..=9).contains(&largest_digit(sequence)).then_some(Self { sequence: *sequence, sub_sequence: 0 })
    }

    /// The position of record `index` of the aggregate that has this position.
    pub fn in_aggregate(self, index: usize) -> Result<Self, PositionError> {
        match u64::try_from(index) {
            Ok(sub_sequence) if sub_sequence <= MAX_SUB_SEQUENCE => Ok(Self { sub_sequence, ..self }),
            _ => Err(PositionError::SubSequence(index)),
        }
    }

    /// The position of the stream's record that contains this one: an aggregate, or the record itself.
    #[must_use]
    pub const fn record(self) -> Self {
        Self { sub_sequence: 0, ..self }
    }

    /// The highest position below this one. [`START`](Self::START) has none and is returned unchanged.
    #[must_use]
    pub fn before(self) -> Self {
        if let Some(sub_sequence) = self.sub_sequence.checked_sub(1) {
            return Self { sub_sequence, ..self };
        }
        if self == Self::START {
            return self;
        }
        let mut sequence = self.sequence;
        // Subtracts 1 digit by digit: a zero becomes 9 and borrows from the digit before it.
        for digit in sequence.iter_mut().rev() {
            if *digit > b'0' {
                *digit -= 1;
                break;
            }
            *digit = b'9';
        }
        Self { sequence, sub_sequence: MAX_SUB_SEQUENCE }
    }

    /// The sequence number without leading zeros, as Kinesis writes it.
    #[must_use]
    pub fn sequence_number(&self) -> String {
        let digits: String = self.sequence.iter().map(|digit| char::from(*digit)).collect();
        digits.trim_start_matches('0').to_owned()
    }

    /// The position as text, as [`Display`](fmt::Display) writes it.
    #[must_use]
    pub fn text(&self) -> [u8; TEXT_BYTES] {
        let mut text = [b'.'; TEXT_BYTES];
        let (sequence, rest) = text.split_at_mut(SEQUENCE_DIGITS);
        sequence.copy_from_slice(&self.sequence);
        let mut left = self.sub_sequence;
        for digit in rest.iter_mut().skip(1).rev() {
            *digit = b'0' + u8::try_from(left % 10).unwrap_or_default();
            left /= 10;
        }
        text
    }

    /// The index in the aggregate.
    #[must_use]
    pub const fn sub_sequence(&self) -> u64 {
        self.sub_sequence
    }
}

/// [`Position::START`].
impl Default for Position {
    fn default() -> Self {
        Self::START
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        let parsed = || {
            let (sequence, rest) = text.as_bytes().split_first_chunk::<SEQUENCE_DIGITS>()?;
            let (dot, index) = rest.split_first_chunk::<1>()?;
            let index: &[u8; SUB_SEQUENCE_DIGITS] = index.try_into().ok()?;
            let sub_sequence = index.iter().fold(0, |sum, digit| 10 * sum + u64::from(digit.wrapping_sub(b'0')));
            let is_position = dot == b"." && largest_digit(sequence).max(largest_digit(index)) <= 9;
            is_position.then_some(Self { sequence: *sequence, sub_sequence })
        };
        parsed().ok_or_else(|| PositionError::Shape(text.to_owned()))
    }
}

/// More than 9 if not all are digits. Does not stop at the first that is none: the compiler vectorises this.
fn largest_digit<const N: usize>(text: &[u8; N]) -> u8 {
    text.iter().fold(0, |largest, byte| largest.max(byte.wrapping_sub(b'0')))
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // A state has thousands of them, and the machinery of formatting takes three times as long.
        serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Text::deserialize(deserializer)?.0.parse().map_err(D::Error::custom)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.sequence_number(), self.sub_sequence)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OF_KINESIS: &str = "49590338271490256608559692538361571095921575989136588898";

    #[test]
    fn sequence_numbers_of_kinesis_and_of_emulators_compare_as_numbers() {
        let of = |text: &str| Position::of_sequence_number(text).unwrap();
        assert!(of("000000000000000000000000000009") < of("10"));
        assert!(of("10") < of(OF_KINESIS));
        assert_eq!(of("007"), of("7"));
        assert!(of(OF_KINESIS) < of(OF_KINESIS).in_aggregate(1).unwrap());
        assert!(of("7").in_aggregate(9_999_999).unwrap() < of("8"));
        assert_eq!(of(OF_KINESIS).sequence_number(), OF_KINESIS);
        assert_eq!(of(OF_KINESIS).to_string(), format!("{OF_KINESIS}.0000000"));
    }

    #[test]
    fn texts_that_are_not_sequence_numbers_are_refused() {
        let too_long = "1".repeat(57);
        for text in ["", "0", "000", "-1", "+1", "1.0", "12a", "٣", &too_long] {
            assert_eq!(Position::of_sequence_number(text), Err(PositionError::Sequence(text.to_owned())));
        }
        assert!(Position::START.in_aggregate(10_000_000).is_err());
    }

    #[test]
    fn texts_that_are_not_positions_are_refused() {
        let position = format!("{OF_KINESIS}.0000012");
        assert_eq!(position.parse::<Position>().unwrap().to_string(), position);
        let places = [(0, "/"), (0, ":"), (55, "/"), (55, ":"), (56, ","), (57, "/"), (57, ":"), (63, "/"), (63, " ")];
        let texts = places.map(|(at, text)| {
            let mut other = position.clone();
            other.replace_range(at..=at, text);
            other
        });
        let others = [position[1..].to_owned(), format!("{position}0"), format!("٣{}", &position[2..]), String::new()];
        for text in texts.into_iter().chain(others) {
            assert_eq!(text.parse::<Position>(), Err(PositionError::Shape(text)));
        }
    }

    #[test]
    fn nothing_is_between_a_position_and_the_one_before() {
        let of = |text: &str| Position::of_sequence_number(text).unwrap();
        assert_eq!(of("1000").before(), of("999").in_aggregate(9_999_999).unwrap());
        assert_eq!(of("7").in_aggregate(3).unwrap().before(), of("7").in_aggregate(2).unwrap());
        assert_eq!(Position::START.before(), Position::START);
        assert!(of("1").before() > Position::START);
        assert_eq!(of("7").in_aggregate(3).unwrap().record(), of("7"));
    }

    fn position() -> impl Strategy<Value = Position> {
        ("[0-9]{1,55}[1-9]", 0..10_000_000_usize)
            .prop_map(|(text, index)| Position::of_sequence_number(&text).unwrap().in_aggregate(index).unwrap())
    }

    proptest! {
        #[test]
        fn texts_have_the_order_of_positions_and_come_back(a in position(), b in position()) {
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
            prop_assert_eq!(a.to_string().parse::<Position>().unwrap(), a);
            prop_assert!(a > Position::START);
            prop_assert!(a.before() < a && (b <= a.before() || b >= a));
        }

        #[test]
        fn numbers_that_fit_a_register_have_the_order_of_numbers(a in 1..u128::MAX, b in 1..u128::MAX) {
            let of = |number: u128| Position::of_sequence_number(&number.to_string()).unwrap();
            prop_assert_eq!(of(a).cmp(&of(b)), a.cmp(&b));
        }

        #[test]
        fn parsing_never_panics(text in any::<String>()) {
            drop(text.parse::<Position>());
            drop(Position::of_sequence_number(&text));
        }
    }
}
