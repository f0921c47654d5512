//! What a replay did, as text and as JSON.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::Serialize;

use crate::{
    Exit,
    outcome::{Outcome, document_with_verdict},
    text::{Column, Table, grouped, printable},
};

/// Most problems that the text lists; `--json` lists all.
const SHOWN_PROBLEMS: usize = 20;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Such as `replay dlq`.
    pub command: &'static str,
    pub from: String,
    pub to: String,
    /// With `dry_run`, `sent` is what would be sent.
    pub dry_run: bool,
    /// `messages`, `records` or `batches`.
    pub things: &'static str,
    pub total: Counts,
    /// By the reason of the quarantine, or by the shard of what Lambda gave up. Empty for dead letters, which have neither.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub by_reason: BTreeMap<String, Counts>,
    pub problems: Vec<Problem>,
    pub notes: Vec<String>,
    pub stopped: Option<String>,
}

/// `found` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub found: usize,
    /// Filtered out, or over the limit.
    pub not_selected: usize,
    pub sent: usize,
    /// Selected and not sent.
    pub left: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The README lists them.
    pub reason: &'static str,
    /// Of the message or record, if known.
    pub id: Option<String>,
    pub at: String,
    pub detail: String,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.found += other.found;
        self.not_selected += other.not_selected;
        self.sent += other.sent;
        self.left += other.left;
    }
}

impl Report {
    fn table(&self) -> Table<'_, 5> {
        let sent = if self.dry_run { "would send" } else { "sent" };
        let mut table = Table::new([
            Column::Left(self.things),
            Column::Right("found"),
            Column::Right("not selected"),
            Column::Right(sent),
            Column::Right("left"),
        ]);
        for (name, counts) in self.by_reason.iter().map(|(reason, counts)| (reason.as_str(), counts)) {
            table.row(counts.cells(name));
        }
        table.row(self.total.cells("total"));
        table
    }
}

impl Counts {
    fn cells(&self, name: &str) -> [String; 5] {
        let Self { found, not_selected, sent, left } = *self;
        [name.to_owned(), grouped(found), grouped(not_selected), grouped(sent), grouped(left)]
    }
}

impl Outcome for Report {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document_with_verdict(self, self.exit())
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        if self.total == Counts::default() && self.problems.is_empty() {
            text += &format!("nothing to replay in {}\n", printable(&self.from));
        } else {
            text += &self.table().to_string();
        }
        if !self.problems.is_empty() {
            text += &format!("\n{} not done:\n", grouped(self.problems.len()));
            for Problem { reason, id, at, detail } in self.problems.iter().take(SHOWN_PROBLEMS) {
                let id = printable(id.as_deref().unwrap_or("-"));
                text += &format!("  {reason}  {id}  {}\n      {}\n", printable(at), printable(detail));
            }
            if let Some(more @ 1..) = self.problems.len().checked_sub(SHOWN_PROBLEMS) {
                text += &format!("  … and {} more; --json lists all\n", grouped(more));
            }
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
        if self.total.left == 0 && self.problems.is_empty() && self.stopped.is_none() {
            Exit::Complete
        } else {
            Exit::Incomplete
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report {
            command: "replay quarantine",
            things: "records",
            from: "s3://lake/quarantine/".into(),
            to: "http://q/1/events".into(),
            ..Report::default()
        };
        report
            .by_reason
            .insert("invalid_base64".into(), Counts { found: 1_200, not_selected: 0, sent: 1_200, left: 0 });
        report.by_reason.insert("missing_type".into(), Counts { found: 3, not_selected: 2, sent: 0, left: 1 });
        let rows: Vec<Counts> = report.by_reason.values().copied().collect();
        rows.into_iter().for_each(|counts| report.total += counts);
        report
    }

    #[test]
    fn people_get_a_table() {
        let expected = "\
records         found  not selected   sent  left
invalid_base64  1,200             0  1,200     0
missing_type        3             2      0     1
total           1,203             2  1,200     1
";
        assert_eq!(report().to_text(), expected);
        let planned = Report { dry_run: true, ..report() }.to_text();
        assert!(planned.starts_with("records         found  not selected  would send  left\n"));
    }

    #[test]
    fn problems_are_listed_and_counted() {
        let problem = |id: usize| Problem {
            reason: "too_large",
            id: Some(id.to_string()),
            at: "s3://lake/x, line 1".into(),
            detail: "the message would be 2 bytes, and the queue takes 1".into(),
        };
        let text = Report { problems: (0..22).map(problem).collect(), ..report() }.to_text();
        assert!(text.contains("\n22 not done:\n  too_large  0  s3://lake/x, line 1\n      the message would be 2"));
        assert!(text.contains("\n  … and 2 more; --json lists all\n"));
    }

    #[test]
    fn machines_get_the_same_and_the_verdict() {
        let json: serde_json::Value = serde_json::from_str(&report().to_json().unwrap()).unwrap();
        assert_eq!(json["complete"], false);
        assert_eq!(json["by_reason"]["missing_type"]["left"], 1);
        assert_eq!(json["total"]["sent"], 1_200);
    }

    #[test]
    fn only_all_is_complete() {
        let all = Report { total: Counts { found: 2, not_selected: 1, sent: 1, left: 0 }, ..report() };
        assert_eq!(all.exit(), Exit::Complete);
        assert_eq!(report().exit(), Exit::Incomplete);
        assert_eq!(Report { stopped: Some("interrupted".into()), ..all }.exit(), Exit::Incomplete);
    }

    #[test]
    fn nothing_found_is_said_so() {
        let nothing = Report { by_reason: BTreeMap::new(), total: Counts::default(), ..report() };
        assert_eq!(nothing.to_text(), "nothing to replay in s3://lake/quarantine/\n");
        assert_eq!(nothing.exit(), Exit::Complete);
    }
}
