//! Hits from query strings and forms.
//!
//! Source: "application/x-www-form-urlencoded parsing", URL Standard. Unlike there, a `%` that starts no escape and bytes
//! that are not UTF-8 are errors, because what they stood for can only be guessed. [`Hit::read_form`] guesses for hits that are
//! kept as rejected: a `%` stays, and the bytes are Latin-1, from which they can be had back.

use super::{Hit, HitError, MOST_BYTES, MOST_PARAMETERS, Parameter, Span, tag};

impl Hit {
    /// A hit from a query string, a form or a line of a batch.
    pub fn from_form(raw: &[u8]) -> Result<Self, HitError> {
        match Self::read_form(raw) {
            (hit, None) => Ok(hit),
            (_, Some(error)) => Err(error),
        }
    }

    /// The same as far as it can be read, and what is wrong with it.
    #[must_use]
    pub fn read_form(raw: &[u8]) -> (Self, Option<HitError>) {
        let raw = trim_line_ends(raw);
        if raw.len() > MOST_BYTES {
            return (Self::unreadable(raw), Some(HitError::TooLarge { bytes: raw.len() }));
        }
        let mut fault = None;
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
                return (Self::unreadable(raw), Some(HitError::TooManyParameters));
            }
            let start = text.len();
            let name = decode(rest, true, &mut text);
            let middle = text.len();
            rest = name.rest;
            let mut is_exact = name.is_exact;
            if name.end == Some(b'=') {
                let value = decode(rest, false, &mut text);
                rest = value.rest;
                is_exact &= value.is_exact;
            }
            if !is_exact {
                fault.get_or_insert(HitError::Escape { parameter });
            }
            parameters.push((Span::new(start, middle), Span::new(middle, text.len())));
        }
        let text = into_text(text, &mut parameters).unwrap_or_else(|(text, error)| {
            fault.get_or_insert(error);
            text
        });
        let mut hit = Self { text, parameters: Vec::with_capacity(parameters.len()), bytes: raw.len(), wish: None };
        let mut names = Names::default();
        for (name, value) in parameters {
            let tag = tag(name.of(&hit.text).as_bytes());
            if names.is_new(tag) && name.start < name.end {
                hit.parameters.push(Parameter { tag, name, value, is_json: false });
            } else {
                hit.keep(name, value, false);
            }
        }
        (hit, fault)
    }
}

fn trim_line_ends(mut raw: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] | [rest @ .., b'\r' | b'\n'] = raw {
        raw = rest;
    }
    raw
}

/// A name or a value of a form that was decoded.
struct Decoded<'a> {
    /// The separator that ended it: `&`, or `=` after a name.
    end: Option<u8>,
    /// The bytes after the separator.
    rest: &'a [u8],
    /// Whether each `%` started an escape. Those that did not are kept as they are.
    is_exact: bool,
}

/// Decodes a name or a value of a form into a buffer.
fn decode<'a>(mut raw: &'a [u8], is_name: bool, into: &mut Vec<u8>) -> Decoded<'a> {
    let mut is_exact = true;
    loop {
        let is_end = |byte: &u8| matches!(byte, b'&' | b'%' | b'+') || (*byte == b'=' && is_name);
        let Some(position) = raw.iter().position(is_end) else {
            into.extend_from_slice(raw);
            return Decoded { end: None, rest: &[], is_exact };
        };
        let (head, tail) = raw.split_at(position);
        into.extend_from_slice(head);
        raw = match tail {
            [b'%', rest @ ..] => match escaped(rest) {
                Some((byte, rest)) => {
                    into.push(byte);
                    rest
                }
                None => {
                    into.push(b'%');
                    is_exact = false;
                    rest
                }
            },
            [b'+', rest @ ..] => {
                into.push(b' ');
                rest
            }
            [end, rest @ ..] => return Decoded { end: Some(*end), rest, is_exact },
            [] => return Decoded { end: None, rest: &[], is_exact },
        };
    }
}

/// The byte that the two digits after a `%` stand for, and the bytes after them.
fn escaped(raw: &[u8]) -> Option<(u8, &[u8])> {
    let [high, low, rest @ ..] = raw else { return None };
    Some((digit(*high)? << 4 | digit(*low)?, rest))
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

/// The buffer as text, provided that each name and each value by itself is UTF-8. If one is not, it becomes Latin-1, and its
/// parameter is named.
fn into_text(text: Vec<u8>, parameters: &mut [(Span, Span)]) -> Result<String, (String, HitError)> {
    let ends = || parameters.iter().flat_map(|(name, value)| [name.end(), value.end()]);
    let (text, end) = match String::from_utf8(text) {
        Ok(text) if text.is_ascii() => return Ok(text),
        // Two halves of a character on both sides of a separator are UTF-8 only because the separator is not in the buffer.
        Ok(text) => match ends().position(|end| !text.is_char_boundary(end)) {
            None => return Ok(text),
            Some(end) => (text.into_bytes(), end),
        },
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let end = ends().position(|end| end > valid).unwrap_or_default();
            (error.into_bytes(), end)
        }
    };
    let mut guessed = String::with_capacity(2 * text.len());
    for (name, value) in parameters {
        for span in [name, value] {
            let bytes = text.get(span.start()..span.end()).unwrap_or_default();
            let start = guessed.len();
            match str::from_utf8(bytes) {
                Ok(text) => guessed.push_str(text),
                Err(_) => guessed.extend(bytes.iter().copied().map(char::from)),
            }
            *span = Span::new(start, guessed.len());
        }
    }
    Err((guessed, HitError::Utf8 { parameter: end / 2 + 1 }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            ParameterValue, UNREADABLE,
            tests::{form, list, pairs},
        },
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

    #[test]
    fn what_breaks_the_rules_is_read_as_far_as_it_can_be() {
        for (raw, expected) in [
            (&b"a=100%&b=%zz&c=%C3%A9"[..], &[("a", "100%"), ("b", "%zz"), ("c", "é")][..]),
            (b"a=Gr\xfc\xdfe&b=\xc3\xa9&%=1", &[("a", "Grüße"), ("b", "é"), ("%", "1")]),
            (b"a=%C3&%A9=1", &[("a", "Ã"), ("©", "1")]),
            (b"a=%E4%2&a=2", &[("a", "2")]),
        ] {
            let (hit, fault) = Hit::read_form(raw);
            assert_eq!(list(&hit), pairs(expected), "{}", raw.escape_ascii());
            assert!(fault.is_some());
        }
        let many = "a=1&".repeat(1_001);
        let (hit, fault) = Hit::read_form(many.as_bytes());
        assert_eq!((hit.get(UNREADABLE), fault), (Some(many.as_str()), Some(HitError::TooManyParameters)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        /// Nothing is lost: the bytes of each parameter can be had back from its text.
        #[test]
        fn latin_1_and_percent_signs_are_kept(
            values in prop::collection::vec(prop::collection::vec(prop_oneof![b'a'..=b'z', 0x80..=0xff_u8, Just(b'%')], 1..8), 1..6),
        ) {
            let raw: Vec<u8> = values.iter().enumerate().flat_map(|(at, value)| [format!("n{at}=").as_bytes(), value, b"&"].concat()).collect();
            let (hit, _) = Hit::read_form(&raw);
            prop_assert_eq!(hit.len(), values.len());
            for ((_, found), value) in hit.iter().zip(&values) {
                let ParameterValue::Text(found) = found else { panic!("text") };
                let decoded: Vec<u8> = percent_encoding::percent_decode(value).collect();
                let latin_1: Option<Vec<u8>> = found.chars().map(|character| u8::try_from(character).ok()).collect();
                prop_assert!(found.as_bytes() == decoded || latin_1 == Some(decoded));
            }
        }

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
