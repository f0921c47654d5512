//! Seeded SQS events of a maker of trading cards: 90 % orders, 9 % catalog entries, 1 % production batches.
//!
//! The same seed gives the same bytes. Ids are UUIDs, customers and cards are drawn with a heavy head, and messages
//! arrive nearly, not quite, in the order in which they were sent, as from a standard queue.

use prost::Message;
use prost_types::Timestamp;
use serde::Serialize;
use shared::{
    event::v1::{CardCatalogCreated, Decimal, ManufacturingBatch, OrderCreated, OrderStatus},
    quarantine::base64,
};

/// 2026-11-20T12:00:00Z. A batch lasts a minute, so all of it is of one day.
const FIRST_SENT_MS: u64 = 1_795_176_000_000;
const WINDOW_MS: u64 = 60_000;
const CUSTOMERS: u64 = 20_000;
const CARDS: u64 = 5_000;

const SPORTS: [(&str, [&str; 2]); 4] = [
    ("Baseball", ["Harbor Gulls", "Iron Valley Miners"]),
    ("Basketball", ["Lakeside Herons", "Northgate Comets"]),
    ("Football", ["Prairie Bison", "Redwood Rams"]),
    ("Hockey", ["Glacier Bay Orcas", "Summit Wolves"]),
];
const PLAYERS: [&str; 7] =
    ["Ana Ruiz", "Bo Lindqvist", "Chidi Okafor", "Dana O’Neil", "Émile Tremblay", "Jūratė Petrauskė", "佐藤 健"];
const PARALLELS: [&str; 4] = ["Gold", "Holo", "Prism", "Refractor"];
const PRICES: [i64; 7] = [99, 199, 299, 499, 999, 2_499, 9_999];

/// The fields that each message of an event has besides its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Envelope {
    /// All that SQS sends, receipt handles of 404 characters included: about 4,500 messages fill an event of 6 MB.
    Full,
    /// Only what has a meaning here, and a short receipt handle, so that 10,000 messages fit into one event.
    Compact,
}

/// An SQS event of `messages` messages.
pub fn sqs_event(messages: usize, envelope: Envelope, seed: u64) -> Result<Vec<u8>, serde_json::Error> {
    let mut random = Random(seed);
    let count = messages as u64;
    let records = (0..count)
        .map(|position| {
            // A neighbour may overtake by up to 50 ms.
            let sent_ms = FIRST_SENT_MS + position * WINDOW_MS / count.max(1) + random.below(50);
            let (source, type_name, payload) = event(&mut random, sent_ms);
            Record::new(&mut random, envelope, sent_ms, source, type_name, &payload)
        })
        .collect();
    serde_json::to_vec(&Event { records })
}

/// A message as receiving it gives it.
#[derive(Debug)]
pub struct Received {
    /// The message's id.
    pub message_id: String,
    /// 404 characters.
    pub receipt_handle: String,
    /// When it was sent, in milliseconds since 1970-01-01T00:00:00Z.
    pub sent_ms: u64,
    /// The message attribute `source`.
    pub source: &'static str,
    /// The message attribute `type`.
    pub type_name: &'static str,
    /// The message attribute `event_id`.
    pub event_id: String,
    /// The payload.
    pub body: String,
}

/// Messages without end, ten of them a millisecond.
pub fn received(seed: u64) -> impl Iterator<Item = Received> {
    let mut random = Random(seed);
    (0..).map(move |position| {
        let sent_ms = FIRST_SENT_MS + position / 10 + random.below(50);
        let (source, type_name, payload) = event(&mut random, sent_ms);
        Received {
            message_id: uuid(random.next(), random.next()),
            receipt_handle: receipt_handle(&mut random, 303),
            sent_ms,
            source,
            type_name,
            event_id: uuid(random.next(), random.next()),
            body: base64(&payload),
        }
    })
}

fn receipt_handle(random: &mut Random, bytes: usize) -> String {
    let bytes: Vec<u8> = (0..bytes).map(|_| random.next().to_le_bytes()).map(|[byte, ..]| byte).collect();
    base64(&bytes)
}

/// One payload with its source and type.
fn event(random: &mut Random, sent_ms: u64) -> (&'static str, &'static str, Vec<u8>) {
    match random.below(100) {
        0..90 => ("orders", "OrderCreated", order(random, sent_ms).encode_to_vec()),
        90..99 => ("cards", "CardCatalogCreated", card(random).encode_to_vec()),
        _ => ("manufacturing", "ManufacturingBatch", production(random, sent_ms).encode_to_vec()),
    }
}

fn order(random: &mut Random, sent_ms: u64) -> OrderCreated {
    let statuses = [OrderStatus::Created, OrderStatus::Paid, OrderStatus::Paid, OrderStatus::Shipped];
    let micros = sent_ms * 1_000 - random.below(2_000_000);
    OrderCreated {
        order_id: uuid(random.next(), random.next()),
        order_ts: Some(timestamp(micros)),
        customer_id: random.id_of(CUSTOMERS, 1),
        sku: sku(random),
        quantity: random.skewed(12) as i32 + 1,
        price: Some(Decimal { units: random.choose(&PRICES), scale: 2 }),
        status: random.choose(&statuses).into(),
    }
}

fn card(random: &mut Random) -> CardCatalogCreated {
    let (sport, teams) = random.choose(&SPORTS);
    let player = random.choose(&PLAYERS);
    let numbered = random.below(10) < 3;
    CardCatalogCreated {
        sku: sku(random),
        card_name: format!("2026 {player}"),
        sport: sport.to_owned(),
        player_name: player.to_owned(),
        team_name: random.choose(&teams).to_owned(),
        parallel: numbered.then(|| random.choose(&PARALLELS).to_owned()),
        print_run: numbered.then(|| random.choose(&[1, 10, 25, 99, 499])),
    }
}

fn production(random: &mut Random, sent_ms: u64) -> ManufacturingBatch {
    ManufacturingBatch {
        batch_id: uuid(random.next(), random.next()),
        sku: sku(random),
        production_date: Some(timestamp(sent_ms / 86_400_000 * 86_400_000_000)),
        quantity_produced: random.below(5_000_000).cast_signed(),
        defect_rate_estimate: Some(Decimal { units: random.below(500).cast_signed(), scale: 5 }),
    }
}

fn sku(random: &mut Random) -> String {
    random.id_of(CARDS, 2)
}

fn timestamp(micros: u64) -> Timestamp {
    let nanos = (micros % 1_000_000 * 1_000) as i32;
    Timestamp { seconds: (micros / 1_000_000).cast_signed(), nanos }
}

/// A version 4 UUID of two random numbers.
fn uuid(high: u64, low: u64) -> String {
    let (high, low) = (high & !0xf000 | 0x4000, low >> 2 | 1 << 63);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

#[derive(Serialize)]
struct Event {
    #[serde(rename = "Records")]
    records: Vec<Record>,
}

/// One message in the order in which SQS writes its fields.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    message_id: String,
    receipt_handle: String,
    body: String,
    attributes: SystemAttributes,
    message_attributes: MessageAttributes,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_of_message_attributes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5_of_body: Option<String>,
    event_source: &'static str,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: &'static str,
    aws_region: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SystemAttributes {
    approximate_receive_count: &'static str,
    sent_timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    sender_id: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approximate_first_receive_timestamp: Option<String>,
}

#[derive(Serialize)]
struct MessageAttributes {
    source: MessageAttribute,
    r#type: MessageAttribute,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<MessageAttribute>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MessageAttribute {
    string_value: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    string_list_values: Option<[String; 0]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binary_list_values: Option<[String; 0]>,
    data_type: &'static str,
}

impl Record {
    fn new(
        random: &mut Random,
        envelope: Envelope,
        sent_ms: u64,
        source: &str,
        type_name: &str,
        payload: &[u8],
    ) -> Self {
        let full = envelope == Envelope::Full;
        let attribute = |value: String| MessageAttribute {
            string_value: value,
            string_list_values: full.then_some([]),
            binary_list_values: full.then_some([]),
            data_type: "String",
        };
        let receipt_handle = receipt_handle(random, if full { 303 } else { 30 });
        let digest = |random: &mut Random| full.then(|| format!("{:016x}{:016x}", random.next(), random.next()));
        Self {
            message_id: uuid(random.next(), random.next()),
            receipt_handle,
            body: base64(payload),
            attributes: SystemAttributes {
                approximate_receive_count: "1",
                sent_timestamp: sent_ms.to_string(),
                sender_id: full.then_some("AIDAIENQZJOLO23YVJ4VO"),
                approximate_first_receive_timestamp: full.then(|| (sent_ms + 7).to_string()),
            },
            message_attributes: MessageAttributes {
                source: attribute(source.to_owned()),
                r#type: attribute(type_name.to_owned()),
                event_id: full.then(|| attribute(uuid(random.next(), random.next()))),
            },
            md5_of_message_attributes: digest(random),
            md5_of_body: digest(random),
            event_source: "aws:sqs",
            event_source_arn: "arn:aws:sqs:eu-west-1:123456789012:events",
            aws_region: "eu-west-1",
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): enough for test data, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A number below `limit`, small ones far more often: the cube of a uniform one.
    fn skewed(&mut self, limit: u64) -> u64 {
        let scale = |fraction: u64, limit: u64| ((u128::from(fraction) * u128::from(limit)) >> 64) as u64;
        let uniform = self.next();
        scale(scale(scale(uniform, uniform), uniform), limit)
    }

    #[expect(clippy::indexing_slicing, reason = "the position is below the length, and nothing here is empty")]
    fn choose<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    /// One of `count` ids of a `kind`, some far more often than others. The same number is always the same id.
    fn id_of(&mut self, count: u64, kind: u64) -> String {
        let mut id = Self(self.skewed(count) * 16 + kind);
        uuid(id.next(), id.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_event() {
        let event = sqs_event(200, Envelope::Full, 1).unwrap();
        assert_eq!(event, sqs_event(200, Envelope::Full, 1).unwrap());
        assert_ne!(event, sqs_event(200, Envelope::Full, 2).unwrap());
    }

    #[test]
    fn ten_thousand_compact_messages_fit_into_one_invocation() {
        assert!(sqs_event(10_000, Envelope::Compact, 1).unwrap().len() < 6 << 20);
    }
}
