//! Tokens of IAM database authentication, which take the place of a password.
//!
//! A token is the URL `host:port/?Action=connect&DBUser=user`, presigned for the service `rds-db` with the role of the
//! function, without `https://`. It is valid for 15 minutes, and only opening a connection needs it. Source: "IAM database
//! authentication for MariaDB, MySQL, and PostgreSQL", Amazon RDS user guide.

use std::time::{Duration, UNIX_EPOCH};

use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use runtime::{clock, failure::chain};

const VALID: Duration = Duration::from_secs(900);
/// What a query holds as it is.
const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Signs tokens with the credentials of the function.
#[derive(Debug, Clone)]
pub struct Signer {
    credentials: Option<SharedCredentialsProvider>,
    region: Option<Region>,
}

impl Signer {
    #[must_use]
    pub fn new(aws: &SdkConfig) -> Self {
        Self { credentials: aws.credentials_provider(), region: aws.region().cloned() }
    }

    /// A token that is valid from now on.
    pub async fn token(&self, host: &str, port: u16, user: &str) -> Result<String, String> {
        let provider = self.credentials.as_ref().ok_or("there are no credentials")?;
        let region = self.region.as_ref().ok_or("there is no region")?;
        let identity = provider.provide_credentials().await.map_err(|error| chain(&error))?.into();
        let mut settings = SigningSettings::default();
        settings.expires_in = Some(VALID);
        settings.signature_location = SignatureLocation::QueryParams;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region.as_ref())
            .name("rds-db")
            .time(UNIX_EPOCH + clock::since_epoch())
            .settings(settings)
            .build()
            .map_err(|error| chain(&error))?;
        let mut token = format!("{host}:{port}/?Action=connect&DBUser={}", utf8_percent_encode(user, KEPT));
        let url = format!("https://{token}");
        let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]));
        let request = request.map_err(|error| chain(&error))?;
        let (signed, _) = sign(request, &parameters.into()).map_err(|error| chain(&error))?.into_parts();
        for (name, value) in signed.into_parts().1 {
            token += &format!("&{name}={}", utf8_percent_encode(&value, KEPT));
        }
        Ok(token)
    }
}
