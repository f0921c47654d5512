//! Responses to the client, in the format that API Gateway (both payload formats) and function URLs expect.

use std::borrow::Cow;

use serde::Serialize;

use crate::{
    config::{Config, Origins},
    event::object,
    request::Request,
};

/// A transparent GIF of one pixel, base64.
const PIXEL: &str = "R0lGODlhAQABAPAAAAAAAAAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==";

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    pub status_code: u16,
    #[serde(serialize_with = "object")]
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// Of payload format 2.0 only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cookies: Vec<String>,
    pub body: Cow<'static, str>,
    pub is_base64_encoded: bool,
}

impl Answer {
    /// The pixel, which must not be cached.
    #[must_use]
    pub fn pixel(status_code: u16) -> Self {
        Self {
            status_code,
            headers: vec![("Content-Type", "image/gif".into()), ("Cache-Control", "no-store".into())],
            cookies: Vec::new(),
            body: PIXEL.into(),
            is_base64_encoded: true,
        }
    }

    pub fn json(status_code: u16, document: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::document(status_code, serde_json::to_string(document)?))
    }

    /// A document that is already serialised as JSON.
    #[must_use]
    pub fn document(status_code: u16, document: String) -> Self {
        Self {
            status_code,
            headers: vec![("Content-Type", "application/json".into()), ("Cache-Control", "no-store".into())],
            cookies: Vec::new(),
            body: document.into(),
            is_base64_encoded: false,
        }
    }

    /// A response without a body, which must not be cached either: a cache may keep a 204 that says nothing about it, and answer the next
    /// hit.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            status_code: 204,
            headers: vec![("Cache-Control", "no-store".into())],
            cookies: Vec::new(),
            body: "".into(),
            is_base64_encoded: false,
        }
    }

    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The response to HEAD has no body.
    #[must_use]
    pub fn for_method(mut self, method: &str) -> Self {
        if method == "HEAD" {
            self.body = "".into();
            self.is_base64_encoded = false;
        }
        self
    }
}

/// The value of `Access-Control-Allow-Origin` in the response to `request`. A browser that sends credentials, as it does for every
/// `sendBeacon`, wants to read its own origin there, and not `*`.
#[must_use]
pub fn allowed_origin(config: &Config, request: &Request<'_>) -> Option<Cow<'static, str>> {
    let requested = request.header("origin").filter(|origin| !origin.is_empty());
    match (&config.origins, requested) {
        (Origins::All, None) => Some("*".into()),
        (Origins::All, Some(origin)) => Some(origin.to_owned().into()),
        (Origins::Some(origins), requested) => {
            origins.iter().find(|origin| requested == Some(origin)).map(|origin| origin.clone().into())
        }
    }
}

/// Adds the headers that let pages of the allowed origins read the response.
#[must_use]
pub fn with_cors(answer: Answer, config: &Config, request: &Request<'_>) -> Answer {
    let answer = match allowed_origin(config, request) {
        Some(origin) if origin == "*" => answer.with("Access-Control-Allow-Origin", origin),
        Some(origin) => {
            answer.with("Access-Control-Allow-Origin", origin).with("Access-Control-Allow-Credentials", "true")
        }
        None => answer,
    };
    answer.with("Vary", "Origin")
}

/// The response to a CORS preflight request.
#[must_use]
pub fn preflight(config: &Config, request: &Request<'_>, methods: &'static str) -> Answer {
    let answer = Answer::empty().with("Allow", methods);
    let answer = match allowed_origin(config, request) {
        None => answer,
        Some(_) => answer
            .with("Access-Control-Allow-Methods", methods)
            .with("Access-Control-Allow-Headers", "Content-Type, Content-Encoding")
            .with("Access-Control-Max-Age", config.cors_max_age_seconds.to_string()),
    };
    with_cors(answer, config, request)
}
