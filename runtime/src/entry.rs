//! A function's process: set up once, then one invocation after the other.

use std::{process::ExitCode, sync::Arc};

use aws_config::{BehaviorVersion, SdkConfig};
use bytes::Bytes;
use lambda_runtime::{Error, LambdaEvent, Runtime, layers::TracingLayer, service_fn};
use serde::Serialize;

use crate::{
    https,
    raw::{self, RawEventLayer},
};

/// What Lambda gives for AWS, over the one HTTPS client.
pub async fn aws() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https::client()).load().await
}

/// Sets `app` up in the init phase, then has every event handled as the bytes that came.
///
/// `handle` gets the event and when the invocation ends, in milliseconds since 1970-01-01T00:00:00Z. A function that
/// cannot be set up says why in the log and ends with a failure.
pub async fn serve<A, W, R, E>(
    app: impl Future<Output = Result<A, Error>>,
    handle: impl Fn(Arc<A>, Bytes, u64) -> W,
) -> ExitCode
where
    W: Future<Output = Result<R, E>>,
    R: Serialize,
    E: Into<Error>,
{
    lambda_runtime::tracing::init_default_subscriber();
    let run = async {
        let app = Arc::new(app.await?);
        let handler = service_fn(|event: LambdaEvent<()>| {
            let (app, handle) = (app.clone(), &handle);
            // The event is there while this future is polled, not before.
            async move { handle(app, raw::event(), event.context.deadline).await.map_err(Into::<Error>::into) }
        });
        Runtime::new(handler).layer(TracingLayer::new()).layer(RawEventLayer).run().await
    };
    // The futures of all layers in each other are deeper than the compiler likes.
    match Box::pin(run).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            tracing::error!(%cause, "the function cannot run");
            ExitCode::FAILURE
        }
    }
}
