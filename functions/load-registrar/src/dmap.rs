//! Feeds of DMAP: declares them, and records which of their datasets are in the bucket. dmap-fetch fetches them.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use jiff::{Timestamp, civil::Date};
use runtime::failure;
use shared::{
    dmap::{
        Begun, Dataset, Feed, FeedDeclaration, FeedList, OtherVersion, Recorded, Segment, StoredDataset, Unfetched,
        relative_url_problem,
    },
    registrar::{FeedsPlan, FieldChange, TableChange},
};
use tokio_postgres::{GenericClient, Transaction, types::ToSql};

use crate::database::{Database, DatabaseError};

/// Most datasets of a command.
const MAX_DATASETS: usize = 1_000;

/// Refuses declarations that make no sense. Errors name the declaration.
pub fn check(feeds: &[FeedDeclaration]) -> Result<(), DatabaseError> {
    let (mut names, mut urls) = (HashSet::new(), HashSet::new());
    for feed in feeds {
        let refuse = |what: String| Err(DatabaseError::Refused(format!("feed {:?}: {what}", feed.name.to_string())));
        if let Some(problem) = relative_url_problem(&feed.relative_url) {
            return refuse(format!("relative_url {:?} is not one that {problem}", feed.relative_url));
        }
        if feed.api_key.as_ref().is_some_and(String::is_empty) {
            return refuse("api_key is empty".to_owned());
        }
        if !names.insert(&feed.name) || !urls.insert(&feed.relative_url) {
            return refuse("its name or its relative_url is declared twice".to_owned());
        }
    }
    Ok(())
}

/// The feed's properties as text, in the order of a declaration.
fn fields(relative_url: &str, api_key: Option<&str>, active: bool) -> [(&'static str, Option<String>); 3] {
    [
        ("relative_url", Some(relative_url.to_owned())),
        ("api_key", api_key.map(str::to_owned)),
        ("active", Some(active.to_string())),
    ]
}

/// What [`apply`] would do.
pub async fn plan(transaction: &Transaction<'_>, feeds: &[FeedDeclaration]) -> Result<FeedsPlan, DatabaseError> {
    let existing: BTreeMap<String, Feed> =
        list(transaction).await?.feeds.into_iter().map(|feed| (feed.name.to_string(), feed)).collect();
    let mut changes = Vec::new();
    for feed in feeds {
        let before = existing.get(&feed.name.to_string());
        let from = before.map(|before| fields(&before.relative_url, before.api_key.as_deref(), before.active));
        let to = fields(&feed.relative_url, feed.api_key.as_deref(), feed.active);
        let from = from.unwrap_or_else(|| to.clone().map(|(field, _)| (field, None)));
        let fields: Vec<FieldChange> = from
            .into_iter()
            .zip(to)
            .map(|((field, from), (_, to))| FieldChange { field: field.to_owned(), from, to })
            .filter(|change| change.from != change.to)
            .collect();
        if !fields.is_empty() {
            changes.push(TableChange { name: feed.name.to_string(), create: before.is_none(), fields });
        }
    }
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    let is_declared = |name: &str| feeds.iter().any(|feed| feed.name.to_string() == name);
    let undeclared = existing.into_keys().filter(|name| !is_declared(name)).collect();
    Ok(FeedsPlan { unchanged: u32::try_from(feeds.len() - changes.len()).unwrap_or(u32::MAX), changes, undeclared })
}

/// Creates and changes feeds as declared, within the transaction that does the same for tables.
pub async fn apply(transaction: &Transaction<'_>, feeds: &[FeedDeclaration]) -> Result<FeedsPlan, DatabaseError> {
    let plan = plan(transaction, feeds).await?;
    // Two feeds may exchange their URLs.
    let changed = plan.changes.iter().map(|change| change.name.as_str());
    let changed: Vec<&FeedDeclaration> =
        changed.filter_map(|name| feeds.iter().find(|feed| feed.name.to_string() == name)).collect();
    for feed in &changed {
        let sql = "update cubic_dmap_feeds set relative_url = '/?moving=' || id where name = $1";
        transaction.execute(sql, &[&feed.name.to_string()]).await?;
    }
    for feed in changed {
        let sql = "insert into cubic_dmap_feeds (name, relative_url, api_key, is_active) values ($1, $2, $3, $4) \
            on conflict (name) do update set relative_url = excluded.relative_url, api_key = excluded.api_key, \
            is_active = excluded.is_active, updated_at = now()";
        let parameters: [&(dyn ToSql + Sync); 4] =
            [&feed.name.to_string(), &feed.relative_url, &feed.api_key, &feed.active];
        transaction.execute(sql, &parameters).await?;
    }
    Ok(plan)
}

/// Lists every feed, those that were asked longest ago first.
pub async fn feeds(database: &Database, time: Duration) -> Result<FeedList, DatabaseError> {
    database.run(time, |session| async move { list(session.client()?).await }).await
}

async fn list(client: &impl GenericClient) -> Result<FeedList, DatabaseError> {
    let sql = "select f.name, f.relative_url, f.api_key, f.is_active, f.last_updated, f.asked_at, f.answered_at, \
          count(d.fetched_at), count(d.id) - count(d.fetched_at) \
        from cubic_dmap_feeds as f left join cubic_dmap_datasets as d on d.feed_id = f.id \
        group by f.id order by f.asked_at nulls first, f.name";
    let mut feeds = Vec::new();
    for row in client.query(sql, &[]).await? {
        feeds.push(Feed {
            name: row.try_get::<_, &str>(0)?.parse().map_err(|_| DatabaseError::Schema)?,
            relative_url: row.try_get(1)?,
            api_key: row.try_get(2)?,
            active: row.try_get(3)?,
            last_updated: row.try_get(4)?,
            asked_at: row.try_get(5)?,
            answered_at: row.try_get(6)?,
            fetched: u64::try_from(row.try_get::<_, i64>(7)?).unwrap_or_default(),
            unfinished: u64::try_from(row.try_get::<_, i64>(8)?).unwrap_or_default(),
        });
    }
    Ok(FeedList { feeds })
}

/// The error that there is no such feed, which names those that exist.
async fn unknown(client: &impl GenericClient, feed: &Segment) -> DatabaseError {
    let names: Vec<String> = match client.query("select name from cubic_dmap_feeds order by name", &[]).await {
        Ok(rows) => rows.iter().filter_map(|row| row.try_get(0).ok()).collect(),
        Err(error) => return error.into(),
    };
    let known = match names.is_empty() {
        true => "there are none".to_owned(),
        false => format!("there are {}", failure::some_of(&names)),
    };
    DatabaseError::Refused(format!("feed {feed} does not exist; {known}"))
}

async fn id_of(client: &impl GenericClient, feed: &Segment) -> Result<i64, DatabaseError> {
    match client.query_opt("select id from cubic_dmap_feeds where name = $1", &[&feed.to_string()]).await? {
        Some(row) => Ok(row.try_get(0)?),
        None => Err(unknown(client, feed).await),
    }
}

/// The datasets of which neither this version nor a later one was fetched, and notes that the feed is being fetched.
pub async fn unfetched(
    database: &Database,
    feed: &Segment,
    datasets: &[Dataset],
    time: Duration,
) -> Result<Unfetched, DatabaseError> {
    if datasets.len() > MAX_DATASETS {
        return Err(DatabaseError::Refused(format!("name up to {MAX_DATASETS} datasets at once")));
    }
    let kinds: Vec<String> = datasets.iter().map(|dataset| dataset.kind.to_string()).collect();
    let identifiers: Vec<String> = datasets.iter().map(|dataset| dataset.identifier.to_string()).collect();
    let times: Vec<Timestamp> = datasets.iter().map(|dataset| dataset.last_updated).collect();
    let (kinds, identifiers, times) = (&kinds, &identifiers, &times);
    database
        .run(time, |session| async move {
            let client = session.client()?;
            let id = id_of(client, feed).await?;
            client.execute("update cubic_dmap_feeds set asked_at = now() where id = $1", &[&id]).await?;
            let sql = "select a.position from unnest($1::text[], $2::text[], $3::timestamptz[]) \
                  with ordinality as a (type, identifier, last_updated, position) \
                left join cubic_dmap_datasets as begun on begun.type = a.type and begun.identifier = a.identifier \
                  and begun.last_updated = a.last_updated \
                where not exists (select from cubic_dmap_datasets as d where d.type = a.type \
                  and d.identifier = a.identifier and d.last_updated >= a.last_updated and d.fetched_at is not null) \
                order by coalesce(begun.attempts, 0), a.last_updated, a.position";
            let rows = client.query(sql, &[kinds, identifiers, times]).await?;
            let position = |row: &tokio_postgres::Row| {
                Ok::<_, DatabaseError>(u32::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(u32::MAX))
            };
            Ok(Unfetched { positions: rows.iter().map(position).collect::<Result<_, _>>()? })
        })
        .await
}

/// Notes that a dataset is going to be fetched, unless its object was stored before and registered since.
pub async fn begin(
    database: &Database,
    feed: &Segment,
    dataset: &Dataset,
    found: Option<&OtherVersion>,
    time: Duration,
) -> Result<Begun, DatabaseError> {
    let (kind, identifier) = (&dataset.kind.to_string(), &dataset.identifier.to_string());
    database
        .run(time, |mut session| async move {
            let transaction = session.transaction().await?;
            let id = id_of(&transaction, feed).await?;
            if let Some(OtherVersion { last_updated, object }) = found {
                // Its object is in the bucket, but its function died before it could say so.
                let other = Dataset { last_updated: *last_updated, ..dataset.clone() };
                record(&transaction, id, &other, Some(object)).await?;
            }
            transaction.execute("select settle_dmap_dataset($1, $2)", &[kind, identifier]).await?;
            let sql = "select from cubic_dmap_datasets \
                where type = $1 and identifier = $2 and last_updated >= $3 and fetched_at is not null";
            let is_there = !transaction.query(sql, &[kind, identifier, &dataset.last_updated]).await?.is_empty();
            if !is_there {
                // What is left of other versions never came into the bucket, or was just recorded.
                let sql = "delete from cubic_dmap_datasets \
                    where type = $1 and identifier = $2 and last_updated <> $3 and fetched_at is null";
                transaction.execute(sql, &[kind, identifier, &dataset.last_updated]).await?;
                record(&transaction, id, dataset, None).await?;
            }
            transaction.commit().await?;
            Ok(Begun { fetch: !is_there })
        })
        .await
}

/// Records that a dataset is in the bucket.
pub async fn fetched(
    database: &Database,
    feed: &Segment,
    dataset: &Dataset,
    object: &StoredDataset,
    time: Duration,
) -> Result<Recorded, DatabaseError> {
    database
        .run(time, |session| async move {
            let client = session.client()?;
            let id = id_of(client, feed).await?;
            record(client, id, dataset, Some(object)).await?;
            Ok(Recorded {})
        })
        .await
}

/// Begins a version once more, or records its object. What was recorded stays as it is.
async fn record(
    client: &impl GenericClient,
    feed: i64,
    dataset: &Dataset,
    object: Option<&StoredDataset>,
) -> Result<(), DatabaseError> {
    let sql = "insert into cubic_dmap_datasets as known (feed_id, type, identifier, start_date, end_date, last_updated, url, \
          s3_key, s3_etag, s3_size, sha256, attempts, fetched_at) \
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, case when $9::text is not null then now() end) \
        on conflict (type, identifier, last_updated) do update set s3_etag = excluded.s3_etag, \
        s3_size = excluded.s3_size, sha256 = excluded.sha256, fetched_at = excluded.fetched_at, \
        attempts = known.attempts + excluded.attempts where known.fetched_at is null";
    let size = object.map(|object| i64::try_from(object.size).unwrap_or(i64::MAX));
    let attempts = i32::from(object.is_none());
    let (e_tag, sha256) = (object.map(|object| &object.e_tag), object.and_then(|object| object.sha256.as_ref()));
    let (start, end): (Option<Date>, Option<Date>) = (dataset.start_date, dataset.end_date);
    let parameters: [&(dyn ToSql + Sync); 12] = [
        &feed,
        &dataset.kind.to_string(),
        &dataset.identifier.to_string(),
        &start,
        &end,
        &dataset.last_updated,
        &dataset.url,
        &dataset.key(),
        &e_tag,
        &size,
        &sha256,
        &attempts,
    ];
    client.execute(sql, &parameters).await?;
    Ok(())
}

/// Records that every dataset of an answer has been fetched.
pub async fn answered(
    database: &Database,
    feed: &Segment,
    last_updated: Option<Timestamp>,
    time: Duration,
) -> Result<Recorded, DatabaseError> {
    database
        .run(time, |session| async move {
            let client = session.client()?;
            let sql = "update cubic_dmap_feeds set asked_at = now(), answered_at = now(), \
                last_updated = greatest(last_updated, least($2, now())) where name = $1";
            match client.execute(sql, &[&feed.to_string(), &last_updated]).await? {
                0 => Err(unknown(client, feed).await),
                _ => Ok(Recorded {}),
            }
        })
        .await
}
