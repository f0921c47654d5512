//! The `.dfm` beside an object: of all its versions, the one that was written with the object.
//!
//! Qlik writes both anew under the same keys, and a load may be ingested long after that.

use objects::{BucketError, ListedVersion, S3};
use shared::registrar::Load;

use crate::place::Places;

/// A larger one is not read.
pub const MAX_BYTES: usize = 16 << 20;

/// The versions of an object and of its `.dfm`, as they are now.
#[derive(Debug)]
pub struct Companions {
    /// When each version of the object was written, in seconds since 1970-01-01T00:00:00Z, which is all that HeadObject says.
    objects: Vec<i64>,
    /// The versions of the `.dfm`.
    dfms: Vec<ListedVersion>,
    /// When the object of the load was written.
    at: i64,
}

/// The `.dfm` of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Companion<'a> {
    pub dfm: &'a ListedVersion,
    /// Whether it was written after the object of the load and before the next version of it.
    pub is_own: bool,
}

impl Companions {
    /// Lists the versions of the object of a load and of its `.dfm`.
    pub async fn of(bucket: &S3, load: &Load) -> Result<Self, BucketError> {
        let (object, dfm) = (&load.s3_key, Places::of(load).dfm());
        let both = dfm.strip_suffix("dfm").unwrap_or(&dfm);
        let at = load.s3_modified.as_second();
        let listed = bucket.versions(both).await?;
        // The version of the load may be gone already.
        let mut objects: Vec<i64> = listed.iter().filter(|one| one.key == *object).map(second).collect();
        objects.push(at);
        Ok(Self { objects, dfms: listed.into_iter().filter(|one| one.key == dfm).collect(), at })
    }

    /// The one of the load: the first that was written after its object and before the next version of it; or else the last before,
    /// since not every object has to come with one; or else the first after.
    #[must_use]
    pub fn chosen(&self) -> Option<Companion<'_>> {
        self.chosen_for(self.at)
    }

    /// Whether another version of the object, which is still there, would choose this one.
    #[must_use]
    pub fn is_needed(&self, dfm: &ListedVersion) -> bool {
        let others = self.objects.iter().filter(|at| **at != self.at);
        others.filter_map(|at| self.chosen_for(*at)).any(|chosen| chosen.dfm == dfm)
    }

    fn chosen_for(&self, at: i64) -> Option<Companion<'_>> {
        let next = self.objects.iter().copied().filter(|other| *other > at).min().unwrap_or(i64::MAX);
        let from_then = |end: i64| self.dfms.iter().filter(move |dfm| (at..end).contains(&second(dfm)));
        let own = from_then(next).min_by_key(|dfm| dfm.modified_ms);
        let before = || self.dfms.iter().filter(|dfm| second(dfm) < at).max_by_key(|dfm| dfm.modified_ms);
        let after = || from_then(i64::MAX).min_by_key(|dfm| dfm.modified_ms);
        Some(Companion { dfm: own.or_else(before).or_else(after)?, is_own: own.is_some() })
    }
}

const fn second(version: &ListedVersion) -> i64 {
    version.modified_ms.div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn companions(at: i64, objects: &[i64], dfms: &[i64]) -> Companions {
        let dfm = |at: &i64| ListedVersion {
            key: "LOAD001.dfm".to_owned(),
            id: Some(at.to_string()),
            e_tag: "e".to_owned(),
            modified_ms: at * 1_000 + 140,
        };
        Companions { objects: objects.to_vec(), dfms: dfms.iter().map(dfm).collect(), at }
    }

    /// When the chosen one was written, and whether it is the load's own.
    fn chosen(at: i64, objects: &[i64], dfms: &[i64]) -> Option<(i64, bool)> {
        companions(at, objects, dfms).chosen().map(|chosen| (second(chosen.dfm), chosen.is_own))
    }

    #[test]
    fn each_version_of_an_object_has_the_dfm_that_was_written_with_it() {
        let (objects, dfms) = ([10, 20, 30], [11, 20, 32]);
        assert_eq!(chosen(10, &objects, &dfms), Some((11, true)));
        assert_eq!(chosen(20, &objects, &dfms), Some((20, true)));
        assert_eq!(chosen(30, &objects, &dfms), Some((32, true)));
    }

    #[test]
    fn without_one_of_its_own_it_has_the_last_before_or_the_first_after() {
        assert_eq!(chosen(20, &[20], &[]), None);
        assert_eq!(chosen(20, &[20, 30], &[5, 11, 31]), Some((11, false)));
        assert_eq!(chosen(20, &[20, 30], &[31, 40]), Some((31, false)));
    }

    #[test]
    fn one_that_another_version_of_the_object_would_choose_is_needed() {
        let shared = companions(20, &[20, 30], &[11]);
        assert!(shared.is_needed(shared.chosen().unwrap().dfm));
        let own = companions(20, &[20, 30], &[21, 31]);
        assert!(!own.is_needed(own.chosen().unwrap().dfm));
        let last = companions(20, &[20], &[11]);
        assert!(!last.is_needed(last.chosen().unwrap().dfm));
    }
}
