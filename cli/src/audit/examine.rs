//! One file: what it says of itself, and whether that is so.

use std::{collections::HashMap, io};

use objects::{Bucket, BucketError, Client, Opened, S3};
use shared::{
    layout::{KafkaKey, Segment},
    rolled::RolledFile,
};

use super::{
    contents::{Contents, Reading},
    report::{Fault, Problem},
};
use crate::text::{counted, grouped};

/// How files are examined.
#[derive(Debug, Clone, Copy)]
pub struct Examiner<'a> {
    /// The client.
    pub s3: &'a Client,
    /// Only files of this stream.
    pub stream: Option<&'a Segment>,
    /// Whether files are read.
    pub contents: bool,
}

/// What was found out about a file.
#[derive(Debug, Default)]
pub struct Examined {
    /// What it says of itself, if that can be understood.
    pub rolled: Option<RolledFile>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What is wrong, and in words.
type Finding = (Fault, String);

impl Examiner<'_> {
    /// Examines one file. Nothing is said of a file of another stream.
    pub async fn examine(&self, bucket: &str, key: &KafkaKey) -> Examined {
        let (rolled, findings) = match self.look(bucket, key).await {
            Ok(Some((rolled, findings))) => (Some(rolled), findings),
            Ok(None) => (None, Vec::new()),
            Err(finding) => (None, vec![finding]),
        };
        let at = format!("s3://{bucket}/{key}");
        let problems =
            findings.into_iter().map(|(fault, detail)| Problem::of_file(fault, at.clone(), detail)).collect();
        Examined { rolled, problems }
    }

    async fn look(&self, bucket: &str, key: &KafkaKey) -> Result<Option<(RolledFile, Vec<Finding>)>, Finding> {
        let name = key.to_string();
        let bucket = S3::new(self.s3, bucket);
        let unreadable = |error: BucketError| match error {
            BucketError::Missing { .. } => (Fault::Unreadable, "it went away meanwhile; audit again".to_owned()),
            error => (Fault::Unreadable, error.to_string()),
        };
        if !self.contents {
            let head = bucket.head(&name).await.map_err(unreadable)?;
            return Ok(self.rolled(&head.metadata, key)?.map(|rolled| (rolled, Vec::new())));
        }
        let opened = bucket.open(&name).await.map_err(unreadable)?;
        let Some(rolled) = self.rolled(&opened.metadata, key)? else { return Ok(None) };
        let findings = match read(opened, &name).await {
            Ok(contents) => compare(&contents, &rolled),
            Err(ReadError::Bucket(error)) => vec![unreadable(error)],
            Err(ReadError::Gzip(error)) => vec![(Fault::NotJson, format!("it is no whole gzip file: {error}"))],
        };
        Ok(Some((rolled, findings)))
    }

    /// What the file says of itself; `None` when it is of another stream.
    fn rolled(&self, metadata: &HashMap<String, String>, key: &KafkaKey) -> Result<Option<RolledFile>, Finding> {
        if !metadata.keys().any(|name| name.starts_with("landfall-")) {
            return Err((Fault::NoMetadata, "it does not say which records it holds".to_owned()));
        }
        let rolled = RolledFile::of_metadata(|name| metadata.get(name).map(String::as_str));
        let rolled = rolled.map_err(|error| (Fault::DamagedMetadata, error.to_string()))?;
        if self.stream.is_some_and(|stream| *stream != rolled.window.stream) {
            return Ok(None);
        }
        if rolled.window.table != key.table {
            return Err((Fault::OtherTable, format!("it holds records of table {}", rolled.window.table)));
        }
        Ok(Some(rolled))
    }
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Gzip(#[from] io::Error),
}

async fn read(mut opened: Opened<'_>, name: &str) -> Result<Contents, ReadError> {
    let mut reading = Reading::of(name);
    while let Some(bytes) = opened.next().await? {
        reading.read(&bytes)?;
    }
    Ok(reading.finish()?)
}

fn compare(contents: &Contents, rolled: &RolledFile) -> Vec<Finding> {
    let mut findings = Vec::new();
    if contents.lines != rolled.count {
        let lines = counted(contents.lines as u64, "line", "lines");
        let (first, last) = (rolled.first, rolled.last);
        let says = format!("it says {} from {first:?} to {last:?}", grouped(rolled.count));
        findings.push((Fault::WrongCount, format!("{lines}, and {says}")));
    }
    if let Some((line, cause)) = &contents.first_broken {
        let broken = counted(contents.broken as u64, "line is", "lines are");
        findings.push((Fault::NotJson, format!("{broken} no JSON; the first is line {}: {cause}", grouped(line))));
    }
    findings
}
