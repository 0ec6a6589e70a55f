//! At least once: rows are seen early, in order, and none is lost whatever goes wrong.

mod pipeline;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_core::{Class, Pool, StageError};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeCall, FakeFault};
use aqueduct_sink_bigquery::{BigQuerySinkBuilder, Delivery, Field, FieldType, TableOptions, TableSchema};

use crate::support::{Process, Segment, builder, fake, one_table, table, told, visible};

fn streaming(fake: &FakeBigQuery) -> BigQuerySinkBuilder {
    builder(fake).delivery(Delivery::AtLeastOnce)
}

/// Long enough for any machine: for tests in which nothing may be sent again.
fn patient(fake: &FakeBigQuery) -> BigQuerySinkBuilder {
    let slow = Duration::from_mins(1);
    streaming(fake).call_timeout(slow).append_timeout(slow)
}

const NONE: [i64; 0] = [];

/// Waits for something that comes about by itself.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} did not come about");
}

async fn publish(segment: &mut Segment) -> Vec<i64> {
    segment.stage().await.unwrap();
    let published = segment.publish().await.unwrap_or_else(|error| panic!("{}", told(&error)));
    published.rejected.iter().map(|rejected| rejected.offset.get()).collect()
}

/// Offsets in the order in which their rows came first.
fn arrivals(fake: &FakeBigQuery, name: &str) -> Vec<i64> {
    let mut seen = BTreeSet::new();
    let rows = fake.rows(&table(name));
    let offsets = rows.iter().map(|row| row.columns["_kafka_offset"].as_i64().unwrap());
    offsets.filter(|offset| seen.insert(*offset)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_seen_before_their_segment_ends() {
    let fake = fake().await;
    let process = Process::start(patient(&fake)).await;
    let mut segment = process.fill(0, 20, None, one_table).await;
    until("rows that were spilled", async || {
        fake.table(&table("orders")).is_some() && visible(&fake, "orders").len() == 20
    })
    .await;
    assert_eq!(publish(&mut segment).await, NONE);
    let published = segment.publish().await.unwrap();
    assert_eq!((published.objects[0].key.as_str(), published.objects[0].rows), ("p.d.orders", 20));
    assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>());
    assert_eq!(fake.calls(FakeCall::CreateWriteStream), 0);
}

/// Whoever says "no deadline" like this gets none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_beyond_the_clock_is_none() {
    let fake = fake().await;
    let process = Process::start(patient(&fake).append_timeout(Duration::MAX)).await;
    let mut segment = process.fill(0, 5, None, one_table).await;
    assert_eq!(publish(&mut segment).await, NONE);
    assert_eq!(visible(&fake, "orders"), [0, 1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_survives_every_fault_and_order_stays() {
    let inside = [FakeFault::UnavailableInside, FakeFault::ExhaustedInside];
    for fault in FakeFault::PASSING.into_iter().chain(inside) {
        for request in [0, 1, 3] {
            let fake = fake().await;
            let process = Process::start(streaming(&fake).append_bytes(120)).await;
            fake.inject(FakeCall::AppendRows, FakeFault::Pass, request);
            fake.inject(FakeCall::AppendRows, fault, 1);
            let mut segment = process.fill(0, 20, None, one_table).await;
            assert_eq!(publish(&mut segment).await, NONE, "{fault:?} at {request}");
            assert_eq!(fake.pending_faults(), 0, "{fault:?} at {request} was not met");
            let arrived = arrivals(&fake, "orders");
            if inside.contains(&fault) {
                // What is under way behind a request that failed gets through before it.
                assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>(), "none twice: {fault:?}");
            } else {
                assert_eq!(arrived, (0..20).collect::<Vec<_>>(), "{fault:?} at {request}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_around_an_append_survive_every_fault() {
    for call in [FakeCall::GetTable, FakeCall::InsertTable] {
        for fault in FakeFault::PASSING {
            let fake = fake().await;
            let process = Process::start(streaming(&fake)).await;
            fake.inject(call, fault, 2);
            let mut segment = process.fill(0, 20, None, one_table).await;
            assert_eq!(publish(&mut segment).await, NONE, "{call:?} {fault:?}");
            assert_eq!(arrivals(&fake, "orders"), (0..20).collect::<Vec<_>>(), "{call:?} {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_go_away_are_opened_again() {
    let fake = fake().await;
    let process = Process::start(streaming(&fake).append_bytes(200)).await;
    for number in 0..8 {
        let mut segment = process.fill(number * 10, number * 10 + 10, None, one_table).await;
        fake.go_away();
        assert_eq!(publish(&mut segment).await, NONE);
        if number % 2 == 0 {
            // With nothing under way.
            fake.go_away();
        }
    }
    assert_eq!(arrivals(&fake, "orders"), (0..80).collect::<Vec<_>>());
}

/// Rows that only the service refuses, alone, as neighbours and in requests of several segments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_rows_cost_exactly_themselves() {
    let cases: [&'static [i64]; 5] = [&[0], &[19], &[3, 4, 11], &[0, 1, 2, 3, 4, 5, 6, 7], &[10]];
    for bad in cases {
        for append_bytes in [120, 2 << 20] {
            let fake = fake().await;
            fake.refuse_rows(move |row| bad.contains(&row["n"].as_i64().unwrap()));
            let process = Process::start(patient(&fake).append_bytes(append_bytes)).await;
            let mut segment = process.fill(0, 20, None, one_table).await;
            assert_eq!(publish(&mut segment).await, bad);
            let good: Vec<_> = (0..20).filter(|offset| !bad.contains(offset)).collect();
            assert_eq!(visible(&fake, "orders"), good, "{bad:?} in requests of {append_bytes}");
            let object = &segment.publish().await.unwrap().objects[0];
            let (first, end) = (object.range.start().get(), object.range.end().get());
            assert_eq!((object.rows, first, end), (good.len() as u64, good[0], good[good.len() - 1] + 1));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_bounded_by_bytes() {
    let fake = fake().await;
    let process = Process::start(patient(&fake).append_bytes(100).in_flight(8)).await;
    // The connection is open, and has said the columns.
    let mut first = process.fill(0, 1, None, one_table).await;
    publish(&mut first).await;
    fake.hold_answers(true);
    let mut segment = process.begin(1, 500, None).await.unwrap().unwrap();
    segment.fill(1..500, one_table).await;
    until("a full window", async || fake.unanswered_max().0 >= 8).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (requests, bytes) = fake.unanswered_max();
    // 800 of them are of rows; each request says who sends it.
    assert!(requests <= 16 && bytes <= 800 + 40 * requests, "{requests} requests of {bytes} bytes");
    fake.hold_answers(false);
    assert_eq!(publish(&mut segment).await, NONE);
    assert_eq!(visible(&fake, "orders"), (0..500).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_is_bounded_by_number() {
    let fake = fake().await;
    let process = Process::start(patient(&fake)).await;
    fake.hold_answers(true);
    let mut segment = process.begin(0, 200, None).await.unwrap().unwrap();
    for offset in 0..100 {
        segment.fill(offset..offset + 1, one_table).await;
        let requests = usize::try_from(offset).unwrap() + 1;
        until("a request of its own", async || fake.unanswered_max().0 == requests).await;
    }
    segment.fill(100..200, one_table).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(fake.unanswered_max().0, 100);
    fake.hold_answers(false);
    assert_eq!(publish(&mut segment).await, NONE);
    assert_eq!(visible(&fake, "orders"), (0..200).collect::<Vec<_>>());
    assert!(fake.calls(FakeCall::AppendRows) <= 115, "those that waited share requests");
}

/// A slow service holds up its lane, and nothing grows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_waits_for_memory_and_not_for_ever() {
    let fake = fake().await;
    let mut process = Process::start(patient(&fake).append_bytes(2_000)).await;
    process.memory = Pool::new(16 << 10);
    let memory = process.memory.clone();
    fake.hold_answers(true);
    let mut segment = process.begin(0, 2000, None).await.unwrap().unwrap();
    let filled = AtomicBool::new(false);
    let filling = async {
        segment.fill(0..2000, one_table).await;
        filled.store(true, Ordering::Relaxed);
    };
    let watching = async {
        until("the lane waits", async || memory.waiting() > 0).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!filled.load(Ordering::Relaxed) && memory.used() <= memory.capacity());
        assert!(fake.unanswered_max().1 < 16 << 10);
        fake.hold_answers(false);
    };
    futures::future::join(filling, watching).await;
    assert_eq!(publish(&mut segment).await, NONE);
    assert_eq!(visible(&fake, "orders"), (0..2000).collect::<Vec<_>>());
    assert_eq!(memory.used(), 0);
}

/// What is given up gives its memory back, also while the service does not answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_that_is_given_up_holds_nothing() {
    let fake = fake().await;
    let process = Process::start(streaming(&fake).append_bytes(500)).await;
    for by_drop in [false, true] {
        fake.hold_answers(true);
        let mut segment = process.fill(0, 200, None, one_table).await;
        assert!(process.memory.used() > 0);
        if !by_drop {
            segment.writer.abandon().await;
        }
        drop(segment);
        // At the latest when the appends under way have passed their deadlines.
        until("memory given back", async || process.memory.used() == 0).await;
        fake.hold_answers(false);
    }
    let mut segment = process.fill(0, 20, None, one_table).await;
    assert_eq!(publish(&mut segment).await, NONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_passes_its_deadline_is_said_and_sent_again() {
    let fake = fake().await;
    let process = Process::start(streaming(&fake)).await;
    fake.inject(FakeCall::AppendRows, FakeFault::Stall, 1);
    let mut segment = process.fill(0, 20, None, one_table).await;
    let range = segment.range;
    segment.writer.stage(range).await.unwrap();
    let error = segment.writer.publish().await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY);
    let text = "no answer within 0s: append rows to the default stream of p.d.orders";
    assert!(told(&error).contains(text), "{}", told(&error));
    assert_eq!(publish(&mut segment).await, NONE);
    assert_eq!(arrivals(&fake, "orders"), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_used_up_is_said_and_waited_for() {
    for fault in [FakeFault::Exhausted, FakeFault::ExhaustedInside] {
        let fake = fake().await;
        let process = Process::start(patient(&fake)).await;
        fake.inject(FakeCall::AppendRows, fault, 2);
        let mut segment = process.fill(0, 20, None, one_table).await;
        let range = segment.range;
        segment.writer.stage(range).await.unwrap();
        let error = segment.writer.publish().await.unwrap_err();
        assert!(matches!(error.class(), Class::Retry { after: Some(_) }), "{error:?}");
        assert!(told(&error).contains("a quota is used up"), "{}", told(&error));
        assert_eq!(publish(&mut segment).await, NONE);
        assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>());
    }
}

/// What no repetition mends is said as soon as the lane asks, and it asks without records too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_repetition_mends_ends_the_segment() {
    let mut fatal = Vec::new();
    let denied = fake().await;
    denied.inject(FakeCall::AppendRows, FakeFault::Denied, 1);
    fatal.push((patient(&denied), "roles/bigquery.dataEditor", &denied));
    let unknown = fake().await;
    unknown.require_token("another");
    let token = aqueduct_sink_bigquery::Credentials::Token("guessed".into());
    fatal.push((patient(&unknown).credentials(token), "the credentials are not accepted", &unknown));
    let missing = fake().await;
    let options = TableOptions::new().create_tables(false);
    fatal.push((patient(&missing).tables(options), "create_tables(true)", &missing));
    for (builder, remedy, fake) in fatal {
        let process = Process::start(builder).await;
        let mut segment = process.fill(0, 5, None, one_table).await;
        let mut found: Option<StageError> = None;
        until("a fatal error", async || {
            found = segment.writer.tick().await.err().filter(|error| error.class() == Class::Fatal);
            found.is_some()
        })
        .await;
        let error = found.unwrap();
        assert!(told(&error).contains(remedy), "{}", told(&error));
        assert!(!told(&error).contains("guessed"));
        assert_eq!(segment.writer.publish().await.unwrap_err().class(), Class::Fatal);
        assert!(fake.rows(&table("orders")).is_empty());
        assert_eq!(process.memory.used(), 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_deleted_under_a_connection_is_made_again() {
    let fake = fake().await;
    let process = Process::start(patient(&fake)).await;
    let mut first = process.fill(0, 5, None, one_table).await;
    publish(&mut first).await;
    fake.delete_table(&table("orders"));
    let mut second = process.fill(5, 10, None, one_table).await;
    assert_eq!(publish(&mut second).await, NONE);
    assert_eq!(visible(&fake, "orders"), [5, 6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_change_under_a_connection_are_looked_at() {
    let fake = fake().await;
    let process = Process::start(patient(&fake)).await;
    let mut first = process.fill(0, 5, None, one_table).await;
    publish(&mut first).await;
    let asked = fake.calls(FakeCall::GetTable);
    // Somebody adds a column.
    let found = fake.table(&table("orders")).unwrap();
    let mut fields = TableSchema::from_json(&found["schema"].to_string()).unwrap().fields().to_vec();
    fields.push(Field::nullable("theirs", FieldType::String));
    fake.create_table(&table("orders"), &TableSchema::new(fields));
    for number in 1..4 {
        let mut segment = process.fill(number * 5, number * 5 + 5, None, one_table).await;
        assert_eq!(publish(&mut segment).await, NONE);
    }
    assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>());
    assert_eq!(fake.calls(FakeCall::GetTable), asked + 1, "the answer says so, once");
}

/// A new column reaches the Storage Write interface minutes after the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_column_is_waited_for() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &TableSchema::new([Field::required("n", FieldType::Int64)]));
    fake.hold_changes(true);
    let process = Process::start(patient(&fake).tables(TableOptions::new().evolve_tables(true))).await;
    let mut segment = process.fill(0, 5, None, one_table).await;
    let range = segment.range;
    segment.writer.stage(range).await.unwrap();
    for _ in 0..3 {
        let error = segment.writer.publish().await.unwrap_err();
        assert_eq!(error.class(), Class::RETRY, "{}", told(&error));
        assert!(told(&error).contains("lacks columns the rows have"), "{}", told(&error));
    }
    fake.hold_changes(false);
    assert_eq!(publish(&mut segment).await, NONE);
    assert_eq!(visible(&fake, "orders"), [0, 1, 2, 3, 4]);
    assert_eq!(fake.calls(FakeCall::PatchTable), 1);
}

/// More tables than there may be connections: who does not need one gives it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_given_up_for_those_who_wait() {
    fn by_number(offset: i64) -> String {
        format!("t{}", offset % 120)
    }
    let fake = fake().await;
    let process = Process::start(patient(&fake).connections(1).routes_max(200)).await;
    let mut segment = process.fill(0, 240, None, by_number).await;
    assert_eq!(publish(&mut segment).await, NONE);
    for number in 0..120 {
        assert_eq!(visible(&fake, &format!("t{number}")), [number, number + 120]);
    }
}

/// Eight segments at once, over the same connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn segments_that_share_a_connection_do_not_share_their_fate() {
    let fake = fake().await;
    fake.refuse_rows(|row| row["n"].as_i64().unwrap() % 10 == 7);
    let process = Process::start(patient(&fake)).await;
    fake.hold_answers(true);
    let mut segments = Vec::new();
    for number in 0..8 {
        segments.push(process.fill(number * 10, number * 10 + 10, None, one_table).await);
    }
    let mut given_up = segments.remove(3);
    given_up.writer.abandon().await;
    fake.hold_answers(false);
    for mut segment in segments {
        let first = segment.range.start().get();
        assert_eq!(publish(&mut segment).await, [first + 7]);
        let object = &segment.publish().await.unwrap().objects[0];
        assert_eq!((object.rows, object.range.start().get()), (9, first));
    }
    let arrived: BTreeSet<_> = visible(&fake, "orders").into_iter().collect();
    let expected = (0..80).filter(|offset| offset % 10 != 7 && !(30..40).contains(offset));
    assert!(expected.into_iter().all(|offset| arrived.contains(&offset)));
}
