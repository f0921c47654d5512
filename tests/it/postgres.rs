//! A database for each test on a real Postgres, whose URL is in `LANDFALL_POSTGRES` (`make postgres`).

use std::{
    hash::{BuildHasher, RandomState},
    sync::OnceLock,
};

use tokio_postgres::{Client, Config, NoTls};

/// An empty database, dropped at the end.
pub(crate) struct Scratch {
    pub(crate) name: String,
    server: Config,
}

fn server() -> Config {
    static URL: OnceLock<String> = OnceLock::new();
    let url = URL.get_or_init(|| {
        #[expect(clippy::disallowed_methods, reason = "the environment names the Postgres of the tests")]
        std::env::var("LANDFALL_POSTGRES").expect("LANDFALL_POSTGRES is not set: eval \"$(make -s postgres)\"")
    });
    url.parse().unwrap()
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    client
}

impl Scratch {
    pub(crate) async fn new() -> Self {
        let (server, name) = (server(), format!("test_{:016x}", RandomState::new().hash_one(0)));
        let client = connect(&server).await;
        client.batch_execute(&format!("create database {name}")).await.unwrap();
        Self { name, server }
    }

    fn config(&self) -> Config {
        let mut config = self.server.clone();
        config.dbname(&self.name);
        config
    }

    /// `host:port` of the server.
    pub(crate) fn address(&self) -> String {
        let host = match &self.server.get_hosts()[0] {
            tokio_postgres::config::Host::Tcp(host) => host.clone(),
            tokio_postgres::config::Host::Unix(path) => panic!("Postgres is at {}", path.display()),
        };
        format!("{host}:{}", self.server.get_ports()[0])
    }

    /// A URL of the database that connects to `address`, such as a proxy.
    pub(crate) fn url_by(&self, address: &str) -> String {
        format!("postgres://{}@{address}/{}", self.server.get_user().unwrap(), self.name)
    }

    pub(crate) fn url(&self) -> String {
        self.url_by(&self.address())
    }

    /// A connection of its own, like psql's.
    pub(crate) async fn client(&self) -> Client {
        connect(&self.config()).await
    }

    /// Limits the number of connections that the database accepts.
    pub(crate) async fn limit_connections(&self, most: u32) {
        let client = connect(&self.server).await;
        client.batch_execute(&format!("alter database {} connection limit {most}", self.name)).await.unwrap();
    }

    /// The result of a query as lines of text, with columns separated by `|`.
    pub(crate) async fn lines(&self, sql: &str) -> Vec<String> {
        lines(&self.client().await, sql).await
    }
}

/// The same on an open connection.
pub(crate) async fn lines(client: &Client, sql: &str) -> Vec<String> {
    let answer = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}"));
    answer
        .iter()
        .filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                let columns: Vec<&str> = (0..row.len()).map(|column| row.get(column).unwrap_or("")).collect();
                Some(columns.join("|"))
            }
            _ => None,
        })
        .collect()
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let client = connect(&server).await;
                client.batch_execute(&format!("drop database if exists {name} with (force)")).await.ok();
            });
        });
        dropped.join().ok();
    }
}

/// Stops the server that the local tool runs, and has the tool start it again.
pub(crate) async fn restart() {
    let root = crate::events::root();
    let recorded = std::fs::read_to_string(root.join(".local/postgres.json")).expect("the local tool runs a Postgres");
    let recorded: serde_json::Value = serde_json::from_str(&recorded).unwrap();
    let stop = format!("kill -INT {}", recorded["pid"]);
    for command in [stop.as_str(), "sleep 1", "python3 -m local postgres"] {
        let done = tokio::process::Command::new("sh").args(["-c", command]).current_dir(&root).output().await.unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
