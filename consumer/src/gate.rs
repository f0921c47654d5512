//! The limit of what is in memory. AMQP's prefetch counts messages and not bytes, so a few large messages would be enough to
//! fill the memory. While messages in flight have more bytes than allowed, nothing more is read from the broker's connection,
//! and TCP makes the broker wait.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{Tokio, traits::Reactor};
use futures_io::{AsyncRead, AsyncWrite};
use futures_util::{Stream, task::AtomicWaker};

/// While the gate is closed, this much is read so often. The heartbeats of the broker are in the stream too, and without any of
/// them the connection would count as dead.
const TRICKLE_BYTES: usize = 4_096;
const TRICKLE: Duration = Duration::from_secs(2);

/// Counts the bytes of messages in flight.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    bytes: AtomicUsize,
    /// Of the task that reads the connection.
    reader: AtomicWaker,
}

/// The bytes of one message, which are given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    gate: Gate,
    bytes: usize,
}

impl Gate {
    /// A gate that is open while messages in flight have fewer bytes than `most`.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, bytes: AtomicUsize::new(0), reader: AtomicWaker::new() }))
    }

    /// Counts a message.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Share {
        self.0.bytes.fetch_add(bytes, Ordering::AcqRel);
        Share { gate: self.clone(), bytes }
    }

    /// Bytes of all messages in flight.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Acquire)
    }

    fn is_open(&self) -> bool {
        self.bytes() < self.0.most
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.gate.0.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if self.gate.is_open() {
            self.gate.0.reader.wake();
        }
    }
}

/// Opens connections that are read while the gate is open.
#[derive(Debug, Clone)]
pub struct GatedReactor {
    /// What does the work.
    pub tokio: Tokio,
    /// The gate of all its connections.
    pub gate: Gate,
}

type Tcp = <Tokio as Reactor>::TcpStream;
type Sleep = <Tokio as Reactor>::Sleep;

/// A connection that is read while the gate is open.
pub struct GatedStream {
    stream: Tcp,
    reactor: GatedReactor,
    /// Until the next trickle, while the gate is closed.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Reactor for GatedReactor {
    type TcpStream = GatedStream;
    type Sleep = Sleep;

    /// Of sockets that are open already, which the AMQP client never has.
    fn register<H: io::Read + io::Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<GatedStream, _>(io::Error::from(io::ErrorKind::Unsupported))
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(&self, address: SocketAddr) -> impl Future<Output = io::Result<GatedStream>> + Send + 'static {
        let (connect, reactor) = (self.tokio.tcp_connect_addr(address), self.clone());
        async move { Ok(GatedStream { stream: connect.await?, reactor, pause: None }) }
    }
}

impl GatedStream {
    /// How many bytes may be read now.
    fn poll_allowed(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        if self.reactor.gate.is_open() {
            self.pause = None;
            return Poll::Ready(usize::MAX);
        }
        self.reactor.gate.0.reader.register(context.waker());
        // It may have opened before the waker was there.
        if self.reactor.gate.is_open() {
            return Poll::Ready(usize::MAX);
        }
        let pause = self.pause.get_or_insert_with(|| Box::pin(self.reactor.tokio.sleep(TRICKLE)));
        ready!(pause.as_mut().poll(context));
        Poll::Ready(TRICKLE_BYTES)
    }
}

impl AsyncRead for GatedStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let allowed = ready!(self.poll_allowed(context)).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..allowed) else { return Poll::Ready(Ok(0)) };
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        // The next trickle comes after another pause.
        self.pause = None;
        Poll::Ready(read)
    }
}

impl AsyncWrite for GatedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Waker};

    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    async fn read(stream: &mut GatedStream, buffer: &mut [u8]) -> usize {
        poll_fn(|context| Pin::new(&mut *stream).poll_read(context, buffer)).await.unwrap()
    }

    async fn connection(gate: &Gate) -> (GatedStream, tokio::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reactor = GatedReactor { tokio: Tokio::current(), gate: gate.clone() };
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(reactor.tcp_connect_addr(address), listener.accept());
        (ours.unwrap(), theirs.unwrap().0)
    }

    #[tokio::test]
    async fn a_connection_is_not_read_while_too_many_bytes_are_in_flight_and_is_written_all_the_same() {
        let gate = Gate::new(1_000);
        let (mut ours, mut theirs) = connection(&gate).await;
        theirs.write_all(&[7; 10_000]).await.unwrap();
        let mut buffer = [0; 100];
        assert_eq!(read(&mut ours, &mut buffer).await, 100);

        let (first, second) = (gate.take(600), gate.take(600));
        let mut context = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut ours).poll_read(&mut context, &mut buffer).is_pending());
        assert!(Pin::new(&mut ours).poll_write(&mut context, b"ack").is_ready());

        let reading = tokio::spawn(async move { read(&mut ours, &mut [0; 100]).await });
        drop(first);
        assert_eq!(reading.await.unwrap(), 100, "reading goes on when bytes are given back");
        drop(second);
        assert_eq!(gate.bytes(), 0);
    }

    #[tokio::test]
    async fn heartbeats_are_seen_while_the_gate_is_closed() {
        let gate = Gate::new(1);
        let (mut ours, mut theirs) = connection(&gate).await;
        let _all = gate.take(1);
        theirs.write_all(&[7; 100_000]).await.unwrap();
        let begun = Instant::now();
        let mut buffer = vec![0; 100_000];
        assert_eq!(read(&mut ours, &mut buffer).await, TRICKLE_BYTES);
        assert!(begun.elapsed() >= TRICKLE);
    }
}
