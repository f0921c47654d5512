//! Redshift: COPY loads Parquet by position, so a table has the columns of the files in their order.

use clap::Args;

use super::{
    Dialect, Files,
    options::{self, qualified},
    schema::{Column, Kind, Layout, Table},
    script::{Statement, block},
};

/// The longest text and the most bytes that a column takes. A payload is below the latter, since SQS takes 1 MiB of base64.
const VARCHAR: &str = "VARCHAR(65535)";
const VARBYTE: &str = "VARBYTE(1024000)";

/// The options of `landfall ddl redshift`.
#[derive(Debug, Args)]
pub struct Redshift {
    #[command(flatten)]
    files: Files,
    /// Role with which COPY reads the bucket. Without it, the default role of the cluster or namespace.
    #[arg(long, value_name = "ARN", value_parser = options::role_arn)]
    iam_role: Option<String>,
}

impl Dialect for Redshift {
    const NAME: &'static str = "redshift";

    fn files(&self) -> &Files {
        &self.files
    }

    fn given(&self) -> Vec<(&'static str, String)> {
        self.iam_role.clone().map(|arn| ("--iam-role", arn)).into_iter().collect()
    }

    fn notes(&self) -> Vec<&'static str> {
        let position = match self.files.layout {
            Layout::Together => {
                "COPY loads Parquet by position, and refuses a file with another number of columns than the table. A new event \
                 type is a new column at the end: landfall ddl redshift --added COLUMN prints its ALTER TABLE. Run it before \
                 COPY sees files with that column, and load older files first, or list their columns behind the table's name. \
                 With --layout by-type none of this is needed."
            }
            Layout::ByType => {
                "COPY loads Parquet by position, and refuses a file with another number of columns than the table. The nine \
                 columns of a type never change, nor do the eight of unregistered: new fields are inside the SUPER column, and a \
                 new event type is a new table, which landfall ddl redshift --layout by-type --added COLUMN prints."
            }
        };
        vec![
            position,
            "COPY loads a file again each time: load each day once, from its folder, or append JOB CREATE name AUTO ON, with \
             which Redshift loads new files by itself and remembers them. An event can land twice, too: deduplicate by event_id.",
            "The bucket has to be in the region of the warehouse.",
        ]
    }

    fn table(&self, table: &Table) -> Vec<Statement> {
        let name = self.name(&table.name);
        let columns = table.columns.iter().map(definition);
        let (folder, about) = if table.folder.is_none() {
            let about = "The 2 is that of the year: it keeps away from the folders of the layout by-type, whose files have other \
                         columns.";
            (format!("{}2", self.files.root()), about)
        } else {
            (self.files.folder(table), "")
        };
        let role = self.iam_role.as_ref().map_or_else(|| "DEFAULT".to_owned(), |arn| format!("'{arn}'"));
        vec![
            Statement::new("", block(&format!("CREATE TABLE IF NOT EXISTS {name} ("), columns, ")", 0)),
            Statement::new(
                about,
                format!("COPY {name}\nFROM '{folder}'\nIAM_ROLE {role}\nFORMAT AS PARQUET SERIALIZETOJSON"),
            ),
        ]
    }

    fn added(&self, table: &Table, column: &Column) -> Vec<Statement> {
        vec![Statement::new("", format!("ALTER TABLE {} ADD COLUMN {}", self.name(&table.name), definition(column)))]
    }
}

impl Redshift {
    fn name(&self, name: &str) -> String {
        qualified(self.files.schema.as_ref(), name, quoted)
    }
}

/// Quoted names are read in lower case too, so quotes cost nothing and no list of reserved words is needed.
fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

fn definition(column: &Column) -> String {
    let not_null = if column.nullable { "" } else { " NOT NULL" };
    format!("{} {}{not_null}", quoted(&column.name), kind(&column.kind))
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "BOOLEAN".to_owned(),
        Kind::Int32 => "INTEGER".to_owned(),
        Kind::Int64 => "BIGINT".to_owned(),
        Kind::Float32 => "REAL".to_owned(),
        Kind::Float64 => "DOUBLE PRECISION".to_owned(),
        Kind::Decimal { precision, scale } => format!("DECIMAL({precision}, {scale})"),
        Kind::Text => VARCHAR.to_owned(),
        Kind::Bytes => VARBYTE.to_owned(),
        Kind::Instant => "TIMESTAMPTZ".to_owned(),
        Kind::Struct(_) | Kind::List(_) | Kind::Map(..) => "SUPER".to_owned(),
    }
}
