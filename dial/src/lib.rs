//! Connections to Postgres: when they use TLS, and whose certificates they trust.
//!
//! A server that is not on this machine is connected to with TLS, which verifies its certificate and its name, unless its URL says
//! `sslmode=disable`.

use std::{net::IpAddr, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::{
    Client, Config, NoTls,
    config::{Host, SslMode},
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The certificate authorities of RDS as of 2022 and of RDS Proxy. Source: "Using SSL/TLS to encrypt a connection
/// to a DB instance", Amazon RDS user guide (the global bundle); Amazon Trust Services' roots.
const RDS_CA: &[u8] = include_bytes!("../rds-ca.pem");

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificate authorities cannot be read or has none.
    #[error("{file}: {cause}")]
    Authorities {
        /// The file.
        file: String,
        /// What is wrong with it.
        cause: String,
    },
    /// The TLS library refuses its own settings.
    #[error("{0}")]
    Protocol(#[from] rustls::Error),
}

/// What a URL asks for, and whether with TLS.
pub fn of_url(url: &str) -> Result<(Config, bool), tokio_postgres::Error> {
    let mut config: Config = url.parse()?;
    let off = config.get_ssl_mode() == SslMode::Disable;
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    // An address is what is connected to, whatever the host is called.
    let is_here = match addresses {
        [] => !hosts.is_empty() && hosts.iter().all(is_local),
        addresses => addresses.iter().all(IpAddr::is_loopback),
    };
    let tls = !off && !is_here || config.get_ssl_mode() == SslMode::Require;
    if tls {
        config.ssl_mode(SslMode::Require);
    }
    Ok((config, tls))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

/// TLS that verifies the server's certificate and its name. Authorities of `ca_file` are trusted beside those of RDS.
pub fn tls(ca_file: Option<&str>) -> Result<MakeRustlsConnect, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(RDS_CA).flatten());
    if let Some(file) = ca_file {
        let failed = |cause: String| TlsError::Authorities { file: file.to_owned(), cause };
        let pem = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(failed("it holds no certificate".to_owned()));
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Connects, with TLS if there is any. The connection ends with its client.
pub async fn connect(config: &Config, tls: Option<MakeRustlsConnect>) -> Result<Client, tokio_postgres::Error> {
    match tls {
        Some(tls) => {
            let (client, connection) = config.connect(tls).await?;
            tokio::spawn(async move { connection.await.ok() });
            Ok(client)
        }
        None => {
            let (client, connection) = config.connect(NoTls).await?;
            tokio::spawn(async move { connection.await.ok() });
            Ok(client)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_root_of_a_test_environment_is_built_in() {
        let roots: Vec<_> = CertificateDer::pem_slice_iter(RDS_CA).map(Result::unwrap).collect();
        assert_eq!(RootCertStore::empty().add_parsable_certificates(roots.clone()), (roots.len(), 0));
        let names = |word: &[u8]| roots.iter().filter(|root| root.windows(word.len()).any(|part| part == word)).count();
        assert_eq!((names(b"Beta"), names(b"Preview"), names(b"us-east-1")), (0, 0, 3));
    }

    #[test]
    fn only_a_server_on_this_machine_is_connected_to_without_tls() {
        let tls = |url: &str| of_url(url).unwrap().1;
        assert!(!tls("postgres://me@127.0.0.1:5433/shop") && !tls("postgres://me@localhost/shop"));
        assert!(tls("postgres://me@db.example/shop") && tls("postgres://me@localhost,db.example/shop"));
        assert!(tls("postgres://me@localhost/shop?sslmode=require"));
        assert!(tls("postgres://me@localhost/shop?hostaddr=10.0.0.5") && tls("postgres:///shop?hostaddr=10.0.0.5"));
        assert!(!tls("postgres://me@db.example/shop?hostaddr=127.0.0.1"));
        assert!(!tls("postgres://me@db.example/shop?sslmode=disable"));
    }
}
