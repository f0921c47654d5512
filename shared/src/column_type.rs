//! Types of columns: what a `.dfm` of Qlik and a declaration call them.

use std::{fmt, str::FromStr};

/// Digits that a decimal number can have.
pub const MAX_DIGITS: u8 = 38;

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
        let precision = u8::try_from(precision).ok().filter(|digits| (1..=MAX_DIGITS).contains(digits))?;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("that is no type of a column")]
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
        for (name, sql) in [
            ("INT1", "integer"),
            ("UINT4", "bigint"),
            ("UINT8", "decimal(20,0)"),
            ("bigint", "bigint"),
            ("numeric(9, 2)", "decimal(9,2)"),
            ("decimal(18)", "decimal(18,0)"),
            ("varchar(20)", "text"),
            ("NCLOB", "text"),
            ("real8", "double"),
            ("DATETIME", "timestamp"),
        ] {
            assert_eq!(name.parse().map(|kind: ColumnType| kind.to_string()), Ok(sql.to_owned()), "{name}");
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
}
