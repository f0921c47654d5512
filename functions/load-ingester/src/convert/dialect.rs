//! How a CSV file separates and quotes its fields.

use super::declaration::DeclarationError;

/// The dialect of a CSV file. The default is that of RFC 4180.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// Between the fields of a record.
    pub delimiter: u8,
    /// Around fields that contain a delimiter, a quote or the end of a line. A quote in such a field is doubled.
    pub quote: Option<u8>,
    /// Takes its meaning from the character behind it.
    pub escape: Option<u8>,
    /// Behind each record. A carriage return before a line feed belongs to it.
    pub terminator: u8,
    /// What stands for null when it is not quoted.
    pub null: String,
    /// Whether the first record names the columns.
    pub header: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        Self { delimiter: b',', quote: Some(b'"'), escape: None, terminator: b'\n', null: String::new(), header: true }
    }
}

impl Dialect {
    /// Refuses characters that could not be told apart, or that are parts of others.
    pub fn checked(self) -> Result<Self, DeclarationError> {
        let special = [
            ("quoteChar", self.quote),
            ("fieldDelimiter", Some(self.delimiter)),
            ("recordDelimiter", Some(self.terminator)),
            ("escapeChar", self.escape.filter(|escape| Some(*escape) != self.quote)),
        ];
        for (position, (option, byte)) in special.iter().enumerate() {
            let Some(byte) = byte else { continue };
            let refuse = |problem| DeclarationError::Dialect { option, value: char::from(*byte).to_string(), problem };
            if !byte.is_ascii() || *byte == b'\r' {
                return Err(refuse("is no character of ASCII, or a carriage return"));
            }
            if special.iter().take(position).any(|(_, other)| *other == Some(*byte)) {
                return Err(refuse("has another meaning too"));
            }
        }
        Ok(self)
    }

    /// An escape character that is not merely the quote, which is doubled anyway.
    pub(super) fn own_escape(&self) -> Option<u8> {
        self.escape.filter(|escape| Some(*escape) != self.quote)
    }
}
