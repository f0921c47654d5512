//! The function's settings, read from the environment once, in the init phase.
//!
//! Each field's documentation is also its row in the README; a test keeps the two and the template in step.

use runtime::settings::{self, Lookup, SettingError, Settings};

use crate::{line::TableOf, window::Limits};

/// What the function is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `INCOMING_BUCKET`: bucket that files are written to. Required.
    pub incoming_bucket: String,
    /// `LAKE_BUCKET`: bucket that open windows are staged in and quarantined records are written to. Required.
    pub lake_bucket: String,
    /// `TABLE`: the table that every record belongs to. `TABLE_POINTER`: a JSON pointer to the string in a record that names
    /// its table, such as `/topic`. One of the two is required.
    pub table_of: TableOf,
    /// `ROLL_MAX_RECORDS`: a file is closed at so many records, 10,000 by default. `ROLL_MAX_BYTES`: before it would be
    /// larger, before compression, 128 MiB by default. `ROLL_MAX_SECONDS`: when its oldest record is so old, 3,600 by
    /// default.
    pub limits: Limits,
    /// `ROLL_COMPRESSION`: `none`, the default, or `gzip`; then files end in `.json.gz`.
    pub gzip: bool,
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
        let seconds: i64 = settings.number("ROLL_MAX_SECONDS", 3_600, 1..=86_400)?;
        Ok(Self {
            incoming_bucket: settings.required("INCOMING_BUCKET", "it names the bucket that files go to")?,
            lake_bucket: settings
                .required("LAKE_BUCKET", "it names the bucket of open windows and of quarantined records")?,
            table_of: table_of(settings)?,
            limits: Limits {
                records: settings.number("ROLL_MAX_RECORDS", 10_000, 1..=10_000_000)?,
                bytes: settings.number("ROLL_MAX_BYTES", 128 << 20, 1 << 10..=10 << 30)?,
                age_ms: seconds * 1_000,
            },
            gzip: gzip(settings)?,
        })
    }
}

fn table_of(settings: &Settings<impl Lookup>) -> Result<TableOf, SettingError> {
    let invalid = |name, value, expected: &str| SettingError::Invalid { name, value, expected: expected.to_owned() };
    match (settings.optional("TABLE"), settings.optional("TABLE_POINTER")) {
        (Some(table), None) => match table.parse() {
            Ok(segment) => Ok(TableOf::Fixed(segment)),
            Err(_) => Err(invalid("TABLE", table, "a table's name: letters, digits, '.', '_' and '-'")),
        },
        (None, Some(pointer)) => match pointer.parse() {
            Ok(parsed) => Ok(TableOf::Pointer(parsed)),
            Err(()) => Err(invalid("TABLE_POINTER", pointer, "a JSON pointer such as /topic")),
        },
        (Some(_), Some(pointer)) => Err(invalid("TABLE_POINTER", pointer, "left out when TABLE is set")),
        (None, None) => {
            let why = "it, or TABLE, says which table a record belongs to";
            Err(SettingError::Missing { name: "TABLE_POINTER", why })
        }
    }
}

fn gzip(settings: &Settings<impl Lookup>) -> Result<bool, SettingError> {
    let name = "ROLL_COMPRESSION";
    match settings.optional(name).as_deref() {
        None | Some("none") => Ok(false),
        Some("gzip") => Ok(true),
        Some(value) => {
            Err(SettingError::Invalid { name, value: value.to_owned(), expected: "\"none\" or \"gzip\"".to_owned() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [(&str, &str); 3] =
        [("INCOMING_BUCKET", "incoming"), ("LAKE_BUCKET", "lake"), ("TABLE_POINTER", "/topic")];

    fn with(extra: &[(&'static str, &'static str)]) -> Result<Config, String> {
        let lookup = |name| {
            let all = extra.iter().chain(&NEEDED);
            all.into_iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        Config::from_lookup(lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn two_buckets_and_a_table_are_enough() {
        let config = with(&[]).unwrap();
        assert_eq!(config.limits, Limits { records: 10_000, bytes: 134_217_728, age_ms: 3_600_000 });
        assert_eq!(config.table_of, TableOf::Pointer("/topic".parse().unwrap()));
        assert!(!config.gzip);
        let config = with(&[("TABLE_POINTER", ""), ("TABLE", "sample"), ("ROLL_COMPRESSION", "gzip")]).unwrap();
        assert_eq!(config.table_of, TableOf::Fixed("sample".parse().unwrap()));
        assert!(config.gzip);
    }

    #[test]
    fn every_mistake_is_a_sentence_that_names_the_variable() {
        for (variable, sentence) in [
            (
                ("INCOMING_BUCKET", ""),
                "environment variable INCOMING_BUCKET is not set; it names the bucket that files go to",
            ),
            (
                ("LAKE_BUCKET", ""),
                "environment variable LAKE_BUCKET is not set; it names the bucket of open windows and of quarantined \
                 records",
            ),
            (
                ("TABLE_POINTER", ""),
                "environment variable TABLE_POINTER is not set; it, or TABLE, says which table a record belongs to",
            ),
            (
                ("TABLE_POINTER", "topic"),
                "environment variable TABLE_POINTER is \"topic\"; it must be a JSON pointer such as /topic",
            ),
            (
                ("TABLE", "sample"),
                "environment variable TABLE_POINTER is \"/topic\"; it must be left out when TABLE is set",
            ),
            (
                ("ROLL_MAX_RECORDS", "0"),
                "environment variable ROLL_MAX_RECORDS is \"0\"; it must be a whole number from 1 to 10000000",
            ),
            (
                ("ROLL_MAX_BYTES", "1"),
                "environment variable ROLL_MAX_BYTES is \"1\"; it must be a whole number from 1024 to 10737418240",
            ),
            (
                ("ROLL_MAX_SECONDS", "1h"),
                "environment variable ROLL_MAX_SECONDS is \"1h\"; it must be a whole number from 1 to 86400",
            ),
            (
                ("ROLL_COMPRESSION", "zstd"),
                "environment variable ROLL_COMPRESSION is \"zstd\"; it must be \"none\" or \"gzip\"",
            ),
        ] {
            assert_eq!(with(&[variable]).unwrap_err(), sentence);
        }
        let table = with(&[("TABLE_POINTER", ""), ("TABLE", "../sample")]).unwrap_err();
        assert!(table.starts_with("environment variable TABLE is \"../sample\"; it must be a table's name"), "{table}");
    }
}
