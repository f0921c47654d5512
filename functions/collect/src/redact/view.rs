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

/// A text with its percent-escapes decoded.
pub(super) struct View<'a> {
    pub(super) bytes: Cow<'a, [u8]>,
    /// Where each byte begins in the text, and how often it was encoded. Empty if none was.
    places: Vec<(usize, u8)>,
    length: usize,
}

impl<'a> View<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let raw = text.as_bytes();
        if !raw.contains(&b'%') {
            return Self { bytes: raw.into(), places: Vec::new(), length: raw.len() };
        }
        let (mut bytes, mut places) = (Vec::with_capacity(raw.len()), Vec::with_capacity(raw.len()));
        let mut at = 0;
        while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
            let (byte, length, depth) = decoded(rest);
            bytes.push(byte);
            places.push((at, depth));
            at += length;
        }
        Self { bytes: bytes.into(), places, length: raw.len() }
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

/// The byte that a text begins with, the length of its escape, and how often it was encoded: `%253D` is `=`, twice.
fn decoded(raw: &[u8]) -> (u8, usize, u8) {
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
