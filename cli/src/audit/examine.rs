//! One file: its metadata, and whether its contents agree with it.

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
    /// The stream that it comes from, if that is not the one asked for.
    pub other_stream: Option<String>,
    pub problems: Vec<Problem>,
}

type Finding = (Fault, String);

/// What the metadata says.
enum Origin {
    Rolled(RolledFile),
    OtherStream(String),
}

impl Examiner<'_> {
    /// Examines one file. A file of another stream is not read and has no problems.
    pub async fn examine(&self, bucket: &str, key: &KafkaKey) -> Examined {
        let (rolled, other_stream, findings) = match self.look(bucket, key).await {
            Ok((Origin::Rolled(rolled), findings)) => (Some(rolled), None, findings),
            Ok((Origin::OtherStream(stream), findings)) => (None, Some(stream), findings),
            Err(finding) => (None, None, vec![finding]),
        };
        let at = format!("s3://{bucket}/{key}");
        let problems =
            findings.into_iter().map(|(fault, detail)| Problem::of_file(fault, at.clone(), detail)).collect();
        Examined { rolled, other_stream, problems }
    }

    async fn look(&self, bucket: &str, key: &KafkaKey) -> Result<(Origin, Vec<Finding>), Finding> {
        let name = key.to_string();
        let bucket = S3::new(self.s3, bucket);
        let unreadable = |error: BucketError| match error {
            BucketError::Missing { .. } => {
                (Fault::Unreadable, "it was deleted while the command ran; audit again".to_owned())
            }
            error => (Fault::Unreadable, error.to_string()),
        };
        if !self.contents {
            let head = bucket.head(&name).await.map_err(unreadable)?;
            return Ok((self.origin(&head.metadata, key)?, Vec::new()));
        }
        let opened = bucket.open(&name).await.map_err(unreadable)?;
        let origin = self.origin(&opened.metadata, key)?;
        let Origin::Rolled(rolled) = &origin else { return Ok((origin, Vec::new())) };
        let findings = match read(opened, &name).await {
            Ok(contents) => compare(&contents, rolled),
            Err(ReadError::Bucket(error)) => vec![unreadable(error)],
            Err(ReadError::Gzip(error)) => vec![(Fault::NotJson, format!("it is not a complete gzip file: {error}"))],
        };
        Ok((origin, findings))
    }

    fn origin(&self, metadata: &HashMap<String, String>, key: &KafkaKey) -> Result<Origin, Finding> {
        if !metadata.keys().any(|name| name.starts_with("landfall-")) {
            return Err((Fault::NoMetadata, "its metadata does not say which records it holds".to_owned()));
        }
        let rolled = RolledFile::of_metadata(|name| metadata.get(name).map(String::as_str));
        let rolled = rolled.map_err(|error| (Fault::DamagedMetadata, error.to_string()))?;
        if self.stream.is_some_and(|stream| *stream != rolled.window.stream) {
            return Ok(Origin::OtherStream(rolled.window.stream.to_string()));
        }
        if rolled.window.table != key.table {
            return Err((Fault::OtherTable, format!("it holds records of table {}", rolled.window.table)));
        }
        Ok(Origin::Rolled(rolled))
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
