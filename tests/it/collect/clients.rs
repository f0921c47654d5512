//! Clients of GA4, unmodified, and the handler behind HTTP: what each of them sends equals what is stored.

use std::{collections::BTreeMap, process::Command, sync::Arc};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Mutex,
};

use super::{App, Stream, invoke, request, wire};
use crate::events::root;

/// A request, and what became of it.
struct Exchange {
    event: Value,
    status: u16,
    /// The lines in the stream.
    stored: Vec<Value>,
}

/// The handler, its stream and what was sent to it so far.
struct Served {
    app: App,
    stream: Stream,
    exchanges: Mutex<Vec<Exchange>>,
}

/// Answers the request of a connection with what the handler answers.
async fn answer(connection: TcpStream, served: &Served) {
    let mut reader = BufReader::new(connection);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    // A browser may open a connection and not use it.
    let Some(first) = lines.first() else { return };
    let [method, target, _] = first.split(' ').collect::<Vec<_>>()[..] else { panic!("{first}") };
    let headers: Vec<(String, &str)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
        .collect();
    let length =
        headers.iter().find(|(name, _)| name == "content-length").map_or(0, |(_, length)| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let event = request(method, path, query, std::str::from_utf8(&body).unwrap(), &headers);
    // One request at a time, so that it is known what is stored of each.
    let mut exchanges = served.exchanges.lock().await;
    let answer = invoke(&served.app, &event).await;
    let stored = served.stream.events();
    served.stream.state().records.clear();
    exchanges.push(Exchange { event, status: answer.status_code, stored });
    let head = format!("HTTP/1.1 {} -\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", answer.status_code);
    reader.write_all(head.as_bytes()).await.unwrap();
}

#[tokio::test]
#[ignore = "needs Node, clients from npm and the Python index, and a Chromium: make test runs it"]
async fn what_unmodified_clients_of_ga4_send_is_stored() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let stream = Stream::default();
    let served = Arc::new(Served { app: stream.app(&[]).await, stream, exchanges: Mutex::default() });
    let serve = async {
        loop {
            let (connection, _) = listener.accept().await.unwrap();
            let served = served.clone();
            tokio::spawn(async move { answer(connection, &served).await });
        }
    };
    let program = root().join("tests/clients/ga4.mjs");
    let clients = tokio::task::spawn_blocking(move || Command::new("node").arg(program).arg(base).output().unwrap());
    let ran = tokio::select! {
        ran = clients => ran.unwrap(),
        () = serve => unreachable!("it serves until the clients have ended"),
    };
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let mut events = BTreeMap::<String, usize>::new();
    for Exchange { event, status, stored } in &*served.exchanges.lock().await {
        assert_eq!(*status, 204, "{event}");
        let sent = wire(event);
        let kept: Vec<BTreeMap<String, Value>> =
            stored.iter().map(|line| serde_json::from_value(line["request"]["body"].clone()).unwrap()).collect();
        assert_eq!(kept, sent);
        for (line, parameters) in stored.iter().zip(&sent) {
            assert_eq!(line["service"]["id"], "api.collect");
            assert_eq!(line["context"]["client_id"], parameters["cid"]);
            let has_items = parameters.contains_key("items") || parameters.contains_key("pr1");
            assert_eq!(line["products"][0]["id"].is_string(), has_items, "{line}");
            let client = parameters["tid"].as_str().unwrap();
            *events.entry(client.to_owned()).or_default() += 1;
        }
    }
    let expected = [("G-DEBUGGER", 2), ("G-ELECTRON", 2), ("G-MINIMAL", 2), ("G-PYTHON", 3)];
    assert_eq!(events, expected.map(|(client, events)| (client.to_owned(), events)).into());
}
