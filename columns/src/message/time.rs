//! `google.protobuf.Timestamp` and `Duration`. A field may occur several times in a payload; its occurrences are merged.

use super::{AppendError, Fidelity, scalar::Integer};
use crate::wire::{Reader, VARINT};

/// `google.protobuf.Timestamp` or `Duration`, as microseconds.
#[derive(Debug, Clone)]
pub(super) struct Time {
    pub(super) duration: bool,
    pub(super) micros: Vec<i64>,
    /// The value of the current row so far.
    seconds: i64,
    nanos: i32,
}

impl Time {
    pub(super) const fn new(duration: bool) -> Self {
        Self { duration, micros: Vec::new(), seconds: 0, nanos: 0 }
    }

    pub(super) const fn begin(&mut self) {
        self.seconds = 0;
        self.nanos = 0;
    }

    /// Merges one occurrence with the value of the row so far, and appends the result.
    pub(super) fn append(&mut self, mut reader: Reader<'_>, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        while let Some(tag) = reader.tag()? {
            match (tag.field, tag.wire_type) {
                (1, VARINT) => self.seconds = Integer::Varint.read_i64(&mut reader)?,
                (2, VARINT) => self.nanos = Integer::Varint.read_i32(&mut reader)?,
                _ => {
                    fidelity.lose();
                    reader.skip(tag)?;
                }
            }
        }
        let micros = i128::from(self.seconds) * 1_000_000 + i128::from(self.nanos.div_euclid(1_000));
        let limits = if self.duration { &DURATION_MICROS } else { &TIMESTAMP_MICROS };
        let nearest = micros.clamp(i128::from(*limits.start()), i128::from(*limits.end()));
        if nearest != micros || !self.is_exact() {
            fidelity.lose();
        }
        self.micros.push(i64::try_from(nearest).unwrap_or_default());
        Ok(())
    }

    /// Whether the microseconds represent the seconds and nanoseconds exactly.
    pub(super) const fn is_exact(&self) -> bool {
        let whole_micros = self.nanos % 1_000 == 0;
        let canonical = if self.duration {
            self.nanos.unsigned_abs() < 1_000_000_000
                && (self.seconds == 0 || self.nanos == 0 || (self.seconds < 0) == (self.nanos < 0))
        } else {
            0 <= self.nanos && self.nanos < 1_000_000_000
        };
        whole_micros && canonical
    }
}

/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999Z, the limits in timestamp.proto.
pub(super) const TIMESTAMP_MICROS: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// About 10,000 years in both directions, the limits in duration.proto.
pub(super) const DURATION_MICROS: std::ops::RangeInclusive<i64> = -315_576_000_000_999_999..=315_576_000_000_999_999;
