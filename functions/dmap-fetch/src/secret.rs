//! The API keys, from Secrets Manager. They are read when they are first needed, kept, and read again when DMAP refuses one.

use std::{collections::BTreeMap, fmt, sync::Arc};

use aws_sdk_secretsmanager::Client;
use runtime::failure::cause;
use tokio::sync::Mutex;

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The secret could not be read.
    #[error("secret {arn} could not be read: {cause}")]
    Unreadable {
        /// The secret.
        arn: String,
        /// Why.
        cause: String,
    },
    /// The text of the secret is neither a key nor an object of keys. It is not repeated.
    #[error("secret {0} holds neither an API key as text nor a JSON object of names and keys")]
    Invalid(String),
    /// The feed names a key that the secret does not have.
    #[error("secret {arn} has no key {name:?}; it has {known}")]
    Unknown {
        /// The secret.
        arn: String,
        /// The name.
        name: String,
        /// The names that it has.
        known: String,
    },
    /// The feed names no key, and the secret has several.
    #[error("secret {arn} has the keys {known}; name one of them with api_key in the declaration of the feed")]
    Several {
        /// The secret.
        arn: String,
        /// Their names.
        known: String,
    },
}

/// An API key, which is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// A key that is no secret.
    #[cfg(test)]
    pub(crate) fn of_test(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Its text, for the request.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The keys of a secret by their names; one without a name is under the empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Keys(BTreeMap<String, ApiKey>);

impl Keys {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let is_key = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
        let keys = if text.starts_with('{') {
            serde_json::from_str(text).ok()?
        } else {
            BTreeMap::from([(String::new(), text.to_owned())])
        };
        (!keys.is_empty() && keys.values().all(is_key))
            .then(|| Self(keys.into_iter().map(|(name, key)| (name, ApiKey(key))).collect()))
    }

    fn names(&self) -> String {
        match self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ") {
            names if names.is_empty() => "only one, without a name".to_owned(),
            names => names,
        }
    }

    fn get(&self, arn: &str, name: Option<&str>) -> Result<ApiKey, SecretError> {
        let arn = arn.to_owned();
        match name {
            Some(name) => self.0.get(name).cloned().ok_or_else(|| {
                let (name, known) = (name.to_owned(), self.names());
                SecretError::Unknown { arn, name, known }
            }),
            None if self.0.len() > 1 => Err(SecretError::Several { arn, known: self.names() }),
            None => self.0.values().next().cloned().ok_or(SecretError::Invalid(arn)),
        }
    }
}

/// The secret, as it was last read.
#[derive(Debug)]
pub struct Secret {
    client: Client,
    arn: String,
    keys: Mutex<Option<Arc<Keys>>>,
}

impl Secret {
    /// Reads nothing yet.
    #[must_use]
    pub fn new(client: Client, arn: &str) -> Self {
        Self { client, arn: arn.to_owned(), keys: Mutex::default() }
    }

    /// The key of this name, or the only one.
    pub async fn key(&self, name: Option<&str>) -> Result<ApiKey, SecretError> {
        let mut kept = self.keys.lock().await;
        let keys = match &*kept {
            Some(keys) => keys.clone(),
            None => kept.insert(Arc::new(self.read().await?)).clone(),
        };
        keys.get(&self.arn, name)
    }

    /// Another key in place of one that was refused, if the secret has one now.
    pub async fn instead(&self, refused: &ApiKey, name: Option<&str>) -> Result<Option<ApiKey>, SecretError> {
        let keys = Arc::new(self.read().await?);
        *self.keys.lock().await = Some(keys.clone());
        Ok(Some(keys.get(&self.arn, name)?).filter(|key| key != refused))
    }

    async fn read(&self) -> Result<Keys, SecretError> {
        let answer = self.client.get_secret_value().secret_id(&self.arn).send().await;
        let answer = answer.map_err(|error| SecretError::Unreadable { arn: self.arn.clone(), cause: cause(&error) })?;
        answer.secret_string().and_then(Keys::parse).ok_or_else(|| SecretError::Invalid(self.arn.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_key_or_keys_by_name() {
        let one = Keys::parse(" abc123\n").unwrap();
        assert_eq!(one.get("arn", None).unwrap().text(), "abc123");
        assert!(one.get("arn", Some("public")).unwrap_err().to_string().ends_with("it has only one, without a name"));
        let named = Keys::parse(r#"{"public": "p", "controlled": "c"}"#).unwrap();
        assert_eq!(named.get("arn", Some("public")).unwrap().text(), "p");
        assert!(named.get("arn", None).unwrap_err().to_string().contains("has the keys controlled, public; name one"));
        assert!(
            named.get("arn", Some("x")).unwrap_err().to_string().ends_with("no key \"x\"; it has controlled, public")
        );
        assert_eq!(Keys::parse(r#"{"public": "p"}"#).unwrap().get("arn", None).unwrap().text(), "p");
        for wrong in ["", "{}", "{\"a\": 1}", "{\"a\": \"\"}", "two words", "{"] {
            assert_eq!(Keys::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        assert!(!format!("{:?}", Keys::parse("abc123")).contains("abc123"));
    }
}
