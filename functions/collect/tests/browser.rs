//! A page of another origin that sends JSON with credentials, in a real browser, to the binary of the function.

use std::{collections::BTreeSet, path::Path, process::Command};

use serde_json::{Value, json};

#[test]
#[ignore = "needs Node and a Chromium: make test runs it"]
fn a_page_of_another_origin_sends_json_with_credentials() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/preflight.mjs");
    let ran = Command::new("node").arg(program).arg(env!("CARGO_BIN_EXE_collect")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let found: Value = serde_json::from_slice(&ran.stdout).unwrap();

    assert_eq!(found["read"], json!({"queued": true, "status": 200, "bytes": 43}), "the page may read the answer");
    let mut sent: Vec<&str> = found["hits"].as_array().unwrap().iter().filter_map(|hit| hit["z"].as_str()).collect();
    sent.sort_unstable();
    assert_eq!(sent, ["beacon", "fetch"], "{found}");
    let requests = found["requests"].as_array().unwrap();
    assert!(requests.iter().any(|request| request["method"] == "OPTIONS" && request["status"] == 204), "{found}");
    for request in requests {
        assert_eq!(request["headers"]["Access-Control-Allow-Origin"], request["origin"], "never * with credentials");
        assert_eq!(request["headers"]["Access-Control-Allow-Credentials"], "true");
    }
}

/// What `queue.mjs` prints of a scenario.
struct Seen(Value);

impl Seen {
    /// What is stored, in the order in which it came.
    fn events(&self) -> &[Value] {
        self.0.get("events").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
    }

    /// A text of each event. Empty if it has none.
    fn texts(&self, pointer: &str) -> Vec<&str> {
        let text = |event| Value::pointer(event, pointer).and_then(Value::as_str).unwrap_or_default();
        self.events().iter().map(text).collect()
    }

    /// The stored hits by what they say of themselves: a label, or else the page. Copies of one have the same event id, and two hits
    /// never do.
    fn distinct(&self) -> Vec<String> {
        let labels = self.texts("/request/body/el").into_iter().zip(self.texts("/request/body/dt"));
        let names =
            labels.map(|(label, page)| if label.is_empty() { format!("view of {page}") } else { label.to_owned() });
        let hits: BTreeSet<(String, &str)> = names.zip(self.texts("/event_id")).collect();
        hits.into_iter().map(|(name, _)| name).collect()
    }

    /// Status and time of the requests, which may have had no answer.
    fn requests(&self) -> Vec<(Option<u64>, u64)> {
        let number = |request: &Value, name: &str| request.get(name).and_then(Value::as_u64);
        let requests = self.0.get("requests").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        requests.iter().map(|request| (number(request, "status"), number(request, "ms").unwrap_or_default())).collect()
    }
}

#[test]
#[ignore = "needs Node and a Chromium: make test runs it"]
fn the_snippet_keeps_hits_until_they_are_stored() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/queue.mjs");
    let ran = Command::new("node").arg(program).arg(env!("CARGO_BIN_EXE_collect")).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut found: Value = serde_json::from_slice(&ran.stdout).unwrap();
    let mut seen = |scenario: &str| Seen(found[scenario].take());

    let survives = seen("survives");
    assert_eq!(survives.distinct(), ["kept", "view of first", "view of second"], "503, and then the next page");
    assert_eq!(survives.events().len(), 3, "and none of them twice");
    assert_eq!((&survives.0["waiting"], &survives.0["device"]), (&json!(2), &json!(["collect_cid"])));
    for id in ["/context/client_id", "/visitor_id"] {
        let ids = survives.texts(id);
        assert!(!ids[0].is_empty() && ids == [ids[0]; 3], "{id}: {ids:?}");
    }
    let late = survives.events().iter().find(|event| event["request"]["body"]["el"] == "kept");
    let (time, received) = (&late.unwrap()["hit"]["time"], &late.unwrap()["request"]["timestamp"]);
    assert!(
        received.as_i64().unwrap() - time.as_i64().unwrap() >= 100,
        "its time is that of the hit: {time} {received}"
    );

    let offline = seen("offline");
    let labels = ["eight", "five", "four", "one", "seven", "six", "three", "two"];
    assert_eq!(offline.distinct(), [&labels[..], &["view of first"]].concat());
    assert_eq!(offline.events().len(), 9);
    let pauses: Vec<u64> = offline.requests().windows(2).map(|pair| pair[1].1 - pair[0].1).collect();
    assert!(
        pauses.is_sorted_by(|one, next| *next < 500 || next > one) && pauses.iter().any(|ms| *ms > 1_900),
        "{pauses:?}"
    );

    let large = seen("large");
    let services: BTreeSet<&str> = large.texts("/service/id").into_iter().collect();
    assert_eq!((large.events().len(), services.len()), (3, 2), "the large one is rejected: {services:?}");
    assert!(large.texts("/request/body/el").contains(&"next"), "and the next one is stored");

    let agreed = seen("agreed");
    assert_eq!((&agreed.0["asked"], &agreed.0["device"]), (&json!([]), &json!(["collect_cid"])));
    let mut clients = agreed.texts("/context/client_id");
    clients.dedup();
    assert_eq!(
        (clients.len(), agreed.distinct().len()),
        (2, 4),
        "the visit begins where the visitor was asked: {clients:?}"
    );

    let storageless = seen("storageless");
    assert_eq!(storageless.distinct().len(), 7);

    let throttled = seen("throttled");
    assert_eq!(throttled.events().len(), 2);
    let [(Some(200), _), (Some(429), _), (Some(429), told), (Some(200), back)] = throttled.requests()[..] else {
        panic!("{:?}", throttled.requests())
    };
    assert!(back - told >= 3_000, "as Retry-After says: {} ms", back - told);

    let tabs = seen("tabs");
    let all = ["left 0", "left 1", "left 2", "old", "right 0", "right 1", "right 2", "view of first", "view of left"];
    assert_eq!(tabs.distinct(), [&all[..], &["view of right"]].concat());
    assert_eq!(tabs.0["device"], json!(["collect_cid"]));

    let mut shop = seen("shop");
    let told =
        ["page view", "list", "page view", "detail", "add", "add", "page view", "checkout", "page view", "purchase"];
    assert_eq!(shop.0["told"].take(), json!(told));
    assert!(shop.events().iter().all(|event| event["service"]["id"] == "api.collect"), "no hit is rejected");
    assert_eq!(shop.0["device"], json!([]), "once the visitor no longer agrees");
    let bought = shop.events().iter().find(|event| event["request"]["body"]["pa"] == "purchase").unwrap();
    assert_eq!(bought["products"].as_array().unwrap().len(), 1);
    let product = &bought["products"][0];
    assert_eq!((&product["id"], &product["quantity"], &product["price"]), (&json!("SKU-1"), &json!(2), &json!(19.99)));
    assert_eq!((&bought["request"]["body"]["tr"], &bought["referrer"]["class"]), (&json!("39.98"), &json!("internal")));

    let denied = seen("denied");
    let of_the_page = json!(["collect_store_id"]);
    assert_eq!((&denied.0["before"], &denied.0["after"]), (&json!(["collect_cid", "collect_store_id"]), &of_the_page));
    let nothing_else = json!([of_the_page, of_the_page, of_the_page]);
    assert_eq!(denied.0["devices"], nothing_else, "nothing of a visitor who says no is on the device");
    let clients: BTreeSet<&str> = denied.texts("/context/client_id").into_iter().collect();
    assert_eq!(clients.len(), 5, "and no page knows the id of another: {clients:?}");
    let withdrawn = &denied.events()[1];
    assert_eq!(withdrawn.get("visitor_id"), None);
    assert_eq!(
        (&withdrawn["request"]["body"]["gcs"], &withdrawn["privacy"]["anonymised"]),
        (&json!("G100"), &json!(true))
    );
}

#[test]
#[ignore = "needs Node and a minifier: make test runs it"]
fn the_snippet_has_at_most_a_kilobyte_and_a_half() {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients");
    let script = clients.join("../../examples/collect.js");
    let ran = Command::new("node").arg(clients.join("minified.mjs")).arg(script).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let bytes: usize = String::from_utf8(ran.stdout).unwrap().trim().parse().unwrap();
    assert!((1..=1_536).contains(&bytes), "{bytes} bytes");
}
