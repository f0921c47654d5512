//! One hit: an ordered list of named values, parsed from a form (`form`), from a JSON object (`json`), or from an event of the
//! GA4 Measurement Protocol (`payload`).
//!
//! | sent as | a value is |
//! |---|---|
//! | query string, form, `text/plain` | text |
//! | a string in JSON | text |
//! | a number, `true`, `false`, `null`, an array, an object in JSON | the JSON, digit by digit, without whitespace |
//!
//! If a name occurs several times, its last value is kept, at the position of the first. Parameters without a name are
//! dropped. The text of all parameters is in one buffer, so that decoding forty of them takes two allocations.

mod form;
mod json;
mod payload;
mod unreadable;

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

pub(crate) use self::form::digit;
pub use self::unreadable::Wish;
pub(crate) use self::unreadable::is_state;

/// Most parameters of a hit. Repeated ones are counted each time.
pub const MOST_PARAMETERS: usize = 1_000;

/// Most bytes of a hit that are parsed, body and query string together. The protocol's limit of 8,192 is checked by
/// `validate`, which can then report everything else that is wrong with the hit.
pub const MOST_BYTES: usize = 32_768;

/// Deepest nesting of arrays and objects, not counting the hit's own object.
pub const MOST_DEPTH: usize = 32;

/// The parameter that holds the text of a hit or of a request that cannot be parsed into parameters.
pub const UNREADABLE: &str = "_raw";

/// Characters that are not escaped in a form.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'*');

/// Why bytes cannot be parsed as a hit. The messages never quote a value, because it may be personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HitError {
    #[error("parameter {parameter} has a % that starts no escape")]
    Escape {
        /// Counted from 1, here and below.
        parameter: usize,
    },
    #[error("parameter {parameter} is not UTF-8")]
    Utf8 { parameter: usize },
    #[error("the hit has {bytes} bytes, and at most {MOST_BYTES} are read")]
    TooLarge { bytes: usize },
    #[error("the hit has more than {MOST_PARAMETERS} parameters")]
    TooManyParameters,
    #[error("the body is not JSON, as line {line}, column {column} shows")]
    Json { line: usize, column: usize },
    #[error("parameter {parameter} has half a surrogate pair")]
    Surrogate { parameter: usize },
    #[error("the body is not a JSON object")]
    NotAnObject,
    #[error("parameter {parameter} is nested deeper than {MOST_DEPTH}")]
    TooDeep { parameter: usize },
    #[error("there are {events} events")]
    TooManyEvents { events: usize },
    #[error("api_secret is none of those that are configured")]
    ApiSecret,
}

#[derive(Clone, Default)]
pub struct Hit {
    text: String,
    parameters: Vec<Parameter>,
    bytes: usize,
    wish: Option<Wish>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterValue<'a> {
    Text(&'a str),
    /// JSON other than a string: compact, on one line.
    Json(&'a str),
}

impl Serialize for ParameterValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => text.serialize(serializer),
            Self::Json(json) => {
                serde_json::from_str::<&RawValue>(json).map_err(S::Error::custom)?.serialize(serializer)
            }
        }
    }
}

/// How to change a parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Replacement {
    Text(String),
    Json(String),
    /// Only the name.
    Name(String),
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

    fn start(self) -> usize {
        usize::try_from(self.start).unwrap_or(usize::MAX)
    }

    fn end(self) -> usize {
        usize::try_from(self.end).unwrap_or(usize::MAX)
    }

    fn of(self, text: &str) -> &str {
        text.get(self.start()..self.end()).unwrap_or_default()
    }
}

/// The length and the first bytes of a name. Comparing tags saves most comparisons of names.
fn tag(name: &[u8]) -> u64 {
    let mut head = [0; 8];
    for (slot, byte) in head.iter_mut().skip(1).zip(name) {
        *slot = *byte;
    }
    u64::from_be_bytes(head) | u64::try_from(name.len().min(255)).unwrap_or(255) << 56
}

impl Hit {
    /// Adds the parameters of the query string to those of the body, which take precedence; a JSON `null` counts as absent. If that is
    /// too much, it adds only who sent the hit and how it has to be treated (see [`is_of_protocol`] and [`IDS`]).
    pub fn merge(&mut self, query: Self) -> Result<(), HitError> {
        let bytes = self.bytes + query.bytes;
        if bytes > MOST_BYTES {
            for (name, value) in query.iter().filter(|(name, _)| is_of_protocol(name) || IDS.contains(name)) {
                self.add(name, start_of(value));
            }
            return Err(HitError::TooLarge { bytes });
        }
        if self.parameters.is_empty() {
            *self = Self { bytes, wish: self.wish, ..query };
            return Ok(());
        }
        self.bytes = bytes;
        for (name, value) in query.iter() {
            self.add(name, value);
        }
        if self.parameters.len() > MOST_PARAMETERS { Err(HitError::TooManyParameters) } else { Ok(()) }
    }

    /// Adds a parameter, unless there is one of that name that is not `null`.
    fn add(&mut self, name: &str, value: ParameterValue<'_>) {
        match self.position(name) {
            None => self.push(name, value),
            Some(at)
                if self.parameters.get(at).is_some_and(|known| self.resolve(known) == ParameterValue::Json("null")) =>
            {
                let replacement = match value {
                    ParameterValue::Text(text) => Replacement::Text(text.to_owned()),
                    ParameterValue::Json(json) => Replacement::Json(json.to_owned()),
                };
                self.change(at, &replacement);
            }
            Some(_) => {}
        }
    }

    /// A value as text. Numbers, `true` and `false` are text as they are written; `null`, arrays and objects are `None`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            ParameterValue::Text(text) => Some(text),
            ParameterValue::Json(json) => Some(json).filter(|json| json.starts_with(['t', 'f']) || is_number(json)),
        }
    }

    #[must_use]
    pub fn value(&self, name: &str) -> Option<ParameterValue<'_>> {
        self.position(name).and_then(|at| self.parameters.get(at)).map(|parameter| self.resolve(parameter))
    }

    /// Removes a parameter. Returns its text.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.position(name)?;
        let text = self.get(name).map(str::to_owned);
        self.parameters.remove(at);
        text
    }

    /// Gives a parameter another name, unless it is taken.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if let Some(at) = self.position(from)
            && self.position(to).is_none()
        {
            let name = self.append(to);
            if let Some(parameter) = self.parameters.get_mut(at) {
                *parameter = Parameter { name, tag: tag(to.as_bytes()), ..*parameter };
            }
        }
    }

    /// Sets a parameter at its position, or at the end.
    #[cfg(test)]
    pub(crate) fn set(&mut self, name: &str, text: &str) {
        match self.position(name) {
            Some(at) => self.change(at, &Replacement::Text(text.to_owned())),
            None => self.push(name, ParameterValue::Text(text)),
        }
    }

    /// All parameters in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, ParameterValue<'_>)> {
        self.parameters.iter().map(|parameter| (parameter.name.of(&self.text), self.resolve(parameter)))
    }

    #[must_use]
    pub const fn len(&self) -> usize {
        self.parameters.len()
    }

    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.parameters.is_empty()
    }

    /// Length of body and query string as they were received.
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
            form.extend(utf8_percent_encode(name, UNRESERVED));
            form.push('=');
            let (ParameterValue::Text(value) | ParameterValue::Json(value)) = value;
            form.extend(utf8_percent_encode(value, UNRESERVED));
        }
        form
    }

    /// A copy with some parameters changed, given by position in ascending order.
    pub(crate) fn replaced(&self, replacements: &[(usize, Replacement)]) -> Self {
        let mut hit = self.clone();
        for (at, replacement) in replacements.iter().rev() {
            hit.change(*at, replacement);
        }
        hit
    }

    fn change(&mut self, at: usize, replacement: &Replacement) {
        let (text, is_json) = match replacement {
            Replacement::Removed => {
                if at < self.parameters.len() {
                    self.parameters.remove(at);
                }
                return;
            }
            Replacement::Name(text) => {
                let name = self.append(text);
                if let Some(parameter) = self.parameters.get_mut(at) {
                    *parameter = Parameter { name, tag: tag(text.as_bytes()), ..*parameter };
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

    fn push(&mut self, name: &str, value: ParameterValue<'_>) {
        let tag = tag(name.as_bytes());
        let name = self.append(name);
        let (text, is_json) = match value {
            ParameterValue::Text(text) => (text, false),
            ParameterValue::Json(json) => (json, true),
        };
        let value = self.append(text);
        self.parameters.push(Parameter { tag, name, value, is_json });
    }

    fn append(&mut self, text: &str) -> Span {
        let start = self.text.len();
        self.text.push_str(text);
        Span::new(start, self.text.len())
    }

    /// Adds a parameter whose name and value are in the buffer, or replaces the value that the name has.
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

    fn resolve(&self, parameter: &Parameter) -> ParameterValue<'_> {
        let text = parameter.value.of(&self.text);
        if parameter.is_json { ParameterValue::Json(text) } else { ParameterValue::Text(text) }
    }
}

/// Shows sizes only, so that no parameter ends up in a log.
impl fmt::Debug for Hit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { parameters, bytes, .. } = self;
        formatter.debug_struct("Hit").field("parameters", &parameters.len()).field("bytes", bytes).finish()
    }
}

/// Hits are equal when they have the same parameters in the same order.
impl PartialEq for Hit {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// Whether a parameter says what a hit is and how it has to be treated.
pub(crate) fn is_of_protocol(name: &str) -> bool {
    matches!(name, "v" | "tid" | "t" | "en" | "aip" | "gcs" | "gcd" | "consent" | "geoid" | "uip" | "_uip")
}

/// Parameters that say who sent a hit.
pub(crate) const IDS: [&str; 6] = ["uid", "cid", "_gid", "sid", "_fid", "_fplc"];

/// A value, or the start of a long one as text.
fn start_of(value: ParameterValue<'_>) -> ParameterValue<'_> {
    const MOST: usize = 1_024;
    let (ParameterValue::Text(text) | ParameterValue::Json(text)) = value;
    if text.len() <= MOST {
        return value;
    }
    ParameterValue::Text(text.get(..text.floor_char_boundary(MOST)).unwrap_or_default())
}

/// Whether JSON is a number.
pub(crate) fn is_number(json: &str) -> bool {
    json.starts_with('-') || starts_with_digit(json)
}

fn starts_with_digit(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn form(raw: &str) -> Hit {
        Hit::from_form(raw.as_bytes()).unwrap()
    }

    pub(super) fn json(raw: &str) -> Hit {
        Hit::from_json(raw.as_bytes()).unwrap()
    }

    pub(super) fn list(hit: &Hit) -> Vec<(String, String)> {
        let text = |value: ParameterValue<'_>| match value {
            ParameterValue::Text(text) => text.to_owned(),
            ParameterValue::Json(json) => format!("json {json}"),
        };
        hit.iter().map(|(name, value)| (name.to_owned(), text(value))).collect()
    }

    pub(super) fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
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
    fn the_body_takes_precedence_over_the_query_string() {
        let mut hit = form("v=1&t=event&ec=");
        hit.merge(form("t=pageview&ec=x&z=7")).unwrap();
        assert_eq!(list(&hit), pairs(&[("v", "1"), ("t", "event"), ("ec", ""), ("z", "7")]));
        assert_eq!(hit.bytes(), 15 + 19);
        let mut empty = form("");
        empty.merge(form("v=1")).unwrap();
        assert_eq!((list(&empty), empty.bytes()), (pairs(&[("v", "1")]), 3));
        let mut body = json(r#"{"cid":null,"tid":1}"#);
        body.merge(form("cid=5&tid=6")).unwrap();
        assert_eq!(list(&body), pairs(&[("cid", "5"), ("tid", "json 1")]), "null is no value");
        let many = |from: usize| (from..from + 600).map(|at| format!("a{at}=1&")).collect::<String>();
        assert_eq!(form(&many(0)).merge(form(&many(600))), Err(HitError::TooManyParameters));
        let long = "a".repeat(20_000);
        assert_eq!(form(&long).merge(form(&long)), Err(HitError::TooLarge { bytes: 40_000 }));
    }

    #[test]
    fn of_a_query_string_that_does_not_fit_it_is_kept_who_sent_the_hit_and_what_the_visitor_wants() {
        let long = format!("dt={}", "a".repeat(MOST_BYTES - 3));
        let mut hit = form(&long);
        let query = format!("tid=G-1&gcs=G100&dl=x&cid=5&uid=u&consent={}", "b".repeat(2_000));
        assert!(matches!(hit.merge(form(&query)), Err(HitError::TooLarge { .. })));
        let rest = &list(&hit)[1..];
        let start = "b".repeat(1_024);
        assert_eq!(rest, pairs(&[("tid", "G-1"), ("gcs", "G100"), ("cid", "5"), ("uid", "u"), ("consent", &start)]));
    }

    #[test]
    fn parameters_are_replaced_and_removed() {
        let mut hit = form("a=1&b=2&c=3");
        hit.set("b", "zwei");
        hit.set("d", "4");
        assert_eq!(list(&hit), pairs(&[("a", "1"), ("b", "zwei"), ("c", "3"), ("d", "4")]));
        let replaced =
            hit.replaced(&[(0, Replacement::Removed), (2, Replacement::Json("[]".into())), (3, Replacement::Removed)]);
        assert_eq!(list(&replaced), pairs(&[("b", "zwei"), ("c", "json []")]));
        assert_eq!(format!("{hit:?}"), "Hit { parameters: 4, bytes: 11 }");
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
    }
}
