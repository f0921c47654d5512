//! CloudWatch metrics in the embedded metric format: one JSON line on standard output, no API call.
//!
//! Source: "Specification: Embedded metric format", Amazon CloudWatch user guide. Pure: the caller brings the time and
//! writes the line.

use serde_json::{Map, Value, json};

/// The CloudWatch namespace of every metric.
pub const NAMESPACE: &str = "Landfall";

/// Unit of a metric, as CloudWatch spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number of things.
    Count,
    /// A size.
    Bytes,
    /// A duration.
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

/// One group of metrics that share their dimensions.
#[derive(Debug, Clone)]
pub struct Metrics {
    dimensions: Vec<(&'static str, String)>,
    values: Vec<(&'static str, Unit, f64)>,
}

impl Metrics {
    /// Metrics of one function.
    #[must_use]
    pub fn of(function: &str) -> Self {
        Self { dimensions: vec![("function", function.to_owned())], values: Vec::new() }
    }

    /// Adds a dimension, such as the reason of a quarantine.
    #[must_use]
    pub fn by(mut self, dimension: &'static str, value: &str) -> Self {
        self.dimensions.push((dimension, value.to_owned()));
        self
    }

    /// Adds a value.
    #[must_use]
    pub fn put(mut self, name: &'static str, unit: Unit, value: f64) -> Self {
        self.values.push((name, unit, value));
        self
    }

    /// Without the values that are 0; `None` when all are.
    #[must_use]
    pub fn without_zeros(mut self) -> Option<Self> {
        self.values.retain(|(_, _, value)| *value != 0.0);
        (!self.values.is_empty()).then_some(self)
    }

    /// The line to print, without a newline.
    #[must_use]
    pub fn to_line(&self, unix_ms: i64) -> String {
        let definitions: Vec<Value> =
            self.values.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit.name()})).collect();
        let dimensions: Vec<&str> = self.dimensions.iter().map(|(name, _)| *name).collect();
        let mut line = Map::new();
        line.insert(
            "_aws".into(),
            json!({
                "Timestamp": unix_ms,
                "CloudWatchMetrics": [{"Namespace": NAMESPACE, "Dimensions": [dimensions], "Metrics": definitions}],
            }),
        );
        line.extend(self.dimensions.iter().map(|(name, value)| ((*name).to_owned(), json!(value))));
        line.extend(self.values.iter().map(|(name, _, value)| ((*name).to_owned(), json!(value))));
        Value::Object(line).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_shape_that_cloudwatch_extracts() {
        let line = Metrics::of("parquet-writer")
            .by("reason", "invalid_base64")
            .put("records_quarantined", Unit::Count, 2.0)
            .to_line(1_795_183_906_123);
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line,
            json!({
                "_aws": {
                    "Timestamp": 1_795_183_906_123_i64,
                    "CloudWatchMetrics": [{
                        "Namespace": "Landfall",
                        "Dimensions": [["function", "reason"]],
                        "Metrics": [{"Name": "records_quarantined", "Unit": "Count"}],
                    }],
                },
                "function": "parquet-writer",
                "reason": "invalid_base64",
                "records_quarantined": 2.0,
            })
        );
    }

    #[test]
    fn what_did_not_happen_can_be_left_out() {
        let none = Metrics::of("collect").put("hits_stored", Unit::Count, 0.0);
        assert!(none.clone().without_zeros().is_none());
        let line = none.put("hits_invalid", Unit::Count, 1.0).without_zeros().unwrap().to_line(0);
        assert!(line.contains("hits_invalid") && !line.contains("hits_stored"), "{line}");
    }
}
