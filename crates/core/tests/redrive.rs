//! Letters of a pipeline, driven again through a corrected one.

use std::sync::Arc;

use aqueduct_core::testkit::{ManualClock, MemoryDeadLetters, MemoryRepairs};
use aqueduct_core::{
    Converted, Converter, DeadLetter, DeadLetterSink as _, Fingerprint, LetterFilter, LetterSource, Offset,
    OffsetRange, OwnedRecord, Partitioner, Poison, PoisonReason, PoisonStage, Record, Redrive, RedriveReport,
    RepairBatch, RepairSink, Repaired, RoutePath, SkipReason, StageError, StoredLetter, Timestamp,
    TopicPartition, UnreadableLetter,
};
use bytes::Bytes;

/// Takes everything but `bad`; leaves out what has no value.
struct Corrected;

impl Converter for Corrected {
    type Output = String;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<String>, Poison> {
        match record.value() {
            None => Ok(Converted::Skip(SkipReason::Tombstone)),
            Some(b"bad") => Err(Poison::new(PoisonReason::Malformed, "the value is bad")
                .in_part(aqueduct_core::PoisonPart::Key)),
            Some(value) => {
                let headers: Vec<_> = record.headers().map(|(name, _)| name).collect();
                Ok(Converted::Emit(format!("{}{}", String::from_utf8_lossy(value), headers.concat())))
            }
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "corrected/1");
    }
}

/// By the time the segment, or here the repair, was opened.
struct ByOpening;

impl Partitioner<String> for ByOpening {
    fn route(&self, _record: &Record<'_>, value: &String, path: &mut RoutePath) -> Result<(), Poison> {
        if value.starts_with('!') {
            return Err(Poison::new(PoisonReason::MissingField, "no place for it"));
        }
        let opened = path.opened_at_ms().to_string();
        path.push_field("opened", &opened)
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "opening/1");
    }
}

fn lane(topic: &'static str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

fn letter(lane: &TopicPartition, offset: i64, value: Option<&str>) -> DeadLetter {
    DeadLetter {
        record: OwnedRecord {
            lane: lane.clone(),
            offset: Offset::new(offset),
            timestamp: if offset == 9 { Timestamp::None } else { Timestamp::LogAppend(100 + offset) },
            key: Some(Bytes::from_static(b"k")),
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            headers: vec![("h".to_owned(), None)],
        },
        stage: if offset % 2 == 0 { PoisonStage::Convert } else { PoisonStage::ConvertKey },
        poison: Poison::new(
            if offset % 3 == 0 { PoisonReason::Malformed } else { PoisonReason::NullValue },
            "as it was",
        ),
    }
}

async fn run(
    letters: &mut impl LetterSource,
    repairs: &MemoryRepairs<String>,
    filter: LetterFilter,
) -> RedriveReport {
    let redrive = Redrive::new(Corrected, ByOpening, repairs.clone());
    let redrive = redrive.select(filter).clock(Arc::new(ManualClock::at_millis(77)));
    let report = redrive.run(letters).await;
    report.unwrap_or_else(|error| panic!("{error:?}"))
}

#[tokio::test]
async fn every_letter_is_accounted_for_and_stored_at_most_once() {
    let (one, two) = (lane("orders", 0), lane("orders", 1));
    let letters = MemoryDeadLetters::new();
    let values = [Some("a"), Some("bad"), None, Some("!x"), Some("b")];
    // In any order, and some of them twice: they were sent again after a crash.
    for offset in [4, 0, 2, 1, 3, 4, 0] {
        letters.send(vec![letter(&one, offset, values[usize::try_from(offset).unwrap()])]).await.unwrap();
    }
    letters.send(vec![letter(&two, 0, Some("c"))]).await.unwrap();
    let repairs = MemoryRepairs::new();
    let report = run(&mut letters.source(), &repairs, LetterFilter::all()).await;
    assert_eq!((report.read, report.repeated, report.selected), (8, 2, 6));
    assert_eq!((report.repaired, report.before, report.skipped, report.poisoned()), (3, 0, 1, 2));
    let keys: Vec<_> = report.still_poison.keys().copied().collect();
    assert_eq!(keys, [("convert-key", "malformed"), ("partition", "missing-field")]);
    assert_eq!(
        repairs.rows(&one),
        [(0, "opened=77".into(), "ah".to_owned()), (4, "opened=77".into(), "bh".into())]
    );
    assert_eq!(repairs.rows(&two).len(), 1);
    let again = run(&mut letters.source(), &repairs, LetterFilter::all()).await;
    assert_eq!((again.repaired, again.before, again.poisoned()), (0, 3, 2));
    assert_eq!(
        report.to_string(),
        "read=8 repeated=2 selected=6 repaired=3 before=0 under_way=0 finished=0 skipped=1 still_poison=2 unreadable=0 objects=0"
    );
}

#[tokio::test]
async fn filters_of_one_kind_are_any_and_of_several_all() {
    let (orders, returns) = (lane("orders", 0), lane("returns", 0));
    let letters = MemoryDeadLetters::new();
    for lane in [&orders, &returns] {
        letters.send((0..10).map(|offset| letter(lane, offset, Some("v"))).collect()).await.unwrap();
    }
    let range = |from, to| OffsetRange::new(Offset::new(from), Offset::new(to)).unwrap();
    let all = LetterFilter::all;
    let filters: [(LetterFilter, &[i64], &[i64]); 8] = [
        (all().topic("orders").offsets(orders.clone(), range(3, 6)), &[3, 4, 5], &[]),
        (all().reason(PoisonReason::Malformed), &[0, 3, 6, 9], &[0, 3, 6, 9]),
        (all().reason(PoisonReason::Malformed).stage(PoisonStage::ConvertKey), &[3, 9], &[3, 9]),
        (all().topic("returns").topic("none").record_time(104..106), &[], &[4, 5]),
        (all().record_time(0..101).record_time(108..110), &[0, 8], &[0, 8]),
        (all().pipeline_version("7"), &[], &[]),
        (all().offsets(orders.clone(), range(9, 10)).offsets(returns.clone(), range(0, 2)), &[9], &[0, 1]),
        (all().stage(PoisonStage::Target), &[], &[]),
    ];
    for (filter, of_orders, of_returns) in filters {
        let repairs = MemoryRepairs::new();
        let report = run(&mut letters.source(), &repairs, filter.clone()).await;
        let stored = |lane| repairs.rows(lane).into_iter().map(|row| row.0).collect::<Vec<_>>();
        assert_eq!(
            (stored(&orders), stored(&returns)),
            (of_orders.to_vec(), of_returns.to_vec()),
            "{filter:?}"
        );
        assert_eq!(report.selected, report.repaired);
    }
}

/// Letters over many partitions, heavy ones: what waits in memory is stored before there is too much of it.
#[tokio::test]
async fn a_letter_that_is_not_taken_hides_none_that_is() {
    struct Versions(Vec<StoredLetter>);

    #[async_trait::async_trait]
    impl LetterSource for Versions {
        async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
            Ok(self.0.pop().map(Ok))
        }
    }

    let orders = lane("orders", 0);
    let of_version = |version: &str| StoredLetter {
        record: letter(&orders, 0, Some("v")).record,
        pipeline: "orders".to_owned(),
        pipeline_version: version.to_owned(),
        stage: "convert".to_owned(),
        reason: "malformed".to_owned(),
        detail: String::new(),
    };
    // The record was poison to two versions; the older letter comes first.
    let mut letters = Versions(["2", "2", "1"].map(of_version).into());
    let repairs = MemoryRepairs::new();
    let report = run(&mut letters, &repairs, LetterFilter::all().pipeline_version("2")).await;
    assert_eq!((report.read, report.selected, report.repeated, report.repaired), (3, 1, 1, 1));
    assert_eq!(repairs.rows(&orders).len(), 1);
}

#[tokio::test]
async fn letters_of_many_partitions_do_not_wait_for_each_other_in_memory() {
    struct Heavy(i32);

    #[async_trait::async_trait]
    impl LetterSource for Heavy {
        async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
            self.0 += 1;
            if self.0 > 100 {
                return Ok(None);
            }
            if self.0 % 10 == 0 {
                let unreadable =
                    UnreadableLetter { place: format!("line {}", self.0), detail: "torn".into() };
                return Ok(Some(Err(unreadable)));
            }
            let DeadLetter { record, .. } = letter(&lane("orders", self.0), 0, Some(&"x".repeat(2 << 20)));
            let text = String::new;
            let (pipeline, pipeline_version, stage, reason, detail) =
                (text(), text(), text(), text(), text());
            Ok(Some(Ok(StoredLetter { record, pipeline, pipeline_version, stage, reason, detail })))
        }
    }

    /// Counts what it is given at a time.
    struct Counting(std::sync::Mutex<Vec<i32>>);

    #[async_trait::async_trait]
    impl RepairSink<String> for Counting {
        async fn repair(&self, batch: RepairBatch<'_, String>) -> Result<Repaired, StageError> {
            self.0.lock().unwrap().push(batch.lane.partition());
            Ok(Repaired { stored: batch.rows.len() as u64, ..Repaired::default() })
        }

        fn fingerprint(&self, parts: &mut Fingerprint) {
            parts.put("sink", "counting/1");
        }
    }

    struct Shared(Arc<Counting>);

    #[async_trait::async_trait]
    impl RepairSink<String> for Shared {
        async fn repair(&self, batch: RepairBatch<'_, String>) -> Result<Repaired, StageError> {
            self.0.repair(batch).await
        }

        fn fingerprint(&self, parts: &mut Fingerprint) {
            self.0.fingerprint(parts);
        }
    }

    let sink = Arc::new(Counting(std::sync::Mutex::default()));
    let redrive = Redrive::new(Corrected, ByOpening, Shared(Arc::clone(&sink)));
    let report = redrive.run(&mut Heavy(0)).await.unwrap();
    assert_eq!((report.repaired, report.read, report.unreadable), (90, 90, 10));
    assert_eq!(report.unreadable_examples.len(), 10);
    let order = sink.0.lock().unwrap().clone();
    assert!(!order.is_sorted(), "some went before the end of the letters: {order:?}");
}
