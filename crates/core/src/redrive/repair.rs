//! Where repaired records go.

use async_trait::async_trait;

use crate::dead_letter::Rejected;
use crate::error::StageError;
use crate::fingerprint::Fingerprint;
use crate::partition::RoutePath;
use crate::record::{Offset, Record, TopicPartition};

/// Stores records under their original (topic, partition, offset), each at most once, whoever else tries.
///
/// # Contract
/// - **Once.** However often a record is given to [`repair`](Self::repair), by however many processes at a time, and wherever
///   each of them dies: readers find one row of it. The target decides, not the caller: it has to hold who may store a
///   record before the record is visible. A store of objects holds it in objects that are created conditionally; a table
///   that enforces keys in a key, another one in a claims table that is written to under a transaction. A `MERGE` that only
///   inserts is not enough where two of them do not conflict, as in BigQuery.
/// - **Apart.** It does not look among the rows that the pipeline has stored: a record that has a letter is not there
///   ([`DeadLetterSink`](crate::DeadLetterSink)). A target that can look, such as a table, may.
/// - **Durability.** A record that is answered as stored is durable and visible.
/// - **Unfinished work.** A target that cannot store and remember in one step answers, as
///   [`unfinished`](Self::unfinished), what was begun and may not be visible yet. It is then given exactly those records again,
///   before any other use. Where one step is enough, in a table, the defaults are right.
///
/// # Errors
/// [`StageError`], after having tried for some time where that may help. The same call again is harmless.
///
/// `testkit::MemoryRepairs` is a small one, `ObjectRepairs` of `aqueduct-files` one for stores of objects, `BigQueryRepairs` of
/// `aqueduct-sink-bigquery` one for tables.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Mutex;
///
/// use aqueduct_core::{Fingerprint, RepairBatch, RepairSink, Repaired, StageError};
///
/// /// A table in memory whose key is the record's identity.
/// #[derive(Default)]
/// struct Table(Mutex<BTreeMap<(String, i32, i64), String>>);
///
/// #[async_trait::async_trait]
/// impl RepairSink<String> for Table {
///     async fn repair(&self, batch: RepairBatch<'_, String>) -> Result<Repaired, StageError> {
///         let mut table = self.0.lock().unwrap();
///         let mut repaired = Repaired::default();
///         for row in batch.rows {
///             let key = (batch.lane.topic().to_owned(), batch.lane.partition(), row.record.offset().get());
///             match table.contains_key(&key) {
///                 true => repaired.before += 1,
///                 false => {
///                     table.insert(key, row.value);
///                     repaired.stored += 1;
///                 }
///             }
///         }
///         Ok(repaired)
///     }
///
///     fn fingerprint(&self, parts: &mut Fingerprint) {
///         parts.put("sink", "table/1");
///     }
/// }
/// ```
#[async_trait]
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not repair values of type `{T}`",
    note = "`ObjectRepairs` needs a format that encodes `{T}`"
)]
pub trait RepairSink<T: Send + 'static>: Send + Sync + 'static {
    /// Checks the target once, before any letter is read. The default does nothing.
    async fn check(&self) -> Result<(), StageError> {
        Ok(())
    }

    /// What was begun of this partition and may not be visible. By default nothing ever is.
    async fn unfinished(&self, lane: &TopicPartition) -> Result<Vec<UnfinishedRepair>, StageError> {
        let _ = lane;
        Ok(Vec::new())
    }

    /// Finishes what was begun, with what the corrected stages make now of its records; answers how many records are visible
    /// by it. If that is not what was begun, the error says so and how to finish: nothing becomes visible.
    async fn finish(&self, begun: &UnfinishedRepair, batch: RepairBatch<'_, T>) -> Result<u64, StageError> {
        let _ = batch;
        let what = format!("repair {} was never begun by this sink", begun.name);
        Err(StageError::fatal("finish repair", what))
    }

    /// Stores what is not stored yet.
    async fn repair(&self, batch: RepairBatch<'_, T>) -> Result<Repaired, StageError>;

    /// Adds what decides names and contents to the layout's identity.
    fn fingerprint(&self, parts: &mut Fingerprint);
}

/// Rows of one partition, in offset order, each once.
#[derive(Debug)]
pub struct RepairBatch<'a, T> {
    /// The partition their records were read from.
    pub lane: &'a TopicPartition,
    /// The identity of the corrected layout (see [`Fingerprint::digest`]).
    pub layout: u64,
    /// When the repair was begun, in ms since the Unix epoch: what the layout took for the opening of a segment.
    pub opened_at_ms: i64,
    /// The rows.
    pub rows: Vec<RepairRow<'a, T>>,
}

/// A record that the corrected stages can process.
#[derive(Debug)]
pub struct RepairRow<'a, T> {
    /// The record as it was read at first.
    pub record: Record<'a>,
    /// Its route.
    pub path: RoutePath,
    /// Its value.
    pub value: T,
}

/// What became of a [`RepairBatch`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Records that are visible now, by this call.
    pub stored: u64,
    /// Records that were stored, or taken by somebody who stores them, before.
    pub before: u64,
    /// Records that cannot be rows.
    pub refused: Vec<Rejected>,
    /// Objects, or whatever a target counts, that were made.
    pub objects: u64,
}

/// A repair that somebody has begun and perhaps not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnfinishedRepair {
    /// What messages call it.
    pub name: String,
    /// Its number in its partition.
    pub number: u64,
    /// Its records, ascending.
    pub offsets: Vec<Offset>,
    /// When it was begun, in ms since the Unix epoch.
    pub opened_at_ms: i64,
}
