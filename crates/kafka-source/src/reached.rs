//! Progress beside records: ends of partitions, positions, and the end of a bounded run.
//!
//! A position passes what is not a record (control records, aborted transactions); the end of a partition also
//! passes a compacted tail. Both become `Reached`, always behind the batches they cover.

use std::time::{Duration, Instant};

use aqueduct_core::{Offset, SourceEvent};
use rdkafka::consumer::{Consumer as _, RebalanceProtocol};

use crate::client::Consumer;
use crate::poll::Poller;

/// How often positions are compared when no end was reported.
const POSITIONS: Duration = Duration::from_secs(1);
/// A bounded run that owns no partition ends when the group has not changed for this long.
const QUIET: Duration = Duration::from_secs(10);

impl Poller {
    /// The client came to the end of a partition with this number, of whichever topic.
    pub(crate) fn mark_end(&mut self, partition: i32) {
        let now = Instant::now();
        for lane in self.lanes.iter_mut().filter(|lane| lane.name.partition() == partition) {
            lane.at_end = true;
        }
        self.positions_due = self.positions_due.min(now);
    }

    /// Tells the pipeline about positions that went past the last record, and about the end of a bounded run.
    pub(crate) fn settle_positions(&mut self, consumer: &Consumer, now: Instant) {
        if now >= self.positions_due && !self.lanes.is_empty() {
            self.positions_due = now + POSITIONS;
            self.compare_positions(consumer);
        }
        if self.settings.until_end && !self.finished && self.handover.is_none() {
            let finished = if self.lanes.is_empty() {
                let joined = !matches!(consumer.rebalance_protocol(), RebalanceProtocol::None);
                if !joined {
                    // The group lets nobody in before a dead member's session is over: that wait is no quiet time.
                    self.last_change = now;
                }
                joined && now.saturating_duration_since(self.last_change) >= QUIET
            } else {
                self.lanes.iter().all(crate::lanes::Lane::is_finished)
            };
            if finished {
                self.finished = true;
                self.emit(Ok(SourceEvent::Finished));
            }
        }
    }

    fn compare_positions(&mut self, consumer: &Consumer) {
        let positions = match consumer.position() {
            Ok(positions) => positions,
            Err(error) => {
                tracing::debug!(%error, "no positions");
                return;
            }
        };
        for element in positions.elements() {
            let name = aqueduct_core::TopicPartition::new(element.topic(), element.partition());
            let Some(index) = self.lanes.index_of(&name) else {
                continue;
            };
            if self.throttle.holds(&name) {
                continue;
            }
            let position = match element.offset() {
                rdkafka::Offset::Offset(position) => Offset::new(position),
                _ => Offset::new(i64::MIN),
            };
            self.pass(index, position);
        }
    }

    /// Moves a lane's position past what is not a record.
    fn pass(&mut self, index: usize, position: Offset) {
        let single_topic = self.settings.single_topic();
        let Some(lane) = self.lanes.get(index) else { return };
        if lane.leaving || lane.is_finished() {
            return;
        }
        let ended = std::mem::take(&mut lane.at_end);
        let mut passed = position.max(lane.next);
        if ended && single_topic {
            // The end was met after the assignment, so all below the end it had then has been passed. With several
            // topics the event may be another topic's.
            passed = passed.max(lane.end_at_start);
        }
        if let Some(stop) = lane.stop_at {
            passed = passed.min(stop);
        }
        let beyond_records = passed > lane.next;
        lane.next = passed;
        let news = lane.reached.is_none_or(|reached| passed > reached);
        if lane.is_finished() {
            self.finish_lane(index);
        } else if news && (ended || beyond_records) {
            lane.reached = Some(passed);
            let event = SourceEvent::Reached { lane: lane.name.clone(), next: passed };
            self.flush(index, false);
            self.emit(Ok(event));
        }
    }

    /// A lane of a bounded run has everything it wants: its last batch goes out and it is not fetched any more.
    pub(crate) fn finish_lane(&mut self, index: usize) {
        self.flush(index, false);
        self.pauses_changed = true;
        let Some(lane) = self.lanes.get(index) else { return };
        if lane.reached.is_none_or(|reached| lane.next > reached) {
            lane.reached = Some(lane.next);
            let event = SourceEvent::Reached { lane: lane.name.clone(), next: lane.next };
            self.emit(Ok(event));
        }
    }

    /// New lanes may have nothing to read from the start.
    pub(crate) fn report_finished_lanes(&mut self) {
        for index in 0..self.lanes.len() {
            if self.lanes.get(index).is_some_and(|lane| lane.is_finished()) {
                self.finish_lane(index);
            }
        }
    }
}
