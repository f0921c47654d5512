//! Amazon S3 as this workspace uses it: objects are written once and never overwritten, versions are read
//! and moved as they were registered, and records that can never be used are kept in the quarantine.
//!
//! [`Bucket`] is a trait so that tests can try every order and every failure of its calls; [`S3`] is the real thing.

#![deny(missing_docs)]

mod bucket;
pub mod quarantine;
mod s3;
mod version;

pub use aws_sdk_s3::Client;
pub use bucket::{Attributes, Bucket, BucketError, Created, Head, Listed, Records, Stored, Upload};
pub use s3::{Opened, S3};
pub use version::{ListedVersion, Version};
