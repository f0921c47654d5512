//! A fast path for plain JSON.
//!
//! Most records are ASCII without escapes on one line. This module validates such JSON in about half the time that the JSON
//! parser takes. Everything else is left to the parser. Whatever this module accepts, the parser reads in the same way.

use shared::json::Scan;

/// Maximum depth of nested objects and arrays. Deeper nesting is left to the parser.
const MAX_DEPTH: u8 = 32;

/// The string at the path `names` in `json`; `Some(None)` if there is no string. If names are repeated, the last string counts.
///
/// `None` unless `json` is a single value of ASCII without escapes or line breaks, and without white space around it.
pub(crate) fn find<'a>(json: &'a [u8], names: Option<&[String]>) -> Option<Option<&'a str>> {
    let mut found = None;
    let scan = value(Scan { rest: json }, &mut Search { names, found: &mut found }, MAX_DEPTH)?;
    scan.rest.is_empty().then_some(())?;
    match found {
        Some(text) => std::str::from_utf8(text).ok().map(Some),
        None => Some(None),
    }
}

/// A search for a string.
struct Search<'n, 'f, 'a> {
    /// The rest of the path from the current value; `None` if the path does not lead through it.
    names: Option<&'n [String]>,
    found: &'f mut Option<&'a [u8]>,
}

/// Skips a value. The scan is passed and returned by value, which keeps it in registers.
#[inline(always)]
fn value<'a>(mut scan: Scan<'a>, search: &mut Search<'_, '_, 'a>, depth: u8) -> Option<Scan<'a>> {
    let (first, rest) = scan.rest.split_first()?;
    match first {
        b'"' => {
            scan.rest = rest;
            let text = scan.plain()?;
            if search.names.is_some_and(<[String]>::is_empty) {
                *search.found = Some(text);
            }
        }
        b'-' | b'0'..=b'9' => number(&mut scan)?,
        b'{' => return object(Scan { rest }, search, depth.checked_sub(1)?),
        b'[' => return array(Scan { rest }, depth.checked_sub(1)?),
        b't' => scan.literal(b"true")?,
        b'f' => scan.literal(b"false")?,
        b'n' => scan.literal(b"null")?,
        _ => return None,
    }
    Some(scan)
}

fn object<'a>(mut scan: Scan<'a>, search: &mut Search<'_, '_, 'a>, depth: u8) -> Option<Scan<'a>> {
    let wanted = search.names.and_then(<[String]>::split_first);
    spaces(&mut scan);
    if scan.literal(b"}").is_some() {
        return Some(scan);
    }
    loop {
        scan.literal(b"\"")?;
        let name = scan.plain()?;
        spaces(&mut scan);
        scan.literal(b":")?;
        spaces(&mut scan);
        let names = wanted.filter(|(first, _)| first.as_bytes() == name).map(|(_, names)| names);
        if names.is_some() {
            *search.found = None;
        }
        scan = value(scan, &mut Search { names, found: search.found }, depth)?;
        if is_last(&mut scan, b"}")? {
            return Some(scan);
        }
    }
}

fn array(mut scan: Scan<'_>, depth: u8) -> Option<Scan<'_>> {
    spaces(&mut scan);
    if scan.literal(b"]").is_some() {
        return Some(scan);
    }
    loop {
        scan = value(scan, &mut Search { names: None, found: &mut None }, depth)?;
        if is_last(&mut scan, b"]")? {
            return Some(scan);
        }
    }
}

/// Whether the value that has been read is the last one of its object or array.
#[inline]
fn is_last(scan: &mut Scan<'_>, end: &[u8; 1]) -> Option<bool> {
    spaces(scan);
    if scan.literal(b",").is_none() {
        return scan.literal(end).map(|()| true);
    }
    spaces(scan);
    Some(false)
}

#[inline]
fn spaces(scan: &mut Scan<'_>) {
    while scan.literal(b" ").is_some() {}
}

#[inline]
fn number(scan: &mut Scan<'_>) -> Option<()> {
    let _ = scan.literal(b"-");
    // A leading zero must not be followed by another digit.
    if scan.literal(b"0").is_none() {
        digits(scan)?;
    }
    if scan.literal(b".").is_some() {
        digits(scan)?;
    }
    if let [b'e' | b'E', rest @ ..] = scan.rest {
        scan.rest = rest;
        if let [b'+' | b'-', rest @ ..] = rest {
            scan.rest = rest;
        }
        digits(scan)?;
    }
    Some(())
}

#[inline]
fn digits(scan: &mut Scan<'_>) -> Option<()> {
    let all = scan.rest.len();
    while let [b'0'..=b'9', rest @ ..] = scan.rest {
        scan.rest = rest;
    }
    (scan.rest.len() < all).then_some(())
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

    /// JSON, and text that is almost JSON.
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
