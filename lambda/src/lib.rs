//! The process of a Lambda function: the app is set up once, in the init phase, then one invocation follows another.

#![deny(missing_docs)]

use std::{process::ExitCode, sync::Arc};

use aws_lambda_events::event::sqs::{BatchItemFailure, SqsBatchResponse};
use bytes::Bytes;
use lambda_runtime::{Diagnostic, Error, LambdaEvent, Runtime, layers::TracingLayer, service_fn};
use serde::Serialize;

use crate::raw::RawEventLayer;

mod raw;

/// Why an invocation failed, as its caller sees it: `errorType` and `errorMessage`.
#[derive(Debug)]
pub struct Failure(Diagnostic);

impl Failure {
    /// A failure of this kind, with the text of the error.
    #[must_use]
    pub fn new(kind: &str, error: &impl std::error::Error) -> Self {
        Self(Diagnostic { error_type: kind.to_owned(), error_message: error.to_string() })
    }
}

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new("Failed", &error)
    }
}

/// The answer to a batch of a queue: only the messages with these ids come back, in the order of their ids.
///
/// Source: "Implementing partial batch responses", AWS Lambda developer guide.
#[must_use]
pub fn returning(ids: impl IntoIterator<Item = String>) -> SqsBatchResponse {
    let failure = |id| {
        let mut failure = BatchItemFailure::default();
        failure.item_identifier = id;
        failure
    };
    let mut response = SqsBatchResponse::default();
    response.batch_item_failures = ids.into_iter().map(failure).collect();
    response.batch_item_failures.sort_by(|a, b| a.item_identifier.cmp(&b.item_identifier));
    response
}

/// Sets up `app` in the init phase, then passes every event to `handle` as the bytes that Lambda sent.
///
/// `handle` gets the event and the deadline of the invocation, in milliseconds since 1970-01-01T00:00:00Z. Its error is any
/// error, or a [`Failure`] where callers read the kind. If the app cannot be set up, the cause is logged and the process ends with
/// a failure.
pub async fn serve<A, W, R, E>(
    app: impl Future<Output = Result<A, Error>>,
    handle: impl Fn(Arc<A>, Bytes, u64) -> W,
) -> ExitCode
where
    W: Future<Output = Result<R, E>>,
    R: Serialize,
    E: Into<Failure>,
{
    lambda_runtime::tracing::init_default_subscriber();
    let run = async {
        let app = Arc::new(app.await?);
        let handler = service_fn(|event: LambdaEvent<()>| {
            let (app, handle) = (app.clone(), &handle);
            // The event is available only while this future is polled, so it is read inside the future.
            async move { handle(app, raw::event(), event.context.deadline).await.map_err(|error| error.into().0) }
        });
        Runtime::new(handler).layer(TracingLayer::new()).layer(RawEventLayer).run().await
    };
    // Boxed because the type of the nested layers is too deep for the compiler's recursion limit.
    match Box::pin(run).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            tracing::error!(%cause, "the function cannot run");
            ExitCode::FAILURE
        }
    }
}
