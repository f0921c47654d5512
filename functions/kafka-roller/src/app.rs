//! What lives as long as the execution environment: settings and the two buckets.

use std::time::Duration;

use aws_config::SdkConfig;
use objects::{Bucket, Client, S3};

use crate::config::Config;

/// When an attempt of a call to AWS fails. The shortest timeout of the function is 30 seconds, in which two attempts have to fit.
pub const ATTEMPT: Duration = Duration::from_secs(10);
/// The largest file, of 10 GiB, has 1,280 parts of this size.
const PART_BYTES: usize = 8 << 20;
const TIDY_MINUTES: i64 = 30;

/// Everything a handler needs.
#[derive(Debug)]
pub struct App<B> {
    pub config: Config,
    /// For staged and quarantined records.
    pub lake: B,
    /// For files.
    pub incoming: B,
    /// A tick looks for objects that nobody needs once in so many minutes.
    pub tidy_minutes: i64,
    /// A larger file is uploaded in parts of this many bytes. S3 requires at least 5 MiB per part and at most 10,000 parts.
    pub part_bytes: usize,
}

impl App<S3> {
    /// Sets up the clients without connecting.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        let client = Client::new(aws);
        let lake = S3::new(&client, &config.lake_bucket);
        let incoming = S3::new(&client, &config.rules.incoming_bucket);
        Self::over(config, lake, incoming)
    }
}

impl<B: Bucket> App<B> {
    /// The app with any kind of bucket.
    #[must_use]
    pub fn over(config: Config, lake: B, incoming: B) -> Self {
        Self { config, lake, incoming, tidy_minutes: TIDY_MINUTES, part_bytes: PART_BYTES }
    }
}
