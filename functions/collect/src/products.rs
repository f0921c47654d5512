//! `pr<n>id`, `pr<n>nm`, … → products, in the order of n.
//!
//! | parameter | field |
//! |---|---|
//! | `id` `nm` `br` `ca` `va` `cc` | `id` `name` `brand` `category` `variant` `coupon` |
//! | `pr` | `price`, a number |
//! | `qt` `ps` | `quantity`, `position`, integers |
//! | `cd<k>`, `cm<k>`, any other, and those above whose value has the wrong type | `raw`, unchanged |
//!
//! Source: "Enhanced e-commerce: product", Measurement Protocol parameter reference.

use serde::Serialize;

use crate::{
    event::object,
    hit::{Hit, ParameterValue},
};

/// The largest n of the protocol.
const MOST_INDEX: u16 = 200;

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Product<'a> {
    /// The n of its parameters, 1 to 200. There may be gaps.
    pub index: u16,
    pub id: Option<&'a str>,
    pub name: Option<&'a str>,
    pub brand: Option<&'a str>,
    /// Up to five levels, separated by `/`.
    pub category: Option<&'a str>,
    pub variant: Option<&'a str>,
    /// Of one item, in the currency of the hit. Finite.
    pub price: Option<f64>,
    pub quantity: Option<i64>,
    pub coupon: Option<&'a str>,
    /// Position in a list.
    pub position: Option<i64>,
    /// All other fields, keyed by the rest of the parameter's name after `pr<n>`, such as `cd1`.
    #[serde(serialize_with = "object")]
    pub raw: Vec<(&'a str, ParameterValue<'a>)>,
}

/// The products of a hit.
#[must_use]
pub fn products(hit: &Hit) -> Vec<Product<'_>> {
    let mut products: Vec<Product<'_>> = Vec::new();
    for (name, value) in hit.iter() {
        if let Some((index, field)) = split(name)
            && let Some(product) = at(&mut products, index)
        {
            product.set(field, value);
        }
    }
    products
}

/// `pr12nm` → 12, `nm`. The protocol writes no leading zeros.
fn split(name: &str) -> Option<(u16, &str)> {
    let rest = name.strip_prefix("pr")?;
    let field = rest.trim_start_matches(|digit: char| digit.is_ascii_digit());
    let digits = rest.strip_suffix(field)?;
    let is_index = (1..=3).contains(&digits.len()) && !digits.starts_with('0') && !field.is_empty();
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
    fn set(&mut self, field: &'a str, value: ParameterValue<'a>) {
        let (text, number) = match value {
            ParameterValue::Text(text) => (Some(text), Some(text)),
            ParameterValue::Json(json) => (None, Some(json)),
        };
        let is_taken = match field {
            "id" => keep(&mut self.id, text),
            "nm" => keep(&mut self.name, text),
            "br" => keep(&mut self.brand, text),
            "ca" => keep(&mut self.category, text),
            "va" => keep(&mut self.variant, text),
            "cc" => keep(&mut self.coupon, text),
            "pr" => keep(&mut self.price, number.and_then(price)),
            "qt" => keep(&mut self.quantity, number.and_then(integer)),
            "ps" => keep(&mut self.position, number.and_then(integer)),
            _ => false,
        };
        if !is_taken {
            self.raw.push((field, value));
        }
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
            assert!(found[0].raw.iter().all(|(_, raw)| *raw == ParameterValue::Text(text)));
        }
    }

    #[test]
    fn json_values_keep_their_types() {
        let raw =
            br#"{"pr1id":7,"pr1nm":"x","pr1pr":9.5,"pr1qt":"3","pr1ps":2.0,"pr1cd1":[1],"pr1br":null,"pr2pr":true}"#;
        let found = written(&Hit::from_json(raw).unwrap());
        let [first, second] = [&found[0], &found[1]];
        assert_eq!((&first["price"], &first["quantity"], &first["position"]), (&json!(9.5), &json!(3), &json!(2)));
        assert_eq!(first["raw"], json!({"id": 7, "cd1": [1], "br": null}));
        assert_eq!((&second["price"], &second["raw"]), (&Value::Null, &json!({"pr": true})));
    }

    #[test]
    fn names_that_are_none_of_products_are_none() {
        for name in [
            "pr",
            "pr1",
            "pr0id",
            "pr01id",
            "pr201id",
            "pr999999999999id",
            "prid",
            "promo1id",
            "p1id",
            "xpr1id",
            "pr-1id",
        ] {
            assert_eq!(split(name), None, "{name}");
        }
        for (name, expected) in [("pr200id", (200, "id")), ("pr1é", (1, "é")), ("pr12cd34", (12, "cd34"))] {
            assert_eq!(split(name), Some(expected), "{name}");
        }
        assert_eq!(products(&form("pr999999999999id=1&pr0id=2")), []);
    }

    #[test]
    fn two_hundred_products_in_any_order_are_in_order() {
        let hit = form(&(1..=200).rev().map(|n| format!("pr{n}id={n}&")).collect::<String>());
        let found = products(&hit);
        assert!(found.iter().map(|product| product.index).eq(1..=200));
        assert!(found.iter().all(|product| product.id == Some(product.index.to_string().as_str())));
    }

    proptest! {
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
