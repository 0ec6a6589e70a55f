//! Records without a value.

use std::fmt;

use aqueduct_core::{Poison, PoisonReason, Record};
use bytes::Bytes;

/// What a converter makes of a tombstone: a record whose value is absent, which compacted topics use for "deleted".
///
/// An empty value is not a tombstone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Tombstones {
    /// A poison, so that the pipeline's policy decides: a deletion that a store of appended rows cannot follow
    /// should not go by unseen.
    #[default]
    Poison,
    /// Left out and counted.
    Skip,
}

impl Tombstones {
    /// The record's value; `None` if it is to be skipped.
    #[inline]
    pub(crate) fn value_bytes(self, record: &Record<'_>) -> Result<Option<Bytes>, Poison> {
        match record.value_bytes() {
            None => self.absent().map(|()| None),
            value => Ok(value),
        }
    }

    /// Whether an absent value is fine.
    #[cold]
    pub(crate) fn absent(self) -> Result<(), Poison> {
        match self {
            Self::Poison => Err(Poison::new(
                PoisonReason::NullValue,
                "the record has no value (a tombstone); `tombstones(Tombstones::Skip)` leaves such records out",
            )),
            Self::Skip => Ok(()),
        }
    }
}

impl fmt::Display for Tombstones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poison => "poison",
            Self::Skip => "skip",
        })
    }
}
