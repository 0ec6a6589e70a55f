//! Rotation of quiet lanes.

use std::time::{Duration, SystemTime};

use super::{Cut, CutReason, RotationPolicy, SegmentStats, distance, from_minutes, zero_problem};
use crate::partition::Replay;

/// Ends a segment when no record has arrived for this long by the wall clock.
///
/// Alone it does not bound a segment's age: one record in every interval keeps it open. Combine it with
/// [`MaxAge`](crate::MaxAge) through [`any`](crate::any).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idle {
    quiet: Duration,
}

impl Idle {
    /// `seconds` seconds without a record.
    pub fn seconds(seconds: u64) -> Self {
        Self::of(Duration::from_secs(seconds))
    }

    /// `minutes` minutes without a record.
    pub fn minutes(minutes: u64) -> Self {
        Self::of(from_minutes(minutes))
    }

    /// Any duration without a record; the lane looks a few times a second.
    pub fn of(quiet: Duration) -> Self {
        Self { quiet }
    }
}

impl RotationPolicy for Idle {
    fn tick(&self, open: &SegmentStats, now: SystemTime) -> Cut {
        Cut::when(distance(now, open.last_arrival) >= self.quiet, CutReason::Idle)
    }

    fn problems(&self) -> Vec<String> {
        zero_problem("rotation of idle segments", "Idle::minutes(1)", self.quiet)
    }

    fn replay(&self) -> Replay {
        Replay::WallClock
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{minutes_after, noon};
    use super::*;

    #[test]
    fn the_last_arrival_counts_not_the_opening() {
        let mut open = SegmentStats::opened(noon());
        open.last_arrival = minutes_after(noon(), 30);
        let policy = Idle::minutes(1);
        let just_before = minutes_after(noon(), 31) - Duration::from_nanos(1);
        assert_eq!(policy.tick(&open, just_before), Cut::No);
        assert_eq!(policy.tick(&open, minutes_after(noon(), 31)), Cut::Yes(CutReason::Idle));
    }

    #[test]
    fn a_clock_set_back_does_not_keep_a_quiet_segment_open() {
        let mut open = SegmentStats::opened(noon());
        open.last_arrival = minutes_after(noon(), 60);
        assert_eq!(Idle::minutes(1).tick(&open, noon()), Cut::Yes(CutReason::Idle));
    }

    #[test]
    fn a_duration_of_zero_is_a_problem() {
        assert_eq!(Idle::of(Duration::ZERO).problems().len(), 1);
        assert!(Idle::seconds(1).problems().is_empty());
    }
}
