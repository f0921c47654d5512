//! Why a load was not taken further.

use objects::BucketError;

use crate::{
    convert::{ConvertError, DeclarationError},
    registrar::RegistrarError,
};

/// Why a load was not ingested.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It would not be the next time either.
    #[error("{1}")]
    Hopeless(&'static str, String),
    /// A dependency failed that may recover.
    #[error(transparent)]
    Bucket(BucketError),
    /// The registrar refuses a step, or does not answer.
    #[error(transparent)]
    Registrar(#[from] RegistrarError),
    /// Rows could not be quarantined.
    #[error("rows could not be written to the quarantine")]
    Quarantine,
    /// The `.dfm` of the object has not come yet.
    #[error("the .dfm of the object has not come yet")]
    Waiting,
    /// Too little time is left of the invocation.
    #[error("the time of the invocation is over")]
    Time,
    /// A thread ended unexpectedly.
    #[error("the conversion ended unexpectedly")]
    Thread,
}

impl IngestError {
    /// The reason with which the load is given up, if it is hopeless.
    #[must_use]
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Hopeless(reason, _) => Some(reason),
            _ => None,
        }
    }
}

impl From<BucketError> for IngestError {
    fn from(error: BucketError) -> Self {
        match error {
            BucketError::Replaced { .. } => Self::Hopeless("superseded", error.to_string()),
            BucketError::Missing { .. } => Self::Hopeless("object_gone", error.to_string()),
            other => Self::Bucket(other),
        }
    }
}

impl From<DeclarationError> for IngestError {
    fn from(error: DeclarationError) -> Self {
        Self::Hopeless("columns_unusable", runtime::failure::chain(&error))
    }
}

impl From<ConvertError> for IngestError {
    fn from(error: ConvertError) -> Self {
        let reason = match &error {
            ConvertError::CorruptGzip { .. } | ConvertError::TruncatedGzip { .. } => "invalid_gzip",
            ConvertError::Header { .. } | ConvertError::DuplicateColumns(_) => "invalid_header",
            ConvertError::Misfit { .. } => "misfit",
            ConvertError::NotParquet(_) => "invalid_parquet",
            ConvertError::Encode(_) => "not_encodable",
            ConvertError::Read(_) | ConvertError::Sink(_) | ConvertError::FooterNeeds(_) => return Self::Thread,
        };
        Self::Hopeless(reason, runtime::failure::chain(&error))
    }
}
