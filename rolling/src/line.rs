//! Determines the table of a record and its line in a file.

use std::{borrow::Cow, fmt, str::FromStr};

use memchr::memchr2;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use shared::{json::Text, layout::Segment, quarantine::base64};

use crate::{error::RecordError, plain};

/// How to find out which table a record belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableOf {
    /// Every record belongs to this table.
    Fixed(Segment),
    /// A string in the record names the table.
    Pointer(Pointer),
}

/// How records become lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Which table a record belongs to.
    pub table_of: TableOf,
    /// Whether a line says where its record comes from.
    pub envelope: bool,
    /// Whether a record that is not JSON becomes a line with its bytes in base64, `{"_base64":"…"}`. It names no table, so this
    /// is for [`TableOf::Fixed`].
    pub base64: bool,
}

impl From<TableOf> for Lines {
    /// Lines that are the records as they came.
    fn from(table_of: TableOf) -> Self {
        Self { table_of, envelope: false, base64: false }
    }
}

/// A JSON pointer (RFC 6901) to a member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    names: Vec<String>,
}

impl FromStr for Pointer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let names = text.strip_prefix('/').ok_or(())?;
        Ok(Self { names: names.split('/').map(|name| name.replace("~1", "/").replace("~0", "~")).collect() })
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.names.iter().try_for_each(|name| write!(f, "/{}", name.replace('~', "~0").replace('/', "~1")))
    }
}

/// The table that a record names, or `None` for [`TableOf::Fixed`], and its line without the line break.
pub type TableAndLine<'a> = (Option<Cow<'a, str>>, Cow<'a, [u8]>);

/// Reads the data of a record.
pub fn read<'a>(data: &'a [u8], lines: &Lines) -> Result<TableAndLine<'a>, RecordError> {
    match read_json(data, &lines.table_of) {
        Err(RecordError::Empty | RecordError::Json(_)) if lines.base64 => {
            Ok((None, format!("{{\"_base64\":\"{}\"}}", base64(data)).into_bytes().into()))
        }
        read => read,
    }
}

fn read_json<'a>(data: &'a [u8], table_of: &TableOf) -> Result<TableAndLine<'a>, RecordError> {
    let names = match table_of {
        TableOf::Fixed(_) => None,
        TableOf::Pointer(pointer) => Some(&*pointer.names),
    };
    if let Some(table) = plain::find(data, names)
        && (table.is_some() || names.is_none())
    {
        return Ok((table.map(Cow::Borrowed), data.into()));
    }
    let json = trim(data);
    if json.is_empty() {
        return Err(RecordError::Empty);
    }
    // The parser skips strings without checking that they are UTF-8.
    if !json.is_ascii() {
        std::str::from_utf8(json).map_err(|cause| RecordError::Json(cause.to_string()))?;
    }
    let not_json = |cause: serde_json::Error| RecordError::Json(cause.to_string());
    let mut parser = serde_json::Deserializer::from_slice(json);
    let table = match table_of {
        TableOf::Fixed(_) => {
            IgnoredAny::deserialize(&mut parser).map_err(not_json)?;
            None
        }
        TableOf::Pointer(pointer) => {
            let found = At { names: &pointer.names }.deserialize(&mut parser).map_err(not_json)?;
            Some(found.ok_or_else(|| RecordError::MissingTable(pointer.to_string())))
        }
    };
    parser.end().map_err(not_json)?;
    let line = if memchr2(b'\n', b'\r', json).is_some() { compact(json).into() } else { json.into() };
    Ok((table.transpose()?, line))
}

/// Removes white space, as JSON defines it, from both ends.
fn trim(json: &[u8]) -> &[u8] {
    let is_text = |byte: &u8| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let start = json.iter().position(is_text).unwrap_or(json.len());
    let end = json.iter().rposition(is_text).map_or(start, |last| last + 1);
    json.get(start..end).unwrap_or_default()
}

/// Removes the white space between the tokens.
fn compact(json: &[u8]) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let kept = json.iter().filter(|byte| {
        if in_string {
            in_string = escaped || **byte != b'"';
            escaped = **byte == b'\\' && !escaped;
            return true;
        }
        in_string = **byte == b'"';
        !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
    });
    kept.copied().collect()
}

/// Reads a whole value and returns the string at the path `names`. If names are repeated, the last string counts.
struct At<'n> {
    names: &'n [String],
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Cow<'de, str>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(Text(name)) = map.next_key()? {
            match self.names.split_first() {
                Some((first, names)) if *first == name => found = map.next_value_seed(At { names })?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(self.names.is_empty().then_some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.names.is_empty().then(|| Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn fixed() -> Lines {
        TableOf::Fixed("sample".parse().unwrap()).into()
    }

    fn at(pointer: &str) -> Lines {
        TableOf::Pointer(pointer.parse().unwrap()).into()
    }

    #[test]
    fn a_line_is_the_record_as_it_came() {
        for text in [r#"{"a": 1.10, "b":"x  y"}"#, "[1,2]", "12345678901234567890123", "null", "\"\u{2028}\""] {
            assert_eq!(read(text.as_bytes(), &fixed()), Ok((None, text.as_bytes().into())));
            assert_eq!(read(format!(" {text}\r\n").as_bytes(), &fixed()), Ok((None, text.as_bytes().into())));
        }
    }

    #[test]
    fn a_record_over_several_lines_is_one_line() {
        let pretty = "{\n  \"a b\": \"x \\\" \\\\\",\r\n\t\"n\": 1.10\n}";
        assert_eq!(&*read(pretty.as_bytes(), &fixed()).unwrap().1, br#"{"a b":"x \" \\","n":1.10}"#);
    }

    #[test]
    fn the_table_is_the_string_that_the_pointer_leads_to() {
        let record = br#"{"topic":"x","n":1,"meta":{"a/b":{"~":"deep"}},"topic":"last"}"#;
        assert_eq!(read(record, &at("/topic")).unwrap().0.unwrap(), "last");
        assert_eq!(read(record, &at("/meta/a~1b/~0")).unwrap().0.unwrap(), "deep");
        assert_eq!(
            at("/meta/a~1b/~0").table_of,
            TableOf::Pointer(Pointer { names: vec!["meta".into(), "a/b".into(), "~".into()] })
        );
        for pointer in ["/n", "/meta", "/none", "/topic/x", "/"] {
            assert_eq!(read(record, &at(pointer)), Err(RecordError::MissingTable(pointer.to_owned())));
        }
        for record in ["[]", "\"topic\"", "1", "-1", "1.5", "true", "null", "{}"] {
            assert_eq!(read(record.as_bytes(), &at("/topic")), Err(RecordError::MissingTable("/topic".to_owned())));
        }
        assert!("topic".parse::<Pointer>().is_err() && "".parse::<Pointer>().is_err());
    }

    #[test]
    fn json_may_be_nested_as_deep_as_it_likes() {
        for depth in [100, 1_000, 100_000] {
            for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
                let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                let data = format!("{{\"topic\":\"a\",\"deep\":{deep},\n\"é\":1}}");
                assert_eq!(read(data.as_bytes(), &at("/topic")).unwrap().0.unwrap(), "a", "{depth}");
                assert!(read(data.as_bytes(), &fixed()).is_ok() && read(deep.as_bytes(), &fixed()).is_ok(), "{depth}");
                assert!(matches!(read(deep.as_bytes(), &at("/topic")), Err(RecordError::MissingTable(_))), "{depth}");
            }
        }
    }

    #[test]
    fn data_that_is_not_json_is_refused() {
        for lines in [fixed(), at("/topic")] {
            for data in
                [&b"{"[..], b"{} {}", b"hello", b"{\"a\":\"\xff\"}", b"{'a':1}", b"{\"a\":01}", b"\xef\xbb\xbf{}"]
            {
                assert!(matches!(read(data, &lines), Err(RecordError::Json(_))), "{data:?}");
            }
            for data in [&b""[..], b" \r\n"] {
                assert_eq!(read(data, &lines), Err(RecordError::Empty));
            }
        }
    }

    #[test]
    fn data_that_is_not_json_can_be_a_line_in_base64() {
        let lines = Lines { base64: true, ..fixed() };
        for (data, line) in [
            (&b""[..], r#"{"_base64":""}"#),
            (b"\xff\x00", r#"{"_base64":"/wA="}"#),
            (b" {", r#"{"_base64":"IHs="}"#),
            (b" {}\n", "{}"),
        ] {
            assert_eq!(read(data, &lines), Ok((None, line.as_bytes().into())));
        }
    }

    pub(crate) fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map("[a-c/~]{0,2}", inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_line_has_no_line_break_and_is_the_same_json(value in json()) {
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            let (_, line) = read(pretty.as_bytes(), &fixed()).unwrap();
            prop_assert!(!line.contains(&b'\n') && !line.contains(&b'\r'));
            prop_assert_eq!(serde_json::from_slice::<Value>(&line).unwrap(), value);
        }

        #[test]
        fn the_pointer_leads_where_serde_json_goes(value in json(), names in prop::collection::vec("[a-c/~]{0,2}", 1..3)) {
            let pointer = Pointer { names };
            let text = pointer.to_string();
            prop_assert_eq!(text.parse::<Pointer>(), Ok(pointer));
            // In RFC 6901 a number is also an index of an array, which is not supported here.
            let expected = value.pointer(&text).and_then(Value::as_str);
            let found = read(value.to_string().as_bytes(), &at(&text)).ok().and_then(|(table, _)| Some(table?.into_owned()));
            prop_assert_eq!(found.as_deref(), expected);
        }

        #[test]
        fn reading_never_panics(data in prop::collection::vec(any::<u8>(), 0..50)) {
            drop(read(&data, &fixed()));
            drop(read(&data, &at("/a")));
        }
    }
}
