//! Every call, with every fault: nothing is lost, nothing is there twice, nothing is seen early.

use std::time::Duration;

use aqueduct_sink_bigquery::testkit::{FakeCall, FakeFault, FakeLimits};

use crate::support::{Process, Segment, builder, fake, one_table, table, told, visible};

/// The calls of a segment's way, the first that needs a table included.
const CALLS: [FakeCall; 6] = [
    FakeCall::GetTable,
    FakeCall::InsertTable,
    FakeCall::CreateWriteStream,
    FakeCall::AppendRows,
    FakeCall::FinalizeWriteStream,
    FakeCall::BatchCommitWriteStreams,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_survives_every_fault() {
    for call in CALLS {
        for fault in FakeFault::PASSING {
            let fake = fake().await;
            // Several requests under way at once.
            let process = Process::start(builder(&fake).append_bytes(100)).await;
            // What was applied once need not be asked for again.
            let times = if matches!(fault, FakeFault::LoseAnswer | FakeFault::Stall) { 1 } else { 2 };
            fake.inject(call, fault, times);
            let mut segment = process.fill(0, 20, None, one_table).await;
            segment.stage().await.unwrap_or_else(|error| panic!("{call:?} {fault:?}: {}", told(&error)));
            assert!(visible(&fake, "orders").is_empty(), "{call:?} {fault:?}: seen before it was published");
            segment.publish().await.unwrap_or_else(|error| panic!("{call:?} {fault:?}: {}", told(&error)));
            assert_eq!(fake.pending_faults(), 0, "{call:?} {fault:?} was not met");
            assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>(), "{call:?} {fault:?}");
        }
    }
}

/// The fault meets each request in turn, so also those behind one that was applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_a_stream_survives_every_fault() {
    for fault in [FakeFault::LoseAnswer, FakeFault::Unavailable, FakeFault::Stall] {
        for request in 0..6 {
            let fake = fake().await;
            let process = Process::start(builder(&fake).append_bytes(100)).await;
            let mut segment = process.fill(0, 20, None, one_table).await;
            // A fault that does nothing lets `request` requests pass first.
            fake.inject(FakeCall::AppendRows, FakeFault::Pass, request);
            fake.inject(FakeCall::AppendRows, fault, 1);
            segment.stage().await.unwrap();
            segment.publish().await.unwrap();
            // What was applied before is recognised and not sent a second time to another stream.
            assert_eq!(fake.calls(FakeCall::CreateWriteStream), 1, "{fault:?} at request {request}");
            assert_eq!(fake.pending_faults(), 0);
            assert_eq!(
                visible(&fake, "orders"),
                (0..20).collect::<Vec<_>>(),
                "{fault:?} at request {request}"
            );
        }
    }
}

/// Whatever went wrong with it: a stream that has another number of rows than were sent is never published.
#[tokio::test]
async fn a_stream_of_another_length_is_not_published() {
    let fake = fake().await;
    fake.miscount(2);
    let process = Process::start(builder(&fake)).await;
    let mut segment = process.fill(0, 20, None, one_table).await;
    segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    assert_eq!(fake.calls(FakeCall::CreateWriteStream), 3, "two were given up");
    assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_repetition_mends_ends_at_once() {
    for call in CALLS {
        let fake = fake().await;
        let process = Process::start(builder(&fake)).await;
        fake.inject(call, FakeFault::Denied, 1);
        let mut segment = process.fill(0, 5, None, one_table).await;
        let result = match segment.stage().await {
            Ok(_) => segment.publish().await.map(drop),
            Err(error) => Err(error),
        };
        let error = result.expect_err("access is denied");
        assert_eq!(error.class(), aqueduct_core::Class::Fatal, "{call:?}");
        assert!(told(&error).contains("roles/bigquery.dataEditor"), "{}", told(&error));
        assert!(visible(&fake, "orders").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goaway_between_two_calls_is_not_noticed() {
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    for number in 0..5 {
        let mut segment = process.fill(number * 10, number * 10 + 10, None, one_table).await;
        fake.go_away();
        segment.stage().await.unwrap();
        fake.go_away();
        segment.publish().await.unwrap();
    }
    assert_eq!(visible(&fake, "orders"), (0..50).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_used_up_is_waited_for() {
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    fake.set_limits(FakeLimits::default().with_creates_per_hour(1));
    let mut first = process.fill(0, 5, None, one_table).await;
    first.stage().await.unwrap();
    let mut second = process.fill(5, 10, None, one_table).await;
    let error = second.stage().await.unwrap_err();
    let aqueduct_core::Class::Retry { after: Some(after) } = error.class() else { panic!("{error:?}") };
    assert!(after >= Duration::from_secs(1), "coming back at once makes it worse: {after:?}");
    fake.set_limits(FakeLimits::default().without_quotas());
    second.stage().await.unwrap();
    for mut segment in [first, second] {
        segment.publish().await.unwrap();
    }
    assert_eq!(visible(&fake, "orders"), (0..10).collect::<Vec<_>>());
}

/// Rows that only the service refuses: alone, as neighbours, at the ends, and with answers lost in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_rows_cost_exactly_themselves() {
    let cases: [&'static [i64]; 5] = [&[0], &[19], &[3, 4, 11], &[0, 1, 2, 3, 4, 5, 6, 7], &[10]];
    for bad in cases {
        for fault in [FakeFault::Pass, FakeFault::LoseAnswer, FakeFault::Unavailable] {
            for at in 0..4 {
                let fake = fake().await;
                fake.refuse_rows(move |row| bad.contains(&row["n"].as_i64().unwrap()));
                let process = Process::start(builder(&fake).append_bytes(100)).await;
                let mut segment = process.fill(0, 20, None, one_table).await;
                fake.inject(FakeCall::AppendRows, FakeFault::Pass, at);
                fake.inject(FakeCall::AppendRows, fault, 1);
                let intent = segment.stage().await.unwrap();
                assert_eq!(segment.late, bad, "{fault:?} at {at}");
                assert_eq!(intent.rows, 20, "what was appended, as a replay will count it");
                let published = segment.publish().await.unwrap();
                assert!(published.rejected.is_empty(), "their letters are sent already");
                let good: Vec<_> = (0..20).filter(|offset| !bad.contains(offset)).collect();
                assert_eq!(visible(&fake, "orders"), good, "{bad:?} {fault:?} at {at}");
                let object = &published.objects[0];
                let (first, end) = (object.range.start().get(), object.range.end().get());
                assert_eq!((object.rows, first, end), (good.len() as u64, good[0], good[good.len() - 1] + 1));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_of_refused_rows_alone_is_nothing_to_publish() {
    let fake = fake().await;
    fake.refuse_rows(|_| true);
    let process = Process::start(builder(&fake)).await;
    let mut segment = process.fill(0, 5, None, one_table).await;
    let intent = segment.stage().await.unwrap();
    assert_eq!(segment.late, [0, 1, 2, 3, 4]);
    assert!(segment.publish().await.unwrap().objects.is_empty());
    assert_eq!(fake.calls(FakeCall::BatchCommitWriteStreams), 0);
    assert!(process.recover(&intent, one_table).await.unwrap().is_none(), "there is nothing to recover");
}

/// Eight segments at once, their streams in one connection to the service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_beside_each_other_do_not_mix() {
    let fake = fake().await;
    let process = Process::start(builder(&fake).append_bytes(200)).await;
    fake.inject(FakeCall::AppendRows, FakeFault::LoseAnswer, 5);
    let mut segments: Vec<Segment> = Vec::new();
    for number in 0..8 {
        segments.push(process.fill(number * 10, number * 10 + 10, None, one_table).await);
    }
    let staged = segments.iter_mut().map(|segment| async move {
        segment.stage().await.unwrap();
        segment.publish().await.unwrap();
    });
    futures::future::join_all(staged).await;
    assert_eq!(visible(&fake, "orders"), (0..80).collect::<Vec<_>>());
    assert_eq!(fake.calls(FakeCall::InsertTable), 1, "the table is made once");
    assert!(fake.table(&table("orders")).is_some());
}

/// The quota that the sink counts itself: nothing is asked of the service that it would refuse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_would_be_one_too_many_is_not_asked_for() {
    let fake = fake().await;
    fake.set_limits(FakeLimits::default().with_creates_per_hour(2));
    let process = Process::start(builder(&fake).create_quota(2)).await;
    for start in [0, 5] {
        let mut segment = process.fill(start, start + 5, None, one_table).await;
        segment.stage().await.unwrap();
        segment.publish().await.unwrap();
    }
    let mut third = process.fill(10, 15, None, one_table).await;
    let error = third.writer.stage(third.range).await.unwrap_err();
    let aqueduct_core::Class::Retry { after: Some(after) } = error.class() else { panic!("{error:?}") };
    assert!(after >= Duration::from_secs(1), "{after:?}");
    assert!(told(&error).contains("2 write streams of project p"), "{}", told(&error));
    assert_eq!((fake.calls(FakeCall::CreateWriteStream), process.sink.streams_created()), (2, 2));
    assert_eq!(visible(&fake, "orders"), (0..10).collect::<Vec<_>>());
}
