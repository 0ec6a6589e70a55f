//! Kafka topics into S3 and BigQuery: **source → converter → partitioner → sink**, disk-buffered, memory-bounded, exactly once.
//!
//! ```no_run
//! # #[cfg(all(feature = "kafka", feature = "s3"))]
//! # mod example {
//! use aqueduct::prelude::*;
//!
//! /// JSON by service and hour of Seoul's time, gzipped, into S3; until Ctrl-C.
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let source = KafkaSource::builder()
//!         .brokers("localhost:9092")
//!         .group("archive")
//!         .topics(["server-logs"])
//!         .start(StartAt::Earliest)
//!         .build()?;
//!     let sink = S3Sink::builder()
//!         .bucket("data-lake")
//!         .region("ap-northeast-2")
//!         .prefix("topics")
//!         .format(JsonLines::new())
//!         .compression(Compression::Gzip)
//!         .build()
//!         .await?;
//!
//!     let report = Pipeline::from(source)
//!         .convert(Json::new())
//!         .partition(chain((ByField::new("service")?, ByTime::hourly("Asia/Seoul")?)))
//!         .sink(sink)
//!         .rotate(any((MaxBytes::mib(256), MaxAge::minutes(5))))
//!         .require(Guarantee::ExactlyOnce)
//!         .build()?
//!         .run(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
//!         .await?;
//!     println!("{report}");
//!     Ok(())
//! }
//! # }
//! ```
//!
//! Objects are named as Kafka Connect's users know them:
//! `topics/server-logs/service=orders/year=2026/month=11/day=22/hour=09/server-logs+3+0000095403.json.gz`.
//!
//! # The stages
//!
//! | stage | decides | ready-made | your own |
//! | --- | --- | --- | --- |
//! | source | what is read, and where marks are kept | [`kafka`] | [`Source`] |
//! | converter | how bytes become a value | [`convert`] | [`Converter`] |
//! | partitioner | under which route a value is stored | [`partition`] | [`Partitioner`], or a closure |
//! | sink | how values are stored | [`s3`], [`bigquery`], [`files`] for other stores | [`BatchSink`], [`Sink`] |
//! | rotation | when a segment ends | [`any`] of [`MaxRecords`], [`MaxBytes`], [`MaxAge`], [`RecordTime`], [`Schedule`], [`Idle`] | [`RotationPolicy`] |
//! | dead letters | what becomes of a bad record | [`OnPoison`] | [`DeadLetterSink`] |
//!
//! A stage that is missing or does not fit the one before it does not compile. What the stages guarantee together is
//! [computed](Pipeline::guarantee); [`require`](Builder::require) refuses to build anything weaker.
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `converters` (default) | [`convert`] |
//! | `partitioners` (default) | [`partition`] |
//! | `avro` | [`convert`] with Avro: a schema registry's wire format, single objects, one schema for all; with `files`, `AvroFiles` |
//! | `cbor`, `messagepack` | [`convert`] with CBOR and MessagePack |
//! | `connect-json` | [`convert`] with JSON in Kafka Connect's envelope of schema and payload |
//! | `json-schema` | [`convert`] with JSON that a registry's JSON Schema describes |
//! | `protobuf` | [`convert`] with Protobuf: a schema registry's wire format, descriptor sets, `.proto` texts |
//! | `locales` | names of months and days in paths in other languages than English: [`ByTime::locale`] |
//! | `kafka` | [`kafka`], with TLS and SASL; builds librdkafka, needs a C toolchain and OpenSSL's headers |
//! | `kafka-oauthbearer` | [`kafka`] with SASL/OAUTHBEARER: tokens of your own making |
//! | `s3` | [`s3`] and [`files`] |
//! | `bigquery` | [`bigquery`]: rows in BigQuery tables; with `testkit`, a BigQuery in this process to test against |
//! | `schema-registry` | [`schema_registry`]: the client that converters ask for the schemas of records |
//! | `files` | [`files`]: formats, compression, keys, for any store of objects |
//! | `parquet`, `csv` | [`files`] with Parquet and CSV files: `Parquet`, `Csv` |
//! | `testkit` | `testkit`: an in-memory source and sink, scripted faults, and the suite a sink of your own must pass |
//!
//! Features only add. Nothing here installs a logger, a metrics exporter or a runtime: logs go through `tracing`,
//! metrics through `metrics`, and a pipeline runs on the Tokio runtime it is started in.

// A curated list already; naming it again here would only let the two differ.
pub use aqueduct_core::*;

#[cfg(feature = "converters")]
#[doc(no_inline)]
pub use aqueduct_converters::{
    AnyValue, Columns, DynamicExt, HeaderValues, Json, Primitive, RawBytes, Serde, Tombstones, Utf8,
};
#[cfg(feature = "avro")]
#[doc(no_inline)]
pub use aqueduct_converters::{Avro, AvroValue};
#[cfg(feature = "cbor")]
#[doc(no_inline)]
pub use aqueduct_converters::{Cbor, CborValue};
#[cfg(feature = "connect-json")]
#[doc(no_inline)]
pub use aqueduct_converters::{ConnectJson, ConnectValue};
#[cfg(feature = "json-schema")]
#[doc(no_inline)]
pub use aqueduct_converters::{JsonSchema, JsonSchemaValue};
#[cfg(feature = "messagepack")]
#[doc(no_inline)]
pub use aqueduct_converters::{MessagePack, MessagePackValue};
#[cfg(feature = "protobuf")]
#[doc(no_inline)]
pub use aqueduct_converters::{Protobuf, ProtobufValue};
#[cfg(feature = "csv")]
#[doc(no_inline)]
pub use aqueduct_files::Csv;
#[cfg(all(feature = "avro", feature = "files"))]
#[doc(no_inline)]
pub use aqueduct_files::{AvroCompression, AvroFiles};
#[cfg(feature = "files")]
#[doc(no_inline)]
pub use aqueduct_files::{Compression, DirectoryDeadLetters, JsonLines};
#[cfg(feature = "parquet")]
#[doc(no_inline)]
pub use aqueduct_files::{Parquet, ParquetCompression};
#[cfg(feature = "kafka")]
#[doc(no_inline)]
pub use aqueduct_kafka_source::{GroupProtocol, KafkaDeadLetters, KafkaSource, Sasl, Security, StartAt, Tls};
#[cfg(feature = "partitioners")]
#[doc(no_inline)]
pub use aqueduct_partitioners::{ByField, ByKafkaPartition, ByKey, ByTime, by_fn, chain};
#[cfg(feature = "schema-registry")]
#[doc(no_inline)]
pub use aqueduct_schema_registry::RegistryClient;
#[cfg(feature = "bigquery")]
#[doc(no_inline)]
pub use aqueduct_sink_bigquery::BigQuerySink;
#[cfg(feature = "s3")]
#[doc(no_inline)]
pub use aqueduct_sink_s3::S3Sink;

#[cfg(feature = "converters")]
pub use aqueduct_converters as convert;
#[cfg(feature = "files")]
pub use aqueduct_files as files;
#[cfg(feature = "kafka")]
pub use aqueduct_kafka_source as kafka;
#[cfg(feature = "partitioners")]
pub use aqueduct_partitioners as partition;
#[cfg(feature = "schema-registry")]
pub use aqueduct_schema_registry as schema_registry;
#[cfg(feature = "bigquery")]
pub use aqueduct_sink_bigquery as bigquery;
#[cfg(feature = "s3")]
pub use aqueduct_sink_s3 as s3;

/// What a program that composes a pipeline uses: `use aqueduct::prelude::*`.
///
/// What a program that *implements* a stage needs besides is at the crate's root.
pub mod prelude {
    pub use aqueduct_core::{
        ConverterExt, Guarantee, Handle, Idle, Limits, MaxAge, MaxBytes, MaxRecords, OnPoison, Pipeline,
        PoisonBreaker, RecordTime, Report, Schedule, any,
    };

    #[cfg(feature = "converters")]
    pub use aqueduct_converters::{
        AnyValue, Columns, DynamicExt, HeaderValues, Json, Primitive, RawBytes, Serde, Tombstones, Utf8,
    };
    #[cfg(feature = "avro")]
    pub use aqueduct_converters::{Avro, AvroValue};
    #[cfg(feature = "cbor")]
    pub use aqueduct_converters::{Cbor, CborValue};
    #[cfg(feature = "connect-json")]
    pub use aqueduct_converters::{ConnectJson, ConnectValue};
    #[cfg(feature = "json-schema")]
    pub use aqueduct_converters::{JsonSchema, JsonSchemaValue};
    #[cfg(feature = "messagepack")]
    pub use aqueduct_converters::{MessagePack, MessagePackValue};
    #[cfg(feature = "protobuf")]
    pub use aqueduct_converters::{Protobuf, ProtobufValue};
    #[cfg(feature = "csv")]
    pub use aqueduct_files::Csv;
    #[cfg(all(feature = "avro", feature = "files"))]
    pub use aqueduct_files::{AvroCompression, AvroFiles};
    #[cfg(feature = "files")]
    pub use aqueduct_files::{Compression, DirectoryDeadLetters, JsonLines};
    #[cfg(feature = "parquet")]
    pub use aqueduct_files::{Parquet, ParquetCompression};
    #[cfg(feature = "kafka")]
    pub use aqueduct_kafka_source::{
        GroupProtocol, KafkaDeadLetters, KafkaSource, Sasl, Security, StartAt, Tls,
    };
    #[cfg(feature = "partitioners")]
    pub use aqueduct_partitioners::{ByField, ByKafkaPartition, ByKey, ByTime, by_fn, chain};
    #[cfg(feature = "schema-registry")]
    pub use aqueduct_schema_registry::RegistryClient;
    #[cfg(feature = "bigquery")]
    pub use aqueduct_sink_bigquery::BigQuerySink;
    #[cfg(feature = "s3")]
    pub use aqueduct_sink_s3::S3Sink;
}

/// The README's code compiles.
#[cfg(all(doctest, feature = "bigquery", feature = "kafka", feature = "s3"))]
#[doc = include_str!("../../../README.md")]
mod readme {}
