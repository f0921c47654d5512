//! The bytes of an object, inflated, in a window that moves over them.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use flate2::bufread::MultiGzDecoder;

use super::ConvertError;

/// Bytes that are asked of the input at a time.
const READ_BYTES: usize = 128 << 10;
/// The window's size, unless a record is larger.
const WINDOW_BYTES: usize = 512 << 10;

/// An object as a stream of plain bytes.
pub(super) enum Input<R: Read> {
    /// As it is.
    Plain(R),
    /// One or more gzip members.
    Gzip(Box<MultiGzDecoder<Counted<R>>>),
}

impl<R: Read> Input<R> {
    pub(super) fn new(input: R, gzip: bool) -> Self {
        if gzip { Self::Gzip(Box::new(MultiGzDecoder::new(Counted::new(input)))) } else { Self::Plain(input) }
    }

    fn read(&mut self, to: &mut [u8]) -> Result<usize, ConvertError> {
        loop {
            let read = match self {
                Self::Plain(input) => input.read(to),
                Self::Gzip(input) => input.read(to),
            };
            match read {
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Whose error it is: that of the source, or of the compression.
    fn failed(&self, error: io::Error) -> ConvertError {
        match self {
            Self::Gzip(gzip) if !gzip.get_ref().has_failed => {
                let offset = gzip.get_ref().consumed;
                match error.kind() {
                    ErrorKind::UnexpectedEof => ConvertError::TruncatedGzip { offset },
                    _ => ConvertError::CorruptGzip { offset, source: error },
                }
            }
            _ => ConvertError::Read(error),
        }
    }
}

/// Counts the bytes that are taken from a source.
pub(super) struct Counted<R> {
    source: BufReader<R>,
    consumed: u64,
    /// Whether the source itself gave an error.
    has_failed: bool,
}

impl<R: Read> Counted<R> {
    fn new(source: R) -> Self {
        Self { source: BufReader::with_capacity(READ_BYTES, source), consumed: 0, has_failed: false }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(to)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let filled = self.source.fill_buf();
        self.has_failed = matches!(&filled, Err(error) if error.kind() != ErrorKind::Interrupted);
        filled
    }

    fn consume(&mut self, count: usize) {
        self.consumed += count as u64;
        self.source.consume(count);
    }
}

/// The part of the input that has been read and not been used.
pub(super) struct Window<R: Read> {
    input: Input<R>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    is_at_end: bool,
}

impl<R: Read> Window<R> {
    /// A window at the beginning, behind a byte order mark.
    pub(super) fn new(input: Input<R>) -> Result<Self, ConvertError> {
        let mut window = Self { input, buffer: vec![0; WINDOW_BYTES], start: 0, end: 0, is_at_end: false };
        while window.bytes().len() < BYTE_ORDER_MARK.len() && !window.is_at_end {
            window.fill()?;
        }
        if window.bytes().starts_with(BYTE_ORDER_MARK) {
            window.consume(BYTE_ORDER_MARK.len());
        }
        Ok(window)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether the input has no more than the window shows.
    pub(super) const fn is_at_end(&self) -> bool {
        self.is_at_end
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Reads until the window is full, or the input ends. A window that is full already becomes larger.
    pub(super) fn fill(&mut self) -> Result<(), ConvertError> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end * 2, 0);
        }
        while !self.is_at_end
            && let Some(free) = self.buffer.get_mut(self.end..).filter(|free| !free.is_empty())
        {
            let count = self.input.read(free)?;
            self.is_at_end = count == 0;
            self.end += count;
        }
        Ok(())
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
