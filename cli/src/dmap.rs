//! `landfall dmap`: how far the feeds of DMAP have been fetched.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use shared::{dmap::FeedList, registrar::Command};

use crate::{
    console::Console,
    context::Context,
    outcome::{Outcome, document},
    registrar::{RegistrarArgs, RegistrarError},
    text::{Column, Table, grouped},
};

const LIST_HELP: &str = "\
Feeds are declared in the file of landfall tables apply, and dmap-fetch asks them on a schedule.

  last updated   of the newest dataset that was fetched together with all before it; what is newer is asked for
  complete       when the last answer had been fetched as a whole
  fetched        versions of datasets that are in the bucket, or were
  unfinished     versions that were begun: they failed, or there was no time left

Exit code: 0; 2 when the arguments are invalid; 1 when there is no list.

Examples:
  landfall dmap list
  landfall dmap list --json";

#[derive(Debug, Subcommand)]
pub enum Dmap {
    /// Lists the feeds, those that were asked longest ago first.
    List(ListArgs),
}

#[derive(Debug, Args)]
#[command(after_long_help = LIST_HELP)]
pub struct ListArgs {
    #[command(flatten)]
    pub registrar: RegistrarArgs,
}

pub async fn list(args: &ListArgs, context: &Context, console: &Console) -> Result<FeedList, RegistrarError> {
    args.registrar.ask(&Command::DmapFeeds {}, context, console).await
}

impl Outcome for FeedList {
    fn to_json(&self) -> Result<String, serde_json::Error> {
        document(self)
    }

    fn to_text(&self) -> String {
        if self.feeds.is_empty() {
            return "there are no feeds; declare them in a file and run landfall tables apply FILE\n".to_owned();
        }
        let titles =
            ["feed", "active", "relative URL", "key", "last updated", "asked", "complete", "fetched", "unfinished"];
        let mut table = Table::new(titles.map(Column::Left));
        let time = |time: Option<Timestamp>| time.map(|time| format!("{time:.0}")).unwrap_or_default();
        for feed in &self.feeds {
            table.row([
                feed.name.to_string(),
                if feed.active { "yes" } else { "no" }.to_owned(),
                feed.relative_url.clone(),
                feed.api_key.clone().unwrap_or_default(),
                feed.last_updated.map(|time| time.to_string()).unwrap_or_default(),
                time(feed.asked_at),
                time(feed.answered_at),
                grouped(feed.fetched),
                grouped(feed.unfinished),
            ]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::canned::{self, Reply, run};

    #[tokio::test]
    async fn feeds_are_listed_with_how_far_they_are() {
        let feeds = json!({"feeds": [
            {"name": "new", "relative_url": "/n", "api_key": "public", "active": true, "last_updated": null, "asked_at": null,
             "answered_at": null, "fetched": 0, "unfinished": 2},
            {"name": "agg", "relative_url": "/a", "api_key": null, "active": false,
             "last_updated": "2026-11-20T06:00:00.123456Z", "asked_at": "2026-11-20T14:11:46.987654Z",
             "answered_at": "2026-11-20T14:11:47Z", "fetched": 1_200, "unfinished": 0},
        ]});
        let answer = feeds.clone();
        let context = canned::registrar(move |command| {
            assert_eq!(command, Command::DmapFeeds {});
            Reply::Answer(answer.clone())
        })
        .await;
        let ended = run(&context, &["dmap", "list"]).await;
        let expected = "\
feed  active  relative URL  key     last updated                 asked                 complete              fetched  unfinished
new   yes     /n            public  -                            -                     -                     0        2
agg   no      /a            -       2026-11-20T06:00:00.123456Z  2026-11-20T14:11:46Z  2026-11-20T14:11:47Z  1,200    0
";
        assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (0, expected, ""));
        assert_eq!(run(&context, &["dmap", "list", "--json"]).await.json(), feeds);
        let nothing = canned::registrar(|_| Reply::Answer(json!({"feeds": []}))).await;
        let ended = run(&nothing, &["dmap", "list"]).await;
        assert_eq!(ended.out, "there are no feeds; declare them in a file and run landfall tables apply FILE\n");
    }
}
