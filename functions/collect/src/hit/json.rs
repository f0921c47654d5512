//! Hits from JSON objects (RFC 8259).

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer as _,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Hit, HitError, MOST_BYTES, MOST_DEPTH, MOST_PARAMETERS, Span};

impl Hit {
    /// A hit from the text of a JSON object. If it cannot be parsed, the text is one parameter of a hit.
    #[must_use]
    pub fn read_json(raw: &[u8]) -> (Self, Option<HitError>) {
        match Self::from_json(raw) {
            Ok(hit) => (hit, None),
            Err(error) => (Self::unreadable(raw), Some(error)),
        }
    }

    /// A hit from the text of a JSON object.
    pub fn from_json(raw: &[u8]) -> Result<Self, HitError> {
        Self::from_json_within(raw, MOST_BYTES)
    }

    /// The same with another limit of bytes.
    pub(super) fn from_json_within(raw: &[u8], most: usize) -> Result<Self, HitError> {
        if raw.len() > most {
            return Err(HitError::TooLarge { bytes: raw.len() });
        }
        let text = std::str::from_utf8(raw).map_err(|_| HitError::Utf8 { parameter: 1 })?;
        let mut object = Object { hit: Self { bytes: raw.len(), ..Self::default() }, seen: 0, error: None };
        object.hit.text.reserve(raw.len());
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = deserializer.deserialize_any(&mut object).and_then(|()| deserializer.end());
        match (read, object.error) {
            (_, Some(error)) => Err(error),
            (Ok(()), None) => Ok(object.hit),
            (Err(error), None) if error.is_data() => Err(HitError::NotAnObject),
            (Err(error), None) => Err(HitError::Json { line: error.line(), column: error.column() }),
        }
    }
}

/// A JSON object while it is parsed into a hit.
struct Object {
    hit: Hit,
    seen: usize,
    error: Option<HitError>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for &mut Object {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            self.seen += 1;
            if let Err(error) = self.keep(&name, value.get()) {
                self.error = Some(error);
                return Err(A::Error::custom(error));
            }
        }
        Ok(())
    }
}

impl Object {
    fn keep(&mut self, name: &str, raw: &str) -> Result<(), HitError> {
        let parameter = self.seen;
        if parameter > MOST_PARAMETERS {
            return Err(HitError::TooManyParameters);
        }
        let name = self.hit.append(name);
        let start = self.hit.text.len();
        let is_json = match raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')) {
            Some(inner) if !inner.contains('\\') => {
                self.hit.text.push_str(inner);
                false
            }
            Some(_) => {
                let text: String = serde_json::from_str(raw).map_err(|_| HitError::Surrogate { parameter })?;
                self.hit.text.push_str(&text);
                false
            }
            None => {
                compact(raw, &mut self.hit.text).map_err(|fault| match fault {
                    Fault::Depth => HitError::TooDeep { parameter },
                    Fault::Surrogate => HitError::Surrogate { parameter },
                })?;
                true
            }
        };
        self.hit.keep(name, Span::new(start, self.hit.text.len()), is_json);
        Ok(())
    }
}

enum Fault {
    Depth,
    Surrogate,
}

/// Appends JSON without the whitespace between its tokens.
fn compact(raw: &str, into: &mut String) -> Result<(), Fault> {
    let mut depth = 0_usize;
    let mut rest = raw;
    while let Some(at) = rest.find(['"', '[', ']', '{', '}', ' ', '\t', '\r', '\n']) {
        let (head, tail) = rest.split_at(at);
        into.push_str(head);
        let mut taken = 1;
        match tail.as_bytes() {
            [b'"', ..] => {
                let string = tail.get(..string_bytes(tail)).unwrap_or(tail);
                if string.contains("\\u") && serde_json::from_str::<Cow<'_, str>>(string).is_err() {
                    return Err(Fault::Surrogate);
                }
                taken = string.len();
                into.push_str(string);
            }
            [open @ (b'[' | b'{'), ..] => {
                depth += 1;
                if depth > MOST_DEPTH {
                    return Err(Fault::Depth);
                }
                into.push(char::from(*open));
            }
            [close @ (b']' | b'}'), ..] => {
                depth = depth.saturating_sub(1);
                into.push(char::from(*close));
            }
            _ => {}
        }
        rest = tail.get(taken..).unwrap_or_default();
    }
    into.push_str(rest);
    Ok(())
}

/// Length of the string that the text starts with, quotes included.
fn string_bytes(text: &str) -> usize {
    let mut is_escaped = false;
    let end = text.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(text.len(), |end| end + 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            ParameterValue,
            tests::{json, list, pairs},
        },
        *,
    };

    #[test]
    fn json_keeps_its_types_to_the_digit() {
        let hit = json(
            "{\"a\": \"x\\n\\u20ac\", \"n\": 1.10, \"big\": 123456789012345678901234567890, \"e\": 1E400,\n \"t\": true, \
             \"z\": null, \"l\": [ 1 , \"a b\\\" ] \", { \"k\" : [ ] } ], \"\": 1, \"n\": -2}",
        );
        let expected = [
            ("a", "x\n€"),
            ("n", "json -2"),
            ("big", "json 123456789012345678901234567890"),
            ("e", "json 1E400"),
            ("t", "json true"),
            ("z", "json null"),
            ("l", r#"json [1,"a b\" ] ",{"k":[]}]"#),
        ];
        assert_eq!(list(&hit), pairs(&expected));
        assert_eq!(hit.get("a"), Some("x\n€"));
        assert_eq!(hit.get("n"), Some("-2"));
        assert_eq!(hit.get("t"), Some("true"));
        for name in ["z", "l", "none", ""] {
            assert_eq!(hit.get(name), None, "{name}");
        }
    }

    #[test]
    fn the_error_says_why_it_is_not_an_object() {
        for (raw, expected) in [
            ("", HitError::Json { line: 1, column: 0 }),
            ("{\"a\":1", HitError::Json { line: 1, column: 6 }),
            ("{\"a\":1} x", HitError::Json { line: 1, column: 9 }),
            ("[1]", HitError::NotAnObject),
            ("\"ann@example.org\"", HitError::NotAnObject),
            ("null", HitError::NotAnObject),
            (r#"{"a":1,"b":"\ud800"}"#, HitError::Surrogate { parameter: 2 }),
            (r#"{"a":["\udc00"]}"#, HitError::Surrogate { parameter: 1 }),
        ] {
            assert_eq!(Hit::from_json(raw.as_bytes()), Err(expected), "{raw}");
        }
        assert_eq!(Hit::from_json(b"{\"a\":\"\xff\"}"), Err(HitError::Utf8 { parameter: 1 }));
        assert!(matches!(Hit::from_json(br#"{"\ud800":1}"#), Err(HitError::Json { .. })));
        assert!(matches!(Hit::from_json(b"{\"a\":\"\n\"}"), Err(HitError::Json { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn json_is_kept(given in prop::collection::btree_map(".{1,12}", value(), 0..6), pretty in any::<bool>()) {
            let object = serde_json::Value::Object(given.clone().into_iter().collect());
            let raw = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let hit = Hit::from_json(raw.unwrap().as_bytes()).unwrap();
            prop_assert_eq!(hit.len(), given.len());
            for (name, value) in given {
                match (hit.value(&name).unwrap(), value) {
                    (ParameterValue::Text(text), serde_json::Value::String(expected)) => prop_assert_eq!(text, expected),
                    (ParameterValue::Json(json), expected) => prop_assert_eq!(json, expected.to_string()),
                    (ParameterValue::Text(_), _) => prop_assert!(false, "a text that was none"),
                }
            }
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 20, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }
}
