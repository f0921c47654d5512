//! DuckDB: views over the files, and tables with their types.

use std::borrow::Cow;

use clap::Args;

use super::{
    Dialect, Files,
    options::{Namespace, qualified},
    schema::{Column, Kind, Table},
    script::{Statement, block},
};

/// The schema of the views, or what is behind the name of the tables' schema. Views and tables have the same names.
const VIEWS: &str = "landfall_files";
const VIEWS_SUFFIX: &str = "_files";

/// The options of `landfall ddl duckdb`.
#[derive(Debug, Args)]
pub struct Duckdb {
    #[command(flatten)]
    files: Files,
}

impl Dialect for Duckdb {
    const NAME: &'static str = "duckdb";

    fn files(&self) -> &Files {
        &self.files
    }

    fn notes(&self) -> Vec<Cow<'static, str>> {
        let (table, view) = ("events".to_owned(), format!("{}.events", self.views().written()));
        let table = self.files.schema.as_ref().map_or(table, |schema| format!("{}.events", schema.written()));
        vec![
            "DuckDB needs the extension httpfs to read from S3, and credentials, such as from INSTALL aws; LOAD aws; CREATE \
             SECRET (TYPE s3, PROVIDER credential_chain);"
                .into(),
            "A view reads the files each time, and is created only when there is a file. DuckDB notes its columns, so create it \
             again after an event type got a field."
                .into(),
            format!(
                "A table keeps rows, as in INSERT INTO {table} BY NAME SELECT * FROM {view}. After an event type got a field, \
                 change its column or create the table again, and fill it again, before you insert: the table does not change \
                 by itself, and INSERT drops what is not in it without an error. The queries at the end show what differs. An \
                 event can land twice: deduplicate by event_id."
            )
            .into(),
            "DuckDB gives a database the name of its file, and refuses a schema of the same name as ambiguous, as --schema lake in \
             lake.duckdb: write --schema lake.main there, or call the file otherwise."
                .into(),
        ]
    }

    fn setup(&self) -> Vec<Statement> {
        let name: Vec<String> = self.views().parts().map(quoted).collect();
        vec![Statement::new("", format!("CREATE SCHEMA IF NOT EXISTS {}", name.join(".")))]
    }

    fn table(&self, table: &Table) -> Statement {
        let columns = table.columns.iter().map(|column| definition(column, 1));
        let create = format!("CREATE TABLE IF NOT EXISTS {} (", self.name(table));
        Statement::new("", block(&create, columns, ")", 0))
    }

    fn reading(&self, table: &Table) -> Vec<Statement> {
        vec![self.view(table), self.difference(table)]
    }

    fn added(&self, table: &Table, columns: &[&Column]) -> Vec<Statement> {
        let alter = |column: &&Column| {
            let column = definition(column, 0);
            Statement::new("", format!("ALTER TABLE {} ADD COLUMN IF NOT EXISTS {column}", self.name(table)))
        };
        columns.iter().map(alter).chain([self.view(table)]).collect()
    }
}

impl Duckdb {
    fn views(&self) -> Namespace {
        let beside = self.files.schema.as_ref().map(|schema| schema.with_suffix(VIEWS_SUFFIX));
        beside.unwrap_or_else(|| Namespace::of(VIEWS))
    }

    fn name(&self, table: &Table) -> String {
        qualified(self.files.schema.as_ref(), &table.name, quoted)
    }

    /// What INSERT would drop. The members of a struct are matched by name, so their order is another one without harm.
    fn difference(&self, table: &Table) -> Statement {
        let (name, view) = (self.name(table), qualified(Some(&self.views()), &table.name, quoted));
        Statement::new(
            "Columns that the table has not, or with another type. Another order of members is harmless.",
            format!(
                "SELECT column_name, f.column_type AS in_files, t.column_type AS in_table\nFROM (DESCRIBE {view}) AS f LEFT JOIN \
                 (DESCRIBE {name}) AS t USING (column_name)\nWHERE f.column_type IS DISTINCT FROM t.column_type"
            ),
        )
    }

    /// The files are three folders below: year, month and day. So those of one layout do not show in the other.
    fn view(&self, table: &Table) -> Statement {
        let name = qualified(Some(&self.views()), &table.name, quoted);
        let files = format!("{}*/*/*/*.parquet", self.files.folder(table));
        Statement::new(
            "",
            format!("CREATE OR REPLACE VIEW {name} AS\nSELECT * FROM read_parquet('{files}', union_by_name = true)"),
        )
    }
}

/// Quoted names are found in upper and lower case too, so quotes cost nothing and no list of reserved words is needed.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn definition(column: &Column, depth: usize) -> String {
    let not_null = if column.nullable { "" } else { " NOT NULL" };
    format!("{} {}{not_null}", quoted(&column.name), kind(&column.kind, depth))
}

fn kind(of: &Kind, depth: usize) -> String {
    match of {
        Kind::Boolean => "BOOLEAN".to_owned(),
        Kind::Int32 => "INTEGER".to_owned(),
        Kind::Int64 => "BIGINT".to_owned(),
        Kind::Float32 => "FLOAT".to_owned(),
        Kind::Float64 => "DOUBLE".to_owned(),
        Kind::Decimal { precision, scale } => format!("DECIMAL({precision}, {scale})"),
        Kind::Text => "VARCHAR".to_owned(),
        Kind::Bytes => "BLOB".to_owned(),
        Kind::Instant => "TIMESTAMP WITH TIME ZONE".to_owned(),
        Kind::Struct(members) => {
            let member = |column: &Column| format!("{} {}", quoted(&column.name), kind(&column.kind, depth + 1));
            block("STRUCT(", members.iter().map(member), ")", depth)
        }
        Kind::List(element) => format!("{}[]", kind(element, depth)),
        Kind::Map(key, value) => format!("MAP({}, {})", kind(key, depth), kind(value, depth)),
    }
}
