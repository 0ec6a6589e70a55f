//! Many seeds, on all cores: one simulation to a thread.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::run::{Outcome, simulate};
use crate::scenario::Scenario;

/// What became of many seeds.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// Seeds that were run.
    pub seeds: u64,
    /// What was injected, and how often.
    pub injected: BTreeMap<&'static str, u64>,
    /// Rows visible at the ends.
    pub rows: u64,
    /// Objects visible at the ends.
    pub objects: u64,
    /// Commits taken.
    pub commits: u64,
    /// Simulated time.
    pub simulated: Duration,
    /// The failing outcome of the smallest seed, if any failed.
    pub failed: Option<Outcome>,
}

impl Summary {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.rows += outcome.rows;
        self.objects += outcome.objects;
        self.commits += outcome.commits;
        self.simulated += outcome.simulated;
        for (kind, count) in &outcome.injected {
            *self.injected.entry(kind).or_default() += count;
        }
        let earlier = |known: &Outcome| known.scenario.seed < outcome.scenario.seed;
        if outcome.violation.is_some() && !self.failed.as_ref().is_some_and(earlier) {
            self.failed = Some(outcome);
        }
    }
}

/// Runs `seeds` on `threads` threads and stops soon after the first that fails.
pub fn sweep(seeds: Range<u64>, threads: usize) -> Summary {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            // Smaller seeds than a failing one are still finished, so that the first is the first each time.
            if seed >= stop.load(Ordering::Relaxed) {
                return outcomes;
            }
            let outcome = simulate(Scenario::from_seed(seed), false);
            if outcome.violation.is_some() {
                stop.fetch_min(seed, Ordering::Relaxed);
            }
            outcomes.push(outcome);
        }
    };
    let mut summary = Summary::default();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            match worker.join() {
                Ok(outcomes) => outcomes.into_iter().for_each(|outcome| summary.add(outcome)),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    summary
}
