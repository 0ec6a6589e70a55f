//! Tables are made, brought up to date, and refused where that is not allowed.

use std::io::Write;
use std::sync::{Arc, Mutex};

use aqueduct_core::Class;
use aqueduct_sink_bigquery::testkit::{FakeCall, FakeFault};
use aqueduct_sink_bigquery::{
    BigQuerySink, Credentials, Field, FieldType, Granularity, Partitioning, TableOptions, TableSchema,
};

use crate::support::{Process, builder, fake, one_table, schema, table, told, visible};

async fn check(sink: &BigQuerySink) -> Result<(), aqueduct_core::StageError> {
    aqueduct_core::Sink::<aqueduct_converters::JsonValue>::check(sink).await
}

#[tokio::test]
async fn a_table_is_made_as_it_was_asked_for() {
    let fake = fake().await;
    let options = TableOptions::new()
        .partitioning(Partitioning::by_ingestion(Granularity::Day))
        .clustering(["n"])
        .primary_key(["n"])
        .label("team", "data")
        .description("orders");
    let process = Process::start(builder(&fake).tables(options)).await;
    let mut segment = process.fill(0, 3, None, one_table).await;
    assert!(fake.table(&table("orders")).is_none(), "a table is made when there are rows for it");
    segment.stage().await.unwrap();
    let made = fake.table(&table("orders")).unwrap();
    assert_eq!(made["timePartitioning"], serde_json::json!({"type": "DAY"}));
    assert_eq!(made["clustering"]["fields"], serde_json::json!(["n"]));
    assert_eq!(made["tableConstraints"]["primaryKey"]["columns"], serde_json::json!(["n"]));
    assert_eq!((&made["labels"]["team"], &made["description"]), (&"data".into(), &"orders".into()));
    let names: Vec<_> =
        made["schema"]["fields"].as_array().unwrap().iter().map(|field| field["name"].clone()).collect();
    assert_eq!(names, ["n", "text", "_kafka_topic", "_kafka_partition", "_kafka_offset"]);
}

#[tokio::test]
async fn what_is_wrong_is_found_before_any_record_is_read() {
    let fake = fake().await;
    let sink = builder(&fake).dataset("elsewhere").build().await.unwrap();
    let error = check(&sink).await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(
        told(&error).contains("the dataset does not exist: get dataset of p.elsewhere"),
        "{}",
        told(&error)
    );
    let options = TableOptions::new().create_tables(false);
    let sink = builder(&fake).table("missing").tables(options).build().await.unwrap();
    let error = check(&sink).await.unwrap_err();
    assert!(told(&error).contains("create_tables(true)"), "{}", told(&error));
    check(&builder(&fake).build().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn columns_are_added_only_where_that_is_allowed() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &TableSchema::new([Field::required("N", FieldType::Int64)]));
    let strict = Process::start(builder(&fake)).await;
    let mut segment = strict.fill(0, 5, None, one_table).await;
    let error = segment.stage().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(told(&error).contains("it lacks the columns text, _kafka_topic"), "{}", told(&error));

    let evolving = Process::start(builder(&fake).tables(TableOptions::new().evolve_tables(true))).await;
    let mut segment = evolving.fill(0, 5, None, one_table).await;
    segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    let rows = fake.rows(&table("orders"));
    assert_eq!(rows.len(), 5);
    assert_eq!((&rows[4].columns["N"], &rows[4].columns["text"]), (&4.into(), &"row 4".into()));
    assert_eq!(fake.calls(FakeCall::PatchTable), 1);
}

#[tokio::test]
async fn columns_that_do_not_go_together_are_named() {
    let fake = fake().await;
    let text = TableSchema::new([Field::nullable("n", FieldType::String)]);
    fake.create_table(&table("orders"), &text);
    let process = Process::start(builder(&fake).tables(TableOptions::new().evolve_tables(true))).await;
    let mut segment = process.fill(0, 5, None, one_table).await;
    let error = segment.stage().await.unwrap_err();
    assert_eq!(error.class(), Class::Fatal);
    assert!(
        told(&error).contains("column n is STRING in the table and INTEGER for rows"),
        "{}",
        told(&error)
    );
}

/// Two processes see the same new column; one is a moment later.
#[tokio::test]
async fn somebody_elses_change_is_looked_at_and_not_overwritten() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &TableSchema::new([Field::required("n", FieldType::Int64)]));
    let process = Process::start(builder(&fake).tables(TableOptions::new().evolve_tables(true))).await;
    let mut segment = process.fill(0, 5, None, one_table).await;
    // The answer to our change is lost: the next attempt finds it made.
    fake.inject(FakeCall::PatchTable, FakeFault::LoseAnswer, 1);
    segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    assert_eq!(visible(&fake, "orders"), [0, 1, 2, 3, 4]);
    assert_eq!(fake.calls(FakeCall::PatchTable), 1, "what is there already is not changed again");
    let other = Process::start(builder(&fake).tables(TableOptions::new().evolve_tables(true))).await;
    let mut segment = other.fill(5, 9, None, one_table).await;
    segment.stage().await.unwrap();
    assert_eq!(fake.calls(FakeCall::PatchTable), 1);
}

#[tokio::test]
async fn a_change_that_has_not_reached_the_streams_is_waited_for() {
    let fake = fake().await;
    fake.create_table(&table("orders"), &TableSchema::new([Field::required("n", FieldType::Int64)]));
    fake.hold_changes(true);
    let process = Process::start(builder(&fake).tables(TableOptions::new().evolve_tables(true))).await;
    let mut segment = process.fill(0, 5, None, one_table).await;
    for _ in 0..3 {
        // A lane repeats it for as long as it takes.
        let error = segment.writer.stage(segment.range).await.unwrap_err();
        assert_eq!(error.class(), Class::RETRY, "{}", told(&error));
        assert!(told(&error).contains("lacks columns the rows have"), "{}", told(&error));
    }
    fake.hold_changes(false);
    segment.stage().await.unwrap();
    segment.publish().await.unwrap();
    assert_eq!(visible(&fake, "orders"), [0, 1, 2, 3, 4]);
    assert_eq!(fake.calls(FakeCall::PatchTable), 1);
}

#[tokio::test]
async fn a_table_that_is_deleted_while_a_segment_is_staged_is_made_again() {
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    let mut first = process.fill(0, 5, None, one_table).await;
    first.stage().await.unwrap();
    first.publish().await.unwrap();
    fake.delete_table(&table("orders"));
    // The sink believes that it is there.
    let mut second = process.fill(5, 10, None, one_table).await;
    second.stage().await.unwrap();
    second.publish().await.unwrap();
    assert_eq!(visible(&fake, "orders"), [5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn each_table_may_have_columns_of_its_own() {
    fn by_parity(offset: i64) -> String {
        if offset % 2 == 0 { "even".to_owned() } else { "other.odd".to_owned() }
    }
    let fake = fake().await;
    fake.create_dataset("p", "other");
    let numbers = TableSchema::new([Field::required("n", FieldType::Int64)]);
    let process = Process::start(builder(&fake).schema_of("other.odd", numbers)).await;
    let mut segment = process.fill(0, 6, None, by_parity).await;
    segment.stage().await.unwrap();
    let published = segment.publish().await.unwrap();
    let keys: Vec<_> = published.objects.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["p.d.even", "p.other.odd"], "in order of their first rows");
    let odd = aqueduct_sink_bigquery::TableName::parse("p.other.odd").unwrap();
    let rows = fake.rows(&odd);
    assert!(rows.iter().all(|row| row.columns.get("text").is_none()), "{rows:?}");
    assert_eq!(rows.len(), 3);
}

#[tokio::test]
async fn routes_that_are_no_tables_are_letters() {
    fn odd_routes(offset: i64) -> String {
        match offset % 4 {
            0 => String::new(),
            1 => "year=2021".to_owned(),
            2 => "x".repeat(80),
            _ => "x".repeat(81),
        }
    }
    let fake = fake().await;
    let process = Process::start(builder(&fake)).await;
    let mut segment = process.fill(0, 8, None, odd_routes).await;
    assert_eq!(segment.poisoned, [1, 3, 5, 7], "no table, and a name that is too long for the token");
    segment.stage().await.unwrap();
    let without_columns = BigQuerySink::builder()
        .project("p")
        .dataset("d")
        .schema_of("other", schema())
        .credentials(Credentials::Anonymous);
    let process = Process::start(without_columns).await;
    let segment = process.fill(0, 2, None, one_table).await;
    assert_eq!(segment.poisoned, [0, 1], "no columns are declared for this table");
}

/// What is logged, from warnings on.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<u8>>>);

impl Write for Warnings {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_table_that_is_not_as_it_would_be_made_is_told_once_and_used() {
    let warnings = Warnings::default();
    let writer = warnings.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    // Of this thread, which runs all of this test.
    let _guard = tracing::subscriber::set_default(subscriber);
    let fake = fake().await;
    let ours = ["_kafka_topic", "_kafka_partition", "_kafka_offset"].map(|name| {
        Field::nullable(name, if name == "_kafka_topic" { FieldType::String } else { FieldType::Int64 })
    });
    let fields = schema().fields().iter().cloned().chain(ours).collect::<Vec<_>>();
    fake.create_table(&table("orders"), &TableSchema::new(fields));
    let options = TableOptions::new()
        .partitioning(Partitioning::by_ingestion(Granularity::Day))
        .clustering(["n"])
        .label("team", "data");
    let process =
        Process::start(builder(&fake).tables(TableOptions::new()).tables_of("orders", options)).await;
    for number in 0..3 {
        let mut segment = process.fill(number * 5, number * 5 + 5, None, one_table).await;
        segment.stage().await.unwrap();
        segment.publish().await.unwrap();
    }
    assert_eq!(visible(&fake, "orders"), (0..15).collect::<Vec<_>>());
    let told = String::from_utf8(warnings.0.lock().unwrap().clone()).unwrap();
    assert_eq!(told.lines().count(), 1, "{told}");
    for part in
        ["p.d.orders", "the length of its partitions: none instead of DAY", "clustered by: none instead of n"]
    {
        assert!(told.contains(part), "{part}: {told}");
    }
}
