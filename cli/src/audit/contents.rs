//! What a file holds: lines, each of them JSON. Read as it comes, so that a file may be larger than memory.

use std::io::{self, Write};

use flate2::write::GzDecoder;
use serde::de::IgnoredAny;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    pub lines: usize,
    /// Lines that are not JSON.
    pub broken: usize,
    /// The number of the first such line, from 1, and the error.
    pub first_broken: Option<(usize, String)>,
}

/// Counts the lines of what is written to it.
#[derive(Debug, Default)]
pub struct Lines {
    found: Contents,
    /// The beginning of a line whose end has not been read yet.
    begun: Vec<u8>,
}

#[derive(Debug)]
pub enum Reading {
    Plain(Lines),
    Gzip(Box<GzDecoder<Lines>>),
}

impl Lines {
    fn line(&mut self, line: &[u8]) {
        self.found.lines += 1;
        if let Err(cause) = check(line) {
            self.found.broken += 1;
            self.found.first_broken.get_or_insert((self.found.lines, cause));
        }
    }

    fn finish(mut self) -> Contents {
        let rest = std::mem::take(&mut self.begun);
        if !rest.is_empty() {
            self.line(&rest);
        }
        self.found
    }
}

fn check(line: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(line).map_err(|cause| cause.to_string())?;
    serde_json::from_str::<IgnoredAny>(text).map(drop).map_err(|cause| cause.to_string())
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                None => self.begun.extend_from_slice(piece),
                Some(line) if self.begun.is_empty() => self.line(line),
                Some(line) => {
                    let mut whole = std::mem::take(&mut self.begun);
                    whole.extend_from_slice(line);
                    self.line(&whole);
                    whole.clear();
                    self.begun = whole;
                }
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Reading {
    pub fn of(key: &str) -> Self {
        if key.ends_with(".gz") {
            Self::Gzip(Box::new(GzDecoder::new(Lines::default())))
        } else {
            Self::Plain(Lines::default())
        }
    }

    /// `Err` means that the file is not gzip although its name says so.
    pub fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(lines) => lines.write_all(bytes),
            Self::Gzip(gzip) => gzip.write_all(bytes),
        }
    }

    /// `Err` means that the gzip file is truncated or damaged.
    pub fn finish(self) -> io::Result<Contents> {
        match self {
            Self::Plain(lines) => Ok(lines.finish()),
            Self::Gzip(gzip) => gzip.finish().map(Lines::finish),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn read(key: &str, pieces: &[&[u8]]) -> io::Result<Contents> {
        let mut reading = Reading::of(key);
        pieces.iter().try_for_each(|piece| reading.read(piece))?;
        reading.finish()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn lines_that_are_no_json_are_counted_and_the_first_is_named() {
        let found = read("x.json", &[b"{\"a\":1}\n{\n", b"\"\xff\"\n\n[1]"]).unwrap();
        assert_eq!((found.lines, found.broken), (5, 3));
        let (line, cause) = found.first_broken.unwrap();
        assert_eq!((line, cause.starts_with("EOF while parsing")), (2, true), "{cause}");
        assert_eq!(read("x.json", &[]).unwrap(), Contents::default());
    }

    #[test]
    fn a_compressed_file_that_is_none_or_is_cut_off_is_an_error() {
        let whole = gzip(b"{}\n{}\n");
        assert_eq!(read("x.json.gz", &[&whole]).unwrap().lines, 2);
        assert!(read("x.json.gz", &[&whole[..whole.len() - 1]]).is_err());
        assert!(read("x.json.gz", &[&whole[..12]]).is_err());
        assert!(read("x.json.gz", &[b"{}\n"]).is_err());
        assert!(read("x.json.gz", &[]).is_err());
        assert!(read("x.json.gz", &[&whole, b"{}\n"]).is_err());
    }

    proptest! {
        #[test]
        fn how_a_file_is_cut_up_on_the_way_makes_no_difference(
            lines in prop::collection::vec("[0-9]{1,9}", 0..20),
            piece_bytes in 1..40_usize,
            is_gzip in any::<bool>(),
        ) {
            let text: String = lines.iter().map(|line| format!("{{\"n\":\"{line}\"}}\n")).collect();
            let (key, bytes) = if is_gzip { ("x.json.gz", gzip(text.as_bytes())) } else { ("x.json", text.into()) };
            let pieces: Vec<&[u8]> = bytes.chunks(piece_bytes).collect();
            let expected = Contents { lines: lines.len(), ..Contents::default() };
            prop_assert_eq!(read(key, &pieces).unwrap(), expected);
        }
    }
}
