//! A load generator for `/collect`: the traffic of a web shop, or the rows of a data set.
//!
//! [`traffic`] and [`dataset`] produce hits, [`request`] turns them into requests, [`mod@send`] sends and counts them, and
//! [`report`] summarises the run.

pub mod dataset;
pub mod hit;
pub mod random;
pub mod report;
pub mod request;
pub mod send;
pub mod traffic;
pub mod visitor;

use std::{path::PathBuf, sync::atomic::AtomicBool, time::Instant};

use clap::{Parser, value_parser};
use serde::Serialize;

use self::{
    dataset::{Dataset, DatasetError},
    hit::Hit,
    report::Report,
    request::{Encoding, Packing, Requests, Target},
    send::{Counts, Pace, Sender, TlsError, send},
    traffic::Traffic,
};

const HELP: &str = "\
The traffic is generated from a seed; the same seed gives the same hits. With --dataset, each row of
DIR/browsing_train.csv is sent as a hit that happens now. The file has the columns of the Coveo data
challenge: session_id_hash, event_type, product_action, product_sku_hash, server_timestamp_epoch_ms and
hashed_url. An optional DIR/sku_to_content.csv with product_sku_hash, category_hash and price_bucket adds
categories and prices.

Requests answered with 429 or 503, and requests that fail in the network, are retried up to 4 times with
growing pauses; Retry-After is honoured up to 30 s. Any other status than 2xx is a rejection. If the
response to a stored hit is lost, the retry stores it twice. Ctrl-C starts no new requests, waits for those
in flight and prints the report.

Costs: each request is billed by API Gateway and Lambda, each hit as a record by Kinesis and Firehose, and
retries are billed as well. Requests cost the most, so --batch is cheaper. Logs, WAF and what your
warehouse does with the hits come on top. The hits are stored like real ones: use a deployment of its own,
or filter out tid UA-20261120-1. Start with a --rate, because other functions of the account share its
Lambda concurrency.

No AWS credentials are needed.

Exit code: 0 when all hits were accepted, 2 when arguments or files are invalid, otherwise 1.

Examples:
  pump http://127.0.0.1:4601/_aws/execute-api/$API_ID/\\$default/collect --hits 2000
  pump https://abc123.execute-api.eu-west-1.amazonaws.com/collect --hits 100000 --rate 500 --json
  pump https://collect.example.com/collect --dataset train/ --hits 0 --batch";

/// Sends the traffic of a web shop to a /collect URL: a demonstration, or a load test.
#[derive(Debug, Clone, PartialEq, Eq, Parser, Serialize)]
#[command(name = "pump", version, about, after_long_help = HELP)]
pub struct Arguments {
    /// Where to send hits: …/collect
    #[arg(value_name = "URL")]
    pub url: Target,
    /// Number of hits to send; 0 sends a whole data set
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub hits: u64,
    /// Maximum number of hits per second; unlimited by default
    #[arg(long, value_name = "HITS_PER_SECOND", value_parser = value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Number of requests in flight, at most 1,000
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u16).range(1..=1_000))]
    pub concurrency: u16,
    /// Seed of the generated visitors; the same seed sends the same hits
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Send the rows of DIR/browsing_train.csv instead of generated traffic
    #[arg(long, value_name = "DIR")]
    pub dataset: Option<PathBuf>,
    /// Encoding of a hit
    #[arg(long = "as", value_enum, value_name = "FORM", default_value_t = Encoding::Form)]
    #[serde(rename = "as")]
    pub encoding: Encoding,
    /// Send 20 hits per request, as forms, to …/batch beside …/collect
    #[arg(long)]
    pub batch: bool,
    /// Print the report as JSON
    #[arg(long)]
    #[serde(skip)]
    pub json: bool,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    #[error("{0}")]
    Usage(&'static str),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl PumpError {
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Dataset(_) => 2,
            Self::Tls(_) => 1,
        }
    }
}

type Hits = Box<dyn Iterator<Item = Result<Hit, DatasetError>>>;

impl Arguments {
    /// Parses arguments without the program's name.
    pub fn try_parse(arguments: &[&str]) -> Result<Self, clap::Error> {
        Self::try_parse_from(std::iter::once(&"pump").chain(arguments))
    }

    fn target(&self) -> Result<Target, PumpError> {
        if !self.batch {
            return Ok(self.url.clone());
        }
        if self.encoding != Encoding::Form {
            return Err(PumpError::Usage("a batch consists of forms; leave out --as or --batch"));
        }
        self.url.batch().ok_or(PumpError::Usage("--batch needs a URL that ends in /collect or /batch"))
    }

    fn hits(&self) -> Result<Hits, PumpError> {
        let hits: Hits = match &self.dataset {
            Some(dir) => Box::new(Dataset::open(dir, self.seed)?),
            None if self.hits == 0 => {
                return Err(PumpError::Usage("--hits 0 needs --dataset, because generated traffic never ends"));
            }
            None => Box::new(Traffic::new(self.seed).map(Ok)),
        };
        if self.hits == 0 {
            return Ok(hits);
        }
        Ok(Box::new(hits.take(usize::try_from(self.hits).unwrap_or(usize::MAX))))
    }
}

/// Sends the hits that the arguments ask for, and calls `on_progress` after each request.
pub async fn run(
    arguments: &Arguments,
    interrupt: &AtomicBool,
    on_progress: impl Fn(&Counts),
) -> Result<Report, PumpError> {
    let target = arguments.target()?;
    let hits = arguments.hits()?;
    let packing = if arguments.batch { Packing::Batch } else { Packing::Single(arguments.encoding) };
    let pace = Pace { concurrency: arguments.concurrency.into(), hits_per_second: arguments.rate, ..Pace::default() };
    let sender = Sender::new(target.clone(), pace)?;
    let began = Instant::now();
    let (counts, stop) = send(Requests::new(hits, packing), &sender, interrupt, on_progress).await;
    let arguments = Arguments { url: target, ..arguments.clone() };
    Ok(Report::new(arguments, &counts, began.elapsed(), stop.map(|stop| stop.to_string())))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{
        dataset::tests::Folder,
        send::tests::{Reaction, server},
        *,
    };

    async fn pump(arguments: &[&str]) -> Result<Report, PumpError> {
        let arguments = Arguments::try_parse(arguments).unwrap();
        run(&arguments, &AtomicBool::new(false), |_| ()).await
    }

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[tokio::test]
    async fn a_run_ends_with_its_report() {
        let server = server(vec![Reaction::Respond(503, "retry-after: 0\r\n"), Reaction::Respond(400, "")]).await;
        let report = pump(&[&server.url, "--hits", "300"]).await.unwrap();
        assert_eq!((report.complete, report.sent.total, report.accepted), (false, 300, 299));
        assert_eq!((report.rejected.by_cause["400"], report.retried.by_cause["503"]), (1, 1));
        assert!(report.sessions > 20 && report.latency_ms.unwrap().p99 > 0.0);
        let all = pump(&[&server.url, "--hits", "10", "--as", "json"]).await.unwrap();
        assert!(all.complete && all.to_string().contains("\naccepted    10\n"), "{all}");
    }

    #[tokio::test]
    async fn a_batch_has_its_own_path() {
        let server = server(vec![]).await;
        let report = pump(&[&server.url, "--hits", "45", "--batch"]).await.unwrap();
        assert_eq!((report.complete, report.requests, report.accepted), (true, 3, 45));
        let requests = server.requests.lock().unwrap();
        assert!(requests.iter().all(|request| request.starts_with("POST /batch HTTP/1.1\r\n")));
    }

    #[tokio::test]
    async fn a_dataset_is_sent_up_to_its_end_or_its_first_error() {
        let server = server(vec![]).await;
        let row = "s1,event_product,add,abc,1550885213308,u2\n";
        let good = Folder::of("good", &row.repeat(7), None);
        let dir = good.0.to_str().unwrap();
        for (hits, sent) in [("0", 7), ("5", 5), ("100", 7)] {
            let report = pump(&[&server.url, "--dataset", dir, "--hits", hits]).await.unwrap();
            assert_eq!((report.complete, report.sent.by_kind[&hit::Kind::Add], report.sessions), (true, sent, 1));
        }
        let bad = Folder::of("mistake", &format!("{row}{row}s1,visit,,,1,u\n"), None);
        let report = pump(&[&server.url, "--dataset", bad.0.to_str().unwrap()]).await.unwrap();
        assert_eq!((report.complete, report.accepted), (false, 2));
        assert!(report.stopped.unwrap().contains("browsing_train.csv, line 4, column event_type"));
    }

    #[tokio::test]
    async fn invalid_arguments_are_explained() {
        for (arguments, message) in [
            (&["http://x/collect", "--hits", "0"][..], "--hits 0 needs --dataset"),
            (&["http://x/collect", "--batch", "--as", "json"], "a batch consists of forms"),
            (&["http://x/", "--batch"], "--batch needs a URL"),
            (&["http://x/collect", "--dataset", "/nowhere"], "/nowhere/browsing_train.csv: "),
        ] {
            let error = pump(arguments).await.unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(message), "{error}");
        }
        for arguments in [
            &[][..],
            &["collect"],
            &["ftp://x/collect"],
            &["http://x/collect", "--rate", "0"],
            &["http://x/collect", "--concurrency", "0"],
            &["http://x/collect", "--as", "xml"],
        ] {
            assert_eq!(Arguments::try_parse(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
