//! What lives as long as the sandbox: settings and the two buckets.

use aws_config::SdkConfig;

use crate::{
    bucket::{Bucket, S3},
    config::Config,
};

/// Everything a handler needs.
#[derive(Debug)]
pub struct App<B> {
    /// The settings.
    pub config: Config,
    /// Where open windows are staged and quarantined records are kept.
    pub lake: B,
    /// Where files go.
    pub incoming: B,
}

impl App<S3> {
    /// Sets everything up but connects nowhere.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        let client = aws_sdk_s3::Client::new(aws);
        let lake = S3::new(client.clone(), config.lake_bucket.clone());
        let incoming = S3::new(client, config.incoming_bucket.clone());
        Self::over(config, lake, incoming)
    }
}

impl<B: Bucket> App<B> {
    /// The same over other buckets.
    #[must_use]
    pub fn over(config: Config, lake: B, incoming: B) -> Self {
        Self { config, lake, incoming }
    }
}
