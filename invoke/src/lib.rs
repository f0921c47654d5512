//! load-registrar, by invocation: it alone speaks to Postgres.

#![deny(missing_docs)]

use std::time::Duration;

use aws_config::{SdkConfig, retry::RetryConfig};
use aws_sdk_lambda::{Client, config, primitives::Blob};
use runtime::{
    aws,
    failure::{cause, code},
};
use serde::{Deserialize, de::DeserializeOwned};
use shared::registrar::{Command, REFUSED};
use tokio::time::sleep;

/// load-registrar ends within a minute, so an attempt that takes longer has failed, and not before.
const ATTEMPT: Duration = Duration::from_secs(65);

/// Pauses after Lambda has refused to run it, which is certain not to have done anything, in milliseconds.
const PAUSES_MS: [u64; 4] = [100, 300, 900, 2_700];

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

/// Why an attempt failed.
struct Failed {
    error: RegistrarError,
    /// Lambda has not run the function, because too many of it were running.
    throttled: bool,
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
        self.send(command, config::Builder::new()).await.map_err(|failed| failed.error)
    }

    /// The same without a repetition, for what gives a lease: a second attempt would not get the one of the first.
    pub async fn ask_once<T: DeserializeOwned>(&self, command: &Command) -> Result<T, RegistrarError> {
        let once = || config::Builder::new().retry_config(RetryConfig::standard().with_max_attempts(1));
        for pause in PAUSES_MS {
            match self.send(command, once()).await {
                Err(Failed { throttled: true, .. }) => sleep(Duration::from_millis(pause)).await,
                done => return done.map_err(|failed| failed.error),
            }
        }
        self.send(command, once()).await.map_err(|failed| failed.error)
    }

    async fn send<T: DeserializeOwned>(&self, command: &Command, settings: config::Builder) -> Result<T, Failed> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Failure {
            #[serde(default)]
            error_type: String,
            #[serde(default)]
            error_message: String,
        }
        let failed = |error| Failed { error, throttled: false };
        let unavailable = |cause: String| failed(RegistrarError::Unavailable(cause));
        let request = serde_json::to_vec(command).map_err(|error| unavailable(error.to_string()))?;
        let invoke = self.client.invoke().function_name(&self.function).payload(Blob::new(request));
        let answer = invoke.customize().config_override(settings).send().await.map_err(|error| {
            let throttled = code(&error) == Some("TooManyRequestsException");
            Failed { error: RegistrarError::Unavailable(cause(&error)), throttled }
        })?;
        let payload = answer.payload().map(Blob::as_ref).unwrap_or_default();
        if answer.function_error().is_none() {
            return serde_json::from_slice(payload).map_err(|error| unavailable(error.to_string()));
        }
        let failure: Failure = serde_json::from_slice(payload).map_err(|error| unavailable(error.to_string()))?;
        Err(match failure.error_type == REFUSED {
            true => failed(RegistrarError::Refused(failure.error_message)),
            false => unavailable(failure.error_message),
        })
    }
}
