//! The steps there are, and the little that must be known to draw the next one.

use std::time::Duration;

use aqueduct_core::Class;
use aqueduct_core::testkit::{Fault, Gate, Step};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use proptest_state_machine::ReferenceStateMachine;

/// Processes that may run at a time.
pub(super) const PROCESSES: usize = 2;

/// What stands at one offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A row of one of a few routes.
    Row(u8),
    Tombstone,
    /// Poison to the converter.
    Bad,
    /// Poison to the partitioner.
    NoRoute,
    /// Refused by the sink at the cut.
    LateRefused,
    /// Refused by the sink while it publishes.
    LastRefused,
    /// No record: a transaction's marker, say.
    Gap,
}

impl Kind {
    pub(super) fn is_row(self) -> bool {
        matches!(self, Self::Row(_))
    }

    /// Whether its letter is durable before anything of its segment is visible.
    pub(super) fn is_letter_before_rows(self) -> bool {
        matches!(self, Self::Bad | Self::NoRoute | Self::LateRefused)
    }

    /// Whether it is a row where the segment is cut.
    pub(super) fn is_staged(self) -> bool {
        matches!(self, Self::Row(_) | Self::LastRefused)
    }

    pub(super) fn is_letter(self) -> bool {
        self.is_letter_before_rows() || self == Self::LastRefused
    }
}

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    Refused,
    Unclassified,
    AnswerLost,
    Late,
    /// Until the gates are opened.
    Held,
    AnswerHeld,
    Fenced,
    Fatal,
}

impl How {
    pub(super) fn fault(self, gate: &Gate) -> Fault {
        match self {
            Self::Refused => Fault::Reject(Class::RETRY),
            Self::Unclassified => Fault::Reject(Class::Unknown),
            Self::AnswerLost => Fault::FailAfterWrite(Class::RETRY),
            Self::Late => Fault::Slow(Duration::from_secs(3)),
            Self::Held => Fault::Hold(gate.clone()),
            Self::AnswerHeld => Fault::HoldAnswer(gate.clone()),
            Self::Fenced => Fault::Reject(Class::Fenced),
            Self::Fatal => Fault::Reject(Class::Fatal),
        }
    }

    /// Whether it ends a lane, or the process with it, so that somebody has to start anew.
    pub(super) fn ends(self) -> bool {
        matches!(self, Self::Fenced | Self::Fatal)
    }
}

/// How a process is set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Most records of a batch.
    pub(super) batch: usize,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) age_s: u64,
    /// Most routes of a segment.
    pub(super) routes: usize,
}

/// One step. `of` is a process.
#[derive(Clone, Debug)]
pub(super) enum Do {
    Produce(Vec<Kind>),
    Start {
        of: usize,
        setup: Setup,
        /// And gets the partition at once.
        assign: bool,
    },
    /// The process runs for so long by its own time; otherwise it is frozen.
    Run {
        of: usize,
        ms: u64,
    },
    Kill {
        of: usize,
    },
    /// SIGTERM.
    Stop {
        of: usize,
    },
    /// The coordinator gives it the partition, behind the back of whoever has it.
    Assign {
        of: usize,
    },
    Revoke {
        of: usize,
        grace_ms: u64,
    },
    Lose {
        of: usize,
    },
    /// The coordinator takes it without a word.
    Evict {
        of: usize,
    },
    Pause {
        of: usize,
    },
    Resume {
        of: usize,
    },
    Flush {
        of: usize,
    },
    /// The next call of a step of this process's sink or dead letters fails.
    Fail {
        of: usize,
        step: Step,
        how: How,
    },
    /// The next object to become visible, whoever makes it.
    FailCreate {
        how: How,
    },
    FailCommit {
        how: How,
    },
    OpenGates,
    /// The wall clock jumps.
    Clock {
        seconds: i64,
    },
}

/// What is known without looking.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The log.
    pub(super) log: Vec<Kind>,
    pub(super) first: Setup,
    /// Processes that were started and not killed.
    pub(super) up: [bool; PROCESSES],
}

fn kinds(most: usize) -> impl Strategy<Value = Vec<Kind>> {
    let kind = prop_oneof![
        20 => (0..4_u8).prop_map(Kind::Row),
        2 => Just(Kind::Tombstone),
        1 => Just(Kind::Bad),
        1 => Just(Kind::NoRoute),
        1 => Just(Kind::LateRefused),
        1 => Just(Kind::LastRefused),
        6 => Just(Kind::Gap),
    ];
    proptest::collection::vec(kind, 1..most)
}

fn setup() -> impl Strategy<Value = Setup> {
    (1..20_usize, 1..40_u64, 20..400_u64, 1..120_u64, 1..6_usize)
        .prop_map(|(batch, records, bytes, age_s, routes)| Setup { batch, records, bytes, age_s, routes })
}

impl ReferenceStateMachine for Known {
    type State = Self;
    type Transition = Do;

    fn init_state() -> BoxedStrategy<Self> {
        (kinds(60), setup()).prop_map(|(log, first)| Self { log, first, up: [true, false] }).boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Do> {
        let how = |of_lane: bool| {
            let ends = u32::from(of_lane);
            prop_oneof![
                3 => Just(How::Refused),
                1 => Just(How::Unclassified),
                4 => Just(How::AnswerLost),
                1 => Just(How::Late),
                4 => Just(How::Held),
                4 => Just(How::AnswerHeld),
                1 + ends => Just(How::Fenced),
                1 => Just(How::Fatal),
            ]
        };
        let mut steps = vec![
            (6, kinds(40).prop_map(Do::Produce).boxed()),
            (3, how(false).prop_map(|how| Do::FailCreate { how }).boxed()),
            (4, how(true).prop_map(|how| Do::FailCommit { how }).boxed()),
            (2, Just(Do::OpenGates).boxed()),
            (2, prop_oneof![5..200_i64, -200..0_i64].prop_map(|seconds| Do::Clock { seconds }).boxed()),
        ];
        let which = |up: bool| (0..PROCESSES).filter(|of| state.up[*of] == up).collect::<Vec<_>>();
        let (up, down) = (which(true), which(false));
        if !down.is_empty() {
            let start = (select(down), setup(), prop::bool::weighted(0.7));
            let start = start.prop_map(|(of, setup, assign)| Do::Start { of, setup, assign });
            steps.push((4 + 8 * u32::from(up.is_empty()), start.boxed()));
        }
        if !up.is_empty() {
            let of = || select(up.clone());
            let ms = prop_oneof![1..5_u64, 50..500_u64, 1_000..20_000_u64];
            let step = select(vec![Step::Begin, Step::Spill, Step::Stage, Step::Publish, Step::Send]);
            let fail = (of(), step, how(false)).prop_map(|(of, step, how)| Do::Fail { of, step, how });
            let revoke = (of(), prop_oneof![Just(0), 100..15_000_u64]);
            steps.extend([
                (24, (of(), ms).prop_map(|(of, ms)| Do::Run { of, ms }).boxed()),
                (6, of().prop_map(|of| Do::Kill { of }).boxed()),
                (1, of().prop_map(|of| Do::Stop { of }).boxed()),
                (8, of().prop_map(|of| Do::Assign { of }).boxed()),
                (3, revoke.prop_map(|(of, grace_ms)| Do::Revoke { of, grace_ms }).boxed()),
                (2, of().prop_map(|of| Do::Lose { of }).boxed()),
                (1, of().prop_map(|of| Do::Evict { of }).boxed()),
                (1, of().prop_map(|of| Do::Pause { of }).boxed()),
                (2, of().prop_map(|of| Do::Resume { of }).boxed()),
                (4, of().prop_map(|of| Do::Flush { of }).boxed()),
                (6, fail.boxed()),
            ]);
        }
        Union::new_weighted(steps).boxed()
    }

    fn preconditions(state: &Self, step: &Do) -> bool {
        match step {
            Do::Start { of, .. } => !state.up[*of],
            Do::Run { of, .. }
            | Do::Kill { of }
            | Do::Stop { of }
            | Do::Assign { of }
            | Do::Revoke { of, .. }
            | Do::Lose { of }
            | Do::Evict { of }
            | Do::Pause { of }
            | Do::Resume { of }
            | Do::Flush { of }
            | Do::Fail { of, .. } => state.up[*of],
            Do::Produce(_)
            | Do::FailCreate { .. }
            | Do::FailCommit { .. }
            | Do::OpenGates
            | Do::Clock { .. } => true,
        }
    }

    fn apply(mut state: Self, step: &Do) -> Self {
        match step {
            Do::Produce(kinds) => state.log.extend(kinds),
            Do::Start { of, .. } => state.up[*of] = true,
            Do::Kill { of } => state.up[*of] = false,
            _ => {}
        }
        state
    }
}
