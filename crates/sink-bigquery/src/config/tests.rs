use super::*;
use crate::KeyAs;
use crate::name::TableName;
use crate::schema::{Field, FieldType, Mode};
use crate::table::{Granularity, Partitioning};

fn schema() -> TableSchema {
    TableSchema::new([Field::nullable("a", FieldType::String)])
}

fn sound() -> BigQuerySinkBuilder {
    BigQuerySink::builder().project("p").dataset("d").schema(schema()).credentials(Credentials::Anonymous)
}

#[tokio::test]
async fn every_problem_is_named_at_once() {
    let built = BigQuerySink::builder()
        .dataset("d-d")
        .credentials(Credentials::ServiceAccountFile("/nonexistent/key".into()))
        .schema(TableSchema::new([Field::nullable("_KAFKA_OFFSET", FieldType::Int64)]))
        .append_bytes(0)
        .in_flight(IN_FLIGHT_MAX + 1)
        .routes_max(ROUTES_MAX + 1)
        .connections(BigQuerySinkBuilder::CONNECTIONS_MAX + 1)
        .expected_lanes(0)
        .expected_tables(99)
        .create_quota(0)
        .call_timeout(Duration::ZERO)
        .rest_endpoint("http://localhost:1")
        .grpc_endpoint("localhost")
        .build()
        .await;
    let BigQueryConfigErrors(problems) = built.unwrap_err();
    assert_eq!(problems.len(), 14, "{}", BigQueryConfigErrors(problems));
    let twice = sound()
        .schema_of("t", schema())
        .schema_of("p.d.t", schema())
        .schema_of("a/b", schema())
        .build()
        .await;
    assert_eq!(twice.unwrap_err().0.len(), 2);
    let topics = sound()
        .topic_table("a", "a/b")
        .topic_table("a", "t")
        .topic_pattern("(", "$")
        .topic_pattern("a(.)", "$2.${b}")
        .build()
        .await;
    assert_eq!(topics.unwrap_err().0.len(), 6);
    let nothing =
        BigQuerySink::builder().project("p").dataset("d").credentials(Credentials::Anonymous).build().await;
    assert_eq!(nothing.unwrap_err().0, [BigQueryConfigError::NoSchema]);
}

#[tokio::test]
async fn a_table_may_be_partitioned_by_the_records_time() {
    let by = |name| TableOptions::new().partitioning(Partitioning::by_column(name, Granularity::Hour));
    let timed = sound().metadata_columns(MetadataColumns::default().with_timestamp("_kafka_timestamp"));
    timed.clone().tables(by("_kafka_timestamp").clustering(["_kafka_partition"])).build().await.unwrap();
    timed.clone().tables_of("t", by("_KAFKA_TIMESTAMP")).build().await.unwrap();
    for wrong in [by("_kafka_topic"), by("_loaded_at"), TableOptions::new().primary_key(["_kafka_offset"])] {
        assert_eq!(timed.clone().tables(wrong).build().await.unwrap_err().0.len(), 1);
    }
}

#[tokio::test]
async fn limits_are_the_last_that_pass() {
    let at_limits = sound()
        .append_bytes(BigQuerySinkBuilder::APPEND_BYTES_MAX)
        .in_flight(IN_FLIGHT_MAX)
        .routes_max(ROUTES_MAX)
        .connections(BigQuerySinkBuilder::CONNECTIONS_MAX)
        .rest_endpoint("http://localhost:1")
        .grpc_endpoint("http://localhost:1")
        .allow_plaintext(true);
    at_limits.clone().build().await.unwrap();
    let streaming = at_limits.clone().delivery(Delivery::AtLeastOnce);
    streaming.clone().routes_max(BigQuerySinkBuilder::STREAM_ROUTES_MAX).build().await.unwrap();
    let past = streaming.routes_max(BigQuerySinkBuilder::STREAM_ROUTES_MAX + 1);
    assert_eq!(past.build().await.unwrap_err().0.len(), 1);
    let past = at_limits.append_bytes(BigQuerySinkBuilder::APPEND_BYTES_MAX + 1);
    assert_eq!(past.build().await.unwrap_err().0.len(), 1);
}

#[tokio::test]
async fn what_decides_rows_is_in_the_fingerprint_and_nothing_else_is() {
    use aqueduct_core::testkit::{check_fingerprints_differ, fingerprint_of};
    use aqueduct_core::{Fingerprint, Sink};

    async fn of(builder: BigQuerySinkBuilder) -> Fingerprint {
        let sink = builder.build().await.unwrap();
        fingerprint_of(|parts| Sink::<aqueduct_converters::JsonValue>::fingerprint(&sink, parts))
    }
    let typed = TableSchema::new([Field::nullable("a", FieldType::Int64)]);
    let keyed = TableOptions::new().primary_key(["a"]);
    let changing = sound().delivery(Delivery::AtLeastOnce).tables(keyed).changes(Changes::new());
    let columns = MetadataColumns::default;
    check_fingerprints_differ([
        ("plain", of(sound()).await),
        ("project", of(sound().project("q")).await),
        ("dataset", of(sound().dataset("e")).await),
        ("table", of(sound().table("t")).await),
        ("topic_table", of(sound().topic_table("a", "t")).await),
        ("topic_table of another topic", of(sound().topic_table("b", "t")).await),
        ("topic_pattern", of(sound().topic_pattern("a", "t")).await),
        ("topic_pattern to another table", of(sound().topic_pattern("a", "u")).await),
        ("topic_names", of(sound().topic_names(TopicNames::Connect)).await),
        ("columns", of(sound().schema(typed.clone())).await),
        ("columns of a table", of(sound().schema_of("t", typed)).await),
        ("unknown fields", of(sound().unknown_fields(UnknownFields::Refuse)).await),
        ("timestamps", of(sound().timestamps(TimeUnit::Millis)).await),
        ("delivery", of(sound().delivery(Delivery::AtLeastOnce)).await),
        ("changes", of(changing.clone()).await),
        ("epoch", of(changing.changes(Changes::new().epoch(1))).await),
        ("metadata", of(sound().metadata_columns(columns().named("_t", "_p", "_o"))).await),
        ("timestamp", of(sound().metadata_columns(columns().with_timestamp("_at"))).await),
        ("key", of(sound().metadata_columns(columns().with_key("_k", KeyAs::Bytes))).await),
        ("key as text", of(sound().metadata_columns(columns().with_key("_k", KeyAs::Text))).await),
        ("load time", of(sound().metadata_columns(columns().with_load_time("_at"))).await),
    ]);
    let described = TableSchema::new([Field::nullable("a", FieldType::String).with_description("an a")]);
    let same = of(sound().schema(described).append_bytes(1).in_flight(1).routes_max(1)).await;
    assert_eq!(same, of(sound()).await);
}

/// A table with a key of its own is changed by that key, whether or not its columns are the general ones.
#[tokio::test]
async fn changes_of_a_table_go_by_its_own_key() {
    let columns = TableSchema::new([
        Field::nullable("id", FieldType::Int64),
        Field::nullable("tenant", FieldType::Int64),
    ]);
    let sink = sound()
        .schema(columns)
        .tables(TableOptions::new().primary_key(["id"]))
        .tables_of("other", TableOptions::new().primary_key(["tenant"]))
        .delivery(Delivery::AtLeastOnce)
        .changes(Changes::new())
        .build()
        .await
        .unwrap();
    for (table, key) in [("some", "id"), ("other", "tenant")] {
        let table = TableName::new("p", "d", table).unwrap();
        let changes = sink.parts().columns.changes(&table).unwrap();
        let required = changes.columns().iter().filter(|field| field.mode == Mode::Required);
        assert_eq!(required.map(Field::name).collect::<Vec<_>>(), [key], "{table}");
    }
}
