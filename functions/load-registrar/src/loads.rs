//! Lists loads, claims them for a job, renews leases, and sets statuses. The database refuses what a lease does not allow.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;
use shared::registrar::{Load, LoadList, LoadPosition, LoadRef, LoadStatus, LoadsMoved, Step};
use tokio_postgres::{Row, Transaction, types::ToSql};

use crate::{
    app::App,
    database::{self, DatabaseError},
    page, tables,
};

const COLUMNS: &str = "l.id, t.name, l.is_changes, l.status::text, l.status_reason, l.s3_key, l.s3_modified, l.s3_size, \
    l.s3_etag, l.s3_version, o.snapshot, l.lease, l.attempts, l.leased_by, l.leased_until, place_for_job(l), \
    (select p.place from cubic_load_places as p where p.load_id = l.id and p.is_complete), \
    array(select distinct p.place from cubic_load_places as p where p.load_id = l.id order by 1), \
    t.kind::text, t.columns::text, t.on_misfit, l.result::text";

const FROM: &str = "from cubic_loads as l join cubic_tables as t on t.id = l.table_id \
    left join cubic_load_ods_snapshots as o on o.load_id = l.id";

/// Most loads that a command names.
const PAGE: usize = page::MAX_ROWS as usize;

/// Why loads are not moved away at once: a snapshot may come late, a job for large objects may take the load, and a person may mend
/// what kept it from being ingested.
const MAY_RECOVER: &str = "coalesce(l.status_reason, '') in ('no_snapshot', 'too_large', 'attempts_exhausted')";
/// How long these loads wait.
const RECOVERS_WITHIN: &str = "interval '1 day'";

/// Which loads to list. Each condition that is given has to hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Name of the table.
    pub table: Option<String>,
    /// Current status.
    pub status: Option<LoadStatus>,
    /// Earliest time at which the object was modified.
    pub since: Option<Timestamp>,
    /// Whether files are in another folder than they belong in.
    pub displaced: bool,
    /// Keys of their objects; of any when empty.
    pub keys: Vec<String>,
    /// Position after which the page starts.
    pub after: Option<LoadPosition>,
}

/// What a job does with loads, as the database has it.
struct StepSql {
    /// The status in which loads wait for it.
    waiting: LoadStatus,
    /// The status of loads that a job has claimed for it.
    claimed: LoadStatus,
}

impl StepSql {
    const fn of(step: Step) -> Self {
        let (waiting, claimed) = match step {
            Step::Ingest => (LoadStatus::Ready, LoadStatus::Ingesting),
            Step::Archive => (LoadStatus::ReadyForArchiving, LoadStatus::Archiving),
            Step::Error => (LoadStatus::ReadyForErroring, LoadStatus::Erroring),
        };
        Self { waiting, claimed }
    }

    /// Claims the loads that wait, and those whose lease has expired. The statuses are literals, so that the partial indexes of them
    /// are used.
    fn claim(&self) -> String {
        let Self { waiting, claimed } = self;
        format!(
            "with claimable as ( \
               select l.id from cubic_loads as l join cubic_tables as t on t.id = l.table_id \
               where l.status in ('{waiting}', '{claimed}') \
                 and (l.status = '{waiting}' or l.leased_until <= clock_timestamp()) \
                 and ($1::bigint is null and t.is_active or l.table_id = $1) \
                 and (l.id = any ($2) or $2::bigint[] = '{{}}' \
                   and (not {MAY_RECOVER} or l.updated_at < now() - {RECOVERS_WITHIN})) \
               order by l.s3_modified, l.id limit $3 for update of l skip locked) \
             update cubic_loads as l set status = '{claimed}', leased_by = $4, \
               leased_until = clock_timestamp() + make_interval(secs => $5::int) \
             from claimable where l.id = claimable.id returning l.id"
        )
    }
}

/// Loads whose lease has expired once too often are not claimed again.
const GIVE_UP: &str = "with exhausted as ( \
      select l.id from cubic_loads as l join cubic_tables as t on t.id = l.table_id \
      where l.status = 'ingesting' and l.leased_until <= clock_timestamp() \
        and l.attempts >= t.max_attempts and ($1::bigint is null or l.table_id = $1) \
        and ($2::bigint[] = '{}' or l.id = any ($2)) \
      for update of l skip locked) \
    update cubic_loads as l set status = 'ready_for_erroring', status_reason = 'attempts_exhausted' \
    from exhausted where l.id = exhausted.id";

/// Reads a row of [`COLUMNS`].
fn load(row: &Row, bucket: &str) -> Result<Load, DatabaseError> {
    Ok(Load {
        id: row.try_get(0)?,
        table: row.try_get(1)?,
        changes: row.try_get(2)?,
        status: row.try_get::<_, &str>(3)?.parse().map_err(|_| DatabaseError::Schema)?,
        status_reason: row.try_get(4)?,
        s3_bucket: bucket.to_owned(),
        s3_key: row.try_get(5)?,
        s3_modified: row.try_get(6)?,
        s3_size: row.try_get(7)?,
        s3_etag: row.try_get(8)?,
        s3_version: row.try_get(9)?,
        snapshot: row.try_get(10)?,
        lease: row.try_get(11)?,
        attempts: row.try_get(12)?,
        leased_by: row.try_get(13)?,
        leased_until: row.try_get(14)?,
        place: row.try_get(15)?,
        complete_in: row.try_get(16)?,
        places: row.try_get(17)?,
        kind: row.try_get::<_, &str>(18)?.parse().map_err(|_| DatabaseError::Schema)?,
        columns: database::json(row, 19)?,
        on_misfit: row.try_get::<_, &str>(20)?.parse().map_err(|_| DatabaseError::Schema)?,
        result: database::json(row, 21)?,
    })
}

/// Lists loads, the oldest object first.
pub async fn list(app: &App, filter: &Filter, limit: u32, time: Duration) -> Result<LoadList, DatabaseError> {
    let limit = page::checked(limit)?;
    app.database
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
                     and (not $7 or is_displaced(l)) and (cardinality($8::text[]) = 0 or l.s3_key = any ($8)) \
                     order by l.s3_modified, l.id limit $6"
            );
            let parameters: [&(dyn ToSql + Sync); 8] = [
                &filter.table,
                &status,
                &filter.since,
                &after_time,
                &after_id,
                &(limit + 1),
                &filter.displaced,
                &filter.keys,
            ];
            let rows = session.client()?.query(&sql, &parameters).await?;
            let mut loads = loads(&rows, &app.config.incoming_bucket)?;
            let more = page::cut(&mut loads, limit);
            let last = loads.last().filter(|_| more);
            let next = last.map(|last| LoadPosition { s3_modified: last.s3_modified, id: last.id });
            Ok(LoadList { loads, next })
        })
        .await
}

/// A change of statuses.
#[derive(Debug)]
pub struct Move<'a> {
    pub loads: &'a [LoadRef],
    pub to: LoadStatus,
    pub reason: Option<&'a str>,
    pub by: &'a str,
    /// Whether loads whose lease is not named are taken away from the job that holds it.
    pub revoke: bool,
}

/// Sets the status of loads, all or none. A step that was made before changes nothing.
pub async fn set_status(app: &App, change: &Move<'_>, time: Duration) -> Result<LoadsMoved, DatabaseError> {
    check_number(change.loads.len())?;
    app.database
        .run(time, |mut session| async move {
            let transaction = session.transaction().await?;
            set_author(&transaction, change.by, change.reason).await?;
            lock(&transaction, change.loads).await?;
            let unchanged = made_before(&transaction, change).await?;
            let left = || change.loads.iter().filter(|load| !unchanged.contains(&load.id));
            let (ids, leases) = columns(left());
            let results: Vec<Option<String>> =
                left().map(|load| Some(json!(load.result.as_ref()?).to_string())).collect();
            let revoke = if change.revoke { "on" } else { "" };
            transaction.execute("select set_config('landfall.revoke', $1, true)", &[&revoke]).await?;
            let update = "update cubic_loads as l set status = $3::text::cubic_load_status, \
                    status_reason = coalesce($4, status_reason), by_lease = named.lease, \
                    result = coalesce(named.result::jsonb, l.result) \
                    from unnest($1::bigint[], $2::bigint[], $5::text[]) as named (id, lease, result) \
                    where l.id = named.id";
            transaction.execute(update, &[&ids, &leases, &change.to.as_str(), &change.reason, &results]).await?;
            let all: Vec<i64> = change.loads.iter().map(|load| load.id).collect();
            let loads = loads_of(&transaction, &all, &app.config.incoming_bucket).await?;
            transaction.commit().await?;
            Ok(LoadsMoved { loads, unchanged: unchanged.into_iter().collect() })
        })
        .await
}

/// What a job asks for.
#[derive(Debug)]
pub struct Claim<'a> {
    /// Only loads of this table, which must exist.
    pub table: Option<&'a str>,
    /// Only these loads; all when empty.
    pub loads: &'a [i64],
    pub step: Step,
    pub limit: u32,
    pub lease_seconds: u32,
    pub by: &'a str,
    /// Whether they go into a queue, from which jobs [`begin`] with them.
    pub queued: bool,
}

/// Claims the oldest loads that wait for a job or whose lease has expired. Concurrent jobs get different loads.
pub async fn next(app: &App, claim: &Claim<'_>, time: Duration) -> Result<LoadList, DatabaseError> {
    let limit = page::checked(claim.limit)?;
    let seconds = lease_seconds(claim.lease_seconds)?;
    if claim.by.is_empty() {
        return Err(DatabaseError::Refused("a lease takes the name of the job that claims".to_owned()));
    }
    // Not retried when the answer is lost: the claimed loads become free again when their lease expires.
    app.database
        .attempt(time, |mut session| async move {
            let transaction = session.transaction().await?;
            let table = match claim.table {
                Some(table) => Some(tables::id_of(&transaction, table).await?),
                None => None,
            };
            set_author(&transaction, claim.by, None).await?;
            if claim.step == Step::Ingest {
                transaction.execute(GIVE_UP, &[&table, &claim.loads]).await?;
            }
            let queued = if claim.queued { "on" } else { "" };
            transaction.execute("select set_config('landfall.queued', $1, true)", &[&queued]).await?;
            let parameters: [&(dyn ToSql + Sync); 5] = [&table, &claim.loads, &limit, &claim.by, &seconds];
            let claimed = transaction.query(&StepSql::of(claim.step).claim(), &parameters).await?;
            let ids: Vec<i64> = claimed.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
            let loads = loads_of(&transaction, &ids, &app.config.incoming_bucket).await?;
            transaction.commit().await?;
            Ok(LoadList { loads, next: None })
        })
        .await
}

/// Begins to work on loads that were claimed for a queue, all or none. Each gets another lease, so only one job can begin.
pub async fn begin(
    app: &App,
    loads: &[LoadRef],
    lease_seconds: u32,
    by: &str,
    time: Duration,
) -> Result<LoadList, DatabaseError> {
    let update = "update cubic_loads as l set by_lease = named.lease, is_queued = false, leased_by = $4, \
            leased_until = clock_timestamp() + make_interval(secs => $3::int) \
            from unnest($1::bigint[], $2::bigint[]) as named (id, lease) where l.id = named.id";
    check_leases(loads)?;
    let seconds = self::lease_seconds(lease_seconds)?;
    let (ids, leases) = columns(loads);
    let (ids, leases) = (&ids, &leases);
    // Not retried when the answer is lost: the lease that is named has ended then.
    app.database
        .attempt(time, |mut session| async move {
            let transaction = session.transaction().await?;
            set_author(&transaction, by, None).await?;
            lock(&transaction, loads).await?;
            let begun = "select id from cubic_loads where id = any ($1) and not is_queued order by id limit 1";
            if let Some(row) = transaction.query_opt(begun, &[ids]).await? {
                let id: i64 = row.try_get(0)?;
                return Err(DatabaseError::Refused(format!("load {id} does not wait in a queue; nothing was changed")));
            }
            // While it waited, a table may have been declared that it belongs to. It is settled as if it had never been claimed.
            let moved = "update cubic_loads as l set status = 'ready', by_lease = named.lease \
                    from unnest($1::bigint[], $2::bigint[]) as named (id, lease) where l.id = named.id \
                    and l.status = 'ingesting' and table_of(folder_of(l.s3_key)) is distinct from l.table_id returning l.id";
            if let Some(row) = transaction.query(moved, &[ids, leases]).await?.first() {
                let id: i64 = row.try_get(0)?;
                transaction.commit().await?;
                return Err(DatabaseError::Refused(format!("load {id} belongs to another table now")));
            }
            transaction.execute(update, &[ids, leases, &seconds, &by]).await?;
            let loads = loads_of(&transaction, ids, &app.config.incoming_bucket).await?;
            transaction.commit().await?;
            Ok(LoadList { loads, next: None })
        })
        .await
}

/// Renews leases, all or none.
pub async fn renew(
    app: &App,
    loads: &[LoadRef],
    lease_seconds: u32,
    time: Duration,
) -> Result<LoadList, DatabaseError> {
    check_leases(loads)?;
    let seconds = self::lease_seconds(lease_seconds)?;
    let (ids, leases) = columns(loads);
    let (ids, leases) = (&ids, &leases);
    app.database
        .run(time, |mut session| async move {
            let transaction = session.transaction().await?;
            lock(&transaction, loads).await?;
            let update = "update cubic_loads as l set by_lease = named.lease, \
                    leased_until = clock_timestamp() + make_interval(secs => $3::int) \
                    from unnest($1::bigint[], $2::bigint[]) as named (id, lease) where l.id = named.id";
            transaction.execute(update, &[ids, leases, &seconds]).await?;
            let loads = loads_of(&transaction, ids, &app.config.incoming_bucket).await?;
            transaction.commit().await?;
            Ok(LoadList { loads, next: None })
        })
        .await
}

/// Checks that there are not too many loads, and that a lease of each is named.
fn check_leases(loads: &[LoadRef]) -> Result<(), DatabaseError> {
    check_number(loads.len())?;
    match loads.iter().find(|load| load.lease.is_none()) {
        None => Ok(()),
        Some(load) => Err(DatabaseError::Refused(format!("this takes leases, and none is named of load {}", load.id))),
    }
}

fn check_number(loads: usize) -> Result<(), DatabaseError> {
    match loads {
        1..=PAGE => Ok(()),
        _ => Err(DatabaseError::Refused(format!("{loads} loads are named; it must be 1 to {}", page::MAX_ROWS))),
    }
}

fn lease_seconds(seconds: u32) -> Result<i32, DatabaseError> {
    match i32::try_from(seconds) {
        Ok(seconds @ 1..) => Ok(seconds),
        _ => Err(DatabaseError::Refused(format!("lease_seconds is {seconds}; it must be from 1 to {}", i32::MAX))),
    }
}

/// Ids and leases, as parameters of a statement.
fn columns<'a>(loads: impl IntoIterator<Item = &'a LoadRef>) -> (Vec<i64>, Vec<Option<i64>>) {
    loads.into_iter().map(|load| (load.id, load.lease)).unzip()
}

/// Locks loads in the order of their ids, so that concurrent changes do not deadlock. All have to exist.
async fn lock(transaction: &Transaction<'_>, loads: &[LoadRef]) -> Result<(), DatabaseError> {
    let (ids, _) = columns(loads);
    let sql = "select id from cubic_loads where id = any ($1) order by id for update";
    let found = transaction.query(sql, &[&ids]).await?;
    let found: HashSet<i64> = found.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    match ids.iter().find(|id| !found.contains(id)) {
        Some(unknown) => Err(DatabaseError::Refused(format!("there is no load {unknown}; nothing was changed"))),
        None => Ok(()),
    }
}

/// The loads that the same lease has moved to the same status before, and, where no lease is named, those that have it.
async fn made_before(transaction: &Transaction<'_>, change: &Move<'_>) -> Result<BTreeSet<i64>, DatabaseError> {
    let (ids, leases) = columns(change.loads);
    let sql = "select l.id from unnest($1::bigint[], $2::bigint[]) as named (id, lease) \
        join cubic_loads as l on l.id = named.id \
        where named.lease is null and l.status = $3::text::cubic_load_status \
          or exists (select from cubic_load_transitions as step where step.load_id = named.id \
            and step.lease = named.lease and step.to_status = $3::text::cubic_load_status \
            and step.from_status <> step.to_status)";
    let rows = transaction.query(sql, &[&ids, &leases, &change.to.as_str()]).await?;
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

fn loads(rows: &[Row], bucket: &str) -> Result<Vec<Load>, DatabaseError> {
    rows.iter().map(|row| load(row, bucket)).collect()
}

async fn loads_of(transaction: &Transaction<'_>, ids: &[i64], bucket: &str) -> Result<Vec<Load>, DatabaseError> {
    let sql = format!("select {COLUMNS} {FROM} where l.id = any ($1) order by l.s3_modified, l.id");
    loads(&transaction.query(&sql, &[&ids]).await?, bucket)
}

/// Sets what the audit log records with every change of the transaction.
async fn set_author(transaction: &Transaction<'_>, by: &str, reason: Option<&str>) -> Result<(), DatabaseError> {
    let sql = "select set_config('landfall.by', $1, true), set_config('landfall.reason', coalesce($2, ''), true)";
    transaction.execute(sql, &[&by, &reason]).await?;
    Ok(())
}
