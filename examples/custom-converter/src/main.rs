//! Lines of a fixed width out of Kafka, rows of JSON by sensor, and a check of what arrived.
//!
//! ```text
//! cargo run                   everything embedded: broker, records, sink
//! ```
//!
//! The part to copy is the library, `fixed_width.rs`, and [`pipeline`] to see where it goes. Every hundredth record is cut short on
//! its way into Kafka: it is skipped and counted, and its neighbours arrive. With dead letters it would be kept instead.

mod broker;
mod shelf;

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use aqueduct::Batched;
use aqueduct::prelude::*;
use clap::Parser;
use tracing_subscriber::EnvFilter;

use broker::{Broker, RECORDS_MAX, Reading, TOPIC, readings};
use shelf::Shelf;

/// Lines of a fixed width out of Kafka through a converter of one's own
#[derive(Debug, Parser)]
struct Args {
    /// How many records to produce
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(100..=i64::from(RECORDS_MAX)))]
    records: u32,
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

/// Whether everything arrived that could.
async fn demo(args: &Args) -> Result<bool> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let broker = Broker::start()?;
    broker.produce(args.records).await?;
    println!("{} records produced to {TOPIC} on an embedded broker", args.records);

    let shelf = Shelf::default();
    let pipeline = pipeline(&broker.address(), scratch.path(), shelf.clone())?;
    let report = pipeline.run(std::future::pending()).await.context("the pipeline stopped")?;

    let damaged = Reading::all(args.records).filter(|reading| reading.is_damaged()).count() as u64;
    let (rows, wrong) = shelf.compare(Reading::all(args.records).filter(|reading| !reading.is_damaged()));
    let lost = u64::from(args.records) - damaged - rows;
    println!("rows {rows}, lost {lost}, wrong {wrong}, damaged and skipped {} of {damaged}", report.skipped);
    if let Some((sensor, row)) = shelf.example() {
        println!("such as, of {sensor}: {row}");
    }
    Ok(lost == 0 && wrong == 0 && report.skipped == damaged)
}

/// The converter in its place: fields for the layout come out of it as they do out of any other.
fn pipeline(brokers: &str, spool: &std::path::Path, shelf: Shelf) -> Result<Pipeline> {
    let source = KafkaSource::builder()
        .brokers(brokers)
        .group("readings")
        .topics([TOPIC])
        .start(StartAt::Earliest)
        .until_end()
        .build()?;
    let pipeline = Pipeline::from(source)
        .convert(readings())
        .partition(ByField::new("sensor")?)
        .sink(Batched::new(shelf))
        .on_poison(OnPoison::Skip)
        .name("custom-converter")
        .spool_dir(spool)
        .build()?;
    Ok(pipeline)
}
