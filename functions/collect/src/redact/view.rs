//! A text as the finds see it: with its escapes decoded, and with the way back to where each byte is.

use std::borrow::Cow;

use super::REDACTED;
use crate::hit::digit;

/// Bytes of a view that are replaced.
pub(super) struct Range {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) replacement: Cow<'static, str>,
}

impl Range {
    pub(super) const fn redacted(start: usize, end: usize) -> Self {
        Self { start, end, replacement: Cow::Borrowed(REDACTED) }
    }
}

/// A text with its escapes decoded: those of URLs and those of JSON, such as `\u003d` and `\/`.
pub(super) struct View<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Where each byte begins in the text, and how often it was encoded. Empty if none was.
    places: Vec<(usize, u8)>,
    length: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let raw = text.as_bytes();
        let mut view = Self { bytes: raw.into(), places: Vec::new(), length: raw.len() };
        if raw.contains(&b'%') {
            view.decode(percent_decoded);
        }
        if view.bytes.contains(&b'\\') {
            view.decode(json_decoded);
            // `\u0025` is a percent sign.
            if view.bytes.contains(&b'%') {
                view.decode(percent_decoded);
            }
        }
        view
    }

    /// Replaces each escape by what it stands for: `decoded` gives the byte that a text begins with, the length of its escape, and how
    /// often it was encoded.
    fn decode(&mut self, decoded: impl Fn(&[u8]) -> (u8, usize, u8)) {
        let (mut bytes, mut places) = (Vec::with_capacity(self.bytes.len()), Vec::with_capacity(self.bytes.len()));
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let (byte, length, depth) = decoded(rest);
            bytes.push(byte);
            places.push((self.place(at), depth.saturating_add(self.depth(at))));
            at += length;
        }
        self.bytes = bytes.into();
        self.places = places;
    }

    /// Where a byte begins in the text.
    pub(super) fn place(&self, at: usize) -> usize {
        if self.places.is_empty() {
            return at;
        }
        self.places.get(at).map_or(self.length, |(start, _)| *start)
    }

    /// How often a byte was encoded.
    pub(super) fn depth(&self, at: usize) -> u8 {
        self.places.get(at).map_or(0, |(_, depth)| *depth)
    }

    pub(super) fn from(&self, at: usize) -> &[u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    pub(super) fn get(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    pub(super) fn positions(&self, byte: u8) -> impl Iterator<Item = usize> {
        self.bytes.iter().enumerate().filter(move |(_, other)| **other == byte).map(|(at, _)| at)
    }
}

/// `%253D` is `=`, twice.
fn percent_decoded(raw: &[u8]) -> (u8, usize, u8) {
    let mut depth: u8 = 0;
    let mut length = 0;
    let mut byte = raw.first().copied().unwrap_or_default();
    while byte == b'%' {
        // The digits come after the `%`, and after a `25` for each time that it was encoded again.
        let start = if depth == 0 { 1 } else { length };
        let Some([high, low]) = raw.get(start..start + 2) else { break };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { break };
        byte = high << 4 | low;
        length = start + 2;
        depth = depth.saturating_add(1);
    }
    (byte, length.max(1), depth)
}

/// Most backslashes before an escape of JSON. There are twice as many each time that JSON is written within JSON. Without a bound, a text of
/// nothing else would take time that grows with the square of its length.
const MOST_BACKSLASHES: usize = 8;

/// `\u003d` is `=`, and `\/` is `/`. There are more backslashes in JSON within JSON. Quotes stay as they are unless they are written with
/// digits, because they end a string or do not.
fn json_decoded(raw: &[u8]) -> (u8, usize, u8) {
    let first = raw.first().copied().unwrap_or_default();
    let slashes = raw.iter().take(MOST_BACKSLASHES).take_while(|byte| **byte == b'\\').count();
    let after = raw.get(slashes..).unwrap_or_default();
    match after {
        [b'/', ..] if slashes > 0 => (b'/', slashes + 1, 1),
        [b'u', b'0', b'0', high, low, ..] if slashes > 0 => match (digit(*high), digit(*low)) {
            (Some(high @ 0..=7), Some(low)) => (high << 4 | low, slashes + 5, 1),
            _ => (first, 1, 0),
        },
        _ => (first, 1, 0),
    }
}
