//! Compares the bucket with the loads, page by page, so that memory does not grow with either.
//!
//! Objects that are no loads yet are registered as if a notification had announced them: listings and HEAD report the
//! same times and ETags. Loads whose object is gone are reported and left as they are.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runtime::{failure::cause, metrics};
use shared::{
    metrics::{Metrics, Unit},
    registrar::{Difference, Differing, ReconcilePosition, Reconciliation},
};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::{
    FUNCTION,
    app::App,
    database::DatabaseError,
    object::{Object, is_data},
    register, settle, tables, unregistered,
};

/// Maximum number of differences that are listed. All of them are counted.
const MAX_DIFFERENCES: usize = 1_000;

/// A notification that has not come for this long is lost. Most take seconds.
const NOTIFIED: SignedDuration = SignedDuration::from_mins(15);

/// Why the comparison failed.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("s3://{bucket}/{prefix} could not be listed: {cause}")]
    List { bucket: String, prefix: String, cause: String },
}

/// A page of a listing, in the order of keys.
struct Page {
    /// Objects that hold data.
    data: Vec<Object>,
    /// Objects that do not.
    others: Vec<Object>,
    /// The last key of the page. `None` on the last page of the prefix.
    last: Option<String>,
}

/// Compares the objects under `prefix`, or under the prefixes of all active tables, and begins no page after `paging`. A page
/// may take until `time` is over.
///
/// A `prefix` or a position `after` that lies under no active table is refused.
pub async fn reconcile(
    app: &App,
    prefix: Option<&str>,
    dry_run: bool,
    after: Option<ReconcilePosition>,
    (paging, time): (Duration, Duration),
) -> Result<Reconciliation, ReconcileError> {
    let active = active_prefixes(app, time).await?;
    let prefixes = to_list(&active, prefix);
    let unknown = match (&after, prefix) {
        (Some(after), _) if !prefixes.contains(&after.prefix) => Some(after.prefix.as_str()),
        (_, prefix) if prefixes.is_empty() => prefix,
        _ => None,
    };
    if let Some(unknown) = unknown {
        return Err(DatabaseError::Refused(match active.is_empty() {
            true => format!("no active table has the prefix {unknown}; no table is active"),
            false => format!("no active table has the prefix {unknown}; there are {}", tables::some_of(&active)),
        })
        .into());
    }
    compare_all(app, prefixes, dry_run, after, (paging, time)).await
}

/// Compares the objects under prefixes, which are in order, from the position `after` on. What was found is reported even if a
/// later page fails.
async fn compare_all(
    app: &App,
    prefixes: Vec<String>,
    dry_run: bool,
    after: Option<ReconcilePosition>,
    times: (Duration, Duration),
) -> Result<Reconciliation, ReconcileError> {
    let (mut result, mut overdue) = (Reconciliation::default(), 0);
    let compared = compare_pages(app, prefixes, dry_run, after, times, &mut result, &mut overdue).await;
    report(&app.config.stack, &result, overdue, dry_run);
    compared.map(|()| result)
}

async fn compare_pages(
    app: &App,
    prefixes: Vec<String>,
    dry_run: bool,
    after: Option<ReconcilePosition>,
    (paging, time): (Duration, Duration),
    result: &mut Reconciliation,
    overdue: &mut u64,
) -> Result<(), ReconcileError> {
    let until = Instant::now() + paging;
    let mut pages = 0;
    let mut from = after.as_ref().map(|after| after.key.clone()).unwrap_or_default();
    for prefix in prefixes {
        match &after {
            Some(after) if prefix < after.prefix => continue,
            Some(after) if prefix > after.prefix => from.clear(),
            _ => {}
        }
        loop {
            if Instant::now() >= until && pages > 0 {
                result.next = Some(ReconcilePosition { prefix, key: from });
                return Ok(());
            }
            let compared = compare(app, &prefix, &from, dry_run, time, result).await?;
            pages += 1;
            *overdue += compared.overdue;
            match compared.last {
                Some(last) => from = last,
                None => break,
            }
        }
        from.clear();
    }
    Ok(())
}

/// Reconciles on a schedule, and counts it as a metric if that fails.
pub async fn scheduled(app: &App, time: Duration) -> Result<Reconciliation, ReconcileError> {
    let begun = Instant::now();
    if let Err(cause) = settle::settle(&app.database, time / 4, time / 2).await {
        warn!(%cause, "objects could not be given to their tables; the next reconciliation goes on");
    }
    let result = resume(app, time.saturating_sub(begun.elapsed())).await;
    let failed = Metrics::of(&app.config.stack, FUNCTION);
    metrics::print([failed.put("reconciliations_failed", Unit::Count, usize::from(result.is_err()))]);
    result
}

/// Resumes where the last invocation ran out of time, even if that table is active no longer.
async fn resume(app: &App, time: Duration) -> Result<Reconciliation, ReconcileError> {
    let after = app
        .database
        .run(time, |session| async move {
            let row = session.client()?.query_opt("select prefix, key from reconcile_position", &[]).await?;
            let position = |row: tokio_postgres::Row| -> Result<_, DatabaseError> {
                Ok(ReconcilePosition { prefix: row.try_get(0)?, key: row.try_get(1)? })
            };
            row.map(position).transpose()
        })
        .await?;
    let prefixes = to_list(&active_prefixes(app, time).await?, None);
    // A quarter of the time is left for the page that is in progress and for the checkpoint.
    let result = compare_all(app, prefixes, false, after, (time / 4 * 3, time)).await?;
    app.database
        .run(time, |session| {
            let next = &result.next;
            async move {
                match next {
                    Some(next) => {
                        let sql = "insert into reconcile_position (prefix, key) values ($1, $2) \
                            on conflict (only_row) do update set prefix = $1, key = $2, updated_at = now()";
                        session.client()?.execute(sql, &[&next.prefix, &next.key]).await?;
                    }
                    None => {
                        session.client()?.execute("delete from reconcile_position", &[]).await?;
                    }
                }
                Ok(())
            }
        })
        .await?;
    let age = oldest_unfinished(app, time).await?;
    let oldest = Metrics::of(&app.config.stack, FUNCTION).put("oldest_unfinished_age", Unit::Seconds, age);
    metrics::print([oldest]);
    Ok(result)
}

/// How long ago the oldest load was registered that has steps left to take; zero if there is none.
async fn oldest_unfinished(app: &App, time: Duration) -> Result<Duration, DatabaseError> {
    let sql = "select coalesce(max(extract(epoch from now() - oldest.inserted_at)), 0)::float8 \
        from unnest(enum_range(null::cubic_load_status)) as of (status) cross join lateral \
          (select inserted_at from cubic_loads where status = of.status order by inserted_at limit 1) oldest \
        where is_unfinished(of.status)";
    let seconds: f64 = app
        .database
        .run(time, |session| async move { Ok(session.client()?.query_one(sql, &[]).await?.try_get(0)?) })
        .await?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// The prefixes of the active tables' objects, in order.
async fn active_prefixes(app: &App, time: Duration) -> Result<Vec<String>, DatabaseError> {
    let sql = "select s3_prefix from cubic_tables where is_active \
        union select changes_prefix(s3_prefix) from cubic_tables where is_active and kind = 'ods' order by 1";
    app.database
        .run(time, |session| async move {
            let rows = session.client()?.query(sql, &[]).await?;
            Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
        })
        .await
}

/// The prefixes to list: the active ones as far as they are under `wanted`, in order and without overlaps. Pure.
fn to_list(active: &[String], wanted: Option<&str>) -> Vec<String> {
    let wanted = wanted.unwrap_or_default();
    let mut prefixes: Vec<String> = active
        .iter()
        .filter_map(|prefix| match () {
            () if prefix.starts_with(wanted) => Some(prefix.clone()),
            () if wanted.starts_with(prefix) => Some(wanted.to_owned()),
            () => None,
        })
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
    prefixes
}

/// One page after it was compared.
struct Compared {
    /// Its last key, or `None` if it is the last page of the prefix.
    last: Option<String>,
    /// Objects without a load that are older than [`NOTIFIED`].
    overdue: u64,
}

/// Compares one page.
async fn compare(
    app: &App,
    prefix: &str,
    from: &str,
    dry_run: bool,
    time: Duration,
    result: &mut Reconciliation,
) -> Result<Compared, ReconcileError> {
    // A load that is registered after the bucket was listed is no phantom. The database's clock is the one that stamps
    // loads, so it stamps the listing too.
    let listed_at: Timestamp = app
        .database
        .run(time, |session| async move {
            Ok(session.client()?.query_one("select clock_timestamp()", &[]).await?.try_get(0)?)
        })
        .await?;
    let page = list(app, prefix, from).await?;
    result.objects += page.data.len() as u64;
    let unknown = unknown(app, &page.data, time).await?;
    let (mut fresh, mut overdue) = (Vec::with_capacity(unknown.len()), 0);
    for (what, at) in unknown {
        let Some(object) = page.data.get(at) else { continue };
        match what {
            Differing::Changed => result.changed += 1,
            _ => {
                result.missing += 1;
                overdue += u64::from(listed_at.duration_since(object.modified) >= NOTIFIED);
            }
        }
        note(result, what, &object.key, object.modified, object.size);
        fresh.push(object.clone());
    }
    if !dry_run {
        register::register(&app.database, &fresh, time).await?;
        unregistered::set_aside(&app.database, &page.others, time).await?;
    }
    phantoms(app, prefix, from, &page, listed_at, time, result).await?;
    Ok(Compared { last: page.last, overdue })
}

fn note(result: &mut Reconciliation, what: Differing, key: &str, modified: Timestamp, size: i64) {
    if result.differences.len() < MAX_DIFFERENCES {
        result.differences.push(Difference { what, s3_key: key.to_owned(), s3_modified: modified, s3_size: size });
    }
}

async fn list(app: &App, prefix: &str, from: &str) -> Result<Page, ReconcileError> {
    let bucket = &app.config.incoming_bucket;
    let start_after = Some(from).filter(|from| !from.is_empty()).map(str::to_owned);
    let request = app.s3.list_objects_v2().bucket(bucket).prefix(prefix).set_start_after(start_after);
    let answer = request.send().await.map_err(|error| ReconcileError::List {
        bucket: bucket.clone(),
        prefix: prefix.to_owned(),
        cause: cause(&error),
    })?;
    let last = answer.contents().last().and_then(|object| object.key()).map(str::to_owned);
    let objects = answer.contents().iter().filter_map(|object| {
        Some(Object {
            key: object.key()?.to_owned(),
            modified: Timestamp::from_second(object.last_modified()?.secs()).ok()?,
            size: object.size().unwrap_or_default(),
            e_tag: object.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
            version: None,
        })
    });
    let (data, others) = objects.partition(|object: &Object| is_data(&object.key));
    Ok(Page { data, others, last: last.filter(|_| answer.is_truncated() == Some(true)) })
}

/// Positions of the objects that are no loads: their key is unknown, or known in other versions only.
async fn unknown(app: &App, objects: &[Object], time: Duration) -> Result<Vec<(Differing, usize)>, DatabaseError> {
    let objects: Vec<(i64, &Object)> = (0..).zip(objects).filter(|(_, object)| !object.key.contains('\0')).collect();
    let positions: Vec<i64> = objects.iter().map(|(position, _)| *position).collect();
    let keys: Vec<&str> = objects.iter().map(|(_, object)| object.key.as_str()).collect();
    let modified: Vec<Timestamp> = objects.iter().map(|(_, object)| object.modified).collect();
    let e_tags: Vec<&str> = objects.iter().map(|(_, object)| object.e_tag.as_str()).collect();
    app.database
        .run(time, |session| {
            let (positions, keys, modified, e_tags) = (&positions, &keys, &modified, &e_tags);
            async move {
                let sql = "select o.n, exists (select from cubic_loads where s3_key = o.key) \
                    from unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[]) as o (n, key, modified, etag) \
                    where not exists (select from cubic_loads where s3_key = o.key and s3_modified = o.modified \
                      and s3_etag = o.etag) order by o.n";
                let rows = session.client()?.query(sql, &[positions, keys, modified, e_tags]).await?;
                rows.iter()
                    .map(|row| {
                        let what = if row.try_get(1)? { Differing::Changed } else { Differing::Missing };
                        Ok((what, usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(usize::MAX)))
                    })
                    .collect()
            }
        })
        .await
}

/// Reports loads of this page's range of keys whose objects should be in the bucket and are not.
async fn phantoms(
    app: &App,
    prefix: &str,
    from: &str,
    page: &Page,
    listed_at: Timestamp,
    time: Duration,
    result: &mut Reconciliation,
) -> Result<(), DatabaseError> {
    let there: Vec<&str> = page.data.iter().map(|object| object.key.as_str()).collect();
    let most = i64::try_from(MAX_DIFFERENCES).unwrap_or(i64::MAX);
    let rows = app
        .database
        .run(time, |session| {
            let (there, last) = (&there, &page.last);
            async move {
                let sql = "with load as ( \
                      select distinct on (s3_key) id, s3_key, s3_modified, s3_size, status, inserted_at from cubic_loads \
                      where s3_key ^@ $1 and s3_key > $2 and ($3::text is null or s3_key <= $3) \
                      order by s3_key, s3_modified desc) \
                    select s3_key, s3_modified, s3_size, count(*) over () from load \
                    where needs_object(status) and inserted_at < $4 and s3_key <> all ($5) \
                      and not exists (select from cubic_load_transitions as step where step.load_id = load.id \
                        and step.to_status in ('archiving', 'erroring')) \
                    order by s3_key limit $6";
                Ok(session.client()?.query(sql, &[&prefix, &from, last, &listed_at, there, &most]).await?)
            }
        })
        .await?;
    for row in &rows {
        note(result, Differing::Phantom, row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    }
    if let Some(row) = rows.first() {
        result.phantom += u64::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0);
    }
    Ok(())
}

/// Logs what was found. A dry run prints no metrics, because alarms say what was registered.
fn report(stack: &str, result: &Reconciliation, overdue: u64, dry_run: bool) {
    let all = Metrics::of(stack, FUNCTION)
        .put("objects_reconciled", Unit::Count, result.objects)
        .put("objects_missing", Unit::Count, overdue)
        .put("objects_changed", Unit::Count, result.changed)
        .put("loads_phantom", Unit::Count, result.phantom);
    if !dry_run {
        metrics::print([all]);
    }
    info!(
        objects = result.objects,
        missing = result.missing,
        changed = result.changed,
        phantom = result.phantom,
        complete = result.next.is_none(),
        "bucket and loads compared"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to_list_of(active: &[&str], wanted: Option<&str>) -> Vec<String> {
        to_list(&active.iter().map(|prefix| (*prefix).to_owned()).collect::<Vec<_>>(), wanted)
    }

    #[test]
    fn prefixes_are_listed_once_and_in_order() {
        let active = ["b/", "a/x/", "a/", "a__ct/"];
        assert_eq!(to_list_of(&active, None), ["a/", "a__ct/", "b/"]);
        assert_eq!(to_list_of(&active, Some("a")), ["a/", "a__ct/"]);
        assert_eq!(to_list_of(&active, Some("a/x/2026/")), ["a/x/2026/"]);
        assert_eq!(to_list_of(&active, Some("c/")), Vec::<String>::new());
    }
}
