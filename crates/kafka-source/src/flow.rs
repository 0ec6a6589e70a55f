//! Records → batches, and what happens when the pipeline is slower than Kafka.
//!
//! A permit is taken before a record is copied. When there is none the thread first waits a moment: librdkafka's own
//! queue then fills and it stops fetching, which costs nothing. Only if that lasts are partitions paused, because a
//! pause throws away what was fetched ahead and resuming fetches it again; so a resume waits until half of the pool
//! is free.

use std::time::{Duration, Instant};

use aqueduct_core::{Failpoint, InFlight, SourceEvent, TopicPartition};
use rdkafka::Message;
use rdkafka::consumer::Consumer as _;
use rdkafka::message::{BorrowedMessage, OwnedMessage};
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::Consumer;
use crate::copy::{ARENA_MIN, Arena, Copied};
use crate::poll::Poller;

/// How much of one lane may be in flight before it is paused alone, in bytes and batches.
const LANE_BYTES: u64 = 4 << 20;
const LANE_BATCHES: u64 = 32;
/// How long the thread waits for a permit, and for one lane, before it pauses.
const WAIT_FOR_MEMORY: Duration = Duration::from_millis(200);
const WAIT_FOR_LANE: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(1);
/// After this long any free permit ends the pause, also when others keep more than half of a shared pool.
const LONG_PAUSE: Duration = Duration::from_secs(5);
/// Events that may wait for room before records wait too.
const OUTBOX: usize = 8;

/// Whether all partitions are paused for want of memory.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    held: Option<Held>,
}

/// The record there was no permit for. It has left the client's queue, so it is kept.
#[derive(Debug)]
struct Held {
    lane: TopicPartition,
    record: OwnedMessage,
    since: Instant,
}

impl Throttle {
    pub(crate) fn is_closed(&self) -> bool {
        self.held.is_some()
    }

    /// Whether a record of the lane waits here, behind what its batches hold.
    pub(crate) fn holds(&self, lane: &TopicPartition) -> bool {
        self.held.as_ref().is_some_and(|held| held.lane == *lane)
    }

    /// Drops the record kept for a lane that is on its way to another member, which reads it again.
    pub(crate) fn release(&mut self, lanes: &[TopicPartition]) -> bool {
        let released = self.held.as_ref().is_some_and(|held| lanes.contains(&held.lane));
        if released {
            self.held = None;
        }
        released
    }
}

impl Poller {
    /// Copies a record into its lane's batch. The hot path: no allocation, no lock, one comparison to find the lane.
    pub(crate) fn deliver(&mut self, consumer: &Consumer, message: &BorrowedMessage<'_>) {
        let Some(index) = self.lanes.find(message) else {
            return;
        };
        let record = Copied::of(message, self.settings.headers);
        if !self.take(index, message.offset(), &record) {
            self.hold(consumer, index, message);
        }
    }

    /// `false` if there is no memory for the record.
    fn take<M: Message>(&mut self, index: usize, offset: i64, record: &Copied<'_, M>) -> bool {
        let Some(lane) = self.lanes.get(index) else {
            return true;
        };
        // A lane that leaves or has all it wants gets no more, and nothing twice.
        if lane.leaving || offset < lane.next.get() {
            return true;
        }
        if lane.stop_at.is_some_and(|stop| offset >= stop.get()) {
            lane.next = lane.stop_at.unwrap_or(lane.next);
            self.finish_lane(index);
            return true;
        }
        if let Some(arena) = lane.arena.as_mut()
            && arena.fits(record.cost())
        {
            arena.push(record);
        } else {
            self.flush(index, true);
            let Some(mut arena) = self.open_arena(index, record.cost()) else {
                return false;
            };
            arena.push(record);
            if let Some(lane) = self.lanes.get(index) {
                lane.arena = Some(arena);
            }
        }
        if let Some(lane) = self.lanes.get(index) {
            lane.next = aqueduct_core::Offset::new(offset + 1);
            if lane.is_finished() {
                self.finish_lane(index);
            }
        }
        true
    }

    /// Keeps the record and pauses everything.
    fn hold(&mut self, consumer: &Consumer, index: usize, message: &BorrowedMessage<'_>) {
        let Some(lane) = self.lanes.get(index) else { return };
        let lane = lane.name.clone();
        tracing::debug!(%lane, used = self.memory.used(), "no memory, all partitions are paused");
        self.throttle.held = Some(Held { lane, record: message.detach(), since: Instant::now() });
        self.pauses_changed = true;
        self.apply_pauses(consumer);
    }

    /// Sends the lane's batch. `full` grows the next one, a batch that was cut short by time shrinks it.
    pub(crate) fn flush(&mut self, index: usize, full: bool) {
        let largest = self.largest_arena();
        let Some(lane) = self.lanes.get(index) else { return };
        let Some(arena) = lane.arena.take() else { return };
        if full {
            lane.arena_bytes = (lane.arena_bytes * 2).min(largest);
        } else if arena.bytes() < lane.arena_bytes / 4 {
            lane.arena_bytes = (lane.arena_bytes / 2).max(ARENA_MIN.min(largest));
        }
        let batch = arena.finish(&lane.in_flight);
        Failpoint::SourceBeforeBatch.reach();
        self.emit(Ok(SourceEvent::Batch(batch)));
        Failpoint::SourceBatchSent.reach();
    }

    /// Sends every batch whose first record has waited long enough.
    pub(crate) fn flush_aged(&mut self, now: Instant) {
        let linger = self.settings.linger;
        for index in 0..self.lanes.len() {
            let aged = self.lanes.get(index).is_some_and(|lane| {
                lane.arena
                    .as_ref()
                    .is_some_and(|arena| now.saturating_duration_since(arena.opened()) >= linger)
            });
            if aged {
                self.flush(index, false);
            }
        }
    }

    fn flush_all(&mut self) {
        for index in 0..self.lanes.len() {
            self.flush(index, false);
        }
    }

    /// An arena with a permit, after waiting for one if need be.
    fn open_arena(&mut self, index: usize, cost: usize) -> Option<Arena> {
        self.wait_for_lane(index);
        let largest = self.largest_arena();
        let lane = self.lanes.get(index)?;
        let bytes = lane.arena_bytes.min(largest).max(cost);
        let name = lane.name.clone();
        let permit = self.memory.try_acquire(bytes as u64).filter(|_| self.outbox.len() < OUTBOX);
        let permit = permit.or_else(|| {
            // What other lanes have begun holds permits too.
            self.flush_all();
            self.wait_for_memory(bytes as u64)
        })?;
        Some(Arena::new(&self.arenas, name, bytes, permit, Instant::now()))
    }

    /// Gives a lane that is far behind a moment, and then pauses it alone.
    fn wait_for_lane(&mut self, index: usize) {
        let Some(lane) = self.lanes.get(index) else { return };
        if lane.ahead || !is_ahead(&lane.in_flight, 1) {
            return;
        }
        let until = Instant::now() + WAIT_FOR_LANE;
        while is_ahead(&lane.in_flight, 1) {
            if Instant::now() >= until {
                tracing::debug!(lane = %lane.name, bytes = lane.in_flight.bytes(), "paused, it is behind");
                lane.ahead = true;
                self.pauses_changed = true;
                return;
            }
            std::thread::sleep(STEP);
        }
    }

    fn wait_for_memory(&mut self, bytes: u64) -> Option<aqueduct_core::Permit> {
        let until = Instant::now() + WAIT_FOR_MEMORY;
        loop {
            self.flush_outbox();
            if self.outbox.len() < OUTBOX
                && let Some(permit) = self.memory.try_acquire(bytes)
            {
                return Some(permit);
            }
            if Instant::now() >= until || self.abandoned {
                return None;
            }
            std::thread::sleep(STEP);
        }
    }

    /// Ends pauses whose reason is gone.
    pub(crate) fn ease(&mut self, consumer: &Consumer, now: Instant) {
        for lane in self.lanes.iter_mut() {
            if lane.ahead && !is_ahead(&lane.in_flight, 2) {
                lane.ahead = false;
                self.pauses_changed = true;
            }
        }
        let Some(held) = self.throttle.held.take() else {
            return;
        };
        let long = now.saturating_duration_since(held.since) >= LONG_PAUSE;
        let half_free = self.memory.used() <= self.memory.capacity() / 2;
        let index = self.lanes.index_of(&held.lane);
        let taken = (half_free || long)
            && self.outbox.len() < OUTBOX
            && index.is_none_or(|index| self.take_held(index, &held.record));
        if taken {
            tracing::debug!(used = self.memory.used(), "memory again, the pause is over");
            self.pauses_changed = true;
            self.apply_pauses(consumer);
        } else {
            self.throttle.held = Some(held);
        }
    }

    /// Like [`take`](Self::take), without waiting.
    fn take_held(&mut self, index: usize, message: &OwnedMessage) -> bool {
        let record = Copied::of(message, self.settings.headers);
        let largest = self.largest_arena();
        let Some(lane) = self.lanes.get(index) else {
            return true;
        };
        if lane.arena.is_none() {
            let bytes = lane.arena_bytes.min(largest).max(record.cost());
            let Some(permit) = self.memory.try_acquire(bytes as u64) else {
                return false;
            };
            lane.arena = Some(Arena::new(&self.arenas, lane.name.clone(), bytes, permit, Instant::now()));
        }
        self.take(index, message.offset(), &record)
    }

    /// Tells the client which partitions to fetch.
    pub(crate) fn apply_pauses(&mut self, consumer: &Consumer) {
        if !self.pauses_changed {
            return;
        }
        self.pauses_changed = false;
        let all = self.throttle.is_closed() || self.has_failed();
        let mut pause = TopicPartitionList::new();
        let mut resume = TopicPartitionList::new();
        for lane in self.lanes.iter_mut().filter(|lane| !lane.leaving) {
            let wanted = all || lane.wants_pause();
            if wanted != lane.told_paused {
                lane.told_paused = wanted;
                let list = if wanted { &mut pause } else { &mut resume };
                list.add_partition(lane.name.topic(), lane.name.partition());
            }
        }
        for (list, told) in [
            (&pause, (pause.count() > 0).then(|| consumer.pause(&pause))),
            (&resume, (resume.count() > 0).then(|| consumer.resume(&resume))),
        ] {
            if let Some(Err(error)) = told {
                tracing::warn!(%error, partitions = list.count(), "partitions could not be paused or resumed");
            }
        }
    }

    /// Several arenas fit into the smallest pool, so that lanes are not served one at a time.
    fn largest_arena(&self) -> usize {
        let share = usize::try_from(self.memory.capacity() / 4).unwrap_or(usize::MAX);
        self.settings.batch_bytes.min(share.max(MIN_SHARE))
    }
}

const MIN_SHARE: usize = 4 << 10;

fn is_ahead(in_flight: &InFlight, part: u64) -> bool {
    in_flight.bytes() >= LANE_BYTES / part || in_flight.batches() >= LANE_BATCHES / part
}
