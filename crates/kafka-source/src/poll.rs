//! The poll thread: the one place that talks to the consumer.
//!
//! It always polls, whatever the lanes do, so that the membership stays alive, commits are answered and rebalances
//! proceed; and it never converts, so that a poll is never late. Everything it tells the pipeline goes through one
//! ordered channel.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aqueduct_core::{Arenas, Failpoint, Offset, Pool, SourceEvent, StageError, TopicPartition};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::{mpsc, oneshot};

use crate::client::{self, Consumer, Rebalance};
use crate::commit::{self, Consequence};
use crate::committer::Committer;
use crate::config::Settings;
use crate::connect;
use crate::ends::Watch;
use crate::error::KafkaSourceError;
use crate::flow::Throttle;
use crate::inbox::{CommitRequest, Inbox};
use crate::lanes::Lanes;
use crate::rebalance::Handover;

/// What a poll waits for when there is nothing to read: the longest a request of a lane waits to be noticed.
const IDLE_POLL: Duration = Duration::from_millis(10);
/// The same while a commit is under way: the longest its answer waits to be noticed.
const COMMIT_POLL: Duration = Duration::from_millis(2);
/// How often the clock is looked at while records flow.
const TICK: Duration = Duration::from_millis(5);
const TICK_RECORDS: u32 = 64;
/// How long leaving the group may hold up the thread.
const LEAVE: Duration = Duration::from_secs(5);
/// The first and the longest pause before joining again.
const REJOIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often it is said that there is no membership yet.
const UNJOINED: Duration = Duration::from_secs(30);
/// A membership of this age has proven itself: the next pause is the first again.
const PROVEN: Duration = Duration::from_mins(1);

pub(crate) type Event = Result<SourceEvent, StageError>;

/// State of the poll thread.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of one machine")]
pub(crate) struct Poller {
    pub(crate) settings: Arc<Settings>,
    pub(crate) memory: Pool,
    inbox: Arc<Inbox>,
    events: mpsc::Sender<Event>,
    /// Events the channel had no room for.
    pub(crate) outbox: VecDeque<Event>,
    pub(crate) lanes: Lanes,
    /// Commits of partitions that are announced and not assigned yet.
    early: Vec<CommitRequest>,
    /// Changes of the assignment that wait for the current one to end.
    rebalances: VecDeque<Rebalance>,
    pub(crate) handover: Option<Handover>,
    pub(crate) throttle: Throttle,
    pub(crate) arenas: Arc<Arenas>,
    /// Whether the pauses of any lane may have changed.
    pub(crate) pauses_changed: bool,
    /// Partitions the pipeline wants paused, also those that are not ours yet.
    pub(crate) paused: HashSet<TopicPartition>,
    /// Where a bounded run stops, kept over rebalances.
    pub(crate) stops: HashMap<TopicPartition, Offset>,
    pub(crate) finished: bool,
    pub(crate) last_change: Instant,
    pub(crate) positions_due: Instant,
    /// Since when the group does not take our name, because another member still has it.
    pub(crate) name_taken_since: Option<Instant>,
    /// When it is said next that there is no membership yet.
    unjoined_due: Instant,
    pub(crate) watch: Watch,
    /// Partitions were assigned once.
    pub(crate) was_assigned: bool,
    /// The largest intent has been tried on the broker.
    pub(crate) probed: bool,
    /// The pipeline was told to stop; only commits are served.
    failed: bool,
    /// Nobody takes events any more.
    pub(crate) abandoned: bool,
}

/// Why a membership ended.
pub(crate) enum Ended {
    /// The source was closed.
    Closed,
    /// The partitions are, or may be, somebody else's.
    Lost(&'static str),
}

impl Poller {
    pub(crate) fn new(
        settings: Arc<Settings>,
        memory: Pool,
        inbox: Arc<Inbox>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let now = Instant::now();
        Self {
            settings,
            memory,
            inbox,
            events,
            outbox: VecDeque::new(),
            lanes: Lanes::default(),
            early: Vec::new(),
            rebalances: VecDeque::new(),
            handover: None,
            throttle: Throttle::default(),
            arenas: Arenas::new(),
            pauses_changed: false,
            paused: HashSet::new(),
            stops: HashMap::new(),
            finished: false,
            last_change: now,
            positions_due: now,
            name_taken_since: None,
            unjoined_due: now + UNJOINED,
            was_assigned: false,
            watch: Watch::new(now),
            probed: false,
            failed: false,
            abandoned: false,
        }
    }

    /// The thread's body: connects, tells `opened` how that went, and serves memberships until the source is closed.
    pub(crate) fn run(mut self, opened: oneshot::Sender<Result<(), StageError>>) {
        self.settings.connection.warn("source");
        let connected = client::connect(&self.settings)
            .and_then(|consumer| connect::subscribe(&consumer, &self.settings).map(|()| consumer));
        match connected {
            Ok(consumer) => {
                drop(opened.send(Ok(())));
                Failpoint::SourceOpened.reach();
                self.serve_memberships(consumer);
            }
            Err(error) => drop(opened.send(Err(StageError::new("kafka open", error)))),
        }
        self.inbox.leave();
    }

    fn serve_memberships(&mut self, mut consumer: Arc<Consumer>) {
        let mut pause = REJOIN.0;
        loop {
            let joined = Instant::now();
            let ended = self.serve(&consumer);
            self.forget_lanes(&consumer);
            client::retire(consumer, LEAVE);
            let Ended::Lost(reason) = ended else { return };
            if self.failed {
                // The pipeline was told why; another membership would not change it.
                return;
            }
            if joined.elapsed() > PROVEN {
                pause = REJOIN.0;
            }
            tracing::warn!(
                group = self.settings.group,
                reason,
                ?pause,
                "the membership is over, joining again"
            );
            if self.wait(pause) {
                return;
            }
            pause = (pause * 2).min(REJOIN.1);
            let topics: Vec<&str> = self.settings.topics.iter().map(String::as_str).collect();
            let joining = client::connect(&self.settings).and_then(|consumer| {
                consumer.subscribe(&topics).map_err(KafkaSourceError::Client).map(|()| consumer)
            });
            consumer = match joining {
                Ok(consumer) => consumer,
                Err(error) => {
                    self.emit(Err(StageError::new("kafka join", error)));
                    self.flush_outbox();
                    return;
                }
            };
        }
    }

    /// Serves one membership.
    fn serve(&mut self, consumer: &Arc<Consumer>) -> Ended {
        let committer = Committer::start(consumer);
        let mut idle = false;
        let mut records = 0_u32;
        let mut ticked = Instant::now();
        loop {
            if (self.inbox.is_waiting() || consumer.context().is_waiting() || !self.early.is_empty())
                && let Some(ended) = self.look(consumer, &committer)
            {
                return ended;
            }
            let timeout = match (idle, committer.is_busy()) {
                (false, _) => Duration::ZERO,
                (true, true) => COMMIT_POLL,
                (true, false) => IDLE_POLL.min(self.settings.linger),
            };
            match consumer.poll(timeout) {
                Some(Ok(message)) => {
                    idle = false;
                    records = records.wrapping_add(1);
                    self.deliver(consumer, &message);
                    if !records.is_multiple_of(TICK_RECORDS) {
                        continue;
                    }
                }
                Some(Err(error)) => {
                    if let Some(ended) = self.error(consumer, &error) {
                        return ended;
                    }
                }
                None => idle = true,
            }
            let now = Instant::now();
            if idle || now.saturating_duration_since(ticked) >= TICK {
                ticked = now;
                if let Some(ended) = self.tick(consumer, &committer, now) {
                    return ended;
                }
            }
        }
    }

    /// Takes what callbacks and lanes have left.
    fn look(&mut self, consumer: &Arc<Consumer>, committer: &Committer) -> Option<Ended> {
        let now = Instant::now();
        let signals = consumer.context().take();
        for verdict in &signals.verdicts {
            let Some(lane) = self.lanes.named(&verdict.lane) else {
                continue;
            };
            match commit::settle(lane, verdict, now) {
                Consequence::None => {}
                Consequence::Evicted(code) => {
                    tracing::warn!(lane = %verdict.lane, %code, "the group has gone on without us");
                    if code == RDKafkaErrorCode::FencedInstanceId {
                        return Some(self.fenced());
                    }
                    return Some(Ended::Lost("a commit was refused: not a member any more"));
                }
                Consequence::Fatal(error) => self.fail("kafka commit", error),
            }
        }
        for rebalance in signals.rebalances {
            if let Rebalance::Revoke { lost: true, .. } = rebalance {
                return Some(Ended::Lost("the assignment was lost"));
            }
            self.rebalances.push_back(rebalance);
        }
        let requests = self.inbox.take();
        if requests.close {
            self.early.extend(requests.commits);
            return Some(Ended::Closed);
        }
        for (name, paused) in requests.pauses {
            if let Some(lane) = self.lanes.named(&name) {
                lane.paused = paused;
                self.pauses_changed = true;
            }
            if paused {
                self.paused.insert(name);
            } else {
                self.paused.remove(&name);
            }
        }
        // Before the commits: a lane may commit as soon as the pipeline has answered `Assigned`.
        if let Some(ended) = self.proceed(consumer, now) {
            return Some(ended);
        }
        for request in self.early.drain(..).chain(requests.commits).collect::<Vec<_>>() {
            let announced =
                || self.handover.iter().flat_map(Handover::announced).any(|name| *name == request.lane);
            match self.lanes.named(&request.lane) {
                Some(lane) => lane.commit.request(request),
                // A lane may commit what it has recovered before all lanes have said where they start.
                None if announced() => self.early.push(request),
                None => commit::refuse(request.answer, KafkaSourceError::NotOurs { lane: request.lane }),
            }
        }
        commit::send_due(committer, &mut self.lanes, now);
        None
    }

    /// Everything that depends on time.
    fn tick(&mut self, consumer: &Arc<Consumer>, committer: &Committer, now: Instant) -> Option<Ended> {
        if self.abandoned {
            return Some(Ended::Closed);
        }
        self.flush_outbox();
        self.flush_aged(now);
        if let Some(ended) = self.proceed(consumer, now) {
            return Some(ended);
        }
        commit::send_due(committer, &mut self.lanes, now);
        if let Some(lane) =
            self.lanes.iter().find(|lane| lane.commit.is_overdue(now, self.settings.commit_timeout))
        {
            // It may still be sent later, under another membership: only a new client forgets it.
            let error = KafkaSourceError::CommitUnanswered {
                lane: lane.name.clone(),
                waited: self.settings.commit_timeout,
            };
            tracing::warn!("{error}");
            return Some(Ended::Lost("a commit was not answered"));
        }
        self.ease(consumer, now);
        self.settle_positions(consumer, now);
        self.apply_pauses(consumer);
        self.watch_ends(consumer, now);
        self.tell_unjoined(now);
        None
    }

    /// A broker that does not know the newer protocol is no error to the client: it goes on looking for one that does.
    fn tell_unjoined(&mut self, now: Instant) {
        if !self.settings.consumer_protocol || self.was_assigned || now < self.unjoined_due {
            return;
        }
        self.unjoined_due = now + UNJOINED;
        tracing::warn!(
            group = self.settings.group,
            "no partition was assigned yet: the group has more members than partitions, or the broker does not know \
             KIP-848; then use `GroupProtocol::Classic`"
        );
    }

    /// Moves the change of the assignment on, and starts the next one.
    fn proceed(&mut self, consumer: &Arc<Consumer>, now: Instant) -> Option<Ended> {
        loop {
            if self.handover.is_some() {
                match self.step_handover(consumer, now) {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(reason) => return Some(Ended::Lost(reason)),
                }
            }
            let next = self.rebalances.pop_front()?;
            self.begin_handover(consumer, next, now);
        }
    }

    /// Ends all leases: tells the lanes, answers their commits, drops what they have not got yet.
    fn forget_lanes(&mut self, consumer: &Arc<Consumer>) {
        let mut lost: Vec<TopicPartition> = Vec::new();
        for mut lane in self.lanes.clear() {
            lane.commit.fence(&lane.name);
            lost.push(lane.name);
        }
        if let Some(handover) = self.handover.take() {
            // Announced partitions have an owner's event too; closing the client waits for the answer to the rest.
            lost.extend(
                handover.announced().filter(|name| !lost.contains(name)).cloned().collect::<Vec<_>>(),
            );
            handover.abort(consumer);
        }
        self.rebalances.clear();
        self.paused.clear();
        self.throttle = Throttle::default();
        self.finished = false;
        self.last_change = Instant::now();
        self.watch = Watch::new(self.last_change);
        for request in self.early.drain(..).chain(self.inbox.take().commits) {
            commit::refuse(request.answer, KafkaSourceError::NotOurs { lane: request.lane });
        }
        if !lost.is_empty() {
            Failpoint::SourceLost.reach();
            self.emit(Ok(SourceEvent::Lost(lost)));
        }
        self.flush_outbox();
    }

    /// Waits without a membership; `true` if the source was closed meanwhile.
    fn wait(&mut self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            let requests = self.inbox.take();
            for request in requests.commits {
                commit::refuse(request.answer, KafkaSourceError::NotOurs { lane: request.lane });
            }
            self.flush_outbox();
            if requests.close || self.abandoned {
                return true;
            }
            std::thread::sleep(IDLE_POLL);
        }
        false
    }

    /// Tells the pipeline to stop, once. The membership goes on: lanes may still commit what they have published.
    pub(crate) fn fail(&mut self, stage: &'static str, error: KafkaSourceError) {
        if !self.failed {
            self.failed = true;
            self.pauses_changed = true;
            self.emit(Err(StageError::new(stage, error)));
        }
    }

    /// Whether the pipeline was told to stop.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Sends an event, or keeps it until there is room: this thread never waits for the pipeline.
    pub(crate) fn emit(&mut self, event: Event) {
        self.outbox.push_back(event);
        self.flush_outbox();
    }

    pub(crate) fn flush_outbox(&mut self) {
        while let Some(event) = self.outbox.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.outbox.push_front(event);
                    return;
                }
                Err(mpsc::error::TrySendError::Closed(_)) => {
                    self.abandoned = true;
                    self.outbox.clear();
                }
            }
        }
    }
}
