//! What an audit found, as text and as JSON.

use std::collections::BTreeSet;

use rolling::shard::ShardId;
use serde::{Serialize, Serializer};
use shared::{position::Position, quarantine::rfc3339, rolled::Window};

use super::{
    examine::DELETED,
    land::NotStaged,
    repair::{Lost, RepairError},
    tiling::{File, Gap, Overlap, Range, Tiling},
};
use crate::{
    Exit,
    outcome::{Outcome, document_with_verdict},
    text::{Column, Table, counted, grouped, name, printable},
};

/// Most problems, and most written files, that the text lists; `--json` lists all.
const SHOWN: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audited {
    pub buckets: Vec<String>,
    /// Whether the files were read, or only their metadata.
    pub contents: bool,
    pub windows: Vec<Row>,
    pub problems: Vec<Problem>,
    pub written: Vec<Written>,
    /// How many records of the stream were compared with what was staged; `None` if the stream was not read.
    pub stream_records: Option<usize>,
    /// What was not looked at.
    pub notes: Vec<String>,
    pub stopped: Option<String>,
}

/// The files of one table and shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    pub table: String,
    pub stream: String,
    pub shard: String,
    pub files: usize,
    /// According to the metadata.
    pub records: usize,
    /// When the oldest record arrived.
    pub first: Option<String>,
    pub last: Option<String>,
    pub gaps: usize,
    pub overlaps: usize,
    pub wrong_counts: usize,
    /// The position before the earliest file; `None` when the file begins with the shard.
    #[serde(serialize_with = "position")]
    pub begins_after: Option<Position>,
}

/// What can be wrong. The README explains each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    Gap,
    Overlap,
    WrongCount,
    NotJson,
    NoMetadata,
    DamagedMetadata,
    OtherTable,
    ForeignKey,
    Unreadable,
    Lost,
    NotRepaired,
    NotStaged,
    OtherCount,
    Waiting,
}

impl Fault {
    /// Whether the command could not do its work, rather than found something wrong with the files.
    const fn is_failure(self) -> bool {
        matches!(self, Self::Unreadable | Self::NotRepaired)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub fault: Fault,
    /// The file, or the table and shard.
    pub at: String,
    pub detail: String,
    /// Of a range: the last position before it.
    #[serde(serialize_with = "position")]
    pub after: Option<Position>,
    /// Of a range: its last position.
    #[serde(serialize_with = "position")]
    pub up_to: Option<Position>,
    pub repaired: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Written {
    pub at: String,
    pub records: usize,
}

/// Positions are written as in the metadata of files, so that the two can be compared.
fn position<S: Serializer>(position: &Option<Position>, serializer: S) -> Result<S::Ok, S::Error> {
    position.map(|position| position.to_string()).serialize(serializer)
}

fn time(ms: i64) -> String {
    rfc3339(ms).unwrap_or_else(|| format!("{ms} ms"))
}

impl Problem {
    pub fn of_file(fault: Fault, at: String, detail: String) -> Self {
        Self { fault, at, detail, after: None, up_to: None, repaired: false }
    }

    fn of_range(fault: Fault, window: &Window, range: Range, detail: &str) -> Self {
        let Range { after, up_to } = range;
        let detail = format!("after {after:?} up to {up_to:?}: {detail}");
        Self { after: Some(after), up_to: Some(up_to), ..Self::of_file(fault, window.to_string(), detail) }
    }

    pub fn gap(gap: &Gap) -> Self {
        let until = |file: &File| format!("{}, until {}", file.place, time(file.rolled.newest_ms));
        let since = |file: &File| format!("{}, from {}", file.place, time(file.rolled.oldest_ms));
        let detail = match (&gap.before, &gap.next) {
            (Some(before), Some(next)) => format!("between {}, and {}", until(before), since(next)),
            (Some(before), None) => {
                format!("behind {}; the high-water mark says that they are in files", until(before))
            }
            (None, _) => "no file is there; the high-water mark says that they are in files".to_owned(),
        };
        Self::of_range(Fault::Gap, &gap.window, gap.range, &detail)
    }

    /// Records that are in two files.
    pub fn overlap(overlap: &Overlap) -> Self {
        let detail = format!("in {} and in {}", overlap.file.place, overlap.other.place);
        let window = &overlap.file.rolled.window;
        Self::of_range(Fault::Overlap, window, overlap.range(), &detail)
    }

    pub fn lost(gap: &Gap, lost: &Lost) -> Self {
        let since = lost.since_ms.map(|since| format!(" from {}", time(since))).unwrap_or_default();
        let until = lost.until_ms.map(|until| format!(" to {}", time(until))).unwrap_or_default();
        let arrived =
            if since.is_empty() && until.is_empty() { String::new() } else { format!("; they arrived{since}{until}") };
        let detail = format!("the stream no longer has these records{arrived}");
        Self::of_range(Fault::Lost, &gap.window, lost.range, &detail)
    }

    /// Records of the stream that no batch has staged and nobody has replayed.
    pub fn not_staged(NotStaged { id, missing, .. }: &NotStaged) -> Self {
        let Range { after, up_to } = missing.range;
        let detail = format!(
            "{} after {after:?} up to {up_to:?} never reached a file; they arrived from {} to {}",
            counted(missing.count, "record", "records"),
            time(missing.oldest_ms),
            time(missing.newest_ms)
        );
        Self { after: Some(after), up_to: Some(up_to), ..Self::of_file(Fault::NotStaged, id.to_string(), detail) }
    }

    /// Records that Lambda gave up and that are in the lake.
    pub fn waiting(id: &ShardId, count: usize) -> Self {
        let records = counted(count, "record waits", "records wait");
        let detail = format!("{records} under aws/lambda/; landfall replay discarded lands what is in no file");
        Self::of_file(Fault::Waiting, id.to_string(), detail)
    }

    /// Why such records were not landed.
    pub fn not_landed(NotStaged { id, missing, .. }: &NotStaged, cause: &RepairError) -> Self {
        let Range { after, up_to } = missing.range;
        let detail = format!("after {after:?} up to {up_to:?}: {cause}");
        Self { after: Some(after), up_to: Some(up_to), ..Self::of_file(Fault::NotRepaired, id.to_string(), detail) }
    }

    /// A file in whose range the stream has another number of records.
    pub fn other_count(file: &File, found: usize) -> Self {
        let (says, found) = (grouped(file.rolled.count), counted(found, "record", "records"));
        let detail = format!("its metadata says {says}, but of its table and range the stream has {found}");
        Self::of_file(Fault::OtherCount, file.place.to_string(), detail)
    }

    /// Whether it is about a file that was deleted where it was listed, and is elsewhere now, by the names of those that were found.
    pub fn is_moved(&self, found: &BTreeSet<&str>) -> bool {
        let name = self.at.rsplit('/').next().unwrap_or_default();
        self.detail == DELETED && found.contains(name)
    }

    pub fn not_repaired(gap: &Gap, cause: &RepairError) -> Self {
        Self::of_range(Fault::NotRepaired, &gap.window, gap.range, &cause.to_string())
    }
}

impl Written {
    pub fn of(file: &File) -> Self {
        Self { at: file.place.to_string(), records: file.rolled.count }
    }
}

impl Row {
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
    /// Marks a problem that was found.
    pub fn set_repaired(&mut self, found: &Problem) {
        self.problems.iter_mut().filter(|problem| *problem == found).for_each(|problem| problem.repaired = true);
    }

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
        let files = counted(self.windows.iter().map(|row| row.files).sum::<usize>(), "file", "files");
        let records = counted(self.windows.iter().map(|row| row.records).sum::<usize>(), "record", "records");
        let stream = self
            .stream_records
            .map(|number| format!(" against {} of the stream", counted(number, "record", "records")));
        let audited = format!("audited {files} of {records}{}", stream.unwrap_or_default());
        let (left, repaired) = (self.left(), self.problems.len() - self.left());
        let problems = |number| counted(number, "problem", "problems");
        let found = match (left, repaired) {
            (0, 0) if self.contents => {
                "they follow each other without gap or overlap and their contents agree with their metadata".to_owned()
            }
            (0, 0) => "they follow each other without gap or overlap; their contents were not read".to_owned(),
            (0, _) => format!("{} repaired", problems(repaired)),
            (_, 0) => problems(left),
            _ => format!("{} repaired, {left} left", problems(repaired)),
        };
        format!("{audited}: {found}\n")
    }
}

impl Outcome for Audited {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document_with_verdict(self, self.exit())
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.windows.is_empty() {
            text += &format!("{}\n", self.table());
        }
        for Problem { fault, at, detail, repaired, .. } in self.problems.iter().take(SHOWN) {
            let repaired = if *repaired { ", repaired" } else { "" };
            text += &format!("{}{repaired}  {}  {}\n", name(fault), printable(at), printable(detail));
        }
        for Written { at, records } in self.written.iter().take(SHOWN) {
            text += &format!("written  {}  {}\n", printable(at), counted(*records, "record", "records"));
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
            let windows = counted(later, "window begins", "windows begin");
            text += &format!("\nnote: {windows} later than its shard: older files are elsewhere, if there were any\n");
        }
        for note in &self.notes {
            text += &format!("\nnote: {}\n", printable(note));
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
