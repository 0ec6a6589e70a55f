//! A disk that changes what was written to it.

use std::fs::{self, File};
use std::num::NonZeroU32;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::future::try_join_all;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::disk::spool;
use crate::integration::gate::Gate;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::{Outcome, Proof};
use crate::integration::scenario::{Case, Site, audited};
use crate::worker::{Compression, Layout, Options, Rotation};
use xtask::load::audit::Audit;

const PATIENCE: Duration = Duration::from_mins(1);

/// What is changed.
struct Target {
    name: &'static str,
    fault: &'static str,
    /// Rows of a segment.
    rows: u64,
    layout: Layout,
    compression: Compression,
    /// Which of the segment's two files: rows, index.
    file: usize,
}

const TARGETS: &[Target] = &[
    Target {
        name: "bit-rows",
        fault: "bit flipped in the spool, objects of one request",
        rows: 2_000,
        layout: Layout::Partition,
        compression: Compression::Gzip,
        file: 0,
    },
    Target {
        name: "bit-parts",
        fault: "bit flipped in the spool, objects of many parts",
        rows: 40_000,
        layout: Layout::Partition,
        compression: Compression::None,
        file: 0,
    },
    Target {
        name: "bit-index",
        fault: "bit flipped in the spool's index",
        rows: 2_000,
        layout: Layout::MinuteOpened,
        compression: Compression::Zstd,
        file: 1,
    },
];

/// One bit of a segment that waits in the spool is flipped while the uploads of the one before are held. It is noticed when the
/// segment is read back: nothing of it is published, the worker ends with an error that says what to do, and a restart reads the
/// records from Kafka again.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let site = &*site;
    let proofs = TARGETS.iter().map(|target| one(site, target));
    audited(site, try_join_all(proofs).await?).await
}

async fn one(site: &Site, target: &Target) -> Result<(Case, Proof)> {
    let mut random = StdRng::seed_from_u64(site.seed);
    let flips = site.pick(6, 2);
    let mut case = Case::new(site, target.name, target.rows * 2 * flips).await?;
    case.spec.partitions = NonZeroU32::MIN;
    case.topics().recreate(&case.topic, 1, &[]).await?;
    let gate = Gate::open(site.servers.s3.endpoint()).await?;
    let mut options = case.options("worker");
    options.endpoint = gate.endpoint().clone();
    options.layout = vec![target.layout.clone()];
    options.compression = target.compression;
    options.rotation = vec![Rotation::Records(target.rows)];
    let (mut slowest, mut said) = (Duration::ZERO, String::new());
    for flip in 0..flips {
        let mut worker = case.start(&options)?;
        worker.until("its partition", ASSIGNMENT, |seen| seen.lanes.len() == 1).await?;
        gate.hold_after(0);
        let first = 2 * flip * target.rows;
        case.produce_range(first..first + 2 * target.rows).await?;
        // The first segment is being uploaded, so it has been read; the second is complete and has not.
        let path = second_segment(&options, target.file).await?;
        let changed = change(&path, &mut random)?;
        gate.release();
        said = worker.failure(PATIENCE).await?;
        let failed = Instant::now();
        // A changed index may also point to where there is nothing.
        let noticed = ["other bytes than were written", "the spool cannot be read"];
        ensure!(
            noticed.iter().any(|it| said.contains(it)) && said.contains("it was not published"),
            "flip {flip}, of {changed}, was not noticed as what it is: {said}"
        );
        let places = case.marks().await?;
        let place = places.first().context("no partition")?;
        let (mark, end) = (first + target.rows, first + 2 * target.rows);
        ensure!(
            (place.mark, place.intent) == (mark.cast_signed(), Some(end.cast_signed())),
            "only what lies before the changed segment may be committed: {place}"
        );
        // The changed segment is done again, from Kafka.
        let worker = case.start(&options)?;
        case.drained(&[&worker], PATIENCE).await?;
        slowest = slowest.max(failed.elapsed());
        let summary = worker.terminate().await?;
        ensure!(summary.recovered == 1, "the changed segment was not done again: {summary:?}");
    }
    let detail = format!("{flips} flips, each noticed: {said}");
    let proof = Proof::of(target.fault, flips, Audit::default(), detail);
    Ok((case, Proof { recovery: Some(slowest), ..proof }))
}

/// Waits until the second segment of the only lane is complete in the spool; answers with one of its files.
async fn second_segment(options: &Options, file: usize) -> Result<PathBuf> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut files: Vec<PathBuf> = match fs::read_dir(spool(options)) {
            Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
            Err(_) => Vec::new(),
        };
        files.retain(|path| path.file_name().is_some_and(|name| name != "aqueduct-spool"));
        files.sort();
        // Rows and index of a segment are made one after the other. The index is completed at the cut, behind the rows.
        if let [_, _, rows, index] = files.as_slice()
            && fs::metadata(index)?.len() > 0
        {
            return Ok(if file == 0 { rows.clone() } else { index.clone() });
        }
        ensure!(Instant::now() < deadline, "no second segment in {}: {files:?}", spool(options).display());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Flips one bit of a file; answers which.
fn change(path: &std::path::Path, random: &mut StdRng) -> Result<String> {
    let file = File::options().read(true).write(true).open(path)?;
    let (position, bit) = (random.random_range(0..file.metadata()?.len()), random.random_range(0..8));
    let mut byte = [0_u8];
    file.read_exact_at(&mut byte, position)?;
    file.write_all_at(&byte.map(|byte| byte ^ (1 << bit)), position)?;
    Ok(format!("bit {bit} of byte {position} of {}", path.display()))
}
