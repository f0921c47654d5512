//! Headers of a request, and which of them are stored.

use std::borrow::Cow;

use crate::privacy::Cleaner;

/// Name, in lower case, and value.
pub type Header<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The headers as they are stored: only those that [`is_stored`] or `more` names, cleaned, and with the values of a repeated name
/// joined. What is in those of `more` nobody knows, so they are not stored of visitors who opt out.
pub(crate) fn stored<'a>(
    headers: &'a [Header<'a>],
    more: &[String],
    cleaner: &mut Cleaner,
) -> Vec<(&'a str, Cow<'a, str>)> {
    let mut stored: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(headers.len());
    let anonymises = cleaner.anonymises();
    // A bit for each name that came before: nearly no name is repeated, so nearly none has to be searched for.
    let mut before = 0_u64;
    let is_stored = |name: &str| is_stored(name) || (!anonymises && more.iter().any(|other| other == name));
    for (name, value) in headers.iter().filter(|(name, _)| is_stored(name)) {
        let Some(value) = cleaner.header(name, value) else { continue };
        let bit = 1 << bucket(name);
        let repeated = if before & bit == 0 { None } else { stored.iter_mut().find(|(other, _)| other == name) };
        before |= bit;
        match repeated {
            Some((_, values)) => *values = format!("{values}, {value}").into(),
            None => stored.push((name, value)),
        }
    }
    stored
}

/// A number below 64, equal for equal names.
fn bucket(name: &str) -> usize {
    let at = |at: usize| name.as_bytes().get(at).copied().map_or(0, usize::from);
    (name.len() * 7 + at(0) + at(name.len() / 2) * 3 + at(name.len().saturating_sub(2)) * 5) % 64
}

/// Whether a header is stored. Names are in lower case.
///
/// This is a list of what is known to be harmless, because nobody can list what is not: proxies that sign visitors in add
/// their identity under names of their own, such as `x-forwarded-email` or `cf-access-jwt-assertion`.
fn is_stored(name: &str) -> bool {
    matches!(
        name,
        // The request and its body.
        "accept"
            | "accept-charset"
            | "accept-encoding"
            | "accept-language"
            | "cache-control"
            | "connection"
            | "content-encoding"
            | "content-language"
            | "content-length"
            | "content-type"
            | "date"
            | "host"
            | "origin"
            | "pragma"
            | "priority"
            | "purpose"
            | "referer"
            | "te"
            | "transfer-encoding"
            | "upgrade-insecure-requests"
            | "user-agent"
            | "x-purpose"
            | "x-requested-with"
            // The visitor's wish.
            | "dnt"
            | "sec-gpc"
            // The device and its connection.
            | "device-memory"
            | "downlink"
            | "dpr"
            | "ect"
            | "rtt"
            | "save-data"
            | "sec-purpose"
            | "viewport-width"
            | "width"
            // The way here: gateways, proxies and content delivery networks.
            | "cf-connecting-ip"
            | "cf-ipcountry"
            | "cf-ray"
            | "cloudfront-viewer-address"
            | "cloudfront-viewer-country"
            | "fastly-client-ip"
            | "forwarded"
            | "true-client-ip"
            | "via"
            | "x-amz-cf-id"
            | "x-amzn-trace-id"
            | "x-forwarded-for"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-forwarded-proto"
            | "x-real-ip"
    ) || name.starts_with("sec-ch-")
        || name.starts_with("sec-fetch-")
}
