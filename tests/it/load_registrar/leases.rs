//! Claims, leases and steps of jobs.

use serde_json::{Value, json};
use shared::registrar::{Load, LoadList, LoadStatus, LoadsMoved, Step};

use super::{NOON, World, declaration};
use crate::{incoming::Version, registrar::expire_leases};

impl World {
    /// With this many ready loads of a table, and their ids.
    async fn with_loads(number: i64) -> (Self, Vec<i64>) {
        let world = Self::new().await;
        let puts: Vec<Version> =
            (0..number).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at}.csv"), NOON + at, 1)).collect();
        world.put(&puts).await;
        let ids = world.scratch.lines("select id from cubic_loads order by id").await;
        (world, ids.iter().map(|id| id.parse().unwrap()).collect())
    }

    /// Claims what there is, for ten minutes.
    pub(super) async fn claim(&self, by: &str, step: Step) -> Vec<Load> {
        let command = json!({"command": "loads_next", "step": step, "limit": 100, "lease_seconds": 600, "by": by});
        serde_json::from_value::<LoadList>(self.ask(command).await.unwrap()).unwrap().loads
    }

    async fn renew(&self, id: i64, lease: i64) -> Result<(), String> {
        let load = json!({"id": id, "lease": lease});
        self.ask(json!({"command": "loads_renew", "loads": [load], "lease_seconds": 600})).await.map(drop)
    }

    /// Whether the step changed anything.
    pub(super) async fn step(&self, id: i64, lease: Option<i64>, to: LoadStatus) -> Result<bool, String> {
        self.set(json!([{"id": id, "lease": lease}]), to, false).await.map(|moved| moved.unchanged.is_empty())
    }

    async fn set(&self, loads: Value, to: LoadStatus, revoke: bool) -> Result<LoadsMoved, String> {
        let command =
            json!({"command": "loads_set_status", "loads": loads, "status": to, "by": "a job", "revoke": revoke});
        Ok(serde_json::from_value(self.ask(command).await?).unwrap())
    }

    async fn load(&self, id: i64) -> String {
        self.scratch
            .lines(&format!("select status, status_reason, lease, attempts from cubic_loads where id = {id}"))
            .await
            .remove(0)
    }
}

/// The steps that a job can take, from the status in which it works.
const STEPS: [(Step, [LoadStatus; 2]); 3] = [
    (Step::Ingest, [LoadStatus::ReadyForArchiving, LoadStatus::Ready]),
    (Step::Archive, [LoadStatus::Archived, LoadStatus::ReadyForArchiving]),
    (Step::Error, [LoadStatus::Errored, LoadStatus::ReadyForErroring]),
];

/// Moves the load to where jobs claim it for this step.
async fn bring_to(world: &World, id: i64, step: Step) {
    match step {
        Step::Ingest => {}
        Step::Archive => {
            let lease = world.claim("before", Step::Ingest).await[0].lease;
            world.step(id, Some(lease), LoadStatus::ReadyForArchiving).await.unwrap();
        }
        Step::Error => drop(world.step(id, None, LoadStatus::ReadyForErroring).await.unwrap()),
    }
}

#[tokio::test]
async fn a_job_that_outlived_its_lease_can_change_nothing() {
    for (step, [done, back]) in STEPS {
        let (world, ids) = World::with_loads(1).await;
        let id = ids[0];
        bring_to(&world, id, step).await;
        let slow = world.claim("slow", step).await[0].lease;
        let mut as_it_was = world.load(id).await;
        let refused = async |as_it_was: &str, says: &str| {
            for to in [done, back, LoadStatus::ReadyForErroring] {
                let error = world.step(id, Some(slow), to).await.unwrap_err();
                assert!(error.contains(says), "{step} {to}: {error}");
            }
            let error = world.renew(id, slow).await.unwrap_err();
            assert!(error.contains(says), "{step}: {error}");
            assert_eq!(world.load(id).await, as_it_was);
        };
        expire_leases(&world.scratch).await;
        refused(&as_it_was, &format!("lease {slow} of load {id} ran out at 20")).await;
        let heir = world.claim("heir", step).await[0].lease;
        assert_eq!(heir, slow + 1);
        as_it_was = world.load(id).await;
        refused(&as_it_was, &format!("is not its current one, which is {heir} of heir")).await;
        assert!(world.step(id, Some(heir), done).await.unwrap());
        as_it_was = world.load(id).await;
        refused(&as_it_was, &format!("so lease {slow} of it has ended")).await;
    }
}

#[tokio::test]
async fn a_repeated_step_changes_nothing_and_says_so() {
    let (world, ids) = World::with_loads(1).await;
    let id = ids[0];
    let lease = world.claim("a job", Step::Ingest).await[0].lease;
    assert!(world.step(id, Some(lease), LoadStatus::ReadyForArchiving).await.unwrap());
    assert!(!world.step(id, Some(lease), LoadStatus::ReadyForArchiving).await.unwrap());
    // Also when another job has gone on.
    let archiver = world.claim("archiver", Step::Archive).await[0].lease;
    assert!(!world.step(id, Some(lease), LoadStatus::ReadyForArchiving).await.unwrap());
    assert!(world.step(id, Some(archiver), LoadStatus::Archived).await.unwrap());
    assert!(!world.step(id, Some(archiver), LoadStatus::Archived).await.unwrap());
    let log = "select from_status, to_status, lease from cubic_load_transitions order by id";
    let expected = [
        "ready|ingesting|1",
        "ingesting|ready_for_archiving|1",
        "ready_for_archiving|archiving|2",
        "archiving|archived|2",
    ];
    assert_eq!(world.scratch.lines(log).await, expected);
}

#[tokio::test]
async fn a_lease_is_renewed_while_it_lasts() {
    let (world, ids) = World::with_loads(1).await;
    let command = json!({"command": "loads_next", "limit": 1, "lease_seconds": 2, "by": "a job"});
    world.ask(command).await.unwrap();
    world.renew(ids[0], 1).await.unwrap();
    let left = "select leased_until - now() > interval '9 minutes', lease, attempts from cubic_loads";
    assert_eq!(world.scratch.lines(left).await, ["t|1|1"]);
    let nameless = json!({"command": "loads_renew", "loads": [{"id": ids[0]}], "lease_seconds": 600});
    let error = world.ask(nameless).await.unwrap_err();
    assert_eq!(error, format!("this takes leases, and none is named of load {}", ids[0]));
}

#[tokio::test]
async fn a_load_that_waits_in_a_queue_is_begun_once_and_only_that_is_an_attempt() {
    for (step, [done, back]) in STEPS {
        let (world, ids) = World::with_loads(1).await;
        let id = ids[0];
        bring_to(&world, id, step).await;
        let attempts = async || world.scratch.lines("select attempts, is_queued from cubic_loads").await.remove(0);
        let before = attempts().await;
        let places = world.count("cubic_load_places").await;
        let queue = async || {
            let command = json!({"command": "loads_next", "step": step, "limit": 1, "lease_seconds": 600, "by": "queue", "queued": true});
            serde_json::from_value::<LoadList>(world.ask(command).await.unwrap()).unwrap().loads[0].lease
        };
        let begin = async |lease: i64| {
            let loads = json!([{"id": id, "lease": lease}]);
            let command = json!({"command": "loads_begin", "loads": loads, "lease_seconds": 600, "by": "a job"});
            let begun = world.ask(command).await?;
            Ok::<_, String>(serde_json::from_value::<LoadList>(begun).unwrap().loads.remove(0))
        };
        // Given back, or forgotten, it is as before.
        let first = queue().await;
        assert!(world.step(id, Some(first), back).await.unwrap());
        queue().await;
        expire_leases(&world.scratch).await;
        let queued = queue().await;
        assert_eq!(attempts().await, before.replace("|f", "|t"));
        assert_eq!(world.count("cubic_load_places").await, places, "nobody writes files yet");
        let error = world.step(id, Some(queued), done).await.unwrap_err();
        assert!(error.contains("waits in a queue; a job has to begin with it"), "{error}");

        let begun = begin(queued).await.unwrap();
        assert_eq!((begun.lease, begun.leased_by.as_deref()), (queued + 1, Some("a job")));
        assert_eq!(begun.attempts, if step == Step::Error { 0 } else { 1 });
        let error = begin(queued).await.unwrap_err();
        assert!(error.contains("does not wait in a queue"), "{error}");
        let error = world.step(id, Some(queued), done).await.unwrap_err();
        assert!(error.contains("is not its current one"), "{error}");
        assert!(world.step(id, Some(begun.lease), done).await.unwrap());
        assert_eq!(attempts().await, format!("{}|f", begun.attempts));
    }
}

#[tokio::test]
async fn a_load_whose_lease_runs_out_too_often_is_given_up() {
    let (world, ids) = World::with_loads(1).await;
    let client = world.scratch.client().await;
    client.batch_execute("update cubic_tables set max_attempts = 3").await.unwrap();
    for attempt in 1..=3 {
        // What a job gives back is no attempt.
        let lease = world.claim("honest", Step::Ingest).await[0].lease;
        assert!(world.step(ids[0], Some(lease), LoadStatus::Ready).await.unwrap());
        assert_eq!(world.claim("crashing", Step::Ingest).await[0].attempts, attempt);
        if attempt < 3 {
            expire_leases(&world.scratch).await;
            // The next claim takes over, and gives back the attempt of its own.
            let lease = world.claim("heir", Step::Ingest).await[0].lease;
            assert!(world.step(ids[0], Some(lease), LoadStatus::Ready).await.unwrap());
        }
    }
    expire_leases(&world.scratch).await;
    assert_eq!(world.claim("nobody", Step::Ingest).await, []);
    assert_eq!(world.load(ids[0]).await, "ready_for_erroring|attempts_exhausted|9|3");
    // By hand, it gets all its attempts again.
    assert!(world.step(ids[0], None, LoadStatus::Ready).await.unwrap());
    assert_eq!(world.load(ids[0]).await, "ready||9|0");
}

#[tokio::test]
async fn without_a_lease_a_load_is_changed_only_when_nobody_works_on_it() {
    let (world, ids) = World::with_loads(2).await;
    let claimed = world.claim("a job", Step::Ingest).await;
    assert_eq!(claimed.len(), 2);
    let error = world.step(ids[0], None, LoadStatus::ReadyForErroring).await.unwrap_err();
    assert!(error.starts_with(&format!("load {} is ingesting under lease 1 of a job until 20", ids[0])), "{error}");
    // Either all or none.
    let mixed = json!([{"id": ids[0], "lease": 1}, {"id": ids[1]}]);
    world.set(mixed, LoadStatus::ReadyForArchiving, false).await.unwrap_err();
    assert_eq!(world.load(ids[0]).await, "ingesting||1|1");
    // Taken away, it is fenced against its job.
    let revoked = world.set(json!([{"id": ids[0]}]), LoadStatus::Ready, true).await.unwrap();
    assert_eq!(revoked.loads[0].lease, 2);
    let error = world.step(ids[0], Some(1), LoadStatus::ReadyForArchiving).await.unwrap_err();
    assert!(error.contains("is ready, so lease 1 of it has ended"), "{error}");
    // A lease that has run out does not have to be taken away.
    expire_leases(&world.scratch).await;
    assert!(world.step(ids[1], None, LoadStatus::ReadyForErroring).await.unwrap());
}

#[tokio::test]
async fn a_claim_takes_the_oldest_loads_of_all_active_tables_and_says_what_to_read() {
    let world = World::new().await;
    let mut puts = [
        Version::new("cubic/kafka/sample/b.json", NOON + 1, 3),
        Version::new("cubic/dmap/agg_sample/a.csv", NOON + 2, 4),
        Version::new("cubic/dmap/agg_sample/c.csv", NOON, 5),
        Version::new("shop/x.csv", NOON - 1, 6),
    ];
    puts[1].version = Some("v1".to_owned());
    world.declare(&[declaration("shop/", "other")]).await;
    world.put(&puts).await;
    world.declare(&[json!({"prefix": "shop/", "kind": "other", "active": false})]).await;
    let claimed = world.claim("a job", Step::Ingest).await;
    let keys: Vec<&str> = claimed.iter().map(|load| load.s3_key.as_str()).collect();
    assert_eq!(keys, ["cubic/dmap/agg_sample/c.csv", "cubic/kafka/sample/b.json", "cubic/dmap/agg_sample/a.csv"]);
    let read = &claimed[2];
    assert_eq!((read.s3_bucket.as_str(), read.s3_version.as_deref()), (crate::incoming::INCOMING, Some("v1")));
    assert_eq!(read.s3_etag, puts[1].e_tag);
    // Only the loads that are named, and only the step that is asked for.
    let lease = claimed[0].lease;
    assert!(world.step(claimed[0].id, Some(lease), LoadStatus::ReadyForArchiving).await.unwrap());
    assert!(world.step(claimed[1].id, Some(claimed[1].lease), LoadStatus::ReadyForArchiving).await.unwrap());
    let one = json!({"command": "loads_next", "step": "archive", "loads": [claimed[1].id], "limit": 9,
        "lease_seconds": 60, "by": "me"});
    let loads = serde_json::from_value::<LoadList>(world.ask(one).await.unwrap()).unwrap().loads;
    assert_eq!(
        loads.iter().map(|load| (load.id, load.status)).collect::<Vec<_>>(),
        [(claimed[1].id, LoadStatus::Archiving)]
    );
    assert_eq!(world.claim("me", Step::Archive).await.len(), 1);
}

#[tokio::test]
async fn leases_fence_in_sql_too() {
    let (world, ids) = World::with_loads(1).await;
    let client = world.scratch.client().await;
    let fails = async |sql: &str, says: &str| {
        let error = client.batch_execute(sql).await.unwrap_err();
        let message = error.as_db_error().unwrap().message();
        assert!(message.contains(says), "{message}");
    };
    let claim =
        "update cubic_loads set status = 'ingesting', leased_by = 'psql', leased_until = now() + interval '1min'";
    fails("update cubic_loads set status = 'ingesting'", "can be ingesting only under a lease").await;
    client.batch_execute(claim).await.unwrap();
    fails("update cubic_loads set leased_until = now() + interval '1h'", "is ingesting under lease 1 of psql").await;
    fails("update cubic_loads set status = 'ready', by_lease = 2", "lease 2 of load").await;
    fails("update cubic_loads set leased_by = null, by_lease = 1", "only under a lease").await;
    client.batch_execute("update cubic_loads set lease = 7, attempts = 9").await.unwrap();
    assert_eq!(world.load(ids[0]).await, "ingesting||1|1", "the database counts");
    client.batch_execute("update cubic_loads set status = 'ready_for_archiving', by_lease = 1").await.unwrap();
    client.batch_execute("set landfall.revoke = on").await.unwrap();
    client.batch_execute(&claim.replace("'ingesting'", "'archiving'")).await.unwrap();
    client.batch_execute("update cubic_loads set leased_until = now() + interval '1h'").await.unwrap();
    assert_eq!(world.load(ids[0]).await, "archiving||3|1", "revoked");
}
