//! Rows of a repair, in a table of their own that nobody else knows.
//!
//! A row is made by the plan of its table, as the sink makes it, and refused by columns that are those of its table. So what gets here
//! gets there.

use std::collections::BTreeSet;
use std::time::Duration;

use aqueduct_core::{Clock as _, SystemClock, unix_millis};
use serde_json::{Value, json};

use super::rows::TableRows;
use crate::error::{Answer, At, BigQueryError};
use crate::name::TableName;
use crate::retry::{PATIENT, retried, retried_up_to};
use crate::sink::Parts;
use crate::transport::AppendAnswer;
use crate::writer::{Entry, commit};

/// When the service removes a staging table that a process has left.
const EXPIRATION: Duration = Duration::from_hours(24);
/// How often rows are written anew, each time without more that are refused, or after something was lost.
const ATTEMPTS_MAX: usize = 20;

/// Where rows are.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) table: TableName,
    /// Names of all columns of the target, in its order.
    pub(super) columns: Vec<String>,
    /// Whether the target demands a filter on its partitions of every query.
    pub(super) wants_filter: bool,
    /// Records whose rows the service refuses.
    pub(super) refused: BTreeSet<i64>,
}

/// Puts rows into a new table; `name` is one that nobody has.
pub(super) async fn stage(parts: &Parts, rows: &TableRows, name: String) -> Result<Staged, BigQueryError> {
    let rest = parts.tables.rest();
    let target = retried(|| async {
        rest.table(&rows.table).await?.ok_or_else(|| BigQueryError::NoSuchTable {
            at: At::new("get table", &rows.table),
            answer: Answer::new(404, "notFound", ""),
        })
    });
    let target = target.await?.body;
    let bad_name = |error: crate::TableNameError| BigQueryError::Schema {
        table: rows.table.to_string(),
        problem: error.to_string(),
    };
    let table = TableName::new(rows.table.project(), rows.table.dataset(), name).map_err(bad_name)?;
    let fields = bare(target.pointer("/schema/fields"));
    let expires = unix_millis(SystemClock.now()).saturating_add_unsigned(EXPIRATION.as_secs() * 1_000);
    let body = json!({
        "tableReference": { "projectId": table.project(), "datasetId": table.dataset(), "tableId": table.table() },
        "schema": { "fields": fields },
        "description": format!("rows of {} that are on their way; safe to delete when no re-drive runs", rows.table),
        "expirationTime": expires.to_string(),
    });
    let created = retried(|| async {
        match rest.insert_table(&table, &body).await {
            // The answer to the first call was lost: nobody else has the name.
            Err(BigQueryError::TableBusy { .. }) => Ok(()),
            created => created,
        }
    });
    created.await?;
    let names = fields.iter().filter_map(|field| field.get("name").and_then(Value::as_str));
    let columns = names.map(str::to_owned).collect();
    let wants = |pointer| target.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let wants_filter = wants("/requirePartitionFilter") || wants("/timePartitioning/requirePartitionFilter");
    let mut staged = Staged { table, columns, wants_filter, refused: BTreeSet::new() };
    if let Err(error) = write(parts, rows, &mut staged).await {
        discard(parts, &staged.table).await;
        return Err(error);
    }
    Ok(staged)
}

/// Removes it; what fails here is removed by the service later.
pub(super) async fn discard(parts: &Parts, table: &TableName) {
    if let Err(error) = parts.tables.rest().delete_table(table).await {
        tracing::debug!(%table, %error, "a staging table is left to expire");
    }
}

/// Nothing of a stream is visible before it is committed, and it is committed once
/// (<https://cloud.google.com/bigquery/docs/write-api-batch>): whatever fails before that begins with a new one. A commit that ends
/// without a verdict is not tried with another: whoever calls stages again, into another table.
async fn write(parts: &Parts, rows: &TableRows, staged: &mut Staged) -> Result<(), BigQueryError> {
    for _ in 0..ATTEMPTS_MAX {
        if rows.rows.iter().all(|(offset, _)| staged.refused.contains(offset)) {
            return Ok(());
        }
        let table = &staged.table;
        let appended = retried_up_to(PATIENT, || async {
            append(parts, rows, table, &staged.refused).await.map_err(|error| match error {
                // It was made a moment ago, and not everybody knows.
                BigQueryError::NoSuchTable { at, answer } => BigQueryError::TableBusy { at, answer },
                error => error,
            })
        });
        match appended.await? {
            Appended::All(entry) => {
                return retried(|| async { commit(&*parts.transport, &entry).await }).await;
            }
            Appended::Refused(offsets) => staged.refused.extend(offsets),
        }
    }
    let at = At::new("append rows", &rows.table);
    Err(BigQueryError::Unknown { at, answer: Answer::new("", "", "rows are refused time and again") })
}

enum Appended {
    All(Entry),
    Refused(Vec<i64>),
}

async fn append(
    parts: &Parts,
    rows: &TableRows,
    table: &TableName,
    refused: &BTreeSet<i64>,
) -> Result<Appended, BigQueryError> {
    let transport = &*parts.transport;
    parts.quota.take(table.project())?;
    let stream = transport.create_pending_stream(table).await?;
    let mut connection = transport.connect(&stream, &rows.encoder.descriptor()).await?;
    let mut sent = 0_i64;
    for (offsets, chunk) in requests(rows, refused, parts.options.append_bytes) {
        connection.send(sent, chunk).await?;
        sent += i64::try_from(offsets.len()).unwrap_or(i64::MAX);
        if let AppendAnswer::RowsRefused(places) = connection.receive().await? {
            let named: Vec<_> = places.iter().filter_map(|place| offsets.get(*place).copied()).collect();
            if named.is_empty() {
                let answer = Answer::new("InvalidArgument", "", "rows were refused that were not sent");
                return Err(BigQueryError::Unknown { at: At::new("append rows", &stream), answer });
            }
            return Ok(Appended::Refused(named));
        }
    }
    drop(connection);
    let rows = transport.finalize(&stream).await?;
    if rows != sent {
        let answer = Answer::new("Ok", "", &format!("{rows} rows, {sent} were sent"));
        let (state, at) = (crate::StreamState::Length, At::new("finalize write stream", &stream));
        return Err(BigQueryError::Stream { state, at, answer });
    }
    Ok(Appended::All(Entry { stream, rows: sent.unsigned_abs() }))
}

/// The rows that are left, with their offsets, in requests of about so many bytes.
fn requests(rows: &TableRows, refused: &BTreeSet<i64>, append_bytes: usize) -> Vec<(Vec<i64>, Vec<Vec<u8>>)> {
    let (mut requests, mut bytes) = (Vec::<(Vec<i64>, Vec<Vec<u8>>)>::new(), 0);
    for (offset, row) in rows.rows.iter().filter(|(offset, _)| !refused.contains(offset)) {
        if requests.is_empty() || bytes + row.len() > append_bytes {
            requests.push((Vec::new(), Vec::new()));
            bytes = 0;
        }
        bytes += row.len();
        if let Some((offsets, chunk)) = requests.last_mut() {
            offsets.push(*offset);
            chunk.push(row.clone());
        }
    }
    requests
}

/// What decides which rows fit: names, types, modes, limits. Not defaults, descriptions and policies: a row has what its value
/// has, and nobody but us reads it here.
fn bare(fields: Option<&Value>) -> Vec<Value> {
    let kept = |field: &Value| {
        let mut bare = serde_json::Map::new();
        for key in
            ["name", "type", "mode", "maxLength", "precision", "scale", "roundingMode", "rangeElementType"]
        {
            if let Some(value) = field.get(key) {
                bare.insert(key.to_owned(), value.clone());
            }
        }
        let inner = self::bare(field.get("fields"));
        if !inner.is_empty() {
            bare.insert("fields".to_owned(), inner.into());
        }
        Value::Object(bare)
    };
    fields.and_then(Value::as_array).into_iter().flatten().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_decides_whether_rows_fit_is_kept() {
        let fields = json!([
            { "name": "a", "type": "STRING", "mode": "REQUIRED", "maxLength": "5", "policyTags": { "names": ["x"] } },
            { "name": "r", "type": "RECORD", "description": "d", "fields": [{ "name": "n", "type": "NUMERIC", "defaultValueExpression": "1" }] },
        ]);
        let expected = json!([
            { "name": "a", "type": "STRING", "mode": "REQUIRED", "maxLength": "5" },
            { "name": "r", "type": "RECORD", "fields": [{ "name": "n", "type": "NUMERIC" }] },
        ]);
        assert_eq!(Value::Array(bare(Some(&fields))), expected);
    }
}
