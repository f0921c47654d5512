//! The function's settings, read from the environment once, in the init phase.
//!
//! Each field's documentation is also its row in the README; a test keeps the two and the template in step.

use std::time::Duration;

use runtime::settings::{self, Lookup, SettingError, Settings};

use crate::{
    body::Digest,
    hit::{Hit, digit},
    privacy::Policy,
};

/// Parts of the names of headers that may have a credential in them. None of those can be stored; `template.yaml` refuses the same.
pub const CREDENTIALS: [&str; 12] =
    ["auth", "cookie", "credential", "jwt", "key", "oidc", "pass", "pwd", "secret", "sess", "signature", "token"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `STACK_NAME`: name of the stack, a dimension of the metrics; `landfall` by default.
    pub stack: String,
    /// `STREAM_NAME`: the Kinesis stream that events go to. Required.
    pub stream: String,
    /// `OVERFLOW_QUEUE_URL`: the SQS queue for hits that Kinesis does not take in time; without one, they are answered with 503.
    pub overflow: Option<String>,
    /// `PATH_PREFIX`: a prefix under which all paths are served as well, such as `/t`; none by default.
    pub path_prefix: String,
    /// `API_SECRET_SHA256`: SHA-256 of the values of `api_secret` that `/mp/collect` accepts, in hexadecimal, separated by commas;
    /// without any, every value is accepted, and none.
    pub api_secrets: Vec<Digest>,
    /// `ALLOWED_ORIGINS`: origins whose pages may read responses, separated by commas, or `*`, the default, for all.
    pub origins: Origins,
    /// `CORS_MAX_AGE_SECONDS`: seconds a browser may cache the CORS preflight, 0 to 86,400, 3,600 by default.
    pub cors_max_age_seconds: u32,
    /// `OPT_OUT`: reaction to `Sec-GPC: 1` and `DNT: 1`: `ignore`, `anonymise` (the default) or `drop-id`.
    pub opt_out: Policy,
    /// `SITE_POLICIES`: reactions of single sites instead of `OPT_OUT`, by their `tid`, such as `G-ABC=drop-id,UA-12345-1=ignore`.
    pub site_policies: Vec<(String, Policy)>,
    /// `TRUSTED_PROXIES`: how many proxies stand between the visitor and the gateway, 0 to 5, 0 by default: with 1, such as CloudFront,
    /// the visitor's address is the one that this proxy has added to `X-Forwarded-For`.
    pub trusted_proxies: usize,
    /// `STORE_HEADERS`: headers that are stored besides those of the README, of visitors who do not opt out, separated by commas.
    pub store_headers: Vec<String>,
    /// `CLICK_IDS`: whether click ids such as `gclid` are stored: `keep` (the default) of visitors who do not opt out, or `drop` of nobody.
    pub click_ids: Clicks,
    /// `COOKIE_DAYS`: how many days a cookie lives in which a visitor who does not opt out gets an id, 0 to 400; 0, the default, for none.
    pub cookie_days: u32,
    /// `PARTITION_BY`: what the partition key of a record is: `client` (the default), which keeps the order of a client's hits, or
    /// `hit`, which spreads those of a busy client over all shards.
    pub partition: Partition,
    /// `DELIVERY_MAX_MS`: longest time to store the hits of a request, retries included, 100 to 25,000, 5,000 by default.
    pub delivery: Duration,
}

/// Whether click ids are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Clicks {
    /// Unless the visitor opts out.
    #[default]
    Keep,
    Drop,
}

impl Clicks {
    /// Both, by the word for it in `CLICK_IDS`.
    const WORDS: [(&'static str, Self); 2] = [("keep", Self::Keep), ("drop", Self::Drop)];
}

/// What the partition key of a record is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Partition {
    /// The client id, or the event id without one.
    #[default]
    Client,
    /// The event id.
    Hit,
}

impl Partition {
    /// Both, by the word for it in `PARTITION_BY`.
    const WORDS: [(&'static str, Self); 2] = [("client", Self::Client), ("hit", Self::Hit)];
}

/// Origins whose pages may read responses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origins {
    All,
    /// Such as `https://shop.example`.
    Some(Vec<String>),
}

impl Config {
    /// Reads the environment.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_settings(&settings::environment())
    }

    /// Reads variables from `lookup`.
    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingError> {
        Self::from_settings(&Settings::new(lookup))
    }

    /// When an attempt to store hits fails, so that two of them fit into the time for the stream, and one into that for the overflow.
    #[must_use]
    pub fn attempt(&self) -> Duration {
        self.delivery / 4
    }

    /// The reaction to visitors who opt out: that of the hit's site. A text that cannot be parsed may be of any site.
    #[must_use]
    pub fn policy(&self, hit: &Hit) -> Policy {
        let site = hit.get("tid");
        if site.is_none() && hit.wish().is_some() {
            return self.site_policies.iter().map(|(_, policy)| *policy).fold(self.opt_out, Policy::max);
        }
        let own = self.site_policies.iter().find(|(other, _)| Some(other.as_str()) == site);
        own.map_or(self.opt_out, |(_, policy)| *policy)
    }

    fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        Ok(Self {
            stack: settings.stack(),
            stream: settings.required("STREAM_NAME", "it names the Kinesis stream that events go to")?,
            overflow: settings.optional("OVERFLOW_QUEUE_URL"),
            path_prefix: path_prefix(settings)?,
            api_secrets: api_secrets(settings)?,
            origins: origins(settings)?,
            cors_max_age_seconds: settings.number("CORS_MAX_AGE_SECONDS", 3_600, 0..=86_400)?,
            opt_out: settings.one_of("OPT_OUT", Policy::default(), &Policy::WORDS)?,
            site_policies: site_policies(settings)?,
            trusted_proxies: settings.number("TRUSTED_PROXIES", 0, 0..=5)?,
            store_headers: store_headers(settings)?,
            click_ids: settings.one_of("CLICK_IDS", Clicks::default(), &Clicks::WORDS)?,
            cookie_days: settings.number("COOKIE_DAYS", 0, 0..=400)?,
            partition: settings.one_of("PARTITION_BY", Partition::default(), &Partition::WORDS)?,
            delivery: Duration::from_millis(settings.number("DELIVERY_MAX_MS", 5_000, 100..=25_000)?),
        })
    }
}

fn site_policies(settings: &Settings<impl Lookup>) -> Result<Vec<(String, Policy)>, SettingError> {
    let name = "SITE_POLICIES";
    let value = settings.optional(name).unwrap_or_default();
    let pair = |text: &str| -> Option<(String, Policy)> {
        let (site, word) = text.trim().split_once('=')?;
        let (_, policy) = Policy::WORDS.iter().find(|(other, _)| *other == word)?;
        (!site.is_empty()).then(|| (site.to_owned(), *policy))
    };
    let pairs: Option<Vec<_>> = value.split(',').filter(|text| !text.trim().is_empty()).map(pair).collect();
    let expected = "like G-ABC=drop-id,UA-12345-1=ignore, of \"ignore\", \"anonymise\" and \"drop-id\"".to_owned();
    pairs.ok_or(SettingError::Invalid { name, value, expected })
}

fn store_headers(settings: &Settings<impl Lookup>) -> Result<Vec<String>, SettingError> {
    let name = "STORE_HEADERS";
    let value = settings.optional(name).unwrap_or_default();
    let names: Vec<String> =
        value.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty()).collect();
    let is_header = |name: &String| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !CREDENTIALS.iter().any(|part| name.contains(part))
    };
    if names.iter().all(is_header) {
        return Ok(names);
    }
    let expected = "names of headers, separated by commas, without cookies and credentials".to_owned();
    Err(SettingError::Invalid { name, value, expected })
}

fn path_prefix(settings: &Settings<impl Lookup>) -> Result<String, SettingError> {
    let name = "PATH_PREFIX";
    let value = settings.optional(name).unwrap_or_default();
    let is_part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~'))
    };
    if value.is_empty() || value.strip_prefix('/').is_some_and(|parts| parts.split('/').all(is_part)) {
        return Ok(value);
    }
    Err(SettingError::Invalid {
        name,
        value,
        expected: "like /t or /a/b, of letters, digits, -, _, . and ~".to_owned(),
    })
}

fn api_secrets(settings: &Settings<impl Lookup>) -> Result<Vec<Digest>, SettingError> {
    let name = "API_SECRET_SHA256";
    let value = settings.optional(name).unwrap_or_default();
    let digest = |text: &str| -> Option<Digest> {
        let (pairs, []) = text.trim().as_bytes().as_chunks::<2>() else { return None };
        let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        bytes?.try_into().ok()
    };
    let digests: Option<Vec<Digest>> = value.split(',').filter(|text| !text.trim().is_empty()).map(digest).collect();
    // The value is not part of the message: someone may have set the secret itself.
    let expected = "SHA-256 of secrets, 64 hexadecimal digits each, separated by commas".to_owned();
    digests.ok_or(SettingError::Invalid { name, value: "…".to_owned(), expected })
}

fn origins(settings: &Settings<impl Lookup>) -> Result<Origins, SettingError> {
    let name = "ALLOWED_ORIGINS";
    let Some(value) = settings.optional(name).filter(|value| value != "*") else { return Ok(Origins::All) };
    let origins: Vec<String> = value.split(',').map(|origin| origin.trim().to_owned()).collect();
    let is_origin = |origin: &String| {
        let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '*', ' ']))
    };
    if origins.iter().all(is_origin) {
        return Ok(Origins::Some(origins));
    }
    let expected = "\"*\" or origins such as https://shop.example, separated by commas".to_owned();
    Err(SettingError::Invalid { name, value, expected })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(extra: &[(&'static str, &'static str)]) -> Result<Config, String> {
        let lookup = |name| {
            let own = extra.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
            own.or_else(|| (name == "STREAM_NAME").then(|| "clicks".to_owned()))
        };
        Config::from_lookup(lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn a_stream_is_enough() {
        let config = with(&[]).unwrap();
        assert_eq!((config.origins, config.opt_out), (Origins::All, Policy::Anonymise));
        assert_eq!(config.partition, Partition::Client);
    }

    #[test]
    fn every_error_names_the_variable() {
        for (variable, sentence) in [
            (
                ("STREAM_NAME", ""),
                "environment variable STREAM_NAME is not set; it names the Kinesis stream that events go to",
            ),
            (
                ("ALLOWED_ORIGINS", "shop.example"),
                "environment variable ALLOWED_ORIGINS is \"shop.example\"; it must be \"*\" or origins such as \
                 https://shop.example, separated by commas",
            ),
            (
                ("OPT_OUT", "yes"),
                "environment variable OPT_OUT is \"yes\"; it must be \"ignore\", \"anonymise\" or \"drop-id\"",
            ),
            (
                ("PATH_PREFIX", "t/"),
                "environment variable PATH_PREFIX is \"t/\"; it must be like /t or /a/b, of letters, digits, -, _, . and ~",
            ),
            (
                ("API_SECRET_SHA256", "my-secret"),
                "environment variable API_SECRET_SHA256 is \"…\"; it must be SHA-256 of secrets, 64 hexadecimal digits each, \
                 separated by commas",
            ),
            (
                ("SITE_POLICIES", "G-1=never"),
                "environment variable SITE_POLICIES is \"G-1=never\"; it must be like G-ABC=drop-id,UA-12345-1=ignore, of \
                 \"ignore\", \"anonymise\" and \"drop-id\"",
            ),
            (
                ("TRUSTED_PROXIES", "6"),
                "environment variable TRUSTED_PROXIES is \"6\"; it must be a whole number from 0 to 5",
            ),
            (
                ("STORE_HEADERS", "x-shop, Cookie"),
                "environment variable STORE_HEADERS is \"x-shop, Cookie\"; it must be names of headers, separated by commas, \
                 without cookies and credentials",
            ),
            (("CLICK_IDS", "never"), "environment variable CLICK_IDS is \"never\"; it must be \"keep\" or \"drop\""),
            (
                ("COOKIE_DAYS", "401"),
                "environment variable COOKIE_DAYS is \"401\"; it must be a whole number from 0 to 400",
            ),
            (
                ("PARTITION_BY", "session"),
                "environment variable PARTITION_BY is \"session\"; it must be \"client\" or \"hit\"",
            ),
            (
                ("CORS_MAX_AGE_SECONDS", "-1"),
                "environment variable CORS_MAX_AGE_SECONDS is \"-1\"; it must be a whole number from 0 to 86400",
            ),
            (
                ("DELIVERY_MAX_MS", "30000"),
                "environment variable DELIVERY_MAX_MS is \"30000\"; it must be a whole number from 100 to 25000",
            ),
        ] {
            assert_eq!(with(&[variable]).unwrap_err(), sentence);
        }
    }

    #[test]
    fn secrets_are_digests() {
        const ONE: &str = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD, ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digests = with(&[("API_SECRET_SHA256", ONE)]).unwrap().api_secrets;
        assert!(digests.len() == 2 && digests[0] == digests[1] && digests[0].starts_with(&[0xba, 0x78]), "{digests:?}");
        assert_eq!(with(&[("PATH_PREFIX", "/a/b-1")]).unwrap().path_prefix, "/a/b-1");
    }

    #[test]
    fn a_site_may_have_its_own_policy() {
        let config =
            with(&[("SITE_POLICIES", "G-1=drop-id, UA-1-1=ignore"), ("STORE_HEADERS", "X-Shop, x-lane")]).unwrap();
        let policies = ["tid=G-1", "tid=UA-1-1", "tid=G-2", ""]
            .map(|form| config.policy(&Hit::from_form(form.as_bytes()).unwrap()));
        assert_eq!(policies, [Policy::DropId, Policy::Ignore, Policy::Anonymise, Policy::Anonymise]);
        let mut text = Hit::unreadable(b"{\"tid\": ");
        assert_eq!(config.policy(&text), Policy::DropId, "it may be of any site");
        text.merge(Hit::from_form(b"tid=UA-1-1").unwrap()).unwrap();
        assert_eq!(config.policy(&text), Policy::Ignore);
        assert_eq!(config.store_headers, ["x-shop", "x-lane"]);
    }

    #[test]
    fn headers_of_credentials_are_refused() {
        for name in [
            "x-api-key",
            "X-Auth-Token",
            "x-amzn-oidc-data",
            "x-session-id",
            "Set-Cookie",
            "x-jwt",
            "authorization",
            "x-pass-phrase",
        ] {
            assert!(with(&[("STORE_HEADERS", name)]).is_err(), "{name}");
        }
    }

    #[test]
    fn origins_are_a_list() {
        let origins = with(&[("ALLOWED_ORIGINS", "https://a.example, http://127.0.0.1:8000")]).unwrap().origins;
        assert_eq!(origins, Origins::Some(vec!["https://a.example".into(), "http://127.0.0.1:8000".into()]));
    }
}
