//! CSV → rows.

mod split;

use std::{io::Read, mem::take, ops::ControlFlow};

use memchr::memchr_iter;

use self::split::{Fields, Skip, Span, Split};
use super::{
    ConvertError, Reason, Sink, Summary,
    dialect::Dialect,
    input::Window,
    layout::Layout,
    plan::Plan,
    rows::{Record, Rows},
};

/// How much of a record that is too long is kept.
const KEPT_BYTES: usize = 64 << 10;

/// Reads `window` to its end.
pub(super) fn convert(window: Window<impl Read>, plan: &Plan, sink: &mut impl Sink) -> Result<Summary, ConvertError> {
    let mut records = Records::new(window, plan);
    let Some((layout, mut next)) = records.layout(plan)? else {
        return Ok(Layout::of_fields(&[], plan)?.into_summary(plan));
    };
    let width = layout.width();
    let mut rows = Rows::new(layout, plan, sink)?;
    while let Some(found) = next {
        records.append(found, width, &mut rows)?;
        next = records.advance(width)?;
    }
    rows.finish()
}

/// What comes next.
enum Found {
    /// A record of so many bytes.
    Record(usize),
    /// The rest of the file, because of a quote that nothing closes.
    Unclosed(usize),
    /// The beginning of a record that is too long.
    TooLong(Vec<u8>),
}

/// The records of a file, one after the other.
struct Records<'a, R: Read> {
    window: Window<R>,
    dialect: &'a Dialect,
    max_bytes: usize,
    fields: Fields,
    /// The line that the record begins in.
    line: u64,
    /// What the record takes of the window and of the lines.
    consumed: usize,
    lines: u64,
}

impl<'a, R: Read> Records<'a, R> {
    fn new(window: Window<R>, plan: &'a Plan) -> Self {
        let (dialect, max_bytes) = (&plan.dialect, plan.limits.record_bytes);
        Self { window, dialect, max_bytes, fields: Fields::default(), line: 1, consumed: 0, lines: 0 }
    }

    /// The columns, and the first record that becomes a row. `None` if the file has no record at all.
    fn layout(&mut self, plan: &Plan) -> Result<Option<(Layout, Option<Found>)>, ConvertError> {
        let declared = plan.columns.as_ref().filter(|_| !self.dialect.header);
        let width = declared.map_or(0, |declaration| declaration.columns.len());
        let Some(first) = self.advance(width)? else { return Ok(None) };
        if let Some(declaration) = declared {
            let names: Vec<_> = declaration.columns.iter().map(|column| column.name.clone()).collect();
            return Ok(Some((Layout::of_fields(&names, plan)?, Some(first))));
        }
        let names = self.names(&first)?;
        if self.dialect.header {
            let layout = Layout::of_fields(&names, plan)?;
            let next = self.advance(layout.width())?;
            return Ok(Some((layout, next)));
        }
        let numbered: Vec<_> = (1..=names.len()).map(|number| format!("column_{number}")).collect();
        Ok(Some((Layout::of_fields(&numbered, plan)?, Some(first))))
    }

    /// The fields of the first record.
    fn names(&self, first: &Found) -> Result<Vec<String>, ConvertError> {
        let unusable = |reason| ConvertError::Header { line: self.line, reason };
        let record = match first {
            Found::Record(bytes) => self.record(*bytes),
            Found::Unclosed(_) => return Err(unusable(Reason::UnclosedQuote)),
            Found::TooLong(_) => return Err(unusable(Reason::TooLong)),
        };
        let name = |span: &Span| String::from_utf8(self.fields.text(record.bytes, span).to_vec());
        let names: Result<_, _> = self.fields.spans().iter().map(name).collect();
        names.map_err(|_| unusable(Reason::InvalidUtf8))
    }

    fn record(&self, bytes: usize) -> Record<'_> {
        Record { line: self.line, bytes: self.window.bytes().get(..bytes).unwrap_or_default() }
    }

    /// Goes to the next record. Empty lines are none, unless a record has a single field.
    fn advance(&mut self, width: usize) -> Result<Option<Found>, ConvertError> {
        loop {
            self.window.consume(take(&mut self.consumed));
            self.line += take(&mut self.lines);
            match self.find()? {
                Some(Found::Record(0)) if width != 1 => {}
                found => return Ok(found),
            }
        }
    }

    fn find(&mut self) -> Result<Option<Found>, ConvertError> {
        loop {
            let (bytes, is_at_end) = (self.window.bytes(), self.window.is_at_end());
            if bytes.is_empty() && is_at_end {
                return Ok(None);
            }
            match self.fields.split(bytes, is_at_end, self.dialect) {
                Split::Record { bytes: length, consumed } => {
                    return Ok(Some(self.found(Found::Record(length), length, consumed)));
                }
                Split::Unclosed => {
                    let length = bytes.len();
                    return Ok(Some(self.found(Found::Unclosed(length), length, length)));
                }
                // Two bytes may be the end of its line.
                Split::Incomplete if bytes.len() > self.max_bytes + 2 => return Ok(Some(Found::TooLong(self.skip()?))),
                Split::Incomplete => self.window.fill()?,
            }
        }
    }

    fn found(&mut self, found: Found, length: usize, consumed: usize) -> Found {
        let bytes = self.window.bytes().get(..consumed).unwrap_or_default();
        self.consumed = consumed;
        self.lines = if self.fields.spans().iter().all(Span::is_within_a_line) {
            1
        } else {
            memchr_iter(self.dialect.terminator, bytes).count() as u64
        };
        if length > self.max_bytes { Found::TooLong(kept(bytes.get(..length).unwrap_or(bytes))) } else { found }
    }

    /// Goes to the end of a record without keeping more than its beginning.
    fn skip(&mut self) -> Result<Vec<u8>, ConvertError> {
        let beginning = kept(self.window.bytes());
        let mut state = Skip::FieldStart;
        loop {
            let bytes = self.window.bytes();
            let end = bytes.iter().try_fold(0, |at: usize, byte| {
                state = state.step(*byte, self.dialect);
                if state == Skip::Done { ControlFlow::Break(at + 1) } else { ControlFlow::Continue(at + 1) }
            });
            let (ControlFlow::Break(end) | ControlFlow::Continue(end)) = end;
            let skipped = bytes.get(..end).unwrap_or_default();
            self.lines += memchr_iter(self.dialect.terminator, skipped).count() as u64;
            if state == Skip::Done || self.window.is_at_end() {
                self.consumed = end;
                return Ok(beginning);
            }
            self.window.consume(end);
            self.window.fill()?;
        }
    }

    /// Makes a row of what was found, or puts it into the quarantine.
    fn append(&self, found: Found, width: usize, rows: &mut Rows<'_, impl Sink>) -> Result<(), ConvertError> {
        match found {
            Found::TooLong(beginning) => {
                rows.reject(Record { line: self.line, bytes: &beginning }, None, b"", Reason::TooLong)
            }
            Found::Unclosed(bytes) => rows.reject(self.record(bytes), None, b"", Reason::UnclosedQuote),
            Found::Record(bytes) => self.append_record(self.record(bytes), width, rows),
        }
    }

    fn append_record(
        &self,
        record: Record<'_>,
        width: usize,
        rows: &mut Rows<'_, impl Sink>,
    ) -> Result<(), ConvertError> {
        let spans = self.fields.spans();
        if spans.len() != width {
            let reason = if spans.len() < width { Reason::TooFewFields } else { Reason::TooManyFields };
            return rows.reject(record, None, spans.len().to_string().as_bytes(), reason);
        }
        if simdutf8::basic::from_utf8(record.bytes).is_err() {
            let texts = || spans.iter().map(|span| self.fields.text(record.bytes, span));
            let column = texts().position(|text| std::str::from_utf8(text).is_err());
            let value = column.and_then(|column| texts().nth(column)).unwrap_or_default();
            return rows.reject(record, column, value, Reason::InvalidUtf8);
        }
        let value = |span: &Span| (!span.is_null).then(|| self.fields.text(record.bytes, span));
        rows.append(record, spans.iter().map(value))
    }
}

fn kept(bytes: &[u8]) -> Vec<u8> {
    bytes.get(..KEPT_BYTES).unwrap_or(bytes).to_vec()
}
