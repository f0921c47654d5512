//! `landfall replay raw`: events that landed before their type was known, and so with nothing but their payload, land typed.

use std::collections::{BTreeMap, HashSet};

use arrow::array::{Array, AsArray, RecordBatch};
use clap::{Args, builder::NonEmptyStringValueParser};
use futures_util::{StreamExt, stream};
use objects::{Bucket, S3};
use parquet::{arrow::ProjectionMask, schema::types::SchemaDescriptor};
use serde::Deserialize;
use serde_json::{Map, Value, json, value::to_raw_value};
use sha2::{Digest, Sha256};
use shared::{
    event::{EventType, Registry, UNREGISTERED},
    layout::EventsKey,
    quarantine::{QuarantineRecord, base64},
};

use super::{
    ReplayError, Stop,
    destination::{Destination, ToQueue},
    plan::{Selection, batches},
    queue_url,
    report::{Problem, Report},
};
use crate::{
    console::Console,
    context::Context,
    lake::{self, ReadError, Rows},
    queue::{self, Delivery, Outgoing},
    stack,
    text::grouped,
    when::Times,
};

/// Files that are read at the same time.
const CONCURRENT_FILES: usize = 8;
/// Files whose events are sent before more are read, which bounds the memory that a replay takes.
const GROUP_FILES: usize = 64;
const CONCURRENT_SENDS: usize = 4;

const HELP: &str = "\
Events of a type that is not registered land with their payload in the column _raw, and nothing is lost. When
the message has been added to proto/ and deployed, or if the type was misspelt, this command sends them to the
queue again: with the same event_id and attributes, and with the type given by --as. They land typed, in new
files, beside the rows without columns; of rows with the same event_id, use the one whose column is not null.

Events that are already there typed are not sent again, so the command can be repeated. It cannot see those that
are still in the queue: let the first run land before the next.

Without a time, all files are read. Of Parquet files, only the columns that are needed are.

Exit code: 0 when everything was sent or is there already, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall replay raw --type OrderRefunded --dry-run
  landfall replay raw --type OrderRefunded --since 2026-11-01
  landfall --stack staging replay raw --type OrderCreted --as OrderCreated --json";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct RawArgs {
    /// The value of the attribute `type` with which the events landed.
    #[arg(long = "type", value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    pub type_name: String,
    /// The event type that they are, if it has another name.
    #[arg(long = "as", value_name = "TYPE", value_parser = NonEmptyStringValueParser::new())]
    pub as_type: Option<String>,
    #[command(flatten)]
    pub times: Times,
    /// Bucket with the files, if it is not the lake of the stack.
    #[arg(long)]
    pub bucket: Option<String>,
    /// Queue to send the events to, if it is not that of the stack.
    #[arg(long, value_name = "QUEUE-URL")]
    pub to: Option<String>,
    /// Send at most this many events.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Read everything and report what would be sent, without sending.
    #[arg(long)]
    pub dry_run: bool,
}

/// Sends events of a type that was not registered. `Err` means that nothing was sent.
pub async fn replay(args: &RawArgs, context: &Context, console: &Console) -> Result<Report, ReplayError> {
    let (since, until) = args.times.range().map_err(ReplayError::Usage)?;
    let type_name = args.as_type.as_deref().unwrap_or(&args.type_name);
    let event_type = registered(type_name).map_err(ReplayError::Usage)?;
    let column = event_type.column;
    let to = match &args.to {
        Some(to) => queue_url(to).map_err(|message| ReplayError::Usage(message.to_owned()))?,
        None => context.queue(stack::EVENTS).await?,
    };
    let (queue, _) = queue::describe(&context.clients.sqs, &to).await?;
    let to = ToQueue { client: &context.clients.sqs, queue, set: &[] };
    let bucket = match &args.bucket {
        Some(bucket) => bucket.clone(),
        None => context.setting(stack::WRITER, "LAKE_BUCKET").await?,
    };
    let mut report = Report {
        command: "replay raw",
        things: "events",
        from: format!("s3://{bucket}/events/"),
        to: to.name().to_owned(),
        dry_run: args.dry_run,
        ..Report::default()
    };
    let lake = S3::new(&context.clients.s3, &bucket);
    // What has landed typed since is in the same days or in later ones, or in the day on which it happened.
    let first = since.filter(|_| event_type.event_time.is_none());
    let files = lake::list(&lake, &Selection { since: first, ..Selection::default() }).await?;
    let (first, last) = Selection { since, until, ..Selection::default() }.days();
    let is_wanted = |key: &EventsKey| {
        let may_be_raw = key.only.as_ref().is_none_or(|only| only.as_str() == UNREGISTERED);
        may_be_raw && first.is_none_or(|first| first <= key.day) && last.is_none_or(|last| key.day <= last)
    };
    let may_be_typed = |key: &EventsKey| key.only.as_ref().is_none_or(|only| only.as_str() == column);

    let typed: Vec<_> = files.iter().filter(|(key, _)| may_be_typed(key)).collect();
    let typed = match ids(&lake, &typed, &column, console).await {
        Ok(typed) => typed,
        Err(problem) => {
            report.problems.push(problem);
            report.stopped = Some("it is not known which events are there already".to_owned());
            return Ok(report);
        }
    };
    let files: Vec<_> = files.iter().filter(|(key, _)| is_wanted(key)).collect();
    let progress = console.progress("Replaying", "files", Some(files.len()));
    let (stop, mut seen) = (Stop::default(), HashSet::new());
    let mut budget = args.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    for group in files.chunks(GROUP_FILES) {
        if stop.is_set(&context.interrupt) || budget == Some(0) {
            break;
        }
        let mut messages = Vec::new();
        for event in events(&lake, group, &args.type_name, &column, &mut report.problems).await {
            report.total.found += 1;
            let identity = event.identity();
            let is_new = !typed.contains(&identity) && seen.insert(identity);
            if !is_new || budget == Some(0) {
                report.total.not_selected += 1;
                continue;
            }
            budget = budget.map(|budget| budget - 1);
            let id = event.event_id.clone();
            match to.of_record(&event.into_record(type_name)) {
                Ok(message) => messages.push((id, message)),
                Err(problem) => {
                    let (reason, at, detail) = (problem.reason(), report.from.clone(), problem.to_string());
                    report.problems.push(Problem { reason, id: Some(id), at, detail });
                    report.total.left += 1;
                }
            }
        }
        let deliveries = if args.dry_run {
            vec![Delivery::Sent(String::new()); messages.len()]
        } else {
            send(&to, &messages, &stop, context).await
        };
        for ((id, _), delivery) in messages.iter().zip(deliveries) {
            let (reason, detail) = match delivery {
                Delivery::Sent(_) => {
                    report.total.sent += 1;
                    continue;
                }
                Delivery::Refused(cause) => ("refused", cause),
                Delivery::Failed(cause) => ("not_sent", cause),
            };
            report.total.left += 1;
            report.problems.push(Problem { reason, id: Some(id.clone()), at: to.name().to_owned(), detail });
        }
        progress.add(group.len());
        progress.say(&format!("{} events sent", grouped(report.total.sent)));
    }
    if !typed.is_empty() && report.total.not_selected > 0 {
        let there = grouped(typed.len());
        report
            .notes
            .push(format!("{there} events of {type_name} are in the lake already, typed; they are not sent again"));
    }
    if budget == Some(0) {
        report.notes.push("the limit is reached".to_owned());
    }
    report.stopped = stop.cause();
    Ok(report)
}

/// An event type of this build.
fn registered(type_name: &str) -> Result<EventType, String> {
    let registry = Registry::embedded().map_err(|error| error.to_string())?;
    let registered = registry.position(type_name).and_then(|position| registry.types().get(position));
    registered.cloned().ok_or_else(|| {
        let names: Vec<&str> = registry.types().iter().map(|event| event.message.name()).collect();
        format!(
            "{type_name:?} is not an event type of this build, so its events would land without columns again: add its message to \
             proto/ and deploy, or name the type that they are with --as. There are {}",
            names.join(", ")
        )
    })
}

/// What tells an event from others: its id, and the hash of its payload, since some producers use an id for several events.
type Identity = (String, Vec<u8>);

/// The events that are there with the columns of their type.
async fn ids(
    lake: &S3,
    files: &[&(EventsKey, u64)],
    column: &str,
    console: &Console,
) -> Result<HashSet<Identity>, Problem> {
    let progress = console.progress("Looking for typed events", "files", Some(files.len()));
    let searches = files.iter().map(|(key, size)| async move {
        let mut typed = Typed { column, ids: HashSet::new(), broken: None };
        let read = lake::read(lake, key, *size, &mut typed).await;
        let read = read.and_then(|()| typed.broken.map_or(Ok(typed.ids), Err));
        read.map_err(|error| unreadable(lake, key, &error))
    });
    let mut searches = stream::iter(searches).buffered(CONCURRENT_FILES);
    let mut ids = HashSet::new();
    while let Some(found) = searches.next().await {
        ids.extend(found?);
        progress.add(1);
    }
    Ok(ids)
}

/// The events of a type that are there with nothing but their payload. What cannot be read is a problem.
async fn events(
    lake: &S3,
    files: &[&(EventsKey, u64)],
    type_name: &str,
    column: &str,
    problems: &mut Vec<Problem>,
) -> Vec<RawEvent> {
    let searches = files.iter().map(|(key, size)| async move {
        let mut raw = Raw { type_name, column, events: Vec::new(), broken: None };
        let read = lake::read(lake, key, *size, &mut raw).await;
        let read = read.and_then(|()| raw.broken.map_or(Ok(raw.events), Err));
        read.map_err(|error| unreadable(lake, key, &error))
    });
    let found: Vec<_> = stream::iter(searches).buffered(CONCURRENT_FILES).collect().await;
    let (mut events, mut failed) = (Vec::new(), Vec::new());
    for found in found {
        match found {
            Ok(found) => events.extend(found),
            Err(problem) => failed.push(problem),
        }
    }
    problems.append(&mut failed);
    events
}

async fn send(to: &ToQueue<'_>, messages: &[(String, Outgoing)], stop: &Stop, context: &Context) -> Vec<Delivery> {
    let sizes: Vec<usize> = messages.iter().map(|(_, message)| message.bytes()).collect();
    let batches = batches(&sizes, ToQueue::ENTRIES, ToQueue::BYTES);
    let sends = batches.into_iter().map(|batch| async move {
        let batch: Vec<&Outgoing> =
            messages.get(batch).unwrap_or_default().iter().map(|(_, message)| message).collect();
        if stop.is_set(&context.interrupt) {
            return vec![Delivery::Failed("it was not tried".to_owned()); batch.len()];
        }
        let deliveries = to.send(&batch).await;
        stop.set_if_all_failed(to.name(), &deliveries);
        deliveries
    });
    stream::iter(sends).buffered(CONCURRENT_SENDS).collect::<Vec<_>>().await.concat()
}

fn unreadable(lake: &S3, key: &EventsKey, error: &ReadError) -> Problem {
    let at = format!("s3://{}/{key}", lake.name());
    Problem { reason: "unreadable_object", id: None, at, detail: error.to_string() }
}

/// An event without columns.
#[derive(Debug, PartialEq, Eq)]
struct RawEvent {
    event_id: String,
    source: Option<String>,
    attributes: BTreeMap<String, String>,
    payload: Vec<u8>,
}

impl RawEvent {
    fn identity(&self) -> Identity {
        (self.event_id.clone(), Sha256::digest(&self.payload).to_vec())
    }

    /// The message that it was, but for its type. Attributes are texts in files, so binary ones are sent as base64.
    fn into_record(self, type_name: &str) -> QuarantineRecord {
        let text = |text: &str| json!({"dataType": "String", "stringValue": text});
        let mut attributes: Map<String, Value> =
            self.attributes.iter().map(|(name, value)| (name.clone(), text(value))).collect();
        attributes.insert("type".to_owned(), text(type_name));
        attributes.insert("event_id".to_owned(), text(&self.event_id));
        if let Some(source) = &self.source {
            attributes.insert("source".to_owned(), text(source));
        }
        QuarantineRecord {
            function: stack::WRITER.to_owned(),
            reason: UNREGISTERED.to_owned(),
            detail: String::new(),
            id: self.event_id,
            sent_at: None,
            attributes: to_raw_value(&attributes).unwrap_or_default(),
            // The body of the message is base64, too.
            body_base64: base64(base64(&self.payload).as_bytes()),
        }
    }
}

/// Leaf columns: those of the envelope with these names, and the first of the type.
fn columns(schema: &SchemaDescriptor, names: &[&str], column: &str) -> ProjectionMask {
    let mut is_first = true;
    let leaves = (0..schema.num_columns()).filter(|leaf| {
        let root = schema.get_column_root(*leaf).name();
        names.contains(&root) || (root == column && std::mem::take(&mut is_first))
    });
    ProjectionMask::leaves(schema, leaves.collect::<Vec<_>>())
}

/// Whether the row has the columns of its type.
fn is_typed(rows: &RecordBatch, column: &str, row: usize) -> bool {
    rows.column_by_name(column).is_some_and(|column| column.is_valid(row))
}

/// The events that have the columns of their type.
struct Typed<'a> {
    column: &'a str,
    ids: HashSet<Identity>,
    broken: Option<ReadError>,
}

impl Rows for Typed<'_> {
    fn columns(&self, schema: &SchemaDescriptor) -> ProjectionMask {
        columns(schema, &["event_id", "payload_sha256"], self.column)
    }

    fn batch(&mut self, rows: &RecordBatch, _: usize) -> Result<(), ReadError> {
        let ids = rows.column_by_name("event_id").and_then(|column| column.as_string_opt::<i32>());
        let ids = ids.ok_or(ReadError::Column("event_id"))?;
        let hashes = rows.column_by_name("payload_sha256").and_then(|column| column.as_binary_opt::<i32>());
        let hashes = hashes.ok_or(ReadError::Column("payload_sha256"))?;
        let typed = (0..rows.num_rows()).filter(|row| is_typed(rows, self.column, *row));
        self.ids.extend(typed.map(|row| (ids.value(row).to_owned(), hashes.value(row).to_vec())));
        Ok(())
    }

    fn line(&mut self, line: &[u8], row: usize) {
        match serde_json::from_slice::<Map<String, Value>>(line) {
            Ok(line) if line.contains_key(self.column) => {
                let text = |name| line.get(name).and_then(Value::as_str);
                let hash = text("payload_sha256").and_then(of_hex);
                self.ids.extend(text("event_id").map(str::to_owned).zip(hash));
            }
            Ok(_) => {}
            Err(cause) => drop(self.broken.get_or_insert(ReadError::Line { line: row + 1, cause })),
        }
    }
}

/// The events of a type that have nothing but their payload.
struct Raw<'a> {
    type_name: &'a str,
    column: &'a str,
    events: Vec<RawEvent>,
    broken: Option<ReadError>,
}

impl Rows for Raw<'_> {
    fn columns(&self, schema: &SchemaDescriptor) -> ProjectionMask {
        columns(schema, &["event_id", "source", "type", "attributes", "_raw"], self.column)
    }

    fn batch(&mut self, rows: &RecordBatch, _: usize) -> Result<(), ReadError> {
        let text = |name: &'static str| {
            let column = rows.column_by_name(name).and_then(|column| column.as_string_opt::<i32>());
            column.ok_or(ReadError::Column(name))
        };
        let [ids, source, types] = [text("event_id")?, text("source")?, text("type")?];
        let payloads = rows.column_by_name("_raw").and_then(|column| column.as_binary_opt::<i32>());
        let payloads = payloads.ok_or(ReadError::Column("_raw"))?;
        // Files of early versions have no attributes.
        let attributes = rows.column_by_name("attributes").and_then(|column| column.as_map_opt());
        for row in 0..rows.num_rows() {
            if types.value(row) != self.type_name || !payloads.is_valid(row) || is_typed(rows, self.column, row) {
                continue;
            }
            let attributes = attributes.filter(|all| all.is_valid(row)).map(|all| all.value(row));
            let of_column = |entries: &dyn Array| -> Vec<String> {
                let texts = entries.as_string_opt::<i32>();
                texts.map(|texts| texts.iter().flatten().map(str::to_owned).collect()).unwrap_or_default()
            };
            self.events.push(RawEvent {
                event_id: ids.value(row).to_owned(),
                source: source.is_valid(row).then(|| source.value(row).to_owned()),
                attributes: attributes
                    .map(|entries| of_column(entries.column(0)).into_iter().zip(of_column(entries.column(1))).collect())
                    .unwrap_or_default(),
                payload: payloads.value(row).to_vec(),
            });
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], row: usize) {
        #[derive(Deserialize)]
        struct Line {
            event_id: String,
            source: Option<String>,
            #[serde(rename = "type")]
            type_name: String,
            #[serde(default)]
            attributes: BTreeMap<String, String>,
            /// In hexadecimal digits.
            #[serde(rename = "_raw")]
            raw: Option<String>,
            #[serde(flatten)]
            rest: Map<String, Value>,
        }
        match serde_json::from_slice::<Line>(line) {
            Ok(Line { event_id, source, type_name, attributes, raw: Some(raw), rest })
                if type_name == self.type_name && !rest.contains_key(self.column) =>
            {
                if let Some(payload) = of_hex(&raw) {
                    self.events.push(RawEvent { event_id, source, attributes, payload });
                }
            }
            Ok(_) => {}
            Err(cause) => drop(self.broken.get_or_insert(ReadError::Line { line: row + 1, cause })),
        }
    }
}

fn of_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_that_would_land_without_columns_again_is_refused() {
        assert_eq!(registered("OrderCreated").unwrap().column, "order_created");
        assert_eq!(registered("CardCatalogEntryInserted").unwrap().column, "card_catalog_created");
        let refused = registered("OrderCreted").unwrap_err();
        assert!(refused.starts_with("\"OrderCreted\" is not an event type of this build, so"), "{refused}");
    }

    #[test]
    fn a_line_with_nothing_but_a_payload_is_an_event() {
        let mut raw = Raw { type_name: "OrderCreted", column: "order_created", events: Vec::new(), broken: None };
        for line in [
            r#"{"event_id": "a", "type": "OrderCreted", "_raw": "0a01ff", "attributes": {"trace": "t"}}"#,
            r#"{"event_id": "b", "type": "OrderCreted", "_raw": "0a01ff", "order_created": {}}"#,
            r#"{"event_id": "c", "type": "Other", "_raw": "0a01ff"}"#,
            r#"{"event_id": "d", "type": "OrderCreted"}"#,
        ] {
            raw.line(line.as_bytes(), 0);
        }
        let attributes = BTreeMap::from([("trace".to_owned(), "t".to_owned())]);
        let payload = vec![10, 1, 255];
        assert_eq!(raw.events, [RawEvent { event_id: "a".to_owned(), source: None, attributes, payload }]);
        assert!(raw.broken.is_none());
        raw.line(b"{", 1);
        assert!(raw.broken.is_some());
    }
}
