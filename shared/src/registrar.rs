//! What load-registrar is asked and what it answers: the commands that the CLI sends by direct invocation, and the rule
//! that names tables.
//!
//! A command is a JSON object whose member `command` names it, such as `{"command": "loads_next", "table": …}`. Its
//! answer is the type that the variant's documentation names, as JSON. A command that cannot be done is an error of the
//! invocation, with a sentence as its message.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A command for load-registrar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Brings the database to this version's schema. Answer: [`Migrated`].
    Migrate {},
    /// What [`Command::TablesApply`] would do. Answer: [`TablesPlan`].
    TablesPlan {
        /// What the tables should be.
        tables: Vec<TableDeclaration>,
    },
    /// Makes the tables what they should be, in one transaction. Answer: [`TablesPlan`], of what was done.
    TablesApply {
        /// What the tables should be.
        tables: Vec<TableDeclaration>,
    },
    /// Every table with the number of its loads by status. Answer: [`TableList`].
    TablesList {},
    /// Loads, oldest object first. Answer: [`LoadList`].
    LoadsList {
        /// Only loads of this table.
        #[serde(default)]
        table: Option<String>,
        /// Only loads of this status.
        #[serde(default)]
        status: Option<LoadStatus>,
        /// Only loads whose object was modified at this time or later.
        #[serde(default)]
        since: Option<Timestamp>,
        /// Goes on after a page: its `next`.
        #[serde(default)]
        after: Option<LoadPosition>,
        /// Most loads in the answer, 1 to 1,000.
        limit: u32,
    },
    /// Moves loads to another status, all or none. Answer: [`LoadList`], of the loads as they are now.
    LoadsSetStatus {
        /// Ids of the loads.
        loads: Vec<i64>,
        /// Where they go.
        status: LoadStatus,
        /// Why, for the history.
        #[serde(default)]
        reason: Option<String>,
        /// Who asks, for the history.
        by: String,
    },
    /// Claims ready loads of a table, oldest first, for an ingesting job. Answer: [`LoadList`], of what was claimed.
    LoadsNext {
        /// Name of the table.
        table: String,
        /// Most loads to claim, 1 to 1,000.
        limit: u32,
        /// Seconds after which a load that is still `ingesting` may be claimed by another job.
        lease_seconds: u32,
        /// Who claims, for the history.
        by: String,
    },
    /// Compares the bucket with the loads and registers what no event announced. Answer: [`Reconciliation`].
    Reconcile {
        /// Only keys that start so; every active table when absent.
        #[serde(default)]
        prefix: Option<String>,
        /// Report only.
        #[serde(default)]
        dry_run: bool,
        /// Goes on where an answer's `next` says.
        #[serde(default)]
        after: Option<ReconcilePosition>,
    },
    /// The same for the schedule: goes on where the last one ran out of time. Answer: [`Reconciliation`].
    ReconcileScheduled {},
}

/// Answer to [`Command::Migrate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// Migrations that were applied now, in order.
    pub applied: Vec<String>,
    /// Number of the newest migration.
    pub version: i32,
}

/// A table as its owner declares it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableDeclaration {
    /// Its name; [`table_name`] of the prefix when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Keys of its objects start so. Ends with `/`.
    pub prefix: String,
    /// Who writes it.
    pub kind: TableKind,
    /// For ODS: the key whose put starts a snapshot; `LOAD001.csv.gz` under the prefix when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_key: Option<String>,
    /// Whether its objects are registered as loads. True when absent.
    #[serde(default = "yes")]
    pub active: bool,
}

const fn yes() -> bool {
    true
}

/// Who writes a table's objects, and so what they look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableKind {
    /// Qlik: loads, and changes in the folder's twin `…__ct/`, in snapshots.
    Ods,
    /// Daily extracts.
    Dmap,
    /// kafka-roller.
    Kafka,
    /// AWS DMS.
    Dms,
    /// Anything else.
    Other,
}

impl TableKind {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ods => "ods",
            Self::Dmap => "dmap",
            Self::Kafka => "kafka",
            Self::Dms => "dms",
            Self::Other => "other",
        }
    }
}

/// Answer to [`Command::TablesPlan`] and [`Command::TablesApply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesPlan {
    /// What has to be done, by table name. Empty when everything is as declared.
    pub changes: Vec<TableChange>,
    /// Tables that are as declared.
    pub unchanged: u32,
    /// Tables that nobody declared here. They are left as they are.
    pub undeclared: Vec<String>,
    /// Objects that had come before their table and are loads now (or would be).
    pub picked_up: u64,
}

/// One table that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChange {
    /// The table.
    pub name: String,
    /// Whether it does not exist yet.
    pub create: bool,
    /// What changes, in the order of the declaration.
    pub fields: Vec<FieldChange>,
}

/// One property of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// The property, as in a declaration.
    pub field: String,
    /// What it is; absent for a new table.
    pub from: Option<String>,
    /// What it should be; absent for none.
    pub to: Option<String>,
}

/// Answer to [`Command::TablesList`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableList {
    /// By name.
    pub tables: Vec<Table>,
    /// Objects that belong to no active table.
    pub unregistered_objects: u64,
}

/// A table and its loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Keys of its objects start so.
    pub prefix: String,
    /// Who writes it.
    pub kind: TableKind,
    /// Whether its objects are registered as loads.
    pub active: bool,
    /// For ODS: the key whose put starts a snapshot.
    pub snapshot_key: Option<String>,
    /// For ODS: the latest snapshot.
    pub snapshot: Option<Timestamp>,
    /// Number of loads by status, without zeros.
    pub loads: Vec<(LoadStatus, u64)>,
    /// When the object of its oldest load that is neither archived nor errored was modified.
    pub oldest_unfinished: Option<Timestamp>,
}

/// Where a load is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadStatus {
    /// It can be ingested.
    Ready,
    /// A job ingests it.
    Ingesting,
    /// It is ingested; its object can be archived.
    ReadyForArchiving,
    /// It cannot be ingested; its object can be moved away.
    ReadyForErroring,
    /// Its object is being archived.
    Archiving,
    /// Its object is being moved away.
    Erroring,
    /// Done.
    Archived,
    /// Given up.
    Errored,
}

impl LoadStatus {
    /// Every status, in the order of a load's way.
    pub const ALL: [Self; 8] = [
        Self::Ready,
        Self::Ingesting,
        Self::ReadyForArchiving,
        Self::ReadyForErroring,
        Self::Archiving,
        Self::Erroring,
        Self::Archived,
        Self::Errored,
    ];

    /// As the database writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Ingesting => "ingesting",
            Self::ReadyForArchiving => "ready_for_archiving",
            Self::ReadyForErroring => "ready_for_erroring",
            Self::Archiving => "archiving",
            Self::Erroring => "erroring",
            Self::Archived => "archived",
            Self::Errored => "errored",
        }
    }
}

impl fmt::Display for LoadStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no status; there are ready, ingesting, ready_for_archiving, ready_for_erroring, archiving, erroring, archived and errored"
)]
pub struct UnknownStatus(String);

impl FromStr for LoadStatus {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        Self::ALL.into_iter().find(|status| status.as_str() == text).ok_or_else(|| UnknownStatus(text.to_owned()))
    }
}

/// Some loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadList {
    /// The loads.
    pub loads: Vec<Load>,
    /// Where the next page starts, when there are more.
    pub next: Option<LoadPosition>,
}

/// One object of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Its id.
    pub id: i64,
    /// Name of its table.
    pub table: String,
    /// Whether it holds changes: its object is under `…__ct/`.
    pub changes: bool,
    /// Where it is on its way.
    pub status: LoadStatus,
    /// Why it is `ready_for_erroring` or beyond.
    pub status_reason: Option<String>,
    /// Key of its object.
    pub s3_key: String,
    /// When its object was modified.
    pub s3_modified: Timestamp,
    /// Size of its object in bytes.
    pub s3_size: i64,
    /// The snapshot that it belongs to.
    pub snapshot: Option<Timestamp>,
    /// Who ingests it.
    pub leased_by: Option<String>,
    /// When another job may claim it.
    pub leased_until: Option<Timestamp>,
}

/// A place in the order of loads: time modified, then id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPosition {
    /// When the last load's object was modified.
    pub s3_modified: Timestamp,
    /// The last load's id.
    pub id: i64,
}

/// A place in a reconciliation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReconcilePosition {
    /// The prefix that is being listed.
    pub prefix: String,
    /// The last key that was compared; empty at the start of the prefix.
    pub key: String,
}

/// Answer to [`Command::Reconcile`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Objects that were compared.
    pub objects: u64,
    /// Objects that were not known: registered now, unless it is a dry run.
    pub missing: u64,
    /// Known objects that were replaced without an event: the new version is registered now, unless it is a dry run.
    pub changed: u64,
    /// Loads that are not archived or errored and whose object is gone.
    pub phantom: u64,
    /// Some of the keys behind these numbers, 1,000 at the most.
    pub differences: Vec<Difference>,
    /// Where to go on, when time ran out.
    pub next: Option<ReconcilePosition>,
}

/// One object in which bucket and loads differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// How.
    pub what: Differing,
    /// The object's key.
    pub s3_key: String,
    /// When it was modified: the object's time, or the load's when the object is gone.
    pub s3_modified: Timestamp,
    /// Its size in bytes.
    pub s3_size: i64,
}

/// How bucket and loads differ in an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Differing {
    /// In the bucket only.
    Missing,
    /// Another version in the bucket.
    Changed,
    /// Among the loads only.
    Phantom,
}

/// What the rule for table names makes of a prefix: `cubic/ods_qlik/EDW.SAMPLE/` → `cubic__ods_qlik__edw_sample`.
///
/// Lower case, `/` becomes `__`, and everything else that is no letter, digit or `_` becomes `_`. Source: Cubic ADR 5.
#[must_use]
pub fn table_name(prefix: &str) -> String {
    let mut name = String::with_capacity(prefix.len() + 8);
    for character in prefix.trim_matches('/').chars().flat_map(char::to_lowercase) {
        match character {
            '/' => name.push_str("__"),
            'a'..='z' | '0'..='9' | '_' => name.push(character),
            _ => name.push('_'),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_as_the_rule_says() {
        for (prefix, name) in [
            ("cubic/ods_qlik/EDW.SAMPLE/", "cubic__ods_qlik__edw_sample"),
            ("cubic/ods_qlik/EDW.SAMPLE__ct/", "cubic__ods_qlik__edw_sample__ct"),
            ("cubic/dmap/agg_sample/", "cubic__dmap__agg_sample"),
            ("cubic/kafka/sample/", "cubic__kafka__sample"),
            ("shop db/Ördérs/", "shop_db___rd_rs"),
        ] {
            assert_eq!(table_name(prefix), name);
        }
    }

    #[test]
    fn commands_are_objects_that_name_themselves() {
        let command: Command = serde_json::from_str(
            r#"{"command": "loads_next", "table": "t", "limit": 5, "lease_seconds": 60, "by": "me"}"#,
        )
        .unwrap();
        assert_eq!(command, Command::LoadsNext { table: "t".into(), limit: 5, lease_seconds: 60, by: "me".into() });
        let json = serde_json::to_value(Command::Migrate {}).unwrap();
        assert_eq!(json, serde_json::json!({"command": "migrate"}));
        let error = serde_json::from_str::<Command>(r#"{"command": "loads_nxt"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `loads_nxt`"), "{error}");
    }

    #[test]
    fn every_status_is_read_as_it_is_written() {
        for status in LoadStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        assert!("done".parse::<LoadStatus>().is_err());
    }
}
