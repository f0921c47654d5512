//! The keys of a load's files and of its object when it is done.

use objects::Version;
use shared::registrar::Load;

/// The keys of a load in the lake bucket.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a>(&'a Load);

impl<'a> Places<'a> {
    /// Those of this load.
    #[must_use]
    pub const fn of(load: &'a Load) -> Self {
        Self(load)
    }

    /// Key of a file in Springboard.
    #[must_use]
    pub fn file(&self, number: u32) -> String {
        format!("{}{number}.parquet", self.files_in(&self.0.place))
    }

    /// What the keys of all its files in a folder start with.
    #[must_use]
    pub fn files_in(&self, place: &str) -> String {
        format!("springboard/{place}{}-", self.0.id)
    }

    /// Key of its object in the archive. The id keeps versions of the same key apart.
    #[must_use]
    pub fn archived(&self, place: &str) -> String {
        format!("archive/{place}{}-{}", self.0.id, self.name())
    }

    /// Key of its object when it could not be ingested: by the time that it was modified.
    #[must_use]
    pub fn errored(&self) -> String {
        let folder = self.0.s3_key.strip_suffix(self.name()).unwrap_or_default();
        let time = self.0.s3_modified.strftime("%Y%m%dT%H%M%SZ");
        format!("error/{folder}timestamp={time}/{}-{}", self.0.id, self.name())
    }

    /// Key of the `.dfm` that accompanies the object in its bucket.
    #[must_use]
    pub fn dfm(&self) -> String {
        let key = &self.0.s3_key;
        let lower = key.to_ascii_lowercase();
        let end = [".csv.gz", ".csv", ".json.gz", ".json"].into_iter().find(|end| lower.ends_with(end)).unwrap_or("");
        format!("{}.dfm", key.get(..key.len() - end.len()).unwrap_or(key))
    }

    /// The object as it was registered.
    #[must_use]
    pub fn object(&self) -> Version<'a> {
        Version { key: &self.0.s3_key, id: self.0.s3_version.as_deref(), e_tag: &self.0.s3_etag }
    }

    /// The last part of the object's key.
    fn name(&self) -> &'a str {
        self.0.s3_key.rsplit('/').next().unwrap_or_default()
    }
}
