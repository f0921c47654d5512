//! Athena: external tables over the files, whose partitions are computed from the days instead of being stored.

use std::borrow::Cow;

use clap::Args;
use shared::layout::Day;

use super::{
    DdlError, Dialect, Files, is_among,
    options::{self, Namespace, qualified},
    schema::{Column, Kind, Table},
    script::{Statement, block},
};

/// Words that are no names without quotes in statements that create tables. Only the members of structs are quoted by this
/// list; columns and tables always are.
///
/// Source: docs.aws.amazon.com/athena, "Escape reserved keywords in queries".
const RESERVED: &str = "\
    all alter and array as authorization between bigint binary boolean both by case cashe cast char column commit \
    conf constraint create cross cube current current_date current_timestamp cursor database date dayofweek \
    decimal delete describe distinct div double drop else end exchange exists extended external extract false \
    fetch float floor following for foreign from full function grant group grouping having if import in inner \
    insert int integer intersect interval into is join lateral left less like local macro map more none not null \
    numeric of on only or order out outer over partialscan partition percent preceding precision preserve primary \
    procedure range reads reduce references regexp revoke right rlike rollback rollup row rows select set smallint \
    start table tablesample then time timestamp to transform trigger true truncate unbounded union uniquejoin \
    update user using utc_timestamp values varchar views when where window with";

/// The partition column, and what it is called if an event type has that column.
const DAY: &str = "day";
const OTHER_DAY: &str = "_day";

/// The options of `landfall ddl athena`.
#[derive(Debug, Args)]
pub struct Athena {
    #[command(flatten)]
    files: Files,
    /// First day with files. Athena sees none before it, and a query without a condition on the day lists every day since.
    #[arg(long, value_name = "DAY", default_value = FIRST_DAY, value_parser = options::day)]
    first_day: Day,
}

const FIRST_DAY: &str = "2026/01/01";

impl Dialect for Athena {
    const NAME: &'static str = "athena";

    fn files(&self) -> &Files {
        &self.files
    }

    fn given(&self) -> Vec<(&'static str, String)> {
        let first_day = self.first_day.to_string();
        if first_day == FIRST_DAY { Vec::new() } else { vec![("--first-day", first_day)] }
    }

    fn check(&self) -> Result<(), DdlError> {
        let parts: Vec<&str> = self.files.schema.iter().flat_map(Namespace::parts).collect();
        let [_, database] = parts[..] else { return Ok(()) };
        Err(DdlError::TwoParts { written: parts.join("."), database: database.to_owned() })
    }

    fn notes(&self) -> Vec<Cow<'static, str>> {
        [
            "Athena runs one statement at a time. It reads Parquet by name, which is its default, so files of all versions can be \
             in one table.",
            "A partition is a folder of a day, computed from the properties below: none has to be added, and files of today are \
             there at once. Write days as in where day >= '2026/11/20'. It sees no files of days before the first one in \
             the property that ends with .range: --first-day sets it.",
            "After an event type got a field, drop its table and create it again with the statement that this command then \
             prints. The files stay, since the table is external.",
            "Athena reads times in milliseconds; those in the files have microseconds.",
        ]
        .map(Cow::Borrowed)
        .to_vec()
    }

    fn table(&self, table: &Table) -> Statement {
        let has_day = table.columns.iter().any(|column| column.name == DAY);
        let day = if has_day { OTHER_DAY } else { DAY };
        let (folder, name) = (self.files.folder(table), self.name(&table.name));
        let columns = table.columns.iter().map(|column| definition(column, 1));
        let columns = block(&format!("CREATE EXTERNAL TABLE IF NOT EXISTS {name} ("), columns, ")", 0);
        let projected = |property: &str| format!("projection.{day}.{property}");
        let properties = [
            ("projection.enabled".to_owned(), "true".to_owned()),
            (projected("type"), "date".to_owned()),
            (projected("format"), "yyyy/MM/dd".to_owned()),
            // An event may claim to have happened up to a day after it was sent.
            (projected("range"), format!("{},NOW+1DAYS", self.first_day)),
            (projected("interval"), "1".to_owned()),
            (projected("interval.unit"), "DAYS".to_owned()),
            ("storage.location.template".to_owned(), format!("{folder}${{{day}}}/")),
        ];
        let properties = properties.map(|(name, value)| format!("'{name}' = '{value}'"));
        let about = if table.folder.is_none() {
            "Only the folders of days are read, so files of the layout by-type below the same location are not in this table."
        } else {
            ""
        };
        Statement::new(
            about,
            format!(
                "{columns}\nPARTITIONED BY (`{day}` string)\nSTORED AS PARQUET\nLOCATION '{folder}'\n{}",
                block("TBLPROPERTIES (", properties, ")", 0)
            ),
        )
    }

    /// The table is the files.
    fn reading(&self, _: &Table) -> Vec<Statement> {
        Vec::new()
    }

    fn added(&self, table: &Table, columns: &[&Column]) -> Vec<Statement> {
        let columns = block("ADD COLUMNS (", columns.iter().map(|column| definition(column, 1)), ")", 0);
        vec![Statement::new("", format!("ALTER TABLE {} {columns}", self.name(&table.name)))]
    }
}

impl Athena {
    fn name(&self, name: &str) -> String {
        qualified(self.files.schema.as_ref(), name, quoted)
    }
}

fn quoted(name: &str) -> String {
    format!("`{name}`")
}

fn definition(column: &Column, depth: usize) -> String {
    format!("{} {}", quoted(&column.name), kind(&column.kind, depth))
}

/// A member of a struct.
fn member(column: &Column, depth: usize) -> String {
    let name = &column.name;
    let name = if name.starts_with('_') || is_among(RESERVED, name) { quoted(name) } else { name.clone() };
    format!("{name}: {}", kind(&column.kind, depth))
}

fn kind(of: &Kind, depth: usize) -> String {
    match of {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Int32 => "int".to_owned(),
        Kind::Int64 => "bigint".to_owned(),
        Kind::Float32 => "float".to_owned(),
        Kind::Float64 => "double".to_owned(),
        Kind::Decimal { precision, scale } => format!("decimal({precision}, {scale})"),
        Kind::Text => "string".to_owned(),
        Kind::Bytes => "binary".to_owned(),
        Kind::Instant => "timestamp".to_owned(),
        Kind::Struct(members) => block("struct<", members.iter().map(|column| member(column, depth + 1)), ">", depth),
        Kind::List(element) => format!("array<{}>", kind(element, depth)),
        Kind::Map(key, value) => format!("map<{}, {}>", kind(key, depth), kind(value, depth)),
    }
}
