//! Reads the protobuf wire format from a slice without copying.
//!
//! Source: "Encoding", Protocol Buffers documentation, and upb, the parser that protobuf's Python and Ruby libraries share. What upb
//! refuses is refused here, and nothing else; `testdata/upb.py` says what that is.

/// Why bytes are not a protobuf message of the expected type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a field.
    #[error("the payload ends in the middle of a field")]
    Truncated,
    /// A varint is longer than ten bytes.
    #[error("a varint is longer than ten bytes")]
    Varint,
    /// A tag exceeds 32 bits or has field number 0.
    #[error("a field number is 0 or above 2^29 - 1")]
    FieldNumber,
    /// Wire types 6 and 7 do not exist.
    #[error("field {field} has wire type {found}, which does not exist")]
    WireType {
        /// The field's number.
        field: u32,
        /// The wire type found.
        found: u8,
    },
    /// The end of a group does not match its start.
    #[error("the end of a group does not match its start")]
    GroupEnd,
    /// A tag or a length has more than five bytes, or a length more than 31 bits.
    #[error("a tag or a length is too long")]
    TooLong,
    /// Messages or groups are nested too deeply.
    #[error("messages are nested deeper than {MAX_DEPTH}")]
    Depth,
    /// A string field does not hold UTF-8.
    #[error("string field {field} is not UTF-8")]
    Utf8 {
        /// The field's number.
        field: u32,
    },
}

/// How many levels of messages and groups protobuf's own parsers read inside a message by default.
const MAX_DEPTH: u32 = 100;
/// The most bytes of a tag or a length.
const MAX_SHORT_BYTES: usize = 5;

/// Wire type of integers, booleans and enums.
pub const VARINT: u8 = 0;
/// Wire type of `fixed64`, `sfixed64` and `double`.
pub const FIXED64: u8 = 1;
/// Wire type of strings, bytes, messages and packed fields.
pub const LEN: u8 = 2;
/// Wire type of `fixed32`, `sfixed32` and `float`.
pub const FIXED32: u8 = 5;
/// Wire type of the start of a group.
pub const GROUP_START: u8 = 3;
/// Wire type of the end of a group.
pub const GROUP_END: u8 = 4;

/// The tag before each value: field number and wire type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The field's number, 1 to 2^29 - 1.
    pub field: u32,
    /// The wire type, 0 to 5.
    pub wire_type: u8,
}

/// A cursor over the bytes of one message.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// How many more levels of messages and groups may be inside.
    depth: u32,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, depth: MAX_DEPTH }
    }

    /// A cursor at the start of a message inside this one.
    #[inline]
    pub fn inside(&self, bytes: &'a [u8]) -> Result<Self, WireError> {
        Ok(Self { rest: bytes, depth: self.depth.checked_sub(1).ok_or(WireError::Depth)? })
    }

    /// What has not been read yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads a length and a message of as many bytes.
    #[inline]
    pub fn message(&mut self) -> Result<Self, WireError> {
        let bytes = self.len_delimited()?;
        self.inside(bytes)
    }

    /// Whether everything has been read.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads the next tag of a message without fields; `None` at the end. upb skips such a message like an unknown group.
    pub fn unknown_tag(&mut self) -> Result<Option<Tag>, WireError> {
        if self.rest.is_empty() { Ok(None) } else { self.any_tag().map(Some) }
    }

    /// Reads the next tag; `None` at the end.
    #[inline]
    pub fn tag(&mut self) -> Result<Option<Tag>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.any_tag()?;
        if tag.field == 0 {
            return Err(WireError::FieldNumber);
        }
        Ok(Some(tag))
    }

    /// Reads the next tag, whose field number may be 0, as upb allows it where no field is known.
    fn any_tag(&mut self) -> Result<Tag, WireError> {
        let key = u32::try_from(self.short_varint()?).map_err(|_| WireError::FieldNumber)?;
        let tag = Tag { field: key >> 3, wire_type: (key & 7) as u8 };
        if tag.wire_type > FIXED32 {
            return Err(WireError::WireType { field: tag.field, found: tag.wire_type });
        }
        Ok(tag)
    }

    /// Reads the varint of a tag or a length, which may have five bytes.
    #[inline]
    fn short_varint(&mut self) -> Result<u64, WireError> {
        let before = self.rest.len();
        let value = self.varint()?;
        if before - self.rest.len() > MAX_SHORT_BYTES { Err(WireError::TooLong) } else { Ok(value) }
    }

    /// Reads a varint.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, WireError> {
        match self.rest {
            [byte @ 0..=0x7f, rest @ ..] => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, WireError> {
        let mut value = 0;
        for (at, byte) in self.rest.iter().take(10).enumerate() {
            // Bits beyond the 64th are dropped.
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.rest = self.rest.get(at + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { WireError::Truncated } else { WireError::Varint })
    }

    /// Reads four bytes, little-endian.
    #[inline]
    pub fn fixed32(&mut self) -> Result<[u8; 4], WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Reads eight bytes, little-endian.
    #[inline]
    pub fn fixed64(&mut self) -> Result<[u8; 8], WireError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Reads a length and as many bytes.
    #[inline]
    pub fn len_delimited(&mut self) -> Result<&'a [u8], WireError> {
        let len = i32::try_from(self.short_varint()?).map_err(|_| WireError::TooLong)?;
        let len = usize::try_from(len).map_err(|_| WireError::TooLong)?;
        let (head, rest) = self.rest.split_at_checked(len).ok_or(WireError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    /// Reads a group after its start, and its end. Returns the bytes between them.
    pub fn group(&mut self, tag: Tag) -> Result<&'a [u8], WireError> {
        let (start, depth) = (self.rest, self.depth.checked_sub(1).ok_or(WireError::Depth)?);
        loop {
            let inside = start.len() - self.rest.len();
            let inner = self.tag()?.ok_or(WireError::Truncated)?;
            if inner.wire_type == GROUP_END {
                let bytes = start.get(..inside).ok_or(WireError::Truncated)?;
                return if inner.field == tag.field { Ok(bytes) } else { Err(WireError::GroupEnd) };
            }
            self.skip_nested(inner, depth)?;
        }
    }

    /// Skips the value of an unknown field.
    pub fn skip(&mut self, tag: Tag) -> Result<(), WireError> {
        self.skip_nested(tag, self.depth)
    }

    fn skip_nested(&mut self, tag: Tag, depth: u32) -> Result<(), WireError> {
        match tag.wire_type {
            VARINT => self.varint().map(|_| ()),
            FIXED64 => self.fixed64().map(|_| ()),
            LEN => self.len_delimited().map(|_| ()),
            FIXED32 => self.fixed32().map(|_| ()),
            GROUP_START => loop {
                let depth = depth.checked_sub(1).ok_or(WireError::Depth)?;
                if self.is_empty() {
                    return Err(WireError::Truncated);
                }
                let inner = self.any_tag()?;
                if inner.wire_type == GROUP_END {
                    return if inner.field == tag.field { Ok(()) } else { Err(WireError::GroupEnd) };
                }
                self.skip_nested(inner, depth)?;
            },
            _ => Err(WireError::GroupEnd),
        }
    }
}

/// The value of a 32-bit field from its varint, of which protobuf keeps the low 32 bits.
#[expect(clippy::cast_possible_truncation, reason = "protobuf keeps the low 32 bits")]
pub(crate) const fn low_u32(varint: u64) -> u32 {
    varint as u32
}

/// The same, signed.
#[must_use]
pub const fn low_i32(varint: u64) -> i32 {
    low_u32(varint).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_read_up_to_64_bits() {
        for (bytes, value) in [
            (&[0x00][..], Ok(0)),
            (&[0x7f], Ok(127)),
            (&[0x80, 0x01], Ok(128)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], Ok(u64::MAX)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03], Ok(u64::MAX)),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Err(WireError::Varint)),
            (&[0x80], Err(WireError::Truncated)),
            (&[], Err(WireError::Truncated)),
        ] {
            assert_eq!(Reader::new(bytes).varint(), value, "{bytes:x?}");
        }
    }

    #[test]
    fn groups_are_skipped_to_their_own_end() {
        let skip = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let tag = reader.tag()?.ok_or(WireError::Truncated)?;
            reader.skip(tag).map(|()| reader.is_empty())
        };
        assert_eq!(skip(&[0x0b, 0x10, 0x05, 0x0c]), Ok(true));
        assert_eq!(skip(&[0x0b, 0x13, 0x14, 0x0c]), Ok(true));
        assert_eq!(skip(&[0x0b, 0x14]), Err(WireError::GroupEnd));
        assert_eq!(skip(&[0x0c]), Err(WireError::GroupEnd));
        assert_eq!(skip(&[0x0b, 0x10, 0x05]), Err(WireError::Truncated));
        assert_eq!(skip(&vec![0x0b; 5_000]), Err(WireError::Depth));
    }
}
