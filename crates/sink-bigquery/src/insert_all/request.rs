//! Requests of the legacy streaming interface, and what their answers mean.
//!
//! ```text
//! 200, no insertErrors                  written
//! 200, rows "invalid"                   letters; none of the request's rows is written, the others ("stopped") are sent again
//! 200, rows with passing reasons        wait and send again
//! 200, "no such field"                  the table's new column has not reached the interface: wait
//! 413, 400                              half as many rows; one row alone is a letter if it is too large, else an error
//! 404                                   the table is made, or looked at again
//! 403 and 429 of quotas, 5xx            wait and send again
//! ```
//!
//! <https://cloud.google.com/bigquery/docs/reference/rest/v2/tabledata/insertAll>,
//! <https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery#troubleshooting>.

use std::collections::BTreeSet;

use aqueduct_core::{Offset, Poison, PoisonReason, Pool, Rejected};
use serde::Deserialize;

use super::Table;
use crate::error::{Answer, At, BigQueryError};
use crate::sink::Parts;
use crate::transport::InsertFailure;

/// A row that is not written yet.
pub(super) struct Pending {
    pub(super) offset: i64,
    /// Its id and its document.
    pub(super) text: String,
}

/// "A maximum of 500 rows per request is recommended" (<https://cloud.google.com/bigquery/quotas#streaming_inserts>; 50,000 are allowed).
const ROWS_MAX: usize = 500;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct InsertAnswer {
    #[serde(default)]
    insert_errors: Vec<RowErrors>,
}

#[derive(Debug, Deserialize)]
struct RowErrors {
    index: usize,
    #[serde(default)]
    errors: Vec<RowError>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RowError {
    reason: String,
    message: String,
}

/// Sends a table's rows until all are written or refused.
pub(super) async fn send(
    parts: &Parts,
    memory: &Pool,
    table: &mut Table,
    rejected: &mut Vec<Rejected>,
) -> Result<(), BigQueryError> {
    if table.pending.is_empty() {
        return Ok(());
    }
    parts.tables.ensure(&table.name, &table.encoder.columns()).await?;
    let mut rows_max = ROWS_MAX;
    while !table.pending.is_empty() {
        let count = count_of(table, rows_max, parts.options.append_bytes);
        let body = body_of(table, count);
        // Paid for as it is built and as it is sent.
        let _permit = memory.acquire(2 * body.len() as u64).await;
        match parts.tables.rest().insert_all(&table.name, body).await {
            Ok(answer) => take_answer(parts, table, count, &answer, rejected)?,
            Err(InsertFailure::TooLarge(_)) if count == 1 => {
                let detail = format!("table {} refuses the row: it is too large", table.name);
                reject(table, &BTreeSet::from([0]), &Poison::new(PoisonReason::TooLarge, detail), rejected);
            }
            // Which row it is, or that they are too many, is found out by halving.
            Err(InsertFailure::TooLarge(_) | InsertFailure::Refused(_)) if count > 1 => rows_max = count / 2,
            Err(InsertFailure::NoTable(answer)) => {
                parts.tables.forget(&table.name);
                parts.tables.ensure(&table.name, &table.encoder.columns()).await?;
                // "It may take a few minutes": a table that was just made is not known everywhere.
                return Err(BigQueryError::TableBusy { at: at(table), answer });
            }
            Err(InsertFailure::TooLarge(answer) | InsertFailure::Refused(answer)) => {
                return Err(BigQueryError::Refused { at: at(table), answer });
            }
            Err(InsertFailure::Other(error)) => return Err(error),
        }
    }
    Ok(())
}

fn at(table: &Table) -> At {
    At::new("insert rows", &table.name)
}

fn count_of(table: &Table, rows_max: usize, bytes_max: usize) -> usize {
    let mut bytes = 0;
    let fits = table.pending.iter().take(rows_max).take_while(|row| {
        bytes += row.text.len();
        bytes <= bytes_max
    });
    fits.count().max(1)
}

/// `skipInvalidRows` stays false: a request is written as a whole or not at all, so what is sent again was not written.
fn body_of(table: &Table, count: usize) -> String {
    let rows = table.pending.iter().take(count);
    let length: usize = rows.clone().map(|row| row.text.len() + 1).sum();
    let mut body = String::with_capacity(length + 16);
    body.push_str("{\"rows\":[");
    for (place, row) in rows.enumerate() {
        body.push_str(if place > 0 { "," } else { "" });
        body.push_str(&row.text);
    }
    body.push_str("]}");
    body
}

fn take_answer(
    parts: &Parts,
    table: &mut Table,
    count: usize,
    answer: &serde_json::Value,
    rejected: &mut Vec<Rejected>,
) -> Result<(), BigQueryError> {
    let unknown =
        |message: &str| BigQueryError::Unknown { at: at(table), answer: Answer::new(200, "", message) };
    let answer = InsertAnswer::deserialize(answer)
        .map_err(|_| unknown("the answer to an insert is none that is known"))?;
    if answer.insert_errors.is_empty() {
        written(table, count);
        return Ok(());
    }
    let mut invalid = BTreeSet::new();
    for row in &answer.insert_errors {
        for error in &row.errors {
            match error.reason.as_str() {
                // Held back because of others.
                "stopped" => {}
                "backendError" | "internalError" | "timeout" | "rateLimitExceeded" | "quotaExceeded" => {
                    let answer = Answer::new(200, error.reason.as_str(), "some rows were not written");
                    return Err(BigQueryError::Throttled { at: at(table), answer });
                }
                // Rows have no columns but those that the table has, as was just made sure: so it is no row's fault. The interface
                // has no code for this, only these words.
                _ if error.message.starts_with("no such field") => {
                    parts.tables.forget(&table.name);
                    let answer = Answer::new(200, error.reason.as_str(), "no such field");
                    return Err(BigQueryError::SchemaMismatch { at: at(table), answer });
                }
                _ => {
                    invalid.insert(row.index);
                }
            }
        }
    }
    if invalid.is_empty() || invalid.last().is_some_and(|last| *last >= count) {
        return Err(unknown("rows were stopped and none is said to be wrong"));
    }
    // The service's words may quote the row.
    let poison = Poison::new(PoisonReason::Rejected, format!("table {} refuses the row", table.name));
    reject(table, &invalid, &poison, rejected);
    Ok(())
}

fn written(table: &mut Table, count: usize) {
    for row in table.pending.drain(..count.min(table.pending.len())) {
        table.rows += 1;
        table.bytes += row.text.len() as u64;
        let (first, end) = table.span.unwrap_or((row.offset, row.offset));
        table.span = Some((first.min(row.offset), end.max(row.offset + 1)));
    }
}

/// Takes rows out, by their places; those behind them are sent again.
fn reject(table: &mut Table, places: &BTreeSet<usize>, poison: &Poison, rejected: &mut Vec<Rejected>) {
    let mut place = 0;
    table.pending.retain(|row| {
        let is_kept = !places.contains(&place);
        place += 1;
        if !is_kept {
            rejected.push(Rejected { offset: Offset::new(row.offset), poison: poison.clone() });
        }
        is_kept
    });
}
