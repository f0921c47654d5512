//! JSON lines → rows.

use std::{borrow::Cow, collections::HashMap, fmt, io::Read};

use memchr::memchr;
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    ConvertError, Reason, Sink, Summary,
    input::Window,
    layout::Layout,
    plan::Plan,
    rows::{Record, Rows},
};

/// How much of a line that is too long is kept.
const KEPT_BYTES: usize = 64 << 10;

/// Reads `window` to its end.
pub(super) fn convert(window: Window<impl Read>, plan: &Plan, sink: &mut impl Sink) -> Result<Summary, ConvertError> {
    let mut lines = Lines { window, max_bytes: plan.limits.record_bytes, line: 0 };
    let mut rows = Rows::new(Layout::of_objects(plan), plan, sink)?;
    let mut members = plan.columns.as_ref().map(|declaration| {
        let names = declaration.columns.iter().enumerate();
        Members {
            fields: names.map(|(field, column)| (&*column.name, field)).collect(),
            values: Vec::new(),
            rest: Vec::new(),
        }
    });
    while let Some(found) = lines.next()? {
        let record = Record { line: lines.line, bytes: lines.window.bytes().get(..found.bytes).unwrap_or_default() };
        if let Some(beginning) = &found.too_long {
            rows.reject(Record { bytes: beginning, ..record }, None, b"", Reason::TooLong)?;
        } else if !record.bytes.trim_ascii().is_empty() {
            match &mut members {
                None => append_whole(record, &mut rows)?,
                Some(members) => members.append(record, &mut rows)?,
            }
        }
        lines.window.consume(found.consumed);
    }
    rows.finish()
}

/// The lines of a file.
struct Lines<R: Read> {
    window: Window<R>,
    max_bytes: usize,
    line: u64,
}

/// A line.
struct Found {
    bytes: usize,
    /// With the end of the line.
    consumed: usize,
    /// Its beginning, if it is too long to be kept.
    too_long: Option<Vec<u8>>,
}

impl<R: Read> Lines<R> {
    /// The line that the window begins with.
    fn next(&mut self) -> Result<Option<Found>, ConvertError> {
        self.line += 1;
        loop {
            let bytes = self.window.bytes();
            if bytes.is_empty() && self.window.is_at_end() {
                return Ok(None);
            }
            let end = memchr(b'\n', bytes).map(|end| (end, end + 1));
            match end.or_else(|| self.window.is_at_end().then_some((bytes.len(), bytes.len()))) {
                Some((end, consumed)) => {
                    let line = bytes.get(..end).unwrap_or_default();
                    let line = line.strip_suffix(b"\r").unwrap_or(line);
                    let too_long = (line.len() > self.max_bytes).then(|| kept(line));
                    return Ok(Some(Found { bytes: line.len(), consumed, too_long }));
                }
                None if bytes.len() > self.max_bytes + 1 => return self.skip().map(Some),
                None => self.window.fill()?,
            }
        }
    }

    /// Goes to the end of a line without keeping more than its beginning.
    fn skip(&mut self) -> Result<Found, ConvertError> {
        let too_long = Some(kept(self.window.bytes()));
        loop {
            let bytes = self.window.bytes();
            match memchr(b'\n', bytes) {
                Some(end) => return Ok(Found { bytes: end, consumed: end + 1, too_long }),
                None if self.window.is_at_end() => {
                    return Ok(Found { bytes: bytes.len(), consumed: bytes.len(), too_long });
                }
                None => {
                    let skipped = bytes.len();
                    self.window.consume(skipped);
                    self.window.fill()?;
                }
            }
        }
    }
}

fn kept(bytes: &[u8]) -> Vec<u8> {
    bytes.get(..KEPT_BYTES).unwrap_or(bytes).to_vec()
}

/// Appends a line as it stands, if it is JSON.
fn append_whole(record: Record<'_>, rows: &mut Rows<'_, impl Sink>) -> Result<(), ConvertError> {
    if let Err(reason) = text_of(record).and_then(json::<IgnoredAny>) {
        return rows.reject(record, None, record.bytes, reason);
    }
    rows.append(record, std::iter::once(Some(record.bytes)))
}

/// Takes objects apart.
struct Members<'a> {
    /// The field of each declared column.
    fields: HashMap<&'a str, usize>,
    /// Where the value of each field is in `texts`.
    values: Vec<Option<Text>>,
    rest: Vec<u8>,
}

/// A value of an object.
type Text = Vec<u8>;

impl Members<'_> {
    fn append(&mut self, record: Record<'_>, rows: &mut Rows<'_, impl Sink>) -> Result<(), ConvertError> {
        match text_of(record).and_then(|text| self.read(text)) {
            Err(reason) => rows.reject(record, None, record.bytes, reason),
            Ok(()) => {
                let rest = (!self.rest.is_empty()).then_some(&*self.rest);
                rows.append(record, self.values.iter().map(Option::as_deref).chain([rest]))
            }
        }
    }

    /// Reads the value of each declared column, and the other members. Of members with the same name, the last one counts.
    fn read(&mut self, text: &str) -> Result<(), Reason> {
        if !text.trim_ascii_start().starts_with('{') {
            json::<IgnoredAny>(text)?;
            return Err(Reason::NotAnObject);
        }
        let object: Object<'_> = json(text)?;
        self.values.clear();
        self.values.resize(self.fields.len(), None);
        self.rest.clear();
        for (name, value) in object.0 {
            match self.fields.get(&*name.0).and_then(|field| self.values.get_mut(*field)) {
                Some(slot) => *slot = value_text(value.get())?,
                None => self.append_rest(&name.0, value.get())?,
            }
        }
        if !self.rest.is_empty() {
            self.rest.push(b'}');
        }
        Ok(())
    }

    fn append_rest(&mut self, name: &str, value: &str) -> Result<(), Reason> {
        self.rest.push(if self.rest.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut self.rest, name).map_err(|_| Reason::NotJson)?;
        self.rest.push(b':');
        self.rest.extend_from_slice(value.as_bytes());
        Ok(())
    }
}

/// A value as the text of a field: strings without their quotes, everything else as it stands, null as none.
fn value_text(value: &str) -> Result<Option<Text>, Reason> {
    match value.as_bytes() {
        b"null" => Ok(None),
        [b'"', ..] => json::<String>(value).map(|text| Some(text.into_bytes())),
        other => Ok(Some(other.to_vec())),
    }
}

fn text_of(record: Record<'_>) -> Result<&str, Reason> {
    std::str::from_utf8(record.bytes).map_err(|_| Reason::InvalidUtf8)
}

fn json<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Reason> {
    serde_json::from_str(text).map_err(|_| Reason::NotJson)
}

/// The members of an object, in their order.
struct Object<'a>(Vec<(Name<'a>, &'a RawValue)>);

/// A member's name, borrowed unless something in it is escaped.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries)
    }
}

struct Entries;

impl<'de> Visitor<'de> for Entries {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Object(members))
    }
}
