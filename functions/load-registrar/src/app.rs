//! Settings, clients and the connection to Postgres, which live as long as the sandbox.

use std::time::Duration;

use crate::{config::Config, database::Database, iam::Signer};
use aws_config::SdkConfig;
use objects::S3;

/// When an attempt of a call to AWS fails. HEAD requests have 10 seconds, in which two attempts have to fit.
pub const ATTEMPT: Duration = Duration::from_secs(4);

#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub s3: objects::Client,
    /// Where quarantined records go.
    pub lake: S3,
    pub database: Database,
}

impl App {
    /// Creates the clients. Nothing connects yet.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        let secrets = aws_sdk_secretsmanager::Client::new(aws);
        let database = Database::new(config.database.clone(), secrets, Signer::new(aws));
        let s3 = objects::Client::new(aws);
        let lake = S3::new(&s3, &config.lake_bucket);
        Self { config, s3, lake, database }
    }
}
