//! How Parquet keeps the types of columns.

use std::ops::RangeInclusive;

use arrow::datatypes::{DataType, TimeUnit};
use shared::column_type::ColumnType;

/// Digits of a decimal number that still fit into 32 and 64 bits.
const DIGITS_OF_32_BITS: u8 = 9;
const DIGITS_OF_64_BITS: u8 = 18;
/// Digits of the largest unsigned 64-bit integer.
const DIGITS_OF_UINT8: u8 = 20;

/// How Parquet keeps values of this type.
pub(super) fn data_type(column_type: ColumnType) -> DataType {
    match column_type {
        ColumnType::Integer { bytes: 8, signed: false } => DataType::Decimal128(DIGITS_OF_UINT8, 0),
        ColumnType::Integer { bytes: 8, .. } | ColumnType::Integer { bytes: 4, signed: false } => DataType::Int64,
        ColumnType::Integer { .. } => DataType::Int32,
        ColumnType::Decimal { precision, scale } => decimal_type(precision, scale.cast_signed()),
        ColumnType::Real4 => DataType::Float32,
        ColumnType::Real8 => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Date => DataType::Date32,
        ColumnType::Time => DataType::Time64(TimeUnit::Microsecond),
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Text => DataType::Utf8,
    }
}

/// The least and the greatest integer of so many bytes, within 64 bits with a sign.
pub(super) const fn range(bytes: u8, signed: bool) -> RangeInclusive<i64> {
    match (bytes, signed) {
        (1, true) => i8::MIN as i64..=i8::MAX as i64,
        (1, false) => 0..=u8::MAX as i64,
        (2, true) => i16::MIN as i64..=i16::MAX as i64,
        (2, false) => 0..=u16::MAX as i64,
        (4, true) => i32::MIN as i64..=i32::MAX as i64,
        (4, false) => 0..=u32::MAX as i64,
        (_, true) => i64::MIN..=i64::MAX,
        (_, false) => 0..=i64::MAX,
    }
}

/// The narrowest of Arrow's decimals. In Parquet, the number of digits alone decides.
const fn decimal_type(precision: u8, scale: i8) -> DataType {
    if precision <= DIGITS_OF_32_BITS {
        DataType::Decimal32(precision, scale)
    } else if precision <= DIGITS_OF_64_BITS {
        DataType::Decimal64(precision, scale)
    } else {
        DataType::Decimal128(precision, scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_the_narrowest_that_warehouses_read() {
        for (name, parquet) in [
            ("INT1", "Int32"),
            ("UINT4", "Int64"),
            ("UINT8", "Decimal128(20, 0)"),
            ("numeric(9, 2)", "Decimal32(9, 2)"),
            ("decimal(18)", "Decimal64(18, 0)"),
            ("DECIMAL(38,37)", "Decimal128(38, 37)"),
            ("varchar(20)", "Utf8"),
            ("DATETIME", "Timestamp(µs)"),
        ] {
            assert_eq!(name.parse().map(|kind| data_type(kind).to_string()), Ok(parquet.to_owned()), "{name}");
        }
    }

    #[test]
    fn integers_have_the_range_of_their_bytes() {
        assert_eq!(range(1, true), -128..=127);
        assert_eq!(range(2, false), 0..=65_535);
        assert_eq!(range(8, true), i64::MIN..=i64::MAX);
    }
}
