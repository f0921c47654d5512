//! What can go wrong with one record, and what becomes of it.

use shared::quarantine::Disposition;

/// Why a record does not land.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The data is not base64.
    #[error("the data is not base64")]
    Base64,
    /// The data begins like an aggregate of the Kinesis Producer Library and is none.
    #[error(
        "the data begins like an aggregate of the Kinesis Producer Library, but its checksum or its message is wrong"
    )]
    Aggregate,
    /// There is no data.
    #[error("the record is empty")]
    Empty,
    /// The data is no JSON.
    #[error("the record is not JSON: {0}")]
    Json(String),
    /// The JSON does not say which table the record belongs to.
    #[error("the record has no string at {0}")]
    MissingTable(String),
    /// The table's name cannot be a folder.
    #[error("the record's table cannot be a folder: {0}")]
    InvalidTable(String),
}

impl RecordError {
    /// The reason in the quarantine record and in metrics.
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

    /// What to do about it. Every cause lies in the record itself, so trying again would not help.
    #[must_use]
    pub const fn disposition(&self) -> Disposition {
        match self {
            Self::Base64
            | Self::Aggregate
            | Self::Empty
            | Self::Json(_)
            | Self::MissingTable(_)
            | Self::InvalidTable(_) => Disposition::Quarantine,
        }
    }
}
