//! Access to AWS: the one HTTPS client, timeouts, and the configuration that Lambda provides.

use std::time::Duration;

use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::SharedHttpClient, stalled_stream_protection::StalledStreamProtectionConfig,
};
use aws_smithy_types::timeout::TimeoutConfig;

/// A connection within a region is open after a few milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A body of which no byte has moved for this long is given up.
const STALLED: Duration = Duration::from_secs(5);

/// Region, credentials and endpoints from the environment, over [`https`]. `attempt` is explained at [`loader`].
pub async fn config(attempt: Duration) -> SdkConfig {
    loader(attempt).load().await
}

/// The same before it is loaded, so that it can be changed.
///
/// An attempt of a call fails after `attempt`, and the SDK tries again. It has no such limit of its own: a connection that
/// has died without a word would hold an invocation until Lambda ends it. So choose half of the time that a call may take,
/// or less.
pub fn loader(attempt: Duration) -> ConfigLoader {
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(https())
        .timeout_config(timeouts(attempt))
        .stalled_stream_protection(StalledStreamProtectionConfig::enabled().grace_period(STALLED).build())
}

/// Timeouts of a client each of whose attempts fails after `attempt`.
#[must_use]
pub fn timeouts(attempt: Duration) -> TimeoutConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT.min(attempt));
    timeouts.read_timeout(attempt).operation_attempt_timeout(attempt).build()
}

/// An HTTPS client with rustls and ring, the only TLS in this workspace: the SDK's default provider (aws-lc) would spend
/// 30 ms of the first call on gathering entropy. Plain HTTP works too, for a local emulator.
#[must_use]
pub fn https() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
