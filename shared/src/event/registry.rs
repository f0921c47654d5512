//! Descriptors and the order of columns → the event types.
//!
//! The build script compiles this file too, so that a mistake in `proto/` fails the build instead of the init phase on AWS.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{Cardinality, DescriptorPool, DynamicMessage, ExtensionDescriptor, Kind, MessageDescriptor, Value};

/// The columns in front of those of the event types, in order.
pub const ENVELOPE: [&str; 8] =
    ["event_id", "message_id", "source", "type", "sent_at", "payload_sha256", "attributes", "_raw"];
/// What takes the place of a column's name for events of a type that is not registered.
pub const UNREGISTERED: &str = "unregistered";

/// Full name of the option that marks an event.
const EVENT_OPTION: &str = "landfall.event";
/// The most characters of a column's name: what Postgres takes, which takes the fewest of the databases.
const MAX_NAME: usize = 63;
/// The most columns of one event type, nested ones included. Readers of Parquet slow down long before.
const MAX_LEAVES: usize = 5_000;

/// The event types of a set of descriptors.
#[derive(Debug, Clone)]
pub struct Registry {
    types: Vec<EventType>,
    by_name: BTreeMap<String, usize>,
}

/// One event type.
#[derive(Debug, Clone)]
pub struct EventType {
    /// The name of its column: the simple name in snake_case, such as `order_created`, if the option names no other.
    pub column: String,
    /// The descriptor by which its payload is read.
    pub message: MessageDescriptor,
    /// The numbers of the fields that lead to the time at which an event happened, a `google.protobuf.Timestamp`.
    pub event_time: Option<Vec<u32>>,
}

/// Why descriptors and the order of columns are no registry. Each says where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The bytes are not a descriptor set.
    #[error("the descriptor set cannot be read")]
    Descriptors(#[from] prost_reflect::DescriptorError),
    /// No message has the option.
    #[error("no message in proto/ is an event type: add option (landfall.event) = {{}} to one")]
    Empty,
    /// A column's name would need quotes, or is too long.
    #[error(
        "{place}: {column:?} cannot be the name of a column: use at most {MAX_NAME} lower-case letters, digits and _, beginning with a letter, as in option (landfall.event) = {{column: \"order_created\"}}"
    )]
    ColumnName {
        /// File and message.
        place: String,
        /// The name.
        column: String,
    },
    /// A column's name is taken by the envelope.
    #[error(
        "{place}: the column {column} is taken by Landfall itself: name another one, as in option (landfall.event) = {{column: \"{column}_event\"}}"
    )]
    EnvelopeColumn {
        /// File and message.
        place: String,
        /// The name.
        column: String,
    },
    /// Two messages would share a column.
    #[error(
        "{second}: the column {column} belongs to {first}: name another one, as in option (landfall.event) = {{column: \"{column}_v2\"}}"
    )]
    SharedColumn {
        /// The name.
        column: String,
        /// File and message that has the column.
        first: String,
        /// File and message that would have it too.
        second: String,
    },
    /// Two messages would arrive under the same type.
    #[error("{second}: events of the type {name:?} are read as {first}: remove it from `also` of one of the two")]
    SharedName {
        /// The type.
        name: String,
        /// File and message that has the name.
        first: String,
        /// File and message that would have it too.
        second: String,
    },
    /// A message would become too many columns.
    #[error(
        "{place}: the event type has more than {MAX_LEAVES} columns at field {field}: split it, or use google.protobuf.Struct for what varies"
    )]
    TooWide {
        /// File and message.
        place: String,
        /// Full name of the field at which there are too many.
        field: String,
    },
    /// Databases would take two fields for one.
    #[error(
        "{place}: the fields {first} and {second} differ in upper and lower case only, so a database would take them for one column: rename one, which changes nothing that is sent"
    )]
    SameColumn {
        /// File and message.
        place: String,
        /// The field that is declared first.
        first: String,
        /// The other.
        second: String,
    },
    /// A time does not exist, or is no time.
    #[error(
        "{place}: event_time is {path:?}, and {field:?} is not a field of type {expected} that is neither repeated nor in a oneof: name one, such as \"order_ts\" or \"header.created_at\""
    )]
    EventTime {
        /// File and message.
        place: String,
        /// The option.
        path: String,
        /// The part that is wrong.
        field: String,
        /// What it has to be.
        expected: &'static str,
    },
    /// A line of the order is not one.
    #[error(
        "proto/columns.txt, line {line}: {text:?} is not a column and the full name of a message, separated by a space"
    )]
    Line {
        /// Its number.
        line: usize,
        /// Its text.
        text: String,
    },
    /// A column or message is in the order twice.
    #[error("proto/columns.txt, line {line}: {text:?} repeats a column or a message of an earlier line: remove it")]
    Repeated {
        /// Number of the second line.
        line: usize,
        /// Its text.
        text: String,
    },
    /// Event types are missing from the order.
    #[error("proto/columns.txt has no line for event types that are new. Append:\n{lines}")]
    Missing {
        /// The lines to append.
        lines: String,
    },
    /// A column changed its name.
    #[error(
        "{place}: its column is {column}, but {ordered} in proto/columns.txt: a column keeps its name, so write option (landfall.event) = {{column: \"{ordered}\"}}"
    )]
    Renamed {
        /// File and message.
        place: String,
        /// The name by its option.
        column: String,
        /// The name in the order.
        ordered: String,
    },
    /// An event type of the order is gone.
    #[error(
        "proto/columns.txt, line {line}: {message} is not an event type in proto/. Columns are never removed, since warehouses may load by position: put the message back, and mark it with option deprecated = true"
    )]
    Removed {
        /// Number of the line.
        line: usize,
        /// Full name of the message.
        message: String,
    },
}

/// An event type with the names that its option gives it.
struct Declared {
    event: EventType,
    names_column: bool,
    also: Vec<String>,
}

impl Registry {
    /// The event types of a serialized `FileDescriptorSet`, in the order of `columns`: lines of a column and the full name of its
    /// message, empty lines, and lines that begin with `#`.
    pub fn new(descriptors: &[u8], columns: &str) -> Result<Self, RegistryError> {
        let pool = DescriptorPool::decode(descriptors)?;
        let option = pool.get_extension_by_name(EVENT_OPTION).ok_or(RegistryError::Empty)?;
        let declared = pool.all_messages().filter_map(|message| declared(message, &option));
        let declared: Vec<Declared> = declared.collect::<Result<_, _>>()?;
        if declared.is_empty() {
            return Err(RegistryError::Empty);
        }
        for Declared { event, .. } in &declared {
            event.check()?;
        }
        check_columns(&declared)?;
        let by_name = names(&declared)?;
        let declared = in_order(declared, columns)?;
        let position = |name: &str| declared.iter().position(|event| event.message.full_name() == name);
        let by_name = by_name.into_iter().filter_map(|(name, message)| Some((name, position(&message)?))).collect();
        Ok(Self { types: declared, by_name })
    }

    /// All event types, in column order.
    #[must_use]
    pub fn types(&self) -> &[EventType] {
        &self.types
    }

    /// Index in [`Registry::types`] of the type with this name: full name, simple name or one of its others (`also`).
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

impl EventType {
    /// File and message, for errors.
    fn place(&self) -> String {
        place(&self.message)
    }

    fn check(&self) -> Result<(), RegistryError> {
        let (place, column) = (self.place(), self.column.clone());
        let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_name = column.starts_with(|first: char| first.is_ascii_lowercase()) && column.bytes().all(is_lower);
        if !is_name || column.len() > MAX_NAME {
            return Err(RegistryError::ColumnName { place, column });
        }
        if ENVELOPE.contains(&&*column) || column == UNREGISTERED {
            return Err(RegistryError::EnvelopeColumn { place, column });
        }
        count_leaves(&self.message, &self.message, &mut Vec::new(), &mut 0)
    }
}

fn place(message: &MessageDescriptor) -> String {
    format!("{}: message {}", message.parent_file().name(), message.full_name())
}

/// The event type that a message is, if it has the option.
fn declared(message: MessageDescriptor, option: &ExtensionDescriptor) -> Option<Result<Declared, RegistryError>> {
    let options = message.options();
    if !options.has_extension(option) {
        return None;
    }
    let value = options.get_extension(option);
    let event: &DynamicMessage = value.as_message()?;
    let text = |name| Some(event.get_field_by_name(name)?.as_str()?.to_owned());
    let (column, event_time) = (text("column")?, text("event_time")?);
    let also = event.get_field_by_name("also")?;
    let also = also.as_list()?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let names_column = !column.is_empty();
    let column = if names_column { column } else { snake_case(message.name()) };
    let event_time = Some(event_time).filter(|path| !path.is_empty()).map(|path| time_at(&message, &path)).transpose();
    Some(event_time.map(|event_time| {
        let event = EventType { column, message: message.clone(), event_time };
        Declared { event, names_column, also }
    }))
}

/// The numbers of the fields that lead to a time.
fn time_at(event: &MessageDescriptor, path: &str) -> Result<Vec<u32>, RegistryError> {
    let (mut message, mut numbers, mut names) = (event.clone(), Vec::new(), path.split('.').peekable());
    while let Some(name) = names.next() {
        let is_last = names.peek().is_none();
        let field = message.get_field_by_name(name).filter(|field| {
            field.cardinality() != Cardinality::Repeated
                && !field.is_group()
                && field.containing_oneof().is_none_or(|oneof| oneof.fields().len() == 1)
        });
        let inner = field.and_then(|field| Some((field.number(), field.kind().as_message()?.clone())));
        let is_time = |inner: &MessageDescriptor| inner.full_name() == "google.protobuf.Timestamp";
        let Some((number, inner)) = inner.filter(|(_, inner)| is_last == is_time(inner)) else {
            let expected = if is_last { "google.protobuf.Timestamp" } else { "message" };
            let (path, field) = (path.to_owned(), name.to_owned());
            return Err(RegistryError::EventTime { place: place(event), path, field, expected });
        };
        numbers.push(number);
        message = inner;
    }
    Ok(numbers)
}

/// Whether each column belongs to one message.
fn check_columns(declared: &[Declared]) -> Result<(), RegistryError> {
    let mut by_column: BTreeMap<&str, &EventType> = BTreeMap::new();
    for Declared { event, .. } in declared {
        if let Some(first) = by_column.insert(&event.column, event) {
            let (column, first, second) = (event.column.clone(), first.place(), event.place());
            return Err(RegistryError::SharedColumn { column, first, second });
        }
    }
    Ok(())
}

/// Every value of the attribute `type`, with the full name of its message.
fn names(declared: &[Declared]) -> Result<BTreeMap<String, String>, RegistryError> {
    let mut names: BTreeMap<String, &EventType> = BTreeMap::new();
    for Declared { event, names_column, also } in declared {
        let simple = event.message.name();
        let is_only = declared.iter().filter(|other| other.event.message.name() == simple).count() == 1;
        // Of several versions, the one whose column has the name without a version has it too.
        let simple = (is_only || !names_column).then_some(simple);
        for name in [event.message.full_name()].into_iter().chain(simple).chain(also.iter().map(String::as_str)) {
            if let Some(first) = names.insert(name.to_owned(), event)
                && first.message != event.message
            {
                let (first, second) = (first.place(), event.place());
                return Err(RegistryError::SharedName { name: name.to_owned(), first, second });
            }
        }
    }
    Ok(names.into_iter().map(|(name, event)| (name, event.message.full_name().to_owned())).collect())
}

/// The event types in the order of `columns`, which has to have all of them and no others.
fn in_order(declared: Vec<Declared>, columns: &str) -> Result<Vec<EventType>, RegistryError> {
    let types = declared.into_iter().map(|declared| (declared.event.message.full_name().to_owned(), declared.event));
    let mut types: BTreeMap<String, EventType> = types.collect();
    let (mut ordered, mut seen) = (Vec::with_capacity(types.len()), BTreeSet::new());
    // Some editors put a mark in front of the first line.
    for (at, text) in columns.trim_start_matches('\u{feff}').lines().enumerate() {
        let (line, text) = (at + 1, text.trim());
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let Some((column, message)) = text.split_once(' ').map(|(column, message)| (column, message.trim())) else {
            return Err(RegistryError::Line { line, text: text.to_owned() });
        };
        if message.contains(' ') {
            return Err(RegistryError::Line { line, text: text.to_owned() });
        }
        if !seen.insert(column) || !seen.insert(message) {
            return Err(RegistryError::Repeated { line, text: text.to_owned() });
        }
        let Some(event) = types.remove(message) else {
            return Err(RegistryError::Removed { line, message: message.to_owned() });
        };
        if event.column != column {
            return Err(RegistryError::Renamed {
                place: event.place(),
                column: event.column,
                ordered: column.to_owned(),
            });
        }
        ordered.push(event);
    }
    if types.is_empty() {
        return Ok(ordered);
    }
    let mut lines: Vec<String> =
        types.values().map(|event| format!("{} {}", event.column, event.message.full_name())).collect();
    lines.sort();
    Err(RegistryError::Missing { lines: lines.join("\n") })
}

/// Counts the columns of `message`, which is a part of `event`, and checks their names.
fn count_leaves(
    event: &MessageDescriptor,
    message: &MessageDescriptor,
    above: &mut Vec<String>,
    leaves: &mut usize,
) -> Result<(), RegistryError> {
    above.push(message.full_name().to_owned());
    check_fields(message)?;
    for field in message.fields() {
        match field.kind() {
            Kind::Message(inner) if !is_one_column(&inner, field.is_group(), above) => {
                count_leaves(event, &inner, above, leaves)?;
            }
            _ => *leaves += 1,
        }
        if *leaves > MAX_LEAVES {
            return Err(RegistryError::TooWide { place: place(event), field: field.full_name().to_owned() });
        }
    }
    above.pop();
    Ok(())
}

/// Whether the names of fields stay apart as columns. The compiler refuses some, but none of proto2.
fn check_fields(message: &MessageDescriptor) -> Result<(), RegistryError> {
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    for field in &message.descriptor_proto().field {
        if let Some(first) = names.insert(field.name().to_ascii_lowercase(), field.name()) {
            let (place, first, second) = (place(message), first.to_owned(), field.name().to_owned());
            return Err(RegistryError::SameColumn { place, first, second });
        }
    }
    Ok(())
}

/// Whether a message is a single column: a time, a wrapped value, or JSON.
fn is_one_column(message: &MessageDescriptor, is_group: bool, above: &[String]) -> bool {
    let name = message.full_name();
    is_group || name.starts_with("google.protobuf.") || above.iter().any(|outer| outer == name)
}

/// `OrderCreated` → `order_created`, `HTTPRequestSeen` → `http_request_seen`.
pub(super) fn snake_case(name: &str) -> String {
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
