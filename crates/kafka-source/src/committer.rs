//! The thread that waits for the coordinator.
//!
//! librdkafka can report the outcome of an asynchronous commit as an event, but the binding never asks it to: its
//! `commit_callback` is not called for commits made by hand. So commits are synchronous, on a thread of their own,
//! while the poll thread goes on. The call answers for the request as a whole: success means that every partition
//! was stored; after a failure each partition is committed again alone, which says what became of it. Repeating a
//! mark is harmless.
//!
//! There is one request under way at a time. What becomes due meanwhile shares the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use aqueduct_core::{Failpoint, Offset, TopicPartition};
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::client::{Consumer, Verdict};

/// A mark to store.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) lane: TopicPartition,
    pub(crate) offset: Offset,
    pub(crate) metadata: String,
}

/// Hands commits to the thread. Dropping it ends the thread once the coordinator has answered.
#[derive(Debug)]
pub(crate) struct Committer {
    requests: mpsc::SyncSender<Vec<Entry>>,
    busy: Arc<AtomicBool>,
}

impl Committer {
    /// Starts the thread for one membership.
    pub(crate) fn start(consumer: &Arc<Consumer>) -> Self {
        let (requests, received) = mpsc::sync_channel::<Vec<Entry>>(1);
        let busy = Arc::new(AtomicBool::new(false));
        let worker = Worker { consumer: Arc::clone(consumer), busy: Arc::clone(&busy) };
        let spawned = std::thread::Builder::new().name("aqueduct-kafka-commit".to_owned()).spawn(move || {
            for entries in received {
                worker.commit(entries);
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to commit from");
        }
        Self { requests, busy }
    }

    /// Whether the coordinator has a request it has not answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Hands over one request; only when not [busy](Self::is_busy).
    pub(crate) fn send(&self, entries: Vec<Entry>) {
        self.busy.store(true, Ordering::Release);
        // Without a thread nobody answers, and the commit timeout ends the membership.
        if self.requests.try_send(entries).is_err() {
            tracing::error!("commits cannot be sent: their thread is gone");
        }
    }
}

struct Worker {
    consumer: Arc<Consumer>,
    busy: Arc<AtomicBool>,
}

impl Worker {
    fn commit(&self, entries: Vec<Entry>) {
        let together = self.request(&entries);
        let verdicts = match together {
            Err(_) if entries.len() > 1 => {
                let alone = |entry: Entry| {
                    let refused = self.request(std::slice::from_ref(&entry)).err();
                    verdict(entry, refused)
                };
                entries.into_iter().map(alone).collect()
            }
            together => {
                let refused = together.err();
                entries.into_iter().map(|entry| verdict(entry, refused)).collect()
            }
        };
        self.busy.store(false, Ordering::Release);
        self.consumer.context().answer(verdicts);
    }

    fn request(&self, entries: &[Entry]) -> Result<(), RDKafkaErrorCode> {
        let mut list = TopicPartitionList::with_capacity(entries.len());
        for entry in entries {
            let mut element = list.add_partition(entry.lane.topic(), entry.lane.partition());
            element
                .set_offset(rdkafka::Offset::Offset(entry.offset.get()))
                .map_err(|_| RDKafkaErrorCode::InvalidArgument)?;
            element.set_metadata(&entry.metadata);
        }
        Failpoint::CommitBeforeSend.reach();
        let answer = self.consumer.commit(&list, CommitMode::Sync);
        if answer.is_ok() {
            Failpoint::CommitStored.reach();
        }
        answer.map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail))
    }
}

fn verdict(entry: Entry, refused: Option<RDKafkaErrorCode>) -> Verdict {
    Verdict { lane: entry.lane, offset: entry.offset, metadata: entry.metadata, refused }
}
