//! Schemas that stand in every record, parsed once.

use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aqueduct_core::Poison;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// What `parse` made of texts, by text. Reading takes no lock.
///
/// A schema that is not kept is parsed again: what the cache holds decides how long a record takes, never what it becomes.
pub(super) struct TextCache<P> {
    slots: ArcSwap<HashMap<u64, Arc<Slot<P>>>>,
    writing: Mutex<()>,
}

struct Slot<P> {
    text: Box<[u8]>,
    parsed: Arc<P>,
}

impl<P> TextCache<P> {
    /// Texts kept; with one more the cache begins anew.
    pub(super) const TEXTS_MAX: usize = 256;
    /// Bytes of texts kept.
    pub(super) const BYTES_MAX: usize = 4 << 20;

    pub(super) fn new() -> Self {
        Self { slots: ArcSwap::default(), writing: Mutex::new(()) }
    }

    pub(super) fn get(
        &self,
        text: &[u8],
        parse: impl FnOnce(&[u8]) -> Result<P, Poison>,
    ) -> Result<Arc<P>, Poison> {
        let hash = xxh3_64(text);
        if let Some(slot) = self.slots.load().get(&hash)
            && *slot.text == *text
        {
            return Ok(Arc::clone(&slot.parsed));
        }
        let parsed = Arc::new(parse(text)?);
        Ok(self.keep(hash, text, parsed))
    }

    /// Keeps what was parsed, unless another lane was faster.
    fn keep(&self, hash: u64, text: &[u8], parsed: Arc<P>) -> Arc<P> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = HashMap::clone(&self.slots.load());
        let bytes: usize = slots.values().map(|slot| slot.text.len()).sum();
        if slots.len() >= Self::TEXTS_MAX || bytes.saturating_add(text.len()) > Self::BYTES_MAX {
            slots.clear();
        }
        match slots.entry(hash) {
            Entry::Occupied(slot) if *slot.get().text == *text => return Arc::clone(&slot.get().parsed),
            slot => {
                slot.insert_entry(Arc::new(Slot { text: text.into(), parsed: Arc::clone(&parsed) }));
            }
        }
        self.slots.store(Arc::new(slots));
        parsed
    }

    pub(super) fn len(&self) -> usize {
        self.slots.load().len()
    }
}

impl<P> fmt::Debug for TextCache<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TextCache").field("texts", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_parsed_once_and_the_cache_has_a_bound() {
        let cache = TextCache::new();
        let mut parsed = 0;
        let mut get = |text: &[u8]| {
            cache.get(text, |text| {
                parsed += 1;
                Ok(text.len())
            })
        };
        let first = get(b"abc").unwrap();
        assert!(Arc::ptr_eq(&first, &get(b"abc").unwrap()));
        for index in 1..TextCache::<usize>::TEXTS_MAX {
            get(&index.to_le_bytes()).unwrap();
        }
        assert!(Arc::ptr_eq(&first, &get(b"abc").unwrap()), "full, and all are there");
        get(b"one more").unwrap();
        assert_eq!(cache.len(), 1);
        get(&vec![0; TextCache::<usize>::BYTES_MAX]).unwrap();
        assert_eq!(cache.len(), 1);
        cache.get(b"bad", |_| Err(Poison::new(aqueduct_core::PoisonReason::Malformed, ""))).unwrap_err();
        assert_eq!((cache.len(), parsed), (1, TextCache::<usize>::TEXTS_MAX + 2));
    }
}
