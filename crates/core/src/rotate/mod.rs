//! When a segment ends.

use std::time::{Duration, SystemTime};

use crate::partition::Replay;
use crate::record::{Record, Timestamp};

pub use age::MaxAge;
pub use any::{Any, any};
pub use bytes::MaxBytes;
pub use idle::Idle;
pub use record_time::RecordTime;
pub use records::MaxRecords;
pub use schedule::Schedule;

mod age;
mod any;
mod bytes;
mod idle;
mod record_time;
mod records;
mod schedule;

/// Decides the cut: when the open segment of a lane ends.
///
/// # Contract
/// [`before`](Self::before) is asked with the next record before it is appended, [`after`](Self::after) once it was,
/// [`tick`](Self::tick) a few times a second while the segment is open, whether records come or not. A cut closes
/// every route of the lane together; it need not be reproducible, because it is written down before anything is
/// published.
///
/// ```
/// use aqueduct_core::{Cut, CutReason, RotationPolicy, SegmentStats};
///
/// /// Ends a segment after 1000 rows.
/// #[derive(Debug)]
/// struct Thousand;
///
/// impl RotationPolicy for Thousand {
///     fn after(&self, open: &SegmentStats) -> Cut {
///         if open.rows >= 1000 { Cut::Yes(CutReason::Records) } else { Cut::No }
///     }
/// }
/// ```
pub trait RotationPolicy: Send + Sync + std::fmt::Debug + 'static {
    /// Before `next` is appended; `Yes` leaves it to the next segment.
    fn before(&self, _open: &SegmentStats, _next: &Record<'_>) -> Cut {
        Cut::No
    }

    /// After a record was appended.
    fn after(&self, _open: &SegmentStats) -> Cut {
        Cut::No
    }

    /// While time passes; `now` is the wall clock.
    fn tick(&self, _open: &SegmentStats, _now: SystemTime) -> Cut {
        Cut::No
    }

    /// Problems of the configuration, in words, reported by `build()` together with all others.
    fn problems(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether the cut depends on records alone. Only informative: intents make any cut exactly-once.
    fn replay(&self) -> Replay {
        Replay::Deterministic
    }

    /// After about how long the clock alone ends the segment of a lane that always has records; `None` if the clock alone never
    /// does. Records and bytes may end it earlier, as often as they come. For [`Sink::plan_problems`](crate::Sink::plan_problems).
    fn interval(&self) -> Option<Duration> {
        None
    }
}

impl RotationPolicy for Box<dyn RotationPolicy> {
    fn before(&self, open: &SegmentStats, next: &Record<'_>) -> Cut {
        (**self).before(open, next)
    }

    fn after(&self, open: &SegmentStats) -> Cut {
        (**self).after(open)
    }

    fn tick(&self, open: &SegmentStats, now: SystemTime) -> Cut {
        (**self).tick(open, now)
    }

    fn problems(&self) -> Vec<String> {
        (**self).problems()
    }

    fn replay(&self) -> Replay {
        (**self).replay()
    }

    fn interval(&self) -> Option<Duration> {
        (**self).interval()
    }
}

/// Whether a segment ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Cut {
    /// It goes on.
    No,
    /// It ends.
    Yes(CutReason),
}

impl Cut {
    fn when(due: bool, reason: CutReason) -> Self {
        if due { Self::Yes(reason) } else { Self::No }
    }
}

/// Why a segment ended; a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CutReason {
    /// Enough records.
    Records,
    /// Enough bytes.
    Bytes,
    /// Enough time between records, by their own timestamps.
    RecordTime,
    /// Open for long enough.
    Age,
    /// The schedule's boundary passed.
    Schedule,
    /// No records for long enough.
    Idle,
    /// Somebody asked.
    Demand,
    /// A user's own policy.
    Custom,
    /// The segment has as many routes as the sink allows.
    Routes,
    /// The disk budget is used up.
    Disk,
    /// Enough dead letters wait.
    DeadLetters,
    /// The partition is being handed over.
    Revoked,
    /// The pipeline is shutting down, or its bounded source has ended.
    Drain,
    /// A former owner's intent said so.
    Pinned,
    /// The record after it is a poison and the policy is to stop.
    Stop,
}

impl CutReason {
    /// The name used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bytes => "bytes",
            Self::RecordTime => "record-time",
            Self::Age => "age",
            Self::Schedule => "schedule",
            Self::Idle => "idle",
            Self::Demand => "demand",
            Self::Custom => "custom",
            Self::Routes => "routes",
            Self::Disk => "disk",
            Self::DeadLetters => "dead-letters",
            Self::Revoked => "revoked",
            Self::Drain => "drain",
            Self::Pinned => "pinned",
            Self::Stop => "stop",
        }
    }
}

/// What is known about the open segment of a lane, over all its routes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// Records read, stored or not.
    pub records: u64,
    /// Rows stored.
    pub rows: u64,
    /// Bytes of rows as encoded, before compression.
    pub bytes: u64,
    /// When the segment was opened, by the wall clock.
    pub opened_at: SystemTime,
    /// When its last record arrived, by the wall clock; read once per batch.
    pub last_arrival: SystemTime,
    /// The first record's own timestamp.
    pub first_timestamp: Timestamp,
}

impl SegmentStats {
    /// An empty segment opened at `now`.
    pub fn opened(now: SystemTime) -> Self {
        Self {
            records: 0,
            rows: 0,
            bytes: 0,
            opened_at: now,
            last_arrival: now,
            first_timestamp: Timestamp::None,
        }
    }
}

/// How far two readings of the wall clock are apart. In either direction: a clock that was set back tells as little
/// about a segment's age as one that was set ahead.
fn distance(one: SystemTime, other: SystemTime) -> Duration {
    one.duration_since(other).unwrap_or_else(|set_back| set_back.duration())
}

fn from_minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes.saturating_mul(60))
}

/// The problem of an `interval` without a whole millisecond, if it has it.
fn zero_problem(policy: &str, remedy: &str, interval: Duration) -> Vec<String> {
    if interval.as_millis() > 0 {
        return Vec::new();
    }
    vec![format!("{policy}: the duration is 0; give at least 1 ms, as in {remedy}")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::BatchBuilder;
    use crate::budget::Permit;
    use crate::clock::from_unix_millis;
    use crate::record::{Offset, TopicPartition};

    /// Noon in UTC, a multiple of every period the tests use.
    pub(super) fn noon() -> SystemTime {
        from_unix_millis(1_717_243_200_000)
    }

    pub(super) fn minutes_after(time: SystemTime, minutes: u64) -> SystemTime {
        time + from_minutes(minutes)
    }

    /// Calls `f` with a record of that timestamp.
    pub(super) fn with_record(timestamp: Timestamp, f: impl FnOnce(&Record<'_>) -> Cut) -> Cut {
        let mut builder = BatchBuilder::new(TopicPartition::new("t", 0), 0);
        builder.push(Offset::ZERO, timestamp, None, None, []);
        f(&builder.build(Permit::unlimited()).get(0).unwrap())
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        let names = [CutReason::RecordTime, CutReason::Schedule, CutReason::Age].map(CutReason::as_str);
        assert_eq!(names, ["record-time", "schedule", "age"]);
    }

    #[test]
    fn clocks_differ_in_both_directions() {
        let later = minutes_after(noon(), 5);
        assert_eq!(distance(later, noon()), distance(noon(), later));
        assert_eq!(distance(noon(), noon()), Duration::ZERO);
    }
}
