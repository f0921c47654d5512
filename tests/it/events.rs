//! SQS events for the tests: the files of `events/`, and events made of messages.

use std::{fs, path::PathBuf};

use prost::Message as _;
use serde_json::{Value, json};
use shared::{
    event::v1::{CardCatalogCreated, Decimal, ManufacturingBatch, OrderCreated, OrderStatus},
    quarantine::base64,
};

/// 2026-11-20T14:11:46.000Z, when the messages of [`order`] begin.
pub(crate) const SENT_MS: i64 = 1_795_183_906_000;

/// The folder that holds the workspace.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of `events/`.
pub(crate) fn file(name: &str) -> Value {
    let path = root().join("events").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// The event of a schedule, as EventBridge sends it at this time.
pub(crate) fn tick(ms: i64) -> Value {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap();
    json!({"source": "aws.events", "detail-type": "Scheduled Event", "time": time})
}

/// One SQS message, as a function receives it.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) body: String,
    pub(crate) sent_ms: i64,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Sent {
    pub(crate) fn new(id: &str, source: &str, type_name: &str, payload: &[u8], sent_ms: i64) -> Self {
        let attributes = [("source", source), ("type", type_name), ("event_id", &format!("event-{id}"))];
        Self {
            id: id.to_owned(),
            body: base64(payload),
            sent_ms,
            attributes: attributes.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        }
    }

    pub(crate) fn record(&self) -> Value {
        let attributes: serde_json::Map<String, Value> = self
            .attributes
            .iter()
            .map(|(name, value)| (name.clone(), json!({"dataType": "String", "stringValue": value})))
            .collect();
        json!({
            "messageId": self.id,
            "receiptHandle": format!("receipt-{}", self.id),
            "body": self.body,
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": self.sent_ms.to_string()},
            "messageAttributes": attributes,
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:events",
            "awsRegion": "eu-west-1",
        })
    }
}

/// An SQS event of `messages`.
pub(crate) fn event<'a>(messages: impl IntoIterator<Item = &'a Sent>) -> Value {
    json!({"Records": messages.into_iter().map(Sent::record).collect::<Vec<_>>()})
}

/// The `n`th order.
pub(crate) fn order_created(n: usize) -> OrderCreated {
    let n64 = i64::try_from(n).unwrap();
    OrderCreated {
        order_id: format!("ORD-{n:06}"),
        order_ts: Some(prost_types::Timestamp { seconds: 1_795_183_900 + n64, nanos: 250_000_000 }),
        customer_id: format!("CUS-{:04}", n % 97),
        sku: format!("SKU-{:04}", n % 31),
        quantity: i32::try_from(n % 7 + 1).unwrap(),
        price: Some(Decimal { units: 99 + n64 % 1_000, scale: 2 }),
        status: OrderStatus::Paid.into(),
    }
}

/// The message of the `n`th order, sent `n` milliseconds after [`SENT_MS`].
pub(crate) fn order(n: usize) -> Sent {
    let sent_ms = SENT_MS + i64::try_from(n).unwrap();
    Sent::new(&format!("message-{n:05}"), "orders", "OrderCreated", &order_created(n).encode_to_vec(), sent_ms)
}

/// A message with the `n`th card.
pub(crate) fn card(n: usize) -> Sent {
    let card = CardCatalogCreated {
        sku: format!("SKU-{n:04}"),
        card_name: format!("Rookie Card #{n}"),
        sport: "baseball".into(),
        player_name: "J. Santos".into(),
        team_name: "Harbor City".into(),
        parallel: n.is_multiple_of(2).then(|| "Gold".into()),
        print_run: n.is_multiple_of(2).then_some(50),
    };
    let sent_ms = SENT_MS + i64::try_from(n).unwrap();
    Sent::new(&format!("message-{n:05}"), "cards", "CardCatalogCreated", &card.encode_to_vec(), sent_ms)
}

/// A message with the `n`th manufacturing batch.
pub(crate) fn batch(n: usize) -> Sent {
    let batch = ManufacturingBatch {
        batch_id: format!("BATCH-{n:04}"),
        sku: "SKU-0042".into(),
        production_date: Some(prost_types::Timestamp { seconds: 1_795_132_800, nanos: 0 }),
        quantity_produced: 5_000,
        defect_rate_estimate: Some(Decimal { units: 125, scale: 4 }),
    };
    let sent_ms = SENT_MS + i64::try_from(n).unwrap();
    Sent::new(&format!("message-{n:05}"), "manufacturing", "ManufacturingBatch", &batch.encode_to_vec(), sent_ms)
}
