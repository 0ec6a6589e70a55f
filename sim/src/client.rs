//! A consumer's client and the thread that polls it, as `aqueduct-kafka-source` has them: one commit request at a time, a
//! deadline for its answer, and a new client instance whenever one may still hold a commit back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aqueduct_core::{Mark, Offset, Pool, SourceEvent, StageError, TopicPartition};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use crate::group::{Pulse, Refusal};
use crate::process::Process;
use crate::world::TOPIC;

const TICK: Duration = Duration::from_millis(100);
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
const REVOKE_TIMEOUT: Duration = Duration::from_secs(20);
const LAST_COMMIT: Duration = Duration::from_secs(5);
const REPEAT: Duration = Duration::from_millis(200);
const BATCH_RECORDS: usize = 20;

mod fetch;
mod handover;

pub(crate) type Event = Result<SourceEvent, StageError>;
type Answer = oneshot::Sender<Result<(), StageError>>;

/// What lanes ask of the poll thread.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) asked: Mutex<Asked>,
    pub(crate) waiting: Notify,
}

#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) commits: Vec<CommitRequest>,
    pub(crate) pauses: Vec<(i32, bool)>,
    pub(crate) close: bool,
}

#[derive(Debug)]
pub(crate) struct CommitRequest {
    pub(crate) partition: i32,
    pub(crate) mark: Mark,
    pub(crate) answer: Answer,
}

impl Inbox {
    pub(crate) fn ask(&self, ask: impl FnOnce(&mut Asked)) {
        ask(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner));
        self.waiting.notify_one();
    }

    fn take(&self) -> Asked {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug)]
struct Lane {
    position: Option<i64>,
    reached: Option<i64>,
    leaving: bool,
    highest: i64,
    commit: Option<Commit>,
}

#[derive(Debug)]
struct Commit {
    offset: i64,
    metadata: String,
    answer: Answer,
    state: CommitState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CommitState {
    Due(Instant),
    Sent(Instant),
}

enum Handover {
    Reading { added: BTreeSet<i32>, at: Instant },
    Asking { added: BTreeMap<i32, i64>, answer: oneshot::Receiver<Vec<(TopicPartition, Offset)>> },
    Revoking { lanes: BTreeSet<i32>, done: oneshot::Receiver<()>, by: Instant },
}

type Verdicts = Vec<(i32, i64, String, Option<Refusal>)>;

/// The poll thread.
pub(crate) struct Poller {
    pub(crate) process: Arc<Process>,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) memory: Pool,
    outbox: VecDeque<Event>,
    lanes: BTreeMap<i32, Lane>,
    early: Vec<CommitRequest>,
    paused: BTreeSet<i32>,
    handover: Option<Handover>,
    committing: Option<oneshot::Receiver<Verdicts>>,
    /// This client instance.
    instance: u64,
    generation: Arc<AtomicU64>,
    retired: Arc<AtomicBool>,
    failed: bool,
}

enum Ended {
    Closed,
    Lost(&'static str),
}

impl Poller {
    pub(crate) fn new(
        process: Arc<Process>,
        inbox: Arc<Inbox>,
        events: mpsc::Sender<Event>,
        memory: Pool,
    ) -> Self {
        Self {
            process,
            inbox,
            events,
            memory,
            outbox: VecDeque::new(),
            lanes: BTreeMap::new(),
            early: Vec::new(),
            paused: BTreeSet::new(),
            handover: None,
            committing: None,
            instance: 0,
            generation: Arc::default(),
            retired: Arc::default(),
            failed: false,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.join().await;
            let ended = self.serve().await;
            self.forget_lanes();
            self.retired.store(true, Ordering::Relaxed);
            if !self.process.world.state().group.away {
                self.process.world.state().group.leave(self.instance);
            }
            let Ended::Lost(reason) = ended else { return };
            let (slot, life) = (self.process.slot, self.process.life);
            self.process.world.state().trace.note(format_args!("process {slot}.{life} rejoins: {reason}"));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    async fn join(&mut self) {
        self.process.gate().await;
        while self.process.world.state().group.away {
            tokio::time::sleep(TICK).await;
            self.process.gate().await;
        }
        self.instance = self.process.world.state().group.enter();
        (self.generation, self.retired, self.committing) = (Arc::default(), Arc::default(), None);
    }

    async fn serve(&mut self) -> Ended {
        loop {
            self.process.gate().await;
            if let Some(ended) = self.look() {
                return ended;
            }
            if let Some(ended) = self.pulse() {
                return ended;
            }
            if let Some(ended) = self.step_handover() {
                return ended;
            }
            self.take_early();
            self.send_due();
            if self.is_overdue() {
                return Ended::Lost("a commit was not answered");
            }
            if self.handover.is_none()
                && !self.failed
                && let Some(ended) = self.fetch()
            {
                return ended;
            }
            self.flush_outbox();
            let inbox = Arc::clone(&self.inbox);
            // A request that arrives is noticed at once, and everything else once a tick.
            drop(tokio::time::timeout(TICK, inbox.waiting.notified()).await);
        }
    }

    /// Requests of lanes and answers of the coordinator.
    fn look(&mut self) -> Option<Ended> {
        if let Some(mut committing) = self.committing.take() {
            match committing.try_recv() {
                Err(TryRecvError::Empty) => self.committing = Some(committing),
                Err(TryRecvError::Closed) => {
                    // Its answer is lost: it stays sent, until it is overdue.
                    let (never, committing) = oneshot::channel();
                    std::mem::forget(never);
                    self.committing = Some(committing);
                }
                Ok(verdicts) => {
                    for verdict in verdicts {
                        if self.settle(verdict) {
                            return Some(Ended::Lost("not a member any more"));
                        }
                    }
                }
            }
        }
        let asked = self.inbox.take();
        for (partition, paused) in asked.pauses {
            if paused {
                self.paused.insert(partition);
            } else {
                self.paused.remove(&partition);
            }
        }
        self.early.extend(asked.commits);
        asked.close.then_some(Ended::Closed)
    }

    /// Answers whether the membership is over.
    fn settle(
        &mut self,
        (partition, offset, metadata, refused): (i32, i64, String, Option<Refusal>),
    ) -> bool {
        let Some(lane) = self.lanes.get_mut(&partition) else { return false };
        let ours = |commit: &Commit| {
            commit.offset == offset
                && commit.metadata == metadata
                && matches!(commit.state, CommitState::Sent(_))
        };
        if !lane.commit.as_ref().is_some_and(ours) {
            return false;
        }
        match refused {
            Some(Refusal::UnknownMember) => return true,
            Some(Refusal::IllegalGeneration) if !lane.leaving => {
                if let Some(commit) = &mut lane.commit {
                    commit.state = CommitState::Due(Instant::now() + REPEAT);
                }
            }
            Some(Refusal::IllegalGeneration) => {
                if let Some(commit) = lane.commit.take() {
                    refuse(commit.answer);
                }
            }
            None => {
                if let Some(commit) = lane.commit.take() {
                    lane.highest = offset;
                    commit.answer.send(Ok(())).ok();
                }
            }
        }
        false
    }

    /// Says that it is alive, and follows what the group does.
    fn pulse(&mut self) -> Option<Ended> {
        let (pulse, cooperative) = {
            let mut state = self.process.world.state();
            if state.group.away {
                return None;
            }
            (state.group.pulse(self.instance), state.group.cooperative)
        };
        match pulse {
            Pulse::Unknown => return Some(Ended::Lost("the session is over")),
            Pulse::Waiting => {}
            Pulse::Rebalance if self.handover.is_some() => {}
            Pulse::Rebalance => {
                let held: BTreeSet<i32> = self.lanes.keys().copied().collect();
                if cooperative || held.is_empty() {
                    self.process.world.state().group.join(self.instance, held);
                } else {
                    self.revoke(held);
                }
            }
            Pulse::Fine { generation, assigned } => {
                self.generation.store(generation, Ordering::Relaxed);
                let held: BTreeSet<i32> = self.lanes.keys().copied().collect();
                if self.handover.is_none() && held != assigned {
                    let taken: BTreeSet<i32> = held.difference(&assigned).copied().collect();
                    if taken.is_empty() {
                        let latency = self.process.world.state().latency();
                        let added = assigned.difference(&held).copied().collect();
                        self.handover = Some(Handover::Reading { added, at: Instant::now() + latency });
                    } else {
                        self.revoke(taken);
                    }
                }
            }
        }
        None
    }

    /// Commits wait until the partition they belong to is assigned.
    fn take_early(&mut self) {
        for request in std::mem::take(&mut self.early) {
            let CommitRequest { partition, mark, answer } = request;
            let announced = matches!(&self.handover, Some(Handover::Asking { added, .. }) if added.contains_key(&partition));
            match self.lanes.get_mut(&partition) {
                Some(lane) if mark.next.get() >= lane.highest && lane.commit.is_none() => {
                    let (offset, metadata) = (mark.next.get(), mark.encode());
                    let state = CommitState::Due(Instant::now());
                    lane.commit = Some(Commit { offset, metadata, answer, state });
                }
                None if announced => self.early.push(CommitRequest { partition, mark, answer }),
                _ => refuse(answer),
            }
        }
    }

    fn send_due(&mut self) {
        if self.committing.is_some() {
            return;
        }
        let now = Instant::now();
        let mut entries = Vec::new();
        for (partition, lane) in &mut self.lanes {
            if let Some(commit) = &mut lane.commit
                && matches!(commit.state, CommitState::Due(at) if at <= now)
            {
                commit.state = CommitState::Sent(now);
                entries.push((*partition, commit.offset, commit.metadata.clone()));
            }
        }
        if entries.is_empty() {
            return;
        }
        let (answer, answered) = oneshot::channel();
        self.committing = Some(answered);
        let (process, instance) = (Arc::clone(&self.process), self.instance);
        let (generation, retired) = (Arc::clone(&self.generation), Arc::clone(&self.retired));
        tokio::spawn(async move {
            let there = process.world.state().latency();
            let back = process.world.state().latency();
            // The client holds it back while the coordinator is away, for as long as the client lives.
            loop {
                process.gate().await;
                if retired.load(Ordering::Relaxed) {
                    return;
                }
                if !process.world.state().group.away {
                    break;
                }
                process.world.state().count("commits held back");
                tokio::time::sleep(TICK).await;
            }
            // And sends it with the generation of that moment.
            let generation = generation.load(Ordering::Relaxed);
            tokio::time::sleep(there).await;
            let Some(verdicts) = apply(&process, instance, generation, entries) else { return };
            tokio::time::sleep(back).await;
            answer.send(verdicts).ok();
        });
    }

    fn is_overdue(&self) -> bool {
        let sent = |lane: &Lane| match lane.commit.as_ref().map(|commit| commit.state) {
            Some(CommitState::Sent(at)) => at.elapsed() >= COMMIT_TIMEOUT,
            _ => false,
        };
        self.lanes.values().any(sent)
    }

    /// All leases end.
    fn forget_lanes(&mut self) {
        let mut lost = BTreeSet::new();
        for (partition, lane) in std::mem::take(&mut self.lanes) {
            lost.insert(partition);
            lane.commit.into_iter().for_each(|commit| refuse(commit.answer));
        }
        if let Some(Handover::Asking { added, .. }) = self.handover.take() {
            lost.extend(added.into_keys());
        }
        self.early.drain(..).for_each(|request| refuse(request.answer));
        self.inbox.take().commits.into_iter().for_each(|request| refuse(request.answer));
        self.paused.clear();
        if !lost.is_empty() {
            self.outbox.push_back(Ok(SourceEvent::Lost(lost.into_iter().map(name).collect())));
        }
        self.flush_outbox();
    }

    fn flush_outbox(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Err(mpsc::error::TrySendError::Full(event)) => return self.outbox.push_front(event),
                Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }
}

/// The coordinator's part of a commit; `None` if its answer is lost.
fn apply(
    process: &Process,
    instance: u64,
    generation: u64,
    entries: Vec<(i32, i64, String)>,
) -> Option<Verdicts> {
    let mut state = process.world.state();
    let admitted = state.group.admits(instance, generation);
    for (partition, offset, metadata) in &entries {
        state.trace.note(format_args!(
            "commit of {partition} at {offset} {metadata} by instance {instance} in generation {generation}: {admitted:?}"
        ));
        if admitted.is_err() {
            state.count("commits fenced");
            continue;
        }
        let owner = state.group.owner(*partition);
        if owner.is_some_and(|owner| owner != instance) {
            state
                .ledger
                .violate(format!("I7: instance {instance} commits {partition}, which is {owner:?}'s"));
        }
        let before = state.group.committed.insert(*partition, (*offset, metadata.clone()));
        let state = &mut *state;
        if let Some(log) = state.logs.get(partition) {
            let policy = process.world.scenario.poison;
            state.ledger.committed(log, policy, *partition, before.as_ref(), (*offset, metadata));
        }
    }
    if state.strikes("commit answers lost", process.world.scenario.faults / 4) {
        return None;
    }
    let refused = admitted.err();
    Some(entries.into_iter().map(|(partition, offset, text)| (partition, offset, text, refused)).collect())
}

pub(crate) fn name(partition: i32) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

fn refuse(answer: Answer) {
    // A lane that does not wait any more was cancelled.
    answer.send(Err(StageError::fenced("commit", "the partition is not ours"))).ok();
}
