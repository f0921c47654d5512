//! Objects of a load → typed Parquet.
//!
//! | module | what it does |
//! |---|---|
//! | `convert` | turns one object into Parquet parts, as a stream |

pub mod convert;
