//! Rotation by the records' own timestamps.

use std::time::Duration;

use super::{Cut, CutReason, RotationPolicy, SegmentStats, distance, from_minutes, zero_problem};
use crate::clock::unix_millis;
use crate::partition::Replay;
use crate::record::Record;

/// Ends a segment before the record whose own timestamp is an interval or more after the segment's first.
///
/// Timestamps are whatever producers write, so three things keep a segment from staying open:
/// - A first timestamp ahead of the clock would make every normal record look early. Once a record comes that is an
///   interval or more *before* such a first timestamp, the segment ends there. Late records after a normal first one
///   do not end a segment.
/// - A topic on which no record has arrived for an interval of wall-clock time ends its segment.
/// - So does a segment that has been open for two intervals of wall-clock time, whatever its records say: none,
///   descending or constant timestamps cannot hold data back.
///
/// The last two make a cut depend on the clock, so it is written down before it counts, like any other.
///
/// ```
/// use aqueduct_core::RecordTime;
///
/// assert_eq!(RecordTime::hours(1), RecordTime::minutes(60));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordTime {
    interval: Duration,
    interval_ms: i64,
}

impl RecordTime {
    /// An interval of `minutes` minutes.
    pub fn minutes(minutes: u64) -> Self {
        Self::of(from_minutes(minutes))
    }

    /// An interval of `hours` hours.
    pub fn hours(hours: u64) -> Self {
        Self::of(from_minutes(hours.saturating_mul(60)))
    }

    /// Any interval; timestamps have milliseconds, so parts of one are dropped.
    pub fn of(interval: Duration) -> Self {
        Self { interval, interval_ms: i64::try_from(interval.as_millis()).unwrap_or(i64::MAX) }
    }
}

impl RotationPolicy for RecordTime {
    fn before(&self, open: &SegmentStats, next: &Record<'_>) -> Cut {
        let (Some(first), Some(next)) = (open.first_timestamp.millis(), next.timestamp().millis()) else {
            return Cut::No;
        };
        let passed = next.saturating_sub(first) >= self.interval_ms;
        let first_is_ahead =
            || first.saturating_sub(next) >= self.interval_ms && first > unix_millis(open.opened_at);
        Cut::when(passed || first_is_ahead(), CutReason::RecordTime)
    }

    fn tick(&self, open: &SegmentStats, now: std::time::SystemTime) -> Cut {
        let quiet = distance(now, open.last_arrival) >= self.interval;
        let overdue = distance(now, open.opened_at) >= self.interval.saturating_mul(2);
        Cut::when(quiet || overdue, CutReason::RecordTime)
    }

    fn problems(&self) -> Vec<String> {
        zero_problem("rotation by record time", "RecordTime::minutes(10)", self.interval)
    }

    fn replay(&self) -> Replay {
        Replay::WallClock
    }

    /// What records of the present do; the clock alone ends a segment after two.
    fn interval(&self) -> Option<Duration> {
        Some(self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{minutes_after, with_record};
    use super::*;
    use crate::record::Timestamp;

    const NOW_MS: i64 = 1_700_000_000_000;
    const MINUTE_MS: i64 = 60_000;

    fn open(first: Timestamp) -> SegmentStats {
        let mut open = SegmentStats::opened(crate::clock::from_unix_millis(NOW_MS));
        open.records = 1;
        open.first_timestamp = first;
        open
    }

    fn before(first: Timestamp, next: Timestamp) -> bool {
        with_record(next, |record| RecordTime::minutes(10).before(&open(first), record))
            == Cut::Yes(CutReason::RecordTime)
    }

    #[test]
    fn the_record_at_the_interval_opens_the_next_segment() {
        let first = Timestamp::Create(NOW_MS);
        assert!(!before(first, Timestamp::Create(NOW_MS + 10 * MINUTE_MS - 1)));
        assert!(before(first, Timestamp::Create(NOW_MS + 10 * MINUTE_MS)));
        assert!(before(first, Timestamp::LogAppend(NOW_MS + 11 * MINUTE_MS)));
    }

    #[test]
    fn extreme_timestamps_neither_overflow_nor_cut_every_record() {
        let at = Timestamp::Create;
        assert!(before(at(-5), at(i64::MAX)));
        assert!(before(at(i64::MIN), at(i64::MAX)));
        assert!(before(at(i64::MAX), at(i64::MIN)), "the first one is ahead of the clock");
        assert!(!before(at(-1), at(-1)));
        assert!(!before(at(i64::MAX), at(i64::MAX)));
        assert!(!before(Timestamp::None, at(i64::MAX)));
        assert!(!before(at(0), Timestamp::None));
    }

    #[test]
    fn late_records_stay_in_a_segment_that_began_normally() {
        for late in [NOW_MS - 1, NOW_MS - 60 * MINUTE_MS, 0, -1, i64::MIN] {
            assert!(!before(Timestamp::Create(NOW_MS), Timestamp::Create(late)), "{late}");
        }
    }

    #[test]
    fn a_future_first_timestamp_does_not_stop_rotation() {
        let year = 365 * 24 * 60 * MINUTE_MS;
        assert!(before(Timestamp::Create(NOW_MS + year), Timestamp::Create(NOW_MS)));
        // Less ahead than the interval: the ordinary rule gets there soon.
        assert!(!before(Timestamp::Create(NOW_MS + 5 * MINUTE_MS), Timestamp::Create(NOW_MS)));
    }

    #[test]
    fn a_quiet_topic_ends_its_segment_after_an_interval() {
        let policy = RecordTime::minutes(10);
        let mut open = open(Timestamp::Create(NOW_MS));
        open.last_arrival = minutes_after(open.opened_at, 3);
        assert_eq!(policy.tick(&open, minutes_after(open.opened_at, 12)), Cut::No);
        assert_eq!(policy.tick(&open, minutes_after(open.opened_at, 13)), Cut::Yes(CutReason::RecordTime));
    }

    #[test]
    fn records_that_never_advance_are_cut_after_two_intervals() {
        let policy = RecordTime::minutes(10);
        let mut open = open(Timestamp::None);
        for (minute, cut) in [(9, false), (19, false), (20, true)] {
            let now = minutes_after(open.opened_at, minute);
            open.last_arrival = now;
            assert_eq!(policy.tick(&open, now), Cut::when(cut, CutReason::RecordTime), "{minute}");
        }
    }

    #[test]
    fn an_interval_of_nothing_is_a_problem() {
        assert_eq!(RecordTime::minutes(0).problems().len(), 1);
        assert_eq!(RecordTime::of(Duration::from_micros(999)).problems().len(), 1);
        assert!(RecordTime::of(Duration::from_millis(1)).problems().is_empty());
        assert!(RecordTime::hours(u64::MAX).problems().is_empty());
    }
}
