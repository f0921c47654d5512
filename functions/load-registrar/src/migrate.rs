//! The schema, brought to this version's step by step. Each step is one transaction, and two callers take turns.

use std::{fmt::Write, time::Duration};

use sha2::{Digest, Sha256};
use shared::registrar::Migrated;
use tracing::info;

use crate::database::{Database, DatabaseError};

/// The steps, in order. A step that was released is never changed: another one follows it.
const STEPS: [(i32, &str, &str); 1] = [(1, "loads", include_str!("../migrations/0001_loads.sql"))];

const TABLE: &str = "
create table if not exists landfall_migrations (
  version integer primary key,
  name text not null,
  sha256 text not null,
  applied_at timestamptz not null default now()
);
comment on table landfall_migrations is 'Steps of the schema that have been applied.';
comment on column landfall_migrations.version is 'Number of the step.';
comment on column landfall_migrations.name is 'Its name.';
comment on column landfall_migrations.sha256 is 'SHA-256 of its text.';
comment on column landfall_migrations.applied_at is 'When it was applied.'";

/// What the next step finds.
enum Found {
    /// It was applied before.
    Applied,
    /// It was applied now.
    AppliedNow,
    /// Another text of the same number was applied before.
    Other,
}

/// Applies the steps that have not been.
pub async fn migrate(database: &Database, time: Duration) -> Result<Migrated, DatabaseError> {
    let mut migrated = Migrated { applied: Vec::new(), version: 0 };
    for (version, name, sql) in STEPS {
        let sha256 = Sha256::digest(sql).iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let found = database
            .run(time, |mut session| {
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
                        return Ok(if same { Found::Applied } else { Found::Other });
                    }
                    transaction.batch_execute(sql).await?;
                    let insert = "insert into landfall_migrations (version, name, sha256) values ($1, $2, $3)";
                    transaction.execute(insert, &[&version, &name, sha256]).await?;
                    transaction.commit().await?;
                    Ok(Found::AppliedNow)
                }
            })
            .await?;
        match found {
            Found::Applied => {}
            Found::AppliedNow => {
                info!(migration.version = version, migration.name = name, "schema migrated");
                migrated.applied.push(format!("{version:04}_{name}"));
            }
            Found::Other => {
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
