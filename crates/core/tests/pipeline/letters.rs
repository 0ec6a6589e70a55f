//! Targets of dead letters that are down, and too many letters.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::testkit::{
    Fault, Faults, Faulty, Gate, MemoryDeadLetters, MemorySink, MemoryStore, ScriptedBroker, Step,
};
use aqueduct_core::{
    Batched, Builder, Class, Converted, Converter, ErrorChain, Fingerprint, LaneError, MaxRecords, Offset,
    OnPoison, Pipeline, PipelineError, PipelineStatus, Poison, PoisonBreaker, Record, TopicPartition,
};
use bytes::Bytes;

use crate::poison::Choosy;
use crate::stages::{ByFirstByte, Raw, all, many, never, pipeline, pipeline_into, scratch, world};

/// The corrected [`Raw`]: `bad` is a value like any other. Nothing in its layout says so.
#[derive(Debug)]
struct Corrected;

impl Converter for Corrected {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        match record.value_bytes() {
            Some(value) if value == "bad" => Ok(Converted::Emit(value)),
            _ => Raw.convert(record),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        Raw.fingerprint(parts);
    }
}

/// Good values, and bad ones from `from` on.
fn spoiled(count: usize, from: usize) -> Vec<&'static str> {
    (0..count).map(|index| if index < from { "a" } else { "bad" }).collect()
}

async fn until(handle: &aqueduct_core::Handle, wanted: impl Fn(&PipelineStatus) -> bool) {
    let waiting = async {
        while !wanted(&handle.status()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it never comes to that");
}

/// Refused before the cut, the letters go out in front of it; refused by the target late, behind the objects. Either way the
/// lane waits, says so, and the one beside it does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_down_pauses_its_lane_alone_and_says_so() {
    for late in [false, true] {
        let broker = ScriptedBroker::new();
        let lanes = broker.create("orders", 2);
        let spoilt = if late { "c" } else { "bad" };
        broker.extend(&lanes[0], ["a", spoilt, "b"]);
        broker.extend(&lanes[1], ["a", "b"]);
        let store = MemoryStore::new();
        let (letters, faults) = (MemoryDeadLetters::new(), Faults::new());
        faults.always(Step::Send, Fault::Reject(Class::RETRY));
        let sink = MemorySink::<Bytes>::bytes(&store);
        let sink = if late { sink.refuse_at_publish(|offset| offset == Offset::new(2)) } else { sink };
        let built = pipeline_into(broker.source(), sink)
            .rotate(MaxRecords(3))
            .on_poison(OnPoison::DeadLetter(Arc::new(Faulty::new(letters.clone(), &faults))))
            .build()
            .unwrap();
        let handle = built.handle();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(built.run(async move { drop(stopped.await) }));
        let of = |status: &PipelineStatus, lane: &TopicPartition| {
            status.lanes.iter().find(|it| it.lane == *lane).cloned()
        };
        until(&handle, |status| of(status, &lanes[0]).is_some_and(|it| it.retrying.is_some())).await;
        let waiting = of(&handle.status(), &lanes[0]).unwrap();
        assert!(waiting.retrying.unwrap().contains("send"), "late: {late}");
        assert_eq!((waiting.mark, letters.letters().len()), (Offset::ZERO, 0), "late: {late}");
        broker.extend(&lanes[1], ["c"]);
        // Refused late, the third record of the other one waits for the letters, too.
        if !late {
            broker.wait_durable(&lanes[1], Offset::new(3)).await;
        }
        assert!(!running.is_finished());

        faults.clear(Step::Send);
        broker.wait_durable(&lanes[0], Offset::new(3)).await;
        broker.wait_durable(&lanes[1], Offset::new(3)).await;
        until(&handle, |status| status.lanes.iter().all(|it| it.retrying.is_none())).await;
        drop(stop);
        let report = running.await.unwrap().unwrap();
        let refused = if late { 2 } else { 1 };
        assert_eq!((report.dead_letters, report.abandoned), (refused, 0), "late: {late}");
        assert_eq!(letters.letters().len() as u64, refused, "late: {late}");
        assert_eq!(store.objects().iter().map(|it| it.rows.len() as u64).sum::<u64>() + refused, 6);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_for_good_stops_the_lane_and_loses_nothing() {
    let (broker, store, lane) = world(["a", "bad", "b"]);
    let (letters, faults) = (MemoryDeadLetters::new(), Faults::new());
    faults.always(Step::Send, Fault::Reject(Class::Fatal));
    let run = || {
        let target = Arc::new(Faulty::new(letters.clone(), &faults));
        pipeline(broker.source().until_end(), &store).on_poison(OnPoison::DeadLetter(target)).build().unwrap()
    };
    let error = run().run(never()).await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("orders[0]"), "{error:?}");
    assert!(store.objects().is_empty() && broker.mark(&lane).is_none_or(|mark| mark.next == Offset::ZERO));
    faults.clear(Step::Send);
    run().run(never()).await.unwrap();
    assert_eq!((store.offsets(&lane), letters.offsets(&lane)), (vec![0, 2], vec![1]));
}

/// A deploy gone wrong: from some record on everything is poison. The segments before are stored; of the one in which it shows
/// nothing is, and no letter is sent, so the corrected version stores everything.
#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_stops_before_the_letters_of_its_segment_are_sent() {
    let (broker, store, lane) = world(spoiled(300, 130));
    let letters = MemoryDeadLetters::new();
    let run = || {
        pipeline(broker.source().until_end().batch_records(7), &store)
            .rotate(MaxRecords(100))
            .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
            .poison_breaker(PoisonBreaker::more_than(10, 50))
            .build()
            .unwrap()
    };
    for _ in 0..2 {
        let error = run().run(never()).await.unwrap_err();
        let text = ErrorChain(&error).to_string();
        let PipelineError::Lane { source, .. } = error else { panic!("{text}") };
        let LaneError::PoisonRate { poisoned, offset, published, .. } = *source else { panic!("{text}") };
        assert_eq!((poisoned, offset, published), (11, Offset::new(140), Offset::new(100)), "{text}");
        for part in ["orders[0]", "11 of", "offset 140", "the value is bad", "PoisonBreaker"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(store.offsets(&lane), all(100), "what came before is stored, of the rest nothing");
        assert_eq!(broker.mark(&lane).unwrap().next, Offset::new(100));
        assert!(letters.letters().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_within_the_limit_does_not_trip_however_long_it_goes_on() {
    let values: Vec<_> = (0..500).map(|index| if index % 5 == 0 { "bad" } else { "a" }).collect();
    let (broker, store, lane) = world(values);
    let built = pipeline(broker.source().until_end().batch_records(33), &store)
        .on_poison(OnPoison::Skip)
        .poison_breaker(PoisonBreaker::more_than(10, 50))
        .build();
    let report = built.unwrap().run(never()).await.unwrap();
    assert_eq!((report.skipped, store.offsets(&lane).len()), (100, 400));
}

/// Rows that the sink refuses at the cut count as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_breaker_counts_rows_that_are_refused_at_the_cut() {
    let (broker, store, lane) = many(100);
    let letters = MemoryDeadLetters::new();
    let sink = MemorySink::<Bytes>::bytes(&store).refuse_at_stage(|offset| offset.get() >= 60);
    let built = pipeline_into(broker.source().until_end(), sink)
        .rotate(MaxRecords(50))
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .poison_breaker(PoisonBreaker::more_than(20, 100))
        .build();
    let error = built.unwrap().run(never()).await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("40 of 50"), "{error:?}");
    assert_eq!((store.offsets(&lane), letters.letters().len()), (all(50), 0));
}

/// A batch may be longer than a window: what is refused of all of it is not one window's.
#[tokio::test(flavor = "multi_thread")]
async fn rows_refused_of_a_long_batch_count_by_their_share() {
    for (most, trips) in [(2, true), (6, false)] {
        let (broker, _, lane) = many(2_000);
        let built = pipeline_into(broker.source().until_end().batch_records(1_000), Batched::new(Choosy))
            .on_poison(OnPoison::Skip)
            .poison_breaker(PoisonBreaker::more_than(most, 50))
            .build();
        // One in ten: five in fifty.
        assert_eq!(built.unwrap().run(never()).await.is_err(), trips, "more than {most} of 50");
        assert_eq!(broker.mark(&lane).is_some_and(|mark| mark.next == Offset::new(2_000)), !trips);
    }
}

/// What a former owner has let through is finished as it was cut.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_segment_full_of_poison_is_finished_all_the_same() {
    let (broker, store, lane) = world(spoiled(60, 10));
    broker.on_commit(&lane, 2, Fault::FailAfterWrite(Class::Fatal));
    let letters = MemoryDeadLetters::new();
    let run = |breaker: Option<PoisonBreaker>| {
        let target = Arc::new(letters.clone());
        let built = pipeline(broker.source().until_end(), &store)
            .rotate(MaxRecords(60))
            .on_poison(OnPoison::DeadLetter(target));
        breaker.into_iter().fold(built, Builder::poison_breaker).build().unwrap()
    };
    run(None).run(never()).await.unwrap_err();
    assert!(broker.mark(&lane).unwrap().intent.is_some(), "it is cut and not published");
    let report = run(Some(PoisonBreaker::more_than(5, 50))).run(never()).await.unwrap();
    assert_eq!(report.recovered, 1);
    assert_eq!((store.offsets(&lane), letters.offsets(&lane).len()), (all(10), 50));
}

#[test]
fn a_breaker_that_never_trips_is_refused() {
    let (broker, store, _) = many(1);
    let built = pipeline(broker.source(), &store).poison_breaker(PoisonBreaker::more_than(50, 50)).build();
    assert!(built.unwrap_err().to_string().contains("more than 50 of 50"));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_refused_by_the_target_with_the_policy_to_stop_name_where_storing_ends() {
    let (broker, store, lane) = many(100);
    let sink = MemorySink::<Bytes>::bytes(&store).refuse_at_stage(|offset| offset == Offset::new(77));
    let built = pipeline_into(broker.source().until_end(), sink).rotate(MaxRecords(50)).build().unwrap();
    let error = built.run(never()).await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    assert!(text.contains("offset 77") && text.contains("before offset 50 is published"), "{text}");
    assert_eq!((store.offsets(&lane), broker.mark(&lane).unwrap().next), (all(50), Offset::new(50)));
}

/// The letter is stored, the process dies before it goes on, and whoever starts next has the correction: the record converts
/// now. Stored live, it would be there twice as soon as its letter is driven again.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_letter_exists_is_not_stored_by_a_corrected_pipeline() {
    // With rows beside them, and a segment of nothing but letters.
    for values in [&["a", "bad", "b", "bad"][..], &["bad", "bad"][..]] {
        let (broker, store, lane) = world(values.iter().copied());
        let (letters, faults) = (MemoryDeadLetters::new(), Faults::new());
        faults.next(Step::Send, Fault::FailAfterWrite(Class::Fatal));
        let policy = || OnPoison::DeadLetter(Arc::new(Faulty::new(letters.clone(), &faults)));
        let run = || pipeline(broker.source().until_end(), &store).on_poison(policy()).build().unwrap();
        run().run(never()).await.unwrap_err();
        let bad: Vec<i64> = (0..).zip(values).filter(|it| *it.1 == "bad").map(|it| it.0).collect();
        assert_eq!((letters.offsets(&lane), store.objects().len()), (bad.clone(), 0));

        let corrected = Pipeline::from(broker.source().until_end())
            .convert(Corrected)
            .partition(ByFirstByte("first/1"))
            .sink(MemorySink::<Bytes>::bytes(&store))
            .on_poison(policy())
            .spool_dir(scratch())
            .build()
            .unwrap();
        let error = corrected.run(never()).await.unwrap_err();
        assert!(ErrorChain(&error).to_string().contains("finish_pending"), "{error:?}");
        assert!(store.objects().is_empty(), "nothing of a diverged segment is visible");

        // The version that began it ends it.
        run().run(never()).await.unwrap();
        let good: Vec<i64> = (0..).zip(values).filter(|it| *it.1 != "bad").map(|it| it.0).collect();
        assert_eq!(store.offsets(&lane), good);
        assert_eq!(
            letters.offsets(&lane),
            [bad.clone(), bad].concat(),
            "sent again, with the identity they had"
        );
        assert_eq!(broker.mark(&lane).unwrap().next, broker.end(&lane));
    }
}

/// As above, for rows that the sink itself refuses at the cut: the corrected version takes them.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_refused_at_the_cut_whose_letter_exists_is_not_stored_by_a_corrected_sink() {
    let (broker, store, lane) = many(10);
    let (letters, faults) = (MemoryDeadLetters::new(), Faults::new());
    faults.next(Step::Send, Fault::FailAfterWrite(Class::Fatal));
    let run = |refused: i64| {
        let sink = MemorySink::<Bytes>::bytes(&store).refuse_at_stage(move |offset| offset.get() == refused);
        pipeline_into(broker.source().until_end(), sink)
            .on_poison(OnPoison::DeadLetter(Arc::new(Faulty::new(letters.clone(), &faults))))
            .build()
            .unwrap()
    };
    run(3).run(never()).await.unwrap_err();
    assert_eq!((letters.offsets(&lane), store.objects().len()), (vec![3], 0));
    // Nothing refused any more; and as many as before, but another one.
    for refused in [-1, 4] {
        let error = run(refused).run(never()).await.unwrap_err();
        assert!(ErrorChain(&error).to_string().contains("[0, 10)"), "{error:?}");
        assert!(store.objects().is_empty());
    }
    run(3).run(never()).await.unwrap();
    assert_eq!(store.offsets(&lane), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
}

/// A sink that rolls forward does not read again, so nobody would come by the letters a second time: they are sent before
/// their segment's token is written down, and behind the cut all the same.
#[tokio::test(flavor = "multi_thread")]
async fn letters_of_a_sink_that_rolls_forward_are_neither_lost_nor_live() {
    for fault in [Fault::FailAfterWrite(Class::Fatal), Fault::Reject(Class::Fatal)] {
        let (broker, store, lane) = world(["a", "bad", "b"]);
        let (letters, faults) = (MemoryDeadLetters::new(), Faults::new());
        faults.next(Step::Send, fault);
        let policy = || OnPoison::DeadLetter(Arc::new(Faulty::new(letters.clone(), &faults)));
        let sink = || MemorySink::<Bytes>::bytes(&store).rolling_forward();
        let run = || pipeline_into(broker.source().until_end(), sink()).on_poison(policy()).build().unwrap();
        run().run(never()).await.unwrap_err();
        let corrected = Pipeline::from(broker.source().until_end())
            .convert(Corrected)
            .partition(ByFirstByte("first/1"))
            .sink(sink())
            .on_poison(policy())
            .spool_dir(scratch())
            .build()
            .unwrap();
        let error = corrected.run(never()).await.unwrap_err();
        assert!(ErrorChain(&error).to_string().contains("[0, 3)"), "{error:?}");
        assert!(store.objects().is_empty());
        // Dies again, with everything written down: now it is rolled forward.
        let gate = Gate::new();
        store.faults().next(Step::Create, Fault::Hold(gate.clone()));
        let killed = tokio::spawn(run().run(never()));
        gate.arrived().await;
        killed.abort();
        drop(killed.await);
        assert!(!broker.mark(&lane).unwrap().intent.unwrap().token.is_empty());
        let sent = letters.offsets(&lane).len();
        assert!(sent >= 1);
        run().run(never()).await.unwrap();
        assert_eq!((store.offsets(&lane), letters.offsets(&lane).len()), (vec![0, 2], sent));
    }
}

/// A segment of letters alone is written down in front of them like any other.
#[tokio::test(flavor = "multi_thread")]
async fn letters_without_rows_are_pinned_before_they_are_sent() {
    let (broker, store, lane) = world(["bad"; 5]);
    let (letters, faults) = (MemoryDeadLetters::new(), Faults::new());
    faults.always(Step::Send, Fault::Reject(Class::RETRY));
    let target = Arc::new(Faulty::new(letters.clone(), &faults));
    let built = pipeline(broker.source().until_end(), &store).on_poison(OnPoison::DeadLetter(target)).build();
    let running = tokio::spawn(built.unwrap().run(never()));
    let intent = broker.wait_intent(&lane).await.intent.unwrap();
    assert_eq!((intent.rows, intent.range.end(), letters.letters().len()), (0, Offset::new(5), 0));
    faults.clear(Step::Send);
    let report = running.await.unwrap().unwrap();
    assert_eq!((report.dead_letters, report.durable, report.objects, report.segments), (5, 5, 0, 0));
    assert_eq!(letters.offsets(&lane), all(5));
    assert_eq!(broker.mark(&lane), Some(aqueduct_core::Mark::at(Offset::new(5))));
}

/// Thousands of letters, over many segments, none lost between the cut and the publisher.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_letters_are_all_there_and_once() {
    let (broker, store, lane) = world(["a", "bad", "bad", "bad"].repeat(2_000));
    let letters = MemoryDeadLetters::new();
    let built = pipeline(broker.source().until_end(), &store)
        .rotate(MaxRecords(5_000))
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .build();
    let report = built.unwrap().run(never()).await.unwrap();
    let expected: Vec<i64> = (0..8_000).filter(|offset| offset % 4 != 0).collect();
    assert_eq!((letters.offsets(&lane), report.dead_letters), (expected, 6_000));
    assert_eq!(store.offsets(&lane).len(), 2_000);
}

/// Cut under another policy, a segment has had no letters to end it. What memory does not hold is not sent in pieces either:
/// whether the replay diverges is known only at its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_segment_with_more_letters_than_memory_holds_wants_its_own_policy() {
    let broker = ScriptedBroker::new();
    let lane = TopicPartition::new("orders", 0);
    let bad = Bytes::from([b"!".as_slice(), &vec![b'x'; 512 << 10]].concat());
    broker.extend(&lane, (0..40).map(|_| bad.clone()).chain([Bytes::from("a")]));
    let store = MemoryStore::new();
    let letters = MemoryDeadLetters::new();
    let run = |policy: OnPoison| {
        pipeline(broker.source().until_end(), &store)
            .rotate(MaxRecords(100))
            .on_poison(policy)
            .build()
            .unwrap()
    };
    broker.on_commit(&lane, 2, Fault::FailAfterWrite(Class::Fatal));
    run(OnPoison::Skip).run(never()).await.unwrap_err();
    assert_eq!(broker.mark(&lane).unwrap().intent.unwrap().range.end(), Offset::new(41));
    let error = run(OnPoison::DeadLetter(Arc::new(letters.clone()))).run(never()).await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    assert!(text.contains("[0, 41)") && text.contains("finish_pending()"), "{text}");
    assert!(letters.letters().is_empty() && store.objects().is_empty());
    run(OnPoison::Skip).run(never()).await.unwrap();
    assert_eq!((store.offsets(&lane), broker.mark(&lane).unwrap().next), (vec![40], Offset::new(41)));
}
