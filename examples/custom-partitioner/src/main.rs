//! Events of many tenants out of Kafka, laid out by tenant and day, and a check of every place.
//!
//! ```text
//! cargo run                   everything embedded: broker, records, sink
//! ```
//!
//! The part to copy is the library, `by_tenant.rs`, and [`pipeline`] to see where it goes. Every record is read twice, by two
//! groups with other segments and with the tenants configured in another order: each has to get the route it had.

mod broker;
mod shelf;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use aqueduct::Batched;
use aqueduct::prelude::*;
use clap::Parser;
use custom_partitioner::by_tenant::{ByTenant, LayoutError};
use tracing_subscriber::EnvFilter;

use broker::{Broker, Event, Owner, RECORDS_MAX, TOPIC};
use shelf::{Audit, Shelf};

/// Events of many tenants through a partitioner of one's own
#[derive(Debug, Parser)]
struct Args {
    /// How many records to produce
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1_000..=i64::from(RECORDS_MAX)))]
    records: u32,
}

/// Tenants with routes of their own, and how many.
const OWN: [(&str, u32); 2] = [("acme", 4), ("globex", 1)];
/// Shards of all the others.
const SHARED: u32 = 16;

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

/// Whether every record is where it belongs, however often it is asked.
async fn demo(args: &Args) -> Result<bool> {
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let broker = Broker::start()?;
    broker.produce(args.records).await?;
    println!("{} records produced to {TOPIC} on an embedded broker", args.records);

    let (brokers, spool) = (broker.address(), scratch.path());
    let (first, second) = (Shelf::default(), Shelf::default());
    let report = run(&brokers, spool, "archive", layout(&OWN)?, MaxRecords(5_000), &first).await?;
    let reversed: Vec<_> = OWN.into_iter().rev().collect();
    run(&brokers, spool, "again", layout(&reversed)?, MaxRecords(333), &second).await?;

    let (rows, mut audit) = (first.rows(), Audit::default());
    rows.values().for_each(|placed| audit.row(placed, &OWN));
    println!("tenant     shards    rows");
    for (tenant, (shards, rows)) in &audit.tenants {
        println!("{tenant:9}  {:6}  {rows:6}", shards.len());
    }
    let disputed = Event::all(args.records).filter(|event| event.owner() == Owner::Disputed).count() as u64;
    let again = second.rows();
    let elsewhere = rows.iter().filter(|(at, placed)| again.get(*at) != Some(*placed)).count();
    let lost = audit.lost(args.records);
    println!("rows {}, lost {lost}, misplaced {}", rows.len(), audit.misplaced);
    let (routes, plain) = (audit.routes.len(), Event::tenants_and_days(args.records));
    println!("in {routes} routes; with one for each tenant and day it would be {plain}");
    println!("of two tenants and refused {} of {disputed}", report.skipped);
    println!("read again by another group: rows {}, elsewhere {elsewhere}", again.len());

    // A shard that nothing comes to, or one that nobody asked for, is a defect of the hash.
    let shards = |tenant: &str| audit.tenants.get(tenant).map_or(0, |(shards, _)| shards.len());
    let mut expected = OWN.into_iter().chain([("_shared", SHARED), ("_none", 1)]);
    let are_used = expected.all(|(tenant, count)| shards(tenant) == count as usize);
    if !are_used {
        println!("the numbers of shards are not those that were asked for");
    }
    let is_clean = (lost, audit.misplaced, elsewhere) == (0, 0, 0) && again.len() == rows.len();
    Ok(is_clean && report.skipped == disputed && are_used)
}

fn layout(own: &[(&str, u32)]) -> Result<ByTenant, LayoutError> {
    let layout = ByTenant::named("tenant", "meta.tenant")?.shared(SHARED)?;
    own.iter().try_fold(layout, |layout, (tenant, shards)| layout.own(tenant, *shards))
}

async fn run(
    brokers: &str,
    spool: &Path,
    group: &str,
    layout: ByTenant,
    rotation: MaxRecords,
    shelf: &Shelf,
) -> Result<Report> {
    let pipeline = pipeline(brokers, spool, group, layout, rotation, shelf.clone())?;
    pipeline.run(std::future::pending()).await.with_context(|| format!("the pipeline of {group} stopped"))
}

/// The partitioner in its place: one of several levels, as those that come with the library are. What it refuses is counted;
/// with dead letters it would be kept.
fn pipeline(
    brokers: &str,
    spool: &Path,
    group: &str,
    layout: ByTenant,
    rotation: MaxRecords,
    shelf: Shelf,
) -> Result<Pipeline> {
    let source = KafkaSource::builder()
        .brokers(brokers)
        .group(group)
        .topics([TOPIC])
        .start(StartAt::Earliest)
        .until_end()
        .build()?;
    let pipeline = Pipeline::from(source)
        .convert(Json::new())
        .partition(chain((layout, ByTime::joda("'day'=YYYY-MM-dd", "UTC")?)))
        .sink(Batched::new(shelf))
        .rotate(rotation)
        .on_poison(OnPoison::Skip)
        .require(Guarantee::ExactlyOnce)
        .name(group)
        .spool_dir(spool)
        .build()?;
    Ok(pipeline)
}
