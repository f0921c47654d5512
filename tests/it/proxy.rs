//! TLS in front of Postgres, a network on which connections die without a word, and members of a cluster of which one accepts
//! writes.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

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

/// Where something listens with TLS, with a self-signed certificate for `name`.
async fn listen(name: &str) -> (TcpListener, TlsAcceptor, u16, Authority) {
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
    (listener, TlsAcceptor::from(Arc::new(config)), port, Authority(file))
}

/// The TLS of a client that has to request it. `None` if it does not trust the certificate.
async fn accepted(mut client: TcpStream, acceptor: &TlsAcceptor) -> Option<TlsStream<TcpStream>> {
    let mut request = [0; 8];
    client.read_exact(&mut request).await.unwrap();
    assert_eq!(request, SSL_REQUEST, "the client does not request TLS");
    client.write_all(b"S").await.unwrap();
    acceptor.accept(client).await.ok()
}

/// Puts TLS in front of `server`. Returns the port and the certificate.
pub(crate) async fn tls(server: String, name: &str) -> (u16, Authority) {
    let (listener, acceptor, port, authority) = listen(name).await;
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let Some(mut client) = accepted(client, &acceptor).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    (port, authority)
}

/// Puts TLS and a check of passwords in front of `server`, which trusts everybody: as RDS does for IAM database
/// authentication, it asks for the password in clear text and refuses one for which `is_right`, asked with the user and the
/// password, is false.
pub(crate) async fn password(
    server: String,
    name: &str,
    is_right: impl Fn(&str, &str) -> bool + Send + Sync + 'static,
) -> (u16, Authority) {
    let (listener, acceptor, port, authority) = listen(name).await;
    let is_right = Arc::new(is_right);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, server, is_right) = (acceptor.clone(), server.clone(), is_right.clone());
            tokio::spawn(async move {
                let Some(mut client) = accepted(client, &acceptor).await else { return };
                let length = client.read_u32().await.unwrap();
                let mut startup = vec![0; length as usize - 4];
                client.read_exact(&mut startup).await.unwrap();
                let words: Vec<&str> =
                    startup[4..].split(|byte| *byte == 0).map(|word| str::from_utf8(word).unwrap()).collect();
                let user = words.chunks(2).find(|pair| pair[0] == "user").unwrap()[1].to_owned();
                // AuthenticationCleartextPassword, and then the PasswordMessage.
                client.write_all(b"R\0\0\0\x08\0\0\0\x03").await.unwrap();
                client.flush().await.unwrap();
                assert_eq!(client.read_u8().await.unwrap(), b'p');
                let mut password = vec![0; client.read_u32().await.unwrap() as usize - 4];
                client.read_exact(&mut password).await.unwrap();
                let password = str::from_utf8(&password).unwrap().trim_end_matches('\0');
                if !is_right(&user, password) {
                    let fields = format!("SFATAL\0VFATAL\0C28P01\0MPAM authentication failed for user \"{user}\"\0\0");
                    client.write_u8(b'E').await.unwrap();
                    client.write_u32(u32::try_from(fields.len()).unwrap() + 4).await.unwrap();
                    client.write_all(fields.as_bytes()).await.unwrap();
                    client.shutdown().await.ok();
                    return;
                }
                let mut server = TcpStream::connect(server).await.unwrap();
                server.write_u32(length).await.unwrap();
                server.write_all(&startup).await.unwrap();
                copy_bidirectional(&mut client, &mut server).await.ok();
            });
        }
    });
    (port, authority)
}

/// A network to `server` on which connections can fall silent.
pub(crate) struct Network {
    pub(crate) address: SocketAddr,
    connections: Arc<AtomicUsize>,
    silent: Arc<AtomicUsize>,
}

impl Network {
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, silent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let network = Self { address, connections: connections.clone(), silent: silent.clone() };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst);
                let (silent, server) = (silent.clone(), TcpStream::connect(&server).await.unwrap());
                tokio::spawn(async move {
                    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                        (client.into_split(), server.into_split());
                    let mut buffers = (vec![0; 64 << 10], vec![0; 64 << 10]);
                    loop {
                        let (bytes, to_server_now) = tokio::select! {
                            bytes = from_client.read(&mut buffers.0) => (bytes.unwrap_or(0), true),
                            bytes = from_server.read(&mut buffers.1) => (bytes.unwrap_or(0), false),
                        };
                        if bytes == 0 {
                            return;
                        }
                        if number < silent.load(Ordering::SeqCst) {
                            continue;
                        }
                        let written = match to_server_now {
                            true => to_server.write_all(&buffers.0[..bytes]).await,
                            false => to_client.write_all(&buffers.1[..bytes]).await,
                        };
                        if written.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        network
    }

    /// From now on, nothing comes over the connections that are open.
    pub(crate) fn silence(&self) {
        self.silent.store(self.connections(), Ordering::SeqCst);
    }

    /// How many connections have been opened.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A way to `server` that can be that of a standby: the sessions that are opened through it are then read-only.
pub(crate) struct Member {
    pub(crate) address: SocketAddr,
    read_only: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Member {
    pub(crate) async fn of(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (read_only, connections) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let member = Self { address, read_only: read_only.clone(), connections: connections.clone() };
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                let options: &[u8] = match read_only.load(Ordering::SeqCst) {
                    true => b"options\0-c default_transaction_read_only=on\0",
                    false => b"",
                };
                let server = server.clone();
                tokio::spawn(async move {
                    // The first message: its length, the version of the protocol, names and values, and an empty name.
                    let mut server = TcpStream::connect(server).await.unwrap();
                    let Ok(length) = client.read_u32().await else { return };
                    let mut message = vec![0; length as usize - 4];
                    client.read_exact(&mut message).await.unwrap();
                    message.splice(4..4, options.iter().copied());
                    server.write_u32(u32::try_from(message.len()).unwrap() + 4).await.unwrap();
                    server.write_all(&message).await.unwrap();
                    copy_bidirectional(&mut client, &mut server).await.ok();
                });
            }
        });
        member
    }

    pub(crate) fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::SeqCst);
    }

    /// How many connections have been opened.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}
