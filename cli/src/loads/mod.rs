//! `landfall loads`: lists loads, claims them for a job, and sets their status.

mod list;

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser, value_parser};
use shared::registrar::{Command, Load, LoadList, LoadStatus};

use self::list::list;
use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::{Outcome, conclude, document},
    paging::PAGE,
    registrar::{RegistrarArgs, RegistrarError},
    text::{Column, Table, counted, printable, size},
    when::{Since, Span},
};

const LIST_HELP: &str = "\
Exit code: 0 when everything that was asked for is listed, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall loads list --status ready_for_erroring --since 7d
  landfall loads list --table cubic__dmap__agg_sample --since 2026-11-20 --limit 0 --json";

const SET_STATUS_HELP: &str = "\
The database knows which status can follow which. If it refuses a step, it says which ones are legal.

Either all loads get the status or none: a load that does not exist, or that cannot go to that status from
its own, is named and ends the command. Each change is recorded with its time, name and reason. The
request is never sent twice: if the answer is lost, check with landfall loads list before you repeat it.

Exit code: 0 when all have the status, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall loads set-status --to ready_for_archiving 1201 1202
  landfall loads set-status --to ready --reason 'column added' 1203";

const NEXT_HELP: &str = "\
The loads are ingesting until landfall loads set-status gives them another status. When the lease expires,
loads that are still ingesting can be claimed again. The request is never sent twice: if the answer is
lost, the loads that it may have claimed are free again when the lease expires.

Exit code: 0 also when nothing is ready, 2 when the arguments are invalid, otherwise 1.

Examples:
  landfall loads next --table cubic__dmap__agg_sample --limit 10 --json
  landfall loads next --table cubic__kafka__sample --lease 2h --by nightly";

#[derive(Debug, Subcommand)]
pub enum Loads {
    /// Lists loads, the oldest object first.
    List(ListArgs),
    /// Sets the status of loads.
    SetStatus(SetStatusArgs),
    /// Claims ready loads of a table for a job that ingests them, the oldest object first.
    Next(NextArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = LIST_HELP)]
pub struct ListArgs {
    /// Only loads of this table.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub table: Option<String>,
    #[arg(long, help = status_help("Only loads of this status"))]
    pub status: Option<LoadStatus>,
    /// Only loads whose object was modified since then: a UTC day, a time, or a span until now such as 2h or 7d.
    #[arg(long, value_name = "DAY|TIME|SPAN")]
    pub since: Option<Since>,
    /// List at most this many; 0 lists all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

#[derive(Debug, Args)]
#[command(after_long_help = SET_STATUS_HELP)]
pub struct SetStatusArgs {
    /// Ids of the loads, as listed.
    #[arg(value_name = "ID", required = true, value_parser = value_parser!(i64).range(1..))]
    pub loads: Vec<i64>,
    #[arg(long, value_name = "STATUS", help = status_help("The new status"))]
    pub to: LoadStatus,
    /// Why the status changes; recorded with the change.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    #[command(flatten)]
    pub by: ByArgs,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

#[derive(Debug, Args)]
#[command(after_long_help = NEXT_HELP)]
pub struct NextArgs {
    /// The table.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub table: String,
    /// Claim at most this many, up to 1,000.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = value_parser!(u32).range(1..=PAGE.into()))]
    pub limit: u32,
    /// Time until another job can claim them.
    #[arg(long, value_name = "SPAN", default_value = "15m")]
    pub lease: Span,
    #[command(flatten)]
    pub by: ByArgs,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

/// Who changes a status.
#[derive(Debug, Args)]
pub struct ByArgs {
    /// Who changes the loads; recorded with each change. By default the user of this process, or cli.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new(), display_order = 80)]
    pub by: Option<String>,
}

impl ByArgs {
    fn name(&self, context: &Context) -> String {
        self.by.clone().unwrap_or_else(|| context.user.clone())
    }
}

fn status_help(first: &str) -> String {
    format!("{first}: {}", LoadStatus::ALL.map(LoadStatus::as_str).join(", "))
}

/// Runs the command and prints how it ended.
pub async fn run(command: &Loads, json: bool, context: &Context, console: &mut Console) -> Exit {
    match command {
        Loads::List(args) => conclude(list(args, context, console).await, json, console),
        Loads::SetStatus(args) => conclude(set_status(args, context, console).await, json, console),
        Loads::Next(args) => conclude(next(args, context, console).await, json, console),
    }
}

async fn set_status(args: &SetStatusArgs, context: &Context, console: &Console) -> Result<Moved, RegistrarError> {
    let mut loads = args.loads.clone();
    loads.sort_unstable();
    loads.dedup();
    let (reason, by) = (args.reason.clone(), args.by.name(context));
    let command = Command::LoadsSetStatus { loads, status: args.to, reason, by };
    let list = args.registrar.ask(&command, context, console).await?;
    Ok(Moved { list, to: args.to })
}

async fn next(args: &NextArgs, context: &Context, console: &Console) -> Result<Claimed, RegistrarError> {
    let command = Command::LoadsNext {
        table: args.table.clone(),
        limit: args.limit,
        lease_seconds: args.lease.seconds(),
        by: args.by.name(context),
    };
    let list = args.registrar.ask(&command, context, console).await?;
    Ok(Claimed { list, table: args.table.clone() })
}

/// Loads whose status was set.
struct Moved {
    list: LoadList,
    to: LoadStatus,
}

impl Outcome for Moved {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(&self.list)
    }

    fn to_text(&self) -> String {
        let number = self.list.loads.len() as u64;
        let verb = if number == 1 { "is" } else { "are" };
        format!("{}\n{} {verb} {} now\n", table(&self.list.loads), counted(number, "load", "loads"), self.to)
    }
}

/// Loads that were claimed.
struct Claimed {
    list: LoadList,
    table: String,
}

impl Outcome for Claimed {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(&self.list)
    }

    fn to_text(&self) -> String {
        if self.list.loads.is_empty() {
            return format!("no load of {} is ready\n", printable(&self.table));
        }
        table(&self.list.loads).to_string()
    }
}

/// Loads, one on each line. Keys are not shortened, so that they can be copied.
fn table(loads: &[Load]) -> Table<'static, 7> {
    let mut table = Table::new([
        Column::Right("id"),
        Column::Left("table"),
        Column::Left("status"),
        Column::Left("modified"),
        Column::Right("size"),
        Column::Left("key"),
        Column::Left("note"),
    ]);
    for load in loads {
        table.row([
            load.id.to_string(),
            load.table.clone(),
            load.status.to_string(),
            load.s3_modified.to_string(),
            size(load.s3_size),
            load.s3_key.clone(),
            note(load),
        ]);
    }
    table
}

/// The reason of the status, and the lease.
fn note(load: &Load) -> String {
    let lease = match (&load.leased_by, load.leased_until) {
        (Some(by), Some(until)) => Some(format!("{by} until {until}")),
        (Some(by), None) => Some(by.clone()),
        (None, Some(until)) => Some(format!("until {until}")),
        (None, None) => None,
    };
    [load.status_reason.clone(), lease].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::canned::{self, Reply, run};

    pub(crate) fn load(id: i64, status: &str) -> Value {
        json!({
            "id": id, "table": "cubic__dmap__agg_sample", "changes": false, "status": status, "status_reason": null,
            "s3_key": format!("cubic/dmap/agg_sample/{id}.csv"), "s3_modified": "2026-11-20T14:11:46Z",
            "s3_size": 1_234_567, "snapshot": null, "leased_by": null, "leased_until": null,
        })
    }

    #[tokio::test]
    async fn loads_are_moved_once_each_and_shown_as_they_are_now() {
        let context = canned::registrar(|command| {
            let expected = Command::LoadsSetStatus {
                loads: vec![7, 12],
                status: LoadStatus::ReadyForErroring,
                reason: Some("a column is missing".to_owned()),
                by: "cli".to_owned(),
            };
            assert_eq!(command, expected);
            let mut moved = load(12, "ready_for_erroring");
            moved["status_reason"] = "a column is missing".into();
            Reply::Answer(json!({"loads": [load(7, "ready_for_erroring"), moved], "next": null}))
        })
        .await;
        let arguments = ["loads", "set-status", "--to", "ready_for_erroring", "12", "7", "12"];
        let ended = run(&context, &[&arguments[..], &["--reason", "a column is missing"]].concat()).await;
        let expected = "\
id  table                    status              modified                 size  key                           note
 7  cubic__dmap__agg_sample  ready_for_erroring  2026-11-20T14:11:46Z  1.23 MB  cubic/dmap/agg_sample/7.csv   -
12  cubic__dmap__agg_sample  ready_for_erroring  2026-11-20T14:11:46Z  1.23 MB  cubic/dmap/agg_sample/12.csv  a column is missing

2 loads are ready_for_erroring now
";
        assert_eq!((ended.code, ended.err.as_str(), ended.out.as_str()), (0, "", expected));
    }

    #[tokio::test]
    async fn claimed_loads_are_listed_with_their_lease() {
        let context = canned::registrar(|command| {
            let expected = Command::LoadsNext {
                table: "cubic__dmap__agg_sample".to_owned(),
                limit: 5,
                lease_seconds: 5_400,
                by: "nightly".to_owned(),
            };
            assert_eq!(command, expected);
            let mut claimed = load(7, "ingesting");
            claimed["leased_by"] = "nightly".into();
            claimed["leased_until"] = "2026-11-20T16:00:00Z".into();
            Reply::Answer(json!({"loads": [claimed], "next": null}))
        })
        .await;
        let arguments = ["loads", "next", "--table", "cubic__dmap__agg_sample", "--limit", "5"];
        let arguments = [&arguments[..], &["--lease", "1h30m", "--by", "nightly"]].concat();
        let ended = run(&context, &arguments).await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(
            ended.out.ends_with("  cubic/dmap/agg_sample/7.csv  nightly until 2026-11-20T16:00:00Z\n"),
            "{}",
            ended.out
        );
        let machine = run(&context, &[&arguments[..], &["--json"]].concat()).await;
        assert_eq!(machine.json()["loads"][0]["leased_by"], "nightly");
    }

    #[tokio::test]
    async fn nothing_ready_is_said_so_and_the_defaults_are_those_of_the_help() {
        let context = canned::registrar(|command| {
            let Command::LoadsNext { limit: 100, lease_seconds: 900, by, .. } = command else { panic!("{command:?}") };
            assert_eq!(by, "ada");
            Reply::Answer(json!({"loads": [], "next": null}))
        })
        .await;
        let context = Context { user: "ada".to_owned(), ..context };
        let ended = run(&context, &["loads", "next", "--table", "t\u{1b}[2J"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (0, "no load of t\\u{1b}[2J is ready\n"));
    }

    #[test]
    fn nonsense_is_refused() {
        let refused = |arguments: &[&str]| {
            let arguments = [&["loads"], arguments].concat();
            crate::Cli::try_parse_args(&arguments).map(drop).unwrap_err().to_string()
        };
        for (arguments, expected) in [
            (&["set-status", "--to", "done", "1"][..], "\"done\" is not a load status; known are ready, ingesting, "),
            (&["set-status", "--to", "ready"], "required arguments were not provided"),
            (&["set-status", "--to", "ready", "seven"], "invalid value 'seven'"),
            (&["set-status", "--to", "ready", "0"], "invalid value '0'"),
            (&["next"], "--table <NAME>"),
            (&["next", "--table", "t", "--limit", "0"], "0 is not in 1..=1000"),
            (&["next", "--table", "t", "--limit", "1001"], "1001 is not in 1..=1000"),
            (&["next", "--table", "t", "--lease", "15"], "write a span of time as 90s, 15m, 2h or 7d"),
            (&["list", "--since", "yesterday"], "write a day as 2026-11-20, a time as"),
            (&["list", "--function", ""], "a value is required for '--function"),
        ] {
            let error = refused(arguments);
            assert!(error.contains(expected), "{arguments:?}: {error}");
        }
    }
}
