//! Records find their tables: by topic, pattern, field, over datasets and projects; and say which they are.

use std::sync::Arc;

use aqueduct_converters::{Json, JsonValue};
use aqueduct_core::testkit::{MemoryDeadLetters, ScriptedBroker};
use aqueduct_core::{
    Class, ErrorChain, MaxRecords, OnPoison, Partitioner, Pipeline, Record, Sink, TopicPartition,
};
use aqueduct_sink_bigquery::testkit::FakeBigQuery;
use aqueduct_sink_bigquery::{
    BigQuerySinkBuilder, ByTable, KeyAs, MetadataColumns, TableRoute, TopicNames, by_table_fn,
};

use crate::support::{Process, builder, fake, one_table, visible};

/// Visible rows by table.
fn stored(fake: &FakeBigQuery) -> Vec<(String, usize)> {
    let mut stored: Vec<_> = fake
        .tables()
        .into_iter()
        .map(|table| (table.to_string(), fake.rows(&table).iter().filter(|row| row.visible).count()))
        .collect();
    stored.sort();
    stored
}

async fn run(
    broker: &ScriptedBroker,
    sink: BigQuerySinkBuilder,
    partitioner: impl Partitioner<JsonValue>,
) -> MemoryDeadLetters {
    let letters = MemoryDeadLetters::new();
    let pipeline = Pipeline::from(broker.source().until_end())
        .convert(Json::new())
        .partition(partitioner)
        .sink(sink.build().await.unwrap())
        .rotate(MaxRecords(50))
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .spool_dir(tempfile::tempdir().unwrap().keep())
        .build()
        .unwrap();
    pipeline.run(std::future::pending()).await.unwrap();
    letters
}

fn no_route() -> impl Partitioner<JsonValue> {
    by_table_fn("none/1", |_: &Record<'_>, _: &JsonValue, _: &mut TableRoute| Ok(()))
}

fn extend(broker: &ScriptedBroker, topic: &str, rows: impl IntoIterator<Item = String>) {
    broker.extend(&TopicPartition::new(topic, 0), rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_find_their_tables_over_datasets_and_projects() {
    let fake = fake().await;
    fake.create_dataset("p", "logs");
    fake.create_dataset("q", "sales");
    let broker = ScriptedBroker::new();
    for topic in ["orders", "logs.web", "logs.web.front", "a.b", "a_b"] {
        extend(&broker, topic, (0..10).map(|n| format!(r#"{{"n": {n}}}"#)));
    }
    let sink = builder(&fake)
        .topic_table("orders", "q.sales.all_orders")
        .topic_pattern(r"logs\.(?<app>.+)", "logs.$app");
    run(&broker, sink, no_route()).await;
    let stored = stored(&fake);
    assert!(stored.iter().all(|(_, rows)| *rows == 10), "{stored:?}");
    let tables: Vec<_> = stored.into_iter().map(|(table, _)| table).collect();
    assert_eq!(tables.len(), 5, "no two meet: {tables:?}");
    for expected in ["p.d.a_b", "p.d.a_b_x", "p.logs.web", "p.logs.web_front_x", "q.sales.all_orders"] {
        assert!(tables.iter().any(|table| table.starts_with(expected)), "{expected}: {tables:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_name_tables_and_no_value_stops_its_neighbours() {
    let fake = fake().await;
    fake.create_dataset("p", "eu_raw");
    let broker = ScriptedBroker::new();
    let tenants = ["a", "b", "a/b", "a_b", "A", "🦀", ""];
    let mut rows: Vec<_> =
        (0..70).map(|n| format!(r#"{{"n": {n}, "region": "eu", "text": "{}"}}"#, tenants[n % 7])).collect();
    rows.push(r#"{"n": 70, "text": "a"}"#.to_owned());
    rows.push(format!(r#"{{"n": 71, "region": "eu", "text": "{}"}}"#, "x".repeat(400)));
    rows.push(r#"{"n": 72, "region": "eu", "text": {"no": "name"}}"#.to_owned());
    extend(&broker, "orders", rows);
    let by = ByTable::template("${region}_raw.$text").unwrap();
    let letters = run(&broker, builder(&fake).routes_max(2), by).await;
    let refused: Vec<_> = letters.letters().iter().map(|letter| letter.record.offset.get()).collect();
    assert_eq!(refused[..2], [70, 72], "the region is missing, and an object is no name");
    let stored = stored(&fake);
    // A name of a hundred bytes is too long for a token of two tables; it is a letter or a table, and stops nobody.
    let rows: usize = stored.iter().map(|(_, rows)| rows).sum();
    assert_eq!(rows + refused.len(), 73);
    assert!(stored.iter().filter(|(_, rows)| *rows == 10).count() == 7, "no two tenants meet: {stored:?}");
}

#[tokio::test]
async fn topics_that_meet_stop_the_second_one() {
    let fake = fake().await;
    let broker = ScriptedBroker::new();
    for topic in ["a.b", "a-b"] {
        extend(&broker, topic, [r#"{"n": 1}"#.to_owned()]);
    }
    let sink = builder(&fake).topic_names(TopicNames::Connect).build().await.unwrap();
    let pipeline = Pipeline::from(broker.source().until_end())
        .convert(Json::new())
        .partition(no_route())
        .sink(sink)
        .spool_dir(tempfile::tempdir().unwrap().keep())
        .build()
        .unwrap();
    let error = pipeline.run(std::future::pending()).await.unwrap_err();
    let told = ErrorChain(&error).to_string();
    assert!(told.contains("a.b") && told.contains("a-b") && told.contains("topic_table()"), "{told}");
}

#[tokio::test]
async fn every_dataset_that_is_named_is_looked_for_at_the_start() {
    let fake = fake().await;
    let sink =
        builder(&fake).topic_table("x", "sales.x").topic_pattern("y.*", "logs.y").build().await.unwrap();
    for missing in ["logs", "sales"] {
        let error = Sink::<JsonValue>::check(&sink).await.unwrap_err();
        assert_eq!(error.class(), Class::Fatal);
        assert!(ErrorChain(&error).to_string().contains(&format!("p.{missing}")), "{error:?}");
        fake.create_dataset("p", missing);
    }
    Sink::<JsonValue>::check(&sink).await.unwrap();
}

/// The optional columns are in the table that is made and in every row, and a second reading gives the same row.
#[tokio::test]
async fn rows_say_when_and_by_what_key() {
    let fake = fake().await;
    let columns = MetadataColumns::default()
        .with_timestamp("_kafka_timestamp")
        .with_key("_kafka_key", KeyAs::Bytes)
        .with_load_time("_loaded_at");
    let process = Process::start(builder(&fake).metadata_columns(columns)).await;
    let mut segment = process.fill(0, 3, None, one_table).await;
    let intent = segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    assert_eq!(visible(&fake, "orders"), [0, 1, 2]);
    assert!(process.recover(&intent, one_table).await.unwrap().is_none());
    let rows = fake.rows(&crate::support::table("orders"));
    for row in rows {
        assert_eq!(row.columns["_loaded_at"], serde_json::Value::from(0), "pinned by the segment");
        assert_eq!(row.columns.get("_kafka_key"), None, "these records have none");
        assert_eq!(row.columns.get("_kafka_timestamp"), None);
    }
    let table = fake.table(&crate::support::table("orders")).unwrap().to_string();
    for (name, kind) in
        [("_kafka_timestamp", "TIMESTAMP"), ("_kafka_key", "BYTES"), ("_loaded_at", "TIMESTAMP")]
    {
        assert!(table.contains(name) && table.contains(kind), "{table}");
    }
}
