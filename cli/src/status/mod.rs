//! `landfall status`: what a stack has and how it does, on one screen.
//!
//! Each section asks one service. A section that cannot be asked is reported, and the others are shown all the same.

mod ask;
mod report;

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;

use crate::{console::Console, context::Context, stack};

const HELP: &str = "\
Shows the queues with their backlog and their dead letters, the sources of the functions, quarantined
records by reason, open windows, loads by status, and the alarms that ring. Parts that the stack does not
have are left out.

Open windows are those of kafka-roller: the records that are in no file yet, the oldest first. How far a shard
is behind its stream is asked of Kinesis, by a read behind the last record that is staged; it takes one of the
five reads that a shard answers in a second.

Other ages come from CloudWatch, which is a few minutes behind. Counters of queues are approximate. Of the
quarantine, the latest 200 objects are read.

Exit code: 0 when no alarm rings, no dead letter waits and every section was shown, otherwise 1.

Examples:
  landfall status
  landfall --stack staging status --json";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct StatusArgs {}

/// What is known of a stack.
#[derive(Debug, Default, Serialize)]
pub struct Status {
    pub stack: String,
    pub region: String,
    /// The functions that the stack has.
    pub functions: Vec<String>,
    pub queues: Vec<QueueStatus>,
    pub sources: Vec<Source>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<Vec<Quarantined>>,
    /// Objects of the quarantine that were not read.
    pub quarantine_objects_not_read: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loads: Option<Loads>,
    /// The alarms that ring.
    pub alarms: Vec<Alarm>,
    /// Number of all alarms.
    pub alarms_defined: usize,
    /// Alarms of which CloudWatch has no data. The local emulator evaluates none.
    pub alarms_not_evaluated: usize,
    /// What could not be asked, with the reason.
    pub unknown: Vec<String>,
}

#[derive(Debug, Default, Serialize)]
pub struct QueueStatus {
    pub name: String,
    pub is_dead_letter: bool,
    pub waiting: usize,
    pub in_flight: usize,
    /// Of the oldest message.
    pub age_seconds: Option<i64>,
}

/// Where a function gets its input from.
#[derive(Debug, Default, Serialize)]
pub struct Source {
    pub function: String,
    /// The name of the queue or the stream.
    pub source: String,
    /// `Enabled`, `Disabled`, or a step between them.
    pub state: String,
    /// How far the readers of a stream are behind it.
    pub behind_seconds: Option<i64>,
}

#[derive(Debug, Serialize)]
pub struct Quarantined {
    pub function: String,
    pub reason: String,
    pub records: usize,
}

/// Records of topics that are in no file yet.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Windows {
    pub windows: usize,
    pub records: usize,
    pub bytes: u64,
    /// Of the oldest record.
    pub age_seconds: Option<i64>,
    /// Each of them, the one with the oldest record first.
    pub oldest: Vec<OpenWindow>,
    /// How far the shards are behind their stream, the one that is furthest behind first.
    pub shards: Vec<ShardBehind>,
    /// Batches that Lambda has given up and that wait to be replayed.
    pub given_up: usize,
}

/// The records of a table and shard that are in no file yet.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct OpenWindow {
    pub table: String,
    pub stream: String,
    pub shard: String,
    pub records: usize,
    pub bytes: u64,
    /// Of the oldest record.
    pub age_seconds: i64,
    /// When its file is closed for its age; negative when that time has passed. `None` while the table is paused.
    pub due_seconds: Option<i64>,
}

/// How far a shard is behind its stream.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct ShardBehind {
    pub stream: String,
    pub shard: String,
    /// By the clock of Kinesis, from the last record that is staged to the newest; `None` if the stream does not have the shard any more.
    pub behind_ms: Option<i64>,
}

#[derive(Debug, Serialize)]
pub struct Loads {
    pub by_status: BTreeMap<String, u64>,
    /// Of the object of the oldest load that is not finished.
    pub age_seconds: Option<i64>,
    pub unregistered_objects: u64,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// The name in the template.
    pub name: String,
    pub since: Option<String>,
    pub description: String,
}

/// Asks about everything at the same time.
pub async fn status(_: &StatusArgs, context: &Context, console: &Console) -> Result<Status, stack::StackError> {
    let _waiting = console.waiting("AWS");
    let functions = ask::functions(context).await?;
    let has = |part: &str| functions.iter().any(|(name, _)| *name == part);
    let (queues, sources, quarantine, windows, loads, alarms) = tokio::join!(
        ask::queues(context, &functions),
        ask::sources(context, &functions),
        ask::quarantine(context, &functions),
        ask::windows(context, &functions),
        ask::loads(context, has(stack::REGISTRAR)),
        ask::alarms(context),
    );
    let mut status = Status { stack: context.stack.clone(), region: context.region(), ..Status::default() };
    status.functions = functions.iter().map(|(name, _)| (*name).to_owned()).collect();
    status.queues = status.known("queues", queues).unwrap_or_default();
    status.sources = status.known("sources", sources).unwrap_or_default();
    if let Some((records, not_read)) = status.known("quarantine", quarantine) {
        (status.quarantine, status.quarantine_objects_not_read) = (Some(records), not_read);
    }
    status.windows = status.known("open windows", windows).flatten();
    status.loads = status.known("loads", loads).flatten();
    let alarms = status.known("alarms", alarms).unwrap_or_default();
    (status.alarms, status.alarms_defined) = (alarms.ringing, alarms.defined);
    status.alarms_not_evaluated = alarms.not_evaluated;
    let ages = ask::ages(context, &status.queues, &status.sources).await;
    if let Some(ages) = status.known("ages", ages) {
        status.add(&ages);
    }
    Ok(status)
}

impl Status {
    /// The answer, or none and a note that the section is not known.
    fn known<T>(&mut self, section: &str, answer: Result<T, String>) -> Option<T> {
        answer.map_err(|cause| self.unknown.push(format!("{section}: {cause}"))).ok()
    }

    /// Adds the ages of queues and streams, by name.
    fn add(&mut self, ages: &BTreeMap<String, i64>) {
        for queue in &mut self.queues {
            queue.age_seconds = ages.get(&queue.name).copied().filter(|_| queue.waiting + queue.in_flight > 0);
        }
        for source in &mut self.sources {
            source.behind_seconds = ages.get(&source.source).copied().filter(|_| !source.is_queue(&self.queues));
        }
    }
}

impl Source {
    fn is_queue(&self, queues: &[QueueStatus]) -> bool {
        queues.iter().any(|queue| queue.name == self.source)
    }
}
