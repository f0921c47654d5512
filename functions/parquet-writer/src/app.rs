//! What lives as long as the sandbox: settings, schema, clients and the compression context.

use std::sync::{Mutex, PoisonError};

use aws_config::SdkConfig;
use runtime::settings::SettingError;
use shared::event::{Registry, RegistryError};
use shared::layout::EventsFormat;

use crate::{columns::SchemaError, config::Config, parquet_file::Zstd, table::Table};

/// Why the function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or wrong.
    #[error(transparent)]
    Config(#[from] SettingError),
    /// The event types contradict each other.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// An event type has no columns.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// zstd could not be set up.
    #[error("zstd could not be set up")]
    Zstd(#[from] std::io::Error),
}

/// The AWS clients.
#[derive(Debug, Clone)]
pub struct Clients {
    /// For files and quarantine.
    pub s3: aws_sdk_s3::Client,
    /// For notices.
    pub sns: aws_sdk_sns::Client,
    /// For draining.
    pub sqs: aws_sdk_sqs::Client,
    /// The region that notices name.
    pub region: String,
}

/// Everything a handler needs.
#[derive(Debug)]
pub struct App {
    /// The settings.
    pub config: Config,
    /// The event types.
    pub registry: Registry,
    /// The columns of every file.
    pub table: Table,
    /// The AWS clients.
    pub clients: Clients,
    zstd: Mutex<Zstd>,
}

impl App {
    /// Sets everything up but connects nowhere.
    pub fn new(config: Config, clients: Clients) -> Result<Self, StartError> {
        let registry = Registry::embedded()?;
        let table = Table::new(&registry, config.format != EventsFormat::Parquet)?;
        let zstd = Mutex::new(Zstd::new(config.zstd_level)?);
        Ok(Self { config, registry, table, clients, zstd })
    }

    /// Runs `encode` with the sandbox's compression context.
    pub fn with_zstd<T>(&self, encode: impl FnOnce(&mut Zstd) -> T) -> T {
        encode(&mut self.zstd.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clients {
    /// Clients that share one configuration.
    #[must_use]
    pub fn of(config: &SdkConfig) -> Self {
        Self {
            s3: aws_sdk_s3::Client::new(config),
            sns: aws_sdk_sns::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
            region: config.region().map_or_else(|| "us-east-1".to_owned(), ToString::to_string),
        }
    }
}
