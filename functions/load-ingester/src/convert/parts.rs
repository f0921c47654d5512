//! Row groups → parts, none of which is ever in memory as a whole.

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use columns::{Layout, ParquetFile, Zstd};

use super::{ConvertError, Sink, plan::Plan, sink::Part};

/// What the footer has at most for a column of a row group: positions, sizes, counts and bounds.
const CHUNK_BYTES: usize = 600;
/// The same for each of its pages.
const PAGE_BYTES: usize = 180;
/// The fewest rows and the fewest bytes that make a page full.
const PAGE_ROWS: usize = 20_000;
const PAGE_VALUE_BYTES: usize = 1 << 20;

/// The parts of an object.
pub(super) struct Parts<'a> {
    schema: SchemaRef,
    plan: &'a Plan,
    zstd: Zstd,
    open: Option<Open>,
    complete: Vec<Part>,
}

/// The part that is being written.
struct Open {
    file: ParquetFile,
    rows: u64,
    /// What was handed over.
    bytes: u64,
    /// What the footer needs at most.
    footer_bytes: u64,
}

impl<'a> Parts<'a> {
    pub(super) fn new(schema: SchemaRef, plan: &'a Plan) -> Result<Self, ConvertError> {
        let zstd = Zstd::new(plan.zstd_level).map_err(|error| ConvertError::Encode(error.into()))?;
        Ok(Self { schema, plan, zstd, open: None, complete: Vec::new() })
    }

    /// Appends a row group to the part, or to the next one if there is no room for it.
    pub(super) fn append(&mut self, rows: RecordBatch, sink: &mut impl Sink) -> Result<(), ConvertError> {
        let mut part = match self.open.take() {
            Some(part) => part,
            None => self.begin(sink)?,
        };
        let footer_bytes = footer_bytes(&rows);
        let count = rows.num_rows() as u64;
        let group = part.file.encode(&rows, &mut self.zstd)?;
        drop(rows);
        let needed = part.bytes + part.footer_bytes + group.bytes() as u64 + footer_bytes;
        if part.rows > 0 && needed > self.plan.limits.part_bytes {
            self.end(part, sink)?;
            part = self.begin(sink)?;
        }
        part.file.push(group)?;
        part.rows += count;
        part.footer_bytes += footer_bytes;
        part.hand_over(sink)?;
        self.open = Some(part);
        Ok(())
    }

    fn begin(&self, sink: &mut impl Sink) -> Result<Open, ConvertError> {
        let number = u32::try_from(self.complete.len()).unwrap_or(u32::MAX);
        sink.begin_part(number).map_err(ConvertError::Sink)?;
        let footer = self.plan.footer.iter().map(|(key, value)| key.len() + value.len() + CHUNK_BYTES).sum::<usize>();
        let names = self.schema.fields().iter().map(|field| field.name().len() + CHUNK_BYTES).sum::<usize>();
        let file = ParquetFile::new(self.schema.clone(), Layout::default())?;
        Ok(Open { file, rows: 0, bytes: 0, footer_bytes: (footer + names) as u64 })
    }

    fn end(&mut self, mut part: Open, sink: &mut impl Sink) -> Result<(), ConvertError> {
        for (key, value) in &self.plan.footer {
            part.file.add_to_footer(key, value);
        }
        let footer = part.file.finish(Vec::new())?;
        part.bytes += footer.len() as u64;
        let complete = Part { rows: part.rows, bytes: part.bytes };
        sink.part_bytes(footer).and_then(|()| sink.end_part(&complete)).map_err(ConvertError::Sink)?;
        self.complete.push(complete);
        Ok(())
    }

    /// Ends the last part. Gives back all of them.
    pub(super) fn finish(mut self, sink: &mut impl Sink) -> Result<Vec<Part>, ConvertError> {
        if let Some(part) = self.open.take() {
            self.end(part, sink)?;
        }
        Ok(self.complete)
    }
}

impl Open {
    fn hand_over(&mut self, sink: &mut impl Sink) -> Result<(), ConvertError> {
        let bytes = self.file.take_bytes();
        self.bytes += bytes.len() as u64;
        sink.part_bytes(bytes).map_err(ConvertError::Sink)
    }
}

/// What the footer needs at most for a row group.
fn footer_bytes(rows: &RecordBatch) -> u64 {
    let pages_of_rows = rows.num_rows() / PAGE_ROWS + 1;
    let columns = rows.columns().iter();
    let bytes = columns.map(|column| {
        let pages = pages_of_rows + column.get_array_memory_size() / PAGE_VALUE_BYTES;
        CHUNK_BYTES + pages * PAGE_BYTES
    });
    bytes.sum::<usize>() as u64
}
