//! Server logs out of Kafka into BigQuery tables by kind, exactly once.
//!
//! ```text
//! cargo run                                                            everything embedded, then counted
//! cargo run -- --brokers … --topic … --project … --dataset …           on your servers, until Ctrl-C or SIGTERM
//! cargo run -- --brokers … --topic … --project … --dataset … --check   count what is there, and end
//! ```
//!
//! The part to copy is [`pipeline`], with the lines it reads in [`mod@line`], and [`count`].

mod args;
mod count;
mod embedded;
mod line;
mod pipeline;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aqueduct::Handle;
use args::{Args, Servers};
use clap::Parser as _;
use embedded::Embedded;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let log = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(log).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let ended = match &args.servers {
        None => demo(args.lines).await,
        Some(servers) if servers.check => check(servers).await,
        Some(servers) => load(servers).await.map(|()| true),
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

/// On servers of one's own, until the topic's end or a signal: what is read by then is loaded first.
async fn load(servers: &Servers) -> Result<()> {
    let sink = pipeline::sink(servers).await?;
    let pipeline = pipeline::build(servers, sink)?;
    println!("{} → {}.{}, {}", servers.topic, servers.project, servers.dataset, pipeline.guarantee());
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            interrupted = tokio::signal::ctrl_c() => interrupted.unwrap_or_default(),
        }
    };
    let told = tokio::spawn(tell(pipeline.handle()));
    let report = pipeline.run(shutdown).await.context("the pipeline has stopped")?;
    told.abort();
    println!("{report}");
    Ok(())
}

/// A line every ten seconds, for whoever looks at the terminal. For everybody else there are metrics: see the README.
async fn tell(handle: Handle) {
    loop {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let totals = handle.status().totals;
        println!("{} lines read, {} loaded or set aside", totals.records, totals.durable);
    }
}

/// Counts what is there of what the group has loaded. Whether nothing is missing and nothing there twice.
async fn check(servers: &Servers) -> Result<bool> {
    let sink = pipeline::sink(servers).await?;
    let report = count::count(servers, &sink).await?;
    println!("{report}");
    Ok(report.is_complete())
}

/// On an embedded broker and an embedded BigQuery. Whether every line is where it belongs.
async fn demo(lines: u32) -> Result<bool> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let embedded = Embedded::start(scratch.path()).await?;
    let servers = embedded.servers();
    let damaged = embedded.produce(lines).await?;
    println!("{lines} lines produced to {} on an embedded broker, {damaged} of them damaged", servers.topic);
    load(servers).await?;
    let report = count::count(servers, &pipeline::sink(servers).await?).await?;
    println!("\n{report}");
    let total = report.total();
    ensure!(
        (total.due, total.dead_lettered) == (u64::from(lines), damaged),
        "of {lines} lines, {damaged} of them damaged, {} were due and {} have a letter",
        total.due,
        total.dead_lettered
    );
    Ok(report.is_complete())
}
