//! Requests over TLS. Redirects are followed here, so that each of them is compared with the declared hosts.

use std::{error::Error, io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, combinators::UnsyncBoxBody};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use runtime::failure::chain;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::{Instant, sleep_until, timeout};
use url::Url;

use crate::hosts::{Forbidden, Hosts, shown};

type Body = UnsyncBoxBody<Bytes, Box<dyn Error + Send + Sync>>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server may take this long to begin its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A body of which no byte has come for this long is given up.
const STALLED: Duration = Duration::from_secs(30);
/// Redirects of one request.
const MAX_REDIRECTS: usize = 5;
/// The first pause between two attempts, of which the next is twice as long.
const PAUSE: Duration = Duration::from_secs(1);
/// No longer pause is made, whatever `Retry-After` demands.
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Why there is no answer, or only a part of it. No text of it holds a query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// A URL that must not be connected to: the one that was asked for, or one that was redirected to.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// Redirected without end, or to something that is no URL.
    #[error("{0} redirects {1}")]
    Redirect(String, &'static str),
    /// An answer that is not the one that was asked for.
    #[error("{url} answers with status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// The connection could not be made, broke, or brought nothing for too long.
    #[error("{url}: {cause}")]
    Connection {
        /// The URL.
        url: String,
        /// Why.
        cause: String,
    },
    /// More bytes than are allowed.
    #[error("{url} has more than {limit} bytes")]
    TooLarge {
        /// The URL.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// The time of the invocation is over.
    #[error("there is no time left in this invocation")]
    OutOfTime,
}

impl HttpError {
    /// Whether it may be otherwise a moment later.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Connection { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Forbidden(_) | Self::Redirect(..) | Self::TooLarge { .. } | Self::OutOfTime => false,
        }
    }
}

/// A client that keeps its connections open.
#[derive(Debug, Clone)]
pub struct Http {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    pause: Duration,
}

/// A request for a URL, or for the rest of what is there.
#[derive(Debug, Clone, Copy)]
pub struct Get<'a> {
    /// The URL.
    pub url: &'a Url,
    /// The first byte that is wanted, and the validator of the rest: without a change the rest is sent, otherwise everything.
    pub rest: Option<(u64, &'a HeaderValue)>,
    /// When to give up.
    pub until: Instant,
}

/// An answer whose body has not been read yet.
#[derive(Debug)]
pub struct Answer {
    /// 200 or 206.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    body: Body,
    url: String,
    until: Instant,
}

impl Http {
    /// A client that trusts the authorities of this system.
    pub fn with_native_roots() -> io::Result<Self> {
        let builder =
            HttpsConnectorBuilder::new().with_provider_and_native_roots(Arc::new(ring::default_provider()))?;
        Ok(Self::of(builder.https_only().enable_http1().wrap_connector(connector()), PAUSE))
    }

    /// A client that trusts these authorities and pauses so long at first between attempts, for servers of a test.
    pub fn with_roots(roots: RootCertStore, pause: Duration) -> Result<Self, rustls::Error> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(config);
        Ok(Self::of(builder.https_only().enable_http1().wrap_connector(connector()), pause))
    }

    fn of(connector: HttpsConnector<HttpConnector>, pause: Duration) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build(connector), pause }
    }

    /// Waits before attempt `number`, which is at least 1, unless the time is over before that.
    pub async fn pause(&self, number: u32, error: &HttpError, until: Instant) -> Result<(), HttpError> {
        let growing = self.pause.saturating_mul(1 << number.clamp(1, 10).saturating_sub(1));
        let demanded = match error {
            HttpError::Status { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let end = Instant::now() + runtime::pause::jittered(growing).max(demanded).min(MAX_PAUSE);
        if end >= until {
            return Err(HttpError::OutOfTime);
        }
        sleep_until(end).await;
        Ok(())
    }

    /// Sends a request to a declared host, once, and follows redirects to declared hosts.
    pub async fn get(&self, hosts: &Hosts, get: Get<'_>) -> Result<Answer, HttpError> {
        let mut url = get.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            hosts.check(&url)?;
            let response = self.send(&url, get).await?;
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return match status {
                    StatusCode::OK | StatusCode::PARTIAL_CONTENT => {
                        let (head, body) = response.into_parts();
                        Ok(Answer { status, headers: head.headers, body, url: shown(&url), until: get.until })
                    }
                    _ => {
                        let retry_after = retry_after(response.headers());
                        Err(HttpError::Status { url: shown(&url), status: status.as_u16(), retry_after })
                    }
                };
            }
            let location = response.headers().get(header::LOCATION).and_then(|location| location.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = next.ok_or_else(|| HttpError::Redirect(shown(&url), "to something that is no URL"))?;
        }
        Err(HttpError::Redirect(shown(get.url), "more than five times"))
    }

    async fn send(&self, url: &Url, get: Get<'_>) -> Result<http::Response<Body>, HttpError> {
        let failed = |cause: String| HttpError::Connection { url: shown(url), cause };
        let mut request = Request::get(url.as_str()).header(header::ACCEPT_ENCODING, "identity");
        request = request.header(header::USER_AGENT, concat!("landfall/", env!("CARGO_PKG_VERSION")));
        if let Some((first, validator)) = get.rest {
            request = request.header(header::RANGE, format!("bytes={first}-")).header(header::IF_RANGE, validator);
        }
        let request = request.body(Empty::new()).map_err(|error| failed(error.to_string()))?;
        let left = get.until.saturating_duration_since(Instant::now());
        match timeout(ANSWER_TIMEOUT.min(left), self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response.map(|body| body.map_err(Into::into).boxed_unsync())),
            Ok(Err(error)) => Err(failed(chain(&error))),
            Err(_) if left < ANSWER_TIMEOUT => Err(HttpError::OutOfTime),
            Err(_) => Err(failed(format!("no answer within {} seconds", ANSWER_TIMEOUT.as_secs()))),
        }
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    connector
}

/// The pause that `Retry-After` demands in seconds. One that is a date is not understood.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

impl Answer {
    /// The URL that answered, without its query.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The length of the body, if it is known.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
    }

    /// Reads the next bytes; `None` at the end of a body that is complete.
    pub async fn next(&mut self) -> Result<Option<Bytes>, HttpError> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let failed = |cause: String| HttpError::Connection { url: self.url.clone(), cause };
            match timeout(STALLED.min(left), self.body.frame()).await {
                Err(_) if left < STALLED => return Err(HttpError::OutOfTime),
                Err(_) => return Err(failed(format!("no byte has come for {} seconds", STALLED.as_secs()))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(failed(chain(error.as_ref()))),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(bytes) if !bytes.is_empty() => return Ok(Some(bytes)),
                    // Trailers, which nobody asked for.
                    _ => {}
                },
            }
        }
    }

    /// Reads the whole body, if it has no more bytes than `limit`.
    pub async fn whole(mut self, limit: u64) -> Result<Vec<u8>, HttpError> {
        let too_large = |url: &str| HttpError::TooLarge { url: url.to_owned(), limit };
        if self.length().is_some_and(|length| length > limit) {
            return Err(too_large(&self.url));
        }
        let mut whole = Vec::new();
        while let Some(bytes) = self.next().await? {
            if (whole.len() + bytes.len()) as u64 > limit {
                return Err(too_large(&self.url));
            }
            whole.extend_from_slice(&bytes);
        }
        Ok(whole)
    }
}
