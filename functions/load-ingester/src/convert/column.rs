//! The rows of a row group, column by column, until they are encoded.

use std::{mem::take, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal32Array, Decimal64Array, Decimal128Array,
        Float32Array, Float64Array, Int32Array, Int64Array, NullBufferBuilder, StringArray, Time64MicrosecondArray,
        TimestampMicrosecondArray,
    },
    buffer::{Buffer, OffsetBuffer, ScalarBuffer},
    datatypes::DataType,
    error::ArrowError,
};
use shared::column_type::ColumnType;

use super::{
    Reason,
    types::{self, data_type},
    value::{boolean, date, decimal, integer, real, short_decimal, time, timestamp, unsigned},
};

/// Rows that there is room for from the beginning.
const FIRST_ROWS: usize = 1 << 10;

/// A column under construction.
pub(super) struct Column {
    column_type: ColumnType,
    values: Values,
    nulls: NullBufferBuilder,
}

/// Values of one kind; null rows have one too.
enum Values {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Int128(Vec<i128>),
    Real4(Vec<f32>),
    Real8(Vec<f64>),
    Boolean(BooleanBufferBuilder),
    Text(Texts),
}

/// Texts one after the other.
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
}

impl Column {
    pub(super) fn new(column_type: ColumnType) -> Self {
        Self { column_type, values: Values::new(&data_type(column_type)), nulls: NullBufferBuilder::new(FIRST_ROWS) }
    }

    /// Appends a value. If it does not fit, nothing is appended. What has only white space is null, unless the column is text.
    pub(super) fn append(&mut self, text: &[u8]) -> Result<(), Reason> {
        if let Values::Text(texts) = &mut self.values {
            texts.push(text);
        } else {
            let text = text.trim_ascii();
            if text.is_empty() {
                self.append_null();
                return Ok(());
            }
            self.values.append(self.column_type, text)?;
        }
        self.nulls.append_non_null();
        Ok(())
    }

    pub(super) fn append_null(&mut self) {
        self.values.append_default();
        self.nulls.append_null();
    }

    /// Forgets all rows but the first ones.
    pub(super) fn truncate(&mut self, rows: usize) {
        if self.nulls.len() > rows {
            self.values.truncate(rows);
            self.nulls.truncate(rows);
        }
    }

    /// The memory that the values take, without spare room.
    pub(super) fn bytes(&self) -> usize {
        match &self.values {
            Values::Int32(values) => size_of_val(&**values),
            Values::Int64(values) => size_of_val(&**values),
            Values::Int128(values) => size_of_val(&**values),
            Values::Real4(values) => size_of_val(&**values),
            Values::Real8(values) => size_of_val(&**values),
            Values::Boolean(values) => values.len() / 8,
            Values::Text(texts) => texts.bytes.len() + size_of_val(&*texts.ends),
        }
    }

    /// The memory of a value, without that of texts.
    pub(super) const fn row_bytes(&self) -> usize {
        match &self.values {
            Values::Int32(_) | Values::Real4(_) | Values::Text(_) => 4,
            Values::Int64(_) | Values::Real8(_) => 8,
            Values::Int128(_) => 16,
            Values::Boolean(_) => 1,
        }
    }

    /// All rows. The column is empty then.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        let data_type = data_type(self.column_type);
        Ok(match (&mut self.values, data_type) {
            (Values::Int32(values), DataType::Date32) => Arc::new(Date32Array::new(taken(values), nulls)),
            (Values::Int32(values), data_type @ DataType::Decimal32(..)) => {
                Arc::new(Decimal32Array::new(taken(values), nulls).with_data_type(data_type))
            }
            (Values::Int32(values), _) => Arc::new(Int32Array::new(taken(values), nulls)),
            (Values::Int64(values), DataType::Time64(_)) => Arc::new(Time64MicrosecondArray::new(taken(values), nulls)),
            (Values::Int64(values), DataType::Timestamp(..)) => {
                Arc::new(TimestampMicrosecondArray::new(taken(values), nulls))
            }
            (Values::Int64(values), data_type @ DataType::Decimal64(..)) => {
                Arc::new(Decimal64Array::new(taken(values), nulls).with_data_type(data_type))
            }
            (Values::Int64(values), _) => Arc::new(Int64Array::new(taken(values), nulls)),
            (Values::Int128(values), data_type) => {
                Arc::new(Decimal128Array::new(taken(values), nulls).with_data_type(data_type))
            }
            (Values::Real4(values), _) => Arc::new(Float32Array::new(taken(values), nulls)),
            (Values::Real8(values), _) => Arc::new(Float64Array::new(taken(values), nulls)),
            (Values::Boolean(values), _) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            (Values::Text(texts), _) => {
                let (offsets, bytes) = texts.take();
                Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
            }
        })
    }
}

fn taken<T: arrow::datatypes::ArrowNativeType>(values: &mut Vec<T>) -> ScalarBuffer<T> {
    take(values).into()
}

impl Values {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Int32 | DataType::Date32 | DataType::Decimal32(..) => Self::Int32(Vec::new()),
            DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..) | DataType::Decimal64(..) => {
                Self::Int64(Vec::new())
            }
            DataType::Decimal128(..) => Self::Int128(Vec::new()),
            DataType::Float32 => Self::Real4(Vec::new()),
            DataType::Float64 => Self::Real8(Vec::new()),
            DataType::Boolean => Self::Boolean(BooleanBufferBuilder::new(FIRST_ROWS)),
            _ => Self::Text(Texts::new()),
        }
    }

    fn append(&mut self, column_type: ColumnType, text: &[u8]) -> Result<(), Reason> {
        match self {
            Self::Text(texts) => texts.push(text),
            Self::Int32(values) => values.push(match column_type {
                ColumnType::Date => date(text)?,
                other => i32::try_from(whole(other, text)?).map_err(|_| Reason::OutOfRange)?,
            }),
            Self::Int64(values) => values.push(match column_type {
                ColumnType::Timestamp => timestamp(text)?,
                ColumnType::Time => time(text)?,
                other => whole(other, text)?,
            }),
            Self::Int128(values) => values.push(match column_type {
                ColumnType::Decimal { precision, scale } => decimal(text, precision, scale)?,
                _ => unsigned(text)?,
            }),
            Self::Real4(values) => values.push(real(text)?),
            Self::Real8(values) => values.push(real(text)?),
            Self::Boolean(values) => values.append(boolean(text)?),
        }
        Ok(())
    }

    fn append_default(&mut self) {
        match self {
            Self::Int32(values) => values.push(0),
            Self::Int64(values) => values.push(0),
            Self::Int128(values) => values.push(0),
            Self::Real4(values) => values.push(0.0),
            Self::Real8(values) => values.push(0.0),
            Self::Boolean(values) => values.append(false),
            Self::Text(texts) => texts.push(b""),
        }
    }

    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Int32(values) => values.truncate(rows),
            Self::Int64(values) => values.truncate(rows),
            Self::Int128(values) => values.truncate(rows),
            Self::Real4(values) => values.truncate(rows),
            Self::Real8(values) => values.truncate(rows),
            Self::Boolean(values) => values.truncate(rows),
            Self::Text(texts) => texts.truncate(rows),
        }
    }
}

/// An integer, or the digits of a decimal number, in 64 bits.
fn whole(column_type: ColumnType, text: &[u8]) -> Result<i64, Reason> {
    match column_type {
        ColumnType::Decimal { precision, scale } => short_decimal(text, precision, scale),
        ColumnType::Integer { bytes, signed } => integer(text, &types::range(bytes, signed)),
        _ => Err(Reason::NotAnInteger),
    }
}

impl Texts {
    const fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new() }
    }

    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        // A row group has much less than 2 GiB of texts.
        self.ends.push(self.bytes.len() as i32);
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().map_or(0, |end| *end as usize));
    }

    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let Self { bytes, ends } = std::mem::replace(self, Self::new());
        let offsets: Vec<i32> = std::iter::once(0).chain(ends).collect();
        (OffsetBuffer::new(offsets.into()), bytes.into())
    }
}
