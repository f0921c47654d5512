//! The event types of `proto/`: Rust types for code that creates events, descriptors for code that reads them.
//!
//! A message is an event type if it has `option (landfall.event)`. It gets its own column without a change in Rust,
//! because no Rust code names the types.

#[cfg(test)]
mod compiling;
mod registry;

pub use registry::{ENVELOPE, EventType, Registry, RegistryError, UNREGISTERED};

/// The messages of `proto/landfall/events/v1`, as Rust types.
pub mod v1 {
    #![expect(missing_docs, reason = "generated; the documentation is in proto/")]
    include!(concat!(env!("OUT_DIR"), "/landfall.events.v1.rs"));
}

/// The serialized `FileDescriptorSet` of `proto/` and its imports.
const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
/// The order of the columns.
const COLUMNS: &str = include_str!("../../../proto/columns.txt");

impl Registry {
    /// The event types compiled into this build. The build has made sure that there is no error.
    pub fn embedded() -> Result<Self, RegistryError> {
        Self::new(DESCRIPTOR_SET, COLUMNS)
    }
}

#[cfg(test)]
mod tests;
