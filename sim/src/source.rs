//! The source a pipeline is given, and what it is made of beside that.

use std::sync::Arc;

use aqueduct_core::{
    Converted, Converter, Fingerprint, Mark, Partitioner, Poison, PoisonReason, Record, RoutePath,
    SkipReason, Source, SourceContext, SourceControl, SourceEvent, StageError, TopicPartition,
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::client::{CommitRequest, Event, Inbox, Poller};
use crate::process::Process;

/// One process's consumer.
#[derive(Debug)]
pub(crate) struct SimSource {
    process: Arc<Process>,
    inbox: Arc<Inbox>,
    events: Option<mpsc::Receiver<Event>>,
    thread: Option<JoinHandle<()>>,
}

impl SimSource {
    pub(crate) fn new(process: &Arc<Process>) -> Self {
        Self { process: Arc::clone(process), inbox: Arc::default(), events: None, thread: None }
    }
}

#[async_trait]
impl Source for SimSource {
    async fn open(&mut self, context: SourceContext) -> Result<(), StageError> {
        self.process.gate().await;
        let (sender, events) = mpsc::channel(32);
        let (process, inbox) = (Arc::clone(&self.process), Arc::clone(&self.inbox));
        self.thread = Some(tokio::spawn(Poller::new(process, inbox, sender, context.memory).run()));
        self.events = Some(events);
        Ok(())
    }

    async fn next(&mut self) -> Result<SourceEvent, StageError> {
        self.process.gate().await;
        match &mut self.events {
            Some(events) => match events.recv().await {
                Some(event) => event,
                None => std::future::pending().await,
            },
            None => Err(StageError::fatal("next", "the source is not open")),
        }
    }

    fn control(&self) -> Arc<dyn SourceControl> {
        Arc::new(Control { process: Arc::clone(&self.process), inbox: Arc::clone(&self.inbox) })
    }

    async fn close(&mut self) -> Result<(), StageError> {
        self.inbox.ask(|asked| asked.close = true);
        if let Some(thread) = self.thread.take() {
            drop(thread.await);
        }
        Ok(())
    }
}

struct Control {
    process: Arc<Process>,
    inbox: Arc<Inbox>,
}

impl Control {
    fn pauses(&self, lanes: &[TopicPartition], paused: bool) {
        self.inbox.ask(|asked| asked.pauses.extend(lanes.iter().map(|lane| (lane.partition(), paused))));
    }
}

#[async_trait]
impl SourceControl for Control {
    fn pause(&self, lanes: &[TopicPartition]) {
        self.pauses(lanes, true);
    }

    fn resume(&self, lanes: &[TopicPartition]) {
        self.pauses(lanes, false);
    }

    async fn commit(&self, lane: &TopicPartition, mark: Mark) -> Result<(), StageError> {
        self.process.gate().await;
        let (answer, answered) = oneshot::channel();
        let partition = lane.partition();
        self.inbox.ask(|asked| asked.commits.push(CommitRequest { partition, mark, answer }));
        let answer = answered.await;
        self.process.gate().await;
        answer.unwrap_or_else(|_| Err(StageError::fenced("commit", "the client is gone")))
    }
}

/// Passes values on; those that begin with `!` are poison.
#[derive(Debug)]
pub(crate) struct Values;

impl Converter for Values {
    type Output = Bytes;

    fn convert(&self, record: &Record<'_>) -> Result<Converted<Bytes>, Poison> {
        match record.value_bytes() {
            None => Ok(Converted::Skip(SkipReason::Tombstone)),
            Some(value) if value.first() == Some(&b'!') => {
                Err(Poison::new(PoisonReason::Malformed, "it says that it is poison"))
            }
            Some(value) => Ok(Converted::Emit(value)),
        }
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("converter", "values/1");
    }
}

/// Routes by the first byte.
#[derive(Debug)]
pub(crate) struct ByFirstByte;

impl Partitioner<Bytes> for ByFirstByte {
    fn route(&self, _: &Record<'_>, value: &Bytes, path: &mut RoutePath) -> Result<(), Poison> {
        let first = value.first().copied().map_or('-', char::from);
        path.push_field("first", first.encode_utf8(&mut [0; 4]))
    }

    fn fingerprint(&self, parts: &mut Fingerprint) {
        parts.put("partitioner", "first/1");
    }
}
