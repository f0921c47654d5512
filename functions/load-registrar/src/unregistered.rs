//! Objects that are no loads: those that can never be loaded are recorded here, and all of them are listed. Objects that
//! no table takes are recorded by `register_objects` in SQL, together with the loads of their batch.

use std::time::Duration;

use jiff::Timestamp;
use shared::{
    registrar::{UnregisteredList, UnregisteredObject, UnregisteredPosition, UnregisteredReason},
    s3_key,
};

use crate::{
    database::{Database, DatabaseError},
    object::Object,
    page,
};

const SET_ASIDE: &str = "select set_aside_objects($1, $2, $3, $4, $5, $6)";

/// Records objects that are no data, any number of times.
pub async fn set_aside(database: &Database, objects: &[Object], time: Duration) -> Result<(), DatabaseError> {
    if objects.is_empty() {
        return Ok(());
    }
    // In the order of their keys, so that concurrent batches with the same objects do not deadlock.
    let mut objects: Vec<&Object> = objects.iter().collect();
    objects.sort_unstable();
    let (reasons, keys): (Vec<&str>, Vec<String>) = objects
        .iter()
        .map(|object| match object.key.contains('\0') {
            true => (UnregisteredReason::KeyHoldsNul.as_str(), s3_key::encode(&object.key)),
            false => (UnregisteredReason::NotData.as_str(), object.key.clone()),
        })
        .unzip();
    let modified: Vec<Timestamp> = objects.iter().map(|object| object.modified).collect();
    let sizes: Vec<i64> = objects.iter().map(|object| object.size).collect();
    let e_tags: Vec<&str> = objects.iter().map(|object| object.e_tag.as_str()).collect();
    let versions: Vec<Option<&str>> = objects.iter().map(|object| object.version.as_deref()).collect();
    database
        .run(time, |mut session| {
            let (reasons, keys, modified, sizes, e_tags, versions) =
                (&reasons, &keys, &modified, &sizes, &e_tags, &versions);
            async move {
                let statement = session.prepared(SET_ASIDE).await?;
                session.client()?.execute(&statement, &[reasons, keys, modified, sizes, e_tags, versions]).await?;
                Ok(())
            }
        })
        .await
}

/// Those of some objects that are no data which are not recorded yet.
pub async fn unknown<'o>(
    database: &Database,
    objects: &'o [Object],
    time: Duration,
) -> Result<Vec<&'o Object>, DatabaseError> {
    if objects.is_empty() {
        return Ok(Vec::new());
    }
    let positions: Vec<i64> = (0..).zip(objects).map(|(position, _)| position).collect();
    let keys: Vec<String> = objects.iter().map(|object| stored(&object.key)).collect();
    let modified: Vec<Timestamp> = objects.iter().map(|object| object.modified).collect();
    let e_tags: Vec<&str> = objects.iter().map(|object| object.e_tag.as_str()).collect();
    let sql = "select n from unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[]) as o (n, key, modified, etag) \
        where not exists (select from unregistered_objects where reason in ('not_data', 'key_holds_nul') \
          and s3_key = o.key and s3_modified = o.modified and s3_etag = o.etag) order by n";
    database
        .run(time, |session| {
            let (positions, keys, modified, e_tags) = (&positions, &keys, &modified, &e_tags);
            async move {
                let rows = session.client()?.query(sql, &[positions, keys, modified, e_tags]).await?;
                let numbers: Vec<i64> = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
                Ok(numbers.into_iter().filter_map(|number| objects.get(usize::try_from(number).ok()?)).collect())
            }
        })
        .await
}

/// A key as it is stored: one that holds NUL is URL-encoded.
fn stored(key: &str) -> String {
    if key.contains('\0') { s3_key::encode(key) } else { key.to_owned() }
}

/// Forgets that objects were recorded as no data: by their suffix they are data now, and registered.
pub async fn forget(database: &Database, objects: &[&Object], time: Duration) -> Result<(), DatabaseError> {
    if objects.is_empty() {
        return Ok(());
    }
    let keys: Vec<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    let modified: Vec<Timestamp> = objects.iter().map(|object| object.modified).collect();
    let e_tags: Vec<&str> = objects.iter().map(|object| object.e_tag.as_str()).collect();
    let sql = "delete from unregistered_objects as known \
        using unnest($1::text[], $2::timestamptz[], $3::text[]) as o (key, modified, etag) \
        where reason = 'not_data' and s3_key = o.key and s3_modified = o.modified and s3_etag = o.etag";
    database
        .run(time, |session| {
            let (keys, modified, e_tags) = (&keys, &modified, &e_tags);
            async move { Ok(session.client()?.execute(sql, &[keys, modified, e_tags]).await.map(drop)?) }
        })
        .await
}

/// Lists unregistered objects by key.
pub async fn list(
    database: &Database,
    prefix: Option<&str>,
    reason: Option<UnregisteredReason>,
    after: Option<&UnregisteredPosition>,
    limit: u32,
    time: Duration,
) -> Result<UnregisteredList, DatabaseError> {
    let limit = page::checked(limit)?;
    let reason = reason.map(UnregisteredReason::as_str);
    let (after_key, after_id) = (after.map(|after| &after.s3_key), after.map(|after| after.id));
    // `>=` is what the index can look up; `^@` (starts with) is what is meant.
    let sql = "select id, reason, s3_key, s3_modified, s3_size from unregistered_objects \
        where ($1::text is null or s3_key >= $1 and s3_key ^@ $1) and ($2::text is null or reason = $2) \
          and ($3::text is null or (s3_key, id) > ($3, $4::bigint)) \
        order by s3_key, id limit $5";
    database
        .run(time, |session| async move {
            let mut rows =
                session.client()?.query(sql, &[&prefix, &reason, &after_key, &after_id, &(limit + 1)]).await?;
            let more = page::cut(&mut rows, limit);
            let next = match rows.last().filter(|_| more) {
                Some(row) => Some(UnregisteredPosition { s3_key: row.try_get(2)?, id: row.try_get(0)? }),
                None => None,
            };
            let objects = rows.iter().map(|row| {
                Ok(UnregisteredObject {
                    reason: row.try_get::<_, &str>(1)?.parse().map_err(|_| DatabaseError::Schema)?,
                    s3_key: row.try_get(2)?,
                    s3_modified: row.try_get(3)?,
                    s3_size: row.try_get(4)?,
                })
            });
            Ok(UnregisteredList { objects: objects.collect::<Result<_, DatabaseError>>()?, next })
        })
        .await
}
