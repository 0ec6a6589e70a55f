//! Dead letters in memory.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::dead_letter::{DeadLetter, DeadLetterSink, StoredLetter};
use crate::error::StageError;
use crate::record::TopicPartition;
use crate::redrive::{LetterSource, UnreadableLetter};

/// A [`DeadLetterSink`] that keeps what it is sent, in order. Clones share the letters. For faults wrap it in
/// [`Faulty`](super::Faulty).
///
/// ```
/// use std::sync::Arc;
///
/// use aqueduct_core::OnPoison;
/// use aqueduct_core::testkit::MemoryDeadLetters;
///
/// let letters = MemoryDeadLetters::new();
/// let policy = OnPoison::DeadLetter(Arc::new(letters.clone()));
/// assert!(letters.letters().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryDeadLetters(Arc<Mutex<Vec<DeadLetter>>>);

impl MemoryDeadLetters {
    /// No letters yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every letter, in the order they were sent; a letter that was sent again is there again.
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The letters as they would be read back, of a pipeline that does not name itself.
    pub fn source(&self) -> impl LetterSource + use<> {
        Reader(self.letters().into_iter())
    }

    /// The offsets of `lane`'s letters, in the order they were sent.
    pub fn offsets(&self, lane: &TopicPartition) -> Vec<i64> {
        let letters = self.letters();
        letters
            .iter()
            .filter(|letter| letter.record.lane == *lane)
            .map(|letter| letter.record.offset.get())
            .collect()
    }
}

struct Reader(std::vec::IntoIter<DeadLetter>);

#[async_trait]
impl LetterSource for Reader {
    async fn next(&mut self) -> Result<Option<Result<StoredLetter, UnreadableLetter>>, StageError> {
        tokio::task::yield_now().await;
        Ok(self.0.next().map(|DeadLetter { record, stage, poison }| {
            Ok(StoredLetter {
                record,
                pipeline: String::new(),
                pipeline_version: String::new(),
                stage: stage.as_str().to_owned(),
                reason: poison.reason().as_str().to_owned(),
                detail: poison.detail().to_owned(),
            })
        }))
    }
}

#[async_trait]
impl DeadLetterSink for MemoryDeadLetters {
    async fn send(&self, letters: Vec<DeadLetter>) -> Result<(), StageError> {
        // A target is elsewhere: senders are cancelled while they wait for it.
        tokio::task::yield_now().await;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(letters);
        Ok(())
    }
}
