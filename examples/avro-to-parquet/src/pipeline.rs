//! The pipeline: the part to copy.

use std::path::Path;

use anyhow::Result;
use aqueduct::Compatibility;
use aqueduct::files::{Parquet, ParquetCompression};
use aqueduct::partition::TimeFormat;
use aqueduct::prelude::*;
use aqueduct::s3::S3SinkBuilder;

/// Where records come from, and where the schemas that they name are found.
#[derive(Clone, Debug)]
pub struct Origin {
    pub brokers: String,
    pub group: String,
    pub topic: String,
    pub registry: String,
    /// Stop at the end that the topic has now.
    pub until_end: bool,
}

/// Above the topic in every key.
pub const PREFIX: &str = "lake";

/// Checks everything and connects to nothing.
pub async fn build(origin: &Origin, store: S3SinkBuilder<Parquet>, spool: &Path) -> Result<Pipeline> {
    let mut source = KafkaSource::builder()
        .brokers(&origin.brokers)
        .group(&origin.group)
        .topics([&origin.topic])
        .start(StartAt::Earliest);
    if origin.until_end {
        source = source.until_end();
    }
    // It also says which version of a schema is the newest.
    let registry = RegistryClient::builder(&origin.registry).build()?;
    let pipeline = Pipeline::from(source.build()?)
        .convert(Avro::with_registry(registry).build()?)
        // By the time the order was placed, whenever it came through Kafka. Avro says what unit it is in.
        .partition(ByTime::daily("UTC")?.field("placed_at", TimeFormat::Millis)?)
        .sink(store.build().await?)
        .rotate(any((MaxBytes::mib(256), MaxAge::minutes(5))))
        .on_poison(OnPoison::Skip)
        .name(&origin.group)
        .spool_dir(spool)
        .require(Guarantee::ExactlyOnce)
        .build()?;
    Ok(pipeline)
}

/// One file a day and segment however many versions of the schema are under way: older values are shown as the newest version
/// shows them.
pub fn format() -> Parquet {
    Parquet::new()
        .with_compression(ParquetCompression::Zstd { level: 1 })
        .with_compatibility(Compatibility::Backward)
}
