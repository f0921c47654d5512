//! load-registrar, which knows the feeds and what was fetched of them.

use aws_config::SdkConfig;
use invoke::Invoke;
pub use invoke::RegistrarError;
use jiff::Timestamp;
use shared::{
    dmap::{Begun, Dataset, Feed, FeedList, OtherVersion, Recorded, Segment, StoredDataset, Unfetched},
    registrar::Command,
};

/// A client of load-registrar.
#[derive(Debug, Clone)]
pub struct Registrar(Invoke);

impl Registrar {
    /// The function of this name.
    #[must_use]
    pub fn new(aws: &SdkConfig, function: &str) -> Self {
        Self(Invoke::new(aws, function))
    }

    /// The feeds that are active, the one that was asked longest ago first.
    pub async fn feeds(&self) -> Result<Vec<Feed>, RegistrarError> {
        let list: FeedList = self.0.ask(&Command::DmapFeeds {}).await?;
        Ok(list.feeds.into_iter().filter(|feed| feed.active).collect())
    }

    /// Positions of the datasets that have to be fetched. Those that were tried least often come first.
    pub async fn unfetched(&self, feed: &Segment, datasets: Vec<Dataset>) -> Result<Vec<usize>, RegistrarError> {
        let unfetched: Unfetched = self.0.ask(&Command::DmapUnfetched { feed: feed.clone(), datasets }).await?;
        Ok(unfetched.positions.into_iter().filter_map(|position| usize::try_from(position).ok()).collect())
    }

    /// Notes that a feed was asked, so that it comes last the next time.
    pub async fn asked(&self, feed: &Segment) -> Result<(), RegistrarError> {
        self.unfetched(feed, Vec::new()).await.map(drop)
    }

    /// Announces that a dataset is going to be fetched in place of `found`. Whether it has to be.
    pub async fn begin(
        &self,
        feed: &Segment,
        dataset: &Dataset,
        found: Option<OtherVersion>,
    ) -> Result<bool, RegistrarError> {
        let begin = Command::DmapBegin { feed: feed.clone(), dataset: dataset.clone(), found };
        Ok(self.0.ask::<Begun>(&begin).await?.fetch)
    }

    /// Records that a dataset is in the bucket.
    pub async fn fetched(
        &self,
        feed: &Segment,
        dataset: &Dataset,
        object: StoredDataset,
    ) -> Result<(), RegistrarError> {
        let fetched = Command::DmapFetched { feed: feed.clone(), dataset: dataset.clone(), object };
        self.0.ask::<Recorded>(&fetched).await.map(drop)
    }

    /// Records that every dataset of an answer has been fetched.
    pub async fn answered(&self, feed: &Segment, last_updated: Option<Timestamp>) -> Result<(), RegistrarError> {
        self.0.ask::<Recorded>(&Command::DmapAnswered { feed: feed.clone(), last_updated }).await.map(drop)
    }
}
