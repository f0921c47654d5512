//! What must not be stored of a text, wherever it is in it: secrets, and the addresses and ids of a visitor who opts out.
//!
//! | found | becomes `[redacted]` |
//! |---|---|
//! | `https://user:password@host` | user and password |
//! | `_gl=value`, `_ga=value` | the value, if the client id is dropped: they hand it to another site |
//! | `name=value`, in a URL or not | the value, up to `&` or `#`, if the name is one of [`names::NAMES`] or [`names::PLAIN`], or ends in one of [`names::ENDS`] |
//! | `name: value`, `"name": "value"` | the value, if the name is one of [`names::PLAIN`] or ends in one of [`names::ENDS`] |
//! | `Bearer value` | the value, from eight characters on |
//! | `name@domain.tld` | all of it |
//! | a JSON Web Token | all of it |
//! | a click id or what has one in it (see `campaign`), in a URL or not, also after a colon | the value, if the visitor opts out or `CLICK_IDS` says so |
//! | a known id | all of it, where it is not part of a longer word |
//! | a known address, however it is written | it is not redacted but shortened |
//!
//! A value after a colon may be an array or an object. `[]` or `[0]` after a name are not part of it.
//!
//! Percent-encoding is undone for the search, however often it was done, and so are escapes of JSON: the text between the finds stays as
//! it was. Redacting a text again does not change it.
//!
//! [`names`] has the names, [`secrets`] finds what is secret of every visitor, [`known`] what is known of one who opts out, and
//! [`view`] is the text as they see it.

mod known;
mod names;
mod secrets;
mod view;

use std::borrow::Cow;

pub(crate) use self::{
    known::Known,
    names::{is_ga4_session, is_secret_name},
};
use self::{
    known::{addresses, ids},
    secrets::{emails, secret_values, spoken_values, user_info, web_tokens},
    view::{Range, View},
};

/// Replaces a secret.
pub const REDACTED: &str = "[redacted]";

/// Most passes over a text. Two that change something are the most that the property test has found.
const MAX_PASSES: usize = 8;

/// Replaces what must not be stored. `None` if there is nothing; also returns how much there was.
#[must_use]
pub(crate) fn redact(text: &str, known: &Known) -> Option<(String, usize)> {
    let mut found = Found { text: Cow::Borrowed(text), count: 0 };
    // A redaction can change how the rest is parsed, for example when the value was the end of a host. So this repeats until
    // nothing changes.
    for _ in 0..MAX_PASSES {
        let before = found.count;
        let marks = Marks::of(&found.text);
        if marks.0 & (Marks::AT | Marks::ESCAPES) > 0 {
            found.replace(user_info);
        }
        if marks.0 & (Marks::EQUALS | Marks::ESCAPES) > 0 {
            found.replace(|view| secret_values(view, known));
        }
        let has_bearer = marks.0 & Marks::SPACE > 0 && (found.text.contains("earer ") || found.text.contains("EARER "));
        if marks.0 & (Marks::COLON | Marks::ESCAPES) > 0 || has_bearer {
            found.replace(|view| spoken_values(view, known));
        }
        if marks.0 & (Marks::AT | Marks::ESCAPES) > 0 {
            found.replace(emails);
        }
        if marks.0 & Marks::ESCAPES > 0 || (marks.0 & Marks::J > 0 && found.text.contains("eyJ")) {
            found.replace(web_tokens);
        }
        if !known.is_empty() {
            found.replace(|view| ids(view, known));
            found.replace(|view| addresses(view, known));
        }
        if found.count == before {
            break;
        }
    }
    match found.text {
        Cow::Owned(text) => Some((text, found.count)),
        Cow::Borrowed(_) => None,
    }
}

/// The bytes of a text, with its escapes decoded, however often they were encoded.
pub(crate) fn unescaped(text: &str) -> Cow<'_, [u8]> {
    View::new(text).bytes
}

/// Which bytes occur in a text that the finds have in them, found in one pass: most texts have none.
struct Marks(u8);

impl Marks {
    const AT: u8 = 1;
    const EQUALS: u8 = 2;
    const COLON: u8 = 4;
    /// What escapes begin with.
    const ESCAPES: u8 = 8;
    const SPACE: u8 = 16;
    const J: u8 = 32;

    fn of(text: &str) -> Self {
        Self(text.bytes().fold(0, |marks, byte| marks | Self::mark(byte)))
    }

    const fn mark(byte: u8) -> u8 {
        match byte {
            b'@' => Self::AT,
            b'=' => Self::EQUALS,
            b':' => Self::COLON,
            b'%' | b'\\' => Self::ESCAPES,
            b' ' => Self::SPACE,
            b'J' => Self::J,
            _ => 0,
        }
    }
}

struct Found<'a> {
    text: Cow<'a, str>,
    count: usize,
}

impl Found<'_> {
    /// Replaces the ranges that `find` returns, which are in order and do not overlap.
    fn replace(&mut self, find: impl Fn(&View<'_>) -> Vec<Range>) {
        let view = View::new(&self.text);
        let ranges = find(&view);
        if ranges.is_empty() {
            return;
        }
        let mut replaced = String::with_capacity(self.text.len());
        let mut done = 0;
        for Range { start, end, replacement } in ranges {
            let (start, end) = (view.place(start), view.place(end));
            replaced.push_str(self.text.get(done..start).unwrap_or_default());
            replaced.push_str(&replacement);
            done = end;
            self.count += 1;
        }
        replaced.push_str(self.text.get(done..).unwrap_or_default());
        self.text = Cow::Owned(replaced);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;
    use crate::address::shorten;

    fn redact_url(text: &str) -> (String, usize) {
        redact(text, &Known::default()).unwrap_or_else(|| (text.to_owned(), 0))
    }

    #[test]
    fn secrets_in_texts_are_redacted() {
        for (text, expected) in [
            ("Failed: https://x.org/a?access_token=abc", "Failed: https://x.org/a?access_token=[redacted]"),
            ("/reset?token=abc", "/reset?token=[redacted]"),
            ("//x.org/?password=abc", "//x.org/?password=[redacted]"),
            ("log in (key=abc)", "log in (key=[redacted]"),
            ("user[password]=abc", "user[password]=[redacted]"),
            ("user.key=abc", "user.key=[redacted]"),
            ("{\"access_token\": \"a\\\"b\", \"n\": 1}", "{\"access_token\": \"[redacted]\", \"n\": 1}"),
            ("{\\\"password\\\":\\\"abc\\\"}", "{\\\"password\\\":\\\"[redacted]\\\"}"),
            ("{'pwd': 'abc'}", "{'pwd': '[redacted]'}"),
            ("password: abc, and so on", "password: [redacted], and so on"),
            ("Authorization: Bearer abcdefgh", "Authorization: [redacted]"),
            ("sent Bearer abcdefgh-123", "sent Bearer [redacted]"),
            ("bearer of news", "bearer of news"),
            ("Error code: 404, key: up, session: over", "Error code: 404, key: up, session: over"),
            ("ask ann@example.org!", "ask [redacted]!"),
            ("https%3A%2F%2Fann%3Apw%40x.org%2F", "https%3A%2F%2F[redacted]%40x.org%2F"),
            (
                "https%253A%252F%252Fx.org%252F%253Faccess%255Ftoken%253Dabc%2526b%253D1",
                "https%253A%252F%252Fx.org%252F%253Faccess%255Ftoken%253D[redacted]%2526b%253D1",
            ),
            ("ann%252Bshop%2540x.org", "[redacted]"),
            (r"https:\/\/ann:pw@x.org\/a", r"https:\/\/[redacted]@x.org\/a"),
            (r#"{"u":"https:\/\/x.org\/?token\u003dabc"#, r#"{"u":"https:\/\/x.org\/?token\u003d[redacted]"#),
            (r"?token\u003dabc\u0026b=1", r"?token\u003d[redacted]\u0026b=1"),
            (r"ann\u0040example.org, ann\\u0040example.org", "[redacted], [redacted]"),
            (r"%5Cu0040 ann%5Cu0040x.org ann\u002540x.org", r"%5Cu0040 [redacted] [redacted]"),
            (r"{\u0022password\u0022:\u0022abc\u0022}", r"{\u0022password\u0022:\u0022[redacted]\u0022}"),
            (r#"{"password":"ab\u0022cd","n":1}"#, r#"{"password":"[redacted]","n":1}"#),
            (r#"{"token": ["a]", "b", {"c": "d"}], "n": 1"#, r#"{"token": [redacted], "n": 1"#),
            (r#"{\"password\": {\"a\": \"}b\"}, \"n\": 1"#, r#"{\"password\": [redacted], \"n\": 1"#),
            (r#""secret": {"never": "closed""#, r#""secret": [redacted]"#),
            ("password[]=abc&n=1", "password[]=[redacted]&n=1"),
            ("user%5Bpassword%5D%5B0%5D=abc&n=1", "user%5Bpassword%5D%5B0%5D=[redacted]&n=1"),
            (
                "x[1]=abc&ga_session_id=1795378300&ga_session_id: 5",
                "x[1]=abc&ga_session_id=1795378300&ga_session_id: 5",
            ),
            ("100 % = a:b", "100 % = a:b"),
        ] {
            assert_eq!(redact_url(text).0, expected, "{text}");
        }
    }

    #[test]
    fn known_addresses_and_ids_are_found_however_they_are_written() {
        let known = Known::new(
            ["198.51.100.23", "2001:db8:1:2::3", "::ffff:203.0.113.77"]
                .map(|text| text.parse::<IpAddr>().unwrap().to_canonical())
                .to_vec(),
            vec!["ann-123456".to_owned(), "größe-77".to_owned()],
        );
        for (text, expected) in [
            (
                "from 198.51.100.23, 2198.51.100.23 or 198.51.100.230",
                "from 198.51.100.0, 2198.51.100.23 or 198.51.100.230",
            ),
            ("198.51.100.23:443 198.51.100.23.", "198.51.100.0:443 198.51.100.0."),
            ("ip:198.51.100.23", "ip:198.51.100.0"),
            (
                "client:198.51.100.23:443, from:.203.0.113.77.:198.51.100.23:1",
                "client:198.51.100.0:443, from:.203.0.113.0.:198.51.100.0:1",
            ),
            ("[2001:db8:1:2::3]:443 2001:0db8:0001:0002:0:0:0:3", "[2001:db8:1::]:443 2001:db8:1::"),
            ("%3D198%2E51.100.23%26", "%3D198.51.100.0%26"),
            ("203.0.113.77", "203.0.113.0"),
            ("u=ann-123456&ann%2D123456 xann-123456", "u=[redacted]&[redacted] xann-123456"),
            ("/größe-77/gr%C3%B6%C3%9Fe-77", "/[redacted]/[redacted]"),
            ("Chrome/143.0.0.0 1:2:3", "Chrome/143.0.0.0 1:2:3"),
        ] {
            let found = redact(text, &known).map_or_else(|| text.to_owned(), |(text, _)| text);
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn what_hands_a_client_id_to_another_site_is_redacted_with_it() {
        let known = Known::default().with_client_dropped(true);
        let url = "https://x.org/?_gl=1*1abc*_ga*MTU0ODEyMzQ1Ng..&a=b&_ga=2.1.2.3#x";
        let (found, count) = redact(url, &known).unwrap();
        assert_eq!((found.as_str(), count), ("https://x.org/?_gl=[redacted]&a=b&_ga=[redacted]#x", 2));
        assert_eq!(redact_url(url).1, 0);
    }

    #[test]
    fn secrets_in_urls_are_redacted() {
        for (url, expected, count) in [
            ("https://x.org/a?b=c#d", "https://x.org/a?b=c#d", 0),
            ("/u/ann@example.org/edit", "/u/[redacted]/edit", 1),
            ("/u?m=ann%40example.org&x=1", "/u?m=[redacted]&x=1", 1),
            ("/u?m=ann%2Bshop@example.co.uk.", "/u?m=[redacted].", 1),
            ("/u?m=%22ann@example.org%22", "/u?m=%22[redacted]%22", 1),
            ("mailto:ann@example.org?b@c.de", "mailto:[redacted]?[redacted]", 2),
            ("/r?u=https%3A%2F%2Fx.org%2F%3Fm%3Dann%2540x.org", "/r?u=https%3A%2F%2Fx.org%2F%3Fm%3D[redacted]", 1),
            ("/münch@bücher.example", "/[redacted]", 1),
            ("https://ann:pw@x.org/a", "https://[redacted]@x.org/a", 1),
            ("https://medium.com/@ann/x", "https://medium.com/@ann/x", 0),
            ("/npm/react@18.2.0/umd/x.js", "/npm/react@18.2.0/umd/x.js", 0),
            ("/icon@2x.png", "/icon@2x.png", 0),
            ("/maps/@52.37,4.89,12z", "/maps/@52.37,4.89,12z", 0),
            ("?token=abc&x=1", "?token=[redacted]&x=1", 1),
            ("?ACCESS_TOKEN=a=b/c?d;e%26f#g", "?ACCESS_TOKEN=[redacted]#g", 1),
            ("/a;jsessionid=1A2B", "/a;jsessionid=[redacted]", 1),
            ("#id_token=a&state=b", "#id_token=[redacted]&state=b", 1),
            (
                "?api-key=1&apiKey=2&key=3&sid=4&code=5&sig=6",
                "?api-key=[redacted]&apiKey=[redacted]&key=[redacted]&sid=[redacted]&code=[redacted]&sig=[redacted]",
                6,
            ),
            ("?user%5Bpassword%5D=x", "?user%5Bpassword%5D=[redacted]", 1),
            ("/r?u=%2Fa%3Ftoken%3Dabc%26b%3D1&c=2", "/r?u=%2Fa%3Ftoken%3D[redacted]%26b%3D1&c=2", 1),
            ("?token=&key", "?token=&key", 0),
            (
                "?promo_code=SUMMER&keyword=shoe&author=x&utm_source=y",
                "?promo_code=SUMMER&keyword=shoe&author=x&utm_source=y",
                0,
            ),
            ("/v/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_/x", "/v/[redacted]/x", 1),
            ("/eyJx/short.eyJ", "/eyJx/short.eyJ", 0),
            ("%", "%", 0),
            ("a%4", "a%4", 0),
            ("=@=", "=@=", 0),
            // Once the value is redacted, the text before the @ is a user name.
            ("https://sid%3D?%26sid@", "https://[redacted]@", 2),
        ] {
            let (redacted, found) = redact_url(url);
            assert_eq!((redacted.as_str(), found), (expected, count), "{url}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        #[test]
        fn redaction_is_idempotent(
            text in prop_oneof![
                any::<String>(),
                "(https://)?([a-z@.:/?&=#;%+\"{}]|\\\\|\\\\u003d|\\\\u0026|\\[\\]|%5C|%40|%2540|%3D|%26|%2E|token|key=|sid|eyJ[a-zA-Z.]{17}|b@c\\.de|\\[redacted\\]|é){0,14}",
            ],
        ) {
            let (once, _) = redact_url(&text);
            let (twice, count) = redact_url(&once);
            prop_assert_eq!(&twice, &once);
            prop_assert_eq!(count, 0);
        }

        /// Percent-encoded never, once, twice and three times.
        #[test]
        fn no_secret_survives_however_often_it_was_encoded(
            name in prop::sample::select(vec!["access_token", "password", "api-key", "X-Amz-Signature", "PHPSESSID", "client_secret"]),
            secret in "[a-z0-9+/!~]{4,12}x7", before in "[a-zA-Z :/?.&]{0,12}", after in prop::sample::select(vec!["", "&a=b", "#c"]), times in 0..4_usize,
            in_json in any::<bool>(),
        ) {
            let url = format!("https://x.org/?{name}={secret}{after}");
            let mut encoded = url;
            if in_json {
                encoded = encoded.replace('=', r"\u003d").replace('&', r"\u0026").replace('/', r"\/");
            }
            for _ in 0..times {
                encoded = percent_encoding::utf8_percent_encode(&encoded, percent_encoding::NON_ALPHANUMERIC).to_string();
            }
            let text = format!("{before} {encoded}");
            let mut found = redact_url(&text).0;
            for _ in 0..4 {
                prop_assert!(!found.contains(&secret), "{} in {}", secret, found);
                found = percent_encoding::percent_decode_str(&found).decode_utf8_lossy().into_owned();
            }
        }

        #[test]
        fn no_known_address_survives(address in any::<IpAddr>(), before in "[ =,(a-z/]{0,3}[ =,(/]", after in "([ ,)/&].{0,3})?") {
            let known = Known::new(vec![address.to_canonical()], Vec::new());
            let text = format!("{before}{address}{after}");
            let found = redact(&text, &known).map_or(text, |(text, _)| text);
            let is_short = shorten(&address.to_string()) == Some(address.to_canonical());
            prop_assert!(is_short || !found.contains(&address.to_string()), "{}", found);
        }

        #[test]
        fn no_email_address_survives(
            before in "[a-z/?&=]{0,8}", local in "[a-z0-9._+-]{1,8}", domain in "[a-z]{1,6}\\.[a-z]{2,4}", encoded in any::<bool>(),
        ) {
            let address = format!("{local}{}{domain}", if encoded { "%40" } else { "@" });
            let url = format!("/{before}/{address}?x");
            prop_assert!(!redact_url(&url).0.contains(&address), "{}", url);
        }
    }
}
