//! Rotation by how long a segment has been open.

use std::time::{Duration, SystemTime};

use super::{Cut, CutReason, RotationPolicy, SegmentStats, distance, from_minutes, zero_problem};
use crate::partition::Replay;

/// Ends a segment that has been open for this long by the wall clock, whether records come or not: the bound on how
/// stale the target can be.
///
/// If the clock is set back by at least the age, the segment ends at once, because nobody can tell its age any more;
/// if by less, it lives at most that much longer.
///
/// ```
/// use aqueduct_core::MaxAge;
///
/// assert_eq!(MaxAge::minutes(5), MaxAge::seconds(300));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxAge {
    age: Duration,
}

impl MaxAge {
    /// `seconds` seconds.
    pub fn seconds(seconds: u64) -> Self {
        Self::of(Duration::from_secs(seconds))
    }

    /// `minutes` minutes.
    pub fn minutes(minutes: u64) -> Self {
        Self::of(from_minutes(minutes))
    }

    /// Any duration; the lane looks a few times a second.
    pub fn of(age: Duration) -> Self {
        Self { age }
    }
}

impl RotationPolicy for MaxAge {
    fn tick(&self, open: &SegmentStats, now: SystemTime) -> Cut {
        Cut::when(distance(now, open.opened_at) >= self.age, CutReason::Age)
    }

    fn problems(&self) -> Vec<String> {
        zero_problem("rotation by age", "MaxAge::minutes(5)", self.age)
    }

    fn replay(&self) -> Replay {
        Replay::WallClock
    }

    fn interval(&self) -> Option<Duration> {
        Some(self.age)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{minutes_after, noon};
    use super::*;

    #[test]
    fn a_segment_ends_at_its_age_and_not_before() {
        let open = SegmentStats::opened(noon());
        let policy = MaxAge::minutes(5);
        let just_before = noon() + Duration::from_mins(5) - Duration::from_nanos(1);
        assert_eq!(policy.tick(&open, noon()), Cut::No);
        assert_eq!(policy.tick(&open, just_before), Cut::No);
        assert_eq!(policy.tick(&open, minutes_after(noon(), 5)), Cut::Yes(CutReason::Age));
        assert_eq!(
            policy.tick(&open, minutes_after(noon(), 65)),
            Cut::Yes(CutReason::Age),
            "the clock jumped ahead"
        );
    }

    #[test]
    fn a_clock_set_back_does_not_keep_a_segment_open() {
        let open = SegmentStats::opened(noon());
        let hour_back = noon() - Duration::from_hours(1);
        assert_eq!(MaxAge::minutes(5).tick(&open, hour_back), Cut::Yes(CutReason::Age));
        let second_back = noon() - Duration::from_secs(1);
        assert_eq!(
            MaxAge::minutes(5).tick(&open, second_back),
            Cut::No,
            "small corrections make no tiny segments"
        );
    }

    #[test]
    fn an_age_of_zero_is_a_problem() {
        assert_eq!(MaxAge::seconds(0).problems().len(), 1);
        assert!(MaxAge::minutes(u64::MAX).problems().is_empty());
    }
}
