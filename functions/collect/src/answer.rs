//! Answers in the shape that API Gateway takes, in both payload formats and from function URLs alike.

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    config::{Config, Origins},
    request::Request,
};

/// A transparent GIF of one pixel, base64.
const PIXEL: &str = "R0lGODlhAQABAPAAAAAAAAAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==";

/// What the gateway sends to the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The HTTP status.
    pub status_code: u16,
    /// Name → value.
    #[serde(serialize_with = "object")]
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Cow<'static, str>,
    /// Whether the body is base64.
    pub is_base64_encoded: bool,
}

fn object<S: Serializer>(headers: &[(&str, Cow<'_, str>)], serializer: S) -> Result<S::Ok, S::Error> {
    let mut object = serializer.serialize_map(Some(headers.len()))?;
    for (name, value) in headers {
        object.serialize_entry(name, value)?;
    }
    object.end()
}

impl Answer {
    /// The pixel, which no cache keeps.
    #[must_use]
    pub fn pixel(status_code: u16) -> Self {
        Self {
            status_code,
            headers: vec![("Content-Type", "image/gif".into()), ("Cache-Control", "no-store".into())],
            body: PIXEL.into(),
            is_base64_encoded: true,
        }
    }

    /// A JSON document.
    pub fn json(status_code: u16, document: &impl Serialize) -> Result<Self, serde_json::Error> {
        Ok(Self::document(status_code, serde_json::to_string(document)?))
    }

    /// A JSON document that is written already.
    #[must_use]
    pub fn document(status_code: u16, document: String) -> Self {
        Self {
            status_code,
            headers: vec![("Content-Type", "application/json".into()), ("Cache-Control", "no-store".into())],
            body: document.into(),
            is_base64_encoded: false,
        }
    }

    /// No body.
    #[must_use]
    pub fn empty(status_code: u16) -> Self {
        Self { status_code, headers: Vec::new(), body: "".into(), is_base64_encoded: false }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Without its body, as HEAD is answered.
    #[must_use]
    pub fn for_method(mut self, method: &str) -> Self {
        if method == "HEAD" {
            self.body = "".into();
            self.is_base64_encoded = false;
        }
        self
    }
}

/// The origin that may read the answer to `request`, as the header `Access-Control-Allow-Origin` names it.
#[must_use]
pub fn allowed_origin(config: &Config, request: &Request<'_>) -> Option<Cow<'static, str>> {
    match &config.origins {
        Origins::All => Some("*".into()),
        Origins::Some(origins) => {
            let asked = request.header("origin")?;
            origins.iter().find(|origin| *origin == asked).map(|origin| origin.clone().into())
        }
    }
}

/// What a browser has to know before it lets a page read the answer.
#[must_use]
pub fn with_cors(answer: Answer, config: &Config, request: &Request<'_>) -> Answer {
    let answer = match allowed_origin(config, request) {
        Some(origin) if origin == "*" => answer.with("Access-Control-Allow-Origin", origin),
        Some(origin) => {
            answer.with("Access-Control-Allow-Origin", origin).with("Access-Control-Allow-Credentials", "true")
        }
        None => answer,
    };
    match config.origins {
        Origins::All => answer,
        Origins::Some(_) => answer.with("Vary", "Origin"),
    }
}

/// The answer to a preflight request.
#[must_use]
pub fn preflight(config: &Config, request: &Request<'_>, methods: &'static str) -> Answer {
    let answer = Answer::empty(204).with("Allow", methods);
    let answer = match allowed_origin(config, request) {
        None => answer,
        Some(_) => answer
            .with("Access-Control-Allow-Methods", methods)
            .with("Access-Control-Allow-Headers", "Content-Type, Content-Encoding")
            .with("Access-Control-Max-Age", config.cors_max_age_seconds.to_string()),
    };
    with_cors(answer, config, request)
}
