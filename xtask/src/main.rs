//! `cargo xtask`: the servers, loads and audits of the workspace's integration runs and benchmarks.

mod commands;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::commands::{AuditCommand, ProduceCommand, ServicesCommand};

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
    /// Bring up or take down Apache Kafka and an S3 server on loopback
    #[command(subcommand)]
    Services(ServicesCommand),
    /// Produce generated events to a topic
    Produce(ProduceCommand),
    /// Count what became of a topic's events in a bucket; fails unless each is there once, in order and unchanged
    Audit(AuditCommand),
}

impl Command {
    async fn run(self) -> Result<ExitCode> {
        match self {
            Self::Services(command) => command.run().await,
            Self::Produce(command) => command.run().await,
            Self::Audit(command) => command.run().await,
        }
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,xtask=info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    tokio::select! {
        result = arguments.command.run() => result,
        // The command's future is dropped, and with it the servers it owns.
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
    }
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
