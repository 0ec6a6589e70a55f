//! What a re-drive did.

use std::collections::BTreeMap;
use std::fmt;

use super::UnreadableLetter;
use crate::error::{Poison, PoisonStage, StageError};
use crate::record::{Offset, TopicPartition};

/// Unreadable ones that are kept whole; all are counted.
const UNREADABLE_MAX: usize = 10;

/// What became of the letters of one run. Every letter that was selected is in exactly one of `repaired`, `before`, `skipped`
/// and `still_poison`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedriveReport {
    /// Letters read.
    pub read: u64,
    /// Of those, letters of records that had come already in this run.
    pub repeated: u64,
    /// Letters of records that the filter took, and that no earlier run had begun.
    pub selected: u64,
    /// Records stored by this run.
    pub repaired: u64,
    /// Records that were stored before, or are by somebody else at this time.
    pub before: u64,
    /// Repairs that others had begun, met by this run and not ended when it was over. If nobody is at work on them any
    /// more, the next run ends them: its records are among `before` and not visible yet.
    pub under_way: u64,
    /// Records of repairs that an earlier run had begun and this one has ended.
    pub finished: u64,
    /// Records that the corrected stages leave out by intention.
    pub skipped: u64,
    /// Records that are poison to the corrected stages too, by stage and reason. Their letters stay.
    pub still_poison: BTreeMap<(&'static str, &'static str), StillPoison>,
    /// Things among the letters that are none.
    pub unreadable: u64,
    /// The first few of them.
    pub unreadable_examples: Vec<UnreadableLetter>,
    /// Objects made.
    pub objects: u64,
}

/// Records that are still poison, of one stage and reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StillPoison {
    /// How many.
    pub count: u64,
    /// The first one's partition.
    pub lane: TopicPartition,
    /// The first one's offset.
    pub offset: Offset,
    /// What is wrong with it.
    pub detail: String,
}

impl RedriveReport {
    /// How many records are still poison.
    pub fn poisoned(&self) -> u64 {
        self.still_poison.values().map(|it| it.count).sum()
    }

    pub(super) fn poison(
        &mut self,
        lane: &TopicPartition,
        offset: Offset,
        stage: PoisonStage,
        poison: &Poison,
    ) {
        let of = self.still_poison.entry((stage.as_str(), poison.reason().as_str()));
        let first =
            || StillPoison { count: 0, lane: lane.clone(), offset, detail: poison.detail().to_owned() };
        of.or_insert_with(first).count += 1;
    }

    pub(super) fn unreadable(&mut self, unreadable: UnreadableLetter) {
        tracing::warn!(place = unreadable.place, detail = unreadable.detail, "this is no letter");
        self.unreadable += 1;
        if self.unreadable_examples.len() < UNREADABLE_MAX {
            self.unreadable_examples.push(unreadable);
        }
    }
}

/// On one line, as `name=value` pairs.
impl fmt::Display for RedriveReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let poisoned = self.poisoned();
        let Self {
            read,
            repeated,
            selected,
            repaired,
            before,
            under_way,
            finished,
            skipped,
            unreadable,
            objects,
            ..
        } = self;
        write!(
            f,
            "read={read} repeated={repeated} selected={selected} repaired={repaired} before={before} under_way={under_way} \
             finished={finished} skipped={skipped} still_poison={poisoned} unreadable={unreadable} objects={objects}"
        )
    }
}

/// Why a re-drive ended early. Nothing is stored twice by running it again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// Letters or target failed.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// An earlier run has begun a repair whose letters are not all there.
    #[error(
        "repair {repair} was begun by an earlier run and not ended, and {missing} of its letters were not found, the first \
         one of offset {first}; everything else is done. Read all the letters that run read: the same topic, directory or prefix"
    )]
    LettersMissing {
        /// The repair.
        repair: String,
        /// How many letters are missing.
        missing: usize,
        /// The first of them.
        first: Offset,
    },
}
