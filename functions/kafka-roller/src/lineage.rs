//! Which shards a shard came from. Kinesis is asked once, when the first batch of a shard arrives.

use std::fmt;

use aws_sdk_kinesis::Client;
use futures_util::future::LocalBoxFuture;
use runtime::failure::cause;
use shared::layout::Segment;

use crate::error::RollError;

/// Knows the shards that were split or merged into another.
pub trait Lineage: fmt::Debug {
    /// The parents of a shard; none if there are none, or the stream does not list them any more.
    fn parents<'a>(
        &'a self,
        stream_arn: &'a str,
        shard: &'a Segment,
    ) -> LocalBoxFuture<'a, Result<Vec<Segment>, RollError>>;
}

impl Lineage for Client {
    fn parents<'a>(
        &'a self,
        stream_arn: &'a str,
        shard: &'a Segment,
    ) -> LocalBoxFuture<'a, Result<Vec<Segment>, RollError>> {
        Box::pin(async move {
            let failed = |cause: String| RollError::Shards(stream_arn.to_owned(), cause);
            let mut request = self.list_shards().stream_arn(stream_arn);
            loop {
                let answer = request.send().await.map_err(|error| failed(cause(&error)))?;
                if let Some(found) = answer.shards().iter().find(|listed| listed.shard_id() == shard.as_str()) {
                    let parents = [found.parent_shard_id(), found.adjacent_parent_shard_id()].into_iter().flatten();
                    return parents
                        .map(|id| id.parse().map_err(|_| failed(format!("it has a shard {id:?}"))))
                        .collect();
                }
                let Some(next) = answer.next_token else { return Ok(Vec::new()) };
                request = self.list_shards().next_token(next);
            }
        })
    }
}
