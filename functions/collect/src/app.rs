//! What lives as long as the sandbox: settings and the client.

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig};
use runtime::https;

use crate::config::Config;

/// Everything a handler needs.
#[derive(Debug)]
pub struct App {
    /// The settings.
    pub config: Config,
    /// The stream.
    pub kinesis: aws_sdk_kinesis::Client,
}

impl App {
    /// Sets everything up but connects nowhere.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        // What fails is sent again by `stream`, which knows the time that is left and which records are stored.
        let kinesis = aws_sdk_kinesis::config::Builder::from(aws).retry_config(RetryConfig::disabled()).build();
        Self { config, kinesis: aws_sdk_kinesis::Client::from_conf(kinesis) }
    }

    /// The same with what Lambda gives.
    pub async fn from_env(config: Config) -> Self {
        let aws = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https::client()).load().await;
        Self::new(config, &aws)
    }
}
