//! The pipeline: the part to copy.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use aqueduct::bigquery::{Credentials, Granularity, Partitioning, TableOptions};
use aqueduct::convert::Typed;
use aqueduct::prelude::*;
use aqueduct::{DeadLetterSink, Partitioner, Record, RoutePath};

use crate::args::Servers;
use crate::line::{Kind, Line};

/// Kafka → typed lines → a table for each kind. Checks everything and connects to nothing.
pub fn build(servers: &Servers, sink: BigQuerySink) -> Result<Pipeline> {
    let spool = servers.spool.clone().unwrap_or_else(std::env::temp_dir);
    let pipeline = Pipeline::from(source(servers)?)
        // Change the version when the meaning of a line changes: it is part of what a successor checks.
        .convert(Serde::<Line>::new().version("line/1"))
        .partition(by_kind())
        .sink(sink)
        .rotate(any((MaxBytes::mib(256), MaxAge::of(Duration::from_secs(servers.seconds)))))
        .on_poison(OnPoison::DeadLetter(letters(servers)?))
        .name(&servers.group)
        .spool_dir(spool)
        .require(Guarantee::ExactlyOnce)
        .build()?;
    Ok(pipeline)
}

/// Tables by day, clustered by what is asked for most.
pub async fn sink(servers: &Servers) -> Result<BigQuerySink> {
    let tables = TableOptions::new()
        .partitioning(Partitioning::by_column("time", Granularity::Day))
        .clustering(["app", "level"])
        .label("source", "aqueduct")
        // Columns that `line.rs` gets are added to tables that exist.
        .evolve_tables(true);
    let credentials = match &servers.credentials {
        _ if servers.emulator => Credentials::Anonymous,
        Some(key) => Credentials::ServiceAccountFile(key.clone()),
        None => Credentials::ApplicationDefault,
    };
    let mut sink = BigQuerySink::builder()
        .project(&servers.project)
        .dataset(&servers.dataset)
        .credentials(credentials)
        .tables(tables)
        .routes_max(Kind::ALL.len())
        // A segment of a table takes one of the 10 000 streams that a project may create in an hour. If these are too many for
        // segments of `--seconds`, the pipeline is not built and says so.
        .expected_tables(Kind::ALL.len())
        .expected_lanes(servers.partitions)
        .allow_plaintext(servers.emulator);
    for kind in Kind::ALL {
        sink = sink.schema_of(kind.table(), kind.columns());
    }
    if let Some(endpoint) = &servers.rest_endpoint {
        sink = sink.rest_endpoint(endpoint);
    }
    if let Some(endpoint) = &servers.grpc_endpoint {
        sink = sink.grpc_endpoint(endpoint);
    }
    Ok(sink.build().await?)
}

/// The route is the table: `dataset.table` and `project.dataset.table` would do as well. Where a field that others fill is part of the
/// name, `by_table_fn` keeps it in its place; `ByTable` does that without a function, for values whose fields a layout can read, such
/// as those of `Json`.
fn by_kind() -> impl Partitioner<Typed<Line>> {
    by_fn("by-kind/1", |_: &Record<'_>, line: &Typed<Line>, path: &mut RoutePath| {
        path.push(line.kind.table())
    })
}

/// Everything in the topic, from its beginning where the group has not been yet.
fn source(servers: &Servers) -> Result<KafkaSource> {
    let mut source = KafkaSource::builder()
        .brokers(&servers.brokers)
        .group(&servers.group)
        .topics([&servers.topic])
        .start(StartAt::Earliest);
    for (name, value) in &servers.properties {
        source = source.property(name, value);
    }
    if servers.until_end {
        source = source.until_end();
    }
    Ok(source.build()?)
}

/// Lines that are no JSON, of no kind, or do not fit their table: kept whole, with the reason, to be driven again.
fn letters(servers: &Servers) -> Result<Arc<dyn DeadLetterSink>> {
    let Some(topic) = &servers.letters_topic else {
        return Ok(Arc::new(DirectoryDeadLetters::new(&servers.letters).with_pipeline(&servers.group)));
    };
    let mut letters =
        KafkaDeadLetters::builder().brokers(&servers.brokers).topic(topic).pipeline(&servers.group);
    for (name, value) in &servers.properties {
        letters = letters.property(name, value);
    }
    Ok(Arc::new(letters.build()?))
}
