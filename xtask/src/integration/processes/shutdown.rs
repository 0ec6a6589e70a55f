//! A process that is asked to end and started again.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::integration::gate::Gate;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::Rotation;

/// SIGTERM in the middle of the flow, time and again. Every time the open segments are cut, published and committed, nothing is
/// left pending, and a restart goes on without a wait for a timeout.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let rounds = site.pick(6, 3);
    let mut random = StdRng::seed_from_u64(site.seed);
    let case = Case::new(site, "shutdown", 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(Duration::from_millis(60));
    let flow = case.flow(site.pick(4_000, 2_000));
    let mut options = case.options("worker");
    options.endpoint = gate.endpoint().clone();
    // Never by itself within a round: what is published was cut by the shutdown.
    options.rotation = vec![Rotation::AgeMs(60_000)];
    let (mut slowest, mut slowest_start) = (Duration::ZERO, Duration::ZERO);
    for round in 0..rounds {
        let mut worker = case.start(&options)?;
        worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
        slowest_start = slowest_start.max(worker.age());
        tokio::time::sleep(Duration::from_millis(random.random_range(500..3_000))).await;
        let asked = Instant::now();
        let summary = worker.terminate().await?;
        slowest = slowest.max(asked.elapsed());
        ensure!(
            summary.segments > 0 && summary.abandoned == 0,
            "round {round} was to publish what it had: {summary:?}"
        );
        let places = case.marks().await?;
        ensure!(places.iter().all(|place| place.intent.is_none()), "round {round} has left an intent");
    }
    ensure!(
        slowest_start < Duration::from_secs(5),
        "a restart waited {slowest_start:?} for its partitions: the one before has not left the group"
    );
    flow.stop().await?;
    options.rotation = vec![Rotation::AgeMs(500)];
    let worker = case.start(&options)?;
    case.drained(&[&worker], Duration::from_mins(1)).await?;
    worker.terminate().await?;
    let audit = case.audit(site).await?;
    let detail = format!(
        "{rounds} times SIGTERM, the slowest shutdown took {:.1} s, the slowest restart {:.1} s",
        slowest.as_secs_f64(),
        slowest_start.as_secs_f64()
    );
    Ok(Outcome::of("SIGTERM in the middle of the flow", rounds, audit, detail)
        .recovered_within(slowest_start))
}
