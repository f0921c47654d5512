//! Settings from environment variables. Every error names the variable and says what it must be.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// Why a setting cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// A required variable is not set.
    #[error("environment variable {name} is not set; {why}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// What it is for: the end of the error message.
        why: &'static str,
    },
    /// A variable has a value that is not allowed.
    #[error("environment variable {name} is {value:?}; it must be {expected}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
        /// The values that are allowed.
        expected: String,
    },
}

/// A function from the name of a variable to its value.
pub trait Lookup: Fn(&'static str) -> Option<String> {}

impl<F: Fn(&'static str) -> Option<String>> Lookup for F {}

/// Settings from the environment, or from a lookup function in tests. An empty value counts as not set.
#[derive(Debug, Clone, Copy)]
pub struct Settings<F>(F);

/// Settings from the environment of this process.
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

    /// The variable's value, if it is set.
    pub fn optional(&self, name: &'static str) -> Option<String> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    /// The variable's value. `why` is the end of the error message, such as `it names the bucket that files go to`.
    pub fn required(&self, name: &'static str, why: &'static str) -> Result<String, SettingError> {
        self.optional(name).ok_or(SettingError::Missing { name, why })
    }

    /// `STACK_NAME`: the stack that this process belongs to.
    pub fn stack(&self) -> String {
        self.optional("STACK_NAME").unwrap_or_else(|| "landfall".to_owned())
    }

    /// A whole number within `range`, or `default` if the variable is not set.
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

    /// The meaning of the variable's value, which must be one of `words`, or `default` if the variable is not set.
    pub fn one_of<T: Copy>(
        &self,
        name: &'static str,
        default: T,
        words: &[(&'static str, T)],
    ) -> Result<T, SettingError> {
        let Some(value) = self.optional(name) else { return Ok(default) };
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == value) {
            return Ok(*meaning);
        }
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        let expected = match quoted.split_last() {
            Some((last, others)) if !others.is_empty() => format!("{} or {last}", others.join(", ")),
            _ => quoted.concat(),
        };
        Err(SettingError::Invalid { name, value, expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stands_for_its_meaning_or_the_error_lists_all_words() {
        let of = |value: &'static str| {
            let settings = Settings::new(move |_| Some(value.to_owned()));
            settings.one_of("SIZE", 2, &[("small", 1), ("medium", 2), ("large", 3)]).map_err(|error| error.to_string())
        };
        assert_eq!((of("large"), of("")), (Ok(3), Ok(2)));
        let error = "environment variable SIZE is \"huge\"; it must be \"small\", \"medium\" or \"large\"";
        assert_eq!(of("huge"), Err(error.to_owned()));
    }
}
