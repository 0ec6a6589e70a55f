//! The subcommands: arguments in, lines out. What they do is in the library.

use std::fmt;
use std::fs;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use tokio::task::spawn_blocking;
use xtask::load::audit::{self, audit, scan};
use xtask::load::generate::{Compression, Encoding, Load, RecordTime};
use xtask::load::{Ledger, Spec, Spread};
use xtask::process::Process;
use xtask::services::{self, BigQuery, Cache, Endpoint, Running, Topics};

#[derive(Debug, Subcommand)]
pub(crate) enum ServicesCommand {
    /// Start them on free ports; fetches their programs on the first run
    Start {
        /// Directory for their data, such as /dev/shm [default: where they were, or the cache directory]
        #[arg(long)]
        data: Option<PathBuf>,
        /// The broker's heap in MiB
        #[arg(long, default_value_t = 1024)]
        kafka_heap_mib: u32,
        /// An emulator of BigQuery as well, which keeps its tables in memory
        #[arg(long)]
        bigquery: bool,
    },
    /// Stop them; their data stays
    Stop {
        /// Remove their data too
        #[arg(long)]
        wipe: bool,
    },
    /// Say where they are and what they use; fails unless all are up
    Status {
        /// Print the state as JSON
        #[arg(long)]
        json: bool,
    },
}

impl ServicesCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let cache = Cache::from_env()?;
        match self {
            Self::Start { data, kafka_heap_mib, bigquery } => {
                let running = services::start(&cache, data, kafka_heap_mib, bigquery).await?;
                Ok(print_status(&running))
            }
            Self::Stop { wipe } => {
                match services::stop(&cache, wipe).await? {
                    None => say(format_args!("nothing was started")),
                    Some(_) if wipe => say(format_args!("stopped, and the data is removed")),
                    Some(running) => {
                        say(format_args!("stopped; the data is in {}", running.home().display()));
                    }
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Status { json } => match Running::find(&cache)? {
                None => {
                    say(format_args!("nothing was started"));
                    Ok(ExitCode::FAILURE)
                }
                Some(running) if json => {
                    say(format_args!("{}", serde_json::to_string_pretty(&running)?));
                    let bigquery = running.bigquery.as_ref().is_none_or(BigQuery::is_alive);
                    Ok(exit_code(running.kafka.is_alive() && running.s3.is_alive() && bigquery))
                }
                Some(running) => Ok(print_status(&running)),
            },
        }
    }
}

/// Where the broker is.
#[derive(Debug, Args)]
struct BrokerArguments {
    /// `bootstrap.servers` [default: the broker of `services start`]
    #[arg(long)]
    brokers: Option<String>,
}

/// Where the S3 server is.
#[derive(Debug, Args)]
struct EndpointArguments {
    /// `http://host:port` [default: the server of `services start`]
    #[arg(long, requires_all = ["access_key", "secret_key"])]
    endpoint: Option<String>,
    #[arg(long, default_value = "us-east-1")]
    region: String,
    #[arg(long, env = "AWS_ACCESS_KEY_ID")]
    access_key: Option<String>,
    #[arg(long, env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    secret_key: Option<String>,
}

/// What the events are.
#[derive(Debug, Args)]
struct SpecArguments {
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    #[arg(long, default_value = "4")]
    partitions: NonZeroU32,
    /// Event times lie in so many hours
    #[arg(long, default_value = "3")]
    hours: NonZeroU32,
    /// How they lie there
    #[arg(long, value_enum, default_value = "in-order")]
    spread: Spread,
    /// Distinct values of the field `tenant`; 0 leaves it out
    #[arg(long, default_value_t = 0)]
    tenants: u32,
    /// Bytes of an event
    #[arg(long, default_value_t = 500)]
    bytes: usize,
}

#[derive(Debug, Args)]
pub(crate) struct ProduceCommand {
    #[arg(long, default_value = "logs")]
    topic: String,
    #[command(flatten)]
    broker: BrokerArguments,
    #[command(flatten)]
    spec: SpecArguments,
    /// Begin with this event, after an earlier load of the same events
    #[arg(long, default_value_t = 0)]
    first: u64,
    #[arg(long, value_enum, default_value = "none")]
    compression: Compression,
    /// The records' timestamps
    #[arg(long, value_enum, default_value = "event")]
    record_time: RecordTime,
    /// Records a second [default: as fast as it goes]
    #[arg(long)]
    rate: Option<u64>,
    /// Delete the topic first
    #[arg(long)]
    recreate: bool,
}

impl ProduceCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let brokers = self.broker.resolve()?;
        let spec = self.spec.resolve();
        let topics = Topics::connect(&brokers)?;
        if self.recreate {
            topics.delete(&self.topic).await?;
        }
        topics.create(&self.topic, spec.partitions.get(), &[]).await?;
        let range = self.first..spec.records;
        let (compression, record_time, rate) = (self.compression, self.record_time, self.rate);
        let encoding = Encoding::Json;
        let load = Load { topic: self.topic, spec, range, encoding, compression, record_time, rate };
        let produced = spawn_blocking(move || load.produce(&brokers)).await??;
        let (seconds, rate) = (produced.elapsed.as_secs_f64(), produced.rate());
        say(format_args!(
            "records={} bytes={} seconds={seconds:.2} records_per_s={rate}",
            produced.records, produced.bytes
        ));
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Debug, Args)]
pub(crate) struct AuditCommand {
    #[arg(long, default_value = "logs")]
    topic: String,
    #[arg(long)]
    bucket: String,
    /// Only objects whose keys begin with this
    #[arg(long, default_value = "")]
    prefix: String,
    #[command(flatten)]
    broker: BrokerArguments,
    #[command(flatten)]
    endpoint: EndpointArguments,
    /// Trust that the topic holds what `produce` with `--records` and `--partitions` writes, instead of reading it
    #[arg(long)]
    generated: bool,
    #[command(flatten)]
    spec: SpecArguments,
    /// Judge objects of another program, which carry none of our metadata
    #[arg(long)]
    no_metadata: bool,
    /// Objects read at once
    #[arg(long, default_value_t = 4)]
    concurrency: usize,
    /// Write the result as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

impl AuditCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let bucket = self.endpoint.resolve()?.bucket(&self.bucket);
        let ledger = if self.generated {
            let spec = self.spec.resolve();
            Ledger::generated(&spec, 0..spec.records)?
        } else {
            let (brokers, topic) = (self.broker.resolve()?, self.topic.clone());
            let scan = spawn_blocking(move || scan(&brokers, &topic)).await??;
            if scan.foreign > 0 {
                tracing::warn!(
                    "{} records of the topic are no generated events and are not audited",
                    scan.foreign
                );
            }
            scan.ledger
        };
        let options = audit::Options {
            topic: self.topic,
            prefix: self.prefix,
            require_metadata: !self.no_metadata,
            concurrency: self.concurrency,
        };
        let found = audit(&bucket, &options, ledger).await?;
        for finding in &found.findings {
            tracing::warn!("{finding}");
        }
        say(format_args!("{found}"));
        if let Some(path) = self.json {
            let json = serde_json::to_vec_pretty(&found)?;
            fs::write(&path, json).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(exit_code(found.is_clean()))
    }
}

impl BrokerArguments {
    fn resolve(self) -> Result<String> {
        self.brokers.map_or_else(|| Ok(detached()?.kafka.brokers()), Ok)
    }
}

impl EndpointArguments {
    fn resolve(self) -> Result<Endpoint> {
        let (Some(url), Some(access_key), Some(secret_key)) =
            (self.endpoint, self.access_key, self.secret_key)
        else {
            return Ok(detached()?.s3.endpoint().clone());
        };
        Ok(Endpoint { url, region: self.region, access_key, secret_key })
    }
}

impl SpecArguments {
    fn resolve(self) -> Spec {
        let Self { seed, records, partitions, hours, spread, tenants, bytes } = self;
        Spec { seed, records, partitions, hours, spread, tenants, bytes }
    }
}

fn detached() -> Result<Running> {
    Running::find(&Cache::from_env()?)?.context("no servers: run `cargo xtask services start`, or name yours")
}

fn print_status(running: &Running) -> ExitCode {
    let (kafka, s3) = (running.kafka.process(), running.s3.process());
    let endpoint = running.s3.endpoint();
    say(format_args!(
        "kafka  {}  {}  log {}",
        running.kafka.brokers(),
        usage(&kafka),
        running.kafka.log().display()
    ));
    say(format_args!("s3     {}  {}  log {}", endpoint.url, usage(&s3), running.s3.log().display()));
    say(format_args!(
        "       access key {}, secret key {}, region {}",
        endpoint.access_key, endpoint.secret_key, endpoint.region
    ));
    let Some(bigquery) = &running.bigquery else { return exit_code(kafka.is_ok() && s3.is_ok()) };
    let process = bigquery.process();
    say(format_args!(
        "bigquery  {}  gRPC {}  {}  log {}",
        bigquery.rest_endpoint(),
        bigquery.grpc_endpoint(),
        usage(&process),
        bigquery.log().display()
    ));
    exit_code(kafka.is_ok() && s3.is_ok() && process.is_ok())
}

fn usage(process: &Result<Process>) -> String {
    let Ok(process) = process else {
        return "down".to_owned();
    };
    let usage = process.usage().unwrap_or_default();
    let (cpu, mib) = (usage.cpu.as_secs_f64(), usage.peak_rss_bytes >> 20);
    format!("up, pid {}, {cpu:.1} s cpu, peak {mib} MiB", process.pid())
}

fn exit_code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "what a command finds out goes to its standard output")]
fn say(line: fmt::Arguments<'_>) {
    println!("{line}");
}
