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
    is_plain_secret(&bare(name.as_bytes()))
}

pub(super) fn is_plain_secret(bare: &str) -> bool {
    PLAIN.contains(&bare) || ENDS.iter().any(|end| bare.ends_with(end))
}

/// The letters and digits of a name, in lower case.
pub(super) fn bare(name: &[u8]) -> String {
    name.iter().filter(|byte| byte.is_ascii_alphanumeric()).map(|byte| char::from(byte.to_ascii_lowercase())).collect()
}
