//! What the appends of a lane look like from outside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aqueduct_core::TopicPartition;
use metrics::{Counter, Gauge, Label};
use tokio::time::Instant;

use super::metrics::Metric;

/// The appends of one lane, over its segments and tables.
pub(super) struct Progress {
    waiting: Mutex<Waiting>,
    rows_appended: Counter,
    rows_refused: Counter,
    in_flight: Gauge,
    age: Gauge,
}

#[derive(Debug)]
struct Waiting {
    pieces: usize,
    bytes: u64,
    /// When something was acknowledged last, or the first of those that wait began to.
    since: Instant,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("waiting", &*self.waiting()).finish_non_exhaustive()
    }
}

impl Progress {
    pub(super) fn new(dataset: &str, lane: &TopicPartition) -> Arc<Self> {
        let labels = vec![
            Label::new("dataset", dataset.to_owned()),
            Label::new("topic", lane.topic().to_owned()),
            Label::new("partition", lane.partition().to_string()),
        ];
        Arc::new(Self {
            waiting: Mutex::new(Waiting { pieces: 0, bytes: 0, since: Instant::now() }),
            rows_appended: Metric::RowsAppended.counter(labels.clone()),
            rows_refused: Metric::RowsRefused.counter(labels.clone()),
            in_flight: Metric::InFlightBytes.gauge(labels.clone()),
            age: Metric::LastAckAge.gauge(labels),
        })
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn handed_over(&self, bytes: u64) {
        let mut waiting = self.waiting();
        if waiting.pieces == 0 {
            waiting.since = Instant::now();
        }
        waiting.pieces += 1;
        waiting.bytes += bytes;
    }

    pub(super) fn acknowledged(&self, rows: u64) {
        self.rows_appended.increment(rows);
    }

    pub(super) fn refused(&self, rows: u64) {
        self.rows_refused.increment(rows);
    }

    pub(super) fn settled(&self, bytes: u64) {
        let mut waiting = self.waiting();
        waiting.pieces = waiting.pieces.saturating_sub(1);
        waiting.bytes = waiting.bytes.saturating_sub(bytes);
        waiting.since = Instant::now();
        drop(waiting);
        self.show();
    }

    /// How long nothing was acknowledged although something waits.
    pub(super) fn age(&self) -> Duration {
        let waiting = self.waiting();
        if waiting.pieces == 0 { Duration::ZERO } else { waiting.since.elapsed() }
    }

    /// Sets the gauges.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    pub(super) fn show(&self) {
        self.age.set(self.age().as_secs_f64());
        self.in_flight.set(self.waiting().bytes as f64);
    }
}
