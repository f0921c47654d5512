//! Settings and the client, which live as long as the sandbox.

use crate::config::Config;
use aws_config::{SdkConfig, retry::RetryConfig};

#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub kinesis: aws_sdk_kinesis::Client,
}

impl App {
    /// Does not connect to anything yet.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        // `stream` retries itself, because it knows which records are already stored and how much time is left.
        let kinesis = aws_sdk_kinesis::config::Builder::from(aws).retry_config(RetryConfig::disabled()).build();
        Self { config, kinesis: aws_sdk_kinesis::Client::from_conf(kinesis) }
    }
}
