//! A writer of JSON on one line, without a tree in between.

use std::io::Write as _;

use crate::hit::Given;

/// JSON on its way. Whoever calls it opens, names and closes in the right order.
#[derive(Debug, Default)]
pub(crate) struct Json {
    out: Vec<u8>,
    /// Whether the next value or key comes after another one.
    is_next: bool,
}

impl Json {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), is_next: false }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Length of what is written, in bytes.
    pub(crate) const fn len(&self) -> usize {
        self.out.len()
    }

    /// Opens an object or an array.
    pub(crate) fn open(&mut self, bracket: u8) {
        self.separate();
        self.out.push(bracket);
        self.is_next = false;
    }

    pub(crate) fn close(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.is_next = true;
    }

    /// The name of the value that follows: one of ours, without anything to escape.
    pub(crate) fn name(&mut self, name: &'static str) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.is_next = false;
    }

    /// The name of the value that follows.
    pub(crate) fn key(&mut self, name: &str) {
        self.string(name);
        self.out.push(b':');
        self.is_next = false;
    }

    pub(crate) fn string(&mut self, text: &str) {
        self.separate();
        self.out.push(b'"');
        let mut rest = text.as_bytes();
        if !is_plain(rest) {
            while let Some(at) = rest.iter().position(|byte| is_special(*byte)) {
                let (plain, tail) = rest.split_at(at);
                self.out.extend_from_slice(plain);
                let Some((special, tail)) = tail.split_first() else { break };
                self.escape(*special);
                rest = tail;
            }
        }
        self.out.extend_from_slice(rest);
        self.out.push(b'"');
        self.is_next = true;
    }

    pub(crate) fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.string(text),
            None => self.raw("null"),
        }
    }

    pub(crate) fn integer(&mut self, number: i64) {
        self.separate();
        // Writing to memory does not fail.
        self.is_next = write!(self.out, "{number}").is_ok();
    }

    pub(crate) fn optional_integer(&mut self, number: Option<i64>) {
        match number {
            Some(number) => self.integer(number),
            None => self.raw("null"),
        }
    }

    /// A finite number, in the fewest digits that give it back.
    pub(crate) fn number(&mut self, number: Option<f64>) {
        match number {
            Some(number) if number.is_finite() => {
                self.separate();
                self.is_next = write!(self.out, "{number:?}").is_ok();
            }
            _ => self.raw("null"),
        }
    }

    pub(crate) fn bool(&mut self, is_true: bool) {
        self.raw(if is_true { "true" } else { "false" });
    }

    /// JSON that is written already, on one line.
    pub(crate) fn raw(&mut self, json: &str) {
        self.raw_bytes(json.as_bytes());
    }

    /// JSON that is written already, on one line.
    pub(crate) fn raw_bytes(&mut self, json: &[u8]) {
        self.separate();
        self.out.extend_from_slice(json);
        self.is_next = true;
    }

    pub(crate) fn given(&mut self, value: Given<'_>) {
        match value {
            Given::Text(text) => self.string(text),
            Given::Json(json) => self.raw(json),
        }
    }

    fn separate(&mut self) {
        if self.is_next {
            self.out.push(b',');
        }
    }

    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            _ => {
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                self.out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
                return;
            }
        };
        self.out.extend_from_slice(&[b'\\', short]);
    }
}

/// Whether nothing needs an escape, as in nearly every string.
fn is_plain(bytes: &[u8]) -> bool {
    // Every byte that is stored comes along here: without a branch for each, eight are a few instructions.
    let is_plain = |chunk: &[u8]| !chunk.iter().fold(false, |any, byte| any | is_special(*byte));
    match bytes.last_chunk::<8>() {
        Some(last) => bytes.as_chunks::<8>().0.iter().chain([last]).all(|chunk| is_plain(chunk)),
        None => is_plain(bytes),
    }
}

const fn is_special(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    proptest! {
        #[test]
        fn strings_are_what_serde_json_writes(text in prop_oneof![any::<String>(), "[\0-\x7f]{0,40}"]) {
            let mut json = Json::default();
            json.string(&text);
            prop_assert_eq!(String::from_utf8(json.into_bytes()).unwrap(), serde_json::to_string(&text).unwrap());
        }

        #[test]
        fn numbers_are_read_back(number in any::<f64>(), integer in any::<i64>()) {
            let mut json = Json::default();
            json.open(b'[');
            json.number(Some(number));
            json.optional_integer(Some(integer));
            json.bool(true);
            json.close(b']');
            let written = json.into_bytes();
            // serde_json reads numbers to the last digit but one.
            let (read, integer_read, _): (&RawValue, i64, bool) = serde_json::from_slice(&written).unwrap();
            prop_assert_eq!(read.get().parse().ok(), Some(number).filter(|number| number.is_finite()));
            prop_assert_eq!(integer_read, integer);
        }
    }
}
