//! Errors as one line that a person can read.

use std::error::Error;

use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// An error and its causes in one line, leaving out each cause that the text before it already contains.
pub fn chain(error: &dyn Error) -> String {
    let mut parts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if parts.last().is_some_and(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = cause.source();
    }
    parts.join(": ")
}

/// Why a call of an AWS service failed: `AccessDenied: …` when the service answered, otherwise all causes from the
/// outermost to the innermost.
pub fn cause<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: Error + ProvideErrorMetadata + 'static,
{
    if let SdkError::ServiceError(service) = error {
        return match (service.err().code(), service.err().message()) {
            (Some(code), Some(message)) => format!("{code}: {message}"),
            (Some(code), None) => code.to_owned(),
            // The response to HEAD has no body, and so no code.
            (None, _) => format!("status {}", service.raw().status().as_u16()),
        };
    }
    // The outermost texts only name the kind of error; the causes are more specific.
    let inner = match (error, error.source()) {
        (SdkError::DispatchFailure(_), Some(connector)) => connector.source().or(Some(connector)),
        (_, source) => source,
    };
    inner.map_or_else(|| error.to_string(), chain)
}

/// Most names that one line of a log, or an error, lists.
const MAX_NAMES: usize = 20;

/// Names or ids for one line of a log, or for an error: `a, b, c`, or the first ones and how many more there are.
pub fn some_of(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(MAX_NAMES).map(|name| name.as_ref().to_owned()).collect();
    let mut text = shown.join(", ");
    match names.count() {
        0 => {}
        more => text += &format!(" and {more} more"),
    }
    text
}

/// The service's error code, such as `AccessDenied`.
pub fn code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_first_ids() {
        assert_eq!(some_of([""; 0]), "");
        assert_eq!(some_of(["a", "b"]), "a, b");
        let many: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let text = some_of(&many);
        assert!(text.starts_with("0, 1, 2, ") && text.ends_with(", 19 and 80 more"), "{text}");
    }
}
