//! Records without a value.

use std::fmt;

use aqueduct_core::{Converted, Poison, PoisonReason, SkipReason};

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
    /// A value that is null: a row of `null`, or one whose columns are all null. With [`Columns`](crate::Columns) its key and
    /// position are still there, so that the deletion can be followed.
    ///
    /// Bytes and text have no null: [`RawBytes`](crate::RawBytes) and [`Utf8`](crate::Utf8) make it a poison.
    Null,
}

impl Tombstones {
    /// What becomes of a record without a value; `null` is the value that is null.
    #[cold]
    pub(crate) fn absent<T>(self, null: impl FnOnce() -> T) -> Result<Converted<T>, Poison> {
        match self {
            Self::Poison => Err(Poison::new(
                PoisonReason::NullValue,
                "the record has no value (a tombstone); `tombstones(Tombstones::Skip)` leaves such records out",
            )),
            Self::Skip => Ok(Converted::Skip(SkipReason::Tombstone)),
            Self::Null => Ok(Converted::Emit(null())),
        }
    }

    /// The same where no value is null.
    #[cold]
    pub(crate) fn absent_without_null<T>(self) -> Result<Converted<T>, Poison> {
        match self.absent(|| ())? {
            Converted::Skip(reason) => Ok(Converted::Skip(reason)),
            Converted::Emit(()) => Err(without_null()),
        }
    }
}

#[cold]
fn without_null() -> Poison {
    Poison::new(
        PoisonReason::NullValue,
        "the record has no value (a tombstone), and plain bytes and text have no null",
    )
}

/// `new` and `tombstones`, for a converter that has nothing else to be told.
macro_rules! tombstones_only {
    ($converter:ident) => {
        impl $converter {
            /// Tombstones are poisons.
            pub fn new() -> Self {
                Self::default()
            }

            /// What a record without a value is.
            #[must_use]
            pub fn tombstones(mut self, tombstones: $crate::Tombstones) -> Self {
                self.tombstones = tombstones;
                self
            }
        }
    };
}
pub(crate) use tombstones_only;

impl fmt::Display for Tombstones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poison => "poison",
            Self::Skip => "skip",
            Self::Null => "null",
        })
    }
}
