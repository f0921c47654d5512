//! Decides what must not be stored of a request, and removes it before anything is stored or logged.
//!
//! | request has | policy | effect |
//! |---|---|---|
//! | `aip`, with any value, as Google reads it | any | anonymised |
//! | `Sec-GPC: 1` or `DNT: 1`; `gcs`, `gcd` or `consent` that say no | `ignore` | none |
//! | | `anonymise` | anonymised |
//! | | `drop-id` | anonymised, and the ids of client and session dropped |
//! | any | any | secrets redacted, see `redact` |
//!
//! | parameter | anonymised | client dropped, too |
//! |---|---|---|
//! | `uip`, `_uip` | shortened | shortened |
//! | `uid`; `user_data`, `em`, `_fid`, `user_location` of GA4 | dropped | dropped |
//! | `geoid` | dropped, unless it is a country | the same |
//! | `cid` | dropped if it equals `uid`, or has something in it that is redacted | dropped |
//! | `_gid`, `sid`, `ep.session_id`, `ga_session_id`, `_fplc`; `_ga`, also of a URL | kept | dropped |
//! | `gclid` and other click ids, and what has them in it, such as `_gl` (see `campaign`); also in other values | dropped | dropped |
//! | `_raw` (see `hit::UNREADABLE`), in which nothing can be found by its name | dropped | dropped |
//!
//! **Anonymised** also means that addresses are shortened (see `address`) in the source address and in the headers that carry
//! addresses, of which the last eight are kept, which proxies have added. If other parameters or headers repeat one of those
//! addresses or a dropped id, they are replaced there too. Ids of eight to 256 bytes are searched for: shorter ones occur in
//! unrelated text. Headers that name the server, such as `Host`, keep an address even if the client has the same one.
//!
//! Of a request that cannot be parsed, the text is searched for what it says about the visitor's wish (see `hit::Wish`): `aip`, consent
//! mode, or the word `denied`. Which ids it has is not known, so if it is anonymised, only the parameters of the protocol are kept of the
//! query string, and no `Referer`. If its site is not known either, the strictest policy that any site has counts.
//!
//! A `cid` or `uid` of a visitor who does not opt out in which something is redacted, such as an e-mail address, becomes `[redacted]-` and a hash of the
//! id, so that visitors stay apart.
//!
//! Sources: "Anonymize IP", Measurement Protocol parameter reference; "Global Privacy Control", W3C; "Consent mode", Google tag
//! platform; the letters of `gcd` as others describe them.

use std::{borrow::Cow, net::IpAddr, ops::RangeInclusive};

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    address::{carries_addresses, forwarded, is_about_the_server, parse_address, shorten},
    campaign::{click_id, clicks, has_click_id},
    headers::Header,
    hit::{Hit, ParameterValue, Replacement, UNREADABLE, Wish, is_of_protocol, is_state},
    products::{is_item, item_fields},
    redact::{Known, REDACTED, is_ga4_session, is_secret_name, redact},
};

/// Lengths of ids that are searched for in other texts. Shorter ones may be part of something else there. Longer ones are no ids (GA4
/// takes 256 characters), and to search for them would take time that grows with the square of their length.
const ID_BYTES: RangeInclusive<usize> = 8..=256;
/// Addresses of a header that are kept and searched for in other texts: the last ones, which proxies have added. A client can
/// send hundreds before them, and each costs time.
const MAX_ADDRESSES: usize = 8;
/// Click ids that are searched for in other texts: a click has one or two.
const MAX_CLICKS: usize = 8;

/// The reaction to visitors who opt out, from the least strict to the strictest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    Ignore,
    /// Shortens addresses and drops the user id.
    #[default]
    Anonymise,
    /// Shortens addresses, drops the user id and the client id.
    DropId,
}

impl Policy {
    /// Every policy, by the word for it in `OPT_OUT`.
    pub const WORDS: [(&'static str, Self); 3] =
        [("ignore", Self::Ignore), ("anonymise", Self::Anonymise), ("drop-id", Self::DropId)];
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Decision {
    pub anonymise: bool,
    /// Never without `anonymise`.
    pub drop_id: bool,
}

/// Decides what to do with a hit.
#[must_use]
pub fn decide(hit: &Hit, headers: &[Header<'_>], policy: Policy) -> Decision {
    // A gateway joins what a header says twice.
    let says_no = |value: &str| value.split(',').any(|part| part.trim() == "1");
    let is_opt_out = |(name, value): &Header<'_>| matches!(&**name, "sec-gpc" | "dnt") && says_no(value);
    let Wish { is_anonymous, denies_consent: denies_in_text } = hit.wish().unwrap_or_default();
    let denies = denies_in_text || denies_consent(hit);
    let opts_out = policy != Policy::Ignore && (headers.iter().any(is_opt_out) || denies);
    // Google: the parameter's presence is enough, whatever its value. A JSON null counts as absent.
    let has_aip = is_anonymous || hit.value("aip").is_some_and(|value| value != ParameterValue::Json("null"));
    Decision { anonymise: has_aip || opts_out, drop_id: opts_out && policy == Policy::DropId }
}

/// Whether consent mode says that nothing may be stored for analytics, or a payload that user data may not be used.
fn denies_consent(hit: &Hit) -> bool {
    // `G1`, then 1 or 0 for `ad_storage` and for `analytics_storage`.
    let status = hit.get("gcs").is_some_and(|text| text.starts_with("G1") && text.as_bytes().get(3) == Some(&b'0'));
    let state = hit.get("gcd").is_some_and(|text| is_state(text.as_bytes()));
    let consent = hit.value("consent").is_some_and(|value| match value {
        ParameterValue::Json(json) => serde_json::from_str::<Value>(json).is_ok_and(|consent| {
            consent.get("ad_user_data").and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case("denied"))
        }),
        // Of an object that is too long there is only the start.
        ParameterValue::Text(text) => text.to_ascii_lowercase().contains("denied"),
    });
    status || state || consent
}

/// Removes from the texts of one request what must not be stored, and counts the replacements.
#[derive(Debug)]
pub struct Cleaner {
    decision: Decision,
    known: Known,
    /// For headers that name the server.
    known_ids: Known,
    /// Whether there may be ids that are not known.
    hides_ids: bool,
    redacted: usize,
}

impl Cleaner {
    /// A cleaner for a hit, the address that it came from and the headers that it came with.
    #[must_use]
    pub fn new(decision: Decision, hit: &Hit, source_ip: &str, headers: &[Header<'_>]) -> Self {
        let known = if decision.anonymise { known(decision, hit, source_ip, headers) } else { Known::default() };
        let known_ids = known.without_addresses();
        let hides_ids = decision.anonymise && hit.value(UNREADABLE).is_some();
        Self { decision, known, known_ids, hides_ids, redacted: 0 }
    }

    /// Also removes click ids, of which those of visitors who opt out are removed anyway.
    #[must_use]
    pub const fn without_click_ids(mut self) -> Self {
        self.known.hides_click_ids = true;
        self.known_ids.hides_click_ids = true;
        self
    }

    /// Number of replacements so far.
    #[must_use]
    pub const fn redacted(&self) -> usize {
        self.redacted
    }

    /// Whether the visitor is anonymised.
    #[must_use]
    pub const fn anonymises(&self) -> bool {
        self.decision.anonymise
    }

    /// An address, shortened if it must be. `None` when it is empty, or when it must be shortened and is no address.
    #[must_use]
    pub fn address<'a>(&self, address: &'a str) -> Option<Cow<'a, str>> {
        if self.decision.anonymise {
            return shorten(address).map(|address| address.to_string().into());
        }
        (!address.is_empty()).then_some(address.into())
    }

    /// The hit without what must not be stored.
    #[must_use]
    pub fn hit<'h>(&mut self, hit: &'h Hit) -> Cow<'h, Hit> {
        let uid = hit.get("uid").filter(|uid| !uid.is_empty());
        let mut replacements = Vec::new();
        for (at, (name, value)) in hit.iter().enumerate() {
            let replacement = self.parameter(name, value, uid);
            if replacement != Some(Replacement::Removed)
                && let Some(name) = self.text(name)
            {
                replacements.push((at, Replacement::Name(name)));
            }
            if let Some(replacement) = replacement {
                replacements.push((at, replacement));
            }
        }
        if replacements.is_empty() { Cow::Borrowed(hit) } else { Cow::Owned(hit.replaced(&replacements)) }
    }

    fn parameter(&mut self, name: &str, value: ParameterValue<'_>, uid: Option<&str>) -> Option<Replacement> {
        let Decision { anonymise, drop_id } = self.decision;
        let (ParameterValue::Text(text) | ParameterValue::Json(text)) = value;
        if anonymise {
            match name {
                "uid" | "user_data" | "em" | "_fid" | "user_location" | UNREADABLE => {
                    return Some(Replacement::Removed);
                }
                "cid" if drop_id || uid == Some(text) => return Some(Replacement::Removed),
                "_gid" | "sid" | "_fplc" | "_ga" if drop_id => return Some(Replacement::Removed),
                _ if drop_id && is_ga4_session(name) => return Some(Replacement::Removed),
                "geoid" if !is_country(text) => return Some(Replacement::Removed),
                "uip" | "_uip" => {
                    return Some(shorten(text).map_or(Replacement::Removed, |ip| Replacement::Text(ip.to_string())));
                }
                _ if self.hides_ids && !is_of_protocol(name) => return Some(Replacement::Removed),
                _ if name.starts_with("ep.user_data") => return Some(Replacement::Removed),
                _ => {}
            }
        }
        if self.known.hides_click_ids && has_click_id(name) {
            return Some(Replacement::Removed);
        }
        if may_be_secret(name) && is_secret_name(name) && text != REDACTED && !text.is_empty() {
            self.redacted += 1;
            return Some(Replacement::Text(REDACTED.to_owned()));
        }
        match value {
            ParameterValue::Text(text) if is_id(name) => {
                let clean = self.text(text)?;
                // The ids of all visitors who have an e-mail address as an id must not become one.
                let one_of_many = || Replacement::Text(format!("{REDACTED}-{}", hash(text)));
                Some(if anonymise || clean.is_empty() { Replacement::Removed } else { one_of_many() })
            }
            ParameterValue::Text(text) if is_item(name) => self.item(text).map(Replacement::Text),
            ParameterValue::Text(text) => self.text(text).map(Replacement::Text),
            ParameterValue::Json(json) => self.json(json).map(Replacement::Json),
        }
    }

    /// The changed item of gtag.js: field by field, so that none is taken for a part of the one before.
    fn item(&mut self, item: &str) -> Option<String> {
        let mut changed = String::new();
        let mut done = 0;
        // The last letter of fields such as `k0`, which name a field `v0`, whose name is one of a secret.
        let mut secret: Vec<&str> = Vec::new();
        for field in item_fields(item) {
            // What is no field may as well be any text.
            let start = if field.is_known { field.start } else { field.start - field.name.len() };
            let end = field.start + field.value.len();
            let text = item.get(start..end).unwrap_or_default();
            let is_secret = field.name.strip_prefix('v').is_some_and(|key| secret.contains(&key));
            secret.extend(field.name.strip_prefix('k').filter(|_| is_secret_name(field.value)));
            let clean = if is_secret && !text.is_empty() && text != REDACTED {
                self.redacted += 1;
                Some(REDACTED.to_owned())
            } else {
                self.text(text)
            };
            if let Some(clean) = clean {
                changed.push_str(item.get(done..start).unwrap_or_default());
                changed.push_str(&clean);
                done = end;
            }
        }
        (done > 0).then(|| changed + item.get(done..).unwrap_or_default())
    }

    /// The value of a header, without what must not be stored. `None` when nothing is left. Names are in lower case.
    #[must_use]
    pub fn header<'a>(&mut self, name: &str, value: &'a str) -> Option<Cow<'a, str>> {
        if self.hides_ids && name == "referer" {
            return None;
        }
        if self.decision.anonymise {
            if name == "forwarded" {
                return forwarded(last(value)).map(Cow::Owned);
            }
            if carries_addresses(name) {
                let addresses: Vec<_> =
                    last(value).split(',').filter_map(shorten).map(|address| address.to_string()).collect();
                return (!addresses.is_empty()).then(|| addresses.join(", ").into());
            }
        }
        let known = if is_about_the_server(name) { &self.known_ids } else { &self.known };
        let Some((cleaned, count)) = redact(value, known) else { return Some(Cow::Borrowed(value)) };
        self.redacted += count;
        Some(Cow::Owned(cleaned))
    }

    #[must_use]
    pub fn path<'a>(&mut self, path: &'a str) -> Cow<'a, str> {
        self.text(path).map_or(Cow::Borrowed(path), Cow::Owned)
    }

    /// What was decoded from a text that was cleaned.
    #[must_use]
    pub fn derived<'a>(&mut self, text: &'a str) -> Cow<'a, str> {
        self.text(text).map_or(Cow::Borrowed(text), Cow::Owned)
    }

    #[must_use]
    pub fn user_agent<'a>(&mut self, user_agent: &'a str) -> Cow<'a, str> {
        self.text(user_agent).map_or(Cow::Borrowed(user_agent), Cow::Owned)
    }

    /// The changed text, or `None` if there is nothing to replace.
    fn text(&mut self, text: &str) -> Option<String> {
        let (cleaned, count) = redact(text, &self.known)?;
        self.redacted += count;
        Some(cleaned)
    }

    /// The changed JSON, or `None` if there is nothing to replace.
    fn json(&mut self, json: &str) -> Option<String> {
        if self.known.is_empty() && !json.starts_with(['[', '{']) {
            return None;
        }
        let Ok(mut value) = serde_json::from_str(json) else {
            // It has a number outside the range of `f64`.
            let is_kept = !json.starts_with(['[', '{']) && !self.known.has_id_in(json);
            self.redacted += usize::from(!is_kept);
            return (!is_kept).then(|| Value::from(REDACTED).to_string());
        };
        self.value(&mut value).then(|| value.to_string())
    }

    /// Cleans a value. Returns whether it changed.
    fn value(&mut self, value: &mut Value) -> bool {
        let changed = match value {
            Value::Null | Value::Bool(_) => None,
            Value::Number(number) => {
                let number = number.to_string();
                self.text(&number).map(|_| REDACTED.to_owned())
            }
            Value::String(text) => self.text(text),
            Value::Array(values) => {
                return values.iter_mut().map(|value| self.value(value)).filter(|is_changed| *is_changed).count() > 0;
            }
            Value::Object(members) => return self.members(members),
        };
        let is_changed = changed.is_some();
        if let Some(text) = changed {
            *value = Value::String(text);
        }
        is_changed
    }

    /// Cleans the members of an object: names and values. Returns whether one changed.
    fn members(&mut self, members: &mut serde_json::Map<String, Value>) -> bool {
        let mut is_changed = false;
        for (name, value) in members.iter_mut() {
            let is_empty = match &*value {
                Value::Null | Value::Bool(_) => true,
                Value::Number(_) => false,
                Value::String(text) => text.is_empty() || text == REDACTED,
                Value::Array(values) => values.is_empty(),
                Value::Object(members) => members.is_empty(),
            };
            let is_secret = is_secret_name(name) || (self.known.hides_click_ids && has_click_id(name));
            if is_secret && !is_empty {
                *value = Value::from(REDACTED);
                self.redacted += 1;
                is_changed = true;
            } else {
                is_changed |= self.value(value);
            }
        }
        let renamed: Vec<(String, String)> =
            members.keys().filter_map(|name| Some((name.clone(), self.text(name)?))).collect();
        for (name, clean) in renamed {
            if let Some(value) = members.remove(&name) {
                members.insert(clean, value);
                is_changed = true;
            }
        }
        is_changed
    }
}

/// The addresses and ids of a visitor who opts out.
fn known(decision: Decision, hit: &Hit, source_ip: &str, headers: &[Header<'_>]) -> Known {
    let mut addresses: Vec<IpAddr> = Vec::new();
    let mut add = |address: &str| addresses.extend(parse_address(address).map(|address| address.to_canonical()));
    [Some(source_ip), hit.get("uip"), hit.get("_uip")].into_iter().flatten().for_each(&mut add);
    for (_, value) in headers.iter().rev().filter(|(name, _)| carries_addresses(name)).take(MAX_ADDRESSES) {
        last(value).split(',').for_each(&mut add);
    }
    let is_dropped = |name: &str| match name {
        "uid" | "_fid" => true,
        _ => decision.drop_id && (matches!(name, "cid" | "_gid" | "sid" | "_fplc") || is_ga4_session(name)),
    };
    let ids = hit.iter().filter(|(name, _)| is_dropped(name)).filter_map(|(name, _)| hit.get(name));
    let named = hit.iter().filter(|(name, _)| click_id(name).is_some()).filter_map(|(name, _)| hit.get(name));
    let linked = ["dl", "dr"].into_iter().filter_map(|name| hit.get(name)).flat_map(clicks);
    let clicks = named.map(Cow::Borrowed).chain(linked).take(MAX_CLICKS);
    let ids = ids.map(Cow::Borrowed).chain(clicks).filter(|id| ID_BYTES.contains(&id.len())).map(Cow::into_owned);
    // As forms write spaces.
    let ids = ids.flat_map(|id| id.contains(' ').then(|| id.replace(' ', "+")).into_iter().chain([id]));
    let mut known = Known::new(addresses, ids.collect()).with_client_dropped(decision.drop_id);
    known.hides_click_ids = true;
    known
}

/// The last elements of a list, as many as are looked at.
fn last(list: &str) -> &str {
    list.rmatch_indices(',').nth(MAX_ADDRESSES - 1).and_then(|(at, _)| list.get(at + 1..)).unwrap_or(list)
}

/// Whether a parameter is the id of a visitor.
fn is_id(name: &str) -> bool {
    matches!(name, "cid" | "uid")
}

/// 16 hexadecimal digits.
fn hash(text: &str) -> String {
    Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Two letters. Other geographical ids are those of cities and regions.
fn is_country(geoid: &str) -> bool {
    geoid.len() == 2 && geoid.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Whether a name is long enough to be one of a secret; those of the protocols are shorter.
const fn may_be_secret(name: &str) -> bool {
    name.len() >= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<Header<'a>> {
        pairs.iter().map(|(name, value)| (Cow::Borrowed(*name), Cow::Borrowed(*value))).collect()
    }

    #[test]
    fn the_hit_and_the_policy_decide_whether_to_anonymise() {
        let decided = |hit: &str, pairs: &[(&str, &str)], policy: Policy| {
            let Decision { anonymise, drop_id } =
                decide(&Hit::from_form(hit.as_bytes()).unwrap(), &headers(pairs), policy);
            (anonymise, drop_id)
        };
        for hit in ["aip=1", "aip=0", "aip="] {
            assert_eq!(decided(hit, &[], Policy::Ignore), (true, false), "{hit}");
        }
        for opt_out in [[("sec-gpc", "1")], [("dnt", " 1 ")], [("sec-gpc", "1, 1")], [("dnt", "0,1")]] {
            assert_eq!(decided("v=1", &opt_out, Policy::Ignore), (false, false));
            assert_eq!(decided("v=1", &opt_out, Policy::Anonymise), (true, false));
            assert_eq!(decided("v=1", &opt_out, Policy::DropId), (true, true));
        }
        assert_eq!(decided("v=1", &[("dnt", "0"), ("sec-gpc", "")], Policy::DropId), (false, false));
        assert_eq!(decided("aip=1", &[], Policy::DropId), (true, false));
        let null = Hit::from_json(br#"{"aip":null}"#).unwrap();
        assert!(!decide(&null, &[], Policy::DropId).anonymise);
    }

    #[test]
    fn consent_that_is_denied_counts_as_opting_out() {
        let decided = |hit: &Hit, policy| decide(hit, &[], policy).anonymise;
        for (raw, is_denied) in [
            ("gcs=G100", true),
            ("gcs=G110", true),
            ("gcs=G101", false),
            ("gcs=G111", false),
            ("gcs=G1--", false),
            ("gcd=11p1p1p1p5", true),
            ("gcd=13q3q3q3q5", true),
            ("gcd=13t3u3t3t5", true),
            ("gcd=13p3t3p3p5", false),
            ("gcd=13r3r3r3r5", false),
            ("gcd=11l1l1l1l1", false),
            ("gcd=", false),
        ] {
            let hit = Hit::from_form(raw.as_bytes()).unwrap();
            assert_eq!(decided(&hit, Policy::Anonymise), is_denied, "{raw}");
            assert!(!decided(&hit, Policy::Ignore));
        }
        for (raw, is_denied) in [
            (r#"{"consent":{"ad_user_data":"DENIED"}}"#, true),
            (r#"{"consent":{"ad_user_data":"GRANTED","ad_personalization":"DENIED"}}"#, false),
            (r#"{"consent":null}"#, false),
        ] {
            assert_eq!(decided(&Hit::from_json(raw.as_bytes()).unwrap(), Policy::DropId), is_denied, "{raw}");
        }
    }

    #[test]
    fn each_parameter_has_its_rule() {
        let raw = "uid=u&user_data=x&em=tv.1&_fid=f&user_location=x&ep.user_data.email=x&uip=203.0.113.77&_uip=203.0.113.78&cid=5&_gid=g\
                   &sid=7&_fplc=l&v=2";
        for (geoid, is_kept) in [("US", true), ("1023191", false), ("21137", false)] {
            let hit = Hit::from_form(format!("{raw}&geoid={geoid}").as_bytes()).unwrap();
            let names = |decision| {
                let clean = cleaner(&hit, decision, &[]).hit(&hit).into_owned();
                clean.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
            };
            let expected = |names: &[&str]| -> Vec<String> {
                names.iter().copied().chain(is_kept.then_some("geoid")).map(str::to_owned).collect()
            };
            assert_eq!(names(ANONYMISE), expected(&["uip", "_uip", "cid", "_gid", "sid", "_fplc", "v"]));
            assert_eq!(names(DROP_ID), expected(&["uip", "_uip", "v"]));
            assert_eq!(names(Decision::default()).len(), 14);
        }
    }

    #[test]
    fn secrets_are_found_by_the_name_of_their_parameter_and_in_names() {
        let hit = Hit::from_form(
            b"v=2&sid=7&password=abc&ep.access_token=abc&ann%40example.org=1&up.key=k&t=&client_secret=",
        )
        .unwrap();
        let mut open = Cleaner::new(Decision::default(), &hit, "", &[]);
        let clean = open.hit(&hit).into_owned();
        assert_eq!(
            clean.to_form(),
            "v=2&sid=7&password=%5Bredacted%5D&ep.access_token=%5Bredacted%5D&%5Bredacted%5D=1&up.key=k&t=&client_secret="
        );
        assert_eq!(open.redacted(), 3);
        let json = Hit::from_json(
            br#"{"more":{"Password":"abc","n":{"api_key":7},"ann@example.org":[1],"token":["a"],"pwd":{"a":1}}}"#,
        )
        .unwrap();
        let clean = Cleaner::new(Decision::default(), &json, "", &[]).hit(&json).into_owned();
        let expected = r#"{"Password":"[redacted]","[redacted]":[1],"n":{"api_key":"[redacted]"},"pwd":"[redacted]","token":"[redacted]"}"#;
        assert_eq!(clean.value("more"), Some(ParameterValue::Json(expected)));
    }

    #[test]
    fn the_session_of_ga4_is_no_secret_and_goes_with_the_client() {
        let raw = "ep.session_id=1795378300&epn.session_id=1795378301&ep.ga_session_id=7&ga_session_id=8&up.session_id=9&cd1=of+1795378300";
        let hit = Hit::from_form(format!("{raw}&session_id=s3cret&ep.my_session_id=s3cret").as_bytes()).unwrap();
        let open = cleaner(&hit, Decision::default(), &[]).hit(&hit).to_form();
        assert_eq!(
            open,
            format!("{}&session_id=%5Bredacted%5D&ep.my_session_id=%5Bredacted%5D", raw.replace('+', "%20"))
        );
        let dropped = cleaner(&hit, DROP_ID, &[]).hit(&hit).to_form();
        assert_eq!(dropped, "cd1=of%20%5Bredacted%5D&session_id=%5Bredacted%5D&ep.my_session_id=%5Bredacted%5D");
    }

    #[test]
    fn an_item_is_cleaned_field_by_field() {
        let mut hit = Hit::default();
        for (name, item) in [
            ("pr1", "idP1~nmA https://x.org/?token=abc~~d&e=f~pr19.99~k0password~v0hunter2~k1size~v1XL~"),
            ("pr2", "nmA~idann@example.org~brkey=5~qt1"),
            ("pr3", "idP1~nmA~"),
            ("pr5", "key=5~nmA"),
            ("pr4nm", "?key=5~pr1"),
        ] {
            hit.set(name, item);
        }
        let clean = cleaner(&hit, Decision::default(), &[]).hit(&hit).into_owned();
        for (name, expected) in [
            ("pr1", "idP1~nmA https://x.org/?token=[redacted]&e=f~pr19.99~k0password~v0[redacted]~k1size~v1XL~"),
            ("pr2", "nmA~id[redacted]~brkey=[redacted]~qt1"),
            ("pr3", "idP1~nmA~"),
            ("pr5", "key=[redacted]~nmA"),
            ("pr4nm", "?key=[redacted]"),
        ] {
            assert_eq!(clean.get(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn ids_with_something_personal_in_them_stay_apart() {
        let hit = |id: &str| Hit::from_form(format!("cid={id}&uid={id}").as_bytes()).unwrap();
        let ids = |id: &str, decision| {
            let hit = hit(id);
            let clean = cleaner(&hit, decision, &[]).hit(&hit).into_owned();
            ["cid", "uid"].map(|name| clean.get(name).map(str::to_owned))
        };
        let [ann, jo] = ["ann@example.org", "jo@example.org"].map(|id| ids(id, Decision::default()));
        assert!(ann[0].as_ref().is_some_and(|id| id.starts_with("[redacted]-") && id.len() == 27), "{ann:?}");
        assert!(ann[0] == ann[1] && ann != jo);
        assert_eq!(ann, ids("ann@example.org", Decision::default()), "the same visitor has the same id");
        let alone = Hit::from_form(b"cid=ann@example.org").unwrap();
        assert_eq!(cleaner(&alone, ANONYMISE, &[]).hit(&alone).len(), 0);
    }

    #[test]
    fn ids_of_firebase_are_found_elsewhere() {
        let hit = Hit::from_form(
            b"_fid=fid-1234567&_fplc=plc-1234567&cd1=fid-1234567+plc-1234567&_gl=1*x*_ga*y&dl=/?_gl=1*x",
        )
        .unwrap();
        let clean = |decision| cleaner(&hit, decision, &[]).hit(&hit).to_form();
        assert_eq!(
            clean(ANONYMISE),
            "_fplc=plc-1234567&cd1=%5Bredacted%5D%20plc-1234567&dl=%2F%3F_gl%3D%5Bredacted%5D"
        );
        assert_eq!(clean(DROP_ID), "cd1=%5Bredacted%5D%20%5Bredacted%5D&dl=%2F%3F_gl%3D%5Bredacted%5D");
    }

    #[test]
    fn click_ids_are_found_under_every_name_and_in_every_value() {
        let form = "epn.yclid=123&upn.gclid=4&ep.fbc=fb.1.2.3&_gl=1*a*_gcl_aw*b&dl=/%3F_gl=1*b%26a=1&ep.data={%22gclid%22:%22Cj0K%22,%22n%22:1}&cd1=gclid:+Cj0K\
                    &ep.gclid_of=5";
        let hit = Hit::from_form(form.as_bytes()).unwrap();
        let expected =
            "dl=/?_gl=[redacted]&a=1&ep.data={\"gclid\":\"[redacted]\",\"n\":1}&cd1=gclid: [redacted]&ep.gclid_of=5";
        let text = |cleaner: &mut Cleaner| {
            let clean = cleaner.hit(&hit).into_owned();
            let pairs: Vec<_> = clean.iter().map(|(name, _)| format!("{name}={}", clean.get(name).unwrap())).collect();
            pairs.join("&")
        };
        assert_eq!(text(&mut cleaner(&hit, ANONYMISE, &[])), expected);
        assert_eq!(text(&mut cleaner(&hit, Decision::default(), &[]).without_click_ids()), expected);
        assert_eq!(cleaner(&hit, Decision::default(), &[]).hit(&hit).len(), hit.len());
    }

    #[test]
    fn an_id_with_a_space_is_found_as_forms_write_it() {
        let hit = Hit::from_form(b"uid=Ann%20Smith&dl=/%3Fname=Ann%2BSmith%26of=Ann%2520Smith").unwrap();
        let clean = cleaner(&hit, ANONYMISE, &[]).hit(&hit).into_owned();
        assert_eq!(clean.get("dl"), Some("/?name=[redacted]&of=[redacted]"));
    }

    fn cleaner(hit: &Hit, decision: Decision, pairs: &[(&str, &str)]) -> Cleaner {
        Cleaner::new(decision, hit, "198.51.100.23", &headers(pairs))
    }

    const ANONYMISE: Decision = Decision { anonymise: true, drop_id: false };
    const DROP_ID: Decision = Decision { anonymise: true, drop_id: true };

    #[test]
    fn anonymised_hits_have_no_address_and_no_user() {
        let hit = Hit::from_form(
            b"v=1&cid=5.7&uid=ann-123456&uip=203.0.113.77&cd1=ann-123456&cd2=from+198.51.100.23,+2198.51.100.23\
              &dl=https://x.org/%3Fu=ann-123456%26ip=203.0.113.77&_gid=G&av=2.1.7.4&cd3=xann-123456",
        );
        let hit = hit.unwrap();
        let mut cleaner_of_hit = cleaner(&hit, ANONYMISE, &[]);
        let clean = cleaner_of_hit.hit(&hit);
        for (name, expected) in [
            ("cid", Some("5.7")),
            ("uid", None),
            ("uip", Some("203.0.113.0")),
            ("cd1", Some("[redacted]")),
            ("cd2", Some("from 198.51.100.0, 2198.51.100.23")),
            ("dl", Some("https://x.org/?u=[redacted]&ip=203.0.113.0")),
            ("_gid", Some("G")),
            ("av", Some("2.1.7.4")),
            ("cd3", Some("xann-123456")),
        ] {
            assert_eq!(clean.get(name), expected, "{name}");
        }
        assert_eq!(cleaner_of_hit.redacted(), 4);
        let mut strict = cleaner(&hit, DROP_ID, &[]);
        let clean = strict.hit(&hit);
        assert_eq!((clean.get("cid"), clean.get("_gid"), clean.get("v")), (None, None, Some("1")));
        let same = Hit::from_form(b"cid=7&uid=7&uip=here&aip=1").unwrap();
        let clean = cleaner(&same, ANONYMISE, &[]).hit(&same).into_owned();
        assert_eq!(clean.to_form(), "aip=1");
        let nobody = cleaner(&same, Decision::default(), &[]).hit(&same).into_owned();
        assert!(nobody == same);
    }

    #[test]
    fn only_the_last_addresses_of_a_header_are_kept_and_searched_for() {
        let many: Vec<String> = (0..950).map(|number| format!("10.0.{}.{}", number / 250, number % 250 + 1)).collect();
        let forwarded = format!("{}, 203.0.113.77", many.join(", "));
        let pairs: Vec<_> = (0..20).map(|_| ("x-forwarded-for", forwarded.as_str())).collect();
        let hit = Hit::from_form(b"cd1=203.0.113.77&cd2=198.51.100.23&cd3=10.0.0.1").unwrap();
        let mut cleaner = cleaner(&hit, ANONYMISE, &pairs);
        let clean = cleaner.hit(&hit);
        let values = ["cd1", "cd2", "cd3"].map(|name| clean.get(name));
        assert_eq!(values, [Some("203.0.113.0"), Some("198.51.100.0"), Some("10.0.0.1")]);
        let stored = cleaner.header("x-forwarded-for", &forwarded).unwrap();
        assert_eq!(stored, "10.0.3.0, 10.0.3.0, 10.0.3.0, 10.0.3.0, 10.0.3.0, 10.0.3.0, 10.0.3.0, 203.0.113.0");
    }

    #[test]
    fn what_is_too_short_or_too_long_for_an_id_is_not_searched_for() {
        for (bytes, is_found) in [(7, false), (8, true), (256, true), (257, false)] {
            let uid = "u".repeat(bytes);
            let hit = Hit::from_form(format!("uid={uid}&cd1=of+{uid}").as_bytes()).unwrap();
            let clean = cleaner(&hit, ANONYMISE, &[]).hit(&hit).into_owned();
            assert_eq!(clean.get("cd1") == Some("of [redacted]"), is_found, "{bytes}");
        }
    }

    #[test]
    fn nested_json_is_cleaned_too() {
        let raw = br#"{"uid":123456789,"uip":["203.0.113.77"],"cid":"1","a":{"u":[123456789,"is 123456789"],"n":1.10},
            "l":["https:\/\/x.org\/?token=a"],"n":5.10,"big":123456789e999,"m":{"e":1e999,"t":"198.51.100.23"}}"#;
        let hit = Hit::from_json(raw).unwrap();
        let clean = cleaner(&hit, ANONYMISE, &[]).hit(&hit).into_owned();
        assert_eq!(clean.value("uid"), None);
        assert_eq!(clean.value("uip"), None);
        assert_eq!(clean.value("a"), Some(ParameterValue::Json(r#"{"n":1.1,"u":["[redacted]","is [redacted]"]}"#)));
        assert_eq!(clean.value("l"), Some(ParameterValue::Json(r#"["https://x.org/?token=[redacted]"]"#)));
        assert_eq!(clean.value("n"), Some(ParameterValue::Json("5.10")));
        assert_eq!(clean.value("big"), Some(ParameterValue::Json(r#""[redacted]""#)));
        assert_eq!(clean.value("m"), Some(ParameterValue::Json(r#""[redacted]""#)));
    }

    #[test]
    fn headers_are_cleaned() {
        let hit = Hit::from_form(b"uid=ann-123456").unwrap();
        let pairs = [("x-forwarded-for", "203.0.113.77, 10.1.2.3")];
        let mut cleaner = cleaner(&hit, ANONYMISE, &pairs);
        for (name, value, expected) in [
            ("x-forwarded-for", "203.0.113.77, unknown,2001:db8:1:2::3", Some("203.0.113.0, 2001:db8:1::")),
            ("x-real-ip", "203.0.113.77", Some("203.0.113.0")),
            ("cf-connecting-ip", "203.0.113.77", Some("203.0.113.0")),
            ("true-client-ip", "none", None),
            ("cloudfront-viewer-address", "203.0.113.77:4711", Some("203.0.113.0")),
            ("forwarded", "for=203.0.113.77;proto=https", Some("for=203.0.113.0;proto=https")),
            ("x-other", "seen 203.0.113.77/ann-123456", Some("seen 203.0.113.0/[redacted]")),
            ("user-agent", "Chrome/143.0.0.0", Some("Chrome/143.0.0.0")),
            ("referer", "https://x.org/?sid=1", Some("https://x.org/?sid=[redacted]")),
        ] {
            assert_eq!(cleaner.header(name, value).as_deref(), expected, "{name}: {value}");
        }
        let mut open = super::Cleaner::new(Decision::default(), &hit, "", &[]);
        assert_eq!(open.header("x-forwarded-for", "203.0.113.77").as_deref(), Some("203.0.113.77"));
        assert_eq!(open.path("/collect/ann@example.org"), "/collect/[redacted]");
        assert_eq!(open.redacted(), 1);
    }

    /// A client on the server's own machine, as in a local stack, has the server's address.
    #[test]
    fn headers_about_the_server_keep_an_address_that_the_client_has_too() {
        let hit = Hit::from_form(b"uid=ann-123456").unwrap();
        let mut cleaner = Cleaner::new(ANONYMISE, &hit, "127.0.0.1", &headers(&[("x-forwarded-for", "127.0.0.1")]));
        for (name, value, expected) in [
            ("host", "127.0.0.1:8080", "127.0.0.1:8080"),
            ("origin", "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("x-forwarded-host", "127.0.0.1", "127.0.0.1"),
            ("via", "1.1 127.0.0.1", "1.1 127.0.0.1"),
            ("forwarded", "for=127.0.0.1;host=127.0.0.1", "for=127.0.0.0;host=127.0.0.1"),
            ("x-forwarded-for", "127.0.0.1", "127.0.0.0"),
            ("x-unknown-proxy", "from 127.0.0.1", "from 127.0.0.0"),
        ] {
            assert_eq!(cleaner.header(name, value).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(cleaner.header("origin", "http://ann-123456.example").as_deref(), Some("http://[redacted].example"));
    }
}
