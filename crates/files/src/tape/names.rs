//! The names of members that a segment has met.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

/// Names and their numbers, in order of their first appearance.
///
/// Bounded: what comes when it is full is spelled out in the row, which costs bytes and nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    spelled: Vec<Box<str>>,
    bytes: usize,
    numbers: HashTable<u32>,
    // Seeded anew in each process: names come from records, and nobody may choose names that collide.
    hasher: DefaultHashBuilder,
}

impl Names {
    /// The most names.
    pub(crate) const MAX: usize = 8_192;
    /// The most bytes of all names.
    pub(crate) const BYTES_MAX: usize = 256 << 10;

    pub(crate) fn len(&self) -> usize {
        self.spelled.len()
    }

    pub(crate) fn get(&self, number: u32) -> Option<&str> {
        self.spelled.get(number as usize).map(|name| &**name)
    }

    /// Whether the name with this number is `name`.
    #[inline]
    pub(super) fn is(&self, number: u32, name: &str) -> bool {
        self.spelled.get(number as usize).is_some_and(|known| is_same(known.as_bytes(), name.as_bytes()))
    }

    /// Its number, a new one if there is room.
    pub(super) fn number(&mut self, name: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(name);
        let spelled = &self.spelled;
        let is_it = |number: &u32| spelled.get(*number as usize).is_some_and(|known| &**known == name);
        if let Some(number) = self.numbers.find(hash, is_it) {
            return Some(*number);
        }
        if self.spelled.len() >= Self::MAX || self.bytes + name.len() > Self::BYTES_MAX {
            return None;
        }
        let number = u32::try_from(self.spelled.len()).ok()?;
        self.spelled.push(name.into());
        self.bytes += name.len();
        let (spelled, hasher) = (&self.spelled, &self.hasher);
        self.numbers.insert_unique(hash, number, |number| {
            hasher.hash_one(spelled.get(*number as usize).map_or("", |name| &**name))
        });
        Some(number)
    }

    /// Forgets all but the first `length` names.
    pub(super) fn truncate(&mut self, length: usize) {
        while self.spelled.len() > length
            && let Some(name) = self.spelled.pop()
        {
            let number = u32::try_from(self.spelled.len()).unwrap_or(u32::MAX);
            self.bytes -= name.len();
            let hash = self.hasher.hash_one(&*name);
            if let Ok(entry) = self.numbers.find_entry(hash, |known| *known == number) {
                entry.remove();
            }
        }
    }
}

/// Whether both are the same; short ones, as most names are, without a call.
#[inline]
fn is_same(one: &[u8], other: &[u8]) -> bool {
    fn ends<const N: usize>(name: &[u8]) -> Option<(&[u8; N], &[u8; N])> {
        name.first_chunk().zip(name.last_chunk())
    }
    match one.len() {
        length if length != other.len() => false,
        0..4 => one.iter().eq(other),
        4..=8 => ends::<4>(one) == ends(other),
        9..=16 => ends::<8>(one) == ends(other),
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_if_every_byte_is() {
        for length in 0..40 {
            let name = vec![b'a'; length];
            assert!(is_same(&name, &name.clone()));
            assert!(!is_same(&name, &vec![b'a'; length + 1]));
            for at in 0..length {
                let mut other = name.clone();
                other[at] = b'b';
                assert!(!is_same(&name, &other), "{at} of {length}");
            }
        }
    }

    #[test]
    fn names_are_numbered_up_to_the_limits() {
        let mut names = Names::default();
        for index in 0..Names::MAX {
            assert_eq!(names.number(&format!("n{index}")), u32::try_from(index).ok());
        }
        assert_eq!(names.number("one more"), None);
        assert_eq!(names.number("n77"), Some(77));
        names.truncate(77);
        assert_eq!((names.len(), names.get(77), names.get(76)), (77, None, Some("n76")));
        assert_eq!(names.number("n78"), Some(77));

        let mut names = Names::default();
        assert_eq!(names.number(&"x".repeat(Names::BYTES_MAX)), Some(0));
        assert_eq!(names.number("y"), None);
        names.truncate(0);
        assert_eq!(names.number("y"), Some(0));
    }
}
