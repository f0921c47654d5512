//! What the options of `landfall ddl` may be. Each value goes into SQL and into a comment with the command line, so none may
//! hold a character that means something there.

use std::str::FromStr;

use shared::layout::{Day, Segment};

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
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_allowed);
    let has_ends = !text.starts_with('-') && !text.ends_with('-');
    if (3..=63).contains(&text.len()) && has_ends && text.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err(
            "the name of a bucket has 3 to 63 lower-case letters, digits, dots and hyphens, without s3:// and without a folder",
        )
    }
}

/// A prefix of keys, which ends with `/`.
pub(super) fn prefix(text: &str) -> Result<String, &'static str> {
    let prefix = text.strip_suffix('/').unwrap_or(text);
    if prefix.split('/').all(|segment| segment.parse::<Segment>().is_ok()) {
        Ok(format!("{prefix}/"))
    } else {
        Err("write a prefix as events/: folders of letters, digits, dots, _ and -, without a / in front")
    }
}

/// A day on which files may begin. Nothing lands in a day that is decades ahead, so that would be a mistake.
pub(super) fn day(text: &str) -> Result<Day, &'static str> {
    let day = text.replace('-', "/").parse::<Day>().ok();
    day.filter(|day| day.to_string().as_str() < "2100")
        .ok_or("write the first day as 2026/01/01 or 2026-01-01, between 1970 and 2099")
}

pub(super) fn topic_arn(text: &str) -> Result<String, &'static str> {
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| is_of_name(byte) || byte == b'.');
    match parts(text) {
        Some(["sns", region, account, name]) if is_region(region) && is_account(account) && is_name(name) => {
            Ok(text.to_owned())
        }
        _ => Err("this is not the ARN of an SNS topic, such as arn:aws:sns:eu-west-1:111122223333:landfall-landed"),
    }
}

/// The ARN of a role, or of several that assume each other, separated by commas as `IAM_ROLE` wants them.
pub(super) fn role_arn(text: &str) -> Result<String, &'static str> {
    let is_segment =
        |name: &str| !name.is_empty() && name.bytes().all(|byte| is_of_name(byte) || b".+=,@".contains(&byte));
    let is_role = |arn: &str| match parts(arn) {
        Some(["iam", "", account, resource]) => {
            let name = resource.strip_prefix("role/");
            is_account(account) && name.is_some_and(|name| name.split('/').all(is_segment))
        }
        _ => false,
    };
    let mut roles = text.split(",arn:");
    let is_first = roles.next().is_some_and(is_role);
    if is_first && roles.all(|rest| is_role(&format!("arn:{rest}"))) {
        Ok(text.to_owned())
    } else {
        Err("this is not the ARN of an IAM role, such as arn:aws:iam::111122223333:role/load")
    }
}

/// Service, region, account and resource of an ARN in any partition.
fn parts(arn: &str) -> Option<[&str; 4]> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    match parts[..] {
        ["arn", partition, service, region, account, resource] if is_region(partition) => {
            Some([service, region, account, resource])
        }
        _ => None,
    }
}

fn is_region(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

const fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// A name without quotes, such as that of an integration.
pub(super) fn name(text: &str) -> Result<String, &'static str> {
    let is_name = text.starts_with(is_first) && text.chars().all(|next| is_first(next) || next.is_ascii_digit());
    if is_name { Ok(text.to_owned()) } else { Err("a name has letters, digits and _, and does not begin with a digit") }
}
