//! Commits: one under way per lane, several lanes in one request, the verdict per partition.

use std::time::{Duration, Instant};

use aqueduct_core::{Intent, Mark, Offset, StageError, TopicPartition};
use rdkafka::error::RDKafkaErrorCode;
use tokio::sync::oneshot;

use crate::client::Verdict;
use crate::committer::{Committer, Entry};
use crate::error::KafkaSourceError;
use crate::inbox::CommitRequest;
use crate::lanes::{Lane, Lanes};

/// What an intent may need at most: a full token in hexadecimal, the numbers, and a fingerprint of a dozen parts.
pub(crate) const METADATA_MAX: usize = 2 * Intent::TOKEN_MAX + 512;

/// How soon a commit is repeated that met a rebalance.
const REPEAT: Duration = Duration::from_millis(200);

/// The commits of one lane.
#[derive(Debug, Default)]
pub(crate) struct CommitSlot {
    under_way: Option<Commit>,
    /// Waits for a probe to finish.
    queued: Option<CommitRequest>,
    /// The highest offset committed under this assignment, at first the mark it started from; marks never move back.
    highest: Option<Offset>,
}

#[derive(Debug)]
struct Commit {
    offset: Offset,
    metadata: String,
    /// `None` is the probe.
    answer: Option<oneshot::Sender<Result<(), StageError>>>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be sent now.
    Ready,
    /// With the coordinator.
    Sent { at: Instant },
    /// Met a rebalance that may leave us the partition.
    Repeats { at: Instant },
}

/// What a verdict means for the whole client instance.
#[derive(Debug)]
pub(crate) enum Consequence {
    None,
    /// The membership is over.
    Evicted(RDKafkaErrorCode),
    /// The pipeline must stop.
    Fatal(KafkaSourceError),
}

impl CommitSlot {
    /// The slot of an assignment that started from this mark: whatever wants to commit less was begun under another one.
    pub(crate) fn starting_at(mark: Offset) -> Self {
        Self { highest: Some(mark), ..Self::default() }
    }

    /// Takes a lane's request. It waits for a probe, and is refused beside another commit.
    pub(crate) fn request(&mut self, request: CommitRequest) {
        if self.highest.is_some_and(|highest| request.mark.next < highest) {
            // A task of an earlier assignment that has not noticed.
            refuse(request.answer, KafkaSourceError::NotOurs { lane: request.lane });
        } else if self.under_way.is_none() {
            self.start(request.mark.next, request.mark.encode(), Some(request.answer));
        } else if self.queued.is_none() && self.under_way.as_ref().is_some_and(|it| it.answer.is_none()) {
            self.queued = Some(request);
        } else {
            refuse(request.answer, KafkaSourceError::CommitUnderWay { lane: request.lane });
        }
    }

    /// Commits the mark the assignment started from once more. Padded, it shows early whether the broker takes an
    /// intent of the largest size; plain, it pins the start of a partition that had no mark.
    pub(crate) fn restate(&mut self, mark: &Mark, padded: bool) {
        let mut metadata = mark.encode();
        if padded {
            metadata.extend(std::iter::repeat_n(' ', METADATA_MAX.saturating_sub(metadata.len())));
        }
        self.start(mark.next, metadata, None);
    }

    /// Whether the coordinator has a commit it has not answered.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(self.under_way, Some(Commit { state: State::Sent { .. }, .. }))
    }

    /// Whether the coordinator has kept a commit for longer than `timeout`.
    pub(crate) fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        matches!(self.under_way, Some(Commit { state: State::Sent { at }, .. })
            if now.saturating_duration_since(at) >= timeout)
    }

    /// Ends all commits of a lane that is not ours any more.
    pub(crate) fn fence(&mut self, lane: &TopicPartition) {
        let answers = [
            self.under_way.take().and_then(|commit| commit.answer),
            self.queued.take().map(|queued| queued.answer),
        ];
        for answer in answers.into_iter().flatten() {
            refuse(answer, KafkaSourceError::NotOurs { lane: lane.clone() });
        }
    }

    fn start(
        &mut self,
        offset: Offset,
        metadata: String,
        answer: Option<oneshot::Sender<Result<(), StageError>>>,
    ) {
        self.under_way = Some(Commit { offset, metadata, answer, state: State::Ready });
    }

    fn is_due(&self, now: Instant) -> bool {
        match self.under_way.as_ref().map(|commit| commit.state) {
            Some(State::Ready) => true,
            Some(State::Repeats { at }) => now >= at,
            Some(State::Sent { .. }) | None => false,
        }
    }

    fn finish(&mut self, answer: Result<(), StageError>) {
        if let Some(commit) = self.under_way.take() {
            if answer.is_ok() {
                self.highest = Some(commit.offset);
            }
            if let Some(waiting) = commit.answer {
                // A lane that does not wait any more was cancelled.
                drop(waiting.send(answer));
            }
        }
        if let Some(queued) = self.queued.take() {
            self.request(queued);
        }
    }
}

/// Sends every commit that is due, in one request.
pub(crate) fn send_due(committer: &Committer, lanes: &mut Lanes, now: Instant) {
    if committer.is_busy() {
        return;
    }
    let mut entries = Vec::new();
    for lane in lanes.iter_mut().filter(|lane| lane.commit.is_due(now)) {
        if let Some(commit) = &mut lane.commit.under_way {
            commit.state = State::Sent { at: now };
            entries.push(Entry {
                lane: lane.name.clone(),
                offset: commit.offset,
                metadata: commit.metadata.clone(),
            });
        }
    }
    if !entries.is_empty() {
        committer.send(entries);
    }
}

/// Gives a lane the coordinator's answer.
pub(crate) fn settle(lane: &mut Lane, verdict: &Verdict, now: Instant) -> Consequence {
    use RDKafkaErrorCode as Code;
    let matches_ours = lane.commit.under_way.as_ref().is_some_and(|commit| {
        matches!(commit.state, State::Sent { .. })
            && commit.offset == verdict.offset
            && commit.metadata == verdict.metadata
    });
    if !matches_ours {
        return Consequence::None;
    }
    let Some(code) = verdict.refused else {
        lane.commit.finish(Ok(()));
        return Consequence::None;
    };
    let probe = lane.commit.under_way.as_ref().is_some_and(|commit| commit.answer.is_none());
    tracing::debug!(lane = %lane.name, %code, probe, "commit refused");
    let refusal = || KafkaSourceError::Commit { lane: lane.name.clone(), code };
    match code {
        // The group is changing. A lane that stays ours repeats the commit, one that leaves does not.
        Code::IllegalGeneration | Code::RebalanceInProgress | Code::StaleMemberEpoch if !lane.leaving => {
            if let Some(commit) = &mut lane.commit.under_way {
                commit.state = State::Repeats { at: now + REPEAT };
            }
            Consequence::None
        }
        Code::UnknownMemberId | Code::FencedMemberEpoch | Code::FencedInstanceId | Code::AssignmentLost => {
            Consequence::Evicted(code)
        }
        Code::OffsetMetadataTooLarge => {
            let too_large =
                || KafkaSourceError::MetadataTooLarge { lane: lane.name.clone(), bytes: METADATA_MAX };
            let (for_lane, for_all) = (too_large(), too_large());
            lane.commit.finish(Err(StageError::new("kafka commit", for_lane)));
            if probe { Consequence::Fatal(for_all) } else { Consequence::None }
        }
        _ => {
            let refusal = refusal();
            lane.commit.finish(Err(StageError::new("kafka commit", refusal)));
            Consequence::None
        }
    }
}

pub(crate) fn refuse(answer: oneshot::Sender<Result<(), StageError>>, error: KafkaSourceError) {
    drop(answer.send(Err(StageError::new("kafka commit", error))));
}

#[cfg(test)]
mod tests {
    use aqueduct_core::Class;

    use super::*;

    type Answer = oneshot::Receiver<Result<(), StageError>>;

    fn lane() -> Lane {
        Lane::new(TopicPartition::new("t", 0), Offset::ZERO, Offset::ZERO, None)
    }

    fn request(lane: &mut Lane, next: i64) -> Answer {
        let (answer, answered) = oneshot::channel();
        lane.commit.request(CommitRequest {
            lane: lane.name.clone(),
            mark: Mark::at(Offset::new(next)),
            answer,
        });
        answered
    }

    /// Sends what is due and gives back the verdict the coordinator would give.
    fn send(lane: &mut Lane, now: Instant, refused: Option<RDKafkaErrorCode>) -> Verdict {
        assert!(lane.commit.is_due(now));
        let commit = lane.commit.under_way.as_mut().unwrap();
        commit.state = State::Sent { at: now };
        Verdict { lane: lane.name.clone(), offset: commit.offset, metadata: commit.metadata.clone(), refused }
    }

    fn class(mut answer: Answer) -> Option<Class> {
        answer.try_recv().unwrap().err().map(|error| error.class())
    }

    #[test]
    fn a_lane_that_stays_repeats_what_met_a_rebalance_and_one_that_leaves_does_not() {
        let now = Instant::now();
        for code in [
            RDKafkaErrorCode::RebalanceInProgress,
            RDKafkaErrorCode::IllegalGeneration,
            RDKafkaErrorCode::StaleMemberEpoch,
        ] {
            let mut stays = lane();
            let mut answer = request(&mut stays, 5);
            let verdict = send(&mut stays, now, Some(code));
            assert!(matches!(settle(&mut stays, &verdict, now), Consequence::None));
            assert!(answer.try_recv().is_err() && !stays.commit.is_due(now));
            let verdict = send(&mut stays, now + REPEAT, None);
            assert!(matches!(settle(&mut stays, &verdict, now), Consequence::None));
            assert_eq!(class(answer), None);

            let mut leaves = lane();
            let answer = request(&mut leaves, 5);
            let verdict = send(&mut leaves, now, Some(code));
            leaves.leaving = true;
            assert!(matches!(settle(&mut leaves, &verdict, now), Consequence::None));
            assert_eq!(class(answer), Some(Class::Fenced));
        }
    }

    #[test]
    fn a_request_from_before_the_assignments_mark_is_refused() {
        let mut lane = lane();
        lane.commit = CommitSlot::starting_at(Offset::new(5));
        assert_eq!(class(request(&mut lane, 4)), Some(Class::Fenced));
        let mut answer = request(&mut lane, 5);
        assert!(answer.try_recv().is_err(), "the mark itself, with an intent, is the first commit there is");
    }

    #[test]
    fn an_answer_to_another_commit_is_nobodys() {
        let now = Instant::now();
        let mut lane = lane();
        let first = request(&mut lane, 5);
        let stale = send(&mut lane, now, None);
        lane.commit.fence(&lane.name.clone());
        assert_eq!(class(first), Some(Class::Fenced));
        let mut second = request(&mut lane, 6);
        send(&mut lane, now, None);
        assert!(matches!(settle(&mut lane, &stale, now), Consequence::None));
        assert!(second.try_recv().is_err(), "the first commit's answer is not the second's");
    }

    #[test]
    fn a_lane_waits_for_the_probe_and_is_told_what_it_found() {
        let now = Instant::now();
        let mut lane = lane();
        lane.commit.restate(&Mark::at(Offset::new(3)), true);
        let answer = request(&mut lane, 5);
        let verdict = send(&mut lane, now, None);
        assert_eq!(verdict.metadata.len(), METADATA_MAX);
        assert_eq!(Mark::decode(verdict.offset, &verdict.metadata), Ok(Mark::at(Offset::new(3))));
        assert!(matches!(settle(&mut lane, &verdict, now), Consequence::None));
        let verdict = send(&mut lane, now, None);
        assert_eq!(verdict.offset, Offset::new(5));
        assert!(matches!(settle(&mut lane, &verdict, now), Consequence::None));
        assert_eq!(class(answer), None);

        lane.commit.restate(&Mark::at(Offset::new(5)), true);
        let verdict = send(&mut lane, now, Some(RDKafkaErrorCode::OffsetMetadataTooLarge));
        let Consequence::Fatal(error) = settle(&mut lane, &verdict, now) else { panic!("not fatal") };
        assert!(error.to_string().contains(&METADATA_MAX.to_string()), "{error}");
    }

    #[test]
    fn only_the_coordinators_silence_is_overdue() {
        let now = Instant::now();
        let timeout = Duration::from_secs(3);
        let mut lane = lane();
        let _answer = request(&mut lane, 5);
        assert!(!lane.commit.is_overdue(now + timeout, timeout));
        send(&mut lane, now, None);
        assert!(!lane.commit.is_overdue(now, timeout));
        assert!(lane.commit.is_overdue(now + timeout, timeout));
    }
}
