//! What a browser says about itself in client hints, which go on being true while user agents are frozen.
//!
//! | member | parameter of gtag.js | header |
//! |---|---|---|
//! | `brand`, `version` | `uafvl` | `sec-ch-ua-full-version-list`, or else `sec-ch-ua` |
//! | `platform`, `platform_version`, `model` | `uap`, `uapv`, `uam` | `sec-ch-ua-platform`, `sec-ch-ua-platform-version`, `sec-ch-ua-model` |
//! | `mobile` | `uamb` | `sec-ch-ua-mobile` |
//!
//! Headers count only if the hit has no `ua`: with it, a server sends for somebody else.
//!
//! Sources: "User-Agent Client Hints", W3C community group; requests of gtag.js, as others describe them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::hit::Hit;

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hints<'a> {
    /// `Google Chrome`, `Microsoft Edge`, …: the first one that is neither invented nor Chromium, on which others are built.
    pub brand: Option<Cow<'a, str>>,
    pub version: Option<&'a str>,
    /// `Windows`, `Android`, …
    pub platform: Option<&'a str>,
    pub platform_version: Option<&'a str>,
    pub mobile: Option<bool>,
    /// Of the device, such as `Pixel 9`.
    pub model: Option<&'a str>,
}

/// The hints of a hit and of headers, both of them cleaned. `None` if there are none.
pub(crate) fn hints<'a>(hit: &'a Hit, headers: &'a [(&str, Cow<'_, str>)]) -> Option<Hints<'a>> {
    let mut hints = Hints::default();
    let mut full = false;
    if hit.get("ua").is_none_or(str::is_empty) {
        for (name, value) in headers {
            match name.strip_prefix("sec-ch-ua") {
                None => {}
                Some("") if !full => (hints.brand, hints.version) = brand(quoted(value)),
                Some("-full-version-list") => {
                    full = true;
                    (hints.brand, hints.version) = brand(quoted(value));
                }
                Some("-platform") => hints.platform = unquoted(value),
                Some("-platform-version") => hints.platform_version = unquoted(value),
                Some("-mobile") => hints.mobile = mobile(value),
                Some("-model") => hints.model = unquoted(value),
                Some(_) => {}
            }
        }
    }
    let text = |name: &str| hit.get(name).filter(|text| !text.is_empty());
    if let Some(list) = text("uafvl") {
        (hints.brand, hints.version) = brand(list.split('|').filter_map(|pair| pair.split_once(';')));
    }
    hints.platform = text("uap").or(hints.platform);
    hints.platform_version = text("uapv").or(hints.platform_version);
    hints.model = text("uam").or(hints.model);
    hints.mobile = text("uamb").and_then(mobile).or(hints.mobile);
    (hints != Hints::default()).then_some(hints)
}

/// Brands and versions of a list such as `"Chromium";v="142", "Not_A Brand";v="99"`.
fn quoted(list: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut texts = list.split('"').skip(1).step_by(2);
    std::iter::from_fn(move || Some((texts.next()?, texts.next()?)))
}

fn brand<'a>(list: impl Iterator<Item = (&'a str, &'a str)>) -> (Option<Cow<'a, str>>, Option<&'a str>) {
    let mut found = (None, None);
    for (name, version) in list {
        // Browsers invent one, such as `Not)A;Brand`, so that nobody relies on the list.
        let is_invented = name.contains("Not") && name.contains("Brand");
        if is_invented || name.is_empty() {
            continue;
        }
        let decoded = match name.contains('%') {
            true => percent_decode_str(name).decode_utf8_lossy(),
            false => Cow::Borrowed(name),
        };
        let is_base = decoded == "Chromium";
        if !is_base || found.0.is_none() {
            found = (Some(decoded), Some(version));
        }
        if !is_base {
            break;
        }
    }
    found
}

fn unquoted(value: &str) -> Option<&str> {
    Some(value.trim().trim_matches('"')).filter(|text| !text.is_empty())
}

fn mobile(value: &str) -> Option<bool> {
    match value.trim() {
        "?1" | "1" => Some(true),
        "?0" | "0" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn found(form: &str, headers: &[(&str, &str)]) -> Value {
        let hit = Hit::from_form(form.as_bytes()).unwrap();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, Cow::Borrowed(*value))).collect();
        serde_json::to_value(hints(&hit, &headers)).unwrap()
    }

    const LIST: &str = "\"Not;A=Brand\";v=\"8\", \"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\"";

    #[test]
    fn headers_tell_browser_and_device() {
        let headers = [
            ("sec-ch-ua-full-version-list", "\"Chromium\";v=\"142.0.1\", \"Microsoft Edge\";v=\"142.0.9\""),
            ("sec-ch-ua", LIST),
            ("sec-ch-ua-mobile", "?1"),
            ("sec-ch-ua-platform", "\"Android\""),
            ("sec-ch-ua-platform-version", "\"16.0.0\""),
            ("sec-ch-ua-model", "\"Pixel 9\""),
        ];
        let all = json!({
            "brand": "Microsoft Edge", "version": "142.0.9", "platform": "Android", "platform_version": "16.0.0",
            "mobile": true, "model": "Pixel 9",
        });
        assert_eq!(found("v=1", &headers), all);
        assert_eq!(found("v=1&ua=Mozilla", &headers), Value::Null, "they are of the server that sends the hit");
        assert_eq!(found("v=1", &[("sec-ch-ua", LIST)])["brand"], "Google Chrome");
        assert_eq!(found("v=1", &[("sec-ch-ua", "\"Chromium\";v=\"142\"")])["brand"], "Chromium");
        assert_eq!(found("v=1", &[("sec-ch-ua-model", "\"\""), ("sec-ch-ua-arch", "\"arm\"")]), Value::Null);
    }

    #[test]
    fn parameters_of_gtag_count_more_than_headers() {
        let form = "v=2&uafvl=Chromium%3B142.0.1%7CGoogle%2520Chrome%3B142.0.2%7CNot_A%2520Brand%3B99&uamb=0&uap=macOS&uapv=26.1&uam=";
        assert_eq!(
            found(form, &[("sec-ch-ua-mobile", "?1"), ("sec-ch-ua-model", "\"x\"")]),
            json!({
                "brand": "Google Chrome", "version": "142.0.2", "platform": "macOS", "platform_version": "26.1", "mobile": false,
                "model": "x",
            })
        );
    }

    proptest! {
        #[test]
        fn no_list_panics(list in "[\";v=, a%|]{0,40}") {
            let mut hit = Hit::default();
            hit.set("uafvl", &list);
            let headers = ["sec-ch-ua", "sec-ch-ua-full-version-list"].map(|name| (name, Cow::Borrowed(&*list)));
            drop(hints(&hit, &headers));
            drop(hints(&Hit::default(), &headers));
        }
    }
}
