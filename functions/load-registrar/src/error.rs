//! Why a record of a notification goes to the quarantine.

use shared::s3_key::KeyError;

/// Why a record can never be registered. Every cause lies in the record itself, so a retry would not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("{found} is no S3 event, no SNS notification and no EventBridge event of S3")]
    UnknownEnvelope { found: String },
    #[error("SNS notifications are nested more than {most} deep")]
    NestedTooDeep { most: usize },
    #[error("the record's version is {found}; only {known}.x is supported")]
    UnsupportedVersion { found: String, known: &'static str },
    #[error("{0} of the record is missing, empty or no text")]
    InvalidRecord(&'static str),
    #[error(transparent)]
    InvalidKey(#[from] KeyError),
    #[error("the key has {0} bytes, and S3 allows 1,024")]
    KeyTooLong(usize),
    #[error("the record is about the bucket {0:?}, which is not the incoming bucket of this function")]
    ForeignBucket(String),
}

impl RecordError {
    /// The reason in the quarantine record and in metrics.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownEnvelope { .. } => "unknown_envelope",
            Self::NestedTooDeep { .. } => "nested_too_deep",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::InvalidRecord(_) => "invalid_record",
            Self::InvalidKey(_) => "invalid_key",
            Self::KeyTooLong(_) => "key_too_long",
            Self::ForeignBucket(_) => "foreign_bucket",
        }
    }
}
