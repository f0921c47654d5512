//! `landfall replay quarantine`: list, read, send, and only then remove.

use clap::{Args, builder::PossibleValuesParser};
use futures_util::{StreamExt, stream};
use objects::{Bucket, S3};
use shared::{layout::QuarantineKey, quarantine::QuarantineRecord};

use super::{
    ReplayError, Stop,
    destination::{Destination, ToQueue, ToStream},
    message::SetAttribute,
    plan::{Fate, Object, Plan, Planner, Selection, Settlement, batches},
    queue_url,
    report::{Problem, Report},
};
use crate::{
    console::Console,
    context::Context,
    quarantine::{
        place::{self, Found},
        select::{REPLAYED, SelectArgs},
    },
    queue::{self, Delivery},
    stack,
    text::grouped,
};

/// Objects that are read, sent and settled together.
const GROUP_OBJECTS: usize = 64;
/// The most bytes of such a group, which bounds the memory that a replay takes.
const GROUP_BYTES: usize = 64 << 20;
const CONCURRENT_S3_REQUESTS: usize = 8;
const CONCURRENT_SENDS: usize = 4;

const HELP: &str = "\
Each record holds what the function refused: the body and the attributes of a message, which is sent to the
queue again, or for kafka-roller the data and the partition key of a record, which is put into the stream
again. A record without the attribute event_id gets its original message id as event_id,
so that its row can be told apart from others, and dropped if it lands twice. Records of the consumer are sent
to the queue of events, as it would have sent them.

Records are removed from the quarantine only when SQS or Kinesis has confirmed them, so running the command again
continues with the rest. If it is killed in between, the next run may send some records again. Do not run
two replays of the same records at once. Records that cannot be sent as they are, such as those without a
body, are reported with id and reason, and stay.

A replayed record is a new message with a new time of sending. Replay after the cause has been
fixed: a record that is refused again is quarantined again, on the day of the replay.

Exit code: 0 when everything selected was replayed, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall replay quarantine --dry-run
  landfall replay quarantine --day 2026/11/20 --reason invalid_protobuf
  landfall replay quarantine --reason missing_type --set-attribute type=OrderCreated
  landfall --stack staging replay quarantine --function load-registrar --since 2026-11-20T14:00:00Z --json
  landfall replay quarantine --bucket $BUCKET --to $QUEUE_URL --limit 10";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct QuarantineArgs {
    /// Queue (or, for kafka-roller, name of the stream) to send the records to, if it is not what the function of the stack reads.
    #[arg(long, value_name = "QUEUE-URL|STREAM")]
    pub to: Option<String>,
    /// Function that refused the records.
    #[arg(long, value_name = "NAME", default_value = "parquet-writer")]
    #[arg(value_parser = PossibleValuesParser::new(REPLAYED))]
    pub function: String,
    #[command(flatten)]
    pub select: SelectArgs,
    /// Send every record with this message attribute of type String, in place of its own; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    pub set_attribute: Vec<SetAttribute>,
    /// Read everything and report what would be sent, without sending or changing anything.
    #[arg(long)]
    pub dry_run: bool,
}

/// Replays quarantined records. `Err` means that nothing was done.
pub async fn replay(args: &QuarantineArgs, context: &Context, console: &Console) -> Result<Report, ReplayError> {
    let selection = args.select.selection(Some(&args.function)).map_err(ReplayError::Usage)?;
    if args.function == stack::ROLLER {
        if !args.set_attribute.is_empty() {
            let message = "--set-attribute is for messages; records of a stream have no attributes";
            return Err(ReplayError::Usage(message.to_owned()));
        }
        let stream = match &args.to {
            Some(stream) => stream.clone(),
            None => context.source(stack::ROLLER).await?,
        };
        let to = ToStream { client: &context.clients.kinesis, stream };
        return replay_to(to, selection, args, context, console).await;
    }
    let to = match &args.to {
        Some(to) => queue_url(to).map_err(|message| ReplayError::Usage(message.to_owned()))?,
        None if args.function == stack::REGISTRAR => context.queue(stack::PUTS).await?,
        None => context.queue(stack::EVENTS).await?,
    };
    let client = &context.clients.sqs;
    let (queue, _) = queue::describe(client, &to).await?;
    replay_to(ToQueue { client, queue, set: &args.set_attribute }, selection, args, context, console).await
}

async fn replay_to<D: Destination>(
    to: D,
    selection: Selection,
    args: &QuarantineArgs,
    context: &Context,
    console: &Console,
) -> Result<Report, ReplayError> {
    let bucket = match &args.select.bucket {
        Some(bucket) => bucket.clone(),
        None => context.lake_of(&args.function).await?,
    };
    let from = format!("s3://{bucket}/{}", place::folder(&args.function));
    let mut report = Report {
        command: "replay quarantine",
        things: "records",
        from,
        to: to.name().to_owned(),
        dry_run: args.dry_run,
        ..Report::default()
    };
    // All keys are known before anything is sent: what is refused again is quarantined again, and must not be seen here.
    let bucket = S3::new(&context.clients.s3, &bucket);
    let Found { objects, foreign } = place::find(&bucket, &args.function, &selection).await?;
    if let Some(example) = foreign.first() {
        let count = grouped(foreign.len());
        report.notes.push(format!(
            "{count} objects have keys that are not quarantine keys and were skipped, such as {example}"
        ));
    }
    let progress = console.progress("Replaying", "objects", Some(objects.len()));
    let run = Run { context, bucket, to, stop: Stop::default() };
    let mut planner = Planner::new(selection, |record: &QuarantineRecord| run.to.of_record(record));
    let (mut read, mut copies) = (0, 0);
    let sizes: Vec<usize> = objects.iter().map(|(_, bytes)| *bytes).collect();
    for group in batches(&sizes, GROUP_OBJECTS, GROUP_BYTES) {
        if planner.is_spent() || run.is_over() {
            break;
        }
        let group = objects.get(group).unwrap_or_default();
        read += group.len();
        let plan = planner.plan(run.read(group, &mut report).await);
        let deliveries = if args.dry_run { pretended(&plan) } else { run.send(&plan.messages).await };
        let is_sent: Vec<bool> = deliveries.iter().map(|delivery| matches!(delivery, Delivery::Sent(_))).collect();
        for (reason, counts) in plan.counts(&is_sent) {
            report.total += counts;
            *report.by_reason.entry(reason).or_default() += counts;
        }
        copies += plan.copies();
        run.problems(&plan, &deliveries, &mut report);
        match planner.settle(&plan, &is_sent) {
            Ok(settlements) if !args.dry_run => run.settle(&plan, &is_sent, settlements, &mut report).await,
            Ok(_) => {}
            Err(error) => run.stop.set(error.to_string()),
        }
        progress.add(group.len());
        progress.say(&format!("{} records sent", grouped(report.total.sent)));
    }
    report.stopped = run.stop.cause();
    if copies > 0 {
        report.notes.push(format!("{} further copies of the same messages were not sent again", grouped(copies)));
    }
    if planner.is_spent() && read < objects.len() {
        report
            .notes
            .push(format!("the limit is reached; {} more objects were not read", grouped(objects.len() - read)));
    }
    Ok(report)
}

struct Run<'a, D> {
    context: &'a Context,
    bucket: S3,
    to: D,
    stop: Stop,
}

impl<D: Destination> Run<'_, D> {
    fn is_over(&self) -> bool {
        self.stop.is_set(&self.context.interrupt)
    }

    fn at(&self, key: &QuarantineKey) -> String {
        format!("s3://{}/{key}", self.bucket.name())
    }

    /// Reads objects, in order. One that is gone has been replayed by another run; one that cannot be read is a problem.
    async fn read(&self, objects: &[(QuarantineKey, usize)], report: &mut Report) -> Vec<Object> {
        let reads = objects.iter().map(async |(key, _)| (key, place::read(&self.bucket, key).await));
        let results: Vec<_> = stream::iter(reads).buffered(CONCURRENT_S3_REQUESTS).collect().await;
        let mut read = Vec::new();
        for (key, result) in results {
            match result {
                Ok(Some(object)) => read.push(object),
                Ok(None) => {
                    report.notes.push(format!("{} is gone; another run has replayed it", self.at(key)));
                }
                Err(error) => report.problems.push(Problem {
                    reason: "unreadable_object",
                    id: None,
                    at: self.at(key),
                    detail: error.to_string(),
                }),
            }
        }
        read
    }

    /// Sends messages, in batches side by side. Once a whole batch fails, the others are not tried.
    async fn send(&self, messages: &[D::Message]) -> Vec<Delivery> {
        let sizes: Vec<usize> = messages.iter().map(D::bytes).collect();
        let batches = batches(&sizes, D::ENTRIES, D::BYTES);
        let sends = batches.into_iter().map(|batch| async move {
            let batch: Vec<&D::Message> = messages.get(batch).unwrap_or_default().iter().collect();
            if self.is_over() {
                return vec![Delivery::Failed("it was not tried".to_owned()); batch.len()];
            }
            let deliveries = self.to.send(&batch).await;
            self.stop.set_if_all_failed(self.to.name(), &deliveries);
            deliveries
        });
        stream::iter(sends).buffered(CONCURRENT_SENDS).collect::<Vec<_>>().await.concat()
    }

    /// Reports records that were selected and could not be sent.
    fn problems(&self, plan: &Plan<D::Message>, deliveries: &[Delivery], report: &mut Report) {
        for (object, fates) in &plan.objects {
            for (position, (line, fate)) in object.lines.iter().zip(fates).enumerate() {
                let (reason, detail) = match fate {
                    Fate::Unsendable(problem) => (problem.reason(), problem.to_string()),
                    Fate::Send(message) => match deliveries.get(*message) {
                        Some(Delivery::Refused(cause)) => ("refused", cause.clone()),
                        Some(Delivery::Failed(cause)) => ("not_sent", cause.clone()),
                        Some(Delivery::Sent(_)) | None => continue,
                    },
                    Fate::NotSelected | Fate::Copy(_) | Fate::SentBefore => continue,
                };
                let id = line.record.as_ref().ok().map(|record| record.id.clone());
                let at = format!("{}, line {}", self.at(&object.key), position + 1);
                report.problems.push(Problem { reason, id, at, detail });
            }
        }
    }

    /// Removes what was sent. Records that were sent and could not be removed are reported.
    async fn settle(
        &self,
        plan: &Plan<D::Message>,
        is_sent: &[bool],
        settlements: Vec<Settlement>,
        report: &mut Report,
    ) {
        let settled = plan.objects.iter().zip(settlements).map(|((object, fates), settlement)| async move {
            place::settle(&self.bucket, &object.key, settlement).await.map_err(|error| (object, fates, error))
        });
        let settled: Vec<_> = stream::iter(settled).buffered(CONCURRENT_S3_REQUESTS).collect().await;
        for (object, fates, error) in settled.into_iter().filter_map(Result::err) {
            for (line, _) in object.lines.iter().zip(fates).filter(|(_, fate)| fate.is_gone(is_sent)) {
                report.problems.push(Problem {
                    reason: "sent_not_removed",
                    id: line.record.as_ref().ok().map(|record| record.id.clone()),
                    at: self.at(&object.key),
                    detail: format!("it was sent, and the next replay would send it again: {error}"),
                });
            }
        }
    }
}

/// The deliveries that a dry run assumes.
fn pretended<M>(plan: &Plan<M>) -> Vec<Delivery> {
    plan.messages.iter().map(|_| Delivery::Sent(String::new())).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::{Cli, Command, replay::Replay};

    fn selection(arguments: &[&str]) -> Result<Selection, String> {
        let always = ["replay", "quarantine", "--bucket", "lake", "--to", "http://127.0.0.1:1/1/events"];
        let cli = Cli::try_parse_args(&[&always, arguments].concat()).map_err(|error| error.to_string())?;
        let Command::Replay(Replay::Quarantine(args)) = cli.command else { panic!("another command") };
        args.select.selection(Some(&args.function))
    }

    fn at(text: &str) -> Option<Timestamp> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn days_and_times_are_ranges() {
        let day = selection(&["--day", "2026/11/20"]).unwrap();
        assert_eq!((day.since, day.until), (at("2026-11-20T00:00:00Z"), at("2026-11-21T00:00:00Z")));
        let range = selection(&["--since", "2026-11-20T15:11:46+01:00", "--until", "2026-11-22"]).unwrap();
        assert_eq!((range.since, range.until), (at("2026-11-20T14:11:46Z"), at("2026-11-23T00:00:00Z")));
        let all = selection(&[]).unwrap();
        assert_eq!((all.since, all.until, all.limit), (None, None, None));
        assert!(selection(&["--until", "9999/12/31"]).is_ok());
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(selection(&["--day", "2026/11/31"]).unwrap_err().contains("write a day as 2026/11/20"));
        assert!(
            selection(&["--day", "2026/11/20", "--since", "2026/11/20"]).unwrap_err().contains("cannot be used with")
        );
        assert!(selection(&["--day", "2026-11-20T00:00:00Z"]).unwrap_err().contains("--day takes a day"));
        assert_eq!(
            selection(&["--since", "2026/11/21", "--until", "2026/11/20"]).unwrap_err(),
            "--since is not before --until"
        );
        let function = selection(&["--function", "parquet-witer"]).unwrap_err();
        assert!(
            function.contains("[possible values: parquet-writer, kafka-roller, load-registrar, consumer]"),
            "{function}"
        );
        let expected = "parquet-writer quarantines nothing for the reason \"invalid_protobuff\"; its reasons are \
                        empty_body, invalid_base64, invalid_protobuf, invalid_sent_timestamp, missing_type, and \
                        unreadable_line for damaged lines";
        let typo = ["--reason", "missing_type", "--reason", "invalid_protobuff"];
        assert_eq!(selection(&typo).unwrap_err(), expected);
        assert!(selection(&["--function", "load-registrar", "--reason", "invalid_key"]).is_ok());
        assert!(selection(&["--function", "load-registrar", "--reason", "missing_type"]).is_err());
    }
}
