//! A DMAP on TCP with TLS: feeds, files with ranges, and faults. It stops answering when the function under test has died.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use jiff::Timestamp;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// The key of the API at first.
pub(crate) const KEY: &str = "first-k3y";

/// What happens to a request instead of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Status(u16),
    /// This many bytes of the body come, and the connection breaks.
    BreakAfter(usize),
    /// This many bytes of the body come, and then nothing.
    StallAfter(usize),
    Redirect(String),
    /// A body that is not the one that was asked for.
    Body(Vec<u8>),
}

/// A dataset that can be downloaded.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) kind: String,
    pub(crate) identifier: String,
    pub(crate) last_updated: String,
    pub(crate) body: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct State {
    /// By the end of their URLs.
    pub(crate) published: BTreeMap<String, Published>,
    /// Results that are in each answer besides.
    pub(crate) odd: Vec<Value>,
    /// Whether a dataset is named again whose time is the one that is asked for.
    pub(crate) is_exclusive: bool,
    /// What the next requests of a path get, in order.
    pub(crate) faults: BTreeMap<String, Vec<Fault>>,
    /// Whether the server knows ranges.
    pub(crate) knows_ranges: bool,
    /// Whether it sends an `ETag`.
    pub(crate) sends_e_tag: bool,
    pub(crate) key: String,
    /// Where files are, by name and port.
    pub(crate) host: String,
    /// Path and query of each request, with its range.
    pub(crate) requests: Vec<String>,
    /// So many requests are answered, here and by AWS, and then none.
    pub(crate) left: Option<usize>,
}

/// A clone is another handle on the same server.
#[derive(Clone)]
pub(crate) struct Dmap {
    state: Arc<Mutex<State>>,
    port: u16,
    pub(crate) certificate: CertificateDer<'static>,
}

impl Dmap {
    pub(crate) async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let port = listener.local_addr().unwrap().port();
        let (key, host) = (KEY.to_owned(), format!("localhost:{port}"));
        let state = State { key, host, knows_ranges: true, sends_e_tag: true, ..State::default() };
        let server = Self { state: Arc::new(Mutex::new(state)), port, certificate };
        let answering = server.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), answering.clone());
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let mut read = Vec::new();
                    let mut buffer = [0; 4_096];
                    loop {
                        while !read.ends_with(b"\r\n\r\n") {
                            match client.read(&mut buffer).await {
                                Ok(bytes) if bytes > 0 => read.extend_from_slice(&buffer[..bytes]),
                                _ => return,
                            }
                        }
                        let (answer, then) = server.answer(str::from_utf8(&read).unwrap());
                        read.clear();
                        if client.write_all(&answer).await.is_err() || client.flush().await.is_err() {
                            return;
                        }
                        match then {
                            Then::GoOn => {}
                            // A connection that dies without a word of TLS, as those of a server that crashes.
                            Then::Break => return,
                            Then::Stall => sleep(Duration::from_secs(60)).await,
                        }
                    }
                });
            }
        });
        server
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    pub(crate) fn roots<'a>(servers: impl IntoIterator<Item = &'a Self>) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        for server in servers {
            roots.add(server.certificate.clone()).unwrap();
        }
        roots
    }

    /// Publishes a version of a dataset, in place of an earlier one.
    pub(crate) fn publish(&self, identifier: &str, last_updated: &str, body: &[u8]) {
        let (kind, identifier) = ("agg_sample".to_owned(), identifier.to_owned());
        let published = Published { kind, identifier, last_updated: last_updated.to_owned(), body: body.to_vec() };
        self.state().published.insert(published.identifier.clone(), published);
    }

    /// The next requests of a path get these.
    pub(crate) fn fail(&self, path: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state().faults.insert(path.to_owned(), faults.into_iter().collect());
    }

    fn answer(&self, head: &str) -> (Vec<u8>, Then) {
        let mut state = self.state();
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let header = |name: &str| {
            let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
            line.map(|line| line[name.len() + 2..].to_owned())
        };
        let range = header("range");
        state
            .requests
            .push(format!("{target}{}", range.as_deref().map(|range| format!(" {range}")).unwrap_or_default()));
        if let Some(left) = &mut state.left {
            match left.checked_sub(1) {
                None => return (Vec::new(), Then::Stall),
                Some(fewer) => *left = fewer,
            }
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let fault = match state.faults.get_mut(path) {
            Some(faults) if !faults.is_empty() => Some(faults.remove(0)),
            _ => None,
        };
        match fault {
            Some(Fault::Status(status)) => return (text(status, "refused", ""), Then::GoOn),
            Some(Fault::Redirect(to)) => return (text(302, "", &format!("location: {to}\r\n")), Then::GoOn),
            Some(Fault::Body(body)) => return (response(200, &body, ""), Then::GoOn),
            _ => {}
        }
        let (answer, body_bytes) = if path.starts_with("/api/") {
            state.feed(query)
        } else {
            state.file(path, range.as_deref(), header("if-range").as_deref())
        };
        let head_bytes = answer.len() - body_bytes;
        match fault {
            Some(Fault::BreakAfter(bytes)) => (answer[..head_bytes + bytes].to_vec(), Then::Break),
            Some(Fault::StallAfter(bytes)) => (answer[..head_bytes + bytes].to_vec(), Then::Stall),
            _ => (answer, Then::GoOn),
        }
    }
}

/// What happens to the connection after an answer.
enum Then {
    GoOn,
    Break,
    Stall,
}

fn response(status: u16, body: &[u8], headers: &str) -> Vec<u8> {
    let mut response = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}

fn text(status: u16, body: &str, headers: &str) -> Vec<u8> {
    response(status, body.as_bytes(), headers)
}

impl State {
    /// What DMAP answers to a question for datasets, and the size of the body.
    fn feed(&self, query: &str) -> (Vec<u8>, usize) {
        let parameter = |name: &str| {
            let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{name}=")))?;
            Some(percent_encoding::percent_decode_str(value).decode_utf8().unwrap().into_owned())
        };
        if parameter("apikey").as_ref() != Some(&self.key) {
            return (text(403, "the key is wrong", ""), 0);
        }
        let instant = |time: &str| time.parse::<jiff::civil::DateTime>().unwrap();
        let since = parameter("last_updated").map(|time| instant(&time));
        let is_new = |time: &str| match since {
            None => true,
            Some(since) if self.is_exclusive => instant(time) > since,
            Some(since) => instant(time) >= since,
        };
        let named = self.published.values().filter(|published| is_new(&published.last_updated)).map(|published| {
            json!({
                "id": published.kind, "dataset_id": published.identifier, "start_date": "2026-11-19",
                "end_date": "2026-11-19", "last_updated": published.last_updated,
                "url": format!("https://{}/files/{}?signature=s3cret", self.host, published.identifier),
            })
        });
        let results: Vec<Value> = named.chain(self.odd.iter().cloned()).collect();
        let body = json!({"success": true, "results": results}).to_string();
        (text(200, &body, "content-type: application/json\r\n"), body.len())
    }

    /// A file, or the rest of it, and the size of the body.
    fn file(&self, path: &str, range: Option<&str>, if_range: Option<&str>) -> (Vec<u8>, usize) {
        let Some(published) = path.strip_prefix("/files/").and_then(|name| self.published.get(name)) else {
            return (text(404, "", ""), 0);
        };
        let body = &published.body;
        let e_tag = format!("\"{}\"", published.last_updated);
        let mut headers = String::new();
        if self.sends_e_tag {
            write!(headers, "etag: {e_tag}\r\n").unwrap();
        }
        let first = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match first {
            Some(first) if self.knows_ranges && if_range == Some(&e_tag) && first < body.len() => {
                write!(headers, "content-range: bytes {first}-{}/{}\r\n", body.len() - 1, body.len()).unwrap();
                (response(206, &body[first..], &headers), body.len() - first)
            }
            _ => (response(200, body, &headers), body.len()),
        }
    }
}

/// The time in the words of DMAP, which names no zone.
pub(crate) fn at(micros: i64) -> String {
    let time = Timestamp::from_microsecond(1_795_176_000_000_000 + micros).unwrap();
    time.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}
