//! What is known about the columns of an object before it is read.

use serde::Deserialize;
use shared::column_type::ColumnType;
use thiserror::Error;

/// Columns in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declaration {
    /// The columns.
    pub columns: Vec<Declared>,
    /// Names of the columns of the primary key, in its order.
    pub primary_key: Vec<String>,
    /// How many records the object should hold.
    pub records: Option<u64>,
    /// Columns whose type no Parquet type represents, and which are text instead.
    pub as_text: Vec<AsText>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its name.
    pub name: String,
    /// Its type.
    pub column_type: ColumnType,
}

/// A column that is text because of its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsText {
    /// The column.
    pub column: String,
    /// The type that it was declared with.
    pub declared: String,
}

/// Why a declaration cannot be used.
#[derive(Debug, Error)]
pub enum DeclarationError {
    /// The text is no JSON, or a member is missing or has another type.
    #[error("{what} is unusable")]
    Json {
        /// The `.dfm` or the declaration.
        what: &'static str,
        /// What is wrong, and where.
        #[source]
        source: serde_json::Error,
    },
    /// A name occurs twice.
    #[error("column {0:?} is declared twice")]
    Duplicate(String),
    /// A column has no name.
    #[error("the column at position {0} has no name")]
    NoName(usize),
    /// A type has a name that is unknown.
    #[error("column {column:?} has the unknown type {declared:?}")]
    UnknownType {
        /// The column.
        column: String,
        /// Its type.
        declared: String,
    },
    /// A character of the dialect cannot be used.
    #[error("{option} {value:?} of the dialect {problem}")]
    Dialect {
        /// The name of the option.
        option: &'static str,
        /// Its value.
        value: String,
        /// Why it cannot be used.
        problem: &'static str,
    },
}

#[derive(Deserialize)]
struct Member {
    name: String,
    #[serde(rename = "type")]
    column_type: String,
}

impl Declaration {
    /// Reads `[{"name": "id", "type": "bigint"}, …]`.
    pub fn parse(json: &[u8]) -> Result<Self, DeclarationError> {
        let what = "the declaration of the columns";
        let members: Vec<Member> =
            serde_json::from_slice(json).map_err(|source| DeclarationError::Json { what, source })?;
        let columns = members.into_iter().map(Declared::try_from).collect::<Result<_, _>>()?;
        Self { columns, ..Self::default() }.checked()
    }

    /// Refuses names that are empty or occur twice.
    pub(super) fn checked(self) -> Result<Self, DeclarationError> {
        for (position, column) in self.columns.iter().enumerate() {
            if column.name.is_empty() {
                return Err(DeclarationError::NoName(position + 1));
            }
            if self.columns.iter().take(position).any(|before| before.name == column.name) {
                return Err(DeclarationError::Duplicate(column.name.clone()));
            }
        }
        Ok(self)
    }
}

impl TryFrom<Member> for Declared {
    type Error = DeclarationError;

    fn try_from(Member { name, column_type }: Member) -> Result<Self, DeclarationError> {
        match column_type.parse() {
            Ok(column_type) => Ok(Self { name, column_type }),
            Err(_) => Err(DeclarationError::UnknownType { column: name, declared: column_type }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_names_columns_and_types() {
        let read = Declaration::parse(
            br#"[{"name":"id","type":"bigint","comment":"ignored"},{"name":"at","type":"DATETIME"}]"#,
        );
        let columns = read.unwrap().columns;
        assert_eq!(
            columns[0],
            Declared { name: "id".to_owned(), column_type: ColumnType::Integer { bytes: 8, signed: true } }
        );
        assert_eq!(columns[1].column_type, ColumnType::Timestamp);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, said) in [
            (r#"[{"name":"id","type":"serial"}]"#, r#"column "id" has the unknown type "serial""#),
            (r#"[{"name":"id","type":"int4"},{"name":"id","type":"int4"}]"#, r#"column "id" is declared twice"#),
            (r#"[{"name":"id","type":"int4"},{"name":"","type":"int4"}]"#, "the column at position 2 has no name"),
            (r#"[{"name":"id"}]"#, "the declaration of the columns is unusable"),
        ] {
            assert_eq!(Declaration::parse(json.as_bytes()).unwrap_err().to_string(), said);
        }
    }
}
