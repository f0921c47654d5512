//! The `.dfm` that Qlik Replicate writes beside each file: JSON with the dialect, the columns and the number of records.

use serde::Deserialize;
use shared::column_type::ColumnType;

use super::{
    declaration::{AsText, Declaration, DeclarationError, Declared},
    dialect::Dialect,
};

/// What a `.dfm` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dfm {
    /// How the file is written.
    pub dialect: Dialect,
    /// What is in it.
    pub declaration: Declaration,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    format_info: Option<FormatInfo>,
    data_info: DataInfo,
    file_info: Option<FileInfo>,
}

#[derive(Deserialize)]
struct FormatInfo {
    options: Option<Options>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Options {
    record_delimiter: Option<String>,
    field_delimiter: Option<String>,
    null_value: Option<String>,
    quote_char: Option<String>,
    escape_char: Option<String>,
}

#[derive(Deserialize)]
struct DataInfo {
    columns: Vec<Column>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Column {
    ordinal: i64,
    name: String,
    #[serde(rename = "type")]
    column_type: String,
    #[serde(default)]
    precision: i64,
    #[serde(default)]
    scale: i64,
    #[serde(default)]
    primary_key_pos: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FileInfo {
    record_count: Option<i64>,
}

impl Dfm {
    /// Reads a `.dfm`. Members that nothing here needs are ignored.
    pub fn parse(json: &[u8]) -> Result<Self, DeclarationError> {
        let file: File =
            serde_json::from_slice(json).map_err(|source| DeclarationError::Json { what: "the .dfm", source })?;
        let options = file.format_info.and_then(|format| format.options);
        let count = file.file_info.and_then(|info| info.record_count);
        let mut declaration = declaration(file.data_info.columns).checked()?;
        declaration.records = count.and_then(|count| u64::try_from(count).ok());
        Ok(Self { dialect: options.map_or_else(|| Ok(Dialect::default()), dialect)?, declaration })
    }
}

fn declaration(mut columns: Vec<Column>) -> Declaration {
    columns.sort_by_key(|column| column.ordinal);
    let mut declaration = Declaration::default();
    for column in &columns {
        let column_type = column.column_type().unwrap_or_else(|| {
            let (column, declared) = (column.name.clone(), column.declared());
            declaration.as_text.push(AsText { column, declared });
            ColumnType::Text
        });
        declaration.columns.push(Declared { name: column.name.clone(), column_type });
    }
    columns.retain(|column| column.primary_key_pos > 0);
    columns.sort_by_key(|column| column.primary_key_pos);
    declaration.primary_key = columns.into_iter().map(|column| column.name).collect();
    declaration
}

impl Column {
    fn is_numeric(&self) -> bool {
        self.column_type.eq_ignore_ascii_case("numeric")
    }

    fn column_type(&self) -> Option<ColumnType> {
        if self.is_numeric() {
            ColumnType::decimal(self.precision, self.scale)
        } else {
            ColumnType::of_name(&self.column_type)
        }
    }

    fn declared(&self) -> String {
        if self.is_numeric() {
            format!("{}({},{})", self.column_type, self.precision, self.scale)
        } else {
            self.column_type.clone()
        }
    }
}

fn dialect(options: Options) -> Result<Dialect, DeclarationError> {
    let default = Dialect::default();
    let dialect = Dialect {
        delimiter: character("fieldDelimiter", options.field_delimiter)?.unwrap_or(default.delimiter),
        quote: match options.quote_char {
            None => default.quote,
            given => character("quoteChar", given)?,
        },
        escape: character("escapeChar", options.escape_char)?,
        terminator: terminator(options.record_delimiter)?,
        null: options.null_value.unwrap_or_default(),
        header: true,
    };
    dialect.checked()
}

/// The byte of an option; `None` if it is missing or empty.
fn character(option: &'static str, value: Option<String>) -> Result<Option<u8>, DeclarationError> {
    match value.as_deref().map(str::as_bytes) {
        None | Some([]) => Ok(None),
        Some([byte]) => Ok(Some(*byte)),
        Some(_) => {
            let problem = "is more than one character";
            Err(DeclarationError::Dialect { option, value: value.unwrap_or_default(), problem })
        }
    }
}

fn terminator(value: Option<String>) -> Result<u8, DeclarationError> {
    if value.as_deref() == Some("\r\n") {
        return Ok(b'\n');
    }
    Ok(character("recordDelimiter", value)?.unwrap_or(b'\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = include_bytes!("../../testdata/EDW.SAMPLE/LOAD00000001.dfm");

    #[test]
    fn a_dfm_names_dialect_columns_key_and_records() {
        let Dfm { dialect, declaration } = Dfm::parse(SAMPLE).unwrap();
        assert_eq!(dialect, Dialect::default());
        assert_eq!(declaration.columns[0].column_type, ColumnType::Integer { bytes: 8, signed: true });
        assert_eq!(declaration.primary_key, ["SAMPLE_ID"]);
        assert_eq!(declaration.records, Some(6));
        assert_eq!(declaration.as_text, []);
    }

    fn parse(columns: &str, options: &str) -> Result<Dfm, String> {
        let json = format!(r#"{{"formatInfo":{{"options":{{{options}}}}},"dataInfo":{{"columns":[{columns}]}}}}"#);
        Dfm::parse(json.as_bytes()).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_are_in_the_order_of_their_ordinals() {
        let dfm = parse(
            r#"{"ordinal":2,"name":"b","type":"STRING"},{"ordinal":1,"name":"a","type":"NUMERIC","precision":9,"scale":2}"#,
            "",
        );
        let columns = dfm.unwrap().declaration.columns;
        assert_eq!(columns.iter().map(|column| &*column.name).collect::<String>(), "ab");
        assert_eq!(columns[0].column_type, ColumnType::Decimal { precision: 9, scale: 2 });
    }

    #[test]
    fn a_type_without_a_counterpart_is_text_and_noted() {
        let columns = r#"{"ordinal":1,"name":"n","type":"NUMERIC","precision":39,"scale":0},{"ordinal":2,"name":"g","type":"GEO"}"#;
        let declaration = parse(columns, "").unwrap().declaration;
        assert!(declaration.columns.iter().all(|column| column.column_type == ColumnType::Text));
        assert_eq!(declaration.as_text[0].declared, "NUMERIC(39,0)");
        assert_eq!(declaration.as_text[1], AsText { column: "g".to_owned(), declared: "GEO".to_owned() });
    }

    #[test]
    fn options_are_single_characters_with_one_meaning() {
        let options =
            r#""fieldDelimiter":"\t","quoteChar":"","escapeChar":"\\","recordDelimiter":"\r\n","nullValue":"NULL""#;
        let expected = Dialect {
            delimiter: b'\t',
            quote: None,
            escape: Some(b'\\'),
            null: "NULL".to_owned(),
            ..Dialect::default()
        };
        assert_eq!(parse("", options).map(|dfm| dfm.dialect), Ok(expected));
        let refused = |options| parse("", options).unwrap_err();
        assert_eq!(
            refused(r#""fieldDelimiter":"||""#),
            "fieldDelimiter \"||\" of the dialect is more than one character"
        );
        assert_eq!(
            refused(r#""fieldDelimiter":"\"""#),
            "fieldDelimiter \"\\\"\" of the dialect has another meaning too"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = Dfm::parse(br#"{"dataInfo":{"columns":[{"ordinal":1,"type":"INT4"}]}}"#).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.starts_with("missing field `name` at line 1"), "{source}");
    }
}
