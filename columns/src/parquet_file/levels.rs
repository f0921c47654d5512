//! Definition levels: which rows of a column have a value, and for the other rows, how many of the structs around it are there.
//!
//! All columns of a struct that are never null themselves have the levels of the struct, which are encoded once.

use std::{borrow::Cow, ops::Range};

use arrow::buffer::NullBuffer;
use parquet::errors::ParquetError;

use super::{hybrid, value::Value};

/// A page has at most this many rows and, unless a single value is larger, at most this many bytes of values. Both are what the
/// Parquet library writes by default.
const MAX_PAGE_ROWS: usize = 20_000;
const MAX_PAGE_BYTES: usize = 1 << 20;

/// The definition levels of a column's rows.
#[derive(Debug)]
pub(super) struct Levels {
    rows: usize,
    /// One level a row; none if a value is always there.
    levels: Vec<u8>,
    /// The level of a row with a value.
    max: u8,
    /// The rows with a value, unless all have one.
    present: Option<Vec<usize>>,
    /// The rows by pages of `MAX_PAGE_ROWS`.
    pages: Vec<PageRows>,
}

/// The rows of one page.
#[derive(Debug, Clone)]
pub(super) struct PageRows {
    rows: Range<usize>,
    /// Where their values are among those of the column.
    pub values: Range<usize>,
    /// Number of rows by level; empty if a value is always there.
    pub histogram: Vec<i64>,
    /// The levels as a page begins with them.
    pub encoded: Vec<u8>,
}

impl PageRows {
    pub(super) fn count(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn nulls(&self) -> usize {
        self.rows.len() - self.values.len()
    }
}

impl Levels {
    /// The levels of columns outside of structs that are never null.
    pub(super) fn of_rows(rows: usize) -> Self {
        Self { rows, levels: Vec::new(), max: 0, present: None, pages: Vec::new() }.with_pages()
    }

    /// The levels of a column in a struct that has these, if the column itself may be null, too, and is so where `nulls` says.
    pub(super) fn below(&self, nulls: Option<&NullBuffer>) -> Result<Self, ParquetError> {
        let too_deep = || ParquetError::NYI("structs in more than 255 others".to_owned());
        let max = self.max.checked_add(1).ok_or_else(too_deep)?;
        let present: Option<Vec<usize>> = match (&self.present, nulls) {
            (None, None) => None,
            (Some(rows), None) => Some(rows.clone()),
            (None, Some(nulls)) => Some(nulls.valid_indices().collect()),
            (Some(rows), Some(nulls)) => Some(rows.iter().copied().filter(|row| nulls.is_valid(*row)).collect()),
        };
        let present = present.filter(|rows| rows.len() < self.rows);
        let mut levels = if self.max == 0 { vec![0; self.rows] } else { self.levels.clone() };
        match &present {
            None => levels.fill(max),
            Some(rows) => {
                for row in rows {
                    if let Some(level) = levels.get_mut(*row) {
                        *level = max;
                    }
                }
            }
        }
        Ok(Self { rows: self.rows, levels, max, present, pages: Vec::new() }.with_pages())
    }

    fn with_pages(mut self) -> Self {
        let mut values = 0;
        let starts = (0..self.rows).step_by(MAX_PAGE_ROWS);
        self.pages = starts.map(|start| self.page(start..self.rows.min(start + MAX_PAGE_ROWS), &mut values)).collect();
        self
    }

    /// The page of `rows`, whose first value is `value`, which becomes that of the next page.
    fn page(&self, rows: Range<usize>, value: &mut usize) -> PageRows {
        let first = *value;
        let (mut histogram, mut encoded) = (Vec::new(), Vec::new());
        if self.max == 0 {
            *value += rows.len();
        } else {
            let levels = self.levels.get(rows.clone()).unwrap_or_default();
            let count = |wanted| levels.iter().filter(|level| **level == wanted).count();
            histogram.extend((0..=self.max).map(|level| count(level) as i64));
            *value += count(self.max);
            encoded.extend([0; 4]);
            hybrid::encode(levels, u8::BITS - self.max.leading_zeros(), &mut encoded);
            if let Some((bytes, levels)) = encoded.split_first_chunk_mut() {
                *bytes = (levels.len() as u32).to_le_bytes();
            }
        }
        PageRows { rows, values: first..*value, histogram, encoded }
    }

    /// The pages of a column whose values take a few bytes each, such as positions in a dictionary.
    pub(super) fn pages(&self) -> &[PageRows] {
        &self.pages
    }

    /// The pages of a column with these values, written one after the other.
    pub(super) fn pages_of<V: Value>(&self, values: &[V]) -> Cow<'_, [PageRows]> {
        let sizes =
            |page: &PageRows| values.get(page.values.clone()).unwrap_or_default().iter().map(|v| v.plain_bytes());
        if self.pages.iter().all(|page| sizes(page).sum::<usize>() <= MAX_PAGE_BYTES) {
            return Cow::Borrowed(&self.pages);
        }
        let mut pages = Vec::new();
        let mut first_value = 0;
        for page in &self.pages {
            let mut sizes = sizes(page);
            let (mut start, mut bytes) = (page.rows.start, 0);
            for row in page.rows.clone() {
                let is_present = self.levels.get(row).is_none_or(|level| *level == self.max);
                let size = if is_present { sizes.next().unwrap_or_default() } else { 0 };
                if bytes > 0 && bytes + size > MAX_PAGE_BYTES {
                    pages.push(self.page(start..row, &mut first_value));
                    (start, bytes) = (row, 0);
                }
                bytes += size;
            }
            pages.push(self.page(start..page.rows.end, &mut first_value));
        }
        Cow::Owned(pages)
    }

    /// `value` of every row that has one.
    pub(super) fn values<T>(&self, value: impl Fn(usize) -> T) -> Vec<T> {
        match &self.present {
            None => (0..self.rows).map(value).collect(),
            Some(rows) => rows.iter().map(|row| value(*row)).collect(),
        }
    }

    /// The value of every row that has one; `values` has one for every row.
    pub(super) fn numbers<'a, T: Copy>(&self, values: &'a [T]) -> Cow<'a, [T]> {
        match &self.present {
            None => Cow::Borrowed(values),
            Some(rows) => Cow::Owned(rows.iter().filter_map(|row| values.get(*row).copied()).collect()),
        }
    }

    /// Whether `nulls` names a row that must have a value.
    pub(super) fn contradict(&self, nulls: &NullBuffer) -> bool {
        match &self.present {
            None => nulls.null_count() > 0,
            Some(rows) => nulls.null_count() > 0 && rows.iter().any(|row| nulls.is_null(*row)),
        }
    }
}
