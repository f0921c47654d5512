//! One hit: an ordered list of named values, as a form or a JSON object gave them.
//!
//! | sent as | a value is |
//! |---|---|
//! | query string, form, `text/plain` | text |
//! | a string in JSON | text |
//! | a number, `true`, `false`, `null`, an array, an object in JSON | the JSON, digit by digit, without whitespace |
//!
//! Of several values of one name the last counts, at the place of the first. Parameters without a name are dropped. All
//! text of a hit lies in one buffer, so that decoding forty parameters takes two allocations.
//!
//! Sources: "application/x-www-form-urlencoded parsing", URL Standard (but a `%` that starts no escape and bytes that
//! are no UTF-8 are errors here and not guessed at); RFC 8259.

use std::{borrow::Cow, fmt};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{
    Deserialize, Deserializer as _,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Parameters of a hit, repeated ones counted each time.
pub const MOST_PARAMETERS: usize = 1_000;

/// Bytes of a hit that are looked at, body and query together. The protocol allows 8,192, which `validate` tells.
pub const MOST_BYTES: usize = 32_768;

/// Arrays and objects in each other, the hit's own object not counted.
pub const MOST_DEPTH: usize = 32;

/// What a form leaves as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*');

/// Why bytes are no hit. Says where, never what: a value may be personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HitError {
    /// A `%` is not followed by two hexadecimal digits.
    #[error("parameter {parameter} has a % that starts no escape")]
    Escape {
        /// Its number, counted from 1.
        parameter: usize,
    },
    /// The bytes are no UTF-8. GA clients encode in UTF-8 only.
    #[error("parameter {parameter} is not UTF-8")]
    Utf8 {
        /// Its number, counted from 1.
        parameter: usize,
    },
    /// The hit is longer than anything that a client sends.
    #[error("the hit has {bytes} bytes, and at most {MOST_BYTES} are read")]
    TooLarge {
        /// Its length in bytes.
        bytes: usize,
    },
    /// There are more parameters than the protocol has.
    #[error("the hit has more than {MOST_PARAMETERS} parameters")]
    TooManyParameters,
    /// The body is not JSON.
    #[error("the body is not JSON, as line {line}, column {column} shows")]
    Json {
        /// The line, counted from 1.
        line: usize,
        /// The column, counted from 1.
        column: usize,
    },
    /// A string holds half a surrogate pair, which is no text.
    #[error("parameter {parameter} has half a surrogate pair")]
    Surrogate {
        /// Its number, counted from 1.
        parameter: usize,
    },
    /// The body is JSON, but no object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// Arrays and objects are nested deeper than any real hit.
    #[error("parameter {parameter} is nested deeper than {MOST_DEPTH}")]
    TooDeep {
        /// Its number, counted from 1.
        parameter: usize,
    },
}

/// The parameters of one hit. See the module's table.
#[derive(Clone, Default)]
pub struct Hit {
    text: String,
    parameters: Vec<Parameter>,
    bytes: usize,
}

/// The value of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given<'a> {
    /// Text.
    Text(&'a str),
    /// JSON that is no string: compact, on one line.
    Json(&'a str),
}

/// What a value becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replacement {
    Text(String),
    Json(String),
    Removed,
}

#[derive(Debug, Clone, Copy)]
struct Parameter {
    tag: u64,
    name: Span,
    value: Span,
    is_json: bool,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        let [start, end] = [start, end].map(|position| u32::try_from(position).unwrap_or(u32::MAX));
        Self { start, end }
    }

    fn of<'a>(&self, text: &'a str) -> &'a str {
        let [start, end] = [self.start, self.end].map(|position| usize::try_from(position).unwrap_or(usize::MAX));
        text.get(start..end).unwrap_or_default()
    }
}

/// The head and the length of a name, so that most comparisons need not look at the name.
fn tag(name: &[u8]) -> u64 {
    let mut head = [0; 8];
    for (slot, byte) in head.iter_mut().skip(1).zip(name) {
        *slot = *byte;
    }
    u64::from_be_bytes(head) | u64::try_from(name.len().min(255)).unwrap_or(255) << 56
}

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

    /// A hit from the text of a JSON object.
    pub fn from_json(raw: &[u8]) -> Result<Self, HitError> {
        if raw.len() > MOST_BYTES {
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

    /// Adds the parameters of the query to those of the body, which win.
    pub fn merge(&mut self, query: Self) -> Result<(), HitError> {
        let bytes = self.bytes + query.bytes;
        if bytes > MOST_BYTES {
            return Err(HitError::TooLarge { bytes });
        }
        if self.parameters.is_empty() {
            *self = Self { bytes, ..query };
            return Ok(());
        }
        self.bytes = bytes;
        for (name, value) in query.iter() {
            if self.position(name).is_none() {
                self.push(name, value);
            }
        }
        if self.parameters.len() > MOST_PARAMETERS { Err(HitError::TooManyParameters) } else { Ok(()) }
    }

    /// The value as text. Numbers, `true` and `false` are what they are written as; `null`, arrays and objects are none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.given(name)? {
            Given::Text(text) => Some(text),
            Given::Json(json) => Some(json).filter(|json| json.starts_with(['-', 't', 'f']) || starts_with_digit(json)),
        }
    }

    /// The value, whatever it is.
    #[must_use]
    pub fn given(&self, name: &str) -> Option<Given<'_>> {
        self.position(name).and_then(|at| self.parameters.get(at)).map(|parameter| self.value(parameter))
    }

    /// Gives a parameter a text, at its place or at the end.
    pub fn set(&mut self, name: &str, text: &str) {
        match self.position(name) {
            Some(at) => self.replace(at, &Replacement::Text(text.to_owned())),
            None => self.push(name, Given::Text(text)),
        }
    }

    /// Takes a parameter out.
    pub fn remove(&mut self, name: &str) {
        if let Some(at) = self.position(name) {
            self.parameters.remove(at);
        }
    }

    /// All parameters in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Given<'_>)> {
        self.parameters.iter().map(|parameter| (parameter.name.of(&self.text), self.value(parameter)))
    }

    /// Number of parameters.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Whether there are no parameters.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Length of what was received, in bytes: body and query together.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The hit as a query string.
    #[must_use]
    pub fn to_form(&self) -> String {
        let mut form = String::with_capacity(self.text.len() + 2 * self.parameters.len());
        for (name, value) in self.iter() {
            if !form.is_empty() {
                form.push('&');
            }
            form.extend(utf8_percent_encode(name, KEPT));
            form.push('=');
            let (Given::Text(value) | Given::Json(value)) = value;
            form.extend(utf8_percent_encode(value, KEPT));
        }
        form
    }

    /// Replaces values by position. The positions are those of before, in rising order.
    pub(crate) fn replaced(&self, replacements: &[(usize, Replacement)]) -> Self {
        let mut hit = self.clone();
        for (at, replacement) in replacements.iter().rev() {
            hit.replace(*at, replacement);
        }
        hit
    }

    fn replace(&mut self, at: usize, replacement: &Replacement) {
        let (text, is_json) = match replacement {
            Replacement::Removed => {
                if at < self.parameters.len() {
                    self.parameters.remove(at);
                }
                return;
            }
            Replacement::Text(text) => (text, false),
            Replacement::Json(json) => (json, true),
        };
        let value = self.append(text);
        if let Some(parameter) = self.parameters.get_mut(at) {
            *parameter = Parameter { value, is_json, ..*parameter };
        }
    }

    fn push(&mut self, name: &str, value: Given<'_>) {
        let tag = tag(name.as_bytes());
        let name = self.append(name);
        let (text, is_json) = match value {
            Given::Text(text) => (text, false),
            Given::Json(json) => (json, true),
        };
        let value = self.append(text);
        self.parameters.push(Parameter { tag, name, value, is_json });
    }

    fn append(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span::new(start, self.text.len())
    }

    /// Keeps a parameter whose name and value are in the buffer.
    fn keep(&mut self, name: Span, value: Span, is_json: bool) {
        let text = name.of(&self.text);
        if text.is_empty() {
            return;
        }
        match self.position(text) {
            Some(at) => {
                if let Some(parameter) = self.parameters.get_mut(at) {
                    *parameter = Parameter { value, is_json, ..*parameter };
                }
            }
            None => self.parameters.push(Parameter { tag: tag(text.as_bytes()), name, value, is_json }),
        }
    }

    fn position(&self, name: &str) -> Option<usize> {
        let tag = tag(name.as_bytes());
        // Names of up to seven bytes are the tag.
        let is_short = name.len() < 8;
        self.parameters
            .iter()
            .position(|parameter| parameter.tag == tag && (is_short || parameter.name.of(&self.text) == name))
    }

    fn value(&self, parameter: &Parameter) -> Given<'_> {
        let text = parameter.value.of(&self.text);
        if parameter.is_json { Given::Json(text) } else { Given::Text(text) }
    }
}

/// Says how much there is and not what, so that a log line cannot hold it.
impl fmt::Debug for Hit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters, bytes, .. } = self;
        formatter.debug_struct("Hit").field("parameters", &parameters.len()).field("bytes", bytes).finish()
    }
}

/// Equal are hits with the same parameters in the same order.
impl PartialEq for Hit {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

fn starts_with_digit(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
}

fn trim_line_ends(mut raw: &[u8]) -> &[u8] {
    while let [b'\r' | b'\n', rest @ ..] | [rest @ .., b'\r' | b'\n'] = raw {
        raw = rest;
    }
    raw
}

/// Appends a name or a value of a form, decoded. Gives what ended it, an `&` or after a name an `=`, and what is after
/// that. `None` on a `%` that starts no escape.
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

/// The names that were seen, roughly: tells most new ones without a look at all the others.
#[derive(Default)]
struct Names([u64; 16]);

impl Names {
    /// Whether the name was certainly not seen. Now it is.
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

/// The buffer as text, if each name and each value is.
fn into_text(text: Vec<u8>, parameters: &[(Span, Span)]) -> Result<String, HitError> {
    let ends = parameters.iter().flat_map(|(name, value)| [name.end, value.end]);
    let ends = ends.map(|end| usize::try_from(end).unwrap_or(usize::MAX));
    match String::from_utf8(text) {
        Ok(text) if text.is_ascii() => Ok(text),
        // Halves of one character on both sides of a separator are UTF-8 only once the separator is gone.
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

/// A JSON object on its way into a hit.
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

    use super::*;

    fn form(raw: &str) -> Hit {
        Hit::from_form(raw.as_bytes()).unwrap()
    }

    fn json(raw: &str) -> Hit {
        Hit::from_json(raw.as_bytes()).unwrap()
    }

    fn list(hit: &Hit) -> Vec<(String, String)> {
        let text = |value: Given<'_>| match value {
            Given::Text(text) => text.to_owned(),
            Given::Json(json) => format!("json {json}"),
        };
        hit.iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn forms_are_read_as_browsers_and_libraries_write_them() {
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
    fn what_is_no_form_is_named() {
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
    fn sizes_are_bounded() {
        let many = |count: usize| (0..count).map(|at| format!("a{at}=1&")).collect::<String>();
        assert_eq!(form(&many(1_000)).len(), 1_000);
        assert_eq!(Hit::from_form(many(1_001).as_bytes()), Err(HitError::TooManyParameters));
        assert_eq!(Hit::from_form("a=1&".repeat(5_000).as_bytes()), Err(HitError::TooManyParameters));
        assert_eq!(Hit::from_form(many(10_000).as_bytes()), Err(HitError::TooLarge { bytes: 78_890 }));
        assert_eq!(form(&"&".repeat(30_000)).len(), 0);
        let long = "a".repeat(MOST_BYTES + 1);
        assert_eq!(Hit::from_form(long.as_bytes()), Err(HitError::TooLarge { bytes: MOST_BYTES + 1 }));
        assert_eq!(Hit::from_json(long.as_bytes()), Err(HitError::TooLarge { bytes: MOST_BYTES + 1 }));
        let many = (0..1_001).map(|at| format!(r#""a{at}":1"#)).collect::<Vec<_>>().join(",");
        assert_eq!(Hit::from_json(format!("{{{many}}}").as_bytes()), Err(HitError::TooManyParameters));
        let deep = |depth: usize| format!(r#"{{"v":1,"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert_eq!(json(&deep(MOST_DEPTH)).len(), 2);
        assert_eq!(Hit::from_json(deep(MOST_DEPTH + 1).as_bytes()), Err(HitError::TooDeep { parameter: 2 }));
        assert_eq!(Hit::from_json(deep(15_000).as_bytes()), Err(HitError::TooDeep { parameter: 2 }));
    }

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
    fn what_is_no_object_is_named() {
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

    #[test]
    fn the_body_wins_over_the_query() {
        let mut hit = form("v=1&t=event&ec=");
        hit.merge(form("t=pageview&ec=x&z=7")).unwrap();
        assert_eq!(list(&hit), pairs(&[("v", "1"), ("t", "event"), ("ec", ""), ("z", "7")]));
        assert_eq!(hit.bytes(), 15 + 19);
        let mut empty = form("");
        empty.merge(form("v=1")).unwrap();
        assert_eq!((list(&empty), empty.bytes()), (pairs(&[("v", "1")]), 3));
        let mut body = json(r#"{"cid":null,"tid":1}"#);
        body.merge(form("cid=5&tid=6")).unwrap();
        assert_eq!(list(&body), pairs(&[("cid", "json null"), ("tid", "json 1")]));
        let many = |from: usize| (from..from + 600).map(|at| format!("a{at}=1&")).collect::<String>();
        assert_eq!(form(&many(0)).merge(form(&many(600))), Err(HitError::TooManyParameters));
        let long = "a".repeat(20_000);
        assert_eq!(form(&long).merge(form(&long)), Err(HitError::TooLarge { bytes: 40_000 }));
    }

    #[test]
    fn parameters_are_set_and_removed() {
        let mut hit = form("a=1&b=2&c=3");
        hit.set("b", "zwei");
        hit.set("d", "4");
        hit.remove("a");
        hit.remove("none");
        assert_eq!(list(&hit), pairs(&[("b", "zwei"), ("c", "3"), ("d", "4")]));
        let replaced =
            hit.replaced(&[(0, Replacement::Removed), (1, Replacement::Json("[]".into())), (2, Replacement::Removed)]);
        assert_eq!(list(&replaced), pairs(&[("c", "json []")]));
        assert_eq!(format!("{hit:?}"), "Hit { parameters: 3, bytes: 11 }");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_bytes_panic(raw in prop::collection::vec(any::<u8>(), 0..200)) {
            drop(Hit::from_form(&raw).map(|hit| hit.to_form()));
            drop(Hit::from_json(&raw).map(|hit| hit.to_form()));
        }

        #[test]
        fn no_text_that_looks_like_a_hit_panics(raw in r#"[{}\[\]",:u\\d8%&=+a0 ]{0,60}"#) {
            drop(Hit::from_form(raw.as_bytes()).map(|hit| hit.to_form()));
            drop(Hit::from_json(raw.as_bytes()).map(|hit| hit.to_form()));
        }

        #[test]
        fn forms_round_trip(given in prop::collection::btree_map(".{1,12}", any::<String>(), 0..12)) {
            let mut hit = Hit::default();
            for (name, value) in &given {
                hit.set(name, value);
            }
            prop_assert!(Hit::from_form(hit.to_form().as_bytes()).unwrap() == hit);
        }

        #[test]
        fn json_is_kept(given in prop::collection::btree_map(".{1,12}", value(), 0..6), pretty in any::<bool>()) {
            let object = serde_json::Value::Object(given.clone().into_iter().collect());
            let raw = if pretty { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let hit = Hit::from_json(raw.unwrap().as_bytes()).unwrap();
            prop_assert_eq!(hit.len(), given.len());
            for (name, value) in given {
                match (hit.given(&name).unwrap(), value) {
                    (Given::Text(text), serde_json::Value::String(expected)) => prop_assert_eq!(text, expected),
                    (Given::Json(json), expected) => prop_assert_eq!(json, expected.to_string()),
                    (Given::Text(_), _) => prop_assert!(false, "a text that was none"),
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
