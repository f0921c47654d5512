//! The function's settings, read from the environment once, in the init phase.
//!
//! The doc comment of each field, here and in [`Rules`], is also its row in the README; a test compares the two and the
//! template.

use std::time::Duration;

use rolling::rules::Rules;
use runtime::settings::{self, Lookup, SettingError, Settings};

/// The function's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `STACK_NAME`: name of the stack, a dimension of the metrics; `landfall` by default.
    pub stack: String,
    /// `LAKE_BUCKET`: bucket that open windows are staged in and quarantined records are written to. Required.
    pub lake_bucket: String,
    /// `MAX_TICK_AHEAD_SECONDS`: how far the time of a tick may be ahead of the clock, 300 by default. Files are closed by
    /// that time, so one from the future would close all.
    pub max_tick_ahead: Duration,
    /// Which records go into which file.
    pub rules: Rules,
}

impl Config {
    /// Reads the environment.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_settings(&settings::environment())
    }

    /// Reads variables from `lookup`.
    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingError> {
        Self::from_settings(&Settings::new(lookup))
    }

    fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        let why = "it names the bucket of open windows and of quarantined records";
        Ok(Self {
            stack: settings.stack(),
            lake_bucket: settings.required("LAKE_BUCKET", why)?,
            max_tick_ahead: Duration::from_secs(settings.number("MAX_TICK_AHEAD_SECONDS", 300, 0..=604_800)?),
            rules: Rules::from_settings(settings)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lake_is_needed_besides_the_rules() {
        let of = |lake: &'static str| {
            Config::from_lookup(move |name| match name {
                "LAKE_BUCKET" => Some(lake.to_owned()),
                "INCOMING_BUCKET" => Some("incoming".to_owned()),
                "TABLE" => Some("sample".to_owned()),
                _ => None,
            })
        };
        assert_eq!(of("lake").unwrap().lake_bucket, "lake");
        assert_eq!(
            of("").unwrap_err().to_string(),
            "environment variable LAKE_BUCKET is not set; it names the bucket of open windows and of quarantined records",
        );
    }
}
