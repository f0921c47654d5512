//! What lives as long as the sandbox: settings, clients and the connection to Postgres.

use crate::{config::Config, database::Database};
use aws_config::SdkConfig;
use objects::S3;

/// Everything a handler needs.
#[derive(Debug)]
pub struct App {
    /// The settings.
    pub config: Config,
    /// For objects and listings.
    pub s3: objects::Client,
    /// Where quarantined records go.
    pub lake: S3,
    /// The load metadata.
    pub database: Database,
}

impl App {
    /// Sets everything up but connects nowhere.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        let secrets = aws_sdk_secretsmanager::Client::new(aws);
        let database = Database::new(config.database.clone(), secrets);
        let s3 = objects::Client::new(aws);
        let lake = S3::new(&s3, &config.lake_bucket);
        Self { config, s3, lake, database }
    }
}
