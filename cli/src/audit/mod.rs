//! `landfall audit`: checks that the files of kafka-roller hold every record exactly once.
//!
//! [`place`] says where files may be, [`examine`] reads a file and [`contents`] its lines, [`tiling`] compares the ranges of all files, [`against`] compares them
//! with the stream and with what [`staged`] knows, [`repair`] writes missing files again, [`land`] lands what was never staged, and [`report`] prints the result.

pub mod against;
pub mod contents;
pub mod examine;
#[cfg(test)]
mod lake;
pub mod land;
pub mod place;
pub mod repair;
pub mod report;
pub mod staged;
#[cfg(test)]
mod tests;
pub mod tiling;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use clap::{Args, builder::NonEmptyStringValueParser};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use objects::{Bucket, BucketError, S3};
use rolling::{
    earlier::{self, Item},
    rules::Rules,
    shard::{FOLDER, STATE, ShardId, State, StateError},
};
use runtime::{
    failure::some_of,
    settings::{SettingError, Settings},
};
use shared::{layout::Segment, position::Position, rolled::Window};

use self::{
    examine::{Examined, Examiner},
    land::{Lander, NotStaged},
    place::{FOLDERS, Place},
    repair::{RepairError, Repairer},
    report::{Audited, Fault, Problem, Row, Written},
    tiling::{File, Gap, Tiling, tile},
};
use crate::{
    Exit,
    console::Console,
    context::Context,
    outcome::Failed,
    registrar::RegistrarArgs,
    stack::{self, Function, StackError},
    stream::StreamError,
    tables::roll::{self, RollsError},
    text::counted,
    when::Since,
};

const CONCURRENT_S3_REQUESTS: usize = 16;

const HELP: &str = "\
Each file says in its metadata which records of which shard it holds, and which record came before them.
So the ranges of a shard and table must follow each other, without gaps and overlaps, up to the high-water mark
of the open window. Every file is read and its lines counted, unless --no-contents is given. --since looks at newer
files only. The README lists all problems that are found.

Files count where they were written, under cubic/kafka/, and where load-ingester moves them, under archive/
and error/. Without --bucket, both buckets of the stack are looked at. Files that were moved elsewhere look
missing if they lie between two files that are found: name those buckets too, with further --bucket.

--repair reads the records of each gap from the stream, while it still has them, and writes the missing
files (without what Lambda gave up) to the first bucket, where they are loads like any other. Nothing is overwritten, and nothing is
written that ever was a load, if the stack has a load-registrar. If it has none, name the bucket and all buckets
that files are moved to, and make sure that the missing files are nowhere else: otherwise they are loaded twice.

--against-stream reads the stream as far as it reaches back (or from --since) up to what is staged, and finds
records that never reached a file, and files in whose range the stream has another number of records. It reads each
shard from its beginning, at two megabytes a second and shard at most, which it shares with the function. With --repair, kafka-roller lands those
records, as in landfall replay discarded.

Exit code: 0 when nothing is wrong, or everything that was is repaired; 3 when something is wrong; 2 when
the arguments are invalid; 1 when not everything was audited, or a repair failed.

Examples:
  landfall audit
  landfall --stack staging audit --no-contents
  landfall audit --since 2d
  landfall audit --bucket $INCOMING --bucket $ARCHIVE --table sample --no-contents --json
  landfall audit --against-stream --since 2d
  landfall audit --bucket $INCOMING --bucket $ARCHIVE --repair
  landfall audit --against-stream --repair";

#[derive(Debug, Clone, Args)]
#[command(after_long_help = HELP)]
pub struct AuditArgs {
    /// Bucket that files are written to, and given again, buckets that they are moved to; without it, those of the stack.
    #[arg(long)]
    pub bucket: Vec<String>,
    /// Only files of this table; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub table: Vec<Segment>,
    /// Only files of this Kinesis stream.
    #[arg(long, value_name = "NAME")]
    pub stream: Option<Segment>,
    /// Check the metadata of the files only, without reading them.
    #[arg(long)]
    pub no_contents: bool,
    /// Only files that were written or moved at this time or later: a UTC day, a time, or how long ago, such as 2d.
    #[arg(long, value_name = "DAY|TIME|AGE")]
    pub since: Option<Since>,
    /// Write missing files again, from the stream; with --against-stream, also land what never reached a file.
    #[arg(long, conflicts_with = "since")]
    pub repair: bool,
    /// Read the stream as well, as far as it reaches or from --since, and compare it with what is staged and with the files.
    #[arg(long)]
    pub against_stream: bool,
    /// With --repair, name or ARN of the function that writes the files, if it is not that of the stack.
    #[arg(long, value_name = "NAME", requires = "repair", display_order = 90)]
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub function: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("there is no table {table:?}; there are {}", if known.is_empty() { "none".to_owned() } else { some_of(known) })]
    UnknownTable { table: String, known: Vec<String> },
    #[error("no file was rolled from a stream {0:?}")]
    UnknownStream(String),
    #[error("interrupted before all files were read; nothing was changed")]
    Interrupted,
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error("{0}, which says how far files go: {1}")]
    State(String, StateError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("a record of the stream cannot be read: {0}")]
    Record(String),
    #[error("{0} cannot be read: {1}")]
    Journal(String, String),
    #[error("--against-stream --repair lands the records of all tables: leave out --table")]
    AllTables,
    #[error("without kafka-roller of this stack and its buckets, nothing says what was staged from the stream")]
    NoStates,
    #[error("the settings of function {function} cannot be used: {cause}")]
    Function { function: String, cause: String },
    #[error(
        "without a load-registrar, nothing knows which files were loaded and moved elsewhere, and --repair would write them \
         again: name with --bucket the bucket of the function, and all buckets that files are moved to"
    )]
    NoBucket,
    #[error(transparent)]
    Rolls(#[from] RollsError),
    #[error("function {function} writes to bucket {bucket}; to repair, make it the first --bucket")]
    OtherBucket { function: String, bucket: String },
}

impl From<AuditError> for Failed {
    fn from(error: AuditError) -> Self {
        use AuditError::{AllTables, NoBucket, OtherBucket, UnknownStream, UnknownTable};
        let is_usage =
            matches!(error, UnknownTable { .. } | UnknownStream(_) | OtherBucket { .. } | NoBucket | AllTables);
        Self { sentence: error.to_string(), exit: if is_usage { Exit::Usage } else { Exit::Incomplete } }
    }
}

impl AuditArgs {
    /// The settings of the function that writes the files, and the rules of tables. A pause says nothing of what is missing.
    async fn roller(&self, context: &Context) -> Result<Rules, AuditError> {
        let name = self.function.clone().unwrap_or_else(|| context.named(stack::ROLLER));
        let function = context.function(&name).await?;
        let rules = Rules::from_settings(&Settings::new(|name| function.variables.get(name).cloned()))
            .map_err(|error| AuditError::Function { function: name.clone(), cause: error.to_string() })?;
        if self.bucket.first() != Some(&rules.incoming_bucket) {
            return Err(AuditError::OtherBucket { function: name, bucket: rules.incoming_bucket });
        }
        let mut tables = roll::rules(context, &function.setting("LAKE_BUCKET")?).await?;
        tables.tables.values_mut().for_each(|own| own.paused = false);
        Ok(rules.with(tables))
    }

    /// The same with the stack's buckets, if none are given.
    async fn with_buckets(&self, context: &Context) -> Result<Self, AuditError> {
        let mut args = self.clone();
        if args.bucket.is_empty() {
            let function = context.function(&context.named(stack::ROLLER)).await?;
            args.bucket = vec![function.setting("INCOMING_BUCKET")?, function.setting("LAKE_BUCKET")?];
        }
        Ok(args)
    }

    /// Refuses tables that have no folder in any of the buckets.
    async fn check_tables(&self, context: &Context) -> Result<(), AuditError> {
        if self.table.is_empty() {
            return Ok(());
        }
        let mut known = BTreeSet::new();
        for bucket in &self.bucket {
            for folder in FOLDERS {
                known.extend(S3::new(&context.clients.s3, bucket).folders(folder).await?);
            }
        }
        match self.table.iter().find(|table| !known.contains(table.as_str())) {
            Some(table) => {
                Err(AuditError::UnknownTable { table: table.to_string(), known: known.into_iter().collect() })
            }
            None => Ok(()),
        }
    }

    fn prefixes(&self) -> Vec<String> {
        if self.table.is_empty() {
            return FOLDERS.map(str::to_owned).into();
        }
        let tables: BTreeSet<&Segment> = self.table.iter().collect();
        // Those that were moved may be in a folder of all tables.
        let [written, moved @ ..] = FOLDERS;
        tables.into_iter().map(|table| format!("{written}{table}/")).chain(moved.map(str::to_owned)).collect()
    }
}

/// Audits files, and repairs gaps with `--repair`. `Err` means that nothing was changed.
pub async fn audit(args: &AuditArgs, context: &Context, console: &Console) -> Result<Audited, AuditError> {
    let registrar = if args.repair { registrar(context).await? } else { None };
    if args.repair && args.against_stream && !args.table.is_empty() {
        return Err(AuditError::AllTables);
    }
    if args.repair && args.bucket.is_empty() && registrar.is_none() {
        return Err(AuditError::NoBucket);
    }
    let args = &args.with_buckets(context).await?;
    let rules = if args.repair { Some(args.roller(context).await?) } else { None };
    args.check_tables(context).await?;
    let mut audit = Audit::of(args, context);
    // A file is written before its mark, so these are of files that the listings show.
    let roller = audit.read_marks().await?;
    if args.against_stream && roller.is_none() {
        return Err(AuditError::NoStates);
    }
    audit.look(console).await?;
    // A paginated listing is not a point-in-time snapshot: of two files that were written meanwhile it may show only the
    // later one. So a gap counts when it is still there after a listing that brings nothing new.
    // And a file that was moved since is newer than those behind it, so a gap between files of a time needs those before.
    while audit.has_gaps() {
        let was_limited = audit.since.take().is_some();
        if !audit.look(console).await? && !was_limited {
            break;
        }
    }
    if let Some(stream) = args
        .stream
        .as_ref()
        .filter(|_| audit.windows.values().all(|files| files.files.is_empty()) && !audit.seen.is_empty())
    {
        return Err(AuditError::UnknownStream(stream.to_string()));
    }
    if let Some(Roller { lake, states, function }) = roller.as_ref().filter(|_| args.against_stream) {
        let rules = Rules::from_settings(&Settings::new(|name| function.variables.get(name).cloned()));
        let failed =
            |error: SettingError| AuditError::Function { function: function.name.clone(), cause: error.to_string() };
        let lines = rules.map_err(failed)?.lines;
        audit.since = args.since.and_then(|since| since.instant(context.now)).map(Timestamp::as_millisecond);
        audit.against_stream(lake, states, &lines, console).await?;
    }
    let mut audited = audit.report();
    if let Some(rules) = &rules {
        if registrar.is_none() && audit.has_gaps() {
            audited
                .notes
                .push("there is no load-registrar that knows whether a missing file was loaded before".to_owned());
        }
        audit.repair(rules, registrar.as_ref(), roller.as_ref(), &mut audited, console).await;
    }
    Ok(audited)
}

/// What knows which files have become loads, if the stack has it.
async fn registrar(context: &Context) -> Result<Option<RegistrarArgs>, AuditError> {
    match context.function(&context.named(stack::REGISTRAR)).await {
        Ok(_) => Ok(Some(RegistrarArgs { function: None })),
        Err(StackError::Missing { .. }) => Ok(None),
        Err(cause) => Err(cause.into()),
    }
}

/// What kafka-roller says of its shards.
#[derive(Debug)]
pub struct Roller {
    lake: S3,
    states: Vec<(ShardId, State)>,
    function: Function,
}

impl Roller {
    /// Whether a shard has a state.
    fn has(&self, id: &ShardId) -> bool {
        self.states.iter().any(|(other, _)| other == id)
    }
}

struct Audit<'a> {
    args: &'a AuditArgs,
    context: &'a Context,
    /// Objects that were examined: bucket and key.
    seen: BTreeSet<(String, String)>,
    places: Vec<Place>,
    /// In Unix milliseconds: files before it are not looked at.
    since: Option<i64>,
    windows: BTreeMap<Window, Files>,
    /// Tables with files that cannot be understood, and may hold the records of any gap; `None` for those of any table.
    unclear: BTreeSet<Option<Segment>>,
    problems: Vec<Problem>,
    /// Records of the stream that are in no file.
    not_staged: Vec<NotStaged>,
    /// Files that hold more records than were staged in their ranges, by their shards.
    fuller: Vec<(ShardId, File)>,
    /// How many records of the stream were compared; `None` if it was not read.
    stream_records: Option<usize>,
    notes: Vec<String>,
}

#[derive(Default)]
struct Files {
    files: Vec<File>,
    /// The high-water mark, and when it was written in Unix milliseconds: all records up to it are in files.
    mark: Option<(Position, Option<i64>)>,
    tiling: Tiling,
    wrong_counts: usize,
}

impl<'a> Audit<'a> {
    fn of(args: &'a AuditArgs, context: &'a Context) -> Self {
        Self {
            args,
            context,
            seen: BTreeSet::new(),
            places: Vec::new(),
            since: args.since.and_then(|since| since.instant(context.now)).map(Timestamp::as_millisecond),
            windows: BTreeMap::new(),
            unclear: BTreeSet::new(),
            problems: Vec::new(),
            not_staged: Vec::new(),
            fuller: Vec::new(),
            stream_records: None,
            notes: Vec::new(),
        }
    }

    fn gaps(&self) -> impl Iterator<Item = &Gap> {
        self.windows.values().flat_map(|files| &files.tiling.gaps)
    }

    fn has_gaps(&self) -> bool {
        self.gaps().next().is_some()
    }

    /// Lists, examines files that are new, compares all ranges, and returns whether there were new files.
    async fn look(&mut self, console: &Console) -> Result<bool, AuditError> {
        let new = self.list(console).await?;
        let progress = console.progress("Audited", "files", Some(new.len()));
        let (args, context) = (self.args, self.context);
        let examiner = Examiner { s3: &context.clients.s3, stream: args.stream.as_ref(), contents: !args.no_contents };
        let examined = new.iter().map(async |place| (place, examiner.examine(place).await));
        let mut examined = stream::iter(examined).buffer_unordered(CONCURRENT_S3_REQUESTS);
        while let Some((place, examined)) = examined.next().await {
            if context.interrupt.is_set() {
                return Err(AuditError::Interrupted);
            }
            self.keep(place, examined);
            progress.add(1);
        }
        drop(examined);
        for (window, Files { files, mark, tiling, .. }) in &mut self.windows {
            // A mark that is older than the files that are looked at says nothing of them.
            let is_of_time = |at: Option<i64>| self.since.is_none_or(|since| at.is_none_or(|at| at >= since));
            let mark = mark.filter(|(_, at)| !files.is_empty() || is_of_time(*at)).map(|(mark, _)| mark);
            *tiling = tile(window, files, mark);
        }
        let has_new = !new.is_empty();
        self.places.extend(new);
        Ok(has_new)
    }

    /// Reads the high-water marks, where there is a stack that says where they are.
    async fn read_marks(&mut self) -> Result<Option<Roller>, AuditError> {
        let name = self.args.function.clone().unwrap_or_else(|| self.context.named(stack::ROLLER));
        let function = match self.context.function(&name).await {
            Ok(function) => function,
            Err(cause @ StackError::Missing { .. }) => {
                self.notes.push(format!("the high-water marks are not known, so newer files may be missing: {cause}"));
                return Ok(None);
            }
            Err(cause) => return Err(cause.into()),
        };
        if !self.args.bucket.contains(&function.setting("INCOMING_BUCKET")?) {
            self.notes.push(format!("the high-water marks of {} are those of other buckets", function.name));
            return Ok(None);
        }
        let lake = function.setting("LAKE_BUCKET")?;
        let lake = S3::new(&self.context.clients.s3, &lake);
        let mut states = Vec::new();
        for object in lake.list(FOLDER).await? {
            let Some((shard, name)) = ShardId::of_key(&object.key) else { continue };
            if self.args.stream.as_ref().is_some_and(|stream| *stream != shard.stream) {
                continue;
            }
            if name == STATE {
                let bytes = lake.get(&object.key, None).await?;
                let state = State::of_bytes(&bytes).map_err(|cause| AuditError::State(object.key.clone(), cause))?;
                for (table, of_table) in &state.tables {
                    self.mark(&shard, table, of_table.rolled.max(of_table.lost), Some(of_table.written_ms));
                }
                states.push((shard, state));
            } else if let Some((table, Item::Mark(mark))) = earlier::parse(name) {
                self.mark(&shard, &table, mark, object.modified_ms);
            }
        }
        Ok(Some(Roller { lake, states, function }))
    }

    /// Notes the high-water mark of a table, and when it was set in Unix milliseconds.
    fn mark(&mut self, shard: &ShardId, table: &Segment, mark: Position, at: Option<i64>) {
        if mark > Position::START && self.is_wanted(Some(table)) {
            let files = self.windows.entry(shard.window(table)).or_default();
            files.mark = files.mark.max(Some((mark, at)));
        }
    }

    /// Files that are not in `seen` yet.
    async fn list(&mut self, console: &Console) -> Result<Vec<Place>, AuditError> {
        let _waiting = console.waiting("the listing");
        let mut new = Vec::new();
        for bucket in &self.args.bucket {
            let s3 = S3::new(&self.context.clients.s3, bucket);
            for prefix in self.args.prefixes() {
                for object in s3.list(&prefix).await? {
                    let is_older = self.since.is_some_and(|since| object.modified_ms.is_some_and(|at| at < since));
                    // The S3 console creates a folder as an empty object with such a key.
                    if is_older || object.key.ends_with('/') || !self.seen.insert((bucket.clone(), object.key.clone()))
                    {
                        continue;
                    }
                    match Place::of(bucket, &object.key) {
                        Ok(place) if !self.is_wanted(place.table.as_ref()) => {}
                        Ok(place) => new.push(place),
                        Err(error) => {
                            let at = format!("s3://{bucket}/{}", object.key);
                            self.problems.push(Problem::of_file(Fault::ForeignKey, at, format!("{error}")));
                        }
                    }
                }
            }
        }
        Ok(new)
    }

    fn is_wanted(&self, table: Option<&Segment>) -> bool {
        self.args.table.is_empty() || table.is_none_or(|table| self.args.table.contains(table))
    }

    fn keep(&mut self, place: &Place, Examined { rolled, problems }: Examined) {
        let has = |faults: &[Fault]| problems.iter().any(|problem| faults.contains(&problem.fault));
        match rolled {
            // It was in a folder of all tables.
            Some(rolled) if !self.is_wanted(Some(&rolled.window.table)) => return,
            Some(rolled) => {
                let files = self.windows.entry(rolled.window.clone()).or_default();
                files.wrong_counts += usize::from(has(&[Fault::WrongCount]));
                files.files.push(File { place: place.clone(), rolled });
            }
            None if has(&[Fault::Unreadable, Fault::DamagedMetadata]) => drop(self.unclear.insert(place.table.clone())),
            None => {}
        }
        self.problems.extend(problems);
    }

    fn report(&self) -> Audited {
        let (mut windows, mut problems) = (Vec::new(), self.problems.clone());
        // A file that was moved between the listing and its turn was found where it is now.
        let found: BTreeSet<&str> =
            self.windows.values().flat_map(|files| &files.files).map(|file| file.place.name.as_str()).collect();
        problems.retain(|problem| !problem.is_moved(&found));
        problems.sort_by(|a, b| a.at.cmp(&b.at));
        for (window, Files { files, tiling, wrong_counts, .. }) in &self.windows {
            if files.is_empty() && tiling.gaps.is_empty() {
                continue;
            }
            windows.push(Row::of(window, files, tiling, *wrong_counts));
            problems.extend(tiling.gaps.iter().map(Problem::gap));
            problems.extend(tiling.overlaps.iter().map(Problem::overlap));
        }
        windows.sort_by(|a, b| (&a.table, &a.stream, &a.shard).cmp(&(&b.table, &b.stream, &b.shard)));
        Audited {
            buckets: self.args.bucket.clone(),
            contents: !self.args.no_contents,
            windows,
            problems,
            written: Vec::new(),
            stream_records: self.stream_records,
            notes: self.notes.clone(),
            stopped: None,
        }
    }

    /// A file that may hold records of which nothing says that they were staged: the state of their shard was lost, or an earlier version has
    /// repaired the file.
    fn contradicts(&self, not_staged: &NotStaged) -> Option<&Place> {
        let missing = not_staged.missing.range;
        let meets = |file: &File| file.rolled.after < missing.up_to && missing.after < file.rolled.last;
        let fuller = self.fuller.iter().find(|(id, file)| *id == not_staged.id && meets(file));
        fuller.map(|(_, file)| &file.place)
    }

    /// Repairs the gaps, one after the other, lands what was never staged, and reports the outcome.
    async fn repair(
        &self,
        rules: &Rules,
        registrar: Option<&RegistrarArgs>,
        roller: Option<&Roller>,
        audited: &mut Audited,
        console: &Console,
    ) {
        let progress = console.progress("Read from the stream:", "records", None);
        let mut repairer = Repairer {
            context: self.context,
            incoming: S3::new(&self.context.clients.s3, &rules.incoming_bucket),
            rules,
            roller,
            registrar: registrar.cloned(),
            taken: self.places.iter().map(|place| (place.name.as_str(), place)).collect(),
            shards: HashMap::new(),
            progress: &progress,
        };
        for gap in self.gaps() {
            let mut files = Vec::new();
            let table = Some(gap.window.table.clone());
            let repaired = if self.unclear.contains(&table) || self.unclear.contains(&None) {
                Err(RepairError::Unclear)
            } else {
                repairer.repair(gap, &mut files).await
            };
            audited.written.extend(files.iter().map(Written::of));
            match repaired {
                Ok(lost) if lost.is_empty() => {
                    audited.set_repaired(&Problem::gap(gap));
                }
                Ok(lost) => audited.problems.extend(lost.iter().map(|lost| Problem::lost(gap, lost))),
                Err(error @ RepairError::Interrupted) => {
                    audited.stopped = Some(error.to_string());
                    return;
                }
                Err(error) => audited.problems.push(Problem::not_repaired(gap, &error)),
            }
        }
        let Some(Roller { lake, function, .. }) = roller else { return };
        let lander = Lander { context: self.context, lake, function: &function.name, progress: &progress };
        for not_staged in &self.not_staged {
            let landed = match self.contradicts(not_staged) {
                Some(place) => Err(RepairError::Contradicted(place.clone())),
                None => lander.land(not_staged).await,
            };
            match landed {
                Ok(unfinished) => {
                    audited.set_repaired(&Problem::not_staged(not_staged));
                    if unfinished > 0 {
                        let things = counted(unfinished, "thing is", "things are");
                        audited.notes.push(format!("{things} not finished, but durable: the next tick goes on"));
                    }
                }
                Err(error @ RepairError::Interrupted) => {
                    audited.stopped = Some(error.to_string());
                    return;
                }
                Err(error) => audited.problems.push(Problem::not_landed(not_staged, &error)),
            }
        }
    }
}
