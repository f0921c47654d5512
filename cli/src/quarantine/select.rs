//! Which quarantined records a command is about.

use clap::Args;

use crate::{
    replay::plan::{Selection, UNREADABLE},
    when::Times,
};

/// What quarantines records, and for which reasons: the functions, and the consumer.
pub const FUNCTIONS: [(&str, &[&str]); 6] = [
    ("parquet-writer", &["empty_body", "invalid_base64", "invalid_protobuf", "invalid_sent_timestamp", "missing_type"]),
    (
        "kafka-roller",
        &["empty_record", "invalid_aggregate", "invalid_base64", "invalid_json", "invalid_table", "missing_table"],
    ),
    (
        "load-registrar",
        &[
            "foreign_bucket",
            "invalid_key",
            "invalid_record",
            "key_too_long",
            "nested_too_deep",
            "unknown_envelope",
            "unsupported_version",
        ],
    ),
    (
        "load-ingester",
        &[
            "invalid_utf8",
            "not_a_boolean",
            "not_a_date",
            "not_a_decimal",
            "not_a_number",
            "not_a_time",
            "not_a_timestamp",
            "not_an_integer",
            "not_an_object",
            "not_json",
            "out_of_range",
            "too_few_fields",
            "too_long",
            "too_many_decimals",
            "too_many_fields",
            "unclosed_quote",
        ],
    ),
    ("dmap-fetch", &["duplicate_dataset", "invalid_id", "invalid_result", "invalid_time", "invalid_url"]),
    ("consumer", &["empty_body", "forbidden_characters", "refused_by_sqs", "too_large", "too_many_deliveries"]),
];

/// Those of them whose records can be sent again. What the others quarantine was part of an object, or of an answer.
pub const REPLAYED: [&str; 4] = ["parquet-writer", "kafka-roller", "load-registrar", "consumer"];

/// The options of every command about quarantined records.
#[derive(Debug, Args)]
pub struct SelectArgs {
    /// Bucket that holds the quarantine, if it is not the lake of the stack.
    #[arg(long)]
    pub bucket: Option<String>,
    #[command(flatten)]
    pub times: Times,
    /// Only records that were quarantined for this reason; may be given several times.
    #[arg(long)]
    pub reason: Vec<String>,
    /// Only the record with this id; may be given several times.
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
    /// At most N records, the oldest first.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

impl SelectArgs {
    /// The selection, or why there is none. Without a function, the reasons of all functions are known.
    pub fn selection(&self, function: Option<&str>) -> Result<Selection, String> {
        let (since, until) = self.times.range()?;
        let functions = FUNCTIONS.iter().filter(|(name, _)| function.is_none_or(|function| function == *name));
        let mut known: Vec<&str> = functions.flat_map(|(_, reasons)| *reasons).copied().collect();
        known.sort_unstable();
        known.dedup();
        let is_known = |reason: &str| reason == UNREADABLE || known.contains(&reason);
        if let Some(unknown) = self.reason.iter().find(|reason| !is_known(reason)) {
            let known = known.join(", ");
            return Err(match function {
                Some(function) => format!(
                    "{function} quarantines nothing for the reason {unknown:?}; its reasons are {known}, and {UNREADABLE} for damaged lines"
                ),
                None => {
                    format!("there is no reason {unknown:?}; there are {known}, and {UNREADABLE} for damaged lines")
                }
            });
        }
        let (reasons, ids) = (self.reason.clone(), self.id.clone());
        Ok(Selection { since, until, reasons, ids, limit: self.limit })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::CONSUMER;

    #[test]
    fn the_known_reasons_are_those_of_the_functions_readmes() {
        for (function, reasons) in FUNCTIONS {
            let folder = if function == CONSUMER { function.to_owned() } else { format!("functions/{function}") };
            let path = format!("{}/../{folder}/README.md", env!("CARGO_MANIFEST_DIR"));
            let readme = std::fs::read_to_string(path).unwrap();
            let (_, table) = readme.split_once("\n| reason |").unwrap();
            let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
            let mut documented: Vec<&str> =
                rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2)).collect();
            documented.sort_unstable();
            assert_eq!(documented, reasons, "{function}");
        }
    }
}
