//! The promises, as conditions on every reachable state, and the states that must be reachable at all.

use stateright::Property;

use crate::protocol::Protocol;
use crate::state::{Commit, Mark, Membership, Partition, State, Stop, Work};

/// Every offset below the highest mark ever committed is in a visible object.
pub(super) const NO_LOSS: &str = "no loss";
/// Every offset is in at most one visible object, at every instant.
pub(super) const NO_DUP: &str = "no duplicate";
/// The visible segments neither overlap nor leave a hole.
pub(super) const TILING: &str = "tiling";
/// A commit of an end is not even asked for before all below it is visible.
pub(super) const COMMIT_AFTER_PUBLISH: &str = "commit after publish";
/// While an intent is in the mark, nothing at its start is visible, or being published, that ends elsewhere.
pub(super) const PINNED: &str = "pinned";
/// No mark is written under a lease that is over.
pub(super) const FENCE: &str = "fence";
/// Failures of members alone never leave a lane waiting for a human.
pub(super) const UNBLOCKED: &str = "unblocked";

/// The run ends well: all is published, all is committed.
pub(super) const DRAINED: &str = "drained";
/// The model is not vacuous: a zombie publishes while the lane is another's.
pub(super) const ZOMBIE: &str = "zombie publishes";
/// A new owner replays an intent it found.
pub(super) const RECOVERY: &str = "intent recovered";

/// A lane that stays publishes while another lane moves and its member has not caught up with the generation.
pub(super) const RETAINED: &str = "retained lane publishes";

pub(super) fn of(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Property::always(NO_LOSS, |_, state: &State| {
            state.partitions.iter().all(|partition| partition.visible_below(partition.high))
        }),
        Property::always(NO_DUP, |protocol: &Protocol, state: &State| {
            protocol.lanes().all(|lane| {
                (0..protocol.records[lane]).all(|offset| state.partitions[lane].copies(offset) <= 1)
            })
        }),
        Property::always(TILING, |_, state: &State| state.partitions.iter().all(tiled)),
        Property::always(COMMIT_AFTER_PUBLISH, |protocol: &Protocol, state: &State| {
            protocol
                .lanes()
                .all(|lane| requests(state, lane).all(|mark| state.partitions[lane].visible_below(mark.next)))
        }),
        Property::always(PINNED, |protocol: &Protocol, state: &State| {
            protocol.meddled(state) || protocol.lanes().all(|lane| pinned(state, lane))
        }),
        Property::always(FENCE, |_, state: &State| !state.fence_broken),
        Property::always(UNBLOCKED, |protocol: &Protocol, state: &State| {
            protocol.meddled(state)
                || state
                    .members
                    .iter()
                    .all(|member| member.work.iter().all(|work| *work != Work::Stopped(Stop::Conflict)))
        }),
        Property::sometimes(DRAINED, drained),
    ];
    if protocol.allow.faults != Some(0) {
        properties.push(Property::sometimes(ZOMBIE, zombie));
    }
    if protocol.intent {
        properties.push(Property::sometimes(RECOVERY, recovery));
    }
    if protocol.lanes().count() > 1 {
        properties.push(Property::sometimes(RETAINED, retained));
    }
    properties
}

fn zombie(protocol: &Protocol, state: &State) -> bool {
    protocol.lanes().any(|lane| {
        let publishes = state.members.iter().any(|member| {
            member.membership == Membership::Evicted && matches!(member.work[lane], Work::Publishing { .. })
        });
        publishes && state.partitions[lane].owner.is_some()
    })
}

fn recovery(_: &Protocol, state: &State) -> bool {
    let replays = |work: &Work| matches!(work, Work::Filling { pinned: Some(_), .. });
    state.members.iter().any(|member| member.work.iter().any(replays))
}

fn retained(_: &Protocol, state: &State) -> bool {
    state.partitions[1].moving
        && !state.partitions[0].moving
        && state.members.iter().any(|member| {
            member.membership == Membership::Behind
                && matches!(member.work[0], Work::Publishing { done: 1, .. })
        })
}

/// All records of all lanes are visible once and committed, and no cut is pending.
pub(super) fn drained(protocol: &Protocol, state: &State) -> bool {
    protocol.lanes().all(|lane| {
        let partition = &state.partitions[lane];
        let end = protocol.records[lane];
        partition.mark == Mark::at(end) && (0..end).all(|offset| partition.copies(offset) == 1)
    })
}

/// Any two visible objects are of one segment or of segments apart, and each segment starts where another ends.
fn tiled(partition: &Partition) -> bool {
    partition.objects().all(|(_, one)| {
        let apart = partition.objects().all(|(_, other)| one == other || !one.overlaps(other));
        let follows = one.start == 0 || partition.objects().any(|(_, other)| other.end == one.start);
        apart && follows
    })
}

/// Every commit of a lane that is kept back, on the wire, or outlived its lease.
fn requests(state: &State, lane: usize) -> impl Iterator<Item = Mark> {
    state.members.iter().flat_map(move |member| {
        let under_way = match member.commit[lane] {
            Commit::Deferred(mark) | Commit::Sent(mark) => Some(mark),
            Commit::None | Commit::Applied | Commit::Refused => None,
        };
        under_way.into_iter().chain(member.stray[lane])
    })
}

fn pinned(state: &State, lane: usize) -> bool {
    let partition = &state.partitions[lane];
    let Mark { next, intent: Some(end), .. } = partition.mark else {
        return true;
    };
    let agrees = |start: u8, its_end: u8| start != next || its_end == end;
    partition.objects().all(|(_, segment)| agrees(segment.start, segment.end))
        && state.members.iter().all(|member| match member.work[lane] {
            Work::Publishing { segment, .. } => agrees(segment.start, segment.end),
            _ => true,
        })
}
