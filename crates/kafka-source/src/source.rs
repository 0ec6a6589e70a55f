//! [`KafkaSource`]: the pipeline's side of the poll thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aqueduct_core::{Mark, Source, SourceContext, SourceControl, SourceEvent, StageError, TopicPartition};
use async_trait::async_trait;
use tokio::sync::{mpsc, oneshot};

use crate::config::{KafkaSourceBuilder, Settings};
use crate::error::KafkaSourceError;
use crate::inbox::{CommitRequest, Inbox};
use crate::poll::{Event, Poller};

/// Events between the poll thread and the pipeline; batches among them are paid for.
const EVENTS: usize = 64;
/// How long `open` takes at most. The thread gives up a little earlier and says why.
const OPEN: Duration = Duration::from_secs(10);
/// How long `close` waits for the thread to leave the group.
const CLOSE: Duration = Duration::from_secs(10);

/// Reads Kafka topics as a member of a consumer group.
///
/// # Ordering and ownership
/// As [`Source`] has it: records of a partition ascend, between the partition's `Assigned` and its `Revoked` or
/// `Lost`. A partition is `Lost` when the membership ended abnormally: the session timed out, the coordinator refused
/// a commit as a stranger's, or did not answer one. The source then joins again as a new member, so that nothing the
/// old client had queued can take effect later.
///
/// # Marks
/// Offsets are committed with metadata that only this pipeline writes. Every start offset is given by us; an offset
/// that is gone stops the pipeline instead of skipping records.
///
/// # Bounded runs
/// With [`until_end`](KafkaSourceBuilder::until_end) no record at or behind the end a partition had at its first
/// assignment is delivered. `Finished` comes when every partition held has reached its end, and again if partitions
/// are taken over after that; a member that holds none finishes once the group has not changed for 10 s.
///
/// # Threads
/// `open` starts one thread, which polls the client until `close`; short-lived ones read marks and leave the group.
///
/// ```no_run
/// use aqueduct_kafka_source::{KafkaSource, StartAt};
///
/// # fn main() -> Result<(), aqueduct_kafka_source::ConfigError> {
/// let source = KafkaSource::builder()
///     .brokers("localhost:9092")
///     .group("orders-to-s3")
///     .topics(["orders"])
///     .start(StartAt::Earliest)
///     .property("security.protocol", "ssl")
///     .build()?;
/// # drop(source);
/// # Ok(())
/// # }
/// ```
pub struct KafkaSource {
    settings: Arc<Settings>,
    inbox: Arc<Inbox>,
    events: Option<mpsc::Receiver<Event>>,
    gone: Option<oneshot::Receiver<()>>,
}

impl KafkaSource {
    /// Starts a configuration; brokers, group and topics have no default.
    pub fn builder() -> KafkaSourceBuilder {
        KafkaSourceBuilder::new()
    }

    pub(crate) fn new(settings: Settings) -> Self {
        Self { settings: Arc::new(settings), inbox: Arc::default(), events: None, gone: None }
    }
}

impl fmt::Debug for KafkaSource {
    /// Never prints credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Drop for KafkaSource {
    /// A source that was not closed leaves its group in the background.
    fn drop(&mut self) {
        self.inbox.close();
    }
}

#[async_trait]
impl Source for KafkaSource {
    async fn open(&mut self, context: SourceContext) -> Result<(), StageError> {
        let (sender, events) = mpsc::channel(EVENTS);
        let (opened, outcome) = oneshot::channel();
        let (leaving, gone) = oneshot::channel();
        let poller = Poller::new(Arc::clone(&self.settings), context.memory, Arc::clone(&self.inbox), sender);
        std::thread::Builder::new()
            .name("aqueduct-kafka-poll".to_owned())
            .spawn(move || {
                poller.run(opened);
                drop(leaving);
            })
            .map_err(|error| StageError::fatal("kafka open", error))?;
        self.events = Some(events);
        self.gone = Some(gone);
        match tokio::time::timeout(OPEN, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(StageError::new("kafka open", KafkaSourceError::Stopped)),
            Err(_) => {
                self.inbox.close();
                let error = KafkaSourceError::Unreachable {
                    brokers: self.settings.brokers.clone(),
                    waited: OPEN,
                    detail: String::new(),
                };
                Err(StageError::new("kafka open", error))
            }
        }
    }

    async fn next(&mut self) -> Result<SourceEvent, StageError> {
        let stopped = || StageError::new("kafka read", KafkaSourceError::Stopped);
        match &mut self.events {
            Some(events) => events.recv().await.ok_or_else(stopped)?,
            None => Err(stopped()),
        }
    }

    fn control(&self) -> Arc<dyn SourceControl> {
        Arc::new(Control(Arc::clone(&self.inbox)))
    }

    async fn close(&mut self) -> Result<(), StageError> {
        self.inbox.close();
        // Dropping the events frees what they hold and tells the thread that nobody listens.
        drop(self.events.take());
        if let Some(gone) = self.gone.take()
            && tokio::time::timeout(CLOSE, gone).await.is_err()
        {
            tracing::warn!(timeout = ?CLOSE, "the kafka consumer is still leaving its group");
        }
        Ok(())
    }
}

/// The lanes' handle.
#[derive(Debug)]
struct Control(Arc<Inbox>);

#[async_trait]
impl SourceControl for Control {
    fn pause(&self, lanes: &[TopicPartition]) {
        self.0.pause(lanes, true);
    }

    fn resume(&self, lanes: &[TopicPartition]) {
        self.0.pause(lanes, false);
    }

    async fn commit(&self, lane: &TopicPartition, mark: Mark) -> Result<(), StageError> {
        let (answer, answered) = oneshot::channel();
        self.0.commit(CommitRequest { lane: lane.clone(), mark, answer });
        answered.await.unwrap_or_else(|_| {
            // The thread is gone, and the partition with it.
            Err(StageError::new("kafka commit", KafkaSourceError::NotOurs { lane: lane.clone() }))
        })
    }
}
