//! From start to end, nothing going wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aqueduct_core::testkit::{ManualClock, MemorySink, MemoryStore, ScriptedBroker, ScriptedRecord};
use aqueduct_core::{
    Budget, Converter, Guarantee, Idle, LaneState, Limits, Mark, MaxAge, MaxRecords, Offset, Partitioner,
    Pipeline, RecordTime, Schedule, Sink, TopicPartition, any,
};
use bytes::Bytes;

use crate::stages::{ByFirstByte, Raw, all, many, never, pipeline, scratch, values, world};

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_run_stores_every_record_once_and_ends() {
    let (broker, store, lane) = many(2_500);
    let published = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&published);
    let report = pipeline(broker.source().until_end().batch_records(300), &store)
        .rotate(MaxRecords(1_000))
        .require(Guarantee::ExactlyOnce)
        .on_published(move |segment| {
            counter.fetch_add(segment.objects.len(), Ordering::Relaxed);
        })
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap();
    assert_eq!(store.offsets(&lane), all(2_500));
    assert_eq!(broker.mark(&lane), Some(Mark::at(Offset::new(2_500))));
    assert_eq!((report.records, report.durable, report.rows, report.segments), (2_500, 2_500, 2_500, 3));
    assert_eq!(report.objects, 15, "five routes in each of three segments");
    assert_eq!(published.load(Ordering::Relaxed), 15);
    assert_eq!(report.pending_intents, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_publication_was_written_down_first() {
    let (broker, store, lane) = many(900);
    let built =
        pipeline(broker.source().until_end().batch_records(100), &store).rotate(MaxRecords(300)).build();
    built.unwrap().run(never()).await.unwrap();
    let marks: Vec<_> = broker.commits(&lane).iter().map(|commit| commit.mark().unwrap()).collect();
    let intents: Vec<_> =
        marks.iter().filter_map(|mark| mark.intent.as_ref()).map(|i| i.range.end().get()).collect();
    assert_eq!(intents, [300, 600, 900]);
    assert!(marks.windows(2).all(|pair| pair[0].next <= pair[1].next), "marks never go back: {marks:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_goes_on_where_the_last_run_ended() {
    let (broker, store, lane) = many(100);
    for _ in 0..3 {
        pipeline(broker.source().until_end(), &store).build().unwrap().run(never()).await.unwrap();
        broker.extend(&lane, values(50).into_iter().map(Bytes::from));
    }
    pipeline(broker.source().until_end(), &store).build().unwrap().run(never()).await.unwrap();
    assert_eq!(store.offsets(&lane), all(250));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_publishes_what_was_taken_in() {
    let (broker, store, lane) = many(500);
    let built = pipeline(broker.source(), &store).rotate(MaxRecords(1_000_000)).build().unwrap();
    let handle = built.handle();
    let all_read = async move {
        while handle.status().lanes.first().is_none_or(|lane| lane.open_rows < 500) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let report = built.run(all_read).await.unwrap();
    assert_eq!(store.offsets(&lane), all(500));
    assert_eq!((report.segments, report.abandoned), (1, 0));
}

/// "For ever", as people write it: sums with it must not pass the end of all times.
#[tokio::test(flavor = "multi_thread")]
async fn durations_without_an_end_are_long_and_no_panic() {
    let (broker, store, lane) = many(500);
    let for_ever = (
        MaxAge::of(Duration::MAX),
        Idle::of(Duration::MAX),
        RecordTime::of(Duration::MAX),
        Schedule::every(Duration::MAX, "UTC"),
        MaxAge::minutes(u64::MAX),
    );
    let built =
        pipeline(broker.source(), &store).rotate(any(for_ever)).shutdown_timeout(Duration::MAX).build();
    let built = built.unwrap();
    let handle = built.handle();
    let all_read = async move {
        while handle.status().lanes.first().is_none_or(|lane| lane.open_rows < 500) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    built.run(all_read).await.unwrap();
    assert_eq!(store.offsets(&lane), all(500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_topic_still_rotates_by_age() {
    let (broker, store, lane) = many(10);
    let clock = Arc::new(ManualClock::at_millis(1_700_000_000_000));
    let built = pipeline(broker.source(), &store)
        .rotate(any((MaxRecords(1_000_000), MaxAge::minutes(5))))
        .clock(Arc::<ManualClock>::clone(&clock))
        .build()
        .unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(built.run(async move { drop(stopped.await) }));
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(store.objects().is_empty(), "not old enough yet");
    clock.advance(Duration::from_secs(301));
    store.wait_rows(10).await;
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(store.offsets(&lane), all(10));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mark_follows_tombstones_and_control_records() {
    let (broker, store, lane) = world(["a1"]);
    for _ in 0..500 {
        broker.append(&lane, ScriptedRecord::tombstone());
    }
    broker.skip(&lane, 7);
    let report = pipeline(broker.source().until_end(), &store).build().unwrap().run(never()).await.unwrap();
    assert_eq!(store.offsets(&lane), [0]);
    assert_eq!(report.skipped, 500);
    assert_eq!(broker.mark(&lane).unwrap().next, Offset::new(508), "no phantom lag");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_only_tombstones_moves_the_mark_without_an_object() {
    let broker = ScriptedBroker::new();
    let lane = TopicPartition::new("orders", 0);
    broker.extend(&lane, std::iter::repeat_with(ScriptedRecord::tombstone).take(300));
    let store = MemoryStore::new();
    let report = pipeline(broker.source().until_end(), &store).build().unwrap().run(never()).await.unwrap();
    assert!(store.objects().is_empty());
    assert_eq!((report.durable, report.objects), (300, 0));
    assert_eq!(broker.mark(&lane), Some(Mark::at(Offset::new(300))));
}

/// A quiet topic of tombstones moves its mark every five seconds, not at every tick.
#[tokio::test(start_paused = true)]
async fn the_mark_follows_what_stores_nothing_now_and_then() {
    let (broker, store, lane) = world([]);
    let built = pipeline(broker.source(), &store).build().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(built.run(async move { drop(stopped.await) }));
    for _ in 0..600 {
        broker.append(&lane, ScriptedRecord::tombstone());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let commits = broker.commits(&lane).len();
    assert!((10..=13).contains(&commits), "{commits} commits in a minute");
    drop(stop);
    running.await.unwrap().unwrap();
    assert_eq!(broker.mark(&lane), Some(Mark::at(Offset::new(600))));
}

#[tokio::test(flavor = "multi_thread")]
async fn flush_pause_and_resume() {
    let (broker, store, lane) = many(40);
    let built = pipeline(broker.source(), &store).rotate(MaxRecords(1_000_000)).build().unwrap();
    let handle = built.handle();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(built.run(async move { drop(stopped.await) }));
    while handle.status().totals.records < 40 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    handle.flush().await;
    assert_eq!(store.offsets(&lane), all(40));
    assert_eq!(handle.status().lanes[0].mark, Offset::new(40));
    handle.pause().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    broker.extend(&lane, values(20).into_iter().map(Bytes::from));
    tokio::time::sleep(Duration::from_millis(100)).await;
    handle.flush().await;
    assert_eq!(store.offsets(&lane), all(40), "paused");
    handle.resume().await;
    while handle.status().totals.records < 60 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    handle.flush().await;
    assert_eq!(store.offsets(&lane), all(60));
    assert_eq!(handle.status().lanes[0].state, LaneState::Idle);
    drop(stop);
    running.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_disk_budget_cuts_early_and_loses_nothing() {
    let (broker, store, lane) = {
        let broker = ScriptedBroker::new();
        let lane = TopicPartition::new("orders", 0);
        broker.extend(&lane, (0..3_000).map(|index| Bytes::from(format!("{index:01000}"))));
        (broker, MemoryStore::new(), lane)
    };
    let report = pipeline(broker.source().until_end().batch_records(100), &store)
        .rotate(MaxRecords(1_000_000))
        .limits(Limits::default().with_disk(512 << 10))
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap();
    assert_eq!(store.offsets(&lane), all(3_000));
    assert!(report.segments >= 6, "3 MB through 512 KiB: {report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_lanes_share_one_small_budget() {
    let broker = ScriptedBroker::new();
    let lanes = broker.create("orders", 32);
    for lane in &lanes {
        broker.extend(lane, values(400).into_iter().map(Bytes::from));
    }
    let store = MemoryStore::new();
    let budget = Budget::new(Budget::MIN_MEMORY, 64 << 10);
    let report = pipeline(broker.source().until_end().batch_records(50), &store)
        .rotate(MaxRecords(1_000_000))
        .limits(Limits::default().with_budget(&budget))
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap();
    assert_eq!(report.durable, 32 * 400);
    for lane in &lanes {
        assert_eq!(store.offsets(lane), all(400), "{lane}");
    }
    assert_eq!((budget.disk().used(), budget.fill().used(), budget.publish().used()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_builder_takes_stages_chosen_at_run_time() {
    let (broker, store, lane) = many(20);
    let converter: Arc<dyn Converter<Output = Bytes>> = Arc::new(Raw);
    let partitioner: Box<dyn Partitioner<Bytes>> = Box::new(ByFirstByte("first/1"));
    let sink: Arc<dyn Sink<Bytes>> = Arc::new(MemorySink::<Bytes>::bytes(&store));
    Pipeline::from(broker.source().until_end())
        .convert(converter)
        .partition(partitioner)
        .sink(sink)
        .spool_dir(scratch())
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap();
    assert_eq!(store.offsets(&lane), all(20));
}

#[test]
fn all_problems_are_reported_at_once() {
    let (broker, store, _) = many(0);
    let errors = pipeline_with_a_clock(&broker, &store).unwrap_err();
    let text = errors.to_string();
    assert_eq!(errors.problems().len(), 4, "{text}");
    for part in ["name", "memory budget", "exactly once is required", "shutdown timeout"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn pipeline_with_a_clock(
    broker: &ScriptedBroker,
    store: &MemoryStore,
) -> Result<Pipeline, aqueduct_core::BuildErrors> {
    Pipeline::from(broker.source())
        .convert(Raw)
        .partition(ByFirstByte("first/1"))
        .sink(MemorySink::<Bytes>::bytes(store).after_durable())
        .name("../escape")
        .limits(Limits::default().with_memory(1))
        .require(Guarantee::ExactlyOnce)
        .shutdown_timeout(Duration::ZERO)
        .build()
}
