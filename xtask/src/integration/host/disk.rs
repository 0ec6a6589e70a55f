//! A spool whose disk is too small, or filled by somebody else.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::try_join;

use super::SmallDisk;
use crate::integration::member::{Member, Seen};
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site, audited};
use crate::worker::{Compression, Options, Rotation};
use xtask::load::audit::Audit;

/// Three kinds of full disk. The worker cuts early or waits, says why, never ends, and goes on by itself.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let (small, filled, files) =
        try_join!(smaller_than_the_budget(site), filled_by_somebody_else(site), out_of_files(site))?;
    audited(site, vec![small, filled, files]).await
}

/// The disk has 32 MiB, the budget is the default of gigabytes, and the rotation asks for a gigabyte: only the disk cuts.
async fn smaller_than_the_budget(site: &Site) -> Result<(Case, Proof)> {
    let case = Case::new(site, "disk-small", site.pick(400_000, 200_000)).await?;
    let disk = SmallDisk::new("size=32m").await?;
    case.produce().await?;
    let mut options = case.options("worker");
    options.compression = Compression::Zstd;
    options.rotation = vec![Rotation::Bytes(1 << 30)];
    let mut worker = case.start_on(&disk, &options)?;
    // So that the last segments are cut by the end, all others by the disk.
    let rows = case.spec.records;
    let mostly = |seen: &Seen| {
        let done: i64 = seen.reached.values().map(|(end, _)| *end).sum();
        done.cast_unsigned() * 2 > rows
    };
    worker.until("half of the records, cut by the disk alone", PATIENCE, mostly).await?;
    let seen = worker.seen();
    let summary = worker.terminate().await?;
    ensure!(summary.abandoned == 0, "a segment was given up: {summary:?}");
    options.until_end = true;
    case.start_on(&disk, &options)?.finish(PATIENCE).await?;
    let detail = format!("{} segments cut early; waited for {:?}", summary.segments, seen.waits);
    Ok((case, Proof::of("disk smaller than the disk budget", 1, Audit::default(), detail)))
}

/// Somebody fills the disk to its last byte while events flow, and makes room again.
async fn filled_by_somebody_else(site: &Site) -> Result<(Case, Proof)> {
    let rounds = site.pick(4, 1);
    let case = Case::new(site, "disk-full", 1_000_000).await?;
    let disk = SmallDisk::new("size=64m").await?;
    let options = case.options("worker");
    let mut worker = case.start_on(&disk, &options)?;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
    let flow = case.flow(site.pick(6_000, 3_000));
    let ballast = worker.sees(&options.spool_dir).join("somebody-elses");
    let (mut slowest, mut said) = (Duration::ZERO, String::new());
    for round in 0..rounds {
        let before = worker.seen();
        worker.until("segments", PATIENCE, |seen| seen.published > before.published + 4).await?;
        fill(&ballast)?;
        worker.until("a word about the disk", PATIENCE, |seen| word(seen, &before).is_some()).await?;
        said = word(&worker.seen(), &before).unwrap_or_default();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let full = worker.seen();
        ensure!(
            full.lanes.len() == 4 && full.assignments == before.assignments && full.failed.is_none(),
            "round {round}: a full disk has cost the worker its partitions: {full:?}"
        );
        fs::remove_file(&ballast)?;
        let freed = Instant::now();
        worker.until("segments again", PATIENCE, |seen| seen.published > full.published).await?;
        slowest = slowest.max(freed.elapsed());
    }
    flow.stop().await?;
    done(&case, worker).await?;
    let detail = format!("{rounds} times; it said: {said}");
    let proof = Proof::of("disk filled by somebody else, then freed", rounds, Audit::default(), detail);
    Ok((case, Proof { recovery: Some(slowest), ..proof }))
}

/// The disk has bytes enough and takes only five files: not enough for two segments of each of four lanes, nor for one.
async fn out_of_files(site: &Site) -> Result<(Case, Proof)> {
    let case = Case::new(site, "disk-files", 1_000_000).await?;
    // The mount's root, the spool directory and its marker are files too.
    let disk = SmallDisk::new("size=256m,nr_inodes=8").await?;
    let mut options: Options = case.options("worker");
    options.rotation = vec![Rotation::AgeMs(400)];
    let mut worker = case.start_on(&disk, &options)?;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
    let flow = case.flow(site.pick(4_000, 2_000));
    let lacks =
        |seen: &Seen| seen.retrying.as_ref().is_some_and(|it| it.contains("room on the spool's disk"));
    worker.until("a word about the files", PATIENCE, lacks).await?;
    let before = worker.seen();
    worker.until("segments all the same", PATIENCE, |seen| seen.published > before.published + 8).await?;
    flow.stop().await?;
    done(&case, worker).await?;
    let detail = format!("it said: {}", before.retrying.unwrap_or_default());
    Ok((case, Proof::of("disk takes five files for four lanes", 1, Audit::default(), detail)))
}

async fn done(case: &Case, worker: Member) -> Result<()> {
    case.drained(&[&worker], PATIENCE).await?;
    worker.terminate().await?;
    Ok(())
}

/// What a worker says of a full disk that it has not said before.
fn word(seen: &Seen, before: &Seen) -> Option<String> {
    let waits = seen.waits.iter().find(|(reason, times)| {
        reason.contains("file system is full")
            && before.waits.get(*reason).is_none_or(|before| before < times)
    });
    let waits = waits.map(|(reason, _)| reason.clone());
    waits.or_else(|| seen.retrying.clone().filter(|error| error.contains("room on the spool's disk")))
}

/// Writes to `path` until there is no room for another byte.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
    let mut chunk = vec![0x55; 1 << 20];
    while !chunk.is_empty() {
        match file.write_all(&chunk) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => chunk.truncate(chunk.len() / 2),
            Err(error) => return Err(error).with_context(|| format!("cannot fill {}", path.display())),
        }
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_mins(1);

/// Where a worker's scratch files are.
pub(super) fn spool(options: &Options) -> PathBuf {
    options.spool_dir.join(format!("aqueduct-spool-{}", options.name))
}
