//! One request: routed, read, validated, stored, answered. An answer of 200 means that every hit that the answer does
//! not call invalid is in the stream.

use std::time::Duration;

use bytes::Bytes;
use runtime::{clock, metrics};
use serde::Serialize;
use shared::metrics::{CountsByReason, Metrics, Unit};
use tracing::{error, info};

use crate::{
    FUNCTION,
    answer::{self, Answer},
    app::App,
    body::{self, BodyError, Read},
    config::Config,
    event::{self, Event, Received},
    request::{self, Request, RequestError},
    stream::{self, Stored},
    validate::{self, HitParsingResult, ParserMessage},
};

/// What is kept of the invocation's time to answer.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Why an invocation fails: only when there is nobody to answer.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The event is no request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// An answer could not be written as JSON.
    #[error("the answer could not be written as JSON")]
    Answer(#[from] serde_json::Error),
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Collect,
    Batch,
    Debug,
    Health,
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/collect" => Some(Self::Collect),
            "/batch" => Some(Self::Batch),
            "/debug/collect" => Some(Self::Debug),
            "/health" => Some(Self::Health),
            _ => None,
        }
    }

    const fn methods(self) -> &'static str {
        match self {
            Self::Collect => "GET, HEAD, POST, OPTIONS",
            Self::Batch => "POST, OPTIONS",
            Self::Debug => "GET, POST, OPTIONS",
            Self::Health => "GET, HEAD, OPTIONS",
        }
    }
}

/// What one request did, in numbers.
#[derive(Debug, Default)]
struct Tally {
    stored: Stored,
    hits_stored: usize,
    invalid: usize,
    anonymised: usize,
    redacted: usize,
    rejected: CountsByReason,
}

/// Why a request is refused.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    detail: &'a str,
}

/// The hits of a request that are not stored, because they break the protocol's rules.
#[derive(Serialize)]
struct Verdict {
    stored: usize,
    invalid: Vec<Invalid>,
}

/// A hit that is not stored.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Invalid {
    /// Its position in the request, from 0.
    index: usize,
    parser_message: Vec<ParserMessage>,
}

/// Answers one request.
///
/// `deadline_ms`: when the invocation ends, in milliseconds since 1970-01-01T00:00:00Z.
pub async fn handle(app: &App, event: Bytes, deadline_ms: u64) -> Result<Answer, HandleError> {
    let request = request::read(&event)?;
    let time = clock::remaining(deadline_ms).saturating_sub(LAST_WORDS).min(app.config.delivery);
    let mut tally = Tally::default();
    let answer = respond(app, &request, time, &mut tally).await?;
    tally.report(answer.status_code);
    Ok(answer::with_cors(answer, &app.config, &request).for_method(&request.method))
}

async fn respond(app: &App, request: &Request<'_>, time: Duration, tally: &mut Tally) -> Result<Answer, HandleError> {
    let Some(route) = Route::of(&request.path) else {
        let detail = "there are /collect, /batch, /debug/collect and /health";
        return Ok(Answer::json(404, &Refusal { error: "not_found", detail })?);
    };
    let methods = route.methods();
    if request.method == "OPTIONS" {
        return Ok(answer::preflight(&app.config, request, methods));
    }
    if methods.split(", ").all(|method| method != request.method) {
        let refusal = Refusal { error: "method_not_allowed", detail: methods };
        return Ok(Answer::json(405, &refusal)?.with("Allow", methods));
    }
    if route == Route::Health {
        return Ok(Answer::empty(204));
    }
    let read = match body::hits(&request.body, request.is_base64, &request.query, route == Route::Batch) {
        Ok(read) => read,
        Err(error) => {
            tally.rejected.add(error.reason());
            let status =
                if matches!(error, BodyError::TooLarge { .. } | BodyError::TooManyHits(_)) { 413 } else { 400 };
            return refuse(request, status, &Refusal { error: error.reason(), detail: &error.to_string() });
        }
    };
    if route == Route::Debug {
        let results: Vec<HitParsingResult> = read.iter().map(|read| judge(&request.path, read)).collect();
        return Ok(Answer::document(200, validate::debug_document(&results)));
    }
    store(app, request, &read, time, tally).await
}

/// What `/debug/collect` says of a hit.
fn judge(path: &str, (rules, hit): &Read) -> HitParsingResult {
    match hit {
        Ok(hit) => HitParsingResult::new(path, hit, validate::validate(hit, *rules)),
        Err(error) => HitParsingResult::unreadable(path, *error),
    }
}

/// Stores the valid hits and says which are not.
async fn store(
    app: &App,
    request: &Request<'_>,
    read: &[Read],
    time: Duration,
    tally: &mut Tally,
) -> Result<Answer, HandleError> {
    let (events, invalid) = events(&app.config, request, read);
    tally.invalid = invalid.len();
    tally.anonymised = events.iter().filter(|event| event.anonymised).count();
    tally.redacted = events.iter().map(|event| event.redacted).sum();
    tally.stored = stream::put(&app.kinesis, &app.config.stream, &events, time).await;
    tally.hits_stored = events.len() - tally.stored.failed.len();
    if !tally.stored.failed.is_empty() {
        error!(hits = tally.stored.failed.len(), "hits not stored, the client is told to come again");
        let detail = "the stream does not take hits at the moment; send the same request again";
        return Ok(refuse(request, 503, &Refusal { error: "unavailable", detail })?.with("Retry-After", "1"));
    }
    if invalid.is_empty() {
        return Ok(Answer::pixel(200));
    }
    let status = if events.is_empty() { 400 } else { 200 };
    refuse(request, status, &Verdict { stored: events.len(), invalid })
}

/// The valid hits as they are stored, and what is wrong with the others.
#[must_use]
pub fn events(config: &Config, request: &Request<'_>, read: &[Read]) -> (Vec<Event>, Vec<Invalid>) {
    let mut events: Vec<Event> = Vec::with_capacity(read.len());
    let mut invalid: Vec<Invalid> = Vec::new();
    let origin = answer::allowed_origin(config, request).unwrap_or_default();
    let headers = [("Content-Type", "image/gif"), ("Access-Control-Allow-Origin", &*origin)];
    let headers = if origin.is_empty() { &headers[..1] } else { &headers };
    let answered = event::Answer { status: 200, headers };
    let received = Received {
        time_ms: request.time_ms,
        source_ip: Some(&*request.source_ip).filter(|address| !address.is_empty()),
        user_agent: request.header("user-agent"),
        hostname: &request.hostname,
        path: &request.path,
        method: &request.method,
        headers: &request.headers,
    };
    for (index, (rules, hit)) in read.iter().enumerate() {
        let messages = match hit {
            Ok(hit) => validate::validate(hit, *rules),
            Err(error) => vec![ParserMessage::from(*error)],
        };
        match hit {
            Ok(hit) if validate::is_valid(&messages) => {
                events.push(event::event(hit, &received, &answered, config.opt_out));
            }
            _ => invalid.push(Invalid { index, parser_message: messages }),
        }
    }
    (events, invalid)
}

/// JSON that says why; but an `<img>` gets a picture, whatever it says.
fn refuse(request: &Request<'_>, status: u16, why: &impl Serialize) -> Result<Answer, HandleError> {
    let accepts_image = request.header("accept").is_some_and(|accept| accept.starts_with("image/"));
    Ok(if accepts_image && request.method == "GET" { Answer::pixel(status) } else { Answer::json(status, why)? })
}

impl Tally {
    /// Logs what was not stored, without anything that a client sent, and prints the metrics. Requests are many, and every
    /// line of a log is paid for: one that is stored whole is a line, one that does nothing is none.
    fn report(&self, status: u16) {
        let not_stored = self.stored.failed.len();
        if status >= 400 || self.invalid > 0 {
            info!(status, hits = self.hits_stored, invalid = self.invalid, not_stored, "request not stored as a whole");
        }
        let all = Metrics::of(FUNCTION)
            .put("hits_stored", Unit::Count, self.hits_stored)
            .put("hits_invalid", Unit::Count, self.invalid)
            .put("hits_not_stored", Unit::Count, not_stored)
            .put("records_retried", Unit::Count, self.stored.retried)
            .put("bytes_stored", Unit::Bytes, self.stored.bytes)
            .put("hits_anonymised", Unit::Count, self.anonymised)
            .put("values_redacted", Unit::Count, self.redacted);
        let rejected = self.rejected.metrics(FUNCTION, "requests_rejected");
        metrics::print(all.without_zeros().into_iter().chain(rejected));
    }
}
