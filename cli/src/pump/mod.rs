//! `landfall pump`: visitors of a shop that does not exist, or that once did, on their way to a `/collect` URL.
//!
//! [`traffic`] and [`dataset`] make hits, [`request`] writes them down, [`mod@send`] sends and counts them, [`report`] tells.

pub mod csv;
pub mod dataset;
pub mod dice;
pub mod hit;
pub mod latency;
pub mod report;
pub mod request;
pub mod send;
pub mod traffic;

use std::{
    cell::Cell,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::{Args, value_parser};

use self::{
    dataset::{Dataset, DatasetError},
    hit::Hit,
    report::{Asked, Pumped},
    request::{Encoding, Packing, Requests, Target},
    send::{Counts, Pace, Sender, TlsError, send},
    traffic::Traffic,
};
use crate::{
    Exit,
    console::Console,
    context::Interrupt,
    outcome::{Failed, conclude},
};

/// How often the speed is shown.
const BETWEEN_SPEEDS: Duration = Duration::from_millis(250);

const HELP: &str = "\
The visitors come from a seed, the same ones for the same seed, or from a folder of files in the shape of
the Coveo challenge (--dataset), which has a browsing_train.csv with the columns session_id_hash,
event_type, product_action, product_sku_hash, server_timestamp_epoch_ms and hashed_url, and may have a
sku_to_content.csv with product_sku_hash, category_hash and price_bucket. Each row is one hit, sent as if
it happened now.

429, 503 and a network that fails are retried up to 4 times with growing waits; Retry-After is heeded, up
to 30 s. Any other status but 2xx is a rejection. A hit whose answer was lost is sent again and may then
be kept twice. Ctrl-C sends nothing new and reports.

What it costs: each request is one of API Gateway and one invocation of Lambda, and each hit is a record of
the stream and of its delivery; retries are paid too. Requests cost the most, so --batch is cheaper; logs,
WAF and what your warehouse does with the hits come on top. The hits are stored like real ones: load a deployment of its own, or filter tid UA-20261120-1
out. Begin with a --rate, since other functions share the account's concurrency.

It needs no AWS credentials.

Exit code: 0 when all hits were accepted, 2 when the arguments or the files make no sense, otherwise 1.

Examples:
  landfall pump http://127.0.0.1:4601/_aws/execute-api/$API_ID/\\$default/collect --hits 2000
  landfall pump https://abc123.execute-api.eu-west-1.amazonaws.com/collect --hits 100000 --rate 500 --json
  landfall pump https://collect.example.com/collect --dataset train/ --hits 0 --batch";

/// The arguments of `landfall pump`.
#[derive(Debug, Args)]
#[command(after_long_help = HELP)]
pub struct PumpArgs {
    /// Where to send hits: …/collect.
    #[arg(value_name = "URL")]
    pub url: Target,
    /// Send so many hits at the most; 0 sends all of a dataset.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub hits: u64,
    /// Begin so many hits a second at the most; no limit without it.
    #[arg(long, value_name = "HITS_PER_SECOND", value_parser = value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Requests that are under way side by side, 1,000 at the most.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = value_parser!(u16).range(1..=1_000))]
    pub concurrency: u16,
    /// Which visitors: the same number sends the same hits.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Send the rows of this folder's browsing_train.csv instead.
    #[arg(long, value_name = "DIR")]
    pub dataset: Option<PathBuf>,
    /// How to write a hit.
    #[arg(long = "as", value_enum, value_name = "FORM", default_value_t = Encoding::Form)]
    pub encoding: Encoding,
    /// Send 20 hits a request, as forms, to …/batch beside …/collect.
    #[arg(long)]
    pub batch: bool,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// Arguments that contradict each other.
    #[error("{0}")]
    Usage(&'static str),
    /// The folder is none of hits.
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    /// There is no TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl From<PumpError> for Failed {
    fn from(error: PumpError) -> Self {
        let exit = match error {
            PumpError::Usage(_) | PumpError::Dataset(_) => Exit::Usage,
            PumpError::Tls(_) => Exit::Incomplete,
        };
        Self { sentence: error.to_string(), exit }
    }
}

/// Hits from wherever they come.
type Hits = Box<dyn Iterator<Item = Result<Hit, DatasetError>>>;

impl PumpArgs {
    fn target(&self) -> Result<Target, PumpError> {
        if !self.batch {
            return Ok(self.url.clone());
        }
        if self.encoding != Encoding::Form {
            return Err(PumpError::Usage("a batch is made of forms; leave out --as or --batch"));
        }
        self.url.batch().ok_or(PumpError::Usage("--batch needs a URL that ends in /collect or /batch"))
    }

    fn source(&self) -> Result<Hits, PumpError> {
        Ok(match &self.dataset {
            Some(dir) => Box::new(Dataset::open(dir, self.seed)?),
            None => Box::new(Traffic::new(self.seed).map(Ok)),
        })
    }

    /// The hits to send and, if it is known, how many.
    fn limited(&self) -> Result<(Hits, Option<usize>), PumpError> {
        match (self.hits, &self.dataset) {
            (0, None) => Err(PumpError::Usage("--hits 0 is for a dataset; the visitors of a seed never end")),
            (0, Some(_)) => Ok((self.source()?, None)),
            (hits, _) => {
                let hits = usize::try_from(hits).unwrap_or(usize::MAX);
                Ok((Box::new(self.source()?.take(hits)), Some(hits)))
            }
        }
    }
}

/// Runs the command and prints how it ended. It asks nothing of AWS.
pub async fn run(args: &PumpArgs, json: bool, interrupt: &Interrupt, console: &mut Console) -> Exit {
    let pumped = pump(args, interrupt, console).await;
    conclude(pumped, json, console)
}

async fn pump(args: &PumpArgs, interrupt: &Interrupt, console: &Console) -> Result<Pumped, PumpError> {
    let target = args.target()?;
    let (hits, total) = args.limited()?;
    let packing = if args.batch { Packing::Batch } else { Packing::Single(args.encoding) };
    let pace = Pace { concurrency: args.concurrency.into(), hits_per_second: args.rate, ..Pace::default() };
    let sender = Sender::new(target.clone(), pace)?;

    let progress = console.progress("Sent", "hits", total);
    let began = Instant::now();
    let next_speed = Cell::new(began + BETWEEN_SPEEDS);
    let (counts, stop) = send(Requests::new(hits, packing), &sender, interrupt, |request, counts| {
        progress.add(request.hits.len());
        let now = Instant::now();
        if now >= next_speed.get() {
            next_speed.set(now + BETWEEN_SPEEDS);
            progress.say(&speed(counts, now - began));
        }
    })
    .await;
    let took = began.elapsed();
    drop(progress);

    let asked = Asked {
        url: target.to_string(),
        encoding: args.encoding.as_str(),
        batch: args.batch,
        seed: args.seed,
        dataset: args.dataset.clone(),
    };
    Ok(Pumped::new(asked, &counts, took, stop.map(|stop| stop.to_string())))
}

/// `310 hits/s, 2 retries`.
fn speed(counts: &Counts, took: Duration) -> String {
    let hits_per_second = counts.accepted as f64 / took.as_secs_f64();
    let retries: u64 = counts.retried.values().sum();
    format!("{hits_per_second:.0} hits/s, {retries} retries")
}

#[cfg(test)]
mod tests {
    use super::{
        dataset::tests::Folder,
        send::tests::{Does, server},
    };
    use crate::{
        Cli,
        canned::{self, Ended, run},
    };

    async fn pumped(arguments: &[&str]) -> Ended {
        let context = canned::registrar(|command| panic!("{command:?}")).await;
        run(&context, &[&["pump"], arguments].concat()).await
    }

    #[tokio::test]
    async fn a_run_ends_with_its_report() {
        let server = server(vec![Does::Answers(503, "retry-after: 0\r\n"), Does::Answers(400, "")]).await;
        let ended = pumped(&[&server.url, "--hits", "300", "--json"]).await;
        let json = ended.json();
        assert_eq!((ended.code, ended.err.as_str()), (1, ""));
        assert_eq!((json["sent"]["total"].as_u64(), json["accepted"].as_u64()), (Some(300), Some(299)));
        assert_eq!(json["rejected"]["by_cause"]["400"], 1);
        assert_eq!(json["retried"]["by_cause"]["503"], 1);
        assert!(json["sessions"].as_u64().unwrap() > 20 && json["latency_ms"]["p99"].as_f64().unwrap() > 0.0);
        let all = pumped(&[&server.url, "--hits", "10", "--as", "json"]).await;
        assert_eq!(all.code, 0);
        assert!(all.out.contains("\naccepted    10\n"), "{}", all.out);
    }

    #[tokio::test]
    async fn a_batch_goes_to_its_own_path() {
        let server = server(vec![]).await;
        let ended = pumped(&[&server.url, "--hits", "45", "--batch", "--json"]).await;
        assert_eq!(
            (ended.code, ended.json()["requests"].as_u64(), ended.json()["accepted"].as_u64()),
            (0, Some(3), Some(45))
        );
        let requests = server.requests.lock().unwrap();
        assert!(requests.iter().all(|request| request.starts_with("POST /batch HTTP/1.1\r\n")));
    }

    #[tokio::test]
    async fn a_dataset_is_sent_to_its_end_or_to_its_first_mistake() {
        let server = server(vec![]).await;
        let row = "s1,event_product,add,abc,1550885213308,u2\n";
        let good = Folder::of("good", &row.repeat(7), None);
        let dir = good.0.to_str().unwrap();
        for (hits, sent) in [("0", 7), ("5", 5), ("100", 7)] {
            let ended = pumped(&[&server.url, "--dataset", dir, "--hits", hits, "--json"]).await;
            assert_eq!((ended.code, ended.json()["sent"]["by_kind"]["add"].as_u64()), (0, Some(sent)));
            assert_eq!(ended.json()["sessions"], 1);
        }
        let bad = Folder::of("mistake", &format!("{row}{row}s1,visit,,,1,u\n"), None);
        let ended = pumped(&[&server.url, "--dataset", bad.0.to_str().unwrap(), "--json"]).await;
        assert_eq!((ended.code, ended.json()["accepted"].as_u64()), (1, Some(2)));
        assert!(ended.json()["stopped"].as_str().unwrap().contains("browsing_train.csv, line 4, column event_type"));
    }

    #[tokio::test]
    async fn arguments_that_make_no_sense_are_told() {
        for (arguments, said) in [
            (&["http://x/collect", "--hits", "0"][..], "--hits 0 is for a dataset"),
            (&["http://x/collect", "--batch", "--as", "json"], "a batch is made of forms"),
            (&["http://x/", "--batch"], "--batch needs a URL"),
            (&["http://x/collect", "--dataset", "/nowhere"], "/nowhere/browsing_train.csv: "),
        ] {
            let ended = pumped(arguments).await;
            assert_eq!((ended.code, ended.out.as_str()), (2, ""));
            assert!(ended.err.contains(said), "{}", ended.err);
        }
        for arguments in [
            &["pump"][..],
            &["pump", "collect"],
            &["pump", "ftp://x/collect"],
            &["pump", "http://x/collect", "--rate", "0"],
            &["pump", "http://x/collect", "--concurrency", "0"],
            &["pump", "http://x/collect", "--as", "xml"],
        ] {
            assert_eq!(Cli::try_parse_args(arguments).unwrap_err().exit_code(), 2, "{arguments:?}");
        }
    }
}
