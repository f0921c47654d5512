//! dmap-fetch through its handler: a DMAP on TCP with TLS, load-registrar with a real Postgres, and buckets in memory.

mod server;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    future::pending,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use dmap_fetch::{
    app::App,
    config::Config,
    handler::{Summary, handle},
    http::Http,
};
use flate2::{Compression, write::GzEncoder};
use kit::{
    http::{self, HttpRequest, Reply, respond_json},
    s3::{Buckets, Call, Object},
};
use runtime::clock;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use shared::s3_key;
use tokio::time::timeout;

use self::server::{Dmap, Fault, KEY, at};
use crate::{
    events::file,
    postgres::Scratch,
    registrar::{INCOMING, LAKE, Registrar, in_seconds},
    roles,
};

const FOLDER: &str = "cubic/dmap/agg_sample/";

/// S3, Secrets Manager and Lambda.
#[derive(Clone, Default)]
struct Cloud(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    buckets: Buckets,
    registrar: Option<Arc<Registrar>>,
    secret: String,
    secrets_read: usize,
    dmap: Option<Dmap>,
    /// Whether the last request that is answered is one whose answer never comes, or one that never arrives.
    dies_after: bool,
    /// Operations in order, with what they are about.
    calls: Vec<String>,
}

impl Cloud {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn answer(&self, request: &HttpRequest) -> Reply {
        let mut state = self.state();
        let mut is_last = false;
        if let Some(left) = state.dmap.clone().and_then(|dmap| dmap.count()) {
            if left == 0 && !state.dies_after {
                return Reply::Hang;
            }
            is_last = left == 0;
        }
        let role = roles::dmap();
        if http::target(request) == Some("secretsmanager.GetSecretValue") {
            role.assert_allows("secretsmanager:GetSecretValue", "DmapSecretArn");
            state.secrets_read += 1;
            return respond_json(200, &json!({"SecretString": state.secret})).into();
        }
        if request.uri().contains("/functions/registrar/invocations") {
            role.assert_allows("lambda:InvokeFunction", "LoadRegistrarFunction");
            let (registrar, command) = (state.registrar.clone().unwrap(), Bytes::copy_from_slice(http::body(request)));
            state.calls.push(http::json(request)["command"].as_str().unwrap().to_owned());
            return Reply::later(async move {
                let answer = registrar.invoke(command).await;
                if is_last { pending().await } else { answer }
            });
        }
        let call = Call::of(request).unwrap();
        role.assert_allows_s3(call.operation, &call.bucket, &call.key);
        state.calls.push(format!("{} {}/{}", call.operation, call.bucket, call.key));
        state.buckets.now = clock::unix_ms() / 1_000;
        let answer = state.buckets.answer(&call, request);
        if is_last { Reply::Hang } else { answer.into() }
    }
}

impl Dmap {
    /// Counts a request of a function that dies. How many are left after it: at 0 it dies.
    fn count(&self) -> Option<usize> {
        let mut state = self.state();
        let left = state.left.as_mut()?;
        let before = *left;
        *left = before.saturating_sub(1);
        Some(before)
    }
}

struct World {
    cloud: Cloud,
    dmap: Dmap,
    scratch: Scratch,
    app: App,
    registrar: Arc<Registrar>,
    /// Objects that have left the bucket, as load-ingester moves them.
    archived: Mutex<Vec<(String, Object)>>,
}

fn feed() -> Value {
    json!({"name": "agg", "relative_url": "/public/agg"})
}

impl World {
    async fn new() -> Self {
        Self::with(&[feed()], "", 64).await
    }

    async fn with(feeds: &[Value], hosts: &str, max_mb: usize) -> Self {
        Self::trusting(feeds, hosts, max_mb, None).await
    }

    async fn trusting(feeds: &[Value], hosts: &str, max_mb: usize, other: Option<&Dmap>) -> Self {
        let (cloud, scratch, dmap) = (Cloud::default(), Scratch::new().await, Dmap::start().await);
        {
            let mut state = cloud.state();
            state.buckets.versioned.insert(INCOMING.to_owned());
            state.secret = KEY.to_owned();
            state.dmap = Some(dmap.clone());
        }
        let answering = cloud.clone();
        let aws = http::config(http::client(move |request| answering.answer(request))).await;
        let heads = cloud.clone();
        let s3 = http::config(http::client(move |request: &HttpRequest| {
            let call = Call::of(request).unwrap();
            heads.state().buckets.answer(&call, request)
        }))
        .await;
        let registrar = Arc::new(Registrar::new(&scratch, &s3).await);
        cloud.state().registrar = Some(registrar.clone());
        let config = Config::from_lookup(|name| match name {
            "INCOMING_BUCKET" => Some(INCOMING.to_owned()),
            "LAKE_BUCKET" => Some(LAKE.to_owned()),
            "REGISTRAR_FUNCTION" => Some("registrar".to_owned()),
            "DMAP_BASE_URL" => Some(format!("https://{}/api/", dmap.host())),
            "DMAP_HOSTS" => Some(hosts.to_owned()),
            "DMAP_SECRET_ARN" => Some("arn:aws:secretsmanager:eu-west-1:000000000000:secret:dmap".to_owned()),
            "MAX_DATASET_MB" => Some(max_mb.to_string()),
            _ => None,
        });
        let roots = Dmap::roots([&dmap].into_iter().chain(other));
        let http = Http::with_roots(roots, Duration::from_millis(2)).unwrap();
        let app = App::new(config.unwrap(), &aws, http);
        let world = Self { cloud, dmap, scratch, app, registrar, archived: Mutex::default() };
        let tables = json!([{"prefix": FOLDER, "kind": "dmap"}]);
        world.ask(json!({"command": "tables_apply", "tables": tables, "feeds": feeds})).await;
        world
    }

    async fn ask(&self, command: Value) -> Value {
        self.registrar.ask(command).await
    }

    async fn tick(&self) -> Summary {
        self.tick_within(600).await
    }

    async fn tick_within(&self, seconds: u64) -> Summary {
        handle(&self.app, file("dmap-fetch-tick.json").to_string().into(), in_seconds(seconds)).await.unwrap()
    }

    /// The current objects, by the end of their keys.
    fn objects(&self) -> BTreeMap<String, Object> {
        let state = self.cloud.state();
        let objects = state.buckets.objects.iter().filter(|((bucket, _), _)| bucket == INCOMING);
        objects.map(|((_, key), object)| (key.strip_prefix(FOLDER).unwrap().to_owned(), object.clone())).collect()
    }

    fn body(&self, identifier: &str) -> Vec<u8> {
        self.objects()[&format!("{identifier}.csv.gz")].body.clone()
    }

    /// Every version that was ever put, also those that are archived.
    fn puts(&self) -> Vec<Object> {
        let archived: Vec<Object> = self.archived.lock().unwrap().iter().map(|(_, object)| object.clone()).collect();
        self.cloud.state().buckets.versions.values().flatten().cloned().chain(archived).collect()
    }

    /// Registers every object, and then takes it out of the bucket, as load-ingester does when it is archived.
    async fn ingest(&self) {
        let objects: Vec<(String, Object)> = {
            let state = self.cloud.state();
            let of_key = |((_, key), versions): (&(String, String), &Vec<Object>)| {
                versions.iter().map(|version| (key.clone(), version.clone())).collect::<Vec<_>>()
            };
            state.buckets.versions.iter().flat_map(of_key).collect()
        };
        for (key, object) in &objects {
            let described = json!({
                "key": s3_key::encode(key), "size": object.body.len(), "eTag": object.e_tag().trim_matches('"'),
                "versionId": object.version, "sequencer": "1",
            });
            let record = json!({
                "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "eu-west-1",
                "eventTime": "2026-11-20T12:00:00Z", "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": INCOMING}, "object": described},
            });
            self.ask(json!({"Records": [record]})).await;
        }
        let mut state = self.cloud.state();
        state.buckets.versions.clear();
        state.buckets.objects.retain(|(bucket, _), _| bucket != INCOMING);
        self.archived.lock().unwrap().extend(objects);
    }

    /// Versions that are recorded as fetched.
    async fn recorded(&self) -> Vec<String> {
        let sql = "select identifier || ' ' || to_char(last_updated, 'YYYY-MM-DD\"T\"HH24:MI:SS.US') \
            from cubic_dmap_datasets where fetched_at is not null order by identifier, last_updated";
        self.scratch.lines(sql).await
    }

    async fn last_updated(&self) -> String {
        let sql = "select to_char(last_updated, 'YYYY-MM-DD\"T\"HH24:MI:SS.US') from cubic_dmap_feeds";
        self.scratch.lines(sql).await.join(",")
    }

    fn quarantined(&self) -> Vec<Value> {
        let state = self.cloud.state();
        let objects = state.buckets.objects.iter().filter(|((bucket, _), _)| bucket == LAKE);
        objects
            .flat_map(|((_, key), object)| {
                assert!(key.starts_with("quarantine/dmap-fetch/"), "{key}");
                String::from_utf8(object.body.clone()).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .map(|line| serde_json::from_str(&line).unwrap())
            .collect()
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.dmap.state().requests)
    }
}

fn gz(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Gzip of more than this many bytes.
fn large(bytes: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut body = gz("a,b\n1,2\n");
    while body.len() <= bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        body.extend_from_slice(&state.to_le_bytes());
    }
    body
}

fn summary(of: &Summary) -> [u64; 5] {
    [of.feeds_failed, of.datasets_fetched, of.datasets_recorded, of.datasets_failed, of.datasets_left]
}

fn assert_equal_bytes(one: &[u8], other: &[u8]) {
    assert!(one == other, "{} and {} bytes", one.len(), other.len());
}

fn hides(secret: &str, shown: &impl Debug) {
    assert!(!format!("{shown:?}").contains(secret), "{shown:?}");
}

#[tokio::test]
async fn datasets_are_put_once_and_the_next_question_is_for_what_is_newer() {
    let world = World::new().await;
    world.dmap.publish("20261119", &at(1), &gz("day,taps\n2026-11-19,7\n"));
    world.dmap.publish("20261120", &at(2), &gz("day,taps\n2026-11-20,8\n"));
    assert_eq!(summary(&world.tick().await), [0, 2, 0, 0, 0]);
    assert_eq!(world.body("20261120"), gz("day,taps\n2026-11-20,8\n"));
    let metadata = &world.objects()["20261119.csv.gz"].metadata;
    assert_eq!(metadata["landfall-dataset"], "agg_sample/20261119");
    assert_eq!(metadata["landfall-last-updated"], "2026-11-20T12:00:00.000001Z");
    assert_eq!(world.recorded().await, [format!("20261119 {}", at(1)), format!("20261120 {}", at(2))]);
    assert_eq!(world.last_updated().await, at(2));
    let sha256: String = Sha256::digest(world.body("20261119")).iter().map(|byte| format!("{byte:02x}")).collect();
    let sql = "select sha256, s3_size, url, s3_key, start_date from cubic_dmap_datasets where identifier = '20261119'";
    let size = world.body("20261119").len();
    let url = format!("https://{}/files/20261119", world.dmap.host());
    assert_eq!(
        world.scratch.lines(sql).await,
        [format!("{sha256}|{size}|{url}|{FOLDER}20261119.csv.gz|2026-11-19")],
        "the query of the URL is kept nowhere"
    );
    let first = world.requests();
    assert_eq!(first[0], format!("/api/public/agg?apikey={KEY}"));
    assert_eq!(first.len(), 3);

    // Nothing is new, and what was named again is not downloaded.
    world.cloud.state().calls.clear();
    assert_eq!(summary(&world.tick().await), [0; 5]);
    let again = world.requests();
    assert_eq!(again, [format!("/api/public/agg?apikey={KEY}&last_updated=2026-11-19T12%3A00%3A00.000002")]);
    assert_eq!(world.cloud.state().calls, ["dmap_feeds", "dmap_unfetched", "dmap_answered"]);
    assert_eq!(world.puts().len(), 2);
}

#[tokio::test]
async fn a_dataset_that_was_updated_is_another_version_and_another_load() {
    let world = World::new().await;
    world.dmap.publish("20261119", &at(1), &gz("one"));
    world.tick().await;
    world.dmap.publish("20261119", &at(5), &gz("two"));
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
    assert_eq!((world.body("20261119"), world.puts().len()), (gz("two"), 2));
    world.ingest().await;
    // After the first version has left the bucket, too.
    world.dmap.publish("20261119", &at(6), &gz("three"));
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
    world.ingest().await;
    assert_eq!(world.scratch.lines("select count(*) from cubic_loads").await, ["3"]);
    assert_eq!(world.recorded().await.len(), 3);
}

#[tokio::test]
async fn a_dataset_of_the_same_microsecond_is_not_lost() {
    for is_exclusive in [false, true] {
        let world = World::new().await;
        world.dmap.state().is_exclusive = is_exclusive;
        world.dmap.publish("a", &at(1), &gz("a"));
        world.tick().await;
        world.dmap.publish("b", &at(1), &gz("b"));
        assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0], "{is_exclusive}");
        assert_eq!((world.recorded().await.len(), world.puts().len()), (2, 2));
    }
}

#[tokio::test]
async fn a_feed_that_fails_for_a_moment_is_asked_again_and_one_that_goes_on_hurts_no_other() {
    let other = json!({"name": "other", "relative_url": "/public/other"});
    let world = World::with(&[feed(), other], "", 64).await;
    world.dmap.publish("a", &at(1), &gz("a"));
    world.dmap.fail("/api/public/agg", [Fault::Status(503), Fault::BreakAfter(0), Fault::Status(429)]);
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
    world.dmap.publish("b", &at(2), &gz("b"));
    for fault in [Fault::Status(503), Fault::Status(404), Fault::Body(b"<html>".to_vec()), Fault::Body(b"{}".to_vec())]
    {
        world.dmap.fail("/api/public/agg", vec![fault.clone(); 4]);
        let all = world.tick().await;
        assert_eq!(all.feeds_failed, 1, "{fault:?}");
        world.dmap.fail("/api/public/agg", []);
    }
    assert_eq!(world.recorded().await.len(), 2, "the other feed brought it");
    let sql = "select name, last_updated is null, answered_at is null from cubic_dmap_feeds order by name";
    assert_eq!(world.scratch.lines(sql).await, ["agg|f|f", "other|f|f"]);
}

#[tokio::test]
async fn a_feed_that_takes_all_the_time_does_not_keep_the_others_waiting() {
    let other = json!({"name": "other", "relative_url": "/public/other"});
    let world = World::with(&[feed(), other], "", 64).await;
    world.dmap.publish("a", &at(1), &gz("a"));
    world.dmap.fail("/api/public/agg", vec![Fault::StallAfter(0); 10]);
    assert_eq!(summary(&world.tick_within(3).await), [0; 5]);
    assert_eq!(summary(&world.tick_within(3).await), [0, 1, 0, 0, 0], "the other one comes first");
}

#[tokio::test]
async fn a_download_that_breaks_goes_on_where_it_broke() {
    let world = World::new().await;
    // More than two parts of an upload.
    let body = large(18 << 20);
    world.dmap.publish("a", &at(1), &body);
    world.dmap.fail("/files/a", [Fault::BreakAfter(9 << 20), Fault::Status(503), Fault::BreakAfter(100)]);
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
    assert_equal_bytes(&world.body("a"), &body);
    let requests = world.requests();
    assert_eq!(requests.len(), 5, "{requests:?}");
    let ranges: Vec<&str> =
        requests.iter().filter_map(|request| request.split_once(" bytes=").map(|(_, first)| first)).collect();
    assert_eq!(ranges.len(), 3, "{requests:?}");
    let first = |range: &str| range.trim_end_matches('-').parse::<usize>().unwrap();
    assert!(
        first(ranges[0]) > 0 && first(ranges[0]) <= 9 << 20 && first(ranges[2]) == first(ranges[0]) + 100,
        "{ranges:?}"
    );
    let sha256: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(world.scratch.lines("select sha256 from cubic_dmap_datasets").await, [sha256]);
    assert_eq!(world.puts().len(), 1);
}

#[tokio::test]
async fn a_download_that_cannot_go_on_begins_anew() {
    for (knows_ranges, sends_e_tag) in [(false, true), (true, false), (false, false)] {
        let world = World::new().await;
        (world.dmap.state().knows_ranges, world.dmap.state().sends_e_tag) = (knows_ranges, sends_e_tag);
        let body = large(9 << 20);
        world.dmap.publish("a", &at(1), &body);
        world.dmap.fail("/files/a", [Fault::BreakAfter(17 << 19)]);
        assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0], "{knows_ranges} {sends_e_tag}");
        assert_equal_bytes(&world.body("a"), &body);
    }
}

/// The rest of a download is that of another version, which no `If-Range` may take for the same.
#[tokio::test]
async fn two_versions_are_never_mixed() {
    let world = World::new().await;
    world.dmap.publish("a", &at(1), &large(9 << 20));
    world.dmap.fail("/files/a", [Fault::BreakAfter(17 << 19), Fault::Status(503)]);
    let other = large(10 << 20);
    let (dmap, replacing) = (world.dmap.clone(), other.clone());
    let replaced = tokio::spawn(async move {
        while !dmap.state().requests.iter().any(|request| request.contains("bytes=")) {
            tokio::task::yield_now().await;
        }
        dmap.publish("a", &at(2), &replacing);
    });
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
    replaced.await.unwrap();
    assert_equal_bytes(&world.body("a"), &other);
}

#[tokio::test]
async fn what_is_not_gzip_or_too_large_is_not_put_and_is_tried_again() {
    let world = World::with(&[feed()], "", 1).await;
    world.dmap.publish("page", &at(1), b"<html>try again later</html>");
    world.dmap.publish("empty", &at(2), b"");
    world.dmap.publish("large", &at(3), &large(1 << 20));
    world.dmap.publish("good", &at(4), &gz("good"));
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 3, 0]);
    assert_eq!(world.objects().keys().collect::<Vec<_>>(), ["good.csv.gz"]);
    assert_eq!(world.last_updated().await, "", "nothing is forgotten");
    for name in ["page", "empty", "large"] {
        let body = gz(name);
        world.dmap.state().published.get_mut(name).unwrap().body = body;
    }
    assert_eq!(summary(&world.tick().await), [0, 3, 0, 0, 0]);
    assert_eq!((world.recorded().await.len(), world.last_updated().await), (4, at(4)));
    assert_eq!(world.puts().len(), 4);
}

#[tokio::test]
async fn a_bad_result_is_quarantined_and_hurts_no_other() {
    let world = World::new().await;
    world.dmap.publish("good", &at(3), &gz("good"));
    let good = json!({"id": "agg_sample", "dataset_id": "x", "last_updated": at(9), "url": "https://localhost/x?signature=s3cret"});
    let but = |member: &str, value: Value| {
        let mut odd = good.clone();
        odd[member] = value;
        odd
    };
    world.dmap.state().odd = vec![
        json!("no object"),
        but("id", json!("..")),
        but("dataset_id", json!("../../../x")),
        but("last_updated", json!("soon")),
        but("url", json!("http://localhost/x")),
        but("url", Value::Null),
    ];
    let all = world.tick().await;
    assert_eq!((summary(&all), all.results_quarantined), ([0, 1, 0, 0, 0], 6));
    assert_eq!(world.objects().len(), 1);
    let mut reasons: Vec<String> =
        world.quarantined().iter().map(|one| one["reason"].as_str().unwrap().to_owned()).collect();
    reasons.sort();
    let expected = ["invalid_id", "invalid_id", "invalid_result", "invalid_result", "invalid_time", "invalid_url"];
    assert_eq!(reasons, expected);
    assert_eq!(world.last_updated().await, at(3), "the answer is done with");
    // The same answer gives the same objects.
    let before = world.quarantined().len();
    world.tick().await;
    assert_eq!(world.quarantined().len(), before);
}

#[tokio::test]
async fn only_declared_hosts_are_connected_to_also_by_redirects() {
    let other = Dmap::start().await;
    for (is_declared, expected) in [(false, [0, 0, 0, 1, 0]), (true, [0, 1, 0, 0, 0])] {
        let hosts = if is_declared { other.host() } else { String::new() };
        let world = World::trusting(&[feed()], &hosts, 64, Some(&other)).await;
        world.dmap.publish("a", &at(1), &gz("a"));
        other.publish("a", &at(1), &gz("elsewhere"));
        world.dmap.fail("/files/a", [Fault::Redirect(format!("https://{}/files/a?signature=s3cret", other.host()))]);
        assert_eq!(summary(&world.tick().await), expected, "{is_declared}");
        assert_eq!(other.state().requests.len(), usize::from(is_declared));
        assert!(other.state().requests.iter().all(|request| !request.contains(KEY)), "the key stays where it belongs");
        if is_declared {
            assert_eq!(world.body("a"), gz("elsewhere"));
        }
    }
    let world = World::trusting(&[feed()], "", 64, Some(&other)).await;
    other.state().requests.clear();
    for to in [
        "http://localhost/files/a".to_owned(),
        "https://169.254.169.254/latest/meta-data/".to_owned(),
        format!("https://127.0.0.1:{}/files/a", other.host().split_once(':').unwrap().1),
        format!("https://me:secret@{}/files/a", world.dmap.host()),
        "https://localhost:1/".to_owned(),
        "ftp://localhost/".to_owned(),
        "/files/a".to_owned(),
    ] {
        world.dmap.publish("a", &at(1), &gz("a"));
        world.dmap.fail("/files/a", vec![Fault::Redirect(to.clone()); 20]);
        world.dmap.fail("/api/public/agg", [Fault::Redirect(to.clone())]);
        let all = world.tick().await;
        assert!(all.feeds_failed == 1 && all.datasets_fetched == 0, "{to}: {all:?}");
        assert_eq!(summary(&world.tick().await), [0, 0, 0, 1, 0], "{to}");
    }
    assert!(other.state().requests.is_empty() && world.objects().is_empty());
}

#[tokio::test]
async fn a_redirect_within_the_host_is_followed() {
    let world = World::new().await;
    world.dmap.publish("a", &at(1), &gz("a"));
    world.dmap.fail("/files/moved", [Fault::Redirect("a?signature=s3cret".to_owned())]);
    world.dmap.state().odd = vec![json!({"id": "agg_sample", "dataset_id": "b", "last_updated": at(2),
            "url": format!("https://{}/files/moved", world.dmap.host())})];
    assert_eq!(summary(&world.tick().await), [0, 2, 0, 0, 0]);
    assert_eq!(world.body("b"), gz("a"));
}

#[tokio::test]
async fn a_key_that_is_refused_is_read_again_and_is_shown_nowhere() {
    let public = json!({"name": "agg", "relative_url": "/public/agg", "api_key": "public"});
    let world = World::with(&[public], "", 64).await;
    world.cloud.state().secret = json!({"public": KEY, "controlled": "another"}).to_string();
    world.dmap.publish("a", &at(1), &gz("a"));
    world.tick().await;
    world.tick().await;
    assert_eq!(world.cloud.state().secrets_read, 1, "it is kept");
    // The key is rotated.
    world.dmap.state().key = "second-k3y".to_owned();
    let refused = world.tick().await;
    assert_eq!((refused.feeds_failed, world.cloud.state().secrets_read), (1, 2));
    world.cloud.state().secret = json!({"public": "second-k3y"}).to_string();
    world.dmap.publish("b", &at(2), &gz("b"));
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
    hides("k3y", &world.app);
    hides("k3y", &refused);
    world.cloud.state().secret = json!({"other": "x"}).to_string();
    world.dmap.state().key = "third-k3y".to_owned();
    assert_eq!(world.tick().await.feeds_failed, 1);
}

/// A dataset that takes all the time of an invocation does not keep the others waiting.
#[tokio::test]
async fn what_there_was_no_time_for_is_fetched_by_the_next_invocation() {
    let world = World::new().await;
    world.dmap.publish("a", &at(1), &gz("slow"));
    world.dmap.publish("b", &at(2), &gz("b"));
    world.dmap.fail("/files/a", vec![Fault::StallAfter(3); 10]);
    let first = world.tick_within(3).await;
    assert_eq!(summary(&first), [0, 0, 0, 0, 2]);
    assert_eq!(summary(&world.tick_within(3).await), [0, 1, 0, 0, 1], "the other one comes first");
    assert_eq!(world.last_updated().await, "");
    world.dmap.fail("/files/a", []);
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
    assert_eq!((world.last_updated().await, world.puts().len()), (at(2), 2));
}

#[tokio::test]
async fn what_somebody_else_put_under_the_key_is_replaced_and_kept_as_a_version() {
    let world = World::new().await;
    let place = (INCOMING.to_owned(), format!("{FOLDER}a.csv.gz"));
    world.cloud.state().buckets.write(place, BTreeMap::new(), b"foreign".to_vec());
    world.dmap.publish("a", &at(1), &large(9 << 20));
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
    assert_eq!(world.puts().len(), 2);
    // Another write is in progress while it is put. The next invocation puts it.
    world.dmap.publish("b", &at(2), &gz("b"));
    world.cloud.state().buckets.conflicts = 100;
    assert_eq!(summary(&world.tick().await), [0, 0, 0, 1, 0]);
    world.cloud.state().buckets.conflicts = 0;
    assert_eq!(summary(&world.tick().await), [0, 1, 0, 0, 0]);
}

#[tokio::test]
async fn an_event_that_is_no_tick_is_refused_and_an_inactive_feed_is_not_asked() {
    let inactive = json!({"name": "agg", "relative_url": "/public/agg", "active": false});
    let world = World::with(&[inactive], "", 64).await;
    let error = handle(&world.app, r#"{"Records": []}"#.into(), in_seconds(60)).await.unwrap_err();
    assert!(error.to_string().contains("events/dmap-fetch-tick.json"), "{error}");
    assert_eq!((world.tick().await.feeds, world.requests()), (0, vec![]));
}

/// However the function dies, each version is put once and recorded, also if its object is gone from the bucket before the
/// next invocation.
#[tokio::test]
async fn whenever_the_function_dies_each_version_is_put_once_and_recorded() {
    let world = World::new().await;
    let mut versions = 0;
    for ingests in [false, true] {
        for dies_after in [false, true] {
            for requests in 0..14 {
                versions += 1;
                world.dmap.publish("a", &at(versions), &gz(&format!("small {versions}")));
                world.cloud.state().dies_after = dies_after;
                world.dmap.state().left = Some(requests);
                drop(timeout(Duration::from_millis(150), world.tick()).await);
                world.dmap.state().left = None;
                if ingests {
                    world.ingest().await;
                }
                let summary = world.tick().await;
                assert_eq!((summary.feeds_failed, summary.datasets_failed), (0, 0), "{requests} {summary:?}");
                assert_eq!(world.last_updated().await, at(versions));
                let puts = world.puts();
                let of_version = puts.iter().filter(|put| put.body == gz(&format!("small {versions}"))).count();
                assert_eq!(of_version, 1, "after {requests} requests, dies after {dies_after}, ingested {ingests}");
            }
        }
    }
    let recorded = i64::try_from(world.recorded().await.len()).unwrap();
    assert_eq!((recorded, i64::try_from(world.puts().len()).unwrap()), (versions, versions));
}

#[tokio::test]
async fn feeds_are_planned_and_applied_with_the_tables() {
    let world = World::new().await;
    let plan = |feeds: Value| json!({"command": "tables_plan", "tables": [], "feeds": feeds});
    let same = world.ask(plan(json!([feed()]))).await;
    assert_eq!(same["feeds"], json!({"changes": [], "unchanged": 1, "undeclared": []}));
    let changed = json!([
        {"name": "agg", "relative_url": "/public/other", "active": false},
        {"name": "other", "relative_url": "/public/agg", "api_key": "public"},
    ]);
    let planned = world.ask(plan(changed.clone())).await;
    let expected = json!([
        {"name": "agg", "create": false, "fields": [
            {"field": "relative_url", "from": "/public/agg", "to": "/public/other"},
            {"field": "active", "from": "true", "to": "false"}]},
        {"name": "other", "create": true, "fields": [
            {"field": "relative_url", "from": null, "to": "/public/agg"},
            {"field": "api_key", "from": null, "to": "public"},
            {"field": "active", "from": null, "to": "true"}]},
    ]);
    assert_eq!(planned["feeds"]["changes"], expected);
    world.ask(json!({"command": "tables_apply", "tables": [], "feeds": changed})).await;
    let listed = world.ask(json!({"command": "dmap_feeds"})).await;
    let urls: Vec<&str> =
        listed["feeds"].as_array().unwrap().iter().map(|feed| feed["relative_url"].as_str().unwrap()).collect();
    assert_eq!(urls, ["/public/other", "/public/agg"]);
    assert_eq!(world.ask(plan(json!([]))).await["feeds"]["undeclared"], json!(["agg", "other"]));
    for (feeds, says) in [
        (json!([feed(), feed()]), "declared twice"),
        (json!([{"name": "x", "relative_url": "https://x.example/"}]), "relative_url"),
        (json!([{"name": "../x", "relative_url": "/x"}]), "letters, digits"),
    ] {
        let refusal = world.registrar.refuses(plan(feeds)).await;
        assert!(refusal.contains(says), "{refusal}");
    }
    let refusal = world.registrar.refuses(json!({"command": "dmap_answered", "feed": "nobody"})).await;
    assert_eq!(refusal, "feed nobody does not exist; there are agg, other");
}

#[test]
fn every_statement_of_its_role_is_used() {
    datasets_are_put_once_and_the_next_question_is_for_what_is_newer();
    a_download_that_cannot_go_on_begins_anew();
    a_bad_result_is_quarantined_and_hurts_no_other();
    roles::dmap().assert_everything_is_used();
}
