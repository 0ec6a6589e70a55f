//! The pipeline: the part to copy.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use aqueduct::prelude::*;
use indicatif::HumanCount;
use serde::{Deserialize, Serialize};

use crate::args::{Secrets, Servers};
use crate::child::peak_memory;
use crate::progress::Progress;

/// Kafka → JSON → service and hour → gzip JSON lines in S3. Nothing is connected yet.
pub async fn build(servers: &Servers, secrets: &Secrets) -> Result<Pipeline> {
    let spool = servers.spool.clone().unwrap_or_else(std::env::temp_dir);
    let pipeline = Pipeline::from(source(servers, secrets)?)
        .convert(Json::new())
        .partition(chain((ByField::new(&servers.field)?, ByTime::hourly(&servers.zone)?)))
        .sink(sink(servers, secrets).await?)
        .rotate(any((MaxRecords(servers.cut_records), MaxAge::minutes(servers.cut_minutes.into()))))
        .name(&servers.group)
        .spool_dir(spool)
        .require(Guarantee::ExactlyOnce)
        .build()?;
    Ok(pipeline)
}

/// Everything in the topic, from its beginning where the group has not been yet.
fn source(servers: &Servers, secrets: &Secrets) -> Result<KafkaSource> {
    let mut source = KafkaSource::builder()
        .brokers(&servers.brokers)
        .group(&servers.group)
        .topics([&servers.topic])
        .start(StartAt::Earliest);
    for (name, value) in &secrets.properties {
        source = source.property(name, value);
    }
    if servers.until_end {
        source = source.until_end();
    }
    Ok(source.build()?)
}

/// One object per directory and cut, one JSON value a line.
async fn sink(servers: &Servers, secrets: &Secrets) -> Result<S3Sink<JsonLines>> {
    let mut sink = S3Sink::builder()
        .bucket(&servers.bucket)
        .prefix(&servers.prefix)
        .format(JsonLines::new())
        .compression(Compression::Gzip);
    if let Some(endpoint) = &servers.endpoint {
        sink = sink.endpoint(endpoint);
    }
    if let Some(region) = &servers.region {
        sink = sink.region(region);
    }
    if let Some(path_style) = servers.path_style {
        sink = sink.path_style(path_style);
    }
    sink = match (&secrets.access_key, &secrets.secret_key) {
        (Some(access), Some(secret)) => sink.credentials(access, secret.clone()),
        (None, None) => sink,
        _ => {
            bail!("--access-key and --secret-key belong together: give both, or neither for AWS's own chain")
        }
    };
    Ok(sink.build().await?)
}

/// What a run has done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Summary {
    /// Records read.
    pub records: u64,
    /// Records that are durable and committed.
    pub durable: u64,
    /// Objects made visible.
    pub objects: u64,
    /// Bytes of those objects, as stored.
    pub bytes: u64,
    /// Seconds until the first record came: mostly joining the group.
    pub waited_s: f64,
    /// Seconds from the first record to the last commit.
    pub busy_s: f64,
    /// The most memory this process has had, in bytes; none where the system does not say.
    pub peak_memory: Option<u64>,
}

impl Summary {
    /// Records per second of work.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a figure for people"
    )]
    pub fn records_per_s(&self) -> u64 {
        (self.durable as f64 / self.busy_s.max(0.001)).round() as u64
    }
}

/// Runs the pipeline until `shutdown`, or until the end of a bounded run, and shows how far it is.
pub async fn run(
    pipeline: Pipeline,
    expect: Option<u64>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<Summary> {
    let handle = pipeline.handle();
    let mut progress = Progress::new("archiving", expect);
    let started = Instant::now();
    let mut first_record = None;
    let mut look = tokio::time::interval(Duration::from_millis(50));
    let mut run = pin!(pipeline.run(shutdown));
    let report = loop {
        tokio::select! {
            report = &mut run => break report.context("the pipeline has stopped")?,
            _ = look.tick() => {
                let status = handle.status();
                if status.totals.records > 0 {
                    first_record.get_or_insert_with(Instant::now);
                }
                let (durable, objects) = (HumanCount(status.totals.durable), HumanCount(status.totals.objects));
                let in_flight = status.memory.0 >> 20;
                progress.update(
                    status.totals.records,
                    format_args!("read, {durable} durable in {objects} objects, {in_flight} MiB in flight"),
                );
            }
        }
    };
    progress.finish(report.durable, format_args!("durable in {} objects", HumanCount(report.objects)));
    let ended = Instant::now();
    let first_record = first_record.unwrap_or(ended);
    Ok(Summary {
        records: report.records,
        durable: report.durable,
        objects: report.objects,
        bytes: report.bytes,
        waited_s: (first_record - started).as_secs_f64(),
        busy_s: (ended - first_record).as_secs_f64(),
        peak_memory: peak_memory(),
    })
}
