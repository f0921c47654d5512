//! Messages that have no columns, because their fields are not known beforehand or never end: as text, in protobuf's JSON.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Syntax, prost::encoding::encode_varint,
};
use serde_json::{Value, json};

use super::{AppendError, Fidelity, scalar::Slices};
use crate::wire::{FIXED32, FIXED64, GROUP_END, GROUP_START, LEN, Reader, Tag, VARINT, WireError};

/// Messages of one type, each as protobuf's JSON in text, with the members of objects in alphabetical order.
#[derive(Debug, Clone)]
pub(super) struct Json {
    message: MessageDescriptor,
    is_group: bool,
    pub(super) slices: Slices,
    /// The occurrences of the field in the current row so far, which end to end are one message.
    merged: Vec<u8>,
    /// Nothing in them is nested too deeply for JSON.
    has_json: bool,
}

/// What has been found out about a message.
struct Found {
    is_lossless: bool,
    has_json: bool,
}

/// Whether the fields of a message are not known beforehand.
pub(super) fn is_open(name: &str) -> bool {
    matches!(
        name,
        "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue" | "google.protobuf.Any"
    )
}

impl Json {
    pub(super) fn new(message: MessageDescriptor, is_group: bool) -> Self {
        Self { message, is_group, slices: Slices::new(), merged: Vec::new(), has_json: true }
    }

    pub(super) const fn wire_type(&self) -> u8 {
        if self.is_group { GROUP_START } else { LEN }
    }

    /// Reads one occurrence of the field. The occurrences of a row, end to end, are one message.
    pub(super) fn merge(
        &mut self,
        tag: Tag,
        reader: &mut Reader<'_>,
        fidelity: &mut Fidelity,
    ) -> Result<(), WireError> {
        let inside = if self.is_group {
            let bytes = reader.group(tag)?;
            reader.inside(bytes)?
        } else {
            reader.message()?
        };
        let mut found = Found { is_lossless: true, has_json: true };
        known(&self.message, inside, &mut found, &mut self.merged)?;
        if !found.is_lossless {
            fidelity.lose();
        }
        self.has_json &= found.has_json;
        Ok(())
    }

    /// Appends the message that was merged.
    pub(super) fn append(&mut self, fidelity: &mut Fidelity) -> Result<(), AppendError> {
        let (text, is_lossless) = to_json(&self.message, &self.merged, self.has_json)?;
        self.begin();
        if !is_lossless {
            fidelity.lose();
        }
        self.slices.push(text.to_string().as_bytes())
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        self.slices.truncate(rows);
        self.begin();
    }

    fn begin(&mut self) {
        self.merged.clear();
        self.has_json = true;
    }
}

/// A message as JSON, and whether the message can be restored from it. `null` if JSON has no form for it.
fn to_json(message: &MessageDescriptor, known: &[u8], has_json: bool) -> Result<(Value, bool), WireError> {
    let Ok(decoded) = DynamicMessage::decode(message.clone(), known) else { return Err(WireError::Depth) };
    if !has_json {
        return Ok((without_json(&decoded), false));
    }
    let Ok(value) = serde_json::to_value(&decoded) else { return Ok((without_json(&decoded), false)) };
    let is_lossless = DynamicMessage::deserialize(message.clone(), &value).is_ok_and(|read| read == decoded);
    Ok((value, is_lossless))
}

/// What is said of a message that has no form in JSON, such as a number that is not finite or an `Any` of a type that is not known.
fn without_json(message: &DynamicMessage) -> Value {
    let text = |name| message.get_field_by_name(name).and_then(|value| Some(value.as_str()?.to_owned()));
    match text("type_url") {
        Some(url) if message.descriptor().full_name() == "google.protobuf.Any" => json!({ "@type": url }),
        _ => Value::Null,
    }
}

/// Appends the fields of a message that are declared to `kept`, written as they are declared. prost refuses a message with a field
/// of another wire type, which protobuf's own parsers keep as an unknown field.
fn known(
    message: &MessageDescriptor,
    mut reader: Reader<'_>,
    found: &mut Found,
    kept: &mut Vec<u8>,
) -> Result<(), WireError> {
    if message.full_name() == "google.protobuf.Any" {
        // The payload of an `Any` is written by the library, whose order of the entries of maps is random, so that it cannot be
        // compared; and read without a limit to the depth.
        found.is_lossless = false;
        found.has_json &= any_has_json(message, reader);
    }
    let has_fields = message.fields().len() > 0;
    while let Some(tag) = if has_fields { reader.tag()? } else { reader.unknown_tag()? } {
        let Some(field) = message.get_field(tag.field).filter(|field| takes(field, tag.wire_type)) else {
            found.is_lossless = false;
            reader.skip(tag)?;
            continue;
        };
        let kind = field.kind();
        match (&kind, tag.wire_type) {
            (Kind::Message(inner), GROUP_START) => {
                let bytes = reader.group(tag)?;
                put_tag(tag, kept);
                self::known(inner, reader.inside(bytes)?, found, kept)?;
                put_tag(Tag { wire_type: GROUP_END, ..tag }, kept);
            }
            (Kind::Message(inner), _) => {
                let mut content = Vec::new();
                self::known(inner, reader.message()?, found, &mut content)?;
                put_bytes(tag, &content, kept);
            }
            (Kind::String, _) => {
                let text = reader.len_delimited()?;
                if std::str::from_utf8(text).is_ok() {
                    put_bytes(tag, text, kept);
                } else if field.parent_file().syntax() == Syntax::Proto2 {
                    found.is_lossless = false;
                } else {
                    return Err(WireError::Utf8 { field: tag.field });
                }
            }
            (Kind::Bytes, _) => put_bytes(tag, reader.len_delimited()?, kept),
            (_, LEN) => {
                let (mut packed, mut values) = (Reader::new(reader.len_delimited()?), Vec::new());
                while !packed.is_empty() {
                    put_number(wire_type(&field), &mut packed, &mut values)?;
                }
                put_bytes(tag, &values, kept);
            }
            (_, wire_type) => {
                put_tag(tag, kept);
                put_number(wire_type, &mut reader, kept)?;
            }
        }
    }
    Ok(())
}

/// Whether what is in an `Any` is a message of its type, and is nested no deeper than protobuf's own parsers read.
fn any_has_json(any: &MessageDescriptor, mut reader: Reader<'_>) -> bool {
    let (mut type_url, mut value) = (&[][..], &[][..]);
    while let Ok(Some(tag)) = reader.tag() {
        let read = match (tag.field, tag.wire_type) {
            (1, LEN) => reader.len_delimited().map(|bytes| type_url = bytes),
            (2, LEN) => reader.len_delimited().map(|bytes| value = bytes),
            _ => reader.skip(tag),
        };
        if read.is_err() {
            return false;
        }
    }
    let name = std::str::from_utf8(type_url).ok().and_then(|url| url.rsplit('/').next());
    let message = name.and_then(|name| any.parent_pool().get_message_by_name(name));
    let mut found = Found { is_lossless: true, has_json: true };
    message
        .zip(reader.inside(value).ok())
        .is_some_and(|(message, inside)| known(&message, inside, &mut found, &mut Vec::new()).is_ok() && found.has_json)
}

fn takes(field: &FieldDescriptor, found: u8) -> bool {
    let declared = wire_type(field);
    found == declared || (found == LEN && field.is_list() && matches!(declared, VARINT | FIXED32 | FIXED64))
}

fn wire_type(field: &FieldDescriptor) -> u8 {
    match field.kind() {
        Kind::Message(_) if field.is_group() => GROUP_START,
        Kind::Message(_) | Kind::String | Kind::Bytes => LEN,
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => FIXED64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => FIXED32,
        _ => VARINT,
    }
}

/// Copies a number. Of a varint with more than 64 bits, protobuf's own parsers drop what is too much, and prost refuses it.
fn put_number(wire_type: u8, reader: &mut Reader<'_>, bytes: &mut Vec<u8>) -> Result<(), WireError> {
    match wire_type {
        FIXED32 => bytes.extend(reader.fixed32()?),
        FIXED64 => bytes.extend(reader.fixed64()?),
        _ => encode_varint(reader.varint()?, bytes),
    }
    Ok(())
}

fn put_bytes(tag: Tag, content: &[u8], bytes: &mut Vec<u8>) {
    put_tag(tag, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

fn put_tag(tag: Tag, bytes: &mut Vec<u8>) {
    encode_varint(u64::from(tag.field) << 3 | u64::from(tag.wire_type), bytes);
}
