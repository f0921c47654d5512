//! SQS event → Parquet as a good team writes it in Rust today: prost messages, Arrow builders, `ArrowWriter`.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, Int32Builder, Int64Builder, MapBuilder, NullBufferBuilder, RecordBatch, StringBuilder,
        StructArray, TimestampMicrosecondBuilder,
    },
    datatypes::{DataType, Field, Fields, Schema, TimeUnit},
};
use aws_lambda_events::sqs::{SqsEvent, SqsMessage};
use base64::{Engine, prelude::BASE64_STANDARD};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};
use prost::Message;
use prost_types::Timestamp;
use sha2::{Digest, Sha256};
use shared::event::v1::{CardCatalogCreated, Decimal, ManufacturingBatch, OrderCreated};

type Error = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Envelope<'a> {
    event_id: &'a str,
    message_id: &'a str,
    source: Option<&'a str>,
    type_name: &'a str,
    sent_at_ms: i64,
    /// Message attributes without a column of their own.
    attributes: Vec<(&'a str, &'a str)>,
    payload: Vec<u8>,
    event: Event,
}

enum Event {
    Card(CardCatalogCreated),
    Batch(ManufacturingBatch),
    Order(OrderCreated),
    Unregistered,
}

pub(crate) fn messages(event: &SqsEvent) -> Result<Vec<Envelope<'_>>, Error> {
    event.records.iter().map(decode).collect()
}

fn decode(message: &SqsMessage) -> Result<Envelope<'_>, Error> {
    let attribute = |name| message.message_attributes.get(name).and_then(|value| value.string_value.as_deref());
    let payload = BASE64_STANDARD.decode(message.body.as_deref().unwrap_or_default())?;
    let type_name = attribute("type").ok_or("no type")?;
    let event = match type_name {
        "CardCatalogCreated" | "CardCatalogEntryInserted" => Event::Card(CardCatalogCreated::decode(&*payload)?),
        "ManufacturingBatch" => Event::Batch(ManufacturingBatch::decode(&*payload)?),
        "OrderCreated" => Event::Order(OrderCreated::decode(&*payload)?),
        _ => Event::Unregistered,
    };
    Ok(Envelope {
        event_id: attribute("event_id").or(message.message_id.as_deref()).ok_or("no id")?,
        message_id: message.message_id.as_deref().ok_or("no id")?,
        source: attribute("source"),
        type_name,
        sent_at_ms: message.attributes.get("SentTimestamp").ok_or("no SentTimestamp")?.parse()?,
        attributes: message
            .message_attributes
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "type" | "source" | "event_id"))
            .filter_map(|(name, value)| Some((name.as_str(), value.string_value.as_deref()?)))
            .collect(),
        payload,
        event,
    })
}

pub(crate) fn columns(messages: &[Envelope<'_>]) -> Result<RecordBatch, Error> {
    let mut event_id = StringBuilder::new();
    let mut message_id = StringBuilder::new();
    let mut attributes = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    let mut source = StringBuilder::new();
    let mut type_name = StringBuilder::new();
    let mut sent_at = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let mut sha256 = BinaryBuilder::new();
    let mut cards = Cards::default();
    let mut batches = Batches::default();
    let mut orders = Orders::default();
    let mut raw = BinaryBuilder::new();
    for message in messages {
        event_id.append_value(message.event_id);
        message_id.append_value(message.message_id);
        for (name, value) in &message.attributes {
            attributes.keys().append_value(name);
            attributes.values().append_value(value);
        }
        attributes.append(!message.attributes.is_empty())?;
        source.append_option(message.source);
        type_name.append_value(message.type_name);
        sent_at.append_value(message.sent_at_ms * 1_000);
        sha256.append_value(Sha256::digest(&message.payload));
        let (card, batch, order) = match &message.event {
            Event::Card(card) => (Some(card), None, None),
            Event::Batch(batch) => (None, Some(batch), None),
            Event::Order(order) => (None, None, Some(order)),
            Event::Unregistered => (None, None, None),
        };
        cards.append(card);
        batches.append(batch);
        orders.append(order);
        raw.append_option(matches!(message.event, Event::Unregistered).then_some(&message.payload));
    }
    let (cards, batches, orders) = (cards.finish()?, batches.finish()?, orders.finish()?);
    let arrays: [(&str, ArrayRef, bool); 11] = [
        ("event_id", Arc::new(event_id.finish()), false),
        ("message_id", Arc::new(message_id.finish()), false),
        ("source", Arc::new(source.finish()), true),
        ("type", Arc::new(type_name.finish()), false),
        ("sent_at", Arc::new(sent_at.finish()), false),
        ("payload_sha256", Arc::new(sha256.finish()), false),
        ("attributes", Arc::new(attributes.finish()), true),
        ("_raw", Arc::new(raw.finish()), true),
        ("card_catalog_created", Arc::new(cards), true),
        ("manufacturing_batch", Arc::new(batches), true),
        ("order_created", Arc::new(orders), true),
    ];
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = arrays
        .into_iter()
        .map(|(name, array, nullable)| (Field::new(name, array.data_type().clone(), nullable), array))
        .unzip();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
}

pub(crate) fn parquet(columns: &RecordBatch) -> Result<Vec<u8>, Error> {
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1)?);
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), columns.schema(), Some(properties))?;
    writer.write(columns)?;
    Ok(writer.into_inner()?)
}

fn micros(time: &Timestamp) -> i64 {
    time.seconds * 1_000_000 + i64::from(time.nanos / 1_000)
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

struct Decimals {
    present: NullBufferBuilder,
    units: Int64Builder,
    scale: Int64Builder,
}

impl Default for Decimals {
    fn default() -> Self {
        Self { present: NullBufferBuilder::new(0), units: Int64Builder::new(), scale: Int64Builder::new() }
    }
}

impl Decimals {
    fn fields() -> Fields {
        [("units", DataType::Int64), ("scale", DataType::Int64)]
            .map(|(name, data_type)| Field::new(name, data_type, false))
            .into_iter()
            .collect()
    }

    fn append(&mut self, decimal: Option<&Decimal>) {
        self.present.append(decimal.is_some());
        self.units.append_value(decimal.map_or(0, |decimal| decimal.units));
        self.scale.append_value(decimal.map_or(0, |decimal| decimal.scale.into()));
    }

    fn finish(mut self) -> Result<StructArray, Error> {
        let arrays: Vec<ArrayRef> = vec![Arc::new(self.units.finish()), Arc::new(self.scale.finish())];
        Ok(StructArray::try_new(Self::fields(), arrays, self.present.finish())?)
    }
}

struct Cards {
    present: NullBufferBuilder,
    sku: StringBuilder,
    card_name: StringBuilder,
    sport: StringBuilder,
    player_name: StringBuilder,
    team_name: StringBuilder,
    parallel: StringBuilder,
    print_run: Int32Builder,
}

impl Default for Cards {
    fn default() -> Self {
        Self {
            present: NullBufferBuilder::new(0),
            sku: StringBuilder::new(),
            card_name: StringBuilder::new(),
            sport: StringBuilder::new(),
            player_name: StringBuilder::new(),
            team_name: StringBuilder::new(),
            parallel: StringBuilder::new(),
            print_run: Int32Builder::new(),
        }
    }
}

impl Cards {
    fn append(&mut self, card: Option<&CardCatalogCreated>) {
        self.present.append(card.is_some());
        self.sku.append_value(card.map_or("", |card| &card.sku));
        self.card_name.append_value(card.map_or("", |card| &card.card_name));
        self.sport.append_value(card.map_or("", |card| &card.sport));
        self.player_name.append_value(card.map_or("", |card| &card.player_name));
        self.team_name.append_value(card.map_or("", |card| &card.team_name));
        self.parallel.append_option(card.and_then(|card| card.parallel.as_deref()));
        self.print_run.append_option(card.and_then(|card| card.print_run));
    }

    fn finish(mut self) -> Result<StructArray, Error> {
        let fields = vec![
            Field::new("sku", DataType::Utf8, false),
            Field::new("card_name", DataType::Utf8, false),
            Field::new("sport", DataType::Utf8, false),
            Field::new("player_name", DataType::Utf8, false),
            Field::new("team_name", DataType::Utf8, false),
            Field::new("parallel", DataType::Utf8, true),
            Field::new("print_run", DataType::Int32, true),
        ];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(self.sku.finish()),
            Arc::new(self.card_name.finish()),
            Arc::new(self.sport.finish()),
            Arc::new(self.player_name.finish()),
            Arc::new(self.team_name.finish()),
            Arc::new(self.parallel.finish()),
            Arc::new(self.print_run.finish()),
        ];
        Ok(StructArray::try_new(fields.into(), arrays, self.present.finish())?)
    }
}

struct Batches {
    present: NullBufferBuilder,
    batch_id: StringBuilder,
    sku: StringBuilder,
    production_date: TimestampMicrosecondBuilder,
    quantity_produced: Int64Builder,
    defect_rate_estimate: Decimals,
}

impl Default for Batches {
    fn default() -> Self {
        Self {
            present: NullBufferBuilder::new(0),
            batch_id: StringBuilder::new(),
            sku: StringBuilder::new(),
            production_date: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            quantity_produced: Int64Builder::new(),
            defect_rate_estimate: Decimals::default(),
        }
    }
}

impl Batches {
    fn append(&mut self, batch: Option<&ManufacturingBatch>) {
        self.present.append(batch.is_some());
        self.batch_id.append_value(batch.map_or("", |batch| &batch.batch_id));
        self.sku.append_value(batch.map_or("", |batch| &batch.sku));
        self.production_date.append_option(batch.and_then(|batch| batch.production_date.as_ref()).map(micros));
        self.quantity_produced.append_value(batch.map_or(0, |batch| batch.quantity_produced));
        self.defect_rate_estimate.append(batch.and_then(|batch| batch.defect_rate_estimate.as_ref()));
    }

    fn finish(mut self) -> Result<StructArray, Error> {
        let fields = vec![
            Field::new("batch_id", DataType::Utf8, false),
            Field::new("sku", DataType::Utf8, false),
            Field::new("production_date", timestamp(), true),
            Field::new("quantity_produced", DataType::Int64, false),
            Field::new("defect_rate_estimate", DataType::Struct(Decimals::fields()), true),
        ];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(self.batch_id.finish()),
            Arc::new(self.sku.finish()),
            Arc::new(self.production_date.finish()),
            Arc::new(self.quantity_produced.finish()),
            Arc::new(self.defect_rate_estimate.finish()?),
        ];
        Ok(StructArray::try_new(fields.into(), arrays, self.present.finish())?)
    }
}

struct Orders {
    present: NullBufferBuilder,
    order_id: StringBuilder,
    order_ts: TimestampMicrosecondBuilder,
    customer_id: StringBuilder,
    sku: StringBuilder,
    quantity: Int32Builder,
    price: Decimals,
    status: StringBuilder,
}

impl Default for Orders {
    fn default() -> Self {
        Self {
            present: NullBufferBuilder::new(0),
            order_id: StringBuilder::new(),
            order_ts: TimestampMicrosecondBuilder::new().with_timezone("UTC"),
            customer_id: StringBuilder::new(),
            sku: StringBuilder::new(),
            quantity: Int32Builder::new(),
            price: Decimals::default(),
            status: StringBuilder::new(),
        }
    }
}

impl Orders {
    fn append(&mut self, order: Option<&OrderCreated>) {
        self.present.append(order.is_some());
        self.order_id.append_value(order.map_or("", |order| &order.order_id));
        self.order_ts.append_option(order.and_then(|order| order.order_ts.as_ref()).map(micros));
        self.customer_id.append_value(order.map_or("", |order| &order.customer_id));
        self.sku.append_value(order.map_or("", |order| &order.sku));
        self.quantity.append_value(order.map_or(0, |order| order.quantity));
        self.price.append(order.and_then(|order| order.price.as_ref()));
        self.status.append_value(order.map_or("", |order| order.status().as_str_name()));
    }

    fn finish(mut self) -> Result<StructArray, Error> {
        let fields = vec![
            Field::new("order_id", DataType::Utf8, false),
            Field::new("order_ts", timestamp(), true),
            Field::new("customer_id", DataType::Utf8, false),
            Field::new("sku", DataType::Utf8, false),
            Field::new("quantity", DataType::Int32, false),
            Field::new("price", DataType::Struct(Decimals::fields()), true),
            Field::new("status", DataType::Utf8, false),
        ];
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(self.order_id.finish()),
            Arc::new(self.order_ts.finish()),
            Arc::new(self.customer_id.finish()),
            Arc::new(self.sku.finish()),
            Arc::new(self.quantity.finish()),
            Arc::new(self.price.finish()?),
            Arc::new(self.status.finish()),
        ];
        Ok(StructArray::try_new(fields.into(), arrays, self.present.finish())?)
    }
}
