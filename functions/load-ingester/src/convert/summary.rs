//! What became of an object.

use shared::column_type::ColumnType;

use super::{declaration::AsText, sink::Part};

/// What became of an object. Each of its records is a row or in the quarantine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Rows in parts.
    pub rows: u64,
    /// Records in the quarantine.
    pub quarantined: u64,
    /// Values that became null because they did not fit.
    pub nulled: u64,
    /// The parts; none if there is no row.
    pub parts: Vec<Part>,
    /// The columns of the parts.
    pub columns: Vec<OutputColumn>,
    /// Declared columns that the object does not have.
    pub missing: Vec<String>,
    /// Columns of the object that are not declared.
    pub added: Vec<String>,
    /// Columns whose name was taken already.
    pub renamed: Vec<Renamed>,
    /// Columns whose type no Parquet type represents.
    pub as_text: Vec<AsText>,
    /// How many records the object should have.
    pub declared_records: Option<u64>,
}

/// A column of the parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumn {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
}

/// A column with another name than in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    /// The name in the object.
    pub from: String,
    /// The name in the parts.
    pub to: String,
}

impl Summary {
    /// The records of the object.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.rows + self.quarantined
    }

    /// The number of records that was declared, if the object has another one.
    #[must_use]
    pub fn record_count_mismatch(&self) -> Option<u64> {
        self.declared_records.filter(|declared| *declared != self.records())
    }
}
