//! The event types → the tables that hold their files, apart from any dialect.

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use clap::ValueEnum;
use columns::{MessageColumns, utc_micros};
use shared::event::{ENVELOPE, EventType, Registry, UNREGISTERED};

/// The name of the table with the events of all types.
pub const EVENTS: &str = "events";

/// How parquet-writer lays out its files (`EVENTS_LAYOUT`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Layout {
    /// One table, with a column for each event type.
    #[default]
    Together,
    /// A table for each event type, and one for events of types that are not registered.
    ByType,
}

impl Layout {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Together => "together",
            Self::ByType => "by-type",
        }
    }
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// The folder of its files, if they do not have that of all files.
    pub folder: Option<String>,
    pub columns: Vec<Column>,
}

/// A column of a table, or a member of a struct.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub kind: Kind,
    pub nullable: bool,
}

/// What parquet-writer writes, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Boolean,
    Int32,
    Int64,
    Float32,
    Float64,
    Decimal {
        precision: u8,
        scale: i8,
    },
    Text,
    Bytes,
    /// A point in time, in microseconds.
    Instant,
    Struct(Vec<Column>),
    List(Box<Kind>),
    Map(Box<Kind>, Box<Kind>),
}

/// The files have a column of a type that no dialect has been told about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the column {column} has the type {of}, for which landfall ddl knows no SQL type; please report this")]
pub struct UnknownType {
    pub column: String,
    pub of: DataType,
}

/// The tables of all event types.
pub fn tables(registry: &Registry, layout: Layout) -> Result<Vec<Table>, UnknownType> {
    let table = |name: &str, folder: Option<&str>, types: &[EventType]| {
        let columns = members(&file_schema(types).fields)?;
        Ok(Table { name: name.to_owned(), folder: folder.map(str::to_owned), columns })
    };
    if layout == Layout::Together {
        return Ok(vec![table(EVENTS, None, registry.types())?]);
    }
    let of_types = registry.types().iter();
    let of_types = of_types.map(|event| table(&event.column, Some(&event.column), std::slice::from_ref(event)));
    of_types.chain([table(UNREGISTERED, Some(UNREGISTERED), &[])]).collect()
}

/// The columns of a file with events of these types: those of parquet-writer, which a test compares.
pub fn file_schema(types: &[EventType]) -> Schema {
    let [event_id, message_id, source, type_name, sent_at, sha256, attributes, raw] = ENVELOPE;
    let envelope = [
        Field::new(event_id, DataType::Utf8, false),
        Field::new(message_id, DataType::Utf8, false),
        Field::new(source, DataType::Utf8, true),
        Field::new(type_name, DataType::Utf8, false),
        Field::new(sent_at, utc_micros(), false),
        Field::new(sha256, DataType::Binary, false),
        Field::new_map(
            attributes,
            "key_value",
            Field::new("key", DataType::Utf8, false),
            Field::new("value", DataType::Utf8, false),
            false,
            true,
        ),
        Field::new(raw, DataType::Binary, true),
    ];
    let of_type = |event: &EventType| {
        let columns = MessageColumns::new(&event.message);
        Field::new(&event.column, columns.data_type(), true)
    };
    Schema::new(envelope.into_iter().chain(types.iter().map(of_type)).collect::<Vec<_>>())
}

fn members(fields: &Fields) -> Result<Vec<Column>, UnknownType> {
    fields.iter().map(|field| Column::of(field)).collect()
}

impl Column {
    fn of(field: &Field) -> Result<Self, UnknownType> {
        let kind = Kind::of(field.name(), field.data_type())?;
        Ok(Self { name: field.name().clone(), kind, nullable: field.is_nullable() })
    }
}

impl Kind {
    fn of(column: &str, data_type: &DataType) -> Result<Self, UnknownType> {
        let unknown = || UnknownType { column: column.to_owned(), of: data_type.clone() };
        Ok(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int32 => Self::Int32,
            DataType::Int64 => Self::Int64,
            DataType::Float32 => Self::Float32,
            DataType::Float64 => Self::Float64,
            DataType::Decimal128(precision, scale) => Self::Decimal { precision: *precision, scale: *scale },
            DataType::Utf8 => Self::Text,
            DataType::Binary => Self::Bytes,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Instant,
            DataType::Struct(fields) => Self::Struct(members(fields)?),
            DataType::List(element) => Self::List(Box::new(Self::of(column, element.data_type())?)),
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return Err(unknown()) };
                let [key, value] = <[Column; 2]>::try_from(members(fields)?).map_err(|_| unknown())?;
                Self::Map(Box::new(key.kind), Box::new(value.kind))
            }
            _ => return Err(unknown()),
        })
    }
}
