//! `cargo xtask prove`: everything there is, and one table of what it shows.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use aqueduct_sim::sweep;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use xtask::load::audit::Audit;

use super::proof::Outcome;
use super::{IntegrationCommand, say};

#[derive(Debug, Args)]
pub(crate) struct ProveCommand {
    /// The first seed of everything random [default: a random one, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// So many seeds, one after the other: the runs of each kind of fault add up
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// So many seeds of the simulation after that
    #[arg(long, default_value_t = 10_000, value_name = "SEEDS", value_parser = clap::value_parser!(u64).range(1..))]
    simulated: u64,
    /// Keep data, logs and buckets when it ends
    #[arg(long)]
    keep: bool,
    /// Directory for the servers' data [default: /dev/shm if it has room, else the system's for temporary files]
    #[arg(long)]
    data: Option<PathBuf>,
    /// Write the table as JSON to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl ProveCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            result = Box::pin(self.prove()) => result,
            // Servers and workers die with the future that owns them.
            _ = terminate.recv() => bail!("interrupted"),
        }
    }

    async fn prove(self) -> Result<ExitCode> {
        let Self { seed, seeds, simulated, keep, data, json } = self;
        let whole = IntegrationCommand { ci: false, only: Vec::new(), seed, keep, data };
        let mut table = whole.table(seeds).await?;
        let started = Instant::now();
        let outcome = tokio::task::spawn_blocking(move || simulation(simulated)).await?;
        table.add(0, "sim", started.elapsed(), &outcome);
        say(format_args!("\n{table}"));
        if let Some(path) = json {
            let text = serde_json::to_vec_pretty(&table)?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(ExitCode::from(u8::from(!table.is_clean())))
    }
}

/// The row of the simulation, from its first seed on as CI runs it: a run is a seed, in which many faults meet.
fn simulation(seeds: u64) -> Result<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let summary = sweep(0..seeds, threads);
    if let Some(failed) = summary.failed {
        let seed = failed.scenario.seed;
        bail!("seed {seed}: {}; `cargo xtask sim --seed {seed}`", failed.violation.unwrap_or_default());
    }
    let faults: u64 = summary.injected.values().sum();
    let hours = summary.simulated.as_secs() / 3600;
    let detail = format!("{faults} faults in {hours} simulated hours");
    // The simulation looks at every object and every commit itself, and fails if a row is missing or there twice.
    let audit = Audit { records: summary.rows, ..Audit::default() };
    say(format_args!("sim: {audit} ({detail})"));
    Ok(Outcome::of("simulated: everything at once, a seed a run", summary.seeds, audit, detail))
}
