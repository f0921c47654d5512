//! Plain JSON, recognised in one pass.
//!
//! Most records are what a program wrote on one line: ASCII, no escapes. Of those it is told here that they are JSON, in
//! about half the time that the JSON parser takes. Everything else is left to the parser, and the two agree on whatever is
//! recognised.

/// Objects and arrays within one another. What is nested deeper is left to the parser.
const MAX_DEPTH: u8 = 32;
/// Bytes that are looked at at once.
const WORD: usize = 8;
const LOW_BITS: u64 = u64::MAX / 0xff;
const HIGH_BITS: u64 = LOW_BITS << 7;

/// The string that `names` lead to in `json`, the last one when names repeat; `Some(None)` when they lead to none.
///
/// `None` unless `json` is one value, without white space around it, of ASCII without escapes or line breaks.
pub(crate) fn find<'a>(json: &'a [u8], names: Option<&[String]>) -> Option<Option<&'a str>> {
    let mut scan = Scan { rest: json };
    let found = scan.value(names, MAX_DEPTH)?;
    scan.rest.is_empty().then_some(())?;
    match found {
        Some(text) => std::str::from_utf8(text).ok().map(Some),
        None => Some(None),
    }
}

struct Scan<'a> {
    rest: &'a [u8],
}

type Found<'a> = Option<&'a [u8]>;

impl<'a> Scan<'a> {
    fn value(&mut self, names: Option<&[String]>, depth: u8) -> Option<Found<'a>> {
        match self.rest {
            [b'"', rest @ ..] => {
                self.rest = rest;
                let text = self.string()?;
                return Some(names.filter(|names| names.is_empty()).map(|_| text));
            }
            [b'{', rest @ ..] => {
                self.rest = rest;
                return self.object(names, depth.checked_sub(1)?);
            }
            [b'[', rest @ ..] => {
                self.rest = rest;
                self.array(depth.checked_sub(1)?)?;
            }
            [b'-' | b'0'..=b'9', ..] => self.number()?,
            [b't', rest @ ..] => self.rest = rest.strip_prefix(b"rue")?,
            [b'f', rest @ ..] => self.rest = rest.strip_prefix(b"alse")?,
            [b'n', rest @ ..] => self.rest = rest.strip_prefix(b"ull")?,
            _ => return None,
        }
        Some(None)
    }

    fn object(&mut self, names: Option<&[String]>, depth: u8) -> Option<Found<'a>> {
        let wanted = names.and_then(<[String]>::split_first);
        let mut found = None;
        self.spaces();
        if self.byte(b'}').is_some() {
            return Some(found);
        }
        loop {
            self.byte(b'"')?;
            let name = self.string()?;
            self.spaces();
            self.byte(b':')?;
            self.spaces();
            match wanted {
                Some((first, names)) if first.as_bytes() == name => found = self.value(Some(names), depth)?,
                _ => drop(self.value(None, depth)?),
            }
            if self.is_last(b'}')? {
                return Some(found);
            }
        }
    }

    fn array(&mut self, depth: u8) -> Option<()> {
        self.spaces();
        if self.byte(b']').is_some() {
            return Some(());
        }
        loop {
            self.value(None, depth)?;
            if self.is_last(b']')? {
                return Some(());
            }
        }
    }

    /// Whether what has been read is the last one of its object or array.
    #[inline]
    fn is_last(&mut self, end: u8) -> Option<bool> {
        self.spaces();
        if self.byte(b',').is_none() {
            return self.byte(end).map(|()| true);
        }
        self.spaces();
        Some(false)
    }

    #[inline]
    fn byte(&mut self, byte: u8) -> Option<()> {
        let (first, rest) = self.rest.split_first()?;
        (*first == byte).then(|| self.rest = rest)
    }

    #[inline]
    fn spaces(&mut self) {
        while let [b' ', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    /// What is left of a string whose quote has been read, its closing quote consumed.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        let all = self.rest;
        let mut rest = all;
        while let Some((word, more)) = rest.split_first_chunk::<WORD>() {
            let unusual = unusual(u64::from_le_bytes(*word));
            if unusual != 0 {
                // The first unusual byte is the lowest one.
                rest = rest.get(unusual.trailing_zeros() as usize / WORD..)?;
                break;
            }
            rest = more;
        }
        // At the end of the record a word may not be full.
        while let [b' ' | b'!' | b'#'..=b'[' | b']'..=b'~', more @ ..] = rest {
            rest = more;
        }
        self.rest = rest.strip_prefix(b"\"")?;
        all.get(..all.len() - rest.len())
    }

    #[inline]
    fn number(&mut self) -> Option<()> {
        let _ = self.byte(b'-');
        // No digit follows a zero.
        if self.byte(b'0').is_none() {
            self.digits()?;
        }
        if self.byte(b'.').is_some() {
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.rest {
            self.rest = rest;
            if let [b'+' | b'-', rest @ ..] = self.rest {
                self.rest = rest;
            }
            self.digits()?;
        }
        Some(())
    }

    #[inline]
    fn digits(&mut self) -> Option<()> {
        let digits = self.rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.rest.len());
        self.rest = self.rest.get(digits..)?;
        (digits > 0).then_some(())
    }
}

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;
    use serde_json::Value;

    use super::*;

    #[test]
    fn plain_json_is_recognised() {
        for json in [
            r#"{"topic":"riders","offset":10000000,"amount":-1.50,"ok":true,"none":null,"tags":["a",{}, []]}"#,
            r#"{"topic": "riders", "at": "2026-11-20T10:00:00.123Z", "small": 1e-7, "large": 1.5E+10, "no": false }"#,
            "0",
            "-0",
            "\"\"",
            "[ ]",
            "{ }",
        ] {
            assert!(find(json.as_bytes(), None).is_some(), "{json}");
        }
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(find(nested(32).as_bytes(), None).is_some() && find(nested(33).as_bytes(), None).is_none());
    }

    #[test]
    fn what_is_unusual_is_left_to_the_parser() {
        for json in ["\"\\n\"", "\"é\"", "{\"a\":\n1}", " 1", "1 ", "\"\u{7f}\u{1f}\""] {
            assert_eq!(find(json.as_bytes(), None), None, "{json:?}");
        }
    }

    /// JSON, and what is nearly JSON.
    fn nearly_json() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            "null|true|false|-?(0|[1-9][0-9]{0,9})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
            "\"[ -!#-\\[\\]-~]{0,20}\"",
            "[ -~é]{0,4}",
        ];
        let json = leaf.prop_recursive(4, 32, 4, |inner| {
            let member = ("\"[ab]{0,9}\" ?", inner.clone()).prop_map(|(name, value)| format!("{name}:{value}"));
            let all = |open: &'static str, close: &'static str| {
                move |parts: Vec<String>| format!("{open}{}{close}", parts.join(", "))
            };
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(all("[", "]")),
                prop::collection::vec(member, 0..4).prop_map(all("{", "}")),
            ]
        });
        let damage = prop::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>()));
        (json, damage).prop_map(|(json, damage)| {
            let mut json = json.into_bytes();
            if let Some((at, byte)) = damage.filter(|_| !json.is_empty()) {
                *at.get_mut(&mut json) = byte;
            }
            json
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn whatever_is_recognised_is_json_on_one_line(json in nearly_json()) {
            if find(&json, None).is_some() {
                prop_assert!(serde_json::from_slice::<IgnoredAny>(&json).is_ok());
                prop_assert!(json.is_ascii() && !json.contains(&b'\n') && !json.contains(&b'\r'));
                prop_assert_eq!(json.trim_ascii(), json.as_slice());
            }
        }

        #[test]
        fn plain_json_is_always_recognised(json in nearly_json()) {
            let is_plain = |byte: &u8| *byte == b' ' || byte.is_ascii_graphic() && *byte != b'\\';
            if json.iter().all(is_plain) && json.trim_ascii() == json && serde_json::from_slice::<IgnoredAny>(&json).is_ok() {
                prop_assert!(find(&json, None).is_some());
            }
        }

        #[test]
        fn names_lead_where_the_parser_goes(json in nearly_json(), names in prop::collection::vec("[ab]{0,2}", 1..3)) {
            if let (Some(found), Ok(value)) = (find(&json, Some(&names)), serde_json::from_slice::<Value>(&json)) {
                let object = |value: &Value, name: &String| value.as_object()?.get(name).cloned();
                let expected = names.iter().try_fold(value, |value, name| object(&value, name));
                prop_assert_eq!(found, expected.as_ref().and_then(Value::as_str));
            }
        }

        #[test]
        fn reading_never_panics(json in prop::collection::vec(any::<u8>(), 0..50)) {
            let _ = find(&json, Some(&["a".to_owned()]));
        }
    }
}
