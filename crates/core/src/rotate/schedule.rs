//! Rotation at fixed times of the day.

use std::ops::Range;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimeParser;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::{Cut, CutReason, RotationPolicy, SegmentStats, from_minutes};
use crate::clock::unix_millis;
use crate::partition::Replay;

/// Ends segments at fixed wall-clock times: Kafka Connect's `rotate.schedule.interval.ms`.
///
/// The day is cut into steps of one period, counted from local midnight in the schedule's zone, and midnight is
/// always a boundary, so the last step of a day may be shorter. Days of 23 and 25 hours get steps of the same length
/// and the next day starts at its own midnight. A period of a day or more means midnight alone.
///
/// A segment ends once the clock has left the step in which it was opened: at the next boundary, or, if the clock is
/// set back by more than a step, at once. Unlike in Kafka Connect this costs no guarantee: the cut is written down
/// before anything is published.
///
/// An unknown zone or an empty period is reported by [`problems`](RotationPolicy::problems), and such a schedule
/// never ends a segment.
///
/// ```
/// use aqueduct_core::{RotationPolicy, Schedule};
///
/// assert!(Schedule::hourly("Asia/Seoul").problems().is_empty());
/// assert_eq!(
///     Schedule::minutes(15, "Asia/Soul").problems(),
///     ["schedule: unknown time zone \"Asia/Soul\"; give an IANA name like Asia/Seoul or an offset like +09:00"]
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Schedule {
    period_ms: i64,
    zone_name: String,
    zone: Option<TimeZone>,
}

impl Schedule {
    /// A boundary every `period` from local midnight in `zone`: an IANA name or an offset such as `+09:00`. Parts of
    /// a millisecond are dropped.
    pub fn every(period: Duration, zone: &str) -> Self {
        // Never the host's zone files: a boundary must not move with the machine.
        let parsed = DateTimeParser::new().parse_time_zone_with(&TimeZoneDatabase::bundled(), zone);
        Self {
            period_ms: i64::try_from(period.as_millis()).unwrap_or(i64::MAX),
            zone_name: zone.to_owned(),
            // Rules spelled out, as in "GMT+9", count hours the other way round: nobody who writes them means it.
            zone: parsed.ok().filter(|zone| zone.iana_name().is_some() || zone.to_fixed_offset().is_ok()),
        }
    }

    /// A boundary every `minutes` minutes from local midnight.
    pub fn minutes(minutes: u64, zone: &str) -> Self {
        Self::every(from_minutes(minutes), zone)
    }

    /// A boundary every hour from local midnight.
    pub fn hourly(zone: &str) -> Self {
        Self::minutes(60, zone)
    }

    /// A boundary at every local midnight.
    pub fn daily(zone: &str) -> Self {
        Self::minutes(24 * 60, zone)
    }

    /// The step that holds `at_ms`, in milliseconds since the Unix epoch; `None` for an unusable schedule and for
    /// times that a calendar cannot show.
    fn step(&self, at_ms: i64) -> Option<Range<i64>> {
        let zone = self.zone.as_ref()?;
        if self.period_ms == 0 {
            return None;
        }
        let date = zone.to_datetime(Timestamp::from_millisecond(at_ms).ok()?).date();
        let midnight = zone.to_timestamp(date.at(0, 0, 0, 0)).ok()?.as_millisecond();
        let tomorrow = date.tomorrow().ok()?.at(0, 0, 0, 0);
        let mut day_end = zone.to_timestamp(tomorrow).ok()?.as_millisecond();
        if day_end <= at_ms {
            // Clocks that go back right after midnight show two midnights, and this is the time between them.
            day_end = zone.to_ambiguous_timestamp(tomorrow).later().ok()?.as_millisecond();
        }
        if self.period_ms >= DAY_MS {
            // Else a day of 25 hours would get a boundary an hour before its end.
            return Some(midnight..day_end);
        }
        let start = at_ms - at_ms.saturating_sub(midnight).rem_euclid(self.period_ms);
        Some(start..start.saturating_add(self.period_ms).min(day_end))
    }
}

const DAY_MS: i64 = 24 * 3_600_000;

impl RotationPolicy for Schedule {
    fn tick(&self, open: &SegmentStats, now: SystemTime) -> Cut {
        let Some(step) = self.step(unix_millis(open.opened_at)) else {
            return Cut::No;
        };
        let now = unix_millis(now);
        // Small corrections around a boundary stay within the step before it and make no tiny segments.
        let set_back = step.start.saturating_sub(now) > step.end - step.start;
        Cut::when(now >= step.end || set_back, CutReason::Schedule)
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.zone.is_none() {
            problems.push(format!(
                "schedule: unknown time zone {:?}; give an IANA name like Asia/Seoul or an offset like +09:00",
                self.zone_name
            ));
        }
        if self.period_ms == 0 {
            problems.push(
                "schedule: the period is 0; give at least 1 ms, as in Schedule::minutes(15, ..)".to_owned(),
            );
        }
        problems
    }

    fn replay(&self) -> Replay {
        Replay::WallClock
    }

    fn interval(&self) -> Option<Duration> {
        u64::try_from(self.period_ms.min(DAY_MS)).ok().map(Duration::from_millis)
    }
}

#[cfg(test)]
#[path = "schedule/tests.rs"]
mod tests;
