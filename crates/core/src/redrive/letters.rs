//! Where letters come from, and which of them.

use std::ops::Range;

use async_trait::async_trait;

use crate::dead_letter::StoredLetter;
use crate::error::{PoisonReason, PoisonStage, StageError};
use crate::record::{OffsetRange, TopicPartition};

/// Reads back what a [`DeadLetterSink`](crate::DeadLetterSink) has stored, from its start to the end that was there when it
/// began.
///
/// # Contract
/// - Letters come in any order, and may come several times: they were sent again after a crash.
/// - Nothing is changed by reading: not the letters, no offset is committed. Whoever begins anew gets all of them again.
/// - What stands among letters and is none does not end it: it is named, and reading goes on behind it.
/// - Letters that are stored while it reads may be missed.
///
/// # Errors
/// [`StageError`] if the place cannot be read, after having been asked for some time. What was not read comes next time.
///
/// ```
/// use aqueduct_core::{LetterSource, StageError, StoredLetter, UnreadableLetter};
///
/// /// Letters that are in memory already.
/// struct Few(std::vec::IntoIter<StoredLetter>);
///
/// #[async_trait::async_trait]
/// impl LetterSource for Few {
///     async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
///         Ok(self.0.next().map(Ok))
///     }
/// }
/// ```
#[async_trait]
pub trait LetterSource: Send {
    /// The next letter; `None` at the end.
    async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError>;
}

#[async_trait]
impl<L: LetterSource + ?Sized> LetterSource for Box<L> {
    async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
        (**self).next().await
    }
}

/// Something among letters that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place} is no letter: {detail}")]
pub struct UnreadableLetter {
    /// Where: a line of an object, an offset of a topic.
    pub place: String,
    /// What is wrong with it; never what stands in it.
    pub detail: String,
}

/// Which letters are driven again. Of one kind any may hold, of several kinds each must.
///
/// ```
/// use aqueduct_core::{LetterFilter, PoisonReason};
///
/// // Malformed or too large ones of one topic.
/// let filter = LetterFilter::all()
///     .topic("orders")
///     .reason(PoisonReason::Malformed)
///     .reason(PoisonReason::TooLarge);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    reasons: Vec<String>,
    stages: Vec<String>,
    topics: Vec<String>,
    versions: Vec<String>,
    times: Vec<Range<i64>>,
    offsets: Vec<(TopicPartition, OffsetRange)>,
}

impl LetterFilter {
    /// All there are.
    pub fn all() -> Self {
        Self::default()
    }

    /// Those with this reason.
    #[must_use]
    pub fn reason(mut self, reason: PoisonReason) -> Self {
        self.reasons.push(reason.as_str().to_owned());
        self
    }

    /// Those that failed in this stage.
    #[must_use]
    pub fn stage(mut self, stage: PoisonStage) -> Self {
        self.stages.push(stage.as_str().to_owned());
        self
    }

    /// Those of this topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Those that this version of the pipeline has sent.
    #[must_use]
    pub fn pipeline_version(mut self, version: impl Into<String>) -> Self {
        self.versions.push(version.into());
        self
    }

    /// Those whose record's time is in this range, in ms since the Unix epoch. A record without a time is in none.
    #[must_use]
    pub fn record_time(mut self, range: Range<i64>) -> Self {
        self.times.push(range);
        self
    }

    /// Those of these offsets of a partition.
    #[must_use]
    pub fn offsets(mut self, lane: TopicPartition, range: OffsetRange) -> Self {
        self.offsets.push((lane, range));
        self
    }

    /// Whether it takes the letter.
    pub fn takes(&self, letter: &StoredLetter) -> bool {
        let StoredLetter { record, .. } = letter;
        let one_of =
            |wanted: &[String], found: &str| wanted.is_empty() || wanted.iter().any(|it| it == found);
        let at = record.timestamp.millis();
        one_of(&self.reasons, &letter.reason)
            && one_of(&self.stages, &letter.stage)
            && one_of(&self.topics, record.lane.topic())
            && one_of(&self.versions, &letter.pipeline_version)
            && (self.times.is_empty()
                || at.is_some_and(|at| self.times.iter().any(|range| range.contains(&at))))
            && (self.offsets.is_empty()
                || self
                    .offsets
                    .iter()
                    .any(|(lane, range)| *lane == record.lane && range.contains(record.offset)))
    }
}
