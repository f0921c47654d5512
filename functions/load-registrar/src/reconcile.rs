//! Compares the bucket with the loads, page by page, so that memory does not grow with either, and several prefixes at once.
//!
//! Objects that are no loads yet are registered as if a notification had announced them: listings and HEAD report the
//! same times and ETags. Loads whose object is gone are reported and left as they are.
//!
//! A page that cannot be compared is reported and compared again by the next reconciliation; the others go on.

use std::time::Duration;

use aws_sdk_s3::types::EncodingType;
use futures_util::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use runtime::{
    failure::{cause, some_of},
    metrics,
};
use shared::{
    metrics::{Metrics, Unit},
    registrar::{Difference, Differing, ReconcileFailure, ReconcilePosition, Reconciliation},
    s3_key,
};
use tokio::time::{Instant, timeout_at};
use tracing::{error, info};

use crate::{FUNCTION, app::App, database::DatabaseError, object::Object, register, unregistered};

/// Maximum number of differences and of failures that are listed. All of them are counted.
const MAX_LISTED: usize = 1_000;

/// Prefixes that are listed at the same time. They share one connection to Postgres.
const PREFIXES_AT_ONCE: usize = 4;

/// A notification that has not come for this long is lost. Most take seconds.
const NOTIFIED: SignedDuration = SignedDuration::from_mins(15);

/// Why nothing was compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("the inventory {manifest} cannot be used: {cause}")]
    Inventory { manifest: String, cause: String },
}

/// Why a page was not compared.
#[derive(Debug, thiserror::Error)]
enum PageError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("S3 did not list it: {0}")]
    List(String),
}

/// The times of a reconciliation.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// No page is begun any more.
    pub paging: Instant,
    /// Pages in progress fail.
    pub end: Instant,
    /// The checkpoint has to be written.
    pub checkpoint: Instant,
}

impl Times {
    /// A reconciliation that begins no page after `paging` and has `time`.
    #[must_use]
    pub fn new(paging: Duration, time: Duration) -> Self {
        let now = Instant::now();
        Self { paging: now + paging, end: now + time, checkpoint: now + time }
    }

    /// One that leaves a part of `time` for its checkpoint and for what follows it.
    #[must_use]
    pub fn scheduled(time: Duration) -> Self {
        let now = Instant::now();
        Self { paging: now + time / 4 * 3, end: now + time / 10 * 9, checkpoint: now + time / 20 * 19 }
    }

    /// Time for the page in progress.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end - Instant::now()
    }

    /// Time for the checkpoint.
    #[must_use]
    pub fn until_checkpoint(&self) -> Duration {
        self.checkpoint - Instant::now()
    }
}

/// What a reconciliation has found so far.
#[derive(Debug, Default)]
pub struct Found {
    pub result: Reconciliation,
    /// Missing objects that are old enough for their notification to be lost.
    pub overdue: u64,
}

impl Found {
    pub fn differ(&mut self, what: Differing, key: &str, modified: Timestamp, size: i64) {
        match what {
            Differing::Missing => self.result.missing += 1,
            Differing::Changed => self.result.changed += 1,
            Differing::Phantom => self.result.phantom += 1,
        }
        let differences = &mut self.result.differences;
        if differences.len() < MAX_LISTED {
            differences.push(Difference { what, s3_key: key.to_owned(), s3_modified: modified, s3_size: size });
        }
    }

    pub fn fail(&mut self, failure: ReconcileFailure) {
        error!(cause = failure.cause, prefix = failure.prefix, key = ?failure.key, "not compared");
        self.result.failures += 1;
        if self.result.failed.len() < MAX_LISTED {
            self.result.failed.push(failure);
        }
    }

    /// Adds what was found elsewhere.
    fn absorb(&mut self, other: Self) {
        let (sum, found) = (&mut self.result, other.result);
        sum.objects += found.objects;
        sum.missing += found.missing;
        sum.changed += found.changed;
        sum.phantom += found.phantom;
        sum.failures += found.failures;
        let room = MAX_LISTED.saturating_sub(sum.differences.len());
        sum.differences.extend(found.differences.into_iter().take(room));
        let room = MAX_LISTED.saturating_sub(sum.failed.len());
        sum.failed.extend(found.failed.into_iter().take(room));
        sum.next.extend(found.next);
        self.overdue += other.overdue;
    }

    /// The result in an order that does not depend on which prefix was faster.
    fn in_order(mut self) -> Self {
        self.result.differences.sort_by(|a, b| (&a.s3_key, a.what).cmp(&(&b.s3_key, b.what)));
        self.result.failed.sort();
        self.result.next = shortened(std::mem::take(&mut self.result.next));
        self
    }
}

/// Positions without those that follow from the one before: behind the last position, prefixes are compared from their
/// start.
fn shortened(mut next: Vec<ReconcilePosition>) -> Vec<ReconcilePosition> {
    next.sort();
    while let [.., before, last] = next.as_slice()
        && before.key.is_empty()
        && last.key.is_empty()
    {
        next.pop();
    }
    next
}

/// Keys to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    prefix: String,
    /// The last key before it; empty at the start of the prefix.
    from: String,
    /// Its last key. `None` if it reaches to the end of the prefix.
    until: Option<String>,
    /// Why it could not be compared before.
    failed: Option<String>,
}

impl Range {
    fn failure(&self, key: String, until: Option<String>, cause: String) -> ReconcileFailure {
        ReconcileFailure { prefix: self.prefix.clone(), key, until, cause }
    }

    /// Leaves what follows `key` to the next reconciliation.
    fn leave(&self, key: String, found: &mut Found) {
        match &self.failed {
            Some(cause) => found.fail(self.failure(key, self.until.clone(), cause.clone())),
            None => found.result.next.push(ReconcilePosition { prefix: self.prefix.clone(), key }),
        }
    }
}

/// A page of a listing, in the order of keys.
struct Page {
    /// Objects that hold data.
    data: Vec<Object>,
    /// Objects that do not.
    others: Vec<Object>,
    /// The last key of the page. `None` on the last page of the range.
    last: Option<String>,
    /// The last key that the page speaks for. `None` if that is the rest of the prefix.
    until: Option<String>,
    /// When it was listed, by the clock of Postgres.
    listed_at: Timestamp,
}

/// Compares the objects under `prefix`, or under the prefixes of all active tables, and begins no page after `times.paging`.
///
/// A `prefix` or a position `after` that lies under no active table is refused.
pub async fn reconcile(
    app: &App,
    prefix: Option<&str>,
    dry_run: bool,
    after: &[ReconcilePosition],
    times: Times,
) -> Result<Reconciliation, ReconcileError> {
    let active = active_prefixes(app, times.left()).await?;
    let prefixes = to_list(&active, prefix);
    let unknown = match (after.iter().find(|after| !prefixes.contains(&after.prefix)), prefix) {
        (Some(after), _) => Some(after.prefix.as_str()),
        (None, prefix) if prefixes.is_empty() => prefix,
        _ => None,
    };
    if let Some(unknown) = unknown {
        return Err(DatabaseError::Refused(match active.is_empty() {
            true => format!("no active table has the prefix {unknown}; no table is active"),
            false => format!("no active table has the prefix {unknown}; there are {}", some_of(&active)),
        })
        .into());
    }
    Ok(compare_all(app, ranges(&prefixes, after), dry_run, times).await)
}

/// The ranges that are left to compare: all of the prefixes behind the last position, and of the others those that have a
/// position. Pure.
fn ranges(prefixes: &[String], after: &[ReconcilePosition]) -> Vec<Range> {
    let frontier = after.iter().map(|position| &position.prefix).max();
    let range = |prefix: &String| {
        let from = match after.iter().find(|position| position.prefix == *prefix) {
            Some(position) => position.key.clone(),
            None if frontier.is_some_and(|frontier| prefix < frontier) => return None,
            None => String::new(),
        };
        Some(Range { prefix: prefix.clone(), from, until: None, failed: None })
    };
    prefixes.iter().filter_map(range).collect()
}

/// Compares ranges, of which one page at least is begun, and reports what was found.
async fn compare_all(app: &App, ranges: Vec<Range>, dry_run: bool, times: Times) -> Reconciliation {
    let compared = ranges
        .into_iter()
        .enumerate()
        .map(|(number, range)| async move { Box::pin(compare_range(app, range, number == 0, dry_run, times)).await });
    let found = stream::iter(compared.collect::<Vec<_>>())
        .buffered(PREFIXES_AT_ONCE)
        .fold(Found::default(), async |mut sum, found| {
            sum.absorb(found);
            sum
        })
        .await
        .in_order();
    report(&app.config.stack, &found, dry_run);
    found.result
}

async fn compare_range(app: &App, range: Range, is_first: bool, dry_run: bool, times: Times) -> Found {
    let (mut found, mut from, mut pages) = (Found::default(), range.from.clone(), 0);
    loop {
        if Instant::now() >= times.paging && (pages > 0 || !is_first) {
            range.leave(from, &mut found);
            return found;
        }
        pages += 1;
        // Only of the first page is it known that more time than there is would not help.
        let is_late = || pages > 1 && Instant::now() >= times.end;
        let page = match list(app, &range, &from, times).await {
            Ok(page) => page,
            Err(_) if is_late() => {
                range.leave(from, &mut found);
                return found;
            }
            // Where the next page begins is not known.
            Err(cause) => {
                found.fail(range.failure(from, range.until.clone(), cause.to_string()));
                return found;
            }
        };
        match compare(app, &range.prefix, &from, &page, dry_run, times, &mut found).await {
            Ok(()) => {}
            Err(_) if is_late() => {
                range.leave(from, &mut found);
                return found;
            }
            Err(cause) => found.fail(range.failure(from, page.until.clone(), cause.to_string())),
        }
        match page.last {
            Some(last) => from = last,
            None => return found,
        }
    }
}

/// Resumes where the last invocation ran out of time, and compares what it could not. When there is nothing of it left,
/// everything is compared, and so what failed before as well.
pub async fn resume(app: &App, times: Times) -> Result<Reconciliation, ReconcileError> {
    let (after, failed) = left(app, times.left()).await?;
    let prefixes = to_list(&active_prefixes(app, times.left()).await?, None);
    let mut ranges = ranges(&prefixes, &after);
    if !after.is_empty() {
        ranges.extend(failed.into_iter().filter(|range| prefixes.contains(&range.prefix)));
    }
    let result = compare_all(app, ranges, false, times).await;
    keep(app, &result, times.until_checkpoint()).await?;
    Ok(result)
}

/// What the last reconciliation has left: positions, and ranges that failed.
async fn left(app: &App, time: Duration) -> Result<(Vec<ReconcilePosition>, Vec<Range>), DatabaseError> {
    let sql = "select prefix, key, until, cause from reconcile_ranges order by prefix, key";
    app.database
        .run(time, |session| async move {
            let (mut after, mut failed) = (Vec::new(), Vec::new());
            for row in session.client()?.query(sql, &[]).await? {
                let (prefix, key) = (row.try_get(0)?, row.try_get(1)?);
                match row.try_get(3)? {
                    None => after.push(ReconcilePosition { prefix, key }),
                    cause => failed.push(Range { prefix, from: key, until: row.try_get(2)?, failed: cause }),
                }
            }
            Ok((after, failed))
        })
        .await
}

async fn keep(app: &App, result: &Reconciliation, time: Duration) -> Result<(), DatabaseError> {
    let next = result.next.iter().map(|next| (&next.prefix, &next.key, None, None));
    let failed = result.failed.iter().map(|failed| {
        (&failed.prefix, &failed.key, failed.until.as_deref().map(before_nul), Some(failed.cause.replace('\0', "")))
    });
    let rows: Vec<_> = next.chain(failed).collect();
    app.database
        .run(time, |mut session| {
            let rows = &rows;
            async move {
                let transaction = session.transaction().await?;
                transaction.execute("delete from reconcile_ranges", &[]).await?;
                let sql = "insert into reconcile_ranges (prefix, key, until, cause) values ($1, $2, $3, $4) \
                    on conflict (prefix, key) do nothing";
                for (prefix, key, until, cause) in rows {
                    transaction.execute(sql, &[prefix, &before_nul(key), until, cause]).await?;
                }
                Ok(transaction.commit().await?)
            }
        })
        .await
}

/// The prefixes of the active tables' objects, in order.
pub async fn active_prefixes(app: &App, time: Duration) -> Result<Vec<String>, DatabaseError> {
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
pub fn to_list(active: &[String], wanted: Option<&str>) -> Vec<String> {
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

/// The clock of Postgres, which also stamps the loads.
pub async fn clock(app: &App, time: Duration) -> Result<Timestamp, DatabaseError> {
    app.database
        .run(time, |session| async move {
            Ok(session.client()?.query_one("select clock_timestamp()", &[]).await?.try_get(0)?)
        })
        .await
}

/// Compares one page. Nothing of it counts if that fails.
async fn compare(
    app: &App,
    prefix: &str,
    from: &str,
    page: &Page,
    dry_run: bool,
    times: Times,
    found: &mut Found,
) -> Result<(), PageError> {
    let unknown = unknown(app, &page.data, times.left()).await?;
    let phantoms = phantoms(app, prefix, from, page, times.left()).await?;
    if !dry_run {
        let fresh: Vec<Object> =
            unknown.iter().filter(|unknown| unknown.what.is_some()).map(|unknown| unknown.object.clone()).collect();
        register::register(&app.database, &fresh, times.left()).await?;
        let now_data: Vec<&Object> =
            unknown.iter().filter(|unknown| unknown.was_not_data).map(|unknown| unknown.object).collect();
        unregistered::forget(&app.database, &now_data, times.left()).await?;
        unregistered::set_aside(&app.database, &page.others, times.left()).await?;
    }
    found.result.objects += page.data.len() as u64;
    for Unknown { what, object, .. } in unknown {
        let Some(what) = what else { continue };
        found.differ(what, &object.key, object.modified, object.size);
        found.overdue += u64::from(what == Differing::Missing && is_overdue(object, page.listed_at));
    }
    let counted = found.result.phantom;
    for (key, modified, size) in &phantoms.listed {
        found.differ(Differing::Phantom, key, *modified, *size);
    }
    found.result.phantom = counted + phantoms.count;
    Ok(())
}

/// Whether the notification of an object that is no load is lost.
pub fn is_overdue(object: &Object, now: Timestamp) -> bool {
    now.duration_since(object.modified) >= NOTIFIED
}

async fn list(app: &App, range: &Range, from: &str, times: Times) -> Result<Page, PageError> {
    // The database's clock before the listing: what is registered later is not a phantom.
    let listed_at = clock(app, times.left()).await?;
    let request = app.s3.list_objects_v2().bucket(&app.config.incoming_bucket).prefix(&range.prefix);
    let request = request.set_start_after(Some(from).filter(|from| !from.is_empty()).map(str::to_owned));
    // Otherwise a control character in a key makes the whole page unreadable.
    let request = request.encoding_type(EncodingType::Url);
    let answer = timeout_at(times.end, request.send())
        .await
        .map_err(|_| PageError::List("no answer until the end of the invocation".to_owned()))?
        .map_err(|error| PageError::List(cause(&error)))?;
    let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let mut objects = Vec::with_capacity(answer.contents().len());
    for object in answer.contents() {
        let (Some(key), Some(modified)) = (object.key(), object.last_modified()) else { continue };
        let decoded = if is_encoded { s3_key::decode(key) } else { Ok(key.to_owned()) };
        objects.push(Object {
            key: decoded.map_err(|error| PageError::List(error.to_string()))?,
            modified: Timestamp::from_second(modified.secs()).map_err(|error| PageError::List(error.to_string()))?,
            size: object.size().unwrap_or_default(),
            e_tag: object.e_tag().unwrap_or_default().trim_matches('"').to_owned(),
            version: None,
        });
    }
    let mut last = objects.last().map(|object| object.key.clone()).filter(|_| answer.is_truncated() == Some(true));
    if let Some(until) = &range.until {
        objects.retain(|object| object.key <= *until);
        last = last.filter(|last| last < until);
    }
    let until = last.clone().or_else(|| range.until.clone());
    let (data, others) = objects.into_iter().partition(|object: &Object| app.config.data.is_data(&object.key));
    Ok(Page { data, others, last, until, listed_at })
}

/// An object that is no load, or was no data before.
pub struct Unknown<'o> {
    pub object: &'o Object,
    /// How it differs from the loads. `None` if it is one.
    pub what: Option<Differing>,
    /// Whether it is recorded as no data, because its suffix was not that of data then.
    pub was_not_data: bool,
}

/// The objects that are no loads: their key is unknown, or known in other versions only, unless it can be a load only once. And
/// those that were recorded as no data before.
pub async fn unknown<'o>(app: &App, objects: &'o [Object], time: Duration) -> Result<Vec<Unknown<'o>>, DatabaseError> {
    let asked: Vec<(i64, &Object)> = (0..).zip(objects).filter(|(_, object)| !object.key.contains('\0')).collect();
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let positions: Vec<i64> = asked.iter().map(|(position, _)| *position).collect();
    let keys: Vec<&str> = asked.iter().map(|(_, object)| object.key.as_str()).collect();
    let modified: Vec<Timestamp> = asked.iter().map(|(_, object)| object.modified).collect();
    let e_tags: Vec<&str> = asked.iter().map(|(_, object)| object.e_tag.as_str()).collect();
    app.database
        .run(time, |session| {
            let (positions, keys, modified, e_tags) = (&positions, &keys, &modified, &e_tags);
            async move {
                let sql = "select n, not known, not known and exists (select from cubic_loads where s3_key = key), not_data \
                    from (select o.*, \
                        exists (select from cubic_loads where s3_key = o.key and s3_modified = o.modified \
                          and s3_etag = o.etag) \
                        or exists (select from unregistered_objects where reason = 'known_key' and s3_key = o.key \
                          and s3_modified = o.modified and s3_etag = o.etag) as known, \
                        exists (select from unregistered_objects where reason = 'not_data' and s3_key = o.key \
                          and s3_modified = o.modified and s3_etag = o.etag) as not_data \
                      from unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[]) as o (n, key, modified, etag)) as o \
                    where not known or not_data order by n";
                let mut unknown = Vec::new();
                for row in session.client()?.query(sql, &[positions, keys, modified, e_tags]).await? {
                    let position = usize::try_from(row.try_get::<_, i64>(0)?).unwrap_or(usize::MAX);
                    let Some(object) = objects.get(position) else { continue };
                    let what = match (row.try_get(1)?, row.try_get(2)?) {
                        (false, _) => None,
                        (true, true) => Some(Differing::Changed),
                        (true, false) => Some(Differing::Missing),
                    };
                    unknown.push(Unknown { object, what, was_not_data: row.try_get(3)? });
                }
                Ok(unknown)
            }
        })
        .await
}

/// A key as far as Postgres can hold it in a text. A key without NUL comes before both or behind both.
fn before_nul(key: &str) -> &str {
    key.split('\0').next().unwrap_or_default()
}

/// Loads whose objects should be in the bucket and are not.
struct Phantoms {
    count: u64,
    /// Key, time and size of the first ones.
    listed: Vec<(String, Timestamp, i64)>,
}

/// The phantoms of this page's range of keys.
async fn phantoms(app: &App, prefix: &str, from: &str, page: &Page, time: Duration) -> Result<Phantoms, DatabaseError> {
    let there: Vec<&str> =
        page.data.iter().map(|object| object.key.as_str()).filter(|key| !key.contains('\0')).collect();
    let (from, last) = (before_nul(from), page.until.as_deref().map(before_nul));
    let most = i64::try_from(MAX_LISTED).unwrap_or(i64::MAX);
    let rows = app
        .database
        .run(time, |session| {
            let (there, from, last) = (&there, &from, &last);
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
                Ok(session.client()?.query(sql, &[&prefix, from, last, &page.listed_at, there, &most]).await?)
            }
        })
        .await?;
    let mut phantoms = Phantoms { count: 0, listed: Vec::with_capacity(rows.len()) };
    for row in &rows {
        phantoms.count = u64::try_from(row.try_get::<_, i64>(3)?).unwrap_or(0);
        phantoms.listed.push((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
    }
    Ok(phantoms)
}

/// Logs what was found. A dry run prints no metrics, because alarms say what was registered.
pub fn report(stack: &str, Found { result, overdue }: &Found, dry_run: bool) {
    let all = Metrics::of(stack, FUNCTION)
        .put("objects_reconciled", Unit::Count, result.objects)
        .put("objects_missing", Unit::Count, *overdue)
        .put("objects_changed", Unit::Count, result.changed)
        .put("loads_phantom", Unit::Count, result.phantom)
        .put("pages_failed", Unit::Count, result.failures);
    if !dry_run {
        metrics::print([all]);
    }
    info!(
        objects = result.objects,
        missing = result.missing,
        changed = result.changed,
        phantom = result.phantom,
        failed = result.failures,
        complete = result.next.is_empty() && result.next_inventory.is_none(),
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

    fn position(prefix: &str, key: &str) -> ReconcilePosition {
        ReconcilePosition { prefix: prefix.to_owned(), key: key.to_owned() }
    }

    #[test]
    fn what_is_left_follows_from_a_few_positions() {
        let prefixes = ["a/", "b/", "c/", "d/", "e/"].map(str::to_owned);
        let left = |after: &[ReconcilePosition]| -> Vec<String> {
            ranges(&prefixes, after).into_iter().map(|range| range.prefix + &range.from).collect()
        };
        assert_eq!(left(&[]), ["a/", "b/", "c/", "d/", "e/"]);
        assert_eq!(left(&[position("b/", "7"), position("c/", "")]), ["b/7", "c/", "d/", "e/"]);
        assert_eq!(left(&[position("e/", "9"), position("b/", "7")]), ["b/7", "e/9"]);
        // Each set of positions and what it was shortened to leave the same.
        let next = ["b/7", "c/", "d/", "e/"].map(|text| position(&text[..2], &text[2..]));
        let short = shortened(next.to_vec());
        assert_eq!(short, [position("b/", "7"), position("c/", "")]);
        assert_eq!(left(&short), left(&next));
        assert_eq!(
            shortened(vec![position("e/", "9"), position("b/", "7")]),
            [position("b/", "7"), position("e/", "9")]
        );
        assert_eq!(shortened(vec![]), []);
    }
}
