//! `landfall tables`: declares tables in a file, plans and applies them, and lists what belongs to none.

pub mod file;
pub mod report;
pub mod roll;
mod unregistered;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use shared::registrar::{Command, Settled, TablesPlan};

use self::{
    file::{Declared, FileError},
    report::{Done, Listed, Planned},
    roll::RollsError,
    unregistered::{UnregisteredArgs, unregistered},
};
use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::{Failed, conclude},
    registrar::{RegistrarArgs, RegistrarError},
};

/// The part of the help that explains the file: a short form of examples/tables.toml.
macro_rules! file_help {
    () => {
        "\
FILE is TOML with one [[table]] per table, and one [[feed]] per feed of DMAP that dmap-fetch asks:

  [[table]]
  prefix = \"cubic/ods_qlik/EDW.SAMPLE/\"  # prefix of its objects' keys; ends with /
  kind = \"ods\"                           # ods, dmap, kafka, dms or other
  # name = \"edw_sample\"                  # by default made from the prefix: cubic__ods_qlik__edw_sample
  # snapshot_key = \"cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz\"  # only for ods; this is the default
  # active = false                       # its objects are not registered
  # max_attempts = 3                     # a load is given up after as many expired leases; 5 by default
  # expect = \"daily by 06:00 America/New_York\"  # or weekdays by …, hourly by :15, every 15m
  # roll = { records = 1000, seconds = 600, bytes = 1048576, compression = \"gzip\", paused = false }
                                         # limits of the files that kafka-roller writes, in cubic/kafka/

  [[feed]]
  name = \"agg_sample\"
  relative_url = \"/datasetpublicusersapi/aggregations/agg_sample\"  # follows the base URL of the stack
  # api_key = \"public\"                   # which key, if the secret has several
  # active = false                       # it is not asked

Kinds: ods has snapshots, and a sibling folder …__ct/ of changes. The others say what writes the objects
and make no difference otherwise: dmap (daily extracts), kafka (kafka-roller), dms (AWS Database Migration
Service), other.

kafka-roller closes the files of a table by the limits in roll, each of which is by default that of the stack. With
paused = true it begins none: the records wait. It looks for changes once a minute.

A table that expects objects is late when none came in time: see landfall tables list --help.

Tables and feeds that are not in the file stay as they are; nothing is deleted. To stop registering the objects of
a table, declare it with active = false.
"
    };
}

const PLAN_HELP: &str = concat!(
    file_help!(),
    "
Exit code: 0, but 3 with --exit-code when there are changes; 2 when the file or the arguments make no
sense; 1 when there is no plan for another reason.

Examples:
  landfall tables plan tables.toml
  landfall tables plan tables.toml --exit-code || echo 'not applied yet'"
);

const APPLY_HELP: &str = concat!(
    file_help!(),
    "
Tables and feeds are changed in one transaction, without asking for confirmation; applying the same file again
changes nothing. Then objects that came before their table was declared become its loads, and loads that nobody
has ingested go to the table that they belong to now. If that is interrupted, the next reconciliation goes on.

Exit code: 0 when the tables are as declared, 2 when the file or the arguments make no sense, otherwise 1.

Examples:
  landfall tables plan tables.toml && landfall tables apply tables.toml
  landfall tables apply tables.toml --json"
);

const LIST_HELP: &str = "\
A table that expects objects (expect in its declaration) is late when none came in time:

  daily by 06:00 America/New_York   every day by 06:00 of the clocks there
  weekdays by 18:30 Europe/Berlin   the same from Monday to Friday
  hourly by :15                     every hour by this minute, in UTC
  every 15m                         15 minutes after the newest object at the latest

The time at which its newest object was modified decides. What comes between two due times counts for
the second. A table without any object is late from the second due time on after it was declared. A table
that is not active is never late.

Exit code: 0; with --late 3 when a table is late; 2 when the arguments are invalid; 1 when there is no list.

Examples:
  landfall tables list
  landfall tables list --late || echo 'something did not come'";

#[derive(Debug, Subcommand)]
pub enum Tables {
    /// Shows what applying a file would change.
    Plan(PlanArgs),
    /// Creates and changes tables as a file declares them.
    Apply(ApplyArgs),
    /// Lists the tables and counts their loads.
    List(ListArgs),
    /// Lists objects that are no loads: no table takes them, or they are no data by their suffix.
    Unregistered(UnregisteredArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = PLAN_HELP)]
pub struct PlanArgs {
    /// File that declares the tables.
    pub file: PathBuf,
    /// Exit with code 3 when there are changes.
    #[arg(long)]
    pub exit_code: bool,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

#[derive(Debug, Args)]
#[command(after_long_help = APPLY_HELP)]
pub struct ApplyArgs {
    /// File that declares the tables.
    pub file: PathBuf,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

#[derive(Debug, Args)]
#[command(after_long_help = LIST_HELP)]
pub struct ListArgs {
    /// Only tables whose objects did not come when they were expected, and exit with code 3 if there are any.
    #[arg(long)]
    pub late: bool,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Registrar(#[from] RegistrarError),
    #[error(transparent)]
    Rolls(#[from] RollsError),
}

impl From<TablesError> for Failed {
    fn from(error: TablesError) -> Self {
        match error {
            TablesError::File(error) => Self { sentence: error.to_string(), exit: Exit::Usage },
            TablesError::Registrar(error) => error.into(),
            TablesError::Rolls(error) => error.into(),
        }
    }
}

/// Runs the command and prints how it ended.
pub async fn run(command: &Tables, json: bool, context: &Context, console: &mut Console) -> Exit {
    match command {
        Tables::Plan(args) => conclude(plan(args, context, console).await, json, console),
        Tables::Apply(args) => conclude(apply(args, context, console).await, json, console),
        Tables::List(args) => conclude(list(args, context, console).await, json, console),
        Tables::Unregistered(args) => conclude(unregistered(args, context, console).await, json, console),
    }
}

async fn plan(args: &PlanArgs, context: &Context, console: &Console) -> Result<Planned, TablesError> {
    let Declared { tables, feeds, rolls } = file::read(&args.file)?;
    let command = Command::TablesPlan { tables, feeds };
    let mut plan = args.registrar.ask(&command, context, console).await?;
    roll::add(&mut plan, roll::change(&rolls, false, context).await?);
    Ok(Planned { plan, done: Done::No { exit_code: args.exit_code } })
}

async fn apply(args: &ApplyArgs, context: &Context, console: &Console) -> Result<Planned, TablesError> {
    let Declared { tables, feeds, rolls } = file::read(&args.file)?;
    // So that whoever may not read the rules has changed nothing.
    roll::change(&rolls, false, context).await?;
    let command = Command::TablesApply { tables, feeds };
    let mut plan: TablesPlan = args.registrar.ask(&command, context, console).await?;
    let progress = console.progress("Settled", "objects", None);
    while plan.unsettled && !context.interrupt.is_set() {
        let settled: Settled = args.registrar.ask_quietly(&Command::TablesSettle {}, context).await?;
        plan.picked_up += settled.picked_up;
        plan.moved += settled.moved;
        plan.set_aside += settled.set_aside;
        plan.unsettled = settled.unsettled;
        progress.add(usize::try_from(settled.picked_up + settled.moved + settled.set_aside).unwrap_or(usize::MAX));
    }
    roll::add(&mut plan, roll::change(&rolls, true, context).await?);
    Ok(Planned { plan, done: Done::Yes })
}

async fn list(args: &ListArgs, context: &Context, console: &Console) -> Result<Listed, RegistrarError> {
    let list = args.registrar.ask(&Command::TablesList {}, context, console).await?;
    Ok(if args.late { Listed::late(list) } else { Listed::all(list) })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::registrar::TableKind;

    use super::*;
    use crate::canned::{self, Ended, Reply, run};

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/tables.toml");

    fn plan_of(changes: Value) -> Value {
        json!({"changes": changes, "unchanged": 3, "undeclared": [], "picked_up": 0, "moved": 0, "set_aside": 0,
            "unsettled": false})
    }

    fn one_change() -> Value {
        plan_of(json!([{"name": "t", "create": false, "fields": [{"field": "active", "from": "true", "to": "false"}]}]))
    }

    async fn answered(answer: Value, arguments: &[&str]) -> Ended {
        run(&canned::registrar(move |_| Reply::Answer(answer.clone())).await, arguments).await
    }

    #[tokio::test]
    async fn the_function_gets_the_tables_of_the_file() {
        for (verb, summary) in [
            ("plan", "Plan: 0 to create, 0 to change, 3 unchanged\n"),
            ("apply", "Applied: 0 created, 0 changed, 3 unchanged\n"),
        ] {
            let context = canned::registrar(move |command| {
                let (tables, feeds) = match command {
                    Command::TablesPlan { tables, feeds } if verb == "plan" => (tables, feeds),
                    Command::TablesApply { tables, feeds } if verb == "apply" => (tables, feeds),
                    other => panic!("{other:?}"),
                };
                let declared: Vec<_> = tables.iter().map(|table| (table.prefix.as_str(), table.kind)).collect();
                let expected = [
                    ("cubic/ods_qlik/EDW.SAMPLE/", TableKind::Ods),
                    ("cubic/dmap/agg_sample/", TableKind::Dmap),
                    ("cubic/kafka/sample/", TableKind::Kafka),
                    ("shop/orders/", TableKind::Dms),
                    ("shop/uploads/", TableKind::Other),
                ];
                assert_eq!(declared, expected);
                assert_eq!(feeds[0].name.to_string(), "agg_sample");
                Reply::Answer(plan_of(json!([])))
            })
            .await;
            let ended = run(&context, &["tables", verb, EXAMPLE]).await;
            assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, summary, ""));
        }
    }

    #[tokio::test]
    async fn only_a_plan_with_exit_code_ends_with_3_when_there_are_changes() {
        let nothing = plan_of(json!([]));
        for (answer, arguments, code) in [
            (one_change(), &["tables", "plan", EXAMPLE][..], 0),
            (one_change(), &["tables", "plan", EXAMPLE, "--exit-code"], 3),
            (nothing.clone(), &["tables", "plan", EXAMPLE, "--exit-code"], 0),
            (one_change(), &["tables", "apply", EXAMPLE], 0),
        ] {
            assert_eq!(answered(answer, arguments).await.code, code, "{arguments:?}");
        }
        let machine = answered(one_change(), &["tables", "plan", EXAMPLE, "--exit-code", "--json"]).await;
        assert_eq!((machine.code, machine.json()), (3, one_change()));
    }

    #[tokio::test]
    async fn a_file_with_mistakes_is_not_sent() {
        let context = canned::registrar(|command| panic!("{command:?}")).await;
        let missing = run(&context, &["tables", "apply", "no-such-file.toml"]).await;
        assert_eq!(missing.code, 2);
        assert!(missing.err.starts_with("error: no-such-file.toml cannot be read: No such file"), "{}", missing.err);
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let other = run(&context, &["tables", "plan", manifest]).await;
        assert_eq!((other.code, other.out.as_str()), (2, ""));
        assert!(
            other.err.contains("Cargo.toml, line ") && other.err.contains(", expected `table` or `feed`"),
            "{}",
            other.err
        );
    }

    fn list_of(tables: Vec<Value>) -> Value {
        json!({"tables": tables, "unregistered_objects": 17, "objects_not_data": 1_200})
    }

    #[tokio::test]
    async fn late_tables_are_shown_and_are_in_the_exit_code_if_asked_for() {
        let table = |name: &str, expect: Option<&str>, late_since: Option<&str>| {
            json!({
                "name": name, "prefix": format!("{name}/"), "kind": "dmap", "active": true, "snapshot_key": null,
                "snapshot": null, "loads": [], "oldest_unfinished": null, "expect": expect,
                "newest": "2026-11-20T09:58:12Z", "late_since": late_since,
            })
        };
        let list = list_of(vec![
            table("a", Some("every 15m"), Some("2026-11-20T10:13:12Z")),
            table("b", Some("hourly by :05"), None),
            table("c", None, None),
        ]);
        let all = answered(list.clone(), &["tables", "list"]).await;
        let expected = "\
table  kind  active  prefix  expects        newest                late since
a      dmap  yes     a/      every 15m      2026-11-20T09:58:12Z  2026-11-20T10:13:12Z
b      dmap  yes     b/      hourly by :05  2026-11-20T09:58:12Z  -
c      dmap  yes     c/      -              -                     -
";
        assert_eq!(all.code, 0);
        assert!(all.out.starts_with(expected), "{}", all.out);
        let late = answered(list.clone(), &["tables", "list", "--late"]).await;
        let expected = "\
table  kind  active  prefix  expects    newest                late since
a      dmap  yes     a/      every 15m  2026-11-20T09:58:12Z  2026-11-20T10:13:12Z
";
        assert_eq!((late.code, late.out.as_str()), (3, expected));
        let machine = answered(list, &["tables", "list", "--late", "--json"]).await;
        assert_eq!((machine.code, machine.json()["tables"].as_array().unwrap().len()), (3, 1));
    }

    #[tokio::test]
    async fn tables_are_listed() {
        let table = json!({
            "name": "cubic__dmap__agg_sample", "prefix": "cubic/dmap/agg_sample/", "kind": "dmap", "active": true,
            "snapshot_key": null, "snapshot": null, "loads": [["ready", 12], ["archived", 1200]],
            "oldest_unfinished": "2026-11-20T14:11:46Z",
        });
        let list = list_of(vec![table]);
        let ended = answered(list, &["tables", "list"]).await;
        let expected = "\
table                    kind  active  prefix                  oldest unfinished     loads
cubic__dmap__agg_sample  dmap  yes     cubic/dmap/agg_sample/  2026-11-20T14:11:46Z  12 ready, 1,200 archived

17 objects belong to no active table, 1,200 objects are no data by their suffix; landfall tables unregistered lists them
";
        assert_eq!((ended.code, ended.out.as_str()), (0, expected));
        let none = answered(list_of(vec![]), &["tables", "list", "--late"]).await;
        assert_eq!((none.code, none.out.as_str()), (0, "no table is late\n"));
        let empty = answered(json!({"tables": [], "unregistered_objects": 0}), &["tables", "list"]).await;
        assert_eq!(empty.out, "there are no tables; declare them in a file and run landfall tables apply FILE\n");
    }
}
