//! Hands the event to the handler as the bytes that came, without a copy.
//!
//! The runtime would parse the event into the handler's payload type first. For an event of 6 MB that costs more than
//! landing it, and an event that is not quite of that type would fail before the handler could isolate the bad record.
//! So a layer takes the body out, lets the runtime parse `null` in its place, and the handler asks for the body.

use std::task::{Context, Poll};

use bytes::Bytes;
use lambda_runtime::LambdaInvocation;
use tokio::task::futures::TaskLocalFuture;
use tower::{Layer, Service};

tokio::task_local! {
    static EVENT: Bytes;
}

/// The event of the current invocation. Empty outside of one.
#[must_use]
pub fn event() -> Bytes {
    EVENT.try_with(Bytes::clone).unwrap_or_default()
}

/// Puts [`RawEvent`] around the runtime's services.
#[derive(Debug, Clone, Copy)]
pub struct RawEventLayer;

impl<S> Layer<S> for RawEventLayer {
    type Service = RawEvent<S>;

    fn layer(&self, inner: S) -> RawEvent<S> {
        RawEvent { inner }
    }
}

/// Keeps the body of each invocation for [`event`].
#[derive(Debug, Clone)]
pub struct RawEvent<S> {
    inner: S,
}

impl<S: Service<LambdaInvocation>> Service<LambdaInvocation> for RawEvent<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = TaskLocalFuture<Bytes, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut invocation: LambdaInvocation) -> Self::Future {
        let body = std::mem::replace(&mut invocation.body, Bytes::from_static(b"null"));
        EVENT.scope(body, self.inner.call(invocation))
    }
}
