//! Why a lane stopped.

use crate::error::{Poison, PoisonStage, StageError};
use crate::record::{Offset, OffsetRange};

/// Why a lane stopped and needs a human. Its offsets stay where they are; nothing is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaneError {
    /// A record cannot be processed and the policy is to stop.
    #[error(
        "the record at offset {offset} cannot be processed: {stage}: {poison}; everything before offset {published} is \
         published. Fix the producer or the layout, or choose OnPoison::DeadLetter or OnPoison::Skip"
    )]
    Poisoned {
        /// The record.
        offset: Offset,
        /// Where it failed.
        stage: PoisonStage,
        /// Why.
        poison: Poison,
        /// What is before this offset is published: the record's own, or its segment's first if the target refused it.
        published: Offset,
    },
    /// Too many records cannot be processed: see [`PoisonBreaker`](crate::PoisonBreaker).
    #[error(
        "{poisoned} of {seen} consecutive records cannot be processed, the last one at offset {offset}: {stage}: {poison}. \
         Nothing from offset {published} on is stored or was sent to the dead letters. Correct what was changed last and start \
         again; if the records are at fault, raise the limit of the PoisonBreaker"
    )]
    PoisonRate {
        /// How many.
        poisoned: u64,
        /// Of how many.
        seen: u64,
        /// The last of them.
        offset: Offset,
        /// Where it failed.
        stage: PoisonStage,
        /// Why.
        poison: Poison,
        /// The first offset of the open segment.
        published: Offset,
    },
    /// A former owner left an intent of another layout.
    #[error(
        "offsets {range} were cut by a pipeline whose layout differs in: {}. Run finish_pending() with the old layout \
         first, or roll the change back", .parts.join(", ")
    )]
    LayoutChanged {
        /// The pending segment.
        range: OffsetRange,
        /// The parts of the layout that differ.
        parts: Vec<String>,
    },
    /// The topic no longer holds what has to be read.
    #[error(
        "retention removed offsets {mark} to {log_start}, which were not yet stored. If they may be skipped, {}set the \
         group's offset to {log_start} and start with adopt_foreign_marks(true)", first_remove(.pending.as_ref())
    )]
    RetentionPassed {
        /// The next offset to read.
        mark: Offset,
        /// The first offset the topic still holds.
        log_start: Offset,
        /// The segment that was under way, of which something may be visible.
        pending: Option<OffsetRange>,
    },
    /// Reading a pending segment again gave other records than the first time.
    #[error(
        "offsets {range} were recorded with {expected_rows} rows, reading them again gave {found_rows} rows{}: \
         compaction, retention or a changed converter; nothing was published or sent to the dead letters now. Undo the change, \
         let finish_pending() end the segment, and make it again; or, if what is gone may be skipped, {}set the group's offset \
         to {} and start with adopt_foreign_marks(true)",
        if .expected_rows == .found_rows { " at other offsets" } else { "" },
        first_remove(Some(.range)),
        .range.start()
    )]
    ReplayDiverged {
        /// The pending segment.
        range: OffsetRange,
        /// Rows at the first reading.
        expected_rows: u64,
        /// Rows now.
        found_rows: u64,
    },
    /// Far more records of a pending segment cannot be processed than when it was cut.
    #[error(
        "offsets {range} were cut by a pipeline that sent fewer of their records to the dead letters: up to offset {offset} \
         there are more than memory holds, and none was sent now. Run finish_pending() with the version and the poison policy \
         that cut them first"
    )]
    PinnedLetters {
        /// The pending segment.
        range: OffsetRange,
        /// The record for which there was no room.
        offset: Offset,
    },
    /// The committed offset was set by another program.
    #[error(
        "the committed offset {mark} was not set by this pipeline (an operator's reset, another tool). If it is meant, \
         start with adopt_foreign_marks(true)"
    )]
    ForeignMark {
        /// The committed offset.
        mark: Offset,
    },
    /// A sink broke its contract.
    #[error("the sink broke its contract: {what}")]
    SinkContract {
        /// How.
        what: &'static str,
    },
    /// A sink refused a row late without having said that it may.
    #[error(
        "the sink refused the record at offset {offset} after the cut; its capabilities must say rejects_late"
    )]
    UndeclaredRejection {
        /// The record.
        offset: Offset,
    },
    /// An operation failed for good.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// A bug: a stage panicked.
    #[error("a stage of the lane panicked: {message}")]
    Panicked {
        /// What it said.
        message: String,
    },
}

/// Adopting an offset forgets the cut: whatever an earlier attempt has made visible of it would be stored a second time.
fn first_remove(pending: Option<&OffsetRange>) -> String {
    pending.map_or_else(String::new, |range| {
        format!("remove the objects an earlier attempt has left of offsets {range} and its letters, ")
    })
}
