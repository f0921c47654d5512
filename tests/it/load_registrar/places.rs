//! The folders that the files of loads belong in, when snapshots arrive late.

use serde_json::json;
use shared::registrar::{Load, LoadList, LoadStatus, Step};

use super::{LOAD, NOON, World};
use crate::incoming::Version;

/// `2026-11-20T12:00:00Z`, plus minutes.
fn place(minutes: i64) -> String {
    format!("cubic/ods_qlik/EDW.SAMPLE__ct/snapshot=20261120T12{minutes:02}00Z/")
}

fn snapshot(minutes: i64) -> Version {
    let version = Some(format!("v{minutes}"));
    Version { version, ..Version::new(LOAD, NOON + minutes * 60, 1 + minutes.unsigned_abs()) }
}

/// A world with a snapshot at noon, and a load of changes half an hour later.
async fn world() -> World {
    let world = World::new().await;
    world.put(&[snapshot(0), Version::new("cubic/ods_qlik/EDW.SAMPLE__ct/1.csv.gz", NOON + 1_800, 1)]).await;
    let lease = world.claim("a job", Step::Ingest).await.remove(0);
    assert_eq!(lease.s3_key, LOAD);
    assert!(world.step(lease.id, Some(lease.lease), LoadStatus::ReadyForArchiving).await.unwrap());
    // The job that claimed both gives the changes back.
    world
        .ask(json!({"command": "loads_set_status", "loads": [{"id": 2}], "status": "ready", "by": "x", "revoke": true}))
        .await
        .unwrap();
    world
}

impl World {
    async fn displaced(&self) -> Vec<Load> {
        let command = json!({"command": "loads_list", "displaced": true, "limit": 100});
        serde_json::from_value::<LoadList>(self.ask(command).await.unwrap()).unwrap().loads
    }

    async fn claim_changes(&self, step: &str) -> Load {
        let command =
            json!({"command": "loads_next", "step": step, "loads": [2], "limit": 1, "lease_seconds": 600, "by": "j"});
        serde_json::from_value::<LoadList>(self.ask(command).await.unwrap()).unwrap().loads.remove(0)
    }

    async fn take(&self, load: &Load, to: LoadStatus) -> Result<bool, String> {
        self.step(load.id, Some(load.lease), to).await
    }
}

#[tokio::test]
async fn a_snapshot_that_comes_after_the_archiving_has_the_load_archived_again() {
    let world = world().await;
    let ingesting = world.claim_changes("ingest").await;
    assert_eq!((ingesting.place.clone(), ingesting.complete_in.clone()), (place(0), None));
    assert!(world.take(&ingesting, LoadStatus::ReadyForArchiving).await.unwrap());
    let archiving = world.claim_changes("archive").await;
    assert_eq!((archiving.place.clone(), archiving.complete_in.clone()), (place(0), Some(place(0))));
    assert!(world.take(&archiving, LoadStatus::Archived).await.unwrap());
    assert_eq!(world.displaced().await, []);
    let again = world.step(2, None, LoadStatus::ReadyForArchiving).await.unwrap_err();
    assert_eq!(again, "load 2 is archived where it belongs");

    world.put(&[snapshot(20)]).await;
    let displaced = &world.displaced().await[0];
    assert_eq!((displaced.id, displaced.status), (2, LoadStatus::ReadyForArchiving));
    assert_eq!((displaced.place.clone(), displaced.complete_in.clone()), (place(20), Some(place(0))));
    let log = "select from_status, to_status, reason from cubic_load_transitions order by id desc limit 1";
    assert_eq!(world.scratch.lines(log).await, ["archived|ready_for_archiving|snapshot_changed"]);
    // Its object is in the archive, so it is not missing in the incoming bucket.
    world.incoming.state().deleted.insert(displaced.s3_key.clone());
    assert_eq!(super::reconcile(&world, true).await.phantom, 0);

    let archiving = world.claim_changes("archive").await;
    assert_eq!(archiving.places, [place(0), place(20)]);
    assert!(world.take(&archiving, LoadStatus::Archived).await.unwrap());
    assert_eq!(world.displaced().await, []);
    assert_eq!(
        world.scratch.lines("select place, is_complete from cubic_load_places where load_id = 2").await,
        [format!("{}|t", place(20))]
    );
}

#[tokio::test]
async fn a_snapshot_that_comes_during_the_archiving_refuses_its_end() {
    let world = world().await;
    let ingesting = world.claim_changes("ingest").await;
    // It was claimed under one snapshot, and belongs to another when it is ingested.
    world.put(&[snapshot(10)]).await;
    assert_eq!(world.displaced().await, [], "nothing is ingested yet");
    assert!(world.take(&ingesting, LoadStatus::ReadyForArchiving).await.unwrap());
    assert_eq!(world.displaced().await.len(), 1);
    let archiving = world.claim_changes("archive").await;
    assert_eq!((archiving.place.clone(), archiving.complete_in.clone()), (place(10), Some(place(0))));
    world.put(&[snapshot(20)]).await;
    let log = "select from_status, to_status, reason from cubic_load_transitions order by id desc limit 1";
    assert_eq!(world.scratch.lines(log).await, ["archiving|archiving|snapshot_changed"]);
    let error = world.take(&archiving, LoadStatus::Archived).await.unwrap_err();
    assert!(error.contains("its snapshot has changed: set it to ready_for_archiving"), "{error}");
    assert!(world.take(&archiving, LoadStatus::ReadyForArchiving).await.unwrap());
    let archiving = world.claim_changes("archive").await;
    assert_eq!(archiving.places, [place(0), place(10), place(20)]);
    assert!(world.take(&archiving, LoadStatus::Archived).await.unwrap());
}

#[tokio::test]
async fn files_of_a_job_that_died_are_not_forgotten() {
    let world = world().await;
    world.claim_changes("ingest").await;
    world.put(&[snapshot(10)]).await;
    let revoke =
        json!({"command": "loads_set_status", "loads": [{"id": 2}], "status": "ready", "by": "x", "revoke": true});
    world.ask(revoke).await.unwrap();
    let ingesting = world.claim_changes("ingest").await;
    assert_eq!(ingesting.place, place(10));
    assert!(world.take(&ingesting, LoadStatus::ReadyForArchiving).await.unwrap());
    let archiving = world.claim_changes("archive").await;
    assert_eq!((archiving.complete_in, archiving.places), (Some(place(10)), vec![place(0), place(10)]));
}

#[tokio::test]
async fn a_load_without_a_snapshot_belongs_to_the_time_of_its_object() {
    let world = World::new().await;
    world.put(&[Version::new("cubic/dmap/agg_sample/1.csv", NOON + 61, 1)]).await;
    let load = world.claim("a job", Step::Ingest).await.remove(0);
    assert_eq!(load.place, "cubic/dmap/agg_sample/timestamp=20261120T120101Z/");
}
