//! What must not be stored of a text, wherever it is in it: secrets, and the addresses and ids of a visitor who opts out.
//!
//! | found | becomes `[redacted]` |
//! |---|---|
//! | `https://user:password@host` | user and password |
//! | `name=value`, in a URL or not | the value, up to `&` or `#`, if the name is one of [`NAMES`] or [`PLAIN`], or ends in one of [`ENDS`] |
//! | `name: value`, `"name": "value"` | the value, if the name is one of [`PLAIN`] or ends in one of [`ENDS`] |
//! | `Bearer value` | the value, from eight characters on |
//! | `name@domain.tld` | all of it |
//! | a JSON Web Token | all of it |
//! | a known id | all of it, where it is not part of a longer word |
//! | a known address, however it is written | it is not redacted but shortened |
//!
//! Percent-encoding is undone for the search, however often it was done: the text between the finds stays as it was. Redacting a
//! text again does not change it.

use std::{borrow::Cow, cmp::Reverse, net::IpAddr};

use crate::{address::shorten, hit::digit};

/// Replaces a secret.
pub const REDACTED: &str = "[redacted]";

/// Most passes over a text. Two that change something are the most that the property test has found.
const MAX_PASSES: usize = 8;

/// Names of parameters, of letters and digits only, whose value is secret after `=`. After a colon they are ordinary words.
const NAMES: [&str; 12] =
    ["auth", "bearer", "code", "credentials", "jwt", "key", "otp", "pass", "session", "sid", "sig", "ticket"];

/// Names whose value is secret after `=` and after a colon.
const PLAIN: [&str; 6] = ["authorization", "jsessionid", "passwd", "phpsessid", "pwd", "sessid"];

/// Ends of such names.
const ENDS: [&str; 10] = [
    "accesskey",
    "accesskeyid",
    "apikey",
    "credential",
    "passphrase",
    "password",
    "secret",
    "sessionid",
    "signature",
    "token",
];

/// Shortest value of `Bearer value`.
const LEAST_BEARER: usize = 8;

/// The addresses and ids of a visitor who opts out.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Sorted.
    addresses: Vec<IpAddr>,
    ids: Vec<String>,
}

impl Known {
    pub(crate) fn new(mut addresses: Vec<IpAddr>, ids: Vec<String>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        Self { addresses, ids }
    }

    /// Only the ids.
    pub(crate) fn without_addresses(&self) -> Self {
        Self { addresses: Vec::new(), ids: self.ids.clone() }
    }

    /// Whether an id is part of a text, be it of a longer word.
    pub(crate) fn has_id_in(&self, text: &str) -> bool {
        self.ids.iter().any(|id| text.contains(id))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ids.is_empty()
    }
}

/// Whether a value of this name is secret, wherever it is.
pub(crate) fn is_secret_name(name: &str) -> bool {
    is_plain_secret(&bare(name.as_bytes()))
}

fn is_plain_secret(bare: &str) -> bool {
    PLAIN.contains(&bare) || ENDS.iter().any(|end| bare.ends_with(end))
}

/// The letters and digits of a name, in lower case.
fn bare(name: &[u8]) -> String {
    name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}

/// Replaces what must not be stored. `None` if there is nothing; also returns how much there was.
#[must_use]
pub(crate) fn redact(text: &str, known: &Known) -> Option<(String, usize)> {
    let mut found = Found { text: Cow::Borrowed(text), count: 0 };
    // A redaction can change how the rest is parsed, for example when the value was the end of a host. So this repeats until
    // nothing changes.
    for _ in 0..MAX_PASSES {
        let before = found.count;
        let marks = Marks::of(&found.text);
        if marks.0 & (Marks::AT | Marks::PERCENT) > 0 {
            found.replace(user_info);
        }
        if marks.0 & (Marks::EQUALS | Marks::PERCENT) > 0 {
            found.replace(secret_values);
        }
        let has_bearer = marks.0 & Marks::SPACE > 0 && (found.text.contains("earer ") || found.text.contains("EARER "));
        if marks.0 & (Marks::COLON | Marks::PERCENT) > 0 || has_bearer {
            found.replace(spoken_values);
        }
        if marks.0 & (Marks::AT | Marks::PERCENT) > 0 {
            found.replace(emails);
        }
        if marks.0 & Marks::PERCENT > 0 || (marks.0 & Marks::J > 0 && found.text.contains("eyJ")) {
            found.replace(web_tokens);
        }
        if !known.is_empty() {
            found.replace(|view| ids(view, &known.ids));
            found.replace(|view| addresses(view, &known.addresses));
        }
        if found.count == before {
            break;
        }
    }
    match found.text {
        Cow::Owned(text) => Some((text, found.count)),
        Cow::Borrowed(_) => None,
    }
}

/// Which bytes occur in a text that the finds have in them, found in one pass: most texts have none.
struct Marks(u8);

impl Marks {
    const AT: u8 = 1;
    const EQUALS: u8 = 2;
    const COLON: u8 = 4;
    const PERCENT: u8 = 8;
    const SPACE: u8 = 16;
    const J: u8 = 32;

    fn of(text: &str) -> Self {
        Self(text.bytes().fold(0, |marks, byte| marks | Self::mark(byte)))
    }

    const fn mark(byte: u8) -> u8 {
        match byte {
            b'@' => Self::AT,
            b'=' => Self::EQUALS,
            b':' => Self::COLON,
            b'%' => Self::PERCENT,
            b' ' => Self::SPACE,
            b'J' => Self::J,
            _ => 0,
        }
    }
}

/// Bytes of a view that are replaced.
struct Range {
    start: usize,
    end: usize,
    replacement: Cow<'static, str>,
}

impl Range {
    const fn redacted(start: usize, end: usize) -> Self {
        Self { start, end, replacement: Cow::Borrowed(REDACTED) }
    }
}

struct Found<'a> {
    text: Cow<'a, str>,
    count: usize,
}

impl Found<'_> {
    /// Replaces the ranges that `find` returns, which are in order and do not overlap.
    fn replace(&mut self, find: impl Fn(&View<'_>) -> Vec<Range>) {
        let view = View::new(&self.text);
        let ranges = find(&view);
        if ranges.is_empty() {
            return;
        }
        let mut replaced = String::with_capacity(self.text.len());
        let mut done = 0;
        for Range { start, end, replacement } in ranges {
            let (start, end) = (view.place(start), view.place(end));
            replaced.push_str(self.text.get(done..start).unwrap_or_default());
            replaced.push_str(&replacement);
            done = end;
            self.count += 1;
        }
        replaced.push_str(self.text.get(done..).unwrap_or_default());
        self.text = Cow::Owned(replaced);
    }
}

/// A text with its percent-escapes decoded.
struct View<'a> {
    bytes: Cow<'a, [u8]>,
    /// Where each byte begins in the text, and how often it was encoded. Empty if none was.
    places: Vec<(usize, u8)>,
    length: usize,
}

impl<'a> View<'a> {
    fn new(text: &'a str) -> Self {
        let raw = text.as_bytes();
        if !raw.contains(&b'%') {
            return Self { bytes: raw.into(), places: Vec::new(), length: raw.len() };
        }
        let (mut bytes, mut places) = (Vec::with_capacity(raw.len()), Vec::with_capacity(raw.len()));
        let mut at = 0;
        while let Some(rest) = raw.get(at..).filter(|rest| !rest.is_empty()) {
            let (byte, length, depth) = decoded(rest);
            bytes.push(byte);
            places.push((at, depth));
            at += length;
        }
        Self { bytes: bytes.into(), places, length: raw.len() }
    }

    /// Where a byte begins in the text.
    fn place(&self, at: usize) -> usize {
        if self.places.is_empty() {
            return at;
        }
        self.places.get(at).map_or(self.length, |(start, _)| *start)
    }

    /// How often a byte was encoded.
    fn depth(&self, at: usize) -> u8 {
        self.places.get(at).map_or(0, |(_, depth)| *depth)
    }

    fn from(&self, at: usize) -> &[u8] {
        self.bytes.get(at..).unwrap_or_default()
    }

    fn get(&self, start: usize, end: usize) -> &[u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    fn positions(&self, byte: u8) -> impl Iterator<Item = usize> {
        self.bytes.iter().enumerate().filter(move |(_, other)| **other == byte).map(|(at, _)| at)
    }
}

/// The byte that a text begins with, the length of its escape, and how often it was encoded: `%253D` is `=`, twice.
fn decoded(raw: &[u8]) -> (u8, usize, u8) {
    let mut depth: u8 = 0;
    let mut length = 0;
    let mut byte = raw.first().copied().unwrap_or_default();
    while byte == b'%' {
        // The digits come after the `%`, and after a `25` for each time that it was encoded again.
        let start = if depth == 0 { 1 } else { length };
        let Some([high, low]) = raw.get(start..start + 2) else { break };
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { break };
        byte = high << 4 | low;
        length = start + 2;
        depth = depth.saturating_add(1);
    }
    (byte, length.max(1), depth)
}

/// `user:password` in `https://user:password@host`.
fn user_info(view: &View<'_>) -> Vec<Range> {
    let mut found = Vec::new();
    for at in view.positions(b':') {
        let start = at + 3;
        if view.get(at, start) != b"://" {
            continue;
        }
        // What is encoded more often than the slashes is part of the user or the host.
        let depth = view.depth(at + 2);
        let is_end = |(offset, byte): (usize, &u8)| {
            matches!(byte, b'/' | b'?' | b'#' | b'&' | b' ') && view.depth(start + offset) <= depth
        };
        let rest = view.from(start);
        let authority = rest.get(..rest.iter().enumerate().position(is_end).unwrap_or(rest.len())).unwrap_or_default();
        let Some(user) = authority.iter().rposition(|byte| *byte == b'@') else { continue };
        if user > 0 && view.get(start, start + user) != REDACTED.as_bytes() {
            found.push(Range::redacted(start, start + user));
        }
    }
    found
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The name that ends before `at`, without quotes, brackets and spaces after it.
fn name_before(bytes: &[u8], at: usize) -> &[u8] {
    let head = bytes.get(..at).unwrap_or_default();
    let end =
        head.iter().rposition(|byte| !matches!(byte, b' ' | b'"' | b'\'' | b'\\' | b']')).map_or(0, |last| last + 1);
    let head = head.get(..end).unwrap_or_default();
    let start = head.iter().rposition(|byte| !is_name(*byte)).map_or(0, |last| last + 1);
    head.get(start..).unwrap_or_default()
}

/// Values after `=` of names that are secret.
fn secret_values(view: &View<'_>) -> Vec<Range> {
    let mut found = Vec::new();
    let mut done = 0;
    for at in view.positions(b'=') {
        if at < done {
            continue;
        }
        let name = bare(name_before(&view.bytes, at));
        if !(NAMES.contains(&name.as_str()) || is_plain_secret(&name)) {
            continue;
        }
        // After an encoded `=`, the value also ends at encoded separators: it is part of a URL within a URL.
        let depth = view.depth(at);
        let start = at + 1;
        let ends = |(offset, byte): (usize, &u8)| matches!(byte, b'&' | b'#') && view.depth(start + offset) <= depth;
        let length = view.from(start).iter().enumerate().position(ends).unwrap_or(view.from(start).len());
        let end = start + length;
        if length > 0 && view.get(start, end) != REDACTED.as_bytes() {
            found.push(Range::redacted(start, end));
        }
        done = end;
    }
    found
}

/// Values after a colon, quoted or not, and those of `Bearer`.
fn spoken_values(view: &View<'_>) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    let mut done = 0;
    for (at, byte) in view.bytes.iter().enumerate() {
        if at < done {
            continue;
        }
        let start = match byte {
            b':' if is_plain_secret(&bare(name_before(&view.bytes, at))) => at + 1,
            b' ' if is_bearer_before(&view.bytes, at) => at + 1,
            _ => continue,
        };
        let is_bearer = *byte == b' ';
        let opening: usize = view.from(start).iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let start = start + opening;
        // "a", 'a' and, in JSON within JSON, \"a\".
        let (quote, start) = match view.from(start) {
            [b'\\', quote @ (b'"' | b'\''), ..] => (Some((*quote, true)), start + 2),
            [quote @ (b'"' | b'\''), ..] => (Some((*quote, false)), start + 1),
            _ => (None, start),
        };
        let length = value_length(view.from(start), quote);
        let value = view.get(start, start + length);
        if view.from(start).starts_with(REDACTED.as_bytes()) {
            continue;
        }
        let is_scheme = value.eq_ignore_ascii_case(b"bearer") || value.eq_ignore_ascii_case(b"basic");
        if value.starts_with(b"//") || length == 0 || (is_bearer && length < LEAST_BEARER) {
            continue;
        }
        // `Authorization: Bearer value`
        let length = if is_scheme { view.from(start).len() } else { length };
        let rest = view.get(start, start + length);
        if rest.ends_with(REDACTED.as_bytes()) {
            continue;
        }
        found.push(Range::redacted(start, start + length));
        done = start + length;
    }
    found
}

fn is_bearer_before(bytes: &[u8], at: usize) -> bool {
    const WORD: &[u8] = b"bearer";
    let Some(start) = at.checked_sub(WORD.len()) else { return false };
    let is_word = bytes.get(start..at).is_some_and(|word| word.eq_ignore_ascii_case(WORD));
    is_word && !start.checked_sub(1).and_then(|before| bytes.get(before)).is_some_and(|before| is_name(*before))
}

/// Length of a value that is quoted, or ends at a space, a comma, a bracket or the next parameter.
fn value_length(rest: &[u8], quote: Option<(u8, bool)>) -> usize {
    let mut is_escaped = false;
    let end = rest.iter().position(|byte| match quote {
        Some((quote, with_escape)) => {
            let is_end = *byte == quote && is_escaped == with_escape;
            is_escaped = *byte == b'\\' && !is_escaped;
            is_end
        }
        None => matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b';' | b'}' | b']' | b')' | b'&' | b'"' | b'\''),
    });
    match (end, quote) {
        // Without the backslash of the closing quote.
        (Some(end), Some((_, true))) => end.saturating_sub(1),
        (Some(end), _) => end,
        (None, _) => rest.len(),
    }
}

/// E-mail addresses.
fn emails(view: &View<'_>) -> Vec<Range> {
    let mut found = Vec::new();
    let mut done = 0;
    for at in view.positions(b'@') {
        if at < done {
            continue;
        }
        let local = view.get(done, at).iter().rev().take_while(|byte| is_local(**byte)).count();
        let end = domain_end(&view.bytes, at + 1);
        if local > 0 && end > at + 1 {
            found.push(Range::redacted(at - local, end));
            done = end;
        }
    }
    found
}

const fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'.' | b'_' | b'+' | b'-' | b'\'' | b'!' | b'$' | b'*' | b'~')
        || byte >= 0x80
}

/// End of the domain after the @: labels, with at least two letters after the last dot. `start` if there is no domain.
fn domain_end(bytes: &[u8], start: usize) -> usize {
    // Length of the current label, whether it has only letters, and the number of labels before it.
    let (mut last, mut is_letters, mut labels) = (0, true, 0);
    let mut best = start;
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        if *byte == b'.' {
            if last == 0 {
                break;
            }
            labels += 1;
            (last, is_letters) = (0, true);
        } else if byte.is_ascii_alphanumeric() || *byte == b'-' || *byte >= 0x80 {
            last += 1;
            is_letters &= byte.is_ascii_alphabetic() || *byte >= 0x80;
        } else {
            break;
        }
        if labels > 0 && last >= 2 && is_letters {
            best = at + 1;
        }
    }
    // `icon@2x.png` is an image for high-density screens.
    let is_density = matches!(bytes.get(start..best), Some([b'1'..=b'9', b'x', b'.', ..]));
    if is_density { start } else { best }
}

/// JSON Web Tokens: `eyJ`, base64url, at least one dot.
fn web_tokens(view: &View<'_>) -> Vec<Range> {
    const LEAST_BYTES: usize = 20;
    let mut found = Vec::new();
    let mut seen = 0;
    for start in view.positions(b'e') {
        // Part of a token, or of a text that was not one.
        if start < seen || !view.from(start).starts_with(b"eyJ") {
            continue;
        }
        let is_token = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        let length = view.from(start).iter().take_while(is_token).count();
        seen = start + length;
        if length >= LEAST_BYTES && view.get(start, seen).contains(&b'.') {
            found.push(Range::redacted(start, seen));
        }
    }
    found
}

/// Known ids that are not part of longer words.
fn ids(view: &View<'_>, ids: &[String]) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    for id in ids {
        let id = id.as_bytes();
        let Some(first) = id.first() else { continue };
        for start in view.positions(*first).filter(|start| view.from(*start).starts_with(id)) {
            let end = start + id.len();
            let is_part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80);
            let before = start.checked_sub(1).and_then(|before| view.bytes.get(before));
            if !is_part(before) && !is_part(view.bytes.get(end)) {
                found.push(Range::redacted(start, end));
            }
        }
    }
    // One id may be part of another: the longer one counts.
    found.sort_unstable_by_key(|range| (range.start, Reverse(range.end)));
    let mut done = 0;
    found.retain(|range| {
        let is_free = range.start >= done;
        done = done.max(range.end);
        is_free
    });
    found
}

/// Known addresses, shortened.
fn addresses(view: &View<'_>, addresses: &[IpAddr]) -> Vec<Range> {
    let mut found = Vec::new();
    if addresses.is_empty() {
        return found;
    }
    let is_part = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':');
    let mut at = 0;
    while at < view.bytes.len() {
        let run = view.from(at).iter().take_while(|byte| is_part(**byte)).count();
        if run == 0 {
            at += 1;
            continue;
        }
        let end = at + run;
        let is_word = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte >= 0x80);
        if let Some((start, end, address)) = address_in(view, at, end) {
            let before = start.checked_sub(1).and_then(|before| view.bytes.get(before));
            let is_part = is_word(before) || is_word(view.bytes.get(end));
            let short = addresses.binary_search(&address).ok().and_then(|_| shorten(&address.to_string()));
            // One that is short already stays.
            if let Some(short) = short.filter(|short| !is_part && *short != address) {
                found.push(Range { start, end, replacement: short.to_string().into() });
            }
        }
        at = end;
    }
    found
}

/// The address in a run of hexadecimal digits, dots and colons: without punctuation around it, and without a port.
fn address_in(view: &View<'_>, start: usize, end: usize) -> Option<(usize, usize, IpAddr)> {
    const SHORTEST: usize = 7;
    if end - start < SHORTEST {
        return None;
    }
    let parsed = |start: usize, end: usize| {
        let text = str::from_utf8(view.get(start, end)).ok()?;
        text.parse::<IpAddr>().ok().map(|address| (start, end, address.to_canonical()))
    };
    let trimmed_start = start + view.get(start, end).iter().take_while(|byte| **byte == b'.').count();
    let trimmed_end = end - view.get(start, end).iter().rev().take_while(|byte| matches!(byte, b'.' | b':')).count();
    let last_colon = view.get(start, end).iter().rposition(|byte| *byte == b':').map(|at| start + at);
    let first_colon = view.get(start, end).iter().position(|byte| *byte == b':').map(|at| start + at + 1);
    parsed(start, end)
        .or_else(|| parsed(trimmed_start, trimmed_end))
        .or_else(|| parsed(trimmed_start, last_colon?))
        .or_else(|| parsed(first_colon?, trimmed_end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn redact_url(text: &str) -> (String, usize) {
        redact(text, &Known::default()).unwrap_or_else(|| (text.to_owned(), 0))
    }

    #[test]
    fn secrets_in_texts_are_redacted() {
        for (text, expected) in [
            ("Failed: https://x.org/a?access_token=abc", "Failed: https://x.org/a?access_token=[redacted]"),
            ("/reset?token=abc", "/reset?token=[redacted]"),
            ("//x.org/?password=abc", "//x.org/?password=[redacted]"),
            ("log in (key=abc)", "log in (key=[redacted]"),
            ("user[password]=abc", "user[password]=[redacted]"),
            ("user.key=abc", "user.key=[redacted]"),
            ("{\"access_token\": \"a\\\"b\", \"n\": 1}", "{\"access_token\": \"[redacted]\", \"n\": 1}"),
            ("{\\\"password\\\":\\\"abc\\\"}", "{\\\"password\\\":\\\"[redacted]\\\"}"),
            ("{'pwd': 'abc'}", "{'pwd': '[redacted]'}"),
            ("password: abc, and so on", "password: [redacted], and so on"),
            ("Authorization: Bearer abcdefgh", "Authorization: [redacted]"),
            ("sent Bearer abcdefgh-123", "sent Bearer [redacted]"),
            ("bearer of news", "bearer of news"),
            ("Error code: 404, key: up, session: over", "Error code: 404, key: up, session: over"),
            ("ask ann@example.org!", "ask [redacted]!"),
            ("https%3A%2F%2Fann%3Apw%40x.org%2F", "https%3A%2F%2F[redacted]%40x.org%2F"),
            (
                "https%253A%252F%252Fx.org%252F%253Faccess%255Ftoken%253Dabc%2526b%253D1",
                "https%253A%252F%252Fx.org%252F%253Faccess%255Ftoken%253D[redacted]%2526b%253D1",
            ),
            ("ann%252Bshop%2540x.org", "[redacted]"),
            ("100 % = a:b", "100 % = a:b"),
        ] {
            assert_eq!(redact_url(text).0, expected, "{text}");
        }
    }

    #[test]
    fn known_addresses_and_ids_are_found_however_they_are_written() {
        let known = Known::new(
            ["198.51.100.23", "2001:db8:1:2::3", "::ffff:203.0.113.77"]
                .map(|text| text.parse::<IpAddr>().unwrap().to_canonical())
                .to_vec(),
            vec!["ann-123456".to_owned(), "größe-77".to_owned()],
        );
        for (text, expected) in [
            (
                "from 198.51.100.23, 2198.51.100.23 or 198.51.100.230",
                "from 198.51.100.0, 2198.51.100.23 or 198.51.100.230",
            ),
            ("198.51.100.23:443 198.51.100.23.", "198.51.100.0:443 198.51.100.0."),
            ("ip:198.51.100.23", "ip:198.51.100.0"),
            ("[2001:db8:1:2::3]:443 2001:0db8:0001:0002:0:0:0:3", "[2001:db8:1::]:443 2001:db8:1::"),
            ("%3D198%2E51.100.23%26", "%3D198.51.100.0%26"),
            ("203.0.113.77", "203.0.113.0"),
            ("u=ann-123456&ann%2D123456 xann-123456", "u=[redacted]&[redacted] xann-123456"),
            ("/größe-77/gr%C3%B6%C3%9Fe-77", "/[redacted]/[redacted]"),
            ("Chrome/143.0.0.0 1:2:3", "Chrome/143.0.0.0 1:2:3"),
        ] {
            let found = redact(text, &known).map_or_else(|| text.to_owned(), |(text, _)| text);
            assert_eq!(found, expected, "{text}");
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
            // Once the value is redacted, the text before the @ is a user name.
            ("https://sid%3D?%26sid@", "https://[redacted]@", 2),
        ] {
            let (redacted, found) = redact_url(url);
            assert_eq!((redacted.as_str(), found), (expected, count), "{url}");
        }
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

        /// Percent-encoded never, once, twice and three times.
        #[test]
        fn no_secret_survives_however_often_it_was_encoded(
            name in prop::sample::select(vec!["access_token", "password", "api-key", "X-Amz-Signature", "PHPSESSID", "client_secret"]),
            secret in "[a-z0-9+/!~]{4,12}x7", before in "[a-zA-Z :/?.&]{0,12}", after in prop::sample::select(vec!["", "&a=b", "#c"]), times in 0..4_usize,
        ) {
            let url = format!("https://x.org/?{name}={secret}{after}");
            let mut encoded = url;
            for _ in 0..times {
                encoded = percent_encoding::utf8_percent_encode(&encoded, percent_encoding::NON_ALPHANUMERIC).to_string();
            }
            let text = format!("{before} {encoded}");
            let mut found = redact_url(&text).0;
            for _ in 0..4 {
                prop_assert!(!found.contains(&secret), "{} in {}", secret, found);
                found = percent_encoding::percent_decode_str(&found).decode_utf8_lossy().into_owned();
            }
        }

        #[test]
        fn no_known_address_survives(address in any::<IpAddr>(), before in "[ =,(a-z/]{0,3}[ =,(/]", after in "([ ,)/&].{0,3})?") {
            let known = Known::new(vec![address.to_canonical()], Vec::new());
            let text = format!("{before}{address}{after}");
            let found = redact(&text, &known).map_or(text, |(text, _)| text);
            let is_short = shorten(&address.to_string()) == Some(address.to_canonical());
            prop_assert!(is_short || !found.contains(&address.to_string()), "{}", found);
        }

        #[test]
        fn no_email_address_survives(
            before in "[a-z/?&=]{0,8}", local in "[a-z0-9._+-]{1,8}", domain in "[a-z]{1,6}\\.[a-z]{2,4}", encoded in any::<bool>(),
        ) {
            let address = format!("{local}{}{domain}", if encoded { "%40" } else { "@" });
            let url = format!("/{before}/{address}?x");
            prop_assert!(!redact_url(&url).0.contains(&address), "{}", url);
        }
    }
}
