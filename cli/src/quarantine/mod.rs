//! `landfall quarantine`: what the functions set aside, to look at, take out or give up.

pub mod place;
pub mod report;
pub mod select;

use std::collections::{BTreeMap, BTreeSet};

use clap::{Args, Subcommand, builder::PossibleValuesParser};
use futures_util::{StreamExt, stream};
use objects::{Bucket, BucketError, S3};
use shared::layout::QuarantineKey;

use self::{
    report::{Discarded, Exported, Group, Groups, Seen, Shown},
    select::{FUNCTIONS, SelectArgs},
};
use crate::{
    Exit,
    console::{Console, Progress},
    context::Context,
    outcome::{Failed, conclude},
    replay::plan::{Line, Object, without},
    stack::StackError,
};

const CONCURRENT_S3_REQUESTS: usize = 16;

const LIST: &str = "\
Counts the quarantined records by function, day and reason. Days and times are those at which the records
were sent, in UTC; records that do not say when are under 1970/01/01.

Examples:
  landfall quarantine list
  landfall quarantine list --function parquet-writer --since 2026-11-20 --json";

const SHOW: &str = "\
Prints records with everything that is known of them: function, reason, id, time, attributes and body. A body
that is text is printed as text, any other in base64. The body is what the function got: that of an event is
itself base64 of protobuf.

Examples:
  landfall quarantine show --id 5fea7756-0ea4-451a-a703-a558b933e274
  landfall quarantine show --reason missing_type --limit 3";

const EXPORT: &str = "\
Prints the lines of the selected records as they are stored, which is the format that the README documents:
one JSON object a line. Nothing is changed.

Examples:
  landfall quarantine export --day 2026/11/20 > records.ndjson";

const DISCARD: &str = "\
Deletes the selected records for good. Without --yes, it only counts them. At least one of --id, --reason,
--day, --since and --until is needed. Export them first, if in doubt.

Exit code: 0 when all were deleted (or counted), 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall quarantine discard --function parquet-writer --reason invalid_protobuf --until 2026-11-01
  landfall quarantine discard --id 5fea7756-0ea4-451a-a703-a558b933e274 --yes";

#[derive(Debug, Subcommand)]
pub enum Quarantine {
    /// Counts quarantined records by function, day and reason.
    #[command(after_long_help = LIST)]
    List(LookArgs),
    /// Prints quarantined records with their bodies.
    #[command(after_long_help = SHOW)]
    Show(LookArgs),
    /// Prints quarantined records as they are stored.
    #[command(after_long_help = EXPORT)]
    Export(LookArgs),
    /// Deletes quarantined records for good.
    #[command(after_long_help = DISCARD)]
    Discard(DiscardArgs),
}

#[derive(Debug, Args)]
pub struct LookArgs {
    /// Only records of this function.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(FUNCTIONS.map(|(function, _)| function)))]
    pub function: Option<String>,
    #[command(flatten)]
    pub select: SelectArgs,
}

#[derive(Debug, Args)]
pub struct DiscardArgs {
    #[command(flatten)]
    pub look: LookArgs,
    /// Delete them. Without this, they are only counted.
    #[arg(long)]
    pub yes: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Bucket(#[from] BucketError),
}

impl From<QuarantineError> for Failed {
    fn from(error: QuarantineError) -> Self {
        let exit = if matches!(error, QuarantineError::Usage(_)) { Exit::Usage } else { Exit::Incomplete };
        Self { sentence: error.to_string(), exit }
    }
}

impl LookArgs {
    /// The bucket and the functions whose quarantines are looked at.
    async fn place(&self, context: &Context) -> Result<(S3, Vec<&str>), QuarantineError> {
        let functions: Vec<&str> =
            self.function.as_deref().map_or(FUNCTIONS.map(|(name, _)| name).to_vec(), |function| vec![function]);
        if let Some(bucket) = &self.select.bucket {
            return Ok((S3::new(&context.clients.s3, bucket), functions));
        }
        let mut missing = None;
        for function in &functions {
            match context.lake_of(function).await {
                Ok(bucket) => return Ok((S3::new(&context.clients.s3, &bucket), functions)),
                Err(error @ StackError::Missing { .. }) => drop(missing.get_or_insert(error)),
                Err(error) => return Err(error.into()),
            }
        }
        let none = QuarantineError::Usage("the stack has no function with a quarantine".to_owned());
        Err(missing.map_or(none, QuarantineError::from))
    }

    /// Calls `each` with every object that holds selected records, the oldest first, and with their positions in it. An object
    /// that cannot be read or changed is a problem, and the others are processed all the same.
    async fn each(
        &self,
        context: &Context,
        console: &Console,
        mut each: impl AsyncFnMut(&S3, &Object, &[usize]) -> Result<(), String>,
    ) -> Result<Seen, QuarantineError> {
        let selection = self.select.selection(self.function.as_deref()).map_err(QuarantineError::Usage)?;
        let (bucket, functions) = self.place(context).await?;
        let mut keys: Vec<QuarantineKey> = Vec::new();
        for function in functions {
            let found = place::find(&bucket, function, &selection).await?.objects;
            keys.extend(found.into_iter().map(|(key, _)| key));
        }
        // Names begin with the time of the first record.
        keys.sort_by(|a, b| (a.day, a.name.as_str()).cmp(&(b.day, b.name.as_str())));
        let mut missing: BTreeSet<&str> = self.select.id.iter().map(String::as_str).collect();
        let (mut seen, mut left) = (Seen::default(), self.select.limit.unwrap_or(usize::MAX));
        let progress: Progress = console.progress("Reading", "objects", Some(keys.len()));
        let reads = keys.iter().map(async |key| (key, place::read(&bucket, key).await));
        let mut objects = stream::iter(reads).buffered(CONCURRENT_S3_REQUESTS);
        while let Some((key, object)) = objects.next().await {
            if context.interrupt.is_set() {
                seen.problems.push("interrupted before all records were read".to_owned());
                return Ok(seen);
            }
            progress.add(1);
            let object = match object {
                Ok(Some(object)) => object,
                // Another command has emptied it meanwhile.
                Ok(None) => continue,
                Err(error) => {
                    seen.problems.push(error.to_string());
                    continue;
                }
            };
            let wanted = |line: &Line| selection.wants(line.record.as_ref().ok(), object.key.day);
            let lines = object.lines.iter().enumerate().filter(|(_, line)| wanted(line));
            let positions: Vec<usize> = lines.map(|(position, _)| position).take(left).collect();
            if positions.is_empty() {
                continue;
            }
            match each(&bucket, &object, &positions).await {
                Ok(()) => {
                    left -= positions.len();
                    seen.records += positions.len();
                    let lines = positions.iter().filter_map(|position| object.lines.get(*position));
                    lines.filter_map(|line| line.record.as_ref().ok()).for_each(|record| {
                        missing.remove(record.id.as_str());
                    });
                }
                Err(cause) => seen.problems.push(format!("s3://{}/{key}: {cause}", bucket.name())),
            }
            if left == 0 {
                return Ok(seen);
            }
        }
        let missing = missing.into_iter().map(|id| format!("there is no quarantined record with the id {id}"));
        seen.problems.extend(missing);
        Ok(seen)
    }
}

async fn list(args: &LookArgs, context: &Context, console: &Console) -> Result<Groups, QuarantineError> {
    let mut groups: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let seen = args
        .each(context, console, async |_, object, positions| {
            for line in positions.iter().filter_map(|position| object.lines.get(*position)) {
                let key = &object.key;
                let group = (key.function.to_string(), key.day.to_string(), line.reason().to_owned());
                *groups.entry(group).or_default() += 1;
            }
            Ok(())
        })
        .await?;
    let groups = groups.into_iter();
    let groups = groups.map(|((function, day, reason), records)| Group { function, day, reason, records }).collect();
    Ok(Groups { groups, seen })
}

async fn show(args: &LookArgs, context: &Context, console: &Console) -> Result<Shown, QuarantineError> {
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    let seen = args
        .each(context, console, async |_, object, positions| {
            for line in positions.iter().filter_map(|position| object.lines.get(*position)) {
                match &line.record {
                    Ok(record) => records.push(record.clone()),
                    Err(_) => unreadable.push(String::from_utf8_lossy(&line.bytes).into_owned()),
                }
            }
            Ok(())
        })
        .await?;
    Ok(Shown { records, unreadable, seen })
}

async fn export(args: &LookArgs, context: &Context, console: &Console) -> Result<Exported, QuarantineError> {
    let mut exported = String::new();
    let seen = args
        .each(context, console, async |_, object, positions| {
            let lines = positions.iter().filter_map(|position| object.lines.get(*position));
            // All lines of an object or none, so that nothing is taken for exported that is not.
            let lines: Result<Vec<&str>, _> = lines.map(|line| std::str::from_utf8(&line.bytes)).collect();
            let lines =
                lines.map_err(|_| "it has a line that is not UTF-8; copy the object with the AWS CLI".to_owned())?;
            lines.into_iter().for_each(|line| exported.extend([line, "\n"]));
            Ok(())
        })
        .await?;
    Ok(Exported { lines: exported, seen })
}

async fn discard(args: &DiscardArgs, context: &Context, console: &Console) -> Result<Discarded, QuarantineError> {
    let select = &args.look.select;
    if !select.times.is_given() && select.id.is_empty() && select.reason.is_empty() {
        let message = "say which records: --id, --reason, --day, --since or --until";
        return Err(QuarantineError::Usage(message.to_owned()));
    }
    let seen = args
        .look
        .each(context, console, async |bucket, object, positions| {
            if args.yes {
                let is_gone = (0..object.lines.len()).map(|position| positions.contains(&position));
                let settlement = without(object, is_gone).map_err(|error| error.to_string())?;
                place::settle(bucket, &object.key, settlement).await.map_err(|error| error.to_string())?;
            }
            Ok(())
        })
        .await?;
    Ok(Discarded { done: args.yes, seen })
}

pub async fn run(command: &Quarantine, json: bool, context: &Context, console: &mut Console) -> Exit {
    match command {
        Quarantine::List(args) => conclude(list(args, context, console).await, json, console),
        Quarantine::Show(args) => conclude(show(args, context, console).await, json, console),
        Quarantine::Export(args) => {
            let exported = export(args, context, console).await;
            // They do not belong to the lines, which go to standard output.
            let problems = exported.iter().flat_map(|exported| exported.seen.problems.clone()).collect::<Vec<_>>();
            problems.iter().for_each(|problem| console.error(problem));
            conclude(exported, json, console)
        }
        Quarantine::Discard(args) => conclude(discard(args, context, console).await, json, console),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kit::s3::{Buckets, Call, Object};
    use serde_json::{Value, json};
    use shared::quarantine::base64;

    use crate::canned::{Ended, run, services};

    /// A lake with an object for each function and day.
    #[derive(Clone, Default)]
    struct Lake(Arc<Mutex<Buckets>>);

    fn record(function: &str, id: &str, reason: &str, body: &[u8]) -> String {
        json!({
            "function": function, "reason": reason, "detail": "why", "id": id, "sent_at": "2026-11-20T14:11:46.123Z",
            "attributes": {"type": {"dataType": "String", "stringValue": "OrderCreated"}}, "body_base64": base64(body),
        })
        .to_string()
    }

    impl Lake {
        fn new() -> Self {
            let lake = Self::default();
            let name = |function: &str, name: &str| format!("quarantine/{function}/2026/11/20/{name}.ndjson");
            let lines = [
                record("parquet-writer", "a", "missing_type", b"text"),
                record("parquet-writer", "b", "invalid_base64", b"\xff"),
            ];
            lake.put(&name("parquet-writer", "20261120T141146123Z-1"), &lines);
            lake.put(
                &name("kafka-roller", "20261120T141146123Z-2"),
                &[record("kafka-roller", "c", "invalid_json", b"{")],
            );
            lake
        }

        fn put(&self, key: &str, lines: &[String]) {
            let object = Object { body: (lines.join("\n") + "\n").into_bytes(), ..Object::default() };
            self.0.lock().unwrap().objects.insert(("lake".to_owned(), key.to_owned()), object);
        }

        fn lines(&self) -> Vec<String> {
            let buckets = self.0.lock().unwrap();
            let bodies = buckets.objects.values().map(|object| String::from_utf8(object.body.clone()).unwrap());
            bodies.flat_map(|body| body.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
        }

        async fn run(&self, arguments: &[&str]) -> Ended {
            let buckets = self.0.clone();
            let context = services(move |request| {
                let call = Call::of(request).unwrap();
                buckets.lock().unwrap().answer(&call, request)
            })
            .await;
            run(&context, &[&["quarantine"], arguments, &["--bucket", "lake"]].concat()).await
        }
    }

    #[tokio::test]
    async fn records_are_counted_by_function_day_and_reason() {
        let lake = Lake::new();
        let all = lake.run(&["list"]).await;
        let expected = "function        day         reason          records\n\
                        kafka-roller    2026/11/20  invalid_json          1\n\
                        parquet-writer  2026/11/20  invalid_base64        1\n\
                        parquet-writer  2026/11/20  missing_type          1\n";
        assert_eq!((all.code, all.out.as_str()), (0, expected));
        let some = lake.run(&["list", "--function", "parquet-writer", "--reason", "missing_type", "--json"]).await;
        let groups =
            json!([{"function": "parquet-writer", "day": "2026/11/20", "reason": "missing_type", "records": 1}]);
        assert_eq!(some.json()["groups"], groups);
        let none = lake.run(&["list", "--since", "2026-11-21"]).await;
        assert_eq!(none.out, "no record is selected\n");
        let typo = lake.run(&["list", "--reason", "missing_typ"]).await;
        assert!(
            typo.code == 2
                && typo.err.contains("there is no reason \"missing_typ\"; there are duplicate_dataset, empty_body,"),
            "{typo:?}"
        );
    }

    #[tokio::test]
    async fn a_record_is_shown_with_its_body() {
        let lake = Lake::new();
        let shown = lake.run(&["show", "--id", "a"]).await;
        for part in ["id          a\n", "reason      missing_type: why\n", "OrderCreated", "body        text\n"] {
            assert!(shown.out.contains(part), "{}", shown.out);
        }
        let binary = lake.run(&["show", "--id", "b"]).await;
        assert!(binary.out.contains("body        /w== (base64, 1 byte)\n"), "{}", binary.out);
        let missing = lake.run(&["show", "--id", "z", "--id", "a"]).await;
        assert!(missing.out.contains("id          a\n"), "{}", missing.out);
        assert!(missing.out.ends_with("problem: there is no quarantined record with the id z\n"), "{}", missing.out);
        assert_eq!(missing.code, 1);
    }

    #[tokio::test]
    async fn exported_lines_are_those_that_are_stored() {
        let lake = Lake::new();
        let exported = lake.run(&["export"]).await;
        let lines: Vec<Value> = exported.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.iter().map(|line| line["id"].as_str().unwrap()).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(lake.lines().len(), 3);
        assert_eq!(lake.run(&["export", "--limit", "1"]).await.out.lines().count(), 1);
        let key = ("lake".to_owned(), "quarantine/kafka-roller/2026/11/20/20261120T141146123Z-3.ndjson".to_owned());
        lake.0.lock().unwrap().objects.insert(key, Object { body: b"\xff\n".to_vec(), ..Object::default() });
        let damaged = lake.run(&["export"]).await;
        assert_eq!((damaged.code, damaged.out.lines().count()), (1, 3));
        assert!(damaged.err.contains("-3.ndjson: it has a line that is not UTF-8"), "{}", damaged.err);
    }

    #[tokio::test]
    async fn only_what_is_selected_is_discarded_and_only_with_yes() {
        let lake = Lake::new();
        let nothing = lake.run(&["discard", "--yes"]).await;
        assert_eq!((nothing.code, lake.lines().len()), (2, 3));
        let counted = lake.run(&["discard", "--reason", "missing_type"]).await;
        assert_eq!(counted.out, "1 record would be deleted; --yes deletes it\n");
        assert_eq!(lake.lines().len(), 3);
        let discarded = lake.run(&["discard", "--reason", "missing_type", "--yes"]).await;
        assert_eq!((discarded.code, discarded.out.as_str()), (0, "1 record deleted\n"));
        let left = lake.lines();
        assert_eq!((left.len(), left.iter().any(|line| line.contains("missing_type"))), (2, false));
        lake.run(&["discard", "--day", "2026/11/20", "--yes"]).await;
        assert_eq!(lake.lines(), Vec::<String>::new());
    }
}
