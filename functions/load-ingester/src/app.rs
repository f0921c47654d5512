//! What lives as long as the execution environment: settings and clients.

use std::time::Duration;

use aws_config::SdkConfig;
use objects::S3;

use crate::{config::Config, registrar::Registrar};

/// When an attempt of a call to AWS fails.
pub const ATTEMPT: Duration = Duration::from_secs(30);

/// Everything a handler needs.
#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub registrar: Registrar,
    pub sqs: aws_sdk_sqs::Client,
    /// The objects of the loads.
    pub incoming: S3,
    /// Their files, and the objects that are done.
    pub lake: S3,
}

impl App {
    /// Sets up the clients without connecting.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        let s3 = objects::Client::new(aws);
        Self {
            registrar: Registrar::new(aws, &config.registrar),
            sqs: aws_sdk_sqs::Client::new(aws),
            incoming: S3::new(&s3, &config.incoming_bucket),
            lake: S3::new(&s3, &config.lake_bucket),
            config,
        }
    }
}
