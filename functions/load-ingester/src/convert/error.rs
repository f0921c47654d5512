//! Why a row goes to the quarantine, and why a whole object cannot be converted.

use std::{fmt, io};

use parquet::errors::ParquetError;
use thiserror::Error;

/// Why a record does not become a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// The record has fewer fields than the header.
    TooFewFields,
    /// The record has more fields than the header.
    TooManyFields,
    /// The bytes are no UTF-8.
    InvalidUtf8,
    /// The record is longer than the plan allows.
    TooLong,
    /// A quote opens that nothing closes before the end of the file.
    UnclosedQuote,
    /// The line is no JSON value.
    NotJson,
    /// The line is a JSON value, but no object.
    NotAnObject,
    /// Not an optional sign and digits.
    NotAnInteger,
    /// Not an optional sign, digits with at most one point, and an optional exponent.
    NotADecimal,
    /// Not a number, or NaN or infinity.
    NotANumber,
    /// None of the words for true and false.
    NotABoolean,
    /// Not a day such as `2021-12-01`.
    NotADate,
    /// Not a time such as `11:20:30.123456`.
    NotATime,
    /// Not a day and a time such as `2021-12-01 11:20:30.123456`.
    NotATimestamp,
    /// A value of its kind, but beyond what the type holds.
    OutOfRange,
    /// Digits behind the point, other than 0, that the type has no place for.
    TooManyDecimals,
}

impl Reason {
    /// The word in quarantined records and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooFewFields => "too_few_fields",
            Self::TooManyFields => "too_many_fields",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::TooLong => "too_long",
            Self::UnclosedQuote => "unclosed_quote",
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::NotAnInteger => "not_an_integer",
            Self::NotADecimal => "not_a_decimal",
            Self::NotANumber => "not_a_number",
            Self::NotABoolean => "not_a_boolean",
            Self::NotADate => "not_a_date",
            Self::NotATime => "not_a_time",
            Self::NotATimestamp => "not_a_timestamp",
            Self::OutOfRange => "out_of_range",
            Self::TooManyDecimals => "too_many_decimals",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an object cannot be converted. Whether trying again can help is what [`ConvertError::is_permanent`] says.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// The input failed.
    #[error("the object cannot be read")]
    Read(#[source] io::Error),
    /// The gzip stream is damaged.
    #[error("the gzip stream is corrupt at byte {offset} of the object")]
    CorruptGzip {
        /// How many compressed bytes were good, or close to it.
        offset: u64,
        /// What is wrong with them.
        #[source]
        source: io::Error,
    },
    /// The gzip stream ends in the middle.
    #[error("the gzip stream is truncated: the object ends at byte {offset}")]
    TruncatedGzip {
        /// The size of the object.
        offset: u64,
    },
    /// The line with the names of the columns cannot be used.
    #[error("the header, line {line}, is unusable: {reason}")]
    Header {
        /// Where the header is.
        line: u64,
        /// What is wrong with it.
        reason: Reason,
    },
    /// A name occurs twice in the header.
    #[error("the header has more than one column {}", .0.join(", "))]
    DuplicateColumns(Vec<String>),
    /// A record does not fit, and the plan is to fail.
    #[error("line {line}, column {}: {reason}: {value:?}", column.as_deref().unwrap_or("-"))]
    Misfit {
        /// The line that the record begins in, from 1.
        line: u64,
        /// The column, unless the whole record is wrong.
        column: Option<String>,
        /// The value, or its beginning.
        value: String,
        /// What is wrong with it.
        reason: Reason,
    },
    /// The receiver of parts and quarantined rows failed.
    #[error("the output cannot be written")]
    Sink(#[source] io::Error),
    /// No Parquet could be made of the rows, which is our mistake, or it could not be compressed.
    #[error("the rows cannot be encoded")]
    Encode(#[source] ParquetError),
    /// What should be a Parquet file is none.
    #[error("this is no Parquet file")]
    NotParquet(#[source] ParquetError),
    /// The footer of a Parquet file is longer than what was given of the file's end.
    #[error("the footer needs the last {0} bytes of the file")]
    FooterNeeds(usize),
}

impl ConvertError {
    /// Whether the same object gives the same error whenever it is converted.
    #[must_use]
    pub const fn is_permanent(&self) -> bool {
        match self {
            Self::Read(_) | Self::Sink(_) | Self::FooterNeeds(_) => false,
            Self::CorruptGzip { .. }
            | Self::TruncatedGzip { .. }
            | Self::Header { .. }
            | Self::DuplicateColumns(_)
            | Self::Misfit { .. }
            | Self::Encode(_)
            | Self::NotParquet(_) => true,
        }
    }
}

impl From<ParquetError> for ConvertError {
    fn from(error: ParquetError) -> Self {
        Self::Encode(error)
    }
}

impl From<arrow::error::ArrowError> for ConvertError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Encode(error.into())
    }
}
