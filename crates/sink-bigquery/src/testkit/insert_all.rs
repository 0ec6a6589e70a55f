//! `tabledata.insertAll` (<https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll>).

use std::collections::HashMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::decode::literal;
use super::rest::{Answer, refused};
use super::state::Inner;
use crate::name::TableName;
use crate::row::parsed;
use crate::schema::{Field, FieldType, Mode, range_fields};

/// How long the service remembers an `insertId`: "best effort", "up to one minute"
/// (<https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery#dataconsistency>).
const REMEMBERED: Duration = Duration::from_mins(1);

/// Ids of rows, by table.
pub(super) type InsertIds = HashMap<(TableName, String), Instant>;

impl Inner {
    /// All rows of a request are written, or with `skipInvalidRows` those that can be.
    pub(super) fn insert_all(&mut self, name: &TableName, body: &Value, length: usize) -> Answer {
        let rows = body.get("rows").and_then(Value::as_array).cloned().unwrap_or_default();
        // <https://cloud.google.com/bigquery/quotas#streaming_inserts>
        if length > self.limits.request_bytes {
            return refused(413, "requestTooLarge", "Request payload size exceeds the limit");
        }
        if rows.len() > self.limits.rows_per_insert {
            return refused(400, "invalid", "too many rows present in the request");
        }
        if rows.is_empty() {
            return refused(400, "invalid", "No rows present in the request.");
        }
        let skips = body.get("skipInvalidRows").and_then(Value::as_bool).unwrap_or(false);
        let Some(table) = self.tables.get(name) else {
            return refused(404, "notFound", &format!("Not found: Table {name}"));
        };
        let columns = table.write_schema().fields.clone();
        let read = rows.iter().map(|row| {
            let row = record(&columns, row.get("json").unwrap_or(&Value::Null))?;
            match &self.refuses {
                Some(refuses) if (refuses.0)(&row) => Err("the row is refused".to_owned()),
                _ => Ok(row),
            }
        });
        let read: Vec<Result<Value, String>> = read.collect();
        let fails = read.iter().any(Result::is_err);
        let mut errors = Vec::new();
        let mut written = Vec::new();
        for (index, (row, read)) in rows.iter().zip(read).enumerate() {
            let error = match read {
                Ok(columns) if skips || !fails => {
                    written.push((row.get("insertId").and_then(Value::as_str).map(str::to_owned), columns));
                    continue;
                }
                Ok(_) => json!({ "reason": "stopped", "location": "", "message": "" }),
                Err(message) => json!({ "reason": "invalid", "location": "", "message": message }),
            };
            errors.push(json!({ "index": index, "errors": [error] }));
        }
        let now = Instant::now();
        for (id, columns) in written {
            let is_known = id.is_some_and(|id| {
                let before = self.insert_ids.insert((name.clone(), id), now);
                before.is_some_and(|at| now.duration_since(at) < REMEMBERED)
            });
            if !is_known {
                self.show(name, "insertAll", &[columns]);
            }
        }
        let mut answer = json!({ "kind": "bigquery#tableDataInsertAllResponse" });
        if let (false, Some(answer)) = (errors.is_empty(), answer.as_object_mut()) {
            answer.insert("insertErrors".to_owned(), errors.into());
        }
        (200, answer)
    }
}

fn record(columns: &[Field], row: &Value) -> Result<Value, String> {
    let row = row.as_object().ok_or("the row is no object")?;
    let mut record = Map::new();
    for (name, value) in row {
        let column = columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let column = column.ok_or_else(|| format!("no such field: {name}."))?;
        match (column.mode, value) {
            (_, Value::Null) => {}
            (Mode::Repeated, Value::Array(elements)) => {
                let elements = elements.iter().map(|element| single(column, element));
                record.insert(column.name.clone(), elements.collect::<Result<Vec<_>, _>>()?.into());
            }
            (Mode::Repeated, _) => return Err(format!("{name} is no list")),
            (Mode::Nullable | Mode::Required, value) => {
                record.insert(column.name.clone(), single(column, value)?);
            }
        }
    }
    match columns.iter().find(|column| column.mode == Mode::Required && !record.contains_key(&column.name)) {
        Some(column) => Err(format!("Missing required field: {}.", column.name)),
        None => Ok(Value::Object(record)),
    }
}

/// In the form that rows have however they came.
fn single(column: &Field, value: &Value) -> Result<Value, String> {
    let wrong = || format!("Cannot convert value to {}", column.kind.name());
    let text = value.as_str();
    let within = |length: usize| column.max_length.is_none_or(|max| length as u64 <= max);
    let read = match (&column.kind, text) {
        (FieldType::Record(fields), _) => return record(fields, value),
        (FieldType::Range(of), _) => return record(&range_fields(of.element()), value),
        (FieldType::Int64, Some(text)) => text.parse::<i64>().ok().map(Value::from),
        (FieldType::Int64, None) => value.as_i64().map(Value::from),
        (FieldType::Float64, None) => value.as_f64().map(Value::from),
        (FieldType::Float64, Some("NaN")) => Some("NaN".into()),
        (FieldType::Float64, Some("Infinity")) => Some("inf".into()),
        (FieldType::Float64, Some("-Infinity")) => Some("-inf".into()),
        (FieldType::Bool, None) => value.as_bool().map(Value::from),
        (FieldType::Timestamp, Some(text)) => parsed::timestamp(text).map(Value::from),
        (FieldType::Date, Some(text)) => parsed::date(text).map(Value::from),
        (FieldType::Bytes, Some(text)) => {
            let length = STANDARD.decode(text).ok().map(|bytes| bytes.len());
            length.filter(|length| within(*length)).map(|_| text.into())
        }
        (FieldType::String, Some(text)) => within(text.chars().count()).then(|| text.into()),
        (kind, Some(other)) => literal(kind, column, other).then(|| other.into()),
        _ => None,
    };
    read.ok_or_else(wrong)
}
