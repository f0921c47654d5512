//! Aggregates: records that the Kinesis Producer Library packed into one record of the stream.
//!
//! Source: "KPL Aggregated Record Format" of amazon-kinesis-producer: four magic bytes, a protobuf message, and the MD5 of
//! the message.

use bytes::Bytes;
use md5::{Digest, Md5};
use prost::Message;

/// The first bytes of every aggregate. They are not valid UTF-8, so no JSON begins with them.
pub(crate) const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
const DIGEST_BYTES: usize = 16;

#[derive(Message)]
struct AggregatedRecord {
    #[prost(message, repeated, tag = "3")]
    records: Vec<UserRecord>,
}

#[derive(Message)]
struct UserRecord {
    #[prost(bytes = "bytes", required, tag = "3")]
    data: Bytes,
}

/// Why data with the magic bytes is not a valid aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AggregateError {
    /// The MD5 checksum is missing or wrong.
    Digest,
    /// The message is not an `AggregatedRecord`.
    Message,
}

/// The records of an aggregate in their order, or `None` if `data` is not an aggregate.
pub fn unpack(data: &Bytes) -> Option<Result<Vec<Bytes>, AggregateError>> {
    let rest = data.strip_prefix(&MAGIC)?;
    let Some((message, digest)) = rest.len().checked_sub(DIGEST_BYTES).and_then(|at| rest.split_at_checked(at)) else {
        return Some(Err(AggregateError::Digest));
    };
    if Md5::digest(message).as_slice() != digest {
        return Some(Err(AggregateError::Digest));
    }
    let records = AggregatedRecord::decode(data.slice_ref(message)).map_err(|_| AggregateError::Message);
    Some(records.map(|aggregate| aggregate.records.into_iter().map(|record| record.data).collect()))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn pack(records: &[Vec<u8>]) -> Bytes {
        let records = records.iter().map(|data| UserRecord { data: data.clone().into() }).collect();
        let message = AggregatedRecord { records }.encode_to_vec();
        let digest = Md5::digest(&message);
        [&MAGIC[..], &message, &digest].concat().into()
    }

    #[test]
    fn data_without_the_magic_bytes_is_not_an_aggregate() {
        for data in [&b""[..], b"{}", &MAGIC[..3]] {
            assert_eq!(unpack(&Bytes::copy_from_slice(data)), None);
        }
    }

    #[test]
    fn damage_is_noticed() {
        let mut damaged = pack(&[b"{}".to_vec()]).to_vec();
        damaged[6] ^= 1;
        assert_eq!(unpack(&damaged.into()), Some(Err(AggregateError::Digest)));
        assert_eq!(unpack(&Bytes::copy_from_slice(&MAGIC)), Some(Err(AggregateError::Digest)));
        let message = b"\x1a\xff";
        let wrong = [&MAGIC[..], message, &Md5::digest(message)].concat();
        assert_eq!(unpack(&wrong.into()), Some(Err(AggregateError::Message)));
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20)) {
            let unpacked = unpack(&pack(&records)).unwrap().unwrap();
            prop_assert_eq!(unpacked, records);
        }

        #[test]
        fn unpacking_never_panics(tail in prop::collection::vec(any::<u8>(), 0..100)) {
            drop(unpack(&[&MAGIC[..], &tail].concat().into()));
        }
    }
}
