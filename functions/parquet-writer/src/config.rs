//! The function's settings, read from the environment once, in the init phase.
//!
//! Each field's documentation is also its row in the README; a test keeps the two and the template in step.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use shared::layout::EventsFormat;

/// What the function is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `LAKE_BUCKET`: bucket that files and quarantined records are written to. Required.
    pub bucket: String,
    /// `NOTIFY`: who announces a file, `lambda` (this function, the default) or `s3` (the bucket's own notification).
    pub notify: Notify,
    /// `OUTPUT_FORMAT`: `parquet` (the default), `ndjson` or `ndjson.gz`.
    pub format: EventsFormat,
    /// `ZSTD_LEVEL`: compression level of Parquet pages, 1 (the default) to 22.
    pub zstd_level: i32,
    /// `ROW_GROUP_ROWS`: most rows in a Parquet row group, 1,048,576 by default. A row group also ends at 32 MiB of
    /// payload.
    pub row_group_rows: usize,
    /// `DRAIN_TARGET_BYTES`: go on receiving from the queue until a file holds so many bytes of payload. 0, the
    /// default, writes what the event brought. At most a quarter of the memory beyond 256 MB.
    pub drain: Option<Drain>,
}

/// Who tells the topic that a file has landed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notify {
    /// This function does, to the topic `LANDED_TOPIC_ARN`. Required when `NOTIFY=lambda`.
    Lambda {
        /// ARN of the topic.
        topic_arn: String,
    },
    /// S3 does, by the bucket's notification configuration.
    S3,
}

/// How much more than the event to receive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Bytes of payload at which a file is large enough.
    pub target_bytes: usize,
    /// Memory that messages may take on their way to a file: what the function has beyond 256 MB. Small messages reach
    /// it before they reach the target.
    pub memory_bytes: usize,
    /// `DRAIN_MAX_SECONDS`: longest time to spend on receiving, 30 by default, 1 to 600. Never more than half of what
    /// is left of the invocation.
    pub max_time: Duration,
    /// `QUEUE_URL`: the queue to receive from. Required when `DRAIN_TARGET_BYTES` is not 0.
    pub queue_url: String,
}

/// Why the function cannot start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A required variable is not there.
    #[error("environment variable {name} is not set; {why}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// A variable has a value that means nothing here.
    #[error("environment variable {name} is {value:?}; it must be {expected}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
}

/// Memory that the function needs besides the batch.
const BASE_MEMORY_BYTES: u64 = 256 << 20;
/// A batch is held as payloads, as columns, encoded and compressed; the worst of these together is this many times it.
const MEMORY_PER_PAYLOAD_BYTE: u64 = 4;

impl Config {
    /// Reads the environment.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// Reads variables from `lookup`. An empty value counts as unset.
    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, ConfigError> {
        let variables = Variables(|name| lookup(name).filter(|value| !value.is_empty()));
        Ok(Self {
            bucket: variables.required("LAKE_BUCKET", "it names the bucket that files are written to")?,
            notify: variables.notify()?,
            format: variables.format()?,
            zstd_level: variables.number("ZSTD_LEVEL", 1, 1..=22)?,
            row_group_rows: variables.number("ROW_GROUP_ROWS", 1 << 20, 1..=1 << 24)?,
            drain: variables.drain()?,
        })
    }
}

struct Variables<F>(F);

impl<F: Fn(&'static str) -> Option<String>> Variables<F> {
    fn required(&self, name: &'static str, why: &'static str) -> Result<String, ConfigError> {
        (self.0)(name).ok_or(ConfigError::Missing { name, why })
    }

    fn number<T>(&self, name: &'static str, default: T, range: RangeInclusive<T>) -> Result<T, ConfigError>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(value) = (self.0)(name) else { return Ok(default) };
        match value.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                Err(ConfigError::Invalid { name, value, expected })
            }
        }
    }

    fn notify(&self) -> Result<Notify, ConfigError> {
        match (self.0)("NOTIFY").as_deref() {
            None | Some("lambda") => {
                let why = "it names the topic that NOTIFY=lambda announces files on";
                Ok(Notify::Lambda { topic_arn: self.required("LANDED_TOPIC_ARN", why)? })
            }
            Some("s3") => Ok(Notify::S3),
            Some(value) => {
                let expected = "\"lambda\" or \"s3\"".to_owned();
                Err(ConfigError::Invalid { name: "NOTIFY", value: value.to_owned(), expected })
            }
        }
    }

    fn format(&self) -> Result<EventsFormat, ConfigError> {
        let Some(value) = (self.0)("OUTPUT_FORMAT") else { return Ok(EventsFormat::Parquet) };
        EventsFormat::ALL.into_iter().find(|format| format.extension() == value).ok_or_else(|| {
            let expected = "\"parquet\", \"ndjson\" or \"ndjson.gz\"".to_owned();
            ConfigError::Invalid { name: "OUTPUT_FORMAT", value, expected }
        })
    }

    fn drain(&self) -> Result<Option<Drain>, ConfigError> {
        // Lambda sets the memory size; elsewhere there is none to respect.
        let memory_mb: u64 = self.number("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 10_240, 1..=u64::MAX >> 20)?;
        let memory = (memory_mb << 20).saturating_sub(BASE_MEMORY_BYTES);
        let limit = memory / MEMORY_PER_PAYLOAD_BYTE;
        let target: u64 = self.number("DRAIN_TARGET_BYTES", 0, 0..=limit)?;
        let max_seconds = self.number("DRAIN_MAX_SECONDS", 30, 1..=600)?;
        if target == 0 {
            return Ok(None);
        }
        let why = "it names the queue that DRAIN_TARGET_BYTES receives from";
        let queue_url = self.required("QUEUE_URL", why)?;
        let [target_bytes, memory_bytes] = [target, memory].map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Some(Drain { target_bytes, memory_bytes, max_time: Duration::from_secs(max_seconds), queue_url }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&'static str, &str)]) -> Result<Config, String> {
        let lookup = |name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Config::from_lookup(lookup).map_err(|error| error.to_string())
    }

    const MINIMUM: [(&str, &str); 2] =
        [("LAKE_BUCKET", "lake"), ("LANDED_TOPIC_ARN", "arn:aws:sns:eu-west-1:1:landed")];

    #[test]
    fn two_variables_are_enough() {
        let config = config(&MINIMUM).unwrap();
        assert_eq!(config.format, EventsFormat::Parquet);
        assert_eq!(config.drain, None);
        assert_eq!(config.zstd_level, 1);
    }

    #[test]
    fn every_mistake_is_a_sentence_that_names_the_variable() {
        for (extra, sentence) in [
            (
                &[("LAKE_BUCKET", "")][..],
                "environment variable LAKE_BUCKET is not set; it names the bucket that files are written to",
            ),
            (
                &[("LANDED_TOPIC_ARN", "")],
                "environment variable LANDED_TOPIC_ARN is not set; it names the topic that NOTIFY=lambda announces files on",
            ),
            (&[("NOTIFY", "sns")], "environment variable NOTIFY is \"sns\"; it must be \"lambda\" or \"s3\""),
            (
                &[("OUTPUT_FORMAT", "csv")],
                "environment variable OUTPUT_FORMAT is \"csv\"; it must be \"parquet\", \"ndjson\" or \"ndjson.gz\"",
            ),
            (
                &[("ZSTD_LEVEL", "fast")],
                "environment variable ZSTD_LEVEL is \"fast\"; it must be a whole number from 1 to 22",
            ),
            (
                &[("ROW_GROUP_ROWS", "0")],
                "environment variable ROW_GROUP_ROWS is \"0\"; it must be a whole number from 1 to 16777216",
            ),
            (
                &[("DRAIN_TARGET_BYTES", "100000000"), ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512")],
                "environment variable DRAIN_TARGET_BYTES is \"100000000\"; it must be a whole number from 0 to 67108864",
            ),
            (
                &[("DRAIN_TARGET_BYTES", "1000")],
                "environment variable QUEUE_URL is not set; it names the queue that DRAIN_TARGET_BYTES receives from",
            ),
            (
                &[("DRAIN_MAX_SECONDS", "0")],
                "environment variable DRAIN_MAX_SECONDS is \"0\"; it must be a whole number from 1 to 600",
            ),
        ] {
            let variables: Vec<_> = extra.iter().chain(&MINIMUM).copied().collect();
            assert_eq!(config(&variables).unwrap_err(), sentence);
        }
    }

    #[test]
    fn s3_notifications_need_no_topic() {
        assert_eq!(config(&[("LAKE_BUCKET", "lake"), ("NOTIFY", "s3")]).unwrap().notify, Notify::S3);
    }
}
