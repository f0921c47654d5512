//! The columns of the output: what was declared and what the object has, side by side.

use std::{collections::HashSet, sync::Arc};

use arrow::datatypes::{Field, Schema, SchemaRef};
use shared::column_type::ColumnType;

use super::{
    ConvertError,
    declaration::Declared,
    plan::Plan,
    summary::{OutputColumn, Renamed, Summary},
    types::data_type,
};

/// Holds the members of a JSON object that are not declared.
const REST: &str = "_rest";
/// Holds a whole JSON value, if nothing is declared.
const RECORD: &str = "record";
/// Begins the names of columns that say what happened to a row.
const CHANGE_PREFIX: &str = "header__";
/// Digits of `header__change_seq`.
const CHANGE_SEQUENCE_DIGITS: u8 = 35;

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The field of the object at this position.
    Field(usize),
    /// The object has no such field.
    Missing(ColumnType),
}

/// The columns of the output.
#[derive(Debug)]
pub(super) struct Layout {
    /// The columns, in the order of the output.
    pub schema: SchemaRef,
    /// Where each of them comes from.
    pub sources: Vec<Source>,
    /// The name and the type of each field, in the order of the object.
    pub fields: Vec<OutputColumn>,
    summary: Summary,
}

/// A column before its name is final.
struct Column {
    name: String,
    column_type: ColumnType,
    field: Option<usize>,
}

impl Layout {
    /// The number of fields that every record has.
    pub(super) const fn width(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn into_summary(self, plan: &Plan) -> Summary {
        let declaration = plan.columns.as_ref();
        Summary {
            as_text: declaration.map(|declaration| declaration.as_text.clone()).unwrap_or_default(),
            declared_records: declaration.and_then(|declaration| declaration.records),
            ..self.summary
        }
    }

    /// The columns of a file whose fields have these names.
    pub(super) fn of_fields(names: &[String], plan: &Plan) -> Result<Self, ConvertError> {
        refuse_duplicates(names)?;
        let declared = plan.columns.as_ref().map(|declaration| &*declaration.columns);
        let fields = fields_of(declared.unwrap_or_default(), names);
        let is_change = |name: &str| plan.changes && is_change_column(name);
        let (mut changes, mut columns, mut added) = (Vec::new(), Vec::new(), Vec::new());
        for (column, field) in declared.unwrap_or_default().iter().zip(&fields) {
            let column_type = if is_change(&column.name) { change_type(&column.name) } else { column.column_type };
            columns.push(Column { name: column.name.clone(), column_type, field: *field });
        }
        for (field, name) in names.iter().enumerate().filter(|(field, _)| !fields.contains(&Some(*field))) {
            let column_type = if is_change(name) { change_type(name) } else { ColumnType::Text };
            let group = if is_change(name) { &mut changes } else { &mut added };
            group.push(Column { name: name_or_position(name, field), column_type, field: Some(field) });
        }
        let name = |column: &Column| column.name.clone();
        let missing = columns.iter().filter(|column| column.field.is_none()).map(name).collect();
        let new = if declared.is_some() { added.iter().map(name).collect() } else { Vec::new() };
        changes.extend(columns);
        changes.extend(added);
        let mut layout = Self::new(changes, names.len());
        (layout.summary.missing, layout.summary.added) = (missing, new);
        Ok(layout)
    }

    /// The columns of JSON objects, or of any JSON values if nothing is declared. The last field is the rest or the whole.
    pub(super) fn of_objects(plan: &Plan) -> Self {
        let declared = plan.columns.as_ref().map(|declaration| &*declaration.columns);
        let last = if declared.is_some() { REST } else { RECORD };
        let typed = declared.unwrap_or_default().iter().map(|column| (column.name.clone(), column.column_type));
        let all = typed.chain([(last.to_owned(), ColumnType::Text)]).enumerate();
        let columns: Vec<Column> =
            all.map(|(field, (name, column_type))| Column { name, column_type, field: Some(field) }).collect();
        let width = columns.len();
        Self::new(columns, width)
    }

    fn new(columns: Vec<Column>, width: usize) -> Self {
        let mut taken = HashSet::new();
        let mut layout = Self {
            schema: Arc::new(Schema::empty()),
            sources: Vec::new(),
            fields: vec![OutputColumn { name: String::new(), column_type: ColumnType::Text }; width],
            summary: Summary::default(),
        };
        for Column { name, column_type, field } in columns {
            let unique = unique(&name, &mut taken);
            if unique != name {
                layout.summary.renamed.push(Renamed { from: name, to: unique.clone() });
            }
            let output = OutputColumn { name: unique, column_type };
            if let Some(slot) = field.and_then(|field| layout.fields.get_mut(field)) {
                slot.clone_from(&output);
            }
            layout.sources.push(field.map_or(Source::Missing(column_type), Source::Field));
            layout.summary.columns.push(output);
        }
        let fields = layout.summary.columns.iter();
        let fields: Vec<_> =
            fields.map(|column| Field::new(&column.name, data_type(column.column_type), true)).collect();
        layout.schema = Arc::new(Schema::new(fields));
        layout
    }
}

fn refuse_duplicates(names: &[String]) -> Result<(), ConvertError> {
    let (mut seen, mut duplicates) = (HashSet::new(), Vec::new());
    for name in names.iter().filter(|name| !name.is_empty()) {
        if !seen.insert(name) && !duplicates.contains(name) {
            duplicates.push(name.clone());
        }
    }
    if duplicates.is_empty() { Ok(()) } else { Err(ConvertError::DuplicateColumns(duplicates)) }
}

/// The position of each declared column among the fields: first by its name, then, for those that are left, whatever the case.
fn fields_of(declared: &[Declared], names: &[String]) -> Vec<Option<usize>> {
    let mut fields: Vec<_> = declared.iter().map(|column| names.iter().position(|name| *name == column.name)).collect();
    for (at, column) in declared.iter().enumerate() {
        let lower = column.name.to_lowercase();
        let field = names
            .iter()
            .enumerate()
            .find(|(field, name)| !fields.contains(&Some(*field)) && name.to_lowercase() == lower);
        if let (Some(slot @ None), Some((field, _))) = (fields.get_mut(at), field) {
            *slot = Some(field);
        }
    }
    fields
}

/// A field without a name gets its position, from 1, for one.
fn name_or_position(name: &str, field: usize) -> String {
    if name.is_empty() { format!("column_{}", field + 1) } else { name.to_owned() }
}

/// A name that no other column has, whatever the case.
fn unique(name: &str, taken: &mut HashSet<String>) -> String {
    let numbered = (2..).map(|number: u32| format!("{name}_{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| taken.insert(name.to_lowercase()));
    free.unwrap_or_default()
}

fn is_change_column(name: &str) -> bool {
    name.get(..CHANGE_PREFIX.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(CHANGE_PREFIX))
}

/// The type of a column that says what happened to a row, the same in all files, whatever a `.dfm` says.
fn change_type(name: &str) -> ColumnType {
    match &*name.to_ascii_lowercase() {
        "header__change_seq" => ColumnType::Decimal { precision: CHANGE_SEQUENCE_DIGITS, scale: 0 },
        "header__timestamp" => ColumnType::Timestamp,
        _ => ColumnType::Text,
    }
}
