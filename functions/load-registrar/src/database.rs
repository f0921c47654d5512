//! One connection to Postgres for each environment. It is opened when it is first needed, kept between invocations, and
//! reopened when it is lost, for example after a long freeze of the sandbox or a restart of the server.
//!
//! Only a server that accepts writes is connected to. When the server of an open connection has become read-only, because
//! another one has taken over, the connection is dropped.
//!
//! [`Database::run`] retries until the work succeeds or the invocation's time is over, so the work has to be idempotent.
//! [`Database::attempt`] is for work that is not.

use std::{fmt, time::Duration};

use dial::TlsError;
use runtime::{
    failure::{cause, chain},
    pause::jittered,
};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{sleep, timeout},
};
use tokio_postgres::{
    Client, Row, Statement, Transaction,
    config::TargetSessionAttrs,
    error::{Severity, SqlState},
};
use tracing::{info, warn};

use crate::{
    config::{DatabaseConfig, DatabaseSource},
    iam::Signer,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A statement takes milliseconds, so one that has taken this long is stuck.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// What the server's kernel has not acknowledged for this long is lost with the connection.
const ACKNOWLEDGED: Duration = Duration::from_secs(10);
const INITIAL_BACKOFF: Duration = Duration::from_millis(50);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// Settings of each connection. A frozen sandbox cannot close its idle connection, so the server does. A statement whose client
/// is gone, because it has given up waiting, is cancelled, unless the server's platform cannot tell.
const SESSION: &str = "set application_name = 'landfall-load-registrar'; set statement_timeout = '60s'; \
    set lock_timeout = '20s'; set idle_in_transaction_session_timeout = '60s'; set idle_session_timeout = '10min'; \
    set timezone = 'UTC'; \
    do $$ begin set client_connection_check_interval = '5s'; exception when others then null; end $$";

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("secret {arn} could not be read: {cause}")]
    Secret { arn: String, cause: String },
    #[error("a token for the database could not be signed: {0}")]
    Token(String),
    #[error("DATABASE_CA_FILE {file}: {cause}")]
    Authorities { file: String, cause: String },
    #[error("no connection to Postgres: {0}")]
    Connect(String),
    /// The server rejected a statement, or the connection was lost.
    #[error("{}", sentence(.0))]
    Statement(#[source] tokio_postgres::Error),
    #[error("Postgres did not answer within {} seconds", .0.as_secs())]
    TimedOut(Duration),
    /// Migrations are missing.
    #[error("the database does not have this version's schema; run `landfall migrate`")]
    Schema,
    /// The request breaks a rule; the sentence says which.
    #[error("{0}")]
    Refused(String),
}

/// What Postgres says. `Display` of the error is just "db error".
fn sentence(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(db) => db.message().to_owned(),
        None => chain(error),
    }
}

/// Whether the server has ended the connection, or will refuse every write on it.
fn ends_session(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_none_or(|db| {
        matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
            || *db.code() == SqlState::READ_ONLY_SQL_TRANSACTION
    })
}

impl DatabaseError {
    /// Whether a retry may succeed.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Secret { .. } | Self::Token(_) | Self::Connect(_) | Self::TimedOut(_) => true,
            Self::Authorities { .. } | Self::Schema | Self::Refused(_) => false,
            Self::Statement(error) => {
                // Connection lost, out of resources, serialization failure or deadlock, shutdown or start-up.
                let classes = ["08", "53", "40", "57", "55"];
                ends_session(error)
                    || error.code().is_some_and(|code| classes.iter().any(|class| code.code().starts_with(class)))
            }
        }
    }

    /// Whether the connection is of no use any more: it is lost, it does not answer, or its server cannot write.
    fn ends_session(&self) -> bool {
        match self {
            Self::Statement(error) => ends_session(error),
            Self::Refused(_) | Self::Schema => false,
            Self::Secret { .. } | Self::Token(_) | Self::Authorities { .. } | Self::Connect(_) | Self::TimedOut(_) => {
                true
            }
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
    signer: Signer,
    connection: Mutex<Option<Connection>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The open connection, used by one caller at a time.
#[derive(Debug)]
pub struct Session<'d>(MutexGuard<'d, Option<Connection>>);

#[derive(Debug)]
struct Connection {
    client: Client,
    prepared: Vec<(&'static str, Statement)>,
}

impl Session<'_> {
    pub fn client(&self) -> Result<&Client, DatabaseError> {
        self.0.as_ref().map(|connection| &connection.client).ok_or_else(closed)
    }

    /// A new transaction, which is rolled back unless it is committed.
    pub async fn transaction(&mut self) -> Result<Transaction<'_>, DatabaseError> {
        let connection = self.0.as_mut().ok_or_else(closed)?;
        Ok(connection.client.transaction().await?)
    }

    /// A prepared statement. Each connection prepares it once.
    pub async fn prepared(&mut self, sql: &'static str) -> Result<Statement, DatabaseError> {
        let connection = self.0.as_mut().ok_or_else(closed)?;
        if let Some((_, statement)) = connection.prepared.iter().find(|(known, _)| *known == sql) {
            return Ok(statement.clone());
        }
        let statement = connection.client.prepare(sql).await?;
        connection.prepared.push((sql, statement.clone()));
        Ok(statement)
    }
}

/// A column that is null or the text of a JSON value.
pub fn json<T: DeserializeOwned>(row: &Row, column: usize) -> Result<Option<T>, DatabaseError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(serde_json::from_str).transpose().map_err(|_| DatabaseError::Schema)
}

impl From<TlsError> for DatabaseError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::Authorities { file, cause } => Self::Authorities { file, cause },
            TlsError::Protocol(error) => Self::Connect(error.to_string()),
        }
    }
}

fn closed() -> DatabaseError {
    DatabaseError::Connect("the connection is closed".to_owned())
}

/// The members of a secret that say how to connect.
#[derive(Deserialize)]
struct Secret {
    username: String,
    password: String,
    host: Option<String>,
    port: Option<u16>,
    dbname: Option<String>,
}

impl Database {
    /// Nothing connects yet.
    #[must_use]
    pub fn new(config: DatabaseConfig, secrets: aws_sdk_secretsmanager::Client, signer: Signer) -> Self {
        Self { config, secrets, signer, connection: Mutex::new(None) }
    }

    /// Runs `work`, and retries it on transient errors until `time` is over. An attempt may take half of it, so that a
    /// connection on which no answer comes can be replaced. If only the answer of a committed transaction was lost, the work
    /// is done twice.
    pub async fn run<'d, T, W: Future<Output = Result<T, DatabaseError>>>(
        &'d self,
        time: Duration,
        work: impl FnMut(Session<'d>) -> W,
    ) -> Result<T, DatabaseError> {
        self.retry(time, STATEMENT_TIMEOUT.min(time / 2), work).await
    }

    /// The same for work that may take all of the time, such as a migration.
    pub async fn run_long<'d, T, W: Future<Output = Result<T, DatabaseError>>>(
        &'d self,
        time: Duration,
        work: impl FnMut(Session<'d>) -> W,
    ) -> Result<T, DatabaseError> {
        self.retry(time, STATEMENT_TIMEOUT.min(time), work).await
    }

    async fn retry<'d, T, W: Future<Output = Result<T, DatabaseError>>>(
        &'d self,
        time: Duration,
        limit: Duration,
        mut work: impl FnMut(Session<'d>) -> W,
    ) -> Result<T, DatabaseError> {
        let (mut pause, mut last) = (INITIAL_BACKOFF, None);
        let retry = async {
            loop {
                let (error, was_open) = match self.try_once(limit, &mut work).await {
                    Ok(done) => return Ok(done),
                    Err(failed) => failed,
                };
                if !error.is_transient() {
                    return Err(error);
                }
                warn!(cause = %error, "retrying on the database");
                // A kept connection may have been closed while the sandbox was frozen, or its server replaced: a new one is
                // opened at once, but only once. Every other error needs time, on an open connection too.
                let reconnects = was_open && last.is_none() && error.ends_session();
                last = Some(error);
                if !reconnects {
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(MAX_BACKOFF);
                }
            }
        };
        match timeout(time, retry).await {
            Ok(done) => done,
            Err(_) => {
                self.connection.lock().await.take();
                Err(last.unwrap_or(DatabaseError::TimedOut(time)))
            }
        }
    }

    /// Runs `work` once, on a connection that has just answered a query.
    pub async fn attempt<'d, T, W: Future<Output = Result<T, DatabaseError>>>(
        &'d self,
        time: Duration,
        mut work: impl FnMut(Session<'d>) -> W,
    ) -> Result<T, DatabaseError> {
        self.run(time, |session| async move { Ok(session.client()?.simple_query("").await.map(drop)?) }).await?;
        self.try_once(STATEMENT_TIMEOUT, &mut work).await.map_err(|(error, _)| error)
    }

    /// An error comes with whether the connection was open before.
    async fn try_once<'d, T, W: Future<Output = Result<T, DatabaseError>>>(
        &'d self,
        limit: Duration,
        work: &mut impl FnMut(Session<'d>) -> W,
    ) -> Result<T, (DatabaseError, bool)> {
        let mut session = Session(self.connection.lock().await);
        let was_open = session.0.as_ref().is_some_and(|connection| !connection.client.is_closed());
        if !was_open {
            *session.0 = Some(self.connect().await.map_err(|error| (error, false))?);
        }
        let done = timeout(limit, work(session)).await.unwrap_or(Err(DatabaseError::TimedOut(limit)));
        if let Err(error) = &done
            && error.ends_session()
        {
            self.connection.lock().await.take();
        }
        done.map_err(|error| (error, was_open))
    }

    async fn connect(&self) -> Result<Connection, DatabaseError> {
        let (mut config, tls) = self.target().await?;
        // Of several hosts, the first that can be reached and accepts writes.
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        config.connect_timeout(CONNECT_TIMEOUT).tcp_user_timeout(ACKNOWLEDGED).keepalives_idle(Duration::from_secs(30));
        let hosts = u32::try_from(config.get_hosts().len()).unwrap_or(1);
        let connecting = async {
            let tls = if tls { Some(dial::tls(self.config.ca_file.as_deref())?) } else { None };
            let client = dial::connect(&config, tls).await.map_err(unreachable)?;
            client.batch_execute(SESSION).await?;
            Ok(client)
        };
        let client = timeout((hosts + 1) * CONNECT_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(DatabaseError::Connect("the server did not answer".to_owned())))?;
        info!(database.tls = tls, "connected to Postgres");
        Ok(Connection { client, prepared: Vec::new() })
    }

    /// Where to connect to, and whether with TLS. A secret is read for each connection, because passwords are rotated, and a token
    /// is valid for 15 minutes.
    async fn target(&self) -> Result<(tokio_postgres::Config, bool), DatabaseError> {
        match &self.config.source {
            DatabaseSource::Url(url) => dial::of_url(url).map_err(unreachable),
            DatabaseSource::Secret { arn, host, port, name } => {
                let failed = |cause: String| DatabaseError::Secret { arn: arn.clone(), cause };
                let answer = self
                    .secrets
                    .get_secret_value()
                    .secret_id(arn)
                    .send()
                    .await
                    .map_err(|error| failed(cause(&error)))?;
                let text = answer.secret_string().ok_or_else(|| failed("it holds no text".to_owned()))?;
                // The error of the parser could quote the password.
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
            DatabaseSource::Iam { host, port, user, name } => {
                let token = self.signer.token(host, *port, user).await.map_err(DatabaseError::Token)?;
                let mut config = tokio_postgres::Config::new();
                config.host(host).port(*port).user(user).password(token).dbname(name);
                config.ssl_mode(tokio_postgres::config::SslMode::Require);
                Ok((config, true))
            }
        }
    }
}

fn unreachable(error: tokio_postgres::Error) -> DatabaseError {
    DatabaseError::Connect(sentence(&error))
}
