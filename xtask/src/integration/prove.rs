//! `cargo xtask prove`: everything there is, and one table of what it shows.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{IntegrationCommand, say};

#[derive(Debug, Args)]
pub(crate) struct ProveCommand {
    /// The first seed of everything random [default: a random one, printed]
    #[arg(long)]
    seed: Option<u64>,
    /// So many seeds, one after the other: the runs of each kind of fault add up
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
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
        let Self { seed, seeds, keep, data, json } = self;
        let whole = IntegrationCommand { ci: false, only: Vec::new(), seed, keep, data };
        let table = whole.table(seeds).await?;
        say(format_args!("\n{table}"));
        if let Some(path) = json {
            let text = serde_json::to_vec_pretty(&table)?;
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(ExitCode::from(u8::from(!table.is_clean())))
    }
}
