//! Plain JSON, recognised in one pass.
//!
//! Most records are what a program wrote on one line: ASCII, no escapes. Of those it is told here that they are JSON, in
//! about half the time that the JSON parser takes. Everything else is left to the parser, and the two agree on whatever is
//! recognised.

use shared::json::Scan;

/// Objects and arrays within one another. What is nested deeper is left to the parser.
const MAX_DEPTH: u8 = 32;

/// The string that `names` lead to in `json`, the last one when names repeat; `Some(None)` when they lead to none.
///
/// `None` unless `json` is one value, without white space around it, of ASCII without escapes or line breaks.
pub(crate) fn find<'a>(json: &'a [u8], names: Option<&[String]>) -> Option<Option<&'a str>> {
    let mut reader = Reader { scan: Scan { rest: json }, found: None };
    reader.value(names, MAX_DEPTH)?;
    reader.scan.rest.is_empty().then_some(())?;
    match reader.found {
        Some(text) => std::str::from_utf8(text).ok().map(Some),
        None => Some(None),
    }
}

struct Reader<'a> {
    scan: Scan<'a>,
    found: Option<&'a [u8]>,
}

impl Reader<'_> {
    /// `names`: those that lead on from here, if any lead here.
    fn value(&mut self, names: Option<&[String]>, depth: u8) -> Option<()> {
        let (first, rest) = self.scan.rest.split_first()?;
        match first {
            b'"' => {
                self.scan.rest = rest;
                let text = self.scan.plain()?;
                if names.is_some_and(<[String]>::is_empty) {
                    self.found = Some(text);
                }
                Some(())
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'{' => {
                self.scan.rest = rest;
                self.object(names, depth.checked_sub(1)?)
            }
            b'[' => {
                self.scan.rest = rest;
                self.array(depth.checked_sub(1)?)
            }
            b't' => self.scan.literal(b"true"),
            b'f' => self.scan.literal(b"false"),
            b'n' => self.scan.literal(b"null"),
            _ => None,
        }
    }

    fn object(&mut self, names: Option<&[String]>, depth: u8) -> Option<()> {
        let wanted = names.and_then(<[String]>::split_first);
        self.spaces();
        if self.scan.literal(b"}").is_some() {
            return Some(());
        }
        loop {
            self.scan.literal(b"\"")?;
            let name = self.scan.plain()?;
            self.spaces();
            self.scan.literal(b":")?;
            self.spaces();
            match wanted {
                Some((first, names)) if first.as_bytes() == name => {
                    self.found = None;
                    self.value(Some(names), depth)?;
                }
                _ => self.value(None, depth)?,
            }
            if self.is_last(b"}")? {
                return Some(());
            }
        }
    }

    fn array(&mut self, depth: u8) -> Option<()> {
        self.spaces();
        if self.scan.literal(b"]").is_some() {
            return Some(());
        }
        loop {
            self.value(None, depth)?;
            if self.is_last(b"]")? {
                return Some(());
            }
        }
    }

    /// Whether what has been read is the last one of its object or array.
    #[inline]
    fn is_last(&mut self, end: &[u8; 1]) -> Option<bool> {
        self.spaces();
        if self.scan.literal(b",").is_none() {
            return self.scan.literal(end).map(|()| true);
        }
        self.spaces();
        Some(false)
    }

    #[inline]
    fn spaces(&mut self) {
        while self.scan.literal(b" ").is_some() {}
    }

    #[inline]
    fn number(&mut self) -> Option<()> {
        let _ = self.scan.literal(b"-");
        // No digit follows a zero.
        if self.scan.literal(b"0").is_none() {
            self.digits()?;
        }
        if self.scan.literal(b".").is_some() {
            self.digits()?;
        }
        if let [b'e' | b'E', rest @ ..] = self.scan.rest {
            self.scan.rest = rest;
            if let [b'+' | b'-', rest @ ..] = rest {
                self.scan.rest = rest;
            }
            self.digits()?;
        }
        Some(())
    }

    #[inline]
    fn digits(&mut self) -> Option<()> {
        let all = self.scan.rest.len();
        while let [b'0'..=b'9', rest @ ..] = self.scan.rest {
            self.scan.rest = rest;
        }
        (self.scan.rest.len() < all).then_some(())
    }
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
