//! CloudWatch metrics in the embedded metric format: JSON lines on standard output instead of API calls.
//!
//! Source: "Specification: Embedded metric format", Amazon CloudWatch user guide. The caller supplies the time and prints
//! the line.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, json};

/// The CloudWatch namespace of every metric.
const NAMESPACE: &str = "Landfall";

/// Unit of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of items.
    Count,
    /// A size in bytes.
    Bytes,
    /// A duration in seconds.
    Seconds,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Count => "Count",
            Self::Bytes => "Bytes",
            Self::Seconds => "Seconds",
        }
    }
}

/// The value of a metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Value(f64);

impl From<i64> for Value {
    #[expect(clippy::cast_precision_loss, reason = "metrics are doubles, and our numbers are far below 2^53")]
    fn from(number: i64) -> Self {
        Self(number as f64)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::from(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::from(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// Seconds.
impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Self(duration.as_secs_f64())
    }
}

/// Number of items by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CountsByReason(BTreeMap<String, usize>);

impl CountsByReason {
    /// Counts one item.
    pub fn add(&mut self, reason: &str) {
        match self.0.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(reason.to_owned(), 1)),
        }
    }

    /// Adds other counts.
    pub fn append(&mut self, other: Self) {
        for (reason, count) in other.0 {
            *self.0.entry(reason).or_default() += count;
        }
    }

    /// Number of items, whatever the reason.
    #[must_use]
    pub fn total(&self) -> usize {
        self.0.values().sum()
    }

    /// The counts as a metric of `function` in `stack`, by `reason`.
    pub fn metrics(&self, stack: &str, function: &str, name: &'static str) -> impl Iterator<Item = Metrics> {
        let of = move |(reason, count): (&String, &usize)| {
            Metrics::of(stack, function).by_reason(reason).put(name, Unit::Count, *count)
        };
        self.0.iter().map(of)
    }
}

/// Metrics of a function in a stack, so that two stacks in an account have series of their own. Those by reason are series
/// of the function, which alarms watch, and of each reason.
#[derive(Debug, Clone)]
pub struct Metrics {
    stack: String,
    function: String,
    reason: Option<String>,
    values: Vec<(&'static str, Unit, f64)>,
}

impl Metrics {
    /// Metrics of one function.
    #[must_use]
    pub fn of(stack: &str, function: &str) -> Self {
        Self { stack: stack.to_owned(), function: function.to_owned(), reason: None, values: Vec::new() }
    }

    /// The same for one reason, such as why records were quarantined.
    #[must_use]
    pub fn by_reason(self, reason: &str) -> Self {
        Self { reason: Some(reason.to_owned()), ..self }
    }

    /// Adds a value: a count, a size or a duration.
    #[must_use]
    pub fn put(mut self, name: &'static str, unit: Unit, value: impl Into<Value>) -> Self {
        self.values.push((name, unit, value.into().0));
        self
    }

    /// Removes the values that are 0; `None` if all are.
    #[must_use]
    pub fn without_zeros(mut self) -> Option<Self> {
        self.values.retain(|(_, _, value)| *value != 0.0);
        (!self.values.is_empty()).then_some(self)
    }

    /// The line to print, without a newline.
    #[must_use]
    pub fn to_line(&self, unix_ms: i64) -> String {
        let definitions: Vec<serde_json::Value> =
            self.values.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit.name()})).collect();
        let mut dimensions = vec![vec!["stack", "function"]];
        let mut line = Map::new();
        line.insert("stack".into(), json!(self.stack));
        line.insert("function".into(), json!(self.function));
        if let Some(reason) = &self.reason {
            dimensions.push(vec!["stack", "function", "reason"]);
            line.insert("reason".into(), json!(reason));
        }
        line.insert(
            "_aws".into(),
            json!({
                "Timestamp": unix_ms,
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": dimensions, "Metrics": definitions}],
            }),
        );
        line.extend(self.values.iter().map(|(name, _, value)| ((*name).to_owned(), json!(value))));
        serde_json::Value::Object(line).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_shape_that_cloudwatch_extracts() {
        let line = Metrics::of("landfall", "parquet-writer")
            .by_reason("invalid_base64")
            .put("records_quarantined", Unit::Count, 2_usize)
            .to_line(1_795_183_906_123);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line,
            json!({
                "_aws": {
                    "Timestamp": 1_795_183_906_123_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "Landfall",
                        "Dimensions": [["stack", "function"], ["stack", "function", "reason"]],
                        "Metrics": [{"Name": "records_quarantined", "Unit": "Count"}],
                    }],
                },
                "stack": "landfall",
                "function": "parquet-writer",
                "reason": "invalid_base64",
                "records_quarantined": 2.0,
            })
        );
    }

    #[test]
    fn zeros_can_be_left_out() {
        let none = Metrics::of("landfall", "collect").put("hits_stored", Unit::Count, 0_usize);
        assert!(none.clone().without_zeros().is_none());
        let line = none.put("hits_invalid", Unit::Count, 1_usize).without_zeros().unwrap().to_line(0);
        assert!(line.contains("hits_invalid") && !line.contains("hits_stored"), "{line}");
    }
}
