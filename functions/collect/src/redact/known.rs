//! What is known of a visitor who opts out: addresses and ids.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr},
};

use super::view::{Range, View};
use crate::address::shorten;

/// The addresses and ids of a visitor who opts out.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Sorted.
    addresses: Vec<IpAddr>,
    ids: Vec<String>,
    drops_client: bool,
    /// Whether click ids are secret: see `campaign::CLICK_IDS`.
    pub(crate) hides_click_ids: bool,
}

impl Known {
    pub(crate) fn new(mut addresses: Vec<IpAddr>, ids: Vec<String>) -> Self {
        addresses.sort_unstable();
        addresses.dedup();
        Self { addresses, ids, drops_client: false, hides_click_ids: false }
    }

    /// The same, and the client id is dropped, wherever it is.
    pub(crate) fn with_client_dropped(self, drops_client: bool) -> Self {
        Self { drops_client, ..self }
    }

    pub(super) const fn drops_client(&self) -> bool {
        self.drops_client
    }

    /// Only the ids.
    pub(crate) fn without_addresses(&self) -> Self {
        Self { addresses: Vec::new(), ids: self.ids.clone(), ..*self }
    }

    /// Whether an id is part of a text, be it of a longer word.
    pub(crate) fn has_id_in(&self, text: &str) -> bool {
        self.ids.iter().any(|id| text.contains(id))
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.ids.is_empty()
    }
}

/// Known ids that are not part of longer words.
pub(super) fn ids(view: &View<'_>, known: &Known) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    for id in &known.ids {
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
pub(super) fn addresses(view: &View<'_>, known: &Known) -> Vec<Range> {
    let mut found = Vec::new();
    if known.addresses.is_empty() {
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
        for (start, end, address) in addresses_in(view, at, end) {
            let before = start.checked_sub(1).and_then(|before| view.bytes.get(before));
            let is_part = is_word(before) || is_word(view.bytes.get(end));
            let short = known.addresses.binary_search(&address).ok().and_then(|_| shorten(&address.to_string()));
            // One that is short already stays.
            if let Some(short) = short.filter(|short| !is_part && *short != address) {
                found.push(Range { start, end, replacement: short.to_string().into() });
            }
        }
        at = end;
    }
    found
}

/// The addresses in a run of hexadecimal digits, dots and colons.
fn addresses_in(view: &View<'_>, start: usize, end: usize) -> Vec<(usize, usize, IpAddr)> {
    const SHORTEST: usize = 7;
    /// That of an IPv6 address with a port, and some punctuation.
    const LONGEST: usize = 64;
    let length = end - start;
    if length < SHORTEST {
        return Vec::new();
    }
    if length <= LONGEST
        && let Some(found) = address_in(view, start, end)
    {
        return vec![found];
    }
    // Between a word and a port, such as `client:1.2.3.4:443`.
    let mut found = Vec::new();
    let mut from = start;
    for part in view.get(start, end).split(|byte| *byte == b':') {
        let dots = part.iter().take_while(|byte| **byte == b'.').count();
        let address = str::from_utf8(part).ok().and_then(|text| text.trim_matches('.').parse::<Ipv4Addr>().ok());
        if let Some(address) = address {
            let length = part.len() - dots - part.iter().rev().take_while(|byte| **byte == b'.').count();
            found.push((from + dots, from + dots + length, address.into()));
        }
        from += part.len() + 1;
    }
    found
}

/// The address in a run of hexadecimal digits, dots and colons: without punctuation around it, and without a port.
fn address_in(view: &View<'_>, start: usize, end: usize) -> Option<(usize, usize, IpAddr)> {
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
