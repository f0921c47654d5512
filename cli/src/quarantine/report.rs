//! What `landfall quarantine` prints.

use serde::Serialize;
use shared::quarantine::QuarantineRecord;

use crate::{
    Exit,
    outcome::{Outcome, document},
    text::{Column, Table, counted, grouped, printable, printable_lines},
};

const NOTHING: &str = "no record is selected\n";

/// What a command went through.
#[derive(Debug, Default, Serialize)]
pub struct Seen {
    /// Number of selected records.
    pub records: usize,
    /// What could not be done.
    pub problems: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Groups {
    pub groups: Vec<Group>,
    #[serde(flatten)]
    pub seen: Seen,
}

#[derive(Debug, Serialize)]
pub struct Group {
    pub function: String,
    pub day: String,
    pub reason: String,
    pub records: usize,
}

#[derive(Debug, Serialize)]
pub struct Shown {
    pub records: Vec<QuarantineRecord>,
    /// Lines that are no records.
    pub unreadable: Vec<String>,
    #[serde(skip)]
    pub seen: Seen,
}

/// Its JSON and its text are the same: a record on each line.
#[derive(Debug)]
pub struct Exported {
    pub lines: String,
    pub seen: Seen,
}

#[derive(Debug, Serialize)]
pub struct Discarded {
    /// Whether the records are deleted, or only counted.
    pub done: bool,
    #[serde(flatten)]
    pub seen: Seen,
}

impl Seen {
    fn exit(&self) -> Exit {
        if self.problems.is_empty() { Exit::Complete } else { Exit::Incomplete }
    }

    fn problems(&self) -> String {
        self.problems.iter().map(|problem| format!("problem: {}\n", printable(problem))).collect()
    }
}

impl Outcome for Groups {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        if self.groups.is_empty() {
            return NOTHING.to_owned() + &self.seen.problems();
        }
        let mut table = Table::new([
            Column::Left("function"),
            Column::Left("day"),
            Column::Left("reason"),
            Column::Right("records"),
        ]);
        for Group { function, day, reason, records } in &self.groups {
            table.row([function.clone(), day.clone(), reason.clone(), grouped(*records)]);
        }
        table.to_string() + &self.seen.problems()
    }

    fn exit(&self) -> Exit {
        self.seen.exit()
    }
}

impl Outcome for Shown {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        let mut blocks: Vec<String> = self.records.iter().map(block).collect();
        blocks.extend(self.unreadable.iter().map(|line| format!("no record   {}\n", printable(line))));
        let text = if blocks.is_empty() { NOTHING.to_owned() } else { blocks.join("\n") };
        text + &self.seen.problems()
    }

    fn exit(&self) -> Exit {
        self.seen.exit()
    }
}

fn block(record: &QuarantineRecord) -> String {
    let body = match record.body() {
        None => format!("{} (damaged base64)", record.body_base64),
        Some(body) => match String::from_utf8(body) {
            Ok(text) => printable_lines(&text),
            Err(error) => {
                let bytes = counted(error.as_bytes().len(), "byte", "bytes");
                format!("{} (base64, {bytes})", record.body_base64)
            }
        },
    };
    format!(
        "id          {}\nfunction    {}\nreason      {}: {}\nsent at     {}\nattributes  {}\nbody        {body}\n",
        printable(&record.id),
        printable(&record.function),
        printable(&record.reason),
        printable(&record.detail),
        printable(record.sent_at.as_deref().unwrap_or("unknown")),
        printable(record.attributes.get()),
    )
}

impl Outcome for Exported {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(self.lines.clone())
    }

    fn to_text(&self) -> String {
        self.lines.clone()
    }

    fn exit(&self) -> Exit {
        self.seen.exit()
    }
}

impl Outcome for Discarded {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        let records = counted(self.seen.records, "record", "records");
        let text = match (self.done, self.seen.records) {
            (_, 0) => NOTHING.to_owned(),
            (true, _) => format!("{records} deleted\n"),
            (false, 1) => format!("{records} would be deleted; --yes deletes it\n"),
            (false, _) => format!("{records} would be deleted; --yes deletes them\n"),
        };
        text + &self.seen.problems()
    }

    fn exit(&self) -> Exit {
        self.seen.exit()
    }
}
