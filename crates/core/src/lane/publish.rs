//! Making segments visible, one after the other, and moving the mark.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::dead_letter::{DeadLetter, Rejected};
use crate::error::{PoisonStage, StageError};
use crate::failpoint::Failpoint;
use crate::intent::{Intent, Mark};
use crate::observe::Metric;
use crate::pipeline::PublishedSegment;
use crate::record::Offset;
use crate::sink::{CommitStyle, Published, SegmentWriter, SinkCapabilities};
use crate::spool::Scratch;

use super::backoff::persist;
use super::context::LaneContext;
use super::cut::send_letters;
use super::error::LaneError;
use super::originals::Originals;
use super::run::panic_message;

/// What the filler hands over, in offset order.
pub(super) enum Item<T: Send + 'static> {
    /// Only move the mark: nothing below `end` has to be stored any more.
    Frontier { end: Offset, records: u64, skipped: u64, slot: Option<OwnedSemaphorePermit> },
    /// A former owner's segment turned out to be visible.
    Recovered { end: Offset, published: Published },
    /// Publish.
    Segment(Box<StagedSegment<T>>),
    /// Answer when everything before is committed.
    Barrier(oneshot::Sender<()>),
}

/// A segment between its cut and its last commit.
pub(super) struct StagedSegment<T: Send + 'static> {
    pub(super) intent: Intent,
    pub(super) recovered: bool,
    pub(super) records: u64,
    /// To be sent once the intent is written down.
    pub(super) letters: Vec<DeadLetter>,
    /// Rows refused at the cut, whose letters are still among the originals.
    pub(super) refused: Vec<Rejected>,
    /// Letters sent so far.
    pub(super) sent: u64,
    /// None if there is no row.
    pub(super) writer: Option<Box<dyn SegmentWriter<T>>>,
    pub(super) originals: Option<Originals>,
    pub(super) cut_at: Instant,
    /// Held until the segment is done.
    pub(super) _scratch: Scratch,
    pub(super) _slot: OwnedSemaphorePermit,
}

impl<T: Send + 'static> StagedSegment<T> {
    /// Whether the sink's token is kept back until the letters are durable: a new owner that finds it does not read the
    /// segment again, and so would not come by them.
    fn withholds_token(&self, capabilities: &SinkCapabilities) -> bool {
        let has_letters = !self.letters.is_empty() || !self.refused.is_empty();
        has_letters && !capabilities.redoes && !self.intent.token.is_empty()
    }

    /// What is written down before anything is sent anywhere.
    fn first_intent(&self, capabilities: &SinkCapabilities) -> Intent {
        let mut intent = self.intent.clone();
        if self.withholds_token(capabilities) {
            intent.token = Bytes::new();
        }
        intent
    }

    /// Sends the letters of everything that was poison before publication, in offset order. Those of refused rows are brought
    /// into memory some at a time.
    async fn send_letters(&mut self, context: &LaneContext) -> Result<(), LaneError> {
        let refused = std::mem::take(&mut self.refused);
        let mut letters = std::mem::take(&mut self.letters);
        letters.sort_by_key(|letter| letter.record.offset);
        let mut letters = letters.into_iter().peekable();
        let originals = self.originals.as_ref();
        let mut found = Originals::letters(originals, context, refused, PoisonStage::Encode)?;
        loop {
            let mut piece = found.next().await?;
            let last = piece.last().map(|letter| letter.record.offset);
            // With the last piece all that is left.
            while let Some(letter) =
                letters.next_if(|it| found.is_done() || last.is_some_and(|last| it.record.offset < last))
            {
                piece.push(letter);
            }
            piece.sort_by_key(|letter| letter.record.offset);
            self.sent += piece.len() as u64;
            send_letters(context, piece).await?;
            if found.is_done() {
                return Ok(());
            }
        }
    }
}

/// The filler's end of the publisher.
pub(super) struct Publisher<T: Send + 'static> {
    /// None when there is nothing more to come.
    items: Option<mpsc::Sender<Item<T>>>,
    task: JoinHandle<(Result<(), LaneError>, u64)>,
    /// Set once the task's answer was taken, after which it must not be asked again: how many segments it gave up.
    abandoned: Option<u64>,
}

impl<T: Send + 'static> Publisher<T> {
    pub(super) fn spawn(context: Arc<LaneContext>) -> Self {
        let (items, receiver) = mpsc::channel(2);
        let task = tokio::spawn(async move {
            let mut work = Work { context, items: receiver, current: None, waiting: None };
            let lease = work.context.lease.clone();
            let result = tokio::select! {
                biased;
                () = lease.ended() => Ok(()),
                result = work.run() => result,
            };
            (result, work.abandon().await)
        });
        Self { items: Some(items), task, abandoned: None }
    }

    /// Hands one item over, in order.
    pub(super) async fn send(&mut self, item: Item<T>) -> Result<(), LaneError> {
        if let Some(items) = &self.items
            && items.send(item).await.is_ok()
        {
            return Ok(());
        }
        // The receiver is gone: it failed, or the lease ended and this lane is about to be dropped.
        Err(self.failed().await)
    }

    /// Resolves when the publisher has failed. Cancel safe; after it has resolved, only [`abandon`](Self::abandon) makes
    /// sense.
    pub(super) async fn failed(&mut self) -> LaneError {
        if self.abandoned.is_none()
            && let Err(error) = self.ended().await
        {
            return error;
        }
        // Without an error it ends only with the lease, which also ends whoever waits here; until that is noticed, the
        // lane may come by several times.
        std::future::pending().await
    }

    /// Waits until everything handed over is published and committed. Cancel safe: a lane whose lease ends meanwhile
    /// still [abandons](Self::abandon) the rest, and knows how much that was.
    pub(super) async fn finish(&mut self) -> Result<(), LaneError> {
        if self.abandoned.is_some() {
            // The lease has ended, and with it, in a moment, this lane.
            return std::future::pending().await;
        }
        self.items = None;
        self.ended().await
    }

    /// Waits like [`finish`](Self::finish) and answers how many segments were given up.
    pub(super) async fn abandon(mut self) -> u64 {
        if self.abandoned.is_none() {
            self.items = None;
            drop(self.ended().await);
        }
        self.abandoned.unwrap_or(0)
    }

    /// Takes the task's answer; once.
    async fn ended(&mut self) -> Result<(), LaneError> {
        let answer = (&mut self.task).await;
        self.abandoned = Some(answer.as_ref().map_or(0, |(_, abandoned)| *abandoned));
        match answer {
            Ok((result, _)) => result,
            Err(error) => Err(panicked(error)),
        }
    }
}

fn panicked(error: tokio::task::JoinError) -> LaneError {
    let message = match error.try_into_panic() {
        Ok(panic) => panic_message(panic.as_ref()),
        Err(error) => error.to_string(),
    };
    LaneError::Panicked { message }
}

struct Work<T: Send + 'static> {
    context: Arc<LaneContext>,
    items: mpsc::Receiver<Item<T>>,
    /// The segment being published; kept here so that it can be abandoned when the lease ends.
    current: Option<Box<StagedSegment<T>>>,
    /// An item taken out of the channel early, to carry its intent with the commit before it.
    waiting: Option<Item<T>>,
}

impl<T: Send + 'static> Work<T> {
    async fn run(&mut self) -> Result<(), LaneError> {
        // Whether the commit before has already written the next segment's intent down.
        let mut intent_is_committed = false;
        loop {
            let item = match self.waiting.take() {
                Some(item) => Some(item),
                None => self.items.recv().await,
            };
            match item {
                None => return Ok(()),
                Some(Item::Barrier(done)) => {
                    done.send(()).ok();
                }
                Some(Item::Frontier { end, records, skipped, slot }) => {
                    Failpoint::MarkBeforeCommit.reach();
                    commit(&self.context, Mark::at(end)).await?;
                    Failpoint::MarkCommitted.reach();
                    tracing::trace!(lane = %self.context.lane, %end, skipped, "nothing to store");
                    self.durable(records);
                    drop(slot);
                }
                Some(Item::Recovered { end, published }) => {
                    commit(&self.context, Mark::at(end)).await?;
                    self.intent_is_pending(false);
                    self.context.totals.recovered.fetch_add(1, Ordering::Relaxed);
                    Metric::Recovered.add(&self.context.scope, &[], 1);
                    tracing::info!(lane = %self.context.lane, %end, objects = published.objects.len(), "a former owner's segment was already visible");
                }
                Some(Item::Segment(segment)) => {
                    let style = self.context.capabilities.commit;
                    if style == CommitStyle::Intent && !intent_is_committed {
                        Failpoint::IntentBeforeCommit.reach();
                        let intent = segment.first_intent(&self.context.capabilities);
                        commit(&self.context, Mark::pinning(intent)).await?;
                        Failpoint::IntentCommitted.reach();
                    }
                    self.intent_is_pending(style == CommitStyle::Intent);
                    intent_is_committed = self.segment(segment).await?;
                }
            }
        }
    }

    /// Sends the letters of one segment whose intent is written down, publishes it and commits its end. Answers whether that
    /// commit carried the next segment's intent.
    async fn segment(&mut self, segment: Box<StagedSegment<T>>) -> Result<bool, LaneError> {
        let segment = self.current.insert(segment);
        let capabilities = &self.context.capabilities;
        let withheld = segment.withholds_token(capabilities);
        segment.send_letters(&self.context).await?;
        if withheld && capabilities.commit == CommitStyle::Intent {
            commit(&self.context, Mark::pinning(segment.intent.clone())).await?;
        }
        if segment.recovered {
            Failpoint::RecoverBeforePublish.reach();
        }
        let published = match segment.writer.as_mut() {
            Some(writer) => {
                let published = persist!(&self.context, writer.publish().await)?;
                Failpoint::PublishAfter.reach();
                self.context.totals.object_visible(self.context.started.elapsed());
                published
            }
            None => Published::default(),
        };
        if segment.recovered {
            Failpoint::RecoverBeforeCommit.reach();
        }
        let (rejected, start) = (published.rejected.clone(), segment.intent.range.start());
        let rejected = Originals::settle(&self.context, rejected, PoisonStage::Target, start)?;
        let originals = segment.originals.as_ref();
        let mut found = Originals::letters(originals, &self.context, rejected, PoisonStage::Target)?;
        // Before the end is committed.
        while !found.is_done() {
            let letters = found.next().await?;
            segment.sent += letters.len() as u64;
            send_letters(&self.context, letters).await?;
        }
        let end = segment.intent.range.end();
        if self.waiting.is_none() {
            self.waiting = self.items.try_recv().ok();
        }
        let mark = match &self.waiting {
            Some(Item::Segment(next))
                if self.context.capabilities.commit == CommitStyle::Intent
                    && next.intent.range.start() == end =>
            {
                Mark::pinning(next.first_intent(&self.context.capabilities))
            }
            _ => Mark::at(end),
        };
        let carried = mark.intent.is_some();
        Failpoint::CommitBefore.reach();
        commit(&self.context, mark).await?;
        Failpoint::CommitAfter.reach();
        self.intent_is_pending(carried);
        if let Some(segment) = self.current.take() {
            self.done(&segment, &published);
        }
        Ok(carried)
    }

    fn done(&self, segment: &StagedSegment<T>, published: &Published) {
        let (totals, scope) = (&self.context.totals, &self.context.scope);
        if segment.recovered {
            totals.recovered.fetch_add(1, Ordering::Relaxed);
            Metric::Recovered.add(scope, &[], 1);
        }
        self.durable(segment.records);
        let (letters, recovered, range) = (segment.sent, segment.recovered, segment.intent.range);
        if segment.writer.is_none() {
            tracing::debug!(lane = %self.context.lane, %range, letters, recovered, "nothing to store but letters");
            return;
        }
        let objects = published.objects.len() as u64;
        let bytes = published.objects.iter().map(|object| object.bytes).sum();
        totals.segments.fetch_add(1, Ordering::Relaxed);
        totals.objects.fetch_add(objects, Ordering::Relaxed);
        totals.bytes.fetch_add(bytes, Ordering::Relaxed);
        totals.rows.fetch_add(segment.intent.rows, Ordering::Relaxed);
        Metric::Objects.add(scope, &[], objects);
        Metric::ObjectBytes.add(scope, &[], bytes);
        Metric::RowsPublished.add(scope, &[], segment.intent.rows);
        Metric::PublishSeconds.record(scope, segment.cut_at.elapsed().as_secs_f64());
        tracing::info!(
            lane = %self.context.lane, %range, rows = segment.intent.rows, objects, bytes, letters, recovered, "published"
        );
        if let Some(hook) = &self.context.on_published {
            hook(&PublishedSegment {
                lane: self.context.lane.clone(),
                range: segment.intent.range,
                rows: segment.intent.rows,
                objects: published.objects.clone(),
            });
        }
    }

    fn durable(&self, records: u64) {
        self.context.totals.durable.fetch_add(records, Ordering::Relaxed);
        Metric::RecordsDurable.add(&self.context.scope, &[], records);
    }

    fn intent_is_pending(&self, pending: bool) {
        self.context.cell.update(|status| status.pending_intent = pending);
        Metric::PendingIntents.set(&self.context.scope, u64::from(pending));
    }

    /// Gives up what is not done. Answers how many segments that were.
    async fn abandon(&mut self) -> u64 {
        let mut abandoned = 0;
        self.items.close();
        let mut segment = self.current.take();
        loop {
            if let Some(mut segment) = segment.take() {
                if let Some(writer) = &mut segment.writer {
                    writer.abandon().await;
                }
                abandoned += 1;
            }
            let next = match self.waiting.take() {
                Some(item) => Some(item),
                None => self.items.try_recv().ok(),
            };
            match next {
                Some(Item::Segment(next)) => segment = Some(next),
                Some(_) => {}
                None => return abandoned,
            }
        }
    }
}

/// Moves the mark, under the lease.
async fn commit(context: &LaneContext, mark: Mark) -> Result<(), LaneError> {
    let next = mark.next;
    persist!(context, try_commit(context, mark.clone()).await)?;
    context.cell.update(|status| status.mark = next);
    Ok(())
}

async fn try_commit(context: &LaneContext, mark: Mark) -> Result<(), StageError> {
    let _held = context.lease.enter().map_err(|ended| StageError::fenced("commit", ended))?;
    context.control.commit(&context.lane, mark).await
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_publisher_that_ended_with_the_lease_may_be_looked_at_again() {
        let (items, _) = mpsc::channel(1);
        let mut publisher = Publisher::<()> {
            items: Some(items),
            task: tokio::spawn(async { (Ok(()), 3) }),
            abandoned: None,
        };
        while !publisher.task.is_finished() {
            tokio::task::yield_now().await;
        }
        // A lane that is at work when the lease ends comes by once more before it is cancelled.
        assert!(publisher.failed().now_or_never().is_none());
        assert!(publisher.failed().now_or_never().is_none());
        assert_eq!(publisher.abandon().await, 3);
    }
}
