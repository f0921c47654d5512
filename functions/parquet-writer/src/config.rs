//! The function's settings, read from the environment once, in the init phase.
//!
//! The doc comment of each field is also its row in the README; a test compares the two and the template.

use std::time::Duration;

use landing::{batch::QUARANTINE_BYTES, encode::FileRules};
use runtime::settings::{self, Lookup, SettingError, Settings};
use shared::layout::EventsFormat;

/// The function's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `STACK_NAME`: name of the stack, a dimension of the metrics; `landfall` by default.
    pub stack: String,
    /// `LAKE_BUCKET`: bucket that files and quarantined records are written to. Required.
    pub bucket: String,
    /// `NOTIFY`: who publishes the notification about a file, `lambda` (this function, the default) or `s3` (the bucket).
    pub notify: Notify,
    /// `QUEUE_URL`: the queue of the messages, whose visibility is changed when they fail. Required when `DRAIN_TARGET_BYTES` is
    /// not 0, to receive from it.
    pub queue_url: Option<String>,
    /// `OUTPUT_FORMAT`: `parquet` (the default), `ndjson` or `ndjson.gz`.
    pub format: EventsFormat,
    /// `EVENTS_LAYOUT`: `together` (a file has events of all types, the default) or `by-type` (each type has a folder, and files with its
    /// columns only).
    pub by_type: bool,
    /// `EVENT_TIME_MAX_AGE_DAYS`: how long before it was sent an event may have happened to land in the folder of that day, if its
    /// type names an `event_time`; 30 by default, 0 to 36,500.
    pub event_time_max_age_days: i64,
    /// `ZSTD_LEVEL`: compression level of Parquet pages, 1 (the default) to 22.
    pub zstd_level: i32,
    /// `ROW_GROUP_ROWS`: maximum number of rows in a Parquet row group, 1,048,576 by default. A row group also ends at
    /// an eighth of the memory beyond 256 MB, at least 8 and at most 64 MiB.
    pub row_group_rows: usize,
    /// The memory of a row group's columns.
    pub row_group_bytes: usize,
    /// `DRAIN_TARGET_BYTES`: receive more messages from the queue until there are this many bytes of payload. 0, the
    /// default, writes only the messages of the event. At most a quarter of the memory beyond 256 MB.
    pub drain: Option<Drain>,
}

/// Who publishes the notification that a file has been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notify {
    /// This function, to the topic `LANDED_TOPIC_ARN`. Required when `NOTIFY=lambda`.
    Lambda {
        /// ARN of the topic.
        topic_arn: String,
    },
    /// S3, by the bucket's notification configuration.
    S3 {
        /// ARN of the topic for notices that are still in the outbox, from the time when the function published them.
        topic_arn: Option<String>,
    },
}

impl Notify {
    /// ARN of the topic.
    #[must_use]
    pub fn topic_arn(&self) -> Option<&str> {
        match self {
            Self::Lambda { topic_arn } => Some(topic_arn),
            Self::S3 { topic_arn } => topic_arn.as_deref(),
        }
    }
}

/// How to receive more messages than the event contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Bytes of payload at which receiving ends.
    pub target_bytes: usize,
    /// Memory that messages may need; see [`Batch::memory_bytes`](landing::batch::Batch::memory_bytes). With small messages this limit is reached before the
    /// target.
    pub memory_bytes: usize,
    /// `DRAIN_MAX_SECONDS`: maximum time for receiving, 30 by default, 1 to 600. Never more than half of the time that is
    /// left of the invocation.
    pub max_time: Duration,
    /// `DRAIN_WAIT_SECONDS`: how long to go on when the queue has no backlog, for messages that arrive meanwhile. 0, the default,
    /// takes what is there. At most `DRAIN_MAX_SECONDS`.
    pub wait: Duration,
    /// The queue to receive from.
    pub queue_url: String,
}

/// Memory that the function needs in addition to the batch.
const BASE_MEMORY_BYTES: u64 = 256 << 20;
/// The target is at most this part of the memory beyond that. Messages with it need twice their bytes, and more if they are small.
const MEMORY_PER_PAYLOAD_BYTE: u64 = 4;
/// A row group is in memory as columns, as encoded pages and as what encoding needs.
const ROW_GROUP_COPIES: u64 = 4;
const QUARANTINE_COPIES: u64 = 3;

impl Config {
    /// Reads the environment.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_settings(&settings::environment())
    }

    /// Reads variables from `lookup`.
    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingError> {
        Self::from_settings(&Settings::new(lookup))
    }

    /// How files are written.
    #[must_use]
    pub const fn file_rules(&self) -> FileRules {
        FileRules { format: self.format, row_group_rows: self.row_group_rows, row_group_bytes: self.row_group_bytes }
    }

    fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        // Lambda sets this variable. Elsewhere the memory is not limited.
        let memory_mb: u64 = settings.number("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 10_240, 1..=u64::MAX >> 20)?;
        let memory = (memory_mb << 20).saturating_sub(BASE_MEMORY_BYTES);
        let row_group_bytes = (memory / 8).clamp(8 << 20, 64 << 20);
        Ok(Self {
            stack: settings.stack(),
            bucket: settings.required("LAKE_BUCKET", "it names the bucket that files are written to")?,
            notify: notify(settings)?,
            queue_url: settings.optional("QUEUE_URL"),
            format: settings.one_of(
                "OUTPUT_FORMAT",
                EventsFormat::Parquet,
                &EventsFormat::ALL.map(|format| (format.extension(), format)),
            )?,
            by_type: settings.one_of("EVENTS_LAYOUT", false, &[("together", false), ("by-type", true)])?,
            event_time_max_age_days: settings.number("EVENT_TIME_MAX_AGE_DAYS", 30, 0..=36_500)?,
            zstd_level: settings.number("ZSTD_LEVEL", 1, 1..=22)?,
            row_group_rows: settings.number("ROW_GROUP_ROWS", 1 << 20, 1..=1 << 24)?,
            row_group_bytes: bytes(row_group_bytes),
            drain: drain(settings, memory, row_group_bytes)?,
        })
    }
}

fn notify(settings: &Settings<impl Lookup>) -> Result<Notify, SettingError> {
    let name = "LANDED_TOPIC_ARN";
    let by_s3 = settings.one_of("NOTIFY", false, &[("lambda", false), ("s3", true)])?;
    let topic_arn = match settings.optional(name) {
        None if by_s3 => return Ok(Notify::S3 { topic_arn: None }),
        None => settings.required(name, "it names the topic that NOTIFY=lambda announces files on")?,
        Some(topic_arn) => topic_arn,
    };
    match topic_arn.split(':').collect::<Vec<_>>().as_slice() {
        ["arn", _, "sns", _, _, _] if by_s3 => Ok(Notify::S3 { topic_arn: Some(topic_arn) }),
        ["arn", _, "sns", _, _, _] => Ok(Notify::Lambda { topic_arn }),
        _ => {
            let expected = "the ARN of a topic, such as arn:aws:sns:eu-west-1:123456789012:landed".to_owned();
            Err(SettingError::Invalid { name, value: topic_arn, expected })
        }
    }
}

fn drain(settings: &Settings<impl Lookup>, memory: u64, row_group_bytes: u64) -> Result<Option<Drain>, SettingError> {
    let limit = memory / MEMORY_PER_PAYLOAD_BYTE;
    let target: u64 = settings.number("DRAIN_TARGET_BYTES", 0, 0..=limit)?;
    let max_seconds = settings.number("DRAIN_MAX_SECONDS", 30, 1..=600)?;
    let wait_seconds = settings.number("DRAIN_WAIT_SECONDS", 0, 0..=600)?;
    if target == 0 {
        return Ok(None);
    }
    let why = "it names the queue that DRAIN_TARGET_BYTES receives from";
    let queue_url = settings.required("QUEUE_URL", why)?;
    let fixed = ROW_GROUP_COPIES * row_group_bytes + QUARANTINE_COPIES * QUARANTINE_BYTES as u64;
    let memory_bytes = bytes(memory.saturating_sub(fixed));
    let [max_time, wait] = [max_seconds, wait_seconds].map(Duration::from_secs);
    Ok(Some(Drain { target_bytes: bytes(target), memory_bytes, max_time, wait, queue_url }))
}

fn bytes(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
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
            (
                &[("LANDED_TOPIC_ARN", "landed")],
                "environment variable LANDED_TOPIC_ARN is \"landed\"; it must be the ARN of a topic, such as arn:aws:sns:eu-west-1:123456789012:landed",
            ),
            (&[("NOTIFY", "sns")], "environment variable NOTIFY is \"sns\"; it must be \"lambda\" or \"s3\""),
            (
                &[("OUTPUT_FORMAT", "csv")],
                "environment variable OUTPUT_FORMAT is \"csv\"; it must be \"parquet\", \"ndjson\" or \"ndjson.gz\"",
            ),
            (
                &[("EVENTS_LAYOUT", "apart")],
                "environment variable EVENTS_LAYOUT is \"apart\"; it must be \"together\" or \"by-type\"",
            ),
            (
                &[("EVENT_TIME_MAX_AGE_DAYS", "-1")],
                "environment variable EVENT_TIME_MAX_AGE_DAYS is \"-1\"; it must be a whole number from 0 to 36500",
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
                &[("DRAIN_WAIT_SECONDS", "601")],
                "environment variable DRAIN_WAIT_SECONDS is \"601\"; it must be a whole number from 0 to 600",
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
        let notify = config(&[("LAKE_BUCKET", "lake"), ("NOTIFY", "s3")]).unwrap().notify;
        assert_eq!(notify, Notify::S3 { topic_arn: None });
        // Notices may still be in the outbox.
        let notify = config(&[&MINIMUM[..], &[("NOTIFY", "s3")]].concat()).unwrap().notify;
        assert_eq!(notify.topic_arn(), Some("arn:aws:sns:eu-west-1:1:landed"));
    }
}
