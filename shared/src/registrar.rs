//! The commands that the CLI sends to load-registrar by direct invocation, their answers, and the rule that names tables.
//!
//! A command is a JSON object whose member `command` names it, such as `{"command": "loads_next", "table": …}`. Its
//! answer is the type that the variant's documentation names, as JSON. If a command fails, the invocation fails with a
//! sentence as its error message, and with [`REFUSED`] as its error type if a repetition would fail too.
//!
//! The words of statuses, kinds and reasons are those of the database; a test compares them with it.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    dmap::{Dataset, FeedDeclaration, OtherVersion, Segment, StoredDataset},
    expectation::Expectation,
};

/// Declares an enum whose variants stand for words, with `ALL`, `as_str`, `Display`, `FromStr` and serde.
macro_rules! words {
    (
        $(#[$about:meta])*
        $name:ident: $what:literal { $($(#[$about_variant:meta])* $variant:ident = $word:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $(#[serde(rename = $word)] $(#[$about_variant])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the database.
            pub const ALL: [Self; [$($word),+].len()] = [$(Self::$variant),+];

            /// The word for it in the database, in JSON and on the command line.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let known = Self::ALL.map(Self::as_str);
                let found = Self::ALL.into_iter().find(|value| value.as_str() == text);
                found.ok_or_else(|| UnknownWord { found: text.to_owned(), what: $what, known: known.join(", ") })
            }
        }
    };
}

/// A text is none of the words that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is not a {what}; known are {known}")]
pub struct UnknownWord {
    found: String,
    what: &'static str,
    known: String,
}

/// The `errorType` of an invocation whose command is refused: a rule forbids it as things are.
pub const REFUSED: &str = "Refused";

/// A command for load-registrar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Brings the database to this version's schema. Answer: [`Migrated`].
    Migrate {},
    /// Shows what [`Command::TablesApply`] would do. Answer: [`TablesPlan`].
    TablesPlan {
        /// The declared tables.
        tables: Vec<TableDeclaration>,
        /// The declared feeds of DMAP.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        feeds: Vec<FeedDeclaration>,
    },
    /// Creates and changes tables as they are declared, in one transaction, and gives objects to the tables that they belong to
    /// now, as far as the time reaches. Answer: [`TablesPlan`], of what was done.
    TablesApply {
        /// The declared tables.
        tables: Vec<TableDeclaration>,
        /// The declared feeds of DMAP.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        feeds: Vec<FeedDeclaration>,
    },
    /// Goes on giving objects to the tables that they belong to after tables changed. Answer: [`Settled`].
    TablesSettle {},
    /// Lists every table with the number of its loads by status. Answer: [`TableList`].
    TablesList {},
    /// Lists objects that are no loads, by key. Answer: [`UnregisteredList`].
    TablesUnregistered {
        /// Only objects whose key starts with this.
        #[serde(default)]
        prefix: Option<String>,
        /// Only objects with this reason.
        #[serde(default)]
        reason: Option<UnregisteredReason>,
        /// Resumes after a page: its `next`.
        #[serde(default)]
        after: Option<UnregisteredPosition>,
        /// Maximum number of objects in the answer, 1 to 1,000.
        limit: u32,
    },
    /// Lists loads, oldest object first. Answer: [`LoadList`].
    LoadsList {
        /// Only loads of this table, which must exist.
        #[serde(default)]
        table: Option<String>,
        /// Only loads with this status.
        #[serde(default)]
        status: Option<LoadStatus>,
        /// Only loads whose object was modified at this time or later.
        #[serde(default)]
        since: Option<Timestamp>,
        /// Only loads whose files are in another folder than they belong in.
        #[serde(default)]
        displaced: bool,
        /// Only loads of objects with these keys, whatever became of them; of any when empty.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        keys: Vec<String>,
        /// Resumes after a page: its `next`.
        #[serde(default)]
        after: Option<LoadPosition>,
        /// Maximum number of loads in the answer, 1 to 1,000.
        limit: u32,
    },
    /// Moves loads to another status, all or none. A step that was made before changes nothing, so that the command can be
    /// repeated when its answer is lost. Answer: [`LoadsMoved`].
    LoadsSetStatus {
        /// The loads, with the leases of the job that moves them.
        loads: Vec<LoadRef>,
        /// The status that they get.
        status: LoadStatus,
        /// Recorded with each change.
        #[serde(default)]
        reason: Option<String>,
        /// Who changes them. Recorded with each change.
        by: String,
        /// Whether loads whose lease is not named are taken away from the job that holds it.
        #[serde(default)]
        revoke: bool,
    },
    /// Claims loads for a job, oldest first: those that wait for it, and those whose lease has expired. Loads that have been
    /// claimed too often become `ready_for_erroring` instead. Answer: [`LoadList`], of the claimed loads.
    LoadsNext {
        /// Name of the table, which must exist; those of all active tables when absent.
        #[serde(default)]
        table: Option<String>,
        /// Only these loads; all when empty.
        #[serde(default)]
        loads: Vec<i64>,
        /// What the job does with them.
        #[serde(default)]
        step: Step,
        /// Maximum number of loads to claim, 1 to 1,000.
        limit: u32,
        /// Length of the lease. When it has expired, it changes nothing any more, and another job can claim the load.
        lease_seconds: u32,
        /// Who claims them. Recorded with each change.
        by: String,
        /// Whether they go into a queue first, where waiting counts as no attempt. A job then begins with `loads_begin`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        queued: bool,
    },
    /// Begins to work on loads that were claimed for a queue, all or none. Each gets another lease, so that one job can begin with
    /// it. Answer: [`LoadList`].
    LoadsBegin {
        /// The loads, each with the lease of its claim.
        loads: Vec<LoadRef>,
        /// Length of the new lease.
        lease_seconds: u32,
        /// Who works on them. Recorded with each change.
        by: String,
    },
    /// Renews leases, all or none. Answer: [`LoadList`], of the loads as they are now.
    LoadsRenew {
        /// The loads, each with its lease.
        loads: Vec<LoadRef>,
        /// Length of the lease from now on.
        lease_seconds: u32,
    },
    /// Compares the bucket with the loads and registers objects that no event announced. Answer: [`Reconciliation`].
    Reconcile {
        /// Only keys that start with this; those of all active tables when absent. It must share a prefix with an active
        /// table.
        #[serde(default)]
        prefix: Option<String>,
        /// Compares and registers nothing.
        #[serde(default)]
        dry_run: bool,
        /// Resumes where an earlier answer's `next` says. Prefixes behind the last of these positions are compared from their
        /// start; of the others, only those that have a position.
        #[serde(default)]
        after: Vec<ReconcilePosition>,
    },
    /// Does the same with an inventory of S3 in place of a listing, for buckets of more than a million objects. Loads whose
    /// object is gone are not looked for. Answer: [`Reconciliation`].
    ReconcileInventory {
        /// Address of its `manifest.json`: `s3://bucket/…/manifest.json`.
        manifest: String,
        /// Compares and registers nothing.
        #[serde(default)]
        dry_run: bool,
        /// Resumes where an earlier answer's `next_inventory` says.
        #[serde(default)]
        after: Option<InventoryPosition>,
    },
    /// Does the same for the schedule, from where the last one ran out of time. Answer: [`Reconciliation`].
    ReconcileScheduled {},
    /// Lists the feeds of DMAP. Answer: [`FeedList`](crate::dmap::FeedList).
    DmapFeeds {},
    /// Asks which datasets of an answer have to be fetched: those of which neither this version nor a later one was fetched.
    /// Answer: [`Unfetched`](crate::dmap::Unfetched).
    DmapUnfetched {
        /// The feed, which must exist.
        feed: Segment,
        /// Datasets of its answer, up to 1,000.
        datasets: Vec<Dataset>,
    },
    /// Announces that a dataset is going to be fetched. Answer: [`Begun`](crate::dmap::Begun).
    DmapBegin {
        /// The feed, which must exist.
        feed: Segment,
        /// The dataset.
        dataset: Dataset,
        /// The version that is in the bucket and is going to be replaced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found: Option<OtherVersion>,
    },
    /// Records that a dataset is in the bucket. Answer: [`Recorded`](crate::dmap::Recorded).
    DmapFetched {
        /// The feed, which must exist.
        feed: Segment,
        /// The dataset.
        dataset: Dataset,
        /// Its object.
        object: StoredDataset,
    },
    /// Records that every dataset of an answer has been fetched. Answer: [`Recorded`](crate::dmap::Recorded).
    DmapAnswered {
        /// The feed, which must exist.
        feed: Segment,
        /// The greatest `last_updated` of the answer, if it had any dataset.
        #[serde(default)]
        last_updated: Option<Timestamp>,
    },
}

/// Answer to [`Command::Migrate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// Migrations that this command applied, in order.
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
    /// Prefix of its objects' keys. Ends with `/`.
    pub prefix: String,
    /// What writes its objects.
    pub kind: TableKind,
    /// For ODS: a put of this key starts a snapshot; `LOAD001.csv.gz` under the prefix when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_key: Option<String>,
    /// Whether its objects are registered as loads. True when absent.
    #[serde(default = "yes")]
    pub active: bool,
    /// How often a load is claimed to be ingested before it is given up; 5 when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<i32>,
    /// Its columns, in order; those of the `.dfm` beside an object, or text, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<ColumnDeclaration>>,
    /// What happens to a value that does not fit the type of its column.
    #[serde(default)]
    pub on_misfit: OnMisfit,
    /// When it expects objects; at no time when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Expectation>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnDeclaration {
    /// Its name in the objects.
    pub name: String,
    /// Its type, such as `INT8` or `NUMERIC(10,2)`; see the README of load-ingester.
    #[serde(rename = "type")]
    pub column_type: String,
}

words! {
    /// What happens to a value that does not fit the type of its column.
    #[derive(Default)]
    OnMisfit: "way to treat values that do not fit" {
        /// Its row goes to the quarantine.
        #[default]
        Quarantine = "quarantine",
        /// The load cannot be ingested.
        Fail = "fail",
        /// It becomes null.
        Null = "null",
    }
}

const fn yes() -> bool {
    true
}

words! {
    /// What writes a table's objects. `ods` and `kafka` change how they are registered.
    TableKind: "kind of table" {
        /// Qlik replicating an operational data store: full loads under the prefix, changes in the sibling folder
        /// `…__ct/`, in snapshots.
        Ods = "ods",
        /// Daily extracts.
        Dmap = "dmap",
        /// kafka-roller, whose keys are made from contents, so that each is a load once.
        Kafka = "kafka",
        /// AWS Database Migration Service.
        Dms = "dms",
        /// Anything else.
        Other = "other",
    }
}

/// Answer to [`Command::TablesPlan`] and [`Command::TablesApply`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TablesPlan {
    /// By table name. Empty when everything is as declared.
    pub changes: Vec<TableChange>,
    /// Number of tables that are as declared.
    pub unchanged: u32,
    /// Names of tables that exist and are not declared. They are left as they are.
    pub undeclared: Vec<String>,
    /// Number of objects that were put before their table was declared and become loads.
    pub picked_up: u64,
    /// Number of loads that nobody has ingested and that belong to another table now.
    #[serde(default)]
    pub moved: u64,
    /// Number of loads that nobody has claimed and that no table takes any more.
    #[serde(default)]
    pub set_aside: u64,
    /// Whether there was no time for all of them: [`Command::TablesSettle`] goes on.
    #[serde(default)]
    pub unsettled: bool,
    /// The same for feeds of DMAP.
    #[serde(default, skip_serializing_if = "FeedsPlan::is_empty")]
    pub feeds: FeedsPlan,
}

/// The part of a [`TablesPlan`] about feeds of DMAP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedsPlan {
    /// By name.
    pub changes: Vec<TableChange>,
    /// Number of feeds that are as declared.
    pub unchanged: u32,
    /// Names of feeds that exist and are not declared. They are left as they are.
    pub undeclared: Vec<String>,
}

impl FeedsPlan {
    /// Whether there are no feeds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Answer to [`Command::TablesSettle`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// Number of objects that became loads.
    pub picked_up: u64,
    /// Number of loads that went to another table.
    pub moved: u64,
    /// Number of loads that no table takes any more.
    pub set_aside: u64,
    /// Whether there was no time for all of them.
    pub unsettled: bool,
}

/// One table, or one feed of DMAP, that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableChange {
    /// Its name.
    pub name: String,
    /// Whether it does not exist yet.
    pub create: bool,
    /// In the order of the declaration.
    pub fields: Vec<FieldChange>,
}

/// One property of a table or feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Its name in a declaration.
    pub field: String,
    /// The value before; `None` if it had none.
    pub from: Option<String>,
    /// The declared value; `None` if it has none.
    pub to: Option<String>,
}

/// Answer to [`Command::TablesList`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableList {
    /// By name.
    pub tables: Vec<Table>,
    /// Number of objects that no active table takes.
    pub unregistered_objects: u64,
    /// Number of objects that are no data by their suffix.
    #[serde(default)]
    pub objects_not_data: u64,
}

/// A table and its loads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Prefix of its objects' keys.
    pub prefix: String,
    /// What writes its objects.
    pub kind: TableKind,
    /// Whether its objects are registered as loads.
    pub active: bool,
    /// For ODS: a put of this key starts a snapshot.
    pub snapshot_key: Option<String>,
    /// For ODS: when the latest snapshot started.
    pub snapshot: Option<Timestamp>,
    /// Number of loads by status, without zeros.
    pub loads: Vec<(LoadStatus, u64)>,
    /// When the object of its oldest unfinished load was modified. A load is unfinished until it is archived or errored.
    pub oldest_unfinished: Option<Timestamp>,
    /// When it expects objects, in the words of its declaration.
    #[serde(default)]
    pub expect: Option<String>,
    /// When its newest object was modified.
    #[serde(default)]
    pub newest: Option<Timestamp>,
    /// Since when it is late: the time by which it expected an object that has not come. `None` if it is not late.
    #[serde(default)]
    pub late_since: Option<Timestamp>,
}

words! {
    /// Why an object is no load.
    UnregisteredReason: "reason" {
        /// No active table has a prefix of its key. It becomes a load when such a table is declared or activated.
        NoTable = "no_table",
        /// Its key holds a NUL character, which Postgres cannot store. The key is listed URL-encoded.
        KeyHoldsNul = "key_holds_nul",
        /// Its key does not end in the suffix of a data file.
        NotData = "not_data",
        /// Its table is of kind kafka, and its key was a load before: it has the same records.
        KnownKey = "known_key",
    }
}

/// Answer to [`Command::TablesUnregistered`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisteredList {
    /// By key.
    pub objects: Vec<UnregisteredObject>,
    /// Where the next page starts, when there are more.
    pub next: Option<UnregisteredPosition>,
}

/// One version of an object that is no load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisteredObject {
    /// Why it is none.
    pub reason: UnregisteredReason,
    /// Its key.
    pub s3_key: String,
    /// When it was modified.
    pub s3_modified: Timestamp,
    /// Its size in bytes.
    pub s3_size: i64,
}

/// A position in the order of unregistered objects: key, then id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnregisteredPosition {
    /// The last object's key.
    pub s3_key: String,
    /// The last object's id.
    pub id: i64,
}

words! {
    /// The status of a load. The database defines the statuses, their order and the legal steps between them; how to add
    /// one is in `functions/load-registrar/migrations/README.md`.
    LoadStatus: "load status" {
        /// A job can claim it.
        Ready = "ready",
        /// A job has claimed it.
        Ingesting = "ingesting",
        /// It is ingested; its object can be archived.
        ReadyForArchiving = "ready_for_archiving",
        /// It cannot be ingested; its object can be moved away.
        ReadyForErroring = "ready_for_erroring",
        /// Its object is being archived.
        Archiving = "archiving",
        /// Its object is being moved away.
        Erroring = "erroring",
        /// Its object is archived.
        Archived = "archived",
        /// It was not ingested and its object is moved away.
        Errored = "errored",
    }
}

words! {
    /// What a job claims loads for.
    #[derive(Default)]
    Step: "step" {
        /// To ingest `ready` loads, which become `ingesting`.
        #[default]
        Ingest = "ingest",
        /// To archive the objects of loads that are `ready_for_archiving`, which become `archiving`.
        Archive = "archive",
        /// To move the objects of loads that are `ready_for_erroring` away, which become `erroring`.
        Error = "error",
    }
}

/// A load, and the lease of the job that works on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoadRef {
    /// Its id.
    pub id: i64,
    /// The lease that a claim gave. Without one, a load that is being worked on is changed only after its lease has expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<i64>,
    /// What became of it, if the step ends the ingesting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<LoadResult>,
}

/// What became of an object that was ingested.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadResult {
    /// Rows in its files.
    pub rows: u64,
    /// Records in the quarantine.
    #[serde(default)]
    pub quarantined: u64,
    /// Values that became null because they did not fit.
    #[serde(default)]
    pub nulled: u64,
    /// Its files in Springboard: `{load id}-0.parquet` and so on.
    #[serde(default)]
    pub files: u32,
    /// Their size in bytes.
    #[serde(default)]
    pub bytes: u64,
    /// Declared columns that the object does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Columns of the object that are not declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<String>,
    /// How many records the `.dfm` says there are, if there are others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_records: Option<u64>,
}

/// A text is not the id of a load, nor an id and a lease.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("write the id of a load as 1203, or with a lease of it as 1203@2")]
pub struct InvalidLoadRef;

impl FromStr for LoadRef {
    type Err = InvalidLoadRef;

    fn from_str(text: &str) -> Result<Self, InvalidLoadRef> {
        let number = |text: &str| text.parse().ok().filter(|number: &i64| *number > 0).ok_or(InvalidLoadRef);
        let (id, lease) = text.split_once('@').map_or((text, None), |(id, lease)| (id, Some(lease)));
        Ok(Self { id: number(id)?, lease: lease.map(number).transpose()?, result: None })
    }
}

/// Answer to [`Command::LoadsSetStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadsMoved {
    /// The loads as they are now.
    pub loads: Vec<Load>,
    /// Ids of those whose step had been made before.
    pub unchanged: Vec<i64>,
}

/// A page of loads.
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
    /// What writes the objects of its table.
    pub kind: TableKind,
    /// Declared columns of its table.
    #[serde(default)]
    pub columns: Option<Vec<ColumnDeclaration>>,
    /// What its table does with values that do not fit.
    #[serde(default)]
    pub on_misfit: OnMisfit,
    /// Whether its object holds changes of an ODS table, which are under `…__ct/`.
    pub changes: bool,
    /// Its status.
    pub status: LoadStatus,
    /// Why it is `ready_for_erroring`, `erroring` or `errored`.
    pub status_reason: Option<String>,
    /// Bucket of its object.
    pub s3_bucket: String,
    /// Key of its object.
    pub s3_key: String,
    /// When its object was modified.
    pub s3_modified: Timestamp,
    /// Size of its object in bytes.
    pub s3_size: i64,
    /// `ETag` of its object, without quotes.
    pub s3_etag: String,
    /// Version of its object, if the bucket has versions.
    pub s3_version: Option<String>,
    /// For ODS: when the snapshot that it belongs to started.
    pub snapshot: Option<Timestamp>,
    /// What became of it, once it has been ingested.
    #[serde(default)]
    pub result: Option<LoadResult>,
    /// The folder in which its files belong, below `springboard/` and `archive/`.
    pub place: String,
    /// The folder in which all its files are, once it has been ingested. Another one than `place` if a snapshot was registered
    /// later.
    pub complete_in: Option<String>,
    /// The folders in which files of it may be.
    pub places: Vec<String>,
    /// Number of its current lease, or of the last one.
    pub lease: i64,
    /// How often a job has begun to ingest it.
    pub attempts: i32,
    /// The job that has claimed it.
    pub leased_by: Option<String>,
    /// When the lease expires.
    pub leased_until: Option<Timestamp>,
}

/// A position in the order of loads: modification time, then id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPosition {
    /// When the last load's object was modified.
    pub s3_modified: Timestamp,
    /// The last load's id.
    pub id: i64,
}

/// A position in a reconciliation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReconcilePosition {
    /// The prefix that was being listed.
    pub prefix: String,
    /// The last key that was compared; empty at the start of the prefix.
    pub key: String,
}

/// A range of keys that could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReconcileFailure {
    /// The prefix that was being listed, or the address of the file of an inventory.
    pub prefix: String,
    /// The last key before the range; empty at the start of the prefix. In an inventory, the key of the object or the
    /// number of the row.
    pub key: String,
    /// The last key of the range. `None` if it reaches to the end of the prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
    /// Why.
    pub cause: String,
}

/// A position in an inventory of S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InventoryPosition {
    /// Number of files of its manifest that have been compared as a whole.
    pub file: u32,
    /// Number of rows of the next file that have been compared.
    pub row: u64,
}

/// Answer to [`Command::Reconcile`] and [`Command::ReconcileInventory`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconciliation {
    /// Number of data objects that were compared.
    pub objects: u64,
    /// Number of objects of which no version was a load. They are registered now, unless it is a dry run.
    pub missing: u64,
    /// Number of objects that were replaced without an event. The new version is registered now, unless it is a dry run.
    pub changed: u64,
    /// Number of loads whose object is gone although nobody has begun to archive or move it.
    pub phantom: u64,
    /// The first 1,000 objects behind these numbers, by key.
    pub differences: Vec<Difference>,
    /// Number of ranges that could not be compared. The others were.
    #[serde(default)]
    pub failures: u64,
    /// The first 1,000 of them, in order.
    #[serde(default)]
    pub failed: Vec<ReconcileFailure>,
    /// Where to resume, when time ran out.
    #[serde(default)]
    pub next: Vec<ReconcilePosition>,
    /// Where to resume in an inventory, when time ran out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_inventory: Option<InventoryPosition>,
}

/// One object for which the bucket and the loads differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// How they differ.
    pub what: Differing,
    /// The object's key.
    pub s3_key: String,
    /// When it was modified: the object's time, or the load's when the object is gone.
    pub s3_modified: Timestamp,
    /// Its size in bytes.
    pub s3_size: i64,
}

/// How the bucket and the loads differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Differing {
    /// The object is in the bucket, and no version of it is a load.
    Missing,
    /// The bucket holds another version than the load.
    Changed,
    /// The load's object is not in the bucket.
    Phantom,
}

/// The name of a table whose declaration gives none: `cubic/ods_qlik/EDW.SAMPLE/` → `cubic__ods_qlik__edw_sample`.
///
/// Lower case, `/` becomes `__`, and every other character that is no letter, digit or `_` becomes `_`. Source: Cubic
/// ADR 5, the decision record of the MBTA's data platform Cubic that defines these tables.
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
        let (table, by) = (Some("t".to_owned()), "me".to_owned());
        let expected = Command::LoadsNext {
            table,
            loads: Vec::new(),
            step: Step::Ingest,
            limit: 5,
            lease_seconds: 60,
            by,
            queued: false,
        };
        assert_eq!(command, expected);
        let json = serde_json::to_value(Command::Migrate {}).unwrap();
        assert_eq!(json, serde_json::json!({"command": "migrate"}));
        let error = serde_json::from_str::<Command>(r#"{"command": "loads_nxt"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `loads_nxt`"), "{error}");
    }

    #[test]
    fn a_load_is_named_by_its_id_or_with_its_lease() {
        assert_eq!("12".parse(), Ok(LoadRef { id: 12, lease: None, result: None }));
        assert_eq!("12@7".parse(), Ok(LoadRef { id: 12, lease: Some(7), result: None }));
        for nonsense in ["", "x", "0", "-1", "12@", "@7", "12@0", "12@7@1", "12@x"] {
            assert_eq!(nonsense.parse::<LoadRef>(), Err(InvalidLoadRef), "{nonsense}");
        }
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for status in LoadStatus::ALL {
            assert_eq!(status.to_string().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
        let error = "no_tabel".parse::<UnregisteredReason>().unwrap_err().to_string();
        assert_eq!(error, "\"no_tabel\" is not a reason; known are no_table, key_holds_nul, not_data, known_key");
    }
}
