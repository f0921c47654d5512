//! DuckDB: views over the files, and tables with their types.

use clap::Args;

use super::{
    Dialect, Files,
    options::{Namespace, qualified},
    schema::{Column, Kind, Table},
    script::{Statement, block},
};

/// The schema of the views, or what is behind the name of the tables' schema. Views and tables have the same names.
const VIEWS: &str = "files";
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

    fn notes(&self) -> Vec<&'static str> {
        vec![
            "DuckDB needs the extension httpfs to read from S3, and credentials, such as from INSTALL aws; LOAD aws; CREATE \
             SECRET (TYPE s3, PROVIDER credential_chain);",
            "A view reads the files each time, and is created only when there is a file. DuckDB notes its columns, so create it \
             again after an event type got a field. A table keeps rows, as in INSERT INTO events BY NAME SELECT * FROM \
             files.events. An event can land twice: deduplicate by event_id.",
        ]
    }

    fn setup(&self) -> Vec<Statement> {
        let name: Vec<String> = self.views().parts().map(quoted).collect();
        vec![Statement::new("", format!("CREATE SCHEMA IF NOT EXISTS {}", name.join(".")))]
    }

    fn table(&self, table: &Table) -> Vec<Statement> {
        let columns = table.columns.iter().map(|column| definition(column, 1));
        let name = qualified(self.files.schema.as_ref(), &table.name, quoted);
        let create = block(&format!("CREATE TABLE IF NOT EXISTS {name} ("), columns, ")", 0);
        vec![Statement::new("", create), self.view(table)]
    }

    fn added(&self, table: &Table, column: &Column) -> Vec<Statement> {
        let name = qualified(self.files.schema.as_ref(), &table.name, quoted);
        let column = definition(column, 0);
        let alter = format!("ALTER TABLE {name} ADD COLUMN IF NOT EXISTS {column}");
        vec![Statement::new("", alter), self.view(table)]
    }
}

impl Duckdb {
    fn views(&self) -> Namespace {
        let beside = self.files.schema.as_ref().map(|schema| schema.with_suffix(VIEWS_SUFFIX));
        beside.unwrap_or_else(|| Namespace::of(VIEWS))
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
