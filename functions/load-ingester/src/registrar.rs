//! load-registrar, by invocation: it alone speaks to Postgres.

use std::time::Duration;

use aws_config::{SdkConfig, retry::RetryConfig};
use aws_sdk_lambda::{Client, config, primitives::Blob};
use runtime::{aws, failure::cause};
use serde::{Deserialize, de::DeserializeOwned};
use shared::registrar::{Command, Load, LoadList, LoadRef, LoadResult, LoadStatus, LoadsMoved, REFUSED, Step};

/// Why load-registrar did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistrarError {
    /// It refuses, and would again: the lease has expired, or the step is illegal.
    #[error("load-registrar refuses: {0}")]
    Refused(String),
    /// It could not be asked, or could not do it now. It may have done it all the same.
    #[error("load-registrar did not answer: {0}")]
    Unavailable(String),
}

/// load-registrar ends within a minute, so an attempt that takes longer has failed, and not before.
const ATTEMPT: Duration = Duration::from_secs(65);

/// A client of load-registrar.
#[derive(Debug, Clone)]
pub struct Registrar {
    client: Client,
    function: String,
}

impl Registrar {
    /// The function of this name.
    #[must_use]
    pub fn new(aws: &SdkConfig, function: &str) -> Self {
        let config = config::Builder::from(aws).timeout_config(aws::timeouts(ATTEMPT)).build();
        Self { client: Client::from_conf(config), function: function.to_owned() }
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
        Ok(self.once::<LoadList>(&command).await?.loads)
    }

    /// Begins to work on a load that comes out of the queue.
    pub async fn begin(&self, load: LoadRef, lease_seconds: u32, by: &str) -> Result<Option<Load>, RegistrarError> {
        let command = Command::LoadsBegin { loads: vec![load], lease_seconds, by: by.to_owned() };
        Ok(self.once::<LoadList>(&command).await?.loads.into_iter().next())
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
        Ok(self.once::<LoadList>(&command).await?.loads.into_iter().next())
    }

    /// Renews the lease of a load.
    pub async fn renew(&self, load: &Load, lease_seconds: u32) -> Result<(), RegistrarError> {
        let loads = vec![reference(load, None)];
        self.ask::<LoadList>(&Command::LoadsRenew { loads, lease_seconds }).await.map(drop)
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
        self.invoke(command, None).await
    }

    /// Asks for what gives a lease, which a second attempt would not get again.
    async fn once<T: DeserializeOwned>(&self, command: &Command) -> Result<T, RegistrarError> {
        let once = config::Builder::new().retry_config(RetryConfig::standard().with_max_attempts(1));
        self.invoke(command, Some(once)).await
    }

    async fn invoke<T: DeserializeOwned>(
        &self,
        command: &Command,
        settings: Option<config::Builder>,
    ) -> Result<T, RegistrarError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Failure {
            #[serde(default)]
            error_type: String,
            #[serde(default)]
            error_message: String,
        }
        let unavailable = |error: serde_json::Error| RegistrarError::Unavailable(error.to_string());
        let request = serde_json::to_vec(command).map_err(unavailable)?;
        let invoke = self.client.invoke().function_name(&self.function).payload(Blob::new(request));
        let answer = invoke.customize().config_override(settings.unwrap_or_default()).send().await;
        let answer = answer.map_err(|error| RegistrarError::Unavailable(cause(&error)))?;
        let payload = answer.payload().map(Blob::as_ref).unwrap_or_default();
        if answer.function_error().is_none() {
            return serde_json::from_slice(payload).map_err(unavailable);
        }
        let failure: Failure = serde_json::from_slice(payload).map_err(unavailable)?;
        Err(match failure.error_type == REFUSED {
            true => RegistrarError::Refused(failure.error_message),
            false => RegistrarError::Unavailable(failure.error_message),
        })
    }
}

/// A load by its id and lease.
#[must_use]
pub const fn reference(load: &Load, result: Option<LoadResult>) -> LoadRef {
    LoadRef { id: load.id, lease: Some(load.lease), result }
}
