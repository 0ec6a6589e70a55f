//! What other tasks ask of the poll thread.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aqueduct_core::{Mark, StageError, TopicPartition};
use tokio::sync::oneshot;

/// Requests to the poll thread. Bounded by the number of partitions: one commit and one pause state for each.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: AtomicBool,
    requests: Mutex<Requests>,
}

#[derive(Debug, Default)]
pub(crate) struct Requests {
    pub(crate) commits: Vec<CommitRequest>,
    /// Wanted pause state of each partition named since the thread looked last.
    pub(crate) pauses: HashMap<TopicPartition, bool>,
    pub(crate) close: bool,
    /// The thread is gone: nobody answers any more.
    gone: bool,
}

#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) lane: TopicPartition,
    pub(crate) mark: Mark,
    pub(crate) answer: oneshot::Sender<Result<(), StageError>>,
}

impl Inbox {
    /// Whether there is anything to [`take`](Self::take); cheap enough to ask per record.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }

    pub(crate) fn take(&self) -> Requests {
        let mut requests = self.lock();
        self.waiting.store(false, Ordering::Release);
        let close = requests.close;
        let taken = std::mem::take(&mut *requests);
        requests.close = close;
        taken
    }

    /// Queues a commit; without a thread the request, and its answer with it, is dropped.
    pub(crate) fn commit(&self, request: CommitRequest) {
        self.change(|requests| requests.commits.push(request));
    }

    pub(crate) fn pause(&self, lanes: &[TopicPartition], paused: bool) {
        self.change(|requests| {
            requests.pauses.extend(lanes.iter().map(|lane| (lane.clone(), paused)));
        });
    }

    pub(crate) fn close(&self) {
        self.change(|requests| requests.close = true);
    }

    /// Refuses all requests from now on.
    pub(crate) fn leave(&self) {
        let mut requests = self.lock();
        *requests = Requests { gone: true, ..Requests::default() };
    }

    fn change(&self, change: impl FnOnce(&mut Requests)) {
        let mut requests = self.lock();
        if !requests.gone {
            change(&mut requests);
            self.waiting.store(true, Ordering::Release);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
