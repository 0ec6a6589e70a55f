//! Columns that are the table's own, and columns that values bring.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_converters::{ConnectJson, Json};
use aqueduct_core::testkit::{MemoryDeadLetters, ScriptedBroker};
use aqueduct_core::{
    Converter, Fingerprint, MaxRecords, OnPoison, Partitioner, Pipeline, Poison, Record, RoutePath,
    StructuredValue, TopicPartition,
};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeCall, FakeFault, FakeLimits};
use aqueduct_sink_bigquery::{
    BigQuerySinkBuilder, Columns, Delivery, DerivedColumns, Field, FieldType, Granularity, Partitioning,
    TableName, TableOptions, TableSchema,
};
use serde_json::{Value, json};

use crate::support::{builder, fake, table};

/// A record in Connect's envelope: a version of the schema, and a value of it.
fn record(fields: Value, payload: Value) -> String {
    let schema =
        Value::from_iter([("type", "struct".into()), ("name", "shop.Order".into()), ("fields", fields)]);
    Value::from_iter([("schema", schema), ("payload", payload)]).to_string()
}

fn field(name: &str, kind: &str) -> Value {
    json!({ "field": name, "type": kind, "optional": true })
}

/// `{n, text}`.
fn first(n: i64) -> String {
    record(
        json!([field("n", "int64"), field("text", "string")]),
        json!({ "n": n, "text": format!("row {n}") }),
    )
}

/// `{n, extra: {a}, tags}`: columns more, and one less.
fn second(n: i64) -> String {
    let extra =
        json!({ "field": "extra", "type": "struct", "optional": true, "fields": [field("a", "int32")] });
    let tags = json!({ "field": "tags", "type": "array", "items": { "type": "string" }, "optional": true });
    record(
        json!([extra, field("n", "int64"), tags]),
        json!({ "n": n, "extra": { "a": n }, "tags": ["x", "y"] }),
    )
}

/// All ways rows get into tables.
const WAYS: [Delivery; 3] = [Delivery::ExactlyOnce, Delivery::AtLeastOnce, Delivery::InsertAll];

fn derived(fake: &FakeBigQuery) -> BigQuerySinkBuilder {
    builder(fake).columns(Columns::from_values())
}

fn broker(records: impl IntoIterator<Item = String>) -> (ScriptedBroker, TopicPartition) {
    let (broker, lane) = (ScriptedBroker::new(), TopicPartition::new("orders", 0));
    broker.extend(&lane, records);
    (broker, lane)
}

/// Routes nothing: tables are the topics'.
struct ByTopic;

impl<T> Partitioner<T> for ByTopic {
    fn route(&self, _: &Record<'_>, _: &T, _: &mut RoutePath) -> Result<(), Poison> {
        Ok(())
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "by-topic/1");
    }
}

/// A pipeline over all there is, and the letters it sends.
async fn pipeline<C>(
    broker: &ScriptedBroker,
    converter: C,
    sink: BigQuerySinkBuilder,
    rotate_at: u64,
) -> (Pipeline, MemoryDeadLetters)
where
    C: Converter,
    C::Output: StructuredValue,
{
    let letters = MemoryDeadLetters::new();
    let built = Pipeline::from(broker.source().until_end().batch_records(16))
        .convert(converter)
        .partition(ByTopic)
        .sink(sink.build().await.unwrap())
        .rotate(MaxRecords(rotate_at))
        .on_poison(OnPoison::DeadLetter(Arc::new(letters.clone())))
        .spool_dir(tempfile::tempdir().unwrap().keep())
        .build()
        .unwrap();
    (built, letters)
}

async fn run<C>(broker: &ScriptedBroker, converter: C, sink: BigQuerySinkBuilder) -> MemoryDeadLetters
where
    C: Converter,
    C::Output: StructuredValue,
{
    let (pipeline, letters) = pipeline(broker, converter, sink, 70).await;
    pipeline.run(std::future::pending()).await.unwrap();
    letters
}

/// What a query would see, by offset, without what says which record it is of.
fn visible(fake: &FakeBigQuery, table: &TableName) -> BTreeMap<i64, Value> {
    let mut rows = BTreeMap::new();
    for row in fake.rows(table).into_iter().filter(|row| row.visible) {
        let Value::Object(mut columns) = row.columns else { panic!("a row is an object") };
        let offset = columns.remove("_kafka_offset").and_then(|offset| offset.as_i64()).unwrap();
        columns.retain(|name, _| !name.starts_with("_kafka"));
        assert!(rows.insert(offset, Value::Object(columns)).is_none(), "offset {offset} is there twice");
    }
    rows
}

fn row_of_first(n: i64) -> Value {
    json!({ "n": n, "text": format!("row {n}") })
}

fn row_of_second(n: i64) -> Value {
    json!({ "n": n, "extra": { "a": n }, "tags": ["x", "y"] })
}

fn in_turns(n: i64) -> String {
    if n % 2 == 0 { first(n) } else { second(n) }
}

fn rows_in_turns(count: i64) -> BTreeMap<i64, Value> {
    (0..count).map(|n| (n, if n % 2 == 0 { row_of_first(n) } else { row_of_second(n) })).collect()
}

fn names(fake: &FakeBigQuery, table: &TableName) -> Vec<String> {
    let made = fake.table(table).unwrap();
    let fields = made["schema"]["fields"].as_array().unwrap();
    fields.iter().map(|field| field["name"].as_str().unwrap().to_owned()).collect()
}

fn letters_of(letters: &MemoryDeadLetters) -> Vec<i64> {
    letters.letters().iter().map(|letter| letter.record.offset.get()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_take_turns_go_into_one_table_and_one_stream_a_segment() {
    let fake = fake().await;
    let (broker, lane) = broker((0..300).map(in_turns));
    let letters = run(&broker, ConnectJson::new(), derived(&fake)).await;
    assert!(letters_of(&letters).is_empty());
    assert_eq!(visible(&fake, &table("orders")), rows_in_turns(300));
    assert_eq!((fake.calls(FakeCall::InsertTable), fake.calls(FakeCall::PatchTable)), (1, 0));
    assert_eq!(fake.calls(FakeCall::CreateWriteStream), 5, "one for each segment");
    assert_eq!(fake.calls(FakeCall::AppendRows), 5, "and one request");
    assert_eq!(
        names(&fake, &table("orders")),
        ["n", "text", "extra", "tags", "_kafka_topic", "_kafka_partition", "_kafka_offset"]
    );
    assert_eq!(broker.mark(&lane).unwrap().next.get(), 300);
}

/// What a later version adds is given to the table while rows are under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_that_take_turns_get_into_a_table_in_every_way() {
    for way in WAYS {
        let fake = fake().await;
        let (broker, lane) = broker((0..100).map(first).chain((100..300).map(in_turns)));
        let sink = derived(&fake).delivery(way).append_bytes(1000);
        let letters = run(&broker, ConnectJson::new(), sink).await;
        assert!(letters_of(&letters).is_empty(), "{way:?}");
        let mut expected = rows_in_turns(300);
        expected.extend((0..100).map(|n| (n, row_of_first(n))));
        assert_eq!(visible(&fake, &table("orders")), expected, "{way:?}");
        assert_eq!((fake.calls(FakeCall::InsertTable), fake.calls(FakeCall::PatchTable)), (1, 1), "{way:?}");
        assert_eq!(broker.mark(&lane).unwrap().next.get(), 300);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_is_given_the_columns_of_a_later_version_and_nothing_is_asked_for_one_that_adds_none() {
    let fake = fake().await;
    let (broker, lane) = broker((0..100).map(first));
    run(&broker, ConnectJson::new(), derived(&fake)).await;
    // The same columns in a schema that says something else.
    let same = |n: i64| {
        let fields = json!([field("text", "string"), field("n", "int32")]);
        record(fields, json!({ "n": n, "text": format!("row {n}") }))
    };
    broker.extend(&lane, (100..200).map(same));
    run(&broker, ConnectJson::new(), derived(&fake)).await;
    assert_eq!(fake.calls(FakeCall::PatchTable), 0);
    assert_eq!(fake.calls(FakeCall::GetTable), 3, "twice when it was made, and by the next process");
    broker.extend(&lane, (200..300).map(second));
    run(&broker, ConnectJson::new(), derived(&fake)).await;
    assert_eq!(fake.calls(FakeCall::PatchTable), 1);
    let rows = (0..300).map(|n| (n, if n < 200 { row_of_first(n) } else { row_of_second(n) }));
    assert_eq!(visible(&fake, &table("orders")), rows.collect());
}

/// Somebody else has changed the table: processes that know less go on, and those that know more lose nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_of_several_versions_work_on_one_table() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &TableSchema::new([Field::nullable("n", FieldType::Int64)]));
    let version = |who: i64| {
        move |n: i64| {
            let own = format!("of_{who}");
            record(json!([field("n", "int64"), field(&own, "string")]), json!({ "n": n, (own): "x" }))
        }
    };
    let running = (0..6).map(|who| {
        let fake = &fake;
        async move {
            let (broker, lane) = (ScriptedBroker::new(), TopicPartition::new(format!("topic{who}"), 0));
            broker.extend(&lane, (0..50).map(version(who)));
            let (pipeline, _) =
                pipeline(&broker, ConnectJson::new(), derived(fake).table("orders"), 10).await;
            pipeline.run(std::future::pending()).await.unwrap();
        }
    });
    futures::future::join_all(running).await;
    let names = names(&fake, &table("orders"));
    assert_eq!(names.len(), 1 + 3 + 6, "{names:?}");
    let rows = fake.rows(&table("orders"));
    for who in 0..6 {
        let of = rows.iter().filter(|row| row.visible && row.columns[format!("of_{who}")] == "x");
        assert_eq!(of.count(), 50, "of process {who}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_that_spreads_slowly_is_waited_for_and_is_no_letter() {
    for way in WAYS {
        let fake = Arc::new(fake().await);
        let (broker, lane) = broker((0..70).map(first));
        let sink = || derived(&fake).delivery(way);
        run(&broker, ConnectJson::new(), sink()).await;
        let before = fake.calls(FakeCall::AppendRows) + fake.calls(FakeCall::InsertAll);
        fake.hold_changes(true);
        broker.extend(&lane, (70..140).map(in_turns));
        let (pipeline, letters) = pipeline(&broker, ConnectJson::new(), sink(), 70).await;
        let running = tokio::spawn(pipeline.run(std::future::pending()));
        let attempts =
            |fake: &FakeBigQuery| fake.calls(FakeCall::AppendRows) + fake.calls(FakeCall::InsertAll);
        while attempts(&fake) < before + 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        fake.hold_changes(false);
        running.await.unwrap().unwrap();
        assert!(letters_of(&letters).is_empty(), "{way:?}");
        let mut expected = rows_in_turns(140);
        expected.extend((0..70).map(|n| (n, row_of_first(n))));
        assert_eq!(visible(&fake, &table("orders")), expected, "{way:?}");
        assert_eq!(fake.calls(FakeCall::PatchTable), 1, "{way:?}");
        if way == Delivery::ExactlyOnce {
            assert_eq!(fake.calls(FakeCall::CreateWriteStream), 2, "the attempts are of one stream");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_table_keep_to_the_quota() {
    let fake = fake().await;
    fake.set_limits(FakeLimits::default());
    fake.create_table(&table("orders"), &TableSchema::new([Field::nullable("n", FieldType::Int64)]));
    let version = |n: i64| {
        let own = format!("column{n}");
        record(json!([field(&own, "int64")]), json!({ (own): n }))
    };
    let (broker, _) = broker((0..7).map(version));
    // Each record is a segment, and a version.
    let (pipeline, _) = pipeline(&broker, ConnectJson::new(), derived(&fake), 1).await;
    let running = tokio::spawn(pipeline.run(std::future::pending()));
    while fake.calls(FakeCall::PatchTable) < 5 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(fake.calls(FakeCall::PatchTable), 5, "the sixth waits, and is not refused");
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_do_not_fit_are_letters_that_name_the_column() {
    for way in WAYS {
        rows_that_do_not_fit(way).await;
    }
}

async fn rows_that_do_not_fit(way: Delivery) {
    let fake = fake().await;
    let derived = |fake| derived(fake).delivery(way);
    let other = |n: i64| record(json!([field("n", "string")]), json!({ "n": format!("number {n}") }));
    let (broker, _) = broker((0..60).map(|n| if n % 10 == 3 { other(n) } else { in_turns(n) }));
    let letters = run(&broker, ConnectJson::new(), derived(&fake)).await;
    assert_eq!(letters_of(&letters), [3, 13, 23, 33, 43, 53]);
    let letter = &letters.letters()[0];
    assert!(letter.poison.detail().contains("\"n\" is no whole number"), "{}", letter.poison);
    let rows = visible(&fake, &table("orders"));
    assert_eq!(rows, rows_in_turns(60).into_iter().filter(|(n, _)| n % 10 != 3).collect());

    // A kind that the column cannot take at all.
    let list = |n: i64| {
        let fields =
            json!([{ "field": "n", "type": "array", "items": { "type": "int64" } }, field("more", "int64")]);
        record(fields, json!({ "n": [n], "more": n }))
    };
    let (broker, _) = self::broker((0..6).map(|n| if n == 4 { list(n) } else { first(n) }));
    let letters = run(&broker, ConnectJson::new(), derived(&fake).table("orders")).await;
    assert_eq!(letters_of(&letters), [4]);
    let told = letters.letters()[0].poison.to_string();
    assert!(told.contains("column n is INTEGER, and values make it REPEATED INTEGER"), "{told}");
    assert!(!names(&fake, &table("orders")).contains(&"more".to_owned()), "nothing is added for letters");
    // Values without a schema.
    let (broker, _) = self::broker([r#"{"n": 1}"#.to_owned()]);
    let letters = run(&broker, Json::new(), derived(&fake)).await;
    assert!(letters.letters()[0].poison.detail().contains("no schema"), "{}", letters.letters()[0].poison);
}

/// A process dies with rows of two versions staged, before or after they were visible; or its streams are forgotten.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_segment_of_two_versions_is_recovered() {
    for forgetful in [false, true] {
        let fake = fake().await;
        fake.create_table(&table("orders"), &TableSchema::new([Field::nullable("n", FieldType::Int64)]));
        let (broker, lane) = broker((0..140).map(in_turns));
        // The process is stopped by the first commit of rows.
        fake.inject(FakeCall::BatchCommitWriteStreams, FakeFault::Denied, 1);
        let (pipeline, _) = pipeline(&broker, ConnectJson::new(), derived(&fake), 70).await;
        pipeline.run(std::future::pending()).await.unwrap_err();
        assert!(broker.mark(&lane).unwrap().intent.is_some(), "what was cut is written down");
        assert!(visible(&fake, &table("orders")).is_empty());
        if forgetful {
            fake.forget_streams(&table("orders"));
        }
        let letters = run(&broker, ConnectJson::new(), derived(&fake)).await;
        assert!(letters_of(&letters).is_empty());
        assert_eq!(visible(&fake, &table("orders")), rows_in_turns(140), "{forgetful}");
        assert_eq!(fake.calls(FakeCall::PatchTable), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_may_not_be_changed_where_that_was_said() {
    let fake = fake().await;
    let ours = ["_kafka_topic", "_kafka_partition", "_kafka_offset"];
    let kinds = [FieldType::String, FieldType::Int64, FieldType::Int64];
    let ours = ours.into_iter().zip(kinds).map(|(name, kind)| Field::nullable(name, kind));
    fake.create_table(
        &table("orders"),
        &TableSchema::new([Field::nullable("n", FieldType::Int64)].into_iter().chain(ours)),
    );
    let (broker, _) = broker((0..10).map(first));
    let options = TableOptions::new().evolve_tables(false);
    let (pipeline, _) = pipeline(&broker, ConnectJson::new(), derived(&fake).tables(options), 70).await;
    let error = pipeline.run(std::future::pending()).await.unwrap_err();
    let told = aqueduct_core::ErrorChain(&error).to_string();
    assert!(told.contains("it lacks the columns text; evolve_tables(true) adds them"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn required_columns_are_relaxed_when_a_version_leaves_them_out() {
    let fake = fake().await;
    let always = |n: i64| {
        let fields = json!([{ "field": "n", "type": "int64" }, { "field": "text", "type": "string" }]);
        record(fields, json!({ "n": n, "text": format!("row {n}") }))
    };
    let (broker, lane) = broker((0..10).map(always));
    let sink = || derived(&fake).columns(DerivedColumns::new().required(true));
    run(&broker, ConnectJson::new(), sink()).await;
    let mode =
        |place: usize| fake.table(&table("orders")).unwrap()["schema"]["fields"][place]["mode"].clone();
    assert_eq!((mode(0), mode(1)), (json!("REQUIRED"), json!("REQUIRED")));
    broker.extend(&lane, (10..20).map(second));
    run(&broker, ConnectJson::new(), sink()).await;
    assert_eq!((mode(0), mode(1)), (json!("NULLABLE"), json!("NULLABLE")));
    assert_eq!(visible(&fake, &table("orders")).len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_gets_into_a_table_that_somebody_else_has_made() {
    let fake = fake().await;
    let inner = vec![Field::nullable("at", FieldType::Timestamp), Field::repeated("tags", FieldType::String)];
    let mut fields = vec![
        Field::required("N", FieldType::Numeric),
        Field::nullable("event", FieldType::Record(inner)),
        Field::nullable("raw", FieldType::Json),
    ];
    fake.create_table(&table("orders"), &TableSchema::new(fields.clone()));
    let text = |n: i64| {
        json!({ "n": n, "event": { "at": "1970-01-01T00:00:01Z", "tags": ["a"] }, "raw": { "n": [n] }, "later": n }).to_string()
    };
    let (broker, lane) =
        broker((0..20).map(|n| if n == 7 { r#"{"n": "seven"}"#.to_owned() } else { text(n) }));
    let sink = || builder(&fake).columns(Columns::Existing).tables(TableOptions::new().evolve_tables(true));
    let letters = run(&broker, Json::new(), sink()).await;
    assert_eq!(letters_of(&letters), [7]);
    let row = |n: i64| json!({ "N": n.to_string(), "event": { "at": 1_000_000, "tags": ["a"] }, "raw": format!("{{\"n\":[{n}]}}") });
    let expected: BTreeMap<_, _> = (0..20).filter(|n| *n != 7).map(|n| (n, row(n))).collect();
    assert_eq!(visible(&fake, &table("orders")), expected);
    assert_eq!(fake.calls(FakeCall::PatchTable), 1, "for the columns that are ours");

    // A column more, and a process that sees it.
    fields.push(Field::nullable("later", FieldType::Int64));
    let ours = ["_kafka_topic", "_kafka_partition", "_kafka_offset"].map(|name| {
        Field::nullable(name, if name == "_kafka_topic" { FieldType::String } else { FieldType::Int64 })
    });
    fake.create_table(&table("orders"), &TableSchema::new(fields.into_iter().chain(ours)));
    broker.extend(&lane, (20..25).map(text));
    run(&broker, Json::new(), sink()).await;
    let rows = visible(&fake, &table("orders"));
    assert_eq!((rows.len(), &rows[&24]["later"]), (24, &json!(24)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_is_not_there_is_no_reason_to_send_letters() {
    let fake = fake().await;
    let (broker, _) = broker([r#"{"n": 1}"#.to_owned()]);
    let (pipeline, letters) =
        pipeline(&broker, Json::new(), builder(&fake).columns(Columns::Existing), 70).await;
    let error = pipeline.run(std::future::pending()).await.unwrap_err();
    let told = aqueduct_core::ErrorChain(&error).to_string();
    assert!(told.contains("it does not exist, and its columns are to be taken from it"), "{told}");
    assert!(letters.letters().is_empty());
}

/// An outage when a table is asked for its columns.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_for_columns_survives_every_fault() {
    for fault in FakeFault::PASSING {
        let fake = fake().await;
        let (broker, _) = broker((0..20).map(in_turns));
        fake.inject(FakeCall::GetTable, fault, if matches!(fault, FakeFault::Stall) { 1 } else { 2 });
        let letters = run(&broker, ConnectJson::new(), derived(&fake)).await;
        assert_eq!((letters_of(&letters), fake.pending_faults()), (vec![], 0), "{fault:?}");
        assert_eq!(visible(&fake, &table("orders")), rows_in_turns(20), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_table_may_be_made_in_a_way_of_its_own() {
    let fake = fake().await;
    let by_day =
        TableOptions::new().partitioning(Partitioning::by_ingestion(Granularity::Day)).clustering(["n"]);
    let sink = || {
        derived(&fake)
            .topic_table("orders", "daily")
            .topic_table("other", "d.plain")
            .tables(TableOptions::new().label("team", "data"))
            .tables_of("daily", by_day.clone())
    };
    let broker = ScriptedBroker::new();
    for topic in ["orders", "other"] {
        broker.extend(&TopicPartition::new(topic, 0), (0..3).map(first));
    }
    run(&broker, ConnectJson::new(), sink()).await;
    let daily = fake.table(&table("daily")).unwrap();
    assert_eq!((&daily["timePartitioning"]["type"], &daily["labels"]), (&json!("DAY"), &Value::Null));
    let plain = fake.table(&table("plain")).unwrap();
    assert_eq!((&plain["timePartitioning"], &plain["labels"]["team"]), (&Value::Null, &json!("data")));
    // A column to partition by that values do not bring is found when the table is made.
    let by_column = TableOptions::new().partitioning(Partitioning::by_column("at", Granularity::Day));
    let sink = derived(&fake).table("late").tables_of("late", by_column);
    let (pipeline, _) = pipeline(&self::broker((0..3).map(first)).0, ConnectJson::new(), sink, 70).await;
    let error = pipeline.run(std::future::pending()).await.unwrap_err();
    let told = aqueduct_core::ErrorChain(&error).to_string();
    assert!(
        told.contains("it cannot be made: table options: there is no column at to partition by"),
        "{told}"
    );
}
