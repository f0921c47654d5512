//! `landfall audit`, against buckets, a stream and functions in memory.

use std::sync::{Arc, Mutex};

use kit::{
    kinesis::{Record, Shard},
    s3::Buckets,
};
use rolling::{
    journal::{Interval, Journal},
    shard::{STATE, ShardId, State, Table},
};
use serde_json::Value;
use shared::{
    position::Position,
    quarantine::base64,
    rolled::{Reason, RolledFile},
};

use super::{
    lake::{self, Lake, Shared},
    tiling::tests::rolled,
};
use crate::{
    canned::{Ended, run},
    context::{Context, Interrupt},
};

const IN: &str = "incoming";

fn line(number: u64) -> String {
    format!("{{\"topic\":\"sample\",\"n\":{number}}}\n")
}

fn lines(after: u64, last: u64) -> String {
    (after + 1..=last).map(line).collect()
}

/// Adjacent files that end with these numbers, and the stream that they were rolled from.
fn chain(ends: &[u64]) -> (Shared, Vec<String>) {
    let mut s3 = Buckets::default();
    s3.page = 2;
    let shard = Shard { stream: "cubic-kafka", id: "shardId-000000000006", page: 40, ..Shard::default() };
    let mut lake = Lake { s3, shard, loads: Some(Vec::new()), ..Lake::default() };
    lake.variables = [("INCOMING_BUCKET", IN), ("LAKE_BUCKET", "lake"), ("TABLE_POINTER", "/topic")].into();
    let keys = ends.windows(2).map(|ends| lake.roll(IN, &rolled(ends[0], ends[1]), &lines(ends[0], ends[1])));
    let keys = keys.collect();
    for number in 1..=*ends.last().unwrap() {
        let (arrived_ms, data) = (rolled(number - 1, number).newest_ms, base64(line(number).as_bytes()));
        lake.shard.records.push(Record { sequence_number: number, arrived_ms, data });
    }
    (Arc::new(Mutex::new(lake)), keys)
}

fn remove(lake: &Shared, key: &str) -> lake::Object {
    lake.lock().unwrap().s3.objects.remove(&(IN.to_owned(), key.to_owned())).unwrap()
}

async fn audit(lake: &Shared, arguments: &[&str]) -> Ended {
    run(&lake::context(lake).await, &[&["audit", "--bucket", IN], arguments].concat()).await
}

fn faults(ended: &Ended) -> Vec<(String, bool)> {
    let problems = ended.json()["problems"].as_array().unwrap().clone();
    let fault = |problem: &Value| problem["fault"].as_str().unwrap().to_owned();
    problems.iter().map(|problem| (fault(problem), problem["repaired"].as_bool().unwrap())).collect()
}

fn one(fault: &str, repaired: bool) -> Vec<(String, bool)> {
    vec![(fault.to_owned(), repaired)]
}

#[tokio::test]
async fn files_that_follow_each_other_are_green() {
    let (lake, _) = chain(&[0, 10, 25, 30, 31, 40]);
    let ended = audit(&lake, &[]).await;
    let expected = "\
table   shard                             files  records  first                     last                      gaps  overlaps  wrong counts
sample  cubic-kafka/shardId-000000000006      5       40  2026-11-20T14:11:41.000Z  2026-11-20T14:12:20.000Z     0         0             0

audited 5 files of 40 records: they follow each other without gap or overlap and their contents agree with their metadata
";
    assert_eq!((ended.code, ended.err.as_str(), ended.out.as_str()), (0, "", expected));
    let json = audit(&lake, &["--json"]).await.json();
    assert_eq!((&json["complete"], &json["windows"][0]["records"]), (&true.into(), &40.into()));
    assert_eq!((&json["windows"][0]["begins_after"], &json["stopped"]), (&Value::Null, &Value::Null));
    lake.lock().unwrap().s3.objects.clear();
    let nothing = audit(&lake, &[]).await;
    assert_eq!((nothing.code, nothing.out.starts_with("audited 0 files of 0 records: ")), (0, true));
}

#[tokio::test]
async fn a_gap_and_an_overlap_are_named_with_their_files_and_positions() {
    let (lake, keys) = chain(&[0, 10, 20, 30, 40]);
    remove(&lake, &keys[1]);
    let (copy, copied) = ("cubic/kafka/sample/vytxeTZskVKR7C7WgdSP3d.json", rolled(20, 30));
    lake.lock().unwrap().put(IN, copy, &copied.metadata(), &lines(20, 30));
    let ended = audit(&lake, &[]).await;
    let [first, twice] = [&keys[0], &keys[2]].map(|key| format!("s3://{IN}/{key}"));
    let files = [twice.clone(), format!("s3://{IN}/{copy}")];
    let window = "cubic-kafka/shardId-000000000006/sample";
    let behind = files.iter().min().unwrap();
    let expected = format!(
        "gap  {window}  after 10.0 up to 20.0: between {first}, until 2026-11-20T14:11:50.000Z, and {behind}, from \
         2026-11-20T14:12:01.000Z\n\
         overlap  {window}  after 20.0 up to 30.0: in {} and in {}\n\n\
         audited 4 files of 40 records: 2 problems\n",
        files.iter().min().unwrap(),
        files.iter().max().unwrap(),
    );
    assert_eq!(ended.code, 3);
    assert!(ended.out.ends_with(&expected), "{}", ended.out);
    let json = audit(&lake, &["--json"]).await.json();
    assert_eq!((&json["complete"], &json["windows"][0]["gaps"]), (&false.into(), &1.into()));
    let up_to = rolled(20, 30).after.to_string();
    assert_eq!(json["problems"][0]["up_to"], up_to);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_file_is_told_and_the_others_are_audited() {
    let (lake, keys) = chain(&[0, 10, 20]);
    let put = |key: &str, metadata: &[(&'static str, String)], body: &str| {
        lake.lock().unwrap().put(IN, &format!("cubic/kafka/{key}"), metadata, body);
    };
    let other = |table: &str| {
        let mut rolled = rolled(0, 2);
        rolled.window.table = table.parse().unwrap();
        rolled
    };
    let name = "vytxeTZskVKR7C7WgdSP3d.json";
    put(&format!("nothing/{name}"), &[], "{}\n");
    put(&format!("damaged/{name}"), &other("damaged").metadata()[1..], "{}\n");
    put(&format!("moved/{name}"), &other("sample").metadata(), "{}\n{}\n");
    put(&format!("short/{name}"), &other("short").metadata(), "{}\n");
    put(&format!("text/{name}"), &other("text").metadata(), "{}\nhello\n");
    put(&format!("gzip/{name}.gz"), &other("gzip").metadata(), "{}\n{}\n");
    put("sample/notes.txt", &[], "hello");
    put("sample/", &[], "");
    put(&format!("denied/{name}"), &other("denied").metadata(), "{}\n{}\n");
    lake.lock().unwrap().broken.insert(format!("cubic/kafka/denied/{name}"));
    let ended = audit(&lake, &["--json"]).await;
    assert_eq!(ended.code, 1, "{}", ended.out);
    let expected = [
        "damaged_metadata",
        "unreadable",
        "not_json",
        "other_table",
        "no_metadata",
        "foreign_key",
        "wrong_count",
        "not_json",
    ];
    assert_eq!(faults(&ended), expected.map(|fault| (fault.to_owned(), false)));
    let json = ended.json();
    let detail = |index: usize| json["problems"][index]["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail(0), "the object has no metadata landfall-stream");
    assert!(detail(1).ends_with("could not be read: AccessDenied: no key"), "{}", detail(1));
    assert!(detail(2).starts_with("it is not a complete gzip file: "), "{}", detail(2));
    assert_eq!(detail(6), "1 line, but its metadata says 2 from 1.0 to 2.0");
    assert_eq!(detail(7), "1 line is not JSON; the first is line 2: expected value at line 1 column 1");
    let sample = json["windows"].as_array().unwrap().iter().find(|row| row["table"] == "sample").unwrap();
    assert_eq!((&sample["files"], keys.len()), (&2.into(), 2));

    let quick = audit(&lake, &["--json", "--no-contents", "--table", "short", "--table", "text"]).await;
    assert_eq!((quick.code, faults(&quick)), (0, vec![]));
}

#[tokio::test]
async fn without_contents_no_file_is_read() {
    let (lake, _) = chain(&[0, 10, 20]);
    let ended = audit(&lake, &["--no-contents"]).await;
    assert!(ended.out.ends_with("without gap or overlap; their contents were not read\n"), "{}", ended.out);
    assert!(!ended.out.contains("wrong counts"));
    let calls = |call: &str| lake.lock().unwrap().calls(call);
    assert_eq!((calls("GetObject"), calls("HeadObject"), calls("ListObjectsV2")), (0, 2, 4));
    audit(&lake, &[]).await;
    assert_eq!((calls("GetObject"), calls("HeadObject"), calls("ListObjectsV2")), (2, 2, 8));
}

#[tokio::test]
async fn files_that_were_moved_are_looked_for_in_the_other_buckets() {
    let (lake, keys) = chain(&[0, 10, 20, 30, 40]);
    let moved = remove(&lake, &keys[1]);
    lake.lock().unwrap().s3.objects.insert(("archive".to_owned(), keys[1].clone()), moved);
    assert_eq!(faults(&audit(&lake, &["--json"]).await), one("gap", false));
    assert_eq!(audit(&lake, &["--bucket", "archive"]).await.code, 0);
    remove(&lake, &keys[0]);
    let late = audit(&lake, &["--bucket", "archive"]).await;
    assert_eq!(late.code, 0);
    assert!(
        late.out
            .ends_with("\nnote: 1 window begins later than its shard: older files are elsewhere, if there were any\n")
    );
}

#[tokio::test]
async fn a_table_or_stream_that_does_not_exist_is_refused() {
    let (lake, _) = chain(&[0, 10, 20]);
    lake.lock().unwrap().put("archive", "cubic/kafka/fares/vytxeTZskVKR7C7WgdSP3d.json", &[], "");
    let table = audit(&lake, &["--table", "sample", "--table", "samples", "--bucket", "archive"]).await;
    assert_eq!((table.code, table.out.as_str()), (2, ""));
    assert_eq!(table.err, "error: there is no table \"samples\"; there are fares, sample\n");
    let stream = audit(&lake, &["--stream", "cubic-kafca"]).await;
    let expected = "error: no file was rolled from a stream \"cubic-kafca\"\n";
    assert_eq!((stream.code, stream.err.as_str()), (2, expected));
    assert_eq!(audit(&lake, &["--stream", "cubic-kafka", "--table", "sample"]).await.code, 0);
    let function = crate::Cli::try_parse_args(&["audit", "--bucket", IN, "--function", "x"]).unwrap_err();
    assert!(function.to_string().contains("--repair"), "{function}");
}

fn mark(lake: &Shared, number: u64) {
    let window = rolled(0, 1).window;
    let table = Table { rolled: rolled(0, number).last, written_ms: i64::MAX, ..Table::default() };
    let (tail, tables) = (table.rolled, [(window.table, table)].into());
    let state = State { tail, tables, ..State::new() };
    let id = ShardId { stream: window.stream, shard: window.shard };
    let state = String::from_utf8(state.to_bytes().unwrap()).unwrap();
    lake.lock().unwrap().put("lake", &id.key(STATE), &[], &state);
}

/// The shard is staged up to a record, in these intervals, which are in files.
fn staged(lake: &Shared, tail: u64, intervals: &[(u64, u64)]) {
    let id = ShardId { stream: rolled(0, 1).window.stream, shard: rolled(0, 1).window.shard };
    let intervals_after = Some(Position::START);
    let stream_arn = Some("arn:aws:kinesis:eu-west-1:123456789012:stream/cubic-kafka".to_owned());
    let state = State { stream_arn, tail: rolled(0, tail).last, intervals_after, ..State::new() };
    lake.lock().unwrap().put("lake", &id.key(STATE), &[], std::str::from_utf8(&state.to_bytes().unwrap()).unwrap());
    for (first, last) in intervals {
        let interval = Interval { first: rolled(first - 1, *first).first, last: rolled(0, *last).last };
        let (key, body) = Journal::Segments.object(&id, &[interval]).unwrap();
        lake.lock().unwrap().put("lake", &key, &[], &body);
    }
}

/// A shard of whose records Lambda gave up 11 to 13, and its second file, which covers their positions without having them.
fn given_up() -> (Shared, RolledFile) {
    let (lake, _) = chain(&[0, 10, 40, 50]);
    let mut second = rolled(10, 40);
    (second.first, second.count, second.oldest_ms) = (rolled(13, 14).first, 27, rolled(13, 14).oldest_ms);
    lake.lock().unwrap().s3.objects.retain(|(_, key), _| !key.contains(&rolled(10, 40).id().to_string()));
    lake.lock().unwrap().roll(IN, &second, &lines(13, 40));
    staged(&lake, 50, &[(1, 10), (14, 30), (31, 50)]);
    (lake, second)
}

#[tokio::test]
async fn records_of_the_stream_that_were_never_staged_are_found() {
    let (lake, second) = given_up();
    assert_eq!(audit(&lake, &[]).await.code, 0, "the files alone do not tell");
    let ended = audit(&lake, &["--against-stream"]).await;
    let expected = "not_staged  cubic-kafka/shardId-000000000006  3 records after 10.9999999 up to 13.0 never reached a \
                    file; they arrived from 2026-11-20T14:11:51.000Z to 2026-11-20T14:11:53.000Z\n";
    assert_eq!((ended.code, ended.err.as_str()), (3, ""));
    assert!(ended.out.contains(expected), "{}", ended.out);
    // Lambda has written them, and they wait.
    let records = [11, 12, 13].map(|number: u64| {
        serde_json::json!({
            "kinesis": {"partitionKey": "k", "sequenceNumber": number.to_string(), "data": "e30=", "approximateArrivalTimestamp": 1},
            "eventID": format!("shardId-000000000006:{number}"),
            "eventSourceARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/cubic-kafka",
        })
    });
    let object = serde_json::json!({"payload": serde_json::json!({"Records": records}).to_string()}).to_string();
    lake.lock().unwrap().put("lake", "aws/lambda/0f1e/shardId-000000000006/2026/11/20/x", &[], &object);
    let waiting = audit(&lake, &["--against-stream"]).await;
    assert_eq!(waiting.code, 3, "{}", waiting.out);
    let found = "waiting  cubic-kafka/shardId-000000000006  3 records wait under aws/lambda/; landfall replay discarded lands what is in no file";
    assert!(waiting.out.contains(found), "{}", waiting.out);
    // They were landed out of band.
    lake.lock().unwrap().s3.objects.retain(|(_, key), _| !key.starts_with("aws/lambda/"));
    let interval = Interval { first: rolled(10, 11).first, last: rolled(0, 13).last };
    let id = ShardId { stream: second.window.stream.clone(), shard: second.window.shard.clone() };
    let (key, body) = Journal::Replays.object(&id, &[interval]).unwrap();
    lake.lock().unwrap().put("lake", &key, &[], &body);
    let replayed = RolledFile { reason: Reason::Replay, after: interval.first.before(), ..rolled(10, 13) };
    lake.lock().unwrap().roll(IN, &replayed, &lines(10, 13));
    let all = audit(&lake, &["--against-stream"]).await;
    assert_eq!(all.code, 0, "{}", all.out);
    assert!(!all.out.contains("note"), "{}", all.out);
    assert!(
        all.out.contains("\naudited 4 files of 50 records against 50 records of the stream: they follow"),
        "{}",
        all.out
    );
}

#[tokio::test]
async fn what_was_never_staged_is_landed_by_the_function() {
    let (lake, _) = given_up();
    let found = "shardId-000000000006  3 records after 10.9999999 up to 13.0 never reached a file";
    let waits = |lake: &Shared| {
        let keys: Vec<String> = lake.lock().unwrap().s3.objects.keys().map(|(_, key)| key.clone()).collect();
        keys.into_iter().filter(|key| key.starts_with("aws/lambda/landfall-audit/shardId-000000000006/")).count()
    };
    // What the function does not land waits for another time, like what Lambda has written.
    lake.lock().unwrap().refusal = Some("no time");
    let refused = audit(&lake, &["--against-stream", "--repair"]).await;
    assert_eq!((refused.code, waits(&lake)), (1, 1), "{}", refused.out);
    assert!(refused.out.contains(&format!("not_staged  cubic-kafka/{found}")), "{}", refused.out);
    let cause = "not_repaired  cubic-kafka/shardId-000000000006  after 10.9999999 up to 13.0: they were not landed: no time; they wait \
                 under aws/lambda/, and landfall replay discarded tries again\n";
    assert!(refused.out.contains(cause), "{}", refused.out);
    let again = audit(&lake, &["--against-stream", "--repair"]).await;
    assert_eq!((again.code, lake.lock().unwrap().landed.len()), (3, 0), "they wait: {}", again.out);
    lake.lock().unwrap().s3.objects.retain(|(_, key), _| !key.starts_with("aws/lambda/"));

    lake.lock().unwrap().refusal = None;
    let ended = audit(&lake, &["--against-stream", "--repair"]).await;
    assert_eq!((ended.code, waits(&lake)), (0, 0), "{}", ended.out);
    assert_eq!(lake.lock().unwrap().landed, [[11, 12, 13]]);
    assert!(ended.out.contains(&format!("not_staged, repaired  cubic-kafka/{found}")), "{}", ended.out);
    assert!(
        ended.out.ends_with("of 47 records against 50 records of the stream: 1 problem repaired\n"),
        "{}",
        ended.out
    );
    let after = audit(&lake, &["--against-stream", "--repair"]).await;
    assert_eq!((after.code, lake.lock().unwrap().landed.len()), (0, 1), "{}", after.out);
}

#[tokio::test]
async fn a_record_that_no_event_can_hold_is_handed_over_alone() {
    let (lake, _) = given_up();
    let large = base64(format!("{{\"topic\":\"sample\",\"n\":\"{}\"}}", "x".repeat(5 << 20)).as_bytes());
    lake.lock().unwrap().shard.records[11].data = large;
    let ended = audit(&lake, &["--against-stream", "--repair"]).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    let mut landed = lake.lock().unwrap().landed.concat();
    landed.sort_unstable();
    landed.dedup();
    assert_eq!(landed, [11, 12, 13]);
    assert!(lake.lock().unwrap().landed.iter().all(|records| records.len() == 1 || !records.contains(&12)));
}

#[tokio::test]
async fn many_small_records_are_handed_over_in_events_that_lambda_could_have_delivered() {
    // Nothing was ever staged of 20,000 records, which take more than an event can hold.
    let (lake, _) = chain(&[0, 30_000]);
    lake.lock().unwrap().shard.page = 10_000;
    staged(&lake, 30_000, &[(20_001, 30_000)]);
    let ended = audit(&lake, &["--against-stream", "--repair", "--no-contents"]).await;
    assert!(ended.out.contains("not_staged, repaired"), "{}", ended.out);
    let lake = lake.lock().unwrap();
    assert_eq!(lake.landed.concat(), (1..=20_000).collect::<Vec<u64>>());
    assert!(lake.events.len() > 1 && lake.events.iter().all(|bytes| *bytes < 6 << 20), "{:?}", lake.events);
}

#[tokio::test]
async fn without_the_arn_of_the_stream_nothing_is_handed_over() {
    let (lake, _) = given_up();
    let key = lake.lock().unwrap().s3.objects.keys().find(|(_, key)| key.ends_with(STATE)).unwrap().1.clone();
    let state = State { tail: rolled(0, 50).last, intervals_after: Some(Position::START), ..State::new() };
    lake.lock().unwrap().put("lake", &key, &[], std::str::from_utf8(&state.to_bytes().unwrap()).unwrap());
    let ended = audit(&lake, &["--against-stream", "--repair"]).await;
    assert_eq!((ended.code, lake.lock().unwrap().landed.len()), (1, 0));
    assert!(ended.out.contains("the state of its shard does not say yet which stream that is"), "{}", ended.out);
}

#[tokio::test]
async fn a_missing_file_is_written_without_what_lambda_gave_up() {
    let (lake, second) = given_up();
    let key = roll_key_of(&second);
    remove(&lake, &key);
    let ended = audit(&lake, &["--repair"]).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    let written = remove(&lake, &key);
    assert_eq!(written.body, lines(13, 40).into_bytes());
    // Of the records up to 12 it is not known which were staged, so they count as if they had been.
    let key = lake.lock().unwrap().s3.objects.keys().find(|(_, key)| key.ends_with(STATE)).unwrap().1.clone();
    let state = State { tail: rolled(0, 50).last, intervals_after: Some(rolled(0, 12).last), ..State::new() };
    lake.lock().unwrap().put("lake", &key, &[], std::str::from_utf8(&state.to_bytes().unwrap()).unwrap());
    let ended = audit(&lake, &["--repair"]).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    let written = remove(&lake, &roll_key_of(&rolled(10, 40)));
    assert_eq!(written.body, (lines(10, 12) + &lines(13, 40)).into_bytes());
}

#[tokio::test]
async fn a_missing_file_is_written_without_what_was_landed_out_of_band_elsewhere() {
    let (lake, second) = given_up();
    // The replay's file is not there yet, or no longer.
    let interval = Interval { first: rolled(10, 11).first, last: rolled(0, 13).last };
    let id = ShardId { stream: second.window.stream.clone(), shard: second.window.shard.clone() };
    let (key, body) = Journal::Replays.object(&id, &[interval]).unwrap();
    lake.lock().unwrap().put("lake", &key, &[], &body);
    let key = roll_key_of(&second);
    remove(&lake, &key);
    assert_eq!(audit(&lake, &["--repair"]).await.code, 0);
    assert_eq!(remove(&lake, &key).body, lines(13, 40).into_bytes());
}

#[tokio::test]
async fn what_the_stream_has_dropped_meanwhile_is_not_called_landed() {
    let (lake, _) = given_up();
    lake.lock().unwrap().dropped_after_comparison = 11;
    let ended = audit(&lake, &["--against-stream", "--repair"]).await;
    assert_eq!((ended.code, lake.lock().unwrap().landed.clone()), (1, vec![vec![12, 13]]), "{}", ended.out);
    assert!(
        ended.out.contains("the stream no longer has the first of them; what it still had was landed"),
        "{}",
        ended.out
    );
}

#[tokio::test]
async fn what_a_file_may_hold_is_not_landed() {
    // The state was lost, and so was what it said of 31 to 40, which are in a file.
    let (lake, _) = chain(&[0, 30, 40, 50]);
    staged(&lake, 50, &[(1, 30), (41, 50)]);
    let ended = audit(&lake, &["--against-stream", "--repair"]).await;
    assert_eq!((ended.code, lake.lock().unwrap().landed.len()), (1, 0), "{}", ended.out);
    assert!(ended.out.contains("says that it holds more records of this range than were ever staged"), "{}", ended.out);
}

#[tokio::test]
async fn records_of_some_tables_only_are_not_landed() {
    let (lake, _) = given_up();
    let ended = audit(&lake, &["--against-stream", "--repair", "--table", "sample"]).await;
    assert_eq!((ended.code, lake.lock().unwrap().landed.len()), (2, 0));
    assert_eq!(ended.err, "error: --against-stream --repair lands the records of all tables: leave out --table\n");
}

#[tokio::test]
async fn a_file_that_holds_less_than_the_stream_is_found_though_its_count_is_right() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    staged(&lake, 30, &[(1, 30)]);
    assert_eq!(audit(&lake, &["--against-stream"]).await.code, 0);
    let short = RolledFile { count: 5, ..rolled(10, 20) };
    remove(&lake, &keys[1]);
    lake.lock().unwrap().roll(IN, &short, &lines(15, 20));
    assert_eq!(audit(&lake, &[]).await.code, 0, "its metadata agrees with its lines");
    let ended = audit(&lake, &["--against-stream"]).await;
    let expected = format!(
        "other_count  s3://{IN}/{}  its metadata says 5, but of its table and range the stream has 10 records\n",
        keys[1]
    );
    assert_eq!(ended.code, 3);
    assert!(ended.out.contains(&expected), "{}", ended.out);
    // Of a file that the stream does not have as a whole, nothing can be said.
    lake.lock().unwrap().shard.records.drain(..14);
    assert_eq!(audit(&lake, &["--against-stream"]).await.code, 0);
    let since = ["--against-stream", "--since", "2026-11-20T14:11:56Z"];
    assert_eq!(audit(&lake, &since).await.code, 0);
}

#[tokio::test]
async fn what_is_not_known_of_a_stream_is_said() {
    let (lake, _) = chain(&[0, 10, 20]);
    staged(&lake, 20, &[(11, 20)]);
    let key = lake.lock().unwrap().s3.objects.keys().find(|(_, key)| key.ends_with(STATE)).unwrap().1.clone();
    let mut state = State { tail: rolled(0, 20).last, intervals_after: Some(rolled(0, 10).last), ..State::new() };
    let put = |state: &State| {
        lake.lock().unwrap().put("lake", &key, &[], std::str::from_utf8(&state.to_bytes().unwrap()).unwrap());
    };
    put(&state);
    let ended = audit(&lake, &["--against-stream"]).await;
    let note =
        "note: 10 records of cubic-kafka/shardId-000000000006 are from before kafka-roller kept what it had staged";
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert!(ended.out.contains(note), "{}", ended.out);
    // What is behind the tail is on its way.
    (state.tail, state.intervals_after) = (rolled(0, 12).last, Some(Position::START));
    put(&state);
    assert_eq!(
        audit(&lake, &["--against-stream", "--json"]).await.json()["problems"][0]["up_to"],
        rolled(0, 10).last.to_string()
    );
    lake.lock().unwrap().shard.id = "";
    let gone = audit(&lake, &["--against-stream"]).await;
    assert!(
        gone.out.contains("the stream does not have shard cubic-kafka/shardId-000000000006 any more"),
        "{}",
        gone.out
    );
    let other = run(&lake::context(&lake).await, &["audit", "--against-stream", "--bucket", "elsewhere"]).await;
    assert_eq!(
        (other.code, other.err.starts_with("error: without kafka-roller of this stack")),
        (1, true),
        "{}",
        other.err
    );
}

#[tokio::test]
async fn the_newest_file_and_all_files_are_missed_by_the_high_water_mark() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    mark(&lake, 20);
    mark(&lake, 30);
    assert_eq!(audit(&lake, &[]).await.code, 0);
    let newest = remove(&lake, &keys[2]);
    let ended = audit(&lake, &[]).await;
    let expected = format!(
        "gap  cubic-kafka/shardId-000000000006/sample  after 20.0 up to 30.0: behind s3://{IN}/{}, until \
         2026-11-20T14:12:00.000Z; the high-water mark says that they are in files\n",
        keys[1]
    );
    assert!(ended.code == 3 && ended.out.contains(&expected), "{}", ended.out);
    // It comes back from the stream, as it was.
    let repaired = audit(&lake, &["--repair"]).await;
    assert_eq!(repaired.code, 0, "{}", repaired.out);
    let written = lake.lock().unwrap().s3.objects[&(IN.to_owned(), keys[2].clone())].clone();
    assert_eq!(written.body, newest.body);

    keys.iter().for_each(|key| drop(remove(&lake, key)));
    let nothing = audit(&lake, &[]).await;
    assert!(nothing.code == 3 && nothing.out.contains("up to 30.0: no file is there;"), "{}", nothing.out);
    lake.lock().unwrap().shard.records.drain(..25);
    let lost = audit(&lake, &["--repair"]).await;
    assert!(
        lost.out.contains("up to 25.9999999: the stream no longer has these records; they arrived to "),
        "{}",
        lost.out
    );
}

#[tokio::test]
async fn since_a_time_only_newer_files_are_read() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    mark(&lake, 30);
    let now = lake::context(&lake).await.now.as_second();
    for (key, age_s) in keys.iter().zip([200_000, 100_000, 1_000]) {
        let mut lake = lake.lock().unwrap();
        lake.s3.objects.get_mut(&(IN.to_owned(), key.clone())).unwrap().modified = now - age_s;
    }
    let calls = || lake.lock().unwrap().calls("GetObject");
    let ended = audit(&lake, &["--since", "30h"]).await;
    assert_eq!((ended.code, calls()), (0, 3), "the state and two files: {}", ended.out);
    remove(&lake, &keys[2]);
    assert_eq!(audit(&lake, &["--since", "30h"]).await.code, 3);
    // The mark is new, and no file is.
    mark(&lake, 31);
    assert_eq!(audit(&lake, &["--since", "10m"]).await.code, 3);
}

#[tokio::test]
async fn files_that_load_ingester_has_moved_are_found_where_they_are() {
    let (lake, keys) = chain(&[0, 10, 20, 30, 40]);
    let moved = |key: &str, to: &str| {
        let file = lake.lock().unwrap().s3.objects[&(IN.to_owned(), key.to_owned())].clone();
        lake.lock().unwrap().s3.objects.insert(("lake".to_owned(), to.to_owned()), file);
    };
    let name = |key: &str| key.rsplit('/').next().unwrap().to_owned();
    moved(&keys[1], &format!("archive/cubic/kafka/sample/1201-{}", name(&keys[1])));
    remove(&lake, &keys[1]);
    let errored = format!("error/cubic/kafka/sample/timestamp=20261120T120000Z/1202-{}", name(&keys[2]));
    moved(&keys[2], &errored);
    remove(&lake, &keys[2]);
    // It is copied, and not deleted yet.
    moved(&keys[3], &format!("archive/cubic/kafka/sample/1203-{}", name(&keys[3])));
    for arguments in [&["audit"][..], &["audit", "--table", "sample"], &["audit", "--repair"]] {
        let ended = run(&lake::context(&lake).await, arguments).await;
        assert_eq!((ended.code, ended.err.as_str()), (0, ""), "{}", ended.out);
        assert!(ended.out.contains("\naudited 4 files of 40 records: they follow each other"), "{}", ended.out);
    }
    assert_eq!(faults(&audit(&lake, &["--json"]).await), one("gap", false), "the lake was not named");

    // Loaded a second time.
    moved(&keys[3], &format!("archive/cubic/kafka/sample/1300-{}", name(&keys[3])));
    let twice = run(&lake::context(&lake).await, &["audit"]).await;
    assert_eq!(twice.code, 3);
    let both = [1203, 1300].map(|load| format!("s3://lake/archive/cubic/kafka/sample/{load}-{}", name(&keys[3])));
    assert!(twice.out.contains(&format!("up to 40.0: in {} and in {}\n", both[0], both[1])), "{}", twice.out);
}

#[tokio::test]
async fn a_file_in_the_archive_that_says_nothing_keeps_its_name() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    let file = lake::Object { metadata: [].into(), ..remove(&lake, &keys[1]) };
    let archived = format!("archive/cubic/kafka/sample/1201-{}", keys[1].rsplit('/').next().unwrap());
    lake.lock().unwrap().s3.objects.insert(("lake".to_owned(), archived.clone()), file);
    let ended = run(&lake::context(&lake).await, &["audit", "--repair"]).await;
    assert_eq!((ended.code, lake.lock().unwrap().calls("PutObject")), (1, 0));
    let expected = format!("s3://lake/{archived} has the name of the missing file and holds other records");
    assert!(ended.out.contains(&expected), "{}", ended.out);
}

#[tokio::test]
async fn a_file_that_is_written_during_the_listing_is_no_gap() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    lake.lock().unwrap().hidden.insert(keys[1].clone());
    let ended = audit(&lake, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.out);
    assert_eq!(lake.lock().unwrap().calls("GetObject"), 3);
}

#[tokio::test]
async fn a_missing_file_is_written_anew_as_it_was() {
    for compression in ["none", "gzip"] {
        let (lake, keys) = chain(&[0, 50, 90, 100]);
        lake.lock().unwrap().variables.insert("ROLL_COMPRESSION", compression);
        lake.lock().unwrap().shard.throttles = 1;
        let mut missing = remove(&lake, &keys[1]);
        let ended = audit(&lake, &["--repair", "--json"]).await;
        assert_eq!((ended.code, faults(&ended)), (0, one("gap", true)), "{}", ended.out);
        let suffix = if compression == "gzip" { ".gz" } else { "" };
        let key = format!("{}{suffix}", keys[1]);
        let written = lake.lock().unwrap().s3.objects[&(IN.to_owned(), key.clone())].clone();
        missing.metadata.insert("landfall-reason".to_owned(), "repair".to_owned());
        assert_eq!(written.metadata, missing.metadata);
        assert!(compression == "gzip" || written.body == missing.body);
        assert_eq!(ended.json()["written"], serde_json::json!([{"at": format!("s3://{IN}/{key}"), "records": 40}]));
        // It is read, decompressed and counted now, and there is nothing left to do.
        let again = audit(&lake, &["--repair"]).await;
        assert_eq!(again.code, 0);
        assert!(again.out.ends_with("agree with their metadata\n"), "{}", again.out);
        assert_eq!(lake.lock().unwrap().calls("PutObject"), 1);
    }
}

#[tokio::test]
async fn a_file_that_was_loaded_and_is_elsewhere_now_is_not_written_again() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    remove(&lake, &keys[1]);
    lake.lock().unwrap().loads = Some(vec![format!("{}.gz", keys[1])]);
    let ended = audit(&lake, &["--repair"]).await;
    let expected = format!(
        "after 10.0 up to 20.0: load 1201 (archived) began with a record of it: {}.gz; find out where that file is now, and \
         name its bucket with --bucket\n",
        keys[1]
    );
    assert_eq!((ended.code, lake.lock().unwrap().calls("PutObject")), (1, 0));
    assert!(ended.out.contains(&expected), "{}", ended.out);
    // A file that the gap begins with was none, but one that begins in its middle was.
    lake.lock().unwrap().loads = Some(vec![roll_key(14)]);
    let ended = audit(&lake, &["--repair"]).await;
    assert_eq!((ended.code, lake.lock().unwrap().calls("PutObject")), (1, 0), "{}", ended.out);
    // The registrar knows no load of these records, so they are written, though nobody has named a bucket.
    lake.lock().unwrap().loads = Some(vec![keys[0].clone(), roll_key(21)]);
    let ended = run(&lake::context(&lake).await, &["audit", "--repair"]).await;
    assert_eq!((ended.code, lake.lock().unwrap().calls("PutObject")), (0, 1), "{}", ended.out);
    assert!(!ended.out.contains("note: "), "{}", ended.out);
}

/// The key of a file that begins with this record.
fn roll_key(first: u64) -> String {
    roll_key_of(&rolled(first - 1, first))
}

fn roll_key_of(rolled: &RolledFile) -> String {
    Lake::default().roll(IN, rolled, "")
}

#[tokio::test]
async fn without_a_registrar_nothing_is_repaired_unless_the_buckets_are_named() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    remove(&lake, &keys[1]);
    lake.lock().unwrap().loads = None;
    let ended = run(&lake::context(&lake).await, &["audit", "--repair"]).await;
    assert_eq!((ended.code, ended.out.as_str(), lake.lock().unwrap().calls("PutObject")), (2, "", 0));
    assert!(
        ended.err.starts_with("error: without a load-registrar, nothing knows which files were loaded"),
        "{}",
        ended.err
    );
    let named = audit(&lake, &["--repair"]).await;
    assert_eq!((named.code, lake.lock().unwrap().calls("PutObject")), (0, 1));
    let note = "\nnote: there is no load-registrar that knows whether a missing file was loaded before\n";
    assert!(named.out.ends_with(note), "{}", named.out);
}

#[tokio::test]
async fn a_wide_gap_becomes_files_as_long_as_the_function_makes_them() {
    let (lake, keys) = chain(&[0, 10, 45, 100, 120]);
    lake.lock().unwrap().variables.insert("ROLL_MAX_RECORDS", "30");
    remove(&lake, &keys[1]);
    remove(&lake, &keys[2]);
    let ended = audit(&lake, &["--repair"]).await;
    let written: Vec<&str> = ended.out.lines().filter(|line| line.starts_with("written  ")).collect();
    assert_eq!((ended.code, written.len()), (0, 3), "{}", ended.out);
    assert!(ended.out.contains("\ngap, repaired  cubic-kafka/"), "{}", ended.out);
    assert!(ended.out.ends_with("\naudited 2 files of 30 records: 1 problem repaired\n"), "{}", ended.out);
    assert_eq!(audit(&lake, &[]).await.code, 0);
}

#[tokio::test]
async fn what_the_stream_has_no_longer_is_lost_and_stays_a_gap() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    remove(&lake, &keys[1]);
    lake.lock().unwrap().shard.records.drain(..14);
    let ended = audit(&lake, &["--repair"]).await;
    assert_eq!(ended.code, 3);
    let lost = "lost  cubic-kafka/shardId-000000000006/sample  after 10.0 up to 14.9999999: the stream no longer \
                has these records; they arrived from 2026-11-20T14:11:50.000Z to 2026-11-20T14:11:55.000Z\n";
    assert!(ended.out.contains(lost), "{}", ended.out);
    assert!(ended.out.contains("6 records\n\naudited 2 files of 20 records: 2 problems\n"), "{}", ended.out);
    let again = audit(&lake, &["--json"]).await;
    let up_to = rolled(14, 15).first.before().to_string();
    assert_eq!((faults(&again), &again.json()["problems"][0]["up_to"]), (one("gap", false), &up_to.into()));

    // The whole shard is gone.
    lake.lock().unwrap().shard.id = "";
    let gone = audit(&lake, &["--repair", "--json"]).await;
    assert_eq!(gone.code, 3);
    assert_eq!(faults(&gone), [one("gap", false), one("lost", false)].concat());
}

#[tokio::test]
async fn nothing_is_written_when_a_file_may_hold_it_or_the_name_is_taken() {
    let (lake, keys) = chain(&[0, 10, 20, 30]);
    let mut damaged = remove(&lake, &keys[1]);
    let whole = damaged.clone();
    damaged.metadata.remove("landfall-last");
    let place = (IN.to_owned(), keys[1].clone());
    lake.lock().unwrap().s3.objects.insert(place.clone(), damaged.clone());
    let ended = audit(&lake, &["--repair"]).await;
    let expected = "a file of its table cannot be read or understood, and may hold these records\n";
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains(expected), "{}", ended.out);
    assert_eq!(lake.lock().unwrap().calls("PutObject"), 0);

    // It says nothing at all, and has the name that the missing file has.
    lake.lock().unwrap().s3.objects.insert(place.clone(), lake::Object { metadata: [].into(), ..whole.clone() });
    let ended = audit(&lake, &["--repair"]).await;
    assert_eq!(ended.code, 1);
    assert!(
        ended.out.contains("has the name of the missing file and holds other records; it was not overwritten\n"),
        "{}",
        ended.out
    );
    assert_eq!(lake.lock().unwrap().s3.objects[&place].body, whole.body);
}

#[tokio::test]
async fn a_function_that_is_not_the_right_one_is_told() {
    let (lake, _) = chain(&[0, 10]);
    let missing = audit(&lake, &["--repair", "--function", "other"]).await;
    assert_eq!(missing.code, 1);
    assert_eq!(missing.err, "error: there is no function other in eu-west-1; name the right stack with --stack\n");
    lake.lock().unwrap().variables.insert("INCOMING_BUCKET", "elsewhere");
    let other = audit(&lake, &["--repair"]).await;
    assert_eq!(other.code, 2);
    assert!(
        other.err.ends_with("writes to bucket elsewhere; to repair, make it the first --bucket\n"),
        "{}",
        other.err
    );
    lake.lock().unwrap().variables.clear();
    assert!(audit(&lake, &["--repair"]).await.err.contains("environment variable INCOMING_BUCKET is not set"));
}

#[tokio::test]
async fn ctrl_c_leaves_everything_unsaid() {
    let (lake, _) = chain(&[0, 10]);
    let interrupt = Interrupt::default();
    interrupt.set();
    let context = Context { interrupt, ..lake::context(&lake).await };
    let ended = run(&context, &["audit", "--bucket", IN]).await;
    assert_eq!((ended.code, ended.out.as_str()), (1, ""));
    assert_eq!(ended.err, "error: interrupted before all files were read; nothing was changed\n");
}
