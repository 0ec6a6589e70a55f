//! `cargo xtask bench s3`: what a record costs, against the floor of reading it at all, in one run on one machine.
//!
//! Floor and pipeline alternate, so that both meet the same weather; each is a process of its own, and what counts is the
//! CPU time of the whole process. The floor is a bare `BaseConsumer::poll` loop at rdkafka's defaults, the pipeline runs at
//! the defaults it ships with. Every object of every pipeline run is read back and audited.
//!
//! Where there are many objects, what the SDK needs for as many bare requests of that size is measured too, and taken off to
//! see what the *paths* cost. Where there are few, the pipeline is taken apart: it is run with an early end, step by step.

mod bigquery;
mod child;
mod formats;
mod pages;
mod table;
pub(crate) mod worker;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Args, Subcommand};
use tokio::task::spawn_blocking;
use xtask::load::audit::{self, Audit, audit};
use xtask::load::generate::Load;
use xtask::load::{Ledger, Spec, Spread};
use xtask::services::{Cache, Endpoint, Options, Running};

use self::bigquery::BigQueryArguments;
use self::child::{Child, Worker};
use self::formats::FormatsArguments;
use self::table::{Breakdown, Row};
use self::worker::{Compression, Measured, Until, Values};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Kafka to S3: CPU a record over the floor, peak memory, objects, losses
    S3(S3Arguments),
    /// From format to format: CPU a record over reading it and over a bare loop that converts it, peak memory, losses
    Formats(FormatsArguments),
    /// Kafka to a BigQuery table: CPU a record over the floor, peak memory, and the encoder alone
    #[command(name = "bigquery")]
    BigQuery(BigQueryArguments),
    #[command(hide = true, subcommand)]
    Worker(worker::WorkerCommand),
}

#[derive(Debug, Args)]
pub(crate) struct S3Arguments {
    /// Records of a run
    #[arg(long, default_value_t = 4_000_000)]
    records: u64,
    /// Pairs of floor and pipeline; the median counts
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where servers and spool keep their data, about 12 GiB; not a tmpfs unless there is memory for it [default: the
    /// system's directory for temporary files]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Write the rows as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

impl BenchCommand {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::S3(arguments) => arguments.run().await,
            Self::Formats(arguments) => arguments.run().await,
            Self::BigQuery(arguments) => arguments.run().await,
            Self::Worker(worker) => worker.run().await,
        }
    }
}

/// One line of the table.
#[derive(Clone, Copy)]
struct Case {
    values: Values,
    compression: Compression,
    /// Hours the events lie in, which is how many paths each partition has.
    paths: u32,
}

impl Case {
    const fn new(values: Values, compression: Compression, paths: u32) -> Self {
        Self { values, compression, paths }
    }

    fn name(self) -> String {
        let values = match self.values {
            Values::Bytes => "bytes",
            Values::Json => "json",
            Values::AvroToParquet => "avro-parquet",
            Values::JsonToParquet => "json-parquet",
            Values::AvroToJson => "avro-json",
        };
        let compression = match self.compression {
            Compression::None => "",
            Compression::Gzip => "/gzip",
            Compression::Zstd => "/zstd",
        };
        format!("{values}/{}-paths{compression}", self.paths)
    }

    /// So few paths that objects do not count.
    fn is_plain(self) -> bool {
        self.paths == FEW
    }

    fn spec(self, records: u64) -> Spec {
        Spec {
            records,
            hours: NonZeroU32::new(self.paths).unwrap_or(NonZeroU32::MIN),
            // Few paths follow each other, as hours do; many are all open at once, which is the hard case.
            spread: if self.is_plain() { Spread::InOrder } else { Spread::AllOpen },
            ..Spec::default()
        }
    }
}

const FEW: u32 = 3;
const MANY: u32 = 5_000;

/// By number of paths, so that each topic is produced once; the few paths come first, for the others to be compared with.
const CASES: [Case; 16] = {
    use Compression::{Gzip, None, Zstd};
    use Values::{Bytes, Json};
    [
        Case::new(Bytes, None, FEW),
        Case::new(Json, None, FEW),
        Case::new(Json, Gzip, FEW),
        Case::new(Json, Zstd, FEW),
        Case::new(Bytes, None, 100),
        Case::new(Json, None, 100),
        Case::new(Json, Gzip, 100),
        Case::new(Json, Zstd, 100),
        Case::new(Bytes, None, 1_000),
        Case::new(Json, None, 1_000),
        Case::new(Json, Gzip, 1_000),
        Case::new(Json, Zstd, 1_000),
        Case::new(Bytes, None, MANY),
        Case::new(Json, None, MANY),
        Case::new(Json, Gzip, MANY),
        Case::new(Json, Zstd, MANY),
    ]
};

/// A bare request's cost is known well enough after so many.
const BARE_PUTS_MAX: u64 = 10_000;

const BUCKET: &str = "bench";

/// A directory for servers and spool, below `data` or where temporary files are.
fn scratch(data: Option<&Path>) -> Result<tempfile::TempDir> {
    let within = data.map_or_else(std::env::temp_dir, Path::to_owned);
    Ok(tempfile::Builder::new().prefix("aqueduct-bench-").tempdir_in(within)?)
}

/// Refuses an `only` that is in no case's name: nothing would be measured, and nothing would be over its limit.
fn check_only(only: &str, cases: &[String]) -> Result<()> {
    let known = cases.join(", ");
    ensure!(
        cases.iter().any(|case| case.contains(only)),
        "no case's name contains {only:?}; they are {known}"
    );
    Ok(())
}

/// Writes the rows where they are wanted.
fn write_json(path: Option<&Path>, rows: &serde_json::Value) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    std::fs::write(path, serde_json::to_vec_pretty(rows)?)
        .with_context(|| format!("cannot write {}", path.display()))
}

struct Bench {
    running: Running,
    arguments: S3Arguments,
    scratch: tempfile::TempDir,
    runs: usize,
}

impl S3Arguments {
    async fn run(self) -> Result<()> {
        check_only(&self.only, &CASES.map(Case::name))?;
        let scratch = scratch(self.data.as_deref())?;
        tell("starting Kafka and the S3 server");
        let running = Running::start(&Cache::from_env()?, &Options::at(scratch.path())).await?;
        let mut bench = Bench { running, arguments: self, scratch, runs: 0 };
        let outcome = bench.cases().await;
        bench.running.stop().await?;
        let (rows, breakdowns) = outcome?;
        table::print(&rows, &breakdowns);
        write_json(
            bench.arguments.json.as_deref(),
            &serde_json::json!({ "cases": rows, "breakdown": breakdowns }),
        )?;
        if rows.iter().any(|row| row.lost > 0 || row.duplicated > 0) {
            bail!("records were lost or duplicated");
        }
        Ok(())
    }
}

impl Bench {
    async fn cases(&mut self) -> Result<(Vec<Row>, Vec<Breakdown>)> {
        let only = self.arguments.only.clone();
        let bucket = self.running.s3.endpoint().bucket(BUCKET);
        bucket.create().await?;
        let (mut rows, mut breakdowns): (Vec<Row>, _) = (Vec::new(), Vec::new());
        let mut produced: Option<(Spec, String)> = None;
        for case in CASES.into_iter().filter(|case| case.name().contains(&only)) {
            let spec = case.spec(self.arguments.records);
            let topic = format!("bench-{}", case.paths);
            if produced.as_ref().is_none_or(|(produced, _)| *produced != spec) {
                if let Some((_, former)) = produced.take() {
                    self.running.kafka.topics()?.delete(&former).await?;
                }
                self.produce(&spec, &topic).await?;
                produced = Some((spec.clone(), topic.clone()));
            }
            let few = Case { paths: FEW, ..case }.name();
            let few = rows.iter().find(|row| row.is(&few)).map(Row::cost);
            rows.push(self.case(case, &spec, &topic, few).await?);
            if case.is_plain() || (case.paths == MANY && case.compression == Compression::None) {
                breakdowns.push(self.take_apart(case, &spec, &topic).await?);
            }
        }
        Ok((rows, breakdowns))
    }

    async fn produce(&self, spec: &Spec, topic: &str) -> Result<()> {
        tell(&format!("producing {} records to {topic}", spec.records));
        let topics = self.running.kafka.topics()?;
        topics.recreate(topic, spec.partitions.get(), &[]).await?;
        let (load, brokers) = (Load::of(spec.clone(), topic), self.running.kafka.brokers());
        spawn_blocking(move || load.produce(&brokers)).await??;
        Ok(())
    }

    async fn case(&mut self, case: Case, spec: &Spec, topic: &str, few: Option<f64>) -> Result<Row> {
        let name = case.name();
        let mut floors = Vec::new();
        let mut runs = Vec::new();
        let mut audits = Audit::default();
        // With many paths or a compressor the floor is the same work, and what is asked first is the memory.
        let compared = case.is_plain() && case.compression == Compression::None;
        let pairs = if compared { self.arguments.pairs } else { 1 };
        for pair in 1..=pairs {
            tell(&format!("{name} {pair}/{pairs}: floor"));
            floors.push(floor(&self.running.kafka.brokers(), spec, topic).await?);
            tell(&format!("{name} {pair}/{pairs}: pipeline"));
            let worker = self.worker(case, Until::Store, topic, false);
            let run = Child::spawn(&worker.command()?)?.done().await?;
            tell(&format!("{name} {pair}/{pairs}: audit"));
            let found = self.audit(&worker.prefix, spec, topic).await?;
            for finding in &found.findings {
                tracing::warn!("{finding}");
            }
            audits.lost += found.lost;
            audits.duplicated += found.duplicated + found.orphans + found.corrupt + found.reordered;
            audits.objects = found.objects;
            audits.stored_bytes = found.stored_bytes;
            tell(&format!("{name} {pair}/{pairs}: {found}"));
            runs.push(run);
        }
        let mut row = Row::new(name, &floors, &runs, &audits)?;
        if compared {
            row.shutdown_ms = Some(self.shutdown(case, spec, topic).await?);
            row.replayed_records = Some(self.replay(case, spec, topic).await?);
        }
        if !case.is_plain() {
            let put = self.bare_put(audits.objects, audits.stored_bytes).await?;
            row.without_objects(&put, few);
        }
        Ok(row)
    }

    /// The pipeline with an early end, step by step; medians over the pairs.
    async fn take_apart(&mut self, case: Case, spec: &Spec, topic: &str) -> Result<Breakdown> {
        let name = case.name();
        let mut breakdown = Breakdown::new(name.clone());
        let pairs = if case.is_plain() { self.arguments.pairs } else { 1 };
        for pair in 1..=pairs {
            tell(&format!("{name} {pair}/{pairs}: step by step"));
            breakdown.consume(&floor(&self.running.kafka.brokers(), spec, topic).await?);
            for until in [Until::Lane, Until::Convert, Until::Spool, Until::ReadBack, Until::Store] {
                if until == Until::ReadBack && case.compression != Compression::None {
                    let plain = Case { compression: Compression::None, ..case };
                    breakdown.add("read back", &self.part(plain, until, topic).await?);
                    breakdown.add("compress", &self.part(case, until, topic).await?);
                } else {
                    breakdown.add(until.costs(), &self.part(case, until, topic).await?);
                }
            }
        }
        self.running.s3.endpoint().bucket(BUCKET).clear().await?;
        Ok(breakdown)
    }

    async fn part(&mut self, case: Case, until: Until, topic: &str) -> Result<Measured> {
        let worker = self.worker(case, until, topic, false);
        Child::spawn(&worker.command()?)?.done().await
    }

    async fn bare_put(&mut self, objects: u64, stored_bytes: u64) -> Result<Measured> {
        self.runs += 1;
        bare_put(self.running.s3.endpoint(), &format!("run-{}", self.runs), objects, stored_bytes).await
    }

    fn worker(&mut self, case: Case, until: Until, topic: &str, follow: bool) -> Worker {
        self.runs += 1;
        Worker {
            values: case.values,
            compression: case.compression,
            until,
            brokers: self.running.kafka.brokers(),
            topic: topic.to_owned(),
            group: format!("bench-{}", self.runs),
            endpoint: self.running.s3.endpoint().clone(),
            bucket: BUCKET.to_owned(),
            prefix: format!("run-{}", self.runs),
            spool_dir: self.scratch.path().join("spool"),
            tuning: None,
            follow,
        }
    }

    /// Audits a run's objects and removes them.
    async fn audit(&self, prefix: &str, spec: &Spec, topic: &str) -> Result<Audit> {
        let bucket = self.running.s3.endpoint().bucket(BUCKET);
        let options = audit::Options {
            topic: topic.to_owned(),
            prefix: prefix.to_owned(),
            require_metadata: true,
            concurrency: 4,
        };
        let spec = spec.clone();
        let ledger = spawn_blocking(move || Ledger::generated(&spec, 0..spec.records)).await??;
        let found = audit(&bucket, &options, ledger).await?;
        bucket.clear().await?;
        Ok(found)
    }

    /// From SIGTERM, with everything read and the last segments still open, to the end of the process.
    async fn shutdown(&mut self, case: Case, spec: &Spec, topic: &str) -> Result<u64> {
        tell(&format!("{}: shutdown", case.name()));
        let worker = self.worker(case, Until::Store, topic, true);
        let mut child = Child::spawn(&worker.command()?)?;
        child.until_read(spec.records).await?;
        let took = child.terminate().await?;
        let found = self.audit(&worker.prefix, spec, topic).await?;
        if !found.is_clean() {
            bail!("after a shutdown: {found}");
        }
        Ok(millis(took))
    }

    /// Records read twice because of a `kill -9` half-way.
    async fn replay(&mut self, case: Case, spec: &Spec, topic: &str) -> Result<u64> {
        tell(&format!("{}: replay after a kill", case.name()));
        let mut worker = self.worker(case, Until::Store, topic, true);
        let mut child = Child::spawn(&worker.command()?)?;
        let read = child.until_read(spec.records / 2).await?;
        child.kill().await?;
        worker.follow = false;
        let rest = Child::spawn(&worker.command()?)?.done().await?;
        let mut found = self.audit(&worker.prefix, spec, topic).await?;
        // A killed process cannot abort the uploads it had begun; a bucket's lifecycle rule does.
        found.orphans -= found.uploads;
        if !found.is_clean() {
            bail!("after a kill: {found}");
        }
        Ok((read + rest.records).saturating_sub(spec.records))
    }
}

/// What one request of the SDK costs for an object of the mean size of these.
async fn bare_put(endpoint: &Endpoint, prefix: &str, objects: u64, stored_bytes: u64) -> Result<Measured> {
    let bytes = stored_bytes / objects.max(1);
    tell(&format!("bare PUTs of {bytes} bytes"));
    let mut command = child::this_program("put")?;
    command
        .args(["--objects", &objects.min(BARE_PUTS_MAX).to_string()])
        .args(["--bytes", &bytes.to_string()]);
    child::place(&mut command, endpoint, BUCKET, prefix);
    let measured = Child::spawn(&command)?.done().await?;
    endpoint.bucket(BUCKET).clear().await?;
    Ok(measured)
}

/// Reads a topic and does nothing with it.
async fn floor(brokers: &str, spec: &Spec, topic: &str) -> Result<Measured> {
    let mut command = child::this_program("floor")?;
    command
        .args(["--brokers", brokers])
        .args(["--topic", topic])
        .args(["--partitions", &spec.partitions.to_string()])
        .args(["--records", &spec.records.to_string()]);
    Child::spawn(&command)?.done().await
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::print_stderr, reason = "a benchmark says what it is doing while it runs")]
fn tell(what: &str) {
    eprintln!("bench: {what}");
}
