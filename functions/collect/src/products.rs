//! `pr<n>id`, `pr<n>nm`, … → products, in the order of n; and the items of GA4: `pr<n>=id…~nm…~…` of gtag.js, and the array `items` of
//! a payload, in its order from 1.
//!
//! | version 1 | gtag.js | payload | field |
//! |---|---|---|---|
//! | `id` `nm` `br` `ca` `va` `cc` | `id` `nm` `br` `ca` `va` `cp` | `item_id` `item_name` `item_brand` `item_category` `item_variant` `coupon` | `id` `name` `brand` `category` `variant` `coupon` |
//! | `pr` | `pr` | `price` | `price`, a number |
//! | `qt` `ps` | `qt` `lp` | `quantity` `index` | `quantity`, `position`, integers |
//! | `cd<k>`, `cm<k>`, any other | `c2`, `ds`, `ln`, `k0`, … | any other | `raw`, unchanged |
//! | those above whose value has the wrong type | the same | the same | `raw`, unchanged |
//!
//! A number where a text is expected, such as an id of digits, is the text of its digits.
//!
//! gtag.js writes a `~` of a value twice. Other libraries do not: what follows a single one and is no field belongs to the value.
//!
//! Sources: "Enhanced e-commerce: product", Measurement Protocol parameter reference; requests of gtag.js, as others describe them.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    event::object,
    hit::{Hit, ParameterValue, is_number},
};

/// The largest n of the protocol.
const MOST_INDEX: u16 = 200;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Product<'a> {
    /// The n of its parameters, 1 to 200. There may be gaps.
    pub index: u16,
    pub id: Option<Cow<'a, str>>,
    pub name: Option<Cow<'a, str>>,
    pub brand: Option<Cow<'a, str>>,
    /// Up to five levels, separated by `/`.
    pub category: Option<Cow<'a, str>>,
    pub variant: Option<Cow<'a, str>>,
    /// Of one item, in the currency of the hit. Finite.
    pub price: Option<f64>,
    pub quantity: Option<i64>,
    pub coupon: Option<Cow<'a, str>>,
    /// Position in a list.
    pub position: Option<i64>,
    /// All other fields, keyed by the rest of the parameter's name after `pr<n>`, such as `cd1`.
    #[serde(serialize_with = "object")]
    pub raw: Vec<(Cow<'a, str>, Field<'a>)>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Field<'a> {
    Text(Cow<'a, str>),
    /// JSON other than a string.
    Json(ParameterValue<'a>),
}

impl<'a> From<ParameterValue<'a>> for Field<'a> {
    fn from(value: ParameterValue<'a>) -> Self {
        match value {
            ParameterValue::Text(text) => Self::Text(text.into()),
            json @ ParameterValue::Json(_) => Self::Json(json),
        }
    }
}

/// The products of a hit.
#[must_use]
pub fn products(hit: &Hit) -> Vec<Product<'_>> {
    let mut products: Vec<Product<'_>> = Vec::new();
    for (name, value) in hit.iter() {
        if name == "items" {
            items(&mut products, value);
        } else if let Some((index, field)) = split(name)
            && let Some(product) = at(&mut products, index)
        {
            match (field, value) {
                ("", ParameterValue::Text(text)) => fields(text, |field, value| product.set_item(field, value)),
                ("", json) => product.raw.push(("".into(), json.into())),
                (field, value) => product.set(field.into(), value.into()),
            }
        }
    }
    products
}

/// A field of an item of gtag.js.
pub(crate) struct ItemField<'a> {
    pub(crate) name: &'a str,
    /// Whether there is a field of that name.
    pub(crate) is_known: bool,
    /// As it is written: with each `~` twice.
    pub(crate) value: &'a str,
    /// Where the value begins.
    pub(crate) start: usize,
}

/// The fields of an item of gtag.js.
pub(crate) fn item_fields(item: &str) -> impl Iterator<Item = ItemField<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = item.get(at..).filter(|rest| !rest.is_empty())?;
        let (name, value) = rest.split_at_checked(2).unwrap_or((rest, ""));
        let mut end = 0;
        while let Some(next) = value.get(end..).and_then(|rest| rest.find('~')) {
            end += next;
            let after = value.get(end + 1..).unwrap_or_default();
            if after.starts_with('~') {
                end += 2;
            } else if after.is_empty() || is_item_field(after) {
                break;
            } else {
                end += 1;
            }
        }
        let is_last = !value.get(end..).is_some_and(|rest| rest.starts_with('~'));
        let value = if is_last { value } else { value.get(..end).unwrap_or_default() };
        let start = at + name.len();
        at = if is_last { item.len() } else { start + value.len() + 1 };
        Some(ItemField { name, is_known: is_item_field(name), value, start })
    })
}

/// Whether a parameter is an item of gtag.js: `pr1`, not `pr1nm`.
pub(crate) fn is_item(name: &str) -> bool {
    name.starts_with("pr") && split(name).is_some_and(|(_, field)| field.is_empty())
}

/// The fields of an item, with their values as they were before each `~` was written twice.
fn fields<'a>(item: &'a str, mut set: impl FnMut(&'a str, Cow<'a, str>)) {
    for ItemField { name, value, .. } in item_fields(item) {
        set(name, if value.contains("~~") { value.replace("~~", "~").into() } else { value.into() });
    }
}

/// Whether a text begins with the name of a field of an item.
fn is_item_field(text: &str) -> bool {
    const NAMES: [&str; 22] = [
        "id", "nm", "br", "ca", "c2", "c3", "c4", "c5", "va", "pr", "qt", "cp", "ds", "lp", "ln", "li", "af", "lo",
        "pi", "pn", "cn", "cs",
    ];
    let Some(name) = text.get(..2) else { return false };
    NAMES.contains(&name) || matches!(name.as_bytes(), [b'k' | b'v', b'0'..=b'9' | b'A'..=b'Z'])
}

/// The items of a payload.
fn items<'a>(products: &mut Vec<Product<'a>>, value: ParameterValue<'a>) {
    let ParameterValue::Json(json) = value else { return };
    let Ok(items) = serde_json::from_str::<Vec<&'a RawValue>>(json) else { return };
    for (index, item) in (1..=MOST_INDEX).zip(items) {
        let Ok(members) = serde_json::from_str::<Members<'a>>(item.get()) else { continue };
        let Some(product) = at(products, index) else { continue };
        for (name, value) in members.0 {
            let value = match serde_json::from_str::<Text<'a>>(value.get()) {
                Ok(text) => Field::Text(text.0),
                Err(_) => Field::Json(ParameterValue::Json(value.get())),
            };
            let field = match &*name {
                "item_id" => "id",
                "item_name" => "nm",
                "item_brand" => "br",
                "item_category" => "ca",
                "item_variant" => "va",
                "coupon" => "cc",
                "price" => "pr",
                "quantity" => "qt",
                "index" => "ps",
                _ => {
                    product.raw.push((name, value));
                    continue;
                }
            };
            if let Some(value) = product.take(field, value) {
                product.raw.push((name, value));
            }
        }
    }
}

/// A string, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of an object, in order.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<'a>(PhantomData<&'a ()>);
        impl<'de: 'a, 'a> Visitor<'de> for Object<'a> {
            type Value = Members<'a>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object(PhantomData))
    }
}

/// `pr12nm` → 12, `nm`, and `pr12` → 12 and nothing. The protocol writes no leading zeros.
fn split(name: &str) -> Option<(u16, &str)> {
    let rest = name.strip_prefix("pr")?;
    let field = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let digits = rest.strip_suffix(field)?;
    let is_index = (1..=3).contains(&digits.len()) && !digits.starts_with('0');
    let index = digits.parse().ok().filter(|index| is_index && *index <= MOST_INDEX)?;
    Some((index, field))
}

/// The product of an index, inserted at its place if it is missing.
fn at<'p, 'a>(products: &'p mut Vec<Product<'a>>, index: u16) -> Option<&'p mut Product<'a>> {
    let place = match products.last() {
        Some(last) if last.index == index => products.len() - 1,
        _ => match products.binary_search_by_key(&index, |product| product.index) {
            Ok(place) => place,
            Err(place) => {
                products.insert(place, Product { index, ..Product::default() });
                place
            }
        },
    };
    products.get_mut(place)
}

impl<'a> Product<'a> {
    fn set(&mut self, field: Cow<'a, str>, value: Field<'a>) {
        if let Some(value) = self.take(&field, value) {
            self.raw.push((field, value));
        }
    }

    /// Sets a field of an item of gtag.js.
    fn set_item(&mut self, field: &'a str, value: Cow<'a, str>) {
        let name = match field {
            "cp" => "cc",
            "lp" => "ps",
            // These mean something else there.
            "cc" | "ps" => "",
            other => other,
        };
        if let Some(value) = self.take(name, Field::Text(value)) {
            self.raw.push((field.into(), value));
        }
    }

    /// Sets a typed field. Gives the value back if there is no such field, or if the value has another type.
    fn take(&mut self, field: &str, value: Field<'a>) -> Option<Field<'a>> {
        let place = match field {
            "id" => &mut self.id,
            "nm" => &mut self.name,
            "br" => &mut self.brand,
            "ca" => &mut self.category,
            "va" => &mut self.variant,
            "cc" => &mut self.coupon,
            _ => {
                let number = match &value {
                    Field::Text(text) => &**text,
                    Field::Json(ParameterValue::Text(text) | ParameterValue::Json(text)) => text,
                };
                let is_taken = match field {
                    "pr" => keep(&mut self.price, price(number)),
                    "qt" => keep(&mut self.quantity, integer(number)),
                    "ps" => keep(&mut self.position, integer(number)),
                    _ => false,
                };
                return (!is_taken).then_some(value);
            }
        };
        match value {
            Field::Text(text) => *place = Some(text),
            // An id of digits that a shop sends as a number is the same id.
            Field::Json(ParameterValue::Json(json)) if is_number(json) => *place = Some(json.into()),
            json @ Field::Json(_) => return Some(json),
        }
        None
    }
}

/// Sets a field if there is a value. Returns whether there was one.
fn keep<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    let is_some = value.is_some();
    if is_some {
        *place = value;
    }
    is_some
}

fn price(text: &str) -> Option<f64> {
    // `parse` also accepts `inf` and `NaN`.
    if text.bytes().any(|byte| byte.is_ascii_alphabetic() && !matches!(byte, b'e' | b'E')) {
        return None;
    }
    text.parse().ok().filter(|price: &f64| price.is_finite())
}

/// Whole numbers, also as `2.0`, which programs without an integer type write.
fn integer(text: &str) -> Option<i64> {
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    text.parse().ok().or_else(|| {
        let number = price(text).filter(|number| number.fract() == 0.0 && number.abs() <= LARGEST)?;
        #[expect(clippy::cast_possible_truncation, reason = "whole and within 2^53")]
        Some(number as i64)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn form(raw: &str) -> Hit {
        Hit::from_form(raw.as_bytes()).unwrap()
    }

    fn written(hit: &Hit) -> Value {
        serde_json::to_value(products(hit)).unwrap()
    }

    #[test]
    fn products_are_typed_and_in_order() {
        let hit = form(
            "pa=purchase&pr2nm=Shirt&pr2pr=29.20&pr2qt=2&pr10id=P10&pr10ps=4&pr2cd3=blue&pr2cm1=7&pr1id=P1&pr1nm=A&pr1br=B\
             &pr1ca=C%2FD&pr1va=V&pr1cc=SUMMER&pr1pr=-1e2&pr1qt=0",
        );
        let product = |index: u16| {
            json!({
                "index": index, "id": null, "name": null, "brand": null, "category": null, "variant": null, "price": null,
                "quantity": null, "coupon": null, "position": null, "raw": {},
            })
        };
        let with = |index: u16, more: Value| {
            let mut product = product(index);
            product.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            product
        };
        assert_eq!(
            written(&hit),
            json!([
                with(
                    1,
                    json!({
                        "id": "P1", "name": "A", "brand": "B", "category": "C/D", "variant": "V", "coupon": "SUMMER",
                        "price": -100.0, "quantity": 0,
                    })
                ),
                with(2, json!({"name": "Shirt", "price": 29.2, "quantity": 2, "raw": {"cd3": "blue", "cm1": "7"}})),
                with(10, json!({"id": "P10", "position": 4})),
            ])
        );
        assert_eq!(written(&form("v=1")), json!([]));
    }

    #[test]
    fn what_is_not_of_its_type_is_kept_raw() {
        for (text, price, quantity) in [
            ("1", Some(1.0), Some(1)),
            ("2.0", Some(2.0), Some(2)),
            ("2.5", Some(2.5), None),
            ("1e3", Some(1_000.0), Some(1_000)),
            ("-3", Some(-3.0), Some(-3)),
            ("9223372036854775807", Some(i64::MAX as f64), Some(i64::MAX)),
            ("9223372036854775808", Some(i64::MAX as f64), None),
            ("1e400", None, None),
            ("inf", None, None),
            ("NaN", None, None),
            ("", None, None),
            ("1,50", None, None),
            ("0x10", None, None),
            ("12 EUR", None, None),
        ] {
            let mut hit = Hit::default();
            hit.set("pr1pr", text);
            hit.set("pr1qt", text);
            let found = products(&hit);
            assert_eq!((found[0].price, found[0].quantity), (price, quantity), "{text}");
            let missing = usize::from(price.is_none()) + usize::from(quantity.is_none());
            assert_eq!(found[0].raw.len(), missing, "{text}");
            assert!(found[0].raw.iter().all(|(_, raw)| *raw == Field::Text(text.into())));
        }
    }

    #[test]
    fn json_values_keep_their_types() {
        let raw =
            br#"{"pr1id":7,"pr1nm":"x","pr1pr":9.5,"pr1qt":"3","pr1ps":2.0,"pr1cd1":[1],"pr1br":null,"pr2pr":true}"#;
        let found = written(&Hit::from_json(raw).unwrap());
        let [first, second] = [&found[0], &found[1]];
        assert_eq!((&first["price"], &first["quantity"], &first["position"]), (&json!(9.5), &json!(3), &json!(2)));
        assert_eq!(first["id"], "7");
        assert_eq!(first["raw"], json!({"cd1": [1], "br": null}));
        assert_eq!((&second["price"], &second["raw"]), (&Value::Null, &json!({"pr": true})));
    }

    #[test]
    fn names_that_are_none_of_products_are_none() {
        for name in
            ["pr", "pr0id", "pr01id", "pr201id", "pr999999999999id", "prid", "promo1id", "p1id", "xpr1id", "pr-1id"]
        {
            assert_eq!(split(name), None, "{name}");
        }
        for (name, expected) in
            [("pr200id", (200, "id")), ("pr1é", (1, "é")), ("pr12cd34", (12, "cd34")), ("pr1", (1, ""))]
        {
            assert_eq!(split(name), Some(expected), "{name}");
        }
        assert_eq!(products(&form("pr999999999999id=1&pr0id=2")), []);
    }

    #[test]
    fn two_hundred_products_in_any_order_are_in_order() {
        let hit = form(&(1..=200).rev().map(|n| format!("pr{n}id={n}&")).collect::<String>());
        let found = products(&hit);
        assert!(found.iter().map(|product| product.index).eq(1..=200));
        assert!(found.iter().all(|product| product.id.as_deref() == Some(product.index.to_string().as_str())));
    }

    fn item(text: &str) -> Value {
        let mut hit = Hit::default();
        hit.set("pr1", text);
        let mut product = written(&hit)[0].clone();
        product
            .as_object_mut()
            .unwrap()
            .retain(|name, value| name != "index" && !value.is_null() && *value != json!({}));
        product
    }

    #[test]
    fn items_of_gtag_are_products() {
        for (text, expected) in [
            (
                "idP1~nmT-shirt~brB~caMen~c2Shirts~vaBlack~pr29.2~qt2~cpSUMMER~lp4~ds1.5~k0size~v0XL",
                json!({
                    "id": "P1", "name": "T-shirt", "brand": "B", "category": "Men", "variant": "Black", "price": 29.2, "quantity": 2,
                    "coupon": "SUMMER", "position": 4, "raw": {"c2": "Shirts", "ds": "1.5", "k0": "size", "v0": "XL"},
                }),
            ),
            ("idP1~nmA~", json!({"id": "P1", "name": "A"})),
            ("nmA~~B~~~~C~idP1", json!({"name": "A~B~~C", "id": "P1"})),
            ("nmA ~ B~pr1", json!({"name": "A ~ B", "price": 1.0})),
            ("nmA~~", json!({"name": "A~"})),
            ("nm~idP1", json!({"name": "", "id": "P1"})),
            ("prfree~lpX~x", json!({"raw": {"pr": "free", "lp": "X~x"}})),
            ("é", json!({"raw": {"é": ""}})),
            ("i", json!({"raw": {"i": ""}})),
        ] {
            assert_eq!(item(text), expected, "{text}");
        }
    }

    #[test]
    fn items_of_a_payload_are_products() {
        let raw = json!({"items": [
            {"item_id": "P1", "item_name": "T \"large\"", "price": 29.2, "quantity": 2, "index": 4, "coupon": null, "discount": 1.5},
            7,
            {"item_id": 3, "price": "free", "item_category2": "Shirts"},
        ]});
        let found = written(&Hit::from_json(raw.to_string().as_bytes()).unwrap());
        assert_eq!(found.as_array().unwrap().len(), 2);
        assert_eq!(
            (&found[0]["name"], &found[0]["price"], &found[0]["position"]),
            (&json!("T \"large\""), &json!(29.2), &json!(4))
        );
        assert_eq!(found[0]["raw"], json!({"coupon": null, "discount": 1.5}));
        assert_eq!(
            (&found[1]["index"], &found[1]["id"], &found[1]["raw"]),
            (&json!(3), &json!("3"), &json!({"price": "free", "item_category2": "Shirts"}))
        );
        assert_eq!(written(&form("items=x")), json!([]));
    }

    proptest! {
        /// As gtag.js writes them.
        #[test]
        fn items_of_gtag_round_trip(
            given in prop::collection::vec((prop::sample::select(vec!["id", "nm", "br", "c2", "k0", "ln"]), "[a-z~ é]{0,8}"), 1..6),
            trailing in any::<bool>(),
        ) {
            let mut text = given.iter().map(|(name, value)| format!("{name}{}", value.replace('~', "~~"))).collect::<Vec<_>>().join("~");
            if trailing {
                text.push('~');
            }
            let mut found = Vec::new();
            fields(&text, |name, value| found.push((name, value.into_owned())));
            prop_assert_eq!(found, given);
        }

        #[test]
        fn no_item_panics_or_loses_a_character(text in "[a-z0-9~é]{0,30}") {
            let mut letters = String::new();
            fields(&text, |name, value| {
                letters.push_str(name);
                letters.push_str(&value);
            });
            prop_assert_eq!(letters.replace('~', ""), text.replace('~', ""));
        }

        #[test]
        fn products_round_trip(
            given in prop::collection::btree_map(
                1_u16..=200,
                (".{0,8}", -1e12..1e12_f64, any::<i64>(), prop::collection::btree_map(1_u8..=200, ".{0,5}", 0..3)),
                0..8,
            ),
        ) {
            let mut hit = Hit::default();
            for (index, (name, price, quantity, dimensions)) in given.iter().rev() {
                hit.set(&format!("pr{index}nm"), name);
                hit.set(&format!("pr{index}pr"), &price.to_string());
                hit.set(&format!("pr{index}qt"), &quantity.to_string());
                for (k, text) in dimensions {
                    hit.set(&format!("pr{index}cd{k}"), text);
                }
            }
            let found = written(&hit);
            let found = found.as_array().unwrap();
            prop_assert_eq!(found.len(), given.len());
            for (found, (index, (name, price, quantity, dimensions))) in found.iter().zip(given) {
                prop_assert_eq!(&found["index"], &json!(index));
                prop_assert_eq!(&found["name"], &json!(name));
                let typed = products(&hit);
                prop_assert_eq!(typed.iter().find(|typed| typed.index == index).unwrap().price, Some(price));
                prop_assert_eq!(&found["quantity"], &json!(quantity));
                for (k, text) in dimensions {
                    prop_assert_eq!(&found["raw"][format!("cd{k}")], &json!(text));
                }
            }
        }
    }
}
