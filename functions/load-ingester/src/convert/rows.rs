//! Records → rows → row groups.

use arrow::array::{RecordBatch, new_null_array};

use super::{
    ConvertError, Reason, Sink, Summary,
    column::Column,
    layout::{Layout, Source},
    parts::Parts,
    plan::{OnMisfit, Plan},
    sink::{Quarantined, shortened},
    types::data_type,
};

/// Arrow's positions in texts have 31 bits, which no row group may need.
const MAX_ROW_GROUP_BYTES: usize = 1 << 30;

/// A record of the object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'a> {
    /// The line that it begins in.
    pub line: u64,
    /// All of it, without the end of its line.
    pub bytes: &'a [u8],
}

/// The rows of the row group that is being filled.
pub(super) struct Rows<'a, S> {
    plan: &'a Plan,
    sink: &'a mut S,
    layout: Layout,
    /// One for each field of the object.
    columns: Vec<Column>,
    count: usize,
    /// No less than what the columns have.
    bytes: usize,
    /// The memory of a row without texts.
    row_bytes: usize,
    parts: Parts<'a>,
    quarantined: u64,
    nulled: u64,
}

impl<'a, S: Sink> Rows<'a, S> {
    pub(super) fn new(layout: Layout, plan: &'a Plan, sink: &'a mut S) -> Result<Self, ConvertError> {
        let columns: Vec<Column> = layout.fields.iter().map(|field| Column::new(field.column_type)).collect();
        Ok(Self {
            row_bytes: columns.iter().map(Column::row_bytes).sum(),
            parts: Parts::new(layout.schema.clone(), plan)?,
            plan,
            sink,
            layout,
            columns,
            count: 0,
            bytes: 0,
            quarantined: 0,
            nulled: 0,
        })
    }

    /// Appends a record with a value, or null, for each field.
    pub(super) fn append<'v>(
        &mut self,
        record: Record<'_>,
        values: impl Iterator<Item = Option<&'v [u8]>>,
    ) -> Result<(), ConvertError> {
        for (field, (column, value)) in self.columns.iter_mut().zip(values).enumerate() {
            let Some(text) = value else {
                column.append_null();
                continue;
            };
            match column.append(text) {
                Ok(()) => {}
                Err(_) if self.plan.on_misfit == OnMisfit::Null => {
                    column.append_null();
                    self.nulled += 1;
                }
                Err(reason) => return self.reject(record, Some(field), text, reason),
            }
        }
        self.count += 1;
        self.bytes += self.row_bytes + record.bytes.len();
        if self.is_full() { self.flush() } else { Ok(()) }
    }

    /// Puts a record into the quarantine, or fails.
    pub(super) fn reject(
        &mut self,
        record: Record<'_>,
        field: Option<usize>,
        value: &[u8],
        reason: Reason,
    ) -> Result<(), ConvertError> {
        self.columns.iter_mut().for_each(|column| column.truncate(self.count));
        let column = field.and_then(|field| self.layout.fields.get(field)).map(|field| &*field.name);
        let (line, value) = (record.line, shortened(value));
        if self.plan.on_misfit == OnMisfit::Fail {
            let (column, value) = (column.map(str::to_owned), value.into_owned());
            return Err(ConvertError::Misfit { line, column, value, reason });
        }
        self.quarantined += 1;
        let row = Quarantined { line, column, value, reason, record: record.bytes };
        self.sink.quarantine(&row).map_err(ConvertError::Sink)
    }

    /// Records are longer than their texts, so what the columns have is only counted when it may be too much.
    fn is_full(&mut self) -> bool {
        let max_bytes = self.plan.limits.row_group_bytes.min(MAX_ROW_GROUP_BYTES);
        if self.bytes >= max_bytes {
            self.bytes = self.columns.iter().map(Column::bytes).sum();
        }
        self.bytes >= max_bytes || self.count >= self.plan.limits.row_group_rows
    }

    fn flush(&mut self) -> Result<(), ConvertError> {
        let mut arrays = Vec::with_capacity(self.layout.sources.len());
        for source in &self.layout.sources {
            arrays.push(match source {
                Source::Missing(column_type) => new_null_array(&data_type(*column_type), self.count),
                Source::Field(field) => match self.columns.get_mut(*field) {
                    Some(column) => column.finish()?,
                    None => continue,
                },
            });
        }
        let rows = RecordBatch::try_new(self.layout.schema.clone(), arrays)?;
        (self.count, self.bytes) = (0, 0);
        self.parts.append(rows, self.sink)
    }

    /// Ends the last part.
    pub(super) fn finish(mut self) -> Result<Summary, ConvertError> {
        if self.count > 0 {
            self.flush()?;
        }
        let parts = self.parts.finish(self.sink)?;
        let summary = self.layout.into_summary(self.plan);
        let rows = parts.iter().map(|part| part.rows).sum();
        Ok(Summary { rows, quarantined: self.quarantined, nulled: self.nulled, parts, ..summary })
    }
}
