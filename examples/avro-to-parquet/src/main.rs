//! Avro out of Kafka with a schema registry, Parquet by day into S3.
//!
//! ```text
//! cargo run                                              everything embedded, then checked by a reader that is not ours
//! cargo run -- --brokers … --registry … --bucket …       on your servers, until Ctrl-C
//! ```
//!
//! The part to copy is [`pipeline`]. Two producers write two versions of the schema, record by record; every day has one file a
//! segment all the same, because the older version is shown as the newer one.

mod args;
mod audit;
mod embedded;
mod orders;
mod pipeline;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use aqueduct::prelude::*;
use args::Args;
use clap::Parser as _;
use embedded::{ACCESS_KEY, BUCKET, SECRET_KEY, Servers};
use orders::Order;
use pipeline::{Origin, PREFIX};
use tikv_jemallocator::Jemalloc;
use tracing_subscriber::EnvFilter;

/// With thousands of paths open, what glibc's allocator costs is a third of the whole.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let ended = match (&args.brokers, &args.registry, &args.bucket) {
        (Some(brokers), Some(registry), Some(bucket)) => archive(&args, brokers, registry, bucket).await,
        _ => demo(&args).await,
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// On servers of one's own, until Ctrl-C.
async fn archive(args: &Args, brokers: &str, registry: &str, bucket: &str) -> Result<bool> {
    let mut store =
        S3Sink::builder().bucket(bucket).region(&args.region).prefix(PREFIX).format(pipeline::format());
    if let Some(endpoint) = &args.endpoint {
        store = store.endpoint(endpoint);
    }
    let origin = Origin {
        brokers: brokers.to_owned(),
        group: args.group.clone(),
        topic: args.topic.clone(),
        registry: registry.to_owned(),
        until_end: false,
    };
    let pipeline = pipeline::build(&origin, store, &std::env::temp_dir()).await?;
    println!("guarantee  {}", pipeline.guarantee());
    let report = pipeline.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
    println!("{report}");
    Ok(true)
}

/// On embedded servers. Whether everything arrived, once and as it was produced.
async fn demo(args: &Args) -> Result<bool> {
    let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
    let (root, spool) = (directory.path().join("s3"), directory.path().join("spool"));
    std::fs::create_dir_all(&spool).context("cannot make the spool's directory")?;
    let servers = Servers::start(&args.topic, &root).await?;
    servers.produce(&args.topic, args.orders).await?;
    println!("{} orders produced in two versions of their schema, record by record", args.orders);

    let store = S3Sink::builder()
        .bucket(BUCKET)
        .region(&args.region)
        .endpoint(&servers.s3)
        .credentials(ACCESS_KEY, SECRET_KEY.to_owned())
        .prefix(PREFIX)
        .format(pipeline::format());
    let origin = Origin {
        brokers: servers.brokers(),
        group: args.group.clone(),
        topic: args.topic.clone(),
        registry: servers.registry.url(),
        until_end: true,
    };
    let pipeline = pipeline::build(&origin, store, &spool).await?;
    println!("guarantee  {}", pipeline.guarantee());
    let report = pipeline.run(std::future::pending()).await.context("the pipeline stopped")?;

    let damaged = Order::all(args.orders).filter(|order| order.is_damaged()).count() as u64;
    let sound = Order::all(args.orders).filter(|order| !order.is_damaged());
    let found = audit::check(&root.join(BUCKET), sound)?;
    println!("columns    {}", found.columns);
    println!(
        "{} files, {} rows: lost {}, duplicated {}, misplaced {}, altered {}; damaged and skipped {} of {damaged}",
        found.files, found.rows, found.lost, found.duplicated, found.misplaced, found.altered, report.skipped
    );
    Ok(found.is_clean() && report.skipped == damaged)
}
