//! The sink passes core's conformance suite.

use aqueduct_converters::{ConnectJson, ConnectValue, JsonValue};
use aqueduct_core::testkit::{SinkHarness, StoredRow, sink_suite};
use aqueduct_core::{BatchBuilder, Converted, Converter, Permit, Record};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeLimits};
use aqueduct_sink_bigquery::{BigQuerySink, Columns, Delivery, Field, FieldType, TableSchema};

use crate::support::{builder, fake};

/// Processes that write to one service.
struct Harness {
    fake: FakeBigQuery,
    /// Rows that only the service refuses.
    refused_late: bool,
    append_bytes: usize,
    delivery: Delivery,
}

const SLOW: std::time::Duration = std::time::Duration::from_mins(1);

const POISON: &str = "the row that is refused";

impl Harness {
    async fn new(refused_late: bool, append_bytes: usize) -> Self {
        let fake = fake().await;
        fake.refuse_rows(|row| row["pad"] == POISON);
        Self { fake, refused_late, append_bytes, delivery: Delivery::ExactlyOnce }
    }

    fn delivering(self, delivery: Delivery) -> Self {
        Self { delivery, ..self }
    }
}

impl SinkHarness for Harness {
    type Value = JsonValue;
    type Sink = BigQuerySink;

    async fn sink(&self) -> Self::Sink {
        let numbers =
            ["partition", "offset", "route", "seed"].map(|name| Field::required(name, FieldType::Int64));
        let texts = ["topic", "pad"].map(|name| Field::nullable(name, FieldType::String));
        let schema = TableSchema::new(numbers.into_iter().chain(texts));
        let builder = builder(&self.fake).schema(schema).append_bytes(self.append_bytes);
        // A machine that is busy must not make answers late: what is sent again may be there twice.
        let builder = match self.delivery {
            Delivery::AtLeastOnce | Delivery::InsertAll => builder.call_timeout(SLOW).append_timeout(SLOW),
            _ => builder,
        };
        builder.delivery(self.delivery).build().await.unwrap()
    }

    fn value(&self, record: &Record<'_>) -> JsonValue {
        JsonValue::parse(record.value_bytes().unwrap()).unwrap()
    }

    fn poison(&self, record: &Record<'_>) -> Option<JsonValue> {
        let row = if self.refused_late {
            let text = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
            let (row, _) = text.split_once("\"pad\"").unwrap();
            format!("{row}\"pad\":\"{POISON}\"}}")
        } else {
            r#"{"partition": "not a number"}"#.to_owned()
        };
        Some(JsonValue::parse(row.into()).unwrap())
    }

    async fn stored(&self) -> Vec<StoredRow> {
        stored(&self.fake)
    }
}

fn stored(fake: &FakeBigQuery) -> Vec<StoredRow> {
    let mut stored = Vec::new();
    for table in fake.tables() {
        let mut rows: Vec<_> = fake.rows(&table).into_iter().filter(|row| row.visible).collect();
        // Rows of a table have no order but that of their records.
        rows.sort_by_key(|row| row.columns["_kafka_offset"].as_i64());
        stored
            .extend(rows.into_iter().map(|row| StoredRow::read(table.to_string(), row.columns.to_string())));
    }
    stored
}

/// The same with values that bring their columns, in two versions by turns.
struct Derived(FakeBigQuery);

impl Derived {
    fn value(record: &Record<'_>, text: &str) -> ConnectValue {
        let mut batch = BatchBuilder::new(record.lane().clone(), 4096);
        batch.push(record.offset(), record.timestamp(), None, Some(text.as_bytes()), []);
        let batch = batch.build(Permit::unlimited());
        match ConnectJson::new().convert(&batch.get(0).unwrap()) {
            Ok(Converted::Emit(value)) => value,
            _ => panic!("{text}"),
        }
    }
}

impl SinkHarness for Derived {
    type Value = ConnectValue;
    type Sink = BigQuerySink;

    async fn sink(&self) -> Self::Sink {
        builder(&self.0).columns(Columns::from_values()).append_bytes(1000).build().await.unwrap()
    }

    fn value(&self, record: &Record<'_>) -> ConnectValue {
        let field = |name, kind| format!(r#"{{"field": "{name}", "type": "{kind}", "optional": true}}"#);
        let mut fields: Vec<_> =
            ["partition", "offset", "route", "seed"].map(|name| field(name, "int64")).into();
        fields.extend(["topic", "pad"].map(|name| field(name, "string")));
        if record.offset().get() % 2 == 1 {
            fields.reverse();
            fields.push(field("odd", "string"));
        }
        let payload = std::str::from_utf8(record.value().unwrap()).unwrap();
        let fields = fields.join(",");
        let text =
            format!(r#"{{"schema": {{"type": "struct", "fields": [{fields}]}}, "payload": {payload}}}"#);
        Self::value(record, &text)
    }

    fn poison(&self, record: &Record<'_>) -> Option<ConnectValue> {
        Some(Self::value(record, r#"{"schema": {"type": "int64"}, "payload": 1}"#))
    }

    async fn stored(&self) -> Vec<StoredRow> {
        stored(&self.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_that_values_bring() {
    let report = sink_suite(Derived(fake().await)).await;
    assert!(report.ran.len() >= 22, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_refused_early() {
    let report = sink_suite(Harness::new(false, 2 << 20).await).await;
    assert!(report.ran.len() >= 22, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_refused_late_and_many_requests() {
    let harness = Harness::new(true, 1000).await;
    harness.fake.set_limits(FakeLimits::default().without_quotas().with_request_bytes(4000));
    let report = sink_suite(harness).await;
    assert!(report.ran.len() >= 22, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_legacy_streaming_interface() {
    for (refused_late, append_bytes) in [(false, 2 << 20), (true, 1000)] {
        let harness = Harness::new(refused_late, append_bytes).await.delivering(Delivery::InsertAll);
        let report = sink_suite(harness).await;
        assert!(report.ran.len() >= 14, "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_least_once_rows_that_are_refused_early() {
    let report = sink_suite(Harness::new(false, 2 << 20).await.delivering(Delivery::AtLeastOnce)).await;
    assert!(report.ran.len() >= 16, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_least_once_rows_that_are_refused_late_and_many_requests() {
    let harness = Harness::new(true, 1000).await.delivering(Delivery::AtLeastOnce);
    harness.fake.set_limits(FakeLimits::default().without_quotas().with_request_bytes(4000));
    let report = sink_suite(harness).await;
    assert!(report.ran.len() >= 16, "{report}");
}
