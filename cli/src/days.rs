//! Folders of a bucket with a folder for each day.

use std::str::FromStr;

use objects::{Bucket, BucketError, Listed, S3};
use shared::layout::Day;

use crate::replay::plan::Selection;

/// Lists the objects in `folder`, which ends with `/`, that are of the selection's days: their keys, with sizes in bytes, and keys
/// of another form, which have no day. The listing ends at the first key that `day` gives none for: it is in a folder of another kind.
pub async fn list<K: FromStr>(
    bucket: &S3,
    folder: &str,
    selection: &Selection,
    day: impl Fn(&K) -> Option<Day>,
) -> Result<(Vec<(K, u64)>, Vec<String>), BucketError> {
    let (first, last) = selection.days();
    let start_after = first.map(|first| format!("{folder}{first}/"));
    let is_wanted = |key: &str| match key.parse() {
        Ok(key) => day(&key).is_some_and(|day| last.is_none_or(|last| day <= last)),
        Err(_) => true,
    };
    let (mut keys, mut foreign) = (Vec::new(), Vec::new());
    for Listed { key, size, .. } in bucket.list_while(folder, start_after.as_deref(), is_wanted).await? {
        match key.parse() {
            Ok(parsed) => keys.push((parsed, size)),
            Err(_) => foreign.push(key),
        }
    }
    Ok((keys, foreign))
}
