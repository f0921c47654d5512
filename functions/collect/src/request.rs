//! Events of API Gateway (HTTP and REST API), of function URLs and of Application Load Balancers → one shape of request.
//!
//! A load balancer says neither when it received a request nor who sent it, except in headers that it writes itself:
//! `X-Amzn-Trace-Id`, which has the time in seconds, and the last address of `X-Forwarded-For`. If a client sends a trace id of its own
//! (`Root`), the load balancer adds its own as `Self`. The health checks of a target group have neither header.
//!
//! Source: "Working with AWS Lambda proxy integrations for HTTP APIs" (payload format 2.0, which function URLs share) and
//! "Input format of a Lambda function for proxy integration" (1.0), Amazon API Gateway developer guide; "Lambda functions as
//! targets" and "Request tracing", Application Load Balancers guide.

use std::{borrow::Cow, fmt, marker::PhantomData};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use shared::json::Text;

use runtime::clock;

use crate::{address::parse_address, headers::Header};

/// How far from the clock the time of a trace id may be that nobody vouches for: a function runs for at most 15 minutes.
const MOST_OFF_MS: i64 = 15 * 60 * 1_000;

/// A request, independent of the event that brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub method: Cow<'a, str>,
    /// The path, decoded and without the stage.
    pub path: Cow<'a, str>,
    /// The raw query string: in its parsed form, the gateway joins values of the same name with commas.
    pub query: Cow<'a, str>,
    /// In the order in which they came. A name may occur more than once.
    pub headers: Vec<Header<'a>>,
    /// Base64 if `is_base64`.
    pub body: Cow<'a, str>,
    pub is_base64: bool,
    /// The address that connected to the gateway, or empty; behind trusted proxies, the visitor's.
    pub source_ip: Cow<'a, str>,
    /// The host that the request was sent to.
    pub hostname: Cow<'a, str>,
    /// When the gateway received the request, in milliseconds since 1970-01-01T00:00:00Z.
    pub time_ms: i64,
    /// What the gateway calls the request, or empty. The same when it invokes the function again for it.
    pub id: Cow<'a, str>,
}

/// The event was not sent by a gateway.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// It is not JSON, or a member has another type.
    #[error("the event is not a request from API Gateway, a function URL or a load balancer: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the event is not a request from API Gateway, a function URL or a load balancer: it has no {0}")]
    Missing(&'static str),
}

/// The members of all formats.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(borrow)]
    request_context: Option<Context<'a>>,
    #[serde(borrow)]
    raw_path: Option<Text<'a>>,
    #[serde(borrow)]
    raw_query_string: Option<Text<'a>>,
    #[serde(borrow)]
    http_method: Option<Text<'a>>,
    #[serde(borrow)]
    path: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "pairs")]
    headers: Pairs<'a, Text<'a>>,
    #[serde(borrow, default, deserialize_with = "pairs")]
    multi_value_headers: Pairs<'a, Vec<Text<'a>>>,
    #[serde(borrow, default, deserialize_with = "pairs")]
    query_string_parameters: Pairs<'a, Text<'a>>,
    #[serde(borrow, default, deserialize_with = "pairs")]
    multi_value_query_string_parameters: Pairs<'a, Vec<Text<'a>>>,
    #[serde(borrow)]
    body: Option<Text<'a>>,
    #[serde(default)]
    is_base64_encoded: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Context<'a> {
    #[serde(borrow)]
    http: Option<Http<'a>>,
    /// Only a load balancer sends this.
    #[serde(default)]
    elb: Option<IgnoredAny>,
    #[serde(borrow)]
    identity: Option<Identity<'a>>,
    #[serde(borrow)]
    domain_name: Option<Text<'a>>,
    #[serde(borrow)]
    stage: Option<Text<'a>>,
    #[serde(borrow)]
    request_id: Option<Text<'a>>,
    time_epoch: Option<i64>,
    request_time_epoch: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Http<'a> {
    #[serde(borrow)]
    method: Text<'a>,
    #[serde(borrow)]
    source_ip: Option<Text<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    #[serde(borrow)]
    source_ip: Option<Text<'a>>,
}

/// The members of an object, in order. `null` is read as an empty object.
type Pairs<'a, V> = Vec<(Text<'a>, V)>;

fn pairs<'de: 'a, 'a, D: Deserializer<'de>, V: Deserialize<'de>>(deserializer: D) -> Result<Pairs<'a, V>, D::Error> {
    struct Members<'a, V>(PhantomData<(&'a (), V)>);
    impl<'de: 'a, 'a, V: Deserialize<'de>> Visitor<'de> for Members<'a, V> {
        type Value = Pairs<'a, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object or null")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::with_capacity(16);
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    deserializer.deserialize_any(Members(PhantomData))
}

fn text(text: Option<Text<'_>>) -> Cow<'_, str> {
    text.map(|text| text.0).unwrap_or_default()
}

/// Reads an event.
pub fn read(event: &[u8]) -> Result<Request<'_>, RequestError> {
    read_at(event, clock::unix_ms)
}

/// The same with another clock, which is read only if the event does not say when the request was received.
fn read_at(event: &[u8], clock: impl Fn() -> i64) -> Result<Request<'_>, RequestError> {
    // Checking UTF-8 once is faster than string by string. Invalid bytes in a member that is not read are accepted.
    let event: Event<'_> = match str::from_utf8(event) {
        Ok(event) => serde_json::from_str(event)?,
        Err(_) => serde_json::from_slice(event)?,
    };
    let context = event.request_context.ok_or(RequestError::Missing("requestContext"))?;
    if context.elb.is_some() {
        let headers = lower_case(joined(event.multi_value_headers, event.headers));
        let request = Request {
            method: event.http_method.ok_or(RequestError::Missing("httpMethod"))?.0,
            path: decoded(text(event.path)),
            query: queried(event.multi_value_query_string_parameters, event.query_string_parameters, as_sent).into(),
            headers,
            body: text(event.body),
            is_base64: event.is_base64_encoded,
            source_ip: "".into(),
            hostname: "".into(),
            time_ms: 0,
            id: "".into(),
        };
        return Ok(of_load_balancer(request, clock));
    }
    let id = text(context.request_id);
    match context.http {
        Some(http) => Ok(Request {
            method: http.method.0,
            path: decoded(without_stage(text(event.raw_path), context.stage.as_ref())),
            query: text(event.raw_query_string),
            headers: lower_case(event.headers),
            body: text(event.body),
            is_base64: event.is_base64_encoded,
            source_ip: text(http.source_ip),
            hostname: text(context.domain_name),
            time_ms: context.time_epoch.ok_or(RequestError::Missing("requestContext.timeEpoch"))?,
            id,
        }),
        None => Ok(Request {
            method: event.http_method.ok_or(RequestError::Missing("httpMethod"))?.0,
            path: decoded(text(event.path)),
            query: queried(event.multi_value_query_string_parameters, event.query_string_parameters, encoded).into(),
            headers: lower_case(joined(event.multi_value_headers, event.headers)),
            body: text(event.body),
            is_base64: event.is_base64_encoded,
            source_ip: text(context.identity.and_then(|identity| identity.source_ip)),
            hostname: text(context.domain_name),
            time_ms: context.request_time_epoch.ok_or(RequestError::Missing("requestContext.requestTimeEpoch"))?,
            id,
        }),
    }
}

/// Fills in what a load balancer says in headers only.
fn of_load_balancer(mut request: Request<'_>, clock: impl Fn() -> i64) -> Request<'_> {
    let last =
        |name: &str| request.headers.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value.clone());
    // Such as `Root=1-67891233-abcdef012345678912345678`, maybe with `Self=…;` before it.
    let trace = last("x-amzn-trace-id").unwrap_or_default();
    let part = |name: &str| trace.split(';').find_map(|part| part.trim().strip_prefix(name));
    let own = part("Self=");
    let time_ms = |id: &str| Some(i64::from_str_radix(id.split('-').nth(1)?, 16).ok()?.saturating_mul(1_000));
    let is_sane = |time: &i64, now: i64| now.saturating_sub(*time).saturating_abs() <= MOST_OFF_MS;
    let time = own.and_then(time_ms).unwrap_or_else(|| {
        let now = clock();
        part("Root=").and_then(time_ms).filter(|time| is_sane(time, now)).unwrap_or(now)
    });
    let id = own.or_else(|| part("Root=")).unwrap_or_default().to_owned();
    let source = last("x-forwarded-for").unwrap_or_default();
    let source_ip = source.rsplit(',').next().unwrap_or_default().trim().to_owned();
    request.hostname = last("host").unwrap_or_default();
    Request { time_ms: time, id: id.into(), source_ip: source_ip.into(), ..request }
}

impl Request<'_> {
    /// The request with the visitor's address, if `proxies` trusted ones stand between the visitor and the gateway. Each of them, and the
    /// gateway, adds the address that connected to it at the end of `X-Forwarded-For`; what is before that, clients may have
    /// invented. If there are fewer addresses, the request did not come by way of the proxies, and the address that connected counts.
    #[must_use]
    pub fn behind(mut self, proxies: usize) -> Self {
        if proxies == 0 {
            return self;
        }
        let values = self.headers.iter().rev().filter(|(name, _)| name == "x-forwarded-for");
        let mut hops = values.flat_map(|(_, value)| value.rsplit(',')).map(str::trim).peekable();
        hops.next_if(|last| *last == self.source_ip);
        let visitor = hops.nth(proxies - 1).filter(|address| parse_address(address).is_some()).map(str::to_owned);
        if let Some(visitor) = visitor {
            self.source_ip = visitor.into();
        }
        self
    }

    /// The value of the first header with this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }
}

/// The path of a request to a stage other than `$default` starts with the name of the stage.
fn without_stage<'a>(path: Cow<'a, str>, stage: Option<&Text<'_>>) -> Cow<'a, str> {
    let rest = stage.and_then(|stage| path.strip_prefix('/')?.strip_prefix(&*stage.0));
    match rest {
        Some("") => "/".into(),
        Some(rest) if rest.starts_with('/') => rest.to_owned().into(),
        _ => path,
    }
}

fn decoded(path: Cow<'_, str>) -> Cow<'_, str> {
    if path.contains('%') { percent_decode_str(&path).decode_utf8_lossy().into_owned().into() } else { path }
}

fn lower_case<'a>(headers: Pairs<'a, Text<'a>>) -> Vec<Header<'a>> {
    let lower = |name: Cow<'a, str>| match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => name.to_ascii_lowercase().into(),
        false => name,
    };
    headers.into_iter().map(|(name, value)| (lower(name.0), value.0)).collect()
}

/// Joins the values of a header. A REST API sends them separately, an HTTP API joined.
fn joined<'a>(all: Pairs<'a, Vec<Text<'a>>>, last: Pairs<'a, Text<'a>>) -> Pairs<'a, Text<'a>> {
    if all.is_empty() {
        return last;
    }
    let join = |mut values: Vec<Text<'a>>| match values.len() {
        1 => values.swap_remove(0),
        _ => Text(values.iter().map(|value| &*value.0).collect::<Vec<_>>().join(",").into()),
    };
    all.into_iter().map(|(name, values)| (name, join(values))).collect()
}

/// The query string from its parameters.
fn queried<'a>(all: Pairs<'a, Vec<Text<'a>>>, last: Pairs<'a, Text<'a>>, write: impl Fn(&mut String, &str)) -> String {
    let mut query = String::new();
    let mut add = |name: &str, value: &str| {
        if !query.is_empty() {
            query.push('&');
        }
        write(&mut query, name);
        query.push('=');
        write(&mut query, value);
    };
    if all.is_empty() {
        last.iter().for_each(|(name, value)| add(&name.0, &value.0));
    }
    for (name, values) in &all {
        values.iter().for_each(|value| add(&name.0, &value.0));
    }
    query
}

/// A REST API sends parameters decoded.
fn encoded(query: &mut String, text: &str) {
    query.extend(utf8_percent_encode(text, NON_ALPHANUMERIC));
}

/// A load balancer sends them as it received them.
fn as_sent(query: &mut String, text: &str) {
    query.push_str(text);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn v2() -> serde_json::Value {
        json!({
            "version": "2.0", "routeKey": "POST /collect", "rawPath": "/prod/collect", "rawQueryString": "a=1&a=2",
            "headers": {"content-type": "text/plain", "user-agent": "x"},
            "requestContext": {"domainName": "collect.example", "stage": "prod", "requestId": "Jx2PXg=", "timeEpoch": 1_795_183_906_123_i64,
                "http": {"method": "POST", "path": "/prod/collect", "sourceIp": "192.0.2.7", "userAgent": "x"}},
            "body": "v=1&t=é", "isBase64Encoded": false,
        })
    }

    fn v1() -> serde_json::Value {
        json!({
            "httpMethod": "POST", "path": "/collect", "headers": {"Content-Type": "text/plain", "User-Agent": "x"},
            "multiValueHeaders": {"Content-Type": ["text/plain"], "User-Agent": ["x"]},
            "queryStringParameters": {"a": "2"}, "multiValueQueryStringParameters": {"a": ["1", "2"]},
            "requestContext": {"domainName": "collect.example", "stage": "prod", "path": "/prod/collect", "requestId": "Jx2PXg=",
                "requestTimeEpoch": 1_795_183_906_123_i64, "identity": {"sourceIp": "192.0.2.7"}},
            "body": "v=1&t=é", "isBase64Encoded": false,
        })
    }

    #[test]
    fn both_formats_give_the_same_request() {
        let (v1, v2) = (v1().to_string(), v2().to_string());
        let (rest, http) = (read(v1.as_bytes()).unwrap(), read(v2.as_bytes()).unwrap());
        assert_eq!(rest, http);
        assert_eq!(
            (&*http.path, &*http.body, http.header("content-type"), &*http.id),
            ("/collect", "v=1&t=é", Some("text/plain"), "Jx2PXg=")
        );
    }

    #[test]
    fn a_query_that_was_decoded_is_encoded_again() {
        let mut event = v1();
        event["multiValueQueryStringParameters"] = json!({"dl": ["https://a.example/?b=c&d"], "e e": ["+"]});
        let event = event.to_string();
        let query = read(event.as_bytes()).unwrap().query.into_owned();
        assert_eq!(query, "dl=https%3A%2F%2Fa%2Eexample%2F%3Fb%3Dc%26d&e%20e=%2B");
    }

    fn load_balancer() -> serde_json::Value {
        json!({
            "requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/collect/1"}},
            "httpMethod": "POST", "path": "/collect", "queryStringParameters": {"dl": "https%3A%2F%2Fa.example%2F%3Fb%3Dc%26d", "e": "a+b"},
            "headers": {
                "content-type": "text/plain", "host": "collect.example", "user-agent": "x",
                "x-amzn-trace-id": "Self=1-6b01a712-abc;Root=1-6b01a700-abcdef012345678912345678", "x-forwarded-for": "203.0.113.9, 192.0.2.7",
            },
            "body": "v=1&t=é", "isBase64Encoded": false,
        })
    }

    #[test]
    fn a_load_balancer_says_time_and_address_in_headers() {
        let event = load_balancer().to_string();
        let request = read(event.as_bytes()).unwrap();
        assert_eq!(
            (&*request.source_ip, &*request.hostname, request.time_ms, &*request.id),
            ("192.0.2.7", "collect.example", 1_795_270_418_000, "1-6b01a712-abc")
        );
        assert_eq!(request.query, "dl=https%3A%2F%2Fa.example%2F%3Fb%3Dc%26d&e=a+b");
        let mut all = load_balancer();
        let values = |member: &str| {
            let pairs = load_balancer()[member].as_object().unwrap().clone();
            pairs.into_iter().map(|(name, value)| (name, json!([value]))).collect::<serde_json::Map<_, _>>()
        };
        all["multiValueHeaders"] = values("headers").into();
        all["multiValueQueryStringParameters"] = values("queryStringParameters").into();
        let object = all.as_object_mut().unwrap();
        object.retain(|name, _| name != "headers" && name != "queryStringParameters");
        assert_eq!(read(all.to_string().as_bytes()).unwrap(), request);
    }

    #[test]
    fn the_time_of_a_load_balancer_is_its_own_or_that_of_the_clock() {
        const NOW: i64 = 1_795_270_418_123;
        let found = |trace: &str| {
            let mut event = load_balancer();
            event["headers"]["x-amzn-trace-id"] = json!(trace);
            let event = event.to_string();
            let request = read_at(event.as_bytes(), || NOW).unwrap();
            (request.time_ms, request.id.into_owned())
        };
        let second = |seconds: i64| format!("Root=1-{seconds:08x}-abc");
        let now = NOW / 1_000;
        assert_eq!(found(&second(now - 2)).0, NOW - 2_123, "of the load balancer, or of a client: nobody can tell");
        for trace in
            [second(now - 901), second(now + 901), "Root=1-ffffffffffffffff-a".into(), "Root=1".into(), "".into()]
        {
            assert_eq!(found(&trace).0, NOW, "{trace}");
        }
        let named = format!("Self=1-{:08x}-own;{};CalledFrom=app", now - 2_000, second(now));
        assert_eq!(
            found(&named),
            (NOW - 2_000_123, format!("1-{:08x}-own", now - 2_000)),
            "a client cannot write this"
        );
        assert_eq!(found("Root=1-xyz-abc").1, "1-xyz-abc");
    }

    #[test]
    fn a_health_check_of_a_target_group_is_a_request() {
        let event = json!({
            "requestContext": {"elb": {"targetGroupArn": "arn"}}, "httpMethod": "GET", "path": "/health", "queryStringParameters": {},
            "headers": {"user-agent": "ELB-HealthChecker/2.0"}, "body": "", "isBase64Encoded": false,
        });
        let event = event.to_string();
        let request = read_at(event.as_bytes(), || 7).unwrap();
        assert_eq!((&*request.method, &*request.path, &*request.source_ip, request.time_ms), ("GET", "/health", "", 7));
    }

    #[test]
    fn only_trusted_proxies_say_who_the_visitor_is() {
        let address = |forwarded: &[&str], proxies: usize| {
            let mut event = v1();
            event["multiValueHeaders"]["X-Forwarded-For"] = json!(forwarded);
            let event = event.to_string();
            read(event.as_bytes()).unwrap().behind(proxies).source_ip.into_owned()
        };
        let forged = "6.6.6.6, 203.0.113.9";
        // The gateway adds the address that connected to it, 192.0.2.7: a REST API does so, a function URL may not.
        assert_eq!(address(&[&format!("{forged}, 192.0.2.7")], 0), "192.0.2.7");
        assert_eq!(address(&[&format!("{forged}, 192.0.2.7")], 1), "203.0.113.9");
        assert_eq!(address(&[forged], 1), "203.0.113.9");
        assert_eq!(address(&["6.6.6.6", "203.0.113.9, 198.51.100.1, 192.0.2.7"], 2), "203.0.113.9");
        assert_eq!(address(&["192.0.2.7"], 1), "192.0.2.7", "it did not come through the proxy");
        assert_eq!(address(&["unknown, 192.0.2.7"], 1), "192.0.2.7");
        assert_eq!(address(&[], 3), "192.0.2.7");
    }

    #[test]
    fn null_is_read_as_empty() {
        let mut event = v1();
        for name in ["headers", "multiValueHeaders", "queryStringParameters", "multiValueQueryStringParameters", "body"]
        {
            event[name] = serde_json::Value::Null;
        }
        let event = event.to_string();
        let request = read(event.as_bytes()).unwrap();
        assert_eq!((request.headers.len(), &*request.query, &*request.body), (0, "", ""));
    }

    #[test]
    fn other_events_are_errors() {
        for (event, message) in [
            (json!({}), "it has no requestContext"),
            (json!({"Records": []}), "it has no requestContext"),
            (json!({"requestContext": {"elb": {}}}), "it has no httpMethod"),
            (json!({"requestContext": {"http": {"method": "GET"}}}), "it has no requestContext.timeEpoch"),
            (json!([]), "expected struct Event"),
        ] {
            let error = read(event.to_string().as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
