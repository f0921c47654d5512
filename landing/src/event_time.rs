//! When an event happened: the field that the option `event_time` of its type names, read from the payload.

use std::borrow::Cow;

use columns::{
    WireError,
    wire::{LEN, Reader, VARINT, low_i32},
};

/// The time in milliseconds since 1970-01-01T00:00:00Z; `None` if the field is missing or the payload cannot be read.
#[must_use]
pub fn event_time_ms(payload: &[u8], path: &[u32]) -> Option<i64> {
    let mut time = Cow::Borrowed(payload);
    for field in path {
        time = match time {
            Cow::Borrowed(message) => occurrences(message, *field).ok()??,
            Cow::Owned(message) => occurrences(&message, *field).ok()??.into_owned().into(),
        };
    }
    let (mut seconds, mut nanos, mut reader) = (0_i64, 0_i64, Reader::new(&time));
    while let Some(tag) = reader.tag().ok()? {
        match (tag.field, tag.wire_type) {
            (1, VARINT) => seconds = reader.varint().ok()?.cast_signed(),
            (2, VARINT) => nanos = i64::from(low_i32(reader.varint().ok()?)),
            _ => reader.skip(tag).ok()?,
        }
    }
    seconds.checked_mul(1_000)?.checked_add(nanos.div_euclid(1_000_000))
}

/// A message field; `None` if it is missing. One that comes several times is one message, with all of them end to end.
fn occurrences(message: &[u8], field: u32) -> Result<Option<Cow<'_, [u8]>>, WireError> {
    let (mut found, mut reader) = (None::<Cow<'_, [u8]>>, Reader::new(message));
    while let Some(tag) = reader.tag()? {
        if (tag.field, tag.wire_type) == (field, LEN) {
            let inner = reader.len_delimited()?;
            match &mut found {
                Some(found) => found.to_mut().extend_from_slice(inner),
                None => found = Some(inner.into()),
            }
        } else {
            reader.skip(tag)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with a time in field 2, and a text in front of it.
    fn order(seconds: i64, nanos: i32) -> Vec<u8> {
        let mut time = Vec::new();
        for (tag, value) in [(8, seconds.cast_unsigned()), (16, i64::from(nanos).cast_unsigned())] {
            if value != 0 {
                time.push(tag);
                put_varint(value, &mut time);
            }
        }
        [&[10, 1, b'1', 18, u8::try_from(time.len()).unwrap()], time.as_slice()].concat()
    }

    fn put_varint(mut value: u64, bytes: &mut Vec<u8>) {
        while value >= 0x80 {
            bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        bytes.push(value.to_le_bytes()[0]);
    }

    #[test]
    fn the_time_is_read_from_the_payload() {
        assert_eq!(event_time_ms(&order(1_795_183_900, 250_999_999), &[2]), Some(1_795_183_900_250));
        assert_eq!(event_time_ms(&order(-1, 0), &[2]), Some(-1_000));
        // Later occurrences replace what they have.
        let twice = [order(1_795_183_900, 250_000_000), vec![18, 2, 8, 7]].concat();
        assert_eq!(event_time_ms(&twice, &[2]), Some(7_250));
    }

    #[test]
    fn a_time_that_is_not_there_is_none() {
        assert_eq!(event_time_ms(&[10, 1, b'1'], &[2]), None);
        assert_eq!(event_time_ms(&[18, 9], &[2]), None);
        assert_eq!(event_time_ms(&order(i64::MAX, 0), &[2]), None);
        assert_eq!(event_time_ms(&order(1, 0), &[6, 9]), None);
        // A time that is 0 is written as an empty message.
        assert_eq!(event_time_ms(&order(0, 0), &[2]), Some(0));
    }
}
