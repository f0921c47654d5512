//! The function's settings, read from the environment once, in the init phase.
//!
//! The doc comment of each field is also its row in the README; a test compares the two and the template.

use runtime::settings::{self, Lookup, SettingError, Settings};

/// The function's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `STACK_NAME`: name of the stack, a dimension of the metrics; `landfall` by default.
    pub stack: String,
    /// `INCOMING_BUCKET`: bucket of the objects. Required.
    pub incoming_bucket: String,
    /// `LAKE_BUCKET`: bucket that files, archived objects and quarantined rows are written to. Required.
    pub lake_bucket: String,
    /// `REGISTRAR_FUNCTION`: name of load-registrar, which is asked for loads and told of steps. Required.
    pub registrar: String,
    /// `QUEUE_URL`: the queue with a message for each claimed load. Required.
    pub queue_url: String,
    /// `MAX_QUEUED`: loads are claimed until this many messages are in the queue, 50 by default.
    pub max_queued: u32,
    /// `MAX_OBJECT_MB`: a larger object is given up with the reason `too_large`, 2,048 by default. It limits time, not memory.
    pub max_object_bytes: u64,
    /// `MAX_QUARANTINED_ROWS`: a load with more rows that do not fit is given up with the reason `too_many_misfits`, 10,000 by default.
    pub max_quarantined: u64,
    /// `ZSTD_LEVEL`: compression level of Parquet pages, 1 (the default) to 22.
    pub zstd_level: i32,
}

impl Config {
    /// Reads the environment.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_settings(&settings::environment())
    }

    /// Reads the variables that `lookup` gives.
    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingError> {
        Self::from_settings(&Settings::new(lookup))
    }

    fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        Ok(Self {
            stack: settings.stack(),
            incoming_bucket: settings.required("INCOMING_BUCKET", "it names the bucket of the objects")?,
            lake_bucket: settings.required("LAKE_BUCKET", "it names the bucket that files are written to")?,
            registrar: settings.required("REGISTRAR_FUNCTION", "it names load-registrar, which knows the loads")?,
            queue_url: settings.required("QUEUE_URL", "it names the queue of claimed loads")?,
            max_queued: settings.number("MAX_QUEUED", 50, 1..=1_000)?,
            max_object_bytes: settings.number("MAX_OBJECT_MB", 2_048, 1..=5_000_000)? << 20,
            max_quarantined: settings.number("MAX_QUARANTINED_ROWS", 10_000, 0..=u64::MAX)?,
            zstd_level: settings.number("ZSTD_LEVEL", 1, 1..=22)?,
        })
    }
}
