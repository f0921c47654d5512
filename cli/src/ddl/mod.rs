//! `landfall ddl`: the statements that create tables for the files of parquet-writer, and load or read them.
//!
//! [`schema`] knows the tables, each [`Dialect`] how they are written, and [`script`] how it all becomes text. Nothing here
//! talks to AWS or to a warehouse.

mod athena;
mod duckdb;
mod options;
mod redshift;
pub mod schema;
pub mod script;
mod snowflake;

use std::borrow::Cow;

use clap::{Args, Subcommand};
use shared::event::{Registry, RegistryError};

use self::{
    athena::Athena,
    duckdb::Duckdb,
    options::Namespace,
    redshift::Redshift,
    schema::{Column, Layout, Table, UnknownType},
    script::{Script, Statement},
    snowflake::Snowflake,
};
use crate::{Exit, outcome::Failed};

macro_rules! help {
    ($examples:literal) => {
        concat!(
            "\
Prints the statements for the event types that this command was compiled with, those of proto/. It calls nothing: run what
it prints with the client of your warehouse. Words that begin with YOUR_ have to be replaced; the comments at the top say by
what, and which option does it.

Exit code: 0, but 2 when the arguments are invalid.

Examples:
",
            $examples
        )
    };
}

const HELP: &str = help!(
    "  landfall ddl snowflake --bucket acme-lake > events.sql
  landfall ddl redshift --layout by-type --bucket acme-lake
  landfall ddl athena --bucket acme-lake --schema lake
  landfall ddl duckdb --bucket acme-lake | duckdb acme.duckdb"
);
const SNOWFLAKE_HELP: &str = help!(
    "  landfall ddl snowflake --bucket acme-lake --topic-arn arn:aws:sns:eu-west-1:111122223333:landfall-landed > events.sql
  landfall ddl snowflake --added order_refunded     # what a new event type needs, and nothing else"
);
const REDSHIFT_HELP: &str = help!(
    "  landfall ddl redshift --bucket acme-lake --iam-role arn:aws:iam::111122223333:role/load > events.sql
  landfall ddl redshift --added order_refunded     # what a new event type needs, and nothing else"
);
const ATHENA_HELP: &str = help!(
    "  landfall ddl athena --bucket acme-lake --schema lake --first-day 2026/11/20
  landfall ddl athena --added order_refunded     # what a new event type needs, and nothing else"
);
const DUCKDB_HELP: &str = help!(
    "  landfall ddl duckdb --bucket acme-lake | duckdb acme.duckdb
  landfall ddl duckdb --added order_refunded     # what a new event type needs, and nothing else"
);

/// The commands, one for each dialect.
#[derive(Debug, Subcommand)]
#[command(after_long_help = HELP)]
pub enum Ddl {
    /// Tables, a stage and pipes that load every file when it is announced.
    #[command(after_long_help = SNOWFLAKE_HELP)]
    Snowflake(Snowflake),
    /// Tables, and the COPY commands that load files into them.
    #[command(after_long_help = REDSHIFT_HELP)]
    Redshift(Redshift),
    /// External tables over the files, with a partition for each day.
    #[command(after_long_help = ATHENA_HELP)]
    Athena(Athena),
    /// Views over the files, and tables with the same columns.
    #[command(after_long_help = DUCKDB_HELP)]
    Duckdb(Duckdb),
}

/// The options of every dialect.
#[derive(Debug, Args)]
pub struct Files {
    /// How parquet-writer lays out its files: the parameter WriterLayout of the stack.
    #[arg(long, value_name = "LAYOUT", value_enum, default_value_t)]
    pub layout: Layout,
    /// Bucket of the files: the output LakeBucketName of the stack.
    #[arg(long, value_name = "NAME", value_parser = options::bucket)]
    pub bucket: Option<String>,
    /// Prefix of the files in the bucket.
    #[arg(long, value_name = "PREFIX", default_value = EVENTS_PREFIX, value_parser = options::prefix)]
    pub prefix: String,
    /// Schema in which everything is created, also as database.schema, but for Athena. It has to exist.
    #[arg(long, value_name = "NAME")]
    pub schema: Option<Namespace>,
    /// Only what the event type with this column needs, which is new. May be given several times.
    #[arg(long, value_name = "COLUMN")]
    pub added: Vec<String>,
}

const EVENTS_PREFIX: &str = "events/";

/// What stands for something that the command was not told: the word, what it is, and the option.
const PLACEHOLDERS: [(&str, &str, &str); 3] = [
    (BUCKET, "the bucket in the output LakeBucketName of the stack", "--bucket"),
    (TOPIC_ARN, "the topic in the output LandedTopicArn of the stack", "--topic-arn"),
    (STORAGE_INTEGRATION, "a storage integration that may read the bucket", "--storage-integration"),
];
const BUCKET: &str = "YOUR_LAKE_BUCKET";
const TOPIC_ARN: &str = "YOUR_LANDED_TOPIC_ARN";
const STORAGE_INTEGRATION: &str = "YOUR_STORAGE_INTEGRATION";

impl Files {
    fn bucket(&self) -> &str {
        self.bucket.as_deref().unwrap_or(BUCKET)
    }

    /// The folder of all files, as an address that ends with `/`.
    fn root(&self) -> String {
        format!("s3://{}/{}", self.bucket(), self.prefix)
    }

    /// The folder above the days of a table's files.
    fn folder(&self, table: &Table) -> String {
        let folder = table.folder.iter().map(|folder| format!("{folder}/"));
        self.root() + &folder.collect::<String>()
    }

    /// The options that are not as by default.
    fn given(&self) -> Vec<(&'static str, String)> {
        let mut given = Vec::new();
        if self.layout != Layout::default() {
            given.push(("--layout", self.layout.as_str().to_owned()));
        }
        given.extend(self.bucket.clone().map(|bucket| ("--bucket", bucket)));
        if self.prefix != EVENTS_PREFIX {
            given.push(("--prefix", self.prefix.clone()));
        }
        given.extend(self.schema.as_ref().map(|schema| ("--schema", schema.written())));
        given.extend(self.added.iter().map(|column| ("--added", column.clone())));
        given
    }
}

/// What has to be said in one warehouse's language.
trait Dialect {
    /// The name of the command.
    const NAME: &'static str;

    fn files(&self) -> &Files;

    /// The options besides those of every dialect that were given.
    fn given(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Why the options do not fit the dialect.
    fn check(&self) -> Result<(), DdlError> {
        Ok(())
    }

    /// What has to be known about all of it.
    fn notes(&self) -> Vec<Cow<'static, str>>;

    /// What comes before the tables.
    fn setup(&self) -> Vec<Statement> {
        Vec::new()
    }

    /// What creates a table.
    fn table(&self, table: &Table) -> Statement;

    /// What loads or reads the files of a table. It comes after all tables, since it may fail while there is no file.
    fn reading(&self, table: &Table) -> Vec<Statement>;

    /// What gives the table of all types the columns of new ones.
    fn added(&self, table: &Table, columns: &[&Column]) -> Vec<Statement>;
}

/// Why there is no script.
#[derive(Debug, thiserror::Error)]
pub enum DdlError {
    #[error(
        "no event type of this build has the column {column:?}; there are {known}. If it is new in proto/, install landfall again"
    )]
    NoSuchColumn { column: String, known: String },
    #[error(
        "in Athena a table has the name of one database, and the catalog is that of the session: give --schema {database}, not --schema {written}"
    )]
    TwoParts { written: String, database: String },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Type(#[from] UnknownType),
}

impl From<DdlError> for Failed {
    fn from(error: DdlError) -> Self {
        let is_usage = matches!(error, DdlError::NoSuchColumn { .. } | DdlError::TwoParts { .. });
        let exit = if is_usage { Exit::Usage } else { Exit::Incomplete };
        Self { sentence: error.to_string(), exit }
    }
}

/// The script for the event types of this build.
pub fn ddl(command: &Ddl) -> Result<Script, DdlError> {
    script(command, &Registry::embedded()?)
}

/// The script for some event types.
pub fn script(command: &Ddl, registry: &Registry) -> Result<Script, DdlError> {
    match command {
        Ddl::Snowflake(dialect) => write(dialect, registry),
        Ddl::Redshift(dialect) => write(dialect, registry),
        Ddl::Athena(dialect) => write(dialect, registry),
        Ddl::Duckdb(dialect) => write(dialect, registry),
    }
}

fn write<D: Dialect>(dialect: &D, registry: &Registry) -> Result<Script, DdlError> {
    dialect.check()?;
    let files = dialect.files();
    let known = |column: &String| registry.types().iter().any(|event| event.column == *column);
    if let Some(column) = files.added.iter().find(|column| !known(column)) {
        let known: Vec<&str> = registry.types().iter().map(|event| event.column.as_str()).collect();
        return Err(DdlError::NoSuchColumn { column: column.clone(), known: known.join(", ") });
    }
    let tables = schema::tables(registry, files.layout)?;
    let is_added = |name: &str| files.added.iter().any(|column| column == name);
    let statements: Vec<Statement> = match files.layout {
        _ if files.added.is_empty() => {
            dialect.setup().into_iter().chain(all(dialect, &tables.iter().collect::<Vec<_>>())).collect()
        }
        Layout::ByType => {
            all(dialect, &tables.iter().filter(|table| is_added(&table.name)).collect::<Vec<_>>()).collect()
        }
        Layout::Together => {
            let added = |table: &Table| {
                let columns: Vec<&Column> = table.columns.iter().filter(|column| is_added(&column.name)).collect();
                dialect.added(table, &columns)
            };
            tables.iter().flat_map(added).collect()
        }
    };
    let given: Vec<_> = files.given().into_iter().chain(dialect.given()).collect();
    let given: String = given.into_iter().map(|(option, value)| format!(" {option} {value}")).collect();
    let notes = replacements(&statements).into_iter().chain(dialect.notes().into_iter().map(Cow::into_owned));
    Ok(Script {
        dialect: D::NAME,
        layout: files.layout,
        command: format!("landfall ddl {}{given}", D::NAME),
        notes: notes.collect(),
        statements,
    })
}

/// All tables, and then what loads or reads their files.
fn all<D: Dialect>(dialect: &D, tables: &[&Table]) -> impl Iterator<Item = Statement> {
    tables.iter().map(|table| dialect.table(table)).chain(tables.iter().flat_map(|table| dialect.reading(table)))
}

/// Whether a name, in whatever case, is one of these words.
fn is_among(words: &str, name: &str) -> bool {
    words.split_whitespace().any(|word| word.eq_ignore_ascii_case(name))
}

/// What has to be replaced in the statements, and how.
fn replacements(statements: &[Statement]) -> Vec<String> {
    let is_used = |word: &str| statements.iter().any(|statement| statement.sql.contains(word));
    let used = PLACEHOLDERS.into_iter().filter(|(word, ..)| is_used(word));
    used.map(|(word, what, option)| format!("Replace {word} by {what}, or give {option}.")).collect()
}
