//! `landfall`, the operator's command line: it declares tables, looks after loads, audits files, and replays what the
//! functions could not process.
//!
//! One module per command. A command plans with pure functions over values and touches AWS only through [`queue`],
//! [`stream`] and [`registrar`]; it returns an [`outcome`], which [`run`] prints and turns into an exit code.

pub mod audit;
pub mod backfill;
#[cfg(test)]
mod canned;
pub mod clients;
pub mod console;
pub mod context;
pub mod days;
pub mod ddl;
pub mod dmap;
pub mod lake;
pub mod loads;
pub mod migrate;
pub mod outcome;
pub mod paging;
pub mod quarantine;
pub mod queue;
pub mod reconcile;
pub mod registrar;
pub mod replay;
pub mod roll;
pub mod stack;
pub mod status;
pub mod stream;
pub mod tables;
pub mod text;
pub mod trace;
pub mod when;

use clap::{Arg, Parser, Subcommand, builder::NonEmptyStringValueParser};

use crate::{
    audit::AuditArgs, backfill::BackfillArgs, console::Console, context::Context, ddl::Ddl, dmap::Dmap, loads::Loads,
    migrate::MigrateArgs, outcome::conclude, quarantine::Quarantine, reconcile::ReconcileArgs, replay::Replay,
    roll::RollArgs, status::StatusArgs, tables::Tables, trace::TraceArgs,
};

const HELP: &str = "\
Region, credentials and endpoint come from the usual AWS environment variables and files: AWS_PROFILE,
AWS_REGION, AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL (such as http://127.0.0.1:4566 for a local emulator),
~/.aws/config.";

/// Operates Landfall: tables and loads, replays of failed events, audits of rolled files.
#[derive(Debug, Parser)]
#[command(name = "landfall", version, about, after_long_help = HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// Print the result as JSON, for machines.
    #[arg(long, global = true, display_order = 100)]
    pub json: bool,
    /// The stack to operate. Its functions, queues and buckets are found automatically.
    #[arg(long, global = true, display_order = 99, value_name = "NAME", default_value = "landfall")]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub stack: String,
    /// Profile of ~/.aws/config to use.
    #[arg(long, global = true, display_order = 101, value_name = "NAME")]
    pub profile: Option<String>,
}

impl Cli {
    /// Parses arguments without the program's name.
    pub fn try_parse_args(arguments: &[&str]) -> Result<Self, clap::Error> {
        Self::try_parse_from(std::iter::once(&"landfall").chain(arguments))
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Shows backlogs, quarantined records, open windows, loads and ringing alarms of a stack.
    Status(StatusArgs),
    /// Finds one event: in files, in the quarantine, in the dead-letter queue.
    Trace(TraceArgs),
    /// Lists, shows, exports and deletes quarantined records.
    #[command(subcommand)]
    Quarantine(Quarantine),
    /// Sends dead-lettered messages, quarantined records or events that landed without columns again.
    #[command(subcommand)]
    Replay(Replay),
    /// Applies the migrations that the database of loads does not have yet.
    Migrate(MigrateArgs),
    /// Declares the tables whose objects are registered as loads.
    #[command(subcommand)]
    Tables(Tables),
    /// Lists loads, claims them and changes their status.
    #[command(subcommand)]
    Loads(Loads),
    /// Shows how far the feeds of DMAP have been fetched.
    #[command(subcommand)]
    Dmap(Dmap),
    /// Compares the bucket with the loads and registers what no event announced.
    Reconcile(ReconcileArgs),
    /// Checks that the files rolled from a stream hold every record exactly once, and repairs gaps.
    Audit(AuditArgs),
    /// Closes the open windows of tables now: their records become files.
    Roll(RollArgs),
    /// Lands the events of a table in Postgres as files.
    Backfill(Box<BackfillArgs>),
    /// Prints what creates and loads the tables of the events: Snowflake, Redshift, Athena, DuckDB.
    #[command(subcommand, args = [hidden("stack"), hidden("profile")])]
    Ddl(Ddl),
}

/// A global option in a command for which it means nothing. It is accepted, but not shown.
fn hidden(name: &'static str) -> Arg {
    Arg::new(name).long(name).global(true).hide(true)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything is done.
    Complete = 0,
    /// Something was not done, and has been reported.
    Incomplete = 1,
    /// The arguments, or a file that they name, are invalid, or load-registrar refuses the command.
    Usage = 2,
    /// The command worked, and found differences or problems.
    Different = 3,
}

impl Exit {
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// Runs a command that needs no AWS, and therefore no region. `None` if this is another one.
pub fn run_offline(cli: &Cli, console: &mut Console) -> Option<Exit> {
    match &cli.command {
        Command::Ddl(command) => Some(conclude(ddl::ddl(command), cli.json, console)),
        _ => None,
    }
}

/// Runs one command: its result goes to standard output, errors and progress go to standard error.
pub async fn run(cli: &Cli, context: &Context, console: &mut Console) -> Exit {
    let context = &Context { stack: cli.stack.clone(), ..context.clone() };
    match &cli.command {
        Command::Status(args) => conclude(status::status(args, context, console).await, cli.json, console),
        Command::Trace(args) => conclude(trace::trace(args, context, console).await, cli.json, console),
        Command::Quarantine(command) => quarantine::run(command, cli.json, context, console).await,
        Command::Replay(command) => replay::run(command, cli.json, context, console).await,
        Command::Migrate(args) => conclude(migrate::migrate(args, context, console).await, cli.json, console),
        Command::Tables(command) => tables::run(command, cli.json, context, console).await,
        Command::Loads(command) => loads::run(command, cli.json, context, console).await,
        Command::Dmap(Dmap::List(args)) => conclude(dmap::list(args, context, console).await, cli.json, console),
        Command::Roll(args) => conclude(roll::roll(args, context, console).await, cli.json, console),
        Command::Reconcile(args) => conclude(reconcile::reconcile(args, context, console).await, cli.json, console),
        Command::Audit(args) => conclude(audit::audit(args, context, console).await, cli.json, console),
        Command::Backfill(args) => conclude(backfill::backfill(args, context, console).await, cli.json, console),
        Command::Ddl(command) => conclude(ddl::ddl(command), cli.json, console),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
