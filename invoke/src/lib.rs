//! load-registrar, by invocation: it alone speaks to Postgres.

#![deny(missing_docs)]

use std::time::Duration;

use aws_config::{SdkConfig, retry::RetryConfig};
use aws_sdk_lambda::{Client, config, primitives::Blob};
use runtime::{aws, failure::cause};
use serde::{Deserialize, de::DeserializeOwned};
use shared::registrar::{Command, REFUSED};

/// load-registrar ends within a minute, so an attempt that takes longer has failed, and not before.
const ATTEMPT: Duration = Duration::from_secs(65);

/// Why load-registrar did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum RegistrarError {
    /// It refuses, and would again.
    #[error("load-registrar refuses: {0}")]
    Refused(String),
    /// It could not be asked, or could not do it now. It may have done it all the same.
    #[error("load-registrar did not answer: {0}")]
    Unavailable(String),
}

/// A client of load-registrar.
#[derive(Debug, Clone)]
pub struct Invoke {
    client: Client,
    function: String,
}

impl Invoke {
    /// The function of this name.
    #[must_use]
    pub fn new(aws: &SdkConfig, function: &str) -> Self {
        let config = config::Builder::from(aws).timeout_config(aws::timeouts(ATTEMPT)).build();
        Self { client: Client::from_conf(config), function: function.to_owned() }
    }

    /// Sends a command and returns its answer, which is the type that the command's documentation names. An attempt that fails is
    /// repeated.
    pub async fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, RegistrarError> {
        self.send(command, config::Builder::new()).await
    }

    /// The same without a repetition, for what gives a lease: a second attempt would not get the one of the first.
    pub async fn ask_once<T: DeserializeOwned>(&self, command: &Command) -> Result<T, RegistrarError> {
        let once = RetryConfig::standard().with_max_attempts(1);
        self.send(command, config::Builder::new().retry_config(once)).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        command: &Command,
        settings: config::Builder,
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
        let answer = invoke.customize().config_override(settings).send().await;
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
