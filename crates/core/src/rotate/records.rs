//! Rotation by number of records.

use super::{Cut, CutReason, RotationPolicy, SegmentStats};

/// Ends a segment once it holds this many records, over all its routes.
///
/// Every record *read* counts, also one that a filter or a tombstone policy left out, so that a topic of skipped
/// records still moves its mark. The cut depends on the records alone.
///
/// ```
/// use aqueduct_core::{Cut, CutReason, MaxRecords, RotationPolicy, SegmentStats};
/// use std::time::UNIX_EPOCH;
///
/// let mut open = SegmentStats::opened(UNIX_EPOCH);
/// open.records = 100;
/// assert_eq!(MaxRecords(100).after(&open), Cut::Yes(CutReason::Records));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxRecords(pub u64);

impl RotationPolicy for MaxRecords {
    fn after(&self, open: &SegmentStats) -> Cut {
        Cut::when(open.records >= self.0, CutReason::Records)
    }

    fn problems(&self) -> Vec<String> {
        if self.0 > 0 {
            return Vec::new();
        }
        vec![
            "rotation by records: the limit is 0; give at least 1 record, as in MaxRecords(100_000)"
                .to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_record_that_reaches_the_limit_is_the_last_one() {
        let mut open = SegmentStats::opened(UNIX_EPOCH);
        for (records, cut) in [(0, false), (2, false), (3, true), (4, true), (u64::MAX, true)] {
            open.records = records;
            assert_eq!(MaxRecords(3).after(&open), Cut::when(cut, CutReason::Records), "{records}");
        }
    }

    #[test]
    fn skipped_records_count() {
        let mut open = SegmentStats::opened(UNIX_EPOCH);
        (open.records, open.rows) = (3, 0);
        assert_eq!(MaxRecords(3).after(&open), Cut::Yes(CutReason::Records));
    }

    #[test]
    fn a_limit_of_zero_is_a_problem() {
        assert_eq!(MaxRecords(0).problems().len(), 1);
        assert!(MaxRecords(1).problems().is_empty());
    }
}
