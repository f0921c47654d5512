//! Visitors of an imaginary shop, generated from a seed.
//!
//! Three sessions in ten are a single page view; six have two hits plus a geometrically distributed number with a mean of
//! 3; one has two plus a geometrically distributed number with a mean of 15. So a session has 5 hits on average, its median
//! is 3, and one in a hundred has more than 36. The hits of concurrent sessions are interleaved, as they reach a server.

use std::{borrow::Cow, collections::VecDeque};

use crate::{
    hit::{Hit, Kind, Parameters, Product},
    random::{Random, mix},
    visitor::{Page, SHOP, Visitor, unique},
};

const CONCURRENT_SESSIONS: usize = 24;
const MAX_SESSION_HITS: usize = 400;
const PRODUCTS: usize = 480;
/// Most different products in a cart.
const MAX_CART: usize = 8;

/// Where visitors come from; empty when they typed the address.
const REFERRERS: [(usize, &str); 6] = [
    (40, "https://www.google.com/"),
    (34, ""),
    (9, "https://www.instagram.com/"),
    (7, "https://www.bing.com/"),
    (6, "https://duckduckgo.com/"),
    (4, "https://newsletter.shop.example/2026/november?utm_source=mail&utm_campaign=café"),
];

const BRANDS: &str = "Norden, Aalto, Brise, Kestrel, Lumière, Hansen & Søn, Pico, Terra, Ørsted, Vela, Wren, Zenit";

/// Categories and their products.
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

/// Category and action of events that have no product.
const EVENTS: [(&str, &str); 6] = [
    ("navigation", "menu open"),
    ("search", "filter"),
    ("product", "zoom image"),
    ("product", "select size"),
    ("newsletter", "subscribe"),
    ("video", "play"),
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Offer {
    product: Product,
    cents: u64,
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// The shop's products. They do not depend on the seed: another seed means other visitors of the same shop.
fn offers() -> Vec<Offer> {
    let mut random = Random::new(0, 0);
    let brands: Vec<&str> = BRANDS.split(", ").collect();
    let catalogue: Vec<(&str, &str)> = CATEGORIES
        .iter()
        .flat_map(|(category, products)| products.iter().map(|product| (*category, *product)))
        .collect();
    (0..PRODUCTS)
        .map(|number| {
            let (category, name) = random.pick_any(&catalogue);
            let (brand, colour) = (random.pick_any(&brands), random.pick_any(&COLOURS));
            let cents = 490 + (random.below(200) * random.below(200)) as u64 + 100 * random.below(20) as u64;
            let product = Product {
                id: format!("SKU-{:05}", 10_000 + number),
                name: Some(format!("{brand} {name}, {colour}")),
                category: Some(category.to_owned()),
                brand: Some(brand.to_owned()),
                price: Some(money(cents)),
            };
            Offer { product, cents }
        })
        .collect()
}

/// The number of hits of a session.
fn length(random: &mut Random) -> usize {
    let continues_per_mille = match random.below(10) {
        0..3 => return 1,
        3..9 => 750,
        _ => 938,
    };
    let mut length = 2;
    while length < MAX_SESSION_HITS && random.below(1_000) < continues_per_mille {
        length += 1;
    }
    length
}

/// A session while it walks through the shop.
struct Walk<'a> {
    offers: &'a [Offer],
    random: Random,
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
        let (can_add, has_cart) = (self.seen.is_some() && self.cart.len() < MAX_CART, !self.cart.is_empty());
        let kind = if self.path.is_empty() {
            Kind::Pageview
        } else {
            self.random
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
        let mut details = Parameters::default();
        match kind {
            Kind::Pageview => self.see_page(),
            Kind::Detail => {
                self.seen = self.random.pick_popular(self.offers);
                if let Some(offer) = self.seen {
                    let path = format!("/p/{}", offer.product.id);
                    self.go(path, offer.product.name.clone().unwrap_or_default().into());
                    offer.product.write(&mut details, 1, None);
                }
            }
            Kind::Add => {
                if let Some(offer) = self.seen.take() {
                    let quantity = self.random.pick(&[(88, 1), (9, 2), (3, 4)]);
                    offer.product.write(&mut details, 1, Some(quantity));
                    self.cart.push((offer, quantity));
                }
            }
            Kind::Remove => {
                let position = self.random.below(self.cart.len());
                if position < self.cart.len() {
                    let (offer, quantity) = self.cart.remove(position);
                    offer.product.write(&mut details, 1, Some(quantity));
                }
            }
            Kind::Purchase => {
                self.go("/checkout/thanks".to_owned(), "Thank you".into());
                let bought = std::mem::take(&mut self.cart);
                let total: u64 = bought.iter().map(|(offer, quantity)| offer.cents * u64::from(*quantity)).sum();
                details.push("ti", format!("T-{:016X}", mix(unique)));
                details.push("ta", "shop.example");
                details.push("tr", money(total));
                for (number, (offer, quantity)) in (1..).zip(&bought) {
                    offer.product.write(&mut details, number, Some(*quantity));
                }
            }
            Kind::Event => {
                let (category, action) = self.random.pick_any(&EVENTS);
                details.push("ec", category);
                details.push("ea", action);
            }
        }
        let page = Page { path: &self.path, title: &self.title, referrer: &self.referrer };
        self.visitor.hit(kind, self.session, &page, details, unique)
    }

    fn see_page(&mut self) {
        let (category, _) = self.random.pick_any(&CATEGORIES);
        match self.random.below(10) {
            0..3 => self.go("/".to_owned(), "Shop – everything for the home and beyond".into()),
            3..8 => self.go(format!("/c/{}", category.to_lowercase()), format!("{category} – Shop").into()),
            8 => {
                let words = self.random.pick_any(&SEARCHES);
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
        self.referrer = if left.is_empty() { self.random.pick(&REFERRERS).to_owned() } else { format!("{SHOP}{left}") };
    }
}

/// All hits of the session with this number.
fn session(offers: &[Offer], seed: u64, number: u64) -> VecDeque<Hit> {
    let mut random = Random::new(seed, number);
    let (length, visitor) = (length(&mut random), Visitor::new(&mut random));
    let mut walk = Walk {
        offers,
        random,
        visitor,
        session: number,
        path: String::new(),
        title: Cow::default(),
        referrer: String::new(),
        seen: None,
        cart: Vec::new(),
    };
    (0..length as u64).map(|hit| walk.step(unique(seed, number * MAX_SESSION_HITS as u64 + hit))).collect()
}

/// An endless sequence of hits. The same seed gives the same hits.
#[derive(Debug)]
pub struct Traffic {
    seed: u64,
    offers: Vec<Offer>,
    random: Random,
    begun: u64,
    running: Vec<VecDeque<Hit>>,
}

impl Traffic {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, offers: offers(), random: Random::new(seed, u64::MAX), begun: 0, running: Vec::new() }
    }
}

impl Iterator for Traffic {
    type Item = Hit;

    fn next(&mut self) -> Option<Hit> {
        while self.running.len() < CONCURRENT_SESSIONS {
            self.running.push(session(&self.offers, self.seed, self.begun));
            self.begun += 1;
        }
        let position = self.random.below(self.running.len());
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
    use crate::{
        hit::tests::{decoded, pairs},
        random::hash,
    };

    /// Hash of the thousandth hit of seed 1. If it changes, the same seed no longer sends the same hits as before.
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
        assert_eq!(format!("{:016x}", hash(&one[999].parameters.to_form())), FINGERPRINT);
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
        assert!(lengths[19_999] <= MAX_SESSION_HITS);
    }

    #[test]
    fn kinds_are_as_frequent_as_in_a_shop() {
        let mut counts = BTreeMap::new();
        Traffic::new(1).take(50_000).for_each(|hit| *counts.entry(hit.kind).or_insert(0_u32) += 1);
        let thousandths = Kind::ALL.map(|kind| counts[&kind] / 50);
        let expected = [550..700, 180..300, 20..80, 2..15, 5..30, 30..80];
        for (kind, (count, range)) in Kind::ALL.iter().zip(thousandths.iter().zip(&expected)) {
            assert!(range.contains(count), "{kind:?}: {thousandths:?}");
        }
    }

    #[test]
    fn a_thousand_hits_have_every_kind_and_many_sessions() {
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
    fn every_hit_is_unique_and_follows_the_protocol() {
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
