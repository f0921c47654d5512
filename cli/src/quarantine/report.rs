//! What `landfall quarantine` prints.

use serde::Serialize;
use shared::quarantine::QuarantineRecord;

use crate::{
    Exit,
    outcome::{Outcome, document},
    text::{Column, Table, counted, grouped, printable, printable_lines},
};

#[derive(Debug, Serialize)]
pub struct Groups {
    pub groups: Vec<Group>,
    pub interrupted: bool,
}

#[derive(Debug, Serialize)]
pub struct Group {
    pub function: String,
    pub day: String,
    pub reason: String,
    pub records: usize,
}

#[derive(Debug, Default, Serialize)]
pub struct Shown {
    pub records: Vec<QuarantineRecord>,
    /// Lines that are no records.
    pub unreadable: Vec<String>,
    pub interrupted: bool,
}

/// Its JSON and its text are the same: a record on each line.
#[derive(Debug, Default)]
pub struct Exported {
    pub lines: Vec<String>,
    pub interrupted: bool,
}

#[derive(Debug, Default, Serialize)]
pub struct Discarded {
    /// Deleted, or counted if not `done`.
    pub records: usize,
    pub done: bool,
    pub interrupted: bool,
}

const fn exit(interrupted: bool) -> Exit {
    if interrupted { Exit::Incomplete } else { Exit::Complete }
}

const INTERRUPTED: &str = "interrupted before all records were read";

impl Outcome for Groups {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        if self.groups.is_empty() {
            return "nothing is in the quarantine\n".to_owned();
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
        table.to_string()
    }

    fn exit(&self) -> Exit {
        exit(self.interrupted)
    }

    fn error(&self) -> Option<&'static str> {
        self.interrupted.then_some(INTERRUPTED)
    }
}

impl Outcome for Shown {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        let mut blocks: Vec<String> = self.records.iter().map(block).collect();
        blocks.extend(self.unreadable.iter().map(|line| format!("no record   {}\n", printable(line))));
        if blocks.is_empty() {
            return "nothing is in the quarantine\n".to_owned();
        }
        blocks.join("\n")
    }

    fn exit(&self) -> Exit {
        exit(self.interrupted)
    }

    fn error(&self) -> Option<&'static str> {
        self.interrupted.then_some(INTERRUPTED)
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
        Ok(self.to_text())
    }

    fn to_text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn exit(&self) -> Exit {
        exit(self.interrupted)
    }

    fn error(&self) -> Option<&'static str> {
        self.interrupted.then_some(INTERRUPTED)
    }
}

impl Outcome for Discarded {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        let records = counted(self.records, "record", "records");
        match (self.done, self.records) {
            (true, _) => format!("{records} deleted\n"),
            (false, 0) => "no record is selected\n".to_owned(),
            (false, 1) => format!("{records} would be deleted; --yes deletes it\n"),
            (false, _) => format!("{records} would be deleted; --yes deletes them\n"),
        }
    }

    fn exit(&self) -> Exit {
        exit(self.interrupted)
    }

    fn error(&self) -> Option<&'static str> {
        self.interrupted.then_some(INTERRUPTED)
    }
}
