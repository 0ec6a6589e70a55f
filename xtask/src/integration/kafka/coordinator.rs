//! A group whose coordinator dies, and which is coordinated by another broker from then on.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use xtask::services::{Cache, Cluster};

use crate::integration::gate::Gate;
use crate::integration::member::Seen;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};

/// Two members work on a cluster of two brokers. Time and again the one that coordinates their group is killed while cuts are pending;
/// the other takes over, and the first comes back. Nobody is alone responsible for data: topics have a replica on either.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let rounds = site.pick(6, 2);
    let mut cluster = Cluster::start(&Cache::from_env()?, &site.spools.join("cluster")).await?;
    let case = Case::on(site, "coordinator", cluster.brokers(), cluster.topics()?).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(Duration::from_millis(60));
    let mut members = Vec::new();
    for name in ["one", "two"] {
        let mut options = case.options(name);
        options.endpoint = gate.endpoint().clone();
        options.spool_dir.push(name);
        members.push(case.start(&options)?);
    }
    let flow = case.flow_over_restarts(1_000);
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        for member in &mut members {
            member.until("its share", ASSIGNMENT, |seen| seen.lanes.len() == 2).await?;
            let cuts = member.seen().cuts;
            member.until("a pending intent", PATIENCE, |seen| seen.cuts > cuts).await?;
        }
        cluster.in_sync(&case.group()).await?;
        let before: Vec<Seen> = members.iter().map(crate::integration::member::Member::seen).collect();
        let coordinator = cluster.coordinator(&case.group()).await?;
        coordinator.kill().await?;
        let since = Instant::now();
        for (member, before) in members.iter_mut().zip(before) {
            // More than may have been committed before the kill: two segments a lane are under way at most.
            let goes_on = |seen: &Seen| seen.published > before.published + 4 && !seen.lanes.is_empty();
            member.until("segments under another coordinator", PATIENCE, goes_on).await?;
        }
        slowest = slowest.max(since.elapsed());
        coordinator.start().await?;
        cluster.in_sync(&case.group()).await?;
    }
    let produced = flow.stop().await?;
    case.drained(&members.iter().collect::<Vec<_>>(), PATIENCE).await?;
    let mut abandoned = 0;
    for member in members {
        abandoned += member.terminate().await?.abandoned;
    }
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!("two members, two brokers; {abandoned} segments were abandoned and published again");
    Ok(Outcome::of("coordinator killed, another broker takes over", rounds, audit, detail)
        .recovered_within(slowest))
}

const PATIENCE: Duration = Duration::from_secs(90);
