//! The AWS clients of the command line.

use std::time::Duration;

use aws_config::{
    BehaviorVersion, SdkConfig, profile::ProfileFileCredentialsProvider, provider_config::ProviderConfig,
    stalled_stream_protection::StalledStreamProtectionConfig,
};
use aws_sdk_lambda::config::{
    interceptors::InterceptorContext,
    retry::{ClassifyRetry, RetryAction},
    timeout::TimeoutConfig,
};
use aws_sdk_sqs::config::{ProvideCredentials, SharedCredentialsProvider};
use runtime::{aws, failure::chain};

/// Lambda ends a function after 15 minutes, and reports that itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(16 * 60);

#[derive(Debug, Clone)]
pub struct Clients {
    pub cloudwatch: aws_sdk_cloudwatch::Client,
    pub kinesis: aws_sdk_kinesis::Client,
    pub lambda: aws_sdk_lambda::Client,
    pub s3: objects::Client,
    pub sqs: aws_sdk_sqs::Client,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    #[error("no AWS region is set; set AWS_REGION, or `region` in the profile")]
    Region,
    #[error("profile {profile} gives no credentials: {cause}")]
    Profile { profile: String, cause: String },
}

impl Clients {
    /// Clients from the environment and the AWS files. A profile that is given takes precedence over credentials in the
    /// environment.
    pub async fn from_env(profile: Option<&str>) -> Result<Self, ClientsError> {
        let https = aws::https();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https.clone());
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
        }
        let mut config = loader.load().await;
        let Some(region) = config.region() else { return Err(ClientsError::Region) };
        if let Some(profile) = profile {
            let provider = ProviderConfig::default().with_http_client(https).with_region(Some(region.clone()));
            let credentials =
                ProfileFileCredentialsProvider::builder().configure(&provider).profile_name(profile).build();
            if let Err(error) = credentials.provide_credentials().await {
                return Err(ClientsError::Profile { profile: profile.to_owned(), cause: chain(&error) });
            }
            let credentials = SharedCredentialsProvider::new(credentials);
            config = config.into_builder().credentials_provider(credentials).build();
        }
        Ok(Self::of(&config))
    }

    pub fn of(config: &SdkConfig) -> Self {
        Self {
            cloudwatch: aws_sdk_cloudwatch::Client::new(config),
            kinesis: aws_sdk_kinesis::Client::new(config),
            lambda: invoking(config, ANSWER_TIMEOUT),
            s3: objects::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
        }
    }
}

/// A client that waits for functions, and never runs one twice.
///
/// The SDK sets no read timeout of its own, so that a connection which died in silence would be waited for without end.
/// While a function works, nothing comes over the connection: that is no stalled stream.
pub(crate) fn invoking(config: &SdkConfig, answer_timeout: Duration) -> aws_sdk_lambda::Client {
    let timeouts = TimeoutConfig::builder()
        .read_timeout(answer_timeout)
        .disable_operation_timeout()
        .disable_operation_attempt_timeout()
        .build();
    let config = aws_sdk_lambda::config::Builder::from(config)
        .timeout_config(timeouts)
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_classifier(OnlyRefusals)
        .build();
    aws_sdk_lambda::Client::from_conf(config)
}

/// Lets the SDK retry only what Lambda refused, such as a throttled invocation: the function has not been run.
///
/// When no answer came, because of a timeout, a lost connection or a failure in Lambda, the function may have done its
/// work, and some commands must not be done twice: what `loads next` claimed would be claimed again.
#[derive(Debug)]
struct OnlyRefusals;

impl ClassifyRetry for OnlyRefusals {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let is_refusal = context.response().is_some_and(|response| response.status().is_client_error());
        let is_answer = context.output_or_error().is_some_and(|result| result.is_ok());
        if is_refusal || is_answer { RetryAction::NoActionIndicated } else { RetryAction::RetryForbidden }
    }

    fn name(&self) -> &'static str {
        "OnlyRefusals"
    }
}
