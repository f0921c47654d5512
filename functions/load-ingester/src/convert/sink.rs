//! Where parts and quarantined rows go.

use std::{borrow::Cow, io};

use super::Reason;

/// Most bytes of a value in a quarantined row.
const MAX_VALUE_BYTES: usize = 1 << 10;

/// Receives the result while it is made. An error ends the conversion.
pub trait Sink {
    /// A part begins. Parts are numbered from 0.
    fn begin_part(&mut self, part: u32) -> io::Result<()>;

    /// The next bytes of the part. They are final, and as many as a row group has, or its end.
    fn part_bytes(&mut self, bytes: Vec<u8>) -> io::Result<()>;

    /// The part is complete.
    fn end_part(&mut self, part: &Part) -> io::Result<()>;

    /// A record that does not become a row.
    fn quarantine(&mut self, row: &Quarantined<'_>) -> io::Result<()>;
}

/// A complete part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Its rows.
    pub rows: u64,
    /// Its size.
    pub bytes: u64,
}

/// A record that does not become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined<'a> {
    /// The line that it begins in, from 1.
    pub line: u64,
    /// The column whose value does not fit; `None` if the record as a whole is wrong.
    pub column: Option<&'a str>,
    /// That value, or the first KiB of it, with replacement characters for what is no UTF-8.
    pub value: Cow<'a, str>,
    /// What is wrong.
    pub reason: Reason,
    /// The record as it stands, without the end of its line. Of one that is too long, its first 64 KiB.
    pub record: &'a [u8],
}

/// The beginning of a value, as text.
pub(super) fn shortened(value: &[u8]) -> Cow<'_, str> {
    let short = value.get(..MAX_VALUE_BYTES).unwrap_or(value);
    let kept = match std::str::from_utf8(short) {
        Err(error) if error.error_len().is_none() && short.len() < value.len() => error.valid_up_to(),
        _ => short.len(),
    };
    String::from_utf8_lossy(short.get(..kept).unwrap_or(short))
}
