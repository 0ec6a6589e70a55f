//! `cargo xtask integration`: pipelines in processes of their own against a real broker and a real S3 server, in all kinds of
//! trouble. Every scenario ends with an audit of what is in the bucket against what is in the topic.

mod bigquery;
mod data;
mod formats;
mod gate;
mod host;
mod kafka;
mod marks;
mod matrix;
mod member;
mod objects;
mod processes;
mod proof;
mod prove;
mod redrive;
mod scenario;
mod store;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use xtask::process::available_memory;
use xtask::services::{self, Cache, Running};

use self::data::{mistakes, poison, quiet, tail, timestamps, volume};
use self::formats::{change, registry};
use self::host::{bits, clock, disk, files, removed};
use self::kafka::{
    broker, commit, compacted, coordinator, recreated, reset, retention, secured, static_member,
    transactions, two,
};
use self::processes::zombie::{self, Moment};
use self::processes::{failpoints, kill, members, rejoin, shutdown, storm};
use self::proof::{Outcome, Proof};
use self::scenario::Site;
use self::store::{faults, outage, peers};
use self::table::Table;

pub(crate) use self::prove::ProveCommand;

#[derive(Debug, Args)]
pub(crate) struct IntegrationCommand {
    /// A slice of a quarter of an hour on two cores: smaller counts, all kinds of trouble
    #[arg(long)]
    ci: bool,
    /// Only this scenario; may be given several times
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Scenario>,
    /// Seed of everything random [default: a random one, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Keep data, logs and buckets when it ends; the servers are stopped all the same
    #[arg(long)]
    keep: bool,
    /// Directory for the servers' data [default: /dev/shm if it has room, else the system's for temporary files]
    #[arg(long)]
    data: Option<PathBuf>,
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Nothing: many records through one process
    Volume,
    /// SIGKILL, time and again
    Kill,
    /// An abort at every failpoint, at its first hit and at its last
    Failpoints,
    /// SIGSTOP between the intent and the first object, past the session timeout, then SIGCONT
    ZombieA,
    /// SIGSTOP between the first object and the last, past the session timeout, then SIGCONT
    ZombieB,
    /// The same under the consumer protocol of KIP-848
    #[value(name = "zombie-848")]
    Zombie848,
    /// SIGSTOP past the session timeout, then the same partitions again
    ZombieRejoin,
    /// Three members join and leave
    Members,
    /// Three members are killed, frozen, asked to end and cut off, at random
    Storm,
    /// The S3 server is stopped for a while
    Outage,
    /// Every fault of every request to the S3 server
    S3Faults,
    /// 503 three times for the completion of a segment's second object
    #[value(name = "second-complete-503")]
    SecondComplete,
    /// A completion that has its effect and no answer
    LostCompleteAnswer,
    /// A crash when 3 objects of a segment are visible, and when 300 are
    RecoveryCost,
    /// SIGSTOP in the middle of an upload in parts that a successor aborts
    AbortedUpload,
    /// The broker is killed and comes back
    Broker,
    /// The broker dies with a commit under way
    BrokerCommit,
    /// The broker that coordinates the group dies, and another takes over; not in the slice
    Coordinator,
    /// The topic is compacted between a cut and its replay; not in the slice
    Compacted,
    /// Records are removed before they are stored
    Retention,
    /// A topic written in transactions, some of them aborted
    Transactions,
    /// The topic is deleted and created again
    Recreated,
    /// Two pipelines on one prefix
    TwoPipelines,
    /// The group's offsets are set by hand
    OperatorReset,
    /// TLS, SASL and client certificates; wrong ones; tokens that expire
    Secured,
    /// SIGKILL of a member that comes back under its name
    StaticMember,
    /// SIGTERM, time and again
    Shutdown,
    /// Wrong bucket, credentials, endpoint, broker, topic
    Mistakes,
    /// Records that cannot be processed
    Poison,
    /// A layout by a field that some records lack
    Timestamps,
    /// The topic ends in records of which nothing is stored
    TombstoneTail,
    /// The topic goes quiet
    Quiet,
    /// The spool's disk is too small, filled, out of files
    DiskFull,
    /// The spool directory is removed while it is used
    SpoolRemoved,
    /// A bit of the spool changes
    BitFlip,
    /// The wall clock is wrong, and jumps
    Clock,
    /// Few open files, many routes
    Fds,
    /// Versions of a schema record by record, while those who store them are killed
    SchemaChange,
    /// The schema registry is killed, frozen and fails, and does not know a schema
    Registry,
    /// SIGKILL of processes that drive letters again, two at a time, beside the pipeline
    Redrive,
    /// Every converter with every format, compression and layout; in the slice, every two of them
    Matrix,
    /// SIGKILL, time and again, of a pipeline into tables of an emulator of BigQuery
    #[value(name = "bigquery")]
    BigQuery,
}

impl Scenario {
    /// All of them; a slice leaves out what mostly waits for a server.
    fn all(slice: bool) -> Vec<Self> {
        let waits = |it: &&Self| matches!(it, Self::Coordinator | Self::Compacted);
        Self::value_variants().iter().filter(|it| !slice || !waits(it)).copied().collect()
    }

    /// The most it may take; whatever hangs is a failure with a name.
    fn limit(self) -> Duration {
        match self {
            // A whole run has more than a thousand pipelines.
            Self::Matrix => Duration::from_mins(30),
            // The emulator copies a table whenever rows are added to it.
            Self::BigQuery => Duration::from_mins(15),
            _ => Duration::from_mins(8),
        }
    }

    async fn run(self, site: &mut Site) -> Result<Outcome> {
        match self {
            Self::Volume => Box::pin(volume::run(site)).await,
            Self::Kill => Box::pin(kill::run(site)).await,
            Self::Failpoints => Box::pin(failpoints::run(site)).await,
            Self::ZombieA => {
                Box::pin(zombie::run(site, "zombie-a", Moment::BeforePublishing, "classic")).await
            }
            Self::ZombieB => Box::pin(zombie::run(site, "zombie-b", Moment::Publishing, "classic")).await,
            Self::Zombie848 => {
                Box::pin(zombie::run(site, "zombie-848", Moment::Publishing, "consumer")).await
            }
            Self::ZombieRejoin => Box::pin(rejoin::run(site)).await,
            Self::Members => Box::pin(members::run(site)).await,
            Self::Storm => Box::pin(storm::run(site)).await,
            Self::Outage => Box::pin(outage::run(site)).await,
            Self::S3Faults => Box::pin(faults::run(site)).await,
            Self::SecondComplete => Box::pin(peers::second_complete(site)).await,
            Self::LostCompleteAnswer => Box::pin(peers::lost_complete_answer(site)).await,
            Self::RecoveryCost => Box::pin(peers::recovery_cost(site)).await,
            Self::AbortedUpload => Box::pin(peers::aborted_upload(site)).await,
            Self::Broker => Box::pin(broker::run(site)).await,
            Self::BrokerCommit => Box::pin(commit::run(site)).await,
            Self::Coordinator => Box::pin(coordinator::run(site)).await,
            Self::Compacted => Box::pin(compacted::run(site)).await,
            Self::Retention => Box::pin(retention::run(site)).await,
            Self::Transactions => Box::pin(transactions::run(site)).await,
            Self::Recreated => Box::pin(recreated::run(site)).await,
            Self::TwoPipelines => Box::pin(two::run(site)).await,
            Self::OperatorReset => Box::pin(reset::run(site)).await,
            Self::Secured => Box::pin(secured::run(site)).await,
            Self::StaticMember => Box::pin(static_member::run(site)).await,
            Self::Shutdown => Box::pin(shutdown::run(site)).await,
            Self::Mistakes => Box::pin(mistakes::run(site)).await,
            Self::Poison => Box::pin(poison::run(site)).await,
            Self::Timestamps => Box::pin(timestamps::run(site)).await,
            Self::TombstoneTail => Box::pin(tail::run(site)).await,
            Self::Quiet => Box::pin(quiet::run(site)).await,
            Self::DiskFull => Box::pin(disk::run(site)).await,
            Self::SpoolRemoved => Box::pin(removed::run(site)).await,
            Self::BitFlip => Box::pin(bits::run(site)).await,
            Self::Clock => Box::pin(clock::run(site)).await,
            Self::Fds => Box::pin(files::run(site)).await,
            Self::SchemaChange => Box::pin(change::run(site)).await,
            Self::Registry => Box::pin(registry::run(site)).await,
            Self::Redrive => Box::pin(redrive::run(site)).await,
            Self::Matrix => Box::pin(matrix::run(site)).await,
            Self::BigQuery => Box::pin(bigquery::run(site)).await,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl IntegrationCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = Box::pin(self.run_all()) => result,
            // As Ctrl-C: servers and workers die with the future that owns them.
            _ = terminate.recv() => bail!("interrupted"),
        }
    }

    async fn run_all(self) -> Result<ExitCode> {
        let table = self.table(1).await?;
        say(format_args!("\n{table}"));
        Ok(ExitCode::from(u8::from(!table.is_clean())))
    }

    /// Runs the scenarios with `seeds` seeds, one after the other; what fails does not keep others from running.
    async fn table(&self, seeds: u64) -> Result<Table> {
        let scenarios = if self.only.is_empty() { Scenario::all(self.ci) } else { self.only.clone() };
        let first = self.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        let dir = self.directory()?;
        let options = services::Options::at(dir.path());
        let options = options.with_bigquery(scenarios.contains(&Scenario::BigQuery));
        let servers = Running::start(&Cache::from_env()?, &options).await;
        let mut site = Site {
            servers: servers.context("the servers cannot be started")?,
            registry: None,
            spools: dir.path().join("spools"),
            logs: dir.path().join("logs"),
            seed: first,
            ci: self.ci,
            keep: self.keep,
        };
        std::fs::create_dir_all(&site.logs)?;
        let mut table = Table::new(self.ci);
        for seed in first..first.saturating_add(seeds) {
            site.seed = seed;
            say(format_args!(
                "seed {seed}: `cargo xtask integration{} --seed {seed}` plays it again; logs in {}",
                if self.ci { " --ci" } else { "" },
                site.logs.display()
            ));
            for scenario in &scenarios {
                let verdict = Verdict::of(*scenario, &mut site).await;
                table.add(seed, &scenario.to_string(), verdict.took, &verdict.outcome);
                if verdict.outcome.is_err() {
                    site.repair().await?;
                }
            }
        }
        if let Some(registry) = &mut site.registry {
            registry.stop().await?;
        }
        let stopped = site.servers.stop().await;
        if self.keep || !table.is_clean() {
            say(format_args!("data and logs are kept in {}", dir.keep().display()));
        } else {
            dir.close().context("the run's directory cannot be removed")?;
        }
        stopped?;
        Ok(table)
    }

    fn directory(&self) -> Result<TempDir> {
        let parent = self.data.clone().unwrap_or_else(|| {
            let memory = PathBuf::from("/dev/shm");
            let room = rustix::fs::statvfs(&memory).map_or(0, |it| it.f_bavail.saturating_mul(it.f_frsize));
            // Its size is only a limit; what it holds has to fit into the machine's memory.
            if room.min(available_memory()) >= ROOM { memory } else { std::env::temp_dir() }
        });
        tempfile::Builder::new()
            .prefix("aqueduct-integration-")
            .disable_cleanup(self.keep)
            .tempdir_in(&parent)
            .with_context(|| format!("no directory can be made in {}", parent.display()))
    }
}

/// What the data of a whole run, the servers and the workers may take.
const ROOM: u64 = 8 << 30;

/// How a scenario came out.
#[derive(Debug)]
struct Verdict {
    took: Duration,
    outcome: Result<Outcome>,
}

impl Verdict {
    /// Runs a scenario and prints its line.
    async fn of(scenario: Scenario, site: &mut Site) -> Self {
        tracing::info!("{scenario}");
        let started = Instant::now();
        let outcome = tokio::time::timeout(scenario.limit(), scenario.run(site)).await;
        let limit = scenario.limit().as_secs();
        let outcome = outcome.unwrap_or_else(|_| Err(anyhow::anyhow!("it hangs: not done after {limit} s")));
        match &outcome {
            Ok(outcome) => {
                for Proof { audit, detail, .. } in &outcome.proofs {
                    say(format_args!("{scenario}: {audit} ({detail})"));
                    for finding in &audit.findings {
                        tracing::warn!("{scenario}: {finding}");
                    }
                }
            }
            Err(error) => say(format_args!("{scenario}: FAILED: {error:#}")),
        }
        Self { took: started.elapsed(), outcome }
    }
}

#[expect(clippy::print_stdout, reason = "what a run finds out goes to its standard output")]
fn say(line: fmt::Arguments<'_>) {
    println!("{line}");
}
