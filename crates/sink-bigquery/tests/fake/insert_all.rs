//! The legacy streaming interface: what its answers mean, and that nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::{Json, JsonValue};
use aqueduct_core::testkit::{MemoryDeadLetters, ScriptedBroker};
use aqueduct_core::{Class, MaxRecords, OnPoison, Pipeline, Record, TopicPartition};
use aqueduct_sink_bigquery::testkit::{FakeCall, FakeFault, FakeLimits};
use aqueduct_sink_bigquery::{
    BigQuerySinkBuilder, Delivery, Field, FieldType, TableName, TableRoute, TableSchema, by_table_fn,
};

use crate::support::{Process, Segment, builder, fake, one_table, persist, schema, table, told, visible};

fn legacy(fake: &aqueduct_sink_bigquery::testkit::FakeBigQuery) -> BigQuerySinkBuilder {
    builder(fake).delivery(Delivery::InsertAll)
}

/// Appends and spills as one batch; answers which rows were refused.
async fn fill(segment: &mut Segment, offsets: std::ops::Range<i64>) -> Vec<i64> {
    segment.append_all(offsets, one_table).await;
    let rejected = persist(async || segment.writer.spill().await).await.unwrap();
    rejected.iter().map(|rejected| rejected.offset.get()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_seen_when_their_batch_is_spilled_and_once() {
    let fake = fake().await;
    let process = Process::start(legacy(&fake)).await;
    let mut segment = process.fill(0, 20, None, one_table).await;
    assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>());
    assert!(segment.stage().await.unwrap().token.is_empty());
    let published = segment.publish().await.unwrap();
    let object = &published.objects[0];
    assert_eq!((&*object.key, object.rows, object.range.end().get()), ("p.d.orders", 20, 20));
    assert_eq!(fake.calls(FakeCall::CreateWriteStream), 0);
    // A batch that is read again soon is recognised by the ids of its rows.
    process.fill(0, 20, None, one_table).await;
    assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_survives_every_fault() {
    for call in [FakeCall::GetTable, FakeCall::InsertTable, FakeCall::InsertAll] {
        for fault in FakeFault::PASSING {
            let fake = fake().await;
            let process = Process::start(legacy(&fake)).await;
            let times = if matches!(fault, FakeFault::LoseAnswer | FakeFault::Stall) { 1 } else { 2 };
            fake.inject(call, fault, times);
            let mut segment = process.fill(0, 20, None, one_table).await;
            segment.stage().await.unwrap();
            segment.publish().await.unwrap();
            assert_eq!(fake.pending_faults(), 0, "{call:?} {fault:?} was not met");
            assert_eq!(visible(&fake, "orders"), (0..20).collect::<Vec<_>>(), "{call:?} {fault:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_rows_cost_exactly_themselves() {
    let cases: [&'static [i64]; 4] = [&[0], &[19], &[3, 4, 11], &[0, 1, 2, 3]];
    for bad in cases {
        let fake = fake().await;
        fake.refuse_rows(move |row| bad.contains(&row["n"].as_i64().unwrap()));
        let process = Process::start(legacy(&fake)).await;
        let mut segment = process.begin(0, 20, None).await.unwrap().unwrap();
        // The answer that names them may be lost, and what it stopped is written once all the same.
        fake.inject(FakeCall::InsertAll, FakeFault::LoseAnswer, 1);
        assert_eq!(fill(&mut segment, 0..20).await, bad);
        let good: Vec<_> = (0..20).filter(|offset| !bad.contains(offset)).collect();
        assert_eq!(visible(&fake, "orders"), good);
        let published = segment.publish().await.unwrap();
        assert_eq!((published.objects[0].rows, published.rejected.len()), (good.len() as u64, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_too_large_are_halved_and_a_row_that_is_is_a_letter() {
    for limits in [
        FakeLimits::default().without_quotas().with_rows_per_insert(3),
        FakeLimits::default().without_quotas().with_request_bytes(700),
    ] {
        let fake = fake().await;
        fake.set_limits(limits);
        let process = Process::start(legacy(&fake)).await;
        process.fill(0, 50, None, one_table).await;
        assert_eq!(visible(&fake, "orders"), (0..50).collect::<Vec<_>>());
    }
    let fake = fake().await;
    fake.set_limits(FakeLimits::default().without_quotas().with_request_bytes(100));
    let process = Process::start(legacy(&fake)).await;
    let mut segment = process.begin(0, 3, None).await.unwrap().unwrap();
    assert_eq!(fill(&mut segment, 0..3).await, [0, 1, 2]);
    // A request that makes no sense whatever its size is no row's fault.
    fake.set_limits(FakeLimits::default().without_quotas().with_rows_per_insert(0));
    segment.append_all(3..5, one_table).await;
    let error = segment.writer.spill().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal, "{}", told(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_gone_is_made_again_and_a_column_that_is_not_known_yet_is_waited_for() {
    let fake = fake().await;
    let process = Process::start(legacy(&fake)).await;
    process.fill(0, 5, None, one_table).await;
    fake.delete_table(&table("orders"));
    let mut segment = process.begin(5, 10, None).await.unwrap().unwrap();
    segment.append_all(5..10, one_table).await;
    let error = segment.writer.spill().await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY, "{}", told(&error));
    assert!(fake.table(&table("orders")).is_some(), "it is made at once");
    assert!(persist(async || segment.writer.spill().await).await.unwrap().is_empty());
    assert_eq!(visible(&fake, "orders"), [5, 6, 7, 8, 9]);

    let older = TableName::new("p", "d", "older").unwrap();
    fake.create_table(&older, &TableSchema::new([Field::nullable("n", FieldType::Int64)]));
    fake.hold_changes(true);
    let tables = aqueduct_sink_bigquery::TableOptions::default().evolve_tables(true);
    let evolving = Process::start(legacy(&fake).schema(schema()).table("older").tables(tables)).await;
    let mut segment = evolving.begin(0, 3, None).await.unwrap().unwrap();
    segment.append_all(0..3, one_table).await;
    let error = segment.writer.spill().await.unwrap_err();
    assert_eq!(error.class(), Class::RETRY, "no row is a letter for that: {}", told(&error));
    fake.hold_changes(false);
    assert!(persist(async || segment.writer.spill().await).await.unwrap().is_empty());
    assert_eq!(visible(&fake, "older"), [0, 1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_repetition_mends_ends_at_once_and_a_quota_is_waited_for() {
    let fake = fake().await;
    let process = Process::start(legacy(&fake)).await;
    let mut segment = process.begin(0, 5, None).await.unwrap().unwrap();
    segment.append_all(0..5, one_table).await;
    fake.inject(FakeCall::InsertAll, FakeFault::Exhausted, 1);
    let error = segment.writer.spill().await.unwrap_err();
    let Class::Retry { after: Some(after) } = error.class() else { panic!("{error:?}") };
    assert!(after >= Duration::from_secs(1), "{after:?}");
    fake.inject(FakeCall::InsertAll, FakeFault::Denied, 1);
    assert_eq!(segment.writer.spill().await.unwrap_err().class(), Class::Fatal);
    assert!(visible(&fake, "orders").is_empty());
    assert!(segment.writer.spill().await.unwrap().is_empty());
    assert_eq!(visible(&fake, "orders"), [0, 1, 2, 3, 4]);
}

/// What the service refuses is a letter with the record itself, and a process that comes after another goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_write_what_is_good_and_send_letters_of_the_rest() {
    let fake = fake().await;
    fake.refuse_rows(|row| row["n"].as_i64().unwrap() % 50 == 7);
    let (broker, letters) = (ScriptedBroker::new(), MemoryDeadLetters::new());
    let lane = TopicPartition::new("orders", 3);
    for part in [0..150, 150..300] {
        broker.extend(&lane, part.map(|n| format!(r#"{{"n": {n}, "text": "row {n}"}}"#)));
        let pipeline = Pipeline::from(broker.source().until_end())
            .convert(Json::new())
            .partition(by_table_fn("none/1", |_: &Record<'_>, _: &JsonValue, _: &mut TableRoute| Ok(())))
            .sink(legacy(&fake).build().await.unwrap())
            .rotate(MaxRecords(70))
            .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
            .spool_dir(tempfile::tempdir().unwrap().keep());
        let built = pipeline.build().unwrap();
        assert!(built.guarantee().to_string().contains("at least once"), "{}", built.guarantee());
        built.run(std::future::pending()).await.unwrap();
    }
    let letters = letters.letters();
    let refused: Vec<_> = letters.iter().map(|letter| letter.record.offset.get()).collect();
    assert_eq!(refused, [7, 57, 107, 157, 207, 257]);
    assert_eq!(letters[0].record.value.as_deref(), Some(&br#"{"n": 7, "text": "row 7"}"#[..]));
    assert_eq!(visible(&fake, "orders"), (0..300).filter(|offset| offset % 50 != 7).collect::<Vec<_>>());
    assert_eq!(broker.mark(&lane).unwrap().next.get(), 300);
}
