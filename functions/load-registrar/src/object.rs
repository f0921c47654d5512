//! What one object in the bucket is, and whether it holds data.

use jiff::Timestamp;

/// The suffixes of keys whose objects hold data, such as `.csv.gz`. They are compared without regard to case. Files that
/// accompany data, such as Qlik's `.dfm`, are not loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSuffixes(Vec<String>);

impl DataSuffixes {
    /// The suffixes if nothing else is set.
    pub const DEFAULT: &str = ".csv.gz,.csv,.json.gz,.json,.parquet";

    /// Reads suffixes that are separated by commas. `None` if there is none, or one that does not begin with a dot.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let suffixes: Vec<String> = text.split(',').map(|suffix| suffix.trim().to_ascii_lowercase()).collect();
        let is_suffix = |suffix: &String| {
            suffix.len() > 1
                && suffix.starts_with('.')
                && suffix.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
        };
        suffixes.iter().all(is_suffix).then_some(Self(suffixes))
    }

    /// Whether the suffix of a key says that its object holds data.
    #[must_use]
    pub fn is_data(&self, key: &str) -> bool {
        let ends_with = |suffix: &String| {
            let end = key.len().checked_sub(suffix.len()).and_then(|at| key.as_bytes().get(at..));
            end.is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
        };
        self.0.iter().any(ends_with)
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_decides_what_is_data() {
        let suffixes = DataSuffixes::parse(DataSuffixes::DEFAULT).unwrap();
        for key in [
            "a/1.csv",
            "a/1.csv.gz",
            "a/1.json",
            "a/1.json.gz",
            "a/1.parquet",
            ".csv",
            "a/1.CSV",
            "a/1.Json.GZ",
            "é.CSV",
        ] {
            assert!(suffixes.is_data(key), "{key}");
        }
        for key in ["a/1.xlsx", "a/LOAD001.dfm", "a/", "a/csv", "a/1.csv.bz2", "", "é", "1.csü"] {
            assert!(!suffixes.is_data(key), "{key}");
        }
    }

    #[test]
    fn other_suffixes_can_be_set() {
        let suffixes = DataSuffixes::parse(".AVRO, .orc").unwrap();
        assert!(suffixes.is_data("a/1.avro") && suffixes.is_data("a/1.ORC") && !suffixes.is_data("a/1.csv"));
        for text in ["", "csv", ".csv,", ".", ".csv;.json x", ".csv/"] {
            assert_eq!(DataSuffixes::parse(text), None, "{text:?}");
        }
    }
}
