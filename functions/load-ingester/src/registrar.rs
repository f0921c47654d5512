//! load-registrar, by invocation: it alone speaks to Postgres.

use aws_sdk_lambda::Client;
use invoke::Invoke;
pub use invoke::RegistrarError;
use serde::de::DeserializeOwned;
use shared::registrar::{Command, Load, LoadList, LoadRef, LoadResult, LoadStatus, LoadsMoved, Step};

/// A client of load-registrar.
#[derive(Debug, Clone)]
pub struct Registrar(Invoke);

impl Registrar {
    /// The function of this name.
    #[must_use]
    pub fn new(client: Client, function: &str) -> Self {
        Self(Invoke::new(client, function))
    }

    /// Claims loads that wait for a step; only those of `loads`, unless it is empty.
    pub async fn claim(
        &self,
        step: Step,
        loads: Vec<i64>,
        limit: u32,
        lease_seconds: u32,
        by: &str,
    ) -> Result<Vec<Load>, RegistrarError> {
        let command = Command::LoadsNext { table: None, loads, step, limit, lease_seconds, by: by.to_owned() };
        Ok(self.ask::<LoadList>(&command).await?.loads)
    }

    /// Renews the lease of a load and returns the load as it is now.
    pub async fn renew(&self, load: LoadRef, lease_seconds: u32) -> Result<Option<Load>, RegistrarError> {
        let list: LoadList = self.ask(&Command::LoadsRenew { loads: vec![load], lease_seconds }).await?;
        Ok(list.loads.into_iter().next())
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
        self.ask::<LoadsMoved>(&command).await.map(drop)
    }

    async fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, RegistrarError> {
        self.0.ask(command).await
    }
}

/// A load by its id and lease.
#[must_use]
pub const fn reference(load: &Load, result: Option<LoadResult>) -> LoadRef {
    LoadRef { id: load.id, lease: Some(load.lease), result }
}
