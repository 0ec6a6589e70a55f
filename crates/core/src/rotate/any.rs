//! Several policies at once.

use std::time::{Duration, SystemTime};

use super::{Cut, RotationPolicy, SegmentStats};
use crate::partition::Replay;
use crate::record::Record;

/// Ends a segment as soon as one of `policies` does; the first one in order names the reason.
///
/// Takes a tuple of one to eight policies, or a `Vec<Box<dyn RotationPolicy>>` when they are known only at run time.
/// The result is a policy again, so a ninth goes into an inner `any`.
///
/// ```
/// use aqueduct_core::{MaxAge, MaxBytes, MaxRecords, RotationPolicy, any};
///
/// let compiled = any((MaxRecords(100_000), MaxBytes::mib(256), MaxAge::minutes(5)));
/// let configured: Vec<Box<dyn RotationPolicy>> = vec![Box::new(MaxRecords(0)), Box::new(MaxAge::minutes(5))];
/// assert!(compiled.problems().is_empty());
/// assert_eq!(any(configured).problems().len(), 1);
/// ```
pub fn any<P>(policies: P) -> Any<P>
where
    Any<P>: RotationPolicy,
{
    Any(policies)
}

/// See [`any`].
#[derive(Clone, Debug)]
pub struct Any<P>(P);

impl RotationPolicy for Any<Vec<Box<dyn RotationPolicy>>> {
    fn before(&self, open: &SegmentStats, next: &Record<'_>) -> Cut {
        first_cut(self.0.iter().map(|policy| policy.before(open, next)))
    }

    fn after(&self, open: &SegmentStats) -> Cut {
        first_cut(self.0.iter().map(|policy| policy.after(open)))
    }

    fn tick(&self, open: &SegmentStats, now: SystemTime) -> Cut {
        first_cut(self.0.iter().map(|policy| policy.tick(open, now)))
    }

    fn problems(&self) -> Vec<String> {
        if self.0.is_empty() {
            return vec![
                "rotation: an empty list of policies never ends a segment; give at least one".to_owned(),
            ];
        }
        self.0.iter().flat_map(RotationPolicy::problems).collect()
    }

    fn replay(&self) -> Replay {
        self.0.iter().fold(Replay::Deterministic, |all, policy| all.and(policy.replay()))
    }

    fn interval(&self) -> Option<Duration> {
        self.0.iter().filter_map(RotationPolicy::interval).min()
    }
}

fn first_cut(mut cuts: impl Iterator<Item = Cut>) -> Cut {
    cuts.find(|cut| *cut != Cut::No).unwrap_or(Cut::No)
}

macro_rules! any_of_tuple {
    ($($policy:ident)+) => {
        impl<$($policy: RotationPolicy),+> RotationPolicy for Any<($($policy,)+)> {
            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn before(&self, open: &SegmentStats, next: &Record<'_>) -> Cut {
                let ($($policy,)+) = &self.0;
                $( if let Cut::Yes(reason) = $policy.before(open, next) { return Cut::Yes(reason); } )+
                Cut::No
            }

            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn after(&self, open: &SegmentStats) -> Cut {
                let ($($policy,)+) = &self.0;
                $( if let Cut::Yes(reason) = $policy.after(open) { return Cut::Yes(reason); } )+
                Cut::No
            }

            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn tick(&self, open: &SegmentStats, now: SystemTime) -> Cut {
                let ($($policy,)+) = &self.0;
                $( if let Cut::Yes(reason) = $policy.tick(open, now) { return Cut::Yes(reason); } )+
                Cut::No
            }

            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn problems(&self) -> Vec<String> {
                let ($($policy,)+) = &self.0;
                let mut problems = Vec::new();
                $( problems.extend($policy.problems()); )+
                problems
            }

            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn replay(&self) -> Replay {
                let ($($policy,)+) = &self.0;
                Replay::Deterministic$( .and($policy.replay()) )+
            }

            #[expect(non_snake_case, reason = "one name for the type and its value")]
            fn interval(&self) -> Option<Duration> {
                let ($($policy,)+) = &self.0;
                [$( $policy.interval() ),+].into_iter().flatten().min()
            }
        }
    };
}
any_of_tuple!(A);
any_of_tuple!(A B);
any_of_tuple!(A B C);
any_of_tuple!(A B C D);
any_of_tuple!(A B C D E);
any_of_tuple!(A B C D E F);
any_of_tuple!(A B C D E F G);
any_of_tuple!(A B C D E F G H);

#[cfg(test)]
mod tests {
    use super::super::tests::{minutes_after, noon, with_record};
    use super::*;
    use crate::record::Timestamp;
    use crate::rotate::{CutReason, Idle, MaxAge, MaxBytes, MaxRecords, RecordTime, Schedule};

    fn full() -> SegmentStats {
        let mut open = SegmentStats::opened(noon());
        (open.records, open.bytes) = (10, 10);
        open.first_timestamp = Timestamp::Create(0);
        open
    }

    #[test]
    fn the_first_policy_in_order_names_the_reason() {
        let late = minutes_after(noon(), 60);
        let policy =
            any((MaxRecords(11), MaxBytes::bytes(10), MaxRecords(10), MaxAge::minutes(1), Idle::minutes(1)));
        assert_eq!(policy.after(&full()), Cut::Yes(CutReason::Bytes));
        assert_eq!(policy.tick(&full(), late), Cut::Yes(CutReason::Age));
        assert_eq!(policy.tick(&full(), noon()), Cut::No);
        let policy = any((MaxRecords(1), RecordTime::minutes(1)));
        let cut = with_record(Timestamp::Create(60_000), |record| policy.before(&full(), record));
        assert_eq!(cut, Cut::Yes(CutReason::RecordTime));
    }

    #[test]
    fn a_list_does_what_a_tuple_does() {
        let boxed = |policies: Vec<Box<dyn RotationPolicy>>| any(policies);
        let list = boxed(vec![
            Box::new(MaxRecords(11)),
            Box::new(MaxBytes::bytes(10)),
            Box::new(MaxAge::minutes(1)),
        ]);
        assert_eq!(list.after(&full()), Cut::Yes(CutReason::Bytes));
        assert_eq!(list.tick(&full(), minutes_after(noon(), 1)), Cut::Yes(CutReason::Age));
        assert_eq!(list.replay(), Replay::WallClock);
        assert_eq!(boxed(Vec::new()).problems().len(), 1);
        assert_eq!(boxed(Vec::new()).after(&full()), Cut::No);
    }

    #[test]
    fn the_shortest_clock_is_the_interval() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        assert_eq!(any((MaxRecords(1), MaxAge::minutes(5), RecordTime::minutes(2))).interval(), minutes(2));
        assert_eq!(any((MaxRecords(1), Idle::minutes(1))).interval(), None, "records keep it open");
        let list: Vec<Box<dyn RotationPolicy>> =
            vec![Box::new(MaxBytes::mib(1)), Box::new(MaxAge::minutes(7))];
        assert_eq!(any(list).interval(), minutes(7));
        assert_eq!(Schedule::minutes(15, "UTC").interval(), minutes(15));
        assert_eq!(Schedule::hourly("UTC").interval(), minutes(60));
        assert_eq!(Schedule::minutes(72 * 60, "UTC").interval(), minutes(24 * 60), "at every midnight");
    }

    #[test]
    fn all_problems_are_reported() {
        let policy = any((MaxRecords(0), any((MaxBytes::mib(0), MaxAge::minutes(1))), Idle::minutes(0)));
        assert_eq!(policy.problems().len(), 3);
        assert_eq!(any((MaxRecords(1), MaxBytes::mib(1))).replay(), Replay::Deterministic);
    }
}
