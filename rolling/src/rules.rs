//! The settings that decide which records go into which file. kafka-roller reads them from its environment,
//! `landfall audit --repair` from the configuration of the deployed function.

use runtime::settings::{Lookup, SettingError, Settings};
use shared::layout::Segment;

use crate::{
    line::TableOf,
    shard::{Limits, Target},
};

/// Which records go into which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `INCOMING_BUCKET`: bucket that files are written to. Required.
    pub incoming_bucket: String,
    /// `TABLE`: the table that every record belongs to. `TABLE_POINTER`: a JSON pointer to the string in a record that
    /// names its table, such as `/topic`. One of the two is required.
    pub table_of: TableOf,
    /// `ROLL_MAX_RECORDS`: a file is closed when it holds this many records, 10,000 by default. `ROLL_MAX_BYTES`: before
    /// it would exceed this size before compression, 128 MiB by default. `ROLL_MAX_SECONDS`: when its oldest record is
    /// this old, 3,600 by default.
    pub limits: Limits,
    /// `ROLL_COMPRESSION`: `none`, the default, or `gzip`; then files end in `.json.gz`.
    pub gzip: bool,
}

impl Rules {
    /// The limits of the files of a table, and where they go.
    #[must_use]
    pub fn of(&self, _table: &Segment) -> (Limits, Target) {
        (self.limits, Target { bucket: self.incoming_bucket.clone(), gzip: self.gzip })
    }

    /// Reads the rules from settings.
    pub fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        let seconds: i64 = settings.number("ROLL_MAX_SECONDS", 3_600, 1..=86_400)?;
        Ok(Self {
            incoming_bucket: settings.required("INCOMING_BUCKET", "it names the bucket that files go to")?,
            table_of: table_of(settings)?,
            limits: Limits {
                records: settings.number("ROLL_MAX_RECORDS", 10_000, 1..=10_000_000)?,
                bytes: settings.number("ROLL_MAX_BYTES", 128 << 20, 1 << 10..=10 << 30)?,
                age_ms: seconds * 1_000,
            },
            gzip: settings.one_of("ROLL_COMPRESSION", false, &[("none", false), ("gzip", true)])?,
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

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: [(&str, &str); 2] = [("INCOMING_BUCKET", "incoming"), ("TABLE_POINTER", "/topic")];

    fn with(extra: &[(&'static str, &'static str)]) -> Result<Rules, String> {
        let lookup = |name| {
            let all = extra.iter().chain(&NEEDED);
            all.into_iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
        };
        Rules::from_settings(&Settings::new(lookup)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_bucket_and_a_table_are_enough() {
        let rules = with(&[]).unwrap();
        assert_eq!(rules.limits, Limits { records: 10_000, bytes: 134_217_728, age_ms: 3_600_000 });
        assert_eq!(rules.table_of, TableOf::Pointer("/topic".parse().unwrap()));
        assert!(!rules.gzip);
        let rules = with(&[("TABLE_POINTER", ""), ("TABLE", "sample"), ("ROLL_COMPRESSION", "gzip")]).unwrap();
        assert_eq!(rules.table_of, TableOf::Fixed("sample".parse().unwrap()));
        assert!(rules.gzip);
    }

    #[test]
    fn every_mistake_is_a_sentence_that_names_the_variable() {
        for (variable, sentence) in [
            (
                ("INCOMING_BUCKET", ""),
                "environment variable INCOMING_BUCKET is not set; it names the bucket that files go to",
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
