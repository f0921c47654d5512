//! The format of the event.

use std::borrow::Cow;

use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::{campaign::Campaign, hints::Hints, products::Product, referrer::Referrer, verdict::ParserMessage};

/// The event in the stream. Names and types of `service`, `context`, `request` and `response` are a contract with the
/// warehouse models that read them.
#[derive(Serialize)]
pub(super) struct Line<'a> {
    pub(super) service: Service,
    pub(super) context: Context<'a>,
    pub(super) request: StoredRequest<'a>,
    pub(super) response: StoredResponse<'a>,
    /// 32 hexadecimal digits. Equal for copies of the same hit, so that they can be deduplicated.
    pub(super) event_id: &'a str,
    pub(super) hit: HitSummary<'a>,
    pub(super) products: Vec<Product<'a>>,
    /// [`Agent`](crate::agent::Agent). `None` without a user agent.
    pub(super) agent: Option<&'a RawValue>,
    pub(super) client_hints: Option<Hints<'a>>,
    pub(super) campaign: Option<Campaign<'a>>,
    pub(super) referrer: Option<Referrer<'a>>,
    /// The id of `cookie`, in hexadecimal. `None` if the setting is off, the visitor opts out, or none is given with the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visitor_id: Option<&'a str>,
    /// Whether it is given with the answer: it may never come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) visitor_is_new: Option<bool>,
    pub(super) privacy: Privacy,
    /// What is wrong with a hit that is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rejected_for: Option<&'a [ParserMessage]>,
}

#[derive(Serialize)]
pub(super) struct Service {
    pub(super) id: &'static str,
}

#[derive(Serialize)]
pub(super) struct Context<'a> {
    /// `uip`, or else the address that connected to the API.
    pub(super) user_ip: Option<Cow<'a, str>>,
    /// `ua`, or else the header.
    pub(super) user_agent: Option<&'a str>,
    pub(super) document_location: Option<&'a str>,
    pub(super) document_referrer: Option<&'a str>,
    pub(super) client_id: Option<&'a str>,
    pub(super) user_id: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct StoredRequest<'a> {
    /// `z`, or else the event id.
    pub(super) id: &'a str,
    /// Milliseconds since 1970, like all times here.
    pub(super) timestamp: i64,
    pub(super) hostname: &'a str,
    pub(super) path: Cow<'a, str>,
    pub(super) method: &'a str,
    #[serde(serialize_with = "object")]
    pub(super) headers: &'a [(&'a str, Cow<'a, str>)],
    /// All parameters.
    pub(super) body: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StoredResponse<'a> {
    pub(super) id: &'a str,
    pub(super) timestamp: i64,
    pub(super) status_code: u16,
    #[serde(serialize_with = "object")]
    pub(super) headers: &'a [(&'a str, &'a str)],
}

#[derive(Serialize)]
pub(super) struct HitSummary<'a> {
    /// `v1`, `ga4` or `ga4-mp`.
    pub(super) protocol: &'static str,
    /// `t`; of GA4, `pageview` for `page_view` and `event` for any other event.
    pub(super) r#type: Option<&'a str>,
    /// When it happened: `timestamp_micros`, or the time of the request less the queue time (`qt`).
    pub(super) time: i64,
}

#[derive(Serialize)]
pub(super) struct Privacy {
    pub(super) anonymised: bool,
    pub(super) redacted: usize,
}

/// Serialises pairs as an object.
pub(crate) fn object<S: Serializer, N: Serialize, V: Serialize>(
    pairs: impl AsRef<[(N, V)]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.as_ref().iter().map(|(name, value)| (name, value)))
}
