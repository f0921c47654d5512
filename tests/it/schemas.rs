//! parquet-writer with other event types than those of this build: the time at which an event happened, and a history of twelve
//! changes, written file by file.

use std::{collections::HashMap, fs, path::Path};

use arrow::{
    array::{Array, AsArray},
    datatypes::DataType,
};
use kit::protos;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use shared::{
    event::{ENVELOPE, Registry},
    layout::EventsKey,
};

use crate::{
    aws::Aws,
    events::{SENT_MS, Sent, event},
    parquet_writer::{Function, read, strings},
    roles,
};

/// Event types that do not belong to this build.
pub(crate) struct Types {
    pool: DescriptorPool,
    pub(crate) registry: Registry,
}

impl Types {
    /// The messages of package `shop`, and of package `shop.v2`, in the order of `columns`.
    pub(crate) fn new(v1: &str, v2: &str, columns: &str) -> Self {
        let head = |package: &str| {
            let imports = ["landfall/options.proto", "google/protobuf/struct.proto", "google/protobuf/timestamp.proto"];
            let imports: String = imports.iter().map(|file| format!("import \"{file}\";\n")).collect();
            format!("syntax = \"proto3\";\npackage {package};\n{imports}")
        };
        let files = [("v1.proto", head("shop") + v1), ("v2.proto", head("shop.v2") + v2)];
        let compiler = protos::compiled(files).unwrap();
        let registry = Registry::new(&compiler.encode_file_descriptor_set(), columns).unwrap();
        Self { pool: compiler.descriptor_pool(), registry }
    }

    /// An event of this type, from protobuf's JSON.
    fn event(&self, id: &str, type_name: &str, content: &Value) -> Sent {
        let position = self.registry.position(type_name).unwrap();
        let message = self.registry.types()[position].message.full_name().to_owned();
        let message = DynamicMessage::deserialize(self.pool.get_message_by_name(&message).unwrap(), content).unwrap();
        Sent::new(id, "shop", type_name, &message.encode_to_vec(), SENT_MS)
    }

    async fn function(&self, settings: &[(&'static str, &str)]) -> Function {
        Function::with_types(settings, &Aws::for_role(roles::writer()), self.registry.clone()).await
    }
}

/// The day, and the type by its column, of each file, in order.
fn days(function: &Function) -> Vec<(String, String)> {
    let keys = function.aws.keys("events/");
    let keys = keys.iter().map(|key| key.parse::<EventsKey>().unwrap());
    keys.map(|key| (key.day.to_string(), key.only.map(|only| only.to_string()).unwrap_or_default())).collect()
}

#[tokio::test]
async fn an_event_lands_in_the_day_on_which_it_happened_if_its_type_says_when() {
    let v1 =
        "message Order { option (landfall.event) = {event_time: \"header.at\"}; Header header = 1; string id = 2; }
        message Header { google.protobuf.Timestamp at = 3; }
        message Visit { option (landfall.event) = {}; google.protobuf.Timestamp at = 1; }";
    let types = Types::new(v1, "", "order shop.Order\nvisit shop.Visit");
    let order = |id: &str, at: &str| types.event(id, "Order", &json!({"header": {"at": at}}));
    let sent = [
        order("same-day", "2026-11-20T00:00:01Z"),
        order("replayed", "2026-11-01T23:59:59Z"),
        order("too-old", "2026-10-01T00:00:00Z"),
        order("clock-ahead", "2026-11-21T01:00:00Z"),
        order("impossible", "2027-11-21T01:00:00Z"),
        types.event("no-time", "Order", &json!({"id": "1"})),
        types.event("no-option", "Visit", &json!({"at": "2026-11-01T00:00:00Z"})),
    ];
    let function = types.function(&[]).await;
    assert_eq!(function.invoke(&event(&sent)).await, Vec::<String>::new());
    let day = |day: &str| (format!("2026/11/{day}"), String::new());
    assert_eq!(days(&function), [day("01"), day("20"), day("21")]);
    let keys = function.aws.keys("events/");
    assert_eq!(strings(&read(function.aws.body(&keys[0]))[0], "message_id"), ["replayed"]);
    assert_eq!(
        strings(&read(function.aws.body(&keys[1]))[0], "message_id"),
        ["impossible", "no-option", "no-time", "same-day", "too-old"]
    );

    let function = types.function(&[("EVENTS_LAYOUT", "by-type"), ("EVENT_TIME_MAX_AGE_DAYS", "365")]).await;
    function.invoke(&event(&sent)).await;
    let day = |month_day: &str, only: &str| (format!("2026/{month_day}"), only.to_owned());
    assert_eq!(
        days(&function),
        [
            day("10/01", "order"),
            day("11/01", "order"),
            day("11/20", "order"),
            day("11/21", "order"),
            day("11/20", "visit")
        ]
    );

    let function = types.function(&[("EVENT_TIME_MAX_AGE_DAYS", "0")]).await;
    function.invoke(&event(&sent[1..2])).await;
    assert_eq!(days(&function), [("2026/11/20".to_owned(), String::new())]);
}

/// What a step of the history does.
const CHANGES: [&str; 12] = [
    "the first version",
    "a type is added",
    "a field is added",
    "an enum value is added",
    "a field with a message is added",
    "a field is added to that message, and to one in a list",
    "a field is renamed",
    "a field is widened, and one in a list",
    "a second version of a type is added",
    "a field is deprecated",
    "a message without fields gets one",
    "a list, a map and an open-ended field are added",
];

/// The event types after a step, counted from 0, an event of each, and what its columns then hold.
fn step(step: usize) -> (Types, Vec<(&'static str, Value, Value)>) {
    let from = |first: usize, text: &'static str| if step >= first { text } else { "" };
    let note = if step >= 6 { "comment" } else { "note" };
    let integer = if step >= 7 { "int64" } else { "int32" };
    let deprecated = from(9, " [deprecated = true]");
    let order = [
        format!("string order_id = 1; {integer} quantity = 2; Status status = 3{deprecated}; Marker marker = 9;"),
        if step >= 2 { format!("string {note} = 4;") } else { String::new() },
        from(4, "Address address = 5;").to_owned(),
        "repeated Line lines = 10;".to_owned(),
        from(11, "repeated string tags = 6; map<string, int32> labels = 7; google.protobuf.Struct extra = 8;")
            .to_owned(),
    ];
    let v1 = [
        format!("message Order {{ option (landfall.event) = {{}}; {} }}", order.concat()),
        format!("enum Status {{ UNKNOWN = 0; NEW = 1; {} }}", from(3, "PAID = 2;")),
        format!("message Address {{ string street = 1; {} }}", from(5, "string zip = 2;")),
        format!("message Line {{ {integer} count = 1; {} }}", from(5, "string sku = 2;")),
        format!("message Marker {{ {} }}", from(10, "int32 level = 1;")),
        from(1, "message Ping { option (landfall.event) = {}; int32 ms = 1; }").to_owned(),
    ];
    let v2 = from(8, "message Order { option (landfall.event) = {column: \"order_v2\"}; string id = 1; }");
    let columns = ["order shop.Order\n", from(1, "ping shop.Ping\n"), from(8, "order_v2 shop.v2.Order\n")];
    let types = Types::new(&v1.concat(), v2, &columns.concat());

    let quantity = 1 + i64::try_from(step).unwrap();
    let status = if step >= 3 { "PAID" } else { "NEW" };
    let marker = if step >= 10 { json!({"level": 5}) } else { json!({}) };
    let mut content = json!({"order_id": format!("o-{step}"), "quantity": quantity, "status": status, "marker": marker, "lines": [{"count": 1}]});
    if step >= 2 {
        content[note] = json!("fragile");
    }
    if step >= 4 {
        content["address"] = json!({"street": "Main"});
    }
    if step >= 5 {
        content["address"]["zip"] = json!("1234");
        content["lines"][0]["sku"] = json!("S-1");
    }
    let mut expected = content.clone();
    if step >= 11 {
        for (name, value, column) in [
            ("tags", json!(["a", "b"]), json!(["a", "b"])),
            ("labels", json!({"x": 1}), json!({"x": 1})),
            ("extra", json!({"any": [1.5, null]}), json!(r#"{"any":[1.5,null]}"#)),
        ] {
            content[name] = value;
            expected[name] = column;
        }
    }
    let mut events = vec![("Order", content, expected)];
    if step >= 1 {
        events.push(("Ping", json!({"ms": 7}), json!({"ms": 7})));
    }
    if step >= 8 {
        events.push(("shop.v2.Order", json!({"id": "v2"}), json!({"id": "v2"})));
    }
    (types, events)
}

/// Writes the files of both layouts into a folder, with what readers have to find in them, so that other readers can be tried:
/// `python3 -m local readers`.
#[tokio::test]
async fn a_history_of_twelve_changes_only_ever_appends_columns() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("schema-history");
    drop(fs::remove_dir_all(&folder));
    let mut expected_rows = Vec::new();
    let mut before: HashMap<String, Vec<String>> = HashMap::new();
    for (number, change) in CHANGES.iter().enumerate() {
        let (types, contents) = step(number);
        let sent = contents.iter().map(|(name, content, _)| types.event(&format!("{number:02}-{name}"), name, content));
        let sent: Vec<Sent> = sent.collect();
        for layout in ["together", "by-type"] {
            let function = types.function(&[("EVENTS_LAYOUT", layout)]).await;
            assert_eq!(function.invoke(&event(&sent)).await, Vec::<String>::new(), "{change}");
            let mut landed = 0;
            for key in function.aws.keys("events/") {
                let only = key.parse::<EventsKey>().unwrap().only.map(|only| only.to_string()).unwrap_or_default();
                let file = folder.join(layout).join(&only).join(format!("{number:02}.parquet"));
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, function.aws.body(&key)).unwrap();

                let rows = &read(function.aws.body(&key))[0];
                landed += rows.num_rows();
                assert_eq!(rows.column_by_name("_raw").unwrap().null_count(), rows.num_rows(), "{change}");
                let columns: Vec<String> = rows.schema().fields().iter().map(|field| field.name().clone()).collect();
                let earlier = before.insert(format!("{layout}/{only}"), columns.clone()).unwrap_or_default();
                assert!(columns.starts_with(&earlier), "{change}: {earlier:?} became {columns:?}");
                assert_eq!(columns[..ENVELOPE.len()], ENVELOPE, "{change}");
                if layout == "by-type" {
                    // What loads by position: the envelope, and one column that never changes its kind.
                    assert_eq!(columns[ENVELOPE.len()..], [only]);
                    let schema = rows.schema();
                    let of_type = schema.field(ENVELOPE.len()).data_type();
                    assert!(matches!(of_type, DataType::Struct(_)), "{change}: {of_type}");
                    assert_eq!(rows.column(ENVELOPE.len()).as_struct().null_count(), 0);
                }
            }
            assert_eq!(landed, sent.len(), "{change}");
        }
        for (sent, (name, _, expected)) in sent.iter().zip(&contents) {
            let position = types.registry.position(name).unwrap();
            let column = &types.registry.types()[position].column;
            expected_rows.push(json!({"message_id": sent.id, "column": column, "value": expected, "change": change}));
        }
    }
    let lines: String = expected_rows.iter().map(|row| format!("{row}\n")).collect();
    fs::write(folder.join("expected.ndjson"), lines).unwrap();
}

/// So many event types of fifteen fields each.
fn wide(count: usize) -> Types {
    let fields: String = (1..=15)
        .map(|number| match number % 3 {
            0 => format!("string text_{number} = {number};"),
            1 => format!("int64 number_{number} = {number};"),
            _ => format!("google.protobuf.Timestamp time_{number} = {number};"),
        })
        .collect();
    let message = |number| format!("message Type{number:03} {{ option (landfall.event) = {{}}; {fields} }}");
    let columns: String = (0..count).map(|number| format!("type{number:03} shop.Type{number:03}\n")).collect();
    Types::new(&(0..count).map(message).collect::<String>(), "", &columns)
}

/// Size in bytes of all files for `rows` events of the first three types.
async fn size(types: &Types, layout: &'static str, rows: usize) -> usize {
    let event_of = |row: usize| {
        let content = json!({
            "number_1": row.to_string(), "number_4": "7", "text_3": format!("order-{}", row % 50), "text_6": "paid",
            "time_2": format!("2026-11-20T10:00:{:02}Z", row % 60),
        });
        types.event(&format!("{row:08}-0000-4000-8000-000000000000"), &format!("Type{:03}", row % 3), &content)
    };
    let function = types.function(&[("EVENTS_LAYOUT", layout)]).await;
    let sent: Vec<Sent> = (0..rows).map(event_of).collect();
    assert_eq!(function.invoke(&event(&sent)).await, Vec::<String>::new());
    function.aws.keys("events/").iter().map(|key| function.aws.body(key).len()).sum()
}

/// The README of parquet-writer says what a type costs in a file that has none of its events, and recommends `by-type`.
#[tokio::test]
async fn by_type_a_file_does_not_grow_with_the_number_of_types() {
    let [few, many] = [wide(3), wide(100)];
    assert_eq!(size(&few, "by-type", 100).await, size(&many, "by-type", 100).await);
    let absent = (size(&many, "together", 100).await - size(&few, "together", 100).await) / 97;
    assert!(absent < 3_000, "an absent type of 15 fields costs {absent} bytes");
}
