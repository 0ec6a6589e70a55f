//! Sinks that are right, and how to ask the suite about one that is not.

use std::sync::{Arc, Mutex};

use aqueduct_core::testkit::{
    Faults, Faulty, MemorySink, MemoryStore, SinkHarness, StoredRow, SuiteReport, SuiteRow, sink_suite,
};
use aqueduct_core::{BatchSink, Batched, Poison, PoisonReason, Record, Rejected, RowBatch, StageError};
use bytes::Bytes;

/// Any configuration of a memory sink.
pub(crate) struct Memory {
    pub(crate) store: MemoryStore,
    configure: fn(MemorySink<Bytes>) -> MemorySink<Bytes>,
    pub(crate) faults: Faults,
}

impl Memory {
    pub(crate) fn new(configure: fn(MemorySink<Bytes>) -> MemorySink<Bytes>) -> Self {
        Self { store: MemoryStore::new(), configure, faults: Faults::new() }
    }
}

impl SinkHarness for Memory {
    type Value = Bytes;
    type Sink = Faulty<MemorySink<Bytes>>;

    async fn sink(&self) -> Self::Sink {
        Faulty::new((self.configure)(MemorySink::bytes(&self.store).row_max(400)), &self.faults)
    }

    fn value(&self, record: &Record<'_>) -> Bytes {
        record.value_bytes().unwrap()
    }

    fn poison(&self, _record: &Record<'_>) -> Option<Bytes> {
        Some(Bytes::from(vec![b'x'; 401]))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let objects = self.store.objects().into_iter();
        let rows =
            objects.flat_map(|object| object.rows.into_iter().map(move |row| (object.key.clone(), row)));
        rows.map(|(object, row)| StoredRow::read(object, &row.value)).collect()
    }
}

/// A sink of one method, that keeps rows by their identity.
#[derive(Default)]
pub(crate) struct Simple(Arc<Mutex<Vec<SuiteRow>>>);

pub(crate) struct Keep(Arc<Mutex<Vec<SuiteRow>>>);

#[async_trait::async_trait]
impl BatchSink<Bytes> for Keep {
    fn name(&self) -> &'static str {
        "keep/1"
    }

    fn idempotent_by_offset(&self) -> bool {
        true
    }

    async fn write(&self, batch: RowBatch<'_, Bytes>) -> Result<Vec<Rejected>, StageError> {
        tokio::task::yield_now().await;
        let mut rejected = Vec::new();
        let mut kept = self.0.lock().unwrap();
        for row in batch.rows {
            match SuiteRow::parse(&row.value) {
                Some(row) if kept.contains(&row) => {}
                Some(row) => kept.push(row),
                None => {
                    let poison = Poison::new(PoisonReason::Rejected, "not a row of the suite");
                    rejected.push(Rejected { offset: row.offset, poison });
                }
            }
        }
        Ok(rejected)
    }
}

impl SinkHarness for Simple {
    type Value = Bytes;
    type Sink = Batched<Keep>;

    async fn sink(&self) -> Self::Sink {
        Batched::new(Keep(Arc::clone(&self.0)))
    }

    fn value(&self, record: &Record<'_>) -> Bytes {
        record.value_bytes().unwrap()
    }

    fn poison(&self, _record: &Record<'_>) -> Option<Bytes> {
        Some(Bytes::from_static(b"{}"))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        let mut rows = self.0.lock().unwrap().clone();
        rows.sort();
        rows.into_iter().map(|row| StoredRow::of("table", &row)).collect()
    }
}

/// Runs the suite and gives the message it failed with.
pub(crate) async fn verdict(harness: impl SinkHarness) -> Result<SuiteReport, String> {
    match tokio::spawn(sink_suite(harness)).await {
        Ok(report) => Ok(report),
        Err(error) => Err(error.into_panic().downcast_ref::<String>().expect("a message").clone()),
    }
}
