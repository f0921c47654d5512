//! What a backfill is about, and how far it is: objects in the bucket, so that it can go on after it was interrupted, on any machine.

use std::collections::BTreeMap;

use bytes::Bytes;
use objects::{Attributes, Bucket, BucketError, Created, S3};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use shared::layout::Segment;

use super::source::Range;

/// The folder of manifests. No loader of events looks there.
pub(super) const FOLDER: &str = "_backfill";
/// Of a part of a key that S3 takes in any case.
const MAX_NAME: usize = 120;

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error("s3://{bucket}/{key} is damaged: {cause}; delete the folder to begin anew")]
    Damaged { bucket: String, key: String, cause: serde_json::Error },
    #[error(
        "s3://{bucket}/{key} is of another plan than the manifest beside it; delete the folder, and the files, to begin anew"
    )]
    Stale { bucket: String, key: String },
    #[error(
        "s3://{bucket}/{key} is that of a backfill with other settings ({settings}). Go on with the same ones, or begin another with \
         --prefix"
    )]
    Other { bucket: String, key: String, settings: String },
}

/// The times that rows are from, as RFC 3339: not before one and before the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounds {
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
}

/// What decides which files there are, and their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) database: String,
    pub(super) table: String,
    /// Of the table in its database.
    pub(super) oid: u32,
    /// Column and its type by part of an event.
    pub(super) columns: BTreeMap<String, String>,
    pub(super) key: String,
    pub(super) bounds: Bounds,
    pub(super) layout: String,
    pub(super) file_bytes: u64,
    pub(super) row_group_rows: u64,
    pub(super) zstd_level: i32,
    pub(super) event_time_max_age_days: i64,
    /// Of the event types of the build.
    pub(super) schema_fingerprint: String,
}

/// What a backfill is about. It is written once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    pub(super) settings: Settings,
    /// How many rows there were when it was written.
    pub(super) rows: u64,
    /// The last key of each range of rows, in order. Rows after the last one are not read.
    pub(super) last_keys: Vec<String>,
    /// Whether rows without a key are a range of their own, behind the others.
    pub(super) no_key: bool,
}

impl Manifest {
    /// What tells it from any other.
    pub(super) fn plan(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The ranges, in order.
    pub(super) fn ranges(&self) -> Vec<Range> {
        let mut after = None;
        let keys = self
            .last_keys
            .iter()
            .map(|last| Range::Keys { after: after.replace(last.clone()), last: Some(last.clone()) });
        let mut ranges: Vec<Range> = keys.collect();
        if self.no_key {
            ranges.push(Range::NoKey);
        }
        ranges
    }
}

/// What became of some rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Counts {
    pub(super) read: u64,
    /// By type.
    pub(super) landed: BTreeMap<String, u64>,
    /// By reason.
    pub(super) quarantined: BTreeMap<String, u64>,
    pub(super) unregistered: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    /// The sum of the first seven bytes of the SHA-256 hashes of the payloads as the table has them.
    pub(super) check: u128,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.read += other.read;
        for (into, from) in [(&mut self.landed, &other.landed), (&mut self.quarantined, &other.quarantined)] {
            from.iter().for_each(|(name, rows)| *into.entry(name.clone()).or_default() += rows);
        }
        self.unregistered += other.unregistered;
        self.files += other.files;
        self.bytes += other.bytes;
        self.check += other.check;
    }
}

/// A range that is done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Done {
    /// The plan that the range is of.
    pub(super) plan: String,
    pub(super) counts: Counts,
    /// The keys of its files.
    pub(super) files: Vec<String>,
}

/// Where a backfill notes how far it is.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    lake: &'a S3,
    /// Ends with `/`.
    folder: String,
}

impl<'a> Notes<'a> {
    pub(super) fn new(lake: &'a S3, prefix: &str, table: &Segment) -> Self {
        Self { lake, folder: format!("{FOLDER}/{prefix}/{table}/") }
    }

    fn manifest_key(&self) -> String {
        format!("{}manifest.json", self.folder)
    }

    /// The folder as an address.
    pub(super) fn place(&self) -> String {
        format!("s3://{}/{}", self.lake.name(), self.folder)
    }

    /// The manifest that is there, if it is of a backfill with these settings.
    pub(super) async fn manifest(&self, settings: &Settings) -> Result<Option<Manifest>, ManifestError> {
        let key = self.manifest_key();
        let manifest: Manifest = match self.lake.get(&key, None).await {
            Ok(body) => self.parse(&key, &body)?,
            Err(BucketError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if manifest.settings == *settings {
            return Ok(Some(manifest));
        }
        let settings = differences(&manifest.settings, settings);
        Err(ManifestError::Other { bucket: self.lake.name().to_owned(), key, settings })
    }

    /// Writes the manifest, unless another run has done so meanwhile. Returns the one that is there.
    pub(super) async fn begin(&self, manifest: Manifest) -> Result<Manifest, ManifestError> {
        match self.write(&self.manifest_key(), &manifest).await? {
            Created::New { .. } => Ok(manifest),
            Created::Exists => Ok(self.manifest(&manifest.settings).await?.unwrap_or(manifest)),
        }
    }

    /// The keys of the ranges that are done, by their numbers.
    pub(super) async fn done(&self) -> Result<Vec<(usize, String)>, ManifestError> {
        let folder = format!("{}ranges/", self.folder);
        let listed = self.lake.list(&folder).await?;
        let number = |key: &str| key.strip_prefix(&folder)?.strip_suffix(".json")?.parse().ok();
        Ok(listed.into_iter().filter_map(|object| Some((number(&object.key)?, object.key))).collect())
    }

    /// What became of a range that is done.
    pub(super) async fn read(&self, plan: &str, key: &str) -> Result<Done, ManifestError> {
        let done: Done = self.parse(key, &self.lake.get(key, None).await?)?;
        if done.plan == plan {
            return Ok(done);
        }
        Err(ManifestError::Stale { bucket: self.lake.name().to_owned(), key: key.to_owned() })
    }

    /// Notes that a range is done.
    pub(super) async fn finish(&self, number: usize, done: &Done) -> Result<(), ManifestError> {
        // Another run may have noted the same.
        self.write(&format!("{}ranges/{number:06}.json", self.folder), done).await?;
        Ok(())
    }

    async fn write(&self, key: &str, value: &impl Serialize) -> Result<Created, ManifestError> {
        let body = serde_json::to_vec(value).map_err(|cause| self.damaged(key, cause))?;
        let attributes = Attributes { content_type: "application/json", metadata: Vec::new() };
        Ok(self.lake.create(key, Bytes::from(body), &attributes).await?)
    }

    fn parse<T: DeserializeOwned>(&self, key: &str, body: &[u8]) -> Result<T, ManifestError> {
        serde_json::from_slice(body).map_err(|cause| self.damaged(key, cause))
    }

    fn damaged(&self, key: &str, cause: serde_json::Error) -> ManifestError {
        ManifestError::Damaged { bucket: self.lake.name().to_owned(), key: key.to_owned(), cause }
    }
}

/// The names of the settings that differ.
fn differences(a: &Settings, b: &Settings) -> String {
    let [a, b] = [a, b].map(|settings| serde_json::to_value(settings).unwrap_or_default());
    let names = a.as_object().into_iter().flatten().filter(|(name, value)| b.get(name.as_str()) != Some(value));
    names.map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// A table's name as part of a key, which has fewer characters than Postgres allows.
pub(super) fn segment(table: &str) -> Option<Segment> {
    let fits = |text: &str| text.len() <= MAX_NAME;
    if let Ok(segment) = table.parse()
        && fits(table)
    {
        return Some(segment);
    }
    let plain: String = table
        .chars()
        .map(|character| if character.is_ascii_alphanumeric() || "._-".contains(character) { character } else { '_' })
        .take(MAX_NAME)
        .collect();
    let hash: String = Sha256::digest(table).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{plain}-{hash}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            database: "shop".to_owned(),
            table: "public.events".to_owned(),
            oid: 16_384,
            columns: BTreeMap::from([("type".to_owned(), "type".to_owned())]),
            key: "id".to_owned(),
            bounds: Bounds::default(),
            layout: "together".to_owned(),
            file_bytes: 64 << 20,
            row_group_rows: 1 << 20,
            zstd_level: 1,
            event_time_max_age_days: 30,
            schema_fingerprint: "0".to_owned(),
        }
    }

    #[test]
    fn ranges_follow_each_other_from_the_first_row_to_the_last_key() {
        let manifest = |keys: &[&str], no_key| Manifest {
            settings: settings(),
            rows: 0,
            last_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
            no_key,
        };
        let range = |after: Option<&str>, last: &str| Range::Keys {
            after: after.map(str::to_owned),
            last: Some(last.to_owned()),
        };
        assert_eq!(manifest(&["10", "20"], false).ranges(), [range(None, "10"), range(Some("10"), "20")]);
        assert_eq!(manifest(&["10"], true).ranges(), [range(None, "10"), Range::NoKey]);
        assert_eq!(manifest(&[], true).ranges(), [Range::NoKey]);
        assert_eq!(manifest(&[], false).ranges(), []);
    }

    #[test]
    fn settings_that_differ_are_named() {
        let other = Settings { layout: "by-type".to_owned(), zstd_level: 3, ..settings() };
        assert_eq!(differences(&settings(), &other), "layout, zstd_level");
        assert_eq!(differences(&settings(), &settings()), "");
    }

    #[test]
    fn any_table_has_a_name_in_keys_of_its_own() {
        let name = |table: &str| segment(table).unwrap().to_string();
        assert_eq!(name("public.events"), "public.events");
        assert_ne!(name("public.événements"), name("public._v_nements"));
        assert_ne!(name("a/b.c d"), name("a b.c/d"));
        let long = "x".repeat(200);
        assert!(name(&long).len() < 140 && name(&long) != name(&format!("{long}y")));
    }
}
