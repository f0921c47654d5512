//! What the footer and the page index say of the values of a flat column, so that readers can skip pages, chunks and files.

use parquet::{
    basic::{BoundaryOrder, Type},
    errors::ParquetError,
    file::{
        metadata::{ColumnChunkMetaDataBuilder, ColumnIndexBuilder, LevelHistogram},
        page_index::column_index::ColumnIndexMetaData,
    },
};

use super::{
    levels::PageRows,
    value::{Range, Value},
};

/// The statistics of a column chunk and of its pages, page by page.
pub(super) struct ColumnStatistics<V> {
    index: ColumnIndexBuilder,
    /// Of all pages so far, and of the previous one with values.
    range: Option<Range<V>>,
    previous: Option<Range<V>>,
    is_ascending: bool,
    is_descending: bool,
    nulls: u64,
    data_bytes: Option<i64>,
    histogram: Option<LevelHistogram>,
}

impl<V: Value> ColumnStatistics<V> {
    pub(super) fn new(physical_type: Type) -> Self {
        Self {
            index: ColumnIndexBuilder::new(physical_type),
            range: None,
            previous: None,
            is_ascending: true,
            is_descending: true,
            nulls: 0,
            data_bytes: None,
            histogram: None,
        }
    }

    /// The next page. `range` is that of its values.
    pub(super) fn append(&mut self, page: &PageRows, range: Option<Range<V>>, data_bytes: Option<i64>) {
        let nulls = page.nulls() as u64;
        let (min, max) = match range {
            None => (Vec::new(), Vec::new()),
            Some(range) => (range.min.lower_bound().bytes, range.max.upper_bound().bytes),
        };
        self.index.append(range.is_none(), min, max, nulls.cast_signed(), None);
        let histogram = (!page.histogram.is_empty()).then(|| LevelHistogram::from(page.histogram.clone()));
        self.index.append_histograms(&None, &histogram);
        self.nulls += nulls;
        self.data_bytes = self.data_bytes.map_or(data_bytes, |sum| data_bytes.map(|bytes| sum + bytes));
        match (&mut self.histogram, histogram) {
            (Some(sum), Some(histogram)) => sum.add(&histogram),
            (sum, histogram) => *sum = histogram,
        }
        let Some(range) = range else { return };
        if let Some(previous) = self.previous {
            self.is_ascending &= previous.min <= range.min && previous.max <= range.max;
            self.is_descending &= previous.min >= range.min && previous.max >= range.max;
        }
        self.previous = Some(range);
        self.range = Some(self.range.map_or(range, |all| all.with(range)));
    }

    /// `metadata` with the statistics of the chunk, and the column index.
    pub(super) fn finish(
        mut self,
        metadata: ColumnChunkMetaDataBuilder,
    ) -> Result<(ColumnChunkMetaDataBuilder, ColumnIndexMetaData), ParquetError> {
        self.index.set_boundary_order(match (self.is_ascending, self.is_descending) {
            (true, _) => BoundaryOrder::ASCENDING,
            (false, true) => BoundaryOrder::DESCENDING,
            (false, false) => BoundaryOrder::UNORDERED,
        });
        let metadata = metadata
            .set_statistics(V::statistics(self.range, self.nulls))
            .set_unencoded_byte_array_data_bytes(self.data_bytes)
            .set_definition_level_histogram(self.histogram);
        Ok((metadata, self.index.build()?))
    }
}
