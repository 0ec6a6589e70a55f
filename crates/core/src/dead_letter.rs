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

/// Stores dead letters.
///
/// # Contract
/// `send` returns once the letters are durable: the lane commits past them only then. Delivery is at least once (a
/// crash between `send` and the commit sends them again), so a letter carries its identity. If the target is down the
/// error is `Retry` and the lane waits; nothing is skipped.
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
    /// published.
    #[default]
    Stop,
    /// The record is counted and not stored.
    Skip,
    /// The record goes to the dead letters, durably, before its offset is committed.
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

/// A row the sink refused after it had accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The row's record.
    pub offset: Offset,
    /// Why.
    pub poison: Poison,
}
