//! What people asked not to be stored, taken out before anything is stored or logged.
//!
//! | asked by | policy | done |
//! |---|---|---|
//! | `aip`, with any value, as Google reads it | any | anonymised |
//! | `Sec-GPC: 1`, `DNT: 1` | `ignore` | nothing |
//! | | `anonymise` | anonymised |
//! | | `drop-id` | anonymised, and `cid` and `_gid` dropped |
//! | nobody | any | secrets in URLs redacted, as always |
//!
//! **Anonymised**: addresses lose their last 8 of 32 or 80 of 128 bits, in `uip`, in the source address and in every header that
//! holds any; `uid` is dropped, and so is a `cid` that is the same. Where else the hit or a header repeats one of those
//! addresses or the user id (of eight bytes or more; shorter ones are part of too much) it is replaced there.
//!
//! **Redacted**: e-mail addresses, user and password before a host, values of parameters named like secrets, and JSON
//! Web Tokens, percent-encoded or not, become `[redacted]` in `dl`, `dr`, `dp`, `st`, in `referer` and in whatever else
//! is a URL. Once redacted, a text stays as it is.
//!
//! Sources: "Anonymize IP", Measurement Protocol parameter reference; "Global Privacy Control", W3C; RFC 7239.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde_json::Value;

use crate::hit::{Given, Hit, Replacement, digit};

/// What takes the place of a secret.
pub const REDACTED: &str = "[redacted]";

/// User ids and addresses that are looked for everywhere have this many bytes: shorter ones are part of other words.
const LEAST_SECRET_BYTES: usize = 8;
const LEAST_ADDRESS_BYTES: usize = 7;

/// How often a URL is read at the most. The longest that the property test found takes two passes that change something.
const MOST_PASSES: usize = 8;

/// What to do when a browser says that it does not want to be tracked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// Nothing.
    Ignore,
    /// Shorten addresses and drop the user id.
    #[default]
    Anonymise,
    /// That, and drop the client id.
    DropId,
}

impl Policy {
    /// Every policy, by the word for it in `OPT_OUT`.
    pub const WORDS: [(&'static str, Self); 3] =
        [("ignore", Self::Ignore), ("anonymise", Self::Anonymise), ("drop-id", Self::DropId)];
}

/// What is done to one hit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decision {
    /// Addresses are shortened and the user id is dropped.
    pub anonymise: bool,
    /// The client id is dropped too. Never without `anonymise`.
    pub drop_id: bool,
}

/// Decides on a hit.
#[must_use]
pub fn decide(hit: &Hit, headers: &[(Cow<'_, str>, Cow<'_, str>)], policy: Policy) -> Decision {
    let is_asked = || {
        headers.iter().any(|(name, value)| {
            (name.eq_ignore_ascii_case("sec-gpc") || name.eq_ignore_ascii_case("dnt")) && value.trim() == "1"
        })
    };
    let is_policy = policy != Policy::Ignore && is_asked();
    // Google: present is enough, and `aip=0` is present. A JSON null is not.
    let is_aip = hit.given("aip").is_some_and(|value| value != Given::Json("null"));
    Decision { anonymise: is_aip || is_policy, drop_id: is_policy && policy == Policy::DropId }
}

/// Shortens an address, with or without a port: /24 of IPv4, /48 of IPv6. `None` when it is none.
///
/// IPv4 inside IPv6 counts as IPv4, mapped (`::ffff:a.b.c.d`) or in front (6to4, `2002:aabb:ccdd::`).
#[must_use]
pub fn shorten(address: &str) -> Option<IpAddr> {
    let address = parse_address(address)?.to_canonical();
    Some(match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(address) => match address.segments() {
            [0x2002, high, low, ..] => Ipv6Addr::new(0x2002, high, low & 0xff00, 0, 0, 0, 0, 0).into(),
            [a, b, c, ..] => Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into(),
        },
    })
}

fn parse_address(text: &str) -> Option<IpAddr> {
    // Without the interface of fe80::1%eth0.
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let bare = bare.split_once('%').map_or(bare, |(address, _)| address);
    bare.parse().ok().or_else(|| text.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

/// Takes out of the texts of one request what must not be stored, and counts it.
#[derive(Debug)]
pub struct Cleaner {
    decision: Decision,
    /// What is replaced wherever it is, and by what. The longest first, so that none is left in part.
    known: Vec<(String, String)>,
    redacted: usize,
}

impl Cleaner {
    /// A cleaner for a hit, the address that it came from and the headers that it came with.
    #[must_use]
    pub fn new(
        decision: Decision,
        hit: &Hit,
        source_ip: Option<&str>,
        headers: &[(Cow<'_, str>, Cow<'_, str>)],
    ) -> Self {
        let mut known = Vec::new();
        if decision.anonymise {
            let mut keep = |text: &str| {
                let text = text.trim();
                if text.len() >= LEAST_ADDRESS_BYTES
                    && let Some(short) = shorten(text)
                    && !known.iter().any(|(known, _)| known == text)
                {
                    known.push((text.to_owned(), short.to_string()));
                }
            };
            source_ip.into_iter().chain(hit.get("uip")).for_each(&mut keep);
            for (_, value) in headers.iter().filter(|(name, _)| holds_addresses(name)) {
                value.split(',').for_each(&mut keep);
            }
            for id in ["uid"].iter().chain(["cid", "_gid"].iter().filter(|_| decision.drop_id)) {
                if let Some(id) = hit.get(id).filter(|id| id.len() >= LEAST_SECRET_BYTES) {
                    known.push((id.to_owned(), REDACTED.to_owned()));
                }
            }
            known.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        }
        Self { decision, known, redacted: 0 }
    }

    /// Number of secrets that were replaced until now.
    #[must_use]
    pub const fn redacted(&self) -> usize {
        self.redacted
    }

    /// The address as it may be stored.
    #[must_use]
    pub fn address<'a>(&self, address: Option<&'a str>) -> Option<Cow<'a, str>> {
        let address = address.filter(|address| !address.is_empty())?;
        if self.decision.anonymise {
            return shorten(address).map(|address| address.to_string().into());
        }
        Some(address.into())
    }

    /// The hit as it may be stored.
    #[must_use]
    pub fn hit<'h>(&mut self, hit: &'h Hit) -> Cow<'h, Hit> {
        let uid = hit.get("uid").filter(|uid| !uid.is_empty());
        let mut replacements = Vec::new();
        for (at, (name, value)) in hit.iter().enumerate() {
            if let Some(replacement) = self.parameter(name, value, uid) {
                replacements.push((at, replacement));
            }
        }
        if replacements.is_empty() { Cow::Borrowed(hit) } else { Cow::Owned(hit.replaced(&replacements)) }
    }

    fn parameter(&mut self, name: &str, value: Given<'_>, uid: Option<&str>) -> Option<Replacement> {
        let Decision { anonymise, drop_id } = self.decision;
        if anonymise {
            let text = match value {
                Given::Text(text) | Given::Json(text) => text,
            };
            match name {
                "uid" => return Some(Replacement::Removed),
                "cid" if drop_id || uid == Some(text) => return Some(Replacement::Removed),
                "_gid" if drop_id => return Some(Replacement::Removed),
                "uip" => {
                    return Some(shorten(text).map_or(Replacement::Removed, |ip| Replacement::Text(ip.to_string())));
                }
                _ => {}
            }
        }
        match value {
            Given::Text(text) => {
                let is_url = matches!(name, "dl" | "dr" | "dp" | "st") || is_url(text);
                self.text(text, is_url).map(Replacement::Text)
            }
            Given::Json(json) => self.json(json).map(Replacement::Json),
        }
    }

    /// A header's value as it may be stored. `None` when nothing of it may.
    #[must_use]
    pub fn header<'a>(&mut self, name: &str, value: &'a str) -> Option<Cow<'a, str>> {
        if self.decision.anonymise {
            if name.eq_ignore_ascii_case("forwarded") {
                return forwarded(value).map(Cow::Owned);
            }
            if holds_addresses(name) {
                let addresses: Vec<_> =
                    value.split(',').filter_map(shorten).map(|address| address.to_string()).collect();
                return Some(addresses.join(", ").into()).filter(|addresses: &Cow<'_, str>| !addresses.is_empty());
            }
        }
        let is_url = name.eq_ignore_ascii_case("referer") || is_url(value);
        Some(self.text(value, is_url).map_or(Cow::Borrowed(value), Cow::Owned))
    }

    /// A path as it may be stored.
    #[must_use]
    pub fn path<'a>(&mut self, path: &'a str) -> Cow<'a, str> {
        self.text(path, true).map_or(Cow::Borrowed(path), Cow::Owned)
    }

    /// Another text as it may be stored.
    #[must_use]
    pub fn other<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        self.text(text, false).map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// What a text becomes, if it does not stay.
    fn text(&mut self, text: &str, is_url: bool) -> Option<String> {
        let mut changed = None;
        if is_url {
            let (redacted, count) = redact_url(text);
            self.redacted += count;
            if let Cow::Owned(redacted) = redacted {
                changed = Some(redacted);
            }
        }
        for (secret, replacement) in &self.known {
            let from = changed.as_deref().unwrap_or(text);
            if let Some(replaced) = replace_word(from, secret, replacement) {
                changed = Some(replaced);
                self.redacted += 1;
            }
        }
        changed
    }

    /// What JSON becomes, if it does not stay.
    fn json(&mut self, json: &str) -> Option<String> {
        let is_nested = json.starts_with(['[', '{']);
        let is_suspect = json.contains("//") || json.contains("\\/") || json.contains("\\u");
        if self.known.is_empty() && !(is_nested && is_suspect) {
            return None;
        }
        let Ok(mut value) = serde_json::from_str(json) else {
            // A number that no program can hold.
            let is_known = self.known.iter().any(|(secret, _)| json.contains(secret.as_str()));
            self.redacted += usize::from(is_known);
            return is_known.then(|| Value::from(REDACTED).to_string());
        };
        self.value(&mut value).then(|| value.to_string())
    }

    /// Cleans a value, and says whether it changed.
    fn value(&mut self, value: &mut Value) -> bool {
        let changed = match value {
            Value::Null | Value::Bool(_) => None,
            Value::Number(number) => {
                let number = number.to_string();
                self.text(&number, false).map(|_| REDACTED.to_owned())
            }
            Value::String(text) => self.text(text, is_url(text)),
            Value::Array(values) => return self.values(values.iter_mut()),
            Value::Object(members) => return self.values(members.values_mut()),
        };
        let is_changed = changed.is_some();
        if let Some(text) = changed {
            *value = Value::String(text);
        }
        is_changed
    }

    /// Cleans all values, and says whether one changed.
    fn values<'v>(&mut self, values: impl Iterator<Item = &'v mut Value>) -> bool {
        values.map(|value| self.value(value)).filter(|is_changed| *is_changed).count() > 0
    }
}

fn is_url(text: &str) -> bool {
    let starts = |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    starts("https://") || starts("http://")
}

/// Whether a header tells addresses by which somebody could be found. Knows the names that proxies and content delivery
/// networks use; others that hold a known address lose it there.
fn holds_addresses(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let is_word = |word: &str| lower.split(['-', '_']).any(|part| part == word);
    lower == "x-forwarded-for"
        || lower.contains("forwarded-for")
        || is_word("ip")
        || is_word("ipv6")
        || is_word("clientip")
        || is_word("addr")
        || (is_word("address") && (is_word("viewer") || is_word("client") || is_word("remote") || is_word("external")))
}

/// `Forwarded` without what names somebody: addresses shortened, obfuscated and unknown names dropped.
fn forwarded(value: &str) -> Option<String> {
    let elements = value.split(',').map(|element| {
        let pairs = element.split(';').filter_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            let name = name.trim().to_ascii_lowercase();
            match name.as_str() {
                "proto" | "host" if parse_address(value).is_none() => Some(format!("{name}={}", value.trim())),
                "for" | "by" | "host" => Some(match shorten(value)? {
                    IpAddr::V4(address) => format!("{name}={address}"),
                    IpAddr::V6(address) => format!("{name}=\"[{address}]\""),
                }),
                _ => None,
            }
        });
        pairs.collect::<Vec<_>>().join(";")
    });
    let elements: Vec<_> = elements.filter(|element| !element.is_empty()).collect();
    Some(elements.join(", ")).filter(|elements| !elements.is_empty())
}

/// Replaces a word wherever it stands alone. `None` when it does nowhere.
fn replace_word(text: &str, word: &str, replacement: &str) -> Option<String> {
    let is_part = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let mut replaced = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices(word) {
        let (before, from) = text.split_at_checked(at)?;
        let after = from.get(word.len()..)?;
        // A percent-encoded character in front ends in a digit, and is no part of the word.
        let is_escape =
            matches!(before.as_bytes(), [.., b'%', high, low] if digit(*high).is_some() && digit(*low).is_some());
        if (is_part(before.chars().next_back()) && !is_escape) || is_part(after.chars().next()) {
            continue;
        }
        replaced.push_str(text.get(done..at)?);
        replaced.push_str(replacement);
        done = at + word.len();
    }
    if done == 0 {
        return None;
    }
    replaced.push_str(text.get(done..)?);
    Some(replaced)
}

/// Redacts what is secret in a URL or a path, and counts it.
#[must_use]
pub fn redact_url(text: &str) -> (Cow<'_, str>, usize) {
    let mut found = Found { text: Cow::Borrowed(text), count: 0 };
    // What is taken out can change how the rest reads: a value that ends a host, say. So it is read until it stays.
    for _ in 0..MOST_PASSES {
        let before = found.count;
        let [at, equals, percent] = [b'@', b'=', b'%'].map(|byte| found.text.as_bytes().contains(&byte));
        if at {
            found.replace(user_info);
        }
        if equals || percent {
            found.replace(secret_values);
        }
        if at || percent {
            found.replace(addresses);
        }
        if found.text.contains("eyJ") {
            found.replace(web_tokens);
        }
        if found.count == before {
            break;
        }
    }
    (found.text, found.count)
}

struct Found<'a> {
    text: Cow<'a, str>,
    count: usize,
}

impl Found<'_> {
    /// Replaces the ranges that are found, which are in order and do not overlap.
    fn replace(&mut self, find: fn(&str) -> Vec<(usize, usize)>) {
        let ranges = find(&self.text);
        if ranges.is_empty() {
            return;
        }
        self.count += ranges.len();
        let mut replaced = String::with_capacity(self.text.len());
        let mut done = 0;
        for (start, end) in ranges {
            replaced.push_str(self.text.get(done..start).unwrap_or_default());
            replaced.push_str(REDACTED);
            done = end;
        }
        replaced.push_str(self.text.get(done..).unwrap_or_default());
        self.text = Cow::Owned(replaced);
    }
}

/// `https://user:password@host` → where `user:password` is.
fn user_info(text: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let authority = text.get(start..).unwrap_or_default();
        let authority = authority.split(['/', '?', '#', '&', ' ']).next().unwrap_or_default();
        if let Some((user, _)) = authority.rsplit_once('@')
            && !user.is_empty()
            && user != REDACTED
        {
            found.push((start, start + user.len()));
        }
    }
    found
}

/// A separator in a URL, as it is or percent-encoded, and its length.
fn separator(rest: &[u8]) -> Option<(u8, usize)> {
    match rest {
        [byte @ (b'?' | b'&' | b'#' | b';' | b'/' | b'='), ..] => Some((*byte, 1)),
        [b'%', high, low, ..] => {
            let byte = digit(*high)? << 4 | digit(*low)?;
            matches!(byte, b'?' | b'&' | b'#' | b';' | b'/' | b'=').then_some((byte, 3))
        }
        _ => None,
    }
}

/// Where the values of parameters are that are named like secrets.
fn secret_values(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let rest = |at: usize| bytes.get(at..).unwrap_or_default();
    let mut found = Vec::new();
    let (mut at, mut name_start) = (0, 0);
    while at < bytes.len() {
        let Some((byte, length)) = separator(rest(at)) else {
            at += 1;
            continue;
        };
        let name = text.get(name_start..at).unwrap_or_default();
        at += length;
        name_start = at;
        if byte != b'=' || !is_secret(name) {
            continue;
        }
        // A value with its own separators encoded ends where its own text does: at a separator that is not encoded.
        let is_encoded = length > 1;
        let ends = |from: usize| {
            separator(rest(from))
                .is_some_and(|(byte, length)| matches!(byte, b'&' | b'#') && (length == 1 || is_encoded))
        };
        let end = (at..bytes.len()).find(|from| ends(*from)).unwrap_or(bytes.len());
        if end > at && text.get(at..end) != Some(REDACTED) {
            found.push((at, end));
        }
        at = end;
        name_start = end;
    }
    found
}

/// Whether a parameter of this name holds a secret.
fn is_secret(name: &str) -> bool {
    const NAMES: [&str; 21] = [
        "auth",
        "authorization",
        "bearer",
        "code",
        "credential",
        "credentials",
        "jwt",
        "key",
        "otp",
        "pass",
        "passwd",
        "pwd",
        "secret",
        "session",
        "sessid",
        "phpsessid",
        "jsessionid",
        "sid",
        "sig",
        "ticket",
        "awsaccesskeyid",
    ];
    const ENDS: [&str; 9] =
        ["token", "password", "passphrase", "secret", "signature", "apikey", "sessionid", "accesskey", "credential"];
    let decoded = percent_encoding::percent_decode_str(name);
    let bare: String =
        decoded.filter(u8::is_ascii_alphanumeric).map(|byte| char::from(byte.to_ascii_lowercase())).collect();
    NAMES.contains(&bare.as_str()) || ENDS.iter().any(|end| bare.ends_with(end))
}

/// Where e-mail addresses are.
fn addresses(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut done) = (0, 0);
    while at < bytes.len() {
        let length = match bytes.get(at..).unwrap_or_default() {
            [b'@', ..] => 1,
            [b'%', b'4', b'0', ..] => 3,
            // Encoded twice, as in a URL in a URL.
            [b'%', b'2', b'5', b'4', b'0', ..] => 5,
            _ => {
                at += 1;
                continue;
            }
        };
        let start = local_start(bytes, done, at);
        let end = domain_end(bytes, at + length);
        if start < at && end > at + length {
            found.push((start, end));
            done = end;
            at = end;
        } else {
            at += length;
        }
    }
    found
}

/// Where the part before the @ starts.
fn local_start(bytes: &[u8], from: usize, at: usize) -> usize {
    let mut start = at;
    while start > from {
        let head = bytes.get(from..start).unwrap_or_default();
        match head {
            [.., b'%', high, low] if digit(*high).is_some() && digit(*low).is_some() => {
                let byte = digit(*high).unwrap_or_default() << 4 | digit(*low).unwrap_or_default();
                if !is_local(byte) {
                    break;
                }
                start -= 3;
            }
            [.., byte] if is_local(*byte) => start -= 1,
            _ => break,
        }
    }
    start
}

const fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'_' | b'+' | b'-' | b'\'' | b'!' | b'$' | b'*' | b'~')
        || byte >= 0x80
}

/// Where the part after the @ ends: labels, and at least two letters after the last dot. The start when it is none.
fn domain_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start;
    // What follows the last dot, and whether it is letters only.
    let (mut last, mut is_letters, mut labels) = (0, true, 0);
    let mut is_label_empty = true;
    let mut best = start;
    loop {
        let (byte, length) = match bytes.get(end..).unwrap_or_default() {
            [b'%', high, low, ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, 3),
                _ => break,
            },
            [byte, ..] => (*byte, 1),
            [] => break,
        };
        if byte == b'.' {
            if is_label_empty {
                break;
            }
            labels += 1;
            (last, is_letters, is_label_empty) = (0, true, true);
        } else if byte.is_ascii_alphanumeric() || byte == b'-' || byte >= 0x80 {
            last += 1;
            is_letters &= byte.is_ascii_alphabetic() || byte >= 0x80;
            is_label_empty = false;
        } else {
            break;
        }
        end += length;
        if labels > 0 && last >= 2 && is_letters {
            best = end;
        }
    }
    // `icon@2x.png` is a picture for dense screens.
    let is_density = matches!(bytes.get(start..best), Some([b'1'..=b'9', b'x', b'.', ..]));
    if is_density { start } else { best }
}

/// Where JSON Web Tokens are: `eyJ`, base64url, at least one dot.
fn web_tokens(text: &str) -> Vec<(usize, usize)> {
    const LEAST_BYTES: usize = 20;
    let mut found = Vec::new();
    let mut seen = 0;
    for (start, _) in text.match_indices("eyJ") {
        // Part of what was looked at: a token, or too short, or without a dot, as its end is.
        if start < seen {
            continue;
        }
        let token = text.get(start..).unwrap_or_default();
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let length = token.bytes().position(|byte| !is_token(byte)).unwrap_or(token.len());
        seen = start + length;
        if length >= LEAST_BYTES && token.get(..length).is_some_and(|token| token.contains('.')) {
            found.push((start, seen));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_shortened() {
        for (address, expected) in [
            ("203.0.113.77", Some("203.0.113.0")),
            (" 203.0.113.77:443 ", Some("203.0.113.0")),
            ("2001:db8:85a3:8d3:1319:8a2e:370:7348", Some("2001:db8:85a3::")),
            ("[2001:db8:85a3:8d3::1]:8080", Some("2001:db8:85a3::")),
            ("\"[2001:db8:85a3:8d3::1]\"", Some("2001:db8:85a3::")),
            ("::ffff:203.0.113.77", Some("203.0.113.0")),
            ("2002:cb00:714d::1", Some("2002:cb00:7100::")),
            ("fe80::1%eth0", Some("fe80::")),
            ("::1", Some("::")),
            ("203.0.113", None),
            ("unknown", None),
            ("", None),
            ("203.0.113.77, 10.0.0.1", None),
        ] {
            assert_eq!(shorten(address).map(|address| address.to_string()).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn secrets_in_urls_are_redacted() {
        for (url, expected, count) in [
            ("https://x.org/a?b=c#d", "https://x.org/a?b=c#d", 0),
            ("/u/ann@example.org/edit", "/u/[redacted]/edit", 1),
            ("/u?m=ann%40example.org&x=1", "/u?m=[redacted]&x=1", 1),
            ("/u?m=ann%2Bshop@example.co.uk.", "/u?m=[redacted].", 1),
            ("/u?m=%22ann@example.org%22", "/u?m=%22[redacted]%22", 1),
            ("mailto:ann@example.org?b@c.de", "mailto:[redacted]?[redacted]", 2),
            ("/r?u=https%3A%2F%2Fx.org%2F%3Fm%3Dann%2540x.org", "/r?u=https%3A%2F%2Fx.org%2F%3Fm%3D[redacted]", 1),
            ("/münch@bücher.example", "/[redacted]", 1),
            ("https://ann:pw@x.org/a", "https://[redacted]@x.org/a", 1),
            ("https://medium.com/@ann/x", "https://medium.com/@ann/x", 0),
            ("/npm/react@18.2.0/umd/x.js", "/npm/react@18.2.0/umd/x.js", 0),
            ("/icon@2x.png", "/icon@2x.png", 0),
            ("/maps/@52.37,4.89,12z", "/maps/@52.37,4.89,12z", 0),
            ("?token=abc&x=1", "?token=[redacted]&x=1", 1),
            ("?ACCESS_TOKEN=a=b/c?d;e%26f#g", "?ACCESS_TOKEN=[redacted]#g", 1),
            ("/a;jsessionid=1A2B", "/a;jsessionid=[redacted]", 1),
            ("#id_token=a&state=b", "#id_token=[redacted]&state=b", 1),
            (
                "?api-key=1&apiKey=2&key=3&sid=4&code=5&sig=6",
                "?api-key=[redacted]&apiKey=[redacted]&key=[redacted]&sid=[redacted]&code=[redacted]&sig=[redacted]",
                6,
            ),
            ("?user%5Bpassword%5D=x", "?user%5Bpassword%5D=[redacted]", 1),
            ("/r?u=%2Fa%3Ftoken%3Dabc%26b%3D1&c=2", "/r?u=%2Fa%3Ftoken%3D[redacted]%26b%3D1&c=2", 1),
            ("?token=&key", "?token=&key", 0),
            (
                "?promo_code=SUMMER&keyword=shoe&author=x&utm_source=y",
                "?promo_code=SUMMER&keyword=shoe&author=x&utm_source=y",
                0,
            ),
            ("/v/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_/x", "/v/[redacted]/x", 1),
            ("/eyJx/short.eyJ", "/eyJx/short.eyJ", 0),
            ("%", "%", 0),
            ("a%4", "a%4", 0),
            ("=@=", "=@=", 0),
            // Once the value is gone, what is before the @ is a user.
            ("https://sid%3D?%26sid@", "https://[redacted]@", 2),
        ] {
            let (redacted, found) = redact_url(url);
            assert_eq!((redacted.as_ref(), found), (expected, count), "{url}");
        }
    }

    fn headers<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(Cow<'a, str>, Cow<'a, str>)> {
        pairs.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect()
    }

    #[test]
    fn who_is_anonymised_is_decided_by_the_hit_and_the_policy() {
        let decided = |hit: &str, pairs: &[(&str, &str)], policy: Policy| {
            let Decision { anonymise, drop_id } =
                decide(&Hit::from_form(hit.as_bytes()).unwrap(), &headers(pairs), policy);
            (anonymise, drop_id)
        };
        for hit in ["aip=1", "aip=0", "aip="] {
            assert_eq!(decided(hit, &[], Policy::Ignore), (true, false), "{hit}");
        }
        for asked in [[("Sec-GPC", "1")], [("dnt", " 1 ")]] {
            assert_eq!(decided("v=1", &asked, Policy::Ignore), (false, false));
            assert_eq!(decided("v=1", &asked, Policy::Anonymise), (true, false));
            assert_eq!(decided("v=1", &asked, Policy::DropId), (true, true));
        }
        assert_eq!(decided("v=1", &[("dnt", "0"), ("sec-gpc", "")], Policy::DropId), (false, false));
        assert_eq!(decided("aip=1", &[], Policy::DropId), (true, false));
        let null = Hit::from_json(br#"{"aip":null}"#).unwrap();
        assert!(!decide(&null, &[], Policy::DropId).anonymise);
    }

    fn cleaner(hit: &Hit, decision: Decision, pairs: &[(&str, &str)]) -> Cleaner {
        Cleaner::new(decision, hit, Some("198.51.100.23"), &headers(pairs))
    }

    const ANONYMISE: Decision = Decision { anonymise: true, drop_id: false };
    const DROP_ID: Decision = Decision { anonymise: true, drop_id: true };

    #[test]
    fn anonymised_hits_hold_no_address_and_no_user() {
        let hit = Hit::from_form(
            b"v=1&cid=5.7&uid=ann-123456&uip=203.0.113.77&cd1=ann-123456&cd2=from+198.51.100.23,+2198.51.100.23\
              &dl=https://x.org/%3Fu=ann-123456%26ip=203.0.113.77&_gid=G&av=2.1.7.4&cd3=xann-123456",
        );
        let hit = hit.unwrap();
        let mut cleaner_of_hit = cleaner(&hit, ANONYMISE, &[]);
        let clean = cleaner_of_hit.hit(&hit);
        for (name, expected) in [
            ("cid", Some("5.7")),
            ("uid", None),
            ("uip", Some("203.0.113.0")),
            ("cd1", Some("[redacted]")),
            ("cd2", Some("from 198.51.100.0, 2198.51.100.23")),
            ("dl", Some("https://x.org/?u=[redacted]&ip=203.0.113.0")),
            ("_gid", Some("G")),
            ("av", Some("2.1.7.4")),
            ("cd3", Some("xann-123456")),
        ] {
            assert_eq!(clean.get(name), expected, "{name}");
        }
        assert_eq!(cleaner_of_hit.redacted(), 4);
        let mut strict = cleaner(&hit, DROP_ID, &[]);
        let clean = strict.hit(&hit);
        assert_eq!((clean.get("cid"), clean.get("_gid"), clean.get("v")), (None, None, Some("1")));
        let same = Hit::from_form(b"cid=7&uid=7&uip=here&aip=1").unwrap();
        let clean = cleaner(&same, ANONYMISE, &[]).hit(&same).into_owned();
        assert_eq!(clean.to_form(), "aip=1");
        let nobody = cleaner(&same, Decision::default(), &[]).hit(&same).into_owned();
        assert!(nobody == same);
    }

    #[test]
    fn nested_json_is_cleaned_too() {
        let raw = br#"{"uid":123456789,"uip":["203.0.113.77"],"cid":"1","a":{"u":[123456789,"is 123456789"],"n":1.10},
            "l":["https:\/\/x.org\/?token=a"],"n":5.10,"big":123456789e999,"m":{"e":1e999,"t":"198.51.100.23"}}"#;
        let hit = Hit::from_json(raw).unwrap();
        let clean = cleaner(&hit, ANONYMISE, &[]).hit(&hit).into_owned();
        assert_eq!(clean.given("uid"), None);
        assert_eq!(clean.given("uip"), None);
        assert_eq!(clean.given("a"), Some(Given::Json(r#"{"n":1.1,"u":["[redacted]","is [redacted]"]}"#)));
        assert_eq!(clean.given("l"), Some(Given::Json(r#"["https://x.org/?token=[redacted]"]"#)));
        assert_eq!(clean.given("n"), Some(Given::Json("5.10")));
        assert_eq!(clean.given("big"), Some(Given::Json(r#""[redacted]""#)));
        assert_eq!(clean.given("m"), Some(Given::Json(r#""[redacted]""#)));
    }

    #[test]
    fn headers_are_cleaned() {
        let hit = Hit::from_form(b"uid=ann-123456").unwrap();
        let pairs = [("x-forwarded-for", "203.0.113.77, 10.1.2.3")];
        let mut cleaner = cleaner(&hit, ANONYMISE, &pairs);
        for (name, value, expected) in [
            ("x-forwarded-for", "203.0.113.77, unknown,2001:db8:1:2::3", Some("203.0.113.0, 2001:db8:1::")),
            ("X-Real-IP", "203.0.113.77", Some("203.0.113.0")),
            ("cf-connecting-ip", "203.0.113.77", Some("203.0.113.0")),
            ("true-client-ip", "none", None),
            ("cloudfront-viewer-address", "203.0.113.77:4711", Some("203.0.113.0")),
            (
                "forwarded",
                "for=203.0.113.77;proto=https;by=_x, For=\"[2001:db8:1:2::3]:80\"",
                Some("for=203.0.113.0;proto=https, for=\"[2001:db8:1::]\""),
            ),
            ("forwarded", "for=_hidden", None),
            ("x-other", "seen 203.0.113.77/ann-123456", Some("seen 203.0.113.0/[redacted]")),
            ("user-agent", "Chrome/143.0.0.0", Some("Chrome/143.0.0.0")),
            ("referer", "https://x.org/?sid=1", Some("https://x.org/?sid=[redacted]")),
        ] {
            assert_eq!(cleaner.header(name, value).as_deref(), expected, "{name}: {value}");
        }
        let mut open = super::Cleaner::new(Decision::default(), &hit, None, &[]);
        assert_eq!(open.header("x-forwarded-for", "203.0.113.77").as_deref(), Some("203.0.113.77"));
        assert_eq!(open.path("/collect/ann@example.org"), "/collect/[redacted]");
        assert_eq!(open.redacted(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn redaction_is_idempotent(
            text in prop_oneof![
                any::<String>(),
                "(https://)?([a-z@.:/?&=#;%+]|%40|%2540|%3D|%26|%2E|token|key=|sid|eyJ[a-zA-Z.]{17}|b@c\\.de|\\[redacted\\]|é){0,14}",
            ],
        ) {
            let (once, _) = redact_url(&text);
            let (twice, count) = redact_url(&once);
            prop_assert_eq!(&twice, &once);
            prop_assert_eq!(count, 0);
        }

        #[test]
        fn no_address_survives(
            before in "[a-z/?&=]{0,8}", local in "[a-z0-9._+-]{1,8}", domain in "[a-z]{1,6}\\.[a-z]{2,4}", encoded in any::<bool>(),
        ) {
            let address = format!("{local}{}{domain}", if encoded { "%40" } else { "@" });
            let url = format!("/{before}/{address}?x");
            prop_assert!(!redact_url(&url).0.contains(&address), "{}", url);
        }

        #[test]
        fn shortened_addresses_stay(v4 in any::<u32>(), v6 in any::<u128>()) {
            for address in [IpAddr::from(Ipv4Addr::from(v4)), Ipv6Addr::from(v6).into()] {
                let once = shorten(&address.to_string()).unwrap();
                prop_assert_eq!(shorten(&once.to_string()), Some(once));
            }
        }
    }
}
