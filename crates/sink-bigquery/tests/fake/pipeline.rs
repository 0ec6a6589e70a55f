//! Real lanes over the fake: processes that are killed at any moment, and a service that fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::{Json, JsonValue};
use aqueduct_core::testkit::{MemoryDeadLetters, ScriptedBroker, ScriptedSource};
use aqueduct_core::{
    Builder, Fingerprint, Guarantee, MaxAge, MaxRecords, OnPoison, Partitioner, Pipeline, Poison, Record,
    RoutePath, TopicPartition,
};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeCall, FakeFault};
use aqueduct_sink_bigquery::{BigQuerySink, BigQuerySinkBuilder};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::{builder, fake, table};

const RECORDS: i64 = 300;

/// Three tables by the record's number.
struct ByNumber;

impl Partitioner<JsonValue> for ByNumber {
    fn route(&self, record: &Record<'_>, _: &JsonValue, path: &mut RoutePath) -> Result<(), Poison> {
        match record.offset().get() % 3 {
            0 => Ok(()),
            1 => path.push("one"),
            _ => path.push("two"),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "by-number/1");
    }
}

fn world() -> (ScriptedBroker, TopicPartition) {
    let broker = ScriptedBroker::new();
    let lane = TopicPartition::new("orders", 0);
    broker.extend(&lane, (0..RECORDS).map(|n| format!(r#"{{"n": {n}, "text": "row {n}"}}"#)));
    (broker, lane)
}

async fn pipeline(
    source: ScriptedSource,
    sink: BigQuerySinkBuilder,
    rotate_at: u64,
) -> Builder<ScriptedSource, Json, ByNumber, BigQuerySink> {
    Pipeline::from(source)
        .convert(Json::new())
        .partition(ByNumber)
        .sink(sink.build().await.unwrap())
        .rotate(MaxRecords(rotate_at))
        .spool_dir(tempfile::tempdir().unwrap().keep())
}

/// How often each record is visible, over all tables.
fn counts(fake: &FakeBigQuery) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for (place, name) in (0..).zip(["orders", "one", "two"]) {
        for row in fake.rows(&table(name)).into_iter().filter(|row| row.visible) {
            let offset = row.columns["_kafka_offset"].as_i64().unwrap();
            assert_eq!((offset % 3, row.columns["n"].as_i64()), (place, Some(offset)));
            *counts.entry(offset).or_default() += 1;
        }
    }
    counts
}

fn once_each(except: impl Fn(i64) -> bool) -> BTreeMap<i64, usize> {
    (0..RECORDS).filter(|offset| !except(*offset)).map(|offset| (offset, 1)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_gets_into_its_tables_exactly_once() {
    let fake = fake().await;
    let (broker, lane) = world();
    let pipeline = pipeline(broker.source().until_end(), builder(&fake), 70).await;
    let built = pipeline.require(Guarantee::ExactlyOnce).build().unwrap();
    let report = built.run(std::future::pending()).await.unwrap();
    assert_eq!((report.rows, report.segments), (300, 5));
    assert_eq!(counts(&fake), once_each(|_| false));
    assert_eq!(broker.mark(&lane).unwrap().next.get(), RECORDS);
}

/// Rotation × lanes × tables over half of the quota is a problem of the configuration, beside the others.
#[tokio::test]
async fn a_plan_over_half_of_the_quota_is_not_built() {
    let fake = fake().await;
    let (broker, _) = world();
    let build = async |sink: BigQuerySinkBuilder, seconds: u64| {
        let pipeline = pipeline(broker.source().until_end(), sink, 70).await;
        pipeline.rotate(aqueduct_core::any((MaxRecords(9), MaxAge::seconds(seconds)))).build()
    };
    let wide = || builder(&fake).expected_lanes(500).expected_tables(5);
    let error = build(wide(), 60).await.unwrap_err();
    assert!(error.problems()[0].contains("150000 write streams an hour"), "{error}");
    build(wide(), 1800).await.unwrap();
    build(wide().create_quota(1_000_000), 60).await.unwrap();
    assert!(build(wide().expected_segment_interval(Duration::from_secs(1)), 1800).await.is_err());
    build(builder(&fake).expected_lanes(83), 60).await.unwrap();
    assert!(build(builder(&fake).expected_lanes(84), 60).await.is_err(), "half of 10,000 is the limit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_the_service_refuses_are_letters_with_the_records_themselves() {
    let fake = fake().await;
    fake.refuse_rows(|row| row["n"].as_i64().unwrap() % 50 == 7);
    let (broker, _) = world();
    let letters = MemoryDeadLetters::new();
    let pipeline = pipeline(broker.source().until_end(), builder(&fake), 70).await;
    let pipeline = pipeline.on_poison(OnPoison::DeadLetter(Arc::new(letters.clone()))).build().unwrap();
    pipeline.run(std::future::pending()).await.unwrap();
    let refused: Vec<_> = letters.letters().iter().map(|letter| letter.record.offset.get()).collect();
    assert_eq!(refused, [7, 57, 107, 157, 207, 257]);
    let letter = &letters.letters()[0];
    assert_eq!(letter.record.value.as_deref(), Some(&br#"{"n": 7, "text": "row 7"}"#[..]));
    assert_eq!(counts(&fake), once_each(|offset| offset % 50 == 7));
}

/// One life of a process.
#[derive(Clone, Debug)]
struct Life {
    rotate_at: u64,
    faults: Vec<(usize, usize)>,
    forgetful: bool,
    killed_after_ms: u64,
}

#[test]
fn any_sequence_of_crashes_and_faults_stores_every_record_once() {
    let faults = prop::collection::vec((0..FakeCall::ALL.len(), 0..FakeFault::PASSING.len()), 0..4);
    let life = (5..120_u64, faults, any::<bool>(), 0..60_u64).prop_map(
        |(rotate_at, faults, forgetful, killed_after_ms)| Life {
            rotate_at,
            faults,
            forgetful,
            killed_after_ms,
        },
    );
    let mut runner = TestRunner::new(Config { cases: 8, ..Config::default() });
    let lives = prop::collection::vec(life, 1..5);
    let result = runner.run(&lives, |lives| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        prop_assert_eq!(runtime.block_on(live_through(&lives)), once_each(|_| false));
        Ok(())
    });
    result.unwrap();
}

async fn live_through(lives: &[Life]) -> BTreeMap<i64, usize> {
    let fake = fake().await;
    let (broker, lane) = world();
    // Timeouts are short, so that a stalled call does not take the test with it.
    let sink = |fake: &FakeBigQuery| {
        builder(fake).call_timeout(Duration::from_millis(50)).append_timeout(Duration::from_millis(50))
    };
    for life in lives {
        for (call, fault) in &life.faults {
            fake.inject(FakeCall::ALL[*call], FakeFault::PASSING[*fault], 1);
        }
        let pipeline =
            pipeline(broker.source().until_end(), sink(&fake).append_bytes(300), life.rotate_at).await;
        let running = tokio::spawn(pipeline.build().unwrap().run(std::future::pending()));
        tokio::time::sleep(Duration::from_millis(life.killed_after_ms)).await;
        running.abort();
        drop(running.await);
        // What a dead process had sent may still arrive.
        tokio::time::sleep(Duration::from_millis(10)).await;
        if life.forgetful {
            for name in ["orders", "one", "two"] {
                fake.forget_streams(&table(name));
            }
        }
    }
    // A fault that no life met waits for the last one, and one like refused credentials ends it: it is started again, as a
    // supervisor would, at most once for each fault.
    let mut waiting: usize = lives.iter().map(|life| life.faults.len()).sum();
    loop {
        let last = pipeline(broker.source().until_end(), sink(&fake), 90).await.build().unwrap();
        match last.run(std::future::pending()).await {
            Ok(_) => break,
            Err(error) if waiting == 0 => panic!("no fault is left to explain it: {error}"),
            Err(_) => waiting -= 1,
        }
    }
    assert_eq!(broker.mark(&lane).unwrap().next.get(), RECORDS);
    counts(&fake)
}
