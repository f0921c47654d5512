//! An object as a stream: read from S3 in the one thread, converted in the other.

use std::io::{self, Read};

use bytes::{Buf, Bytes};
use objects::{BucketError, S3, Version};
use tokio::sync::mpsc::{Receiver, Sender};
use tracing::warn;

/// How often reading goes on after a connection broke.
const RESUMED: usize = 5;

/// Reads a version of this size to its end, or until nobody wants more of it. A connection that breaks is made again where it
/// broke.
pub async fn read(bucket: &S3, version: Version<'_>, size: u64, to: Sender<Bytes>) -> Result<(), BucketError> {
    let (mut at, mut broken) = (0, 0);
    loop {
        match read_from(bucket, version, &mut at, &to).await {
            // There is nothing behind the last byte that could be asked for.
            Err(BucketError::Failed { .. }) if at == size && size > 0 => return Ok(()),
            Err(error @ BucketError::Failed { .. }) if broken < RESUMED => {
                broken += 1;
                warn!(cause = %error, at, "the object is read on from where the connection broke");
            }
            result => return result,
        }
    }
}

async fn read_from(bucket: &S3, version: Version<'_>, at: &mut u64, to: &Sender<Bytes>) -> Result<(), BucketError> {
    let mut object = bucket.open_version(version, *at).await?;
    while let Some(bytes) = object.next().await? {
        *at += bytes.len() as u64;
        if to.send(bytes).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The receiving end, for a thread that may wait.
#[derive(Debug)]
pub struct Pipe {
    from: Receiver<Bytes>,
    rest: Bytes,
    /// How many bytes the object has: an end before that is an error.
    left: u64,
}

impl Pipe {
    /// The end of a channel through which an object of this size comes.
    #[must_use]
    pub const fn new(from: Receiver<Bytes>, size: u64) -> Self {
        Self { from, rest: Bytes::new(), left: size }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.from.blocking_recv() {
                Some(bytes) => self.rest = bytes,
                None if self.left == 0 => return Ok(0),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let taken = buffer.len().min(self.rest.len());
        if let Some(buffer) = buffer.get_mut(..taken) {
            self.rest.copy_to_slice(buffer);
        }
        self.left = self.left.saturating_sub(taken as u64);
        Ok(taken)
    }
}
