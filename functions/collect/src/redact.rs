//! Secrets in URLs and paths: e-mail addresses, user and password before a host, values of parameters that are named like
//! secrets, and JSON Web Tokens, percent-encoded or not, become `[redacted]`. Redacting a text again does not change it.

use std::borrow::Cow;

use crate::hit::digit;

/// Replaces a secret.
pub const REDACTED: &str = "[redacted]";

/// Most passes over a URL. Two that change something are the most that the property test has found.
const MAX_PASSES: usize = 8;

pub(crate) fn is_url(text: &str) -> bool {
    let starts = |scheme: &str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    starts("https://") || starts("http://")
}

/// Redacts the secrets of a URL or a path. Returns also how many there were.
#[must_use]
pub fn redact_url(text: &str) -> (Cow<'_, str>, usize) {
    let mut found = Found { text: Cow::Borrowed(text), count: 0 };
    // A redaction can change how the rest is parsed, for example when the value was the end of a host. So this repeats until
    // nothing changes.
    for _ in 0..MAX_PASSES {
        let before = found.count;
        let [at, equals, percent] = [b'@', b'=', b'%'].map(|byte| found.text.as_bytes().contains(&byte));
        if at {
            found.replace(user_info);
        }
        if equals || percent {
            found.replace(secret_values);
        }
        if at || percent {
            found.replace(emails);
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
    /// Redacts the ranges that `find` returns, which are in order and do not overlap.
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

/// Ranges of `user:password` in `https://user:password@host`.
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

/// The separator at the start of `rest`, plain or percent-encoded, and its length.
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

/// Ranges of the values of parameters that are named like secrets.
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
        // After an encoded `=`, the value also ends at encoded separators: it is part of a URL within a URL.
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

/// Whether a parameter of this name usually has a secret value.
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

/// Ranges of e-mail addresses.
fn emails(text: &str) -> Vec<(usize, usize)> {
    let bytes = text.as_bytes();
    let mut found = Vec::new();
    let (mut at, mut done) = (0, 0);
    while at < bytes.len() {
        let length = match bytes.get(at..).unwrap_or_default() {
            [b'@', ..] => 1,
            [b'%', b'4', b'0', ..] => 3,
            // Encoded twice, as in a URL within a URL.
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

/// Start of the part before the @.
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

/// End of the domain after the @: labels, with at least two letters after the last dot. `start` if there is no domain.
fn domain_end(bytes: &[u8], start: usize) -> usize {
    let mut end = start;
    // Length of the current label, whether it has only letters, and the number of labels before it.
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
    // `icon@2x.png` is an image for high-density screens.
    let is_density = matches!(bytes.get(start..best), Some([b'1'..=b'9', b'x', b'.', ..]));
    if is_density { start } else { best }
}

/// Ranges of JSON Web Tokens: `eyJ`, base64url, at least one dot.
fn web_tokens(text: &str) -> Vec<(usize, usize)> {
    const LEAST_BYTES: usize = 20;
    let mut found = Vec::new();
    let mut seen = 0;
    for (start, _) in text.match_indices("eyJ") {
        // Part of a token, or of a text that was not one.
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
            assert_eq!((redacted.as_ref(), found), (expected, count), "{url}");
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
