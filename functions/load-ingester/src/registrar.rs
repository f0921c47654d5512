//! load-registrar, by invocation: it alone speaks to Postgres.

use aws_sdk_lambda::{Client, primitives::Blob};
use runtime::failure::cause;
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

/// A client of load-registrar.
#[derive(Debug, Clone)]
pub struct Registrar {
    client: Client,
    function: String,
}

impl Registrar {
    /// The function of this name.
    #[must_use]
    pub fn new(client: Client, function: &str) -> Self {
        Self { client, function: function.to_owned() }
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
        let answer = self.client.invoke().function_name(&self.function).payload(Blob::new(request)).send().await;
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
