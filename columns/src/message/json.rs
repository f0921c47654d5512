//! Messages that have no columns, because their fields are not known beforehand or never end: as text, in protobuf's JSON.

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage, Syntax, prost::encoding::encode_varint,
};
use serde_json::{Value, json};

use super::{AppendError, Fidelity, scalar::Slices};
use crate::wire::{FIXED32, FIXED64, GROUP_END, GROUP_START, LEN, MAX_DEPTH, Reader, Tag, VARINT, WireError};

/// Messages of one type, each as protobuf's JSON in text, with the members of objects in alphabetical order.
#[derive(Debug, Clone)]
pub(super) struct Json {
    message: MessageDescriptor,
    is_group: bool,
    pub(super) slices: Slices,
    /// The occurrences of the field in the current row so far, which end to end are one message.
    merged: Vec<u8>,
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
        Self { message, is_group, slices: Slices::new(), merged: Vec::new() }
    }

    pub(super) const fn wire_type(&self) -> u8 {
        if self.is_group { GROUP_START } else { LEN }
    }

    pub(super) fn begin(&mut self) {
        self.merged.clear();
    }

    /// Merges one occurrence with those since [`Json::begin`], and appends the result.
    pub(super) fn append(
        &mut self,
        tag: Tag,
        reader: &mut Reader<'_>,
        fidelity: &mut Fidelity,
    ) -> Result<(), AppendError> {
        let bytes = if self.is_group { reader.group(tag)? } else { reader.len_delimited()? };
        self.merged.extend_from_slice(bytes);
        let (text, is_lossless) = to_json(&self.message, &self.merged)?;
        if !is_lossless {
            fidelity.lose();
        }
        self.slices.push(text.to_string().as_bytes())
    }

    /// Appends a message without any field.
    pub(super) fn append_default(&mut self) -> Result<(), AppendError> {
        let (text, _) = to_json(&self.message, &[])?;
        self.slices.push(text.to_string().as_bytes())
    }
}

/// A message as JSON, and whether the message can be restored from it. `null` if JSON has no form for it.
fn to_json(message: &MessageDescriptor, bytes: &[u8]) -> Result<(Value, bool), WireError> {
    let mut is_known = true;
    let known = known(message, bytes, MAX_DEPTH, &mut is_known)?;
    let Ok(decoded) = DynamicMessage::decode(message.clone(), &*known) else { return Err(WireError::Depth) };
    let Ok(value) = serde_json::to_value(&decoded) else { return Ok((without_json(&decoded), false)) };
    let is_lossless =
        is_known && DynamicMessage::deserialize(message.clone(), &value).is_ok_and(|read| read == decoded);
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

/// The fields of a message that are declared, and written as they are declared. prost refuses a message with a field of another
/// wire type, which protobuf's own parsers keep as an unknown field.
fn known(message: &MessageDescriptor, bytes: &[u8], depth: u32, is_known: &mut bool) -> Result<Vec<u8>, WireError> {
    let depth = depth.checked_sub(1).ok_or(WireError::Depth)?;
    let mut kept = Vec::with_capacity(bytes.len());
    let mut reader = Reader::new(bytes);
    loop {
        let before = reader.rest();
        let Some(tag) = reader.tag()? else { return Ok(kept) };
        let field = message.get_field(tag.field).filter(|field| takes(field, tag.wire_type));
        match field.as_ref().map(|field| (field, field.kind())) {
            None => {
                *is_known = false;
                reader.skip(tag)?;
            }
            Some((field, Kind::Message(inner))) => {
                let bytes = if field.is_group() { reader.group(tag)? } else { reader.len_delimited()? };
                let inner = self::known(&inner, bytes, depth, is_known)?;
                put_tag(tag, &mut kept);
                if field.is_group() {
                    kept.extend(inner);
                    put_tag(Tag { wire_type: GROUP_END, ..tag }, &mut kept);
                } else {
                    encode_varint(inner.len() as u64, &mut kept);
                    kept.extend(inner);
                }
            }
            Some((field, kind)) => {
                let is_text = matches!(kind, Kind::String);
                if tag.wire_type == LEN && (is_text || field.is_list()) {
                    let mut value = Reader::new(reader.len_delimited()?);
                    if is_text && std::str::from_utf8(value.rest()).is_err() {
                        if field.parent_file().syntax() != Syntax::Proto2 {
                            return Err(WireError::Utf8 { field: tag.field });
                        }
                        *is_known = false;
                        continue;
                    }
                    let element = Tag { wire_type: wire_type(field), ..tag };
                    while element.wire_type != LEN && !value.is_empty() {
                        value.skip(element)?;
                    }
                } else {
                    reader.skip(tag)?;
                }
                let len = before.len() - reader.rest().len();
                kept.extend_from_slice(before.get(..len).unwrap_or_default());
            }
        }
    }
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

fn put_tag(tag: Tag, bytes: &mut Vec<u8>) {
    encode_varint(u64::from(tag.field) << 3 | u64::from(tag.wire_type), bytes);
}
