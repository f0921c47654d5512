use kit::protos;

use super::*;

const SHOP: &str = include_str!("../../testdata/shop.proto");
const ORDER: &str = "order_placed landfall.shop.OrderPlaced\nbasket_left landfall.shop.BasketLeft\n";

/// The event types of `shop.proto` with more at its end, and those of another file, or why there are none.
fn registry(more: &str, v2: &str, columns: &str) -> Result<Registry, String> {
    let head = "syntax = \"proto3\"; package landfall.shop.v2; import \"landfall/options.proto\"; import \"google/protobuf/struct.proto\";\n";
    let files = [("shop.proto", format!("{SHOP}\n{more}")), ("v2.proto", format!("{head}{v2}"))];
    Registry::new(&protos::compiled(files).unwrap().encode_file_descriptor_set(), columns)
        .map_err(|error| error.to_string())
}

fn columns(registry: &Registry) -> Vec<&str> {
    registry.types().iter().map(|event| event.column.as_str()).collect()
}

#[test]
fn every_event_type_is_registered_under_its_names_in_the_order_of_the_file() {
    let registry = registry("", "", ORDER).unwrap();
    assert_eq!(columns(&registry), ["order_placed", "basket_left"]);
    for name in ["BasketLeft", "BasketAbandoned", "landfall.shop.BasketLeft"] {
        assert_eq!(registry.position(name), Some(1), "{name}");
    }
    assert_eq!(registry.position("OrderPlaced"), Some(0));
    assert_eq!(registry.position("Money"), None);
}

#[test]
fn the_event_types_of_this_build_do_not_contradict_each_other() {
    assert!(!Registry::embedded().unwrap().types().is_empty());
}

#[test]
fn two_versions_of_a_message_live_side_by_side() {
    let v2 =
        "message OrderPlaced { option (landfall.event) = {column: \"order_placed_v2\", also: \"OrderPlaced.v2\"}; }";
    let order = format!("{ORDER}order_placed_v2 landfall.shop.v2.OrderPlaced");
    let registry = registry("", v2, &order).unwrap();
    assert_eq!(columns(&registry), ["order_placed", "basket_left", "order_placed_v2"]);
    // The simple name goes on to mean the first version, whose producers use it.
    for (name, position) in [
        ("OrderPlaced", 0),
        ("landfall.shop.OrderPlaced", 0),
        ("landfall.shop.v2.OrderPlaced", 2),
        ("OrderPlaced.v2", 2),
    ] {
        assert_eq!(registry.position(name), Some(position), "{name}");
    }
}

#[test]
fn a_column_may_be_named() {
    let more = "message Refund { option (landfall.event) = {column: \"refunds\"}; }";
    let registry = registry(more, "", &format!("{ORDER}refunds landfall.shop.Refund")).unwrap();
    assert_eq!(registry.position("Refund"), Some(2));
}

#[test]
fn what_does_not_compile_says_in_which_line_it_is() {
    let imports = "import \"landfall/options.proto\";\nimport \"google/protobuf/timestamp.proto\";";
    let good = format!(
        "syntax = \"proto3\";\n{imports}\nmessage Refund {{\n  option (landfall.event) = {{also: \"Refunded\"}};\n  \
         google.protobuf.Timestamp at = 1;\n}}\n"
    );
    let error = |from: &str, to: &str| {
        assert!(good.contains(from));
        let error = protos::compiled([("shop/refund.proto", good.replacen(from, to, 1))]).unwrap_err();
        compiling::explained(&error)
    };
    for (from, to, expected) in [
        ("at = 1;", "at = 1", "proto/shop/refund.proto:7:1: expected ';' or '[', but found '}'"),
        ("timestamp.proto", "time.proto", "proto/shop/refund.proto:3:1: import 'google/protobuf/time.proto' not found"),
        (
            "\nimport \"google/protobuf/timestamp.proto\";",
            "",
            "proto/shop/refund.proto:5:3: 'google.protobuf.Timestamp' resolves to 'google.protobuf.Timestamp', which is not defined; is it misspelt, or is an import missing?",
        ),
        (
            "landfall.event)",
            "landfall.evnt)",
            "proto/shop/refund.proto:5:3: 'landfall.evnt' resolves to 'landfall.evnt', which is not defined; is it misspelt, or",
        ),
        (
            "also:",
            "als:",
            "proto/shop/refund.proto:5:3: invalid value of type 'landfall.Event' for option '(landfall.event)'",
        ),
    ] {
        let found = error(from, to);
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn every_mistake_says_where_it_is_and_what_to_do() {
    let event = |name: &str, option: &str| format!("message {name} {{ option (landfall.event) = {{{option}}}; }}");
    let with = |line: &str| format!("{ORDER}{line}\n");
    let deep: String = (0..7)
        .map(|level| {
            let fields: String = (1..=5).map(|field| format!("L{} f{field} = {field};", level + 1)).collect();
            format!("message L{level} {{ {fields} }}\n")
        })
        .collect();
    let deep =
        format!("{deep}message L7 {{ int32 a = 1; }} message Deep {{ option (landfall.event) = {{}}; L0 l = 1; }}");
    for (more, v2, columns, sentence) in [
        (
            event("Order", ""),
            "",
            ORDER.to_owned(),
            "proto/columns.txt has no line for event types that are new. Append:\norder landfall.shop.Order",
        ),
        (
            String::new(),
            "",
            with("refund landfall.shop.Refund"),
            "proto/columns.txt, line 3: landfall.shop.Refund is not an event type in proto/. Columns are never removed, since warehouses may load by position: put the message back, and mark it with option deprecated = true",
        ),
        (
            String::new(),
            "",
            with("refund"),
            "proto/columns.txt, line 3: \"refund\" is not a column and the full name of a message, separated by a space",
        ),
        (
            String::new(),
            "",
            with("order_placed landfall.shop.OrderPlaced"),
            "proto/columns.txt, line 3: \"order_placed landfall.shop.OrderPlaced\" repeats a column or a message of an earlier line: remove it",
        ),
        (
            event("Refund", "column: \"refunds\""),
            "",
            with("refund landfall.shop.Refund"),
            "shop.proto: message landfall.shop.Refund: its column is refunds, but refund in proto/columns.txt: a column keeps its name, so write option (landfall.event) = {column: \"refund\"}",
        ),
        (
            event("Source", ""),
            "",
            with("source landfall.shop.Source"),
            "shop.proto: message landfall.shop.Source: the column source is taken by Landfall itself: name another one, as in option (landfall.event) = {column: \"source_event\"}",
        ),
        (
            event("Unregistered", ""),
            "",
            ORDER.to_owned(),
            "shop.proto: message landfall.shop.Unregistered: the column unregistered is taken by Landfall itself: name another one, as in option (landfall.event) = {column: \"unregistered_event\"}",
        ),
        (
            event("Refund", "column: \"Refunds!\""),
            "",
            ORDER.to_owned(),
            "shop.proto: message landfall.shop.Refund: \"Refunds!\" cannot be the name of a column: use at most 63 lower-case letters, digits and _, beginning with a letter, as in option (landfall.event) = {column: \"order_created\"}",
        ),
        (
            event("Refund", "also: \"BasketLeft\""),
            "",
            ORDER.to_owned(),
            "shop.proto: message landfall.shop.Refund: events of the type \"BasketLeft\" are read as shop.proto: message landfall.shop.BasketLeft: remove it from `also` of one of the two",
        ),
        (
            String::new(),
            "message OrderPlaced { option (landfall.event) = {}; }",
            ORDER.to_owned(),
            "v2.proto: message landfall.shop.v2.OrderPlaced: the column order_placed belongs to shop.proto: message landfall.shop.OrderPlaced: name another one, as in option (landfall.event) = {column: \"order_placed_v2\"}",
        ),
        (
            event("Refund", "column: \"basket_left\""),
            "",
            ORDER.to_owned(),
            "shop.proto: message landfall.shop.Refund: the column basket_left belongs to shop.proto: message landfall.shop.BasketLeft: name another one, as in option (landfall.event) = {column: \"basket_left_v2\"}",
        ),
        (
            deep,
            "",
            ORDER.to_owned(),
            "shop.proto: message landfall.shop.Deep: the event type has more than 5000 columns at field landfall.shop.L7.a: split it, or use google.protobuf.Struct for what varies",
        ),
    ] {
        assert_eq!(registry(&more, v2, &columns).unwrap_err(), sentence);
    }
}

#[test]
fn fields_that_differ_in_case_only_are_refused_where_they_become_columns() {
    let of = |field: &str| {
        let head = "syntax = \"proto2\"; package old; import \"landfall/options.proto\";";
        let line = "message Line { optional int32 quantity = 1; optional int32 quanTity = 2; }";
        let event = format!("message Sold {{ option (landfall.event) = {{}}; {field} }}");
        let files = [("old.proto", format!("{head}{line}{event}"))];
        Registry::new(&protos::compiled(files).unwrap().encode_file_descriptor_set(), "sold old.Sold")
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        of("repeated Line lines = 1;").unwrap_err(),
        "old.proto: message old.Line: the fields quantity and quanTity differ in upper and lower case only, so a database would take them for one column: rename one, which changes nothing that is sent"
    );
    of("optional int32 sku = 1;").unwrap();
}

#[test]
fn a_byte_order_mark_in_front_of_the_order_does_not_count() {
    let registry = registry("", "", &format!("\u{feff}{ORDER}")).unwrap();
    assert_eq!(columns(&registry), ["order_placed", "basket_left"]);
}

#[test]
fn what_is_text_or_json_in_a_column_is_one_column() {
    let more = "message Tree { option (landfall.event) = {}; repeated Tree children = 1; }";
    let v2 = "message Open { option (landfall.event) = {}; google.protobuf.Struct anything = 1; }";
    let order = format!("{ORDER}tree landfall.shop.Tree\nopen landfall.shop.v2.Open");
    assert_eq!(registry(more, v2, &order).unwrap().types().len(), 4);
}

#[test]
fn names_become_columns() {
    for (name, column) in [
        ("OrderCreated", "order_created"),
        ("HTTPRequestSeen", "http_request_seen"),
        ("Sku2Seen", "sku2_seen"),
        ("already_snake", "already_snake"),
    ] {
        assert_eq!(registry::snake_case(name), column);
    }
}

#[test]
fn an_event_time_is_one_timestamp() {
    let order = format!("{ORDER}timed landfall.shop.v2.Timed");
    let timed = |path: &str, fields: &str| {
        let v2 = format!(
            "import \"google/protobuf/timestamp.proto\";
             message Timed {{ option (landfall.event) = {{event_time: \"{path}\"}}; {fields} }}
             message Header {{ google.protobuf.Timestamp at = 3; string note = 4; }}"
        );
        registry("", &v2, &order)
    };
    let fields = "google.protobuf.Timestamp at = 2; Header header = 5; repeated google.protobuf.Timestamp all = 6;
        map<string, google.protobuf.Timestamp> by_name = 7; oneof choice { google.protobuf.Timestamp one = 8; int32 other = 9; }";
    for (path, numbers) in [("at", vec![2]), ("header.at", vec![5, 3])] {
        let registry = timed(path, fields).unwrap();
        assert_eq!(registry.types()[2].event_time, Some(numbers));
    }
    let time = "is not a field of type google.protobuf.Timestamp that";
    for (path, field, expected) in [
        ("nothing", "nothing", time),
        ("header", "header", time),
        ("header.note", "note", time),
        ("all", "all", time),
        ("by_name.value", "by_name", "is not a field of type message that"),
        ("one", "one", time),
    ] {
        let error = timed(path, fields).unwrap_err();
        let expected =
            format!("v2.proto: message landfall.shop.v2.Timed: event_time is {path:?}, and {field:?} {expected}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn protobuf_refuses_fields_that_differ_only_in_case() {
    for names in [["id", "Id"], ["orderid", "orderId"]] {
        let source = format!("syntax = \"proto3\"; message A {{ int32 {} = 1; int32 {} = 2; }}", names[0], names[1]);
        assert!(protos::compiled([("a.proto", source)]).is_err(), "{names:?}");
    }
}
