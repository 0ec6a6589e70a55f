//! The columns of a table.

use std::collections::{HashMap, HashSet};

mod descriptor;
mod json;
mod kind;
mod name;

pub(crate) use descriptor::{descriptor, range_fields};
pub use json::SchemaJsonError;
pub use kind::{FieldType, RangeOf};
pub(crate) use name::{is_legal, is_reserved, legal};

/// The columns that rows are written to, declared by the user.
///
/// What is declared decides how values are read and which rows are letters; it is part of the layout's identity. The table
/// itself may have more columns, which then are null, and must not have less, unless the sink may add them.
///
/// ```
/// use aqueduct_sink_bigquery::{Field, FieldType, TableSchema};
///
/// let schema = TableSchema::new([
///     Field::required("id", FieldType::Int64),
///     Field::nullable("amount", FieldType::Numeric),
///     Field::repeated("tags", FieldType::String),
/// ]);
/// let same = TableSchema::from_json(
///     r#"[{"name": "id", "type": "INTEGER", "mode": "REQUIRED"},
///         {"name": "amount", "type": "NUMERIC"},
///         {"name": "tags", "type": "STRING", "mode": "REPEATED"}]"#,
/// )?;
/// assert_eq!(schema, same);
/// # Ok::<(), aqueduct_sink_bigquery::SchemaJsonError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSchema {
    pub(crate) fields: Vec<Field>,
}

/// One column, or one field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub(crate) name: String,
    pub(crate) kind: FieldType,
    pub(crate) mode: Mode,
    pub(crate) description: Option<String>,
    /// Characters of a `STRING`, bytes of a `BYTES`.
    pub(crate) max_length: Option<u64>,
    /// Digits of a decimal, and those after the point.
    pub(crate) precision: Option<(u64, u64)>,
    /// What values call it, if that is not its name.
    pub(crate) source: Option<Box<str>>,
    /// Its number in the rows' protobuf type; 0 if that is its place.
    pub(crate) number: u32,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// One or none.
    #[default]
    Nullable,
    /// One.
    Required,
    /// Any number.
    Repeated,
}

impl Field {
    /// A field that may be null.
    pub fn nullable(name: impl Into<String>, kind: FieldType) -> Self {
        Self {
            name: name.into(),
            kind,
            mode: Mode::Nullable,
            description: None,
            max_length: None,
            precision: None,
            source: None,
            number: 0,
        }
    }

    /// A field that has a value in every row.
    pub fn required(name: impl Into<String>, kind: FieldType) -> Self {
        Self { mode: Mode::Required, ..Self::nullable(name, kind) }
    }

    /// A field with any number of values.
    pub fn repeated(name: impl Into<String>, kind: FieldType) -> Self {
        Self { mode: Mode::Repeated, ..Self::nullable(name, kind) }
    }

    /// Whether there is nothing in it: a record without fields, which no table has.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&self.kind, FieldType::Record(fields) if fields.is_empty())
    }

    /// Its description in the table.
    #[must_use]
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = Some(description.into());
        self
    }

    /// The field's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it holds.
    pub fn kind(&self) -> &FieldType {
        &self.kind
    }

    /// How many values it has.
    pub fn mode(&self) -> Mode {
        self.mode
    }
}

/// Why a schema cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {path:?} {problem}")]
pub struct SchemaProblem {
    path: String,
    problem: &'static str,
}

impl TableSchema {
    /// Deepest nesting of records.
    pub const DEPTH_MAX: usize = 15;
    /// Most fields, those in records included.
    pub const FIELDS_MAX: usize = 10_000;
    /// Longest name of a field, in characters.
    pub const NAME_MAX: usize = 300;

    /// A schema of these columns.
    pub fn new(fields: impl IntoIterator<Item = Field>) -> Self {
        Self { fields: fields.into_iter().collect() }
    }

    /// The columns.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Everything of it that decides rows, as text.
    pub(crate) fn identity(&self) -> String {
        fn bare(fields: &[Field]) -> Vec<Field> {
            let strip = |field: &Field| Field {
                description: None,
                kind: match &field.kind {
                    FieldType::Record(fields) => FieldType::Record(bare(fields)),
                    kind => kind.clone(),
                },
                ..field.clone()
            };
            fields.iter().map(strip).collect()
        }
        Self { fields: bare(&self.fields) }.to_value().to_string()
    }

    /// Everything that is wrong with it; empty if nothing is.
    pub fn problems(&self) -> Vec<SchemaProblem> {
        let mut problems = Vec::new();
        let mut count = 0;
        check(&self.fields, "", 1, &mut count, &mut problems);
        if count > Self::FIELDS_MAX {
            problems.push(SchemaProblem { path: String::new(), problem: "and 9,999 others are the most" });
        }
        problems
    }
}

/// Where fields are, by their names in lower case: names do not differ by case, and a table may have ten thousand.
pub(crate) fn places(fields: &[Field]) -> HashMap<String, usize> {
    fields.iter().enumerate().map(|(place, field)| (field.name.to_ascii_lowercase(), place)).collect()
}

fn check(fields: &[Field], path: &str, depth: usize, count: &mut usize, problems: &mut Vec<SchemaProblem>) {
    let mut problem = |path: &str, problem| problems.push(SchemaProblem { path: path.to_owned(), problem });
    if fields.is_empty() {
        problem(path, "has no fields");
    }
    if depth > TableSchema::DEPTH_MAX + 1 {
        problem(path, "is nested deeper than BigQuery allows");
        return;
    }
    let mut names = HashSet::new();
    let mut records = Vec::new();
    for field in fields {
        *count += 1;
        let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
        if !is_legal(&field.name) {
            problem(&path, "needs a name of ASCII letters, digits and _ that begins with no digit");
        }
        if field.name.len() > TableSchema::NAME_MAX {
            problem(&path, "has too long a name");
        }
        if is_reserved(&field.name) {
            problem(&path, "has a name that BigQuery keeps for itself");
        }
        if !names.insert(field.name.to_ascii_uppercase()) {
            problem(&path, "is there twice; names do not differ by case");
        }
        let limits = (field.kind.digits(), field.precision);
        if let (Some((before, behind)), Some((precision, scale))) = limits
            && (scale > behind || precision < scale.max(1) || precision - scale > before)
        {
            problem(&path, "has a precision or scale outside of its type");
        }
        if let FieldType::Record(fields) = &field.kind {
            records.push((path, fields));
        }
    }
    for (path, fields) in records {
        check(fields, &path, depth + 1, count, problems);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> Field {
        (0..depth).fold(Field::nullable("leaf", FieldType::Bool), |inner, _| {
            Field::nullable("record", FieldType::Record(vec![inner]))
        })
    }

    #[test]
    fn every_problem_is_named_at_once() {
        let schema = TableSchema::new([
            Field::nullable("", FieldType::Bool),
            Field::nullable("1st", FieldType::Bool),
            Field::nullable("naïve", FieldType::Bool),
            Field::nullable("a", FieldType::Bool),
            Field::nullable("A", FieldType::Bool),
            Field::nullable("_partitiontime", FieldType::Timestamp),
            Field::nullable("r", FieldType::Record(vec![])),
            Field::nullable("x".repeat(301), FieldType::Bool),
            Field { precision: Some((40, 9)), ..Field::nullable("n", FieldType::Numeric) },
        ]);
        let problems: Vec<_> = schema.problems().iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 8, "{problems:#?}");
        assert!(problems.contains(&"field \"A\" is there twice; names do not differ by case".to_owned()));
    }

    #[test]
    fn limits_are_the_last_that_pass() {
        assert_eq!(TableSchema::new([nested(15)]).problems(), []);
        assert_eq!(TableSchema::new([nested(16)]).problems().len(), 1);
        let many =
            |count| TableSchema::new((0..count).map(|n| Field::nullable(format!("f{n}"), FieldType::Bool)));
        assert_eq!(many(TableSchema::FIELDS_MAX).problems(), []);
        assert_eq!(many(TableSchema::FIELDS_MAX + 1).problems().len(), 1);
        let decimal =
            |precision| Field { precision: Some(precision), ..Field::nullable("n", FieldType::Numeric) };
        assert_eq!(TableSchema::new([decimal((38, 9))]).problems(), []);
        assert_eq!(TableSchema::new([decimal((39, 9))]).problems().len(), 1);
    }
}
