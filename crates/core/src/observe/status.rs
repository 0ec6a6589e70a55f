//! What a pipeline says about itself while it runs and when it has ended.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::pipeline::Guarantee;
use crate::record::{Offset, TopicPartition};

/// What a lane is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneState {
    /// Reading its mark and finishing what a former owner left.
    Recovering,
    /// Waiting for records.
    Idle,
    /// Taking records in.
    Filling,
    /// Waiting, for the reason given: disk, the segment before it, a back-off.
    Waiting(String),
    /// Being handed over or shut down.
    Draining,
    /// Stopped by an error that needs a human.
    Failed(String),
}

/// One lane, now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LaneStatus {
    /// The partition.
    pub lane: TopicPartition,
    /// What it is doing.
    pub state: LaneState,
    /// The committed mark: everything below is durable.
    pub mark: Offset,
    /// The next offset to read.
    pub position: Offset,
    /// The end of the partition when the source looked last, a few seconds ago at most if it looks at all.
    pub end: Offset,
    /// Rows in the open segment.
    pub open_rows: u64,
    /// Bytes in the open segment, before compression.
    pub open_bytes: u64,
    /// Whether a cut is written down and not yet published.
    pub pending_intent: bool,
    /// The last failure that is being retried, cleared when it passes.
    pub retrying: Option<String>,
}

impl LaneStatus {
    /// Offsets from the mark to the end of the partition: all that is not durable yet. It is as old as
    /// [`end`](Self::end).
    pub fn lag(&self) -> u64 {
        u64::try_from(self.end.get().saturating_sub(self.mark.get())).unwrap_or(0)
    }
}

/// A pipeline, now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PipelineStatus {
    /// The pipeline's name.
    pub name: String,
    /// What it guarantees.
    pub guarantee: Guarantee,
    /// Its lanes by partition.
    pub lanes: Vec<LaneStatus>,
    /// What it has done since it started.
    pub totals: Report,
    /// Cuts written down and not yet published.
    pub pending_intents: usize,
    /// Bytes taken from the memory budget, and its size.
    pub memory: (u64, u64),
    /// Bytes taken from the disk budget, and its size.
    pub disk: (u64, u64),
}

/// What a pipeline has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Records read by lanes.
    pub records: u64,
    /// Records that are durable: stored, dead-lettered or skipped by policy, and committed.
    pub durable: u64,
    /// Rows in visible objects.
    pub rows: u64,
    /// Records skipped by intention.
    pub skipped: u64,
    /// Records handed to the dead letters.
    pub dead_letters: u64,
    /// Segments published.
    pub segments: u64,
    /// Objects made visible.
    pub objects: u64,
    /// Bytes of those objects, as stored.
    pub bytes: u64,
    /// Segments of former owners that were finished.
    pub recovered: u64,
    /// Segments given up because their partition or the time to shut down ran out.
    pub abandoned: u64,
    /// Assignments whose committed offset was another program's.
    pub foreign_marks: u64,
    /// Failed operations that were tried again.
    pub retries: u64,
    /// Cuts written down and not published when the pipeline ended; their next owner finishes them.
    pub pending_intents: u64,
    /// Time to the first visible object.
    pub first_object_after: Option<Duration>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "records={} durable={} rows={} skipped={} dead_letters={} segments={} objects={} bytes={} recovered={} abandoned={} pending_intents={}",
            self.records,
            self.durable,
            self.rows,
            self.skipped,
            self.dead_letters,
            self.segments,
            self.objects,
            self.bytes,
            self.recovered,
            self.abandoned,
            self.pending_intents
        )
    }
}

/// Counters behind a [`Report`].
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) records: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) rows: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) dead_letters: AtomicU64,
    pub(crate) segments: AtomicU64,
    pub(crate) objects: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) recovered: AtomicU64,
    pub(crate) abandoned: AtomicU64,
    pub(crate) foreign_marks: AtomicU64,
    pub(crate) retries: AtomicU64,
    first_object_ms: AtomicU64,
    lanes: Mutex<BTreeMap<TopicPartition, Arc<LaneCell>>>,
}

impl Totals {
    pub(crate) fn report(&self) -> Report {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = lanes.values().filter(|cell| cell.read(|status| status.pending_intent)).count();
        Report {
            records: read(&self.records),
            durable: read(&self.durable),
            rows: read(&self.rows),
            skipped: read(&self.skipped),
            dead_letters: read(&self.dead_letters),
            segments: read(&self.segments),
            objects: read(&self.objects),
            bytes: read(&self.bytes),
            recovered: read(&self.recovered),
            abandoned: read(&self.abandoned),
            foreign_marks: read(&self.foreign_marks),
            retries: read(&self.retries),
            pending_intents: pending as u64,
            first_object_after: match read(&self.first_object_ms) {
                0 => None,
                ms => Some(Duration::from_millis(ms)),
            },
        }
    }

    /// Notes that an object is visible `after` the start; only the first counts.
    pub(crate) fn object_visible(&self, after: Duration) {
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1);
        self.first_object_ms.compare_exchange(0, ms, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    pub(crate) fn lane(&self, lane: &TopicPartition, mark: Offset, end: Offset) -> Arc<LaneCell> {
        let cell = Arc::new(LaneCell(Mutex::new(LaneStatus {
            lane: lane.clone(),
            state: LaneState::Recovering,
            mark,
            position: mark,
            end,
            open_rows: 0,
            open_bytes: 0,
            pending_intent: false,
            retrying: None,
        })));
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).insert(lane.clone(), Arc::clone(&cell));
        cell
    }

    /// Notes where a partition ends now.
    pub(crate) fn note_end(&self, lane: &TopicPartition, end: Offset) {
        if let Some(cell) = self.lanes.lock().unwrap_or_else(PoisonError::into_inner).get(lane) {
            cell.update(|status| status.end = end);
        }
    }

    /// Forgets a lane that was handed over. One that failed stays visible.
    pub(crate) fn forget(&self, lane: &TopicPartition) {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner).remove(lane);
    }

    pub(crate) fn lanes(&self) -> Vec<LaneStatus> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.values().map(|cell| cell.read(LaneStatus::clone)).collect()
    }
}

/// A lane's status, written by its tasks once per batch or less.
#[derive(Debug)]
pub(crate) struct LaneCell(Mutex<LaneStatus>);

impl LaneCell {
    pub(crate) fn update(&self, change: impl FnOnce(&mut LaneStatus)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&LaneStatus) -> R) -> R {
        look(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
