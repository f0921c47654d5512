//! `landfall loads`: lists loads, claims them for a job, renews leases, and sets statuses.

mod list;

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser, value_parser};
use shared::registrar::{Command, Load, LoadList, LoadRef, LoadStatus, LoadsMoved, Step};

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

A job names the lease that landfall loads next gave it, as in 1201@7 for lease 7 of load 1201. When the lease
has expired, or another job has claimed the load since, the step is refused and the job has to stop. Without a
lease, a load that a job is working on is changed only after its lease has expired, or with --revoke.

Either all loads get the status or none: a load that does not exist, or that cannot go to that status from
its own, is named and ends the command. Each change is recorded with its time, name and reason. A step that
was made before changes nothing, so the command can be repeated when its answer is lost.

Exit code: 0 when all have the status, 2 when the arguments are invalid or load-registrar refuses it, otherwise 1.

Examples:
  landfall loads set-status --to ready_for_archiving 1201@7 1202@3
  landfall loads set-status --to ready --reason 'the bucket is back' 1203@1
  landfall loads set-status --to ready_for_erroring --revoke 1204";

const NEXT_HELP: &str = "\
Each claim gives a load a lease with a new number. The job names it with each step, as in landfall loads
set-status 1201@7. When it has expired, it changes nothing any more, and another job can claim the load; a job
that needs longer renews it in time. A load whose lease to ingest it has expired too often (five times, or the
table's max_attempts) becomes ready_for_erroring with the reason attempts_exhausted.

The request is never sent twice: if the answer is lost, the loads that it may have claimed are free again when
the lease expires.

Exit code: 0 also when there is nothing to claim, 2 when the arguments are invalid or load-registrar refuses it, otherwise 1.

Examples:
  landfall loads next --table cubic__dmap__agg_sample --limit 10 --json
  landfall loads next --step archive --lease 2h --by nightly";

const RENEW_HELP: &str = "\
Renew while the lease lasts: one that has expired is refused, because another job may have claimed the load.
Either all are renewed or none.

Exit code: 0 when all are renewed, 2 when the arguments are invalid or load-registrar refuses it, otherwise 1.

Example:
  landfall loads renew --lease 15m 1201@7 1202@3";

const RETRY_HELP: &str = "\
The loads become ready, with all their attempts. Those that are ready_for_erroring can be retried, and those
whose job is gone: a lease that has not expired is only taken away with --revoke. An errored load's object has
been moved away; put it into the incoming bucket again, which makes it another load.

Exit code: 0 when all are ready, 2 when the arguments are invalid or load-registrar refuses it, otherwise 1.

Example:
  landfall loads retry --reason 'column added' 1203 1207";

const GIVE_UP_HELP: &str = "\
The loads become ready_for_erroring, and are not ingested. Those that are ready can be given up, and those that
are being ingested after their lease has expired, or with --revoke.

Exit code: 0 when all are given up, 2 when the arguments are invalid or load-registrar refuses it, otherwise 1.

Example:
  landfall loads give-up --reason 'the sender will replace it' 1203";

#[derive(Debug, Subcommand)]
pub enum Loads {
    /// Lists loads, the oldest object first.
    List(ListArgs),
    /// Sets the status of loads.
    SetStatus(SetStatusArgs),
    /// Claims loads for a job, the oldest object first.
    Next(NextArgs),
    /// Renews the leases of loads.
    Renew(RenewArgs),
    /// Makes loads ready again that could not be ingested.
    #[command(after_long_help = RETRY_HELP)]
    Retry(ChangeArgs),
    /// Gives loads up, so that their objects are moved away.
    #[command(after_long_help = GIVE_UP_HELP)]
    GiveUp(ChangeArgs),
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
    /// Only loads whose files are in another folder than they belong in, because a snapshot was registered after the load had been
    /// ingested. They are moved when they are archived again.
    #[arg(long)]
    pub displaced: bool,
    /// List at most this many; 0 lists all.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub limit: usize,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

#[derive(Debug, Args)]
#[command(after_long_help = SET_STATUS_HELP)]
pub struct SetStatusArgs {
    #[arg(long, value_name = "STATUS", help = status_help("The new status"))]
    pub to: LoadStatus,
    #[command(flatten)]
    pub change: ChangeArgs,
}

/// Loads whose status changes.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Ids of the loads, as listed; of those that this job has claimed with their lease, as in 1201@7.
    #[arg(value_name = "ID[@LEASE]", required = true)]
    pub loads: Vec<LoadRef>,
    /// Why the status changes; recorded with the change.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    pub reason: Option<String>,
    /// Take loads without a named lease away from the job that holds it. Its steps are refused from then on.
    #[arg(long)]
    pub revoke: bool,
    #[command(flatten)]
    pub by: ByArgs,
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

#[derive(Debug, Args)]
#[command(after_long_help = NEXT_HELP)]
pub struct NextArgs {
    /// Only loads of this table; by default those of all active tables.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub table: Option<String>,
    #[arg(long, default_value_t, help = step_help())]
    pub step: Step,
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

#[derive(Debug, Args)]
#[command(after_long_help = RENEW_HELP)]
pub struct RenewArgs {
    /// Ids of the loads with their leases, as in 1201@7.
    #[arg(value_name = "ID@LEASE", required = true)]
    pub loads: Vec<LoadRef>,
    /// Time from now until another job can claim them.
    #[arg(long, value_name = "SPAN", default_value = "15m")]
    pub lease: Span,
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

fn step_help() -> String {
    format!("What the job does with them: {}", Step::ALL.map(Step::as_str).join(", "))
}

/// Runs the command and prints how it ended.
pub async fn run(command: &Loads, json: bool, context: &Context, console: &mut Console) -> Exit {
    match command {
        Loads::List(args) => conclude(list(args, context, console).await, json, console),
        Loads::SetStatus(args) => conclude(change(&args.change, args.to, context, console).await, json, console),
        Loads::Next(args) => conclude(next(args, context, console).await, json, console),
        Loads::Renew(args) => conclude(renew(args, context, console).await, json, console),
        Loads::Retry(args) => conclude(change(args, LoadStatus::Ready, context, console).await, json, console),
        Loads::GiveUp(args) => {
            conclude(change(args, LoadStatus::ReadyForErroring, context, console).await, json, console)
        }
    }
}

async fn change(
    args: &ChangeArgs,
    to: LoadStatus,
    context: &Context,
    console: &Console,
) -> Result<Moved, RegistrarError> {
    let (reason, by) = (args.reason.clone(), args.by.name(context));
    let command = Command::LoadsSetStatus { loads: distinct(&args.loads), status: to, reason, by, revoke: args.revoke };
    let moved = args.registrar.ask(&command, context, console).await?;
    Ok(Moved { moved, to })
}

async fn renew(args: &RenewArgs, context: &Context, console: &Console) -> Result<Renewed, RegistrarError> {
    let command = Command::LoadsRenew { loads: distinct(&args.loads), lease_seconds: args.lease.seconds() };
    Ok(Renewed(args.registrar.ask(&command, context, console).await?))
}

/// The loads in the order of their ids, each once.
fn distinct(loads: &[LoadRef]) -> Vec<LoadRef> {
    let mut loads = loads.to_vec();
    loads.sort_by_key(|load| (load.id, load.lease));
    loads.dedup();
    loads
}

async fn next(args: &NextArgs, context: &Context, console: &Console) -> Result<Claimed, RegistrarError> {
    let command = Command::LoadsNext {
        table: args.table.clone(),
        loads: Vec::new(),
        step: args.step,
        limit: args.limit,
        lease_seconds: args.lease.seconds(),
        by: args.by.name(context),
        queued: false,
    };
    let list = args.registrar.ask(&command, context, console).await?;
    Ok(Claimed { list, table: args.table.clone(), step: args.step })
}

/// Loads whose status was set.
struct Moved {
    moved: LoadsMoved,
    to: LoadStatus,
}

impl Outcome for Moved {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(&self.moved)
    }

    fn to_text(&self) -> String {
        let LoadsMoved { loads, unchanged } = &self.moved;
        let number = (loads.len() - unchanged.len()) as u64;
        let verb = if number == 1 { "is" } else { "are" };
        let text = format!("{}\n{} {verb} {} now\n", table(loads), counted(number, "load", "loads"), self.to);
        match unchanged.len() as u64 {
            0 => text,
            number => format!("{text}{} had been moved before\n", counted(number, "load", "loads")),
        }
    }
}

/// Loads whose lease was renewed.
struct Renewed(LoadList);

impl Outcome for Renewed {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(&self.0)
    }

    fn to_text(&self) -> String {
        table(&self.0.loads).to_string()
    }
}

/// Loads that were claimed.
struct Claimed {
    list: LoadList,
    table: Option<String>,
    step: Step,
}

impl Outcome for Claimed {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(&self.list)
    }

    fn to_text(&self) -> String {
        if self.list.loads.is_empty() {
            let of_table = self.table.as_ref().map(|table| format!(" of {}", printable(table))).unwrap_or_default();
            return format!("no load{of_table} waits for the step {}\n", self.step);
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
        (Some(by), Some(until)) => Some(format!("lease {} of {by} until {until}", load.lease)),
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
            "s3_size": 1_234_567, "s3_bucket": "incoming", "s3_etag": "e", "s3_version": null, "snapshot": null,
            "kind": "dmap", "place": "cubic/dmap/agg_sample/timestamp=20261120T141146Z/", "complete_in": null, "places": [],
            "lease": 0, "attempts": 0, "leased_by": null, "leased_until": null,
        })
    }

    #[tokio::test]
    async fn loads_are_moved_once_each_and_shown_as_they_are_now() {
        let context = canned::registrar(|command| {
            let expected = Command::LoadsSetStatus {
                loads: vec![
                    LoadRef { id: 7, lease: Some(3), result: None },
                    LoadRef { id: 12, lease: None, result: None },
                ],
                status: LoadStatus::ReadyForErroring,
                reason: Some("a column is missing".to_owned()),
                by: "cli".to_owned(),
                revoke: true,
            };
            assert_eq!(command, expected);
            let mut moved = load(12, "ready_for_erroring");
            moved["status_reason"] = "a column is missing".into();
            Reply::Answer(json!({"loads": [load(7, "ready_for_erroring"), moved], "unchanged": [7]}))
        })
        .await;
        let arguments = ["loads", "set-status", "--to", "ready_for_erroring", "12", "7@3", "12", "--revoke"];
        let ended = run(&context, &[&arguments[..], &["--reason", "a column is missing"]].concat()).await;
        let expected = "\
id  table                    status              modified                 size  key                           note
 7  cubic__dmap__agg_sample  ready_for_erroring  2026-11-20T14:11:46Z  1.23 MB  cubic/dmap/agg_sample/7.csv   -
12  cubic__dmap__agg_sample  ready_for_erroring  2026-11-20T14:11:46Z  1.23 MB  cubic/dmap/agg_sample/12.csv  a column is missing

1 load is ready_for_erroring now
1 load had been moved before
";
        assert_eq!((ended.code, ended.err.as_str(), ended.out.as_str()), (0, "", expected));
    }

    #[tokio::test]
    async fn a_load_is_given_up_or_retried_by_the_status_that_says_so() {
        for (command, to) in [("give-up", LoadStatus::ReadyForErroring), ("retry", LoadStatus::Ready)] {
            let context = canned::registrar(move |asked| {
                let Command::LoadsSetStatus { loads, status, revoke: false, .. } = asked else { panic!("{asked:?}") };
                assert_eq!((loads, status), (vec![LoadRef { id: 7, lease: None, result: None }], to));
                Reply::Answer(json!({"loads": [load(7, to.as_str())], "unchanged": []}))
            })
            .await;
            let ended = run(&context, &["loads", command, "7"]).await;
            assert!(ended.out.ends_with(&format!("1 load is {to} now\n")), "{}", ended.out);
        }
    }

    #[tokio::test]
    async fn leases_are_renewed_by_their_numbers() {
        let context = canned::registrar(|command| {
            let loads = vec![LoadRef { id: 7, lease: Some(3), result: None }];
            assert_eq!(command, Command::LoadsRenew { loads, lease_seconds: 120 });
            let mut renewed = load(7, "archiving");
            renewed["leased_by"] = "nightly".into();
            renewed["leased_until"] = "2026-11-20T16:00:00Z".into();
            renewed["lease"] = 3.into();
            Reply::Answer(json!({"loads": [renewed], "next": null}))
        })
        .await;
        let ended = run(&context, &["loads", "renew", "--lease", "2m", "7@3"]).await;
        assert!(ended.out.ends_with("lease 3 of nightly until 2026-11-20T16:00:00Z\n"), "{}", ended.out);
    }

    #[tokio::test]
    async fn claimed_loads_are_listed_with_their_lease() {
        let context = canned::registrar(|command| {
            let expected = Command::LoadsNext {
                table: Some("cubic__dmap__agg_sample".to_owned()),
                loads: Vec::new(),
                step: Step::Archive,
                limit: 5,
                lease_seconds: 5_400,
                by: "nightly".to_owned(),
                queued: false,
            };
            assert_eq!(command, expected);
            let mut claimed = load(7, "archiving");
            claimed["lease"] = 2.into();
            claimed["leased_by"] = "nightly".into();
            claimed["leased_until"] = "2026-11-20T16:00:00Z".into();
            Reply::Answer(json!({"loads": [claimed], "next": null}))
        })
        .await;
        let arguments = ["loads", "next", "--table", "cubic__dmap__agg_sample", "--limit", "5"];
        let arguments = [&arguments[..], &["--lease", "1h30m", "--by", "nightly", "--step", "archive"]].concat();
        let ended = run(&context, &arguments).await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        assert!(
            ended.out.ends_with("  cubic/dmap/agg_sample/7.csv  lease 2 of nightly until 2026-11-20T16:00:00Z\n"),
            "{}",
            ended.out
        );
        let machine = run(&context, &[&arguments[..], &["--json"]].concat()).await;
        assert_eq!(machine.json()["loads"][0]["leased_by"], "nightly");
    }

    #[tokio::test]
    async fn nothing_to_claim_is_said_so_and_the_defaults_are_those_of_the_help() {
        let context = canned::registrar(|command| {
            let Command::LoadsNext { step: Step::Ingest, limit: 100, lease_seconds: 900, by, .. } = command else {
                panic!("{command:?}")
            };
            assert_eq!(by, "ada");
            Reply::Answer(json!({"loads": [], "next": null}))
        })
        .await;
        let context = Context { user: "ada".to_owned(), ..context };
        let ended = run(&context, &["loads", "next", "--table", "t\u{1b}[2J"]).await;
        assert_eq!((ended.code, ended.out.as_str()), (0, "no load of t\\u{1b}[2J waits for the step ingest\n"));
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
            (&["set-status", "--to", "ready", "0"], "write the id of a load as 1203, or with a lease of it as 1203@2"),
            (&["renew"], "<ID@LEASE>"),
            (&["next", "--step", "eat"], "\"eat\" is not a step; known are ingest, archive, error"),
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
