//! What became of a segment whose former owner has written its cut down.
//!
//! ```text
//! its stream is committed            done
//! its stream is there                commit it: it was finalized before the intent was written
//! its stream is gone                 the table is asked for the rows, by the columns that say which records they are of
//!     all of them are there          done
//!     none is                        the segment is filled again, into a new stream, under a new token of the same range
//!     some are                       a human is needed
//! ```
//!
//! A stream that is gone cannot be committed any more, by anybody: so what the table answers does not change behind our back.

use std::sync::Arc;

use aqueduct_core::{Intent, TopicPartition};

use super::publish::commit;
use super::token::{Entry, Token};
use super::{Defaults, Pinned, PinnedTable};
use crate::error::{BigQueryError, StreamState};
use crate::query::{Statement, number_in, quoted, table_sql};
use crate::sink::Parts;

/// What recovery came to.
pub(crate) enum Recovered {
    /// Every row is visible.
    Published,
    /// Fill the segment again.
    Fill(Pinned),
}

/// Does what can be done without the records.
pub(crate) async fn recover(
    parts: &Arc<Parts>,
    lane: &TopicPartition,
    defaults: &Defaults,
    intent: &Intent,
) -> Result<Recovered, BigQueryError> {
    let token = Token::decode(&intent.token, defaults)?;
    let mut tables = Vec::with_capacity(token.entries.len());
    for entry in token.entries {
        let is_there = is_there_now(parts, lane, intent, &entry).await?;
        tables.push(PinnedTable { entry, is_there });
    }
    if tables.iter().all(|table| table.is_there) {
        return Ok(Recovered::Published);
    }
    let missing = tables.iter().find(|table| !table.is_there).map(|table| table.entry.stream.to_string());
    tracing::warn!(%lane, range = %intent.range, stream = missing, "a stream is gone before it was committed; its rows are written again");
    Ok(Recovered::Fill(Pinned { refused: token.refused, tables }))
}

/// Whether the rows are visible, which they are made if they can be.
async fn is_there_now(
    parts: &Arc<Parts>,
    lane: &TopicPartition,
    intent: &Intent,
    entry: &Entry,
) -> Result<bool, BigQueryError> {
    let stream = match parts.transport.is_committed(&entry.stream).await {
        Ok(true) => return Ok(true),
        Ok(false) => commit(&*parts.transport, entry).await,
        Err(error) => Err(error),
    };
    match stream {
        Ok(()) => Ok(true),
        Err(BigQueryError::NoSuchTable { .. } | BigQueryError::StreamLost { .. }) => {
            ask(parts, lane, intent, entry).await
        }
        Err(error) if error.stream_state() == Some(StreamState::NotFound) => {
            ask(parts, lane, intent, entry).await
        }
        Err(error) => Err(error),
    }
}

/// Asks the table itself.
async fn ask(
    parts: &Arc<Parts>,
    lane: &TopicPartition,
    intent: &Intent,
    entry: &Entry,
) -> Result<bool, BigQueryError> {
    let table = &entry.stream.table;
    let columns = &parts.options.metadata;
    let [topic, partition, offset] =
        [&columns.topic, &columns.partition, &columns.offset].map(|name| quoted(name));
    let sql = format!(
        "SELECT COUNT(*) FROM {} WHERE {topic} = @topic AND {partition} = @partition AND {offset} >= @first AND {offset} < @end",
        table_sql(table),
    );
    let statement = Statement::new(sql)
        .text("topic", lane.topic())
        .number("partition", i64::from(lane.partition()))
        .number("first", intent.range.start().get())
        .number("end", intent.range.end().get());
    let found = match parts.tables.rest().query(&parts.options.query_project, &statement).await {
        Ok(rows) => {
            let number = rows.first().map_or(Ok(0), |row| number_in(row, 0))?;
            u64::try_from(number).unwrap_or_default()
        }
        // With the table its rows are gone; they are written into the one that takes its place.
        Err(BigQueryError::NoSuchTable { .. }) => 0,
        Err(error) => return Err(error),
    };
    match found {
        0 => Ok(false),
        found if found == entry.rows => Ok(true),
        found => Err(BigQueryError::PartlyThere {
            table: table.to_string(),
            range: intent.range.to_string(),
            expected: entry.rows,
            found,
        }),
    }
}
