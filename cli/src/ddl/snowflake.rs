//! Snowflake: a pipe loads every file by the names of its columns, and new event types become columns by themselves.

use std::borrow::Cow;

use clap::Args;

use super::{
    Dialect, Files, STORAGE_INTEGRATION, TOPIC_ARN, is_among,
    options::{self, qualified},
    schema::{Column, Kind, Layout, Table},
    script::{Statement, block},
};

/// Words that are no names without quotes.
///
/// Source: docs.snowflake.com, "Reserved & limited keywords".
const RESERVED: &str = "\
    account all alter and any as between by case cast check column connect connection constraint create cross \
    current current_date current_time current_timestamp current_user database delete distinct drop else exists \
    false following for from full grant group gscluster having ilike in increment inner insert intersect into is \
    issue join lateral left like localtime localtimestamp minus natural not null of on or order organization \
    qualify regexp revoke right rlike row rows sample schema select set some start table tablesample then to \
    trigger true try_cast union unique update using values view when whenever where with";

const FILE_FORMAT: &str = "landfall_parquet";
const STAGE: &str = "landfall_lake";

/// The options of `landfall ddl snowflake`.
#[derive(Debug, Args)]
pub struct Snowflake {
    #[command(flatten)]
    files: Files,
    /// Topic that announces files: the output LandedTopicArn of the stack.
    #[arg(long, value_name = "ARN", value_parser = options::topic_arn)]
    topic_arn: Option<String>,
    /// Storage integration through which the stage reads the bucket.
    #[arg(long, value_name = "NAME", value_parser = options::name)]
    storage_integration: Option<String>,
}

impl Dialect for Snowflake {
    const NAME: &'static str = "snowflake";

    fn files(&self) -> &Files {
        &self.files
    }

    fn given(&self) -> Vec<(&'static str, String)> {
        let topic = self.topic_arn.clone().map(|arn| ("--topic-arn", arn));
        let integration = self.storage_integration.clone().map(|name| ("--storage-integration", name));
        topic.into_iter().chain(integration).collect()
    }

    fn notes(&self) -> Vec<Cow<'static, str>> {
        let evolution = match self.files.layout {
            Layout::Together => {
                "The first file with a new event type adds its column, if the role that owns the pipe has EVOLVE SCHEMA or \
                 OWNERSHIP on the table. Files of the layout by-type are loaded, too, since columns are matched by name."
            }
            Layout::ByType => {
                "The columns of a type never change. A new event type is a new table, which landfall ddl snowflake --layout \
                 by-type --added COLUMN prints; until then its files are not loaded."
            }
        };
        let stage = self.name(STAGE);
        let folder = if self.files.layout == Layout::ByType { "COLUMN/" } else { "" };
        let older = format!(
            "Load older files with the pipe's COPY INTO by hand, from folders of days of which the pipe has loaded nothing, as in \
             FROM @{stage}/{folder}2026/10/, and with LOAD_UNCERTAIN_FILES = TRUE. A pipe and COPY INTO do not know of each other: \
             from a folder of which the pipe has loaded files, COPY INTO loads them again. Without the option it skips files that \
             are older than 64 days, once the first rows of the table are as old."
        );
        let is_rest = self.files.layout == Layout::ByType && !self.files.added.is_empty();
        let needs = is_rest.then(|| {
            format!(
                "The pipe needs the stage {stage} and the file format {}, which the script without --added creates.",
                self.name(FILE_FORMAT)
            )
        });
        let notes = vec![
            "Event types are VARIANT: whatever fields a type gets later is in it, with no change here. Schema evolution adds \
             columns to a table, but no members to a structured OBJECT. Read a field as order_created:order_id::VARCHAR. A field \
             of type google.protobuf.Struct or Any is JSON text: PARSE_JSON(order_created:details::VARCHAR):key::VARCHAR."
                .into(),
            evolution.into(),
            "sent_at is a point in time, which TIMESTAMP_NTZ would forget. The scanner reads it as TIMESTAMP_LTZ, so it is shown in \
             the time zone of the session that loads it: CONVERT_TIMEZONE('UTC', sent_at) shows it in UTC."
                .into(),
            "A pipe subscribes to the topic when it is created. Before that, set the parameter LandedSubscriberArn of the stack \
             to the IAM user that SYSTEM$GET_AWS_SNS_IAM_POLICY returns. It loads what is announced from then on, and ALTER PIPE \
             REFRESH loads the files of the last seven days. Never CREATE OR REPLACE a pipe: it forgets which files it has loaded."
                .into(),
            older.into(),
            "Names are not quoted, so that they can be written in upper and lower case. Only reserved words are, in upper case, \
             as schema evolution adds them, and have to be written as here."
                .into(),
            "An event can land twice: deduplicate by event_id.".into(),
        ];
        needs.map(Cow::from).into_iter().chain(notes).collect()
    }

    fn setup(&self) -> Vec<Statement> {
        let integration = self.storage_integration.as_deref().unwrap_or(STORAGE_INTEGRATION);
        vec![
            Statement::new(
                "With the vectorized scanner binary columns stay binary; with logical types a time is a point in time, instead \
                 of a number or a wall clock.",
                format!(
                    "CREATE FILE FORMAT IF NOT EXISTS {}\n  TYPE = PARQUET\n  USE_VECTORIZED_SCANNER = TRUE\n  \
                     USE_LOGICAL_TYPE = TRUE\n  BINARY_AS_TEXT = FALSE",
                    self.name(FILE_FORMAT)
                ),
            ),
            Statement::new(
                "The storage integration has this URL among its STORAGE_ALLOWED_LOCATIONS.",
                format!(
                    "CREATE STAGE IF NOT EXISTS {}\n  URL = '{}'\n  STORAGE_INTEGRATION = {integration}",
                    self.name(STAGE),
                    self.files.root()
                ),
            ),
        ]
    }

    fn table(&self, table: &Table) -> Statement {
        let create = format!("CREATE TABLE IF NOT EXISTS {} (", self.name(&table.name));
        let columns = table.columns.iter().map(definition);
        Statement::new("", format!("{}\nENABLE_SCHEMA_EVOLUTION = TRUE", block(&create, columns, ")", 0)))
    }

    fn reading(&self, table: &Table) -> Vec<Statement> {
        let name = self.name(&table.name);
        let topic = self.topic_arn.as_deref().unwrap_or(TOPIC_ARN);
        let folder: String = table.folder.iter().map(|folder| format!("{folder}/")).collect();
        let pipe = format!(
            "CREATE PIPE IF NOT EXISTS {}\n  AUTO_INGEST = TRUE\n  AWS_SNS_TOPIC = '{topic}'\nAS\nCOPY INTO {name}\nFROM \
             @{}/{folder}\nFILE_FORMAT = (FORMAT_NAME = '{}')\nMATCH_BY_COLUMN_NAME = CASE_INSENSITIVE",
            self.name(&format!("landfall_{}", table.name)),
            self.name(STAGE),
            self.name(FILE_FORMAT)
        );
        vec![Statement::new("", pipe)]
    }

    fn added(&self, table: &Table, columns: &[&Column]) -> Vec<Statement> {
        let alter = |column: &&Column| {
            Statement::new(
                "Needed only without schema evolution: the first file with the column adds it.",
                format!("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {}", self.name(&table.name), definition(column)),
            )
        };
        columns.iter().map(alter).collect()
    }
}

impl Snowflake {
    fn name(&self, name: &str) -> String {
        qualified(self.files.schema.as_ref(), name, quoted)
    }
}

/// A name without quotes is one in upper case, and schema evolution adds columns in upper case. So are reserved words.
fn quoted(name: &str) -> String {
    if is_among(RESERVED, name) { format!("\"{}\"", name.to_ascii_uppercase()) } else { name.to_owned() }
}

fn definition(column: &Column) -> String {
    let not_null = if column.nullable { "" } else { " NOT NULL" };
    format!("{} {}{not_null}", quoted(&column.name), kind(&column.kind))
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "BOOLEAN".to_owned(),
        Kind::Int32 | Kind::Int64 => "INTEGER".to_owned(),
        Kind::Float32 | Kind::Float64 => "FLOAT".to_owned(),
        Kind::Decimal { precision, scale } => format!("NUMBER({precision}, {scale})"),
        Kind::Text => "VARCHAR".to_owned(),
        Kind::Bytes => "BINARY".to_owned(),
        Kind::Instant => "TIMESTAMP_TZ".to_owned(),
        Kind::Struct(_) | Kind::List(_) | Kind::Map(..) => "VARIANT".to_owned(),
    }
}
