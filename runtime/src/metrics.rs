//! Metrics are printed to standard output, from where CloudWatch Logs extracts them.

use std::io::Write;

use shared::metrics::Metrics;

use crate::clock;

/// Prints one line per group of metrics.
pub fn print(metrics: impl IntoIterator<Item = Metrics>) {
    let now = clock::unix_ms();
    let mut lines = String::new();
    for metrics in metrics {
        lines.push_str(&metrics.to_line(now));
        lines.push('\n');
    }
    if !lines.is_empty()
        && let Err(cause) = std::io::stdout().write_all(lines.as_bytes())
    {
        tracing::warn!(%cause, "metrics could not be printed");
    }
}
