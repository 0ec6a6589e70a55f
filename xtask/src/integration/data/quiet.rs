//! A topic that goes quiet.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::future::try_join_all;

use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site, audited};
use crate::worker::Rotation;
use xtask::load::audit::Audit;

/// The last records must be visible this long after their rotation is due: ticks, two uploads and commits, on a busy machine.
const GRACE: Duration = Duration::from_secs(8);

/// Records come, then none any more. Under each rotation the last ones land by themselves: what is open is not kept open until the
/// next record.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let interval = Duration::from_secs(2);
    let ms = 2_000;
    // Record time ends a segment an interval after the last record; the others an interval after its first at the latest.
    let rotations = [
        ("quiet-age", "age", Rotation::AgeMs(ms)),
        ("quiet-schedule", "schedule", Rotation::ScheduleMs(ms)),
        ("quiet-record-time", "record time", Rotation::RecordTimeMs(ms)),
        ("quiet-idle", "idle", Rotation::IdleMs(ms)),
    ];
    let site = &*site;
    let proofs = rotations.map(|(name, what, rotation)| async move {
        let case = Case::new(site, name, 3_000).await?;
        let mut options = case.options("worker");
        options.rotation = vec![rotation];
        let mut worker = case.start(&options)?;
        worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
        case.produce().await?;
        let since = Instant::now();
        case.drained(&[&worker], interval + GRACE).await?;
        let landed = since.elapsed();
        let summary = worker.terminate().await?;
        ensure!(summary.rows == case.spec.records, "not all landed before the end: {summary:?}");
        let fault = format!("topic goes quiet, rotation by {what}");
        let detail = format!("the last records landed after {:.1} s", landed.as_secs_f64());
        let proof = Proof::of(fault, 1, Audit::default(), detail);
        anyhow::Ok((case, Proof { recovery: Some(landed), ..proof }))
    });
    audited(site, try_join_all(proofs).await?).await
}
