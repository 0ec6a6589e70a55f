//! `cargo xtask sim`: many seeds of the deterministic simulation, or one with its trace.

use std::fmt;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use aqueduct_sim::{Scenario, simulate, sweep};
use clap::Args;
use tokio::task::spawn_blocking;

#[derive(Debug, Args)]
pub(crate) struct SimCommand {
    /// How many seeds
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only this one, with everything that happens in it
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
}

impl SimCommand {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        spawn_blocking(move || match self.seed {
            Some(seed) => replay(seed),
            None => many(self.first, self.seeds),
        })
        .await
        .map_err(Into::into)
    }
}

fn replay(seed: u64) -> ExitCode {
    let outcome = simulate(Scenario::from_seed(seed), true);
    for line in &outcome.trace {
        say(format_args!("{line}"));
    }
    say(format_args!("{:?}", outcome.scenario));
    say(format_args!("trace={:016x} events={}", outcome.trace_hash, outcome.events));
    verdict(outcome.violation.map(|violation| (seed, violation)))
}

fn many(first: u64, seeds: u64) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let started = Instant::now();
    let summary = sweep(first..first.saturating_add(seeds), threads);
    let seconds = started.elapsed().as_secs_f64();
    for (kind, count) in &summary.injected {
        say(format_args!("{count:>9}  {kind}"));
    }
    let (rows, objects, commits) = (summary.rows, summary.objects, summary.commits);
    say(format_args!(
        "seeds={} first={first} seconds={seconds:.1} simulated_hours={:.1} rows={rows} objects={objects} commits={commits}",
        summary.seeds,
        summary.simulated.as_secs_f64() / 3600.0,
    ));
    verdict(summary.failed.and_then(|failed| Some((failed.scenario.seed, failed.violation?))))
}

fn verdict(failed: Option<(u64, String)>) -> ExitCode {
    let Some((seed, violation)) = failed else { return ExitCode::SUCCESS };
    say(format_args!("seed {seed} FAILED: {violation}"));
    say(format_args!("replay it with: cargo xtask sim --seed {seed}"));
    ExitCode::FAILURE
}

#[expect(clippy::print_stdout, reason = "what a command finds out goes to its standard output")]
fn say(line: fmt::Arguments<'_>) {
    println!("{line}");
}
