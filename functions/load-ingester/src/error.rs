//! Why a load was not taken further.

use objects::BucketError;

use crate::{
    convert::{ConvertError, DeclarationError},
    registrar::RegistrarError,
};

/// Why a load can never be ingested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hopeless {
    /// The object was replaced by another one.
    Superseded,
    /// The object was deleted.
    ObjectGone,
    /// The object is larger than the setting allows.
    TooLarge,
    /// The end of the key names no format.
    UnknownFormat,
    /// The `.dfm` or the declaration of the columns cannot be used.
    ColumnsUnusable,
    /// The object is no gzip stream, or a damaged one.
    InvalidGzip,
    /// The line with the names of the columns cannot be used.
    InvalidHeader,
    /// The object is no Parquet file.
    InvalidParquet,
    /// A value does not fit, and the table wants the load to fail.
    Misfit,
    /// More rows do not fit than the setting allows.
    TooManyMisfits,
    /// The rows cannot be encoded, which is a mistake of this function.
    NotEncodable,
}

impl Hopeless {
    /// The word for it in load-registrar.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::ObjectGone => "object_gone",
            Self::TooLarge => "too_large",
            Self::UnknownFormat => "unknown_format",
            Self::ColumnsUnusable => "columns_unusable",
            Self::InvalidGzip => "invalid_gzip",
            Self::InvalidHeader => "invalid_header",
            Self::InvalidParquet => "invalid_parquet",
            Self::Misfit => "misfit",
            Self::TooManyMisfits => "too_many_misfits",
            Self::NotEncodable => "not_encodable",
        }
    }
}

/// Why a load was not ingested.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// It would not be the next time either.
    #[error("{1}")]
    Hopeless(Hopeless, String),
    /// A dependency failed that may recover.
    #[error(transparent)]
    Bucket(#[from] BucketError),
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
    /// Why the object of a load could not be read.
    #[must_use]
    pub fn of_object(error: BucketError) -> Self {
        match error {
            BucketError::Replaced { .. } => Self::Hopeless(Hopeless::Superseded, error.to_string()),
            BucketError::Missing { .. } => Self::Hopeless(Hopeless::ObjectGone, error.to_string()),
            other => Self::Bucket(other),
        }
    }
}

impl From<DeclarationError> for IngestError {
    fn from(error: DeclarationError) -> Self {
        Self::Hopeless(Hopeless::ColumnsUnusable, runtime::failure::chain(&error))
    }
}

impl From<ConvertError> for IngestError {
    fn from(error: ConvertError) -> Self {
        let reason = match &error {
            ConvertError::CorruptGzip { .. } | ConvertError::TruncatedGzip { .. } => Hopeless::InvalidGzip,
            ConvertError::Header { .. } | ConvertError::DuplicateColumns(_) => Hopeless::InvalidHeader,
            ConvertError::Misfit { .. } => Hopeless::Misfit,
            ConvertError::NotParquet(_) => Hopeless::InvalidParquet,
            ConvertError::Encode(_) => Hopeless::NotEncodable,
            ConvertError::Read(_) | ConvertError::Sink(_) | ConvertError::FooterNeeds(_) => return Self::Thread,
        };
        Self::Hopeless(reason, runtime::failure::chain(&error))
    }
}
