//! Headers of a request, and which of them are stored.

use std::borrow::Cow;

use crate::privacy::Cleaner;

/// Name, in lower case, and value.
pub type Header<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The headers as they are stored: without secrets, cleaned, and with the values of a repeated name joined.
pub(crate) fn stored<'a>(headers: &'a [Header<'a>], cleaner: &mut Cleaner) -> Vec<(&'a str, Cow<'a, str>)> {
    let mut stored: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(headers.len());
    for (name, value) in headers.iter().filter(|(name, _)| !is_secret(name)) {
        let Some(value) = cleaner.header(name, value) else { continue };
        match stored.iter_mut().find(|(other, _)| other == name) {
            Some((_, values)) => *values = format!("{values}, {value}").into(),
            None => stored.push((name, value)),
        }
    }
    stored
}

/// Whether the value of a header may be a credential.
fn is_secret(name: &str) -> bool {
    const WORDS: [&str; 15] = [
        "cookie",
        "authorization",
        "authentication",
        "token",
        "secret",
        "password",
        "api-key",
        "apikey",
        "signature",
        "session",
        "credential",
        "csrf",
        "xsrf",
        "oidc",
        "client-cert",
    ];
    // Skipping the words for the headers of every request saves most of the time.
    let is_usual = matches!(
        name,
        "accept"
            | "accept-encoding"
            | "accept-language"
            | "cache-control"
            | "connection"
            | "content-length"
            | "content-type"
            | "dnt"
            | "host"
            | "origin"
            | "priority"
            | "referer"
            | "sec-ch-ua"
            | "sec-ch-ua-mobile"
            | "sec-ch-ua-platform"
            | "sec-fetch-dest"
            | "sec-fetch-mode"
            | "sec-fetch-site"
            | "sec-gpc"
            | "user-agent"
            | "via"
            | "x-amz-cf-id"
            | "x-amzn-trace-id"
            | "x-forwarded-for"
            | "x-forwarded-port"
            | "x-forwarded-proto"
    );
    !is_usual && WORDS.iter().any(|word| name.contains(word))
}
