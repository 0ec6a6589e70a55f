//! Kafka into two sinks of one's own, and an audit of what arrived.
//!
//! ```text
//! cargo run                   everything embedded: broker, records, endpoint
//! cargo run -- --keep DIR     keeps the files
//! ```
//!
//! [`to_endpoint`] and [`to_directory`] are the parts to copy, beside the sinks themselves in the library. Both make it
//! hard for their sink: every fourth answer of the endpoint is lost, and the pipeline into the directory is given up in the
//! middle and started again.

mod audit;
mod broker;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aqueduct::Batched;
use aqueduct::prelude::*;
use clap::Parser;
use custom_sink::directory::DirectorySink;
use custom_sink::endpoint::Endpoint;
use custom_sink::http::HttpSink;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use audit::{Audit, Verdict};
use broker::{Broker, RECORDS_MAX, TOPIC};

/// Kafka into an HTTP endpoint and into local files, through two sinks of one's own
#[derive(Debug, Parser)]
struct Args {
    /// How many records to produce
    #[arg(long, default_value_t = 6_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(RECORDS_MAX)))]
    records: u32,
    /// Keep the files below this directory, which must be empty or not there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    match demo(&Args::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether everything arrived once.
async fn demo(args: &Args) -> Result<bool> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let files = args.keep.clone().unwrap_or_else(|| scratch.path().join("files"));
    let taken = files.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    ensure!(!taken, "{} is not empty: what is there would be counted", files.display());

    let broker = Broker::start()?;
    broker.produce(args.records).await?;
    println!("{} records produced to {TOPIC} on an embedded broker", args.records);

    let endpoint = Endpoint::start(NonZeroU64::new(4)).await.context("cannot start the endpoint")?;
    let (brokers, spool) = (broker.address(), scratch.path());
    let (_, (interrupted, stored)) =
        tokio::try_join!(to_endpoint(&brokers, spool, &endpoint), to_directory(&brokers, spool, &files),)?;

    let mut at_endpoint = Audit::default();
    for row in endpoint.rows() {
        at_endpoint.row(&row.value);
    }
    let mut in_files = Audit::default();
    let files_made = in_files.directory(&files.join("topics"))?;

    let traffic = endpoint.traffic();
    println!("{HEADER}");
    let http = at_endpoint.verdict(args.records);
    let way = format!(
        "{} requests; {} answers lost, so {} rows came again",
        traffic.requests, traffic.answers_lost, traffic.rows_again
    );
    print_row("http", http, &way);
    let directory = in_files.verdict(args.records);
    let way = format!(
        "{files_made} files; given up after {} records, {} cut segments finished by the second run",
        interrupted.durable, stored.recovered
    );
    print_row("directory", directory, &way);
    if let Some(kept) = &args.keep {
        println!("the files are below {}", kept.display());
    }
    Ok(http.is_clean() && directory.is_clean())
}

const HEADER: &str = "sink          rows  lost  duplicated  wrong  on the way";

fn print_row(sink: &str, verdict: Verdict, way: &str) {
    let Verdict { rows, lost, duplicated, wrong } = verdict;
    println!("{sink:9}  {rows:7}  {lost:4}  {duplicated:10}  {wrong:5}  {way}");
}

/// Rows to an endpoint, as they come.
async fn to_endpoint(brokers: &str, spool: &Path, endpoint: &Endpoint) -> Result<Report> {
    let sink = HttpSink { client: Client::builder(TokioExecutor::new()).build_http(), url: endpoint.url() };
    let pipeline = Pipeline::from(source(brokers, "to-endpoint")?)
        .convert(Json::new())
        .partition(ByKafkaPartition)
        .sink(Batched::new(sink))
        .rotate(MaxRecords(500))
        .name("to-endpoint")
        .spool_dir(spool)
        .require(Guarantee::ExactlyOnce)
        .build()?;
    pipeline.run(std::future::pending()).await.context("the pipeline to the endpoint stopped")
}

/// Rows into files by service. The first run is given up as soon as something is stored, whatever else is under way; the
/// second one goes on. Gives what each of them did.
async fn to_directory(brokers: &str, spool: &Path, root: &Path) -> Result<(Report, Report)> {
    let stored = Arc::new(Notify::new());
    let build = || -> Result<Pipeline> {
        let stored = Arc::clone(&stored);
        let pipeline = Pipeline::from(source(brokers, "to-directory")?)
            .convert(Json::new())
            .partition(ByField::new("service")?)
            .sink(DirectorySink::new(root))
            .rotate(MaxRecords(400))
            .name("to-directory")
            .spool_dir(spool)
            .require(Guarantee::ExactlyOnce)
            .on_published(move |_| stored.notify_one())
            .build()?;
        Ok(pipeline)
    };
    let first = build()?;
    let handle = first.handle();
    let give_up = async {
        stored.notified().await;
        handle.abort().await;
    };
    let (interrupted, ()) = tokio::join!(first.run(std::future::pending()), give_up);
    let interrupted = interrupted.context("the pipeline into the directory stopped")?;
    let second = build()?.run(std::future::pending()).await;
    Ok((interrupted, second.context("the second pipeline into the directory stopped")?))
}

/// Everything that is in the topic now, from its beginning where the group has not been yet.
fn source(brokers: &str, group: &str) -> Result<KafkaSource> {
    let source = KafkaSource::builder()
        .brokers(brokers)
        .group(group)
        .topics([TOPIC])
        .start(StartAt::Earliest)
        // The embedded broker waits for a session's length before it lets the second run in.
        .property("session.timeout.ms", "6000")
        .property("heartbeat.interval.ms", "500")
        .until_end()
        .build()?;
    Ok(source)
}
