//! The legacy streaming interface, `tabledata.insertAll`: compatibility only.
//!
//! For projects and emulators that have nothing else. Google says to use the Storage Write interface instead
//! (<https://cloud.google.com/bigquery/docs/streaming-data-into-bigquery>): it costs less, carries more, and repeats nothing. Rows are
//! written while the segment fills, a batch of records at a time, one request after the other for each lane, and are visible at once.
//! A batch that is sent again after a failure or a crash may be there twice: `insertId` says which rows are the same, and the service
//! removes repetitions "on a best effort basis", of about a minute.
//!
//! ```text
//! append    encode, as a document                       row/document.rs
//! spill     send what there is, until it is written     request.rs
//! publish   nothing is left to do
//! ```

mod request;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use aqueduct_core::{
    Envelope, Offset, OffsetRange, Poison, PoisonReason, Pool, Published, PublishedObject, Rejected,
    RoutePath, SegmentStart, SegmentWriter, StageError, Staged, StructuredValue,
};
use async_trait::async_trait;
use ring::digest;

use self::request::Pending;
use crate::columns::TableEncoder;
use crate::error::BigQueryError;
use crate::name::TableName;
use crate::route_tables::{OfTable, RouteTables};
use crate::row::{Identity, Workspace, document};
use crate::sink::Parts;
use crate::writer::check_length;

/// See the module.
pub(crate) struct InsertWriter {
    parts: Arc<Parts>,
    /// Where records without a route go.
    default: TableName,
    opened_at_ms: i64,
    memory: Pool,
    workspace: Workspace,
    tables: RouteTables<Table>,
    encoded_bytes: u64,
    /// Rows that were refused and not told yet.
    rejected: Vec<Rejected>,
}

/// The rows of one table.
struct Table {
    name: TableName,
    encoder: TableEncoder,
    pending: VecDeque<Pending>,
    /// The first offset that was written and the one behind the last.
    span: Option<(i64, i64)>,
    rows: u64,
    bytes: u64,
}

impl OfTable for Table {
    fn table(&self) -> &TableName {
        &self.name
    }
}

impl InsertWriter {
    pub(crate) fn new(parts: Arc<Parts>, default: TableName, at: SegmentStart) -> Self {
        Self {
            parts,
            default,
            opened_at_ms: at.opened_at_ms,
            memory: at.memory,
            workspace: Workspace::default(),
            tables: RouteTables::new(),
            encoded_bytes: 0,
            rejected: Vec::new(),
        }
    }

    /// Sends everything. What was written before an error is not sent again.
    async fn send(&mut self) -> Result<(), BigQueryError> {
        for table in &mut self.tables.rows {
            request::send(&self.parts, &self.memory, table, &mut self.rejected).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl<T: StructuredValue + Send + 'static> SegmentWriter<T> for InsertWriter {
    async fn open_route(&mut self, path: &RoutePath) -> Result<(), StageError> {
        let table = self.parts.destinations.of_record(path.as_str(), &self.default);
        self.tables.open(&self.parts, table).await
    }

    fn append(&mut self, envelope: Envelope<'_, T>) -> Result<(), Poison> {
        let Envelope { record, route, path, value } = envelope;
        let mut place = self.tables.place(
            route,
            &self.parts.columns,
            || self.parts.destinations.of_record(path.as_str(), &self.default),
            |name, layout| {
                let encoder = TableEncoder::new(layout);
                Table { name, encoder, pending: VecDeque::new(), span: None, rows: 0, bytes: 0 }
            },
        )?;
        let table = self.tables.at(&mut place)?;
        let (lane, offset) = (record.lane(), record.offset().get());
        let identity = Identity::of(record, self.opened_at_ms);
        let plan = table.encoder.plan(&value)?;
        let mut row = Vec::new();
        plan.encode(&value, identity, &mut self.workspace, &mut row)?;
        let document = document(plan.columns(), &row)
            .ok_or_else(|| Poison::new(PoisonReason::Malformed, "the row has no spelling as a document"))?;
        let id = insert_id(lane.topic(), lane.partition(), offset);
        let text = serde_json::json!({ "insertId": id, "json": document }).to_string();
        check_length(text.len())?;
        table.encoder.encoded();
        self.encoded_bytes += text.len() as u64;
        table.pending.push_back(Pending { offset, text });
        self.tables.keep(place);
        Ok(())
    }

    async fn spill(&mut self) -> Result<Vec<Rejected>, StageError> {
        self.send().await.map_err(|error| StageError::new("insert", error))?;
        let mut rejected = std::mem::take(&mut self.rejected);
        rejected.sort_by_key(|rejected| rejected.offset);
        Ok(rejected)
    }

    async fn stage(&mut self, _: OffsetRange) -> Result<Staged, StageError> {
        let rejected = SegmentWriter::<T>::spill(self).await?;
        Ok(Staged { rejected, ..Staged::default() })
    }

    async fn publish(&mut self) -> Result<Published, StageError> {
        let objects = self.tables.rows.iter().filter_map(|table| {
            let (first, end) = table.span?;
            let range = OffsetRange::new(Offset::new(first), Offset::new(end))?;
            Some(PublishedObject { key: table.name.to_string(), range, rows: table.rows, bytes: table.bytes })
        });
        let mut objects: Vec<_> = objects.collect();
        objects.sort_by_key(|object| object.range.start());
        Ok(Published { objects, rejected: Vec::new() })
    }

    async fn abandon(&mut self) {
        // What was sent is written.
        self.tables.rows.iter_mut().for_each(|table| table.pending.clear());
    }

    fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }
}

/// Characters that an `insertId` may have (<https://cloud.google.com/bigquery/quotas#streaming_inserts>).
const ID_MAX: usize = 128;

/// Which record it is: the same for the same one, whoever sends it.
fn insert_id(topic: &str, partition: i32, offset: i64) -> String {
    let id = format!("{topic}/{partition}/{offset}");
    if id.chars().count() <= ID_MAX {
        return id;
    }
    let hash = digest::digest(&digest::SHA256, topic.as_bytes());
    let mut id = String::with_capacity(ID_MAX);
    for byte in hash.as_ref() {
        // Writing to a text does not fail.
        write!(id, "{byte:02x}").ok();
    }
    id + &format!("/{partition}/{offset}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_records_apart_and_fit() {
        assert_eq!(insert_id("orders", 3, 7), "orders/3/7");
        let [long, longer] = [249, 248].map(|length| insert_id(&"t".repeat(length), i32::MIN, i64::MIN));
        assert!(
            long.len() <= ID_MAX && long != longer && long.ends_with("/-2147483648/-9223372036854775808")
        );
        let edge = "t".repeat(ID_MAX - "/0/0".len());
        assert_eq!(insert_id(&edge, 0, 0), format!("{edge}/0/0"));
        assert!(insert_id(&format!("{edge}t"), 0, 0).ends_with("/0/0"));
    }
}
