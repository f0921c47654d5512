//! What can go wrong with one record, and what becomes of it.

use shared::quarantine::Disposition;

use crate::wire::WireError;

/// Why a message does not land.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The system attribute `SentTimestamp` is missing or no time.
    #[error("the message has no valid SentTimestamp")]
    SentTimestamp,
    /// The message attribute `type` is missing or no string.
    #[error("the message has no string attribute \"type\"")]
    MissingType,
    /// The body is empty.
    #[error("the body is empty")]
    EmptyBody,
    /// The body is not base64.
    #[error("the body is not standard base64 with padding")]
    Base64,
    /// The body is base64, and what it holds is not a message of its type.
    #[error("the payload is not a message of its type: {0}")]
    Protobuf(#[from] WireError),
}

impl RecordError {
    /// The reason in the quarantine record and in metrics.
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

    /// What to do about it. Every cause lies in the message itself, so trying again would not help.
    #[must_use]
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::SentTimestamp | Self::MissingType | Self::EmptyBody | Self::Base64 | Self::Protobuf(_) => {
                Disposition::Quarantine
            }
        }
    }
}
