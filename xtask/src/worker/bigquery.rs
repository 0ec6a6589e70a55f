//! A worker's sink into BigQuery: the load's events, a table for each service.

use anyhow::Result;
use aqueduct::bigquery::{
    BigQuerySink, Credentials, Field, FieldType, Granularity, Partitioning, TableOptions, TableSchema,
};
use aqueduct::convert::JsonValue;
use aqueduct::{FieldPath, FieldValue, Fields as _, Partitioner, Poison, PoisonReason, by_fn};
use serde::{Deserialize, Serialize};

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tables {
    /// The REST interface's base URL.
    pub(crate) rest: String,
    /// The Storage Write interface's URL.
    pub(crate) grpc: String,
    pub(crate) project: String,
    pub(crate) dataset: String,
}

/// Names of tables begin with this; the service's name follows.
pub(crate) const TABLE_PREFIX: &str = "logs_";
/// As many as there are services in the load.
const TABLES: usize = 8;

impl Tables {
    /// Connects to nothing.
    pub(super) async fn sink(&self) -> Result<BigQuerySink> {
        let options = TableOptions::new()
            .partitioning(Partitioning::by_column("timestamp", Granularity::Day))
            .clustering(["level", "status"]);
        let sink = BigQuerySink::builder()
            .project(&self.project)
            .dataset(&self.dataset)
            // The emulator knows no `RECORD` in its write interface.
            .schema(event_columns(FieldType::Json))
            .tables(options)
            .routes_max(TABLES)
            // An emulator has none, and what is tested here is cut far more often than a pipeline should.
            .create_quota(usize::MAX)
            .credentials(Credentials::Anonymous)
            .rest_endpoint(&self.rest)
            .grpc_endpoint(&self.grpc)
            .allow_plaintext(true)
            .build()
            .await?;
        Ok(sink)
    }
}

/// The events' fields, the one object among them as `request`.
pub(crate) fn event_columns(request: FieldType) -> TableSchema {
    TableSchema::new([
        Field::required("seq", FieldType::Int64),
        Field::required("partition", FieldType::Int64),
        Field::required("timestamp", FieldType::Timestamp),
        Field::required("service", FieldType::String),
        Field::nullable("level", FieldType::String),
        Field::nullable("user_id", FieldType::String),
        Field::nullable("path", FieldType::String),
        Field::nullable("status", FieldType::Int64),
        Field::nullable("latency_ms", FieldType::Numeric),
        Field::nullable("request", request),
        Field::nullable("message", FieldType::String),
        Field::nullable("crc", FieldType::String),
    ])
}

/// A table for each service.
pub(super) fn by_service() -> Result<impl Partitioner<JsonValue>> {
    let field = FieldPath::parse("service")?;
    Ok(by_fn("by-service/1", move |_: &_, value: &JsonValue, path: &mut aqueduct::RoutePath| {
        let Some(FieldValue::Str(service)) = value.field(&field) else {
            return Err(Poison::new(PoisonReason::MissingField, "the event has no service"));
        };
        path.push(&format!("{TABLE_PREFIX}{service}"))
    }))
}
