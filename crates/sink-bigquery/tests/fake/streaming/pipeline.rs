//! Real lanes over default streams: what they guarantee, show and measure, and processes that are killed at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::{ConnectJson, Json};
use aqueduct_core::testkit::{MemoryDeadLetters, ScriptedBroker};
use aqueduct_core::{Guarantee, LaneState, MaxRecords, OnPoison, Pipeline, TopicPartition};
use aqueduct_sink_bigquery::Columns;
use aqueduct_sink_bigquery::testkit::{FakeCall, FakeFault, FakeLimits};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{arrivals, patient, publish, streaming, until};
use crate::support::{NoRoute, Process, fake, one_table, schema, table, visible};

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
        (0..40).map(|offset| {
            if offset % 2 == 0 {
                return version(n, format!(r#"{{"n": {offset}}}"#));
            }
            let fields = format!(r#"{n}, {{"field": "text", "type": "string", "optional": true}}"#);
            version(&fields, format!(r#"{{"n": {offset}, "text": "row {offset}"}}"#))
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
