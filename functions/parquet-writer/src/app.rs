//! What lives as long as the execution environment: settings, schema, clients and the compression context.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_config::SdkConfig;
use columns::Zstd;
use landing::table::Tables;
use objects::S3;
use runtime::settings::SettingError;
use shared::event::{Registry, RegistryError};
use shared::layout::{EventsFormat, LayoutError};

use tracing::warn;

use crate::config::Config;

/// What a message needs as NDJSON, beside what it needs as Parquet.
const NDJSON_PER_BYTE: usize = 8;
/// When an attempt of a call to AWS fails. The shortest timeout of the function is 30 seconds, in which two attempts have to fit.
pub const ATTEMPT: Duration = Duration::from_secs(10);

/// Why the function cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A setting is missing or invalid.
    #[error(transparent)]
    Config(#[from] SettingError),
    /// The event types cannot be registered.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A column cannot be the name of a folder.
    #[error(transparent)]
    Folder(#[from] LayoutError),
    /// zstd could not be set up.
    #[error("zstd could not be set up")]
    Zstd(#[from] std::io::Error),
}

/// The AWS clients.
#[derive(Debug, Clone)]
pub struct Clients {
    /// For files and quarantined records.
    pub s3: objects::Client,
    /// For notifications.
    pub sns: aws_sdk_sns::Client,
    /// For receiving more messages.
    pub sqs: aws_sdk_sqs::Client,
}

/// Everything a handler needs.
#[derive(Debug)]
pub struct App {
    pub config: Config,
    pub registry: Registry,
    /// The schemas of the files.
    pub tables: Tables,
    /// Where files and quarantined records go.
    pub lake: S3,
    pub clients: Clients,
    zstd: Mutex<Zstd>,
}

impl App {
    /// Sets everything up for the event types of this build, without connecting.
    pub fn new(config: Config, clients: Clients) -> Result<Self, StartError> {
        Self::with_registry(config, clients, Registry::embedded()?)
    }

    /// Sets everything up for these event types.
    pub fn with_registry(mut config: Config, clients: Clients, registry: Registry) -> Result<Self, StartError> {
        let finite_floats = config.format != EventsFormat::Parquet;
        let tables = Tables::new(&registry, config.by_type, finite_floats)?;
        if let Some(drain) = &mut config.drain {
            let needed = tables.encoding_bytes();
            drain.memory_bytes = drain.memory_bytes.saturating_sub(needed);
            if finite_floats {
                // A file of NDJSON is in memory as a whole, with the name of every member and every value of an enum.
                drain.memory_bytes /= NDJSON_PER_BYTE;
                drain.target_bytes = drain.target_bytes.min(drain.memory_bytes);
            }
            if drain.memory_bytes == 0 {
                warn!(
                    needed_mb = needed >> 20,
                    "nothing is drained, because the columns of all types need this much memory more"
                );
            }
        }
        let zstd = Mutex::new(Zstd::new(config.zstd_level)?);
        let lake = S3::new(&clients.s3, &config.bucket);
        Ok(Self { config, registry, tables, lake, clients, zstd })
    }

    /// Runs `encode` with the compression context of the execution environment.
    pub fn with_zstd<T>(&self, encode: impl FnOnce(&mut Zstd) -> T) -> T {
        encode(&mut self.zstd.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Clients {
    /// Creates all clients with the same configuration.
    #[must_use]
    pub fn of(config: &SdkConfig) -> Self {
        Self {
            s3: objects::Client::new(config),
            sns: aws_sdk_sns::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
        }
    }
}
