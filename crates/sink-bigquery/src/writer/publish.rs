//! From streams that nobody sees to rows that everybody sees.

use aqueduct_core::{Failpoint, Published, PublishedObject, StageError};

use super::TableWriter;
use super::token::Entry;
use crate::error::{BigQueryError, StreamState};
use crate::transport::WriteTransport;

impl TableWriter {
    /// Commits every table's stream. The tables become visible one after the other: the intent says all of them.
    pub(super) async fn publish_tables(&mut self) -> Result<Published, StageError> {
        if self.staged.is_none() {
            return Err(StageError::fatal("publish", "the segment was not staged, or was abandoned"));
        }
        let mut first = true;
        for table in &mut self.tables.rows {
            let Some(entry) = table.progress.entry().filter(|_| !table.progress.is_committed()) else {
                continue;
            };
            Failpoint::ObjectBeforeCreate.check()?;
            let committed = commit(&*self.parts.transport, &entry).await;
            committed.map_err(|error| StageError::new("publish", error))?;
            Failpoint::ObjectCreated.check()?;
            table.progress.committed();
            if std::mem::take(&mut first) {
                Failpoint::PublishFirst.check()?;
            }
        }
        Failpoint::PublishAll.check()?;
        let mut objects: Vec<_> = self
            .tables
            .rows
            .iter()
            .filter_map(|table| {
                let entry = table.progress.entry()?;
                let range = table.progress.range()?;
                let key = table.name.to_string();
                Some(PublishedObject { key, range, rows: entry.rows, bytes: table.progress.bytes() })
            })
            .collect();
        objects.sort_by_key(|object| object.range.start());
        // A pinned segment's letters were sent before its intent was written down, unless other rows are refused now.
        Ok(Published { objects, rejected: self.refused_anew() })
    }
}

/// Makes a finalized stream's rows visible, once: that somebody has done so is the same as doing it.
pub(crate) async fn commit(transport: &dyn WriteTransport, entry: &Entry) -> Result<(), BigQueryError> {
    let stream = &entry.stream;
    match transport.batch_commit(&stream.table, std::slice::from_ref(stream)).await {
        Ok(()) => Ok(()),
        Err(error) => match error.stream_state() {
            Some(StreamState::Committed) => Ok(()),
            // Nothing that could be repeated brings it back; a new owner asks the table.
            Some(StreamState::NotFound | StreamState::Invalid) => {
                Err(BigQueryError::StreamLost { table: stream.table.to_string(), source: error.into() })
            }
            _ => Err(error),
        },
    }
}
