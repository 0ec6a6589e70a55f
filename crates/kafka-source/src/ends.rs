//! Where partitions end now, for the lag that is shown.
//!
//! One request to each leader for all partitions of ours (the time -1 stands for the end, KIP-79), every few seconds,
//! on a thread that is gone when it is answered: neither the poll nor a client that is being closed waits for it. What
//! the client knows from fetching is not enough: of a paused partition, which is one that lags, it learns nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_core::{Offset, SourceEvent, TopicPartition};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaResult;
use tokio::sync::oneshot;

use crate::client::{Consumer, list_of};
use crate::poll::Poller;

/// How often ends are asked for.
const EVERY: Duration = Duration::from_secs(5);
/// How long an answer is waited for; the next question is as good.
const PATIENCE: Duration = Duration::from_secs(2);

type Ends = Vec<(TopicPartition, Offset)>;

/// A question under way, and when the next one is due.
#[derive(Debug)]
pub(crate) struct Watch {
    due: Instant,
    answer: Option<oneshot::Receiver<Ends>>,
}

impl Watch {
    pub(crate) fn new(now: Instant) -> Self {
        Self { due: now + EVERY, answer: None }
    }
}

impl Poller {
    /// Passes an answer on, and asks again when it is time.
    pub(crate) fn watch_ends(&mut self, consumer: &Arc<Consumer>, now: Instant) {
        if let Some(answer) = &mut self.watch.answer {
            match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                // Never in the way of records.
                Ok(ends) if self.outbox.is_empty() => self.emit(Ok(SourceEvent::Ends(ends))),
                Ok(_) | Err(oneshot::error::TryRecvError::Closed) => {}
            }
            self.watch = Watch::new(now);
        }
        if now < self.watch.due || self.lanes.is_empty() || self.handover.is_some() {
            return;
        }
        let lanes: Vec<TopicPartition> = self.lanes.iter().map(|lane| lane.name.clone()).collect();
        let (sender, answer) = oneshot::channel();
        let asker = Arc::clone(consumer);
        let spawned = std::thread::Builder::new().name("aqueduct-kafka-ends".to_owned()).spawn(move || {
            let ends = ask(&asker, &lanes);
            // The client is let go first: whoever gets the answer may want to destroy it.
            drop(asker);
            match ends {
                Ok(ends) => drop(sender.send(ends)),
                Err(error) => tracing::debug!(%error, "the ends of partitions are not known"),
            }
        });
        self.watch = match spawned {
            Ok(_) => Watch { due: now, answer: Some(answer) },
            Err(_) => Watch::new(now),
        };
    }
}

fn ask(consumer: &Consumer, lanes: &[TopicPartition]) -> KafkaResult<Ends> {
    let mut asked = list_of(lanes);
    asked.set_all_offsets(rdkafka::Offset::End)?;
    let answer = consumer.offsets_for_times(asked, PATIENCE)?;
    let end = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
        rdkafka::Offset::Offset(end) if element.error().is_ok() => {
            Some((TopicPartition::new(element.topic(), element.partition()), Offset::new(end)))
        }
        _ => None,
    };
    Ok(answer.elements().iter().filter_map(end).collect())
}
