//! Where records come from.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use tokio::sync::oneshot;

use crate::batch::Batch;
use crate::budget::Pool;
use crate::error::StageError;
use crate::intent::Mark;
use crate::record::{Offset, TopicPartition};

/// Delivers batches, hands partitions over and keeps the marks.
///
/// # Contract
/// - **Ordering.** Records of one partition ascend, within a batch and over batches, from the offset the pipeline
///   answered to [`Assigned`](SourceEvent::Assigned). Gaps are fine (compaction, aborted transactions).
/// - **Ownership.** A partition delivers only between its `Assigned` (after the answer) and its `Revoked` or `Lost`.
///   A partition that was lost and comes back gets a fresh `Assigned`.
/// - **Memory.** Permits are taken from [`SourceContext::memory`] before a record is copied. When none is free the
///   source pauses fetching, and keeps serving its group.
/// - **Marks.** [`SourceControl::commit`] stores a mark durably, and refuses it if the partition is no longer ours.
///
/// # Errors
/// `open` fails fast and names what is wrong (broker, topic, credentials). An error of `next` ends the pipeline;
/// what passes by itself is retried inside.
///
/// A working implementation that needs no broker is `testkit::ScriptedSource`.
#[async_trait]
pub trait Source: Send + 'static {
    /// Connects and joins; called once, first.
    async fn open(&mut self, context: SourceContext) -> Result<(), StageError>;

    /// The next event. Cancel safe: dropping the future loses none.
    async fn next(&mut self) -> Result<SourceEvent, StageError>;

    /// Commits, pause and resume, usable from other tasks.
    fn control(&self) -> Arc<dyn SourceControl>;

    /// Leaves the group after the last commit. Called once, last.
    async fn close(&mut self) -> Result<(), StageError>;
}

/// What the pipeline gives its source.
#[derive(Clone, Debug)]
pub struct SourceContext {
    /// The pool batches are paid from.
    pub memory: Pool,
    /// Whether a committed offset that is not ours may be taken as a start
    /// (see [`MarkOrigin::Foreign`]).
    pub adopt_foreign_marks: bool,
}

/// What happens at the source, in order.
#[derive(Debug)]
#[non_exhaustive]
pub enum SourceEvent {
    /// Records of a lane.
    Batch(Batch),
    /// Partitions that were *added*. Answer with where to start each.
    Assigned(Vec<Assignment>, Reply<Vec<(TopicPartition, Offset)>>),
    /// Still ours until the answer or the deadline: cut, publish, commit.
    Revoked {
        /// The partitions about to go.
        lanes: Vec<TopicPartition>,
        /// When the source goes on without an answer.
        by: Instant,
        /// Send when done.
        done: Reply<()>,
    },
    /// Already somebody else's: abandon, commit nothing.
    Lost(Vec<TopicPartition>),
    /// Everything below `next` has been delivered or does not exist (control records, aborted transactions,
    /// compaction). Ends replays and bounded runs on quiet partitions.
    Reached {
        /// The partition.
        lane: TopicPartition,
        /// The next offset that could hold a record.
        next: Offset,
    },
    /// Where partitions end now. Nothing waits for it and nothing follows from it but the lag that is shown: a source
    /// tells it every few seconds, if it is cheap, or never.
    Ends(Vec<(TopicPartition, Offset)>),
    /// A bounded source has delivered everything it ever will.
    Finished,
}

/// The answering half of a question in a [`SourceEvent`].
pub struct Reply<T>(oneshot::Sender<T>);

impl<T> Reply<T> {
    /// A question and the future of its answer.
    pub fn channel() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers. If nobody waits any more, nothing happens.
    pub fn send(self, answer: T) {
        drop(self.0.send(answer));
    }
}

impl<T> fmt::Debug for Reply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A partition that became ours, and what is known about it.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The partition.
    pub lane: TopicPartition,
    /// Where its last owner stood.
    pub mark: Mark,
    /// Who says so.
    pub origin: MarkOrigin,
    /// The first offset the partition still holds.
    pub log_start: Offset,
    /// The end of the partition: the first offset that cannot be read yet.
    pub log_end: Offset,
}

/// Who set an [`Assignment`]'s mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkOrigin {
    /// Committed by a pipeline of ours.
    Committed,
    /// Nothing was committed: the source's start policy decided.
    Initial,
    /// Committed by somebody else: an operator's reset, another tool.
    Foreign,
}

/// What lanes ask of their source.
#[async_trait]
pub trait SourceControl: Send + Sync + 'static {
    /// Stops fetching these partitions; what is under way may still arrive.
    fn pause(&self, lanes: &[TopicPartition]);

    /// Fetches them again.
    fn resume(&self, lanes: &[TopicPartition]);

    /// Stores `mark` durably and resolves when the coordinator has answered for *this* partition. At most one commit
    /// a partition is under way; never blocks the thread that serves the group.
    ///
    /// # Errors
    /// [`Class::Fenced`](crate::Class::Fenced) if the partition is no longer ours: the lane abandons its segment.
    /// `Retry` if the same commit may be tried again, `Fatal` if a human is needed (metadata too large).
    async fn commit(&self, lane: &TopicPartition, mark: Mark) -> Result<(), StageError>;
}
