//! Names of parameters and members whose values are secret.

/// Names of parameters, of letters and digits only, whose value is secret after `=`. After a colon they are ordinary words.
pub(super) const NAMES: [&str; 12] =
    ["auth", "bearer", "code", "credentials", "jwt", "key", "otp", "pass", "session", "sid", "sig", "ticket"];

/// Names whose value is secret after `=` and after a colon.
pub(super) const PLAIN: [&str; 6] = ["authorization", "jsessionid", "passwd", "phpsessid", "pwd", "sessid"];

/// Ends of such names.
pub(super) const ENDS: [&str; 10] = [
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

/// Whether a value of this name is secret, wherever it is.
pub(crate) fn is_secret_name(name: &str) -> bool {
    !is_ga4_session(name) && is_plain_secret(&bare(without_indexes(name.as_bytes())))
}

/// Whether a parameter is the number of a session, which GA4 also sends as `sid`: no credential.
pub(crate) fn is_ga4_session(name: &str) -> bool {
    let parameter = ["ep.", "epn.", "up.", "upn."].iter().find_map(|prefix| name.strip_prefix(prefix));
    parameter == Some("session_id") || parameter.unwrap_or(name) == "ga_session_id"
}

pub(super) fn is_plain_secret(bare: &str) -> bool {
    PLAIN.contains(&bare) || (ENDS.iter().any(|end| bare.ends_with(end)) && bare != "gasessionid")
}

/// A name without `[]` and `[0]` at its end, as forms write the elements of an array.
pub(super) fn without_indexes(mut name: &[u8]) -> &[u8] {
    while let Some(open) = name.strip_suffix(b"]") {
        let digits = open.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
        let Some(rest) = open.get(..open.len() - digits).and_then(|rest| rest.strip_suffix(b"[")) else { break };
        name = rest;
    }
    name
}

/// The letters and digits of a name, in lower case.
pub(super) fn bare(name: &[u8]) -> String {
    name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}
