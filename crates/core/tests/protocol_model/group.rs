//! The group: who is a member, of which generation, and who owns which lane.
//!
//! The coordinator starts a new generation whenever membership or ownership changes. From then on it refuses
//! every commit stamped with an older one, which is all the fencing it does: **it never asks who owns the
//! partition a commit is for**.

use crate::protocol::{Action, Protocol};
use crate::state::{Commit, LANES_MAX, Member, Membership, Name, State, Work};

impl Protocol {
    pub(super) fn group_actions(&self, state: &State, name: Name, actions: &mut Vec<Action>) {
        let member = state.member(name);
        let faults_left = state.left.faults != Some(0);
        match member.membership {
            Membership::Absent | Membership::Ghost => actions.push(Action::Join(name)),
            Membership::Behind => actions.push(Action::Sync(name)),
            Membership::Evicted => actions.push(Action::Learn(name)),
            Membership::Current => {}
        }
        if member.membership.has_client() && faults_left {
            actions.push(Action::Crash(name));
        }
        // A paused member needs no state of its own: it is one that the checker does not schedule while the
        // coordinator and the other member go on. Resuming it is scheduling it again.
        if member.membership.in_group() && faults_left {
            actions.push(Action::Evict(name));
        }
        for lane in self.lanes() {
            let partition = state.partitions[lane];
            if partition.owner != Some(name) {
                continue;
            }
            let taker = state.member(name.other()).membership.in_group();
            if taker && !partition.moving && state.left.moves != Some(0) {
                actions.push(Action::Move(lane));
            }
            if partition.moving && member.membership == Membership::Current && self.may_release(member, lane)
            {
                actions.push(Action::Release(name, lane));
            }
        }
    }

    /// A revoked lane is let go only when its commit has been answered. While the answer is missing, the way
    /// out is to end the whole client instance (`Crash`), which takes the queued commit with it.
    fn may_release(&self, member: &Member, lane: usize) -> bool {
        match member.commit[lane] {
            Commit::None => true,
            Commit::Deferred(_) => !self.commits_die_with_lease,
            Commit::Sent(_) | Commit::Applied | Commit::Refused => false,
        }
    }

    /// A new client instance joins under a new member id. Lanes without an owner are assigned to it; those of its
    /// own ghost stay with it: the same partition back.
    pub(super) fn join(&self, state: &mut State, name: Name) {
        next_generation(state);
        for lane in self.lanes() {
            state.partitions[lane].owner.get_or_insert(name);
        }
        self.sync(state, name);
    }

    /// The member hears of the generation and of what it was assigned. Lanes it keeps go on where they were: a
    /// retained lane has one lease for as long as it is retained.
    pub(super) fn sync(&self, state: &mut State, name: Name) {
        for lane in self.lanes() {
            let owned = state.partitions[lane].owner == Some(name);
            let work = &mut state.member_mut(name).work[lane];
            if owned && *work == Work::Idle {
                *work = Work::Assigned;
            }
        }
        state.member_mut(name).membership = Membership::Current;
    }

    /// The session timed out, or the member was too slow to re-join. It does not know.
    pub(super) fn evict(&self, state: &mut State, name: Name) {
        spend(&mut state.left.faults);
        next_generation(state);
        let member = state.member_mut(name);
        member.membership = match member.membership {
            Membership::Ghost => Membership::Absent,
            _ => Membership::Evicted,
        };
        let heir = state.member(name.other()).membership.in_group().then_some(name.other());
        for lane in self.lanes() {
            let partition = &mut state.partitions[lane];
            partition.moving = false;
            if partition.owner == Some(name) {
                partition.owner = heir;
            }
        }
    }

    /// First round of a cooperative rebalance: the owner is to give the lane up, and everybody re-joins.
    pub(super) fn ask_to_move(state: &mut State, lane: usize) {
        spend(&mut state.left.moves);
        next_generation(state);
        state.partitions[lane].moving = true;
    }

    /// Second round: the owner is done with the lane, or its time is over; the other member gets it.
    pub(super) fn release(&self, state: &mut State, name: Name, lane: usize) {
        self.give_up(state, name, lane);
        next_generation(state);
        let partition = &mut state.partitions[lane];
        partition.owner = Some(name.other());
        partition.moving = false;
    }

    /// The process dies, or gives its client instance up because a commit was not answered by its deadline: with
    /// spool and queue gone, the two look the same from here. What is on the wire stays there.
    pub(super) fn crash(state: &mut State, name: Name) {
        spend(&mut state.left.faults);
        let member = state.member_mut(name);
        let membership = if member.membership.in_group() { Membership::Ghost } else { Membership::Absent };
        let on_the_wire = member.commit.map(|commit| match commit {
            Commit::Sent(_) => commit,
            _ => Commit::None,
        });
        *member = Member { membership, commit: on_the_wire, ..Member::ABSENT };
    }

    /// `UNKNOWN_MEMBER_ID`: every lease of the client instance is over. By our rule so is the instance, and a new one
    /// will join.
    pub(super) fn learn(&self, state: &mut State, name: Name) {
        for lane in 0..LANES_MAX {
            self.give_up(state, name, lane);
        }
        state.member_mut(name).membership = Membership::Absent;
    }

    /// End of a lease: scratch is dropped, a half-published segment is left to the next owner.
    fn give_up(&self, state: &mut State, name: Name, lane: usize) {
        let survives = !self.commits_die_with_lease;
        let member = state.member_mut(name);
        if let (true, Commit::Deferred(mark)) = (survives, member.commit[lane]) {
            member.stray[lane] = Some(mark);
        }
        member.commit[lane] = Commit::None;
        if self.lease_per_assignment {
            member.work[lane] = Work::Idle;
        }
    }
}

/// Every stamp up to now is void: what is on the wire will be refused. A refusal to a client that is gone reaches
/// nobody.
fn next_generation(state: &mut State) {
    for member in &mut state.members {
        for commit in &mut member.commit {
            if let Commit::Sent(_) = commit {
                *commit = if member.membership == Membership::Ghost { Commit::None } else { Commit::Refused };
            }
        }
        if member.membership == Membership::Current {
            member.membership = Membership::Behind;
        }
    }
}

fn spend(allowance: &mut Option<u8>) {
    if let Some(left) = allowance {
        *left -= 1;
    }
}
