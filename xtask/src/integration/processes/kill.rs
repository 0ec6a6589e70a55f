//! A process that is killed again and again.

use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::zombie::passed;
use crate::integration::gate::Gate;
use crate::integration::kafka::pending::short_session;
use crate::integration::marks::Place;
use crate::integration::member::Member;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site};
use crate::worker::Rotation;

/// How long each upload takes: the time between the cut and the commit in which a process can be killed.
const UPLOAD: Duration = Duration::from_millis(60);

const PUBLISHING: Duration = Duration::from_secs(30);

/// Whether the group knows a process again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    /// No: what a killed process had is free when its session has timed out.
    Dynamic,
    /// By its `group.instance.id`: a process that is started again has its partitions back at once.
    Static,
}

/// SIGKILL, time and again, under rotation by age and by schedule alternately; two of three times as soon as a cut is written
/// down, else at a random moment. Whether an intent was pending is read from the group's offsets afterwards. Recovery is from the
/// start of the next process until everything that was pending is committed.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let first = one(site, Membership::Dynamic, site.pick(16, 3)).await?;
    let second = one(site, Membership::Static, site.pick(16, 3)).await?;
    Ok(Outcome::default().and(first).and(second))
}

async fn one(site: &Site, membership: Membership, kills: u64) -> Result<Proof> {
    let (name, fault) = match membership {
        Membership::Dynamic => ("kill", "SIGKILL of the only member, whose session is 3 s"),
        Membership::Static => ("kill-static", "SIGKILL of the only member, which is static"),
    };
    let mut random = StdRng::seed_from_u64(site.seed);
    let case = Case::new(site, name, 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(UPLOAD);
    let flow = case.flow(site.pick(4_000, 2_000));
    let mut options = short_session(case.options("worker"));
    options.endpoint = gate.endpoint().clone();
    if membership == Membership::Static {
        options.properties.insert("group.instance.id".to_owned(), name.to_owned());
        options.properties.insert("session.timeout.ms".to_owned(), "30000".to_owned());
    }
    let (mut left, mut met, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    for round in 0..kills {
        options.rotation =
            vec![if round % 2 == 0 { Rotation::AgeMs(700) } else { Rotation::ScheduleMs(1_000) }];
        let mut worker = case.start(&options)?;
        slowest = slowest.max(recovered(&case, &mut worker, &left).await?);
        if round % 3 == 2 {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..2_500))).await;
        } else {
            let published = worker.seen().published + random.random_range(0..4);
            worker.until("its first segments", PUBLISHING, |seen| seen.published >= published).await?;
            let cuts = worker.seen().cuts;
            worker.until("a pending intent", PUBLISHING, |seen| seen.cuts > cuts).await?;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..15))).await;
        }
        worker.kill().await?;
        left = case.marks().await?;
        left.retain(|place| place.intent.is_some());
        tracing::info!(round, intents = left.len(), "killed");
        met += u64::from(!left.is_empty());
    }
    ensure!(2 * met >= kills, "only {met} of {kills} kills met a pending intent, at least half are needed");
    let mut worker = case.start(&options)?;
    slowest = slowest.max(recovered(&case, &mut worker, &left).await?);
    let produced = flow.stop().await?;
    case.drained(&[&worker], Duration::from_mins(1)).await?;
    worker.terminate().await?;
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!("{kills} kills, {met} with a pending intent");
    Ok(Proof { recovery: Some(slowest), ..Proof::of(fault, kills, audit, detail) })
}

/// Waits until `worker` has its partitions and has finished what its predecessor has left; answers how long after its start.
async fn recovered(case: &Case, worker: &mut Member, left: &[Place]) -> Result<Duration> {
    let partitions = case.partitions() as usize;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == partitions).await?;
    let assigned = worker.age();
    passed(case, left, PUBLISHING).await?;
    tracing::info!(?assigned, finished = ?worker.age(), "recovered");
    Ok(worker.age())
}

/// A killed member's partitions are free when its session has timed out.
pub(crate) const ASSIGNMENT: Duration = Duration::from_secs(40);
