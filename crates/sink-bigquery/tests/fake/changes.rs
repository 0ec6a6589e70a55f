//! Records as changes of rows: what a compacted topic says, its table says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::{Columns, Json, Tombstones, Utf8};
use aqueduct_core::testkit::{MemoryDeadLetters, ScriptedBroker, ScriptedRecord};
use aqueduct_core::{
    Class, Converter, ConverterExt as _, MaxRecords, OnPoison, Pipeline, StructuredValue, TopicPartition,
};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeCall, FakeFault};
use aqueduct_sink_bigquery::{
    BigQueryConfigError, BigQuerySinkBuilder, Changes, Delivery, Field, FieldType, KeyColumns, TableOptions,
    TableSchema,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use crate::support::{NoRoute, builder, fake, table, told};

fn customers() -> TableSchema {
    TableSchema::new([
        Field::nullable("id", FieldType::String),
        Field::required("name", FieldType::String),
        Field::nullable("tier", FieldType::Int64),
    ])
}

fn changing(fake: &FakeBigQuery) -> BigQuerySinkBuilder {
    builder(fake)
        .table("customers")
        .schema(customers())
        .tables(TableOptions::new().primary_key(["ID"]))
        .delivery(Delivery::AtLeastOnce)
        .changes(Changes::new())
        .call_timeout(Duration::from_mins(1))
        .append_timeout(Duration::from_mins(1))
}

fn by_id() -> Columns<Json> {
    Columns::around(Json::new().tombstones(Tombstones::Null)).key("id", Utf8::new()).build().unwrap()
}

fn lane(partition: i32) -> TopicPartition {
    TopicPartition::new("customers", partition)
}

fn upsert(id: &str, name: &str, tier: i64) -> ScriptedRecord {
    ScriptedRecord::new(json!({ "name": name, "tier": tier }).to_string()).key(id.to_owned())
}

fn delete(id: &str) -> ScriptedRecord {
    ScriptedRecord::tombstone().key(id.to_owned())
}

/// Reads the topic to its end; answers the offsets of letters.
async fn run<C>(broker: &ScriptedBroker, converter: C, sink: BigQuerySinkBuilder) -> Vec<i64>
where
    C: Converter<Output: StructuredValue>,
{
    let letters = MemoryDeadLetters::new();
    let pipeline = Pipeline::from(broker.source().until_end().batch_records(3))
        .convert(converter)
        .partition(NoRoute)
        .sink(sink.build().await.unwrap())
        .rotate(MaxRecords(5))
        .spool_dir(tempfile::tempdir().unwrap().keep())
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())));
    pipeline.build().unwrap().run(std::future::pending()).await.unwrap();
    letters.letters().iter().map(|letter| letter.record.offset.get()).collect()
}

/// What a query sees, by the columns named.
fn seen(fake: &FakeBigQuery, columns: &[&str]) -> Vec<Value> {
    let rows = fake.rows(&table("customers"));
    let mut rows: Vec<_> = rows
        .iter()
        .map(|row| columns.iter().map(|name| row.columns.get(*name).cloned().unwrap_or_default()).collect())
        .collect::<Vec<Value>>();
    rows.sort_by_key(Value::to_string);
    rows
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_put_rows_in_place_of_others_and_tombstones_delete_them() {
    let fake = fake().await;
    let broker = ScriptedBroker::new();
    broker.extend(
        &lane(0),
        [upsert("a", "Ann", 1), upsert("b", "Bob", 1), upsert("a", "Anne", 2), delete("b"), delete("z")],
    );
    broker.extend(&lane(1), [upsert("c", "Cid", 3), delete("c"), upsert("c", "Cide", 4)]);
    assert_eq!(run(&broker, by_id(), changing(&fake)).await, [] as [i64; 0]);
    let expected = [json!(["a", "Anne", 2, 2]), json!(["c", "Cide", 4, 2])];
    assert_eq!(seen(&fake, &["id", "name", "tier", "_kafka_offset"]), expected);
    let made = fake.table(&table("customers")).unwrap();
    assert_eq!(made["tableConstraints"]["primaryKey"]["columns"], json!(["id"]));
    let modes: Vec<_> =
        made["schema"]["fields"].as_array().unwrap().iter().map(|field| field["mode"].clone()).collect();
    assert_eq!(modes[..2], [json!("REQUIRED"), json!("NULLABLE")], "a deletion has no name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_key_or_lacks_a_column_is_a_letter() {
    let fake = fake().await;
    let broker = ScriptedBroker::new();
    broker.extend(
        &lane(0),
        [
            ScriptedRecord::new(r#"{"name": "nobody"}"#),
            ScriptedRecord::new(r#"{"tier": 4}"#).key("a"),
            ScriptedRecord::tombstone(),
            upsert("a", "Ann", 1),
        ],
    );
    assert_eq!(run(&broker, by_id(), changing(&fake)).await, [0, 1, 2]);
    assert_eq!(seen(&fake, &["id", "name"]), [json!(["a", "Ann"])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_several_members_is_a_key_of_several_columns() {
    let fake = fake().await;
    let schema = TableSchema::new([
        Field::required("tenant", FieldType::Int64),
        Field::required("id", FieldType::Int64),
        Field::nullable("name", FieldType::String),
    ]);
    let sink = changing(&fake).schema(schema).tables(TableOptions::new().primary_key(["tenant", "id"]));
    let broker = ScriptedBroker::new();
    let key = |tenant: i64| json!({ "tenant": tenant, "id": 7 }).to_string();
    broker.extend(
        &lane(0),
        [
            // The value says the key as well, otherwise: the record's key counts.
            ScriptedRecord::new(r#"{"ID": 8, "name": "Ann", "more": {"id": [1]}}"#).key(key(1)),
            ScriptedRecord::new(r#"{"name": "Bob"}"#).key(key(2)),
            ScriptedRecord::tombstone().key(key(1)),
            ScriptedRecord::new(r#"{"name": "Cid"}"#).key("17"),
            ScriptedRecord::new("[1]").key(key(3)),
        ],
    );
    let converter =
        Json::new().tombstones(Tombstones::Null).keyed(Json::new()).map("key/1", KeyColumns::from);
    assert_eq!(run(&broker, converter, sink).await, [3, 4]);
    assert_eq!(seen(&fake, &["tenant", "id", "name"]), [json!([2, 7, "Bob"])]);
}

/// What was written before comes again, later than what changed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_changes_nothing_and_a_higher_epoch_does() {
    let fake = fake().await;
    let broker = ScriptedBroker::new();
    let changes = [upsert("a", "Ann", 1), upsert("b", "Bob", 1), upsert("a", "Anne", 2), delete("b")];
    broker.extend(&lane(0), changes.clone());
    run(&broker, by_id(), changing(&fake)).await;
    let first = seen(&fake, &["id", "name"]);
    assert_eq!(first, [json!(["a", "Anne"])]);
    for records in 1..=changes.len() {
        // A process that had seen less.
        let replayed = ScriptedBroker::new();
        replayed.extend(&lane(0), changes[..records].to_vec());
        run(&replayed, by_id(), changing(&fake)).await;
        assert_eq!(seen(&fake, &["id", "name"]), first, "{records} records were written again");
    }
    // The topic was created again.
    let recreated = || {
        let broker = ScriptedBroker::new();
        broker.extend(&lane(0), [upsert("b", "Bea", 9)]);
        broker
    };
    run(&recreated(), by_id(), changing(&fake)).await;
    assert_eq!(seen(&fake, &["id", "name"]), first, "its offsets are smaller");
    run(&recreated(), by_id(), changing(&fake).changes(Changes::new().epoch(1))).await;
    assert_eq!(seen(&fake, &["id", "name"]), [json!(["a", "Anne"]), json!(["b", "Bea"])]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_changed_is_said() {
    let fake = fake().await;
    let problems = |builder: BigQuerySinkBuilder| async move { builder.build().await.unwrap_err().0 };
    let once = problems(changing(&fake).delivery(Delivery::ExactlyOnce)).await;
    assert!(
        matches!(&once[..], [BigQueryConfigError::Changes { problem }] if problem.contains("AtLeastOnce"))
    );
    let keyless = problems(changing(&fake).tables(TableOptions::new())).await;
    assert!(
        matches!(&keyless[..], [BigQueryConfigError::Changes { problem }] if problem.contains("primary_key"))
    );
    let columns = |count| {
        let more = (0..count).map(|n| Field::nullable(format!("f{n}"), FieldType::Bool));
        TableSchema::new([Field::nullable("id", FieldType::String)].into_iter().chain(more))
    };
    changing(&fake).schema(columns(1996)).build().await.unwrap();
    let wide = problems(changing(&fake).schema(columns(1997))).await;
    assert!(matches!(&wide[..], [BigQueryConfigError::Changes { .. }]));
    // A table that is there and has no key.
    fake.create_table(&table("customers"), &customers());
    let sink = changing(&fake).build().await.unwrap();
    let checked = aqueduct_core::Sink::<aqueduct_converters::JsonValue>::check(&sink).await;
    let error = checked.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(told(&error).contains("ADD PRIMARY KEY (id) NOT ENFORCED"), "{}", told(&error));
}

/// Somebody who adds rows has made the table: every deletion would be a letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_demands_more_than_a_deletion_has_is_refused_or_relaxed() {
    let fake = fake().await;
    let check = async |builder: BigQuerySinkBuilder| {
        let sink = builder.build().await.unwrap();
        aqueduct_core::Sink::<aqueduct_converters::JsonValue>::check(&sink).await
    };
    let keyed = || TableOptions::new().primary_key(["id"]);
    check(builder(&fake).table("customers").schema(customers()).tables(keyed())).await.unwrap();
    let error = check(changing(&fake)).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(told(&error).contains("columns name, which are REQUIRED"), "{}", told(&error));
    check(changing(&fake).tables(keyed().evolve_tables(true))).await.unwrap();
    check(changing(&fake)).await.unwrap();
    let broker = ScriptedBroker::new();
    broker.extend(&lane(0), [upsert("a", "Ann", 1), delete("a")]);
    assert_eq!(run(&broker, by_id(), changing(&fake)).await, [] as [i64; 0]);
}

#[derive(Clone, Debug)]
struct Life {
    faults: Vec<usize>,
    killed_after_ms: u64,
}

/// Any changes, any crashes: in the end the table says what the topic says.
#[test]
fn any_changes_and_any_crashes_end_in_the_same_rows() {
    let change = (0..5_u8, prop::option::weighted(0.7, 0..100_i64));
    let life = (prop::collection::vec(0..FakeFault::PASSING.len(), 0..3), 0..40_u64)
        .prop_map(|(faults, killed_after_ms)| Life { faults, killed_after_ms });
    let world = (prop::collection::vec(change, 1..60), prop::collection::vec(life, 0..4));
    let mut runner = TestRunner::new(Config { cases: 8, ..Config::default() });
    let result = runner.run(&world, |(changes, lives)| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let mut expected = BTreeMap::new();
        for (key, tier) in &changes {
            match tier {
                Some(tier) => expected.insert(*key, *tier),
                None => expected.remove(key),
            };
        }
        let expected: Vec<_> =
            expected.into_iter().map(|(key, tier)| json!([format!("k{key}"), tier])).collect();
        let mut found = runtime.block_on(live_through(&changes, &lives));
        found.sort_by_key(Value::to_string);
        prop_assert_eq!(found, expected);
        Ok(())
    });
    result.unwrap();
}

async fn live_through(changes: &[(u8, Option<i64>)], lives: &[Life]) -> Vec<Value> {
    let fake = fake().await;
    let broker = ScriptedBroker::new();
    for (key, tier) in changes {
        // As a producer does it: a key has one partition.
        let id = format!("k{key}");
        let record = tier.map_or_else(|| delete(&id), |tier| upsert(&id, "n", tier));
        broker.append(&lane(i32::from(key % 2)), record);
    }
    for life in lives {
        for fault in &life.faults {
            fake.inject(FakeCall::AppendRows, FakeFault::PASSING[*fault], 1);
        }
        let (broker, quick) = (broker.clone(), Duration::from_millis(50));
        let sink = changing(&fake).append_bytes(300).append_timeout(quick).call_timeout(quick);
        let running = tokio::spawn(async move { run(&broker, by_id(), sink).await });
        tokio::time::sleep(Duration::from_millis(life.killed_after_ms)).await;
        running.abort();
        drop(running.await);
    }
    // Faults that were not met are still to come.
    let short = Duration::from_secs(2);
    run(&broker, by_id(), changing(&fake).append_timeout(short).call_timeout(short)).await;
    seen(&fake, &["id", "tier"])
}
