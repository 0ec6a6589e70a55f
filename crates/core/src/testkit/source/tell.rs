//! Telling what the coordinator did, and acting on the pipeline's answers.

use std::time::Instant;

use tokio::sync::oneshot;

use super::ScriptedSource;
use crate::error::StageError;
use crate::intent::{Mark, MarkError};
use crate::record::{Offset, TopicPartition};
use crate::source::{Assignment, MarkOrigin, Reply, SourceEvent};
use crate::testkit::broker::State;
use crate::testkit::member::{Change, Reading};

impl ScriptedSource {
    pub(super) fn tell(&mut self, state: &mut State, change: Change) -> Result<SourceEvent, StageError> {
        match change {
            Change::Failed(error) => Err(error),
            Change::Lost(lanes) => Ok(SourceEvent::Lost(lanes)),
            Change::Revoked { lanes, by, finished } => Ok(self.tell_revoked(state, lanes, by, finished)),
            Change::Assigned(lanes) => self.tell_assigned(state, lanes),
        }
    }

    fn tell_assigned(
        &mut self,
        state: &mut State,
        lanes: Vec<TopicPartition>,
    ) -> Result<SourceEvent, StageError> {
        self.assigned = true;
        // What is added has to be read before the source has finished.
        self.finished = false;
        state.assignments_ever += 1;
        let assignment = state.assignments_ever;
        let mut assigned = Vec::new();
        for lane in lanes {
            let Some(log) = state.logs.get(&lane) else {
                continue;
            };
            let until = self.options.bounded.then(|| self.ends.get(&lane).copied().unwrap_or(log.end));
            let initial = if self.options.from_latest { log.end } else { log.start };
            let (mark, origin) =
                match log.commits.last().map(|committed| (committed.offset, committed.mark())) {
                    None => (Mark::at(Offset::new(initial)), MarkOrigin::Initial),
                    Some((_, Ok(mark))) => (mark, MarkOrigin::Committed),
                    Some((offset, Err(MarkError::Foreign))) => (Mark::at(offset), MarkOrigin::Foreign),
                    Some((_, Err(error))) => return Err(StageError::fatal("read mark", error)),
                };
            let reading = Reading { assignment, until, ..Reading::default() };
            if let Some(own) = state.members.get_mut(&self.member.id) {
                own.reading.insert(lane.clone(), reading);
            }
            assigned.push(Assignment {
                lane,
                mark,
                origin,
                log_start: Offset::new(log.start),
                log_end: Offset::new(log.end),
            });
        }
        let (reply, answer) = Reply::channel();
        let member = self.member.clone();
        // The group is served beside the pipeline, as by a client's own thread: an answer takes effect when it is
        // given, not when the next event is asked for.
        tokio::spawn(async move {
            let starts: Vec<(TopicPartition, Offset)> = answer.await.unwrap_or_default();
            member.shared.change(|state| {
                for (lane, start) in &starts {
                    state.start_reading(member.id, lane, assignment, *start);
                }
            });
        });
        Ok(SourceEvent::Assigned(assigned, reply))
    }

    fn tell_revoked(
        &self,
        state: &mut State,
        mut lanes: Vec<TopicPartition>,
        by: Instant,
        finished: oneshot::Sender<()>,
    ) -> SourceEvent {
        let mut assignments = Vec::new();
        if let Some(own) = state.members.get_mut(&self.member.id) {
            for lane in &lanes {
                if let Some(reading) = own.reading.get_mut(lane) {
                    reading.revoking = true;
                    assignments.push((lane.clone(), reading.assignment));
                }
            }
        }
        // A partition that was lost meanwhile has been told of already.
        lanes.retain(|lane| assignments.iter().any(|(held, _)| held == lane));
        let (done, answer) = Reply::channel();
        let member = self.member.clone();
        tokio::spawn(async move {
            // Without an answer in time the group goes on, and what comes later is refused.
            drop(tokio::time::timeout_at(by.into(), answer).await);
            member.shared.change(|state| {
                for (lane, assignment) in &assignments {
                    state.end_assignment(member.id, lane, *assignment);
                }
            });
            // Nobody may be waiting for it.
            finished.send(()).ok();
        });
        SourceEvent::Revoked { lanes, by, done }
    }
}
