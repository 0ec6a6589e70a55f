//! What a table lacks for the rows that are to be written to it.

use serde_json::{Map, Value};

use crate::schema::{Field, FieldType, Mode, places};

/// What has to change, by names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) added: Vec<String>,
    /// REQUIRED columns that rows may lack.
    pub(super) relaxed: Vec<String>,
}

impl Change {
    /// Whether the table can be left as it is; if it may not be changed, it can although it demands a column.
    pub(super) fn is_nothing(&self, evolves: bool) -> bool {
        self.added.is_empty() && (self.relaxed.is_empty() || !evolves)
    }
}

/// Compares what a table has with what rows are made of. The error is what no change could mend.
pub(super) fn compare(have: &[Field], want: &[Field]) -> Result<Change, String> {
    let mut change = Change::default();
    within(have, want, "", &mut change)?;
    Ok(change)
}

fn within(have: &[Field], want: &[Field], path: &str, change: &mut Change) -> Result<(), String> {
    let full = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let (there, wanted) = (places(have), places(want));
    for field in want {
        let path = full(&field.name);
        let place = there.get(&field.name.to_ascii_lowercase());
        let Some(old) = place.and_then(|place| have.get(*place)) else {
            change.added.push(path);
            continue;
        };
        if (old.mode == Mode::Repeated) != (field.mode == Mode::Repeated) {
            return Err(format!("column {path} is REPEATED on one side only"));
        }
        match (&old.kind, &field.kind) {
            (FieldType::Record(have), FieldType::Record(want)) => within(have, want, &path, change)?,
            (old, new) if old == new => {}
            (old, new) => {
                return Err(format!(
                    "column {path} is {} in the table and {} for rows; change the one or the other",
                    old.name(),
                    new.name()
                ));
            }
        }
        if old.mode == Mode::Required && field.mode == Mode::Nullable {
            change.relaxed.push(path);
        }
    }
    let lacking = |old: &&Field| !wanted.contains_key(&old.name.to_ascii_lowercase());
    match have.iter().filter(|old| old.mode == Mode::Required).find(lacking) {
        Some(old) => Err(format!("column {} is REQUIRED and rows do not have it", full(&old.name))),
        None => Ok(()),
    }
}

/// The table's own schema with the columns it lacks, everything else in it (descriptions, policy tags, defaults) untouched.
pub(super) fn merged(raw: &Value, want: &[Field]) -> Value {
    let mut schema = raw.as_object().cloned().unwrap_or_default();
    let mut fields = schema.get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
    for field in want {
        let found = fields.iter_mut().filter_map(Value::as_object_mut).find(|old| {
            old.get("name").and_then(Value::as_str).is_some_and(|name| name.eq_ignore_ascii_case(&field.name))
        });
        match found {
            Some(old) => adapt(old, field),
            None => fields.push(added(field).to_value()),
        }
    }
    schema.insert("fields".to_owned(), Value::Array(fields));
    Value::Object(schema)
}

fn adapt(old: &mut Map<String, Value>, field: &Field) {
    let is_required =
        old.get("mode").and_then(Value::as_str).is_some_and(|mode| mode.eq_ignore_ascii_case("REQUIRED"));
    if field.mode == Mode::Nullable && is_required {
        old.insert("mode".to_owned(), "NULLABLE".into());
    }
    if let FieldType::Record(want) = &field.kind {
        let merged = merged(&Value::Object(old.clone()), want);
        if let Some(fields) = merged.get("fields") {
            old.insert("fields".to_owned(), fields.clone());
        }
    }
}

/// Rows that are there already lack it, so it cannot be REQUIRED.
fn added(field: &Field) -> Field {
    let mut field = field.clone();
    if field.mode == Mode::Required {
        field.mode = Mode::Nullable;
    }
    field
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_added_and_relaxed_and_nothing_else_is_touched() {
        let raw = json!({ "fields": [
            {"name": "ID", "type": "INTEGER", "mode": "REQUIRED", "policyTags": {"names": ["x"]}},
            {"name": "r", "type": "RECORD", "fields": [{"name": "a", "type": "STRING", "description": "d"}]},
            {"name": "extra", "type": "STRING"},
        ]});
        let have = crate::TableSchema::from_value(&raw).unwrap();
        let inner = vec![Field::nullable("A", FieldType::String), Field::required("b", FieldType::Int64)];
        let want = [
            Field::nullable("id", FieldType::Int64),
            Field::nullable("r", FieldType::Record(inner)),
            Field::repeated("tags", FieldType::String),
        ];
        let change = compare(&have.fields, &want).unwrap();
        assert_eq!(
            (change.added, change.relaxed),
            (vec!["r.b".into(), "tags".into()], vec!["id".to_owned()])
        );
        let expected = json!({ "fields": [
            {"name": "ID", "type": "INTEGER", "mode": "NULLABLE", "policyTags": {"names": ["x"]}},
            {"name": "r", "type": "RECORD", "fields": [
                {"name": "a", "type": "STRING", "description": "d"}, {"name": "b", "type": "INTEGER", "mode": "NULLABLE"}]},
            {"name": "extra", "type": "STRING"},
            {"name": "tags", "type": "STRING", "mode": "REPEATED"},
        ]});
        assert_eq!(merged(&raw, &want), expected);
        let after = crate::TableSchema::from_value(&expected).unwrap();
        assert_eq!(compare(&after.fields, &want), Ok(Change::default()));
    }

    #[test]
    fn what_no_change_mends_is_named() {
        let have = [Field::nullable("a", FieldType::String), Field::required("must", FieldType::Bool)];
        let must = Field::nullable("must", FieldType::Bool);
        let error = |want: &[Field]| compare(&have, want).unwrap_err();
        assert!(
            error(&[Field::nullable("A", FieldType::Int64)])
                .contains("column A is STRING in the table and INTEGER for rows")
        );
        assert!(error(&[Field::repeated("a", FieldType::String), must]).contains("REPEATED on one side"));
        assert!(
            error(&[Field::nullable("a", FieldType::String)])
                .contains("column must is REQUIRED and rows do not have it")
        );
    }
}
