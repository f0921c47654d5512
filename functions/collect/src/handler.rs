//! One request, from top to bottom: routed, parsed, validated, stored, answered. A response of 200 means that every hit is in
//! the stream, except those that the response names as invalid.

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
    event::{self, Event},
    request::{self, Request, RequestError},
    stream::{self, Stored},
    validate::validate,
    verdict::{self, HitParsingResult, ParserMessage},
};

/// Time of the invocation that is reserved for the response.
const RESPONSE_RESERVE: Duration = Duration::from_millis(500);

/// Why an invocation fails instead of answering the request.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("an event or an answer could not be serialised as JSON")]
    Json(#[from] serde_json::Error),
}

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

/// The numbers of one request, for log and metrics.
#[derive(Debug, Default)]
struct Tally {
    stored: Stored,
    hits_stored: usize,
    invalid: usize,
    anonymised: usize,
    redacted: usize,
    rejected: CountsByReason,
}

/// The body of a response that refuses the whole request.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    detail: &'a str,
}

/// The body of a response when some hits break the rules of the protocol.
#[derive(Serialize)]
struct Verdict {
    stored: usize,
    invalid: Vec<Invalid>,
}

/// A hit that is not stored because it breaks the rules.
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
    let time = clock::remaining(deadline_ms).saturating_sub(RESPONSE_RESERVE).min(app.config.delivery);
    let mut tally = Tally::default();
    let answer = respond(app, &request, time, &mut tally).await?;
    tally.report(&app.config.stack, answer.status_code);
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
        let results: Vec<HitParsingResult> = read.iter().map(|read| explain(&request.path, read)).collect();
        return Ok(Answer::document(200, verdict::debug_document(&results)));
    }
    store(app, request, &read, time, tally).await
}

/// What `/debug/collect` says about a hit.
fn explain(path: &str, (rules, hit): &Read) -> HitParsingResult {
    match hit {
        Ok(hit) => HitParsingResult::new(path, hit, validate(hit, *rules)),
        Err(error) => HitParsingResult::unreadable(path, *error),
    }
}

/// Stores the valid hits. The response names the others.
async fn store(
    app: &App,
    request: &Request<'_>,
    read: &[Read],
    time: Duration,
    tally: &mut Tally,
) -> Result<Answer, HandleError> {
    let (events, invalid) = events(&app.config, request, read)?;
    tally.invalid = invalid.len();
    tally.anonymised = events.iter().filter(|event| event.anonymised).count();
    tally.redacted = events.iter().map(|event| event.redacted).sum();
    tally.stored = stream::put(&app.kinesis, &app.config.stream, &events, time).await;
    tally.hits_stored = events.len() - tally.stored.failed.len();
    if !tally.stored.failed.is_empty() {
        error!(hits = tally.stored.failed.len(), "hits not stored, the client is told to retry");
        let detail = "the stream does not accept hits at the moment; send the same request again";
        return Ok(refuse(request, 503, &Refusal { error: "unavailable", detail })?.with("Retry-After", "1"));
    }
    if invalid.is_empty() {
        return Ok(Answer::pixel(200));
    }
    let status = if events.is_empty() { 400 } else { 200 };
    refuse(request, status, &Verdict { stored: events.len(), invalid })
}

/// The events of the valid hits, and what is wrong with the others.
pub fn events(
    config: &Config,
    request: &Request<'_>,
    read: &[Read],
) -> Result<(Vec<Event>, Vec<Invalid>), serde_json::Error> {
    let mut events: Vec<Event> = Vec::with_capacity(read.len());
    let mut invalid: Vec<Invalid> = Vec::new();
    let origin = answer::allowed_origin(config, request).unwrap_or_default();
    let headers = [("Content-Type", "image/gif"), ("Access-Control-Allow-Origin", &*origin)];
    let headers = if origin.is_empty() { &headers[..1] } else { &headers };
    let response = event::Response { status: 200, headers };
    for (index, (rules, hit)) in read.iter().enumerate() {
        let messages = match hit {
            Ok(hit) => validate(hit, *rules),
            Err(error) => vec![ParserMessage::from(*error)],
        };
        match hit {
            Ok(hit) if verdict::is_valid(&messages) => {
                events.push(event::event(hit, request, &response, config.opt_out)?);
            }
            _ => invalid.push(Invalid { index, parser_message: messages }),
        }
    }
    Ok((events, invalid))
}

/// JSON that says why the request is refused, or an image if that is all that the client accepts.
fn refuse(request: &Request<'_>, status: u16, why: &impl Serialize) -> Result<Answer, HandleError> {
    let accepts_image = request.header("accept").is_some_and(|accept| accept.starts_with("image/"));
    Ok(if accepts_image && request.method == "GET" { Answer::pixel(status) } else { Answer::json(status, why)? })
}

impl Tally {
    /// Logs what was not stored, without quoting the request, and prints the metrics. Every line of a log is billed, so a
    /// request whose hits are all stored writes one line, and a request without hits writes none.
    fn report(&self, stack: &str, status: u16) {
        let not_stored = self.stored.failed.len();
        if status >= 400 || self.invalid > 0 {
            info!(status, hits = self.hits_stored, invalid = self.invalid, not_stored, "request not stored completely");
        }
        let all = Metrics::of(stack, FUNCTION)
            .put("hits_stored", Unit::Count, self.hits_stored)
            .put("hits_invalid", Unit::Count, self.invalid)
            .put("hits_not_stored", Unit::Count, not_stored)
            .put("records_retried", Unit::Count, self.stored.retried)
            .put("bytes_stored", Unit::Bytes, self.stored.bytes)
            .put("hits_anonymised", Unit::Count, self.anonymised)
            .put("values_redacted", Unit::Count, self.redacted);
        let rejected = self.rejected.metrics(stack, FUNCTION, "requests_rejected");
        metrics::print(all.without_zeros().into_iter().chain(rejected));
    }
}
