//! Compares the columns with prost: they must represent whatever prost decodes, or report that they do not. What is refused is
//! compared with upb, where the two differ.

use std::{collections::HashMap, path::Path};

use arrow::{
    array::{Array, AsArray},
    datatypes::{Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use proptest::{
    prelude::*,
    strategy::{LazyJust, Union},
};
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, Value, prost::Message};

use super::{values::is_wrapper, *};

fn pool() -> DescriptorPool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut compiler = protox::Compiler::new([folder]).unwrap();
    compiler.include_imports(true).open_files(["everything.proto", "old.proto"]).unwrap();
    compiler.descriptor_pool()
}

thread_local! {
    static POOL: DescriptorPool = pool();
}

fn descriptor(name: &str) -> MessageDescriptor {
    POOL.with(|pool| pool.get_message_by_name(name).unwrap())
}

/// Any value of a field's element type.
fn element(kind: &Kind, depth: u32) -> BoxedStrategy<Value> {
    match kind {
        Kind::Double => any::<f64>().prop_map(Value::F64).boxed(),
        Kind::Float => any::<f32>().prop_map(Value::F32).boxed(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => any::<i32>().prop_map(Value::I32).boxed(),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => any::<i64>().prop_map(Value::I64).boxed(),
        Kind::Uint32 | Kind::Fixed32 => any::<u32>().prop_map(Value::U32).boxed(),
        Kind::Uint64 | Kind::Fixed64 => any::<u64>().prop_map(Value::U64).boxed(),
        Kind::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        Kind::String => "\\PC{0,12}".prop_map(Value::String).boxed(),
        Kind::Bytes => prop::collection::vec(any::<u8>(), 0..12).prop_map(|bytes| Value::Bytes(bytes.into())).boxed(),
        Kind::Enum(_) => prop_oneof![
            8 => prop::sample::select(vec![0, 1, 70_000, -3]).prop_map(Value::EnumNumber),
            1 => any::<i32>().prop_map(Value::EnumNumber),
        ]
        .boxed(),
        Kind::Message(message) => match message.full_name() {
            "google.protobuf.Timestamp" => time(message.clone(), -62_135_596_800..253_402_300_800, false),
            "google.protobuf.Duration" => time(message.clone(), -315_576_000_000..315_576_000_001, true),
            _ => any_message(message.clone(), depth + 1).prop_map(Value::Message).boxed(),
        },
    }
}

/// Mostly whole microseconds, sometimes anything.
fn time(message: MessageDescriptor, seconds: std::ops::Range<i64>, signed: bool) -> BoxedStrategy<Value> {
    let whole = (seconds, 0..1_000_000_i32).prop_map(move |(seconds, micros)| {
        (seconds, if signed && seconds < 0 { -micros * 1_000 } else { micros * 1_000 })
    });
    prop_oneof![8 => whole.boxed(), 1 => (any::<i64>(), any::<i32>()).boxed()]
        .prop_map(move |(seconds, nanos)| {
            let mut time = DynamicMessage::new(message.clone());
            time.set_field_by_number(1, Value::I64(seconds));
            time.set_field_by_number(2, Value::I32(nanos));
            Value::Message(time)
        })
        .boxed()
}

fn any_key(kind: &Kind) -> BoxedStrategy<MapKey> {
    match kind {
        Kind::Bool => any::<bool>().prop_map(MapKey::Bool).boxed(),
        Kind::Int32 => (-3..3).prop_map(MapKey::I32).boxed(),
        Kind::Sint64 => prop_oneof![Just(0), any::<i64>()].prop_map(MapKey::I64).boxed(),
        Kind::Fixed32 => prop_oneof![Just(0), any::<u32>()].prop_map(MapKey::U32).boxed(),
        Kind::Uint64 => prop_oneof![Just(0), any::<u64>()].prop_map(MapKey::U64).boxed(),
        _ => "[a-c]{0,2}".prop_map(MapKey::String).boxed(),
    }
}

/// Any value of a field.
fn value(field: &FieldDescriptor, depth: u32) -> BoxedStrategy<Value> {
    let kind = field.kind();
    if field.is_map() {
        let Kind::Message(entry) = kind else { unreachable!() };
        let key = any_key(&entry.map_entry_key_field().kind());
        let value = element(&entry.map_entry_value_field().kind(), depth);
        prop::collection::hash_map(key, value, 0..4).prop_map(Value::Map).boxed()
    } else if field.is_list() {
        prop::collection::vec(element(&kind, depth), 0..4).prop_map(Value::List).boxed()
    } else {
        element(&kind, depth)
    }
}

/// A message with some of its fields set, in any order, so that the later member of a oneof wins.
fn any_message(message: MessageDescriptor, depth: u32) -> BoxedStrategy<DynamicMessage> {
    let fields: Vec<FieldDescriptor> = message.fields().collect();
    if fields.is_empty() {
        return Just(DynamicMessage::new(message)).boxed();
    }
    let most = if depth == 0 { fields.len() / 2 } else { fields.len() };
    let one = Union::new(fields.into_iter().map(|field| {
        let made = field.clone();
        // Made lazily: the strategies of all fields at once would be a deep tree.
        LazyJust::new(move || made.clone())
            .prop_flat_map(move |field| value(&field, depth).prop_map(move |value| (field.clone(), value)))
            .boxed()
    }));
    prop::collection::vec(one, 0..=most)
        .prop_map(move |fields| {
            let mut filled = DynamicMessage::new(message.clone());
            for (field, value) in fields {
                filled.set_field(&field, value);
            }
            filled
        })
        .boxed()
}

/// A text that is equal for equal messages: maps sorted, floats by their bits, unknown fields left out.
fn canonical(message: &DynamicMessage) -> String {
    let mut fields: Vec<(u32, String)> =
        message.fields().map(|(field, value)| (field.number(), canonical_value(value))).collect();
    fields.sort();
    format!("{{{}}}", fields.iter().map(|(number, text)| format!("{number}:{text}")).collect::<Vec<_>>().join(","))
}

fn canonical_value(value: &Value) -> String {
    match value {
        Value::F32(value) => format!("{:x}", value.to_bits()),
        Value::F64(value) => format!("{:x}", value.to_bits()),
        Value::Message(message) => canonical(message),
        Value::List(items) => format!("[{}]", items.iter().map(canonical_value).collect::<Vec<_>>().join(",")),
        Value::Map(entries) => {
            let mut entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key:?}={}", canonical_value(value))).collect();
            entries.sort();
            format!("<{}>", entries.join(","))
        }
        other => format!("{other:?}"),
    }
}

/// Reads a row back into a message: what someone who has only the columns would do.
fn message_of(array: &dyn Array, row: usize, descriptor: &MessageDescriptor) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if descriptor.fields().len() == 0 {
        return message;
    }
    let columns = array.as_struct();
    for field in descriptor.fields() {
        let column = columns.column_by_name(field.name()).unwrap();
        if column.is_null(row) {
            continue;
        }
        message.set_field(&field, value_of(column, row, &field));
    }
    message
}

fn value_of(array: &dyn Array, row: usize, field: &FieldDescriptor) -> Value {
    let kind = field.kind();
    if field.is_map() {
        let Kind::Message(entry) = kind else { unreachable!() };
        let entries = array.as_map().value(row);
        let (key, value) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let read = |entry: usize| {
            let key = element_of(entries.column(0), entry, &key).into_map_key().unwrap();
            (key, element_of(entries.column(1), entry, &value))
        };
        let map: HashMap<MapKey, Value> = (0..entries.len()).map(read).collect();
        assert_eq!(map.len(), entries.len(), "a key came twice");
        Value::Map(map)
    } else if field.is_list() {
        let items = array.as_list::<i32>().value(row);
        Value::List((0..items.len()).map(|item| element_of(&items, item, &kind)).collect())
    } else {
        element_of(array, row, &kind)
    }
}

fn element_of(array: &dyn Array, row: usize, kind: &Kind) -> Value {
    match kind {
        Kind::Double => Value::F64(array.as_primitive::<Float64Type>().value(row)),
        Kind::Float => Value::F32(array.as_primitive::<Float32Type>().value(row)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(array.as_primitive::<Int32Type>().value(row)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(array.as_primitive::<Int64Type>().value(row)),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(array.as_primitive::<Int64Type>().value(row).try_into().unwrap()),
        Kind::Uint64 | Kind::Fixed64 => {
            Value::U64(array.as_primitive::<Decimal128Type>().value(row).try_into().unwrap())
        }
        Kind::Bool => Value::Bool(array.as_boolean().value(row)),
        Kind::String => Value::String(array.as_string::<i32>().value(row).to_owned()),
        Kind::Bytes => Value::Bytes(array.as_binary::<i32>().value(row).to_vec().into()),
        Kind::Enum(names) => {
            let name = array.as_string::<i32>().value(row);
            let number = names.get_value_by_name(name).map_or_else(|| name.parse().unwrap(), |value| value.number());
            Value::EnumNumber(number)
        }
        Kind::Message(message) => {
            let name = message.full_name();
            let (unit, micros) = match name {
                "google.protobuf.Timestamp" => (1, Some(array.as_primitive::<TimestampMicrosecondType>().value(row))),
                "google.protobuf.Duration" => (-1, Some(array.as_primitive::<Int64Type>().value(row))),
                _ => (0, None),
            };
            if super::json::is_open(name) {
                let text = array.as_string::<i32>().value(row);
                let mut json = serde_json::Deserializer::from_str(text);
                return Value::Message(DynamicMessage::deserialize(message.clone(), &mut json).unwrap());
            }
            let mut read = DynamicMessage::new(message.clone());
            if let Some(micros) = micros {
                let split = |micros: i64| match unit {
                    1 => (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000)),
                    _ => (micros / 1_000_000, micros % 1_000_000),
                };
                let (seconds, rest) = split(micros);
                read.set_field_by_number(1, Value::I64(seconds));
                read.set_field_by_number(2, Value::I32(i32::try_from(rest * 1_000).unwrap()));
            } else if is_wrapper(name) {
                let value = message.get_field(1).unwrap();
                read.set_field(&value, element_of(array, row, &value.kind()));
            } else {
                read = message_of(array, row, message);
            }
            Value::Message(read)
        }
    }
}

/// Appends `payloads` as rows and checks every one of them against prost.
fn check(message: &str, payloads: &[Vec<u8>]) -> Result<(), TestCaseError> {
    let descriptor = descriptor(message);
    let mut columns = MessageColumns::new(&descriptor);
    let mut rows = Vec::new();
    for payload in payloads {
        let mut fidelity = Fidelity::new(false);
        let ours = columns.append(payload, &mut fidelity);
        let theirs = DynamicMessage::decode(descriptor.clone(), payload.as_slice());
        match (ours, theirs) {
            (Ok(()), Ok(theirs)) => rows.push((theirs, fidelity)),
            (Err(_), Err(_)) => {}
            // prost refuses a wire type that does not fit. To protobuf's own parsers that is an unknown field.
            (Ok(()), Err(error)) if error.to_string().contains("invalid wire type") => {
                prop_assert!(!fidelity.is_lossless());
                rows.push((DynamicMessage::new(descriptor.clone()), fidelity));
            }
            // prost refuses bits beyond the 64th, and field number 0 inside unknown groups, and takes longer tags and lengths.
            (Ok(()), Err(error))
                if ["invalid varint", "invalid tag"].iter().any(|why| error.to_string().contains(why)) =>
            {
                rows.push((DynamicMessage::new(descriptor.clone()), Fidelity { lossless: false, ..fidelity }));
            }
            (Err(AppendError::Wire(WireError::TooLong)), Ok(_)) => {}
            // prost does not look at the wire type of a map: it reads a key and a value from what has another one.
            (Err(_), Ok(_)) if may_have_map_of_other_wire_type(payload) => {}
            (Ok(()), Err(_)) if may_have_map_of_other_wire_type(payload) => {
                rows.push((DynamicMessage::new(descriptor.clone()), Fidelity { lossless: false, ..fidelity }));
            }
            (ours, theirs) => prop_assert!(false, "ours {:?}, prost's {:?}", ours, theirs.err()),
        }
        prop_assert_eq!(columns.rows(), rows.len());
        if rows.len() % 3 == 1 {
            columns.append_absent(1);
            rows.push((DynamicMessage::new(descriptor.clone()), Fidelity { lossless: false, ..Fidelity::new(false) }));
        }
    }
    let array = columns.finish(None).unwrap();
    prop_assert_eq!(array.len(), rows.len());
    for (row, (theirs, fidelity)) in rows.iter().enumerate() {
        if fidelity.is_lossless() {
            prop_assert_eq!(canonical(&message_of(&array, row, &descriptor)), canonical(theirs));
        }
    }
    Ok(())
}

/// Whether a payload of `Everything` may have a map, at any depth, with another wire type than maps have: whether any byte looks
/// like the first of such a tag.
fn may_have_map_of_other_wire_type(payload: &[u8]) -> bool {
    payload.iter().any(|byte| matches!(byte >> 3, 5 | 27..=31) && byte & 7 != LEN)
}

/// Payloads that are each several messages end to end, which is one message with everything merged.
fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let everything = any_message(descriptor("test.Everything"), 0).prop_map(|message| message.encode_to_vec());
    let unpacked = any_message(descriptor("test.Unpacked"), 1).prop_map(|message| message.encode_to_vec());
    let later = any_message(descriptor("test.Later"), 1).prop_map(|message| message.encode_to_vec());
    let part = prop_oneof![6 => everything, 2 => unpacked, 1 => later];
    prop::collection::vec(prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat()), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(384))]

    #[test]
    fn the_columns_hold_what_prost_reads(payloads in payloads()) {
        check("test.Everything", &payloads)?;
    }

    #[test]
    fn damaged_payloads_are_refused_when_prost_refuses_them_and_leave_no_trace(
        payloads in payloads(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut payloads = payloads;
        for payload in payloads.iter_mut().step_by(2).filter(|payload| !payload.is_empty()) {
            for (at, byte) in &damage {
                *at.get_mut(payload) = *byte;
            }
            if let Some(cut) = &cut {
                payload.truncate(cut.index(payload.len()));
            }
        }
        check("test.Everything", &payloads)?;
    }

    #[test]
    fn noise_is_never_a_panic(payload in prop::collection::vec(any::<u8>(), 0..64)) {
        check("test.Everything", &[payload])?;
    }
}

fn lossless(message: &str, payload: &[u8]) -> bool {
    let mut fidelity = Fidelity::new(false);
    MessageColumns::new(&descriptor(message)).append(payload, &mut fidelity).unwrap();
    fidelity.is_lossless()
}

fn encode(message: &str, json_like: &[(u32, Value)]) -> Vec<u8> {
    let mut encoded = DynamicMessage::new(descriptor(message));
    for (number, value) in json_like {
        encoded.set_field_by_number(*number, value.clone());
    }
    encoded.encode_to_vec()
}

#[test]
fn what_the_columns_cannot_represent_is_reported() {
    let inner = |bytes: &[u8]| DynamicMessage::decode(descriptor("test.LaterInner"), bytes).unwrap();
    let time = |seconds: i64, nanos: i32| {
        let mut time = DynamicMessage::new(descriptor("google.protobuf.Timestamp"));
        time.set_field_by_number(1, Value::I64(seconds));
        time.set_field_by_number(2, Value::I32(nanos));
        [(34, Value::Message(time))]
    };
    assert!(lossless("test.Everything", &encode("test.Later", &[(3, Value::I32(1))])));
    assert!(!lossless("test.Everything", &encode("test.Later", &[(4000, Value::String("new".into()))])));
    assert!(lossless("test.Everything", &encode("test.Later", &[(31, Value::Message(inner(&[8, 1])))])));
    assert!(!lossless("test.Everything", &encode("test.Later", &[(31, Value::Message(inner(&[74, 1, 65])))])));
    assert!(lossless("test.Everything", &encode("test.Everything", &[(16, Value::EnumNumber(70_000))])));
    assert!(!lossless("test.Everything", &encode("test.Everything", &[(16, Value::EnumNumber(5))])));
    assert!(!lossless("test.Everything", &encode("test.Everything", &[(76, Value::List(vec![Value::EnumNumber(5)]))])));
    assert!(lossless("test.Everything", &encode("test.Everything", &time(1_795_183_906, 123_456_000))));
    assert!(!lossless("test.Everything", &encode("test.Everything", &time(1_795_183_906, 123_456_789))));
    assert!(!lossless("test.Everything", &encode("test.Everything", &time(253_402_300_800, 0))));
    assert!(!lossless("test.Everything", &encode("test.Everything", &time(0, -1))));
}

#[test]
fn floats_that_json_cannot_represent_are_reported_on_request() {
    let payload = encode("test.Everything", &[(1, Value::F64(f64::NAN))]);
    let mut columns = MessageColumns::new(&descriptor("test.Everything"));
    for (finite_floats, lossless) in [(false, true), (true, false)] {
        let mut fidelity = Fidelity::new(finite_floats);
        columns.append(&payload, &mut fidelity).unwrap();
        assert_eq!(fidelity.is_lossless(), lossless);
    }
}

/// The text of the only column of `message` for each payload, and whether it represents the payload.
fn json_of(message: &str, payloads: &[Vec<u8>]) -> Vec<(Option<String>, bool)> {
    let mut columns = MessageColumns::new(&descriptor(message));
    let lossless: Vec<bool> = payloads
        .iter()
        .map(|payload| {
            let mut fidelity = Fidelity::new(false);
            columns.append(payload, &mut fidelity).unwrap();
            fidelity.is_lossless()
        })
        .collect();
    let array = columns.finish(None).unwrap();
    let texts = array.as_struct().column(0).as_string::<i32>();
    texts.iter().map(|text| text.map(str::to_owned)).zip(lossless).collect()
}

fn message(name: &str, fields: &[(u32, Value)]) -> Value {
    Value::Message(DynamicMessage::decode(descriptor(name), &*encode(name, fields)).unwrap())
}

#[test]
fn a_message_of_any_form_is_text_in_json() {
    let number = |number: f64| message("google.protobuf.Value", &[(2, Value::F64(number))]);
    let anything = |value: Value| {
        let entries = [("b", value), ("a", message("google.protobuf.Value", &[(3, Value::String("é".into()))]))];
        let entries = entries.into_iter().map(|(key, value)| (MapKey::String(key.into()), value)).collect();
        encode("test.Dynamic", &[(1, message("google.protobuf.Struct", &[(1, Value::Map(entries))]))])
    };
    let payloads = [anything(number(1.5)), anything(number(f64::NAN)), vec![], anything(number(1.0))];
    let texts = json_of("test.Dynamic", &payloads);
    assert_eq!(texts[0], (Some(r#"{"a":"é","b":1.5}"#.to_owned()), true));
    // There is no number in JSON that is not finite.
    assert_eq!(texts[1], (Some("null".to_owned()), false));
    assert_eq!(texts[2], (None, true));
    // Two occurrences of a field are one message.
    let twice =
        [anything(number(1.5)), encode("test.Dynamic", &[(1, message("google.protobuf.Struct", &[]))])].concat();
    assert_eq!(json_of("test.Dynamic", &[twice]), texts[..1]);
    // A field that Struct does not have.
    let unknown = vec![0x0a, 2, 0x48, 1];
    assert_eq!(json_of("test.Dynamic", &[unknown]), [(Some("{}".to_owned()), false)]);
    // A field of Struct with a wire type that does not fit.
    let other = vec![0x0a, 2, 0x08, 1];
    assert_eq!(json_of("test.Dynamic", &[other]), [(Some("{}".to_owned()), false)]);
}

#[test]
fn an_any_is_json_if_its_type_is_known() {
    let any = |url: &str, bytes: &'static [u8]| {
        let any = message("google.protobuf.Any", &[(1, Value::String(url.into())), (2, Value::Bytes(bytes.into()))]);
        encode("test.Holder", &[(1, any)])
    };
    let known = any("type.googleapis.com/test.Innermost", b"\x0a\x01A");
    let unknown = any("type.googleapis.com/shop.Unknown", b"\x0a\x01A");
    let damaged = any("type.googleapis.com/test.Innermost", b"\x0a\x09A");
    let [known, unknown, damaged] = json_of("test.Holder", &[known, unknown, damaged]).try_into().unwrap();
    assert_eq!(known, (Some(r#"{"@type":"type.googleapis.com/test.Innermost","blob":"QQ=="}"#.to_owned()), false));
    assert_eq!(unknown, (Some(r#"{"@type":"type.googleapis.com/shop.Unknown"}"#.to_owned()), false));
    assert_eq!(damaged, (Some(r#"{"@type":"type.googleapis.com/test.Innermost"}"#.to_owned()), false));
}

/// `COLOR_CRIMSON` has the number of `COLOR_RED`, and is declared behind it. In JSON it is prost-reflect that chooses, and it does
/// not promise which.
#[test]
fn of_several_names_of_a_number_the_first_is_written() {
    let red = || Value::EnumNumber(1);
    let by_bool = Value::Map(HashMap::from([(MapKey::Bool(true), red())]));
    let payload = encode("test.Everything", &[(16, red()), (76, Value::List(vec![red()])), (93, by_bool)]);
    let mut columns = MessageColumns::new(&descriptor("test.Everything"));
    columns.append(&payload, &mut Fidelity::new(false)).unwrap();
    let array = columns.finish(None).unwrap();
    let column = |name| array.as_struct().column_by_name(name).unwrap().clone();
    assert_eq!(column("a_color").as_string::<i32>().value(0), "COLOR_RED");
    assert_eq!(column("colors").as_list::<i32>().value(0).as_string::<i32>().value(0), "COLOR_RED");
    assert_eq!(column("by_bool").as_map().values().as_string::<i32>().value(0), "COLOR_RED");

    let any = [(1, Value::String("type.googleapis.com/test.Everything".into())), (2, Value::Bytes(payload.into()))];
    let [(json, _)] = json_of("test.Holder", &[encode("test.Holder", &[(1, message("google.protobuf.Any", &any))])])
        .try_into()
        .unwrap();
    let (color, colors) = (r#""aColor":"COLOR_RED""#, r#""byBool":{"true":"COLOR_RED"},"colors":["COLOR_RED"]"#);
    assert_eq!(json.unwrap(), format!(r#"{{"@type":"type.googleapis.com/test.Everything",{color},{colors}}}"#));
}

#[test]
fn a_message_inside_itself_is_json_from_there_on() {
    let leaf = message("test.Node", &[(1, Value::String("leaf".into()))]);
    let branch = message("test.Branch", &[(1, Value::List(vec![leaf]))]);
    let node = encode("test.Node", &[(1, Value::String("root".into())), (2, branch)]);
    let mut columns = MessageColumns::new(&descriptor("test.Node"));
    let mut fidelity = Fidelity::new(false);
    columns.append(&node, &mut fidelity).unwrap();
    assert!(fidelity.is_lossless());
    let array = columns.finish(None).unwrap();
    let branch = array.as_struct().column_by_name("branch").unwrap().as_struct().clone();
    let nodes = branch.column_by_name("nodes").unwrap().as_list::<i32>().value(0);
    assert_eq!(nodes.as_string::<i32>().value(0), r#"{"name":"leaf"}"#);
}

#[test]
fn messages_in_json_may_be_nested_as_deep_as_protobuf_reads() {
    let mut deep = vec![];
    let mut nested = |levels: usize| {
        for _ in 0..levels {
            // Branch.nodes = 1, Node.branch = 2.
            let mut branch = vec![0x0a];
            prost_reflect::prost::encoding::encode_varint(deep.len() as u64, &mut branch);
            branch.append(&mut deep);
            deep.push(0x12);
            prost_reflect::prost::encoding::encode_varint(branch.len() as u64, &mut deep);
            deep.append(&mut branch);
        }
        MessageColumns::new(&descriptor("test.Node")).append(&deep, &mut Fidelity::new(false))
    };
    assert_eq!(nested(40), Ok(()));
    assert_eq!(nested(40), Err(AppendError::Wire(WireError::Depth)));
    assert_eq!(nested(5_000), Err(AppendError::Wire(WireError::Depth)));
}

#[test]
fn groups_and_texts_of_proto2() {
    let append = |payload: &[u8]| {
        let mut columns = MessageColumns::new(&descriptor("test.Old"));
        let mut fidelity = Fidelity::new(false);
        columns.append(payload, &mut fidelity).map(|()| (columns.finish(None).unwrap(), fidelity.is_lossless()))
    };
    // text = "A", group Row { number = 5 }, repeated group Cell { text = "B" } twice.
    let payload = [0x0a, 1, 65, 0x13, 0x08, 5, 0x14, 0x1b, 0x0a, 1, 66, 0x1c, 0x1b, 0x0a, 1, 67, 0x1c];
    let (array, lossless) = append(&payload).unwrap();
    let column = |name| array.as_struct().column_by_name(name).unwrap();
    assert_eq!(column("text").as_string::<i32>().value(0), "A");
    assert_eq!(column("row").as_string::<i32>().value(0), r#"{"number":5}"#);
    let cells = column("cell").as_list::<i32>().value(0);
    let cells: Vec<&str> = cells.as_string::<i32>().iter().flatten().collect();
    assert_eq!(cells, [r#"{"text":"B"}"#, r#"{"text":"C"}"#]);
    assert!(lossless);
    // proto2 does not ask for UTF-8.
    let (array, lossless) = append(&[0x0a, 1, 0xff]).unwrap();
    assert_eq!(array.as_struct().column(0).as_string::<i32>().value(0), "\u{fffd}");
    assert!(!lossless);
    assert_eq!(append(&[0x13, 0x08, 5]).unwrap_err(), AppendError::Wire(WireError::Truncated));
    assert_eq!(append(&[0x13, 0x08, 5, 0x1c]).unwrap_err(), AppendError::Wire(WireError::GroupEnd));
}

#[test]
fn a_wrong_wire_type_counts_as_an_unknown_field() {
    let append = |payload: &[u8]| {
        let mut columns = MessageColumns::new(&descriptor("test.Everything"));
        let mut fidelity = Fidelity::new(false);
        columns.append(payload, &mut fidelity).unwrap();
        let array = columns.finish(None).unwrap();
        (
            array.as_struct().column_by_name("an_int32").unwrap().as_primitive::<Int32Type>().value(0),
            fidelity.is_lossless(),
        )
    };
    // Field 3, an int32.
    assert_eq!(append(&[0x18, 7]), (7, true));
    // As a string.
    assert_eq!(append(&[0x18, 7, 0x1a, 1, 65]), (7, false));
    // As a group.
    assert_eq!(append(&[0x18, 7, 0x1b, 0x1c]), (7, false));
    // The end of a group that was not begun.
    let mut columns = MessageColumns::new(&descriptor("test.Everything"));
    assert_eq!(columns.append(&[0x1c], &mut Fidelity::new(false)), Err(AppendError::Wire(WireError::GroupEnd)));
    assert_eq!(columns.rows(), 0);
}

#[test]
fn a_message_without_fields_is_a_struct_before_and_after_it_gets_one() {
    let empty = MessageColumns::new(&descriptor("test.Nothing")).data_type();
    let DataType::Struct(fields) = empty else { panic!("{empty}") };
    assert_eq!(fields.len(), 1);
    assert_eq!(fields[0].name(), EMPTY);
}

#[test]
fn fields_carry_their_numbers_as_field_ids() {
    let DataType::Struct(fields) = MessageColumns::new(&descriptor("test.Inner")).data_type() else { unreachable!() };
    let ids: Vec<&str> = fields.iter().map(|field| &*field.metadata()[PARQUET_FIELD_ID_META_KEY]).collect();
    assert_eq!(ids, ["1", "2", "3", "4", "5"]);
}

/// The payloads of a corpus, and whether upb parses them. See `testdata/upb.py`, which makes other corpora, too: `LANDFALL_CORPUS`
/// names the file of one.
#[test]
fn what_the_official_parser_parses_is_appended_and_nothing_else() {
    #[derive(serde::Deserialize)]
    struct Case {
        message: String,
        payload: String,
        parses: bool,
    }
    #[expect(clippy::disallowed_methods, reason = "whoever tries another corpus says so by its environment")]
    let corpus = std::env::var("LANDFALL_CORPUS").unwrap_or_else(|_| "testdata/upb.ndjson".to_owned());
    let corpus = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(corpus)).unwrap();
    let mut empty: HashMap<String, MessageColumns> = HashMap::new();
    let mut different = Vec::new();
    for line in corpus.lines() {
        let Case { message, payload, parses } = serde_json::from_str(line).unwrap();
        let columns = empty.entry(message.clone()).or_insert_with(|| MessageColumns::new(&descriptor(&message)));
        let bytes = base64_simd::STANDARD.decode_to_vec(&payload).unwrap();
        let appended = columns.clone().append(&bytes, &mut Fidelity::new(false));
        if appended.is_ok() != parses {
            different.push(format!("{message} {bytes:02x?}: upb {parses}, ours {appended:?}"));
        }
    }
    assert!(different.is_empty(), "{} of {}:\n{}", different.len(), corpus.lines().count(), different.join("\n"));
}

#[test]
fn an_any_in_an_any_is_json_as_deep_as_protobuf_reads() {
    let nested = |levels: usize| {
        let mut bytes = Vec::new();
        for level in 0..levels {
            let url = ["/google.protobuf.Any", "/test.Innermost"][usize::from(level == 0)];
            let any = DynamicMessage::decode(
                descriptor("google.protobuf.Any"),
                &*encode("google.protobuf.Any", &[(1, Value::String(url.into())), (2, Value::Bytes(bytes.into()))]),
            );
            bytes = any.unwrap().encode_to_vec();
        }
        let mut holder = vec![0x0a];
        prost_reflect::prost::encoding::encode_varint(bytes.len() as u64, &mut holder);
        [holder, bytes].concat()
    };
    let texts = json_of("test.Holder", &[nested(3), nested(90), nested(500), nested(5_000)]);
    assert_eq!(texts[0].0.as_deref().unwrap().matches("@type").count(), 3);
    assert_eq!(texts[1].0.as_deref().unwrap().matches("@type").count(), 90);
    assert_eq!(texts[2], (Some(r#"{"@type":"/google.protobuf.Any"}"#.to_owned()), false));
    assert_eq!(texts[2], texts[3]);
}

#[test]
fn elements_that_need_too_much_memory_are_refused() {
    // Elements of two bytes, each of which has a value in every column of `Inner`.
    let mut columns = MessageColumns::new(&descriptor("test.Everything"));
    let inners = [0xea, 0x04, 0].repeat(700_000);
    let several = columns.append(&inners[..300_000], &mut Fidelity::new(false));
    assert_eq!(several, Ok(()));
    assert_eq!(columns.append(&inners, &mut Fidelity::new(false)), Err(AppendError::TooLarge));
    assert_eq!(columns.rows(), 1);
}

#[test]
fn a_field_that_occurs_often_takes_time_in_proportion() {
    // An empty Struct, or a text, so often that a message is as large as SQS takes.
    for (message, occurrence) in [("test.Dynamic", [0x0a, 0]), ("test.Holder", [0x0a, 0])] {
        let payload = occurrence.repeat(380_000);
        let mut columns = MessageColumns::new(&descriptor(message));
        assert_eq!(columns.append(&payload, &mut Fidelity::new(false)), Ok(()));
    }
    // Nodes with one child each: the JSON of all of them is written once.
    let nodes = [0x12, 4, 0x0a, 2, 0x0a, 0].repeat(100_000);
    assert_eq!(MessageColumns::new(&descriptor("test.Node")).append(&nodes, &mut Fidelity::new(false)), Ok(()));
    // Members of a oneof in turn, and entries of a map that replace each other.
    let oneof = [0x98, 3, 1, 0xa2, 3, 0, 0xaa, 3, 0].repeat(80_000);
    assert_eq!(MessageColumns::new(&descriptor("test.Everything")).append(&oneof, &mut Fidelity::new(false)), Ok(()));
    let map = [0xda, 5, 0].repeat(100_000);
    let mut columns = MessageColumns::new(&descriptor("test.Everything"));
    for _ in 0..100 {
        assert!(columns.append(&[&map[..], &[7]].concat(), &mut Fidelity::new(false)).is_err());
    }
    let entries = [0x0a, 7, 0x0a, 5, 0x0a, 1, b'k', 0x12, 0].repeat(80_000);
    assert_eq!(MessageColumns::new(&descriptor("test.Dynamic")).append(&entries, &mut Fidelity::new(false)), Ok(()));
}
