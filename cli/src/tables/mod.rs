//! `landfall tables`: which tables there are is declared in a file, planned and applied.

pub mod file;
pub mod report;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use shared::registrar::{Command, TableList};

use self::{
    file::FileError,
    report::{Done, Planned},
};
use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::{Failed, conclude},
    registrar::{RegistrarArgs, RegistrarError},
};

/// The part of the help that explains the file. It is examples/tables.toml, shortened.
macro_rules! file_help {
    () => {
        "\
FILE is TOML with one [[table]] per table:

  [[table]]
  prefix = \"cubic/ods_qlik/EDW.SAMPLE/\"  # keys of its objects start so; ends with /
  kind = \"ods\"                           # ods, dmap, kafka, dms or other
  # name = \"edw_sample\"                  # made of the prefix when absent: cubic__ods_qlik__edw_sample
  # snapshot_key = \"cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz\"  # for ods; this is the one it has when absent
  # active = false                       # its objects are not registered

Tables that are not in the file stay as they are; nothing is deleted. A table that should not get any
more loads is declared with active = false.
"
    };
}

const PLAN_HELP: &str = concat!(
    file_help!(),
    "
Exit code: 0 when the plan could be made, but 3 with --exit-code when something is to be done; 2 when the
file or the arguments make no sense, otherwise 1.

Examples:
  landfall tables plan tables.toml
  landfall tables plan tables.toml --exit-code || echo 'not applied yet'"
);

const APPLY_HELP: &str = concat!(
    file_help!(),
    "
Everything is done in one transaction, without a question; applying the same file again changes nothing.
Objects that came before their table was declared become loads of it.

Exit code: 0 when the tables are as declared, 2 when the file or the arguments make no sense, otherwise 1.

Examples:
  landfall tables plan tables.toml && landfall tables apply tables.toml
  landfall tables apply tables.toml --json"
);

/// What is done with tables.
#[derive(Debug, Subcommand)]
pub enum Tables {
    /// Shows what applying a file would change.
    Plan(PlanArgs),
    /// Makes the tables what a file says.
    Apply(ApplyArgs),
    /// Lists the tables and counts their loads.
    List(ListArgs),
}

/// The arguments of `landfall tables plan`.
#[derive(Debug, Args)]
#[command(after_long_help = PLAN_HELP)]
pub struct PlanArgs {
    /// File that declares the tables.
    pub file: PathBuf,
    /// End with exit code 3 when something is to be done.
    #[arg(long)]
    pub exit_code: bool,
    /// The function to ask.
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

/// The arguments of `landfall tables apply`.
#[derive(Debug, Args)]
#[command(after_long_help = APPLY_HELP)]
pub struct ApplyArgs {
    /// File that declares the tables.
    pub file: PathBuf,
    /// The function to ask.
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

/// The arguments of `landfall tables list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The function to ask.
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

/// Why nothing was planned or applied.
#[derive(Debug, thiserror::Error)]
pub enum TablesError {
    /// The file does not say what the tables are.
    #[error(transparent)]
    File(#[from] FileError),
    /// The function did not answer.
    #[error(transparent)]
    Registrar(#[from] RegistrarError),
}

impl From<TablesError> for Failed {
    fn from(error: TablesError) -> Self {
        match error {
            TablesError::File(error) => Self { sentence: error.to_string(), exit: Exit::Usage },
            TablesError::Registrar(error) => error.into(),
        }
    }
}

/// Runs the command and prints how it ended.
pub async fn run(command: &Tables, json: bool, context: &Context, console: &mut Console) -> Exit {
    match command {
        Tables::Plan(args) => conclude(plan(args, context, console).await, json, console),
        Tables::Apply(args) => conclude(apply(args, context, console).await, json, console),
        Tables::List(args) => conclude(list(args, context, console).await, json, console),
    }
}

async fn plan(args: &PlanArgs, context: &Context, console: &Console) -> Result<Planned, TablesError> {
    let command = Command::TablesPlan { tables: file::read(&args.file)? };
    let plan = args.registrar.ask(&command, context, console).await?;
    Ok(Planned { plan, done: Done::No { exit_code: args.exit_code } })
}

async fn apply(args: &ApplyArgs, context: &Context, console: &Console) -> Result<Planned, TablesError> {
    let command = Command::TablesApply { tables: file::read(&args.file)? };
    let plan = args.registrar.ask(&command, context, console).await?;
    Ok(Planned { plan, done: Done::Yes })
}

async fn list(args: &ListArgs, context: &Context, console: &Console) -> Result<TableList, RegistrarError> {
    args.registrar.ask(&Command::TablesList {}, context, console).await
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use shared::registrar::TableKind;

    use super::*;
    use crate::canned::{self, Ended, Reply, run};

    const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/tables.toml");

    fn plan_of(changes: Value) -> Value {
        json!({"changes": changes, "unchanged": 3, "undeclared": [], "picked_up": 0})
    }

    fn one_change() -> Value {
        plan_of(json!([{"name": "t", "create": false, "fields": [{"field": "active", "from": "true", "to": "false"}]}]))
    }

    async fn answered(answer: Value, arguments: &[&str]) -> Ended {
        run(&canned::registrar(move |_| Reply::Answer(answer.clone())).await, arguments).await
    }

    #[tokio::test]
    async fn the_file_is_what_the_function_is_asked_about() {
        for (verb, summary) in [
            ("plan", "Plan: 0 to create, 0 to change, 3 unchanged\n"),
            ("apply", "Applied: 0 created, 0 changed, 3 unchanged\n"),
        ] {
            let context = canned::registrar(move |command| {
                let tables = match command {
                    Command::TablesPlan { tables } if verb == "plan" => tables,
                    Command::TablesApply { tables } if verb == "apply" => tables,
                    other => panic!("{other:?}"),
                };
                let declared: Vec<_> = tables.iter().map(|table| (table.prefix.as_str(), table.kind)).collect();
                let expected = [
                    ("cubic/ods_qlik/EDW.SAMPLE/", TableKind::Ods),
                    ("cubic/dmap/agg_sample/", TableKind::Dmap),
                    ("cubic/kafka/sample/", TableKind::Kafka),
                    ("shop/orders/", TableKind::Dms),
                ];
                assert_eq!(declared, expected);
                Reply::Answer(plan_of(json!([])))
            })
            .await;
            let ended = run(&context, &["tables", verb, EXAMPLE]).await;
            assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, summary, ""));
        }
    }

    #[tokio::test]
    async fn only_a_plan_with_exit_code_tells_differences_by_its_exit_code() {
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
        assert!(other.err.contains("Cargo.toml, line ") && other.err.contains(", expected `table`"), "{}", other.err);
    }

    #[tokio::test]
    async fn tables_are_listed() {
        let table = json!({
            "name": "cubic__dmap__agg_sample", "prefix": "cubic/dmap/agg_sample/", "kind": "dmap", "active": true,
            "snapshot_key": null, "snapshot": null, "loads": [["ready", 12], ["archived", 1200]],
            "oldest_unfinished": "2026-11-20T14:11:46Z",
        });
        let ended = answered(json!({"tables": [table], "unregistered_objects": 17}), &["tables", "list"]).await;
        let expected = "\
table                    kind  active  prefix                  oldest unfinished     loads
cubic__dmap__agg_sample  dmap  yes     cubic/dmap/agg_sample/  2026-11-20T14:11:46Z  12 ready, 1,200 archived

17 objects belong to no active table
";
        assert_eq!((ended.code, ended.out.as_str()), (0, expected));
        let empty = answered(json!({"tables": [], "unregistered_objects": 0}), &["tables", "list"]).await;
        assert_eq!(empty.out, "there are no tables; declare them in a file and run landfall tables apply FILE\n");
    }
}
