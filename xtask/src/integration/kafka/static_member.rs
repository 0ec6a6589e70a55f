//! A static member that is killed and comes back under its name.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::integration::gate::Gate;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};

/// How long the group would wait for a member that has no name.
const SESSION: Duration = Duration::from_secs(45);
/// When the successor must have its partitions: well before that.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Killed while a cut is pending, time and again. The next process of the name has the partitions at once, and finishes the
/// cut, long before the session of the killed one is over.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let kills = site.pick(8, 3);
    let case = Case::new(site, "static-member", 1_000_000).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    gate.delay(Duration::from_millis(60));
    let mut options = case.options("worker");
    options.endpoint = gate.endpoint().clone();
    for (name, value) in [
        ("group.instance.id", "worker-0".to_owned()),
        ("session.timeout.ms", SESSION.as_millis().to_string()),
        ("heartbeat.interval.ms", "1500".to_owned()),
    ] {
        options.properties.insert(name.to_owned(), value);
    }
    let flow = case.flow(2_000);
    let mut worst = Duration::ZERO;
    for _ in 0..kills {
        let mut worker = case.start(&options)?;
        worker.until("its partitions", AT_ONCE, |seen| seen.lanes.len() == 4).await?;
        worst = worst.max(worker.age());
        let published = worker.seen().published;
        worker.until("its own segments", AT_ONCE, |seen| seen.published >= published + 4).await?;
        let cuts = worker.seen().cuts;
        worker.until("a pending intent", AT_ONCE, |seen| seen.cuts > cuts).await?;
        worker.kill().await?;
    }
    let killed = Instant::now();
    let produced = flow.stop().await?;
    let worker = case.start(&options)?;
    case.drained(&[&worker], SESSION).await?;
    let drained = killed.elapsed();
    ensure!(
        drained < SESSION / 2,
        "everything is committed only {:.1} s after the kill",
        drained.as_secs_f64()
    );
    let summary = worker.terminate().await?;
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!(
        "session timeout {} s; the last process finished {} segments of the one before",
        SESSION.as_secs(),
        summary.recovered
    );
    Ok(Outcome::of("SIGKILL of a static member", kills, audit, detail).recovered_within(worst.max(drained)))
}
