//! What the footer of a Parquet file says, for files that are copied as they are.

use parquet::{
    arrow::parquet_to_arrow_schema,
    errors::ParquetError,
    file::{metadata::ParquetMetaDataReader, reader::ChunkReader},
};

use super::ConvertError;

/// What a Parquet file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParquetInfo {
    /// Its rows.
    pub rows: u64,
    /// Its columns: names, and types as Arrow calls them.
    pub columns: Vec<(String, String)>,
}

/// Reads the footer of a Parquet file of `file_bytes` bytes, of which `end` are the last ones, or all. If they are too few,
/// [`ConvertError::FooterNeeds`] says how many it takes.
pub fn parquet_info(end: &impl ChunkReader, file_bytes: u64) -> Result<ParquetInfo, ConvertError> {
    let mut reader = ParquetMetaDataReader::new();
    reader.try_parse_sized(end, file_bytes).map_err(|error| match error {
        ParquetError::NeedMoreData(bytes) if bytes as u64 <= file_bytes => ConvertError::FooterNeeds(bytes),
        other => ConvertError::NotParquet(other),
    })?;
    let metadata = reader.finish().map_err(ConvertError::NotParquet)?;
    let file = metadata.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), None).map_err(ConvertError::NotParquet)?;
    let columns = schema.fields().iter().map(|field| (field.name().clone(), field.data_type().to_string())).collect();
    let rows = u64::try_from(file.num_rows());
    let negative = || ConvertError::NotParquet(ParquetError::General("the footer counts less than no rows".to_owned()));
    Ok(ParquetInfo { rows: rows.map_err(|_| negative())?, columns })
}
