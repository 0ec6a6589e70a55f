//! A wall clock that only a test moves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::clock::{Clock, from_unix_millis, unix_millis};

/// A [`Clock`] that stands still until a test moves it, in either direction. Clones share the time.
///
/// It moves the *wall clock* only: segment ages, schedules and the pinned time of wall-clock layouts. Waiting (ticks,
/// back-off, deadlines) uses Tokio's clock; pair this with `#[tokio::test(start_paused = true)]` and
/// `tokio::time::advance` where a test needs both.
///
/// ```
/// use std::time::Duration;
///
/// use aqueduct_core::testkit::ManualClock;
/// use aqueduct_core::{Clock, unix_millis};
///
/// let clock = ManualClock::at_millis(1_700_000_000_000);
/// let seen_by_the_pipeline = clock.clone();
/// clock.advance(Duration::from_secs(3600));
/// assert_eq!(unix_millis(seen_by_the_pipeline.now()), 1_700_003_600_000);
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<SystemTime>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn at(now: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// A clock that shows `ms` milliseconds after the Unix epoch.
    pub fn at_millis(ms: i64) -> Self {
        Self::at(from_unix_millis(ms))
    }

    /// Moves the clock forward. At the end of representable time it stays.
    pub fn advance(&self, by: Duration) {
        self.change(|now| now.checked_add(by));
    }

    /// Moves the clock back, as an operator or NTP does. At the start of representable time it stays.
    pub fn step_back(&self, by: Duration) {
        self.change(|now| now.checked_sub(by));
    }

    /// Makes the clock show `now`.
    pub fn set(&self, now: SystemTime) {
        self.change(|_| Some(now));
    }

    /// Makes the clock show `ms` milliseconds after the Unix epoch.
    pub fn set_millis(&self, ms: i64) {
        self.set(from_unix_millis(ms));
    }

    /// What the clock shows, in milliseconds since the Unix epoch.
    pub fn millis(&self) -> i64 {
        unix_millis(self.now())
    }

    fn change(&self, change: impl FnOnce(SystemTime) -> Option<SystemTime>) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *now = change(*now).unwrap_or(*now);
    }
}

impl Default for ManualClock {
    /// Shows the Unix epoch.
    fn default() -> Self {
        Self::at_millis(0)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_told_and_both_ways() {
        let clock = ManualClock::at_millis(5_000);
        let other = clock.clone();
        assert_eq!(clock.now(), other.now());
        clock.advance(Duration::from_millis(1));
        assert_eq!(other.millis(), 5_001);
        clock.step_back(Duration::from_secs(6));
        assert_eq!(other.millis(), -999);
        clock.set_millis(7);
        assert_eq!(other.millis(), 7);
    }
}
