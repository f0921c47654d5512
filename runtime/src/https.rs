//! The one HTTPS client.

use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::SharedHttpClient;

/// HTTPS with rustls and ring, the only TLS in here: the SDK's default provider would spend 30 ms of the first call on
/// gathering entropy. Plain HTTP works too, for a local emulator.
#[must_use]
pub fn client() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
