//! A hit and its encodings as a form, a query string and JSON.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, Serializer};

/// What `encodeURIComponent` of a browser leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// What a visitor did. The names are also the product actions (`pa`) of those that have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Pageview,
    Detail,
    Add,
    Remove,
    Purchase,
    /// An event other than those above: `t=event` without `pa`, or with `pa=click`.
    Event,
}

impl Kind {
    pub const ALL: [Self; 6] = [Self::Pageview, Self::Detail, Self::Add, Self::Remove, Self::Purchase, Self::Event];

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
}

/// One hit of Measurement Protocol v1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub kind: Kind,
    pub session: u64,
    /// Sent as a header of the request; in a batch, as a parameter of each hit.
    pub user_agent: &'static str,
    pub parameters: Parameters,
}

/// Names and values in the order in which they are sent. As JSON, an object of strings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(Cow<'static, str>, Cow<'static, str>)>);

impl Parameters {
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Cow<'static, str>>) {
        self.0.push((name.into(), value.into()));
    }

    pub fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value.as_ref()))
    }

    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(other, _)| *other == name).map(|(_, value)| value)
    }

    /// The parameters as a form or a query string.
    #[must_use]
    pub fn to_form(&self) -> String {
        let mut form = String::new();
        for (name, value) in self.iter() {
            if !form.is_empty() {
                form.push('&');
            }
            form.extend(utf8_percent_encode(name, UNRESERVED));
            form.push('=');
            form.extend(utf8_percent_encode(value, UNRESERVED));
        }
        form
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// A product, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Product {
    pub id: String,
    pub name: Option<String>,
    pub category: Option<String>,
    pub brand: Option<String>,
    pub price: Option<String>,
}

impl Product {
    /// Adds the parameters `pr<number>id` and so on. Fields that are `None` are omitted.
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

    /// Decodes a form as a server does.
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
    fn a_kind_has_the_same_name_everywhere() {
        assert_eq!(
            serde_json::to_string(&Kind::ALL).unwrap(),
            format!("{:?}", Kind::ALL.map(Kind::as_str)).replace(' ', "")
        );
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
    fn only_known_fields_of_a_product_are_sent() {
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
