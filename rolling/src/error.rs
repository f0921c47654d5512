//! Why a record can never be used. The cause always lies in the record itself, so it is quarantined: a retry would fail again.

/// Why a record cannot be written to a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The data is not base64.
    #[error("the data is not base64")]
    Base64,
    /// The data begins like an aggregate of the Kinesis Producer Library, but is not a valid one.
    #[error(
        "the data begins like an aggregate of the Kinesis Producer Library, but its checksum or its message is wrong"
    )]
    Aggregate,
    /// There is no data.
    #[error("the record is empty")]
    Empty,
    /// The data is not JSON.
    #[error("the record is not JSON: {0}")]
    Json(String),
    /// The JSON does not say which table the record belongs to.
    #[error("the record has no string at {0}")]
    MissingTable(String),
    /// The table's name cannot be part of a key.
    #[error("the record's table cannot be part of an object key: {0}")]
    InvalidTable(String),
}

impl RecordError {
    /// The reason, as in quarantine records and metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Base64 => "invalid_base64",
            Self::Aggregate => "invalid_aggregate",
            Self::Empty => "empty_record",
            Self::Json(_) => "invalid_json",
            Self::MissingTable(_) => "missing_table",
            Self::InvalidTable(_) => "invalid_table",
        }
    }
}
