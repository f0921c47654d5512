//! A network between a client and a server, such as Postgres: so many milliseconds long, and it counts round trips.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Times that a client spoke after the server had.
#[derive(Debug, Clone, Default)]
pub struct RoundTrips {
    count: Arc<AtomicUsize>,
    server_spoke: Arc<AtomicBool>,
}

impl RoundTrips {
    /// How many since the last time.
    pub fn take(&self) -> usize {
        self.server_spoke.store(true, Ordering::SeqCst);
        self.count.swap(0, Ordering::SeqCst)
    }

    fn client_speaks(&self) {
        if self.server_spoke.swap(false, Ordering::SeqCst) {
            self.count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Listens on a port of this machine and passes on what comes to `server`, `one_way` later.
pub async fn start(server: String, one_way: Duration) -> io::Result<(SocketAddr, RoundTrips)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let trips = RoundTrips::default();
    let counted = trips.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (server, trips) = (server.clone(), counted.clone());
            tokio::spawn(async move {
                let Ok(server) = TcpStream::connect(server).await else { return };
                client.set_nodelay(true).ok();
                server.set_nodelay(true).ok();
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                let asked = trips.clone();
                tokio::join!(
                    pass_on(from_client, to_server, one_way, move || asked.client_speaks()),
                    pass_on(from_server, to_client, one_way, move || trips.server_spoke.store(true, Ordering::SeqCst)),
                );
            });
        }
    });
    Ok((address, trips))
}

async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    one_way: Duration,
    heard: impl Fn(),
) {
    let (send, mut receive) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            heard();
            let chunk = buffer.get(..length).unwrap_or_default().to_vec();
            if send.send((Instant::now() + one_way, chunk)).is_err() {
                break;
            }
        }
    };
    let write = async move {
        while let Some((due, chunk)) = receive.recv().await {
            if !one_way.is_zero() {
                sleep_until(due).await;
            }
            if to.write_all(&chunk).await.is_err() {
                break;
            }
        }
        to.shutdown().await.ok();
    };
    tokio::join!(read, write);
}
