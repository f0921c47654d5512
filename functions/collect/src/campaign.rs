//! The campaign that a hit came by: parameters of the hit, or else those in the address of its page.
//!
//! | member | version 1, gtag.js | event `campaign_details` | in `dl` |
//! |---|---|---|---|
//! | `source` `medium` `name` | `cs` `cm` `cn` | `ep.source` `ep.medium` `ep.campaign` | `utm_source` `utm_medium` `utm_campaign` |
//! | `term` `content` `id` | `ck` `cc` `ci` | `ep.term` `ep.content` `ep.campaign_id` | `utm_term` `utm_content` `utm_id` |
//! | `click` | a parameter of that name | | the first one of that name |
//!
//! Sources: "Traffic sources", Measurement Protocol parameter reference; "Campaigns and traffic sources" and "URL builders", Google
//! Analytics help; for click ids, the help pages of the networks that add them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use serde::Serialize;

use crate::{hit::Hit, privacy::Cleaner, redact::REDACTED};

/// Parameters by which an advertising network recognises one click of one visitor.
pub const CLICK_IDS: [&str; 16] = [
    "gclid",
    "dclid",
    "gbraid",
    "wbraid",
    "fbclid",
    "msclkid",
    "ttclid",
    "twclid",
    "li_fat_id",
    "yclid",
    "igshid",
    "epik",
    "rdt_cid",
    "sccid",
    "irclickid",
    "mc_eid",
];

/// Parameters that have a click id in them: of Google's linker and tag, and of Meta's.
///
/// Sources: "Set up cross-domain measurement", Google Analytics help; "fbp and fbc Parameters", Meta for Developers. That `_gl` has
/// `_gcl_aw` in it, and that a click id, others describe.
const CARRIERS: [&str; 4] = ["_gl", "_gcl_aw", "fbc", "_fbc"];

/// Most pairs of a query string that are looked at.
const MOST_PAIRS: usize = 100;

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Campaign<'a> {
    pub source: Option<Cow<'a, str>>,
    pub medium: Option<Cow<'a, str>>,
    pub name: Option<Cow<'a, str>>,
    pub term: Option<Cow<'a, str>>,
    pub content: Option<Cow<'a, str>>,
    pub id: Option<Cow<'a, str>>,
    pub click: Option<Click<'a>>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Click<'a> {
    /// One of [`CLICK_IDS`].
    pub kind: &'static str,
    pub id: Cow<'a, str>,
}

/// The campaign of a hit that was cleaned. `None` if nothing says that there is one.
///
/// What is decoded is cleaned again, because a `+` of a query string can be the space that a secret is recognised by.
pub fn campaign<'a>(hit: &'a Hit, cleaner: &mut Cleaner) -> Option<Campaign<'a>> {
    let mut campaign = Campaign::default();
    let explains = hit.get("en") == Some("campaign_details");
    let set = |name: &str, event: &str| {
        let text = hit.get(name).or_else(|| if explains { hit.get(event) } else { None });
        text.filter(|text| !text.is_empty()).map(Cow::Borrowed)
    };
    campaign.source = set("cs", "ep.source");
    campaign.medium = set("cm", "ep.medium");
    campaign.name = set("cn", "ep.campaign");
    campaign.term = set("ck", "ep.term");
    campaign.content = set("cc", "ep.content");
    campaign.id = set("ci", "ep.campaign_id");
    campaign.click = hit.iter().find_map(|(name, _)| {
        let kind = click_id(name)?;
        let id = hit.get(name).filter(|id| is_kept(id))?;
        Some(Click { kind, id: Cow::Borrowed(id) })
    });
    for (name, value) in hit.get("dl").into_iter().flat_map(pairs) {
        let member = match name {
            "utm_source" => &mut campaign.source,
            "utm_medium" => &mut campaign.medium,
            "utm_campaign" => &mut campaign.name,
            "utm_term" => &mut campaign.term,
            "utm_content" => &mut campaign.content,
            "utm_id" => &mut campaign.id,
            _ => {
                if let (None, Some(kind), true) = (&campaign.click, click_id(name), is_kept(value)) {
                    campaign.click = Some(Click { kind, id: clean(decoded(value), cleaner) });
                }
                continue;
            }
        };
        if member.is_none() {
            *member = Some(clean(decoded(value), cleaner));
        }
    }
    (campaign != Campaign::default()).then_some(campaign)
}

/// Whether a click id is there, and is stored.
fn is_kept(id: &str) -> bool {
    !id.is_empty() && id != REDACTED
}

/// Whether a parameter is a click id, or has one in it.
pub(crate) fn has_click_id(name: &str) -> bool {
    click_id(name).is_some() || CARRIERS.contains(&of_event(name))
}

/// The click ids in a URL, decoded.
pub(crate) fn clicks(url: &str) -> impl Iterator<Item = Cow<'_, str>> {
    pairs(url).filter(|(name, _)| click_id(name).is_some()).map(|(_, value)| decoded(value))
}

/// The name without what gtag.js writes before those of its user.
fn of_event(name: &str) -> &str {
    ["ep.", "epn.", "up.", "upn."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

/// The click id of this name, also of a parameter of an event (`ep.gclid`).
pub(crate) fn click_id(name: &str) -> Option<&'static str> {
    let name = of_event(name);
    // The shortest and the longest of them: most names are none.
    if !(4..=9).contains(&name.len()) {
        return None;
    }
    CLICK_IDS.into_iter().find(|id| name.eq_ignore_ascii_case(id))
}

/// Pairs of query string and fragment whose value is not empty.
fn pairs(url: &str) -> impl Iterator<Item = (&str, &str)> {
    let query = url.find(['?', '#']).and_then(|at| url.get(at + 1..)).unwrap_or_default();
    query
        .split(['&', '#', '?'])
        .take(MOST_PAIRS)
        .filter_map(|pair| pair.split_once('='))
        .filter(|(_, value)| !value.is_empty())
}

fn decoded(value: &str) -> Cow<'_, str> {
    let spaced = if value.contains('+') { Cow::Owned(value.replace('+', " ")) } else { Cow::Borrowed(value) };
    match spaced.contains('%') {
        true => Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned()),
        false => spaced,
    }
}

fn clean<'a>(value: Cow<'a, str>, cleaner: &mut Cleaner) -> Cow<'a, str> {
    match value {
        // A part of a text that was cleaned.
        Cow::Borrowed(value) => Cow::Borrowed(value),
        Cow::Owned(value) => Cow::Owned(cleaner.derived(&value).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::privacy::Decision;

    fn found(raw: &str) -> Value {
        let hit = Hit::from_form(raw.as_bytes()).unwrap();
        let mut cleaner = Cleaner::new(Decision::default(), &hit, "", &[]);
        let clean = cleaner.hit(&hit);
        let value = serde_json::to_value(campaign(&clean, &mut cleaner)).unwrap();
        match value {
            Value::Object(members) => members.into_iter().filter(|(_, value)| !value.is_null()).collect(),
            other => other,
        }
    }

    #[test]
    fn parameters_come_before_those_in_the_address() {
        let page = "https%3A%2F%2Fshop.example%2F%3Futm_source%3Dnews%26utm_medium%3Dmail%26utm_campaign%3Dspring%2Bsale%2520%25C3%25A4%26utm_id%3D7%26gclid%3DAb-1";
        assert_eq!(
            found(&format!("v=1&dl={page}")),
            json!({"source": "news", "medium": "mail", "name": "spring sale ä", "id": "7", "click": {"kind": "gclid", "id": "Ab-1"}})
        );
        assert_eq!(
            found(&format!("v=1&dl={page}&cs=shop&ck=shoes&cc=a&ci=8&cn=autumn&msclkid=9")),
            json!({
                "source": "shop", "medium": "mail", "name": "autumn", "term": "shoes", "content": "a", "id": "8",
                "click": {"kind": "msclkid", "id": "9"},
            })
        );
        assert_eq!(found("v=2&dl=https://a.example/%23utm_source=x%26FBCLID=y")["click"]["kind"], "fbclid");
        assert_eq!(found("v=2&en=campaign_details&ep.source=a&ep.campaign=b"), json!({"source": "a", "name": "b"}));
        assert_eq!(found("v=2&en=login&ep.source=a"), Value::Null);
    }

    #[test]
    fn without_a_campaign_there_is_none() {
        for raw in [
            "v=1",
            "dl=https://a.example/",
            "dl=https://a.example/?q=1%26utm_source=",
            "dl=?utm_sourcex=1",
            "gclid=",
            "gclid=%5Bredacted%5D&dl=?gclid=%5Bredacted%5D",
            "dl=utm_source=1",
        ] {
            assert_eq!(found(raw), Value::Null, "{raw}");
        }
    }

    #[test]
    fn secrets_stay_out_when_a_value_is_decoded() {
        for (raw, source) in [
            ("dl=?utm_source=ann%2540shop.example", "[redacted]"),
            ("dl=?utm_source=Bearer%2B5ecret77-5ecret77", "Bearer [redacted]"),
        ] {
            assert_eq!(found(raw)["source"], source, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_found(source in "[^\\p{Cc}@=:%&#?+]{1,20}") {
            let value = percent_encoding::utf8_percent_encode(&source, percent_encoding::NON_ALPHANUMERIC).to_string();
            let url = format!("https://a.example/?a=b&utm_source={value}#top");
            let raw = format!("dl={}", percent_encoding::utf8_percent_encode(&url, percent_encoding::NON_ALPHANUMERIC));
            prop_assert_eq!(found(&raw), json!({"source": source}));
        }

        #[test]
        fn no_address_panics(url in ".{0,80}") {
            clicks(&url).for_each(drop);
            found(&format!("dl={}", percent_encoding::utf8_percent_encode(&url, percent_encoding::NON_ALPHANUMERIC)));
        }
    }
}
