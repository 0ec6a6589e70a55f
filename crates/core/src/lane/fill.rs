//! Taking records in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::batch::Batch;
use crate::convert::Converter;
use crate::dead_letter::PoisonWindow;
use crate::error::{Poison, PoisonStage};
use crate::failpoint::Failpoint;
use crate::observe::{LaneState, Metric};
use crate::partition::Partitioner;
use crate::record::Offset;
use crate::rotate::{Cut, CutReason};
use crate::sink::Sink;

use super::backoff::persist;
use super::context::{LaneContext, Stages};
use super::error::LaneError;
use super::inbox::LaneEvent;
use super::open::{Open, Opened};
use super::publish::{Item, Publisher};
use super::recover;
use super::run::{LaneStart, Wish};
use super::step::{Step, too_much};

/// Segments a lane may have at a time: one publishing, one filling.
const SEGMENTS_IN_FLIGHT: usize = 2;
/// How often time-based rotation is asked.
const TICK: Duration = Duration::from_millis(200);
/// How long a mark may lag behind records that store nothing.
const FRONTIER_EVERY: Duration = Duration::from_secs(5);
/// Dead letters of a segment wait in memory until its intent is written down; this many bytes of them cut it.
const LETTER_BYTES_MAX: usize = 1 << 20;
/// A pinned segment is not cut early. Whoever cut it had fewer letters than this, or another policy.
const PINNED_LETTER_BYTES_MAX: usize = 16 * LETTER_BYTES_MAX;
/// What a row may need on scratch beyond the record's own bytes: its share of the route directory, a delimiter.
const ROW_OVERHEAD: u64 = 32;

/// Whether the lane goes on taking records in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Drain,
}

/// A lane's first task.
pub(super) struct Filler<C: Converter, P, K> {
    pub(super) stages: Arc<Stages<C, P, K>>,
    pub(super) context: Arc<LaneContext>,
    pub(super) open: Option<Box<Open<C::Output>>>,
    pub(super) publisher: Option<Publisher<C::Output>>,
    /// The next offset to take in: everything below is in the open segment or handed to the publisher.
    pub(super) next: Offset,
    /// Everything below was handed to the publisher.
    pub(super) handed_over: Offset,
    frontier_at: Instant,
    pub(super) window: PoisonWindow,
    slots: Arc<Semaphore>,
    wish: Option<watch::Receiver<Wish>>,
    /// End after the pinned segment.
    only_recover: bool,
}

/// Why the loop over a batch's records stopped.
enum Stopped {
    BatchEnd,
    Cut(CutReason),
    Poisoned(PoisonStage, Poison),
    /// The next record is the first of its route: the writer has to be told of it.
    NewRoute,
    /// More poison than the breaker, or the one who cut the segment, let through.
    Tripped(LaneError),
}

impl<C, P, K> Filler<C, P, K>
where
    C: Converter,
    P: Partitioner<C::Output>,
    K: Sink<C::Output>,
{
    pub(super) fn new(stages: Arc<Stages<C, P, K>>, context: Arc<LaneContext>) -> Self {
        Self {
            stages,
            window: PoisonWindow::new(context.poison_breaker),
            context,
            open: None,
            publisher: None,
            next: Offset::ZERO,
            handed_over: Offset::ZERO,
            frontier_at: Instant::now(),
            slots: Arc::new(Semaphore::new(SEGMENTS_IN_FLIGHT)),
            wish: None,
            only_recover: false,
        }
    }

    /// Lives from the assignment to the last commit.
    pub(super) async fn live(&mut self, mut start: LaneStart) -> Result<(), LaneError> {
        self.wish = Some(start.wish);
        self.only_recover = start.only_recover;
        let recovery = recover::plan(&self.context, &start.assignment)?;
        self.publisher = Some(Publisher::spawn(Arc::clone(&self.context)));
        self.next = recovery.start;
        self.handed_over = recovery.start;
        let mut first = recovery.commit_start.then(|| Item::Frontier {
            end: recovery.start,
            records: 0,
            skipped: 0,
            slot: None,
        });
        if let Some(intent) = recovery.pinned {
            Failpoint::RecoverBeforeBegin.reach();
            let slot = self.slot_or_drain().await?;
            let Some(slot) = slot else { return self.drain().await };
            let sink = &self.stages.sink;
            match Open::begin(&self.context, sink, recovery.start, Some(intent.clone()), slot).await? {
                Opened::Filling(open) => self.open = Some(open),
                Opened::AlreadyPublished(published) => {
                    self.next = intent.range.end();
                    self.handed_over = self.next;
                    first = Some(Item::Recovered { end: self.next, published });
                }
            }
        }
        // Nobody waits for the answer when the assignment is already gone.
        start.start.send(self.next).ok();
        if let Some(first) = first {
            self.hand_over(first).await?;
        }
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !self.has_recovered() {
            self.show();
            let flow = tokio::select! {
                biased;
                error = Self::publisher_failed(&mut self.publisher) => return Err(error),
                () = Self::drain_wished(&mut self.wish) => Flow::Drain,
                Some(done) = start.flush.recv() => self.flush(done).await?,
                event = start.inbox.recv() => match event {
                    Some(LaneEvent::Batch(batch)) => self.fill(batch).await?,
                    Some(LaneEvent::Reached(next)) => self.reached(next).await?,
                    None => Flow::Drain,
                },
                _ = tick.tick() => self.tick().await?,
            };
            if flow == Flow::Drain {
                break;
            }
        }
        start.inbox.discard();
        self.drain().await
    }

    /// Whether there is nothing left to do for a lane that only recovers.
    fn has_recovered(&self) -> bool {
        self.only_recover && self.open.is_none()
    }

    /// Cuts what is open, waits until everything is published and committed.
    async fn drain(&mut self) -> Result<(), LaneError> {
        self.context.cell.update(|status| status.state = LaneState::Draining);
        Failpoint::ShutdownDraining.reach();
        // A pinned segment that is not complete stays behind with its intent, for the next owner.
        if self.open.as_ref().is_some_and(|open| open.pinned.is_none()) {
            self.cut(CutReason::Drain).await?;
        }
        if self.open.is_none() {
            self.hand_over_frontier().await?;
        }
        match self.publisher.as_mut() {
            Some(publisher) => publisher.finish().await,
            None => Ok(()),
        }
    }

    /// Gives up what is open. What was handed to the publisher is still finished, unless the lease has ended. Answers
    /// how many segments were given up.
    pub(super) async fn abandon(&mut self) -> u64 {
        let mut abandoned = 0;
        if let Some(mut open) = self.open.take() {
            open.writer.abandon().await;
            abandoned += u64::from(open.stats.records > 0 || open.pinned.is_some());
        }
        if let Some(publisher) = self.publisher.take() {
            abandoned += publisher.abandon().await;
        }
        abandoned
    }

    async fn fill(&mut self, batch: Batch) -> Result<Flow, LaneError> {
        Failpoint::FillBatch.reach();
        // A source may deliver again what lies below the answered start; it is already taken in.
        let mut index = batch.iter().take_while(|record| record.offset() < self.next).count();
        let arrived = (batch.len() - index) as u64;
        self.context.totals.records.fetch_add(arrived, Ordering::Relaxed);
        Metric::RecordsDue.add(&self.context.scope, &[], arrived);
        persist!(&self.context, self.stages.converter.prepare(&batch).await)?;
        while index < batch.len() && !self.has_recovered() {
            if self.make_room(&batch, index).await? == Flow::Drain {
                return Ok(Flow::Drain);
            }
            let before = index;
            let stopped = loop {
                match self.take_in(&batch, &mut index) {
                    // Before anything of the segment is sent anywhere.
                    Stopped::Tripped(error) => return Err(error),
                    Stopped::NewRoute => self.open_route().await?,
                    stopped => break stopped,
                }
            };
            self.spill(&batch, (index - before) as u64).await?;
            match stopped {
                Stopped::BatchEnd | Stopped::NewRoute | Stopped::Tripped(_) => {}
                Stopped::Cut(reason) => self.cut(reason).await?,
                Stopped::Poisoned(stage, poison) => {
                    let offset = self.next;
                    if self.open.as_ref().is_some_and(|open| open.pinned.is_none()) {
                        self.cut(CutReason::Stop).await?;
                    }
                    if let Some(publisher) = self.publisher.as_mut() {
                        publisher.finish().await?;
                    }
                    return Err(LaneError::Poisoned { offset, stage, poison, published: offset });
                }
            }
        }
        self.cut_if_complete().await?;
        Ok(Flow::Continue)
    }

    /// The hot loop: no await, no allocation, no lock per record.
    fn take_in(&mut self, batch: &Batch, index: &mut usize) -> Stopped {
        let Some(open) = self.open.as_mut() else { return Stopped::BatchEnd };
        open.stats.last_arrival = self.context.clock.now();
        let rotation = &*self.context.rotation;
        while let Some(record) = batch.get(*index) {
            let offset = record.offset();
            match &open.pinned {
                Some(intent) if offset >= intent.range.end() => return Stopped::Cut(CutReason::Pinned),
                Some(_) => {}
                None if open.stats.records > 0 => {
                    if let Cut::Yes(reason) = rotation.before(&open.stats, &record) {
                        return Stopped::Cut(reason);
                    }
                }
                None => open.stats.first_timestamp = record.timestamp(),
            }
            let step = Self::step(&self.stages, &self.context, open, &record);
            match step {
                // The record comes again.
                Step::RoutesFull => return Stopped::Cut(CutReason::Routes),
                Step::NewRoute => return Stopped::NewRoute,
                _ if open.pinned.is_none() => self.window.pass(),
                _ => {}
            }
            match step {
                Step::Stored => {
                    open.stats.rows += 1;
                    open.stats.bytes = open.writer.encoded_bytes();
                    open.hash.push(offset);
                    if let Some(originals) = &mut open.originals {
                        originals.push(&record);
                    }
                }
                Step::Skipped(reason) => open.skips.add(reason),
                Step::RoutesFull | Step::NewRoute => {}
                Step::Poisoned(stage, poison) => {
                    if let Some(error) = too_much(open, || self.window.poisoned(), offset, (stage, &poison)) {
                        return Stopped::Tripped(error);
                    }
                    if let Some(intent) = &open.pinned
                        && open.letter_bytes > PINNED_LETTER_BYTES_MAX
                    {
                        return Stopped::Tripped(LaneError::PinnedLetters { range: intent.range, offset });
                    }
                    if let Some((stage, poison)) = Self::poisoned(&self.context, open, &record, stage, poison)
                    {
                        return Stopped::Poisoned(stage, poison);
                    }
                }
            }
            open.stats.records += 1;
            self.next = offset.next();
            *index += 1;
            if open.pinned.is_none() {
                if let Cut::Yes(reason) = rotation.after(&open.stats) {
                    return Stopped::Cut(reason);
                }
                if open.letter_bytes > LETTER_BYTES_MAX {
                    return Stopped::Cut(CutReason::DeadLetters);
                }
            }
        }
        Stopped::BatchEnd
    }

    /// Opens a segment if there is none and pays for the scratch that the rest of the batch may need.
    async fn make_room(&mut self, batch: &Batch, index: usize) -> Result<Flow, LaneError> {
        let rest = (batch.len() - index) as u64;
        let copies = 1 + u64::from(self.context.capabilities.rejects_late);
        let need = copies * (batch.bytes() as u64 * rest / batch.len().max(1) as u64 + rest * ROW_OVERHEAD);
        let mut _no_file_is_kept = None;
        loop {
            if self.open.is_none() {
                let Some(slot) = self.slot_or_drain().await? else { return Ok(Flow::Drain) };
                Failpoint::FillBeforeBegin.reach();
                let begun = Open::begin(&self.context, &self.stages.sink, self.next, None, slot).await?;
                match begun {
                    Opened::Filling(open) => self.open = Some(open),
                    Opened::AlreadyPublished(_) => {
                        return Err(LaneError::SinkContract {
                            what: "only a pinned segment can be published already",
                        });
                    }
                }
            }
            let Some(open) = self.open.as_ref() else { continue };
            // A pinned segment cannot be cut early: it may pass the disk budget, once.
            if open.scratch.try_reserve(need) || open.pinned.is_some() {
                return Ok(Flow::Continue);
            }
            if open.stats.records > 0 {
                self.cut(CutReason::Disk).await?;
                continue;
            }
            if open.scratch.has_kept_files() {
                // Whoever waits may hold nothing that others wait for, or the lane itself: blocks of its kept files are used
                // for the budget and for the file system. Nothing is in them yet, so the segment begins once more, without.
                _no_file_is_kept = Some(open.scratch.give_up_kept_files());
                if let Some(mut open) = self.open.take() {
                    open.writer.abandon().await;
                }
                continue;
            }
            let scratch = open.scratch.clone();
            self.waiting(scratch.shortage(need));
            tokio::select! {
                biased;
                error = Self::publisher_failed(&mut self.publisher) => return Err(error),
                () = Self::drain_wished(&mut self.wish) => return Ok(Flow::Drain),
                () = scratch.reserve(need) => return Ok(Flow::Continue),
            }
        }
    }

    /// Tells the writer of the route the next record goes to.
    async fn open_route(&mut self) -> Result<(), LaneError> {
        match self.open.as_mut() {
            Some(open) => open.open_route(&self.context).await,
            None => Ok(()),
        }
    }

    /// One of the lane's segment slots; `None` if the lane is to drain instead.
    async fn slot_or_drain(&mut self) -> Result<Option<OwnedSemaphorePermit>, LaneError> {
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok(Some(slot));
        }
        self.waiting("the segment before is still being published");
        tokio::select! {
            biased;
            error = Self::publisher_failed(&mut self.publisher) => Err(error),
            () = Self::drain_wished(&mut self.wish) => Ok(None),
            slot = Arc::clone(&self.slots).acquire_owned() => Ok(slot.ok()),
        }
    }

    async fn reached(&mut self, next: Offset) -> Result<Flow, LaneError> {
        self.next = self.next.max(next);
        self.cut_if_complete().await?;
        Ok(Flow::Continue)
    }

    async fn cut_if_complete(&mut self) -> Result<(), LaneError> {
        let pinned = self.open.as_ref().and_then(|open| open.pinned.as_ref());
        if pinned.is_some_and(|intent| self.next >= intent.range.end()) {
            self.cut(CutReason::Pinned).await?;
        }
        Ok(())
    }

    async fn flush(&mut self, done: oneshot::Sender<()>) -> Result<Flow, LaneError> {
        if self.open.as_ref().is_some_and(|open| open.pinned.is_none()) {
            self.cut(CutReason::Demand).await?;
        }
        if self.open.is_none() {
            self.hand_over_frontier().await?;
        }
        self.hand_over(Item::Barrier(done)).await?;
        Ok(Flow::Continue)
    }

    async fn tick(&mut self) -> Result<Flow, LaneError> {
        if let Some(open) = self.open.as_mut() {
            persist!(&self.context, open.writer.tick().await)?;
        }
        let now = self.context.clock.now();
        let Some(open) = self.open.as_ref() else {
            Metric::SegmentAge.set(&self.context.scope, 0);
            if self.frontier_at.elapsed() >= FRONTIER_EVERY {
                self.hand_over_frontier().await?;
            }
            return Ok(Flow::Continue);
        };
        let age = now.duration_since(open.stats.opened_at).unwrap_or_default();
        Metric::SegmentAge.set(&self.context.scope, age.as_secs());
        if open.pinned.is_some() {
            return Ok(Flow::Continue);
        }
        let stores_nothing = open.stats.rows == 0;
        if stores_nothing && (self.frontier_at.elapsed() < FRONTIER_EVERY || self.next == open.start) {
            return Ok(Flow::Continue);
        }
        if stores_nothing {
            // Tombstones, filtered records, letters: the mark follows them without an object.
            self.frontier_at = Instant::now();
            self.cut(CutReason::Idle).await?;
        } else if let Cut::Yes(reason) = self.context.rotation.tick(&open.stats, now) {
            self.cut(reason).await?;
        } else if self.disk_is_short(open.scratch.written()) {
            self.cut(CutReason::Disk).await?;
        }
        Ok(Flow::Continue)
    }

    /// Whether others wait for disk and this lane holds more than its fair share of a quarter of what is used. Below
    /// that it keeps its segment: if every lane is below, three quarters are being published and come back. What is
    /// used is the budget, or less if the file system is smaller than that.
    fn disk_is_short(&self, written: u64) -> bool {
        let pool = self.context.budget.disk();
        let lanes = self.context.lanes_assigned.load(Ordering::Relaxed).max(1) as u64;
        pool.waiting() > 0 && written >= pool.used() / (4 * lanes)
    }

    /// Hands the position over if it has moved past what was handed over, so that the mark follows control records
    /// and records that store nothing.
    async fn hand_over_frontier(&mut self) -> Result<(), LaneError> {
        self.frontier_at = Instant::now();
        if self.next > self.handed_over {
            self.handed_over = self.next;
            let end = self.next;
            self.hand_over(Item::Frontier { end, records: 0, skipped: 0, slot: None }).await?;
        }
        Ok(())
    }

    /// Gives the publisher something to do, unless it has failed.
    pub(super) async fn hand_over(&mut self, item: Item<C::Output>) -> Result<(), LaneError> {
        match self.publisher.as_mut() {
            Some(publisher) => publisher.send(item).await,
            None => Ok(()),
        }
    }

    async fn publisher_failed(publisher: &mut Option<Publisher<C::Output>>) -> LaneError {
        match publisher {
            Some(publisher) => publisher.failed().await,
            None => std::future::pending().await,
        }
    }

    async fn drain_wished(wish: &mut Option<watch::Receiver<Wish>>) {
        match wish {
            // A supervisor that is gone wants nothing more of this lane.
            Some(wish) => drop(wish.wait_for(|wish| *wish == Wish::Drain).await),
            None => std::future::pending().await,
        }
    }

    fn waiting(&self, reason: &str) {
        self.context.cell.update(|status| status.state = LaneState::Waiting(reason.to_owned()));
    }

    fn show(&self) {
        self.context.cell.update(|status| {
            status.position = self.next;
            let open = self.open.as_ref();
            status.state = match open.map(|open| open.pinned.is_some()) {
                Some(true) => LaneState::Recovering,
                Some(false) => LaneState::Filling,
                None => LaneState::Idle,
            };
            status.open_rows = open.map_or(0, |open| open.stats.rows);
            status.open_bytes = open.map_or(0, |open| open.stats.bytes);
        });
    }
}
