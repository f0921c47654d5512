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
    #[prost(bytes = "bytes", repeated, tag = "1")]
    partition_keys: Vec<Bytes>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<UserRecord>,
}

#[derive(Message)]
struct UserRecord {
    #[prost(uint64, required, tag = "1")]
    partition_key: u64,
    #[prost(bytes = "bytes", required, tag = "3")]
    data: Bytes,
}

/// A record of an aggregate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Its partition key in UTF-8. Empty if the aggregate has none with its number.
    pub partition_key: Bytes,
    /// Its data.
    pub data: Bytes,
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
pub fn unpack(data: &Bytes) -> Option<Result<Vec<Packed>, AggregateError>> {
    let rest = data.strip_prefix(&MAGIC)?;
    let Some((message, digest)) = rest.len().checked_sub(DIGEST_BYTES).and_then(|at| rest.split_at_checked(at)) else {
        return Some(Err(AggregateError::Digest));
    };
    if Md5::digest(message).as_slice() != digest {
        return Some(Err(AggregateError::Digest));
    }
    let Ok(AggregatedRecord { partition_keys, records }) = AggregatedRecord::decode(data.slice_ref(message)) else {
        return Some(Err(AggregateError::Message));
    };
    let key = |number: u64| usize::try_from(number).ok().and_then(|at| partition_keys.get(at)).cloned();
    let packed = records
        .into_iter()
        .map(|record| Packed { partition_key: key(record.partition_key).unwrap_or_default(), data: record.data });
    Some(Ok(packed.collect()))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn pack(records: &[Vec<u8>]) -> Bytes {
        let partition_keys = vec!["even".into(), "odd".into()];
        let records = (0..2).cycle().zip(records);
        let records = records.map(|(partition_key, data)| UserRecord { partition_key, data: data.clone().into() });
        let message = AggregatedRecord { partition_keys, records: records.collect() }.encode_to_vec();
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
            prop_assert_eq!(unpacked.iter().map(|packed| packed.data.to_vec()).collect::<Vec<_>>(), records);
            for (packed, key) in unpacked.iter().zip(["even", "odd"].into_iter().cycle()) {
                prop_assert_eq!(&*packed.partition_key, key.as_bytes());
            }
        }

        #[test]
        fn unpacking_never_panics(tail in prop::collection::vec(any::<u8>(), 0..100)) {
            drop(unpack(&[&MAGIC[..], &tail].concat().into()));
        }
    }
}
