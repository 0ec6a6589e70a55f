//! An S3 server that goes away.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};

const HANG: Duration = Duration::from_secs(5);

/// The S3 server is stopped while events flow and started again later. The worker stays, says what it waits for, and goes on.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let outage = Duration::from_secs(site.pick(30, 10));
    let case = Case::new(site, "outage", 1_000_000).await?;
    let mut options = case.options("worker");
    // Small: the worker has to slow its source down, not to fill the disk.
    options.disk = Some(32 << 20);
    let mut worker = case.start(&options)?;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
    let flow = case.flow(site.pick(10_000, 3_000));
    worker.until("its first segments", Duration::from_secs(30), |seen| seen.published >= 4).await?;

    site.servers.s3.stop().await?;
    worker.until("the failure of an upload", Duration::from_secs(30), |seen| seen.retrying.is_some()).await?;
    let retrying = worker.seen().retrying.unwrap_or_default();
    tokio::time::sleep(outage).await;
    let before = worker.seen();
    ensure!(
        before.lanes.len() == 4 && before.failed.is_none(),
        "the worker has lost its partitions while the server was down: {before:?}"
    );
    // It answers at some moment while this waits for it: counted from before, its own start included.
    let back = Instant::now();
    site.servers.s3.start().await.context("the S3 server does not come back")?;
    worker
        .until("segments after the outage", Duration::from_secs(40), |seen| seen.published > before.published)
        .await?;
    let mut slowest = back.elapsed();
    // Then it hangs: it takes connections and does not answer.
    let server = site.servers.s3.process()?;
    server.suspend()?;
    tokio::time::sleep(HANG).await;
    let before = worker.seen();
    server.resume()?;
    let back = Instant::now();
    worker
        .until("segments after the hang", Duration::from_secs(40), |seen| seen.published > before.published)
        .await?;
    slowest = slowest.max(back.elapsed());
    let produced = flow.stop().await?;
    case.drained(&[&worker], Duration::from_mins(1)).await?;
    let summary = worker.terminate().await?;
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!(
        "down for {} s, then hanging for {} s; {} retries, such as: {retrying}",
        outage.as_secs(),
        HANG.as_secs(),
        summary.retries
    );
    Ok(Outcome::of("S3 server down, then hanging", 2, audit, detail).recovered_within(slowest))
}
