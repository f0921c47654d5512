//! What is to be done with an object.

use super::{declaration::Declaration, dfm::Dfm, dialect::Dialect};

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What it holds.
    pub kind: Kind,
    /// Whether it is compressed with gzip.
    pub gzip: bool,
}

/// What an object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Comma-separated values, or another [`Dialect`].
    Csv,
    /// One JSON value a line.
    Json,
}

impl Format {
    /// The format that the end of an object's key names: `.csv`, `.csv.gz`, `.json` or `.json.gz`, in upper or lower case.
    #[must_use]
    pub fn of_key(key: &str) -> Option<Self> {
        let key = key.to_ascii_lowercase();
        let (name, gzip) = key.strip_suffix(".gz").map_or((&*key, false), |name| (name, true));
        let kind = match name.rsplit_once('.')?.1 {
            "csv" => Kind::Csv,
            "json" => Kind::Json,
            _ => return None,
        };
        Some(Self { kind, gzip })
    }
}

/// What happens to a value that does not fit the type of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMisfit {
    /// Its record goes to the quarantine.
    #[default]
    Quarantine,
    /// The conversion fails.
    Fail,
    /// It becomes null. A record that cannot be read as a whole goes to the quarantine.
    Null,
}

/// What limits memory and the size of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// A part is ended before it would exceed so many bytes of Parquet, unless it has a single row group.
    pub part_bytes: u64,
    /// A row group ends when its columns have so many bytes before they are encoded, or 1 GiB.
    pub row_group_bytes: usize,
    /// A row group ends when it has so many rows.
    pub row_group_rows: usize,
    /// A longer record goes to the quarantine.
    pub record_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { part_bytes: 256 << 20, row_group_bytes: 32 << 20, row_group_rows: 1 << 20, record_bytes: 16 << 20 }
    }
}

/// What is to be done with an object.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How it is written.
    pub format: Format,
    /// How it separates fields, if it is CSV.
    pub dialect: Dialect,
    /// Its columns; `None` to take what is there as text.
    pub columns: Option<Declaration>,
    /// What happens to values that do not fit.
    pub on_misfit: OnMisfit,
    /// Whether it is a file of changes (`__ct`), whose first columns say what happened to a row.
    pub changes: bool,
    /// What limits memory and the size of parts.
    pub limits: Limits,
    /// The compression level of pages, 1 to 22.
    pub zstd_level: i32,
    /// Keys and values in the footer of each part.
    pub footer: Vec<(String, String)>,
}

impl Plan {
    /// A plan with the defaults.
    #[must_use]
    pub fn new(format: Format) -> Self {
        Self {
            format,
            dialect: Dialect::default(),
            columns: None,
            on_misfit: OnMisfit::default(),
            changes: false,
            limits: Limits::default(),
            zstd_level: 1,
            footer: Vec::new(),
        }
    }

    /// With the dialect and the columns that a `.dfm` names.
    #[must_use]
    pub fn with_dfm(self, dfm: Dfm) -> Self {
        Self { dialect: dfm.dialect, columns: Some(dfm.declaration), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_key_names_the_format() {
        let of = |key| Format::of_key(key).map(|format| (format.kind, format.gzip));
        assert_eq!(of("cubic/ods_qlik/EDW.SAMPLE/LOAD1.csv.gz"), Some((Kind::Csv, true)));
        assert_eq!(of("a/LOAD1.CSV"), Some((Kind::Csv, false)));
        assert_eq!(of("a/b.json.GZ"), Some((Kind::Json, true)));
        assert_eq!(of("a/b.json"), Some((Kind::Json, false)));
        for key in ["a/b.parquet", "a/b.gz", "csv", "a/b.csv.zip", ""] {
            assert_eq!(of(key), None, "{key}");
        }
    }
}
