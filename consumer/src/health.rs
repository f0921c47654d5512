//! Whether the process works, over HTTP: for the health check of a container. It fails only for what a new process might mend.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::ledger::{Ledger, State};

/// How long the broker may be away. An outage of it is not mended by a new process, but a stuck resolver would be.
const AWAY: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of a request that are read.
const MOST_BYTES: usize = 4_096;

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, ledger: Arc<Ledger>) {
    loop {
        if let Ok((stream, _)) = listener.accept().await {
            let ledger = ledger.clone();
            drop(tokio::spawn(async move { timeout(TIMEOUT, answer(stream, &ledger)).await }));
        }
    }
}

async fn answer(mut stream: TcpStream, ledger: &Ledger) -> std::io::Result<()> {
    let mut request = vec![0; MOST_BYTES];
    let mut length = 0;
    while !request.get(..length).unwrap_or_default().windows(4).any(|end| end == b"\r\n\r\n") {
        let Some(rest) = request.get_mut(length..).filter(|rest| !rest.is_empty()) else { break };
        match stream.read(rest).await? {
            0 => break,
            read => length += read,
        }
    }
    let (status, body) = if request.starts_with(b"GET /health ") {
        verdict(ledger.state())
    } else {
        ("404 Not Found", "{\"error\":\"ask for /health\"}".to_owned())
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await
}

fn verdict(state: State) -> (&'static str, String) {
    let is_well = state.disconnected.is_none_or(|since| since < AWAY);
    let body = json!({
        "connected": state.disconnected.is_none(),
        "disconnected_seconds": state.disconnected.map(|since| since.as_secs()),
        "in_flight": state.in_flight,
        "oldest_in_flight_seconds": state.oldest.as_secs(),
    });
    (if is_well { "200 OK" } else { "503 Service Unavailable" }, body.to_string())
}

/// Asks the process on this machine, which a container without a shell and curl does by the program itself.
pub async fn ask(port: u16) -> Result<String, String> {
    let question = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let answer = match timeout(TIMEOUT, question).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(cause)) => return Err(format!("port {port} of this machine does not answer: {cause}")),
        Err(_) => return Err(format!("port {port} of this machine does not answer within {} s", TIMEOUT.as_secs())),
    };
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).to_owned();
    if answer.starts_with("HTTP/1.1 200 ") { Ok(body) } else { Err(body) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Gate;

    #[test]
    fn a_process_is_unwell_when_the_broker_was_away_for_five_minutes() {
        let of = |disconnected: Option<u64>| {
            let state = State {
                in_flight: 3,
                oldest: Duration::from_secs(7),
                disconnected: disconnected.map(Duration::from_secs),
            };
            verdict(state)
        };
        assert_eq!(of(None).0, "200 OK");
        assert_eq!(of(Some(299)).0, "200 OK");
        assert_eq!(of(Some(300)).0, "503 Service Unavailable");
        let body: serde_json::Value = serde_json::from_str(&of(Some(300)).1).unwrap();
        assert_eq!(body["in_flight"], 3);
    }

    #[tokio::test]
    async fn the_program_asks_itself() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(tokio::spawn(serve(listener, Arc::new(Ledger::new(Gate::new(1))))));
        let body = ask(port).await.unwrap();
        assert!(body.contains("\"connected\":false"), "{body}");
        assert!(ask(1).await.unwrap_err().contains("port 1 of this machine does not answer"));
    }
}
