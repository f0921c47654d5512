//! A user agent string → browser, operating system and device.
//!
//! woothee searches for fixed words and needs regular expressions only for versions. Its last release is of 2021, but browsers have
//! since frozen the words that it searches for, and client hints (see `hints`) tell what they froze. The expressions of uap-core
//! are kept up, but cost more than they tell: figures are in the README. Tablets, headless browsers and crawlers that state a URL are not known to it and are recognised
//! here. Hits of bots are stored like all others.

use serde::Serialize;

/// `None` means unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Agent<'a> {
    /// `Chrome`, `Safari`, `Googlebot`, …
    pub browser: Option<&'a str>,
    pub browser_version: Option<&'a str>,
    /// `Windows 10`, `macOS`, `iOS`, `Android`, `Linux`, …
    pub os: Option<&'a str>,
    /// `desktop`, `mobile`, `tablet`, `appliance` or `bot`.
    pub device: Option<&'static str>,
    /// Whether it identifies itself as a bot.
    pub is_bot: bool,
}

/// Longer user agents are cut, because parsing time grows with the length. Those of browsers are below 300 bytes.
const MOST_BYTES: usize = 1_024;

/// Words, in lower case, that occur in the user agents of bots only.
const BOT_WORDS: [&str; 11] = [
    "bot/",
    "bot;",
    "crawler",
    "spider",
    "headless",
    "lighthouse",
    "phantomjs",
    "+http://",
    "+https://",
    "facebookexternalhit",
    "bytespider",
];

/// Parses a user agent. `None` when it is empty.
#[must_use]
pub fn agent(text: &str) -> Option<Agent<'_>> {
    let text = cut(text);
    if text.is_empty() {
        return None;
    }
    let Some(found) = woothee::parser::Parser::new().parse(text) else {
        let is_bot = has_bot_word(text);
        return Some(Agent { device: is_bot.then_some("bot"), is_bot, ..Agent::default() });
    };
    let is_bot = found.category == "crawler" || has_bot_word(text);
    let os = known(found.os).map(|os| match os {
        "iPhone" | "iPad" | "iPod" => "iOS",
        "Mac OSX" => "macOS",
        os => os,
    });
    let is_tablet = || found.os == "iPad" || (found.os == "Android" && !text.contains("Mobile"));
    let device = match found.category {
        _ if is_bot => Some("bot"),
        "smartphone" if is_tablet() => Some("tablet"),
        "smartphone" | "mobilephone" => Some("mobile"),
        "pc" => Some("desktop"),
        "appliance" => Some("appliance"),
        _ => None,
    };
    let (browser, browser_version) = match found.name {
        // woothee's names for kinds of programs.
        "HTTP Library" | "misc crawler" => (None, None),
        name => (known(name), known(found.version)),
    };
    Some(Agent { browser, browser_version, os, device, is_bot })
}

/// The part of a user agent that is looked at.
pub(crate) fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MOST_BYTES)).unwrap_or(text)
}

fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty() && *text != "UNKNOWN")
}

/// Whether one of the words occurs. Cubot is a brand of phones.
fn has_bot_word(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    BOT_WORDS.iter().any(|word| lower.contains(word)) && !lower.contains("cubot")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<&str>, Option<&str>, Option<&str>, Option<&str>, bool) {
        let Agent { browser, browser_version, os, device, is_bot } = agent(text).unwrap();
        (browser, browser_version, os, device, is_bot)
    }

    #[test]
    fn browsers_are_recognised() {
        let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
        let apple = "AppleWebKit/605.1.15 (KHTML, like Gecko)";
        for (text, [browser, version, os, device]) in [
            (
                format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/143.0.0.0 Safari/537.36"),
                ["Chrome", "143.0.0.0", "Windows 10", "desktop"],
            ),
            (
                format!(
                    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/143.0.0.0 Safari/537.36 Edg/142.0.1.0"
                ),
                ["Edge", "142.0.1.0", "Windows 10", "desktop"],
            ),
            (
                format!(
                    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/143.0.0.0 Safari/537.36 OPR/120.0.0.0"
                ),
                ["Opera", "120.0.0.0", "Windows 10", "desktop"],
            ),
            (
                format!("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {apple} Version/26.1 Safari/605.1.15"),
                ["Safari", "26.1", "macOS", "desktop"],
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:145.0) Gecko/20100101 Firefox/145.0".into(),
                ["Firefox", "145.0", "macOS", "desktop"],
            ),
            (
                format!(
                    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_7 like Mac OS X) {apple} Version/26.1 Mobile/15E148 Safari/604.1"
                ),
                ["Safari", "26.1", "iOS", "mobile"],
            ),
            (
                format!(
                    "Mozilla/5.0 (iPad; CPU OS 17_5 like Mac OS X) {apple} Version/17.5 Mobile/15E148 Safari/604.1"
                ),
                ["Safari", "17.5", "iOS", "tablet"],
            ),
            (
                format!("Mozilla/5.0 (Linux; Android 10; K) {webkit} Chrome/143.0.0.0 Mobile Safari/537.36"),
                ["Chrome", "143.0.0.0", "Android", "mobile"],
            ),
            (
                format!(
                    "Mozilla/5.0 (Linux; Android 14; SM-X710) {webkit} SamsungBrowser/28.0 Chrome/130.0.0.0 Safari/537.36"
                ),
                ["SamsungBrowser", "28.0", "Android", "tablet"],
            ),
            (
                format!("Mozilla/5.0 (Linux; Android 9; CUBOT_X19_S) {webkit} Chrome/120.0.0.0 Mobile Safari/537.36"),
                ["Chrome", "120.0.0.0", "Android", "mobile"],
            ),
            (
                format!("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) {webkit} Chrome/143.0.0.0 Safari/537.36"),
                ["Chrome", "143.0.0.0", "ChromeOS", "desktop"],
            ),
        ] {
            assert_eq!(parsed(&text), (Some(browser), Some(version), Some(os), Some(device), false), "{text}");
        }
    }

    #[test]
    fn programs_that_identify_themselves_are_bots() {
        for (text, browser) in [
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", Some("Googlebot")),
            (
                "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
                None,
            ),
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/141.0.0.0 \
                 Safari/537.36",
                Some("Chrome"),
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)",
                Some("Safari"),
            ),
            ("example-crawler", None),
        ] {
            let found = agent(text).unwrap();
            assert_eq!((found.browser, found.device, found.is_bot), (browser, Some("bot"), true), "{text}");
        }
    }

    #[test]
    fn unknown_is_not_guessed() {
        assert_eq!(agent(""), None);
        // HTTP libraries are not bots: servers use them to send the hits of people.
        for text in ["-", "x", "curl/8.5.0", "python-requests/2.32.3", "node-fetch", "Mozilla/5.0", "\0é\u{1F600}"] {
            assert_eq!(agent(text), Some(Agent::default()), "{text}");
        }
        assert_eq!(agent(&"é".repeat(10_000)), Some(Agent::default()));
    }
}
