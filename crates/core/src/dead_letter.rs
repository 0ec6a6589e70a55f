//! Where records go that cannot be processed.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Poison, PoisonStage, StageError};
use crate::record::{Offset, OwnedRecord};

/// A record that could not be processed, whole, with the reason.
///
/// Its identity is (topic, partition, offset); a target that knows it can store it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The record as it was read.
    pub record: OwnedRecord,
    /// Where it failed.
    pub stage: PoisonStage,
    /// Why.
    pub poison: Poison,
}

impl DeadLetter {
    /// Most bytes of the value that a [`preview`](Self::preview) shows.
    pub const PREVIEW_BYTES: usize = 64;

    /// The first bytes of the value as printable ASCII, for whoever looks through letters: what is not printable, and the
    /// backslash, is escaped (`\\`, `\n`, `\xff`). `None` if there is no value.
    pub fn preview(&self) -> Option<String> {
        let value = self.record.value.as_deref()?;
        let shown = value.get(..Self::PREVIEW_BYTES).unwrap_or(value);
        Some(shown.escape_ascii().to_string())
    }
}

/// A letter as it was stored, read back from wherever it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLetter {
    /// The record, whole.
    pub record: OwnedRecord,
    /// The pipeline that could not process it.
    pub pipeline: String,
    /// The version of that pipeline, as its owner calls it; empty if nobody said.
    pub pipeline_version: String,
    /// Where it failed; see [`PoisonStage::as_str`].
    pub stage: String,
    /// Why; see [`PoisonReason::as_str`](crate::PoisonReason::as_str).
    pub reason: String,
    /// More about it.
    pub detail: String,
}

/// Stores dead letters.
///
/// # Contract
/// `send` returns once the letters are durable: the lane publishes and commits past them only then. It is called when the
/// intent of their segment is committed, which says which offsets are *not* letters: a record that has a letter is never
/// stored live as well, not even by a corrected version of the pipeline. Only a row that the target refuses while it publishes is
/// decided later. Delivery is at least once (a crash between the intent and the end sends letters again, the same ones), so
/// a letter carries its identity. If the target is down the error is `Retry` and the lane waits; nothing is skipped.
///
/// ```
/// use aqueduct_core::{DeadLetter, DeadLetterSink, StageError};
///
/// /// Counts letters and keeps none.
/// #[derive(Debug, Default)]
/// struct Counting(std::sync::atomic::AtomicUsize);
///
/// #[async_trait::async_trait]
/// impl DeadLetterSink for Counting {
///     async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
///         self.0.fetch_add(letters.len(), std::sync::atomic::Ordering::Relaxed);
///         Ok(())
///     }
/// }
/// ```
#[async_trait]
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Checks the target once, before any record is read. The default does nothing.
    async fn check(&self) -> Result<(), StageError> {
        Ok(())
    }

    /// Stores the letters, all of one partition and in offset order.
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError>;
}

/// What happens to a record that cannot be processed.
#[derive(Clone, Default)]
pub enum OnPoison {
    /// The lane stops with an error that names topic, partition, offset, stage and remedy; what came before is
    /// published, or, when only the target refuses the record, what came before its segment.
    #[default]
    Stop,
    /// The record is counted and not stored.
    Skip,
    /// The record goes to the dead letters, durably, before anything of its segment is visible and its offset is committed.
    DeadLetter(Arc<dyn DeadLetterSink>),
}

impl fmt::Debug for OnPoison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stop => "Stop",
            Self::Skip => "Skip",
            Self::DeadLetter(_) => "DeadLetter",
        })
    }
}

/// How many records that cannot be processed are too many to be the records' own fault.
///
/// A deploy gone wrong makes every record poison. With [`OnPoison::DeadLetter`] the whole topic would go to the dead letters,
/// with [`OnPoison::Skip`] nowhere. With a breaker the lane stops instead
/// ([`LaneError::PoisonRate`](crate::LaneError::PoisonRate)): nothing of the open segment is stored, none of its letters is
/// sent, the offset stays in front of it, and a corrected version reads it again. What earlier segments sent is sent; so choose
/// a limit that is reached within one.
///
/// Counted per partition, over consecutive records; rows that the sink refuses after it had accepted them are counted apart. A
/// pending segment that is finished for a former owner is not counted: what
/// becomes of its records is decided. Nor are records that the target refuses while it publishes.
///
/// ```
/// use aqueduct_core::PoisonBreaker;
///
/// // More than half of a thousand.
/// let breaker = PoisonBreaker::more_than(500, 1_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoisonBreaker {
    most: u32,
    records: u32,
}

impl PoisonBreaker {
    /// Stops at the first record that makes it more than `most` of `records` consecutive ones. The first `records` of an
    /// assignment are one window, the next ones the next.
    pub const fn more_than(most: u32, records: u32) -> Self {
        Self { most, records }
    }

    pub(crate) fn problem(self) -> Option<String> {
        let Self { most, records } = self;
        (most >= records).then(|| {
            format!("a breaker that trips at more than {most} of {records} records never trips; take fewer than {records}")
        })
    }
}

/// The windows of the [`PoisonBreaker`] of one lane: records that are poison when they are taken in, and rows that are refused
/// when a batch or a segment of them has been. The latter may be many windows' at once.
#[derive(Debug)]
pub(crate) struct PoisonWindow {
    breaker: Option<PoisonBreaker>,
    early: Count,
    late: Count,
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    seen: u64,
    poisoned: u64,
}

impl PoisonWindow {
    pub(crate) fn new(breaker: Option<PoisonBreaker>) -> Self {
        Self { breaker, early: Count::default(), late: Count::default() }
    }

    /// One more record is taken in.
    pub(crate) fn pass(&mut self) {
        let Some(PoisonBreaker { records, .. }) = self.breaker else { return };
        if self.early.seen >= u64::from(records) {
            self.early = Count::default();
        }
        self.early.seen += 1;
    }

    /// The one taken in last is poison. Answers how many of how many are when that is too much.
    pub(crate) fn poisoned(&mut self) -> Option<(u64, u64)> {
        let PoisonBreaker { most, .. } = self.breaker?;
        self.early.poisoned += 1;
        let Count { seen, poisoned } = self.early;
        (poisoned > u64::from(most)).then_some((poisoned, seen))
    }

    /// So many of the `taken` records since the last call were refused afterwards; answers as [`poisoned`](Self::poisoned).
    pub(crate) fn refused(&mut self, taken: u64, refused: u64) -> Option<(u64, u64)> {
        let PoisonBreaker { most, records } = self.breaker?;
        let (most, records) = (u64::from(most), u64::from(records));
        self.late.seen += taken;
        self.late.poisoned += refused;
        let Count { seen, poisoned } = self.late;
        // Of more than a window, the share is what counts.
        let too_much =
            poisoned > most && poisoned.saturating_mul(records) > most.saturating_mul(seen.max(records));
        if seen >= records {
            self.late = Count::default();
        }
        too_much.then_some((poisoned, seen))
    }
}

/// A row the sink refused after it had accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The row's record.
    pub offset: Offset,
    /// Why.
    pub poison: Poison,
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::error::PoisonReason;
    use crate::record::{Timestamp, TopicPartition};

    #[test]
    fn a_preview_is_short_and_printable_whatever_the_value() {
        let preview = |value: Option<&[u8]>| {
            let record = OwnedRecord {
                lane: TopicPartition::new("t", 0),
                offset: Offset::ZERO,
                timestamp: Timestamp::None,
                key: None,
                value: value.map(Bytes::copy_from_slice),
                headers: Vec::new(),
            };
            let poison = Poison::new(PoisonReason::Malformed, "");
            DeadLetter { record, stage: PoisonStage::Convert, poison }.preview()
        };
        assert_eq!(preview(None), None);
        assert_eq!(preview(Some(b"")), Some(String::new()));
        assert_eq!(preview(Some(b"{\"a\\\n\xff\xc3\xa9")).unwrap(), r#"{\"a\\\n\xff\xc3\xa9"#);
        for length in [63, 64, 65, 1 << 20] {
            assert_eq!(preview(Some(&vec![b'x'; length])).unwrap().len(), length.min(64));
        }
        let all: Vec<u8> = (0..=255).collect();
        for chunk in all.chunks(64) {
            let shown = preview(Some(chunk)).unwrap();
            assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{shown}");
        }
    }
}
