//! Access to AWS: the one HTTPS client, and the configuration that Lambda provides.

use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// Region, credentials and endpoints from the environment, over [`https`].
pub async fn config() -> SdkConfig {
    aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https()).load().await
}

/// An HTTPS client with rustls and ring, the only TLS in this workspace: the SDK's default provider (aws-lc) would spend
/// 30 ms of the first call on gathering entropy. Plain HTTP works too, for a local emulator.
#[must_use]
pub fn https() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
