//! One request, from top to bottom: routed, parsed, validated, stored, answered. A response of 200 means that every hit is in
//! the stream, or in the queue from which it gets there. So are those that the response names as invalid, and what could be read of a request that is refused: marked
//! as rejected.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_lambda_events::event::sqs::SqsBatchResponse;
use bytes::Bytes;
use runtime::{clock, metrics};
use serde::Serialize;
use shared::metrics::{CountsByReason, Metrics, Unit};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::{
    FUNCTION,
    answer::{self, Answer},
    app::App,
    body::{self, BodyError, Read, Refused, Takes},
    config::Config,
    cookie::{self, Visitor},
    event::{self, Event},
    hit::Hit,
    overflow::{self, Message},
    privacy,
    request::{self, Request, RequestError},
    stream::{self, Stored},
    verdict::{self, HitParsingResult, ParserMessage},
};

/// Time of the invocation that is reserved for the response.
const RESPONSE_RESERVE: Duration = Duration::from_millis(500);
/// How long hits go to the overflow at once after Kinesis took none of a request.
const REST: Duration = Duration::from_secs(5);

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
    /// What gtag.js sends.
    Ga4,
    /// Payloads of the GA4 Measurement Protocol.
    Payload,
    Debug,
    DebugPayload,
    Health,
}

impl Route {
    /// The route of a path, with or without the configured prefix, which may be the first part of a path itself.
    fn of(path: &str, prefix: &str) -> Option<Self> {
        let rest = || path.strip_prefix(prefix).filter(|rest| rest.starts_with('/'));
        Self::named(path).or_else(|| Self::named(rest()?))
    }

    fn named(path: &str) -> Option<Self> {
        match path.trim_end_matches('/') {
            "/collect" | "/r/collect" | "/j/collect" => Some(Self::Collect),
            "/batch" => Some(Self::Batch),
            "/g/collect" => Some(Self::Ga4),
            "/mp/collect" => Some(Self::Payload),
            "/debug/collect" => Some(Self::Debug),
            "/debug/mp/collect" => Some(Self::DebugPayload),
            "/health" => Some(Self::Health),
            _ => None,
        }
    }

    const fn methods(self) -> &'static str {
        match self {
            Self::Collect => "GET, HEAD, POST, OPTIONS",
            Self::Batch | Self::Payload | Self::DebugPayload => "POST, OPTIONS",
            Self::Ga4 | Self::Debug => "GET, POST, OPTIONS",
            Self::Health => "GET, HEAD, OPTIONS",
        }
    }

    /// What it takes.
    fn takes(self, config: &Config) -> Takes<'_> {
        match self {
            Self::Batch => Takes::Batch,
            Self::Ga4 => Takes::Ga4,
            Self::Payload | Self::DebugPayload => Takes::Payload { secrets: &config.api_secrets },
            Self::Collect | Self::Debug | Self::Health => Takes::Hit,
        }
    }
}

/// The numbers of one request, for log and metrics.
#[derive(Debug, Default)]
struct Tally {
    stored: Stored,
    hits_stored: usize,
    /// Hits that break no rule, stored or not.
    valid: usize,
    overflowed: usize,
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

/// A hit that breaks the rules.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Invalid {
    /// Its position in the request, from 0.
    index: usize,
    parser_message: Vec<ParserMessage>,
}

/// What an invocation returns: the answer to a request, or which messages of the overflow have to be delivered again.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Response {
    Answer(Answer),
    Batch(SqsBatchResponse),
}

/// Handles an event, of a gateway or of the overflow.
pub async fn dispatch(app: &App, event: Bytes, deadline_ms: u64) -> Result<Response, HandleError> {
    match overflow::read(&event) {
        Some(messages) => Ok(Response::Batch(restore(app, messages, deadline_ms).await)),
        None => Ok(Response::Answer(handle(app, event, deadline_ms).await?)),
    }
}

/// Puts hits of the overflow on the stream. Those that it does not take stay in the queue.
pub async fn restore(app: &App, messages: Vec<Message>, deadline_ms: u64) -> SqsBatchResponse {
    let until = Instant::now() + clock::remaining(deadline_ms).saturating_sub(RESPONSE_RESERVE);
    let (mut ids, mut events, mut back) = (Vec::new(), Vec::new(), Vec::new());
    for Message { id, event } in messages {
        match event {
            Some(event) => {
                ids.push(id);
                events.push(event);
            }
            None => back.push(id),
        }
    }
    let stored = stream::put(&app.kinesis, &app.config.stream, &events, until).await;
    if !back.is_empty() || !stored.failed.is_empty() {
        warn!(foreign = back.len(), not_stored = stored.failed.len(), "messages of the overflow stay in the queue");
    }
    let restored = events.len() - stored.failed.len();
    back.extend(stored.failed.iter().filter_map(|at| ids.get(*at).cloned()));
    let all = Metrics::of(&app.config.stack, FUNCTION)
        .put("hits_restored", Unit::Count, restored)
        .put("records_retried", Unit::Count, stored.retried)
        .put("bytes_stored", Unit::Bytes, stored.bytes);
    metrics::print(all.without_zeros());
    lambda::returning(back)
}

/// Answers one request.
///
/// `deadline_ms`: when the invocation ends, in milliseconds since 1970-01-01T00:00:00Z.
pub async fn handle(app: &App, event: Bytes, deadline_ms: u64) -> Result<Answer, HandleError> {
    let mut request = request::read(&event)?.behind(app.config.trusted_proxies);
    let place = (app.config.cookie_days > 0).then(|| cookie::unite(&event, &mut request));
    let visitor = place.map(|_| cookie::visitor(&request));
    let time = clock::remaining(deadline_ms).saturating_sub(RESPONSE_RESERVE).min(app.config.delivery);
    let mut tally = Tally::default();
    let answer = respond(app, &request, visitor.as_ref(), time, &mut tally).await?;
    tally.report(&app.config.stack, answer.status_code);
    let opts_out = tally.anonymised > 0;
    let answer = match (place, visitor) {
        (Some(place), Some(visitor)) if opts_out || tally.valid > 0 => {
            cookie::answered(answer, &visitor, opts_out, app.config.cookie_days, place)
        }
        _ => answer,
    };
    Ok(answer::with_cors(answer, &app.config, &request).for_method(&request.method))
}

async fn respond(
    app: &App,
    request: &Request<'_>,
    visitor: Option<&Visitor>,
    time: Duration,
    tally: &mut Tally,
) -> Result<Answer, HandleError> {
    let Some(route) = Route::of(&request.path, &app.config.path_prefix) else {
        let detail =
            "there are /collect, /batch, /g/collect, /mp/collect, /debug/collect, /debug/mp/collect and /health";
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
        return Ok(Answer::empty());
    }
    let takes = route.takes(&app.config);
    let read = match body::hits(&request.body, request.is_base64, &request.query, takes) {
        Ok(read) => read,
        Err(refused) => {
            let (reason, detail) = (refused.error.reason(), refused.error.to_string());
            let message = ParserMessage::from(&refused.error);
            tally.rejected.add(reason);
            let is_large = matches!(refused.error, BodyError::TooLarge { .. } | BodyError::TooManyHits { .. });
            let status = if is_large { 413 } else { 400 };
            if !matches!(route, Route::Debug | Route::DebugPayload) && !refused.rest.is_empty() {
                let event = rejected(&app.config, request, visitor, status, refused)?;
                if let Some(unavailable) = put(app, request, &[event], time, tally).await? {
                    return Ok(unavailable);
                }
            }
            if route == Route::DebugPayload {
                return Ok(Answer::document(status, verdict::validation_document(&[vec![message]])));
            }
            return refuse(request, status, &Refusal { error: reason, detail: &detail });
        }
    };
    if route == Route::Debug {
        let results: Vec<HitParsingResult> =
            read.iter().map(|read| HitParsingResult::new(&request.path, read)).collect();
        return Ok(Answer::document(200, verdict::debug_document(&results)));
    }
    if route == Route::DebugPayload {
        let judged: Vec<_> = read.iter().map(verdict::judge).collect();
        return Ok(Answer::document(200, verdict::validation_document(&judged)));
    }
    store(app, request, visitor, &read, time, tally).await
}

/// Stores the hits. The response names those that break the rules.
async fn store(
    app: &App,
    request: &Request<'_>,
    visitor: Option<&Visitor>,
    read: &[Read],
    time: Duration,
    tally: &mut Tally,
) -> Result<Answer, HandleError> {
    let (events, invalid) = events(&app.config, request, visitor, read)?;
    if let Some(unavailable) = put(app, request, &events, time, tally).await? {
        return Ok(unavailable);
    }
    if invalid.is_empty() {
        // As Google answers: version 1 with a pixel, GA4 without a body.
        return Ok(if is_ga4(read) { Answer::empty() } else { Answer::pixel(200) });
    }
    let stored = read.len() - invalid.len();
    refuse(request, status(stored == 0), &Verdict { stored, invalid })
}

/// Puts events on the stream. Returns an answer if not all of them are stored.
async fn put(
    app: &App,
    request: &Request<'_>,
    events: &[Event],
    time: Duration,
    tally: &mut Tally,
) -> Result<Option<Answer>, HandleError> {
    tally.invalid = events.iter().filter(|event| event.is_rejected).count();
    tally.valid = events.len() - tally.invalid;
    tally.anonymised = events.iter().filter(|event| event.anonymised).count();
    tally.redacted = events.iter().map(|event| event.redacted).sum();
    tally.stored = deliver(app, events, time, &mut tally.overflowed).await;
    let stored = events.iter().enumerate().filter(|(at, _)| !tally.stored.failed.contains(at));
    tally.hits_stored = stored.filter(|(_, event)| !event.is_rejected).count();
    if tally.stored.failed.is_empty() {
        return Ok(None);
    }
    error!(hits = tally.stored.failed.len(), "hits not stored, the client is told to retry");
    let detail = "hits cannot be stored at the moment; send the same request again";
    let refusal = refuse(request, 503, &Refusal { error: "unavailable", detail })?;
    // A page of another origin may read only headers that are named.
    Ok(Some(refusal.with("Retry-After", "1").with("Access-Control-Expose-Headers", "Retry-After")))
}

/// Stores events in the stream, or else in the overflow.
async fn deliver(app: &App, events: &[Event], time: Duration, overflowed: &mut usize) -> Stored {
    let now = Instant::now();
    let Some(queue) = &app.config.overflow else {
        return stream::put(&app.kinesis, &app.config.stream, events, now + time).await;
    };
    let is_resting = lock(&app.resting).is_some_and(|until| now < until);
    let for_stream = if is_resting { Duration::ZERO } else { time * 3 / 5 };
    let mut stored = match is_resting {
        true => Stored { failed: (0..events.len()).collect(), ..Stored::default() },
        false => stream::put(&app.kinesis, &app.config.stream, events, now + for_stream).await,
    };
    if !is_resting {
        let is_down = !events.is_empty() && stored.failed.len() == events.len();
        *lock(&app.resting) = is_down.then(|| Instant::now() + REST);
    }
    if stored.failed.is_empty() {
        return stored;
    }
    let missing = stored.failed.len();
    stored.failed = overflow::send(&app.sqs, queue, events, std::mem::take(&mut stored.failed), now + time).await;
    // While the queue is down as well, the next request tries the stream again.
    if !stored.failed.is_empty() {
        *lock(&app.resting) = None;
    }
    *overflowed = missing - stored.failed.len();
    stored
}

fn lock(resting: &Mutex<Option<Instant>>) -> MutexGuard<'_, Option<Instant>> {
    resting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The events of hits, in order, and what is wrong with those that are rejected. A new visitor gets an id if a hit is valid and none opts
/// out.
pub fn events(
    config: &Config,
    request: &Request<'_>,
    visitor: Option<&Visitor>,
    read: &[Read],
) -> Result<(Vec<Event>, Vec<Invalid>), serde_json::Error> {
    let mut events: Vec<Event> = Vec::with_capacity(read.len());
    let mut invalid: Vec<Invalid> = Vec::new();
    let judged: Vec<_> = read.iter().map(|read| (read, verdict::judge(read))).collect();
    let all_invalid = judged.iter().all(|(_, messages)| !verdict::is_valid(messages));
    let opts_out = |hit: &Hit| privacy::decide(hit, &request.headers, config.policy(hit)).anonymise;
    let visitor =
        visitor.filter(|visitor| visitor.is_known || (!all_invalid && !read.iter().any(|read| opts_out(&read.hit))));
    let origin = answer::allowed_origin(config, request);
    let (success, content_type) = if is_ga4(read) { (204, None) } else { (200, Some("image/gif")) };
    let accepted = event::Response::new(success, content_type, origin.as_deref());
    let rejected = event::Response::new(status(all_invalid), Some(refusal_type(request)), origin.as_deref());
    for (index, (read, messages)) in judged.into_iter().enumerate() {
        let is_valid = verdict::is_valid(&messages);
        let response = if is_valid { &accepted } else { &rejected };
        events.push(event::event(read, &messages, request, response, config, visitor)?);
        if !is_valid {
            invalid.push(Invalid { index, parser_message: messages });
        }
    }
    Ok((events, invalid))
}

/// The event of a request that is refused as a whole.
fn rejected(
    config: &Config,
    request: &Request<'_>,
    visitor: Option<&Visitor>,
    status: u16,
    refused: Refused,
) -> Result<Event, serde_json::Error> {
    let origin = answer::allowed_origin(config, request);
    let response = event::Response::new(status, Some(refusal_type(request)), origin.as_deref());
    let messages = [ParserMessage::from(&refused.error)];
    let visitor = visitor.filter(|visitor| visitor.is_known);
    event::event(&Read::of_refused(refused), &messages, request, &response, config, visitor)
}

/// Whether the client speaks GA4.
fn is_ga4(read: &[Read]) -> bool {
    read.first().is_some_and(|read| !read.protocol.is_v1())
}

/// The status of a response to hits that are stored.
const fn status(all_invalid: bool) -> u16 {
    if all_invalid { 400 } else { 200 }
}

/// JSON that says why the request is refused, or an image if that is all that the client accepts.
fn refuse(request: &Request<'_>, status: u16, why: &impl Serialize) -> Result<Answer, HandleError> {
    Ok(if accepts_images_only(request) { Answer::pixel(status) } else { Answer::json(status, why)? })
}

/// The content type of such an answer.
fn refusal_type(request: &Request<'_>) -> &'static str {
    if accepts_images_only(request) { "image/gif" } else { "application/json" }
}

fn accepts_images_only(request: &Request<'_>) -> bool {
    request.method == "GET" && request.header("accept").is_some_and(|accept| accept.starts_with("image/"))
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
            .put("hits_overflowed", Unit::Count, self.overflowed)
            .put("hits_not_stored", Unit::Count, not_stored)
            .put("records_retried", Unit::Count, self.stored.retried)
            .put("bytes_stored", Unit::Bytes, self.stored.bytes)
            .put("hits_anonymised", Unit::Count, self.anonymised)
            .put("values_redacted", Unit::Count, self.redacted);
        let rejected = self.rejected.metrics(stack, FUNCTION, "requests_rejected");
        metrics::print(all.without_zeros().into_iter().chain(rejected));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_hides_no_path() {
        for (path, prefix, route) in [
            ("/t/collect", "/t", Some(Route::Collect)),
            ("/collect/", "/t", Some(Route::Collect)),
            ("/tcollect", "/t", None),
            ("/mp/collect", "/mp", Some(Route::Payload)),
            ("/mp/mp/collect", "/mp", Some(Route::Payload)),
            ("/g/collect", "/g", Some(Route::Ga4)),
            ("/g/batch", "/g", Some(Route::Batch)),
            ("/debug/mp/collect", "/debug", Some(Route::DebugPayload)),
            ("/debug/collect", "/debug", Some(Route::Debug)),
        ] {
            assert_eq!(Route::of(path, prefix), route, "{path} under {prefix}");
        }
    }
}
