//! The sink passes core's conformance suite.

use std::time::Duration;

use aqueduct_converters::JsonValue;
use aqueduct_core::Record;
use aqueduct_core::testkit::{SinkHarness, StoredRow, sink_suite};
use aqueduct_sink_bigquery::testkit::{FakeBigQuery, FakeLimits};
use aqueduct_sink_bigquery::{BigQuerySink, Delivery, Field, FieldType, TableSchema};

use crate::support::{builder, fake};

/// Processes that write to one service.
struct Harness {
    fake: FakeBigQuery,
    /// Rows that only the service refuses.
    refused_late: bool,
    append_bytes: usize,
    delivery: Delivery,
}

const SLOW: Duration = Duration::from_mins(1);

const POISON: &str = "the row that is refused";

impl Harness {
    async fn new(refused_late: bool, append_bytes: usize) -> Self {
        let fake = fake().await;
        fake.refuse_rows(|row| row["pad"] == POISON);
        Self { fake, refused_late, append_bytes, delivery: Delivery::ExactlyOnce }
    }

    fn at_least_once(self) -> Self {
        Self { delivery: Delivery::AtLeastOnce, ..self }
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
        let builder = match self.delivery {
            // A machine that is busy must not make rows late: what is sent again is there twice.
            Delivery::AtLeastOnce => builder.call_timeout(SLOW).append_timeout(SLOW),
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
        let mut stored = Vec::new();
        for table in self.fake.tables() {
            let mut rows: Vec<_> = self.fake.rows(&table).into_iter().filter(|row| row.visible).collect();
            // Rows of a table have no order but that of their records.
            rows.sort_by_key(|row| row.columns["_kafka_offset"].as_i64());
            stored.extend(
                rows.into_iter().map(|row| StoredRow::read(table.to_string(), row.columns.to_string())),
            );
        }
        stored
    }
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
async fn at_least_once_rows_that_are_refused_early() {
    let report = sink_suite(Harness::new(false, 2 << 20).await.at_least_once()).await;
    assert!(report.ran.len() >= 16, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_least_once_rows_that_are_refused_late_and_many_requests() {
    let harness = Harness::new(true, 1000).await.at_least_once();
    harness.fake.set_limits(FakeLimits::default().without_quotas().with_request_bytes(4000));
    let report = sink_suite(harness).await;
    assert!(report.ran.len() >= 16, "{report}");
}
