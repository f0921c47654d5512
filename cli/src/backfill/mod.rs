//! `landfall backfill`: the rows of a table in Postgres land as files, as parquet-writer would have written them.

mod files;
mod manifest;
mod report;
mod source;
mod throttle;
mod work;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::{NonZeroU16, NonZeroU32},
    str::FromStr,
    sync::Arc,
};

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use futures_util::{StreamExt, TryStreamExt, stream};
use landing::{encode::FileRules, table::Tables};
use objects::{Bucket, S3};
use runtime::settings;
use shared::{
    event::{Registry, RegistryError},
    layout::{EventsFormat, LayoutError, Segment},
};
use tokio_postgres::Client;

use self::{
    files::Writer,
    manifest::{Bounds, Counts, FOLDER, Manifest, ManifestError, Notes, Settings},
    report::{DryRun, Landed, Problem, Report},
    source::{Server, SourceError, Table},
    throttle::Throttle,
    work::Work,
};
use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::Failed,
    stack::{self, StackError},
    when::{Span, Times},
};

/// Markers that are read at the same time.
const CONCURRENT_READS: usize = 16;
/// Part of a file's size that the rows of a range are expected to have, so that few ranges become two files.
const FULL: f64 = 0.8;
/// Memory of a row besides its texts and its payload, and the size of rows of which nothing is known.
const ROW_BYTES: f64 = 40.0;
const MAX_RANGE_ROWS: u64 = 4_000_000;
/// Memory of a row group's columns.
const ROW_GROUP_BYTES: usize = 64 << 20;
/// Folders of the lake that belong to others.
const TAKEN: [&str; 11] = [
    "archive",
    "backfill",
    "cdc",
    "collect",
    "error",
    "events",
    "manifests",
    "outbox",
    "quarantine",
    "springboard",
    FOLDER,
];

const HELP: &str = "\
Reads the events of a table and writes them as parquet-writer would have: the same columns, both layouts, the same
quarantine. The table has the columns source, type, payload (bytea, or text in base64) and created_at, and maybe id
and event_id; --map names others: --map type=event_type. The time of a row is its created_at.

Rows are read in ranges of --key, which is the id if it is a number, and created_at otherwise. At the first start, the
ranges and the last key are written into a manifest in the bucket, and each range that is done is noted beside it. A
run that was interrupted goes on where it was when it is started again with the same options, and leaves the same
files. Nothing is overwritten.

A row's event_id is its column event_id, or its id if that is text or a UUID; --map event_id= says that rows have none.
Without one, the warehouse recognizes copies in the stream by their payload.

The password may be in the URL, or in PGPASSWORD, where no list of processes shows it.

Exit code: 0 when every row is landed or in the quarantine, 2 when the arguments are invalid, 3 when --verify finds a
difference, otherwise 1.

Examples:
  landfall backfill --from postgres://reader@replica.example/shop --table events --dry-run
  landfall backfill --from postgres://reader@replica.example/shop --table events --until 2026-11-20
  landfall backfill --from … --table old.messages --map type=event_type --map created_at=sent --key seq --verify";

#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct BackfillArgs {
    /// The database: postgres://user@host[:port][,host…]/database[?sslmode=…]. TLS is used for every server that is not on this
    /// machine.
    #[arg(long, value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub from: String,
    /// File with the certificate authority of the server, if it is not one of RDS.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<String>,
    /// The table or view, with its schema if need be.
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub table: String,
    /// The column that a part of events is in: source, type, payload, created_at, id, event_id. Can be repeated.
    #[arg(long, value_name = "PART=COLUMN")]
    pub map: Vec<Mapping>,
    /// The column by which the table is read in ranges; an index should begin with it.
    #[arg(long, value_name = "COLUMN")]
    pub key: Option<String>,
    #[command(flatten)]
    pub times: Times,
    /// Bucket for the files, if it is not the lake of the stack.
    #[arg(long)]
    pub bucket: Option<String>,
    /// Folder of the files in the bucket.
    #[arg(long, default_value = "events_backfill", value_parser = prefix)]
    pub prefix: String,
    /// Files of all types together, or a folder and files for each type.
    #[arg(long, value_enum, default_value_t = Layout::Together)]
    pub layout: Layout,
    /// Most megabytes of a file, before compression.
    #[arg(long, value_name = "MB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub file_mb: u64,
    /// Most rows of a row group.
    #[arg(long, value_name = "ROWS", default_value_t = 1 << 20, value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub row_group_rows: u64,
    /// Compression level of the pages.
    #[arg(long, value_name = "LEVEL", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=22))]
    pub zstd_level: i32,
    /// How long before its row an event may have happened to land in the folder of that day, if its type names an event_time.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(i64).range(0..=36_500))]
    pub event_time_max_age_days: i64,
    /// Ranges that are read at the same time [default: one for each processor, at most 8].
    #[arg(long, value_name = "COUNT")]
    pub parallel: Option<NonZeroU16>,
    /// Read at most this many rows a second.
    #[arg(long, value_name = "ROWS")]
    pub max_rows_per_second: Option<NonZeroU32>,
    /// How long a statement may take. Ranges are so small that they take half of it at the limit of rows.
    #[arg(long, value_name = "TIME", default_value = "10m")]
    pub statement_timeout: Span,
    /// Compare the number of rows and the checksum with the table at the end.
    #[arg(long)]
    pub verify: bool,
    /// Count the rows by type, and write nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Layout {
    Together,
    ByType,
}

/// A part of an event, and its column; an empty one means that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    part: String,
    column: String,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((part, column)) if source::PARTS.contains(&part) => {
                Ok(Self { part: part.to_owned(), column: column.to_owned() })
            }
            Some((part, _)) => Err(format!("an event has no part {part}; its parts are {}", source::PARTS.join(", "))),
            None => Err("write a part of an event and its column, such as type=event_type".to_owned()),
        }
    }
}

fn prefix(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('/');
    let segments: Result<Vec<Segment>, LayoutError> = text.split('/').map(str::parse).collect();
    match segments.map_err(|error| error.to_string())?.first() {
        Some(first) if TAKEN.contains(&first.as_str()) => Err(format!("the folder {first}/ belongs to others")),
        _ => Ok(text.to_owned()),
    }
}

/// Why a backfill did not begin.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Notes(#[from] ManifestError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Name(#[from] LayoutError),
    #[error(
        "the server has no row up to the last key of the first start, {0}: a replica that is behind, or the last rows were deleted. \
         Name the server of the first start with --from, or begin another backfill with --prefix"
    )]
    Behind(String),
}

impl From<tokio_postgres::Error> for BackfillError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Source(error.into())
    }
}

impl From<BackfillError> for Failed {
    fn from(error: BackfillError) -> Self {
        let exit = match &error {
            BackfillError::Usage(_)
            | BackfillError::Source(SourceError::Url(_) | SourceError::Table(_) | SourceError::Column(_))
            | BackfillError::Notes(ManifestError::Other { .. }) => Exit::Usage,
            _ => Exit::Incomplete,
        };
        Self { sentence: error.to_string(), exit }
    }
}

/// Lands the rows of a table. `Err` means that no row was landed.
pub async fn backfill(args: &BackfillArgs, context: &Context, console: &Console) -> Result<Report, BackfillError> {
    let (since, until) = args.times.range().map_err(BackfillError::Usage)?;
    let bounds = Bounds { since: since.map(|time| time.to_string()), until: until.map(|time| time.to_string()) };
    let timeout_s = args.statement_timeout.seconds();
    let server = Server::new(&args.from, args.ca_file.as_deref(), timeout_s, &settings::environment())?;
    let client = {
        let _waiting = console.waiting("the database");
        server.connect().await?
    };
    server.begin(&client, None).await?;
    let map: BTreeMap<String, String> =
        args.map.iter().map(|mapping| (mapping.part.clone(), mapping.column.clone())).collect();
    let table = Table::describe(&client, &args.table, &map, args.key.as_deref()).await?;
    let segment = manifest::segment(&table.name).ok_or_else(|| LayoutError::Day(table.name.clone()))?;
    if args.dry_run {
        return dry_run(&server, &table, &client, &bounds, args, console).await;
    }

    let bucket = match &args.bucket {
        Some(bucket) => bucket.clone(),
        None => context.setting(stack::WRITER, "LAKE_BUCKET").await?,
    };
    let lake = S3::new(&context.clients.s3, &bucket);
    let notes = Notes::new(&lake, &args.prefix, &segment);
    let registry = Registry::embedded()?;
    let by_type = args.layout == Layout::ByType;
    let tables = Tables::new(&registry, by_type, false)?;
    // That of all types, whatever the layout.
    let fingerprint = landing::table::Table::new(registry.types(), 0, false).fingerprint().to_owned();
    let settings = Settings {
        database: table.database.clone(),
        table: table.name.clone(),
        oid: table.oid,
        columns: table.columns(),
        key: table.key().0.to_owned(),
        bounds: bounds.clone(),
        layout: if by_type { "by-type" } else { "together" }.to_owned(),
        file_bytes: args.file_mb << 20,
        row_group_rows: args.row_group_rows,
        zstd_level: args.zstd_level,
        event_time_max_age_days: args.event_time_max_age_days,
        schema_fingerprint: fingerprint,
    };
    let manifest = match notes.manifest(&settings).await? {
        Some(manifest) => {
            if let Some(last) = manifest.last_keys.last()
                && !table.reaches(&client, &bounds, last).await?
            {
                return Err(BackfillError::Behind(last.clone()));
            }
            manifest
        }
        None => notes.begin(plan(&table, &client, &bounds, settings, args, console).await?).await?,
    };

    // The connection that holds the snapshot has not touched the table in its transaction, and so locks it for nobody.
    client.batch_execute("rollback").await?;
    server.begin(&client, None).await?;
    let (earlier, mut counts, mut files) = earlier(&notes, &manifest.plan(), console).await?;
    let ranges = manifest.ranges();
    let left: Vec<_> = ranges.iter().cloned().enumerate().filter(|(number, _)| !earlier.contains(number)).collect();
    let snapshot: String = client.query_one("select pg_export_snapshot()", &[]).await?.try_get(0)?;
    let rows = manifest.rows.saturating_sub(counts.read);
    let throttle = Throttle::new(args.max_rows_per_second.map(NonZeroU32::get));
    let progress = console.progress("Landing", "rows", Some(usize::try_from(rows).unwrap_or(usize::MAX)));
    let rules = FileRules {
        format: EventsFormat::Parquet,
        row_group_rows: usize::try_from(args.row_group_rows).unwrap_or(usize::MAX),
        row_group_bytes: ROW_GROUP_BYTES,
    };
    let writer = Writer {
        registry,
        tables,
        rules,
        zstd_level: args.zstd_level,
        event_time_max_age_days: args.event_time_max_age_days,
        stored: table.stored,
        prefix: args.prefix.clone(),
        table: segment.clone(),
    };
    let name = segment;
    let work = Work {
        server: &server,
        table: &table,
        bounds: &bounds,
        lake: &lake,
        notes: &notes,
        writer: Arc::new(writer),
        plan: manifest.plan(),
        throttle: &throttle,
        progress: &progress,
        part_bytes: args.file_mb << 20,
        interrupt: &context.interrupt,
        ranges: ranges.len(),
        rows,
    };
    let worked = work.run(&snapshot, left, parallel(args)).await;
    drop(progress);
    counts.add(&worked.counts);
    let done = earlier.len() + worked.done;
    let last = manifest.last_keys.last().map(String::as_str);
    let check_sql = table.check_sql(&bounds, last, manifest.no_key);
    let mut problems: Vec<Problem> =
        worked.failed.iter().map(|(range, error)| Problem { range: *range, detail: error.to_string() }).collect();
    files.extend(worked.files);
    if done == ranges.len() {
        problems.extend(others(&lake, &args.prefix, &name, &files).await?);
    }
    let mut of_table = None;
    if args.verify && done == ranges.len() {
        let _waiting = console.waiting("the checksum of the table");
        match table.check(&client, &check_sql).await {
            Ok(check) => of_table = Some(check),
            Err(error) => problems.push(Problem { range: ranges.len(), detail: error.to_string() }),
        }
    }
    Ok(Report::Landed(Box::new(Landed {
        from: server.name(),
        table: table.name.clone(),
        to: format!("s3://{bucket}/{}/", args.prefix),
        notes: notes.place(),
        counts,
        ranges: ranges.len(),
        done,
        done_before: earlier.len(),
        snapshots: 1 + worked.more_snapshots,
        check_sql: Some(check_sql),
        of_table,
        problems,
        stopped: worked.stopped,
    })))
}

fn parallel(args: &BackfillArgs) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, |processors| processors.get().min(8));
    args.parallel.map_or(processors, |parallel| usize::from(parallel.get()))
}

/// The numbers of the ranges that earlier runs have done, and what became of their rows.
async fn earlier(
    notes: &Notes<'_>,
    plan: &str,
    console: &Console,
) -> Result<(Vec<usize>, Counts, BTreeSet<String>), BackfillError> {
    let _waiting = console.waiting("what is done already");
    let done = notes.done().await?;
    let mut read =
        stream::iter(done).map(async |(number, key)| Ok::<_, ManifestError>((number, notes.read(plan, &key).await?)));
    let mut read = std::pin::pin!(read.by_ref().buffer_unordered(CONCURRENT_READS));
    let (mut numbers, mut counts, mut files) = (Vec::new(), Counts::default(), BTreeSet::new());
    while let Some((number, done)) = read.try_next().await? {
        numbers.push(number);
        counts.add(&done.counts);
        files.extend(done.files);
    }
    Ok((numbers, counts, files))
}

/// Files that ranges have noted and that are gone, and files of the table that no range has noted: an attempt wrote them before rows changed.
async fn others(
    lake: &S3,
    prefix: &str,
    table: &Segment,
    noted: &BTreeSet<String>,
) -> Result<Vec<Problem>, ManifestError> {
    let name = |key: &str| key.rsplit('/').next().unwrap_or_default().to_owned();
    let of_table = |key: &str| name(key).strip_prefix(&format!("{table}-")).map(str::to_owned);
    let range = |key: &str| of_table(key)?.split('-').next()?.parse::<usize>().ok();
    let listed: BTreeSet<String> =
        lake.list(&format!("{prefix}/")).await?.into_iter().map(|object| object.key).collect();
    let problem = |key: &String, what: &str| Problem {
        range: range(key).unwrap_or_default(),
        detail: format!("s3://{}/{key} {what}", lake.name()),
    };
    let gone =
        noted.difference(&listed).map(|key| problem(key, "is gone: delete the note of the range to land it again"));
    let left = listed.difference(noted).filter(|key| range(key).is_some());
    let left = left.map(|key| problem(key, "is of an attempt before rows of the range changed: delete it"));
    Ok(gone.chain(left).collect())
}

/// How many rows a range has.
fn range_rows(args: &BackfillArgs, row_bytes: f64) -> u64 {
    let by_size = (args.file_mb << 20) as f64 * FULL / (row_bytes + ROW_BYTES);
    let by_time = args.max_rows_per_second.map(|rows| {
        let readers = u64::try_from(parallel(args)).unwrap_or(1);
        u64::from(rows.get()) * u64::from(args.statement_timeout.seconds()) / 2 / readers
    });
    (by_size as u64).min(by_time.unwrap_or(u64::MAX)).clamp(1, MAX_RANGE_ROWS)
}

/// Divides the rows that there are now into ranges.
async fn plan(
    table: &Table,
    client: &Client,
    bounds: &Bounds,
    settings: Settings,
    args: &BackfillArgs,
    console: &Console,
) -> Result<Manifest, BackfillError> {
    let no_key = table.key_may_be_null();
    let mut rows = 0;
    let mut last_keys = Vec::new();
    if let Some(last) = table.last_key(client, bounds).await? {
        let of_range = range_rows(args, table.row_bytes(client, bounds).await?);
        let progress = console.progress("Dividing", "rows", None);
        if table.key_is_indexed {
            let mut after = None;
            while let Some(key) = table.key_after(client, bounds, after.as_deref(), &last, of_range).await? {
                progress.add(usize::try_from(of_range).unwrap_or_default());
                rows += of_range;
                last_keys.push(key.clone());
                after = Some(key);
            }
        } else {
            progress.say(&format!("no index begins with {}, so all rows are sorted", table.key().0));
            last_keys = table.all_keys(client, bounds, &last, of_range).await?;
            rows = of_range * last_keys.len() as u64;
        }
        if last_keys.last() != Some(&last) {
            let rest = source::Range::Keys { after: last_keys.last().cloned(), last: Some(last.clone()) };
            rows += table.count(client, bounds, &rest).await?;
            last_keys.push(last);
        }
    }
    if no_key {
        rows += table.count(client, bounds, &source::Range::NoKey).await?;
    }
    Ok(Manifest { settings, rows, last_keys, no_key })
}

/// Counts the rows by type.
async fn dry_run(
    server: &Server,
    table: &Table,
    client: &Client,
    bounds: &Bounds,
    args: &BackfillArgs,
    console: &Console,
) -> Result<Report, BackfillError> {
    let _waiting = console.waiting("the table to count its rows by type");
    let registry = Registry::embedded()?;
    let types = table.count_types(client, bounds).await?;
    let row_bytes = table.row_bytes(client, bounds).await?;
    let (key, key_type) = table.key();
    Ok(Report::DryRun(Box::new(DryRun::new(
        (server.name(), table.name.clone()),
        table.columns(),
        (key.to_owned(), key_type.to_owned(), table.key_is_indexed),
        types,
        range_rows(args, row_bytes),
        &registry,
    ))))
}
