//! load-registrar through its handler: a real SDK client, a bucket in memory, a real Postgres.

mod leases;
mod places;
mod settling;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use load_registrar::{
    app::App,
    config::{Config, Place},
    envelope,
    handler::handle,
    inventory,
    object::Object,
    reconcile::Times,
    register, tables,
};
use proptest::prelude::*;
use runtime::clock;
use serde_json::{Value, json};
use shared::registrar::{
    Command, Differing, LoadList, LoadRef, LoadStatus, Reconciliation, Step, TableKind, TableList, TablesPlan,
    UnregisteredList, UnregisteredReason,
};

use crate::{
    aws::BUCKET,
    events::{file, root},
    incoming::{INCOMING, INVENTORIES, INVENTORY, Incoming, Version, inventory_row, sqs_event},
    postgres::{Scratch, lines, restart},
    proxy,
    registrar::in_seconds,
    roles,
};

/// 2026-11-20T12:00:00Z.
const NOON: i64 = 1_795_176_000;
const LOAD: &str = "cubic/ods_qlik/EDW.SAMPLE/LOAD001.csv.gz";
/// Number of the newest migration.
const SCHEMA: i32 = 10;

/// A function, its bucket and its database.
struct World {
    app: App,
    incoming: Incoming,
    scratch: Scratch,
}

async fn app(incoming: &Incoming, url: &str) -> App {
    app_with(incoming, &[("DATABASE_URL", url)]).await
}

/// The function with some settings.
async fn app_with(incoming: &Incoming, settings: &[(&str, &str)]) -> App {
    let config = Config::from_lookup(|name| match name {
        "INCOMING_BUCKET" => Some(INCOMING.to_owned()),
        "LAKE_BUCKET" => Some(BUCKET.to_owned()),
        _ => settings.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned()),
    });
    App::new(config.unwrap(), &incoming.config().await)
}

fn declaration(prefix: &str, kind: &str) -> Value {
    json!({"prefix": prefix, "kind": kind})
}

impl World {
    /// With the schema and nothing else.
    async fn empty() -> Self {
        let (incoming, scratch) = (Incoming::default(), Scratch::new().await);
        let world = Self { app: app(&incoming, &scratch.url()).await, incoming, scratch };
        world.ask(json!({"command": "migrate"})).await.unwrap();
        world
    }

    /// With three tables.
    async fn new() -> Self {
        let world = Self::empty().await;
        world
            .declare(&[
                declaration("cubic/ods_qlik/EDW.SAMPLE/", "ods"),
                declaration("cubic/dmap/agg_sample/", "dmap"),
                declaration("cubic/kafka/sample/", "kafka"),
            ])
            .await;
        world
    }

    async fn declare(&self, tables: &[Value]) -> TablesPlan {
        let plan = self.ask(json!({"command": "tables_apply", "tables": tables})).await.unwrap();
        serde_json::from_value(plan).unwrap()
    }

    /// What the function answers to an event.
    async fn ask(&self, event: Value) -> Result<Value, String> {
        handle(&self.app, Bytes::from(event.to_string()), in_seconds(60)).await.map_err(|error| error.to_string())
    }

    async fn command(&self, command: &Command) -> Result<Value, String> {
        self.ask(serde_json::to_value(command).unwrap()).await
    }

    /// Sends a batch of a queue and returns the ids of the messages that have to be delivered again.
    async fn notify(&self, event: Value) -> Vec<String> {
        let answer = self.ask(event).await.unwrap();
        let failures = answer["batchItemFailures"].as_array().unwrap();
        failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect()
    }

    /// Puts objects and announces them, all in one event.
    async fn put(&self, versions: &[Version]) {
        self.incoming.put(versions);
        assert_eq!(self.notify(sqs_event(versions)).await, Vec::<String>::new());
    }

    /// Puts the objects that an event announces, and returns their keys.
    fn put_announced(&self, event: &Value) -> BTreeSet<String> {
        let envelope::Event::Notices(notices) = envelope::read(event.to_string().as_bytes()).unwrap() else {
            panic!("the event is a command");
        };
        let puts: Vec<_> = notices.into_iter().flat_map(|notice| notice.puts).collect();
        let versions = puts.iter().zip(NOON..).map(|(put, modified)| Version {
            key: put.key.clone(),
            modified,
            size: 1,
            e_tag: put.e_tag.clone().unwrap_or_default(),
            version: put.version.clone(),
        });
        self.incoming.put(&versions.collect::<Vec<_>>());
        puts.into_iter().map(|put| put.key).collect()
    }

    /// Everything that registering decides, without ids and times of insertion.
    async fn dump(&self) -> Vec<String> {
        let client = self.scratch.client().await;
        let mut dump = Vec::new();
        for sql in [
            "select 'load', t.name, l.status, l.status_reason, l.s3_key, l.s3_modified, l.s3_size, l.s3_etag, \
               l.s3_version, l.is_changes, o.snapshot \
             from cubic_loads l join cubic_tables t on t.id = l.table_id \
             left join cubic_load_ods_snapshots o on o.load_id = l.id order by l.s3_key, l.s3_modified, l.s3_etag",
            "select 'table', t.name, s.snapshot, s.snapshot_s3_key from cubic_tables t \
             left join cubic_table_ods_snapshots s on s.table_id = t.id order by t.name",
            "select 'history', t.name, h.snapshot, h.snapshot_s3_key from cubic_ods_snapshot_history h \
             join cubic_tables t on t.id = h.table_id order by t.name, h.snapshot",
            "select 'unregistered', reason, s3_key, s3_modified, s3_size, s3_etag, s3_version \
             from unregistered_objects order by s3_key, s3_modified, s3_etag",
        ] {
            dump.extend(lines(&client, sql).await);
        }
        dump
    }

    async fn count(&self, what: &str) -> usize {
        self.scratch.lines(&format!("select count(*) from {what}")).await[0].parse().unwrap()
    }
}

// --- Envelopes --------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn every_envelope_registers_what_it_announces() {
    for name in [
        "load-registrar-s3.json",
        "load-registrar-sqs.json",
        "load-registrar-sns.json",
        "load-registrar-eventbridge.json",
    ] {
        let world = World::new().await;
        let event = file(name);
        let announced = world.put_announced(&event);
        let answer = world.ask(event.clone()).await.unwrap();
        assert_eq!(answer["batchItemFailures"], json!([]), "{name}");
        let sql = "select s3_key from cubic_loads union select s3_key from unregistered_objects";
        let known: BTreeSet<String> = world.scratch.lines(sql).await.into_iter().collect();
        assert!(!announced.is_empty(), "{name}");
        assert_eq!(known, announced, "{name}");
        let before = world.dump().await;
        world.ask(event).await.unwrap();
        assert_eq!(world.dump().await, before, "{name} delivered twice");
    }
}

#[tokio::test]
async fn what_creates_nothing_is_acknowledged() {
    for name in ["load-registrar-test-event.json", "load-registrar-deletions.json"] {
        let world = World::new().await;
        assert_eq!(world.notify(file(name)).await, Vec::<String>::new(), "{name}");
        assert_eq!(world.count("cubic_loads").await, 0, "{name}");
        assert_eq!(world.incoming.state().calls.len(), 0, "{name}");
    }
}

#[tokio::test]
async fn one_poison_record_does_not_fail_its_neighbours() {
    let world = World::new().await;
    let event = file("load-registrar-one-poison.json");
    let announced = world.put_announced(&event);
    assert_eq!(world.notify(event.clone()).await, Vec::<String>::new());
    assert_eq!(world.count("cubic_loads").await, announced.len());
    let quarantined = world.incoming.lake.keys("quarantine/load-registrar/");
    assert_eq!(quarantined.len(), 1, "{quarantined:?}");
    let line: Value = serde_json::from_slice(&world.incoming.lake.body(&quarantined[0])).unwrap();
    assert_eq!(line["function"], "load-registrar");
    world.notify(event).await;
    assert_eq!(world.incoming.lake.keys("quarantine/").len(), 1, "the same poison is one object");
}

#[tokio::test]
async fn poison_that_cannot_be_quarantined_is_redelivered() {
    let world = World::new().await;
    let event = file("load-registrar-one-poison.json");
    let announced = world.put_announced(&event);
    world.incoming.lake.fail(|_| Some(crate::aws::Fault::Unavailable));
    assert_eq!(world.notify(event.clone()).await.len(), 1);
    assert_eq!(world.count("cubic_loads").await, announced.len(), "its neighbours are registered");
    world.incoming.lake.recover();
    assert_eq!(world.notify(event).await, Vec::<String>::new());
    assert_eq!(world.incoming.lake.keys("quarantine/").len(), 1);
}

#[tokio::test]
async fn odd_keys_are_data() {
    let world = World::new().await;
    let event = file("load-registrar-odd-keys.json");
    let announced = world.put_announced(&event);
    assert!(announced.iter().any(|key| key.contains('\0')) && announced.iter().any(|key| key.contains("..")));
    assert!(announced.iter().any(|key| key.len() == 1_024) && announced.iter().any(|key| key.contains('\'')));
    let answer = world.ask(event.clone()).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    assert_eq!(world.count("cubic_loads").await + world.count("unregistered_objects").await, announced.len());
    assert_eq!(world.count("unregistered_objects where reason = 'key_holds_nul'").await, 1);
    assert_eq!(world.incoming.lake.keys("quarantine/"), Vec::<String>::new());
    let before = world.dump().await;
    world.ask(event).await.unwrap();
    assert_eq!(world.dump().await, before);
}

#[tokio::test]
async fn a_foreign_bucket_is_poison() {
    let world = World::new().await;
    let mut record = Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1).record();
    record["s3"]["bucket"]["name"] = json!("somebody-elses");
    assert_eq!(world.ask(json!({"Records": [record]})).await.unwrap()["batchItemFailures"], json!([]));
    let key = &world.incoming.lake.keys("quarantine/load-registrar/2026/11/20/")[0];
    let line: Value = serde_json::from_slice(&world.incoming.lake.body(key)).unwrap();
    assert_eq!(line["reason"], "foreign_bucket");
}

#[tokio::test]
async fn an_invalid_event_or_command_is_an_error_that_quotes_it() {
    let world = World::empty().await;
    let error = world.ask(json!({"hello": "world"})).await.unwrap_err();
    assert!(error.contains("hello"), "{error}");
    let error = world.ask(json!({"command": "tables_drop"})).await.unwrap_err();
    assert!(error.contains("tables_drop") && error.contains("tables_apply"), "{error}");
}

// --- Nothing is lost --------------------------------------------------------------------------------------------------

#[tokio::test]
async fn only_the_notification_whose_head_object_fails_is_redelivered() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..5).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    world.incoming.state().unavailable.insert(puts[2].key.clone());
    assert_eq!(world.notify(sqs_event(&puts)).await, ["message-2"]);
    assert_eq!(world.count("cubic_loads").await, 4);
    world.incoming.state().unavailable.clear();
    assert_eq!(world.notify(sqs_event(&puts)).await, Vec::<String>::new());
    assert_eq!(world.count("cubic_loads").await, 5);
}

#[tokio::test]
async fn an_unreachable_database_costs_nothing_but_time() {
    let world = World::new().await;
    let puts = [Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1)];
    world.incoming.put(&puts);
    let nowhere = app(&world.incoming, &world.scratch.url_by("127.0.0.1:1")).await;
    let event = Bytes::from(sqs_event(&puts).to_string());
    let answer = handle(&nowhere, event.clone(), in_seconds(3)).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([{"itemIdentifier": "message-0"}]));
    let direct = Bytes::from(json!({"Records": [puts[0].record()]}).to_string());
    assert!(handle(&nowhere, direct, in_seconds(3)).await.is_err(), "what came without a queue fails as a whole");
    assert_eq!(handle(&world.app, event, in_seconds(3)).await.unwrap()["batchItemFailures"], json!([]));
}

#[tokio::test]
async fn a_database_without_the_schema_says_what_to_do() {
    let (incoming, scratch) = (Incoming::default(), Scratch::new().await);
    let app = app(&incoming, &scratch.url()).await;
    let error = handle(&app, Bytes::from(r#"{"command": "tables_list"}"#), in_seconds(10)).await.unwrap_err();
    assert_eq!(error.to_string(), "the database does not have this version's schema; run `landfall migrate`");
}

#[tokio::test]
async fn what_is_gone_or_replaced_is_counted_and_not_guessed() {
    let world = World::new().await;
    let old = Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1);
    let new = Version::new("cubic/dmap/agg_sample/1.csv", NOON + 5, 2);
    let gone = Version::new("cubic/dmap/agg_sample/2.csv", NOON, 3);
    world.incoming.put([&old, &new, &gone]);
    world.incoming.state().deleted.insert(gone.key.clone());
    assert_eq!(world.notify(sqs_event([&old, &gone])).await, Vec::<String>::new());
    assert_eq!(world.count("cubic_loads").await, 0);
    assert_eq!(world.notify(sqs_event([&new])).await, Vec::<String>::new());
    assert_eq!(world.scratch.lines("select s3_size from cubic_loads").await, ["2"]);
}

/// A watermark of whole seconds, compared with `>`, would lose the second one.
#[tokio::test]
async fn two_objects_of_the_same_second_are_two_loads() {
    let world = World::new().await;
    for at in 0..2 {
        world.put(&[Version::new(&format!("cubic/dmap/agg_sample/{at}.csv"), NOON, 1)]).await;
    }
    assert_eq!(world.count("cubic_loads").await, 2);
}

/// A watermark that is the newest time of a page in the order of keys would lose older objects of later pages.
#[tokio::test]
async fn a_backlog_whose_keys_are_not_in_the_order_of_time_is_complete() {
    let world = World::new().await;
    let backlog: Vec<Version> =
        (0..600).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{:03}.csv", 599 - at), NOON + at, 1)).collect();
    world.incoming.put(&backlog);
    let by_key: BTreeSet<&Version> = backlog.iter().collect();
    for batch in by_key.into_iter().collect::<Vec<_>>().chunks(100) {
        assert_eq!(world.notify(sqs_event(batch.iter().copied())).await, Vec::<String>::new());
    }
    assert_eq!(world.count("cubic_loads").await, 600);
}

/// A watermark shared by both folders would lose the changes.
#[tokio::test]
async fn changes_that_are_older_than_the_newest_load_are_registered() {
    let world = World::new().await;
    world.put(&[Version::new(LOAD, NOON + 60, 1)]).await;
    world.put(&[Version::new("cubic/ods_qlik/EDW.SAMPLE__ct/1.csv.gz", NOON, 1)]).await;
    assert_eq!(world.count("cubic_loads").await, 2);
}

#[tokio::test]
async fn two_hundred_invocations_share_twenty_connections() {
    let world = World::new().await;
    world.scratch.limit_connections(20).await;
    let puts: Vec<Version> =
        (0..2_000).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:04}.csv"), NOON + at % 7, 1)).collect();
    world.incoming.put(&puts);
    let mut invocations = tokio::task::JoinSet::new();
    for batch in puts.chunks(10) {
        let (incoming, url, event) = (world.incoming.clone(), world.scratch.url(), sqs_event(batch));
        invocations.spawn(async move {
            let app = app(&incoming, &url).await;
            // As the queue does, up to five times.
            for receive in 1..=5 {
                let answer = handle(&app, Bytes::from(event.to_string()), in_seconds(30)).await.unwrap();
                if answer["batchItemFailures"] == json!([]) {
                    return receive;
                }
            }
            6
        });
    }
    let receives: Vec<u32> = invocations.join_all().await;
    assert_eq!(receives.len(), 200);
    assert!(receives.iter().all(|receives| *receives < 6), "{receives:?}");
    world.scratch.limit_connections(100).await;
    assert_eq!(world.scratch.lines("select count(*), count(distinct s3_key) from cubic_loads").await, ["2000|2000"]);
}

#[tokio::test]
async fn connections_that_are_cut_are_made_again() {
    let world = Arc::new(World::new().await);
    let puts: Vec<Version> =
        (0..1_000).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:04}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    let cutting = {
        let client = world.scratch.client().await;
        tokio::spawn(async move {
            for _ in 0..40 {
                let sql = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() \
                    and backend_type = 'client backend' and pid <> pg_backend_pid()";
                client.batch_execute(sql).await.unwrap();
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
    };
    for batch in puts.chunks(10) {
        assert_eq!(world.notify(sqs_event(batch)).await, Vec::<String>::new());
    }
    cutting.await.unwrap();
    assert_eq!(world.count("cubic_loads").await, 1_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_postgres_loses_nothing() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..3_000).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:04}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    let restarting = tokio::spawn(async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        restart().await;
    });
    for batch in puts.chunks(10) {
        assert_eq!(world.notify(sqs_event(batch)).await, Vec::<String>::new());
    }
    restarting.await.unwrap();
    assert_eq!(world.count("cubic_loads").await, 3_000);
    let started = world.scratch.lines("select now() - pg_postmaster_start_time() < interval '1 minute'").await;
    assert_eq!(started, ["t"], "Postgres was restarted");
}

async fn connected_by(scratch: &Scratch, url: &str, ca_file: Option<String>) -> Result<Value, String> {
    let incoming = Incoming::default();
    let config = Config::from_lookup(|name| match name {
        "INCOMING_BUCKET" => Some(INCOMING.to_owned()),
        "LAKE_BUCKET" => Some(BUCKET.to_owned()),
        "DATABASE_URL" => Some(format!("postgres://landfall@{url}/{}?sslmode=require", scratch.name)),
        "DATABASE_CA_FILE" => ca_file.clone(),
        _ => None,
    });
    let app = App::new(config.unwrap(), &incoming.config().await);
    let migrate = Bytes::from(r#"{"command": "migrate"}"#);
    handle(&app, migrate, in_seconds(4)).await.map_err(|error| error.to_string())
}

#[tokio::test]
async fn a_server_is_trusted_by_its_certificate_and_name_only() {
    let scratch = Scratch::new().await;
    let (port, ca) = proxy::tls(scratch.address(), "localhost").await;
    let connected = connected_by(&scratch, &format!("localhost:{port}"), Some(ca.path())).await;
    assert_eq!(connected.unwrap()["version"], SCHEMA);
    let (other_port, other_ca) = proxy::tls(scratch.address(), "elsewhere.example").await;
    for (port, ca_file, says) in [
        (other_port, Some(other_ca.path()), "certificate not valid for name"),
        (port, Some(other_ca.path()), "invalid peer certificate"),
        (port, None, "UnknownIssuer"),
        (port, Some("/nowhere.pem".to_owned()), "DATABASE_CA_FILE /nowhere.pem: No such file"),
    ] {
        let error = connected_by(&scratch, &format!("localhost:{port}"), ca_file).await.unwrap_err();
        assert!(error.contains(says), "{error}");
    }
    // A server without TLS is refused, too.
    let error = connected_by(&scratch, &scratch.address(), None).await.unwrap_err();
    assert!(error.contains("server does not support TLS"), "{error}");
}

#[tokio::test]
async fn a_secret_says_how_to_connect_to_the_database() {
    let (scratch, incoming) = (Scratch::new().await, Incoming::default());
    let (port, ca) = proxy::tls(scratch.address(), "localhost").await;
    let ask = async |secret: Value, host: Option<&str>| {
        incoming.state().secret = secret.to_string();
        let config = Config::from_lookup(|name| match name {
            "INCOMING_BUCKET" => Some(INCOMING.to_owned()),
            "LAKE_BUCKET" => Some(BUCKET.to_owned()),
            "DATABASE_SECRET_ARN" => Some("arn:aws:secretsmanager:us-east-1:000000000000:secret:db".to_owned()),
            "DATABASE_HOST" => host.map(str::to_owned),
            "DATABASE_PORT" => Some(port.to_string()),
            "DATABASE_NAME" => Some(scratch.name.clone()),
            "DATABASE_CA_FILE" => Some(ca.path()),
            _ => None,
        });
        let app = App::new(config.unwrap(), &incoming.config().await);
        let answer = handle(&app, Bytes::from(r#"{"command": "migrate"}"#), in_seconds(4)).await;
        answer.map_err(|error| error.to_string())
    };
    // A secret that RDS created, and one created by hand.
    let rds = json!({"username": "landfall", "password": "hush-hush"});
    assert_eq!(ask(rds.clone(), Some("localhost")).await.unwrap()["version"], SCHEMA);
    let complete = json!({"username": "landfall", "password": "hush-hush", "host": "localhost", "dbname": "ignored"});
    assert_eq!(ask(complete, None).await.unwrap()["version"], SCHEMA);
    for (secret, says) in [
        (rds, "it names no host; set DATABASE_HOST"),
        (json!("hush-hush"), "it is no JSON object with username and password"),
    ] {
        let error = ask(secret, None).await.unwrap_err();
        assert!(error.contains(says) && !error.contains("hush"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_on_which_no_answer_comes_is_replaced_within_the_invocation() {
    let mut world = World::new().await;
    let network = proxy::Network::to(world.scratch.address()).await;
    world.app = app(&world.incoming, &world.scratch.url_by(&network.address.to_string())).await;
    world.put(&[Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1)]).await;
    network.silence();
    let version = [Version::new("cubic/dmap/agg_sample/2.csv", NOON, 1)];
    world.incoming.put(&version);
    let event = Bytes::from(sqs_event(&version).to_string());
    let answer = handle(&world.app, event, in_seconds(10)).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!((world.count("cubic_loads").await, network.connections()), (2, 2));
}

/// Makes the session that the function keeps read-only, as it is on a server that another one has taken over from.
async fn demote(app: &App) {
    let demoted = app.database.run(Duration::from_secs(5), |session| async move {
        Ok(session.client()?.batch_execute("set default_transaction_read_only = on").await?)
    });
    demoted.await.unwrap();
}

#[tokio::test]
async fn of_several_servers_the_one_that_accepts_writes_is_used_also_after_a_failover() {
    let mut world = World::new().await;
    let (one, other) =
        (proxy::Member::of(world.scratch.address()).await, proxy::Member::of(world.scratch.address()).await);
    one.set_read_only(true);
    world.app = app(&world.incoming, &world.scratch.url_by(&format!("{},{}", one.address, other.address))).await;
    world.put(&[Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1)]).await;
    assert_eq!((one.connections(), other.connections()), (1, 1));

    one.set_read_only(false);
    other.set_read_only(true);
    demote(&world.app).await;
    world.put(&[Version::new("cubic/dmap/agg_sample/2.csv", NOON, 1)]).await;
    assert_eq!((one.connections(), other.connections()), (2, 1));
    world.put(&[Version::new("cubic/dmap/agg_sample/3.csv", NOON, 1)]).await;
    assert_eq!((one.connections(), other.connections()), (2, 1), "the new connection is kept");
    assert_eq!(world.count("cubic_loads").await, 3);
}

#[tokio::test]
async fn nothing_is_lost_while_no_server_accepts_writes() {
    let mut world = World::new().await;
    let server = proxy::Member::of(world.scratch.address()).await;
    world.app = app(&world.incoming, &world.scratch.url_by(&server.address.to_string())).await;
    world.put(&[Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1)]).await;
    server.set_read_only(true);
    demote(&world.app).await;
    let version = [Version::new("cubic/dmap/agg_sample/2.csv", NOON, 1)];
    world.incoming.put(&version);
    let event = Bytes::from(sqs_event(&version).to_string());
    let answer = handle(&world.app, event.clone(), in_seconds(5)).await.unwrap();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "message-0"}]}));
    assert!((3..20).contains(&server.connections()), "{} connections", server.connections());
    let error = handle(&world.app, Bytes::from(r#"{"command": "migrate"}"#), in_seconds(3)).await.unwrap_err();
    assert!(error.to_string().contains("does not allow writes"), "{error}");
    server.set_read_only(false);
    assert_eq!(handle(&world.app, event, in_seconds(5)).await.unwrap(), json!({"batchItemFailures": []}));
    assert_eq!(world.count("cubic_loads").await, 2);
}

/// A sequence counts them, because it does not roll back.
#[tokio::test]
async fn a_server_that_is_short_of_something_is_asked_a_few_times_only() {
    let attempts_of = async |code: &str| {
        let world = World::new().await;
        world.put(&[Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1)]).await;
        let client = world.scratch.client().await;
        let sql = format!(
            "create sequence attempts; \
             create function refuse() returns trigger language plpgsql as $$ begin \
               perform nextval('attempts'); raise exception 'not now' using errcode = '{code}'; end $$; \
             create trigger refuse before insert on cubic_loads for each row execute function refuse()"
        );
        client.batch_execute(&sql).await.unwrap();
        let version = [Version::new("cubic/dmap/agg_sample/2.csv", NOON, 1)];
        world.incoming.put(&version);
        let event = Bytes::from(sqs_event(&version).to_string());
        let answer = handle(&world.app, event.clone(), in_seconds(5)).await.unwrap();
        assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1, "{code}");
        let attempts: i64 = world.scratch.lines("select last_value from attempts").await[0].parse().unwrap();
        client.batch_execute("drop trigger refuse on cubic_loads").await.unwrap();
        assert_eq!(world.notify(sqs_event(&version)).await, Vec::<String>::new(), "{code}");
        attempts
    };
    let codes = ["53200", "55P03", "57014", "40001", "25006"];
    let attempts = futures_util::future::join_all(codes.map(attempts_of)).await;
    assert!(attempts.iter().all(|attempts| (3..=10).contains(attempts)), "{codes:?}: {attempts:?}");
}

#[tokio::test]
async fn what_s3_answers_for_is_registered_although_it_is_silent_about_others() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..80).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:02}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    world.incoming.state().silent.extend(puts.iter().step_by(4).map(|put| put.key.clone()));
    let event = Bytes::from(sqs_event(&puts).to_string());
    let started = tokio::time::Instant::now();
    let answer = handle(&world.app, event.clone(), in_seconds(6)).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 20);
    assert_eq!(world.count("cubic_loads").await, 60);
    world.incoming.state().silent.clear();
    assert_eq!(handle(&world.app, event, in_seconds(6)).await.unwrap(), json!({"batchItemFailures": []}));
    assert_eq!(world.count("cubic_loads").await, 80);
}

#[tokio::test]
async fn a_batch_is_one_round_trip() {
    let world = World::new().await;
    let (address, trips) = kit::proxy::start(world.scratch.address(), Duration::ZERO).await.unwrap();
    let app = app(&world.incoming, &world.scratch.url_by(&address.to_string())).await;
    for batch in 0..3 {
        let puts: Vec<Version> =
            (0..100).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{batch}-{at}.csv"), NOON, 1)).collect();
        world.incoming.put(&puts);
        trips.take();
        let answer = handle(&app, Bytes::from(sqs_event(&puts).to_string()), in_seconds(30)).await.unwrap();
        assert_eq!(answer["batchItemFailures"], json!([]));
        // The first one connects and prepares the statement.
        assert!(batch == 0 || trips.take() == 1);
    }
    assert_eq!(world.count("cubic_loads").await, 300);
}

// --- Any order, any duplication -----------------------------------------------------------------------------------------

/// Two ODS tables with loads and changes, three snapshots, empty files, puts of the same second, an overwritten key.
fn history() -> Vec<Version> {
    let mut puts = Vec::new();
    for (table, start) in [("A", NOON), ("B", NOON + 7)] {
        for snapshot in 0..3 {
            let mut load = Version::new(&format!("ods/{table}/LOAD001.csv.gz"), start + snapshot * 100, 10);
            load.version = Some(format!("{table}{snapshot}"));
            puts.push(load);
        }
        for at in 0..8 {
            let modified = start - 30 + at * 45;
            puts.push(Version::new(&format!("ods/{table}__ct/{at}.csv.gz"), modified, u64::from(at % 4 != 1)));
        }
        puts.push(Version::new(&format!("ods/{table}/LOAD002.csv.gz"), start, 3));
        puts.push(Version::new(&format!("ods/{table}__ct/same-second.csv.gz"), start + 100, 4));
    }
    puts.push(Version::new("nobody/knows/this.csv", NOON, 1));
    puts
}

async fn world_of_history() -> World {
    let world = World::empty().await;
    world.declare(&[declaration("ods/A/", "ods"), declaration("ods/B/", "ods")]).await;
    world.incoming.put(&history());
    world
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn any_order_and_any_duplication_give_the_same_tables(
        order in proptest::collection::vec(any::<prop::sample::Index>(), 0..40).prop_flat_map(|again| {
            let once: Vec<usize> = (0..history().len()).collect();
            let again: Vec<usize> = again.iter().map(|index| index.index(once.len())).collect();
            Just([once, again].concat()).prop_shuffle()
        }),
        sizes in proptest::collection::vec(1_usize..12, 70),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let puts = history();
            let sorted = world_of_history().await;
            let mut in_order = puts.clone();
            in_order.sort_by_key(|put| put.modified);
            sorted.notify(sqs_event(&in_order)).await;

            let shuffled = world_of_history().await;
            let mut rest = order.as_slice();
            for size in sizes {
                let (batch, later) = rest.split_at(size.min(rest.len()));
                let failed = shuffled.notify(sqs_event(batch.iter().map(|at| &puts[*at]))).await;
                assert_eq!(failed, Vec::<String>::new());
                rest = later;
            }
            let left: Vec<&Version> = rest.iter().map(|at| &puts[*at]).collect();
            shuffled.notify(sqs_event(left)).await;
            assert_eq!(shuffled.dump().await, sorted.dump().await);
            assert_eq!(sorted.count("cubic_loads").await, puts.len() - 1);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_at_the_same_time_give_the_same_tables() {
    let puts = history();
    let sorted = world_of_history().await;
    sorted.notify(sqs_event(&puts)).await;
    let expected = sorted.dump().await;
    for round in 0..5_usize {
        let world = world_of_history().await;
        let mut invocations = tokio::task::JoinSet::new();
        for at in 0..puts.len() {
            let (incoming, url) = (world.incoming.clone(), world.scratch.url());
            let event = sqs_event([&puts[at], &puts[(at * 7 + round) % puts.len()]]);
            invocations.spawn(async move {
                let app = app(&incoming, &url).await;
                handle(&app, Bytes::from(event.to_string()), in_seconds(60)).await.unwrap()
            });
        }
        for answer in invocations.join_all().await {
            assert_eq!(answer["batchItemFailures"], json!([]));
        }
        assert_eq!(world.dump().await, expected);
    }
}

#[tokio::test]
async fn a_late_snapshot_gets_the_loads_that_it_covers() {
    let world = World::new().await;
    let ct = |at: i64| Version::new(&format!("cubic/ods_qlik/EDW.SAMPLE__ct/{at}.csv.gz"), NOON + at, 1);
    world.put(&[ct(-1), ct(0), ct(5), ct(10)]).await;
    assert_eq!(world.count("cubic_loads where status_reason = 'no_snapshot'").await, 4);
    world.put(&[Version::new(LOAD, NOON + 10, 9)]).await;
    assert_eq!(world.count("cubic_loads where status = 'ready'").await, 2, "the LOAD and what came after it");
    world.put(&[Version { version: Some("old".into()), ..Version::new(LOAD, NOON, 8) }]).await;
    let sql = "select extract(epoch from l.s3_modified)::bigint - 1795176000, \
        extract(epoch from o.snapshot)::bigint - 1795176000, l.status \
        from cubic_loads l left join cubic_load_ods_snapshots o on o.load_id = l.id order by 1, 2";
    let expected = ["-1||ready_for_erroring", "0|0|ready", "0|0|ready", "5|0|ready", "10|10|ready", "10|10|ready"];
    assert_eq!(world.scratch.lines(sql).await, expected);
    let snapshot = "select extract(epoch from snapshot)::bigint - 1795176000 from cubic_table_ods_snapshots";
    assert_eq!(world.scratch.lines(snapshot).await, ["10"], "the latest snapshot stays the latest");
}

// --- Keys that are loads once ------------------------------------------------------------------------------------------

/// A file of kafka-roller.
const FILE: &str = "cubic/kafka/sample/vytxeTZskVKR7C7WgdSP3d.json";

#[tokio::test]
async fn a_key_of_a_kafka_table_is_a_load_once() {
    let world = World::new().await;
    let other = "cubic/dmap/agg_sample/1.csv";
    world.put(&[Version::new(FILE, NOON, 9), Version::new(other, NOON, 9)]).await;
    // It is ingested and archived, and written again by whoever does not know. Beside it is a file that is new.
    let new = "cubic/kafka/sample/wytxeTZskVKR7C7WgdSP3d.json";
    let again = [Version::new(FILE, NOON + 60, 9), Version::new(other, NOON + 60, 9), Version::new(new, NOON + 60, 9)];
    world.put(&again).await;
    let loads = "select s3_key, extract(epoch from s3_modified)::bigint - 1795176000 from cubic_loads order by 1, 2";
    let expected = [format!("{other}|0"), format!("{other}|60"), format!("{FILE}|0"), format!("{new}|60")];
    assert_eq!(world.scratch.lines(loads).await, expected);
    let refused = Command::TablesUnregistered {
        prefix: None,
        reason: Some(UnregisteredReason::KnownKey),
        after: None,
        limit: 10,
    };
    let listed = unregistered(world.command(&refused).await);
    assert_eq!(listed.objects.iter().map(|object| object.s3_key.as_str()).collect::<Vec<_>>(), [FILE]);
    // Whatever comes again changes nothing: the notifications, a reconciliation, and one that only looks.
    let before = world.dump().await;
    world.put(&again).await;
    let found = reconcile(&world, true).await;
    assert_eq!((found.objects, found.missing, found.changed, found.phantom), (3, 0, 0, 0));
    reconcile(&world, false).await;
    assert_eq!(world.dump().await, before);
    // The commands tell by its key what became of it.
    let asked = Command::LoadsList {
        table: None,
        status: None,
        since: None,
        displaced: false,
        keys: vec![FILE.to_owned(), "cubic/kafka/sample/nobody.json".to_owned()],
        after: None,
        limit: 10,
    };
    let loads = list(world.command(&asked).await).loads;
    assert_eq!(loads.iter().map(|load| load.s3_key.as_str()).collect::<Vec<_>>(), [FILE]);
}

#[tokio::test]
async fn a_reconciliation_refuses_a_key_that_was_a_load_as_a_notification_does() {
    let world = World::new().await;
    world.put(&[Version::new(FILE, NOON, 9)]).await;
    world.incoming.put(&[Version::new(FILE, NOON + 60, 9)]);
    let found = reconcile(&world, false).await;
    assert_eq!((found.missing, found.changed), (0, 1), "it is reported once");
    assert_eq!(world.count("cubic_loads").await, 1);
    assert_eq!(world.count("unregistered_objects where reason = 'known_key'").await, 1);
    assert_eq!(reconcile(&world, false).await.changed, 0);
}

#[tokio::test]
async fn of_two_versions_of_a_key_that_come_together_one_becomes_a_load() {
    let world = World::new().await;
    let version = |at: i64, id: &str| Version { version: Some(id.into()), ..Version::new(FILE, NOON + at, 9) };
    world.put(&[version(60, "b"), version(0, "a")]).await;
    let loads = "select s3_version from cubic_loads";
    assert_eq!(world.scratch.lines(loads).await, ["a"], "the older one");
    // Before a table is declared, both wait; they are refused when it picks them up.
    let late = World::empty().await;
    late.put(&[version(60, "b"), version(0, "a")]).await;
    assert_eq!(late.count("unregistered_objects where reason = 'no_table'").await, 2);
    late.declare(&[declaration("cubic/kafka/", "kafka")]).await;
    assert_eq!(late.scratch.lines(loads).await, ["a"]);
    assert_eq!(late.count("unregistered_objects where reason = 'known_key'").await, 1);
}

#[tokio::test]
async fn loads_that_were_doubled_before_stay_as_they_are() {
    let world = World::new().await;
    let doubled = [Version::new(FILE, NOON, 9), Version::new(FILE, NOON + 60, 9)];
    world
        .scratch
        .client()
        .await
        .batch_execute("update cubic_tables set kind = 'other' where kind = 'kafka'")
        .await
        .unwrap();
    for version in &doubled {
        world.put(std::slice::from_ref(version)).await;
    }
    world.declare(&[declaration("cubic/kafka/sample/", "kafka")]).await;
    assert_eq!(world.count("cubic_loads").await, 2);
    let before = world.dump().await;
    world.put(&doubled[1..]).await;
    assert_eq!(world.dump().await, before, "it is the load that it was");
    world.put(&[Version::new(FILE, NOON + 120, 9)]).await;
    assert_eq!(world.count("cubic_loads").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_objects_with_one_key_that_come_at_the_same_time_one_becomes_a_load() {
    let world = World::new().await;
    let versions: Vec<Version> =
        (0..20).map(|at| Version { version: Some(at.to_string()), ..Version::new(FILE, NOON + at, 9) }).collect();
    world.incoming.put(&versions);
    let mut invocations = tokio::task::JoinSet::new();
    for version in &versions {
        let (incoming, url, event) = (world.incoming.clone(), world.scratch.url(), sqs_event([version]));
        invocations.spawn(async move {
            let app = app(&incoming, &url).await;
            handle(&app, Bytes::from(event.to_string()), in_seconds(60)).await.unwrap()
        });
    }
    for answer in invocations.join_all().await {
        assert_eq!(answer["batchItemFailures"], json!([]));
    }
    assert_eq!((world.count("cubic_loads").await, world.count("unregistered_objects").await), (1, 19));
}

// --- The database keeps its rules ---------------------------------------------------------------------------------------

#[tokio::test]
async fn statuses_cannot_be_skipped_from_psql_either() {
    let world = World::new().await;
    world.put(&[Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1)]).await;
    let client = world.scratch.client().await;
    let id: i64 = client.query_one("select id from cubic_loads", &[]).await.unwrap().get(0);
    let legal = "select s || ' ' || unnest(legal_load_statuses(s)) from unnest(enum_range(null::cubic_load_status)) s";
    let legal = lines(&client, legal).await;
    assert!(legal.contains(&"ready ingesting".to_owned()), "{legal:?}");
    for from in LoadStatus::ALL {
        for to in LoadStatus::ALL.into_iter().filter(|to| *to != from) {
            // Without the trigger, a row can be given any status to start from.
            let lease = |status: LoadStatus, until| {
                format!(
                    "leased_by = case when is_leased('{status}') then 'a job' end, \
                     leased_until = case when is_leased('{status}') then now() + interval '{until}' end"
                )
            };
            let sql = format!(
                "begin; insert into cubic_load_places values ({id}, 0, 'elsewhere/', true); \
                 alter table cubic_loads disable trigger cubic_loads_transition; \
                 update cubic_loads set status = '{from}', {}; \
                 alter table cubic_loads enable trigger cubic_loads_transition; \
                 update cubic_loads set status = '{to}', {}; rollback",
                lease(from, "-1s"),
                lease(to, "1min"),
            );
            let done = client.batch_execute(&sql).await;
            client.batch_execute("rollback").await.unwrap();
            if legal.contains(&format!("{from} {to}")) {
                done.unwrap();
            } else {
                let error = done.unwrap_err();
                let message = error.as_db_error().unwrap().message();
                assert!(message.starts_with(&format!("load {id} cannot go from {from} to {to}")), "{message}");
            }
        }
    }
    for (sql, says) in [
        ("update cubic_loads set s3_size = 5", "another object is another load"),
        (
            "insert into cubic_loads (table_id, status, s3_key, s3_modified, s3_size, s3_etag, is_changes) \
             select table_id, 'archived', 'x.csv', now(), 1, 'e', false from cubic_loads",
            "a load cannot start as archived",
        ),
        ("update cubic_loads set status = 'ingesting', s3_size = -1", "another object is another load"),
    ] {
        let error = client.batch_execute(sql).await.unwrap_err();
        let message = error.as_db_error().unwrap().message();
        assert!(message.contains(says), "{message}");
    }
    let claim = "update cubic_loads set status = 'ingesting', leased_by = 'me', leased_until = now() + interval '1min'";
    client.batch_execute(claim).await.unwrap();
    for sql in
        ["update cubic_load_transitions set by = 'nobody'", "update cubic_ods_snapshot_history set snapshot = now()"]
    {
        let changed = client.batch_execute(sql).await;
        let history = sql.contains("snapshot_history");
        assert!(changed.is_err() || history, "{sql}");
    }
    let log = "select from_status, to_status, by from cubic_load_transitions";
    assert_eq!(world.scratch.lines(log).await, ["ready|ingesting|landfall"]);
}

#[tokio::test]
async fn words_are_those_of_the_database_in_its_order() {
    let world = World::empty().await;
    let words_of = async |r#type: &str| world.scratch.lines(&format!("select unnest(enum_range(null::{type}))")).await;
    assert_eq!(words_of("cubic_load_status").await, LoadStatus::ALL.map(LoadStatus::as_str));
    assert_eq!(words_of("cubic_table_kind").await, TableKind::ALL.map(TableKind::as_str));
    let reasons = r"select (regexp_matches(pg_get_constraintdef(oid), $$'(\w+)'$$, 'g'))[1] from pg_constraint
        where conname = 'unregistered_objects_reason'";
    assert_eq!(world.scratch.lines(reasons).await, UnregisteredReason::ALL.map(UnregisteredReason::as_str));
}

#[tokio::test]
async fn the_readme_shows_the_statuses_of_the_database() {
    let world = World::empty().await;
    let sql =
        "select s, array_to_string(legal_load_statuses(s), ' ') from unnest(enum_range(null::cubic_load_status)) s";
    let readme = std::fs::read_to_string(root().join("functions/load-registrar/README.md")).unwrap();
    let (_, section) = readme.split_once("\n## Statuses\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let quoted = |cell: &str| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = section
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').collect::<Vec<_>>())
        .map(|cells| format!("{}|{}", quoted(cells[0]), quoted(cells[2])))
        .collect();
    assert_eq!(rows, world.scratch.lines(sql).await);
}

#[tokio::test]
async fn unfinished_loads_are_those_with_a_step_to_take() {
    let world = World::empty().await;
    let finished = "select s from unnest(enum_range(null::cubic_load_status)) s where not is_unfinished(s)";
    assert_eq!(world.scratch.lines(finished).await, ["archived", "errored"]);
    let moved = "select s from unnest(enum_range(null::cubic_load_status)) s where not needs_object(s)";
    assert_eq!(world.scratch.lines(moved).await, ["archiving", "erroring", "archived", "errored"]);
}

/// Runs the statements of the recipe, each as a migration of its own.
#[tokio::test]
async fn a_status_is_added_as_the_recipe_says() {
    let world = World::new().await;
    world.put(&[Version::new("cubic/dmap/agg_sample/1.csv", NOON, 1)]).await;
    let recipe = std::fs::read_to_string(root().join("functions/load-registrar/migrations/README.md")).unwrap();
    let migrations: Vec<&str> =
        recipe.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(migrations.len(), 2);
    let client = world.scratch.client().await;
    for migration in migrations {
        client.batch_execute(&format!("begin; {migration}; commit")).await.unwrap();
    }
    for (status, lease) in [
        ("ingesting", "leased_by = 'me', leased_until = now() + interval '1min'"),
        ("verifying", "by_lease = 1"),
        ("ready_for_archiving", "by_lease = 1"),
    ] {
        client.batch_execute(&format!("update cubic_loads set status = '{status}', {lease}")).await.unwrap();
    }
    let sql =
        "select is_unfinished('verifying'), needs_object('verifying'), 'verifying' > 'ingesting'::cubic_load_status";
    assert_eq!(world.scratch.lines(sql).await, ["t|t|t"]);
}

#[tokio::test]
async fn a_database_of_the_first_migration_is_migrated_with_its_data() {
    let (incoming, scratch) = (Incoming::default(), Scratch::new().await);
    let world = World { app: app(&incoming, &scratch.url()).await, incoming, scratch };
    let client = world.scratch.client().await;
    let first = std::fs::read_to_string(root().join("functions/load-registrar/migrations/0001_loads.sql")).unwrap();
    client.batch_execute(&first).await.unwrap();
    let migrations = "create table landfall_migrations (version integer primary key, name text not null, \
        sha256 text not null, applied_at timestamptz not null default now())";
    client.batch_execute(migrations).await.unwrap();
    let insert = "insert into landfall_migrations (version, name, sha256) \
        values (1, 'loads', encode(sha256(convert_to($1, 'UTF8')), 'hex'))";
    client.execute(insert, &[&first]).await.unwrap();
    let waiting = "insert into unregistered_objects (reason, s3_key, s3_modified, s3_size, s3_etag) \
        values ('no_table', 'a/1.csv', now(), 1, 'e')";
    client.batch_execute(waiting).await.unwrap();
    let migrated = world.ask(json!({"command": "migrate"})).await.unwrap();
    let applied = migrated["applied"].as_array().unwrap();
    assert_eq!((applied.len(), &applied[0]), (SCHEMA as usize - 1, &json!("0002_statuses")));
    assert_eq!(migrated["version"], SCHEMA);
    assert_eq!(world.declare(&[declaration("a/", "other")]).await.picked_up, 1);
}

#[tokio::test]
async fn every_table_and_column_has_a_comment() {
    let world = World::empty().await;
    let sql = "select c.relname || coalesce('.' || a.attname, '') from pg_class c \
        join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'public' \
        left join lateral (select 0 as attnum, null as attname union all select attnum, attname::text from pg_attribute \
          where attrelid = c.oid and attnum > 0 and not attisdropped) a on true \
        left join pg_description d on d.objoid = c.oid and d.classoid = 'pg_class'::regclass and d.objsubid = a.attnum \
        where c.relkind = 'r' and d.description is null";
    assert_eq!(world.scratch.lines(sql).await, Vec::<String>::new());
    assert!(world.count("pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace").await >= 8);
}

#[tokio::test]
async fn migrating_twice_is_migrating_once() {
    let world = World::empty().await;
    let again = world.ask(file("load-registrar-migrate.json")).await.unwrap();
    assert_eq!(again, json!({"applied": [], "version": SCHEMA}));
    let client = world.scratch.client().await;
    client.batch_execute("update landfall_migrations set sha256 = 'other'").await.unwrap();
    let error = world.ask(json!({"command": "migrate"})).await.unwrap_err();
    assert!(error.contains("was applied with another text"), "{error}");
}

// --- Commands -----------------------------------------------------------------------------------------------------------

#[tokio::test]
async fn tables_are_planned_applied_and_left_alone_when_they_are_right() {
    let world = World::empty().await;
    let tables = [declaration("cubic/ods_qlik/EDW.SAMPLE/", "ods"), declaration("shop/orders/", "dms")];
    let plan = world.ask(json!({"command": "tables_plan", "tables": tables})).await.unwrap();
    assert_eq!(world.count("cubic_tables").await, 0, "a plan changes nothing");
    let applied = world.declare(&tables).await;
    assert_eq!(serde_json::to_value(&applied).unwrap(), plan);
    assert_eq!(applied.changes.len(), 2);
    let again = world.declare(&tables).await;
    assert_eq!((again.changes.len(), again.unchanged), (0, 2));
    let inactive = json!({"prefix": "shop/orders/", "kind": "dms", "active": false});
    let plan = world.declare(&[inactive]).await;
    assert_eq!(plan.undeclared, ["cubic__ods_qlik__edw_sample"]);
    let field = &plan.changes[0].fields[0];
    assert_eq!(
        (field.field.as_str(), field.from.as_deref(), field.to.as_deref()),
        ("active", Some("true"), Some("false"))
    );
    let list: TableList =
        serde_json::from_value(world.ask(file("load-registrar-tables-list.json")).await.unwrap()).unwrap();
    let [ods, dms] = &list.tables[..] else { panic!("{list:?}") };
    assert_eq!((ods.kind, ods.active, dms.active), (TableKind::Ods, true, false));
    assert_eq!(ods.snapshot_key.as_deref(), Some(LOAD));
}

#[tokio::test]
async fn columns_that_no_load_could_have_are_refused_before_there_are_loads() {
    let world = World::empty().await;
    for (columns, problem) in [
        (json!([{"name": "id", "type": "serial"}]), "column \"id\" has the unknown type \"serial\"; known are integer"),
        (json!([{"name": "at", "type": "decimal(39,2)"}]), "column \"at\" has the unknown type \"decimal(39,2)\""),
        (json!([{"name": "id", "type": "INT4"}, {"name": "id", "type": "text"}]), "column \"id\" is declared twice"),
        (json!([{"name": "", "type": "INT4"}]), "a column has no name"),
    ] {
        let tables = json!([{"prefix": "shop/orders/", "kind": "dms", "columns": columns}]);
        for command in ["tables_plan", "tables_apply"] {
            let refused = world.ask(json!({"command": command, "tables": tables})).await.unwrap_err();
            assert!(refused.starts_with(&format!("table with prefix \"shop/orders/\": {problem}")), "{refused}");
        }
    }
    assert_eq!(world.count("cubic_tables").await, 0);
}

#[tokio::test]
async fn a_prefix_belongs_to_one_table() {
    let world = World::empty().await;
    world.declare(&[declaration("shop/orders/", "dms")]).await;
    let renamed = json!({"name": "orders", "prefix": "shop/orders/", "kind": "dms"});
    let refused = world.ask(json!({"command": "tables_apply", "tables": [&renamed]})).await.unwrap_err().to_string();
    assert!(refused.contains("belongs to the table \"shop__orders\""), "{refused}");
    let moved = json!({"name": "shop__orders", "prefix": "shop/old_orders/", "kind": "dms"});
    assert_eq!(world.declare(&[moved, renamed]).await.changes.len(), 2);
}

#[tokio::test]
async fn a_table_picks_up_what_came_before_it() {
    let world = World::empty().await;
    let ct = "cubic/ods_qlik/EDW.SAMPLE__ct/1.csv.gz";
    world
        .put(&[
            Version::new(ct, NOON + 5, 1),
            Version::new(LOAD, NOON, 1),
            Version::new("shop/orders/2026/11/20/12/1.parquet", NOON, 1),
            Version::new("elsewhere/1.csv", NOON, 1),
        ])
        .await;
    assert_eq!(world.count("unregistered_objects").await, 4);
    let tables = [declaration("cubic/ods_qlik/EDW.SAMPLE/", "ods"), declaration("shop/orders/", "dms")];
    let plan: TablesPlan =
        serde_json::from_value(world.ask(json!({"command": "tables_plan", "tables": tables})).await.unwrap()).unwrap();
    assert_eq!((plan.picked_up, world.count("unregistered_objects").await), (3, 4));
    assert_eq!(world.declare(&tables).await.picked_up, 3);
    assert_eq!(world.count("unregistered_objects").await, 1);
    let sql = "select l.status from cubic_loads l order by s3_key";
    assert_eq!(world.scratch.lines(sql).await, ["ready", "ready", "ready"]);
    assert_eq!(world.count("cubic_load_ods_snapshots").await, 2);

    // An inactive table's objects wait, and are picked up when it is active again.
    let plan = world.declare(&[json!({"prefix": "shop/orders/", "kind": "dms", "active": false})]).await;
    assert_eq!((plan.set_aside, world.count("cubic_loads").await), (1, 2));
    world.put(&[Version::new("shop/orders/2026/11/20/13/1.parquet", NOON, 1)]).await;
    assert_eq!(world.count("cubic_loads").await, 2);
    assert_eq!(world.declare(&[declaration("shop/orders/", "dms")]).await.picked_up, 2);
    assert_eq!(world.count("cubic_loads").await, 4);
}

fn unregistered(answer: Result<Value, String>) -> UnregisteredList {
    serde_json::from_value(answer.unwrap()).unwrap()
}

#[tokio::test]
async fn objects_that_are_no_data_are_listed_and_never_become_loads() {
    let world = World::empty().await;
    let puts =
        ["shop/orders/1.TXT", "shop/orders/1.xlsx", "shop/orders/LOAD001.dfm", "shop/orders/1.csv", "x/nul\0.CSV"]
            .map(|key| Version::new(key, NOON, 7));
    world.put(&puts).await;
    world.notify(sqs_event(&puts)).await;
    let all = |prefix: Option<&str>, reason, after, limit| Command::TablesUnregistered {
        prefix: prefix.map(str::to_owned),
        reason,
        after,
        limit,
    };
    let listed = unregistered(world.command(&all(None, None, None, 1_000)).await);
    let listed: Vec<_> =
        listed.objects.iter().map(|object| (object.s3_key.as_str(), object.reason, object.s3_size)).collect();
    let expected = [
        ("shop/orders/1.TXT", UnregisteredReason::NotData, 7),
        ("shop/orders/1.csv", UnregisteredReason::NoTable, 7),
        ("shop/orders/1.xlsx", UnregisteredReason::NotData, 7),
        ("shop/orders/LOAD001.dfm", UnregisteredReason::NotData, 7),
        ("x/nul%00.CSV", UnregisteredReason::KeyHoldsNul, 7),
    ];
    assert_eq!(listed, expected);
    let list = async || -> TableList {
        serde_json::from_value(world.ask(json!({"command": "tables_list"})).await.unwrap()).unwrap()
    };
    let before = list().await;
    assert_eq!((before.unregistered_objects, before.objects_not_data), (2, 3));

    // A table takes the data only.
    assert_eq!(world.declare(&[declaration("shop/orders/", "dms")]).await.picked_up, 1);
    assert_eq!(world.scratch.lines("select s3_key from cubic_loads").await, ["shop/orders/1.csv"]);
    let after = list().await;
    assert_eq!((after.unregistered_objects, after.objects_not_data), (1, 3));

    // Filters, and pages of one object each.
    let not_data = Some(UnregisteredReason::NotData);
    assert_eq!(unregistered(world.command(&all(Some("x/"), not_data, None, 10)).await).objects, []);
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = unregistered(world.command(&all(Some("shop/orders/"), not_data, after, 1)).await);
        seen.extend(page.objects.into_iter().map(|object| object.s3_key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["shop/orders/1.TXT", "shop/orders/1.xlsx", "shop/orders/LOAD001.dfm"]);
}

#[tokio::test]
async fn a_reconciliation_records_objects_that_are_no_data_as_a_notification_does() {
    let world = World::new().await;
    let puts = ["cubic/dmap/agg_sample/1.xlsx", "cubic/dmap/agg_sample/2.xlsx"].map(|key| Version::new(key, NOON, 1));
    world.put(&puts[..1]).await;
    world.incoming.put(&puts[1..]);
    let dry = reconcile(&world, true).await;
    assert_eq!((dry.objects, dry.missing, world.count("unregistered_objects").await), (0, 0, 1));
    let found = reconcile(&world, false).await;
    assert_eq!((found.objects, found.missing, world.count("unregistered_objects").await), (0, 0, 2));
    world.notify(sqs_event(&puts)).await;
    assert_eq!(world.count("unregistered_objects where reason = 'not_data'").await, 2);
}

#[tokio::test]
async fn a_prefix_of_no_active_table_is_refused() {
    let world = World::new().await;
    let reconcile = async |prefix: Option<&str>, after: Value| {
        world.ask(json!({"command": "reconcile", "prefix": prefix, "dry_run": true, "after": after})).await
    };
    let known = "there are cubic/dmap/agg_sample/, cubic/kafka/sample/, cubic/ods_qlik/EDW.SAMPLE/, \
        cubic/ods_qlik/EDW.SAMPLE__ct/";
    let error = reconcile(Some("cubic/dmpa/"), json!([])).await.unwrap_err();
    assert_eq!(error, format!("no active table has the prefix cubic/dmpa/; {known}"));
    let error = reconcile(None, json!([{"prefix": "cubic/dmpa/", "key": ""}])).await.unwrap_err();
    assert_eq!(error, format!("no active table has the prefix cubic/dmpa/; {known}"));
    for prefix in ["cubic/", "cubic/dmap/agg_sample/2026/", "cubic/dmap/agg"] {
        reconcile(Some(prefix), json!([])).await.unwrap();
    }
    reconcile(None, json!([{"prefix": "cubic/kafka/sample/", "key": ""}])).await.unwrap();
    let empty = World::empty().await;
    let error = empty.ask(json!({"command": "reconcile", "prefix": "a/"})).await.unwrap_err();
    assert_eq!(error, "no active table has the prefix a/; no table is active");
    empty.ask(json!({"command": "reconcile"})).await.unwrap();
}

#[tokio::test]
async fn the_longest_prefix_wins() {
    let world = World::empty().await;
    world.declare(&[declaration("a/", "other"), declaration("a/b/", "other"), declaration("c/x__ct/", "dms")]).await;
    world
        .put(&[
            Version::new("a/1.csv", NOON, 1),
            Version::new("a/b/1.csv", NOON, 1),
            Version::new("a/bb/1.csv", NOON, 1),
            Version::new("c/x__ct/1.csv", NOON, 1),
            Version::new("c/x/1.csv", NOON, 1),
        ])
        .await;
    let sql =
        "select t.name, l.s3_key, l.is_changes from cubic_loads l join cubic_tables t on t.id = l.table_id order by 2";
    let expected = ["a|a/1.csv|f", "a__b|a/b/1.csv|f", "a|a/bb/1.csv|f", "c__x__ct|c/x__ct/1.csv|f"];
    assert_eq!(world.scratch.lines(sql).await, expected);
    assert_eq!(world.scratch.lines("select s3_key from unregistered_objects").await, ["c/x/1.csv"]);
}

fn list(answer: Result<Value, String>) -> LoadList {
    serde_json::from_value(answer.unwrap()).unwrap()
}

#[tokio::test]
async fn jobs_that_claim_at_the_same_time_get_different_loads() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..30).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:02}.csv"), NOON + at, 1)).collect();
    world.put(&puts).await;
    let next = |by: &str, limit: u32, lease_seconds: u32| Command::LoadsNext {
        table: Some("cubic__dmap__agg_sample".into()),
        loads: Vec::new(),
        step: Step::Ingest,
        limit,
        lease_seconds,
        by: by.into(),
        queued: false,
    };
    let mut jobs = tokio::task::JoinSet::new();
    for job in 0..5 {
        let (incoming, url) = (world.incoming.clone(), world.scratch.url());
        let command = serde_json::to_vec(&next(&format!("job-{job}"), 5, 600)).unwrap();
        jobs.spawn(async move {
            let app = app(&incoming, &url).await;
            list(handle(&app, Bytes::from(command), in_seconds(30)).await.map_err(|error| error.to_string())).loads
        });
    }
    let claimed: Vec<_> = jobs.join_all().await.into_iter().flatten().collect();
    let ids: BTreeSet<i64> = claimed.iter().map(|load| load.id).collect();
    assert_eq!((claimed.len(), ids.len()), (25, 25));
    assert!(claimed.iter().all(|load| load.status == LoadStatus::Ingesting && load.leased_by.is_some()));
    let rest = list(world.command(&next("late", 100, 1)).await).loads;
    assert_eq!(rest.iter().map(|load| load.s3_key.as_str()).collect::<Vec<_>>().len(), 5);
    assert_eq!(list(world.command(&next("later", 100, 1)).await).loads, []);
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    let again = list(world.command(&next("heir", 100, 600)).await).loads;
    assert_eq!(again.len(), 5, "a lease that has run out is another job's");
    let log = "select reason from cubic_load_transitions where from_status = to_status limit 1";
    assert_eq!(world.scratch.lines(log).await, ["the lease of late ran out or was revoked"]);
    let nobodys = json!({"command": "loads_next", "table": "nope", "limit": 1, "lease_seconds": 1, "by": "me"});
    let error = world.ask(nobodys).await.unwrap_err();
    let known = "cubic__dmap__agg_sample, cubic__kafka__sample, cubic__ods_qlik__edw_sample";
    assert_eq!(error, format!("there is no table nope; there are {known}"));
    let listed = Command::LoadsList {
        table: Some("nope".into()),
        status: None,
        since: None,
        displaced: false,
        keys: Vec::new(),
        after: None,
        limit: 1,
    };
    assert_eq!(world.command(&listed).await.unwrap_err(), error);
}

#[tokio::test]
async fn a_status_is_set_for_all_or_for_none() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..3).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at}.csv"), NOON, at)).collect();
    world.put(&puts).await;
    let all = Command::LoadsList {
        table: None,
        status: None,
        since: None,
        displaced: false,
        keys: Vec::new(),
        after: None,
        limit: 1_000,
    };
    let ids: Vec<i64> = list(world.command(&all).await).loads.iter().map(|load| load.id).collect();
    let set = |loads: &[i64], status| Command::LoadsSetStatus {
        loads: loads.iter().map(|id| LoadRef { id: *id, lease: None, result: None }).collect(),
        status,
        revoke: false,
        reason: Some("by hand".into()),
        by: "me".into(),
    };
    let error = world.command(&set(&ids, LoadStatus::Ingesting)).await.unwrap_err();
    assert!(error.contains("cannot go from ready_for_erroring to ingesting"), "{error}");
    assert_eq!(world.count("cubic_loads where status = 'ingesting'").await, 0);
    let error = world.command(&set(&[ids[1], 999_999], LoadStatus::Ingesting)).await.unwrap_err();
    assert_eq!(error, "there is no load 999999; nothing was changed");
    let loads = list(world.command(&set(&ids[1..], LoadStatus::ReadyForErroring)).await).loads;
    assert!(loads.iter().all(|load| load.status_reason.as_deref() == Some("by hand")), "{loads:?}");
    let log = "select from_status, to_status, by, reason from cubic_load_transitions limit 1";
    assert_eq!(world.scratch.lines(log).await, ["ready|ready_for_erroring|me|by hand"]);
    let ready = list(world.command(&set(&ids[1..], LoadStatus::Ready)).await).loads;
    assert!(ready.iter().all(|load| load.status_reason.is_none()));
}

#[tokio::test]
async fn loads_are_listed_page_by_page() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..25).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:02}.csv"), NOON + at / 3, 1)).collect();
    world.put(&puts).await;
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let table = Some("cubic__dmap__agg_sample".to_owned());
        let command = Command::LoadsList {
            table,
            status: Some(LoadStatus::Ready),
            since: None,
            displaced: false,
            keys: Vec::new(),
            after,
            limit: 10,
        };
        let page = list(world.command(&command).await);
        seen.extend(page.loads.iter().map(|load| load.s3_key.clone()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 25);
    assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 25);
    let since = Some(jiff::Timestamp::from_second(NOON + 8).unwrap());
    let late = Command::LoadsList {
        table: None,
        status: None,
        since,
        displaced: false,
        keys: Vec::new(),
        after: None,
        limit: 10,
    };
    assert_eq!(list(world.command(&late).await).loads.len(), 1);
    let none = Command::LoadsList {
        table: None,
        status: None,
        since: None,
        displaced: false,
        keys: Vec::new(),
        after: None,
        limit: 0,
    };
    assert_eq!(world.command(&none).await.unwrap_err(), "limit is 0; it must be from 1 to 1000");
}

async fn reconcile(world: &World, dry_run: bool) -> Reconciliation {
    let mut command = file("load-registrar-reconcile.json");
    command["dry_run"] = json!(dry_run);
    serde_json::from_value(world.ask(command).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_reconciliation_finds_exactly_what_was_never_announced() {
    let world = World::new().await;
    let puts: Vec<Version> = (0..1_000)
        .map(|at| {
            let folder = ["cubic/dmap/agg_sample", "cubic/kafka/sample", "cubic/ods_qlik/EDW.SAMPLE__ct"][at % 3];
            Version::new(&format!("{folder}/{at:04}.csv.gz"), NOON + i64::try_from(at).unwrap() % 11, 1)
        })
        .collect();
    world.incoming.put(&puts);
    world
        .incoming
        .put(&[Version::new("cubic/dmap/agg_sample/x.dfm", NOON, 1), Version::new("elsewhere/1.csv", NOON, 1)]);
    let lost: Vec<&Version> = puts.iter().step_by(10).collect();
    let announced: Vec<&Version> = puts.iter().filter(|put| !lost.contains(put)).collect();
    for batch in announced.chunks(100) {
        world.notify(sqs_event(batch.iter().copied())).await;
    }
    let dry = reconcile(&world, true).await;
    assert_eq!((dry.objects, dry.missing, dry.changed, dry.phantom), (1_000, 100, 0, 0));
    assert_eq!(world.count("cubic_loads").await, 900);
    let found = reconcile(&world, false).await;
    let keys: BTreeSet<&str> = found.differences.iter().map(|difference| difference.s3_key.as_str()).collect();
    assert_eq!(keys, lost.iter().map(|put| put.key.as_str()).collect());
    assert_eq!(world.count("cubic_loads").await, 1_000);
    // Notifications that arrive after the reconciliation change nothing.
    let before = world.dump().await;
    world.notify(sqs_event(lost)).await;
    assert_eq!(world.dump().await, before);
    let clean = reconcile(&world, false).await;
    assert_eq!((clean.objects, clean.missing, clean.changed, clean.phantom), (1_000, 0, 0, 0));
}

#[tokio::test]
async fn a_reconciliation_reports_what_is_gone_and_what_was_replaced() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..2_500).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:04}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    for batch in puts.chunks(500) {
        world.notify(sqs_event(batch)).await;
    }
    world.incoming.put(&[Version::new(&puts[1_500].key, NOON + 1, 2)]);
    for put in [&puts[0], &puts[999], &puts[2_499]] {
        world.incoming.state().deleted.insert(put.key.clone());
    }
    // An archived load's object is meant to be gone.
    let client = world.scratch.client().await;
    let claim = "leased_by = 'me', leased_until = now() + interval '1min'";
    for (status, lease) in [
        ("ingesting", claim),
        ("ready_for_archiving", "by_lease = 1"),
        ("archiving", claim),
        ("archived", "by_lease = 2"),
    ] {
        let sql = format!("update cubic_loads set status = '{status}', {lease} where s3_key = '{}'", puts[999].key);
        client.batch_execute(&sql).await.unwrap();
    }
    let found = reconcile(&world, false).await;
    assert_eq!((found.objects, found.missing, found.changed, found.phantom), (2_497, 0, 1, 2));
    let reported: Vec<(Differing, &str)> =
        found.differences.iter().map(|difference| (difference.what, difference.s3_key.as_str())).collect();
    let expected = [
        (Differing::Phantom, puts[0].key.as_str()),
        (Differing::Changed, puts[1_500].key.as_str()),
        (Differing::Phantom, puts[2_499].key.as_str()),
    ];
    assert_eq!(reported, expected);
    assert_eq!(world.count("cubic_loads").await, 2_501, "the new version is a load of its own");
    assert_eq!(world.incoming.state().calls["ListObjectsV2"], 6, "three pages, and one for each other prefix");
}

#[tokio::test]
async fn a_scheduled_reconciliation_resumes_where_it_stopped() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..5_500).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:04}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    let event = Bytes::from(json!({"command": "reconcile_scheduled"}).to_string());
    let mut rounds = 0;
    loop {
        // A little more than the reserve for the response: a page or a few in each round.
        let deadline = u64::try_from(clock::unix_ms()).unwrap() + 2_000;
        drop(handle(&world.app, event.clone(), deadline).await);
        rounds += 1;
        if world.count("cubic_loads").await == 5_500 || rounds > 40 {
            break;
        }
    }
    assert_eq!(world.count("cubic_loads").await, 5_500);
    let last: Reconciliation =
        serde_json::from_value(world.ask(json!({"command": "reconcile_scheduled"})).await.unwrap()).unwrap();
    assert_eq!((last.missing, last.next), (0, vec![]));
    assert_eq!(world.count("reconcile_ranges").await, 0);
}

async fn reconcile_scheduled(app: &App) -> Reconciliation {
    let event = Bytes::from(json!({"command": "reconcile_scheduled"}).to_string());
    serde_json::from_value(handle(app, event, in_seconds(20)).await.unwrap()).unwrap()
}

#[tokio::test]
async fn a_prefix_that_cannot_be_listed_does_not_block_the_others() {
    let world = World::new().await;
    let broken = "cubic/dmap/agg_sample/";
    let puts = ["cubic/dmap/agg_sample/1.csv", "cubic/kafka/sample/1.json", "cubic/ods_qlik/EDW.SAMPLE__ct/1.csv.gz"];
    world.incoming.put(&puts.map(|key| Version::new(key, NOON, 1)));
    world.incoming.state().unavailable.insert(broken.to_owned());
    let dry = reconcile(&world, true).await;
    assert_eq!((dry.missing, dry.failures, dry.failed.len()), (2, 1, 1));
    let found = reconcile_scheduled(&world.app).await;
    assert_eq!((found.objects, found.missing, found.failures), (2, 2, 1));
    assert_eq!((found.failed[0].prefix.as_str(), found.failed[0].key.as_str()), (broken, ""));
    assert!(found.failed[0].cause.contains("SlowDown"), "{:?}", found.failed);
    assert_eq!(world.count("cubic_loads").await, 2);
    let kept = "select prefix, key, until, cause is not null from reconcile_ranges";
    assert_eq!(world.scratch.lines(kept).await, ["cubic/dmap/agg_sample/|||t"]);
    world.incoming.state().unavailable.clear();
    let again = reconcile_scheduled(&world.app).await;
    assert_eq!((again.missing, again.failures), (1, 0));
    assert_eq!((world.count("cubic_loads").await, world.count("reconcile_ranges").await), (3, 0));
}

#[tokio::test]
async fn prefixes_are_compared_while_s3_is_silent_about_others() {
    let world = World::new().await;
    let puts = ["cubic/dmap/agg_sample/1.csv", "cubic/kafka/sample/1.json", "cubic/ods_qlik/EDW.SAMPLE__ct/1.csv.gz"];
    world.incoming.put(&puts.map(|key| Version::new(key, NOON, 1)));
    world.incoming.state().silent.insert("cubic/dmap/agg_sample/".to_owned());
    let event = Bytes::from(json!({"command": "reconcile"}).to_string());
    let answer = handle(&world.app, event, in_seconds(4)).await.unwrap();
    let found: Reconciliation = serde_json::from_value(answer).unwrap();
    assert_eq!((found.missing, found.failures, world.count("cubic_loads").await), (2, 1, 2));
    assert!(found.failed[0].cause.contains("no answer"), "{:?}", found.failed);
}

#[tokio::test]
async fn a_page_that_the_database_refuses_does_not_block_the_pages_behind_it() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..2_500).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:04}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    world.incoming.put(&[Version::new("cubic/kafka/sample/1.json", NOON, 1)]);
    let client = world.scratch.client().await;
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin \
          raise exception 'the load % is refused', new.s3_key using errcode = 'check_violation'; end $$; \
        create trigger refuse before insert on cubic_loads for each row when (new.s3_key like '%/1500.csv') \
        execute function refuse()";
    client.batch_execute(refuse).await.unwrap();
    let found = reconcile_scheduled(&world.app).await;
    assert_eq!((found.missing, found.failures, world.count("cubic_loads").await), (1_501, 1, 1_501));
    let failed = &found.failed[0];
    let range = (failed.key.as_str(), failed.until.as_deref());
    assert_eq!(range, ("cubic/dmap/agg_sample/0999.csv", Some("cubic/dmap/agg_sample/1999.csv")));
    assert_eq!(failed.cause, "the load cubic/dmap/agg_sample/1500.csv is refused");

    // The next one was interrupted: what failed before is compared again, and no more than that.
    client.batch_execute("drop trigger refuse on cubic_loads").await.unwrap();
    let interrupted = "insert into reconcile_ranges (prefix, key) values ('cubic/ods_qlik/EDW.SAMPLE__ct/', '')";
    client.batch_execute(interrupted).await.unwrap();
    world.incoming.state().calls.clear();
    let again = reconcile_scheduled(&world.app).await;
    assert_eq!((again.objects, again.missing, again.failures), (1_000, 1_000, 0));
    assert_eq!(world.incoming.state().calls["ListObjectsV2"], 2);
    assert_eq!((world.count("cubic_loads").await, world.count("reconcile_ranges").await), (2_501, 0));
}

#[tokio::test]
async fn what_is_data_depends_on_a_setting_and_not_on_case() {
    let world = World::new().await;
    let put = |name: &str| Version::new(&format!("cubic/dmap/agg_sample/{name}"), NOON, 1);
    let puts = [put("1.CSV"), put("2.Csv.GZ"), put("3.avro"), put("4.dfm")];
    world.put(&puts).await;
    let loads = "select s3_key from cubic_loads order by 1";
    assert_eq!(world.scratch.lines(loads).await, ["cubic/dmap/agg_sample/1.CSV", "cubic/dmap/agg_sample/2.Csv.GZ"]);
    assert_eq!(world.count("unregistered_objects where reason = 'not_data'").await, 2);

    let url = world.scratch.url();
    let settings = [("DATABASE_URL", url.as_str()), ("DATA_SUFFIXES", ".csv,.AVRO")];
    let with_avro = app_with(&world.incoming, &settings).await;
    // A suffix that is not set any more makes no load disappear.
    let found = reconcile_scheduled(&with_avro).await;
    assert_eq!((found.missing, found.failures), (1, 0));
    let unregistered = "select s3_key from unregistered_objects order by 1";
    let expected = ["cubic/dmap/agg_sample/2.Csv.GZ", "cubic/dmap/agg_sample/4.dfm"];
    assert_eq!(world.scratch.lines(unregistered).await, expected);
    assert_eq!(world.count("cubic_loads").await, 3);

    // A notification may be faster than the reconciliation.
    let late = [put("5.avro")];
    world.put(&late).await;
    let event = Bytes::from(sqs_event(&late).to_string());
    handle(&with_avro, event, in_seconds(20)).await.unwrap();
    assert_eq!(world.count("unregistered_objects where s3_key like '%5.avro'").await, 1);
    assert_eq!(reconcile_scheduled(&with_avro).await.missing, 0);
    assert_eq!(world.count("unregistered_objects where s3_key like '%5.avro'").await, 0);
    assert_eq!(world.count("cubic_loads").await, 4);
}

#[tokio::test]
async fn a_listing_tells_every_key() {
    let world = World::new().await;
    let keys = ["a b+c%.csv", "&<\u{1}\u{85}.csv", "é/\u{1f600}.json", "nul\0.csv", "nul\0.dfm"];
    let puts: Vec<Version> =
        keys.iter().map(|key| Version::new(&format!("cubic/dmap/agg_sample/{key}"), NOON, 1)).collect();
    world.incoming.put(&puts);
    let found = reconcile_scheduled(&world.app).await;
    assert_eq!((found.failures, world.count("cubic_loads").await), (0, 3));
    let before = world.dump().await;
    assert_eq!(world.notify(sqs_event(&puts)).await, Vec::<String>::new());
    assert_eq!(world.dump().await.len(), before.len() + 1, "one key with NUL is data, which listings do not record");
    assert_eq!(reconcile_scheduled(&world.app).await.missing, 0);
}

// --- Inventories --------------------------------------------------------------------------------------------------------

fn rows<'a>(versions: impl IntoIterator<Item = &'a Version>) -> Vec<String> {
    versions.into_iter().map(|version| inventory_row(version, true, false)).collect()
}

async fn compare_inventory(world: &World, manifest: &str, dry_run: bool) -> Result<Reconciliation, String> {
    let mut command = file("load-registrar-reconcile-inventory.json");
    command["manifest"] = json!(manifest);
    command["dry_run"] = json!(dry_run);
    world.ask(command).await.map(|answer| serde_json::from_value(answer).unwrap())
}

#[tokio::test]
async fn an_inventory_registers_what_is_missing_and_nothing_that_is_gone() {
    let world = World::new().await;
    let put = |name: &str, modified| Version::new(&format!("cubic/dmap/agg_sample/{name}"), modified, 1);
    let (known, lost, gone) = (put("known.csv", NOON), put("lost é+.csv", NOON), put("gone.csv", NOON));
    let (old, new) = (put("replaced.csv", NOON), put("replaced.csv", NOON + 7));
    let (was, is) = (put("replaced and known.csv", NOON), put("replaced and known.csv", NOON + 7));
    let (dfm, former) = (put("lost.dfm", NOON), put("former.csv", NOON));
    let elsewhere = Version::new("elsewhere/1.csv", NOON, 1);
    world.put(&[known.clone(), is.clone()]).await;
    world.incoming.put([&lost, &gone, &old, &new, &dfm, &elsewhere]);
    world.incoming.state().versions.sort_by_key(|version| version.modified);
    world.incoming.state().deleted.insert(gone.key.clone());
    let mut all = rows([&known, &lost, &gone, &old, &was, &dfm, &elsewhere]);
    all.extend([inventory_row(&former, false, false), inventory_row(&former, true, true)]);
    let manifest = world.incoming.state().inventory("2026-11-20T01-00Z", &[all[..4].to_vec(), all[4..].to_vec()]);
    world.incoming.state().calls.clear();

    let dry = compare_inventory(&world, &manifest, true).await.unwrap();
    assert_eq!((dry.objects, dry.missing, dry.changed, dry.failures, dry.next_inventory), (5, 2, 0, 0, None));
    assert_eq!(world.count("cubic_loads").await, 2);
    let found = compare_inventory(&world, &manifest, false).await.unwrap();
    assert_eq!((found.objects, found.missing, found.changed, found.failures), (5, 2, 0, 0));
    let loads = "select s3_key, extract(epoch from s3_modified)::bigint from cubic_loads order by 1";
    let expected = [&known, &lost, &is, &new].map(|version| format!("{}|{}", version.key, version.modified));
    assert_eq!(world.scratch.lines(loads).await, expected);
    assert_eq!(world.scratch.lines("select s3_key from unregistered_objects").await, [dfm.key.as_str()]);
    assert_eq!(world.incoming.state().calls.get("ListObjectsV2"), None);
    let again = compare_inventory(&world, &manifest, false).await.unwrap();
    assert_eq!((again.objects, again.missing, again.changed), (5, 0, 0));
}

#[tokio::test]
async fn a_file_of_an_inventory_that_is_damaged_does_not_block_the_others() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..30).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:02}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    let mut files: Vec<Vec<String>> = puts.chunks(10).map(rows).collect();
    files[2].insert(3, "\"torn".to_owned());
    let manifest = world.incoming.state().inventory("2026-11-20T01-00Z", &files);
    let damaged = format!("{INVENTORY}data/2026-11-20T01-00Z-1.csv.gz");
    let place = (INVENTORIES.to_owned(), damaged.clone());
    world.incoming.state().inventories.objects.get_mut(&place).unwrap().body.push(0);
    let found = compare_inventory(&world, &manifest, false).await.unwrap();
    assert_eq!((found.objects, found.missing, found.failures), (20, 20, 2));
    let failed: Vec<(&str, &str)> =
        found.failed.iter().map(|failed| (failed.prefix.as_str(), failed.cause.as_str())).collect();
    assert_eq!(failed[0].0, format!("s3://{INVENTORIES}/{damaged}"));
    assert!(failed[0].1.starts_with("its MD5 is ") && failed[1].1 == "a quote is open", "{failed:?}");
    assert_eq!(found.failed[1].key, "row 4");
}

#[tokio::test]
async fn an_inventory_that_cannot_be_used_says_why() {
    let world = World::new().await;
    let manifest = world.incoming.state().inventory("2026-11-20T01-00Z", &[]);
    let place = (INVENTORIES.to_owned(), format!("{INVENTORY}2026-11-20T01-00Z/manifest.json"));
    let right = world.incoming.state().inventories.objects[&place].body.clone();
    for (from, to, says) in [
        ("CSV", "Parquet", "its format is Parquet; configure the inventory with the format CSV"),
        (", ETag", "", "it has no column ETag; add that field to the inventory configuration"),
        (INCOMING, "another", "it is of the bucket another, not of landfall-incoming-000000000000-us-east-1"),
        ("{", "[", "it is no manifest of an inventory"),
    ] {
        let wrong = String::from_utf8(right.clone()).unwrap().replacen(from, to, 1);
        world.incoming.state().inventories.objects.get_mut(&place).unwrap().body = wrong.into_bytes();
        let error = compare_inventory(&world, &manifest, false).await.unwrap_err();
        assert!(error.starts_with(&format!("the inventory {manifest} cannot be used: {says}")), "{error}");
    }
    let error = compare_inventory(&world, "s3://inventories/manifest.csv", false).await.unwrap_err();
    assert!(error.contains("its address has to be like"), "{error}");
    let error = compare_inventory(&world, "s3://inventories/x/manifest.json", false).await.unwrap_err();
    assert!(error.contains("does not exist"), "{error}");
}

#[tokio::test]
async fn the_schedule_compares_the_newest_inventory_step_by_step() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..3_500).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at:04}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    // Most are known: those that are not are looked up one by one.
    let known = puts.iter().enumerate().filter(|(at, _)| at % 100 != 7).map(|(_, put)| Object {
        key: put.key.clone(),
        modified: jiff::Timestamp::from_second(put.modified).unwrap(),
        size: 1,
        e_tag: put.e_tag.clone(),
        version: None,
    });
    let known: Vec<Object> = known.collect();
    register::register(&world.app.database, &known, Duration::from_secs(20)).await.unwrap();
    assert_eq!(world.count("cubic_loads").await, 3_465);
    let files: Vec<Vec<String>> = puts.chunks(2_500).map(rows).collect();
    world
        .incoming
        .state()
        .inventory("2026-11-19T01-00Z", &[rows([&Version::new("cubic/dmap/agg_sample/x.csv", NOON, 1)])]);
    world.incoming.state().inventory("2026-11-20T01-00Z", &files);
    let (url, place) = (world.scratch.url(), format!("s3://{INVENTORIES}/{INVENTORY}"));
    let app = app_with(&world.incoming, &[("DATABASE_URL", &url), ("RECONCILE_INVENTORY", &place)]).await;
    // No time for beginning anything: one batch in each step.
    let (mut steps, place) = (0, Place::parse(&place).unwrap());
    while world.count("reconcile_inventory where finished_at is not null").await == 0 && steps < 10 {
        let times = Times::new(Duration::ZERO, Duration::from_secs(20));
        inventory::resume(&app, &place, times).await.unwrap();
        steps += 1;
        assert_eq!(world.count("cubic_loads").await, [3_475, 3_485, 3_490, 3_500, 3_500][steps - 1], "step {steps}");
    }
    assert_eq!(steps, 5, "two batches and a half, and one, and the end of the last file");
    assert_eq!(world.count("cubic_loads").await, 3_500);
    world.incoming.state().calls.clear();
    assert_eq!(reconcile_scheduled(&app).await, Reconciliation::default());
    assert_eq!(world.incoming.state().calls, [("inventories", 1)].into(), "it is compared once");
    let next = Version::new("cubic/dmap/agg_sample/next.csv", NOON, 1);
    world.incoming.put([&next]);
    world.incoming.state().inventory("2026-11-21T01-00Z", &[rows([&next])]);
    assert_eq!(reconcile_scheduled(&app).await.missing, 1);
}

// --- What was expected, and what is forgotten -----------------------------------------------------------------------------

#[tokio::test]
async fn tables_without_an_object_that_they_expected_are_late() {
    let world = World::empty().await;
    let expecting = |prefix: &str, expect: &str| json!({"prefix": prefix, "kind": "other", "expect": expect});
    let tables = [
        expecting("late/", "daily by 06:00 America/New_York"),
        expecting("just/", "every 1h"),
        expecting("new/", "hourly by :15"),
        json!({"prefix": "off/", "kind": "other", "expect": "every 1m", "active": false}),
        declaration("none/", "other"),
    ];
    let plan = world.declare(&tables).await;
    let expect = plan.changes.iter().find(|change| change.name == "just").unwrap().fields.last().unwrap().clone();
    assert_eq!((expect.field.as_str(), expect.from, expect.to.as_deref()), ("expect", None, Some("every 1h")));
    assert_eq!(world.declare(&tables).await.unchanged, 5);
    let now = clock::unix_ms() / 1_000;
    world
        .put(&[
            Version::new("late/1.csv", now - 3 * 86_400, 1),
            Version::new("late/0.csv", now - 9 * 86_400, 1),
            Version::new("just/1.csv", now - 60, 1),
            Version::new("off/1.csv", now - 3 * 86_400, 1),
            Version::new("none/1.csv", now - 3 * 86_400, 1),
        ])
        .await;
    let late = async || -> Vec<String> {
        let list: TableList =
            serde_json::from_value(world.ask(json!({"command": "tables_list"})).await.unwrap()).unwrap();
        let late: Vec<_> = list.tables.iter().filter(|table| table.late_since.is_some()).collect();
        assert_eq!(late.len(), tables::late(&world.app.database, Duration::from_secs(5)).await.unwrap());
        late.iter().map(|table| format!("{} {}", table.name, table.expect.as_deref().unwrap())).collect()
    };
    assert_eq!(late().await, ["late daily by 06:00 America/New_York"]);
    let client = world.scratch.client().await;
    // A table that never got an object is late in the end, and so is one whose expectation cannot be read.
    client.batch_execute("update cubic_tables set expectation_since = now() - interval '3 hours'").await.unwrap();
    assert_eq!(late().await, ["late daily by 06:00 America/New_York", "new hourly by :15"]);
    let plan = world.declare(&[expecting("new/", "hourly by :20"), declaration("late/", "other")]).await;
    let fields: Vec<_> = plan.changes.iter().map(|change| (&change.fields[0].from, &change.fields[0].to)).collect();
    let text = |text: &str| Some(text.to_owned());
    let expected = [(text("daily by 06:00 America/New_York"), None), (text("hourly by :15"), text("hourly by :20"))];
    assert_eq!(fields, expected.each_ref().map(|(from, to)| (from, to)));
    assert_eq!(late().await, Vec::<String>::new(), "a new expectation counts from now on");
    client.batch_execute("update cubic_tables set expectation = 'daily by noon' where name = 'new'").await.unwrap();
    assert_eq!(late().await, ["new daily by noon"]);
    let refused = world.ask(json!({"command": "tables_apply", "tables": [expecting("new/", "now and then")]})).await;
    assert!(refused.unwrap_err().contains("says not when to expect objects"));
}

#[tokio::test]
async fn old_rows_are_forgotten_and_nothing_that_is_needed() {
    let world = World::new().await;
    let put = |name: &str| Version::new(&format!("cubic/dmap/agg_sample/{name}"), NOON, 1);
    world.put(&[put("old.csv"), put("young.csv"), put("open.csv")]).await;
    world.put(&[put("old.dfm"), put("young.dfm"), Version::new("nobody/old.csv", NOON, 1)]).await;
    let client = world.scratch.client().await;
    let claim = "leased_by = 'me', leased_until = now() + interval '1min'";
    for (status, lease) in [
        ("ingesting", claim),
        ("ready_for_archiving", "by_lease = 1"),
        ("archiving", claim),
        ("archived", "by_lease = 2"),
    ] {
        let sql = format!(
            "update cubic_loads set status = '{status}', {lease} \
             where s3_key not like '%/open.csv' or '{status}' = 'ingesting'"
        );
        client.batch_execute(&sql).await.unwrap();
    }
    let age = "alter table cubic_loads disable trigger user; alter table cubic_load_transitions disable trigger user; \
        update cubic_loads set updated_at = now() - interval '401 days' where s3_key not like '%/young.csv'; \
        update cubic_load_transitions set at = now() - interval '401 days'; \
        update unregistered_objects set inserted_at = now() - interval '401 days' where s3_key like '%/old.%'; \
        alter table cubic_loads enable trigger user; alter table cubic_load_transitions enable trigger user";
    client.batch_execute(age).await.unwrap();
    let url = world.scratch.url();
    let settings = [("DATABASE_URL", url.as_str()), ("TRANSITION_DAYS", "0"), ("UNREGISTERED_DAYS", "402")];
    let forever = app_with(&world.incoming, &settings).await;
    // Without a listing that records the objects again.
    world.incoming.state().versions.clear();
    reconcile_scheduled(&forever).await;
    assert_eq!((world.count("cubic_load_transitions").await, world.count("unregistered_objects").await), (9, 3));
    let loads = world.dump().await;
    reconcile_scheduled(&world.app).await;
    let left = "select l.s3_key, count(*) from cubic_load_transitions t join cubic_loads l on l.id = t.load_id \
        group by 1 order by 1";
    assert_eq!(
        world.scratch.lines(left).await,
        ["cubic/dmap/agg_sample/open.csv|1", "cubic/dmap/agg_sample/young.csv|4"]
    );
    let left = "select s3_key from unregistered_objects order by 1";
    assert_eq!(world.scratch.lines(left).await, ["cubic/dmap/agg_sample/young.dfm", "nobody/old.csv"]);
    let is_load = |line: &&String| !line.starts_with("unregistered");
    assert_eq!(world.dump().await.iter().filter(is_load).count(), loads.iter().filter(is_load).count());
    assert_eq!(world.declare(&[declaration("nobody/", "other")]).await.picked_up, 1);
}

// --- Tokens in place of a password ------------------------------------------------------------------------------------------

fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).to_vec()
}

/// HMAC with SHA-256. Source: RFC 2104.
fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let padded = |with: u8| -> Vec<u8> { (0..64).map(|at| key.get(at).copied().unwrap_or_default() ^ with).collect() };
    sha256(&[padded(0x5c), sha256(&[padded(0x36), text.into()].concat())].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What RDS checks of a token, with the credentials of the tests. Source: "Create a signed AWS API request", AWS IAM user
/// guide; "Connecting to your DB instance using IAM authentication", Amazon RDS user guide.
fn check_token(token: &str, endpoint: &str, user: &str) -> Result<(), String> {
    let query = token.strip_prefix(&format!("{endpoint}/?")).ok_or("it is for another server")?;
    let (signed, signature) = query.split_once("&X-Amz-Signature=").ok_or("it has no signature at its end")?;
    let mut pairs: Vec<&str> = signed.split('&').collect();
    pairs.sort_unstable();
    let value = |name: &str| {
        let pair = pairs.iter().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.map(|value| value.replace("%2F", "/")).ok_or(format!("it has no {name}"))
    };
    let date = value("X-Amz-Date")?;
    let scope = format!("{}/eu-west-1/rds-db/aws4_request", &date[..8]);
    for (name, expected) in [
        ("Action", "connect".to_owned()),
        ("DBUser", user.replace('+', "%2B")),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256".to_owned()),
        ("X-Amz-Credential", format!("test/{scope}")),
        ("X-Amz-Expires", "900".to_owned()),
        ("X-Amz-SignedHeaders", "host".to_owned()),
    ] {
        let found = value(name)?;
        if found != expected {
            return Err(format!("{name} is {found}, not {expected}"));
        }
    }
    let signed_at = jiff::fmt::strtime::parse("%Y%m%dT%H%M%SZ", &date).and_then(|parsed| parsed.to_datetime()).unwrap();
    let signed_at = signed_at.to_zoned(jiff::tz::TimeZone::UTC).unwrap().timestamp().as_millisecond();
    if !(0..900_000).contains(&(clock::unix_ms() - signed_at)) {
        return Err(format!("it was signed at {date}"));
    }
    let request = format!("GET\n/\n{}\nhost:{endpoint}\n\nhost\n{}", pairs.join("&"), hex(&sha256(b"")));
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&sha256(request.as_bytes())));
    let key = [&date[..8], "eu-west-1", "rds-db", "aws4_request"]
        .iter()
        .fold(b"AWS4test".to_vec(), |key, part| hmac(&key, part));
    if hex(&hmac(&key, &text)) != signature {
        return Err("the signature is another".to_owned());
    }
    roles::registrar().assert_allows("rds-db:connect", "DatabaseResourceId/DatabaseIamUser");
    Ok(())
}

#[tokio::test]
async fn a_token_takes_the_place_of_the_password() {
    let (scratch, incoming) = (Scratch::new().await, Incoming::default());
    let tokens: Arc<std::sync::Mutex<Vec<Result<(), String>>>> = Arc::default();
    let (seen, endpoint) = (tokens.clone(), Arc::new(std::sync::OnceLock::<String>::new()));
    let named = endpoint.clone();
    let (port, ca) = proxy::password(scratch.address(), "localhost", move |user, token| {
        let checked = check_token(token, named.get().unwrap(), user);
        let is_right = checked.is_ok();
        seen.lock().unwrap().push(checked);
        is_right
    })
    .await;
    endpoint.set(format!("localhost:{port}")).unwrap();
    let (port, name, ca_file) = (port.to_string(), scratch.name.clone(), ca.path());
    let mut settings = vec![
        ("DATABASE_AUTH", "iam"),
        ("DATABASE_HOST", "localhost"),
        ("DATABASE_PORT", &port),
        ("DATABASE_USER", "landfall"),
        ("DATABASE_NAME", &name),
        ("DATABASE_CA_FILE", &ca_file),
    ];
    let migrate = || Bytes::from(r#"{"command": "migrate"}"#);
    let iam = app_with(&incoming, &settings).await;
    let migrated = handle(&iam, migrate(), in_seconds(10)).await.unwrap();
    assert_eq!(migrated["version"], SCHEMA);
    assert_eq!(*tokens.lock().unwrap(), [Ok(())]);

    // A server that does not accept the token, because it is signed for another name.
    tokens.lock().unwrap().clear();
    settings[1] = ("DATABASE_HOST", "127.0.0.1");
    let other = app_with(&incoming, &settings).await;
    let error = handle(&other, migrate(), in_seconds(4)).await.unwrap_err().to_string();
    assert!(error.contains("not valid for name"), "{error}");
    assert_eq!(tokens.lock().unwrap().len(), 0, "a token goes to the right server only");
}

#[tokio::test]
async fn a_token_that_is_refused_is_an_error_that_does_not_show_it() {
    let (scratch, incoming) = (Scratch::new().await, Incoming::default());
    let (port, ca) = proxy::password(scratch.address(), "localhost", |_, _| false).await;
    let (port, ca_file) = (port.to_string(), ca.path());
    let settings = [
        ("DATABASE_AUTH", "iam"),
        ("DATABASE_HOST", "localhost"),
        ("DATABASE_PORT", &port),
        ("DATABASE_USER", "somebody+else"),
        ("DATABASE_CA_FILE", &ca_file),
    ];
    let app = app_with(&incoming, &settings).await;
    let error = handle(&app, Bytes::from(r#"{"command": "migrate"}"#), in_seconds(3)).await.unwrap_err().to_string();
    assert_eq!(error, "no connection to Postgres: PAM authentication failed for user \"somebody+else\"");
}

#[test]
fn every_statement_of_its_role_is_used() {
    one_poison_record_does_not_fail_its_neighbours();
    a_late_snapshot_gets_the_loads_that_it_covers();
    a_secret_says_how_to_connect_to_the_database();
    a_scheduled_reconciliation_resumes_where_it_stopped();
    the_schedule_compares_the_newest_inventory_step_by_step();
    a_token_takes_the_place_of_the_password();
    crate::roles::registrar().assert_everything_is_used();
}

#[tokio::test]
async fn a_batch_asks_s3_once_for_each_object() {
    let world = World::new().await;
    let puts: Vec<Version> =
        (0..10).map(|at| Version::new(&format!("cubic/dmap/agg_sample/{at}.csv"), NOON, 1)).collect();
    world.incoming.put(&puts);
    world.notify(sqs_event(puts.iter().chain(&puts))).await;
    assert_eq!(world.incoming.state().calls, [("HeadObject", 10)].into());
}
