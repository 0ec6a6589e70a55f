//! Kafka to S3 in one command.
//!
//! ```text
//! cargo run --release                     the demo: everything embedded, ends with an audit
//! cargo run --release -- --brokers …      the same pipeline on your own servers
//! ```
//!
//! [`pipeline`] is the part to copy. The rest is the demo around it: [`demo`] starts this same program three more
//! times, as [`broker`], [`storage`] and pipeline, and [`verify`] reads back what they did to the [`events`].

mod args;
mod broker;
mod child;
mod demo;
mod events;
mod pipeline;
mod progress;
mod storage;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use args::{Args, Role, Secrets, Servers};
use clap::Parser as _;
use indicatif::{BinaryBytes, HumanCount};
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::EnvFilter;

/// With thousands of paths open, what glibc's allocator costs is a third of the whole.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    match start(Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn start(args: Args) -> Result<bool> {
    match (args.role, args.servers) {
        (None, None) => return demo::run(&args.demo).await,
        (None, Some(servers)) => own_servers(&servers, &args.secrets).await?,
        (Some(Role::Broker { topic, partitions }), _) => broker::serve(&topic, partitions).await?,
        (Some(Role::Storage { bucket, keep }), _) => storage::serve(&bucket, keep.as_deref()).await?,
        (Some(Role::Pipeline(mut worker)), _) => {
            // This process's own, so that it goes away with it, however the parent ends.
            let spool = tempfile::Builder::new().prefix("quickstart-spool-").tempdir()?;
            worker.servers.spool = Some(spool.path().to_owned());
            let pipeline = pipeline::build(&worker.servers, &worker.secrets).await?;
            let handle = pipeline.handle();
            let shutdown = async {
                if !child::told_to_end().await {
                    // Orphaned, and so are its servers: there is nothing left to publish to.
                    handle.abort().await;
                }
            };
            let summary = pipeline::run(pipeline, Some(worker.expect), shutdown).await?;
            writeln!(std::io::stdout(), "{}", serde_json::to_string(&summary)?)?;
        }
    }
    Ok(true)
}

/// The pipeline on servers that are not ours: no events are made up, nothing is audited.
async fn own_servers(servers: &Servers, secrets: &Secrets) -> Result<()> {
    let pipeline = pipeline::build(servers, secrets).await?;
    println!("{} → s3://{}/{}, {}", servers.topic, servers.bucket, servers.prefix, pipeline.guarantee());
    if !servers.until_end {
        println!("Ctrl-C publishes what has been read and ends");
    }
    let shutdown = async {
        if let Err(error) = child::signalled().await {
            eprintln!("error: {error:#}");
        }
    };
    let summary = pipeline::run(pipeline, None, shutdown).await?;
    println!(
        "{} records in {} objects of {} together, {} records/s",
        HumanCount(summary.durable),
        HumanCount(summary.objects),
        BinaryBytes(summary.bytes),
        HumanCount(summary.records_per_s())
    );
    // Nothing is lost, but whoever waits for the end should know that this is not it.
    ensure!(
        summary.durable >= summary.records,
        "{} records were read and not archived by this process: run it again, unless another member of the group {} \
         is at work on them",
        summary.records - summary.durable,
        servers.group
    );
    Ok(())
}
