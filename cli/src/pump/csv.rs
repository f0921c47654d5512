//! Comma-separated values, row by row: what is held is one row, however long the file is.

use std::io::{self, BufRead};

/// Most bytes of a field. A quote that is never closed would otherwise swallow the rest of the file.
const LONGEST_FIELD_BYTES: usize = 64 * 1_024;
/// Most fields of a row.
const MOST_FIELDS: usize = 256;

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// The file ends inside quotes.
    #[error("the file ends inside quotes")]
    OpenQuote,
    /// Something stands between a closing quote and the comma.
    #[error("{0:?} follows a closing quote")]
    AfterQuote(char),
    /// A field that is too long.
    #[error("is longer than {LONGEST_FIELD_BYTES} bytes; is a quote not closed?")]
    TooLong,
    /// Too many fields.
    #[error("there are more than {MOST_FIELDS} columns")]
    TooMany,
    /// No text.
    #[error("is not UTF-8")]
    NotUtf8,
}

/// A fault and where it is.
#[derive(Debug)]
pub struct Misplaced {
    /// The line on which the row begins, from 1.
    pub line: u64,
    /// The column, from 0.
    pub column: usize,
    /// The fault.
    pub fault: Fault,
}

/// A fault and its column.
type InColumn = (usize, Fault);

/// Reads rows. Quotes, doubled quotes, commas and line ends inside quotes, CR LF and a byte order mark are understood.
#[derive(Debug)]
pub struct Rows<R> {
    reader: R,
    lines_read: u64,
    row_line: u64,
    fields: Vec<Vec<u8>>,
    used: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Plain,
    Quoted,
    QuoteInQuoted,
}

impl<R: BufRead> Rows<R> {
    /// The rows of a reader.
    pub const fn new(reader: R) -> Self {
        Self { reader, lines_read: 0, row_line: 0, fields: Vec::new(), used: 0 }
    }

    /// The next row and the line on which it begins, from 1. Empty lines are passed over. `None` is the end of the file.
    pub fn next_row(&mut self) -> Result<Option<(u64, Vec<&str>)>, Misplaced> {
        while self.read().map_err(|(column, fault)| Misplaced { line: self.row_line, column, fault })? {
            let is_empty = self.used == 1 && self.fields.first().is_some_and(Vec::is_empty);
            if !is_empty {
                return self.texts().map(|texts| Some((self.row_line, texts)));
            }
        }
        Ok(None)
    }

    fn texts(&self) -> Result<Vec<&str>, Misplaced> {
        let text = |(column, field): (usize, _)| {
            let text =
                str::from_utf8(field).map_err(|_| Misplaced { line: self.row_line, column, fault: Fault::NotUtf8 })?;
            let is_first = self.row_line == 1 && column == 0;
            Ok(if is_first { text.strip_prefix('\u{feff}').unwrap_or(text) } else { text })
        };
        self.fields.iter().take(self.used).map(Vec::as_slice).enumerate().map(text).collect()
    }

    fn read(&mut self) -> Result<bool, InColumn> {
        self.used = 0;
        self.row_line = self.lines_read + 1;
        let mut state = State::Begin;
        let mut has_bytes = false;
        self.open_field()?;
        loop {
            let column = self.used.saturating_sub(1);
            let buffer = self.reader.fill_buf().map_err(|error| (column, error.into()))?;
            let Some(byte) = buffer.first().copied() else {
                return match state {
                    State::Quoted => Err((column, Fault::OpenQuote)),
                    State::Begin | State::Plain | State::QuoteInQuoted => Ok(has_bytes),
                };
            };
            has_bytes = true;
            // A run of plain bytes is taken at once: the challenge's vectors are long.
            if matches!(state, State::Plain | State::Quoted) {
                let run = buffer.iter().take_while(|byte| !matches!(**byte, b'"' | b',' | b'\n' | b'\r')).count();
                if run > 0 {
                    let bytes = buffer.get(..run).unwrap_or_default();
                    push(&mut self.fields, self.used, bytes)?;
                    self.reader.consume(run);
                    continue;
                }
            }
            self.reader.consume(1);
            if byte == b'\n' {
                self.lines_read += 1;
            }
            state = match (state, byte) {
                (State::Begin, b'"') => State::Quoted,
                (State::Quoted, b'"') => State::QuoteInQuoted,
                (State::QuoteInQuoted, b'"') => {
                    push(&mut self.fields, self.used, b"\"")?;
                    State::Quoted
                }
                (State::Begin | State::Plain | State::QuoteInQuoted, b'\n') => return Ok(true),
                (State::Begin | State::Plain | State::QuoteInQuoted, b',') => {
                    self.open_field()?;
                    State::Begin
                }
                (State::Begin | State::Plain | State::QuoteInQuoted, b'\r') => state,
                (State::QuoteInQuoted, other) => {
                    return Err((column, Fault::AfterQuote(char::from(other))));
                }
                (State::Quoted, _) => {
                    push(&mut self.fields, self.used, &[byte])?;
                    State::Quoted
                }
                (State::Begin | State::Plain, _) => {
                    push(&mut self.fields, self.used, &[byte])?;
                    State::Plain
                }
            };
        }
    }

    fn open_field(&mut self) -> Result<(), InColumn> {
        if self.used == MOST_FIELDS {
            return Err((self.used, Fault::TooMany));
        }
        match self.fields.get_mut(self.used) {
            Some(field) => field.clear(),
            None => self.fields.push(Vec::new()),
        }
        self.used += 1;
        Ok(())
    }
}

fn push(fields: &mut [Vec<u8>], used: usize, bytes: &[u8]) -> Result<(), InColumn> {
    let column = used.saturating_sub(1);
    match fields.get_mut(column) {
        Some(field) if field.len() + bytes.len() <= LONGEST_FIELD_BYTES => {
            field.extend_from_slice(bytes);
            Ok(())
        }
        _ => Err((column, Fault::TooLong)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Read};

    use proptest::prelude::*;

    use super::*;

    /// All rows with their lines, read in pieces of `piece` bytes, and how it ended.
    fn read(text: &[u8], piece: usize) -> (Vec<(u64, Vec<String>)>, Option<String>) {
        let mut rows = Rows::new(BufReader::with_capacity(piece, text));
        let mut read = Vec::new();
        loop {
            match rows.next_row() {
                Ok(Some((line, row))) => read.push((line, row.into_iter().map(str::to_owned).collect())),
                Ok(None) => return (read, None),
                Err(Misplaced { line, column, fault }) => {
                    return (read, Some(format!("line {line}, column {column}: {fault}")));
                }
            }
        }
    }

    fn row(line: u64, fields: &[&str]) -> (u64, Vec<String>) {
        (line, fields.iter().map(|field| (*field).to_owned()).collect())
    }

    #[test]
    fn quotes_line_ends_and_empty_lines_are_understood() {
        let text = "\u{feff}a,b\r\n1,\"[0.1, 0.2]\"\n\n\"two\nlines\",\"a \"\"b\"\" c\"\n,\nlast,é";
        let expected = vec![
            row(1, &["a", "b"]),
            row(2, &["1", "[0.1, 0.2]"]),
            row(4, &["two\nlines", "a \"b\" c"]),
            row(6, &["", ""]),
            row(7, &["last", "é"]),
        ];
        for piece in [1, 2, 3, 7, 1_024] {
            assert_eq!(read(text.as_bytes(), piece), (expected.clone(), None), "{piece}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            (&b"a,b\n1,\"2"[..], "line 2, column 1: the file ends inside quotes"),
            (b"a,b\n\"1\"x,2\n", "line 2, column 0: 'x' follows a closing quote"),
            (b"a,b\n1,2\n\xff,2\n", "line 3, column 0: is not UTF-8"),
        ] {
            assert_eq!(read(text, 16).1.as_deref(), Some(expected));
        }
        assert_eq!(read(b"", 16), (vec![], None));
    }

    #[test]
    fn an_open_quote_does_not_swallow_a_file() {
        let endless = BufReader::new(b"a,\"".chain(io::repeat(b'x')));
        let Err(Misplaced { column, fault, .. }) = Rows::new(endless).next_row() else { panic!() };
        assert!(column == 1 && matches!(fault, Fault::TooLong), "{fault}");
        let commas = BufReader::new(io::repeat(b','));
        assert!(matches!(Rows::new(commas).next_row(), Err(Misplaced { fault: Fault::TooMany, .. })));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(table in prop::collection::vec(prop::collection::vec(".{0,9}", 2..5), 0..6), piece in 1..40_usize) {
            let quoted = |field: &String| format!("\"{}\"", field.replace('"', "\"\""));
            let line = |row: &Vec<String>| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n";
            let text: String = table.iter().map(line).collect();
            let (read, error) = read(text.as_bytes(), piece);
            prop_assert_eq!(error, None);
            let read: Vec<Vec<String>> = read.into_iter().map(|(_, row)| row).collect();
            // A first field that begins with a byte order mark is taken for one.
            prop_assume!(!table.concat().iter().any(|field| field.contains('\u{feff}')));
            prop_assert_eq!(read, table);
        }

        #[test]
        fn any_bytes_end_in_rows_or_a_fault(bytes in prop::collection::vec(prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), any::<u8>()], 0..200)) {
            read(&bytes, 5);
        }
    }
}
