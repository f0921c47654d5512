//! What the options of `landfall ddl` may be. Each value goes into SQL and into a comment with the command line, so none may
//! hold a character that means something there.

use std::str::FromStr;

/// A database and a schema, or one of the two, in which everything is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace(Vec<String>);

impl FromStr for Namespace {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Vec<String> = text.split('.').map(str::to_owned).collect();
        let is_name = |part: &String| {
            part.starts_with(is_first) && part.chars().all(|next| is_first(next) || next.is_ascii_digit())
        };
        if parts.len() <= 2 && parts.iter().all(is_name) {
            Ok(Self(parts))
        } else {
            Err("write a schema as lake, or with its database as analytics.lake: letters, digits and _")
        }
    }
}

impl Namespace {
    /// One part.
    pub fn of(name: &str) -> Self {
        Self(vec![name.to_owned()])
    }

    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The same with something behind the last name.
    pub fn with_suffix(&self, suffix: &str) -> Self {
        let mut parts = self.0.clone();
        if let Some(last) = parts.last_mut() {
            last.push_str(suffix);
        }
        Self(parts)
    }

    /// As it was written.
    pub fn written(&self) -> String {
        self.0.join(".")
    }
}

const fn is_first(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_'
}

/// A name in a namespace, each part as `quoted` writes it.
pub(super) fn qualified(namespace: Option<&Namespace>, name: &str, quoted: impl Fn(&str) -> String) -> String {
    let outer = namespace.into_iter().flat_map(Namespace::parts);
    outer.chain([name]).map(quoted).collect::<Vec<_>>().join(".")
}

pub(super) fn bucket(text: &str) -> Result<String, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    if (3..=63).contains(&text.len()) && text.bytes().all(is_allowed) {
        Ok(text.to_owned())
    } else {
        Err(
            "the name of a bucket has 3 to 63 lower-case letters, digits, dots and hyphens, without s3:// and without a folder",
        )
    }
}

/// A prefix of keys, which ends with `/`.
pub(super) fn prefix(text: &str) -> Result<String, &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/');
    let prefix = text.trim_end_matches('/');
    if !prefix.is_empty() && !prefix.starts_with('/') && prefix.bytes().all(is_allowed) {
        Ok(format!("{prefix}/"))
    } else {
        Err("write a prefix as events/: letters, digits, dots, _, - and /, without a / in front")
    }
}

pub(super) fn topic_arn(text: &str) -> Result<String, &'static str> {
    arn(text, ":sns:")
        .ok_or("this is not the ARN of an SNS topic, such as arn:aws:sns:eu-west-1:111122223333:landfall-landed")
}

pub(super) fn role_arn(text: &str) -> Result<String, &'static str> {
    arn(text, ":iam::").ok_or("this is not the ARN of an IAM role, such as arn:aws:iam::111122223333:role/load")
}

fn arn(text: &str, service: &str) -> Option<String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":/_.+=,@-".contains(&byte);
    let is_arn = text.starts_with("arn:aws") && text.contains(service) && text.bytes().all(is_allowed);
    is_arn.then(|| text.to_owned())
}

/// A name without quotes, such as that of an integration.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    let is_name = text.starts_with(is_first) && text.chars().all(|next| is_first(next) || next.is_ascii_digit());
    if is_name { Ok(text.to_owned()) } else { Err("a name has letters, digits and _, and does not begin with a digit") }
}
