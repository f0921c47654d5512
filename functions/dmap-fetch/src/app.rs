//! What lives as long as the execution environment: settings and clients.

use std::time::Duration;

use aws_config::SdkConfig;
use objects::S3;

use crate::{config::Config, http::Http, registrar::Registrar, secret::Secret};

/// When an attempt of a call to AWS fails. load-registrar may take longer than S3 does.
pub const ATTEMPT: Duration = Duration::from_secs(30);

/// Everything a handler needs.
#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub registrar: Registrar,
    pub secret: Secret,
    /// Where datasets are put.
    pub incoming: S3,
    /// Where quarantined results go.
    pub lake: S3,
    pub http: Http,
}

impl App {
    /// Sets up the clients without connecting.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig, http: Http) -> Self {
        let s3 = objects::Client::new(aws);
        Self {
            registrar: Registrar::new(aws, &config.registrar),
            secret: Secret::new(aws_sdk_secretsmanager::Client::new(aws), &config.secret_arn),
            incoming: S3::new(&s3, &config.incoming_bucket),
            lake: S3::new(&s3, &config.lake_bucket),
            http,
            config,
        }
    }
}
