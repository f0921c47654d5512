//! load-registrar: registers objects, compared with row-by-row inserts in a transaction (the approach of the system that
//! it replaces) and with COPY, which does not deduplicate (the floor). All write to the same table, with its indexes,
//! constraints and triggers.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use aws_config::{BehaviorVersion, Region};
use jiff::Timestamp;
use kit::proxy::{self, RoundTrips};
use load_registrar::{app::App, command, config::Config, object::Object, register::register};
use tokio::runtime::Runtime;
use tokio_postgres::{
    Client, NoTls, Statement,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

use crate::{
    Error,
    progress::Progress,
    rounds::{Route, Run, Stopwatch, Timed, take_turns},
};

const TIME: Duration = Duration::from_secs(60);
const TABLE: &str = "cubic__dmap__agg_sample";

/// A database with the schema and one table, behind a proxy that adds latency.
#[derive(Debug)]
pub struct Bench {
    runtime: Arc<Runtime>,
    url: String,
    keys: Arc<AtomicI64>,
    trips: RoundTrips,
}

impl Bench {
    /// Creates a database on the server with the URL `server`. `one_way`: network latency in each direction.
    pub fn new(server: &str, one_way: Duration) -> Result<Self, Error> {
        let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
        let config: tokio_postgres::Config = server.parse()?;
        let (host, port) = match (config.get_hosts().first(), config.get_ports().first()) {
            (Some(tokio_postgres::config::Host::Tcp(host)), Some(port)) => (host.clone(), *port),
            _ => return Err("LANDFALL_POSTGRES has to name a host and a port".into()),
        };
        let (address, trips) = runtime.block_on(async {
            let client = connect(server).await?;
            drop_database(&client).await?;
            client.batch_execute("create database bench").await?;
            Ok::<_, Error>(proxy::start(format!("{host}:{port}"), one_way).await?)
        })?;
        let url = format!("postgres://{}@{address}/bench", config.get_user().unwrap_or("postgres"));
        let bench = Self { runtime, url, keys: Arc::default(), trips };
        let app = bench.app()?;
        for command in [
            r#"{"command": "migrate"}"#,
            r#"{"command": "tables_apply", "tables": [{"prefix": "cubic/dmap/agg_sample/", "kind": "dmap"}]}"#,
        ] {
            bench.runtime.block_on(command::run(&app, command.as_bytes(), TIME))?;
        }
        Ok(bench)
    }

    fn app(&self) -> Result<App, Error> {
        let config = Config::from_lookup(|name| match name {
            "INCOMING_BUCKET" | "LAKE_BUCKET" => Some("bucket".to_owned()),
            "DATABASE_URL" => Some(self.url.clone()),
            _ => None,
        })?;
        let aws =
            aws_config::defaults(BehaviorVersion::latest()).region(Region::from_static("eu-west-1")).no_credentials();
        Ok(App::new(config, &self.runtime.block_on(aws.load())))
    }

    /// Runs the routes in turns with `objects` new objects each. Also returns the number of round trips of one batch.
    pub fn speed(&self, title: &str, objects: usize, rounds: u32) -> Result<(Vec<Timed>, usize), Error> {
        let new = |route: fn(Connected) -> Box<dyn Route>| -> Result<Box<dyn Route>, Error> {
            let client = self.runtime.block_on(connect(&self.url))?;
            let insert = "insert into cubic_loads (table_id, status, s3_key, s3_modified, s3_size, s3_etag, is_changes) \
                values ($1, 'ready', $2, $3, $4, $5, false) returning id";
            let (insert, table_id) = self.runtime.block_on(async {
                let table = client.query_one("select id from cubic_tables where name = $1", &[&TABLE]).await?;
                Ok::<_, Error>((client.prepare(insert).await?, table.try_get(0)?))
            })?;
            let (runtime, keys) = (self.runtime.clone(), self.keys.clone());
            Ok(route(Connected { runtime, keys, client, insert, table_id, objects }))
        };
        let ours = Registering { runtime: self.runtime.clone(), app: self.app()?, keys: self.keys.clone(), objects };
        let mut routes: [Box<dyn Route>; 3] = [
            Box::new(ours),
            new(|connected| Box::new(RowByRow(connected)))?,
            new(|connected| Box::new(Copy(connected)))?,
        ];
        let mut progress = Progress::start(title, rounds);
        let timed = take_turns(&mut routes, rounds, 1, &mut progress)?;
        let _ = self.trips.take();
        routes.first_mut().map(|ours| ours.run()).transpose()?;
        Ok((timed, self.trips.take()))
    }
}

async fn connect(url: &str) -> Result<Client, Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

/// Only a superuser can end an autovacuum of the database, so this waits until it is done.
async fn drop_database(client: &Client) -> Result<(), Error> {
    for _ in 0..100 {
        if client.batch_execute("drop database if exists bench with (force)").await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err("the database bench of an earlier run cannot be dropped".into())
}

/// Objects that were never registered.
fn new_objects(keys: &AtomicI64, objects: usize) -> Vec<Object> {
    let first = keys.fetch_add(i64::try_from(objects).unwrap_or_default(), Ordering::SeqCst);
    (first..)
        .take(objects)
        .map(|at| Object {
            key: format!("cubic/dmap/agg_sample/2026/11/20/{at:012}.csv.gz"),
            modified: Timestamp::from_second(1_795_176_000 + at).unwrap_or_default(),
            size: 1_000 + at,
            e_tag: format!("{at:032x}"),
            version: None,
        })
        .collect()
}

/// The function's own code.
struct Registering {
    runtime: Arc<Runtime>,
    app: App,
    keys: Arc<AtomicI64>,
    objects: usize,
}

impl Route for Registering {
    fn name(&self) -> &str {
        "Landfall"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let objects = new_objects(&self.keys, self.objects);
        let watch = Stopwatch::start();
        let registered = self.runtime.block_on(register(&self.app.database, &objects, TIME))?.registered;
        let run = watch.stop(Vec::new());
        if usize::try_from(registered)? != self.objects {
            return Err(format!("{registered} of {} objects were registered", self.objects).into());
        }
        Ok(run)
    }
}

/// What the other routes share.
struct Connected {
    runtime: Arc<Runtime>,
    keys: Arc<AtomicI64>,
    client: Client,
    insert: Statement,
    table_id: i64,
    objects: usize,
}

struct RowByRow(Connected);

impl Route for RowByRow {
    fn name(&self) -> &str {
        "row by row in a transaction"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let Connected { runtime, keys, client, insert, table_id, objects } = &mut self.0;
        let objects = new_objects(keys, *objects);
        let watch = Stopwatch::start();
        runtime.block_on(async {
            let transaction = client.transaction().await?;
            for object in &objects {
                let values: [&(dyn ToSql + Sync); 5] =
                    [&*table_id, &object.key, &object.modified, &object.size, &object.e_tag];
                transaction.query_one(&*insert, &values).await?;
            }
            transaction.commit().await
        })?;
        Ok(watch.stop(Vec::new()))
    }
}

struct Copy(Connected);

impl Route for Copy {
    fn name(&self) -> &str {
        "floor: COPY"
    }

    fn run(&mut self) -> Result<Run, Error> {
        let Connected { runtime, keys, client, table_id, objects, .. } = &mut self.0;
        let objects = new_objects(keys, *objects);
        let watch = Stopwatch::start();
        runtime.block_on(async {
            let copy = "copy cubic_loads (table_id, status, s3_key, s3_modified, s3_size, s3_etag, is_changes) \
                from stdin binary";
            // Binary COPY sends an enum as its text.
            let types = [Type::INT8, Type::TEXT, Type::TEXT, Type::TIMESTAMPTZ, Type::INT8, Type::TEXT, Type::BOOL];
            let mut rows = pin!(BinaryCopyInWriter::new(client.copy_in(copy).await?, &types));
            for object in &objects {
                let values: [&(dyn ToSql + Sync); 7] =
                    [&*table_id, &"ready", &object.key, &object.modified, &object.size, &object.e_tag, &false];
                rows.as_mut().write(&values).await?;
            }
            rows.finish().await
        })?;
        Ok(watch.stop(Vec::new()))
    }
}
