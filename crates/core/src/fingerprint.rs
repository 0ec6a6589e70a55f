//! The identity of a layout: what decides which objects a range of offsets becomes.

use std::fmt::{self, Write as _};

use xxhash_rust::xxh3::Xxh3;

/// The identity of a pipeline's layout, made of named parts.
///
/// A new owner may finish an [`Intent`](crate::Intent) only with the layout that wrote it down: converter,
/// partitioner, format, compression, key template, prefix, object size, time-zone data. Rotation, budgets,
/// endpoints and credentials are *not* part of it. The parts are hashed one by one so that a mismatch can name the
/// part that differs. The hash is XXH3, stable over Rust versions and platforms; golden tests hold it.
///
/// ```
/// use aqueduct_core::Fingerprint;
///
/// let mut old = Fingerprint::new();
/// old.put("converter", "json/1");
/// old.put("compression", "gzip");
/// let mut new = Fingerprint::new();
/// new.put("converter", "json/1");
/// new.put("compression", "zstd");
/// assert_eq!(old.differing_parts(&new), ["compression"]);
/// ```
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fingerprint {
    parts: Vec<(String, u32)>,
}

impl Fingerprint {
    /// No parts yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `value` to the part `name` (ASCII letters, digits and dashes; anything else becomes a dash, because names stand
    /// in the intent's text). Putting a name twice extends its part, in order.
    pub fn put(&mut self, name: &str, value: impl fmt::Display) {
        let spelled: String;
        let name = if is_name(name) {
            name
        } else {
            spelled = name.chars().map(|it| if is_name_part(it) { it } else { '-' }).collect();
            if spelled.is_empty() { "-" } else { &spelled }
        };
        let value = value.to_string();
        let index = match self.parts.binary_search_by(|(known, _)| known.as_str().cmp(name)) {
            Ok(index) => index,
            Err(index) => {
                self.parts.insert(index, (name.to_owned(), 0));
                index
            }
        };
        if let Some((_, hash)) = self.parts.get_mut(index) {
            let mut state = Xxh3::new();
            state.update(&hash.to_le_bytes());
            state.update(&value.len().to_le_bytes());
            state.update(value.as_bytes());
            let [a, b, c, d, ..] = state.digest().to_le_bytes();
            *hash = u32::from_le_bytes([a, b, c, d]);
        }
    }

    /// One number for all parts, for object metadata.
    pub fn digest(&self) -> u64 {
        let mut state = Xxh3::new();
        for (name, hash) in &self.parts {
            state.update(name.as_bytes());
            state.update(&hash.to_le_bytes());
        }
        state.digest()
    }

    /// The names of the parts in which the two differ, in alphabetical order; empty if they are equal.
    pub fn differing_parts(&self, other: &Self) -> Vec<String> {
        let differs = |left: &Self, right: &Self| -> Vec<String> {
            left.parts
                .iter()
                .filter(|part| !right.parts.contains(part))
                .map(|(name, _)| name.clone())
                .collect()
        };
        let mut names = differs(self, other);
        names.extend(differs(other, self));
        names.sort();
        names.dedup();
        names
    }

    /// `name:hash` pairs, for an intent.
    pub(crate) fn encode(&self, out: &mut String) {
        for (index, (name, hash)) in self.parts.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            // Writing to a string cannot fail.
            write!(out, "{name}:{hash:08x}").ok();
        }
    }

    /// Reads what [`encode`](Self::encode) wrote, and nothing else.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let mut parts: Vec<(String, u32)> = Vec::new();
        for pair in text.split(',').filter(|_| !text.is_empty()) {
            let (name, hash) = pair.split_once(':')?;
            let ascends = parts.last().is_none_or(|(last, _)| last.as_str() < name);
            if !ascends || !is_name(name) {
                return None;
            }
            parts.push((name.to_owned(), u32::from_str_radix(hash, 16).ok()?));
        }
        Some(Self { parts })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(is_name_part)
}

fn is_name_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '-'
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.parts.iter().map(|(name, hash)| (name, format!("{hash:08x}")))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fingerprint {
        let mut parts = Fingerprint::new();
        parts.put("partitioner", "field:service");
        parts.put("converter", "json/1");
        parts.put("partitioner", "time:hour");
        parts
    }

    #[test]
    fn the_hash_is_stable() {
        // Golden: a change here makes every intent in flight unreadable by the new version.
        let mut encoded = String::new();
        sample().encode(&mut encoded);
        assert_eq!(encoded, GOLDEN);
        assert_eq!(Fingerprint::decode(&encoded), Some(sample()));
    }

    #[test]
    fn order_of_stages_matters_within_a_part_only() {
        let mut swapped = Fingerprint::new();
        swapped.put("partitioner", "time:hour");
        swapped.put("partitioner", "field:service");
        swapped.put("converter", "json/1");
        assert_eq!(sample().differing_parts(&swapped), ["partitioner"]);
        assert_ne!(sample().digest(), swapped.digest());
    }

    #[test]
    fn a_missing_part_is_a_difference() {
        assert_eq!(Fingerprint::new().differing_parts(&sample()), ["converter", "partitioner"]);
    }

    #[test]
    fn names_that_an_intent_could_not_hold_are_respelled() {
        for name in ["two words", "a:b", "a,b", "", "größe", "=", "\n"] {
            let mut parts = Fingerprint::new();
            parts.put(name, "1");
            parts.put("z", "2");
            let mut encoded = String::new();
            parts.encode(&mut encoded);
            assert_eq!(Fingerprint::decode(&encoded), Some(parts), "{name:?} as {encoded}");
        }
    }

    const GOLDEN: &str = "converter:ca343457,partitioner:cf2cd4c7";
}
