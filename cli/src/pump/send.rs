//! Requests go out side by side, are sent again while there is hope, and every hit is counted once: it is accepted,
//! rejected or given up.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jiff::fmt::rfc2822;
use runtime::{clock, failure::chain};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::{
    dice::Dice,
    hit::Kind,
    latency::Latencies,
    request::{Request, RequestError, Target},
};
use crate::context::Interrupt;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait that a server may ask for with `Retry-After`.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How soon Ctrl-C is noticed while a request waits for its turn.
const LOOK: Duration = Duration::from_millis(50);

/// How hits are sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Requests that are under way side by side.
    pub concurrency: usize,
    /// Most hits that are begun in a second; those that are sent again are not counted.
    pub hits_per_second: Option<u32>,
    /// How often a request is sent again at the most.
    pub retries: u32,
    /// The wait before the first retry. It doubles for each other, and half of it is left to chance.
    pub backoff: Duration,
    /// How long an answer is waited for.
    pub answer_timeout: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            concurrency: 16,
            hits_per_second: None,
            retries: 4,
            backoff: Duration::from_millis(200),
            answer_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It was answered with this status.
    Status(u16),
    /// It was not answered.
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

/// Numbers of things by their cause.
pub type ByCause = BTreeMap<Cause, u64>;

/// What was sent and what became of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Hits by the place of their kind in [`Kind::ALL`].
    pub sent: [u64; Kind::ALL.len()],
    /// Requests, each counted once however often it was sent.
    pub requests: u64,
    /// Hits that were answered with a status of success.
    pub accepted: u64,
    /// Hits that were refused for good.
    pub rejected: ByCause,
    /// Requests that were sent again, once for each time.
    pub retried: ByCause,
    /// Hits that were sent again in vain, or not any more.
    pub given_up: ByCause,
    /// Sessions of which a hit was sent.
    pub sessions: HashSet<u64>,
    /// How long answers took, whatever they said.
    pub latencies: Latencies,
    /// What the network said last.
    pub network: Option<String>,
}

impl Counts {
    /// All hits that were sent.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sent.iter().sum()
    }

    fn begin(&mut self, request: &Request) {
        self.requests += 1;
        for hit in &request.hits {
            if let Some(sent) = self.sent.get_mut(hit.kind.index()) {
                *sent += 1;
            }
            self.sessions.insert(hit.session);
        }
    }
}

/// Why sending ended before the hits did.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Someone pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// No request has ever been answered.
    #[error("nothing answers: {0}")]
    NoAnswer(String),
    /// There is no next hit.
    #[error(transparent)]
    Request(#[from] RequestError),
}

/// An answer, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    retry_after: Option<Duration>,
}

/// Whom requests are sent to.
#[derive(Debug, Clone)]
pub struct Sender {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    target: Target,
    pace: Pace,
}

/// The system's certificates cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be used: {0}")]
pub struct TlsError(#[from] io::Error);

impl Sender {
    /// A client with connections that are kept.
    pub fn new(target: Target, pace: Pace) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = HttpsConnectorBuilder::new();
        let builder = if target.is_https() {
            builder.with_provider_and_native_roots(provider)?
        } else {
            // Nobody is trusted where nobody is asked.
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

    /// Sends a request once. An answer that breaks off is none.
    async fn ask(&self, request: &Request) -> Result<Answer, String> {
        let request = request.to_http(&self.target).map_err(|error| chain(&error))?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let answer = Answer { status: response.status(), retry_after: retry_after(response.headers()) };
            // Read to its end, so that the connection can be used again.
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                frame.map_err(|error| chain(&error))?;
            }
            Ok(answer)
        };
        match tokio::time::timeout(self.pace.answer_timeout, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} s", self.pace.answer_timeout.as_secs())),
        }
    }
}

/// How long the server asks to wait: seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?.as_millisecond();
    Some(Duration::from_millis(u64::try_from(then - clock::unix_ms()).unwrap_or(0)))
}

/// Sends all requests, and tells `progress` of each that is done. Gives back also why it ended early.
pub async fn send<I, P>(requests: I, sender: &Sender, interrupt: &Interrupt, progress: P) -> (Counts, Option<Stop>)
where
    I: Iterator<Item = Result<Request, RequestError>>,
    P: Fn(&Request, &Counts),
{
    let state = RefCell::new(State { requests, turn: Instant::now(), counts: Counts::default(), stop: None });
    let run = Run { sender, interrupt, progress, state };
    join_all((0..sender.pace.concurrency).map(|_| run.work())).await;
    let State { counts, stop, .. } = run.state.into_inner();
    (counts, stop)
}

/// What the workers share. It is never borrowed while something is waited for.
struct State<I> {
    requests: I,
    turn: Instant,
    counts: Counts,
    stop: Option<Stop>,
}

struct Run<'a, I, P> {
    sender: &'a Sender,
    interrupt: &'a Interrupt,
    progress: P,
    state: RefCell<State<I>>,
}

impl<I, P> Run<'_, I, P>
where
    I: Iterator<Item = Result<Request, RequestError>>,
    P: Fn(&Request, &Counts),
{
    async fn work(&self) {
        while let Some((request, turn)) = self.take() {
            if !self.sleep_until(turn).await {
                break;
            }
            self.deliver(&request).await;
            (self.progress)(&request, &self.state.borrow().counts);
        }
    }

    /// The next request and when it is its turn.
    fn take(&self) -> Option<(Request, Instant)> {
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
        let turn = state.turn.max(Instant::now());
        if let Some(hits_per_second) = self.sender.pace.hits_per_second {
            state.turn = turn + Duration::from_secs(request.hits.len() as u64) / hits_per_second.max(1);
        }
        Some((request, turn))
    }

    /// Waits, and says whether to go on.
    async fn sleep_until(&self, then: Instant) -> bool {
        loop {
            if self.interrupt.is_set() {
                self.state.borrow_mut().stop.get_or_insert(Stop::Interrupted);
                return false;
            }
            if matches!(self.state.borrow().stop, Some(Stop::NoAnswer(_))) {
                return false;
            }
            let left = then.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            tokio::time::sleep(left.min(LOOK)).await;
        }
    }

    /// Sends a request until its hits are accepted, rejected or given up.
    async fn deliver(&self, request: &Request) {
        let mut dice = {
            let counts = &mut self.state.borrow_mut().counts;
            counts.begin(request);
            Dice::new(0, counts.requests)
        };
        let hits = request.hits.len() as u64;
        let mut backoff = self.sender.pace.backoff;
        for retries_left in (0..=self.sender.pace.retries).rev() {
            let began = Instant::now();
            let answer = self.sender.ask(request).await;
            let took = began.elapsed();
            let mut is_silent = false;
            let (cause, asked) = {
                let counts = &mut self.state.borrow_mut().counts;
                match answer {
                    Ok(Answer { status, retry_after }) => {
                        counts.latencies.add(took);
                        let cause = Cause::Status(status.as_u16());
                        match status {
                            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => (cause, retry_after),
                            status if status.is_success() => {
                                counts.accepted += hits;
                                return;
                            }
                            _ => {
                                *counts.rejected.entry(cause).or_default() += hits;
                                return;
                            }
                        }
                    }
                    Err(said) => {
                        // Who has never answered, and lets us wait, is not waited for five times.
                        is_silent = counts.latencies.number() == 0 && took >= self.sender.pace.answer_timeout;
                        counts.network = Some(said);
                        (Cause::Network, None)
                    }
                }
            };
            let chance = backoff.mul_f64(dice.below(1_000) as f64 / 2_000.0);
            let wait = asked.map_or(backoff / 2, |asked| asked.min(LONGEST_WAIT)) + chance;
            backoff *= 2;
            if !is_silent && retries_left > 0 && self.sleep_until(Instant::now() + wait).await {
                *self.state.borrow_mut().counts.retried.entry(cause).or_default() += 1;
                continue;
            }
            self.give_up(hits, cause);
            return;
        }
    }

    fn give_up(&self, hits: u64, cause: Cause) {
        let State { counts, stop, .. } = &mut *self.state.borrow_mut();
        *counts.given_up.entry(cause).or_default() += hits;
        // Whoever mistyped a host should not wait for a thousand hits.
        if let (0, None, Some(said)) = (counts.latencies.number(), &stop, &counts.network) {
            *stop = Some(Stop::NoAnswer(said.clone()));
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        collections::VecDeque,
        sync::{
            Mutex,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::pump::{
        dataset::DatasetError,
        hit::Hit,
        request::{Encoding, Packing, Requests},
        traffic::Traffic,
    };

    /// What a server does with a request.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Does {
        /// Answers with a status and a header line.
        Answers(u16, &'static str),
        /// Closes the connection instead.
        Closes,
        /// Answers with a status and breaks off in the body.
        BreaksOff(u16),
    }

    pub(crate) const OK: Does = Does::Answers(200, "");

    /// A server on a port of this machine that does one thing after the other, and then answers 200.
    pub(crate) struct Server {
        pub(crate) url: String,
        pub(crate) requests: Arc<Mutex<Vec<String>>>,
        pub(crate) connections: Arc<AtomicUsize>,
    }

    pub(crate) async fn server(script: Vec<Does>) -> Server {
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

    async fn serve(mut stream: TcpStream, script: Arc<Mutex<VecDeque<Does>>>, requests: Arc<Mutex<Vec<String>>>) {
        let mut bytes = Vec::new();
        while let Some(request) = receive(&mut stream, &mut bytes).await {
            requests.lock().unwrap().push(request);
            let does = script.lock().unwrap().pop_front().unwrap_or(OK);
            let answer = match does {
                Does::Closes => return,
                Does::Answers(status, header) => format!("HTTP/1.1 {status} X\r\n{header}content-length: 3\r\n\r\nGIF"),
                Does::BreaksOff(status) => format!("HTTP/1.1 {status} X\r\ncontent-length: 3\r\n\r\nG"),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
            if matches!(does, Does::BreaksOff(_)) {
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
        send(requests, &sender, &Interrupt::default(), |_, _| ()).await
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
        assert_eq!((counts.accepted, counts.requests, counts.latencies.number()), (200, 200, 200));
        assert_eq!(server.connections.load(Ordering::Relaxed), 1);
        assert_eq!(counts.retried, ByCause::new());
        let expected = hits(200).map(|hit| hit.unwrap().parameters.to_form()).collect::<Vec<_>>();
        let requests = server.requests.lock().unwrap();
        let bodies: Vec<&str> = requests.iter().map(|request| request.split_once("\r\n\r\n").unwrap().1).collect();
        assert_eq!(bodies, expected);
    }

    #[tokio::test]
    async fn a_503_and_then_a_200_is_one_retry() {
        for does in [Does::Answers(503, ""), Does::Answers(429, "retry-after: 0\r\n")] {
            let server = server(vec![OK, does]).await;
            let (counts, stop) = sent(&server, 3, pace()).await;
            let Does::Answers(status, _) = does else { panic!() };
            assert!(stop.is_none() && adds_up(&counts));
            assert_eq!((counts.accepted, counts.retried), (3, by_cause([(Cause::Status(status), 1)])));
            assert_eq!(server.requests.lock().unwrap().len(), 4);
        }
    }

    #[tokio::test]
    async fn other_statuses_are_rejections_and_not_sent_again() {
        let script = [400, 404, 400, 500, 302].map(|status| Does::Answers(status, "")).to_vec();
        let server = server(script).await;
        let (counts, _) = sent(&server, 6, pace()).await;
        let status = Cause::Status;
        assert_eq!(counts.rejected, by_cause([(status(302), 1), (status(400), 2), (status(404), 1), (status(500), 1)]));
        assert!(adds_up(&counts) && counts.accepted == 1);
        assert_eq!(server.requests.lock().unwrap().len(), 6);
    }

    #[tokio::test]
    async fn a_hit_is_given_up_after_the_last_retry() {
        let server = server(vec![Does::Answers(503, ""); 5]).await;
        let (counts, stop) = sent(&server, 2, pace()).await;
        assert!(stop.is_none() && adds_up(&counts));
        assert_eq!(counts.given_up, by_cause([(Cause::Status(503), 1)]));
        assert_eq!((counts.accepted, counts.retried), (1, by_cause([(Cause::Status(503), 4)])));
    }

    #[tokio::test]
    async fn a_connection_that_is_closed_early_is_a_retry() {
        for does in [Does::Closes, Does::BreaksOff(200)] {
            let server = server(vec![does]).await;
            let (counts, stop) = sent(&server, 2, pace()).await;
            assert!(stop.is_none() && adds_up(&counts), "{does:?} {stop:?}");
            assert_eq!((counts.accepted, counts.retried), (2, by_cause([(Cause::Network, 1)])));
        }
    }

    #[tokio::test]
    async fn retry_after_is_waited_for() {
        let server = server(vec![Does::Answers(503, "retry-after: 1\r\n")]).await;
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
    async fn counts_add_up_when_a_server_has_moods() {
        let moods = [
            OK,
            Does::Answers(503, ""),
            Does::Closes,
            Does::Answers(400, ""),
            Does::BreaksOff(503),
            Does::Answers(429, ""),
        ];
        let mut dice = Dice::new(1, 1);
        let script: Vec<Does> = (0..900).map(|_| moods[dice.below(moods.len())]).collect();
        let server = server(script).await;
        let (counts, stop) = sent(&server, 400, Pace { concurrency: 16, ..pace() }).await;
        assert!(stop.is_none() && adds_up(&counts), "{stop:?} {counts:?}");
        assert_eq!((counts.total(), counts.requests), (400, 400));
        assert!(counts.accepted > 0 && !counts.rejected.is_empty() && !counts.given_up.is_empty());
        let retried: u64 = counts.retried.values().sum();
        // The client itself sends again what a connection had closed before it was sent.
        assert!(server.requests.lock().unwrap().len() as u64 >= 400 + retried);
    }

    #[tokio::test]
    async fn who_never_answers_is_not_asked_a_thousand_times() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/collect", listener.local_addr().unwrap());
        drop(listener);
        let nobody = Server { url, requests: Arc::default(), connections: Arc::default() };
        let (counts, stop) = sent(&nobody, 1_000, Pace { concurrency: 4, ..pace() }).await;
        let said = stop.unwrap().to_string();
        assert!(said.starts_with("nothing answers: ") && said.contains("refused"), "{said}");
        assert!(adds_up(&counts) && counts.total() <= 8, "{counts:?}");
    }

    #[tokio::test]
    async fn who_is_silent_is_waited_for_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/collect", listener.local_addr().unwrap());
        let silent = Server { url, requests: Arc::default(), connections: Arc::default() };
        let pace = Pace { answer_timeout: Duration::from_millis(100), ..pace() };
        let (counts, stop) = sent(&silent, 1_000, pace).await;
        assert!(matches!(stop, Some(Stop::NoAnswer(_))) && adds_up(&counts), "{stop:?}");
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
    async fn ctrl_c_lets_what_is_under_way_end() {
        let server = server(vec![]).await;
        let sender = Sender::new(server.url.parse().unwrap(), Pace { concurrency: 4, ..pace() }).unwrap();
        let interrupt = Interrupt::default();
        let requests = Requests::new(hits(10_000), Packing::Single(Encoding::Query));
        let press = |_: &Request, counts: &Counts| {
            if counts.accepted >= 50 {
                interrupt.set();
            }
        };
        let (counts, stop) = send(requests, &sender, &interrupt, press).await;
        assert!(matches!(stop, Some(Stop::Interrupted)) && adds_up(&counts));
        assert!((50..60).contains(&counts.accepted) && counts.given_up.is_empty(), "{counts:?}");
    }
}
