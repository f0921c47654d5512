//! A page of another origin that sends JSON with credentials, in a real browser, to the binary of the function.

use std::{path::Path, process::Command};

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
