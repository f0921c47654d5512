//! The hosts that may be connected to.

use std::fmt;

use url::Url;

/// Why a URL is not connected to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// Only https is spoken.
    #[error("{0} is not https")]
    NotHttps(String),
    /// A user or a password in the URL.
    #[error("{0} names a user or a password")]
    User(String),
    /// The host, or its port, is not declared.
    #[error(
        "{0} is not one of the declared hosts; add it to DMAP_HOSTS (parameter DmapHosts) if datasets are to come from there"
    )]
    Host(String),
}

/// A URL as logs and errors may show it: without its query, which may hold a key or a signature.
#[must_use]
pub fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    shown.set_query(None);
    shown.set_fragment(None);
    // Both fail only for URLs that cannot have any.
    shown.set_username("").ok();
    shown.set_password(None).ok();
    shown.into()
}

/// Names and ports. An address instead of a name, and a port other than 443, have to be declared like any other host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts(Vec<(String, u16)>);

impl Hosts {
    /// The host of `base` and a list of others, separated by commas, each with its port if that is not 443. The error is the one
    /// that is no host.
    pub fn new(base: &Url, others: &str) -> Result<Self, String> {
        let mut hosts: Vec<(String, u16)> = place(base).into_iter().collect();
        for host in others.split(',').map(str::trim).filter(|host| !host.is_empty()) {
            let url = Url::parse(&format!("https://{host}/")).ok();
            let url = url.filter(|url| url.path() == "/" && url.username().is_empty() && url.password().is_none());
            let url = url.filter(|url| url.query().is_none() && url.fragment().is_none());
            hosts.push(url.as_ref().and_then(place).ok_or_else(|| host.to_owned())?);
        }
        Ok(Self(hosts))
    }

    /// Whether a URL may be connected to.
    pub fn check(&self, url: &Url) -> Result<(), Forbidden> {
        if url.scheme() != "https" {
            return Err(Forbidden::NotHttps(shown(url)));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden::User(shown(url)));
        }
        match place(url) {
            Some(place) if self.0.contains(&place) => Ok(()),
            _ => Err(Forbidden::Host(url.host_str().map_or_else(|| shown(url), |host| with_port(host, url.port())))),
        }
    }
}

fn place(url: &Url) -> Option<(String, u16)> {
    Some((url.host_str()?.to_owned(), url.port_or_known_default()?))
}

fn with_port(host: &str, port: Option<u16>) -> String {
    port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> =
            self.0.iter().map(|(host, port)| with_port(host, Some(*port).filter(|port| *port != 443))).collect();
        f.write_str(&hosts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(others: &str) -> Result<Hosts, String> {
        Hosts::new(&"https://dmap.example/api/".parse().unwrap(), others)
    }

    #[test]
    fn only_https_to_declared_hosts_and_ports_is_allowed() {
        let hosts = hosts("files.example, files.example:8443, 192.0.2.7").unwrap();
        assert_eq!(hosts.to_string(), "dmap.example, files.example, files.example:8443, 192.0.2.7");
        for allowed in [
            "https://dmap.example/x?y=z",
            "https://DMAP.example:443/",
            "https://files.example:8443/a",
            "https://192.0.2.7/a",
        ] {
            assert_eq!(hosts.check(&allowed.parse().unwrap()), Ok(()), "{allowed}");
        }
        for forbidden in [
            "http://dmap.example/",
            "ftp://dmap.example/",
            "https://dmap.example:8443/",
            "https://dmap.example.evil.example/",
            "https://sub.dmap.example/",
            "https://dmap.example@evil.example/",
            "https://user:secret@dmap.example/",
            "https://169.254.169.254/latest/meta-data/",
            "https://2852039166/",
            "https://[::1]/",
            "https://192.0.2.7:8443/",
            "file:///etc/passwd",
        ] {
            let error = hosts.check(&forbidden.parse().unwrap()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        assert!(hosts("").is_ok());
        for wrong in
            ["https://files.example", "files.example/path", "a b", "files.example:x", "user@files.example", "a?b"]
        {
            assert_eq!(hosts(wrong), Err(wrong.to_owned()), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_has_no_query(path in "[a-z/]{0,8}", query in "[a-zA-Z0-9=&]{1,20}") {
            let url: Url = format!("https://u:p@dmap.example/{path}?SECRET{query}#SECRET").parse().unwrap();
            prop_assert_eq!(shown(&url), format!("https://dmap.example/{path}"));
        }
    }
}
