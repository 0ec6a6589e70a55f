//! What is written: rows, in batches, under routes.

use super::row::SuiteRow;
use crate::batch::{Batch, BatchBuilder};
use crate::budget::Permit;
use crate::partition::RoutePath;
use crate::record::{Offset, OffsetRange, Record, Timestamp, TopicPartition};

/// The records of one segment.
#[derive(Clone, Debug)]
pub(super) struct Script {
    pub(super) lane: TopicPartition,
    pub(super) rows: Vec<SuiteRow>,
    pub(super) range: OffsetRange,
    /// Rows take turns over this many routes.
    pub(super) routes: i64,
    /// Records of a batch.
    pub(super) batch: usize,
}

impl Script {
    /// `rows` records with offsets from 0, over `routes` routes.
    pub(super) fn dense(lane: &TopicPartition, rows: i64, routes: i64) -> Self {
        Self::at(lane, 0..rows, 0, rows, routes)
    }

    /// Records at `offsets` of the range `[start, end)`.
    pub(super) fn at(
        lane: &TopicPartition,
        offsets: impl IntoIterator<Item = i64>,
        start: i64,
        end: i64,
        routes: i64,
    ) -> Self {
        let rows = offsets.into_iter().map(|offset| SuiteRow::new(lane, offset, routes)).collect();
        match OffsetRange::new(Offset::new(start), Offset::new(end)) {
            Some(range) => Self { lane: lane.clone(), rows, range, routes, batch: 5 },
            None => panic!("the suite's own range [{start}, {end}) is empty"),
        }
    }

    /// The same records, cut at `end`.
    pub(super) fn until(&self, end: i64) -> Self {
        let offsets = self.rows.iter().map(|row| row.offset.get()).filter(|offset| *offset < end);
        Self {
            batch: self.batch,
            ..Self::at(&self.lane, offsets, self.range.start().get(), end, self.routes)
        }
    }

    /// Batches of the records, in order.
    pub(super) fn batches(&self) -> impl Iterator<Item = Batch> {
        self.rows.chunks(self.batch).map(|rows| batch_of(rows, BatchBuilder::new(self.lane.clone(), 4096)))
    }

    /// Appends the record's route to an empty path.
    pub(super) fn route(&self, record: &Record<'_>, path: &mut RoutePath) {
        if self.routes > 1 {
            let level = format!("route-{}", record.offset().get() % self.routes);
            if let Err(poison) = path.push(&level) {
                panic!("the suite's own route {level} is refused: {poison}");
            }
        }
    }
}

/// One batch of `rows`.
pub(super) fn batch_of(rows: &[SuiteRow], mut builder: BatchBuilder) -> Batch {
    for row in rows {
        let at = Timestamp::Create(1_700_000_000_000 + row.offset.get() * 1000);
        builder.push(row.offset, at, None, Some(row.to_json().as_bytes()), []);
    }
    builder.build(Permit::unlimited())
}
