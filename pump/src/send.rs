//! Sends requests concurrently, retries what may succeed later, and counts every hit exactly once: as accepted, rejected
//! or given up.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    error::Error,
    fmt, io, iter,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::{Timestamp, fmt::rfc2822};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::{
    hit::Kind,
    random::Random,
    request::{Request, RequestError, Target},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A longer `Retry-After` is cut to this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How often a request that waits for its turn checks for Ctrl-C.
const INTERRUPT_CHECK: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests in flight.
    pub concurrency: usize,
    /// Retries are not limited by this.
    pub hits_per_second: Option<u32>,
    pub max_retries: u32,
    /// Pause before the first retry. It doubles with each retry; half of it is random.
    pub backoff: Duration,
    pub response_timeout: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            concurrency: 16,
            hits_per_second: None,
            max_retries: 4,
            backoff: Duration::from_millis(200),
            response_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    Status(u16),
    /// There was no complete response.
    Network,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Network => f.write_str("network"),
        }
    }
}

pub type ByCause = BTreeMap<Cause, u64>;

#[derive(Debug, Clone)]
pub struct Counts {
    /// Hits that were sent.
    pub sent: BTreeMap<Kind, u64>,
    /// Requests, each counted once however often it was retried.
    pub requests: u64,
    /// Hits in requests that were answered with a status of 200 to 299.
    pub accepted: u64,
    /// Hits in requests that were answered with a status that is not retried.
    pub rejected: ByCause,
    /// Retries of requests.
    pub retried: ByCause,
    /// Hits in requests whose retries all failed or were interrupted.
    pub given_up: ByCause,
    pub sessions: HashSet<u64>,
    /// Latency of every response, whatever its status, in microseconds.
    pub latency_us: Histogram<u64>,
    pub last_network_error: Option<String>,
}

impl Default for Counts {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "it fails for more than 5 significant digits only")]
        let latency_us = Histogram::new(3).expect("a histogram of 3 significant digits");
        Self {
            sent: Kind::ALL.into_iter().map(|kind| (kind, 0)).collect(),
            requests: 0,
            accepted: 0,
            rejected: ByCause::new(),
            retried: ByCause::new(),
            given_up: ByCause::new(),
            sessions: HashSet::new(),
            latency_us,
            last_network_error: None,
        }
    }
}

impl Counts {
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sent.values().sum()
    }

    fn begin(&mut self, request: &Request) {
        self.requests += 1;
        for (kind, session) in &request.hits {
            *self.sent.entry(*kind).or_default() += 1;
            self.sessions.insert(*session);
        }
    }
}

/// Why sending ended before all hits were sent.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    #[error("interrupted")]
    Interrupted,
    /// No request has ever been answered.
    #[error("the server does not respond: {0}")]
    NoResponse(String),
    #[error(transparent)]
    Request(#[from] RequestError),
}

#[derive(Debug, Clone)]
pub struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Target,
    pace: Pace,
}

#[derive(Debug, thiserror::Error)]
#[error("the system's root certificates cannot be used: {0}")]
pub struct TlsError(#[from] io::Error);

impl Sender {
    /// A client that keeps its connections open.
    pub fn new(target: Target, pace: Pace) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = HttpsConnectorBuilder::new();
        let builder = if target.is_https() {
            builder.with_provider_and_native_roots(provider)?
        } else {
            // Plain HTTP must work on a machine without root certificates.
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            builder.with_tls_config(config)
        };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let connector = builder.https_or_http().enable_http1().wrap_connector(connector);
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(pace.concurrency).build(connector);
        Ok(Self { client, target, pace })
    }

    /// Sends a request once and reads the response to its end, so that the connection can be used again.
    async fn send(&self, request: &Request) -> Result<(StatusCode, Option<Duration>), String> {
        let request = request.to_http(&self.target).map_err(|error| root_cause(&error))?;
        let response = async {
            let response = self.client.request(request).await.map_err(|error| root_cause(&error))?;
            let (head, body) = response.into_parts();
            body.collect().await.map_err(|error| root_cause(&error))?;
            Ok((head.status, retry_after(&head.headers)))
        };
        match tokio::time::timeout(self.pace.response_timeout, response).await {
            Ok(response) => response,
            Err(_) => Err(format!("no response within {} s", self.pace.response_timeout.as_secs())),
        }
    }
}

/// The innermost error, which says more than those around it: "Connection refused", not "client error (Connect)".
fn root_cause(error: &(dyn Error + 'static)) -> String {
    iter::successors(Some(error), |error| (*error).source()).last().unwrap_or(error).to_string()
}

/// The pause that `Retry-After` demands, as seconds or as a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    #[expect(clippy::disallowed_methods, reason = "a date says how long to wait only in relation to the clock")]
    let now = Timestamp::now();
    Some(date.duration_since(now).try_into().unwrap_or_default())
}

/// Sends all requests and calls `on_progress` after each. Returns the counts and, if it ended early, why.
pub async fn send<I, P>(requests: I, sender: &Sender, interrupt: &AtomicBool, on_progress: P) -> (Counts, Option<Stop>)
where
    I: Iterator<Item = Result<Request, RequestError>>,
    P: Fn(&Counts),
{
    let state = RefCell::new(State { requests, next_start: Instant::now(), counts: Counts::default(), stop: None });
    let run = Run { sender, interrupt, on_progress, state };
    join_all((0..sender.pace.concurrency).map(|_| run.work())).await;
    let State { counts, stop, .. } = run.state.into_inner();
    (counts, stop)
}

/// What the workers share. No borrow may be held across an `await`.
struct State<I> {
    requests: I,
    next_start: Instant,
    counts: Counts,
    stop: Option<Stop>,
}

struct Run<'a, I, P> {
    sender: &'a Sender,
    interrupt: &'a AtomicBool,
    on_progress: P,
    state: RefCell<State<I>>,
}

impl<I, P> Run<'_, I, P>
where
    I: Iterator<Item = Result<Request, RequestError>>,
    P: Fn(&Counts),
{
    async fn work(&self) {
        while let Some((request, start)) = self.next() {
            if !self.sleep_until(start).await {
                break;
            }
            self.deliver(&request).await;
            (self.on_progress)(&self.state.borrow().counts);
        }
    }

    /// The next request and when to start it.
    fn next(&self) -> Option<(Request, Instant)> {
        let mut state = self.state.borrow_mut();
        if state.stop.is_some() {
            return None;
        }
        let request = match state.requests.next()? {
            Ok(request) => request,
            Err(error) => {
                state.stop = Some(error.into());
                return None;
            }
        };
        let start = state.next_start.max(Instant::now());
        if let Some(hits_per_second) = self.sender.pace.hits_per_second {
            state.next_start = start + Duration::from_secs(request.hits.len() as u64) / hits_per_second.max(1);
        }
        Some((request, start))
    }

    /// Sleeps. Returns false as soon as nothing more is to be sent.
    async fn sleep_until(&self, until: Instant) -> bool {
        loop {
            if self.interrupt.load(Ordering::Relaxed) {
                self.state.borrow_mut().stop.get_or_insert(Stop::Interrupted);
                return false;
            }
            if matches!(self.state.borrow().stop, Some(Stop::NoResponse(_))) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            tokio::time::sleep(left.min(INTERRUPT_CHECK)).await;
        }
    }

    /// Sends a request until its hits are accepted, rejected or given up.
    async fn deliver(&self, request: &Request) {
        let mut random = {
            let counts = &mut self.state.borrow_mut().counts;
            counts.begin(request);
            Random::new(0, counts.requests)
        };
        let hits = request.hits.len() as u64;
        let mut backoff = self.sender.pace.backoff;
        for retries_left in (0..=self.sender.pace.max_retries).rev() {
            let began = Instant::now();
            let response = self.sender.send(request).await;
            let Some(Retry { cause, after, is_worthwhile }) = self.count(response, began.elapsed(), hits) else {
                return;
            };
            let jitter = backoff.mul_f64(random.below(1_000) as f64 / 2_000.0);
            let pause = after.map_or(backoff / 2, |after| after.min(MAX_RETRY_AFTER)) + jitter;
            backoff *= 2;
            if is_worthwhile && retries_left > 0 && self.sleep_until(Instant::now() + pause).await {
                *self.state.borrow_mut().counts.retried.entry(cause).or_default() += 1;
                continue;
            }
            return self.give_up(hits, cause);
        }
    }

    /// Counts a response. `None` when its hits are accepted or rejected.
    fn count(
        &self,
        response: Result<(StatusCode, Option<Duration>), String>,
        latency: Duration,
        hits: u64,
    ) -> Option<Retry> {
        let counts = &mut self.state.borrow_mut().counts;
        let (status, after) = match response {
            Ok(response) => response,
            Err(error) => {
                // A server that has never responded and lets requests time out would cost five timeouts for each hit.
                let is_silent = counts.latency_us.is_empty() && latency >= self.sender.pace.response_timeout;
                counts.last_network_error = Some(error);
                return Some(Retry { cause: Cause::Network, after: None, is_worthwhile: !is_silent });
            }
        };
        counts.latency_us.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        let cause = Cause::Status(status.as_u16());
        match status {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                return Some(Retry { cause, after, is_worthwhile: true });
            }
            status if status.is_success() => counts.accepted += hits,
            _ => *counts.rejected.entry(cause).or_default() += hits,
        }
        None
    }

    fn give_up(&self, hits: u64, cause: Cause) {
        let State { counts, stop, .. } = &mut *self.state.borrow_mut();
        *counts.given_up.entry(cause).or_default() += hits;
        // With a mistyped host, no request will ever succeed.
        if let (true, None, Some(error)) = (counts.latency_us.is_empty(), &stop, &counts.last_network_error) {
            *stop = Some(Stop::NoResponse(error.clone()));
        }
    }
}

/// A request that was not accepted but may be later.
struct Retry {
    cause: Cause,
    after: Option<Duration>,
    is_worthwhile: bool,
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        collections::VecDeque,
        sync::{Mutex, atomic::AtomicUsize},
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::{
        dataset::DatasetError,
        hit::Hit,
        request::{Encoding, Packing, Requests},
        traffic::Traffic,
    };

    /// How a server reacts to a request.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Reaction {
        /// A status and a header line.
        Respond(u16, &'static str),
        /// The connection is closed instead of a response.
        Close,
        /// The connection is closed in the middle of the response's body.
        Truncate(u16),
    }

    pub(crate) const OK: Reaction = Reaction::Respond(200, "");

    /// A server on a local port that reacts as its script says, and with 200 after the end of the script.
    pub(crate) struct Server {
        pub(crate) url: String,
        pub(crate) requests: Arc<Mutex<Vec<String>>>,
        pub(crate) connections: Arc<AtomicUsize>,
    }

    pub(crate) async fn server(script: Vec<Reaction>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            url: format!("http://{}/collect", listener.local_addr().unwrap()),
            requests: Arc::default(),
            connections: Arc::default(),
        };
        let (requests, connections) = (server.requests.clone(), server.connections.clone());
        let script = Arc::new(Mutex::new(VecDeque::from(script)));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, script.clone(), requests.clone()));
            }
        });
        server
    }

    async fn serve(mut stream: TcpStream, script: Arc<Mutex<VecDeque<Reaction>>>, requests: Arc<Mutex<Vec<String>>>) {
        let mut bytes = Vec::new();
        while let Some(request) = receive(&mut stream, &mut bytes).await {
            requests.lock().unwrap().push(request);
            let reaction = script.lock().unwrap().pop_front().unwrap_or(OK);
            let response = match reaction {
                Reaction::Close => return,
                Reaction::Respond(status, header) => {
                    format!("HTTP/1.1 {status} X\r\n{header}content-length: 3\r\n\r\nGIF")
                }
                Reaction::Truncate(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 3\r\n\r\nG"),
            };
            stream.write_all(response.as_bytes()).await.unwrap();
            if matches!(reaction, Reaction::Truncate(_)) {
                return;
            }
        }
    }

    /// Head and body of the next request.
    async fn receive(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<String> {
        loop {
            let text = String::from_utf8_lossy(bytes).into_owned();
            if let Some((head, _)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let end = head.len() + 4 + length.map_or(0, |length| length.parse::<usize>().unwrap());
                if bytes.len() >= end {
                    bytes.drain(..end);
                    return Some(text[..end].to_owned());
                }
            }
            if stream.read_buf(bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    fn pace() -> Pace {
        Pace { concurrency: 1, backoff: Duration::from_millis(2), ..Pace::default() }
    }

    fn hits(number: usize) -> impl Iterator<Item = Result<Hit, DatasetError>> {
        Traffic::new(1).take(number).map(Ok)
    }

    async fn sent(server: &Server, number: usize, pace: Pace) -> (Counts, Option<Stop>) {
        let sender = Sender::new(server.url.parse().unwrap(), pace).unwrap();
        let requests = Requests::new(hits(number), Packing::Single(Encoding::Form));
        send(requests, &sender, &AtomicBool::new(false), |_| ()).await
    }

    fn adds_up(counts: &Counts) -> bool {
        let sum = |by_cause: &ByCause| by_cause.values().sum::<u64>();
        counts.accepted + sum(&counts.rejected) + sum(&counts.given_up) == counts.total()
    }

    fn by_cause<const N: usize>(pairs: [(Cause, u64); N]) -> ByCause {
        pairs.into()
    }

    #[tokio::test]
    async fn all_are_accepted_over_one_connection() {
        let server = server(vec![]).await;
        let (counts, stop) = sent(&server, 200, pace()).await;
        assert!(stop.is_none() && adds_up(&counts));
        assert_eq!((counts.accepted, counts.requests, counts.latency_us.len()), (200, 200, 200));
        assert_eq!(server.connections.load(Ordering::Relaxed), 1);
        assert_eq!(counts.retried, ByCause::new());
        let expected = hits(200).map(|hit| hit.unwrap().parameters.to_form()).collect::<Vec<_>>();
        let requests = server.requests.lock().unwrap();
        let bodies: Vec<&str> = requests.iter().map(|request| request.split_once("\r\n\r\n").unwrap().1).collect();
        assert_eq!(bodies, expected);
    }

    #[tokio::test]
    async fn a_503_followed_by_a_200_is_one_retry() {
        for reaction in [Reaction::Respond(503, ""), Reaction::Respond(429, "retry-after: 0\r\n")] {
            let server = server(vec![OK, reaction]).await;
            let (counts, stop) = sent(&server, 3, pace()).await;
            let Reaction::Respond(status, _) = reaction else { panic!() };
            assert!(stop.is_none() && adds_up(&counts));
            assert_eq!((counts.accepted, counts.retried), (3, by_cause([(Cause::Status(status), 1)])));
            assert_eq!(server.requests.lock().unwrap().len(), 4);
        }
    }

    #[tokio::test]
    async fn other_statuses_are_rejections_and_not_retried() {
        let script = [400, 404, 400, 500, 302].map(|status| Reaction::Respond(status, "")).to_vec();
        let server = server(script).await;
        let (counts, _) = sent(&server, 6, pace()).await;
        let status = Cause::Status;
        assert_eq!(counts.rejected, by_cause([(status(302), 1), (status(400), 2), (status(404), 1), (status(500), 1)]));
        assert!(adds_up(&counts) && counts.accepted == 1);
        assert_eq!(server.requests.lock().unwrap().len(), 6);
    }

    #[tokio::test]
    async fn a_hit_is_given_up_after_the_last_retry() {
        let server = server(vec![Reaction::Respond(503, ""); 5]).await;
        let (counts, stop) = sent(&server, 2, pace()).await;
        assert!(stop.is_none() && adds_up(&counts));
        assert_eq!(counts.given_up, by_cause([(Cause::Status(503), 1)]));
        assert_eq!((counts.accepted, counts.retried), (1, by_cause([(Cause::Status(503), 4)])));
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_early_is_a_retry() {
        for reaction in [Reaction::Close, Reaction::Truncate(200)] {
            let server = server(vec![reaction]).await;
            let (counts, stop) = sent(&server, 2, pace()).await;
            assert!(stop.is_none() && adds_up(&counts), "{reaction:?} {stop:?}");
            assert_eq!((counts.accepted, counts.retried), (2, by_cause([(Cause::Network, 1)])));
        }
    }

    #[tokio::test]
    async fn retry_after_is_waited_for() {
        let server = server(vec![Reaction::Respond(503, "retry-after: 1\r\n")]).await;
        let began = Instant::now();
        let (counts, _) = sent(&server, 1, pace()).await;
        assert!(began.elapsed() >= Duration::from_secs(1));
        assert_eq!(counts.accepted, 1);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(read("Fri, 01 Jan 2100 00:00:00 GMT").unwrap() > Duration::from_secs(1_000_000));
        assert_eq!((read("soon"), retry_after(&HeaderMap::new())), (None, None));
    }

    #[tokio::test]
    async fn counts_add_up_with_an_unreliable_server() {
        let reactions = [
            OK,
            Reaction::Respond(503, ""),
            Reaction::Close,
            Reaction::Respond(400, ""),
            Reaction::Truncate(503),
            Reaction::Respond(429, ""),
        ];
        let mut random = Random::new(1, 1);
        let script: Vec<Reaction> = (0..900).map(|_| reactions[random.below(reactions.len())]).collect();
        let server = server(script).await;
        let (counts, stop) = sent(&server, 400, Pace { concurrency: 16, ..pace() }).await;
        assert!(stop.is_none() && adds_up(&counts), "{stop:?} {counts:?}");
        assert_eq!((counts.total(), counts.requests), (400, 400));
        assert!(counts.accepted > 0 && !counts.rejected.is_empty() && !counts.given_up.is_empty());
        let retried: u64 = counts.retried.values().sum();
        // hyper itself retries a request on a connection that was closed before the request was sent.
        assert!(server.requests.lock().unwrap().len() as u64 >= 400 + retried);
    }

    #[tokio::test]
    async fn an_unreachable_server_ends_the_run() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/collect", listener.local_addr().unwrap());
        drop(listener);
        let unreachable = Server { url, requests: Arc::default(), connections: Arc::default() };
        let (counts, stop) = sent(&unreachable, 1_000, Pace { concurrency: 4, ..pace() }).await;
        let stop = stop.unwrap().to_string();
        assert!(stop.starts_with("the server does not respond: ") && stop.contains("refused"), "{stop}");
        assert!(adds_up(&counts) && counts.total() <= 8, "{counts:?}");
    }

    #[tokio::test]
    async fn a_silent_server_ends_the_run_after_one_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/collect", listener.local_addr().unwrap());
        let silent = Server { url, requests: Arc::default(), connections: Arc::default() };
        let pace = Pace { response_timeout: Duration::from_millis(100), ..pace() };
        let (counts, stop) = sent(&silent, 1_000, pace).await;
        assert!(matches!(stop, Some(Stop::NoResponse(_))) && adds_up(&counts), "{stop:?}");
        assert_eq!((counts.total(), counts.retried), (1, ByCause::new()));
    }

    #[tokio::test]
    async fn a_rate_is_kept() {
        let server = server(vec![]).await;
        let began = Instant::now();
        let (counts, _) = sent(&server, 30, Pace { hits_per_second: Some(100), concurrency: 8, ..pace() }).await;
        assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
        assert_eq!(counts.accepted, 30);
    }

    #[tokio::test]
    async fn after_ctrl_c_requests_in_flight_are_finished() {
        let server = server(vec![]).await;
        let sender = Sender::new(server.url.parse().unwrap(), Pace { concurrency: 4, ..pace() }).unwrap();
        let interrupt = AtomicBool::new(false);
        let requests = Requests::new(hits(10_000), Packing::Single(Encoding::Query));
        let on_progress = |counts: &Counts| {
            if counts.accepted >= 50 {
                interrupt.store(true, Ordering::Relaxed);
            }
        };
        let (counts, stop) = send(requests, &sender, &interrupt, on_progress).await;
        assert!(matches!(stop, Some(Stop::Interrupted)) && adds_up(&counts));
        assert!((50..60).contains(&counts.accepted) && counts.given_up.is_empty(), "{counts:?}");
    }
}
