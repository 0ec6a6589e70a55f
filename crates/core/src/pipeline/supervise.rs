//! Source events in, lanes out: assignment, hand-over, shutdown.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::error::{ErrorChain, StageError};
use crate::fingerprint::Fingerprint;
use crate::lane::{Inbox, LaneContext, LaneError, LaneEvent, LaneExit, LaneStart, Wish};
use crate::lease::Lease;
use crate::observe::{LaneScope, Metric, Report};
use crate::record::{Offset, TopicPartition};
use crate::sink::SinkCapabilities;
use crate::source::{Assignment, Reply, SourceContext, SourceControl, SourceEvent};
use crate::spool::{Offload, Spool, SpoolError};

use super::check;
use super::{Command, Guarantee, OnLaneFailure, Options, Pipeline, PipelineError, Runnable};
use crate::dead_letter::OnPoison;

/// How long before a revocation's deadline a lane that is not done loses its lease.
const REVOKE_MARGIN: Duration = Duration::from_millis(500);
/// How often the process-wide gauges are set.
const GAUGES_EVERY: Duration = Duration::from_secs(1);

/// What the pipeline is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Run,
    FinishPending,
}

pub(super) async fn run(
    mut pipeline: Pipeline,
    shutdown: impl Future<Output = ()> + Send,
    mode: Mode,
) -> Result<Report, PipelineError> {
    let started = std::time::Instant::now();
    let spool = open_spool(&pipeline.options).await?;
    check::persist("sink check", || pipeline.stages.check()).await.map_err(PipelineError::Sink)?;
    if let OnPoison::DeadLetter(target) = &pipeline.options.on_poison {
        check::persist("dead-letter check", || target.check()).await.map_err(PipelineError::DeadLetters)?;
    }
    let exactly_once_required = pipeline.options.require == Some(Guarantee::ExactlyOnce);
    let context = SourceContext {
        memory: pipeline.options.limits.budget.fill().clone(),
        adopt_foreign_marks: pipeline.options.adopt_foreign_marks,
    };
    tracing::info!(pipeline = %pipeline.options.name, guarantee = %pipeline.guarantee, "starting");
    pipeline.source.open(context).await.map_err(PipelineError::Source)?;
    let mut supervisor = Supervisor {
        capabilities: pipeline.stages.capabilities(),
        fingerprint: pipeline.stages.fingerprint(),
        control: pipeline.source.control(),
        spool,
        started,
        exactly_once_required,
        mode,
        lanes: BTreeMap::new(),
        leaving: BTreeMap::new(),
        lanes_assigned: Arc::default(),
        tasks: JoinSet::new(),
        generation: 0,
        phase: Phase::Running,
        failure: None,
        was_assigned: false,
        pipeline,
    };
    let source_failure = supervisor.serve(shutdown).await.err();
    if source_failure.is_some() {
        supervisor.end_leases();
        while let Some(exit) = supervisor.tasks.join_next().await {
            supervisor.on_exit(exit);
        }
    }
    if let Err(error) = supervisor.pipeline.source.close().await {
        tracing::warn!(error = %ErrorChain(&error), "the source did not close cleanly");
    }
    let report = supervisor.pipeline.totals.report();
    tracing::info!(pipeline = %supervisor.pipeline.options.name, %report, "ended");
    match (supervisor.failure, source_failure) {
        (Some((lane, error)), _) => Err(PipelineError::Lane { lane, source: Box::new(error) }),
        (None, Some(error)) => Err(PipelineError::Source(error)),
        (None, None) => Ok(report),
    }
}

async fn open_spool(options: &Options) -> Result<Spool, PipelineError> {
    let (directory, name) = (options.spool_dir.clone(), options.name.clone());
    let (disk, pool) = (Arc::clone(&options.disk), options.limits.budget.disk().clone());
    let opened = Offload::of(&*options.disk).run(move || Spool::open(&directory, &name, disk, pool)).await;
    match opened {
        Ok(opened) => Ok(opened?),
        // Only a runtime that is shutting down cancels it.
        Err(error) => {
            Err(SpoolError::Io { path: options.spool_dir.clone(), source: std::io::Error::other(error) }
                .into())
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The source has delivered everything: lanes finish what they have.
    Finishing,
    /// Lanes cut, publish and commit until the deadline; then they are abandoned.
    Draining {
        deadline: Instant,
    },
    /// The leases have ended.
    Abandoning,
}

struct LaneEntry {
    generation: u64,
    inbox: Arc<Inbox>,
    wish: watch::Sender<Wish>,
    flush: mpsc::Sender<oneshot::Sender<()>>,
    lease: Lease,
    /// Resolves when the lane's task has ended.
    ended: oneshot::Receiver<()>,
}

struct LaneEnd {
    lane: TopicPartition,
    generation: u64,
    exit: LaneExit,
}

struct Supervisor {
    pipeline: Pipeline,
    capabilities: SinkCapabilities,
    fingerprint: Fingerprint,
    control: Arc<dyn SourceControl>,
    spool: Spool,
    started: std::time::Instant,
    exactly_once_required: bool,
    mode: Mode,
    /// Ordered, so that what is done to all of them is done in an order that can be repeated.
    lanes: BTreeMap<TopicPartition, LaneEntry>,
    /// Leases of lanes that finish because their partition was revoked, by generation: it may be lost before they have.
    leaving: BTreeMap<TopicPartition, (u64, Lease)>,
    lanes_assigned: Arc<AtomicUsize>,
    tasks: JoinSet<LaneEnd>,
    generation: u64,
    phase: Phase,
    failure: Option<(TopicPartition, LaneError)>,
    was_assigned: bool,
}

impl Supervisor {
    /// Serves the source until there is nothing left to do; an error is the source's.
    async fn serve(&mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), StageError> {
        tokio::pin!(shutdown);
        let mut gauges = tokio::time::interval(GAUGES_EVERY);
        while !self.is_done() {
            let deadline = match self.phase {
                Phase::Draining { deadline } => Some(deadline),
                _ => None,
            };
            tokio::select! {
                biased;
                Some(exit) = self.tasks.join_next(), if !self.tasks.is_empty() => self.on_exit(exit),
                () = &mut shutdown, if matches!(self.phase, Phase::Running | Phase::Finishing) => {
                    tracing::info!(pipeline = %self.pipeline.options.name, "shutting down");
                    self.drain();
                }
                () = sleep_until(deadline), if deadline.is_some() => {
                    tracing::warn!(lanes = self.lanes.len(), "the shutdown timeout has passed; abandoning what is not published");
                    self.end_leases();
                    self.phase = Phase::Abandoning;
                }
                Some(command) = self.pipeline.commands.recv() => self.on_command(command),
                event = self.pipeline.source.next() => self.on_event(event?),
                _ = gauges.tick() => self.set_gauges(),
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let stopping = match self.phase {
            Phase::Running => self.mode == Mode::FinishPending && self.was_assigned,
            Phase::Finishing | Phase::Draining { .. } | Phase::Abandoning => true,
        };
        stopping && self.tasks.is_empty()
    }

    fn on_event(&mut self, event: SourceEvent) {
        match event {
            SourceEvent::Batch(batch) => {
                if let Some(entry) = self.lanes.get(batch.lane()) {
                    entry.inbox.push(LaneEvent::Batch(batch));
                }
            }
            SourceEvent::Reached { lane, next } => {
                if let Some(entry) = self.lanes.get(&lane) {
                    entry.inbox.push(LaneEvent::Reached(next));
                }
            }
            SourceEvent::Assigned(assignments, reply) => self.on_assigned(assignments, reply),
            SourceEvent::Revoked { lanes, by, done } => self.on_revoked(&lanes, Instant::from_std(by), done),
            SourceEvent::Lost(lanes) => {
                self.not_finished();
                for lane in lanes {
                    if self.fence(&lane) {
                        tracing::warn!(%lane, "the partition is already somebody else's");
                    }
                }
            }
            SourceEvent::Ends(ends) => {
                for (lane, end) in ends {
                    self.pipeline.totals.note_end(&lane, end);
                }
            }
            SourceEvent::Finished => {
                if self.phase == Phase::Running {
                    self.phase = Phase::Finishing;
                    self.lanes.values().for_each(|entry| entry.inbox.close());
                }
            }
        }
    }

    fn on_assigned(&mut self, assignments: Vec<Assignment>, reply: Reply<Vec<(TopicPartition, Offset)>>) {
        self.was_assigned = true;
        if matches!(self.phase, Phase::Draining { .. } | Phase::Abandoning) {
            // Not answered with a start, not fetched.
            reply.send(Vec::new());
            return;
        }
        // A bounded source that got more partitions says again when it has finished.
        self.phase = Phase::Running;
        let mut starts = Vec::new();
        let mut names = Vec::new();
        for assignment in assignments {
            let lane = assignment.lane.clone();
            names.push(lane.clone());
            starts.push((lane, self.spawn(assignment)));
        }
        if self.pipeline.handle.is_paused() {
            self.control.pause(&names);
        }
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for (lane, start) in starts {
                // A lane that failed to recover gives no start and is not fetched.
                if let Ok(start) = start.await {
                    answers.push((lane, start));
                }
            }
            reply.send(answers);
        });
    }

    /// Starts a lane; the answer resolves to the offset to read from.
    fn spawn(&mut self, assignment: Assignment) -> oneshot::Receiver<Offset> {
        // A membership that ended and began again: whatever was at work under the old one may commit under the new one
        // otherwise.
        self.fence(&assignment.lane);
        self.generation += 1;
        let lane = assignment.lane.clone();
        tracing::info!(%lane, mark = %assignment.mark.next, intent = assignment.mark.intent.is_some(), "assigned");
        let options = &self.pipeline.options;
        let lease = Lease::new();
        let context = Arc::new(LaneContext {
            lane: lane.clone(),
            lease: lease.clone(),
            control: Arc::clone(&self.control),
            spool: self.spool.clone(),
            budget: options.limits.budget.clone(),
            clock: Arc::clone(&options.clock),
            rotation: Arc::clone(&options.rotation),
            on_poison: options.on_poison.clone(),
            poison_breaker: options.poison_breaker,
            on_published: options.on_published.clone(),
            fingerprint: self.fingerprint.clone(),
            capabilities: self.capabilities.clone(),
            record_bytes_max: options.limits.record_max(),
            adopt_foreign_marks: options.adopt_foreign_marks,
            exactly_once_required: self.exactly_once_required,
            lanes_assigned: Arc::clone(&self.lanes_assigned),
            started: self.started,
            totals: Arc::clone(&self.pipeline.totals),
            cell: self.pipeline.totals.lane(&lane, assignment.mark.next, assignment.log_end),
            scope: LaneScope::new(&options.name, &lane),
        });
        let (start_sender, start) = oneshot::channel();
        let (wish_sender, wish) = watch::channel(Wish::Run);
        let (flush_sender, flush) = mpsc::channel(4);
        let (ended_sender, ended) = oneshot::channel();
        let inbox = Inbox::new();
        let lane_start = LaneStart {
            assignment,
            start: start_sender,
            inbox: Arc::clone(&inbox),
            wish,
            flush,
            only_recover: self.mode == Mode::FinishPending,
        };
        let generation = self.generation;
        let stages = Arc::clone(&self.pipeline.stages);
        self.tasks.spawn({
            let (lane, inbox) = (lane.clone(), Arc::clone(&inbox));
            async move {
                let exit = Runnable::run_lane(stages, context, lane_start).await;
                inbox.discard();
                // Nobody waits unless the partition is being revoked.
                ended_sender.send(()).ok();
                LaneEnd { lane, generation, exit }
            }
        });
        let entry = LaneEntry { generation, inbox, wish: wish_sender, flush: flush_sender, lease, ended };
        self.lanes.insert(lane, entry);
        self.lanes_assigned.store(self.lanes.len(), Ordering::Relaxed);
        start
    }

    fn on_revoked(&mut self, lanes: &[TopicPartition], by: Instant, done: Reply<()>) {
        let mut entries = Vec::new();
        for lane in lanes {
            if let Some(entry) = self.take(lane) {
                entry.wish.send_replace(Wish::Drain);
                self.leaving.insert(lane.clone(), (entry.generation, entry.lease.clone()));
                entries.push(entry);
            }
        }
        tokio::spawn(async move {
            let deadline = by - REVOKE_MARGIN;
            for entry in entries {
                let LaneEntry { lease, ended, .. } = entry;
                tokio::pin!(ended);
                if tokio::time::timeout_at(deadline, &mut ended).await.is_err() {
                    lease.end();
                    ended.await.ok();
                }
            }
            done.send(());
        });
    }

    fn on_exit(&mut self, exit: Result<LaneEnd, tokio::task::JoinError>) {
        let Ok(LaneEnd { lane, generation, exit }) = exit else {
            // Lanes catch the panics of their stages; this is the runtime shutting down.
            return;
        };
        let is_current = self.lanes.get(&lane).is_some_and(|entry| entry.generation == generation);
        if is_current {
            self.take(&lane);
        }
        if self.leaving.get(&lane).is_some_and(|(leaving, _)| *leaving == generation) {
            self.leaving.remove(&lane);
        }
        match exit {
            LaneExit::Failed(error) => {
                if is_current {
                    self.control.pause(std::slice::from_ref(&lane));
                }
                if self.failure.is_none() {
                    self.failure = Some((lane, error));
                }
                if self.pipeline.options.on_lane_failure == OnLaneFailure::Stop {
                    self.drain();
                }
            }
            LaneExit::Drained => self.forget(&lane),
            // A commit was refused before the source could say that the partition is gone.
            LaneExit::Abandoned if is_current && matches!(self.phase, Phase::Running | Phase::Finishing) => {
                self.forget(&lane);
                self.not_finished();
            }
            // At shutdown an abandoned lane stays in the report, with the intent it may have left.
            LaneExit::Abandoned if is_current || self.phase == Phase::Abandoning => {}
            LaneExit::Abandoned if !self.lanes.contains_key(&lane) => self.forget(&lane),
            LaneExit::Abandoned => {}
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Flush(done) => {
                let flushes: Vec<_> = self.lanes.values().map(|entry| entry.flush.clone()).collect();
                tokio::spawn(async move {
                    for flush in flushes {
                        let (lane_done, answer) = oneshot::channel();
                        // A lane that ends meanwhile has nothing left to flush.
                        if flush.send(lane_done).await.is_ok() {
                            answer.await.ok();
                        }
                    }
                    done.send(()).ok();
                });
            }
            Command::Pause => self.control.pause(&self.names()),
            Command::Resume => self.control.resume(&self.names()),
            Command::Abort => {
                self.end_leases();
                self.phase = Phase::Abandoning;
            }
        }
    }

    /// A bounded run that loses a lane is not over: the source joins again, reads what is not stored and says again
    /// when it has finished.
    fn not_finished(&mut self) {
        if self.phase == Phase::Finishing {
            self.phase = Phase::Running;
        }
    }

    /// Stops fetching and asks every lane to publish what it has.
    fn drain(&mut self) {
        if matches!(self.phase, Phase::Draining { .. } | Phase::Abandoning) {
            return;
        }
        self.phase = Phase::Draining { deadline: Instant::now() + self.pipeline.options.shutdown_timeout };
        self.control.pause(&self.names());
        for entry in self.lanes.values() {
            entry.wish.send_replace(Wish::Drain);
        }
    }

    fn end_leases(&self) {
        let leaving = self.leaving.values().map(|(_, lease)| lease);
        self.lanes.values().map(|entry| &entry.lease).chain(leaving).for_each(Lease::end);
    }

    /// Ends the lease of whoever works on the partition, also of a lane that finishes because of a revocation. Answers
    /// whether there was one.
    fn fence(&mut self, lane: &TopicPartition) -> bool {
        let leaving = self.leaving.remove(lane).map(|(_, lease)| lease.end());
        let current = self.take(lane).map(|entry| {
            entry.lease.end();
            entry.inbox.discard();
        });
        leaving.or(current).is_some()
    }

    fn take(&mut self, lane: &TopicPartition) -> Option<LaneEntry> {
        let entry = self.lanes.remove(lane);
        self.lanes_assigned.store(self.lanes.len(), Ordering::Relaxed);
        entry
    }

    fn names(&self) -> Vec<TopicPartition> {
        self.lanes.keys().cloned().collect()
    }

    /// A lane that was handed over; its new owner shows its lag.
    fn forget(&self, lane: &TopicPartition) {
        self.pipeline.totals.forget(lane);
        Metric::Lag.set(&LaneScope::new(&self.pipeline.options.name, lane), 0);
    }

    fn set_gauges(&self) {
        let (name, budget) = (&self.pipeline.options.name, &self.pipeline.options.limits.budget);
        Metric::MemoryUsed.set_pipeline(name, budget.fill().used() + budget.publish().used());
        for lane in self.pipeline.totals.lanes() {
            Metric::Lag.set(&LaneScope::new(name, &lane.lane), lane.lag());
        }
        Metric::DiskUsed.set_pipeline(name, budget.disk().used());
        Metric::Lanes.set_pipeline(name, self.lanes.len() as u64);
        Metric::ExactlyOnce.set_pipeline(name, u64::from(self.pipeline.guarantee == Guarantee::ExactlyOnce));
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
