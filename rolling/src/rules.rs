//! The settings that decide which records go into which file. kafka-roller reads them from its environment,
//! `landfall audit --repair` from the configuration of the deployed function. A table may have some of its own, which
//! `landfall tables apply` puts into an object of the lake bucket.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use runtime::settings::{Lookup, SettingError, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shared::layout::Segment;

use crate::{
    line::{Lines, TableOf},
    shard::{Limits, Target},
};

/// The key of the object in the lake bucket that holds [`TableRules`] as JSON.
pub const TABLES: &str = "settings/kafka-roller.json";

const RECORDS: RangeInclusive<usize> = 1..=10_000_000;
const BYTES: RangeInclusive<u64> = 1 << 10..=1 << 30;
const SECONDS: RangeInclusive<i64> = 1..=86_400;

/// The rules of tables that have some of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRules {
    /// By the table's name.
    pub tables: BTreeMap<Segment, Own>,
}

impl TableRules {
    /// Reads the object that [`to_bytes`](Self::to_bytes) made. Members that a newer version knows are ignored.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, TableRulesError> {
        match Self::as_far_as_possible(bytes)? {
            (rules, None) => Ok(rules),
            (_, Some(error)) => Err(error),
        }
    }

    /// The same, but a table whose rules cannot be used is paused, since nobody knows that it is not; and what the first problem is.
    pub fn as_far_as_possible(bytes: &[u8]) -> Result<(Self, Option<TableRulesError>), TableRulesError> {
        #[derive(Deserialize)]
        struct Raw {
            tables: BTreeMap<Segment, Value>,
        }
        let raw: Raw = serde_json::from_slice(bytes).map_err(|error| TableRulesError(error.to_string()))?;
        let (mut rules, mut first) = (Self::default(), None);
        for (table, value) in raw.tables {
            let own = serde_json::from_value(value).map_err(|error| error.to_string());
            let own = own.and_then(|own: Own| own.problem().map_or(Ok(own), Err)).unwrap_or_else(|problem| {
                first.get_or_insert(TableRulesError(format!("table {table}: {problem}")));
                Own { paused: true, ..Own::default() }
            });
            rules.tables.insert(table, own);
        }
        Ok((rules, first))
    }

    /// The object.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }
}

/// The object of the tables' rules cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{TABLES} cannot be used: {0}")]
pub struct TableRulesError(String);

/// What a table has of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Own {
    /// Instead of `ROLL_MAX_RECORDS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<usize>,
    /// Instead of `ROLL_MAX_SECONDS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<i64>,
    /// Instead of `ROLL_MAX_BYTES`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Instead of `ROLL_COMPRESSION`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<Compression>,
    /// Whether no more files of it are begun. Its records are staged and wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

/// How files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// With gzip.
    Gzip,
}

impl Compression {
    /// Its name, as `ROLL_COMPRESSION` has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
        }
    }
}

impl Own {
    /// What cannot be used, and what could be instead.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        fn beyond<N: PartialOrd + std::fmt::Display>(
            name: &str,
            value: Option<N>,
            range: &RangeInclusive<N>,
        ) -> Option<String> {
            let value = value.filter(|value| !range.contains(value))?;
            Some(format!("{name} is {value}; write a number from {} to {}", range.start(), range.end()))
        }
        let records = beyond("records", self.records, &RECORDS);
        records.or_else(|| beyond("seconds", self.seconds, &SECONDS)).or_else(|| beyond("bytes", self.bytes, &BYTES))
    }
}

/// Which records go into which file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `INCOMING_BUCKET`: bucket that files are written to. Required.
    pub incoming_bucket: String,
    /// `TABLE`: the table that every record belongs to. `TABLE_POINTER`: a JSON pointer to the string in a record that
    /// names its table, such as `/topic`. One of the two is required. `ROLL_ENVELOPE`: `none`, the default, or `position`;
    /// then each line says where its record comes from. `ROLL_NON_JSON`: `quarantine`, the default, or `base64`, with `TABLE`;
    /// then a record that is not JSON becomes a line, too.
    pub lines: Lines,
    /// `ROLL_MAX_RECORDS`: a file is closed when it holds this many records, 10,000 by default. `ROLL_MAX_BYTES`: before
    /// it would exceed this size before compression, 128 MiB by default. `ROLL_MAX_SECONDS`: when its oldest record is
    /// this old, 3,600 by default.
    pub limits: Limits,
    /// `ROLL_COMPRESSION`: `none`, the default, or `gzip`; then files end in `.json.gz`.
    pub gzip: bool,
    /// What tables have of their own. Rules are copied for each shard, these are not.
    pub tables: Arc<TableRules>,
    /// The tables whose files wait.
    pub waiting: Waiting,
}

/// Tables whose files wait, for others or until it is known how they have to be: none is begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waiting {
    /// These.
    Tables(BTreeSet<Segment>),
    /// All.
    All,
}

/// No table waits.
impl Default for Waiting {
    fn default() -> Self {
        Self::Tables(BTreeSet::new())
    }
}

impl Waiting {
    /// Those of both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Tables(mut tables), Self::Tables(mut others)) => {
                tables.append(&mut others);
                Self::Tables(tables)
            }
            _ => Self::All,
        }
    }

    fn holds(&self, table: &Segment) -> bool {
        match self {
            Self::Tables(tables) => tables.contains(table),
            Self::All => true,
        }
    }
}

impl Rules {
    /// The limits of the files of a table, and where they go. A table that is paused, or waits, has no limits.
    #[must_use]
    pub fn of(&self, table: &Segment) -> (Limits, Target) {
        let own = self.tables.tables.get(table).cloned().unwrap_or_default();
        let gzip = own.compression.map_or(self.gzip, |compression| compression == Compression::Gzip);
        let limits = match own.paused || self.waiting.holds(table) {
            true => Limits::NONE,
            false => Limits {
                records: own.records.unwrap_or(self.limits.records),
                bytes: own.bytes.unwrap_or(self.limits.bytes),
                age_ms: own.seconds.map_or(self.limits.age_ms, |seconds| seconds * 1_000),
            },
        };
        (limits, Target { bucket: self.incoming_bucket.clone(), gzip })
    }

    /// Whether no file of a table is begun because its rules say so.
    #[must_use]
    pub fn is_paused(&self, table: &Segment) -> bool {
        self.tables.tables.get(table).is_some_and(|own| own.paused)
    }

    /// The same rules, with these of tables.
    #[must_use]
    pub fn with(&self, tables: impl Into<Arc<TableRules>>) -> Self {
        Self { tables: tables.into(), ..self.clone() }
    }

    /// The same rules while these tables wait, too.
    #[must_use]
    pub fn while_waiting(&self, waiting: Waiting) -> Self {
        Self { waiting: self.waiting.clone().and(waiting), ..self.clone() }
    }

    /// Ends the pauses of these tables.
    pub fn resume<'a>(&mut self, tables: impl IntoIterator<Item = &'a Segment>) {
        let own = Arc::make_mut(&mut self.tables);
        for table in tables {
            own.tables.entry(table.clone()).and_modify(|own| own.paused = false);
        }
    }

    /// Reads the rules from settings.
    pub fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        let seconds = settings.number("ROLL_MAX_SECONDS", 3_600, SECONDS)?;
        Ok(Self {
            incoming_bucket: settings.required("INCOMING_BUCKET", "it names the bucket that files go to")?,
            lines: lines(settings)?,
            limits: Limits {
                records: settings.number("ROLL_MAX_RECORDS", 10_000, RECORDS)?,
                bytes: settings.number("ROLL_MAX_BYTES", 128 << 20, BYTES)?,
                age_ms: seconds * 1_000,
            },
            gzip: settings.one_of("ROLL_COMPRESSION", false, &[("none", false), ("gzip", true)])?,
            tables: Arc::default(),
            waiting: Waiting::default(),
        })
    }
}

fn lines(settings: &Settings<impl Lookup>) -> Result<Lines, SettingError> {
    let table_of = table_of(settings)?;
    let envelope = settings.one_of("ROLL_ENVELOPE", false, &[("none", false), ("position", true)])?;
    let base64 = settings.one_of("ROLL_NON_JSON", false, &[("quarantine", false), ("base64", true)])?;
    if base64 && matches!(table_of, TableOf::Pointer(_)) {
        return Err(SettingError::Invalid {
            name: "ROLL_NON_JSON",
            value: "base64".to_owned(),
            expected: "\"quarantine\" without TABLE, since a record that is not JSON does not name its table"
                .to_owned(),
        });
    }
    Ok(Lines { table_of, envelope, base64 })
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
        assert_eq!(rules.lines, TableOf::Pointer("/topic".parse().unwrap()).into());
        assert!(!rules.gzip);
        let set = [("ROLL_COMPRESSION", "gzip"), ("ROLL_ENVELOPE", "position"), ("ROLL_NON_JSON", "base64")];
        let rules = with(&[&[("TABLE_POINTER", ""), ("TABLE", "sample")], &set[..]].concat()).unwrap();
        let table_of = TableOf::Fixed("sample".parse().unwrap());
        assert_eq!(rules.lines, Lines { table_of, envelope: true, base64: true });
        assert!(rules.gzip);
    }

    #[test]
    fn a_table_has_what_it_has_of_its_own_and_otherwise_what_all_have() {
        let object = br#"{"tables": {"a": {"records": 5, "seconds": 60, "compression": "gzip", "newer": 1}, "b": {"paused": true}}}"#;
        let tables = TableRules::of_bytes(object).unwrap();
        assert_eq!(TableRules::of_bytes(&tables.to_bytes().unwrap()), Ok(tables.clone()));
        let mut rules = with(&[]).unwrap().with(tables);
        let [a, b, c] = ["a", "b", "c"].map(|table| table.parse::<Segment>().unwrap());
        let of_all = Limits { records: 10_000, bytes: 134_217_728, age_ms: 3_600_000 };
        assert_eq!(rules.of(&a).0, Limits { records: 5, age_ms: 60_000, ..of_all });
        assert_eq!([&a, &b, &c].map(|table| rules.of(table).1.gzip), [true, false, false]);
        assert_eq!(rules.of(&b).0, Limits::NONE);
        assert_eq!(rules.of(&c).0, of_all);
        rules.resume([&b, &c]);
        assert_eq!(rules.of(&b).0, of_all);
    }

    #[test]
    fn rules_of_tables_that_make_no_sense_are_refused() {
        for (object, sentence) in [
            (&b"{"[..], "settings/kafka-roller.json cannot be used: EOF while parsing an object at line 1 column 1"),
            (
                br#"{"tables": {"a": {"records": 0}}}"#,
                "settings/kafka-roller.json cannot be used: table a: records is 0; write a number from 1 to 10000000",
            ),
            (
                br#"{"tables": {"a": {"seconds": 86401}}}"#,
                "settings/kafka-roller.json cannot be used: table a: seconds is 86401; write a number from 1 to 86400",
            ),
        ] {
            assert_eq!(TableRules::of_bytes(object).unwrap_err().to_string(), sentence);
        }
        let object = br#"{"tables": {"a": {"compression": "newer"}, "b": {"records": 5}}}"#;
        let (rules, problem) = TableRules::as_far_as_possible(object).unwrap();
        assert!(problem.unwrap().to_string().contains("table a: unknown variant `newer`"));
        let paused: Vec<bool> = rules.tables.values().map(|own| own.paused).collect();
        assert_eq!((paused, rules.tables[&"b".parse().unwrap()].records), (vec![true, false], Some(5)));
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
                "environment variable ROLL_MAX_BYTES is \"1\"; it must be a whole number from 1024 to 1073741824",
            ),
            (
                ("ROLL_MAX_SECONDS", "1h"),
                "environment variable ROLL_MAX_SECONDS is \"1h\"; it must be a whole number from 1 to 86400",
            ),
            (
                ("ROLL_NON_JSON", "base64"),
                "environment variable ROLL_NON_JSON is \"base64\"; it must be \"quarantine\" without TABLE, since a record \
                 that is not JSON does not name its table",
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
