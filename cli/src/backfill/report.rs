//! What a backfill did, or would do, as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use shared::event::Registry;

use super::{manifest::Counts, source::TypeCount};
use crate::{
    Exit,
    outcome::{Outcome, document_with_verdict},
    text::{Column, Table, counted, grouped, printable, size},
};

/// Most problems that the text lists; `--json` lists all.
const SHOWN_PROBLEMS: usize = 20;

#[derive(Debug)]
pub enum Report {
    Landed(Box<Landed>),
    DryRun(Box<DryRun>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Its number, counted from 0.
    pub(super) range: usize,
    pub(super) detail: String,
}

/// What was landed, by this run and by those before it.
#[derive(Debug)]
pub struct Landed {
    pub(super) from: String,
    pub(super) table: String,
    pub(super) to: String,
    pub(super) notes: String,
    pub(super) counts: Counts,
    pub(super) ranges: usize,
    pub(super) done: usize,
    pub(super) done_before: usize,
    pub(super) snapshots: usize,
    /// Counts the rows and computes the checksum; `None` if the table is empty.
    pub(super) check_sql: Option<String>,
    /// What that says, if it was asked.
    pub(super) of_table: Option<(u64, String)>,
    pub(super) problems: Vec<Problem>,
    pub(super) stopped: Option<String>,
}

#[derive(Serialize)]
struct LandedJson<'a> {
    from: &'a str,
    table: &'a str,
    to: &'a str,
    notes: &'a str,
    rows_read: u64,
    rows_landed: u64,
    rows_quarantined: u64,
    rows_unregistered: u64,
    landed: &'a BTreeMap<String, u64>,
    quarantined: &'a BTreeMap<String, u64>,
    files: u64,
    bytes: u64,
    ranges: usize,
    ranges_done: usize,
    ranges_done_before: usize,
    snapshots: usize,
    /// As text, because it may be larger than a number of JSON can be.
    checksum: String,
    check_sql: Option<&'a str>,
    verified: Option<bool>,
    problems: &'a [Problem],
    stopped: Option<&'a str>,
}

impl Landed {
    fn landed(&self) -> u64 {
        self.counts.landed.values().sum()
    }

    fn quarantined(&self) -> u64 {
        self.counts.quarantined.values().sum()
    }

    /// Whether the table has the same rows, if it was asked.
    fn verified(&self) -> Option<bool> {
        let (rows, check) = self.of_table.as_ref()?;
        Some(*rows == self.counts.read && *check == self.counts.check.to_string())
    }

    fn exit(&self) -> Exit {
        let adds_up = self.counts.read == self.landed() + self.quarantined();
        if self.done < self.ranges || !self.problems.is_empty() || !adds_up {
            Exit::Incomplete
        } else if self.verified() == Some(false) {
            Exit::Different
        } else {
            Exit::Complete
        }
    }

    fn text(&self) -> String {
        let mut table = Table::new([Column::Left("type"), Column::Right("rows")]);
        for (name, rows) in &self.counts.landed {
            table.row([name.clone(), grouped(*rows)]);
        }
        for (reason, rows) in &self.counts.quarantined {
            table.row([format!("quarantined: {reason}"), grouped(*rows)]);
        }
        let mut text = if self.counts.read == 0 { String::new() } else { format!("{table}\n") };
        let Counts { read, files, bytes, unregistered, check, .. } = &self.counts;
        text += &format!(
            "{} read from {} = {} landed + {} quarantined\n",
            counted(*read, "row", "rows"),
            printable(&self.table),
            grouped(self.landed()),
            grouped(self.quarantined())
        );
        let bytes = size(i64::try_from(*bytes).unwrap_or(i64::MAX));
        text += &format!("{}, {bytes}, under {}\n", counted(*files, "file", "files"), self.to);
        if *unregistered > 0 {
            let rows = counted(*unregistered, "row is", "rows are");
            text += &format!("{rows} of types that are not registered, with their payload in _raw\n");
        }
        if self.snapshots > 1 {
            text += &format!(
                "not all connections could read one snapshot, so this run has read {}\n",
                grouped(self.snapshots)
            );
        }
        if self.done_before > 0 {
            let ranges = counted(self.done_before, "range was", "ranges were");
            text += &format!("{ranges} done before this run, of an earlier snapshot\n");
        }
        text += &format!("checksum {check}\n");
        match (self.verified(), &self.of_table) {
            (Some(true), _) => text += "the table has the same rows and checksum\n",
            (_, Some((rows, check))) => {
                text += &format!("the table has {} with the checksum {check}\n", counted(*rows, "row", "rows"));
            }
            _ => {}
        }
        if let (None, Some(sql)) = (&self.of_table, &self.check_sql) {
            text += &format!("that of the table: {}\n", printable(sql));
        }
        for problem in self.problems.iter().take(SHOWN_PROBLEMS) {
            text += &format!("problem: range {}: {}\n", problem.range, printable(&problem.detail));
        }
        if let Some(more @ 1..) = self.problems.len().checked_sub(SHOWN_PROBLEMS) {
            text += &format!("and {} more; --json lists all\n", grouped(more));
        }
        if self.done < self.ranges {
            let why = self.stopped.as_deref().map(|why| format!("{why}; ")).unwrap_or_default();
            text += &format!(
                "{}{} of {} ranges are done; run the command again to go on\n",
                printable(&why),
                grouped(self.done),
                grouped(self.ranges)
            );
        }
        text
    }

    fn json(&self) -> LandedJson<'_> {
        LandedJson {
            from: &self.from,
            table: &self.table,
            to: &self.to,
            notes: &self.notes,
            rows_read: self.counts.read,
            rows_landed: self.landed(),
            rows_quarantined: self.quarantined(),
            rows_unregistered: self.counts.unregistered,
            landed: &self.counts.landed,
            quarantined: &self.counts.quarantined,
            files: self.counts.files,
            bytes: self.counts.bytes,
            ranges: self.ranges,
            ranges_done: self.done,
            ranges_done_before: self.done_before,
            snapshots: self.snapshots,
            checksum: self.counts.check.to_string(),
            check_sql: self.check_sql.as_deref(),
            verified: self.verified(),
            problems: &self.problems,
            stopped: self.stopped.as_deref(),
        }
    }
}

/// What would be landed.
#[derive(Debug, Serialize)]
pub struct DryRun {
    from: String,
    table: String,
    /// Column by part of an event.
    columns: BTreeMap<String, String>,
    key: String,
    key_type: String,
    key_is_indexed: bool,
    rows: u64,
    rows_of_range: u64,
    types: Vec<DryRunType>,
}

#[derive(Debug, Serialize)]
struct DryRunType {
    #[serde(rename = "type")]
    type_name: Option<String>,
    rows: u64,
    payload_bytes: u64,
    first: Option<String>,
    last: Option<String>,
    registered: bool,
}

impl DryRun {
    pub(super) fn new(
        (from, table): (String, String),
        columns: BTreeMap<String, String>,
        (key, key_type, key_is_indexed): (String, String, bool),
        types: Vec<TypeCount>,
        rows_of_range: u64,
        registry: &Registry,
    ) -> Self {
        let rows = types.iter().map(|of_type| of_type.rows).sum();
        let types = types.into_iter().map(|TypeCount { type_name, rows, bytes, first, last }| {
            let registered = type_name.as_deref().is_some_and(|name| registry.position(name).is_some());
            DryRunType { type_name, rows, payload_bytes: bytes, first, last, registered }
        });
        Self { from, table, columns, key, key_type, key_is_indexed, rows, rows_of_range, types: types.collect() }
    }

    fn text(&self) -> String {
        let mut table = Table::new([
            Column::Left("type"),
            Column::Right("rows"),
            Column::Right("payload"),
            Column::Left("first"),
            Column::Left("last"),
            Column::Left("columns"),
        ]);
        for of_type in &self.types {
            let what = match (&of_type.type_name, of_type.registered) {
                (None, _) => "none: goes to the quarantine",
                (_, true) => "typed",
                (_, false) => "only _raw",
            };
            table.row([
                of_type.type_name.clone().unwrap_or_default(),
                grouped(of_type.rows),
                size(i64::try_from(of_type.payload_bytes).unwrap_or(i64::MAX)),
                of_type.first.clone().unwrap_or_default(),
                of_type.last.clone().unwrap_or_default(),
                what.to_owned(),
            ]);
        }
        let mut text = if self.types.is_empty() { String::new() } else { format!("{table}\n") };
        text += &format!("{} of {} would be read\n", counted(self.rows, "row", "rows"), printable(&self.table));
        let columns: BTreeSet<String> = self.columns.iter().map(|(part, column)| format!("{part}={column}")).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        text += &format!("columns: {}\n", printable(&columns.join(", ")));
        let ranges = self.rows.div_ceil(self.rows_of_range);
        let by = format!(
            "{} of {} by {} ({})",
            counted(ranges, "range", "ranges"),
            counted(self.rows_of_range, "row", "rows"),
            self.key,
            self.key_type
        );
        text += &format!("about {}\n", printable(&by));
        if !self.key_is_indexed {
            text += "no index begins with that column: every range would read the whole table\n";
        }
        text
    }
}

impl Outcome for Report {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        match self {
            Self::Landed(landed) => document_with_verdict(&landed.json(), landed.exit()),
            Self::DryRun(dry_run) => document_with_verdict(dry_run, Exit::Complete),
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Landed(landed) => landed.text(),
            Self::DryRun(dry_run) => dry_run.text(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Landed(landed) => landed.exit(),
            Self::DryRun(_) => Exit::Complete,
        }
    }
}
