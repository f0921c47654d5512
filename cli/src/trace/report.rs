//! A trace as text.

use super::Trace;
use crate::{
    Exit,
    outcome::{Outcome, document_with_verdict},
    text::{counted, grouped, printable},
};

impl Outcome for Trace {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document_with_verdict(self, self.exit())
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |place: &str, at: &str, about: &[(&str, Option<&str>)]| {
            let known = about.iter().filter_map(|(name, value)| Some(format!("{name} {}", printable((*value)?))));
            let known: Vec<String> = known.collect();
            text += &format!("{place:<12}{}\n{:<12}{}\n", printable(at), "", known.join(", "));
        };
        for row in &self.rows {
            let number = grouped(row.row);
            line(
                "landed",
                &row.file,
                &[
                    ("row", Some(&number)),
                    ("type", row.type_name.as_deref()),
                    ("source", row.source.as_deref()),
                    ("sent", row.sent_at.as_deref()),
                    ("payload only,", row.payload_only.then_some("without columns of a type: see landfall replay raw")),
                ],
            );
        }
        for record in &self.quarantined {
            let (number, reason) = (grouped(record.line), format!("{}: {}", record.reason, record.detail));
            let about = [
                ("line", Some(number.as_str())),
                ("message", Some(&*record.id)),
                ("sent", record.sent_at.as_deref()),
                ("because of", Some(&*reason)),
            ];
            line("quarantined", &record.object, &about);
        }
        for message in &self.messages {
            line("queued", &message.queue, &[("message", Some(&message.message_id))]);
        }
        if !self.is_found() {
            text +=
                &format!("{} was not found; if it was replayed, its day is that of the replay\n", printable(&self.id));
        }
        text += &self.searched();
        text.extend(self.unknown.iter().map(|unknown| format!("not searched: {}\n", printable(unknown))));
        text
    }

    fn exit(&self) -> Exit {
        if self.is_found() { Exit::Complete } else { Exit::Incomplete }
    }
}

impl Trace {
    fn searched(&self) -> String {
        let searched = &self.searched;
        let mut text = String::from("searched    ");
        if let Some((first, last)) = &searched.days {
            text += &format!("{}: ", range(first, last));
        }
        let mut files = counted(searched.files, "file", "files");
        if let Some((first, last)) = &searched.event_days {
            files += &format!(" (of {}, since some types have an event_time)", range(first, last));
        }
        text += &[
            files,
            counted(searched.quarantine_objects, "quarantine object", "quarantine objects"),
            counted(searched.dead_letters, "dead letter", "dead letters"),
        ]
        .join(", ");
        if searched.queued > 0 {
            text += &format!(", {}", counted(searched.queued, "queued message", "queued messages"));
        }
        text.push('\n');
        if searched.queued_not_searched > 0 && !self.is_found() {
            let queued = counted(searched.queued_not_searched, "message is", "messages are");
            text +=
                &format!("            about {queued} in the queue and not searched; --receive searches what waits\n");
        }
        text
    }
}

fn range(first: &str, last: &str) -> String {
    if first == last { first.to_owned() } else { format!("{first} to {last}") }
}
