//! Parsing the JSON events of Lambda without copying, with a fast path.
//!
//! Lambda writes every record of an event with the same members in the same order and without white space, and an event of
//! 10,000 records has a quarter of a million JSON tokens. So the fast path compares a record with the text that Lambda
//! would write, literal by literal. At the first difference (an escape, another attribute, another order) the whole record
//! is parsed by the JSON parser instead. Whatever the fast path accepts, the JSON parser reads in the same way.

use std::{borrow::Cow, fmt};

use memchr::memchr2;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, Visitor},
};
use serde_json::Error;

/// A JSON string, borrowed if it contains no escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Text<'a>(pub Cow<'a, str>);

impl<'a> Text<'a> {
    /// The string as UTF-8.
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

/// A cursor over JSON text that is compared with its expected form, from left to right. Its methods return `None` at the
/// first difference; then the text has to be read by a JSON parser.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// The text that has not been read yet.
    pub rest: &'a [u8],
}

impl<'a> Scan<'a> {
    /// Skips `literal`.
    #[inline]
    pub fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.rest = self.rest.strip_prefix(literal)?;
        Some(())
    }

    /// Reads a string after its opening quote and consumes the closing quote. A string with escapes gives `None`.
    #[inline]
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let end = memchr2(b'"', b'\\', self.rest)?;
        let (string, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.strip_prefix(b"\"")?;
        Some(string)
    }

    /// The same as UTF-8. JSON does not allow control characters in a string.
    #[inline]
    pub fn text(&mut self) -> Option<&'a str> {
        if let Some(plain) = self.plain() {
            return std::str::from_utf8(plain).ok();
        }
        let string = self.string()?;
        // The minimum of all bytes instead of a search for the first control character: the compiler vectorises it.
        let smallest = string.iter().fold(u8::MAX, |smallest, byte| smallest.min(*byte));
        if smallest < 0x20 {
            return None;
        }
        std::str::from_utf8(string).ok()
    }

    /// The same, if the string is printable ASCII.
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
                // The word is little-endian, so the first unusual byte is the lowest.
                break unusual.trailing_zeros() as usize / WORD;
            }
            rest = more;
        };
        let (string, rest) = all.split_at_checked(all.len() - rest.len() + end)?;
        self.rest = rest.strip_prefix(b"\"")?;
        Some(string)
    }
}

/// Number of bytes that [`Scan::plain`] checks at once.
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

/// An event of a queue or a stream.
#[derive(Deserialize)]
struct Event<R> {
    #[serde(rename = "Records")]
    records: Vec<R>,
}

/// Passes every record of `{"Records":[…]}` to `each`, in order. A record is read by `scan`, the fast path; if that returns
/// `None`, it is parsed as `R` and converted by `parsed`, which also gets its index in the event.
///
/// If there is an error, the records before it may already have been passed to `each`.
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

/// Passes every record except the first `seen` to `each`, using only the JSON parser. This is the reference that the result of
/// [`records`] must equal.
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

/// Parses an event, which must be an object: a derived parser would also accept an array with the members in their order.
pub fn object<'a, T: Deserialize<'a>>(event: &'a [u8]) -> Result<T, Error> {
    if event.trim_ascii_start().first() == Some(&b'[') {
        return Err(Error::custom("an event must be an object, not an array"));
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
