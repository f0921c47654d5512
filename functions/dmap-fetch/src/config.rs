//! The function's settings, read from the environment once, in the init phase.
//!
//! The doc comment of each field is also its row in the README; a test compares the two and the template.

use runtime::settings::{self, Lookup, SettingError, Settings};
use url::Url;

use crate::hosts::Hosts;

/// The function's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `STACK_NAME`: name of the stack, a dimension of the metrics; `landfall` by default.
    pub stack: String,
    /// `INCOMING_BUCKET`: bucket that datasets are put into. Required.
    pub incoming_bucket: String,
    /// `LAKE_BUCKET`: bucket that quarantined results are written to. Required.
    pub lake_bucket: String,
    /// `REGISTRAR_FUNCTION`: name of load-registrar, which knows the feeds and what was fetched of them. Required.
    pub registrar: String,
    /// `DMAP_BASE_URL`: what the relative URLs of feeds follow. https. Required.
    pub base: Url,
    /// `DMAP_HOSTS`: hosts that datasets may come from besides that of `DMAP_BASE_URL`, separated by commas, each with its port if
    /// that is not 443.
    pub hosts: Hosts,
    /// `DMAP_SECRET_ARN`: secret with the API key as its text, or with several as a JSON object of their names. Required.
    pub secret_arn: String,
    /// `MAX_DATASET_MB`: a larger dataset is not fetched, 2,048 by default.
    pub max_dataset_bytes: u64,
}

impl Config {
    /// Reads the environment.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_settings(&settings::environment())
    }

    /// Reads the variables that `lookup` gives.
    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingError> {
        Self::from_settings(&Settings::new(lookup))
    }

    fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        let base = base(settings)?;
        let hosts = Hosts::new(&base, &settings.optional("DMAP_HOSTS").unwrap_or_default());
        Ok(Self {
            stack: settings.stack(),
            incoming_bucket: settings.required("INCOMING_BUCKET", "it names the bucket that datasets are put into")?,
            lake_bucket: settings.required("LAKE_BUCKET", "it names the bucket that quarantined results go to")?,
            registrar: settings.required("REGISTRAR_FUNCTION", "it names load-registrar, which knows the feeds")?,
            base,
            hosts: hosts.map_err(|value| SettingError::Invalid {
                name: "DMAP_HOSTS",
                value,
                expected: "names of hosts separated by commas, such as files.example,files.example:8443".to_owned(),
            })?,
            secret_arn: settings.required("DMAP_SECRET_ARN", "it names the secret with the API key")?,
            max_dataset_bytes: settings.number("MAX_DATASET_MB", 2_048, 1..=50_000)? << 20,
        })
    }
}

fn base(settings: &Settings<impl Lookup>) -> Result<Url, SettingError> {
    let value = settings.required("DMAP_BASE_URL", "it is what the relative URLs of feeds follow")?;
    let url = value.parse::<Url>().ok().filter(|url| url.scheme() == "https" && url.host_str().is_some());
    let url = url.filter(|url| url.username().is_empty() && url.password().is_none());
    let url = url.filter(|url| url.query().is_none() && url.fragment().is_none());
    url.ok_or_else(|| SettingError::Invalid {
        name: "DMAP_BASE_URL",
        // It may hold a password.
        value: "…".to_owned(),
        expected: "like https://dmap.example/api, without a user, a query or a fragment".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &[(&'static str, &str)]) -> Result<Config, String> {
        let base = [
            ("INCOMING_BUCKET", "incoming"),
            ("LAKE_BUCKET", "lake"),
            ("REGISTRAR_FUNCTION", "registrar"),
            ("DMAP_BASE_URL", "https://dmap.example/api"),
            ("DMAP_SECRET_ARN", "arn:secret"),
        ];
        let all: Vec<_> = variables.iter().chain(&base).copied().collect();
        let lookup = |name| all.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Config::from_lookup(lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn every_mistake_is_a_sentence_that_names_the_variable() {
        let config = with(&[]).unwrap();
        assert_eq!((config.hosts.to_string().as_str(), config.max_dataset_bytes), ("dmap.example", 2_048 << 20));
        for (variable, value, sentence) in [
            ("DMAP_BASE_URL", "", "DMAP_BASE_URL is not set; it is what the relative URLs of feeds follow"),
            (
                "DMAP_BASE_URL",
                "http://dmap.example/",
                "DMAP_BASE_URL is \"…\"; it must be like https://dmap.example/api",
            ),
            ("DMAP_BASE_URL", "https://me:secret@dmap.example/", "DMAP_BASE_URL is \"…\""),
            ("DMAP_BASE_URL", "https://dmap.example/?apikey=secret", "DMAP_BASE_URL is \"…\""),
            ("DMAP_HOSTS", "files.example,https://x", "DMAP_HOSTS is \"https://x\"; it must be names of hosts"),
            ("DMAP_SECRET_ARN", "", "DMAP_SECRET_ARN is not set; it names the secret with the API key"),
            ("MAX_DATASET_MB", "0", "MAX_DATASET_MB is \"0\"; it must be a whole number from 1 to 50000"),
        ] {
            let error = with(&[(variable, value)]).unwrap_err();
            assert!(error.contains(sentence), "{error}");
            assert!(!error.contains("secret@") && !error.contains("apikey"), "{error}");
        }
    }
}
