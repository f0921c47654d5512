//! What a user agent string says about browser, system and device.
//!
//! By woothee: it looks for fixed words first and uses a regular expression for the version only, where the uap-core
//! parsers try a table of a thousand and take 50 ms to load it. Its last release is of 2021; browsers have frozen the
//! words that it looks for since. What it does not know, tablets, headless browsers and the address that a crawler
//! states, is looked for here. Nobody is dropped for being a bot.

/// What is known. `None` is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Agent<'a> {
    /// Its name: `Chrome`, `Safari`, `Googlebot`.
    pub browser: Option<&'a str>,
    /// Its version, as it states it.
    pub browser_version: Option<&'a str>,
    /// `Windows 10`, `macOS`, `iOS`, `Android`, `Linux`, …
    pub os: Option<&'a str>,
    /// `desktop`, `mobile`, `tablet`, `appliance` or `bot`.
    pub device: Option<&'static str>,
    /// Whether it is a program and says so.
    pub is_bot: bool,
}

/// User agents that are read. Browsers' are under 300 bytes; reading takes time that grows with the length.
const MOST_BYTES: usize = 1_024;

/// What only programs say of themselves, in lower case.
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

/// Reads a user agent. `None` when there is none.
#[must_use]
pub fn agent(text: &str) -> Option<Agent<'_>> {
    if text.is_empty() {
        return None;
    }
    let text = text.get(..text.floor_char_boundary(MOST_BYTES)).unwrap_or(text);
    let Some(found) = woothee::parser::Parser::new().parse(text) else {
        let is_bot = says_bot(text);
        return Some(Agent { device: is_bot.then_some("bot"), is_bot, ..Agent::default() });
    };
    let is_bot = found.category == "crawler" || says_bot(text);
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
        // Kinds of programs, and not programs.
        "HTTP Library" | "misc crawler" => (None, None),
        name => (known(name), known(found.version)),
    };
    Some(Agent { browser, browser_version, os, device, is_bot })
}

fn known(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty() && *text != "UNKNOWN")
}

/// Whether one of the words is there. Cubot makes phones.
fn says_bot(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    BOT_WORDS.iter().any(|word| lower.contains(word)) && !lower.contains("cubot")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<&str>, Option<&str>, Option<&str>, Option<&str>, bool) {
        let Agent { browser, browser_version, os, device, is_bot } = agent(text).unwrap();
        (browser, browser_version, os, device, is_bot)
    }

    #[test]
    fn browsers_are_known() {
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
            assert_eq!(read(&text), (Some(browser), Some(version), Some(os), Some(device), false), "{text}");
        }
    }

    #[test]
    fn programs_that_say_so_are_bots() {
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
    fn what_is_not_known_is_not_guessed() {
        assert_eq!(agent(""), None);
        // Libraries are how servers send hits for people.
        for text in ["-", "x", "curl/8.5.0", "python-requests/2.32.3", "node-fetch", "Mozilla/5.0", "\0é\u{1F600}"] {
            assert_eq!(agent(text), Some(Agent::default()), "{text}");
        }
        assert_eq!(agent(&"é".repeat(10_000)), Some(Agent::default()));
    }
}
