//! Records that cannot be processed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aqueduct_core::testkit::{
    Fault, Faults, Faulty, MemoryDeadLetters, MemorySink, MemoryStore, ScriptedRecord, Step,
};
use aqueduct_core::{
    BatchSink, Batched, Class, Converted, Converter, ConverterExt as _, DeadLetter, DeadLetterSink,
    Fingerprint, Keyed, LaneError, MaxRecords, Offset, OnLaneFailure, OnPoison, Pipeline, PipelineError,
    Poison, PoisonPart, PoisonReason, PoisonStage, Record, Rejected, RowBatch, StageError, TopicPartition,
};
use bytes::Bytes;

use crate::stages::{ByFirstByte, Raw, many, never, pipeline, pipeline_into, scratch, values, world};

const MIXED: [&str; 7] = ["a0", "bad", "b2", "!route", "c4", "bad", "d6"];

#[tokio::test(flavor = "multi_thread")]
async fn the_default_stops_after_publishing_what_came_before() {
    let (broker, store, lane) = world(["a0", "b1", "bad", "c3"]);
    let error =
        pipeline(broker.source().until_end(), &store).build().unwrap().run(never()).await.unwrap_err();
    let text = aqueduct_core::ErrorChain(&error).to_string();
    let PipelineError::Lane { lane: failed, source } = error else { panic!("{text}") };
    assert_eq!(failed, lane);
    let LaneError::Poisoned { offset, stage, .. } = *source else { panic!("{text}") };
    assert_eq!((offset, stage), (Offset::new(2), PoisonStage::Convert));
    for part in ["orders[0]", "offset 2", "convert", "malformed", "OnPoison::DeadLetter"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(store.offsets(&lane), [0, 1]);
    assert_eq!(broker.mark(&lane).unwrap().next, Offset::new(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn skipped_poison_is_counted_and_costs_exactly_itself() {
    let (broker, store, lane) = world(MIXED);
    let built = pipeline(broker.source().until_end(), &store).on_poison(OnPoison::Skip).build().unwrap();
    let report = built.run(never()).await.unwrap();
    assert_eq!(store.offsets(&lane), [0, 2, 4, 6]);
    assert_eq!((report.skipped, report.durable), (3, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_hold_the_whole_record_and_are_durable_before_the_mark() {
    let (broker, store, lane) = world(MIXED);
    let letters = MemoryDeadLetters::new();
    let faults = Faults::new();
    // The first answer is lost: letters may come twice, never not at all.
    faults.next(Step::Send, Fault::FailAfterWrite(Class::RETRY));
    let target = Arc::new(Faulty::new(letters.clone(), &faults));
    let built = pipeline(broker.source().until_end(), &store).on_poison(OnPoison::DeadLetter(target)).build();
    let report = built.unwrap().run(never()).await.unwrap();
    assert_eq!(store.offsets(&lane), [0, 2, 4, 6]);
    assert_eq!(report.dead_letters, 3);
    let mut offsets = letters.offsets(&lane);
    offsets.dedup();
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets, [1, 3, 5]);
    let letter = letters.letters().into_iter().find(|letter| letter.record.offset == Offset::new(3)).unwrap();
    assert_eq!((letter.stage, letter.record.value), (PoisonStage::Partition, Some(Bytes::from("!route"))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_target_that_is_down_holds_the_mark() {
    let (broker, store, lane) = world(MIXED);
    let letters = MemoryDeadLetters::new();
    let faults = Faults::new();
    faults.always(Step::Send, Fault::Reject(Class::RETRY));
    let target = Arc::new(Faulty::new(letters.clone(), &faults));
    let built = pipeline(broker.source().until_end(), &store)
        .on_poison(OnPoison::DeadLetter(target))
        .shutdown_timeout(Duration::from_millis(300))
        .build()
        .unwrap();
    let report = built.run(tokio::time::sleep(Duration::from_millis(500))).await.unwrap();
    assert_eq!(report.abandoned, 1);
    assert!(store.objects().is_empty());
    assert_eq!(broker.mark(&lane).map_or(Offset::ZERO, |mark| mark.next), Offset::ZERO);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_poison_is_letters_and_no_object() {
    let (broker, store, lane) = world(["bad"; 50]);
    let letters = MemoryDeadLetters::new();
    let target = Arc::new(letters.clone());
    let built = pipeline(broker.source().until_end(), &store).on_poison(OnPoison::DeadLetter(target)).build();
    built.unwrap().run(never()).await.unwrap();
    assert!(store.objects().is_empty());
    assert_eq!(letters.offsets(&lane).len(), 50);
    assert_eq!(broker.mark(&lane).unwrap().next, Offset::new(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_refused_at_the_cut_or_later_become_whole_letters() {
    for late in [false, true] {
        let (broker, store, lane) = many(100);
        let letters = MemoryDeadLetters::new();
        let refuses = |offset: Offset| offset.get() % 10 == 3;
        let sink = MemorySink::<Bytes>::bytes(&store);
        let sink = if late { sink.refuse_at_publish(refuses) } else { sink.refuse_at_stage(refuses) };
        let built = pipeline_into(broker.source().until_end().batch_records(7), sink)
            .rotate(MaxRecords(30))
            .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
            .build();
        built.unwrap().run(never()).await.unwrap();
        let expected: Vec<i64> = (0..100).filter(|offset| offset % 10 == 3).collect();
        assert_eq!(letters.offsets(&lane), expected, "late: {late}");
        assert_eq!(store.offsets(&lane).len(), 90);
        assert_eq!(letters.letters()[0].record.value, Some(Bytes::from(values(4)[3].clone())));
    }
}

/// Remembers the bytes of what it was sent at a time.
#[derive(Default)]
struct Weighed {
    letters: MemoryDeadLetters,
    sends: Mutex<Vec<usize>>,
}

#[async_trait::async_trait]
impl DeadLetterSink for Weighed {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
        let bytes = letters.iter().filter_map(|it| it.record.value.as_ref()).map(Bytes::len).sum();
        self.sends.lock().unwrap().push(bytes);
        self.letters.send(letters).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_refused_rows_are_brought_into_memory_some_at_a_time() {
    for late in [false, true] {
        let large = "v".repeat(300 << 10);
        let values = (0..30).map(|index| if index % 10 == 5 && !late { "bad" } else { &*large });
        let (broker, store, lane) = world(values);
        let letters = Arc::new(Weighed::default());
        let target = Arc::<Weighed>::clone(&letters);
        let refuses = |offset: Offset| offset.get() % 2 == 0;
        let sink = MemorySink::<Bytes>::bytes(&store);
        let sink = if late { sink.refuse_at_publish(refuses) } else { sink.refuse_at_stage(refuses) };
        let built = pipeline_into(broker.source().until_end().batch_records(7), sink)
            .on_poison(OnPoison::DeadLetter(target))
            .build();
        let report = built.unwrap().run(never()).await.unwrap();
        let expected: Vec<i64> =
            (0..30).filter(|offset| offset % 2 == 0 || offset % 10 == 5 && !late).collect();
        assert_eq!(letters.letters.offsets(&lane), expected, "late: {late}");
        assert_eq!(report.dead_letters, expected.len() as u64);
        let sends = letters.sends.lock().unwrap();
        assert!(sends.iter().all(|bytes| *bytes <= 4 * large.len() + 3), "late: {late}: {sends:?}");
        assert_eq!(sends.iter().filter(|bytes| **bytes >= 1 << 20).count(), 3, "late: {late}: {sends:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_one_lane_does_not_stop_the_others() {
    let broker = aqueduct_core::testkit::ScriptedBroker::new();
    let lanes = broker.create("orders", 3);
    for lane in &lanes {
        broker.extend(lane, ["a", "b", "c"]);
    }
    broker.append(&lanes[1], Bytes::from("boom"));
    let store = MemoryStore::new();
    let built = pipeline(broker.source(), &store)
        .rotate(MaxRecords(5))
        .on_lane_failure(OnLaneFailure::KeepOthers)
        .build()
        .unwrap();
    let handle = built.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(built.run(async move { drop(stopped.await) }));
    while handle.status().totals.records < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for lane in [&lanes[0], &lanes[2]] {
        broker.extend(lane, ["d", "e"]);
    }
    store.wait_rows(10).await;
    drop(stop);
    let error = running.await.unwrap().unwrap_err();
    assert!(aqueduct_core::ErrorChain(&error).to_string().contains("a bug in a converter"), "{error:?}");
    assert_eq!(store.offsets(&lanes[0]), [0, 1, 2, 3, 4]);
    assert_eq!(store.offsets(&lanes[2]), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_over_the_limit_is_poison_and_not_a_deadlock() {
    let lane = TopicPartition::new("orders", 0);
    let broker = aqueduct_core::testkit::ScriptedBroker::new();
    broker.append(&lane, Bytes::from("a"));
    broker.append(&lane, Bytes::from(vec![b'x'; 3 << 20]));
    broker.append(&lane, Bytes::from("b"));
    let store = MemoryStore::new();
    let built = pipeline(broker.source().until_end(), &store)
        .limits(aqueduct_core::Limits::default().with_record_max(1 << 20))
        .on_poison(OnPoison::Skip)
        .build();
    built.unwrap().run(never()).await.unwrap();
    assert_eq!(store.offsets(&lane), [0, 2]);
}

/// Refuses every tenth row.
pub(crate) struct Choosy;

#[async_trait::async_trait]
impl BatchSink<Bytes> for Choosy {
    fn name(&self) -> &'static str {
        "choosy/1"
    }

    async fn write(&self, batch: RowBatch<'_, Bytes>) -> Result<Vec<Rejected>, StageError> {
        let refused = batch.rows.iter().filter(|row| row.offset.get() % 10 == 3);
        let poison = || Poison::new(PoisonReason::Rejected, "the target says no");
        Ok(refused.map(|row| Rejected { offset: row.offset, poison: poison() }).collect())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_a_batch_sink_refuses_are_letters_and_not_counted_as_stored() {
    let (broker, _, lane) = many(100);
    let letters = MemoryDeadLetters::new();
    let built = pipeline_into(broker.source().until_end().batch_records(7), Batched::new(Choosy))
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .build();
    let report = built.unwrap().run(never()).await.unwrap();
    assert_eq!((report.rows, report.dead_letters, report.durable), (90, 10, 100));
    assert_eq!(letters.offsets(&lane).len(), 10);
}

/// Reads keys: `bad` cannot be, and of a header `h` nothing but `good`.
struct KeyOf;

impl Converter for KeyOf {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        match record.value_bytes() {
            Some(key) if key == "bad" => Err(Poison::new(PoisonReason::Malformed, "the key is bad")),
            key => Ok(Converted::Emit(key.unwrap_or_default())),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "key/1");
    }
}

/// Reads what [`Raw`] reads, and a header.
struct WithHeader;

impl Converter for WithHeader {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        if record.headers().any(|(_, value)| value == Some(b"bad")) {
            let poison = Poison::new(PoisonReason::Malformed, "header h is bad");
            return Err(poison.in_part(PoisonPart::Header));
        }
        Raw.convert(record)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "with-header/1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_say_whether_key_header_or_value_is_bad() {
    let broker = aqueduct_core::testkit::ScriptedBroker::new();
    let lane = TopicPartition::new("orders", 0);
    for (key, header, value) in [("a", "a", "a"), ("bad", "a", "a"), ("a", "bad", "a"), ("a", "a", "bad")] {
        broker.append(&lane, ScriptedRecord::new(value).key(key).header("h", header));
    }
    let (store, letters) = (MemoryStore::new(), MemoryDeadLetters::new());
    let value_of = |keyed: Keyed<Bytes, Bytes>| keyed.value;
    let built = Pipeline::from(broker.source().until_end())
        .convert(WithHeader.keyed(KeyOf).map("value", value_of))
        .partition(ByFirstByte("first/1"))
        .sink(MemorySink::<Bytes>::bytes(&store))
        .spool_dir(scratch())
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .build();
    built.unwrap().run(never()).await.unwrap();
    let stages: Vec<_> =
        letters.letters().iter().map(|letter| (letter.record.offset.get(), letter.stage)).collect();
    assert_eq!(
        stages,
        [(1, PoisonStage::ConvertKey), (2, PoisonStage::ConvertHeader), (3, PoisonStage::Convert)]
    );
    assert_eq!(store.offsets(&lane), [0]);
}
