//! One connection to Postgres for each environment. It is made when it is first needed, kept between invocations, and
//! made again when it is gone: after a sandbox was frozen for long, after the server was restarted.
//!
//! What is asked of the database is asked again until it is done or the invocation's time is over, so everything that is
//! asked has to be the same done twice as done once. For what is not, there is [`Database::attempt`].

use std::{fmt, sync::Arc, time::Duration};

use runtime::{failure::chain, pause::jittered};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde::Deserialize;
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{sleep, timeout},
};
use tokio_postgres::{Client, NoTls, Statement, Transaction, config::Host, error::SqlState};
use tokio_postgres_rustls::MakeRustlsConnect;
use tracing::{info, warn};

use crate::{
    config::{DatabaseConfig, DatabaseSource},
    register::REGISTER,
};

/// The authorities that vouch for the servers of RDS and for RDS Proxy. Source: "Using SSL/TLS to encrypt a connection
/// to a DB instance", Amazon RDS user guide (the global bundle); Amazon Trust Services' roots.
const RDS_CA: &[u8] = include_bytes!("../rds-ca.pem");

const CONNECT: Duration = Duration::from_secs(5);
/// A statement of ours takes milliseconds; what takes so long will not end.
const STATEMENT: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A session's settings. Frozen sandboxes do not close their connections, so the server does it for them.
const SESSION: &str = "set application_name = 'landfall-load-registrar'; set statement_timeout = '60s'; \
    set lock_timeout = '30s'; set idle_in_transaction_session_timeout = '60s'; set idle_session_timeout = '10min'; \
    set timezone = 'UTC'";

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The secret cannot be read.
    #[error("secret {arn} could not be read: {cause}")]
    Secret {
        /// The secret's ARN.
        arn: String,
        /// Why.
        cause: String,
    },
    /// There is no file of authorities, or none in it.
    #[error("DATABASE_CA_FILE {file}: {cause}")]
    Authorities {
        /// The file.
        file: String,
        /// Why.
        cause: String,
    },
    /// The server cannot be reached, or does not let us in.
    #[error("no connection to Postgres: {0}")]
    Connect(String),
    /// The server refused a statement, or the connection went away under it.
    #[error("{}", sentence(.0))]
    Statement(#[source] tokio_postgres::Error),
    /// A statement took too long.
    #[error("Postgres has not answered for {} seconds", STATEMENT.as_secs())]
    TimedOut,
    /// The schema is not there, or is an older one.
    #[error("the database does not have this version's schema; run `landfall migrate`")]
    Schema,
    /// What was asked makes no sense; the sentence says why.
    #[error("{0}")]
    Refused(String),
}

/// What Postgres says, without the words "db error" alone.
fn sentence(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.message().to_owned(),
        None => chain(error),
    }
}

impl DatabaseError {
    /// Whether the same may well succeed a little later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Secret { .. } | Self::Connect(_) | Self::TimedOut => true,
            Self::Authorities { .. } | Self::Schema | Self::Refused(_) => false,
            Self::Statement(error) => match error.code() {
                // Connection gone, out of resources, serialisation or deadlock, shutdown or start-up.
                Some(code) => ["08", "53", "40", "57", "55"].iter().any(|class| code.code().starts_with(class)),
                None => true,
            },
        }
    }

    /// Whether the server answered: then the connection is as good as before.
    fn is_answer(&self) -> bool {
        match self {
            Self::Statement(error) => error.as_db_error().is_some(),
            Self::Refused(_) | Self::Schema => true,
            Self::Secret { .. } | Self::Authorities { .. } | Self::Connect(_) | Self::TimedOut => false,
        }
    }
}

impl From<tokio_postgres::Error> for DatabaseError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::UNDEFINED_FUNCTION | &SqlState::UNDEFINED_TABLE | &SqlState::UNDEFINED_COLUMN) => {
                Self::Schema
            }
            Some(&SqlState::CHECK_VIOLATION | &SqlState::UNIQUE_VIOLATION | &SqlState::RESTRICT_VIOLATION) => {
                Self::Refused(sentence(&error))
            }
            _ => Self::Statement(error),
        }
    }
}

/// The environment's connection to Postgres.
pub struct Database {
    config: DatabaseConfig,
    secrets: aws_sdk_secretsmanager::Client,
    session: Mutex<Option<Session>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The open connection, held by one caller.
#[derive(Debug)]
pub struct Lease<'d>(MutexGuard<'d, Option<Session>>);

#[derive(Debug)]
struct Session {
    client: Client,
    register: Option<Statement>,
}

impl Lease<'_> {
    /// The connection.
    pub fn client(&self) -> Result<&Client, DatabaseError> {
        self.0.as_ref().map(|session| &session.client).ok_or_else(closed)
    }

    /// A transaction on it, rolled back unless it is committed.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, DatabaseError> {
        let session = self.0.as_mut().ok_or_else(closed)?;
        Ok(session.client.transaction().await?)
    }

    /// The statement that registers objects, prepared once for each connection.
    pub async fn register(&mut self) -> Result<Statement, DatabaseError> {
        let session = self.0.as_mut().ok_or_else(closed)?;
        if let Some(statement) = &session.register {
            return Ok(statement.clone());
        }
        let statement = session.client.prepare(REGISTER).await?;
        Ok(session.register.insert(statement).clone())
    }
}

fn closed() -> DatabaseError {
    DatabaseError::Connect("the connection is closed".to_owned())
}

/// The part of a secret that says how to get to the database.
#[derive(Deserialize)]
struct Secret {
    username: String,
    password: String,
    host: Option<String>,
    port: Option<u16>,
    dbname: Option<String>,
}

impl Database {
    /// The database that `config` names. Nothing is connected yet.
    #[must_use]
    pub fn new(config: DatabaseConfig, secrets: aws_sdk_secretsmanager::Client) -> Self {
        Self { config, secrets, session: Mutex::new(None) }
    }

    /// Does `work`, again and again until it is done or `time` is over. What ends in an error that may pass leaves no
    /// trace when it is one transaction; when only the answer was lost, it is done twice.
    pub async fn run<'d, T, W: Future<Output = Result<T, DatabaseError>>>(
        &'d self,
        time: Duration,
        mut work: impl FnMut(Lease<'d>) -> W,
    ) -> Result<T, DatabaseError> {
        let (mut pause, mut last) = (FIRST_PAUSE, None);
        let retry = async {
            loop {
                let (error, was_open) = match self.try_once(&mut work).await {
                    Ok(done) => return Ok(done),
                    Err(failed) => failed,
                };
                if !error.is_transient() {
                    return Err(error);
                }
                warn!(cause = %error, "the database is asked again");
                last = Some(error);
                // A connection that was kept may just have grown old.
                if !was_open {
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        };
        match timeout(time, retry).await {
            Ok(done) => done,
            Err(_) => {
                self.session.lock().await.take();
                Err(last.unwrap_or(DatabaseError::TimedOut))
            }
        }
    }

    /// Does `work` once, on a connection that has just answered.
    pub async fn attempt<'d, T, W: Future<Output = Result<T, DatabaseError>>>(
        &'d self,
        time: Duration,
        mut work: impl FnMut(Lease<'d>) -> W,
    ) -> Result<T, DatabaseError> {
        self.run(time, |session| async move { Ok(session.client()?.simple_query("").await.map(drop)?) }).await?;
        self.try_once(&mut work).await.map_err(|(error, _)| error)
    }

    /// Says of an error whether the connection was an old one.
    async fn try_once<'d, T, W: Future<Output = Result<T, DatabaseError>>>(
        &'d self,
        work: &mut impl FnMut(Lease<'d>) -> W,
    ) -> Result<T, (DatabaseError, bool)> {
        let mut lease = Lease(self.session.lock().await);
        let was_open = lease.0.as_ref().is_some_and(|session| !session.client.is_closed());
        if !was_open {
            *lease.0 = Some(self.connect().await.map_err(|error| (error, false))?);
        }
        let done = timeout(STATEMENT, work(lease)).await.unwrap_or(Err(DatabaseError::TimedOut));
        if let Err(error) = &done
            && !error.is_answer()
        {
            self.session.lock().await.take();
        }
        done.map_err(|error| (error, was_open))
    }

    async fn connect(&self) -> Result<Session, DatabaseError> {
        let (mut config, tls) = self.target().await?;
        config.connect_timeout(CONNECT).tcp_user_timeout(STATEMENT).keepalives_idle(Duration::from_secs(30));
        let connecting = async {
            if tls {
                let (client, connection) = config.connect(self.tls()?).await.map_err(unreachable)?;
                tokio::spawn(async move { connection.await.ok() });
                Ok(client)
            } else {
                let (client, connection) = config.connect(NoTls).await.map_err(unreachable)?;
                tokio::spawn(async move { connection.await.ok() });
                Ok(client)
            }
        };
        let client = timeout(2 * CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err(DatabaseError::Connect("the server does not answer".to_owned())))?;
        client.batch_execute(SESSION).await?;
        info!(database.tls = tls, "connected to Postgres");
        Ok(Session { client, register: None })
    }

    /// Where to connect to, and whether with TLS. A secret is read each time, since passwords change.
    async fn target(&self) -> Result<(tokio_postgres::Config, bool), DatabaseError> {
        match &self.config.source {
            DatabaseSource::Url(url) => {
                let mut config: tokio_postgres::Config = url.parse().map_err(unreachable)?;
                let off = config.get_ssl_mode() == tokio_postgres::config::SslMode::Disable;
                let tls = !off && !config.get_hosts().iter().all(is_this_machine) || wants_tls(&config);
                if tls {
                    config.ssl_mode(tokio_postgres::config::SslMode::Require);
                }
                Ok((config, tls))
            }
            DatabaseSource::Secret { arn, host, port, name } => {
                let failed = |cause: String| DatabaseError::Secret { arn: arn.clone(), cause };
                let answer =
                    self.secrets.get_secret_value().secret_id(arn).send().await.map_err(|error| {
                        failed(aws_sdk_secretsmanager::error::DisplayErrorContext(error).to_string())
                    })?;
                let text = answer.secret_string().ok_or_else(|| failed("it holds no text".to_owned()))?;
                // What it holds must not get into a log, not even in an error.
                let secret: Secret = serde_json::from_str(text)
                    .map_err(|_| failed("it is no JSON object with username and password".to_owned()))?;
                let host = host
                    .clone()
                    .or(secret.host)
                    .ok_or_else(|| failed("it names no host; set DATABASE_HOST".to_owned()))?;
                let mut config = tokio_postgres::Config::new();
                config
                    .host(host)
                    .port(port.or(secret.port).unwrap_or(5432))
                    .user(secret.username)
                    .password(secret.password)
                    .dbname(name.clone().or(secret.dbname).unwrap_or_else(|| "postgres".to_owned()))
                    .ssl_mode(tokio_postgres::config::SslMode::Require);
                Ok((config, true))
            }
        }
    }

    /// TLS that verifies the server's certificate and its name.
    fn tls(&self) -> Result<MakeRustlsConnect, DatabaseError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(RDS_CA).flatten());
        if let Some(file) = &self.config.ca_file {
            let failed = |cause: String| DatabaseError::Authorities { file: file.clone(), cause };
            let pem = std::fs::read(file).map_err(|error| failed(error.to_string()))?;
            let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).flatten().collect();
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(failed("it holds no certificate".to_owned()));
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| DatabaseError::Connect(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(MakeRustlsConnect::new(config))
    }
}

/// Whether the URL asks for TLS by itself.
fn wants_tls(config: &tokio_postgres::Config) -> bool {
    config.get_ssl_mode() == tokio_postgres::config::SslMode::Require
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Unix(_) => true,
    }
}

fn unreachable(error: tokio_postgres::Error) -> DatabaseError {
    DatabaseError::Connect(sentence(&error))
}
