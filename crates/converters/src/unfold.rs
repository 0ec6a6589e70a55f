//! How much more a record may be than its bytes: what it leaves out, schemas fill in.

use aqueduct_core::{Poison, PoisonReason};

/// What may still be filled in: members, and bytes of names, symbols and defaults.
#[derive(Debug)]
pub(crate) struct Unfold {
    left: u64,
}

impl Unfold {
    /// For a record, or a schema, of that many bytes.
    pub(crate) fn of(bytes: usize) -> Self {
        Self { left: MAX.saturating_add((bytes as u64).saturating_mul(PER_BYTE)) }
    }

    /// Takes what is about to be filled in.
    #[inline]
    pub(crate) fn pay(&mut self, weight: usize) -> Result<(), Poison> {
        match self.left.checked_sub(weight as u64) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(too_much()),
        }
    }
}

#[cold]
fn too_much() -> Poison {
    let text = format!(
        "it unfolds to more than {MAX} bytes of names and defaults, and {PER_BYTE} for each of its own"
    );
    Poison::new(PoisonReason::TooLarge, text)
}

/// Whatever it holds.
pub(crate) const MAX: u64 = 1 << 20;
/// For each of its bytes.
pub(crate) const PER_BYTE: u64 = 256;
