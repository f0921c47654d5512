//! Visitors: which browser, screen and language they use, and how their hits look on the wire.

use std::sync::LazyLock;

use crate::{
    hit::{Hit, Kind, Parameters},
    random::{Random, hash, mix},
};

pub const SHOP: &str = "https://shop.example";
/// The property id by which these hits can be told from those of real sites.
const PROPERTY: &str = "UA-20261120-1";

const DESKTOP: &[&str] = &["1920x1080", "1366x768", "1536x864", "2560x1440", "1440x900", "1280x720"];
const MAC: &[&str] = &["1440x900", "1512x982", "1728x1117", "2560x1440"];
const IPHONE: &[&str] = &["390x844", "393x852", "430x932", "375x812"];
const ANDROID: &[&str] = &["360x800", "412x915", "393x873", "384x832"];
const TABLET: &[&str] = &["820x1180", "810x1080", "1024x1366"];

/// Possible screens and the user agent of a browser.
type Browser = (&'static [&'static str], &'static str);

/// Real browsers, and how many of a hundred visitors use them: a number, a device and a user agent a line.
static BROWSERS: LazyLock<Vec<(usize, Browser)>> = LazyLock::new(|| {
    let browser = |line: &'static str| {
        let (weight, rest) = line.split_once(' ')?;
        let (device, user_agent) = rest.split_once(' ')?;
        let screens = match device {
            "mac" => MAC,
            "iphone" => IPHONE,
            "android" => ANDROID,
            "tablet" => TABLET,
            _ => DESKTOP,
        };
        Some((weight.parse().ok()?, (screens, user_agent)))
    };
    include_str!("browsers.txt").lines().filter_map(browser).collect()
});

const LANGUAGES: [(usize, &str); 10] = [
    (38, "en-us"),
    (12, "en-gb"),
    (12, "de-de"),
    (10, "fr-fr"),
    (8, "es-es"),
    (6, "it-it"),
    (5, "nl-nl"),
    (4, "pt-br"),
    (3, "ja-jp"),
    (2, "zh-cn"),
];

/// A visitor and the browser that they use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    client_id: String,
    user_agent: &'static str,
    screen: &'static str,
    language: &'static str,
}

impl Visitor {
    pub fn new(random: &mut Random) -> Self {
        let (screens, user_agent) = random.pick(&BROWSERS);
        let (screen, language) = (random.pick_any(screens), random.pick(&LANGUAGES));
        Self { client_id: random.uuid(), user_agent, screen, language }
    }

    /// The visitor of a data set's session: the same in every run with this seed.
    #[must_use]
    pub fn of_session(seed: u64, id: &str) -> Self {
        Self::new(&mut Random::new(seed, hash(id)))
    }

    /// A hit with the `details` of its kind. `unique` becomes `z`, which makes it different from all other hits.
    pub fn hit(&self, kind: Kind, session: u64, page: &Page<'_>, details: Parameters, unique: u64) -> Hit {
        let mut parameters = Parameters::default();
        parameters.push("v", "1");
        parameters.push("tid", PROPERTY);
        parameters.push("cid", self.client_id.clone());
        parameters.push("t", if kind == Kind::Pageview { "pageview" } else { "event" });
        parameters.push("dl", format!("{SHOP}{}", page.path));
        if !page.referrer.is_empty() {
            parameters.push("dr", page.referrer.to_owned());
        }
        if !page.title.is_empty() {
            parameters.push("dt", page.title.to_owned());
        }
        parameters.push("ul", self.language);
        parameters.push("sr", self.screen);
        parameters.push("de", "UTF-8");
        match kind {
            Kind::Pageview | Kind::Event => {}
            Kind::Detail | Kind::Add | Kind::Remove | Kind::Purchase => {
                parameters.push("ec", "ecommerce");
                parameters.push("ea", kind.as_str());
                parameters.push("pa", kind.as_str());
                parameters.push("cu", "EUR");
            }
        }
        parameters.append(details);
        parameters.push("z", unique.to_string());
        Hit { kind, session, user_agent: self.user_agent, parameters }
    }
}

/// The page that a visitor is on. Title and referrer may be empty.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Path and query.
    pub path: &'a str,
    pub title: &'a str,
    pub referrer: &'a str,
}

/// A number that no other hit of this seed has.
#[must_use]
pub fn unique(seed: u64, ordinal: u64) -> u64 {
    mix(mix(seed).wrapping_add(ordinal))
}
