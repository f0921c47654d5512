//! Tests of kafka-roller's handler with sample events and at boundaries, over an S3 in memory.

use std::collections::BTreeMap;

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures_util::future::LocalBoxFuture;
use kafka_roller::{
    app::{App, Room},
    config::Config,
    error::RollError,
    handler::{Response, Tally, handle, run},
    lineage::{Lineage, Parents},
};
use kit::http;
use rolling::{discarded::Replayed, rules::TABLES};
use serde_json::{Value, json};
use shared::{
    layout::Segment,
    quarantine::{QuarantineRecord, base64},
    rolled::{Reason, RolledFile},
};

use crate::{
    events::{file, tick},
    kafka_world::{Fate, Object, Sim, World},
};

/// When the first record of the sample events arrived.
pub(crate) const ARRIVED_MS: i64 = 1_795_183_906_123;

struct Stage {
    world: World,
    app: App<Sim>,
}

impl Stage {
    fn new(extra: &[(&str, &str)]) -> Self {
        let world = World::default();
        Self { app: app(&world, extra), world }
    }

    /// Goes on with other settings.
    fn redeploy(&mut self, extra: &[(&str, &str)]) {
        self.app = app(&self.world, extra);
    }

    /// Somebody applies rules of tables.
    fn table_rules(&self, tables: &Value) {
        let body = json!({ "tables": tables }).to_string();
        self.world.put(&format!("lake/{TABLES}"), body.into(), &[]);
    }

    async fn handle(&self, event: &Value) -> Response {
        handle(&self.app, Bytes::from(event.to_string()), u64::MAX).await.unwrap()
    }

    /// Handles a batch and asserts that nothing failed.
    async fn land(&self, event: &Value) {
        assert_eq!(self.handle(event).await, Response::default());
    }

    async fn tick(&self, ms: i64) {
        self.land(&tick(ms)).await;
    }

    /// Handles an event in an invocation that dies after so many calls, while every call takes as long as any other.
    async fn handle_until(&self, event: &Value, calls: usize) {
        self.world.take_turns(1_000, |_| Fate::Done);
        let time = async {
            // A call waits before it is executed, and before its response.
            for _ in 0..2 * calls {
                self.world.turn();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = handle(&self.app, Bytes::from(event.to_string()), u64::MAX) => {}
            () = time => {}
        }
        self.world.run_freely();
    }

    /// Table → its files in order, with their metadata and lines.
    fn files(&self) -> BTreeMap<String, Vec<(RolledFile, Vec<Value>)>> {
        let mut files: BTreeMap<String, Vec<(RolledFile, Vec<Value>)>> = BTreeMap::new();
        for (key, object) in self.world.objects("incoming/cubic/kafka/") {
            let about = RolledFile::of_metadata(|name| object.metadata.get(name).map(String::as_str)).unwrap();
            let name = format!("incoming/cubic/kafka/{}/{}.json", about.window.table, about.id());
            assert_eq!(key.trim_end_matches(".gz"), name);
            files.entry(about.window.table.to_string()).or_default().push((about, lines(&key, &object)));
        }
        files.values_mut().for_each(|files| files.sort_by_key(|(about, _)| about.first));
        files
    }

    fn counts(&self, table: &str) -> Vec<(usize, Reason)> {
        self.files().remove(table).unwrap_or_default().iter().map(|(about, _)| (about.count, about.reason)).collect()
    }

    /// Number of records in the quarantine.
    fn quarantined(&self) -> usize {
        let objects = self.world.objects("lake/quarantine/kafka-roller/");
        objects.iter().flat_map(|(_, object)| std::str::from_utf8(&object.body).unwrap().lines()).count()
    }

    /// Number of calls by name since this was last called.
    fn calls(&self) -> BTreeMap<String, usize> {
        let mut calls = BTreeMap::new();
        for call in self.world.take_calls() {
            *calls.entry(call.split(' ').next().unwrap().to_owned()).or_default() += 1;
        }
        calls
    }
}

/// The function with these settings, and others where they are required.
fn app(world: &World, extra: &[(&str, &str)]) -> App<Sim> {
    let set = [("INCOMING_BUCKET", "incoming"), ("LAKE_BUCKET", "lake"), ("TABLE_POINTER", "/topic")];
    let lookup = |name| extra.iter().chain(&set).find(|(other, _)| *other == name).map(|(_, value)| value.to_string());
    let mut app = App::over(Config::from_lookup(lookup).unwrap(), world.bucket("lake"), world.bucket("incoming"));
    app.tidy_minutes = 1;
    app.journal_ms = i64::MAX; // the records of the tests do not grow old
    app
}

fn calls(expected: &[(&str, usize)]) -> BTreeMap<String, usize> {
    expected.iter().map(|(call, times)| ((*call).to_owned(), *times)).collect()
}

fn lines(key: &str, object: &Object) -> Vec<Value> {
    let text = if key.ends_with(".gz") {
        std::io::read_to_string(GzDecoder::new(&*object.body)).unwrap()
    } else {
        String::from_utf8(object.body.to_vec()).unwrap()
    };
    assert!(text.ends_with('\n'));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Records of one topic with these sequence numbers, each of which arrived a millisecond after the one before.
pub(crate) fn batch(stream: &str, sequences: std::ops::Range<u64>) -> Value {
    let record = |sequence: u64| {
        let seconds =
            format!("{}.{:03}", ARRIVED_MS / 1_000 + i64::try_from(sequence / 1_000).unwrap(), sequence % 1_000);
        json!({
            "kinesis": {
                "partitionKey": "k",
                "sequenceNumber": sequence.to_string(),
                "data": base64(format!("{{\"topic\":\"t\",\"n\":{sequence}}}").as_bytes()),
                "approximateArrivalTimestamp": serde_json::from_str::<Value>(&seconds).unwrap(),
            },
            "eventID": format!("shardId-0:{sequence}"),
            "eventSourceARN": format!("arn:aws:kinesis:eu-west-1:123456789012:stream/{stream}"),
        })
    };
    json!({"Records": sequences.map(record).collect::<Vec<_>>()})
}

#[tokio::test]
async fn a_batch_waits_in_its_window_until_it_is_an_hour_old() {
    let stage = Stage::new(&[]);
    stage.land(&file("kafka-roller-batch.json")).await;
    assert_eq!(stage.files(), BTreeMap::new());
    stage.tick(ARRIVED_MS + 3_599_999).await;
    assert_eq!(stage.files(), BTreeMap::new());
    stage.land(&file("kafka-roller-tick.json")).await;
    assert_eq!(stage.files(), BTreeMap::new(), "the tick of 15:11:46 is 123 ms early");
    stage.tick(ARRIVED_MS + 3_600_000).await;
    let files = stage.files();
    let [(about, lines)] = files["sample"].as_slice() else { panic!("{files:?}") };
    assert_eq!((about.count, about.reason, about.oldest_ms), (6, Reason::Age, ARRIVED_MS));
    assert_eq!(lines.iter().map(|line| line["offset"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(about.first.sequence_number(), "49590338271490256608559692538361571095921575989136588898");
}

#[tokio::test]
async fn a_single_record_and_then_silence_is_a_file() {
    let stage = Stage::new(&[]);
    stage.land(&batch("s", 1..2)).await;
    stage.tick(ARRIVED_MS + 2 * 3_600_000).await;
    assert_eq!(stage.counts("t"), [(1, Reason::Age)]);
    stage.calls();
    stage.tick(ARRIVED_MS + 3 * 3_600_000).await;
    assert_eq!(stage.calls(), calls(&[("list", 3), ("get", 2)]), "a tick with nothing to do only looks");
}

#[tokio::test]
async fn a_batch_that_comes_again_in_other_pieces_lands_once() {
    let stage = Stage::new(&[]);
    stage.land(&file("kafka-roller-batch.json")).await;
    stage.land(&file("kafka-roller-batch.json")).await;
    stage.calls();
    stage.land(&file("kafka-roller-redelivered.json")).await;
    assert_eq!(stage.calls(), calls(&[("get", 1), ("create", 1), ("replace", 1)]));
    stage.tick(ARRIVED_MS + 3_600_000).await;
    stage.land(&file("kafka-roller-redelivered.json")).await;
    stage.tick(ARRIVED_MS + 9_600_000).await;
    let offsets: Vec<u64> = stage.files()["sample"]
        .iter()
        .flat_map(|(_, lines)| lines)
        .map(|line| line["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(stage.counts("sample"), [(9, Reason::Age)]);
}

#[tokio::test]
async fn the_same_records_give_the_same_file() {
    let stage = || async {
        let stage = Stage::new(&[("ROLL_COMPRESSION", "gzip")]);
        stage.land(&file("kafka-roller-topics.json")).await;
        stage.tick(ARRIVED_MS + 4_000_000).await;
        stage.world.objects("incoming/").into_iter().map(|(key, object)| (key, object.body)).collect::<Vec<_>>()
    };
    let (once, again) = (stage().await, stage().await);
    assert_eq!(once, again);
    assert_eq!(once.len(), 3);
    assert!(once.iter().all(|(key, _)| key.ends_with(".json.gz")));
}

#[tokio::test]
async fn topics_have_windows_of_their_own_in_one_segment() {
    let stage = Stage::new(&[]);
    stage.land(&file("kafka-roller-topics.json")).await;
    assert_eq!(
        stage.calls(),
        calls(&[("get", 2), ("list", 1), ("create", 2)]),
        "a shard without a state may have an old one"
    );
    stage.tick(ARRIVED_MS + 4_000_000).await;
    let counts = ["fares", "riders", "sample"].map(|table| stage.counts(table));
    assert_eq!(counts, [vec![(2, Reason::Age)], vec![(2, Reason::Age)], vec![(4, Reason::Age)]]);
}

#[tokio::test]
async fn an_aggregate_of_another_encoder_is_its_records() {
    let stage = Stage::new(&[]);
    stage.land(&file("kafka-roller-aggregated.json")).await;
    stage.tick(ARRIVED_MS + 4_000_000).await;
    let files = stage.files();
    let offsets = |table: &str| -> Vec<u64> {
        files[table].iter().flat_map(|(_, lines)| lines).map(|line| line["offset"].as_u64().unwrap()).collect()
    };
    assert_eq!((offsets("sample"), offsets("riders")), (vec![0, 10, 12, 14, 2], vec![11, 13]));
}

#[tokio::test]
async fn a_boundary_inside_an_aggregate_loses_and_repeats_nothing() {
    let stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    for _ in 0..2 {
        stage.land(&file("kafka-roller-aggregated.json")).await;
    }
    stage.tick(ARRIVED_MS + 4_000_000).await;
    let offsets: Vec<Vec<u64>> = stage.files()["sample"]
        .iter()
        .map(|(_, lines)| lines.iter().map(|line| line["offset"].as_u64().unwrap()).collect())
        .collect();
    assert_eq!(offsets, [vec![0, 10], vec![12, 14], vec![2]]);
}

#[tokio::test]
async fn poison_is_quarantined_with_shard_and_sequence_number_and_its_neighbours_land_in_order() {
    let stage = Stage::new(&[]);
    stage.land(&file("kafka-roller-poison.json")).await;
    stage.tick(ARRIVED_MS + 4_000_000).await;
    let files = stage.files();
    let (_, lines) = &files["sample"][0];
    assert_eq!(lines.iter().map(|line| line["offset"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2, 4]);
    let objects = stage.world.objects("lake/quarantine/kafka-roller/2026/11/20/");
    let [(_, object)] = objects.as_slice() else { panic!("{objects:?}") };
    let records: Vec<QuarantineRecord> =
        std::str::from_utf8(&object.body).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.iter().map(|record| &*record.reason).collect::<Vec<_>>(), ["invalid_json", "invalid_table"]);
    assert_eq!(records[0].body().unwrap(), br#"{"topic":"sample","offset":1"#);
    let attributes: Value = serde_json::from_str(records[0].attributes.get()).unwrap();
    assert_eq!(attributes["shard"], "shardId-000000000006");
    assert_eq!(
        attributes["sequence_number"],
        file("kafka-roller-poison.json")["Records"][1]["kinesis"]["sequenceNumber"]
    );
}

#[tokio::test]
async fn poison_that_cannot_be_quarantined_is_kept_and_quarantined_later() {
    let stage = Stage::new(&[]);
    stage.world.fail(|call| if call.contains("quarantine") { Fate::Refused } else { Fate::Done });
    stage.land(&file("kafka-roller-poison.json")).await;
    assert_eq!(stage.quarantined(), 0);
    stage.world.run_freely();
    stage.tick(ARRIVED_MS + 4_000_000).await;
    stage.land(&file("kafka-roller-poison.json")).await;
    stage.tick(ARRIVED_MS + 8_000_000).await;
    assert_eq!((stage.counts("sample"), stage.quarantined()), (vec![(3, Reason::Age)], 2));
}

#[tokio::test]
async fn a_batch_is_staged_as_a_whole_or_comes_again_as_a_whole() {
    let first = file("kafka-roller-topics.json")["Records"][0]["kinesis"]["sequenceNumber"].clone();
    for fails in ["get lake/staging/", "list lake/staging/", "create lake/staging/", "state.json"] {
        for fate in [Fate::Refused, Fate::AnswerLost, Fate::Raced] {
            let stage = Stage::new(&[]);
            stage.world.fail(move |call| if call.contains(fails) { fate } else { Fate::Done });
            let response = stage.handle(&file("kafka-roller-topics.json")).await;
            assert_eq!(json!(response), json!({"batchItemFailures": [{"itemIdentifier": first}]}), "{fails} {fate:?}");
            stage.world.run_freely();
            stage.land(&file("kafka-roller-topics.json")).await;
            stage.tick(ARRIVED_MS + 4_000_000).await;
            let counts = ["fares", "riders", "sample"].map(|table| stage.counts(table));
            assert_eq!(counts, [vec![(2, Reason::Age)], vec![(2, Reason::Age)], vec![(4, Reason::Age)]]);
        }
    }
}

#[tokio::test]
async fn the_ten_thousandth_record_closes_a_file() {
    let stage = Stage::new(&[]);
    stage.land(&batch("s", 1..10_000)).await;
    assert_eq!(stage.counts("t"), []);
    stage.calls();
    stage.land(&batch("s", 10_000..10_001)).await;
    assert_eq!(stage.counts("t"), [(10_000, Reason::Records)]);
    // The state, what the segment before holds and its records; the segment, the file and what was staged; the state, before and after
    // the file.
    assert_eq!(stage.calls(), calls(&[("get", 3), ("create", 3), ("replace", 2), ("delete", 1)]));
    assert_eq!(stage.world.objects("lake/staging/").len(), 1, "only the state is left");
}

#[tokio::test]
async fn what_is_more_than_a_file_waits_for_the_next() {
    for (first, second, files) in [
        (1..10_002, 10_002..10_003, vec![(10_000, Reason::Records), (2, Reason::Age)]),
        (1..10_000, 10_000..20_000, vec![(10_000, Reason::Records), (9_999, Reason::Age)]),
        (1..10_001, 10_001..20_001, vec![(10_000, Reason::Records), (10_000, Reason::Records)]),
    ] {
        let stage = Stage::new(&[]);
        stage.land(&batch("s", first)).await;
        stage.land(&batch("s", second.clone())).await;
        stage.tick(ARRIVED_MS + 2 * 3_600_000).await;
        assert_eq!(stage.counts("t"), files);
        let numbers: Vec<u64> =
            stage.files()["t"].iter().flat_map(|(_, lines)| lines).map(|line| line["n"].as_u64().unwrap()).collect();
        assert_eq!(numbers, (1..second.end).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_file_closes_before_it_would_be_too_large_and_is_uploaded_in_parts() {
    let mut stage = Stage::new(&[("ROLL_MAX_BYTES", "1024")]);
    stage.app.part_bytes = 300;
    stage.land(&batch("s", 1..120)).await;
    stage.tick(ARRIVED_MS + 2 * 3_600_000).await;
    let files = stage.files();
    let sizes: Vec<usize> = stage
        .world
        .objects("incoming/")
        .iter()
        .map(|(_, object)| object.body.len())
        .filter(|size| *size > 1_000)
        .collect();
    assert_eq!(sizes.len(), files["t"].iter().filter(|(about, _)| about.reason == Reason::Bytes).count());
    assert!(sizes.iter().all(|size| *size <= 1_024) && sizes.len() >= 2, "{sizes:?}");
    assert_eq!(files["t"].iter().map(|(about, _)| about.count).sum::<usize>(), 119);
    assert!(stage.calls()["part"] > 6);
}

/// Four shards with a file each that is uploaded in many parts, of which a few fit into the room.
async fn four_large_files() -> Stage {
    let mut stage = Stage::new(&[]);
    (stage.app.part_bytes, stage.app.room) = (100, Room::of(1_000));
    for stream in ["s", "t", "u", "v"] {
        stage.land(&batch(stream, 1..200)).await;
    }
    stage.calls();
    stage
}

#[tokio::test]
async fn large_files_of_many_shards_are_finished_although_each_tick_runs_out_of_time() {
    let due = ARRIVED_MS + 2 * 3_600_000;
    let stage = four_large_files().await;
    stage.tick(due).await;
    let all: usize = stage.calls().values().sum();
    let stage = four_large_files().await;
    for _ in 0..4 {
        stage.handle_until(&tick(due), all * 6 / 10).await;
    }
    assert_eq!(stage.counts("t"), [(199, Reason::Age); 4]);
}

/// Streams whose files are larger than the room, and others with small ones.
async fn large_and_small(large: &[&str], small: &[&str]) -> Stage {
    let mut stage = Stage::new(&[]);
    (stage.app.part_bytes, stage.app.room) = (10, Room::of(1_000));
    for (streams, records) in [(large, 1..200), (small, 1..5)] {
        for stream in streams {
            stage.land(&batch(stream, records.clone())).await;
        }
    }
    stage.calls();
    stage
}

#[tokio::test]
async fn large_files_that_never_fit_into_a_tick_hold_up_no_small_one() {
    let due = ARRIVED_MS + 2 * 3_600_000;
    let stage = large_and_small(&["s"], &[]).await;
    stage.tick(due).await;
    let alone: usize = stage.calls().values().sum();
    // Whichever shard is first in all ticks.
    for minute in 0..6 {
        let stage = large_and_small(&["s"], &["t", "u", "v", "w", "x"]).await;
        for _ in 0..30 {
            stage.handle_until(&tick(due + minute * 60_000), alone * 9 / 10).await;
        }
        assert_eq!(stage.counts("t"), [(4, Reason::Age); 5]);
    }
    // So many that they are all that is worked on, until another shard is first.
    let stage = large_and_small(&["s", "t", "u", "v"], &["w", "x"]).await;
    for minute in 0..30 {
        stage.handle_until(&tick(due + minute * 60_000), alone * 9 / 10).await;
    }
    assert_eq!(stage.counts("t"), [(4, Reason::Age); 2]);
}

#[tokio::test]
async fn a_segment_that_somebody_deleted_leaves_a_gap_that_shows() {
    let stage = Stage::new(&[]);
    for sequences in [1..11, 11..21, 21..31] {
        stage.land(&batch("s", sequences)).await;
    }
    let (second, _) = stage.world.objects("lake/staging/").remove(1);
    stage.world.remove(&second);
    stage.tick(ARRIVED_MS + 2 * 3_600_000).await;
    assert_eq!(stage.counts("t"), [(10, Reason::Gap), (10, Reason::Age)]);
    let files = stage.files();
    assert!(files["t"][1].0.after > files["t"][0].0.last, "the next file says after what it begins");
}

#[tokio::test]
async fn the_last_segment_is_missed_too_and_so_are_all() {
    for removed in [vec![2], vec![0], vec![0, 1, 2]] {
        let stage = Stage::new(&[]);
        for sequences in [1..11, 11..21, 21..31] {
            stage.land(&batch("s", sequences)).await;
        }
        let staged = stage.world.objects("lake/staging/");
        removed.iter().for_each(|index: &usize| stage.world.remove(&staged[*index].0));
        stage.tick(ARRIVED_MS + 2 * 3_600_000).await;
        stage.land(&batch("s", 31..41)).await;
        stage.tick(ARRIVED_MS + 4 * 3_600_000).await;
        let files = stage.files();
        assert_eq!(files["t"].iter().map(|(about, _)| about.count).sum::<usize>(), 40 - 10 * removed.len());
        let ends = files["t"].iter().map(|(about, _)| about.last);
        let before = [shared::position::Position::START].into_iter().chain(ends);
        let gaps = files["t"].iter().zip(before).filter(|((about, _), before)| about.after != *before).count();
        assert_eq!(gaps, 1, "{removed:?}: {files:?}");
    }
}

#[tokio::test]
async fn without_its_state_a_shard_stands_still_and_says_what_to_do() {
    let stage = Stage::new(&[]);
    stage.land(&batch("s", 1..11)).await;
    stage.land(&batch("s", 11..21)).await;
    stage.world.remove("lake/staging/s/shardId-0/state.json");
    let response = stage.handle(&batch("s", 21..31)).await;
    assert_eq!(json!(response), json!({"batchItemFailures": [{"itemIdentifier": "21"}]}));
    let tick = Bytes::from(tick(ARRIVED_MS + 4 * 3_600_000).to_string());
    let error = handle(&stage.app, tick, u64::MAX).await.unwrap_err().to_string();
    assert!(error.contains("staging/s/shardId-0/state.json is gone"), "{error}");
    assert_eq!(stage.files(), BTreeMap::new());
}

#[tokio::test]
async fn another_stream_with_the_same_name_is_refused_and_so_is_one_that_was_made_anew() {
    let stage = Stage::new(&[]);
    stage.land(&batch("s", 100..110)).await;
    let arn = "arn:aws:kinesis:eu-west-1:123456789012:stream/s";
    let other = batch("s", 200..210).to_string().replace(arn, "arn:aws:kinesis:eu-west-1:999999999999:stream/s");
    let error = handle(&stage.app, other.into(), u64::MAX).await.unwrap_err().to_string();
    assert!(error.starts_with("the records are of arn:aws:kinesis:eu-west-1:999999999999:stream/s, but"), "{error}");
    let mut anew = batch("s", 1..3);
    for record in anew["Records"].as_array_mut().unwrap() {
        record["kinesis"]["approximateArrivalTimestamp"] = json!(ARRIVED_MS / 1_000 + 600);
    }
    let error = handle(&stage.app, anew.to_string().into(), u64::MAX).await.unwrap_err().to_string();
    assert!(error.contains("the stream was made anew"), "{error}");
    stage.land(&batch("s", 105..112)).await;
    stage.tick(ARRIVED_MS + 4_000_000).await;
    assert_eq!(stage.counts("t"), [(12, Reason::Age)]);
}

#[tokio::test]
async fn an_object_that_is_not_ours_under_a_files_name_is_not_overwritten() {
    let stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    stage.land(&batch("s", 1..3)).await;
    let (key, _) = stage.world.objects("incoming/").remove(0);
    let stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    stage.world.place(&key, b"something else");
    stage.land(&batch("s", 1..3)).await;
    assert_eq!(&*stage.world.objects("incoming/")[0].1.body, b"something else");
    assert_eq!(stage.world.objects("lake/staging/").len(), 2, "the records wait");
    let tick = Bytes::from(tick(ARRIVED_MS + 4 * 3_600_000).to_string());
    let error = handle(&stage.app, tick, u64::MAX).await.unwrap_err().to_string();
    assert!(error.starts_with("1 windows could not be rolled"), "{error}");
    assert!(error.contains("its metadata do not say which records it holds"), "{error}");
}

#[tokio::test]
async fn a_tick_from_the_future_is_refused_and_closes_nothing() {
    let later = tick(runtime::clock::unix_ms() + 3_600_000);
    let stage = Stage::new(&[]);
    stage.land(&batch("s", 1..3)).await;
    let error = handle(&stage.app, Bytes::from(later.to_string()), u64::MAX).await.unwrap_err().to_string();
    assert!(error.contains("s ahead of the clock; at most MAX_TICK_AHEAD_SECONDS are believed"), "{error}");
    assert_eq!(stage.files(), BTreeMap::new());
    let stage = Stage::new(&[("MAX_TICK_AHEAD_SECONDS", "86400")]);
    stage.land(&batch("s", 1..3)).await;
    stage.land(&later).await;
    assert_eq!(stage.counts("t"), [(2, Reason::Age)]);
}

#[tokio::test]
async fn poison_that_comes_again_in_other_pieces_is_quarantined_once() {
    let stage = Stage::new(&[]);
    let mut whole = batch("s", 1..6);
    for (poison, bytes) in [(0, "first"), (3, "second")] {
        whole["Records"][poison]["kinesis"]["data"] = base64(bytes.as_bytes()).into();
    }
    stage.world.fail(|call| if call.starts_with("create lake/staging/") { Fate::Refused } else { Fate::Done });
    let response = stage.handle(&whole).await;
    assert_eq!(json!(response), json!({"batchItemFailures": [{"itemIdentifier": "1"}]}));
    stage.world.run_freely();
    let mut part = whole.clone();
    part["Records"].as_array_mut().unwrap().truncate(2);
    stage.land(&part).await;
    stage.land(&whole).await;
    assert_eq!(stage.quarantined(), 2);
}

/// What fails is a call of the window `riders` that is not its staging. Its shard goes on, and nothing is lost.
#[tokio::test]
async fn a_table_whose_files_cannot_be_written_does_not_hold_up_its_shard() {
    let stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    stage.world.fail(|call| match call.starts_with("create incoming/cubic/kafka/riders/") {
        true => Fate::Refused,
        false => Fate::Done,
    });
    for _ in 0..2 {
        stage.land(&file("kafka-roller-topics.json")).await;
    }
    assert_eq!((stage.counts("riders"), stage.counts("fares")), (vec![], vec![(2, Reason::Records)]));
    stage.world.run_freely();
    stage.tick(ARRIVED_MS + 4_000_000).await;
    let counts = ["fares", "riders", "sample"].map(|table| stage.counts(table));
    let full = (2, Reason::Records);
    assert_eq!(counts, [vec![full], vec![full], vec![full, full]]);
}

/// The settings change between the state that begins a file and the file itself.
#[tokio::test]
async fn a_file_is_finished_as_it_was_begun() {
    let mut stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    for fate in [Fate::Refused, Fate::AnswerLost] {
        stage.world.fail(move |call| if call.starts_with("create incoming/") { fate } else { Fate::Done });
        stage.land(&batch("s", 1..6)).await;
    }
    stage.world.run_freely();
    stage.redeploy(&[("ROLL_COMPRESSION", "gzip"), ("INCOMING_BUCKET", "elsewhere")]);
    stage.land(&batch("s", 6..7)).await;
    stage.tick(ARRIVED_MS + 60_000).await;
    assert_eq!(stage.counts("t"), [(2, Reason::Records), (2, Reason::Records)]);
    assert!(stage.world.objects("incoming/").iter().all(|(key, _)| key.ends_with(".json")));
}

/// Which table a record is for says nothing of whether it is durable.
#[tokio::test]
async fn another_table_pointer_between_two_attempts_loses_and_repeats_nothing() {
    let mut stage = Stage::new(&[]);
    let mut event = batch("s", 1..11);
    for (number, record) in event["Records"].as_array_mut().unwrap().iter_mut().enumerate() {
        let line = format!("{{\"topic\":\"t{}\",\"type\":\"t\",\"n\":{number}}}", number % 2);
        record["kinesis"]["data"] = base64(line.as_bytes()).into();
    }
    let mut part = event.clone();
    part["Records"].as_array_mut().unwrap().truncate(5);
    stage.land(&part).await;
    stage.redeploy(&[("TABLE_POINTER", "/type")]);
    stage.land(&event).await;
    stage.tick(ARRIVED_MS + 4_000_000).await;
    let files = stage.files();
    let mut numbers: Vec<u64> =
        files.values().flatten().flat_map(|(_, lines)| lines).map(|line| line["n"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..10).collect::<Vec<_>>());
    assert_eq!(["t", "t0", "t1"].map(|table| stage.counts(table)[0].0), [5, 3, 2]);
}

/// A consumer that loads and archives at once, while the invocation that wrote the file has died.
#[tokio::test]
async fn a_file_that_was_taken_away_before_the_state_says_so_is_not_written_again() {
    let stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    stage.world.fail(|call| if call.starts_with("create incoming/") { Fate::AnswerLost } else { Fate::Done });
    stage.land(&batch("s", 1..3)).await;
    let (key, _) = stage.world.objects("incoming/").remove(0);
    stage.world.remove(&key);
    stage.world.run_freely();
    stage.tick(ARRIVED_MS + 60_000).await;
    assert_eq!(stage.world.objects("incoming/").len(), 0);
    assert_eq!(stage.world.objects("lake/staging/").len(), 1, "the state knows that the file existed");
}

#[tokio::test]
async fn the_requests_of_a_batch_do_not_depend_on_the_number_of_tables() {
    for topics in [1, 10, 1_000] {
        let stage = Stage::new(&[]);
        for round in 0..3 {
            let mut event = batch("s", 1 + round * 1_000..1_001 + round * 1_000);
            for (number, record) in event["Records"].as_array_mut().unwrap().iter_mut().enumerate() {
                let line = format!("{{\"topic\":\"topic-{}\",\"n\":{number}}}", number % topics);
                record["kinesis"]["data"] = base64(line.as_bytes()).into();
            }
            stage.calls();
            stage.land(&event).await;
        }
        assert_eq!(stage.calls(), calls(&[("get", 1), ("create", 1), ("replace", 1)]), "{topics} topics");
        stage.tick(ARRIVED_MS + 4_000_000).await;
        let tick = stage.calls();
        // The state; what each of three segments holds, and its lines, for each 250 files. And what was staged, once.
        let groups = topics.div_ceil(250);
        let gets = 1 + 6 * groups;
        // And the rules of tables.
        let expected = [("list", 3), ("get", gets + 1), ("create", topics + 1), ("replace", 1 + groups), ("delete", 1)];
        assert_eq!(tick, calls(&expected), "{topics} topics");
        let files = stage.files();
        assert_eq!((files.len(), files.values().flatten().map(|(about, _)| about.count).sum()), (topics, 3_000_usize));
    }
}

#[tokio::test]
async fn other_events_are_refused_with_a_sentence() {
    let stage = Stage::new(&[]);
    let error = handle(&stage.app, Bytes::from_static(b"{\"detail\":1}"), u64::MAX).await.unwrap_err();
    assert!(error.to_string().starts_with("the event is neither a Kinesis batch"), "{error}");
    assert!(stage.calls().is_empty());
}

#[tokio::test]
async fn a_table_may_have_limits_of_its_own() {
    let stage = Stage::new(&[]);
    stage.table_rules(&json!({"riders": {"records": 1}, "fares": {"seconds": 60, "compression": "gzip"}}));
    stage.land(&file("kafka-roller-topics.json")).await;
    stage.tick(ARRIVED_MS + 60_000 + 1_000).await;
    let one = (1, Reason::Records);
    let counts = ["fares", "riders", "sample"].map(|table| stage.counts(table));
    assert_eq!(counts, [vec![(2, Reason::Age)], vec![one, one], vec![]]);
    let fares = stage.world.objects("incoming/cubic/kafka/fares/");
    assert!(fares.iter().all(|(key, _)| key.ends_with(".json.gz")));
    // Each tick looks at them anew.
    stage.table_rules(&json!({"sample": {"records": 3}}));
    stage.tick(ARRIVED_MS + 62_000).await;
    assert_eq!(stage.counts("sample"), [(3, Reason::Records)]);
}

#[tokio::test]
async fn a_table_that_is_paused_waits_until_it_goes_on() {
    let stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    stage.table_rules(&json!({"riders": {"paused": true}}));
    for _ in 0..2 {
        stage.land(&file("kafka-roller-topics.json")).await;
    }
    stage.tick(ARRIVED_MS + 4_000_000).await;
    assert_eq!((stage.counts("riders"), stage.counts("fares")), (vec![], vec![(2, Reason::Records)]));
    assert_eq!(paused_since(&stage, ARRIVED_MS + 4_030_000).await, Some(ARRIVED_MS + 250));
    stage.table_rules(&json!({}));
    stage.tick(ARRIVED_MS + 4_060_000).await;
    assert_eq!(stage.counts("riders"), [(2, Reason::Records)]);
    assert_eq!(paused_since(&stage, ARRIVED_MS + 4_090_000).await, None);
}

/// Since when a record of a paused table waits, by a tick.
async fn paused_since(stage: &Stage, now_ms: i64) -> Option<i64> {
    let mut tally = Tally::default();
    run(&stage.app, Bytes::from(tick(now_ms).to_string()), None, &mut tally).await.unwrap();
    tally.oldest_paused_ms()
}

#[tokio::test]
async fn rules_of_tables_that_cannot_be_read_keep_no_record_from_landing() {
    let stage = Stage::new(&[]);
    stage.table_rules(&json!({"sample": {"records": 0}}));
    stage.land(&file("kafka-roller-batch.json")).await;
    let tick = Bytes::from(tick(ARRIVED_MS + 4_000_000).to_string());
    let error = handle(&stage.app, tick, u64::MAX).await.unwrap_err().to_string();
    let expected = "1 windows could not be rolled; the first error: settings/kafka-roller.json cannot be used: table \
                    sample: records is 0; write a number from 1 to 10000000";
    assert_eq!(error, expected);
    assert_eq!(stage.counts("sample"), [], "it may be paused");
    stage.table_rules(&json!({}));
    stage.tick(ARRIVED_MS + 4_060_000).await;
    assert_eq!(stage.counts("sample"), [(6, Reason::Age)]);
    let stage = Stage::new(&[]);
    stage.world.fail(|call| if call.contains("lake/settings/") { Fate::Refused } else { Fate::Done });
    stage.land(&file("kafka-roller-batch.json")).await;
    let late = Bytes::from(self::tick(ARRIVED_MS + 4_000_000).to_string());
    assert!(handle(&stage.app, late, u64::MAX).await.is_err());
    assert_eq!(stage.counts("sample"), [], "nor is it known of any table that it is not paused");
    stage.world.run_freely();
    stage.tick(ARRIVED_MS + 4_060_000).await;
    assert_eq!(stage.counts("sample"), [(6, Reason::Age)]);
}

#[tokio::test]
async fn windows_are_closed_when_somebody_asks_even_if_their_table_is_paused() {
    let stage = Stage::new(&[]);
    stage.table_rules(&json!({"riders": {"paused": true, "records": 1}}));
    stage.land(&file("kafka-roller-topics.json")).await;
    let response = stage.handle(&json!({"roll": ["riders", "sample", "unknown"]})).await;
    let file = |table: &str, records: usize, bytes: u64| json!({"table": table, "stream": "landfall-kafka", "shard": "shardId-000000000006", "records": records, "bytes": bytes});
    let files: Vec<Value> = ["riders", "sample"]
        .iter()
        .flat_map(|table| stage.world.objects(&format!("incoming/cubic/kafka/{table}/")))
        .map(|(key, object)| {
            let count = lines(&key, &object).len();
            file(key.split('/').nth(3).unwrap(), count, object.body.len() as u64)
        })
        .collect();
    let mut answered = json!(response)["rolled"]["files"].as_array().unwrap().clone();
    answered.sort_by_key(|file| file["table"].as_str().unwrap().to_owned());
    assert_eq!((answered.len(), &answered), (3, &files));
    let counts = ["fares", "riders", "sample"].map(|table| stage.counts(table));
    let one = (1, Reason::Records);
    assert_eq!(counts, [vec![], vec![one, one], vec![(4, Reason::Request)]]);
    let response = stage.handle(&json!({"roll": ["riders"]})).await;
    assert_eq!(json!(response), json!({"batchItemFailures": [], "rolled": {"files": []}}));
    let response = stage.handle(&json!({"roll": ["rider", "riders"]})).await;
    let rolled = json!({"files": [], "unknown": ["rider"], "known": ["fares", "riders", "sample"]});
    assert_eq!(json!(response)["rolled"], rolled);
}

/// Knows that the second shard came from the first, by one that never had a record; if it is asked when it can answer.
#[derive(Debug)]
struct Split {
    answers: bool,
}

impl Lineage for Split {
    fn parents<'a>(&'a self, arn: &'a str) -> LocalBoxFuture<'a, Result<Parents, RollError>> {
        assert_eq!(arn, "arn:aws:kinesis:eu-west-1:123456789012:stream/s");
        let parents = [("shardId-0", None), ("shardId-2", Some("shardId-0")), ("shardId-1", Some("shardId-2"))];
        let segment = |id: &str| id.parse::<Segment>().unwrap();
        let parents = parents.map(|(id, parent)| (segment(id), parent.into_iter().map(segment).collect()));
        let answer = self.answers.then(|| parents.into()).ok_or(RollError::Shards(arn.to_owned(), "no".to_owned()));
        Box::pin(async move { answer })
    }
}

/// The same records in the second shard.
fn of_child(batch: &Value) -> Value {
    serde_json::from_str(&batch.to_string().replace("shardId-0", "shardId-1")).unwrap()
}

#[tokio::test]
async fn files_of_a_shard_wait_for_those_of_the_shard_that_it_came_from() {
    let mut stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    stage.app.lineage = Some(Box::new(Split { answers: true }));
    stage.app.config.max_tick_ahead = std::time::Duration::MAX; // a year has to pass
    stage.land(&batch("s", 1..4)).await;
    stage.land(&of_child(&batch("s", 4..7))).await;
    assert_eq!(stage.counts("t"), [(2, Reason::Records)], "the record of the parent that waits comes first");
    for minute in 1..3 {
        stage.tick(ARRIVED_MS + minute * 60_000).await;
    }
    assert_eq!(stage.counts("t"), [(2, Reason::Records), (1, Reason::Reshard), (2, Reason::Records)]);
    let written = |(about, _): &(RolledFile, Vec<Value>)| {
        let key = format!("incoming/cubic/kafka/t/{}.json", about.id());
        stage.world.objects(&key)[0].1.e_tag.parse::<u64>().unwrap()
    };
    assert!(stage.files()["t"].iter().is_sorted_by_key(written));
    stage.land(&of_child(&batch("s", 7..8))).await;
    assert_eq!(stage.counts("t").len(), 4, "nothing waits any more");
    let states = async |days: i64| {
        stage.tick(ARRIVED_MS + days * 24 * 3_600_000).await;
        stage.world.objects("lake/staging/").into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(states(365).await.len(), 2, "a stream may have the records for a year");
    assert_eq!(states(367).await, ["lake/staging/s/shardId-1/state.json"], "the parent is over");
}

#[tokio::test]
async fn a_shard_that_gets_records_again_has_not_ended() {
    let mut stage = Stage::new(&[]);
    stage.app.lineage = Some(Box::new(Split { answers: true }));
    stage.land(&batch("s", 1..3)).await;
    stage.land(&of_child(&batch("s", 3..4))).await;
    stage.land(&batch("s", 4..5)).await;
    stage.tick(ARRIVED_MS + 60_000).await;
    assert_eq!(stage.counts("t"), [], "its windows are closed by age, as in a stream that was made anew");
}

#[tokio::test]
async fn records_are_staged_while_nobody_knows_where_their_shard_came_from() {
    let mut stage = Stage::new(&[("ROLL_MAX_RECORDS", "2")]);
    stage.app.lineage = Some(Box::new(Split { answers: false }));
    let child = of_child(&batch("s", 4..7));
    stage.land(&child).await;
    let late = Bytes::from(tick(ARRIVED_MS + 60_000).to_string());
    let error = handle(&stage.app, late, u64::MAX).await.unwrap_err().to_string();
    assert!(error.contains("the shards of arn:aws:kinesis:eu-west-1:123456789012:stream/s could not be listed: no"));
    assert_eq!(stage.counts("t"), [], "they wait");
    stage.app.lineage = Some(Box::new(Split { answers: true }));
    stage.tick(ARRIVED_MS + 120_000).await;
    assert_eq!(stage.counts("t"), [(2, Reason::Records)]);
}

#[tokio::test]
async fn windows_of_a_shard_that_waits_are_closed_when_somebody_asks() {
    let mut stage = Stage::new(&[]);
    stage.app.lineage = Some(Box::new(Split { answers: true }));
    stage.table_rules(&json!({"t": {"paused": true}}));
    stage.land(&batch("s", 1..3)).await;
    stage.land(&of_child(&batch("s", 3..6))).await;
    let response = stage.handle(&json!({"roll": ["t"]})).await;
    assert_eq!(json!(response)["rolled"]["files"].as_array().unwrap().len(), 2);
    assert_eq!(stage.counts("t"), [(2, Reason::Reshard), (3, Reason::Request)]);
}

/// Shards as Kinesis lists them, on two pages.
#[tokio::test]
async fn all_pages_of_shards_are_read() {
    let shard = |id: &str, parents: [Option<&str>; 2]| {
        json!({
            "ShardId": id, "ParentShardId": parents[0], "AdjacentParentShardId": parents[1],
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
            "SequenceNumberRange": {"StartingSequenceNumber": "1"},
        })
    };
    let pages = [
        json!({"Shards": [shard("a", [None, None]), shard("b", [None, None])], "NextToken": "more"}),
        json!({"Shards": [shard("c", [Some("a"), Some("b")])]}),
    ];
    let client = http::client(move |request| {
        assert_eq!(http::target(request), Some("Kinesis_20131202.ListShards"));
        let asked = http::json(request);
        match (asked["StreamARN"].as_str(), asked["NextToken"].as_str()) {
            (Some("arn"), None) => http::respond_json(200, &pages[0]),
            (None, Some("more")) => http::respond_json(200, &pages[1]),
            other => panic!("{other:?}"),
        }
    });
    let client = aws_sdk_kinesis::Client::new(&http::config(client).await);
    let parents = client.parents("arn").await.unwrap();
    let parents: Vec<_> = parents.iter().map(|(id, of)| (id.as_str(), of.len())).collect();
    assert_eq!(parents, [("a", 0), ("b", 0), ("c", 2)]);
    let refusing = async |code: &'static str| {
        let client = http::client(move |_| http::respond_json(400, &json!({"__type": code})));
        aws_sdk_kinesis::Client::new(&http::config(client).await).parents("arn").await
    };
    let unknown = refusing("AccessDeniedException").await.unwrap();
    assert_eq!(unknown, Parents::new(), "nobody waits for what is never told");
    let error = refusing("LimitExceededException").await.unwrap_err().to_string();
    assert!(error.starts_with("the shards of arn could not be listed: LimitExceededException"), "{error}");
}

/// The settings change between two batches: what is staged stays as it is.
#[tokio::test]
async fn lines_can_say_where_their_records_come_from_and_hold_what_is_not_json() {
    let table = [("TABLE_POINTER", ""), ("TABLE", "t")];
    let mut stage = Stage::new(&table);
    let mut event = batch("s", 1..3);
    event["Records"][1]["kinesis"]["data"] = base64(b"\xff").into();
    stage.land(&event).await;
    assert_eq!(stage.quarantined(), 1);
    stage.redeploy(&[&table[..], &[("ROLL_ENVELOPE", "position"), ("ROLL_NON_JSON", "base64")]].concat());
    let mut event = batch("s", 1..5);
    event["Records"][2]["kinesis"]["data"] = base64(b"\xff").into();
    event["Records"][3]["kinesis"]["data"] = "".into();
    stage.land(&event).await;
    stage.tick(ARRIVED_MS + 4_000_000).await;
    let (about, lines) = stage.files().remove("t").unwrap().remove(0);
    assert_eq!((about.count, stage.quarantined()), (3, 1));
    let origin = |sequence: u32| {
        json!({
            "_stream": "s", "_shard": "shardId-0", "_sequence": sequence.to_string(), "_sub_sequence": 0,
            "_partition_key": "k", "_arrived_at": format!("2026-11-20T14:11:46.00{sequence}Z"),
        })
    };
    let with = |mut value: Value, sequence| {
        value.as_object_mut().unwrap().append(origin(sequence).as_object_mut().unwrap());
        value
    };
    let expected =
        [json!({"topic": "t", "n": 1}), with(json!({"_base64": "/w=="}), 3), with(json!({"_base64": ""}), 4)];
    assert_eq!(lines, expected);
}

// --- What Lambda gives up ------------------------------------------------------------------------------------------------

/// Where Lambda keeps a batch.
const GIVEN_UP: &str = "aws/lambda/0f1e/shardId-0/2026/11/20/2026-11-20T14.41.46-7c2b";

impl Stage {
    /// Lambda gives up a batch, and its object is replayed.
    async fn replay(&self, event: &Value) -> Result<Replayed, String> {
        let object = json!({"requestContext": {"condition": "RetryAttemptsExhausted"}, "payload": event.to_string()});
        self.world.put(&format!("lake/{GIVEN_UP}"), object.to_string().into(), &[]);
        self.replay_key(&json!({"discarded": GIVEN_UP})).await
    }

    async fn replay_key(&self, event: &Value) -> Result<Replayed, String> {
        let response = handle(&self.app, Bytes::from(event.to_string()), u64::MAX).await;
        response.map(|response| response.replayed.unwrap()).map_err(|error| error.to_string())
    }
}

/// Of so many records: had been staged, are landed out of band, are staged.
fn replayed(shard: &str, already: usize, out_of_band: usize, staged: usize) -> Replayed {
    let records = already + out_of_band + staged;
    Replayed { shard: shard.to_owned(), records, already, out_of_band, staged, unfinished: 0 }
}

#[tokio::test]
async fn what_lambda_has_given_up_last_takes_the_usual_way() {
    let stage = Stage::new(&[]);
    let request = file("kafka-roller-discarded.json");
    let path = format!("lake/{}", request["discarded"].as_str().unwrap());
    stage.world.put(&path, file("kafka-roller-given-up.json").to_string().into(), &[]);
    let shard = "landfall-kafka/shardId-000000000006";
    assert_eq!(stage.replay_key(&request).await, Ok(replayed(shard, 0, 0, 6)));
    assert_eq!(stage.replay_key(&request).await, Ok(replayed(shard, 6, 0, 0)));
    stage.tick(ARRIVED_MS + 3_600_000).await;
    assert_eq!(stage.counts("sample"), [(6, Reason::Age)]);
    assert_eq!(stage.replay_key(&request).await, Ok(replayed(shard, 6, 0, 0)), "its segment is gone");
}

#[tokio::test]
async fn what_lambda_has_given_up_between_other_records_becomes_a_file_of_its_own() {
    let stage = Stage::new(&[]);
    stage.land(&batch("s", 1..5)).await;
    stage.land(&batch("s", 8..10)).await;
    let mut given_up = batch("s", 3..8);
    given_up["Records"][4]["kinesis"]["data"] = base64(b"no json").into();
    // Two of its records have been staged by an attempt.
    assert_eq!(stage.replay(&given_up).await, Ok(replayed("s/shardId-0", 2, 3, 0)));
    let (about, lines) = stage.files().remove("t").unwrap().remove(0);
    assert_eq!((about.count, about.reason, about.first.sequence_number()), (2, Reason::Replay, "5".to_owned()));
    assert_eq!((about.after, about.last.sequence_number()), (about.first.before(), "6".to_owned()));
    assert_eq!(lines.iter().map(|line| line["n"].as_u64().unwrap()).collect::<Vec<_>>(), [5, 6]);
    assert_eq!(stage.quarantined(), 1);
    let left = stage.world.objects("lake/staging/");
    assert_eq!(left.len(), 3, "the state and two segments: {:?}", left.iter().map(|(key, _)| key).collect::<Vec<_>>());
    stage.calls();
    assert_eq!(stage.replay(&given_up).await, Ok(replayed("s/shardId-0", 5, 0, 0)));
    // The object, the rules of tables, the state three times, and the interval that was landed.
    assert_eq!(stage.calls(), calls(&[("get", 6), ("list", 2)]));

    // When the segments are gone, the journal tells.
    stage.tick(ARRIVED_MS + 3_700_000).await;
    assert_eq!(stage.counts("t"), [(6, Reason::Age), (2, Reason::Replay)]);
    assert_eq!(stage.world.objects("lake/staging/").len(), 1);
    assert_eq!(stage.replay(&batch("s", 1..10)).await, Ok(replayed("s/shardId-0", 9, 0, 0)));
    assert_eq!((stage.files()["t"].len(), stage.quarantined()), (2, 1));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_left_to_a_tick() {
    let stage = Stage::new(&[]);
    stage.land(&batch("s", 1..3)).await;
    stage.land(&batch("s", 5..7)).await;
    stage.world.fail(|call| if call.starts_with("create incoming/") { Fate::Refused } else { Fate::Done });
    let unfinished = Replayed { unfinished: 1, ..replayed("s/shardId-0", 0, 2, 0) };
    assert_eq!(stage.replay(&batch("s", 3..5)).await, Ok(unfinished));
    assert_eq!(stage.counts("t"), []);
    stage.world.run_freely();
    stage.tick(ARRIVED_MS).await;
    assert_eq!(stage.counts("t"), [(2, Reason::Replay)]);
    assert_eq!(stage.replay(&batch("s", 3..5)).await, Ok(replayed("s/shardId-0", 2, 0, 0)));
    assert_eq!(stage.world.objects("lake/staging/").len(), 3);
}

#[tokio::test]
async fn a_record_that_was_too_large_is_landed_wherever_it_lies() {
    let mut stage = Stage::new(&[]);
    stage.app.max_event_bytes = 10;
    let early = stage.replay(&batch("s", 3..4)).await.unwrap_err();
    assert!(early.contains("nothing of its shard has been staged yet"), "{early}");
    stage.land(&batch("s", 1..2)).await;
    assert_eq!(stage.replay(&batch("s", 7..8)).await, Ok(replayed("s/shardId-0", 0, 1, 0)));
    // Lambda leaves them out of a batch, and the tail has not moved past records that were on their way.
    let mut around = batch("s", 2..9);
    around["Records"].as_array_mut().unwrap().remove(5);
    around["Records"].as_array_mut().unwrap().remove(1);
    stage.land(&around).await;
    assert_eq!(stage.replay(&batch("s", 3..4)).await, Ok(replayed("s/shardId-0", 0, 1, 0)));
    assert_eq!(stage.replay(&batch("s", 3..4)).await, Ok(replayed("s/shardId-0", 1, 0, 0)));
    assert_eq!(stage.counts("t"), [(1, Reason::Replay), (1, Reason::Replay)]);
    stage.app.max_event_bytes = usize::MAX;
    assert_eq!(stage.replay(&batch("s", 1..9)).await, Ok(replayed("s/shardId-0", 8, 0, 0)));
    stage.tick(ARRIVED_MS + 3_700_000).await;
    assert_eq!(stage.counts("t"), [(6, Reason::Age), (1, Reason::Replay), (1, Reason::Replay)]);
}

#[tokio::test]
async fn what_cannot_be_decided_is_refused_unless_somebody_takes_the_risk() {
    let mut stage = Stage::new(&[]);
    stage.land(&batch("s", 1..3)).await;
    stage.land(&batch("s", 5..7)).await;
    // An earlier version has staged them.
    let path = "lake/staging/s/shardId-0/state.json";
    let state = stage.world.objects(path).remove(0).1;
    let mut earlier: Value = serde_json::from_slice(&state.body).unwrap();
    earlier.as_object_mut().unwrap().remove("intervals_after").unwrap();
    for segment in earlier["segments"].as_array_mut().unwrap() {
        segment.as_object_mut().unwrap().remove("first").unwrap();
    }
    stage.world.put(path, earlier.to_string().into(), &[]);
    let refused = stage.replay(&batch("s", 3..5)).await.unwrap_err();
    assert!(refused.contains("whether record 3.0 is in a file is not known"), "{refused}");
    stage.land(&batch("s", 7..8)).await;
    assert!(stage.replay(&batch("s", 3..5)).await.is_err(), "what follows does not tell");
    // The journal does not reach so far back.
    stage.world.put(path, state.body.clone(), &[]);
    stage.app.journal_ms = 0;
    assert!(stage.replay(&batch("s", 3..5)).await.unwrap_err().contains("--even-if-landed lands it all the same"));
    assert_eq!(stage.counts("t"), []);
    let risk = stage.replay_key(&json!({"discarded": GIVEN_UP, "even_if_landed": true})).await;
    assert_eq!((risk, stage.counts("t")), (Ok(replayed("s/shardId-0", 0, 2, 0)), vec![(2, Reason::Replay)]));
}

#[tokio::test]
async fn only_what_lambda_has_written_is_replayed() {
    let stage = Stage::new(&[]);
    stage.world.place("lake/aws/lambda/x", b"{}");
    for (key, sentence) in [
        ("quarantine/x", "\"quarantine/x\" is not an object that Lambda has written: they are in aws/lambda/"),
        ("aws/lambda/x", "it does not have the records of the batch (\"payload\")"),
        ("aws/lambda/y", "lake/aws/lambda/y does not exist"),
    ] {
        let refused = stage.replay_key(&json!({"discarded": key})).await.unwrap_err();
        assert!(refused.contains(sentence), "{refused}");
    }
}
