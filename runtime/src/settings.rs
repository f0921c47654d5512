//! Settings from environment variables, with a sentence for every mistake.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// Why a function cannot start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// A required variable is not there.
    #[error("environment variable {name} is not set; {why}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// A variable has a value that means nothing here.
    #[error("environment variable {name} is {value:?}; it must be {expected}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
}

/// Knows a variable's value.
pub trait Lookup: Fn(&'static str) -> Option<String> {}

impl<F: Fn(&'static str) -> Option<String>> Lookup for F {}

/// The environment, or what a test gives instead. An empty value counts as unset.
#[derive(Debug, Clone, Copy)]
pub struct Settings<F>(F);

/// The process's environment.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub fn environment() -> Settings<impl Lookup> {
    Settings(|name| std::env::var(name).ok())
}

impl<F: Lookup> Settings<F> {
    /// Settings from `lookup`.
    pub const fn new(lookup: F) -> Self {
        Self(lookup)
    }

    /// The variable's value.
    pub fn optional(&self, name: &'static str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The variable's value. `why` ends the sentence that is the error.
    pub fn required(&self, name: &'static str, why: &'static str) -> Result<String, SettingError> {
        self.optional(name).ok_or(SettingError::Missing { name, why })
    }

    /// A whole number.
    pub fn number<T>(&self, name: &'static str, default: T, range: RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let Some(value) = self.optional(name) else { return Ok(default) };
        match value.parse() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                Err(SettingError::Invalid { name, value, expected })
            }
        }
    }
}
