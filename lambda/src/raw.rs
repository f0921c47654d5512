//! Passes the event to the handler as the bytes that Lambda sent, without a copy.
//!
//! The runtime would first parse the event into the payload type of the handler. For an event of 6 MB that costs more
//! than the rest of the work, and an event with one unexpected record would fail as a whole, before the handler could
//! set that record aside. So a layer takes the body out of the invocation, lets the runtime parse `null` instead, and
//! keeps the body for the handler.

use std::task::{Context, Poll};

use bytes::Bytes;
use lambda_runtime::LambdaInvocation;
use tokio::task::futures::TaskLocalFuture;
use tower::{Layer, Service};

tokio::task_local! {
    static EVENT: Bytes;
}

/// The event of the current invocation; empty outside of an invocation.
pub(crate) fn event() -> Bytes {
    EVENT.try_with(Bytes::clone).unwrap_or_default()
}

/// Wraps the services of the runtime in [`RawEvent`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEventLayer;

impl<S> Layer<S> for RawEventLayer {
    type Service = RawEvent<S>;

    fn layer(&self, inner: S) -> RawEvent<S> {
        RawEvent { inner }
    }
}

/// Keeps the body of each invocation for [`event`].
#[derive(Debug, Clone)]
pub(crate) struct RawEvent<S> {
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
