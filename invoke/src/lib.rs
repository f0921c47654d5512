//! load-registrar, by invocation: it alone speaks to Postgres.

#![deny(missing_docs)]

use aws_sdk_lambda::{Client, primitives::Blob};
use runtime::failure::cause;
use serde::{Deserialize, de::DeserializeOwned};
use shared::registrar::{Command, REFUSED};

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
    pub fn new(client: Client, function: &str) -> Self {
        Self { client, function: function.to_owned() }
    }

    /// Sends a command and returns its answer, which is the type that the command's documentation names.
    pub async fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, RegistrarError> {
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
