//! `cargo xtask bench bigquery`: what a record costs on its way from Kafka into a BigQuery table, against the floor of reading it
//! at all, in one run on one machine.
//!
//! The table is one of `FakeBigQuery`, in a process of its own: what it costs is not in the pipeline's figures, but shown beside
//! them, because on few cores it is what limits records a second. It checks offsets, lengths and commits of streams, counts the
//! rows, and looks into none; that they hold what they should is for the tests and the integration run to tell.
//!
//! Beside the pipeline there is the encoder alone: events in memory into rows in memory, on one thread.

mod table;

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use clap::Args;
use tokio::task::spawn_blocking;
use xtask::load::Spec;
use xtask::load::generate::Load;
use xtask::services::{Cache, Options, Running};

use self::table::{Encoding, Row};
use super::child::{self, Child};
use super::worker::{Line, Measured, Mode};
use super::{check_only, floor, scratch, tell, write_json};

#[derive(Debug, Args)]
pub(crate) struct BigQueryArguments {
    /// Records of a run
    #[arg(long, default_value_t = 2_000_000)]
    records: u64,
    /// Pairs of floor and pipeline; the median counts
    #[arg(long, default_value_t = 3)]
    pairs: usize,
    /// Only cases whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Where servers and spool keep their data [default: the system's directory for temporary files]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Write the rows as JSON to this file
    #[arg(long)]
    json: Option<PathBuf>,
}

/// How rows are delivered, and over how many connections.
const CASES: [(Mode, usize); 6] = [
    (Mode::ExactlyOnce, 1),
    (Mode::ExactlyOnce, 2),
    (Mode::ExactlyOnce, 4),
    (Mode::AtLeastOnce, 1),
    (Mode::AtLeastOnce, 2),
    (Mode::AtLeastOnce, 4),
];

/// The most that a record may cost, in floors.
const RATIO_MAX: f64 = 6.0;
/// The most memory a run may ever have, in MiB.
const PEAK_MIB_MAX: f64 = 192.0;
/// The least rows a second that one thread encodes.
const ROWS_PER_S_MIN: f64 = 250_000.0;

fn case_name((mode, connections): (Mode, usize)) -> String {
    format!("{}/{connections}-connections", child::name(&mode))
}

struct Bench {
    running: Running,
    arguments: BigQueryArguments,
    scratch: tempfile::TempDir,
    runs: usize,
}

impl BigQueryArguments {
    pub(super) async fn run(self) -> Result<()> {
        check_only(&self.only, &CASES.map(case_name))?;
        let scratch = scratch(self.data.as_deref())?;
        tell("starting Kafka");
        let running = Running::start(&Cache::from_env()?, &Options::at(scratch.path())).await?;
        let mut bench = Bench { running, arguments: self, scratch, runs: 0 };
        let outcome = bench.cases().await;
        bench.running.stop().await?;
        let (rows, encoding) = outcome?;
        table::print(&rows, &encoding);
        let json = serde_json::json!({ "bigquery": rows, "encoding": encoding });
        write_json(bench.arguments.json.as_deref(), &json)?;
        let mut over: Vec<&str> = rows.iter().filter(|row| !row.is_within()).map(Row::case).collect();
        over.extend((!encoding.is_within()).then_some("encoding"));
        ensure!(over.is_empty(), "over their limits: {}", over.join(", "));
        Ok(())
    }
}

impl Bench {
    async fn cases(&mut self) -> Result<(Vec<Row>, Encoding)> {
        let (only, pairs) = (self.arguments.only.clone(), self.arguments.pairs);
        let mut encodings = Vec::new();
        for pair in 1..=pairs {
            tell(&format!("encoding {pair}/{pairs}"));
            let mut command = child::this_program("rows")?;
            command.args(["--records", &self.arguments.records.to_string()]);
            command.arg("--spool-dir").arg(self.scratch.path().join("rows"));
            encodings.push(Child::spawn(&command)?.done().await?);
        }
        let spec = Spec { records: self.arguments.records, ..Spec::default() };
        self.produce(&spec).await?;
        let mut rows = Vec::new();
        for (mode, connections) in CASES {
            let name = case_name((mode, connections));
            if name.contains(&only) {
                rows.push(self.case(name, mode, connections, &spec).await?);
            }
        }
        Ok((rows, Encoding::new(&encodings)?))
    }

    async fn produce(&self, spec: &Spec) -> Result<()> {
        tell(&format!("producing {} records", spec.records));
        self.running.kafka.topics()?.recreate(TOPIC, spec.partitions.get(), &[]).await?;
        let (load, brokers) = (Load::of(spec.clone(), TOPIC), self.running.kafka.brokers());
        spawn_blocking(move || load.produce(&brokers)).await??;
        Ok(())
    }

    async fn case(&mut self, name: String, mode: Mode, connections: usize, spec: &Spec) -> Result<Row> {
        let pairs = self.arguments.pairs;
        let (mut floors, mut runs, mut fakes) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 1..=pairs {
            tell(&format!("{name} {pair}/{pairs}: floor"));
            floors.push(floor(&self.running.kafka.brokers(), spec, TOPIC).await?);
            tell(&format!("{name} {pair}/{pairs}: pipeline"));
            let (run, fake) = self.pair(mode, connections).await?;
            // Without a broken connection nothing is sent twice, at least once or not.
            ensure!(
                fake.records == spec.records,
                "{name}: {} rows are visible of {} records",
                fake.records,
                spec.records
            );
            runs.push(run);
            fakes.push(fake);
        }
        Row::new(name, &floors, &runs, &fakes)
    }

    /// A pipeline and the BigQuery that it writes to.
    async fn pair(&mut self, mode: Mode, connections: usize) -> Result<(Measured, Measured)> {
        self.runs += 1;
        let mut fake = Child::spawn(&child::this_program("fake-bigquery")?)?;
        let Line::Serving { rest, grpc } = fake.next().await? else {
            bail!("a BigQuery does not say where it is")
        };
        let mut command = child::this_program("tables")?;
        command
            .args(["--brokers", &self.running.kafka.brokers()])
            .args(["--topic", TOPIC])
            .args(["--group", &format!("bigquery-{}", self.runs)])
            .args(["--rest", &rest])
            .args(["--grpc", &grpc])
            .args(["--mode", &child::name(&mode)])
            .args(["--connections", &connections.to_string()])
            .arg("--spool-dir")
            .arg(self.scratch.path().join("spool"));
        let run = Child::spawn(&command)?.done().await?;
        fake.ask()?;
        Ok((run, fake.done().await?))
    }
}

const TOPIC: &str = "events";
