//! JSON objects read member by member. Members that nobody asks for are never parsed, so they can be wrong in any way.

use std::collections::BTreeMap;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

/// An error names at most this many members, each cut to this length.
const MAX_NAMES: usize = 12;
const MAX_NAME_CHARS: usize = 40;

/// The members of a JSON object, not parsed yet. If a name occurs several times, the last one counts.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct Members<'a>(#[serde(borrow)] pub(super) BTreeMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    /// `None` if the JSON is no object.
    pub(super) fn of(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    pub(super) fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied()
    }

    pub(super) fn object(&self, name: &str) -> Option<Self> {
        Self::of(self.raw(name)?.get())
    }

    pub(super) fn array(&self, name: &str) -> Option<Vec<&'a RawValue>> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.raw(name)?.get()).ok()
    }

    /// Whether the member is this text.
    pub(super) fn is(&self, name: &str, text: &str) -> bool {
        self.text(name).is_some_and(|other| other == text)
    }
}

pub(super) fn is_empty_array(json: &str) -> bool {
    serde_json::from_str::<Vec<IgnoredAny>>(json).is_ok_and(|array| array.is_empty())
}

/// What some JSON is, for an error: its type, or the names of its members. Never a value, which could be a secret.
pub(super) fn describe(json: &str) -> String {
    if let Some(Members(members)) = Members::of(json) {
        if members.is_empty() {
            return "an object without members".to_owned();
        }
        let names: Vec<String> = members.keys().take(MAX_NAMES).map(|name| format!("{:?}", shortened(name))).collect();
        let more = match members.len().saturating_sub(MAX_NAMES) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        return format!("an object with the members {}{more}", names.join(", "));
    }
    if let Err(error) = serde_json::from_str::<IgnoredAny>(json) {
        return format!("no JSON ({error})");
    }
    let what = match json.trim_start().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a text",
        Some(b't' | b'f') => "true or false",
        Some(b'n') => "null",
        _ => "a number",
    };
    what.to_owned()
}

pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_NAME_CHARS).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
