//! Compares the columns with prost: they must represent whatever prost decodes, or report that they do not.

use std::{collections::HashMap, path::Path};

use arrow::{
    array::{Array, AsArray},
    datatypes::{Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType},
};
use proptest::{
    prelude::*,
    strategy::{LazyJust, Union},
};
use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, ReflectMessage, Value, prost::Message};

use super::{values::is_wrapper, *};

fn pool() -> DescriptorPool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let mut compiler = protox::Compiler::new([folder]).unwrap();
    compiler.include_imports(true).open_file("everything.proto").unwrap();
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
    let mut columns = MessageColumns::new(&descriptor).unwrap();
    let mut rows = Vec::new();
    for payload in payloads {
        let mut fidelity = Fidelity::new(false);
        let ours = columns.append(payload, &mut fidelity);
        let theirs = DynamicMessage::decode(descriptor.clone(), payload.as_slice());
        match (ours, theirs) {
            (Ok(()), Ok(theirs)) => rows.push((theirs, fidelity)),
            (Err(_), Err(_)) => {}
            // prost does not look at the wire type of a map.
            (Err(AppendError::Wire(WireError::Mismatch { field: 5 | 91..=97, .. })), Ok(_)) => {}
            (ours, theirs) => prop_assert!(false, "ours {:?}, prost's {}", ours, theirs.is_ok()),
        }
        prop_assert_eq!(columns.rows(), rows.len());
        if rows.len() % 3 == 1 {
            columns.append_absent(1);
            rows.push((DynamicMessage::new(descriptor.clone()), Fidelity { finite_floats: false, lossless: false }));
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

/// Payloads that are each several messages end to end, which is one message with everything merged.
fn payloads() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let everything = any_message(descriptor("test.Everything"), 0).prop_map(|message| message.encode_to_vec());
    let unpacked = any_message(descriptor("test.Unpacked"), 1).prop_map(|message| message.encode_to_vec());
    let later = any_message(descriptor("test.Later"), 1).prop_map(|message| message.encode_to_vec());
    let part = prop_oneof![6 => everything, 2 => unpacked, 1 => later];
    prop::collection::vec(prop::collection::vec(part, 1..4).prop_map(|parts| parts.concat()), 1..5)
}

fn order_created() -> MessageDescriptor {
    let registry = shared::event::Registry::embedded().unwrap();
    registry.types()[registry.position("OrderCreated").unwrap()].message.clone()
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

    #[test]
    fn event_types_of_this_build_hold_what_prost_reads(
        payloads in prop::collection::vec(
            any_message(order_created(), 0).prop_map(|message| message.encode_to_vec()),
            1..4,
        ),
    ) {
        use shared::event::v1::OrderCreated;
        let message = order_created();
        let mut columns = MessageColumns::new(&message).unwrap();
        let mut expected = Vec::new();
        for payload in &payloads {
            let mut fidelity = Fidelity::new(false);
            columns.append(payload, &mut fidelity).unwrap();
            expected.push((OrderCreated::decode(payload.as_slice()).unwrap(), fidelity));
        }
        let array = columns.finish(None).unwrap();
        for (row, (order, fidelity)) in expected.iter().enumerate() {
            if fidelity.is_lossless() {
                let read = message_of(&array, row, &message).encode_to_vec();
                prop_assert_eq!(&OrderCreated::decode(read.as_slice()).unwrap(), order);
            }
        }
    }
}

fn lossless(message: &str, payload: &[u8]) -> bool {
    let mut fidelity = Fidelity::new(false);
    MessageColumns::new(&descriptor(message)).unwrap().append(payload, &mut fidelity).unwrap();
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
    let mut columns = MessageColumns::new(&descriptor("test.Everything")).unwrap();
    for (finite_floats, lossless) in [(false, true), (true, false)] {
        let mut fidelity = Fidelity::new(finite_floats);
        columns.append(&payload, &mut fidelity).unwrap();
        assert_eq!(fidelity.is_lossless(), lossless);
    }
}

#[test]
fn recursion_is_refused_with_the_name_of_the_message() {
    for (message, sentence) in [
        ("test.Node", "message test.Node contains itself (test.Branch.nodes); a recursive type has no columns"),
        (
            "test.Dynamic",
            "message google.protobuf.Struct contains itself (google.protobuf.Value.struct_value); \
             a recursive type has no columns",
        ),
    ] {
        assert_eq!(MessageColumns::new(&descriptor(message)).unwrap_err().to_string(), sentence);
    }
}

#[test]
fn a_wrong_wire_type_is_refused_with_the_number_of_the_field() {
    let mut columns = MessageColumns::new(&descriptor("test.Everything")).unwrap();
    // Field 3, an int32, written as a string.
    let error = columns.append(&[0x1a, 1, 65], &mut Fidelity::new(false)).unwrap_err();
    assert_eq!(error.to_string(), "field 3 has wire type 2, which does not match its declaration");
    assert_eq!(columns.rows(), 0);
    assert_eq!(DynamicMessage::new(descriptor("test.Everything")).descriptor().full_name(), "test.Everything");
}
