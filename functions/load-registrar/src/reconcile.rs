//! The bucket compared with the loads, page by page, so that memory does not grow with either.
//!
//! What is in the bucket and not among the loads is registered, as an event would have done it: listings and HEAD tell the
//! same times and ETags. What is among the loads and not in the bucket is told and left alone.

use std::time::Duration;

use aws_sdk_s3::error::DisplayErrorContext;
use jiff::Timestamp;
use runtime::metrics;
use shared::{
    metrics::{Metrics, Unit},
    registrar::{Difference, Differing, ReconcilePosition, Reconciliation},
};
use tokio::time::Instant;
use tracing::info;

use crate::{
    FUNCTION,
    app::App,
    command::CommandError,
    database::DatabaseError,
    handler::is_data,
    register::{self, Object},
};

/// Most differences that are named. The numbers count all of them.
const MOST_DIFFERENCES: usize = 1_000;

/// A piece of the bucket in the order of its keys.
struct Page {
    objects: Vec<Object>,
    /// The last key that was listed, unless the prefix ends here.
    last: Option<String>,
}

/// Compares what is under `prefix`, or under every active table's, from `after` on, until `time` is over.
pub async fn reconcile(
    app: &App,
    prefix: Option<&str>,
    dry_run: bool,
    after: Option<ReconcilePosition>,
    time: Duration,
) -> Result<Reconciliation, CommandError> {
    let until = Instant::now() + time;
    let (mut result, mut pages) = (Reconciliation::default(), 0);
    let mut from = after.as_ref().map(|after| after.key.clone()).unwrap_or_default();
    for prefix in prefixes(app, prefix, time).await? {
        match &after {
            Some(after) if prefix < after.prefix => continue,
            Some(after) if prefix > after.prefix => from.clear(),
            _ => {}
        }
        loop {
            if Instant::now() >= until && pages > 0 {
                result.next = Some(ReconcilePosition { prefix, key: from });
                report(&result);
                return Ok(result);
            }
            let last = compare(app, &prefix, &from, dry_run, time, &mut result).await?;
            pages += 1;
            match last {
                Some(last) => from = last,
                None => break,
            }
        }
        from.clear();
    }
    report(&result);
    Ok(result)
}

/// The same for the schedule, which goes on where it ran out of time.
pub async fn scheduled(app: &App, time: Duration) -> Result<Reconciliation, CommandError> {
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
    // A quarter of the time is for the last page and for what comes after it.
    let result = reconcile(app, None, false, after, time / 4 * 3).await?;
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
    Ok(result)
}

/// Where the active tables' objects are, as far as it is under `prefix`, in the order of keys and without overlaps.
async fn prefixes(app: &App, prefix: Option<&str>, time: Duration) -> Result<Vec<String>, DatabaseError> {
    let sql = "select s3_prefix from cubic_tables where is_active \
        union all select changes_prefix(s3_prefix) from cubic_tables where is_active and kind = 'ods'";
    let all: Vec<String> = app
        .database
        .run(time, |session| async move {
            let rows = session.client()?.query(sql, &[]).await?;
            Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
        })
        .await?;
    Ok(to_list(all, prefix))
}

/// Which prefixes to list. Pure.
fn to_list(active: Vec<String>, wanted: Option<&str>) -> Vec<String> {
    let mut prefixes: Vec<String> = match wanted {
        None => active,
        Some(wanted) => active
            .into_iter()
            .filter_map(|prefix| match () {
                () if prefix.starts_with(wanted) => Some(prefix),
                () if wanted.starts_with(&prefix) => Some(wanted.to_owned()),
                () => None,
            })
            .collect(),
    };
    prefixes.sort_unstable();
    prefixes.dedup_by(|later, earlier| later.starts_with(earlier.as_str()));
    prefixes
}

/// Compares one page. Gives back its last key, unless the prefix ends with it.
async fn compare(
    app: &App,
    prefix: &str,
    from: &str,
    dry_run: bool,
    time: Duration,
    result: &mut Reconciliation,
) -> Result<Option<String>, CommandError> {
    // A load that is registered while the bucket is listed is no phantom. The server's clock decides, not ours.
    let listed_at: Timestamp = app
        .database
        .run(time, |session| async move {
            Ok(session.client()?.query_one("select clock_timestamp()", &[]).await?.try_get(0)?)
        })
        .await?;
    let page = list(app, prefix, from).await?;
    result.objects += page.objects.len() as u64;
    let unknown = unknown(app, &page.objects, time).await?;
    let mut fresh = Vec::with_capacity(unknown.len());
    for (what, at) in unknown {
        let Some(object) = page.objects.get(at) else { continue };
        match what {
            Differing::Changed => result.changed += 1,
            _ => result.missing += 1,
        }
        note(result, what, &object.key, object.modified, object.size);
        fresh.push(object.clone());
    }
    if !dry_run {
        register::register(&app.database, &fresh, time).await?;
    }
    phantoms(app, prefix, from, &page, listed_at, time, result).await?;
    Ok(page.last)
}

fn note(result: &mut Reconciliation, what: Differing, key: &str, modified: Timestamp, size: i64) {
    if result.differences.len() < MOST_DIFFERENCES {
        result.differences.push(Difference { what, s3_key: key.to_owned(), s3_modified: modified, s3_size: size });
    }
}

async fn list(app: &App, prefix: &str, from: &str) -> Result<Page, CommandError> {
    let bucket = &app.config.incoming_bucket;
    let start_after = Some(from).filter(|from| !from.is_empty()).map(str::to_owned);
    let request = app.s3.list_objects_v2().bucket(bucket).prefix(prefix).set_start_after(start_after);
    let answer = request.send().await.map_err(|error| CommandError::List {
        bucket: bucket.clone(),
        prefix: prefix.to_owned(),
        cause: DisplayErrorContext(error).to_string(),
    })?;
    let last = answer.contents().last().and_then(|object| object.key()).map(str::to_owned);
    let objects = answer.contents().iter().filter_map(|object| {
        Some(Object {
            key: object.key().filter(|key| is_data(key))?.to_owned(),
            modified: Timestamp::from_second(object.last_modified()?.secs()).ok()?,
            size: object.size().unwrap_or_default(),
            e_tag: object.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
            version: None,
        })
    });
    Ok(Page { objects: objects.collect(), last: last.filter(|_| answer.is_truncated() == Some(true)) })
}

/// Which objects are no loads, by position: their key is not known at all, or only in other versions.
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

/// Loads between two keys whose objects should be there and are not.
async fn phantoms(
    app: &App,
    prefix: &str,
    from: &str,
    page: &Page,
    listed_at: Timestamp,
    time: Duration,
    result: &mut Reconciliation,
) -> Result<(), DatabaseError> {
    let there: Vec<&str> = page.objects.iter().map(|object| object.key.as_str()).collect();
    let most = i64::try_from(MOST_DIFFERENCES).unwrap_or(i64::MAX);
    let rows = app
        .database
        .run(time, |session| {
            let (there, last) = (&there, &page.last);
            async move {
                let sql = "with load as ( \
                      select distinct on (s3_key) s3_key, s3_modified, s3_size, status, inserted_at from cubic_loads \
                      where s3_key ^@ $1 and s3_key > $2 and ($3::text is null or s3_key <= $3) \
                      order by s3_key, s3_modified desc) \
                    select s3_key, s3_modified, s3_size, count(*) over () from load \
                    where status in ('ready', 'ingesting', 'ready_for_archiving', 'ready_for_erroring') \
                      and inserted_at < $4 and s3_key <> all ($5) order by s3_key limit $6";
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

fn report(result: &Reconciliation) {
    let all = Metrics::of(FUNCTION)
        .put("objects_reconciled", Unit::Count, result.objects)
        .put("objects_missing", Unit::Count, result.missing)
        .put("objects_changed", Unit::Count, result.changed)
        .put("loads_phantom", Unit::Count, result.phantom);
    metrics::print([all]);
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
        to_list(active.iter().map(|prefix| (*prefix).to_owned()).collect(), wanted)
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
