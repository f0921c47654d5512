//! The settings, read from the environment once. The doc comment of each field is also its row in the README.

use std::{fs, str::FromStr, time::Duration};

use lapin::uri::{AMQPScheme, AMQPUri};
use runtime::settings::{self, Lookup, SettingError, Settings};

/// How long opening a connection may take, TLS and handshake included.
pub const CONNECT: Duration = Duration::from_secs(10);

/// The largest frame. The AMQP library has two buffers of 32 frames for a connection; the broker's default would make them 8 MB.
const FRAME_BYTES: u32 = 32_768;

/// The settings.
#[derive(Debug, Clone)]
pub struct Config {
    /// `STACK_NAME`: name of the stack, a dimension of the metrics; `landfall` by default.
    pub stack: String,
    /// `AMQP_URLS`: addresses of the broker's hosts, separated by commas; the next one is tried when one fails. Required.
    /// `AMQP_USERNAME` and `AMQP_PASSWORD` replace what the addresses say.
    pub hosts: Vec<AMQPUri>,
    /// `AMQP_CA_FILE`: a file of certificates in PEM that are trusted besides those of the system, such as a private CA.
    pub ca: Option<String>,
    /// `HEARTBEAT_SECONDS`: how often the broker and the consumer say that they are there; 30 by default, 5 to 60.
    pub heartbeat_seconds: u16,
    /// `QUEUES`: names of the queues, separated by commas. Required.
    pub queues: Vec<String>,
    /// `DECLARE_QUEUES`: `no` (they exist, the default), or `quorum` or `classic` to declare them as durable queues of that type.
    pub declare: Declare,
    /// `SINGLE_ACTIVE_CONSUMER`: whether queues are declared so that one consumer at a time gets messages; `no` by default.
    pub single_active: bool,
    /// `BINDINGS`: `queue=exchange:routing key`, separated by commas; created when queues are declared.
    pub bindings: Vec<Binding>,
    /// `PREFETCH_MESSAGES`: messages of each queue that are in flight at most; 1,000 by default.
    pub prefetch_messages: u16,
    /// `PREFETCH_BYTES`: bytes of all messages in flight above which nothing more is read from the broker; 4 MiB by default.
    pub prefetch_bytes: usize,
    /// `EVENTS_QUEUE_URL`: the SQS queue that messages are sent to. Required.
    pub queue_url: String,
    /// `LAKE_BUCKET`: bucket of the quarantine. Required.
    pub bucket: String,
    /// `TYPE_FROM`: where the attribute `type` comes from, the first of these that a message has; `type` by default.
    pub type_from: Vec<Origin>,
    /// `SOURCE_FROM`: the same for the attribute `source`; `queue` by default.
    pub source_from: Vec<Origin>,
    /// `SENDERS`: requests to SQS at the same time; 16 by default.
    pub senders: usize,
    /// `BATCH_WAIT_MS`: how long a batch waits for its tenth message; 10 by default.
    pub batch_wait: Duration,
    /// `HOLD_SECONDS`: how long messages are held and tried again while SQS takes none, before they go back to their queue; 900
    /// by default.
    pub hold: Duration,
    /// `MAX_DELIVERIES`: a message that could not be sent and was delivered so often is quarantined instead of going back to its
    /// quorum queue again; 15 by default.
    pub max_deliveries: u64,
    /// `HEALTH_PORT`: port of the health endpoint; 8080 by default.
    pub health_port: u16,
    /// `METRICS_SECONDS`: how often metrics are printed; 60 by default.
    pub metrics_every: Duration,
}

/// Whether the consumer declares its queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declare {
    /// It does not.
    No,
    /// As durable quorum queues.
    Quorum,
    /// As durable classic queues.
    Classic,
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The queue, one of those consumed.
    pub queue: String,
    /// The exchange.
    pub exchange: String,
    /// The routing key, or the pattern of a topic exchange.
    pub routing_key: String,
}

/// Where the value of an attribute comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `type`: the property of that name.
    Type,
    /// `app-id`: the property of that name.
    AppId,
    /// `header:NAME`: a header.
    Header(String),
    /// `queue`: the queue that the message came from.
    Queue,
    /// `exchange`: the exchange that it was published to.
    Exchange,
    /// `routing-key`: the whole routing key.
    RoutingKey,
    /// `routing-key:N`: its Nth word, the first being 1; words are separated by dots.
    Word(usize),
    /// `=TEXT`: this text.
    Text(String),
}

impl FromStr for Origin {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => Self::Header(name.to_owned()),
            Some(("routing-key", word)) => Self::Word(word.parse().ok().filter(|word| *word > 0).ok_or(())?),
            _ => match (text, text.strip_prefix('=')) {
                (_, Some(fixed)) if !fixed.is_empty() => Self::Text(fixed.to_owned()),
                ("type", _) => Self::Type,
                ("app-id", _) => Self::AppId,
                ("queue", _) => Self::Queue,
                ("exchange", _) => Self::Exchange,
                ("routing-key", _) => Self::RoutingKey,
                _ => return Err(()),
            },
        })
    }
}

impl Config {
    /// Settings from the environment.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_settings(&settings::environment())
    }

    /// Settings from `lookup`.
    pub fn from_lookup(lookup: impl Lookup) -> Result<Self, SettingError> {
        Self::from_settings(&Settings::new(lookup))
    }

    fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        let heartbeat_seconds = settings.number("HEARTBEAT_SECONDS", 30, 5..=60)?;
        let queues = list(&settings.required("QUEUES", "it names the queues of the broker, separated by commas")?);
        let declare = settings.one_of(
            "DECLARE_QUEUES",
            Declare::No,
            &[("no", Declare::No), ("quorum", Declare::Quorum), ("classic", Declare::Classic)],
        )?;
        let seconds = |name, default, range| settings.number(name, default, range).map(Duration::from_secs);
        Ok(Self {
            stack: settings.stack(),
            hosts: hosts(settings, heartbeat_seconds)?,
            ca: ca(settings)?,
            heartbeat_seconds,
            bindings: bindings(settings, &queues, declare)?,
            queues,
            declare,
            single_active: settings.one_of("SINGLE_ACTIVE_CONSUMER", false, &[("no", false), ("yes", true)])?,
            prefetch_messages: settings.number("PREFETCH_MESSAGES", 1_000, 1..=u16::MAX)?,
            prefetch_bytes: settings.number("PREFETCH_BYTES", 4 << 20, 1 << 20..=1 << 30)?,
            queue_url: queue_url(settings)?,
            bucket: settings.required("LAKE_BUCKET", "it names the bucket of the quarantine")?,
            type_from: origins(settings, "TYPE_FROM", Origin::Type)?,
            source_from: origins(settings, "SOURCE_FROM", Origin::Queue)?,
            senders: settings.number("SENDERS", 16, 1..=256)?,
            batch_wait: Duration::from_millis(settings.number("BATCH_WAIT_MS", 10, 0..=10_000)?),
            // RabbitMQ closes the channel of a consumer that does not acknowledge for 30 minutes.
            hold: seconds("HOLD_SECONDS", 900, 0..=1_500)?,
            max_deliveries: settings.number("MAX_DELIVERIES", 15, 1..=1_000_000)?,
            health_port: settings.number("HEALTH_PORT", 8_080, 0..=u16::MAX)?,
            metrics_every: seconds("METRICS_SECONDS", 60, 1..=3_600)?,
        })
    }
}

/// The port of the health endpoint alone: all that `consumer health` needs.
pub fn health_port() -> Result<u16, SettingError> {
    settings::environment().number("HEALTH_PORT", 8_080, 0..=u16::MAX)
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn hosts(settings: &Settings<impl Lookup>, heartbeat_seconds: u16) -> Result<Vec<AMQPUri>, SettingError> {
    let name = "AMQP_URLS";
    let value = settings.required(name, "it gives the addresses of the broker, such as amqps://host:5671/vhost")?;
    let username = settings.optional("AMQP_USERNAME");
    let password = settings.optional("AMQP_PASSWORD");
    let hosts: Result<Vec<AMQPUri>, String> = list(&value).iter().map(|url| url.parse()).collect();
    // The value may have a password, so the error does not repeat it.
    let invalid =
        |expected: &str| SettingError::Invalid { name, value: "(not shown)".to_owned(), expected: expected.to_owned() };
    let mut hosts = hosts.map_err(|_| invalid("addresses such as amqps://host:5671/vhost, separated by commas"))?;
    if hosts.is_empty() {
        return Err(invalid("at least one address, such as amqps://host:5671/vhost"));
    }
    for host in &mut hosts {
        let user = &mut host.authority.userinfo;
        user.username = username.clone().unwrap_or_else(|| user.username.clone());
        user.password = password.clone().unwrap_or_else(|| user.password.clone());
        host.query.heartbeat = Some(heartbeat_seconds);
        host.query.frame_max = Some(FRAME_BYTES);
    }
    let is_remote =
        |host: &AMQPUri| !matches!(host.authority.host.as_str(), "localhost" | "127.0.0.1" | "::1" | "[::1]");
    if hosts.iter().any(|host| host.scheme == AMQPScheme::AMQP && is_remote(host)) {
        tracing::warn!("a broker's address begins with amqp://: passwords and messages are sent without encryption");
    }
    Ok(hosts)
}

fn ca(settings: &Settings<impl Lookup>) -> Result<Option<String>, SettingError> {
    let name = "AMQP_CA_FILE";
    let Some(path) = settings.optional(name) else { return Ok(None) };
    match fs::read_to_string(&path) {
        Ok(pem) if pem.contains("-----BEGIN CERTIFICATE-----") => Ok(Some(pem)),
        Ok(_) => {
            let expected = "a file with a certificate in PEM; this one has none".to_owned();
            Err(SettingError::Invalid { name, value: path, expected })
        }
        Err(cause) => {
            let expected = format!("a file that can be read: {cause}");
            Err(SettingError::Invalid { name, value: path, expected })
        }
    }
}

fn queue_url(settings: &Settings<impl Lookup>) -> Result<String, SettingError> {
    let name = "EVENTS_QUEUE_URL";
    let value = settings.required(name, "it is the address of the SQS queue that messages are sent to")?;
    if value.ends_with(".fifo") {
        let expected = "a standard queue; messages have no group that a FIFO queue needs".to_owned();
        return Err(SettingError::Invalid { name, value, expected });
    }
    Ok(value)
}

fn origins(settings: &Settings<impl Lookup>, name: &'static str, default: Origin) -> Result<Vec<Origin>, SettingError> {
    let Some(value) = settings.optional(name) else { return Ok(vec![default]) };
    let parsed: Result<Vec<Origin>, ()> = list(&value).iter().map(|origin| origin.parse()).collect();
    match parsed {
        Ok(origins) if !origins.is_empty() => Ok(origins),
        _ => {
            let expected = "some of type, app-id, header:NAME, queue, exchange, routing-key, routing-key:N and =TEXT, \
                            separated by commas";
            Err(SettingError::Invalid { name, value, expected: expected.to_owned() })
        }
    }
}

fn bindings(
    settings: &Settings<impl Lookup>,
    queues: &[String],
    declare: Declare,
) -> Result<Vec<Binding>, SettingError> {
    let name = "BINDINGS";
    let Some(value) = settings.optional(name) else { return Ok(Vec::new()) };
    let binding = |text: &String| {
        let (queue, rest) = text.split_once('=')?;
        let (exchange, routing_key) = rest.split_once(':')?;
        let known = queues.iter().any(|known| known == queue) && !exchange.is_empty();
        known.then(|| Binding { queue: queue.into(), exchange: exchange.into(), routing_key: routing_key.into() })
    };
    let parsed: Option<Vec<Binding>> = list(&value).iter().map(binding).collect();
    match parsed {
        Some(bindings) if declare != Declare::No => Ok(bindings),
        Some(_) => {
            let expected = "empty, because DECLARE_QUEUES is no".to_owned();
            Err(SettingError::Invalid { name, value, expected })
        }
        None => {
            let expected =
                "bindings such as cards=shop:card.#, of queues that QUEUES names, separated by commas".to_owned();
            Err(SettingError::Invalid { name, value, expected })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMUM: [(&str, &str); 4] = [
        ("AMQP_URLS", "amqps://one:5671/shop,amqps://me:old@two:5671/shop"),
        ("QUEUES", "cards, orders"),
        ("EVENTS_QUEUE_URL", "https://sqs.eu-west-1.amazonaws.com/1/events"),
        ("LAKE_BUCKET", "lake"),
    ];

    fn with(extra: &[(&'static str, &'static str)]) -> Result<Config, String> {
        let all: Vec<_> = extra.iter().chain(&MINIMUM).copied().collect();
        let lookup = move |name| all.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Config::from_lookup(lookup).map_err(|error| error.to_string())
    }

    #[test]
    fn hosts_have_the_credentials_of_the_secret_and_a_heartbeat() {
        let config = with(&[("AMQP_USERNAME", "consumer"), ("AMQP_PASSWORD", "s/3:cr@t")]).unwrap();
        assert_eq!(config.hosts.len(), 2);
        for host in &config.hosts {
            assert_eq!(host.authority.userinfo.username, "consumer");
            assert_eq!(host.authority.userinfo.password, "s/3:cr@t");
            assert_eq!((host.query.heartbeat, host.vhost.as_str()), (Some(30), "shop"));
        }
        assert_eq!(with(&[]).unwrap().hosts[1].authority.userinfo.password, "old");
    }

    #[test]
    fn an_address_with_a_password_is_not_repeated() {
        let error = with(&[("AMQP_URLS", "http://me:s3cret@host")]).unwrap_err();
        assert!(error.starts_with("environment variable AMQP_URLS is") && !error.contains("s3cret"), "{error}");
    }

    #[test]
    fn every_error_names_the_variable() {
        for (variable, sentence) in [
            (
                ("AMQP_URLS", ""),
                "environment variable AMQP_URLS is not set; it gives the addresses of the broker, such as amqps://host:5671/vhost",
            ),
            (
                ("QUEUES", ""),
                "environment variable QUEUES is not set; it names the queues of the broker, separated by commas",
            ),
            (
                ("EVENTS_QUEUE_URL", "https://sqs/1/a.fifo"),
                "environment variable EVENTS_QUEUE_URL is \"https://sqs/1/a.fifo\"; it must be a standard queue; messages have no group that a FIFO queue needs",
            ),
            (
                ("PREFETCH_MESSAGES", "0"),
                "environment variable PREFETCH_MESSAGES is \"0\"; it must be a whole number from 1 to 65535",
            ),
            (
                ("DECLARE_QUEUES", "yes"),
                "environment variable DECLARE_QUEUES is \"yes\"; it must be \"no\", \"quorum\" or \"classic\"",
            ),
            (
                ("BINDINGS", "cards=shop:card.#"),
                "environment variable BINDINGS is \"cards=shop:card.#\"; it must be empty, because DECLARE_QUEUES is no",
            ),
            (
                ("AMQP_CA_FILE", "/nowhere.pem"),
                "environment variable AMQP_CA_FILE is \"/nowhere.pem\"; it must be a file that can be read: No such file or directory (os error 2)",
            ),
            (
                ("TYPE_FROM", "kind"),
                "environment variable TYPE_FROM is \"kind\"; it must be some of type, app-id, header:NAME, queue, exchange, routing-key, routing-key:N and =TEXT, separated by commas",
            ),
        ] {
            assert_eq!(with(&[variable]).unwrap_err(), sentence);
        }
        let error = with(&[("DECLARE_QUEUES", "quorum"), ("BINDINGS", "others=shop:#")]).unwrap_err();
        assert!(error.contains("of queues that QUEUES names"), "{error}");
    }

    #[test]
    fn origins_and_bindings_are_lists() {
        let config = with(&[
            ("TYPE_FROM", "header:event-type, type,routing-key:2,=Unknown"),
            ("DECLARE_QUEUES", "quorum"),
            ("BINDINGS", "cards=shop:card.#, orders=shop:"),
        ])
        .unwrap();
        let expected =
            [Origin::Header("event-type".into()), Origin::Type, Origin::Word(2), Origin::Text("Unknown".into())];
        assert_eq!(config.type_from, expected);
        assert_eq!(config.bindings.len(), 2);
        assert_eq!((config.bindings[1].exchange.as_str(), config.bindings[1].routing_key.as_str()), ("shop", ""));
    }
}
