//! What can go wrong with one record, and what becomes of it.

use shared::s3_key::KeyError;

/// Why a record says nothing that could be registered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The body is not JSON, or none of the envelopes that notifications come in.
    #[error("{found} is no S3 event, no SNS notification and no EventBridge event of S3")]
    UnknownEnvelope {
        /// What it is.
        found: String,
    },
    /// There are more SNS notifications around the S3 event than anything sends.
    #[error("there are more than {most} SNS notifications in each other")]
    NestedTooDeep {
        /// How many are taken off.
        most: usize,
    },
    /// The record follows a structure that came after this version of the function.
    #[error("the record's version is {found}; only {known}.x is known")]
    UnsupportedVersion {
        /// The version, as in the record.
        found: String,
        /// The major version that is known.
        known: &'static str,
    },
    /// A member that has to be there is missing, empty or no text.
    #[error("{0} of the record is missing, empty or no text")]
    InvalidRecord(&'static str),
    /// The key cannot be decoded.
    #[error(transparent)]
    InvalidKey(#[from] KeyError),
    /// The key is longer than S3 allows, so there is no such object.
    #[error("the key has {0} bytes, and S3 allows 1,024")]
    KeyTooLong(usize),
    /// The record is about a bucket that this function does not look after.
    #[error("the record is about the bucket {0:?}, and this function does not look after it")]
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
