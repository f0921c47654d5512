//! The function's settings, read from the environment once, in the init phase.
//!
//! Each field's documentation is also its row in the README; a test keeps the two and the template in step.

use runtime::settings::{self, Lookup, SettingError, Settings};

use crate::object::DataSuffixes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `STACK_NAME`: name of the stack, a dimension of the metrics; `landfall` by default.
    pub stack: String,
    /// `INCOMING_BUCKET`: bucket whose objects are registered. Required.
    pub incoming_bucket: String,
    /// `LAKE_BUCKET`: bucket that quarantined records are written to. Required.
    pub lake_bucket: String,
    /// `DATA_SUFFIXES`: suffixes of keys whose objects hold data, separated by commas, in upper or lower case;
    /// [`DataSuffixes::DEFAULT`] by default.
    pub data: DataSuffixes,
    /// `RECONCILE_INVENTORY`: where S3 puts inventories of the bucket, `s3://bucket/prefix/source-bucket/config-id/`. The
    /// scheduled reconciliation then compares the newest one instead of listing the bucket.
    pub inventory: Option<Place>,
    pub retention: Retention,
    pub database: DatabaseConfig,
}

/// How long rows are kept that nothing depends on. 0 keeps them for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// `TRANSITION_DAYS`: days to keep the history of a load after its last change, if it is finished; 400 by default.
    pub transition_days: u16,
    /// `UNREGISTERED_DAYS`: days to keep records of objects that can never become loads; 400 by default.
    pub unregistered_days: u16,
}

/// A bucket and the key of an object or the beginning of keys in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub bucket: String,
    pub key: String,
}

impl Place {
    /// Reads `s3://bucket/key`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (bucket, key) = text.strip_prefix("s3://")?.split_once('/')?;
        let is_bucket = !bucket.is_empty()
            && bucket.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte));
        (is_bucket && !key.is_empty()).then(|| Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

/// How to connect to Postgres.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseConfig {
    pub source: DatabaseSource,
    /// `DATABASE_CA_FILE`: file of additional certificate authorities to trust for the server, as PEM. Those of RDS as of 2022
    /// and of RDS Proxy are built in.
    pub ca_file: Option<String>,
}

/// Where the address and the password come from.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseSource {
    /// `DATABASE_URL`: `postgres://user:password@host:port/name`, with several servers as `host:port,host:port`. TLS, with the
    /// server's name verified, unless the host is this machine or the URL says `sslmode=disable`.
    Url(String),
    /// `DATABASE_SECRET_ARN`: a secret of Secrets Manager with `username` and `password`, as RDS creates it. Always TLS.
    Secret {
        arn: String,
        /// `DATABASE_HOST`: the server; the secret's `host` when absent.
        host: Option<String>,
        /// `DATABASE_PORT`: its port; the secret's `port`, or 5432, when absent.
        port: Option<u16>,
        /// `DATABASE_NAME`: the database; the secret's `dbname`, or `postgres`, when absent.
        name: Option<String>,
    },
    /// `DATABASE_AUTH`: `iam` for IAM database authentication of RDS, with a token in place of a password; `password` by
    /// default. Always TLS.
    Iam {
        /// `DATABASE_HOST`: the server, by the name of its endpoint. Required.
        host: String,
        /// `DATABASE_PORT`: its port; 5432 when absent.
        port: u16,
        /// `DATABASE_USER`: the user, who has the role `rds_iam`. Required.
        user: String,
        /// `DATABASE_NAME`: the database; `postgres` when absent.
        name: String,
    },
}

/// Leaves the password out.
impl std::fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let source = match &self.source {
            DatabaseSource::Url(_) => "url",
            DatabaseSource::Secret { arn, .. } => arn,
            DatabaseSource::Iam { .. } => "iam",
        };
        f.debug_struct("DatabaseConfig").field("source", &source).field("ca_file", &self.ca_file).finish()
    }
}

impl Config {
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_settings(&settings::environment())
    }

    pub fn from_lookup(lookup: impl Fn(&'static str) -> Option<String>) -> Result<Self, SettingError> {
        Self::from_settings(&Settings::new(lookup))
    }

    fn from_settings(settings: &Settings<impl Lookup>) -> Result<Self, SettingError> {
        Ok(Self {
            stack: settings.stack(),
            incoming_bucket: settings
                .required("INCOMING_BUCKET", "it names the bucket whose objects are registered")?,
            lake_bucket: settings.required("LAKE_BUCKET", "it names the bucket that quarantined records go to")?,
            data: data(settings)?,
            inventory: inventory(settings)?,
            retention: Retention {
                transition_days: settings.number("TRANSITION_DAYS", 400, 0..=36_500)?,
                unregistered_days: settings.number("UNREGISTERED_DAYS", 400, 0..=36_500)?,
            },
            database: DatabaseConfig { source: source(settings)?, ca_file: settings.optional("DATABASE_CA_FILE") },
        })
    }
}

fn data(settings: &Settings<impl Lookup>) -> Result<DataSuffixes, SettingError> {
    let value = settings.optional("DATA_SUFFIXES").unwrap_or_else(|| DataSuffixes::DEFAULT.to_owned());
    DataSuffixes::parse(&value).ok_or_else(|| SettingError::Invalid {
        name: "DATA_SUFFIXES",
        value,
        expected: format!("suffixes that begin with a dot, separated by commas, such as {}", DataSuffixes::DEFAULT),
    })
}

fn inventory(settings: &Settings<impl Lookup>) -> Result<Option<Place>, SettingError> {
    let Some(value) = settings.optional("RECONCILE_INVENTORY") else { return Ok(None) };
    let place = Place::parse(&value).filter(|place| place.key.ends_with('/'));
    place.map(Some).ok_or_else(|| SettingError::Invalid {
        name: "RECONCILE_INVENTORY",
        value,
        expected: "like s3://bucket/prefix/source-bucket/config-id/".to_owned(),
    })
}

fn source(settings: &Settings<impl Lookup>) -> Result<DatabaseSource, SettingError> {
    let port: u16 = settings.number("DATABASE_PORT", 0, 0..=u16::MAX)?;
    if settings.one_of("DATABASE_AUTH", false, &[("password", false), ("iam", true)])? {
        for name in ["DATABASE_URL", "DATABASE_SECRET_ARN"] {
            if settings.optional(name).is_some() {
                let expected = "empty when DATABASE_AUTH is iam".to_owned();
                return Err(SettingError::Invalid { name, value: "…".to_owned(), expected });
            }
        }
        return Ok(DatabaseSource::Iam {
            host: settings.required("DATABASE_HOST", "it names the server, for which tokens are signed")?,
            port: if port > 0 { port } else { 5432 },
            user: settings.required("DATABASE_USER", "it names the user, for whom tokens are signed")?,
            name: settings.optional("DATABASE_NAME").unwrap_or_else(|| "postgres".to_owned()),
        });
    }
    match (settings.optional("DATABASE_URL"), settings.optional("DATABASE_SECRET_ARN")) {
        (Some(_), Some(value)) => Err(SettingError::Invalid {
            name: "DATABASE_SECRET_ARN",
            value,
            expected: "empty when DATABASE_URL is set".to_owned(),
        }),
        (Some(url), None) => match url.parse::<tokio_postgres::Config>() {
            Ok(_) => Ok(DatabaseSource::Url(url)),
            // The URL holds a password, so it is not repeated.
            Err(_) => Err(SettingError::Invalid {
                name: "DATABASE_URL",
                value: "…".to_owned(),
                expected: "like postgres://user:password@host:5432/name".to_owned(),
            }),
        },
        (None, Some(arn)) => Ok(DatabaseSource::Secret {
            arn,
            host: settings.optional("DATABASE_HOST"),
            port: (port > 0).then_some(port),
            name: settings.optional("DATABASE_NAME"),
        }),
        (None, None) => Err(SettingError::Missing {
            name: "DATABASE_SECRET_ARN",
            why: "it names the secret with the credentials of Postgres; or set DATABASE_URL",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(variables: &[(&'static str, &str)]) -> Result<Config, String> {
        let lookup = |name| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Config::from_lookup(lookup).map_err(|error| error.to_string())
    }

    const BUCKETS: [(&str, &str); 2] = [("INCOMING_BUCKET", "incoming"), ("LAKE_BUCKET", "lake")];

    fn with(extra: &[(&'static str, &'static str)]) -> Result<Config, String> {
        config(&extra.iter().chain(&BUCKETS).copied().collect::<Vec<_>>())
    }

    #[test]
    fn a_database_is_a_url_or_a_secret() {
        let url = with(&[("DATABASE_URL", "postgres://me:secret@db:5432/loads")]).unwrap();
        assert!(matches!(url.database.source, DatabaseSource::Url(_)));
        let secret = with(&[("DATABASE_SECRET_ARN", "arn:secret"), ("DATABASE_HOST", "db"), ("DATABASE_PORT", "6432")]);
        let (host, port) = (Some("db".to_owned()), Some(6432));
        let expected = DatabaseSource::Secret { arn: "arn:secret".to_owned(), host, port, name: None };
        assert!(secret.unwrap().database.source == expected);
    }

    #[test]
    fn with_iam_a_token_takes_the_place_of_the_secret() {
        let iam = with(&[("DATABASE_AUTH", "iam"), ("DATABASE_HOST", "db"), ("DATABASE_USER", "landfall")]).unwrap();
        let (host, user, name) = ("db".to_owned(), "landfall".to_owned(), "postgres".to_owned());
        assert!(iam.database.source == DatabaseSource::Iam { host, port: 5432, user, name });
        for (variables, says) in [
            (&[("DATABASE_AUTH", "iam"), ("DATABASE_USER", "u")][..], "DATABASE_HOST is not set; it names the server"),
            (&[("DATABASE_AUTH", "iam"), ("DATABASE_HOST", "db")], "DATABASE_USER is not set; it names the user"),
            (
                &[("DATABASE_AUTH", "iam"), ("DATABASE_SECRET_ARN", "arn:secret")],
                "DATABASE_SECRET_ARN is \"…\"; it must be empty when DATABASE_AUTH is iam",
            ),
            (&[("DATABASE_AUTH", "kerberos")], "DATABASE_AUTH is \"kerberos\"; it must be \"password\" or \"iam\""),
        ] {
            let error = with(variables).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn every_mistake_is_a_sentence_that_names_the_variable() {
        for (variables, sentence) in [
            (
                &[("INCOMING_BUCKET", "")][..],
                "environment variable INCOMING_BUCKET is not set; it names the bucket whose objects are registered",
            ),
            (
                &[("LAKE_BUCKET", "")],
                "environment variable LAKE_BUCKET is not set; it names the bucket that quarantined records go to",
            ),
            (
                &[],
                "environment variable DATABASE_SECRET_ARN is not set; it names the secret with the credentials of \
                 Postgres; or set DATABASE_URL",
            ),
            (
                &[("DATABASE_URL", "postgres://db/loads"), ("DATABASE_SECRET_ARN", "arn:secret")],
                "environment variable DATABASE_SECRET_ARN is \"arn:secret\"; it must be empty when DATABASE_URL is set",
            ),
            (
                &[("DATABASE_URL", "mysql://me:secret@db/loads")],
                "environment variable DATABASE_URL is \"…\"; it must be like postgres://user:password@host:5432/name",
            ),
            (
                &[("DATABASE_URL", "postgres://db/loads"), ("DATA_SUFFIXES", "csv")],
                "environment variable DATA_SUFFIXES is \"csv\"; it must be suffixes that begin with a dot, separated by \
                 commas, such as .csv.gz,.csv,.json.gz,.json,.parquet",
            ),
            (
                &[("DATABASE_URL", "postgres://db/loads"), ("RECONCILE_INVENTORY", "s3://bucket/manifest.json")],
                "environment variable RECONCILE_INVENTORY is \"s3://bucket/manifest.json\"; it must be like \
                 s3://bucket/prefix/source-bucket/config-id/",
            ),
            (
                &[("DATABASE_PORT", "70000")],
                "environment variable DATABASE_PORT is \"70000\"; it must be a whole number from 0 to 65535",
            ),
        ] {
            assert_eq!(with(variables).unwrap_err(), sentence);
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let config = with(&[("DATABASE_URL", "postgres://me:secret@db:5432/loads")]).unwrap();
        assert!(!format!("{config:?}").contains("secret@"));
    }
}
