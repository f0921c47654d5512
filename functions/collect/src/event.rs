//! A hit → the event that is stored: one line of JSON.
//!
//! `line` has the format. `event_id` is a hash of the stored parameters, the time of the hit, its request and its position there, so
//! that equal hits are different events, and a repeated invocation gives the same ones. If the client says which hit it
//! is (see `names_itself`) by something that can be stored, neither the time nor the request nor `qt` is part of the hash: a beacon that is sent again and a page that a
//! browser restores give the same id. Without a client id, what a client says may be what another one says, so then the stored address
//! and user agent are part of it. A `z` of the hit's own also stands for its position, because a client may put the hit into another
//! batch when it sends it again.
//!
//! A rejected hit has the same members, another `service.id`, and the reasons.
//!
//! Nothing here reads the clock: the response has the time of the request.

mod identity;
mod line;

use std::{borrow::Cow, fmt};

pub(crate) use line::object;

use self::{
    identity::{Identity, Parameters, names_itself},
    line::{Context, HitSummary, Line, Privacy, Service, StoredRequest, StoredResponse},
};
use crate::{
    agents,
    body::Read,
    campaign::campaign,
    config::{Clicks, Config, Partition},
    cookie::Visitor,
    headers,
    hints::hints,
    hit::Hit,
    privacy::{self, Cleaner},
    products::products,
    referrer::referrer,
    request::Request,
    validate::{MOST_QUEUE_MS, ga4::micros},
    verdict::{self, ParserMessage},
};

/// Most characters of a partition key. Source: `PutRecordsRequestEntry`, Amazon Kinesis API reference.
const MOST_KEY_CHARS: usize = 256;

/// How long before the request an event of a payload may have happened. Source: "Send Measurement Protocol events", Google Analytics
/// developer guides.
const MOST_BACKDATED_MS: i64 = 72 * 60 * 60 * 1_000;

/// The response to the request if the event is stored.
#[derive(Debug, Clone)]
pub struct Response<'a> {
    status: u16,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Response<'a> {
    /// `origin` is the origin whose pages may read it.
    #[must_use]
    pub fn new(status: u16, content_type: Option<&'a str>, origin: Option<&'a str>) -> Self {
        let content_type = content_type.map(|content_type| ("Content-Type", content_type));
        let origin = origin.map(|origin| ("Access-Control-Allow-Origin", origin));
        Self { status, headers: content_type.into_iter().chain(origin).collect() }
    }
}

/// What goes to the stream.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// JSON and a newline. Below 1 MiB, whatever the hit.
    pub line: Vec<u8>,
    /// The client id; or the event id if there is no client id, if it must not be stored, if it is too long, or if the setting
    /// says so.
    pub partition_key: String,
    /// Number of secrets that were replaced.
    pub redacted: usize,
    /// Whether addresses were shortened and the user id was dropped.
    pub anonymised: bool,
    /// Whether the hit breaks the rules of its protocol.
    pub is_rejected: bool,
}

/// Shows sizes only, so that no part of the event ends up in a log.
impl fmt::Debug for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, redacted, anonymised, .. } = self;
        formatter
            .debug_struct("Event")
            .field("bytes", &line.len())
            .field("redacted", redacted)
            .field("anonymised", anonymised)
            .finish()
    }
}

/// Builds the event of a hit. `messages` say what is wrong with it, `visitor` is who sent it if that is known or will be.
pub fn event(
    read: &Read,
    messages: &[ParserMessage],
    request: &Request<'_>,
    response: &Response<'_>,
    config: &Config,
    visitor: Option<&Visitor>,
) -> Result<Event, serde_json::Error> {
    let hit = &read.hit;
    let is_rejected = !verdict::is_valid(messages);
    let decision = privacy::decide(hit, &request.headers, config.policy(hit));
    let mut cleaner = Cleaner::new(decision, hit, &request.source_ip, &request.headers);
    if config.click_ids == Clicks::Drop {
        cleaner = cleaner.without_click_ids();
    }
    let clean = cleaner.hit(hit);
    let text = |name: &str| clean.get(name).filter(|text| !text.is_empty());

    let time = time_ms(&clean, request.time_ms);
    let parameters = Parameters::of(&clean)?;
    let user_agent = text("ua")
        .map(Cow::Borrowed)
        .or_else(|| request.header("user-agent").map(|user_agent| cleaner.user_agent(user_agent)));
    let user_ip =
        text("uip").or_else(|| text("_uip")).map(Cow::Borrowed).or_else(|| cleaner.address(&request.source_ip));
    // What had to be cleaned is the same for many hits.
    let names = |name: &str| text(name).is_some_and(|value| hit.get(name) == Some(value));
    let identity = match names_itself(names) {
        false => Identity::Request { time, id: &request.id },
        true if text("cid").or_else(|| text("uid")).is_some() => Identity::Client,
        true => Identity::Stranger { ip: user_ip.as_deref(), agent: user_agent.as_deref() },
    };
    let position = if read.is_named && names("z") { 0 } else { read.position };
    let event_id = parameters.id(&identity, position, is_rejected);
    let id = text("z").unwrap_or(&event_id);
    let path = cleaner.path(&request.path);
    let headers = headers::stored(&request.headers, &config.store_headers, &mut cleaner);
    let agent = user_agent.as_deref().map(agents::stored).transpose()?.flatten();
    let campaign = campaign(&clean, &mut cleaner);
    let visitor = visitor.filter(|_| !decision.anonymise);
    let referrer = referrer(&clean, campaign.is_some());
    let line = Line {
        service: Service { id: if is_rejected { "api.collect.rejected" } else { "api.collect" } },
        context: Context {
            user_ip,
            user_agent: user_agent.as_deref(),
            document_location: text("dl"),
            document_referrer: text("dr"),
            client_id: text("cid"),
            user_id: text("uid"),
        },
        request: StoredRequest {
            id,
            timestamp: request.time_ms,
            hostname: &request.hostname,
            path,
            method: &request.method,
            headers: &headers,
            body: serde_json::from_slice(&parameters.json)?,
        },
        response: StoredResponse {
            id,
            timestamp: request.time_ms,
            status_code: response.status,
            headers: &response.headers,
        },
        event_id: &event_id,
        hit: HitSummary {
            protocol: read.protocol.name(),
            r#type: text("t").or_else(|| text("en").map(event_type)),
            time,
        },
        products: products(&clean),
        agent: agent.as_deref(),
        client_hints: hints(&clean, &headers),
        campaign,
        referrer,
        visitor_id: visitor.map(|visitor| &*visitor.id),
        visitor_is_new: visitor.map(|visitor| !visitor.is_known),
        privacy: Privacy { anonymised: decision.anonymise, redacted: cleaner.redacted() },
        rejected_for: is_rejected.then_some(messages),
    };
    let header_bytes: usize = request.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
    let mut bytes = Vec::with_capacity(1_536 + 2 * parameters.json.len() + header_bytes);
    serde_json::to_writer(&mut bytes, &line)?;
    bytes.push(b'\n');
    let client =
        text("cid").filter(|client| config.partition == Partition::Client && client.chars().count() <= MOST_KEY_CHARS);
    let partition_key = client.unwrap_or(&event_id);
    Ok(Event {
        line: bytes,
        partition_key: partition_key.to_owned(),
        redacted: cleaner.redacted(),
        anonymised: decision.anonymise,
        is_rejected,
    })
}

/// The hit type of version 1 that an event of GA4 has.
fn event_type(name: &str) -> &'static str {
    if name == "page_view" { "pageview" } else { "event" }
}

/// When the hit happened.
fn time_ms(hit: &Hit, request_ms: i64) -> i64 {
    match micros(hit) {
        Some(micros) => (micros / 1_000).clamp(request_ms.saturating_sub(MOST_BACKDATED_MS), request_ms),
        None => request_ms.saturating_sub(queue_ms(hit)),
    }
}

/// The queue time, `qt`, between zero and four hours. Zero if it is not a number.
fn queue_ms(hit: &Hit) -> i64 {
    let Some(ms) = hit.get("qt").and_then(|text| text.parse::<f64>().ok()) else { return 0 };
    #[expect(clippy::cast_possible_truncation, reason = "a cast saturates, and NaN is zero")]
    let ms = ms as i64;
    ms.clamp(0, MOST_QUEUE_MS)
}

#[cfg(test)]
mod tests;
