//! Crashes, hand-overs and zombies.

use std::time::Duration;

use aqueduct_core::testkit::{Fault, Faults, Faulty, Gate, MemorySink, MemoryStore, ScriptedBroker, Step};
use aqueduct_core::{
    Class, ErrorChain, Guarantee, Mark, MaxRecords, Offset, Pipeline, Report, TopicPartition,
};
use bytes::Bytes;

use crate::stages::{ByFirstByte, Raw, all, many, never, pipeline, pipeline_into, scratch};

async fn finish(broker: &ScriptedBroker, store: &MemoryStore) -> Report {
    pipeline(broker.source().until_end(), store)
        .rotate(MaxRecords(70))
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap()
}

/// Runs until the intent of the first segment is committed and its first object is held back, then crashes.
async fn crash_with_an_intent(
    broker: &ScriptedBroker,
    store: &MemoryStore,
    lane: &TopicPartition,
    held: u64,
) {
    let gate = Gate::new();
    let held = store.faults().calls(Step::Create) + held;
    store.faults().on(Step::Create, held, Fault::Hold(gate.clone()));
    let crashed =
        tokio::spawn(pipeline(broker.source(), store).rotate(MaxRecords(100)).build().unwrap().run(never()));
    while broker.mark(lane).is_none_or(|mark| mark.intent.is_none()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while store.faults().calls(Step::Create) < held {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    crashed.abort();
    drop(crashed.await);
    // Lane tasks of an aborted runtime task may still run; their lease has not ended, but their member is gone.
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_objects_of_a_segment_is_redone_exactly() {
    for held in 1..=5 {
        let (broker, store, lane) = many(250);
        crash_with_an_intent(&broker, &store, &lane, held).await;
        // Another rotation would cut elsewhere: the intent decides.
        let report = finish(&broker, &store).await;
        assert_eq!(store.offsets(&lane), all(250), "held at object {held}");
        assert_eq!((report.recovered, report.pending_intents), (1, 0));
        let first: Vec<_> =
            store.objects().iter().map(|object| object.range.end()).filter(|e| e.get() <= 100).collect();
        assert_eq!(first.len(), 5, "the first segment ends at 100, as written down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_recovering_is_recovered() {
    let (broker, store, lane) = many(250);
    crash_with_an_intent(&broker, &store, &lane, 2).await;
    crash_with_an_intent(&broker, &store, &lane, 4).await;
    finish(&broker, &store).await;
    assert_eq!(store.offsets(&lane), all(250));
}

/// Found by the simulation: the first record behind the cut was beyond a gap at the cut, the lane's position stayed before the
/// gap, and the next segment began there, inside of what was published.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_after_a_recovered_one_begins_where_that_ends_although_offsets_are_missing_there() {
    let (broker, store, lane) = many(10);
    broker.skip(&lane, 8);
    let gate = Gate::new();
    store.faults().on(Step::Create, 1, Fault::Hold(gate.clone()));
    let built = pipeline(broker.source(), &store).rotate(MaxRecords(1_000)).build().unwrap();
    let handle = built.handle();
    let crashed = tokio::spawn(built.run(never()));
    while handle.status().lanes.iter().all(|lane| lane.position != Offset::new(18)) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let flushed = tokio::spawn(async move { handle.flush().await });
    let cut = broker.wait_intent(&lane).await.intent.unwrap();
    assert_eq!(cut.range.end(), Offset::new(18));
    gate.arrived().await;
    flushed.abort();
    crashed.abort();
    drop((flushed.await, crashed.await));
    broker.extend(&lane, ["x", "y"]);
    finish(&broker, &store).await;
    assert_eq!(broker.mark(&lane), Some(Mark::at(Offset::new(20))));
    let marks: Vec<_> = broker.commits(&lane).iter().map(|commit| commit.offset).collect();
    assert!(marks.is_sorted(), "a mark went back: {marks:?}");
    let offsets: Vec<_> = (0..10).chain(18..20).collect();
    assert_eq!(store.offsets(&lane), offsets);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_commit_answer_changes_nothing() {
    for commit in 1..=6 {
        for fault in [Fault::FailAfterWrite(Class::RETRY), Fault::Reject(Class::RETRY)] {
            let (broker, store, lane) = many(250);
            broker.on_commit(&lane, commit, fault);
            finish(&broker, &store).await;
            assert_eq!(store.offsets(&lane), all(250), "commit {commit}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_failing_step_is_tried_again() {
    for step in [Step::Begin, Step::Spill, Step::Stage, Step::Publish] {
        for fault in
            [Fault::Reject(Class::RETRY), Fault::FailAfterWrite(Class::RETRY), Fault::Reject(Class::Unknown)]
        {
            let (broker, store, lane) = many(250);
            let faults = Faults::new();
            faults.on(step, 1, fault.clone()).on(step, 3, fault.clone());
            let sink = Faulty::new(MemorySink::<Bytes>::bytes(&store), &faults);
            let built = pipeline_into(broker.source().until_end().batch_records(40), sink)
                .rotate(MaxRecords(70))
                .build();
            let report = built.unwrap().run(never()).await.unwrap();
            assert_eq!(store.offsets(&lane), all(250), "{step:?} {fault:?}");
            assert_eq!(report.retries, 2, "{step:?} {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_handed_over_with_their_work_published() {
    let (broker, store, lane) = many(300);
    let first = broker.source();
    let member = first.member();
    let one =
        tokio::spawn(pipeline(first, &store).rotate(MaxRecords(1_000_000)).build().unwrap().run(never()));
    let second = broker.source().unassigned();
    let other = second.member();
    let built = pipeline(second, &store).rotate(MaxRecords(1_000_000)).build().unwrap();
    let handle = built.handle();
    let two = tokio::spawn(built.run(never()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    member.revoke(vec![lane.clone()], Duration::from_secs(10)).await;
    assert_eq!(store.offsets(&lane), all(300), "flushed before it was given away");
    broker.extend(&lane, ["x", "y"]);
    other.assign([lane.clone()]);
    while handle.status().totals.records < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    handle.flush().await;
    assert_eq!(store.offsets(&lane), all(302));
    one.abort();
    two.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_between_intent_and_publication_changes_nothing() {
    let (broker, store, lane) = many(300);
    let gate = Gate::new();
    store.faults().on(Step::Create, 1, Fault::Hold(gate.clone()));
    let first = broker.source();
    let old = first.member();
    let built = pipeline(first, &store).rotate(MaxRecords(100)).build().unwrap();
    let status = built.handle();
    let zombie = tokio::spawn(built.run(never()));
    while broker.mark(&lane).is_none_or(|mark| mark.intent.is_none()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The coordinator gives the partition to another member behind its back; that one does everything.
    let second = broker.source().unassigned();
    second.member().assign([lane.clone()]);
    let built = pipeline(second, &store).rotate(MaxRecords(70)).build().unwrap();
    let handle = built.handle();
    let successor = tokio::spawn(built.run(never()));
    while handle.status().totals.records < 300 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    handle.flush().await;
    assert_eq!(store.offsets(&lane), all(300));
    let marks = broker.commits(&lane).len();
    // The zombie wakes up inside publish.
    gate.open();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(store.offsets(&lane), all(300), "its objects are there already");
    assert_eq!(broker.commits(&lane).len(), marks, "its commits are refused");
    assert!(status.status().lanes.is_empty(), "it shows a partition that it knows it has lost");
    old.lose([lane.clone()]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!zombie.is_finished(), "a lost partition is not an error");
    zombie.abort();
    successor.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_runs_out_of_time_leaves_the_intent_to_the_next_owner() {
    let (broker, store, lane) = many(300);
    let gate = Gate::new();
    store.faults().on(Step::Create, 2, Fault::Hold(gate.clone()));
    let first = broker.source();
    let member = first.member();
    let one = tokio::spawn(pipeline(first, &store).rotate(MaxRecords(100)).build().unwrap().run(never()));
    while store.objects().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    member.revoke(vec![lane.clone()], Duration::from_millis(800)).await;
    assert!(broker.mark(&lane).unwrap().intent.is_some());
    let report = finish(&broker, &store).await;
    assert_eq!(store.offsets(&lane), all(300));
    assert_eq!(report.recovered, 1);
    one.abort();
    gate.open();
}

/// A revocation under way takes the lane out of the running ones. When the session ends meanwhile, what the lane still has in
/// flight must not be committed by the membership that follows: others may have gone on in between (simulated seed 815).
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_lost_while_it_is_revoked_is_fenced_before_it_comes_back() {
    let (broker, store, lane) = many(300);
    let gate = Gate::new();
    store.faults().on(Step::Create, 1, Fault::Hold(gate.clone()));
    let source = broker.source();
    let member = source.member();
    let one = tokio::spawn(pipeline(source, &store).rotate(MaxRecords(100)).build().unwrap().run(never()));
    gate.arrived().await;
    drop(member.revoke(vec![lane.clone()], Duration::from_mins(1)));
    tokio::time::sleep(Duration::from_millis(50)).await;
    member.lose([lane.clone()]);
    // Another one takes over, publishes everything and leaves.
    finish(&broker, &store).await;
    assert_eq!(broker.mark(&lane), Some(Mark::at(Offset::new(300))));
    member.assign([lane.clone()]);
    tokio::time::sleep(Duration::from_millis(50)).await;
    gate.open();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(broker.mark(&lane), Some(Mark::at(Offset::new(300))), "the mark went back");
    assert_eq!(store.offsets(&lane), all(300));
    assert!(!one.is_finished());
    one.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_layout_stops_at_a_pending_intent_and_the_old_one_finishes_it() {
    let (broker, store, lane) = many(250);
    crash_with_an_intent(&broker, &store, &lane, 3).await;
    let changed = || {
        Pipeline::from(broker.source().until_end())
            .convert(Raw)
            .partition(ByFirstByte("first/2"))
            .sink(MemorySink::<Bytes>::bytes(&store))
            .spool_dir(scratch())
            .build()
            .unwrap()
    };
    let error = changed().run(never()).await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    assert!(text.contains("partitioner") && text.contains("finish_pending"), "{text}");
    let old = pipeline(broker.source(), &store).build().unwrap();
    let report = old.finish_pending(never()).await.unwrap();
    assert_eq!((report.recovered, report.pending_intents, report.rows), (1, 0, 100));
    assert_eq!(broker.mark(&lane), Some(Mark::at(Offset::new(100))));
    changed().run(never()).await.unwrap();
    assert_eq!(store.offsets(&lane), all(250));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_reads_other_records_stops_before_it_publishes() {
    let (broker, store, lane) = many(250);
    crash_with_an_intent(&broker, &store, &lane, 1).await;
    broker.compact(&lane, Offset::new(42));
    let error = pipeline(broker.source(), &store).build().unwrap().run(never()).await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    assert!(text.contains("[0, 100)") && text.contains("100 rows") && text.contains("99 rows"), "{text}");
    assert!(text.contains("remove the objects") && text.contains("set the group's offset to 0"), "{text}");
    assert!(store.objects().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_past_the_mark_is_an_error_and_not_a_silent_gap() {
    let (broker, store, lane) = many(250);
    crash_with_an_intent(&broker, &store, &lane, 1).await;
    broker.retain_from(&lane, Offset::new(10));
    let error = pipeline(broker.source(), &store).build().unwrap().run(never()).await.unwrap_err();
    let text = ErrorChain(&error).to_string();
    assert!(text.contains("retention removed offsets 0 to 10"), "{text}");
    // A part of the segment may be visible: adopting an offset inside it would store that part a second time.
    assert!(text.contains("remove the objects an earlier attempt has left of offsets [0, 100)"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operators_reset_is_adopted_only_on_request() {
    let (broker, store, lane) = many(250);
    broker.commit_from_outside(&lane, Offset::new(200), "");
    let build = || pipeline(broker.source().until_end(), &store).require(Guarantee::ExactlyOnce);
    let error = build().build().unwrap().run(never()).await.unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("adopt_foreign_marks"), "{error:?}");
    let report = build().adopt_foreign_marks(true).build().unwrap().run(never()).await.unwrap();
    assert_eq!(report.foreign_marks, 1);
    assert_eq!(store.offsets(&lane), (200..250).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_set_back_meets_its_objects_and_destroys_nothing() {
    let (broker, store, lane) = many(250);
    let old = pipeline(broker.source().until_end(), &store).rotate(MaxRecords(100)).build().unwrap();
    old.run(never()).await.unwrap();
    let before = store.objects();
    broker.commit_from_outside(&lane, Offset::ZERO, "");
    let error = pipeline(broker.source().until_end(), &store)
        .rotate(MaxRecords(60))
        .adopt_foreign_marks(true)
        .build()
        .unwrap()
        .run(never())
        .await
        .unwrap_err();
    assert!(ErrorChain(&error).to_string().contains("orders+0+0000000000"), "{error:?}");
    assert_eq!(store.objects(), before, "not one object was replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bounded_run_that_loses_its_partition_at_the_end_is_not_over() {
    let (broker, store, lane) = many(250);
    let gate = Gate::new();
    store.faults().on(Step::Create, 1, Fault::Hold(gate.clone()));
    let source = broker.source().until_end();
    let member = source.member();
    let running =
        tokio::spawn(pipeline(source, &store).rotate(MaxRecords(100)).build().unwrap().run(never()));
    while broker.mark(&lane).is_none_or(|mark| mark.intent.is_none()) {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Everything is read by now, and nothing is stored.
    tokio::time::sleep(Duration::from_millis(100)).await;
    member.evict([lane.clone()]);
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.open();
    assert!(!running.is_finished());
    member.assign([lane.clone()]);
    let report = running.await.unwrap().unwrap();
    assert_eq!(store.offsets(&lane), all(250));
    assert_eq!((report.recovered, report.pending_intents), (1, 0));
}
