//! Many records through one process.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};
use crate::worker::{Compression, Rotation};

/// A topic is read to its end by one process, in segments large enough for multipart uploads.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let case = Case::new(site, "volume", site.pick(1_000_000, 300_000)).await?;
    case.produce().await?;
    let mut options = case.options("worker");
    options.until_end = true;
    options.compression = Compression::None;
    options.rotation = vec![Rotation::Records(site.pick(100_000, 60_000)), Rotation::AgeMs(60_000)];
    let mut worker = case.start(&options)?;
    let summary = worker.finish(Duration::from_mins(4)).await?;
    let took = worker.age();
    ensure!(
        summary.durable == case.spec.records && summary.rows == case.spec.records,
        "the worker counts other records than were produced: {summary:?}"
    );
    let audit = case.audit(site).await?;
    let detail = format!(
        "{:.1} s, peak {} MiB, {} segments",
        took.as_secs_f64(),
        summary.peak_rss_bytes >> 20,
        summary.segments
    );
    Ok(Outcome::of("none: many records through one process", 1, audit, detail))
}
