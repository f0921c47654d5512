//! `landfall trace`: where one event is. Files, quarantine and dead-letter queue are searched at the same time.

mod files;
mod messages;
mod report;

use clap::{Args, builder::NonEmptyStringValueParser};
use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use objects::{Bucket, S3};
use serde::Serialize;
use serde_json::Value;
use shared::{event::Registry, layout::Day};

use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::Failed,
    quarantine::place,
    replay::plan::Selection,
    stack::{self, StackError},
    when::{self, Times},
};

const HELP: &str = "\
Searches the files under events/, the quarantine of parquet-writer and the dead-letter queue of events for an
event_id. The SQS message id of an event is searched for too.
Files and quarantine are searched for the days on which the event may have been sent: today and yesterday in
UTC, if nothing else is said. A replay sends an event again, so its day is that of the replay. Files of event
types with an event_time are in folders of the days on which their events happened, which are searched too
if this build has such a type. Only the columns that are needed are read from Parquet files.

Dead letters are received for the search and given back; if this process is killed, they stay hidden for five
minutes. Messages in the queue itself are only counted, because each receive brings them nearer to the
dead-letter queue: after ten, SQS moves them there. --receive searches them too.

Exit code: 0 when the event was found, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall trace 5fea7756-0ea4-451a-a703-a558b933e274
  landfall trace order-4711 --day 2026/11/20
  landfall --stack staging trace order-4711 --since 2026-11-01 --receive --json";

const CONCURRENT_OBJECTS: usize = 16;

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct TraceArgs {
    /// The event's event_id or SQS message id.
    #[arg(value_name = "EVENT_ID", value_parser = NonEmptyStringValueParser::new())]
    pub id: String,
    #[command(flatten)]
    pub times: Times,
    /// Search the messages that wait in the queue too. Each is then one receive nearer to the dead-letter queue.
    #[arg(long)]
    pub receive: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Stack(#[from] StackError),
}

impl From<TraceError> for Failed {
    fn from(error: TraceError) -> Self {
        let exit = if matches!(error, TraceError::Usage(_)) { Exit::Usage } else { Exit::Incomplete };
        Self { sentence: error.to_string(), exit }
    }
}

/// Where an event is. A delivery that was repeated can leave it in several places.
#[derive(Debug, Default, Serialize)]
pub struct Trace {
    pub id: String,
    pub rows: Vec<Row>,
    pub quarantined: Vec<Quarantined>,
    pub messages: Vec<Message>,
    pub searched: Searched,
    /// What could not be searched, with the reason.
    pub unknown: Vec<String>,
}

/// A row of a file.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `s3://` and the bucket and key of the file.
    pub file: String,
    /// Counted from 0.
    pub row: usize,
    #[serde(rename = "type")]
    pub type_name: Option<String>,
    pub source: Option<String>,
    pub sent_at: Option<String>,
    /// It has the columns of no event type: most often its type was not registered when it landed.
    pub payload_only: bool,
}

/// A line of the quarantine.
#[derive(Debug, Serialize)]
pub struct Quarantined {
    pub object: String,
    /// Counted from 1.
    pub line: usize,
    pub id: String,
    pub reason: String,
    pub detail: String,
    pub sent_at: Option<String>,
}

/// A message of a queue.
#[derive(Debug, Serialize)]
pub struct Message {
    pub queue: String,
    pub message_id: String,
}

/// How much was searched.
#[derive(Debug, Default, Serialize)]
pub struct Searched {
    /// The first and the last UTC day on which the event may have been sent.
    pub days: Option<(String, String)>,
    /// Those on which it may have happened, by which the files of some event types are laid out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_days: Option<(String, String)>,
    pub files: usize,
    pub quarantine_objects: usize,
    pub dead_letters: usize,
    /// Received from the queue itself.
    pub queued: usize,
    /// Messages in the queue that were not searched, as far as its counters tell.
    pub queued_not_searched: usize,
}

/// Searches everywhere. `Err` means that nothing was searched.
pub async fn trace(args: &TraceArgs, context: &Context, console: &Console) -> Result<Trace, TraceError> {
    let selection = selection(args, context.now).map_err(TraceError::Usage)?;
    let lake = S3::new(&context.clients.s3, &context.setting(stack::WRITER, "LAKE_BUCKET").await?);
    let mut trace = Trace { id: args.id.clone(), ..Trace::default() };
    let files = files_of(&selection, context).await?;
    trace.searched.days = days_of(&selection);
    trace.searched.event_days = days_of(&files).filter(|days| Some(days) != trace.searched.days.as_ref());
    let dead_letters = format!("{}-dead-letter", stack::EVENTS);
    let (rows, quarantined, dead, queued) = tokio::join!(
        files::rows(&lake, &args.id, &files, console),
        quarantined(&lake, &args.id, &selection),
        messages::search(context, &args.id, &dead_letters, true),
        messages::search(context, &args.id, stack::EVENTS, args.receive),
    );
    trace.take("files", rows, |trace, (rows, files)| (trace.rows, trace.searched.files) = (rows, files));
    trace.take("quarantine", quarantined, |trace, (found, objects)| {
        (trace.quarantined, trace.searched.quarantine_objects) = (found, objects);
    });
    trace.take("dead-letter queue", dead, |trace, dead| {
        trace.messages.extend(dead.found);
        trace.searched.dead_letters = dead.searched;
        if dead.not_searched > 0 {
            trace.unknown.push(format!("dead-letter queue: about {} messages were not received", dead.not_searched));
        }
    });
    trace.take("queue", queued, |trace, queued| {
        trace.messages.extend(queued.found);
        (trace.searched.queued, trace.searched.queued_not_searched) = (queued.searched, queued.not_searched);
    });
    Ok(trace)
}

/// The days of the files that may have events which were sent in the selected time. Files of types with an `event_time` are in
/// folders of the days on which their events happened: some time before, or up to a day after.
async fn files_of(sent: &Selection, context: &Context) -> Result<Selection, TraceError> {
    let has_times =
        Registry::embedded().is_ok_and(|types| types.types().iter().any(|event| event.event_time.is_some()));
    if !has_times {
        return Ok(sent.clone());
    }
    let max_age_days: i64 =
        context.setting(stack::WRITER, "EVENT_TIME_MAX_AGE_DAYS").await?.parse().unwrap_or_default();
    Ok(widened(sent, max_age_days))
}

fn days_of(selection: &Selection) -> Option<(String, String)> {
    let (first, last) = selection.days();
    Some((first?.to_string(), last?.to_string()))
}

fn widened(sent: &Selection, max_age_days: i64) -> Selection {
    let day = SignedDuration::from_hours(24);
    let since = sent.since.and_then(|since| since.checked_sub(SignedDuration::from_hours(24 * max_age_days)).ok());
    Selection { since, until: sent.until.and_then(|until| until.checked_add(day).ok()), ..sent.clone() }
}

impl Trace {
    fn take<T>(&mut self, place: &str, answer: Result<(T, Vec<String>), String>, add: impl FnOnce(&mut Self, T)) {
        match answer {
            Ok((answer, problems)) => {
                add(self, answer);
                self.unknown.extend(problems);
            }
            Err(cause) => self.unknown.push(format!("{place}: {cause}")),
        }
    }

    fn is_found(&self) -> bool {
        !(self.rows.is_empty() && self.quarantined.is_empty() && self.messages.is_empty())
    }
}

/// The days that are searched: those of the arguments, or yesterday and today.
fn selection(args: &TraceArgs, now: Timestamp) -> Result<Selection, String> {
    let (since, until) = args.times.range()?;
    let day = |ms: i64| Day::of_unix_ms(ms.max(0)).ok().and_then(when::start_of);
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let now = now.as_millisecond();
    let until = until.or_else(|| day(now + DAY_MS));
    let since = since.or_else(|| {
        let last = until.map_or(now, |until| (until.as_millisecond() - 1).min(now));
        day(last - DAY_MS)
    });
    Ok(Selection { since, until, ..Selection::default() })
}

/// The quarantined records of the event, how many objects were searched, and which could not be.
async fn quarantined(
    lake: &S3,
    id: &str,
    selection: &Selection,
) -> Result<((Vec<Quarantined>, usize), Vec<String>), String> {
    let found = place::find(lake, stack::WRITER, selection).await.map_err(|error| error.to_string())?;
    let reads = found.objects.iter().map(|(key, _)| async move { (key, place::read(lake, key).await) });
    let mut reads = stream::iter(reads).buffered(CONCURRENT_OBJECTS);
    let (mut records, mut problems) = (Vec::new(), Vec::new());
    while let Some((key, object)) = reads.next().await {
        let object = match object {
            Ok(Some(object)) => object,
            // Another command has emptied it meanwhile.
            Ok(None) => continue,
            Err(error) => {
                problems.push(error.to_string());
                continue;
            }
        };
        for (position, line) in object.lines.iter().enumerate() {
            let Ok(record) = &line.record else { continue };
            if record.id != id && !has_event_id(record.attributes.get(), id) {
                continue;
            }
            records.push(Quarantined {
                object: format!("s3://{}/{key}", lake.name()),
                line: position + 1,
                id: record.id.clone(),
                reason: record.reason.clone(),
                detail: record.detail.clone(),
                sent_at: record.sent_at.clone(),
            });
        }
    }
    Ok(((records, found.objects.len()), problems))
}

/// Whether the message attributes of a record, in JSON, say that it is the event.
fn has_event_id(attributes: &str, id: &str) -> bool {
    let attributes: Value = serde_json::from_str(attributes).unwrap_or_default();
    attributes.pointer("/event_id/stringValue").and_then(Value::as_str) == Some(id)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use arrow::{
        array::{Array, ArrayRef, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray},
        buffer::NullBuffer,
        datatypes::{DataType, Field, TimestampMicrosecondType},
    };
    use flate2::{Compression, write::GzEncoder};
    use kit::{
        http::{self, HttpRequest, HttpResponse, respond_json},
        s3::{Buckets, Call, Object},
    };
    use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
    use serde_json::json;
    use shared::quarantine::base64;

    use super::*;
    use crate::{
        canned::{Ended, run, services},
        outcome::Outcome,
    };

    const NOW: &str = "2026-11-21T08:00:00Z";

    /// A lake, and a queue with its dead-letter queue.
    #[derive(Default)]
    struct Aws {
        s3: Buckets,
        /// Message id, event_id and receive count of each message, by the name of its queue.
        messages: Vec<(&'static str, &'static str, Option<&'static str>, usize)>,
        calls: Vec<String>,
    }

    impl Aws {
        fn put(&mut self, key: &str, body: Vec<u8>) {
            let object = Object { body, ..Object::default() };
            self.s3.objects.insert(("lake".to_owned(), key.to_owned()), object);
        }

        fn answer(&mut self, request: &HttpRequest) -> HttpResponse {
            if request.uri().contains("/2015-03-31/functions/landfall-parquet-writer/") {
                return respond_json(200, &json!({"Environment": {"Variables": {"LAKE_BUCKET": "lake"}}}));
            }
            let Some(target) = http::target(request) else {
                let call = Call::of(request).unwrap();
                self.calls.push(call.operation.to_owned());
                return self.s3.answer(&call, request);
            };
            let action = target.strip_prefix("AmazonSQS.").unwrap();
            let input = http::json(request);
            let queue = input["QueueUrl"].as_str().and_then(|url| url.rsplit('/').next()).unwrap_or_default();
            self.calls.push(format!("{action} {queue}"));
            let messages = || self.messages.iter().filter(|(name, ..)| *name == queue);
            respond_json(
                200,
                &match action {
                    "GetQueueUrl" => {
                        json!({"QueueUrl": format!("http://sqs/1/{}", input["QueueName"].as_str().unwrap())})
                    }
                    "GetQueueAttributes" => json!({"Attributes": {
                        "ApproximateNumberOfMessages": messages().filter(|message| message.3 == 0).count().to_string(),
                    }}),
                    "ReceiveMessage" => {
                        let waiting =
                            self.messages.iter_mut().filter(|(name, .., receives)| *name == queue && *receives == 0);
                        let received = waiting.take(10).map(|(_, id, event_id, receives)| {
                        *receives += 1;
                        let attributes = event_id.map(|id| json!({"event_id": {"DataType": "String", "StringValue": id}}));
                        json!({"MessageId": id, "ReceiptHandle": id, "Body": "x", "MessageAttributes": attributes.unwrap_or_default()})
                    });
                        json!({"Messages": received.collect::<Vec<_>>()})
                    }
                    "ChangeMessageVisibilityBatch" => json!({"Successful": [], "Failed": []}),
                    other => panic!("{other}"),
                },
            )
        }
    }

    async fn trace(aws: Aws, arguments: &[&str]) -> (Ended, Arc<Mutex<Aws>>) {
        let aws = Arc::new(Mutex::new(aws));
        let answering = aws.clone();
        let context = services(move |request| answering.lock().unwrap().answer(request)).await;
        let context = Context { now: NOW.parse().unwrap(), ..context };
        (run(&context, &[&["trace"], arguments].concat()).await, aws)
    }

    /// A file of `rows` rows in several row groups, whose event ids are their numbers. The second has no columns of a type.
    fn parquet(rows: usize) -> Vec<u8> {
        let text = |value: &dyn Fn(usize) -> String| -> ArrayRef {
            Arc::new(StringArray::from((0..rows).map(value).collect::<Vec<_>>()))
        };
        let sent_at: i64 = "2026-11-20T14:11:46.123Z".parse::<Timestamp>().unwrap().as_microsecond();
        let sent_at = TimestampMicrosecondArray::from(vec![sent_at; rows]).with_timezone("UTC");
        // Too large to be in the bytes that are read first.
        let payload = text(&|row| format!("{row:_>200}"));
        let fields = ["order_id", "sku"].map(|name| Field::new(name, DataType::Utf8, false)).to_vec();
        let members = vec![text(&|row| row.to_string()), text(&|_| "x".to_owned())];
        let is_order: NullBuffer = (0..rows).map(|row| row != 1).collect::<Vec<_>>().into();
        let order = StructArray::new(fields.into(), members, Some(is_order));
        let columns = [
            ("event_id", text(&|row| format!("event-{row}"))),
            ("source", text(&|_| "orders".to_owned())),
            ("type", text(&|_| "OrderCreated".to_owned())),
            ("sent_at", Arc::new(sent_at.reinterpret_cast::<TimestampMicrosecondType>()) as ArrayRef),
            ("_raw", payload),
            ("order_created", Arc::new(order)),
        ];
        let columns = columns.map(|(name, column)| {
            let is_nullable = column.is_nullable();
            (name, column, is_nullable)
        });
        let batch = RecordBatch::try_from_iter_with_nullable(columns).unwrap();
        let properties = WriterProperties::builder().set_max_row_group_row_count(Some(1_000)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn quarantined(id: &str, event_id: &str) -> String {
        json!({
            "function": "parquet-writer", "reason": "invalid_base64", "detail": "why", "id": id,
            "sent_at": "2026-11-20T14:11:46.123Z", "body_base64": base64(b"x"),
            "attributes": {"event_id": {"dataType": "String", "stringValue": event_id}},
        })
        .to_string()
    }

    #[test]
    fn events_are_looked_for_in_the_days_on_which_they_may_have_happened() {
        let at = |text: &str| Some(text.parse().unwrap());
        let sent =
            Selection { since: at("2026-11-20T00:00:00Z"), until: at("2026-11-21T00:00:00Z"), ..Selection::default() };
        let files = widened(&sent, 30);
        assert_eq!((files.since, files.until), (at("2026-10-21T00:00:00Z"), at("2026-11-22T00:00:00Z")));
        assert_eq!(widened(&sent, 36_500_000).since, None);
    }

    #[tokio::test]
    async fn a_landed_event_is_a_row_of_a_file() {
        let mut aws = Aws::default();
        aws.put("events/2026/11/20/a.parquet", parquet(3_000));
        aws.put("events/2026/11/21/b.parquet", parquet(10));
        let size = aws.s3.objects.values().map(|object| object.body.len()).max().unwrap();
        assert!(u64::try_from(size).unwrap() > 2 * 65_536, "{size}");
        let (ended, aws) = trace(aws, &["event-2345"]).await;
        let expected = "landed      s3://lake/events/2026/11/20/a.parquet\n            \
                        row 2,345, type OrderCreated, source orders, sent 2026-11-20T14:11:46.123Z\n\
                        searched    2026/11/20 to 2026/11/21: 2 files, 0 quarantine objects, 0 dead letters\n";
        assert_eq!((ended.code, ended.out.as_str()), (0, expected));
        assert!(aws.lock().unwrap().calls.iter().all(|call| call != "ReceiveMessage landfall-events"));
    }

    #[tokio::test]
    async fn a_row_that_has_nothing_but_its_payload_is_told_from_a_typed_one() {
        let mut aws = Aws::default();
        aws.put("events/2026/11/21/a.parquet", parquet(10));
        let line = |id: &str, more: &str| format!("{{\"event_id\": \"{id}\", \"_raw\": \"00\"{more}}}\n");
        let lines = line("event-1", "") + &line("event-1", ", \"order_created\": {}");
        aws.put("events/2026/11/21/b.ndjson", lines.into_bytes());
        let (ended, _) = trace(aws, &["event-1"]).await;
        let shown: Vec<&str> = ended.out.lines().filter(|line| line.starts_with("            row")).collect();
        let hint = "payload only, without columns of a type: see landfall replay raw";
        let expected = [
            format!("row 1, type OrderCreated, source orders, sent 2026-11-20T14:11:46.123Z, {hint}"),
            format!("row 0, {hint}"),
            "row 1".to_owned(),
        ];
        assert_eq!(shown, expected.map(|row| format!("            {row}")), "{}", ended.out);
    }

    #[test]
    fn days_on_which_the_event_may_have_happened_are_named() {
        let days = |first: &str, last: &str| Some((first.to_owned(), last.to_owned()));
        let searched = Searched {
            days: days("2026/11/21", "2026/11/22"),
            event_days: days("2026/10/22", "2026/11/23"),
            files: 2,
            ..Searched::default()
        };
        let text = Trace { searched, ..Trace::default() }.to_text();
        let expected = "searched    2026/11/21 to 2026/11/22: 2 files (of 2026/10/22 to 2026/11/23, since some types have an \
                        event_time), 0 quarantine objects, 0 dead letters\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[tokio::test]
    async fn lines_are_searched_too() {
        let line = |id: &str| json!({"event_id": id, "type": "OrderCreated", "sent_at": "2026-11-20T14:11:46.123"});
        let text = format!("{}\n{}\n", line("a"), line("b"));
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes()).unwrap();
        let mut aws = Aws::default();
        aws.put("events/2026/11/20/a.ndjson", text.into_bytes());
        aws.put("events/2026/11/20/b.ndjson.gz", gzip.finish().unwrap());
        aws.put("events/2026/11/20/c.ndjson", b"{}\n{\"event_id\": \"b\"\n{\"event_id\": \"a\"".to_vec());
        let (ended, _) = trace(aws, &["b", "--json"]).await;
        let trace = ended.json();
        let rows: Vec<_> = trace["rows"].as_array().unwrap().iter().map(|row| (&row["file"], &row["row"])).collect();
        let files = [json!("s3://lake/events/2026/11/20/a.ndjson"), json!("s3://lake/events/2026/11/20/b.ndjson.gz")];
        assert_eq!(rows, [(&files[0], &json!(1)), (&files[1], &json!(1))]);
        let unknown = trace["unknown"][0].as_str().unwrap();
        assert!(unknown.starts_with("s3://lake/events/2026/11/20/c.ndjson: line 2 is no row: EOF"), "{unknown}");
    }

    #[tokio::test]
    async fn a_quarantined_event_is_found_by_both_of_its_ids() {
        for id in ["message", "event"] {
            let mut aws = Aws::default();
            let lines = format!("{}\n{}\n", quarantined("other", "other"), quarantined("message", "event"));
            aws.put("quarantine/parquet-writer/2026/11/20/20261120T141146123Z-1.ndjson", lines.into_bytes());
            let (ended, _) = trace(aws, &[id]).await;
            assert!(
                ended.out.contains("20261120T141146123Z-1.ndjson\n            line 2, message message, "),
                "{ended:?}"
            );
            assert!(ended.out.contains("because of invalid_base64: why\n"), "{ended:?}");
        }
    }

    #[tokio::test]
    async fn dead_letters_are_received_and_given_back() {
        let messages = vec![
            ("landfall-events-dead-letter", "m-1", Some("a"), 0),
            ("landfall-events-dead-letter", "m-2", None, 0),
            ("landfall-events", "m-3", Some("c"), 0),
        ];
        let aws = || Aws { messages: messages.clone(), ..Aws::default() };
        for (id, arguments, expected) in [
            ("a", &[] as &[&str], "queued      landfall-events-dead-letter\n            message m-1\n"),
            ("m-2", &[], "queued      landfall-events-dead-letter\n            message m-2\n"),
            ("c", &["--receive"], "queued      landfall-events\n            message m-3\n"),
        ] {
            let (ended, aws) = trace(aws(), &[&[id], arguments].concat()).await;
            assert!(ended.code == 0 && ended.out.starts_with(expected), "{ended:?}");
            let calls = &aws.lock().unwrap().calls;
            assert!(calls.contains(&"ChangeMessageVisibilityBatch landfall-events-dead-letter".to_owned()));
            let receives = calls.iter().any(|call| call == "ReceiveMessage landfall-events");
            assert_eq!(receives, !arguments.is_empty());
        }
        let (ended, _) = trace(aws(), &["c"]).await;
        let expected = "c was not found; if it was replayed, its day is that of the replay\n\
                        searched    2026/11/20 to 2026/11/21: 0 files, 0 quarantine objects, 2 dead letters\n            \
                        about 1 message is in the queue and not searched; --receive searches what waits\n";
        assert_eq!((ended.code, ended.out.as_str()), (1, expected));
    }

    #[test]
    fn yesterday_and_today_are_searched_unless_other_days_are_named() {
        let days = |arguments: &[&str]| {
            let cli = crate::Cli::try_parse_args(&[&["trace", "a"], arguments].concat()).unwrap();
            let crate::Command::Trace(args) = cli.command else { panic!("another command") };
            let (first, last) = selection(&args, NOW.parse().unwrap()).unwrap().days();
            format!("{} {}", first.unwrap(), last.unwrap())
        };
        assert_eq!(days(&[]), "2026/11/20 2026/11/21");
        assert_eq!(days(&["--day", "2026/11/01"]), "2026/11/01 2026/11/01");
        assert_eq!(days(&["--since", "2026/11/01"]), "2026/11/01 2026/11/21");
        assert_eq!(days(&["--until", "2026/11/05"]), "2026/11/04 2026/11/05");
    }
}
