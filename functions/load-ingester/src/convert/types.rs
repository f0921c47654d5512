//! Types of columns: what a `.dfm` and a declaration call them, and what Parquet keeps.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use arrow::datatypes::{DataType, TimeUnit};

use super::value::MAX_DIGITS;

/// Digits of a decimal number that still fit into 32 and 64 bits.
const DIGITS_OF_32_BITS: u8 = 9;
const DIGITS_OF_64_BITS: u8 = 18;
/// Digits of the largest unsigned 64-bit integer.
const DIGITS_OF_UINT8: u8 = 20;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// A whole number of `bytes` bytes, with or without a sign.
    Integer {
        /// 1, 2, 4 or 8.
        bytes: u8,
        /// Whether it can be negative.
        signed: bool,
    },
    /// A decimal number.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Of these, behind the point.
        scale: u8,
    },
    /// A 32-bit floating point number.
    Real4,
    /// A 64-bit floating point number.
    Real8,
    /// True or false.
    Boolean,
    /// A day.
    Date,
    /// A time of day, in microseconds.
    Time,
    /// A day and a time in microseconds, without a zone.
    Timestamp,
    /// Text.
    Text,
}

impl ColumnType {
    /// A decimal type; `None` if there is none with so many digits.
    #[must_use]
    pub fn decimal(precision: i64, scale: i64) -> Option<Self> {
        let precision = u8::try_from(precision).ok().filter(|digits| (1..=MAX_DIGITS).contains(&u32::from(*digits)))?;
        let scale = u8::try_from(scale).ok().filter(|scale| *scale <= precision)?;
        Some(Self::Decimal { precision, scale })
    }

    /// The type of a name that needs no digits. Case does not matter. `None` for a name that is unknown.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let integer = |bytes, signed| Self::Integer { bytes, signed };
        Some(match &*name.trim().to_ascii_lowercase() {
            "int1" | "tinyint" => integer(1, true),
            "int2" | "smallint" => integer(2, true),
            "int4" | "int" | "integer" => integer(4, true),
            "int8" | "bigint" => integer(8, true),
            "uint1" => integer(1, false),
            "uint2" => integer(2, false),
            "uint4" => integer(4, false),
            "uint8" => integer(8, false),
            "real4" | "real" | "float4" => Self::Real4,
            "real8" | "double" | "double precision" | "float" | "float8" => Self::Real8,
            "boolean" | "bool" => Self::Boolean,
            "date" => Self::Date,
            "time" => Self::Time,
            "datetime" | "timestamp" => Self::Timestamp,
            "string" | "wstring" | "clob" | "nclob" | "blob" | "bytes" | "text" | "varchar" | "char" | "json" => {
                Self::Text
            }
            _ => return None,
        })
    }

    /// How Parquet keeps values of this type.
    #[must_use]
    pub fn data_type(self) -> DataType {
        match self {
            Self::Integer { bytes: 8, signed: false } => DataType::Decimal128(DIGITS_OF_UINT8, 0),
            Self::Integer { bytes: 8, .. } | Self::Integer { bytes: 4, signed: false } => DataType::Int64,
            Self::Integer { .. } => DataType::Int32,
            Self::Decimal { precision, scale } => decimal_type(precision, scale.cast_signed()),
            Self::Real4 => DataType::Float32,
            Self::Real8 => DataType::Float64,
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::Text => DataType::Utf8,
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

impl fmt::Display for ColumnType {
    /// The name in SQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer { bytes: 8, signed: false } => f.write_str("decimal(20,0)"),
            Self::Integer { bytes: 8, .. } | Self::Integer { bytes: 4, signed: false } => f.write_str("bigint"),
            Self::Integer { .. } => f.write_str("integer"),
            Self::Decimal { precision, scale } => write!(f, "decimal({precision},{scale})"),
            Self::Real4 => f.write_str("real"),
            Self::Real8 => f.write_str("double"),
            Self::Boolean => f.write_str("boolean"),
            Self::Date => f.write_str("date"),
            Self::Time => f.write_str("time"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::Text => f.write_str("text"),
        }
    }
}

/// A name that is no type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownType;

impl FromStr for ColumnType {
    type Err = UnknownType;

    /// A type as people write it: `decimal(10,2)`, `varchar(20)`, `INT4`.
    fn from_str(text: &str) -> Result<Self, UnknownType> {
        let Some((name, digits)) = text.split_once('(') else {
            return Self::of_name(text).ok_or(UnknownType);
        };
        let digits = digits.trim_end().strip_suffix(')').ok_or(UnknownType)?;
        match &*name.trim().to_ascii_lowercase() {
            "decimal" | "numeric" | "number" => {
                let (precision, scale) = digits.split_once(',').unwrap_or((digits, "0"));
                let number = |text: &str| text.trim().parse().map_err(|_| UnknownType);
                Self::decimal(number(precision)?, number(scale)?).ok_or(UnknownType)
            }
            "varchar" | "char" | "string" | "wstring" | "text" if digits.trim().parse::<u32>().is_ok() => {
                Ok(Self::Text)
            }
            _ => Err(UnknownType),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_the_names_of_qlik_and_of_sql() {
        for (name, parquet) in [
            ("INT1", "Int32"),
            ("UINT4", "Int64"),
            ("UINT8", "Decimal128(20, 0)"),
            ("bigint", "Int64"),
            ("numeric(9, 2)", "Decimal32(9, 2)"),
            ("decimal(18)", "Decimal64(18, 0)"),
            ("DECIMAL(38,37)", "Decimal128(38, 37)"),
            ("varchar(20)", "Utf8"),
            ("NCLOB", "Utf8"),
            ("real8", "Float64"),
            ("DATETIME", "Timestamp(µs)"),
        ] {
            assert_eq!(
                name.parse().map(|kind: ColumnType| kind.data_type().to_string()),
                Ok(parquet.to_owned()),
                "{name}"
            );
        }
    }

    #[test]
    fn what_no_type_holds_is_unknown() {
        for name in
            ["decimal(39,0)", "decimal(0,0)", "decimal(5,6)", "decimal(5", "int(4)", "geometry", "", "decimal(5,-1)"]
        {
            assert_eq!(name.parse::<ColumnType>(), Err(UnknownType), "{name}");
        }
    }

    #[test]
    fn integers_have_the_range_of_their_bytes() {
        assert_eq!(ColumnType::range(1, true), -128..=127);
        assert_eq!(ColumnType::range(2, false), 0..=65_535);
        assert_eq!(ColumnType::range(8, true), i64::MIN..=i64::MAX);
    }
}
