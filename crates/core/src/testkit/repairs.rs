//! Repairs in memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::error::StageError;
use crate::fingerprint::Fingerprint;
use crate::record::TopicPartition;
use crate::redrive::{RepairBatch, RepairSink, Repaired};

/// A [`RepairSink`] that keeps values by their identity, as a table does. Clones share them.
///
/// ```
/// use aqueduct_core::TopicPartition;
/// use aqueduct_core::testkit::MemoryRepairs;
///
/// let repairs = MemoryRepairs::<String>::new();
/// assert!(repairs.rows(&TopicPartition::new("orders", 0)).is_empty());
/// ```
#[derive(Debug)]
pub struct MemoryRepairs<T>(Arc<Mutex<Rows<T>>>);

type Rows<T> = BTreeMap<(TopicPartition, i64), (String, T)>;

impl<T: Clone> MemoryRepairs<T> {
    /// No rows yet.
    pub fn new() -> Self {
        Self(Arc::default())
    }

    /// The rows of a partition: offset, route, value.
    pub fn rows(&self, lane: &TopicPartition) -> Vec<(i64, String, T)> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_lane = rows.iter().filter(|((of, _), _)| of == lane);
        of_lane.map(|((_, offset), (route, value))| (*offset, route.clone(), value.clone())).collect()
    }
}

impl<T> Clone for MemoryRepairs<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Default for MemoryRepairs<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl<T: Send + 'static> RepairSink<T> for MemoryRepairs<T> {
    async fn repair(&self, batch: RepairBatch<'_, T>) -> Result<Repaired, StageError> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut repaired = Repaired::default();
        for row in batch.rows {
            let identity = (batch.lane.clone(), row.record.offset().get());
            match rows.entry(identity) {
                Entry::Occupied(_) => repaired.before += 1,
                Entry::Vacant(free) => {
                    free.insert((row.path.as_str().to_owned(), row.value));
                    repaired.stored += 1;
                }
            }
        }
        Ok(repaired)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("sink", "memory-repairs/1");
    }
}
