//! `landfall replay discarded`: lands the batches of a stream that Lambda has given up. kafka-roller reads each from the lake and decides which of
//! its records are in no file; then the object is deleted.

use clap::{Args, builder::NonEmptyStringValueParser};
use objects::{Bucket, S3};
use rolling::{
    discarded::{FOLDER, Replayed},
    event::Request,
};
use serde::Deserialize;

use super::{
    ReplayError, Stop,
    report::{Counts, Problem, Report},
};
use crate::{
    console::Console,
    context::Context,
    registrar::{self, RegistrarError},
    stack,
    text::counted,
};

const HELP: &str = "\
Lambda gives up a record that is larger than it can pass on (6 MB), and batches if the event source mapping
says so (MaximumRetryAttempts, MaximumRecordAgeInSeconds). It writes them to the lake under aws/lambda/, and
the alarm RecordsGivenUp rings. This command has kafka-roller land each: records that are in a file or on their
way into one are left out, records behind everything that is staged take the usual way, and the others become
files of their own, one for each table, with landfall-reason: replay. Then the object is deleted.

It can be repeated and interrupted at any time; no record lands twice. What cannot be decided is refused and
stays: records from before kafka-roller kept what it had staged, or that arrived more than 360 days ago, and
those of a shard of which nothing was ever staged.

Exit code: 0 when everything was landed, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall replay discarded --dry-run
  landfall --stack staging replay discarded --json";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct DiscardedArgs {
    /// Replay at most this many batches; 0 replays all.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub limit: usize,
    /// Count what there is, by shard, without landing or deleting anything.
    #[arg(long)]
    pub dry_run: bool,
    /// Land records too of which it is not known whether they landed before. Look for them in their files first.
    #[arg(long)]
    pub even_if_landed: bool,
    /// Name or ARN of kafka-roller, if it is not that of the stack.
    #[arg(long, value_name = "NAME", display_order = 90, value_parser = NonEmptyStringValueParser::new())]
    pub function: Option<String>,
}

/// What kafka-roller answers.
#[derive(Debug, Deserialize)]
struct Answer {
    replayed: Replayed,
}

/// Replays batches, the oldest of each shard first. `Err` means that nothing was done.
pub async fn replay(args: &DiscardedArgs, context: &Context, console: &Console) -> Result<Report, ReplayError> {
    let function = args.function.clone().unwrap_or_else(|| context.named(stack::ROLLER));
    let lake = context.function(&function).await?.setting("LAKE_BUCKET")?;
    let lake = S3::new(&context.clients.s3, &lake);
    let waiting = console.waiting("the listing");
    let found = lake.list(FOLDER).await?;
    drop(waiting);
    let mut report = Report {
        command: "replay discarded",
        things: "batches",
        from: format!("s3://{}/{FOLDER}", lake.name()),
        to: function.clone(),
        dry_run: args.dry_run,
        ..Report::default()
    };
    let selected = if args.limit == 0 { found.len() } else { args.limit.min(found.len()) };
    let progress = console.progress("Replayed", "batches", Some(selected));
    let (stop, mut sum) = (Stop::default(), Replayed::default());
    for (number, object) in found.iter().enumerate() {
        let mut counts = Counts { found: 1, ..Counts::default() };
        if number >= selected {
            counts.not_selected = 1;
        } else if args.dry_run {
            counts.sent = 1;
        } else if stop.is_set(&context.interrupt) {
            counts.left = 1;
        } else {
            let at = format!("s3://{}/{}", lake.name(), object.key);
            let problem = |reason, detail: String| Problem { reason, id: None, at: at.clone(), detail };
            match land(&function, &object.key, args.even_if_landed, context).await {
                Ok(replayed) => {
                    counts.sent = 1;
                    sum.records += replayed.records;
                    sum.already += replayed.already;
                    sum.out_of_band += replayed.out_of_band;
                    sum.staged += replayed.staged;
                    sum.unfinished += replayed.unfinished;
                    if let Err(error) = lake.delete(std::slice::from_ref(&object.key)).await {
                        report.problems.push(problem("sent_not_removed", error.to_string()));
                    }
                }
                Err(error) => {
                    counts.left = 1;
                    let is_of_all = matches!(error, RegistrarError::Missing { .. } | RegistrarError::Call { .. });
                    if is_of_all {
                        stop.set(error.to_string());
                    }
                    report.problems.push(problem("not_landed", error.to_string()));
                }
            }
            progress.add(1);
        }
        report.total += counts;
        *report.by_reason.entry(shard(&object.key)).or_default() += counts;
    }
    if sum != Replayed::default() {
        let records = counted(sum.records, "record", "records");
        let Replayed { already, out_of_band, staged, .. } = sum;
        report.notes.push(format!(
            "of {records}, {already} had landed before, {out_of_band} became files of their own or were quarantined, and {staged} \
             were staged"
        ));
    }
    if sum.unfinished > 0 {
        let files = counted(sum.unfinished, "thing is", "things are");
        report
            .notes
            .push(format!("{files} not finished, but durable: the next tick goes on (see the log of {function})"));
    }
    report.stopped = stop.cause();
    Ok(report)
}

/// Has kafka-roller land what an object in its lake has and no file.
pub(crate) async fn land(
    function: &str,
    key: &str,
    even_if_landed: bool,
    context: &Context,
) -> Result<Replayed, RegistrarError> {
    let request = Request { discarded: key.to_owned(), even_if_landed };
    registrar::invoke::<Answer>(function, &request, context).await.map(|answer| answer.replayed)
}

/// The shard in the key of an object: `aws/lambda/{mapping}/{shard}/…`.
fn shard(key: &str) -> String {
    key.split('/').nth(3).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kit::{
        http::{self, HttpRequest, HttpResponse, respond_json},
        s3::{Buckets, Call, Object},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        canned::{Ended, run, services},
        context::Interrupt,
    };

    const OF_SHARD: &str = "aws/lambda/0f1e2d3c-8f7a-4b6e-9d5c-1a2b3c4d5e6f/shardId-00000000000";

    /// A lake with these objects, and a function that answers each with a value or a sentence.
    #[derive(Default)]
    struct Lake {
        s3: Buckets,
        asked: Vec<Value>,
        refuses: Vec<(String, &'static str)>,
        keeps: bool,
    }

    impl Lake {
        fn of(keys: &[String]) -> Arc<Mutex<Self>> {
            let mut lake = Self::default();
            for key in keys {
                lake.s3
                    .objects
                    .insert(("lake".to_owned(), key.clone()), Object { body: "{}".into(), ..Object::default() });
            }
            Arc::new(Mutex::new(lake))
        }

        fn answer(&mut self, request: &HttpRequest) -> HttpResponse {
            if request.uri().ends_with("/landfall-kafka-roller/configuration") {
                return respond_json(200, &json!({"Environment": {"Variables": {"LAKE_BUCKET": "lake"}}}));
            }
            if request.uri().ends_with("/landfall-kafka-roller/invocations") {
                let event = http::json(request);
                self.asked.push(event.clone());
                let refused = self.refuses.iter().find(|(key, _)| event["discarded"] == key.as_str());
                return match refused {
                    Some((_, sentence)) => {
                        let header = ("x-amz-function-error", "Unhandled".to_owned());
                        http::respond(200, json!({"errorMessage": sentence}).to_string(), &[header])
                    }
                    None => respond_json(
                        200,
                        &json!({"batchItemFailures": [], "replayed": {
                            "shard": "cubic-kafka/shardId-000000000006", "records": 500, "already": 100, "out_of_band": 300,
                            "staged": 100, "unfinished": 0,
                        }}),
                    ),
                };
            }
            let call = Call::of(request).unwrap();
            if call.operation == "DeleteObjects" && self.keeps {
                return http::respond(403, "<Error><Code>AccessDenied</Code><Message>no</Message></Error>", &[]);
            }
            self.s3.answer(&call, request)
        }
    }

    async fn replayed(lake: &Arc<Mutex<Lake>>, arguments: &[&str]) -> Ended {
        let shared = Arc::clone(lake);
        let context = services(move |request| shared.lock().unwrap().answer(request)).await;
        run(&context, &[&["replay", "discarded"], arguments].concat()).await
    }

    fn keys() -> Vec<String> {
        let name = |shard: u8, second: u8| format!("{OF_SHARD}{shard}/2026/11/20/2026-11-20T14.11.{second}-7c2b");
        vec![name(1, 46), name(1, 47), name(2, 46)]
    }

    fn left(lake: &Arc<Mutex<Lake>>) -> Vec<String> {
        lake.lock().unwrap().s3.objects.keys().map(|(_, key)| key.clone()).collect()
    }

    #[tokio::test]
    async fn each_batch_is_landed_and_its_object_deleted() {
        let lake = Lake::of(&keys());
        let ended = replayed(&lake, &[]).await;
        assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
        assert_eq!(left(&lake), Vec::<String>::new());
        let asked: Vec<Value> = keys().iter().map(|key| json!({"discarded": key})).collect();
        assert_eq!(lake.lock().unwrap().asked, asked, "the oldest of each shard first");
        let note = "note: of 1,500 records, 300 had landed before, 900 became files of their own or were quarantined, and 300 were staged\n";
        assert!(ended.out.ends_with(note), "{}", ended.out);
        let again = replayed(&lake, &[]).await;
        assert_eq!((again.code, again.out.as_str()), (0, "nothing to replay in s3://lake/aws/lambda/\n"));
    }

    #[tokio::test]
    async fn a_dry_run_counts_by_shard_and_changes_nothing() {
        let lake = Lake::of(&keys());
        let ended = replayed(&lake, &["--dry-run"]).await;
        let expected = "\
batches              found  not selected  would send  left
shardId-000000000001      2             0           2     0
shardId-000000000002      1             0           1     0
total                     3             0           3     0
";
        assert_eq!(ended.code, 0);
        assert_eq!(ended.out.replace("batches               ", "batches              "), expected);
        assert_eq!((left(&lake).len(), lake.lock().unwrap().asked.len()), (3, 0));
        let limited = replayed(&lake, &["--limit", "1", "--even-if-landed"]).await;
        assert_eq!((limited.code, left(&lake).len()), (0, 2));
        let asked = json!({"discarded": keys()[0], "even_if_landed": true});
        assert_eq!(lake.lock().unwrap().asked, [asked]);
    }

    #[tokio::test]
    async fn what_is_refused_stays_and_the_others_are_landed() {
        let lake = Lake::of(&keys());
        let sentence = "whether record 7.0 is in a file is not known";
        lake.lock().unwrap().refuses.push((keys()[1].clone(), sentence));
        let ended = replayed(&lake, &["--json"]).await;
        assert_eq!((ended.code, left(&lake)), (1, vec![keys()[1].clone()]));
        let problem = &ended.json()["problems"][0];
        assert_eq!((problem["reason"].as_str(), problem["detail"].as_str()), (Some("not_landed"), Some(sentence)));
        assert_eq!(ended.json()["total"]["left"], 1);

        let kept = Lake::of(&keys()[..1]);
        kept.lock().unwrap().keeps = true;
        let ended = replayed(&kept, &["--json"]).await;
        assert_eq!((ended.code, left(&kept).len()), (1, 1));
        assert_eq!(ended.json()["problems"][0]["reason"], "sent_not_removed");
    }

    #[tokio::test]
    async fn ctrl_c_leaves_the_rest() {
        let lake = Lake::of(&keys());
        let shared = Arc::clone(&lake);
        let context = services(move |request| shared.lock().unwrap().answer(request)).await;
        let interrupt = Interrupt::default();
        interrupt.set();
        let ended = run(&Context { interrupt, ..context }, &["replay", "discarded"]).await;
        assert_eq!((ended.code, left(&lake).len()), (1, 3));
        assert!(ended.out.ends_with("stopped early: interrupted\n"), "{}", ended.out);
    }
}
