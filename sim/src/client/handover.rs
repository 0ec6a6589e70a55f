//! Handing partitions over, in both directions, beside everything else the poll thread does.

use std::collections::{BTreeMap, BTreeSet};

use aqueduct_core::{
    Assignment, Mark, MarkError, MarkOrigin, Offset, Reply, SourceEvent, StageError, TopicPartition,
};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use super::{Commit, CommitState, Ended, Handover, LAST_COMMIT, Lane, Poller, REVOKE_TIMEOUT, name, refuse};

impl Poller {
    pub(super) fn revoke(&mut self, lanes: BTreeSet<i32>) {
        for partition in &lanes {
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.leaving = true;
            }
        }
        let by = Instant::now() + REVOKE_TIMEOUT;
        let (done, answer) = Reply::channel();
        let names = lanes.iter().map(|partition| name(*partition)).collect();
        self.outbox.push_back(Ok(SourceEvent::Revoked { lanes: names, by: by.into_std(), done }));
        self.handover = Some(Handover::Revoking { lanes, done: answer, by });
    }

    pub(super) fn step_handover(&mut self) -> Option<Ended> {
        let now = Instant::now();
        self.handover = match self.handover.take()? {
            Handover::Reading { added, at } => {
                let away = self.process.world.state().group.away;
                if now < at || away {
                    Some(Handover::Reading { added, at })
                } else {
                    match self.read_marks(&added) {
                        Ok(handover) => Some(handover),
                        Err(error) => {
                            self.fail(error);
                            None
                        }
                    }
                }
            }
            Handover::Asking { added, mut answer } => match answer.try_recv() {
                Err(TryRecvError::Empty) => Some(Handover::Asking { added, answer }),
                starts => {
                    self.assign(&added, &starts.unwrap_or_default());
                    None
                }
            },
            Handover::Revoking { lanes, mut done, by } => {
                let waiting = matches!(done.try_recv(), Err(TryRecvError::Empty)) && now < by;
                let sent = |commit: &Commit| matches!(commit.state, CommitState::Sent(_));
                let mut ours = lanes.iter().filter_map(|partition| self.lanes.get(partition));
                let committing = ours.any(|lane| lane.commit.as_ref().is_some_and(sent));
                if waiting || (committing && now < by + LAST_COMMIT) {
                    Some(Handover::Revoking { lanes, done, by })
                } else if committing {
                    return Some(Ended::Lost("a commit of a partition that moves was not answered"));
                } else {
                    for partition in lanes {
                        if let Some(commit) = self.lanes.remove(&partition).and_then(|lane| lane.commit) {
                            refuse(commit.answer);
                        }
                        self.paused.remove(&partition);
                    }
                    let kept = self.lanes.keys().copied().collect();
                    self.process.world.state().group.join(self.instance, kept);
                    None
                }
            }
        };
        None
    }

    fn read_marks(&mut self, added: &BTreeSet<i32>) -> Result<Handover, StageError> {
        let state = self.process.world.state();
        let (mut assignments, mut next) = (Vec::new(), BTreeMap::new());
        for partition in added {
            let Some(log) = state.logs.get(partition) else { continue };
            let committed = state.group.committed.get(partition);
            let (mark, origin) = match committed.map(|(at, text)| (*at, Mark::decode(Offset::new(*at), text)))
            {
                None => (Mark::at(Offset::new(log.start)), MarkOrigin::Initial),
                Some((_, Ok(mark))) => (mark, MarkOrigin::Committed),
                Some((at, Err(MarkError::Foreign))) => (Mark::at(Offset::new(at)), MarkOrigin::Foreign),
                Some((_, Err(error))) => return Err(StageError::fatal("marks", error)),
            };
            next.insert(*partition, mark.next.get());
            assignments.push(Assignment {
                lane: name(*partition),
                mark,
                origin,
                log_start: Offset::new(log.start),
                log_end: Offset::new(log.end),
            });
        }
        drop(state);
        let (reply, answer) = Reply::channel();
        self.outbox.push_back(Ok(SourceEvent::Assigned(assignments, reply)));
        Ok(Handover::Asking { added: next, answer })
    }

    fn assign(&mut self, added: &BTreeMap<i32, i64>, starts: &[(TopicPartition, Offset)]) {
        for partition in added.keys() {
            let start = starts.iter().find(|(lane, _)| lane.partition() == *partition).map(|it| it.1.get());
            let leaving = start.is_none();
            // Not the mark it starts from, with which `aqueduct-kafka-source` begins: the lanes' own fence has to do here.
            let lane = Lane { position: start, reached: None, leaving, highest: i64::MIN, commit: None };
            self.lanes.insert(*partition, lane);
        }
    }
}
