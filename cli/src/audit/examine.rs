//! One file: its metadata, and whether its contents agree with it.

use std::{collections::HashMap, io};

use objects::{Bucket, BucketError, Client, Opened, S3};
use shared::{layout::Segment, rolled::RolledFile};

use super::{
    contents::{Contents, Reading},
    place::Place,
    report::{Fault, Problem},
};
use crate::text::{counted, grouped};

#[derive(Debug, Clone, Copy)]
pub struct Examiner<'a> {
    pub s3: &'a Client,
    /// Only files of this stream.
    pub stream: Option<&'a Segment>,
    /// Whether files are read, or only their metadata.
    pub contents: bool,
}

#[derive(Debug, Default)]
pub struct Examined {
    /// Its metadata, if that can be understood.
    pub rolled: Option<RolledFile>,
    pub problems: Vec<Problem>,
}

/// What is said of a file that was listed and is gone.
pub const DELETED: &str = "it was deleted while the command ran; audit again";

type Finding = (Fault, String);

impl Examiner<'_> {
    /// Examines one file. A file of another stream is not read and has no problems.
    pub async fn examine(&self, place: &Place) -> Examined {
        let (rolled, findings) = self.look(place).await.unwrap_or_else(|finding| (None, vec![finding]));
        let problem = |(fault, detail)| Problem::of_file(fault, place.to_string(), detail);
        let problems = findings.into_iter().map(problem).collect();
        Examined { rolled, problems }
    }

    async fn look(&self, place: &Place) -> Result<(Option<RolledFile>, Vec<Finding>), Finding> {
        let bucket = S3::new(self.s3, &place.bucket);
        if !self.contents {
            let head = bucket.head(&place.key).await.map_err(unreadable)?;
            return Ok((self.rolled(&head.metadata, place)?, Vec::new()));
        }
        let opened = bucket.open(&place.key).await.map_err(unreadable)?;
        let Some(rolled) = self.rolled(&opened.metadata, place)? else { return Ok((None, Vec::new())) };
        let contents = read(opened, &place.name).await;
        let findings = contents.map_or_else(|finding| vec![finding], |contents| compare(&contents, &rolled));
        Ok((Some(rolled), findings))
    }

    /// The metadata; `None` when the file is of another stream.
    fn rolled(&self, metadata: &HashMap<String, String>, place: &Place) -> Result<Option<RolledFile>, Finding> {
        if !metadata.keys().any(|name| name.starts_with("landfall-")) {
            return Err((Fault::NoMetadata, "its metadata does not say which records it holds".to_owned()));
        }
        let rolled = RolledFile::of_metadata(|name| metadata.get(name).map(String::as_str));
        let rolled = rolled.map_err(|error| (Fault::DamagedMetadata, error.to_string()))?;
        if self.stream.is_some_and(|stream| *stream != rolled.window.stream) {
            return Ok(None);
        }
        if place.table.as_ref().is_some_and(|table| *table != rolled.window.table) {
            return Err((Fault::OtherTable, format!("it holds records of table {}", rolled.window.table)));
        }
        Ok(Some(rolled))
    }
}

fn unreadable(error: BucketError) -> Finding {
    let detail = match error {
        BucketError::Missing { .. } => DELETED.to_owned(),
        error => error.to_string(),
    };
    (Fault::Unreadable, detail)
}

async fn read(mut opened: Opened<'_>, name: &str) -> Result<Contents, Finding> {
    let not_gzip = |error: io::Error| (Fault::NotJson, format!("it is not a complete gzip file: {error}"));
    let mut reading = Reading::of(name);
    while let Some(bytes) = opened.next().await.map_err(unreadable)? {
        reading.read(&bytes).map_err(not_gzip)?;
    }
    reading.finish().map_err(not_gzip)
}

fn compare(contents: &Contents, rolled: &RolledFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if contents.lines != rolled.count {
        let lines = counted(contents.lines, "line", "lines");
        let (first, last) = (rolled.first, rolled.last);
        let says = format!("its metadata says {} from {first:?} to {last:?}", grouped(rolled.count));
        findings.push((Fault::WrongCount, format!("{lines}, but {says}")));
    }
    if let Some((line, cause)) = &contents.first_broken {
        let broken = counted(contents.broken, "line is", "lines are");
        findings.push((Fault::NotJson, format!("{broken} not JSON; the first is line {}: {cause}", grouped(*line))));
    }
    findings
}
