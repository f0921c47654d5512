//! What is secret by its name or its shape, whoever the visitor is.

use super::{
    REDACTED,
    known::Known,
    names::{NAMES, bare, is_plain_secret, without_indexes},
    view::{Range, View},
};
use crate::campaign::has_click_id;

/// Shortest value of `Bearer value`.
const LEAST_BEARER: usize = 8;

/// `user:password` in `https://user:password@host`.
pub(super) fn user_info(view: &View<'_>) -> Vec<Range> {
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

/// The name that ends before `at`, without quotes, brackets, indexes of arrays and spaces after it.
fn name_before(bytes: &[u8], at: usize) -> &[u8] {
    let head = without_indexes(bytes.get(..at).unwrap_or_default());
    let end =
        head.iter().rposition(|byte| !matches!(byte, b' ' | b'"' | b'\'' | b'\\' | b']')).map_or(0, |last| last + 1);
    let head = without_indexes(head.get(..end).unwrap_or_default());
    let start = head.iter().rposition(|byte| !is_name(*byte)).map_or(0, |last| last + 1);
    head.get(start..).unwrap_or_default()
}

/// Parameters by which one site hands the client id to another.
const LINKERS: [&[u8]; 2] = [b"_gl", b"_ga"];

/// Whether a name is that of what is known to be dropped: what has a client id or a click id in it.
fn is_dropped(name: &[u8], known: &Known) -> bool {
    (known.drops_client() && LINKERS.contains(&name))
        || (known.hides_click_ids && str::from_utf8(name).is_ok_and(has_click_id))
}

/// Values after `=` of names that are secret, or that have a client id or a click id which is dropped.
pub(super) fn secret_values(view: &View<'_>, known: &Known) -> Vec<Range> {
    let mut found = Vec::new();
    let mut done = 0;
    for at in view.positions(b'=') {
        if at < done {
            continue;
        }
        let name = name_before(&view.bytes, at);
        let letters = bare(name);
        if !(is_dropped(name, known) || NAMES.contains(&letters.as_str()) || is_plain_secret(&letters)) {
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
pub(super) fn spoken_values(view: &View<'_>, known: &Known) -> Vec<Range> {
    let mut found: Vec<Range> = Vec::new();
    let mut done = 0;
    let is_secret = |name: &[u8]| is_plain_secret(&bare(name)) || is_dropped(name, known);
    for (at, byte) in view.bytes.iter().enumerate() {
        if at < done {
            continue;
        }
        let start = match byte {
            b':' if is_secret(name_before(&view.bytes, at)) => at + 1,
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
        // A scheme, such as `token://`, is no value.
        if view.from(start).starts_with(REDACTED.as_bytes()) || view.from(start).starts_with(b"//") {
            continue;
        }
        let length = match view.from(start) {
            [b'[' | b'{', ..] if quote.is_none() && !is_bearer => nested_length(view.from(start)),
            _ => value_length(view, start, quote),
        };
        let value = view.get(start, start + length);
        let is_scheme = value.eq_ignore_ascii_case(b"bearer") || value.eq_ignore_ascii_case(b"basic");
        if length == 0 || (is_bearer && length < LEAST_BEARER) {
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
fn value_length(view: &View<'_>, start: usize, quote: Option<(u8, bool)>) -> usize {
    let rest = view.from(start);
    // A quote that is encoded more often than the first one is part of the value.
    let depth = start.checked_sub(1).map_or(0, |before| view.depth(before));
    let mut is_escaped = false;
    let end = rest.iter().enumerate().position(|(offset, byte)| match quote {
        Some((quote, with_escape)) => {
            let is_end = *byte == quote && is_escaped == with_escape && view.depth(start + offset) <= depth;
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

/// Length of an array or an object, up to the bracket that closes it.
fn nested_length(rest: &[u8]) -> usize {
    let (mut depth, mut is_escaped) = (0_usize, false);
    // Whether a string is open, and whether a backslash is before its quotes.
    let mut string: Option<bool> = None;
    for (at, byte) in rest.iter().enumerate() {
        match (byte, string) {
            (b'"', None) => string = Some(is_escaped),
            (b'"', Some(with_escape)) if is_escaped == with_escape => string = None,
            (b'[' | b'{', None) => depth += 1,
            (b']' | b'}', None) => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
        is_escaped = *byte == b'\\' && !is_escaped;
    }
    rest.len()
}

/// E-mail addresses.
pub(super) fn emails(view: &View<'_>) -> Vec<Range> {
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
pub(super) fn web_tokens(view: &View<'_>) -> Vec<Range> {
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
