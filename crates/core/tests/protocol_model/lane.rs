//! A lane at one member: read the mark, fill, cut, publish. Commits are in `commit.rs`.

use crate::protocol::{Action, Claim, Protocol};
use crate::state::{Commit, LatePut, Name, Segment, State, Stop, Work};

impl Protocol {
    pub(super) fn lane_actions(&self, state: &State, name: Name, lane: usize, actions: &mut Vec<Action>) {
        let idle = state.member(name).commit[lane] == Commit::None;
        match state.member(name).work[lane] {
            Work::Assigned => actions.push(Action::Start(name, lane)),
            Work::Filling { start, pinned: None } => self.cuts(name, lane, start, actions),
            Work::Filling { start, pinned: Some(_) } if !self.replay_pinned => {
                self.cuts(name, lane, start, actions);
            }
            Work::Filling { start, pinned: Some(end) } => {
                actions.push(Action::Cut(name, lane, end));
                if state.partitions[lane].shows(Segment { start, end }) {
                    actions.push(Action::Recognise(name, lane));
                }
            }
            // The end of N and the intent of N+1 may go out as one commit.
            Work::Committing(segment) if idle && self.intent && self.publish_first => {
                self.cuts(name, lane, segment.end, actions);
            }
            Work::Publishing { .. } => actions.push(Action::Create(name, lane)),
            Work::Idle | Work::Intending(_) | Work::Committing(_) | Work::Stopped(_) => {}
        }
    }

    /// Wall-clock rotation, flush on revoke, shutdown: a member may cut after any record.
    fn cuts(&self, name: Name, lane: usize, start: u8, actions: &mut Vec<Action>) {
        actions.extend((start + 1..=self.records[lane]).map(|end| Action::Cut(name, lane, end)));
    }

    /// The lane reads its mark. The answer is not fenced: a zombie may read a mark its successor wrote.
    pub(super) fn start(&self, state: &mut State, name: Name, lane: usize) {
        let mark = state.partitions[lane].mark;
        state.member_mut(name).work[lane] = if mark.foreign && !self.adopt_foreign {
            Work::Stopped(Stop::ForeignMark)
        } else {
            Work::Filling { start: mark.next, pinned: mark.intent }
        };
    }

    /// `Begun::AlreadyPublished`: the sink finds every object of the pinned segment, so only its end is missing.
    pub(super) fn recognise(state: &mut State, name: Name, lane: usize) {
        let work = &mut state.member_mut(name).work[lane];
        if let Work::Filling { start, pinned: Some(end) } = *work {
            *work = Work::Committing(Segment { start, end });
        }
    }

    /// The segment ends here. Everything it needs is staged, nothing is visible.
    pub(super) fn cut(&self, state: &mut State, name: Name, lane: usize, end: u8) {
        let work = &mut state.member_mut(name).work[lane];
        let start = match *work {
            Work::Filling { start, .. } => start,
            Work::Committing(segment) => segment.end,
            _ => return,
        };
        let segment = Segment { start, end };
        *work = if self.intent { Work::Intending(segment) } else { self.staged(segment) };
    }

    /// Where a segment goes once nothing holds it back: out, and only then is its end committed.
    pub(super) fn staged(&self, segment: Segment) -> Work {
        if self.publish_first { Work::Publishing { segment, done: 0 } } else { Work::Committing(segment) }
    }

    /// The PUT a publishing lane is at.
    pub(super) fn put(&self, state: &State, name: Name, lane: usize) -> Option<LatePut> {
        let Work::Publishing { segment, done } = state.member(name).work[lane] else {
            return None;
        };
        let nth = if self.first_record_first { done } else { segment.objects() - 1 - done };
        Some(LatePut { lane, key: segment.start + nth, segment })
    }

    /// One PUT, and its answer. 200: the object is ours. 412: the claim decides.
    pub(super) fn create(&self, state: &mut State, name: Name, lane: usize) {
        let Some(put) = self.put(state, name, lane) else {
            return;
        };
        let work = match deliver(state, put, self.claim) {
            Ok(()) => self.created(state.member(name).work[lane]),
            Err(stop) => Work::Stopped(stop),
        };
        state.member_mut(name).work[lane] = work;
    }

    fn created(&self, work: Work) -> Work {
        match work {
            Work::Publishing { segment, done } if done + 1 < segment.objects() => {
                Work::Publishing { segment, done: done + 1 }
            }
            Work::Publishing { segment, .. } if self.publish_first => Work::Committing(segment),
            Work::Publishing { segment, .. } => Work::Filling { start: segment.end, pinned: None },
            other => other,
        }
    }
}

/// What the bucket does with a PUT, and what its sender makes of the answer.
pub(super) fn deliver(state: &mut State, put: LatePut, claim: Claim) -> Result<(), Stop> {
    let object = &mut state.partitions[put.lane].bucket[usize::from(put.key)];
    match (claim, *object) {
        (Claim::Absent, _) | (_, None) => *object = Some(put.segment),
        // HEAD: the range is in the object's metadata, and so are row count and checksum, which follow from it.
        (Claim::Verified | Claim::HeadFirst, Some(there)) if there != put.segment => {
            return Err(Stop::Conflict);
        }
        (_, Some(_)) => {}
    }
    Ok(())
}
