//! Lambda's Runtime API for one process: delivers events, receives responses, and records the time of each.

use std::{
    io::BufReader,
    net::{SocketAddr, TcpListener, TcpStream},
    process::Child,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::{Duration, Instant},
};

use runtime::clock;

use crate::{
    Error,
    http::{Request, respond},
};

/// How long an invocation may last.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often to look whether the process has ended.
const GLANCE: Duration = Duration::from_millis(200);
const ARN: &str = "arn:aws:lambda:us-east-1:123456789012:function:parquet-writer";

enum Call {
    Next { at: Instant, event: Sender<Arc<[u8]>> },
    Response { at: Instant, body: Vec<u8> },
    Error(String),
}

/// The Runtime API of one process.
#[derive(Debug)]
pub struct RuntimeApi {
    /// `AWS_LAMBDA_RUNTIME_API`.
    pub address: SocketAddr,
    calls: Receiver<Call>,
    stopped: Arc<AtomicBool>,
}

/// A process that waits for its next event.
#[derive(Debug)]
pub struct Waiting {
    /// Since when.
    pub at: Instant,
    event: Sender<Arc<[u8]>>,
}

/// An answered invocation.
#[derive(Debug)]
pub struct Answered {
    /// How long it took.
    pub time: Duration,
    /// When the answer came.
    pub at: Instant,
    /// The answer.
    pub body: Vec<u8>,
}

impl RuntimeApi {
    /// Waits for calls.
    pub fn start() -> Result<Self, Error> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (sender, calls) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = stopped.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let calls = sender.clone();
                // A connection ends when the function is killed; its error says nothing more.
                thread::spawn(move || connection(stream, &calls).ok());
            }
        });
        Ok(Self { address, calls, stopped })
    }

    /// Waits until `process` asks for an event.
    pub fn next(&self, process: &mut Child) -> Result<Waiting, Error> {
        match self.call(process)? {
            Call::Next { at, event } => Ok(Waiting { at, event }),
            Call::Response { .. } => Err("the function answered what it was not asked".into()),
            Call::Error(error) => Err(error.into()),
        }
    }

    /// Gives a waiting `process` its event and waits for the answer.
    pub fn invoke(&self, process: &mut Child, waiting: &Waiting, event: Arc<[u8]>) -> Result<Answered, Error> {
        let sent = Instant::now();
        waiting.event.send(event)?;
        match self.call(process)? {
            Call::Response { at, body } => Ok(Answered { time: at - sent, at, body }),
            Call::Next { .. } => Err("the function asked for an event before it had answered the last".into()),
            Call::Error(error) => Err(error.into()),
        }
    }

    fn call(&self, process: &mut Child) -> Result<Call, Error> {
        let started = Instant::now();
        while started.elapsed() < TIMEOUT {
            match self.calls.recv_timeout(GLANCE) {
                Ok(call) => return Ok(call),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(status) = process.try_wait()? {
                        return Err(format!("the function ended: {status}").into());
                    }
                }
            }
        }
        Err("the function did not call".into())
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts connections.
        drop(TcpStream::connect(self.address));
    }
}

fn connection(stream: TcpStream, calls: &Sender<Call>) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    let mut invocation = 0;
    while let Some(request) = Request::read(&mut stream)? {
        let at = Instant::now();
        if request.method == "GET" && request.path.ends_with("/invocation/next") {
            let (sender, event) = channel();
            calls.send(Call::Next { at, event: sender })?;
            let event: Arc<[u8]> = event.recv()?;
            invocation += 1;
            respond(stream.get_mut(), "200 OK", &headers(invocation), &event)?;
            continue;
        }
        // Sent before the HTTP response, because the function may then request its next event on another connection.
        calls.send(if request.path.ends_with("/response") {
            Call::Response { at, body: request.body }
        } else {
            Call::Error(format!("{}: {}", request.path, String::from_utf8_lossy(&request.body)))
        })?;
        respond(stream.get_mut(), "202 Accepted", "Content-Type: application/json\r\n", b"{\"status\":\"OK\"}")?;
    }
    Ok(())
}

fn headers(invocation: u32) -> String {
    let deadline = (clock::since_epoch() + TIMEOUT).as_millis();
    format!(
        "Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe{invocation:08x}\r\n\
         Lambda-Runtime-Deadline-Ms: {deadline}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: {ARN}\r\n\
         Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n"
    )
}
