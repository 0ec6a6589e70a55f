//! A broker that dies with a commit under way.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::integration::gate::Gate;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};

/// The worker's uploads are held until the broker is frozen: then it publishes, and its commits go to a broker that does not
/// answer. The broker is killed with the commits unread, or thawed a moment before, so that it may have taken them and not
/// answered. Both times it comes back.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let rounds = site.pick(8, 2);
    let mut random = StdRng::seed_from_u64(site.seed);
    let case = Case::new(site, "broker-commit", 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    let mut options = case.options("worker");
    options.endpoint = gate.endpoint().clone();
    let mut worker = case.start(&options)?;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
    let flow = case.flow_over_restarts(1_000);
    let mut slowest = Duration::ZERO;
    for round in 0..rounds {
        gate.hold_after(0);
        worker.until("a pending intent", PATIENCE, |seen| !seen.pending.is_empty()).await?;
        let limit = Instant::now() + PATIENCE;
        while gate.state().held == 0 {
            ensure!(Instant::now() < limit, "no upload is held: {:?}", gate.state());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let broker = site.servers.kafka.process()?;
        broker.suspend()?;
        let before = worker.seen();
        gate.release();
        while gate.state().held > 0 || gate.state().answered < gate.state().passed {
            ensure!(Instant::now() < limit, "not everything is published: {:?}", gate.state());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // From the answer of the last upload to the commit it is a few milliseconds.
        tokio::time::sleep(Duration::from_millis(300)).await;
        ensure!(worker.seen().published == before.published, "a frozen broker has answered a commit");
        ensure!(!worker.seen().pending.is_empty(), "no commit is under way");
        if round % 2 == 1 {
            broker.resume()?;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
        site.servers.kafka.kill().await?;
        let since = Instant::now();
        site.servers.kafka.start().await.context("the broker does not come back")?;
        let goes_on = |seen: &crate::integration::member::Seen| {
            seen.published > before.published + 4 && seen.lanes.len() == 4
        };
        worker.until("segments after the restart", PATIENCE, goes_on).await?;
        slowest = slowest.max(since.elapsed());
    }
    let produced = flow.stop().await?;
    case.drained(&[&worker], PATIENCE).await?;
    let assignments = worker.seen().assignments;
    worker.terminate().await?;
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!(
        "killed with commits unread and just taken, in turn; the worker was given its partitions {assignments} times"
    );
    Ok(Outcome::of("broker killed with a commit under way", rounds, audit, detail).recovered_within(slowest))
}

const PATIENCE: Duration = Duration::from_secs(90);
