//! Applies the migrations that are missing, each in a transaction of its own. A lock makes concurrent callers take turns.

use std::{fmt::Write, time::Duration};

use sha2::{Digest, Sha256};
use shared::registrar::Migrated;
use tracing::info;

use crate::database::{Database, DatabaseError};

/// The migrations, in order. One that was released is never changed, because databases know its checksum.
const STEPS: [(i32, &str, &str); 10] = [
    (1, "loads", include_str!("../migrations/0001_loads.sql")),
    (2, "statuses", include_str!("../migrations/0002_statuses.sql")),
    (3, "oldest", include_str!("../migrations/0003_oldest.sql")),
    (4, "leases", include_str!("../migrations/0004_leases.sql")),
    (5, "places", include_str!("../migrations/0005_places.sql")),
    (6, "ingesting", include_str!("../migrations/0006_ingesting.sql")),
    (7, "expectations", include_str!("../migrations/0007_expectations.sql")),
    (8, "queue", include_str!("../migrations/0008_queue.sql")),
    (9, "dmap", include_str!("../migrations/0009_dmap.sql")),
    (10, "once", include_str!("../migrations/0010_once.sql")),
];

const TABLE: &str = "
create table if not exists landfall_migrations (
  version integer primary key,
  name text not null,
  sha256 text not null,
  applied_at timestamptz not null default now()
);
comment on table landfall_migrations is 'Migrations that have been applied.';
comment on column landfall_migrations.version is 'Number of the migration.';
comment on column landfall_migrations.name is 'Name of the migration.';
comment on column landfall_migrations.sha256 is 'SHA-256 of its text.';
comment on column landfall_migrations.applied_at is 'When it was applied.'";

/// What became of one migration.
enum Applied {
    Before,
    Now,
    /// A migration of the same number and another text was applied before.
    WithOtherText,
}

/// Applies the migrations that have not been applied yet.
pub async fn migrate(database: &Database, time: Duration) -> Result<Migrated, DatabaseError> {
    let mut migrated = Migrated { applied: Vec::new(), version: 0 };
    for (version, name, sql) in STEPS {
        let sha256 = Sha256::digest(sql).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let found = database
            .run_long(time, |mut session| {
                let sha256 = &sha256;
                async move {
                    let transaction = session.transaction().await?;
                    transaction.batch_execute("select pg_advisory_xact_lock(7236100)").await?;
                    transaction.batch_execute(TABLE).await?;
                    let before = transaction
                        .query_opt("select sha256 from landfall_migrations where version = $1", &[&version])
                        .await?;
                    if let Some(before) = before {
                        let same = before.try_get::<_, &str>(0)? == sha256;
                        return Ok(if same { Applied::Before } else { Applied::WithOtherText });
                    }
                    transaction.batch_execute(sql).await?;
                    let insert = "insert into landfall_migrations (version, name, sha256) values ($1, $2, $3)";
                    transaction.execute(insert, &[&version, &name, sha256]).await?;
                    transaction.commit().await?;
                    Ok(Applied::Now)
                }
            })
            .await?;
        match found {
            Applied::Before => {}
            Applied::Now => {
                info!(migration.version = version, migration.name = name, "schema migrated");
                migrated.applied.push(format!("{version:04}_{name}"));
            }
            Applied::WithOtherText => {
                return Err(DatabaseError::Refused(format!(
                    "migration {version:04}_{name} was applied with another text; this version of the function does not \
                     belong to this database"
                )));
            }
        }
        migrated.version = version;
    }
    Ok(migrated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_of_the_folder_is_applied_in_order() {
        let folder = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
        let mut files: Vec<String> = folder.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        files.retain(|file| file.ends_with(".sql"));
        files.sort();
        let steps: Vec<String> = STEPS.iter().map(|(version, name, _)| format!("{version:04}_{name}.sql")).collect();
        assert_eq!(steps, files);
        assert!(STEPS.iter().zip(1..).all(|((version, ..), expected)| *version == expected));
    }
}
