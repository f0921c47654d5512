//! JSON read in place.
//!
//! Lambda writes every record of an event in the same order and without white space, and an event of 10,000 records is a
//! quarter of a million JSON tokens. So a record is first compared with the shape that Lambda writes, literal by literal.
//! At the first difference (an escape, another attribute, another order) the whole record goes to the JSON parser
//! instead, and the two agree on whatever the first accepts.

use std::{borrow::Cow, fmt};

use memchr::memchr2;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};
use serde_json::Error;

/// A JSON string, borrowed when it holds no escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'a> Text<'a> {
    /// The same, as UTF-8.
    #[must_use]
    pub fn into_bytes(self) -> Cow<'a, [u8]> {
        match self.0 {
            Cow::Borrowed(text) => text.as_bytes().into(),
            Cow::Owned(text) => text.into_bytes().into(),
        }
    }
}

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

    /// The same, as text. JSON allows no control characters in it. Most texts are short and plain.
    #[inline]
    pub fn text(&mut self) -> Option<&'a str> {
        if let Some(plain) = self.plain() {
            return std::str::from_utf8(plain).ok();
        }
        let string = self.string()?;
        // The smallest byte, and not the first small one: this way sixteen are looked at at once.
        let smallest = string.iter().fold(u8::MAX, |smallest, byte| smallest.min(*byte));
        if smallest < 0x20 {
            return None;
        }
        std::str::from_utf8(string).ok()
    }

    /// The same, if it is short and plain as most are: ASCII.
    #[inline]
    pub fn plain(&mut self) -> Option<&'a [u8]> {
        let all = self.rest;
        let mut rest = all;
        let end = loop {
            let Some((word, more)) = rest.split_first_chunk::<WORD>() else {
                let is_usual = |byte: &u8| byte.is_ascii() && *byte >= b' ' && *byte != b'"' && *byte != b'\\';
                break rest.iter().position(|byte| !is_usual(byte))?;
            };
            let unusual = unusual(u64::from_le_bytes(*word));
            if unusual != 0 {
                // The first unusual byte is the lowest one.
                break unusual.trailing_zeros() as usize / WORD;
            }
            rest = more;
        };
        let (string, rest) = all.split_at_checked(all.len() - rest.len() + end)?;
        self.rest = rest.strip_prefix(b"\"")?;
        Some(string)
    }
}

/// Bytes that [`Scan::plain`] looks at at once.
const WORD: usize = 8;
const LOW_BITS: u64 = u64::MAX / 0xff;
const HIGH_BITS: u64 = LOW_BITS << 7;

/// The highest bit of every byte that is a quote, a backslash, a control character or not ASCII. Bytes above the first
/// such byte may be marked as well.
///
/// Source: "Determine if a word has a byte less than n", Bit Twiddling Hacks, S. E. Anderson.
#[inline]
const fn unusual(word: u64) -> u64 {
    let (quote, backslash) = (word ^ (LOW_BITS * b'"' as u64), word ^ (LOW_BITS * b'\\' as u64));
    let control = word.wrapping_sub(LOW_BITS * 0x20) & !word;
    let quote = quote.wrapping_sub(LOW_BITS) & !quote;
    let backslash = backslash.wrapping_sub(LOW_BITS) & !backslash;
    (control | quote | backslash | word) & HIGH_BITS
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
    let event: Event<R> = object(event)?;
    for (position, record) in event.records.into_iter().enumerate().skip(seen) {
        each(parsed(position, record)?);
    }
    Ok(())
}

/// An event, which is an object: a derived parser would take an array for the members in their order.
pub fn object<'a, T: Deserialize<'a>>(event: &'a [u8]) -> Result<T, Error> {
    if event.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::custom("an event is an object and no array"));
    }
    serde_json::from_slice(event)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_plain_string_is_what_the_parser_reads(text in "[ -~]{0,30}|\\PC{0,20}|(?s).{0,20}", cut in 0..30_usize, rest in "\\PC{0,20}") {
            let mut json = format!("{}{rest}", serde_json::to_string(&text).unwrap()).into_bytes();
            let is_plain = text.bytes().all(|byte| (b' '..=0x7f).contains(&byte) && byte != b'"' && byte != b'\\');
            let mut scan = Scan { rest: &json[1..] };
            prop_assert_eq!(scan.plain(), is_plain.then_some(text.as_bytes()));
            if is_plain {
                prop_assert_eq!(scan.rest, rest.as_bytes());
                json.truncate(1 + cut.min(text.len()));
                prop_assert_eq!(Scan { rest: &json[1..] }.plain(), None);
            }
        }
    }
}
