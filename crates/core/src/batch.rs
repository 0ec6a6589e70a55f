//! Records of one partition in one allocation.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::budget::Permit;
use crate::record::{Offset, OffsetRange, Record, Timestamp, TopicPartition, encode_header};

/// Ascending records of one partition, all in one arena, with the memory permit that pays for them.
///
/// Dropping the batch returns the permit. A value handed out by
/// [`Record::value_bytes`](crate::Record::value_bytes) keeps the arena alive past that: whoever holds one after
/// the batch is gone holds memory that no budget counts, so copy what must live longer.
#[derive(Debug)]
pub struct Batch {
    lane: TopicPartition,
    arena: Bytes,
    entries: Vec<RecordEntry>,
    permit: Permit,
    arenas: Option<Arc<Arenas>>,
}

impl Batch {
    /// The partition all records are from.
    pub fn lane(&self) -> &TopicPartition {
        &self.lane
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of keys, values and headers.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// From the first record's offset to the one after the last record's; `None` if there is no record.
    pub fn range(&self) -> Option<OffsetRange> {
        OffsetRange::new(self.entries.first()?.offset, self.entries.last()?.offset.next())
    }

    /// The record at `index`.
    pub fn get(&self, index: usize) -> Option<Record<'_>> {
        self.entries.get(index).map(|&entry| Record { lane: &self.lane, arena: &self.arena, entry })
    }

    /// The records in offset order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.entries.iter().map(|&entry| Record { lane: &self.lane, arena: &self.arena, entry })
    }

    /// The same records with their headers in the value's place, one for each header, in order: what a converter of headers is
    /// prepared with, where [`Record::headers_as_values`](crate::Record::headers_as_values) is what it converts. So offsets may
    /// repeat or be left out. Nothing of the arena is copied, and this batch has to outlive the other one, as it pays for both.
    #[must_use]
    pub fn headers_as_values(&self) -> Self {
        self.view(self.iter().flat_map(|record| record.headers_as_values().map(|(_, view)| view.entry)))
    }

    /// The same with the last header of that name of each record that has one, as
    /// [`Record::header_as_value`](crate::Record::header_as_value) gives it.
    #[must_use]
    pub fn header_as_value(&self, name: &str) -> Self {
        self.view(self.iter().filter_map(|record| record.header_as_value(name).map(|view| view.entry)))
    }

    fn view(&self, entries: impl Iterator<Item = RecordEntry>) -> Self {
        let (lane, arena) = (self.lane.clone(), self.arena.clone());
        Self { lane, arena, entries: entries.collect(), permit: Permit::unlimited(), arenas: None }
    }

    /// The permit that pays for the batch.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(arenas) = self.arenas.take() {
            // A slice that somebody still holds keeps the memory; then there is nothing to use again.
            if let Ok(arena) = std::mem::take(&mut self.arena).try_into_mut() {
                arenas.keep(Vec::from(arena), std::mem::take(&mut self.entries));
            }
        }
    }
}

/// Arenas of dropped batches, to be filled again: a source in steady state neither asks the allocator for megabytes
/// nor meets a page fault per 4 KiB of them.
///
/// What is kept is bounded, and on top of the memory budget: [`IDLE_MAX`](Self::IDLE_MAX) arenas.
#[derive(Debug, Default)]
pub struct Arenas {
    idle: Mutex<Vec<(Vec<u8>, Vec<RecordEntry>)>>,
}

impl Arenas {
    /// Arenas kept; the latest is the next to be used, while the processor still has it at hand.
    pub const IDLE_MAX: usize = 4;

    /// None yet.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Arenas that wait to be used again.
    pub fn idle(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn keep(&self, mut arena: Vec<u8>, mut entries: Vec<RecordEntry>) {
        arena.clear();
        entries.clear();
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < Self::IDLE_MAX {
            idle.push((arena, entries));
        }
    }

    /// An idle arena of at least `capacity` bytes and not much more, or a new one.
    fn take(&self, capacity: usize) -> (Vec<u8>, Vec<RecordEntry>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits =
            |(arena, _): &(Vec<u8>, _)| (capacity..=capacity.saturating_mul(2)).contains(&arena.capacity());
        if let Some(index) = idle.iter().rposition(fits) {
            return idle.swap_remove(index);
        }
        // What does not fit is of a size that is not asked for any more.
        idle.pop();
        (Vec::with_capacity(capacity), Vec::new())
    }
}

/// Where one record's parts lie in the arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordEntry {
    pub(crate) offset: Offset,
    pub(crate) timestamp: Timestamp,
    pub(crate) key: Option<Span>,
    pub(crate) value: Option<Span>,
    pub(crate) headers: Option<Span>,
}

/// A piece of an arena; 32-bit because an arena is far below 4 GiB.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The `len` bytes in front of `end`.
    pub(crate) fn before(end: usize, len: usize) -> Option<Self> {
        let start = u32::try_from(end.checked_sub(len)?).ok()?;
        Some(Self { start, len: u32::try_from(len).ok()? })
    }

    pub(crate) fn len(self) -> usize {
        self.len as usize
    }

    pub(crate) fn range(self) -> Range<usize> {
        let start = self.start as usize;
        start..start + self.len as usize
    }
}

/// Copies records into a new batch: the one copy between the client library and the spool.
///
/// ```
/// use aqueduct_core::{BatchBuilder, Permit, Offset, Timestamp, TopicPartition};
///
/// let mut builder = BatchBuilder::new(TopicPartition::new("orders", 0), 1 << 20);
/// builder.push(Offset::new(7), Timestamp::Create(1_700_000_000_000), None, Some(b"{}"), [("trace", None)]);
/// let batch = builder.build(Permit::unlimited());
/// assert_eq!(batch.get(0).and_then(|record| record.value()), Some(&b"{}"[..]));
/// ```
#[derive(Debug)]
pub struct BatchBuilder {
    lane: TopicPartition,
    arena: Vec<u8>,
    entries: Vec<RecordEntry>,
    arenas: Option<Arc<Arenas>>,
}

impl BatchBuilder {
    /// Starts a batch whose arena has room for `capacity` bytes; it grows if one record is larger.
    pub fn new(lane: TopicPartition, capacity: usize) -> Self {
        Self { lane, arena: Vec::with_capacity(capacity), entries: Vec::new(), arenas: None }
    }

    /// Like [`new`](Self::new), in an arena of a batch that was dropped, if there is one; this one comes back there.
    pub fn reusing(arenas: &Arc<Arenas>, lane: TopicPartition, capacity: usize) -> Self {
        let (arena, entries) = arenas.take(capacity);
        Self { lane, arena, entries, arenas: Some(Arc::clone(arenas)) }
    }

    /// Copies one record in. Offsets must ascend.
    ///
    /// # Panics
    /// If the arena would pass 4 GiB: callers bound batches to a few MiB and one record to the broker's
    /// `message.max.bytes`.
    pub fn push<'h>(
        &mut self,
        offset: Offset,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        debug_assert!(self.entries.last().is_none_or(|last| last.offset < offset), "offsets ascend");
        let key = key.map(|key| self.copy(key));
        let value = value.map(|value| self.copy(value));
        let start = self.arena.len();
        for (name, value) in headers {
            encode_header(&mut self.arena, name, value);
        }
        let headers = (self.arena.len() > start).then(|| Self::span(start, self.arena.len()));
        self.entries.push(RecordEntry { offset, timestamp, key, value, headers });
    }

    /// Bytes copied so far.
    pub fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// Records copied so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no record was copied yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The partition the batch is for.
    pub fn lane(&self) -> &TopicPartition {
        &self.lane
    }

    /// Ends the batch; `permit` pays for it until it is dropped.
    pub fn build(self, permit: Permit) -> Batch {
        let Self { lane, arena, entries, arenas } = self;
        Batch { lane, arena: Bytes::from(arena), entries, permit, arenas }
    }

    fn copy(&mut self, bytes: &[u8]) -> Span {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        Self::span(start, self.arena.len())
    }

    #[expect(clippy::expect_used, reason = "documented panic: batches are bounded to a few MiB")]
    fn span(start: usize, end: usize) -> Span {
        let start32 = u32::try_from(start).expect("an arena is below 4 GiB");
        let len = u32::try_from(end - start).expect("an arena is below 4 GiB");
        Span { start: start32, len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane() -> TopicPartition {
        TopicPartition::new("t", 1)
    }

    #[test]
    fn records_are_views_of_one_arena() {
        let mut builder = BatchBuilder::new(lane(), 64);
        builder.push(Offset::new(3), Timestamp::None, Some(b"k"), Some(b"v"), []);
        builder.push(Offset::new(9), Timestamp::Create(5), None, None, [("h", Some(&b"x"[..]))]);
        let batch = builder.build(Permit::unlimited());
        assert_eq!(batch.range(), OffsetRange::new(Offset::new(3), Offset::new(10)));
        let first = batch.get(0).unwrap();
        assert_eq!((first.key(), first.value()), (Some(&b"k"[..]), Some(&b"v"[..])));
        let second = batch.get(1).unwrap();
        assert_eq!((second.key(), second.value()), (None, None));
        assert_eq!(second.headers().collect::<Vec<_>>(), [("h", Some(&b"x"[..]))]);
        assert_eq!(second.to_owned().offset, Offset::new(9));
    }

    #[test]
    fn an_empty_value_is_not_a_tombstone() {
        let mut builder = BatchBuilder::new(lane(), 0);
        builder.push(Offset::ZERO, Timestamp::None, None, Some(b""), []);
        let batch = builder.build(Permit::unlimited());
        assert_eq!(batch.get(0).unwrap().value(), Some(&b""[..]));
        assert_eq!(batch.get(0).unwrap().value_bytes(), Some(Bytes::new()));
    }

    #[test]
    fn an_arena_is_used_again_only_when_nothing_holds_it() {
        let arenas = Arenas::new();
        let fill = |value: &[u8]| {
            let mut builder = BatchBuilder::reusing(&arenas, lane(), 4096);
            builder.push(Offset::ZERO, Timestamp::None, None, Some(value), []);
            builder.build(Permit::unlimited())
        };
        let batch = fill(b"held");
        let held = batch.get(0).unwrap().value_bytes().unwrap();
        drop(batch);
        assert!(arenas.idle() == 0);
        let next = fill(b"other");
        assert_eq!(held, "held");
        let place = next.arena.as_ptr();
        drop(next);
        assert_eq!(arenas.idle(), 1);
        assert_eq!(fill(b"again").arena.as_ptr(), place);
        drop((0..9).map(|_| fill(b"many")).collect::<Vec<_>>());
        assert_eq!(arenas.idle(), Arenas::IDLE_MAX);
    }
}
