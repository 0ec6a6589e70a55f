//! The processes of `bench bigquery`: a BigQuery, a pipeline into it, and the encoder without either.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use aqueduct::bigquery::testkit::{FakeBigQuery, FakeLimits};
use aqueduct::bigquery::{BigQuerySink, Credentials, Delivery, Field, FieldType, TableName, TableSchema};
use aqueduct::convert::JsonValue;
use aqueduct::{
    Batch, BatchBuilder, Begun, Converted, Converter as _, Envelope, Guarantee, Json, KafkaSource, LocalDisk,
    MaxRecords, Offset, Permit, Pipeline, Pool, RoutePath, RouteTable, SegmentStart, Sink as _, Spool,
    StartAt, Timestamp, TopicPartition, by_fn,
};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use xtask::load::Spec;
use xtask::process::Process;

use super::bare::timed;
use super::{Line, Measured, measured, say};
use crate::worker::event_columns;

const PROJECT: &str = "bench";
const DATASET: &str = "events";
const TABLE: &str = "events";

/// Rows of a partition that become visible together.
const SEGMENT_RECORDS: u64 = 100_000;

/// How rows are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    ExactlyOnce,
    AtLeastOnce,
}

/// Serves until SIGTERM; then says how many rows were visible and what that took.
pub(super) async fn fake() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let started = Instant::now();
    let fake = FakeBigQuery::start().await;
    fake.create_dataset(PROJECT, DATASET);
    fake.set_limits(FakeLimits::default().without_quotas());
    fake.count_rows_only();
    say(&Line::Serving { rest: fake.rest_endpoint().to_owned(), grpc: fake.grpc_endpoint().to_owned() })?;
    terminate.recv().await;
    let rows = fake.visible_count(&TableName::new(PROJECT, DATASET, TABLE)?);
    say(&Line::Done(measured(started, rows, 0, None)?))
}

#[derive(Debug, Args)]
pub(crate) struct TablesArguments {
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    group: String,
    #[arg(long)]
    rest: String,
    #[arg(long)]
    grpc: String,
    #[arg(long, value_enum)]
    mode: Mode,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    spool_dir: PathBuf,
}

impl TablesArguments {
    /// From the topic into one table, at the sink's defaults but for the connections.
    pub(super) async fn run(self) -> Result<()> {
        let started = Instant::now();
        let delivery = match self.mode {
            Mode::ExactlyOnce => Delivery::ExactlyOnce,
            Mode::AtLeastOnce => Delivery::AtLeastOnce,
        };
        let sink = BigQuerySink::builder()
            .project(PROJECT)
            .dataset(DATASET)
            .table(TABLE)
            .schema(columns())
            .delivery(delivery)
            .connections(self.connections)
            .credentials(Credentials::Anonymous)
            .rest_endpoint(&self.rest)
            .grpc_endpoint(&self.grpc)
            .allow_plaintext(true)
            .build()
            .await?;
        let source = KafkaSource::builder()
            .brokers(&self.brokers)
            .group(&self.group)
            .topics([&self.topic])
            .start(StartAt::Earliest)
            .until_end();
        let mut pipeline = Pipeline::from(source.build()?)
            .convert(Json::new())
            .partition(by_fn("one-table/1", |_: &_, _: &JsonValue, _: &mut RoutePath| Ok(())))
            .sink(sink)
            .rotate(MaxRecords(SEGMENT_RECORDS))
            .spool_dir(&self.spool_dir)
            .name("bench");
        if self.mode == Mode::ExactlyOnce {
            pipeline = pipeline.require(Guarantee::ExactlyOnce);
        }
        let report = pipeline.build()?.run(std::future::pending()).await?;
        ensure!(report.pending_intents == 0, "intents are pending at the end: {report}");
        say(&Line::Done(measured(started, report.records, report.objects, None)?))
    }
}

#[derive(Debug, Args)]
pub(crate) struct RowsArguments {
    #[arg(long)]
    records: u64,
    #[arg(long)]
    spool_dir: PathBuf,
}

/// Events that are encoded before their rows are thrown on the disk.
const BATCH: u64 = 2_000;

impl RowsArguments {
    /// Events in memory into rows in memory, by the converter and the writer that a pipeline has; what the disk costs is left out.
    pub(super) async fn run(self) -> Result<Measured> {
        let started = Instant::now();
        let sink = BigQuerySink::builder()
            .project(PROJECT)
            .dataset(DATASET)
            .table(TABLE)
            .schema(columns())
            .credentials(Credentials::Anonymous)
            .build()
            .await?;
        let spool = Spool::open(&self.spool_dir, "rows", Arc::new(LocalDisk), Pool::new(1 << 40))?;
        let lane = TopicPartition::new("events", 0);
        let at = SegmentStart {
            lane: lane.clone(),
            start: Offset::ZERO,
            pinned: None,
            opened_at_ms: 0,
            layout: 0,
            scratch: spool.scratch(),
            memory: Pool::new(1 << 30),
        };
        let Begun::<JsonValue>::Fill(mut writer) = sink.begin(at).await? else {
            bail!("nothing was published")
        };
        let (path, mut routes, converter) = (RoutePath::new(0), RouteTable::new(), Json::new());
        let route = routes.intern(&path);
        let spec = Spec { records: self.records, ..Spec::default() };
        let mut cpu = Duration::ZERO;
        for first in (0..self.records).step_by(usize::try_from(BATCH)?) {
            let batch = batch(&spec, &lane, first..self.records.min(first + BATCH))?;
            cpu += timed(|| {
                for record in batch.iter() {
                    let Converted::Emit(value) = converter.convert(&record)? else { bail!("no event") };
                    writer.append(Envelope { record: &record, route, path: &path, value })?;
                }
                Ok(())
            })?;
            writer.spill().await?;
        }
        writer.abandon().await;
        let peak_rss_bytes = Process::current()?.usage()?.peak_rss_bytes;
        let (records, elapsed) = (self.records, started.elapsed());
        Ok(Measured { records, cpu, elapsed, peak_rss_bytes, objects: 0, first_object: None })
    }
}

fn batch(spec: &Spec, lane: &TopicPartition, events: std::ops::Range<u64>) -> Result<Batch> {
    let mut builder = BatchBuilder::new(lane.clone(), 2 << 20);
    let mut event = Vec::new();
    for seq in events {
        spec.write(seq, &mut event);
        builder.push(Offset::new(i64::try_from(seq)?), Timestamp::None, None, Some(&event), []);
    }
    Ok(builder.build(Permit::unlimited()))
}

/// All that an event has.
fn columns() -> TableSchema {
    let request = vec![
        Field::nullable("method", FieldType::String),
        Field::nullable("host", FieldType::String),
        Field::nullable("ip", FieldType::String),
        Field::nullable("bytes", FieldType::Int64),
        Field::nullable("trace_id", FieldType::String),
        Field::nullable("user_agent", FieldType::String),
    ];
    event_columns(FieldType::Record(request))
}
