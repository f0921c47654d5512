//! Connections to the broker: one at a time, to the next host when one fails, with a channel and a consumer for each queue.

use std::{sync::Arc, time::Duration};

use async_rs::{Runtime, Tokio, util::RuntimeParts};
use futures_util::{StreamExt, future::join_all};
use lapin::{
    Channel, Connection, ConnectionProperties,
    message::Delivery,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    tcp::OwnedTLSConfig,
    types::{FieldTable, LongString},
    uri::AMQPUri,
};
use runtime::pause::jittered;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{error, info, warn};

use crate::{
    config::{CONNECT, Config, Declare},
    forward::{Delivered, Inlet},
    gate::{Gate, GatedReactor},
    ledger::{Event, Ledger},
    message::{Incoming, convert},
};

/// The pause before connecting again. It doubles with each failure, up to the longest.
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// For how long a connection or a consumer has to work before the pause is short again.
const STABLE: Duration = Duration::from_secs(10);
const CLOSE: Duration = Duration::from_secs(2);

/// Everything that deliveries are taken with.
#[derive(Debug, Clone)]
pub struct Broker {
    /// The settings.
    pub config: Config,
    /// Where messages go.
    pub inlet: Inlet,
    /// Where they are counted.
    pub ledger: Arc<Ledger>,
    /// The limit of their bytes.
    pub gate: Gate,
    /// Becomes true when nothing more is to be taken.
    pub stop: watch::Receiver<bool>,
}

/// A pause that grows.
struct Pauses(Duration);

impl Pauses {
    /// Waits, or returns at once when `stop` becomes true.
    async fn wait(&mut self, stop: &mut watch::Receiver<bool>) {
        let pause = jittered(self.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(stop) => {}
        }
    }

    fn forget(&mut self) {
        self.0 = PAUSE;
    }
}

/// A connection that takes nothing more. Acknowledgements of what is in flight still need it and its channels, which close when
/// they are dropped.
#[derive(Debug)]
pub struct Open {
    connection: Connection,
    _channels: Vec<Option<Channel>>,
}

impl Open {
    /// Closes the connection.
    pub async fn close(self) {
        drop(timeout(CLOSE, self.connection.close(200, "the consumer stops".into())).await);
    }
}

/// Returns when `stop` is true.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

impl Broker {
    /// Takes messages until `stop`.
    pub async fn run(self) -> Option<Open> {
        let mut stop = self.stop.clone();
        let mut pauses = Pauses(PAUSE);
        let mut hosts = self.config.hosts.iter().cycle();
        while !*stop.borrow() {
            let host = hosts.next()?;
            let name = format!("{}:{}", host.authority.host, host.authority.port);
            match timeout(CONNECT, self.connect(host)).await {
                Err(_) => error!(host = name, "the broker does not answer"),
                Ok(Err(cause)) => error!(host = name, %cause, "the broker cannot be connected"),
                Ok(Ok(connection)) => {
                    info!(host = name, heartbeat_seconds = connection.configuration().heartbeat(), "connected");
                    self.ledger.connected(true);
                    let begun = tokio::time::Instant::now();
                    let consumers = self.config.queues.iter().map(|queue| self.consume(&connection, queue));
                    let channels = join_all(consumers).await;
                    if *stop.borrow() {
                        return Some(Open { connection, _channels: channels });
                    }
                    self.ledger.connected(false);
                    self.ledger.count(Event::ConnectionLost);
                    warn!(host = name, "the connection was lost; what was in flight is delivered again");
                    if begun.elapsed() >= STABLE {
                        pauses.forget();
                    }
                }
            }
            pauses.wait(&mut stop).await;
        }
        None
    }

    async fn connect(&self, host: &AMQPUri) -> lapin::Result<Connection> {
        let tokio = Tokio::current();
        let reactor = GatedReactor { tokio: tokio.clone(), gate: self.gate.clone() };
        let name = LongString::from(format!("landfall {} {}", self.config.stack, crate::SERVICE));
        let properties = ConnectionProperties::default().with_connection_name(name);
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.config.ca.clone() };
        let runtime = Runtime::new(RuntimeParts::new(tokio, reactor));
        Connection::connect_uri_with_config(host.clone(), properties, tls, runtime).await
    }

    /// Consumes one queue until the connection ends, or `stop`: then the channel is still open.
    async fn consume(&self, connection: &Connection, queue: &str) -> Option<Channel> {
        let mut stop = self.stop.clone();
        let mut pauses = Pauses(PAUSE);
        while connection.status().connected() && !*stop.borrow() {
            let begun = tokio::time::Instant::now();
            match self.consume_once(connection, queue).await {
                Ok(channel) if *stop.borrow() => return Some(channel),
                Ok(channel) => {
                    warn!(queue, "the broker has cancelled the consumer; it subscribes again");
                    // Acknowledgements of what is in flight go through the old channel meanwhile.
                    pauses.wait(&mut stop).await;
                    drop(channel);
                }
                Err(cause) if connection.status().connected() => {
                    error!(queue, %cause, "the queue cannot be consumed; this is tried again");
                }
                Err(_) => return None,
            }
            if begun.elapsed() >= STABLE {
                pauses.forget();
            }
            pauses.wait(&mut stop).await;
        }
        None
    }

    async fn consume_once(&self, connection: &Connection, queue: &str) -> lapin::Result<Channel> {
        let mut stop = self.stop.clone();
        let channel = connection.create_channel().await?;
        self.declare(&channel, queue).await?;
        channel.basic_qos(self.config.prefetch_messages, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = channel.basic_consume(queue.into(), "".into(), options, arguments).await?;
        info!(queue, prefetch = self.config.prefetch_messages, "consuming");
        let mut is_stopping = false;
        loop {
            tokio::select! {
                delivery = consumer.next() => match delivery {
                    Some(delivery) => self.take(queue, delivery?),
                    None => break,
                },
                () = stopped(&mut stop), if !is_stopping => {
                    is_stopping = true;
                    channel.basic_cancel(consumer.tag(), BasicCancelOptions::default()).await?;
                }
            }
        }
        Ok(channel)
    }

    async fn declare(&self, channel: &Channel, queue: &str) -> lapin::Result<()> {
        let kind = match self.config.declare {
            Declare::No => return Ok(()),
            Declare::Quorum => "quorum",
            Declare::Classic => "classic",
        };
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), LongString::from(kind).into());
        if self.config.single_active {
            arguments.insert("x-single-active-consumer".into(), true.into());
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(queue.into(), options, arguments).await?;
        for binding in self.config.bindings.iter().filter(|binding| binding.queue == queue) {
            let (exchange, key) = (binding.exchange.as_str().into(), binding.routing_key.as_str().into());
            channel.queue_bind(queue.into(), exchange, key, QueueBindOptions::default(), FieldTable::default()).await?;
        }
        Ok(())
    }

    fn take(&self, queue: &str, delivery: Delivery) {
        let incoming = Incoming {
            queue,
            exchange: delivery.exchange.as_str(),
            routing_key: delivery.routing_key.as_str(),
            properties: &delivery.properties,
            body: &delivery.data,
        };
        let (message, poison) = convert(&incoming, &self.config.type_from, &self.config.source_from);
        let share = self.gate.take(message.memory());
        self.inlet.put(Delivered::new(message, delivery.acker, &self.ledger, share), poison);
    }
}
