//! The stack that a command is about: its functions and queues are named after it, and the settings of its functions say
//! where everything else is.

use std::collections::HashMap;

use aws_sdk_lambda::types::EnvironmentResponse;
use runtime::failure::{cause, code};

use crate::{Exit, context::Context, outcome::Failed};

pub const WRITER: &str = "parquet-writer";
pub const COLLECT: &str = "collect";
pub const ROLLER: &str = "kafka-roller";
pub const REGISTRAR: &str = "load-registrar";
pub const INGESTER: &str = "load-ingester";
pub const FETCHER: &str = "dmap-fetch";
/// The container beside the stack, which has no settings that can be asked for.
pub const CONSUMER: &str = "consumer";

/// The queue of events.
pub const EVENTS: &str = "events";
/// The queue of S3 notifications.
pub const PUTS: &str = "puts";
/// The queue of hits that the stream did not take in time.
pub const OVERFLOW: &str = "overflow";
/// The queue of claimed loads.
pub const LOADS: &str = "loads";

/// Why something of a stack cannot be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StackError {
    #[error("there is no {kind} {name} in {region}; name the right stack with --stack")]
    Missing { kind: &'static str, name: String, region: String },
    #[error("{kind} {name} cannot be looked up: {cause}")]
    Call { kind: &'static str, name: String, cause: String },
    #[error("function {function} has no setting {variable}; are the command and the function of one version?")]
    Setting { function: String, variable: &'static str },
}

impl From<StackError> for Failed {
    fn from(error: StackError) -> Self {
        Self { sentence: error.to_string(), exit: Exit::Incomplete }
    }
}

/// A function of the stack, as it is deployed.
#[derive(Debug, Clone)]
pub struct Function {
    pub name: String,
    /// Its environment variables.
    pub variables: HashMap<String, String>,
}

impl Function {
    /// A setting that is not empty.
    pub fn setting(&self, variable: &'static str) -> Result<String, StackError> {
        let value = self.variables.get(variable).filter(|value| !value.is_empty());
        value.cloned().ok_or_else(|| StackError::Setting { function: self.name.clone(), variable })
    }
}

impl Context {
    /// The name of one of the stack's functions, queues or streams.
    pub fn named(&self, part: &str) -> String {
        format!("{}-{part}", self.stack)
    }

    /// The region that the commands are about.
    pub fn region(&self) -> String {
        let region = self.clients.lambda.config().region();
        region.map_or_else(|| "this region".to_owned(), ToString::to_string)
    }

    /// The settings of the function of this name or ARN.
    pub async fn function(&self, name: &str) -> Result<Function, StackError> {
        let client = &self.clients.lambda;
        match client.get_function_configuration().function_name(name).send().await {
            Ok(answer) => {
                let environment = answer.environment.unwrap_or_else(|| EnvironmentResponse::builder().build());
                // Variables that are encrypted with a key of one's own are left out for those who may not use the key.
                if let Some(cause) = environment.error.and_then(|error| error.message) {
                    return Err(StackError::Call { kind: "function", name: name.to_owned(), cause });
                }
                Ok(Function { name: name.to_owned(), variables: environment.variables.unwrap_or_default() })
            }
            Err(error) => Err(self.failed("function", name, "ResourceNotFoundException", code(&error), cause(&error))),
        }
    }

    /// A setting of one of the stack's functions.
    pub async fn setting(&self, part: &str, variable: &'static str) -> Result<String, StackError> {
        self.function(&self.named(part)).await?.setting(variable)
    }

    /// The bucket of the quarantine of a function, or of the consumer, which has that of parquet-writer.
    pub async fn lake_of(&self, part: &str) -> Result<String, StackError> {
        self.setting(if part == CONSUMER { WRITER } else { part }, "LAKE_BUCKET").await
    }

    /// The URL of one of the stack's queues.
    pub async fn queue(&self, part: &str) -> Result<String, StackError> {
        let (client, name) = (&self.clients.sqs, self.named(part));
        match client.get_queue_url().queue_name(&name).send().await {
            Ok(answer) => Ok(answer.queue_url.unwrap_or_default()),
            Err(error) => Err(self.failed("queue", &name, "QueueDoesNotExist", code(&error), cause(&error))),
        }
    }

    /// The name of the queue or the stream that one of the stack's functions reads.
    pub async fn source(&self, part: &str) -> Result<String, StackError> {
        let (kind, name) = ("source of function", self.named(part));
        let client = &self.clients.lambda;
        let answer = client.list_event_source_mappings().function_name(&name).send().await;
        let answer = answer.map_err(|error| StackError::Call { kind, name: name.clone(), cause: cause(&error) })?;
        let arn = answer.event_source_mappings().iter().find_map(|mapping| mapping.event_source_arn());
        let source = arn.and_then(|arn| arn.rsplit(['/', ':']).next());
        source.map(str::to_owned).ok_or_else(|| StackError::Missing { kind, name, region: self.region() })
    }

    fn failed(&self, kind: &'static str, name: &str, missing: &str, code: Option<&str>, cause: String) -> StackError {
        let name = name.to_owned();
        // SQS has an older code for it, too: AWS.SimpleQueueService.NonExistentQueue.
        if code.is_some_and(|code| code.ends_with(missing) || code.ends_with("NonExistentQueue")) {
            StackError::Missing { kind, name, region: self.region() }
        } else {
            StackError::Call { kind, name, cause }
        }
    }
}

#[cfg(test)]
mod tests {
    use kit::http::{self, respond_json};
    use serde_json::json;

    use super::*;
    use crate::canned::services;

    #[tokio::test]
    async fn functions_and_queues_are_named_after_the_stack() {
        let context = services(|request| match http::target(request) {
            Some(target) => {
                assert_eq!(target, "AmazonSQS.GetQueueUrl");
                let name = http::json(request)["QueueName"].as_str().unwrap().to_owned();
                match name.as_str() {
                    "staging-events" => respond_json(200, &json!({"QueueUrl": format!("http://sqs/1/{name}")})),
                    "staging-puts" => respond_json(400, &json!({"__type": "QueueDoesNotExist"})),
                    _ => respond_json(403, &json!({"__type": "AccessDenied", "message": "no"})),
                }
            }
            None if request.uri().ends_with("/functions/staging-collect/configuration") => {
                respond_json(200, &json!({"Environment": {"Variables": {"STREAM_NAME": "clicks", "EMPTY": ""}}}))
            }
            None if request.uri().ends_with("/functions/staging-kafka-roller/configuration") => {
                let error = json!({"ErrorCode": "AccessDeniedException", "Message": "no kms:Decrypt"});
                respond_json(200, &json!({"Environment": {"Error": error}}))
            }
            None => http::respond(404, "{}", &[("x-amzn-errortype", "ResourceNotFoundException".to_owned())]),
        })
        .await;
        let context = Context { stack: "staging".to_owned(), ..context };
        assert_eq!(context.queue("events").await.unwrap(), "http://sqs/1/staging-events");
        assert_eq!(context.setting(COLLECT, "STREAM_NAME").await.unwrap(), "clicks");
        let sentence = |error: StackError| error.to_string();
        assert_eq!(
            context.queue("puts").await.map_err(sentence).unwrap_err(),
            "there is no queue staging-puts in eu-west-1; name the right stack with --stack"
        );
        let denied = context.queue("other").await.map_err(sentence).unwrap_err();
        assert!(denied.starts_with("queue staging-other cannot be looked up: AccessDenied"), "{denied}");
        assert_eq!(
            context.setting(ROLLER, "LAKE_BUCKET").await.map_err(sentence).unwrap_err(),
            "function staging-kafka-roller cannot be looked up: no kms:Decrypt"
        );
        assert_eq!(
            context.setting(WRITER, "LAKE_BUCKET").await.map_err(sentence).unwrap_err(),
            "there is no function staging-parquet-writer in eu-west-1; name the right stack with --stack"
        );
        assert_eq!(
            context.setting(COLLECT, "EMPTY").await.map_err(sentence).unwrap_err(),
            "function staging-collect has no setting EMPTY; are the command and the function of one version?"
        );
    }
}
