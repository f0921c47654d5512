//! Why a message can never be written to a file. The cause always lies in the message itself, so it is quarantined: a retry
//! would fail again.

use columns::WireError;

/// Why a message cannot be written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The system attribute `SentTimestamp` is missing or not a time.
    #[error("the message has no valid SentTimestamp")]
    SentTimestamp,
    /// The message attribute `type` is missing or not a string.
    #[error("the message has no string attribute \"type\"")]
    MissingType,
    /// The body is empty.
    #[error("the body is empty")]
    EmptyBody,
    /// The body is not base64.
    #[error("the body is not standard base64 with padding")]
    Base64,
    /// The decoded body is not a message of its type.
    #[error("the payload is not a message of its type: {0}")]
    Protobuf(#[from] WireError),
}

impl RecordError {
    /// The reason, as in quarantine records and metrics.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::SentTimestamp => "invalid_sent_timestamp",
            Self::MissingType => "missing_type",
            Self::EmptyBody => "empty_body",
            Self::Base64 => "invalid_base64",
            Self::Protobuf(_) => "invalid_protobuf",
        }
    }
}
