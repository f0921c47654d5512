//! Objects → loads: a batch is one statement, one round trip and one transaction, and is idempotent. The work is done by
//! the function `register_objects` in `migrations/`.

use std::time::Duration;

use jiff::Timestamp;
use shared::s3_key;

use crate::{
    database::{Database, DatabaseError},
    object::Object,
};

const REGISTER: &str = "select * from register_objects($1, $2, $3, $4, $5, $6, $7, $8)";

/// What became of a batch of objects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Registered {
    /// New loads.
    pub registered: i64,
    /// Objects that were loads already.
    pub known: i64,
    /// Objects newly recorded as belonging to no active table, or as having the key of a load that there can be only once.
    pub unregistered: i64,
    /// Snapshots that started.
    pub snapshots: i64,
    /// Loads that were waiting for one of these snapshots and are ready now.
    pub released: i64,
    /// Loads that had been ingested already and belong to one of these snapshots.
    pub displaced: i64,
}

/// Registers a batch of data objects.
pub async fn register(database: &Database, objects: &[Object], time: Duration) -> Result<Registered, DatabaseError> {
    if objects.is_empty() {
        return Ok(Registered::default());
    }
    // In the order of their keys, so that concurrent batches with the same objects do not deadlock.
    let mut objects: Vec<&Object> = objects.iter().collect();
    objects.sort_unstable();
    // A text of Postgres cannot hold NUL. Such a key is stored URL-encoded, as in a notification, and gets no folder, so
    // that no table takes it.
    let hold_nul: Vec<bool> = objects.iter().map(|object| object.key.contains('\0')).collect();
    let keys: Vec<String> = objects
        .iter()
        .zip(&hold_nul)
        .map(|(object, nul)| if *nul { s3_key::encode(&object.key) } else { object.key.clone() })
        .collect();
    // The table is looked up once for each folder: there are few folders and many keys.
    let mut folders: Vec<&str> = Vec::new();
    let mut folder_numbers: Vec<i32> = Vec::with_capacity(keys.len());
    for (key, nul) in keys.iter().zip(&hold_nul) {
        let folder = key.rfind('/').filter(|_| !nul).and_then(|slash| key.get(..=slash)).unwrap_or_default();
        if folders.last() != Some(&folder) {
            folders.push(folder);
        }
        folder_numbers.push(i32::try_from(folders.len()).unwrap_or(i32::MAX));
    }
    let modified: Vec<Timestamp> = objects.iter().map(|object| object.modified).collect();
    let sizes: Vec<i64> = objects.iter().map(|object| object.size).collect();
    let e_tags: Vec<&str> = objects.iter().map(|object| object.e_tag.as_str()).collect();
    let versions: Vec<Option<&str>> = objects.iter().map(|object| object.version.as_deref()).collect();
    database
        .run(time, |mut session| {
            let (folders, folder_numbers, hold_nul) = (&folders, &folder_numbers, &hold_nul);
            let (keys, modified, sizes, e_tags, versions) = (&keys, &modified, &sizes, &e_tags, &versions);
            async move {
                let statement = session.prepared(REGISTER).await?;
                let row = session
                    .client()?
                    .query_one(
                        &statement,
                        &[folders, folder_numbers, keys, modified, sizes, e_tags, versions, hold_nul],
                    )
                    .await?;
                Ok(Registered {
                    registered: row.try_get("registered")?,
                    known: row.try_get("known")?,
                    unregistered: row.try_get("unregistered")?,
                    snapshots: row.try_get("snapshots")?,
                    released: row.try_get("released")?,
                    displaced: row.try_get("displaced")?,
                })
            }
        })
        .await
}
