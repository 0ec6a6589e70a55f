//! A pipeline into tables of an emulator of BigQuery that is not ours, killed again and again, and what Google's own client finds
//! in them afterwards: counted by SQL, and every value of every row compared with what was produced.
//!
//! The emulator (`bqemulator`) is another reading of Google's documents than ours, and in places a simpler one:
//!
//! - it knows no `RECORD`, no `BIGNUMERIC` and no refused rows in its write interface, so the tables are flat and no row is bad;
//! - `GetWriteStream` never has a commit time, and a stream that is committed again is in an invalid state instead of
//!   `STREAM_ALREADY_COMMITTED`: recovery then asks the table, which is the longer way;
//! - a commit ends the stream first and shows its rows a moment later. A successor that asked the table in between would find none.
//!   So nobody follows a killed process before its session has timed out: no static member takes part here;
//! - it copies a table whenever rows are added to it, so tables are small.

mod audit;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::task::{JoinHandle, spawn_blocking};
use xtask::load::generate::Load;
use xtask::tables::Tables as Client;

use self::audit::audit;
use super::kafka::pending::short_session;
use super::marks::Place;
use super::member::Member;
use super::processes::kill::ASSIGNMENT;
use super::processes::zombie::passed;
use super::proof::{Outcome, Proof};
use super::scenario::{Case, Site};
use crate::worker::{Options, Rotation, Tables};

const PROJECT: &str = "aqueduct";
const PUBLISHING: Duration = Duration::from_mins(1);
/// Everything that is left when the last process has been killed.
const DRAINED: Duration = Duration::from_mins(5);

/// Records, and how often the process that stores them is killed.
const WHOLE: (u64, u64) = (200_000, 24);
const SLICE: (u64, u64) = (40_000, 8);
/// Records a second: so that there are some left for the last process to be killed.
const RATE: (u64, u64) = (1_000, 800);

pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let (records, kills) = site.pick(WHOLE, SLICE);
    let case = Case::new(site, "bigquery", records).await?;
    let emulator = site.servers.bigquery.as_ref().context("no emulator of BigQuery was started")?;
    let dataset = format!("logs_{}", site.seed);
    let client = Client::of(emulator, PROJECT);
    let (of, named) = (client.clone(), dataset.clone());
    spawn_blocking(move || of.recreate(&named)).await??;
    let tables = Tables {
        rest: emulator.rest_endpoint(),
        grpc: emulator.grpc_endpoint(),
        project: PROJECT.to_owned(),
        dataset: dataset.clone(),
    };
    let options = Options { tables: Some(tables), ..short_session(case.options("worker")) };
    let producing = produce(&case, site.pick(RATE.0, RATE.1));
    let Killed { met, recovery } = kill(&case, site, options.clone(), kills).await?;
    let produced = producing.await??;
    ensure!(produced == records, "{produced} of {records} records were produced");
    let mut last = case.start(&options)?;
    recovered(&case, &mut last, &case.marks().await?).await?;
    case.drained(&[&last], DRAINED).await?;
    last.terminate().await?;
    let found = audit(client, dataset, case.scan().await?, case.spec.clone(), case.topic.clone()).await?;
    let sum = found.audit.records + found.audit.lost;
    ensure!(sum == records, "of {records} records the topic holds {sum}");
    let clustered: BTreeSet<_> = found.tables.iter().map(|table| table.clustered_by.len()).collect();
    ensure!(clustered == BTreeSet::from([2]), "tables were not made as they should be: {:?}", found.tables);
    if found.audit.is_clean() {
        case.remove().await?;
    }
    let detail = format!(
        "{kills} kills, {met} with a pending intent; {} tables, by SQL {} rows of {} records",
        found.tables.len(),
        found.tables.iter().map(|table| table.rows).sum::<u64>(),
        found.tables.iter().map(|table| table.distinct).sum::<u64>(),
    );
    let fault = "SIGKILL of a pipeline into BigQuery tables (bqemulator)";
    Ok(Outcome::default()
        .and(Proof { recovery: Some(recovery), ..Proof::of(fault, kills, found.audit, detail) }))
}

fn produce(case: &Case, rate: u64) -> JoinHandle<Result<u64>> {
    let load = Load { rate: Some(rate), ..Load::of(case.spec.clone(), &case.topic) };
    let brokers = case.brokers.clone();
    spawn_blocking(move || Ok(load.produce(&brokers)?.records))
}

struct Killed {
    /// How often an intent was pending then.
    met: u64,
    /// The longest time from the start of a process until it had finished what its predecessor had left.
    recovery: Duration,
}

/// Two of three times the process is killed a moment after a cut was written down, else at any moment.
async fn kill(case: &Case, site: &Site, mut options: Options, kills: u64) -> Result<Killed> {
    let mut random = StdRng::seed_from_u64(site.seed);
    let mut left: Vec<Place> = Vec::new();
    let mut killed = Killed { met: 0, recovery: Duration::ZERO };
    for round in 0..kills {
        let age = if round % 2 == 0 { 1_500 } else { 4_000 };
        options.rotation = vec![Rotation::AgeMs(age)];
        let mut worker = case.start(&options)?;
        killed.recovery = killed.recovery.max(recovered(case, &mut worker, &left).await?);
        if round % 3 == 2 {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..4_000))).await;
        } else {
            let cuts = worker.seen().cuts + random.random_range(0..3);
            worker.until("a pending intent", PUBLISHING, |seen| seen.cuts > cuts).await?;
            // A segment of eight tables is eight commits, each of some milliseconds.
            tokio::time::sleep(Duration::from_millis(random.random_range(0..30))).await;
        }
        worker.kill().await?;
        left = case.marks().await?;
        left.retain(|place| place.intent.is_some());
        tracing::info!(round, intents = left.len(), "killed");
        killed.met += u64::from(!left.is_empty());
    }
    ensure!(3 * killed.met >= kills, "only {} of {kills} kills met a pending intent", killed.met);
    Ok(killed)
}

/// Waits until `worker` has its partitions and has finished what its predecessor has left; answers how long that took.
async fn recovered(case: &Case, worker: &mut Member, left: &[Place]) -> Result<Duration> {
    let started = Instant::now();
    let partitions = case.partitions() as usize;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == partitions).await?;
    let pending: Vec<Place> = left.iter().copied().filter(|place| place.intent.is_some()).collect();
    passed(case, &pending, PUBLISHING).await?;
    Ok(started.elapsed())
}
