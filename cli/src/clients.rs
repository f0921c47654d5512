//! The AWS clients of the command line.

use aws_config::{
    BehaviorVersion, SdkConfig, profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
};
use aws_sdk_sqs::config::{ProvideCredentials, SharedCredentialsProvider, SharedHttpClient};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use crate::failure::chain;

/// The AWS clients.
#[derive(Debug, Clone)]
pub struct Clients {
    /// For quarantined records.
    pub s3: aws_sdk_s3::Client,
    /// For queues.
    pub sqs: aws_sdk_sqs::Client,
}

/// Why there are no clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    /// Neither the environment nor a profile names a region.
    #[error("no AWS region is set; set AWS_REGION, or `region` in the profile")]
    Region,
    /// The profile that was named is missing, incomplete or logged out.
    #[error("profile {profile} gives no credentials: {cause}")]
    Profile {
        /// The profile.
        profile: String,
        /// Why.
        cause: String,
    },
}

impl Clients {
    /// Clients from the environment and the AWS files. A profile that is named counts more than credentials in the
    /// environment.
    pub async fn from_env(profile: Option<&str>) -> Result<Self, ClientsError> {
        let https = https();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https.clone());
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
        }
        let mut config = loader.load().await;
        let Some(region) = config.region() else { return Err(ClientsError::Region) };
        if let Some(profile) = profile {
            let provider = ProviderConfig::default().with_http_client(https).with_region(Some(region.clone()));
            let credentials =
                ProfileFileCredentialsProvider::builder().configure(&provider).profile_name(profile).build();
            if let Err(error) = credentials.provide_credentials().await {
                return Err(ClientsError::Profile { profile: profile.to_owned(), cause: chain(&error) });
            }
            let credentials = SharedCredentialsProvider::new(credentials);
            config = config.into_builder().credentials_provider(credentials).build();
        }
        Ok(Self::of(&config))
    }

    /// Clients that share one configuration.
    #[must_use]
    pub fn of(config: &SdkConfig) -> Self {
        Self { s3: aws_sdk_s3::Client::new(config), sqs: aws_sdk_sqs::Client::new(config) }
    }
}

/// HTTPS with rustls and ring, the only TLS in here. Plain HTTP works too, for a local emulator.
#[must_use]
pub fn https() -> SharedHttpClient {
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}
