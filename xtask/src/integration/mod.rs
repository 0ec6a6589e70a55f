//! `cargo xtask integration`: pipelines in processes of their own against a real broker and a real S3 server, in all kinds of
//! trouble. Every scenario ends with an audit of what is in the bucket against what is in the topic.

mod data;
mod gate;
mod host;
mod kafka;
mod marks;
mod member;
mod processes;
mod proof;
mod scenario;
mod store;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use xtask::services::{self, Cache, Running};

use self::data::{mistakes, poison, quiet, tail, timestamps, volume};
use self::host::{bits, clock, disk, files, removed};
use self::kafka::broker;
use self::processes::zombie::{self, Moment};
use self::processes::{kill, members, shutdown, storm};
use self::proof::{Heads, Outcome, Proof, bound_at_95_percent};
use self::scenario::Site;
use self::store::{faults, outage, peers};

#[derive(Debug, Args)]
pub(crate) struct IntegrationCommand {
    /// A slice of at most 12 minutes on two busy cores: smaller counts, all kinds of trouble
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
    /// SIGSTOP between the intent and the first object, past the session timeout, then SIGCONT
    ZombieA,
    /// SIGSTOP between the first object and the last, past the session timeout, then SIGCONT
    ZombieB,
    /// The same under the consumer protocol of KIP-848
    #[value(name = "zombie-848")]
    Zombie848,
    /// Two members join and leave
    Members,
    /// The same under the consumer protocol of KIP-848
    #[value(name = "members-848")]
    Members848,
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
    /// The broker is killed and comes back
    Broker,
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
}

impl Scenario {
    async fn run(self, site: &mut Site) -> Result<Outcome> {
        match self {
            Self::Volume => Box::pin(volume::run(site)).await,
            Self::Kill => Box::pin(kill::run(site)).await,
            Self::ZombieA => {
                Box::pin(zombie::run(site, "zombie-a", Moment::BeforePublishing, "classic")).await
            }
            Self::ZombieB => Box::pin(zombie::run(site, "zombie-b", Moment::Publishing, "classic")).await,
            Self::Zombie848 => {
                Box::pin(zombie::run(site, "zombie-848", Moment::Publishing, "consumer")).await
            }
            Self::Members => Box::pin(members::run(site, "classic")).await,
            Self::Members848 => Box::pin(members::run(site, "consumer")).await,
            Self::Storm => Box::pin(storm::run(site)).await,
            Self::Outage => Box::pin(outage::run(site)).await,
            Self::S3Faults => Box::pin(faults::run(site)).await,
            Self::SecondComplete => Box::pin(peers::second_complete(site)).await,
            Self::LostCompleteAnswer => Box::pin(peers::lost_complete_answer(site)).await,
            Self::RecoveryCost => Box::pin(peers::recovery_cost(site)).await,
            Self::Broker => Box::pin(broker::run(site)).await,
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
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

/// The most a scenario may take; whatever hangs is a failure with a name.
const SCENARIO_LIMIT: Duration = Duration::from_mins(8);

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
        let scenarios =
            if self.only.is_empty() { Scenario::value_variants().to_vec() } else { self.only.clone() };
        let seed = self.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
        let dir = self.directory()?;
        say(format_args!(
            "seed {seed}: `cargo xtask integration{} --seed {seed}` plays it again; logs in {}",
            if self.ci { " --ci" } else { "" },
            dir.path().display()
        ));
        let servers = Running::start(&Cache::from_env()?, &services::Options::at(dir.path())).await;
        let mut site = Site {
            servers: servers.context("the servers cannot be started")?,
            spools: dir.path().join("spools"),
            logs: dir.path().join("logs"),
            seed,
            ci: self.ci,
            keep: self.keep,
        };
        std::fs::create_dir_all(&site.logs)?;
        let mut verdicts = Vec::new();
        for scenario in scenarios {
            verdicts.push(Verdict::of(scenario, &mut site).await);
        }
        let stopped = site.servers.stop().await;
        let failed = verdicts.iter().filter(|verdict| !verdict.passed()).count();
        if self.keep || failed > 0 {
            say(format_args!("data and logs are kept in {}", dir.keep().display()));
        } else {
            dir.close().context("the run's directory cannot be removed")?;
        }
        say(format_args!("\n{:<20} {:>7}  verdict", "scenario", "seconds"));
        for verdict in &verdicts {
            say(format_args!("{verdict}"));
        }
        say(format_args!("{} passed, {failed} failed", verdicts.len() - failed));
        print_table(&verdicts);
        stopped?;
        Ok(ExitCode::from(u8::from(failed > 0)))
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

/// Memory that a program could still get, in bytes; 0 if the kernel does not say.
fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// How a scenario came out.
#[derive(Debug)]
struct Verdict {
    scenario: Scenario,
    took: Duration,
    outcome: Result<Outcome>,
}

impl Verdict {
    /// Runs a scenario and prints its line.
    async fn of(scenario: Scenario, site: &mut Site) -> Self {
        tracing::info!("{scenario}");
        let started = Instant::now();
        let outcome = tokio::time::timeout(SCENARIO_LIMIT, scenario.run(site)).await;
        let limit = SCENARIO_LIMIT.as_secs();
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
        Self { scenario, took: started.elapsed(), outcome }
    }

    fn passed(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Outcome::is_clean)
    }

    fn proofs(&self) -> &[Proof] {
        self.outcome.as_ref().map_or(&[], |outcome| &outcome.proofs)
    }
}

/// Fault by fault. Trials within one scenario share a topic, so they count as its trials and the bound is for one kind of fault.
fn print_table(verdicts: &[Verdict]) {
    say(format_args!("\n{Heads}  failures per run, at 95 %"));
    for proof in verdicts.iter().flat_map(Verdict::proofs) {
        let bound = if proof.is_clean() {
            format!("< 3/{} = {:.3}", proof.runs, bound_at_95_percent(proof.runs))
        } else {
            "FAILED".to_owned()
        };
        say(format_args!("{proof}  {bound}"));
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.passed() { "passed" } else { "FAILED" };
        write!(f, "{:<20} {:>7.1}  {verdict}", self.scenario, self.took.as_secs_f64())?;
        match &self.outcome {
            Ok(_) => Ok(()),
            // The rest of it was printed when it happened.
            Err(error) => write!(f, "  {}", error.to_string().lines().next().unwrap_or_default()),
        }
    }
}

#[expect(clippy::print_stdout, reason = "what a run finds out goes to its standard output")]
fn say(line: fmt::Arguments<'_>) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(outcome: Result<Outcome>) -> Verdict {
        Verdict { scenario: Scenario::ZombieA, took: Duration::from_secs(7), outcome }
    }

    #[test]
    fn a_verdict_is_one_line() {
        let failed = verdict(Err(anyhow::anyhow!("worker one is gone\nand its log\nhas lines"))).to_string();
        assert_eq!(failed, "zombie-a                 7.0  FAILED  worker one is gone");
    }
}
