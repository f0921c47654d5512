//! Tables that change at any time, in any order.

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use shared::registrar::{LoadStatus, Settled, Step, TablesPlan};

use super::{NOON, World, declaration};
use crate::incoming::Version;

/// Objects of nested tables, with versions of two keys that can start snapshots.
fn objects() -> Vec<Version> {
    let mut objects: Vec<Version> = [
        ("p/1.csv", 5),
        ("p/x/1.csv", 5),
        ("p/x/1.csv", 25),
        ("p/x/2.csv", 35),
        ("p/x__ct/1.csv", 0),
        ("p/x__ct/2.csv", 15),
        ("p/x__ct/3.csv", 45),
        ("q/1.csv", 5),
    ]
    .map(|(key, at)| Version::new(key, NOON + at, 1))
    .into();
    objects.extend([10, 20, 40].map(|at| Version::new("p/x/LOAD001.csv.gz", NOON + at, 2)));
    objects.extend([12, 30].map(|at| Version::new("p/x/LOAD002.csv.gz", NOON + at, 2)));
    objects.push(Version::new("p/x/empty.csv", NOON + 50, 0));
    for object in &mut objects {
        object.version = Some(object.modified.to_string());
    }
    objects
}

#[derive(Debug, Clone)]
enum Event {
    Declare(Value),
    Put(Vec<usize>),
    /// A job takes all that is ready, and keeps it or archives it.
    Claim {
        archives: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let table = (0..4_usize, any::<bool>()).prop_flat_map(|(table, active)| {
        let nested = prop_oneof![
            Just(json!({"kind": "ods"})),
            Just(json!({"kind": "ods", "snapshot_key": "p/x/LOAD002.csv.gz"})),
            Just(json!({"kind": "other"})),
        ];
        nested.prop_map(move |nested| {
            let mut table = match table {
                0 => json!({"prefix": "p/", "kind": "other"}),
                1 => json!({"prefix": "p/x__ct/", "kind": "dms"}),
                _ => nested,
            };
            if table["prefix"].is_null() {
                table["prefix"] = "p/x/".into();
            }
            table["active"] = active.into();
            table
        })
    });
    prop_oneof![
        3 => table.prop_map(Event::Declare),
        1 => proptest::collection::vec(0..objects().len(), 1..8).prop_map(Event::Put),
        1 => any::<bool>().prop_map(|archives| Event::Claim { archives }),
    ]
}

/// What is registered, without ids and without these versions.
async fn registered(world: &World, without: &[(String, i64)]) -> Vec<String> {
    let mut lines = world.dump().await;
    lines.retain(|line| line.starts_with("load|") || line.starts_with("unregistered|"));
    let times =
        without.iter().map(|(key, at)| format!("|{key}|{}", Timestamp::from_second(*at).unwrap().strftime("%F %T")));
    let times: Vec<String> = times.collect();
    lines.retain(|line| times.iter().all(|time| !line.contains(time)));
    lines
}

impl World {
    async fn settle(&self) -> Settled {
        serde_json::from_value(self.ask(json!({"command": "tables_settle"})).await.unwrap()).unwrap()
    }

    /// Takes all that is ready. What it was: keys, and when they were modified.
    async fn work(&self, archives: bool) -> Vec<(String, i64)> {
        let taken = self.claim("a job", Step::Ingest).await;
        for load in taken.iter().filter(|_| archives) {
            self.step(load.id, Some(load.lease), LoadStatus::ReadyForArchiving).await.unwrap();
        }
        for load in if archives { self.claim("a job", Step::Archive).await } else { Vec::new() } {
            self.step(load.id, Some(load.lease), LoadStatus::Archived).await.unwrap();
        }
        taken.into_iter().map(|load| (load.s3_key, load.s3_modified.as_second())).collect()
    }

    async fn plan(&self, tables: &[Value]) -> TablesPlan {
        serde_json::from_value(self.ask(json!({"command": "tables_plan", "tables": tables})).await.unwrap()).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn tables_that_change_give_the_same_loads_as_if_they_had_always_been_so(
        events in proptest::collection::vec(event(), 1..9),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let objects = objects();
            let changing = World::empty().await;
            let mut tables: BTreeMap<String, Value> = BTreeMap::new();
            let mut taken = Vec::new();
            for event in events {
                match event {
                    Event::Declare(table) => {
                        let plan = changing.plan(std::slice::from_ref(&table)).await;
                        let applied = changing.declare(std::slice::from_ref(&table)).await;
                        prop_assert_eq!(applied, plan, "{}", table);
                        tables.insert(table["prefix"].to_string(), table);
                    }
                    Event::Claim { archives } => taken.extend(changing.work(archives).await),
                    Event::Put(at) => changing.put(&at.iter().map(|at| objects[*at].clone()).collect::<Vec<_>>()).await,
                }
            }
            changing.put(&objects).await;

            let constant = World::empty().await;
            let tables: Vec<Value> = tables.into_values().collect();
            if !tables.is_empty() {
                constant.declare(&tables).await;
            }
            constant.put(&objects).await;
            prop_assert_eq!(registered(&changing, &taken).await, registered(&constant, &taken).await);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn what_a_job_has_decided_stays_with_its_table() {
    let world = World::empty().await;
    world.declare(&[declaration("p/", "other")]).await;
    let puts: Vec<Version> = (0..4).map(|at| Version::new(&format!("p/x/{at}.csv"), NOON + at, 1)).collect();
    world.put(&puts).await;
    let claimed = world.claim("a job", Step::Ingest).await;
    world.step(claimed[0].id, Some(claimed[0].lease), LoadStatus::ReadyForArchiving).await.unwrap();
    let plan = world.declare(&[declaration("p/x/", "other")]).await;
    assert_eq!((plan.picked_up, plan.moved, plan.set_aside), (0, 0, 0));
    // What is given back goes to the table to which it belongs now.
    for load in &claimed[1..] {
        world.step(load.id, Some(load.lease), LoadStatus::Ready).await.unwrap();
    }
    assert_eq!(world.settle().await, Settled { moved: 3, ..Settled::default() });
    let sql =
        "select t.name, count(*) from cubic_loads l join cubic_tables t on t.id = l.table_id group by 1 order by 1";
    assert_eq!(world.scratch.lines(sql).await, ["p|1", "p__x|3"]);
}

#[tokio::test]
async fn a_load_that_waits_in_a_queue_goes_to_a_table_that_is_declared_meanwhile() {
    let world = World::empty().await;
    world.declare(&[declaration("p/", "other")]).await;
    world.put(&[Version::new("p/x/1.csv", NOON, 1)]).await;
    let queue = json!({"command": "loads_next", "limit": 1, "lease_seconds": 600, "by": "queue", "queued": true});
    let load = world.ask(queue).await.unwrap()["loads"][0].clone();
    world.declare(&[declaration("p/x/", "other")]).await;
    let loads = json!([{"id": load["id"], "lease": load["lease"]}]);
    let begin = json!({"command": "loads_begin", "loads": loads, "lease_seconds": 600, "by": "a job"});
    let error = world.ask(begin).await.unwrap_err();
    assert!(error.contains("belongs to another table now"), "{error}");
    assert_eq!(world.settle().await, Settled { moved: 1, ..Settled::default() });
    assert_eq!(world.claim("a job", Step::Ingest).await[0].table, "p__x");
}

#[tokio::test]
async fn an_object_that_was_claimed_starts_the_snapshot_of_a_table_that_becomes_ods() {
    let world = World::empty().await;
    world.declare(&[declaration("p/x/", "other")]).await;
    let at = |key: &str, second: i64| Version::new(key, NOON + second, 1);
    world.put(&[at("p/x/LOAD001.csv.gz", 10), at("p/x/1.csv", 5), at("p/x/2.csv", 15)]).await;
    let claimed = world.claim("a job", Step::Ingest).await;
    let second = claimed.iter().find(|load| load.s3_key == "p/x/2.csv").unwrap();
    world.step(second.id, Some(second.lease), LoadStatus::Ready).await.unwrap();
    world.declare(&[declaration("p/x/", "ods")]).await;
    let snapshots = "select l.s3_key, l.status, o.snapshot is not null from cubic_loads as l \
        left join cubic_load_ods_snapshots as o on o.load_id = l.id order by l.s3_key";
    let expected = ["p/x/1.csv|ingesting|f", "p/x/2.csv|ready|t", "p/x/LOAD001.csv.gz|ingesting|t"];
    assert_eq!(world.scratch.lines(snapshots).await, expected);
}

/// A million takes a minute, in steps of a second; this is a twentieth of it.
#[tokio::test]
async fn many_waiting_objects_are_picked_up_in_steps_that_leave_room_for_others() {
    let world = World::empty().await;
    let client = world.scratch.client().await;
    let waiting = "insert into unregistered_objects (reason, s3_key, s3_modified, s3_size, s3_etag) \
        select 'no_table', 'p/' || lpad(n::text, 6, '0') || '.csv', now(), 1, 'e' from generate_series(1, 50000) as n";
    client.batch_execute(waiting).await.unwrap();
    // The tables change, and somebody else's steps are between those of the command.
    client.batch_execute("insert into cubic_tables (name, s3_prefix, kind) values ('p', 'p/', 'other')").await.unwrap();
    let step = async || world.scratch.lines("select * from settle_objects(10000)").await.remove(0);
    assert_eq!(step().await, "0|0|0|f", "there are no loads");
    assert_eq!(step().await, "10000|0|0|f");
    world.put(&[Version::new("p/a.csv", NOON, 1)]).await;
    assert_eq!(world.count("cubic_loads").await, 10_001);
    assert_eq!(world.settle().await, Settled { picked_up: 40_000, ..Settled::default() });
    assert_eq!((world.count("cubic_loads").await, world.count("unregistered_objects").await), (50_001, 0));
    assert_eq!(world.settle().await, Settled::default());
}
