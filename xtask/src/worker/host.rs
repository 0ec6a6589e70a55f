//! What a worker's machine does to it: another clock, fewer files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aqueduct::{Clock, SystemClock};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};

/// The machine, as far as it is not the real one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// How the wall clock is set while the worker runs, in order of time; right without any.
    #[serde(default)]
    pub(crate) clock: Vec<Shift>,
    /// Most files and sockets that may be open at a time.
    #[serde(default)]
    pub(crate) open_files: Option<u64>,
    /// What its failpoints do, as in `FAILPOINTS`.
    #[serde(default)]
    pub(crate) failpoints: Option<String>,
}

/// One setting of the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shift {
    /// So long after the worker's start, in milliseconds.
    pub(crate) after_ms: u64,
    /// It is so much ahead of the machine's from then on, in seconds; behind if negative.
    pub(crate) by_s: i64,
}

impl Host {
    /// Lowers what is to be lowered for this process, and arms its failpoints. Neither can be undone.
    pub(super) fn limit(&self) -> Result<()> {
        if let Some(failpoints) = &self.failpoints {
            aqueduct::configure_failpoints(failpoints)?;
            // Dying is what it is for: no core files.
            setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
        }
        let Some(files) = self.open_files else { return Ok(()) };
        let limit = Rlimit { current: Some(files), maximum: Some(files) };
        setrlimit(Resource::Nofile, limit).with_context(|| format!("cannot limit open files to {files}"))
    }

    /// The clock to run by.
    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        if self.clock.is_empty() {
            return Arc::new(SystemClock);
        }
        Arc::new(ShiftedClock { started: Instant::now(), shifts: self.clock.clone() })
    }
}

/// The machine's clock, set as [`Shift`]s say.
#[derive(Debug)]
struct ShiftedClock {
    started: Instant,
    shifts: Vec<Shift>,
}

impl Clock for ShiftedClock {
    fn now(&self) -> std::time::SystemTime {
        let (now, ran) = (SystemClock.now(), self.started.elapsed());
        let due = self.shifts.iter().rev().find(|shift| Duration::from_millis(shift.after_ms) <= ran);
        let by = due.map_or(0, |shift| shift.by_s);
        let distance = Duration::from_secs(by.unsigned_abs());
        let shifted = if by < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
        shifted.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use aqueduct::unix_millis;

    use super::*;

    #[test]
    fn the_clock_is_set_when_it_is_time() {
        let shifts = vec![Shift { after_ms: 60_000, by_s: 3_600 }, Shift { after_ms: 120_000, by_s: -3_600 }];
        for (ran, hours) in [(30, 0), (90, 1), (150, -1)] {
            let started = Instant::now().checked_sub(Duration::from_secs(ran)).unwrap();
            let clock = ShiftedClock { started, shifts: shifts.clone() };
            let (real, shown) = (unix_millis(SystemClock.now()), unix_millis(clock.now()));
            assert_eq!((shown - real + 60_000).div_euclid(3_600_000), hours, "after {ran} s");
        }
    }
}
