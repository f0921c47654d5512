//! A hit, and the three ways in which Measurement Protocol clients write it down.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// What stays as it is in a form, as `encodeURIComponent` of a browser has it.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// What a visitor did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Saw a page: `t=pageview`.
    Pageview,
    /// Looked at a product: `pa=detail`.
    Detail,
    /// Put a product into the cart: `pa=add`.
    Add,
    /// Took a product out of the cart: `pa=remove`.
    Remove,
    /// Bought what is in the cart: `pa=purchase`.
    Purchase,
    /// Did something else: `t=event` with `ec` and `ea` only.
    Event,
}

impl Kind {
    /// All kinds, as they are listed.
    pub const ALL: [Self; 6] = [Self::Pageview, Self::Detail, Self::Add, Self::Remove, Self::Purchase, Self::Event];

    /// Its name, which is also its product action where it has one.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pageview => "pageview",
            Self::Detail => "detail",
            Self::Add => "add",
            Self::Remove => "remove",
            Self::Purchase => "purchase",
            Self::Event => "event",
        }
    }

    /// Its place in [`Kind::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Pageview => 0,
            Self::Detail => 1,
            Self::Add => 2,
            Self::Remove => 3,
            Self::Purchase => 4,
            Self::Event => 5,
        }
    }
}

/// One hit of Measurement Protocol v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    /// What the visitor did.
    pub kind: Kind,
    /// What tells sessions apart.
    pub session: u64,
    /// The browser, which a request names in its header and a batch in each hit.
    pub user_agent: &'static str,
    /// Names and values in the order in which they are sent.
    pub parameters: Parameters,
}

/// Names and values in their order. As JSON, an object of texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Cow<'static, str>, Cow<'static, str>)>);

impl Parameters {
    /// One more parameter.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) {
        self.0.push((name.into(), value.into()));
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The parameters as a form or a query string has them.
    #[must_use]
    pub fn to_form(&self) -> String {
        let mut form = String::new();
        for (name, value) in self.iter() {
            if !form.is_empty() {
                form.push('&');
            }
            form.extend(utf8_percent_encode(name, ESCAPED));
            form.push('=');
            form.extend(utf8_percent_encode(value, ESCAPED));
        }
        form
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            object.serialize_entry(name, value)?;
        }
        object.end()
    }
}

/// What a product is called in a hit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Product {
    /// Its SKU.
    pub id: String,
    /// Its name, when it is known.
    pub name: Option<String>,
    /// Its category, when it is known.
    pub category: Option<String>,
    /// Its brand, when it is known.
    pub brand: Option<String>,
    /// Its price, when it is known.
    pub price: Option<String>,
}

impl Product {
    /// The parameters `pr<n>id` and so on. A quantity of none is left out.
    pub fn write(&self, parameters: &mut Parameters, number: usize, quantity: Option<u32>) {
        parameters.push(format!("pr{number}id"), self.id.clone());
        let others = [("nm", &self.name), ("ca", &self.category), ("br", &self.brand), ("pr", &self.price)];
        for (suffix, value) in others {
            if let Some(value) = value {
                parameters.push(format!("pr{number}{suffix}"), value.clone());
            }
        }
        if let Some(quantity) = quantity {
            parameters.push(format!("pr{number}qt"), quantity.to_string());
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    /// Reads a form as a server does.
    pub(crate) fn decoded(form: &str) -> Vec<(String, String)> {
        let text = |raw: &str| percent_decode_str(&raw.replace('+', " ")).decode_utf8().unwrap().into_owned();
        form.split('&')
            .map(|pair| pair.split_once('=').unwrap())
            .map(|(name, value)| (text(name), text(value)))
            .collect()
    }

    pub(crate) fn pairs(parameters: &Parameters) -> Vec<(String, String)> {
        parameters.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn every_kind_is_at_its_place() {
        assert_eq!(Kind::ALL.map(Kind::index), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_form_is_escaped_as_a_browser_does() {
        let mut parameters = Parameters::default();
        parameters.push("dt", "Größe & Maß+1 (neu)");
        parameters.push("z", "1");
        assert_eq!(parameters.to_form(), "dt=Gr%C3%B6%C3%9Fe%20%26%20Ma%C3%9F%2B1%20(neu)&z=1");
        assert_eq!(serde_json::to_string(&parameters).unwrap(), r#"{"dt":"Größe & Maß+1 (neu)","z":"1"}"#);
    }

    #[test]
    fn of_a_product_only_what_is_known_is_sent() {
        let mut parameters = Parameters::default();
        Product { id: "A1".into(), price: Some("9.90".into()), ..Product::default() }.write(
            &mut parameters,
            2,
            Some(3),
        );
        assert_eq!(parameters.to_form(), "pr2id=A1&pr2pr=9.90&pr2qt=3");
    }

    proptest! {
        #[test]
        fn a_form_decodes_to_its_parameters(texts in prop::collection::vec((".{0,8}", any::<String>()), 1..6)) {
            let mut parameters = Parameters::default();
            texts.iter().for_each(|(name, value)| parameters.push(name.clone(), value.clone()));
            prop_assert_eq!(decoded(&parameters.to_form()), texts);
        }
    }
}
