//! A process that is killed again and again.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::integration::gate::Gate;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::Rotation;

/// How long each upload takes: the time between the cut and the commit in which a process can be killed.
const UPLOAD: Duration = Duration::from_millis(60);

const PUBLISHING: Duration = Duration::from_secs(30);

/// SIGKILL, time and again, under rotation by age and by schedule alternately; two of three times as soon as a cut is written
/// down, else at a random moment. Whether an intent was pending is read from the group's offsets afterwards.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let kills = site.pick(12, 5);
    let mut random = StdRng::seed_from_u64(site.seed);
    let case = Case::new(site, "kill", 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(UPLOAD);
    let flow = case.flow(site.pick(4_000, 2_000));
    let mut pending = 0;
    for round in 0..kills {
        let mut options = case.options("worker");
        options.endpoint = gate.endpoint().clone();
        options.rotation =
            vec![if round % 2 == 0 { Rotation::AgeMs(700) } else { Rotation::ScheduleMs(1_000) }];
        let mut worker = case.start(&options)?;
        worker
            .until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == case.partitions() as usize)
            .await?;
        if round % 3 == 2 {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..2_500))).await;
        } else {
            // What a predecessor has left is finished first; then a cut of its own, at the moment it is written down.
            let published = random.random_range(0..4);
            worker.until("its first segments", PUBLISHING, |seen| seen.published >= published).await?;
            let cuts = worker.seen().cuts;
            worker.until("a pending intent", PUBLISHING, |seen| seen.cuts > cuts).await?;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..15))).await;
        }
        worker.kill().await?;
        let intents = case.marks().await?.iter().filter(|place| place.intent.is_some()).count();
        tracing::info!(round, intents, "killed");
        pending += u64::from(intents > 0);
    }
    ensure!(
        2 * pending >= kills,
        "only {pending} of {kills} kills met a pending intent, at least half are needed"
    );
    let produced = flow.stop().await?;
    let mut options = case.options("worker");
    options.endpoint = gate.endpoint().clone();
    let worker = case.start(&options)?;
    case.drained(&[&worker], Duration::from_mins(1)).await?;
    let summary = worker.terminate().await?;
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!(
        "{kills} kills, {pending} with a pending intent; the last process finished {} segments of the one before",
        summary.recovered
    );
    Ok(Outcome::of("SIGKILL of the only member", kills, audit, detail))
}

/// A killed member's partitions are free when its session has timed out.
pub(crate) const ASSIGNMENT: Duration = Duration::from_secs(40);
