//! `cargo xtask bench s3`: what a record costs, against the floor of reading it at all, in one run on one machine.
//!
//! Floor and pipeline alternate, so that both meet the same weather; each is a process of its own, and what counts is the
//! CPU time of the whole process. The floor is a bare `BaseConsumer::poll` loop at rdkafka's defaults, the pipeline runs at
//! the defaults it ships with. Every object of every pipeline run is read back and audited.

mod child;
mod table;
pub(crate) mod worker;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use tokio::task::spawn_blocking;
use xtask::load::audit::{self, Audit, audit};
use xtask::load::generate::Load;
use xtask::load::{Ledger, Spec, Spread};
use xtask::services::{Cache, Options, Running};

use self::child::{Child, Worker};
use self::table::Row;
use self::worker::{Measured, Values};

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Kafka to S3: CPU a record over the floor, peak memory, objects, losses
    S3(S3Arguments),
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
            Self::Worker(worker) => worker.run().await,
        }
    }
}

/// One line of the table.
struct Case {
    name: &'static str,
    values: Values,
    hours: NonZeroU32,
    spread: Spread,
}

const HOURS_3: NonZeroU32 = NonZeroU32::MIN.saturating_add(2);
const HOURS_1000: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
const CASES: [Case; 4] = [
    Case { name: "bytes/3-paths", values: Values::Bytes, hours: HOURS_3, spread: Spread::InOrder },
    Case { name: "json/3-paths", values: Values::Json, hours: HOURS_3, spread: Spread::InOrder },
    Case { name: "bytes/1000-paths", values: Values::Bytes, hours: HOURS_1000, spread: Spread::AllOpen },
    Case { name: "json/1000-paths", values: Values::Json, hours: HOURS_1000, spread: Spread::AllOpen },
];

const BUCKET: &str = "bench";

struct Bench {
    running: Running,
    arguments: S3Arguments,
    scratch: tempfile::TempDir,
    runs: usize,
}

impl S3Arguments {
    async fn run(self) -> Result<()> {
        let scratch = tempfile::Builder::new()
            .prefix("aqueduct-bench-")
            .tempdir_in(self.data.clone().unwrap_or_else(std::env::temp_dir))?;
        tell("starting Kafka and the S3 server");
        let running = Running::start(&Cache::from_env()?, &Options::at(scratch.path())).await?;
        let mut bench = Bench { running, arguments: self, scratch, runs: 0 };
        let outcome = bench.cases().await;
        bench.running.stop().await?;
        let rows = outcome?;
        table::print(&rows);
        if let Some(path) = &bench.arguments.json {
            let json = serde_json::to_vec_pretty(&rows)?;
            std::fs::write(path, json).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if rows.iter().any(|row| row.lost > 0 || row.duplicated > 0) {
            bail!("records were lost or duplicated");
        }
        Ok(())
    }
}

impl Bench {
    async fn cases(&mut self) -> Result<Vec<Row>> {
        let only = self.arguments.only.clone();
        let bucket = self.running.s3.endpoint().bucket(BUCKET);
        bucket.create().await?;
        let mut rows = Vec::new();
        let mut produced = None;
        for case in CASES.iter().filter(|case| case.name.contains(&only)) {
            let spec = Spec {
                records: self.arguments.records,
                hours: case.hours,
                spread: case.spread,
                ..Spec::default()
            };
            let topic = format!("bench-{}", case.hours);
            if produced.as_ref() != Some(&spec) {
                self.produce(&spec, &topic).await?;
                produced = Some(spec.clone());
            }
            rows.push(self.case(case, &spec, &topic).await?);
        }
        Ok(rows)
    }

    async fn produce(&self, spec: &Spec, topic: &str) -> Result<()> {
        tell(&format!("producing {} records to {topic}", spec.records));
        let topics = self.running.kafka.topics()?;
        topics.recreate(topic, spec.partitions.get(), &[]).await?;
        let (load, brokers) = (Load::of(spec.clone(), topic), self.running.kafka.brokers());
        spawn_blocking(move || load.produce(&brokers)).await??;
        Ok(())
    }

    async fn case(&mut self, case: &Case, spec: &Spec, topic: &str) -> Result<Row> {
        let mut floors = Vec::new();
        let mut runs = Vec::new();
        let mut audits = Audit::default();
        // With many paths the floor is the same work, and what is asked is the memory.
        let pairs = if case.hours == HOURS_3 { self.arguments.pairs } else { 1 };
        for pair in 1..=pairs {
            tell(&format!("{} {pair}/{pairs}: floor", case.name));
            floors.push(self.floor(spec, topic).await?);
            tell(&format!("{} {pair}/{pairs}: pipeline", case.name));
            let worker = self.worker(case, topic, false);
            let run = Child::spawn(&worker.command()?)?.done().await?;
            tell(&format!("{} {pair}/{pairs}: audit", case.name));
            let found = self.audit(&worker.prefix, spec, topic).await?;
            for finding in &found.findings {
                tracing::warn!("{finding}");
            }
            audits.lost += found.lost;
            audits.duplicated += found.duplicated + found.orphans + found.corrupt + found.reordered;
            tell(&format!("{} {pair}/{pairs}: {found}", case.name));
            runs.push(run);
        }
        let mut row = Row::new(case.name, &floors, &runs, &audits)?;
        if case.hours == HOURS_3 {
            row.shutdown_ms = Some(self.shutdown(case, spec, topic).await?);
            row.replayed_records = Some(self.replay(case, spec, topic).await?);
        }
        Ok(row)
    }

    async fn floor(&self, spec: &Spec, topic: &str) -> Result<Measured> {
        let mut command = child::this_program("floor")?;
        command
            .args(["--brokers", &self.running.kafka.brokers()])
            .args(["--topic", topic])
            .args(["--partitions", &spec.partitions.to_string()])
            .args(["--records", &spec.records.to_string()]);
        Child::spawn(&command)?.done().await
    }

    fn worker(&mut self, case: &Case, topic: &str, follow: bool) -> Worker {
        self.runs += 1;
        Worker {
            values: case.values,
            brokers: self.running.kafka.brokers(),
            topic: topic.to_owned(),
            group: format!("bench-{}", self.runs),
            endpoint: self.running.s3.endpoint().clone(),
            bucket: BUCKET.to_owned(),
            prefix: format!("run-{}", self.runs),
            spool_dir: self.scratch.path().join("spool"),
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
    async fn shutdown(&mut self, case: &Case, spec: &Spec, topic: &str) -> Result<u64> {
        tell(&format!("{}: shutdown", case.name));
        let worker = self.worker(case, topic, true);
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
    async fn replay(&mut self, case: &Case, spec: &Spec, topic: &str) -> Result<u64> {
        tell(&format!("{}: replay after a kill", case.name));
        let mut worker = self.worker(case, topic, true);
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

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::print_stderr, reason = "a benchmark says what it is doing while it runs")]
fn tell(what: &str) {
    eprintln!("bench: {what}");
}
