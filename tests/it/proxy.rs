//! Proxies between a client and Postgres: one terminates TLS, the other counts round trips.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

/// The message with which a client of Postgres requests TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A certificate in a file.
pub(crate) struct Authority(std::path::PathBuf);

impl Authority {
    pub(crate) fn path(&self) -> String {
        self.0.to_str().unwrap().to_owned()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).ok();
    }
}

/// Puts TLS in front of `server`, with a self-signed certificate for `name`. Returns the port and the certificate.
pub(crate) async fn tls(server: String, name: &str) -> (u16, Authority) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let file = std::env::temp_dir().join(format!("landfall-test-{port}.pem"));
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await.unwrap();
                assert_eq!(request, SSL_REQUEST, "the client does not request TLS");
                client.write_all(b"S").await.unwrap();
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    (port, Authority(file))
}

/// Number of times that the client sent something after the server had.
#[derive(Clone, Default)]
pub(crate) struct RoundTrips(Arc<(AtomicUsize, AtomicBool)>);

impl RoundTrips {
    /// The number since the last call.
    pub(crate) fn take(&self) -> usize {
        self.0.1.store(true, Ordering::SeqCst);
        self.0.0.swap(0, Ordering::SeqCst)
    }

    fn client_sent(&self) {
        if self.0.1.swap(false, Ordering::SeqCst) {
            self.0.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn server_sent(&self) {
        self.0.1.store(true, Ordering::SeqCst);
    }
}

/// Puts a proxy in front of `server` that counts round trips.
pub(crate) async fn counting(server: String) -> (u16, RoundTrips) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, trips) = (listener.local_addr().unwrap().port(), RoundTrips::default());
    let counted = trips.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (from_server, to_server) = TcpStream::connect(&server).await.unwrap().into_split();
            let (from_client, to_client) = client.into_split();
            let (requests, answers) = (counted.clone(), counted.clone());
            tokio::spawn(forward(from_client, to_server, move || requests.client_sent()));
            tokio::spawn(forward(from_server, to_client, move || answers.server_sent()));
        }
    });
    (port, trips)
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, on_data: impl Fn()) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        on_data();
        if to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    to.shutdown().await.ok();
}
