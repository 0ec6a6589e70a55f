//! At least once: rows are seen early, in order, and none is lost whatever goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aqueduct_converters::{ConnectJson, Json};
use aqueduct_core::testkit::{MemoryDeadLetters, ScriptedBroker};
use aqueduct_core::{
    Class, Guarantee, LaneState, MaxRecords, OnPoison, Pipeline, Pool, StageError, TopicPartition,
};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeCall, FakeFault, FakeLimits};
use aqueduct_sink_bigquery::{
    BigQuerySinkBuilder, Columns, Delivery, Field, FieldType, TableOptions, TableSchema,
};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{NoRoute, Process, Segment, builder, fake, one_table, schema, table, told, visible};

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

const RECORDS: i64 = 300;

fn world() -> (ScriptedBroker, TopicPartition) {
    let broker = ScriptedBroker::new();
    let lane = TopicPartition::new("orders", 3);
    broker.extend(&lane, (0..RECORDS).map(|n| format!(r#"{{"n": {n}, "text": "row {n}"}}"#)));
    (broker, lane)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pipeline_says_what_it_guarantees_and_its_refused_rows_are_letters() {
    let fake = fake().await;
    fake.refuse_rows(|row| row["n"].as_i64().unwrap() % 50 == 7);
    let (broker, lane) = world();
    let letters = MemoryDeadLetters::new();
    let pipeline = Pipeline::from(broker.source().until_end().batch_records(30))
        .convert(Json::new())
        .partition(NoRoute)
        .sink(patient(&fake).build().await.unwrap())
        .rotate(MaxRecords(70))
        .spool_dir(tempfile::tempdir().unwrap().keep())
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .build()
        .unwrap();
    assert!(matches!(pipeline.guarantee(), Guarantee::AtLeastOnce { .. }));
    let report = pipeline.run(std::future::pending()).await.unwrap();
    assert_eq!((report.records, report.durable, report.dead_letters), (300, 300, 6));
    let refused: Vec<_> = letters.letters().iter().map(|letter| letter.record.offset.get()).collect();
    assert_eq!(refused, [7, 57, 107, 157, 207, 257]);
    assert_eq!(letters.letters()[0].record.value.as_deref(), Some(&br#"{"n": 7, "text": "row 7"}"#[..]));
    assert_eq!(visible(&fake, "orders"), (0..RECORDS).filter(|offset| offset % 50 != 7).collect::<Vec<_>>());
    assert_eq!(broker.mark(&lane).unwrap().next.get(), RECORDS);
}

/// Values bring their columns: versions that take turns go to one table, and each row has what its version has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_take_turns_share_a_table() {
    let fake = fake().await;
    let broker = ScriptedBroker::new();
    let lane = TopicPartition::new("orders", 3);
    let version = |fields: &str, payload: String| {
        format!(r#"{{"schema": {{"type": "struct", "fields": [{fields}]}}, "payload": {payload}}}"#)
    };
    let n = r#"{"field": "n", "type": "int64"}"#;
    broker.extend(
        &lane,
        (0..40).map(|offset| match offset % 2 {
            0 => version(n, format!(r#"{{"n": {offset}}}"#)),
            _ => {
                let fields = format!(r#"{n}, {{"field": "text", "type": "string", "optional": true}}"#);
                version(&fields, format!(r#"{{"n": {offset}, "text": "row {offset}"}}"#))
            }
        }),
    );
    let pipeline = Pipeline::from(broker.source().until_end().batch_records(7))
        .convert(ConnectJson::new())
        .partition(NoRoute)
        .sink(patient(&fake).columns(Columns::from_values()).build().await.unwrap())
        .rotate(MaxRecords(15))
        .spool_dir(tempfile::tempdir().unwrap().keep());
    pipeline.build().unwrap().run(std::future::pending()).await.unwrap();
    let mut rows = fake.rows(&table("orders"));
    rows.sort_by_key(|row| row.columns["n"].as_i64());
    assert_eq!(rows.len(), 40);
    for (offset, row) in (0..).zip(&rows) {
        let text = (offset % 2 == 1).then(|| format!("row {offset}"));
        assert_eq!(row.columns["n"], offset);
        assert_eq!(row.columns.get("text").and_then(|text| text.as_str()), text.as_deref());
    }
}

/// A lane that has nothing to read shows what goes wrong behind its back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_without_records_shows_what_is_wrong() {
    let fake = fake().await;
    fake.inject(FakeCall::AppendRows, FakeFault::Exhausted, 1000);
    let (broker, _) = world();
    let pipeline = Pipeline::from(broker.source())
        .convert(Json::new())
        .partition(NoRoute)
        .sink(patient(&fake).build().await.unwrap())
        .rotate(MaxRecords(100_000))
        .spool_dir(tempfile::tempdir().unwrap().keep())
        .build()
        .unwrap();
    let handle = pipeline.handle();
    let running = tokio::spawn(pipeline.run(std::future::pending()));
    until("a status that says it", async || {
        let status = handle.status();
        let retrying = status.lanes.first().and_then(|lane| lane.retrying.clone());
        assert!(!status.lanes.iter().any(|lane| matches!(lane.state, LaneState::Failed(_))));
        retrying.is_some_and(|text| text.contains("a quota is used up: append rows of p.d.orders/_default"))
    })
    .await;
    running.abort();
}

/// A runtime of one thread, because the recorder is a thread's.
#[tokio::test]
async fn appends_are_measured() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let snapshot = || {
        let mut values = BTreeMap::new();
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let labels: Vec<_> =
                key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let value = match value {
                DebugValue::Counter(count) => f64::from(u32::try_from(count).unwrap()),
                DebugValue::Gauge(value) => value.into_inner(),
                DebugValue::Histogram(values) => f64::from(u32::try_from(values.len()).unwrap()),
            };
            values.insert(format!("{} {}", key.key().name(), labels.join(" ")), value);
        }
        values
    };
    let lane = "dataset=p.d topic=orders partition=3";
    let fake = fake().await;
    fake.refuse_rows(|row| row["n"] == 4);
    fake.inject(FakeCall::AppendRows, FakeFault::Unavailable, 1);
    let process = Process::start(patient(&fake)).await;
    let mut first = process.fill(0, 10, None, one_table).await;
    publish(&mut first).await;
    let after = snapshot();
    let is = |values: &BTreeMap<String, f64>, name: &str, value: f64| {
        let found = values[&format!("aqueduct_bigquery_{name}")];
        assert!((found - value).abs() < 1e-9, "{name} is {found}");
    };
    is(&after, &format!("rows_appended_total {lane}"), 9.0);
    is(&after, &format!("rows_refused_total {lane}"), 1.0);
    is(&after, &format!("in_flight_bytes {lane}"), 0.0);
    is(&after, &format!("last_ack_age_seconds {lane}"), 0.0);
    is(&after, "append_retries_total dataset=p.d reason=unavailable", 1.0);
    assert!(after["aqueduct_bigquery_append_seconds dataset=p.d"] >= 1.0);
    let reference: BTreeSet<_> =
        aqueduct_sink_bigquery::metrics_reference().iter().map(|metric| metric.name).collect();
    let emitted: BTreeSet<_> = after.keys().map(|name| name.split(' ').next().unwrap()).collect();
    assert_eq!(emitted, reference);
    // A service that takes rows and never says so.
    fake.hold_answers(true);
    let mut second = process.fill(10, 20, None, one_table).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    second.writer.tick().await.unwrap();
    let stalled = snapshot();
    assert!(stalled[&format!("aqueduct_bigquery_last_ack_age_seconds {lane}")] >= 0.3);
    assert!(stalled[&format!("aqueduct_bigquery_in_flight_bytes {lane}")] > 0.0);
    fake.hold_answers(false);
    publish(&mut second).await;
    is(&snapshot(), &format!("last_ack_age_seconds {lane}"), 0.0);
}

/// One life of a process.
#[derive(Clone, Debug)]
struct Life {
    rotate_at: u64,
    faults: Vec<(usize, usize)>,
    goes_away: bool,
    killed_after_ms: u64,
}

const CALLS: [FakeCall; 3] = [FakeCall::AppendRows, FakeCall::GetTable, FakeCall::InsertTable];

#[test]
fn any_sequence_of_crashes_and_faults_loses_nothing() {
    let faults = prop::collection::vec((0..CALLS.len(), 0..FakeFault::PASSING.len()), 0..4);
    let life = (5..120_u64, faults, any::<bool>(), 0..60_u64).prop_map(
        |(rotate_at, faults, goes_away, killed_after_ms)| Life {
            rotate_at,
            faults,
            goes_away,
            killed_after_ms,
        },
    );
    let mut runner = TestRunner::new(Config { cases: 8, ..Config::default() });
    let result = runner.run(&prop::collection::vec(life, 1..5), |lives| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let counts = runtime.block_on(live_through(&lives));
        prop_assert_eq!(counts.keys().copied().collect::<Vec<_>>(), (0..RECORDS).collect::<Vec<_>>());
        Ok(())
    });
    result.unwrap();
}

async fn live_through(lives: &[Life]) -> BTreeMap<i64, usize> {
    let fake = fake().await;
    fake.set_limits(FakeLimits::default().without_quotas());
    let (broker, lane) = world();
    let quick = Duration::from_millis(50);
    let pipeline = async |rotate_at, timeout: Duration| {
        let sink = streaming(&fake).append_bytes(300).schema(schema());
        let sink = sink.call_timeout(timeout).append_timeout(timeout);
        Pipeline::from(broker.source().until_end().batch_records(20))
            .convert(Json::new())
            .partition(NoRoute)
            .sink(sink.build().await.unwrap())
            .rotate(MaxRecords(rotate_at))
            .spool_dir(tempfile::tempdir().unwrap().keep())
            .build()
            .unwrap()
    };
    for life in lives {
        for (call, fault) in &life.faults {
            fake.inject(CALLS[*call], FakeFault::PASSING[*fault], 1);
        }
        let running = tokio::spawn(pipeline(life.rotate_at, quick).await.run(std::future::pending()));
        tokio::time::sleep(Duration::from_millis(life.killed_after_ms / 2)).await;
        if life.goes_away {
            fake.go_away();
        }
        tokio::time::sleep(Duration::from_millis(life.killed_after_ms / 2)).await;
        running.abort();
        drop(running.await);
        // Whatever is committed is there: the mark never runs ahead of the rows.
        let mark = broker.mark(&lane).map_or(0, |mark| mark.next.get());
        let there: BTreeSet<_> = arrivals(&fake, "orders").into_iter().collect();
        assert!((0..mark).all(|offset| there.contains(&offset)), "committed up to {mark}");
    }
    // Faults that were not met are still to come.
    pipeline(90, Duration::from_secs(2)).await.run(std::future::pending()).await.unwrap();
    assert_eq!(broker.mark(&lane).unwrap().next.get(), RECORDS);
    visible(&fake, "orders").into_iter().fold(BTreeMap::new(), |mut counts, offset| {
        *counts.entry(offset).or_default() += 1;
        counts
    })
}
