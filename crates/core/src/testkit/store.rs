//! An object store in memory, with conditional create and nothing else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;
use xxhash_rust::xxh3::Xxh3;

use super::fault::{Faults, Step};
use crate::error::{Class, Classify, StageError};
use crate::record::{Offset, OffsetRange, TopicPartition};
use crate::sink::PublishedObject;

/// Objects that can be created and never changed, shared by the sinks of a test. Clones share everything.
///
/// Creating an object under a key that is taken is settled as a real store's `If-None-Match: *` and the look that
/// follows it: the same range, row count, row checksum and layout are *already ours*; anything else is a
/// [`StoreConflict`], and what stands there stays.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    contents: Mutex<Contents>,
    changed: Notify,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Contents {
    visible: Vec<MemoryObject>,
    /// Uploads that are complete and not visible, by their token.
    staged: BTreeMap<u64, Vec<MemoryObject>>,
    tokens: u64,
    created_again: u64,
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryObject {
    /// Its full name.
    pub key: String,
    /// The partition its rows are from.
    pub lane: TopicPartition,
    /// The escaped route its rows are under.
    pub route: String,
    /// From its first row's offset to the one after its last row's.
    pub range: OffsetRange,
    /// The identity of the layout that made it.
    pub layout: u64,
    /// The rows, as they were written.
    pub rows: Vec<MemoryRow>,
}

/// One row of a [`MemoryObject`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryRow {
    /// The offset of the record it was made of.
    pub offset: Offset,
    /// The row's bytes.
    pub value: Bytes,
}

/// A key is taken by something that is not ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} holds {held}, this segment would hold {wanted}")]
pub struct StoreConflict {
    /// The key.
    pub key: String,
    /// What stands there.
    pub held: String,
    /// What was to be created.
    pub wanted: String,
}

impl Classify for StoreConflict {
    fn class(&self) -> Class {
        Class::Fatal
    }
}

impl MemoryObject {
    /// Bytes of its rows.
    pub fn bytes(&self) -> u64 {
        self.rows.iter().map(|row| row.value.len() as u64).sum()
    }

    /// What is reported of it.
    pub fn published(&self) -> PublishedObject {
        let rows = self.rows.len() as u64;
        PublishedObject { key: self.key.clone(), range: self.range, rows, bytes: self.bytes() }
    }

    fn claim(&self) -> String {
        let mut checksum = Xxh3::new();
        for row in &self.rows {
            checksum.update(&row.offset.get().to_le_bytes());
            checksum.update(&row.value.len().to_le_bytes());
            checksum.update(&row.value);
        }
        let (range, rows, layout) = (self.range, self.rows.len(), self.layout);
        format!("{range}, {rows} rows, checksum {:016x}, layout {layout:016x}", checksum.digest())
    }
}

impl MemoryStore {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// The script of faults at [`Step::Create`]: the answers to single objects becoming visible.
    pub fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// Every visible object, in order of creation.
    pub fn objects(&self) -> Vec<MemoryObject> {
        self.change(|contents| contents.visible.clone())
    }

    /// The offsets of all visible rows of `lane`, in ascending order, as often as they are there: equal to what was
    /// produced if, and only if, nothing was lost or duplicated.
    pub fn offsets(&self, lane: &TopicPartition) -> Vec<i64> {
        let mut offsets: Vec<_> = self.rows(lane).into_iter().map(|(_, row)| row.offset.get()).collect();
        offsets.sort_unstable();
        offsets
    }

    /// All visible rows of `lane` with their objects' keys, in order of creation.
    pub fn rows(&self, lane: &TopicPartition) -> Vec<(String, MemoryRow)> {
        let objects = self.objects().into_iter().filter(|object| object.lane == *lane);
        objects.flat_map(|object| object.rows.into_iter().map(move |row| (object.key.clone(), row))).collect()
    }

    /// Number of uploads that are complete and not visible: what an abandoned segment must not leave behind.
    pub fn staged(&self) -> usize {
        self.change(|contents| contents.staged.len())
    }

    /// How often an object was found to be there already, and ours: recoveries and repeated publications.
    pub fn created_again(&self) -> u64 {
        self.change(|contents| contents.created_again)
    }

    /// Removes everything that is staged, as a bucket's lifecycle rule does to unfinished uploads.
    pub fn expire_staged(&self) {
        self.change(|contents| contents.staged.clear());
    }

    /// Puts an object there from outside, replacing what is under its key.
    pub fn plant(&self, object: MemoryObject) {
        self.change(|contents| {
            contents.visible.retain(|known| known.key != object.key);
            contents.visible.push(object);
        });
    }

    /// Resolves when at least `rows` rows are visible, over all partitions.
    pub async fn wait_rows(&self, rows: usize) {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that a change in between is not missed.
            changed.as_mut().enable();
            let visible: usize =
                self.change(|contents| contents.visible.iter().map(|object| object.rows.len()).sum());
            if visible >= rows {
                return;
            }
            changed.await;
        }
    }

    /// Makes `object` visible, if its key is free or holds the same.
    pub(super) async fn create(&self, object: MemoryObject) -> Result<PublishedObject, StageError> {
        let create = async {
            // A store is elsewhere: its answer is never there at once, and callers are cancelled while they wait.
            tokio::task::yield_now().await;
            let published = self.change(|contents| contents.create(object))?;
            self.0.changed.notify_waiters();
            tokio::task::yield_now().await;
            Ok(published)
        };
        self.0.faults.run(Step::Create, create).await
    }

    /// A number that was not given before.
    pub(super) fn serial(&self) -> u64 {
        self.change(|contents| {
            contents.tokens += 1;
            contents.tokens
        })
    }

    pub(super) fn stage(&self, objects: Vec<MemoryObject>) -> u64 {
        let token = self.serial();
        self.change(|contents| contents.staged.insert(token, objects));
        token
    }

    pub(super) fn staged_objects(&self, token: u64) -> Option<Vec<MemoryObject>> {
        self.change(|contents| contents.staged.get(&token).cloned())
    }

    pub(super) fn drop_staged(&self, token: u64) {
        self.change(|contents| contents.staged.remove(&token));
    }

    fn change<R>(&self, change: impl FnOnce(&mut Contents) -> R) -> R {
        change(&mut self.0.contents.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Contents {
    fn create(&mut self, object: MemoryObject) -> Result<PublishedObject, StageError> {
        let published = object.published();
        match self.visible.iter().find(|known| known.key == object.key) {
            None => self.visible.push(object),
            Some(known) if known.claim() == object.claim() => self.created_again += 1,
            Some(known) => {
                let conflict =
                    StoreConflict { key: object.key.clone(), held: known.claim(), wanted: object.claim() };
                return Err(StageError::new("create", conflict));
            }
        }
        Ok(published)
    }
}

#[cfg(test)]
mod tests;
