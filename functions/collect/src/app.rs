//! Settings and the clients, which live as long as the sandbox.

use std::sync::Mutex;

use crate::config::Config;
use aws_config::{SdkConfig, retry::RetryConfig};
use tokio::time::Instant;

#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub kinesis: aws_sdk_kinesis::Client,
    pub sqs: aws_sdk_sqs::Client,
    /// Until when hits go to the overflow at once, because Kinesis took none of the last request.
    pub(crate) resting: Mutex<Option<Instant>>,
}

impl App {
    /// Does not connect to anything yet.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        // `stream` and `overflow` retry themselves, because they know which records are already stored and how much time is left.
        let kinesis = aws_sdk_kinesis::config::Builder::from(aws).retry_config(RetryConfig::disabled()).build();
        let sqs = aws_sdk_sqs::config::Builder::from(aws).retry_config(RetryConfig::disabled()).build();
        let (kinesis, sqs) = (aws_sdk_kinesis::Client::from_conf(kinesis), aws_sdk_sqs::Client::from_conf(sqs));
        Self { config, kinesis, sqs, resting: Mutex::new(None) }
    }
}
