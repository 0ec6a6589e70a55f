//! The wall clock, injected.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the pipeline reads the wall clock: segment ages, schedules and the pinned time of wall-clock layouts.
///
/// Waiting (back-off, deadlines) uses Tokio's clock instead, which tests can pause.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// The wall-clock time now. May jump in both directions.
    fn now(&self) -> SystemTime;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Milliseconds since the Unix epoch; times before it are negative, times a calendar cannot show are clamped.
pub fn unix_millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// The time `ms` milliseconds after the Unix epoch.
pub fn from_unix_millis(ms: i64) -> SystemTime {
    let distance = Duration::from_millis(ms.unsigned_abs());
    let time = if ms >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) };
    time.unwrap_or(UNIX_EPOCH)
}
