//! What should be in the tables.

use std::collections::BTreeSet;

use aqueduct_core::{OffsetRange, TopicPartition};

/// The records of a partition that should be somewhere by now.
///
/// ```
/// use aqueduct_core::{Offset, OffsetRange, TopicPartition};
/// use aqueduct_sink_bigquery::DueRecords;
///
/// let range = OffsetRange::new(Offset::ZERO, Offset::new(1_000)).unwrap();
/// let lane = TopicPartition::new("orders", 0);
/// // Nobody has counted: every offset may be a record.
/// let most = DueRecords::offsets(lane.clone(), range);
/// // Read and counted: 990 of the thousand offsets are records.
/// let counted = DueRecords::counted(lane, range, 990);
/// assert_eq!((most.records(), counted.records()), (1_000, 990));
/// assert!(counted.is_counted() && !most.is_counted());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueRecords {
    lane: TopicPartition,
    range: OffsetRange,
    records: Option<u64>,
}

impl DueRecords {
    /// Every offset of the range may be a record: an upper bound, exact for topics without compaction and transactions.
    pub fn offsets(lane: TopicPartition, range: OffsetRange) -> Self {
        Self { lane, range, records: None }
    }

    /// So many records are in the range.
    pub fn counted(lane: TopicPartition, range: OffsetRange, records: u64) -> Self {
        Self { lane, range, records: Some(records) }
    }

    /// The partition.
    pub fn lane(&self) -> &TopicPartition {
        &self.lane
    }

    /// Its offsets.
    pub fn range(&self) -> OffsetRange {
        self.range
    }

    /// How many records: as counted, or as many as there are offsets.
    pub fn records(&self) -> u64 {
        self.records.unwrap_or_else(|| self.length())
    }

    /// Whether somebody has counted them.
    pub fn is_counted(&self) -> bool {
        self.records.is_some()
    }

    fn length(&self) -> u64 {
        self.range.end().get().abs_diff(self.range.start().get())
    }
}

/// What makes no sense.
pub(super) fn problem(due: &[DueRecords]) -> Option<String> {
    let mut lanes = BTreeSet::new();
    for one in due {
        let DueRecords { lane, range, .. } = one;
        if !lanes.insert(lane) {
            return Some(format!("{lane} is due twice; give one range of each partition"));
        }
        if one.records() > one.length() {
            return Some(format!(
                "{} records are due of {lane}, whose offsets {range} are fewer",
                one.records()
            ));
        }
    }
    None
}
