//! Where a visitor came from, by the host of the page before.
//!
//! | class | if |
//! |---|---|
//! | `campaign` | the hit has a campaign |
//! | `direct` | there is no page before |
//! | `internal` | its host is that of the page, with or without `www.` |
//! | `search`, `social`, `assistant` | it is, or is below, one of the hosts in [`HOSTS`], or Google's, Yandex's or Yahoo's search in any country |
//! | `other` | it is another host |

use std::borrow::Cow;

use serde::Serialize;

use crate::hit::Hit;

/// The longest name of a host. Source: RFC 1035, section 2.3.4.
const MOST_HOST_BYTES: usize = 253;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    Campaign,
    Direct,
    Internal,
    Search,
    Social,
    /// A program that answers questions.
    Assistant,
    Other,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Referrer<'a> {
    pub class: Class,
    /// Of the page before, in lower case, without `www.` and port.
    pub host: Option<Cow<'a, str>>,
}

/// Hosts in alphabetical order; those below them are of the same class.
const HOSTS: [(&str, Class); 58] = [
    ("ask.com", Class::Search),
    ("baidu.com", Class::Search),
    ("bing.com", Class::Search),
    ("bsky.app", Class::Social),
    ("chatgpt.com", Class::Assistant),
    ("claude.ai", Class::Assistant),
    ("com.facebook.katana", Class::Social),
    ("com.google.android.googlequicksearchbox", Class::Search),
    ("com.linkedin.android", Class::Social),
    ("com.reddit.frontpage", Class::Social),
    ("copilot.microsoft.com", Class::Assistant),
    ("discord.com", Class::Social),
    ("duckduckgo.com", Class::Search),
    ("ecosia.org", Class::Search),
    ("facebook.com", Class::Social),
    ("fb.com", Class::Social),
    ("gemini.google.com", Class::Assistant),
    ("instagram.com", Class::Social),
    ("kagi.com", Class::Search),
    ("linkedin.com", Class::Social),
    ("lnkd.in", Class::Social),
    ("mastodon.social", Class::Social),
    ("messenger.com", Class::Social),
    ("mojeek.com", Class::Search),
    ("naver.com", Class::Search),
    ("news.ycombinator.com", Class::Social),
    ("ok.ru", Class::Social),
    ("perplexity.ai", Class::Assistant),
    ("pin.it", Class::Social),
    ("pinterest.com", Class::Social),
    ("quora.com", Class::Social),
    ("qwant.com", Class::Search),
    ("reddit.com", Class::Social),
    ("search.brave.com", Class::Search),
    ("search.yahoo.co.jp", Class::Search),
    ("search.yahoo.com", Class::Search),
    ("seznam.cz", Class::Search),
    ("snapchat.com", Class::Social),
    ("so.com", Class::Search),
    ("sogou.com", Class::Search),
    ("startpage.com", Class::Search),
    ("swisscows.com", Class::Search),
    ("t.co", Class::Social),
    ("t.me", Class::Social),
    ("telegram.org", Class::Social),
    ("threads.com", Class::Social),
    ("threads.net", Class::Social),
    ("tiktok.com", Class::Social),
    ("tumblr.com", Class::Social),
    ("twitter.com", Class::Social),
    ("vk.com", Class::Social),
    ("weibo.com", Class::Social),
    ("whatsapp.com", Class::Social),
    ("x.com", Class::Social),
    ("xing.com", Class::Social),
    ("ya.ru", Class::Search),
    ("youtu.be", Class::Social),
    ("youtube.com", Class::Social),
];

/// Search engines that have a host in each country.
const OF_COUNTRIES: [&str; 2] = ["google", "yandex"];

/// Where the visitor of a hit that was cleaned came from. `None` if the hit says neither its page nor the page before.
#[must_use]
pub fn referrer(hit: &Hit, has_campaign: bool) -> Option<Referrer<'_>> {
    let text = |name: &str| hit.get(name).filter(|text| !text.is_empty());
    let from = text("dr");
    let page = text("dl").and_then(host).or_else(|| text("dh").map(plain));
    if from.is_none() && page.is_none() {
        return None;
    }
    let from_host = from.and_then(host);
    let class = match &from_host {
        _ if has_campaign => Class::Campaign,
        None if from.is_none() => Class::Direct,
        None => Class::Other,
        from if *from == page => Class::Internal,
        Some(from) => class(from),
    };
    Some(Referrer { class, host: from_host })
}

fn class(host: &str) -> Class {
    let mut rest = Some(host);
    while let Some(name) = rest {
        if let Ok(at) = HOSTS.binary_search_by_key(&name, |(host, _)| *host) {
            return HOSTS.get(at).map_or(Class::Other, |(_, class)| *class);
        }
        rest = name.split_once('.').map(|(_, rest)| rest);
    }
    if is_of_country(host) { Class::Search } else { Class::Other }
}

/// Such as `google.de`, `google.co.uk`, `yandex.com.tr` or `de.search.yahoo.com`, but not `mail.google.com`.
fn is_of_country(host: &str) -> bool {
    let Some((name, country)) = host.split_once('.') else { return false };
    let is_label = |label: &str| (2..=3).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_country = match country.split_once('.') {
        Some((second, top)) => matches!(second, "co" | "com") && top.len() == 2 && is_label(top),
        None => is_label(country),
    };
    is_country && OF_COUNTRIES.contains(&name)
}

/// The host of an absolute address.
fn host(url: &str) -> Option<Cow<'_, str>> {
    let (_, rest) = url.split_once("//")?;
    let authority = rest.split(['/', '?', '#', '\\']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let host = host.rsplit_once(':').filter(|(_, port)| is_port(port)).map_or(host, |(host, _)| host);
    (!host.is_empty() && host.len() <= MOST_HOST_BYTES).then(|| plain(host))
}

fn plain(host: &str) -> Cow<'_, str> {
    let host = match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    };
    match host {
        Cow::Borrowed(host) => Cow::Borrowed(host.strip_prefix("www.").unwrap_or(host)),
        Cow::Owned(host) => Cow::Owned(host.strip_prefix("www.").map_or(host.clone(), str::to_owned)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(page: &str, from: &str) -> Option<(Class, Option<String>)> {
        let mut hit = Hit::default();
        hit.set("dl", page);
        hit.set("dr", from);
        referrer(&hit, false).map(|referrer| (referrer.class, referrer.host.map(Cow::into_owned)))
    }

    #[test]
    fn hosts_are_sorted() {
        assert!(HOSTS.is_sorted(), "the search is binary");
    }

    #[test]
    fn the_host_before_tells_the_class() {
        for (from, class) in [
            ("https://www.google.com/", Class::Search),
            ("https://www.google.co.uk/search?q=a", Class::Search),
            ("https://google.de:443", Class::Search),
            ("https://yandex.com.tr/", Class::Search),
            ("https://de.search.yahoo.com/x", Class::Search),
            ("android-app://com.google.android.googlequicksearchbox/", Class::Search),
            ("https://mail.google.com/mail", Class::Other),
            ("https://google.com.evil.example/", Class::Other),
            ("https://notbing.com/", Class::Other),
            ("https://L.Facebook.com/l.php", Class::Social),
            ("https://t.co/abc", Class::Social),
            ("https://gemini.google.com/app", Class::Assistant),
            ("https://WWW.Shop.example/b", Class::Internal),
            ("https://blog.shop.example/", Class::Other),
            ("https://[redacted]@news.example/", Class::Other),
            ("not an address", Class::Other),
            ("", Class::Direct),
        ] {
            assert_eq!(found("https://shop.example/a", from).unwrap().0, class, "{from}");
        }
        assert_eq!(found("", "https://[redacted]@WWW.News.example:8443/?a").unwrap().1, Some("news.example".into()));
        assert_eq!(found("", "https://[2001:db8::1]:8080/").unwrap().1, Some("[2001:db8::1]".into()));
        assert_eq!(found("", &format!("https://{}/", "a".repeat(254))), Some((Class::Other, None)));
        assert_eq!(found("", ""), None);
    }

    #[test]
    fn a_campaign_counts_more_than_the_page_before() {
        let hit = Hit::from_form(b"dh=shop.example&dr=https://www.google.com/").unwrap();
        assert_eq!(referrer(&hit, true).unwrap(), Referrer { class: Class::Campaign, host: Some("google.com".into()) });
        assert_eq!(referrer(&hit, false).unwrap().class, Class::Search);
    }

    proptest! {
        #[test]
        fn no_address_panics(page in ".{0,40}", from in ".{0,40}") {
            found(&page, &from);
        }

        #[test]
        fn every_page_is_internal_to_itself(host in "[a-z]{1,10}\\.[a-z]{2,5}", path in "[a-z/?]{0,10}") {
            let page = format!("https://{host}/{path}");
            prop_assert_eq!(found(&page, &page).unwrap().0, Class::Internal);
        }
    }
}
