//! `landfall reconcile`: page after page, the bucket is compared with the loads.

use clap::{Args, builder::NonEmptyStringValueParser};
use serde::Serialize;
use shared::registrar::{Command, Difference, InventoryPosition, ReconcileFailure, ReconcilePosition, Reconciliation};

use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::{Outcome, document_with_verdict},
    registrar::{RegistrarArgs, RegistrarError},
    text::{Column, Table, counted, grouped, name, printable, size},
};

/// Most differences, and most failures, that are listed. All are counted.
const KEPT: usize = 1_000;

const HELP: &str = "\
Lists the bucket under the prefixes of the active tables and compares each object with the loads:

  missing  the object is not known; it is registered
  changed  the object was replaced and no event announced it; the new version is registered
  phantom  the object of a load is gone, and the load is neither archived nor errored

With --dry-run nothing is registered. A large bucket takes several invocations; Ctrl-C stops between
them, and the command prints how to continue with --after. A page that cannot be compared is listed as
failed, and the others are compared: run the command again.

With --inventory, an inventory of S3 (format CSV, with Size, LastModifiedDate and ETag) takes the place of
the listing, for buckets of more than a million objects. It is old, so the objects of it that are missing
are looked up before they are registered; phantoms are not looked for.

Exit code: 0 when nothing differs, or everything that differed is registered now; 3 when something
still differs: with --dry-run anything, otherwise phantoms, which someone has to look into; 2 when the
arguments are invalid; 1 when not everything was compared.

Examples:
  landfall reconcile --dry-run
  landfall reconcile --prefix cubic/kafka/ --json
  landfall reconcile --inventory s3://inventories/landfall-incoming-…/all/2026-11-20T01-00Z/manifest.json";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct ReconcileArgs {
    /// Only keys with this prefix [default: the prefixes of all active tables].
    #[arg(long, value_name = "PREFIX", value_parser = NonEmptyStringValueParser::new())]
    pub prefix: Option<String>,
    /// Report differences without registering anything.
    #[arg(long)]
    pub dry_run: bool,
    /// Continue where an earlier run stopped: in the listing of PREFIX, after KEY or from its start. Can be repeated.
    #[arg(long, num_args = 1..=2, value_names = ["PREFIX", "KEY"])]
    pub after: Vec<String>,
    /// Compare an inventory of S3 instead of listing the bucket.
    #[arg(long, value_name = "S3-URL", conflicts_with_all = ["prefix", "after"])]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub inventory: Option<String>,
    /// Continue where an earlier run with an inventory stopped: after so many files, and so many rows of the next.
    #[arg(long, num_args = 2, value_names = ["FILES", "ROWS"], requires = "inventory")]
    pub after_rows: Vec<u32>,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

/// Where a run goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Position {
    Listing(Vec<ReconcilePosition>),
    Inventory(Option<InventoryPosition>),
}

impl ReconcileArgs {
    /// The positions of `--after`. A word that begins with the prefix before it is a key of this prefix.
    fn after(&self) -> Vec<ReconcilePosition> {
        let mut words = self.after.iter().peekable();
        let mut after = Vec::new();
        while let Some(prefix) = words.next() {
            let key = words.next_if(|word| word.is_empty() || word.starts_with(prefix)).cloned().unwrap_or_default();
            after.push(ReconcilePosition { prefix: prefix.clone(), key });
        }
        after
    }

    fn begin(&self) -> Position {
        match (&self.inventory, self.after_rows.as_slice()) {
            (None, _) => Position::Listing(self.after()),
            (Some(_), [file, row]) => Position::Inventory(Some(InventoryPosition { file: *file, row: (*row).into() })),
            (Some(_), _) => Position::Inventory(None),
        }
    }

    fn command(&self, position: &Position) -> Command {
        let dry_run = self.dry_run;
        match position {
            Position::Listing(after) => {
                Command::Reconcile { prefix: self.prefix.clone(), dry_run, after: after.clone() }
            }
            Position::Inventory(after) => {
                let manifest = self.inventory.clone().unwrap_or_default();
                Command::ReconcileInventory { manifest, dry_run, after: *after }
            }
        }
    }
}

/// Where to go on after an answer. `None` if it was the last.
fn next(answer: &Reconciliation) -> Option<Position> {
    match answer.next_inventory {
        Some(next) => Some(Position::Inventory(Some(next))),
        None if answer.next.is_empty() => None,
        None => Some(Position::Listing(answer.next.clone())),
    }
}

/// The options that continue at a position.
fn options(position: &Position) -> String {
    match position {
        Position::Listing(after) => {
            let options = after.iter().map(|next| format!("--after {} {}", quoted(&next.prefix), quoted(&next.key)));
            options.collect::<Vec<_>>().join(" ")
        }
        Position::Inventory(next) => {
            next.map_or_else(String::new, |next| format!("--after-rows {} {}", next.file, next.row))
        }
    }
}

/// Quotes a word for a shell.
fn quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-=:".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reconciled {
    pub dry_run: bool,
    /// The sum of all pages; `next` is where to continue after an interruption.
    #[serde(flatten)]
    pub sum: Reconciliation,
    pub stopped: Option<String>,
}

/// Compares everything. `Err` means that the first page failed.
pub async fn reconcile(
    args: &ReconcileArgs,
    context: &Context,
    console: &Console,
) -> Result<Reconciled, RegistrarError> {
    let progress = console.progress("Compared", "objects", None);
    let mut position = args.begin();
    let mut reconciled = Reconciled { dry_run: args.dry_run, sum: Reconciliation::default(), stopped: None };
    for page in 0_u64.. {
        let answer = args.registrar.ask_quietly(&args.command(&position), context).await;
        let answer: Result<Reconciliation, _> = answer.and_then(|answer: Reconciliation| {
            if next(&answer).as_ref() == Some(&position) { Err(args.registrar.stuck(context)) } else { Ok(answer) }
        });
        match answer {
            Ok(answer) => {
                progress.add(usize::try_from(answer.objects).unwrap_or(usize::MAX));
                reconciled.absorb(answer);
                progress.say(&format!("{} differ", grouped(reconciled.differing())));
            }
            Err(error) if page == 0 => return Err(error),
            Err(error) => reconciled.stopped = Some(error.to_string()),
        }
        let Some(next) = next(&reconciled.sum) else { break };
        position = next;
        if context.interrupt.is_set() {
            reconciled.stopped.get_or_insert_with(|| "interrupted".to_owned());
        }
        if let Some(cause) = &mut reconciled.stopped {
            *cause += &format!("; to continue, run the same command with {}", options(&position));
            break;
        }
    }
    Ok(reconciled)
}

impl Reconciled {
    fn absorb(&mut self, answer: Reconciliation) {
        let Reconciliation { objects, missing, changed, phantom, differences, failures, failed, next, next_inventory } =
            answer;
        self.sum.objects += objects;
        self.sum.missing += missing;
        self.sum.changed += changed;
        self.sum.phantom += phantom;
        let room = KEPT.saturating_sub(self.sum.differences.len());
        self.sum.differences.extend(differences.into_iter().take(room));
        self.sum.failures += failures;
        let room = KEPT.saturating_sub(self.sum.failed.len());
        self.sum.failed.extend(failed.into_iter().take(room));
        self.sum.next = next;
        self.sum.next_inventory = next_inventory;
    }

    const fn differing(&self) -> u64 {
        self.sum.missing + self.sum.changed + self.sum.phantom
    }

    fn summary(&self) -> String {
        let Reconciliation { objects, missing, changed, phantom, .. } = &self.sum;
        let compared = format!("compared {}", counted(*objects, "object", "objects"));
        if self.differing() == 0 {
            return format!("{compared}: nothing differs\n");
        }
        let registered = match (missing + changed, self.dry_run) {
            (0, _) => String::new(),
            (number, true) => format!("; {} would be registered", grouped(number)),
            (1, false) => "; 1 is registered now".to_owned(),
            (number, false) => format!("; {} are registered now", grouped(number)),
        };
        let [missing, changed, phantom] = [*missing, *changed, *phantom].map(grouped);
        format!("{compared}: {missing} missing, {changed} changed, {phantom} phantom{registered}\n")
    }
}

impl Outcome for Reconciled {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document_with_verdict(self, self.exit())
    }

    fn to_text(&self) -> String {
        let mut text = String::new();
        let kept = &self.sum.differences;
        if !kept.is_empty() {
            let mut table = Table::new([
                Column::Left("what"),
                Column::Left("modified"),
                Column::Right("size"),
                Column::Left("key"),
            ]);
            for Difference { what, s3_key, s3_modified, s3_size } in kept {
                table.row([name(what), s3_modified.to_string(), size(*s3_size), s3_key.clone()]);
            }
            text += &table.to_string();
            if let Some(more @ 1..) = self.differing().checked_sub(kept.len() as u64) {
                text += &format!("… and {} more\n", grouped(more));
            }
            text.push('\n');
        }
        text += &self.summary();
        if self.sum.failures > 0 {
            let failed = counted(self.sum.failures, "part was", "parts were");
            text += &format!("\n{failed} not compared; run the command again:\n");
            for ReconcileFailure { prefix, key, cause, .. } in &self.sum.failed {
                let behind = if key.is_empty() { String::new() } else { format!(" after {}", printable(key)) };
                text += &format!("  {}{behind}: {}\n", printable(prefix), printable(cause));
            }
            if let Some(more @ 1..) = self.sum.failures.checked_sub(self.sum.failed.len() as u64) {
                text += &format!("  … and {} more\n", grouped(more));
            }
        }
        if let Some(cause) = &self.stopped {
            text += &format!("\nstopped early: {}\n", printable(cause));
        }
        text
    }

    fn exit(&self) -> Exit {
        if self.stopped.is_some() || self.sum.failures > 0 {
            Exit::Incomplete
        } else if self.sum.phantom > 0 || (self.dry_run && self.differing() > 0) {
            Exit::Different
        } else {
            Exit::Complete
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        canned::{self, Ended, Reply, run},
        context::Interrupt,
    };

    fn page(objects: u64, missing: u64, phantom: u64, next: Option<&str>) -> Value {
        let difference = |what: &str, n: u64| {
            let key = format!("cubic/dmap/agg_sample/{n}.csv");
            json!({"what": what, "s3_key": key, "s3_modified": "2026-11-20T14:11:46Z", "s3_size": 1_234_567})
        };
        let mut differences: Vec<Value> = (0..missing).map(|n| difference("missing", n)).collect();
        differences.extend((0..phantom).map(|n| difference("phantom", n)));
        json!({
            "objects": objects, "missing": missing, "changed": 0, "phantom": phantom, "differences": differences,
            "next": next.into_iter().map(|key| json!({"prefix": "cubic/dmap/agg_sample/", "key": key})).collect::<Vec<_>>(),
        })
    }

    /// Reconciles with a function that gives these replies, one after the other.
    async fn reconciled(replies: Vec<Reply>, arguments: &[&str], interrupt: Interrupt) -> Ended {
        let mut replies = replies.into_iter();
        let mut expected_after: Vec<ReconcilePosition> = Vec::new();
        let context = canned::registrar(move |command| {
            let Command::Reconcile { after, .. } = command else { panic!("{command:?}") };
            assert_eq!(after, expected_after);
            let reply = replies.next().unwrap();
            if let Reply::Answer(answer) = &reply {
                expected_after = serde_json::from_value(answer["next"].clone()).unwrap();
            }
            reply
        })
        .await;
        run(&Context { interrupt, ..context }, &[&["reconcile"], arguments].concat()).await
    }

    async fn of_pages(pages: Vec<Value>, arguments: &[&str]) -> Ended {
        reconciled(pages.into_iter().map(Reply::Answer).collect(), arguments, Interrupt::default()).await
    }

    #[tokio::test]
    async fn pages_add_up() {
        let pages = vec![page(1_000, 1, 0, Some("b.csv")), page(500, 0, 0, Some("c.csv")), page(1, 1, 0, None)];
        let ended = of_pages(pages.clone(), &[]).await;
        let expected = "\
what     modified                 size  key
missing  2026-11-20T14:11:46Z  1.23 MB  cubic/dmap/agg_sample/0.csv
missing  2026-11-20T14:11:46Z  1.23 MB  cubic/dmap/agg_sample/0.csv

compared 1,501 objects: 2 missing, 0 changed, 0 phantom; 2 are registered now
";
        assert_eq!((ended.code, ended.err.as_str(), ended.out.as_str()), (0, "", expected));
        let machine = of_pages(pages, &["--json"]).await.json();
        assert_eq!((&machine["objects"], &machine["missing"]), (&json!(1_501), &json!(2)));
        assert_eq!((&machine["complete"], &machine["stopped"]), (&json!(true), &Value::Null));
        assert_eq!((machine["differences"].as_array().unwrap().len(), &machine["next"]), (2, &json!([])));
    }

    #[tokio::test]
    async fn what_still_differs_is_in_the_exit_code() {
        for (answer, arguments, code, summary) in [
            (page(7, 0, 0, None), &[][..], 0, "compared 7 objects: nothing differs\n"),
            (page(7, 0, 0, None), &["--dry-run"], 0, "compared 7 objects: nothing differs\n"),
            (page(7, 1, 0, None), &[], 0, "compared 7 objects: 1 missing, 0 changed, 0 phantom; 1 is registered now\n"),
            (
                page(7, 1, 0, None),
                &["--dry-run"],
                3,
                "compared 7 objects: 1 missing, 0 changed, 0 phantom; 1 would be registered\n",
            ),
            (page(1, 0, 2, None), &[], 3, "compared 1 object: 0 missing, 0 changed, 2 phantom\n"),
        ] {
            let ended = of_pages(vec![answer], arguments).await;
            assert_eq!(ended.code, code, "{}", ended.out);
            assert!(ended.out.ends_with(summary), "{}", ended.out);
        }
    }

    #[tokio::test]
    async fn a_thousand_differences_are_kept_and_all_counted() {
        let pages = vec![page(900, 900, 0, Some("b.csv")), page(900, 900, 0, None)];
        let ended = of_pages(pages.clone(), &["--dry-run"]).await;
        assert!(ended.out.contains("\n… and 800 more\n"), "{}", ended.out);
        assert!(ended.out.contains(": 1,800 missing, 0 changed, 0 phantom; 1,800 would be registered\n"));
        let machine = of_pages(pages, &["--json"]).await.json();
        assert_eq!((machine["differences"].as_array().unwrap().len(), &machine["missing"]), (1_000, &json!(1_800)));
    }

    #[tokio::test]
    async fn ctrl_c_stops_between_pages_and_says_where_to_go_on() {
        let interrupt = Interrupt::default();
        interrupt.set();
        let answer = || vec![Reply::Answer(page(7, 0, 0, Some("cubic/dmap/agg_sample/it's.csv")))];
        let ended = reconciled(answer(), &["--dry-run", "--prefix", "cubic/"], interrupt.clone()).await;
        let expected = "stopped early: interrupted; to continue, run the same command with \
                        --after cubic/dmap/agg_sample/ 'cubic/dmap/agg_sample/it'\\''s.csv'\n";
        assert_eq!(ended.code, 1);
        assert!(ended.out.ends_with(expected), "{}", ended.out);
        let machine = reconciled(answer(), &["--json"], interrupt.clone()).await.json();
        assert_eq!(
            (&machine["complete"], &machine["next"][0]["prefix"]),
            (&json!(false), &json!("cubic/dmap/agg_sample/"))
        );
        // The last page was the last: there is nothing to stop.
        let last = reconciled(vec![Reply::Answer(page(7, 0, 0, None))], &[], interrupt).await;
        assert_eq!(last.code, 0, "{}", last.out);
    }

    #[tokio::test]
    async fn it_goes_on_after_a_key_or_at_the_start_of_a_prefix() {
        for (arguments, key) in [(&["a/", "a/b.csv"][..], "a/b.csv"), (&["a/", ""], ""), (&["a/"], "")] {
            let context = canned::registrar(move |command| {
                let after = vec![ReconcilePosition { prefix: "a/".to_owned(), key: key.to_owned() }];
                assert_eq!(command, Command::Reconcile { prefix: None, dry_run: true, after });
                Reply::Answer(page(0, 0, 0, None))
            })
            .await;
            let arguments = [&["reconcile", "--after"], arguments, &["--dry-run"]].concat();
            assert_eq!(run(&context, &arguments).await.code, 0);
        }
    }

    #[tokio::test]
    async fn what_was_compared_before_an_error_is_told() {
        let failure = || Reply::FunctionError("Failed", "the database is down".to_owned());
        let replies = vec![Reply::Answer(page(7, 1, 0, Some("cubic/dmap/agg_sample/b.csv"))), failure()];
        let ended = reconciled(replies, &[], Interrupt::default()).await;
        assert_eq!(ended.code, 1);
        let expected = "compared 7 objects: 1 missing, 0 changed, 0 phantom; 1 is registered now\n\nstopped early: the \
                        database is down; to continue, run the same command with --after cubic/dmap/agg_sample/ \
                        cubic/dmap/agg_sample/b.csv\n";
        assert!(ended.out.ends_with(expected), "{}", ended.out);
        let at_once = reconciled(vec![failure()], &[], Interrupt::default()).await;
        assert_eq!((at_once.code, at_once.err.as_str()), (1, "error: the database is down\n"));
    }

    #[tokio::test]
    async fn an_answer_that_does_not_get_on_ends_the_command() {
        let pages = vec![page(7, 0, 0, Some("b.csv")), page(0, 0, 0, Some("b.csv"))];
        let ended = of_pages(pages, &[]).await;
        assert_eq!(ended.code, 1);
        assert!(ended.out.contains("a page ends where it began"), "{}", ended.out);
    }

    #[tokio::test]
    async fn several_prefixes_in_progress_are_several_positions() {
        let interrupt = Interrupt::default();
        interrupt.set();
        let mut answer = page(7, 0, 0, Some("cubic/dmap/agg_sample/b.csv"));
        answer["next"].as_array_mut().unwrap().push(json!({"prefix": "cubic/kafka/", "key": ""}));
        let ended = reconciled(vec![Reply::Answer(answer)], &[], interrupt).await;
        let options = "--after cubic/dmap/agg_sample/ cubic/dmap/agg_sample/b.csv --after cubic/kafka/ ''";
        assert!(ended.out.ends_with(&format!("run the same command with {options}\n")), "{}", ended.out);
        let context = canned::registrar(move |command| {
            let after = [("cubic/dmap/agg_sample/", "cubic/dmap/agg_sample/b.csv"), ("cubic/kafka/", "")];
            let after = after.map(|(prefix, key)| ReconcilePosition { prefix: prefix.to_owned(), key: key.to_owned() });
            assert_eq!(command, Command::Reconcile { prefix: None, dry_run: false, after: after.to_vec() });
            Reply::Answer(page(0, 0, 0, None))
        })
        .await;
        let arguments: Vec<&str> = options.split(' ').map(|word| word.trim_matches('\'')).collect();
        assert_eq!(run(&context, &[&["reconcile"][..], &arguments].concat()).await.code, 0);
    }

    #[tokio::test]
    async fn what_could_not_be_compared_is_listed_and_in_the_exit_code() {
        let mut answer = page(7, 1, 0, None);
        answer["failures"] = json!(1_001);
        answer["failed"] = json!([
            {"prefix": "cubic/kafka/", "key": "", "cause": "S3 did not list it: SlowDown"},
            {"prefix": "shop/", "key": "shop/a.csv", "until": "shop/c.csv", "cause": "deadlock detected"},
        ]);
        let ended = of_pages(vec![answer.clone()], &[]).await;
        let expected = "1 is registered now\n\n1,001 parts were not compared; run the command again:\n  cubic/kafka/: S3 did not \
                        list it: SlowDown\n  shop/ after shop/a.csv: deadlock detected\n  … and 999 more\n";
        assert_eq!(ended.code, 1);
        assert!(ended.out.ends_with(expected), "{}", ended.out);
        let machine = of_pages(vec![answer], &["--json"]).await;
        assert_eq!((machine.code, &machine.json()["failed"][1]["until"]), (1, &json!("shop/c.csv")));
    }

    #[tokio::test]
    async fn an_inventory_is_compared_step_by_step() {
        const MANIFEST: &str = "s3://inventories/in/all/2026-11-20T01-00Z/manifest.json";
        let interrupt = Interrupt::default();
        let stop = interrupt.clone();
        let mut commands = Vec::new();
        let context = canned::registrar(move |command| {
            let Command::ReconcileInventory { manifest, dry_run: true, after } = command else { panic!("{command:?}") };
            assert_eq!(manifest, MANIFEST);
            commands.push(after);
            let mut answer = page(1_000, 0, 0, None);
            let positions: Vec<_> = commands.iter().flatten().map(|after| (after.file, after.row)).collect();
            match positions[..] {
                [] => answer["next_inventory"] = json!({"file": 0, "row": 5_000}),
                [(0, 5_000)] => {
                    stop.set();
                    answer["next_inventory"] = json!({"file": 3, "row": 0});
                }
                ref other => panic!("{other:?}"),
            }
            Reply::Answer(answer)
        })
        .await;
        let ended = run(&Context { interrupt, ..context }, &["reconcile", "--inventory", MANIFEST, "--dry-run"]).await;
        assert_eq!(ended.code, 1);
        assert!(ended.out.starts_with("compared 2,000 objects: nothing differs\n"), "{}", ended.out);
        assert!(ended.out.ends_with("run the same command with --after-rows 3 0\n"), "{}", ended.out);
        let context = canned::registrar(|command| {
            let after = Some(InventoryPosition { file: 3, row: 0 });
            let manifest = MANIFEST.to_owned();
            assert_eq!(command, Command::ReconcileInventory { manifest, dry_run: false, after });
            Reply::Answer(page(1, 0, 0, None))
        })
        .await;
        let last = run(&context, &["reconcile", "--inventory", MANIFEST, "--after-rows", "3", "0"]).await;
        assert_eq!(last.code, 0, "{}", last.out);
    }
}
