//! Lists loads, claims them for a job, and sets their status.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use shared::registrar::{Load, LoadList, LoadPosition, LoadStatus};
use tokio_postgres::{Row, Transaction, types::ToSql};

use crate::{
    database::{Database, DatabaseError},
    page, tables,
};

const COLUMNS: &str = "l.id, t.name, l.is_changes, l.status::text, l.status_reason, l.s3_key, l.s3_modified, l.s3_size, \
    o.snapshot, l.leased_by, l.leased_until";

const FROM: &str = "from cubic_loads as l join cubic_tables as t on t.id = l.table_id \
    left join cubic_load_ods_snapshots as o on o.load_id = l.id";

/// Which loads to list. Each condition that is given has to hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Name of the table.
    pub table: Option<String>,
    /// Current status.
    pub status: Option<LoadStatus>,
    /// Earliest time at which the object was modified.
    pub since: Option<Timestamp>,
    /// Position after which the page starts.
    pub after: Option<LoadPosition>,
}

fn load(row: &Row) -> Result<Load, DatabaseError> {
    Ok(Load {
        id: row.try_get(0)?,
        table: row.try_get(1)?,
        changes: row.try_get(2)?,
        status: row.try_get::<_, &str>(3)?.parse().map_err(|_| DatabaseError::Schema)?,
        status_reason: row.try_get(4)?,
        s3_key: row.try_get(5)?,
        s3_modified: row.try_get(6)?,
        s3_size: row.try_get(7)?,
        snapshot: row.try_get(8)?,
        leased_by: row.try_get(9)?,
        leased_until: row.try_get(10)?,
    })
}

/// Lists loads, the oldest object first.
pub async fn list(database: &Database, filter: &Filter, limit: u32, time: Duration) -> Result<LoadList, DatabaseError> {
    let limit = page::checked(limit)?;
    database
        .run(time, |session| async move {
            if let Some(table) = &filter.table {
                tables::id_of(session.client()?, table).await?;
            }
            let (status, after) = (filter.status.map(LoadStatus::as_str), filter.after.as_ref());
            let (after_time, after_id) = (after.map(|after| after.s3_modified), after.map(|after| after.id));
            let sql = format!(
                "select {COLUMNS} {FROM} where ($1::text is null or t.name = $1) \
                     and ($2::text is null or l.status = $2::text::cubic_load_status) \
                     and ($3::timestamptz is null or l.s3_modified >= $3) \
                     and ($4::timestamptz is null or (l.s3_modified, l.id) > ($4, $5::bigint)) \
                     order by l.s3_modified, l.id limit $6"
            );
            let parameters: [&(dyn ToSql + Sync); 6] =
                [&filter.table, &status, &filter.since, &after_time, &after_id, &(limit + 1)];
            let mut loads: Vec<Load> =
                session.client()?.query(&sql, &parameters).await?.iter().map(load).collect::<Result<_, _>>()?;
            let more = page::cut(&mut loads, limit);
            let last = loads.last().filter(|_| more);
            let next = last.map(|last| LoadPosition { s3_modified: last.s3_modified, id: last.id });
            Ok(LoadList { loads, next })
        })
        .await
}

/// Sets the status of loads, all or none.
pub async fn set_status(
    database: &Database,
    ids: &[i64],
    status: LoadStatus,
    reason: Option<&str>,
    by: &str,
    time: Duration,
) -> Result<LoadList, DatabaseError> {
    if ids.is_empty() || ids.len() > page::MAX_ROWS as usize {
        return Err(DatabaseError::Refused(format!(
            "{} loads are named; it must be 1 to {}",
            ids.len(),
            page::MAX_ROWS
        )));
    }
    // Not retried when the answer is lost: the second time, it would be an illegal step.
    database
        .attempt(time, |mut session| async move {
            let transaction = session.transaction().await?;
            set_author(&transaction, by, reason).await?;
            let lock = "select id from cubic_loads where id = any ($1) order by id for update";
            let found: HashSet<i64> =
                transaction.query(lock, &[&ids]).await?.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            if let Some(unknown) = ids.iter().find(|id| !found.contains(id)) {
                return Err(DatabaseError::Refused(format!("there is no load {unknown}; nothing was changed")));
            }
            let update = "update cubic_loads set status = $2::text::cubic_load_status, \
                    status_reason = coalesce($3, status_reason), leased_by = null, leased_until = null \
                    where id = any ($1)";
            transaction.execute(update, &[&ids, &status.as_str(), &reason]).await?;
            let loads = loads_of(&transaction, ids).await?;
            transaction.commit().await?;
            Ok(LoadList { loads, next: None })
        })
        .await
}

/// Claims the oldest loads of a table that are ready or whose lease has expired. Concurrent jobs get different loads.
pub async fn next(
    database: &Database,
    table: &str,
    limit: u32,
    lease_seconds: u32,
    by: &str,
    time: Duration,
) -> Result<LoadList, DatabaseError> {
    let limit = page::checked(limit)?;
    if lease_seconds == 0 || by.is_empty() {
        return Err(DatabaseError::Refused(
            "a lease takes at least one second and the name of the job that claims".to_owned(),
        ));
    }
    // Not retried when the answer is lost: the claimed loads become free again when their lease expires.
    database
        .attempt(time, |mut session| async move {
            let transaction = session.transaction().await?;
            let table_id = tables::id_of(&transaction, table).await?;
            set_author(&transaction, by, None).await?;
            let claim = "with claimed as ( \
                      select id from cubic_loads where table_id = $1 and status in ('ready', 'ingesting') \
                        and (status = 'ready' or leased_until < now()) \
                      order by s3_modified, id limit $2 for update skip locked) \
                    update cubic_loads as l set status = 'ingesting', leased_by = $3, \
                      leased_until = now() + make_interval(secs => $4::int) \
                    from claimed where l.id = claimed.id returning l.id";
            let seconds = i32::try_from(lease_seconds).unwrap_or(i32::MAX);
            let parameters: [&(dyn ToSql + Sync); 4] = [&table_id, &limit, &by, &seconds];
            let claimed = transaction.query(claim, &parameters).await?;
            let ids: Vec<i64> = claimed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            let loads = loads_of(&transaction, &ids).await?;
            transaction.commit().await?;
            Ok(LoadList { loads, next: None })
        })
        .await
}

async fn loads_of(transaction: &Transaction<'_>, ids: &[i64]) -> Result<Vec<Load>, DatabaseError> {
    let sql = format!("select {COLUMNS} {FROM} where l.id = any ($1) order by l.s3_modified, l.id");
    transaction.query(&sql, &[&ids]).await?.iter().map(load).collect()
}

/// Sets what the audit log records with every change of the transaction.
async fn set_author(transaction: &Transaction<'_>, by: &str, reason: Option<&str>) -> Result<(), DatabaseError> {
    let sql = "select set_config('landfall.by', $1, true), set_config('landfall.reason', coalesce($2, ''), true)";
    transaction.execute(sql, &[&by, &reason]).await?;
    Ok(())
}
