//! The sinks of the testkit pass the conformance suite, and the suite catches every sink that is broken on purpose.

mod conformance {
    pub(crate) mod shelf;
}

use std::any::Any;
use std::sync::Arc;
use std::sync::Mutex;

use aqueduct_core::testkit::{
    Fault, Faults, Faulty, MemorySink, MemoryStore, SinkHarness, Step, StoredRow, SuiteReport, SuiteRow,
    sink_suite,
};
use aqueduct_core::{
    BatchSink, Batched, Class, Poison, PoisonReason, Record, Rejected, RowBatch, StageError,
};
use bytes::Bytes;

use conformance::shelf::{Flaw, Shelf};

/// Any configuration of a memory sink.
struct Memory {
    store: MemoryStore,
    configure: fn(MemorySink<Bytes>) -> MemorySink<Bytes>,
    faults: Faults,
}

impl Memory {
    fn new(configure: fn(MemorySink<Bytes>) -> MemorySink<Bytes>) -> Self {
        Self {
            store: MemoryStore::new(),
            configure,
            faults: Faults::new(),
        }
    }
}

impl SinkHarness for Memory {
    type Value = Bytes;
    type Sink = Faulty<MemorySink<Bytes>>;

    async fn sink(&self) -> Self::Sink {
        Faulty::new(
            (self.configure)(MemorySink::bytes(&self.store).row_max(400)),
            &self.faults,
        )
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
        rows.map(|(object, row)| StoredRow::read(object, &row.value))
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_sink_passes_however_it_recovers() {
    let redo = sink_suite(Memory::new(|sink| sink)).await;
    assert_eq!(
        redo.left_out,
        [("redo_loses_nothing", "the sink works under intents")],
        "{redo}"
    );
    sink_suite(Memory::new(|sink| sink.object_rows(4))).await;
    let forward = sink_suite(Memory::new(MemorySink::rolling_forward)).await;
    assert!(
        forward
            .left_out
            .contains(&("second_cut_never_duplicates", "the sink rolls forward")),
        "{forward}"
    );
    let simple = sink_suite(Memory::new(MemorySink::after_durable)).await;
    assert!(simple.ran.contains(&"redo_loses_nothing"), "{simple}");
    sink_suite(Memory::new(MemorySink::idempotent)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_passes_by_itself_is_called_again() {
    let memory = Memory::new(|sink| sink);
    memory
        .faults
        .on(Step::Publish, 1, Fault::FailAfterWrite(Class::RETRY));
    memory
        .faults
        .on(Step::Stage, 2, Fault::FailAfterWrite(Class::RETRY));
    memory
        .faults
        .on(Step::Spill, 3, Fault::FailAfterWrite(Class::RETRY));
    memory
        .faults
        .on(Step::Begin, 4, Fault::FailAfterWrite(Class::RETRY));
    memory
        .store
        .faults()
        .on(Step::Create, 5, Fault::FailAfterWrite(Class::RETRY));
    sink_suite(memory).await;
}

/// A sink of one method, that keeps rows by their identity.
#[derive(Default)]
struct Simple(Arc<Mutex<Vec<SuiteRow>>>);

struct Keep(Arc<Mutex<Vec<SuiteRow>>>);

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
                    rejected.push(Rejected {
                        offset: row.offset,
                        poison,
                    });
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
        rows.into_iter()
            .map(|row| StoredRow {
                object: "table".into(),
                row: Some(row),
            })
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_of_one_method_passes() {
    let report = sink_suite(Simple::default()).await;
    assert!(report.ran.contains(&"append_poison_keeps_neighbours"), "{report}");
    assert!(
        !report.ran.contains(&"publish_is_invisible_before_call"),
        "{report}"
    );
}

/// Runs the suite and gives the message it failed with.
async fn verdict(harness: impl SinkHarness) -> Result<SuiteReport, String> {
    match tokio::spawn(sink_suite(harness)).await {
        Ok(report) => Ok(report),
        Err(error) => {
            let panic: Box<dyn Any + Send> = error.into_panic();
            Err(panic.downcast_ref::<String>().expect("a message").clone())
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_catches_every_broken_sink() {
    verdict(Shelf::new(None))
        .await
        .expect("the sink that is not broken passes");
    let expected = [
        (Flaw::UnstableFingerprint, "fingerprint_is_stable_and_nonempty"),
        (Flaw::NoFingerprint, "fingerprint_is_stable_and_nonempty"),
        (Flaw::LosesTheLastRow, "single_record"),
        (Flaw::AnswersBeforeItIsThere, "single_record"),
        (Flaw::ReversesRows, "gaps_are_fine"),
        (Flaw::ForgetsRoutesPastTheHundredth, "many_routes"),
        (Flaw::KeepsHalfAPoison, "append_poison_keeps_neighbours"),
        (Flaw::KeepsTheRouteOfAPoison, "append_poison_keeps_neighbours"),
        (Flaw::HoldsTheBatch, "spill_returns_memory"),
        (Flaw::MixesLanes, "parallel_lanes_do_not_interfere"),
        (Flaw::CountsOneRowLess, "stats_match_reality"),
        (Flaw::CountsNoBytes, "stats_match_reality"),
        (Flaw::PublishesAgain, "publish_twice_is_once"),
        (Flaw::PublishesAtSpill, "gaps_are_fine"),
        (Flaw::PublishesAtStage, "publish_is_invisible_before_call"),
        (Flaw::PublishesAtAbandon, "abandon_leaves_nothing_visible"),
        (Flaw::DeletesAtAbandon, "abandon_is_idempotent"),
        (Flaw::StagesTwice, "stage_twice_is_once"),
        (Flaw::NamesByInstance, "publish_by_second_process_from_intent"),
        (
            Flaw::TakesThePinnedSegmentForPublished,
            "publish_by_second_process_from_intent",
        ),
        (Flaw::NamesByBatch, "publish_after_lost_response"),
        (Flaw::Overwrites, "second_cut_never_duplicates"),
        (Flaw::WritesInTwoSteps, "cancel_at_every_await_of_publish"),
    ];
    let mut wrong = Vec::new();
    for (flaw, cases) in expected {
        match verdict(Shelf::new(Some(flaw))).await {
            Ok(_) => wrong.push(format!("{flaw:?} was not caught")),
            Err(message) if cases.split(' ').any(|case| message.starts_with(case)) => {}
            Err(message) => wrong.push(format!("{flaw:?} was caught by: {message}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
