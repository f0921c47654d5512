//! Gives objects to the tables that they belong to after tables changed, in steps of a transaction each: registering goes on
//! between them, and whoever comes next goes on where they ended. The work is done by `settle_objects` in `migrations/`.

use std::time::Duration;

use shared::registrar::Settled;
use tokio::time::Instant;
use tracing::info;

use crate::database::{Database, DatabaseError};

/// Objects of a step, which takes about a second.
const STEP: i32 = 10_000;

/// Takes steps until all is settled, and begins none after `stepping`.
pub async fn settle(database: &Database, stepping: Duration, time: Duration) -> Result<Settled, DatabaseError> {
    let (begun, mut all) = (Instant::now(), Settled { unsettled: true, ..Settled::default() });
    while all.unsettled {
        let step = step(database, time.saturating_sub(begun.elapsed())).await?;
        all.picked_up += step.picked_up;
        all.moved += step.moved;
        all.set_aside += step.set_aside;
        all.unsettled = step.unsettled;
        if begun.elapsed() >= stepping {
            break;
        }
    }
    let Settled { picked_up, moved, set_aside, unsettled } = all;
    if picked_up + moved + set_aside > 0 || unsettled {
        info!(picked_up, moved, set_aside, unsettled, "objects given to their tables");
    }
    Ok(all)
}

async fn step(database: &Database, time: Duration) -> Result<Settled, DatabaseError> {
    database
        .run(time, |session| async move {
            let row = session.client()?.query_one("select * from settle_objects($1)", &[&STEP]).await?;
            let number = |name| Ok::<_, DatabaseError>(u64::try_from(row.try_get::<_, i64>(name)?).unwrap_or(0));
            Ok(Settled {
                picked_up: number("picked_up")?,
                moved: number("moved")?,
                set_aside: number("set_aside")?,
                unsettled: !row.try_get::<_, bool>("is_settled")?,
            })
        })
        .await
}
