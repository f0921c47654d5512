//! `collect`, request → event: our route without the network, and the peer that uses the usual crate.

use collect::{
    body::{self, Takes},
    config::Config,
    handler, request,
};
use lambda_http::{
    Request, RequestExt as _, RequestPayloadExt as _,
    request::{LambdaRequest, RequestContext},
};
use serde_json::{Map, Value, json};

use crate::{
    Error,
    rounds::{Route, Run, Stopwatch},
};

/// Requests per measurement, because one takes only a few microseconds.
pub const REQUESTS: u32 = 200;

/// A hit as a form, in base64 as the gateway sends it.
pub const FORM: &str = include_str!("../../events/collect-form.json");
/// A hit as JSON.
pub const JSON: &str = include_str!("../../events/collect-json.json");
/// A hit in a query string.
pub const QUERY: &str = include_str!("../../events/collect-beacon.json");
/// A request to `/debug/collect`.
pub const DEBUG: &str = include_str!("../../events/collect-debug.json");
/// A request to `/health`.
pub const HEALTH: &[u8] =
    br#"{"version":"2.0","rawPath":"/health","headers":{},"requestContext":{"timeEpoch":0,"http":{"method":"GET"}}}"#;

/// The browsers that the load generator sends hits of: share, kind and user agent.
const BROWSERS: &str = include_str!("../../pump/src/browsers.txt");

/// What gtag.js sends when somebody looks at a product: all in the query string, no body.
const GA4_QUERY: &str = "v=2&tid=G-C5VLPRS4QY&gtm=45je5b31v9100000000za200&_p=1795183904921&gcs=G111&gcd=13t3t3t3t5\
    &cid=1548123456.1795183900&ul=de-de&sr=1920x1080&_s=2&sid=1795183900&sct=1&seg=1\
    &dl=https%3A%2F%2Fshop.example%2Fproduct%2F42%3Futm_source%3Dmail&dt=Bandana&cu=EUR&en=view_item\
    &pr1=idSKU-42~nmBandana~caShirts~pr19.9~qt1&epn.value=19.9&_et=1204";

/// Such a request, as API Gateway sends it.
pub fn ga4() -> Result<String, Error> {
    let mut event: Value = serde_json::from_str(QUERY)?;
    let parameters: Map<String, Value> = url::form_urlencoded::parse(GA4_QUERY.as_bytes())
        .map(|(name, value)| (name.into_owned(), value.into()))
        .collect();
    let mut set = |pointer: &str, value: Value| -> Result<(), Error> {
        *event.pointer_mut(pointer).ok_or_else(|| format!("no {pointer}"))? = value;
        Ok(())
    };
    set("/rawPath", "/g/collect".into())?;
    set("/requestContext/http/path", "/g/collect".into())?;
    set("/requestContext/http/method", "POST".into())?;
    set("/rawQueryString", GA4_QUERY.into())?;
    set("/queryStringParameters", parameters.into())?;
    Ok(event.to_string())
}

/// Headers that a browser sends in addition to those in `events/`.
const BROWSER: [(&str, &str); 9] = [
    ("accept-language", "en-US,en;q=0.9"),
    ("origin", "https://shop.example"),
    ("referer", "https://shop.example/product/42?utm_source=mail"),
    ("sec-ch-ua", "\"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\""),
    ("sec-ch-ua-mobile", "?0"),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("sec-fetch-dest", "empty"),
    ("sec-fetch-mode", "cors"),
    ("sec-fetch-site", "cross-site"),
];

/// An event of `events/` as API Gateway sends it for a browser: on one line, with all headers. Without the cookie, because
/// only our route removes cookies.
pub fn event(of: &str) -> Result<Vec<u8>, Error> {
    let mut event: Value = serde_json::from_str(of)?;
    let headers = event.get_mut("headers").and_then(Value::as_object_mut).ok_or("no headers")?;
    headers.extend(BROWSER.map(|(name, value)| (name.to_owned(), value.into())));
    headers.remove("cookie");
    Ok(serde_json::to_vec(&event)?)
}

/// A batch as large as one may be, of twenty hits with a hundred parameters. A hostile one is of a visitor who opts out, so that addresses are
/// searched for, and names as many of them as fit into the headers that a gateway takes.
pub fn batch(is_hostile: bool) -> Result<Vec<u8>, Error> {
    const ADDRESSES: u32 = 950;
    let parameters: String = (0..94).map(|at| format!("&c{at}=1.")).collect();
    let hits = vec![format!("v=1&tid=UA-12345-1&cid=5&t=event&ec=a&ea=b{parameters}"); 20];
    let mut event: Value = serde_json::from_slice(&event(FORM)?)?;
    for pointer in ["/rawPath", "/requestContext/http/path"] {
        *event.pointer_mut(pointer).ok_or("no path")? = "/batch".into();
    }
    let members = event.as_object_mut().ok_or("no event")?;
    members.insert("body".into(), hits.join("\n").into());
    members.insert("isBase64Encoded".into(), false.into());
    if is_hostile {
        let headers = members.get_mut("headers").and_then(Value::as_object_mut).ok_or("no headers")?;
        let addresses: Vec<_> = (1..=ADDRESSES).map(|at| format!("1.1.{}.{}", at / 250, at % 250)).collect();
        headers.insert("x-forwarded-for".into(), addresses.join(",").into());
        headers.insert("sec-gpc".into(), "1".into());
    }
    Ok(serde_json::to_vec(&event)?)
}

/// `REQUESTS` such events of the browsers that a shop sees, in proportion and mixed.
pub fn events(of: &str) -> Result<Vec<Vec<u8>>, Error> {
    let mut agents = Vec::new();
    for browser in BROWSERS.lines() {
        let (share, browser) = browser.split_once(' ').ok_or("a browser without a share")?;
        let (_, agent) = browser.split_once(' ').ok_or("a browser without an agent")?;
        agents.extend(std::iter::repeat_n(agent, share.parse()?));
    }
    let mut event: Value = serde_json::from_slice(&event(of)?)?;
    let mut next = agents.iter().cycle().step_by(37);
    let events = (0..REQUESTS).map(|_| {
        let agent = event.pointer_mut("/headers/user-agent").ok_or("no user agent")?;
        *agent = (*next.next().ok_or("no browsers")?).into();
        Ok(serde_json::to_vec(&event)?)
    });
    events.collect()
}

/// Fails if events differ in the members that all routes write. Ours writes more: without a `z`, an id of its own; and it knows that gtag.js
/// expects no picture.
pub fn all_equal(lines: &[Vec<u8>]) -> Result<(), Error> {
    let mut common = lines.iter().map(|line| -> Result<_, Error> {
        let mut event: Map<String, Value> = serde_json::from_slice(line)?;
        event.retain(|name, _| ["service", "context", "request", "response"].contains(&name.as_str()));
        let request = event.get_mut("request").and_then(Value::as_object_mut).ok_or("no request")?;
        if request.get("body").is_none_or(|hit| hit.get("z").is_none()) {
            request.remove("id");
            event.remove("response");
        }
        Ok(event)
    });
    let first = common.next().ok_or("there is no event")??;
    for other in common {
        let other = other?;
        if other != first {
            return Err(format!("the routes make different events:\n{}\n{}", json!(first), json!(other)).into());
        }
    }
    Ok(())
}

/// Fails on any answer but the pixel.
pub fn is_stored(answer: &[u8]) -> Result<(), Error> {
    is(answer, 200, "image/gif")
}

/// Fails on any answer but that of `/debug/collect`.
pub fn is_explained(answer: &[u8]) -> Result<(), Error> {
    is(answer, 200, "application/json")
}

/// Fails on any answer with content.
pub fn is_healthy(answer: &[u8]) -> Result<(), Error> {
    is(answer, 204, "")
}

fn is(answer: &[u8], status: u16, content_type: &str) -> Result<(), Error> {
    let answer: Value = serde_json::from_slice(answer)?;
    let found = answer.pointer("/headers/Content-Type").and_then(Value::as_str).unwrap_or_default();
    if answer.get("statusCode") == Some(&status.into()) && found == content_type {
        return Ok(());
    }
    Err(format!("the function answered {answer}").into())
}

/// The default configuration.
pub fn config() -> Result<Config, Error> {
    Ok(Config::from_lookup(|name| (name == "STREAM_NAME").then(|| "clicks".to_owned()))?)
}

/// Request → event, as the handler does it.
#[derive(Debug)]
pub struct Landfall<'a> {
    pub config: &'a Config,
    pub events: &'a [Vec<u8>],
}

impl Route for Landfall<'_> {
    fn name(&self) -> &str {
        "Landfall"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let watch = Stopwatch::start();
        let mut line = Vec::new();
        for event in self.events {
            let request = request::read(event)?;
            let read = body::hits(&request.body, request.is_base64, &request.query, Takes::Hit)
                .map_err(|refused| refused.error)?;
            let (events, _) = handler::events(self.config, &request, None, &read)?;
            line = events.into_iter().next().ok_or("the hit is not valid")?.line;
        }
        Ok(watch.stop(line).of_each(REQUESTS))
    }
}

/// A batch → events, as the handler does it.
#[derive(Debug)]
pub struct Batch<'a> {
    pub name: &'static str,
    pub config: &'a Config,
    pub event: &'a [u8],
}

impl Route for Batch<'_> {
    fn name(&self) -> &str {
        self.name
    }

    fn run(&mut self) -> Result<Run, Error> {
        let watch = Stopwatch::start();
        let request = request::read(self.event)?;
        let read = body::hits(&request.body, request.is_base64, &request.query, Takes::Batch)
            .map_err(|refused| refused.error)?;
        let (events, _) = handler::events(self.config, &request, None, &read)?;
        Ok(watch.stop(events.into_iter().flat_map(|event| event.line).collect()))
    }
}

/// Request → the four members that all routes write, with `lambda_http` and `serde_json::Value`.
#[derive(Debug)]
pub struct LambdaHttp<'a> {
    pub events: &'a [Vec<u8>],
}

impl Route for LambdaHttp<'_> {
    fn name(&self) -> &str {
        "lambda_http"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let watch = Stopwatch::start();
        let mut line = Vec::new();
        for event in self.events {
            // As lambda_runtime and lambda_http do it for a handler.
            let mut json = serde_json::Deserializer::from_slice(event);
            let request: LambdaRequest = serde_path_to_error::deserialize(&mut json)?;
            line = usual(&request.into())?;
        }
        Ok(watch.stop(line).of_each(REQUESTS))
    }
}

fn usual(request: &Request) -> Result<Vec<u8>, Error> {
    let Some(RequestContext::ApiGatewayV2(context)) = request.request_context_ref() else {
        return Err("not from an HTTP API".into());
    };
    let hit: Map<String, Value> = match request.payload()? {
        Some(hit) => hit,
        None => request
            .query_string_parameters_ref()
            .into_iter()
            .flat_map(|query| query.iter())
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect(),
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let headers: Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| Ok((name.to_string(), value.to_str()?.into())))
        .collect::<Result<_, Error>>()?;
    let user_ip = hit.get("uip").and_then(Value::as_str).or(context.http.source_ip.as_deref());
    let user_agent = hit.get("ua").and_then(Value::as_str).or_else(|| header("user-agent"));
    let event = json!({
        "service": {"id": "api.collect"},
        "context": {
            "user_ip": user_ip,
            "user_agent": user_agent,
            "document_location": hit.get("dl"),
            "document_referrer": hit.get("dr"),
            "client_id": hit.get("cid"),
            "user_id": hit.get("uid"),
        },
        "request": {
            "id": hit.get("z"),
            "timestamp": context.time_epoch,
            "hostname": context.domain_name,
            "path": request.uri().path(),
            "method": request.method().as_str(),
            "headers": headers,
            "body": hit,
        },
        "response": {
            "id": hit.get("z"),
            "timestamp": context.time_epoch,
            "statusCode": 200,
            "headers": {"Content-Type": "image/gif", "Access-Control-Allow-Origin": header("origin").unwrap_or("*")},
        },
    });
    let mut line = serde_json::to_vec(&event)?;
    line.push(b'\n');
    Ok(line)
}
