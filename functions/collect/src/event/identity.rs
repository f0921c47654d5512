//! Which hit it is: the parameters as they are stored, and the `event_id`, a hash of them.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

use crate::hit::{Hit, ParameterValue};

/// Whether the client says which hit it is, so that a copy that it sends later can be recognised: by a cache buster (`z`), by the time
/// of an event (`timestamp_micros`), or, as gtag.js does, by a number for the page (`_p`) and one for the request (`_s`). Clients that
/// imitate gtag.js send `_s=1` with everything; they do not send `gtm`. `has` tells which parameters the hit has.
pub(super) fn names_itself(has: impl Fn(&str) -> bool) -> bool {
    has("z") || has("timestamp_micros") || (has("_p") && has("_s") && has("gtm"))
}

/// What tells a hit from others with equal parameters.
pub(super) enum Identity<'a> {
    /// Nothing but when it happened and which request it came in.
    Request { time: i64, id: &'a str },
    /// What its client says about it is one of the parameters, and so is the client.
    Client,
    /// The same without the client: where it came from, as far as that is stored.
    Stranger { ip: Option<&'a str>, agent: Option<&'a str> },
}

/// The parameters as JSON, serialised once: they are hashed and stored as the same bytes.
pub(super) struct Parameters {
    pub(super) json: Vec<u8>,
    /// The bytes of `qt`, with the comma before it.
    queue_time: Range<usize>,
}

impl Parameters {
    pub(super) fn of(hit: &Hit) -> Result<Self, serde_json::Error> {
        let mut json = Vec::with_capacity(hit.bytes() + 8 * hit.len() + 64);
        let mut queue_time = 0..0;
        json.push(b'{');
        for (position, (name, value)) in hit.iter().enumerate() {
            let start = json.len();
            if position > 0 {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, name)?;
            json.push(b':');
            match value {
                ParameterValue::Text(text) => serde_json::to_writer(&mut json, text)?,
                ParameterValue::Json(value) => json.extend_from_slice(value.as_bytes()),
            }
            if name == "qt" {
                queue_time = start..json.len();
            }
        }
        json.push(b'}');
        Ok(Self { json, queue_time })
    }

    /// The event id: a hash of the parameters and of what tells the hit from equal ones; of the position
    /// in the request, unless it is the first; and of whether the hit is rejected, so that a copy which is sent again and accepted is
    /// another event.
    pub(super) fn id(&self, identity: &Identity<'_>, position: usize, is_rejected: bool) -> String {
        let mut hash = Sha256::new();
        match identity {
            Identity::Request { time, id } => {
                hash.update(time.to_be_bytes());
                hash.update(&self.json);
                hash.update(id);
            }
            Identity::Client | Identity::Stranger { .. } => {
                hash.update(self.json.get(..self.queue_time.start).unwrap_or_default());
                hash.update(self.json.get(self.queue_time.end..).unwrap_or_default());
            }
        }
        if let Identity::Stranger { ip, agent } = identity {
            for part in [ip, agent].into_iter().flatten() {
                hash.update([0]);
                hash.update(part);
            }
        }
        if position > 0 {
            hash.update(position.to_string());
        }
        if is_rejected {
            hash.update([0]);
        }
        let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
        hash.finalize().iter().take(16).flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}
