//! Handing partitions over, in both directions, without holding up the poll.
//!
//! librdkafka announces a change and waits for the call that confirms it. Between the two the lanes do their part:
//!
//! ```text
//! assign   read marks → Assigned → lanes answer with offsets → incremental_assign
//! revoke   batches out → Revoked → lanes publish, commit, answer (or the deadline) → incremental_unassign
//! ```
//!
//! librdkafka pauses every assigned partition while it waits, so retained lanes get no new records in that time; they
//! go on with what they have, and commit.

use std::time::{Duration, Instant};

use aqueduct_core::{Failpoint, MarkOrigin, Offset, Reply, SourceEvent, TopicPartition};
use rdkafka::consumer::Consumer as _;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::client::{self, Consumer, Rebalance, list_of};
use crate::commit::CommitSlot;
use crate::lanes::Lane;
use crate::marks::{self, Found, Reading};
use crate::poll::Poller;

/// How long a commit under way at the revoke deadline may still be answered before the membership is given up.
const LAST_COMMIT: Duration = Duration::from_secs(5);

/// A change of the assignment between its announcement and its confirmation.
#[derive(Debug)]
pub(crate) enum Handover {
    /// The marks of new partitions are being read.
    Reading { lanes: Vec<TopicPartition>, reading: Reading },
    /// The pipeline has been asked where to start.
    Asking { found: Vec<Found>, answer: oneshot::Receiver<Vec<(TopicPartition, Offset)>>, warn_at: Instant },
    /// Lanes are finishing.
    Revoking { lanes: Vec<TopicPartition>, done: oneshot::Receiver<()>, by: Instant },
    /// Cannot go on; the pipeline was told.
    Stuck,
}

impl Handover {
    /// Partitions the pipeline has heard of and that are in no lane yet.
    pub(crate) fn announced(&self) -> impl Iterator<Item = &TopicPartition> {
        let found: &[Found] = match self {
            Self::Asking { found, .. } => found,
            Self::Reading { .. } | Self::Revoking { .. } | Self::Stuck => &[],
        };
        found.iter().map(|found| &found.assignment.lane)
    }

    /// Confirms the change without its effect, because the client is being closed and waits for it.
    pub(crate) fn abort(self, consumer: &Consumer) {
        let confirmed = match &self {
            Self::Reading { .. } | Self::Asking { .. } | Self::Stuck => {
                client::give(consumer, &TopicPartitionList::new())
            }
            Self::Revoking { lanes, .. } => client::take_back(consumer, &list_of(lanes)),
        };
        if let Err(error) = confirmed {
            tracing::warn!(%error, "a change of the assignment could not be confirmed while leaving");
        }
    }
}

impl Poller {
    pub(crate) fn begin_handover(&mut self, consumer: &Arc<Consumer>, change: Rebalance, now: Instant) {
        self.last_change = now;
        self.handover = match change {
            Rebalance::Assign(lanes) if lanes.is_empty() => {
                note_refusal(client::give(consumer, &TopicPartitionList::new()));
                None
            }
            Rebalance::Assign(lanes) => {
                tracing::info!(count = lanes.len(), "partitions assigned, reading their marks");
                let reading = marks::read(consumer, &self.settings, lanes.clone());
                Some(Handover::Reading { lanes, reading })
            }
            Rebalance::Revoke { lanes, .. } => Some(self.announce_revocation(lanes, now)),
        };
    }

    fn announce_revocation(&mut self, lanes: Vec<TopicPartition>, now: Instant) -> Handover {
        tracing::info!(count = lanes.len(), "partitions are moving to another member");
        Failpoint::SourceBeforeRevoke.reach();
        if self.throttle.release(&lanes) {
            self.pauses_changed = true;
        }
        let mut known = Vec::with_capacity(lanes.len());
        for name in &lanes {
            let Some(index) = self.lanes.index_of(name) else {
                continue;
            };
            self.flush(index, false);
            if let Some(lane) = self.lanes.get(index) {
                lane.leaving = true;
                known.push(name.clone());
            }
        }
        let by = now + self.settings.revoke_timeout;
        let (done, answer) = Reply::channel();
        if known.is_empty() {
            done.send(());
        } else {
            self.emit(Ok(SourceEvent::Revoked { lanes: known, by, done }));
        }
        Handover::Revoking { lanes, done: answer, by }
    }

    /// Moves the handover on: `true` if it is over, an error if the membership must end.
    pub(crate) fn step_handover(
        &mut self,
        consumer: &Arc<Consumer>,
        now: Instant,
    ) -> Result<bool, &'static str> {
        let Some(handover) = self.handover.take() else {
            return Ok(true);
        };
        let next = match handover {
            Handover::Reading { lanes, mut reading } => match reading.answer.try_recv() {
                Err(TryRecvError::Empty) => Some(Handover::Reading { lanes, reading }),
                Err(TryRecvError::Closed) => {
                    let reading = marks::read(consumer, &self.settings, lanes.clone());
                    Some(Handover::Reading { lanes, reading })
                }
                Ok(Ok(found)) => Some(self.announce_assignment(found, now)),
                Ok(Err(error)) => {
                    self.fail("kafka marks", error);
                    Some(Handover::Stuck)
                }
            },
            Handover::Asking { found, mut answer, warn_at } => match answer.try_recv() {
                Err(TryRecvError::Empty) => {
                    let late = now >= warn_at;
                    if late {
                        tracing::warn!(count = found.len(), "the pipeline has not said yet where to start");
                    }
                    let warn_at = if late { now + LATE } else { warn_at };
                    Some(Handover::Asking { found, answer, warn_at })
                }
                Ok(starts) => {
                    self.assign(consumer, found, &starts);
                    None
                }
                Err(TryRecvError::Closed) => {
                    // The pipeline is going down; the group still waits for the confirmation.
                    self.assign(consumer, found, &[]);
                    None
                }
            },
            Handover::Revoking { lanes, mut done, by } => {
                let waiting = matches!(done.try_recv(), Err(TryRecvError::Empty)) && now < by;
                let committing =
                    lanes.iter().any(|name| self.lanes.named(name).is_some_and(|it| it.commit.is_sent()));
                if waiting || (committing && now < by + LAST_COMMIT) {
                    Some(Handover::Revoking { lanes, done, by })
                } else if committing {
                    // Were it answered later, it would be in the new owner's time.
                    self.handover = Some(Handover::Revoking { lanes, done, by });
                    return Err("a commit of a partition that moves was not answered");
                } else {
                    self.unassign(consumer, &lanes);
                    None
                }
            }
            Handover::Stuck => Some(Handover::Stuck),
        };
        self.handover = next;
        Ok(self.handover.is_none())
    }

    fn announce_assignment(&mut self, found: Vec<Found>, now: Instant) -> Handover {
        Failpoint::SourceMarksRead.reach();
        let (reply, answer) = Reply::channel();
        let assignments = found.iter().map(|found| found.assignment.clone()).collect();
        self.emit(Ok(SourceEvent::Assigned(assignments, reply)));
        Handover::Asking { found, answer, warn_at: now + LATE }
    }

    fn assign(&mut self, consumer: &Consumer, found: Vec<Found>, starts: &[(TopicPartition, Offset)]) {
        Failpoint::SourceBeforeAssign.reach();
        let mut list = TopicPartitionList::new();
        for Found { assignment, end } in found {
            let name = assignment.lane;
            let start = starts.iter().find(|(lane, _)| *lane == name).map(|(_, start)| *start);
            let at = start.unwrap_or(assignment.mark.next);
            let mut element = list.add_partition(name.topic(), name.partition());
            if let Err(error) = element.set_offset(rdkafka::Offset::Offset(at.get())) {
                tracing::error!(lane = %name, %at, %error, "the pipeline's start is no offset");
                continue;
            }
            let stop_at = self.settings.until_end.then(|| *self.stops.entry(name.clone()).or_insert(end));
            let mut lane = Lane::new(name, at, end, stop_at);
            lane.commit = CommitSlot::starting_at(assignment.mark.next);
            // Without an answer the lane stays silent: assigned, because the group says so, and not read.
            lane.leaving = start.is_none();
            lane.paused = self.paused.contains(&lane.name);
            if start == Some(assignment.mark.next) && assignment.origin != MarkOrigin::Foreign {
                let pins = assignment.origin == MarkOrigin::Initial && self.settings.start.must_be_pinned();
                if !self.probed || pins {
                    lane.commit.restate(&assignment.mark, !self.probed);
                    self.probed = true;
                }
            }
            self.lanes.insert(lane);
        }
        // A partition that was paused under an earlier assignment still is: pauses outlive assignments in the client.
        let assigned = client::give(consumer, &list).and_then(|()| consumer.resume(&list));
        note_refusal(assigned);
        self.last_change = Instant::now();
        // The pipeline waits to hear it again after every assignment, even of partitions with nothing left to read.
        self.finished = false;
        (self.was_assigned, self.name_taken_since) = (true, None);
        self.pauses_changed = true;
        self.apply_pauses(consumer);
        self.report_finished_lanes();
        tracing::info!(owned = self.lanes.len(), "partitions are ours");
        Failpoint::SourceAssigned.reach();
    }

    fn unassign(&mut self, consumer: &Consumer, lanes: &[TopicPartition]) {
        Failpoint::SourceBeforeUnassign.reach();
        for mut lane in self.lanes.remove(lanes) {
            lane.commit.fence(&lane.name);
            self.paused.remove(&lane.name);
        }
        note_refusal(client::take_back(consumer, &list_of(lanes)));
        self.last_change = Instant::now();
        self.pauses_changed = true;
        tracing::info!(owned = self.lanes.len(), "partitions given up");
        Failpoint::SourceUnassigned.reach();
    }
}

fn note_refusal(confirmed: rdkafka::error::KafkaResult<()>) {
    if let Err(error) = confirmed {
        // librdkafka refuses a confirmation only when the membership has ended meanwhile, and says so next.
        tracing::warn!(%error, "a change of the assignment was not taken");
    }
}

/// When the pipeline's silence is worth a line in the log.
const LATE: Duration = Duration::from_secs(30);
