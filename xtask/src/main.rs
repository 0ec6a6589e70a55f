//! `cargo xtask`: the servers, loads and audits of the workspace's integration runs and benchmarks.

mod bench;
mod commands;
mod integration;
mod sim;
mod worker;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::EnvFilter;

use crate::bench::BenchCommand;
use crate::commands::{AuditCommand, ProduceCommand, ServicesCommand};
use crate::integration::{IntegrationCommand, ProveCommand};
use crate::sim::SimCommand;
use crate::worker::WorkerCommand;

/// With thousands of paths open, what glibc's allocator costs is a third of the whole; the examples say the same to whoever copies them.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Servers, loads and audits for Aqueduct",
    disable_help_subcommand = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Bring up or take down Apache Kafka, an S3 server and an emulator of BigQuery on loopback
    #[command(subcommand)]
    Services(ServicesCommand),
    /// Produce generated events to a topic
    Produce(ProduceCommand),
    /// Measure what a record costs
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Run pipelines on real servers through kills, zombies, outages and bad input; fails unless nothing is lost or duplicated
    Integration(IntegrationCommand),
    /// The whole integration run, with as many seeds as you like, as one table of faults; fails unless all of it is clean
    Prove(ProveCommand),
    /// Run whole pipelines in simulated time through faults that a seed decides; fails with the seed that broke a promise
    Sim(SimCommand),
    /// Count what became of a topic's events in a bucket; fails unless each is there once, in order and unchanged
    Audit(AuditCommand),
    /// The pipeline process of an integration run
    #[command(hide = true)]
    Worker(WorkerCommand),
}

impl Command {
    /// Whether thousands of pipelines are to fail on purpose: what they log of that would hide the result.
    fn is_simulated(&self) -> bool {
        matches!(self, Self::Sim(_))
    }

    async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Services(command) => command.run().await,
            Self::Produce(command) => command.run().await,
            Self::Bench(command) => command.run().await.map(|()| ExitCode::SUCCESS),
            Self::Integration(command) => command.run().await,
            Self::Prove(command) => command.run().await,
            Self::Sim(command) => command.run().await,
            Self::Audit(command) => command.run().await,
            Self::Worker(command) => command.run().await,
        }
    }
}

/// The SDK warns of every object of several parts that its checksum is not one of the whole; audits compute their own.
const DEFAULT_LOG: &str = "warn,xtask=info,aws_sdk_s3::http_response_checksum=error";

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let default = if arguments.command.is_simulated() { "off" } else { DEFAULT_LOG };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = arguments.command.run() => result,
            // The command's future is dropped, and with it the servers it owns.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        }
    });
    // A producer whose broker was killed with its owner would hold up the exit for minutes.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
