//! Declared tables: compares them with those in the database, and applies the difference.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use runtime::failure;
use serde_json::json;
use shared::{
    column_type::ColumnType,
    dmap::FeedDeclaration,
    expectation::Expectation,
    registrar::{
        ColumnDeclaration, FieldChange, LoadStatus, OnMisfit, Table, TableChange, TableDeclaration, TableKind,
        TableList, TablesPlan, table_name,
    },
};
use tokio::time::Instant;
use tokio_postgres::{GenericClient, Row, Transaction};
use tracing::{info, warn};

use crate::{
    database::{self, Database, DatabaseError},
    dmap, settle,
};

/// After this time, the caller hears how far it is, and goes on with [`settle::settle`].
const SETTLING: Duration = Duration::from_secs(5);

/// How often a load is claimed to be ingested before it is given up, if its table does not say so.
const MAX_ATTEMPTS: i32 = 5;

/// A declared table, checked and with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Declared {
    name: String,
    prefix: String,
    kind: TableKind,
    snapshot_key: Option<String>,
    active: bool,
    max_attempts: i32,
    columns: Option<Vec<ColumnDeclaration>>,
    on_misfit: OnMisfit,
    /// In the words of [`Expectation`].
    expect: Option<String>,
}

impl Declared {
    /// Whether an object of this folder may be its: an object belongs to the active table with the longest prefix.
    fn takes(&self, folder: &str) -> bool {
        let is_twin = |changes: &str| {
            folder.strip_prefix(self.prefix.trim_end_matches('/')).is_some_and(|rest| rest.starts_with(changes))
        };
        self.active && (folder.starts_with(&self.prefix) || self.kind == TableKind::Ods && is_twin("__ct/"))
    }
}

/// Why columns cannot be used, if they cannot.
fn problem(columns: &[ColumnDeclaration]) -> Option<String> {
    let mut names = HashSet::new();
    columns.iter().find_map(|ColumnDeclaration { name, column_type }| {
        if name.is_empty() {
            Some("a column has no name".to_owned())
        } else if !names.insert(name) {
            Some(format!("column {name:?} is declared twice"))
        } else if column_type.parse::<ColumnType>().is_err() {
            let known =
                "known are integer, bigint, decimal(p,s), double, boolean, date, time, timestamp, text and their like";
            Some(format!("column {name:?} has the unknown type {column_type:?}; {known}"))
        } else {
            None
        }
    })
}

/// Fills in what declarations leave out, and refuses what makes no sense. Errors name the declaration.
fn complete(tables: Vec<TableDeclaration>) -> Result<Vec<Declared>, DatabaseError> {
    let mut names: HashMap<String, String> = HashMap::new();
    let mut complete = Vec::with_capacity(tables.len());
    for table in tables {
        let prefix = table.prefix;
        let refuse = |what: &str| Err(DatabaseError::Refused(format!("table with prefix {prefix:?}: {what}")));
        if prefix.contains('\0') || !prefix.ends_with('/') || prefix.starts_with('/') || prefix.contains("//") {
            return refuse("a prefix consists of folders, each followed by a /, such as cubic/dmap/agg_sample/");
        }
        let name = table.name.unwrap_or_else(|| table_name(&prefix));
        let is_name = |name: &str| {
            (1..=255).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        };
        if !is_name(&name) {
            return refuse(&format!("name {name:?} is not 1 to 255 of the characters a-z, 0-9 and _"));
        }
        if let Some(problem) = table.columns.as_deref().and_then(problem) {
            return refuse(&problem);
        }
        let snapshot_key = match (table.kind, table.snapshot_key) {
            (TableKind::Ods, _) if prefix.ends_with("__ct/") => {
                return refuse(
                    "the changes of an ODS table belong to the table itself; declare the prefix without __ct",
                );
            }
            (TableKind::Ods, Some(key)) if !key.starts_with(&prefix) || key.contains('\0') => {
                return refuse(&format!("snapshot_key {key:?} is not under the prefix"));
            }
            (TableKind::Ods, key) => Some(key.unwrap_or_else(|| format!("{prefix}LOAD001.csv.gz"))),
            (_, Some(_)) => return refuse("only tables of kind ods have a snapshot_key"),
            (_, None) => None,
        };
        for taken in [name.clone(), prefix.clone()] {
            if names.insert(taken, name.clone()).is_some() {
                return refuse("its name or its prefix is declared twice");
            }
        }
        let max_attempts = table.max_attempts.unwrap_or(MAX_ATTEMPTS);
        if !(1..=1_000).contains(&max_attempts) {
            return refuse(&format!("max_attempts is {max_attempts}; it must be from 1 to 1000"));
        }
        complete.push(Declared {
            name,
            prefix,
            kind: table.kind,
            snapshot_key,
            active: table.active,
            max_attempts,
            columns: table.columns,
            on_misfit: table.on_misfit,
            expect: table.expect.as_ref().map(Expectation::to_string),
        });
    }
    Ok(complete)
}

/// The table's properties as text, in the order of a declaration.
fn fields(table: &Declared) -> [(&'static str, Option<String>); 8] {
    [
        ("prefix", Some(table.prefix.clone())),
        ("kind", Some(table.kind.as_str().to_owned())),
        ("snapshot_key", table.snapshot_key.clone()),
        ("active", Some(table.active.to_string())),
        ("max_attempts", Some(table.max_attempts.to_string())),
        ("columns", table.columns.as_deref().map(columns)),
        ("on_misfit", Some(table.on_misfit.to_string())),
        ("expect", table.expect.clone()),
    ]
}

/// Columns as a plan shows them: `id INT8, name STRING`.
fn columns(columns: &[ColumnDeclaration]) -> String {
    columns.iter().map(|column| format!("{} {}", column.name, column.column_type)).collect::<Vec<_>>().join(", ")
}

/// The changes that make `existing` tables `declared`. Pure.
fn difference(declared: &[Declared], existing: &BTreeMap<String, Declared>) -> TablesPlan {
    let mut changes = Vec::new();
    for table in declared {
        let before = existing.get(&table.name).map(fields);
        let fields: Vec<FieldChange> = fields(table)
            .into_iter()
            .enumerate()
            .map(|(at, (field, to))| {
                let from = before.as_ref().and_then(|before| before.get(at)).and_then(|(_, from)| from.clone());
                FieldChange { field: field.to_owned(), from, to }
            })
            .filter(|change| change.from != change.to)
            .collect();
        if !fields.is_empty() {
            changes.push(TableChange { name: table.name.clone(), create: before.is_none(), fields });
        }
    }
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    let undeclared =
        existing.keys().filter(|name| declared.iter().all(|table| table.name != **name)).cloned().collect();
    let unchanged = u32::try_from(declared.len() - changes.len()).unwrap_or(u32::MAX);
    TablesPlan { changes, unchanged, undeclared, ..TablesPlan::default() }
}

/// What [`apply`] would do. It takes no lock, so registering goes on.
pub async fn plan(
    database: &Database,
    tables: Vec<TableDeclaration>,
    feeds: &[FeedDeclaration],
    time: Duration,
) -> Result<TablesPlan, DatabaseError> {
    let declared = complete(tables)?;
    let declared = &declared;
    dmap::check(feeds)?;
    database
        .run(time, |mut session| async move {
            let transaction = session.transaction().await?;
            let existing = existing(&transaction).await?;
            check_prefixes(declared, &existing)?;
            let mut plan = difference(declared, &existing);
            plan.feeds = dmap::plan(&transaction, feeds).await?;
            if !plan.changes.is_empty() {
                let mut after = existing;
                after.extend(declared.iter().map(|table| (table.name.clone(), table.clone())));
                count_objects(&transaction, &after, &mut plan).await?;
            }
            Ok(plan)
        })
        .await
}

/// Counts the objects that would become loads, and the loads that would go to another table.
async fn count_objects(
    transaction: &Transaction<'_>,
    after: &BTreeMap<String, Declared>,
    plan: &mut TablesPlan,
) -> Result<(), DatabaseError> {
    let table_of = |folder: &str| {
        let takers = after.values().filter(|table| table.takes(folder));
        takers.max_by_key(|table| table.prefix.len()).map(|table| table.name.as_str())
    };
    let number = |row: &Row, at: usize| Ok::<_, DatabaseError>(u64::try_from(row.try_get::<_, i64>(at)?).unwrap_or(0));
    let sql = "select folder_of(s3_key), count(*) from unregistered_objects where reason = 'no_table' group by 1";
    for row in transaction.query(sql, &[]).await? {
        if table_of(row.try_get(0)?).is_some() {
            plan.picked_up += number(&row, 1)?;
        }
    }
    let sql = "select folder_of(l.s3_key), t.name, count(*), count(*) filter (where l.lease = 0) \
        from cubic_loads as l join cubic_tables as t on t.id = l.table_id \
        where l.status in ('ready', 'ready_for_erroring') and is_unclaimed(l) group by 1, 2";
    for row in transaction.query(sql, &[]).await? {
        match table_of(row.try_get(0)?) {
            None => plan.set_aside += number(&row, 3)?,
            Some(table) if table != row.try_get::<_, &str>(1)? => plan.moved += number(&row, 2)?,
            Some(_) => {}
        }
    }
    Ok(())
}

/// Creates and changes tables as declared, in one transaction, and then gives objects to their tables as far as the time reaches.
pub async fn apply(
    database: &Database,
    tables: Vec<TableDeclaration>,
    feeds: &[FeedDeclaration],
    time: Duration,
) -> Result<TablesPlan, DatabaseError> {
    let (declared, begun) = (complete(tables)?, Instant::now());
    let declared = &declared;
    dmap::check(feeds)?;
    let mut plan = database
        .run(time, |mut session| async move {
            let transaction = session.transaction().await?;
            transaction.batch_execute("select pg_advisory_xact_lock(7236101)").await?;
            let existing = existing(&transaction).await?;
            check_prefixes(declared, &existing)?;
            let mut plan = difference(declared, &existing);
            plan.feeds = dmap::apply(&transaction, feeds).await?;
            let is_changed = |table: &&Declared| plan.changes.iter().any(|change| change.name == table.name);
            let changed: Vec<&Declared> = declared.iter().filter(is_changed).collect();
            for table in changed {
                write(&transaction, table).await?;
            }
            transaction.commit().await?;
            Ok(plan)
        })
        .await?;
    let left = time.saturating_sub(begun.elapsed());
    let settled = settle::settle(database, left.min(SETTLING), left).await?;
    plan.picked_up = settled.picked_up;
    plan.moved = settled.moved;
    plan.set_aside = settled.set_aside;
    plan.unsettled = settled.unsettled;
    info!(tables.changed = plan.changes.len(), feeds.changed = plan.feeds.changes.len(), "tables applied");
    Ok(plan)
}

/// A prefix belongs to one table, unless the table that has it is declared with another prefix in the same request.
fn check_prefixes(declared: &[Declared], existing: &BTreeMap<String, Declared>) -> Result<(), DatabaseError> {
    for table in declared {
        let owner = existing.values().find(|owner| owner.prefix == table.prefix && owner.name != table.name);
        if let Some(owner) = owner.filter(|owner| declared.iter().all(|table| table.name != owner.name)) {
            return Err(DatabaseError::Refused(format!(
                "table {:?}: the prefix {:?} belongs to the table {:?}; declare it under that name, or declare that table with \
                 another prefix",
                table.name, table.prefix, owner.name
            )));
        }
    }
    Ok(())
}

async fn existing(transaction: &Transaction<'_>) -> Result<BTreeMap<String, Declared>, DatabaseError> {
    let sql = "select t.name, t.s3_prefix, t.kind::text, t.is_active, s.snapshot_s3_key, t.max_attempts, \
          t.columns::text, t.on_misfit, t.expectation \
        from cubic_tables as t left join cubic_table_ods_snapshots as s on s.table_id = t.id";
    let mut tables = BTreeMap::new();
    for row in transaction.query(sql, &[]).await? {
        let name: String = row.try_get(0)?;
        let table = Declared {
            name: name.clone(),
            prefix: row.try_get(1)?,
            kind: row.try_get::<_, &str>(2)?.parse().map_err(|_| DatabaseError::Schema)?,
            active: row.try_get(3)?,
            snapshot_key: row.try_get(4)?,
            max_attempts: row.try_get(5)?,
            columns: database::json(&row, 6)?,
            on_misfit: row.try_get::<_, &str>(7)?.parse().map_err(|_| DatabaseError::Schema)?,
            expect: row.try_get(8)?,
        };
        tables.insert(name, table);
    }
    Ok(tables)
}

async fn write(transaction: &Transaction<'_>, table: &Declared) -> Result<(), DatabaseError> {
    let sql = "insert into cubic_tables as known \
          (name, s3_prefix, kind, is_active, max_attempts, columns, on_misfit, expectation, expectation_since) \
        values ($1, $2, $3::text::cubic_table_kind, $4, $5, $6::text::jsonb, $7, $8, \
          case when $8::text is not null then now() end) \
        on conflict (name) do update set s3_prefix = excluded.s3_prefix, kind = excluded.kind, \
        is_active = excluded.is_active, max_attempts = excluded.max_attempts, columns = excluded.columns, \
        on_misfit = excluded.on_misfit, expectation = excluded.expectation, \
        expectation_since = case when known.expectation is distinct from excluded.expectation \
          then excluded.expectation_since else known.expectation_since end, \
        updated_at = now() returning id";
    let columns = table.columns.as_ref().map(|columns| json!(columns).to_string());
    let (kind, on_misfit) = (table.kind.as_str(), table.on_misfit.as_str());
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&table.name, &table.prefix, &kind, &table.active, &table.max_attempts, &columns, &on_misfit, &table.expect];
    let id: i64 = transaction.query_one(sql, &parameters).await?.try_get(0)?;
    match &table.snapshot_key {
        Some(key) => {
            let sql = "insert into cubic_table_ods_snapshots (table_id, snapshot_s3_key) values ($1, $2) \
                on conflict (table_id) do update set snapshot_s3_key = excluded.snapshot_s3_key \
                where cubic_table_ods_snapshots.snapshot_s3_key <> excluded.snapshot_s3_key";
            transaction.execute(sql, &[&id, key]).await?;
        }
        None => {
            transaction.execute("delete from cubic_table_ods_snapshots where table_id = $1", &[&id]).await?;
        }
    }
    Ok(())
}

/// Lists every table with the number of its loads by status, by name.
pub async fn list(database: &Database, time: Duration) -> Result<TableList, DatabaseError> {
    database.run(time, |session| async move { list_with(session.client()?).await }).await
}

async fn list_with(client: &impl GenericClient) -> Result<TableList, DatabaseError> {
    let sql = "select t.name, t.s3_prefix, t.kind::text, t.is_active, s.snapshot_s3_key, s.snapshot, \
          l.status::text, coalesce(l.loads, 0), case when is_unfinished(l.status) then l.oldest end, \
          t.expectation, t.expectation_since, max(l.newest) over (partition by t.id), now() \
        from cubic_tables as t \
        left join cubic_table_ods_snapshots as s on s.table_id = t.id \
        left join (select table_id, status, count(*) as loads, min(s3_modified) as oldest, \
            max(s3_modified) as newest \
          from cubic_loads group by table_id, status) as l on l.table_id = t.id \
        order by t.name, l.status";
    let mut tables: Vec<Table> = Vec::new();
    for row in client.query(sql, &[]).await? {
        let name: String = row.try_get(0)?;
        if tables.last().is_none_or(|table| table.name != name) {
            let active = row.try_get(3)?;
            let expect: Option<String> = row.try_get(9)?;
            let newest = row.try_get(11)?;
            let (since, now) = (row.try_get(10)?, row.try_get(12)?);
            let expected = expect.as_deref().filter(|_| active);
            let late_since = expected.and_then(|expect| late_since(&name, expect, since, newest, now));
            tables.push(Table {
                name,
                prefix: row.try_get(1)?,
                kind: row.try_get::<_, &str>(2)?.parse().map_err(|_| DatabaseError::Schema)?,
                active,
                snapshot_key: row.try_get(4)?,
                snapshot: row.try_get(5)?,
                loads: Vec::new(),
                oldest_unfinished: None,
                expect,
                newest,
                late_since,
            });
        }
        let status: Option<&str> = row.try_get(6)?;
        if let (Some(table), Some(status)) = (tables.last_mut(), status) {
            let status: LoadStatus = status.parse().map_err(|_| DatabaseError::Schema)?;
            let loads: i64 = row.try_get(7)?;
            table.loads.push((status, u64::try_from(loads).unwrap_or(0)));
            let oldest: Option<Timestamp> = row.try_get(8)?;
            table.oldest_unfinished = table.oldest_unfinished.into_iter().chain(oldest).min();
        }
    }
    let sql = "select count(*) filter (where reason <> 'not_data'), count(*) filter (where reason = 'not_data') \
        from unregistered_objects";
    let row = client.query_one(sql, &[]).await?;
    let count = |column: usize| Ok::<_, DatabaseError>(u64::try_from(row.try_get::<_, i64>(column)?).unwrap_or(0));
    Ok(TableList { tables, unregistered_objects: count(0)?, objects_not_data: count(1)? })
}

/// The time by which a table expected an object that has not come, if there is one. `since`: when the expectation was
/// declared, which counts if there is no object yet.
fn late_since(
    table: &str,
    expect: &str,
    since: Option<Timestamp>,
    newest: Option<Timestamp>,
    now: Timestamp,
) -> Option<Timestamp> {
    let from = newest.or(since).unwrap_or(now);
    let expectation: Expectation = match expect.parse() {
        Ok(expectation) => expectation,
        // Nobody can say that the table is in time.
        Err(cause) => {
            warn!(%cause, table, "the expectation of a table cannot be read, so it counts as late");
            return Some(from);
        }
    };
    expectation.due_after(from).filter(|due| *due < now)
}

/// Number of active tables without an object that they expected.
pub async fn late(database: &Database, time: Duration) -> Result<usize, DatabaseError> {
    let sql = "select t.name, t.expectation, t.expectation_since, newest.s3_modified, now() from cubic_tables as t \
        left join lateral (select s3_modified from cubic_loads where table_id = t.id \
          order by s3_modified desc, id desc limit 1) as newest on true \
        where t.is_active and t.expectation is not null";
    database
        .run(time, |session| async move {
            let mut late = 0;
            for row in session.client()?.query(sql, &[]).await? {
                let since =
                    late_since(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
                late += usize::from(since.is_some());
            }
            Ok(late)
        })
        .await
}

/// The id of the table, which has to exist.
pub async fn id_of(client: &impl GenericClient, name: &str) -> Result<i64, DatabaseError> {
    if let Some(row) = client.query_opt("select id from cubic_tables where name = $1", &[&name]).await? {
        return Ok(row.try_get(0)?);
    }
    let rows = client.query("select name from cubic_tables order by name", &[]).await?;
    let known: Vec<String> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    Err(DatabaseError::Refused(match known.is_empty() {
        true => format!("there is no table {name}; declare tables in a file and run `landfall tables apply`"),
        false => format!("there is no table {name}; there are {}", failure::some_of(&known)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn declaration(prefix: &str, kind: TableKind) -> TableDeclaration {
        TableDeclaration {
            name: None,
            prefix: prefix.to_owned(),
            kind,
            snapshot_key: None,
            active: true,
            max_attempts: None,
            columns: None,
            on_misfit: OnMisfit::Quarantine,
            expect: None,
        }
    }

    #[test]
    fn what_is_left_out_gets_its_default() {
        let tables = complete(vec![declaration("cubic/ods_qlik/EDW.SAMPLE/", TableKind::Ods)]).unwrap();
        assert_eq!(tables[0].name, "cubic__ods_qlik__edw_sample");
        assert_eq!(tables[0].snapshot_key.as_deref(), Some("cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz"));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let snapshot_key = Some("elsewhere/LOAD001.csv.gz".to_owned());
        let named = |name: &str| TableDeclaration { name: Some(name.into()), ..declaration("a/", TableKind::Dmap) };
        for (tables, says) in [
            (vec![declaration("a/b", TableKind::Dmap)], "folders, each followed by a /"),
            (vec![declaration("/a/", TableKind::Dmap)], "folders, each followed by a /"),
            (vec![declaration("a//b/", TableKind::Dmap)], "folders, each followed by a /"),
            (vec![declaration("ods/A__ct/", TableKind::Ods)], "without __ct"),
            (vec![named("Robert'); drop table")], "is not 1 to 255 of the characters"),
            (vec![declaration("a/", TableKind::Dmap), declaration("a/", TableKind::Dms)], "declared twice"),
            (
                vec![TableDeclaration { snapshot_key: snapshot_key.clone(), ..declaration("a/", TableKind::Ods) }],
                "is not under the prefix",
            ),
            (
                vec![TableDeclaration { snapshot_key, ..declaration("a/", TableKind::Dms) }],
                "only tables of kind ods have a snapshot_key",
            ),
        ] {
            let error = complete(tables).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_plan_is_the_difference_and_nothing_else() {
        let declared = complete(vec![
            declaration("ods/A/", TableKind::Ods),
            declaration("dmap/b/", TableKind::Dmap),
            declaration("dms/c/", TableKind::Dms),
        ])
        .unwrap();
        let mut existing: BTreeMap<String, Declared> =
            declared.iter().skip(1).map(|table| (table.name.clone(), table.clone())).collect();
        existing.get_mut("dms__c").unwrap().active = false;
        existing.insert("old".into(), Declared { name: "old".into(), ..declared[1].clone() });
        let plan = difference(&declared, &existing);
        assert_eq!(plan.unchanged, 1);
        assert_eq!(plan.undeclared, ["old"]);
        let changes: Vec<_> = plan.changes.iter().map(|change| (change.name.as_str(), change.create)).collect();
        assert_eq!(changes, [("dms__c", false), ("ods__a", true)]);
        let change = &plan.changes[0].fields[0];
        assert_eq!(
            (change.field.as_str(), change.from.as_deref(), change.to.as_deref()),
            ("active", Some("false"), Some("true"))
        );
        assert_eq!(
            difference(&declared, &declared.iter().map(|table| (table.name.clone(), table.clone())).collect()).changes,
            []
        );
    }
}
