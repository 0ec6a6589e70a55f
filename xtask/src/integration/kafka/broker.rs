//! A broker that dies.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::integration::gate::Gate;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};

/// Longer than the session timeout.
const DOWN: Duration = Duration::from_secs(8);
/// Longer than a commit is waited for, which is 30 s.
const UNANSWERED: Duration = Duration::from_secs(36);

/// The broker is killed while cuts are pending, and started again on its data; then it is frozen, so that commits are under way
/// without an answer. Either lasts longer than the session timeout, the freeze also longer than a commit is waited for: what was
/// under way belongs to a membership that is over when it is answered. The worker joins again by itself.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "broker", 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(Duration::from_millis(60));
    let mut options = case.options("worker");
    options.endpoint = gate.endpoint().clone();
    let mut worker = case.start(&options)?;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
    let flow = case.flow_over_restarts(site.pick(4_000, 2_000));
    let mut slowest = Duration::ZERO;
    for (frozen, lasts) in [(false, DOWN), (true, site.pick(UNANSWERED, DOWN))] {
        let before = worker.seen();
        worker
            .until("a pending intent", PATIENCE, |seen| {
                seen.published >= before.published + 4 && seen.cuts > before.cuts
            })
            .await?;
        if frozen {
            let broker = site.servers.kafka.process()?;
            broker.suspend()?;
            tokio::time::sleep(lasts).await;
            broker.resume()?;
        } else {
            site.servers.kafka.kill().await?;
            tokio::time::sleep(lasts).await;
            site.servers.kafka.start().await.context("the broker does not come back")?;
        }
        let (before, back) = (worker.seen(), Instant::now());
        worker
            .until("segments after the outage", PATIENCE, |seen| {
                seen.published > before.published + 4 && seen.lanes.len() == 4
            })
            .await?;
        slowest = slowest.max(back.elapsed());
    }
    let produced = flow.stop().await?;
    case.drained(&[&worker], PATIENCE).await?;
    let assignments = worker.seen().assignments;
    worker.terminate().await?;
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!("killed, then frozen; the worker was given its partitions {assignments} times");
    Ok(Outcome::of("broker killed, then frozen", 2, audit, detail).recovered_within(slowest))
}

const PATIENCE: Duration = Duration::from_secs(90);
