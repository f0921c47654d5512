//! What lives as long as the sandbox: settings and the client.

use crate::config::Config;
use aws_config::{SdkConfig, retry::RetryConfig};

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
}
