//! One object of a load → Parquet parts, as a stream, without I/O of its own.
//!
//! Each module depends only on modules above it in this list.
//!
//! | module | what it does |
//! |---|---|
//! | `error` | says why a record is refused, and why an object is |
//! | `value` | reads values from text |
//! | `types` | names the types of columns |
//! | `declaration`, `dialect`, `dfm` | what is known about an object before it is read |
//! | `plan` | says what is to be done with it |
//! | `sink` | receives the result |
//! | `summary` | says what became of it |
//! | `input` | reads and inflates its bytes |
//! | `layout` | puts what was declared beside what is there |
//! | `column` | collects the values of a column |
//! | `parts` | writes row groups into parts |
//! | `rows` | appends records to columns, or rejects them |
//! | `csv`, `json` | split an object into records |
//! | `parquet_info` | reads the footer of an object that is Parquet already |

mod column;
mod csv;
mod declaration;
mod dfm;
mod dialect;
mod error;
mod input;
mod json;
mod layout;
mod parquet_info;
mod parts;
mod plan;
mod rows;
mod sink;
mod summary;
mod types;
mod value;

#[cfg(test)]
mod tests;

use std::io::Read;

use self::input::{Input, Window};
pub use self::{
    declaration::{AsText, Declaration, DeclarationError, Declared},
    dfm::Dfm,
    dialect::Dialect,
    error::{ConvertError, Reason},
    parquet_info::{ParquetInfo, parquet_info},
    plan::{Format, Kind, Limits, OnMisfit, Plan},
    sink::{Part, Quarantined, Sink},
    summary::{OutputColumn, Renamed, Summary},
};

/// Converts one object. The same bytes and the same plan give the same parts, however many bytes a read returns.
///
/// Memory is limited by the plan: a row group before and after it is encoded, and the longest record.
pub fn convert(input: impl Read, plan: &Plan, sink: &mut impl Sink) -> Result<Summary, ConvertError> {
    let window = Window::new(Input::new(input, plan.format.gzip))?;
    match plan.format.kind {
        Kind::Csv => csv::convert(window, plan, sink),
        Kind::Json => json::convert(window, plan, sink),
    }
}
