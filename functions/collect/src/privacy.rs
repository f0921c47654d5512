//! Decides what must not be stored of a request, and removes it before anything is stored or logged.
//!
//! | request has | policy | effect |
//! |---|---|---|
//! | `aip`, with any value, as Google reads it | any | anonymised |
//! | `Sec-GPC: 1` or `DNT: 1` | `ignore` | none |
//! | | `anonymise` | anonymised |
//! | | `drop-id` | anonymised, and `cid` and `_gid` dropped |
//! | any | any | secrets in URLs redacted, see `redact` |
//!
//! A request that cannot be parsed is kept as the text of one parameter (see `hit::UNREADABLE`), where nothing can be found by
//! its name. So this text is dropped if the request is anonymised, and it is anonymised if the text has `aip` in it.
//!
//! **Anonymised** means that addresses are shortened (see `address`) in `uip`, in the source address and in the headers that
//! carry addresses, and that `uid` is dropped, as is a `cid` of the same value. If other parameters or headers repeat one of
//! those addresses or the user id, they are replaced there too; of a header with many addresses, this holds for the last eight,
//! which proxies have added. User ids below eight bytes are not searched for, because
//! they occur in unrelated text. Headers that name the server, such as `Host`, keep an address even if the client has the
//! same one.
//!
//! Sources: "Anonymize IP", Measurement Protocol parameter reference; "Global Privacy Control", W3C.

use std::{borrow::Cow, cmp::Reverse, iter};

use serde_json::Value;

use crate::{
    address::{carries_addresses, forwarded, is_about_the_server, shorten},
    headers::Header,
    hit::{Hit, ParameterValue, Replacement, UNREADABLE, digit},
    redact::{REDACTED, is_url, redact_url},
};

/// Shorter ids and addresses are not searched for in other texts, where they may be part of something else.
const MIN_ID_BYTES: usize = 8;
const MIN_ADDRESS_BYTES: usize = 7;
/// Addresses of a header that are searched for in other texts: the last ones, which proxies have added. A client can send
/// hundreds before them, and each costs a search through every parameter.
const MAX_ADDRESSES: usize = 8;

/// The reaction to `Sec-GPC: 1` and `DNT: 1`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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
    let is_opt_out = |(name, value): &Header<'_>| matches!(&**name, "sec-gpc" | "dnt") && value.trim() == "1";
    let opts_out = policy != Policy::Ignore && headers.iter().any(is_opt_out);
    // Google: the parameter's presence is enough, whatever its value. A JSON null counts as absent.
    let has_aip = hit.value("aip").is_some_and(|value| value != ParameterValue::Json("null"))
        || hit.get(UNREADABLE).is_some_and(|text| text.contains("aip"));
    Decision { anonymise: has_aip || opts_out, drop_id: opts_out && policy == Policy::DropId }
}

/// Removes from the texts of one request what must not be stored, and counts the replacements.
#[derive(Debug)]
pub struct Cleaner {
    decision: Decision,
    /// The longest first, because one may be part of another.
    known: Vec<Known>,
    redacted: usize,
}

/// An address or an id that is replaced wherever it occurs.
#[derive(Debug)]
struct Known {
    text: String,
    replacement: String,
    is_address: bool,
}

impl Cleaner {
    /// A cleaner for a hit, the address that it came from and the headers that it came with.
    #[must_use]
    pub fn new(decision: Decision, hit: &Hit, source_ip: &str, headers: &[Header<'_>]) -> Self {
        let mut known: Vec<Known> = Vec::new();
        if decision.anonymise {
            let mut add = |address: &str| {
                let text = address.trim();
                if text.len() >= MIN_ADDRESS_BYTES
                    && let Some(short) = shorten(text)
                    && known.iter().all(|known| known.text != text)
                {
                    known.push(Known { text: text.to_owned(), replacement: short.to_string(), is_address: true });
                }
            };
            iter::once(source_ip).chain(hit.get("uip")).for_each(&mut add);
            for (_, value) in headers.iter().rev().filter(|(name, _)| carries_addresses(name)).take(MAX_ADDRESSES) {
                value.rsplit(',').take(MAX_ADDRESSES).for_each(&mut add);
            }
            let ids: &[&str] = if decision.drop_id { &["uid", "cid", "_gid"] } else { &["uid"] };
            for id in ids.iter().filter_map(|name| hit.get(name)).filter(|id| id.len() >= MIN_ID_BYTES) {
                known.push(Known { text: id.to_owned(), replacement: REDACTED.to_owned(), is_address: false });
            }
            known.sort_by_key(|known| Reverse(known.text.len()));
        }
        Self { decision, known, redacted: 0 }
    }

    /// Number of replacements so far.
    #[must_use]
    pub const fn redacted(&self) -> usize {
        self.redacted
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
            if let Some(replacement) = self.parameter(name, value, uid) {
                replacements.push((at, replacement));
            }
        }
        if replacements.is_empty() { Cow::Borrowed(hit) } else { Cow::Owned(hit.replaced(&replacements)) }
    }

    fn parameter(&mut self, name: &str, value: ParameterValue<'_>, uid: Option<&str>) -> Option<Replacement> {
        let Decision { anonymise, drop_id } = self.decision;
        if anonymise {
            let text = match value {
                ParameterValue::Text(text) | ParameterValue::Json(text) => text,
            };
            match name {
                "uid" => return Some(Replacement::Removed),
                "cid" if drop_id || uid == Some(text) => return Some(Replacement::Removed),
                UNREADABLE => return Some(Replacement::Removed),
                "_gid" if drop_id => return Some(Replacement::Removed),
                "uip" => {
                    return Some(shorten(text).map_or(Replacement::Removed, |ip| Replacement::Text(ip.to_string())));
                }
                _ => {}
            }
        }
        match value {
            ParameterValue::Text(text) => {
                let is_url = matches!(name, "dl" | "dr" | "dp" | "st" | UNREADABLE) || is_url(text);
                self.text(text, is_url).map(Replacement::Text)
            }
            ParameterValue::Json(json) => self.json(json).map(Replacement::Json),
        }
    }

    /// The value of a header, without what must not be stored. `None` when nothing is left. Names are in lower case.
    #[must_use]
    pub fn header<'a>(&mut self, name: &str, value: &'a str) -> Option<Cow<'a, str>> {
        if self.decision.anonymise {
            if name == "forwarded" {
                return forwarded(value).map(Cow::Owned);
            }
            if carries_addresses(name) {
                let addresses: Vec<_> =
                    value.split(',').filter_map(shorten).map(|address| address.to_string()).collect();
                return (!addresses.is_empty()).then(|| addresses.join(", ").into());
            }
        }
        let is_url = name == "referer" || is_url(value);
        let cleaned = self.replace(value, is_url, |known| !(known.is_address && is_about_the_server(name)));
        Some(cleaned.map_or(Cow::Borrowed(value), Cow::Owned))
    }

    #[must_use]
    pub fn path<'a>(&mut self, path: &'a str) -> Cow<'a, str> {
        self.text(path, true).map_or(Cow::Borrowed(path), Cow::Owned)
    }

    #[must_use]
    pub fn user_agent<'a>(&mut self, user_agent: &'a str) -> Cow<'a, str> {
        self.text(user_agent, false).map_or(Cow::Borrowed(user_agent), Cow::Owned)
    }

    /// The changed text, or `None` if there is nothing to replace.
    fn text(&mut self, text: &str, is_url: bool) -> Option<String> {
        self.replace(text, is_url, |_| true)
    }

    /// The same, with only some of the known addresses and ids replaced.
    fn replace(&mut self, text: &str, is_url: bool, is_replaced: impl Fn(&Known) -> bool) -> Option<String> {
        let mut changed = None;
        if is_url {
            let (redacted, count) = redact_url(text);
            self.redacted += count;
            if let Cow::Owned(redacted) = redacted {
                changed = Some(redacted);
            }
        }
        for known in self.known.iter().filter(|known| is_replaced(known)) {
            let from = changed.as_deref().unwrap_or(text);
            if let Some(replaced) = replace_word(from, &known.text, &known.replacement) {
                changed = Some(replaced);
                self.redacted += 1;
            }
        }
        changed
    }

    /// The changed JSON, or `None` if there is nothing to replace.
    fn json(&mut self, json: &str) -> Option<String> {
        let is_nested = json.starts_with(['[', '{']);
        let is_suspect = json.contains("//") || json.contains("\\/") || json.contains("\\u");
        if self.known.is_empty() && !(is_nested && is_suspect) {
            return None;
        }
        let Ok(mut value) = serde_json::from_str(json) else {
            // A number outside the range of `f64`.
            let is_known = self.known.iter().any(|known| json.contains(&known.text));
            self.redacted += usize::from(is_known);
            return is_known.then(|| Value::from(REDACTED).to_string());
        };
        self.value(&mut value).then(|| value.to_string())
    }

    /// Cleans a value. Returns whether it changed.
    fn value(&mut self, value: &mut Value) -> bool {
        let changed = match value {
            Value::Null | Value::Bool(_) => None,
            Value::Number(number) => {
                let number = number.to_string();
                self.text(&number, false).map(|_| REDACTED.to_owned())
            }
            Value::String(text) => self.text(text, is_url(text)),
            Value::Array(values) => return self.values(values.iter_mut()),
            Value::Object(members) => return self.values(members.values_mut()),
        };
        let is_changed = changed.is_some();
        if let Some(text) = changed {
            *value = Value::String(text);
        }
        is_changed
    }

    /// Cleans all values. Returns whether one changed.
    fn values<'v>(&mut self, values: impl Iterator<Item = &'v mut Value>) -> bool {
        values.map(|value| self.value(value)).filter(|is_changed| *is_changed).count() > 0
    }
}

/// Replaces a word wherever it is not part of a longer one. `None` when it does not occur.
fn replace_word(text: &str, word: &str, replacement: &str) -> Option<String> {
    let is_part = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    let mut replaced = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices(word) {
        let (before, from) = text.split_at_checked(at)?;
        let after = from.get(word.len()..)?;
        // A percent-encoded character before the word may end in a letter or a digit, but is not part of the word.
        let is_escape =
            matches!(before.as_bytes(), [.., b'%', high, low] if digit(*high).is_some() && digit(*low).is_some());
        if (is_part(before.chars().next_back()) && !is_escape) || is_part(after.chars().next()) {
            continue;
        }
        replaced.push_str(text.get(done..at)?);
        replaced.push_str(replacement);
        done = at + word.len();
    }
    if done == 0 {
        return None;
    }
    replaced.push_str(text.get(done..)?);
    Some(replaced)
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
        for opt_out in [[("sec-gpc", "1")], [("dnt", " 1 ")]] {
            assert_eq!(decided("v=1", &opt_out, Policy::Ignore), (false, false));
            assert_eq!(decided("v=1", &opt_out, Policy::Anonymise), (true, false));
            assert_eq!(decided("v=1", &opt_out, Policy::DropId), (true, true));
        }
        assert_eq!(decided("v=1", &[("dnt", "0"), ("sec-gpc", "")], Policy::DropId), (false, false));
        assert_eq!(decided("aip=1", &[], Policy::DropId), (true, false));
        let null = Hit::from_json(br#"{"aip":null}"#).unwrap();
        assert!(!decide(&null, &[], Policy::DropId).anonymise);
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
    fn only_the_last_addresses_of_a_header_are_searched_for() {
        let many: Vec<String> = (0..950).map(|number| format!("10.0.{}.{}", number / 250, number % 250 + 1)).collect();
        let forwarded = format!("{}, 203.0.113.77", many.join(", "));
        let pairs: Vec<_> = (0..20).map(|_| ("x-forwarded-for", forwarded.as_str())).collect();
        let hit = Hit::from_form(b"cd1=203.0.113.77&cd2=198.51.100.23&cd3=10.0.0.1").unwrap();
        let mut cleaner = cleaner(&hit, ANONYMISE, &pairs);
        assert!(cleaner.known.len() <= 1 + MAX_ADDRESSES * MAX_ADDRESSES, "{}", cleaner.known.len());
        let clean = cleaner.hit(&hit);
        let values = ["cd1", "cd2", "cd3"].map(|name| clean.get(name));
        assert_eq!(values, [Some("203.0.113.0"), Some("198.51.100.0"), Some("10.0.0.1")]);
        let stored = cleaner.header("x-forwarded-for", &forwarded).unwrap();
        assert!(stored.starts_with("10.0.0.0, 10.0.0.0") && stored.ends_with(", 203.0.113.0"), "all are shortened");
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
