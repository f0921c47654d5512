//! What lives as long as the sandbox: settings and the two buckets.

use aws_config::SdkConfig;

use crate::{
    bucket::{Bucket, S3},
    config::Config,
};

/// The largest file, of 10 GiB, has 1,280 of them.
const PART_BYTES: usize = 8 << 20;

/// Everything a handler needs.
#[derive(Debug)]
pub struct App<B> {
    /// The settings.
    pub config: Config,
    /// Where open windows are staged and quarantined records are kept.
    pub lake: B,
    /// Where files go.
    pub incoming: B,
    /// A file that is larger is uploaded in parts of this many bytes. S3 takes no fewer than 5 MiB a part, and no more than
    /// 10,000 parts.
    pub part_bytes: usize,
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
        Self { config, lake, incoming, part_bytes: PART_BYTES }
    }
}
