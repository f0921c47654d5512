//! load-registrar, which has the loads.

use aws_config::SdkConfig;
use invoke::Invoke;
pub use invoke::RegistrarError;
use shared::registrar::{Command, Load, LoadList, LoadRef, LoadResult, LoadStatus, LoadsMoved, Step};

/// A client of load-registrar.
#[derive(Debug, Clone)]
pub struct Registrar(Invoke);

impl Registrar {
    /// The function of this name.
    #[must_use]
    pub fn new(aws: &SdkConfig, function: &str) -> Self {
        Self(Invoke::new(aws, function))
    }

    /// Claims the oldest loads that wait for a step, to be put into a queue.
    pub async fn queue(
        &self,
        step: Step,
        limit: u32,
        lease_seconds: u32,
        by: &str,
    ) -> Result<Vec<Load>, RegistrarError> {
        let (loads, by) = (Vec::new(), by.to_owned());
        let command = Command::LoadsNext { table: None, loads, step, limit, lease_seconds, by, queued: true };
        Ok(self.0.ask_once::<LoadList>(&command).await?.loads)
    }

    /// Begins to work on a load that comes out of the queue.
    pub async fn begin(&self, load: LoadRef, lease_seconds: u32, by: &str) -> Result<Option<Load>, RegistrarError> {
        let command = Command::LoadsBegin { loads: vec![load], lease_seconds, by: by.to_owned() };
        Ok(self.0.ask_once::<LoadList>(&command).await?.loads.into_iter().next())
    }

    /// Claims a load for its next step, to work on it now. `None`: it does not wait for it.
    pub async fn claim(
        &self,
        step: Step,
        load: i64,
        lease_seconds: u32,
        by: &str,
    ) -> Result<Option<Load>, RegistrarError> {
        let (loads, by) = (vec![load], by.to_owned());
        let command = Command::LoadsNext { table: None, loads, step, limit: 1, lease_seconds, by, queued: false };
        Ok(self.0.ask_once::<LoadList>(&command).await?.loads.into_iter().next())
    }

    /// Renews the lease of a load.
    pub async fn renew(&self, load: &Load, lease_seconds: u32) -> Result<(), RegistrarError> {
        let loads = vec![reference(load, None)];
        self.0.ask::<LoadList>(&Command::LoadsRenew { loads, lease_seconds }).await.map(drop)
    }

    /// Takes a step with a load, by its lease. Taking it again changes nothing.
    pub async fn step(
        &self,
        load: &Load,
        to: LoadStatus,
        reason: Option<&str>,
        result: Option<LoadResult>,
        by: &str,
    ) -> Result<(), RegistrarError> {
        let (reason, by) = (reason.map(str::to_owned), by.to_owned());
        let loads = vec![reference(load, result)];
        let command = Command::LoadsSetStatus { loads, status: to, reason, by, revoke: false };
        self.0.ask::<LoadsMoved>(&command).await.map(drop)
    }
}

/// A load by its id and lease.
#[must_use]
pub const fn reference(load: &Load, result: Option<LoadResult>) -> LoadRef {
    LoadRef { id: load.id, lease: Some(load.lease), result }
}
