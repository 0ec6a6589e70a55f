//! The protocol as a configuration (each rule can be taken out) and as a transition system.

use std::fmt;

use stateright::{Model, Property};

use crate::properties;
use crate::state::{Allowance, LANES_MAX, Member, Name, Partition, State};

/// What a conditional create answers to "this name is taken", or whether it is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Claim {
    /// `If-None-Match: *`, and a HEAD on 412: the same range and rows are ours, anything else stops the lane.
    Verified,
    /// `If-None-Match: *`, and a 412 is taken for our own earlier attempt without looking.
    Assumed,
    /// No conditional writes: HEAD, and then a plain PUT if there was nothing.
    HeadFirst,
    /// A plain PUT: the last writer wins.
    Absent,
}

/// The rules of the commit protocol and the bounds of one exploration.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is one rule, taken out on its own")]
pub(super) struct Protocol {
    /// The cut is written into the mark before anything becomes visible.
    pub intent: bool,
    /// A new owner cuts where the intent it found says, whatever its own clock says.
    pub replay_pinned: bool,
    /// The end is committed only after every object of the segment is visible.
    pub publish_first: bool,
    /// The object with the segment's first record is created before the others.
    pub first_record_first: bool,
    /// How an object's name is claimed.
    pub claim: Claim,
    /// A lost assignment or an unanswered commit ends the client instance, so that nothing queued inside the
    /// client outlives the lease it was made under.
    pub commits_die_with_lease: bool,
    /// A lease is for one assignment: a member that was evicted and has joined again starts its lanes anew. Taken
    /// out, it goes on with the work it had.
    pub lease_per_assignment: bool,
    /// A mark without our marker is taken as the place to start (`adopt_foreign_marks`).
    pub adopt_foreign: bool,

    /// Records in each lane's log; 0 leaves the lane out.
    pub records: [u8; LANES_MAX],
    /// May a PUT reach the bucket after its member has given up waiting, or has died?
    pub late_puts: bool,
    pub allow: Allowance,
    /// Take a state and the one with the members' names exchanged for one state. Off where a trace is printed.
    pub twins: bool,
}

impl Protocol {
    /// Every rule in force, one lane, members that fail as often as they like, and nobody who writes marks behind
    /// their backs.
    pub(super) const fn one_lane(records: u8) -> Self {
        Self {
            intent: true,
            replay_pinned: true,
            publish_first: true,
            first_record_first: true,
            claim: Claim::Verified,
            commits_die_with_lease: true,
            lease_per_assignment: true,
            adopt_foreign: false,
            records: [records, 0],
            late_puts: true,
            allow: Allowance { faults: None, moves: None, regressions: 0, resets: 0 },
            twins: true,
        }
    }

    /// The same with a second lane, and so many faults and moves.
    pub(super) const fn two_lanes(records: [u8; LANES_MAX], faults: u8, moves: u8) -> Self {
        let allow = Allowance { faults: Some(faults), moves: Some(moves), regressions: 0, resets: 0 };
        Self { records, late_puts: false, allow, ..Self::one_lane(0) }
    }

    /// The same with every PUT either prompt or lost.
    pub(super) const fn prompt(self) -> Self {
        Self { late_puts: false, ..self }
    }

    /// The same with lanes that change hands only when a member fails, and so often at most if `faults` says so.
    pub(super) const fn unmoved(self, faults: Option<u8>) -> Self {
        Self { allow: Allowance { faults, moves: Some(0), ..self.allow }, ..self }
    }

    /// The same with an old mark of ours that re-appears once, at any time.
    pub(super) const fn with_old_mark(self) -> Self {
        Self { allow: Allowance { regressions: 1, ..self.allow }, ..self }
    }

    /// The same with an operator who once resets the idle group to any earlier offset.
    pub(super) const fn with_reset(self) -> Self {
        Self { allow: Allowance { resets: 1, ..self.allow }, ..self }
    }

    /// The lanes this configuration uses.
    pub(super) fn lanes(&self) -> impl Iterator<Item = usize> {
        self.records.into_iter().enumerate().filter(|(_, records)| *records > 0).map(|(lane, _)| lane)
    }

    /// Have marks been written by someone other than the lane's owner?
    pub(super) fn meddled(&self, state: &State) -> bool {
        state.left.regressions < self.allow.regressions || state.left.resets < self.allow.resets
    }
}

/// Everything that can happen next. The checker tries all of them, in every order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    // The group: see `group.rs`.
    Join(Name),
    Sync(Name),
    Evict(Name),
    Move(usize),
    Release(Name, usize),
    Crash(Name),
    Learn(Name),
    // A lane at a member: see `lane.rs`.
    Start(Name, usize),
    Recognise(Name, usize),
    Cut(Name, usize, u8),
    Create(Name, usize),
    // The commit of a lane: see `commit.rs`.
    Defer(Name, usize),
    Send(Name, usize),
    Apply(Name, usize),
    Receive(Name, usize),
    SendStray(Name, usize),
    // The world outside: see `outside.rs`.
    Delay(Name, usize),
    Arrive,
    Regress(usize, u8, Option<u8>),
    Reset(usize, u8),
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            members: [Member::ABSENT; 2],
            partitions: [Partition::EMPTY; LANES_MAX],
            late: None,
            left: self.allow,
            fence_broken: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for name in Name::BOTH {
            self.group_actions(state, name, actions);
            for lane in self.lanes() {
                self.lane_actions(state, name, lane, actions);
                Self::commit_actions(state, name, lane, actions);
            }
        }
        self.outside_actions(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action {
            Action::Join(name) => self.join(&mut next, name),
            Action::Sync(name) => self.sync(&mut next, name),
            Action::Evict(name) => self.evict(&mut next, name),
            Action::Move(lane) => Self::ask_to_move(&mut next, lane),
            Action::Release(name, lane) => self.release(&mut next, name, lane),
            Action::Crash(name) => Self::crash(&mut next, name),
            Action::Learn(name) => self.learn(&mut next, name),
            Action::Start(name, lane) => self.start(&mut next, name, lane),
            Action::Recognise(name, lane) => Self::recognise(&mut next, name, lane),
            Action::Cut(name, lane, end) => self.cut(&mut next, name, lane, end),
            Action::Create(name, lane) => self.create(&mut next, name, lane),
            Action::Defer(name, lane) => Self::defer(&mut next, name, lane),
            Action::Send(name, lane) => Self::send(&mut next, name, lane),
            Action::Apply(name, lane) => Self::apply(&mut next, name, lane),
            Action::Receive(name, lane) => self.receive(&mut next, name, lane),
            Action::SendStray(name, lane) => Self::send_stray(&mut next, name, lane),
            Action::Delay(name, lane) => self.delay(&mut next, name, lane),
            Action::Arrive => self.arrive(&mut next),
            Action::Regress(lane, offset, intent) => Self::regress(&mut next, lane, offset, intent),
            Action::Reset(lane, offset) => Self::reset(&mut next, lane, offset),
        }
        Some(if self.twins { next.min(next.swapped()) } else { next })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join(name) => write!(f, "{name:?} joins the group"),
            Self::Sync(name) => write!(f, "{name:?} hears of the new generation"),
            Self::Evict(name) => write!(f, "the coordinator evicts {name:?}"),
            Self::Move(lane) => write!(f, "a rebalance asks the owner to give up lane {lane}"),
            Self::Release(name, lane) => write!(f, "{name:?} gives up lane {lane}"),
            Self::Crash(name) => write!(f, "{name:?} crashes, or ends its client instance"),
            Self::Learn(name) => write!(f, "{name:?} learns that it was evicted"),
            Self::Start(name, lane) => write!(f, "{name:?} reads the mark of lane {lane}"),
            Self::Recognise(name, lane) => {
                write!(f, "{name:?} finds the pinned segment of lane {lane} already visible")
            }
            Self::Cut(name, lane, end) => write!(f, "{name:?} cuts lane {lane} at {end}"),
            Self::Create(name, lane) => write!(f, "{name:?} creates the next object of lane {lane}"),
            Self::Defer(name, lane) => write!(f, "{name:?}'s client defers the commit of lane {lane}"),
            Self::Send(name, lane) => write!(f, "{name:?} sends the commit of lane {lane}"),
            Self::Apply(name, lane) => write!(f, "the coordinator writes {name:?}'s commit of lane {lane}"),
            Self::Receive(name, lane) => {
                write!(f, "{name:?} receives the answer to its commit of lane {lane}")
            }
            Self::SendStray(name, lane) => {
                write!(f, "{name:?}'s client re-stamps and sends the deferred commit of lane {lane}")
            }
            Self::Delay(name, lane) => write!(f, "{name:?}'s PUT of lane {lane} is held up on the wire"),
            Self::Arrive => write!(f, "the PUT on the wire reaches the bucket"),
            Self::Regress(lane, next, Some(end)) => {
                write!(f, "the old mark {next} with intent {end} re-appears on lane {lane}")
            }
            Self::Regress(lane, next, None) => write!(f, "the old mark {next} re-appears on lane {lane}"),
            Self::Reset(lane, next) => write!(f, "an operator resets lane {lane} to {next}"),
        }
    }
}
