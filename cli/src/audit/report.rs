//! What an audit found, for people and for machines.

use serde::{Serialize, Serializer};
use shared::{position::Position, quarantine::rfc3339, rolled::Window};

use super::{
    repair::{Lost, RepairError},
    tiling::{File, Gap, Overlap, Range, Tiling},
};
use crate::{
    Exit,
    outcome::{Outcome, document},
    text::{Column, Table, counted, grouped, printable},
};

/// Most problems, and most files written, that people are shown one by one. Machines get all of them.
const SHOWN: usize = 100;

/// What an audit found and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audited {
    /// The buckets.
    pub buckets: Vec<String>,
    /// Whether the files were read.
    pub contents: bool,
    /// By table, stream and shard.
    pub windows: Vec<Row>,
    /// Everything that is not as it should be, one by one.
    pub problems: Vec<Problem>,
    /// Files that were written to fill gaps.
    pub written: Vec<Written>,
    /// Why the command ended early.
    pub stopped: Option<String>,
}

/// The files of one window, as they were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// The table.
    pub table: String,
    /// The stream.
    pub stream: String,
    /// The shard.
    pub shard: String,
    /// How many files there are.
    pub files: usize,
    /// How many records they say they hold.
    pub records: usize,
    /// When the oldest of them arrived.
    pub first: Option<String>,
    /// When the newest arrived.
    pub last: Option<String>,
    /// Ranges that are in no file.
    pub gaps: usize,
    /// Ranges that are in two files.
    pub overlaps: usize,
    /// Files that hold another number of records than they say.
    pub wrong_counts: usize,
    /// The record that the earliest file begins after; `None` when that is the beginning of the shard.
    #[serde(serialize_with = "position")]
    pub begins_after: Option<Position>,
}

/// What can be wrong. The README lists what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Records between two files are in none.
    Gap,
    /// Records are in two files.
    Overlap,
    /// A file holds another number of records than it says.
    WrongCount,
    /// A file holds lines that are no JSON, or is not compressed as its name says.
    NotJson,
    /// A file does not say what it holds.
    NoMetadata,
    /// What a file says of itself makes no sense.
    DamagedMetadata,
    /// A file lies in the folder of another table than its own.
    OtherTable,
    /// An object has a key that kafka-roller gives to none.
    ForeignKey,
    /// A file could not be read, or went away meanwhile.
    Unreadable,
    /// The stream has records of a gap no longer.
    Lost,
    /// A gap could not be filled.
    NotRepaired,
}

impl Fault {
    /// The fault as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Overlap => "overlap",
            Self::WrongCount => "wrong_count",
            Self::NotJson => "not_json",
            Self::NoMetadata => "no_metadata",
            Self::DamagedMetadata => "damaged_metadata",
            Self::OtherTable => "other_table",
            Self::ForeignKey => "foreign_key",
            Self::Unreadable => "unreadable",
            Self::Lost => "lost",
            Self::NotRepaired => "not_repaired",
        }
    }

    /// Whether it says that the command did not do all its work, rather than that something is wrong with the files.
    const fn is_failure(self) -> bool {
        matches!(self, Self::Unreadable | Self::NotRepaired)
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is.
    pub fault: Fault,
    /// The file or, when it is not about one, the window.
    pub at: String,
    /// It in words.
    pub detail: String,
    /// For ranges: the last position before it.
    #[serde(serialize_with = "position")]
    pub after: Option<Position>,
    /// For ranges: its last position.
    #[serde(serialize_with = "position")]
    pub up_to: Option<Position>,
    /// Whether it was mended just now.
    pub repaired: bool,
}

/// A file that was written to fill a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    /// Where it is.
    pub at: String,
    /// How many records it holds.
    pub records: usize,
}

/// As in the metadata of files, so that the two can be compared.
fn position<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    position.map(|position| position.to_string()).serialize(serializer)
}

/// An instant for people.
fn time(ms: i64) -> String {
    rfc3339(ms).unwrap_or_else(|| format!("{ms} ms"))
}

impl Problem {
    /// A problem of one file.
    #[must_use]
    pub fn of_file(fault: Fault, at: String, detail: String) -> Self {
        Self { fault, at, detail, after: None, up_to: None, repaired: false }
    }

    /// A problem of the records of a range.
    fn of_range(fault: Fault, window: &Window, range: Range, detail: &str) -> Self {
        let Range { after, up_to } = range;
        let detail = format!("after {after:?} up to {up_to:?}: {detail}");
        Self { after: Some(after), up_to: Some(up_to), ..Self::of_file(fault, window.to_string(), detail) }
    }

    /// Records that are in no file.
    #[must_use]
    pub fn gap(gap: &Gap) -> Self {
        let (before, next) = (gap.before.url(), gap.next.url());
        let (until, since) = (time(gap.before.rolled.newest_ms), time(gap.next.rolled.oldest_ms));
        let detail = format!("between {before}, until {until}, and {next}, from {since}");
        Self::of_range(Fault::Gap, gap.window(), gap.range(), &detail)
    }

    /// Records that are in two files.
    #[must_use]
    pub fn overlap(overlap: &Overlap) -> Self {
        let detail = format!("in {} and in {}", overlap.file.url(), overlap.other.url());
        let window = &overlap.file.rolled.window;
        Self::of_range(Fault::Overlap, window, overlap.range(), &detail)
    }

    /// Records that are gone for good.
    #[must_use]
    pub fn lost(gap: &Gap, lost: &Lost) -> Self {
        let (since, until) = (time(lost.since_ms), time(lost.until_ms));
        let detail = format!("the stream has no such records any more; they arrived from {since} to {until}");
        Self::of_range(Fault::Lost, gap.window(), lost.range, &detail)
    }

    /// A gap that is as it was, or smaller.
    #[must_use]
    pub fn not_repaired(gap: &Gap, cause: &RepairError) -> Self {
        Self::of_range(Fault::NotRepaired, gap.window(), gap.range(), &cause.to_string())
    }

    /// It is no problem any more.
    pub fn mend(&mut self) {
        self.repaired = true;
    }
}

impl Written {
    /// A file that was written.
    #[must_use]
    pub fn of(file: &File) -> Self {
        Self { at: file.url(), records: file.rolled.count }
    }
}

impl Row {
    /// A window's files.
    #[must_use]
    pub fn of(window: &Window, files: &[File], tiling: &Tiling, wrong_counts: usize) -> Self {
        let rolled = || files.iter().map(|file| &file.rolled);
        Self {
            table: window.table.to_string(),
            stream: window.stream.to_string(),
            shard: window.shard.to_string(),
            files: files.len(),
            records: rolled().map(|rolled| rolled.count).sum(),
            first: rolled().map(|rolled| rolled.oldest_ms).min().map(time),
            last: rolled().map(|rolled| rolled.newest_ms).max().map(time),
            gaps: tiling.gaps.len(),
            overlaps: tiling.overlaps.len(),
            wrong_counts,
            begins_after: Some(tiling.begins_after).filter(|after| *after > Position::START),
        }
    }
}

impl Audited {
    fn left(&self) -> usize {
        self.problems.iter().filter(|problem| !problem.repaired).count()
    }

    fn table(&self) -> Table<'_, 9> {
        let mut table = Table::new([
            Column::Left("table"),
            Column::Left("shard"),
            Column::Right("files"),
            Column::Right("records"),
            Column::Left("first"),
            Column::Left("last"),
            Column::Right("gaps"),
            Column::Right("overlaps"),
            Column::Right(if self.contents { "wrong counts" } else { "" }),
        ]);
        for row in &self.windows {
            table.row([
                row.table.clone(),
                format!("{}/{}", row.stream, row.shard),
                grouped(row.files),
                grouped(row.records),
                row.first.clone().unwrap_or_default(),
                row.last.clone().unwrap_or_default(),
                grouped(row.gaps),
                grouped(row.overlaps),
                if self.contents { grouped(row.wrong_counts) } else { String::new() },
            ]);
        }
        table
    }

    fn summary(&self) -> String {
        let count = |number: usize| number as u64;
        let files = counted(self.windows.iter().map(|row| count(row.files)).sum(), "file", "files");
        let records = counted(self.windows.iter().map(|row| count(row.records)).sum(), "record", "records");
        let audited = format!("audited {files} of {records}");
        let repaired = self.problems.len() - self.left();
        match (self.left(), repaired) {
            (0, 0) => {
                let hold = if self.contents { " and hold what they say" } else { "; they were not read" };
                format!("{audited}: they follow each other without gap or overlap{hold}\n")
            }
            (0, _) => format!("{audited}: {} repaired\n", counted(count(repaired), "gap", "gaps")),
            (left, 0) => format!("{audited}: {}\n", counted(count(left), "problem", "problems")),
            (left, _) => {
                let repaired = counted(count(repaired), "gap", "gaps");
                format!("{audited}: {repaired} repaired, {} left\n", counted(count(left), "problem", "problems"))
            }
        }
    }
}

impl Outcome for Audited {
    /// One JSON object, and `complete`, which says the same as the exit code.
    fn to_json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct WithEnding<'a> {
            complete: bool,
            #[serde(flatten)]
            audited: &'a Audited,
        }
        document(&WithEnding { complete: self.exit() == Exit::Complete, audited: self })
    }

    /// A table, every problem, and what was written.
    fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.windows.is_empty() {
            text += &format!("{}\n", self.table());
        }
        for Problem { fault, at, detail, repaired, .. } in self.problems.iter().take(SHOWN) {
            let repaired = if *repaired { ", repaired" } else { "" };
            text += &format!("{}{repaired}  {}  {}\n", fault.name(), printable(at), printable(detail));
        }
        for Written { at, records } in self.written.iter().take(SHOWN) {
            text += &format!("written  {}  {}\n", printable(at), counted(*records as u64, "record", "records"));
        }
        let more = |all: usize| all.saturating_sub(SHOWN);
        match more(self.problems.len()) + more(self.written.len()) {
            0 if self.problems.is_empty() => {}
            0 => text.push('\n'),
            more => text += &format!("… and {} more; --json lists all\n\n", grouped(more)),
        }
        text += &self.summary();
        let later = self.windows.iter().filter(|row| row.begins_after.is_some()).count();
        if later > 0 {
            let windows = counted(later as u64, "window begins", "windows begin");
            text += &format!("\nnote: {windows} later than its shard: older files, if there were any, are elsewhere\n");
        }
        if let Some(cause) = &self.stopped {
            text += &format!("\nstopped early: {}\n", printable(cause));
        }
        text
    }

    fn exit(&self) -> Exit {
        if self.stopped.is_some() || self.problems.iter().any(|problem| problem.fault.is_failure()) {
            Exit::Incomplete
        } else if self.left() > 0 {
            Exit::Different
        } else {
            Exit::Complete
        }
    }
}
