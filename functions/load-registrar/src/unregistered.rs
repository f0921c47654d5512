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
