//! Hits from query strings and forms.
//!
//! Source: "application/x-www-form-urlencoded parsing", URL Standard. Unlike there, a `%` that starts no escape and bytes
//! that are not UTF-8 are errors, because what they stood for can only be guessed.

use super::{Hit, HitError, MOST_BYTES, MOST_PARAMETERS, Parameter, Span, tag};

impl Hit {
    /// A hit from a query string, a form or a line of a batch.
    pub fn from_form(raw: &[u8]) -> Result<Self, HitError> {
        let raw = trim_line_ends(raw);
        if raw.len() > MOST_BYTES {
            return Err(HitError::TooLarge { bytes: raw.len() });
        }
        let mut text = Vec::with_capacity(raw.len());
        let mut parameters: Vec<(Span, Span)> = Vec::with_capacity(raw.len() / 16 + 4);
        let mut rest = raw;
        while !rest.is_empty() {
            if let [b'&', after @ ..] = rest {
                rest = after;
                continue;
            }
            let parameter = parameters.len() + 1;
            if parameter > MOST_PARAMETERS {
                return Err(HitError::TooManyParameters);
            }
            let start = text.len();
            let (end, after) = decode(rest, true, &mut text).ok_or(HitError::Escape { parameter })?;
            let middle = text.len();
            rest = after;
            if end == Some(b'=') {
                (_, rest) = decode(after, false, &mut text).ok_or(HitError::Escape { parameter })?;
            }
            parameters.push((Span::new(start, middle), Span::new(middle, text.len())));
        }
        let text = into_text(text, &parameters)?;
        let mut hit = Self { text, parameters: Vec::with_capacity(parameters.len()), bytes: raw.len() };
        let mut names = Names::default();
        for (name, value) in parameters {
            let tag = tag(name.of(&hit.text).as_bytes());
            if names.is_new(tag) && name.start < name.end {
                hit.parameters.push(Parameter { tag, name, value, is_json: false });
            } else {
                hit.keep(name, value, false);
            }
        }
        Ok(hit)
    }
}

fn trim_line_ends(mut raw: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] | [rest @ .., b'\r' | b'\n'] = raw {
        raw = rest;
    }
    raw
}

/// Decodes a name or a value of a form into a buffer. Returns the separator that ended it (`&`, or `=` after a name) and
/// the bytes after it. `None` on a `%` that starts no escape.
fn decode<'a>(mut raw: &'a [u8], is_name: bool, into: &mut Vec<u8>) -> Option<(Option<u8>, &'a [u8])> {
    loop {
        let is_end = |byte: &u8| matches!(byte, b'&' | b'%' | b'+') || (*byte == b'=' && is_name);
        let Some(position) = raw.iter().position(is_end) else {
            into.extend_from_slice(raw);
            return Some((None, &[]));
        };
        let (head, tail) = raw.split_at(position);
        into.extend_from_slice(head);
        raw = match tail {
            [b'%', high, low, rest @ ..] => {
                into.push(digit(*high)? << 4 | digit(*low)?);
                rest
            }
            [b'+', rest @ ..] => {
                into.push(b' ');
                rest
            }
            [end @ (b'&' | b'='), rest @ ..] => return Some((Some(*end), rest)),
            _ => return None,
        };
    }
}

/// A Bloom filter of the names so far, which saves most searches for an earlier parameter of the same name.
#[derive(Default)]
struct Names([u64; 16]);

impl Names {
    /// Adds a name. Returns true if it is certainly new.
    fn is_new(&mut self, tag: u64) -> bool {
        // Fibonacci hashing: the highest bits of the product depend on all bits of the tag.
        let hash = tag.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        let bit = 1 << (hash & 63);
        let word = usize::try_from(hash >> 6).ok().and_then(|word| self.0.get_mut(word));
        word.is_some_and(|word| {
            let is_new = *word & bit == 0;
            *word |= bit;
            is_new
        })
    }
}

/// The value of a hexadecimal digit.
pub(crate) const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The buffer as text, provided that each name and each value by itself is UTF-8.
fn into_text(text: Vec<u8>, parameters: &[(Span, Span)]) -> Result<String, HitError> {
    let ends = parameters.iter().flat_map(|(name, value)| [name.end, value.end]);
    let ends = ends.map(|end| usize::try_from(end).unwrap_or(usize::MAX));
    match String::from_utf8(text) {
        Ok(text) if text.is_ascii() => Ok(text),
        // Two halves of a character on both sides of a separator are UTF-8 only because the separator is not in the buffer.
        Ok(text) => match ends.clone().position(|end| !text.is_char_boundary(end)) {
            None => Ok(text),
            Some(end) => Err(HitError::Utf8 { parameter: end / 2 + 1 }),
        },
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let end = ends.clone().position(|end| end > valid).unwrap_or_default();
            Err(HitError::Utf8 { parameter: end / 2 + 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::tests::{form, list, pairs},
        *,
    };

    #[test]
    fn forms_of_browsers_and_libraries_are_parsed() {
        for (raw, expected) in [
            ("", &[][..]),
            ("v=1&t=pageview", &[("v", "1"), ("t", "pageview")]),
            ("dt=a+b%20c%2Bd&dl=https%3A%2F%2Fx%2F%3Fa%3D1%26b", &[("dt", "a b c+d"), ("dl", "https://x/?a=1&b")]),
            ("a&b=&=c&&d==e=", &[("a", ""), ("b", ""), ("d", "=e=")]),
            ("t=%E2%82%AC%c3%a9\u{20ac}", &[("t", "€é€")]),
            ("a=1&b=2&a=3", &[("a", "3"), ("b", "2")]),
            ("\r\nv=1&dt=x\n\r\n", &[("v", "1"), ("dt", "x")]),
            ("n=%00", &[("n", "\0")]),
            ("%61=1&longer_name_1=2&longer_name_2=3", &[("a", "1"), ("longer_name_1", "2"), ("longer_name_2", "3")]),
        ] {
            assert_eq!(list(&form(raw)), pairs(expected), "{raw}");
        }
    }

    #[test]
    fn the_error_names_the_invalid_parameter() {
        for (raw, expected) in [
            (&b"%"[..], HitError::Escape { parameter: 1 }),
            (b"a=1&b=%zz", HitError::Escape { parameter: 2 }),
            (b"a=1&%2=1", HitError::Escape { parameter: 2 }),
            (b"a=%+1", HitError::Escape { parameter: 1 }),
            (b"a=1&b=%FF", HitError::Utf8 { parameter: 2 }),
            (b"a=1&b=2&\xff=1", HitError::Utf8 { parameter: 3 }),
            (b"a=%C3&%A9=1", HitError::Utf8 { parameter: 1 }),
            (b"x=1&a%C3=%A9", HitError::Utf8 { parameter: 2 }),
            (b"a=%ED%A0%80", HitError::Utf8 { parameter: 1 }),
        ] {
            assert_eq!(Hit::from_form(raw).unwrap_err(), expected, "{}", raw.escape_ascii());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn forms_round_trip(given in prop::collection::btree_map(".{1,12}", any::<String>(), 0..12)) {
            let mut hit = Hit::default();
            for (name, value) in &given {
                hit.set(name, value);
            }
            prop_assert!(Hit::from_form(hit.to_form().as_bytes()).unwrap() == hit);
        }
    }
}
