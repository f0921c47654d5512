//! A dataset as a stream. When the connection breaks, the rest is asked for, if the server still has the same bytes.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use tokio::time::Instant;
use tracing::warn;
use url::Url;

use crate::{
    hosts::{Hosts, shown},
    http::{Answer, Get, Http, HttpError},
};

/// How often the connection may fail during one download.
const MAX_FAILURES: u32 = 6;

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// These bytes follow.
    Bytes(Bytes),
    /// What came so far is forgotten: it is no longer what the server has, or the server cannot send a rest.
    Anew,
    /// The dataset is complete.
    End,
}

/// A download in progress.
#[derive(Debug)]
pub struct Download<'a> {
    http: &'a Http,
    hosts: &'a Hosts,
    url: &'a Url,
    limit: u64,
    until: Instant,
    /// Bytes that have come.
    at: u64,
    /// All bytes, if the server has said so.
    length: Option<u64>,
    /// What tells whether the bytes are still the same.
    validator: Option<HeaderValue>,
    open: Option<Answer>,
    failures: u32,
}

impl<'a> Download<'a> {
    /// Nothing is sent yet.
    #[must_use]
    pub const fn new(http: &'a Http, hosts: &'a Hosts, url: &'a Url, limit: u64, until: Instant) -> Self {
        let (at, length, validator, open, failures) = (0, None, None, None, 0);
        Self { http, hosts, url, limit, until, at, length, validator, open, failures }
    }

    /// Reads on, and begins to read at first. What fails for a moment is tried again.
    pub async fn next(&mut self) -> Result<Next, HttpError> {
        loop {
            let error = match self.step().await {
                Ok(next) => return Ok(next),
                Err(error) => error,
            };
            self.open = None;
            self.failures += 1;
            if !error.is_transient() || self.failures >= MAX_FAILURES {
                return Err(error);
            }
            warn!(cause = %error, bytes = self.at, "a download is tried again");
            self.http.pause(self.failures, &error, self.until).await?;
        }
    }

    async fn step(&mut self) -> Result<Next, HttpError> {
        let Some(answer) = &mut self.open else {
            let is_anew = self.begin().await?;
            return if is_anew { Ok(Next::Anew) } else { Box::pin(self.step()).await };
        };
        match answer.next().await? {
            Some(bytes) => {
                self.at += bytes.len() as u64;
                if self.at > self.limit {
                    return Err(HttpError::TooLarge { url: shown(self.url), limit: self.limit });
                }
                Ok(Next::Bytes(bytes))
            }
            None if self.length.is_some_and(|length| length != self.at) => {
                let cause = "it ended before its end".to_owned();
                Err(HttpError::Connection { url: answer.url().to_owned(), cause })
            }
            None => Ok(Next::End),
        }
    }

    /// Asks for everything, or for the rest. Whether the bytes that came before are of no use.
    async fn begin(&mut self) -> Result<bool, HttpError> {
        let rest = self.validator.as_ref().filter(|_| self.at > 0).map(|validator| (self.at, validator));
        let asked = self.http.get(self.hosts, Get { url: self.url, rest, until: self.until }).await;
        if matches!(asked, Err(HttpError::Status { status: 416, .. })) && rest.is_some() {
            // There is no rest, so these are other bytes. The next attempt asks for all of them.
            self.validator = None;
            return Err(HttpError::Connection { url: shown(self.url), cause: "there is no rest".to_owned() });
        }
        let answer = asked?;
        if answer.status == StatusCode::PARTIAL_CONTENT {
            let range = answer.headers.get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
            let is_rest = range.is_some_and(|range| continues(range, self.at, self.length));
            if rest.is_none() || !is_rest {
                self.validator = None;
                let cause = "it answers with a part that nobody asked for".to_owned();
                return Err(HttpError::Connection { url: answer.url().to_owned(), cause });
            }
            self.open = Some(answer);
            return Ok(false);
        }
        self.length = answer.length();
        if self.length.is_some_and(|length| length > self.limit) {
            return Err(HttpError::TooLarge { url: shown(self.url), limit: self.limit });
        }
        self.validator = validator(&answer);
        self.open = Some(answer);
        let is_anew = self.at > 0;
        self.at = 0;
        Ok(is_anew)
    }
}

/// What tells for certain whether the bytes are still the same: a strong `ETag`. Two versions of one second have the same time.
fn validator(answer: &Answer) -> Option<HeaderValue> {
    answer.headers.get(header::ETAG).filter(|e_tag| e_tag.as_bytes().starts_with(b"\"")).cloned()
}

/// Whether a `Content-Range` begins at this byte and has this length in all, if that is known.
fn continues(range: &str, at: u64, length: Option<u64>) -> bool {
    let Some((first, total)) = range
        .strip_prefix("bytes ")
        .and_then(|range| range.split_once('/'))
        .and_then(|(range, total)| Some((range.split_once('-')?.0, total)))
    else {
        return false;
    };
    let is_total = match (total.parse::<u64>(), length) {
        (Ok(total), Some(length)) => total == length,
        (Err(_), _) => total == "*",
        (Ok(_), None) => true,
    };
    first.parse() == Ok(at) && is_total
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_rest_begins_where_the_connection_broke() {
        assert!(continues("bytes 5-9/10", 5, Some(10)) && continues("bytes 5-9/*", 5, Some(10)));
        assert!(continues("bytes 5-9/10", 5, None));
        for wrong in ["bytes 4-9/10", "bytes 5-9/11", "5-9/10", "bytes */10", "bytes 5", "", "bytes 5-9/x"] {
            assert!(!continues(wrong, 5, Some(10)), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_rest_is_one_from_the_next_byte_on_only(at in any::<u64>(), first in any::<u64>(), length in any::<u64>()) {
            let range = |first: u64| format!("bytes {first}-{}/{length}", length.wrapping_sub(1));
            prop_assert!(continues(&range(at), at, Some(length)));
            prop_assert_eq!(continues(&range(first), at, Some(length)), first == at);
        }

        #[test]
        fn no_range_makes_it_panic(range in "(bytes )?[0-9*/-]{0,12}") {
            let is_from_zero = continues(&range, 0, None);
            prop_assert!(!is_from_zero || range.starts_with("bytes 0"));
        }
    }
}
