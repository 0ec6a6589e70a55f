//! What neither member decides: the network in front of the bucket, and hands on the marks.

use crate::lane::deliver;
use crate::protocol::{Action, Claim, Protocol};
use crate::state::{LatePut, Mark, Name, State};

impl Protocol {
    pub(super) fn outside_actions(&self, state: &State, actions: &mut Vec<Action>) {
        match state.late {
            Some(_) => actions.push(Action::Arrive),
            None if self.late_puts => {
                for name in Name::BOTH {
                    for lane in self.lanes() {
                        if self.put(state, name, lane).is_some_and(|put| self.would_send(state, put)) {
                            actions.push(Action::Delay(name, lane));
                        }
                    }
                }
            }
            None => {}
        }
        for lane in self.lanes() {
            if state.left.regressions > 0 {
                self.old_marks(state, lane, actions);
            }
            // Kafka's tools reset the offsets of an empty group only. The zombies outside it do not count.
            let empty = state.members.iter().all(|member| !member.membership.in_group());
            if state.left.resets > 0 && empty {
                let next = state.partitions[lane].mark.next;
                actions.extend((0..next).map(|offset| Action::Reset(lane, offset)));
            }
        }
    }

    /// The marks this lane has had: before each published segment, and before the intent now pending.
    fn old_marks(&self, state: &State, lane: usize, actions: &mut Vec<Action>) {
        let partition = &state.partitions[lane];
        for (_, segment) in partition.objects().filter(|(key, segment)| *key == segment.start) {
            if segment.start < partition.mark.next {
                actions.push(Action::Regress(lane, segment.start, None));
                if self.intent {
                    actions.push(Action::Regress(lane, segment.start, Some(segment.end)));
                }
            }
        }
        if partition.mark.intent.is_some() {
            actions.push(Action::Regress(lane, partition.mark.next, None));
        }
    }

    /// Without conditional writes a PUT leaves only after a HEAD has found nothing.
    fn would_send(&self, state: &State, put: LatePut) -> bool {
        let there = state.partitions[put.lane].bucket[usize::from(put.key)];
        self.claim != Claim::HeadFirst || there.is_none()
    }

    /// A PUT is sent and not answered: its member goes on waiting, asks again, gives up or dies meanwhile.
    pub(super) fn delay(&self, state: &mut State, name: Name, lane: usize) {
        state.late = self.put(state, name, lane);
    }

    /// It reaches the bucket after all. Nobody listens to the answer.
    pub(super) fn arrive(&self, state: &mut State) {
        // The HEAD that went before it is history.
        let claim = if self.claim == Claim::HeadFirst { Claim::Absent } else { self.claim };
        if let Some(put) = state.late.take() {
            // A refusal changes nothing, and there is nobody left to stop.
            deliver(state, put, claim).ok();
        }
    }

    /// An old mark of ours is back: a restored offsets topic, a mirror's copy, an unclean election.
    pub(super) fn regress(state: &mut State, lane: usize, next: u8, intent: Option<u8>) {
        state.left.regressions -= 1;
        state.partitions[lane].mark = Mark { next, intent, foreign: false };
    }

    /// Somebody else's tool writes an offset of its choice, without our marker.
    pub(super) fn reset(state: &mut State, lane: usize, next: u8) {
        state.left.resets -= 1;
        state.partitions[lane].mark = Mark { next, intent: None, foreign: true };
    }
}
