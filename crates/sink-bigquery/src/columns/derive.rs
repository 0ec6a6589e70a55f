//! From the schema of values to columns. [`Columns`](super::Columns) has the table.

use aqueduct_core::{DataType, Field as Member, Poison, PoisonReason, Schema};

use super::DerivedColumns;
use super::merge::stored;
use crate::schema::{Field, FieldType, Mode, TableSchema, legal};

/// The longest description of a column (<https://cloud.google.com/bigquery/quotas#all_tables>), in characters.
const DESCRIPTION_MAX: usize = 1024;

/// The columns of values of `schema`. Fields of which nothing can be stored are empty records among them.
pub(super) fn derive(schema: &Schema, options: &DerivedColumns) -> Result<Vec<Field>, Poison> {
    let DataType::Struct(members) = schema.root().data_type() else {
        let problem = format!("values of {} have no fields to make columns of", named(schema));
        return Err(Poison::new(PoisonReason::Malformed, problem));
    };
    let fields = columns(members, 1, options);
    let columns = TableSchema::new(stored(&fields));
    // Of values without anything in them there is still which records they were.
    let problem = columns.problems().into_iter().next().filter(|_| !columns.fields.is_empty());
    match problem {
        None => Ok(fields),
        Some(problem) => {
            let problem = format!("{} makes no table: {problem}", named(schema));
            Err(Poison::new(PoisonReason::InvalidField, problem))
        }
    }
}

/// A schema in messages.
pub(super) fn named(schema: &Schema) -> String {
    let name: String = schema.name().unwrap_or("without a name").chars().take(64).collect();
    match schema.version() {
        Some(version) => format!("schema {name:?} version {version}"),
        None => format!("schema {name:?}"),
    }
}

fn columns(members: &[Member], depth: usize, options: &DerivedColumns) -> Vec<Field> {
    members
        .iter()
        .map(|member| {
            let mut field = column(member.name(), member, depth, options);
            field.source = legal(member.name()).map(|column| {
                field.name = column;
                member.name().into()
            });
            field.description = member.doc().map(|doc| doc.chars().take(DESCRIPTION_MAX).collect());
            field
        })
        .collect()
}

/// One column for values of `member`; an empty record if there is nothing to store.
fn column(name: &str, member: &Member, depth: usize, options: &DerivedColumns) -> Field {
    let (kind, repeated) = kind(member.data_type(), depth, options);
    let mode = match (repeated, options.required && !member.is_nullable()) {
        (true, _) => Mode::Repeated,
        (false, true) => Mode::Required,
        (false, false) => Mode::Nullable,
    };
    Field { mode, ..Field::nullable(name, kind) }
}

const NOTHING: FieldType = FieldType::Record(Vec::new());

/// What a column holds, and whether it is REPEATED.
fn kind(data_type: &DataType, depth: usize, options: &DerivedColumns) -> (FieldType, bool) {
    let single = match data_type {
        DataType::Null => NOTHING,
        DataType::Bool => FieldType::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 | DataType::UInt32 => {
            FieldType::Int64
        }
        DataType::UInt64 => FieldType::Numeric,
        DataType::Float32 | DataType::Float64 => FieldType::Float64,
        DataType::Decimal { precision, scale } => decimal(*precision, *scale),
        DataType::String | DataType::Uuid | DataType::Enum(_) => FieldType::String,
        DataType::Bytes | DataType::Fixed(_) => FieldType::Bytes,
        DataType::Date => FieldType::Date,
        DataType::Time(_) => FieldType::Time,
        DataType::Timestamp { utc: true, .. } => FieldType::Timestamp,
        DataType::Timestamp { utc: false, .. } => FieldType::DateTime,
        DataType::Duration => FieldType::Interval,
        DataType::Struct(members) => record(depth, |depth| columns(members, depth, options)),
        DataType::List(element) => return list(element, depth, options),
        DataType::Map(value) => return map(value, depth, options),
        // Unions, anything, and what later versions of the core know.
        _ => FieldType::Json,
    };
    (single, false)
}

/// A record at this depth, if BigQuery nests so deep; empty if there is nothing in it.
fn record(depth: usize, fields: impl FnOnce(usize) -> Vec<Field>) -> FieldType {
    if depth > TableSchema::DEPTH_MAX {
        return FieldType::Json;
    }
    let fields = fields(depth + 1);
    if fields.iter().all(Field::is_empty) { NOTHING } else { FieldType::Record(fields) }
}

fn list(element: &Member, depth: usize, options: &DerivedColumns) -> (FieldType, bool) {
    match element.data_type() {
        // A list of lists needs a record between them.
        DataType::List(_) | DataType::Map(_) => {
            match record(depth, |depth| vec![column("element", element, depth, options)]) {
                // A map that has become JSON needs none.
                FieldType::Record(fields)
                    if fields.iter().any(|field| field.mode != Mode::Repeated && !field.is_empty()) =>
                {
                    (FieldType::Json, true)
                }
                kind => (kind, true),
            }
        }
        other => {
            let (kind, _) = kind(other, depth, options);
            (kind, true)
        }
    }
}

fn map(value: &Member, depth: usize, options: &DerivedColumns) -> (FieldType, bool) {
    let entry = record(depth, |depth| {
        let key = Member::new("key", DataType::String);
        vec![column("key", &key, depth, options), column("value", value, depth, options)]
    });
    match &entry {
        // Keys alone are no entries, and what is too deep is one JSON text.
        FieldType::Record(fields) if fields.iter().any(Field::is_empty) => (FieldType::Json, false),
        FieldType::Json => (FieldType::Json, false),
        _ => (entry, true),
    }
}

/// <https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#decimal_types>
fn decimal(precision: u32, scale: u32) -> FieldType {
    let before = precision.saturating_sub(scale);
    for kind in [FieldType::Numeric, FieldType::BigNumeric] {
        if let Some((most_before, most_behind)) = kind.digits()
            && u64::from(before) <= most_before
            && u64::from(scale) <= most_behind
        {
            return kind;
        }
    }
    FieldType::String
}
