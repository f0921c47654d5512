//! AWS errors in one line that a person can read.

use std::error::Error;

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use runtime::failure::chain;

/// `AccessDenied: …` when the service answered, otherwise all causes from the outermost to the innermost.
pub fn cause<E, R>(error: &SdkError<E, R>) -> String
where
    E: Error + ProvideErrorMetadata + 'static,
    R: std::fmt::Debug + 'static,
{
    if let Some(service) = error.as_service_error() {
        return match (service.code(), service.message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            (None, _) => chain(service),
        };
    }
    // The outermost texts only say which kind of error it is; the causes say more.
    let inner = match (error, error.source()) {
        (SdkError::DispatchFailure(_), Some(connector)) => connector.source().or(Some(connector)),
        (_, source) => source,
    };
    inner.map_or_else(|| error.to_string(), chain)
}

/// The service's error code, such as `AccessDenied`.
pub fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}
