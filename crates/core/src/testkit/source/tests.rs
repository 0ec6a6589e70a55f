use std::time::Duration;

use tokio::time::timeout;

use super::*;
use crate::budget::{Budget, Pool};
use crate::error::Class;
use crate::intent::Mark;
use crate::source::{Assignment, MarkOrigin};
use crate::testkit::{Fault, Gate};

fn lane(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn broker(records: usize) -> ScriptedBroker {
    let broker = ScriptedBroker::new();
    broker.extend(&lane(0), (0..records).map(|n| n.to_string()));
    broker
}

async fn open(mut source: ScriptedSource) -> ScriptedSource {
    open_with(&mut source, Budget::default().fill()).await;
    source
}

async fn open_with(source: &mut ScriptedSource, memory: &Pool) {
    source.open(SourceContext { memory: memory.clone(), adopt_foreign_marks: false }).await.unwrap();
}

/// Takes the next event, which must be an assignment, and answers with the marks. Gives the assignments.
async fn answer(source: &mut ScriptedSource) -> Vec<Assignment> {
    let SourceEvent::Assigned(assigned, reply) = next(source).await else { panic!("expected an assignment") };
    reply.send(assigned.iter().map(|a| (a.lane.clone(), a.mark.next)).collect());
    assigned
}

async fn next(source: &mut ScriptedSource) -> SourceEvent {
    timeout(Duration::from_secs(5), source.next()).await.expect("an event in time").unwrap()
}

async fn is_quiet(source: &mut ScriptedSource) -> bool {
    timeout(Duration::from_millis(20), source.next()).await.is_err()
}

async fn batch(source: &mut ScriptedSource) -> Batch {
    match next(source).await {
        SourceEvent::Batch(batch) => batch,
        other => panic!("expected a batch, got {other:?}"),
    }
}

fn offsets(batch: &Batch) -> Vec<i64> {
    batch.iter().map(|record| record.offset().get()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_bounded_run_ends_where_the_log_ended_at_open() {
    let broker = broker(3);
    broker.skip(&lane(0), 2);
    let mut source = open(broker.source().until_end().batch_records(2)).await;
    broker.append(&lane(0), "too late");
    assert_eq!(answer(&mut source).await[0].origin, MarkOrigin::Initial);
    assert_eq!(offsets(&batch(&mut source).await), [0, 1]);
    assert_eq!(offsets(&batch(&mut source).await), [2]);
    let reached = next(&mut source).await;
    assert!(matches!(reached, SourceEvent::Reached { next, .. } if next == Offset::new(5)), "{reached:?}");
    assert!(matches!(next(&mut source).await, SourceEvent::Finished));
    assert!(is_quiet(&mut source).await, "finished is told once");
}

#[tokio::test(start_paused = true)]
async fn an_open_ended_source_reads_on_and_reaches_every_end() {
    let broker = broker(1);
    let mut source = open(broker.source()).await;
    answer(&mut source).await;
    batch(&mut source).await;
    assert!(matches!(next(&mut source).await, SourceEvent::Reached { next, .. } if next == Offset::new(1)));
    assert!(is_quiet(&mut source).await);
    broker.skip(&lane(0), 1);
    assert!(matches!(next(&mut source).await, SourceEvent::Reached { next, .. } if next == Offset::new(2)));
    broker.append(&lane(0), "more");
    assert_eq!(offsets(&batch(&mut source).await), [2]);
}

#[tokio::test(start_paused = true)]
async fn reading_starts_where_the_answer_says_and_not_before_it() {
    let broker = broker(4);
    broker.compact(&lane(0), Offset::new(3));
    let mut source = open(broker.source().until_end()).await;
    let SourceEvent::Assigned(_, reply) = next(&mut source).await else { panic!() };
    assert!(is_quiet(&mut source).await, "nothing before the answer");
    reply.send(vec![(lane(0), Offset::new(2))]);
    assert_eq!(offsets(&batch(&mut source).await), [2]);
    assert!(matches!(next(&mut source).await, SourceEvent::Reached { next, .. } if next == Offset::new(4)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_outside_the_log_is_fatal() {
    let broker = broker(4);
    broker.retain_from(&lane(0), Offset::new(2));
    for start in [1, 5] {
        let mut source = open(broker.source()).await;
        let SourceEvent::Assigned(assigned, reply) = next(&mut source).await else { panic!() };
        assert_eq!(assigned[0].log_start, Offset::new(2));
        reply.send(vec![(lane(0), Offset::new(start))]);
        let error = timeout(Duration::from_secs(1), source.next()).await.unwrap().unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        source.close().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn marks_survive_a_change_of_owner_and_foreign_ones_are_known() {
    let broker = broker(4);
    let mut first = open(broker.source()).await;
    answer(&mut first).await;
    first.control().commit(&lane(0), Mark::at(Offset::new(3))).await.unwrap();
    first.close().await.unwrap();
    assert_eq!(
        first.control().commit(&lane(0), Mark::at(Offset::new(4))).await.unwrap_err().class(),
        Class::Fenced
    );

    let mut second = open(broker.source()).await;
    let assigned = answer(&mut second).await;
    assert_eq!((assigned[0].mark.next, assigned[0].origin), (Offset::new(3), MarkOrigin::Committed));
    drop(second);

    broker.commit_from_outside(&lane(0), Offset::new(1), "reset by ops");
    let assigned = answer(&mut open(broker.source()).await).await;
    assert_eq!((assigned[0].mark.next, assigned[0].origin), (Offset::new(1), MarkOrigin::Foreign));
    assert_eq!(broker.commits(&lane(0)).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_zombie_reads_on_and_commits_nothing() {
    let broker = broker(2);
    let mut zombie = open(broker.source().batch_records(1)).await;
    answer(&mut zombie).await;
    let mut heir = open(broker.source().unassigned()).await;
    heir.member().assign([lane(0)]);
    answer(&mut heir).await;

    batch(&mut zombie).await;
    let refused = zombie.control().commit(&lane(0), Mark::at(Offset::new(1))).await.unwrap_err();
    assert_eq!(refused.class(), Class::Fenced);
    heir.control().commit(&lane(0), Mark::at(Offset::new(2))).await.unwrap();
    assert_eq!(broker.mark(&lane(0)), Some(Mark::at(Offset::new(2))));
    zombie.member().lose([lane(0)]);
    assert!(matches!(next(&mut zombie).await, SourceEvent::Lost(lanes) if lanes == [lane(0)]));
    assert!(is_quiet(&mut zombie).await);
    assert_eq!(heir.member().owned(), [lane(0)], "a loss of what another member has changes nothing for it");
}

#[tokio::test(start_paused = true)]
async fn a_held_commit_does_not_reach_the_next_assignment_of_the_same_member() {
    let broker = broker(2);
    let gate = Gate::new();
    broker.on_next_commit(&lane(0), Fault::Hold(gate.clone()));
    let mut source = open(broker.source()).await;
    answer(&mut source).await;
    let control = source.control();
    let held = tokio::spawn(async move { control.commit(&lane(0), Mark::at(Offset::new(1))).await });
    gate.arrived().await;
    source.member().lose([lane(0)]);
    source.member().assign([lane(0)]);
    assert!(matches!(next(&mut source).await, SourceEvent::Lost(_)));
    answer(&mut source).await;
    gate.open();
    assert_eq!(held.await.unwrap().unwrap_err().class(), Class::Fenced);
    assert_eq!(broker.committed(&lane(0)), None);
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_is_ours_until_the_answer_or_the_deadline() {
    let broker = broker(2);
    broker.create("t", 2);
    let mut source = open(broker.source()).await;
    answer(&mut source).await;
    let free = source.member().revoke(vec![lane(0)], Duration::from_secs(30));
    let SourceEvent::Revoked { lanes, done, .. } = next(&mut source).await else { panic!() };
    assert_eq!(lanes, [lane(0)]);
    source.control().commit(&lane(0), Mark::at(Offset::new(1))).await.unwrap();
    done.send(());
    free.await;
    let late = source.control().commit(&lane(0), Mark::at(Offset::new(2))).await.unwrap_err();
    assert_eq!(late.class(), Class::Fenced);

    let free = source.member().revoke(vec![lane(1)], Duration::from_secs(30));
    let before = tokio::time::Instant::now();
    let _unanswered = loop {
        if let SourceEvent::Revoked { done, .. } = next(&mut source).await {
            break done;
        }
    };
    free.await;
    assert_eq!(before.elapsed(), Duration::from_secs(30));
    assert!(source.member().owned().is_empty());
}

#[tokio::test(start_paused = true)]
async fn without_memory_the_group_is_still_served() {
    let broker = broker(2);
    let pool = Pool::new(1024);
    let mut source = broker.source().batch_records(1);
    open_with(&mut source, &pool).await;
    answer(&mut source).await;
    let held = batch(&mut source).await;
    assert!(held.permit().bytes() > 0);
    assert!(is_quiet(&mut source).await, "the pool is used up");
    source.member().lose([lane(0)]);
    assert!(matches!(next(&mut source).await, SourceEvent::Lost(_)));
    drop(held);
    assert!(is_quiet(&mut source).await, "and what it waited for is no longer read");
}

#[tokio::test(start_paused = true)]
async fn paused_partitions_wait_and_the_others_take_turns() {
    let broker = broker(2);
    broker.extend(&lane(1), ["a", "b"]);
    broker.extend(&lane(2), ["a", "b"]);
    let mut source = open(broker.source().batch_records(1)).await;
    answer(&mut source).await;
    source.control().pause(&[lane(1)]);
    assert_eq!(source.member().paused(), [lane(1)]);
    let mut from = Vec::new();
    while from.len() < 4 {
        if let SourceEvent::Batch(batch) = next(&mut source).await {
            from.push(batch.lane().partition());
        }
    }
    assert_eq!(from, [0, 2, 0, 2]);
    source.control().resume(&[lane(1)]);
    loop {
        if let SourceEvent::Batch(batch) = next(&mut source).await {
            assert_eq!(batch.lane(), &lane(1));
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_leaves_the_mark_and_two_commits_at_once_are_refused() {
    let broker = broker(2);
    broker.on_commit(&lane(0), 1, Fault::FailAfterWrite(Class::RETRY));
    let gate = Gate::new();
    broker.on_commit(&lane(0), 2, Fault::Hold(gate.clone()));
    let mut source = open(broker.source()).await;
    answer(&mut source).await;
    let control = source.control();
    assert_eq!(control.commit(&lane(0), Mark::at(Offset::new(1))).await.unwrap_err().class(), Class::RETRY);
    assert_eq!(broker.mark(&lane(0)), Some(Mark::at(Offset::new(1))));
    let held = tokio::spawn({
        let control = source.control();
        async move { control.commit(&lane(0), Mark::at(Offset::new(2))).await }
    });
    gate.arrived().await;
    assert_eq!(control.commit(&lane(0), Mark::at(Offset::new(2))).await.unwrap_err().class(), Class::Fatal);
    gate.open();
    held.await.unwrap().unwrap();
    broker.wait_durable(&lane(0), Offset::new(2)).await;
}
