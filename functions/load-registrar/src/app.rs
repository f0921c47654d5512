//! What lives as long as the sandbox: settings, clients and the connection to Postgres.

use crate::{config::Config, database::Database};
use aws_config::SdkConfig;

/// Everything a handler needs.
#[derive(Debug)]
pub struct App {
    /// The settings.
    pub config: Config,
    /// For objects and quarantine.
    pub s3: aws_sdk_s3::Client,
    /// The load metadata.
    pub database: Database,
}

impl App {
    /// Sets everything up but connects nowhere.
    #[must_use]
    pub fn new(config: Config, aws: &SdkConfig) -> Self {
        let secrets = aws_sdk_secretsmanager::Client::new(aws);
        let database = Database::new(config.database.clone(), secrets);
        Self { config, s3: aws_sdk_s3::Client::new(aws), database }
    }
}
