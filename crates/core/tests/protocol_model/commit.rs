//! A commit on its way: lane → client library → wire → coordinator → wire → lane.
//!
//! Each arrow is a step of its own, so a member can die, be evicted or be paused between any two. A lost answer is
//! an `Applied` commit whose member never gets to `Receive`.

use crate::protocol::{Action, Protocol};
use crate::state::{Commit, Mark, Membership, Name, State, Work};

impl Protocol {
    pub(super) fn commit_actions(state: &State, name: Name, lane: usize, actions: &mut Vec<Action>) {
        let member = state.member(name);
        match member.commit[lane] {
            Commit::None if wanted(member.work[lane]).is_some() => {
                actions.push(Action::Send(name, lane));
                actions.push(Action::Defer(name, lane));
            }
            Commit::None => {}
            Commit::Deferred(_) => actions.push(Action::Send(name, lane)),
            Commit::Sent(_) => actions.push(Action::Apply(name, lane)),
            Commit::Applied | Commit::Refused => actions.push(Action::Receive(name, lane)),
        }
        if member.membership == Membership::Current && member.stray[lane].is_some() {
            actions.push(Action::SendStray(name, lane));
        }
    }

    /// The client library has no coordinator to send to and keeps the commit, unstamped.
    pub(super) fn defer(state: &mut State, name: Name, lane: usize) {
        let member = state.member_mut(name);
        if let Some(mark) = wanted(member.work[lane]) {
            member.commit[lane] = Commit::Deferred(mark);
        }
    }

    /// Out it goes, stamped with the generation the client has *now*. If that is no longer the group's, or the
    /// group no longer knows the member, a refusal is all that can come of it.
    pub(super) fn send(state: &mut State, name: Name, lane: usize) {
        let member = state.member_mut(name);
        let mark = match member.commit[lane] {
            Commit::Deferred(mark) => Some(mark),
            _ => wanted(member.work[lane]),
        };
        if let Some(mark) = mark {
            member.commit[lane] = match member.membership {
                Membership::Current => Commit::Sent(mark),
                _ => Commit::Refused,
            };
        }
    }

    /// Member and generation are good (a commit whose stamp has gone stale is `Refused` by then): it is written.
    /// The answer to a client that is gone reaches nobody.
    pub(super) fn apply(state: &mut State, name: Name, lane: usize) {
        let Commit::Sent(mark) = state.member(name).commit[lane] else {
            return;
        };
        let leased = state.partitions[lane].owner == Some(name);
        write(state, lane, mark, leased);
        let member = state.member_mut(name);
        member.commit[lane] =
            if member.membership == Membership::Ghost { Commit::None } else { Commit::Applied };
    }

    /// The verdict reaches the lane. Refused for its generation means: repeat it after the rebalance, if the lane
    /// is still ours by then.
    pub(super) fn receive(&self, state: &mut State, name: Name, lane: usize) {
        let member = state.member_mut(name);
        if member.commit[lane] == Commit::Applied {
            member.work[lane] = match member.work[lane] {
                Work::Intending(segment) => self.staged(segment),
                Work::Committing(segment) if self.publish_first => {
                    Work::Filling { start: segment.end, pinned: None }
                }
                Work::Committing(segment) => Work::Publishing { segment, done: 0 },
                other => other,
            };
        }
        member.commit[lane] = Commit::None;
    }

    /// The broken rule at work: a commit deferred under an earlier lease is stamped with the new generation, and
    /// the coordinator has no reason to refuse it.
    pub(super) fn send_stray(state: &mut State, name: Name, lane: usize) {
        if let Some(mark) = state.member_mut(name).stray[lane].take() {
            write(state, lane, mark, false);
        }
    }
}

/// The commit a lane's work waits for.
fn wanted(work: Work) -> Option<Mark> {
    match work {
        Work::Intending(segment) => Some(Mark::with_intent(segment)),
        Work::Committing(segment) => Some(Mark::at(segment.end)),
        _ => None,
    }
}

fn write(state: &mut State, lane: usize, mark: Mark, leased: bool) {
    let partition = &mut state.partitions[lane];
    partition.mark = mark;
    partition.high = partition.high.max(mark.next);
    state.fence_broken |= !leased;
}
