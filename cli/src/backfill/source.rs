//! The table in Postgres: what its columns are, how its rows are divided into ranges, and reading the rows of a range.

use std::{collections::BTreeMap, time::Duration};

use runtime::{
    failure::chain,
    settings::{Lookup, Settings},
};
use tokio_postgres::{Client, Config, binary_copy::BinaryCopyOutStream, error::SqlState, types::Type};

use super::manifest::Bounds;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// What a sample of the table has, by which the size of rows is estimated.
const SAMPLED_ROWS: usize = 10_000;
/// Microseconds from 1970-01-01 to 2000-01-01, from which Postgres counts.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The parts of an event, and the columns that they are in if nothing else is said.
pub(super) const PARTS: [&str; 6] = ["source", "type", "payload", "created_at", "id", "event_id"];
/// Types of `--key`, whose values are written as text and read back without loss.
const KEY_TYPES: [&str; 9] = [
    "smallint",
    "integer",
    "bigint",
    "uuid",
    "text",
    "character varying",
    "timestamp with time zone",
    "timestamp without time zone",
    "date",
];

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("the URL of --from is not valid: {0}")]
    Url(String),
    #[error("--ca-file {0}")]
    Tls(#[from] dial::TlsError),
    #[error("no connection to Postgres: {0}")]
    Connect(String),
    #[error("Postgres: {}", sentence(.0))]
    Statement(#[from] tokio_postgres::Error),
    #[error("the table {0} does not exist, or may not be seen")]
    Table(String),
    #[error("{0}")]
    Column(String),
}

impl SourceError {
    /// Whether another attempt on a new connection may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            // The connection was lost; out of resources; cancelled by the recovery of a standby; shut down.
            Self::Statement(error) => error.code().is_none_or(|code| {
                *code != SqlState::QUERY_CANCELED
                    && ["08", "53", "40", "57"].iter().any(|class| code.code().starts_with(class))
            }),
            _ => false,
        }
    }
}

/// What Postgres says. `Display` of the error is just "db error".
fn sentence(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) if *db.code() == SqlState::QUERY_CANCELED => {
            format!("{}; see --statement-timeout", db.message())
        }
        Some(db) => db.message().to_owned(),
        None => chain(error),
    }
}

/// How to connect.
#[derive(Debug, Clone)]
pub(super) struct Server {
    config: Config,
    tls: bool,
    ca_file: Option<String>,
    /// Of each transaction.
    settings: String,
}

impl Server {
    pub(super) fn new(
        url: &str,
        ca_file: Option<&str>,
        statement_timeout_s: u32,
        environment: &Settings<impl Lookup>,
    ) -> Result<Self, SourceError> {
        let (mut config, tls) = dial::of_url(url).map_err(|error| SourceError::Url(chain(&error)))?;
        if config.get_password().is_none()
            && let Some(password) = environment.optional("PGPASSWORD")
        {
            config.password(password);
        }
        config.application_name("landfall-backfill").connect_timeout(CONNECT_TIMEOUT);
        config.keepalives_idle(Duration::from_secs(30));
        // Without row_security, a policy that hides rows from the reader is an error and not a table with fewer rows.
        let settings = format!(
            "set local statement_timeout = '{statement_timeout_s}s'; set local lock_timeout = '20s'; \
             set local idle_in_transaction_session_timeout = 0; set local timezone = 'UTC'; set local datestyle = 'ISO'; \
             set local synchronize_seqscans = off; set local standard_conforming_strings = on; set local row_security = off"
        );
        Ok(Self { config, tls, ca_file: ca_file.map(str::to_owned), settings })
    }

    /// Host and database, without user and password.
    pub(super) fn name(&self) -> String {
        let hosts = self.config.get_hosts().iter().map(|host| match host {
            tokio_postgres::config::Host::Tcp(name) => name.clone(),
            tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
        });
        format!("{}/{}", hosts.collect::<Vec<_>>().join(","), self.config.get_dbname().unwrap_or_default())
    }

    /// A connection. Nothing is set on it but within transactions, since a pooler may give it to others.
    pub(super) async fn connect(&self) -> Result<Client, SourceError> {
        let tls = if self.tls { Some(dial::tls(self.ca_file.as_deref())?) } else { None };
        let connecting = dial::connect(&self.config, tls);
        match tokio::time::timeout(2 * CONNECT_TIMEOUT, connecting).await {
            Ok(client) => client.map_err(|error| SourceError::Connect(sentence(&error))),
            Err(_) => Err(SourceError::Connect("the server did not answer".to_owned())),
        }
    }

    /// Begins a transaction that sees this snapshot, and says whether it does. Without one, or when it is gone, it sees one of its own.
    pub(super) async fn begin(&self, client: &Client, snapshot: Option<&str>) -> Result<bool, SourceError> {
        const BEGIN: &str = "begin isolation level repeatable read read only";
        if let Some(snapshot) = snapshot {
            let shared = format!("{BEGIN}; set transaction snapshot {}; {}", literal(snapshot), self.settings);
            if client.batch_execute(&shared).await.is_ok() {
                return Ok(true);
            }
            client.batch_execute("rollback").await?;
        }
        client.batch_execute(&format!("{BEGIN}; {}", self.settings)).await?;
        Ok(false)
    }
}

/// A column of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    name: String,
    type_name: String,
    not_null: bool,
}

/// How the payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Bytes,
    /// Text in base64.
    Base64,
}

/// The table, as its rows are read.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) database: String,
    /// By which a table of the same name in another database is told apart. Physical replicas have the same.
    pub(super) oid: u32,
    /// Schema and name, as they are written in SQL.
    pub(super) sql: String,
    /// Schema and name, for file names and ids.
    pub(super) name: String,
    /// Column by part of an event.
    columns: BTreeMap<&'static str, Column>,
    key: Column,
    /// Whether an index begins with the key.
    pub(super) key_is_indexed: bool,
    pub(super) stored: Stored,
}

impl Table {
    /// Looks the table and its columns up. `map` has columns by part; an empty one means that there is none.
    pub(super) async fn describe(
        client: &Client,
        name: &str,
        map: &BTreeMap<String, String>,
        key: Option<&str>,
    ) -> Result<Self, SourceError> {
        let found = client
            .query_opt(
                "select c.oid, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname)
                 from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = to_regclass($1)",
                &[&name],
            )
            .await?;
        let Some(found) = found else { return Err(SourceError::Table(name.to_owned())) };
        let oid: u32 = found.try_get(0)?;
        let (schema, relation, sql): (&str, &str, String) = (found.try_get(1)?, found.try_get(2)?, found.try_get(3)?);
        let rows = client
            .query(
                "select a.attname::text, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), null), a.attnotnull
                 from pg_attribute a join pg_type t on t.oid = a.atttypid
                 where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped order by a.attnum",
                &[&oid],
            )
            .await?;
        let mut all = Vec::new();
        for row in rows {
            all.push(Column { name: row.try_get(0)?, type_name: row.try_get(1)?, not_null: row.try_get(2)? });
        }
        let columns = resolve(&all, map).map_err(SourceError::Column)?;
        let payload = columns.get("payload").map(|column| column.type_name.as_str()).unwrap_or_default();
        let stored = if payload == "bytea" { Stored::Bytes } else { Stored::Base64 };
        let key = key_of(&all, &columns, key).map_err(SourceError::Column)?;
        let indexed = client
            .query_one(
                "select exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
                   join pg_class c on c.oid = i.indexrelid join pg_am m on m.oid = c.relam
                 where i.indrelid = $1 and a.attname = $2 and i.indisvalid and i.indpred is null
                   and m.amname = 'btree' and i.indcollation[0] = a.attcollation)",
                &[&oid, &key.name],
            )
            .await?;
        let name = format!("{schema}.{relation}");
        let database = client.query_one("select current_database()::text", &[]).await?.try_get(0)?;
        Ok(Self { database, oid, sql, name, columns, key, key_is_indexed: indexed.try_get(0)?, stored })
    }

    /// Column and its type by part, for the manifest.
    pub(super) fn columns(&self) -> BTreeMap<String, String> {
        let described = |column: &Column| format!("{} {}", column.name, column.type_name);
        self.columns.iter().map(|(part, column)| ((*part).to_owned(), described(column))).collect()
    }

    /// Whether the server has a row with this key, or a later one.
    pub(super) async fn reaches(&self, client: &Client, bounds: &Bounds, key: &str) -> Result<bool, SourceError> {
        let sql = format!(
            "select exists (select from {} as t where {} and {} >= {}::{})",
            self.sql,
            self.within(bounds, &Range::Keys { after: None, last: None }),
            self.key_column(),
            literal(key),
            self.key.type_name,
        );
        Ok(client.query_one(&sql, &[]).await?.try_get(0)?)
    }

    pub(super) fn key(&self) -> (&str, &str) {
        (&self.key.name, &self.key.type_name)
    }

    /// Whether rows may have no key.
    pub(super) const fn key_may_be_null(&self) -> bool {
        !self.key.not_null
    }

    fn key_column(&self) -> String {
        qualified(&self.key.name)
    }

    fn column(&self, part: &str) -> Option<String> {
        self.columns.get(part).map(|column| qualified(&column.name))
    }

    fn text(&self, part: &str) -> String {
        self.column(part).map_or_else(|| "null::text".to_owned(), |column| format!("{column}::text"))
    }

    fn required(&self, part: &str) -> String {
        self.column(part).unwrap_or_else(|| "null".to_owned())
    }

    /// `created_at` as a time with a time zone, which is UTC if it has none.
    fn created_at(&self) -> String {
        let column = self.required("created_at");
        match self.columns.get("created_at").map(|column| column.type_name.as_str()) {
            Some("timestamp without time zone") => format!("({column} at time zone 'UTC')"),
            _ => column,
        }
    }

    /// The condition that a row is within the bounds, and after one key and not after another.
    fn within(&self, bounds: &Bounds, range: &Range) -> String {
        let (key, created_at) = (self.key_column(), self.created_at());
        let value = |text: &str| format!("{}::{}", literal(text), self.key.type_name);
        let mut conditions = match range {
            Range::Keys { after, last } => vec![
                after.as_deref().map(|after| format!("{key} > {}", value(after))),
                last.as_deref().map(|last| format!("{key} <= {}", value(last))),
            ],
            Range::NoKey => vec![Some(format!("{key} is null"))],
        };
        let time = |text: &str| format!("{}::timestamptz", literal(text));
        conditions.push(bounds.since.as_deref().map(|since| format!("{created_at} >= {}", time(since))));
        conditions.push(bounds.until.as_deref().map(|until| format!("{created_at} < {}", time(until))));
        let conditions: Vec<String> = conditions.into_iter().flatten().collect();
        if conditions.is_empty() { "true".to_owned() } else { conditions.join(" and ") }
    }

    /// The statement that reads a range, in the order of the key.
    pub(super) fn copy_sql(&self, bounds: &Bounds, range: &Range) -> String {
        let [source, type_name, id, event_id] = ["source", "type", "id", "event_id"].map(|part| self.text(part));
        let (payload, key) = (self.required("payload"), self.key_column());
        // As text, whatever kind of text it is.
        let payload = if self.stored == Stored::Base64 { format!("{payload}::text") } else { payload };
        format!(
            "copy (select {source}, {type_name}, {payload}, {}, {id}, {event_id}, {key} from {} as t where {} order by {key}) \
             to stdout (format binary)",
            self.created_at(),
            self.sql,
            self.within(bounds, range),
        )
    }

    /// The statement that counts and checks what a backfill has read: rows up to a key, if there is one, and those without, if they are
    /// read.
    pub(super) fn check_sql(&self, bounds: &Bounds, last: Option<&str>, no_key: bool) -> String {
        let payload = self.required("payload");
        let bytes = match self.stored {
            Stored::Bytes => payload,
            Stored::Base64 => format!("convert_to({payload}::text, 'UTF8')"),
        };
        let keys = last.map(|last| self.within(bounds, &Range::Keys { after: None, last: Some(last.to_owned()) }));
        let none = no_key.then(|| self.within(bounds, &Range::NoKey));
        let conditions: Vec<String> = keys.into_iter().chain(none).map(|one| format!("({one})")).collect();
        let condition = if conditions.is_empty() { "false".to_owned() } else { conditions.join(" or ") };
        format!(
            "select count(*), coalesce(sum(('x' || encode(substring(sha256({bytes}) from 1 for 7), 'hex'))::bit(56)::bigint), 0)::text \
             from {} as t where {condition}",
            self.sql
        )
    }

    /// The first row's types: rows and bytes of each, and the first and the last time.
    pub(super) async fn count_types(&self, client: &Client, bounds: &Bounds) -> Result<Vec<TypeCount>, SourceError> {
        let (created_at, payload) = (self.created_at(), self.required("payload"));
        let sql = format!(
            "select {}, count(*), coalesce(sum(octet_length({payload})), 0)::bigint, min({created_at})::text, max({created_at})::text \
             from {} as t where {} group by 1 order by 2 desc, 1",
            self.text("type"),
            self.sql,
            self.within(bounds, &Range::Keys { after: None, last: None }),
        );
        let mut counts = Vec::new();
        for row in client.query(&sql, &[]).await? {
            let number = |column| row.try_get::<_, i64>(column).map(|number| number.unsigned_abs());
            counts.push(TypeCount {
                type_name: row.try_get(0)?,
                rows: number(1)?,
                bytes: number(2)?,
                first: row.try_get(3)?,
                last: row.try_get(4)?,
            });
        }
        Ok(counts)
    }

    /// The average size of a row's texts and payload in bytes.
    pub(super) async fn row_bytes(&self, client: &Client, bounds: &Bounds) -> Result<f64, SourceError> {
        let parts =
            ["source", "type", "id", "event_id"].map(|part| format!("coalesce(octet_length({}), 0)", self.text(part)));
        let payload = format!("coalesce(octet_length({}), 0)", self.required("payload"));
        let payload = if self.stored == Stored::Base64 { format!("{payload} * 3 / 4") } else { payload };
        let sql = format!(
            "select coalesce(avg({payload} + {}), 0)::float8 from (select * from {} as t where {} limit {SAMPLED_ROWS}) as t",
            parts.join(" + "),
            self.sql,
            self.within(bounds, &Range::Keys { after: None, last: None }),
        );
        Ok(client.query_one(&sql, &[]).await?.try_get(0)?)
    }

    /// The last key within the bounds; `None` if there are no rows with a key.
    pub(super) async fn last_key(&self, client: &Client, bounds: &Bounds) -> Result<Option<String>, SourceError> {
        let key = self.key_column();
        let within = self.within(bounds, &Range::Keys { after: None, last: None });
        let sql = format!(
            "select {key}::text from {} as t where {within} and {key} is not null order by {key} desc limit 1",
            self.sql
        );
        Ok(client.query_opt(&sql, &[]).await?.map(|row| row.try_get(0)).transpose()?)
    }

    /// The key of the row that is `rows` after a key, if there are so many up to the last.
    pub(super) async fn key_after(
        &self,
        client: &Client,
        bounds: &Bounds,
        after: Option<&str>,
        last: &str,
        rows: u64,
    ) -> Result<Option<String>, SourceError> {
        let key = self.key_column();
        let range = Range::Keys { after: after.map(str::to_owned), last: Some(last.to_owned()) };
        let sql = format!(
            "select {key}::text from {} as t where {} order by {key} offset {} limit 1",
            self.sql,
            self.within(bounds, &range),
            rows.saturating_sub(1),
        );
        Ok(client.query_opt(&sql, &[]).await?.map(|row| row.try_get(0)).transpose()?)
    }

    /// The same keys in one statement, which sorts the whole table.
    pub(super) async fn all_keys(
        &self,
        client: &Client,
        bounds: &Bounds,
        last: &str,
        rows: u64,
    ) -> Result<Vec<String>, SourceError> {
        let key = self.key_column();
        let range = Range::Keys { after: None, last: Some(last.to_owned()) };
        let sql = format!(
            "select k::text from (select k, row_number() over (order by k) as n from (select {key} as k from {} as t where {}) as keys) \
             as numbered where n % {rows} = 0 order by n",
            self.sql,
            self.within(bounds, &range),
        );
        let mut keys: Vec<String> = Vec::new();
        for row in client.query(&sql, &[]).await? {
            keys.push(row.try_get(0)?);
        }
        keys.dedup();
        Ok(keys)
    }

    /// How many rows a range has.
    pub(super) async fn count(&self, client: &Client, bounds: &Bounds, range: &Range) -> Result<u64, SourceError> {
        let sql = format!("select count(*) from {} as t where {}", self.sql, self.within(bounds, range));
        Ok(client.query_one(&sql, &[]).await?.try_get::<_, i64>(0)?.unsigned_abs())
    }

    /// Runs [`Self::check_sql`].
    pub(super) async fn check(&self, client: &Client, sql: &str) -> Result<(u64, String), SourceError> {
        let row = client.query_one(sql, &[]).await?;
        Ok((row.try_get::<_, i64>(0)?.unsigned_abs(), row.try_get(1)?))
    }

    /// Begins to read a range.
    pub(super) async fn read(
        &self,
        client: &Client,
        bounds: &Bounds,
        range: &Range,
    ) -> Result<BinaryCopyOutStream, SourceError> {
        let stream = client.copy_out(&self.copy_sql(bounds, range)).await?;
        let payload = if self.stored == Stored::Bytes { Type::BYTEA } else { Type::TEXT };
        // A time is sent as a number, and of a key only its bytes are compared.
        let types = [Type::TEXT, Type::TEXT, payload, Type::INT8, Type::TEXT, Type::TEXT, Type::BYTEA];
        Ok(BinaryCopyOutStream::new(stream, &types))
    }
}

/// Rows of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TypeCount {
    pub(super) type_name: Option<String>,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) first: Option<String>,
    pub(super) last: Option<String>,
}

/// Rows that are read together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Range {
    /// Those after one key, up to and with another.
    Keys { after: Option<String>, last: Option<String> },
    /// Those whose key is null.
    NoKey,
}

/// A time as Postgres sends it, in microseconds since 1970-01-01T00:00:00Z; `None` if it is infinite.
pub(super) fn unix_us(postgres_us: i64) -> Option<i64> {
    match postgres_us {
        i64::MIN | i64::MAX => None,
        us => us.checked_add(POSTGRES_EPOCH_US),
    }
}

/// The columns of the parts, with a sentence about what is wrong with them.
fn resolve(all: &[Column], map: &BTreeMap<String, String>) -> Result<BTreeMap<&'static str, Column>, String> {
    if let Some(unknown) = map.keys().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(format!("--map {unknown}=…: an event has no part {unknown}; its parts are {}", PARTS.join(", ")));
    }
    let named = |name: &str| all.iter().find(|column| column.name == name);
    let names = || all.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut columns = BTreeMap::new();
    for part in PARTS {
        let column =
            match map.get(part).map(String::as_str) {
                Some("") => None,
                Some(name) => Some(named(name).ok_or_else(|| {
                    format!("--map {part}={name}: the table has no column {name}; it has {}", names())
                })?),
                None => named(part),
            };
        match column {
            Some(column) => drop(columns.insert(part, column.clone())),
            None if matches!(part, "type" | "payload" | "created_at") => {
                return Err(format!("the table has no column {part}; name one of {} with --map {part}=…", names()));
            }
            None => {}
        }
    }
    // An id that a producer gave is text or a UUID. A number is more likely that of the row.
    if !map.contains_key("event_id")
        && !columns.contains_key("event_id")
        && let Some(id) = columns.get("id")
        && matches!(id.type_name.as_str(), "uuid" | "text" | "character varying")
    {
        columns.insert("event_id", id.clone());
    }
    let wrong = |part: &str, wanted: &str| {
        let Column { name, type_name, .. } = columns.get(part)?;
        Some(format!("column {name}, the {part} of events, is of type {type_name}; it has to be {wanted}"))
    };
    let is =
        |part: &str, types: &[&str]| columns.get(part).is_none_or(|column| types.contains(&column.type_name.as_str()));
    if !is("payload", &["bytea", "text", "character varying"])
        && let Some(error) = wrong("payload", "bytea with protobuf, or text with protobuf in base64")
    {
        return Err(error);
    }
    if !is("created_at", &["timestamp with time zone", "timestamp without time zone"])
        && let Some(error) = wrong("created_at", "timestamptz, or timestamp in UTC")
    {
        return Err(error);
    }
    Ok(columns)
}

/// The column by which the table is read: the one that is named, or the id if it is a number, or the time.
fn key_of(all: &[Column], columns: &BTreeMap<&'static str, Column>, key: Option<&str>) -> Result<Column, String> {
    let is_number = |column: &&Column| matches!(column.type_name.as_str(), "smallint" | "integer" | "bigint");
    let column = match key {
        Some(name) => all
            .iter()
            .find(|column| column.name == name)
            .ok_or_else(|| format!("--key {name}: the table has no such column"))?,
        None => columns
            .get("id")
            .filter(is_number)
            .or_else(|| columns.get("created_at"))
            .ok_or_else(|| "the table has no key; name a column with --key".to_owned())?,
    };
    if KEY_TYPES.contains(&column.type_name.as_str()) {
        Ok(column.clone())
    } else {
        let Column { name, type_name, .. } = column;
        Err(format!("--key {name}: the column is of type {type_name}; a key is one of {}", KEY_TYPES.join(", ")))
    }
}

/// A column of the table, which is `t` in every statement: a bare name behind `order by` would be that of a column of the result.
fn qualified(name: &str) -> String {
    format!("t.\"{}\"", name.replace('"', "\"\""))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(types: &[(&str, &str)]) -> Vec<Column> {
        let column = |(name, type_name): &(&str, &str)| Column {
            name: (*name).to_owned(),
            type_name: (*type_name).to_owned(),
            not_null: false,
        };
        types.iter().map(column).collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(part, column)| ((*part).to_owned(), (*column).to_owned())).collect()
    }

    const TIME: &str = "timestamp with time zone";

    #[test]
    fn an_id_that_is_a_number_is_no_event_id_and_one_that_is_text_is() {
        let event_id = |id_type: &str, more: &[(&str, &str)], pairs: &[(&str, &str)]| {
            let all = columns(
                &[&[("id", id_type), ("type", "text"), ("payload", "bytea"), ("created_at", TIME)], more].concat(),
            );
            let resolved = resolve(&all, &map(pairs)).unwrap();
            resolved.get("event_id").map(|column| column.name.clone())
        };
        assert_eq!(event_id("bigint", &[], &[]), None);
        assert_eq!(event_id("uuid", &[], &[]).as_deref(), Some("id"));
        assert_eq!(event_id("uuid", &[("event_id", "text")], &[]).as_deref(), Some("event_id"));
        assert_eq!(event_id("uuid", &[("event_id", "text")], &[("event_id", "")]), None);
        assert_eq!(event_id("bigint", &[], &[("event_id", "id")]).as_deref(), Some("id"));
    }

    #[test]
    fn the_key_is_a_number_or_the_time() {
        let key = |id_type: &str, key: Option<&str>| {
            let all = columns(&[("id", id_type), ("type", "text"), ("payload", "bytea"), ("created_at", TIME)]);
            key_of(&all, &resolve(&all, &map(&[])).unwrap(), key).map(|column| column.name)
        };
        assert_eq!(key("bigint", None).unwrap(), "id");
        assert_eq!(key("uuid", None).unwrap(), "created_at");
        assert_eq!(key("uuid", Some("id")).unwrap(), "id");
        assert!(
            key("uuid", Some("payload"))
                .unwrap_err()
                .starts_with("--key payload: the column is of type bytea; a key is")
        );
        assert_eq!(key("uuid", Some("no")).unwrap_err(), "--key no: the table has no such column");
    }

    #[test]
    fn names_and_values_are_quoted() {
        let all = columns(&[("a\"b", "text"), ("type", "text"), ("payload", "bytea"), ("created_at", TIME)]);
        let columns = resolve(&all, &map(&[("id", "a\"b")])).unwrap();
        let key = all[0].clone();
        let table = Table {
            database: "shop".to_owned(),
            oid: 16_384,
            sql: "public.events".to_owned(),
            name: "public.events".to_owned(),
            columns,
            key,
            key_is_indexed: true,
            stored: Stored::Bytes,
        };
        let range = Range::Keys { after: Some("o'clock".to_owned()), last: Some("z".to_owned()) };
        let sql = table.copy_sql(&Bounds { since: Some("2026-11-20T00:00:00Z".to_owned()), until: None }, &range);
        let expected = "copy (select null::text, t.\"type\"::text, t.\"payload\", t.\"created_at\", t.\"a\"\"b\"::text, \
                        t.\"a\"\"b\"::text, t.\"a\"\"b\" from public.events as t \
                        where t.\"a\"\"b\" > 'o''clock'::text and t.\"a\"\"b\" <= 'z'::text \
                        and t.\"created_at\" >= '2026-11-20T00:00:00Z'::timestamptz order by t.\"a\"\"b\") \
                        to stdout (format binary)";
        assert_eq!(sql, expected);
    }

    #[test]
    fn times_of_postgres_are_those_of_unix_unless_they_are_infinite() {
        assert_eq!(unix_us(0), Some(946_684_800_000_000));
        assert_eq!(unix_us(-946_684_800_000_000), Some(0));
        assert_eq!([unix_us(i64::MIN), unix_us(i64::MAX)], [None, None]);
    }
}
