//! One member of the scripted group, as the coordinator sees it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::broker::{Shared, State};
use super::fault::{Faults, Step};
use crate::error::StageError;
use crate::intent::Mark;
use crate::record::{Offset, TopicPartition};
use crate::source::SourceControl;

/// A member's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct MemberId(pub(super) u64);

#[derive(Debug, Default)]
pub(super) struct Member {
    /// What its source has to tell, in order, before any more records.
    pub(super) changes: VecDeque<Change>,
    /// What it reads; a partition is here from the moment its `Assigned` was handed out.
    pub(super) reading: BTreeMap<TopicPartition, Reading>,
}

#[derive(Debug)]
pub(super) enum Change {
    Assigned(Vec<TopicPartition>),
    Revoked { lanes: Vec<TopicPartition>, by: Instant, finished: oneshot::Sender<()> },
    Lost(Vec<TopicPartition>),
    Failed(StageError),
}

/// How far a member is with a partition.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Tells assignments of the same partition apart.
    pub(super) assignment: u64,
    /// The next offset to deliver; `None` until the pipeline has answered where to start.
    pub(super) position: Option<i64>,
    /// Where a bounded source ends.
    pub(super) until: Option<i64>,
    pub(super) paused: bool,
    pub(super) revoking: bool,
    pub(super) committing: bool,
    /// The end that was last reported as reached.
    pub(super) reached: Option<i64>,
}

/// The test's hand on one member of a [`ScriptedBroker`](super::ScriptedBroker)'s group: what a coordinator does to it.
///
/// The source itself goes into the pipeline; get this from [`ScriptedSource::member`](super::ScriptedSource::member)
/// before. Clones are the same member.
#[derive(Clone, Debug)]
pub struct ScriptedMember {
    pub(super) shared: Arc<Shared>,
    pub(super) id: MemberId,
}

impl ScriptedMember {
    /// Hands `lanes` to this member: its source tells [`Assigned`](crate::SourceEvent::Assigned), with the marks as
    /// they are when it tells it.
    ///
    /// If another member has them, it is replaced *silently*, as after a session timeout: it reads on, its commits are
    /// refused, and it learns of it by [`lose`](Self::lose). For an orderly hand-over wait for its
    /// [`revoke`](Self::revoke) first. A member that is assigned what it still has loses it first.
    pub fn assign(&self, lanes: impl IntoIterator<Item = TopicPartition>) {
        let lanes: Vec<_> = lanes.into_iter().collect();
        self.shared.change(|state| {
            for lane in &lanes {
                state.logs.entry(lane.clone()).or_default().owner = Some(self.id);
            }
            if let Some(member) = state.members.get_mut(&self.id) {
                let held: Vec<_> =
                    lanes.iter().filter(|lane| member.reading.remove(lane).is_some()).cloned().collect();
                if !held.is_empty() {
                    member.changes.push_back(Change::Lost(held));
                }
                member.changes.push_back(Change::Assigned(lanes));
            }
        });
    }

    /// Takes `lanes` back in order: they stay this member's until the pipeline has answered, or until `grace` is over
    /// by Tokio's clock. Resolves when they are free. No records of them are delivered meanwhile.
    ///
    /// The source has to be asked for its next event for this to make progress; the request stands even if the future
    /// is dropped.
    pub fn revoke(
        &self,
        lanes: Vec<TopicPartition>,
        grace: Duration,
    ) -> impl Future<Output = ()> + Send + use<> {
        let by = (tokio::time::Instant::now() + grace).into_std();
        let (finished, answer) = oneshot::channel();
        self.shared.change(|state| {
            if let Some(member) = state.members.get_mut(&self.id) {
                for lane in &lanes {
                    if let Some(reading) = member.reading.get_mut(lane) {
                        reading.revoking = true;
                    }
                }
                member.changes.push_back(Change::Revoked { lanes, by, finished });
            }
        });
        async move {
            // The sender is dropped with the source: then nobody holds the partitions any more either.
            drop(answer.await);
        }
    }

    /// Takes `lanes` away at once, and lets the member know: nothing more is delivered, commits are refused, and its
    /// source tells [`Lost`](crate::SourceEvent::Lost).
    pub fn lose(&self, lanes: impl IntoIterator<Item = TopicPartition>) {
        let lanes: Vec<_> = lanes.into_iter().collect();
        self.shared.change(|state| {
            for lane in &lanes {
                state.release(lane, self.id);
            }
            if let Some(member) = state.members.get_mut(&self.id) {
                for lane in &lanes {
                    member.reading.remove(lane);
                }
                member.changes.push_back(Change::Lost(lanes));
            }
        });
    }

    /// Takes `lanes` away without a word, as when a session times out: the member reads on, its commits are refused.
    pub fn evict(&self, lanes: impl IntoIterator<Item = TopicPartition>) {
        self.shared.change(|state| {
            for lane in lanes {
                state.release(&lane, self.id);
            }
        });
    }

    /// Makes the source's next event an error, after what is already waiting.
    pub fn fail(&self, error: StageError) {
        self.shared.change(|state| {
            if let Some(member) = state.members.get_mut(&self.id) {
                member.changes.push_back(Change::Failed(error));
            }
        });
    }

    /// The partitions the coordinator counts as this member's.
    pub fn owned(&self) -> Vec<TopicPartition> {
        let state = self.shared.lock();
        state
            .logs
            .iter()
            .filter(|(_, log)| log.owner == Some(self.id))
            .map(|(lane, _)| lane.clone())
            .collect()
    }

    /// The partitions the pipeline has paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        let state = self.shared.lock();
        let reading = state.members.get(&self.id).map(|member| &member.reading);
        reading
            .into_iter()
            .flatten()
            .filter(|(_, reading)| reading.paused)
            .map(|(lane, _)| lane.clone())
            .collect()
    }

    pub(super) fn set_paused(&self, lanes: &[TopicPartition], paused: bool) {
        self.shared.change(|state| {
            let Some(member) = state.members.get_mut(&self.id) else {
                return;
            };
            for lane in lanes {
                if let Some(reading) = member.reading.get_mut(lane) {
                    reading.paused = paused;
                }
            }
        });
    }
}

#[async_trait]
impl SourceControl for ScriptedMember {
    fn pause(&self, lanes: &[TopicPartition]) {
        self.set_paused(lanes, true);
    }

    fn resume(&self, lanes: &[TopicPartition]) {
        self.set_paused(lanes, false);
    }

    async fn commit(&self, lane: &TopicPartition, mark: Mark) -> Result<(), StageError> {
        // Bound to the assignment it was asked under, and judged when it is carried out: a commit that was held up must
        // not move the mark of a partition that went and came back.
        let (faults, under_way) = self.shared.change(|state| state.begin_commit(self, lane))?;
        let commit = async { self.shared.change(|state| state.commit(&under_way, &mark)) };
        faults.run(Step::Commit, commit).await
    }
}

impl State {
    fn begin_commit(
        &mut self,
        member: &ScriptedMember,
        lane: &TopicPartition,
    ) -> Result<(Faults, UnderWay), StageError> {
        let reading = self.members.get_mut(&member.id).and_then(|member| member.reading.get_mut(lane));
        let (Some(reading), Some(log)) = (reading, self.logs.get(lane)) else {
            return Err(not_assigned(lane));
        };
        if std::mem::replace(&mut reading.committing, true) {
            return Err(StageError::fatal("commit", format!("{lane} has another commit under way")));
        }
        let under_way =
            UnderWay { member: member.clone(), lane: lane.clone(), assignment: reading.assignment };
        Ok((log.faults.clone(), under_way))
    }

    fn commit(&mut self, commit: &UnderWay, mark: &Mark) -> Result<(), StageError> {
        let reads = self.reading(commit.member.id, &commit.lane, commit.assignment).is_some();
        match self.logs.get_mut(&commit.lane) {
            Some(log) if log.owner == Some(commit.member.id) && reads => log.commit(mark),
            _ => Err(not_assigned(&commit.lane)),
        }
    }

    fn reading(&mut self, member: MemberId, lane: &TopicPartition, assignment: u64) -> Option<&mut Reading> {
        let reading = self.members.get_mut(&member)?.reading.get_mut(lane)?;
        (reading.assignment == assignment).then_some(reading)
    }

    /// `member` no longer has `lane`; somebody else may.
    pub(super) fn release(&mut self, lane: &TopicPartition, member: MemberId) {
        if let Some(log) = self.logs.get_mut(lane)
            && log.owner == Some(member)
        {
            log.owner = None;
        }
    }

    /// The orderly end of an assignment; one that has been replaced by a newer one is left alone.
    pub(super) fn end_assignment(&mut self, member: MemberId, lane: &TopicPartition, assignment: u64) {
        if self.reading(member, lane, assignment).is_some() {
            if let Some(member) = self.members.get_mut(&member) {
                member.reading.remove(lane);
            }
            self.release(lane, member);
        }
    }

    pub(super) fn start_reading(
        &mut self,
        member: MemberId,
        lane: &TopicPartition,
        assignment: u64,
        at: Offset,
    ) {
        let Some(log) = self.logs.get(lane) else { return };
        let (start, end) = (log.start, log.end);
        if self.reading(member, lane, assignment).is_none() {
            return;
        }
        let Some(member) = self.members.get_mut(&member) else {
            return;
        };
        if (start..=end).contains(&at.get()) {
            if let Some(reading) = member.reading.get_mut(lane) {
                reading.position = Some(at.get());
            }
        } else {
            let held = format!("{lane} holds [{start}, {end}), not offset {at}");
            member.changes.push_back(Change::Failed(StageError::fatal("fetch", held)));
        }
    }
}

fn not_assigned(lane: &TopicPartition) -> StageError {
    StageError::fenced("commit", format!("{lane} is not assigned to this member"))
}

/// At most one commit of a partition is under way: a lane that starts a second one is wrong, and a test must see it.
struct UnderWay {
    member: ScriptedMember,
    lane: TopicPartition,
    assignment: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.member.shared.change(|state| {
            if let Some(reading) = state.reading(self.member.id, &self.lane, self.assignment) {
                reading.committing = false;
            }
        });
    }
}
