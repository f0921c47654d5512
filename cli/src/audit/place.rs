//! Where a file of kafka-roller may be: where it was written, or where load-ingester has moved it since.

use std::fmt;

use shared::layout::{LayoutError, Segment, ShortUuid};

/// The folder in which files are written, and those to which they are moved when they are loaded or could not be.
pub const FOLDERS: [&str; 3] = ["cubic/kafka/", "archive/cubic/kafka/", "error/cubic/kafka/"];

/// A file by its key: `cubic/kafka/{table}/{shortuuid}.json[.gz]`, or `archive/cubic/kafka/{table}/{load}-{shortuuid}.json[.gz]`, or
/// `error/cubic/kafka/{table}/timestamp=…/{load}-{shortuuid}.json[.gz]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub bucket: String,
    pub key: String,
    /// `None` in the archive of loads of a table that has all topics.
    pub table: Option<Segment>,
    /// The name that it was written under.
    pub name: String,
    /// The load that it has become.
    pub load: Option<u64>,
}

impl Place {
    pub fn of(bucket: &str, key: &str) -> Result<Self, LayoutError> {
        let shape = || LayoutError::Shape { key: key.to_owned(), layout: "kafka" };
        let rest = FOLDERS.iter().find_map(|folder| key.strip_prefix(folder)).ok_or_else(shape)?;
        let (folders, file) = rest.rsplit_once('/').unwrap_or(("", rest));
        let is_moved = !key.starts_with(FOLDERS[0]);
        let (load, name) = match file.split_once('-').filter(|_| is_moved) {
            Some((load, name)) => (Some(load.parse().map_err(|_| shape())?), name),
            None => (None, file),
        };
        let id = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".json").ok_or_else(shape)?;
        id.parse::<ShortUuid>()?;
        let mut folders = folders.split('/').filter(|folder| !is_moved || !folder.contains('='));
        let table = folders.next().filter(|table| !table.is_empty()).map(str::parse).transpose()?;
        if folders.next().is_some() || is_moved != load.is_some() || !is_moved && table.is_none() {
            return Err(shape());
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), table, name: name.to_owned(), load })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "vytxeTZskVKR7C7WgdSP3d.json";

    #[test]
    fn a_file_is_known_where_it_was_written_and_where_it_was_moved() {
        for (folder, prefix, table, load) in [
            ("cubic/kafka/sample/", "", Some("sample"), None),
            ("archive/cubic/kafka/sample/", "1201-", Some("sample"), Some(1201)),
            ("error/cubic/kafka/sample/timestamp=20261120T120000Z/", "1201-", Some("sample"), Some(1201)),
            ("archive/cubic/kafka/", "1201-", None, Some(1201)),
        ] {
            for name in [NAME.to_owned(), format!("{NAME}.gz")] {
                let key = format!("{folder}{prefix}{name}");
                let place = Place::of("lake", &key).unwrap();
                assert_eq!((place.table.as_ref().map(Segment::as_str), place.load), (table, load), "{key}");
                assert_eq!((place.name.as_str(), place.to_string()), (name.as_str(), format!("s3://lake/{key}")));
            }
        }
    }

    #[test]
    fn any_other_key_is_refused() {
        for key in [
            format!("cubic/kafka/{NAME}"),
            format!("cubic/kafka/sample/1201-{NAME}"),
            format!("cubic/kafka/sample/timestamp=20261120T120000Z/{NAME}"),
            format!("cubic/kafka/a/b/{NAME}"),
            format!("archive/cubic/kafka/sample/{NAME}"),
            format!("archive/cubic/kafka/sample/x-{NAME}"),
            format!("archive/cubic/ods/sample/1201-{NAME}"),
            "archive/cubic/kafka/sample/1201-notes.txt".to_owned(),
            "cubic/kafka/sample/notes.json".to_owned(),
        ] {
            assert!(Place::of("lake", &key).is_err(), "{key}");
        }
    }
}
