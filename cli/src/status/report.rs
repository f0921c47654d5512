//! A status as text.

use super::{Alarm, ShardBehind, Status, Windows};
use crate::{
    Exit,
    outcome::{Outcome, document_with_verdict},
    text::{Column, Table, counted, grouped, printable, size},
};

/// Most windows, and most shards, that the text lists; `--json` lists all.
const SHOWN_WINDOWS: usize = 10;

impl Outcome for Status {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document_with_verdict(self, self.exit())
    }

    fn to_text(&self) -> String {
        let mut text = format!("{} in {}: {}\n", self.stack, self.region, self.functions.join(", "));
        let mut add = |section: String| {
            if !section.is_empty() {
                text.push('\n');
                text += &section;
            }
        };
        add(self.queues());
        add(self.sources());
        add(self.quarantined());
        add(self.open());
        add(self.ringing());
        add(self.unknown.iter().map(|unknown| format!("not known: {}\n", printable(unknown))).collect());
        text
    }

    fn exit(&self) -> Exit {
        let dead = self.queues.iter().any(|queue| queue.is_dead_letter && queue.waiting > 0);
        if dead || !self.alarms.is_empty() || !self.unknown.is_empty() { Exit::Incomplete } else { Exit::Complete }
    }
}

impl Windows {
    fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.oldest.is_empty() {
            let mut table = Table::new([
                Column::Left("table"),
                Column::Left("shard"),
                Column::Right("records"),
                Column::Right("bytes"),
                Column::Right("age"),
                Column::Right("due"),
            ]);
            for window in self.oldest.iter().take(SHOWN_WINDOWS) {
                let due = match window.due_seconds {
                    None => "paused".to_owned(),
                    Some(seconds) if seconds < 0 => format!("{} ago", age(-seconds)),
                    Some(seconds) => format!("in {}", age(seconds)),
                };
                table.row([
                    window.table.clone(),
                    format!("{}/{}", window.stream, window.shard),
                    grouped(window.records),
                    size(i64::try_from(window.bytes).unwrap_or(i64::MAX)),
                    age(window.age_seconds),
                    due,
                ]);
            }
            text += &table.to_string();
        }
        if let Some(more @ 1..) = self.oldest.len().checked_sub(SHOWN_WINDOWS) {
            text += &format!("… and {} younger; --json lists all\n", grouped(more));
        }
        let behind: Vec<&ShardBehind> =
            self.shards.iter().filter(|shard| shard.behind_ms.is_some_and(|ms| ms > 0)).collect();
        if behind.is_empty() && !self.shards.is_empty() {
            text += "everything in the stream is staged\n";
        }
        for ShardBehind { stream, shard, behind_ms } in behind.iter().take(SHOWN_WINDOWS) {
            let by = age(behind_ms.unwrap_or_default() / 1_000);
            text += &format!("{stream}/{shard} is {by} behind the end of the stream\n");
        }
        if let Some(more @ 1..) = behind.len().checked_sub(SHOWN_WINDOWS) {
            text += &format!("… and {} shards less; --json lists all\n", grouped(more));
        }
        if self.given_up > 0 {
            let batches = counted(self.given_up, "batch", "batches");
            text += &format!("Lambda gave up {batches}; landfall replay discarded lands what is in no file\n");
        }
        text
    }
}

impl Status {
    fn queues(&self) -> String {
        if self.queues.is_empty() {
            return String::new();
        }
        let mut table = Table::new([
            Column::Left("queue"),
            Column::Right("waiting"),
            Column::Right("in flight"),
            Column::Right("oldest"),
        ]);
        for queue in &self.queues {
            let age = queue.age_seconds.map(age).unwrap_or_default();
            table.row([queue.name.clone(), grouped(queue.waiting), grouped(queue.in_flight), age]);
        }
        table.to_string()
    }

    fn sources(&self) -> String {
        if self.sources.is_empty() {
            return String::new();
        }
        let mut table = Table::new([
            Column::Left("source"),
            Column::Left("read by"),
            Column::Left("state"),
            Column::Right("behind"),
        ]);
        for source in &self.sources {
            let behind = source.behind_seconds.map(age).unwrap_or_default();
            table.row([source.source.clone(), source.function.clone(), source.state.clone(), behind]);
        }
        table.to_string()
    }

    fn quarantined(&self) -> String {
        let Some(quarantine) = &self.quarantine else { return String::new() };
        if quarantine.is_empty() {
            return "nothing is in the quarantine\n".to_owned();
        }
        let mut table = Table::new([Column::Left("quarantined by"), Column::Left("reason"), Column::Right("records")]);
        for quarantined in quarantine {
            table.row([quarantined.function.clone(), quarantined.reason.clone(), grouped(quarantined.records)]);
        }
        let mut text = table.to_string();
        if self.quarantine_objects_not_read > 0 {
            let more = counted(self.quarantine_objects_not_read, "older object was", "older objects were");
            text += &format!("{more} not read\n");
        }
        text
    }

    fn open(&self) -> String {
        let mut text = String::new();
        if let Some(windows) = &self.windows {
            let oldest = windows.age_seconds.map(|seconds| format!(", the oldest {} old", age(seconds)));
            text += &format!(
                "{} with {} in {}{}\n",
                counted(windows.windows, "open window", "open windows"),
                counted(windows.records, "record", "records"),
                size(i64::try_from(windows.bytes).unwrap_or(i64::MAX)),
                oldest.unwrap_or_default(),
            );
            text += &windows.to_text();
        }
        if let Some(loads) = &self.loads {
            let statuses = loads.by_status.iter().map(|(status, count)| format!("{} {status}", grouped(*count)));
            let statuses: Vec<String> = statuses.collect();
            let statuses = if statuses.is_empty() { "none".to_owned() } else { statuses.join(", ") };
            let oldest =
                loads.age_seconds.map(|seconds| format!("; the oldest that is not finished is {} old", age(seconds)));
            text += &format!("loads: {statuses}{}\n", oldest.unwrap_or_default());
            if loads.unregistered_objects > 0 {
                let objects = counted(loads.unregistered_objects, "object belongs", "objects belong");
                text += &format!("{objects} to no active table; landfall tables unregistered lists them\n");
            }
        }
        text
    }

    fn ringing(&self) -> String {
        let mut text = String::new();
        for Alarm { name, since, description } in &self.alarms {
            let since = since.as_ref().map(|since| format!(" since {since}")).unwrap_or_default();
            text += &format!("ALARM {}{since}: {}\n", printable(name), printable(description));
        }
        if text.is_empty() && self.alarms_defined > 0 {
            let not_evaluated = match self.alarms_not_evaluated {
                0 => String::new(),
                all if all == self.alarms_defined => {
                    "; none was evaluated yet, and the local emulator never does".to_owned()
                }
                some => format!("; {} not evaluated yet", grouped(some)),
            };
            text = format!("none of {} rings{not_evaluated}\n", counted(self.alarms_defined, "alarm", "alarms"));
        }
        text
    }
}

/// `59 s`, `12 min`, `3.5 h`, `2.0 d`.
fn age(seconds: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "one decimal place is shown")]
    let of = |unit: i64| seconds as f64 / unit as f64;
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{:.1} h", of(3_600)),
        _ => format!("{:.1} d", of(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Loads, OpenWindow, Quarantined, QueueStatus, Source};

    fn windows() -> Windows {
        let window = |table: &str, age_seconds: i64, due_seconds: Option<i64>| OpenWindow {
            table: table.to_owned(),
            stream: "landfall-kafka".to_owned(),
            shard: "shardId-000000000006".to_owned(),
            records: 103,
            bytes: 10_000,
            age_seconds,
            due_seconds,
        };
        let mut oldest = vec![window("fares", 5_400, Some(-1_800)), window("riders", 4_000, None)];
        oldest.extend((0..10).map(|number| window(&format!("t{number}"), 60, Some(3_540))));
        let shard = |number: u8, behind_ms| ShardBehind {
            stream: "landfall-kafka".to_owned(),
            shard: format!("shardId-00000000000{number}"),
            behind_ms,
        };
        let shards = vec![shard(6, Some(240_000)), shard(7, Some(0)), shard(5, None)];
        Windows { windows: 12, records: 1_234, bytes: 120_000, age_seconds: Some(5_400), oldest, shards, given_up: 2 }
    }

    fn healthy() -> Status {
        Status {
            stack: "landfall".to_owned(),
            region: "eu-west-1".to_owned(),
            functions: vec!["parquet-writer".to_owned(), "kafka-roller".to_owned()],
            queues: vec![
                QueueStatus {
                    name: "landfall-events".to_owned(),
                    waiting: 1_200,
                    in_flight: 7,
                    age_seconds: Some(185),
                    ..QueueStatus::default()
                },
                QueueStatus {
                    name: "landfall-events-dead-letter".to_owned(),
                    is_dead_letter: true,
                    ..QueueStatus::default()
                },
            ],
            sources: vec![Source {
                function: "kafka-roller".to_owned(),
                source: "landfall-kafka".to_owned(),
                state: "Enabled".to_owned(),
                behind_seconds: Some(4),
            }],
            windows: Some(windows()),
            quarantine: Some(Vec::new()),
            alarms_defined: 34,
            ..Status::default()
        }
    }

    #[test]
    fn one_screen_says_how_a_stack_does() {
        let expected = "landfall in eu-west-1: parquet-writer, kafka-roller

queue                        waiting  in flight  oldest
landfall-events                1,200          7   3 min
landfall-events-dead-letter        0          0       -

source          read by       state    behind
landfall-kafka  kafka-roller  Enabled     4 s

nothing is in the quarantine

12 open windows with 1,234 records in 120.00 kB, the oldest 1.5 h old
table   shard                                records     bytes    age         due
fares   landfall-kafka/shardId-000000000006      103  10.00 kB  1.5 h  30 min ago
riders  landfall-kafka/shardId-000000000006      103  10.00 kB  1.1 h      paused
t0      landfall-kafka/shardId-000000000006      103  10.00 kB  1 min   in 59 min
t1      landfall-kafka/shardId-000000000006      103  10.00 kB  1 min   in 59 min
t2      landfall-kafka/shardId-000000000006      103  10.00 kB  1 min   in 59 min
t3      landfall-kafka/shardId-000000000006      103  10.00 kB  1 min   in 59 min
t4      landfall-kafka/shardId-000000000006      103  10.00 kB  1 min   in 59 min
t5      landfall-kafka/shardId-000000000006      103  10.00 kB  1 min   in 59 min
t6      landfall-kafka/shardId-000000000006      103  10.00 kB  1 min   in 59 min
t7      landfall-kafka/shardId-000000000006      103  10.00 kB  1 min   in 59 min
… and 2 younger; --json lists all
landfall-kafka/shardId-000000000006 is 4 min behind the end of the stream
Lambda gave up 2 batches; landfall replay discarded lands what is in no file

none of 34 alarms rings
";
        assert_eq!(healthy().to_text(), expected);
        assert_eq!(healthy().exit(), Exit::Complete);
    }

    #[test]
    fn what_is_wrong_is_shown_and_is_the_exit_code() {
        let mut dead = healthy();
        dead.queues[1].waiting = 3;
        assert_eq!(dead.exit(), Exit::Incomplete);
        let mut blind = healthy();
        blind.unknown.push("alarms: AccessDenied: no".to_owned());
        assert!(blind.to_text().ends_with("\nnot known: alarms: AccessDenied: no\n"));
        assert_eq!(blind.exit(), Exit::Incomplete);
        let mut ringing = healthy();
        ringing.alarms.push(Alarm {
            name: "EventsAreOld".to_owned(),
            since: Some("2026-11-21T10:00:00Z".to_owned()),
            description: "An event waits.".to_owned(),
        });
        assert!(ringing.to_text().ends_with("\nALARM EventsAreOld since 2026-11-21T10:00:00Z: An event waits.\n"));
        assert_eq!(ringing.exit(), Exit::Incomplete);
    }

    #[test]
    fn alarms_that_cannot_ring_yet_are_named() {
        for (not_evaluated, expected) in [
            (3, "\nnone of 34 alarms rings; 3 not evaluated yet\n"),
            (34, "\nnone of 34 alarms rings; none was evaluated yet, and the local emulator never does\n"),
        ] {
            let text = Status { alarms_not_evaluated: not_evaluated, ..healthy() }.to_text();
            assert!(text.ends_with(expected), "{text}");
        }
    }

    #[test]
    fn quarantine_and_loads_are_counted() {
        let mut status = healthy();
        status.quarantine =
            Some(vec![Quarantined { function: "parquet-writer".into(), reason: "missing_type".into(), records: 2 }]);
        status.quarantine_objects_not_read = 1;
        let by_status = [("ready".to_owned(), 1_500), ("archived".to_owned(), 3)].into();
        status.loads = Some(Loads { by_status, age_seconds: Some(200_000), unregistered_objects: 1 });
        let text = status.to_text();
        assert!(text.contains("\nparquet-writer  missing_type        2\n1 older object was not read\n"), "{text}");
        let loads =
            "\nloads: 3 archived, 1,500 ready; the oldest that is not finished is 2.3 d old\n1 object belongs to no";
        assert!(text.contains(loads), "{text}");
    }
}
