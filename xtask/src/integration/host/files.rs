//! A machine that allows few open files.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::{Layout, Rotation};

const TENANTS: u32 = 1_300;
const ROUTES: u64 = 1_000;
/// More than enough for four lanes.
const FEW: u64 = 256;
/// Fewer than the clients of broker and store open by themselves.
const TOO_FEW: u64 = 32;

/// 256 open files and more than a thousand routes in each segment of four lanes: files do not grow with routes. Then 32: the worker
/// works or says why not, and in no case does it stand still without a word.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let mut case = Case::new(site, "fds", site.pick(80_000, 16_000)).await?;
    case.spec.tenants = TENANTS;
    case.produce().await?;
    let mut options = case.options("worker");
    options.layout = vec![Layout::Field("tenant".to_owned())];
    options.rotation = vec![Rotation::Records(4_000)];
    options.host.open_files = Some(TOO_FEW);
    options.until_end = true;
    let starved = starve(&case, &options).await?;
    let left = u64::from(case.marks().await?.iter().any(|place| !place.is_drained()));
    ensure!(left == 1, "{TOO_FEW} files were enough for everything: nothing is left to show with {FEW}");

    options.host.open_files = Some(FEW);
    let mut worker = case.start(&options)?;
    let summary = worker.finish(Duration::from_mins(3)).await?;
    let objects_per_segment = summary.objects / summary.segments.max(1);
    ensure!(objects_per_segment >= ROUTES, "only {objects_per_segment} routes in a segment: {summary:?}");
    ensure!(summary.retries == 0, "{FEW} files are plenty, and something was tried again: {summary:?}");
    let audit = case.audit(site).await?;
    let detail = format!(
        "{objects_per_segment} routes a segment; peak {} MiB; with {TOO_FEW} files: {starved}",
        summary.peak_rss_bytes >> 20
    );
    Ok(Outcome::of(format!("open files limited to {FEW}, and to {TOO_FEW}"), 2, audit, detail))
}

/// Runs a worker with too few files for some time, and answers with what it says of it.
async fn starve(case: &Case, options: &crate::worker::Options) -> Result<String> {
    let mut worker = case.start(options)?;
    let said =
        worker.until("a word", ASSIGNMENT, |seen| seen.retrying.is_some() || seen.failed.is_some()).await;
    let seen = worker.seen();
    let said = seen.failed.or(seen.retrying).map_or_else(|| said.map(|()| String::new()), Ok)?;
    Ok(said)
}
