//! Two error types, three classes.
//!
//! An *operation* that fails gives a [`StageError`] whose [`Class`] says what the pipeline does. A *record* that
//! cannot be processed gives a [`Poison`]. A batch-level error cannot be poison and a record-level one cannot be
//! retried: the illegal states are unwritable.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// A boxed error source.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// What the pipeline does with a failed *operation*.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// The same call again after a back-off (at least `after`, when the other side named a delay). The lane waits,
    /// its source slows down, nothing is lost. Retried for as long as it takes: an outage is not an error to give up on.
    Retry {
        /// The delay the other side asked for; a lane waits five minutes at most.
        after: Option<Duration>,
    },
    /// An error nobody has classified. Retried like [`Retry`](Self::Retry), but a bounded number of times, and then
    /// treated as [`Fatal`](Self::Fatal). Never taken for a bad record: that guess would lose data.
    Unknown,
    /// The partition is no longer ours: the segment is abandoned quietly, its new owner redoes it.
    Fenced,
    /// A human is needed. The lane stops, its offsets stay where they are.
    Fatal,
}

impl Class {
    /// Retry with the pipeline's own back-off.
    pub const RETRY: Self = Self::Retry { after: None };
}

/// Errors that know their [`Class`].
///
/// A sink crate has one error enum that implements this with one exhaustive `match`, and a table in its docs:
/// error → class → what the operator does.
pub trait Classify: Error + Send + Sync + 'static {
    /// What the pipeline does with this error.
    fn class(&self) -> Class;

    /// What the operator should do, in one sentence; `None` if there is nothing to add to the message.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// A failed operation of one stage.
#[derive(Debug, thiserror::Error)]
#[error("{stage} failed{}", .hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default())]
pub struct StageError {
    stage: &'static str,
    class: Class,
    hint: Option<String>,
    source: BoxError,
}

impl StageError {
    /// Wraps an error that knows its class. `stage` is the operation in a few words: `"s3 put"`.
    pub fn new(stage: &'static str, source: impl Classify) -> Self {
        Self { stage, class: source.class(), hint: source.hint(), source: Box::new(source) }
    }

    /// A [`Class::Fatal`] error.
    pub fn fatal(stage: &'static str, source: impl Into<BoxError>) -> Self {
        Self { stage, class: Class::Fatal, hint: None, source: source.into() }
    }

    /// A [`Class::Retry`] error.
    pub fn retry(stage: &'static str, source: impl Into<BoxError>) -> Self {
        Self { stage, class: Class::RETRY, hint: None, source: source.into() }
    }

    /// A [`Class::Fenced`] error.
    pub fn fenced(stage: &'static str, source: impl Into<BoxError>) -> Self {
        Self { stage, class: Class::Fenced, hint: None, source: source.into() }
    }

    /// An error of [`Class::Unknown`].
    pub fn unknown(stage: &'static str, source: impl Into<BoxError>) -> Self {
        Self { stage, class: Class::Unknown, hint: None, source: source.into() }
    }

    /// Adds what the operator should do, in one sentence.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Keeps a retry from coming before `delay` has passed, when the other side named one. No other class waits.
    #[must_use]
    pub fn not_before(mut self, delay: Option<Duration>) -> Self {
        if let Class::Retry { after } = &mut self.class {
            *after = delay;
        }
        self
    }

    /// The same error as [`Class::Fatal`], after retries are used up.
    #[must_use]
    pub fn into_fatal(mut self) -> Self {
        self.class = Class::Fatal;
        self
    }

    /// What the pipeline does with the error.
    pub fn class(&self) -> Class {
        self.class
    }

    /// The operation that failed.
    pub fn stage(&self) -> &'static str {
        self.stage
    }

    /// What the operator should do.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// An error and its sources on one line, for logs and reports.
///
/// ```
/// use aqueduct_core::{ErrorChain, StageError};
///
/// let error = StageError::retry("s3 put", std::io::Error::other("connection reset"));
/// assert_eq!(ErrorChain(&error).to_string(), "s3 put failed: connection reset");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ErrorChain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut last = self.0.to_string();
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Transparent wrappers repeat their source word for word.
            if text != last {
                write!(f, ": {text}")?;
            }
            last = text;
            source = error.source();
        }
        Ok(())
    }
}

/// Why one record cannot be processed; the label of metrics and dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoisonReason {
    /// The bytes are not what the converter reads.
    Malformed,
    /// A value is there where none can be processed, or the other way round: tombstones by default.
    NullValue,
    /// A field the layout needs is absent or null.
    MissingField,
    /// A field is there but its value cannot be used.
    InvalidField,
    /// The timestamp the layout needs is absent or outside what a calendar can show.
    InvalidTimestamp,
    /// The record, or something in it, is over a limit.
    TooLarge,
    /// The route is over a limit.
    InvalidRoute,
    /// The target refused the record.
    Rejected,
    /// A user's own stage refused the record.
    Refused,
}

impl PoisonReason {
    /// The name used in metrics, logs and dead-letter headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::NullValue => "null-value",
            Self::MissingField => "missing-field",
            Self::InvalidField => "invalid-field",
            Self::InvalidTimestamp => "invalid-timestamp",
            Self::TooLarge => "too-large",
            Self::InvalidRoute => "invalid-route",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
        }
    }
}

impl fmt::Display for PoisonReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The stage a record failed in, as dead letters name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PoisonStage {
    /// The converter, reading the value.
    Convert,
    /// The converter, reading the key.
    ConvertKey,
    /// The converter, reading a header.
    ConvertHeader,
    /// The partitioner.
    Partition,
    /// The sink's encoder.
    Encode,
    /// The target, late.
    Target,
}

impl PoisonStage {
    /// The name used in metrics, logs and dead-letter headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Convert => "convert",
            Self::ConvertKey => "convert-key",
            Self::ConvertHeader => "convert-header",
            Self::Partition => "partition",
            Self::Encode => "encode",
            Self::Target => "target",
        }
    }
}

impl fmt::Display for PoisonStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The part of a record in which a converter found its poison.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PoisonPart {
    /// The value, or the record as a whole.
    #[default]
    Value,
    /// The key.
    Key,
    /// A header.
    Header,
}

impl PoisonPart {
    /// The stage of a record that a converter could not read, in this part of it.
    pub(crate) fn stage(self) -> PoisonStage {
        match self {
            Self::Value => PoisonStage::Convert,
            Self::Key => PoisonStage::ConvertKey,
            Self::Header => PoisonStage::ConvertHeader,
        }
    }
}

/// What is wrong with one *record*. Cannot be retried, cannot stop a batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Poison {
    reason: PoisonReason,
    detail: String,
    part: PoisonPart,
}

impl Poison {
    /// The longest detail kept, in bytes: hostile records must not fill logs and headers.
    pub const DETAIL_MAX: usize = 512;

    /// `detail` says what was found where and what would be right; it is cut at [`DETAIL_MAX`](Self::DETAIL_MAX) bytes.
    ///
    /// It must not contain the record's payload beyond a field's name.
    pub fn new(reason: PoisonReason, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if detail.len() > Self::DETAIL_MAX {
            let mut end = Self::DETAIL_MAX;
            while !detail.is_char_boundary(end) {
                end -= 1;
            }
            detail.truncate(end);
        }
        Self { reason, detail, part: PoisonPart::Value }
    }

    /// Says in which part of the record it was found, so that its letter does: [`KeyedConverter`](crate::KeyedConverter) does
    /// for keys, a converter of yours that reads headers should, and name the header.
    #[must_use]
    pub fn in_part(mut self, part: PoisonPart) -> Self {
        self.part = part;
        self
    }

    /// In which part of the record it was found.
    pub fn part(&self) -> PoisonPart {
        self.part
    }

    /// Why, as a closed set.
    pub fn reason(&self) -> PoisonReason {
        self.reason
    }

    /// Why, in words.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_bounded_at_a_character() {
        let poison = Poison::new(PoisonReason::Malformed, "é".repeat(400));
        assert_eq!(poison.detail().len(), Poison::DETAIL_MAX);
        let poison = Poison::new(PoisonReason::Malformed, format!("x{}", "é".repeat(400)));
        assert_eq!(poison.detail().len(), Poison::DETAIL_MAX - 1);
    }

    #[test]
    fn the_chain_names_hint_and_source_once() {
        let error =
            StageError::fatal("s3 put", std::io::Error::other("no such bucket")).with_hint("create it");
        assert_eq!(ErrorChain(&error).to_string(), "s3 put failed (create it): no such bucket");
        assert_eq!(error.class(), Class::Fatal);
    }

    #[test]
    fn only_a_retry_waits_for_what_the_other_side_named() {
        let delay = Some(Duration::from_secs(7));
        assert_eq!(
            StageError::retry("post", "throttled").not_before(delay).class(),
            Class::Retry { after: delay }
        );
        assert_eq!(StageError::fatal("post", "refused").not_before(delay).class(), Class::Fatal);
    }
}
