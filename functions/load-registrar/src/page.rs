//! Lists in pages that fit into an answer of Lambda, which is at most 6 MB.

use crate::database::DatabaseError;

/// Maximum number of rows in a page: a thousand with keys of a kilobyte fit.
pub const MAX_ROWS: u32 = 1_000;

/// The size of a page as a parameter of a statement.
pub fn checked(limit: u32) -> Result<i64, DatabaseError> {
    if (1..=MAX_ROWS).contains(&limit) {
        return Ok(i64::from(limit));
    }
    Err(DatabaseError::Refused(format!("limit is {limit}; it must be from 1 to {MAX_ROWS}")))
}

/// Cuts rows to a page, of which one more than `limit` were selected, and says whether there are more.
pub fn cut<T>(rows: &mut Vec<T>, limit: i64) -> bool {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    more
}
