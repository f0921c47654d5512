//! A server that accepts connections and never answers, as when a machine behind a load balancer has died. Calls end in
//! time, and are tried again before they do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_config::{Region, SdkConfig};
use aws_sdk_s3::config::Credentials;
use bytes::Bytes;
use collect::{app::App, config::Config, handler::handle};
use objects::{Attributes, Bucket, S3};
use runtime::{aws, clock};
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::events::file;

/// Counts the requests that it gets.
struct Silence {
    url: String,
    requests: Arc<AtomicUsize>,
}

impl Silence {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::<AtomicUsize>::default();
        let count = requests.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let count = count.clone();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    if client.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    while client.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {}
                });
            }
        });
        Self { url, requests }
    }

    /// The configuration of a function's clients, here.
    async fn config(&self, attempt: Duration) -> SdkConfig {
        let credentials = Credentials::new("test", "test", None, None, "test");
        let loader = aws::loader(attempt).endpoint_url(&self.url).credentials_provider(credentials);
        loader.region(Region::from_static("eu-west-1")).load().await
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn an_object_is_written_at_least_twice_before_the_call_fails() {
    let silence = Silence::listen().await;
    let client = objects::Client::new(&silence.config(Duration::from_millis(300)).await);
    let body = Bytes::from_static(b"x");
    let started = Instant::now();
    let error = S3::new(&client, "lake").create("a", body, &Attributes::default()).await.unwrap_err();
    assert!(error.to_string().contains("timeout"), "{error}");
    assert!(silence.requests() >= 2, "{} requests", silence.requests());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

/// A body of 32 MiB is not sent within an attempt of another call, so it gets more time.
#[tokio::test]
async fn a_large_object_has_more_time() {
    let silence = Silence::listen().await;
    let client = objects::Client::new(&silence.config(Duration::from_millis(200)).await);
    let body = Bytes::from(vec![0; 32 << 20]);
    let create = async { S3::new(&client, "lake").create("a", body, &Attributes::default()).await };
    assert!(tokio::time::timeout(Duration::from_secs(3), create).await.is_err());
    assert_eq!(silence.requests(), 1, "the first attempt is still going on");
}

#[tokio::test]
async fn a_hit_is_sent_at_least_twice_and_then_answered_with_503_in_time() {
    let silence = Silence::listen().await;
    let config = Config::from_lookup(|name| match name {
        "STREAM_NAME" => Some("clicks".to_owned()),
        "DELIVERY_MAX_MS" => Some("1000".to_owned()),
        _ => None,
    });
    let config = config.unwrap();
    let aws = silence.config(config.attempt()).await;
    let (app, started) = (App::new(config, &aws), Instant::now());
    let deadline = u64::try_from(clock::unix_ms()).unwrap() + 10_000;
    let answer = handle(&app, Bytes::from(file("collect-form.json").to_string()), deadline).await.unwrap();
    assert_eq!(answer.status_code, 503);
    assert!(silence.requests() >= 2, "{} requests", silence.requests());
    assert!(started.elapsed() < Duration::from_millis(1_500), "{:?}", started.elapsed());
}

/// The shortest timeouts that the template allows.
#[test]
fn two_attempts_fit_into_the_time_of_every_caller() {
    assert!(2 * parquet_writer::app::ATTEMPT < Duration::from_secs(30));
    assert!(2 * kafka_roller::app::ATTEMPT < Duration::from_secs(30));
    assert!(2 * load_registrar::app::ATTEMPT < load_registrar::heads::TIMEOUT);
}
