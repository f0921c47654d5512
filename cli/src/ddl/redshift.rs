//! Redshift: COPY loads Parquet by position, so it lists the columns of the files in their order.

use std::borrow::Cow;

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

    fn notes(&self) -> Vec<Cow<'static, str>> {
        let is_together = self.files.layout == Layout::Together;
        let position = if is_together {
            "COPY loads Parquet by position, and refuses a file with another number of columns than its list. The list has the \
             columns of the files in their order, that of proto/columns.txt; in which order the table has them does not count. A \
             new event type is a new column at the end of the files: landfall ddl redshift --added COLUMN prints its ALTER TABLE \
             and the COPY with the longer list. Files from before need the shorter list, that of the COPY that you have; or \
             append FILLRECORD, with which columns that are missing at the end of a file are NULL. With --layout by-type none \
             of this is needed."
        } else {
            "COPY loads Parquet by position, and refuses a file with another number of columns than its list. The nine columns \
             of a type never change, nor do the eight of unregistered: new fields are inside the SUPER column, and a new event \
             type is a new table, which landfall ddl redshift --layout by-type --added COLUMN prints."
        };
        let mut notes = vec![
            position,
            "COPY loads a file again each time, and a day gets files for as long as its events are delivered again, with \
             event_time for WriterEventTimeMaxAgeDays. So after the first load, load what is new by a manifest of files that are \
             not loaded yet, such as those announced on the topic in the output LandedTopicArn: FROM the manifest, and append \
             MANIFEST. Each entry has url, mandatory and, which Parquet needs, meta with the content_length of the file. Of types \
             without event_time you can load a day again instead: delete its rows by sent_at, and COPY its folder, in one \
             transaction. An event can land twice, too: deduplicate by event_id.",
        ];
        if self.iam_role.is_none() {
            notes.push(
                "A COPY job, which loads new files by itself, does not take the default role: give --iam-role for one.",
            );
        } else {
            notes.push(
                "Or let Redshift load new files by itself, each once: create an S3 event integration of the bucket, and then \
                 append JOB CREATE name AUTO ON to COPY, outside of a transaction and with a name without a hyphen. A job loads \
                 files that are created after it, so load those before by COPY.",
            );
            if is_together {
                notes.push(
                    "A job keeps its list of columns. For a new event type, drop it, and create it again with the longer list.",
                );
            }
        }
        notes.extend([
            "A text above 65,535 bytes fails the COPY of all its files, since MAXERROR is not there for Parquet. With the \
             parameter enable_large_strings_opt_in = Yes, for which a cluster has to be rebooted, a text inside SUPER may have \
             16,000,000 bytes; one of the envelope may not.",
            "Times are in UTC. COPY reads Parquet by Redshift Spectrum, which has no TIMESTAMPTZ. Inside SUPER they are text.",
            "The bucket has to be in the region of the warehouse.",
        ]);
        notes.into_iter().map(Cow::Borrowed).collect()
    }

    fn table(&self, table: &Table) -> Statement {
        let columns = table.columns.iter().map(definition);
        let create = format!("CREATE TABLE IF NOT EXISTS {} (", self.name(&table.name));
        Statement::new("", block(&create, columns, ")", 0))
    }

    fn reading(&self, table: &Table) -> Vec<Statement> {
        let (folder, about) = if table.folder.is_none() {
            let about = "The 2 is that of the year: it keeps away from the folders of the layout by-type, whose files have other \
                         columns. Years before 2000, which there are only if WriterEventTimeMaxAgeDays is decades, begin with 1.";
            (format!("{}2", self.files.root()), about)
        } else {
            (self.files.folder(table), "")
        };
        let role = self.iam_role.as_ref().map_or_else(|| "DEFAULT".to_owned(), |arn| format!("'{arn}'"));
        let columns = table.columns.iter().map(|column| quoted(&column.name));
        let columns = block(&format!("COPY {} (", self.name(&table.name)), columns, ")", 0);
        let copy = format!("{columns}\nFROM '{folder}'\nIAM_ROLE {role}\nFORMAT AS PARQUET SERIALIZETOJSON");
        vec![Statement::new(about, copy)]
    }

    fn added(&self, table: &Table, columns: &[&Column]) -> Vec<Statement> {
        let name = self.name(&table.name);
        let alter =
            |column: &&Column| Statement::new("", format!("ALTER TABLE {name} ADD COLUMN {}", definition(column)));
        columns.iter().map(alter).chain(self.reading(table)).collect()
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
        Kind::Instant => "TIMESTAMP".to_owned(),
        Kind::Struct(_) | Kind::List(_) | Kind::Map(..) => "SUPER".to_owned(),
    }
}
