//! A broker that dies.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::gate::Gate;
use super::kill::ASSIGNMENT;
use super::scenario::{Case, Outcome, Site};

/// How long it is down.
const OUTAGE: Duration = Duration::from_secs(8);

/// The broker is killed while cuts are pending, longer than the session timeout, and started again on its data: commits were
/// under way, answers are lost, the membership is over. The worker joins again by itself.
pub(super) async fn run(site: &mut Site) -> Result<Outcome> {
    let rounds = site.pick(3, 1);
    let case = Case::new(site, "broker", 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(Duration::from_millis(60));
    let mut options = case.options("worker");
    options.endpoint = gate.endpoint().clone();
    let mut worker = case.start(&options)?;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
    let flow = case.flow(site.pick(4_000, 2_000));
    for _ in 0..rounds {
        let before = worker.seen();
        worker
            .until("a pending intent", Duration::from_mins(1), |seen| {
                seen.published >= before.published + 4 && seen.cuts > before.cuts
            })
            .await?;
        site.servers.kafka.kill().await?;
        tokio::time::sleep(OUTAGE).await;
        site.servers.kafka.start().await.context("the broker does not come back")?;
        let before = worker.seen();
        worker
            .until("segments after the outage", Duration::from_secs(90), |seen| {
                seen.published > before.published + 4 && seen.lanes.len() == 4
            })
            .await?;
    }
    let produced = flow.stop().await?;
    case.drained(&[&worker], Duration::from_mins(1)).await?;
    let assignments = worker.seen().assignments;
    worker.terminate().await?;
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!(
        "killed {rounds} times for {} s; the worker was given its partitions {assignments} times",
        OUTAGE.as_secs()
    );
    Ok(Outcome { audit, detail })
}
