//! The event types of `proto/`: Rust types for code that creates events, descriptors for code that reads them.
//!
//! A message is an event type if it has `option (landfall.event)`. It gets its own column without a change in Rust,
//! because no Rust code names the types.

use std::collections::BTreeMap;

use prost_reflect::{DescriptorPool, MessageDescriptor, Value};

/// The messages of `proto/landfall/events/v1`, as Rust types.
pub mod v1 {
    #![expect(missing_docs, reason = "generated; the documentation is in proto/")]
    include!(concat!(env!("OUT_DIR"), "/landfall.events.v1.rs"));
}

/// The serialized `FileDescriptorSet` of `proto/` and its imports.
const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Full name of the option that marks an event.
const EVENT_OPTION: &str = "landfall.event";

/// The event types of a set of descriptors.
#[derive(Debug, Clone)]
pub struct Registry {
    types: Vec<EventType>,
    by_name: BTreeMap<String, usize>,
}

/// One event type.
#[derive(Debug, Clone)]
pub struct EventType {
    /// The message's simple name, such as `OrderCreated`.
    pub name: String,
    /// The name of its column: the simple name in snake_case, such as `order_created`.
    pub column: String,
    /// The descriptor by which its payload is read.
    pub message: MessageDescriptor,
}

/// Why a set of descriptors cannot be a registry.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The bytes are not a descriptor set.
    #[error("the embedded descriptor set cannot be read")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// No message has the option.
    #[error("no message has option (landfall.event)")]
    Empty,
    /// Two messages would share a name or a column.
    #[error("event types {first} and {second} both use the name {name:?}")]
    Ambiguous {
        /// The name or column.
        name: String,
        /// Full name of one message.
        first: String,
        /// Full name of the other message.
        second: String,
    },
}

impl Registry {
    /// The event types compiled into this build.
    pub fn embedded() -> Result<Self, RegistryError> {
        Self::from_pool(&DescriptorPool::decode(DESCRIPTOR_SET)?)
    }

    /// The event types of `pool`, ordered by column name, so that the order of columns is the same in every build.
    fn from_pool(pool: &DescriptorPool) -> Result<Self, RegistryError> {
        let option = pool.get_extension_by_name(EVENT_OPTION).ok_or(RegistryError::Empty)?;
        let mut declared: Vec<(EventType, Vec<String>)> = Vec::new();
        for message in pool.all_messages() {
            let options = message.options();
            if !options.has_extension(&option) {
                continue;
            }
            let name = message.name().to_owned();
            let mut names = vec![name.clone()];
            if let Value::Message(event) = &*options.get_extension(&option)
                && let Some(also) = event.get_field_by_name("also")
                && let Value::List(also) = &*also
            {
                names.extend(also.iter().filter_map(Value::as_str).map(str::to_owned));
            }
            declared.push((EventType { column: snake_case(&name), name, message }, names));
        }
        declared.sort_by(|(a, _), (b, _)| (&a.column, a.message.full_name()).cmp(&(&b.column, b.message.full_name())));

        let mut registry = Self { types: Vec::new(), by_name: BTreeMap::new() };
        let mut columns: BTreeMap<String, String> = BTreeMap::new();
        for (event, names) in declared {
            let full_name = event.message.full_name().to_owned();
            if let Some(first) = columns.insert(event.column.clone(), full_name.clone()) {
                return Err(RegistryError::Ambiguous { name: event.column, first, second: full_name });
            }
            let index = registry.types.len();
            for name in names {
                if let Some(first) = registry.by_name.insert(name.clone(), index) {
                    let first = registry.types.get(first).map_or(&event.message, |event| &event.message);
                    let first = first.full_name().to_owned();
                    return Err(RegistryError::Ambiguous { name, first, second: full_name });
                }
            }
            registry.types.push(event);
        }
        if registry.types.is_empty() { Err(RegistryError::Empty) } else { Ok(registry) }
    }

    /// All event types, in column order.
    #[must_use]
    pub fn types(&self) -> &[EventType] {
        &self.types
    }

    /// Index in [`Registry::types`] of the type with this name, which may be one of its other names (`also`).
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// `OrderCreated` → `order_created`, `HTTPRequestSeen` → `http_request_seen`.
fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    let mut characters = name.chars().peekable();
    let mut previous: Option<char> = None;
    while let Some(character) = characters.next() {
        let starts_word = character.is_ascii_uppercase()
            && previous.is_some_and(|previous| {
                previous.is_ascii_lowercase()
                    || previous.is_ascii_digit()
                    || (previous.is_ascii_uppercase() && characters.peek().is_some_and(char::is_ascii_lowercase))
            });
        if starts_word {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
        previous = Some(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> DescriptorPool {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut compiler = protox::Compiler::new([folder.join("testdata"), folder.join("../proto")]).unwrap();
        compiler.include_imports(true).open_file("shop.proto").unwrap();
        DescriptorPool::decode(&*compiler.encode_file_descriptor_set()).unwrap()
    }

    #[test]
    fn every_event_type_is_registered_under_its_name_and_aliases() {
        let registry = Registry::from_pool(&pool()).unwrap();
        let columns: Vec<&str> = registry.types().iter().map(|event| event.column.as_str()).collect();
        assert_eq!(columns, ["basket_left", "order_placed"]);
        assert_eq!(registry.position("BasketAbandoned"), registry.position("BasketLeft"));
        assert_eq!(registry.position("BasketLeft"), Some(0));
        assert_eq!(registry.position("OrderPlaced"), Some(1));
        assert_eq!(registry.position("Money"), None);
    }

    #[test]
    fn the_event_types_of_this_build_do_not_contradict_each_other() {
        assert!(!Registry::embedded().unwrap().types().is_empty());
    }

    #[test]
    fn names_become_columns() {
        for (name, column) in [
            ("OrderCreated", "order_created"),
            ("HTTPRequestSeen", "http_request_seen"),
            ("Sku2Seen", "sku2_seen"),
            ("already_snake", "already_snake"),
        ] {
            assert_eq!(snake_case(name), column);
        }
    }
}
