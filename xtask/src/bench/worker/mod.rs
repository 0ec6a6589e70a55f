//! The measured processes: a bare poll loop, and the pipeline. Each prints JSON lines and judges itself by `/proc`.

mod bare;
mod bigquery;
mod ladder;
mod put;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aqueduct::convert::Avro;
use aqueduct::convert::registry::{FixedSchemas, SchemaKind};
use aqueduct::files::{Delimited, Format, ObjectOptions, ObjectSink, Parquet};
use aqueduct::partition::{ByKafkaPartition, ByTime};
use aqueduct::{
    Converter, Guarantee, Handle, Json, JsonLines, KafkaSource, Limits, MaxAge, MaxBytes, Partitioner,
    Pipeline, RawBytes, S3Sink, Sink, StartAt, any,
};
use clap::{Args, Subcommand, ValueEnum};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use xtask::load::avro;
use xtask::process::{Process, Usage};

use self::bare::BareArguments;
pub(crate) use self::bare::Conversion;
pub(crate) use self::bigquery::Mode;
use self::bigquery::{RowsArguments, TablesArguments};
pub(crate) use self::ladder::Until;
use self::ladder::{Blind, Discard, Unpublished};
use self::put::PutArguments;

/// How often a running pipeline says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_millis(20);
/// How long the floor waits for a record before it gives up.
const STALL: Duration = Duration::from_secs(30);

/// What a pipeline of a case does with values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Values {
    /// Stores them as they are, a newline after each.
    Bytes,
    /// Validates them as JSON and stores JSON lines.
    Json,
    /// Stores Avro as Parquet with Snappy.
    AvroToParquet,
    /// Stores JSON as Parquet with Snappy.
    JsonToParquet,
    /// Stores Avro as JSON lines.
    AvroToJson,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Polls every record and does nothing with it, at rdkafka's defaults
    Floor {
        #[arg(long)]
        brokers: String,
        #[arg(long)]
        topic: String,
        #[arg(long)]
        partitions: NonZeroU32,
        #[arg(long)]
        records: u64,
    },
    /// Runs the pipeline at its shipped defaults, or a part of it
    Pipeline(Box<PipelineArguments>),
    /// Puts objects with nothing but the SDK
    Put(PutArguments),
    /// Decodes and encodes in memory, with nothing around it
    Bare(BareArguments),
    /// Serves a BigQuery that counts
    FakeBigquery,
    /// Runs a pipeline into a BigQuery table
    Tables(TablesArguments),
    /// Encodes rows in memory
    Rows(RowsArguments),
}

/// How a case's objects are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

#[derive(Debug, Args)]
pub(crate) struct PipelineArguments {
    #[arg(long, value_enum)]
    values: Values,
    #[arg(long, value_enum)]
    compression: Compression,
    /// How far records go
    #[arg(long, value_enum)]
    until: Until,
    #[arg(long)]
    brokers: String,
    #[arg(long)]
    topic: String,
    #[arg(long)]
    group: String,
    #[arg(long)]
    endpoint: String,
    #[arg(long)]
    region: String,
    #[arg(long)]
    bucket: String,
    #[arg(long)]
    prefix: String,
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: String,
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: String,
    #[arg(long)]
    spool_dir: PathBuf,
    /// Segments end at so many MiB [default: the pipeline's own rotation]
    #[arg(long)]
    segment_mib: Option<u64>,
    /// MiB of a batch [default: the source's own]
    #[arg(long)]
    batch_mib: Option<usize>,
    /// The budget of memory, in MiB [default: the pipeline's own]
    #[arg(long)]
    memory_mib: Option<u64>,
    /// Leave headers behind
    #[arg(long)]
    without_headers: bool,
    /// Go on after the end until SIGTERM
    #[arg(long)]
    follow: bool,
}

/// What a worker prints, one JSON object a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Line {
    /// Records read so far.
    Progress { read: u64, durable: u64 },
    /// Where a server is.
    Serving { rest: String, grpc: String },
    /// The end.
    Done(Measured),
}

/// What one process used for its work.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// Records read.
    pub(crate) records: u64,
    /// User and system time of the whole process.
    pub(crate) cpu: Duration,
    /// From the start of the work to its end.
    pub(crate) elapsed: Duration,
    /// `VmHWM`.
    pub(crate) peak_rss_bytes: u64,
    /// Objects made visible.
    pub(crate) objects: u64,
    /// From the start of the pipeline to its first visible object.
    pub(crate) first_object: Option<Duration>,
}

impl WorkerCommand {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Floor { brokers, topic, partitions, records } => {
                let floor = move || floor(&brokers, &topic, partitions, records);
                say(&Line::Done(tokio::task::spawn_blocking(floor).await??))
            }
            Self::Pipeline(arguments) => arguments.run().await,
            Self::FakeBigquery => bigquery::fake().await,
            Self::Tables(arguments) => arguments.run().await,
            Self::Rows(arguments) => say(&Line::Done(arguments.run().await?)),
            Self::Put(arguments) => say(&Line::Done(arguments.run().await?)),
            Self::Bare(arguments) => {
                say(&Line::Done(tokio::task::spawn_blocking(|| arguments.run()).await??))
            }
        }
    }
}

fn floor(brokers: &str, topic: &str, partitions: NonZeroU32, records: u64) -> Result<Measured> {
    let started = Instant::now();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "aqueduct-bench-floor")
        .set("enable.auto.commit", "false")
        .create()
        .context("no Kafka client")?;
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions.get() {
        assignment.add_partition_offset(topic, i32::try_from(partition)?, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut read = 0;
    while read < records {
        let message = consumer.poll(STALL);
        message.context("no record for 30 s")??;
        read += 1;
    }
    measured(started, read, 0, None)
}

impl PipelineArguments {
    async fn run(self) -> Result<()> {
        let hourly = ByTime::hourly("Asia/Seoul")?;
        match (self.values, self.until) {
            (_, Until::Lane) => self.pipeline(RawBytes::new(), ByKafkaPartition, Discard).await,
            (Values::Bytes, _) => self.whole(RawBytes::new(), hourly, Delimited::lines()).await,
            (Values::Json, _) => self.whole(Json::new(), hourly, JsonLines::new()).await,
            (Values::AvroToJson, _) => self.whole(avro()?, hourly, JsonLines::new()).await,
            // Snappy is what it begins with.
            (Values::AvroToParquet, _) => self.whole(avro()?, hourly, Parquet::new()).await,
            (Values::JsonToParquet, _) => self.whole(Json::new(), hourly, Parquet::new()).await,
        }
    }

    async fn whole<C, P, F>(&self, converter: C, partitioner: P, format: F) -> Result<()>
    where
        C: Converter,
        P: Partitioner<C::Output>,
        F: Format<C::Output>,
    {
        let compression = self.compression.into();
        let nowhere = |format| {
            let options = ObjectOptions::default().with_compression(compression);
            ObjectSink::new(format, Blind, options).map_err(|errors| anyhow::anyhow!("{errors:?}"))
        };
        match self.until {
            Until::Lane | Until::Convert => self.pipeline(converter, partitioner, Discard).await,
            Until::Spool => self.pipeline(converter, partitioner, Unpublished(nowhere(format)?)).await,
            Until::ReadBack => self.pipeline(converter, partitioner, nowhere(format)?).await,
            Until::Store => {
                let sink = S3Sink::builder()
                    .bucket(&self.bucket)
                    .prefix(&self.prefix)
                    .endpoint(&self.endpoint)
                    .region(&self.region)
                    .credentials(&self.access_key, self.secret_key.clone())
                    .format(format)
                    .compression(compression)
                    .build()
                    .await?;
                self.pipeline(converter, partitioner, sink).await
            }
        }
    }

    async fn pipeline<C, P, K>(&self, converter: C, partitioner: P, sink: K) -> Result<()>
    where
        C: Converter,
        P: Partitioner<C::Output>,
        K: Sink<C::Output>,
    {
        let started = Instant::now();
        let mut source = KafkaSource::builder()
            .brokers(&self.brokers)
            .group(&self.group)
            .topics([&self.topic])
            .start(StartAt::Earliest)
            // A killed member's partitions come back within the run.
            .property("session.timeout.ms", "6000")
            .property("heartbeat.interval.ms", "1500");
        if !self.follow {
            source = source.until_end();
        }
        if let Some(mib) = self.batch_mib {
            source = source.batch_bytes(mib << 20);
        }
        if self.without_headers {
            source = source.without_headers();
        }
        let mut pipeline = Pipeline::from(source.build()?)
            .convert(converter)
            .partition(partitioner)
            .sink(sink)
            .spool_dir(&self.spool_dir)
            .name("bench")
            .require(Guarantee::ExactlyOnce);
        if let Some(mib) = self.segment_mib {
            pipeline = pipeline.rotate(any((MaxBytes::mib(mib), MaxAge::minutes(5))));
        }
        if let Some(mib) = self.memory_mib {
            pipeline = pipeline.limits(Limits::default().with_memory(mib << 20));
        }
        let pipeline = pipeline.build()?;
        let mut terminate = signal(SignalKind::terminate())?;
        let handle = pipeline.handle();
        let progress = tokio::spawn(tell(handle));
        let follow = self.follow;
        let shutdown = async move {
            if follow {
                terminate.recv().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        let report = pipeline.run(shutdown).await?;
        progress.abort();
        ensure!(report.pending_intents == 0, "intents are pending at the end: {report}");
        let objects = report.objects;
        say(&Line::Done(measured(started, report.records, objects, report.first_object_after)?))
    }
}

/// The schema is at hand, so that no registry's answers are measured; values name it as ever.
fn avro() -> Result<Avro> {
    let source = FixedSchemas::new().with(avro::SCHEMA_ID, SchemaKind::Avro, avro::SCHEMA);
    Ok(Avro::with_registry(source).build()?)
}

async fn tell(handle: Handle) {
    loop {
        tokio::time::sleep(PROGRESS_EVERY).await;
        let totals = handle.status().totals;
        // A parent that is gone ends the run by itself.
        say(&Line::Progress { read: totals.records, durable: totals.durable }).ok();
    }
}

fn measured(
    started: Instant,
    records: u64,
    objects: u64,
    first_object: Option<Duration>,
) -> Result<Measured> {
    let Usage { cpu, peak_rss_bytes } = Process::current()?.usage()?;
    Ok(Measured { records, cpu, elapsed: started.elapsed(), peak_rss_bytes, objects, first_object })
}

impl From<Compression> for aqueduct::Compression {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd,
        }
    }
}

#[expect(clippy::print_stdout, reason = "what a worker finds out goes to its standard output")]
fn say(line: &Line) -> Result<()> {
    println!("{}", serde_json::to_string(line)?);
    Ok(())
}
