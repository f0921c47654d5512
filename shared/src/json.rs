//! JSON read in place.
//!
//! Lambda writes every record of an event in the same order and without white space, and an event of 10,000 records is a
//! quarter of a million JSON tokens. So a record is first compared with the shape that Lambda writes, literal by literal.
//! At the first difference (an escape, another attribute, another order) the whole record goes to the JSON parser
//! instead, and the two agree on whatever the first accepts.

use std::{borrow::Cow, fmt};

use memchr::memchr2;
use serde::{Deserialize, Deserializer, de::Visitor};
use serde_json::Error;

/// A JSON string, borrowed when it holds no escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// JSON compared with the shape that its writer is known to use, from left to right. `None` at the first difference:
/// then a JSON parser has to read what was compared.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// What is still to be read.
    pub rest: &'a [u8],
}

impl<'a> Scan<'a> {
    /// Passes over `literal`.
    #[inline]
    pub fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// What is left of a string whose quote has been read, its closing quote consumed.
    #[inline]
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let end = memchr2(b'"', b'\\', self.rest)?;
        let (string, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix(b"\"")?;
        Some(string)
    }

    /// The same, as text. JSON allows no control characters in it.
    #[inline]
    pub fn text(&mut self) -> Option<&'a str> {
        let string = self.string()?;
        // The smallest byte, and not the first small one: this way sixteen are looked at at once.
        let smallest = string.iter().fold(u8::MAX, |smallest, byte| smallest.min(*byte));
        if smallest < 0x20 {
            return None;
        }
        std::str::from_utf8(string).ok()
    }
}

/// The events that Lambda makes of a queue or a stream.
#[derive(Deserialize)]
struct Event<R> {
    #[serde(rename = "Records")]
    records: Vec<R>,
}

/// Hands every record of `{"Records":[…]}` to `each`, in order: as `scan` reads it, or else as `parsed` takes it from the
/// JSON parser, with its position in the event.
///
/// On an error, `each` may have seen the records before it.
pub fn records<'a, R: Deserialize<'a>, T, E: From<Error>>(
    event: &'a [u8],
    mut scan: impl FnMut(&mut Scan<'a>) -> Option<T>,
    mut parsed: impl FnMut(usize, R) -> Result<T, E>,
    mut each: impl FnMut(T),
) -> Result<(), E> {
    let Some(mut rest) = event.strip_prefix(b"{\"Records\":[") else { return parse(event, 0, parsed, each) };
    let mut position = 0;
    loop {
        let mut ahead = Scan { rest };
        let record = match scan(&mut ahead) {
            Some(record) => {
                rest = ahead.rest;
                record
            }
            None => {
                let mut records = serde_json::Deserializer::from_slice(rest).into_iter::<R>();
                let Some(Ok(record)) = records.next() else { return parse(event, position, parsed, each) };
                rest = rest.get(records.byte_offset()..).unwrap_or_default();
                parsed(position, record)?
            }
        };
        each(record);
        position += 1;
        match rest {
            [b',', more @ ..] => rest = more,
            b"]}" => return Ok(()),
            _ => return parse(event, position, parsed, each),
        }
    }
}

/// Hands every record but the first `seen` to `each`, with the JSON parser alone: what [`records`] has to agree with.
pub fn parse<'a, R: Deserialize<'a>, T, E: From<Error>>(
    event: &'a [u8],
    seen: usize,
    mut parsed: impl FnMut(usize, R) -> Result<T, E>,
    mut each: impl FnMut(T),
) -> Result<(), E> {
    let event: Event<R> = serde_json::from_slice(event)?;
    for (position, record) in event.records.into_iter().enumerate().skip(seen) {
        each(parsed(position, record)?);
    }
    Ok(())
}
