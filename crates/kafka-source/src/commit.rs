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
    /// The highest offset committed under this assignment; marks never move back.
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
            refuse(
                request.answer,
                KafkaSourceError::CommitUnderWay { lane: request.lane },
            );
        }
    }

    /// Commits the mark the assignment started from once more. Padded, it shows early whether the broker takes an
    /// intent of the largest size; plain, it pins the start of a partition that had no mark.
    pub(crate) fn restate(&mut self, mark: &Mark, padded: bool) {
        let mut metadata = mark.encode();
        if padded {
            metadata.extend(std::iter::repeat_n(
                ' ',
                METADATA_MAX.saturating_sub(metadata.len()),
            ));
        }
        self.start(mark.next, metadata, None);
    }

    /// Whether the coordinator has a commit it has not answered.
    pub(crate) fn is_sent(&self) -> bool {
        matches!(
            self.under_way,
            Some(Commit {
                state: State::Sent { .. },
                ..
            })
        )
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
        self.under_way = Some(Commit {
            offset,
            metadata,
            answer,
            state: State::Ready,
        });
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
    let probe = lane
        .commit
        .under_way
        .as_ref()
        .is_some_and(|commit| commit.answer.is_none());
    tracing::debug!(lane = %lane.name, %code, probe, "commit refused");
    let refusal = || KafkaSourceError::Commit {
        lane: lane.name.clone(),
        code,
    };
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
            let too_large = || KafkaSourceError::MetadataTooLarge {
                lane: lane.name.clone(),
                bytes: METADATA_MAX,
            };
            let (for_lane, for_all) = (too_large(), too_large());
            lane.commit.finish(Err(StageError::new("kafka commit", for_lane)));
            if probe {
                Consequence::Fatal(for_all)
            } else {
                Consequence::None
            }
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
