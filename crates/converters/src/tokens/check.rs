//! Decides whether bytes are one value that rows can be made of.

use std::borrow::Cow;

use aqueduct_core::{FieldValue, Poison, PoisonReason};
use xxhash_rust::xxh3::xxh3_64;

use super::{Events, Tokens, drive, key_text};

/// Checks that `bytes` are one value with nothing behind it, and that no map has a key twice.
///
/// Readers disagree about which of two equal keys counts, so nobody would know what was stored.
pub(crate) fn check<'a, T: Tokens<'a>>(bytes: &'a [u8]) -> Result<(), Poison> {
    let mut tokens = T::new(bytes);
    let mut seen = Seen { first: tokens, keys: Vec::new(), marks: Vec::new() };
    drive(&mut tokens, &mut seen)?;
    match tokens.cursor().left() {
        0 => Ok(()),
        left => Err(tokens.cursor().fault(&format!("{left} bytes follow the value"))),
    }
}

/// The keys of the maps that are open: a hash and where the key stands.
struct Seen<T> {
    first: T,
    keys: Vec<(u64, u32)>,
    /// Where in `keys` each map begins, the innermost last.
    marks: Vec<usize>,
}

impl<'a, T: Tokens<'a>> Events for Seen<T> {
    fn scalar(&mut self, _: FieldValue<'_>) -> Result<(), Poison> {
        Ok(())
    }

    fn begin(&mut self, map: bool) -> Result<(), Poison> {
        if map {
            self.marks.push(self.keys.len());
        }
        Ok(())
    }

    fn key(&mut self, name: &str, at: usize) -> Result<(), Poison> {
        let place = u32::try_from(at)
            .map_err(|_| Poison::new(PoisonReason::TooLarge, "the value is larger than 4 GiB"))?;
        self.keys.push((xxh3_64(name.as_bytes()), place));
        Ok(())
    }

    fn end(&mut self, map: bool) -> Result<(), Poison> {
        if !map {
            return Ok(());
        }
        let mark = self.marks.pop().unwrap_or_default();
        let keys = self.keys.get_mut(mark..).unwrap_or_default();
        keys.sort_unstable();
        let twice = keys.windows(2).find_map(|pair| match pair {
            // Equal hashes are not yet equal keys.
            [(left, first), (right, second)] if left == right => same_key(self.first, *first, *second),
            _ => None,
        });
        self.keys.truncate(mark);
        twice.map_or(Ok(()), Err)
    }
}

/// A poison if the keys at these places are the same.
#[cold]
fn same_key<'a, T: Tokens<'a>>(first: T, left: u32, right: u32) -> Option<Poison> {
    let key_at = |at: u32| {
        let mut tokens = first;
        tokens.cursor().seek(at as usize);
        let token = tokens.token().ok()?;
        key_text(&token).map(Cow::into_owned)
    };
    let (left, right_at) = (key_at(left)?, right as usize);
    let mut tokens = first;
    (Some(&left) == key_at(right).as_ref())
        .then(|| tokens.cursor().fault_at(right_at, "a map has the same key twice"))
}
