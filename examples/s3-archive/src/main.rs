//! A permanent archive of a Kafka topic in S3: what a Kafka Connect user writes as JSON, as typed code.
//!
//! [`pipeline`] is the connector; the README's table leads from each of its properties to the line here.

mod args;
mod example;
mod pipeline;

use anyhow::{Context as _, Result, ensure};
use args::Args;
use clap::Parser as _;
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::EnvFilter;

/// With thousands of paths open, what glibc's allocator costs is a third of the whole.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> Result<()> {
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let pipeline = pipeline::build(&args).await?;
    println!("guarantee  {}", pipeline.guarantee());
    println!("layout     {}", example::key(&args.topic)?);
    if args.check {
        println!("every setting holds; nothing was connected");
        return Ok(());
    }
    let report = pipeline.run(shutdown()?).await?;
    println!("{report}");
    // Nothing is lost, but whoever waits for the end should know that this is not it.
    ensure!(
        report.durable >= report.records,
        "not all records that were read are archived: run it again, unless another member of the group is at work on them"
    );
    Ok(())
}

/// Resolves on Ctrl-C and on SIGTERM, which is what an orchestrator sends.
fn shutdown() -> Result<impl Future<Output = ()> + Send> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
