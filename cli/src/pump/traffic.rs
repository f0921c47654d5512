//! Visitors of a shop that does not exist, from a seed.
//!
//! Three sessions in ten are a single page view; six have two hits and a geometric number more, with a mean of 3; one
//! has two and a geometric number more with a mean of 15. So the mean is about 5 hits, the median 3, and one session in
//! a hundred has more than 36. Sessions run side by side, as they reach a server.

use std::{borrow::Cow, collections::VecDeque};

use super::{
    dice::{Dice, mix, of_text},
    hit::{Hit, Kind, Parameters, Product},
};

/// Sessions that run side by side.
const SIDE_BY_SIDE: usize = 24;
/// Most hits of a session.
const LONGEST: usize = 400;
/// Products of the shop.
const PRODUCTS: usize = 480;
/// Most different products in a cart.
const CART: usize = 8;
/// Where everything is seen.
const SHOP: &str = "https://shop.example";
/// The shop's property, which tells these hits from a site's own.
const PROPERTY: &str = "UA-20261120-1";

/// A browser: how often it is seen, its name, its screens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Browser {
    user_agent: &'static str,
    screens: &'static [&'static str],
}

const DESKTOP: &[&str] = &["1920x1080", "1366x768", "1536x864", "2560x1440", "1440x900", "1280x720"];
const MAC: &[&str] = &["1440x900", "1512x982", "1728x1117", "2560x1440"];
const IPHONE: &[&str] = &["390x844", "393x852", "430x932", "375x812"];
const ANDROID: &[&str] = &["360x800", "412x915", "393x873", "384x832"];
const TABLET: &[&str] = &["820x1180", "810x1080", "1024x1366"];

/// Real browsers, and how many of a hundred visitors use them.
const BROWSERS: [(usize, Browser); 12] = [
    (
        24,
        Browser {
            user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                         Chrome/131.0.0.0 Safari/537.36",
            screens: DESKTOP,
        },
    ),
    (
        22,
        Browser {
            user_agent: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 \
                         Mobile Safari/537.36",
            screens: ANDROID,
        },
    ),
    (
        18,
        Browser {
            user_agent: "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like \
                         Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
            screens: IPHONE,
        },
    ),
    (
        8,
        Browser {
            user_agent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) \
                         Chrome/131.0.0.0 Safari/537.36",
            screens: MAC,
        },
    ),
    (
        7,
        Browser {
            user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                         Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
            screens: DESKTOP,
        },
    ),
    (
        6,
        Browser {
            user_agent: "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                         Version/17.6 Safari/605.1.15",
            screens: MAC,
        },
    ),
    (
        5,
        Browser {
            user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
            screens: DESKTOP,
        },
    ),
    (
        4,
        Browser {
            user_agent: "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) \
                         SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
            screens: ANDROID,
        },
    ),
    (
        2,
        Browser {
            user_agent: "Mozilla/5.0 (iPad; CPU OS 17_6_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                         Version/17.6 Mobile/15E148 Safari/604.1",
            screens: TABLET,
        },
    ),
    (
        2,
        Browser {
            user_agent: "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
            screens: DESKTOP,
        },
    ),
    (
        1,
        Browser {
            user_agent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                         Chrome/131.0.0.0 Safari/537.36 OPR/115.0.0.0",
            screens: DESKTOP,
        },
    ),
    (
        1,
        Browser {
            user_agent: "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0",
            screens: ANDROID,
        },
    ),
];

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

/// Where visitors come from; nowhere, when they typed the address.
const REFERRERS: [(usize, &str); 6] = [
    (40, "https://www.google.com/"),
    (34, ""),
    (9, "https://www.instagram.com/"),
    (7, "https://www.bing.com/"),
    (6, "https://duckduckgo.com/"),
    (4, "https://newsletter.shop.example/2026/november?utm_source=mail&utm_campaign=café"),
];

const BRANDS: [&str; 12] = [
    "Norden",
    "Aalto",
    "Brise",
    "Kestrel",
    "Lumière",
    "Hansen & Søn",
    "Pico",
    "Terra",
    "Ørsted",
    "Vela",
    "Wren",
    "Zenit",
];

/// A category and what is sold there.
const CATEGORIES: [(&str, [&str; 4]); 8] = [
    ("Home/Kitchen", ["Café Cup", "Kettle", "Chopping Board", "Paring Knife"]),
    ("Home/Living", ["Floor Lamp", "Wool Throw", "Side Table", "Cushion"]),
    ("Clothing/Women", ["Linen Dress", "Rain Jacket", "Merino Jumper", "Wide Trousers"]),
    ("Clothing/Men", ["Oxford Shirt", "Chinos", "Fisherman’s Jumper", "Parka"]),
    ("Clothing/Shoes", ["Trainers", "Chelsea Boots", "Sandals", "Hiking Boots"]),
    ("Outdoor/Camping", ["Tent 2P", "Stove", "Sleeping Bag −5 °C", "Head Torch"]),
    ("Electronics/Audio", ["Headphones", "Bookshelf Speaker", "Radio", "Turntable"]),
    ("Garden", ["Secateurs", "Watering Can", "Planter 40 cm", "Bird Feeder"]),
];

const COLOURS: [&str; 6] = ["Ink", "Sand", "Fern", "Rust", "Crème", "Slate"];

const SEARCHES: [&str; 8] =
    ["grüner tee", "boots 42", "lamp", "gift < 50 €", "jumper", "100% wool", "tent & stove", "コーヒー"];

/// What happens on a page besides.
const EVENTS: [(&str, &str); 6] = [
    ("navigation", "menu open"),
    ("search", "filter"),
    ("product", "zoom image"),
    ("product", "select size"),
    ("newsletter", "subscribe"),
    ("video", "play"),
];

/// Who a visitor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visitor {
    client_id: String,
    browser: Browser,
    screen: &'static str,
    language: &'static str,
}

impl Visitor {
    /// A visitor as the dice fall.
    pub fn new(dice: &mut Dice) -> Self {
        let browser = dice.pick(&BROWSERS);
        let (screen, language) = (dice.pick_any(browser.screens), dice.pick(&LANGUAGES));
        Self { client_id: dice.uuid(), browser, screen, language }
    }

    /// The visitor behind a session's id of the challenge: the same in every run with this seed.
    #[must_use]
    pub fn of_session(seed: u64, id: &str) -> Self {
        Self::new(&mut Dice::new(seed, of_text(id)))
    }

    /// The hit of something that this visitor did. `number` tells it from all others.
    pub fn hit(&self, kind: Kind, session: u64, page: &Page<'_>, rest: Parameters, unique: u64) -> Hit {
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
        for (name, value) in rest.iter() {
            parameters.push(name.to_owned(), value.to_owned());
        }
        parameters.push("z", unique.to_string());
        Hit { kind, session, user_agent: self.browser.user_agent, parameters }
    }
}

/// Where a visitor is.
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// Path and query.
    pub path: &'a str,
    /// The title, or nothing.
    pub title: &'a str,
    /// Where the visitor came from, or nothing.
    pub referrer: &'a str,
}

/// A product and what it costs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    product: Product,
    cents: u64,
}

/// An amount of money, as `12.90`.
fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The shop's products. They do not depend on the seed: another seed is other visitors of the same shop.
fn offers() -> Vec<Offer> {
    let mut dice = Dice::new(0, 0);
    let sold: Vec<(&str, &str)> =
        CATEGORIES.iter().flat_map(|(category, things)| things.iter().map(|thing| (*category, *thing))).collect();
    (0..PRODUCTS)
        .map(|number| {
            let (category, thing) = dice.pick_any(&sold);
            let (brand, colour) = (dice.pick_any(&BRANDS), dice.pick_any(&COLOURS));
            let cents = 490 + (dice.below(200) * dice.below(200)) as u64 + 100 * dice.below(20) as u64;
            let product = Product {
                id: format!("SKU-{:05}", 10_000 + number),
                name: Some(format!("{brand} {thing}, {colour}")),
                category: Some(category.to_owned()),
                brand: Some(brand.to_owned()),
                price: Some(money(cents)),
            };
            Offer { product, cents }
        })
        .collect()
}

/// How many hits a session has.
fn length(dice: &mut Dice) -> usize {
    let goes_on = match dice.below(10) {
        0..3 => return 1,
        3..9 => 750,
        _ => 938,
    };
    let mut length = 2;
    while length < LONGEST && dice.below(1_000) < goes_on {
        length += 1;
    }
    length
}

/// A session on its way through the shop.
struct Walk<'a> {
    offers: &'a [Offer],
    dice: Dice,
    visitor: Visitor,
    session: u64,
    path: String,
    title: Cow<'static, str>,
    referrer: String,
    seen: Option<&'a Offer>,
    cart: Vec<(&'a Offer, u32)>,
}

impl Walk<'_> {
    fn step(&mut self, unique: u64) -> Hit {
        let (can_add, has_cart) = (self.seen.is_some() && self.cart.len() < CART, !self.cart.is_empty());
        let kind = if self.path.is_empty() {
            Kind::Pageview
        } else {
            self.dice
                .pick(&[
                    (52, Some(Kind::Pageview)),
                    (30, Some(Kind::Detail)),
                    (7, Some(Kind::Event)),
                    (if can_add { 16 } else { 0 }, Some(Kind::Add)),
                    (if has_cart { 5 } else { 0 }, Some(Kind::Remove)),
                    (if has_cart { 14 } else { 0 }, Some(Kind::Purchase)),
                ])
                .unwrap_or(Kind::Pageview)
        };
        let mut rest = Parameters::default();
        match kind {
            Kind::Pageview => self.see_page(),
            Kind::Detail => {
                self.seen = self.dice.pick_popular(self.offers);
                if let Some(offer) = self.seen {
                    let path = format!("/p/{}", offer.product.id);
                    self.go(path, offer.product.name.clone().unwrap_or_default().into());
                    offer.product.write(&mut rest, 1, None);
                }
            }
            Kind::Add => {
                if let Some(offer) = self.seen.take() {
                    let quantity = self.dice.pick(&[(88, 1), (9, 2), (3, 4)]);
                    offer.product.write(&mut rest, 1, Some(quantity));
                    self.cart.push((offer, quantity));
                }
            }
            Kind::Remove => {
                let position = self.dice.below(self.cart.len());
                if position < self.cart.len() {
                    let (offer, quantity) = self.cart.remove(position);
                    offer.product.write(&mut rest, 1, Some(quantity));
                }
            }
            Kind::Purchase => {
                self.go("/checkout/thanks".to_owned(), "Thank you".into());
                let bought = std::mem::take(&mut self.cart);
                let total: u64 = bought.iter().map(|(offer, quantity)| offer.cents * u64::from(*quantity)).sum();
                rest.push("ti", format!("T-{:016X}", mix(unique)));
                rest.push("ta", "shop.example");
                rest.push("tr", money(total));
                for (number, (offer, quantity)) in (1..).zip(&bought) {
                    offer.product.write(&mut rest, number, Some(*quantity));
                }
            }
            Kind::Event => {
                let (category, action) = self.dice.pick_any(&EVENTS);
                rest.push("ec", category);
                rest.push("ea", action);
            }
        }
        let page = Page { path: &self.path, title: &self.title, referrer: &self.referrer };
        self.visitor.hit(kind, self.session, &page, rest, unique)
    }

    fn see_page(&mut self) {
        let (category, _) = self.dice.pick_any(&CATEGORIES);
        match self.dice.below(10) {
            0..3 => self.go("/".to_owned(), "Shop – everything for the home and beyond".into()),
            3..8 => self.go(format!("/c/{}", category.to_lowercase()), format!("{category} – Shop").into()),
            8 => {
                let words = self.dice.pick_any(&SEARCHES);
                let mut query = Parameters::default();
                query.push("q", words);
                self.go(format!("/search?{}", query.to_form()), format!("“{words}” – Shop").into());
            }
            _ => self.go("/cart".to_owned(), "Your cart".into()),
        }
    }

    fn go(&mut self, path: String, title: Cow<'static, str>) {
        let left = std::mem::replace(&mut self.path, path);
        self.title = title;
        self.referrer = if left.is_empty() { self.dice.pick(&REFERRERS).to_owned() } else { format!("{SHOP}{left}") };
    }
}

/// All hits of one session. The number of a session tells it from the others of its seed.
fn session(offers: &[Offer], seed: u64, number: u64) -> VecDeque<Hit> {
    let mut dice = Dice::new(seed, number);
    let (length, visitor) = (length(&mut dice), Visitor::new(&mut dice));
    let mut walk = Walk {
        offers,
        dice,
        visitor,
        session: number,
        path: String::new(),
        title: Cow::default(),
        referrer: String::new(),
        seen: None,
        cart: Vec::new(),
    };
    (0..length as u64).map(|hit| walk.step(unique(seed, number * LONGEST as u64 + hit))).collect()
}

/// A number that no other hit of the seed has.
#[must_use]
pub fn unique(seed: u64, ordinal: u64) -> u64 {
    mix(mix(seed).wrapping_add(ordinal))
}

/// Hits without end. The same seed gives the same ones.
#[derive(Debug)]
pub struct Traffic {
    seed: u64,
    offers: Vec<Offer>,
    dice: Dice,
    begun: u64,
    running: Vec<VecDeque<Hit>>,
}

impl Traffic {
    /// The traffic of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, offers: offers(), dice: Dice::new(seed, u64::MAX), begun: 0, running: Vec::new() }
    }
}

impl Iterator for Traffic {
    type Item = Hit;

    fn next(&mut self) -> Option<Hit> {
        while self.running.len() < SIDE_BY_SIDE {
            self.running.push(session(&self.offers, self.seed, self.begun));
            self.begun += 1;
        }
        let position = self.dice.below(self.running.len());
        let session = self.running.get_mut(position)?;
        let hit = session.pop_front();
        if session.is_empty() {
            self.running.swap_remove(position);
        }
        hit
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::pump::hit::tests::{decoded, pairs};

    /// Of the thousandth hit of seed 1. When it changes, runs before and after are not of the same hits.
    const FINGERPRINT: &str = "ed4f9faddd926c9a";

    #[test]
    fn the_same_seed_sends_the_same_hits() {
        let hits = |seed| Traffic::new(seed).take(2_000).collect::<Vec<_>>();
        assert_eq!(hits(1), hits(1));
        let (one, two) = (hits(1), hits(2));
        let clients = |hits: &[Hit]| -> HashSet<String> {
            hits.iter().map(|hit| hit.parameters.get("cid").unwrap().to_owned()).collect()
        };
        assert!(clients(&one).is_disjoint(&clients(&two)));
        assert_eq!(format!("{:016x}", of_text(&one[999].parameters.to_form())), FINGERPRINT);
    }

    #[test]
    fn most_sessions_are_short_and_few_are_long() {
        let offers = offers();
        let mut lengths: Vec<usize> = (0..20_000).map(|number| session(&offers, 1, number).len()).collect();
        lengths.sort_unstable();
        let mean = lengths.iter().sum::<usize>() as f64 / lengths.len() as f64;
        assert!((4.5..5.6).contains(&mean), "{mean}");
        assert!((2..=3).contains(&lengths[10_000]), "{}", lengths[10_000]);
        assert!((30..70).contains(&lengths[19_800]), "{}", lengths[19_800]);
        let single = lengths.iter().filter(|length| **length == 1).count();
        assert!((5_700..6_300).contains(&single), "{single}");
        assert!(lengths[19_999] <= LONGEST);
    }

    #[test]
    fn kinds_come_as_often_as_in_a_shop() {
        let mut counts = BTreeMap::new();
        Traffic::new(1).take(50_000).for_each(|hit| *counts.entry(hit.kind).or_insert(0_u32) += 1);
        let thousandths = Kind::ALL.map(|kind| counts[&kind] / 50);
        let expected = [550..700, 180..300, 20..80, 2..15, 5..30, 30..80];
        for (kind, (count, range)) in Kind::ALL.iter().zip(thousandths.iter().zip(&expected)) {
            assert!(range.contains(count), "{kind:?}: {thousandths:?}");
        }
    }

    #[test]
    fn a_thousand_hits_hold_every_kind_and_many_sessions() {
        let hits: Vec<Hit> = Traffic::new(1).take(1_000).collect();
        let kinds: HashSet<&str> = hits.iter().map(|hit| hit.kind.as_str()).collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        let sessions: HashSet<u64> = hits.iter().map(|hit| hit.session).collect();
        let clients: HashSet<&str> = hits.iter().map(|hit| hit.parameters.get("cid").unwrap()).collect();
        assert_eq!(sessions.len(), clients.len());
        assert!((120..320).contains(&sessions.len()), "{}", sessions.len());
    }

    #[test]
    fn a_session_begins_with_a_page_and_buys_only_what_it_added() {
        let offers = offers();
        for number in 0..3_000 {
            let hits = session(&offers, 3, number);
            assert_eq!(hits[0].kind, Kind::Pageview);
            let mut cart = Vec::new();
            for hit in &hits {
                let product = || {
                    let get = |suffix| hit.parameters.get(&format!("pr1{suffix}")).unwrap().to_owned();
                    ["id", "nm", "ca", "br", "pr"].map(get).into_iter().chain([get("qt")]).collect::<Vec<_>>()
                };
                match hit.kind {
                    Kind::Add => cart.push(product()),
                    Kind::Remove => {
                        let removed = product();
                        let position = cart.iter().position(|added| *added == removed).unwrap();
                        cart.remove(position);
                    }
                    Kind::Purchase => {
                        let cents = |text: &str| text.replace('.', "").parse::<u64>().unwrap();
                        let total: u64 = cart.iter().map(|it| cents(&it[4]) * it[5].parse::<u64>().unwrap()).sum();
                        assert_eq!(cents(hit.parameters.get("tr").unwrap()), total);
                        assert!(hit.parameters.get(&format!("pr{}id", cart.len())).is_some());
                        assert!(hit.parameters.get(&format!("pr{}id", cart.len() + 1)).is_none());
                        assert!(hit.parameters.get("ti").is_some());
                        cart.clear();
                    }
                    Kind::Pageview | Kind::Detail | Kind::Event => {}
                }
            }
        }
    }

    #[test]
    fn every_hit_is_unique_and_as_the_protocol_wants_it() {
        let mut seen = HashSet::new();
        for hit in Traffic::new(9).take(20_000) {
            let parameters = &hit.parameters;
            assert!(seen.insert(parameters.get("z").unwrap().to_owned()));
            assert_eq!(parameters.iter().last().unwrap().0, "z");
            let names: HashSet<&str> = parameters.iter().map(|(name, _)| name).collect();
            assert_eq!(names.len(), parameters.iter().count());
            for name in ["v", "tid", "cid", "t", "dl", "dt", "ul", "sr"] {
                assert!(!parameters.get(name).unwrap().is_empty(), "{name}");
            }
            assert_eq!(parameters.get("t") == Some("event"), names.contains("ec") && names.contains("ea"));
            assert_eq!(parameters.get("pa").is_some(), names.contains("pr1id"));
            assert!(!hit.user_agent.contains("  "), "{}", hit.user_agent);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn every_hit_fits_and_decodes_to_itself(seed in any::<u64>()) {
            for hit in Traffic::new(seed).take(500) {
                let form = hit.parameters.to_form();
                prop_assert!(form.len() < 8_192, "{}", form.len());
                prop_assert_eq!(decoded(&form), pairs(&hit.parameters));
            }
        }
    }
}
