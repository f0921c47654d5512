//! What one object in the bucket is, and whether it holds data.

use jiff::Timestamp;

/// Suffixes of keys whose objects hold data, in lower case only.
const DATA: [&str; 5] = [".csv.gz", ".csv", ".json.gz", ".json", ".parquet"];

/// One version of an object. HEAD and listings report the same values for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Key, decoded.
    pub key: String,
    /// When it was modified: whole seconds.
    pub modified: Timestamp,
    /// Size in bytes.
    pub size: i64,
    /// ETag, without quotes.
    pub e_tag: String,
    /// Version id, if a notification named one.
    pub version: Option<String>,
}

/// Whether the suffix of a key says that its object holds data. Files that accompany data, such as Qlik's `.dfm`, are
/// not loaded.
#[must_use]
pub fn is_data(key: &str) -> bool {
    DATA.iter().any(|suffix| key.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_decides_what_is_data() {
        for key in ["a/1.csv", "a/1.csv.gz", "a/1.json", "a/1.json.gz", "a/1.parquet", ".csv"] {
            assert!(is_data(key), "{key}");
        }
        for key in ["a/1.CSV", "a/1.xlsx", "a/LOAD001.dfm", "a/", "a/csv", "a/1.csv.bz2", ""] {
            assert!(!is_data(key), "{key}");
        }
    }
}
