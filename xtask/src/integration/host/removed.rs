//! A spool directory that goes away.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::disk::spool;
use crate::integration::processes::kill::ASSIGNMENT;
use crate::integration::proof::Outcome;
use crate::integration::scenario::{Case, Site};

const PATIENCE: Duration = Duration::from_mins(1);

/// `rm -rf` under a running worker, time and again: it makes the directory again and goes on. Then a file stands where the directory
/// was, which only an operator can mean: the worker ends with an error that says what to do, and a restart after that is clean.
pub(crate) async fn run(site: &mut Site) -> Result<Outcome> {
    let rounds = site.pick(10, 4);
    let mut random = StdRng::seed_from_u64(site.seed);
    let case = Case::new(site, "spool-removed", 1_000_000).await?;
    let options = case.options("worker");
    let mut worker = case.start(&options)?;
    worker.until("its partitions", ASSIGNMENT, |seen| seen.lanes.len() == 4).await?;
    let assignments = worker.seen().assignments;
    let flow = case.flow(site.pick(4_000, 2_000));
    let mut slowest = Duration::ZERO;
    for _ in 0..rounds {
        let before = worker.seen();
        worker.until("segments", PATIENCE, |seen| seen.published > before.published + 4).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..700))).await;
        // The directory below, or everything.
        let gone = if random.random() { spool(&options) } else { options.spool_dir.clone() };
        remove(&gone)?;
        let (removed, at) = (Instant::now(), worker.seen().published);
        // Those that were open keep their files; what comes after them needs new ones.
        worker.until("segments without the directory", PATIENCE, |seen| seen.published > at + 8).await?;
        slowest = slowest.max(removed.elapsed());
    }
    let seen = worker.seen();
    ensure!(
        seen.assignments == assignments,
        "the worker has lost its partitions {} times",
        seen.assignments - assignments
    );

    remove(&spool(&options))?;
    fs::write(spool(&options), "not a directory")?;
    let said = worker.failure(PATIENCE).await?;
    ensure!(said.contains("must stay a directory") && said.contains("restart"), "no remedy: {said}");
    fs::remove_file(spool(&options))?;
    let repaired = Instant::now();
    let mut worker = case.start(&options)?;
    worker.until("its first segments", PATIENCE, |seen| seen.published > 0).await?;
    let restarted = repaired.elapsed();
    let produced = flow.stop().await?;
    case.drained(&[&worker], PATIENCE).await?;
    worker.terminate().await?;
    let audit = case.audit(site).await?;
    ensure!(audit.records + audit.lost == produced, "{produced} events were produced");
    let detail = format!("{rounds} times removed, then replaced by a file; it said: {said}");
    Ok(Outcome::of("spool directory removed, replaced", rounds + 1, audit, detail)
        .recovered_within(slowest.max(restarted)))
}

/// Removes a directory with everything in it, which somebody may just be adding to.
fn remove(directory: &std::path::Path) -> Result<()> {
    for _ in 0..100 {
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty => {}
            removed => return Ok(removed?),
        }
    }
    anyhow::bail!("{} does not get empty", directory.display())
}
